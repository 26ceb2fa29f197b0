//! `/charge` and `/charge/{id}`: what a kWh costs at a charger, all included, and three offers with a ceiling each.
//! No account is needed.

use axum::extract::{Form, Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use domain::energy::Energy;
use domain::money::{Money, Price};
use domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use settlement::charging::offer::Expected;
use settlement::charging::station::Station;

use super::Ask;
use crate::api::charging::{Card, ENERGY_MAX_WH, ENERGY_WH, NotTaken, take};
use crate::auth::{Viewer, may_ask, may_write, said_by_our_page};
use crate::platform::charging::{self, Choice, Offered, Place};
use crate::view::calendar;
use crate::web::chart::{self, Ahead, AheadPoint};
use crate::web::field;
use crate::web::layout::Page;
use crate::web::words::Words;
use crate::web::{Web, problem};

/// A kWh with everything in it, as it is shown: tenths of a cent, rounded up.
pub(super) fn all_in(station: &Station, expected: &Expected) -> Price {
    let micro = station.all_in(expected).map_or(0, |p| p.micro_per_kwh());
    Price::from_micro_per_kwh(micro.saturating_add(999).div_euclid(1_000) * 1_000)
}

/// `/charge`: the chargers of the street.
pub(super) async fn list(ask: Ask) -> Result<Response, Response> {
    let (shared, words) = (&ask.web.shared, &ask.words);
    let expected = charging::expected(shared, ask.street.now).await;
    let expected = expected.map_err(|error| ask.failed("prices could not be told", &error))?;
    let places = charging::places(shared).await;
    let free = places.iter().filter(|place| place.is_free).count();
    let now = expected.first();
    let price = |place: &Place| now.map(|now| all_in(&place.station, now));
    let least = places.iter().filter_map(price).min();
    let (free, all) = (free.to_string(), places.len().to_string());
    let answer = match least {
        Some(least) if !places.is_empty() => words.fill(
            "charge.list_answer",
            &[
                ("free", &free),
                ("all", &all),
                ("price", &words.price(least)),
            ],
        ),
        _ => words.t("charge.none").to_owned(),
    };
    let page = Page {
        title: words.t("nav.chargers").to_owned(),
        above: words.fill("charge.at", &[("time", &words.clock(ask.street.now))]),
        answer,
        below: html! { (words.t("charge.list_below")) },
        body: html! { @if !places.is_empty() {
            section.card { ul.rows { @for place in &places { li {
                (row(words, place, price(place)))
            } } } }
        } },
        live: None,
    };
    Ok(ask.show(&page))
}

fn row(words: &Words, place: &Place, price: Option<Price>) -> Markup {
    let state = if place.is_free {
        words.t("charge.free")
    } else {
        words.t("charge.taken")
    };
    let power = words.kilowatts(i64::from(place.station.power_max_w));
    html! {
        a.row href=(format!("/charge/{}", place.station.id)) {
            span.sign.car {}
            span.what { b { (place.station.id) } }
            span.time { (state) " · " (words.fill("charge.up_to", &[("power", &power)])) }
            span.price { @if let Some(price) = price { (words.price(price)) } }
            span.why { (words.t("charge.offers")) }
        }
    }
}

/// What the form asks with: kWh as people write them, and a time of day.
#[derive(Deserialize, Default)]
pub(super) struct Wish {
    kwh: Option<String>,
    ready: Option<String>,
}

/// What is wanted, or the sentence that says what is wrong with it.
fn read_wish(words: &Words, wish: &Wish, now: Timestamp) -> Result<(Energy, Timestamp), String> {
    let energy = match wish.kwh.as_deref().map(str::trim) {
        None | Some("") => Energy::from_wh(ENERGY_WH),
        Some(text) => kwh_of(text).ok_or_else(|| {
            let most = words.energy(Energy::from_wh(ENERGY_MAX_WH));
            words.fill("charge.wrong_kwh", &[("text", text), ("most", &most)])
        })?,
    };
    let latest = now.plus_s(charging::AHEAD_S);
    let by = match wish.ready.as_deref().map(str::trim) {
        None | Some("") => latest,
        Some(text) => calendar::next_instant(words.zone, now, text)
            .filter(|by| *by <= latest)
            .ok_or_else(|| {
                let latest = words.clock(latest);
                words.fill("charge.wrong_time", &[("text", text), ("latest", &latest)])
            })?,
    };
    Ok((energy, by))
}

/// `12`, `12.5` or `12,5` kWh.
fn kwh_of(text: &str) -> Option<Energy> {
    let wh = field::decimal(text, 3, 6)?;
    (1..=ENERGY_MAX_WH)
        .contains(&wh)
        .then(|| Energy::from_wh(wh))
}

/// `/charge/{id}`
pub(super) async fn show(
    ask: Ask,
    Path(id): Path<String>,
    Query(wish): Query<Wish>,
) -> Result<Response, Response> {
    page_of(&ask, &id, &wish, None).await
}

async fn page_of(
    ask: &Ask,
    id: &str,
    wish: &Wish,
    refused: Option<String>,
) -> Result<Response, Response> {
    let (shared, words) = (&ask.web.shared, &ask.words);
    let now = shared.clock.now();
    let place = charging::place(shared, id).await;
    let place = place.ok_or_else(|| ask.missing())?;
    let latest = now.plus_s(charging::AHEAD_S);
    let read = read_wish(words, wish, now);
    let wrong = refused.or_else(|| read.as_ref().err().cloned());
    let (energy, by) = read.unwrap_or((Energy::from_wh(ENERGY_WH), latest));
    let made = charging::offers(shared, &place, energy, by, now).await;
    let (expected, offers) =
        made.map_err(|error| ask.failed("offers could not be made", &error))?;
    let shown = Shown {
        place: &place,
        expected: &expected,
        offers: &offers,
        energy,
        by: (by < latest).then_some(by),
        now,
    };
    let status = if wrong.is_some() {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    let mut response = ask.show(&page(ask, &shown, wrong.as_deref()));
    *response.status_mut() = status;
    Ok(response)
}

struct Shown<'a> {
    place: &'a Place,
    expected: &'a [Expected],
    offers: &'a [Offered],
    energy: Energy,
    /// Until when, where somebody has said so.
    by: Option<Timestamp>,
    now: Timestamp,
}

fn page(ask: &Ask, shown: &Shown<'_>, wrong: Option<&str>) -> Page {
    let (words, station) = (&ask.words, &shown.place.station);
    let state = if shown.place.is_free {
        words.t("charge.free")
    } else {
        words.t("charge.taken")
    };
    let answer = shown.expected.first().map_or_else(String::new, |first| {
        let price = words.price(all_in(station, first));
        words.fill("charge.answer", &[("price", &price)])
    });
    let cheapest = shown
        .expected
        .iter()
        .min_by_key(|e| (all_in(station, e), e.interval));
    Page {
        title: words.fill("charge.title", &[("id", &station.id)]),
        above: format!(
            "{} · {state}",
            words.fill("charge.title", &[("id", &station.id)])
        ),
        answer,
        below: html! { @if let Some(one) = cheapest {
            (words.fill("charge.cheapest_at", &[
                ("time", &words.clock(one.interval.start())), ("price", &words.price(all_in(station, one))),
            ]))
        } },
        body: html! {
            @if let Some(wrong) = wrong { p.wrong role="alert" { (wrong) } }
            @if shown.place.is_free {
                section.card { (wish_form(words, shown)) }
                div.cards.three { @for one in shown.offers { (offer_card(ask, one, &station.id)) } }
                @if shown.offers.is_empty() { p.wrong { (words.t("charge.no_offer")) } }
            } @else {
                section.card { p.big { (words.t("charge.busy")) } p.hint { (words.t("charge.busy_why")) } }
            }
            section.card { (chart::figure(words, &chart::ahead(words, &prices(words, shown, &points(shown))))) }
            section.card { (parts(words, shown)) }
        },
        live: None,
    }
}

fn points(shown: &Shown<'_>) -> Vec<AheadPoint> {
    let station = &shown.place.station;
    let point = |one: &Expected| AheadPoint {
        interval: one.interval,
        price: all_in(station, one),
        band: None,
        local_permille: Some(one.local_permille),
        planned: false,
    };
    shown.expected.iter().map(point).collect()
}

fn prices<'p>(words: &Words, shown: &Shown<'_>, points: &'p [AheadPoint]) -> Ahead<'p> {
    Ahead {
        title: words.t("charge.next_hours").to_owned(),
        points,
        price_key: "chart.price_all_in",
        now: shown.now,
        csv: None,
    }
}

fn wish_form(words: &Words, shown: &Shown<'_>) -> Markup {
    let kwh = words.kwh(shown.energy);
    let by = shown.by.map(|by| words.clock(by));
    html! {
        form.wish method="get" {
            label { (words.t("charge.need")) " " small { "kWh" }
                input name="kwh" inputmode="decimal" autocomplete="off" value=(kwh); }
            label { (words.t("charge.ready_by"))
                input type="time" name="ready" value=[by]; }
            button { (words.t("charge.ask")) }
        }
    }
}

fn offer_card(ask: &Ask, one: &Offered, charger: &str) -> Markup {
    let (words, offer) = (&ask.words, &one.offer);
    let (title, why) = match one.choice {
        Choice::Now => ("charge.now", "charge.now_why"),
        Choice::Cheapest => ("charge.cheapest", "charge.cheapest_why"),
        Choice::MostLocal => ("charge.most_local", "charge.most_local_why"),
    };
    html! {
        section.card.offer {
            h2 { (words.t(title)) " " small { (words.t(why)) } }
            p.sum { (words.money(offer.expected)) " " small { (words.t("charge.probably")) } }
            dl.facts {
                dt { (words.t("charge.at_most")) } dd { (words.money(offer.ceiling)) }
                dt { (words.t("charge.energy")) } dd { (words.energy(offer.energy)) }
                dt { (words.t("charge.ready")) } dd { (words.clock(offer.ready_by)) }
                dt { (words.t("charge.local")) } dd { (words.permille(i64::from(offer.local_permille))) }
            }
            form method="post" action=(format!("/charge/{charger}")) {
                (ask.viewer.csrf_field())
                input type="hidden" name="offer" value=(one.id);
                button.primary { (words.fill("charge.take", &[("ceiling", &words.money(offer.ceiling))])) }
            }
        }
    }
}

/// What the price consists of, now.
fn parts(words: &Words, shown: &Shown<'_>) -> Markup {
    let station = &shown.place.station;
    let Some(first) = shown.expected.first() else {
        return html! {};
    };
    let with_tax = all_in(station, first);
    let before = station.price(first).unwrap_or(Price::ZERO);
    let tax = with_tax.checked_sub(before).unwrap_or(Price::ZERO);
    // Where the station's price has the energy in it, nothing comes on top.
    let asked = station.asked(first.interval.start());
    let energy = before.checked_sub(asked).unwrap_or(Price::ZERO);
    let percent = words.permille(i64::from(station.tax_ppm) / 1_000);
    let lasting = words.lasting(i64::from(station.parking_grace_s) / 60);
    let taxed = |amount: Money| {
        let whole = i128::from(amount.nano()) * i128::from(1_000_000 + station.tax_ppm);
        words.money(Money::from_ratio(whole, 1_000_000).unwrap_or(amount))
    };
    html! {
        h2 { (words.t("charge.parts")) }
        div.scroll tabindex="0" role="region" aria-label=(words.t("charge.parts")) { table.sums {
            thead { tr { th { (words.t("charge.part")) } th.n { "ct/kWh" } } }
            tbody {
                tr { th scope="row" { (words.t("charge.part_energy")) } td.n { (words.cents(energy)) } }
                tr { th scope="row" { (words.t("charge.part_station")) } td.n { (words.cents(asked)) } }
                tr { th scope="row" { (words.fill("charge.part_tax", &[("percent", &percent)])) } td.n { (words.cents(tax)) } }
            }
            tfoot { tr.total { th scope="row" { (words.t("charge.part_all")) } td.n { (words.cents(with_tax)) } } }
        } }
        p { (words.fill("charge.fees", &[
            ("start", &taxed(station.start_fee)), ("free", &lasting), ("parking", &taxed(station.parking_per_hour)),
        ])) }
        p.hint { (words.t("charge.promise")) }
    }
}

#[derive(Deserialize)]
pub(super) struct Taken {
    offer: String,
}

/// A form of ours, and within what the sender may do; an account is not needed.
pub(super) fn refused(viewer: &Viewer, headers: &HeaderMap, web: &Web) -> Option<Response> {
    if !said_by_our_page(headers, &web.accounts) {
        let why = "This form did not come from a page of ours.";
        return Some(problem(StatusCode::FORBIDDEN, why));
    }
    // A form of an account carries more; these forms act on an unguessable name and need none.
    match viewer.account() {
        Some(_) if !viewer.may_write() => {
            let why = "This API token may only read.";
            Some(problem(StatusCode::FORBIDDEN, why))
        }
        Some(_) => may_ask(viewer, web).err().map(|refused| *refused),
        None => may_write(viewer, headers, web)
            .err()
            .map(|refused| *refused),
    }
}

/// The offer that was chosen becomes a session.
pub(super) async fn begin(
    ask: Ask,
    Path(id): Path<String>,
    headers: HeaderMap,
    Form(taken): Form<Taken>,
) -> Result<Response, Response> {
    if let Some(refused) = refused(&ask.viewer, &headers, &ask.web) {
        return Err(refused);
    }
    let now = ask.web.shared.clock.now();
    let made = take(
        &ask.web.shared,
        (&taken.offer, Card::Good),
        &ask.viewer,
        now,
    )
    .await;
    match made.map_err(|error| ask.failed("a session could not begin", &error))? {
        Ok(one) => {
            let path = format!("/sessions/{}", one.promise.quote.session);
            Ok(Redirect::to(&path).into_response())
        }
        Err(why) => {
            let key = match why {
                NotTaken::NoPayer => "charge.no_payer",
                NotTaken::Gone => "charge.gone",
                NotTaken::Busy => "charge.busy",
                NotTaken::NotHeld => "charge.not_held",
            };
            let why = ask.words.t(key).to_owned();
            page_of(&ask, &id, &Wish::default(), Some(why)).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::words::Language;

    #[test]
    fn a_wish_is_read_as_people_write_it() {
        for (text, wh) in [
            ("20", 20_000),
            ("7,5", 7_500),
            ("0.001", 1),
            ("200", 200_000),
        ] {
            assert_eq!(kwh_of(text), Some(Energy::from_wh(wh)), "{text}");
        }
        for bad in [
            "",
            "x",
            "0",
            "-1",
            "1.2345",
            "200.001",
            "1.-5",
            "9999999999999999999",
        ] {
            assert_eq!(kwh_of(bad), None, "{bad}");
        }
        let words = Words {
            language: Language::German,
            zone: chrono_tz::Europe::Berlin,
            currency: "€".to_owned(),
        };
        let now: Timestamp = "2026-06-21T20:00:00Z".parse().unwrap();
        let wish = |kwh: &str, ready: &str| Wish {
            kwh: Some(kwh.to_owned()),
            ready: Some(ready.to_owned()),
        };
        let (energy, by) = read_wish(&words, &wish("7,5", "07:30"), now).unwrap();
        assert_eq!(
            (energy.wh(), &*by.to_string()),
            (7_500, "2026-06-22T05:30:00Z")
        );
        for bad in [
            wish("7,5", "noon"),
            wish("7,5", "21:59"),
            wish("many", "07:30"),
        ] {
            let said = read_wish(&words, &bad, now).unwrap_err();
            assert!(said.contains('„'), "{said}");
        }
    }
}
