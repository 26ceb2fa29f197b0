//! What is done with run folders: compare, run again, run under another market, draw.

use std::path::{Path, PathBuf};

use simulator::run::compare::{Comparison, Side};
use simulator::run::folder::{self, FileEntry, Manifest, Request};
use simulator::run::plot::Figure;
use simulator::run::table::FileKind;
use simulator::run::{TableChoice, engine::Job};

use super::simulate::{Changes, Output, cores, failed, with_progress};
use super::{CliError, Format, live_replay, print_data};

/// Run a run folder again.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt rerun runs/2026-06-21_street-10_1_0f3a9c21\n\nExit code 0: the folder holds the files that its manifest names, and the same files, figures, checks and hashes come out again.\n\
    1: it says what differs. Speed, threads and memory (`measured`) are this computer's, and are not compared."
)]
pub(super) struct RerunArgs {
    /// The run folder.
    run: PathBuf,
}

/// Run the homes of a run folder, or the orders of a live street, under another market.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  commonwatt replay runs/2026-06-21_street-10_1_0f3a9c21 --mechanism pay-as-bid\n  \
    commonwatt replay data --mechanism trade-reduction            (a platform's data folder)\n  \
    commonwatt replay http://127.0.0.1:8080 --mechanism huang --from 2026-06-21T00:00:00Z\n\n\
    A run: the same homes, weather, seed and forecasts; only what is said on the command line differs.\n\
    Live data: the public book of each cleared interval, cleared once more by the mechanism; nothing is written. A folder\n\
    that `commonwatt audit --mirror` filled does too."
)]
pub(super) struct ReplayArgs {
    /// A run folder, a platform's data folder, a mirror of its log, or its address.
    run: PathBuf,
    /// Live data: only intervals that start at this instant or later, like 2026-06-21T12:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// Live data: only intervals that start before this instant.
    #[arg(long)]
    to: Option<String>,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    output: Output,
}

/// Put run folders beside each other.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  commonwatt compare runs/a runs/b --kpi community_cost,homes_worse_off\n  \
    commonwatt compare runs/* --by mechanism   (mean ± 95 % confidence over seeds, differences of pairs of a seed)\n\n\
    Differences are to the first run or group. A star: its 95 % interval leaves out zero."
)]
pub(super) struct CompareArgs {
    /// Run folders.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Runs that have this in common are one group: mechanism, name or version.
    #[arg(long)]
    by: Option<String>,
    /// Only these figures.
    #[arg(long, value_delimiter = ',')]
    kpi: Vec<String>,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Draw a figure of a run folder.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt plot runs/2026-06-21_street-10_1_0f3a9c21 --figure flows --out flows.svg"
)]
pub(super) struct PlotArgs {
    /// The run folder.
    run: PathBuf,
    /// flows, price, bills, duration, heat or voltage (where the scenario has `[network]`).
    #[arg(long)]
    figure: String,
    /// Where to write the SVG; to stdout where absent.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn compare(args: &CompareArgs) -> Result<(), CliError> {
    let name = |path: &Path| {
        path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        )
    };
    // Folders of one name in two places are told apart by their paths.
    let alone = |path: &Path| args.runs.iter().filter(|r| name(r) == name(path)).count() < 2;
    let label = |manifest: &Manifest, path: &Path| match args.by.as_deref() {
        None if alone(path) => Ok(name(path)),
        None => Ok(path.display().to_string()),
        Some("mechanism") => Ok(manifest.mechanism.clone()),
        Some("name") => Ok(manifest.name.clone()),
        Some("version") => Ok(manifest.version.clone()),
        Some(other) => Err(CliError::BadInput(format!(
            "--by {other}: expected mechanism, name or version"
        ))),
    };
    let side = |path: &PathBuf| {
        let manifest = folder::manifest(path).map_err(failed)?;
        Ok(Side {
            label: label(&manifest, path)?,
            seed: manifest.seed,
            kpis: manifest.kpis,
        })
    };
    let sides: Vec<Side> = args
        .runs
        .iter()
        .map(side)
        .collect::<Result<_, CliError>>()?;
    let comparison = simulator::run::compare::compare(&sides).map_err(failed)?;
    show(&comparison, &args.kpi, args.format)
}

/// Prints a comparison.
pub(super) fn show(
    comparison: &Comparison,
    kpis: &[String],
    format: Format,
) -> Result<(), CliError> {
    let names: Vec<&str> = kpis.iter().map(String::as_str).collect();
    let unknown = names
        .iter()
        .find(|name| !comparison.rows.iter().any(|row| row.name == **name));
    if let Some(name) = unknown {
        let all: Vec<&str> = comparison
            .rows
            .iter()
            .map(|row| row.name.as_str())
            .collect();
        return Err(CliError::BadInput(format!(
            "--kpi {name}: expected {}",
            all.join(", ")
        )));
    }
    let comparison = comparison.clone().only(&names);
    let text = match format {
        Format::Table => comparison.to_table(),
        Format::Csv => comparison.to_csv(),
        Format::Json => {
            serde_json::to_string_pretty(&comparison).map_err(anyhow::Error::from)? + "\n"
        }
    };
    print_data(&text)
}

/// The folder of this process for what is thrown away again.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self, CliError> {
        let path = std::env::temp_dir().join(format!("commonwatt-runs-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .map_err(|e| anyhow::anyhow!("cannot make {}: {e}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn kind_of(files: &[FileEntry]) -> FileKind {
    let parquet = |f: &FileEntry| {
        Path::new(&f.file)
            .extension()
            .is_some_and(|e| e == "parquet")
    };
    if files.iter().any(parquet) {
        FileKind::Parquet
    } else {
        FileKind::Csv
    }
}

/// What of a manifest is another, key by key; files are compared one by one, and speed is not compared.
fn apart(before: &Manifest, after: &Manifest) -> Result<Vec<String>, CliError> {
    let keys = |manifest: &Manifest| serde_json::to_value(manifest).map_err(anyhow::Error::from);
    let (before, after) = (keys(before)?, keys(after)?);
    let all = after.as_object().into_iter().flatten();
    let compared = all.filter(|(key, _)| !matches!(key.as_str(), "files" | "measured"));
    let other = compared.filter(|(key, value)| before.get(key) != Some(value));
    Ok(other
        .map(|(key, _)| format!("manifest.json: `{key}` is another when it is run again"))
        .collect())
}

pub(super) fn rerun(args: &RerunArgs) -> Result<(), CliError> {
    let (job, before) = folder::job(&args.run).map_err(failed)?;
    let version = env!("CARGO_PKG_VERSION");
    if before.version != version {
        return Err(CliError::CheckFailed(format!(
            "the run is of version {}, this program is {version}: take the program of that version",
            before.version
        )));
    }
    let here = simulator::run::behaviour::behaviour();
    if before.behaviour != here {
        return Err(CliError::CheckFailed(format!(
            "the run is of a program that simulates otherwise (behaviour {}, this program's is {here}): take that program",
            before.behaviour
        )));
    }
    let scratch = Scratch::new()?;
    let request = Request {
        job,
        tables: TableChoice::of(&before.tables),
        kind: kind_of(&before.files),
        threads: cores(),
        out: Some(scratch.0.clone()),
    };
    let after = with_progress(&request)?.manifest;
    let mut differ = apart(&before, &after)?;
    for file in &before.files {
        let again = after.files.iter().find(|f| f.file == file.file);
        if again.is_none_or(|again| again.sha256 != file.sha256) {
            differ.push(format!("{} is another when it is run again", file.file));
        }
        let path = args.run.join(&file.file);
        let kept = std::fs::read(&path)
            .ok()
            .map(|bytes| domain::ids::Digest32::of(&bytes));
        let kept = kept.map(|digest| domain::ids::to_hex(&digest.0));
        if kept.as_deref() != Some(&file.sha256) {
            differ.push(format!(
                "{} is not the file that the manifest names",
                file.file
            ));
        }
    }
    for file in &after.files {
        if !before.files.iter().any(|f| f.file == file.file) {
            differ.push(format!("{} is not named in the manifest", file.file));
        }
    }
    if !differ.is_empty() {
        return Err(CliError::CheckFailed(format!(
            "{} is not reproduced:\n  {}",
            args.run.display(),
            differ.join("\n  ")
        )));
    }
    print_data(&format!(
        "run {}: the same bytes in all {} files, and the same manifest but for what was measured\n",
        before.run_id,
        before.files.len()
    ))
}

pub(super) fn replay(args: &ReplayArgs) -> Result<(), CliError> {
    if let Some(place) = live_replay::place(&args.run) {
        let span = (args.from.as_deref(), args.to.as_deref());
        return live_replay::run(place, &args.changes, span, args.output.format());
    }
    if args.from.is_some() || args.to.is_some() {
        return Err(CliError::BadInput(
            "--from and --to: for live data only; a run is replayed whole".to_owned(),
        ));
    }
    let (mut job, _) = folder::job(&args.run).map_err(failed)?;
    args.changes.apply(&mut job.scenario)?;
    args.output.run(job)
}

/// Runs the job of a folder once more in memory, and makes sure that it is that run.
fn again(run: &Path) -> Result<folder::Finished, CliError> {
    let (job, manifest) = folder::job(run).map_err(failed)?;
    let finished = with_progress(&in_memory(job))?;
    if finished.manifest.outcome_sha256 != manifest.outcome_sha256 {
        return Err(CliError::CheckFailed(format!(
            "{} cannot be repeated by this program (version {}): the sums differ",
            run.display(),
            env!("CARGO_PKG_VERSION")
        )));
    }
    Ok(finished)
}

fn in_memory(mut job: Job) -> Request {
    // Signatures change no figure, and take most of the time.
    job.scenario.evidence = simulator::run::scenario::Evidence::None;
    Request {
        job,
        tables: Some(TableChoice::None),
        kind: FileKind::Csv,
        threads: cores(),
        out: None,
    }
}

pub(super) fn plot(args: &PlotArgs) -> Result<(), CliError> {
    let figure = Figure::ALL.into_iter().find(|f| f.name() == args.figure);
    let figure = figure.ok_or_else(|| {
        let names = Figure::ALL.map(Figure::name).join(", ");
        CliError::BadInput(format!("--figure {}: expected one of {names}", args.figure))
    })?;
    let outcome = again(&args.run)?.outcome;
    if !figure.applies(&outcome) {
        return Err(CliError::BadInput(format!(
            "{}: the scenario has no [network], so there is no figure {}",
            args.run.display(),
            figure.name()
        )));
    }
    let svg = figure.svg(&outcome);
    match &args.out {
        None => print_data(&svg),
        Some(path) => {
            std::fs::write(path, svg).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
            Ok(())
        }
    }
}
