//! `commonwatt check-books`: holds a platform's books against themselves and against their logs, whole.

use std::path::PathBuf;

use anyhow::Context;
use runtime::db::Db;
use runtime::key_file;
use settlement::service::{self, BooksError, ServiceError};

use super::{CliError, block_on_two, print_data};

/// Check a platform's books whole: sums, requests, and every row against what the logs commit to.
///
/// The platform checks the sums at every start, and of the rows what came since the start before; this
/// checks all of them. The platform must not run meanwhile, or this works on a copy.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt check-books --data-dir data\n\n\
    Exit code 0: all holds. 1: something does not, with what and where. 3: the books cannot be read.")]
pub(super) struct Args {
    /// The platform's data folder: the operator's key opens what runs came to.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// The PostgreSQL that holds the books, if they are not in the folder.
    #[arg(long)]
    database: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let (file, key) = (
        args.data_dir.join("commonwatt.db"),
        args.data_dir.join("operator.key"),
    );
    for needed in [Some(&key), args.database.is_none().then_some(&file)] {
        if let Some(missing) = needed.filter(|path| !path.exists()) {
            return Err(CliError::BadInput(format!(
                "{} is not there: --data-dir names the platform's data folder",
                missing.display()
            )));
        }
    }
    let url = args.database.clone();
    let url = url.unwrap_or_else(|| file.display().to_string());
    let found = block_on_two(async move {
        let operator = key_file::open(&key).context("the operator's key")?;
        let db = Db::open(&url).await?;
        match service::check_books_whole(&db, &operator).await {
            Err(BooksError::Read(ServiceError::Db(error))) => Err(error.into()),
            outcome => Ok(outcome.err()),
        }
    })?;
    match found {
        Some(error) => Err(CliError::CheckFailed(error.to_string())),
        None => print_data(
            "the books hold: every sum, every request, and every row that the logs commit to\n",
        ),
    }
}
