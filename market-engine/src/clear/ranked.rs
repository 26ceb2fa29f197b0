//! All orders in strict rank, and the pair at the margin that sets the price of trade reductions.

use domain::order::Side;

use super::merit::Plan;

/// Orders of both sides, best first, with the last one of each side that the volume needs.
pub(super) struct Ranked {
    bids: Vec<u32>,
    offers: Vec<u32>,
    bid_place: usize,
    offer_place: usize,
    /// The last bid that the volume needs.
    pub(super) bid: u32,
    /// The last offer that the volume needs.
    pub(super) offer: u32,
}

impl Ranked {
    /// Ranks a served plan; `None` where nothing is served.
    pub(super) fn of(plan: &Plan<'_>) -> Option<Self> {
        let volume = plan.margin?.volume_wh;
        let ranked = |side| plan.ranked(side, plan.taking_part(side));
        let (bids, offers) = (ranked(Side::Bid), ranked(Side::Offer));
        let (bid_place, offer_place) = (
            last_needed(plan, &bids, volume),
            last_needed(plan, &offers, volume),
        );
        let (bid, offer) = (bids[bid_place], offers[offer_place]);
        Some(Ranked {
            bids,
            offers,
            bid_place,
            offer_place,
            bid,
            offer,
        })
    }

    /// The bid and the offer next in rank behind the last ones.
    pub(super) fn next_pair(&self) -> Option<(u32, u32)> {
        let next_bid = self.bids.get(self.bid_place + 1)?;
        Some((*next_bid, *self.offers.get(self.offer_place + 1)?))
    }

    /// The bids and the offers before the last ones.
    pub(super) fn before(mut self) -> [Vec<u32>; 2] {
        self.bids.truncate(self.bid_place);
        self.offers.truncate(self.offer_place);
        [self.bids, self.offers]
    }
}

/// Position of the order with which the energy, best first, reaches the volume.
fn last_needed(plan: &Plan<'_>, ranked: &[u32], volume: i64) -> usize {
    let mut sum = 0_i64;
    let reaches = |i: &u32| {
        sum += plan.energy(*i);
        sum >= volume
    };
    let position = ranked.iter().position(reaches);
    assert!(
        position.is_some(),
        "a side holds less energy than its volume"
    );
    position.unwrap_or(0)
}
