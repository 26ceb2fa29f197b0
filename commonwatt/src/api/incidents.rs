//! `/api/v1/incidents`: an operator's reason to look at a single home, opened for a time and written down.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use domain::ids::ParticipantId;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Migration;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{Answer, AsOperator, List, Range, Refused, Wants, only, time};
use crate::auth::{Role, Viewer, may_write, store};
use crate::web::Web;

/// Longest time that an incident is open.
const HOURS_MAX: u32 = 24;
/// Most incidents that are open at the same time.
const OPEN_MAX: i64 = 100;
/// Longest reason in characters.
const REASON_MAX_CHARS: usize = 500;

/// The table of incidents.
pub(crate) const MIGRATION: Migration = Migration {
    version: 4012,
    description: "incidents of single homes",
    sqlite: "
CREATE TABLE account_incident (
    id INTEGER PRIMARY KEY,
    participant TEXT NOT NULL,
    reason TEXT NOT NULL,
    account TEXT NOT NULL,
    opened_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX account_incident_until ON account_incident (until_ms);",
    postgres: "
CREATE TABLE account_incident (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    participant TEXT NOT NULL,
    reason TEXT NOT NULL,
    account TEXT NOT NULL,
    opened_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);
CREATE INDEX account_incident_until ON account_incident (until_ms);",
};

const OPEN: &str = "SELECT DISTINCT participant FROM account_incident WHERE until_ms > $1";
const COUNT: &str = "SELECT COUNT(*) FROM account_incident WHERE until_ms > $1";
const ADD: &str = "INSERT INTO account_incident (participant, reason, account, opened_ms, until_ms)
    VALUES ($1, $2, $3, $4, $5)";
const PAGE: &str = "SELECT participant, reason, account, opened_ms, until_ms FROM account_incident
    WHERE opened_ms >= $1 AND opened_ms < $2 ORDER BY opened_ms DESC, id DESC LIMIT $3";

/// The homes with an incident that is open. Its time is people's, not the demo's.
pub(super) async fn open(web: &Web) -> Result<Vec<ParticipantId>, Refused> {
    let now_ms = web.accounts.now().unix_ms();
    let rows: Vec<(String,)> = web.shared.db.fetch_all(OPEN, args![now_ms]).await?;
    let homes = rows.into_iter().map(|(home,)| ParticipantId::new(home));
    let homes = homes.collect::<Result<_, _>>();
    Ok(homes.map_err(anyhow::Error::from)?)
}

/// Whether a home has one.
pub(super) async fn is_open(web: &Web, home: &ParticipantId) -> Result<bool, Refused> {
    Ok(open(web).await?.contains(home))
}

/// A reason to look at a single home.
#[derive(Serialize, ToSchema)]
pub(super) struct Incident {
    participant: String,
    reason: String,
    /// The account that opened it.
    opened_by: String,
    #[schema(format = DateTime)]
    opened: String,
    /// When it ends by itself.
    #[schema(format = DateTime)]
    until: String,
}

const COLUMNS: [&str; 5] = ["participant", "reason", "opened_by", "opened", "until"];

/// The incidents there were, newest first.
#[utoipa::path(
    get, path = "/api/v1/incidents", tag = "grid", params(Range),
    responses((status = 200, content((List<Incident> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(range): Query<Range>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    let span = range.read()?;
    let (from, before) = span.before()?;
    type Row = (String, String, String, i64, i64);
    let values = args![from.unix_ms(), before.unix_ms(), span.limit];
    let rows: Vec<Row> = web.shared.db.fetch_all(PAGE, values).await?;
    let incident = |(participant, reason, opened_by, opened_ms, until_ms): Row| Incident {
        participant,
        reason,
        opened_by,
        opened: time(Timestamp::from_unix_ms(opened_ms)),
        until: time(Timestamp::from_unix_ms(until_ms)),
    };
    let items = rows.into_iter().map(incident).collect();
    List::new(items, span.limit, |row: &Incident| row.opened.clone()).answer(wants, &COLUMNS)
}

/// What an operator wants to look at, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewIncident {
    /// The household.
    participant: String,
    /// Why, for the list of who did what.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// For how long.
    #[schema(minimum = 1, maximum = 24)]
    hours: u32,
}

/// Opens an incident: for its time operators may see that home's meters. It is written down for good.
#[utoipa::path(
    post, path = "/api/v1/incidents", tag = "grid", request_body = NewIncident,
    responses((status = 201, body = Incident))
)]
pub(super) async fn add(
    State(web): State<Web>,
    AsOperator(viewer): AsOperator,
    headers: HeaderMap,
    Json(new): Json<NewIncident>,
) -> Answer {
    may_write(&viewer, &headers, &web)?;
    let known = |home: &&crate::site::Participant| home.id.as_str() == new.participant;
    if web.shared.site.participants.iter().find(known).is_none() {
        let detail = "participant: the community has no such household.";
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let length = new.reason.trim().chars().count();
    if length == 0 || length > REASON_MAX_CHARS || !(1..=HOURS_MAX).contains(&new.hours) {
        let detail =
            format!("reason: 1 to {REASON_MAX_CHARS} characters; hours: 1 to {HOURS_MAX}.");
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, &detail));
    }
    let now = web.accounts.now();
    let until = now.plus_s(i64::from(new.hours) * 3600);
    let by = viewer.by();
    let mut tx = web.shared.db.begin().await?;
    let (count,): (i64,) = tx.fetch_one(COUNT, args![now.unix_ms()]).await?;
    if count >= OPEN_MAX {
        let detail = format!("{count} incidents are open, which is the most there can be.");
        return Err(Refused::new(StatusCode::CONFLICT, &detail));
    }
    let values = args![
        &new.participant,
        &new.reason,
        by.account,
        now.unix_ms(),
        until.unix_ms()
    ];
    tx.execute(ADD, values).await?;
    let detail = format!("{} until {until}: {}", new.participant, new.reason);
    store::note(&mut tx, now, by, "incident opened", &detail).await?;
    tx.commit().await?;
    let incident = Incident {
        opened_by: by.account.to_owned(),
        participant: new.participant,
        reason: new.reason,
        opened: time(now),
        until: time(until),
    };
    Ok((StatusCode::CREATED, Json(incident)).into_response())
}
