//! `commonwatt tokens`: tokens in and out by hand, each asked for by one operator and confirmed by another.

use domain::ids::ParticipantId;
use domain::money::Money;
use serde_json::{Value, json};

use super::http::Client;
use super::{CliError, Format, print_data};

/// Where an operator's token is read from.
const TOKEN: &str = "COMMONWATT_TOKEN";

/// Give tokens for what was paid in, and pay tokens out; another operator confirms.
#[derive(clap::Args)]
#[command(
    after_help = "Each operator has an account of its own with an API token:\n  \
    commonwatt accounts add control-room --role operator\n  \
    commonwatt accounts token control-room --new \"bookkeeping\"\n\
    The token is read from COMMONWATT_TOKEN, so that it is in no list of processes."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Ask for tokens for what a household has paid in.
    Deposit(MoveArgs),
    /// Ask for tokens to be paid out; they cannot be spent meanwhile.
    Withdraw(MoveArgs),
    /// Ask for withdrawals to be paid to another place; it counts three days after the confirmation.
    Payout(PayoutArgs),
    /// Confirm what another operator has asked for.
    Confirm(OneArgs),
    /// Take back a request that waits, or another payout that does not count yet.
    Cancel(OneArgs),
    /// Show the newest requests and how they stand.
    List(ListArgs),
}

/// Which platform.
#[derive(clap::Args)]
struct Place {
    /// The platform's page, as `commonwatt serve` prints it.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt tokens deposit --participant home-03 --amount 50 --reference BANK-2031\n  \
    commonwatt tokens withdraw --participant home-03 --amount 12.50 --reference OUT-17"
)]
struct MoveArgs {
    #[command(flatten)]
    place: Place,
    /// The household.
    #[arg(long)]
    participant: ParticipantId,
    /// How many tokens.
    #[arg(long)]
    amount: Money,
    /// The name of the payment, used once for each household.
    #[arg(long)]
    reference: String,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt tokens payout --participant home-03 --to DE02120300000000202051 --reference form-8"
)]
struct PayoutArgs {
    #[command(flatten)]
    place: Place,
    /// The household.
    #[arg(long)]
    participant: ParticipantId,
    /// Where withdrawals are to be paid to.
    #[arg(long)]
    to: String,
    /// The name of what this was asked with.
    #[arg(long)]
    reference: String,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt tokens confirm 0123456789abcdef0123456789abcdef")]
struct OneArgs {
    #[command(flatten)]
    place: Place,
    /// The request, as `tokens list` shows it.
    id: String,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt tokens list --format csv")]
struct ListArgs {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.command {
        Command::Deposit(args) => ask(&args.place, movement("deposit", args)),
        Command::Withdraw(args) => ask(&args.place, movement("withdrawal", args)),
        Command::Payout(args) => ask(
            &args.place,
            json!({
                "kind": "payout",
                "participant": args.participant.as_str(),
                "reference": args.reference,
                "payout": args.to,
            }),
        ),
        Command::Confirm(args) => say(args, "confirm"),
        Command::Cancel(args) => say(args, "cancel"),
        Command::List(args) => {
            let requests = client(&args.place)?.get_list("/api/v1/tokens/requests")?;
            show(&args.place, &Value::Array(requests))
        }
    }
}

fn movement(kind: &str, args: &MoveArgs) -> Value {
    json!({
        "kind": kind,
        "participant": args.participant.as_str(),
        "amount": args.amount.to_string(),
        "reference": args.reference,
    })
}

fn client(place: &Place) -> Result<Client, CliError> {
    let token = std::env::var(TOKEN).map_err(|_| {
        CliError::BadInput(format!(
            "{TOKEN} has no API token of an operator's account: `commonwatt accounts token NAME --new …` makes one"
        ))
    })?;
    Ok(Client::new(&place.url).with_token(token))
}

fn ask(place: &Place, body: Value) -> Result<(), CliError> {
    let request = client(place)?.post_json("/api/v1/tokens/requests", &body)?;
    show(place, &Value::Array(vec![request]))
}

fn say(args: &OneArgs, what: &str) -> Result<(), CliError> {
    let plain = |c: char| c.is_ascii_hexdigit();
    if args.id.len() != 32 || !args.id.chars().all(plain) {
        return Err(CliError::BadInput(format!(
            "`{}` names no request: 32 hexadecimal digits, as `commonwatt tokens list` shows them",
            args.id
        )));
    }
    let path = format!("/api/v1/tokens/requests/{}/{what}", args.id);
    let request = client(&args.place)?.post_json(&path, &json!({}))?;
    show(&args.place, &Value::Array(vec![request]))
}

const COLUMNS: [&str; 10] = [
    "id",
    "kind",
    "participant",
    "amount",
    "reference",
    "state",
    "by",
    "last_by",
    "expires",
    "counts_from",
];

fn show(place: &Place, requests: &Value) -> Result<(), CliError> {
    if place.format == Format::Json {
        return print_data(&format!("{requests:#}\n"));
    }
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for request in requests.as_array().into_iter().flatten() {
        rows.push(COLUMNS.map(|column| text(&request[column])));
    }
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &[String; COLUMNS.len()]| match place.format {
        Format::Csv => {
            row.iter()
                .map(|cell| quoted(cell))
                .collect::<Vec<_>>()
                .join(",")
                + "\n"
        }
        Format::Table | Format::Json => {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        }
    };
    print_data(&rows.iter().map(line).collect::<String>())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// A reference is free text: what would end its cell is quoted.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}
