//! `/stations` and `/stations/{id}/{yyyy-mm}`: what a charging station brought, to whom it went, and whether it is worth
//! its costs; for its host, its owners and operators. Refused where it does not come to the ledger.

use axum::Json;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use chrono::{Months, NaiveDate};
use domain::money::Money;
use maud::{Markup, html};
use serde::Deserialize;
use settlement::calendar::{LocalMonth, Zone};
use settlement::charging::profit::{BreakEven, Figures, Report};
use settlement::service::{COMMUNITY_OWNER, ServiceError};

use super::{Ask, csv, private, statement};
use crate::view::calendar;
use crate::view::stations::{self, Known};
use crate::web::layout::Page;
use crate::web::words::Words;

/// What the form asks with, and in which form the answer is wanted.
#[derive(Deserialize)]
pub(super) struct Asked {
    maintenance_per_year: Option<String>,
    capital_per_year: Option<String>,
    #[serde(default)]
    format: String,
}

/// The stations that a viewer may see, with this month's shares.
pub(super) async fn list(ask: Ask) -> Result<Response, Response> {
    let _turn = ask.turn()?;
    let shared = &ask.web.shared;
    let seen = stations::seen_by(&shared.db, &shared.site, &ask.viewer).await;
    let seen = seen.map_err(|error| ask.failed("the stations could not be read", &error))?;
    if seen.is_empty() {
        return Err(ask.missing());
    }
    let now = ask.street.now;
    let first = first_of(&ask.words, now);
    let month = LocalMonth::containing(now, Zone::from(ask.words.zone));
    let month = month.map_err(|error| ask.failed("a month could not be read", &error))?;
    let mut made = Vec::with_capacity(seen.len());
    for station in seen {
        let report = read(&ask, &station, month, station.own_figures()).await?;
        made.extend(report.filter(|report| station.shows(&ask.viewer, report)));
    }
    let home = ask.viewer.home().map(ToString::to_string);
    let page = overview(&ask.words, &made, home.as_deref(), first);
    Ok(ask.show(&page))
}

fn first_of(words: &Words, now: domain::time::Timestamp) -> NaiveDate {
    let today = calendar::date(words.zone, now);
    chrono::Datelike::with_day(&today, 1).unwrap_or(today)
}

async fn read(
    ask: &Ask,
    station: &Known,
    month: LocalMonth,
    figures: Figures,
) -> Result<Option<Report>, Response> {
    let (db, now) = (&ask.web.shared.db, ask.street.now);
    let made = stations::report(db, station, month, figures, now).await;
    made.map_err(|error| match error.downcast_ref() {
        Some(ServiceError::Unequal(_)) => {
            statement::refused(ask, "stations.refused", &format!("{error:#}"))
        }
        _ => ask.failed("a station's month could not be read", &format!("{error:#}")),
    })
}

/// A party's name as people read it.
fn party<'n>(words: &Words, name: &'n str) -> &'n str {
    match name {
        COMMUNITY_OWNER => words.t("stations.the_community"),
        name => name,
    }
}

fn share_of(report: &Report, name: &str) -> Money {
    report.sums.shares.get(name).copied().unwrap_or_default()
}

fn overview(words: &Words, made: &[Report], home: Option<&str>, first: NaiveDate) -> Page {
    // A household sees its own share first, an operator the community's.
    let whose = home.unwrap_or(COMMUNITY_OWNER);
    let sum = made
        .iter()
        .map(|one| i128::from(share_of(one, whose).nano()));
    let sum = i64::try_from(sum.sum::<i128>()).map_or(Money::ZERO, Money::from_nano);
    let places = [
        ("month", &*words.month(first)),
        ("money", &*words.money(sum)),
    ];
    let head = match home {
        Some(_) => words.t("stations.your_share"),
        None => words.t("stations.community_share"),
    };
    Page {
        title: words.t("stations.title").to_owned(),
        above: words.month(first),
        answer: match home {
            Some(_) => words.fill("stations.yours", &places),
            None => words.fill("stations.communitys", &places),
        },
        below: html! { (words.t("stations.below")) },
        body: html! { section.card {
            h2 { (words.t("stations.title")) }
            div.scroll tabindex="0" role="region" aria-label=(words.t("stations.title")) { table {
                thead { tr {
                    th { (words.t("stations.station")) } th { (words.t("stations.host")) }
                    th.n { (words.t("stations.sessions")) } th.n { "kWh" }
                    th.n { (words.t("stations.paid")) " " (words.currency) } th.n { (head) " " (words.currency) }
                } }
                tbody { @for one in made { tr {
                    td { a href=(link(one, first)) { (one.station) } } td { (one.host) }
                    td.n { (one.sums.sessions) } td.n { (words.kwh(one.sums.energy)) }
                    td.n { (words.amount(one.sums.revenue().unwrap_or_default())) }
                    td.n { (words.amount(share_of(one, whose))) }
                } } }
            } }
        } },
        live: None,
    }
}

fn link(report: &Report, month: NaiveDate) -> String {
    format!("/stations/{}/{}", report.station, month.format("%Y-%m"))
}

/// A station's month.
pub(super) async fn show(
    ask: Ask,
    Path((id, month)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Response> {
    let _turn = ask.turn()?;
    let shared = &ask.web.shared;
    let station = stations::one_seen_by(&shared.db, &shared.site, &ask.viewer, &id).await;
    let station = station.map_err(|error| ask.failed("the stations could not be read", &error))?;
    let first = calendar::month_of(&month);
    let local = LocalMonth::parse(&month, Zone::from(ask.words.zone)).ok();
    let (Some(station), Some(first), Some(local)) = (station, first, local) else {
        return Err(ask.missing());
    };
    let (maintenance, capital) = (
        asked.maintenance_per_year.as_deref(),
        asked.capital_per_year.as_deref(),
    );
    let figures = stations::figures(&station, maintenance, capital);
    let wrong = figures
        .is_err()
        .then(|| ask.words.t("stations.wrong").to_owned());
    let figures = figures.unwrap_or_else(|_| station.own_figures());
    let made = read(&ask, &station, local, figures).await?;
    let made = made.filter(|made| station.shows(&ask.viewer, made));
    let made = made.ok_or_else(|| ask.missing())?;
    let name = format!("station-{id}-{month}");
    Ok(match asked.format.as_str() {
        "csv" => csv(&name, &[made.to_csv().trim_end().to_owned()]),
        "json" => private(Json(made.to_json()).into_response()),
        _ => {
            let words = &ask.words;
            let today = first_of(words, ask.street.now);
            let page = page(words, &made, (first, today), wrong.as_deref());
            ask.show(&page)
        }
    })
}

fn page(
    words: &Words,
    made: &Report,
    (first, today): (NaiveDate, NaiveDate),
    wrong: Option<&str>,
) -> Page {
    Page {
        title: format!("{} {}", made.station, words.month(first)),
        above: words.fill(
            "stations.above",
            &[("station", &made.station), ("host", &made.host)],
        ),
        answer: verdict(words, made, first),
        below: html! { (enough(words, made)) },
        body: html! {
            (months(words, made, first, today))
            @if made.profit.warns(made.is_over) {
                p.wrong role="status" { (words.t("stations.warning")) }
            }
            div.two {
                section.card { (income(words, made)) }
                section.card { (went(words, made)) }
            }
            section.card { (worth(words, made, wrong)) }
            p.csv {
                a href=(format!("{}?format=csv", link(made, first))) download { (words.t("chart.csv")) } " · "
                a href=(format!("{}?format=json", link(made, first))) download=(format!("station-{}-{}.json", made.station, made.month)) { "JSON" }
            }
        },
        live: None,
    }
}

/// What the month comes to, in the first line.
fn verdict(words: &Words, made: &Report, first: NaiveDate) -> String {
    let (month, money) = (words.month(first), words.money_abs(made.profit.result));
    let places = [("month", &*month), ("money", &*money)];
    match (made.is_over, made.profit.result < Money::ZERO) {
        (true, true) => words.fill("stations.loss", &places),
        (true, false) => words.fill("stations.gain", &places),
        (false, true) => words.fill("stations.lacks", &places),
        (false, false) => words.fill("stations.gain_so_far", &places),
    }
}

/// What it would take.
fn enough(words: &Words, made: &Report) -> String {
    let (profit, energy) = (&made.profit, words.energy(made.sums.energy));
    match (profit.break_even, profit.break_even_price) {
        (BreakEven::At(needed), _) if needed.is_positive() => words.fill(
            "stations.enough",
            &[("needed", &words.energy(needed)), ("energy", &energy)],
        ),
        (BreakEven::Never, Some(price)) => {
            words.fill("stations.never", &[("price", &words.price(price))])
        }
        (BreakEven::Unknown, _) => words.t("stations.nothing").to_owned(),
        _ => words.fill("stations.charged", &[("energy", &energy)]),
    }
}

fn months(words: &Words, made: &Report, first: NaiveDate, today: NaiveDate) -> Markup {
    let before = first.checked_sub_months(Months::new(1));
    let after = first.checked_add_months(Months::new(1));
    let after = after.filter(|month| *month <= today);
    html! {
        nav.picker aria-label=(words.t("statement.months")) {
            @if let Some(month) = before { a rel="prev" href=(link(made, month)) { "‹ " (words.month(month)) } }
            span.spring {}
            @if let Some(month) = after { a rel="next" href=(link(made, month)) { (words.month(month)) " ›" } }
        }
    }
}

/// A table of amounts with a sum below.
fn sums(words: &Words, title: &str, rows: &[(String, Money)], total: (&str, Money)) -> Markup {
    html! {
        h2 { (title) }
        div.scroll tabindex="0" role="region" aria-label=(title) { table.sums {
            tbody { @for (name, amount) in rows {
                tr { th scope="row" { (name) } td.n { (words.money(*amount)) } }
            } }
            tfoot { tr.total { th scope="row" { (total.0) } td.n { (words.money(total.1)) } } }
        } }
    }
}

fn less(amount: Money) -> Money {
    Money::from_nano(amount.nano().saturating_neg())
}

fn income(words: &Words, made: &Report) -> Markup {
    let (sums_of, income) = (&made.sums, &made.sums.income);
    let row = |key: &'static str, amount| (words.t(key).to_owned(), amount);
    let mut rows = vec![
        row("stations.energy", income.energy),
        row("stations.time", income.time),
        row("stations.parking", income.parking),
        row("stations.flat", income.flat),
    ];
    if income.limits != Money::ZERO {
        rows.push(row("stations.limits", income.limits));
    }
    rows.push(row("stations.tax", sums_of.tax));
    if sums_of.credits > 0 {
        rows.push(row("stations.given_back", less(sums_of.refunded)));
    }
    let paid = sums_of.revenue().unwrap_or_default();
    let sessions = words.plural(
        "stations.session_one",
        "stations.session_many",
        u64::from(sums_of.sessions),
    );
    html! {
        (sums(words, words.t("stations.income"), &rows, (words.t("stations.paid"), paid)))
        p.hint { (sessions) ", " (words.energy(sums_of.energy)) ". " (words.t("stations.before_tax")) }
        @if let Some(unpaid) = unpaid(words, made) { p.wrong { (unpaid) } }
    }
}

/// What was not paid.
fn unpaid(words: &Words, made: &Report) -> Option<String> {
    let count = u64::from(made.sums.unpaid);
    let sessions = words.plural("stations.session_one", "stations.session_many", count);
    let places = [
        ("sessions", &*sessions),
        ("money", &*words.money(made.sums.owed)),
    ];
    (count > 0).then(|| words.fill("stations.unpaid", &places))
}

/// What was passed through first, and then each share.
fn went(words: &Words, made: &Report) -> Markup {
    let sums_of = &made.sums;
    let row = |key: &'static str, amount| (words.t(key).to_owned(), amount);
    let tax = sums_of
        .tax
        .nano()
        .saturating_sub(sums_of.refunded_tax.nano());
    let mut rows = vec![
        row("stations.tax", Money::from_nano(tax)),
        row("stations.energy_cost", sums_of.cost.energy),
        row("stations.network_fee", sums_of.cost.network_fee),
    ];
    let outside = sums_of.outside.total().unwrap_or_default();
    if outside != Money::ZERO {
        rows.push(row("stations.outside", outside));
    }
    for (name, share) in &sums_of.shares {
        let points = made.owners.iter().find(|o| o.name == *name);
        let percent = points.map(|o| words.permille(i64::from(o.basis_points) / 10));
        let share_words = match percent {
            Some(percent) => words.fill(
                "stations.share",
                &[("name", party(words, name)), ("percent", &percent)],
            ),
            None => party(words, name).to_owned(),
        };
        rows.push((share_words, *share));
    }
    let paid = sums_of.revenue().unwrap_or_default();
    html! {
        (sums(words, words.t("stations.went"), &rows, (words.t("stations.paid"), paid)))
        p.hint { @match made.buys {
            true => (words.t("stations.buys")),
            false => (words.fill("stations.behind", &[("host", &made.host)])),
        } }
    }
}

/// Income less costs, and a form to try other figures.
fn worth(words: &Words, made: &Report, wrong: Option<&str>) -> Markup {
    let profit = &made.profit;
    let row = |key: &'static str, amount| (words.t(key).to_owned(), amount);
    let rows = [
        row("stations.income_left", profit.income),
        row("stations.energy_cost", less(profit.energy)),
        row("stations.network_fee", less(profit.network_fee)),
        row("stations.maintenance", less(profit.maintenance)),
        row("stations.capital", less(profit.capital)),
    ];
    html! {
        (sums(words, words.t("stations.worth"), &rows, (words.t("stations.result"), profit.result)))
        @if let (Some(price), Some(needed)) = (profit.price, profit.break_even_price) {
            p { (words.fill("stations.prices", &[("price", &words.price(price)), ("needed", &words.price(needed))])) }
        }
        form.wish method="get" {
            label { (words.t("stations.maintenance_year")) " " small { (words.currency) }
                input name="maintenance_per_year" inputmode="decimal" autocomplete="off" value=(made.figures.maintenance_per_year); }
            label { (words.t("stations.capital_year")) " " small { (words.currency) }
                input name="capital_per_year" inputmode="decimal" autocomplete="off" value=(made.figures.capital_per_year); }
            button { (words.t("stations.try")) }
        }
        @if let Some(wrong) = wrong { p.wrong role="alert" { (wrong) } }
        p.hint { (words.t("stations.figures")) }
    }
}
