//! Stations' months for whoever has a share in them: who may see which, and a month with the figures that its owners
//! reckon with.

use anyhow::Context;
use domain::money::Money;
use domain::time::Timestamp;
use runtime::db::Db;
use settlement::calendar::LocalMonth;
use settlement::charging::profit::{Figures, Profit, Report};
use settlement::service::station_month;

use crate::auth::{Role, Viewer};
use crate::site::{Site, Station};

/// Whether somebody may see a station's months: operators and admins all, a household those on its ground and those of
/// which it has a share.
pub(crate) fn may_see(viewer: &Viewer, station: &Station) -> bool {
    let has_part = |home: &domain::ids::ParticipantId| {
        station.host == *home || station.owners.iter().any(|o| o.name == home.as_str())
    };
    viewer.is(Role::Operator) || viewer.is(Role::Admin) || viewer.home().is_some_and(has_part)
}

/// The stations that somebody may see.
pub(crate) fn seen_by<'s>(site: &'s Site, viewer: &Viewer) -> Vec<&'s Station> {
    let stations = site.stations.iter();
    stations.filter(|s| may_see(viewer, s)).collect()
}

/// What the owners reckon with, or other figures that are tried.
pub(crate) fn figures(
    station: &Station,
    maintenance: Option<&str>,
    capital: Option<&str>,
) -> Result<Figures, String> {
    let read = |key: &str, text: Option<&str>, own: Money| match text.map(str::trim) {
        None | Some("") => Ok(own),
        Some(text) => match text.replace(',', ".").parse::<Money>() {
            Ok(amount) if amount >= Money::ZERO => Ok(amount),
            Ok(_) => Err(format!("{key}: an amount that is not below zero.")),
            Err(error) => Err(format!("{key}: {error}.")),
        },
    };
    Ok(Figures {
        maintenance_per_year: read(
            "maintenance_per_year",
            maintenance,
            station.maintenance_per_year,
        )?,
        capital_per_year: read("capital_per_year", capital, station.capital_per_year)?,
    })
}

/// A station's month; none where it has not begun by `now`.
pub(crate) async fn report(
    db: &Db,
    station: &Station,
    month: LocalMonth,
    figures: Figures,
    now: Timestamp,
) -> anyhow::Result<Option<Report>> {
    let span = month.bounds()?;
    if now < span.0 {
        return Ok(None);
    }
    let parties = (station.buyer.as_ref(), &station.host);
    let id = &station.asks.id;
    let sums = station_month(db, id, parties, span).await;
    let sums = sums.with_context(|| format!("the month {month} of station {id}"))?;
    Ok(Some(Report {
        station: id.clone(),
        host: station.host.to_string(),
        buys: station.buyer.is_some(),
        currency: station.asks.currency.clone(),
        month: month.to_string(),
        span,
        is_over: span.1 <= now,
        owners: station.owners.clone(),
        profit: Profit::of(&sums, &figures, month.number())?,
        sums,
        figures,
    }))
}
