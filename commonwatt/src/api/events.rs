//! `/api/v1/events`: what happens, as server-sent events, each with a small JSON text. The market's are for
//! everybody; readings, trades and deliveries only for the home they are of.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use domain::ids::ParticipantId;
use domain::time::Timestamp;
use futures_util::Stream;
use serde_json::{Value, json};
use settlement::service::Whose;

use super::answer::{Answer, Refused, time};
use crate::auth::{Role, Viewer};
use crate::view::Street;
use crate::web::Web;
use crate::web::listeners::{Place, for_a_while};

/// Shortest time between two looks at the street for one listener.
const LOOK_PAUSE: Duration = Duration::from_millis(400);
/// How far back a home's newest reading and delivery are looked for.
const LOOK_BACK_S: i64 = 86_400;

/// What a listener was told last.
#[derive(Default)]
struct Told {
    open: Option<Timestamp>,
    cleared: Option<Timestamp>,
    ledger: u64,
    feeder: Option<Timestamp>,
    reading: Option<Timestamp>,
    delivery: Option<Timestamp>,
}

struct Listener {
    web: Web,
    home: Option<ParticipantId>,
    is_operator: bool,
    told: Told,
    waiting: std::collections::VecDeque<Event>,
    is_new: bool,
    _place: Place,
}

/// What happens from now on: interval_opened, gate_closed, cleared and checkpoint for everybody; reading, trade and
/// delivery for one's own home; feeder for operators. After five minutes the stream ends: who listens on asks again,
/// as an EventSource does by itself. At most 32 streams lead to one address.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "service",
    responses((status = 200, content_type = "text/event-stream", body = String))
)]
pub(super) async fn events(State(web): State<Web>, viewer: Viewer) -> Answer {
    let place = web.listeners.enter(&viewer.address);
    let place = place.map_err(|why| Refused::new(StatusCode::SERVICE_UNAVAILABLE, why))?;
    let listener = Listener {
        home: viewer.home().cloned(),
        is_operator: viewer.is(Role::Operator),
        told: Told::default(),
        waiting: std::collections::VecDeque::new(),
        is_new: true,
        _place: place,
        web,
    };
    Ok(Sse::new(for_a_while(stream(listener)))
        .keep_alive(KeepAlive::default())
        .into_response())
}

fn stream(listener: Listener) -> impl Stream<Item = Result<Event, Infallible>> {
    futures_util::stream::unfold(listener, |mut listener| async move {
        loop {
            if let Some(event) = listener.waiting.pop_front() {
                return Some((Ok(event), listener));
            }
            if !listener.is_new {
                tokio::select! {
                    () = listener.web.stop.cancelled() => return None,
                    changed = listener.web.street.changed() => changed.ok()?,
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            let street = listener.web.street.borrow_and_update().clone();
            // What stands already is where the stream begins, and no news.
            let found = listener.look(&street).await;
            match found {
                Ok(events) if !listener.is_new => listener.waiting.extend(events),
                Ok(_) => listener
                    .waiting
                    .push_back(event("hello", &json!({ "now": time(street.now) }))),
                Err(error) => {
                    tracing::warn!("events could not be gathered: {error:#}");
                    return None;
                }
            }
            listener.is_new = false;
        }
    })
}

fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

impl Listener {
    /// What is new since the last look.
    async fn look(&mut self, street: &Street) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        self.market(street, &mut events);
        let told = &mut self.told;
        if street.log.ledger > told.ledger {
            told.ledger = street.log.ledger;
            events.push(event(
                "checkpoint",
                &json!({ "log": "ledger", "size": told.ledger }),
            ));
        }
        if let Some(feeder) = street.feeder_w.filter(|_| self.is_operator)
            && told.feeder.replace(feeder.read_at) != Some(feeder.read_at)
        {
            let data = json!({ "power_w": feeder.value, "read_at": time(feeder.read_at) });
            events.push(event("feeder", &data));
        }
        if let Some(home) = self.home.clone() {
            self.own(&home, street.now, &mut events).await?;
        }
        Ok(events)
    }

    fn market(&mut self, street: &Street, events: &mut Vec<Event>) {
        let told = &mut self.told;
        let open = street.open.start();
        if told.open != Some(open) {
            if let Some(closed) = told.open.replace(open) {
                events.push(event("gate_closed", &json!({ "start": time(closed) })));
            }
            let data = json!({ "start": time(open), "gate_closes": time(street.gate_closes) });
            events.push(event("interval_opened", &data));
        }
        let Some(cleared) = &street.cleared else {
            return;
        };
        let start = cleared.interval.start();
        if told.cleared.replace(start) == Some(start) {
            return;
        }
        let data = json!({
            "start": time(start),
            "price": cleared.price.map(|price| price.to_string()),
            "volume_wh": cleared.volume.wh(),
            "orders": cleared.orders.len(),
            "trades": cleared.trades.len(),
        });
        events.push(event("cleared", &data));
        let home = self.home.as_ref();
        let own = cleared.trades.iter().filter_map(|trade| match home {
            Some(home) if trade.buyer == *home => Some((trade, "bought")),
            Some(home) if trade.seller == *home => Some((trade, "sold")),
            _ => None,
        });
        for (trade, side) in own {
            let data = json!({
                "trade": trade.id.to_string(),
                "start": time(start),
                "side": side,
                "energy_wh": trade.energy.wh(),
                "price": trade.price.to_string(),
            });
            events.push(event("trade", &data));
        }
    }

    /// The home's newest reading and delivery, where they are new.
    async fn own(
        &mut self,
        home: &ParticipantId,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) -> anyhow::Result<()> {
        let db = &self.web.shared.db;
        let from = now.plus_s(-LOOK_BACK_S);
        let since = self.told.reading.unwrap_or(from).max(from);
        let metered =
            settlement::service::history(db, Whose::Participant(home), since, now).await?;
        if let Some(newest) = metered.last()
            && self.told.reading.replace(newest.interval.start()) != Some(newest.interval.start())
        {
            let data = json!({
                "start": time(newest.interval.start()),
                "import_wh": newest.imported.wh(),
                "export_wh": newest.exported.wh(),
                "quality": newest.quality.word(),
            });
            events.push(event("reading", &data));
        }
        let lines = settlement::service::lines_page(db, home, (from, now), 1).await?;
        if let Some(line) = lines.last()
            && self.told.delivery.replace(line.interval.start()) != Some(line.interval.start())
        {
            let data = json!({
                "start": time(line.interval.start()),
                "run": line.run.word(),
                "bought_wh": line.delivery.bought.wh(),
                "sold_wh": line.delivery.sold.wh(),
            });
            events.push(event("delivery", &data));
        }
        Ok(())
    }
}
