//! The wires of a run: voltages, loadings and losses beside the market, the same bytes whatever the threads.

use simulator::run::engine::Job;
use simulator::run::folder::{self, Finished, Request};
use simulator::run::network::NetworkScenario;
use simulator::run::plot::Figure;
use simulator::run::scenario::RunScenario;
use simulator::run::table::FileKind;
use simulator::run::{RunError, TableChoice};

const SITE: &str = "name = \"lane\"\nevidence = \"none\"\n\
    site = { latitude = 51.0, longitude = 10.0, start = \"2026-06-15\", days = 2, cloudiness = 0.2 }\n\
    [[groups]]\nprefix = \"home\"\nhomes = 12\nyearly_load_kwh = [3000, 5000]\npv_percent = 60\npv_peak_w = [8000, 9000]\n";

fn scenario(network: &str) -> RunScenario {
    RunScenario::parse("lane.toml", &format!("{SITE}{network}")).unwrap()
}

fn run(
    scenario: RunScenario,
    threads: usize,
    out: Option<&std::path::Path>,
) -> Result<Finished, RunError> {
    let request = Request {
        job: Job {
            scenario,
            seed: 3,
            prices: None,
        },
        tables: Some(TableChoice::None),
        kind: FileKind::Csv,
        threads,
        out: out.map(std::path::Path::to_owned),
    };
    folder::simulate(&request, &mut |_, _| ())
}

fn kpi(done: &Finished, name: &str) -> f64 {
    let found = done.kpis.iter().find(|kpi| kpi.name == name);
    found.unwrap_or_else(|| panic!("{name}")).value.unwrap()
}

#[test]
fn a_drawn_street_has_voltages_loadings_and_losses() {
    let out = tempfile::tempdir().unwrap();
    let street = "[network]\ntransformer_kva = 100\nfeeders = 1\ncable_m = 60\n";
    let done = run(scenario(street), 1, Some(out.path())).unwrap();
    let (low, high) = (kpi(&done, "voltage_min"), kpi(&done, "voltage_max"));
    assert!(
        0.8 < low && low < 1.0 && 1.0 < high && high < 1.2,
        "{low} {high}"
    );
    assert!(kpi(&done, "transformer_loading_max") > 10.0);
    // The iron of a transformer of 100 kVA alone takes 0.24 kW for 48 hours.
    assert!(kpi(&done, "network_losses") > 0.24 * 48.0 * 0.9);
    assert!(kpi(&done, "network_unsolved").abs() < 1e-12);
    let grid = done.outcome.grid.as_ref().unwrap();
    assert_eq!(
        (grid.rows.len(), grid.nodes.len(), grid.branches.len()),
        (192, 14, 13)
    );
    // Sun at noon lifts the far end above the near one.
    let mut noon = grid
        .nodes
        .iter()
        .filter_map(|node| node.range_pu)
        .map(|range| range[1]);
    let highest = noon.clone().fold(0.0, f64::max);
    assert!((noon.next_back().unwrap() - highest).abs() < 1e-9);
    let folder = done.folder.as_ref().unwrap();
    let text = std::fs::read_to_string(folder.join("grid.csv")).unwrap();
    assert!(text.lines().next().unwrap().contains("vm_min_pu"), "{text}");
    assert_eq!(text.lines().count(), 193);
    assert!(folder.join("grid_nodes.csv").exists() && folder.join("grid_branches.csv").exists());
    let report = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(report.contains("Lowest and highest voltage at the homes"));
    let again = run(scenario(street), 8, None).unwrap();
    assert_eq!(done.manifest.outcome_sha256, again.manifest.outcome_sha256);
    assert_eq!(done.kpis, again.kpis);
}

#[test]
fn wires_change_nothing_of_market_and_money() {
    let with = run(scenario("[network]\n"), 1, None).unwrap();
    let without = run(scenario(""), 1, None).unwrap();
    assert!(without.outcome.grid.is_none());
    assert!(!Figure::Voltage.applies(&without.outcome) && Figure::Voltage.applies(&with.outcome));
    assert_eq!(with.outcome.rows, without.outcome.rows);
    assert_eq!(with.outcome.sums, without.outcome.sums);
    assert!(
        without
            .kpis
            .iter()
            .all(|kpi| !kpi.name.starts_with("voltage"))
    );
}

#[test]
fn a_line_too_weak_for_its_homes_is_seen() {
    let weak = "[network]\ntransformer_kva = 5\nfeeders = 1\ncable_m = 9000\n";
    let done = run(scenario(weak), 1, None).unwrap();
    assert!(kpi(&done, "overload_hours") + kpi(&done, "network_unsolved") > 0.0);
    let grid = done.outcome.grid.as_ref().unwrap();
    let unsolved = grid.rows.iter().filter(|row| row.state.is_none()).count();
    assert!(unsolved > 0, "9 km between homes carry nothing");
}

const FILE: &str = r#"{"sn_mva":1,"nodes":[{"id":5,"base_kv":0.4},{"id":6,"base_kv":0.4},{"id":7,"base_kv":0.4}],
"slack":{"node":5,"vm_pu":1.01},"branches":[
{"id":1,"kind":"line","name":"Main Street","from_node":5,"to_node":6,"r_pu":0.1,"x_pu":0.05,"max_i_ka":0.2},
{"id":2,"kind":"line","from_node":6,"to_node":7,"r_pu":0.1,"x_pu":0.05}]}"#;

fn from_file(text: &str, more: &str) -> Result<Finished, RunError> {
    let mut scenario = scenario(&format!("[network]\nfile = \"lane.json\"\n{more}"));
    let network: &mut NetworkScenario = scenario.network.as_mut().unwrap();
    network
        .take_file(|name| {
            assert_eq!(name, "lane.json");
            Ok::<_, RunError>(text.to_owned())
        })
        .unwrap();
    run(scenario, 1, None)
}

#[test]
fn a_networks_file_becomes_part_of_the_scenario() {
    let done = from_file(FILE, "[network.nodes]\nhome-01 = 6\n").unwrap();
    let nodes = &done.outcome.grid.as_ref().unwrap().nodes;
    let homes: Vec<(u64, u32)> = nodes.iter().map(|node| (node.node, node.homes)).collect();
    // One is named, eleven are spread over nodes 6 and 7 in turn.
    assert_eq!(homes, [(5, 0), (6, 7), (7, 5)]);
    let other = from_file(&FILE.replace("\"r_pu\":0.1", "\"r_pu\":0.2"), "").unwrap();
    assert_ne!(done.manifest.run_id, other.manifest.run_id);
    for (text, more, expected) in [
        (
            FILE,
            "[network.nodes]\nhome-01 = 9\n",
            "lane.json: there is no node 9",
        ),
        (
            FILE,
            "[network.nodes]\nnobody = 6\n",
            "there is no home nobody",
        ),
        ("{}", "", "missing field `sn_mva`"),
        (
            &FILE.replace("\"to_node\":7", "\"to_node\":5"),
            "",
            "closes a loop",
        ),
    ] {
        let said = from_file(text, more).err().unwrap().to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_line() {
    for (network, expected) in [
        (
            "[network]\ncable_m = 0\n",
            "line 11: network.cable_m: 1 to 10000",
        ),
        ("[network]\nband_pu = [1.1, 0.9]\n", "network.band_pu"),
        ("[network]\ncables = 3\n", "unknown field `cables`"),
        (
            "[network]\n[network.nodes]\nhome-01 = 2\n",
            "network.nodes: needs a file",
        ),
    ] {
        let said = RunScenario::parse("lane.toml", &format!("{SITE}{network}")).unwrap_err();
        assert!(said.to_string().contains(expected), "{said}");
    }
}
