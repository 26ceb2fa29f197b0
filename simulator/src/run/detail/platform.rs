//! The platform's own settlement of an interval, beside the fast sums: provisional with what was there in time, then
//! the difference that late readings make. Both must agree, home by home and posting by posting.

use std::collections::BTreeMap;

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::{Digest32, ParticipantId};
use domain::posting::{Asset, Chart, Posting, Run};
use domain::quality::Quality;
use domain::trade::Trade;
use settlement::deliver::{ConnectionData, Metered as MeteredReading, deliver};
use settlement::settle::{Inputs, Options, Settlement, settle};

use super::super::RunError;
use super::super::engine::{IntervalRow, Seen};
use super::super::evidence::Evidence;
use super::super::meters::Metered;
use super::postings::Postings;
use super::{UNSIGNED, feeder};

/// What is known of an interval.
#[derive(Clone, Copy)]
pub(super) struct Known<'k> {
    pub(super) seen: &'k Seen<'k>,
    pub(super) row: &'k IntervalRow,
    pub(super) trades: &'k [Trade],
    /// Digests of the signed readings, home by home; empty where nothing is signed.
    pub(super) digests: &'k [Digest32],
}

/// The comparison of both settlements.
#[derive(Default)]
pub(super) struct Platform {
    homes: BTreeMap<ParticipantId, usize>,
    /// Intervals that were compared.
    pub(super) compared: u64,
}

impl Platform {
    /// Settles as the platform does. Its lines go into the logs where there are any, and its postings into the table
    /// then, since they have names; else they are what the table's movements have to be.
    pub(super) fn settle(
        &mut self,
        known: &Known<'_>,
        mut postings: Option<&mut Postings>,
        mut evidence: Option<&mut Evidence>,
    ) -> Result<(), RunError> {
        let interval = known.seen.moment.interval;
        let late = |m: &Metered| m.state.counts() && !m.state.in_time();
        let provisional = known.settlement(|m| m.state.in_time())?;
        let corrected = match known.seen.meters.now.iter().any(late) {
            true => Some(known.settlement(|m| m.state.counts())?),
            false => None,
        };
        let rest = corrected
            .as_ref()
            .map(|later| later.legs.minus(&provisional.legs));
        let rest = rest.transpose().map_err(|_| RunError::overflow(interval))?;
        let first = (Run::Provisional, &provisional.legs, &provisional);
        let second = corrected.as_ref().zip(rest.as_ref());
        let second = second.map(|(later, rest)| (Run::Initial, rest, later));
        for (run, legs, settlement) in std::iter::once(first).chain(second) {
            match (&mut evidence, &mut postings) {
                (Some(evidence), postings) => {
                    let posted = legs.postings(interval, run);
                    log(evidence, settlement, run, &posted);
                    if let Some(table) = postings {
                        table.push_all(&posted)?;
                    }
                }
                (None, Some(table)) => {
                    let fast = table.legs(run, known.seen.traders, known.trades);
                    if fast.as_ref() != Ok(legs) {
                        let what =
                            format!("the {} run's postings are not the platform's", run.word());
                        return Err(RunError::Differ { interval, what });
                    }
                }
                (None, None) => {}
            }
        }
        self.compare(known.seen, corrected.as_ref().unwrap_or(&provisional))
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
}

fn log(evidence: &mut Evidence, settlement: &Settlement, run: Run, postings: &[Posting]) {
    let lines = settlement.lines(run, postings);
    for (home, line) in lines.iter().enumerate() {
        evidence.line(home, settlement.interval, &line.to_cbor());
    }
}

impl Known<'_> {
    /// The settlement with the readings that count.
    fn settlement(&self, counts: impl Fn(&Metered) -> bool) -> Result<Settlement, RunError> {
        let Known {
            seen,
            row,
            trades,
            digests,
        } = *self;
        let interval = seen.moment.interval;
        let differ = |what: String| RunError::Differ { interval, what };
        let wh = Energy::from_wh;
        let connection = |(home, metered): (usize, &Metered)| {
            let reading = counts(metered).then(|| MeteredReading {
                imported: wh(metered.import_wh()),
                exported: wh(metered.export_wh()),
                quality: Quality::MEASURED,
                reading: digests.get(home).copied().unwrap_or(UNSIGNED),
            });
            Ok(ConnectionData {
                participant: seen.traders[home].id.clone(),
                point: seen.traders[home].point.clone(),
                reading,
                substitute: metered.stand_in(),
            })
        };
        let connections: Vec<ConnectionData> = (seen.meters.now)
            .iter()
            .enumerate()
            .map(connection)
            .collect::<Result<_, _>>()?;
        let deliveries: Vec<Delivery> =
            deliver(interval, &connections, trades).map_err(|e| differ(e.to_string()))?;
        settle(&Inputs {
            interval,
            tariff: seen.tariff,
            clearing_price: seen.cleared.price,
            trades,
            deliveries: &deliveries,
            feeder: Some(feeder(row)),
            options: Options::default(),
        })
        .map_err(|e| differ(e.to_string()))
    }
}
