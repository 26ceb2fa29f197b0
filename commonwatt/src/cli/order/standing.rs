//! `commonwatt order deadline`, `battery`, `withdraw` and `standing`: wishes over many intervals.

use anyhow::anyhow;
use domain::energy::Energy;
use domain::ids::PointId;
use domain::money::Price;
use domain::standing_order::{Battery, Deadline, Standing, StandingCancel, StandingOrder};
use domain::time::Timestamp;
use serde_json::Value;

use super::{Member, table, tell};
use crate::cli::{CliError, Format, print_data};

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt order deadline --participant home-03 --key data/participants/home-03.key \\\n    \
    --energy-wh 20000 --by 2026-06-22T07:00:00Z --power-max-w 11000 --limit 0.18\n\n\
    What is missing is ordered in the cheapest intervals, each shortly before its gate closes. With --must what would \
    not come in time is bought at up to the utility's price."
)]
pub(super) struct DeadlineArgs {
    #[command(flatten)]
    member: Member,
    /// How much, in all, in watt-hours.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    energy_wh: i64,
    /// Until when it has to be there (RFC 3339 in UTC).
    #[arg(long)]
    by: Timestamp,
    /// Most power, in watts.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    power_max_w: u32,
    /// Most that a kWh may cost, in token.
    #[arg(long)]
    limit: Price,
    /// To have the energy by then is more important than the limit.
    #[arg(long)]
    must: bool,
    /// What of the energy is there already, in watt-hours.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    has_wh: i64,
    /// The meter behind the connection that counts what has come; what was bought counts where none is named.
    #[arg(long)]
    counted_at: Option<PointId>,
    #[command(flatten)]
    number: Number,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt order battery --participant home-03 --key data/participants/home-03.key \\\n    \
    --has-wh 4000 --most-wh 9500 --least-wh 1000 --charge-max-w 5000 --discharge-max-w 5000 --loss-percent 10 \\\n    \
    --until 2026-06-28T22:00:00Z\n\n\
    Where site.toml names the participant's battery, as the demo's does for home-01, the battery is told its power\n\
    for each interval in which it has traded, so that the home's meter comes to what was traded."
)]
pub(super) struct BatteryArgs {
    #[command(flatten)]
    member: Member,
    /// Energy in it now, in watt-hours.
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
    has_wh: i64,
    /// Most energy in it, in watt-hours.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    most_wh: i64,
    /// Least energy that is kept in it, in watt-hours.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    least_wh: i64,
    /// Most power into it, in watts.
    #[arg(long)]
    charge_max_w: u32,
    /// Most power out of it, in watts.
    #[arg(long)]
    discharge_max_w: u32,
    /// What is lost on the way in and out.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..100))]
    loss_percent: u32,
    /// Least gain per kWh sold, in token, over what the energy cost.
    #[arg(long, default_value = "0")]
    margin: Price,
    /// Until when it trades (RFC 3339 in UTC).
    #[arg(long)]
    until: Timestamp,
    /// Energy in it when it says that it is full; with it the battery's own word on how full it is counts.
    #[arg(long)]
    capacity_wh: Option<i64>,
    #[command(flatten)]
    number: Number,
}

/// The number of a standing order, and whose place it takes.
#[derive(clap::Args)]
struct Number {
    /// The sequence of the own standing order whose place this one takes.
    #[arg(long)]
    replaces: Option<u64>,
    /// Its own number, used once; the next free one where none is named.
    #[arg(long)]
    sequence: Option<u64>,
    /// How to print the answer.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt order withdraw --participant home-03 --key data/participants/home-03.key \
    --sequence 2"
)]
pub(super) struct WithdrawArgs {
    #[command(flatten)]
    member: Member,
    /// The standing order's sequence, as `order standing` shows it.
    #[arg(long)]
    sequence: u64,
    /// How to print the answer.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt order standing --participant home-03 --key data/participants/home-03.key"
)]
pub(super) struct ListArgs {
    #[command(flatten)]
    member: Member,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn deadline(args: &DeadlineArgs) -> Result<(), CliError> {
    let wish = Standing::Deadline(Deadline {
        energy: Energy::from_wh(args.energy_wh),
        by: args.by,
        power_max_w: args.power_max_w,
        limit: args.limit,
        must: args.must,
    });
    let sentence = format!(
        "{} Wh by {} at {} token/kWh",
        args.energy_wh, args.by, args.limit
    );
    let meter = args.counted_at.clone();
    let begins_with = Energy::from_wh(args.has_wh);
    let said = (wish, begins_with, None, meter);
    place(&args.member, said, &args.number, &sentence)
}

pub(super) fn battery(args: &BatteryArgs) -> Result<(), CliError> {
    if args.least_wh >= args.most_wh {
        let why = "--least-wh is not below --most-wh: nothing would be left to trade";
        return Err(CliError::BadInput(why.to_owned()));
    }
    if args.capacity_wh.is_some_and(|full| full < args.most_wh) {
        let why = "--capacity-wh is below --most-wh: a battery holds no more than when it is full";
        return Err(CliError::BadInput(why.to_owned()));
    }
    if args.margin < Price::ZERO {
        let why = "--margin is below zero: it is the least gain per kWh";
        return Err(CliError::BadInput(why.to_owned()));
    }
    let wish = Standing::Battery(Battery {
        least: Energy::from_wh(args.least_wh),
        most: Energy::from_wh(args.most_wh),
        charge_max_w: args.charge_max_w,
        discharge_max_w: args.discharge_max_w,
        loss_basis_points: args.loss_percent * 100,
        margin: args.margin,
        until: args.until,
    });
    let sentence = format!("a battery trades until {}", args.until);
    let capacity = args.capacity_wh.map(Energy::from_wh);
    let said = (wish, Energy::from_wh(args.has_wh), capacity, None);
    place(&args.member, said, &args.number, &sentence)
}

/// What is wished, what is there already, a battery's capacity, and the meter that counts.
type Said = (Standing, Energy, Option<Energy>, Option<PointId>);

fn place(
    member: &Member,
    (wish, begins_with, capacity, counted_at): Said,
    number: &Number,
    sentence: &str,
) -> Result<(), CliError> {
    let signer = member.signer()?;
    let known = signer.ask(signer.now, signer.now)?;
    let strange = || anyhow!("the platform names no sequence for {}", signer.participant);
    let next = || known["next_standing_sequence"].as_u64();
    let order = StandingOrder {
        participant: signer.participant.clone(),
        point: signer.point(&known)?,
        sequence: number.sequence.or_else(next).ok_or_else(strange)?,
        replaces: number.replaces,
        wish,
        begins_with,
        capacity,
        counted_at,
    };
    if order.replaces == Some(order.sequence) {
        let why = "--replaces names its own --sequence: a standing order cannot take its own place";
        return Err(CliError::BadInput(why.to_owned()));
    }
    let answer = signer.say("/api/v1/standing-orders", &order)?;
    let sentence = format!("{sentence}, sequence {}", order.sequence);
    tell(&answer, &sentence, number.format)
}

pub(super) fn withdraw(args: &WithdrawArgs) -> Result<(), CliError> {
    let signer = args.member.signer()?;
    let cancel = StandingCancel {
        participant: signer.participant.clone(),
        sequence: args.sequence,
    };
    let answer = signer.say("/api/v1/standing-orders", &cancel)?;
    let sentence = format!("standing order {}", cancel.sequence);
    tell(&answer, &sentence, args.format)
}

const COLUMNS: [&str; 7] = [
    "sequence",
    "kind",
    "until",
    "state",
    "energy_wh",
    "reached_wh",
    "limit_price",
];

const ORDER_COLUMNS: [&str; 9] = [
    "standing",
    "start",
    "sequence",
    "side",
    "energy_wh",
    "limit_price",
    "state",
    "filled_wh",
    "because",
];

pub(super) fn list(args: &ListArgs) -> Result<(), CliError> {
    let signer = args.member.signer()?;
    let answer = signer.ask(signer.now, signer.now)?;
    let standing = answer["standing_orders"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    print_data(&match args.format {
        Format::Json => format!("{:#}\n", answer["standing_orders"]),
        Format::Csv => {
            let head = COLUMNS.join(",") + "\n";
            standing.iter().fold(head, |out, one| {
                out + &super::cells(COLUMNS, one, true).join(",") + "\n"
            })
        }
        Format::Table => match ordered(standing).as_slice() {
            [] => table(COLUMNS, standing),
            orders => table(COLUMNS, standing) + "\n" + &table(ORDER_COLUMNS, orders),
        },
    })
}

/// What they have ordered, each with the standing order's sequence.
fn ordered(standing: &[Value]) -> Vec<Value> {
    let of = |one: &Value| {
        let orders = one["orders"].as_array().cloned().unwrap_or_default();
        let sequence = one["sequence"].clone();
        orders.into_iter().map(move |mut order| {
            order["standing"] = sequence.clone();
            order
        })
    };
    standing.iter().flat_map(of).collect()
}
