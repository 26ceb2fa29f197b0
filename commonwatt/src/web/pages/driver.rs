//! `/driver`: the car that charges now, what charging cost this month, earlier sessions with their receipts, and when
//! the next cheap time is.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::response::Response;
use chrono::{Datelike, NaiveDate};
use domain::energy::Energy;
use domain::money::Money;
use domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use settlement::charging::session::State;

use super::{Ask, charge, csv};
use crate::auth::Role;
use crate::platform::charging::{self, Running, drivers};
use crate::view::calendar;
use crate::web::layout::Page;
use crate::web::words::Words;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    format: String,
}

/// Sums of a month.
#[derive(Clone, Copy, Default)]
struct Month {
    sessions: u64,
    energy: Energy,
    money: Money,
}

struct Data {
    sessions: Vec<Running>,
    /// By the first of the month, with this one.
    months: BTreeMap<NaiveDate, Month>,
    this_month: NaiveDate,
    /// When a kWh is cheapest in the next hours, at which charger, and what it costs.
    cheapest: Option<(Timestamp, String, domain::money::Price)>,
    now: Timestamp,
}

pub(super) async fn show(ask: Ask, asked: Query<Asked>) -> Result<Response, Response> {
    // A household that has begun sessions sees them here as well.
    if ask.viewer.home().is_none() {
        ask.only(Role::Driver)?;
    }
    let account = ask.viewer.account().map(|account| account.name.clone());
    let account = account.ok_or_else(|| ask.missing())?;
    let data = read(&ask, &account).await;
    let data = data.map_err(|error| ask.failed("sessions could not be read", &error))?;
    if asked.format == "csv" {
        return Ok(csv("charging", &rows(&data)));
    }
    Ok(ask.show(&page(&ask.words, &data)))
}

async fn read(ask: &Ask, account: &str) -> anyhow::Result<Data> {
    let (shared, zone) = (&ask.web.shared, ask.words.zone);
    let now = shared.clock.now();
    let sessions = drivers::sessions_of(shared, account).await?;
    let first_of = |at| {
        let date = calendar::date(zone, at);
        date.with_day(1).unwrap_or(date)
    };
    let this_month = first_of(now);
    let mut months = BTreeMap::from([(this_month, Month::default())]);
    for one in &sessions {
        let (energy, money) = (one.session.energy(), spent(one));
        if !energy.is_positive() {
            continue;
        }
        let month: &mut Month = months
            .entry(first_of(one.promise.quote.offered_at))
            .or_default();
        month.sessions += 1;
        month.energy = month.energy.checked_add(energy).unwrap_or(month.energy);
        month.money = month.money.checked_add(money).unwrap_or(month.money);
    }
    let expected = charging::expected(shared, now).await?;
    let places = charging::places(shared).await;
    let station = places.first().map(|place| place.station.clone());
    let cheapest = station.and_then(|station| {
        let price = |e: &&_| charge::all_in(&station, e);
        let best = expected.iter().min_by_key(|e| (price(e), e.interval))?;
        Some((
            best.interval.start(),
            station.id.clone(),
            charge::all_in(&station, best),
        ))
    });
    Ok(Data {
        sessions,
        months,
        this_month,
        cheapest,
        now,
    })
}

/// What a session costs so far, or cost.
fn spent(one: &Running) -> Money {
    let bill = one.session.bill_so_far().ok().flatten();
    bill.map_or(Money::ZERO, |bill| bill.total)
}

fn is_over(one: &Running) -> bool {
    matches!(one.session.state(), State::Settling(_) | State::Closed(_))
}

fn page(words: &Words, data: &Data) -> Page {
    let running: Vec<&Running> = data.sessions.iter().filter(|one| !is_over(one)).collect();
    let past: Vec<&Running> = data.sessions.iter().filter(|one| is_over(one)).collect();
    let month = data.months.get(&data.this_month).copied();
    let month = month.unwrap_or_default();
    let name = words.month(data.this_month);
    let answer = match (running.first(), month.sessions) {
        (Some(one), _) => words.fill(
            "driver.charging",
            &[
                ("energy", &words.energy(one.session.energy())),
                ("money", &words.money(spent(one))),
            ],
        ),
        (None, 0) => words.fill("driver.nothing", &[("month", &name)]),
        (None, _) => words.fill(
            "driver.month",
            &[
                ("month", &name),
                ("money", &words.money(month.money)),
                ("energy", &words.energy(month.energy)),
            ],
        ),
    };
    Page {
        title: words.t("nav.driver").to_owned(),
        above: words.long_date(calendar::date(words.zone, data.now)),
        answer,
        below: html! { @match &data.cheapest {
            Some((at, _, price)) => (words.fill("driver.cheapest", &[
                ("time", &words.clock(*at)), ("price", &words.price(*price)),
            ])),
            None => (words.t("charge.none")),
        } },
        body: html! {
            @for one in &running { section.card { (now_card(words, one)) } }
            @if running.is_empty() {
                p.ways-on { a.button.primary href="/charge" { (words.t("driver.begin")) } }
            }
            div.two {
                section.card { (spending(words, data)) }
                section.card { (list(words, &past)) }
            }
        },
        live: None,
    }
}

fn now_card(words: &Words, one: &Running) -> Markup {
    let quote = &one.promise.quote;
    html! {
        h2 { (words.t("driver.now")) " " small { (quote.station) } }
        p.big { (words.fill("driver.charging", &[
            ("energy", &words.energy(one.session.energy())), ("money", &words.money(spent(one))),
        ])) " " (words.fill("session.below", &[("ceiling", &words.money(quote.ceiling))])) }
        p.ways-on { a.button.primary href=(format!("/sessions/{}", quote.session)) { (words.t("driver.open")) } }
    }
}

fn spending(words: &Words, data: &Data) -> Markup {
    let most = data.months.values().map(|m| m.money.nano()).max();
    let most = most.unwrap_or(0).max(1);
    html! {
        h2 { (words.t("driver.spending")) }
        div.scroll tabindex="0" role="region" aria-label=(words.t("driver.spending")) { table.sums {
            thead { tr { th { (words.t("driver.month_head")) } th.n { (words.t("driver.sessions")) } th.n { "kWh" } th.n { (words.currency) } } }
            tbody { @for (month, sums) in data.months.iter().rev() { tr {
                th scope="row" { (words.month(*month))
                    svg.gauge viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
                        rect.track width="1000" height="10" {}
                        rect.fill width=(i128::from(sums.money.nano()) * 1_000 / i128::from(most)) height="10" {}
                    }
                }
                td.n { (sums.sessions) } td.n { (words.kwh(sums.energy)) } td.n { (words.amount(sums.money)) }
            } } }
        } }
        @if data.sessions.len() >= usize::try_from(drivers::SHOWN_MAX).unwrap_or(usize::MAX) {
            p.hint { (words.fill("driver.newest_only", &[("n", &drivers::SHOWN_MAX.to_string())])) }
        }
        p.csv { a href="/driver?format=csv" download { (words.t("chart.csv")) } }
    }
}

/// Past sessions, each with the way to its receipt.
fn list(words: &Words, past: &[&Running]) -> Markup {
    html! {
        h2 { (words.t("driver.past")) }
        @if past.is_empty() { p.empty { (words.t("driver.no_past")) } }
        ul.rows { @for one in past {
            @let quote = &one.promise.quote;
            @let is_closed = matches!(one.session.state(), State::Closed(_));
            @let has_receipt = is_closed && one.session.bill().is_some();
            @let (place, word) = if has_receipt { ("receipts", "driver.receipt") } else { ("sessions", "driver.look") };
            li { a.row href=(format!("/{place}/{}", quote.session)) {
                span.sign.car {}
                span.what { b { (words.energy(one.session.energy())) } " " (quote.station) }
                span.time { (words.moment(quote.offered_at)) }
                span.price { (words.money(spent(one))) }
                span.why { (words.t(word)) }
            } }
        } }
    }
}

fn rows(data: &Data) -> Vec<String> {
    let row = |one: &Running| {
        let quote = &one.promise.quote;
        let (energy, money) = (one.session.energy().wh(), spent(one));
        format!(
            "{},{},{},{energy},{money},{}",
            quote.session, quote.station, quote.offered_at, quote.currency
        )
    };
    std::iter::once("session,station,begun_at,energy_wh,total,currency".to_owned())
        .chain(data.sessions.iter().map(row))
        .collect()
}
