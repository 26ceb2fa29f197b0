//! `/grid/limits`: which limits are in force, and what one at a feeder would mean before anybody acts;
//! `/grid/activations`: what devices were told, what their gateways answered, and what was metered then.

use axum::extract::Query;
use axum::response::Response;
use domain::command::{Ack, Act, Outcome, SetPoint};
use domain::energy::Energy;
use domain::time::{Interval, Timestamp};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Ask, csv, feeder};
use crate::auth::Role;
use crate::platform::control::{self, Kept};
use crate::view::activation::{self, Activation, HISTORY_S};
use crate::view::calendar;
use crate::view::limit::{
    AHEAD_S, Band, COMMANDS_MAX, LEASE_S, Limit, Preview, forecast, in_force, preview,
};
use crate::web::field;
use crate::web::layout::Page;
use crate::web::words::Words;

/// Activations that the page shows.
const SHOWN_MAX: usize = 60;

/// What the form asks.
#[derive(Deserialize, Default)]
pub(super) struct Wish {
    #[serde(default)]
    import_kw: String,
    #[serde(default)]
    export_kw: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
}

/// A limit with the time for which it is asked.
struct Asked {
    limit: Limit,
    from: Timestamp,
    to: Timestamp,
}

/// `30` or `7,5` kW in watts; an empty field is no limit.
fn watts(text: &str) -> Option<Option<i64>> {
    if text.trim().is_empty() {
        return Some(None);
    }
    field::decimal(text, 3, 6).map(Some)
}

/// `None` where nothing is asked; the sentence where something is wrong.
fn read_wish(words: &Words, wish: &Wish, now: Timestamp) -> Option<Result<Asked, String>> {
    let wrong = |text: &str| words.fill("limits.wrong_kw", &[("text", text)]);
    let (import, export) = (watts(&wish.import_kw), watts(&wish.export_kw));
    if import == Some(None) && export == Some(None) {
        return None;
    }
    let Some(import_w) = import else {
        return Some(Err(wrong(&wish.import_kw)));
    };
    let Some(export_w) = export else {
        return Some(Err(wrong(&wish.export_kw)));
    };
    let time = |text: &str| match text.trim() {
        "" => Some(None),
        text => calendar::next_instant(words.zone, now, text).map(Some),
    };
    let (Some(from), Some(to)) = (time(&wish.from), time(&wish.to)) else {
        return Some(Err(words.t("limits.wrong_time").to_owned()));
    };
    let from = from.unwrap_or(now);
    let to = to.unwrap_or(now.plus_s(AHEAD_S));
    let limit = Limit { import_w, export_w };
    Some(if to <= from {
        Err(words.t("limits.wrong_time").to_owned())
    } else {
        Ok(Asked { limit, from, to })
    })
}

pub(super) async fn show(ask: Ask, Query(wish): Query<Wish>) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    let (words, now) = (&ask.words, ask.street.now);
    let shared = &ask.web.shared;
    let commands = control::recent(&shared.db, now.plus_s(-LEASE_S), COMMANDS_MAX).await;
    let commands = commands.map_err(|error| ask.failed("commands could not be read", &error))?;
    let forecast = forecast(shared, now).await;
    let forecast = forecast.map_err(|error| ask.failed("a feeder could not be read", &error))?;
    let asked = read_wish(words, &wish, now);
    let holding = in_force(&commands, now);
    let count = u64::try_from(holding.len()).unwrap_or(0);
    let page = Page {
        title: words.t("nav.limits").to_owned(),
        above: words.moment(now),
        answer: match count {
            0 => words.t("limits.none").to_owned(),
            n => words.plural("limits.one", "limits.many", n),
        },
        below: html! { (words.t("limits.below")) },
        body: html! {
            section.card { (table_in_force(words, &holding)) }
            section.card { (preview_card(&ask, &wish, asked.as_ref(), &forecast)) }
            section.card {
                h2 { (words.t("limits.issue")) }
                p { (words.t("limits.issue_text")) }
                p { code.block { "commonwatt control --gateway GATEWAY --device charger --current-a 10 --for 1h" } }
                p { a href="/grid/activations" { (words.t("limits.history")) } }
            }
        },
        live: None,
    };
    Ok(ask.show(&page))
}

fn table_in_force(words: &Words, holding: &[&Kept]) -> Markup {
    html! {
        h2 { (words.t("limits.in_force")) }
        @if holding.is_empty() { p.calm { (words.t("limits.none")) } }
        @else { div.scroll tabindex="0" role="region" aria-label=(words.t("limits.in_force")) { table {
            thead { tr {
                th { (words.t("limits.device")) } th { (words.t("limits.limit")) }
                th { (words.t("limits.from_to")) } th { (words.t("limits.answer")) }
            } }
            tbody { @for kept in holding { tr {
                td { (kept.command.gateway) "." (kept.command.device) }
                td { (act(words, kept.command.act)) }
                td { (span(words, kept)) }
                td { (words.t(answer_key(&kept.answers))) }
            } } }
        } } }
    }
}

fn preview_card(
    ask: &Ask,
    wish: &Wish,
    asked: Option<&Result<Asked, String>>,
    forecast: &[(Interval, Band)],
) -> Markup {
    let words = &ask.words;
    let rating = words.kilowatts(feeder::rating(ask));
    html! {
        h2 { (words.t("limits.preview")) }
        p.hint { (words.fill("limits.preview_text", &[("rating", &rating)])) }
        form.wish method="get" action="/grid/limits" {
            label { (words.t("limits.import")) " " small { "kW" }
                input name="import_kw" inputmode="decimal" autocomplete="off" value=(wish.import_kw); }
            label { (words.t("limits.export")) " " small { "kW" }
                input name="export_kw" inputmode="decimal" autocomplete="off" value=(wish.export_kw); }
            label { (words.t("limits.from")) input type="time" name="from" value=(wish.from); }
            label { (words.t("limits.to")) input type="time" name="to" value=(wish.to); }
            button { (words.t("limits.show")) }
        }
        @match asked {
            None => {},
            Some(Err(wrong)) => p.wrong role="alert" { (wrong) },
            Some(Ok(asked)) => {
                (effect(words, &preview(forecast, (asked.from, asked.to), asked.limit)))
            }
        }
    }
}

/// What the limit would mean, in a sentence and in numbers.
fn effect(words: &Words, seen: &Preview) -> Markup {
    if seen.intervals == 0 {
        return html! { p.empty { (words.t("limits.no_forecast")) } };
    }
    let energy = |wh: i64| words.energy(Energy::from_wh(wh));
    let way = if seen.peak_w < 0 {
        "grid.export"
    } else {
        "grid.import"
    };
    html! {
        p.big { @if seen.beyond == 0 { (words.t("limits.fits")) } @else {
            (words.fill("limits.beyond", &[
                ("n", &seen.beyond.to_string()), ("all", &seen.intervals.to_string()), ("energy", &energy(seen.wh.1)),
            ]))
        } }
        dl.facts {
            dt { (words.t("limits.band")) } dd { (energy(seen.wh.0)) " – " (energy(seen.wh.2)) }
            dt { (words.t("limits.peak")) } dd { (words.t(way)) " " (words.kilowatts(seen.peak_w)) }
            dt { (words.t("limits.cost")) } dd { (words.t("limits.cost_nothing")) }
        }
    }
}

/// A set-point in words.
fn act(words: &Words, act: Act) -> String {
    let Act::Set {
        set_point, value, ..
    } = act
    else {
        return words.t("limits.released").to_owned();
    };
    let (key, value) = match set_point {
        SetPoint::ChargerCurrentMa if value == 0 => return words.t("limits.paused").to_owned(),
        SetPoint::ChargerCurrentMa => ("limits.current", format!("{}\u{a0}A", value / 1_000)),
        SetPoint::BatteryPowerW if value < 0 => ("limits.battery_in", words.kilowatts(value)),
        SetPoint::BatteryPowerW => ("limits.battery_out", words.kilowatts(value)),
        SetPoint::GenerationLimitW => ("limits.generation", words.kilowatts(value)),
        SetPoint::GenerationLimitPermille => ("limits.generation", words.permille(value)),
        SetPoint::ChargerSession => return words.t("limits.let_in").to_owned(),
    };
    words.fill(key, &[("value", &value)])
}

fn span(words: &Words, kept: &Kept) -> String {
    let from = words.clock(kept.command.issued_at);
    match kept.command.act {
        Act::Set { expires_at, .. } => format!("{from}–{}", words.clock(expires_at)),
        Act::Release { .. } => from,
    }
}

/// The newest answer in words.
fn answer_key(answers: &[Ack]) -> &'static str {
    match answers.last().map(|ack| ack.outcome) {
        None => "limits.a_none",
        Some(Outcome::Accepted { .. }) => "limits.a_accepted",
        Some(Outcome::Refused(_)) => "limits.a_refused",
        Some(Outcome::Confirmed { .. }) => "limits.a_confirmed",
        Some(Outcome::NotConfirmed { .. }) => "limits.a_not_confirmed",
        Some(Outcome::Ended { .. }) => "limits.a_ended",
    }
}

#[derive(Deserialize)]
pub(super) struct Form {
    #[serde(default)]
    format: String,
}

pub(super) async fn activations(ask: Ask, form: Query<Form>) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    let (words, now) = (&ask.words, ask.street.now);
    let from = now.plus_s(-HISTORY_S);
    let recent = control::recent(&ask.web.shared.db, from, COMMANDS_MAX).await;
    let mut recent = recent.map_err(|error| ask.failed("commands could not be read", &error))?;
    recent.truncate(SHOWN_MAX);
    let read = activation::of(&ask.web.shared, recent, now).await;
    let all = read.map_err(|error| ask.failed("activations could not be read", &error))?;
    if form.format == "csv" {
        return Ok(csv("activations", &lines(&all)));
    }
    let is_confirmed = |one: &&Activation| one.is_confirmed();
    let sent = |one: &&Activation| matches!(one.kept.command.act, Act::Set { .. });
    let (asked, confirmed) = (
        all.iter().filter(sent).count(),
        all.iter().filter(sent).filter(is_confirmed).count(),
    );
    let (n, done) = (asked.to_string(), confirmed.to_string());
    let counts = [("n", n.as_str()), ("done", done.as_str())];
    let page = Page {
        title: words.t("limits.history").to_owned(),
        above: words.t("limits.last_week").to_owned(),
        answer: match asked {
            0 => words.t("limits.no_history").to_owned(),
            1 => words.fill("limits.history_one", &counts),
            _ => words.fill("limits.history_many", &counts),
        },
        below: html! { (words.t("limits.history_below")) },
        body: html! { section.card { (table(words, &all)) } },
        live: None,
    };
    Ok(ask.show(&page))
}

fn table(words: &Words, all: &[Activation]) -> Markup {
    html! {
        h2 { (words.t("limits.requested")) }
        @if all.is_empty() { p.calm { (words.t("limits.no_history")) } }
        @else { div.scroll tabindex="0" role="region" aria-label=(words.t("limits.requested")) { table {
            thead { tr {
                th { (words.t("limits.when")) } th { (words.t("limits.device")) } th { (words.t("limits.limit")) }
                th { (words.t("limits.from_to")) } th { (words.t("limits.answer")) } th.n { (words.t("limits.metered")) " kWh" }
                th { (words.t("limits.evidence")) }
            } }
            tbody { @for one in all { tr {
                @let command = &one.kept.command;
                td { (words.moment(command.issued_at)) }
                td { (command.gateway) "." (command.device) }
                td { (act(words, command.act)) }
                td { (span(words, &one.kept)) }
                td { (words.t(answer_key(&one.kept.answers))) }
                td.n { @match one.metered {
                    Some((taken, given)) if given > taken => { (words.t("grid.export")) " " (words.kwh(given)) },
                    Some((taken, _)) => (words.kwh(taken)),
                    None => "–",
                } }
                td { a href=(format!("/api/v1/commands/{}", one.kept.digest)) { (words.t("limits.signed")) } }
            } } }
        } } }
        p.csv { a href="/grid/activations?format=csv" download { (words.t("chart.csv")) } }
    }
}

fn lines(all: &[Activation]) -> Vec<String> {
    let head =
        "issued_at,expires_at,gateway,device,set_point,value,unit,answer,taken_wh,given_wh,command";
    let line = |one: &Activation| {
        let command = &one.kept.command;
        let set_point = command.act.set_point();
        let (value, until) = match command.act {
            Act::Set {
                value, expires_at, ..
            } => (value.to_string(), expires_at.to_string()),
            Act::Release { .. } => (String::new(), String::new()),
        };
        let answer = one.kept.answers.last().map_or("", |ack| ack.outcome.word());
        let (taken, given) = one.metered.map_or_else(Default::default, |(taken, given)| {
            (taken.wh().to_string(), given.wh().to_string())
        });
        format!(
            "{},{until},{},{},{set_point},{value},{},{answer},{taken},{given},{}",
            command.issued_at,
            command.gateway,
            command.device,
            set_point.unit(),
            one.kept.digest
        )
    };
    std::iter::once(head.to_owned())
        .chain(all.iter().map(line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_read_as_people_write_it() {
        assert_eq!(watts("30"), Some(Some(30_000)));
        assert_eq!(watts(" 7,5 "), Some(Some(7_500)));
        assert_eq!(watts(""), Some(None));
        for bad in ["-1", "x", "1.2345", ".", "9999999"] {
            assert_eq!(watts(bad), None, "{bad}");
        }
    }
}
