//! The runs of `commonwatt simulate`, as their folders say: what a run was made of, and its figures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use simulator::run::TableChoice;
use simulator::run::compare::{Comparison, Side, compare};
use simulator::run::folder::{self as run_folder, Request};
use simulator::run::kpis::Kpi;
use simulator::run::plot::Figure;
use simulator::run::scenario::Evidence;
use simulator::run::table::FileKind;

/// Most runs that are listed; the newest by name.
pub(crate) const RUNS_MAX: usize = 200;
/// Largest file of a run that is read.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// Longest name of a run's folder.
const NAME_MAX_BYTES: usize = 128;
/// Largest run, in intervals of all homes, that is run again to draw it: a few seconds.
const DRAWN_MAX: u64 = 20_000_000;

/// What a run was made of: the part of its manifest that the pages show.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) run_id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) seed: u64,
    pub(crate) scenario_sha256: String,
    pub(crate) mechanism: String,
    pub(crate) start: String,
    pub(crate) days: u32,
    pub(crate) zone: String,
    pub(crate) homes: u64,
    pub(crate) intervals: u64,
    pub(crate) outcome_sha256: String,
    #[serde(default)]
    pub(crate) measured: Option<Measured>,
    #[serde(default)]
    pub(crate) files: Vec<File>,
    #[serde(default)]
    pub(crate) kpis: Vec<Kpi>,
}

/// How fast it was.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Measured {
    pub(crate) wall_ms: u64,
}

/// A file of the run.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct File {
    pub(crate) file: String,
    pub(crate) bytes: u64,
    #[serde(default)]
    pub(crate) rows: Option<u64>,
}

/// A run with its folder's name.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) folder: String,
    pub(crate) manifest: Manifest,
}

/// A piece of a run's summary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Block {
    Heading(String),
    Text(String),
    List(Vec<String>),
    /// The head, and rows of as many cells.
    Table(Vec<String>, Vec<Vec<String>>),
}

/// The runs in a folder, newest first. What is no run is left out, and so is a folder that is not there.
pub(crate) fn runs(folder: &Path) -> Vec<Run> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_name(name))
        .collect();
    names.sort_unstable();
    let newest = names.into_iter().rev().take(RUNS_MAX);
    newest.filter_map(|name| run(folder, &name)).collect()
}

/// One run; `None` where there is none of this name.
pub(crate) fn run(folder: &Path, name: &str) -> Option<Run> {
    if !is_name(name) {
        return None;
    }
    let text = read(&folder.join(name).join("manifest.json"))?;
    Some(Run {
        folder: name.to_owned(),
        manifest: serde_json::from_str(&text).ok()?,
    })
}

/// Runs of one scenario that several seeds have drawn.
pub(crate) struct Family {
    /// The newest of them, which names the family.
    pub(crate) newest: Run,
    pub(crate) mechanisms: Vec<String>,
    pub(crate) seeds: usize,
    runs: Vec<Run>,
}

/// What runs have in common that are taken together.
fn family_of(run: &Run) -> (&str, &str, u32, u64, &str) {
    let m = &run.manifest;
    (&m.name, &m.start, m.days, m.homes, &m.version)
}

/// The families with more than one seed among runs that come newest first.
pub(crate) fn families(runs: &[Run]) -> Vec<Family> {
    let mut of: BTreeMap<_, Vec<Run>> = BTreeMap::new();
    for run in runs {
        of.entry(family_of(run)).or_default().push(run.clone());
    }
    let families = of.into_values().filter_map(|runs| {
        let seeds: BTreeSet<u64> = runs.iter().map(|run| run.manifest.seed).collect();
        let mechanisms: BTreeSet<&String> = runs.iter().map(|r| &r.manifest.mechanism).collect();
        Some(Family {
            newest: runs.first()?.clone(),
            mechanisms: mechanisms.into_iter().cloned().collect(),
            seeds: seeds.len(),
            runs,
        })
    });
    families.filter(|family| family.seeds > 1).collect()
}

impl Family {
    /// Mechanism beside mechanism over the seeds, and how many runs were left out because a newer one has the same
    /// mechanism and seed.
    pub(crate) fn compared(&self) -> Option<(Comparison, usize)> {
        let mut seen = BTreeSet::new();
        let mut sides = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let manifest = &run.manifest;
            if seen.insert((&manifest.mechanism, manifest.seed)) {
                sides.push(Side {
                    label: manifest.mechanism.clone(),
                    seed: manifest.seed,
                    kpis: manifest.kpis.clone(),
                });
            }
        }
        // The first mechanism, to which the others are held, is not a matter of which run came last.
        sides.sort_by(|a, b| a.label.cmp(&b.label));
        let left_out = self.runs.len() - sides.len();
        Some((compare(&sides).ok()?, left_out))
    }
}

/// A run's summary.
pub(crate) fn summary(folder: &Path, name: &str) -> Vec<Block> {
    if !is_name(name) {
        return Vec::new();
    }
    let text = read(&folder.join(name).join("summary.md"));
    text.map(|text| blocks(&text)).unwrap_or_default()
}

/// Why there is no picture.
#[derive(Debug)]
pub(crate) enum NotDrawn {
    /// There is no such run, or no such figure of it.
    Nothing,
    /// It would take too long here.
    TooLarge,
    /// The run cannot be repeated by this program.
    Other(String),
}

/// The figures of a run, by name, with what each shows; none where it is too large to be drawn here.
pub(crate) fn figures(run: &Run) -> impl Iterator<Item = (&'static str, &'static str)> {
    let count = run.manifest.homes.saturating_mul(run.manifest.intervals);
    let all = Figure::ALL.into_iter().filter(move |_| count <= DRAWN_MAX);
    // Only a run with wires has voltages, and the manifest does not say.
    all.filter(|figure| *figure != Figure::Voltage)
        .map(|figure| (figure.name(), figure.title()))
}

/// Draws a run: it is run again in memory, and has to come to the same.
pub(crate) fn draw(folder: &Path, name: &str, figure: &str) -> Result<String, NotDrawn> {
    let wanted = Figure::ALL.into_iter().find(|known| known.name() == figure);
    let wanted = wanted.ok_or(NotDrawn::Nothing)?;
    let run = run(folder, name).ok_or(NotDrawn::Nothing)?;
    if figures(&run).all(|(known, _)| known != wanted.name()) {
        return Err(NotDrawn::TooLarge);
    }
    let failed = |error: simulator::run::RunError| NotDrawn::Other(error.to_string());
    let (mut job, manifest) = run_folder::job(&folder.join(name)).map_err(failed)?;
    // Signatures change no figure, and take most of the time.
    job.scenario.evidence = Evidence::None;
    let request = Request {
        job,
        tables: Some(TableChoice::None),
        kind: FileKind::Csv,
        threads: 1,
        out: None,
    };
    let finished = run_folder::simulate(&request, &mut |_, _| {}).map_err(failed)?;
    if finished.manifest.outcome_sha256 != manifest.outcome_sha256 {
        let why = "this program comes to other sums than the run".to_owned();
        return Err(NotDrawn::Other(why));
    }
    Ok(wanted.svg(&finished.outcome))
}

/// The data dictionary of every run's tables.
pub(crate) fn dictionary() -> Vec<Block> {
    let text = simulator::run::tables::dictionary();
    // What stands before it is about reading files, and not for a page.
    let columns = text.find("## Columns").unwrap_or(0);
    blocks(&text[columns..])
}

/// A name that leads nowhere else.
fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty()
        && name.len() <= NAME_MAX_BYTES
        && !name.starts_with('.')
        && name.bytes().all(fits)
}

fn read(file: &Path) -> Option<String> {
    let size = std::fs::metadata(file).ok()?.len();
    if size > FILE_MAX_BYTES {
        return None;
    }
    std::fs::read_to_string(file).ok()
}

/// The pieces of a summary: headings, paragraphs, lists and tables are all that there is in one.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() {
            blocks.push(Block::Text(String::new()));
        } else if let Some(heading) = line.strip_prefix('#') {
            blocks.push(Block::Heading(plain(heading.trim_start_matches('#'))));
        } else if let Some(item) = line.strip_prefix("- ") {
            match blocks.last_mut() {
                Some(Block::List(items)) => items.push(plain(item)),
                _ => blocks.push(Block::List(vec![plain(item)])),
            }
        } else if line.starts_with('|') {
            row(&mut blocks, line);
        } else {
            match blocks.last_mut() {
                Some(Block::Text(text)) if !text.is_empty() => {
                    text.push(' ');
                    text.push_str(&plain(line));
                }
                _ => blocks.push(Block::Text(plain(line))),
            }
        }
    }
    blocks.retain(|block| *block != Block::Text(String::new()));
    blocks
}

fn row(blocks: &mut Vec<Block>, line: &str) {
    let inside = line.trim_matches('|');
    let cells: Vec<String> = inside.split('|').map(plain).collect();
    let is_rule = inside
        .bytes()
        .all(|b| matches!(b, b'-' | b':' | b'|' | b' '));
    match blocks.last_mut() {
        Some(Block::Table(..)) if is_rule => {}
        Some(Block::Table(head, rows)) => {
            let mut cells = cells;
            cells.resize(head.len(), String::new());
            rows.push(cells);
        }
        _ => blocks.push(Block::Table(cells, Vec::new())),
    }
}

/// Without the marks of emphasis and code.
fn plain(text: &str) -> String {
    text.trim().replace("**", "").replace(['*', '`'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_in_pieces() {
        let text = "# street · 7 days\n\nRun `ab`,\n96 intervals.\n\n| figure | this |\n|---|--:|\n| price | 13.2 |\n\
                    | share |\n\n## Checked\n\n- **a**: x\n- b\n";
        let s = str::to_owned;
        assert_eq!(
            blocks(text),
            [
                Block::Heading(s("street · 7 days")),
                Block::Text(s("Run ab, 96 intervals.")),
                Block::Table(
                    vec![s("figure"), s("this")],
                    vec![vec![s("price"), s("13.2")], vec![s("share"), s("")]]
                ),
                Block::Heading(s("Checked")),
                Block::List(vec![s("a: x"), s("b")]),
            ]
        );
    }

    #[test]
    fn a_name_leads_nowhere_else_and_what_is_no_run_is_left_out() {
        for bad in ["", "..", ".hidden", "a/b", "a\\b", "é"] {
            assert!(!is_name(bad), "{bad}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(runs(&path.join("none")).is_empty());
        for name in ["b_1", "a_2", "broken"] {
            std::fs::create_dir(path.join(name)).unwrap();
        }
        let manifest = r#"{"run_id":"x","name":"n","version":"0","seed":7,"scenario_sha256":"s","mechanism":"m",
            "start":"2026-01-01","days":1,"zone":"UTC","homes":10,"intervals":96,"outcome_sha256":"o"}"#;
        for name in ["b_1", "a_2"] {
            std::fs::write(path.join(name).join("manifest.json"), manifest).unwrap();
        }
        std::fs::write(path.join("broken").join("manifest.json"), "{").unwrap();
        let found: Vec<String> = runs(path).into_iter().map(|run| run.folder).collect();
        assert_eq!(found, ["b_1", "a_2"]);
        assert!(run(path, "../b_1").is_none() && summary(path, "b_1").is_empty());
    }
    #[test]
    fn runs_of_one_scenario_are_taken_together_over_their_seeds() {
        let run = |name: &str, mechanism: &str, seed: u64, value: f64| {
            let manifest = format!(
                r#"{{"run_id":"x","name":"{name}","version":"0","seed":{seed},"scenario_sha256":"s","mechanism":"{mechanism}",
                "start":"2026-01-01","days":1,"zone":"UTC","homes":10,"intervals":96,"outcome_sha256":"o","kpis":[{{"name":"saving",
                "value":{value},"netting_only":null,"no_market":null,"unit":"token","definition":"d"}}]}}"#
            );
            Run {
                folder: format!("{name}_{mechanism}_{seed}_{value}"),
                manifest: serde_json::from_str(&manifest).unwrap(),
            }
        };
        let runs = [
            run("a", "u", 1, 4.0),
            run("a", "u", 1, 99.0),
            run("a", "p", 2, 3.0),
            run("a", "u", 2, 6.0),
            run("a", "p", 1, 1.0),
            run("b", "u", 1, 0.0),
        ];
        let families = families(&runs);
        let [family] = families.as_slice() else {
            panic!("one scenario has more than one seed");
        };
        assert_eq!(
            (family.seeds, family.mechanisms.as_slice()),
            (2, ["p".to_owned(), "u".to_owned()].as_slice())
        );
        let (compared, left_out) = family.compared().unwrap();
        assert_eq!(
            (compared.labels, left_out),
            (vec!["p".to_owned(), "u".to_owned()], 1)
        );
        let difference = compared.rows[0].groups[1].difference.unwrap().mean;
        assert!((difference - 3.0).abs() < 1e-9, "{difference}");
        let means: Vec<f64> = compared.rows[0]
            .groups
            .iter()
            .map(|g| g.value.unwrap().mean)
            .collect();
        assert_eq!(means, [2.0, 5.0], "the newest run of a seed counts");
    }
}
