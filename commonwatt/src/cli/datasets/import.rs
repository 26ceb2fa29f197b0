//! `commonwatt datasets import`: files of other formats to CSV, or to a folder with `dataset.toml`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use simulator::dataset::{ColumnMeaning, Manifest, columns_of};
use simulator::import::{Format, Imported, Options, Source, import, sessions};

use super::write_set;
use crate::cli::{CliError, print_data};

/// The formats, as the command line names them.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// Low Carbon London: LCLid, DateTime (UTC, end of the half hour), KWH/hh
    Lcl,
    /// Ausgrid solar home: a row a day, 48 half hours in kWh (UTC+10)
    Ausgrid,
    /// Open Power System Data households: cumulative kWh by utc_timestamp
    Opsd,
    /// WPuQ tables exported to CSV: index, P_TOT in W; a file is a series
    Wpuq,
    /// ACN-Data: charging sessions in JSON
    Acn,
    /// SMARD downloads, German or English: MWh and €/MWh (Europe/Berlin)
    Smard,
    /// SimBench CSV: Load, LoadProfile, RES, RESProfile (UTC+1)
    Simbench,
    /// CityLearn buildings: hourly kWh, needs --start; --pv-kw for PV
    Citylearn,
}

impl From {
    const fn format(self) -> Format {
        match self {
            From::Lcl => Format::Lcl,
            From::Ausgrid => Format::Ausgrid,
            From::Opsd => Format::Opsd,
            From::Wpuq => Format::Wpuq,
            From::Acn => Format::Acn,
            From::Smard => Format::Smard,
            From::Simbench => Format::Simbench,
            From::Citylearn => Format::Citylearn,
        }
    }
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt datasets import --from lcl CC_LCL-FullData.csv --only MAC000002 > mac2.csv\n  \
    commonwatt datasets import --from citylearn Building_1.csv --start 2016-08-01T00:00 --zone America/Los_Angeles --pv-kw 4 \\\n    \
    --out datasets/building --licence MIT --origin \"CityLearn challenge 2022\"\n\n\
    Energies are whole Wh of each interval, stamps the interval's start in UTC, what is missing is empty.\n\
    An instant that is there twice, or a row that cannot be read, is refused with its line."
)]
pub(super) struct Args {
    /// The format of the files.
    #[arg(long, value_enum)]
    from: From,
    /// The files, all of one format.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The zone of local stamps, like Europe/Berlin, where it is another than the format's own.
    #[arg(long)]
    zone: Option<String>,
    /// When the first row begins, for formats without a year: 2016-08-01T00:00 in the zone, or with an offset.
    #[arg(long)]
    start: Option<String>,
    /// Size of the PV plant, for formats with generation for each kW.
    #[arg(long, value_name = "KW")]
    pv_kw: Option<f64>,
    /// Take rows that are there twice with the same value once, rather than refuse them.
    #[arg(long)]
    drop_repeats: bool,
    /// Only this home, column or building; may be named several times.
    #[arg(long, value_name = "SERIES")]
    only: Vec<String>,
    /// Write data.csv and dataset.toml into this new folder, rather than CSV to stdout.
    #[arg(long, value_name = "FOLDER", requires_all = ["licence", "origin"])]
    out: Option<PathBuf>,
    /// For --out: the licence of the data.
    #[arg(long, requires = "out")]
    licence: Option<String>,
    /// For --out: where the data is from.
    #[arg(long, requires = "out")]
    origin: Option<String>,
    /// For --out: write data.parquet as well.
    #[cfg(feature = "tables")]
    #[arg(long, requires = "out")]
    parquet: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let zone = match &args.zone {
        None => None,
        Some(name) => Some(name.parse().map_err(|_| {
            CliError::BadInput(format!(
                "--zone {name}: there is no such zone (like Europe/Berlin)"
            ))
        })?),
    };
    if let Some(kw) = args.pv_kw.filter(|kw| !(kw.is_finite() && *kw >= 0.0)) {
        return Err(CliError::BadInput(format!(
            "--pv-kw {kw}: this is no size of a plant"
        )));
    }
    let options = Options {
        zone,
        start: args.start.clone(),
        pv_kw: args.pv_kw,
        drop_repeats: args.drop_repeats,
        only: args.only.clone(),
    };
    let mut texts = Vec::with_capacity(args.files.len());
    for path in &args.files {
        let text = crate::cli::read_bytes(path, simulator::import::FILE_MAX_BYTES)?;
        texts.push((path.display().to_string(), text));
    }
    let sources: Vec<Source<'_>> = texts
        .iter()
        .map(|(name, text)| Source { name, text })
        .collect();
    let imported = import(args.from.format(), &sources, &options)
        .map_err(|e| CliError::BadInput(e.to_string()))?;
    tell(&imported);
    let mut csv = Vec::new();
    match &imported {
        Imported::Intervals(table) => table.write_csv(&mut csv),
        Imported::Sessions(list) => sessions::write_csv(list, &mut csv),
    }
    .map_err(anyhow::Error::from)?;
    match &args.out {
        None => print_data(&String::from_utf8_lossy(&csv)),
        Some(folder) => write_folder(args, folder, &imported, csv),
    }
}

/// What was read, on stderr.
fn tell(imported: &Imported) {
    match imported {
        Imported::Sessions(sessions) => eprintln!("{} sessions", sessions.len()),
        Imported::Intervals(table) => {
            eprintln!("{} intervals of {} s", table.intervals, table.interval_s);
            for column in &table.columns {
                let sum: i128 = column.values.iter().flatten().map(|v| i128::from(*v)).sum();
                eprintln!("{}: sum {sum}, {} missing", column.name(), column.missing());
            }
            for note in &table.notes {
                eprintln!("note: {note}");
            }
        }
    }
}

fn write_folder(
    args: &Args,
    folder: &Path,
    imported: &Imported,
    csv: Vec<u8>,
) -> Result<(), CliError> {
    #[cfg_attr(
        not(feature = "tables"),
        expect(unused_mut, reason = "Parquet is added")
    )]
    let mut files = vec![("data.csv", csv)];
    #[cfg(feature = "tables")]
    if let (true, Imported::Intervals(table)) = (args.parquet, imported) {
        let mut parquet = Vec::new();
        table
            .write_parquet(&mut parquet)
            .map_err(anyhow::Error::from)?;
        files.push(("data.parquet", parquet));
    }
    let from = args.from.format().name();
    write_set(
        folder,
        Manifest {
            name: String::new(),
            title: format!("{} imported from {from}", what(imported)),
            origin: args.origin.clone().unwrap_or_default(),
            licence: args.licence.clone().unwrap_or_default(),
            generated_by: format!("commonwatt datasets import --from {from}"),
            interval_s: match imported {
                Imported::Intervals(table) => Some(table.interval_s),
                Imported::Sessions(_) => None,
            },
            files: Vec::new(),
            columns: match imported {
                Imported::Intervals(table) => columns_of(table),
                Imported::Sessions(_) => session_columns(),
            },
        },
        &files,
    )
}

const fn what(imported: &Imported) -> &'static str {
    match imported {
        Imported::Intervals(_) => "interval energies",
        Imported::Sessions(_) => "charging sessions",
    }
}

pub(super) fn session_columns() -> Vec<ColumnMeaning> {
    let time = "RFC 3339, UTC";
    [
        ("session", "text", "id in the source"),
        ("station", "text", "charging point"),
        ("connected_utc", time, "plugged in"),
        ("disconnected_utc", time, "unplugged"),
        (
            "done_charging_utc",
            time,
            "charging ended; empty where not known",
        ),
        ("energy_wh", "Wh", "positive = into the car"),
        (
            "requested_wh",
            "Wh",
            "positive = into the car; empty where not known",
        ),
        (
            "requested_departure_utc",
            time,
            "wish of the driver; empty where not known",
        ),
    ]
    .map(|(name, unit, sign)| ColumnMeaning {
        name: name.to_owned(),
        unit: unit.to_owned(),
        sign: sign.to_owned(),
    })
    .into()
}
