//! Clears a book by its mechanism, then lets wishes decide who trades with whom; `preference.rs` has the rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::money::Price;
use domain::order::Side;

use super::matching::{self, Loads};
use super::merit::Plan;
use super::{Match, Mechanism, Outcome, Ties, at, clear};
use crate::book::{Book, Entry, slot};
use crate::explain::Reason;
use crate::preference::{Because, Cost, Heeded, Preferred, Wish};

/// Clears a book with the orders' wishes, one for each order, as far as the mechanism heeds them.
///
/// # Panics
/// A promise of `preference.rs` is broken, or there are not as many wishes as orders.
#[must_use]
pub fn clear_with_wishes(book: &Book, mechanism: Mechanism, wishes: &[Wish]) -> Preferred {
    assert_eq!(book.entries().len(), wishes.len(), "each order has a wish");
    let heeded = Heeded::by(mechanism);
    let plain = clear(book, mechanism);
    if heeded == Heeded::Nothing {
        return Preferred::without(plain);
    }
    let mut pairing = Pairing::new(book, mechanism.ties(), wishes, &plain);
    let mut green_premium = Price::ZERO;
    pairing.partners();
    if heeded == Heeded::All {
        pairing.green();
        green_premium = pairing.scarce_premium();
    }
    pairing.feeders();
    let mut trades = pairing.finish();
    let mut cost = Cost::default();
    let prices = prices(book, mechanism, &plain);
    for (trade, _) in &mut trades {
        let premium = premium_of(wishes, trade.bid, trade.offer).min(green_premium);
        let (buyer_price, seller_price) = prices(trade.bid, trade.offer);
        trade.buyer_price = raised(buyer_price, premium);
        trade.seller_price = raised(seller_price, premium);
        cost.premiums +=
            worth(trade.buyer_price, trade.energy_wh) - worth(buyer_price, trade.energy_wh);
    }
    if heeded == Heeded::All {
        trades.extend(more_green(book, mechanism, wishes, &plain));
    }
    let preferred = put_together(book, &plain, trades, green_premium, cost);
    assert_promises(book, wishes, &plain, &preferred);
    preferred
}

/// What the buyer of a bid pays and the seller of an offer receives before any premium. But for
/// `pay-as-bid` it is the same whoever meets whom.
fn prices(
    book: &Book,
    mechanism: Mechanism,
    plain: &Outcome,
) -> impl Fn(u32, u32) -> (Price, Price) {
    let mut of = vec![Price::ZERO; book.entries().len()];
    for trade in &plain.trades {
        of[slot(trade.bid)] = trade.buyer_price;
        of[slot(trade.offer)] = trade.seller_price;
    }
    move |bid, offer| match mechanism {
        Mechanism::PayAsBid { price, .. } => {
            let price = price.of(book.get(bid).limit, book.get(offer).limit);
            (price, price)
        }
        _ => (of[slot(bid)], of[slot(offer)]),
    }
}

fn worth(price: Price, energy_wh: i64) -> i128 {
    i128::from(price.micro_per_kwh()) * i128::from(energy_wh)
}

/// What a bid would pay on top for an offer's energy.
fn premium_of(wishes: &[Wish], bid: u32, offer: u32) -> Price {
    if wishes[slot(offer)].green {
        wishes[slot(bid)].green_premium
    } else {
        Price::ZERO
    }
}

fn raised(price: Price, by: Price) -> Price {
    let sum = price.micro_per_kwh().saturating_add(by.micro_per_kwh());
    Price::from_micro_per_kwh(sum)
}

/// Served energy on its way to its counterparts.
struct Pairing<'a> {
    book: &'a Book,
    ties: Ties,
    wishes: &'a [Wish],
    /// Served bids and offers, best first.
    bids: Vec<u32>,
    offers: Vec<u32>,
    left: Vec<i64>,
    loads: Loads,
    pairs: Vec<(u32, u32, i64, Because)>,
}

impl<'a> Pairing<'a> {
    fn new(book: &'a Book, ties: Ties, wishes: &'a [Wish], plain: &Outcome) -> Self {
        let mut plan = Plan::new(book, ties);
        plan.filled = plain.orders.iter().map(|o| o.filled_wh).collect();
        let (bids, offers) = (plan.served(Side::Bid), plan.served(Side::Offer));
        let loads = Loads::new(book, &plan.filled);
        Pairing {
            book,
            ties,
            wishes,
            bids,
            offers,
            left: plan.filled,
            loads,
            pairs: Vec::new(),
        }
    }

    /// Pairs two orders as far as nobody is left alone with its own orders by that.
    fn pair(&mut self, bid: u32, offer: u32, because: Because) {
        let (buyer, seller) = (self.owner(bid), self.owner(offer));
        if buyer == seller {
            return;
        }
        let (room, _) = self.loads.room_besides(buyer, seller);
        let energy = at(&self.left, bid).min(at(&self.left, offer)).min(room);
        if energy > 0 {
            self.left[slot(bid)] -= energy;
            self.left[slot(offer)] -= energy;
            self.loads.take(buyer, seller, energy);
            self.pairs.push((bid, offer, energy, because));
        }
    }

    fn owner(&self, order: u32) -> u32 {
        self.book.get(order).participant
    }

    /// Pairs one order with others in turn, and forgets those that are used up.
    fn pair_with_all(&mut self, order: u32, others: &mut Vec<u32>, because: Because) {
        for other in others.iter().copied() {
            if at(&self.left, order) == 0 {
                break;
            }
            match self.book.get(order).side {
                Side::Bid => self.pair(order, other, because),
                Side::Offer => self.pair(other, order, because),
            }
        }
        let left = &self.left;
        // Used up from the front; looked at only as far as that goes, so that long lists stay cheap.
        let used = others.iter().take_while(|i| at(left, **i) == 0).count();
        others.drain(..used);
    }

    fn partners(&mut self) {
        let wishes = self.wishes;
        let ranks = wishes.iter().map(|w| w.partners.len()).max().unwrap_or(0);
        let (bids, offers) = (self.bids.clone(), self.offers.clone());
        let owner = |i: u32| Some(self.book.get(i).participant);
        let (mut bids_of, mut offers_of) = (grouped(&bids, owner), grouped(&offers, owner));
        for rank in 0..ranks {
            for (orders, others_of) in [(&bids, &mut offers_of), (&offers, &mut bids_of)] {
                for order in orders {
                    let named = wishes[slot(*order)].partners.get(rank);
                    if let Some(others) = named.and_then(|p| others_of.get_mut(p)) {
                        self.pair_with_all(*order, others, Because::Partner);
                    }
                }
            }
        }
    }

    fn green(&mut self) {
        let wishes = self.wishes;
        let premium = |i: &u32| wishes[slot(*i)].green_premium;
        let mut bids: Vec<u32> = self.bids.clone();
        bids.retain(|i| premium(i) > Price::ZERO);
        bids.sort_by_key(|i| std::cmp::Reverse(premium(i)));
        let mut offers: Vec<u32> = self.offers.clone();
        offers.retain(|i| wishes[slot(*i)].green);
        for bid in bids {
            self.pair_with_all(bid, &mut offers, Because::Green);
        }
    }

    /// The highest premium of a served bid that still lacks green energy.
    fn scarce_premium(&self) -> Price {
        let short = self.bids.iter().filter(|i| at(&self.left, **i) > 0);
        short
            .map(|i| self.wishes[slot(*i)].green_premium)
            .max()
            .unwrap_or_default()
    }

    fn feeders(&mut self) {
        let (wishes, bids) = (self.wishes, self.bids.clone());
        let feeder = |i: u32| wishes[slot(i)].feeder;
        let mut offers_of = grouped(&self.offers, feeder);
        for bid in bids {
            if let Some(others) = feeder(bid).and_then(|f| offers_of.get_mut(&f)) {
                self.pair_with_all(bid, others, Because::Feeder);
            }
        }
    }

    /// Pairs what is left by merit; all trades in merit order, without prices.
    fn finish(self) -> Vec<(Match, Because)> {
        let mut plan = Plan::new(self.book, self.ties);
        plan.filled = self.left;
        let nothing = (Price::ZERO, Price::ZERO);
        let rest = matching::trades(&plan, |_, _| nothing);
        let place = |list: &[u32]| -> HashMap<u32, usize> {
            list.iter().enumerate().map(|(n, i)| (*i, n)).collect()
        };
        let (bids, offers) = (place(&self.bids), place(&self.offers));
        let wished = self.pairs.into_iter().map(|(bid, offer, energy_wh, why)| {
            let trade = Match {
                bid,
                offer,
                energy_wh,
                buyer_price: Price::ZERO,
                seller_price: Price::ZERO,
            };
            (trade, why)
        });
        let rest = rest.into_iter().map(|trade| (trade, Because::Merit));
        let mut all: Vec<_> = wished.chain(rest).collect();
        all.sort_by_key(|(t, _)| (bids.get(&t.bid).copied(), offers.get(&t.offer).copied()));
        all
    }
}

/// Orders by what they have in common; each list keeps its order.
fn grouped(orders: &[u32], by: impl Fn(u32) -> Option<u32>) -> BTreeMap<u32, Vec<u32>> {
    let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for order in orders {
        if let Some(group) = by(*order) {
            groups.entry(group).or_default().push(*order);
        }
    }
    groups
}

/// Clears what is left of bids with a premium, and of green offers, among themselves.
fn more_green(
    book: &Book,
    mechanism: Mechanism,
    wishes: &[Wish],
    plain: &Outcome,
) -> Vec<(Match, Because)> {
    let mut salt = book.salt().to_vec();
    salt.extend(b"green");
    let (mut left_book, mut indexes) = (Book::new(&salt), Vec::new());
    for (index, (entry, wish)) in (0_u32..).zip(book.entries().iter().zip(wishes)) {
        let fill = &plain.orders[slot(index)];
        let energy_wh = entry.energy_wh - fill.filled_wh - fill.left_out_wh;
        let takes_part = match entry.side {
            Side::Bid => wish.green_premium > Price::ZERO,
            Side::Offer => wish.green,
        };
        if energy_wh == 0 || !takes_part {
            continue;
        }
        let limit = match entry.side {
            Side::Bid => raised(entry.limit, wish.green_premium),
            Side::Offer => entry.limit,
        };
        let left = Entry {
            energy_wh,
            limit,
            ..*entry
        };
        // A part of a book always fits where the whole one did.
        if left_book.push(left).is_ok() {
            indexes.push(index);
        }
    }
    let trades = clear(&left_book, mechanism).trades.into_iter();
    trades
        .map(|t| {
            let trade = Match {
                bid: indexes[slot(t.bid)],
                offer: indexes[slot(t.offer)],
                ..t
            };
            (trade, Because::MoreGreen)
        })
        .collect()
}

fn put_together(
    book: &Book,
    plain: &Outcome,
    trades: Vec<(Match, Because)>,
    green_premium: Price,
    mut cost: Cost,
) -> Preferred {
    let mut outcome = plain.clone();
    let mut changes: BTreeMap<u32, i128> = BTreeMap::new();
    let mut change = |order: u32, by: i128| {
        *changes.entry(book.get(order).participant).or_default() += by;
    };
    for trade in &plain.trades {
        change(trade.bid, worth(trade.buyer_price, trade.energy_wh));
        change(trade.offer, -worth(trade.seller_price, trade.energy_wh));
    }
    for (trade, because) in &trades {
        let wh = trade.energy_wh;
        change(trade.bid, -worth(trade.buyer_price, wh));
        change(trade.offer, worth(trade.seller_price, wh));
        if *because == Because::MoreGreen {
            change(trade.bid, worth(book.get(trade.bid).limit, wh));
            change(trade.offer, -worth(book.get(trade.offer).limit, wh));
            outcome.volume_wh += wh;
            served_for_green(book, &mut outcome, trade);
        }
    }
    cost.changes = changes.into_iter().filter(|(_, c)| *c != 0).collect();
    cost.welfare = -cost.changes.iter().map(|(_, c)| c).sum::<i128>();
    outcome.welfare -= cost.welfare;
    let (trades, because) = trades.into_iter().unzip();
    outcome.trades = trades;
    Preferred {
        outcome,
        because,
        green_premium,
        cost,
    }
}

/// Adds to the fills of both orders what only the premium brought.
fn served_for_green(book: &Book, outcome: &mut Outcome, trade: &Match) {
    for order in [trade.bid, trade.offer] {
        let fill = &mut outcome.orders[slot(order)];
        let before_wh = match fill.reason {
            Reason::ServedForGreen { green_wh, .. } => green_wh,
            _ => 0,
        };
        fill.filled_wh += trade.energy_wh;
        fill.reason = Reason::ServedForGreen {
            filled_wh: fill.filled_wh,
            energy_wh: book.get(order).energy_wh,
            green_wh: before_wh + trade.energy_wh,
            price: trade.buyer_price,
        };
    }
}

/// The promises of `preference.rs`, asserted in production.
fn assert_promises(book: &Book, wishes: &[Wish], plain: &Outcome, preferred: &Preferred) {
    let outcome = &preferred.outcome;
    let (mut traded, mut plainly) = (vec![0_i64; wishes.len()], vec![0_i64; wishes.len()]);
    let (mut pairs, mut surplus) = (BTreeSet::new(), 0_i128);
    for (trade, because) in outcome.trades.iter().zip(&preferred.because) {
        let (bid, offer) = (book.get(trade.bid), book.get(trade.offer));
        let most = raised(bid.limit, premium_of(wishes, trade.bid, trade.offer));
        assert!(trade.energy_wh > 0, "a trade of no energy");
        assert!(
            bid.participant != offer.participant,
            "a participant traded with itself"
        );
        assert!(
            offer.limit <= trade.seller_price && trade.buyer_price <= most,
            "a price beyond a limit"
        );
        assert!(
            pairs.insert((trade.bid, trade.offer)),
            "two orders met twice"
        );
        surplus += worth(trade.buyer_price, trade.energy_wh);
        surplus -= worth(trade.seller_price, trade.energy_wh);
        for order in [trade.bid, trade.offer] {
            traded[slot(order)] += trade.energy_wh;
            if *because != Because::MoreGreen {
                plainly[slot(order)] += trade.energy_wh;
            }
        }
    }
    assert_eq!(surplus, plain.surplus, "wishes kept or created money");
    let fills = outcome.orders.iter().zip(&plain.orders);
    for (order, (fill, before)) in (0_u32..).zip(fills) {
        assert!(
            at(&plainly, order) == before.filled_wh && at(&traded, order) == fill.filled_wh,
            "wishes changed a fill"
        );
        assert!(
            fill.filled_wh + fill.left_out_wh <= book.get(order).energy_wh,
            "an order is over-filled"
        );
    }
    let extra = outcome.trades.iter().zip(&preferred.because);
    let extra = extra.filter(|(_, because)| **because == Because::MoreGreen);
    let gain = |t: &Match| {
        worth(book.get(t.bid).limit, t.energy_wh) - worth(book.get(t.offer).limit, t.energy_wh)
    };
    assert_eq!(
        extra.map(|(trade, _)| gain(trade)).sum::<i128>(),
        -preferred.cost.welfare,
        "what one pays another gets"
    );
}
