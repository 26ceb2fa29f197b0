//! `/api/v1/commands`: the operator's signed commands to devices, and what their gateways answer.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::command::{Ack, Outcome};
use domain::ids::Digest32;
use serde_json::{Value, json};

use crate::platform::control::{NotForwarded, answers, forward};
use crate::web::{Web, broken, problem};

/// How long a request waits for what the gateway says.
const PATIENCE: Duration = Duration::from_secs(8);
/// Longest wait before the answers are looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Takes one command, signed with the operator's key, and waits a little for what the gateway says.
#[utoipa::path(
    post, path = "/api/v1/commands", tag = "signed",
    request_body(content = Vec<u8>, content_type = "application/cose", description = "COSE_Sign1"),
    responses((status = 200, body = Object), (status = 202, body = Object))
)]
pub(super) async fn command(State(web): State<Web>, body: Bytes) -> Response {
    let verified = match forward(&web.shared, body.to_vec()).await {
        Ok(verified) => verified,
        Err(refused) => return not_forwarded(&refused),
    };
    let digest = verified.digest();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let next = web.shared.control.next_answer();
        let acks = match answers(&web.shared.db, digest).await {
            Ok(acks) => acks.unwrap_or_default(),
            Err(error) => return broken("answers could not be read", &format!("{error:#}")),
        };
        let is_late = tokio::time::Instant::now() >= deadline;
        if is_late || acks.iter().any(|ack| is_decided(ack.outcome)) {
            let status = match acks.is_empty() {
                true => StatusCode::ACCEPTED,
                false => StatusCode::OK,
            };
            return (status, Json(shown(digest, &acks))).into_response();
        }
        tokio::select! {
            () = next => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = web.stop.cancelled() => {
                return problem(StatusCode::SERVICE_UNAVAILABLE, "The platform is stopping.");
            }
        }
    }
}

/// Whether it is known what became of a command.
fn is_decided(outcome: Outcome) -> bool {
    match outcome {
        // A release has no value to be read back; its end follows.
        Outcome::Accepted { value, .. } => value.is_none(),
        Outcome::Refused(_)
        | Outcome::Confirmed { .. }
        | Outcome::NotConfirmed { .. }
        | Outcome::Ended { .. } => true,
    }
}

/// What the gateway has said to a command so far.
#[utoipa::path(
    get, path = "/api/v1/commands/{command}", tag = "signed",
    params(("command" = String, Path, description = "SHA-256 of the signed bytes, in hex")),
    responses((status = 200, body = Object))
)]
pub(super) async fn look(State(web): State<Web>, Path(command): Path<String>) -> Response {
    let none = "There was no command of this name; it is the SHA-256 of the signed bytes.";
    let Ok(digest) = command.parse::<Digest32>() else {
        return problem(StatusCode::NOT_FOUND, none);
    };
    match answers(&web.shared.db, digest).await {
        Ok(Some(acks)) => Json(shown(digest, &acks)).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, none),
        Err(error) => broken("answers could not be read", &format!("{error:#}")),
    }
}

fn shown(command: Digest32, acks: &[Ack]) -> Value {
    let one = |ack: &Ack| {
        json!({
            "at": ack.at.to_string(),
            "outcome": ack.outcome.word(),
            "value": ack.outcome.value(),
            "reason": ack.outcome.reason(),
            "revert": ack.outcome.revert().map(|revert| revert.name()),
        })
    };
    let answers: Vec<Value> = acks.iter().map(one).collect();
    json!({ "command": command.to_string(), "answers": answers })
}

fn not_forwarded(refused: &NotForwarded) -> Response {
    let status = match refused {
        NotForwarded::NotBelieved(_) => StatusCode::FORBIDDEN,
        NotForwarded::NoGateway(_) => StatusCode::NOT_FOUND,
        NotForwarded::Full => StatusCode::SERVICE_UNAVAILABLE,
        NotForwarded::Broken(_) => return broken("a command could not be kept", refused),
    };
    problem(
        status,
        &format!("The command was not forwarded: {refused}."),
    )
}
