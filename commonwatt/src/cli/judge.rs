//! `commonwatt judge`: says, from a file alone, whether it proves that somebody broke a rule.

use std::path::{Path, PathBuf};

use settlement::evidence::{Evidence, Verdict, judge};

use super::{CliError, Format, print_data, read_input};

/// Judge a piece of evidence offline: equivocation, rollback, nameplate, forks of an operator or a witness.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  commonwatt judge evidence/equivocation-1.json\n  \
    commonwatt judge evidence/above_nameplate-2.json --against gateway-key.tlog-proof > false-word.json\n\n\
    Energy above a rating is proven under the operator's word on which record of the key counted. --against holds that\n\
    word against another record of the key, as `commonwatt verify --write-proofs` writes it from a receipt, and prints\n\
    the evidence that the word is false, where it is.\n\n\
    Exit code 0: proven. 1: not proven. 2: the file is no evidence."
)]
pub(super) struct Args {
    /// The evidence, as `commonwatt evidence` or a witness has written it.
    file: PathBuf,
    /// The proof (*.tlog-proof) of a key's record that counted instead of the one in the evidence.
    #[arg(long, value_name = "PROOF")]
    against: Option<PathBuf>,
    /// How to print the verdict.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let text = read_input(&args.file)?;
    let bad = |e| CliError::BadInput(format!("{}: {e}", args.file.display()));
    let evidence = Evidence::read(&text).map_err(bad)?;
    if let Some(proof) = &args.against {
        return contradict(&evidence, proof);
    }
    let verdict = judge(&evidence).map_err(bad)?;
    let kind = evidence.kind();
    let (proven, offender, told) = match &verdict {
        Verdict::Proven { offender, what } => (true, offender.as_str(), what),
        Verdict::NotProven { why } => (false, "", why),
    };
    let shown = match args.format {
        Format::Json => {
            let value = serde_json::json!({
                "kind": kind, "proven": proven, "offender": offender, "detail": told,
            });
            format!("{value:#}\n")
        }
        Format::Csv => format!(
            "{kind},{proven},{offender},\"{}\"\n",
            told.replace('"', "\"\"")
        ),
        Format::Table if proven => format!("proven: {kind}\n{offender} {told}\n"),
        Format::Table => format!("not proven: {kind}\n"),
    };
    print_data(&shown)?;
    match verdict {
        Verdict::Proven { .. } => Ok(()),
        Verdict::NotProven { why } => Err(CliError::CheckFailed(format!("not proven: {why}"))),
    }
}

/// Prints the evidence that the operator's word in a case is false, if the record in the proof makes it so.
fn contradict(case: &Evidence, proof: &Path) -> Result<(), CliError> {
    let text = read_input(proof)?;
    let bad = |e| CliError::BadInput(format!("--against {}: {e}", proof.display()));
    let evidence = case.against(&text).map_err(bad)?;
    match judge(&evidence).map_err(bad)? {
        Verdict::Proven { .. } => print_data(&evidence.to_text()),
        Verdict::NotProven { why } => Err(CliError::CheckFailed(format!("not proven: {why}"))),
    }
}
