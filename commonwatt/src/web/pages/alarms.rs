//! `/grid/alarms`: what asks for a response, with its consequence, what to do and by when; and the alarm
//! system's own rate.

use std::sync::PoisonError;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Ask, board};
use crate::auth::{Posted, Role, Viewer};
use crate::platform::alarms::{REASON_MAX_CHARS, keep, said};
use crate::view::alarms::{Board, Happening, Kind, Open, Priority, RATE_GOOD, Said};
use crate::view::calendar;
use crate::web::layout::Page;
use crate::web::words::Words;

/// Happenings on the page.
const HISTORY_SHOWN: usize = 100;

pub(super) async fn show(ask: Ask) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    let page = page(&ask.words, ask.street.now, &board(&ask.web), &ask.viewer);
    Ok(ask.show(&page))
}

/// What the form of an alarm says.
#[derive(Deserialize)]
pub(super) struct Told {
    alarm: String,
    reason: String,
    /// Empty where it was only seen.
    hours: String,
}

/// Takes in that somebody has seen an alarm, or puts it aside.
pub(super) async fn say(ask: Ask, posted: Posted<Told>) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    let Told {
        alarm,
        reason,
        hours,
    } = posted.form;
    let (by, now) = (posted.viewer.by(), ask.web.accounts.now());
    let hours = match hours.as_str() {
        "" => Some(None),
        hours => hours.parse().ok().map(Some),
    };
    let words = hours.and_then(|hours| said(by, now, &reason, hours));
    let Some(told) = words else {
        let most = REASON_MAX_CHARS.to_string();
        let wrong = ask.words.fill("alarms.wrong", &[("most", &most)]);
        return Err(crate::web::problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            &wrong,
        ));
    };
    let kind = Kind::of_word(&alarm).ok_or_else(|| ask.missing())?;
    let since = {
        let alarms = &ask.web.alarms;
        let mut board = alarms.lock().unwrap_or_else(PoisonError::into_inner);
        board.say(kind, told.clone())
    };
    // Where it has gone meanwhile, the page says so.
    if let Some(since) = since {
        let kept = keep(&ask.web.shared.db, by, (kind, since), &told).await;
        kept.map_err(|error| ask.failed("an operator's word could not be kept", &error))?;
    }
    Ok(Redirect::to("/grid/alarms").into_response())
}

fn page(words: &Words, now: Timestamp, board: &Board, viewer: &Viewer) -> Page {
    let open = u64::try_from(board.asking().count()).unwrap_or(0);
    let aside: Vec<_> = board
        .open
        .iter()
        .filter(|(_, open)| open.is_aside())
        .collect();
    let answer = if open == 0 {
        words.t("alarms.none").to_owned()
    } else {
        words.plural("alarms.open_one", "alarms.open_many", open)
    };
    Page {
        title: words.t("nav.alarms").to_owned(),
        above: words.t("alarms.above").to_owned(),
        answer,
        below: html! { (rate(words, now, board)) },
        body: html! {
            @if open > 0 { section.card { h2 { (words.t("alarms.open")) } ul.alarms { @for (kind, open) in board.asking() {
                li { (alarm(words, now, kind, open)) (answer_to(words, kind, viewer)) }
            } } } }
            @if !aside.is_empty() { section.card { h2 { (words.t("alarms.aside")) } ul.alarms { @for (kind, open) in aside {
                li { (alarm(words, now, *kind, open)) (answer_to(words, *kind, viewer)) }
            } } } }
            section.card { (history(words, board)) }
            section.card { (list(words)) }
        },
        live: None,
    }
}

fn rate(words: &Words, now: Timestamp, board: &Board) -> String {
    let rate = board.rate(now);
    let key = if rate <= RATE_GOOD {
        "alarms.rate_good"
    } else {
        "alarms.rate_high"
    };
    let since = board
        .since
        .map_or_else(String::new, |since| words.since(since, now));
    words.fill(
        key,
        &[
            ("n", &rate.to_string()),
            ("most", &RATE_GOOD.to_string()),
            ("since", &since),
        ],
    )
}

/// The words of an alarm: what it is, what follows from it, what to do.
pub(crate) fn texts(words: &Words, kind: Kind) -> (&'static str, &'static str, &'static str) {
    let [name, then, act] = match kind {
        Kind::LedgerInconsistent => ["alarms.ledger", "alarms.ledger_then", "alarms.ledger_act"],
        Kind::FeederOverloaded => ["alarms.feeder", "alarms.feeder_then", "alarms.feeder_act"],
        Kind::MarketNotCleared => ["alarms.market", "alarms.market_then", "alarms.market_act"],
        Kind::ForecastOverload => [
            "alarms.forecast",
            "alarms.forecast_then",
            "alarms.forecast_act",
        ],
        Kind::CheckpointLate => [
            "alarms.checkpoint",
            "alarms.checkpoint_then",
            "alarms.checkpoint_act",
        ],
        Kind::MarketShare => ["alarms.share", "alarms.share_then", "alarms.share_act"],
        Kind::KeysUnfit => ["alarms.keys", "alarms.keys_then", "alarms.keys_act"],
        Kind::MetersSilent => ["alarms.silent", "alarms.silent_then", "alarms.silent_act"],
        Kind::SignatureBurst => ["alarms.burst", "alarms.burst_then", "alarms.burst_act"],
        Kind::LimitNotHeld => ["alarms.limit", "alarms.limit_then", "alarms.limit_act"],
        Kind::VoltageOutside => [
            "alarms.voltage",
            "alarms.voltage_then",
            "alarms.voltage_act",
        ],
        Kind::StorageLow => [
            "alarms.storage",
            "alarms.storage_then",
            "alarms.storage_act",
        ],
        Kind::ClockDrift => ["alarms.clock", "alarms.clock_then", "alarms.clock_act"],
    };
    let say = |key: &'static str| words.t(key);
    (say(name), say(then), say(act))
}

fn priority(words: &Words, kind: Kind) -> (&'static str, &'static str) {
    match kind.priority() {
        Priority::High => ("high", words.t("alarms.high")),
        Priority::Medium => ("medium", words.t("alarms.medium")),
        Priority::Low => ("low", words.t("alarms.low")),
    }
}

/// How bad it is, in the alarm's own unit.
fn degree(words: &Words, kind: Kind, bad: i64) -> Option<String> {
    match kind {
        Kind::FeederOverloaded
        | Kind::ForecastOverload
        | Kind::VoltageOutside
        | Kind::MarketShare
        | Kind::ClockDrift => Some(words.permille(bad)),
        Kind::StorageLow => Some(format!("{bad}\u{a0}MiB")),
        Kind::CheckpointLate => Some(words.lasting(bad)),
        Kind::MetersSilent | Kind::SignatureBurst | Kind::LimitNotHeld | Kind::KeysUnfit => {
            Some(bad.to_string())
        }
        Kind::LedgerInconsistent | Kind::MarketNotCleared => None,
    }
}

/// An open alarm.
pub(super) fn alarm(words: &Words, now: Timestamp, kind: Kind, open: &Open) -> Markup {
    let (name, then, act) = texts(words, kind);
    let (class, word) = priority(words, kind);
    let due = open.since.plus_s(kind.respond_min() * 60);
    let same_day = calendar::date(words.zone, due) == calendar::date(words.zone, open.since);
    let due = if same_day {
        words.clock(due)
    } else {
        words.moment(due)
    };
    html! {
        article class=(format!("alarm {class}")) {
            h3 { span.priority { (word) } " " (name) @if let Some(degree) = degree(words, kind, open.bad) { " · " (degree) } }
            p { b { (words.t("alarms.consequence")) } " " (then) }
            p { b { (words.t("alarms.action")) } " " (act) }
            p.hint { (words.fill("alarms.since", &[
                ("time", &words.since(open.since, now)), ("ago", &words.ago(now.ms_since(open.since))),
                ("due", &due), ("within", &words.lasting(kind.respond_min())),
            ])) }
            @if let Some(said) = &open.said { p { (word_on(words, said)) } }
        }
    }
}

/// What somebody said to it.
fn word_on(words: &Words, said: &Said) -> String {
    let at = words.moment(said.at);
    let places: [(&str, &str); 3] = [
        ("who", said.account.as_str()),
        ("time", &at),
        ("reason", &said.reason),
    ];
    match said.until {
        None => words.fill("alarms.seen_by", &places),
        Some(until) => {
            let until = words.moment(until);
            let [who, time, reason] = places;
            words.fill("alarms.aside_by", &[who, time, reason, ("until", &until)])
        }
    }
}

/// For how many hours an alarm can be put aside here.
const ASIDE_HOURS: [u32; 4] = [1, 4, 24, 72];

/// The form that says that it was seen, or puts it aside.
fn answer_to(words: &Words, kind: Kind, viewer: &Viewer) -> Markup {
    let (reason, hours) = (
        format!("reason-{}", kind.word()),
        format!("hours-{}", kind.word()),
    );
    html! {
        details { summary { (words.t("alarms.answer")) }
            form.drop method="post" action="/grid/alarms" {
                (viewer.csrf_field())
                input type="hidden" name="alarm" value=(kind.word());
                label for=(reason) { (words.t("alarms.reason")) }
                input id=(reason) name="reason" required maxlength=(REASON_MAX_CHARS) autocomplete="off";
                label for=(hours) { (words.t("alarms.how_long")) }
                select id=(hours) name="hours" {
                    option value="" { (words.t("alarms.only_seen")) }
                    @for n in ASIDE_HOURS { option value=(n) { (words.fill("alarms.for_hours", &[("n", &n.to_string())])) } }
                }
                button { (words.t("alarms.say")) }
            }
        }
    }
}

fn history(words: &Words, board: &Board) -> Markup {
    let newest: Vec<&Happening> = board.history.iter().rev().take(HISTORY_SHOWN).collect();
    html! {
        h2 { (words.t("alarms.history")) }
        @if newest.is_empty() { p.empty { (words.t("alarms.no_history")) } }
        @else { div.scroll tabindex="0" role="region" aria-label=(words.t("alarms.history")) { table {
            thead { tr { th { (words.t("grid.when")) } th { (words.t("alarms.alarm")) } th { (words.t("alarms.what")) } } }
            tbody { @for happening in newest { tr {
                td { (words.moment(happening.at)) }
                td { (texts(words, happening.kind).0) }
                td { @if happening.came { (words.t("alarms.came")) } @else { (words.t("alarms.went")) } }
            } } }
        } } }
    }
}

/// Every alarm there can be: an alarm asks for a response, all else is an event.
fn list(words: &Words) -> Markup {
    html! {
        details {
            summary { (words.t("alarms.list")) }
            div.scroll tabindex="0" role="region" aria-label=(words.t("alarms.list")) { table {
                thead { tr { th { (words.t("alarms.alarm")) } th { (words.t("alarms.priority")) } th { (words.t("alarms.consequence")) }
                    th { (words.t("alarms.action")) } th { (words.t("alarms.time")) } } }
                tbody { @for kind in Kind::ALL {
                    @let (name, then, act) = texts(words, kind);
                    tr { td { (name) } td { (priority(words, kind).1) } td.wrap { (then) } td.wrap { (act) }
                        td { (words.lasting(kind.respond_min())) } }
                } }
            } }
        }
    }
}
