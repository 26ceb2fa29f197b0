//! The runs, in the order of the ledger log: each settled again from what it could know, and its lines compared.

use std::collections::BTreeMap;

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::{ParticipantId, PointId};
use domain::key_record::PointRole;
use domain::openings::{Opened, OpenedRun};
use domain::posting::{Posting, Run};
use domain::receipt::Line;
use domain::run_record::RunRecord;
use domain::time::Interval;

use super::interval::{Read, substitutes_from};
use super::steps::{Steps, Stood};
use super::{Facts, Fault, Leaves, Registry, wrong};
use crate::accept::RegisteredPoint;
use crate::deliver::{ConnectionData, Substitute, deliver};
use crate::legs::Legs;
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind, PUBLIC};
use crate::run_inputs::{blinded, inputs_digest, outcome_digest};
use crate::settle::{Feeder, Inputs, Options, Settlement, settle};
use crate::tariff::Tariff;

/// What a run that was settled again came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settled {
    /// Lines that are the log's, byte for byte.
    pub lines: usize,
    /// Postings that were made again, those in nobody's line among them.
    pub postings: usize,
    /// Homes for which a substitute stands in.
    pub substituted: usize,
    /// Intervals of the month that are not opened: where there are any, homes stand on the steps of a tiered tariff where
    /// their lines say, as far as what is opened bears them out.
    pub steps_closed: usize,
    /// Whether all inputs were held against the digest in the run's record: not where a home without a line stands
    /// nobody knows where.
    pub inputs_compared: bool,
}

/// Goes through runs in the order of the ledger log.
#[derive(Default)]
pub struct Executor {
    posted: BTreeMap<i64, (Run, Legs)>,
    last: BTreeMap<(i64, ParticipantId), Delivery>,
    steps: Steps,
    /// How many runs of an interval were settled again, and whether one could not be.
    done: BTreeMap<i64, (usize, bool)>,
    readings_size: u64,
}

impl Executor {
    /// Settles a run again and compares what comes of it with the ledger log. The runs of an interval, and those of
    /// all intervals, come in the log's order.
    ///
    /// # Errors
    /// Something differs, in words; or it cannot be told, because something is not opened.
    pub fn run(
        &mut self,
        leaves: &Leaves,
        registry: &Registry,
        facts: &Facts,
        opened: &OpenedRun,
    ) -> Result<Settled, Fault> {
        let start = opened.record.interval.start();
        let (done, is_broken) = self.done.get(&start.unix_s()).copied().unwrap_or_default();
        let logged = leaves.of(Log::Ledger, Kind::Run, start);
        let before = logged.iter().filter(|(index, _)| *index < opened.index);
        // A run posts what the runs before it did not; a program that logged no records may have begun.
        let own = u64::from(opened.record.lines);
        let is_begun = done == 0 && leaves.has_earlier_lines(start, opened.index, own);
        if is_broken || is_begun || before.count() != done {
            let why = "a run before it was not settled again".to_owned();
            return Err(Fault::Sealed(why));
        }
        let settled = self.settled(leaves, registry, facts, opened);
        self.done
            .insert(start.unix_s(), (done + 1, settled.is_err()));
        if settled.is_err() {
            self.steps.forget(start.unix_s());
        }
        settled
    }

    fn settled(
        &mut self,
        leaves: &Leaves,
        registry: &Registry,
        facts: &Facts,
        opened: &OpenedRun,
    ) -> Result<Settled, Fault> {
        let record = &opened.record;
        self.place_of(leaves, facts, opened)?;
        let (deliveries, feeder) = deliveries(registry, facts, opened)?;
        let logged = logged_lines(leaves, opened)?;
        let stood = self.stood(leaves, opened, &logged)?;
        let rules = &record.rules;
        let tariff = Tariff {
            retail: rules.retail,
            feed_in: rules.feed_in,
            network_fee: rules.network_fee,
        };
        let inputs = Inputs {
            interval: record.interval,
            tariff: &tariff,
            clearing_price: facts.clearing.price,
            trades: &facts.trades,
            deliveries: &deliveries,
            feeder,
            options: Options {
                run: record.run,
                terms: rules.terms.unwrap_or_default(),
                version: rules.version.as_deref(),
                steps: &rules.steps,
                used: Some(&stood.used),
            },
        };
        let settlement = settle(&inputs).map_err(|e| wrong(e.to_string()))?;
        let postings = self.rest(&settlement, record.run)?;
        let lines = self.lines(&settlement, record.run, &postings);
        same_lines(&lines, &logged)?;
        // Where a home without a line stands can only be guessed; in an interval's first run each has one.
        let all_known = stood.closed == 0 || logged.len() == deliveries.len();
        let inputs = inputs_digest(&record.program, &inputs, &facts.clearing);
        let inputs_compared = blinded(&opened.blind, &inputs) == record.inputs;
        same_digests(opened, inputs_compared || !all_known, &postings)?;
        let substituted = deliveries.iter().filter(|d| d.reading.is_none()).count();
        let settled = Settled {
            lines: lines.len(),
            postings: postings.len(),
            substituted,
            steps_closed: stood.closed,
            inputs_compared,
        };
        self.keep(record, settlement);
        Ok(settled)
    }

    /// The postings of a run: what the settlement comes to beyond the runs before it.
    fn rest(&self, settlement: &Settlement, run: Run) -> Result<Vec<Posting>, Fault> {
        let posted = self.posted.get(&settlement.interval.start_s());
        let posted = posted.map(|(_, legs)| legs.clone()).unwrap_or_default();
        let rest = settlement.legs.minus(&posted);
        let rest = rest.map_err(|e| wrong(e.to_string()))?;
        Ok(rest.postings(settlement.interval, run))
    }

    /// Whether the record is the log's, behind the run before it, and its readings are those of its time.
    fn place_of(
        &mut self,
        leaves: &Leaves,
        facts: &Facts,
        opened: &OpenedRun,
    ) -> Result<(), Fault> {
        let record = &opened.record;
        let start = record.interval.start();
        if record.interval != facts.clearing.interval {
            return Err(wrong("its record is of another interval"));
        }
        let entry = Entry::new(Kind::Run, start, PUBLIC, &record.to_cbor());
        if !leaves.has(Log::Ledger, opened.index, &entry) {
            return Err(wrong("its record is not the one in the ledger log"));
        }
        if record.readings_size > leaves.size(Log::Readings) {
            let why = "it knew readings beyond the readings log as it was read: audit again later";
            return Err(Fault::Sealed(why.to_owned()));
        }
        let before = self.posted.get(&start.unix_s()).map(|(run, _)| *run);
        if before.is_some_and(|before| before >= record.run) {
            return Err(wrong("it does not follow the run before it"));
        }
        if record.readings_size < self.readings_size {
            return Err(wrong("it knew fewer readings than a run before it"));
        }
        self.readings_size = record.readings_size;
        Ok(())
    }

    /// What the utility had supplied in the month before.
    fn stood(
        &mut self,
        leaves: &Leaves,
        opened: &OpenedRun,
        logged: &[Logged<'_>],
    ) -> Result<Stood, Fault> {
        let said = logged.iter().filter_map(|line| {
            let tiers = line.content.tiers.as_ref()?;
            Some((&line.content.participant, tiers.used_wh))
        });
        self.steps
            .stood(leaves, (&opened.record, opened.index), said)
    }

    /// The lines that are logged: of those for whom something changed.
    fn lines(&self, settlement: &Settlement, run: Run, postings: &[Posting]) -> Vec<Line> {
        let start_s = settlement.interval.start_s();
        let changed = |line: &Line| {
            let last = self.last.get(&(start_s, line.participant.clone()));
            !line.postings.is_empty() || last != Some(&line.delivery)
        };
        let lines = settlement.lines(run, postings);
        lines.into_iter().filter(changed).collect()
    }

    fn keep(&mut self, record: &RunRecord, settlement: Settlement) {
        let start_s = record.interval.start_s();
        let mut supplied = BTreeMap::new();
        for share in settlement.shares {
            let participant = share.delivery.participant.clone();
            let wh = share.utility.min(Energy::ZERO).wh().saturating_neg();
            supplied.insert(participant.clone(), Energy::from_wh(wh));
            self.last.insert((start_s, participant), share.delivery);
        }
        self.steps.keep(start_s, supplied);
        self.posted.insert(start_s, (record.run, settlement.legs));
    }
}

/// Holds the digest of all postings against that of the run's record, beside what was found of the inputs'.
fn same_digests(opened: &OpenedRun, inputs_hold: bool, postings: &[Posting]) -> Result<(), Fault> {
    let record = &opened.record;
    if !inputs_hold {
        return Err(wrong(
            "its inputs are not those that its record in the log names",
        ));
    }
    let outcome = blinded(&opened.blind, &outcome_digest(postings));
    if outcome != record.outcome || usize::try_from(record.postings) != Ok(postings.len()) {
        return Err(wrong(
            "its postings that are in nobody's line are not those that its record commits to",
        ));
    }
    Ok(())
}

/// A line of the log, opened.
struct Logged<'a> {
    bytes: &'a [u8],
    content: Line,
}

/// The entries directly before a run's record, as many as it says, opened.
fn logged_lines<'a>(leaves: &Leaves, opened: &'a OpenedRun) -> Result<Vec<Logged<'a>>, Fault> {
    let record = &opened.record;
    let start = record.interval.start();
    let first = opened.index.checked_sub(u64::from(record.lines));
    let first = first.ok_or_else(|| wrong("its record has more lines than the log entries"))?;
    let mut by_index: BTreeMap<u64, &Opened> = BTreeMap::new();
    by_index.extend(opened.lines.iter().map(|line| (line.index, line)));
    let mut logged = Vec::with_capacity(opened.lines.len());
    let mut closed = 0;
    for index in first..opened.index {
        let Some(line) = by_index.remove(&index) else {
            closed += 1;
            continue;
        };
        let entry = Entry::new(Kind::Line, start, line.salt, &line.content);
        if !leaves.has(Log::Ledger, index, &entry) {
            return Err(wrong(format!(
                "entry {index} of the ledger log is not the line that was handed over"
            )));
        }
        let content = minicbor::decode(&line.content);
        logged.push(Logged {
            bytes: &line.content,
            content: content.map_err(|_| wrong(format!("entry {index} is no line")))?,
        });
    }
    if let Some(index) = by_index.into_keys().next() {
        let why = format!("entry {index} of the ledger log is not among the run's lines");
        return Err(wrong(why));
    }
    match closed {
        0 => Ok(logged),
        _ => Err(Fault::Sealed(format!(
            "{closed} of {} lines are not opened",
            record.lines
        ))),
    }
}

/// Compares what comes of settling again with what was logged, home by home.
fn same_lines(expected: &[Line], logged: &[Logged<'_>]) -> Result<(), Fault> {
    for (line, logged) in expected.iter().zip(logged) {
        if line.to_cbor() != logged.bytes {
            return Err(wrong(difference(line, &logged.content)));
        }
    }
    let who = |line: Option<&Line>| line.map(|line| line.participant.to_string());
    let more = match expected.len().cmp(&logged.len()) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Greater => who(expected.get(logged.len())),
        std::cmp::Ordering::Less => who(logged.get(expected.len()).map(|line| &line.content)),
    };
    Err(wrong(format!(
        "it comes to {} lines, the log has {}: the first beyond them is {}'s",
        expected.len(),
        logged.len(),
        more.unwrap_or_default()
    )))
}

/// What differs between two lines that should be the same.
fn difference(expected: &Line, logged: &Line) -> String {
    let who = &logged.participant;
    if expected.participant != *who {
        return format!(
            "the next line is {}'s, the log has {who}'s",
            expected.participant
        );
    }
    if expected.delivery != logged.delivery {
        let (this, that) = (&expected.delivery, &logged.delivery);
        let flow = |d: &Delivery| format!("{} in and {} out", d.imported, d.exported);
        return format!(
            "{who}: the signed readings and trades come to {}, the log has {}",
            flow(this),
            flow(that)
        );
    }
    if expected.prices != logged.prices || expected.tariff != logged.tariff {
        return format!("{who}: settled at other prices than those of the run");
    }
    let unlike = |(this, that): &(&Posting, &Posting)| this != that;
    let mut pairs = expected.postings.iter().zip(&logged.postings);
    match pairs.find(unlike) {
        Some((this, that)) => format!(
            "{who}: {} from {} to {} comes to {}, the log has {}",
            this.purpose.word(),
            this.debit,
            this.credit,
            this.amount,
            that.amount
        ),
        None => format!(
            "{who}: it comes to {} postings, the log has {}, or pool, utility or trades differ",
            expected.postings.len(),
            logged.postings.len()
        ),
    }
}

/// Traded beside metered, from the readings that the run could know.
fn deliveries(
    registry: &Registry,
    facts: &Facts,
    opened: &OpenedRun,
) -> Result<(Vec<Delivery>, Option<Feeder>), Fault> {
    let record = &opened.record;
    let interval = record.interval;
    let points = registry.points(interval.end(), opened.index);
    let known = |read: &&Read| read.index < record.readings_size;
    let mut connections = Vec::new();
    for point in points.iter().filter(|p| p.role == PointRole::Connection) {
        let Some(participant) = point.participant.clone() else {
            continue;
        };
        let reading = facts.readings.get(&point.point).filter(known);
        let substitute = match reading {
            Some(_) => None,
            None => substitute(facts, interval, &point.point, record.readings_size)?,
        };
        connections.push(ConnectionData {
            participant,
            point: point.point.clone(),
            reading: reading.map(|read| read.metered),
            substitute,
        });
    }
    let deliveries = deliver(interval, &connections, &facts.trades);
    let deliveries = deliveries.map_err(|e| wrong(e.to_string()))?;
    Ok((deliveries, feeder(&points, facts, record.readings_size)?))
}

fn substitute(
    facts: &Facts,
    interval: Interval,
    point: &PointId,
    readings_size: u64,
) -> Result<Option<Substitute>, Fault> {
    for start in substitutes_from(interval.start()) {
        let start_s = start.unix_s();
        if !facts.earlier_opened.contains(&start_s) {
            let why = format!("a substitute for {point}: the readings of {start} are not opened");
            return Err(Fault::Sealed(why));
        }
        let found = facts.earlier.get(&(start_s, point.clone()));
        if let Some(read) = found.filter(|read| read.index < readings_size) {
            return Ok(Some(Substitute {
                imported: read.metered.imported,
                exported: read.metered.exported,
            }));
        }
    }
    Ok(None)
}

fn feeder(
    points: &[&RegisteredPoint],
    facts: &Facts,
    readings_size: u64,
) -> Result<Option<Feeder>, Fault> {
    let mut sum: Option<Feeder> = None;
    for point in points.iter().filter(|p| p.role == PointRole::Feeder) {
        let read = facts.readings.get(&point.point);
        let Some(one) = read.filter(|read| read.index < readings_size) else {
            return Ok(None);
        };
        let so_far = sum.unwrap_or(Feeder {
            imported: Energy::ZERO,
            exported: Energy::ZERO,
        });
        let add = |a: Energy, b: Energy| {
            a.checked_add(b)
                .ok_or_else(|| wrong("the feeder's energy does not fit"))
        };
        sum = Some(Feeder {
            imported: add(so_far.imported, one.metered.imported)?,
            exported: add(so_far.exported, one.metered.exported)?,
        });
    }
    Ok(sum)
}
