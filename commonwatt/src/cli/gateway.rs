//! `commonwatt gateway`: reads devices, signs what they counted, delivers it.

use std::path::PathBuf;
use std::time::Duration;

use domain::signed::PublicKey;
use meter_gateway::config::Config;
use runtime::clock::Clock;
use runtime::shutdown::Tasks;

use super::{CliError, block_on, read_input, start_logging, stop_signal};
use crate::demo::say;

/// Run a gateway.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt gateway --config gateway.toml\n\n\
    At its first start it makes its key; enter the printed public key in the platform's site.toml."
)]
pub(super) struct Args {
    /// The gateway: its devices, its broker, the operator's public key.
    #[arg(long)]
    config: PathBuf,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    let text = read_input(&args.config)?;
    let config = Config::from_toml(&text, &args.config.display().to_string())
        .map_err(|error| CliError::BadInput(error.to_string()))?;
    start_logging(false);
    block_on(work(config))
}

async fn work(config: Config) -> anyhow::Result<()> {
    let stop = stop_signal();
    let key = meter_gateway::open_key(&config.data_dir)?;
    say("gateway", config.gateway.as_str());
    say("key", &crate::site::public_key_text(PublicKey::of(&key)));
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
