//! `/api/v1/keys`: which keys the gateways sign with.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use settlement::service::{GatewayKey, gateway_keys};

use crate::web::{Web, broken};

/// Every gateway of the site with its keys, newest last.
pub(super) async fn list(State(web): State<Web>) -> Response {
    let keys = match gateway_keys(&web.shared.db).await {
        Ok(keys) => keys,
        Err(error) => return broken("keys could not be read", &error),
    };
    let gateways = web.shared.site.gateways.iter().map(|gateway| {
        let own = keys.iter().filter(|key| key.gateway == gateway.id);
        json!({
            "gateway": gateway.id.as_str(),
            "keys": own.map(shown).collect::<Vec<_>>(),
        })
    });
    Json(json!({ "gateways": gateways.collect::<Vec<_>>() })).into_response()
}

fn shown(key: &GatewayKey) -> serde_json::Value {
    json!({
        "key": key.kid.to_string(),
        "enrolled": key.enrolled.to_string(),
        "replaced": key.replaced.map(|at| at.to_string()),
    })
}
