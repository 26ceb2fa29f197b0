//! `huang` (Huang, Scheller-Wolf and Sycara 2002): trade reduction for orders of many units.
//!
//! Orders are ranked strictly (limit, then ties). The last bid and the last offer that the volume needs
//! set the prices and do not trade: buyers pay the bid's limit, sellers receive the offer's limit, and
//! the difference is the surplus, booked to the community. Of the orders before them the longer side
//! is cut by the same amount of watt-hours each; an order smaller than its cut goes whole, and the
//! others bear what it could not. So nobody's limit moves the price or the cut of those who trade, and
//! for a participant with one order the true limit is the best one. **Limitation:** a participant with
//! several orders can gain by another split, and a small order can be cut whole where a worse one is served.

use domain::money::split_largest_remainder;

use super::merit::Plan;
use super::ranked::Ranked;
use super::{Decision, Ties, at, matching};
use crate::book::{Book, slot};
use crate::explain::{Reduction, Setting, explain};

pub(super) fn clear(book: &Book, ties: Ties) -> super::Outcome {
    let mut plan = Plan::new(book, ties);
    let welfare_max = plan.serve_best();
    let mut trades = Vec::new();
    let mut reduction = None;
    if let Some(ranked) = Ranked::of(&plan) {
        let (bid, offer) = (ranked.bid, ranked.offer);
        let [bids, offers] = ranked.before();
        reduction = Some(Reduction {
            dropped: [bid, offer],
            kept: bids.iter().chain(&offers).copied().collect(),
        });
        (plan.bids, plan.offers) = (bids, offers);
        serve_all_but_cuts(&mut plan);
        let (buyer_price, seller_price) = (book.get(bid).limit, book.get(offer).limit);
        trades = matching::trades(&plan, |_, _| (buyer_price, seller_price));
    }
    Decision {
        price: None,
        price_interval: None,
        trades,
        left_out: plan.left_out(),
        welfare_max,
        reasons: explain(
            book,
            &plan.filled,
            &plan.energy,
            Setting::reduced(None, ties, reduction),
        ),
        filled: plan.filled,
    }
    .into_outcome(book)
}

/// Serves everybody in the plan, the longer side cut to the shorter one.
fn serve_all_but_cuts(plan: &mut Plan<'_>) {
    plan.filled.fill(0);
    let sum =
        |plan: &Plan<'_>, list: &[u32]| -> i64 { list.iter().map(|i| at(&plan.energy, *i)).sum() };
    let (demand, supply) = (sum(plan, &plan.bids), sum(plan, &plan.offers));
    let volume = demand.min(supply);
    for (list, total) in [(plan.bids.clone(), demand), (plan.offers.clone(), supply)] {
        let cuts = equal_cuts(plan, &list, total - volume);
        for (index, cut) in list.into_iter().zip(cuts) {
            plan.filled[slot(index)] = at(&plan.energy, index) - cut;
        }
    }
    plan.leave_out_overlap(volume);
}

/// What each order of a list loses so that all lose `over` together: the same for each, as far as it has
/// as much. The odd watt-hours fall by lot.
fn equal_cuts(plan: &Plan<'_>, list: &[u32], over: i64) -> Vec<i64> {
    let mut cuts = vec![0; list.len()];
    let mut places: Vec<usize> = (0..list.len()).collect();
    places.sort_by_key(|place| at(&plan.energy, list[*place]));
    let mut left = over;
    let mut open = &places[..];
    while let [place, rest @ ..] = open {
        let energy = at(&plan.energy, list[*place]);
        let share = left / i64::try_from(open.len()).unwrap_or(i64::MAX);
        if energy > share {
            break;
        }
        cuts[*place] = energy;
        left -= energy;
        open = rest;
    }
    let keys: Vec<&[u8]> = open
        .iter()
        .map(|place| &plan.book.get(list[*place]).key[..])
        .collect();
    let parts = split_largest_remainder(left, &vec![1; open.len()], &keys, plan.book.salt());
    for (place, part) in open.iter().zip(parts.unwrap_or_default()) {
        cuts[*place] = part;
    }
    assert_eq!(
        cuts.iter().sum::<i64>(),
        over,
        "a side was not cut by what it was too long"
    );
    cuts
}
