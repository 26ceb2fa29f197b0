//! The market of one interval: forecasts become orders, orders are cleared by the production auction or
//! shared by a production rule.

use domain::energy::Energy;
use domain::ids::{OrderId, ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::time::Interval;
use market_engine::book::{Book, Entry};
use market_engine::clear::fast::{Margin, Records, Scratch};
use market_engine::clear::{
    Mechanism, Outcome, PricePolicy, Ties, Words, clear, price_and_fills_of,
};
use market_engine::share::SharingRule;

use super::RunError;
use super::scenario::{MarketScenario, Strategy};
use crate::model::random::Stream;
use crate::strategy::{Decision, Fate, Mind, Own, Public, Wish};

/// How the homes of a run trade.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Not at all: what homes have over and lack still nets at settlement.
    None,
    /// By an auction.
    Auction(Mechanism),
    /// By a rule that divides the bill.
    Share(SharingRule),
}

impl Rule {
    /// The rule that a scenario names.
    ///
    /// # Errors
    /// Says which word is not known, and what there is.
    pub fn of(market: &MarketScenario) -> Result<Rule, String> {
        let name = market.mechanism.as_str();
        let options = [&market.price_policy, &market.k, &market.ties];
        let plain = options.iter().all(|option| option.is_none());
        let shared = SharingRule::ALL
            .into_iter()
            .find(|rule| rule.name() == name);
        if name == "none" || shared.is_some() {
            return if plain {
                Ok(shared.map_or(Rule::None, Rule::Share))
            } else {
                Err(format!(
                    "price_policy, k and ties have no meaning with {name}: leave them away"
                ))
            };
        }
        let words = Words {
            mechanism: Some(name),
            price_policy: market.price_policy.as_deref(),
            k: market.k.as_deref(),
            ties: market.ties.as_deref(),
            seed: None,
        };
        Mechanism::from_words(&words)
            .map(Rule::Auction)
            .map_err(|e| {
                format!("{e}; or mid-market-rate, supply-demand-ratio, bill-sharing, none")
            })
    }

    /// Its name, as scenarios write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rule::None => "none",
            Rule::Auction(mechanism) => mechanism.name(),
            Rule::Share(rule) => rule.name(),
        }
    }

    /// The price policy of the one-price auction that needs no book, where this is it.
    fn quick(self) -> Option<PricePolicy> {
        match self {
            Rule::Auction(Mechanism::UniformPrice {
                policy,
                ties: Ties::ProRata,
            }) => Some(policy),
            _ => None,
        }
    }
}

/// A home as the market knows it: nothing of its devices.
pub(super) struct Trader {
    pub(super) id: ParticipantId,
    pub(super) point: PointId,
    pub(super) strategy: Strategy,
    number: u32,
    mind: Mind,
}

/// The families of random numbers of strategies.
#[derive(Clone, Copy, Debug)]
pub(super) struct MindStreams {
    temper: Stream,
    decide: Stream,
    learn: Stream,
}

impl MindStreams {
    pub(super) fn new(seed: u64) -> Self {
        MindStreams {
            temper: Stream::new(seed, "temper"),
            decide: Stream::new(seed, "limit"),
            learn: Stream::new(seed, "learn"),
        }
    }
}

/// Strategies that learn from what became of their orders.
const fn learns(strategy: Strategy) -> bool {
    matches!(
        strategy,
        Strategy::Zip | Strategy::RothErev | Strategy::BatteryThreshold
    )
}

impl Trader {
    pub(super) fn new(
        id: ParticipantId,
        strategy: Strategy,
        number: u32,
        streams: &MindStreams,
    ) -> Result<Self, RunError> {
        let point = PointId::new(id.as_str())
            .map_err(|e| RunError::bad(format!("{id} names no metering point: {e}")))?;
        Ok(Trader {
            mind: Mind::new(strategy, &mut streams.temper.at(number, 0)),
            number,
            id,
            point,
            strategy,
        })
    }

    /// What the home does, from what is public and what it knows of itself. No limit is below zero, since
    /// such trades could not be prepaid: an offer asks for nothing then, and a bid is not placed.
    pub(super) fn decide(
        &mut self,
        interval: Interval,
        public: &Public<'_>,
        own: &Own<'_>,
        streams: &MindStreams,
    ) -> Decision {
        let mut draws = streams.decide.at(self.number, number_of(interval));
        let mut decision = self.mind.decide(public, own, &mut draws);
        decision.wish = decision.wish.and_then(|wish| match wish.side {
            Side::Bid => (wish.limit >= Price::ZERO).then_some(wish),
            Side::Offer => Some(Wish {
                limit: wish.limit.max(Price::ZERO),
                ..wish
            }),
        });
        decision
    }

    pub(super) fn learns(&self) -> bool {
        learns(self.strategy)
    }

    pub(super) fn learn(&mut self, interval: Interval, fate: &Fate, streams: &MindStreams) {
        let mut draws = streams.learn.at(self.number, number_of(interval));
        self.mind.learn(fate, &mut draws);
    }

    /// The order's name: the same whether the order is written out or not.
    pub(super) fn order(
        &self,
        interval: Interval,
        side: Side,
        energy_wh: i64,
        limit: Price,
    ) -> Order {
        Order {
            participant: self.id.clone(),
            point: self.point.clone(),
            side,
            interval,
            energy: Energy::from_wh(energy_wh),
            limit,
            sequence: number_of(interval).unsigned_abs(),
            replaces: None,
            preference: domain::order::Preference::default(),
        }
    }

    fn order_id(&self, interval: Interval) -> OrderId {
        self.order(interval, Side::Bid, 0, Price::ZERO).id()
    }
}

/// The number of an interval of its length since 1970; a home places one order an interval, so it is the
/// order's sequence too.
fn number_of(interval: Interval) -> i64 {
    interval.start_s() / i64::from(interval.length_s())
}

/// What an interval's market came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cleared {
    pub(super) price: Option<Price>,
    pub(super) volume_wh: i64,
    pub(super) bids: u32,
    pub(super) offers: u32,
    pub(super) bid_wh: i64,
    pub(super) offer_wh: i64,
    pub(super) welfare: i128,
    pub(super) welfare_max: i128,
    /// What buyers pay above what sellers receive.
    pub(super) surplus: i128,
}

/// The market and its memory, used again in each interval.
pub(super) struct Market {
    rule: Rule,
    records: Records,
    /// Which home each record is of.
    pub(super) homes: Vec<u32>,
    scratch: Scratch,
    /// What of each record is traded.
    pub(super) fills: Vec<i64>,
    /// What each home sold (above zero) or bought, in watt-hours, and received or paid for it.
    pub(super) traded_wh: Vec<i64>,
    pub(super) traded_nano: Vec<i64>,
    /// The whole outcome, where a book was cleared.
    pub(super) outcome: Option<Outcome>,
}

impl Market {
    pub(super) fn new(rule: Rule, homes: usize) -> Self {
        Market {
            rule,
            records: Records::default(),
            homes: Vec::new(),
            scratch: Scratch::default(),
            fills: Vec::new(),
            traded_wh: vec![0; homes],
            traded_nano: vec![0; homes],
            outcome: None,
        }
    }

    pub(super) fn rule(&self) -> Rule {
        self.rule
    }

    /// The orders of the interval at hand.
    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    /// Forgets the interval before.
    pub(super) fn open(&mut self) {
        self.records.clear();
        self.homes.clear();
        self.fills.clear();
        self.traded_wh.fill(0);
        self.traded_nano.fill(0);
        self.outcome = None;
    }

    /// Takes the order of a home.
    pub(super) fn order(
        &mut self,
        interval: Interval,
        home: usize,
        wish: &Wish,
    ) -> Result<(), RunError> {
        let home = u32::try_from(home).map_err(|_| RunError::overflow(interval))?;
        if !self.records.push(wish.side, wish.energy_wh, wish.limit) {
            return Err(RunError::overflow(interval));
        }
        self.homes.push(home);
        Ok(())
    }

    /// Clears what was ordered. With `whole`, or where the mechanism needs one, by a book with trades
    /// and reasons; else by records alone, which gives the same prices and fills.
    pub(super) fn clear(
        &mut self,
        interval: Interval,
        traders: &[Trader],
        whole: bool,
    ) -> Result<Cleared, RunError> {
        let Rule::Auction(mechanism) = self.rule else {
            return Ok(Cleared::default());
        };
        let mut cleared = self.counted();
        match self.rule.quick().filter(|_| !whole) {
            Some(policy) => self.quick(interval, traders, policy, &mut cleared)?,
            None => self.whole(interval, traders, mechanism, &mut cleared)?,
        }
        Ok(cleared)
    }

    fn counted(&self) -> Cleared {
        let mut cleared = Cleared::default();
        for record in self.records.list() {
            let (count, sum) = match record.side() {
                Side::Bid => (&mut cleared.bids, &mut cleared.bid_wh),
                Side::Offer => (&mut cleared.offers, &mut cleared.offer_wh),
            };
            *count += 1;
            *sum += record.energy_wh();
        }
        cleared
    }

    fn quick(
        &mut self,
        interval: Interval,
        traders: &[Trader],
        policy: PricePolicy,
        cleared: &mut Cleared,
    ) -> Result<(), RunError> {
        let homes = &self.homes;
        let key = |index: u32| {
            let trader = usize::try_from(index).ok().and_then(|i| homes.get(i));
            let trader = trader.and_then(|home| traders.get(place(*home)));
            trader.map_or([0; 16], |trader| trader.order_id(interval).0)
        };
        let salt = salt(interval);
        let (scratch, fills) = (&mut self.scratch, &mut self.fills);
        let found = price_and_fills_of(&self.records, policy, &salt, key, scratch, fills);
        let Some((
            price,
            Margin {
                volume_wh, welfare, ..
            },
        )) = found
        else {
            return Ok(());
        };
        cleared.price = Some(price);
        (cleared.volume_wh, cleared.welfare) = (volume_wh, welfare);
        cleared.welfare_max = welfare;
        let orders = self.records.list().iter().zip(&self.fills);
        for ((record, fill), home) in orders.zip(&self.homes) {
            let (sign, better) = match record.side() {
                Side::Bid => (-1, record.limit() >= price),
                Side::Offer => (1, record.limit() <= price),
            };
            if *fill > 0 && !better {
                return Err(RunError::Limit(interval));
            }
            let amount = price.amount(Energy::from_wh(sign * *fill));
            let amount = amount.map_err(|_| RunError::overflow(interval))?;
            self.traded_wh[place(*home)] = sign * *fill;
            self.traded_nano[place(*home)] = amount.nano();
        }
        Ok(())
    }

    fn whole(
        &mut self,
        interval: Interval,
        traders: &[Trader],
        mechanism: Mechanism,
        cleared: &mut Cleared,
    ) -> Result<(), RunError> {
        if self.records.list().len() > mechanism.orders_max() {
            return Err(RunError::bad(format!(
                "{} takes at most {} orders in an interval: use fewer homes or another mechanism",
                mechanism.name(),
                mechanism.orders_max()
            )));
        }
        let mut book = Book::new(&salt(interval));
        for (arrival, (record, home)) in (0_u32..).zip(self.records.list().iter().zip(&self.homes))
        {
            let entry = Entry {
                side: record.side(),
                energy_wh: record.energy_wh(),
                limit: record.limit(),
                participant: *home,
                arrival,
                key: traders[place(*home)].order_id(interval).0,
            };
            book.push(entry).map_err(|e| RunError::bad(e.to_string()))?;
        }
        let outcome = clear(&book, mechanism);
        self.fills
            .extend(outcome.orders.iter().map(|fill| fill.filled_wh));
        for trade in &outcome.trades {
            let home = |order: u32| place(self.homes[place(order)]);
            let (buyer, seller) = (home(trade.bid), home(trade.offer));
            let energy = Energy::from_wh(trade.energy_wh);
            let amount = |price: Price| {
                price
                    .amount(energy)
                    .map_err(|_| RunError::overflow(interval))
            };
            self.traded_wh[buyer] -= trade.energy_wh;
            self.traded_wh[seller] += trade.energy_wh;
            self.traded_nano[buyer] -= amount(trade.buyer_price)?.nano();
            self.traded_nano[seller] += amount(trade.seller_price)?.nano();
        }
        cleared.price = outcome.price;
        cleared.volume_wh = outcome.volume_wh;
        cleared.welfare = outcome.welfare;
        cleared.welfare_max = outcome.welfare_max;
        cleared.surplus = outcome.surplus;
        self.outcome = Some(outcome);
        Ok(())
    }
}

/// A 32-bit number as a place in memory.
pub(super) fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// What makes ties fall differently in each interval.
pub(super) fn salt(interval: Interval) -> [u8; 8] {
    interval.start_s().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traders(strategy: Strategy, count: u32) -> Vec<Trader> {
        let streams = MindStreams::new(7);
        let trader = |i| {
            let id = ParticipantId::new(format!("home-{i:03}")).unwrap();
            Trader::new(id, strategy, i, &streams).unwrap()
        };
        (0..count).map(trader).collect()
    }

    fn public(pays: &str, takes: &str) -> Public<'static> {
        Public {
            utility_pays: pays.parse().unwrap(),
            utility_takes: takes.parse().unwrap(),
            gate_permille: 1000,
            tariff_ahead: &[],
        }
    }

    fn own(expected_wh: i64) -> Own<'static> {
        Own {
            expected_wh,
            expected_ahead_wh: &[],
            battery: None,
        }
    }

    fn interval() -> Interval {
        Interval::new(1_782_000_000, 900).unwrap()
    }

    fn run(strategy: Strategy, whole: bool) -> (Cleared, Vec<i64>, Vec<i64>) {
        let mut traders = traders(strategy, 60);
        let rule = Rule::of(&MarketScenario::default()).unwrap();
        let mut market = Market::new(rule, 60);
        let streams = MindStreams::new(7);
        market.open();
        for (home, trader) in traders.iter_mut().enumerate() {
            let wh = i64::try_from(home * 7919 % 1801).unwrap() - 900;
            let public = public("0.08", "0.25");
            let decision = trader.decide(interval(), &public, &own(wh), &streams);
            if let Some(wish) = decision.wish {
                market.order(interval(), home, &wish).unwrap();
            }
        }
        let cleared = market.clear(interval(), &traders, whole).unwrap();
        (cleared, market.traded_wh, market.traded_nano)
    }

    #[test]
    fn records_alone_and_the_whole_book_give_the_same() {
        for strategy in [
            Strategy::Truthful,
            Strategy::ZeroIntelligence,
            Strategy::ZeroIntelligenceUnconstrained,
            Strategy::Zip,
        ] {
            let quick = run(strategy, false);
            assert_eq!(quick, run(strategy, true), "{strategy:?}");
            assert!(quick.0.volume_wh > 0 && quick.1.iter().sum::<i64>() == 0);
            assert_eq!(quick.2.iter().sum::<i64>(), 0);
        }
    }

    #[test]
    fn no_limit_is_below_zero_or_worse_than_the_utility() {
        let streams = MindStreams::new(7);
        for mut trader in traders(Strategy::ZeroIntelligence, 50) {
            let mut wish = |pays: &str, takes: &str, wh| {
                trader
                    .decide(interval(), &public(pays, takes), &own(wh), &streams)
                    .wish
            };
            let bid = wish("0.08", "0.25", 500).unwrap();
            assert_eq!(bid.energy_wh, 500);
            assert!((80_000..=250_000).contains(&bid.limit.micro_per_kwh()));
            assert_eq!(wish("2.3", "0.25", 500), None, "no price is good for both");
            assert!(wish("-0.1", "0.25", -500).unwrap().limit >= Price::ZERO);
            assert_eq!(wish("-0.2", "-0.1", 500), None);
            assert_eq!(wish("-0.2", "-0.1", -500).unwrap().limit, Price::ZERO);
        }
    }

    #[test]
    fn words_name_every_rule() {
        let rule = |mechanism: &str| {
            Rule::of(&MarketScenario {
                mechanism: mechanism.to_owned(),
                ..MarketScenario::default()
            })
        };
        for name in [
            "uniform-price",
            "pay-as-bid",
            "huang",
            "mid-market-rate",
            "bill-sharing",
            "none",
        ] {
            assert_eq!(rule(name).unwrap().name(), name);
        }
        assert!(
            rule("dictator")
                .unwrap_err()
                .contains("supply-demand-ratio")
        );
    }
}
