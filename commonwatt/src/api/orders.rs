//! `/api/v1/orders` and `/api/v1/markets`: signed orders, cancels and queries in, public books out.
//!
//! What a participant says is a signed message (COSE_Sign1) as the body of a POST, or an order in JSON
//! (`own_orders`). What anybody may see is
//! an interval's gate, its clearing with the proof that it is in the log, and its book without names.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::ids::Digest32;
use domain::money::Price;
use domain::order::Preference;
use domain::order_query::OrderQuery;
use domain::posting::Run;
use domain::rejection::Rejection;
use domain::time::{Interval, Timestamp};
use domain::trade::Clearing;
use market_engine::market::{Gate, closes_at, gate};
use market_engine::service::{self, OwnOrder};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::answer::{Answer, List, Range, Refused, Wants, home};
use super::own_orders::{self, NewOrder};
use super::standing_orders::Row;
use crate::auth::Viewer;
use crate::platform::{
    AUTOPILOT_SEQUENCES, OrderAnswer, OrderMessage, answer_body, next_to_close, read_order,
    read_query, standing,
};
use crate::web::{PROBLEM, Web, broken, problem};

/// How long a public book may be kept: it never changes.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// Takes one order: signed by its participant, or in JSON from a home that is signed in, for which the platform signs it.
#[utoipa::path(
    post, path = "/api/v1/orders", tag = "market",
    request_body(
        content((NewOrder = "application/json"), (Vec<u8> = "application/cose")),
        description = "An order; or COSE_Sign1 of an order or a cancel"
    ),
    responses((status = 201, body = Object), (status = 200, body = Object))
)]
pub(super) async fn place(State(web): State<Web>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let body = Bytes::from_request(Request::from_parts(parts.clone(), body), &web).await;
    let body = body.map_err(|wrong| Box::new(wrong.into_response()))?;
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.starts_with("application/json") {
        true => own_orders::place(&web, parts, &body).await,
        false => Ok(take(&web, body).await),
    }
}

/// Takes one order back, on its participant's signed word.
#[utoipa::path(
    post, path = "/api/v1/orders/cancel", tag = "signed",
    request_body(content = Vec<u8>, content_type = "application/cose", description = "COSE_Sign1 of a cancel or an order"),
    responses((status = 201, body = Object), (status = 200, body = Object))
)]
pub(super) async fn cancel(State(web): State<Web>, body: Bytes) -> Response {
    take(&web, body).await
}

/// Takes a message that came from outside.
pub(super) async fn take(web: &Web, body: Bytes) -> Response {
    let digest = Digest32::of(&body);
    answered(web, read_order(&web.shared, body.to_vec()), digest).await
}

/// Takes a message that the platform has signed for a home.
pub(super) async fn said(web: &Web, message: OrderMessage) -> Response {
    let digest = Digest32::of(message.bytes());
    answered(web, message, digest).await
}

async fn answered(web: &Web, message: OrderMessage, digest: Digest32) -> Response {
    let Some(answer) = web.decide(message).await else {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many orders are waiting: try again.",
        );
    };
    let status = match &answer {
        OrderAnswer::Accepted(_) => StatusCode::CREATED,
        OrderAnswer::Withdrawn(_) | OrderAnswer::Again { .. } => StatusCode::OK,
        OrderAnswer::Refused(reason) => return refused(*reason, digest),
        OrderAnswer::Unavailable => {
            return problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "It could not be stored: send it again.",
            );
        }
    };
    (status, Json(answer_body(&answer, digest))).into_response()
}

/// A refusal with its name where a program finds it; the reference is the message's SHA-256, to name it in
/// logs.
fn refused(reason: Rejection, message: Digest32) -> Response {
    let status = match reason {
        Rejection::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Rejection::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let mut body = answer_body(&OrderAnswer::Refused(reason), message);
    body["title"] = "refused".into();
    body["status"] = status.as_u16().into();
    body["reference"] = message.to_string().into();
    (status, [(header::CONTENT_TYPE, PROBLEM)], body.to_string()).into_response()
}

/// A participant's own orders, and what its next one needs, on its signed question.
#[utoipa::path(
    post, path = "/api/v1/orders/query", tag = "signed",
    request_body(content = Vec<u8>, content_type = "application/cose", description = "COSE_Sign1 of a query"),
    responses((status = 200, body = Object))
)]
pub(super) async fn query(State(web): State<Web>, body: Bytes) -> Response {
    let (query, point) = match read_query(&web.shared, body.to_vec()) {
        Ok(read) => read,
        Err(reason) => return refused(reason, Digest32::of(&body)),
    };
    match answer(&web, query.message(), point).await {
        Ok(value) => Json(value).into_response(),
        Err(error) => broken("orders could not be read", &format!("{error:#}")),
    }
}

async fn answer(web: &Web, query: &OrderQuery, point: Option<String>) -> anyhow::Result<Value> {
    let (db, who) = (&web.shared.db, &query.participant);
    let orders = service::own_orders(db, who, query.from, query.to).await?;
    let next = service::next_sequence(db, who, AUTOPILOT_SEQUENCES).await?;
    let now = web.shared.clock.now();
    let open = next_to_close(&web.shared, now)?;
    let own = 1..AUTOPILOT_SEQUENCES;
    let next_standing = service::standing::next_sequence(db, who, own).await?;
    let standing = standing::of(&web.shared, who, now).await?;
    let standing: Vec<_> = standing.iter().map(|one| Row::of(one, now)).collect();
    Ok(json!({
        "participant": who.as_str(),
        "point": point,
        "next_sequence": next,
        "next_interval": open.start().to_string(),
        "interval_length_s": open.length_s(),
        "orders": orders.iter().map(shown).collect::<Vec<_>>(),
        "next_standing_sequence": next_standing,
        "standing_orders": standing,
    }))
}

fn shown(own: &OwnOrder) -> Value {
    let order = &own.order;
    let (filled_wh, reason) = own.result.as_ref().map(|(wh, why)| (wh.wh(), why)).unzip();
    json!({
        "order": own.id.to_string(),
        "sequence": order.sequence,
        "interval": order.interval.start().to_string(),
        "side": order.side.word(),
        "energy_wh": order.energy.wh(),
        "limit_price": order.limit.to_string(),
        "wishes": wishes(&order.preference),
        "state": state(own),
        "filled_wh": filled_wh,
        "reason": reason,
    })
}

/// What an order wishes beyond price; nothing where it only wants the best price.
fn wishes(preference: &Preference) -> Option<Value> {
    let premium = preference.green_premium;
    let named = preference.partners.iter().map(ToString::to_string);
    (!preference.is_none()).then(|| {
        json!({
            "partners": named.collect::<Vec<_>>(),
            "same_feeder": preference.same_feeder,
            "green": preference.green,
            "green_premium": (premium > Price::ZERO).then(|| premium.to_string()),
        })
    })
}

/// An order of one's own.
#[derive(serde::Serialize, ToSchema)]
pub(super) struct OrderRow {
    order: String,
    sequence: u64,
    #[schema(format = DateTime)]
    start: String,
    /// bid or offer.
    side: &'static str,
    energy_wh: i64,
    /// Token/kWh.
    limit_price: String,
    /// standing, withdrawn or cleared.
    state: &'static str,
    /// Energy traded, once cleared.
    filled_wh: Option<i64>,
    /// Why, once cleared.
    reason: Option<String>,
}

const COLUMNS: [&str; 9] = [
    "order",
    "sequence",
    "start",
    "side",
    "energy_wh",
    "limit_price",
    "state",
    "filled_wh",
    "reason",
];

impl From<&OwnOrder> for OrderRow {
    fn from(own: &OwnOrder) -> Self {
        let (filled_wh, reason) = own.result.clone().map(|(wh, why)| (wh.wh(), why)).unzip();
        OrderRow {
            order: own.id.to_string(),
            sequence: own.order.sequence,
            start: own.order.interval.start().to_string(),
            side: own.order.side.word(),
            energy_wh: own.order.energy.wh(),
            limit_price: own.order.limit.to_string(),
            state: state(own),
            filled_wh,
            reason,
        }
    }
}

const fn state(own: &OwnOrder) -> &'static str {
    match (own.stands, &own.result) {
        (false, _) => "withdrawn",
        (true, None) => "standing",
        (true, Some(_)) => "cleared",
    }
}

/// Which orders. With `interval` alone the answer is what anybody may know of that interval's gate, as in
/// `/intervals/{start}`, which is the described way to it.
#[derive(serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Only what starts at this time or later.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Only what starts before this time.
    #[param(format = DateTime)]
    to: Option<String>,
    /// Only what comes behind the last row of the page before: its `next`.
    after: Option<String>,
    /// Most rows on the page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    #[param(ignore)]
    interval: Option<String>,
}

/// One's own orders, newest interval first.
#[utoipa::path(
    get, path = "/api/v1/orders", tag = "market", params(Asked),
    responses(
        (status = 200, content((List<OrderRow> = "application/json"), (String = "text/csv")))
    )
)]
pub(super) async fn own(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(asked): Query<Asked>,
) -> Answer {
    if let Some(interval) = asked.interval {
        return Ok(public(&web, &interval).await);
    }
    let home = home(&viewer)?;
    let range = Range::new((asked.from, asked.to), asked.after, asked.limit);
    let span = range.read()?;
    // The last row of the page before: its interval's start and its order.
    let behind = span.after.as_deref().map(|after| after.split_once('/'));
    let behind = match behind {
        None => None,
        Some(Some((start, order))) => match (start.parse::<Timestamp>(), order) {
            (Ok(start), order) => Some((start, order.to_owned())),
            (Err(_), _) => return Err(Refused::no_page()),
        },
        Some(None) => return Err(Refused::no_page()),
    };
    let to = match &behind {
        Some((start, _)) => span.to.min(start.plus_s(1)),
        None => span.to,
    };
    let mut found = service::own_orders(&web.shared.db, home, span.from, to).await?;
    found.reverse();
    let mut rows: Vec<OrderRow> = found.iter().map(OrderRow::from).collect();
    if let Some((start, order)) = behind {
        let start = start.to_string();
        let last = rows
            .iter()
            .position(|row| row.start == start && row.order == order);
        rows.drain(..last.map_or(0, |last| last + 1));
    }
    rows.truncate(usize::try_from(span.limit).unwrap_or(usize::MAX));
    let name = |row: &OrderRow| format!("{}/{}", row.start, row.order);
    List::new(rows, span.limit, name).answer(wants, &COLUMNS)
}

/// What is public about the orders of an interval: whether it takes any, and once it is cleared, where its
/// book is.
async fn public(web: &Web, text: &str) -> Response {
    let interval = match interval_of(web, text) {
        Ok(interval) => interval,
        Err(response) => return *response,
    };
    let rules = &web.shared.market.rules;
    let state = match gate(web.shared.clock.now(), interval, rules) {
        Gate::NotYetOpen => "not_yet_open",
        Gate::Open => "open",
        Gate::Closed => "closed",
    };
    let start = interval.start();
    match service::has_public_book(&web.shared.db, interval).await {
        Ok(has_book) => Json(json!({
            "interval": start.to_string(),
            "gate": state,
            "gate_closes": closes_at(interval, rules).to_string(),
            "book": has_book.then(|| format!("/api/v1/markets/{start}/book")),
        }))
        .into_response(),
        Err(error) => broken("an interval could not be read", &error),
    }
}

/// The clearings, newest first, each with the digest of its public book.
#[utoipa::path(
    get, path = "/api/v1/markets", tag = "market", params(Range),
    responses((status = 200, content((Object = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn markets(
    State(web): State<Web>,
    wants: Wants,
    Query(range): Query<Range>,
) -> Answer {
    let span = range.read()?;
    let row = |clearing: &Clearing| {
        let text = |price: Option<domain::money::Price>| price.map(|price| price.to_string());
        json!({
            "interval": clearing.interval.start().to_string(),
            "mechanism": clearing.mechanism,
            "price_policy": clearing.price_policy,
            "price": text(clearing.price),
            "volume_wh": clearing.volume.wh(),
            "orders": clearing.orders,
            "trades": clearing.trades,
            "public_book": clearing.public_book.map(|digest| digest.to_string()),
        })
    };
    let found = service::clearings_page(&web.shared.db, span.before()?, span.limit).await?;
    let items: Vec<Value> = found.iter().map(row).collect();
    let name = |row: &Value| row["interval"].as_str().unwrap_or_default().to_owned();
    List::new(items, span.limit, name).answer(wants, &MARKET_COLUMNS)
}

const MARKET_COLUMNS: [&str; 8] = [
    "interval",
    "mechanism",
    "price_policy",
    "price",
    "volume_wh",
    "orders",
    "trades",
    "public_book",
];

/// The book of a cleared interval, exactly the bytes whose digest the clearing has.
#[utoipa::path(
    get, path = "/api/v1/markets/{interval}/book", tag = "market",
    params(("interval" = String, Path, format = DateTime, description = "Its start", example = "2026-06-21T12:00:00Z")),
    responses((status = 200, content_type = "application/json", body = Object))
)]
pub(super) async fn book(State(web): State<Web>, Path(start): Path<String>) -> Response {
    let interval = match interval_of(&web, &start) {
        Ok(interval) => interval,
        Err(response) => return *response,
    };
    match service::public_book(&web.shared.db, interval).await {
        Ok(Some(book)) => {
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, FOREVER),
            ];
            (headers, book).into_response()
        }
        Ok(None) => problem(
            StatusCode::NOT_FOUND,
            "This interval has no public book: it is not cleared, or was before there were any.",
        ),
        Err(error) => broken("a book could not be read", &error),
    }
}

/// The clearing of an interval, with the proof that the market log holds it.
#[utoipa::path(
    get, path = "/api/v1/markets/{interval}/clearing", tag = "market",
    params(("interval" = String, Path, format = DateTime, description = "Its start", example = "2026-06-21T12:00:00Z")),
    responses((status = 200, body = Object))
)]
pub(super) async fn clearing(State(web): State<Web>, Path(start): Path<String>) -> Response {
    let interval = match interval_of(&web, &start) {
        Ok(interval) => interval,
        Err(response) => return *response,
    };
    let (db, community) = (&web.shared.db, &web.shared.community);
    match settlement::service::clearing_record(db, community, interval).await {
        Ok(Some(record)) => Json(record).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "This interval is not cleared."),
        Err(error) => broken("a clearing could not be read", &error),
    }
}

/// What a run of an interval was made from, with the proof that the ledger log holds it.
#[utoipa::path(
    get, path = "/api/v1/markets/{interval}/runs/{run}", tag = "market",
    params(
        ("interval" = String, Path, format = DateTime, description = "Its start", example = "2026-06-21T12:00:00Z"),
        ("run" = String, Path, description = "provisional, initial, final or true_up", example = "provisional"),
    ),
    responses((status = 200, body = Object))
)]
pub(super) async fn run(
    State(web): State<Web>,
    Path((start, run)): Path<(String, String)>,
) -> Response {
    let interval = match interval_of(&web, &start) {
        Ok(interval) => interval,
        Err(response) => return *response,
    };
    let Some(run) = Run::ALL.into_iter().find(|known| known.word() == run) else {
        let why = "run: provisional, initial, final or true_up.";
        return problem(StatusCode::BAD_REQUEST, why);
    };
    let (db, community) = (&web.shared.db, &web.shared.community);
    match settlement::service::run_proof(db, community, interval, run).await {
        Ok(Some(proof)) => Json(proof).into_response(),
        Ok(None) => problem(
            StatusCode::NOT_FOUND,
            "This interval has had no such run yet, or one of a program that logged no inputs.",
        ),
        Err(error) => broken("a run's record could not be read", &error),
    }
}

fn interval_of(web: &Web, start: &str) -> Result<Interval, Box<Response>> {
    let length_s = web.shared.market.rules.interval_length_s;
    let start: Result<Timestamp, _> = start.parse();
    let interval = start.map(|start| Interval::new(start.unix_s(), length_s));
    match interval {
        Ok(Ok(interval)) => Ok(interval),
        Ok(Err(error)) => Err(Box::new(problem(
            StatusCode::BAD_REQUEST,
            &format!("interval: {error}."),
        ))),
        Err(error) => Err(Box::new(problem(
            StatusCode::BAD_REQUEST,
            &format!("interval: its start, like 2026-06-21T12:00:00Z: {error}."),
        ))),
    }
}
