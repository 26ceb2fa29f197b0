//! `commonwatt settle`: settles one interval from files, for checking by hand.

use std::path::{Path, PathBuf};

use domain::money::Price;
use domain::posting::Run;
use domain::terms::{DeviationPolicy, Terms};
use domain::time::{Interval, Timestamp};
use settlement::by_hand::{Case, readings, trades};

use super::{CliError, Format, chain, print_data, read_input};
use crate::site::settlement::{basis_points, read_tariff};

/// Settle one interval from files.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt settle --trades trades.csv --readings readings.csv --tariff tariff.toml\n\n\
    trades.csv\n  buyer,seller,energy_wh,price\n  home-a,home-b,1000,0.132\n\
    readings.csv\n  participant,imported_wh,exported_wh,role\n  home-a,1200,0,\n  home-b,0,1150,\n  feeder,60,0,feeder\n\
    tariff.toml\n  retail = \"0.32\"\n  feed_in = \"0.08\"\n  network_fee = \"0.07\"\n\n\
    Prices are in token per kWh, energy in whole Wh. The role `feeder` is the meter of the whole\n\
    street; it may be left out. Both flows empty: the meter did not speak, and what was traded\n\
    stands in. Further columns: network_fee of a trade; used_wh of a reading (what the utility had\n\
    supplied in the month before, for a tiered tariff). Both files may be JSON: an array of objects\n\
    with these keys. A tariff with versions is described in ARCHITECTURE.md.\n\n\
    A posting moves its amount from debit to credit. Accounts in token: 100 available, 105 held,\n\
    110 held back, 130 statement, 200 pool, 210 utility, 220 network, 300 community; in Wh: 200\n\
    pool, 800 meter, 810 grid, 820 loss."
)]
pub(super) struct Args {
    /// Who bought how much from whom, and at which price.
    #[arg(long)]
    trades: PathBuf,
    /// What the meters counted.
    #[arg(long)]
    readings: PathBuf,
    /// The utility's and the network's prices.
    #[arg(long)]
    tariff: PathBuf,
    /// How deviations are priced: pooled, two-price or single-price.
    #[arg(long, default_value = "pooled")]
    policy: String,
    /// With pooled: how much less a surplus gets and how much more a shortage pays, in token per kWh.
    #[arg(long, default_value = "0")]
    spread: String,
    /// What the community takes of a seller's income from trades.
    #[arg(long, default_value = "0")]
    community_fee_percent: String,
    /// What of the rest is held back until the final run.
    #[arg(long, default_value = "0")]
    holdback_percent: String,
    /// provisional, initial, final or true_up.
    #[arg(long, default_value = "provisional")]
    run: String,
    /// The clearing price, where the trades have several.
    #[arg(long)]
    clearing_price: Option<String>,
    /// When the interval starts; it decides the tariff's version, and who gets a Wh that cannot be split.
    #[arg(long, default_value = "2026-01-01T12:00:00Z")]
    interval: String,
    /// How long it is.
    #[arg(long, default_value_t = domain::time::DEFAULT_INTERVAL_S)]
    interval_length_s: u32,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

fn bad(what: &str, error: impl std::fmt::Display) -> CliError {
    CliError::BadInput(format!("{what}: {error}"))
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let shown = |path: &Path| path.display().to_string();
    let trades = trades(&read_input(&args.trades)?).map_err(|e| bad(&shown(&args.trades), e))?;
    let readings =
        readings(&read_input(&args.readings)?).map_err(|e| bad(&shown(&args.readings), e))?;
    let tariffs = read_tariff(&args.tariff).map_err(|e| CliError::BadInput(chain(&e)))?;
    let price = |name: &str, text: &str| text.parse::<Price>().map_err(|e| bad(name, e));
    let start: Timestamp = args.interval.parse().map_err(|e| bad("--interval", e))?;
    let interval = Interval::new(start.unix_s(), args.interval_length_s);
    let case = Case {
        interval: interval.map_err(|e| bad("--interval", e))?,
        run: run_of(&args.run)?,
        tariffs: &tariffs,
        terms: terms(args)?,
        clearing_price: match &args.clearing_price {
            Some(text) => Some(price("--clearing-price", text)?),
            None => None,
        },
        trades: &trades,
        readings: &readings,
    };
    let output = case
        .settle()
        .map_err(|e| CliError::BadInput(e.to_string()))?;
    print_data(&match args.format {
        Format::Json => output.to_json().map_err(anyhow::Error::from)?,
        Format::Csv => output.to_csv(),
        Format::Table => output.to_table(),
    })
}

fn run_of(word: &str) -> Result<Run, CliError> {
    let run = Run::ALL.into_iter().find(|run| run.word() == word);
    run.ok_or_else(|| {
        bad(
            "--run",
            format!("`{word}`: provisional, initial, final or true_up"),
        )
    })
}

fn terms(args: &Args) -> Result<Terms, CliError> {
    let policy = DeviationPolicy::from_word(&args.policy);
    let known = "pooled, two-price or single-price";
    let percent = |name: &str, text: &str| basis_points(text).map_err(|e| bad(name, chain(&e)));
    let terms = Terms {
        policy: policy.ok_or_else(|| bad("--policy", format!("`{}`: {known}", args.policy)))?,
        spread: args.spread.parse().map_err(|e| bad("--spread", e))?,
        community_fee_bp: percent("--community-fee-percent", &args.community_fee_percent)?,
        holdback_bp: percent("--holdback-percent", &args.holdback_percent)?,
        ..Terms::default()
    };
    terms
        .check()
        .map_err(|e| CliError::BadInput(e.to_string()))?;
    Ok(terms)
}
