//! `/home/energy`: how much of my use was local, in a day, a month or a year, beside the time before.

use axum::extract::Query;
use axum::response::Response;
use chrono::{Datelike, Days, Months, NaiveDate};
use domain::energy::Energy;
use domain::time::{Interval, Timestamp};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Ask, csv};
use crate::view::calendar::{self, Span};
use crate::view::energy::{self, Flows, HomeEnergy};
use crate::view::peers::{self, Likeness, Mean};
use crate::web::chart::{self, EnergyBar};
use crate::web::layout::Page;
use crate::web::words::Words;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Period {
    #[default]
    Day,
    Month,
    Year,
}

impl Period {
    const ALL: [Period; 3] = [Period::Day, Period::Month, Period::Year];

    const fn tag(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Month => "month",
            Period::Year => "year",
        }
    }

    fn word(self, words: &Words) -> &'static str {
        match self {
            Period::Day => words.t("energy.day"),
            Period::Month => words.t("energy.month"),
            Period::Year => words.t("energy.year"),
        }
    }

    fn span(self, words: &Words, date: NaiveDate) -> Span {
        match self {
            Period::Day => calendar::day(words.zone, date),
            Period::Month => calendar::month(words.zone, date),
            Period::Year => calendar::year(words.zone, date),
        }
    }

    fn name(self, words: &Words, date: NaiveDate) -> String {
        match self {
            Period::Day => words.long_date(date),
            Period::Month => words.month(date),
            Period::Year => date.year().to_string(),
        }
    }

    /// A date in the period before or after.
    fn step(self, date: NaiveDate, forward: bool) -> Option<NaiveDate> {
        let months = |n| {
            let n = Months::new(n);
            if forward {
                date.checked_add_months(n)
            } else {
                date.checked_sub_months(n)
            }
        };
        match self {
            Period::Day if forward => date.checked_add_days(Days::new(1)),
            Period::Day => date.checked_sub_days(Days::new(1)),
            Period::Month => months(1),
            Period::Year => months(12),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    period: Period,
    date: Option<String>,
    #[serde(default)]
    format: String,
}

struct Data {
    period: Period,
    date: NaiveDate,
    span: Span,
    energy: HomeEnergy,
    /// The same part of the period before.
    before: Option<(Flows, bool)>,
    /// Other homes in the same time; for a year it would be too much to read.
    others: Option<Mean>,
    today: NaiveDate,
    now: Timestamp,
    length_s: u32,
}

pub(super) async fn show(ask: Ask, asked: Query<Asked>) -> Result<Response, Response> {
    let home = ask.home()?;
    let _turn = match asked.period {
        Period::Year | Period::Month => Some(ask.turn()?),
        Period::Day => None,
    };
    let data = read(&ask, &home, &asked).await;
    let data = data.map_err(|error| ask.failed("a home's energy could not be read", &error))?;
    if asked.format == "csv" {
        let name = format!("energy-{home}-{}", data.date);
        return Ok(csv(&name, &lines(&data.energy)));
    }
    Ok(ask.show(&page(&ask.words, &data)))
}

async fn read(ask: &Ask, home: &domain::ids::ParticipantId, asked: &Asked) -> anyhow::Result<Data> {
    let (shared, words, now) = (&ask.web.shared, &ask.words, ask.street.now);
    let today = calendar::date(words.zone, now);
    let asked_for = asked.date.as_deref().and_then(|text| text.parse().ok());
    let date = asked_for
        .unwrap_or(today)
        .clamp(NaiveDate::from_ymd_opt(1970, 1, 2).unwrap_or(today), today);
    let (period, span) = (asked.period, asked.period.span(words, date));
    // As much of the time before as has passed of this one.
    let passed_ms = span.to.ms_since(span.from).min(now.ms_since(span.from));
    let before = period
        .step(date, false)
        .map(|date| period.span(words, date));
    let before = match before {
        Some(before) => {
            let to = before.from.plus_ms(passed_ms).min(before.to);
            let part = Span {
                from: before.from,
                to,
            };
            energy::read(shared, home, part).await?.sum(part)
        }
        None => None,
    };
    let others = match period {
        Period::Day | Period::Month => peers::mean(shared, &ask.street, home, span).await?,
        Period::Year => None,
    };
    Ok(Data {
        period,
        date,
        span,
        others,
        energy: energy::read(shared, home, span).await?,
        before,
        today,
        now,
        length_s: ask.street.open.length_s(),
    })
}

fn lines(energy: &HomeEnergy) -> Vec<String> {
    let head = "interval_start,interval_end,sun_wh,battery_out_wh,from_neighbours_wh,from_utility_wh,\
                home_wh,to_neighbours_wh,to_utility_wh,quality,settled";
    let line = |(interval, metered): (&Interval, &energy::Metered)| {
        let f = &metered.flows;
        format!(
            "{},{},{},{},{},{},{},{},{},{},{}",
            interval.start(),
            interval.end(),
            f.sun,
            f.battery_out,
            f.from_neighbours,
            f.from_utility,
            f.home,
            f.to_neighbours,
            f.to_utility,
            metered.quality.word(),
            metered.settled
        )
    };
    std::iter::once(head.to_owned())
        .chain(energy.intervals.iter().map(line))
        .collect()
}

fn page(words: &Words, data: &Data) -> Page {
    let sum = data.energy.sum(data.span);
    Page {
        title: words.t("nav.energy").to_owned(),
        above: data.period.name(words, data.date),
        answer: answer(words, sum.as_ref().map(|(flows, _)| flows)),
        below: html! { (below(words, data)) },
        body: html! {
            (picker(words, data))
            section.card { (picture(words, data)) }
            @if let Some((flows, estimated)) = &sum { section.card { (comparison(words, data, flows, *estimated)) } }
            section.card { (definitions(words)) }
        },
        live: None,
    }
}

fn answer(words: &Words, flows: Option<&Flows>) -> String {
    let Some(flows) = flows else {
        return words.t("energy.none").to_owned();
    };
    let local = words.share(flows.local_use(), flows.home);
    if flows.sun > 0 {
        let sun = words.share(flows.sun_used_locally(), flows.sun);
        words.fill("energy.shares", &[("local", &local), ("sun", &sun)])
    } else {
        words.fill("energy.share", &[("local", &local)])
    }
}

fn below(words: &Words, data: &Data) -> String {
    let all = data.span.intervals(data.length_s);
    let known = data.energy.count(data.span);
    let (known, all) = (known.to_string(), all.to_string());
    words.fill("energy.known", &[("known", &known), ("all", &all)])
}

fn picker(words: &Words, data: &Data) -> Markup {
    let link = |period: Period, date: NaiveDate| format!("?period={}&date={date}", period.tag());
    let before = data.period.step(data.date, false);
    let after = data
        .period
        .step(data.date, true)
        .filter(|date| *date <= data.today);
    html! {
        nav.picker aria-label=(words.t("energy.period")) {
            @for period in Period::ALL {
                a href=(link(period, data.date)) aria-current=[(period == data.period).then_some("true")] {
                    (period.word(words))
                }
            }
            span.spring {}
            @if let Some(date) = before { a rel="prev" href=(link(data.period, date)) { "‹ " (words.t("energy.before")) } }
            @if let Some(date) = after { a rel="next" href=(link(data.period, date)) { (words.t("energy.after")) " ›" } }
        }
    }
}

fn picture(words: &Words, data: &Data) -> Markup {
    let (bars, columns) = match data.period {
        Period::Day => (
            bars_of_day(words, &data.energy, data.span, (data.now, data.length_s)),
            8,
        ),
        Period::Month => (
            bars_of(words, &data.energy, data.span, data.now, Period::Day),
            6,
        ),
        Period::Year => (
            bars_of(words, &data.energy, data.span, data.now, Period::Month),
            12,
        ),
    };
    let csv = format!(
        "/home/energy?period={}&date={}&format=csv",
        data.period.tag(),
        data.date
    );
    let title = words.t("energy.title").to_owned();
    html! {
        (chart::patterns())
        (chart::figure(words, &chart::energy(words, title, &bars, columns, Some(csv))))
    }
}

/// A bar for each interval of a day: 92, 96 or 100 quarter-hours.
pub(super) fn bars_of_day(
    words: &Words,
    energy: &HomeEnergy,
    day: Span,
    (now, length_s): (Timestamp, u32),
) -> Vec<EnergyBar> {
    let mut bars = Vec::new();
    let mut at: Timestamp = day.from;
    while at < day.to {
        let Ok(interval) = Interval::containing(at, length_s) else {
            break;
        };
        let known = energy.intervals.get(&interval);
        bars.push(EnergyBar {
            name: words.interval(interval),
            label: words.clock(interval.start()),
            flows: known.map(|m| m.flows),
            estimated: known.is_some_and(|m| m.quality.word() != "measured"),
            to_come: interval.end() > now,
        });
        at = interval.end();
    }
    bars
}

/// A bar for each day of a month.
pub(super) fn bars_of_month(
    words: &Words,
    energy: &HomeEnergy,
    month: Span,
    now: Timestamp,
) -> Vec<EnergyBar> {
    bars_of(words, energy, month, now, Period::Day)
}

/// A bar for each day of a month, or month of a year.
fn bars_of(
    words: &Words,
    energy: &HomeEnergy,
    whole: Span,
    now: Timestamp,
    part: Period,
) -> Vec<EnergyBar> {
    let mut bars = Vec::new();
    let mut date = calendar::date(words.zone, whole.from);
    loop {
        let span = part.span(words, date);
        if span.from >= whole.to {
            return bars;
        }
        let sum = energy.sum(span);
        bars.push(EnergyBar {
            name: part.name(words, date),
            label: if part == Period::Day {
                date.day().to_string()
            } else {
                date.month().to_string()
            },
            flows: sum.map(|(flows, _)| flows),
            estimated: sum.is_some_and(|(_, estimated)| estimated),
            to_come: span.from > now,
        });
        match part.step(date, true) {
            Some(next) if next > date => date = next,
            _ => return bars,
        }
    }
}

fn comparison(words: &Words, data: &Data, flows: &Flows, estimated: bool) -> Markup {
    let kwh = |wh: i64| words.kwh(Energy::from_wh(wh));
    let before = data.before.as_ref().map(|(flows, _)| flows);
    let others = data.others.as_ref().map(|others| &others.flows);
    let local = |flows: Option<&Flows>| {
        flows.map_or_else(|| "–".to_owned(), |f| words.share(f.local_use(), f.home))
    };
    type Row = (&'static str, fn(&Flows) -> i64);
    let rows: [Row; 6] = [
        ("energy.from_sun", |f| f.sun),
        ("energy.to_home", |f| f.home),
        ("energy.from_neighbours", |f| f.from_neighbours),
        ("energy.from_utility", |f| f.from_utility),
        ("energy.to_neighbours", |f| f.to_neighbours),
        ("energy.to_utility", |f| f.to_utility),
    ];
    html! {
        h2 { (words.t("energy.compare")) " " small { "kWh" } @if estimated { " " span.mark { (words.t("energy.partly_estimated")) } } }
        div.scroll tabindex="0" role="region" aria-label=(words.t("energy.compare")) { table {
            thead { tr { th {} th.n { (words.t("energy.this")) } th.n { (words.t("energy.previous")) } th.n { (words.t("energy.others")) } } }
            tbody { @for (word, of) in rows { tr {
                th scope="row" { (words.t(word)) }
                td.n { (kwh(of(flows))) }
                td.n { @match before { Some(before) => (kwh(of(before))), None => "–" } }
                td.n { @match others { Some(others) => (kwh(of(others))), None => "–" } }
            } }
                tr { th scope="row" { (words.t("energy.local_share")) }
                    td.n { (local(Some(flows))) } td.n { (local(before)) } td.n { (local(others)) } } }
        } }
        p.hint { (with_whom(words, data)) }
    }
}

/// Whom the last column is about.
fn with_whom(words: &Words, data: &Data) -> String {
    let Some(others) = &data.others else {
        let key = match data.period {
            Period::Year => "energy.others_not",
            Period::Day | Period::Month => "energy.others_few",
        };
        return words.t(key).to_owned();
    };
    let key = match others.likeness {
        Likeness::SameThings => "energy.others_same",
        Likeness::SameSun => "energy.others_sun",
        Likeness::Street => "energy.others_street",
    };
    words.fill(key, &[("n", &others.homes.to_string())])
}

fn definitions(words: &Words) -> Markup {
    html! {
        details {
            summary { (words.t("energy.how")) }
            p { (words.t("energy.how_local")) }
            p { (words.t("energy.how_sun")) }
            p { (words.t("energy.how_battery")) }
        }
    }
}
