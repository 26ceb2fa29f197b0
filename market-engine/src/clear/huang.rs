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
use super::{Auction, Budget, Decision, Ties, matching};
use crate::book::{Book, slot};
use crate::explain::{Reduction, Setting, explain};

/// The price-setting pair drops out, the longer side is cut.
pub(super) struct Huang {
    pub(super) ties: Ties,
}

impl Auction for Huang {
    fn name(&self) -> &'static str {
        "huang"
    }

    fn price_policy(&self) -> &'static str {
        "dropped-pair"
    }

    fn ties(&self) -> Ties {
        self.ties
    }

    fn budget(&self) -> Budget {
        Budget::Surplus
    }

    fn keeps_merit_order(&self) -> bool {
        false
    }

    fn clear(&self, book: &Book) -> super::Outcome {
        let ties = self.ties;
        let mut plan = Plan::new(book, ties);
        let welfare_max = plan.serve_best();
        let price_interval = plan.interval();
        let mut trades = Vec::new();
        let mut reduction = None;
        if let Some(ranked) = Ranked::of(&plan) {
            let (bid, offer) = (ranked.bid, ranked.offer);
            let [bids, offers] = ranked.before();
            let kept = bids.iter().chain(&offers).copied().collect();
            let dropped = [bid, offer];
            serve_all_but_cuts(&mut plan, [bids, offers]);
            reduction = Some(Reduction { dropped, kept });
            let (buyer_price, seller_price) = (book.get(bid).limit, book.get(offer).limit);
            trades = matching::trades(&plan, |_, _| (buyer_price, seller_price));
        }
        Decision {
            price: None,
            price_interval,
            trades,
            welfare_max,
            reasons: explain(
                book,
                &plan.filled,
                &plan.left_out,
                Setting::reduced(None, ties, reduction),
            ),
            left_out: plan.left_out,
            filled: plan.filled,
        }
        .into_outcome(book)
    }
}

/// Serves all of these bids and offers, the longer side cut to the shorter one.
fn serve_all_but_cuts(plan: &mut Plan<'_>, sides: [Vec<u32>; 2]) {
    plan.filled.fill(0);
    let sums =
        [0, 1].map(|side: usize| -> i64 { sides[side].iter().map(|i| plan.energy(*i)).sum() });
    let volume = sums[0].min(sums[1]);
    for (list, total) in sides.into_iter().zip(sums) {
        let cuts = equal_cuts(plan, &list, total - volume);
        for (index, cut) in list.into_iter().zip(cuts) {
            plan.filled[slot(index)] = plan.energy(index) - cut;
        }
    }
    plan.leave_out_overlap(volume);
}

/// What each order of a list loses so that all lose `over` together: the same for each, as far as it has
/// as much. The odd watt-hours fall by lot.
fn equal_cuts(plan: &Plan<'_>, list: &[u32], over: i64) -> Vec<i64> {
    let mut cuts = vec![0; list.len()];
    let mut places: Vec<usize> = (0..list.len()).collect();
    places.sort_by_key(|place| plan.energy(list[*place]));
    let mut left = over;
    let mut open = &places[..];
    while let [place, rest @ ..] = open {
        let energy = plan.energy(list[*place]);
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
