//! `commonwatt simulate`: a scenario and a seed become a run folder.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use simulator::run::engine::Job;
use simulator::run::folder::{self, Finished, Request};
use simulator::run::kpis::Kpi;
use simulator::run::scenario::{Evidence, RunScenario, strategy_names, strategy_of};
use simulator::run::table::FileKind;
use simulator::run::{RunError, TableChoice, builtin, summary};

use super::{CliError, Format, print_data, read_input};

/// Run a neighbourhood in virtual time.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  commonwatt simulate street-10\n  commonwatt simulate village-100 --seed 7 --days 365 --tables none\n  \
    commonwatt simulate street-10 --print > mine.toml   (a scenario to start from)\n  commonwatt simulate mine.toml --mechanism pay-as-bid --format json\n\n\
    Built in: street-10, village-100, ev-evening, winter-week, island-day, dst-days (`--list` says what they are).\n\
    The folder is runs/<first day>_<name>_<seed>_<id>: the same scenario, data, seed and version give the same id and the same bytes."
)]
pub(super) struct Args {
    /// A scenario file, or the name of a built-in scenario.
    #[arg(required_unless_present_any = ["list", "dictionary"])]
    scenario: Option<String>,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    output: Output,
    /// Print the scenario with all defaults filled in, and run nothing.
    #[arg(long)]
    print: bool,
    /// Print the names of the built-in scenarios.
    #[arg(long)]
    list: bool,
    /// Print what the tables and their columns are.
    #[arg(long)]
    dictionary: bool,
}

/// What of a scenario can be said on the command line.
#[derive(clap::Args, Default)]
pub(super) struct Changes {
    /// Days of the run.
    #[arg(long)]
    days: Option<u32>,
    /// The first local day, like 2026-06-15.
    #[arg(long)]
    start: Option<String>,
    /// uniform-price, pay-as-bid, trade-reduction, continuous, huang, muda, vcg, mid-market-rate,
    /// supply-demand-ratio, bill-sharing or none.
    #[arg(long)]
    pub(super) mechanism: Option<String>,
    /// The price policy of the mechanism, as `clear` takes it.
    #[arg(long, requires = "mechanism")]
    pub(super) price_policy: Option<String>,
    /// The strategy of homes that name none: grid-only, truthful, zero-intelligence,
    /// zero-intelligence-unconstrained, linear-ramp, tariff-follower, zip, roth-erev, battery-threshold or
    /// battery-look-ahead.
    #[arg(long)]
    strategy: Option<String>,
    /// Whether readings and orders are signed: auto, full or none.
    #[arg(long)]
    evidence: Option<String>,
}

/// How a run is written and shown.
#[derive(clap::Args)]
pub(super) struct Output {
    /// The folder of run folders.
    #[arg(long, default_value = "runs", value_name = "FOLDER")]
    out: PathBuf,
    /// Write no folder: print the figures only.
    #[arg(long)]
    no_files: bool,
    /// Which tables beside participants, intervals and kpis: all, some (trades, deliveries) or none. By
    /// the run's size where absent.
    #[arg(long)]
    tables: Option<String>,
    /// Write tables as CSV, in a program that could write Parquet.
    #[arg(long)]
    csv: bool,
    /// Threads; the result does not depend on them.
    #[arg(long)]
    threads: Option<usize>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// What is wrong with a run, by who can mend it.
pub(super) fn failed(error: RunError) -> CliError {
    match error {
        RunError::Bad(_) | RunError::Overflow(_) => CliError::BadInput(error.to_string()),
        RunError::Write(_) => CliError::Environment(error.into()),
        _ => CliError::CheckFailed(error.to_string()),
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if args.list {
        let lines = builtin::ALL
            .iter()
            .map(|(name, _, about)| format!("{name:<12} {about}\n"));
        return print_data(&lines.collect::<String>());
    }
    if args.dictionary {
        return print_data(&simulator::run::tables::dictionary());
    }
    let mut job = job(args.scenario.as_deref().unwrap_or_default(), args.seed)?;
    args.changes.apply(&mut job.scenario)?;
    if args.print {
        return print_data(&job.scenario.to_toml().map_err(failed)?);
    }
    args.output.run(job)
}

/// The job of a scenario file or a built-in scenario.
pub(super) fn job(name: &str, seed: u64) -> Result<Job, CliError> {
    let path = Path::new(name);
    let mut scenario = match builtin::scenario(name) {
        Some(scenario) if !path.exists() => scenario.map_err(failed)?,
        _ if !path.exists() => {
            let names: Vec<&str> = builtin::ALL.iter().map(|(name, _, _)| *name).collect();
            return Err(CliError::BadInput(format!(
                "{name}: neither a file nor a built-in scenario ({})",
                names.join(", ")
            )));
        }
        _ => RunScenario::parse(name, &read_input(path)?).map_err(failed)?,
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let beside = |file: &str| read_input(&folder.join(file));
    scenario.read_files(folder).map_err(failed)?;
    let prices = match &scenario.tariff.prices {
        None => None,
        Some(file) => Some((file.clone(), beside(file)?)),
    };
    Ok(Job {
        scenario,
        seed,
        prices,
    })
}

impl Changes {
    /// An option that was given and says nothing of what people have ordered.
    pub(super) fn not_of_live_data(&self) -> Option<&'static str> {
        let given = [
            (self.days.is_some(), "--days"),
            (self.start.is_some(), "--start"),
            (self.strategy.is_some(), "--strategy"),
            (self.evidence.is_some(), "--evidence"),
        ];
        given
            .into_iter()
            .find(|(given, _)| *given)
            .map(|(_, option)| option)
    }

    /// Changes a scenario.
    pub(super) fn apply(&self, scenario: &mut RunScenario) -> Result<(), CliError> {
        let bad = |text: String| CliError::BadInput(text);
        if let Some(days) = self.days {
            scenario.site.days = days;
        }
        if let Some(start) = &self.start {
            scenario.site.start = start
                .parse()
                .map_err(|_| bad(format!("--start {start}: expected a date like 2026-06-15")))?;
        }
        if let Some(mechanism) = &self.mechanism {
            let changed = scenario.trade_by(mechanism, self.price_policy.as_deref());
            changed.map_err(|e| bad(format!("--mechanism: {e}")))?;
        }
        if let Some(strategy) = &self.strategy {
            scenario.market.strategy = strategy_of(strategy).ok_or_else(|| {
                bad(format!(
                    "--strategy {strategy}: expected {}",
                    strategy_names()
                ))
            })?;
        }
        if let Some(evidence) = &self.evidence {
            scenario.evidence = Evidence::of(evidence).ok_or_else(|| {
                bad(format!(
                    "--evidence {evidence}: expected auto, full or none"
                ))
            })?;
        }
        Ok(())
    }
}

impl Output {
    /// How figures are printed.
    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Runs a job, writes its folder and prints its figures.
    pub(super) fn run(&self, job: Job) -> Result<(), CliError> {
        let tables = match &self.tables {
            None => None,
            Some(name) => Some(TableChoice::of(name).ok_or_else(|| {
                CliError::BadInput(format!("--tables {name}: expected all, some or none"))
            })?),
        };
        let kind = if self.csv {
            FileKind::Csv
        } else {
            FileKind::best()
        };
        let request = Request {
            job,
            tables: if self.no_files {
                Some(TableChoice::None)
            } else {
                tables
            },
            kind,
            threads: self.threads.unwrap_or_else(cores),
            out: (!self.no_files).then(|| self.out.clone()),
        };
        let finished = with_progress(&request)?;
        print_data(&self.shown(&finished)?)?;
        self.tell(&finished);
        Ok(())
    }

    fn shown(&self, finished: &Finished) -> Result<String, CliError> {
        match self.format {
            Format::Table => Ok(summary::terminal(&finished.manifest, &finished.kpis)),
            Format::Csv => Ok(kpis_csv(&finished.kpis)),
            Format::Json => {
                let json = serde_json::json!({
                    "folder": finished.folder,
                    "manifest": finished.manifest,
                    "kpis": finished.kpis,
                });
                let text = serde_json::to_string_pretty(&json).map_err(anyhow::Error::from)?;
                Ok(text + "\n")
            }
        }
    }

    /// What is not data: speed and place.
    fn tell(&self, finished: &Finished) {
        let measured = &finished.manifest.measured;
        eprintln!(
            "{} home-intervals in {:.2} s: {} home-intervals/s on {} threads",
            summary::whole(finished.outcome.home_intervals()),
            finished.outcome.wall.as_secs_f64(),
            summary::whole(measured.home_intervals_per_s),
            measured.threads
        );
        let Some(folder) = &finished.folder else {
            return;
        };
        eprintln!("run folder: {}", folder.display());
        match finished.manifest.tables.as_str() {
            "some" => eprintln!(
                "tables for a run of this size: trades and deliveries; `--tables all` writes the others too"
            ),
            "none" => eprintln!(
                "tables for a run of this size: participants, intervals, kpis; `--tables all` writes the others too"
            ),
            _ => {}
        }
        if FileKind::best() == FileKind::Csv {
            eprintln!(
                "tables are CSV: for Parquet build with `cargo build --release --features tables`"
            );
        }
    }
}

/// Figures as lines of comma-separated values.
pub(super) fn kpis_csv(kpis: &[Kpi]) -> String {
    let mut text = String::from("name,value,netting_only,no_market,unit\n");
    for kpi in kpis {
        let real = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
        let _ = writeln!(
            text,
            "{},{},{},{},{}",
            kpi.name,
            real(kpi.value),
            real(kpi.netting_only),
            real(kpi.no_market),
            kpi.unit
        );
    }
    text
}

/// How many threads this computer runs at once.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs a request with a bar on a terminal.
pub(super) fn with_progress(request: &Request) -> Result<Finished, CliError> {
    let bar = bar("{wide_bar} {percent} %  {eta} left");
    let finished = folder::simulate(request, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    finished.map_err(failed)
}

/// A bar that is seen on a terminal only.
pub(super) fn bar(template: &str) -> ProgressBar {
    let target = if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(1), target);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
