//! Networks that cannot be solved say which branch, node or number it is.

use market_engine::grid::document::Document;
use market_engine::grid::network::{Branch, Loads};
use market_engine::grid::{GridError, Solver};

use crate::grid::{loads, network};

fn refused(branches: Vec<Branch>, count: u64) -> String {
    Solver::new(&network(count, branches))
        .unwrap_err()
        .to_string()
}

fn line(id: u64, from: u64, to: u64) -> Branch {
    let mut line = Branch::line(id, from, to, 0.1, 0.05);
    line.name = format!("Cable {id}");
    line
}

#[test]
fn a_loop_names_the_branch_that_closes_it() {
    let said = refused(vec![line(1, 0, 1), line(2, 1, 2), line(3, 2, 0)], 3);
    assert!(
        said.contains("closes a loop") && said.contains("Cable"),
        "{said}"
    );
    let said = refused(vec![line(1, 0, 1), line(2, 1, 0)], 2);
    assert!(said.contains("branch 2 (Cable 2) closes a loop"), "{said}");
    let said = refused(vec![line(1, 0, 1), line(2, 1, 1)], 2);
    assert!(said.contains("branch 2 (Cable 2) closes a loop"), "{said}");
}

#[test]
fn an_island_names_a_node_and_the_open_branch() {
    let said = refused(vec![line(1, 0, 1), line(2, 2, 3)], 4);
    assert!(said.contains("node 2 has no way to the slack"), "{said}");
    let mut open = line(5, 1, 2);
    open.in_service = false;
    let said = refused(vec![line(1, 0, 1), open, line(2, 2, 3)], 4);
    assert!(
        said.contains("node 2") && said.contains("branch 5 (Cable 5) is open"),
        "{said}"
    );
}

#[test]
fn numbers_that_cannot_be_are_named() {
    let with = |change: &dyn Fn(&mut Branch)| {
        let mut branch = line(4, 0, 1);
        change(&mut branch);
        refused(vec![branch], 2)
    };
    for (said, expected) in [
        (with(&|b| b.r_pu = f64::NAN), "r_pu is NaN"),
        (with(&|b| b.b_asym_pu = f64::INFINITY), "b_asym_pu is inf"),
        (with(&|b| b.ratio = 0.0), "ratio is 0"),
        (with(&|b| b.max_i_ka = Some(-1.0)), "max_i_ka is -1"),
        (with(&|b| (b.r_pu, b.x_pu) = (0.0, 0.0)), "has no impedance"),
        (with(&|b| b.to_node = 17), "node 17 is not in the network"),
    ] {
        assert!(
            said.contains("branch 4 (Cable 4)") && said.contains(expected),
            "{said}"
        );
    }
    let mut net = network(2, vec![line(1, 0, 1)]);
    net.slack.node = 8;
    let said = Solver::new(&net).unwrap_err().to_string();
    assert!(
        said.contains("slack: node 8 is not in the network"),
        "{said}"
    );
    (net.slack.node, net.slack.vm_pu) = (0, f64::NAN);
    assert!(
        Solver::new(&net)
            .unwrap_err()
            .to_string()
            .contains("vm_pu is NaN")
    );
    net.slack.vm_pu = 1.0;
    net.nodes[1].id = 0;
    assert!(
        Solver::new(&net)
            .unwrap_err()
            .to_string()
            .contains("node 0 is there twice")
    );
}

#[test]
fn loads_that_are_no_numbers_are_named() {
    let net = network(2, vec![line(1, 0, 1)]);
    let mut solver = Solver::new(&net).unwrap();
    let said = solver
        .solve(&loads(&net, &[0.0, f64::NAN], &[0.0; 2]))
        .unwrap_err();
    assert!(
        said.to_string().contains("load of node 1: p_kw is NaN"),
        "{said}"
    );
    let mut short = Loads::none(&net);
    short.q_kvar.pop();
    let said = solver.solve(&short).unwrap_err().to_string();
    assert!(
        said.contains("q_kvar has 1 entries, but must have 2"),
        "{said}"
    );
}

#[test]
fn more_than_a_network_can_carry_is_an_error_and_the_next_case_is_not_spoilt() {
    let net = network(3, vec![line(1, 0, 1), line(2, 1, 2)]);
    let mut solver = Solver::new(&net).unwrap();
    let fine = loads(&net, &[0.0, 10.0, 10.0], &[0.0; 3]);
    solver.solve(&fine).unwrap();
    let before = solver.flow();
    for p_kw in [2_000.0, 1e9, 1e200] {
        let error = solver
            .solve(&loads(&net, &[0.0, 0.0, p_kw], &[0.0; 3]))
            .unwrap_err();
        let GridError::Diverged { node, .. } = &error else {
            panic!("{error}");
        };
        assert!(node.starts_with("node "), "{error}");
        let said = error.in_case("evening").to_string();
        assert!(
            said.contains("case evening") && said.contains("more than this network"),
            "{said}"
        );
    }
    solver.solve(&fine).unwrap();
    for (a, b) in before.vm_pu.iter().zip(&solver.flow().vm_pu) {
        assert!((a - b).abs() < 1e-9);
    }
}

fn file(text: &str) -> String {
    let read = Document::from_json(text.as_bytes());
    read.and_then(|document| document.solve(None).map(drop))
        .unwrap_err()
        .to_string()
}

const TWO: &str = r#"{"sn_mva":1,"nodes":[{"id":0,"base_kv":0.4},{"id":1,"base_kv":0.4}],
"slack":{"node":0,"vm_pu":1},"branches":[{"id":1,"kind":"line","from_node":0,"to_node":1,"r_pu":1,"x_pu":0.2}],
"cases":[{"case":"a","loads_node_p_kw_q_kvar":[[1,20,5]]}]}"#;

#[test]
fn files_of_one_phase_say_what_is_wrong_with_them() {
    assert!(
        Document::from_json(TWO.as_bytes())
            .unwrap()
            .solve(Some("a"))
            .is_ok()
    );
    for (from, to, expected) in [
        ("\"r_pu\":1", "\"r_pu\":NaN", "line 2, column"),
        ("\"r_pu\":1", "\"r_pu\":1e999", "out of range"),
        ("\"r_pu\":1,", "", "missing field `r_pu`"),
        (
            "\"r_pu\":1",
            "\"r_pu\":\"big\"",
            "invalid type: string \"big\"",
        ),
        (
            "[[1,20,5]]",
            "[[3,20,5]]",
            "case a, loads_node_p_kw_q_kvar: node 3 is not in the network",
        ),
        ("[[1,20,5]]", "[[1,20]]", "invalid length 2"),
        ("\"cases\"", "\"casses\"", "unknown key `casses`"),
        ("\"nodes\"", "\"buses\"", "missing field `nodes`"),
        ("[1,20,5]", "[1,20000,5]", "case a: no voltages were found"),
    ] {
        let said = file(&TWO.replacen(from, to, 1));
        assert!(said.contains(expected), "{to}: {said}");
    }
    let said = Document::from_json(TWO.as_bytes())
        .unwrap()
        .solve(Some("b"))
        .unwrap_err();
    assert_eq!(said.to_string(), "there is no case b; there are: a");
    assert!(file("{}").contains("this is no network"));
    assert!(file("[1,2").contains("line 1"));
}

const THREE: &str = r#"{"base_v_ln":230,"line_codes":{"c":{"r_ohm_per_m":[[1,0,0],[0,1,0],[0,0,1]],
"x_ohm_per_m":[[0,0,0],[0,0,0],[0,0,0]]}},"lines":[[1,2,0.1,"c"],[2,3,0.1,"c"]],"loads":[["l",3,1]],
"cases":[{"slack_v_ln":[[230,0],[-115,-199.2],[-115,199.2]],"loads_kw":[1]}]}"#;

#[test]
fn files_of_three_phases_say_what_is_wrong_with_them() {
    assert!(
        Document::from_json(THREE.as_bytes())
            .unwrap()
            .solve(Some("1"))
            .is_ok()
    );
    for (from, to, expected) in [
        (
            "[2,3,0.1,\"c\"]",
            "[2,3,0.1,\"d\"]",
            "line 2-3: line code d is not in the network",
        ),
        (
            "[2,3,0.1,\"c\"]",
            "[2,3,0,\"c\"]",
            "line 2-3: length_m is 0",
        ),
        (
            "[2,3,0.1,\"c\"]",
            "[2,1,0.1,\"c\"]",
            "load l: bus 3 is not in the network",
        ),
        (
            "[2,3,0.1,\"c\"]",
            "[4,3,0.1,\"c\"]",
            "no line ends at bus 1, and none at bus 4",
        ),
        (
            "\"loads_kw\":[1]",
            "\"loads_kw\":[1,2]",
            "case 1: loads_kw has 2 entries, but must have 1",
        ),
        (
            "[\"l\",3,1]",
            "[\"l\",9,1]",
            "load l: bus 9 is not in the network",
        ),
        (
            "[2,3,0.1,\"c\"]",
            "[2,3,0.1,\"c\"],[3,1,1,\"c\"]",
            "at every bus a line ends",
        ),
        ("[\"l\",3,1]", "[\"l\",3,4]", "load l: phase is 4"),
        ("[[1,0,0],", "[[0,0,0],", "line code c has no impedance"),
        (
            "[[1,0,0],",
            "[[1,0],",
            "line code c: r_ohm_per_m has 2 entries, but must have 3",
        ),
        ("[[230,0],", "[[0,0],", "slack_v_ln is 0"),
        (
            "\"loads_kw\":[1]",
            "\"loads_kw\":[900000]",
            "case 1: no voltages were found",
        ),
        (
            "\"base_v_ln\":230",
            "\"base_v_ln\":230,\"power_factor\":2",
            "power_factor is 2",
        ),
        (
            "\"base_v_ln\":230",
            "\"base_v_ln\":230,\"slack_bus\":5",
            "bus 1 has no way to the slack",
        ),
        (
            "\"base_v_ln\":230",
            "\"base_v_ln\":230,\"power_facto\":1",
            "the network: unknown key `power_facto`",
        ),
        (
            "\"x_ohm_per_m\":",
            "\"max_i\":1,\"x_ohm_per_m\":",
            "line code c: unknown key `max_i`",
        ),
        (
            "\"loads_kw\":[1]",
            "\"loads_kw\":[1],\"load_kvar\":[1]",
            "unknown key `load_kvar`",
        ),
    ] {
        let said = file(&THREE.replacen(from, to, 1));
        assert!(said.contains(expected), "{to}: {said}");
    }
    let looped = THREE.replacen("[2,3,0.1,\"c\"]", "[2,3,0.1,\"c\"],[1,3,0.1,\"c\"]", 1);
    let said = file(&looped);
    assert!(said.contains("closes a loop"), "{said}");
}
