//! `/api/v1/trades` and `/api/v1/receipts`: one's own trades with the reason for each; without a home, what was
//! traded and at what price, with nobody's name.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use domain::ids::{ParticipantId, TradeId};
use domain::money::Money;
use domain::order::Side;
use domain::time::Timestamp;
use domain::trade::Trade;
use market_engine::service::OwnOrder;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{After, Answer, List, Range, Refused, Wants, home, time};
use super::deliveries::{Delivered, delivered};
use crate::auth::Viewer;
use crate::view::beside::Beside;
use crate::web::Web;

/// A trade. What only its two sides may know is not there for others.
#[derive(Serialize, ToSchema)]
pub(super) struct TradeRow {
    /// Its name; only of one's own.
    trade: Option<String>,
    #[schema(format = DateTime)]
    start: String,
    length_s: u32,
    /// bought or sold; only of one's own.
    side: Option<&'static str>,
    energy_wh: i64,
    /// Token/kWh.
    #[schema(example = "0.132000")]
    price: String,
    /// Energy times price, in token.
    amount: String,
    /// What the buyer pays to the network for it in token/kWh; only of what one has bought.
    network_fee: Option<String>,
    /// Where its receipt is, once it is settled; whoever has this address can read it.
    receipt: Option<String>,
}

const COLUMNS: [&str; 9] = [
    "trade",
    "start",
    "length_s",
    "side",
    "energy_wh",
    "price",
    "amount",
    "network_fee",
    "receipt",
];

const fn word(side: Side) -> &'static str {
    match side {
        Side::Bid => "bought",
        Side::Offer => "sold",
    }
}

fn side_of(trade: &Trade, home: &ParticipantId) -> Option<Side> {
    match home {
        home if *home == trade.buyer => Some(Side::Bid),
        home if *home == trade.seller => Some(Side::Offer),
        _ => None,
    }
}

impl TradeRow {
    fn of(web: &Web, trade: &Trade, home: Option<&ParticipantId>) -> Result<TradeRow, Refused> {
        let own = home.and_then(|home| Some((home, side_of(trade, home)?)));
        let fee = trade
            .network_fee
            .unwrap_or_else(|| web.shared.site.tariff_at(trade.interval).network_fee);
        let receipt = own.map(|(home, _)| {
            let name = web.accounts.receipt_name(trade.id, home);
            format!("/api/v1/receipts/{name}")
        });
        Ok(TradeRow {
            trade: own.map(|_| trade.id.to_string()),
            start: time(trade.interval.start()),
            length_s: trade.interval.length_s(),
            side: own.map(|(_, side)| word(side)),
            energy_wh: trade.energy.wh(),
            price: trade.price.to_string(),
            amount: trade.price.amount(trade.energy)?.to_string(),
            network_fee: own
                .filter(|(_, side)| *side == Side::Bid)
                .map(|_| fee.to_string()),
            receipt,
        })
    }
}

/// The least id of trades that start at a time.
fn first_id(at: Timestamp) -> TradeId {
    let mut id = [0; 16];
    let ms = at.unix_ms().clamp(0, (1 << 48) - 1);
    id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    TradeId(id)
}

/// One's own trades, newest first; for whoever has no home here, all trades without names.
#[utoipa::path(
    get, path = "/api/v1/trades", tag = "market", params(Range),
    responses((status = 200, content((List<TradeRow> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(range): Query<Range>,
) -> Answer {
    let span = range.read()?;
    let home = viewer.home();
    let mut before = first_id(span.to);
    if let Some(after) = &span.after {
        before = before.min(behind(after, home.is_some())?);
    }
    let ids = (first_id(span.from), before);
    let page = market_engine::service::trades_page(&web.shared.db, home, ids, span.limit).await?;
    let is_full = u32::try_from(page.len()).is_ok_and(|n| n >= span.limit);
    let next = page.last().filter(|_| is_full).map(|last| match home {
        Some(_) => last.id.to_string(),
        // The name of a trade is for its sides: others go on behind its interval.
        None => time(last.interval.start()),
    });
    let rows = page.iter().map(|trade| TradeRow::of(&web, trade, home));
    let mut items = rows.collect::<Result<Vec<_>, _>>()?;
    let mut next = next;
    if home.is_none() && next.is_some() {
        whole_intervals(&web, &page, ids.0, &mut items, &mut next).await?;
    }
    List { items, next }.answer(wants, &COLUMNS)
}

/// What `after` says: a trade's name among one's own, an interval's start among all.
fn behind(after: &str, is_own: bool) -> Result<TradeId, Refused> {
    let wrong = || Refused::no_page();
    match is_own {
        true => after.parse().map_err(|_| wrong()),
        false => Ok(first_id(after.parse().map_err(|_| wrong())?)),
    }
}

/// Without names a page can end only between two intervals: it takes in the rest of its last one.
async fn whole_intervals(
    web: &Web,
    page: &[Trade],
    from: TradeId,
    items: &mut Vec<TradeRow>,
    next: &mut Option<String>,
) -> Result<(), Refused> {
    let Some(last) = page.last() else {
        return Ok(());
    };
    let start = first_id(last.interval.start()).max(from);
    let db = &web.shared.db;
    let most = market_engine::service::PAGE_MAX;
    let rest = market_engine::service::trades_page(db, None, (start, last.id), most).await?;
    for trade in &rest {
        items.push(TradeRow::of(web, trade, None)?);
    }
    *next = Some(time(last.interval.start()));
    Ok(())
}

/// One of one's own trades, with its reason and what became of it.
#[derive(Serialize, ToSchema)]
pub(super) struct OneTrade {
    #[serde(flatten)]
    trade: TradeRow,
    /// Why it came about, in one or two sentences.
    why: String,
    /// The order it came from.
    order: String,
    /// Limit of that order in token/kWh.
    limit_price: Option<String>,
    /// What this energy costs or earns with the utility alone, in token: by the prices that the interval is settled at.
    utility_alone: String,
    /// How much better the trade was than that, in token, network fee included.
    better_than_utility_by: String,
    /// What flowed and what was paid in that interval; none before it is settled.
    delivery: Option<Delivered>,
}

/// One of one's own trades. Others' are not there.
#[utoipa::path(
    get, path = "/api/v1/trades/{id}", tag = "market",
    params(("id" = String, Path, description = "The trade, as the list names it")),
    responses((status = 200, body = OneTrade))
)]
pub(super) async fn one(State(web): State<Web>, viewer: Viewer, Path(id): Path<String>) -> Answer {
    let home = home(&viewer)?;
    let id: TradeId = id.parse().map_err(|_| Refused::nothing())?;
    let db = &web.shared.db;
    let trade = market_engine::service::trade(db, id).await?;
    let trade = trade.ok_or_else(Refused::nothing)?;
    let side = side_of(&trade, home).ok_or_else(Refused::nothing)?;
    let order_id = match side {
        Side::Bid => trade.bid,
        Side::Offer => trade.offer,
    };
    let (start, end) = (trade.interval.start(), trade.interval.end());
    let orders = market_engine::service::own_orders(db, home, start, end).await?;
    let order = orders.into_iter().find(|order| order.id == order_id);
    let lines = settlement::service::lines_at(db, home, start).await?;
    let beside = Beside::of(&web.shared.site, &trade, side, lines.last())?;
    let gain = beside.better_by(side).unwrap_or(Money::ZERO);
    Ok(Json(OneTrade {
        why: why(&trade, side, order.as_ref()),
        order: order_id.to_string(),
        limit_price: order.map(|order| order.order.limit.to_string()),
        better_than_utility_by: gain.to_string(),
        utility_alone: beside.utility.to_string(),
        delivery: delivered(&web, home, &lines).await?.pop(),
        trade: TradeRow::of(&web, &trade, Some(home))?,
    })
    .into_response())
}

/// What the order wanted, what the auction gave, and how much of the order that was.
fn why(trade: &Trade, side: Side, order: Option<&OwnOrder>) -> String {
    let (wh, price) = (trade.energy.wh(), trade.price);
    let what = match side {
        Side::Bid => format!("You bought {wh} Wh from a neighbour at {price} token/kWh"),
        Side::Offer => format!("You sold {wh} Wh to a neighbour at {price} token/kWh"),
    };
    let Some(own) = order else {
        return what + ".";
    };
    let limit = own.order.limit;
    let wanted = match (side, limit == price) {
        (_, true) => {
            format!("your limit of {limit} was exactly the price at which the auction closed")
        }
        (Side::Bid, _) => {
            format!("your order would have paid up to {limit}, and the auction closed at {price}")
        }
        (Side::Offer, _) => {
            format!("your order asked for {limit} at least, and the auction closed at {price}")
        }
    };
    let (all, filled) = (own.order.energy, own.result.as_ref().map(|(wh, _)| *wh));
    let much = match filled {
        Some(filled) if filled < all => format!(
            " Of the {} Wh that you had ordered, {} Wh found neighbours in this interval.",
            all.wh(),
            filled.wh()
        ),
        _ => " All that you had ordered found neighbours.".to_owned(),
    };
    format!("{what}: {wanted}.{much}")
}

/// A receipt that anybody can check offline with `commonwatt verify`. Whoever has its address may read it.
#[utoipa::path(
    get, path = "/api/v1/receipts/{id}", tag = "proof",
    params(("id" = String, Path, description = "As `receipt` of a trade names it")),
    responses((status = 200, content_type = "application/json", body = Object))
)]
pub(super) async fn receipt(web: State<Web>, id: Path<String>) -> Response {
    crate::web::pages::linked_file(&web, &id).await
}

/// The proof that an entry of a receipt is in its log.
#[derive(Serialize, ToSchema)]
pub(super) struct EntryProof {
    /// Which entry of the receipt.
    entry: String,
    /// A C2SP tlog-proof: `commonwatt verify` checks it offline, and so does whoever else reads that format.
    proof: String,
}

/// Every entry of a receipt as a proof of its own that it is in its log. Whoever has the receipt's address may read them.
#[utoipa::path(
    get, path = "/api/v1/receipts/{id}/proof", tag = "proof",
    params(("id" = String, Path, description = "As `receipt` of a trade names it"), After),
    responses((status = 200, content((List<EntryProof> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn proofs(
    web: State<Web>,
    wants: Wants,
    Path(id): Path<String>,
    Query(after): Query<After>,
) -> Answer {
    let receipt = crate::web::pages::linked_receipt(&web, &id).await;
    let receipt = receipt.map_err(Box::new)?.ok_or_else(Refused::nothing)?;
    let proofs = settlement::prove::proofs(&receipt).map_err(anyhow::Error::msg)?;
    let entry = |(entry, proof): (String, settlement::log::proof::LogProof)| EntryProof {
        entry,
        proof: proof.to_text(),
    };
    let items = proofs.into_iter().map(entry).collect();
    List::part(items, &after, |row: &EntryProof| row.entry.clone())?
        .answer(wants, &["entry", "proof"])
}
