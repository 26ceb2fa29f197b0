//! The API's resources for programs. What only the operator may do is a message signed with the
//! operator's key in the body of a POST: the signature is the permission, wherever it comes from.

mod commands;
mod keys;
pub(crate) mod log;
mod orders;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::signed::PublicKey;

use crate::site::public_key_text;
use crate::web::Web;

/// Every resource of the API that is not a page's own.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .merge(log::routes())
        .route("/api/v1/platform", get(platform))
        .route("/api/v1/keys", get(keys::list))
        .route("/api/v1/keys/claims", post(keys::claim))
        .route("/api/v1/keys/revocations", post(keys::revoke))
        .route("/api/v1/orders", get(orders::public).post(orders::place))
        .route("/api/v1/orders/cancel", post(orders::place))
        .route("/api/v1/orders/query", post(orders::query))
        .route("/api/v1/markets", get(orders::markets))
        .route("/api/v1/markets/{interval}/book", get(orders::book))
        .route("/api/v1/markets/{interval}/clearing", get(orders::clearing))
        .route("/api/v1/commands", post(commands::command))
        .route("/api/v1/commands/{command}", get(commands::look))
}

/// Whose platform this is, and what time it is there.
async fn platform(State(web): State<Web>) -> Response {
    let shared = &web.shared;
    let operator = PublicKey::of(&shared.community.operator);
    Json(serde_json::json!({
        "community": shared.site.community.as_str(),
        "now": shared.clock.now().to_string(),
        "operator_key": public_key_text(operator),
    }))
    .into_response()
}
