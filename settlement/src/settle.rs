//! What an interval comes to: a pure function from trades, deliveries and prices to postings.
//!
//! Deviations first cancel inside the community at the local price; the utility buys or sells the rest.
//! Energy is kept in double entry beside the money, and what the feeder's meter does not explain is
//! shown as loss.

use std::collections::BTreeMap;

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::{MoneyError, Price};
use domain::posting::{Account, Asset, Chart, Posting, Purpose, Run};
use domain::receipt::{Line, Prices};
use domain::time::Interval;
use domain::trade::Trade;

use crate::amounts::Pooling;
use crate::legs::{About, Legs, participant_legs};
use crate::tariff::Tariff;

/// What the feeder's meter counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feeder {
    /// From the grid into the street.
    pub imported: Energy,
    /// From the street into the grid.
    pub exported: Energy,
}

/// Everything that decides an interval's settlement.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// When.
    pub interval: Interval,
    /// The prices around the market.
    pub tariff: &'a Tariff,
    /// The clearing price, where something traded at one price.
    pub clearing_price: Option<Price>,
    /// All trades of the interval.
    pub trades: &'a [Trade],
    /// One delivery for each participant, ordered by participant.
    pub deliveries: &'a [Delivery],
    /// The feeder's meter, where it has one and it spoke.
    pub feeder: Option<Feeder>,
}

/// How one participant's deviation was served: surplus above zero, shortage below.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// What was traded beside what flowed.
    pub delivery: Delivery,
    /// The part that neighbours cancelled.
    pub pooled: Energy,
    /// The part of the utility.
    pub utility: Energy,
    trades: Vec<Trade>,
}

/// How the street's energy adds up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Balance {
    /// From the grid.
    pub imported: Energy,
    /// To the grid.
    pub exported: Energy,
    /// Sent but not received; below zero where more was received than sent.
    pub lost: Energy,
    /// Whether the feeder was metered; if not, the grid's flow is what balances without loss.
    pub feeder_metered: bool,
}

/// What an interval comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settlement {
    /// When.
    pub interval: Interval,
    /// The prices used.
    pub prices: Prices,
    /// Each participant's share, ordered by participant.
    pub shares: Vec<Share>,
    /// How the energy adds up.
    pub balance: Balance,
    /// All that is to be posted, in sums.
    pub legs: Legs,
}

/// Why an interval could not be settled.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettleError {
    /// A number too large.
    #[error("the settlement of {interval} does not fit: {source}")]
    Money {
        /// When.
        interval: Interval,
        /// What did not fit.
        source: MoneyError,
    },
    /// A price below zero, with which a seller would have to pay from an account that may be empty.
    #[error("a price below zero among the trades of {0}: such trades cannot be prepaid")]
    NegativePrice(Interval),
}

/// Settles an interval.
///
/// # Errors
/// Amounts beyond 64 bits, and prices below zero.
///
/// # Panics
/// When energy bought is not energy sold, or the pool is not empty afterwards: then a rule is broken and
/// nothing may be posted.
pub fn settle(inputs: &Inputs<'_>) -> Result<Settlement, SettleError> {
    let prices = inputs.tariff.prices(inputs.clearing_price);
    let cheap = inputs.trades.iter().any(|t| t.price < Price::ZERO);
    if cheap || prices.pool < Price::ZERO {
        return Err(SettleError::NegativePrice(inputs.interval));
    }
    let settled = compute(inputs, prices);
    settled.map_err(|source| SettleError::Money {
        interval: inputs.interval,
        source,
    })
}

fn compute(inputs: &Inputs<'_>, prices: Prices) -> Result<Settlement, MoneyError> {
    let shares = shares(inputs)?;
    let mut legs = Legs::default();
    for share in &shares {
        let own = participant_legs(
            &share.delivery,
            &share.trades,
            share.pooled,
            share.utility,
            &prices,
        )?;
        legs.unite(own);
    }
    let balance = balance(inputs)?;
    balance_legs(&mut legs, &balance)?;
    let settlement = Settlement {
        interval: inputs.interval,
        prices,
        shares,
        balance,
        legs,
    };
    settlement.check(inputs);
    Ok(settlement)
}

/// Splits each deviation into what the pool and what the utility serves.
fn shares(inputs: &Inputs<'_>) -> Result<Vec<Share>, MoneyError> {
    let deviations: Vec<i64> = inputs
        .deliveries
        .iter()
        .map(|d| d.deviation().map(Energy::wh).ok_or(MoneyError::Overflow))
        .collect::<Result<_, _>>()?;
    let salt = inputs.interval.start_s().to_be_bytes();
    let key = |index: usize| inputs.deliveries[index].participant.as_str().as_bytes();
    let mut pooling = Pooling::default();
    let pooled = pooling.pool(&deviations, key, &salt)?;
    let mut own: BTreeMap<&ParticipantId, Vec<Trade>> = BTreeMap::new();
    for trade in inputs.trades {
        for party in [&trade.buyer, &trade.seller] {
            own.entry(party).or_default().push(trade.clone());
        }
    }
    let share = |(index, delivery): (usize, &Delivery)| {
        let pooled = pooled[index];
        Share {
            delivery: delivery.clone(),
            pooled: Energy::from_wh(pooled),
            utility: Energy::from_wh(deviations[index] - pooled),
            trades: own.remove(&delivery.participant).unwrap_or_default(),
        }
    };
    Ok(inputs.deliveries.iter().enumerate().map(share).collect())
}

fn balance(inputs: &Inputs<'_>) -> Result<Balance, MoneyError> {
    let fits = |wh: i128| {
        i64::try_from(wh)
            .map(Energy::from_wh)
            .map_err(|_| MoneyError::Overflow)
    };
    let net = |export: Energy, import: Energy| i128::from(export.wh()) - i128::from(import.wh());
    // What the homes gave the street beyond what they took from it.
    let given: i128 = inputs
        .deliveries
        .iter()
        .map(|d| net(d.exported, d.imported))
        .sum();
    Ok(match inputs.feeder {
        Some(feeder) => Balance {
            imported: feeder.imported,
            exported: feeder.exported,
            lost: fits(given - net(feeder.exported, feeder.imported))?,
            feeder_metered: true,
        },
        None => Balance {
            imported: fits((-given).max(0))?,
            exported: fits(given.max(0))?,
            lost: Energy::ZERO,
            feeder_metered: false,
        },
    })
}

fn balance_legs(legs: &mut Legs, balance: &Balance) -> Result<(), MoneyError> {
    let about = |purpose| About {
        asset: Asset::WattHour,
        purpose,
        reference: None,
    };
    let pool = Account::common(Chart::Pool);
    let net = balance
        .imported
        .checked_sub(balance.exported)
        .ok_or(MoneyError::Overflow)?;
    let (grid, loss) = (Account::common(Chart::Grid), Account::common(Chart::Loss));
    legs.add(about(Purpose::MeteredEnergy), &grid, &pool, net.wh())?;
    legs.add(about(Purpose::LostEnergy), &pool, &loss, balance.lost.wh())
}

impl Settlement {
    fn check(&self, inputs: &Inputs<'_>) {
        let sum = |of: fn(&Delivery) -> Energy| -> i128 {
            inputs
                .deliveries
                .iter()
                .map(|d| i128::from(of(d).wh()))
                .sum()
        };
        assert_eq!(
            sum(|d| d.bought),
            sum(|d| d.sold),
            "energy bought is not energy sold"
        );
        let pooled: i128 = self.shares.iter().map(|s| i128::from(s.pooled.wh())).sum();
        assert_eq!(pooled, 0, "the pool gives what it does not take");
        for asset in [Asset::Token, Asset::WattHour] {
            assert_eq!(
                self.legs.net_of(Chart::Pool, asset),
                0,
                "the pool is not empty: {asset:?}"
            );
        }
    }

    /// Each participant's line of a run that posts `postings`, ordered by participant.
    #[must_use]
    pub fn lines(&self, run: Run, postings: &[Posting]) -> Vec<Line> {
        let mut own: BTreeMap<&str, Vec<Posting>> = BTreeMap::new();
        for posting in postings {
            // No account is on both sides, so a posting is at most once in each owner's list.
            for owner in [posting.debit.owner(), posting.credit.owner()] {
                own.entry(owner).or_default().push(posting.clone());
            }
        }
        let line = |share: &Share| Line {
            interval: self.interval,
            participant: share.delivery.participant.clone(),
            run,
            delivery: share.delivery.clone(),
            trades: share.trades.clone(),
            pooled_wh: share.pooled,
            utility_wh: share.utility,
            prices: self.prices,
            postings: own
                .remove(share.delivery.participant.as_str())
                .unwrap_or_default(),
        };
        self.shares.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::{Digest32, OrderId, PointId};
    use domain::quality::Quality;
    use proptest::prelude::*;

    fn interval() -> Interval {
        Interval::new(1_782_000_000, 900).unwrap()
    }

    fn tariff() -> Tariff {
        let price = |text: &str| text.parse().unwrap();
        Tariff::new(price("0.32"), price("0.08"), price("0.07")).unwrap()
    }

    fn party(index: usize) -> ParticipantId {
        ParticipantId::new(format!("home-{index:02}")).unwrap()
    }

    fn trade(buyer: usize, seller: usize, wh: i64, price: i64) -> Trade {
        let order = |n: usize| OrderId([u8::try_from(n).unwrap(); 16]);
        Trade {
            id: Trade::id_of(interval(), &Digest32([0; 32]), order(buyer), order(seller)),
            interval: interval(),
            bid: order(buyer),
            offer: order(seller),
            buyer: party(buyer),
            seller: party(seller),
            energy: Energy::from_wh(wh),
            price: Price::from_micro_per_kwh(price),
            network_fee: None,
        }
    }

    fn deliveries(trades: &[Trade], flows: &[(i64, i64)]) -> Vec<Delivery> {
        let sum = |side: fn(&Trade) -> &ParticipantId, who: &ParticipantId| {
            let own = trades.iter().filter(|t| side(t) == who);
            Energy::from_wh(own.map(|t| t.energy.wh()).sum())
        };
        let delivery = |(index, (imported, exported)): (usize, &(i64, i64))| Delivery {
            interval: interval(),
            participant: party(index),
            point: PointId::new(format!("p-{index}")).unwrap(),
            imported: Energy::from_wh(*imported),
            exported: Energy::from_wh(*exported),
            bought: sum(|t| &t.buyer, &party(index)),
            sold: sum(|t| &t.seller, &party(index)),
            quality: Quality::MEASURED,
            reading: None,
        };
        flows.iter().enumerate().map(delivery).collect()
    }

    fn run(trades: &[Trade], flows: &[(i64, i64)], feeder: Option<Feeder>) -> Settlement {
        let deliveries = deliveries(trades, flows);
        let inputs = Inputs {
            interval: interval(),
            tariff: &tariff(),
            clearing_price: trades.first().map(|t| t.price),
            trades,
            deliveries: &deliveries,
            feeder,
        };
        settle(&inputs).unwrap()
    }

    #[test]
    fn an_interval_by_hand() {
        // Home 0 buys 1000 Wh from home 1 at 0.132 and draws 1200; home 1 delivers 1150.
        let settlement = run(&[trade(0, 1, 1000, 132_000)], &[(1200, 0), (0, 1150)], None);
        let pooled: Vec<i64> = settlement.shares.iter().map(|s| s.pooled.wh()).collect();
        let utility: Vec<i64> = settlement.shares.iter().map(|s| s.utility.wh()).collect();
        assert_eq!((pooled, utility), (vec![-150, 150], vec![-50, 0]));
        let net = |chart| settlement.legs.net_of(chart, Asset::Token);
        assert_eq!(net(Chart::Held), -i128::from(132_000_000 + 70_000_000));
        assert_eq!(net(Chart::Available), 132_000_000);
        assert_eq!(net(Chart::Network), 70_000_000 + 150 * 70_000);
        assert_eq!(net(Chart::Utility), 50 * 320_000);
        assert_eq!(
            net(Chart::Statement),
            -i128::from(150 * 70_000 + 50 * 320_000)
        );
        assert_eq!(settlement.balance.imported.wh(), 50);
        assert!(!settlement.balance.feeder_metered);
    }

    #[test]
    fn what_the_feeder_does_not_explain_is_loss() {
        let feeder = Feeder {
            imported: Energy::from_wh(60),
            exported: Energy::ZERO,
        };
        let settlement = run(&[], &[(1200, 0), (0, 1150)], Some(feeder));
        assert_eq!(settlement.balance.lost.wh(), 10);
        assert_eq!(settlement.legs.net_of(Chart::Loss, Asset::WattHour), 10);
    }

    proptest! {
        #[test]
        fn sums_are_zero_and_the_pool_is_empty(
            flows in proptest::collection::vec((0_i64..3000, 0_i64..3000), 20),
            trades in proptest::collection::vec((0_usize..20, 0_usize..20, 1_i64..800), 0..12),
            price in 80_000_i64..250_000,
            feeder in proptest::option::of((0_i64..9000, 0_i64..9000)),
        ) {
            let mut seen = std::collections::BTreeSet::new();
            let trades: Vec<Trade> = trades
                .into_iter()
                .filter(|(b, s, _)| b != s && seen.insert((*b, *s)))
                .map(|(b, s, wh)| trade(b, s, wh, price))
                .collect();
            let wh = Energy::from_wh;
            let feeder = feeder.map(|(i, e)| Feeder { imported: wh(i), exported: wh(e) });
            let settlement = run(&trades, &flows, feeder);
            for asset in [Asset::Token, Asset::WattHour] {
                prop_assert_eq!(settlement.legs.net_of(Chart::Pool, asset), 0);
                let charts = [
                    Chart::Available, Chart::Held, Chart::Statement, Chart::Utility,
                    Chart::Network, Chart::Meter, Chart::Grid, Chart::Loss,
                ];
                let total: i128 = charts.iter().map(|c| settlement.legs.net_of(*c, asset)).sum();
                prop_assert_eq!(total, 0);
            }
            for share in &settlement.shares {
                let deviation = share.delivery.deviation().unwrap().wh();
                prop_assert_eq!(share.pooled.wh() + share.utility.wh(), deviation);
                prop_assert!(share.pooled.wh() * deviation >= 0);
                prop_assert!(share.utility.wh() * deviation >= 0);
            }
            // A later run with other meter values posts the difference, and no more than that.
            let mut moved = flows.clone();
            moved[3].0 += 250;
            let target = run(&trades, &moved, feeder);
            let first = settlement.legs.postings(interval(), Run::Provisional);
            let posted = Legs::of(&first).unwrap();
            prop_assert_eq!(&posted, &settlement.legs);
            let rest = target.legs.minus(&posted).unwrap().postings(interval(), Run::Initial);
            let all = Legs::of(first.iter().chain(&rest)).unwrap();
            prop_assert_eq!(all, target.legs);
        }
    }
}
