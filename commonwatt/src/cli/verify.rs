//! `commonwatt verify`: checks a receipt offline and says which step failed.

use std::path::PathBuf;

use domain::signed::PublicKey;
use settlement::prove::Report;

use super::{CliError, Format, print_data};
use crate::site::parse_public_key;

/// Check a receipt offline.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt verify receipt.json --key data/operator.pub\n\n\
    Exit code 0: genuine. 1: not genuine, with the step that failed. 2: the file cannot be read."
)]
pub(super) struct Args {
    /// The receipt, as it was downloaded.
    receipt: PathBuf,
    /// The operator's public key (base64, or a file that holds it), from somewhere you trust. Without
    /// it the receipt is checked against the key that it carries, and the key is printed.
    #[arg(long)]
    key: Option<String>,
    /// How to print the steps.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let path = args.receipt.display();
    let bytes = std::fs::read(&args.receipt)
        .map_err(|e| CliError::BadInput(format!("cannot read {path}: {e}")))?;
    let pinned = args.key.as_deref().map(read_key).transpose()?;
    let report = match String::from_utf8(bytes) {
        Ok(text) => settlement::prove::verify(&text, pinned),
        Err(e) => Report {
            pinned: pinned.is_some(),
            steps: vec![("format", Err(format!("not UTF-8 text: {}", e.utf8_error())))],
        },
    };
    print_data(&show(&report, args.format)?)?;
    match report.first_failure() {
        None if args.format == Format::Table => print_data(match pinned {
            Some(_) => "genuine\n",
            None => {
                "consistent; genuine if the operator's key above is the one you know (see --key)\n"
            }
        }),
        None => Ok(()),
        Some((step, why)) => Err(CliError::CheckFailed(format!(
            "not genuine: step `{step}` failed: {why}"
        ))),
    }
}

pub(super) fn read_key(key: &str) -> Result<PublicKey, CliError> {
    let bad = |why: String| CliError::BadInput(format!("--key {key}: {why}"));
    match (std::fs::read_to_string(key), parse_public_key(key)) {
        (Ok(text), _) => parse_public_key(&text).map_err(|e| bad(super::chain(&e))),
        (Err(_), Ok(named)) => Ok(named),
        (Err(file), Err(_)) => Err(bad(format!(
            "neither a key in base64 nor a readable file: {file}"
        ))),
    }
}

fn show(report: &Report, format: Format) -> Result<String, CliError> {
    use std::fmt::Write;
    let mut out = String::new();
    if format == Format::Json {
        let steps = report.steps.iter().map(|(step, result)| {
            let detail = result.as_ref().unwrap_or_else(|why| why);
            serde_json::json!({"step": step, "ok": result.is_ok(), "detail": detail})
        });
        let steps = steps.collect::<Vec<_>>();
        let value = serde_json::json!({
            "consistent": report.holds(),
            "operator_key_pinned": report.pinned,
            "genuine": report.holds() && report.pinned,
            "steps": steps,
        });
        return Ok(format!("{value:#}\n"));
    }
    for (step, result) in &report.steps {
        let (mark, detail) = match result {
            Ok(detail) => ("ok", detail),
            Err(why) => ("FAIL", why),
        };
        let line = match format {
            Format::Csv => writeln!(out, "{step},{mark},\"{}\"", detail.replace('"', "\"\"")),
            _ => writeln!(out, "{mark:<4}  {step:<18} {detail}"),
        };
        line.map_err(|e| anyhow::anyhow!(e))?;
    }
    Ok(out)
}
