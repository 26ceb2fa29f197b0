//! `commonwatt clear`: clears a file of orders, or a public book once more.

mod from_log;

use std::path::{Path, PathBuf};

use domain::money::Price;
use market_engine::clear::{Mechanism, Words};
use market_engine::file;

use super::{CliError, Format, print_data};

/// Clear a file of orders.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt clear --orders orders.csv --mechanism uniform-price --format json\n  \
    commonwatt clear --from-log http://127.0.0.1:8080 --key data/operator.pub\n\n\
    Columns: id,participant,side,energy_wh,limit_price   (side: bid or offer; price in token per kWh)\n\
    Columns for wishes, none needed: partners (participants, most wanted first, `;` between them), feeder,\n\
    green (true for an offer of green energy), green_premium (what a bid pays on top for it at most).\n\
    uniform-price and pay-as-bid heed all of them, trade-reduction, huang and vcg partners and feeder, continuous\n\
    and muda none; --compare passes them over."
)]
pub(super) struct Args {
    /// Orders as CSV or JSON (by the file's ending); arrival order is file order.
    #[arg(long, required_unless_present = "from_log")]
    orders: Option<PathBuf>,
    /// Clear the public book of an interval again and compare: a platform's address, or a book's file.
    #[arg(long, value_name = "URL|FILE", conflicts_with_all = ["orders", "compare", "mechanism", "price_policy", "k", "ties", "seed"])]
    from_log: Option<String>,
    /// For --from-log: the start of the interval, which book and record must be of; the newest cleared one
    /// where none is named.
    #[arg(long, requires = "from_log")]
    interval: Option<String>,
    /// For --from-log FILE: the clearing's record, as `/api/v1/markets/<interval>/clearing` gives it.
    #[arg(long, requires = "from_log")]
    record: Option<PathBuf>,
    /// For --from-log: the operator's public key (base64, or a file that holds it), from somewhere you trust.
    #[arg(long, requires = "from_log")]
    key: Option<String>,
    /// uniform-price, pay-as-bid, trade-reduction, continuous, huang, muda or vcg.
    #[arg(long, default_value = "uniform-price")]
    mechanism: String,
    /// Clear by every mechanism and print one table; with --retail and --feed-in the sharing rules too.
    #[arg(long, conflicts_with_all = ["mechanism", "price_policy", "k", "ties"])]
    compare: bool,
    /// The utility's price for a kWh, in token, for the sharing rules of --compare.
    #[arg(long, requires_all = ["compare", "feed_in"])]
    retail: Option<String>,
    /// What the utility pays for a kWh, in token, for the sharing rules of --compare.
    #[arg(long, requires_all = ["compare", "retail"])]
    feed_in: Option<String>,
    /// uniform-price: walras-mid, marginal or pair-k; pay-as-bid: bid, offer or mid.
    #[arg(long)]
    price_policy: Option<String>,
    /// The k of pair-k, 0 to 1.
    #[arg(long)]
    k: Option<String>,
    /// How the margin is shared: pro-rata (default), time or lottery.
    #[arg(long)]
    ties: Option<String>,
    /// The seed of a lottery, of muda's lots, and of the samples of --compare.
    #[arg(long)]
    seed: Option<u64>,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if let Some(from) = &args.from_log {
        return from_log::check(&from_log::Source {
            from,
            record: args.record.as_deref(),
            interval: args.interval.as_deref(),
            key: args.key.as_deref(),
            format: args.format,
        });
    }
    if args.compare {
        return compare(args);
    }
    let bad = |text: String| CliError::BadInput(text);
    let words = Words {
        mechanism: Some(&args.mechanism),
        price_policy: args.price_policy.as_deref(),
        k: args.k.as_deref(),
        ties: args.ties.as_deref(),
        seed: args.seed,
    };
    let mechanism = Mechanism::from_words(&words).map_err(|e| bad(e.to_string()))?;
    let (text, written) = read_orders(args)?;
    let path = shown(args);
    let output =
        file::clear_file(&text, written, mechanism).map_err(|e| bad(format!("{path}: {e}")))?;
    let text = match args.format {
        Format::Json => output.to_json().map_err(anyhow::Error::from)?,
        Format::Csv => output.to_csv().map_err(anyhow::Error::from)?,
        Format::Table => output.to_table(),
    };
    print_data(&text)
}

fn shown(args: &Args) -> impl std::fmt::Display + '_ {
    args.orders.as_deref().unwrap_or(Path::new("")).display()
}

fn read_orders(args: &Args) -> Result<(Vec<u8>, file::Format), CliError> {
    let file = args.orders.as_deref().unwrap_or(Path::new(""));
    let text = std::fs::read(file)
        .map_err(|e| CliError::BadInput(format!("cannot read {}: {e}", shown(args))))?;
    let written = match file.extension().and_then(|e| e.to_str()) {
        Some("json") => file::Format::Json,
        _ => file::Format::Csv,
    };
    Ok((text, written))
}

fn compare(args: &Args) -> Result<(), CliError> {
    let price = |name: &str, text: &Option<String>| {
        let parse = |text: &String| text.parse::<Price>();
        let wrong = |e| CliError::BadInput(format!("--{name}: {e}"));
        text.as_ref().map(parse).transpose().map_err(wrong)
    };
    let tariff = price("retail", &args.retail)?.zip(price("feed-in", &args.feed_in)?);
    let (text, written) = read_orders(args)?;
    let (_, book) = file::read(&text, written)
        .map_err(|e| CliError::BadInput(format!("{}: {e}", shown(args))))?;
    let comparison = market_engine::compare::compare(&book, args.seed.unwrap_or(0), tariff)
        .map_err(|e| CliError::BadInput(e.to_string()))?;
    let text = match args.format {
        Format::Json => comparison.to_json().map_err(anyhow::Error::from)?,
        Format::Csv => comparison.to_csv().map_err(anyhow::Error::from)?,
        Format::Table => comparison.to_table(),
    };
    print_data(&text)
}
