//! Sums of postings by what they are about: the form in which a run is compared with earlier runs.
//!
//! A leg is a pair of accounts with a purpose; an amount in the other direction counts as negative, so
//! that a correction of either sign is one posting.

use std::collections::BTreeMap;

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::{ParticipantId, PostingId, TradeId, timed_id};
use domain::money::MoneyError;
use domain::posting::{Account, Asset, Chart, Posting, Purpose, Run};
use domain::receipt::{Line, Prices};
use domain::terms::Tiers;
use domain::time::Interval;
use domain::trade::Trade;

use crate::amounts::{DeviationAmounts, TradeAmounts, deviation_amounts, trade_amounts};
use crate::settle::Balance;

/// What a sum of postings is about. The first account sorts before the second.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    asset: Asset,
    purpose: Purpose,
    reference: Option<TradeId>,
    first: Account,
    second: Account,
}

/// Sums of postings; zero sums are not kept, so equal sums are equal values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Legs {
    sums: BTreeMap<Key, i64>,
}

/// What moves and why, without an amount.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// What is moved.
    pub asset: Asset,
    /// Why.
    pub purpose: Purpose,
    /// For which trade, where it is for one.
    pub reference: Option<TradeId>,
}

/// An amount on its way from one account to another, whatever stands for a participant: an id where it is posted, a
/// place in a list where a run of thousands of homes only counts. An account without a participant is the community's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Movement<P> {
    /// What is moved.
    pub asset: Asset,
    /// Why.
    pub purpose: Purpose,
    /// From where.
    pub debit: (Chart, Option<P>),
    /// To where.
    pub credit: (Chart, Option<P>),
    /// How much, in nano-tokens or watt-hours; below zero it moves the other way, and zero is nothing.
    pub amount: i64,
}

impl<P> Movement<P> {
    /// What this moves beyond another between the same accounts.
    ///
    /// # Errors
    /// A difference that does not fit 64 bits.
    pub fn minus(mut self, other: &Movement<P>) -> Result<Movement<P>, MoneyError> {
        let rest = self.amount.checked_sub(other.amount);
        self.amount = rest.ok_or(MoneyError::Overflow)?;
        Ok(self)
    }

    /// The same with another name for each participant.
    pub fn named<Q>(self, name: impl Fn(P) -> Q) -> Movement<Q> {
        let named = |(chart, owner): (Chart, Option<P>)| (chart, owner.map(&name));
        Movement {
            asset: self.asset,
            purpose: self.purpose,
            debit: named(self.debit),
            credit: named(self.credit),
            amount: self.amount,
        }
    }
}

/// What a trade moves in a run: the buyer pays the seller and the network from its hold; the community takes its fee
/// of what the seller got, and a part of the rest stays behind until the final run. The first is both parties', the
/// second the buyer's, the others are the seller's.
#[must_use]
pub fn trade_movements<P: Copy>(
    (buyer, seller): (P, P),
    amounts: &TradeAmounts,
    run: Run,
) -> [Movement<P>; 4] {
    let held = (Chart::Held, Some(buyer));
    let earned = (Chart::Available, Some(seller));
    let token = |purpose, debit, credit, amount| Movement {
        asset: Asset::Token,
        purpose,
        debit,
        credit,
        amount,
    };
    let kept = if run < Run::Final {
        amounts.holdback_nano
    } else {
        0
    };
    let holdback = (Chart::Holdback, Some(seller));
    let (network, community) = ((Chart::Network, None), (Chart::Community, None));
    [
        token(Purpose::Trade, held, earned, amounts.price_nano),
        token(Purpose::NetworkFee, held, network, amounts.fee_nano),
        token(
            Purpose::CommunityFee,
            earned,
            community,
            amounts.community_nano,
        ),
        token(Purpose::Holdback, earned, holdback, kept),
    ]
}

/// What a deviation moves: a surplus is sold to the pool and the utility, a shortage is bought from them.
#[must_use]
pub fn deviation_movements<P: Copy>(who: P, amounts: &DeviationAmounts) -> [Movement<P>; 4] {
    [
        (Purpose::PoolDeviation, Chart::Pool, amounts.pool_nano),
        (Purpose::Spread, Chart::Community, amounts.spread_nano),
        (Purpose::NetworkFee, Chart::Network, amounts.fee_nano),
        (
            Purpose::UtilityDeviation,
            Chart::Utility,
            amounts.utility_nano,
        ),
    ]
    .map(|(purpose, chart, amount)| Movement {
        asset: Asset::Token,
        purpose,
        debit: (chart, None),
        credit: (Chart::Statement, Some(who)),
        amount,
    })
}

/// What a meter moves: `net_wh` is what went into the street less what came from it.
#[must_use]
pub fn meter_movement<P>(who: P, net_wh: i64) -> Movement<P> {
    Movement {
        asset: Asset::WattHour,
        purpose: Purpose::MeteredEnergy,
        debit: (Chart::Meter, Some(who)),
        credit: (Chart::Pool, None),
        amount: net_wh,
    }
}

/// What the feeder moves: what came from the grid beyond what went there, and what did not arrive.
///
/// # Errors
/// Energy that does not fit 64 bits.
pub fn balance_movements<P>(balance: &Balance) -> Result<[Movement<P>; 2], MoneyError> {
    let net = balance.imported.checked_sub(balance.exported);
    let net_wh = net.ok_or(MoneyError::Overflow)?.wh();
    let lost_wh = balance.lost.wh();
    let energy = |purpose, debit, credit, amount| Movement {
        asset: Asset::WattHour,
        purpose,
        debit: (debit, None),
        credit: (credit, None),
        amount,
    };
    Ok([
        energy(Purpose::MeteredEnergy, Chart::Grid, Chart::Pool, net_wh),
        energy(Purpose::LostEnergy, Chart::Pool, Chart::Loss, lost_wh),
    ])
}

impl Legs {
    /// Adds movements between participants' and the community's accounts, for a trade where they are for one.
    ///
    /// # Errors
    /// A sum that does not fit 64 bits.
    pub fn add_all<'p>(
        &mut self,
        movements: impl IntoIterator<Item = Movement<&'p ParticipantId>>,
        reference: Option<TradeId>,
    ) -> Result<(), MoneyError> {
        let account = |(chart, owner): (Chart, Option<&ParticipantId>)| match owner {
            Some(owner) => Account::of(chart, owner),
            None => Account::common(chart),
        };
        for moved in movements {
            let about = About {
                asset: moved.asset,
                purpose: moved.purpose,
                reference,
            };
            self.add(
                about,
                &account(moved.debit),
                &account(moved.credit),
                moved.amount,
            )?;
        }
        Ok(())
    }

    /// The sums of `postings`.
    ///
    /// # Errors
    /// A sum that does not fit 64 bits.
    pub fn of<'a>(postings: impl IntoIterator<Item = &'a Posting>) -> Result<Self, MoneyError> {
        let mut legs = Legs::default();
        for p in postings {
            let about = About {
                asset: p.asset,
                purpose: p.purpose,
                reference: p.reference,
            };
            legs.add(about, &p.debit, &p.credit, p.amount)?;
        }
        Ok(legs)
    }

    /// Adds `amount` from `debit` to `credit`; a negative amount moves the other way.
    ///
    /// # Errors
    /// The sum does not fit 64 bits.
    pub fn add(
        &mut self,
        about: About,
        debit: &Account,
        credit: &Account,
        amount: i64,
    ) -> Result<(), MoneyError> {
        let (first, second, signed) = if debit <= credit {
            (debit, credit, Some(amount))
        } else {
            (credit, debit, amount.checked_neg())
        };
        let key = Key {
            asset: about.asset,
            purpose: about.purpose,
            reference: about.reference,
            first: first.clone(),
            second: second.clone(),
        };
        let before = self.sums.get(&key).copied().unwrap_or(0);
        let sum = signed
            .and_then(|s| before.checked_add(s))
            .ok_or(MoneyError::Overflow)?;
        if sum == 0 {
            self.sums.remove(&key);
        } else {
            self.sums.insert(key, sum);
        }
        Ok(())
    }

    /// Takes in the legs of one participant. A trade is a leg of both its parties and is kept once.
    pub(crate) fn unite(&mut self, other: Legs) {
        for (key, sum) in other.sums {
            let known = self.sums.insert(key, sum);
            assert!(
                known.is_none_or(|k| k == sum),
                "the two parties of a trade differ on its sum"
            );
        }
    }

    /// What is in these legs beyond `posted`.
    ///
    /// # Errors
    /// A difference that does not fit 64 bits.
    pub fn minus(&self, posted: &Legs) -> Result<Legs, MoneyError> {
        let mut rest = self.clone();
        for (key, sum) in &posted.sums {
            let about = About {
                asset: key.asset,
                purpose: key.purpose,
                reference: key.reference,
            };
            rest.add(about, &key.second, &key.first, *sum)?;
        }
        Ok(rest)
    }

    /// Credits minus debits of all accounts at one place of the chart, in one asset.
    #[must_use]
    pub fn net_of(&self, chart: Chart, asset: Asset) -> i128 {
        let here = self.sums.iter().filter(|(key, _)| key.asset == asset);
        here.map(|(key, sum)| {
            let sum = i128::from(*sum);
            let credited = if key.second.chart() == chart { sum } else { 0 };
            let debited = if key.first.chart() == chart { sum } else { 0 };
            credited - debited
        })
        .sum()
    }

    /// Whether there is nothing to post.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// The postings that make these sums, for one run of an interval, in a fixed order.
    #[must_use]
    pub fn postings(&self, interval: Interval, run: Run) -> Vec<Posting> {
        let posting = |(key, sum): (&Key, &i64)| {
            let (debit, credit) = if *sum > 0 {
                (&key.first, &key.second)
            } else {
                (&key.second, &key.first)
            };
            Posting {
                id: run_posting_id(interval, run, key),
                asset: key.asset,
                debit: debit.clone(),
                credit: credit.clone(),
                // The one value without a positive counterpart cannot come from `checked_neg`.
                amount: sum.saturating_abs(),
                purpose: key.purpose,
                interval: Some(interval),
                run: Some(run),
                reference: key.reference,
            }
        };
        let mut postings: Vec<Posting> = self.sums.iter().map(posting).collect();
        postings.sort_by_key(|p| p.id);
        postings
    }
}

/// The tag of a run's postings in [`timed_id`]: run and purpose, so that ids sort by them.
const RUN_TAG: u16 = 0x4000;

fn run_posting_id(interval: Interval, run: Run, key: &Key) -> PostingId {
    let tag = RUN_TAG | u16::from(run.code()) << 8 | u16::from(key.purpose.code());
    let reference = key.reference.map_or_else(Vec::new, |r| r.0.to_vec());
    let (first, second) = (key.first.to_string(), key.second.to_string());
    let parts: [&[u8]; 4] = [
        &[key.asset.code()],
        first.as_bytes(),
        second.as_bytes(),
        &reference,
    ];
    PostingId(timed_id(interval.start(), tag, "run-posting", &parts))
}

/// What decides one participant's legs of an interval.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// What was traded beside what flowed.
    pub delivery: &'a Delivery,
    /// The participant's trades.
    pub trades: &'a [Trade],
    /// The part of the deviation that neighbours cancelled.
    pub pooled: Energy,
    /// The part of the utility.
    pub utility: Energy,
    /// The prices, and the terms where they are not the plain ones.
    pub prices: &'a Prices,
    /// With a tiered tariff, where the participant stands on it.
    pub tiers: Option<&'a Tiers>,
    /// In which run: income is held back until the final one.
    pub run: Run,
}

impl<'a> Part<'a> {
    /// What a line says.
    #[must_use]
    pub fn of(line: &'a Line) -> Self {
        Part {
            delivery: &line.delivery,
            trades: &line.trades,
            pooled: line.pooled_wh,
            utility: line.utility_wh,
            prices: &line.prices,
            tiers: line.tiers.as_ref(),
            run: line.run,
        }
    }

    /// All legs of this participant: what its trades, its meter and its deviation come to.
    ///
    /// This is the one place that says what an interval costs; settlement posts it and the verifier of a
    /// receipt computes it again.
    ///
    /// # Errors
    /// An amount that does not fit 64 bits.
    pub fn legs(&self) -> Result<Legs, MoneyError> {
        let mut legs = Legs::default();
        let me = &self.delivery.participant;
        for trade in self.trades {
            let amounts = trade_amounts(trade.energy, trade.price, trade.network_fee, self.prices)?;
            let moved = trade_movements((&trade.buyer, &trade.seller), &amounts, self.run);
            let [both, buyers, sellers @ ..] = moved;
            legs.add_all([both], Some(trade.id))?;
            if trade.buyer == *me {
                legs.add_all([buyers], Some(trade.id))?;
            }
            if trade.seller == *me {
                legs.add_all(sellers, Some(trade.id))?;
            }
        }
        let amounts = deviation_amounts(self.pooled, self.utility, self.prices, self.tiers)?;
        legs.add_all(deviation_movements(me, &amounts), None)?;
        let net = self.delivery.exported.checked_sub(self.delivery.imported);
        let net = net.ok_or(MoneyError::Overflow)?;
        legs.add_all([meter_movement(me, net.wh())], None)?;
        Ok(legs)
    }
}
