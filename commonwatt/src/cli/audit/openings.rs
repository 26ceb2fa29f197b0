//! What opens the log's sealed entries, from a file, a folder of files, or the platform's data folder.

use std::path::{Path, PathBuf};

use domain::ids::CommunityId;
use domain::openings::{FORMAT, Openings};
use domain::signed::SigningKey;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Db;
use settlement::log::checkpoint::Log;
use settlement::service;

use super::super::{CliError, block_on_two, read_input};

/// How much of a data folder is opened at a time.
const WINDOW_S: i64 = 7 * 86_400;

type Range = (Option<Timestamp>, Option<Timestamp>);

/// Reads all openings at a path, those of a data folder for a range of intervals.
pub(super) fn read(path: &Path, range: Range) -> Result<Vec<Openings>, CliError> {
    if path.join("commonwatt.db").is_file() {
        let books = Books::of(path, None)?;
        return block_on_two(async move { books.windows(range).await });
    }
    let mut all = Vec::new();
    for file in files(path)? {
        let text = read_input(&file)?;
        let shown = file.display();
        let openings: Openings = serde_json::from_str(&text)
            .map_err(|e| CliError::BadInput(format!("{shown}: no openings: {e}")))?;
        if openings.format != FORMAT {
            let why = format!("{shown}: the format is not {FORMAT}");
            return Err(CliError::BadInput(why));
        }
        all.push(openings);
    }
    Ok(all)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let cannot = |e| CliError::BadInput(format!("cannot read {}: {e}", path.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let file = entry.map_err(cannot)?.path();
        if file.extension().is_some_and(|e| e == "json") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(CliError::BadInput(format!(
            "{}: neither a platform's data folder (commonwatt.db) nor a folder with openings (*.json)",
            path.display()
        )));
    }
    files.sort();
    Ok(files)
}

/// A platform's books, with the key that blinds the digests of its runs.
pub(super) struct Books {
    url: String,
    operator: SigningKey,
}

impl Books {
    /// The books of a data folder, or of a database beside it.
    pub(super) fn of(data_dir: &Path, database: Option<&str>) -> Result<Self, CliError> {
        let file = data_dir.join("commonwatt.db");
        if database.is_none() && !file.exists() {
            let why = "is not there: --data-dir names the platform's data folder";
            return Err(CliError::BadInput(format!("{} {why}", file.display())));
        }
        let key = runtime::key_file::read(&data_dir.join("operator.key"));
        let operator = key.map_err(|error| {
            CliError::BadInput(format!("{error}; the data folder also holds operator.key"))
        })?;
        let url = database.map_or_else(|| file.display().to_string(), str::to_owned);
        Ok(Books { url, operator })
    }

    async fn windows(&self, (from, to): Range) -> anyhow::Result<Vec<Openings>> {
        let (db, community) = self.open().await?;
        let (first, last): (Option<i64>, Option<i64>) = db
            .fetch_one(
                "SELECT MIN(start_s), MAX(start_s) FROM settle_clearings",
                args![],
            )
            .await?;
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(Vec::new());
        };
        let mut at = from.map_or(first, |from| from.unix_s().max(first));
        let end = to.map_or(last + 1, |to| to.unix_s().min(last + 1));
        let mut all = Vec::new();
        while at < end {
            let next = end.min(at.saturating_add(WINDOW_S));
            let window = (Timestamp::from_unix_s(at), Timestamp::from_unix_s(next));
            all.push(service::openings(&db, community.as_str(), &self.operator, window).await?);
            at = next;
        }
        Ok(all)
    }

    /// The openings of one range.
    pub(super) async fn range(&self, range: (Timestamp, Timestamp)) -> anyhow::Result<Openings> {
        let (db, community) = self.open().await?;
        Ok(service::openings(&db, community.as_str(), &self.operator, range).await?)
    }

    async fn open(&self) -> anyhow::Result<(Db, CommunityId)> {
        let db = Db::open(&self.url).await?;
        let note = service::latest_checkpoint(&db, Log::Ledger).await?;
        let note = anyhow::Context::context(note, "these books have no checkpoint yet")?;
        let name = note.split('/').nth(1).unwrap_or_default();
        let community = CommunityId::new(name)?;
        Ok((db, community))
    }
}
