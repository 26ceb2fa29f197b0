//! `/api/v1/ledger`: what anybody needs to check the logs: signed checkpoints, proofs that a log has only grown,
//! and the keys that sign.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use domain::signed::PublicKey;
use serde::{Deserialize, Serialize};
use settlement::log::checkpoint::Log;
use utoipa::{IntoParams, ToSchema};

use super::answer::{Answer, Refused, time};
use crate::platform::witnesses::log_key;
use crate::site::public_key_text;
use crate::web::Web;

/// How long what is public and grows may be kept.
const SHORTLY: &str = "public, max-age=2";
/// How long keys may be kept.
const MINUTES: &str = "public, max-age=300";

/// Which log.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichLog {
    /// readings, market or ledger, which takes in the other two's checkpoints.
    #[param(pattern = "^(readings|market|ledger)$", example = "ledger")]
    log: Option<String>,
}

fn known(name: Option<&str>) -> Result<Log, Refused> {
    let name = name.unwrap_or(Log::Ledger.word());
    let log = Log::ALL.into_iter().find(|log| log.word() == name);
    log.ok_or_else(|| Refused::bad("log: readings, market or ledger."))
}

/// The newest checkpoint of a log, a signed note as C2SP describes it; where witnesses sign, the newest that one
/// has signed.
#[utoipa::path(
    get, path = "/api/v1/ledger/checkpoint", tag = "proof", params(WhichLog),
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(super) async fn checkpoint(State(web): State<Web>, Query(asked): Query<WhichLog>) -> Answer {
    let log = known(asked.log.as_deref())?;
    let shown = settlement::service::published_checkpoint(&web.shared.db, log).await?;
    let note = shown.map(|(_, note)| note);
    let none = || Refused::new(StatusCode::NOT_FOUND, "This log has no checkpoint yet.");
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, SHORTLY),
    ];
    Ok((headers, note.ok_or_else(none)?).into_response())
}

/// Two sizes of a log.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Sizes {
    /// readings, market or ledger.
    #[param(pattern = "^(readings|market|ledger)$")]
    log: Option<String>,
    /// Leaves of the older one.
    #[param(minimum = 1)]
    old: u64,
    /// Leaves of the newer one.
    #[param(minimum = 1)]
    size: u64,
}

/// The proof that a log of `size` leaves begins with the log of `old` leaves.
#[derive(Serialize, ToSchema)]
pub(super) struct Consistency {
    log: &'static str,
    old: u64,
    size: u64,
    /// Hashes as RFC 6962 lists them, in hex.
    hashes: Vec<String>,
}

/// The proof that a log has only grown between two of its sizes (RFC 6962).
#[utoipa::path(
    get, path = "/api/v1/ledger/proof", tag = "proof", params(Sizes),
    responses((status = 200, body = Consistency))
)]
pub(super) async fn proof(State(web): State<Web>, Query(asked): Query<Sizes>) -> Answer {
    let log = known(asked.log.as_deref())?;
    let (old, size) = (asked.old, asked.size);
    // Sizes are kept as 63 bits.
    let fits = i64::try_from(size).is_ok() && 0 < old && old <= size;
    let found = match fits {
        true => settlement::service::consistency(&web.shared.db, log, old, size).await?,
        false => return Err(Refused::bad("old and size: 0 < old <= size.")),
    };
    let none = || Refused::new(StatusCode::NOT_FOUND, "The log does not reach so far.");
    Ok(Json(Consistency {
        log: log.word(),
        old,
        size,
        hashes: found
            .ok_or_else(none)?
            .iter()
            .map(ToString::to_string)
            .collect(),
    })
    .into_response())
}

/// The keys that a receipt is checked with.
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    community: String,
    /// The operator's Ed25519 public key in base64: it signs checkpoints and key records.
    operator_key: String,
    /// The same as verifier keys of the three logs, for policies and witnesses.
    log_keys: Vec<String>,
    /// Checkpoints of the three logs by their origin line.
    origins: Vec<String>,
    /// The community's time.
    #[schema(format = DateTime)]
    now: String,
}

/// The key that signs this community's checkpoints.
#[utoipa::path(
    get, path = "/api/v1/ledger/keys", tag = "proof",
    responses((status = 200, body = Keys))
)]
pub(super) async fn keys(State(web): State<Web>) -> Answer {
    let shared = &web.shared;
    let origin = |log: Log| log.origin(&shared.community.id);
    let keys = Keys {
        community: shared.community.id.to_string(),
        operator_key: public_key_text(PublicKey::of(&shared.community.operator)),
        log_keys: Log::ALL
            .into_iter()
            .filter_map(|log| log_key(shared, log))
            .map(|key| key.to_string())
            .collect(),
        origins: Log::ALL.into_iter().map(origin).collect(),
        now: time(shared.clock.now()),
    };
    Ok(([(header::CACHE_CONTROL, MINUTES)], Json(keys)).into_response())
}
