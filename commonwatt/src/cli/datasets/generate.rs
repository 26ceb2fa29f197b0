//! `commonwatt datasets generate`: homes of our own making, to CSV or to a data set.

use std::path::PathBuf;

use simulator::dataset::generate::{self, Request, generate};
use simulator::dataset::{Manifest, columns_of};
use simulator::import;
use simulator::model::ev::sessions::Site;
use simulator::model::sun::Place;

use super::write_set;
use crate::cli::{CliError, print_data};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  commonwatt datasets generate --homes 10 --days 7 --first-day 2024-06-10 --out datasets/week-10\n  \
    commonwatt datasets generate --sessions home --homes 4 --days 7 > cars.csv\n\n\
    The same words and version give the same bytes. Place and days are those of Berlin unless they are named."
)]
pub(super) struct Args {
    /// Number of homes.
    #[arg(long, default_value_t = 10)]
    homes: u32,
    /// Charging sessions in place of homes: one car at each of so many points, at `home` or at `work`.
    #[arg(long, value_name = "SITE")]
    sessions: Option<String>,
    /// How many of a hundred homes have panels.
    #[arg(long, default_value_t = 60, value_name = "PERCENT")]
    pv: u32,
    /// Mean yearly use of a home.
    #[arg(long, default_value_t = 3500, value_name = "KWH")]
    mean_kwh: u32,
    /// The first local day.
    #[arg(long, default_value = "2024-06-10", value_name = "DAY")]
    first_day: String,
    /// Number of local days.
    #[arg(long, default_value_t = 7)]
    days: u32,
    /// The zone of the local days.
    #[arg(long, default_value = "Europe/Berlin")]
    zone: String,
    /// Degrees north.
    #[arg(long, default_value_t = 52.5, allow_negative_numbers = true)]
    latitude: f64,
    /// Degrees east.
    #[arg(long, default_value_t = 13.4, allow_negative_numbers = true)]
    longitude: f64,
    /// The seed of everything that is drawn.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Write data.csv and dataset.toml into this new folder, rather than CSV to stdout.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let bad = |what: String| CliError::BadInput(what);
    let first_day = args.first_day.parse().map_err(|_| {
        let day = &args.first_day;
        bad(format!("--first-day {day}: this is no day like 2024-06-10"))
    })?;
    let zone = args.zone.parse().map_err(|_| {
        let zone = &args.zone;
        bad(format!(
            "--zone {zone}: there is no such zone (like Europe/Berlin)"
        ))
    })?;
    let request = Request {
        homes: args.homes,
        pv_percent: args.pv,
        mean_kwh: args.mean_kwh,
        first_day,
        days: args.days,
        zone,
        place: Place {
            latitude_deg: args.latitude,
            longitude_deg: args.longitude,
            altitude_m: 0.0,
        },
        seed: args.seed,
    };
    if let Some(site) = &args.sessions {
        return sessions(args, &request, site);
    }
    let table = generate(&request).map_err(bad)?;
    let mut csv = Vec::new();
    table.write_csv(&mut csv).map_err(anyhow::Error::from)?;
    let Some(folder) = &args.out else {
        return print_data(&String::from_utf8_lossy(&csv));
    };
    let (homes, days) = (args.homes, args.days);
    let manifest = Manifest {
        name: String::new(),
        title: format!(
            "{homes} generated homes, {} % with panels, {days} days from {first_day}",
            args.pv
        ),
        origin:
            "made by the project's own models of load, sky and panels; no measured home is in it"
                .to_owned(),
        licence: "Apache-2.0".to_owned(),
        generated_by: format!(
            "commonwatt {} datasets generate --homes {homes} --pv {} --mean-kwh {} --first-day {first_day} --days {days} \
             --zone {} --latitude {} --longitude {} --seed {}",
            env!("CARGO_PKG_VERSION"),
            args.pv,
            args.mean_kwh,
            args.zone,
            args.latitude,
            args.longitude,
            args.seed
        ),
        interval_s: Some(table.interval_s),
        files: Vec::new(),
        columns: columns_of(&table),
    };
    write_set(folder, manifest, &[("data.csv", csv)])
}

/// Charging sessions, to CSV or to a data set.
fn sessions(args: &Args, request: &Request, site: &str) -> Result<(), CliError> {
    let place = match site {
        "home" => Site::Home,
        "work" => Site::Work,
        other => {
            let what = format!("--sessions {other}: expected home or work");
            return Err(CliError::BadInput(what));
        }
    };
    let made = generate::sessions(request, place).map_err(CliError::BadInput)?;
    let mut csv = Vec::new();
    import::sessions::write_csv(&made, &mut csv).map_err(anyhow::Error::from)?;
    let Some(folder) = &args.out else {
        return print_data(&String::from_utf8_lossy(&csv));
    };
    let (points, days, first_day) = (args.homes, args.days, request.first_day);
    let manifest = Manifest {
        name: String::new(),
        title: format!(
            "{} charging sessions at {site}, {points} points, {days} days from {first_day}",
            made.len()
        ),
        origin: "made by the project's own mixture, which was fitted to real sessions; none of them is in it"
            .to_owned(),
        licence: "Apache-2.0".to_owned(),
        generated_by: format!(
            "commonwatt {} datasets generate --sessions {site} --homes {points} --first-day {first_day} --days {days} --zone {} --seed {}",
            env!("CARGO_PKG_VERSION"),
            args.zone,
            args.seed
        ),
        interval_s: None,
        files: Vec::new(),
        columns: super::import::session_columns(),
    };
    write_set(folder, manifest, &[("data.csv", csv)])
}
