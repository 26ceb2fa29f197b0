//! `/api/v1/feeders` and `/api/v1/data_quality`: the street as its operator sees it, homes only together.

use axum::extract::{Path, Query, State};
use domain::key_record::{PointRecord, PointRole};
use domain::time::Timestamp;
use serde::Serialize;
use settlement::service::MeteredInterval;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use super::answer::{After, Answer, List, Range, Refused, Wants, only, time};
use crate::auth::{Role, Viewer};
use crate::web::Web;

/// Fewest homes whose values are shown together: of fewer, single ones could be told.
pub(super) const HOMES_MIN: i64 = 5;

/// A feeder of the street.
#[derive(Serialize, ToSchema)]
pub(super) struct Feeder {
    feeder: String,
    /// What it carries, in watts.
    rating_w: u32,
    /// Homes behind it.
    homes: usize,
    /// Power now, above zero into the street; none where no value is known.
    power_w: Option<i64>,
    /// When that was read.
    #[schema(format = DateTime)]
    read_at: Option<String>,
}

const FEEDER_COLUMNS: [&str; 5] = ["feeder", "rating_w", "homes", "power_w", "read_at"];

fn feeders(web: &Web) -> impl Iterator<Item = &PointRecord> {
    let points = web.shared.site.points();
    points.filter(|point| point.role == PointRole::Feeder)
}

/// The feeders with their load.
#[utoipa::path(
    get, path = "/api/v1/feeders", tag = "grid", params(After),
    responses((status = 200, content((List<Feeder> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    let street = web.street.borrow().clone();
    let feeder = |point: &PointRecord| Feeder {
        feeder: point.point.to_string(),
        rating_w: point.rating_w,
        homes: street.homes.len(),
        power_w: street.feeder_w.map(|power| power.value),
        read_at: street.feeder_w.map(|power| time(power.read_at)),
    };
    let items = feeders(&web).map(feeder).collect();
    List::part(items, &after, |row: &Feeder| row.feeder.clone())?.answer(wants, &FEEDER_COLUMNS)
}

/// One interval of a feeder.
#[derive(Serialize, ToSchema)]
pub(super) struct FeederInterval {
    #[schema(format = DateTime)]
    start: String,
    /// Metered into the street, in watt-hours; none where the feeder's reading is missing.
    import_wh: Option<i64>,
    /// Metered out of the street.
    export_wh: Option<i64>,
    /// measured, estimated or missing.
    quality: &'static str,
    /// All homes together; none where fewer than five have a reading.
    homes_import_wh: Option<i64>,
    homes_export_wh: Option<i64>,
    /// Homes with a reading.
    homes: i64,
    /// Traded among neighbours.
    traded_wh: Option<i64>,
}

const SERIES_COLUMNS: [&str; 8] = [
    "start",
    "import_wh",
    "export_wh",
    "quality",
    "homes_import_wh",
    "homes_export_wh",
    "homes",
    "traded_wh",
];

/// A feeder's intervals: metered, the homes together, and what was traded; newest first.
#[utoipa::path(
    get, path = "/api/v1/feeders/{id}/series", tag = "grid",
    params(("id" = String, Path, description = "The feeder"), Range),
    responses((status = 200, content((List<FeederInterval> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn series(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Path(id): Path<String>,
    Query(range): Query<Range>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    let feeder = feeders(&web).find(|point| point.point.as_str() == id);
    let feeder = feeder.ok_or_else(Refused::nothing)?;
    let span = range.read()?;
    let (from, before) = span.before()?;
    let db = &web.shared.db;
    let homes = settlement::service::data_page(db, (from, before), span.limit).await?;
    let oldest = homes.last().map_or(before, |data| data.start);
    let behind = homes.first().map_or(before, |data| data.start.plus_s(1));
    let window = (oldest, behind);
    let own = settlement::service::readings_page(db, &feeder.point, window, span.limit).await?;
    let own: BTreeMap<Timestamp, MeteredInterval> =
        own.into_iter().map(|m| (m.interval.start(), m)).collect();
    let traded = market_engine::service::clearings_page(db, window, span.limit).await?;
    let traded: BTreeMap<Timestamp, i64> = traded
        .into_iter()
        .map(|c| (c.interval.start(), c.volume.wh()))
        .collect();
    let row = |data: &settlement::service::IntervalData| {
        let own = own.get(&data.start);
        let enough = data.connections >= HOMES_MIN;
        FeederInterval {
            start: time(data.start),
            import_wh: own.map(|m| m.imported.wh()),
            export_wh: own.map(|m| m.exported.wh()),
            quality: own.map_or("missing", |m| m.quality.word()),
            homes_import_wh: enough.then_some(data.imported_wh),
            homes_export_wh: enough.then_some(data.exported_wh),
            homes: data.connections,
            traded_wh: traded.get(&data.start).copied(),
        }
    };
    let items = homes.iter().map(row).collect();
    let name = |row: &FeederInterval| row.start.clone();
    List::new(items, span.limit, name).answer(wants, &SERIES_COLUMNS)
}

/// How complete the readings of one interval are.
#[derive(Serialize, ToSchema)]
pub(super) struct DataQuality {
    #[schema(format = DateTime)]
    start: String,
    /// Points that should have a reading.
    expected: i64,
    /// Accepted readings.
    readings: i64,
    /// Those that are estimated, substituted or have a gap.
    estimated: i64,
    /// Points without one.
    missing: i64,
    /// Accepted readings without any of that, in thousandths of those expected.
    good_permille: i64,
}

const QUALITY_COLUMNS: [&str; 6] = [
    "start",
    "expected",
    "readings",
    "estimated",
    "missing",
    "good_permille",
];

/// How complete the readings are, interval by interval, newest first.
#[utoipa::path(
    get, path = "/api/v1/data_quality", tag = "grid", params(Range),
    responses((status = 200, content((List<DataQuality> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn data_quality(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(range): Query<Range>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    let span = range.read()?;
    let db = &web.shared.db;
    let page = settlement::service::data_page(db, span.before()?, span.limit).await?;
    let expected = i64::try_from(web.shared.site.points().count()).unwrap_or(i64::MAX);
    let row = |data: &settlement::service::IntervalData| DataQuality {
        start: time(data.start),
        expected,
        readings: data.readings,
        estimated: data.estimated,
        missing: (expected - data.readings).max(0),
        good_permille: (data.readings - data.estimated) * 1000 / expected.max(1),
    };
    let items = page.iter().map(row).collect();
    let name = |row: &DataQuality| row.start.clone();
    List::new(items, span.limit, name).answer(wants, &QUALITY_COLUMNS)
}
