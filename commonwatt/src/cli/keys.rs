//! `commonwatt keys`: which keys the gateways of a community sign with.

use serde_json::Value;

use super::operator::Operator;
use super::{CliError, Format, print_data};

/// See and change which keys a community's gateways may sign with.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show every gateway's keys, their state, and since when.
    List(ListArgs),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt keys list --url http://127.0.0.1:8080")]
struct ListArgs {
    #[command(flatten)]
    operator: Operator,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.command {
        Command::List(args) => list(args),
    }
}

fn list(args: &ListArgs) -> Result<(), CliError> {
    let keys = args.operator.get("/api/v1/keys")?;
    if args.format == Format::Json {
        return print_data(&format!("{keys:#}\n"));
    }
    let mut rows = vec![["gateway", "key", "state", "since"].map(str::to_owned)];
    for gateway in keys["gateways"].as_array().into_iter().flatten() {
        let name = text(gateway, "gateway");
        let own = gateway["keys"].as_array().into_iter().flatten();
        rows.extend(own.map(|key| {
            let (state, since) = match key["replaced"].as_str() {
                Some(at) => ("replaced", at.to_owned()),
                None => ("valid", text(key, "enrolled")),
            };
            [name.clone(), text(key, "key"), state.to_owned(), since]
        }));
    }
    let line = |row: &[String; 4]| match args.format {
        Format::Csv => row.join(",") + "\n",
        _ => {
            let [gateway, key, state, since] = row;
            format!("{gateway:<20} {key:<16} {state:<9} {since}\n")
        }
    };
    print_data(&rows.iter().map(line).collect::<String>())
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
