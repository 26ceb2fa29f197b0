//! `commonwatt powerflow` as a person runs it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::demo::program;

const NETWORK: &str = r#"{"name":"lane","sn_mva":1.0,
"nodes":[{"id":10,"base_kv":0.4},{"id":4,"base_kv":0.4}],
"slack":{"node":10,"vm_pu":1.0,"va_deg":0.0},
"branches":[{"id":3,"kind":"line","name":"Main Street","from_node":10,"to_node":4,"r_pu":1.0,"x_pu":0.21875,"max_i_ka":0.2,"parallel":1}],
"cases":[{"case":"load","loads_node_p_kw_q_kvar":[[4,20.0,5.0]],"gens_node_p_kw_q_kvar":[]},
         {"case":"pv","loads_node_p_kw_q_kvar":[],"gens_node_p_kw_q_kvar":[[4,30.0,0.0]]}]}"#;

fn powerflow(network: &str, extra: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("network.json");
    std::fs::write(&file, network).unwrap();
    Command::new(program())
        .arg("powerflow")
        .arg(&file)
        .args(extra)
        .output()
        .unwrap()
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_case_is_printed_in_node_order() {
    let out = powerflow(NETWORK, &["--format", "json"]);
    assert!(out.status.success(), "{}", shown(&out.stderr));
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let cases = told["cases"].as_array().unwrap();
    assert_eq!(
        (cases[0]["case"].as_str(), cases[1]["case"].as_str()),
        (Some("load"), Some("pv"))
    );
    let result = &cases[0]["result"];
    // The closed form of one line: ½[b + √(b² − 4 |S|² |Z|²)] with b = 1 − 2(RP + XQ).
    let b = 1.0_f64 - 2.0 * (0.020 + 0.21875 * 0.005);
    let root = (b * b - 4.0 * (0.02 * 0.02 + 0.005 * 0.005) * (1.0 + 0.21875 * 0.21875)).sqrt();
    let expected = (0.5 * (b + root)).sqrt();
    assert_eq!(result["vm_pu"][0], 1.0);
    assert!((result["vm_pu"][1].as_f64().unwrap() - expected).abs() < 1e-9);
    assert_eq!(result["branches"][0]["id"], 3);
    let losses = result["branches"][0]["p_from_kw"].as_f64().unwrap() - 20.0;
    assert!((result["losses_kw"].as_f64().unwrap() - losses).abs() < 1e-6);
    assert!(cases[1]["result"]["vm_pu"][1].as_f64().unwrap() > 1.0);
}

#[test]
fn one_case_is_printed_as_csv_and_as_a_table() {
    let out = powerflow(NETWORK, &["--case", "pv", "--format", "csv"]);
    let text = shown(&out.stdout);
    assert!(
        text.starts_with("case,node,vm_pu,va_deg\npv,10,1,0\npv,4,1.029"),
        "{text}"
    );
    let out = powerflow(NETWORK, &["--format", "csv", "--part", "branches"]);
    assert_eq!(shown(&out.stdout).lines().count(), 3);
    let out = powerflow(NETWORK, &["--case", "load"]);
    let text = shown(&out.stdout);
    assert!(
        text.contains("losses 0.444 kW") && text.contains("Main Street"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_solved_is_told_and_nothing_is_printed() {
    let looped = NETWORK.replace(
        "\"branches\":[",
        "\"branches\":[{\"id\":9,\"kind\":\"line\",\"name\":\"Back Lane\",\"from_node\":4,\"to_node\":10,\"r_pu\":1,\"x_pu\":1},",
    );
    for (network, extra, code, expected) in [
        (looped.as_str(), &[][..], 2, "closes a loop"),
        (
            &NETWORK.replace("20.0,5.0", "2000.0,5.0"),
            &[],
            1,
            "case load: no voltages",
        ),
        (
            &NETWORK.replace("\"r_pu\":1.0", "\"r_pu\":NaN"),
            &[],
            2,
            "line 4, column",
        ),
        (
            NETWORK,
            &["--case", "night"],
            2,
            "there is no case night; there are: load, pv",
        ),
    ] {
        let out = powerflow(network, extra);
        let said = shown(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert!(
            said.contains(expected) && said.contains("network.json"),
            "{said}"
        );
        assert!(out.stdout.is_empty());
    }
}
