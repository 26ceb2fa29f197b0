//! What the orders of an interval wish, by their places in the book.

use std::collections::BTreeMap;

use domain::ids::ParticipantId;
use domain::order::Side;

use super::Placed;
use crate::clear::Mechanism;
use crate::preference::{Heeded, Wish};

/// One wish for each order; none where nobody wishes anything, or where the mechanism heeds none.
/// A partner without an order in the book cannot be met. Feeders are looked at only where
/// somebody wishes energy of its own.
pub(super) fn wishes(
    orders: &[&Placed],
    mechanism: Mechanism,
    numbers: &BTreeMap<&ParticipantId, u32>,
    feeders: &BTreeMap<ParticipantId, u32>,
) -> Option<Vec<Wish>> {
    let heeded = Heeded::by(mechanism);
    let wished = |placed: &&Placed| !placed.order.preference.is_none();
    if !orders.iter().any(wished) || heeded == Heeded::Nothing {
        return None;
    }
    let local = |placed: &&Placed| placed.order.preference.same_feeder;
    let looks_at_feeders = orders.iter().any(local);
    let wish = |placed: &&Placed| {
        let (order, wishes) = (&placed.order, &placed.order.preference);
        let met = wishes.partners.iter().filter_map(|p| numbers.get(p));
        let named = looks_at_feeders && (order.side == Side::Offer || wishes.same_feeder);
        Wish {
            partners: met.copied().collect(),
            feeder: feeders.get(&order.participant).copied().filter(|_| named),
            same_feeder: wishes.same_feeder,
            green: wishes.green,
            green_premium: wishes.green_premium,
        }
    };
    Some(orders.iter().map(wish).collect())
}
