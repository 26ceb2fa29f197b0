//! The run folder: manifest, scenario with its defaults, tables, figures, summary, report and signed
//! checkpoint. It is written beside its place and moved there when it is whole, so there is never half of one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domain::ids::{Digest32, digest_parts, to_hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::RunError;
use super::behaviour::behaviour;
use super::calendar::Calendar;
use super::detail::{Detail, Place, TableChoice};
use super::engine::{self, HomeSums, IntervalRow, Job, Outcome};
use super::evidence::{Counts, Evidence as Keys};
use super::homes::homes;
use super::kpis::{Kpi, kpis};
use super::market::Rule;
use super::scenario::{AUTO_EVIDENCE_MAX, Evidence, RunHome, RunPv};
use super::sources::kept_name;
use super::table::{Cell, FileKind, TableWriter, Written};
use super::{report, summary, tables};

/// What the manifest is.
pub const FORMAT: &str = "commonwatt-run/1";
/// Up to so many home-intervals all tables are written where nothing else is asked for: tens of MB of CSV.
pub const AUTO_ALL_MAX: u64 = 100_000;
/// Up to so many, trades and deliveries: a few hundred MB of CSV.
pub const AUTO_SOME_MAX: u64 = 1_000_000;
/// The name of the file of prices in a run folder.
const PRICES_FILE: &str = "prices.csv";
/// The name of the weather file in a run folder.
const WEATHER_FILE: &str = "weather.csv";

/// What is to be run, and what is to be written.
#[derive(Clone, Debug)]
pub struct Request {
    /// Scenario, seed, prices.
    pub job: Job,
    /// Which tables; by the run's size where absent.
    pub tables: Option<TableChoice>,
    /// How tables are written.
    pub kind: FileKind,
    /// Threads of the devices.
    pub threads: usize,
    /// The folder of run folders; nothing is written where absent.
    pub out: Option<PathBuf>,
}

/// A run that is done.
pub struct Finished {
    /// What it came to.
    pub outcome: Outcome,
    /// Its figures.
    pub kpis: Vec<Kpi>,
    /// What it was made of.
    pub manifest: Manifest,
    /// Its folder.
    pub folder: Option<PathBuf>,
}

/// What a run was made of, what was checked, and the hash of every file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Hash of scenario, data, seed, version and behaviour.
    pub run_id: String,
    /// The scenario's name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// A hash of how the program simulates: see [`super::behaviour`]. Empty in runs from before there was one.
    #[serde(default)]
    pub behaviour: String,
    /// The seed.
    pub seed: u64,
    /// SHA-256 of the resolved scenario.
    pub scenario_sha256: String,
    /// SHA-256 of each file of data.
    pub data_sha256: BTreeMap<String, String>,
    /// How the homes traded.
    pub mechanism: String,
    /// First local day, days, zone.
    pub start: String,
    /// See `start`.
    pub days: u32,
    /// See `start`.
    pub zone: String,
    /// Length of an interval.
    pub interval_s: u32,
    /// How many homes and intervals.
    pub homes: u64,
    /// See `homes`.
    pub intervals: u64,
    /// `full`, or `none`: nothing of this run is signed.
    pub evidence: String,
    /// What was signed.
    pub signed: Option<Counts>,
    /// The public key that the checkpoints are signed with.
    pub operator_key: Option<String>,
    /// `all`, `some` or `none` of the tables that grow with homes and intervals.
    pub tables: String,
    /// What was checked in each interval, and in how many.
    pub checks: Checks,
    /// SHA-256 over all rows and sums: equal for equal runs, whatever was written.
    pub outcome_sha256: String,
    /// The figures, as in the table `kpis`.
    pub kpis: Vec<Kpi>,
    /// The files that are the same in every run of this id.
    pub files: Vec<FileEntry>,
    /// Of this computer and this time; not part of what is reproduced.
    pub measured: Measured,
}

/// A file of the run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name.
    pub file: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows, for tables.
    pub rows: Option<u64>,
}

/// Intervals in which each thing was found to hold. A run in which one does not hold ends with an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checks {
    /// What homes pay is what utility, network and community receive, and pooled energy sums to zero.
    pub sums_are_zero: u64,
    /// Nobody paid above or received below the limit.
    pub limits_kept: u64,
    /// The platform's own settlement came to the same, home by home, to the nano-token: of every interval where the run
    /// signs, of some where it only writes postings, of none where it writes none.
    pub settlement_is_the_platforms: u64,
}

/// How fast it was, here.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Wall time of the run, writing of files aside.
    pub wall_ms: u64,
    /// Homes times intervals per second.
    pub home_intervals_per_s: u64,
    /// Threads that it was allowed.
    pub threads: usize,
    /// Largest memory of the process so far, in KiB; none where the system does not say.
    pub peak_rss_kib: Option<u64>,
}

/// Runs a request and writes its folder.
///
/// # Errors
/// A scenario that makes no sense, files that cannot be written, or a check that failed.
pub fn simulate(
    request: &Request,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Finished, RunError> {
    let (prepared, homes) = prepare(request)?;
    match &request.out {
        None => {
            let run = run(request, &prepared, homes, None, progress)?;
            Ok(run.into_finished(request, &prepared, Vec::new(), None))
        }
        Some(out) => {
            let place = out.join(&prepared.folder);
            keeps_tables(&place, &prepared)?;
            let part = out.join(format!(".{}.{}.part", prepared.folder, std::process::id()));
            std::fs::create_dir_all(&part).map_err(|e| RunError::file(&part, &e))?;
            let finished = write(request, &prepared, homes, &part, progress);
            let finished = finished.and_then(|done| {
                move_into_place(&part, &place)?;
                Ok(Finished {
                    folder: Some(place),
                    ..done
                })
            });
            if finished.is_err() {
                // What is left of a failed run helps nobody; the error says what is wrong.
                let _ = std::fs::remove_dir_all(&part);
            }
            finished
        }
    }
}

/// What a request would make, before it is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    /// The name of its folder.
    pub folder: String,
    /// Homes times intervals.
    pub home_intervals: u64,
}

/// Looks at a request without running it.
///
/// # Errors
/// A scenario that makes no sense.
pub fn planned(request: &Request) -> Result<Planned, RunError> {
    let (prepared, _) = prepare(request)?;
    Ok(Planned {
        folder: prepared.folder,
        home_intervals: prepared.home_intervals,
    })
}

/// A job with everything filled in that can be.
struct Prepared {
    home_intervals: u64,
    job: Job,
    rule: Rule,
    tables: TableChoice,
    text: String,
    run_id: String,
    folder: String,
}

/// The id of a run: a hash of version, behaviour, scenario, data and seed.
#[must_use]
pub fn run_id(scenario: &str, data: Option<&str>, seed: u64) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let data = data.map_or([0; 32], |data| Digest32::of(data.as_bytes()).0);
    let parts: [&[u8]; 5] = [
        version.as_bytes(),
        behaviour().as_bytes(),
        scenario.as_bytes(),
        &data,
        &seed.to_be_bytes(),
    ];
    to_hex(&digest_parts("commonwatt run", &parts)[..8])
}

/// The job and its homes, ordered by id.
fn prepare(request: &Request) -> Result<(Prepared, Vec<RunHome>), RunError> {
    let mut job = request.job.clone();
    let site = job.scenario.site.clone();
    let calendar = Calendar::new(site.zone, site.start, site.days, site.interval_s)?;
    let homes = homes(&job.scenario)?;
    let size = homes.len() as u64 * calendar.moments().len() as u64;
    if job.scenario.evidence == Evidence::Auto {
        let small = size <= AUTO_EVIDENCE_MAX;
        job.scenario.evidence = if small {
            Evidence::Full
        } else {
            Evidence::None
        };
    }
    let tables = request.tables.unwrap_or(if size <= AUTO_ALL_MAX {
        TableChoice::All
    } else if size <= AUTO_SOME_MAX {
        TableChoice::Some
    } else {
        TableChoice::None
    });
    let text = job.scenario.to_toml()?;
    let data = job.prices.as_ref().map(|(_, text)| text.as_str());
    let run_id = run_id(&text, data, job.seed);
    let prepared = Prepared {
        rule: Rule::of(&job.scenario.market).map_err(RunError::bad)?,
        folder: format!(
            "{}_{}_{}_{}",
            site.start,
            job.scenario.name,
            job.seed,
            &run_id[..8]
        ),
        home_intervals: size,
        tables,
        text,
        run_id,
        job,
    };
    Ok((prepared, homes))
}

struct Ran {
    outcome: Outcome,
    detail: Option<Detail>,
    checkpoint: Option<String>,
    signed: Option<Counts>,
    operator_key: Option<String>,
    checks: Checks,
}

fn run(
    request: &Request,
    prepared: &Prepared,
    homes: Vec<RunHome>,
    folder: Option<&Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Ran, RunError> {
    let scenario = &prepared.job.scenario;
    let keys = match scenario.evidence {
        Evidence::Full => Some(Keys::new(
            &scenario.name,
            &homes,
            prepared.job.seed,
            scenario.site.interval_s,
        )?),
        _ => None,
    };
    let zone = scenario.site.zone.to_string();
    let place = folder.map(|folder| Place {
        folder,
        kind: request.kind,
        run_id: &prepared.run_id,
        zone: &zone,
    });
    let mut detail = Detail::new(prepared.tables, place, keys, prepared.rule)?;
    let outcome = engine::run(
        &prepared.job,
        homes,
        request.threads,
        detail.as_mut(),
        progress,
    )?;
    let end = outcome.rows.last().map(|row| row.moment.interval.end());
    let intervals = outcome.rows.len() as u64;
    let (mut checkpoint, mut signed, mut operator_key, mut compared) = (None, None, None, 0);
    if let Some(detail) = &mut detail {
        compared = detail.compared();
        if let (Some(evidence), Some(end)) = (&mut detail.evidence, end) {
            checkpoint = Some(evidence.finish(end));
            signed = Some(evidence.counts);
            operator_key = Some(evidence.operator_key());
        }
    }
    let auctions = matches!(prepared.rule, Rule::Auction(_));
    Ok(Ran {
        outcome,
        detail,
        checkpoint,
        signed,
        operator_key,
        checks: Checks {
            sums_are_zero: intervals,
            limits_kept: if auctions { intervals } else { 0 },
            settlement_is_the_platforms: compared,
        },
    })
}

impl Ran {
    fn into_finished(
        self,
        request: &Request,
        prepared: &Prepared,
        files: Vec<FileEntry>,
        folder: Option<PathBuf>,
    ) -> Finished {
        let manifest = self.manifest(request, prepared, files);
        Finished {
            kpis: manifest.kpis.clone(),
            manifest,
            folder,
            outcome: self.outcome,
        }
    }

    fn manifest(&self, request: &Request, prepared: &Prepared, files: Vec<FileEntry>) -> Manifest {
        let (scenario, outcome) = (&prepared.job.scenario, &self.outcome);
        let wall = outcome.wall;
        let per_s = u128::from(outcome.home_intervals()) * 1_000_000_000 / wall.as_nanos().max(1);
        let prices = prepared
            .job
            .prices
            .iter()
            .map(|(name, text)| (name, text.as_str()));
        let weather = scenario
            .weather
            .iter()
            .filter_map(|w| Some((&w.file, w.text()?)));
        let read = scenario.data.all();
        let data = read.map(|(name, sha256, _)| (name.to_owned(), sha256.to_owned()));
        Manifest {
            format: FORMAT.to_owned(),
            run_id: prepared.run_id.clone(),
            name: scenario.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            behaviour: behaviour().to_owned(),
            seed: prepared.job.seed,
            scenario_sha256: to_hex(&Digest32::of(prepared.text.as_bytes()).0),
            data_sha256: prices
                .chain(weather)
                .map(|(name, text)| (name.clone(), to_hex(&Digest32::of(text.as_bytes()).0)))
                .chain(data)
                .collect(),
            mechanism: prepared.rule.name().to_owned(),
            start: scenario.site.start.to_string(),
            days: scenario.site.days,
            zone: scenario.site.zone.to_string(),
            interval_s: scenario.site.interval_s,
            homes: outcome.homes.len() as u64,
            intervals: outcome.rows.len() as u64,
            evidence: scenario.evidence.name().to_owned(),
            signed: self.signed,
            operator_key: self.operator_key.clone(),
            tables: prepared.tables.name().to_owned(),
            checks: self.checks,
            outcome_sha256: outcome_sha256(outcome),
            kpis: kpis(outcome),
            files,
            measured: Measured {
                wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
                home_intervals_per_s: u64::try_from(per_s).unwrap_or(u64::MAX),
                threads: request.threads,
                peak_rss_kib: peak_rss_kib(),
            },
        }
    }
}

fn write(
    request: &Request,
    prepared: &Prepared,
    homes: Vec<RunHome>,
    part: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Finished, RunError> {
    let mut ran = run(request, prepared, homes, Some(part), progress)?;
    let mut written = match ran.detail.take() {
        Some(detail) => detail.finish()?,
        None => Vec::new(),
    };
    let figures = kpis(&ran.outcome);
    let start = |table| {
        let zone = prepared.job.scenario.site.zone.to_string();
        TableWriter::create(part, table, request.kind, &prepared.run_id, &zone)
    };
    written.push(participants(
        start(&tables::PARTICIPANTS)?,
        &ran.outcome,
        prepared.job.scenario.market.strategy,
    )?);
    written.push(intervals(start(&tables::INTERVALS)?, &ran.outcome.rows)?);
    written.push(figure_rows(start(&tables::KPIS)?, &figures)?);
    if let Some(grid) = &ran.outcome.grid {
        written.push(grid.write_rows(start(&tables::GRID)?)?);
        written.push(grid.write_nodes(start(&tables::GRID_NODES)?)?);
        written.push(grid.write_branches(start(&tables::GRID_BRANCHES)?)?);
    }
    written.sort_by(|a, b| a.file.cmp(&b.file));
    let mut files: Vec<FileEntry> = written.into_iter().map(FileEntry::from).collect();
    let mut text = |name: &str, text: &str| -> Result<(), RunError> {
        let path = part.join(name);
        std::fs::write(&path, text).map_err(|e| RunError::file(&path, &e))?;
        files.push(FileEntry {
            file: name.to_owned(),
            sha256: to_hex(&Digest32::of(text.as_bytes()).0),
            bytes: text.len() as u64,
            rows: None,
        });
        Ok(())
    };
    text("scenario.toml", &prepared.text)?;
    if let Some((_, prices)) = &prepared.job.prices {
        text(PRICES_FILE, prices)?;
    }
    let weather = prepared.job.scenario.weather.as_ref();
    if let Some(weather) = weather.and_then(|weather| weather.text()) {
        text(WEATHER_FILE, weather)?;
    }
    for (_, sha256, data) in prepared.job.scenario.data.all() {
        text(&kept_name(sha256), data)?;
    }
    if let Some(checkpoint) = &ran.checkpoint {
        text("ledger.checkpoint", checkpoint)?;
    }
    let draft = ran.manifest(request, prepared, Vec::new());
    text(
        "summary.md",
        &summary::markdown(&draft, &figures, &ran.outcome),
    )?;
    text("report.html", &report::html(&draft, &figures, &ran.outcome))?;
    let finished = ran.into_finished(request, prepared, files, None);
    let manifest = serde_json::to_string_pretty(&finished.manifest)
        .map_err(|e| RunError::Write(format!("manifest.json: {e}")))?;
    let path = part.join("manifest.json");
    std::fs::write(&path, manifest + "\n").map_err(|e| RunError::file(&path, &e))?;
    Ok(finished)
}

/// A run that is there with more tables than are asked for now is not taken away.
fn keeps_tables(place: &Path, prepared: &Prepared) -> Result<(), RunError> {
    let Ok(before) = manifest(place) else {
        return Ok(());
    };
    let rank = |choice| match choice {
        TableChoice::All => 2,
        TableChoice::Some => 1,
        TableChoice::None => 0,
    };
    let had = TableChoice::of(&before.tables).map_or(0, rank);
    if had > rank(prepared.tables) {
        return Err(RunError::bad(format!(
            "{} holds this run with tables = {}, and writing it with {} would delete some: \
             ask for `--tables {}`, or name another folder with --out",
            place.display(),
            before.tables,
            prepared.tables.name(),
            before.tables
        )));
    }
    Ok(())
}

/// Moves a whole folder to its place; one that was there before is taken away in the same breath.
fn move_into_place(part: &Path, place: &Path) -> Result<(), RunError> {
    let old = part.with_extension("old");
    let had = place.exists();
    if had {
        std::fs::rename(place, &old).map_err(|e| RunError::file(place, &e))?;
    }
    std::fs::rename(part, place).map_err(|e| RunError::file(place, &e))?;
    if had {
        std::fs::remove_dir_all(&old).map_err(|e| RunError::file(&old, &e))?;
    }
    Ok(())
}

impl From<Written> for FileEntry {
    fn from(written: Written) -> Self {
        FileEntry {
            file: written.file,
            sha256: written.sha256,
            bytes: written.bytes,
            rows: Some(written.rows),
        }
    }
}

fn participants(
    mut table: TableWriter,
    outcome: &Outcome,
    usual: super::scenario::Strategy,
) -> Result<Written, RunError> {
    let some = |value: Option<i64>| value.map_or(Cell::Missing, Cell::Int);
    for (home, sum) in outcome.homes.iter().zip(&outcome.sums) {
        let strategy = home.strategy.unwrap_or(usual).name();
        table.push(&[
            Cell::Text(home.id.as_str()),
            Cell::Text(strategy),
            Cell::Int(home.yearly_load_kwh),
            some(home.pv.as_ref().map(RunPv::peak_of_all_w)),
            some(home.pv.as_ref().map(|pv| pv.inverter_w)),
            some(home.battery.as_ref().map(|b| b.capacity_wh)),
            some(home.battery.as_ref().map(|b| b.power_w)),
            some(home.ev.as_ref().map(|ev| ev.max_power_w)),
            Cell::Int(sum.load_wh),
            Cell::Int(sum.ev_wh),
            Cell::Int(sum.heat_wh),
            Cell::Int(sum.pv_wh),
            Cell::Int(sum.curtailed_wh),
            Cell::Int(sum.import_wh),
            Cell::Int(sum.export_wh),
            Cell::Int(sum.bought_wh),
            Cell::Int(sum.sold_wh),
            Cell::Int(sum.cost_nano),
            Cell::Int(sum.alone_nano),
            Cell::Int(sum.alone_nano - sum.cost_nano),
        ])?;
    }
    table.finish()
}

fn intervals(mut table: TableWriter, rows: &[IntervalRow]) -> Result<Written, RunError> {
    for row in rows {
        let nano = |nano: i128| {
            let fits = i64::try_from(nano).map(Cell::Int);
            fits.map_err(|_| RunError::overflow(row.moment.interval))
        };
        let price = row
            .price
            .map_or(Cell::Missing, |p| Cell::Int(p.micro_per_kwh()));
        table.push(&[
            Cell::Time(row.moment.interval.start_s()),
            Cell::Int(i64::from(row.moment.day_minute)),
            Cell::Int(row.retail.micro_per_kwh()),
            Cell::Int(row.feed_in.micro_per_kwh()),
            price,
            Cell::Int(i64::from(row.bids)),
            Cell::Int(i64::from(row.offers)),
            Cell::Int(row.bid_wh),
            Cell::Int(row.offer_wh),
            Cell::Int(row.volume_wh),
            nano(row.welfare_nano)?,
            nano(row.welfare_max_nano)?,
            Cell::Int(row.load_wh),
            Cell::Int(row.ev_wh),
            Cell::Int(row.heat_wh),
            Cell::Int(row.pv_wh),
            Cell::Int(row.curtailed_wh),
            Cell::Int(row.charged_wh),
            Cell::Int(row.discharged_wh),
            Cell::Int(row.stored_wh),
            Cell::Int(row.import_wh),
            Cell::Int(row.export_wh),
            Cell::Int(row.pooled_wh),
            Cell::Int(row.supplied_wh),
            Cell::Int(row.taken_wh),
            Cell::Int(row.loss_wh),
            nano(row.cost_nano)?,
            nano(row.alone_nano)?,
            nano(row.network_nano)?,
            Cell::Int(i64::from(row.missing)),
        ])?;
    }
    table.finish()
}

fn figure_rows(mut table: TableWriter, figures: &[Kpi]) -> Result<Written, RunError> {
    for kpi in figures {
        let real = |value: Option<f64>| value.map_or(Cell::Missing, Cell::Real);
        table.push(&[
            Cell::Text(&kpi.name),
            real(kpi.value),
            real(kpi.netting_only),
            real(kpi.no_market),
            Cell::Text(&kpi.unit),
            Cell::Text(&kpi.definition),
        ])?;
    }
    table.finish()
}

/// The numbers of a row, in this order, for the hash of a run: its start, and all that is not the calendar's.
#[rustfmt::skip]
fn numbers_of(row: &IntervalRow) -> ([i64; ENERGIES], [i128; 7]) {
    // All fields by name: one that is added and not hashed does not compile.
    let IntervalRow {
        moment, retail, feed_in, price, bids, offers, missing,
        bid_wh, offer_wh, volume_wh, load_wh, ev_wh, heat_wh, pv_wh, curtailed_wh,
        charged_wh, discharged_wh, stored_wh, import_wh, export_wh, own_import_wh, own_export_wh,
        unmetered_wh, pooled_wh, supplied_wh, taken_wh, deviated_wh, loss_wh,
        welfare_nano, welfare_max_nano, surplus_nano, cost_nano, alone_nano, netting_nano, network_nano,
    } = *row;
    let numbers = [
        moment.interval.start_s(), retail.micro_per_kwh(), feed_in.micro_per_kwh(),
        price.map_or(i64::MIN, |p| p.micro_per_kwh()),
        i64::from(bids), i64::from(offers), i64::from(missing),
        bid_wh, offer_wh, volume_wh, load_wh, ev_wh, heat_wh, pv_wh, curtailed_wh,
        charged_wh, discharged_wh, stored_wh, import_wh, export_wh, own_import_wh, own_export_wh,
        unmetered_wh, pooled_wh, supplied_wh, taken_wh, deviated_wh, loss_wh,
    ];
    let money = [
        welfare_nano, welfare_max_nano, surplus_nano, cost_nano, alone_nano, netting_nano, network_nano,
    ];
    (numbers, money)
}

/// Numbers of a row that are no money.
const ENERGIES: usize = 28;

fn hash_row(hash: &mut Sha256, row: &IntervalRow) {
    let (numbers, money) = numbers_of(row);
    for number in numbers {
        hash.update(number.to_be_bytes());
    }
    for amount in money {
        hash.update(amount.to_be_bytes());
    }
}

/// A hash of everything that a run came to, rows and sums, that no thread and no computer changes.
pub(super) fn outcome_sha256(outcome: &Outcome) -> String {
    let mut hash = Sha256::new();
    for row in &outcome.rows {
        hash_row(&mut hash, row);
    }
    for (home, sum) in outcome.homes.iter().zip(&outcome.sums) {
        hash.update(home.id.as_str());
        // All fields by name: one that is added and not hashed does not compile.
        let HomeSums {
            load_wh,
            ev_wh,
            pv_wh,
            curtailed_wh,
            charged_wh,
            discharged_wh,
            heat_wh,
            unserved_wh,
            stored_more_wh,
            own_stored_more_wh,
            import_wh,
            export_wh,
            bought_wh,
            sold_wh,
            cost_nano,
            alone_nano,
        } = *sum;
        for value in [
            load_wh,
            ev_wh,
            pv_wh,
            curtailed_wh,
            charged_wh,
            discharged_wh,
            heat_wh,
            unserved_wh,
            stored_more_wh,
            own_stored_more_wh,
            import_wh,
            export_wh,
            bought_wh,
            sold_wh,
            cost_nano,
            alone_nano,
        ] {
            hash.update(value.to_be_bytes());
        }
    }
    if let Some(grid) = &outcome.grid {
        hash.update(grid.bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    to_hex(&digest)
}

/// The largest memory of this process so far, where the system says it.
fn peak_rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Reads the manifest of a run folder.
///
/// # Errors
/// The folder is none, or not one of this program.
pub fn manifest(folder: &Path) -> Result<Manifest, RunError> {
    let path = folder.join("manifest.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|e| RunError::bad(format!("{} is no run folder: {e}", folder.display())))?;
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|e| RunError::bad(format!("{}: {e}", path.display())))?;
    if manifest.format != FORMAT {
        return Err(RunError::bad(format!(
            "{}: format {} is not {FORMAT}",
            path.display(),
            manifest.format
        )));
    }
    Ok(manifest)
}

/// The job that a run folder was made from.
///
/// # Errors
/// The folder is none, or its scenario is not the one of its manifest.
pub fn job(folder: &Path) -> Result<(Job, Manifest), RunError> {
    let manifest = manifest(folder)?;
    let read = |name: &str| {
        let path = folder.join(name);
        RunError::read(&path)
    };
    let text = read("scenario.toml")?;
    let file = folder.join("scenario.toml").display().to_string();
    let mut scenario = super::scenario::RunScenario::parse(&file, &text)?;
    if to_hex(&Digest32::of(text.as_bytes()).0) != manifest.scenario_sha256 {
        return Err(RunError::bad(format!(
            "{file} is not the scenario that the manifest names"
        )));
    }
    let prices = match &scenario.tariff.prices {
        Some(name) => Some((name.clone(), read(PRICES_FILE)?)),
        None => None,
    };
    if let Some(weather) = &mut scenario.weather {
        weather.take(read(WEATHER_FILE)?)?;
    }
    scenario.data.read_kept(folder)?;
    let seed = manifest.seed;
    Ok((
        Job {
            scenario,
            seed,
            prices,
        },
        manifest,
    ))
}
