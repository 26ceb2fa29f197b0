//! Stations' months for whoever has a share in them: who may see which, and a month with the figures that its owners
//! reckon with. Also of stations that have left `site.toml`, by what the books know of them.

use std::collections::BTreeSet;

use anyhow::Context;
use domain::money::Money;
use domain::time::Timestamp;
use runtime::db::Db;
use settlement::calendar::LocalMonth;
use settlement::charging::profit::{Figures, Month, Profit, Report};
use settlement::charging::promise::Promise;
use settlement::service::{charging_newest, station_month, station_parties};

use crate::auth::{Role, Viewer};
use crate::site::{Site, Station};

/// A station of the site, or one that the books know from before.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) id: String,
    /// As it is in `site.toml`; none where it has left that.
    pub(crate) now: Option<Station>,
    /// Who ever had a part in it.
    parties: BTreeSet<String>,
}

/// All stations: the site's in its order, and then those that have left it.
pub(crate) async fn known(db: &Db, site: &Site) -> anyhow::Result<Vec<Known>> {
    let mut parties = station_parties(db).await?;
    let mut all: Vec<Known> = site
        .stations
        .iter()
        .map(|station| Known {
            id: station.asks.id.clone(),
            now: Some(station.clone()),
            parties: parties.remove(&station.asks.id).unwrap_or_default(),
        })
        .collect();
    all.extend(parties.into_iter().map(|(id, parties)| Known {
        id,
        now: None,
        parties,
    }));
    Ok(all)
}

/// The same of which somebody has, or had, a part; for operators and admins all.
pub(crate) async fn seen_by(db: &Db, site: &Site, viewer: &Viewer) -> anyhow::Result<Vec<Known>> {
    let mut all = known(db, site).await?;
    all.retain(|station| station.is_open_to(viewer) || station.had_part(viewer));
    Ok(all)
}

/// One of them by its point, where somebody may see anything of it.
pub(crate) async fn one_seen_by(
    db: &Db,
    site: &Site,
    viewer: &Viewer,
    id: &str,
) -> anyhow::Result<Option<Known>> {
    let seen = seen_by(db, site, viewer).await?;
    Ok(seen.into_iter().find(|station| station.id == id))
}

/// Whether a home has a part in any station of the site today.
pub(crate) fn has_any(site: &Site, viewer: &Viewer) -> bool {
    site.stations.iter().any(|station| may_see(viewer, station))
}

/// Whether somebody may see all months of a station: operators and admins, a household those on its ground and those of
/// which it has a share.
fn may_see(viewer: &Viewer, station: &Station) -> bool {
    let has_part = |home: &domain::ids::ParticipantId| {
        station.host == *home || station.owners.iter().any(|o| o.name == home.as_str())
    };
    is_officer(viewer) || viewer.home().is_some_and(has_part)
}

fn is_officer(viewer: &Viewer) -> bool {
    viewer.is(Role::Operator) || viewer.is(Role::Admin)
}

impl Known {
    /// Whether somebody may see all its months.
    fn is_open_to(&self, viewer: &Viewer) -> bool {
        is_officer(viewer) || self.now.as_ref().is_some_and(|now| may_see(viewer, now))
    }

    fn had_part(&self, viewer: &Viewer) -> bool {
        let home = viewer.home();
        home.is_some_and(|home| self.parties.contains(home.as_str()))
    }

    /// Whether somebody may see this month: who had a part in a station sees the months in which it had one.
    pub(crate) fn shows(&self, viewer: &Viewer, month: &Report) -> bool {
        let mut own = viewer.home().into_iter();
        let had = own.any(|home| month.sums.shares.contains_key(home.as_str()));
        self.is_open_to(viewer) || had
    }

    /// What its owners reckon with; nothing where it has left the site.
    pub(crate) fn own_figures(&self) -> Figures {
        let now = self.now.as_ref();
        now.map_or_else(Figures::default, |station| Figures {
            maintenance_per_year: station.maintenance_per_year,
            capital_per_year: station.capital_per_year,
        })
    }
}

/// What the owners reckon with, or other figures that are tried.
pub(crate) fn figures(
    station: &Known,
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
    let own = station.own_figures();
    Ok(Figures {
        maintenance_per_year: read(
            "maintenance_per_year",
            maintenance,
            own.maintenance_per_year,
        )?,
        capital_per_year: read("capital_per_year", capital, own.capital_per_year)?,
    })
}

/// A station's month; none where it has not begun by `now`, or nothing is known of the station then.
pub(crate) async fn report(
    db: &Db,
    station: &Known,
    month: LocalMonth,
    figures: Figures,
    now: Timestamp,
) -> anyhow::Result<Option<Report>> {
    let span = month.bounds()?;
    if now < span.0 {
        return Ok(None);
    }
    let today = station.now.as_ref();
    let parties = today.map(|station| (station.buyer.as_ref(), &station.host));
    let sums = station_month(db, &station.id, parties, span).await;
    let sums = sums.with_context(|| format!("the month {month} of station {}", station.id))?;
    // A month that is over is told as it stood: by what was promised last before its end.
    let is_over = span.1 <= now;
    let then = match is_over || today.is_none() {
        true => charging_newest(db, &station.id, span.1).await?,
        false => None,
    };
    let then = then.map(|stored| stored.promise);
    let Some(whose) = Whose::of(today, then.as_ref(), &sums) else {
        return Ok(None);
    };
    Ok(Some(Report {
        station: station.id.clone(),
        host: whose.host,
        buys: whose.buys,
        currency: whose.currency,
        month: month.to_string(),
        span,
        is_over,
        owners: whose.owners,
        profit: Profit::of(&sums, &figures, month.number())?,
        sums,
        figures,
    }))
}

/// Whose a station was in a month.
struct Whose {
    host: String,
    buys: bool,
    currency: String,
    owners: Vec<settlement::charging::split::Owner>,
}

impl Whose {
    /// What the month itself says comes first, then what was promised then, and then `site.toml`.
    fn of(today: Option<&Station>, then: Option<&Promise>, sums: &Month) -> Option<Whose> {
        let ground = then
            .filter(|then| !then.buys)
            .map(|then| then.host.to_string());
        let bearers: Vec<&str> = sums.hosts.iter().map(String::as_str).collect();
        let host = match bearers.is_empty() {
            true => ground.or_else(|| Some(today?.host.to_string())),
            false => Some(bearers.join(", ")),
        };
        let (buys, currency, owners) = match (then, today) {
            (Some(then), _) => (then.buys, &then.quote.currency, &then.owners),
            (None, Some(today)) => (today.buyer.is_some(), &today.asks.currency, &today.owners),
            (None, None) => return None,
        };
        Some(Whose {
            host: host.unwrap_or_else(|| "–".to_owned()),
            buys,
            currency: currency.clone(),
            owners: owners.clone(),
        })
    }
}
