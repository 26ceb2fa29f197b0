//! A charger's page with its price and three offers, and a session's page: no account is needed for either.

use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use domain::money::Money;
use domain::time::Timestamp;
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use settlement::charging::offer::{Expected, Station};
use settlement::charging::session::State as Stands;

use super::{Web, broken, problem};
use crate::api::charging::{ENERGY_WH, Wish, read_wish, take};
use crate::auth::{self, Viewer, may_write, said_by_our_page};
use crate::platform::charging::{self, Offered, Running};

/// What stands around these pages: they are read at a charger, by people without an account.
fn frame(community: &str, inside: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Charging · Commonwatt" }
                link rel="stylesheet" href="/static/style.css";
                link rel="icon" href="/static/icon.svg" type="image/svg+xml";
            }
            body {
                header.top { a.brand href="/" { "Commonwatt" } span.place { (community) } }
                main { (inside) }
            }
        }
    }
}

fn failed(error: &anyhow::Error) -> Response {
    broken("a charging page could not be made", &format!("{error:#}"))
}

fn clock(at: Timestamp) -> String {
    let text = at.to_chrono().map(|t| t.format("%H:%M").to_string());
    text.unwrap_or_default()
}

/// Whole cents, rounded half up.
fn cents(amount: Money, currency: &str) -> String {
    let cents = Money::from_ratio(i128::from(amount.nano()), 10_000_000);
    let cents = cents.map_or(0, Money::nano);
    format!("{}.{:02} {currency}", cents / 100, (cents % 100).abs())
}

/// Tenths of a cent for a kWh with everything in it, rounded up.
fn per_kwh(station: &Station, expected: &Expected) -> String {
    let micro = station.all_in(expected).map_or(0, |p| p.micro_per_kwh());
    let tenths = micro.saturating_add(999).div_euclid(1_000);
    format!("{}.{} ct", tenths / 10, tenths % 10)
}

/// `/charge/{id}`
pub(super) async fn charger(
    State(web): State<Web>,
    Path(id): Path<String>,
    Query(wish): Query<Wish>,
) -> Response {
    let shared = &web.shared;
    let now = shared.clock.now();
    let (energy, by) = match read_wish(&wish, now) {
        Ok(read) => read,
        Err(why) => return problem(axum::http::StatusCode::BAD_REQUEST, &why),
    };
    let Some(place) = charging::place(shared, &id).await else {
        return auth::nothing_here();
    };
    let (expected, offers) = match charging::offers(shared, &place, energy, by, now).await {
        Ok(made) => made,
        Err(error) => return failed(&error),
    };
    let station = &place.station;
    let cheapest = expected.iter().min_by_key(|e| (e.cost(), e.interval));
    let inside = html! {
        section.headline {
            h1 {
                @if let Some(first) = expected.first() { (per_kwh(station, first)) " a kWh now, all included." }
            }
            p.sub {
                @if let Some(one) = cheapest {
                    "Cheapest from " (clock(one.interval.start())) ": " (per_kwh(station, one)) ". "
                }
                "Start " (cents(station.start_fee, &station.currency)) ", after the car is full "
                (station.parking_grace_s / 60) " minutes free, then "
                (cents(station.parking_per_hour, &station.currency)) " an hour; both before "
                (station.tax_ppm / 10_000) " % tax. Times are UTC."
            }
        }
        section.card {
            h2 { "Charger " (station.id) }
            @if place.is_free {
                form method="get" {
                    label { "Energy in Wh " input type="number" name="energy_wh" min="1" max="200000" value=(wish.energy_wh.unwrap_or(ENERGY_WH)); }
                    " " button { "Ask again" }
                }
            } @else {
                p { "Another car is charging here." }
            }
        }
        @if place.is_free { @for one in &offers { (offer_card(one, &id)) } }
        (price_table(station, &expected))
    };
    frame(shared.site.community.as_str(), &inside).into_response()
}

fn offer_card(one: &Offered, charger: &str) -> Markup {
    let (offer, currency) = (&one.offer, &one.station.currency);
    let title = match one.choice {
        charging::Choice::Now => "Now",
        charging::Choice::Cheapest => "Cheapest",
        charging::Choice::MostLocal => "Most local",
    };
    html! {
        section.card {
            h2 { (title) ", ready by " (clock(offer.ready_by)) }
            p {
                "At most " strong { (cents(offer.ceiling, currency)) } ", probably " (cents(offer.expected, currency))
                " for " (offer.energy.wh() / 1_000) "." (offer.energy.wh() % 1_000 / 100) " kWh; about "
                (offer.local_permille / 10) " % of it local."
            }
            form method="post" action=(format!("/charge/{charger}")) {
                input type="hidden" name="offer" value=(one.id);
                button { "Hold " (cents(offer.ceiling, currency)) " and charge" }
            }
        }
    }
}

fn price_table(station: &Station, expected: &[Expected]) -> Markup {
    html! {
        section.card {
            details {
                summary { "The next 12 hours" }
                table {
                    thead { tr { th { "From" } th { "A kWh, all included" } th { "Probably local" } } }
                    tbody {
                        @for one in expected {
                            tr {
                                td { (clock(one.interval.start())) }
                                td { (per_kwh(station, one)) }
                                td { (one.local_permille / 10) " %" }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Taken {
    offer: String,
}

/// A form of ours, and within what the sender may do; an account is not needed.
fn refused(viewer: &Viewer, headers: &HeaderMap, web: &Web) -> Option<Response> {
    if !said_by_our_page(headers, &web.accounts) {
        let why = "This form did not come from a page of ours.";
        return Some(problem(axum::http::StatusCode::FORBIDDEN, why));
    }
    // A form of an account carries more; these forms act on an unguessable name and need none.
    match viewer.account() {
        Some(_) => None,
        None => may_write(viewer, headers, web)
            .err()
            .map(|refused| *refused),
    }
}

/// The offer that was chosen becomes a session.
pub(super) async fn begin(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Form(taken): Form<Taken>,
) -> Response {
    if let Some(refused) = refused(&viewer, &headers, &web) {
        return refused;
    }
    let now = web.shared.clock.now();
    match take(&web.shared, &taken.offer, &viewer, now).await {
        Ok(one) => {
            Redirect::to(&format!("/sessions/{}", one.promise.quote.session)).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

/// `/sessions/{id}`
pub(super) async fn session(State(web): State<Web>, Path(id): Path<String>) -> Response {
    let shared = &web.shared;
    let one = match charging::find(shared, &id).await {
        Ok(Some(one)) => one,
        Ok(None) => return auth::nothing_here(),
        Err(error) => return failed(&error),
    };
    let now = shared.clock.now();
    let ended = matches!(one.session.state(), Stands::Closed(_));
    let inside = html! {
        section.headline {
            h1 { (one.session.sentence(now, chrono_tz::UTC)) }
            p.sub {
                "At charger " (one.promise.quote.station) ". It costs at most "
                (cents(one.promise.quote.ceiling, &one.promise.quote.currency))
                ". Only whole intervals that the meter has signed count. Times are UTC."
            }
        }
        (bill_card(&one))
        @if ended && one.session.bill().is_some() {
            section.card {
                h2 { "Receipt" }
                p {
                    a href=(format!("/sessions/{id}/receipt.json")) { "Signed receipt" } " · "
                    a href=(format!("/sessions/{id}/session.ocmf")) { "OCMF" }
                }
                p.sub { "Check it with the operator's key: commonwatt verify receipt.json --key operator.pub" }
                details {
                    summary { "The key for OCMF" }
                    textarea readonly rows="4" cols="34" { (shared.charging.ocmf_key()) }
                }
            }
        }
        @if !ended {
            form method="post" action=(format!("/sessions/{id}/stop")) { button { "Stop" } }
        }
    };
    let mut page = frame(shared.site.community.as_str(), &inside).into_response();
    if !ended {
        let again = header::HeaderValue::from_static("10");
        page.headers_mut().insert("refresh", again);
    }
    page
}

fn bill_card(one: &Running) -> Markup {
    let Some(bill) = one.session.bill_so_far().ok().flatten() else {
        return html! {};
    };
    html! {
        section.card {
            h2 { "Lines" }
            table {
                thead { tr { th { "What" } th { "From" } th { "To" } th { "Before tax" } th { "Tax" } } }
                tbody {
                    @for line in &bill.lines {
                        tr {
                            td { (line.what.word()) }
                            td { (clock(line.from)) }
                            td { (clock(line.to)) }
                            td { (cents(line.before_tax, "")) }
                            td { (cents(line.tax, "")) }
                        }
                    }
                }
            }
            p { strong { (cents(bill.total, &bill.currency)) } " in all" }
        }
    }
}

/// Ends a session.
pub(super) async fn stop(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    if let Some(refused) = refused(&viewer, &headers, &web) {
        return refused;
    }
    match charging::stop(&web.shared, &id, web.shared.clock.now()).await {
        Ok(_) => Redirect::to(&format!("/sessions/{id}")).into_response(),
        Err(error) => failed(&error),
    }
}

/// `/sessions/{id}/{receipt.json|session.ocmf}`
pub(super) async fn file(
    State(web): State<Web>,
    Path((id, name)): Path<(String, String)>,
) -> Response {
    let one = match charging::find(&web.shared, &id).await {
        Ok(Some(one)) => one,
        Ok(None) => return auth::nothing_here(),
        Err(error) => return failed(&error),
    };
    let (text, kind) = match name.as_str() {
        "receipt.json" => (
            charging::receipt(&web.shared, &one).await,
            "application/json",
        ),
        "session.ocmf" => (
            charging::ocmf(&web.shared, &one).await,
            "text/plain; charset=utf-8",
        ),
        _ => return auth::nothing_here(),
    };
    match text {
        Ok(Some(text)) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Ok(None) => {
            let why = "There is no receipt: nothing was charged, or the session goes on.";
            problem(axum::http::StatusCode::NOT_FOUND, why)
        }
        Err(error) => failed(&error),
    }
}
