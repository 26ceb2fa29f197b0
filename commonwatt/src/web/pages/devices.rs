//! `/home/devices`: do all my meters report, and is what they say signed.

use axum::response::Response;
use domain::ids::to_hex;
use domain::key_record::PointRole;
use maud::{Markup, html};
use settlement::service::{GatewayKey, PointState};

use super::Ask;
use crate::view::grid::{completeness, expected};
use crate::web::layout::Page;
use crate::web::words::Words;

/// A meter that reports later than this after its interval is late: two intervals.
const LATE_INTERVALS: i64 = 2;

pub(super) async fn show(ask: Ask) -> Result<Response, Response> {
    let home = ask.home()?;
    let (shared, now) = (&ask.web.shared, ask.street.now);
    let from = now.plus_s(-86_400);
    let states = settlement::service::point_states(&shared.db, Some(&home), from, now).await;
    let states = states.map_err(|error| ask.failed("meters could not be read", &error))?;
    let keys = settlement::service::gateway_keys(&shared.db).await;
    let keys = keys.map_err(|error| ask.failed("keys could not be read", &error))?;
    let words = &ask.words;
    let length_s = ask.street.open.length_s();
    let in_time = |state: &&PointState| {
        let newest = state.newest.map(|(start, _)| now.ms_since(start) / 1000);
        newest.is_some_and(|age_s| age_s <= (LATE_INTERVALS + 1) * i64::from(length_s))
    };
    let (good, all) = (states.iter().filter(in_time).count(), states.len());
    let count = |n: usize| u64::try_from(n).unwrap_or(0);
    let answer = match (good, all) {
        (_, 0) => words.t("devices.none").to_owned(),
        (good, all) if good == all => {
            words.plural("devices.all_one", "devices.all_many", count(all))
        }
        (good, all) => words.fill(
            "devices.some",
            &[("good", &good.to_string()), ("all", &all.to_string())],
        ),
    };
    let page = Page {
        title: words.t("nav.devices").to_owned(),
        above: home.to_string(),
        answer,
        below: html! { (words.t("devices.signed")) },
        body: html! {
            div.cards { @for state in &states {
                @let key = keys.iter().find(|key| key.gateway == state.gateway && key.replaced.is_none());
                section.card { (meter(words, &ask, state, key, length_s)) }
            } }
            section.card { (gateway(words, &ask, &home)) }
        },
        live: None,
    };
    Ok(ask.show(&page))
}

fn role(words: &Words, role: PointRole) -> &'static str {
    match role {
        PointRole::Connection => words.t("devices.connection"),
        PointRole::Feeder => words.t("devices.feeder"),
        PointRole::Submeter => words.t("devices.submeter"),
    }
}

fn meter(
    words: &Words,
    ask: &Ask,
    state: &PointState,
    key: Option<&GatewayKey>,
    length_s: u32,
) -> Markup {
    let now = ask.street.now;
    let due = expected(state, now.plus_s(-86_400), now, length_s);
    let share = completeness(state.accepted, due);
    html! {
        h2 { (state.point) " " small { (role(words, state.role)) } }
        dl.facts {
            dt { (words.t("devices.newest")) }
            dd { @match state.newest {
                Some((start, came)) => {
                    (words.clock(start)) " · " (words.fill("devices.came", &[("ago", &words.ago(now.ms_since(came)))]))
                }
                None => { span.old { (words.t("number.no_value")) } }
            } }
            dt { (words.t("devices.day")) }
            dd { @match share {
                Some(permille) => {
                    (words.permille(permille)) " "
                    small { (words.fill("devices.of", &[("n", &state.accepted.to_string()), ("all", &due.max(state.accepted).to_string())])) }
                }
                None => { span.old { (words.t("devices.new")) } }
            } }
            dt { (words.t("devices.signature")) }
            dd { @if state.accepted > 0 { span.good { "✓ " (words.t("devices.signature_good")) } } @else { "–" } }
            dt { (words.t("devices.refused")) } dd { (state.refused) }
            dt { (words.t("devices.estimated")) } dd { (state.estimated) }
            dt { (words.t("devices.key")) }
            dd { @match key {
                Some(key) => { code.key { (to_hex(&key.kid.0)) } },
                None => "–",
            } }
        }
    }
}

/// What the home's gateway reads at this moment: shown only, never settled.
fn gateway(words: &Words, ask: &Ask, home: &domain::ids::ParticipantId) -> Markup {
    let (street, length_s) = (&ask.street, ask.street.open.length_s());
    let Some(home) = street.homes.iter().find(|h| h.id == *home) else {
        return html! {};
    };
    let rows = [
        (true, "devices.live_meter", home.net_w),
        (home.has_sun, "devices.live_inverter", home.sun_w),
        (home.has_battery, "devices.live_battery", home.battery_w),
        (home.has_car, "devices.live_charger", home.car_w),
    ];
    html! {
        h2 { (words.t("devices.live")) " " small { (words.t("devices.live_hint")) } }
        dl.facts { @for (_, word, value) in rows.into_iter().filter(|row| row.0) {
            dt { (words.t(word)) }
            dd {
                (words.live(street.now, length_s, value))
                @if let Some(value) = value { " " small { (words.ago(street.now.ms_since(value.read_at))) } }
            }
        } }
    }
}
