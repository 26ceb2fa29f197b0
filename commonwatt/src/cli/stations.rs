//! `commonwatt stations`: what charging stations brought in a month, to whom it went, and whether they are worth their
//! costs, from the books.

use runtime::db::Db;
use settlement::calendar::{LocalMonth, Zone};
use settlement::charging::profit::Report;
use settlement::log::checkpoint::Log;
use settlement::service;

use super::{CliError, Format, block_on_two, chain, print_data};
use crate::site::{Site, Station};
use crate::view::stations;

/// Write what stations brought in a month. It is refused where it does not come to the ledger to the last unit.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt stations home-03.charger --data-dir data --month 2026-06 --capital-per-year 240\n\n\
    Without a name all stations of site.toml, without a month the one that runs.\n\n\
    Exit code 0: it adds up. 1: it does not come to the ledger, with the amount. 2: usage."
)]
pub(super) struct Args {
    /// The station, by its meter's point.
    name: Option<String>,
    #[command(flatten)]
    books: super::statement::Books,
    /// Which month, on the site's clock, like 2026-06.
    #[arg(long)]
    month: Option<String>,
    /// What maintenance costs in a year, instead of what site.toml says.
    #[arg(long, value_name = "AMOUNT")]
    maintenance_per_year: Option<String>,
    /// What the money in the station costs in a year, instead of what site.toml says.
    #[arg(long, value_name = "AMOUNT")]
    capital_per_year: Option<String>,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let (site, url) = args.books.open()?;
    let named = |station: &&Station| {
        let name = args.name.as_ref();
        name.is_none_or(|name| station.asks.id == *name)
    };
    let chosen: Vec<&Station> = site.stations.iter().filter(named).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = site.stations.iter().map(|s| s.asks.id.as_str()).collect();
        return Err(CliError::BadInput(match known.is_empty() {
            true => "site.toml has no [[stations]]".to_owned(),
            false => format!("no such station; there are {}", known.join(", ")),
        }));
    }
    let made = block_on_two(async { Ok(read(args, &url, &site, &chosen).await) })?;
    print_data(&written(args.format, &made?))
}

fn written(format: Format, made: &[Report]) -> String {
    match format {
        Format::Csv => Report::csv_of(made),
        Format::Json => {
            let all: Vec<_> = made.iter().map(Report::to_json).collect();
            format!("{:#}\n", serde_json::Value::from(all))
        }
        Format::Table => {
            let all: Vec<String> = made.iter().map(Report::to_table).collect();
            all.join("\n")
        }
    }
}

async fn read(
    args: &Args,
    url: &str,
    site: &Site,
    chosen: &[&Station],
) -> Result<Vec<Report>, CliError> {
    let db = Db::open(url).await.map_err(anyhow::Error::from)?;
    // The books' own newest time: a demo's is not the computer's.
    let newest = service::checkpoint_time(&db, Log::Ledger).await;
    let newest = newest.map_err(anyhow::Error::from)?;
    let now = newest.map_or(domain::time::Timestamp::EPOCH, |(at, _)| at);
    let zone = Zone::from(site.time_zone);
    let month = match &args.month {
        Some(month) => LocalMonth::parse(month, zone),
        None => LocalMonth::containing(now, zone),
    };
    let month = month.map_err(|e| CliError::BadInput(format!("--month: {e}")))?;
    let (maintenance, capital) = (
        args.maintenance_per_year.as_deref(),
        args.capital_per_year.as_deref(),
    );
    let mut made = Vec::with_capacity(chosen.len());
    for station in chosen {
        let figures =
            stations::figures(station, maintenance, capital).map_err(CliError::BadInput)?;
        let report = stations::report(&db, station, month, figures, now).await;
        let report = report.map_err(|error| match error.downcast_ref() {
            Some(service::ServiceError::Unequal(_)) => CliError::CheckFailed(chain(&error)),
            _ => CliError::Environment(error),
        })?;
        made.push(report.ok_or_else(|| {
            CliError::BadInput(format!(
                "--month {month}: the books end at {now}, before it"
            ))
        })?);
    }
    Ok(made)
}
