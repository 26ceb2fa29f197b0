//! `commonwatt gateway`: reads devices, signs what they counted, delivers it.

mod status;

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::signed::PublicKey;
use meter_gateway::config::Config;
use runtime::clock::Clock;
use runtime::shutdown::Tasks;

use super::{CliError, block_on_two, read_input, say, start_logging, stop_signal};

/// Run a gateway.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:\n  commonwatt gateway --config gateway.toml\n  \
    commonwatt gateway status --config gateway.toml\n\n\
    At its first start it makes its key; enter the printed public key in the platform's site.toml."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The gateway: its devices, its broker, the operator's public key.
    #[arg(long, required = true)]
    config: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show how a gateway is: its devices, its broker, what waits for the platform.
    Status(status::Args),
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    if let Some(Command::Status(args)) = args.command {
        return status::run(&args);
    }
    // Clap has seen to it that there is one.
    let config = configuration(&args.config.unwrap_or_default())?;
    start_logging(false);
    block_on_two(work(config))
}

fn configuration(path: &Path) -> Result<Config, CliError> {
    let text = read_input(path)?;
    Config::from_toml(&text, &path.display().to_string())
        .map_err(|error| CliError::BadInput(error.to_string()))
}

async fn work(config: Config) -> anyhow::Result<()> {
    let stop = stop_signal();
    let key = meter_gateway::open_key(&config.data_dir)?;
    say("gateway", config.gateway.as_str());
    say("key", &STANDARD.encode(PublicKey::of(&key).to_bytes()));
    let mut tasks = Tasks::new();
    tasks.start("gateway", Duration::from_secs(10), |stop| {
        meter_gateway::service::run(config, Clock::system(), stop)
    });
    tasks.run_until(stop).await?;
    say(
        "stopped",
        "what was not accepted yet is kept and sent at the next start",
    );
    Ok(())
}
