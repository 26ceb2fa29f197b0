//! `/api/v1/meters`: one's own metering points and what they counted. Operators see feeders; a home's points
//! only while an incident of that home is open.

use axum::extract::{Path, Query, State};
use domain::ids::ParticipantId;
use domain::key_record::{PointRecord, PointRole};
use domain::rejection::Rejection;
use serde::Serialize;
use settlement::service::MeteredInterval;
use utoipa::ToSchema;

use super::answer::{After, Answer, LIMIT_MAX, List, Range, Refused, Wants, time};
use super::incidents;
use crate::auth::{Role, Viewer};
use crate::web::Web;

/// A metering point.
#[derive(Serialize, ToSchema)]
pub(super) struct Meter {
    meter: String,
    /// connection, submeter or feeder.
    role: &'static str,
    /// What it carries, in watts.
    rating_w: u32,
    /// The household behind it.
    participant: Option<String>,
    /// Start of the newest interval with an accepted reading.
    #[schema(format = DateTime)]
    newest: Option<String>,
    /// How that reading came to be: measured, estimated or missing.
    quality: &'static str,
}

const METER_COLUMNS: [&str; 6] = [
    "meter",
    "role",
    "rating_w",
    "participant",
    "newest",
    "quality",
];

const fn role_word(role: PointRole) -> &'static str {
    match role {
        PointRole::Connection => "connection",
        PointRole::Submeter => "submeter",
        PointRole::Feeder => "feeder",
    }
}

/// Whether the viewer may see what one point counted.
async fn may_see(web: &Web, viewer: &Viewer, point: &PointRecord) -> Result<bool, Refused> {
    let Some(participant) = &point.participant else {
        return Ok(viewer.is(Role::Operator));
    };
    if viewer.may_see(participant) {
        return Ok(true);
    }
    Ok(viewer.is(Role::Operator) && incidents::is_open(web, participant).await?)
}

/// The points that the viewer may see: at most one page.
async fn visible<'w>(web: &'w Web, viewer: &Viewer) -> Result<Vec<&'w PointRecord>, Refused> {
    let mut points = Vec::new();
    if viewer.account().is_none() {
        return Ok(points);
    }
    let open: Vec<ParticipantId> = match viewer.is(Role::Operator) {
        true => incidents::open(web).await?,
        false => Vec::new(),
    };
    for point in web.shared.site.points() {
        let shown = match &point.participant {
            None => viewer.is(Role::Operator),
            Some(home) => viewer.may_see(home) || open.contains(home),
        };
        if shown && points.len() < LIMIT_MAX as usize {
            points.push(point);
        }
    }
    Ok(points)
}

/// The metering points that are one's own; for operators those of feeders.
#[utoipa::path(
    get, path = "/api/v1/meters", tag = "energy", params(After),
    responses((status = 200, content((List<Meter> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    let points = visible(&web, &viewer).await?;
    if points.is_empty() {
        return Err(Refused::nothing());
    }
    let now = web.shared.clock.now();
    let name = |point: &&PointRecord| point.point.to_string();
    let (points, next) = after.part(points, name)?;
    let mut items = Vec::with_capacity(points.len());
    for point in points {
        let span = (domain::time::Timestamp::EPOCH, now);
        let newest =
            settlement::service::readings_page(&web.shared.db, &point.point, span, 1).await?;
        let newest = newest.first();
        items.push(Meter {
            meter: point.point.to_string(),
            role: role_word(point.role),
            rating_w: point.rating_w,
            participant: point.participant.as_ref().map(ToString::to_string),
            newest: newest.map(|m| time(m.interval.start())),
            quality: newest.map_or("missing", |m| m.quality.word()),
        });
    }
    List { items, next }.answer(wants, &METER_COLUMNS)
}

/// What a meter counted in one interval.
#[derive(Serialize, ToSchema)]
pub(super) struct Reading {
    #[schema(format = DateTime)]
    start: String,
    length_s: u32,
    /// Energy from the street in watt-hours.
    import_wh: i64,
    /// Energy into the street in watt-hours.
    export_wh: i64,
    /// measured or estimated; an interval that is missing has no row.
    quality: &'static str,
    /// How the values came to be, in detail.
    marks: String,
    /// What is doubtful about the reading although it was accepted.
    flags: Vec<&'static str>,
}

const READING_COLUMNS: [&str; 7] = [
    "start",
    "length_s",
    "import_wh",
    "export_wh",
    "quality",
    "marks",
    "flags",
];

impl Reading {
    pub(super) fn of(metered: &MeteredInterval) -> Reading {
        Reading {
            start: time(metered.interval.start()),
            length_s: metered.interval.length_s(),
            import_wh: metered.imported.wh(),
            export_wh: metered.exported.wh(),
            quality: metered.quality.word(),
            marks: metered.quality.to_string(),
            flags: metered
                .flags
                .iter()
                .map(|flag| Rejection::name(*flag))
                .collect(),
        }
    }
}

/// What a meter counted, interval by interval, newest first.
#[utoipa::path(
    get, path = "/api/v1/meters/{id}/readings", tag = "energy",
    params(("id" = String, Path, description = "The metering point"), Range),
    responses((status = 200, content((List<Reading> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn readings(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Path(id): Path<String>,
    Query(range): Query<Range>,
) -> Answer {
    let mut points = web.shared.site.points();
    let Some(point) = points.find(|point| point.point.as_str() == id) else {
        return Err(Refused::nothing());
    };
    if !may_see(&web, &viewer, point).await? {
        return Err(Refused::nothing());
    }
    let span = range.read()?;
    let db = &web.shared.db;
    let page =
        settlement::service::readings_page(db, &point.point, span.before()?, span.limit).await?;
    let items: Vec<Reading> = page.iter().map(Reading::of).collect();
    List::new(items, span.limit, |row| row.start.clone()).answer(wants, &READING_COLUMNS)
}
