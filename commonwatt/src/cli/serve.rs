//! `commonwatt serve`: the platform of a community, described by a `site.toml`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use runtime::clock::Clock;
use runtime::shutdown::Tasks;

use super::{CliError, block_on, chain, read_input, say, start_logging, stop_signal};
use crate::broker;
use crate::demo::start_platform;
use crate::platform;
use crate::site::{DataDir, Site};

/// Run the platform of a community.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt serve --config site.toml --data-dir data\n\n\
    The demo writes a complete site.toml into its data folder, as an example."
)]
pub(super) struct Args {
    /// The community: tariff, participants, gateways, addresses.
    #[arg(long)]
    config: PathBuf,
    /// Folder for books and keys; made where it is missing.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// Keep the books in PostgreSQL (postgres://user:password@host/database) instead of in the folder.
    #[arg(long)]
    database: Option<String>,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    let text = read_input(&args.config)?;
    let site =
        Site::from_toml(&text, &args.config).map_err(|error| CliError::BadInput(chain(&error)))?;
    start_logging(false);
    block_on(serve(args, site))
}

async fn serve(args: Args, site: Site) -> anyhow::Result<()> {
    let stop = stop_signal();
    let listen = site.web_listen;
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| {
            format!("the page cannot listen on {listen} (web.listen in the site file)")
        })?;
    let (meeting, gateways_at) = broker::bind(&site).await?;
    let named = platform::named_database(args.database.as_deref()).await?;
    let (data, _lock) = DataDir::take(&args.data_dir)?;
    if data.holds_a_demo() {
        bail!(
            "{} holds the demo's street, whose time is not the computer's: choose another --data-dir",
            args.data_dir.display()
        );
    }
    let db = platform::database_or_file(named, &data).await?;
    let mut tasks = Tasks::new();
    let platform = platform::open(site.clone(), &data, db, Clock::system()).await?;
    say("broker", &gateways_at);
    let link = broker::start(&mut tasks, meeting, &site)?;
    let page = listener.local_addr()?;
    let has_tls = site
        .public_url
        .as_ref()
        .is_some_and(|url| url.starts_with("https://"));
    if !page.ip().is_loopback() && !has_tls {
        tracing::warn!(
            %page,
            "other computers reach the pages without TLS, and whoever listens on the way gets people's sessions: \
             let a proxy on this computer add TLS, listen on 127.0.0.1, and set public_url in [web]"
        );
    }
    start_platform(&mut tasks, platform, listener, link);
    say("page", &format!("http://{page}/   (Ctrl-C stops)"));
    tasks.run_until(stop).await?;
    say("stopped", "everything that was accepted is in the books");
    Ok(())
}
