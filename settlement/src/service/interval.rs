//! One run of one interval: deliver, settle, post what differs from earlier runs, log each line.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::{Digest32, ParticipantId, PointId};
use domain::key_record::PointRole;
use domain::posting::{Posting, Run};
use domain::quality::Quality;
use domain::receipt::Line;
use domain::run_record::RunRecord;
use domain::time::{Interval, Timestamp};
use domain::trade::{Clearing, Trade};
use runtime::args;
use runtime::db::{Db, Listed, Tx};

use super::contract::is_contracted;
use super::error::{corrupt, decoded, number, run_of, stored};
use super::last_run::{self, Resumed};
use super::logs::{append, frontier};
use super::registry::{digest, points_until, secrets_of};
use super::{Community, ServiceError, money, note_interval, rules};
use crate::accept::RegisteredPoint;
use crate::deliver::{
    ConnectionData, LossBand, LossCheck, Metered, Substitute, check_loss, deliver,
};
use crate::legs::Legs;
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind, PUBLIC, salt_of};
use crate::resettle::resettle;
use crate::run_inputs::{PROGRAM, blind, blinded, digest_with, encoded, outcome_digest, rules_of};
use crate::settle::{Balance, Feeder, Inputs, Options, Settlement, settle};
use crate::store::LOCK;

/// Most runs that one call of [`runs_due`] names; the rest follows in the next.
pub const RUNS_PER_CALL: i64 = 64;

/// How long a run that failed waits before it is due again.
pub const POSTPONE_S: i64 = 300;

const DAY_S: i64 = 86_400;

/// What a run did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunSummary {
    /// When.
    pub interval: Interval,
    /// Which run.
    pub run: Run,
    /// Whether the run was in the books before this call, which then did nothing.
    pub again: bool,
    /// Postings made: for a later run, only differences.
    pub postings: u64,
    /// Lines logged: of those for whom something changed.
    pub lines: u64,
    /// Connections without a reading.
    pub substituted: u64,
    /// How the street's energy adds up.
    pub balance: Balance,
    /// What the feeder's meter says about the others.
    pub loss: LossCheck,
    /// SHA-256 over all that the run was made from; none for runs of a program that did not keep it.
    pub inputs: Option<Digest32>,
    /// The tariff's version, where it has versions.
    pub tariff: Option<String>,
}

/// The runs that are due of intervals that were contracted, the longest overdue first, at most [`RUNS_PER_CALL`].
///
/// # Errors
/// The database failed.
pub async fn runs_due(db: &Db, now: Timestamp) -> Result<Vec<(Interval, Run)>, ServiceError> {
    let rows: Vec<(i64, i64, Option<i64>)> = db
        .fetch_all(
            "SELECT i.start_s, i.length_s, i.done FROM settle_intervals i
             JOIN settle_clearings c ON c.start_s = i.start_s WHERE i.due_s <= $1
             ORDER BY i.due_s, i.start_s LIMIT $2",
            args![now.unix_s(), RUNS_PER_CALL],
        )
        .await?;
    let due = |(start_s, length_s, done): (i64, i64, Option<i64>)| {
        let interval = Interval::new(start_s, number(length_s, "an interval's length")?)?;
        let next = crate::run::next(interval, done.map(run_of).transpose()?, false);
        Ok(next.map(|(run, _)| (interval, run)))
    };
    rows.into_iter()
        .filter_map(|row| due(row).transpose())
        .collect()
}

/// Lets a run that failed wait for [`POSTPONE_S`], so that those behind it have their turn.
///
/// # Errors
/// The database failed.
pub async fn postpone(
    tx: &mut Tx,
    interval: Interval,
    run: Run,
    now: Timestamp,
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    tx.execute(
        "UPDATE settle_intervals SET due_s = $1
         WHERE start_s = $2 AND (done IS NULL OR done < $3)",
        args![
            now.plus_s(POSTPONE_S).unix_s(),
            interval.start_s(),
            i64::from(run.code())
        ],
    )
    .await?;
    Ok(())
}

/// Settles an interval in a run, at most once for each: a second call only reports.
///
/// # Errors
/// The trades are not those that were contracted, a later run is done already, or the numbers do not
/// fit.
pub async fn run_interval(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
    interval: Interval,
    run: Run,
    clearing: &Clearing,
    trades: &[Trade],
) -> Result<RunSummary, ServiceError> {
    tx.exclusive(LOCK).await?;
    if let Some(summary) = known_run(tx, interval, run).await? {
        return Ok(summary);
    }
    let encoded = encoded(trades);
    let contracted = last_run::contracted(clearing, &encoded);
    let resumed = last_run::resume(tx, interval, contracted).await?;
    let known = resumed.is_some() || is_contracted(tx, clearing, trades).await?;
    if clearing.interval != interval || (!known && !trades.is_empty()) {
        let why = format!("the trades of {interval} were not contracted");
        return Err(ServiceError::Refused(why));
    }
    note_interval(tx, community, interval).await?;
    let (rules, done) = rules::of_interval(tx, interval).await?;
    if done.is_some_and(|done| done > run) {
        let why = format!("{interval} has had a later run than the {} one", run.word());
        return Err(ServiceError::Refused(why));
    }
    let used = rules::used(tx, &rules, interval).await?;
    let mut inputs = Inputs {
        interval,
        tariff: &rules.tariff,
        clearing_price: clearing.price,
        trades,
        deliveries: &[],
        feeder: None,
        options: Options {
            run,
            terms: rules.terms,
            version: rules.version.as_deref(),
            steps: &rules.steps,
            used: Some(&used),
        },
    };
    let again = match &resumed {
        Some(Resumed { before, deliveries }) if !community.tariff.has_steps() => {
            (inputs.deliveries, inputs.feeder) = (deliveries, before.feeder);
            resettle(&inputs, before)?
        }
        _ => None,
    };
    let read;
    let (rest, settlement) = match again {
        Some(settlement) => (settlement.legs.clone(), settlement),
        None => {
            read = read_all(tx, interval, trades).await?;
            (inputs.deliveries, inputs.feeder) = (&read.0, read.1);
            let settlement = settle(&inputs)?;
            (beyond_earlier(tx, &settlement).await?, settlement)
        }
    };
    let (postings, lines) = book(tx, now, &settlement, &rest, run).await?;
    rules::keep_supplied(tx, &community.tariff, &rules, &settlement).await?;
    last_run::keep(tx, &inputs, contracted).await?;
    let mut summary = summary(&inputs, &settlement, community.loss_band);
    let digest = digest_with(PROGRAM, &inputs, clearing, &encoded);
    (summary.postings, summary.lines) = (postings.len() as u64, lines);
    summary.inputs = Some(digest);
    let record = record(tx, community, &inputs, &rules, (&digest, &postings, lines)).await?;
    keep_run(tx, now, &summary, &record).await?;
    Ok(summary)
}

/// What the ledger log is told of a run.
async fn record(
    tx: &mut Tx,
    community: &Community,
    inputs: &Inputs<'_>,
    rules: &rules::Rules,
    (digest, postings, lines): (&Digest32, &[Posting], u64),
) -> Result<RunRecord, ServiceError> {
    let (interval, run) = (inputs.interval, inputs.options.run);
    let blind = blind(&community.operator, interval, run);
    Ok(RunRecord {
        interval,
        run,
        program: PROGRAM.to_owned(),
        rules: rules_of(inputs, rules.month_from.map(Timestamp::unix_s)),
        readings_size: frontier(tx, Log::Readings).await?.size(),
        lines: number(stored(lines)?, "a count")?,
        postings: number(stored(postings.len() as u64)?, "a count")?,
        inputs: blinded(&blind, digest),
        outcome: blinded(&blind, &outcome_digest(postings)),
    })
}

/// What a run did, without what it booked.
fn summary(inputs: &Inputs<'_>, settlement: &Settlement, band: LossBand) -> RunSummary {
    let missing = inputs.deliveries.iter().filter(|d| d.reading.is_none());
    RunSummary {
        interval: inputs.interval,
        run: inputs.options.run,
        again: false,
        postings: 0,
        lines: 0,
        substituted: missing.count() as u64,
        balance: settlement.balance,
        loss: check_loss(inputs.deliveries, inputs.feeder, band),
        inputs: None,
        tariff: settlement.version.clone(),
    }
}

/// The interval's deliveries and its feeder's meter, from all that is stored.
async fn read_all(
    tx: &mut Tx,
    interval: Interval,
    trades: &[Trade],
) -> Result<(Vec<Delivery>, Option<Feeder>), ServiceError> {
    let points = points_until(tx, interval.end()).await?;
    let metered = metered(tx, interval).await?;
    let connections = connections(tx, interval, &points, &metered).await?;
    let deliveries = deliver(interval, &connections, trades)?;
    Ok((deliveries, feeder(&points, &metered)))
}

/// What a settlement comes to beyond what earlier runs have posted.
async fn beyond_earlier(tx: &mut Tx, settlement: &Settlement) -> Result<Legs, ServiceError> {
    let start = settlement.interval.start();
    let earlier = money::run_postings(tx, start, start.plus_ms(1)).await?;
    Ok(settlement.legs.minus(&Legs::of(&earlier)?)?)
}

pub(super) type MeterRow = (String, i64, i64, i64, Vec<u8>);

async fn metered(
    tx: &mut Tx,
    interval: Interval,
) -> Result<BTreeMap<PointId, Metered>, ServiceError> {
    let rows: Vec<MeterRow> = tx
        .fetch_all(
            "SELECT point, imported_wh, exported_wh, quality, digest FROM settle_readings
             WHERE start_s = $1 AND reason IS NULL",
            args![interval.start_s()],
        )
        .await?;
    rows.into_iter().map(meter).collect()
}

pub(super) fn meter(row: MeterRow) -> Result<(PointId, Metered), ServiceError> {
    let (point, imported, exported, quality, reading) = row;
    let quality = Quality::from_bits(number(quality, "a quality")?);
    let metered = Metered {
        imported: Energy::from_wh(imported),
        exported: Energy::from_wh(exported),
        quality: quality.ok_or_else(|| corrupt("an unknown quality"))?,
        reading: digest(&reading)?,
    };
    Ok((PointId::new(point)?, metered))
}

async fn connections(
    tx: &mut Tx,
    interval: Interval,
    points: &[RegisteredPoint],
    metered: &BTreeMap<PointId, Metered>,
) -> Result<Vec<ConnectionData>, ServiceError> {
    let connected = points.iter().filter(|p| p.role == PointRole::Connection);
    let connected: Vec<(&RegisteredPoint, &ParticipantId)> = connected
        .filter_map(|p| Some((p, p.participant.as_ref()?)))
        .collect();
    let missing = connected.iter().map(|(p, _)| &p.point);
    let missing = missing.filter(|point| !metered.contains_key(*point));
    let substitutes = substitutes(tx, interval, missing).await?;
    let connection = |(p, participant): (&RegisteredPoint, &ParticipantId)| ConnectionData {
        participant: participant.clone(),
        point: p.point.clone(),
        reading: metered.get(&p.point).copied(),
        substitute: substitutes.get(&p.point).copied(),
    };
    Ok(connected.into_iter().map(connection).collect())
}

/// The same interval a week before, else a day before, of those points that have it.
pub(super) async fn substitutes(
    tx: &mut Tx,
    interval: Interval,
    points: impl Iterator<Item = &PointId>,
) -> Result<BTreeMap<PointId, Substitute>, ServiceError> {
    let start_s = interval.start_s();
    let asked = points.map(|p| args![p.as_str(), start_s - 7 * DAY_S, start_s - DAY_S]);
    let rows: Vec<(String, i64, i64)> = SUBSTITUTES.fetch(tx, asked.collect()).await?;
    let substitute = |(point, imported, exported): (String, i64, i64)| {
        let substitute = Substitute {
            imported: Energy::from_wh(imported),
            exported: Energy::from_wh(exported),
        };
        Ok((PointId::new(point)?, substitute))
    };
    rows.into_iter().map(substitute).collect()
}

static SUBSTITUTES: LazyLock<Listed> = LazyLock::new(|| {
    let select =
        "SELECT r.point, r.imported_wh, r.exported_wh FROM asked CROSS JOIN settle_readings r
         WHERE r.point = asked.point AND r.reason IS NULL AND r.start_s = (SELECT MIN(s.start_s)
         FROM settle_readings s WHERE s.point = asked.point AND s.reason IS NULL
         AND s.start_s IN (asked.week_s, asked.day_s))";
    Listed::over("asked", &["point", "week_s", "day_s"], select)
});

/// The sum of the feeder's meters; none where there is none, or where one did not speak.
fn feeder(points: &[RegisteredPoint], metered: &BTreeMap<PointId, Metered>) -> Option<Feeder> {
    let mut sum = None;
    for point in points.iter().filter(|p| p.role == PointRole::Feeder) {
        let one = metered.get(&point.point)?;
        let so_far = sum.unwrap_or(Feeder {
            imported: Energy::ZERO,
            exported: Energy::ZERO,
        });
        sum = Some(Feeder {
            imported: so_far.imported.checked_add(one.imported)?,
            exported: so_far.exported.checked_add(one.exported)?,
        });
    }
    sum
}

/// Posts the difference to earlier runs, and logs the line of everybody for whom something changed.
async fn book(
    tx: &mut Tx,
    now: Timestamp,
    settlement: &Settlement,
    rest: &Legs,
    run: Run,
) -> Result<(Vec<Posting>, u64), ServiceError> {
    let postings = rest.postings(settlement.interval, run);
    money::post(tx, now, &postings).await?;
    money::check_pool(tx).await?;
    let mut lines = settlement.lines(run, &postings);
    let unmoved = lines.iter().filter(|line| line.postings.is_empty());
    let last = last_deliveries(tx, unmoved).await?;
    lines.retain(|line| {
        !line.postings.is_empty() || last.get(&line.participant) != Some(&line.delivery)
    });
    log_lines(tx, &lines).await?;
    let count = lines.len() as u64;
    Ok((postings, count))
}

/// The deliveries of the last lines that these lines' participants have of the interval.
async fn last_deliveries(
    tx: &mut Tx,
    lines: impl Iterator<Item = &Line>,
) -> Result<BTreeMap<ParticipantId, Delivery>, ServiceError> {
    let asked = lines.map(|line| args![line.interval.start_s(), line.participant.as_str()]);
    let rows: Vec<(Vec<u8>,)> = LAST_LINES.fetch(tx, asked.collect()).await?;
    let delivery = |(content,): (Vec<u8>,)| {
        let line: Line = decoded(&content, "a line")?;
        Ok((line.participant, line.delivery))
    };
    rows.into_iter().map(delivery).collect()
}

static LAST_LINES: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT l.content FROM asked CROSS JOIN settle_lines l
         WHERE l.start_s = asked.start_s AND l.participant = asked.participant
         AND l.run = (SELECT MAX(n.run) FROM settle_lines n
         WHERE n.start_s = asked.start_s AND n.participant = asked.participant)";
    Listed::over("asked", &["start_s", "participant"], select)
});

static LINES: LazyLock<Listed> = LazyLock::new(|| {
    let columns = ["start_s", "participant", "run", "content", "log_index"];
    Listed::insert("settle_lines", &columns, "")
});

async fn log_lines(tx: &mut Tx, lines: &[Line]) -> Result<(), ServiceError> {
    let contents: Vec<Vec<u8>> = lines.iter().map(Line::to_cbor).collect();
    let owners = lines.iter().map(|line| &line.participant).collect();
    let secrets = secrets_of(tx, &owners).await?;
    let mut entries = Vec::with_capacity(lines.len());
    for (line, content) in lines.iter().zip(&contents) {
        let secret = secrets.get(&line.participant);
        let secret = secret.ok_or_else(|| corrupt("a participant without a secret"))?;
        let salt = salt_of(secret, content);
        entries.push(Entry::new(Kind::Line, line.interval.start(), salt, content));
    }
    let first = append(tx, Log::Ledger, &entries).await?;
    let mut rows = Vec::with_capacity(lines.len());
    for ((index, line), content) in (first..).zip(lines).zip(contents) {
        let (start_s, run) = (line.interval.start_s(), i64::from(line.run.code()));
        rows.push(args![
            start_s,
            line.participant.as_str(),
            run,
            content,
            index
        ]);
    }
    LINES.all(tx, rows).await?;
    Ok(())
}

/// Logs the record of a run, directly behind its lines, and keeps both.
async fn keep_run(
    tx: &mut Tx,
    now: Timestamp,
    summary: &RunSummary,
    record: &RunRecord,
) -> Result<(), ServiceError> {
    let content = record.to_cbor();
    let entry = Entry::new(Kind::Run, summary.interval.start(), PUBLIC, &content);
    let index = append(tx, Log::Ledger, &[entry]).await?;
    let (start_s, run) = (summary.interval.start_s(), i64::from(summary.run.code()));
    let balance = &summary.balance;
    tx.execute(
        "INSERT INTO settle_runs (start_s, run, at_ms, postings, lines, substituted, imported_wh,
         exported_wh, lost_wh, feeder_metered, inputs, tariff, program, loss_check, record, log_index)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        args![
            start_s,
            run,
            now.unix_ms(),
            stored(summary.postings)?,
            stored(summary.lines)?,
            stored(summary.substituted)?,
            balance.imported.wh(),
            balance.exported.wh(),
            balance.lost.wh(),
            balance.feeder_metered,
            summary.inputs.map(|inputs| inputs.0.to_vec()),
            summary.tariff.clone(),
            PROGRAM,
            summary.loss.word(),
            content,
            index
        ],
    )
    .await?;
    let next = crate::run::next(summary.interval, Some(summary.run), false);
    tx.execute(
        "UPDATE settle_intervals SET done = $1, due_s = $2 WHERE start_s = $3",
        args![run, next.map_or(i64::MAX, |(_, at)| at.unix_s()), start_s],
    )
    .await?;
    Ok(())
}

type RunRow = (
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    Option<Vec<u8>>,
    Option<String>,
    Option<String>,
);

async fn known_run(
    tx: &mut Tx,
    interval: Interval,
    run: Run,
) -> Result<Option<RunSummary>, ServiceError> {
    let row: Option<RunRow> = tx
        .fetch_optional(
            "SELECT postings, lines, substituted, imported_wh, exported_wh, lost_wh, feeder_metered,
             inputs, tariff, loss_check FROM settle_runs WHERE start_s = $1 AND run = $2",
            args![interval.start_s(), i64::from(run.code())],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let (postings, lines, substituted, imported, exported, lost, metered, ..) = row;
    let (inputs, tariff, loss) = (row.7, row.8, row.9);
    let loss = loss.as_deref().and_then(LossCheck::from_word);
    Ok(Some(RunSummary {
        interval,
        run,
        again: true,
        postings: number(postings, "a count")?,
        lines: number(lines, "a count")?,
        substituted: number(substituted, "a count")?,
        balance: Balance {
            imported: Energy::from_wh(imported),
            exported: Energy::from_wh(exported),
            lost: Energy::from_wh(lost),
            feeder_metered: metered != 0,
        },
        loss: loss.unwrap_or(LossCheck::NotMetered),
        inputs: inputs.as_deref().map(digest).transpose()?,
        tariff,
    }))
}
