//! The street's page: one question, how is the street doing, answered in the first line.
//!
//! The page is a list of sections. The first answer has them all; later ones come one by one over
//! server-sent events, drawn by the same functions, so that the live page cannot differ from the page.

use maud::{DOCTYPE, Markup, html};

use super::chart;
use super::house;
use crate::view::{
    Cleared, Fresh, Home, OrderLine, Street, TradeLine, clock_text, energy_text, interval_text,
    money_text, power_text, price_text,
};
use domain::ids::ParticipantId;
use domain::money::Money;
use domain::order::Side;

/// A value older than this many intervals is shown as old.
const OLD_AFTER_INTERVALS: i64 = 2;

/// A part of the page that is renewed on its own.
pub(crate) struct Section {
    /// The id of its element and the name of its event.
    pub(crate) name: &'static str,
    /// Its inner HTML.
    pub(crate) html: String,
}

/// All sections of the page.
pub(crate) fn sections(street: &Street) -> Vec<Section> {
    let section = |name, markup: Markup| Section {
        name,
        html: markup.into_string(),
    };
    vec![
        section("headline", headline(street)),
        section("homes", homes(street)),
        section("auction", auction(street)),
        section("trades", trades(street)),
        section("prices", chart::prices(street)),
        section("orders", orders(street)),
        section("proof", proof(street)),
    ]
}

/// The whole page.
pub(crate) fn page(street: &Street) -> Markup {
    let parts = sections(street);
    let part = |name: &str| {
        let html = parts
            .iter()
            .find(|p| p.name == name)
            .map(|p| p.html.as_str())
            .unwrap_or_default();
        maud::PreEscaped(html.to_owned())
    };
    frame(
        &street.community,
        &html! {
            section.headline id="headline" { (part("headline")) }
            section id="homes" aria-label="Homes" { (part("homes")) }
            div.columns {
                section.card id="auction" aria-label="Last auction" { (part("auction")) }
                section.card id="trades" aria-label="Trades" { (part("trades")) }
            }
            section.card id="prices" aria-label="Local price" { (part("prices")) }
            section.card id="orders" aria-label="Orders" { (part("orders")) }
            section.card id="proof" aria-label="Proof" { (part("proof")) }
        },
    )
}

/// What every page has around its own.
pub(super) fn frame(community: &str, inside: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Commonwatt · " (community) }
                link rel="stylesheet" href="/static/style.css";
                link rel="icon" href="/static/icon.svg" type="image/svg+xml";
                script src="/static/app.js" defer {}
            }
            body {
                header {
                    a.brand href="/" { "Commonwatt" }
                    span.place { (community) }
                    span.state.off id="link" role="status" {}
                }
                main { (inside) }
                footer { (legend()) }
            }
        }
    }
}

fn headline(street: &Street) -> Markup {
    let day = street
        .now
        .to_chrono()
        .map(|t| t.format("%A %-d %B %Y, %H:%M UTC").to_string());
    html! {
        p.when { (day.unwrap_or_default()) @if street.speed != 1 { " · " (street.speed) "× real time" } }
        h1 { (answer(street)) }
        p.sub {
            "The utility asks " b { (price_text(street.retail)) } " per kWh and pays "
            b { (price_text(street.feed_in)) } ". The auction for "
            b { (interval_text(street.open)) } " closes at " b { (clock_text(street.gate_closes)) } "."
        }
    }
}

pub(super) fn answer(street: &Street) -> String {
    match &street.cleared {
        Some(Cleared {
            interval,
            price: Some(price),
            volume,
            ..
        }) => format!(
            "Neighbours trade {} at {} for {}.",
            energy_text(*volume),
            price_text(*price),
            interval_text(*interval)
        ),
        Some(Cleared { interval, .. }) => {
            format!(
                "Nothing to trade among neighbours for {}.",
                interval_text(*interval)
            )
        }
        None => "The first auction is open.".to_owned(),
    }
}

fn homes(street: &Street) -> Markup {
    html! {
        div.street {
            @for home in &street.homes { (home_card(street, home)) }
            (feeder_card(street))
        }
    }
}

fn home_card(street: &Street, home: &Home) -> Markup {
    let better = home
        .day
        .net
        .checked_sub(home.day.utility_alone)
        .unwrap_or(Money::ZERO);
    html! {
        article.home {
            (house::drawing(home))
            h3 { (home.id) }
            p.power { (flow_words(street, home.net_w)) }
            p.parts {
                @if let Some(sun) = home.sun_w { span.sun { "sun " (power_text(sun.value)) } }
                @if let Some(battery) = home.battery_w { span.battery { (battery_words(battery.value)) } }
                @if let Some(car) = home.car_w.filter(|car| car.value > 0) {
                    span.car { "car " (power_text(car.value)) }
                }
            }
            p.money { (money_text(home.day.net)) " €" small { " today" } }
            p.better {
                @if better.nano() != 0 { (signed(better)) " € against the utility alone" }
                @else { "no trade settled yet" }
            }
        }
    }
}

fn feeder_card(street: &Street) -> Markup {
    html! {
        article.home.feeder {
            (house::transformer(street.feeder_w))
            h3 { "grid" }
            p.power {
                @match street.feeder_w {
                    Some(w) if is_old(street, w) => { span.old { "last seen " (clock_text(w.read_at)) } }
                    Some(w) if w.value >= 0 => { "street imports " b { (power_text(w.value)) } }
                    Some(w) => { "street exports " b.gives { (power_text(w.value)) } }
                    None => { span.old { "no value yet" } }
                }
            }
        }
    }
}

fn is_old(street: &Street, value: Fresh) -> bool {
    let limit_ms = i64::from(street.open.length_s()) * 1000 * OLD_AFTER_INTERVALS;
    street.now.ms_since(value.read_at) > limit_ms
}

fn flow_words(street: &Street, net: Option<Fresh>) -> Markup {
    match net {
        None => html! { span.old { "no value yet" } },
        Some(w) if is_old(street, w) => html! { span.old { "last seen " (clock_text(w.read_at)) } },
        Some(w) if w.value > 0 => html! { "takes " b { (power_text(w.value)) } },
        Some(w) if w.value < 0 => html! { "gives " b.gives { (power_text(w.value)) } },
        Some(_) => html! { "balanced" },
    }
}

fn battery_words(w: i64) -> String {
    match w {
        0 => "battery rests".to_owned(),
        w if w > 0 => format!("battery gives {}", power_text(w)),
        w => format!("battery takes {}", power_text(w)),
    }
}

fn signed(money: Money) -> String {
    let text = money_text(money);
    if text.starts_with('−') {
        text
    } else {
        format!("+{text}")
    }
}

fn auction(street: &Street) -> Markup {
    let Some(cleared) = &street.cleared else {
        return html! { h2 { "Last auction" } p.empty { "The first result comes when the gate closes." } };
    };
    html! {
        h2 { "Last auction " small { (interval_text(cleared.interval)) } }
        @if let Some(price) = cleared.price {
            p.figure { b { (price_text(price)) } " per kWh · " b { (energy_text(cleared.volume)) } " traded · "
                (cleared.orders.len()) " orders" }
        } @else {
            p.figure { "No trade: " (cleared.orders.len()) " orders, none that fit together." }
        }
        (chart::curves(cleared))
        details open {
            summary { "All orders and why" }
            (order_table(&cleared.orders))
        }
    }
}

fn trades(street: &Street) -> Markup {
    let Some(cleared) = &street.cleared else {
        return html! { h2 { "Trades" } p.empty { "The first trades come with the first auction." } };
    };
    html! {
        h2 { "Trades " small { (interval_text(cleared.interval)) } }
        (trade_table(&cleared.trades, None))
        @if let Some(first) = cleared.delivered.first() {
            h2.second { "Delivered and settled " small { (interval_text(first.interval)) } }
            (trade_table(&cleared.delivered, None))
        }
    }
}

/// A table of trades, with the receipts of this home where one is named.
pub(super) fn trade_table(trades: &[TradeLine], home: Option<&ParticipantId>) -> Markup {
    if trades.is_empty() {
        return html! { p.empty { "No trade in this auction." } };
    }
    html! {
        div.scroll { table {
            thead { tr { th { "from" } th { "to" } th.n { "kWh" } th.n { "ct/kWh" }
                @if home.is_some() { th { "receipt" } } } }
            tbody { @for trade in trades { (trade_row(trade, home)) } }
        } }
    }
}

fn trade_row(trade: &TradeLine, home: Option<&ParticipantId>) -> Markup {
    html! {
        tr {
            td { (trade.seller) } td { (trade.buyer) }
            td.n { (energy_text(trade.energy).trim_end_matches(" kWh")) }
            td.n { (price_text(trade.price).trim_end_matches(" ct")) }
            @if let Some(home) = home {
                td { a href=(format!("/receipts/{}/{home}.json", trade.id)) download { "receipt" } }
            }
        }
    }
}

fn orders(street: &Street) -> Markup {
    html! {
        h2 { "Orders for " (interval_text(street.open)) }
        @if street.orders.is_empty() {
            p.empty { "The autopilots place their orders shortly before the gate closes at "
                (clock_text(street.gate_closes)) "." }
        } @else { (order_table(&street.orders)) }
        @if !street.suggestions.is_empty() {
            h2.second { "Suggested, not ordered" }
            (order_table(&street.suggestions))
        }
    }
}

fn order_table(orders: &[OrderLine]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "home" } th { "wants to" } th.n { "kWh" } th.n { "limit ct/kWh" }
                @if orders.iter().any(|o| o.filled.is_some()) { th.n { "traded" } }
                th { "why" } } }
            tbody { @for order in orders { tr {
                td { (order.participant) }
                td { @match order.side { Side::Bid => "buy", Side::Offer => "sell" } }
                td.n { (energy_text(order.energy).trim_end_matches(" kWh")) }
                td.n { (price_text(order.limit).trim_end_matches(" ct")) }
                @if let Some(filled) = order.filled {
                    td.n { (energy_text(filled).trim_end_matches(" kWh")) }
                }
                td.why { (order.reason) }
            } } }
        } }
    }
}

fn proof(street: &Street) -> Markup {
    let log = &street.log;
    html! {
        h2 { "Proof" }
        p { "Every reading is signed in the home, every posting is in a log that only grows: "
            b { (log.readings) } " readings, " b { (log.market) } " market entries, "
            b { (log.ledger) } " ledger entries." }
        p { a href="/verify" { "Check a receipt here" } ", or without trusting this page: " code { "commonwatt verify receipt.json" }
            " · operator’s key " code.key { (log.operator_key) } }
    }
}

fn legend() -> Markup {
    html! {
        p {
            span.swatch.sun {} " own sun  " span.swatch.neighbours {} " neighbours  "
            span.swatch.grid {} " from the grid  " span.swatch.battery {} " battery  "
            span.swatch.car {} " car  "
        }
        p { "Times are UTC. Money is provisional until the final run, ten days after delivery." }
    }
}
