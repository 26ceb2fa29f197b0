//! `/`: the street for everybody. Sums of at least five homes, the public price, and no single home.

use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::{Ask, section};
use crate::view::{Cleared, Fresh, Home, Street};
use crate::web::chart::{self, Prices};
use crate::web::layout::Page;
use crate::web::number::is_old;
use crate::web::words::Words;
use crate::web::{Section, house, live};

/// Fewer homes than this have no sum that hides each of them.
pub(crate) const HOMES_MIN: usize = 5;

pub(super) async fn show(ask: Ask) -> Response {
    ask.show(&page(&ask.words, &ask.street))
}

pub(super) async fn events(ask: Ask) -> Response {
    let words = ask.words.clone();
    live(ask.web, &ask.viewer, move |street| {
        std::future::ready(sections(&words, &street))
    })
    .into_response()
}

fn page(words: &Words, street: &Street) -> Page {
    Page {
        title: street.community.clone(),
        above: above(words, street),
        answer: answer(words, street),
        below: below(words, street),
        body: html! {
            section.now id="now" aria-label=(words.t("street.now")) { (now(words, street)) }
            section.card id="prices" aria-label=(words.t("chart.price_title")) { (prices(words, street)) }
            section.card { (proof(words)) }
        },
        live: Some("/events".into()),
    }
}

/// What is renewed.
pub(crate) fn sections(words: &Words, street: &Street) -> Vec<Section> {
    let page = page(words, street);
    vec![
        section("answer", crate::web::layout::first_lines(&page)),
        section("now", now(words, street)),
        section("prices", prices(words, street)),
    ]
}

fn above(words: &Words, street: &Street) -> String {
    let date = crate::view::calendar::date(words.zone, street.now);
    format!("{}, {}", words.long_date(date), words.clock(street.now))
}

/// The first line: what the newest auction came to.
pub(crate) fn answer(words: &Words, street: &Street) -> String {
    match &street.cleared {
        Some(Cleared {
            interval,
            price: Some(price),
            volume,
            ..
        }) => words.fill(
            "street.trading",
            &[
                ("energy", &words.energy(*volume)),
                ("price", &words.price(*price)),
                ("interval", &words.interval(*interval)),
            ],
        ),
        Some(Cleared { interval, .. }) => words.fill(
            "street.nothing",
            &[("interval", &words.interval(*interval))],
        ),
        None => words.t("street.first").to_owned(),
    }
}

fn below(words: &Words, street: &Street) -> Markup {
    let text = words.fill(
        "street.utility",
        &[
            ("retail", &words.price(street.retail)),
            ("feed_in", &words.price(street.feed_in)),
            ("interval", &words.interval(street.open)),
            ("time", &words.clock(street.gate_closes)),
        ],
    );
    html! { (text) }
}

/// The street in numbers, each a sum of all homes.
fn now(words: &Words, street: &Street) -> Markup {
    let homes = u64::try_from(street.homes.len()).unwrap_or(0);
    html! {
        div.picture { (house::row(street)) }
        @if street.homes.len() < HOMES_MIN {
            p.empty { (words.t("street.too_few")) }
        } @else {
            dl.tiles {
                (tile(words.t("street.homes"), &html! { (homes) }, words.t("street.homes_hint")))
                @if let Some(sun) = summed(words, street, |h| h.sun_w) {
                    (tile(words.t("street.sun"), &sun, words.t("street.sun_hint")))
                }
                (grid_tile(words, street))
                @if let Some(cars) = summed(words, street, |h| h.car_w) {
                    (tile(words.t("street.charging"), &cars, words.t("street.charging_hint")))
                }
                (tile(words.t("street.next"), &html! { (words.clock(street.gate_closes)) }, words.t("street.next_hint")))
            }
        }
    }
}

pub(crate) fn tile(name: &str, value: &Markup, hint: &str) -> Markup {
    html! { div.tile { dt { (name) } dd { b { (value) } span.hint { (hint) } } } }
}

fn grid_tile(words: &Words, street: &Street) -> Markup {
    let name = match street.feeder_w {
        Some(w) if w.value < 0 => words.t("street.gives"),
        _ => words.t("street.takes"),
    };
    let value = words.live(street.now, street.open.length_s(), street.feeder_w);
    tile(name, &value, words.t("street.grid_hint"))
}

fn summed(words: &Words, street: &Street, of: impl Fn(&Home) -> Option<Fresh>) -> Option<Markup> {
    let sum = words.power(sum_w(street, of)?);
    Some(html! { (sum) })
}

/// The sum of a live value over the homes that have a fresh one; `None` where they are too few to hide in.
pub(crate) fn sum_w(street: &Street, of: impl Fn(&Home) -> Option<Fresh>) -> Option<i64> {
    let length_s = street.open.length_s();
    let fresh: Vec<i64> = street
        .homes
        .iter()
        .filter_map(of)
        .filter(|value| !is_old(street.now, length_s, *value))
        .map(|value| value.value.max(0))
        .collect();
    (fresh.len() >= HOMES_MIN).then(|| fresh.iter().sum())
}

fn prices(words: &Words, street: &Street) -> Markup {
    if street.prices.is_empty() {
        return html! { h2 { (words.t("chart.price_title")) } p.empty { (words.t("street.no_price_yet")) } };
    }
    let shown = Prices {
        title: words.t("chart.price_title").to_owned(),
        points: &street.prices,
        retail: street.retail,
        feed_in: street.feed_in,
        limits: None,
        now: street.now,
        csv: None,
    };
    chart::figure(words, &chart::prices(words, &shown))
}

fn proof(words: &Words) -> Markup {
    html! {
        h2 { (words.t("street.proof")) }
        p { (words.t("street.proof_text")) " " a href="/log" { (words.t("street.proof_how")) } }
    }
}
