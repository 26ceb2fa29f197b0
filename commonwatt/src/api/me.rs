//! `/api/v1/me` and `/api/v1/participants`: the account, and the household that it belongs to.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use domain::ids::ParticipantId;
use domain::money::Money;
use domain::posting::{Asset, Chart};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::answer::{Answer, IfMatch, Refused, if_match, unprocessable};
use crate::auth::store::settings;
use crate::auth::{Role, Viewer, may_write};
use crate::view::peers;
use crate::web::Web;
use crate::web::words::Language;

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
    /// The language that it reads: en, de, fr or es; none where the browser's counts.
    language: Option<String>,
    /// Whether its home is compared with others, and others with it; none without a home.
    compared: Option<bool>,
    /// What a session's writes carry as `X-CSRF-Token`; none with a token.
    csrf: Option<String>,
}

/// Who asks: the account behind the session or token.
#[utoipa::path(get, path = "/api/v1/me", tag = "accounts", responses((status = 200, body = Me)))]
pub(super) async fn me(State(web): State<Web>, viewer: Viewer) -> Answer {
    Ok(Json(seen(&web, &viewer).await?).into_response())
}

async fn seen(web: &Web, viewer: &Viewer) -> Result<Me, Refused> {
    let Some(account) = viewer.account() else {
        let detail =
            "Nobody is signed in: use a sign-in link, or `Authorization: Bearer` with a token.";
        return Err(Refused::new(StatusCode::UNAUTHORIZED, detail));
    };
    let compared = match viewer.home() {
        Some(home) => Some(peers::willing(&web.shared).await?.contains(home)),
        None => None,
    };
    Ok(Me {
        account: account.name.clone(),
        roles: account.roles.iter().map(Role::word).collect(),
        participant: viewer.home().map(ToString::to_string),
        may_write: viewer.may_write(),
        language: account.language.clone(),
        compared,
        csrf: viewer.csrf(),
    })
}

/// What changes; what is not named stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MeChange)]
pub(super) struct Change {
    /// en, de, fr or es; null goes by the browser's language.
    #[schema(value_type = Option<String>, pattern = "^(en|de|fr|es)$")]
    #[serde(default, deserialize_with = "named")]
    language: Option<Option<String>>,
    /// Whether the home may be compared with others, which are then compared with it: as an average of five at least.
    compared: Option<bool>,
}

/// A field that was named, with its value or null.
fn named<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Changes what one may choose for oneself. With `If-Match`, only if it still is what the `ETag` of it named.
#[utoipa::path(
    patch, path = "/api/v1/me", tag = "accounts", request_body = Change, params(IfMatch),
    responses((status = 200, body = Me))
)]
pub(super) async fn change(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Json(change): Json<Change>,
) -> Answer {
    let before = seen(&web, &viewer).await?;
    may_write(&viewer, &headers, &web)?;
    if_match(&headers, &before)?;
    let known = |tag: &String| Language::of_tag(tag).is_some();
    if change.language.iter().flatten().any(|tag| !known(tag)) {
        return Err(unprocessable("language: en, de, fr or es."));
    }
    if change.compared.is_some() && viewer.home().is_none() {
        return Err(unprocessable(
            "compared: this account has no household that could be.",
        ));
    }
    let (now, by) = (web.accounts.now(), viewer.by());
    let mut tx = web.shared.db.begin().await?;
    if let Some(language) = &change.language {
        settings::set_language(&mut tx, now, by, language.as_deref()).await?;
    }
    if let (Some(consents), Some(home)) = (change.compared, viewer.home()) {
        settings::set_consent(&mut tx, now, by, home, consents).await?;
    }
    tx.commit().await?;
    let after = Me {
        language: change.language.unwrap_or(before.language),
        compared: change.compared.or(before.compared),
        ..before
    };
    Ok(Json(after).into_response())
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
