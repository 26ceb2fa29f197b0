//! What an operator's pages show of the books: which points report, what was refused, what an interval came to.

use std::collections::BTreeMap;

use domain::energy::Energy;
use domain::ids::{GatewayId, ParticipantId, PointId};
use domain::key_record::PointRole;
use domain::quality::Quality;
use domain::receipt::Line;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Db;

use super::ServiceError;
use super::error::{corrupt, decoded};
use super::registry::role_code;

/// Most points in one answer of [`point_states`].
pub const POINTS_MAX: i64 = 50_000;
/// Most lines in one answer of [`lines_of`]: a year of quarter-hours in two runs.
pub const LINES_MAX: i64 = 2 * 366 * 96;
/// Most intervals in one answer of [`interval_totals`].
pub const TOTALS_MAX: i64 = 31 * 96;

/// What one point has delivered in a span of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PointState {
    /// The point.
    pub point: PointId,
    /// The gateway that reads it.
    pub gateway: GatewayId,
    /// What it is for.
    pub role: PointRole,
    /// Whose it is.
    pub participant: Option<ParticipantId>,
    /// What it may carry in watts.
    pub rating_w: i64,
    /// Since when it is registered.
    pub since: Timestamp,
    /// Accepted readings of the span: their signatures were checked.
    pub accepted: i64,
    /// Those of them that are estimated, substituted or have a gap.
    pub estimated: i64,
    /// Those of them whose clock was not known to be right.
    pub unsynchronised: i64,
    /// Readings that were refused, by when they were asked about last.
    pub refused: i64,
    /// The newest accepted reading's interval start, and when it came.
    pub newest: Option<(Timestamp, Timestamp)>,
}

type PointRow = (String, String, i64, Option<String>, i64, i64);
type CountRow = (String, i64, i64, i64, i64, i64);

/// Every point, or those of one participant, with what it delivered for the intervals that start in
/// `[from, to)`; ordered by point, [`POINTS_MAX`] at most.
///
/// # Errors
/// The database failed.
pub async fn point_states(
    db: &Db,
    participant: Option<&ParticipantId>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<PointState>, ServiceError> {
    let whose = participant.map_or("", ParticipantId::as_str);
    let rows: Vec<PointRow> = db
        .fetch_all(
            "SELECT point, gateway, role, participant, rating_w, since_ms FROM settle_points
             WHERE $1 = '' OR participant = $1 ORDER BY point LIMIT $2",
            args![whose, POINTS_MAX],
        )
        .await?;
    let doubtful = Quality::ESTIMATED
        .with(Quality::SUBSTITUTED)
        .with(Quality::GAP);
    let counts: Vec<CountRow> = db
        .fetch_all(
            "SELECT point, COUNT(*), SUM(CASE WHEN (quality & $3) <> 0 THEN 1 ELSE 0 END),
             SUM(CASE WHEN flags LIKE '%clock_unsynced%' THEN 1 ELSE 0 END), MAX(start_s), MAX(received_ms)
             FROM settle_readings WHERE reason IS NULL AND start_s >= $1 AND start_s < $2
             AND ($4 = '' OR point IN (SELECT point FROM settle_points WHERE participant = $4))
             GROUP BY point",
            args![
                from.unix_s(),
                to.unix_s(),
                i64::from(doubtful.bits()),
                whose
            ],
        )
        .await?;
    let refusals: Vec<(String, i64)> = db
        .fetch_all(
            "SELECT point, COUNT(*) FROM settle_answers
             WHERE reason IS NOT NULL AND asked_ms >= $1 AND asked_ms < $2 GROUP BY point",
            args![from.unix_ms(), to.unix_ms()],
        )
        .await?;
    let counts: BTreeMap<String, CountRow> =
        counts.into_iter().map(|row| (row.0.clone(), row)).collect();
    let refusals: BTreeMap<String, i64> = refusals.into_iter().collect();
    rows.into_iter()
        .map(|row| {
            let refused = refusals.get(&row.0).copied().unwrap_or(0);
            let counted = counts.get(&row.0);
            point_state(row, counted, refused)
        })
        .collect()
}

fn point_state(
    row: PointRow,
    counted: Option<&CountRow>,
    refused: i64,
) -> Result<PointState, ServiceError> {
    let (point, gateway, role, participant, rating_w, since_ms) = row;
    let roles = [
        PointRole::Connection,
        PointRole::Feeder,
        PointRole::Submeter,
    ];
    let role = roles.into_iter().find(|known| role_code(*known) == role);
    let whose = participant.map(ParticipantId::new).transpose()?;
    Ok(PointState {
        point: PointId::new(point)?,
        gateway: GatewayId::new(gateway)?,
        role: role.ok_or_else(|| corrupt("an unknown role"))?,
        participant: whose,
        rating_w,
        since: Timestamp::from_unix_ms(since_ms),
        accepted: counted.map_or(0, |c| c.1),
        estimated: counted.map_or(0, |c| c.2),
        unsynchronised: counted.map_or(0, |c| c.3),
        refused,
        newest: counted.map(|c| (Timestamp::from_unix_s(c.4), Timestamp::from_unix_ms(c.5))),
    })
}

/// Messages that no enrolled key vouches for, since `from`: by gateway and reason, with the newest's time.
///
/// # Errors
/// The database failed.
pub async fn unproven_since(
    db: &Db,
    from: Timestamp,
) -> Result<Vec<(String, String, i64, Timestamp)>, ServiceError> {
    let rows: Vec<(String, String, i64, i64)> = db
        .fetch_all(
            "SELECT gateway, reason, COUNT(*), MAX(at_ms) FROM settle_refused WHERE at_ms >= $1
             GROUP BY gateway, reason ORDER BY gateway, reason",
            args![from.unix_ms()],
        )
        .await?;
    let newest =
        |(gateway, reason, count, at)| (gateway, reason, count, Timestamp::from_unix_ms(at));
    Ok(rows.into_iter().map(newest).collect())
}

/// A participant's lines of the intervals that start in `[from, to)`, each from its newest run, oldest first,
/// from at most [`LINES_MAX`] rows.
///
/// # Errors
/// The database failed.
pub async fn lines_of(
    db: &Db,
    participant: &ParticipantId,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Line>, ServiceError> {
    let rows: Vec<(i64, Vec<u8>)> = db
        .fetch_all(
            "SELECT start_s, content FROM settle_lines
             WHERE start_s >= $1 AND start_s < $2 AND participant = $3 ORDER BY start_s, run LIMIT $4",
            args![
                from.unix_s(),
                to.unix_s(),
                participant.as_str(),
                LINES_MAX
            ],
        )
        .await?;
    let newest: BTreeMap<i64, Vec<u8>> = rows.into_iter().collect();
    let line = |content: Vec<u8>| decoded(&content, "a line");
    newest.into_values().map(line).collect()
}

/// What a settled interval came to, by its newest run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IntervalTotals {
    /// Its start.
    pub start: Timestamp,
    /// What the community took from the grid.
    pub imported: Energy,
    /// What it gave to the grid.
    pub exported: Energy,
    /// What was lost on the line.
    pub lost: Energy,
    /// Whether the feeder's meter said so.
    pub feeder_metered: bool,
    /// How many homes' values were put in for missing ones.
    pub substituted: i64,
}

/// The settled intervals that start in `[from, to)`, oldest first, [`TOTALS_MAX`] at most.
///
/// # Errors
/// The database failed.
pub async fn interval_totals(
    db: &Db,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<IntervalTotals>, ServiceError> {
    let rows: Vec<(i64, i64, i64, i64, i64, i64)> = db
        .fetch_all(
            "SELECT start_s, imported_wh, exported_wh, lost_wh, feeder_metered, substituted
             FROM settle_runs AS a WHERE start_s >= $1 AND start_s < $2 AND run =
             (SELECT MAX(run) FROM settle_runs AS b WHERE b.start_s = a.start_s)
             ORDER BY start_s LIMIT $3",
            args![from.unix_s(), to.unix_s(), TOTALS_MAX],
        )
        .await?;
    let totals = |(start_s, imported, exported, lost, metered, substituted)| IntervalTotals {
        start: Timestamp::from_unix_s(start_s),
        imported: Energy::from_wh(imported),
        exported: Energy::from_wh(exported),
        lost: Energy::from_wh(lost),
        feeder_metered: metered != 0,
        substituted,
    };
    Ok(rows.into_iter().map(totals).collect())
}

/// Whether the balances of every asset sum to zero.
///
/// # Errors
/// The database failed.
pub async fn balances_sum_to_zero(db: &Db) -> Result<bool, ServiceError> {
    let rows: Vec<(i64,)> = db
        .fetch_all(
            "SELECT asset FROM settle_balances GROUP BY asset HAVING SUM(credits - debits) <> 0",
            args![],
        )
        .await?;
    Ok(rows.is_empty())
}
