//! `/api/v1/me` and `/api/v1/participants`: the account, and the household that it belongs to.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::ids::ParticipantId;
use domain::money::Money;
use domain::posting::{Asset, Chart};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, Refused};
use crate::auth::{Role, Viewer};
use crate::web::Web;

/// Who asks.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    /// The account's name.
    account: String,
    /// home, driver, operator, researcher, admin; with a token, those it stands for.
    roles: Vec<&'static str>,
    /// The household, with the role home.
    participant: Option<String>,
    /// Whether this session or token may change anything.
    may_write: bool,
    /// What a session's writes carry as `X-CSRF-Token`; none with a token.
    csrf: Option<String>,
}

/// Who asks: the account behind the session or token.
#[utoipa::path(get, path = "/api/v1/me", tag = "accounts", responses((status = 200, body = Me)))]
pub(super) async fn me(viewer: Viewer) -> Answer {
    let Some(account) = viewer.account() else {
        let detail =
            "Nobody is signed in: use a sign-in link, or `Authorization: Bearer` with a token.";
        return Err(Refused::new(StatusCode::UNAUTHORIZED, detail));
    };
    Ok(Json(Me {
        account: account.name.clone(),
        roles: account.roles.iter().map(Role::word).collect(),
        participant: viewer.home().map(ToString::to_string),
        may_write: viewer.may_write(),
        csrf: viewer.csrf(),
    })
    .into_response())
}

/// A household of the community.
#[derive(Serialize, ToSchema)]
pub(super) struct Participant {
    participant: String,
    /// Its connection to the street.
    point: Option<String>,
    /// What the connection carries, in watts.
    rating_w: Option<u32>,
    /// Tokens that can be spent.
    #[schema(example = "98.250000000")]
    available: String,
    /// Tokens held for orders that stand.
    held: String,
    /// Owed to (below zero) or to be had from utility and pool, by statement.
    statement: String,
}

/// One's own household with its balances. Anybody else's is not there.
#[utoipa::path(
    get, path = "/api/v1/participants/{id}", tag = "accounts",
    params(("id" = String, Path, description = "The household, as /me names it")),
    responses((status = 200, body = Participant))
)]
pub(super) async fn participant(
    State(web): State<Web>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Answer {
    let id = ParticipantId::new(id).map_err(|_| Refused::nothing())?;
    if !viewer.may_see(&id) {
        return Err(Refused::nothing());
    }
    let balances = settlement::service::balances_of(&web.shared.db, &id).await?;
    let of = |chart| {
        let mut own = balances
            .iter()
            .filter(|b| b.asset == Asset::Token && b.account.chart() == chart);
        Money::from_nano(own.next().map_or(0, |b| b.balance)).to_string()
    };
    let connection = web.shared.site.connection_of(&id);
    Ok(Json(Participant {
        participant: id.to_string(),
        point: connection.map(|point| point.point.to_string()),
        rating_w: connection.map(|point| point.rating_w),
        available: of(Chart::Available),
        held: of(Chart::Held),
        statement: of(Chart::Statement),
    })
    .into_response())
}
