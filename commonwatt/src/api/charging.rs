//! `/api/v1/chargers` and `/api/v1/sessions`: prices and offers before the plug, sessions, and what a station brings.
//!
//! A session's name cannot be guessed: whoever has it may look at the session and stop it, with no account.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use settlement::calendar::{LocalMonth, Zone};
use settlement::charging::decimal;
use settlement::charging::offer::Expected;
use settlement::charging::promise::Payer;
use settlement::charging::receipt::word;
use settlement::charging::session::State as Stands;
use utoipa::{IntoParams, ToSchema};

use super::answer::{Answer, Refused, home};
use crate::auth::{Viewer, may_write};
use crate::platform::Shared;
use crate::platform::charging::{self, Offered, Place, Running};
use crate::web::Web;

/// Energy where none is asked for, and the most that can be.
pub(crate) const ENERGY_WH: i64 = 10_000;
pub(crate) const ENERGY_MAX_WH: i64 = 200_000;

fn money(amount: domain::money::Money) -> String {
    decimal(i128::from(amount.nano()), 2)
}

/// The community's chargers, with the price of a kWh at this moment, all included.
#[utoipa::path(get, path = "/api/v1/chargers", tag = "charging", responses((status = 200, body = Object)))]
pub(super) async fn list(State(web): State<Web>) -> Answer {
    let now = web.shared.clock.now();
    let expected = charging::expected(&web.shared, now).await?;
    let mut items = Vec::new();
    for place in charging::places(&web.shared).await {
        items.push(shown(&place, expected.first())?);
    }
    Ok(Json(json!({ "items": items, "ocmf_key": web.shared.charging.ocmf_key() })).into_response())
}

fn shown(place: &Place, now: Option<&Expected>) -> anyhow::Result<Value> {
    let station = &place.station;
    let price = now.map(|e| station.all_in(e)).transpose()?;
    let fresh = place.power;
    Ok(json!({
        "id": station.id,
        "host": place.host.as_str(),
        "free": place.is_free,
        "power_w": fresh.map(|f| f.value),
        "power_read_at": fresh.map(|f| f.read_at.to_string()),
        "price_per_kwh": price.map(|p| p.to_string()),
        "currency": station.currency,
        "start_fee_before_tax": money(station.start_fee),
        "parking_per_hour_before_tax": money(station.parking_per_hour),
        "parking_grace_s": station.parking_grace_s,
        "tax_percent": decimal(i128::from(station.tax_ppm) * 100_000, 0),
    }))
}

/// What a driver wants.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wish {
    /// How much energy.
    #[param(minimum = 1, maximum = 200_000)]
    pub(crate) energy_wh: Option<i64>,
    /// Until when; twelve hours from now where nothing is said.
    #[param(format = DateTime)]
    pub(crate) by: Option<String>,
}

/// The energy and the time of a wish, or what is wrong with it.
pub(crate) fn read_wish(wish: &Wish, now: Timestamp) -> Result<(Energy, Timestamp), String> {
    let latest = now.plus_s(charging::AHEAD_S);
    let by = match &wish.by {
        None => latest,
        Some(text) => text.parse::<Timestamp>().map_err(|e| format!("by: {e}."))?,
    };
    if by <= now || by > latest {
        return Err(format!("by: a time after {now} and not after {latest}."));
    }
    match wish.energy_wh.unwrap_or(ENERGY_WH) {
        wh @ 1..=ENERGY_MAX_WH => Ok((Energy::from_wh(wh), by)),
        _ => Err(format!("energy_wh: 1 to {ENERGY_MAX_WH}.")),
    }
}

/// The prices of the next twelve hours, and three offers with a ceiling each.
#[utoipa::path(
    get, path = "/api/v1/chargers/{id}/offers", tag = "charging", params(("id" = String, Path), Wish),
    responses((status = 200, body = Object))
)]
pub(super) async fn offers(
    State(web): State<Web>,
    Path(id): Path<String>,
    Query(wish): Query<Wish>,
) -> Answer {
    let shared = &web.shared;
    let now = shared.clock.now();
    let (energy, by) = read_wish(&wish, now).map_err(|e| Refused::bad(&e))?;
    let place = charging::place(shared, &id)
        .await
        .ok_or_else(Refused::nothing)?;
    let (expected, offers) = charging::offers(shared, &place, energy, by, now).await?;
    let mut prices = Vec::with_capacity(expected.len());
    for one in &expected {
        prices.push(json!({
            "start": one.interval.start().to_string(),
            "length_s": one.interval.length_s(),
            "price_per_kwh": place.station.all_in(one)?.to_string(),
            "local_permille": one.local_permille,
        }));
    }
    let offers: Vec<Value> = offers.iter().map(offered).collect();
    let charger = shown(&place, expected.first())?;
    Ok(Json(json!({ "charger": charger, "prices": prices, "offers": offers })).into_response())
}

fn offered(one: &Offered) -> Value {
    let planned = |(interval, energy): &(domain::time::Interval, Energy)| json!({ "start": interval.start().to_string(), "energy_wh": energy.wh() });
    json!({
        "offer": one.id,
        "choice": one.choice.word(),
        "energy_wh": one.offer.energy.wh(),
        "expected": money(one.offer.expected),
        "ceiling": money(one.offer.ceiling),
        "ready_by": one.offer.ready_by.to_string(),
        "local_permille": one.offer.local_permille,
        "valid_until": one.valid_until.to_string(),
        "plan": one.offer.plan.iter().map(planned).collect::<Vec<_>>(),
    })
}

/// Which offer is taken.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Taken {
    /// Its name.
    offer: String,
}

/// Who pays: the household that is signed in, otherwise a card where the community simulates them.
fn payer(shared: &Shared, viewer: &Viewer) -> Option<Payer> {
    match viewer.home() {
        Some(home) => Some(Payer::Home(home.as_str().to_owned())),
        None => shared.site.charging.simulated_cards.then_some(Payer::Card),
    }
}

/// Takes an offer: its ceiling is held and the session begins. The household that is signed in pays with its
/// tokens; without an account a card does where the community simulates cards, which have no bank behind them.
#[utoipa::path(
    post, path = "/api/v1/sessions", tag = "charging", request_body = Taken,
    responses((status = 201, body = Object))
)]
pub(super) async fn begin(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Json(taken): Json<Taken>,
) -> Answer {
    may_write(&viewer, &headers, &web)?;
    let now = web.shared.clock.now();
    let one = match take(&web.shared, &taken.offer, &viewer, now).await? {
        Ok(one) => one,
        Err(why) => return Err(why.into()),
    };
    Ok((StatusCode::CREATED, Json(session(&one, now))).into_response())
}

/// Why an offer did not become a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotTaken {
    /// Nobody is signed in who could pay.
    NoPayer,
    /// The offer does not stand any more.
    Gone,
    /// Another session runs at the charger.
    Busy,
    /// The ceiling could not be held.
    NotHeld,
}

impl From<NotTaken> for Refused {
    fn from(why: NotTaken) -> Refused {
        let (status, detail) = match why {
            NotTaken::NoPayer => (
                StatusCode::PAYMENT_REQUIRED,
                "Sign in with a household's account to pay for the session.",
            ),
            NotTaken::Gone => (
                StatusCode::CONFLICT,
                "This offer does not stand any more: ask for a new one.",
            ),
            NotTaken::Busy => (
                StatusCode::CONFLICT,
                "Another session runs at this charger: ask again when it has ended.",
            ),
            NotTaken::NotHeld => (
                StatusCode::PAYMENT_REQUIRED,
                "The ceiling could not be held: there are not enough tokens. Nothing was charged.",
            ),
        };
        Refused::new(status, detail)
    }
}

/// A session on an offer, or why there is none. The account that took it remembers it.
pub(crate) async fn take(
    shared: &Shared,
    offer: &str,
    viewer: &Viewer,
    now: Timestamp,
) -> anyhow::Result<Result<Running, NotTaken>> {
    let Some(payer) = payer(shared, viewer) else {
        return Ok(Err(NotTaken::NoPayer));
    };
    let Some(promise) = charging::take(shared, offer, payer, now)? else {
        return Ok(Err(NotTaken::Gone));
    };
    let Some(one) = charging::open(shared, promise, now).await? else {
        return Ok(Err(NotTaken::Busy));
    };
    if matches!(one.session.state(), Stands::Closed(_)) {
        return Ok(Err(NotTaken::NotHeld));
    }
    if let Some(account) = viewer.account() {
        let session = &one.promise.quote.session;
        charging::drivers::remember(&shared.db, &account.name, session, now).await?;
    }
    Ok(Ok(one))
}

/// A session as it stands.
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}", tag = "charging", params(("id" = String, Path)),
    responses((status = 200, body = Object))
)]
pub(super) async fn look(State(web): State<Web>, Path(id): Path<String>) -> Answer {
    let found = charging::find(&web.shared, &id).await?;
    let one = found.ok_or_else(Refused::nothing)?;
    Ok(Json(session(&one, web.shared.clock.now())).into_response())
}

/// Ends a session. One that has ended stays as it is.
#[utoipa::path(
    delete, path = "/api/v1/sessions/{id}", tag = "charging", params(("id" = String, Path)),
    responses((status = 200, body = Object))
)]
pub(super) async fn stop(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Answer {
    may_write(&viewer, &headers, &web)?;
    let now = web.shared.clock.now();
    let stopped = charging::stop(&web.shared, &id, now).await?;
    let one = match stopped {
        Some(one) => Some(one),
        None => charging::find(&web.shared, &id).await?,
    };
    let one = one.ok_or_else(Refused::nothing)?;
    Ok(Json(session(&one, now)).into_response())
}

fn session(one: &Running, now: Timestamp) -> Value {
    let (session, quote) = (&one.session, &one.promise.quote);
    let (state, ending) = match session.state() {
        Stands::Offered => ("offered", None),
        Stands::Authorising => ("authorising", None),
        Stands::Authorised => ("authorised", None),
        Stands::Active => ("active", None),
        Stands::Settling(ending) => ("settling", Some(word(ending))),
        Stands::Closed(ending) => ("closed", Some(word(ending))),
    };
    let so_far = session.bill_so_far().ok().flatten();
    json!({
        "id": quote.session,
        "station": quote.station,
        "state": state,
        "ending": ending,
        "sentence": session.sentence(now, chrono_tz::UTC),
        "energy_wh": session.energy().wh(),
        "wanted_wh": quote.energy.wh(),
        "total": so_far.map_or_else(|| "0.00".to_owned(), |bill| money(bill.total)),
        "ceiling": money(quote.ceiling),
        "held": money(session.held()),
        "debt": money(session.debt()),
        "currency": quote.currency,
        "expected_end": session.expected_end(now).map(|at| at.to_string()),
        "receipt": format!("/sessions/{}/receipt.json", quote.session),
    })
}

/// Which month.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Month {
    /// A month on the site's clock, as `2026-06`.
    month: String,
}

/// What a station brought in a month and to whom it went: for its host.
#[utoipa::path(
    get, path = "/api/v1/chargers/{id}/income", tag = "charging", params(("id" = String, Path), Month),
    responses((status = 200, body = Object))
)]
pub(super) async fn income(
    State(web): State<Web>,
    viewer: Viewer,
    Path(id): Path<String>,
    Query(month): Query<Month>,
) -> Answer {
    let own: &ParticipantId = home(&viewer)?;
    let place = charging::place(&web.shared, &id).await;
    if place.is_none_or(|place| place.host != *own) {
        return Err(Refused::nothing());
    }
    let span = span_of(&month.month, super::statements::zone(&web));
    let span = span.ok_or_else(|| Refused::bad("month: a month like 2026-06."))?;
    let sum = charging::income(&web.shared, &id, span).await?;
    let owners = sum
        .owners
        .iter()
        .map(|(name, part)| (name.clone(), json!(money(*part))));
    Ok(Json(json!({
        "charger": id,
        "month": month.month,
        "sessions": sum.sessions,
        "energy_wh": sum.energy_wh,
        "before_tax": {
            "start_fees": money(sum.start_fees),
            "energy": money(sum.energy),
            "time": money(sum.time),
            "parking": money(sum.parking),
            "limits": money(sum.limits),
        },
        "tax": money(sum.tax),
        "energy_cost": money(sum.energy_cost),
        "owners": owners.collect::<serde_json::Map<_, _>>(),
    }))
    .into_response())
}

/// From the first instant of a month on the site's clock to the first of the next.
fn span_of(month: &str, zone: Zone) -> Option<(Timestamp, Timestamp)> {
    LocalMonth::parse(month, zone).ok()?.bounds().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_a_span_and_a_wish_is_within_reason() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        for (month, begin, end) in [
            ("2026-12", "2026-11-30T23:00:00Z", "2026-12-31T23:00:00Z"),
            ("2026-10", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
        ] {
            let (from, to) = span_of(month, berlin).unwrap();
            assert_eq!((&*from.to_string(), &*to.to_string()), (begin, end));
        }
        for bad in ["2026", "2026-13", "x-1", "2026-00"] {
            assert!(span_of(bad, berlin).is_none(), "{bad}");
        }
        let now: Timestamp = "2026-06-21T10:00:00Z".parse().unwrap();
        let wish = |energy_wh, by: Option<&str>| Wish {
            energy_wh,
            by: by.map(str::to_owned),
        };
        let (energy, by) = read_wish(&wish(None, None), now).unwrap();
        assert_eq!(
            (energy.wh(), by),
            (ENERGY_WH, now.plus_s(charging::AHEAD_S))
        );
        for bad in [
            wish(Some(0), None),
            wish(Some(ENERGY_MAX_WH + 1), None),
            wish(None, Some("noon")),
            wish(None, Some("2026-06-21T09:00:00Z")),
            wish(None, Some("2026-06-22T09:00:00Z")),
        ] {
            assert!(read_wish(&bad, now).is_err());
        }
    }
}
