//! `/home/market`: what local energy costs now, since yesterday, and where my limits are.

use axum::extract::Query;
use axum::response::Response;
use domain::money::Price;
use domain::time::Interval;
use domain::trade::Clearing;
use market_engine::forecast::{Confidence, PriceForecast, forecast_price};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Ask, csv};
use crate::view::{OrderLine, PricePoint, Street, calendar};
use crate::web::chart::{self, Ahead, AheadPoint, Prices};
use crate::web::layout::Page;
use crate::web::words::Words;

/// Clearings from which prices to come are expected: two weeks of quarter-hours.
const POINTS_MAX: u32 = 1_344;
/// Intervals to come in the picture.
const AHEAD: i64 = 48;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    format: String,
}

pub(super) async fn show(ask: Ask, asked: Query<Asked>) -> Result<Response, Response> {
    let home = ask.home()?;
    let recent = market_engine::service::recent_clearings(&ask.web.shared.db, POINTS_MAX).await;
    let recent = recent.map_err(|error| ask.failed("prices could not be read", &error))?;
    let ahead = ahead(&ask.street, &recent);
    let points = since_yesterday(&ask.words, &ask.street, recent);
    if asked.format == "csv" {
        return Ok(csv("local-price", &lines(&points)));
    }
    let wishes = crate::platform::preferences::of(&ask.web.shared, &home).await;
    let wishes = wishes.map_err(|error| ask.failed("preferences could not be read", &error))?;
    let Some(wishes) = wishes else {
        return Err(ask.missing());
    };
    let (words, street) = (&ask.words, &ask.street);
    let shown = Prices {
        title: words.t("market.title").to_owned(),
        points: &points,
        retail: street.retail,
        feed_in: street.feed_in,
        limits: Some((wishes.max_buy, wishes.min_sell)),
        now: street.now,
        csv: Some("/home/market?format=csv".to_owned()),
    };
    let own = street.orders.iter().find(|order| order.participant == home);
    let page = Page {
        title: words.t("nav.market").to_owned(),
        above: words.long_date(calendar::date(words.zone, street.now)),
        answer: answer(words, street, &points),
        below: below(words, street),
        body: html! {
            section.card {
                @if points.is_empty() { p.empty { (words.t("street.no_price_yet")) } }
                @else { (chart::figure(words, &chart::prices(words, &shown))) }
            }
            section.card { (to_come(words, street, &ahead)) }
            div.two {
                section.card { (limits(words, wishes.max_buy, wishes.min_sell)) }
                section.card { (next(words, street, own)) }
            }
        },
        live: None,
    };
    Ok(ask.show(&page))
}

/// What is expected of the intervals whose gates are still open, as far as there is anything to go by.
fn ahead(street: &Street, recent: &[Clearing]) -> Vec<(Interval, PriceForecast)> {
    let past: Vec<(Interval, Price)> = recent
        .iter()
        .filter_map(|clearing| Some((clearing.interval, clearing.price?)))
        .collect();
    let intervals = (0..AHEAD).map(|n| street.open.offset(n));
    intervals
        .filter_map(|interval| Some((interval, forecast_price(interval, &past)?)))
        .collect()
}

/// The picture of it, with how sure it is in a sentence.
fn to_come(words: &Words, street: &Street, ahead: &[(Interval, PriceForecast)]) -> Markup {
    let point = |(interval, expected): &(Interval, PriceForecast)| AheadPoint {
        interval: *interval,
        price: expected.mid,
        band: Some((expected.low, expected.high)),
        local_permille: None,
        planned: false,
    };
    let points: Vec<AheadPoint> = ahead.iter().map(point).collect();
    let title = words.t("market.to_come").to_owned();
    let Some((_, first)) = ahead.first() else {
        return html! { h2 { (title) } p.empty { (words.t("market.to_come_none")) } };
    };
    let least = ahead.iter().map(|(_, expected)| expected.confidence).min();
    let sure = match least.unwrap_or(first.confidence) {
        Confidence::Rough => "market.sure_rough",
        Confidence::Fair => "market.sure_fair",
        Confidence::Good => "market.sure_good",
    };
    let shown = Ahead {
        title,
        points: &points,
        price_key: "market.expected",
        now: street.now,
        csv: None,
    };
    html! {
        (chart::figure(words, &chart::ahead(words, &shown)))
        p.hint { (words.fill(sure, &[("days", &first.days.to_string())])) }
    }
}

/// The clearings since yesterday began, oldest first.
fn since_yesterday(words: &Words, street: &Street, mut recent: Vec<Clearing>) -> Vec<PricePoint> {
    let today = calendar::day(words.zone, calendar::date(words.zone, street.now)).from;
    let yesterday = calendar::date(words.zone, today.plus_ms(-1));
    let from = calendar::day(words.zone, yesterday).from;
    recent.retain(|clearing| clearing.interval.start() >= from);
    recent.sort_by_key(|clearing| clearing.interval);
    let point = |clearing: Clearing| PricePoint {
        interval: clearing.interval,
        price: clearing.price,
        volume: clearing.volume,
    };
    recent.into_iter().map(point).collect()
}

fn lines(points: &[PricePoint]) -> Vec<String> {
    let line = |point: &PricePoint| {
        let price = point
            .price
            .map_or_else(String::new, |price| price.to_string());
        let (from, to) = (point.interval.start(), point.interval.end());
        format!("{from},{to},{price},{}", point.volume.wh())
    };
    std::iter::once("interval_start,interval_end,price_per_kwh,traded_wh".to_owned())
        .chain(points.iter().map(line))
        .collect()
}

fn answer(words: &Words, street: &Street, points: &[PricePoint]) -> String {
    let now = points
        .iter()
        .find(|point| point.interval.contains(street.now));
    match now.map(|point| (point.interval, point.price)) {
        Some((interval, Some(price))) => words.fill(
            "market.price_now",
            &[
                ("price", &words.price(price)),
                ("time", &words.clock(interval.end())),
            ],
        ),
        Some((interval, None)) => words.fill(
            "market.no_trade_now",
            &[("time", &words.clock(interval.end()))],
        ),
        None => words.t("market.not_begun").to_owned(),
    }
}

fn below(words: &Words, street: &Street) -> Markup {
    html! { (words.fill("market.utility", &[
        ("retail", &words.price(street.retail)), ("feed_in", &words.price(street.feed_in)),
    ])) }
}

fn limits(words: &Words, max_buy: domain::money::Price, min_sell: domain::money::Price) -> Markup {
    html! {
        h2 { (words.t("market.my_limits")) }
        dl.facts {
            dt { (words.t("market.buy_limit")) } dd { (words.price(max_buy)) }
            dt { (words.t("market.sell_limit")) } dd { (words.price(min_sell)) }
        }
        p { a href="/home/preferences" { (words.t("home.change_autopilot")) } }
    }
}

fn next(words: &Words, street: &Street, own: Option<&OrderLine>) -> Markup {
    let interval = words.interval(street.open);
    let left_ms = street.gate_closes.ms_since(street.now).max(0);
    let left = words.lasting((left_ms + 59_999) / 60_000);
    html! {
        h2 { (words.t("market.next")) }
        p.big { (words.fill("market.gate", &[
            ("interval", &interval), ("time", &words.clock(street.gate_closes)), ("left", &left),
        ])) }
        @match own {
            Some(order) => {
                @let word = match order.side {
                    domain::order::Side::Bid => "market.you_buy",
                    domain::order::Side::Offer => "market.you_sell",
                };
                p { (words.fill(word, &[
                    ("energy", &words.energy(order.energy)), ("price", &words.price(order.limit)),
                ])) }
            }
            None => { p.empty { (words.t("market.no_order_yet")) } }
        }
    }
}
