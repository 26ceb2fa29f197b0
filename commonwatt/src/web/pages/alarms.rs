//! `/grid/alarms`: what asks for a response, with its consequence, what to do and by when; and the alarm
//! system's own rate.

use axum::response::Response;
use domain::time::Timestamp;
use maud::{Markup, html};

use super::{Ask, board};
use crate::auth::Role;
use crate::view::alarms::{Board, Happening, Kind, Open, Priority, RATE_GOOD};
use crate::view::calendar;
use crate::web::layout::Page;
use crate::web::words::Words;

/// Happenings on the page.
const HISTORY_SHOWN: usize = 100;

pub(super) async fn show(ask: Ask) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    Ok(ask.show(&page(&ask.words, ask.street.now, &board(&ask.web))))
}

fn page(words: &Words, now: Timestamp, board: &Board) -> Page {
    let open = u64::try_from(board.open.len()).unwrap_or(0);
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
            @if open > 0 { section.card { h2 { (words.t("alarms.open")) } ul.alarms { @for (kind, open) in &board.open {
                li { (alarm(words, now, *kind, open)) }
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
        .map_or_else(String::new, |since| words.clock(since));
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
        Kind::MetersSilent => ["alarms.silent", "alarms.silent_then", "alarms.silent_act"],
        Kind::SignatureBurst => ["alarms.burst", "alarms.burst_then", "alarms.burst_act"],
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
        Kind::FeederOverloaded | Kind::ForecastOverload | Kind::ClockDrift | Kind::MarketShare => {
            Some(words.permille(bad))
        }
        Kind::CheckpointLate => Some(words.lasting(bad)),
        Kind::MetersSilent | Kind::SignatureBurst => Some(bad.to_string()),
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
                ("time", &words.clock(open.since)), ("ago", &words.ago(now.ms_since(open.since))),
                ("due", &due), ("within", &words.lasting(kind.respond_min())),
            ])) }
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
