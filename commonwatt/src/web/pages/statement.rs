//! `/home/statement/{yyyy-mm}`: what a month came to, line by line, as it stands in the ledger.

use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{Months, NaiveDate};
use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::Money;
use domain::quality::Quality;
use domain::receipt::Line;
use maud::{Markup, html};
use serde::Deserialize;
use settlement::service::ParticipantMoney;

use super::{Ask, csv};
use crate::platform::utility_alone;
use crate::view::calendar::{self, Span};
use crate::web::layout::Page;
use crate::web::words::Words;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    format: String,
}

struct Data {
    month: NaiveDate,
    this_month: NaiveDate,
    money: ParticipantMoney,
    /// Energy behind the money.
    sold: Energy,
    bought: Energy,
    pooled: [Energy; 2],
    utility: [Energy; 2],
    imported: Energy,
    exported: Energy,
    utility_alone: Money,
    /// Settled intervals, and those of them with a value that was put in for a missing one.
    settled: usize,
    substituted: usize,
    /// Settled so far that nothing but a dispute changes it.
    last: usize,
    due: i64,
    /// Intervals of the whole month.
    all: i64,
}

/// The newest month.
pub(super) async fn newest(ask: Ask) -> Result<Response, Response> {
    ask.home()?;
    let today = calendar::date(ask.words.zone, ask.street.now);
    Ok(Redirect::to(&format!("/home/statement/{}", today.format("%Y-%m"))).into_response())
}

pub(super) async fn show(
    ask: Ask,
    Path(month): Path<String>,
    asked: Query<Asked>,
) -> Result<Response, Response> {
    let home = ask.home()?;
    let today = calendar::date(ask.words.zone, ask.street.now);
    let month = calendar::month_of(&month).filter(|month| *month <= today);
    let month = month.ok_or_else(|| ask.missing())?;
    let data = read(&ask, &home, month).await;
    let data = data.map_err(|error| ask.failed("a statement could not be read", &error))?;
    if asked.format == "csv" {
        let name = format!("statement-{home}-{}", month.format("%Y-%m"));
        return Ok(csv(&name, &lines(&data)));
    }
    Ok(ask.show(&page(&ask.words, &home, &data)))
}

async fn read(ask: &Ask, home: &ParticipantId, month: NaiveDate) -> anyhow::Result<Data> {
    let (shared, words, now) = (&ask.web.shared, &ask.words, ask.street.now);
    let span = calendar::month(words.zone, month);
    let money = settlement::service::money_of(&shared.db, home, span.from, span.to).await?;
    let lines = settlement::service::lines_of(&shared.db, home, span.from, span.to).await?;
    let sum = |of: &dyn Fn(&Line) -> i64| Energy::from_wh(lines.iter().map(of).sum());
    let flows = lines.iter().map(|line| {
        (
            line.interval,
            line.delivery.imported,
            line.delivery.exported,
        )
    });
    let alone = utility_alone(shared, flows);
    let points = settlement::service::point_states(&shared.db, Some(home), now, now).await?;
    let since = points.iter().map(|point| point.since).min();
    let until = Span {
        from: span.from.max(since.unwrap_or(span.from)),
        to: span.to.min(now),
    };
    let is_put_in = |line: &&Line| line.delivery.quality.has(Quality::SUBSTITUTED);
    Ok(Data {
        month,
        this_month: calendar::date(words.zone, now),
        sold: sum(&|line| line.delivery.sold.wh()),
        bought: sum(&|line| line.delivery.bought.wh()),
        pooled: [
            sum(&|line| line.pooled_wh.wh().max(0)),
            sum(&|line| (-line.pooled_wh.wh()).max(0)),
        ],
        utility: [
            sum(&|line| line.utility_wh.wh().max(0)),
            sum(&|line| (-line.utility_wh.wh()).max(0)),
        ],
        imported: sum(&|line| line.delivery.imported.wh()),
        exported: sum(&|line| line.delivery.exported.wh()),
        utility_alone: alone.unwrap_or(Money::ZERO),
        settled: lines.len(),
        substituted: lines.iter().filter(is_put_in).count(),
        last: lines
            .iter()
            .filter(|line| line.run.code() >= domain::posting::Run::Final.code())
            .count(),
        all: span.intervals(shared.site.interval_length_s),
        due: until.intervals(shared.site.interval_length_s).max(0),
        money,
    })
}

fn paid(money: Money) -> Money {
    Money::from_nano(money.nano().saturating_neg())
}

/// The statement's rows: what, the energy behind it, the money, above zero received.
fn rows(data: &Data) -> [(&'static str, Option<Energy>, Money); 5] {
    let money = &data.money;
    let net = |[given, taken]: [Energy; 2]| given.checked_sub(taken);
    [
        ("money.sold", Some(data.sold), money.sold),
        ("money.bought", Some(data.bought), paid(money.bought)),
        ("money.fees", Some(data.bought), paid(money.fees)),
        ("money.pool", net(data.pooled), money.pool),
        ("money.utility", net(data.utility), money.utility),
    ]
}

fn lines(data: &Data) -> Vec<String> {
    let line = |(key, energy, money): (&str, Option<Energy>, Money)| {
        let name = key.split_once('.').map_or(key, |(_, name)| name);
        let energy = energy.map_or_else(String::new, |energy| energy.wh().to_string());
        format!("{name},{energy},{money}")
    };
    let mut lines = vec!["item,energy_wh,amount".to_owned()];
    lines.extend(rows(data).into_iter().map(line));
    lines.push(format!("net,,{}", data.money.net));
    lines.push(format!("utility_alone,,{}", data.utility_alone));
    lines
}

fn page(words: &Words, home: &ParticipantId, data: &Data) -> Page {
    let net = data.money.net;
    let key = if net.nano() < 0 {
        "statement.cost"
    } else {
        "statement.earned"
    };
    let month = words.month(data.month);
    let answer = if data.settled == 0 {
        words.fill("statement.empty", &[("month", &month)])
    } else {
        words.fill(key, &[("amount", &words.money_abs(net)), ("month", &month)])
    };
    Page {
        title: words.fill("statement.title", &[("month", &month)]),
        above: home.to_string(),
        answer,
        below: html! { (below(words, data)) },
        body: html! {
            (picker(words, data))
            section.card.letter { (table(words, data)) }
            div.two {
                section.card { (never_worse(words, data)) }
                section.card { (state(words, data)) }
            }
        },
        live: None,
    }
}

fn below(words: &Words, data: &Data) -> String {
    let better = data
        .money
        .net
        .checked_sub(data.utility_alone)
        .unwrap_or(Money::ZERO);
    let key = if better.nano() < 0 {
        "statement.worse"
    } else {
        "statement.better"
    };
    words.fill(key, &[("amount", &words.money_abs(better))])
}

fn picker(words: &Words, data: &Data) -> Markup {
    let link = |month: NaiveDate| format!("/home/statement/{}", month.format("%Y-%m"));
    let before = data.month.checked_sub_months(Months::new(1));
    let after = data
        .month
        .checked_add_months(Months::new(1))
        .filter(|m| *m <= data.this_month);
    html! {
        nav.picker aria-label=(words.t("statement.months")) {
            @if let Some(month) = before { a rel="prev" href=(link(month)) { "‹ " (words.month(month)) } }
            span.spring {}
            @if let Some(month) = after { a rel="next" href=(link(month)) { (words.month(month)) " ›" } }
        }
    }
}

fn table(words: &Words, data: &Data) -> Markup {
    let csv = format!("/home/statement/{}?format=csv", data.month.format("%Y-%m"));
    html! {
        h2 { (words.t("statement.lines")) }
        div.scroll tabindex="0" role="region" aria-label=(words.t("statement.lines")) { table.sums {
            thead { tr { th {} th.n { "kWh" } th.n { (words.currency) } } }
            tbody { @for (word, energy, money) in rows(data) { tr {
                th scope="row" { (words.t(word)) }
                td.n { @match energy { Some(energy) => (words.kwh(energy)), None => "–" } }
                td.n { (words.amount(money)) }
            } } }
            tfoot { tr.total { th scope="row" { (words.t("money.net")) } td {} td.n { (words.amount(data.money.net)) } } }
        } }
        p.hint { (words.t("statement.signs")) }
        p.csv { a href=(csv) download { (words.t("chart.csv")) } }
    }
}

fn never_worse(words: &Words, data: &Data) -> Markup {
    let better = data
        .money
        .net
        .checked_sub(data.utility_alone)
        .unwrap_or(Money::ZERO);
    html! {
        h2 { (words.t("statement.never_worse")) }
        table.sums {
            tbody {
                tr { th scope="row" { (words.t("statement.metered_in")) } td.n { (words.energy(data.imported)) } }
                tr { th scope="row" { (words.t("statement.metered_out")) } td.n { (words.energy(data.exported)) } }
                tr { th scope="row" { (words.t("money.utility_alone")) } td.n { (words.money(data.utility_alone)) } }
                tr { th scope="row" { (words.t("money.net")) } td.n { (words.money(data.money.net)) } }
            }
            tfoot { tr.total { th scope="row" { (words.t("money.better")) } td.n { (words.money(better)) } } }
        }
    }
}

fn state(words: &Words, data: &Data) -> Markup {
    let (settled, due) = (data.settled.to_string(), data.due.to_string());
    html! {
        h2 { (words.t("statement.data")) }
        dl.facts {
            dt { (words.t("statement.settled")) }
            dd { (words.fill("devices.of", &[("n", &settled), ("all", &due)])) }
            dt { (words.t("statement.put_in")) } dd { (data.substituted) }
            dt { (words.t("statement.final")) } dd { (data.last) }
            dt { (words.t("statement.in_month")) } dd { (data.all) }
        }
        p.hint { (words.t("page.provisional")) }
        p { a href="/home/trades" { (words.t("home.all_trades")) } }
    }
}
