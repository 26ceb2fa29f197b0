//! `/api/v1/tokens/requests`: tokens in and out by hand. One operator's account asks, another's confirms.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use domain::ids::{ParticipantId, from_hex, to_hex};
use domain::money::Money;
use serde::{Deserialize, Serialize};
use settlement::service::{
    NewTokenRequest, TokenKind, TokenRequest, token_request, token_requests,
};
use utoipa::ToSchema;

use super::answer::{After, Answer, List, Refused, Wants, only, time};
use crate::auth::{Role, Viewer, may_write};
use crate::platform::tokens::{self, NotTaken, Said};
use crate::web::Web;

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewTokenRequest)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRequest {
    /// deposit, withdrawal, or payout: where withdrawals are paid to.
    #[schema(pattern = "^(deposit|withdrawal|payout)$")]
    kind: String,
    /// The household.
    participant: String,
    /// How many tokens; none for a payout.
    #[schema(example = "25.50")]
    amount: Option<String>,
    /// The name of the payment, used once for each household and kind.
    #[schema(min_length = 1, max_length = 128)]
    reference: String,
    /// Of a payout: where withdrawals are to be paid to.
    #[schema(max_length = 128)]
    payout: Option<String>,
}

/// A request and how it stands.
#[derive(Serialize, ToSchema)]
#[schema(as = TokenRequest)]
pub(super) struct Request {
    /// Its name.
    id: String,
    /// deposit, withdrawal or payout.
    kind: &'static str,
    participant: String,
    #[schema(example = "25.500000000")]
    amount: String,
    reference: String,
    /// Where a withdrawal is paid to, or is to be paid to.
    payout: Option<String>,
    /// open, confirmed, cancelled or expired.
    state: &'static str,
    /// The account that asked.
    by: String,
    #[schema(format = DateTime)]
    at: String,
    /// When it ends by itself, if nobody confirms it.
    #[schema(format = DateTime)]
    expires: String,
    /// The account that took the last step.
    last_by: Option<String>,
    #[schema(format = DateTime)]
    last_at: Option<String>,
    /// From when on a confirmed payout counts. Until then it can be cancelled.
    #[schema(format = DateTime)]
    counts_from: Option<String>,
}

fn shown(request: TokenRequest) -> Request {
    let (last_by, last_at) = request.last.map(|(by, at)| (by, time(at))).unzip();
    Request {
        id: to_hex(&request.id),
        kind: request.asked.kind.word(),
        participant: request.asked.participant.to_string(),
        amount: request.asked.amount.to_string(),
        reference: request.asked.reference,
        payout: request.asked.payout.or(request.paid_to),
        state: request.state.word(),
        by: request.by,
        at: time(request.at),
        expires: time(request.expires),
        last_by,
        last_at,
        counts_from: request.counts_from.map(time),
    }
}

fn name(id: &str) -> Result<[u8; 16], Refused> {
    from_hex(id).map_err(|_| Refused::nothing())
}

fn said<'a>(web: &Web, viewer: &'a Viewer) -> Said<'a> {
    Said {
        by: viewer.by(),
        at: web.accounts.now(),
    }
}

impl From<NotTaken> for Refused {
    /// A refusal by the books is the asker's business, a failure is ours.
    fn from(not: NotTaken) -> Refused {
        match not {
            NotTaken::Refused(why) => Refused::new(StatusCode::UNPROCESSABLE_ENTITY, &why),
            NotTaken::StandsStill(why) => Refused::new(StatusCode::SERVICE_UNAVAILABLE, &why),
            NotTaken::Failed(error) => Refused::from(error),
        }
    }
}

/// The newest requests: all for an operator, a home's own for a home.
#[utoipa::path(
    get, path = "/api/v1/tokens/requests", tag = "accounts", params(After),
    responses((status = 200, content((List<Request> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    let whose = match viewer.is(Role::Operator) {
        true => None,
        false => Some(viewer.home().ok_or_else(Refused::nothing)?),
    };
    let requests = token_requests(&web.shared.db, whose).await?;
    let requests: Vec<Request> = requests.into_iter().map(shown).collect();
    List::part(requests, &after, |row: &Request| row.id.clone())?.answer(wants, &COLUMNS)
}

const COLUMNS: [&str; 13] = [
    "id",
    "kind",
    "participant",
    "amount",
    "reference",
    "payout",
    "state",
    "by",
    "at",
    "expires",
    "last_by",
    "last_at",
    "counts_from",
];

/// Asks for a deposit, a withdrawal, or another payout. Another operator has to confirm it within three days; a
/// withdrawal's tokens cannot be spent meanwhile.
#[utoipa::path(
    post, path = "/api/v1/tokens/requests", tag = "accounts", request_body = NewRequest,
    responses((status = 201, body = Request))
)]
pub(super) async fn ask(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Json(new): Json<NewRequest>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    may_write(&viewer, &headers, &web)?;
    let request = tokens::ask(&web.shared, said(&web, &viewer), &read(new)?).await?;
    Ok((StatusCode::CREATED, Json(shown(request))).into_response())
}

fn read(new: NewRequest) -> Result<NewTokenRequest, Refused> {
    let kind = TokenKind::ALL.into_iter().find(|k| k.word() == new.kind);
    let bad = |what: &str| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, what);
    let amount = match &new.amount {
        Some(text) => text.parse::<Money>().ok(),
        None => Some(Money::ZERO),
    };
    Ok(NewTokenRequest {
        kind: kind.ok_or_else(|| bad("kind: deposit, withdrawal or payout."))?,
        participant: ParticipantId::new(new.participant)
            .map_err(|_| bad("participant: the community has no such household."))?,
        amount: amount.ok_or_else(|| bad("amount: tokens, with at most nine decimals."))?,
        reference: new.reference,
        payout: new.payout,
    })
}

/// Confirms another operator's request: tokens are given or paid out, and another payout counts three days later.
#[utoipa::path(
    post, path = "/api/v1/tokens/requests/{id}/confirm", tag = "accounts",
    params(("id" = String, Path, description = "The request's name")),
    responses((status = 200, body = Request))
)]
pub(super) async fn confirm(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    may_write(&viewer, &headers, &web)?;
    let request = tokens::confirm(&web.shared, said(&web, &viewer), name(&id)?).await?;
    Ok(Json(shown(request)).into_response())
}

/// Takes back a request that waits, or a payout that does not count yet: operators may, and the home it is about.
#[utoipa::path(
    post, path = "/api/v1/tokens/requests/{id}/cancel", tag = "accounts",
    params(("id" = String, Path, description = "The request's name")),
    responses((status = 200, body = Request))
)]
pub(super) async fn cancel(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Answer {
    let id = name(&id)?;
    let known = token_request(&web.shared.db, id).await?;
    let known = known.ok_or_else(Refused::nothing)?;
    if !viewer.is(Role::Operator) && viewer.home() != Some(&known.asked.participant) {
        return Err(Refused::nothing());
    }
    may_write(&viewer, &headers, &web)?;
    let request = tokens::cancel(&web.shared, said(&web, &viewer), id).await?;
    Ok(Json(shown(request)).into_response())
}
