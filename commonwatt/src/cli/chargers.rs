//! `commonwatt chargers`: lets chargers in that speak OCPP, shows what they have signed, and asks them.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ValueEnum;
use domain::ids::{Digest32, to_hex};
use meter_gateway::Config;
use meter_gateway::ocpp::counter::{Asked, ask};
use meter_gateway::ocpp::store::Store;
use meter_gateway::spool::{OUTBOX_MAX_ROWS, Spool};
use serde_json::{Value, json};

use super::{CliError, block_on_two, print_data, read_input};

/// Bytes of a password, before they are written as text: OCPP has room for 20 characters.
const PASSWORD_BYTES: usize = 15;

/// Let chargers in that speak OCPP, see what they have signed, and ask them.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a charger's password, and print what belongs into gateway.toml and into the charger.
    Add(AddArgs),
    /// Show a charger's transactions and what its meter has signed, as JSON.
    Show(ShowArgs),
    /// Ask a charger of a running gateway: its settings, to restart, to unlock.
    Ask(AskArgs),
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt chargers add CP-1 --point home-7.charger\n\n\
    The password is shown once and kept nowhere; gateway.toml has its SHA-256."
)]
struct AddArgs {
    /// The charger's name, the last part of the address that it is given.
    id: String,
    /// The metering point of its (first) connector.
    #[arg(long)]
    point: String,
    /// Largest power of a connector in watts.
    #[arg(long, default_value_t = 11_000)]
    rating_w: u32,
    /// Largest current in amperes.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(6..=80))]
    max_current_a: u32,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt chargers show CP-1 --config gateway.toml\n\n\
    A signed text is checked by `commonwatt verify` and by transparency software."
)]
struct ShowArgs {
    /// The charger.
    id: String,
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  commonwatt chargers ask CP-1 configuration --config gateway.toml\n  \
    commonwatt chargers ask CP-1 configure MeterValueSampleInterval 30 --config gateway.toml\n  \
    commonwatt chargers ask CP-1 reset soft --config gateway.toml"
)]
struct AskArgs {
    /// The charger.
    id: String,
    /// What.
    #[arg(value_enum)]
    what: What,
    /// Settings for `configuration`; setting and value for `configure`; a message for `trigger`; soft or hard for
    /// `reset`.
    words: Vec<String>,
    /// The connector, where it is about one.
    #[arg(long, default_value_t = 1)]
    connector: u16,
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Its settings, all or those named.
    Configuration,
    /// Change a setting.
    Configure,
    /// Let it say something: StatusNotification, MeterValues, Heartbeat, BootNotification.
    Trigger,
    /// Unlock a connector.
    Unlock,
    /// Take a connector out of service.
    Close,
    /// Put it into service again.
    Open,
    /// Restart it.
    Reset,
    /// Forget the cards that it remembers.
    ClearCache,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.command {
        Command::Add(args) => add(args),
        Command::Show(args) => {
            let config = configuration(&args.config)?;
            block_on_two(show(config, &args.id))
        }
        Command::Ask(args) => question(args),
    }
}

fn configuration(path: &Path) -> Result<Config, CliError> {
    let text = read_input(path)?;
    let file = path.display().to_string();
    Config::from_toml(&text, &file).map_err(|error| CliError::BadInput(error.to_string()))
}

fn add(args: &AddArgs) -> Result<(), CliError> {
    let mut random = [0; PASSWORD_BYTES];
    getrandom::fill(&mut random).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))?;
    let password = URL_SAFE_NO_PAD.encode(random);
    let AddArgs {
        id,
        point,
        rating_w,
        max_current_a,
    } = args;
    let hash = to_hex(&Digest32::of(password.as_bytes()).0);
    let text = format!(
        "# In the charger: its address ws://HOST:PORT/ocpp/{id} (wss:// with [ocpp.tls]), OCPP 1.6J,\n\
         # user {id}, password (AuthorizationKey) {password}\n\
         # In gateway.toml, once: [ocpp] with listen = \"ADDRESS:PORT\". Then for this charger:\n\n\
         [[ocpp.charge_points]]\nid = \"{id}\"\npassword_sha256 = \"{hash}\"\n\n\
         [[devices]]\nname = \"charger\"\nprofile = \"ocpp-1.6\"\npoint = \"{point}\"\nrole = \"submeter\"\n\
         rating_w = {rating_w}\ncharge_point = \"{id}\"\n\n\
         [devices.limits]\nset_points = [\"charger-current\", \"charger-session\"]\n\
         max_current_a = {max_current_a}\n"
    );
    print_data(&text)
}

async fn show(config: Config, id: &str) -> anyhow::Result<()> {
    let known = config.ocpp.iter().flat_map(|ocpp| &ocpp.charge_points);
    let is_known = known.into_iter().any(|point| point.id == id);
    anyhow::ensure!(is_known, "the configuration has no charge point {id}");
    let spool = Spool::open(&config.data_dir, OUTBOX_MAX_ROWS).await?;
    let store = Store::open(spool.db()).await?;
    let transactions = store.transactions(id).await?;
    let signed = store.signed(id).await?;
    spool.close().await;
    let signed = signed.into_iter().map(
        |one| json!({"transaction": one.transaction, "text": one.text, "refused": one.refused}),
    );
    let signed: Vec<Value> = signed.collect();
    let shown = json!({"charge_point": id, "transactions": transactions, "signed": signed});
    let text = serde_json::to_string_pretty(&shown)? + "\n";
    print_data(&text).map_err(|_| anyhow::anyhow!("the output cannot be written"))
}

fn question(args: &AskArgs) -> Result<(), CliError> {
    let config = configuration(&args.config)?;
    let (action, payload) = payload(args)?;
    let asked = Asked {
        charge_point: args.id.clone(),
        action: action.to_owned(),
        payload,
    };
    block_on_two(async move {
        let told = ask(&config.data_dir, &asked).await;
        let told = told.map_err(|why| anyhow::anyhow!("{}: {why}", asked.charge_point))?;
        let text = serde_json::to_string_pretty(&told)? + "\n";
        print_data(&text).map_err(|_| anyhow::anyhow!("the output cannot be written"))
    })
}

fn payload(args: &AskArgs) -> Result<(&'static str, Value), CliError> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let connector = args.connector;
    let availability = |kind: &str| json!({"connectorId": connector, "type": kind});
    Ok(match (args.what, words.as_slice()) {
        (What::Configuration, []) => ("GetConfiguration", json!({})),
        (What::Configuration, keys) => ("GetConfiguration", json!({"key": keys})),
        (What::Configure, [key, value]) => {
            ("ChangeConfiguration", json!({"key": key, "value": value}))
        }
        (What::Trigger, [message]) => {
            let payload = json!({"requestedMessage": message, "connectorId": connector});
            ("TriggerMessage", payload)
        }
        (What::Unlock, []) => ("UnlockConnector", json!({"connectorId": connector})),
        (What::Close, []) => ("ChangeAvailability", availability("Inoperative")),
        (What::Open, []) => ("ChangeAvailability", availability("Operative")),
        (What::Reset, ["soft"]) => ("Reset", json!({"type": "Soft"})),
        (What::Reset, ["hard"]) => ("Reset", json!({"type": "Hard"})),
        (What::ClearCache, []) => ("ClearCache", json!({})),
        _ => {
            let rule = "configuration [SETTING…], configure SETTING VALUE, trigger MESSAGE, reset soft or \
                        reset hard; the others take no words";
            return Err(CliError::BadInput(rule.into()));
        }
    })
}
