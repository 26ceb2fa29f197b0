//! `/api/v1/readings`: signed readings over HTTP. They are the bytes that go over MQTT, they are taken in at the same
//! place, and the answer is the operator's same signed word.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use domain::rejection::Rejection;
use domain::signed::split_sequence;
use settlement::service::{arrived_by_key, claimed_gateways};
use tokio::sync::oneshot;

use super::answer::{Answer, Refused};
use crate::platform::{Command, Told, accepted};
use crate::web::{Web, problem_because};

/// Most readings at once.
const READINGS_MAX: usize = 256;
/// Largest body.
pub(super) const BODY_MAX_BYTES: usize = 256 * 1024;
/// What a body and an answer are: one signed message behind the other.
const KIND: &str = "application/cbor-seq";

/// Takes signed readings, 256 at most, one behind the other. Each counts by the key that has signed it. The answer is, for
/// each metering point, the operator's signed word on which of its readings are in the books, as gateways hear it over
/// MQTT: what it lists as missing is to be sent again.
#[utoipa::path(
    post, path = "/api/v1/readings", tag = "signed",
    request_body(content = Vec<u8>, content_type = "application/cbor-seq", description = "COSE_Sign1 of readings"),
    responses((status = 200, content_type = "application/cbor-seq", body = Vec<u8>))
)]
pub(super) async fn take(State(web): State<Web>, body: Bytes) -> Answer {
    let parts = split_sequence(&body, READINGS_MAX).filter(|parts| !parts.is_empty());
    let parts = parts.ok_or_else(|| {
        let detail =
            format!("A body is 1 to {READINGS_MAX} signed readings, one behind the other.");
        Refused::bad(&detail)
    })?;
    let messages: Vec<Vec<u8>> = parts.into_iter().map(<[u8]>::to_vec).collect();
    let shared = &web.shared;
    let busy = "Too many readings are waiting: send them again in a moment.";
    let busy = || Refused::new(StatusCode::SERVICE_UNAVAILABLE, busy);
    // Whoever hangs up keeps the place until all is checked and stored.
    let room = Arc::clone(&web.deliveries).try_acquire_owned();
    let room = room.map_err(|_| busy())?;
    let keys = claimed_gateways(&shared.db, &messages).await?;
    let community = shared.site.community.clone();
    let check = move || (arrived_by_key(messages, &keys, &community), room);
    let checked = tokio::task::spawn_blocking(check).await;
    let (checked, room) = checked.map_err(anyhow::Error::from)?;
    let (mut readings, mut refused) = (Vec::new(), None);
    for one in checked {
        match one {
            Ok(reading) => readings.push(reading),
            Err(reason) => refused = refused.or(Some(reason)),
        }
    }
    if let (true, Some(reason)) = (readings.is_empty(), refused) {
        return Err(nobody_s(reason));
    }
    let (answer, told) = oneshot::channel();
    let command = Command::Deliver {
        readings,
        answer,
        room,
    };
    web.commands.try_send(command).map_err(|_| busy())?;
    let told = told.await.map_err(|_| {
        let detail = "They could not be stored: send them again.";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    words(&web, told, refused).await
}

/// None of the readings is one of a gateway that is enrolled.
fn nobody_s(reason: Rejection) -> Refused {
    let detail = "None of these readings has the signature of an enrolled gateway's key; `reason` is that of the first.";
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Refused::from(Box::new(problem_because(status, detail, reason.name())))
}

/// The operator's word on every point that was spoken of.
async fn words(web: &Web, told: BTreeSet<Told>, refused: Option<Rejection>) -> Answer {
    let mut body = Vec::new();
    for one in &told {
        if let Told::Accepted(gateway, point) = one {
            body.extend(accepted(&web.shared, gateway, point).await?);
        }
    }
    if let (true, Some(reason)) = (body.is_empty(), refused) {
        return Err(nobody_s(reason));
    }
    if body.is_empty() {
        // A key that may not sign for the point that it names.
        return Err(nobody_s(Rejection::WrongNetwork));
    }
    Ok(([(header::CONTENT_TYPE, KIND)], body).into_response())
}
