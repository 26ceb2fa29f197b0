//! `/api/v1/alarms`: what asks an operator for a response, with what to do and by when; and that somebody has seen
//! it, or has put it aside for a time.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Migration;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{Answer, Refused, only, time};
use crate::auth::{Role, Viewer, may_write, store};
use crate::view::alarms::{Kind, Open, Priority, RATE_GOOD};
use crate::web::Web;
use crate::web::pages::{alarm_texts, words_for};

/// Longest time that an alarm is put aside.
const HOURS_MAX: u32 = 72;
/// Longest reason in characters.
const REASON_MAX_CHARS: usize = 500;

/// The table of what operators said to alarms.
pub(crate) const MIGRATION: Migration = Migration {
    version: 4013,
    description: "words about alarms",
    sqlite: "
CREATE TABLE account_alarm (
    alarm TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    account TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    until_ms INTEGER,
    PRIMARY KEY (alarm, since_ms)
) STRICT;",
    postgres: "
CREATE TABLE account_alarm (
    alarm TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    account TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    until_ms BIGINT,
    PRIMARY KEY (alarm, since_ms)
);",
};

const KEEP: &str = "INSERT INTO account_alarm (alarm, since_ms, account, reason, at_ms, until_ms)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (alarm, since_ms) DO UPDATE SET
    account = excluded.account, reason = excluded.reason, at_ms = excluded.at_ms,
    until_ms = excluded.until_ms";
/// What was said to an alarm counts until it goes: one that comes again is another.
const SAID: &str = "SELECT account, reason, at_ms, until_ms FROM account_alarm
    WHERE alarm = $1 AND since_ms = $2";

/// The word of an alarm.
pub(super) const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::LedgerInconsistent => "ledger_inconsistent",
        Kind::FeederOverloaded => "feeder_overloaded",
        Kind::MarketNotCleared => "market_not_cleared",
        Kind::ForecastOverload => "forecast_overload",
        Kind::CheckpointLate => "checkpoint_late",
        Kind::MarketShare => "market_share",
        Kind::MetersSilent => "meters_silent",
        Kind::SignatureBurst => "signature_burst",
        Kind::ClockDrift => "clock_drift",
    }
}

const fn priority(kind: Kind) -> &'static str {
    match kind.priority() {
        Priority::High => "high",
        Priority::Medium => "medium",
        Priority::Low => "low",
    }
}

/// An alarm that stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Alarm {
    alarm: &'static str,
    /// high, medium or low.
    priority: &'static str,
    /// Since when, by the community's time.
    #[schema(format = DateTime)]
    since: String,
    /// By when somebody has to have responded.
    #[schema(format = DateTime)]
    respond_by: String,
    /// What it is.
    text: &'static str,
    /// What follows if nobody does anything.
    consequence: &'static str,
    /// What to do.
    action: &'static str,
    /// How bad it is: a share in thousandths, minutes, or a count.
    degree: i64,
    /// Who has seen it, when, and what they said.
    seen: Option<Seen>,
}

/// What somebody said to an alarm.
#[derive(Serialize, ToSchema)]
pub(super) struct Seen {
    account: String,
    reason: String,
    #[schema(format = DateTime)]
    at: String,
    /// Put aside until then; none where it was only acknowledged.
    #[schema(format = DateTime)]
    shelved_until: Option<String>,
}

/// The alarms that stand, and how often some came.
#[derive(Serialize, ToSchema)]
pub(super) struct Alarms {
    /// The most urgent first.
    items: Vec<Alarm>,
    /// Alarms that came in the last hour.
    last_hour: usize,
    /// As many as one person can answer for long (EEMUA 191: about one in ten minutes).
    good_per_hour: usize,
}

fn standing(web: &Web) -> (BTreeMap<Kind, Open>, usize) {
    let now = web.street.borrow().now;
    let board = web.alarms.lock().unwrap_or_else(PoisonError::into_inner);
    (board.open.clone(), board.rate(now))
}

async fn said(web: &Web, kind: Kind, open: &Open) -> Result<Option<Seen>, Refused> {
    type Row = (String, String, i64, Option<i64>);
    let values = args![word(kind), open.since.unix_ms()];
    let row: Option<Row> = web.shared.db.fetch_optional(SAID, values).await?;
    Ok(row.map(|(account, reason, at_ms, until_ms)| Seen {
        account,
        reason,
        at: time(Timestamp::from_unix_ms(at_ms)),
        shelved_until: until_ms.map(|until| time(Timestamp::from_unix_ms(until))),
    }))
}

/// The alarms that stand. Their texts are in the language that is asked for.
#[utoipa::path(
    get, path = "/api/v1/alarms", tag = "grid", responses((status = 200, body = Alarms))
)]
pub(super) async fn list(State(web): State<Web>, viewer: Viewer, headers: HeaderMap) -> Answer {
    only(&viewer, Role::Operator)?;
    let words = words_for(&web, &headers);
    let (open, last_hour) = standing(&web);
    let mut items = Vec::with_capacity(open.len());
    for (kind, open) in &open {
        let (text, consequence, action) = alarm_texts(&words, *kind);
        items.push(Alarm {
            alarm: word(*kind),
            priority: priority(*kind),
            since: time(open.since),
            respond_by: time(open.since.plus_s(kind.respond_min() * 60)),
            text,
            consequence,
            action,
            degree: open.bad,
            seen: said(&web, *kind, open).await?,
        });
    }
    let alarms = Alarms {
        items,
        last_hour,
        good_per_hour: RATE_GOOD,
    };
    Ok(Json(alarms).into_response())
}

/// That an alarm was seen; with `hours`, that it is put aside for so long.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    /// The alarm's word.
    alarm: String,
    /// Why, or what is being done.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// Puts it aside for so many hours.
    #[schema(minimum = 1, maximum = 72)]
    hours: Option<u32>,
}

/// Acknowledges an alarm that stands, or puts it aside. It stands until its cause is gone all the same.
#[utoipa::path(
    post, path = "/api/v1/alarms", tag = "grid", request_body = Said,
    responses((status = 200, body = Seen))
)]
pub(super) async fn say(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Json(said): Json<Said>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    may_write(&viewer, &headers, &web)?;
    let length = said.reason.trim().chars().count();
    let hours_fit = said
        .hours
        .is_none_or(|hours| (1..=HOURS_MAX).contains(&hours));
    if length == 0 || length > REASON_MAX_CHARS || !hours_fit {
        let detail =
            format!("reason: 1 to {REASON_MAX_CHARS} characters; hours: 1 to {HOURS_MAX}.");
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, &detail));
    }
    let (open, _) = standing(&web);
    let found = open.iter().find(|(kind, _)| word(**kind) == said.alarm);
    let Some((kind, open)) = found else {
        let detail = "No such alarm stands.";
        return Err(Refused::new(StatusCode::NOT_FOUND, detail));
    };
    let now = web.accounts.now();
    let until = said.hours.map(|hours| now.plus_s(i64::from(hours) * 3600));
    let by = viewer.by();
    let mut tx = web.shared.db.begin().await?;
    let until_ms = until.map(|until| until.unix_ms());
    let values = args![
        word(*kind),
        open.since.unix_ms(),
        by.account,
        &said.reason,
        now.unix_ms(),
        until_ms
    ];
    tx.execute(KEEP, values).await?;
    let what = match until {
        Some(_) => "alarm put aside",
        None => "alarm acknowledged",
    };
    let detail = format!("{}: {}", said.alarm, said.reason);
    store::note(&mut tx, now, by, what, &detail).await?;
    tx.commit().await?;
    Ok(Json(Seen {
        account: by.account.to_owned(),
        reason: said.reason,
        at: time(now),
        shelved_until: until.map(time),
    })
    .into_response())
}
