//! An interval once more in the platform's own types: orders, trades, readings, deliveries, settlement and
//! postings, for the tables and the logs. What it comes to must be what the fast sums say.

use std::collections::BTreeMap;
use std::path::Path;

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::{Digest32, ParticipantId, PointId, to_hex};
use domain::order::{Order, Side};
use domain::posting::{Account, Asset, Chart, Posting, Run};
use domain::quality::Quality;
use domain::trade::{Clearing, Trade};
use market_engine::clear::Budget;
use settlement::deliver::{ConnectionData, Metered as MeteredReading, deliver};
use settlement::log::entry::Kind;
use settlement::settle::{Feeder, Inputs, Options, Settlement, settle};

use super::RunError;
use super::devices::Flow;
use super::engine::{IntervalRow, Seen};
use super::evidence::Evidence;
use super::market::{Rule, place};
use super::meters::Metered;
use super::table::{Cell, FileKind, Table, TableWriter, Written};
use super::tables;

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
    writers: BTreeMap<&'static str, TableWriter>,
    pub(super) evidence: Option<Evidence>,
    /// Whether the platform's settlement is made beside the fast sums.
    settles: bool,
    digest: Digest32,
    homes: BTreeMap<ParticipantId, usize>,
    /// Intervals in which both settlements were compared.
    pub(super) compared: u64,
}

/// Where tables go.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) folder: &'p Path,
    pub(super) kind: FileKind,
    pub(super) run_id: &'p str,
    pub(super) zone: &'p str,
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
        let mut wanted: Vec<&'static Table> = match choice {
            TableChoice::None => Vec::new(),
            TableChoice::Some => vec![&tables::TRADES, &tables::DELIVERIES],
            TableChoice::All => vec![
                &tables::ORDERS,
                &tables::TRADES,
                &tables::READINGS,
                &tables::DELIVERIES,
                &tables::POSTINGS,
            ],
        };
        wanted.retain(|table| settles || table.name != tables::POSTINGS.name);
        let mut writers = BTreeMap::new();
        if let Some(at) = place {
            for table in wanted {
                let writer = TableWriter::create(at.folder, table, at.kind, at.run_id, at.zone)?;
                writers.insert(table.name, writer);
            }
        }
        Ok(Some(Detail {
            // Without postings and lines nobody needs the whole settlement.
            settles: settles && (choice == TableChoice::All || evidence.is_some()),
            writers,
            evidence,
            digest: Digest32([0; 32]),
            homes: BTreeMap::new(),
            compared: 0,
        }))
    }

    /// Ends the tables.
    pub(super) fn finish(self) -> Result<Vec<Written>, RunError> {
        self.writers
            .into_values()
            .map(TableWriter::finish)
            .collect()
    }

    fn push(&mut self, table: &Table, cells: &[Cell<'_>]) -> Result<(), RunError> {
        match self.writers.get_mut(table.name) {
            Some(writer) => writer.push(cells),
            None => Ok(()),
        }
    }

    /// Writes an interval down.
    pub(super) fn interval(&mut self, seen: &Seen<'_>, row: &IntervalRow) -> Result<(), RunError> {
        self.orders(seen)?;
        let trades = self.trades(seen)?;
        let readings = self.readings(seen)?;
        if self.settles {
            self.settle(seen, row, &trades, &readings)?;
        }
        self.deliveries(seen, row)
    }

    fn orders(&mut self, seen: &Seen<'_>) -> Result<(), RunError> {
        let interval = seen.moment.interval;
        let market = seen.market;
        let mut ids = Vec::new();
        let list = market.records().list().iter().zip(&market.homes);
        for (number, (record, home)) in list.enumerate() {
            let home = place(*home);
            let order = seen.traders[home].order(
                interval,
                record.side(),
                record.energy_wh(),
                record.limit(),
            );
            let id = order.id();
            ids.extend_from_slice(id.as_bytes());
            if let Some(evidence) = &mut self.evidence {
                evidence.order(home, &order)?;
            }
            let filled = market.fills.get(number).copied().unwrap_or(0);
            self.order_row(&order, &to_hex(id.as_bytes()), filled)?;
        }
        self.digest = Digest32::of(&ids);
        Ok(())
    }

    fn order_row(&mut self, order: &Order, id: &str, filled_wh: i64) -> Result<(), RunError> {
        self.push(
            &tables::ORDERS,
            &[
                Cell::Time(order.interval.start_s()),
                Cell::Text(id),
                Cell::Text(order.participant.as_str()),
                Cell::Text(order.side.word()),
                Cell::Int(order.energy.wh()),
                Cell::Int(order.limit.micro_per_kwh()),
                Cell::Int(filled_wh),
            ],
        )
    }

    fn trades(&mut self, seen: &Seen<'_>) -> Result<Vec<Trade>, RunError> {
        let interval = seen.moment.interval;
        let market = seen.market;
        let mut trades = Vec::new();
        let Some(outcome) = &market.outcome else {
            return Ok(trades);
        };
        for matched in &outcome.trades {
            let party = |order: u32, side| {
                let trader = &seen.traders[place(market.homes[place(order)])];
                (
                    trader,
                    trader.order(interval, side, 0, seen.tariff.retail).id(),
                )
            };
            let (buyer, bid) = party(matched.bid, Side::Bid);
            let (seller, offer) = party(matched.offer, Side::Offer);
            let trade = Trade {
                id: Trade::id_of(interval, &self.digest, bid, offer),
                interval,
                bid,
                offer,
                buyer: buyer.id.clone(),
                seller: seller.id.clone(),
                energy: Energy::from_wh(matched.energy_wh),
                price: matched.buyer_price,
                network_fee: None,
            };
            self.push(
                &tables::TRADES,
                &[
                    Cell::Time(interval.start_s()),
                    Cell::Text(&to_hex(trade.id.as_bytes())),
                    Cell::Text(&to_hex(bid.as_bytes())),
                    Cell::Text(&to_hex(offer.as_bytes())),
                    Cell::Text(buyer.id.as_str()),
                    Cell::Text(seller.id.as_str()),
                    Cell::Int(matched.energy_wh),
                    Cell::Int(matched.buyer_price.micro_per_kwh()),
                    Cell::Int(matched.seller_price.micro_per_kwh()),
                    Cell::Int(seen.tariff.network_fee.micro_per_kwh()),
                ],
            )?;
            trades.push(trade);
        }
        self.log_market(seen, &trades);
        Ok(trades)
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

    /// The readings, with the digest of the signed message where it is signed.
    fn readings(&mut self, seen: &Seen<'_>) -> Result<Vec<Digest32>, RunError> {
        let Some(meters) = seen.meters else {
            return Ok(Vec::new());
        };
        let interval = seen.moment.interval;
        let mut digests = Vec::with_capacity(meters.now.len());
        for (home, metered) in meters.now.iter().enumerate() {
            let digest = match &mut self.evidence {
                Some(evidence) => evidence.reading(home, interval, metered)?,
                None => None,
            };
            digests.push(digest.unwrap_or(Digest32([0; 32])));
            let came = |wh| {
                if metered.state.counts() {
                    Cell::Int(wh)
                } else {
                    Cell::Missing
                }
            };
            self.push(
                &tables::READINGS,
                &[
                    Cell::Time(interval.start_s()),
                    Cell::Text(seen.traders[home].id.as_str()),
                    came(metered.from.import_wh),
                    came(metered.to.import_wh),
                    came(metered.from.export_wh),
                    came(metered.to.export_wh),
                    Cell::Text(metered.state.word()),
                ],
            )?;
        }
        Ok(digests)
    }

    /// The platform's settlement: provisional with what was there in time, then the difference that late
    /// readings make. The result must be what the fast sums say.
    fn settle(
        &mut self,
        seen: &Seen<'_>,
        row: &IntervalRow,
        trades: &[Trade],
        digests: &[Digest32],
    ) -> Result<(), RunError> {
        let Some(meters) = seen.meters else {
            return Ok(());
        };
        let late = meters
            .now
            .iter()
            .any(|m| m.state.counts() && !m.state.in_time());
        let provisional = settlement_of(seen, row, trades, digests, |m| m.state.in_time())?;
        let interval = seen.moment.interval;
        let postings = provisional.legs.postings(interval, Run::Provisional);
        self.post(seen, &provisional, &postings, Run::Provisional)?;
        let last = if late {
            let corrected = settlement_of(seen, row, trades, digests, |m| m.state.counts())?;
            let rest = corrected.legs.minus(&provisional.legs);
            let rest = rest.map_err(|_| RunError::overflow(interval))?;
            self.post(
                seen,
                &corrected,
                &rest.postings(interval, Run::Initial),
                Run::Initial,
            )?;
            corrected
        } else {
            provisional
        };
        self.compare(seen, &last)
    }

    fn post(
        &mut self,
        seen: &Seen<'_>,
        settlement: &Settlement,
        postings: &[Posting],
        run: Run,
    ) -> Result<(), RunError> {
        if let Some(evidence) = &mut self.evidence {
            let lines = settlement.lines(run, postings);
            for (home, line) in lines.iter().enumerate() {
                evidence.line(home, settlement.interval, &line.to_cbor());
            }
        }
        let interval = seen.moment.interval;
        for posting in postings {
            let asset = match posting.asset {
                Asset::WattHour => "watt-hour",
                Asset::Stake => "stake",
                Asset::Token => "token",
            };
            self.push(
                &tables::POSTINGS,
                &[
                    Cell::Time(interval.start_s()),
                    Cell::Text(&to_hex(posting.id.as_bytes())),
                    Cell::Text(run.word()),
                    Cell::Text(asset),
                    Cell::Text(posting.purpose.word()),
                    Cell::Text(&account(&posting.debit)),
                    Cell::Text(&account(&posting.credit)),
                    Cell::Int(posting.amount),
                ],
            )?;
        }
        Ok(())
    }

    /// Holds the platform's settlement against the fast sums, home by home.
    fn compare(&mut self, seen: &Seen<'_>, settlement: &Settlement) -> Result<(), RunError> {
        let interval = seen.moment.interval;
        if self.homes.is_empty() {
            let homes = seen.traders.iter().enumerate();
            self.homes = homes
                .map(|(home, trader)| (trader.id.clone(), home))
                .collect();
        }
        let mut costs = vec![0_i64; seen.traders.len()];
        for posting in settlement.legs.postings(interval, Run::Provisional) {
            if posting.asset != Asset::Token {
                continue;
            }
            for (account, sign) in [(&posting.debit, 1), (&posting.credit, -1)] {
                let own = matches!(
                    account.chart(),
                    Chart::Held | Chart::Available | Chart::Statement
                );
                let home = ParticipantId::new(account.owner()).ok();
                let home = home.filter(|_| own).and_then(|id| self.homes.get(&id));
                if let Some(home) = home {
                    costs[*home] += sign * posting.amount;
                }
            }
        }
        for (home, share) in settlement.shares.iter().enumerate() {
            let fast = (
                seen.settling.pooled_wh[home],
                seen.settling.utility_wh[home],
                seen.settling.cost_nano[home],
            );
            let whole = (share.pooled.wh(), share.utility.wh(), costs[home]);
            if fast != whole {
                let who = &seen.traders[home].id;
                return Err(RunError::Differ {
                    interval,
                    what: format!(
                        "{who}: the fast sums say {fast:?}, the platform's settlement {whole:?}"
                    ),
                });
            }
        }
        self.compared += 1;
        Ok(())
    }

    fn deliveries(&mut self, seen: &Seen<'_>, row: &IntervalRow) -> Result<(), RunError> {
        if !self.writers.contains_key(tables::DELIVERIES.name) {
            return Ok(());
        }
        for chunk in seen.chunks {
            let (_, expected) = chunk.at(seen.step);
            for (offset, (flow, expected)) in
                chunk.flows(seen.step).iter().zip(expected).enumerate()
            {
                self.delivery_row(seen, row, chunk.first() + offset, flow, *expected)?;
            }
        }
        Ok(())
    }

    fn delivery_row(
        &mut self,
        seen: &Seen<'_>,
        row: &IntervalRow,
        home: usize,
        flow: &Flow,
        expected: i32,
    ) -> Result<(), RunError> {
        let sold = seen.market.traded_wh[home];
        let net = seen.net_wh[home];
        let (import_wh, export_wh, quality) = seen
            .meters
            .map_or((net.max(0), (-net).max(0), Quality::MEASURED), |meters| {
                meters.now[home].settled(meters.now[home].state.counts(), sold)
            });
        let price = if net > 0 { row.retail } else { row.feed_in };
        let wide = |wh: i32| Cell::Int(i64::from(wh));
        self.push(
            &tables::DELIVERIES,
            &[
                Cell::Time(seen.moment.interval.start_s()),
                Cell::Text(seen.traders[home].id.as_str()),
                wide(flow.load),
                wide(flow.ev),
                wide(flow.heat),
                wide(flow.pv),
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
                Cell::Text(quality.word()),
                Cell::Int(seen.settling.cost_nano[home]),
                Cell::Int(price.micro_per_kwh() * net),
            ],
        )
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
        "" => place.to_owned(),
        owner => format!("{place}/{owner}"),
    }
}

/// The platform's settlement of an interval with the readings that count.
fn settlement_of(
    seen: &Seen<'_>,
    row: &IntervalRow,
    trades: &[Trade],
    digests: &[Digest32],
    counts: impl Fn(&Metered) -> bool,
) -> Result<Settlement, RunError> {
    let interval = seen.moment.interval;
    let differ = |what: String| RunError::Differ { interval, what };
    let meters = seen.meters.map_or(&[][..], |meters| &meters.now);
    let wh = Energy::from_wh;
    let connection = |(home, metered): (usize, &Metered)| {
        let reading = counts(metered).then(|| MeteredReading {
            imported: wh(metered.import_wh()),
            exported: wh(metered.export_wh()),
            quality: Quality::MEASURED,
            reading: digests[home],
        });
        Ok(ConnectionData {
            participant: seen.traders[home].id.clone(),
            point: PointId::new(seen.traders[home].id.as_str())
                .map_err(|e| differ(e.to_string()))?,
            reading,
            substitute: metered.stand_in(),
        })
    };
    let connections: Vec<ConnectionData> = meters
        .iter()
        .enumerate()
        .map(connection)
        .collect::<Result<_, _>>()?;
    let deliveries: Vec<Delivery> =
        deliver(interval, &connections, trades).map_err(|e| differ(e.to_string()))?;
    let line_wh = row.net_wh() + row.loss_wh;
    settle(&Inputs {
        interval,
        tariff: seen.tariff,
        clearing_price: seen.cleared.price,
        trades,
        deliveries: &deliveries,
        feeder: Some(Feeder {
            imported: wh(line_wh.max(0)),
            exported: wh((-line_wh).max(0)),
        }),
        options: Options::default(),
    })
    .map_err(|e| differ(e.to_string()))
}
