//! The loop of a run: window by window through the devices, interval by interval through market, meters
//! and settlement. What it keeps is one row for each interval and one sum for each home.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domain::energy::Energy;
use domain::money::Price;
use domain::receipt::Prices;
use settlement::tariff::Tariff;

use super::RunError;
use super::calendar::{Calendar, Moment};
use super::cars::intervals_ahead;
use super::detail::Detail;
use super::devices::{Chunk, DeviceSums, Manner, StepSums, Streams, number_of, run_all, yesterday};
use super::grid::{Grid, GridOutcome};
use super::market::{Cleared, Market, MindStreams, Rule, Trader};
use super::meters::Meters;
use super::scenario::{RunHome, RunScenario};
use super::settling::{Flows, Settled, Settling};
use super::sky::Sky;
use super::tariffs::Tariffs;
use crate::strategy::{AHEAD_MAX, Fate, Own, Public, Wish};

/// Home-intervals of a window: what the devices run ahead of the market.
const WINDOW_HOME_INTERVALS: usize = 4 << 20;
/// Most threads of a run.
pub const THREADS_MAX: usize = 256;

/// What a run is made of, beside options that do not change it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The scenario.
    pub scenario: RunScenario,
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// Name and text of the tariff's file of prices, where it has one.
    pub prices: Option<(String, String)>,
}

/// One home over the whole run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HomeSums {
    /// Household use, car, panels.
    pub load_wh: i64,
    /// See `load_wh`.
    pub ev_wh: i64,
    /// See `load_wh`.
    pub pv_wh: i64,
    /// What its panels could have given beyond the limit of what may be fed in.
    pub curtailed_wh: i64,
    /// Battery, at the AC side.
    pub charged_wh: i64,
    /// See `charged_wh`.
    pub discharged_wh: i64,
    /// Heat pump.
    pub heat_wh: i64,
    /// What its car still wanted when it left.
    pub unserved_wh: i64,
    /// In the battery at the run's end less at its start.
    pub stored_more_wh: i64,
    /// The same if the battery had followed its own home.
    pub own_stored_more_wh: i64,
    /// From the street and into it, as it flowed.
    pub import_wh: i64,
    /// See `import_wh`.
    pub export_wh: i64,
    /// In the auction.
    pub bought_wh: i64,
    /// See `bought_wh`.
    pub sold_wh: i64,
    /// What it pays in all.
    pub cost_nano: i64,
    /// What it would pay alone, its battery following it, for the energy that was settled.
    pub alone_nano: i64,
}

/// One interval of the community.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IntervalRow {
    /// When.
    pub moment: Moment,
    /// The utility's prices.
    pub retail: Price,
    /// See `retail`.
    pub feed_in: Price,
    /// The local price, where there is one.
    pub price: Option<Price>,
    /// Orders.
    pub bids: u32,
    /// See `bids`.
    pub offers: u32,
    /// Energy of the orders.
    pub bid_wh: i64,
    /// See `bid_wh`.
    pub offer_wh: i64,
    /// Traded.
    pub volume_wh: i64,
    /// Welfare of the trades, and the most there could be.
    pub welfare_nano: i128,
    /// See `welfare_nano`.
    pub welfare_max_nano: i128,
    /// What buyers pay above what sellers receive.
    pub surplus_nano: i128,
    /// What flowed at the devices.
    pub load_wh: i64,
    /// See `load_wh`.
    pub ev_wh: i64,
    /// See `load_wh`.
    pub heat_wh: i64,
    /// See `load_wh`; less what was curtailed.
    pub pv_wh: i64,
    /// See `load_wh`.
    pub curtailed_wh: i64,
    /// See `load_wh`.
    pub charged_wh: i64,
    /// See `load_wh`.
    pub discharged_wh: i64,
    /// In all batteries at the end.
    pub stored_wh: i64,
    /// Sums of the homes' imports and exports.
    pub import_wh: i64,
    /// See `import_wh`.
    pub export_wh: i64,
    /// Deviations that neighbours cancelled.
    pub pooled_wh: i64,
    /// The same sums if every battery followed its own home.
    pub own_import_wh: i64,
    /// See `own_import_wh`.
    pub own_export_wh: i64,
    /// Between what flowed and what was settled, home by home: lost readings and wrong clocks.
    pub unmetered_wh: i64,
    /// As settled with the utility.
    pub supplied_wh: i64,
    /// See `supplied_wh`.
    pub taken_wh: i64,
    /// Metered energy that differs from what was traded.
    pub deviated_wh: i64,
    /// Between homes and transformer.
    pub loss_wh: i64,
    /// What all homes pay.
    pub cost_nano: i128,
    /// What they would pay alone.
    pub alone_nano: i128,
    /// What they would pay with netting and no trading.
    pub netting_nano: i128,
    /// What the network receives.
    pub network_nano: i128,
    /// Readings that were not there in time.
    pub missing: u32,
}

impl IntervalRow {
    /// The same as [`IntervalRow::net_wh`] if every battery followed its own home.
    #[must_use]
    pub const fn own_net_wh(&self) -> i64 {
        self.own_import_wh - self.own_export_wh
    }

    /// Net energy of the community from the grid; below zero into it. Losses aside.
    #[must_use]
    pub const fn net_wh(&self) -> i64 {
        self.import_wh - self.export_wh
    }
}

/// What a run came to.
pub struct Outcome {
    /// The homes, ordered by id.
    pub homes: Vec<RunHome>,
    /// One sum for each home.
    pub sums: Vec<HomeSums>,
    /// One row for each interval.
    pub rows: Vec<IntervalRow>,
    /// What the wires carried, where the scenario has any.
    pub grid: Option<GridOutcome>,
    /// The intervals.
    pub calendar: Calendar,
    /// How the homes traded.
    pub rule: Rule,
    /// How long it took: of this computer, not of the run.
    pub wall: Duration,
}

impl Outcome {
    /// Homes times intervals.
    #[must_use]
    pub fn home_intervals(&self) -> u64 {
        self.homes.len() as u64 * self.rows.len() as u64
    }
}

/// Runs a job with its homes, ordered by id. `detail` gets what tables and signatures need; `progress` is told how many intervals of
/// how many are done.
///
/// # Errors
/// A scenario that makes no sense, a file that cannot be written, or a check that failed.
pub(super) fn run(
    job: &Job,
    homes: Vec<RunHome>,
    threads: usize,
    detail: Option<&mut Detail>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Outcome, RunError> {
    let started = clock();
    let mut engine = Engine::new(job, &homes, detail)?;
    let site = &job.scenario.site;
    let calendar = Calendar::new(site.zone, site.start, site.days, site.interval_s)?;
    let streams = Streams::new(job.seed);
    if let (Some(first), Some(last)) = (calendar.moments().first(), calendar.moments().last()) {
        let end_s = last.interval.start_s() + i64::from(last.interval.length_s());
        engine.tariffs.cover(first.interval.start_s(), end_s)?;
    }
    let moments = calendar.moments();
    let mut chunks = Chunk::all(&job.scenario, &homes, job.seed, &streams, moments)?;
    let mut sky = Sky::new(&job.scenario, job.seed);
    let manner = Manner {
        streams,
        forecast: job.scenario.forecast,
        detail: engine.detail.is_some(),
    };
    let all = calendar.moments();
    let window = (WINDOW_HOME_INTERVALS / homes.len()).clamp(1, 128);
    engine.rows.reserve(all.len());
    for day in calendar.days() {
        for (number, moments) in all[day.clone()].chunks(window).enumerate() {
            let first = day.start + number * window;
            let far = AHEAD_MAX.max(intervals_ahead(site.interval_s));
            engine.look_ahead(&all[first..(first + moments.len() + far).min(all.len())]);
            let retail = engine.ahead.iter().map(|t| t.retail.micro_per_kwh());
            let now = sky.window(&calendar, moments, retail.collect())?;
            run_all(&mut chunks, &now, &manner, threads.clamp(1, THREADS_MAX));
            for (step, moment) in moments.iter().enumerate() {
                engine.interval(&mut chunks, step, moment, all[0].interval.start_s())?;
            }
            progress(engine.rows.len() as u64, all.len() as u64);
        }
    }
    chunks.iter_mut().for_each(Chunk::finish);
    let mut sums = std::mem::take(&mut engine.sums);
    let devices = chunks.iter().flat_map(|chunk| &chunk.sums);
    for (sum, devices) in sums.iter_mut().zip(devices) {
        sum.take(devices);
    }
    let rows = engine.rows;
    Ok(Outcome {
        grid: engine.grid.map(Grid::finish),
        sums,
        rows,
        rule: engine.market.rule(),
        calendar,
        homes,
        wall: started.elapsed(),
    })
}

fn clock() -> Instant {
    Instant::now()
}

impl HomeSums {
    fn take(&mut self, devices: &DeviceSums) {
        self.load_wh = devices.load;
        self.ev_wh = devices.ev;
        self.heat_wh = devices.heat;
        self.unserved_wh = devices.unserved;
        self.pv_wh = devices.pv;
        self.curtailed_wh = devices.curtailed;
        self.charged_wh = devices.charged;
        self.discharged_wh = devices.discharged;
        self.stored_more_wh = devices.stored_last - devices.stored_first;
        self.own_stored_more_wh = devices.own_stored_last - devices.stored_first;
    }
}

/// What a home expects from now on: what it expects now, then what it needed at the same times of the day
/// before. Nothing on the first day.
fn expected_ahead(before: &[i32], moment: &Moment, now: i32) -> Vec<i64> {
    let length_s = i64::from(moment.interval.length_s());
    let place = usize::try_from(i64::from(moment.day_minute) * 60 / length_s).unwrap_or(0);
    let day = usize::try_from(86_400 / length_s).unwrap_or(1);
    if before.len() < day {
        return Vec::new();
    }
    let later = (1..day).map(|i| i64::from(before[(place + i) % day]));
    std::iter::once(i64::from(now)).chain(later).collect()
}

struct Engine<'r> {
    scenario: &'r RunScenario,
    tariffs: Tariffs,
    traders: Vec<Trader>,
    minds: MindStreams,
    market: Market,
    /// What the utility pays and takes from this interval on, as far as anybody looks; and as strategies see it.
    ahead: Vec<Tariff>,
    published: Vec<(Price, Price)>,
    /// What homes whose strategies plan a battery needed on the day before, by time of day.
    before: BTreeMap<usize, Vec<i32>>,
    /// What homes that learn had wished for.
    wishes: Vec<(usize, Option<Wish>)>,
    /// None where every reading is what flowed.
    meters: Option<Meters>,
    settling: Settling,
    /// Net energy of each home, as it flowed and as it is settled.
    net: Vec<i64>,
    settled_net: Vec<i64>,
    /// The same if each battery followed its own home: what the twins pay for.
    own_net: Vec<i64>,
    own_settled: Vec<i64>,
    sums: Vec<HomeSums>,
    rows: Vec<IntervalRow>,
    grid: Option<Grid>,
    detail: Option<&'r mut Detail>,
}

/// What an interval costs the twins.
struct Twins {
    alone_nano: i128,
    netting_nano: i128,
}

/// Sums of what homes draw and feed in.
fn flows_of(net_wh: &[i64]) -> (i64, i64) {
    let sums = |sum: (i64, i64), net: &i64| (sum.0 + (*net).max(0), sum.1 + (-*net).max(0));
    net_wh.iter().fold((0, 0), sums)
}

/// Everything about an interval that `detail` looks at.
pub(super) struct Seen<'e> {
    pub(super) moment: &'e Moment,
    pub(super) tariff: &'e Tariff,
    pub(super) traders: &'e [Trader],
    pub(super) market: &'e Market,
    pub(super) cleared: &'e Cleared,
    pub(super) meters: &'e Meters,
    pub(super) settling: &'e Settling,
    pub(super) net_wh: &'e [i64],
    pub(super) chunks: &'e [Chunk],
    pub(super) step: usize,
}

impl<'r> Engine<'r> {
    fn new(
        job: &'r Job,
        homes: &[RunHome],
        detail: Option<&'r mut Detail>,
    ) -> Result<Self, RunError> {
        let scenario = &job.scenario;
        let rule = Rule::of(&scenario.market).map_err(RunError::bad)?;
        let usual = scenario.market.strategy;
        let minds = MindStreams::new(job.seed);
        let trader = |home: &RunHome| {
            let kind = home.strategy.unwrap_or(usual);
            Trader::new(home.id.clone(), kind, number_of(home.id.as_str()), &minds)
        };
        let prices = job
            .prices
            .as_ref()
            .map(|(name, text)| (name.as_str(), text.as_str()));
        // Readings are written, so registers are kept; otherwise only where something goes wrong.
        let metered = detail.is_some() || !scenario.faults.is_none();
        Ok(Engine {
            scenario,
            tariffs: Tariffs::new(&scenario.tariff, prices)?,
            traders: homes.iter().map(trader).collect::<Result<_, _>>()?,
            minds,
            market: Market::new(rule, homes.len()),
            ahead: Vec::new(),
            published: Vec::new(),
            before: BTreeMap::new(),
            wishes: Vec::new(),
            meters: metered
                .then(|| Meters::new(&scenario.faults, homes, job.seed))
                .transpose()?,
            settling: Settling::default(),
            net: vec![0; homes.len()],
            settled_net: vec![0; homes.len()],
            own_net: vec![0; homes.len()],
            own_settled: vec![0; homes.len()],
            sums: vec![HomeSums::default(); homes.len()],
            rows: Vec::new(),
            grid: (scenario.network.as_ref())
                .map(|network| Grid::new(network, homes, scenario.site.interval_s))
                .transpose()?,
            detail,
        })
    }

    /// Looks up the tariff of a window and of what strategies may see of the time after it.
    fn look_ahead(&mut self, moments: &[Moment]) {
        self.ahead.clear();
        self.ahead
            .extend(moments.iter().map(|m| self.tariffs.at(m)));
        self.published.clear();
        let published = self.ahead.iter().map(|t| (t.feed_in, t.room()));
        self.published.extend(published);
    }

    /// Takes every home's order, and lets batteries do what their strategies planned.
    fn order(
        &mut self,
        chunks: &mut [Chunk],
        step: usize,
        moment: &Moment,
    ) -> Result<(), RunError> {
        self.market.open();
        self.wishes.clear();
        let tariff = self.ahead[step];
        let auction = matches!(self.market.rule(), Rule::Auction(_));
        let far = (step + AHEAD_MAX).min(self.published.len());
        let public = Public {
            utility_pays: tariff.feed_in,
            utility_takes: tariff.room(),
            gate_permille: 1000,
            tariff_ahead: &self.published[step..far],
        };
        for chunk in chunks.iter_mut() {
            let first = chunk.first();
            for place in 0..chunk.len() {
                let home = first + place;
                let (need, expected) = chunk.home(step, place);
                let waits = chunk.waits(place);
                let mut ahead = Vec::new();
                let battery = if waits {
                    let before = self.before.entry(home).or_default();
                    ahead = expected_ahead(before, moment, expected);
                    yesterday(before, moment, need);
                    chunk.battery(place, moment.interval.length_s())
                } else {
                    None
                };
                let own = Own {
                    expected_wh: i64::from(expected),
                    expected_ahead_wh: &ahead,
                    battery,
                };
                let trader = &mut self.traders[home];
                let decision = trader.decide(moment.interval, &public, &own, &self.minds);
                if waits {
                    chunk.dispatch(step, place, decision.battery);
                }
                if trader.learns() {
                    self.wishes.push((home, decision.wish));
                }
                if let Some(wish) = decision.wish.filter(|_| auction) {
                    self.market.order(moment.interval, home, &wish)?;
                }
            }
        }
        Ok(())
    }

    /// Tells those who learn what became of their orders.
    fn learn(&mut self, moment: &Moment, tariff: &Tariff, cleared: &Cleared) {
        for (home, wish) in &self.wishes {
            let fate = Fate {
                wish: *wish,
                traded_wh: self.market.traded_wh[*home].abs(),
                price: cleared.price,
                utility_pays: tariff.feed_in,
                utility_takes: tariff.room(),
            };
            self.traders[*home].learn(moment.interval, &fate, &self.minds);
        }
    }

    fn interval(
        &mut self,
        chunks: &mut [Chunk],
        step: usize,
        moment: &Moment,
        run_start_s: i64,
    ) -> Result<(), RunError> {
        let tariff = self.ahead[step];
        self.order(chunks, step, moment)?;
        let mut devices = StepSums::default();
        for chunk in chunks.iter() {
            let (net, _) = chunk.at(step);
            for (wide, net) in self.net[chunk.first()..].iter_mut().zip(net) {
                *wide = i64::from(*net);
            }
            let range = chunk.first()..chunk.first() + chunk.len();
            self.own_net[range.clone()].copy_from_slice(&self.net[range.clone()]);
            for (own, shift) in self.own_net[range].iter_mut().zip(chunk.own_shift(step)) {
                *own += i64::from(*shift);
            }
            devices.add(chunk.step_sums(step));
        }
        if let Some(grid) = &mut self.grid {
            grid.interval(moment, &self.net)?;
        }
        let whole = self.detail.is_some();
        let cleared = self.market.clear(moment.interval, &self.traders, whole)?;
        self.learn(moment, &tariff, &cleared);
        let missing = self.meter(moment, run_start_s);
        let prices = tariff.prices(cleared.price);
        let settled = self.settle(moment, &prices)?;
        let bills = settled.network_nano + settled.utility_nano + cleared.surplus;
        if settled.homes_nano != bills {
            return Err(RunError::Sum(moment.interval));
        }
        let row = self.row(moment, &prices, &cleared, &settled, &devices, missing)?;
        if let (Some(detail), Some(meters)) = (&mut self.detail, &self.meters) {
            let seen = Seen {
                moment,
                tariff: &tariff,
                traders: &self.traders,
                market: &self.market,
                cleared: &cleared,
                meters,
                settling: &self.settling,
                net_wh: &self.net,
                chunks,
                step,
            };
            detail.interval(&seen, &row)?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// What the meters say; gives how many readings were not there in time.
    fn meter(&mut self, moment: &Moment, run_start_s: i64) -> u32 {
        let Some(meters) = &mut self.meters else {
            self.settled_net.copy_from_slice(&self.net);
            self.own_settled.copy_from_slice(&self.own_net);
            return 0;
        };
        meters.count(moment, &self.net, run_start_s);
        let mut missing = 0;
        for (home, metered) in meters.now.iter().enumerate() {
            missing += u32::from(!metered.state.in_time());
            let (counts, sold_wh) = (metered.state.counts(), self.market.traded_wh[home]);
            let (import_wh, export_wh, _) = metered.settled(counts, sold_wh);
            self.settled_net[home] = import_wh - export_wh;
            // A twin is billed for the same energy as its home, substitutes too; what its battery does
            // otherwise is known only where there was a reading.
            let shift_wh = self.own_net[home] - self.net[home];
            self.own_settled[home] = self.settled_net[home] + if counts { shift_wh } else { 0 };
        }
        missing
    }

    fn settle(&mut self, moment: &Moment, prices: &Prices) -> Result<Settled, RunError> {
        let flows = Flows {
            interval: moment.interval,
            net_wh: &self.settled_net,
            traded_wh: &self.market.traded_wh,
            traded_nano: &self.market.traded_nano,
        };
        match self.market.rule() {
            Rule::Share(rule) => self.settling.share(&flows, rule, prices, &self.traders),
            Rule::None | Rule::Auction(_) => self.settling.settle(&flows, prices, &self.traders),
        }
    }

    fn row(
        &mut self,
        moment: &Moment,
        prices: &Prices,
        cleared: &Cleared,
        settled: &Settled,
        devices: &StepSums,
        missing: u32,
    ) -> Result<IntervalRow, RunError> {
        let twins = self.twins(moment, prices)?;
        let (import_wh, export_wh) = flows_of(&self.net);
        let (own_import_wh, own_export_wh) = flows_of(&self.own_net);
        let apart = self.net.iter().zip(&self.settled_net);
        let unmetered_wh = apart.map(|(net, settled)| (net - settled).abs()).sum();
        Ok(IntervalRow {
            moment: *moment,
            retail: prices.retail,
            feed_in: prices.feed_in,
            price: cleared.price,
            bids: cleared.bids,
            offers: cleared.offers,
            bid_wh: cleared.bid_wh,
            offer_wh: cleared.offer_wh,
            volume_wh: cleared.volume_wh,
            welfare_nano: cleared.welfare,
            welfare_max_nano: cleared.welfare_max,
            surplus_nano: cleared.surplus,
            load_wh: devices.load,
            ev_wh: devices.ev,
            heat_wh: devices.heat,
            pv_wh: devices.pv,
            curtailed_wh: devices.curtailed,
            charged_wh: devices.charged,
            discharged_wh: devices.discharged,
            stored_wh: devices.stored,
            import_wh,
            export_wh,
            own_import_wh,
            own_export_wh,
            unmetered_wh,
            pooled_wh: settled.pooled_wh,
            supplied_wh: settled.supplied_wh,
            taken_wh: settled.taken_wh,
            deviated_wh: settled.deviated_wh,
            loss_wh: self.loss_wh(import_wh - export_wh),
            cost_nano: settled.homes_nano,
            alone_nano: twins.alone_nano,
            netting_nano: twins.netting_nano,
            network_nano: settled.network_nano,
            missing,
        })
    }

    /// What the twins pay for the energy that was settled, and the sums of each home.
    fn twins(&mut self, moment: &Moment, prices: &Prices) -> Result<Twins, RunError> {
        let overflow = || RunError::overflow(moment.interval);
        let mut alone_nano = 0_i128;
        let traded = self.market.traded_wh.iter().zip(&self.settling.cost_nano);
        let nets = self.net.iter().zip(&self.own_settled);
        for ((sum, (net, own)), (sold, cost)) in self.sums.iter_mut().zip(nets).zip(traded) {
            let price = if *own > 0 {
                prices.retail
            } else {
                prices.feed_in
            };
            let alone = price
                .amount(Energy::from_wh(*own))
                .map_err(|_| overflow())?
                .nano();
            sum.import_wh += (*net).max(0);
            sum.export_wh += (-*net).max(0);
            sum.bought_wh += (-*sold).max(0);
            sum.sold_wh += (*sold).max(0);
            sum.cost_nano = sum.cost_nano.checked_add(*cost).ok_or_else(overflow)?;
            sum.alone_nano = sum.alone_nano.checked_add(alone).ok_or_else(overflow)?;
            alone_nano += i128::from(alone);
        }
        let (import_wh, export_wh) = flows_of(&self.own_settled);
        let shared_wh = import_wh.min(export_wh);
        let nano = |price: Price, wh: i64| i128::from(price.micro_per_kwh()) * i128::from(wh);
        Ok(Twins {
            alone_nano,
            netting_nano: nano(prices.retail, import_wh - shared_wh)
                + nano(prices.network_fee, shared_wh)
                - nano(prices.feed_in, export_wh - shared_wh),
        })
    }

    fn loss_wh(&self, net_wh: i64) -> i64 {
        let feeder = &self.scenario.feeder;
        let length_s = i64::from(self.scenario.site.interval_s);
        net_wh.abs() * feeder.losses_per_mille / 1000 + feeder.standing_loss_w * length_s / 3600
    }
}
