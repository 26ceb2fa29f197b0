//! `commonwatt evidence`: writes out what the books hold against signers and against the operator.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use domain::ids::CommunityId;
use runtime::db::Db;
use settlement::evidence::Evidence;
use settlement::log::checkpoint::Log;
use settlement::service;

use super::{CliError, block_on_two, print_data};

/// Write the evidence in the books as files that `commonwatt judge` reads.
///
/// It reads the database itself, as the operator of the platform can: messages of households are in the
/// files, so no address of the platform gives them away.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt evidence --data-dir data --to evidence")]
pub(super) struct Args {
    /// The platform's data folder.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// The PostgreSQL that holds the books, if they are not in the folder.
    #[arg(long)]
    database: Option<String>,
    /// Folder for the files; made where it is missing.
    #[arg(long, default_value = "evidence")]
    to: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let file = args.data_dir.join("commonwatt.db");
    if args.database.is_none() && !file.exists() {
        return Err(CliError::BadInput(format!(
            "{} is not there: --data-dir names the platform's data folder",
            file.display()
        )));
    }
    let url = args.database.clone();
    let url = url.unwrap_or_else(|| file.display().to_string());
    let cases = block_on_two(collect(url))?;
    let folder = &args.to;
    std::fs::create_dir_all(folder)
        .map_err(|e| CliError::BadInput(format!("cannot make {}: {e}", folder.display())))?;
    let mut told = String::new();
    for (n, case) in (1..).zip(&cases) {
        told += &write(folder, n, case)?;
    }
    if cases.is_empty() {
        told += "the books hold no evidence\n";
    }
    print_data(&told)
}

fn write(folder: &Path, n: u32, case: &Evidence) -> Result<String, CliError> {
    let file = folder.join(format!("{}-{n}.json", case.kind()));
    std::fs::write(&file, case.to_text())
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(format!("{}\n", file.display()))
}

async fn collect(url: String) -> anyhow::Result<Vec<Evidence>> {
    let db = Db::open(&url).await?;
    let note = service::latest_checkpoint(&db, Log::Ledger).await?;
    let note = note.context("these books have no checkpoint yet")?;
    let origin = note.lines().next().unwrap_or_default();
    let mut parts = origin.split('/');
    let community = parts
        .nth(1)
        .context("the log's origin names no community")?;
    let community = CommunityId::new(community)?;
    let mut all = Vec::new();
    for case in service::cases(&db).await? {
        all.push(Evidence::read(&case.text)?);
    }
    all.extend(service::reading_cases(&db, &community).await?);
    all.extend(service::refusal_cases(&db, &community).await?);
    let (_, orders) = crate::platform::found::orders(&db, &community, &BTreeSet::new()).await?;
    for found in orders {
        if !service::is_looked_at(&db, &found.source).await? {
            all.extend(found.evidence);
        }
    }
    Ok(all)
}
