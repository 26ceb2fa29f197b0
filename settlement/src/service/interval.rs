//! One run of one interval: deliver, settle, post what differs from earlier runs, log each line.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use domain::energy::Energy;
use domain::ids::{Digest32, PointId};
use domain::key_record::PointRole;
use domain::posting::Run;
use domain::quality::Quality;
use domain::receipt::Line;
use domain::time::{Interval, Timestamp};
use domain::trade::{Clearing, Trade};
use runtime::args;
use runtime::db::{Db, Tx};

use super::contract::is_contracted;
use super::error::{corrupt, decoded, number, run_of, stored};
use super::logs::append;
use super::registry::{digest, points_until, salt};
use super::{Community, ServiceError, money, note_interval, rules};
use crate::accept::RegisteredPoint;
use crate::deliver::{ConnectionData, LossCheck, Metered, Substitute, check_loss, deliver};
use crate::legs::Legs;
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind};
use crate::settle::{Balance, Feeder, Inputs, Options, Settlement, settle};
use crate::store::{Insert, LOCK};

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
    if clearing.interval != interval
        || (!is_contracted(tx, clearing, trades).await? && !trades.is_empty())
    {
        let why = format!("the trades of {interval} were not contracted");
        return Err(ServiceError::Refused(why));
    }
    note_interval(tx, community, interval).await?;
    let (rules, done) = rules::of_interval(tx, interval).await?;
    if done.is_some_and(|done| done > run) {
        let why = format!("{interval} has had a later run than the {} one", run.word());
        return Err(ServiceError::Refused(why));
    }
    let points = points_until(tx, interval.end()).await?;
    let metered = metered(tx, interval).await?;
    let connections = connections(tx, interval, &points, &metered).await?;
    let substituted = connections.iter().filter(|c| c.reading.is_none()).count();
    let deliveries = deliver(interval, &connections, trades)?;
    let used = rules::used(tx, &rules, interval).await?;
    let inputs = Inputs {
        interval,
        tariff: &rules.tariff,
        clearing_price: clearing.price,
        trades,
        deliveries: &deliveries,
        feeder: feeder(&points, &metered),
        options: Options {
            run,
            terms: rules.terms,
            version: rules.version.as_deref(),
            steps: &rules.steps,
            used: Some(&used),
        },
    };
    let settlement = settle(&inputs)?;
    let (postings, lines) = book(tx, now, &settlement, run).await?;
    rules::keep_supplied(tx, &community.tariff, &rules, &settlement).await?;
    let summary = RunSummary {
        interval,
        run,
        again: false,
        postings,
        lines,
        substituted: substituted as u64,
        balance: settlement.balance,
        loss: check_loss(&deliveries, inputs.feeder, community.loss_band),
        inputs: Some(rules::inputs_digest(&inputs, clearing)),
        tariff: rules.version.clone(),
    };
    keep_run(tx, now, &summary).await?;
    Ok(summary)
}

type MeterRow = (String, i64, i64, i64, Vec<u8>);

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
    let meter = |(point, imported, exported, quality, reading): MeterRow| {
        let quality = Quality::from_bits(number(quality, "a quality")?);
        let metered = Metered {
            imported: Energy::from_wh(imported),
            exported: Energy::from_wh(exported),
            quality: quality.ok_or_else(|| corrupt("an unknown quality"))?,
            reading: digest(&reading)?,
        };
        Ok((PointId::new(point)?, metered))
    };
    rows.into_iter().map(meter).collect()
}

async fn connections(
    tx: &mut Tx,
    interval: Interval,
    points: &[RegisteredPoint],
    metered: &BTreeMap<PointId, Metered>,
) -> Result<Vec<ConnectionData>, ServiceError> {
    let mut connections = Vec::new();
    for point in points.iter().filter(|p| p.role == PointRole::Connection) {
        let Some(participant) = point.participant.clone() else {
            continue;
        };
        let reading = metered.get(&point.point).copied();
        let substitute = match reading {
            Some(_) => None,
            None => substitute(tx, interval, &point.point).await?,
        };
        let point = point.point.clone();
        connections.push(ConnectionData {
            participant,
            point,
            reading,
            substitute,
        });
    }
    Ok(connections)
}

/// The same interval a week before, else a day before.
async fn substitute(
    tx: &mut Tx,
    interval: Interval,
    point: &PointId,
) -> Result<Option<Substitute>, ServiceError> {
    let row: Option<(i64, i64)> = tx
        .fetch_optional(
            "SELECT imported_wh, exported_wh FROM settle_readings
             WHERE point = $1 AND start_s IN ($2, $3) AND reason IS NULL ORDER BY start_s LIMIT 1",
            args![
                point.as_str(),
                interval.start_s() - 7 * DAY_S,
                interval.start_s() - DAY_S
            ],
        )
        .await?;
    Ok(row.map(|(imported, exported)| Substitute {
        imported: Energy::from_wh(imported),
        exported: Energy::from_wh(exported),
    }))
}

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
    run: Run,
) -> Result<(u64, u64), ServiceError> {
    let interval = settlement.interval;
    let start = interval.start();
    let earlier = money::run_postings(tx, start, start.plus_ms(1)).await?;
    let rest = settlement.legs.minus(&Legs::of(&earlier)?)?;
    let postings = rest.postings(interval, run);
    money::post(tx, now, &postings).await?;
    money::check_pool(tx).await?;
    let mut lines = Vec::new();
    for line in settlement.lines(run, &postings) {
        let unchanged = line.postings.is_empty()
            && last_line(tx, &line)
                .await?
                .is_some_and(|last| last.delivery == line.delivery);
        if !unchanged {
            lines.push(line);
        }
    }
    log_lines(tx, &lines).await?;
    Ok((postings.len() as u64, lines.len() as u64))
}

async fn last_line(tx: &mut Tx, line: &Line) -> Result<Option<Line>, ServiceError> {
    let row: Option<(Vec<u8>,)> = tx
        .fetch_optional(
            "SELECT content FROM settle_lines WHERE start_s = $1 AND participant = $2
             ORDER BY run DESC LIMIT 1",
            args![line.interval.start_s(), line.participant.as_str()],
        )
        .await?;
    row.map(|(content,)| decoded(&content, "a line"))
        .transpose()
}

static LINES: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["start_s", "participant", "run", "content", "log_index"];
    Insert::new("settle_lines", &columns, "")
});

async fn log_lines(tx: &mut Tx, lines: &[Line]) -> Result<(), ServiceError> {
    let contents: Vec<Vec<u8>> = lines.iter().map(Line::to_cbor).collect();
    let mut entries = Vec::with_capacity(lines.len());
    for (line, content) in lines.iter().zip(&contents) {
        let salt = salt(tx, Some(&line.participant), content).await?;
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

async fn keep_run(tx: &mut Tx, now: Timestamp, summary: &RunSummary) -> Result<(), ServiceError> {
    let (start_s, run) = (summary.interval.start_s(), i64::from(summary.run.code()));
    let balance = &summary.balance;
    tx.execute(
        "INSERT INTO settle_runs (start_s, run, at_ms, postings, lines, substituted, imported_wh,
         exported_wh, lost_wh, feeder_metered, inputs, tariff, program, loss_check)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
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
            rules::PROGRAM,
            summary.loss.word()
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
