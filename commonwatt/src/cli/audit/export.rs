//! `commonwatt audit export`: writes what opens the sealed entries of some intervals.

use std::path::PathBuf;

use domain::time::Timestamp;

use super::super::{CliError, block_on_two, print_data};
use super::openings::Books;

/// Write what opens the sealed entries of the intervals of a time: signed orders and readings, trades, settlement
/// lines, and their salts.
///
/// It reads the database itself, as the operator of the platform can. What is in the file is personal: it shows
/// every home's energy and money of these intervals to whoever has it, and of no others.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt audit export --data-dir data --from 2026-06-21T00:00:00Z --to 2026-06-22T00:00:00Z --out day.json"
)]
pub(super) struct Args {
    /// The platform's data folder.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// The PostgreSQL that holds the books, if they are not in the folder.
    #[arg(long)]
    database: Option<String>,
    /// Intervals that start at or after this time.
    #[arg(long)]
    from: Timestamp,
    /// Intervals that start before this time, at most a month later.
    #[arg(long)]
    to: Timestamp,
    /// Write to this file, which only you may read, and not to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let books = Books::of(&args.data_dir, args.database.as_deref())?;
    let range = (args.from, args.to);
    let openings = block_on_two(async move { books.range(range).await })?;
    let text = serde_json::to_string(&openings).map_err(|e| anyhow::anyhow!(e))? + "\n";
    let Some(file) = &args.out else {
        return print_data(&text);
    };
    write_private(file, &text)
        .map_err(|e| CliError::BadInput(format!("cannot write {}: {e}", file.display())))?;
    let runs: usize = openings.intervals.iter().map(|one| one.runs.len()).sum();
    print_data(&format!(
        "{} intervals with {runs} runs in {}\n",
        openings.intervals.len(),
        file.display()
    ))
}

fn write_private(file: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut opened = options.open(file)?;
    #[cfg(unix)]
    opened.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    opened.write_all(text.as_bytes())
}
