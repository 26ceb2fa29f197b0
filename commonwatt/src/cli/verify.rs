//! `commonwatt verify`: checks a receipt offline and says which step failed.

use std::path::{Path, PathBuf};

use domain::signed::PublicKey;
use settlement::charging;
use settlement::log::note::{Algorithm, VerifierKey};
use settlement::log::policy::Policy;
use settlement::log::proof::FORMAT as PROOF_FORMAT;
use settlement::prove::{Report, Trusted, verify_proof, verify_with};

use super::{CliError, Format, print_data};
use crate::site::parse_public_key;

/// How a text of the Open Charge Metering Format begins.
const OCMF_HEAD: &str = "OCMF|";

/// Check a receipt, a charging session (receipt or OCMF), or a single entry of a log (*.tlog-proof), offline.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt verify receipt.json --key data/operator.pub\n  \
    commonwatt verify trade.tlog-proof --policy policy.txt\n  \
    commonwatt verify session.ocmf --key station.pem\n\n\
    Exit code 0: genuine. 1: not genuine, with the step that failed. 2: the file cannot be read."
)]
pub(super) struct Args {
    /// The receipt, as it was downloaded, a *.tlog-proof, or a text that begins with `OCMF|`.
    receipt: PathBuf,
    /// The operator's public key (base64, or a file that holds it), from somewhere you trust. Without
    /// it the receipt is checked against the key that it carries, and the key is printed. For OCMF, which carries
    /// none: the station's key on secp256r1 or secp384r1 (DER in hex or base64, or a PEM file).
    #[arg(long)]
    key: Option<String>,
    /// A policy file (C2SP tlog-policy): which witnesses must have signed the log's checkpoint.
    #[arg(long, value_name = "FILE", conflicts_with = "witness_key")]
    policy: Option<PathBuf>,
    /// A witness that must have signed the log's checkpoint; may be given several times.
    #[arg(long, value_name = "NAME+ID+KEY")]
    witness_key: Vec<VerifierKey>,
    /// Write every entry of the receipt as a proof of its own (*.tlog-proof) into this folder.
    #[arg(long, value_name = "FOLDER")]
    write_proofs: Option<PathBuf>,
    /// How to print the steps.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let path = args.receipt.display();
    let bytes = std::fs::read(&args.receipt)
        .map_err(|e| CliError::BadInput(format!("cannot read {path}: {e}")))?;
    let report = match std::str::from_utf8(&bytes) {
        Ok(text) if text.starts_with(OCMF_HEAD) => {
            if args.policy.is_some() {
                return Err(no_checkpoint("a text in OCMF"));
            }
            unwitnessed("a text in OCMF", &policy(args)?)?;
            check_ocmf(text, args)?
        }
        Ok(text) => {
            let operator = args.key.as_deref().map(read_key).transpose()?;
            let policy = policy(args)?;
            if charging::receipt::is_one(text) {
                unwitnessed("a charging receipt", &policy)?;
            }
            check(text, &Trusted { operator, policy })
        }
        Err(e) => Report {
            pinned: false,
            steps: vec![("format", Err(format!("not UTF-8 text: {e}")))],
        },
    };
    print_data(&show(&report, args.format)?)?;
    if let (true, Some(folder)) = (report.holds(), &args.write_proofs) {
        write_proofs(&bytes, folder)?;
    }
    match report.first_failure() {
        None if args.format == Format::Table => print_data(match report.pinned {
            true => "genuine\n",
            false => {
                "consistent; genuine if the operator's key above is the one you know (see --key)\n"
            }
        }),
        None => Ok(()),
        Some((step, why)) => Err(CliError::CheckFailed(format!(
            "not genuine: step `{step}` failed: {why}"
        ))),
    }
}

/// A receipt, a charging session's receipt, or a single entry of a log.
pub(crate) fn check(text: &str, trusted: &Trusted) -> Report {
    if charging::receipt::is_one(text) {
        return charging::receipt::verify_with(text, trusted);
    }
    match text.starts_with(PROOF_FORMAT) {
        true => verify_proof(text, trusted),
        false => verify_with(text, trusted),
    }
}

/// Refuses to look for witnesses where there is nothing that they could have signed.
fn unwitnessed(what: &str, policy: &Policy) -> Result<(), CliError> {
    match policy.wants_witnesses() {
        true => Err(no_checkpoint(what)),
        false => Ok(()),
    }
}

fn no_checkpoint(what: &str) -> CliError {
    CliError::BadInput(format!(
        "--policy, --witness-key: {what} carries no checkpoint of a log, so no witness can have signed one: check \
         it with --key alone, and ask for witnesses with a receipt or a *.tlog-proof"
    ))
}

/// A station's signed readings; without its key nothing can be said of them.
fn check_ocmf(text: &str, args: &Args) -> Result<Report, CliError> {
    let Some(key) = &args.key else {
        let why = "OCMF carries no key: give the station's with --key".to_owned();
        return Err(CliError::BadInput(why));
    };
    let named = std::fs::read_to_string(key).unwrap_or_else(|_| key.clone());
    let key = charging::ocmf::PublicKey::from_text(&named)
        .map_err(|e| CliError::BadInput(format!("--key {key}: {e}")))?;
    let steps = match charging::ocmf::Ocmf::from_text(text) {
        Ok(read) => read.check(&key),
        Err(e) => vec![("format", Err(e.to_string()))],
    };
    Ok(Report {
        steps,
        pinned: true,
    })
}

fn policy(args: &Args) -> Result<Policy, CliError> {
    let Some(file) = &args.policy else {
        let others = |key: &&VerifierKey| key.algorithm() != Algorithm::Witness;
        if let Some(key) = args.witness_key.iter().find(others) {
            let why = format!("--witness-key {key}: the key of a log, not of a witness");
            return Err(CliError::BadInput(why));
        }
        return Ok(Policy::all_of(args.witness_key.clone()));
    };
    let text = super::read_input(file)?;
    Policy::parse(&text).map_err(|e| CliError::BadInput(format!("{}: {e}", file.display())))
}

fn write_proofs(receipt: &[u8], folder: &Path) -> Result<(), CliError> {
    let receipt = serde_json::from_slice(receipt).map_err(|_| {
        CliError::BadInput("--write-proofs: only a receipt has several entries".to_owned())
    })?;
    let proofs = settlement::prove::proofs(&receipt).map_err(CliError::BadInput)?;
    let refused =
        |e: std::io::Error| CliError::BadInput(format!("--write-proofs {}: {e}", folder.display()));
    std::fs::create_dir_all(folder).map_err(refused)?;
    for (name, proof) in proofs {
        let file = folder.join(format!("{name}.tlog-proof"));
        std::fs::write(file, proof.to_text()).map_err(refused)?;
    }
    Ok(())
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
