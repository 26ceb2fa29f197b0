//! `/health` and `/metrics`: whether the market moves, and numbers for Prometheus.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use runtime::metrics::Page;
use serde::Serialize;
use utoipa::ToSchema;

use crate::view::alarms::Kind;
use crate::view::{Cleared, Street};
use crate::web::{Web, problem};

/// A checkpoint is fresh for so many intervals.
const FRESH_INTERVALS: i64 = 3;

/// That the market moves.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// ok
    status: &'static str,
}

/// What is wrong; none where the newest interval whose gate has closed is cleared, the ledger's newest
/// checkpoint is fresh, and the picture of the street is.
fn trouble(street: &Street, now: domain::time::Timestamp) -> Option<&'static str> {
    let interval_ms = i64::from(street.open.length_s()) * 1000;
    if now.ms_since(street.now) > interval_ms {
        return Some("The market has not moved for an interval.");
    }
    let cleared = street.cleared.as_ref().map(|cleared| cleared.interval);
    if cleared.is_none_or(|cleared| cleared < street.open.offset(-1)) {
        return Some("The newest interval whose gate has closed is not cleared.");
    }
    let signed = street.log.checkpoint_at;
    let fresh_ms = FRESH_INTERVALS * interval_ms;
    if signed.is_none_or(|signed| now.ms_since(signed) > fresh_ms) {
        return Some("The ledger has no checkpoint of the last three intervals.");
    }
    None
}

/// 200 while the newest due interval is cleared, the ledger's checkpoint is fresh, and no witness contradicts the
/// books; 503 otherwise.
#[utoipa::path(
    get, path = "/health", tag = "service", responses((status = 200, body = Health))
)]
pub(crate) async fn health(State(web): State<Web>) -> Response {
    if let Some(why) = web.shared.watch.alarm() {
        let told = format!("The market stands still: {why}.");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &told);
    }
    let street = web.street.borrow().clone();
    match trouble(&street, web.shared.clock.now()) {
        None => Json(Health { status: "ok" }).into_response(),
        Some(why) => problem(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// Requests since the start, by the first digit of their answer.
#[derive(Default)]
pub(crate) struct Requests([AtomicU64; 6]);

impl Requests {
    /// Counts one more.
    pub(crate) fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(counter) = self.0.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Numbers for Prometheus. They are of the community, never of a home.
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(crate) async fn metrics(State(web): State<Web>) -> Response {
    let street = web.street.borrow().clone();
    let now = web.shared.clock.now();
    let mut page = Page::new("commonwatt");
    let one = |value: i64| [(vec![], value)];
    let healthy = trouble(&street, now).is_none() && web.shared.watch.alarm().is_none();
    let healthy = i64::from(healthy);
    page.gauge("healthy", "1 while /health says ok", one(healthy));
    page.gauge(
        "participants",
        "Households of the community",
        one(count(street.homes.len())),
    );
    let logs = [
        ("readings", street.log.readings),
        ("market", street.log.market),
        ("ledger", street.log.ledger),
    ];
    let sizes = logs.map(|(log, size)| (vec![("log", log.to_owned())], signed(size)));
    page.gauge(
        "log_entries",
        "Leaves under each log's newest checkpoint",
        sizes,
    );
    if let Some(at) = street.log.checkpoint_at {
        let age_s = now.ms_since(at) / 1000;
        page.gauge(
            "checkpoint_age_seconds",
            "Community time since the ledger's newest checkpoint",
            one(age_s),
        );
    }
    if let Some(cleared) = &street.cleared {
        auction(&mut page, cleared);
    }
    let board = web.alarms.lock().unwrap_or_else(PoisonError::into_inner);
    let open = Kind::ALL.map(|kind| {
        let label = vec![("alarm", kind.word().to_owned())];
        (label, i64::from(board.open.contains_key(&kind)))
    });
    drop(board);
    page.gauge("alarm", "1 while an alarm is open", open);
    let listening = web.listeners.count();
    page.gauge("listeners", "Open streams of events", one(count(listening)));
    let classes = web.requests.0.iter().enumerate().skip(1);
    let classes = classes.map(|(class, counter)| {
        let label = vec![("class", format!("{class}xx"))];
        (label, counter.load(Ordering::Relaxed))
    });
    page.counter(
        "requests",
        "Answers since the start, by class of status",
        classes,
    );
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], page.render()).into_response()
}

/// Numbers of the newest auction.
fn auction(page: &mut Page, cleared: &Cleared) {
    let one = |value: i64| [(vec![], value)];
    let (start, volume) = (cleared.interval.start_s(), cleared.volume.wh());
    page.gauge(
        "cleared_interval_start_seconds",
        "Newest cleared interval",
        one(start),
    );
    page.gauge(
        "cleared_volume_watt_hours",
        "Energy traded in it",
        one(volume),
    );
    page.gauge(
        "cleared_orders",
        "Orders in its book",
        one(count(cleared.orders.len())),
    );
    if let Some(price) = cleared.price {
        let micro = price.micro_per_kwh();
        page.gauge(
            "cleared_price_micro_tokens_per_kwh",
            "Its price",
            one(micro),
        );
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
