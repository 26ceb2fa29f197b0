//! `/api/v1/keys`: which keys gateways and participants sign with; below it, the operator's claims and revocations, and
//! what participants introduce.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::ids::KeyId;
use domain::time::Timestamp;
use serde_json::{Value, json};
use settlement::service::{
    GatewayKey, OpenClaim, RevokedKey, gateway_keys, open_claims, participant_keys,
};
use tokio::sync::oneshot;

use super::answer::{After, Answer, List, Wants};
use super::openapi::Problem;
use crate::auth::{INTRODUCTIONS, Role, Viewer, may_send, too_often};
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
        let mut waits = claims.iter();
        let claim = waits.find(|claim| claim.holder.gateway() == Some(&gateway.id));
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
        Wants::Csv => items.iter().flat_map(|one| flat(one, "gateway")).collect(),
    };
    List { items, next }.answer(wants, &COLUMNS)
}

/// Every participant of the site with its keys, newest last, and the claim code that waits for it.
#[utoipa::path(
    get, path = "/api/v1/keys/participants", tag = "proof", params(After),
    responses((status = 200, content((Object = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn participants(
    State(web): State<Web>,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    let (db, now) = (&web.shared.db, web.shared.clock.now());
    let (keys, claims) = (participant_keys(db).await?, open_claims(db, now).await?);
    let participants = web.shared.site.participants.iter().map(|participant| {
        let own = keys.iter().filter(|key| key.participant == participant.id);
        let own = own.map(|key| {
            let times = (key.enrolled, key.replaced);
            state(key.key.id(), times, key.revoked.as_ref())
        });
        let mut waits = claims.iter();
        let claim = waits.find(|claim| claim.holder.participant() == Some(&participant.id));
        json!({
            "participant": participant.id.as_str(),
            "keys": own.collect::<Vec<_>>(),
            "claim": claim.map(|claim| waiting(claim, false)),
        })
    });
    let name = |row: &Value| row["participant"].as_str().unwrap_or_default().to_owned();
    let (items, next) = after.part(participants.collect(), name)?;
    let items = match wants {
        Wants::Json => items,
        Wants::Csv => items
            .iter()
            .flat_map(|one| flat(one, "participant"))
            .collect(),
    };
    List { items, next }.answer(wants, &OWN_COLUMNS)
}

const OWN_COLUMNS: [&str; 7] = [
    "participant",
    "key",
    "state",
    "enrolled",
    "replaced",
    "revoked.from",
    "revoked.reason",
];

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

/// A row for each key of a holder.
fn flat(holder: &Value, word: &str) -> Vec<Value> {
    let keys = holder["keys"].as_array().into_iter().flatten();
    let row = |key: &Value| {
        let mut row = key.clone();
        row[word] = holder[word].clone();
        row
    };
    keys.map(row).collect()
}

fn shown(key: &GatewayKey) -> Value {
    let times = (key.enrolled, key.replaced);
    let mut shown = state(key.kid, times, key.revoked.as_ref());
    shown["newest_sequence"] = key.newest_sequence.into();
    shown
}

fn state(
    kid: KeyId,
    (enrolled, replaced): (Timestamp, Option<Timestamp>),
    revoked: Option<&RevokedKey>,
) -> Value {
    json!({
        "key": kid.to_string(),
        "state": match (revoked, replaced) {
            (Some(_), _) => "revoked",
            (None, Some(_)) => "replaced",
            (None, None) => "valid",
        },
        "enrolled": enrolled.to_string(),
        "replaced": replaced.map(|at| at.to_string()),
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

/// Takes a participant's new key, introduced by its key before or by a claim code's.
#[utoipa::path(
    post, path = "/api/v1/keys/introductions", tag = "signed",
    request_body(content = Vec<u8>, content_type = "application/cose", description = "COSE_Sign1"),
    responses((status = 200, body = Object), (
        status = 429, body = Problem, content_type = "application/problem+json",
        description = "The address sends too many, or the key was changed too often in a day: the same is let in later",
        headers(("Retry-After" = u32, description = "Seconds to wait before the same is sent again")),
    ))
)]
pub(super) async fn introduce(State(web): State<Web>, viewer: Viewer, body: Bytes) -> Response {
    if let Err(refused) = may_send(&viewer, &web, INTRODUCTIONS) {
        return *refused;
    }
    say(&web, KeyWord::Introduction(body.to_vec())).await
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
    if let Some(known) = word.answer_unasked(&web.shared) {
        return answered(known);
    }
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
    answered(outcome.await.unwrap_or(KeyAnswer::Unavailable))
}

fn answered(answer: KeyAnswer) -> Response {
    match answer {
        KeyAnswer::Done(answer) => Json(answer).into_response(),
        KeyAnswer::Refused(why) => problem(StatusCode::UNPROCESSABLE_ENTITY, &why),
        KeyAnswer::Later(why, wait) => {
            let wait_s = wait.as_millis().div_ceil(1000);
            too_often(&why, u32::try_from(wait_s).unwrap_or(u32::MAX))
        }
        KeyAnswer::Unavailable => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "It could not be stored: say it again.",
        ),
    }
}
