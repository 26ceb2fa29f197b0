//! `commonwatt clear`: clears a file of orders.

use std::path::PathBuf;

use market_engine::clear::{Mechanism, Words};
use market_engine::file;

use super::{CliError, Format, print_data};

/// Clear a file of orders.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt clear --orders orders.csv --mechanism uniform-price --format json\n\n\
    Columns: id,participant,side,energy_wh,limit_price   (side: bid or offer; price in token per kWh)"
)]
pub(super) struct Args {
    /// Orders as CSV or JSON (by the file's ending); arrival order is file order.
    #[arg(long)]
    orders: PathBuf,
    /// uniform-price, pay-as-bid, trade-reduction or continuous.
    #[arg(long, default_value = "uniform-price")]
    mechanism: String,
    /// uniform-price: walras-mid, marginal or pair-k; pay-as-bid: bid, offer or mid.
    #[arg(long)]
    price_policy: Option<String>,
    /// The k of pair-k, 0 to 1.
    #[arg(long)]
    k: Option<String>,
    /// How the margin is shared: pro-rata (default), time or lottery.
    #[arg(long)]
    ties: Option<String>,
    /// The seed of a lottery.
    #[arg(long)]
    seed: Option<u64>,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let bad = |text: String| CliError::BadInput(text);
    let words = Words {
        mechanism: Some(&args.mechanism),
        price_policy: args.price_policy.as_deref(),
        k: args.k.as_deref(),
        ties: args.ties.as_deref(),
        seed: args.seed,
    };
    let mechanism = Mechanism::from_words(&words).map_err(|e| bad(e.to_string()))?;
    let path = args.orders.display();
    let text = std::fs::read(&args.orders).map_err(|e| bad(format!("cannot read {path}: {e}")))?;
    let written = match args.orders.extension().and_then(|e| e.to_str()) {
        Some("json") => file::Format::Json,
        _ => file::Format::Csv,
    };
    let output =
        file::clear_file(&text, written, mechanism).map_err(|e| bad(format!("{path}: {e}")))?;
    let text = match args.format {
        Format::Json => output.to_json().map_err(anyhow::Error::from)?,
        Format::Csv => output.to_csv().map_err(anyhow::Error::from)?,
        Format::Table => output.to_table(),
    };
    print_data(&text)
}
