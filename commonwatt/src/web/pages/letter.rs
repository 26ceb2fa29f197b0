//! `/home/letter/{yyyy-mm}`: a month in plain words, to read or to print: four numbers, one picture, at most one
//! sentence of advice.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{Months, NaiveDate, Timelike};
use domain::energy::Energy;
use domain::money::Money;
use maud::{Markup, html};
use settlement::calendar::{LocalMonth, Zone};
use settlement::service::statement;

use super::Ask;
use crate::view::calendar;
use crate::view::energy::{self, Flows, HomeEnergy};
use crate::web::chart;
use crate::web::layout::Page;
use crate::web::words::Words;

/// Hours that advice is about.
const ADVICE_HOURS: usize = 3;
/// Less than this is not worth a sentence.
const ADVICE_WH: i64 = 2_000;

struct Data {
    month: NaiveDate,
    this_month: NaiveDate,
    span: calendar::Span,
    net: Money,
    better: Money,
    energy: HomeEnergy,
    now: domain::time::Timestamp,
}

/// The letter of the month that is over, or of this one where there is none before it.
pub(super) async fn newest(ask: Ask) -> Result<Response, Response> {
    let home = ask.home()?;
    let today = calendar::date(ask.words.zone, ask.street.now);
    let before = today.checked_sub_months(Months::new(1)).unwrap_or(today);
    let span = calendar::month(ask.words.zone, before);
    let db = &ask.web.shared.db;
    let settled = settlement::service::lines_of(db, &home, span.from, span.to).await;
    let settled = settled.map_err(|error| ask.failed("a month could not be read", &error))?;
    let month = if settled.is_empty() { today } else { before };
    Ok(Redirect::to(&format!("/home/letter/{}", month.format("%Y-%m"))).into_response())
}

pub(super) async fn show(ask: Ask, Path(month): Path<String>) -> Result<Response, Response> {
    let home = ask.home()?;
    let today = calendar::date(ask.words.zone, ask.street.now);
    let month = calendar::month_of(&month).filter(|month| *month <= today);
    let month = month.ok_or_else(|| ask.missing())?;
    let _turn = ask.turn()?;
    let data = read(&ask, &home, month).await;
    let data = data.map_err(|error| ask.failed("a letter could not be written", &error))?;
    Ok(ask.show(&page(&ask.words, &home.to_string(), &data)))
}

async fn read(
    ask: &Ask,
    home: &domain::ids::ParticipantId,
    month: NaiveDate,
) -> anyhow::Result<Data> {
    let (shared, words, now) = (&ask.web.shared, &ask.words, ask.street.now);
    let span = calendar::month(words.zone, month);
    let length_s = shared.site.interval_length_s;
    let local = LocalMonth::parse(&month.format("%Y-%m").to_string(), Zone::from(words.zone))?;
    // The very statement of the month, so that the letter's money is the bill's.
    let community = &shared.site.community;
    let made = statement(&shared.db, community, length_s, home, local, now).await?;
    let (net, better) = made.map_or((Money::ZERO, Money::ZERO), |made| {
        (made.total.net, made.alone.better_by)
    });
    Ok(Data {
        month,
        this_month: calendar::date(words.zone, now),
        net,
        better,
        energy: energy::read(shared, home, span).await?,
        span,
        now,
    })
}

fn page(words: &Words, home: &str, data: &Data) -> Page {
    let month = words.month(data.month);
    let sum = data.energy.sum(data.span).map(|(flows, _)| flows);
    let key = match (sum.is_some(), data.net.nano() < 0) {
        (false, _) => "letter.nothing",
        (true, true) => "letter.cost",
        (true, false) => "letter.earned",
    };
    Page {
        title: words.fill("letter.title", &[("month", &month)]),
        above: format!(
            "{} · {home}",
            words.fill("letter.title", &[("month", &month)])
        ),
        answer: words.fill(
            key,
            &[("month", &month), ("amount", &words.money_abs(data.net))],
        ),
        below: html! { @if data.now < data.span.to { (words.t("letter.not_over")) } @else { (words.t("letter.over")) } },
        body: html! {
            (picker(words, data))
            @if let Some(flows) = &sum {
                (numbers(words, data, flows))
                section.card { (picture(words, data)) }
                @if let Some(advice) = advice(words, data, flows) {
                    section.card { h2 { (words.t("letter.advice")) } p.big { (advice) } }
                }
            }
            p.hint.screen { (words.t("letter.print")) " "
                a href=(format!("/home/statement/{}", data.month.format("%Y-%m"))) { (words.t("letter.statement")) } }
        },
        live: None,
    }
}

fn picker(words: &Words, data: &Data) -> Markup {
    let link = |month: NaiveDate| format!("/home/letter/{}", month.format("%Y-%m"));
    let before = data.month.checked_sub_months(Months::new(1));
    let after = data.month.checked_add_months(Months::new(1));
    let after = after.filter(|month| *month <= data.this_month);
    html! {
        nav.picker aria-label=(words.t("statement.months")) {
            @if let Some(month) = before { a rel="prev" href=(link(month)) { "‹ " (words.month(month)) } }
            span.spring {}
            @if let Some(month) = after { a rel="next" href=(link(month)) { (words.month(month)) " ›" } }
        }
    }
}

/// The four numbers.
fn numbers(words: &Words, data: &Data, flows: &Flows) -> Markup {
    let energy = |wh: i64| words.energy(Energy::from_wh(wh));
    let better = if data.better.nano() < 0 {
        "letter.worse"
    } else {
        "letter.better"
    };
    html! {
        dl.tiles {
            (super::street::tile(words.t(better), &html! { (words.money_abs(data.better)) }, words.t("letter.better_hint")))
            (super::street::tile(words.t("letter.local"), &html! { (words.share(flows.local_use(), flows.home)) }, words.t("letter.local_hint")))
            (super::street::tile(words.t("letter.used"), &html! { (energy(flows.home)) }, words.t("letter.used_hint")))
            @if flows.sun > 0 {
                (super::street::tile(words.t("letter.sun"), &html! { (energy(flows.sun)) }, words.t("letter.sun_hint")))
            } @else {
                (super::street::tile(words.t("letter.bought"), &html! { (energy(flows.from_neighbours)) }, words.t("letter.bought_hint")))
            }
        }
    }
}

fn picture(words: &Words, data: &Data) -> Markup {
    let bars = super::energy::bars_of_month(words, &data.energy, data.span, data.now);
    let title = words.t("letter.picture").to_owned();
    html! {
        (chart::patterns())
        (chart::figure(words, &chart::energy(words, title, &bars, 6, None)))
    }
}

/// One sentence that follows from the month, or none.
fn advice(words: &Words, data: &Data, flows: &Flows) -> Option<String> {
    let (key, of): (_, fn(&Flows) -> i64) = if flows.to_utility > flows.from_utility {
        ("letter.advice_sun", |f| f.to_utility)
    } else {
        ("letter.advice_use", |f| f.from_utility)
    };
    let (from, wh) = busiest(words, &data.energy, of)?;
    (wh >= ADVICE_WH).then(|| {
        let to = (from + ADVICE_HOURS) % 24;
        words.fill(
            key,
            &[
                ("from", &format!("{from:02}:00")),
                ("to", &format!("{to:02}:00")),
                ("energy", &words.energy(Energy::from_wh(wh))),
            ],
        )
    })
}

/// The hour from which on most of it happened, on the site's clock, and how much it was.
fn busiest(words: &Words, energy: &HomeEnergy, of: fn(&Flows) -> i64) -> Option<(usize, i64)> {
    let mut hours = [0_i64; 24];
    for (interval, metered) in energy.intervals.iter().filter(|(_, m)| m.settled) {
        let at = calendar::local(words.zone, interval.start())?;
        let hour = usize::try_from(at.hour()).ok()?;
        *hours.get_mut(hour)? += of(&metered.flows);
    }
    let sum = |from: usize| -> i64 {
        let hours = hours.iter().cycle().skip(from).take(ADVICE_HOURS);
        hours.sum()
    };
    (0..24)
        .map(|from| (from, sum(from)))
        .max_by_key(|(from, wh)| (*wh, std::cmp::Reverse(*from)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::energy::Metered;
    use crate::web::words::Language;
    use domain::quality::Quality;
    use domain::time::Interval;

    #[test]
    fn advice_is_about_the_hours_in_which_most_went_to_the_utility() {
        let words = Words {
            language: Language::English,
            zone: chrono_tz::Europe::Berlin,
            currency: "€".to_owned(),
        };
        let noon: domain::time::Timestamp = "2026-06-01T10:00:00Z".parse().unwrap();
        let interval = Interval::containing(noon, 900).unwrap();
        let at = |n: i64, to_utility: i64| {
            let flows = Flows {
                to_utility,
                ..Flows::default()
            };
            let metered = Metered {
                flows,
                quality: Quality::default(),
                settled: true,
            };
            (interval.offset(n), metered)
        };
        let energy = HomeEnergy {
            intervals: [at(0, 1_000), at(8, 900), at(-20, 50)].into(),
        };
        let found = busiest(&words, &energy, |f| f.to_utility);
        assert_eq!(
            found,
            Some((12, 1_900)),
            "noon and two hours later, in Berlin"
        );
    }
}
