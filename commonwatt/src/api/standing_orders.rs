//! `/api/v1/standing-orders`: signed wishes over many intervals in, what became of them out.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::Response;
use domain::standing_order::Standing;
use domain::time::Timestamp;
use market_engine::service::standing::Part;
use market_engine::standing::Placement;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{After, Answer, List, Wants, home};
use super::orders::take;
use crate::auth::Viewer;
use crate::platform::standing::{self, Shown};
use crate::web::Web;

/// Takes one standing order, or a cancel of one, that its participant has signed.
#[utoipa::path(
    post, path = "/api/v1/standing-orders", tag = "signed",
    request_body(content = Vec<u8>, content_type = "application/cose", description = "COSE_Sign1 of a standing order or a cancel of one"),
    responses((status = 201, body = Object), (status = 200, body = Object))
)]
pub(super) async fn place_standing(State(web): State<Web>, body: Bytes) -> Response {
    take(&web, body).await
}

/// A standing order of one's own.
#[derive(Serialize, ToSchema)]
#[schema(as = StandingOrder)]
pub(super) struct Row {
    order: String,
    sequence: u64,
    /// The sequence of the one whose place it took; what was reached there counts here.
    replaces: Option<u64>,
    /// deadline or battery.
    kind: &'static str,
    /// The deadline, or until when the battery trades.
    #[schema(format = DateTime)]
    until: String,
    /// standing, met, over, withdrawn or replaced.
    state: &'static str,
    /// Of a deadline: how much, in all.
    energy_wh: Option<i64>,
    /// Of a deadline: token/kWh at most.
    limit_price: Option<String>,
    /// Of a deadline: whether it must be met even at the utility's price.
    must: Option<bool>,
    /// What has come or is bought; of a battery: what is in it once closed intervals are over.
    reached_wh: i64,
    /// Of a battery: what the dearest energy in it cost, losses counted, in token/kWh.
    cost_price: Option<String>,
    /// What it would order now; only the nearest interval is ordered, shortly before its gate closes.
    plan: Vec<Planned>,
    /// What it has ordered, oldest interval first.
    orders: Vec<Ordered>,
}

/// What a standing order would order.
#[derive(Serialize, ToSchema)]
#[schema(as = StandingOrderPlan)]
pub(super) struct Planned {
    #[schema(format = DateTime)]
    start: String,
    /// bid or offer.
    side: &'static str,
    energy_wh: i64,
    /// Token/kWh.
    limit_price: String,
    /// cheap, last-chance, buy-low or sell-high.
    why: &'static str,
}

/// What a standing order has ordered.
#[derive(Serialize, ToSchema)]
#[schema(as = StandingOrderOrder)]
pub(super) struct Ordered {
    #[serde(flatten)]
    planned: Planned,
    /// Its sequence among the participant's orders.
    sequence: u64,
    /// Why, in a sentence.
    because: String,
    /// standing, withdrawn, refused or cleared.
    state: &'static str,
    /// Why the market did not take it, in a word.
    refused: Option<String>,
    /// Energy traded, once cleared.
    filled_wh: Option<i64>,
    /// What the clearing said of it.
    reason: Option<String>,
}

impl From<&Placement> for Planned {
    fn from(placed: &Placement) -> Self {
        Planned {
            start: placed.interval.start().to_string(),
            side: placed.side.word(),
            energy_wh: placed.energy.wh(),
            limit_price: placed.limit.to_string(),
            why: placed.why.word(),
        }
    }
}

impl From<&Part> for Ordered {
    fn from(part: &Part) -> Self {
        let one = &part.ordered;
        Ordered {
            planned: Planned {
                start: one.interval.start().to_string(),
                side: one.side.word(),
                energy_wh: one.energy.wh(),
                limit_price: one.limit.to_string(),
                why: one.why.word(),
            },
            sequence: part.sequence,
            because: part.sentence.clone(),
            state: part.state(),
            refused: part.refused.clone(),
            filled_wh: one.traded.map(|(energy, _)| energy.wh()),
            reason: part.reason.clone(),
        }
    }
}

impl Row {
    pub(super) fn of(shown: &Shown, now: Timestamp) -> Row {
        let order = &shown.stood.order;
        let parts = shown.parts.iter();
        let own = parts.filter(|part| part.standing == order.sequence);
        let (deadline, battery) = match &order.wish {
            Standing::Deadline(deadline) => (Some(deadline), None),
            Standing::Battery(battery) => (None, Some(battery)),
        };
        Row {
            order: order.id().to_string(),
            sequence: order.sequence,
            replaces: order.replaces,
            kind: order.wish.word(),
            until: order.wish.until().to_string(),
            state: shown.state(now),
            energy_wh: deadline.map(|d| d.energy.wh()),
            limit_price: deadline.map(|d| d.limit.to_string()),
            must: deadline.map(|d| d.must),
            reached_wh: shown.progress.energy.wh(),
            cost_price: battery.map(|_| shown.progress.cost.to_string()),
            plan: shown.plan.iter().map(Planned::from).collect(),
            orders: own.map(Ordered::from).collect(),
        }
    }
}

const COLUMNS: [&str; 11] = [
    "order",
    "sequence",
    "replaces",
    "kind",
    "until",
    "state",
    "energy_wh",
    "limit_price",
    "must",
    "reached_wh",
    "cost_price",
];

/// One's own standing orders, newest first, of the newest 100.
#[utoipa::path(
    get, path = "/api/v1/standing-orders", tag = "market", params(After),
    responses((status = 200, content((List<Row> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn own_standing(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    let now = web.shared.clock.now();
    let shown = standing::of(&web.shared, home(&viewer)?, now).await?;
    let rows = shown.iter().map(|one| Row::of(one, now)).collect();
    List::part(rows, &after, |row: &Row| row.order.clone())?.answer(wants, &COLUMNS)
}
