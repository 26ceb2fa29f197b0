//! `commonwatt statement`: a home's month from the books, for a printer, a spreadsheet or a program.

use std::path::PathBuf;

use anyhow::Context;
use domain::ids::ParticipantId;
use runtime::db::Db;
use settlement::calendar::{LocalMonth, Zone};
use settlement::log::checkpoint::Log;
use settlement::service::{self, ServiceError};
use settlement::statement::Statement;

use super::{CliError, block_on_two, chain, print_data, read_input};
use crate::site::Site;
use crate::web::bill;
use crate::web::words::{Language, Words};

/// Write the statement of a home's month. It is refused where it does not come to the ledger to the last unit.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt statement --data-dir data --home home-03 --month 2026-06 --format html --out bill.html\n\n\
    The HTML is one file with nothing outside of it, laid out for A4.\n\n\
    Exit code 0: it adds up. 1: it does not come to the ledger, with the account. 2: usage."
)]
pub(super) struct Args {
    #[command(flatten)]
    books: Books,
    /// Whose month.
    #[arg(long)]
    home: ParticipantId,
    /// Which month, on the site's clock, like 2026-06.
    #[arg(long)]
    month: String,
    /// html for people and printers, csv with a line for each day, json with everything, table for a terminal.
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
    /// The language of the HTML: en, de, fr or es.
    #[arg(long, default_value = "en")]
    language: String,
    /// Write to this file and not to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Where a community's books are.
#[derive(clap::Args)]
pub(super) struct Books {
    /// The platform's data folder.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// The community's site.toml, for its time zone and currency; without it, the one in the data folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The PostgreSQL that holds the books, if they are not in the folder.
    #[arg(long)]
    database: Option<String>,
}

impl Books {
    /// The community, and what names its database.
    pub(super) fn open(&self) -> Result<(Site, String), CliError> {
        let config = self.config.clone();
        let config = config.unwrap_or_else(|| self.data_dir.join("site.toml"));
        let text = read_input(&config).map_err(|error| {
            CliError::BadInput(format!("{error}: --config names the community's site.toml"))
        })?;
        let site = Site::from_toml(&text, &config).map_err(|e| CliError::BadInput(chain(&e)))?;
        let file = self.data_dir.join("commonwatt.db");
        if self.database.is_none() && !file.exists() {
            let why = "is not there: --data-dir names the platform's data folder";
            return Err(CliError::BadInput(format!("{} {why}", file.display())));
        }
        let url = self.database.clone();
        Ok((site, url.unwrap_or_else(|| file.display().to_string())))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Html,
    Csv,
    Json,
    Table,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let (site, url) = args.books.open()?;
    let month = LocalMonth::parse(&args.month, Zone::from(site.time_zone));
    let month = month.map_err(|e| CliError::BadInput(format!("--month: {e}")))?;
    let language = Language::of_tag(&args.language).ok_or_else(|| {
        CliError::BadInput(format!("--language {}: en, de, fr or es", args.language))
    })?;
    let (home, books) = (args.home.clone(), site.clone());
    let made = block_on_two(async move { Ok(read(&url, &books, &home, month).await) })?;
    let made = made.map_err(|error| match error {
        ServiceError::Statement(error) => CliError::CheckFailed(error.to_string()),
        other => CliError::Environment(other.into()),
    })?;
    let made = made.ok_or_else(|| {
        CliError::BadInput(format!(
            "--home {}: nobody of this name is enrolled",
            args.home
        ))
    })?;
    let words = Words {
        language,
        zone: site.time_zone,
        currency: site.currency,
    };
    let text = match args.format {
        Form::Html => bill::document(&words, &made),
        Form::Csv => made.to_csv(),
        Form::Table => made.to_table(),
        Form::Json => serde_json::to_string_pretty(&made).context("the statement as JSON")? + "\n",
    };
    match &args.out {
        None => print_data(&text),
        Some(file) => std::fs::write(file, text)
            .map_err(|e| CliError::BadInput(format!("cannot write {}: {e}", file.display()))),
    }
}

async fn read(
    url: &str,
    site: &Site,
    home: &ParticipantId,
    month: LocalMonth,
) -> Result<Option<Statement>, ServiceError> {
    let db = Db::open(url).await?;
    // The books' own newest time: a demo's is not the computer's.
    let newest = service::checkpoint_time(&db, Log::Ledger).await?;
    let now = newest.map_or(domain::time::Timestamp::EPOCH, |(at, _)| at);
    let length_s = site.interval_length_s;
    service::statement(&db, &site.community, length_s, home, month, now).await
}
