//! What the last run of an interval came to, kept so that the next need not read it all again, and which readings
//! came since. Both may be missing: then a run reads everything.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::{Digest32, PointId, digest_parts};
use domain::key_record::PointRole;
use domain::posting::Run;
use domain::signed::encode;
use domain::time::Interval;
use domain::trade::Clearing;
use minicbor::{Decode, Encode};
use runtime::args;
use runtime::db::{Db, Listed, Tx};

use super::ServiceError;
use super::error::decoded;
use super::interval::{MeterRow, meter, substitutes};
use super::registry::role_code;
use crate::deliver::{ConnectionData, Metered, metered_again};
use crate::resettle::Before;
use crate::settle::{Feeder, Inputs};

/// Where more than one in so many meters changed, a run reads everything.
const CHANGED_SHARE: usize = 8;

#[derive(Encode, Decode)]
#[cbor(map)]
struct Kept<'a> {
    #[n(1)]
    run: Run,
    /// Of the clearing and its trades, which are known to be contracted.
    #[n(2)]
    contracted: Digest32,
    #[n(3)]
    deliveries: Cow<'a, [Delivery]>,
    #[n(4)]
    feeder: Option<(Energy, Energy)>,
    /// How many connections and how many feeder meters there were.
    #[n(5)]
    points: (i64, i64),
    /// How many readings of theirs the interval had.
    #[n(6)]
    readings: i64,
}

/// What a run can go on from.
pub(super) struct Resumed {
    pub(super) before: Before,
    /// The deliveries as they are now.
    pub(super) deliveries: Vec<Delivery>,
}

/// SHA-256 of a clearing and its trades, encoded.
pub(super) fn contracted(clearing: &Clearing, trades: &[Vec<u8>]) -> Digest32 {
    let clearing = clearing.to_cbor();
    let mut parts: Vec<&[u8]> = trades.iter().map(Vec::as_slice).collect();
    parts.push(&clearing);
    // Another program may come to something else: then everything is read.
    parts.push(crate::run_inputs::PROGRAM.as_bytes());
    Digest32(digest_parts("commonwatt/contracted/v1", &parts))
}

/// Keeps what a run came to in the place of the run before. After the last run nothing is kept.
pub(super) async fn keep(
    tx: &mut Tx,
    inputs: &Inputs<'_>,
    contracted: Digest32,
) -> Result<(), ServiceError> {
    let (interval, run) = (inputs.interval, inputs.options.run);
    let start_s = interval.start_s();
    let late = "DELETE FROM settle_late WHERE start_s = $1";
    tx.execute(late, args![start_s]).await?;
    if crate::run::next(interval, Some(run), false).is_none() {
        let sql = "DELETE FROM settle_last_run WHERE start_s = $1";
        tx.execute(sql, args![start_s]).await?;
        return Ok(());
    }
    let (readings,): (i64,) = tx
        .fetch_one(
            "SELECT readings FROM settle_intervals WHERE start_s = $1",
            args![start_s],
        )
        .await?;
    let kept = Kept {
        run,
        readings,
        contracted,
        deliveries: Cow::Borrowed(inputs.deliveries),
        feeder: inputs.feeder.map(|f| (f.imported, f.exported)),
        points: points(tx, interval).await?,
    };
    tx.execute(
        "INSERT INTO settle_last_run (start_s, content) VALUES ($1, $2)
         ON CONFLICT (start_s) DO UPDATE SET content = excluded.content",
        args![start_s, encode(&kept)],
    )
    .await?;
    Ok(())
}

/// Notes readings of an interval that has been settled before.
pub(super) async fn note_late(
    tx: &mut Tx,
    interval: Interval,
    points: BTreeSet<PointId>,
) -> Result<(), ServiceError> {
    let row = |point: &PointId| args![interval.start_s(), point.as_str()];
    LATE.all(tx, points.iter().map(row).collect()).await?;
    Ok(())
}

static LATE: LazyLock<Listed> = LazyLock::new(|| {
    let columns = ["start_s", "point"];
    Listed::insert(
        "settle_late",
        &columns,
        "ON CONFLICT (start_s, point) DO NOTHING",
    )
});

/// What the run before left, with what came since; `None` where a run has to read everything.
pub(super) async fn resume(
    tx: &mut Tx,
    interval: Interval,
    contracted: Digest32,
) -> Result<Option<Resumed>, ServiceError> {
    let row: Option<(Vec<u8>, Option<i64>, i64)> = tx
        .fetch_optional(
            "SELECT l.content, i.done, i.readings FROM settle_last_run l
             JOIN settle_intervals i ON i.start_s = l.start_s WHERE l.start_s = $1",
            args![interval.start_s()],
        )
        .await?;
    let Some((content, done, readings)) = row else {
        return Ok(None);
    };
    let Ok(kept) = decoded::<Kept<'static>>(&content, "what a run came to") else {
        return Ok(None);
    };
    let is_last = done == Some(i64::from(kept.run.code()));
    if !is_last || kept.contracted != contracted || kept.points != points(tx, interval).await? {
        return Ok(None);
    }
    let late = late(tx, interval).await?;
    if i64::try_from(late.len()) != Ok(readings - kept.readings) {
        return Ok(None);
    }
    let Some(changed) = changed(tx, interval, &kept.deliveries, &late).await? else {
        return Ok(None);
    };
    let before = kept.deliveries.into_owned();
    let mut deliveries = before.clone();
    for delivery in &mut deliveries {
        if let Some(new) = changed.get(&delivery.point) {
            *delivery = new.clone();
        }
    }
    let feeder = |(imported, exported)| Feeder { imported, exported };
    let before = Before {
        run: kept.run,
        deliveries: before,
        feeder: kept.feeder.map(feeder),
    };
    Ok(Some(Resumed { before, deliveries }))
}

/// What is kept of an interval's last run: which one, and the deliveries it came to.
pub(super) async fn kept_of(
    db: &Db,
    start_s: i64,
) -> Result<Option<(Run, Vec<Delivery>)>, ServiceError> {
    let row: Option<(Vec<u8>,)> = db
        .fetch_optional(
            "SELECT content FROM settle_last_run WHERE start_s = $1",
            args![start_s],
        )
        .await?;
    // What cannot be read is not used either.
    let kept = row.and_then(|(content,)| decoded::<Kept<'static>>(&content, "").ok());
    Ok(kept.map(|kept| (kept.run, kept.deliveries.into_owned())))
}

/// Points whose reading came after the last run.
async fn late(tx: &mut Tx, interval: Interval) -> Result<BTreeSet<PointId>, ServiceError> {
    let late: Vec<(String,)> = tx
        .fetch_all(
            "SELECT point FROM settle_late WHERE start_s = $1 ORDER BY point",
            args![interval.start_s()],
        )
        .await?;
    let points = late.into_iter().map(|(point,)| Ok(PointId::new(point)?));
    points.collect()
}

/// The deliveries of points whose reading came since, or that still have none; `None` where these are too many, or
/// the feeder's is among them.
async fn changed(
    tx: &mut Tx,
    interval: Interval,
    deliveries: &[Delivery],
    late: &BTreeSet<PointId>,
) -> Result<Option<BTreeMap<PointId, Delivery>>, ServiceError> {
    let is_late = |d: &&Delivery| late.contains(&d.point);
    let concerns = |d: &&Delivery| d.reading.is_none() || is_late(d);
    let connections: Vec<&Delivery> = deliveries.iter().filter(concerns).collect();
    let is_no_connection = deliveries.iter().filter(is_late).count() < late.len();
    let most = deliveries.len().max(CHANGED_SHARE);
    if is_no_connection || connections.len() * CHANGED_SHARE > most {
        return Ok(None);
    }
    let args = connections
        .iter()
        .map(|d| args![interval.start_s(), d.point.as_str()]);
    let rows: Vec<MeterRow> = LATE_METERED.fetch(tx, args.collect()).await?;
    let metered: BTreeMap<PointId, Metered> =
        rows.into_iter().map(meter).collect::<Result<_, _>>()?;
    let missing = connections.iter().map(|d| &d.point);
    let missing = missing.filter(|point| !metered.contains_key(*point));
    let substitutes = substitutes(tx, interval, missing).await?;
    let data = |delivery: &&Delivery| ConnectionData {
        participant: delivery.participant.clone(),
        point: delivery.point.clone(),
        reading: metered.get(&delivery.point).copied(),
        substitute: substitutes.get(&delivery.point).copied(),
    };
    let again = |before: &&Delivery| {
        let delivery = metered_again(before, &data(before));
        (before.point.clone(), delivery)
    };
    Ok(Some(connections.iter().map(again).collect()))
}

static LATE_METERED: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT r.point, r.imported_wh, r.exported_wh, r.quality, r.digest
         FROM asked CROSS JOIN settle_readings r WHERE r.start_s = asked.start_s AND r.point = asked.point
         AND r.reason IS NULL";
    Listed::over("asked", &["start_s", "point"], select)
});

/// How many connections and feeder meters are registered for an interval: points never leave.
async fn points(tx: &mut Tx, interval: Interval) -> Result<(i64, i64), ServiceError> {
    let counts = tx.fetch_one(
        "SELECT (SELECT COUNT(*) FROM settle_points WHERE role = $1 AND since_ms <= $3),
         (SELECT COUNT(*) FROM settle_points WHERE role = $2 AND since_ms <= $3)",
        args![
            role_code(PointRole::Connection),
            role_code(PointRole::Feeder),
            interval.end().unix_ms()
        ],
    );
    Ok(counts.await?)
}
