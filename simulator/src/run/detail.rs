//! An interval once more, row by row, for the tables, and in the platform's own types for the logs. Where nothing is
//! signed nothing has a name, and rows are made from the fast sums by the movements that settlement posts; the
//! platform's whole settlement is then made beside it now and then. What it comes to must be what the fast sums say.

mod platform;
mod postings;

use std::path::Path;

use domain::energy::Energy;
use domain::ids::{Digest32, to_hex};
use domain::order::Side;
use domain::quality::Quality;
use domain::trade::{Clearing, Trade};
use market_engine::clear::{Budget, Match};
use settlement::deliver::Feeder;
use settlement::log::entry::Kind;

use self::platform::Platform;
use self::postings::Postings;
use super::RunError;
use super::devices::Flow;
use super::engine::{IntervalRow, Seen};
use super::evidence::Evidence;
use super::market::{Rule, Trader, place};
use super::meters::State;
use super::table::{Cell, FileKind, Table, TableWriter, Written};
use super::tables;

/// Where nothing is signed, the platform's settlement is made in one interval of so many: a prime, and a day and a
/// third of quarter hours, so that few days go by until every part of the day has had its turn.
const PLATFORM_EACH: u64 = 131;

/// Which tables a run writes beside participants, intervals and figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableChoice {
    /// None.
    None,
    /// Trades and deliveries.
    Some,
    /// Orders, readings and postings too.
    All,
}

impl TableChoice {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TableChoice::None => "none",
            TableChoice::Some => "some",
            TableChoice::All => "all",
        }
    }

    /// The choice of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let all = [TableChoice::None, TableChoice::Some, TableChoice::All];
        all.into_iter().find(|choice| choice.name() == name)
    }
}

/// The tables and the evidence of a run.
pub(super) struct Detail {
    orders: Option<Rows>,
    trades: Option<Rows>,
    readings: Option<Rows>,
    deliveries: Option<Rows>,
    postings: Option<Postings>,
    pub(super) evidence: Option<Evidence>,
    platform: Option<Platform>,
    digest: Digest32,
    intervals: u64,
}

/// Stands for the digest of a reading that nobody has signed.
const UNSIGNED: Digest32 = Digest32([0; 32]);

/// A table in which homes are words: the first of them, in their order.
struct Rows {
    table: TableWriter,
    homes: bool,
}

impl Rows {
    /// The table, which knows the homes.
    fn table(&mut self, traders: &[Trader]) -> &mut TableWriter {
        if !self.homes {
            for trader in traders {
                self.table.word(trader.id.as_str());
            }
            self.homes = true;
        }
        &mut self.table
    }
}

/// A home in a table that knows the homes: the first word is none at all.
fn home_word(home: usize) -> Cell<'static> {
    Cell::Word(u32::try_from(home).map_or(0, |home| home.saturating_add(1)))
}

/// Where tables go.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) folder: &'p Path,
    pub(super) kind: FileKind,
    pub(super) run_id: &'p str,
    pub(super) zone: &'p str,
}

impl Place<'_> {
    fn begin(&self, table: &'static Table) -> Result<TableWriter, RunError> {
        TableWriter::create(self.folder, table, self.kind, self.run_id, self.zone)
    }
}

impl Detail {
    /// Begins the tables; none where nothing asks for detail.
    pub(super) fn new(
        choice: TableChoice,
        place: Option<Place<'_>>,
        evidence: Option<Evidence>,
        rule: Rule,
    ) -> Result<Option<Self>, RunError> {
        if evidence.is_none() && (choice == TableChoice::None || place.is_none()) {
            return Ok(None);
        }
        let settles = match rule {
            Rule::Auction(mechanism) => mechanism.budget() == Budget::Balanced,
            Rule::None => true,
            Rule::Share(_) => false,
        };
        let begin = |table, wanted: bool| -> Result<Option<Rows>, RunError> {
            let Some(place) = place.filter(|_| wanted) else {
                return Ok(None);
            };
            let table = place.begin(table)?;
            Ok(Some(Rows {
                table,
                homes: false,
            }))
        };
        let (some, all) = (choice != TableChoice::None, choice == TableChoice::All);
        let postings = place.filter(|_| all && settles);
        Ok(Some(Detail {
            orders: begin(&tables::ORDERS, all)?,
            trades: begin(&tables::TRADES, some)?,
            readings: begin(&tables::READINGS, all)?,
            deliveries: begin(&tables::DELIVERIES, some)?,
            postings: postings
                .map(|place| place.begin(&tables::POSTINGS).map(Postings::new))
                .transpose()?,
            // Without postings and lines nobody needs the whole settlement.
            platform: (settles && (all || evidence.is_some())).then(Platform::default),
            evidence,
            digest: Digest32([0; 32]),
            intervals: 0,
        }))
    }

    /// Ends the tables.
    pub(super) fn finish(self) -> Result<Vec<Written>, RunError> {
        let rows = [self.orders, self.trades, self.readings, self.deliveries];
        let tables = rows.into_iter().flatten().map(|rows| rows.table);
        let postings = self.postings.map(Postings::into_table);
        tables.chain(postings).map(TableWriter::finish).collect()
    }

    /// Intervals in which both settlements were compared.
    pub(super) fn compared(&self) -> u64 {
        self.platform
            .as_ref()
            .map_or(0, |platform| platform.compared)
    }

    /// Writes an interval down.
    pub(super) fn interval(&mut self, seen: &Seen<'_>, row: &IntervalRow) -> Result<(), RunError> {
        let named = self.evidence.is_some()
            || (self.platform.is_some() && self.intervals.is_multiple_of(PLATFORM_EACH));
        self.intervals += 1;
        self.orders(seen, named)?;
        let trades = if named {
            self.named_trades(seen)?
        } else {
            Vec::new()
        };
        self.trade_rows(seen, &trades)?;
        let digests = self.readings(seen)?;
        if let Some(postings) = self.postings.as_mut().filter(|_| self.evidence.is_none()) {
            postings.interval(seen, row)?;
        }
        if let Some(platform) = self.platform.as_mut().filter(|_| named) {
            let known = platform::Known {
                seen,
                row,
                trades: &trades,
                digests: &digests,
            };
            platform.settle(&known, self.postings.as_mut(), self.evidence.as_mut())?;
        }
        self.deliveries(seen, row)
    }

    fn orders(&mut self, seen: &Seen<'_>, named: bool) -> Result<(), RunError> {
        let interval = seen.moment.interval;
        let market = seen.market;
        if !named && self.orders.is_none() {
            return Ok(());
        }
        let mut rows = self.orders.as_mut().map(|rows| rows.table(seen.traders));
        let sides = rows
            .as_mut()
            .map(|table| [Side::Bid, Side::Offer].map(|side| Cell::Word(table.word(side.word()))));
        let mut ids = Vec::new();
        let list = market.records().list().iter().zip(&market.homes);
        for (number, (record, home)) in list.enumerate() {
            let home = place(*home);
            let (side, energy_wh, limit) = (record.side(), record.energy_wh(), record.limit());
            let mut id = None;
            if named {
                let order = seen.traders[home].order(interval, side, energy_wh, limit);
                ids.extend_from_slice(order.id().as_bytes());
                if let Some(evidence) = &mut self.evidence {
                    evidence.order(home, &order)?;
                    id = Some(to_hex(order.id().as_bytes()));
                }
            }
            let (Some(table), Some([bid, offer])) = (rows.as_mut(), sides) else {
                continue;
            };
            table.push(&[
                Cell::Time(interval.start_s()),
                id.as_deref().map_or(Cell::Missing, Cell::Text),
                home_word(home),
                if side == Side::Bid { bid } else { offer },
                Cell::Int(energy_wh),
                Cell::Int(limit.micro_per_kwh()),
                Cell::Int(market.fills.get(number).copied().unwrap_or(0)),
            ])?;
        }
        self.digest = Digest32::of(&ids);
        Ok(())
    }

    /// The trades as the platform names them, and into the log where there is one.
    fn named_trades(&mut self, seen: &Seen<'_>) -> Result<Vec<Trade>, RunError> {
        let interval = seen.moment.interval;
        let market = seen.market;
        let Some(outcome) = &market.outcome else {
            return Ok(Vec::new());
        };
        let party = |order: u32, side| {
            let trader = &seen.traders[place(market.homes[place(order)])];
            let order = trader.order(interval, side, 0, seen.tariff.retail);
            (trader.id.clone(), order.id())
        };
        let trade = |matched: &Match| {
            let (buyer, bid) = party(matched.bid, Side::Bid);
            let (seller, offer) = party(matched.offer, Side::Offer);
            Trade {
                id: Trade::id_of(interval, &self.digest, bid, offer),
                interval,
                bid,
                offer,
                buyer,
                seller,
                energy: Energy::from_wh(matched.energy_wh),
                price: matched.buyer_price,
                network_fee: None,
            }
        };
        let trades: Vec<Trade> = outcome.trades.iter().map(trade).collect();
        self.log_market(seen, &trades);
        Ok(trades)
    }

    fn trade_rows(&mut self, seen: &Seen<'_>, named: &[Trade]) -> Result<(), RunError> {
        let (Some(rows), Some(outcome)) = (self.trades.as_mut(), &seen.market.outcome) else {
            return Ok(());
        };
        let (table, signed) = (rows.table(seen.traders), self.evidence.is_some());
        let home = |order: u32| home_word(place(seen.market.homes[place(order)]));
        for (number, matched) in outcome.trades.iter().enumerate() {
            let trade = named.get(number).filter(|_| signed);
            let names = trade.map(|trade| {
                [
                    to_hex(trade.id.as_bytes()),
                    to_hex(trade.bid.as_bytes()),
                    to_hex(trade.offer.as_bytes()),
                ]
            });
            let name = |at: usize| names.as_ref().map_or(Cell::Missing, |n| Cell::Text(&n[at]));
            table.push(&[
                Cell::Time(seen.moment.interval.start_s()),
                name(0),
                name(1),
                name(2),
                home(matched.bid),
                home(matched.offer),
                Cell::Int(matched.energy_wh),
                Cell::Int(matched.buyer_price.micro_per_kwh()),
                Cell::Int(matched.seller_price.micro_per_kwh()),
                Cell::Int(seen.tariff.network_fee.micro_per_kwh()),
            ])?;
        }
        Ok(())
    }

    fn log_market(&mut self, seen: &Seen<'_>, trades: &[Trade]) {
        let Some(evidence) = &mut self.evidence else {
            return;
        };
        let (interval, cleared) = (seen.moment.interval, seen.cleared);
        let Rule::Auction(mechanism) = seen.market.rule() else {
            return;
        };
        for trade in trades {
            evidence.market_entry(Kind::Trade, interval, &trade.to_cbor());
        }
        let clearing = Clearing {
            interval,
            mechanism: mechanism.name().to_owned(),
            price_policy: mechanism.price_policy_name().to_owned(),
            price: cleared.price,
            price_low: None,
            price_high: None,
            volume: Energy::from_wh(cleared.volume_wh),
            orders: cleared.bids + cleared.offers,
            trades: u32::try_from(trades.len()).unwrap_or(u32::MAX),
            book: self.digest,
            public_book: None,
        };
        evidence.market_entry(Kind::Clearing, interval, &clearing.to_cbor());
    }

    /// The readings; the digests of their signed messages where they are signed, otherwise none.
    fn readings(&mut self, seen: &Seen<'_>) -> Result<Vec<Digest32>, RunError> {
        let (interval, meters) = (seen.moment.interval, seen.meters);
        let digests = match &mut self.evidence {
            Some(evidence) => {
                let signed = |(home, metered)| {
                    let digest = evidence.reading(home, interval, metered)?;
                    Ok(digest.unwrap_or(UNSIGNED))
                };
                let signed = meters.now.iter().enumerate().map(signed);
                signed.collect::<Result<_, RunError>>()?
            }
            None => Vec::new(),
        };
        let Some(rows) = self.readings.as_mut() else {
            return Ok(digests);
        };
        let table = rows.table(seen.traders);
        let states = State::ALL.map(|state| Cell::Word(table.word(state.word())));
        for (home, metered) in meters.now.iter().enumerate() {
            let came = |wh| {
                if metered.state.counts() {
                    Cell::Int(wh)
                } else {
                    Cell::Missing
                }
            };
            table.push(&[
                Cell::Time(interval.start_s()),
                home_word(home),
                came(metered.from.import_wh),
                came(metered.to.import_wh),
                came(metered.from.export_wh),
                came(metered.to.export_wh),
                states[metered.state as usize],
            ])?;
        }
        Ok(digests)
    }

    fn deliveries(&mut self, seen: &Seen<'_>, row: &IntervalRow) -> Result<(), RunError> {
        let Some(rows) = self.deliveries.as_mut() else {
            return Ok(());
        };
        let table = rows.table(seen.traders);
        let words = [Quality::MEASURED, Quality::SUBSTITUTED].map(|q| (q, table.word(q.word())));
        for chunk in seen.chunks {
            let (_, expected) = chunk.at(seen.step);
            let flows = chunk.flows(seen.step).iter().zip(expected);
            for (home, (flow, expected)) in (chunk.first()..).zip(flows) {
                table.push(&delivery(seen, row, home, (flow, *expected), &words))?;
            }
        }
        Ok(())
    }
}

/// What the feeder's meter counts: what the homes draw together, and what is lost on the way.
fn feeder(row: &IntervalRow) -> Feeder {
    let line_wh = row.net_wh() + row.loss_wh;
    Feeder {
        imported: Energy::from_wh(line_wh.max(0)),
        exported: Energy::from_wh((-line_wh).max(0)),
    }
}

/// A row of deliveries.
fn delivery(
    seen: &Seen<'_>,
    row: &IntervalRow,
    home: usize,
    (flow, expected): (&Flow, i32),
    qualities: &[(Quality, u32)],
) -> [Cell<'static>; 20] {
    let sold = seen.market.traded_wh[home];
    let net = seen.net_wh[home];
    let metered = &seen.meters.now[home];
    let (import_wh, export_wh, quality) = metered.settled(metered.state.counts(), sold);
    let known = qualities.iter().find(|(known, _)| *known == quality);
    let price = if net > 0 { row.retail } else { row.feed_in };
    let wide = |wh: i32| Cell::Int(i64::from(wh));
    [
        Cell::Time(seen.moment.interval.start_s()),
        home_word(home),
        wide(flow.load),
        wide(flow.ev),
        wide(flow.heat),
        wide(flow.pv),
        wide(flow.curtailed),
        wide(flow.charged),
        wide(flow.discharged),
        wide(flow.stored),
        wide(expected),
        Cell::Int(import_wh),
        Cell::Int(export_wh),
        Cell::Int((-sold).max(0)),
        Cell::Int(sold.max(0)),
        Cell::Int(seen.settling.pooled_wh[home]),
        Cell::Int(seen.settling.utility_wh[home]),
        known.map_or(Cell::Text(quality.word()), |(_, word)| Cell::Word(*word)),
        Cell::Int(seen.settling.cost_nano[home]),
        Cell::Int(price.micro_per_kwh() * net),
    ]
}
