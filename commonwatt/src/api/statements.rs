//! `/api/v1/statements`: a home's months, each adding up to the ledger to the last unit.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use settlement::calendar::{LocalMonth, Zone};

use super::answer::{Answer, Refused, Wants, home};
use crate::auth::Viewer;
use crate::web::Web;

/// One's own month: energy, money, corrections, and the comparison with the utility alone. As CSV its days.
#[utoipa::path(
    get, path = "/api/v1/statements/{month}", tag = "energy",
    params(("month" = String, Path, pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])$", description = "A month on the site's clock", example = "2026-06")),
    responses((status = 200, content((Object = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn one(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Path(month): Path<String>,
) -> Answer {
    let home = home(&viewer)?;
    let month = LocalMonth::parse(&month, zone(&web));
    let month = month.map_err(|error| Refused::bad(&format!("month: {error}.")))?;
    let shared = &web.shared;
    let now = shared.clock.now();
    let (community, length_s) = (&shared.site.community, shared.site.interval_length_s);
    let statement =
        settlement::service::statement(&shared.db, community, length_s, home, month, now).await?;
    let statement = statement.ok_or_else(Refused::nothing)?;
    Ok(match wants {
        Wants::Json => Json(statement).into_response(),
        Wants::Csv => {
            let kind = [(
                header::CONTENT_TYPE,
                "text/csv; charset=utf-8; header=present",
            )];
            (kind, statement.to_csv()).into_response()
        }
    })
}

/// The site's zone, in which months begin and end.
pub(super) fn zone(web: &Web) -> Zone {
    // The site has checked the zone's name when it was read.
    let name = web.shared.site.time_zone.name();
    name.parse().unwrap_or(Zone::UTC)
}
