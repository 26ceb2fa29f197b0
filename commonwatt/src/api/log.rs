//! `/log/<readings|market|ledger>/…`: each log as static resources (C2SP tlog-tiles), for anybody to keep
//! and to check.
//!
//! An entry is a salted commitment with its kind and its interval: it names nobody.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use settlement::log::checkpoint::Log;
use settlement::log::tile::Tile;

use crate::web::{Web, broken, problem};

/// A tile of a width never changes.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// The checkpoint is the one resource that does.
const SHORTLY: &str = "public, max-age=2";

/// The logs' resources.
pub(super) fn routes() -> Router<Web> {
    Router::new()
        .route("/log/{log}/checkpoint", get(checkpoint))
        .route("/log/{log}/tile/{*tile}", get(tile))
        .route("/log/{log}/proof", get(proof))
}

fn known(log: &str) -> Option<Log> {
    Log::ALL.into_iter().find(|known| known.word() == log)
}

fn unknown() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "The logs are readings, market and ledger.",
    )
}

/// The newest checkpoint of a log as a signed note: where witnesses sign, the newest that one has signed.
pub(crate) async fn checkpoint(State(web): State<Web>, Path(log): Path<String>) -> Response {
    let Some(log) = known(&log) else {
        return unknown();
    };
    match settlement::service::published_checkpoint(&web.shared.db, log).await {
        Ok(Some((_, note))) => {
            let headers = [
                (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
                (header::CACHE_CONTROL, SHORTLY),
            ];
            (headers, note).into_response()
        }
        Ok(None) => problem(StatusCode::NOT_FOUND, "This log has no checkpoint yet."),
        Err(error) => broken("a checkpoint could not be read", &error),
    }
}

async fn tile(State(web): State<Web>, Path((log, path)): Path<(String, String)>) -> Response {
    let Some(log) = known(&log) else {
        return unknown();
    };
    let Some(tile) = Tile::parse(&format!("tile/{path}")) else {
        return problem(
            StatusCode::NOT_FOUND,
            "A tile’s address is tile/<row>/<index>, tile/entries/<index>, or one of them with .p/<width>.",
        );
    };
    match settlement::service::tile(&web.shared.db, log, tile).await {
        Ok(Some(bytes)) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream"),
                (header::CACHE_CONTROL, FOREVER),
            ];
            (headers, bytes).into_response()
        }
        Ok(None) => problem(
            StatusCode::NOT_FOUND,
            "The newest checkpoint does not reach this tile.",
        ),
        Err(error) => broken("a tile could not be read", &error),
    }
}

#[derive(serde::Deserialize)]
struct Entry {
    index: u64,
    size: Option<u64>,
}

/// The proof that a log holds an entry, as a `*.tlog-proof` text.
async fn proof(
    State(web): State<Web>,
    Path(log): Path<String>,
    Query(asked): Query<Entry>,
) -> Response {
    let Some(log) = known(&log) else {
        return unknown();
    };
    let Entry { index, size } = asked;
    match settlement::service::log_proof(&web.shared.db, log, index, size).await {
        Ok(Some(proof)) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (kind, proof.to_text()).into_response()
        }
        Ok(None) => problem(
            StatusCode::NOT_FOUND,
            "No checkpoint of this log has this size, or it does not reach this entry.",
        ),
        Err(error) => broken("a proof could not be made", &error),
    }
}
