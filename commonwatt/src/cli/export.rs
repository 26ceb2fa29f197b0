//! `commonwatt export`: a table of a run folder, between two instants, with other names if that is wanted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use domain::ids::{digest_parts, to_hex};
use domain::time::Timestamp;
use simulator::run::folder::{self, Request};
use simulator::run::table::{FileKind, rewrite};
use simulator::run::{TableChoice, tables};

use super::runs::Scratch;
use super::simulate::{cores, failed, with_progress};
use super::{CliError, print_data};

/// Columns that name somebody, or something that is named after somebody.
const NAMES: [&str; 10] = [
    "home",
    "buyer",
    "seller",
    "debit",
    "credit",
    "order_id",
    "bid_id",
    "offer_id",
    "trade_id",
    "posting_id",
];

/// Write a table of a run folder.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  commonwatt export runs/2026-06-21_street-10_1_0f3a9c21 --table trades\n  \
    commonwatt export runs/2026-06-21_street-10_1_0f3a9c21 --table deliveries --from 2026-06-22T00:00:00Z --to 2026-06-23T00:00:00Z --anonymise\n  \
    commonwatt export runs/2026-06-21_street-10_1_0f3a9c21 --table trades --anonymise --file-format parquet --out trades.parquet\n\n\
    A table that is not in the folder is made by running it again. --anonymise gives homes and orders names that hold within this export only."
)]
pub(super) struct Args {
    /// The run folder.
    run: PathBuf,
    /// participants, intervals, orders, trades, readings, deliveries, postings or kpis; with `[network]` also grid,
    /// grid_nodes and grid_branches.
    #[arg(long)]
    table: String,
    /// csv or parquet.
    #[arg(long, default_value = "csv")]
    file_format: String,
    /// Only intervals that start at this instant or later (UTC, like 2026-06-22T00:00:00Z).
    #[arg(long)]
    from: Option<String>,
    /// Only intervals that start before this instant.
    #[arg(long)]
    to: Option<String>,
    /// Other names for homes, and ids that do not give them away.
    #[arg(long)]
    anonymise: bool,
    /// Where to write it; CSV goes to stdout where absent.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let bad = |text: String| CliError::BadInput(text);
    let kind = match args.file_format.as_str() {
        "csv" => FileKind::Csv,
        "parquet" => FileKind::Parquet,
        other => {
            return Err(bad(format!(
                "--file-format {other}: expected csv or parquet"
            )));
        }
    };
    let Some(table) = tables::ALL
        .into_iter()
        .find(|table| table.name == args.table)
    else {
        let names: Vec<&str> = tables::ALL.iter().map(|t| t.name).collect();
        return Err(bad(format!(
            "--table {}: expected {}",
            args.table,
            names.join(", ")
        )));
    };
    let instant = |option: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => {
            let at = text.parse::<Timestamp>();
            at.map(Some)
                .map_err(|e| bad(format!("{option} {text}: {e}")))
        }
    };
    let (from, to) = (instant("--from", &args.from)?, instant("--to", &args.to)?);
    let changes = from.is_some() || to.is_some() || args.anonymise;
    if kind == FileKind::Parquet && FileKind::best() == FileKind::Csv {
        return Err(bad(
            "--file-format parquet: this program was built without it: build it with `--features tables`, or take csv".to_owned(),
        ));
    }
    let Some(out) = args.out.as_deref().filter(|_| kind == FileKind::Parquet) else {
        if kind == FileKind::Parquet {
            return Err(bad(
                "--file-format parquet: name a file for it with --out FILE".to_owned(),
            ));
        }
        let scratch = Scratch::new()?;
        let text = text(args, (from, to), &scratch)?;
        return match &args.out {
            None => print_data(&text),
            Some(out) => {
                Ok(std::fs::write(out, text)
                    .map_err(|e| anyhow::anyhow!("{}: {e}", out.display()))?)
            }
        };
    };
    let scratch = Scratch::new()?;
    let made = if changes {
        let text = text(args, (from, to), &scratch)?;
        let manifest = folder::manifest(&args.run).map_err(failed)?;
        let whose = (manifest.run_id.as_str(), manifest.zone.as_str());
        let written = rewrite(&text, table, kind, &scratch.0, whose).map_err(failed)?;
        scratch.0.join(written.file)
    } else {
        source(args, kind, &scratch)?
    };
    std::fs::copy(&made, out).map_err(|e| anyhow::anyhow!("{}: {e}", out.display()))?;
    Ok(())
}

/// What is exported, as CSV.
fn text(
    args: &Args,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    scratch: &Scratch,
) -> Result<String, CliError> {
    let source = source(args, FileKind::Csv, scratch)?;
    let text = std::fs::read_to_string(&source).map_err(anyhow::Error::from)?;
    if from.is_some() || to.is_some() || args.anonymise {
        part(&text, from, to, args.anonymise)
    } else {
        Ok(text)
    }
}

/// The table's file: the folder's own, or, where that has none, one of the same run made again.
fn source(args: &Args, kind: FileKind, scratch: &Scratch) -> Result<PathBuf, CliError> {
    let (job, manifest) = folder::job(&args.run).map_err(failed)?;
    let name = format!("{}.{}", args.table, kind.ending());
    let kept = args.run.join(&name);
    if kept.is_file() {
        return Ok(kept);
    }
    let request = Request {
        job,
        tables: Some(TableChoice::All),
        kind,
        threads: cores(),
        out: Some(scratch.0.clone()),
    };
    let finished = with_progress(&request)?;
    if finished.manifest.outcome_sha256 != manifest.outcome_sha256 {
        return Err(CliError::CheckFailed(format!(
            "{} cannot be repeated by this program: the sums differ",
            args.run.display()
        )));
    }
    let made = finished
        .folder
        .unwrap_or_else(|| scratch.0.clone())
        .join(&name);
    if made.is_file() {
        Ok(made)
    } else {
        Err(CliError::BadInput(format!(
            "{}: a run with {} has no such table",
            args.table, manifest.mechanism
        )))
    }
}

/// Lines between two instants, with other names where that is wanted. Fields of these tables hold no commas,
/// except the definitions of figures, which come last and name nobody.
fn part(
    text: &str,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    anonymise: bool,
) -> Result<String, CliError> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let columns: Vec<&str> = head.split(',').collect();
    let start = columns.iter().position(|name| *name == "start");
    if start.is_none() && (from.is_some() || to.is_some()) {
        return Err(CliError::BadInput(
            "--from and --to: this table has no time".to_owned(),
        ));
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))?;
    let mut names = BTreeMap::new();
    let mut kept = format!("{head}\n");
    for line in lines {
        let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
        if let Some(at) = start.and_then(|place| fields.get(place)?.parse::<Timestamp>().ok())
            && (from.is_some_and(|from| at < from) || to.is_some_and(|to| at >= to))
        {
            continue;
        }
        if anonymise {
            for (name, field) in columns.iter().zip(&mut fields) {
                if NAMES.contains(name) {
                    *field = renamed(name, field, &salt, &mut names);
                }
            }
        }
        kept.push_str(&fields.join(","));
        kept.push('\n');
    }
    Ok(kept)
}

/// The name of this export for another one. An account keeps its place in the chart; one of nobody stays.
fn renamed(
    column: &str,
    field: &str,
    salt: &[u8; 16],
    names: &mut BTreeMap<String, String>,
) -> String {
    let (place, owner) = match (column, field.split_once('/')) {
        // What has no name gets none.
        (_, None) if field.is_empty() => return String::new(),
        ("debit" | "credit", None) => return field.to_owned(),
        ("debit" | "credit", Some((place, owner))) => (format!("{place}/"), owner),
        _ => (String::new(), field),
    };
    let other = names.entry(owner.to_owned()).or_insert_with(|| {
        let digest = digest_parts("commonwatt export", &[salt, owner.as_bytes()]);
        format!("x{}", to_hex(&digest[..6]))
    });
    format!("{place}{other}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_its_lines_and_nobodys_name() {
        let text = "run_id,start,home,energy_wh\nr,1970-01-01T00:00:00Z,home-01,5\nr,1970-01-01T00:15:00Z,home-02,6\n\
            r,1970-01-01T00:30:00Z,home-01,7\n";
        let at = |s| Some(Timestamp::from_unix_s(s));
        let middle = part(text, at(900), at(1800), false).unwrap();
        assert_eq!(
            middle,
            "run_id,start,home,energy_wh\nr,1970-01-01T00:15:00Z,home-02,6\n"
        );
        let hidden = part(text, None, None, true).unwrap();
        assert!(!hidden.contains("home-0"), "{hidden}");
        let names: Vec<&str> = hidden
            .lines()
            .skip(1)
            .filter_map(|l| l.split(',').nth(2))
            .collect();
        assert!(names[0] == names[2] && names[0] != names[1]);
        let again = part(text, None, None, true).unwrap();
        assert_ne!(hidden, again, "another export has other names");
        assert!(part("run_id,name\n", at(0), None, false).is_err());
    }

    #[test]
    fn accounts_keep_their_place() {
        let mut names = BTreeMap::new();
        let mut name = |column: &str, field: &str| renamed(column, field, &[7; 16], &mut names);
        assert_eq!(name("debit", "utility"), "utility");
        assert_eq!(name("trade_id", ""), "", "what has no name gets none");
        let held = name("credit", "held/ana");
        assert!(held.starts_with("held/x") && held.ends_with(&name("home", "ana")));
    }
}
