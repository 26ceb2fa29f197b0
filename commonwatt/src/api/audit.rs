//! `/api/v1/audit`: who did what, for whoever looks after accounts.

use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::{Answer, List, Refused, Wants, only, rows, time};
use crate::auth::{Role, Viewer, store};
use crate::web::Web;

/// Which part of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Only what comes behind the last row of the page before: its `next`.
    after: Option<String>,
    /// Most rows on the page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Something that somebody did.
#[derive(Serialize, ToSchema)]
pub(super) struct Deed {
    id: i64,
    #[schema(format = DateTime)]
    at: String,
    account: String,
    action: String,
    detail: String,
    /// The network address it came from.
    address: String,
}

const COLUMNS: [&str; 6] = ["id", "at", "account", "action", "detail", "address"];

/// Who did what, newest first. The list only grows.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "accounts", params(Page),
    responses((status = 200, content((List<Deed> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(page): Query<Page>,
) -> Answer {
    only(&viewer, Role::Admin)?;
    let limit = rows(page.limit)?;
    let after = page.after.map_or(Ok(i64::MAX), |after| after.parse());
    let after = after.map_err(|_| Refused::no_page())?;
    let deeds = store::audit(&web.shared.db, after, limit).await?;
    let row = |deed: store::Deed| Deed {
        id: deed.id,
        at: time(deed.at),
        account: deed.account,
        action: deed.action,
        detail: deed.detail,
        address: deed.address,
    };
    let items = deeds.into_iter().map(row).collect();
    List::new(items, limit, |row: &Deed| row.id.to_string()).answer(wants, &COLUMNS)
}
