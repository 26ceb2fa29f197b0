//! The table of postings. Where a run signs, the platform's postings with their names; else the movements that it
//! would post, from the fast sums.

use domain::energy::Energy;
use domain::ids::to_hex;
use domain::money::MoneyError;
use domain::posting::{Account, Asset, Chart, Posting, Purpose, Run};
use domain::receipt::Prices;
use domain::trade::Trade;
use settlement::amounts::{deviation_amounts, trade_amounts};
use settlement::legs::{
    Legs, Movement, balance_movements, deviation_movements, meter_movement, trade_movements,
};

use settlement::settle::Balance;

use super::super::RunError;
use super::super::engine::{IntervalRow, Seen};
use super::super::market::{Trader, place};
use super::super::meters::State;
use super::super::settling::{Flows, Settling};
use super::super::table::{Cell, TableWriter};
use super::feeder;

/// The accounts of participants that a run moves anything on.
const OWN: [Chart; 5] = [
    Chart::Held,
    Chart::Available,
    Chart::Holdback,
    Chart::Statement,
    Chart::Meter,
];
/// The community's.
const COMMON: [Chart; 6] = [
    Chart::Network,
    Chart::Community,
    Chart::Pool,
    Chart::Utility,
    Chart::Grid,
    Chart::Loss,
];

/// The table and the movements of the interval at hand.
pub(super) struct Postings {
    table: TableWriter,
    names: Option<Names>,
    /// Four movements of each trade.
    trades: Vec<Movement<u32>>,
    /// Those of homes and feeder with what was there in time, and what late readings add to them.
    provisional: Vec<Movement<u32>>,
    initial: Vec<Movement<u32>>,
    /// The settlement with what was there in time, where something was not.
    early: Settling,
    early_wh: Vec<i64>,
}

/// Where the names of accounts are among the table's words.
struct Names {
    /// The first home's account at each place of [`OWN`]; the others' follow.
    own: [u32; OWN.len()],
    common: [u32; COMMON.len()],
    /// Assets and purposes, by their numbers.
    assets: Vec<u32>,
    purposes: Vec<u32>,
}

impl Names {
    fn new(table: &mut TableWriter, traders: &[Trader]) -> Self {
        let mut own = [0; OWN.len()];
        for (first, chart) in own.iter_mut().zip(OWN) {
            let mut words = traders
                .iter()
                .map(|trader| table.word(&account(&Account::of(chart, &trader.id))));
            *first = words.next().unwrap_or(0);
            words.for_each(drop);
        }
        Names {
            own,
            common: COMMON.map(|chart| table.word(&account(&Account::common(chart)))),
            assets: (0..=u8::MAX)
                .map(|code| Asset::from_code(code).map_or(0, |a| table.word(asset(a))))
                .collect(),
            purposes: (0..=u8::MAX)
                .map(|code| Purpose::from_code(code).map_or(0, |p| table.word(p.word())))
                .collect(),
        }
    }

    fn about(&self, moved: &Movement<u32>) -> Cell<'static> {
        Cell::Word(self.assets[usize::from(moved.asset.code())])
    }

    fn why(&self, moved: &Movement<u32>) -> Cell<'static> {
        Cell::Word(self.purposes[usize::from(moved.purpose.code())])
    }

    /// The account's word; nothing for one that a run does not move anything on.
    fn word(&self, (chart, owner): (Chart, Option<u32>)) -> Option<Cell<'static>> {
        let at = |charts: &[Chart]| charts.iter().position(|own| *own == chart);
        let word = match owner {
            Some(home) => self.own[at(&OWN)?].saturating_add(home),
            None => self.common[at(&COMMON)?],
        };
        Some(Cell::Word(word))
    }
}

impl Postings {
    pub(super) fn new(table: TableWriter) -> Self {
        Postings {
            table,
            names: None,
            trades: Vec::new(),
            provisional: Vec::new(),
            initial: Vec::new(),
            early: Settling::default(),
            early_wh: Vec::new(),
        }
    }

    pub(super) fn into_table(self) -> TableWriter {
        self.table
    }

    /// Counts what an interval moves, and writes it down.
    pub(super) fn interval(&mut self, seen: &Seen<'_>, row: &IntervalRow) -> Result<(), RunError> {
        let interval = seen.moment.interval;
        self.count(seen, row)?;
        let Postings {
            table,
            names,
            trades,
            provisional,
            initial,
            ..
        } = self;
        let names = names.get_or_insert_with(|| Names::new(table, seen.traders));
        let at = Cell::Time(interval.start_s());
        let [provisionally, initially] =
            [Run::Provisional, Run::Initial].map(|run| Cell::Word(table.word(run.word())));
        let lists = [
            (provisionally, trades),
            (provisionally, provisional),
            (initially, initial),
        ];
        for (run, list) in lists {
            for moved in list.iter().filter(|moved| moved.amount != 0) {
                let (from, to) = if moved.amount > 0 {
                    (moved.debit, moved.credit)
                } else {
                    (moved.credit, moved.debit)
                };
                let (Some(from), Some(to)) = (names.word(from), names.word(to)) else {
                    let what =
                        format!("a posting between {from:?} and {to:?}: no account of a run");
                    return Err(RunError::Differ { interval, what });
                };
                table.push(&[
                    at,
                    Cell::Missing,
                    run,
                    names.about(moved),
                    names.why(moved),
                    from,
                    to,
                    Cell::Int(moved.amount.saturating_abs()),
                ])?;
            }
        }
        Ok(())
    }

    fn count(&mut self, seen: &Seen<'_>, row: &IntervalRow) -> Result<(), RunError> {
        let interval = seen.moment.interval;
        let overflow = |_: MoneyError| RunError::overflow(interval);
        let prices = seen.tariff.prices(seen.cleared.price);
        self.trades.clear();
        for matched in seen.market.outcome.iter().flat_map(|o| &o.trades) {
            let home = |order: u32| seen.market.homes[place(order)];
            let energy = Energy::from_wh(matched.energy_wh);
            let amounts = trade_amounts(energy, matched.buyer_price, None, &prices);
            let parties = (home(matched.bid), home(matched.offer));
            let moved = trade_movements(parties, &amounts.map_err(overflow)?, Run::Provisional);
            self.trades.extend(moved);
        }
        self.initial.clear();
        let known = Known {
            seen,
            row,
            prices: &prices,
        };
        if !seen.meters.now.iter().any(|m| m.state == State::Late) {
            return known
                .homes(seen.settling, State::counts, &mut self.provisional)
                .map_err(overflow);
        }
        self.early_wh.clear();
        self.early_wh.extend(
            known
                .settled(State::in_time)
                .map(|(import, export)| import - export),
        );
        let flows = Flows {
            interval,
            net_wh: &self.early_wh,
            traded_wh: &seen.market.traded_wh,
            traded_nano: &seen.market.traded_nano,
        };
        self.early.settle(&flows, &prices, seen.traders)?;
        known
            .homes(&self.early, State::in_time, &mut self.provisional)
            .map_err(overflow)?;
        known
            .homes(seen.settling, State::counts, &mut self.initial)
            .map_err(overflow)?;
        for (later, early) in self.initial.iter_mut().zip(&self.provisional) {
            *later = later.minus(early).map_err(overflow)?;
        }
        Ok(())
    }

    /// Writes down what the platform posts.
    pub(super) fn push_all(&mut self, postings: &[Posting]) -> Result<(), RunError> {
        for posting in postings {
            let at = posting
                .interval
                .map_or(Cell::Missing, |i| Cell::Time(i.start_s()));
            self.table.push(&[
                at,
                Cell::Text(&to_hex(posting.id.as_bytes())),
                posting
                    .run
                    .map_or(Cell::Missing, |run| Cell::Text(run.word())),
                Cell::Text(asset(posting.asset)),
                Cell::Text(posting.purpose.word()),
                Cell::Text(&account(&posting.debit)),
                Cell::Text(&account(&posting.credit)),
                Cell::Int(posting.amount),
            ])?;
        }
        Ok(())
    }

    /// What was counted for a run, as the platform sums it up; `named` are the interval's trades in their order.
    pub(super) fn legs(
        &self,
        run: Run,
        traders: &[Trader],
        named: &[Trade],
    ) -> Result<Legs, MoneyError> {
        let name = |moved: &Movement<u32>| moved.named(|home| &traders[place(home)].id);
        let mut legs = Legs::default();
        if run == Run::Initial {
            legs.add_all(self.initial.iter().map(name), None)?;
            return Ok(legs);
        }
        for (moved, trade) in self.trades.chunks(4).zip(named) {
            legs.add_all(moved.iter().map(name), Some(trade.id))?;
        }
        legs.add_all(self.provisional.iter().map(name), None)?;
        Ok(legs)
    }
}

/// An interval and its prices.
struct Known<'k> {
    seen: &'k Seen<'k>,
    row: &'k IntervalRow,
    prices: &'k Prices,
}

impl<'k> Known<'k> {
    /// What each home took from the street and gave into it, as settled with the readings that count.
    fn settled(&self, counts: fn(State) -> bool) -> impl Iterator<Item = (i64, i64)> + 'k {
        let metered = &self.seen.meters.now;
        let sold = &self.seen.market.traded_wh;
        metered.iter().zip(sold).map(move |(metered, sold_wh)| {
            let (import_wh, export_wh, _) = metered.settled(counts(metered.state), *sold_wh);
            (import_wh, export_wh)
        })
    }

    /// What the homes' deviations and meters and the feeder move, in a fixed order.
    fn homes(
        &self,
        settling: &Settling,
        counts: fn(State) -> bool,
        list: &mut Vec<Movement<u32>>,
    ) -> Result<(), MoneyError> {
        list.clear();
        let mut given_wh = 0_i128;
        let shares = settling.pooled_wh.iter().zip(&settling.utility_wh);
        for (home, ((import_wh, export_wh), (pooled, utility))) in
            (0_u32..).zip(self.settled(counts).zip(shares))
        {
            let wh = Energy::from_wh;
            let amounts = deviation_amounts(wh(*pooled), wh(*utility), self.prices, None)?;
            list.extend(deviation_movements(home, &amounts));
            list.push(meter_movement(home, export_wh - import_wh));
            given_wh += i128::from(export_wh - import_wh);
        }
        let balance = Balance::of(given_wh, Some(feeder(self.row)))?;
        list.extend(balance_movements(&balance)?);
        Ok(())
    }
}

const fn asset(asset: Asset) -> &'static str {
    match asset {
        Asset::WattHour => "watt-hour",
        Asset::Stake => "stake",
        Asset::Token => "token",
    }
}

/// An account in words: `held/home-01`, `utility`.
fn account(account: &Account) -> String {
    let place = match account.chart() {
        Chart::Available => "available",
        Chart::Held => "held",
        Chart::Holdback => "holdback",
        Chart::Statement => "statement",
        Chart::Pool => "pool",
        Chart::Utility => "utility",
        Chart::Network => "network",
        Chart::Community => "community",
        Chart::Treasury => "treasury",
        Chart::Rounding => "rounding",
        Chart::Bonded => "bonded",
        Chart::Unbonding => "unbonding",
        Chart::Slashed => "slashed",
        Chart::Bounty => "bounty",
        Chart::Reserve => "reserve",
        Chart::Rewards => "rewards",
        Chart::Withdrawing => "withdrawing",
        Chart::Suspense => "suspense",
        Chart::Bridge => "bridge",
        Chart::Meter => "meter",
        Chart::Grid => "grid",
        Chart::Loss => "loss",
        Chart::Tax => "tax",
    };
    match account.owner() {
        "-" => place.to_owned(),
        owner => format!("{place}/{owner}"),
    }
}
