//! `/api/v1/chargers` and `/api/v1/sessions`: prices and offers before the plug, and sessions.
//!
//! A session's name cannot be guessed: whoever has it may look at the session, change and stop it, with no account. A
//! household lists the sessions that it pays, an operator all; a correction of what was paid is the operator's.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use domain::energy::Energy;
use domain::money::Money;
use domain::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use settlement::charging::decimal;
use settlement::charging::offer::Expected;
use settlement::charging::promise::Payer;
use settlement::charging::receipt::word;
use settlement::charging::session::State as Stands;
use settlement::charging::split::Credit;
use utoipa::{IntoParams, ToSchema};

use super::answer::{After, Answer, List, Range, Refused, Wants, home, only};
use crate::auth::{Role, Viewer, may_write};
use crate::platform::Shared;
use crate::platform::charging::{self, Amended, Corrected, Offered, Place, Running, Wanted};
use crate::web::Web;

/// Energy where none is asked for, and the most that can be.
pub(crate) const ENERGY_WH: i64 = 10_000;
pub(crate) const ENERGY_MAX_WH: i64 = 200_000;

fn money(amount: Money) -> String {
    decimal(i128::from(amount.nano()), 2)
}

/// The community's chargers, with the price of a kWh at this moment, all included.
#[utoipa::path(
    get, path = "/api/v1/chargers", tag = "charging", params(After),
    responses((status = 200, content((Object = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    let now = web.shared.clock.now();
    let expected = charging::expected(&web.shared, now).await?;
    let mut items = Vec::new();
    for place in charging::places(&web.shared).await {
        items.push(shown(&place, expected.first())?);
    }
    let (items, next) = after.part(items, |row: &Value| text(row, "id"))?;
    if wants == Wants::Csv {
        return List { items, next }.answer(wants, &CHARGER_COLUMNS);
    }
    let ocmf_key = web.shared.charging.ocmf_key();
    Ok(Json(json!({ "items": items, "next": next, "ocmf_key": ocmf_key })).into_response())
}

/// A row's name.
fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
}

const CHARGER_COLUMNS: [&str; 14] = [
    "id",
    "host",
    "feeder",
    "buys_itself",
    "free",
    "power_w",
    "power_read_at",
    "price_per_kwh",
    "currency",
    "start_fee_before_tax",
    "time_per_hour_before_tax",
    "parking_per_hour_before_tax",
    "parking_grace_s",
    "tax_percent",
];

fn shown(place: &Place, now: Option<&Expected>) -> anyhow::Result<Value> {
    let station = &place.station;
    let price = now.map(|e| station.all_in(e)).transpose()?;
    let fresh = place.power;
    Ok(json!({
        "id": station.id,
        "host": place.host.as_str(),
        "feeder": place.feeder.as_ref().map(ToString::to_string),
        "buys_itself": place.buys,
        "free": place.is_free,
        "power_w": fresh.map(|f| f.value),
        "power_read_at": fresh.map(|f| f.read_at.to_string()),
        "price_per_kwh": price.map(|p| p.to_string()),
        "currency": station.currency,
        "start_fee_before_tax": money(station.start_fee),
        "time_per_hour_before_tax": money(station.time_per_hour),
        "parking_per_hour_before_tax": money(station.parking_per_hour),
        "parking_grace_s": station.parking_grace_s,
        "tax_percent": decimal(i128::from(station.tax_ppm) * 100_000, 0),
    }))
}

/// What a driver wants.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[schema(as = ChargingWish)]
pub(crate) struct Wish {
    /// How much energy.
    #[param(minimum = 1, maximum = 200_000)]
    #[schema(minimum = 1, maximum = 200_000)]
    pub(crate) energy_wh: Option<i64>,
    /// Until when; twelve hours from now where nothing is said.
    #[param(format = DateTime)]
    #[schema(format = DateTime)]
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
    offered_for(&web, &id, &wish).await
}

/// The same for a wish as a body.
#[utoipa::path(
    post, path = "/api/v1/chargers/{id}/offers", tag = "charging", params(("id" = String, Path)),
    request_body = Wish, responses((status = 200, body = Object))
)]
pub(super) async fn wish(
    State(web): State<Web>,
    Path(id): Path<String>,
    Json(wish): Json<Wish>,
) -> Answer {
    offered_for(&web, &id, &wish).await
}

async fn offered_for(web: &Web, id: &str, wish: &Wish) -> Answer {
    let shared = &web.shared;
    let now = shared.clock.now();
    let (energy, by) = read_wish(wish, now).map_err(|e| Refused::bad(&e))?;
    let place = charging::place(shared, id)
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
    /// Where nobody is signed in and the community simulates cards: which one.
    #[serde(default)]
    card: Card,
}

/// A simulated card.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Card {
    /// It pays.
    #[default]
    Good,
    /// Its hold is placed, and the payment is refused at the end.
    RefusedAtTheEnd,
}

/// Who pays: the household that is signed in, otherwise a card where the community simulates them.
fn payer(shared: &Shared, viewer: &Viewer, card: Card) -> Option<Payer> {
    let card = match card {
        Card::Good => Payer::Card,
        Card::RefusedAtTheEnd => Payer::RefusingCard,
    };
    match viewer.home() {
        Some(home) => Some(Payer::Home(home.as_str().to_owned())),
        None => shared.site.charging.simulated_cards.then_some(card),
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
    let one = match take(&web.shared, (&taken.offer, taken.card), &viewer, now).await? {
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
    (offer, card): (&str, Card),
    viewer: &Viewer,
    now: Timestamp,
) -> anyhow::Result<Result<Running, NotTaken>> {
    let Some(payer) = payer(shared, viewer, card) else {
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

/// Which sessions.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Sessions {
    /// Only what was offered at this time or later.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Only what was offered before this time.
    #[param(format = DateTime)]
    to: Option<String>,
    /// Only what comes behind the last row of the page before: its `next`.
    after: Option<String>,
    /// Most rows on the page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The sessions that the household pays, for operators those of all, newest first.
#[utoipa::path(
    get, path = "/api/v1/sessions", tag = "charging", params(Sessions),
    responses((status = 200, content((Object = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn sessions(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(asked): Query<Sessions>,
) -> Answer {
    let payer = match viewer.is(Role::Operator) {
        true => None,
        false => Some(home(&viewer)?),
    };
    let span = Range::new((asked.from, asked.to), asked.after, asked.limit).read()?;
    let after = match &span.after {
        None => None,
        Some(name) => {
            let before = charging::find(&web.shared, name).await?;
            let quote = before.ok_or_else(Refused::no_page)?.promise.quote;
            Some((quote.offered_at, quote.session))
        }
    };
    let now = web.shared.clock.now();
    let span_of = (span.from, span.to);
    let found = charging::listed(&web.shared, payer, span_of, after.as_ref(), span.limit).await?;
    let last = found.last().map(|one| one.promise.quote.session.clone());
    let full = found.len() == usize::try_from(span.limit).unwrap_or(usize::MAX);
    let items: Vec<Value> = found.iter().map(|one| session(one, now)).collect();
    let next = last.filter(|_| full);
    List { items, next }.answer(wants, &SESSION_COLUMNS)
}

const SESSION_COLUMNS: [&str; 15] = [
    "id",
    "station",
    "state",
    "ending",
    "sentence",
    "energy_wh",
    "wanted_wh",
    "total",
    "ceiling",
    "held",
    "debt",
    "currency",
    "ready_by",
    "expected_end",
    "receipt",
];

/// What a driver wants instead.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// How much energy in all.
    #[schema(minimum = 1, maximum = 200_000)]
    energy_wh: Option<i64>,
    /// When the car leaves: until then prices have to be promised.
    #[schema(format = DateTime)]
    by: Option<String>,
    /// Where the ceiling has to rise: the one that the driver agrees to.
    ceiling: Option<String>,
}

/// Changes energy and time of a session that runs. Prices stay as promised; where it may cost more than the ceiling
/// that was accepted, it is refused with what it may cost, until `ceiling` agrees to that and the difference is held.
#[utoipa::path(
    patch, path = "/api/v1/sessions/{id}", tag = "charging", params(("id" = String, Path)), request_body = Change,
    responses((status = 200, body = Object))
)]
pub(super) async fn change(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Path(id): Path<String>,
    Json(change): Json<Change>,
) -> Answer {
    may_write(&viewer, &headers, &web)?;
    let now = web.shared.clock.now();
    let energy = match change.energy_wh {
        None => None,
        Some(wh @ 1..=ENERGY_MAX_WH) => Some(Energy::from_wh(wh)),
        Some(_) => return Err(Refused::bad(&format!("energy_wh: 1 to {ENERGY_MAX_WH}."))),
    };
    let by = change.by.map(|text| text.parse::<Timestamp>()).transpose();
    let ceiling = change.ceiling.map(|text| text.parse::<Money>()).transpose();
    let wanted = Wanted {
        energy,
        by: by.map_err(|e| Refused::bad(&format!("by: {e}.")))?,
        ceiling: ceiling.map_err(|e| Refused::bad(&format!("ceiling: {e}.")))?,
    };
    let conflict = |detail: &str| Err(Refused::new(StatusCode::CONFLICT, detail));
    if wanted.ceiling.is_some()
        && let Some(one) = charging::find(&web.shared, &id).await?
        && let Payer::Home(home) = &one.promise.payer
        && viewer
            .home()
            .is_none_or(|own| own.as_str() != home.as_str())
    {
        let detail = "Only the household that pays can agree to a higher ceiling.";
        return Err(Refused::new(StatusCode::FORBIDDEN, detail));
    }
    match charging::change(&web.shared, &id, wanted, now).await? {
        Amended::Changed(one) => Ok(Json(session(&one, now)).into_response()),
        Amended::NotRunning => match charging::find(&web.shared, &id).await? {
            Some(_) => conflict("This session has ended: nothing in it changes any more."),
            None => Err(Refused::nothing()),
        },
        Amended::DoesNotFit(why) => Err(Refused::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            &format!("It does not fit: {why}"),
        )),
        Amended::NeedsConsent(ceiling) => conflict(&format!(
            "It may cost up to {0} with this, more than was agreed to: send `ceiling` \"{0}\" to agree. Until then \
             nothing is changed.",
            money(ceiling)
        )),
        Amended::NoFunds => Err(Refused::new(
            StatusCode::PAYMENT_REQUIRED,
            "There are not enough tokens for the higher ceiling. Nothing was changed.",
        )),
    }
}

/// An operator's correction.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCredit {
    /// Why; the driver reads it on the receipt.
    #[schema(min_length = 1, max_length = 200)]
    reason: String,
    /// What the session costs instead; without it, what the readings come to that are in the books by now.
    total: Option<String>,
}

/// Most characters of a correction's reason.
const REASON_MAX_CHARS: usize = 200;

/// Corrects what was paid for a session that has ended: the old record is taken back whole and a new one stands in its
/// place. It only ever becomes less.
#[utoipa::path(
    post, path = "/api/v1/sessions/{id}/credits", tag = "charging", params(("id" = String, Path)),
    request_body = NewCredit, responses((status = 201, body = Object))
)]
pub(super) async fn credit(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Path(id): Path<String>,
    Json(new): Json<NewCredit>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    may_write(&viewer, &headers, &web)?;
    let reason = new.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_MAX_CHARS {
        let detail = format!("reason: 1 to {REASON_MAX_CHARS} characters.");
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, &detail));
    }
    let total = new.total.map(|text| text.parse::<Money>()).transpose();
    let total = total.map_err(|e| Refused::bad(&format!("total: {e}.")))?;
    let now = web.shared.clock.now();
    match charging::correct(&web.shared, &id, (total, reason), now).await? {
        Corrected::Booked(credit) => {
            let answer = Json(credited(&credit));
            Ok((StatusCode::CREATED, answer).into_response())
        }
        Corrected::Nothing => Err(Refused::nothing()),
        Corrected::NotLess(stands) => {
            let detail = format!(
                "The session stands at {}, and nothing is collected after its end: a correction has to be less.",
                money(stands)
            );
            Err(Refused::new(StatusCode::CONFLICT, &detail))
        }
        Corrected::TooOften => {
            let detail = "This session was corrected as often as one can be.";
            Err(Refused::new(StatusCode::CONFLICT, detail))
        }
    }
}

fn credited(credit: &Credit) -> Value {
    json!({
        "at": Timestamp::from_unix_ms(credit.at_ms).to_string(),
        "reason": credit.reason,
        "credit_total": decimal(-i128::from(credit.old_total_nano), 2),
        "new_total": decimal(i128::from(credit.new_total_nano), 2),
        "refund": money(credit.refund()),
    })
}

/// The corrections of a session, in their order.
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}/credits", tag = "charging", params(("id" = String, Path), After),
    responses((status = 200, content((Object = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn credits(
    State(web): State<Web>,
    wants: Wants,
    Path(id): Path<String>,
    Query(after): Query<After>,
) -> Answer {
    let found = charging::credits(&web.shared, &id).await?;
    let items: Vec<Value> = found.iter().map(credited).collect();
    let columns = ["at", "reason", "credit_total", "new_total", "refund"];
    List::part(items, &after, |row: &Value| text(row, "at"))?.answer(wants, &columns)
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
        "ready_by": quote.ready_by.to_string(),
        "expected_end": session.expected_end(now).map(|at| at.to_string()),
        "receipt": format!("/sessions/{}/receipt.json", quote.session),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_within_reason() {
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
