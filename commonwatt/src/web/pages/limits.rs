//! `/grid/limits`: which limits are in force, and what one at a feeder would mean before anybody acts;
//! `/grid/activations`: what devices were told, what their gateways answered, and what was metered then.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::response::Response;
use domain::command::{Ack, Act, Outcome, SetPoint};
use domain::energy::Energy;
use domain::ids::{GatewayId, PointId};
use domain::time::{Interval, Timestamp};
use maud::{Markup, html};
use serde::Deserialize;
use settlement::service::Whose;

use super::{Ask, csv, feeder};
use crate::auth::Role;
use crate::platform::control::{self, Kept};
use crate::view::limit::{Limit, Preview, preview};
use crate::view::{calendar, grid};
use crate::web::field;
use crate::web::layout::Page;
use crate::web::words::Words;

/// A lease is never longer, so what was told before is over.
const LEASE_S: i64 = domain::command::LEASE_MAX_S;
/// Commands that are looked at for what is in force.
const COMMANDS_MAX: u32 = 2_000;
/// How far back the list of activations goes, and how many it shows.
const HISTORY_S: i64 = 7 * 86_400;
const SHOWN_MAX: usize = 60;
/// The forecast's reach.
const AHEAD: i64 = 48;

/// A device's set-point.
type Place = (GatewayId, String, SetPoint);

/// The newest command of every set-point, where it is a lease that has not ended.
fn in_force(commands: &[Kept], now: Timestamp) -> Vec<&Kept> {
    let mut newest: BTreeMap<Place, &Kept> = BTreeMap::new();
    for kept in commands {
        let command = &kept.command;
        let place = (
            command.gateway.clone(),
            command.device.clone(),
            command.act.set_point(),
        );
        let known = newest.entry(place).or_insert(kept);
        if known.command.sequence < command.sequence {
            *known = kept;
        }
    }
    let holds = |kept: &&Kept| match kept.command.act {
        Act::Set { expires_at, .. } => expires_at > now && !is_refused(&kept.answers),
        Act::Release { .. } => false,
    };
    newest.into_values().filter(holds).collect()
}

fn is_refused(answers: &[Ack]) -> bool {
    let newest = answers.last().map(|ack| ack.outcome);
    matches!(newest, Some(Outcome::Refused(_) | Outcome::Ended { .. }))
}

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
    let end = now.plus_s(AHEAD * 900);
    let to = to.unwrap_or(end);
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
    let db = &ask.web.shared.db;
    let commands = control::recent(db, now.plus_s(-LEASE_S), COMMANDS_MAX).await;
    let commands = commands.map_err(|error| ask.failed("commands could not be read", &error))?;
    let forecast = forecast(&ask).await;
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

/// What is forecast at the first feeder.
async fn forecast(ask: &Ask) -> anyhow::Result<Vec<(Interval, (i64, i64, i64))>> {
    let (shared, now) = (&ask.web.shared, ask.street.now);
    let Some(feeder) = grid::feeders(&shared.site).next() else {
        return Ok(Vec::new());
    };
    let past = grid::metered(shared, &feeder.point, grid::forecast_from(now), now).await?;
    let first = Interval::containing(now, ask.street.open.length_s())?;
    Ok(grid::ahead(&past, first, AHEAD).into_iter().collect())
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
    forecast: &[(Interval, (i64, i64, i64))],
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
                @let within: Vec<_> = forecast.iter().filter(|(i, _)| i.end() > asked.from && i.start() < asked.to).copied().collect();
                (effect(words, &preview(&within, asked.limit)))
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

/// An activation with what the device's own meter counted in it.
struct Activation {
    kept: Kept,
    /// Taken and given in whole intervals of its time, where the device has a meter.
    metered: Option<(Energy, Energy)>,
}

#[derive(Deserialize)]
pub(super) struct Form {
    #[serde(default)]
    format: String,
}

pub(super) async fn activations(ask: Ask, form: Query<Form>) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    let (words, now) = (&ask.words, ask.street.now);
    let read = read(&ask, now).await;
    let all = read.map_err(|error| ask.failed("activations could not be read", &error))?;
    if form.format == "csv" {
        return Ok(csv("activations", &lines(&all)));
    }
    let is_confirmed = |one: &&Activation| {
        let outcomes = one.kept.answers.iter().map(|ack| ack.outcome);
        let mut outcomes = outcomes.filter(|o| matches!(o, Outcome::Confirmed { .. }));
        outcomes.next().is_some()
    };
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

async fn read(ask: &Ask, now: Timestamp) -> anyhow::Result<Vec<Activation>> {
    let shared = &ask.web.shared;
    let mut all = Vec::new();
    let recent = control::recent(&shared.db, now.plus_s(-HISTORY_S), COMMANDS_MAX).await?;
    for kept in recent.into_iter().take(SHOWN_MAX) {
        all.push(Activation {
            metered: metered(ask, &kept, now).await?,
            kept,
        });
    }
    Ok(all)
}

/// What the device's meter counted in the whole intervals of a lease.
async fn metered(
    ask: &Ask,
    kept: &Kept,
    now: Timestamp,
) -> anyhow::Result<Option<(Energy, Energy)>> {
    let (shared, command) = (&ask.web.shared, &kept.command);
    let Act::Set { expires_at, .. } = command.act else {
        return Ok(None);
    };
    let mut points = shared
        .site
        .gateways
        .iter()
        .filter(|g| g.id == command.gateway);
    let point: Option<PointId> = points.find_map(|gateway| {
        let mut points = gateway.points.iter();
        let of_device = points.find(|p| {
            let named = p.point.as_str().rsplit_once('.');
            named.is_some_and(|(_, name)| name == command.device)
        });
        of_device.map(|p| p.point.clone())
    });
    let Some(point) = point else {
        return Ok(None);
    };
    let ended = kept.answers.iter().find_map(|ack| {
        let is_end = matches!(ack.outcome, Outcome::Ended { .. });
        is_end.then_some(ack.at)
    });
    let to = ended.unwrap_or(expires_at).min(expires_at).min(now);
    let whose = Whose::Point(&point);
    let history = settlement::service::history(&shared.db, whose, command.issued_at, to).await?;
    let within = history.iter().filter(|m| m.interval.end() <= to);
    let (mut taken, mut given, mut any) = (0_i64, 0_i64, false);
    for metered in within {
        taken += metered.imported.wh();
        given += metered.exported.wh();
        any = true;
    }
    Ok(any.then(|| (Energy::from_wh(taken), Energy::from_wh(given))))
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
    use domain::command::Command;
    use domain::ids::Digest32;

    fn kept(sequence: u64, device: &str, act: Act) -> Kept {
        Kept {
            digest: Digest32([0; 32]),
            command: Command {
                gateway: GatewayId::new("gw-1").unwrap(),
                device: device.to_owned(),
                sequence,
                issued_at: Timestamp::from_unix_s(0),
                act,
            },
            answers: Vec::new(),
        }
    }

    #[test]
    fn the_newest_command_of_a_set_point_holds_until_it_ends_or_is_released() {
        let set_point = SetPoint::ChargerCurrentMa;
        let set = |until| Act::Set {
            set_point,
            value: 0,
            expires_at: Timestamp::from_unix_s(until),
        };
        let release = Act::Release { set_point };
        let now = Timestamp::from_unix_s(100);
        let count = |commands: &[Kept]| in_force(commands, now).len();
        assert_eq!(count(&[kept(1, "a", set(200)), kept(1, "b", set(200))]), 2);
        assert_eq!(count(&[kept(1, "a", set(100))]), 0, "over");
        let pair = [kept(2, "a", release), kept(1, "a", set(200))];
        assert_eq!(count(&pair), 0, "released");
        let pair = [kept(2, "a", set(200)), kept(1, "a", release)];
        assert_eq!(count(&pair), 1);
    }

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
