//! `/home/statement/{yyyy-mm}`: what a month came to, as its statement has it: refused where that does not come to
//! the ledger. As CSV, as JSON, and as a document for the printer.

use axum::Json;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{Months, NaiveDate};
use maud::{Markup, html};
use serde::Deserialize;
use settlement::calendar::{LocalMonth, Zone};
use settlement::service::{ServiceError, statement};
use settlement::statement::Statement;

use super::{Ask, csv, private};
use crate::view::calendar;
use crate::web::bill;
use crate::web::layout::Page;
use crate::web::words::Words;

/// The print carries its style in itself, so that it can be kept, and nothing else.
const BILL_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    format: String,
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
    let first = calendar::month_of(&month).filter(|month| *month <= today);
    let local = LocalMonth::parse(&month, Zone::from(ask.words.zone)).ok();
    let (Some(first), Some(local)) = (first, local) else {
        return Err(ask.missing());
    };
    let (shared, now) = (&ask.web.shared, ask.street.now);
    let (community, length_s) = (&shared.site.community, shared.site.interval_length_s);
    let made = match statement(&shared.db, community, length_s, &home, local, now).await {
        Ok(Some(made)) => made,
        Ok(None) => return Err(ask.missing()),
        Err(error @ ServiceError::Statement(_)) => {
            return Err(refused(&ask, "statement.refused", &error));
        }
        Err(error) => return Err(ask.failed("a statement could not be read", &error)),
    };
    let name = format!("statement-{home}-{month}");
    Ok(match asked.format.as_str() {
        "csv" => csv(&name, &[made.to_csv().trim_end().to_owned()]),
        "json" => private(Json(made).into_response()),
        "html" => {
            let kind = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CONTENT_SECURITY_POLICY, BILL_POLICY),
            ];
            private((kind, bill::document(&ask.words, &made)).into_response())
        }
        _ => ask.show(&page(&ask.words, &made, first, today)),
    })
}

/// What does not come to the ledger is not shown, and the operator's log says by how much.
pub(super) fn refused(ask: &Ask, title: &'static str, error: &dyn std::fmt::Display) -> Response {
    tracing::error!(%error, "a statement was refused");
    let words = &ask.words;
    let page = Page {
        title: words.t(title).to_owned(),
        above: String::new(),
        answer: words.t(title).to_owned(),
        below: html! { (words.t("statement.refused_why")) },
        body: html! {},
        live: None,
    };
    let mut response = ask.show(&page);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn page(words: &Words, made: &Statement, first: NaiveDate, today: NaiveDate) -> Page {
    let month = words.month(first);
    let data = &made.total.data;
    let answer = match data.not_settled == made.total.intervals {
        true => words.fill("statement.empty", &[("month", &month)]),
        false => bill::answer(words, made.total.net, &month),
    };
    Page {
        title: words.fill("statement.title", &[("month", &month)]),
        above: made.participant.to_string(),
        answer,
        below: html! { (bill::better(words, made.alone.better_by)) },
        body: html! {
            (picker(words, first, today))
            section.card.letter { (table(words, made)) }
            div.two {
                section.card { (never_worse(words, made)) }
                section.card { (state(words, made)) }
            }
        },
        live: None,
    }
}

fn picker(words: &Words, first: NaiveDate, today: NaiveDate) -> Markup {
    let link = |month: NaiveDate| format!("/home/statement/{}", month.format("%Y-%m"));
    let before = first.checked_sub_months(Months::new(1));
    let after = first
        .checked_add_months(Months::new(1))
        .filter(|m| *m <= today);
    html! {
        nav.picker aria-label=(words.t("statement.months")) {
            @if let Some(month) = before { a rel="prev" href=(link(month)) { "‹ " (words.month(month)) } }
            span.spring {}
            @if let Some(month) = after { a rel="next" href=(link(month)) { (words.month(month)) " ›" } }
        }
    }
}

fn table(words: &Words, made: &Statement) -> Markup {
    let (total, alone) = (&made.total, &made.alone);
    let link = |format: &str| format!("/home/statement/{}?format={format}", made.month);
    html! {
        h2 { (words.t("statement.lines")) }
        div.scroll tabindex="0" role="region" aria-label=(words.t("statement.lines")) { table.sums {
            thead { tr { th {} th.n { "kWh" } th.n { (words.currency) } } }
            tbody { @for item in bill::items(total) { tr {
                th scope="row" { (words.t(item.word)) }
                td.n { (item.energy(words)) }
                td.n { (words.amount(item.money)) }
            } } }
            tfoot {
                tr.total { th scope="row" { (words.t("money.net")) } td {} td.n { (words.amount(total.net)) } }
                tr { th scope="row" { (words.t("money.utility_alone")) } td {} td.n { (words.amount(alone.net)) } }
            }
        } }
        p.hint { (words.t("statement.signs")) }
        p.csv {
            a href=(link("html")) { (words.t("bill.print")) } " · "
            a href=(link("csv")) download { (words.t("chart.csv")) } " · "
            a href=(link("json")) download=(format!("statement-{}-{}.json", made.participant, made.month)) { (words.t("bill.json")) }
        }
    }
}

fn never_worse(words: &Words, made: &Statement) -> Markup {
    let (total, alone) = (&made.total, &made.alone);
    html! {
        h2 { (words.t("statement.never_worse")) }
        table.sums {
            tbody {
                tr { th scope="row" { (words.t("statement.metered_in")) } td.n { (words.energy(total.imported)) } }
                tr { th scope="row" { (words.t("statement.metered_out")) } td.n { (words.energy(total.exported)) } }
                tr { th scope="row" { (words.t("money.utility_alone")) } td.n { (words.money(alone.net)) } }
                tr { th scope="row" { (words.t("money.net")) } td.n { (words.money(total.net)) } }
            }
            tfoot { tr.total { th scope="row" { (words.t("money.better")) } td.n { (words.money(alone.better_by)) } } }
        }
    }
}

fn state(words: &Words, made: &Statement) -> Markup {
    let data = &made.total.data;
    html! {
        h2 { (words.t("statement.data")) }
        dl.facts {
            dt { (words.t("bill.measured")) } dd { (data.measured) }
            dt { (words.t("bill.estimated")) } dd { (data.estimated) }
            dt { (words.t("bill.missing")) } dd { (data.missing) }
            dt { (words.t("bill.not_settled")) } dd { (data.not_settled) }
            dt { (words.t("bill.corrected")) } dd { (data.corrected) }
            dt { (words.t("statement.in_month")) } dd { (made.total.intervals) }
        }
        p.hint { (words.t("page.provisional")) }
        p { a href="/home/trades" { (words.t("home.all_trades")) } }
    }
}
