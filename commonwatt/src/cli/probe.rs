//! `commonwatt probe`: what is behind an address.

use std::time::Duration;

use meter_gateway::device::address::Address;
use meter_gateway::probe::{Found, Options, probe};

use super::{CliError, Format, print_data};

/// Longest time a unit may be given to answer.
const TIMEOUT_MS_MAX: u64 = 60_000;

/// Find out which devices are behind an address, and print what they say. Only reads.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  commonwatt probe tcp://192.168.1.20:502\n  \
    commonwatt probe rtu+tcp://192.168.1.21:8899 --unit 2 --explain\n  \
    commonwatt probe 'serial:/dev/ttyUSB0?baud=9600&format=8N1' --format json\n\n\
    Exit code 0: a device was found; 1: nobody answered; 3: the address cannot be reached."
)]
pub(super) struct Args {
    /// tcp://host:port, rtu+tcp://host:port, or serial:/dev/tty…?baud=…&format=….
    address: String,
    /// Ask this unit only; may be given several times. Without it, all that profiles know are asked.
    #[arg(long)]
    unit: Vec<u8>,
    /// Show raw words beside every value, and why a value is none.
    #[arg(long)]
    explain: bool,
    /// How long a unit may take to answer.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_MS_MAX))]
    timeout_ms: u64,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let address: Address =
        (args.address.parse()).map_err(|e: meter_gateway::device::address::NotAnAddress| {
            CliError::BadInput(e.to_string())
        })?;
    if args.format == Format::Csv {
        let why = "a device is no table: choose --format table or json";
        return Err(CliError::BadInput(why.to_owned()));
    }
    let options = Options {
        address,
        units: args.unit.clone(),
        timeout: Duration::from_millis(args.timeout_ms),
    };
    let found = super::block_on_two(look(&options))?;
    print_data(&text(args, &options.address, &found)?)?;
    if found.is_empty() {
        let why = format!(
            "{} can be reached, but no unit answers: is it a Modbus device, the right framing, the right unit?",
            options.address
        );
        return Err(CliError::CheckFailed(why));
    }
    Ok(())
}

/// Probes, and says on stderr which unit is being asked.
async fn look(options: &Options) -> anyhow::Result<Vec<Found>> {
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let found = probe(options, |unit| {
        if is_terminal {
            eprint!("\rasking unit {unit:<4}");
        }
    })
    .await;
    if is_terminal {
        eprint!("\r{:<16}\r", "");
    }
    Ok(found?)
}

fn text(args: &Args, address: &Address, found: &[Found]) -> Result<String, CliError> {
    if args.format == Format::Json {
        let units: Vec<_> = found.iter().map(Found::to_json).collect();
        let all = serde_json::json!({ "address": address.to_string(), "units": units });
        let text = serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?;
        return Ok(text + "\n");
    }
    let units = found.iter().map(|one| one.to_text(address, args.explain));
    Ok(units.collect::<Vec<_>>().join("\n"))
}
