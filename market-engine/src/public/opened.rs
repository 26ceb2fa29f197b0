//! A public book held against the signed orders and the trades that are behind it.
//!
//! Names in a public book cannot be traced, so both sides are described without them: an order by what it wants and
//! got, a participant by all its orders, partners and trades by the participants' descriptions. Books that are the
//! same but for the names have the same descriptions.

use std::collections::{BTreeMap, HashMap};

use domain::ids::{OrderId, ParticipantId, digest_parts, to_hex};
use domain::money::Price;
use domain::order::{Order, Preference, Side};
use domain::trade::Trade;

use super::{PublicBook, PublicOrder, Published};
use crate::preference::Heeded;

/// Holds a public book against all orders of its interval and the trades between them: that it hides these and no
/// others. Orders are by their ids.
///
/// # Errors
/// A sentence that says what differs first.
pub fn hides(
    text: &str,
    orders: &BTreeMap<OrderId, Order>,
    trades: &[Trade],
) -> Result<(), String> {
    let published = Published::read(text).map_err(|e| format!("its public book: {e}"))?;
    let wished = orders.values().any(|order| !order.preference.is_none());
    let wished = wished && Heeded::by(published.mechanism) != Heeded::Nothing;
    if wished != published.said.wishes.is_some() {
        let (book, orders) = if wished {
            ("no", "some")
        } else {
            ("some", "no")
        };
        return Err(format!(
            "the public book shows {book} wishes, the signed orders have {orders}"
        ));
    }
    feeders(&published.said)?;
    let said = of_book(&published.said)?.lines();
    let signed = of_orders(orders, trades, wished)?.lines();
    let what = [
        "the public book and the signed orders differ",
        "the public book gives an order to another participant, or other partners",
        "the public book and the trades in the log differ",
    ];
    for ((said, signed), what) in said.iter().zip(&signed).zip(what) {
        if let Some(difference) = first_difference(said, signed) {
            return Err(format!("{what}: {difference}"));
        }
    }
    Ok(())
}

/// Whether a bid shows that it wishes energy of its own feeder.
fn is_local(order: &PublicOrder) -> bool {
    order.same_feeder || (order.feeder.is_some() && order.side == Side::Bid.word())
}

/// Signed orders do not say where a home lies: that is the operator's word, which has to be one for all orders of a
/// participant, and is asked for only where somebody wishes energy of its own feeder.
fn feeders(said: &PublicBook) -> Result<(), String> {
    let is_asked = said.orders.iter().any(is_local);
    let mut known: HashMap<&str, Option<u32>> = HashMap::new();
    for order in &said.orders {
        if order.feeder.is_some() && !is_asked {
            return Err("the public book shows feeders, and no bid wishes its own".to_owned());
        }
        if order.side == Side::Offer.word() || is_local(order) {
            let first = known.entry(&order.participant).or_insert(order.feeder);
            if *first != order.feeder {
                return Err("the public book puts a participant on two feeders".to_owned());
            }
        }
    }
    Ok(())
}

/// Orders and trades of either origin, with numbers for participants and orders.
struct Described {
    orders: Vec<Wanted>,
    /// Bid, offer, and how much at what price.
    trades: Vec<(usize, usize, String)>,
}

struct Wanted {
    participant: usize,
    /// What it wants and got.
    words: String,
    partners: Vec<usize>,
}

impl Described {
    /// Sorted lines: orders without whose they are, orders with it, trades.
    fn lines(&self) -> [Vec<String>; 3] {
        let count = self.orders.iter().map(|order| order.participant + 1).max();
        let mut owned = vec![Vec::new(); count.unwrap_or(0)];
        for order in &self.orders {
            owned[order.participant].push(order.words.as_str());
        }
        let owners: Vec<String> = owned.into_iter().map(owner).collect();
        let whose = |order: &Wanted| {
            let mut line = format!("{} of {}", order.words, owners[order.participant]);
            for partner in &order.partners {
                line += &format!(" with {}", owners[*partner]);
            }
            line
        };
        let traded = |(bid, offer, words): &(usize, usize, String)| {
            let [bid, offer] = [bid, offer].map(|order| whose(&self.orders[*order]));
            format!("{words}: {bid} / {offer}")
        };
        let mut lines = [
            self.orders.iter().map(|o| o.words.clone()).collect(),
            self.orders.iter().map(whose).collect(),
            self.trades.iter().map(traded).collect::<Vec<_>>(),
        ];
        lines.iter_mut().for_each(|lines| lines.sort_unstable());
        lines
    }
}

/// A participant by its orders.
fn owner(mut orders: Vec<&str>) -> String {
    orders.sort_unstable();
    let parts: Vec<&[u8]> = orders.iter().map(|words| words.as_bytes()).collect();
    to_hex(&digest_parts("owner", &parts)[..8])
}

/// The first line of two sorted lists that the other has not, or not as often.
fn first_difference(said: &[String], signed: &[String]) -> Option<String> {
    let shorter = said.len().min(signed.len());
    let differs = said.iter().zip(signed).position(|(a, b)| a != b);
    let at = differs.unwrap_or(shorter);
    match (said.get(at), signed.get(at)) {
        (None, None) => None,
        (Some(said), signed) if signed.is_none_or(|signed| said < signed) => {
            Some(format!("only the book has a {said}"))
        }
        (_, signed) => signed.map(|signed| format!("the book lacks a {signed}")),
    }
}

/// An order in words, with its wishes where the book shows wishes.
fn words(
    (side, energy_wh, filled_wh): (&str, i64, i64),
    limit: &str,
    (green, local): (bool, bool),
    premium: Option<&str>,
) -> String {
    let green = if green { ", green" } else { "" };
    let local = if local { ", own feeder first" } else { "" };
    let premium = premium.map(|premium| format!(", {premium} more for green"));
    let premium = premium.unwrap_or_default();
    format!("{side} of {energy_wh} Wh at {limit}{green}{local}{premium}, filled {filled_wh} Wh")
}

fn exchanged(energy_wh: i64, price: &str) -> String {
    format!("trade of {energy_wh} Wh at {price}")
}

fn of_book(said: &PublicBook) -> Result<Described, String> {
    let mut people = HashMap::new();
    for order in &said.orders {
        let next = people.len();
        people.entry(order.participant.as_str()).or_insert(next);
    }
    let person = |name: &String| people.get(name.as_str()).copied();
    let wanted = |order: &PublicOrder| {
        Some(Wanted {
            participant: person(&order.participant)?,
            words: words(
                (&order.side, order.energy_wh, order.filled_wh),
                &order.limit_price,
                (order.green, is_local(order)),
                order.green_premium.as_deref(),
            ),
            partners: order.partners.iter().map(person).collect::<Option<_>>()?,
        })
    };
    let orders: Option<Vec<Wanted>> = said.orders.iter().map(wanted).collect();
    let orders = orders.ok_or("the public book names a partner that has no order in it")?;
    let names = said.orders.iter().map(|order| order.order.as_str());
    let places: HashMap<&str, usize> = names.zip(0..).collect();
    let mut trades = Vec::with_capacity(said.trades.len());
    for trade in &said.trades {
        let place = |name: &String| places.get(name.as_str()).copied();
        let (Some(bid), Some(offer)) = (place(&trade.bid), place(&trade.offer)) else {
            return Err("the public book has a trade of an order that is not in it".to_owned());
        };
        trades.push((bid, offer, exchanged(trade.energy_wh, &trade.price)));
    }
    Ok(Described { orders, trades })
}

fn of_orders(
    orders: &BTreeMap<OrderId, Order>,
    trades: &[Trade],
    wished: bool,
) -> Result<Described, String> {
    let mut people: HashMap<&ParticipantId, usize> = HashMap::new();
    for order in orders.values() {
        let next = people.len();
        people.entry(&order.participant).or_insert(next);
    }
    let places: HashMap<&OrderId, usize> = orders.keys().zip(0..).collect();
    let mut filled_wh = vec![0_i64; orders.len()];
    let mut exchanges = Vec::with_capacity(trades.len());
    for trade in trades {
        let place = |id: OrderId| {
            let found = places.get(&id).copied();
            found.ok_or_else(|| format!("trade {} is of an order that is not there", trade.id))
        };
        let (bid, offer) = (place(trade.bid)?, place(trade.offer)?);
        for order in [bid, offer] {
            filled_wh[order] = filled_wh[order].saturating_add(trade.energy.wh());
        }
        let words = exchanged(trade.energy.wh(), &trade.price.to_string());
        exchanges.push((bid, offer, words));
    }
    let none = Preference::default();
    let wanted = |(order, filled_wh): (&Order, i64)| {
        let wishes = if wished { &order.preference } else { &none };
        let premium = Some(wishes.green_premium).filter(|premium| *premium != Price::ZERO);
        Wanted {
            participant: people[&order.participant],
            words: words(
                (order.side.word(), order.energy.wh(), filled_wh),
                &order.limit.to_string(),
                (wishes.green, wishes.same_feeder),
                premium.map(|premium| premium.to_string()).as_deref(),
            ),
            partners: wishes
                .partners
                .iter()
                .filter_map(|p| people.get(p).copied())
                .collect(),
        }
    };
    Ok(Described {
        orders: orders.values().zip(filled_wh).map(wanted).collect(),
        trades: exchanges,
    })
}
