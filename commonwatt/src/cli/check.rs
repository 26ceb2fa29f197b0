//! `commonwatt check`: whether a gateway's configuration is right, and what it means.

mod live;

use std::path::PathBuf;

use meter_gateway::config::Config;
use meter_gateway::outline::{Outline, outline};

use super::{CliError, Format, print_data, read_input};

/// Check a gateway's configuration and its device profiles, and say what they mean.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  commonwatt check gateway.toml\n  \
    commonwatt check gateway.toml --live --seconds 300 --second meter=check-meter\n\n\
    Exit codes: 0 it is right, 1 the devices tell that something is wrong, 2 the file has mistakes, 3 the\n\
    devices cannot be watched. All mistakes are listed, each with line and key.")]
pub(super) struct Args {
    /// The gateway's configuration.
    config: PathBuf,
    /// Watch the devices too: sign, CT direction, word order, scale, unit, counters against power. Only
    /// reads; the gateway itself must not run meanwhile.
    #[arg(long)]
    live: bool,
    /// How long to watch.
    #[arg(long, default_value_t = 120, requires = "live", value_parser = clap::value_parser!(u32).range(10..=86_400))]
    seconds: u32,
    /// DEVICE=OTHER: hold a device against a second one that measures the same current.
    #[arg(long, requires = "live")]
    second: Vec<String>,
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
    if args.format == Format::Csv {
        return Err(CliError::BadInput("check prints a table or json".into()));
    }
    if args.live {
        let (text, outcome) = live::run(args, &config)?;
        print_data(&text)?;
        return outcome;
    }
    let found = outline(&config).map_err(|error| bad(&error))?;
    print_data(&match args.format {
        Format::Json => format!(
            "{}\n",
            serde_json::to_string_pretty(&found).map_err(anyhow::Error::from)?
        ),
        _ => in_words(&file, &found),
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
