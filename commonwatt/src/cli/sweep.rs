//! `commonwatt sweep`: an experiment of parameters times seeds.

use std::path::PathBuf;

use simulator::run::summary::whole;
use simulator::run::sweep::Plan;

use super::simulate::{bar, cores, failed};
use super::{CliError, Format, read_input, runs};

/// Figures that are shown where none are named.
const USUAL: [&str; 8] = [
    "community_cost",
    "saving_per_home",
    "self_sufficiency",
    "local_share",
    "price_mean",
    "welfare_efficiency",
    "homes_worse_off",
    "peak_import",
];

/// Run an experiment.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt sweep experiment.toml --jobs 8\n\n\
    experiment.toml:\n  name = \"mechanisms\"\n  scenario = \"street-10\"            (built in, or a file beside this one)\n  \
    seeds = { from = 1, count = 30 }\n  set = { \"site.days\" = 7 }\n  [vary]                            (every combination, times every seed)\n  \
    \"market.mechanism\" = [\"uniform-price\", \"pay-as-bid\"]\n\n\
    Each result is kept as it ends: the same command goes on where it was stopped. A run that fails stops no other; then the exit code is 1."
)]
pub(super) struct Args {
    /// The experiment.
    experiment: PathBuf,
    /// Runs at the same time.
    #[arg(long)]
    jobs: Option<usize>,
    /// The folder of experiments.
    #[arg(long, default_value = "sweeps", value_name = "FOLDER")]
    out: PathBuf,
    /// Figures to print; a few where absent. All are in the folder.
    #[arg(long, value_delimiter = ',')]
    kpi: Vec<String>,
    /// How to print the summary.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let plan = Plan::parse(&args.experiment, &read_input(&args.experiment)?).map_err(failed)?;
    let bar = bar("{wide_bar} {pos}/{len} runs  {eta} left");
    let swept = plan.run(&args.out, args.jobs.unwrap_or_else(cores), &|done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let swept = swept.map_err(failed)?;
    let usual: Vec<String> = USUAL.map(str::to_owned).into();
    let comparison = swept.comparison().map_err(failed)?;
    if !comparison.rows.is_empty() {
        let kpis = if args.kpi.is_empty() {
            &usual
        } else {
            &args.kpi
        };
        runs::show(&comparison, kpis, args.format)?;
    }
    eprintln!(
        "{} runs, {} of them kept from before: {}",
        whole(swept.runs.len() as u64),
        whole(swept.kept as u64),
        swept.folder.display()
    );
    let failures: Vec<String> = swept
        .failed()
        .map(|(run, why)| format!("{} seed {}: {why}", run.label, run.seed))
        .collect();
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(CliError::CheckFailed(format!(
            "{} runs failed; the first: {first}",
            failures.len()
        ))),
    }
}
