//! `commonwatt stations`: what charging stations brought in a month, to whom it went, and whether they are worth their
//! costs, from the books.

use runtime::db::Db;
use settlement::calendar::{LocalMonth, Zone};
use settlement::charging::profit::Report;
use settlement::log::checkpoint::Log;
use settlement::service;

use super::{CliError, Format, block_on_two, chain, print_data};
use crate::site::Site;
use crate::view::stations::{self, Known};

/// Write what stations brought in a month. It is refused where it does not come to the ledger to the last unit.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt stations home-03.charger --data-dir data --month 2026-06 --capital-per-year 240\n\n\
    Without a name all stations of site.toml (one that has left it is known by its name), without a month the one that runs.\n\n\
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
    let made = block_on_two(async { Ok(read(args, &url, &site).await) })?;
    print_data(&written(args.format, &made?))
}

/// The stations that are asked for: all of the site, or one that the books know.
fn chosen(args: &Args, all: Vec<Known>) -> Result<Vec<Known>, CliError> {
    let names: Vec<String> = all.iter().map(|station| station.id.clone()).collect();
    let is_asked = |station: &Known| match &args.name {
        Some(name) => station.id == *name,
        None => station.now.is_some(),
    };
    let chosen: Vec<Known> = all.into_iter().filter(is_asked).collect();
    match (chosen.is_empty(), names.is_empty()) {
        (false, _) => Ok(chosen),
        (true, true) => Err(CliError::BadInput(
            "site.toml has no [[stations]]".to_owned(),
        )),
        (true, false) => Err(CliError::BadInput(format!(
            "no such station; there are {}",
            names.join(", ")
        ))),
    }
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

async fn read(args: &Args, url: &str, site: &Site) -> Result<Vec<Report>, CliError> {
    let db = Db::open(url).await.map_err(anyhow::Error::from)?;
    let chosen = chosen(args, stations::known(&db, site).await?)?;
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
    for station in &chosen {
        let figures =
            stations::figures(station, maintenance, capital).map_err(CliError::BadInput)?;
        let report = stations::report(&db, station, month, figures, now).await;
        let report = report.map_err(|error| match error.downcast_ref() {
            Some(service::ServiceError::Unequal(_)) => CliError::CheckFailed(chain(&error)),
            _ => CliError::Environment(error),
        })?;
        made.push(report.ok_or_else(|| {
            CliError::BadInput(format!(
                "--month {month}: the books end at {now}, before it, or know nothing of {} then",
                station.id
            ))
        })?);
    }
    Ok(made)
}
