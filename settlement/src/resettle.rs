//! A later run of an interval from what the run before it came to: only whose meter changed, and neighbours whose part
//! of the pool changed with it, are settled again.

use std::collections::BTreeMap;

use domain::delivery::Delivery;
use domain::ids::ParticipantId;
use domain::money::MoneyError;
use domain::posting::Run;
use domain::trade::Trade;

use crate::legs::Legs;
use crate::settle::{
    Feeder, Inputs, Parted, SettleError, Settlement, Share, balance, balance_legs,
};

/// What an interval came to in its last run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Before {
    /// Which run that was.
    pub run: Run,
    /// Its deliveries, ordered by participant.
    pub deliveries: Vec<Delivery>,
    /// The feeder's meter.
    pub feeder: Option<Feeder>,
}

/// Settles an interval again from the run before, with the same trades, tariff and terms. The settlement has the shares
/// of those for whom something changed, and in its legs what [`crate::settle::settle`] would post beyond the run
/// before. `None` where the change concerns everybody: other connections, other prices, steps of a tariff, or
/// income that is not held back any more.
///
/// # Errors
/// As [`crate::settle::settle`].
///
/// # Panics
/// As [`crate::settle::settle`].
pub fn resettle(inputs: &Inputs<'_>, before: &Before) -> Result<Option<Settlement>, SettleError> {
    inputs.check()?;
    let same = |(a, b): (&Delivery, &Delivery)| a.participant == b.participant;
    let connections_changed = inputs.deliveries.len() != before.deliveries.len()
        || !inputs.deliveries.iter().zip(&before.deliveries).all(same);
    let releases = inputs.options.terms.holdback_bp > 0
        && (inputs.options.run < Run::Final) != (before.run < Run::Final);
    if connections_changed || releases || !inputs.options.steps.is_empty() {
        return Ok(None);
    }
    compute(inputs, before).map_err(|source| inputs.overflow(source))
}

fn compute(inputs: &Inputs<'_>, before: &Before) -> Result<Option<Settlement>, MoneyError> {
    let mut inputs_before = *inputs;
    inputs_before.deliveries = &before.deliveries;
    inputs_before.feeder = before.feeder;
    let (now, then) = (Parted::of(inputs)?, Parted::of(&inputs_before)?);
    if now.prices != then.prices {
        return Ok(None);
    }
    let changed: Vec<usize> = (0..inputs.deliveries.len())
        .filter(|place| {
            now.pooled[*place] != then.pooled[*place]
                || inputs.deliveries[*place] != before.deliveries[*place]
        })
        .collect();
    let mut own = trades_of(inputs, &changed);
    let (mut legs, mut posted) = (Legs::default(), Legs::default());
    let mut shares: Vec<Share> = Vec::with_capacity(changed.len());
    for place in changed {
        let trades = own.remove(&inputs.deliveries[place].participant);
        let share = now.share(inputs, place, trades.unwrap_or_default());
        let old = share.with(&before.deliveries[place], then.pooled[place])?;
        legs.unite(share.legs(&now.prices, inputs.options.run)?);
        posted.unite(old.legs(&then.prices, before.run)?);
        shares.push(share);
    }
    let balance_now = balance(inputs)?;
    balance_legs(&mut legs, &balance_now)?;
    balance_legs(&mut posted, &balance(&inputs_before)?)?;
    let settlement = Settlement {
        interval: inputs.interval,
        prices: now.prices,
        version: inputs.options.version.map(str::to_owned),
        shares,
        balance: balance_now,
        legs: legs.minus(&posted)?,
    };
    settlement.check(inputs, &now.pooled);
    Ok(Some(settlement))
}

/// The trades of those whose place changed.
fn trades_of<'a>(
    inputs: &Inputs<'a>,
    changed: &[usize],
) -> BTreeMap<&'a ParticipantId, Vec<Trade>> {
    let mut own: BTreeMap<&ParticipantId, Vec<Trade>> = changed
        .iter()
        .map(|place| (&inputs.deliveries[*place].participant, Vec::new()))
        .collect();
    for trade in inputs.trades {
        for party in [&trade.buyer, &trade.seller] {
            if let Some(trades) = own.get_mut(party) {
                trades.push(trade.clone());
            }
        }
    }
    own
}
