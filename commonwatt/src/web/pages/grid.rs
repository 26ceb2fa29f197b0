//! `/grid` for the operator: calm and grey while all is normal; `/grid/data`, how complete the books are;
//! `/grid/log`, what operators and admins did.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use domain::key_record::PointRole;
use domain::time::Interval;
use maud::{Markup, html};
use serde::Deserialize;
use settlement::service::{IntervalTotals, PAGE_MAX, PointState};

use super::street::{HOMES_MIN, tile};
use super::{Ask, alarms, board, csv, feeder, section};
use crate::auth::Role;
use crate::view::Street;
use crate::view::alarms::{Board, Priority};
use crate::view::calendar;
use crate::view::grid::{complete, completeness, expected};
use crate::web::chart::{self, Exchanged};
use crate::web::layout::{Page, first_lines};
use crate::web::number::is_old;
use crate::web::words::Words;
use crate::web::{Section, Web, live};

/// The span of the data board.
const DAY_S: i64 = 86_400;
/// Alarms on the overview.
const TOP_ALARMS: usize = 5;
/// Points listed on one page; a CSV has them all.
const POINTS_SHOWN: usize = 300;
/// How often an open page looks up how complete the data are.
const SHARE_EVERY: Duration = Duration::from_secs(15);
/// Entries of the list of who did what.
const DEEDS: u32 = 100;

pub(super) async fn show(ask: Ask) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    let read = read(&ask).await;
    let (states, totals) =
        read.map_err(|error| ask.failed("the grid could not be read", &error))?;
    let charts = feeder::charts(&ask).await;
    let charts = charts.map_err(|error| ask.failed("a feeder could not be read", &error))?;
    let (words, street, board) = (&ask.words, &ask.street, board(&ask.web));
    let now = street.now;
    let share = complete(&states, now.plus_s(-DAY_S), now, street.open.length_s());
    let rating = charts.first().map_or(0, |chart| chart.rating_w);
    let next = charts.iter().filter_map(|chart| chart.tight(words)).next();
    let mut page = head(words, street, &board, rating);
    page.body = html! {
        section id="now" aria-label=(words.t("grid.now")) { (now_tiles(words, street, &board, share)) }
        @if let Some(next) = next { p.hint { (next) } }
        (chart::patterns())
        div.lead {
            div.stack { @for chart in &charts { section.card { (chart.picture(words))
                p { a href=(format!("/grid/feeders/{}", chart.point)) { (words.t("grid.to_feeder")) } } } } }
            section.card id="alarms" aria-label=(words.t("nav.alarms")) { (top_alarms(words, street, &board)) }
        }
        section.card { (members(words, street, &totals)) }
        p.ways-on {
            a.button href="/grid/activations" { (words.t("limits.history")) }
            a.button href="/grid/tokens" { (words.t("grid.to_tokens")) }
            @if !ask.web.shared.site.stations.is_empty() {
                a.button href="/stations" { (words.t("stations.title")) }
            }
        }
    };
    Ok(ask.show(&page))
}

async fn read(ask: &Ask) -> anyhow::Result<(Vec<PointState>, Vec<IntervalTotals>)> {
    let (db, now) = (&ask.web.shared.db, ask.street.now);
    let from = now.plus_s(-DAY_S);
    let states = settlement::service::point_states(db, None, from, now).await?;
    let data = settlement::service::data_page(db, (from, now), PAGE_MAX).await?;
    // Homes with a reading of their own, by the interval's start: a sum of fewer would show one of them.
    let homes: BTreeMap<_, _> = data.iter().map(|d| (d.start, d.connections)).collect();
    let enough = |start| homes.get(&start).is_some_and(|n| hides_each(*n));
    let mut totals = settlement::service::interval_totals(db, from, now).await?;
    totals.retain(|total| enough(total.start));
    Ok((states, totals))
}

/// Whether a sum over so many homes hides each of them.
fn hides_each(homes: i64) -> bool {
    usize::try_from(homes).is_ok_and(|n| n >= HOMES_MIN)
}

pub(super) async fn events(ask: Ask) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    let words = Arc::new(ask.words.clone());
    let (web, rating) = (ask.web.clone(), feeder::rating(&ask));
    let share = Arc::new(tokio::sync::Mutex::new(Share::default()));
    let sections = move |street: Arc<Street>| {
        let (words, web, share) = (Arc::clone(&words), web.clone(), Arc::clone(&share));
        async move {
            let share = share.lock().await.of(&web, &street).await;
            sections(&words, &street, &board(&web), rating, share)
        }
    };
    Ok(live(ask.web, &ask.viewer, sections).into_response())
}

/// How complete the data are, for one listener: looked up now and then, not with every value that comes.
#[derive(Default)]
struct Share {
    known: Option<i64>,
    looked_up: Option<tokio::time::Instant>,
}

impl Share {
    async fn of(&mut self, web: &Web, street: &Street) -> Option<i64> {
        let is_fresh = |at: tokio::time::Instant| at.elapsed() < SHARE_EVERY;
        if self.looked_up.is_some_and(is_fresh) {
            return self.known;
        }
        let (now, length_s) = (street.now, street.open.length_s());
        let from = now.plus_s(-DAY_S);
        match settlement::service::point_states(&web.shared.db, None, from, now).await {
            Ok(states) => self.known = complete(&states, from, now, length_s),
            Err(error) => tracing::error!("meters could not be read: {error:#}"),
        }
        self.looked_up = Some(tokio::time::Instant::now());
        self.known
    }
}

fn sections(
    words: &Words,
    street: &Street,
    board: &Board,
    rating_w: i64,
    share: Option<i64>,
) -> Vec<Section> {
    let head = head(words, street, board, rating_w);
    vec![
        section("answer", first_lines(&head)),
        section("now", now_tiles(words, street, board, share)),
        section("alarms", top_alarms(words, street, board)),
    ]
}

fn head(words: &Words, street: &Street, board: &Board, rating_w: i64) -> Page {
    let date = calendar::date(words.zone, street.now);
    Page {
        title: words.t("nav.grid").to_owned(),
        above: format!("{}, {}", words.long_date(date), words.clock(street.now)),
        answer: answer(words, street, board, rating_w),
        below: html! { (words.fill("grid.below", &[
            ("homes", &street.homes.len().to_string()), ("time", &words.clock(street.gate_closes)),
        ])) },
        body: html! {},
        live: Some("/grid/events".into()),
    }
}

/// The state in a word, how full the transformer is, and which way power flows.
fn answer(words: &Words, street: &Street, board: &Board, rating_w: i64) -> String {
    let worst = board.asking().map(|(kind, _)| kind.priority()).min();
    let state = match worst {
        None => words.t("grid.normal"),
        Some(Priority::High) => words.t("grid.act_now"),
        Some(Priority::Medium) => words.t("grid.look"),
        Some(Priority::Low) => words.t("grid.note"),
    };
    match street.feeder_w {
        Some(w) if is_old(street.now, street.open.length_s(), w) => words.fill(
            "grid.answer_old",
            &[("state", state), ("time", &words.clock(w.read_at))],
        ),
        Some(w) => {
            let way = if w.value < 0 {
                "grid.export"
            } else {
                "grid.import"
            };
            words.fill(
                "grid.answer",
                &[
                    ("state", state),
                    ("load", &words.share(w.value.abs(), rating_w)),
                    ("way", words.t(way)),
                    ("power", &words.kilowatts(w.value)),
                ],
            )
        }
        None => words.fill("grid.answer_unknown", &[("state", state)]),
    }
}

fn now_tiles(words: &Words, street: &Street, board: &Board, share: Option<i64>) -> Markup {
    let live = words.live(street.now, street.open.length_s(), street.feeder_w);
    let read = street
        .feeder_w
        .map_or_else(String::new, |w| words.ago(street.now.ms_since(w.read_at)));
    let way = match street.feeder_w {
        Some(w) if w.value < 0 => words.t("grid.export"),
        _ => words.t("grid.import"),
    };
    let (price, volume) = street
        .cleared
        .as_ref()
        .map_or((None, None), |c| (c.price, Some(c.volume)));
    html! {
        dl.tiles {
            (tile(way, &live, &format!("{} · {read}", words.t("grid.exchange"))))
            (tile(words.t("nav.alarms"), &html! { (board.asking().count()) }, &rate_words(words, street, board)))
            (tile(words.t("grid.complete"), &html! { @match share { Some(share) => (words.permille(share)), None => "–" } },
                words.t("grid.complete_hint")))
            (tile(words.t("chart.local_price"), &html! { @match price { Some(price) => (words.price(price)), None => "–" } },
                &volume.map_or_else(String::new, |v| words.fill("grid.volume", &[("energy", &words.energy(v))]))))
        }
    }
}

fn rate_words(words: &Words, street: &Street, board: &Board) -> String {
    let rate = u64::try_from(board.rate(street.now)).unwrap_or(0);
    words.plural("grid.rate_one", "grid.rate_many", rate)
}

fn top_alarms(words: &Words, street: &Street, board: &Board) -> Markup {
    html! {
        h2 { (words.t("nav.alarms")) }
        @if board.asking().next().is_none() { p.calm { (words.t("alarms.none")) } }
        ul.alarms { @for (kind, open) in board.asking().take(TOP_ALARMS) {
            li { (alarms::alarm(words, street.now, kind, open)) }
        } }
        p { a href="/grid/alarms" { (words.t("alarms.all")) } }
    }
}

/// The homes together, interval by interval from the first settled one on; those in which too few of them had a
/// reading are left blank.
fn members(words: &Words, street: &Street, totals: &[IntervalTotals]) -> Markup {
    let title = words.t("grid.members");
    let bars = exchanged(totals, street.open.length_s());
    let first = bars.first().map(|(interval, _)| interval.start());
    let begun = first.filter(|first| street.now.ms_since(*first) < (DAY_S - 3_600) * 1_000);
    html! {
        @if street.homes.len() < HOMES_MIN || bars.is_empty() {
            h2 { (title) }
            p.empty { @if street.homes.len() < HOMES_MIN { (words.t("street.too_few")) } @else { (words.t("grid.no_totals")) } }
        } @else {
            (chart::figure(words, &chart::exchange(words, title, &bars)))
            p.hint { @match begun {
                Some(begun) => (words.fill("grid.settled_since", &[("time", &words.since(begun, street.now))])),
                None => (words.t("grid.members_hint")),
            } }
        }
    }
}

/// Every interval from the first total to the last one.
fn exchanged(totals: &[IntervalTotals], length_s: u32) -> Vec<(Interval, Option<Exchanged>)> {
    let of = |total: &IntervalTotals| Interval::containing(total.start, length_s).ok();
    let (Some(first), Some(last)) = (totals.first().and_then(of), totals.last().and_then(of))
    else {
        return Vec::new();
    };
    let known: BTreeMap<_, _> = totals.iter().map(|total| (total.start, total)).collect();
    let exchanged = |total: &&IntervalTotals| Exchanged {
        imported: total.imported,
        exported: total.exported,
        lost: total.feeder_metered.then_some(total.lost),
        substituted: total.substituted,
    };
    let intervals = (0..).map(|n| first.offset(n));
    let intervals = intervals.take_while(|interval| *interval <= last);
    intervals
        .map(|interval| (interval, known.get(&interval.start()).map(exchanged)))
        .collect()
}

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    format: String,
}

/// Which meter, how many quarter-hours, what was wrong. No energy of any home.
pub(super) async fn data(ask: Ask, asked: Query<Asked>) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    let now = ask.street.now;
    let from = now.plus_s(-DAY_S);
    let db = &ask.web.shared.db;
    let states = settlement::service::point_states(db, None, from, now).await;
    let mut states = states.map_err(|error| ask.failed("meters could not be read", &error))?;
    let length_s = ask.street.open.length_s();
    let due = |state: &PointState| expected(state, from, now, length_s);
    if asked.format == "csv" {
        let line = |s: &PointState| {
            let newest = s
                .newest
                .map_or_else(String::new, |(start, _)| start.to_string());
            format!(
                "{},{},{},{},{},{},{},{newest}",
                s.point,
                s.gateway,
                due(s),
                s.accepted,
                s.estimated,
                s.unsynchronised,
                s.refused
            )
        };
        let head =
            "point,gateway,due,accepted,estimated,clock_not_checked,refused,newest_interval_start";
        let lines: Vec<String> = std::iter::once(head.to_owned())
            .chain(states.iter().map(line))
            .collect();
        return Ok(csv("data-quality", &lines));
    }
    let words = &ask.words;
    let share = complete(&states, from, now, length_s);
    let unproven = settlement::service::unproven_since(db, from).await;
    let unproven = unproven.map_err(|error| ask.failed("refusals could not be read", &error))?;
    // The worst first.
    states.sort_by_key(|s| {
        (
            completeness(s.accepted, due(s)).unwrap_or(1000),
            s.point.clone(),
        )
    });
    let page = Page {
        title: words.t("nav.data").to_owned(),
        above: words.t("grid.last_day").to_owned(),
        answer: match share {
            Some(share) => words.fill("grid.verified", &[("share", &words.permille(share))]),
            None => words.t("grid.nothing_due").to_owned(),
        },
        below: html! { (words.t("grid.verified_hint")) },
        body: html! {
            section.card { (points(words, &ask, &states)) }
            section.card { (refusals(words, &unproven)) }
        },
        live: None,
    };
    Ok(ask.show(&page))
}

fn points(words: &Words, ask: &Ask, states: &[PointState]) -> Markup {
    let (now, length_s) = (ask.street.now, ask.street.open.length_s());
    let from = now.plus_s(-DAY_S);
    let role = |role| match role {
        PointRole::Connection => words.t("devices.connection"),
        PointRole::Feeder => words.t("devices.feeder"),
        PointRole::Submeter => words.t("devices.submeter"),
    };
    html! {
        h2 { (words.t("grid.per_meter")) }
        div.scroll tabindex="0" role="region" aria-label=(words.t("grid.per_meter")) { table {
            thead { tr {
                th { (words.t("grid.meter")) } th { (words.t("grid.role")) } th.n { (words.t("grid.share")) }
                th.n { (words.t("grid.missing")) } th.n { (words.t("devices.estimated")) }
                th.n { (words.t("devices.refused")) } th { (words.t("devices.newest")) }
            } }
            tbody { @for state in states.iter().take(POINTS_SHOWN) {
                @let due = expected(state, from, now, length_s);
                @let share = completeness(state.accepted, due);
                tr.bad[share.is_some_and(|share| share < 990)] {
                    td { (state.point) } td { (role(state.role)) }
                    td.n { @match share { Some(share) => (words.permille(share)), None => "–" } }
                    td.n { ((due - state.accepted).max(0)) } td.n { (state.estimated) } td.n { (state.refused) }
                    td { @match state.newest { Some((start, _)) => (words.moment(start)), None => (words.t("number.missing")) } }
                }
            } }
        } }
        @if states.len() > POINTS_SHOWN { p.hint { (words.fill("grid.more", &[("n", &(states.len() - POINTS_SHOWN).to_string())])) } }
        p.csv { a href="/grid/data?format=csv" download { (words.t("chart.csv")) } }
    }
}

fn refusals(words: &Words, unproven: &[(String, String, i64, domain::time::Timestamp)]) -> Markup {
    html! {
        h2 { (words.t("grid.unproven")) }
        @if unproven.is_empty() { p.calm { (words.t("grid.unproven_none")) } }
        @else { div.scroll tabindex="0" role="region" aria-label=(words.t("grid.unproven")) { table {
            thead { tr { th { (words.t("grid.gateway")) } th { (words.t("grid.reason")) } th.n { (words.t("grid.messages")) } th { (words.t("devices.newest")) } } }
            tbody { @for (gateway, reason, count, at) in unproven { tr {
                td { (gateway) } td { code { (reason) } } td.n { (count) } td { (words.moment(*at)) }
            } } }
        } } }
    }
}

/// What operators and admins did, and how far the ledger has come. When a home signs in is not for operators.
pub(super) async fn log(ask: Ask) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    let words = &ask.words;
    let deeds = crate::auth::store::audit_of_staff(&ask.web.accounts.db, DEEDS).await;
    let deeds =
        deeds.map_err(|error| ask.failed("deeds could not be read", &format!("{error:#}")))?;
    let size = ask.street.log.ledger.to_string();
    let page = Page {
        title: words.t("nav.grid_log").to_owned(),
        above: words.t("grid.log_above").to_owned(),
        answer: words.fill("grid.log_answer", &[("n", &size)]),
        below: html! { (words.t("grid.log_below")) " " a href="/log" { (words.t("street.proof_how")) } " · " a href="/grid/tokens" { (words.t("grid.to_tokens")) } },
        body: html! { section.card {
            h2 { (words.t("grid.deeds")) }
            @if deeds.is_empty() { p.empty { (words.t("grid.no_deeds")) } }
            @else { div.scroll tabindex="0" role="region" aria-label=(words.t("grid.deeds")) { table {
                thead { tr { th { (words.t("grid.when")) } th { (words.t("grid.who")) } th { (words.t("grid.what")) } th { (words.t("grid.detail")) } } }
                tbody { @for deed in &deeds { tr {
                    td { (words.moment(deed.at)) } td translate="no" { (who(words, &deed.account)) } td { (deed_word(words, &deed.action)) }
                    td translate="no" { (detail(words, &deed.detail)) }
                } } }
            } } }
        } },
        live: None,
    };
    Ok(ask.show(&page))
}

fn who<'a>(words: &Words, account: &'a str) -> &'a str {
    match account {
        crate::auth::store::OPERATOR => words.t("deeds.command_line"),
        account => account,
    }
}

/// What was done, in the reader's words; the list itself keeps it as it was noted.
fn deed_word<'a>(words: &Words, action: &'a str) -> &'a str {
    match action {
        "signed in" => words.t("deeds.signed_in"),
        "signed out" => words.t("deeds.signed_out"),
        "account added" => words.t("deeds.account_added"),
        "account revoked" => words.t("deeds.account_revoked"),
        "link made" => words.t("deeds.link_made"),
        "link mailed" => words.t("deeds.link_mailed"),
        "address set" => words.t("deeds.address_set"),
        "language chosen" => words.t("deeds.language"),
        "comparison allowed" => words.t("deeds.compare_on"),
        "comparison ended" => words.t("deeds.compare_off"),
        "token made" => words.t("deeds.token_made"),
        "token revoked" => words.t("deeds.token_revoked"),
        "passkey added" => words.t("deeds.passkey_added"),
        "passkey removed" => words.t("deeds.passkey_removed"),
        "preferences changed" => words.t("deeds.preferences"),
        "tokens asked for" => words.t("deeds.tokens_asked"),
        "tokens confirmed" => words.t("deeds.tokens_confirmed"),
        "tokens cancelled" => words.t("deeds.tokens_cancelled"),
        "order placed" => words.t("deeds.order_placed"),
        "order withdrawn" => words.t("deeds.order_withdrawn"),
        "standing order placed" => words.t("deeds.standing_placed"),
        "standing order withdrawn" => words.t("deeds.standing_withdrawn"),
        "incident opened" => words.t("deeds.incident"),
        "alarm acknowledged" => words.t("deeds.alarm_seen"),
        "alarm put aside" => words.t("deeds.alarm_aside"),
        action => action,
    }
}

fn detail(words: &Words, detail: &str) -> String {
    match detail.split_once(' ') {
        Some(("by", "link")) => words.t("deeds.by_link").to_owned(),
        Some(("by", how)) if how == "passkey" || how.starts_with("passkey ") => {
            let name = how.trim_start_matches("passkey").trim();
            format!("{} {name}", words.t("deeds.by_passkey"))
                .trim()
                .to_owned()
        }
        _ => detail.to_owned(),
    }
}
