//! `commonwatt check`: whether a gateway's configuration is right, and what it means.

use std::path::PathBuf;

use meter_gateway::config::Config;
use meter_gateway::outline::{Outline, outline};

use super::{CliError, Format, print_data, read_input};

/// Check a gateway's configuration and its device profiles, and say what they mean.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt check gateway.toml\n\n\
    Exit codes: 0 it is right, 2 it has mistakes. All mistakes are listed, each with line and key.")]
pub(super) struct Args {
    /// The gateway's configuration.
    config: PathBuf,
    /// How to print what it means: table or json.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let file = args.config.display().to_string();
    let text = read_input(&args.config)?;
    let bad = |error: &dyn std::fmt::Display| CliError::BadInput(error.to_string());
    let mistakes = Config::mistakes_in(&text, &file);
    if !mistakes.is_empty() {
        let all: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        return Err(bad(&all.join("\n")));
    }
    let config = Config::from_toml(&text, &file).map_err(|error| bad(&error))?;
    let found = outline(&config).map_err(|error| bad(&error))?;
    print_data(&match args.format {
        Format::Json => format!(
            "{}\n",
            serde_json::to_string_pretty(&found).map_err(anyhow::Error::from)?
        ),
        Format::Table => in_words(&file, &found),
        Format::Csv => return Err(CliError::BadInput("check prints a table or json".into())),
    })
}

fn in_words(file: &str, found: &[Outline]) -> String {
    let mut text = String::new();
    for one in found {
        let name = one.device.as_deref().unwrap_or(file);
        text.push_str(&format!("{name}: {}\n", one.says.join("; ")));
        for note in &one.notes {
            text.push_str(&format!("  note: {note}\n"));
        }
    }
    text.push_str(&format!("{file} has no mistakes\n"));
    text
}
