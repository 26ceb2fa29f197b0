//! Experiments: a scenario with some keys varied, times seeds. Each run is kept as it ends, so a sweep that
//! was stopped goes on where it was; a run that fails stops no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::compare::{Comparison, Side, compare};
use super::detail::TableChoice;
use super::engine::Job;
use super::folder::{Request, run_id, simulate};
use super::kpis::Kpi;
use super::scenario::{Evidence, RunScenario};
use super::table::{FileKind, csv_text};
use super::{RunError, builtin};

/// Most runs of one experiment.
pub const RUNS_MAX: usize = 1_000_000;

/// An experiment.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// A built-in scenario, or a file beside the experiment.
    pub scenario: String,
    /// Seeds of each point.
    pub seeds: Seeds,
    /// Keys that differ from the scenario in every run, like `"site.days" = 7`.
    #[serde(default)]
    pub set: Table,
    /// Keys that are varied: every combination of their values is a point.
    #[serde(default)]
    pub vary: BTreeMap<String, Vec<Value>>,
}

/// Seeds, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    /// The first.
    pub from: u64,
    /// How many.
    pub count: u32,
}

/// A combination of values, and its scenario.
#[derive(Clone, Debug)]
pub struct Point {
    /// What is varied, like `market.mechanism=huang`.
    pub label: String,
    /// The scenario.
    pub scenario: RunScenario,
    prices: Option<(String, String)>,
}

/// An experiment that makes sense.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its points.
    pub points: Vec<Point>,
    /// Its seeds.
    pub seeds: Seeds,
}

/// What became of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The run's id: a kept result counts only for the same.
    pub run_id: String,
    /// Its point.
    pub label: String,
    /// Its seed.
    pub seed: u64,
    /// Its figures; none where it failed.
    pub kpis: Vec<Kpi>,
    /// Its hash of everything it came to.
    pub outcome_sha256: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// What an experiment came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Swept {
    /// All runs, by point and seed.
    pub runs: Vec<Done>,
    /// How many were kept from before.
    pub kept: usize,
    /// Where results are.
    pub folder: PathBuf,
}

impl Plan {
    /// An experiment from TOML; `file` names the place of an error, and files are looked for beside it.
    ///
    /// # Errors
    /// Says file and key.
    pub fn parse(file: &Path, text: &str) -> Result<Self, RunError> {
        let shown = file.display();
        let experiment: Experiment = toml::from_str(text)
            .map_err(|e| RunError::bad(format!("{shown}: {}", e.to_string().trim_end())))?;
        let named = !experiment.name.is_empty()
            && experiment
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !named {
            return Err(RunError::bad(format!(
                "{shown}: name: letters, digits and hyphens"
            )));
        }
        let beside = file.parent().unwrap_or(Path::new(""));
        let (base, place) = match builtin::scenario(&experiment.scenario) {
            Some(scenario) => (scenario?, PathBuf::new()),
            None => read_scenario(&beside.join(&experiment.scenario))?,
        };
        if experiment.seeds.count == 0 {
            return Err(RunError::bad(format!("{shown}: seeds.count: at least 1")));
        }
        // Counted before anything is built.
        let mut runs = experiment.seeds.count as usize;
        for values in experiment.vary.values() {
            runs = runs.saturating_mul(values.len());
        }
        if runs > RUNS_MAX {
            return Err(RunError::bad(format!(
                "{shown}: {runs} runs are more than {RUNS_MAX}"
            )));
        }
        let mut points = vec![(String::new(), experiment.set.clone())];
        for (key, values) in &experiment.vary {
            if values.is_empty() {
                return Err(RunError::bad(format!("{shown}: vary.\"{key}\": no values")));
            }
            points = points
                .iter()
                .flat_map(|point| values.iter().map(|v| varied(point, key, v)))
                .collect();
        }
        let mut labels = BTreeSet::new();
        if let Some((label, _)) = points.iter().find(|(label, _)| !labels.insert(label)) {
            return Err(RunError::bad(format!(
                "{shown}: vary: {label} is there twice"
            )));
        }
        let points = points
            .iter()
            .map(|(label, set)| point(&base, &place, label, set, file));
        Ok(Plan {
            name: experiment.name,
            points: points.collect::<Result<_, _>>()?,
            seeds: experiment.seeds,
        })
    }

    /// How many runs it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.points.len() * self.seeds.count as usize
    }

    /// Runs what has not been run, on so many threads, and keeps each result in `out`.
    ///
    /// # Errors
    /// The folder cannot be written. A run that fails is a result.
    pub fn run(
        &self,
        out: &Path,
        jobs: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Swept, RunError> {
        let folder = out.join(&self.name);
        let results = folder.join("results");
        std::fs::create_dir_all(&results).map_err(|e| RunError::file(&results, &e))?;
        let (next, ended, kept) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let done: Mutex<Vec<(usize, Result<Done, RunError>)>> = Mutex::new(Vec::new());
        let all = self.count();
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= all {
                    break;
                }
                let result = self.one(number, &results, &kept);
                done.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((number, result));
                progress(ended.fetch_add(1, Ordering::Relaxed) + 1, all);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs.clamp(1, super::engine::THREADS_MAX) {
                scope.spawn(work);
            }
            work();
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(number, _)| *number);
        let runs = done
            .into_iter()
            .map(|(_, result)| result)
            .collect::<Result<Vec<_>, _>>()?;
        let swept = Swept {
            runs,
            kept: kept.into_inner(),
            folder,
        };
        swept.write()?;
        Ok(swept)
    }

    fn one(&self, number: usize, results: &Path, kept: &AtomicUsize) -> Result<Done, RunError> {
        let seeds = self.seeds.count as usize;
        let point = &self.points[number / seeds];
        let seed = self.seeds.from.wrapping_add((number % seeds) as u64);
        let data = point.prices.as_ref().map(|(_, text)| text.as_str());
        let id = run_id(&point.scenario.to_toml()?, data, seed);
        let path = results.join(format!("{id}.json"));
        let known = std::fs::read_to_string(&path).ok();
        let known: Option<Done> = known.and_then(|text| serde_json::from_str(&text).ok());
        if let Some(known) = known.filter(|known| known.error.is_none() && known.run_id == id) {
            kept.fetch_add(1, Ordering::Relaxed);
            return Ok(Done {
                label: point.label.clone(),
                ..known
            });
        }
        let done = attempt(point, seed, &id);
        let text = serde_json::to_string(&done).map_err(|e| RunError::Write(e.to_string()))?;
        // Written beside its place first, so that a result is whole or not there.
        let part = results.join(format!("{id}.part"));
        std::fs::write(&part, text).map_err(|e| RunError::file(&part, &e))?;
        std::fs::rename(&part, &path).map_err(|e| RunError::file(&path, &e))?;
        Ok(done)
    }
}

/// Runs a point with a seed; whatever goes wrong is its result.
fn attempt(point: &Point, seed: u64, id: &str) -> Done {
    let request = Request {
        job: Job {
            scenario: point.scenario.clone(),
            seed,
            prices: point.prices.clone(),
        },
        tables: Some(TableChoice::None),
        kind: FileKind::Csv,
        threads: 1,
        out: None,
    };
    let run = std::panic::AssertUnwindSafe(|| simulate(&request, &mut |_, _| ()));
    let mut done = Done {
        run_id: id.to_owned(),
        label: point.label.clone(),
        seed,
        kpis: Vec::new(),
        outcome_sha256: String::new(),
        error: None,
    };
    match std::panic::catch_unwind(run) {
        Ok(Ok(finished)) => {
            done.kpis = finished.kpis;
            done.outcome_sha256 = finished.manifest.outcome_sha256;
        }
        Ok(Err(error)) => done.error = Some(error.to_string()),
        Err(_) => done.error = Some("a rule of this program was broken: see the log".to_owned()),
    }
    done
}

impl Swept {
    /// Points beside each other, with differences to the first; a run that failed has no figures.
    ///
    /// # Errors
    /// A point is there twice.
    pub fn comparison(&self) -> Result<Comparison, RunError> {
        let sides: Vec<Side> = self
            .runs
            .iter()
            .map(|run| Side {
                label: run.label.clone(),
                seed: run.seed,
                kpis: run.kpis.clone(),
            })
            .collect();
        compare(&sides)
    }

    /// Runs that failed.
    pub fn failed(&self) -> impl Iterator<Item = (&Done, &str)> {
        self.runs
            .iter()
            .filter_map(|run| Some((run, run.error.as_deref()?)))
    }

    /// All figures of all runs in one table, and the summary over seeds.
    fn write(&self) -> Result<(), RunError> {
        let mut text = String::from("run_id,point,seed,name,value,netting_only,no_market,unit\n");
        for run in &self.runs {
            for kpi in &run.kpis {
                let real = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
                let fields = [
                    run.run_id.clone(),
                    csv_text(&run.label).into_owned(),
                    run.seed.to_string(),
                    kpi.name.clone(),
                    real(kpi.value),
                    real(kpi.netting_only),
                    real(kpi.no_market),
                    kpi.unit.clone(),
                ];
                text.push_str(&fields.join(","));
                text.push('\n');
            }
        }
        for (name, text) in [
            ("kpis.csv", text),
            ("summary.csv", self.comparison()?.to_csv()),
        ] {
            let path = self.folder.join(name);
            std::fs::write(&path, text).map_err(|e| RunError::file(&path, &e))?;
        }
        Ok(())
    }
}

fn read_scenario(path: &Path) -> Result<(RunScenario, PathBuf), RunError> {
    let text = RunError::read(path)
        .map_err(|e| RunError::bad(format!("neither a file nor a built-in scenario: {e}")))?;
    let beside = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok((
        RunScenario::parse(&path.display().to_string(), &text)?,
        beside,
    ))
}

/// A point with one more key.
fn varied((label, set): &(String, Table), key: &str, value: &Value) -> (String, Table) {
    let mut set = set.clone();
    set.insert(key.to_owned(), value.clone());
    let shown = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let space = if label.is_empty() { "" } else { " " };
    (format!("{label}{space}{key}={shown}"), set)
}

/// The scenario of a point: the base with keys set.
fn point(
    base: &RunScenario,
    place: &Path,
    label: &str,
    set: &Table,
    file: &Path,
) -> Result<Point, RunError> {
    let shown = file.display();
    let mut tree: Table =
        toml::from_str(&base.to_toml()?).map_err(|e| RunError::bad(format!("{shown}: {e}")))?;
    for (key, value) in set {
        insert(&mut tree, key, value)
            .map_err(|what| RunError::bad(format!("{shown}: \"{key}\": {what}")))?;
    }
    let text = toml::to_string(&tree).map_err(|e| RunError::bad(format!("{shown}: {e}")))?;
    let mut scenario = RunScenario::parse(&format!("{shown} ({label})"), &text)?;
    if scenario.evidence == Evidence::Auto {
        scenario.evidence = Evidence::None;
    }
    scenario.read_files(place)?;
    let prices = match &scenario.tariff.prices {
        None => None,
        Some(name) => {
            let path = place.join(name);
            Some((name.clone(), RunError::read(&path)?))
        }
    };
    Ok(Point {
        label: if label.is_empty() {
            "all".to_owned()
        } else {
            label.to_owned()
        },
        scenario,
        prices,
    })
}

/// Sets `site.days` or `groups.0.homes` in a tree of tables and lists.
fn insert(tree: &mut Table, key: &str, value: &Value) -> Result<(), String> {
    let mut steps = key.split('.').peekable();
    let first = steps.next().unwrap_or_default();
    if steps.peek().is_none() {
        tree.insert(first.to_owned(), value.clone());
        return Ok(());
    }
    let mut at = tree
        .entry(first)
        .or_insert_with(|| Value::Table(Table::new()));
    while let Some(step) = steps.next() {
        let last = steps.peek().is_none();
        at = match at {
            Value::Table(table) if last => {
                table.insert(step.to_owned(), value.clone());
                return Ok(());
            }
            Value::Table(table) => table
                .entry(step)
                .or_insert_with(|| Value::Table(Table::new())),
            Value::Array(list) => {
                let place = step.parse::<usize>().ok();
                let item = place.and_then(|place| list.get_mut(place));
                item.ok_or_else(|| format!("{step} is no place in the list"))?
            }
            _ => return Err(format!("{step} is below a value that is no table")),
        };
    }
    *at = value.clone();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name = \"small\"\nscenario = \"island-day\"\nseeds = { from = 1, count = 3 }\n\
        set = { \"groups.0.homes\" = 6 }\n[vary]\n\"market.mechanism\" = [\"uniform-price\", \"none\"]\n\
        \"market.strategy\" = [\"truthful\", \"zero-intelligence\"]\n";

    fn plan(text: &str) -> Result<Plan, RunError> {
        Plan::parse(Path::new("small.toml"), text)
    }

    #[test]
    fn points_are_all_combinations_with_keys_set() {
        let plan = plan(TEXT).unwrap();
        assert_eq!((plan.points.len(), plan.count()), (4, 12));
        assert_eq!(
            plan.points[1].label,
            "market.mechanism=uniform-price market.strategy=zero-intelligence"
        );
        assert!(plan.points.iter().all(|p| p.scenario.groups[0].homes == 6));
        for (from, to, expect) in [
            ("\"none\"", "\"nothing\"", "nothing"),
            (
                "groups.0.homes",
                "groups.7.homes",
                "7 is no place in the list",
            ),
            ("groups.0.homes", "groups.0.houses", "houses"),
            (
                "island-day",
                "atlantis",
                "neither a file nor a built-in scenario",
            ),
            ("count = 3", "count = 0", "seeds.count"),
            (
                "count = 3",
                "count = 4294967295",
                "runs are more than 1000000",
            ),
            ("\"none\"", "\"uniform-price\"", "is there twice"),
            ("[vary]", "[vari]", "vari"),
        ] {
            let error = self::plan(&TEXT.replace(from, to)).unwrap_err().to_string();
            assert!(
                error.contains(expect) && error.contains("small.toml") || from == "island-day",
                "{error}"
            );
        }
    }

    #[test]
    fn a_sweep_goes_on_where_it_was_and_jobs_change_nothing() {
        let out = std::env::temp_dir().join(format!("commonwatt-sweep-{}", std::process::id()));
        let plan = plan(TEXT).unwrap();
        let first = plan.run(&out, 1, &|_, _| ()).unwrap();
        let again = plan.run(&out, 2, &|_, _| ()).unwrap();
        assert_eq!((first.kept, again.kept), (0, 12));
        assert!(
            first.runs == again.runs,
            "kept results are not what was computed"
        );
        std::fs::remove_dir_all(out.join("small")).unwrap();
        let fresh = plan.run(&out, 3, &|_, _| ()).unwrap();
        std::fs::remove_dir_all(&out).unwrap();
        assert!(first.runs == fresh.runs, "jobs change results");
        let comparison = fresh.comparison().unwrap();
        assert_eq!(comparison.labels.len(), 4);
        let cost = comparison
            .rows
            .iter()
            .find(|row| row.name == "community_cost")
            .unwrap();
        assert_eq!(cost.groups[1].difference.unwrap().count, 3);
    }

    #[test]
    fn a_run_that_fails_stops_no_other() {
        let out = std::env::temp_dir().join(format!("commonwatt-failing-{}", std::process::id()));
        let text = TEXT.replace("[vary]", "\"faults.dead_meters\" = []\n[vary]").replace(
            "set = { \"groups.0.homes\" = 6 }\n\"faults.dead_meters\" = []\n[vary]",
            "set = { \"groups.0.homes\" = 6 }\n[vary]\n\"faults.dead_meters\" = [[], [{ home = \"nobody\", from_day = 0, days = 1 }]]",
        );
        let swept = plan(&text).unwrap().run(&out, 2, &|_, _| ()).unwrap();
        std::fs::remove_dir_all(&out).unwrap();
        assert_eq!(swept.runs.len(), 24);
        assert_eq!(swept.failed().count(), 12);
        assert!(swept.failed().all(|(_, why)| why.contains("nobody")));
        assert_eq!(
            swept.comparison().unwrap().labels.len(),
            8,
            "a point that failed is gone"
        );
    }

    #[test]
    fn a_network_of_a_file_is_swept() {
        let out = std::env::temp_dir().join(format!("commonwatt-wires-{}", std::process::id()));
        std::fs::create_dir_all(&out).unwrap();
        let network = r#"{"sn_mva":1.0,"nodes":[{"id":0,"base_kv":0.4},{"id":1,"base_kv":0.4}],
            "slack":{"node":0,"vm_pu":1.0},"branches":[{"id":1,"kind":"line","from_node":0,"to_node":1,
            "r_pu":0.05,"x_pu":0.02}]}"#;
        std::fs::write(out.join("net.json"), network).unwrap();
        let base = builtin::scenario("island-day").unwrap().unwrap();
        let text = base.to_toml().unwrap() + "\n[network]\nfile = \"net.json\"\n";
        std::fs::write(out.join("base.toml"), text).unwrap();
        let text = "name = \"wires\"\nscenario = \"base.toml\"\nseeds = { from = 1, count = 1 }\n\
            set = { \"groups.0.homes\" = 3 }\n";
        let plan = Plan::parse(&out.join("wires.toml"), text).unwrap();
        let swept = plan.run(&out, 1, &|_, _| ()).unwrap();
        std::fs::remove_dir_all(&out).unwrap();
        assert_eq!(swept.failed().count(), 0, "{:?}", swept.runs[0].error);
    }
}
