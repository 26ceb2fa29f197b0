//! All mechanisms on the same orders, side by side: what each makes of them, how it divides the gain,
//! and how much a participant could win by not telling its true limit.
//!
//! The gain from misreporting is a sampled best response: for participants drawn by lot, all their
//! bids (or offers) get another limit, one after another from a sample of the book's limits and their
//! neighbours, while everybody else stays; the most that any of it wins them, by their true limits, is
//! the gain. A sample can miss a gain, and finds none that is not there.

mod write;

use std::collections::BTreeSet;

use domain::energy::Energy;
use domain::money::Price;
use domain::order::Side;

use crate::book::{Book, Entry, slot};
use crate::clear::{Gains, Mechanism, Outcome, PairPrice, PricePolicy, Ties, clear};
use crate::share::{Member, ShareError, SharingRule, share};

/// Most participants whose best response is sampled.
pub const SAMPLED_PARTICIPANTS: usize = 24;
/// Most limits that each of them tries.
pub const SAMPLED_LIMITS: usize = 24;
/// Books above this many orders are compared without best responses: each costs a clearing.
pub const SAMPLED_ORDERS_MAX: usize = 20_000;

/// The mechanisms that are compared, each with its usual ties.
#[must_use]
pub fn mechanisms(seed: u64) -> Vec<Mechanism> {
    let ties = Ties::ProRata;
    let uniform = |policy| Mechanism::UniformPrice { policy, ties };
    let each = |price| Mechanism::PayAsBid { price, ties };
    let k_millionths = 500_000;
    vec![
        uniform(PricePolicy::WalrasMid),
        uniform(PricePolicy::Marginal),
        uniform(PricePolicy::PairK { k_millionths }),
        each(PairPrice::Mid),
        each(PairPrice::Bid),
        each(PairPrice::Offer),
        Mechanism::TradeReduction { ties },
        Mechanism::Huang { ties },
        Mechanism::Muda { seed },
        Mechanism::Vcg { ties },
        Mechanism::Continuous,
    ]
}

/// What one mechanism made of the book. Money in nano-tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// Energy traded.
    pub volume_wh: i64,
    /// The one price, where there is one.
    pub price: Option<Price>,
    /// Sum of bid limits minus offer limits over what traded.
    pub welfare: i128,
    /// What buyers pay less than their limits.
    pub buyers: i128,
    /// What sellers receive above their limits.
    pub sellers: i128,
    /// What the community keeps; below zero where it would have to pay.
    pub community: i128,
    /// Gini coefficient of the participants' gains, in permille: 0 all alike, towards 1000 one has all.
    /// None where nobody gains.
    pub gini_permille: Option<i128>,
    /// What lying would win; none where the book is too large to sample.
    pub misreport: Option<Misreport>,
}

/// The sampled gain from naming another limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Misreport {
    /// Participants that were sampled.
    pub sampled: usize,
    /// Of them, those that could win something.
    pub could_gain: usize,
    /// The most that one of them could win, in nano-tokens.
    pub best: i128,
}

/// What a sharing rule made of the same energies, against the utility alone. Money in nano-tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharingRow {
    /// The rule.
    pub rule: SharingRule,
    /// Energy shared.
    pub volume_wh: i64,
    /// What buyers save against the retail price.
    pub buyers: i128,
    /// What sellers gain against the feed-in price.
    pub sellers: i128,
    /// As in [`Row`].
    pub gini_permille: Option<i128>,
}

/// The whole comparison.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Comparison {
    /// The most welfare of the book.
    pub welfare_max: i128,
    /// One for each mechanism that takes a book of this size.
    pub rows: Vec<Row>,
    /// One for each sharing rule, where the utility's prices are known.
    pub sharing: Vec<SharingRow>,
}

/// Clears a book by every mechanism. `tariff` is the utility's retail and feed-in price, for the sharing rules.
///
/// # Errors
/// The tariff's prices are crossed, or a bill does not fit 64 bits.
pub fn compare(
    book: &Book,
    seed: u64,
    tariff: Option<(Price, Price)>,
) -> Result<Comparison, ShareError> {
    let fits = |m: &Mechanism| book.entries().len() <= m.orders_max();
    let rows: Vec<Row> = mechanisms(seed)
        .into_iter()
        .filter(fits)
        .map(|mechanism| row(book, mechanism, seed))
        .collect();
    let sharing = match tariff {
        Some((retail, feed_in)) => SharingRule::ALL
            .into_iter()
            .map(|rule| sharing_row(book, rule, retail, feed_in))
            .collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let welfare_max = clear(book, Mechanism::default()).welfare_max;
    Ok(Comparison {
        welfare_max,
        rows,
        sharing,
    })
}

fn row(book: &Book, mechanism: Mechanism, seed: u64) -> Row {
    let outcome = clear(book, mechanism);
    let Gains {
        buyers,
        sellers,
        community,
    } = outcome.gains(book);
    Row {
        mechanism,
        volume_wh: outcome.volume_wh,
        price: outcome.price,
        welfare: outcome.welfare,
        buyers,
        sellers,
        community,
        gini_permille: gini_permille(&gains(book, &outcome)),
        misreport: misreport(book, mechanism, seed, &outcome),
    }
}

/// What each participant gains by its limits in `book`.
fn gains(book: &Book, outcome: &Outcome) -> Vec<i128> {
    let mut gains = vec![0; book.participants()];
    for t in &outcome.trades {
        let (bid, offer) = (book.get(t.bid), book.get(t.offer));
        let energy = i128::from(t.energy_wh);
        gains[slot(bid.participant)] += energy * (wide(bid.limit) - wide(t.buyer_price));
        gains[slot(offer.participant)] += energy * (wide(t.seller_price) - wide(offer.limit));
    }
    gains
}

fn wide(price: Price) -> i128 {
    i128::from(price.micro_per_kwh())
}

/// Gini coefficient: the mean difference of two participants' gains over twice the mean gain.
fn gini_permille(gains: &[i128]) -> Option<i128> {
    let mut sorted = gains.to_vec();
    sorted.sort_unstable();
    let total: i128 = sorted.iter().sum();
    let count = i128::try_from(sorted.len()).ok()?;
    if total <= 0 {
        return None;
    }
    // Over sorted gains, the sum of all differences is the sum of (2i − n + 1) × gain.
    let weighted = (0_i128..)
        .zip(&sorted)
        .map(|(i, gain)| (2 * i - count + 1) * gain);
    Some(weighted.sum::<i128>() * 1000 / (count * total))
}

fn misreport(book: &Book, mechanism: Mechanism, seed: u64, truth: &Outcome) -> Option<Misreport> {
    if book.entries().len() > SAMPLED_ORDERS_MAX {
        return None;
    }
    let honest = gains(book, truth);
    let limits = sampled_limits(book);
    let mut found = Misreport::default();
    for participant in sampled_participants(book, seed) {
        let best = best_response(book, mechanism, participant, &limits);
        let gain = best.unwrap_or(0) - honest[slot(participant)];
        found.sampled += 1;
        found.could_gain += usize::from(gain > 0);
        found.best = found.best.max(gain);
    }
    Some(found)
}

/// Participants drawn by lot, by the least name among their orders.
fn sampled_participants(book: &Book, seed: u64) -> Vec<u32> {
    let mut names: Vec<([u8; 32], u32)> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut entries: Vec<&Entry> = book.entries().iter().collect();
    entries.sort_unstable_by_key(|e| e.key);
    for entry in entries {
        if seen.insert(entry.participant) {
            let draw = domain::ids::digest_parts("misreport", &[&seed.to_be_bytes(), &entry.key]);
            names.push((draw, entry.participant));
        }
    }
    names.sort_unstable();
    names.truncate(SAMPLED_PARTICIPANTS);
    names
        .into_iter()
        .map(|(_, participant)| participant)
        .collect()
}

/// Limits of the book, evenly sampled, with their neighbours one tick away.
fn sampled_limits(book: &Book) -> Vec<Price> {
    let all: BTreeSet<Price> = book.entries().iter().map(|e| e.limit).collect();
    let all: Vec<Price> = all.into_iter().collect();
    let wanted = SAMPLED_LIMITS / 3;
    let step = all.len().div_ceil(wanted).max(1);
    let near = |limit: &Price| {
        let moved = |by| limit.checked_add(Price::from_micro_per_kwh(by));
        [Some(*limit), moved(1), moved(-1)].into_iter().flatten()
    };
    all.iter().step_by(step).flat_map(near).collect()
}

/// The most a participant gets, by its true limits, when one side of its orders names another limit.
fn best_response(
    book: &Book,
    mechanism: Mechanism,
    participant: u32,
    limits: &[Price],
) -> Option<i128> {
    let mut best = None;
    for side in [Side::Bid, Side::Offer] {
        let own = |e: &Entry| e.participant == participant && e.side == side;
        if !book.entries().iter().any(own) {
            continue;
        }
        for limit in limits {
            let lied = book.with_limits(|e| if own(e) { *limit } else { e.limit });
            let outcome = clear(&lied, mechanism);
            best = best.max(Some(gains(book, &outcome)[slot(participant)]));
        }
    }
    best
}

fn sharing_row(
    book: &Book,
    rule: SharingRule,
    retail: Price,
    feed_in: Price,
) -> Result<SharingRow, ShareError> {
    let members = members(book);
    let shares = share(rule, &members, retail, feed_in, book.salt())?;
    let saved = |(member, bill): (&Member, &domain::money::Money)| {
        let alone = i128::from(member.taken.wh()) * wide(retail)
            - i128::from(member.given.wh()) * wide(feed_in);
        alone - i128::from(bill.nano())
    };
    let gains: Vec<i128> = members.iter().zip(&shares.bills).map(saved).collect();
    let of = |takes: bool| {
        let side = members
            .iter()
            .zip(&gains)
            .filter(|(m, _)| (m.taken > m.given) == takes);
        side.map(|(_, gain)| gain).sum()
    };
    Ok(SharingRow {
        rule,
        volume_wh: shares.shared.wh(),
        buyers: of(true),
        sellers: of(false),
        gini_permille: gini_permille(&gains),
    })
}

/// What each participant wants to take or give on the whole, whatever its limits.
fn members(book: &Book) -> Vec<Member> {
    let mut net_wh = vec![0_i64; book.participants()];
    let mut keys = vec![[u8::MAX; 16]; book.participants()];
    for entry in book.entries() {
        let place = slot(entry.participant);
        // Each side's sum fits 64 bits, so the difference does.
        net_wh[place] += match entry.side {
            Side::Bid => entry.energy_wh,
            Side::Offer => -entry.energy_wh,
        };
        keys[place] = keys[place].min(entry.key);
    }
    let member = |(net_wh, key): (i64, [u8; 16])| Member {
        taken: Energy::from_wh(net_wh.max(0)),
        given: Energy::from_wh((-net_wh).max(0)),
        key,
    };
    net_wh.into_iter().zip(keys).map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gini_of_known_distributions() {
        assert_eq!(gini_permille(&[5, 5, 5, 5]), Some(0));
        assert_eq!(gini_permille(&[0, 0, 0, 8]), Some(750));
        assert_eq!(gini_permille(&[1, 2, 3, 4]), Some(250));
        assert_eq!([gini_permille(&[]), gini_permille(&[0, 0])], [None; 2]);
    }
}
