//! `commonwatt rate`: prices a charging record by a tariff, line by line.

use std::path::PathBuf;

use settlement::charging::rate::{choose, rate};
use settlement::charging::record::{Record, zone};
use settlement::charging::tariff::Tariff;

use super::{CliError, Format, print_data, read_input};

/// Price an OCPI charging record by an OCPI tariff.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt rate --cdr cdr.json --tariff tariff.json --zone Europe/Berlin\n\n\
    OCPI 2.2.1 and 2.3. Amounts are exact: a line is rounded once, half up to nine decimals, and the total is the\n\
    sum of the lines. Where the record says what it cost, the answer says whether that agrees to four decimals."
)]
pub(super) struct Args {
    /// The charging record (CDR) as JSON.
    #[arg(long)]
    cdr: PathBuf,
    /// The tariff as JSON, or a list of tariffs, of which the first that holds at the start counts. Without it,
    /// the tariffs in the record.
    #[arg(long)]
    tariff: Option<PathBuf>,
    /// The charger's time zone, in which the tariff's times of day and weekdays are.
    #[arg(long)]
    zone: String,
    /// How to print the bill.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let bad = CliError::BadInput;
    let zone = zone(&args.zone).map_err(|e| bad(format!("--zone: {e}")))?;
    let cdr = args.cdr.display();
    let record = Record::from_json(&read_input(&args.cdr)?);
    let record = record.map_err(|e| bad(format!("{cdr}: {e}")))?;
    let tariffs = match &args.tariff {
        None => record.tariffs.clone(),
        Some(path) => Tariff::from_json(&read_input(path)?)
            .map_err(|e| bad(format!("{}: {e}", path.display())))?,
    };
    let tariff = choose(&tariffs, &record).map_err(|e| bad(format!("{cdr}: {e}")))?;
    let bill = rate(&record, tariff, zone).map_err(|e| bad(format!("{cdr}: {e}")))?;
    print_data(&match args.format {
        Format::Json => format!("{:#}\n", bill.to_json(&record)),
        Format::Csv => bill.to_csv(),
        Format::Table => bill.to_table(&record, zone),
    })
}
