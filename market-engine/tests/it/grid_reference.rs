//! Power flow against what other programs found, from `shared/data/reference` beside the project, where it is there.

use std::path::{Path, PathBuf};

use market_engine::grid::document::{Document, Solved};
use serde_json::Value;

/// The reference file, or a sentence that says that it was not compared with.
fn reference(name: &str) -> Option<Vec<u8>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/reference");
    let file: PathBuf = data.join(name);
    match std::fs::read(&file) {
        Ok(text) => Some(text),
        Err(_) => {
            println!("skipped: {name} of shared/data/reference is not on this machine");
            None
        }
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn turned(degrees: f64) -> f64 {
    (degrees + 180.0).rem_euclid(360.0) - 180.0
}

/// Nodes, branches, losses and extremes of every case of a file.
fn compare(name: &str) {
    let Some(text) = reference(name) else {
        return;
    };
    let document = Document::from_json(&text).unwrap();
    let Solved::OnePhase(_, solved) = document.solve(None).unwrap() else {
        panic!("{name} has one phase");
    };
    let file: Value = serde_json::from_slice(&text).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), solved.len());
    let mut worst = 0.0_f64;
    for (case, (label, flow)) in cases.iter().zip(&solved) {
        let expected = &case["result"];
        for (vm, expected) in flow.vm_pu.iter().zip(numbers(&expected["vm_pu"])) {
            worst = worst.max((vm - expected).abs());
        }
        for (va, expected) in flow.va_deg.iter().zip(numbers(&expected["va_deg"])) {
            let off = turned(va - expected).abs();
            assert!(
                off < 1e-6,
                "{name}, {label}: {va} and not {expected} degrees"
            );
        }
        let branches = expected["branches"].as_array().unwrap();
        assert_eq!(branches.len(), flow.branches.len());
        for (branch, expected) in flow.branches.iter().zip(branches) {
            let pairs = [
                ("p_from_kw", branch.p_from_kw),
                ("q_from_kvar", branch.q_from_kvar),
                ("p_to_kw", branch.p_to_kw),
                ("q_to_kvar", branch.q_to_kvar),
                ("i_from_a", branch.i_from_a),
                ("i_to_a", branch.i_to_a),
                ("loading_percent", branch.loading_percent.unwrap()),
            ];
            for (key, found) in pairs {
                let wanted = number(&expected[key]);
                assert!(
                    (found - wanted).abs() < 2e-4,
                    "{name}, {label}, branch {}: {key} is {found} and not {wanted}",
                    branch.id
                );
            }
        }
        let losses = number(&expected["losses_kw"]);
        assert!((flow.losses_kw - losses).abs() <= 1e-5 + losses.abs() * 1e-4);
        assert!((flow.slack_p_kw - number(&expected["slack_p_kw"])).abs() < 1e-4);
        assert!((flow.slack_q_kvar - number(&expected["slack_q_kvar"])).abs() < 1e-4);
    }
    println!("{name}: voltages within {worst:.1e} p.u.");
    assert!(worst < 1e-6, "{name}: {worst}");
}

#[test]
fn two_bus_is_as_its_reference_says() {
    compare("dev_two_bus.json");
}

#[test]
fn cigre_lv_is_as_its_reference_says() {
    compare("dev_cigre_lv.json");
}

#[test]
fn kerber_dorfnetz_is_as_its_reference_says() {
    compare("dev_kerber_dorfnetz.json");
}

#[test]
fn simbench_rural1_is_as_its_reference_says() {
    compare("dev_simbench_1_LV_rural1_0_sw.json");
}

#[test]
fn simbench_semiurb4_is_as_its_reference_says() {
    compare("dev_simbench_1_LV_semiurb4_2_sw.json");
}

#[test]
fn ieee_european_lv_is_as_its_reference_says() {
    let name = "dev_ieee_european_lv_3ph_t720.json";
    let Some(text) = reference(name) else {
        return;
    };
    let document = Document::from_json(&text).unwrap();
    let Solved::ThreePhase(network, solved) = document.solve(Some("720")).unwrap() else {
        panic!("{name} has three phases");
    };
    let file: Value = serde_json::from_slice(&text).unwrap();
    let expected = &file["cases"][0]["result"];
    let flow = &solved[0].1;
    let buses: Vec<u64> = serde_json::from_value(expected["buses"].clone()).unwrap();
    assert_eq!(buses, flow.buses);
    let mut worst = 0.0_f64;
    for (found, key) in [(&flow.v_re, "v_re"), (&flow.v_im, "v_im")] {
        let wanted: Vec<[f64; 3]> = serde_json::from_value(expected[key].clone()).unwrap();
        let off = found.iter().flatten().zip(wanted.iter().flatten());
        worst = off.fold(worst, |worst, (a, b)| worst.max((a - b).abs()));
    }
    let worst_pu = worst / network.base_v_ln;
    println!("{name}: voltages within {worst_pu:.1e} p.u.");
    assert!(worst_pu < 1e-6, "{worst_pu}");
}
