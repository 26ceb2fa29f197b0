//! The API's resources for programs. What only the operator may do is a message signed with the
//! operator's key in the body of a POST: the signature is the permission, wherever it comes from.

mod alarms;
mod answer;
mod audit;
pub(crate) mod charging;
mod commands;
mod deliveries;
mod events;
mod feeders;
mod health;
mod idempotency;
mod incidents;
mod intervals;
mod keys;
mod ledger;
mod limits;
pub(crate) mod log;
mod me;
mod meters;
mod openapi;
mod orders;
mod own_orders;
mod polish;
mod preferences;
mod readings;
mod runs;
mod standing_orders;
mod statements;
mod stations;
mod tokens;
mod trades;
mod witnesses;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use domain::signed::PublicKey;
use runtime::db::Migration;
use serde::Serialize;
use utoipa::ToSchema;

use crate::site::public_key_text;
use crate::web::Web;

pub(crate) use health::Requests;
pub(crate) use idempotency::UnderWay;

/// The tables that the API keeps beside the accounts.
pub(crate) const MIGRATIONS: &[Migration] = &[
    idempotency::MIGRATION,
    incidents::MIGRATION,
    crate::platform::alarms::MIGRATION,
    idempotency::WITH_PLACE,
    crate::platform::alarms::GONE,
];

/// Every resource of the API that is not a page's own.
pub(crate) fn routes(web: &Web) -> Router<Web> {
    openapi::routes()
        .route("/api/v1/checkpoints/{log}", get(log::checkpoint))
        .layer(middleware::from_fn_with_state(
            web.clone(),
            idempotency::once,
        ))
        .layer(middleware::from_fn(polish::polish))
        .merge(log::routes())
}

/// Whose platform this is.
#[derive(Serialize, ToSchema)]
struct Platform {
    community: String,
    /// The community's time: a demo's runs faster.
    #[schema(format = DateTime)]
    now: String,
    /// The operator's Ed25519 public key in base64.
    operator_key: String,
}

/// Whose platform this is, and what time it is there.
#[utoipa::path(
    get, path = "/api/v1/platform", tag = "service", responses((status = 200, body = Platform))
)]
async fn platform(State(web): State<Web>) -> Response {
    let shared = &web.shared;
    let operator = PublicKey::of(&shared.community.operator);
    Json(Platform {
        community: shared.site.community.to_string(),
        now: shared.clock.now().to_string(),
        operator_key: public_key_text(operator),
    })
    .into_response()
}
