//! Orders that a signed-in home says in JSON: the platform signs them with the home's key, which it holds for the
//! autopilot, and they go through the same door as every other order. They are taken back by their name.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::cancel::Cancel;
use domain::energy::Energy;
use domain::ids::{OrderId, ParticipantId};
use domain::money::Price;
use domain::order::{Order, PARTNERS_MAX, Preference, Side};
use domain::signed::Signed;
use domain::time::{Interval, Timestamp};
use market_engine::service::OwnOrder;
use serde::Deserialize;
use utoipa::ToSchema;

use super::answer::{Answer, AsHome, Refused, price, unprocessable};
use super::orders::{OrderRow, said};
use crate::auth::{Viewer, may_write};
use crate::platform::{account_sequence, standing};
use crate::web::Web;

/// An order of one's own home.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    /// bid or offer.
    #[schema(pattern = "^(bid|offer)$", example = "bid")]
    side: String,
    /// When its interval starts; its gate has to be open.
    #[schema(format = DateTime, example = "2026-06-21T12:00:00Z")]
    start: String,
    /// How much energy at most.
    #[schema(minimum = 1, example = 500)]
    energy_wh: i64,
    /// What a bid pays at most, an offer receives at least, in token/kWh.
    #[schema(example = "0.200000")]
    limit_price: String,
    /// The name of one's own order in the same interval whose place it takes, in one step.
    replaces: Option<String>,
    /// What it wishes beyond price.
    preference: Option<Wishes>,
}

/// What an order wishes beyond price. It decides with whom served energy is traded.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = OrderPreference)]
pub(super) struct Wishes {
    /// Households to trade with if possible, most wanted first.
    #[schema(max_items = 8)]
    partners: Vec<String>,
    /// Of a bid: offers of its own feeder come first.
    same_feeder: bool,
    /// Of an offer: its energy is green, by the seller's own word.
    green: bool,
    /// Of a bid: token/kWh that it pays at most on top of its limit for green energy.
    green_premium: Option<String>,
}

impl Wishes {
    fn read(self, home: &ParticipantId, side: Side) -> Result<Preference, Refused> {
        let partner = |name: String| {
            let wrong = |error| unprocessable(&format!("preference.partners: {error}."));
            ParticipantId::new(name).map_err(wrong)
        };
        let partners: Result<Vec<_>, Refused> = self.partners.into_iter().map(partner).collect();
        let premium = self.green_premium.as_deref().unwrap_or("0");
        let partners = partners?;
        if partners.len() > PARTNERS_MAX || partners.contains(home) {
            let detail = format!("preference.partners: {PARTNERS_MAX} others at most.");
            return Err(unprocessable(&detail));
        }
        let preference = Preference {
            partners,
            same_feeder: self.same_feeder,
            green: self.green,
            green_premium: price("preference.green_premium", premium)?,
        };
        if preference.green_premium < Price::ZERO {
            return Err(unprocessable("preference.green_premium: not below zero."));
        }
        let is_of_side = match side {
            Side::Bid => !preference.green,
            Side::Offer => !preference.same_feeder && self.green_premium.is_none(),
        };
        match is_of_side {
            true => Ok(preference),
            false => Err(unprocessable(
                "preference: green is an offer's word; same_feeder and green_premium are a bid's.",
            )),
        }
    }
}

/// Takes an order that a home says in JSON.
pub(super) async fn place(web: &Web, mut parts: Parts, body: &Bytes) -> Answer {
    let AsHome(viewer, home) = AsHome::from_request_parts(&mut parts, web).await?;
    let new = Json::<NewOrder>::from_bytes(body);
    let Json(new) = new.map_err(|wrong| Box::new(wrong.into_response()))?;
    may_write(&viewer, &parts.headers, web)?;
    let replaced = match &new.replaces {
        Some(name) => Some(own(web, &home, name).await?),
        None => None,
    };
    let (order, now) = (read(web, &home, new)?, web.shared.clock.now());
    let sequence = account_sequence(&web.shared, &home, now).await?;
    let order = Order {
        sequence,
        replaces: replaced.map(|replaced| replaced.sequence),
        ..order
    };
    let id = order.id();
    let message = standing::say(&web.shared, &home, &order).map_err(|_| no_key())?;
    let mut response = said(web, message).await;
    noted(web, &viewer, response.status(), ("order placed", id)).await;
    if response.status() == StatusCode::CREATED
        && let Ok(place) = HeaderValue::from_str(&format!("/api/v1/orders/{id}"))
    {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

fn no_key() -> Refused {
    unprocessable(
        "The platform holds no key of this home: sign the order, and send it as application/cose.",
    )
}

/// The order, still without a number.
fn read(web: &Web, home: &ParticipantId, new: NewOrder) -> Result<Order, Refused> {
    let shared = &web.shared;
    let mut sides = [Side::Bid, Side::Offer].into_iter();
    let side = sides.find(|side| side.word() == new.side);
    let side = side.ok_or_else(|| unprocessable("side: bid or offer."))?;
    let start: Result<Timestamp, _> = new.start.parse();
    let start = start.map_err(|error| unprocessable(&format!("start: {error}.")))?;
    let interval = Interval::new(start.unix_s(), shared.market.rules.interval_length_s);
    let interval = interval.map_err(|error| unprocessable(&format!("start: {error}.")))?;
    if new.energy_wh < 1 {
        return Err(unprocessable("energy_wh: 1 or more."));
    }
    let point = shared.site.connection_of(home).ok_or_else(no_key)?;
    Ok(Order {
        participant: home.clone(),
        point: point.point.clone(),
        side,
        interval,
        energy: Energy::from_wh(new.energy_wh),
        limit: price("limit_price", &new.limit_price)?,
        sequence: 0,
        replaces: None,
        preference: new.preference.unwrap_or_default().read(home, side)?,
    })
}

/// The home's own order of this name. Others' are not there.
async fn own(web: &Web, home: &ParticipantId, name: &str) -> Result<Order, Refused> {
    let id: OrderId = name.parse().map_err(|_| Refused::nothing())?;
    let signed = market_engine::service::signed_order(&web.shared.db, id).await?;
    let signed = signed.ok_or_else(Refused::nothing)?;
    let order = Signed::<Order>::from_bytes(signed).stored();
    let order = order.map_err(anyhow::Error::from)?;
    match order.participant == *home {
        true => Ok(order),
        false => Err(Refused::nothing()),
    }
}

/// One of one's own orders, whoever has signed it for the home.
#[utoipa::path(
    get, path = "/api/v1/orders/{id}", tag = "market",
    params(("id" = String, Path, description = "The order, as the list names it")),
    responses((status = 200, body = OrderRow))
)]
pub(super) async fn one(
    State(web): State<Web>,
    AsHome(_, home): AsHome,
    Path(name): Path<String>,
) -> Answer {
    let order = own(&web, &home, &name).await?;
    let (from, to) = (order.interval.start(), order.interval.end());
    let all = market_engine::service::own_orders(&web.shared.db, &home, from, to).await?;
    let is_it = |known: &&OwnOrder| known.id == order.id();
    let found = all.iter().find(is_it).ok_or_else(Refused::nothing)?;
    Ok(Json(OrderRow::from(found)).into_response())
}

/// Takes one of one's own orders out of the book, until the gate of its interval closes. Taken back twice, it is out
/// all the same.
#[utoipa::path(
    delete, path = "/api/v1/orders/{id}", tag = "market",
    params(("id" = String, Path, description = "The order, as the list names it")),
    responses((status = 200, body = Object))
)]
pub(super) async fn withdraw(
    State(web): State<Web>,
    AsHome(viewer, home): AsHome,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    let order = own(&web, &home, &name).await?;
    may_write(&viewer, &headers, &web)?;
    let cancel = Cancel {
        participant: home.clone(),
        sequence: order.sequence,
        interval: order.interval,
    };
    let message = standing::say(&web.shared, &home, &cancel).map_err(|_| no_key())?;
    let response = said(&web, message).await;
    noted(
        &web,
        &viewer,
        response.status(),
        ("order withdrawn", order.id()),
    )
    .await;
    Ok(response)
}

/// Notes who had the platform sign for the home.
async fn noted(web: &Web, viewer: &Viewer, answer: StatusCode, (action, id): (&str, OrderId)) {
    if answer.is_success() {
        let id = id.to_string();
        web.accounts.note_done(viewer, action, &id).await;
    }
}
