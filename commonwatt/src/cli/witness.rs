//! `commonwatt witness`: signs the checkpoints of other communities' logs, if they only grow.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use runtime::clock::Clock;
use runtime::shutdown::Tasks;

use super::{CliError, block_on, read_input, say, start_logging, stop_signal};
use crate::site::DataDir;
use crate::witness::{Witness, WitnessFile, serve};

/// How long a request that is under way may take once everything stops.
const STOP_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Watch over the logs of communities: sign a log's checkpoint only if it grew from the last one.
#[derive(clap::Args)]
#[command(
    after_help = "Example of witness.toml:\n  name = \"witness.example/1\"\n  \
    listen = \"127.0.0.1:7380\"\n  logs = [\"commonwatt/street/ledger+1a2b3c4d+AbC…\"]\n\n\
    A community's keys are at /api/v1/ledger/keys as log_keys. Its operator names the key that is printed\n\
    here, and this address, under [[witnesses]] in site.toml.\n\n\
    Example:\n  commonwatt witness --config witness.toml --data-dir witness"
)]
pub(super) struct Args {
    /// Name, address, and the keys of the logs.
    #[arg(long)]
    config: PathBuf,
    /// Folder for the key and for what was signed; made where it is missing.
    #[arg(long, default_value = "witness")]
    data_dir: PathBuf,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    let text = read_input(&args.config)?;
    let bad = |why: String| CliError::BadInput(format!("{}: {why}", args.config.display()));
    let file: WitnessFile = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let (data, _lock) = DataDir::take(&args.data_dir)?;
    let key = runtime::key_file::open(&data.join("witness.key"))
        .map_err(|e| CliError::BadInput(e.to_string()))?;
    let witness = Witness::open(&file, key, &args.data_dir, Clock::system())
        .map_err(|e| bad(format!("{e:#}")))?;
    start_logging(false);
    block_on(watch(file, witness))
}

async fn watch(file: WitnessFile, witness: Witness) -> anyhow::Result<()> {
    let stop = stop_signal();
    let listener = tokio::net::TcpListener::bind(file.listen)
        .await
        .with_context(|| format!("cannot listen on {} (listen in the file)", file.listen))?;
    say("key", &witness.vkey().to_string());
    say("listens", &format!("http://{}", listener.local_addr()?));
    let mut tasks = Tasks::new();
    tasks.start("witness", STOP_LIMIT, |stop| {
        serve(Arc::new(witness), listener, stop)
    });
    tasks.run_until(stop).await?;
    Ok(())
}
