//! `commonwatt gateway`: reads devices, signs what they counted, delivers it.

mod status;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::claim::ClaimCode;
use domain::signed::PublicKey;
use meter_gateway::{Config, Gateway};
use runtime::clock::Clock;
use runtime::shutdown::Tasks;

use super::{CliError, block_on_two, read_input, say, start_logging, stop_signal};

/// Where the claim code is when it is not on the command line, which other users of the machine can see.
const CLAIM_VARIABLE: &str = "COMMONWATT_CLAIM";

/// Run a gateway.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:\n  commonwatt gateway --config gateway.toml\n  \
    commonwatt gateway --config gateway.toml --claim -\n  \
    commonwatt gateway status --config gateway.toml\n\n\
    At its first start it makes its key. The platform lets the key in by a claim code, or by the printed \
    public key in its site.toml."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The gateway: its devices, its broker, the operator's public key.
    #[arg(long, required = true)]
    config: Option<PathBuf>,
    /// Enrol this gateway's key with the code that `commonwatt keys claim` printed; `-` reads it from the
    /// standard input, and the variable COMMONWATT_CLAIM does as well. An enrolled gateway needs none.
    #[arg(long, value_name = "CODE")]
    claim: Option<String>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show how a gateway is: its devices, its broker, what waits for the platform.
    Status(status::Args),
    /// Change the key of a gateway that is stopped: its old key vouches for the new one.
    RotateKey(RotateArgs),
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt gateway rotate-key --config gateway.toml\n\n\
    The next start signs with the new key and sends the platform the word of both keys. What the old key \
    signed is still delivered; the old key goes when the platform has enrolled the new one."
)]
struct RotateArgs {
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Some(Command::Status(args)) => return status::run(&args),
        Some(Command::RotateKey(args)) => {
            let config = configuration(&args.config)?;
            start_logging(false);
            return block_on_two(rotate_key(config));
        }
        None => {}
    }
    // Clap has seen to it that there is one.
    let config = configuration(&args.config.unwrap_or_default())?;
    let typed = args.claim.or_else(|| std::env::var(CLAIM_VARIABLE).ok());
    let code = typed.map(claim_code).transpose()?;
    start_logging(false);
    block_on_two(work(config, code))
}

fn configuration(path: &Path) -> Result<Config, CliError> {
    let text = read_input(path)?;
    Config::from_toml(&text, &path.display().to_string())
        .map_err(|error| CliError::BadInput(error.to_string()))
}

/// The claim code that was typed, or that `-` reads from the standard input.
pub(super) fn claim_code(typed: String) -> Result<ClaimCode, CliError> {
    let mut code = typed;
    if code == "-" {
        eprint!("claim code: ");
        code.clear();
        let read = std::io::stdin().lock().read_line(&mut code);
        read.map_err(|e| CliError::BadInput(format!("no claim code to read: {e}")))?;
    }
    let code = code.parse::<ClaimCode>();
    code.map_err(|error| CliError::BadInput(error.to_string()))
}

async fn rotate_key(config: Config) -> anyhow::Result<()> {
    let key = meter_gateway::rotate_key(&config, &Clock::system()).await?;
    say("key", &shown(key));
    say(
        "next",
        "start the gateway: it signs with this key and introduces it to the platform",
    );
    Ok(())
}

fn shown(key: PublicKey) -> String {
    STANDARD.encode(key.to_bytes())
}

async fn work(config: Config, code: Option<ClaimCode>) -> anyhow::Result<()> {
    let stop = stop_signal();
    let mut tasks = Tasks::new();
    tasks.start("gateway", Duration::from_secs(10), |stop| async move {
        let (gateway, dir) = (config.gateway.clone(), config.data_dir.clone());
        let running = Gateway::start_claiming(config, code, Clock::system(), stop).await?;
        let key = PublicKey::of(&meter_gateway::open_key(&dir)?);
        say("gateway", gateway.as_str());
        say("key", &shown(key));
        running.wait().await
    });
    tasks.run_until(stop).await?;
    say(
        "stopped",
        "what was not accepted yet is kept and sent at the next start",
    );
    Ok(())
}
