//! `/sessions/{id}`: a car that charges, in one honest sentence with the expected end; what it cost so far beside
//! the ceiling, what is planned, what happened. No account is needed: whoever has the address may look and stop.

use std::sync::Arc;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use domain::energy::Energy;
use domain::money::{Money, Price};
use domain::time::Timestamp;
use maud::{Markup, html};
use settlement::charging::rate::{Bill, What};
use settlement::charging::session::{Doing, Ending, Event, State};
use settlement::charging::tariff::Dimension;

use super::charge::refused;
use super::receipt::download;
use super::{Ask, section};
use crate::auth;
use crate::platform::charging::{self, Running, Story};
use crate::view::{Fresh, Street};
use crate::web::chart::{self, Ahead, AheadPoint};
use crate::web::layout::{Page, first_lines};
use crate::web::words::Words;
use crate::web::{Section, Web, live, problem};

/// Everything the page shows.
pub(super) struct Data {
    pub(super) one: Running,
    pub(super) story: Story,
    power: Option<Fresh>,
    now: Timestamp,
    length_s: u32,
}

impl Data {
    fn is_over(&self) -> bool {
        matches!(
            self.one.session.state(),
            State::Settling(_) | State::Closed(_)
        )
    }

    /// Whether there is a receipt.
    pub(super) fn is_paid(&self) -> bool {
        let session = &self.one.session;
        matches!(session.state(), State::Closed(_)) && session.bill().is_some()
    }

    pub(super) fn bill(&self) -> Option<Bill> {
        self.one.session.bill_so_far().ok().flatten()
    }

    fn spent(&self) -> Money {
        self.bill().map_or(Money::ZERO, |bill| bill.total)
    }
}

/// The session of this name; `None` where there is none.
pub(super) async fn read(web: &Web, id: &str, street: &Street) -> anyhow::Result<Option<Data>> {
    let Some(one) = charging::find(&web.shared, id).await? else {
        return Ok(None);
    };
    let place = charging::place(&web.shared, &one.promise.quote.station).await;
    Ok(Some(Data {
        story: charging::story(&web.shared, &one).await?,
        power: place.and_then(|place| place.power),
        now: web.shared.clock.now(),
        length_s: street.open.length_s(),
        one,
    }))
}

pub(super) async fn show(ask: Ask, Path(id): Path<String>) -> Result<Response, Response> {
    let data = read(&ask.web, &id, &ask.street).await;
    let data = data.map_err(|error| ask.failed("a session could not be read", &error))?;
    let data = data.ok_or_else(|| ask.missing())?;
    Ok(ask.show(&page(&ask.words, &id, &data)))
}

pub(super) async fn events(ask: Ask, Path(id): Path<String>) -> Result<Response, Response> {
    let (words, web) = (Arc::new(ask.words.clone()), ask.web.clone());
    let sections = move |street: Arc<Street>| {
        let (words, web, id) = (Arc::clone(&words), web.clone(), id.clone());
        async move {
            match read(&web, &id, &street).await {
                Ok(Some(data)) => sections(&words, &id, &data),
                Ok(None) => Vec::new(),
                Err(error) => {
                    tracing::error!("a session could not be read: {error:#}");
                    Vec::new()
                }
            }
        }
    };
    Ok(live(ask.web, &ask.viewer, sections).into_response())
}

fn sections(words: &Words, id: &str, data: &Data) -> Vec<Section> {
    vec![
        section("answer", first_lines(&head(words, id, data, html! {}))),
        section("now", now(words, data)),
        section("acts", acts(words, id, data)),
        section("lines", lines(words, data)),
        section("story", story(words, data)),
    ]
}

fn page(words: &Words, id: &str, data: &Data) -> Page {
    let planned = points(data);
    let body = html! {
        div.two {
            section.card id="now" aria-label=(words.t("session.so_far")) { (now(words, data)) }
            div.stack {
                section.card id="acts" aria-label=(words.t("session.do")) { (acts(words, id, data)) }
                section.card id="story" aria-label=(words.t("session.story")) { (story(words, data)) }
            }
        }
        section.card { (chart::figure(words, &chart::ahead(words, &Ahead {
            title: words.t("session.plan").to_owned(), points: &planned,
            price_key: "chart.price_all_in", now: data.now, csv: None,
        }))) }
        section.card id="lines" aria-label=(words.t("session.lines")) { (lines(words, data)) }
    };
    head(words, id, data, body)
}

fn head(words: &Words, id: &str, data: &Data, body: Markup) -> Page {
    let quote = &data.one.promise.quote;
    let is_over = data.is_over();
    Page {
        title: words.t("session.title").to_owned(),
        above: format!(
            "{} · {}",
            words.fill("charge.title", &[("id", &quote.station)]),
            words.moment(quote.offered_at)
        ),
        answer: sentence(words, data),
        below: html! {
            (words.fill("session.below", &[("ceiling", &words.money(quote.ceiling))]))
            @if !is_over { noscript { " " a href=(format!("/sessions/{id}")) { (words.t("session.again")) } } }
        },
        body,
        live: (!is_over).then(|| format!("/sessions/{id}/events").into()),
    }
}

/// The one sentence.
fn sentence(words: &Words, data: &Data) -> String {
    let (session, quote) = (&data.one.session, &data.one.promise.quote);
    let (energy, money) = (words.energy(session.energy()), words.money(data.spent()));
    let ready = session.expected_end(data.now).unwrap_or(quote.ready_by);
    let (ready, ceiling) = (words.clock(ready), words.money(quote.ceiling));
    let until = words.clock(quote.valid_until);
    let places = [
        ("energy", energy.as_str()),
        ("money", money.as_str()),
        ("time", ready.as_str()),
        ("ceiling", ceiling.as_str()),
        ("until", until.as_str()),
    ];
    let key = match session.state() {
        State::Offered => "session.offered",
        State::Authorising => "session.authorising",
        State::Authorised => "session.plug",
        State::Active => match session.doing(data.now) {
            Doing::Charging => "session.charging",
            Doing::Full => "session.full",
            Doing::PausedByGrid => "session.paused",
            Doing::WaitsByPlan => "session.waits",
            Doing::NoPower => "session.no_power",
        },
        State::Settling(ending) | State::Closed(ending) => {
            let amount = words.fill("session.amount", &places);
            return format!("{} {amount}", words.t(ending_key(ending)));
        }
    };
    words.fill(key, &places)
}

/// How it ended, in a sentence.
pub(super) fn ending_key(ending: Ending) -> &'static str {
    match ending {
        Ending::Expired => "session.end_expired",
        Ending::PaymentRefused => "session.end_payment_refused",
        Ending::NotPluggedIn => "session.end_not_plugged_in",
        Ending::Stopped => "session.end_stopped",
        Ending::DriverGone => "session.end_driver_gone",
        Ending::NoEnergy => "session.end_no_energy",
        Ending::Forgotten => "session.end_forgotten",
        Ending::CeilingReached => "session.end_ceiling",
        Ending::GatewayLost => "session.end_gateway",
        Ending::PowerLost => "session.end_power",
        Ending::Nonsense => "session.end_nonsense",
        Ending::TooLong => "session.end_too_long",
    }
}

fn now(words: &Words, data: &Data) -> Markup {
    let (session, quote) = (&data.one.session, &data.one.promise.quote);
    let (energy, spent) = (session.energy(), data.spent());
    html! {
        h2 { (words.t("session.so_far")) }
        (gauge(words.t("session.energy"), &words.energy(energy),
            &words.fill("session.of", &[("all", &words.energy(quote.energy))]), (energy.wh(), quote.energy.wh())))
        (gauge(words.t("session.cost"), &words.money(spent),
            &words.fill("session.at_most", &[("all", &words.money(quote.ceiling))]), (spent.nano(), quote.ceiling.nano())))
        dl.facts {
            @if !data.is_over() {
                dt { (words.t("session.power")) } dd { (words.live(data.now, data.length_s, data.power)) }
                dt { (words.t("charge.ready")) } dd { (words.clock(session.expected_end(data.now).unwrap_or(quote.ready_by))) }
            }
            @if let Some(price) = average(spent, energy) {
                dt { (words.t("session.average")) } dd { (words.price(price)) }
            }
            dt { (words.t("session.local")) } dd { (local(words, &data.story)) }
            dt { (words.t("session.by_grid")) } dd { (paused(words, &data.story, data.now)) }
            @if session.held() > Money::ZERO { dt { (words.t("session.held")) } dd { (words.money(session.held())) } }
            @if session.debt() > Money::ZERO { dt { (words.t("session.debt")) } dd { (words.money(session.debt())) } }
        }
    }
}

/// How far a part is of a whole, with its words.
fn gauge(what: &str, value: &str, of: &str, (part, whole): (i64, i64)) -> Markup {
    let width =
        i128::from(part).clamp(0, i128::from(whole.max(1))) * 1_000 / i128::from(whole.max(1));
    html! {
        div.measure {
            p { span { (what) } b { (value) } small { (of) } }
            svg.gauge viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
                rect.track width="1000" height="10" {}
                rect.fill width=(width) height="10" {}
            }
        }
    }
}

/// What a kWh came to, fees and tax included.
pub(super) fn average(spent: Money, energy: Energy) -> Option<Price> {
    let wh = energy.wh();
    (wh > 0).then(|| Price::from_micro_per_kwh(spent.nano() / wh))
}

/// How much at least was local.
pub(super) fn local(words: &Words, story: &Story) -> Markup {
    let (local, known) = story.local;
    html! {
        @if known.is_positive() {
            (words.fill("session.local_share", &[("share", &words.share(local.wh(), known.wh()))]))
        } @else { small { (words.t("session.local_later")) } }
    }
}

pub(super) fn paused(words: &Words, story: &Story, now: Timestamp) -> Markup {
    let paused_s = story.paused_by_grid_s(now);
    let minutes = words.lasting((paused_s + 59) / 60);
    let nothing = words.money(Money::ZERO);
    html! {
        @if paused_s == 0 { (words.t("session.never")) }
        @else { (words.fill("session.for_nothing", &[("time", &minutes), ("money", &nothing)])) }
    }
}

fn acts(words: &Words, id: &str, data: &Data) -> Markup {
    html! {
        h2 { (words.t("session.do")) }
        @if data.is_paid() {
            p { (words.t("session.receipt_text")) }
            p.ways-on { a.button.primary href=(format!("/receipts/{id}")) { (words.t("session.receipt")) } }
        } @else if data.is_over() {
            p { (words.t("session.no_receipt")) }
            p.ways-on { a.button href=(format!("/charge/{}", data.one.promise.quote.station)) { (words.t("session.new")) } }
        } @else {
            p { (words.t("session.stop_text")) }
            form method="post" action=(format!("/sessions/{id}/stop")) { button.primary { (words.t("session.stop")) } }
        }
        p.hint { (words.t("session.keep")) }
    }
}

/// What happened, the newest first; what only says that it goes on is left out.
fn story(words: &Words, data: &Data) -> Markup {
    let told = data
        .story
        .events
        .iter()
        .rev()
        .filter_map(|(at, event)| Some((at, event_key(*event)?)));
    html! {
        h2 { (words.t("session.story")) }
        ol.story { @for (at, key) in told { li {
            span.time { (words.clock(*at)) } span { (words.t(key)) }
        } } }
    }
}

fn event_key(event: Event) -> Option<&'static str> {
    Some(match event {
        Event::Accepted => "session.ev_accepted",
        Event::HoldPlaced => "session.ev_held",
        Event::HoldRefused => "session.ev_not_held",
        Event::Started { .. } => "session.ev_started",
        Event::Reading { full: true, .. } => "session.ev_full",
        Event::GridPause => "session.ev_grid_pause",
        Event::GridResume => "session.ev_grid_resume",
        Event::PlanPause => "session.ev_plan_pause",
        Event::PlanResume => "session.ev_plan_resume",
        Event::PowerLost => "session.ev_power_lost",
        Event::PowerBack => "session.ev_power_back",
        Event::Changed { .. } => "session.ev_changed",
        Event::Stop => "session.ev_stop",
        Event::Unplugged => "session.ev_unplugged",
        Event::Captured => "session.ev_paid",
        Event::CaptureRefused => "session.ev_not_paid",
        Event::Reading { full: false, .. } | Event::Tick => return None,
    })
}

/// The promised prices with tax, and the intervals that the plan has chosen.
fn points(data: &Data) -> Vec<AheadPoint> {
    let promise = &data.one.promise;
    let until = promise.plan.last().map(|(interval, _)| interval.end());
    let whole = i128::from(1_000_000 + promise.quote.tax_ppm);
    let shown = promise.quote.prices.iter().filter(|(interval, _)| {
        // A plan is read with an hour behind it.
        until.is_none_or(|until| interval.start() < until.plus_s(3_600))
    });
    let point = |(interval, price): &(domain::time::Interval, Price)| {
        let with_tax = i128::from(price.micro_per_kwh()) * whole / 1_000_000;
        AheadPoint {
            interval: *interval,
            price: Price::from_micro_per_kwh(i64::try_from(with_tax).unwrap_or(i64::MAX)),
            band: None,
            local_permille: None,
            planned: promise.plan.iter().any(|(planned, _)| planned == interval),
        }
    };
    shown.map(point).collect()
}

/// The bill's lines so far.
pub(super) fn lines(words: &Words, data: &Data) -> Markup {
    let Some(bill) = data.bill() else {
        return html! {
            h2 { (words.t("session.lines")) }
            p.empty { (words.t("session.no_lines")) }
        };
    };
    html! {
        h2 { (words.t("session.lines")) }
        div.scroll tabindex="0" role="region" aria-label=(words.t("session.lines")) { table.numbers {
            thead { tr {
                th { (words.t("session.what")) } th { (words.t("session.times")) } th.n { (words.t("session.used")) }
                th.n { (words.t("session.before_tax")) } th.n { (words.t("session.tax")) }
            } }
            tbody { @for line in &bill.lines { tr {
                td { (words.t(what_key(line.what))) }
                td.n { (words.clock(line.from)) "–" (words.clock(line.to)) }
                td.n { (used(words, line.what, line.billed)) }
                td.n { (words.money(line.before_tax)) }
                td.n { (words.money(line.tax)) }
            } } }
            tfoot { tr.total {
                th scope="row" colspan="3" { (words.t("session.total")) " " b { (words.money(bill.total)) } }
                td.n { (words.money(bill.before_tax)) } td.n { (words.money(bill.tax)) }
            } }
        } }
        p.hint { (words.t("session.lines_hint")) }
    }
}

fn used(words: &Words, what: What, billed: i128) -> String {
    match what {
        What::Charge(Dimension::Energy) | What::Reservation(Dimension::Energy) => {
            // Nano-kWh in whole Wh.
            let wh = i64::try_from(billed / 1_000_000).unwrap_or(0);
            words.energy(Energy::from_wh(wh))
        }
        What::Charge(Dimension::Time | Dimension::ParkingTime)
        | What::Reservation(Dimension::Time | Dimension::ParkingTime) => {
            words.lasting(i64::try_from(billed / 60_000_000_000).unwrap_or(0))
        }
        _ => String::new(),
    }
}

fn what_key(what: What) -> &'static str {
    match what {
        What::Charge(Dimension::Flat) => "session.line_start",
        What::Charge(Dimension::Energy) => "session.line_energy",
        What::Charge(Dimension::Time) => "session.line_time",
        What::Charge(Dimension::ParkingTime) => "session.line_parking",
        What::Reservation(_) => "session.line_reservation",
        What::MinPrice => "session.line_min",
        What::MaxPrice => "session.line_max",
    }
}

/// Ends a session.
pub(super) async fn stop(
    ask: Ask,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    if let Some(refused) = refused(&ask.viewer, &headers, &ask.web) {
        return Err(refused);
    }
    let stopped = charging::stop(&ask.web.shared, &id, ask.web.shared.clock.now()).await;
    stopped.map_err(|error| ask.failed("a session could not be stopped", &error))?;
    Ok(Redirect::to(&format!("/sessions/{id}")).into_response())
}

/// `/sessions/{id}/{receipt.json|session.ocmf|charger.ocmf}`
pub(super) async fn file(ask: Ask, Path((id, name)): Path<(String, String)>) -> Response {
    match name.as_str() {
        "receipt.json" => receipt_file(&ask, &id).await,
        "session.ocmf" => ocmf_file(&ask, &id, false).await,
        "charger.ocmf" => ocmf_file(&ask, &id, true).await,
        _ => auth::nothing_here(),
    }
}

const NO_RECEIPT: &str = "There is no receipt: nothing was charged, or the session goes on.";

/// A session's signed receipt as a file.
pub(super) async fn receipt_file(ask: &Ask, id: &str) -> Response {
    let shared = &ask.web.shared;
    let made = async {
        let one = charging::find(shared, id).await?;
        anyhow::Ok(match one {
            Some(one) => Some(charging::receipt(shared, &one).await?),
            None => None,
        })
    };
    match made.await {
        Ok(Some(Some(text))) => download(&format!("charging-{id}.json"), text),
        Ok(Some(None)) => problem(StatusCode::NOT_FOUND, NO_RECEIPT),
        Ok(None) => auth::nothing_here(),
        Err(error) => ask.failed("a session's receipt could not be made", &error),
    }
}

/// What the platform has recorded, or the charger's own texts.
async fn ocmf_file(ask: &Ask, id: &str, of_charger: bool) -> Response {
    let shared = &ask.web.shared;
    let made = async {
        let one = charging::find(shared, id).await?;
        anyhow::Ok(match one {
            Some(one) if of_charger => Some(charging::records::texts(shared, &one).await?),
            Some(one) => Some(charging::ocmf(shared, &one).await?),
            None => None,
        })
    };
    match made.await {
        Ok(Some(Some(text))) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (kind, text).into_response()
        }
        Ok(Some(None)) => problem(StatusCode::NOT_FOUND, NO_RECEIPT),
        Ok(None) => auth::nothing_here(),
        Err(error) => ask.failed("a session's OCMF could not be made", &error),
    }
}
