//! `/api/v1/preferences`: what a home wishes of its autopilot, and what other wishes would have brought, found by
//! clearing the books of the past again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use domain::time::Timestamp;
use market_engine::bid::Level;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{
    Answer, AsHome, IfMatch, Refused, home, if_match, price, time, turn, unprocessable,
};
use crate::auth::{Viewer, may_ask, may_write, store};
use crate::platform::preferences::{self, Wishes};
use crate::view::replay::{self, Brought, Limits};
use crate::web::Web;

/// Most settings in one replay.
const SETTINGS_MAX: usize = 16;
/// Longest span that is replayed.
const REPLAY_MAX_S: i64 = 31 * 86_400;

/// What a home wishes of its autopilot.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Preferences {
    /// Most it pays a neighbour, in token/kWh.
    #[schema(example = "0.280000")]
    max_buy: String,
    /// Least it wants from a neighbour, in token/kWh.
    #[schema(example = "0.080000")]
    min_sell: String,
    /// suggest, within-limits or full.
    #[schema(pattern = "^(suggest|within-limits|full)$", example = "within-limits")]
    autopilot: String,
}

fn shown(wishes: &Wishes) -> Preferences {
    Preferences {
        max_buy: wishes.max_buy.to_string(),
        min_sell: wishes.min_sell.to_string(),
        autopilot: wishes.autopilot.word().to_owned(),
    }
}

/// One's own wishes as they count now.
#[utoipa::path(
    get, path = "/api/v1/preferences", tag = "market", responses((status = 200, body = Preferences))
)]
pub(super) async fn get(State(web): State<Web>, viewer: Viewer) -> Answer {
    let home = home(&viewer)?;
    let wishes = preferences::of(&web.shared, home).await?;
    let wishes = wishes.ok_or_else(Refused::nothing)?;
    Ok(Json(shown(&wishes)).into_response())
}

/// Changes one's own wishes: the autopilot goes by them from its next order on.
#[utoipa::path(
    put, path = "/api/v1/preferences", tag = "market", request_body = Preferences, params(IfMatch),
    responses((status = 200, body = Preferences))
)]
pub(super) async fn put(
    State(web): State<Web>,
    AsHome(viewer, home): AsHome,
    headers: HeaderMap,
    Json(new): Json<Preferences>,
) -> Answer {
    may_write(&viewer, &headers, &web)?;
    if let Some(before) = preferences::of(&web.shared, &home).await? {
        if_match(&headers, &shown(&before))?;
    }
    let level = Level::from_word(&new.autopilot);
    let level = level.ok_or_else(|| unprocessable("autopilot: suggest, within-limits or full."))?;
    let wishes = Wishes {
        max_buy: price("max_buy", &new.max_buy)?,
        min_sell: price("min_sell", &new.min_sell)?,
        autopilot: level,
    };
    let rules = &web.shared.market.rules;
    let (floor, cap) = (rules.price_floor, rules.price_cap);
    if wishes.max_buy < floor || wishes.min_sell > cap {
        let detail = format!(
            "With max_buy below {floor} or min_sell above {cap}, which the community has agreed on, nothing \
             could be traded."
        );
        return Err(unprocessable(&detail));
    }
    preferences::choose(&web.shared, &home, wishes, web.shared.clock.now()).await?;
    let mut tx = web.shared.db.begin().await?;
    let shown = shown(&wishes);
    let detail = format!(
        "max_buy {}, min_sell {}, autopilot {}",
        shown.max_buy, shown.min_sell, shown.autopilot
    );
    let now = web.accounts.now();
    store::note(&mut tx, now, viewer.by(), "preferences changed", &detail).await?;
    tx.commit().await?;
    Ok(Json(shown).into_response())
}

/// Two limits.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    /// Most the home would have paid, in token/kWh.
    max_buy: String,
    /// Least it would have wanted.
    min_sell: String,
}

/// What would have been, with which limits.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhatIf {
    /// 1 to 16 pairs of limits.
    #[schema(min_items = 1, max_items = 16)]
    settings: Vec<Setting>,
    /// From when on; by default 30 days before `to`.
    #[schema(format = DateTime)]
    from: Option<String>,
    /// Until when; by default now. At most 31 days behind `from`.
    #[schema(format = DateTime)]
    to: Option<String>,
}

/// What one setting would have brought.
#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    max_buy: String,
    min_sell: String,
    /// Energy that would have been bought from neighbours.
    bought_wh: i64,
    /// Energy that would have been sold to them.
    sold_wh: i64,
    /// Energy that was ordered.
    ordered_wh: i64,
    /// Better than with the utility alone for that energy, in token.
    better_than_utility_by: String,
}

/// The answer of a replay: everybody else's orders as they were, deviations left out.
#[derive(Serialize, ToSchema)]
pub(super) struct Replay {
    #[schema(format = DateTime)]
    from: String,
    #[schema(format = DateTime)]
    to: String,
    settings: Vec<Replayed>,
}

fn replayed(brought: &Brought) -> Replayed {
    Replayed {
        max_buy: brought.limits.max_buy.to_string(),
        min_sell: brought.limits.min_sell.to_string(),
        bought_wh: brought.bought.wh(),
        sold_wh: brought.sold.wh(),
        ordered_wh: brought.ordered.wh(),
        better_than_utility_by: brought.gain.to_string(),
    }
}

fn span(what: &WhatIf, now: Timestamp) -> Result<(Timestamp, Timestamp), Refused> {
    let at = |name: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => text
            .parse::<Timestamp>()
            .map(Some)
            .map_err(|error| unprocessable(&format!("{name}: {error}."))),
    };
    let to = at("to", &what.to)?.unwrap_or(now);
    let from = at("from", &what.from)?.unwrap_or(to.plus_s(-30 * 86_400));
    match to.ms_since(from) {
        0..=REPLAY_MAX_MS => Ok((from, to)),
        _ => Err(unprocessable(
            "from and to: in this order, at most 31 days apart.",
        )),
    }
}

const REPLAY_MAX_MS: i64 = REPLAY_MAX_S * 1000;

/// What other limits would have brought, by the code that clears the market. It changes nothing.
#[utoipa::path(
    post, path = "/api/v1/preferences/replay", tag = "market", request_body = WhatIf,
    responses((status = 200, body = Replay))
)]
pub(super) async fn replay(
    State(web): State<Web>,
    AsHome(viewer, home): AsHome,
    Json(what): Json<WhatIf>,
) -> Answer {
    may_ask(&viewer, &web)?;
    if what.settings.is_empty() || what.settings.len() > SETTINGS_MAX {
        return Err(unprocessable(&format!(
            "settings: 1 to {SETTINGS_MAX} of them."
        )));
    }
    let limits = |setting: &Setting| {
        Ok(Limits {
            max_buy: price("max_buy", &setting.max_buy)?,
            min_sell: price("min_sell", &setting.min_sell)?,
        })
    };
    let settings = what.settings.iter().map(limits);
    let settings = settings.collect::<Result<Vec<_>, Refused>>()?;
    let shared = &web.shared;
    let (from, to) = span(&what, shared.clock.now())?;
    let _turn = turn(&web)?;
    let orders = market_engine::service::cleared_orders(&shared.db, from, to).await?;
    let mechanism = shared.market.rules.mechanism;
    let shared = Arc::clone(shared);
    // Thousands of clearings: not on a thread that answers others.
    let work = tokio::task::spawn_blocking(move || {
        replay::replay(&orders, &home, &settings, mechanism, &|interval| {
            shared.site.tariff_and_fee_at(interval)
        })
    });
    let brought = work.await.map_err(anyhow::Error::from)?;
    Ok(Json(Replay {
        from: time(from),
        to: time(to),
        settings: brought.iter().map(replayed).collect(),
    })
    .into_response())
}
