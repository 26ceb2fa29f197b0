//! `/api/v1/stations`: what charging stations bring, to whom it goes, and whether they are worth their costs; for operators,
//! hosts and owners.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use settlement::calendar::LocalMonth;
use utoipa::IntoParams;

use super::answer::{After, Answer, List, Refused, Wants, turn};
use super::statements::zone;
use crate::auth::Viewer;
use crate::view::stations::{self, Known};
use crate::web::Web;

/// The stations of which the viewer has or had a part, for operators and admins all, with whose they are. Those that have left
/// `site.toml` are there by what the books know, without host and shares of today.
#[utoipa::path(
    get, path = "/api/v1/stations", tag = "charging", params(After),
    responses((status = 200, content((Object = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    let seen = stations::seen_by(&web.shared.db, &web.shared.site, &viewer).await?;
    if seen.is_empty() {
        return Err(Refused::nothing());
    }
    let month = LocalMonth::containing(web.shared.clock.now(), zone(&web));
    let month = month.map_err(anyhow::Error::from)?.to_string();
    let items: Vec<Value> = seen.iter().map(|one| shown(one, &month)).collect();
    let name = |row: &Value| row["id"].as_str().unwrap_or_default().to_owned();
    List::part(items, &after, name)?.answer(wants, &COLUMNS)
}

const COLUMNS: [&str; 8] = [
    "id",
    "is_in_site",
    "host",
    "buys_itself",
    "currency",
    "maintenance_per_year",
    "capital_per_year",
    "this_month",
];

fn shown(station: &Known, month: &str) -> Value {
    let (id, now, figures) = (&station.id, station.now.as_ref(), station.own_figures());
    let owner = |o: &settlement::charging::split::Owner| json!({ "name": o.name, "basis_points": o.basis_points });
    let owners = now.map_or(&[][..], |now| &now.owners[..]);
    json!({
        "id": id,
        "is_in_site": now.is_some(),
        "host": now.map(|now| now.host.as_str()),
        "buys_itself": now.map(|now| now.buyer.is_some()),
        "currency": now.map(|now| &now.asks.currency),
        "shares": owners.iter().map(owner).collect::<Vec<_>>(),
        "maintenance_per_year": figures.maintenance_per_year.to_string(),
        "capital_per_year": figures.capital_per_year.to_string(),
        "this_month": format!("/api/v1/stations/{id}/months/{month}"),
    })
}

/// Other figures than those of `site.toml`, to try them.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Tried {
    /// What maintenance costs in a year.
    #[param(example = "60.00")]
    maintenance_per_year: Option<String>,
    /// What the money in the station costs in a year.
    #[param(example = "180.00")]
    capital_per_year: Option<String>,
}

/// A station's month: revenue by what it was for, what was passed through, each share, and whether it is worth its
/// costs. It is refused where it does not come to the ledger to the last unit. As CSV a line for each amount.
#[utoipa::path(
    get, path = "/api/v1/stations/{id}/months/{month}", tag = "charging",
    params(
        ("id" = String, Path),
        ("month" = String, Path, pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])$", description = "A month on the site's clock", example = "2026-06"),
        Tried
    ),
    responses((status = 200, content((Object = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn month(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Path((id, month)): Path<(String, String)>,
    Query(tried): Query<Tried>,
) -> Answer {
    let shared = &web.shared;
    let station = stations::one_seen_by(&shared.db, &shared.site, &viewer, &id).await?;
    let station = station.ok_or_else(Refused::nothing)?;
    let month = LocalMonth::parse(&month, zone(&web));
    let month = month.map_err(|error| Refused::bad(&format!("month: {error}.")))?;
    let (maintenance, capital) = (
        tried.maintenance_per_year.as_deref(),
        tried.capital_per_year.as_deref(),
    );
    let figures =
        stations::figures(&station, maintenance, capital).map_err(|e| Refused::bad(&e))?;
    let _turn = turn(&web)?;
    let now = shared.clock.now();
    let made = stations::report(&shared.db, &station, month, figures, now).await?;
    let made = made.filter(|made| station.shows(&viewer, made));
    let made = made.ok_or_else(Refused::nothing)?;
    Ok(match wants {
        Wants::Json => Json(made.to_json()).into_response(),
        Wants::Csv => {
            let kind = [(
                header::CONTENT_TYPE,
                "text/csv; charset=utf-8; header=present",
            )];
            (kind, made.to_csv()).into_response()
        }
    })
}
