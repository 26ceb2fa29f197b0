//! `/api/v1/alarms`: what asks an operator for a response, with what to do and by when; and that somebody has seen
//! it, or has put it aside for a time.

use std::sync::PoisonError;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{After, Answer, AsOperator, List, Refused, Wants, only, time};
use crate::auth::{Role, Viewer, may_write};
use crate::platform::alarms::{HOURS_MAX, REASON_MAX_CHARS, keep, said};
use crate::view::alarms::{self as view, Kind, Priority, RATE_GOOD};
use crate::web::Web;
use crate::web::pages::{alarm_texts, words_for};

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

const COLUMNS: [&str; 12] = [
    "alarm",
    "priority",
    "since",
    "respond_by",
    "text",
    "consequence",
    "action",
    "degree",
    "seen.account",
    "seen.reason",
    "seen.at",
    "seen.shelved_until",
];

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
    /// What `after` is for the page behind this one; none where this is the last.
    next: Option<String>,
    /// Alarms that came in the last hour.
    last_hour: usize,
    /// As many as one person can answer for long (EEMUA 191: about one in ten minutes).
    good_per_hour: usize,
}

impl From<view::Said> for Seen {
    fn from(said: view::Said) -> Self {
        Seen {
            account: said.account,
            reason: said.reason,
            at: time(said.at),
            shelved_until: said.until.map(time),
        }
    }
}

/// The alarms that stand. Their texts are in the language that is asked for.
#[utoipa::path(
    get, path = "/api/v1/alarms", tag = "grid", params(After),
    responses((status = 200, content((Alarms = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    headers: HeaderMap,
    Query(after): Query<After>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    let words = words_for(&web, &headers, &viewer);
    let board = crate::web::pages::board(&web);
    let item = |(kind, open): (Kind, view::Open)| {
        let (text, consequence, action) = alarm_texts(&words, kind);
        Alarm {
            alarm: kind.word(),
            priority: priority(kind),
            since: time(open.since),
            respond_by: time(open.since.plus_s(kind.respond_min() * 60)),
            text,
            consequence,
            action,
            degree: open.bad,
            seen: open.said.map(Seen::from),
        }
    };
    let last_hour = board.rate(web.street.borrow().now);
    let all = board.open.into_iter().map(item).collect();
    let (items, next) = after.part(all, |row: &Alarm| row.alarm.to_owned())?;
    if wants == Wants::Csv {
        return List { items, next }.answer(wants, &COLUMNS);
    }
    let alarms = Alarms {
        items,
        next,
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
    AsOperator(viewer): AsOperator,
    headers: HeaderMap,
    Json(body): Json<Said>,
) -> Answer {
    may_write(&viewer, &headers, &web)?;
    let (by, now) = (viewer.by(), web.accounts.now());
    let Some(words) = said(by, now, &body.reason, body.hours) else {
        let detail =
            format!("reason: 1 to {REASON_MAX_CHARS} characters; hours: 1 to {HOURS_MAX}.");
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, &detail));
    };
    let nothing = || Refused::new(StatusCode::NOT_FOUND, "No such alarm stands.");
    let kind = Kind::of_word(&body.alarm).ok_or_else(nothing)?;
    let since = {
        let mut board = web.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        board.say(kind, words.clone())
    };
    keep(
        &web.shared.db,
        by,
        (kind, since.ok_or_else(nothing)?),
        &words,
    )
    .await?;
    Ok(Json(Seen::from(words)).into_response())
}
