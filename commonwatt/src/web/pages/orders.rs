//! `/home/orders`: what is ordered, what became of it, and the wishes that stand over many intervals.

mod standing;

pub(super) use standing::{place, withdraw};

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::Response;
use domain::ids::ParticipantId;
use domain::money::Price;
use domain::order::{Order, Preference, Side};
use domain::time::Interval;
use market_engine::service::{self as market, OwnOrder};
use maud::{Markup, html};

use super::Ask;
use crate::platform::standing::{STANDING_SEQUENCES, Shown};
use crate::platform::{ACCOUNT_SEQUENCES, AUTOPILOT_SEQUENCES, preferences};
use crate::web::layout::Page;
use crate::web::words::Words;
use standing::Asked;

/// How far back orders are listed, and for how many intervals the local price is looked up.
const PAST_S: i64 = 86_400;
const PRICES: u32 = 200;
/// How far ahead an order can be.
const AHEAD_S: i64 = 2 * 86_400;
/// Past orders that are seen at once.
const NEWEST: usize = 12;
/// Most past orders on the page.
const SHOWN_MAX: usize = 100;

struct Data {
    /// Oldest interval first.
    orders: Vec<OwnOrder>,
    prices: BTreeMap<Interval, Option<Price>>,
    standing: Vec<Shown>,
    /// Most that the autopilot pays: what a new wish begins with.
    max_buy: Price,
}

pub(super) async fn show(ask: Ask) -> Result<Response, Response> {
    let home = ask.home()?;
    page_of(&ask, &home, None).await
}

/// The page, with what was typed and what was wrong with it.
async fn page_of(
    ask: &Ask,
    home: &ParticipantId,
    typed: Option<(&Asked, &str)>,
) -> Result<Response, Response> {
    let read = read(ask, home).await;
    let data = read.map_err(|error| ask.failed("orders could not be read", &error))?;
    let mut response = ask.show(&page(ask, home, &data, typed));
    if typed.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

async fn read(ask: &Ask, home: &ParticipantId) -> anyhow::Result<Data> {
    let (shared, now) = (&ask.web.shared, ask.street.now);
    let (from, to) = (now.plus_s(-PAST_S), now.plus_s(AHEAD_S));
    let clearings = market::recent_clearings(&shared.db, PRICES).await?;
    let wishes = preferences::of(shared, home).await?;
    Ok(Data {
        orders: market::own_orders(&shared.db, home, from, to).await?,
        prices: clearings.iter().map(|c| (c.interval, c.price)).collect(),
        standing: crate::platform::standing::of(shared, home, now).await?,
        max_buy: wishes.map_or(Price::ZERO, |wishes| wishes.max_buy),
    })
}

fn is_open(own: &&OwnOrder) -> bool {
    own.stands && own.result.is_none()
}

fn page(ask: &Ask, home: &ParticipantId, data: &Data, typed: Option<(&Asked, &str)>) -> Page {
    let (words, street) = (&ask.words, &ask.street);
    let open: Vec<&OwnOrder> = data.orders.iter().filter(is_open).collect();
    let past = data.orders.iter().rev().filter(|own| !is_open(own));
    let past: Vec<&OwnOrder> = past.take(SHOWN_MAX).collect();
    let answer = match open.as_slice() {
        [] => words.t("orders.none").to_owned(),
        [one] => sentence(words, &one.order),
        many => words.fill("orders.many", &[("n", &many.len().to_string())]),
    };
    Page {
        title: words.t("orders.title").to_owned(),
        above: format!("{} · {home}", words.t("orders.title")),
        answer,
        below: html! { (words.fill("orders.gate", &[
            ("interval", &words.interval(street.open)), ("time", &words.clock(street.gate_closes)),
        ])) " " a href="/home/preferences" { (words.t("home.change_autopilot")) } },
        body: html! {
            @if let Some((_, wrong)) = typed { p.wrong role="alert" { (wrong) } }
            section.card {
                h2 { (words.t("orders.open")) }
                @if open.is_empty() { p.empty { (words.t("orders.none_why")) } } @else { (table(words, &open, data)) }
            }
            (standing::sections(ask, home, data, typed.map(|(asked, _)| asked)))
            section.card {
                h2 { (words.t("orders.past")) " " small { (words.t("grid.last_day")) } }
                @let (newest, earlier) = past.split_at(past.len().min(NEWEST));
                @if past.is_empty() { p.empty { (words.t("orders.no_past")) } } @else { (table(words, newest, data)) }
                @if !earlier.is_empty() { details { summary { (words.t("orders.earlier")) } (table(words, earlier, data)) } }
            }
        },
        live: None,
    }
}

/// `Sells 0.12 kWh from 8.0 ct/kWh, 12:15–12:30.`
fn sentence(words: &Words, order: &Order) -> String {
    let key = match order.side {
        Side::Offer => "orders.one_sells",
        Side::Bid => "orders.one_buys",
    };
    words.fill(
        key,
        &[
            ("energy", &words.energy(order.energy)),
            ("price", &words.price(order.limit)),
            ("interval", &words.interval(order.interval)),
        ],
    )
}

/// What an order is: buy or sell, how much, at which limit.
fn terms(words: &Words, side: Side, energy: domain::energy::Energy, limit: Price) -> String {
    let key = match side {
        Side::Offer => "orders.sell",
        Side::Bid => "orders.buy",
    };
    words.fill(
        key,
        &[
            ("energy", &words.energy(energy)),
            ("price", &words.price(limit)),
        ],
    )
}

fn table(words: &Words, orders: &[&OwnOrder], data: &Data) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(words.t("orders.title")) { table {
            thead { tr {
                th { (words.t("chart.interval")) } th { (words.t("orders.order")) } th.n { (words.t("chart.traded")) }
                th.n { (words.t("chart.local_price")) } th { (words.t("orders.outcome")) } th { (words.t("orders.by")) }
            } }
            tbody { @for own in orders {
                @let order = &own.order;
                @let price = data.prices.get(&order.interval).copied().flatten();
                tr {
                    td { (words.interval(order.interval)) }
                    td.fold { (terms(words, order.side, order.energy, order.limit)) (wishes(words, &order.preference)) }
                    td.n { @match &own.result { Some((filled, _)) => (words.energy(*filled)), None => "–" } }
                    td.n { @match price { Some(price) => (words.price(price)), None => "–" } }
                    td.wrap { (outcome(words, own, price)) }
                    td { (by(words, order.sequence)) }
                }
            } }
        } }
    }
}

/// What an order wishes beyond price.
fn wishes(words: &Words, wishes: &Preference) -> Markup {
    let mut said = Vec::new();
    if !wishes.partners.is_empty() {
        let names: Vec<&str> = wishes.partners.iter().map(ParticipantId::as_str).collect();
        said.push(words.fill("orders.partners", &[("names", &names.join(", "))]));
    }
    if wishes.same_feeder {
        said.push(words.t("orders.same_feeder").to_owned());
    }
    if wishes.green_premium > Price::ZERO {
        let premium = words.price(wishes.green_premium);
        said.push(words.fill("orders.premium", &[("price", &premium)]));
    }
    if wishes.green {
        said.push(words.t("orders.green").to_owned());
    }
    html! { @if !said.is_empty() { br; small { (said.join(", ")) } } }
}

fn outcome(words: &Words, own: &OwnOrder, price: Option<Price>) -> &'static str {
    let order = &own.order;
    if !own.stands {
        return words.t("orders.withdrawn");
    }
    let Some((filled, _)) = &own.result else {
        return words.t("orders.waits");
    };
    let beyond = price.is_some_and(|price| match order.side {
        Side::Bid => order.limit < price,
        Side::Offer => order.limit > price,
    });
    match (filled.wh(), price) {
        (0, None) => words.t("orders.no_price"),
        (0, _) if beyond => words.t("orders.beyond"),
        (0, _) => words.t("orders.outbid"),
        (_, _) if *filled == order.energy => words.t("orders.all"),
        _ => words.t("orders.part"),
    }
}

/// Who has placed it: the numbers say so.
fn by(words: &Words, sequence: u64) -> &'static str {
    match sequence {
        0..AUTOPILOT_SEQUENCES | ACCOUNT_SEQUENCES..STANDING_SEQUENCES => words.t("orders.by_me"),
        AUTOPILOT_SEQUENCES..ACCOUNT_SEQUENCES => words.t("home.autopilot"),
        STANDING_SEQUENCES.. => words.t("orders.by_standing"),
    }
}
