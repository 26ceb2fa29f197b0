//! `/grid/tokens`: tokens in and out, asked for by one person and confirmed by another; `/home/tokens`: a home's own.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::ids::{ParticipantId, from_hex, to_hex};
use domain::money::Money;
use domain::posting::{Asset, Chart};
use domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use settlement::service::{
    NewTokenRequest, TokenKind, TokenRequest, TokenState, balances_of, token_request,
    token_requests,
};

use super::Ask;
use crate::auth::{Posted, Role, Viewer};
use crate::platform::tokens::{self, NotTaken, Said};
use crate::web::field;
use crate::web::layout::Page;
use crate::web::words::Words;

/// Requests that are over, on one page.
const OVER: usize = 50;

/// What the form asks for.
#[derive(Deserialize, Default)]
pub(super) struct Asked {
    kind: String,
    participant: String,
    #[serde(default)]
    amount: String,
    reference: String,
    #[serde(default)]
    payout: String,
}

#[derive(Deserialize)]
pub(super) struct Nothing {}

/// `/grid/tokens`
pub(super) async fn board(ask: Ask) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    board_of(&ask, None).await
}

async fn board_of(ask: &Ask, wrong: Option<(&Asked, Markup)>) -> Result<Response, Response> {
    let requests = token_requests(&ask.web.shared.db, None).await;
    let requests = requests.map_err(|error| ask.failed("requests could not be read", &error))?;
    let is_wrong = wrong.is_some();
    let mut response = ask.show(&board_page(ask, &requests, wrong));
    if is_wrong {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

fn board_page(ask: &Ask, requests: &[TokenRequest], wrong: Option<(&Asked, Markup)>) -> Page {
    let (words, now) = (&ask.words, ask.web.accounts.now());
    let waits = |request: &&TokenRequest| can_be_taken_back(request, now);
    let open: Vec<&TokenRequest> = requests.iter().filter(waits).collect();
    let over: Vec<&TokenRequest> = requests.iter().filter(|r| !waits(r)).take(OVER).collect();
    let for_second = requests
        .iter()
        .filter(|r| r.state == TokenState::Open)
        .count();
    let typed = wrong.as_ref().map(|(asked, _)| *asked);
    Page {
        title: words.t("tokens.title").to_owned(),
        above: words.t("tokens.title").to_owned(),
        answer: match u64::try_from(for_second).unwrap_or(0) {
            0 => words.t("tokens.none").to_owned(),
            n => words.plural("tokens.waits_one", "tokens.waits_many", n),
        },
        below: html! { (words.t("tokens.rule")) },
        body: html! {
            @if let Some((_, wrong)) = &wrong { p.wrong role="alert" { (wrong) } }
            section.card {
                h2 { (words.t("tokens.waiting")) }
                @if open.is_empty() { p.calm { (words.t("tokens.none")) } }
                @for request in open { (waiting(ask, request, "/grid/tokens")) }
            }
            section.card { h2 { (words.t("tokens.new")) } (form(ask, typed)) }
            section.card { h2 { (words.t("tokens.over")) } (table(words, &over, true)) }
        },
        live: None,
    }
}

/// Whether a request waits, or is confirmed and does not count yet.
fn can_be_taken_back(request: &TokenRequest, now: Timestamp) -> bool {
    let to_come = request.counts_from.is_some_and(|from| now < from);
    match request.state {
        TokenState::Open => now < request.expires,
        TokenState::Confirmed => to_come,
        TokenState::Cancelled | TokenState::Expired => false,
    }
}

fn kind_word(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Deposit => "tokens.deposit",
        TokenKind::Withdrawal => "tokens.withdrawal",
        TokenKind::Payout => "tokens.payout",
    }
}

/// What is asked for, in a line.
fn line(words: &Words, request: &TokenRequest) -> String {
    let asked = &request.asked;
    let amount = words.money(asked.amount);
    let to = asked.payout.as_deref().or(request.paid_to.as_deref());
    let places = [("amount", amount.as_str()), ("to", to.unwrap_or("–"))];
    match asked.kind {
        TokenKind::Deposit => words.fill("tokens.line_deposit", &places[..1]),
        TokenKind::Withdrawal => words.fill("tokens.line_withdrawal", &places),
        TokenKind::Payout => words.fill("tokens.line_payout", &places[1..]),
    }
}

/// A request that can still be confirmed or taken back.
fn waiting(ask: &Ask, request: &TokenRequest, below: &str) -> Markup {
    let (words, viewer) = (&ask.words, &ask.viewer);
    let id = to_hex(&request.id);
    let is_own = request.by == viewer.by().account;
    let act = |step: &str, word: &'static str, class: &'static str| {
        html! { form method="post" action=(format!("{below}/{id}/{step}")) {
            (viewer.csrf_field()) button class=(class) { (words.t(word)) }
        } }
    };
    html! { article.wished {
        h3 { (line(words, request)) }
        dl.facts {
            dt { (words.t("tokens.household")) } dd { (request.asked.participant) }
            dt { (words.t("tokens.reference")) } dd { (request.asked.reference) }
            dt { (words.t("tokens.asked_by")) } dd { (request.by) ", " (words.moment(request.at)) }
            dt { (words.t("tokens.stands")) } dd { (state(words, request)) }
        }
        div.ways-on {
            @if request.state == TokenState::Open && viewer.is(Role::Operator) {
                @if is_own { p.hint { (words.t("tokens.another")) } }
                @else { (act("confirm", "tokens.confirm", "primary")) }
            }
            (act("cancel", "tokens.cancel", ""))
        }
    } }
}

fn state(words: &Words, request: &TokenRequest) -> String {
    let last = request.last.as_ref();
    let who = last.map_or("–", |(who, _)| who.as_str());
    let when = last.map_or_else(String::new, |(_, at)| words.moment(*at));
    let places = [("who", who), ("time", when.as_str())];
    match request.state {
        TokenState::Open => {
            words.fill("tokens.s_open", &[("time", &words.moment(request.expires))])
        }
        TokenState::Confirmed => match request.counts_from {
            Some(from) => words.fill(
                "tokens.s_counts",
                &[("who", who), ("time", &words.moment(from))],
            ),
            None => words.fill("tokens.s_confirmed", &places),
        },
        TokenState::Cancelled => words.fill("tokens.s_cancelled", &places),
        TokenState::Expired => words.t("tokens.s_expired").to_owned(),
    }
}

fn table(words: &Words, requests: &[&TokenRequest], with_household: bool) -> Markup {
    html! {
        @if requests.is_empty() { p.empty { (words.t("tokens.no_over")) } }
        @else { div.scroll tabindex="0" role="region" aria-label=(words.t("tokens.over")) { table {
            thead { tr {
                th { (words.t("tokens.what")) } @if with_household { th { (words.t("tokens.household")) } }
                th { (words.t("tokens.reference")) } th { (words.t("tokens.asked_by")) } th { (words.t("tokens.stands")) }
            } }
            tbody { @for request in requests { tr {
                td { (line(words, request)) } @if with_household { td { (request.asked.participant) } }
                td { (request.asked.reference) } td { (request.by) ", " (words.moment(request.at)) }
                td.wrap { (state(words, request)) }
            } } }
        } } }
    }
}

fn form(ask: &Ask, typed: Option<&Asked>) -> Markup {
    let words = &ask.words;
    let empty = Asked::default();
    let typed = typed.unwrap_or(&empty);
    html! { form.drop-in method="post" action="/grid/tokens" {
        (ask.viewer.csrf_field())
        div.entries {
            label { (words.t("tokens.what")) select name="kind" { @for kind in TokenKind::ALL {
                option value=(kind.word()) selected[kind.word() == typed.kind] { (words.t(kind_word(kind))) }
            } } }
            label { (words.t("tokens.household")) select name="participant" { @for one in &ask.web.shared.site.participants {
                option value=(one.id) selected[one.id.as_str() == typed.participant] { (one.id) }
            } } }
            label { (words.t("tokens.amount")) " " small { (words.currency) }
                input name="amount" inputmode="decimal" autocomplete="off" value=(typed.amount);
                small { (words.t("tokens.amount_hint")) } }
            label { (words.t("tokens.reference")) input name="reference" required maxlength="128" autocomplete="off" value=(typed.reference);
                small { (words.t("tokens.reference_hint")) } }
            label { (words.t("tokens.paid_to")) input name="payout" maxlength="128" autocomplete="off" value=(typed.payout);
                small { (words.t("tokens.paid_to_hint")) } }
        }
        button.primary { (words.t("tokens.ask")) }
    } }
}

fn read(words: &Words, form: &Asked) -> Result<NewTokenRequest, String> {
    let kind = TokenKind::ALL.into_iter().find(|k| k.word() == form.kind);
    let (amount, payout) = (form.amount.trim(), form.payout.trim());
    let amount = match amount {
        "" => Some(Money::ZERO),
        // Two decimals at most: 1.000 may be a thousand.
        text => field::decimal(text, 2, 9).map(|cents| Money::from_nano(cents * 10_000_000)),
    };
    let participant = ParticipantId::new(form.participant.trim());
    let wrong = || words.fill("tokens.wrong_amount", &[("text", &form.amount)]);
    Ok(NewTokenRequest {
        kind: kind.ok_or_else(|| words.t("tokens.wrong_kind").to_owned())?,
        participant: participant.map_err(|_| words.t("tokens.wrong_household").to_owned())?,
        amount: amount.ok_or_else(wrong)?,
        reference: form.reference.trim().to_owned(),
        payout: (!payout.is_empty()).then(|| payout.to_owned()),
    })
}

fn said<'a>(ask: &Ask, viewer: &'a Viewer) -> Said<'a> {
    Said {
        by: viewer.by(),
        at: ask.web.accounts.now(),
    }
}

/// What the books say to a step that they refuse; their sentence is in English.
#[expect(
    clippy::result_large_err,
    reason = "the answer is what a handler returns as it is"
)]
fn refused(ask: &Ask, not: NotTaken) -> Result<Markup, Response> {
    let words = &ask.words;
    match not {
        NotTaken::Refused(why) => {
            Ok(html! { (words.t("tokens.refused")) " " span lang="en" { (why) } })
        }
        NotTaken::StandsStill(why) => {
            Ok(html! { (words.t("tokens.stands_still")) " " span lang="en" { (why) } })
        }
        NotTaken::Failed(error) => {
            Err(ask.failed("tokens could not be moved", &format!("{error:#}")))
        }
    }
}

/// Asks for tokens in or out, or says what was wrong with it.
pub(super) async fn request(ask: Ask, posted: Posted<Asked>) -> Result<Response, Response> {
    operator(&ask, &posted.viewer)?;
    let wrong = match read(&ask.words, &posted.form) {
        Err(wrong) => html! { (wrong) },
        Ok(new) => match tokens::ask(&ask.web.shared, said(&ask, &posted.viewer), &new).await {
            Ok(_) => return Ok(Redirect::to("/grid/tokens").into_response()),
            Err(not) => refused(&ask, not)?,
        },
    };
    board_of(&ask, Some((&posted.form, wrong))).await
}

#[expect(
    clippy::result_large_err,
    reason = "the answer is what a handler returns as it is"
)]
fn operator(ask: &Ask, viewer: &Viewer) -> Result<(), Response> {
    match viewer.is(Role::Operator) {
        true => Ok(()),
        false => Err(ask.missing()),
    }
}

/// Confirms a request of somebody else, or takes one back.
pub(super) async fn step(
    ask: Ask,
    Path((id, step)): Path<(String, String)>,
    posted: Posted<Nothing>,
) -> Result<Response, Response> {
    operator(&ask, &posted.viewer)?;
    let Nothing {} = posted.form;
    let id = from_hex(&id).map_err(|_| ask.missing())?;
    let (shared, said) = (&ask.web.shared, said(&ask, &posted.viewer));
    let taken = match step.as_str() {
        "confirm" => tokens::confirm(shared, said, id).await,
        "cancel" => tokens::cancel(shared, said, id).await,
        _ => return Err(ask.missing()),
    };
    match taken {
        Ok(_) => Ok(Redirect::to("/grid/tokens").into_response()),
        Err(not) => board_of(&ask, Some((&Asked::default(), refused(&ask, not)?))).await,
    }
}

/// `/home/tokens`
pub(super) async fn own(ask: Ask) -> Result<Response, Response> {
    let home = ask.home()?;
    let page = own_page(&ask, &home, None).await;
    let page = page.map_err(|error| ask.failed("a home's tokens could not be read", &error))?;
    Ok(ask.show(&page))
}

async fn own_page(ask: &Ask, home: &ParticipantId, wrong: Option<Markup>) -> anyhow::Result<Page> {
    let (words, db, now) = (&ask.words, &ask.web.shared.db, ask.web.accounts.now());
    let requests = token_requests(db, Some(home)).await?;
    let balances = balances_of(db, home).await?;
    let available = balances
        .iter()
        .find(|b| b.asset == Asset::Token && b.account.chart() == Chart::Available);
    let available = Money::from_nano(available.map_or(0, |b| b.balance));
    let waits = |request: &&TokenRequest| can_be_taken_back(request, now);
    let open: Vec<&TokenRequest> = requests.iter().filter(waits).collect();
    let over: Vec<&TokenRequest> = requests.iter().filter(|r| !waits(r)).take(OVER).collect();
    Ok(Page {
        title: words.t("tokens.own_title").to_owned(),
        above: format!("{} · {home}", words.t("tokens.own_title")),
        answer: words.fill("tokens.own_answer", &[("amount", &words.money(available))]),
        below: html! { (words.t("tokens.own_below")) },
        body: html! {
            @if let Some(wrong) = wrong { p.wrong role="alert" { (wrong) } }
            @if let Some(change) = payout_change(&requests, now) { (notice(words, change)) }
            section.card {
                h2 { (words.t("tokens.waiting")) }
                @if open.is_empty() { p.calm { (words.t("tokens.none")) } }
                @for request in open { (waiting(ask, request, "/home/tokens")) }
            }
            section.card { h2 { (words.t("tokens.over")) } (table(words, &over, false)) }
        },
        live: None,
    })
}

/// The newest change of where withdrawals are paid to that is asked for or does not count yet.
pub(super) fn payout_change(requests: &[TokenRequest], now: Timestamp) -> Option<&TokenRequest> {
    let mut changes = requests
        .iter()
        .filter(|r| r.asked.kind == TokenKind::Payout);
    changes.find(|request| can_be_taken_back(request, now))
}

/// Told loudly: whoever changes where money goes may not be the household.
pub(super) fn notice(words: &Words, change: &TokenRequest) -> Markup {
    html! { p.wrong role="alert" {
        b { (line(words, change)) } " " (state(words, change)) " " (words.t("tokens.not_you")) " "
        a href="/home/tokens" { (words.t("tokens.own_title")) }
    } }
}

/// A home takes back what is asked for in its name.
pub(super) async fn take_back(
    ask: Ask,
    Path(id): Path<String>,
    posted: Posted<Nothing>,
) -> Result<Response, Response> {
    let home = posted.viewer.home().cloned().ok_or_else(|| ask.missing())?;
    let Nothing {} = posted.form;
    let id = from_hex(&id).map_err(|_| ask.missing())?;
    let known = token_request(&ask.web.shared.db, id).await;
    let known = known.map_err(|error| ask.failed("a request could not be read", &error))?;
    if known.is_none_or(|known| known.asked.participant != home) {
        return Err(ask.missing());
    }
    match tokens::cancel(&ask.web.shared, said(&ask, &posted.viewer), id).await {
        Ok(_) => Ok(Redirect::to("/home/tokens").into_response()),
        Err(not) => {
            let wrong = refused(&ask, not)?;
            let page = own_page(&ask, &home, Some(wrong)).await;
            let page =
                page.map_err(|error| ask.failed("a home's tokens could not be read", &error))?;
            let mut response = ask.show(&page);
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
            Ok(response)
        }
    }
}
