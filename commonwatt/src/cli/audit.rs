//! `commonwatt audit`: rebuilds a community's logs from what it publishes, clears its public books again, settles
//! again what was opened to it, and says what nobody can check from outside.

mod export;
mod logs;
mod market;
mod openings;
mod runs;
mod settled;
mod source;

use std::path::{Path, PathBuf};

use anyhow::Context;
use domain::signed::PublicKey;
use domain::time::Timestamp;
use settlement::log::policy::Policy;
use settlement::prove::Trusted;

use super::verify::read_key;
use super::{CliError, Format, print_data, read_input};
use crate::site::settlement::read_tariff;
use crate::site::{parse_public_key, public_key_text};
use source::Source;

/// Check a community's logs and clearings from what it publishes, or from a folder that holds a copy.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:\n  commonwatt audit --log http://127.0.0.1:8080 --key operator.pub --mirror street\n  \
    commonwatt audit --log street --key operator.pub --from 2026-06-21T00:00:00Z\n  \
    commonwatt audit export --data-dir data --from 2026-06-21T00:00:00Z --to 2026-06-22T00:00:00Z --out day.json\n  \
    commonwatt audit --log street --key operator.pub --openings day.json --tariff tariff.toml\n\n\
    Postings are sealed in the log. Where the operator hands over what opens them (--openings), every run is\n\
    settled again and compared with the log byte for byte.\n\n\
    With a mirror that was written before, the logs must have grown from what is in it.\n\n\
    Exit code 0: all holds. 1: something does not, with what. 2: the log cannot be read."
)]
pub(super) struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    /// The platform's address, or a folder that `--mirror` has written.
    #[arg(long, value_name = "URL|FOLDER", required = true)]
    log: Option<String>,
    /// Keep a copy of everything that was read in this folder, once all of it holds, and go on from it the next
    /// time.
    #[arg(long, value_name = "FOLDER")]
    mirror: Option<PathBuf>,
    /// The operator's public key (base64, or a file that holds it), from somewhere you trust.
    #[arg(long)]
    key: Option<String>,
    /// A policy file: with which keys the logs must be signed, and which witnesses must have signed the checkpoints.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// What opens the log's sealed entries: a file of `audit export`, a folder with several, or the platform's data
    /// folder.
    #[arg(long, value_name = "FILE|FOLDER")]
    openings: Option<PathBuf>,
    /// The tariff that should have been in force (the file that `site.toml` names, or its three prices in a file).
    #[arg(long, value_name = "FILE")]
    tariff: Option<PathBuf>,
    /// Clear and settle again only intervals that start at or after this time.
    #[arg(long)]
    from: Option<Timestamp>,
    /// Clear and settle again only intervals that start before this time.
    #[arg(long)]
    to: Option<Timestamp>,
    /// How to print the findings.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Subcommand)]
enum Other {
    /// Write what opens the sealed entries of some intervals, for an auditor.
    Export(export::Args),
}

/// What was checked, and how it went; a finding that is only a remark counts as holding.
pub(super) type Finding = (String, Result<String, String>);

/// Most failures of a kind that are listed; the rest is counted.
const FAILURES_MAX: usize = 20;

/// A finding about an interval that does not hold.
fn failed(start: Timestamp, why: &str) -> Finding {
    (start.to_string(), Err(why.to_owned()))
}

/// What is known before anything is read.
struct Trust {
    key: PublicKey,
    pinned: bool,
    trusted: Trusted,
}

impl Trust {
    fn new(key: PublicKey, pinned: bool, policy: Policy) -> Self {
        let trusted = Trusted {
            operator: Some(key),
            policy,
        };
        Trust {
            key,
            pinned,
            trusted,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if let Some(Other::Export(args)) = &args.other {
        return export::run(args);
    }
    let log = args.log.as_deref().unwrap_or_default();
    let mut source = Source::new(log, args.mirror.as_deref())?;
    let trust = trust(args, &mut source)?;
    let mut done = once(args, &mut source, &trust)?;
    // A file of the mirror may have been damaged since: then what is fetched again holds.
    if done.failed().is_some() && source.distrust_mirror() {
        done = once(args, &mut source, &trust)?;
        let damaged = source.damaged();
        if let (Some(first), None) = (damaged.first(), done.failed()) {
            let told = format!(
                "{} files were damaged, and were fetched again and checked; the first is {first}",
                damaged.len()
            );
            done.findings.push(("mirror".to_owned(), Ok(told)));
        }
    }
    let failed = done.failed();
    let shown = show(&done.findings, &done.sealed, failed.is_none(), args.format);
    print_data(&shown)?;
    match failed {
        None => Ok(source.keep_all()?),
        Some(why) => Err(CliError::CheckFailed(format!("does not hold: {why}"))),
    }
}

/// An audit: what was found, and what was not checked.
struct Done {
    findings: Vec<Finding>,
    sealed: String,
}

impl Done {
    fn failed(&self) -> Option<String> {
        self.findings.iter().find_map(|(what, found)| match found {
            Ok(_) => None,
            Err(why) => Some(format!("{what}: {why}")),
        })
    }
}

fn once(args: &Args, source: &mut Source, trust: &Trust) -> Result<Done, CliError> {
    let mut findings: Vec<Finding> = Vec::new();
    let detail = match trust.pinned {
        true => "the key you named".to_owned(),
        false => format!(
            "{}, as the platform says: compare it with the one you know (--key)",
            public_key_text(trust.key)
        ),
    };
    findings.push(("operator".to_owned(), Ok(detail)));
    let logs = logs::check(source, trust, &mut findings)?;
    let mut sealed = String::new();
    if let Some(logs) = &logs {
        let opened = contents(args, source, trust, logs, &mut findings)?;
        sealed = logs.sealed(&opened);
    }
    Ok(Done { findings, sealed })
}

/// Clears again, reads what the runs were made from, and settles again what is opened.
fn contents(
    args: &Args,
    source: &mut Source,
    trust: &Trust,
    logs: &logs::Logs,
    findings: &mut Vec<Finding>,
) -> Result<settled::Count, CliError> {
    let range = (args.from, args.to);
    let clearings = market::check(source, logs, range, findings)?;
    let tariffs = args.tariff.as_deref().map(read_tariff).transpose();
    let tariffs = tariffs.map_err(|e| CliError::BadInput(super::chain(&e)))?;
    runs::check(source, logs, &clearings, tariffs.as_ref(), findings)?;
    let Some(path) = &args.openings else {
        return Ok(settled::Count::default());
    };
    let openings = openings::read(path, range)?;
    settled::check(source, logs, trust.key, &clearings, openings, findings)
}

fn trust(args: &Args, source: &mut Source) -> Result<Trust, CliError> {
    let policy = match &args.policy {
        None => Policy::default(),
        Some(file) => Policy::parse(&read_input(file)?)
            .map_err(|e| CliError::BadInput(format!("{}: {e}", file.display())))?,
    };
    if let Some(key) = &args.key {
        return Ok(Trust::new(read_key(key)?, true, policy));
    }
    let about = source.json(source::PLATFORM)?;
    let key = about["operator_key"].as_str().unwrap_or_default();
    let key = parse_public_key(key).map_err(|_| {
        CliError::BadInput(format!(
            "{} names no operator's key: give it with --key",
            args.log.as_deref().unwrap_or_default()
        ))
    })?;
    Ok(Trust::new(key, false, policy))
}

fn show(findings: &[Finding], sealed: &str, holds: bool, format: Format) -> String {
    let detail = |found: &Result<String, String>| found.clone().unwrap_or_else(|why| why);
    if format == Format::Json {
        let findings = findings.iter().map(|(what, found)| {
            serde_json::json!({"what": what, "ok": found.is_ok(), "detail": detail(found)})
        });
        let value = serde_json::json!({
            "holds": holds,
            "findings": findings.collect::<Vec<_>>(),
            "not_checked": sealed,
        });
        return format!("{value:#}\n");
    }
    let mut out = String::new();
    for (what, found) in findings {
        let mark = if found.is_ok() { "ok" } else { "FAIL" };
        let detail = detail(found);
        out += &match format {
            Format::Csv => format!("{what},{mark},\"{}\"\n", detail.replace('"', "\"\"")),
            _ => format!("{mark:<4}  {what:<22} {detail}\n"),
        };
    }
    if format == Format::Table {
        out += &format!("not checked: {sealed}\n");
        if holds {
            out += "holds\n";
        }
    }
    out
}

/// Writes a file and the folders that it is in.
fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", file.display());
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(cannot)?;
    }
    std::fs::write(file, bytes).with_context(cannot)
}
