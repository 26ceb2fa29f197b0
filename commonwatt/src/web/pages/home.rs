//! `/home`: did I earn, is all well.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use domain::ids::ParticipantId;
use domain::money::Money;
use domain::order::Side;
use domain::time::Timestamp;
use maud::{Markup, html};
use settlement::service::TokenRequest;

use super::{Ask, flow, section, tokens};
use crate::view::energy::HomeEnergy;
use crate::view::{Home, OrderLine, Street, TradeLine, calendar, energy, stations};
use crate::web::chart;
use crate::web::layout::{Page, first_lines};
use crate::web::words::Words;
use crate::web::{Section, live};

/// Trades on the page.
const TRADES: u32 = 4;

struct Data {
    id: ParticipantId,
    trades: Vec<TradeLine>,
    today: calendar::Span,
    energy: HomeEnergy,
    /// What is asked for in the home's name, newest first.
    requests: Vec<TokenRequest>,
    /// People's time.
    people: Timestamp,
    /// Whether it has a part of a charging station.
    has_station: bool,
}

pub(super) async fn show(ask: Ask) -> Result<Response, Response> {
    let id = ask.home()?;
    let data = read(&ask, id).await;
    let data = data.map_err(|error| ask.failed("a home could not be read", &error))?;
    let Some(home) = ask.street.homes.iter().find(|home| home.id == data.id) else {
        return Err(ask.missing());
    };
    Ok(ask.show(&page(&ask.words, &ask.street, home, &data)))
}

async fn read(ask: &Ask, id: ParticipantId) -> anyhow::Result<Data> {
    let (shared, street) = (&ask.web.shared, &ask.street);
    let zone = ask.words.zone;
    let today = calendar::day(zone, calendar::date(zone, street.now));
    let from = street.now.plus_s(-7 * 86_400);
    let until = street.open.end();
    let trades = market_engine::service::trades_of(&shared.db, &id, from, until, TRADES).await?;
    Ok(Data {
        trades: trades
            .into_iter()
            .map(crate::platform::trade_line)
            .collect(),
        energy: energy::read(shared, &id, today).await?,
        requests: settlement::service::token_requests(&shared.db, Some(&id)).await?,
        people: ask.web.accounts.now(),
        has_station: stations::has_any(&shared.site, &ask.viewer),
        today,
        id,
    })
}

pub(super) async fn events(ask: Ask) -> Result<Response, Response> {
    let id = ask.home()?;
    let words = ask.words.clone();
    let sections = move |street: Arc<Street>| {
        let home = street.homes.iter().find(|home| home.id == id);
        std::future::ready(home.map_or_else(Vec::new, |home| sections(&words, &street, home)))
    };
    Ok(live(ask.web, &ask.viewer, sections).into_response())
}

fn sections(words: &Words, street: &Street, home: &Home) -> Vec<Section> {
    let head = head(words, street, home, html! {});
    vec![
        section("answer", first_lines(&head)),
        section("now", now(words, street, home)),
        section("autopilot", autopilot(words, street, home)),
        section("money", money(words, street, home)),
    ]
}

fn page(words: &Words, street: &Street, home: &Home, data: &Data) -> Page {
    let body = html! {
        @if let Some(change) = tokens::payout_change(&data.requests, data.people) { (tokens::notice(words, change)) }
        div.two {
            section.card id="now" aria-label=(words.t("home.now")) { (now(words, street, home)) }
            div.stack {
                section.card id="autopilot" aria-label=(words.t("home.autopilot")) { (autopilot(words, street, home)) }
                section.card aria-label=(words.t("home.trades")) { (trades(words, street, data)) }
            }
        }
        section.card aria-label=(words.t("home.today")) { (today(words, street, data)) }
        section.card id="money" aria-label=(words.t("home.money")) { (money(words, street, home)) }
        p.ways-on {
            a.button href="/home/letter" { (words.t("home.to_letter")) }
            a.button href="/charge" { (words.t("home.to_charge")) }
            a.button href="/home/orders" { (words.t("home.to_orders")) }
            @if data.has_station { a.button href="/stations" { (words.t("stations.title")) } }
            a.button href="/home/preferences" { (words.t("home.change_autopilot")) }
        }
    };
    head(words, street, home, body)
}

fn head(words: &Words, street: &Street, home: &Home, body: Markup) -> Page {
    let date = calendar::date(words.zone, street.now);
    Page {
        title: words.t("nav.home").to_owned(),
        above: format!("{} · {}", words.long_date(date), home.id),
        answer: answer(words, home),
        below: below(words, street, home),
        body,
        live: Some("/home/events".into()),
    }
}

fn better(home: &Home) -> Money {
    let difference = home.day.net.checked_sub(home.day.utility_alone);
    difference.unwrap_or(Money::ZERO)
}

/// The first line is money, and the same money as on the statement.
fn answer(words: &Words, home: &Home) -> String {
    let day = &home.day;
    if day.imported.wh() == 0 && day.exported.wh() == 0 {
        return words.t("home.nothing_yet").to_owned();
    }
    let key = if day.net.nano() < 0 {
        "home.cost"
    } else {
        "home.earned"
    };
    words.fill(key, &[("amount", &words.money_abs(day.net))])
}

fn below(words: &Words, street: &Street, home: &Home) -> Markup {
    let until = words.clock(street.settled);
    let better = better(home);
    let key = match better.nano() {
        0 => "home.same",
        n if n > 0 => "home.better",
        _ => "home.worse",
    };
    let text = words.fill(
        key,
        &[("amount", &words.money_abs(better)), ("time", &until)],
    );
    html! { (text) " " a href="#money" { (words.t("home.how")) } }
}

fn now(words: &Words, street: &Street, home: &Home) -> Markup {
    let local = street.feeder_w.map(|w| w.value < 0);
    let (class, word) = match local {
        Some(true) => ("banner local", "home.local_sun"),
        Some(false) => ("banner drawn", "home.no_local_sun"),
        None => ("banner unknown", "home.local_unknown"),
    };
    html! {
        h2 { (words.t("home.now")) }
        (flow::flow(words, street, home))
        p class=(class) { (words.t(word)) }
    }
}

fn autopilot(words: &Words, street: &Street, home: &Home) -> Markup {
    let own = |orders: &[OrderLine]| orders.iter().find(|o| o.participant == home.id).cloned();
    let (ordered, suggested) = (own(&street.orders), own(&street.suggestions));
    let (interval, gate) = (words.interval(street.open), words.clock(street.gate_closes));
    let line = |key: &'static str, order: &OrderLine| {
        words.fill(
            key,
            &[
                ("energy", &words.energy(order.energy)),
                ("price", &words.price(order.limit)),
                ("interval", &interval),
                ("time", &gate),
            ],
        )
    };
    html! {
        h2 { (words.t("home.autopilot")) }
        p.big {
            @match (&ordered, &suggested) {
                (Some(order), _) if order.side == Side::Offer => (line("home.selling", order)),
                (Some(order), _) => (line("home.buying", order)),
                (None, Some(order)) if order.side == Side::Offer => (line("home.suggests_selling", order)),
                (None, Some(order)) => (line("home.suggests_buying", order)),
                (None, None) => (words.fill("home.waits", &[("interval", &interval), ("time", &gate)])),
            }
        }
        @if let Some(cleared) = &street.cleared {
            @let own = cleared.orders.iter().find(|o| o.participant == home.id);
            @if let (Some(order), Some(price)) = (own, cleared.price) {
                p { (traded(words, order, &words.interval(cleared.interval), &words.price(price))) }
            }
        }
        p { a href="/home/orders" { (words.t("home.to_orders")) } " · "
            a href="/home/preferences" { (words.t("home.change_autopilot")) } }
    }
}

fn traded(words: &Words, order: &OrderLine, interval: &str, price: &str) -> String {
    let filled = order.filled.unwrap_or_default();
    let key = match (order.side, filled.wh()) {
        (_, 0) => "home.did_not_trade",
        (Side::Offer, _) => "home.sold_for",
        (Side::Bid, _) => "home.bought_for",
    };
    words.fill(
        key,
        &[
            ("interval", interval),
            ("energy", &words.energy(filled)),
            ("price", price),
        ],
    )
}

fn trades(words: &Words, street: &Street, data: &Data) -> Markup {
    html! {
        h2 { (words.t("home.trades")) }
        @if data.trades.is_empty() {
            p.empty { (words.fill("home.no_trades", &[("time", &words.clock(street.gate_closes))])) }
        } @else {
            ul.rows { @for trade in &data.trades { li { (trade_row(words, &data.id, trade)) } } }
            p { a href="/home/trades" { (words.t("home.all_trades")) } }
        }
    }
}

/// One trade as a row that leads to its reasons.
pub(super) fn trade_row(words: &Words, home: &ParticipantId, trade: &TradeLine) -> Markup {
    let word = if trade.seller == *home {
        words.t("trade.sold")
    } else {
        words.t("trade.bought")
    };
    html! {
        a.row href=(format!("/home/trades/{}", trade.id)) {
            span.sign.neighbours {}
            span.time { (words.interval(trade.interval)) }
            span.what { (word) " " b { (words.energy(trade.energy)) } }
            span.price { (words.price(trade.price)) }
            span.why { (words.t("trade.why")) }
        }
    }
}

fn today(words: &Words, street: &Street, data: &Data) -> Markup {
    let (now, length_s) = (street.now, street.open.length_s());
    let bars = super::energy::bars_of_day(words, &data.energy, data.today, (now, length_s));
    let title = words.t("home.today").to_owned();
    let csv = Some("/home/energy?format=csv".to_owned());
    html! {
        (chart::patterns())
        @if data.energy.intervals.is_empty() { h2 { (title) } p.empty { (words.t("energy.none")) } }
        @else { (chart::figure(words, &chart::energy(words, title, &bars, 8, csv))) }
    }
}

/// The sum of the first line, row by row, beside what the utility alone would have been.
fn money(words: &Words, street: &Street, home: &Home) -> Markup {
    let day = &home.day;
    let paid = |money: Money| Money::from_nano(money.nano().saturating_neg());
    let rows = [
        (words.t("money.sold"), day.sold),
        (words.t("money.bought"), paid(day.bought)),
        (words.t("money.fees"), paid(day.fees)),
        (words.t("money.pool"), day.pool),
        (words.t("money.utility"), day.utility),
    ];
    // With prices that change in the day the sum is no single equation.
    let alone = day.prices.map(|(retail, feed_in)| {
        words.fill(
            "home.utility_alone_how",
            &[
                ("imported", &words.energy(day.imported)),
                ("retail", &words.price(retail)),
                ("exported", &words.energy(day.exported)),
                ("feed_in", &words.price(feed_in)),
            ],
        )
    });
    html! {
        h2 { (words.t("home.money")) " " small { (words.fill("home.settled_until", &[("time", &words.clock(street.settled))])) } }
        div.scroll tabindex="0" role="region" aria-label=(words.t("home.money")) { table.sums {
            tbody { @for (name, amount) in rows {
                tr { th scope="row" { (name) } td.n { (words.money(amount)) } }
            } }
            tfoot {
                tr.total { th scope="row" { (words.t("money.net")) } td.n { (words.money(day.net)) } }
                tr { th scope="row" { (words.t("money.utility_alone")) @if let Some(alone) = alone { br; small { (alone) } } }
                    td.n { (words.money(day.utility_alone)) } }
                tr.total { th scope="row" { (words.t("money.better")) } td.n { (words.money(better(home))) } }
            }
        } }
        p { a href="/home/statement" { (words.t("home.to_statement")) } " · "
            a href="/home/tokens" { (words.t("tokens.own_title")) } }
    }
}
