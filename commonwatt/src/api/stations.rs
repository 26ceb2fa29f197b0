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
use crate::site::Station;
use crate::view::stations;
use crate::web::Web;

/// The stations of which the viewer has a part, for operators and admins all, with whose they are.
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
    let seen = stations::seen_by(&web.shared.site, &viewer);
    if seen.is_empty() {
        return Err(Refused::nothing());
    }
    let month = LocalMonth::containing(web.shared.clock.now(), zone(&web));
    let month = month.map_err(anyhow::Error::from)?.to_string();
    let items: Vec<Value> = seen.iter().map(|one| shown(one, &month)).collect();
    let name = |row: &Value| row["id"].as_str().unwrap_or_default().to_owned();
    List::part(items, &after, name)?.answer(wants, &COLUMNS)
}

const COLUMNS: [&str; 7] = [
    "id",
    "host",
    "buys_itself",
    "currency",
    "maintenance_per_year",
    "capital_per_year",
    "this_month",
];

fn shown(station: &Station, month: &str) -> Value {
    let id = &station.asks.id;
    let owner = |o: &settlement::charging::split::Owner| json!({ "name": o.name, "basis_points": o.basis_points });
    json!({
        "id": id,
        "host": station.host.as_str(),
        "buys_itself": station.buyer.is_some(),
        "currency": station.asks.currency,
        "shares": station.owners.iter().map(owner).collect::<Vec<_>>(),
        "maintenance_per_year": station.maintenance_per_year.to_string(),
        "capital_per_year": station.capital_per_year.to_string(),
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
    let station = shared.site.station(&id);
    let station = station.filter(|one| stations::may_see(&viewer, one));
    let station = station.ok_or_else(Refused::nothing)?;
    let month = LocalMonth::parse(&month, zone(&web));
    let month = month.map_err(|error| Refused::bad(&format!("month: {error}.")))?;
    let (maintenance, capital) = (
        tried.maintenance_per_year.as_deref(),
        tried.capital_per_year.as_deref(),
    );
    let figures = stations::figures(station, maintenance, capital).map_err(|e| Refused::bad(&e))?;
    let _turn = turn(&web)?;
    let now = shared.clock.now();
    let made = stations::report(&shared.db, station, month, figures, now).await?;
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
