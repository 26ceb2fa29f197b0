//! What an interval comes to: a pure function from trades, deliveries and prices to postings.
//!
//! Deviations first cancel inside the community at the local price; the utility buys or sells the rest.
//! That is the policy `pooled`; with `two-price` the utility serves every deviation, and with
//! `single-price` both directions have one price, set by where the community as a whole stands.
//! Energy is kept in double entry beside the money, and what the feeder's meter does not explain is
//! shown as loss.

use std::collections::BTreeMap;

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::{MoneyError, Price};
use domain::posting::{Asset, Chart, Posting, Run};
use domain::receipt::{Line, Prices};
use domain::terms::{DeviationPolicy, Position, Step, Terms, Tiers};
use domain::time::Interval;
use domain::trade::Trade;

use crate::amounts::Pooling;
use crate::legs::{Legs, Part, balance_movements};
use crate::tariff::Tariff;

pub use crate::deliver::Feeder;

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
    /// What a community may choose; the default is the plain pooled settlement of a provisional run.
    pub options: Options<'a>,
}

/// What a community may choose beyond prices.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// In which run: income is held back until the final one.
    pub run: Run,
    /// Policy, spread, fee and holdback; the position is filled in here.
    pub terms: Terms,
    /// The tariff's version, where it has versions.
    pub version: Option<&'a str>,
    /// The steps of a tiered tariff; none where it has none.
    pub steps: &'a [Step],
    /// What the utility had supplied to each participant in the local month before the interval; who is
    /// not in it had nothing. Only steps ask for it.
    pub used: Option<&'a BTreeMap<ParticipantId, Energy>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            run: Run::Provisional,
            terms: Terms::default(),
            version: None,
            steps: &[],
            used: None,
        }
    }
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
    tiers: Option<Tiers>,
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
    /// The tariff's version, where it has versions.
    pub version: Option<String>,
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
    /// Terms that make no sense.
    #[error(transparent)]
    Terms(#[from] domain::terms::TermsError),
}

/// Settles an interval.
///
/// # Errors
/// Amounts beyond 64 bits, trades with a price below zero, terms that make no sense.
///
/// # Panics
/// When energy bought is not energy sold, or the pool is not empty afterwards: then a rule is broken and
/// nothing may be posted.
pub fn settle(inputs: &Inputs<'_>) -> Result<Settlement, SettleError> {
    inputs.check()?;
    compute(inputs).map_err(|source| inputs.overflow(source))
}

impl Inputs<'_> {
    /// Refuses what cannot be settled.
    pub(crate) fn check(&self) -> Result<(), SettleError> {
        if self.trades.iter().any(|t| t.price < Price::ZERO) {
            return Err(SettleError::NegativePrice(self.interval));
        }
        Ok(self.options.terms.check()?)
    }

    pub(crate) fn overflow(&self, source: MoneyError) -> SettleError {
        SettleError::Money {
            interval: self.interval,
            source,
        }
    }
}

fn compute(inputs: &Inputs<'_>) -> Result<Settlement, MoneyError> {
    let options = &inputs.options;
    let parted = Parted::of(inputs)?;
    let shares = shares(inputs, &parted);
    let prices = parted.prices;
    let mut legs = Legs::default();
    for share in &shares {
        legs.unite(share.legs(&prices, options.run)?);
    }
    let balance = balance(inputs)?;
    balance_legs(&mut legs, &balance)?;
    let settlement = Settlement {
        interval: inputs.interval,
        prices,
        version: options.version.map(str::to_owned),
        shares,
        balance,
        legs,
    };
    settlement.check(inputs, &parted.pooled);
    Ok(settlement)
}

/// How the deviations part between the pool and the utility, and at which prices.
pub(crate) struct Parted {
    pub(crate) deviations: Vec<i64>,
    /// The part of each that neighbours cancel.
    pub(crate) pooled: Vec<i64>,
    pub(crate) prices: Prices,
}

impl Parted {
    pub(crate) fn of(inputs: &Inputs<'_>) -> Result<Self, MoneyError> {
        let deviations: Vec<i64> = inputs
            .deliveries
            .iter()
            .map(|d| d.deviation().map(Energy::wh).ok_or(MoneyError::Overflow))
            .collect::<Result<_, _>>()?;
        let pooled = pooled(inputs, &deviations)?;
        let mut terms = inputs.options.terms;
        terms.position = match terms.policy {
            DeviationPolicy::SinglePrice => {
                Position::of(deviations.iter().map(|wh| i128::from(*wh)).sum())
            }
            _ => Position::Balanced,
        };
        Ok(Parted {
            deviations,
            pooled,
            prices: inputs.tariff.prices_under(inputs.clearing_price, terms),
        })
    }

    /// The share of the delivery at this place.
    pub(crate) fn share(&self, inputs: &Inputs<'_>, place: usize, trades: Vec<Trade>) -> Share {
        let delivery = &inputs.deliveries[place];
        Share {
            delivery: delivery.clone(),
            pooled: Energy::from_wh(self.pooled[place]),
            utility: Energy::from_wh(self.deviations[place] - self.pooled[place]),
            trades,
            tiers: tiers(&inputs.options, &delivery.participant),
        }
    }
}

/// Splits each deviation into what the pool and what the utility serves.
fn shares(inputs: &Inputs<'_>, parted: &Parted) -> Vec<Share> {
    let mut own: BTreeMap<&ParticipantId, Vec<Trade>> = BTreeMap::new();
    for trade in inputs.trades {
        for party in [&trade.buyer, &trade.seller] {
            own.entry(party).or_default().push(trade.clone());
        }
    }
    let share = |(place, delivery): (usize, &Delivery)| {
        let trades = own.remove(&delivery.participant).unwrap_or_default();
        parted.share(inputs, place, trades)
    };
    inputs.deliveries.iter().enumerate().map(share).collect()
}

impl Share {
    /// What this participant's trades, meter and deviation come to.
    pub(crate) fn legs(&self, prices: &Prices, run: Run) -> Result<Legs, MoneyError> {
        let part = Part {
            delivery: &self.delivery,
            trades: &self.trades,
            pooled: self.pooled,
            utility: self.utility,
            prices,
            tiers: self.tiers.as_ref(),
            run,
        };
        part.legs()
    }

    /// The same participant's share with what its meter showed before.
    pub(crate) fn with(&self, delivery: &Delivery, pooled: i64) -> Result<Share, MoneyError> {
        let deviation = delivery.deviation().ok_or(MoneyError::Overflow)?;
        let pooled = Energy::from_wh(pooled);
        Ok(Share {
            delivery: delivery.clone(),
            pooled,
            utility: deviation.checked_sub(pooled).ok_or(MoneyError::Overflow)?,
            trades: self.trades.clone(),
            tiers: self.tiers.clone(),
        })
    }
}

fn tiers(options: &Options<'_>, participant: &ParticipantId) -> Option<Tiers> {
    let used = options.used.and_then(|used| used.get(participant));
    (!options.steps.is_empty()).then(|| Tiers {
        used_wh: used.copied().unwrap_or(Energy::ZERO),
        steps: options.steps.to_vec(),
    })
}

/// The part of each deviation that others cancel: surplus above zero, shortage below.
fn pooled(inputs: &Inputs<'_>, deviations: &[i64]) -> Result<Vec<i64>, MoneyError> {
    if inputs.options.terms.policy == DeviationPolicy::TwoPrice {
        return Ok(vec![0; deviations.len()]);
    }
    let salt = inputs.interval.start_s().to_be_bytes();
    let key = |index: usize| inputs.deliveries[index].participant.as_str().as_bytes();
    let mut pooling = Pooling::default();
    Ok(pooling.pool(deviations, key, &salt)?.to_vec())
}

/// What the homes of an interval and its feeder come to.
pub(crate) fn balance(inputs: &Inputs<'_>) -> Result<Balance, MoneyError> {
    let net = |d: &Delivery| i128::from(d.exported.wh()) - i128::from(d.imported.wh());
    Balance::of(inputs.deliveries.iter().map(net).sum(), inputs.feeder)
}

impl Balance {
    /// The balance of homes that gave the street so much (`given_wh`) beyond what they took from it.
    ///
    /// # Errors
    /// Energy that does not fit 64 bits.
    pub fn of(given_wh: i128, feeder: Option<Feeder>) -> Result<Balance, MoneyError> {
        let fits = |wh: i128| {
            i64::try_from(wh)
                .map(Energy::from_wh)
                .map_err(|_| MoneyError::Overflow)
        };
        Ok(match feeder {
            Some(feeder) => {
                let (imported, exported) = (feeder.imported, feeder.exported);
                let line_wh = i128::from(imported.wh()) - i128::from(exported.wh());
                Balance {
                    imported,
                    exported,
                    lost: fits(given_wh + line_wh)?,
                    feeder_metered: true,
                }
            }
            None => Balance {
                imported: fits((-given_wh).max(0))?,
                exported: fits(given_wh.max(0))?,
                lost: Energy::ZERO,
                feeder_metered: false,
            },
        })
    }
}

pub(crate) fn balance_legs(legs: &mut Legs, balance: &Balance) -> Result<(), MoneyError> {
    legs.add_all(balance_movements(balance)?, None)
}

impl Settlement {
    /// Asserts the rules that nothing may be posted without.
    pub(crate) fn check(&self, inputs: &Inputs<'_>, pooled: &[i64]) {
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
        let pooled: i128 = pooled.iter().map(|wh| i128::from(*wh)).sum();
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
            let (from, to) = (posting.debit.owner(), posting.credit.owner());
            own.entry(from).or_default().push(posting.clone());
            // What is held back stays with its owner, and is in its list once.
            if from != to {
                own.entry(to).or_default().push(posting.clone());
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
            tariff: self.version.clone(),
            tiers: share.tiers.clone(),
        };
        self.shares.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resettle::{Before, resettle};
    use domain::ids::{Digest32, OrderId, PointId};
    use domain::posting::{Account, Purpose};
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
            options: Options::default(),
        };
        settle(&inputs).unwrap()
    }

    fn run_under(
        terms: Terms,
        run: Run,
        trades: &[Trade],
        flows: &[(i64, i64)],
        steps: &[Step],
    ) -> Settlement {
        let deliveries = deliveries(trades, flows);
        let options = Options {
            run,
            terms,
            steps,
            ..Options::default()
        };
        let inputs = Inputs {
            interval: interval(),
            tariff: &tariff(),
            clearing_price: trades.first().map(|t| t.price),
            trades,
            deliveries: &deliveries,
            feeder: None,
            options,
        };
        settle(&inputs).unwrap()
    }

    const CHARTS: [Chart; 10] = [
        Chart::Available,
        Chart::Held,
        Chart::Holdback,
        Chart::Statement,
        Chart::Utility,
        Chart::Network,
        Chart::Community,
        Chart::Meter,
        Chart::Grid,
        Chart::Loss,
    ];

    #[test]
    fn each_policy_by_hand() {
        // Home 0 lacks 200 Wh, home 1 has 150 over: the community lacks 50 Wh.
        let flows = [(200, 0), (0, 150)];
        let net = |terms: Terms| {
            let settled = run_under(terms, Run::Provisional, &[], &flows, &[]);
            let net = |chart| settled.legs.net_of(chart, Asset::Token);
            let pool = net(Chart::Pool);
            assert_eq!(pool, 0, "{terms:?}");
            [
                net(Chart::Statement),
                net(Chart::Utility),
                net(Chart::Network),
                net(Chart::Community),
            ]
        };
        let plain = Terms::default();
        // Nothing traded: the pool's price is (0.08 + 0.25) / 2 = 0.165.
        let (network, short) = (150 * 70_000, 50 * 320_000);
        assert_eq!(net(plain), [-network - short, short, network, 0]);
        let spread = Terms {
            spread: "0.01".parse().unwrap(),
            ..plain
        };
        let both = 2 * 150 * 10_000;
        assert_eq!(net(spread), [-network - short - both, short, network, both]);
        // A spread never makes a neighbour's energy worse than the utility's: 0.085 on either side.
        let wide = Terms {
            spread: "0.5".parse().unwrap(),
            ..plain
        };
        assert_eq!(net(wide)[3], 2 * 150 * 85_000);
        let two = Terms {
            policy: DeviationPolicy::TwoPrice,
            ..plain
        };
        let utility = 200 * 320_000 - 150 * 80_000;
        assert_eq!(net(two), [-utility, utility, 0, 0]);
        let single = Terms {
            policy: DeviationPolicy::SinglePrice,
            ..plain
        };
        // Short: who lacks pays retail for all of it, who has over gets retail less the network fee.
        let settled = run_under(single, Run::Provisional, &[], &flows, &[]);
        let lines = settled.lines(
            Run::Provisional,
            &settled.legs.postings(interval(), Run::Provisional),
        );
        let paid = |line: &Line| -> i64 {
            let own = Account::of(Chart::Statement, &line.participant);
            let sign = |p: &Posting| if p.credit == own { 1 } else { -1 };
            let tokens = line.postings.iter().filter(|p| p.asset == Asset::Token);
            tokens.map(|p| sign(p) * p.amount).sum()
        };
        assert_eq!(paid(&lines[0]), -200 * 320_000);
        assert_eq!(paid(&lines[1]), 150 * 250_000);
        assert_eq!(settled.prices.terms.unwrap().position, Position::Short);
    }

    #[test]
    fn a_corrected_meter_moves_only_itself_and_who_shares_the_pool_with_it() {
        let flows = [(200, 0), (0, 150), (0, 0), (100, 0), (300, 300)];
        let mut corrected = flows;
        corrected[1].1 += 50;
        let moved = |policy| -> Vec<String> {
            let terms = Terms {
                policy,
                ..Terms::default()
            };
            let run = |flows: &[(i64, i64)], run| run_under(terms, run, &[], flows, &[]);
            let (first, second) = (run(&flows, Run::Provisional), run(&corrected, Run::Initial));
            let rest = second.legs.minus(&first.legs).unwrap();
            let postings = rest.postings(interval(), Run::Initial);
            let owners = postings
                .iter()
                .flat_map(|p| [p.debit.owner(), p.credit.owner()]);
            let owners: std::collections::BTreeSet<&str> = owners.collect();
            owners.into_iter().map(str::to_owned).collect()
        };
        let pooled = ["-", "home-00", "home-01", "home-03"];
        assert_eq!(moved(DeviationPolicy::Pooled), pooled);
        assert_eq!(moved(DeviationPolicy::TwoPrice), ["-", "home-01"]);
    }

    #[test]
    fn the_community_takes_its_fee_and_the_holdback_comes_back_in_the_final_run() {
        let terms = Terms {
            community_fee_bp: 125,
            holdback_bp: 1000,
            ..Terms::default()
        };
        let trades = [trade(0, 1, 1001, 132_001)];
        let flows = [(1001, 0), (0, 1001)];
        let first = run_under(terms, Run::Provisional, &trades, &flows, &[]);
        let income = 1001 * 132_001_i128;
        let fee = income * 125 / 10_000;
        let kept = (income - fee) / 10;
        assert_ne!(
            income * 125 % 10_000,
            0,
            "the remainder stays with the seller"
        );
        let net = |s: &Settlement, chart| s.legs.net_of(chart, Asset::Token);
        assert_eq!(net(&first, Chart::Community), fee);
        assert_eq!(net(&first, Chart::Holdback), kept);
        assert_eq!(net(&first, Chart::Available), income - fee - kept);
        let last = run_under(terms, Run::Final, &trades, &flows, &[]);
        let rest = last.legs.minus(&first.legs).unwrap();
        let rest = rest.postings(interval(), Run::Final);
        assert_eq!(rest.len(), 1, "only what was held back moves: {rest:?}");
        assert_eq!(rest[0].purpose, Purpose::Holdback);
        assert_eq!(i128::from(rest[0].amount), kept);
    }

    #[test]
    fn a_tiered_tariff_is_paid_step_by_step() {
        let step = |from_wh, retail: &str| Step {
            from_wh: Energy::from_wh(from_wh),
            retail: retail.parse().unwrap(),
        };
        let steps = [step(0, "0.32"), step(100, "0.40")];
        let flows = [(250, 0), (0, 0)];
        let settled = run_under(Terms::default(), Run::Provisional, &[], &flows, &steps);
        let paid = settled.legs.net_of(Chart::Utility, Asset::Token);
        assert_eq!(paid, 100 * 320_000 + 150 * 400_000);
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
            policy in 0_u8..3,
            spread in 0_i64..60_000,
            (fee, holdback) in (0_u32..2000, 0_u32..5000),
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
            let policy = DeviationPolicy::from_code(policy).unwrap();
            let terms = Terms {
                policy,
                spread: Price::from_micro_per_kwh(if policy == DeviationPolicy::Pooled { spread } else { 0 }),
                community_fee_bp: fee,
                holdback_bp: holdback,
                position: Position::Balanced,
            };
            let other = run_under(terms, Run::Initial, &trades, &flows, &[]);
            prop_assert_eq!(other.legs.net_of(Chart::Pool, Asset::Token), 0);
            let total: i128 = CHARTS.iter().map(|c| other.legs.net_of(*c, Asset::Token)).sum();
            prop_assert_eq!(total, 0);
            prop_assert!(other.legs.net_of(Chart::Community, Asset::Token) >= 0);
            let done = run_under(terms, Run::Final, &trades, &flows, &[]);
            prop_assert_eq!(done.legs.net_of(Chart::Holdback, Asset::Token), 0);
            for asset in [Asset::Token, Asset::WattHour] {
                prop_assert_eq!(settlement.legs.net_of(Chart::Pool, asset), 0);
                let total: i128 = CHARTS.iter().map(|c| settlement.legs.net_of(*c, asset)).sum();
                prop_assert_eq!(total, 0);
            }
            for share in &settlement.shares {
                let deviation = share.delivery.deviation().unwrap().wh();
                prop_assert_eq!(share.pooled.wh() + share.utility.wh(), deviation);
                prop_assert!(share.pooled.wh() * deviation >= 0);
                prop_assert!(share.utility.wh() * deviation >= 0);
            }
            // The shorter way of a later run comes to the same, or says that everybody is concerned.
            let mut later = flows.clone();
            later[3].0 += 250;
            later[7] = (later[7].1, later[7].0);
            for run in [Run::Initial, Run::Final] {
                let target = run_under(terms, run, &trades, &later, &[]);
                let (then, now) = (deliveries(&trades, &flows), deliveries(&trades, &later));
                let before = Before { run: Run::Provisional, deliveries: then, feeder: None };
                let inputs = Inputs {
                    interval: interval(),
                    tariff: &tariff(),
                    clearing_price: trades.first().map(|t| t.price),
                    trades: &trades,
                    deliveries: &now,
                    feeder: None,
                    options: Options { run, terms, ..Options::default() },
                };
                let first = run_under(terms, Run::Provisional, &trades, &flows, &[]);
                let Some(rest) = resettle(&inputs, &before).unwrap() else {
                    let concerns_all = (run == Run::Final && holdback > 0)
                        || first.prices != target.prices;
                    prop_assert!(concerns_all);
                    continue;
                };
                prop_assert_eq!(&rest.legs, &target.legs.minus(&first.legs).unwrap());
                prop_assert_eq!((rest.balance, rest.prices), (target.balance, target.prices));
                for (share, old) in target.shares.iter().zip(&first.shares) {
                    let here = rest.shares.iter().find(|s| s.delivery.participant == share.delivery.participant);
                    let expected = (share != old).then_some(share);
                    prop_assert_eq!(here, expected);
                }
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
