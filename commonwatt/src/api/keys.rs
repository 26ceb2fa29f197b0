//! `/api/v1/keys`: which keys the gateways sign with; below it, the operator's claims and revocations.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use settlement::service::{GatewayKey, OpenClaim, gateway_keys, open_claims};
use tokio::sync::oneshot;

use super::answer::{After, Answer, List, Wants};
use crate::auth::{Role, Viewer};
use crate::platform::{Command, KeyAnswer, KeyWord};
use crate::web::{Web, problem};

/// Every gateway of the site with its keys, newest last, and the claim code that waits for it.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "proof", params(After),
    responses((status = 200, content((Object = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    // How many wrong codes were typed in tells a stranger how near a claim is to its end.
    let all = viewer.is(Role::Operator) || viewer.is(Role::Admin);
    let (db, now) = (&web.shared.db, web.shared.clock.now());
    let (keys, claims) = (gateway_keys(db).await?, open_claims(db, now).await?);
    let gateways = web.shared.site.gateways.iter().map(|gateway| {
        let own = keys.iter().filter(|key| key.gateway == gateway.id);
        let claim = claims.iter().find(|claim| claim.gateway == gateway.id);
        json!({
            "gateway": gateway.id.as_str(),
            "keys": own.map(shown).collect::<Vec<_>>(),
            "claim": claim.map(|claim| waiting(claim, all)),
        })
    });
    let name = |row: &Value| row["gateway"].as_str().unwrap_or_default().to_owned();
    let (items, next) = after.part(gateways.collect(), name)?;
    let items = match wants {
        Wants::Json => items,
        Wants::Csv => items.iter().flat_map(flat).collect(),
    };
    List { items, next }.answer(wants, &COLUMNS)
}

const COLUMNS: [&str; 8] = [
    "gateway",
    "key",
    "state",
    "enrolled",
    "replaced",
    "newest_sequence",
    "revoked.from",
    "revoked.reason",
];

/// A row for each key of a gateway.
fn flat(gateway: &Value) -> Vec<Value> {
    let keys = gateway["keys"].as_array().into_iter().flatten();
    let row = |key: &Value| {
        let mut row = key.clone();
        row["gateway"] = gateway["gateway"].clone();
        row
    };
    keys.map(row).collect()
}

fn shown(key: &GatewayKey) -> Value {
    let revoked = key.revoked.as_ref();
    json!({
        "key": key.kid.to_string(),
        "state": match (revoked, key.replaced) {
            (Some(_), _) => "revoked",
            (None, Some(_)) => "replaced",
            (None, None) => "valid",
        },
        "enrolled": key.enrolled.to_string(),
        "replaced": key.replaced.map(|at| at.to_string()),
        "newest_sequence": key.newest_sequence,
        "revoked": revoked.map(|word| json!({
            "from_sequence": word.from_sequence,
            "from": word.from.to_string(),
            "reason": word.reason,
        })),
    })
}

fn waiting(claim: &OpenClaim, all: bool) -> Value {
    let mut shown = json!({ "expires": claim.expires.to_string() });
    if all {
        shown["wrong_codes"] = claim.attempts.into();
    }
    shown
}

/// Takes the operator's word that there is a claim code.
#[utoipa::path(
    post, path = "/api/v1/keys/claims", tag = "signed",
    request_body(content = Vec<u8>, content_type = "application/cose", description = "COSE_Sign1"),
    responses((status = 200, body = Object))
)]
pub(super) async fn claim(State(web): State<Web>, body: Bytes) -> Response {
    say(&web, KeyWord::Claim(body.to_vec())).await
}

/// Takes the operator's word that a key counts no longer.
#[utoipa::path(
    post, path = "/api/v1/keys/revocations", tag = "signed",
    request_body(content = Vec<u8>, content_type = "application/cose", description = "COSE_Sign1"),
    responses((status = 200, body = Object))
)]
pub(super) async fn revoke(State(web): State<Web>, body: Bytes) -> Response {
    say(&web, KeyWord::Revocation(body.to_vec())).await
}

async fn say(web: &Web, word: KeyWord) -> Response {
    let (answer, outcome) = oneshot::channel();
    if web
        .commands
        .try_send(Command::Keys { word, answer })
        .is_err()
    {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "The platform has too much to do: try again.",
        );
    }
    match outcome.await {
        Ok(KeyAnswer::Done(answer)) => Json(answer).into_response(),
        Ok(KeyAnswer::Refused(why)) => problem(StatusCode::UNPROCESSABLE_ENTITY, &why),
        Ok(KeyAnswer::Unavailable) | Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "It could not be stored: say it again.",
        ),
    }
}
