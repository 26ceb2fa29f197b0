//! `commonwatt order`: a participant's own orders, signed with the participant's key.

mod standing;

use std::path::PathBuf;

use anyhow::anyhow;
use domain::cancel::Cancel;
use domain::energy::Energy;
use domain::ids::{CommunityId, ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, PARTNERS_MAX, Preference, Side};
use domain::order_query::OrderQuery;
use domain::signed::{Message, Signed, SigningKey};
use domain::time::{Interval, Timestamp};
use serde_json::Value;

use super::http::Client;
use super::{CliError, Format, print_data};

/// How far back and ahead `list` looks where nothing else is said.
const LIST_BACK_S: i64 = 3_600;
const LIST_AHEAD_S: i64 = 2 * 86_400;

/// Place, take back and list a participant's own orders.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Place an order, or put it in the place of another.
    Place(PlaceArgs),
    /// Take an order back before the gate of its interval closes.
    Cancel(CancelArgs),
    /// List a participant's own orders with what became of them.
    List(ListArgs),
    /// Wish for energy by a time: the market orders it where it is cheapest.
    Deadline(standing::DeadlineArgs),
    /// Let a battery trade: it buys low and sells later.
    Battery(standing::BatteryArgs),
    /// Take a deadline's or a battery's standing order back.
    Withdraw(standing::WithdrawArgs),
    /// List a participant's own standing orders with what they have ordered.
    Standing(standing::ListArgs),
}

/// Whose orders, and where.
#[derive(clap::Args)]
struct Member {
    /// The platform's page, as `commonwatt serve` prints it.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The participant, as site.toml calls it.
    #[arg(long)]
    participant: ParticipantId,
    /// The participant's key; the platform keeps it in its data folder as `participants/<name>.key`.
    #[arg(long)]
    key: PathBuf,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt order place --participant home-03 --key data/participants/home-03.key \\\n    \
    --side bid --energy-wh 500 --limit 0.21\n\n\
    A bid pays at most --limit for a kWh, an offer receives at least that. Until the gate closes, --replaces puts \
    another order in its place, and `order cancel` takes it back. --partner, --same-feeder and --green-premium say from \
    whom energy should come; they never cost another home's energy or price."
)]
struct PlaceArgs {
    #[command(flatten)]
    member: Member,
    /// Buy (bid) or sell (offer).
    #[arg(long, value_enum)]
    side: SideWord,
    /// How much, in watt-hours.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    energy_wh: i64,
    /// The limit price of a kWh, in token.
    #[arg(long)]
    limit: Price,
    /// The interval's start (RFC 3339 in UTC); the next whose gate closes where none is named.
    #[arg(long)]
    interval: Option<Timestamp>,
    /// The sequence of the own order whose place this one takes.
    #[arg(long)]
    replaces: Option<u64>,
    /// The order's own number, used once; the next free one where none is named.
    #[arg(long)]
    sequence: Option<u64>,
    #[command(flatten)]
    wishes: Wishes,
    /// How to print the answer.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// What an order wishes beyond price.
#[derive(clap::Args)]
struct Wishes {
    /// A participant to trade with if possible; named again, the next in line, 8 at most.
    #[arg(long)]
    partner: Vec<ParticipantId>,
    /// A bid takes offers of its own feeder first.
    #[arg(long)]
    same_feeder: bool,
    /// An offer's energy is green.
    #[arg(long)]
    green: bool,
    /// What a bid pays at most on top of its limit for green energy, in token per kWh.
    #[arg(long)]
    green_premium: Option<Price>,
}

impl Wishes {
    fn preference(&self, side: Side, whose: &ParticipantId) -> Result<Preference, CliError> {
        let wrong = match side {
            _ if self.partner.len() > PARTNERS_MAX => "--partner: 8 at most",
            _ if self.partner.contains(whose) => "--partner: nobody trades with itself",
            Side::Bid if self.green => "--green is for offers; a bid pays with --green-premium",
            Side::Offer if self.same_feeder || self.green_premium.is_some() => {
                "--same-feeder and --green-premium are for bids"
            }
            _ if self.green_premium.is_some_and(|p| p <= Price::ZERO) => {
                "--green-premium is above zero, or left away"
            }
            _ => "",
        };
        if !wrong.is_empty() {
            return Err(CliError::BadInput(wrong.to_owned()));
        }
        Ok(Preference {
            partners: self.partner.clone(),
            same_feeder: self.same_feeder,
            green: self.green,
            green_premium: self.green_premium.unwrap_or(Price::ZERO),
        })
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum SideWord {
    Bid,
    Offer,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt order cancel --participant home-03 --key data/participants/home-03.key \\\n    \
    --sequence 7 --interval 2026-06-21T12:15:00Z"
)]
struct CancelArgs {
    #[command(flatten)]
    member: Member,
    /// The order's sequence, as `order list` shows it.
    #[arg(long)]
    sequence: u64,
    /// The start of the order's interval (RFC 3339 in UTC).
    #[arg(long)]
    interval: Timestamp,
    /// How to print the answer.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt order list --participant home-03 --key data/participants/home-03.key"
)]
struct ListArgs {
    #[command(flatten)]
    member: Member,
    /// Intervals that start from here on; the last hour where nothing is said.
    #[arg(long)]
    from: Option<Timestamp>,
    /// Until before this; two days ahead where nothing is said.
    #[arg(long)]
    to: Option<Timestamp>,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.command {
        Command::Place(args) => place(args),
        Command::Cancel(args) => cancel(args),
        Command::List(args) => list(args),
        Command::Deadline(args) => standing::deadline(args),
        Command::Battery(args) => standing::battery(args),
        Command::Withdraw(args) => standing::withdraw(args),
        Command::Standing(args) => standing::list(args),
    }
}

/// A participant with its key, at a platform whose name and time are known.
struct Signer {
    client: Client,
    participant: ParticipantId,
    key: SigningKey,
    community: CommunityId,
    now: Timestamp,
}

impl Member {
    fn signer(&self) -> Result<Signer, CliError> {
        let key = runtime::key_file::read(&self.key)
            .map_err(|error| CliError::BadInput(format!("--key: {error}")))?;
        let client = Client::new(&self.url);
        let (community, now) = client.about()?;
        Ok(Signer {
            client,
            participant: self.participant.clone(),
            key,
            community,
            now,
        })
    }
}

impl Signer {
    fn say<T: Message>(&self, path: &str, message: &T) -> Result<Value, CliError> {
        let signed = Signed::sign(&self.key, &self.community, message);
        self.client.post(path, signed.as_bytes())
    }

    fn ask(&self, from: Timestamp, to: Timestamp) -> Result<Value, CliError> {
        let query = OrderQuery {
            participant: self.participant.clone(),
            from: Timestamp::from_unix_s(from.unix_s()),
            to: Timestamp::from_unix_s(to.unix_s()),
            issued_at: self.now,
        };
        self.say("/api/v1/orders/query", &query)
    }

    /// The participant's connection, as the answer to [`Signer::ask`] names it.
    fn point(&self, known: &Value) -> Result<PointId, CliError> {
        let point = PointId::new(known["point"].as_str().unwrap_or_default());
        let none = |_| {
            anyhow!(
                "the platform names no metering point for {}",
                self.participant
            )
        };
        Ok(point.map_err(none)?)
    }
}

fn place(args: &PlaceArgs) -> Result<(), CliError> {
    let signer = args.member.signer()?;
    let known = signer.ask(signer.now, signer.now)?;
    let strange = |what: &str| anyhow!("the platform names no {what} for {}", signer.participant);
    let text = |name: &str| known[name].as_str().unwrap_or_default();
    let point = signer.point(&known)?;
    let next = text("next_interval")
        .parse()
        .map_err(|_| strange("interval"))?;
    let side = match args.side {
        SideWord::Bid => Side::Bid,
        SideWord::Offer => Side::Offer,
    };
    let order = Order {
        participant: signer.participant.clone(),
        point,
        side,
        interval: interval(&known, args.interval.unwrap_or(next))?,
        energy: Energy::from_wh(args.energy_wh),
        limit: args.limit,
        sequence: match args.sequence {
            Some(sequence) => sequence,
            None => known["next_sequence"]
                .as_u64()
                .ok_or_else(|| strange("sequence"))?,
        },
        replaces: args.replaces,
        preference: args.wishes.preference(side, &signer.participant)?,
    };
    if order.replaces == Some(order.sequence) {
        let why = "--replaces names the order's own --sequence: an order cannot take its own place";
        return Err(CliError::BadInput(why.to_owned()));
    }
    let answer = signer.say("/api/v1/orders", &order)?;
    let sentence = format!(
        "{} Wh {} for {} at {} token/kWh, sequence {}",
        order.energy.wh(),
        order.side.word(),
        order.interval.start(),
        order.limit,
        order.sequence
    );
    tell(&answer, &sentence, args.format)
}

fn interval(known: &Value, start: Timestamp) -> Result<Interval, CliError> {
    let length_s = known["interval_length_s"].as_u64().unwrap_or_default();
    let length_s = u32::try_from(length_s).unwrap_or_default();
    Interval::new(start.unix_s(), length_s)
        .map_err(|error| CliError::BadInput(format!("--interval {start}: {error}")))
}

fn cancel(args: &CancelArgs) -> Result<(), CliError> {
    let signer = args.member.signer()?;
    let known = signer.ask(signer.now, signer.now)?;
    let cancel = Cancel {
        participant: signer.participant.clone(),
        sequence: args.sequence,
        interval: interval(&known, args.interval)?,
    };
    let answer = signer.say("/api/v1/orders/cancel", &cancel)?;
    let sentence = format!(
        "sequence {} for {}",
        cancel.sequence,
        cancel.interval.start()
    );
    tell(&answer, &sentence, args.format)
}

fn tell(answer: &Value, sentence: &str, format: Format) -> Result<(), CliError> {
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    print_data(&match format {
        Format::Json => format!("{answer:#}\n"),
        Format::Csv => format!("order,outcome\n{},{}\n", text("order"), text("outcome")),
        Format::Table => format!("{}  {}: {sentence}\n", text("order"), text("outcome")),
    })
}

fn list(args: &ListArgs) -> Result<(), CliError> {
    let signer = args.member.signer()?;
    let from = args.from.unwrap_or(signer.now.plus_s(-LIST_BACK_S));
    let to = args.to.unwrap_or(signer.now.plus_s(LIST_AHEAD_S));
    let answer = signer.ask(from, to)?;
    let orders = answer["orders"].as_array().map_or(&[][..], Vec::as_slice);
    print_data(&match args.format {
        Format::Json => format!("{answer:#}\n"),
        Format::Csv => {
            let head = COLUMNS.join(",") + "\n";
            orders.iter().fold(head, |out, order| {
                out + &cells(COLUMNS, order, true).join(",") + "\n"
            })
        }
        Format::Table => table(COLUMNS, orders),
    })
}

const COLUMNS: [&str; 8] = [
    "interval",
    "sequence",
    "side",
    "energy_wh",
    "limit_price",
    "state",
    "filled_wh",
    "reason",
];

fn cells<const N: usize>(columns: [&str; N], order: &Value, quoted: bool) -> [String; N] {
    columns.map(|name| match &order[name] {
        Value::String(text) if quoted && (name == "reason" || name == "because") => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    })
}

fn table<const N: usize>(columns: [&str; N], orders: &[Value]) -> String {
    if orders.is_empty() {
        return "no orders in this time\n".to_owned();
    }
    let row = |order| cells(columns, order, false);
    let rows: Vec<[String; N]> = orders.iter().map(row).collect();
    let head = columns.map(str::to_owned);
    let all = || std::iter::once(&head).chain(&rows);
    let width = |column: usize| {
        all()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    all().map(line).collect()
}
