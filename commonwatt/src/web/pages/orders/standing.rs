//! Wishes that stand over many intervals: what became of each, and a form for a new one.
//!
//! The platform signs them with the key that it keeps for the home, and they go through the same door as those that
//! come over the API.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use domain::energy::Energy;
use domain::ids::{ParticipantId, PointId};
use domain::key_record::PointRole;
use domain::rejection::Rejection;
use domain::standing_order::{Deadline, Standing, StandingCancel, StandingOrder};
use domain::time::Timestamp;
use market_engine::service::standing::Part;
use market_engine::standing::{Placement, Why};
use maud::{Markup, html};
use serde::Deserialize;

use super::super::Ask;
use super::super::preferences::{cents, exact};
use super::{Data, page_of, terms};
use crate::auth::{Posted, Viewer};
use crate::platform::standing::{Shown, may_say, say};
use crate::platform::{OrderAnswer, OrderMessage, account_sequence};
use crate::view::calendar;
use crate::web::field;
use crate::web::words::Words;

/// Planned orders that are shown, and standing orders that are over.
const PLANNED: usize = 4;
const OVER: usize = 10;
/// What a new wish begins with, where the connection carries it.
const USUAL_POWER_W: i64 = 11_000;
const USUAL_TIME: &str = "07:00";

/// What the form says.
#[derive(Deserialize, Default)]
pub(in super::super) struct Asked {
    kwh: String,
    by: String,
    power_kw: String,
    limit: String,
    must: Option<String>,
    #[serde(default)]
    counted_at: String,
}

#[derive(Deserialize)]
pub(in super::super) struct Nothing {}

/// Places a standing order, or says what was wrong with it.
pub(in super::super) async fn place(ask: Ask, posted: Posted<Asked>) -> Result<Response, Response> {
    let home = posted.viewer.home().cloned().ok_or_else(|| ask.missing())?;
    let wrong = match wish(&ask, &posted.form) {
        Ok(deadline) => {
            let stood = stand(&ask, &posted.viewer, &home, deadline, &posted.form).await;
            match stood.map_err(|error| ask.failed("a standing order was not placed", &error))? {
                Ok(()) => return Ok(Redirect::to("/home/orders#standing").into_response()),
                Err(wrong) => wrong,
            }
        }
        Err(wrong) => wrong,
    };
    page_of(&ask, &home, Some((&posted.form, &wrong))).await
}

fn wish(ask: &Ask, form: &Asked) -> Result<Deadline, String> {
    let words = &ask.words;
    let wrong = |key: &'static str, text: &str| words.fill(key, &[("text", text)]);
    let wh = field::decimal(&form.kwh, 3, 6).filter(|wh| *wh > 0);
    let power_w = field::decimal(&form.power_kw, 3, 6).filter(|w| *w > 0);
    let power_w = power_w.and_then(|w| u32::try_from(w).ok());
    Ok(Deadline {
        energy: Energy::from_wh(wh.ok_or_else(|| wrong("orders.wrong_kwh", &form.kwh))?),
        by: calendar::instant_of(words.zone, form.by.trim())
            .ok_or_else(|| wrong("orders.wrong_time", &form.by))?,
        power_max_w: power_w.ok_or_else(|| wrong("orders.wrong_kw", &form.power_kw))?,
        limit: cents(&form.limit).ok_or_else(|| wrong("orders.wrong_price", &form.limit))?,
        must: form.must.is_some(),
    })
}

/// Signs and sends it; the sentence where the market did not take it.
async fn stand(
    ask: &Ask,
    viewer: &Viewer,
    home: &ParticipantId,
    deadline: Deadline,
    form: &Asked,
) -> anyhow::Result<Result<(), String>> {
    let (shared, words) = (&ask.web.shared, &ask.words);
    let point = shared.site.connection_of(home).map(|p| p.point.clone());
    let (Some(point), true) = (point, may_say(shared, home)) else {
        return Ok(Err(words.t("orders.no_key").to_owned()));
    };
    let counted_at = Some(form.counted_at.trim()).filter(|point| !point.is_empty());
    let Ok(counted_at) = counted_at.map(PointId::new).transpose() else {
        return Ok(Err(words.t("orders.r_other").to_owned()));
    };
    let order = StandingOrder {
        participant: home.clone(),
        point,
        sequence: account_sequence(shared, home, shared.clock.now()).await?,
        replaces: None,
        wish: Standing::Deadline(deadline),
        begins_with: Energy::ZERO,
        capacity: None,
        counted_at,
    };
    let detail = format!(
        "{} Wh by {} at {}, number {}",
        deadline.energy.wh(),
        deadline.by,
        deadline.limit,
        order.sequence
    );
    let message = say(shared, home, &order)?;
    said(ask, viewer, message, ("standing order placed", &detail)).await
}

/// Hands a signed message to the market and notes who had it said.
async fn said(
    ask: &Ask,
    viewer: &Viewer,
    message: OrderMessage,
    (action, detail): (&str, &str),
) -> anyhow::Result<Result<(), String>> {
    let refused = match ask.web.decide(message).await {
        Some(OrderAnswer::Refused(reason)) => refusal(reason),
        None | Some(OrderAnswer::Unavailable) => "orders.r_busy",
        Some(_) => {
            ask.web.accounts.note_done(viewer, action, detail).await;
            return Ok(Ok(()));
        }
    };
    Ok(Err(ask.words.t(refused).to_owned()))
}

/// Why the market did not take it, and what to do.
const fn refusal(reason: Rejection) -> &'static str {
    match reason {
        Rejection::GateClosed => "orders.r_late",
        Rejection::Future => "orders.r_future",
        Rejection::Implausible => "orders.r_power",
        Rejection::OverLimit => "orders.r_limit",
        Rejection::RateLimited => "orders.r_busy",
        _ => "orders.r_other",
    }
}

/// Takes a standing order back, with what it has ordered where gates are open.
pub(in super::super) async fn withdraw(
    ask: Ask,
    Path(sequence): Path<u64>,
    posted: Posted<Nothing>,
) -> Result<Response, Response> {
    let home = posted.viewer.home().cloned().ok_or_else(|| ask.missing())?;
    let Nothing {} = posted.form;
    let cancel = StandingCancel {
        participant: home.clone(),
        sequence,
    };
    if !may_say(&ask.web.shared, &home) {
        let wrong = ask.words.t("orders.no_key").to_owned();
        return page_of(&ask, &home, Some((&Asked::default(), &wrong))).await;
    }
    let taken_back = async {
        let message = say(&ask.web.shared, &home, &cancel)?;
        let detail = format!("number {sequence}");
        let deed = ("standing order withdrawn", detail.as_str());
        said(&ask, &posted.viewer, message, deed).await
    };
    let taken_back = taken_back.await;
    match taken_back.map_err(|error| ask.failed("a standing order was not taken back", &error))? {
        Ok(()) => Ok(Redirect::to("/home/orders#standing").into_response()),
        Err(wrong) => page_of(&ask, &home, Some((&Asked::default(), &wrong))).await,
    }
}

/// The wishes that stand, the form, and the wishes that are over.
pub(super) fn sections(
    ask: &Ask,
    home: &ParticipantId,
    data: &Data,
    typed: Option<&Asked>,
) -> Markup {
    let (words, now) = (&ask.words, ask.street.now);
    let stands = |one: &&Shown| one.state(now) == "standing";
    let standing: Vec<&Shown> = data.standing.iter().filter(stands).collect();
    let over = data.standing.iter().filter(|one| !stands(one));
    let over: Vec<&Shown> = over.take(OVER).collect();
    html! {
        section.card id="standing" {
            h2 { (words.t("orders.standing")) }
            @if standing.is_empty() { p.empty { (words.t("orders.no_standing")) } }
            @for one in standing { (card(ask, one)) }
            @if !over.is_empty() { details {
                summary { (words.t("orders.over")) }
                @for one in over { (card(ask, one)) }
            } }
        }
        section.card {
            h2 { (words.t("orders.new")) }
            @if may_say(&ask.web.shared, home) { (form(ask, home, data, typed)) }
            @else { p.empty { (words.t("orders.no_key")) } }
        }
    }
}

fn state_word(state: &str) -> &'static str {
    match state {
        "met" => "orders.s_met",
        "over" => "orders.s_over",
        "withdrawn" => "orders.withdrawn",
        "replaced" => "orders.s_replaced",
        _ => "orders.s_standing",
    }
}

fn card(ask: &Ask, one: &Shown) -> Markup {
    let (words, now) = (&ask.words, ask.street.now);
    let order = &one.stood.order;
    let state = one.state(now);
    let mut own = one.parts.iter();
    let has_ordered = own.any(|part| part.standing == order.sequence);
    html! { article.wished {
        h3 { (title(words, &order.wish)) " " span.mark { (words.t(state_word(state))) } }
        (progress(words, one))
        dl.facts {
            @match &order.wish {
                Standing::Deadline(deadline) => {
                    dt { (words.t("orders.power")) } dd { (words.power(i64::from(deadline.power_max_w))) }
                    dt { (words.t("orders.must")) } dd { (words.t(if deadline.must { "orders.must_yes" } else { "orders.must_no" })) }
                },
                Standing::Battery(battery) => {
                    dt { (words.t("orders.charge_max")) } dd { (words.power(i64::from(battery.charge_max_w))) }
                    dt { (words.t("orders.discharge_max")) } dd { (words.power(i64::from(battery.discharge_max_w))) }
                    dt { (words.t("orders.margin")) } dd { (words.price(battery.margin)) }
                },
            }
            dt { (words.t("orders.counted_at")) }
            dd { @match &order.counted_at { Some(point) => (point), None => (words.t("orders.counted_bought")) } }
        }
        @if state == "standing" { (plan(words, &one.plan)) }
        @if has_ordered { details {
            summary { (words.t("orders.ordered")) }
            (ordered(words, one))
        } }
        @if state == "standing" {
            form method="post" action=(format!("/home/orders/{}/withdraw", order.sequence)) {
                (ask.viewer.csrf_field())
                button { (words.t("orders.withdraw")) }
            }
        }
    } }
}

fn title(words: &Words, wish: &Standing) -> String {
    match wish {
        Standing::Deadline(deadline) => words.fill(
            "orders.deadline",
            &[
                ("energy", &words.energy(deadline.energy)),
                ("time", &words.moment(deadline.by)),
                ("price", &words.price(deadline.limit)),
            ],
        ),
        Standing::Battery(battery) => words.fill(
            "orders.battery",
            &[
                ("least", &words.energy(battery.least)),
                ("most", &words.energy(battery.most)),
                ("time", &words.moment(battery.until)),
            ],
        ),
    }
}

/// How far it has come.
fn progress(words: &Words, one: &Shown) -> Markup {
    let (reached, (key, all)) = (
        one.progress.energy,
        match &one.stood.order.wish {
            Standing::Deadline(deadline) => ("orders.reached", deadline.energy),
            Standing::Battery(battery) => ("orders.in_battery", battery.most),
        },
    );
    let full = all.wh().max(1);
    html! { div.measure {
        p { (words.fill(key, &[("energy", &words.energy(reached)), ("all", &words.energy(all))])) }
        svg.gauge viewBox=(format!("0 0 {full} 6")) preserveAspectRatio="none" aria-hidden="true" {
            rect.track width=(full) height="6" {}
            rect.fill width=(reached.wh().clamp(0, full)) height="6" {}
        }
    } }
}

fn why_word(why: Why) -> &'static str {
    match why {
        Why::Cheap => "orders.w_cheap",
        Why::LastChance => "orders.w_last",
        Why::BuyLow => "orders.w_low",
        Why::SellHigh => "orders.w_high",
    }
}

/// What it would order next; only the nearest is ordered, when its gate is about to close.
fn plan(words: &Words, plan: &[Placement]) -> Markup {
    html! {
        @if plan.is_empty() { p.hint { (words.t("orders.no_plan")) } }
        @else {
            p.hint { (words.t("orders.plan")) }
            ul.story { @for placed in plan.iter().take(PLANNED) { li {
                span.time { (words.clock(placed.interval.start())) }
                span { (terms(words, placed.side, placed.energy, placed.limit)) ": " (words.t(why_word(placed.why))) }
            } } }
        }
    }
}

fn ordered(words: &Words, one: &Shown) -> Markup {
    let own = |part: &&Part| part.standing == one.stood.order.sequence;
    let outcome = |part: &Part| match part.state() {
        "refused" => "orders.s_refused",
        "withdrawn" => "orders.withdrawn",
        "standing" => "orders.waits",
        _ => "orders.s_cleared",
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label=(words.t("orders.ordered")) { table {
            thead { tr {
                th { (words.t("chart.interval")) } th { (words.t("orders.order")) } th.n { (words.t("chart.traded")) }
                th { (words.t("orders.outcome")) } th { (words.t("trade.why")) }
            } }
            tbody { @for part in one.parts.iter().rev().filter(own) {
                @let placed = &part.ordered;
                tr {
                    td { (words.moment(placed.interval.start())) }
                    td { (terms(words, placed.side, placed.energy, placed.limit)) }
                    td.n { @match placed.traded { Some((energy, _)) => (words.energy(energy)), None => "–" } }
                    td { (words.t(outcome(part))) }
                    td.wrap { (words.t(why_word(placed.why))) }
                }
            } }
        } }
    }
}

/// The form, filled with what was typed or with what is usual.
fn form(ask: &Ask, home: &ParticipantId, data: &Data, typed: Option<&Asked>) -> Markup {
    let (words, site) = (&ask.words, &ask.web.shared.site);
    let usual = usual(ask, home, data);
    let typed = typed
        .filter(|typed| !typed.kwh.is_empty())
        .unwrap_or(&usual);
    let own = |point: &&domain::key_record::PointRecord| {
        point.role == PointRole::Submeter && point.participant.as_ref() == Some(home)
    };
    let meters: Vec<_> = site.points().filter(own).collect();
    html! { form.drop-in method="post" action="/home/orders" {
        (ask.viewer.csrf_field())
        p.hint { (words.t("orders.new_hint")) }
        div.entries {
            label { (words.t("orders.kwh")) " " small { "kWh" } input name="kwh" inputmode="decimal" required autocomplete="off" value=(typed.kwh); }
            label { (words.t("orders.by_time")) input name="by" type="datetime-local" required value=(typed.by); }
            label { (words.t("orders.power")) " " small { "kW" } input name="power_kw" inputmode="decimal" required autocomplete="off" value=(typed.power_kw); }
            label { (words.t("orders.limit")) " " small { "ct/kWh" } input name="limit" inputmode="decimal" required autocomplete="off" value=(typed.limit); }
            @if !meters.is_empty() { label { (words.t("orders.counted_at")) select name="counted_at" {
                option value="" { (words.t("orders.counted_bought")) }
                @for meter in meters { option value=(meter.point) selected[meter.point.as_str() == typed.counted_at] { (meter.point) } }
            } } }
        }
        p.check {
            input type="checkbox" id="must" name="must" value="1" checked[typed.must.is_some()];
            label for="must" { (words.t("orders.must_text")) }
        }
        button.primary { (words.t("orders.place")) }
    } }
}

fn usual(ask: &Ask, home: &ParticipantId, data: &Data) -> Asked {
    let (words, site) = (&ask.words, &ask.web.shared.site);
    let rating_w = site.connection_of(home).map(|p| i64::from(p.rating_w));
    let power_w = rating_w.unwrap_or(USUAL_POWER_W).min(USUAL_POWER_W);
    let by = calendar::next_instant(words.zone, ask.street.now, USUAL_TIME);
    let wall = |at: Timestamp| {
        let at = calendar::local(words.zone, at);
        at.map(|at| at.format("%Y-%m-%dT%H:%M").to_string())
    };
    Asked {
        kwh: "10".to_owned(),
        by: by.and_then(wall).unwrap_or_default(),
        power_kw: (power_w / 1_000).to_string(),
        limit: exact(data.max_buy, words.language.decimal_sign()),
        must: None,
        counted_at: String::new(),
    }
}
