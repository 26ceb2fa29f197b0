//! `/home/trades/{id}`: why I bought or sold at this price. And the list of all trades.

use axum::extract::{Path, Query};
use axum::response::Response;
use domain::ids::{ParticipantId, TradeId};
use domain::money::{Money, Price};
use domain::order::Side;
use domain::receipt::Line;
use domain::trade::{Clearing, Trade};
use market_engine::service::{Cleared, ClearedOrder};
use maud::{Markup, html};
use serde::Deserialize;

use super::Ask;
use crate::view::beside::Beside;
use crate::view::{TradeLine, calendar};
use crate::web::chart::{self, Depth, Step};
use crate::web::layout::Page;
use crate::web::words::Words;

/// Trades on one page of the list.
const PAGE: u32 = 50;

struct Data {
    home: ParticipantId,
    trade: Trade,
    cleared: Cleared,
    /// The home's line of the interval, once it is settled.
    line: Option<Line>,
    /// What was paid or got, and what with the utility alone.
    beside: Beside,
}

impl Data {
    fn side(&self) -> Side {
        if self.trade.buyer == self.home {
            Side::Bid
        } else {
            Side::Offer
        }
    }

    /// The home's order in this trade.
    fn own(&self) -> Option<&ClearedOrder> {
        let id = match self.side() {
            Side::Bid => self.trade.bid,
            Side::Offer => self.trade.offer,
        };
        self.cleared.orders.iter().find(|order| order.id == id)
    }
}

pub(super) async fn show(ask: Ask, Path(id): Path<String>) -> Result<Response, Response> {
    let home = ask.home()?;
    let Ok(id) = id.parse::<TradeId>() else {
        return Err(ask.missing());
    };
    let data = read(&ask, home, id).await;
    let data = data.map_err(|error| ask.failed("a trade could not be read", &error))?;
    match data {
        Some(data) => Ok(ask.show(&page(&ask.words, &data))),
        None => Err(ask.missing()),
    }
}

/// The trade with its auction; `None` where it is not this home's.
async fn read(ask: &Ask, home: ParticipantId, id: TradeId) -> anyhow::Result<Option<Data>> {
    let shared = &ask.web.shared;
    let trade = market_engine::service::trade(&shared.db, id).await?;
    let trade = trade.filter(|trade| trade.buyer == home || trade.seller == home);
    let Some(trade) = trade else {
        return Ok(None);
    };
    let interval = trade.interval;
    let Some(cleared) = market_engine::service::clearing(&shared.db, interval).await? else {
        return Ok(None);
    };
    let (from, to) = (interval.start(), interval.end());
    let mut lines = settlement::service::lines_of(&shared.db, &home, from, to).await?;
    let line = lines.pop();
    let side = match trade.buyer == home {
        true => Side::Bid,
        false => Side::Offer,
    };
    Ok(Some(Data {
        beside: Beside::of(&shared.site, &trade, side, line.as_ref())?,
        line,
        home,
        trade,
        cleared,
    }))
}

fn page(words: &Words, data: &Data) -> Page {
    let trade = &data.trade;
    let key = match data.side() {
        Side::Bid => "trade.you_bought",
        Side::Offer => "trade.you_sold",
    };
    let places = [
        ("energy", words.energy(trade.energy)),
        ("price", words.price(trade.price)),
    ];
    let places: Vec<(&str, &str)> = places
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let date = calendar::date(words.zone, trade.interval.start());
    Page {
        title: words.t("trade.title").to_owned(),
        above: format!(
            "{}, {}",
            words.long_date(date),
            words.interval(trade.interval)
        ),
        answer: words.fill(key, &places),
        below: html! { (why(words, data)) },
        body: html! {
            section.card { (chart::figure(words, &picture(words, data))) p.hint { (words.t("trade.picture")) } }
            div.two {
                section.card { (money(words, data)) }
                section.card { (delivery(words, data)) }
            }
        },
        live: None,
    }
}

/// Why, in one sentence, and in a second one why at this price.
fn why(words: &Words, data: &Data) -> String {
    let mut sentences = Vec::new();
    if let Some(own) = data.own() {
        let is_whole = own.filled == own.order.energy;
        let key = match (data.side(), is_whole) {
            (Side::Bid, true) => "trade.bought_whole",
            (Side::Bid, false) => "trade.bought_part",
            (Side::Offer, true) => "trade.sold_whole",
            (Side::Offer, false) => "trade.sold_part",
        };
        let texts = [
            ("limit", words.price(own.order.limit)),
            ("price", words.price(data.trade.price)),
            ("filled", words.energy(own.filled)),
            ("ordered", words.energy(own.order.energy)),
        ];
        let used: Vec<(&str, &str)> = texts
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        sentences.push(words.fill(key, &used));
    }
    sentences.extend(why_price(words, &data.cleared.clearing));
    sentences.join(" ")
}

fn why_price(words: &Words, clearing: &Clearing) -> Option<String> {
    let (low, high) = clearing.price_low.zip(clearing.price_high)?;
    if clearing.price_policy != "walras-mid" {
        return None;
    }
    Some(if low == high {
        words.t("trade.only_price").to_owned()
    } else {
        let (low, high) = (words.price(low), words.price(high));
        words.fill("trade.middle", &[("low", &low), ("high", &high)])
    })
}

fn picture(words: &Words, data: &Data) -> chart::Plot {
    let own = |order: &ClearedOrder| order.order.participant == data.home;
    let step = |order: &ClearedOrder| Step {
        side: order.order.side,
        energy: order.order.energy,
        limit: order.order.limit,
        own: own(order),
    };
    let shown = Depth {
        title: words.t("trade.auction").to_owned(),
        steps: data.cleared.orders.iter().map(step).collect(),
        price: data.cleared.clearing.price,
        volume: data.cleared.clearing.volume,
    };
    chart::depth(words, &shown)
}

fn money(words: &Words, data: &Data) -> Markup {
    let energy = data.trade.energy;
    let (side, beside) = (data.side(), &data.beside);
    let value = data.trade.price.amount(energy).ok();
    let fee = (beside.network_fee.amount(energy).ok()).filter(|_| side == Side::Bid);
    let better = beside.better_by(side).unwrap_or(Money::ZERO);
    let row = |name: &str, price: Price, amount: Option<Money>| {
        html! { tr {
            th scope="row" { (name) br; small { (words.energy(energy)) " × " (words.price(price)) } }
            td.n { @if let Some(amount) = amount { (words.money(amount)) } @else { "–" } }
        } }
    };
    let word = match side {
        Side::Bid => "trade.you_pay",
        Side::Offer => "trade.you_receive",
    };
    html! {
        h2 { (words.t("trade.money")) }
        table.sums {
            tbody {
                (row(words.t("trade.energy"), data.trade.price, value))
                @if fee.is_some() { (row(words.t("money.fees"), beside.network_fee, fee)) }
            }
            tfoot {
                tr.total { th scope="row" { (words.t(word)) } td.n { (words.money(beside.traded)) } }
                tr { th scope="row" { (words.t("money.utility_alone")) } td.n { (words.money(beside.utility)) } }
                tr.total { th scope="row" { (words.t("money.better")) } td.n { (words.money(better)) } }
            }
        }
        @if data.line.is_some() {
            p { a.button href=(format!("/receipts/{}/{}", data.trade.id, data.home)) { (words.t("trade.receipt")) } }
            p.hint { (words.t("trade.receipt_hint")) " " a href="/log" { (words.t("street.proof_how")) } }
        } @else { p.empty { (words.t("trade.receipt_later")) } }
    }
}

fn delivery(words: &Words, data: &Data) -> Markup {
    let Some(line) = &data.line else {
        return html! { h2 { (words.t("trade.delivery")) } p.empty {
            (words.fill("trade.not_settled", &[("time", &words.clock(data.trade.interval.end()))]))
        } };
    };
    let d = &line.delivery;
    let rows = [
        ("trade.traded_bought", d.bought),
        ("trade.traded_sold", d.sold),
        ("trade.metered_in", d.imported),
        ("trade.metered_out", d.exported),
    ];
    html! {
        h2 { (words.t("trade.delivery")) " " (words.quality(d.quality)) }
        table.sums { tbody { @for (word, energy) in rows {
            tr { th scope="row" { (words.t(word)) } td.n { (words.energy(energy)) } }
        } } }
        p.hint { (words.t("trade.deviation")) }
    }
}

#[derive(Deserialize)]
pub(super) struct Before {
    before: Option<String>,
}

/// All trades of a home, newest first; a page begins behind the last trade of the one before, so that none is lost.
pub(crate) async fn list(ask: Ask, asked: Query<Before>) -> Result<Response, Response> {
    let home = ask.home()?;
    let before = asked.before.as_deref().and_then(|text| text.parse().ok());
    let ids = (TradeId([0; 16]), before.unwrap_or(TradeId([0xff; 16])));
    let db = &ask.web.shared.db;
    let found = market_engine::service::trades_page(db, Some(&home), ids, PAGE).await;
    let found = found.map_err(|error| ask.failed("trades could not be read", &error))?;
    let trades: Vec<TradeLine> = found.into_iter().map(crate::platform::trade_line).collect();
    let words = &ask.words;
    let is_full = u32::try_from(trades.len()).is_ok_and(|n| n >= PAGE);
    let oldest = trades.last().filter(|_| is_full).map(|trade| trade.id);
    let settled = ask.street.settled;
    let page = Page {
        title: words.t("home.trades").to_owned(),
        above: home.to_string(),
        answer: words.plural(
            "trade.count_one",
            "trade.count_many",
            u64::try_from(trades.len()).unwrap_or(0),
        ),
        below: html! { (words.t("trade.receipt_hint")) },
        body: html! {
            section.card {
                @if trades.is_empty() { p.empty { (words.t("trade.none")) } }
                ul.rows { @for trade in &trades { li.with-receipt {
                    (super::home::trade_row(words, &home, trade))
                    @if trade.interval.end() <= settled {
                        a.receipt href=(format!("/receipts/{}/{home}.json", trade.id)) download
                            aria-label=(words.t("trade.receipt")) { (crate::web::layout::icon("bill")) }
                    }
                } } }
                @if let Some(oldest) = oldest { p { a href=(format!("?before={oldest}")) { (words.t("trade.older")) } } }
            }
        },
        live: None,
    };
    Ok(ask.show(&page))
}
