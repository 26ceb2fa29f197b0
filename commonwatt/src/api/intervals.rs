//! `/api/v1/intervals`: what anybody may see of each interval: gate, price, volume, and what it came to.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::time::{Interval, Timestamp};
use domain::trade::Clearing;
use market_engine::market::{Gate, closes_at, gate};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, List, Range, Refused, Wants, time};
use super::feeders::HOMES_MIN;
use crate::web::Web;

/// A cleared interval.
#[derive(Serialize, ToSchema)]
pub(super) struct Cleared {
    #[schema(format = DateTime)]
    start: String,
    length_s: u32,
    /// The one price in token/kWh; none where nothing was traded.
    #[schema(example = "0.132000")]
    price: Option<String>,
    /// Energy traded in watt-hours.
    volume_wh: i64,
    orders: u32,
    trades: u32,
    mechanism: String,
    price_policy: String,
}

const COLUMNS: [&str; 8] = [
    "start",
    "length_s",
    "price",
    "volume_wh",
    "orders",
    "trades",
    "mechanism",
    "price_policy",
];

impl Cleared {
    fn of(clearing: Clearing) -> Cleared {
        Cleared {
            start: time(clearing.interval.start()),
            length_s: clearing.interval.length_s(),
            price: clearing.price.map(|price| price.to_string()),
            volume_wh: clearing.volume.wh(),
            orders: clearing.orders,
            trades: clearing.trades,
            mechanism: clearing.mechanism,
            price_policy: clearing.price_policy,
        }
    }
}

/// The cleared intervals, newest first.
#[utoipa::path(
    get, path = "/api/v1/intervals", tag = "market", params(Range),
    responses((status = 200, content((List<Cleared> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    wants: Wants,
    Query(range): Query<Range>,
) -> Answer {
    let span = range.read()?;
    let db = &web.shared.db;
    let page = market_engine::service::clearings_page(db, span.before()?, span.limit).await?;
    let items = page.into_iter().map(Cleared::of).collect();
    List::new(items, span.limit, |row: &Cleared| row.start.clone()).answer(wants, &COLUMNS)
}

/// One interval, with what is known of it now.
#[derive(Serialize, ToSchema)]
pub(super) struct OneInterval {
    #[schema(format = DateTime)]
    start: String,
    #[schema(format = DateTime)]
    end: String,
    /// not_yet_open, open, closed (not cleared yet), cleared, or settled.
    state: &'static str,
    #[schema(format = DateTime)]
    gate_closes: String,
    /// What the utility asks for energy, all in, in token/kWh.
    retail: String,
    /// What the utility pays for energy.
    feed_in: String,
    /// The clearing; none before there is one.
    clearing: Option<Cleared>,
    /// Lowest and highest price at which the same trades are an equilibrium.
    price_low: Option<String>,
    price_high: Option<String>,
    /// Why the price is what it is.
    explanation: Option<String>,
    /// Metered at all homes together; none before it is known, and where there are fewer than five.
    homes_import_wh: Option<i64>,
    homes_export_wh: Option<i64>,
    /// Where the book is that anybody can clear again.
    book: Option<String>,
}

/// One interval by its start.
#[utoipa::path(
    get, path = "/api/v1/intervals/{start}", tag = "market",
    params(("start" = String, Path, format = DateTime, description = "Its start", example = "2026-06-21T12:00:00Z")),
    responses((status = 200, body = OneInterval))
)]
pub(super) async fn one(State(web): State<Web>, Path(start): Path<String>) -> Answer {
    let shared = &web.shared;
    let interval = interval(&web, &start)?;
    let rules = &shared.market.rules;
    let page = (interval.start(), interval.end());
    let clearing = market_engine::service::clearings_page(&shared.db, page, 1).await?;
    let clearing = clearing.into_iter().next();
    let data = settlement::service::data_page(&shared.db, page, 1).await?;
    let data = data.first().filter(|data| data.connections >= HOMES_MIN);
    let lines = settlement::service::recent_lines(&shared.db, interval).await?;
    let state = match (gate(shared.clock.now(), interval, rules), &clearing) {
        _ if !lines.is_empty() => "settled",
        (_, Some(_)) => "cleared",
        (Gate::NotYetOpen, None) => "not_yet_open",
        (Gate::Open, None) => "open",
        (Gate::Closed, None) => "closed",
    };
    let text = |price: Option<domain::money::Price>| price.map(|price| price.to_string());
    let has_book = clearing.as_ref().is_some_and(|c| c.public_book.is_some());
    let start = interval.start();
    let tariff = shared.site.tariff_at(interval);
    Ok(Json(OneInterval {
        start: time(start),
        end: time(interval.end()),
        state,
        gate_closes: time(closes_at(interval, rules)),
        retail: tariff.retail.to_string(),
        feed_in: tariff.feed_in.to_string(),
        price_low: text(clearing.as_ref().and_then(|c| c.price_low)),
        price_high: text(clearing.as_ref().and_then(|c| c.price_high)),
        explanation: clearing.as_ref().map(explanation),
        clearing: clearing.map(Cleared::of),
        homes_import_wh: data.map(|data| data.imported_wh),
        homes_export_wh: data.map(|data| data.exported_wh),
        book: has_book.then(|| format!("/api/v1/markets/{start}/book")),
    })
    .into_response())
}

fn explanation(clearing: &Clearing) -> String {
    let (Some(price), volume) = (clearing.price, clearing.volume.wh()) else {
        return match clearing.orders {
            0 => "Nobody had ordered, so nothing was traded.".to_owned(),
            n => format!("No bid was as high as an offer among {n} orders, so nothing was traded."),
        };
    };
    let range = match (clearing.price_low, clearing.price_high) {
        (Some(low), Some(high)) if low < high => format!(
            "At every price from {low} to {high} token/kWh the same {volume} Wh find both buyers and sellers"
        ),
        _ => format!(
            "At {price} token/kWh the most energy, {volume} Wh, finds both buyers and sellers"
        ),
    };
    format!(
        "{range}; {} sets {price} for all {} trades.",
        clearing.price_policy, clearing.trades
    )
}

/// The community's interval that starts then.
pub(super) fn interval(web: &Web, start: &str) -> Result<Interval, Refused> {
    let length_s = web.shared.market.rules.interval_length_s;
    let start: Result<Timestamp, _> = start.parse();
    let start = start
        .map_err(|error| Refused::bad(&format!("start: like 2026-06-21T12:00:00Z: {error}.")))?;
    Interval::new(start.unix_s(), length_s)
        .ok()
        .filter(|interval| interval.start() == start)
        .ok_or_else(|| {
            let detail = format!("No interval of {length_s} s starts then.");
            Refused::new(StatusCode::NOT_FOUND, &detail)
        })
}
