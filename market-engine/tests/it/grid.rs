//! Power flow against closed forms, and against the equations it must fulfil.

use market_engine::grid::complex::Complex;
use market_engine::grid::network::{Branch, Case, Kind, Loads, Name, Network, Node, Slack};
use market_engine::grid::three_phase::{
    LineCode, ThreePhase, ThreePhaseCase, ThreePhaseSolver, kron_reduce,
};
use market_engine::grid::{Flow, Solver};
use proptest::prelude::*;

/// Nodes 0 to `count` - 1, the first one is the slack.
pub(crate) fn network(count: u64, branches: Vec<Branch>) -> Network {
    Network {
        name: "made here".to_owned(),
        sn_mva: 1.0,
        nodes: (0..count).map(|id| Node { id, base_kv: 0.4 }).collect(),
        slack: Slack {
            node: 0,
            vm_pu: 1.0,
            va_deg: 0.0,
        },
        branches,
        cases: Vec::new(),
    }
}

pub(crate) fn loads(network: &Network, p_kw: &[f64], q_kvar: &[f64]) -> Loads {
    let mut loads = Loads::none(network);
    loads.p_kw.copy_from_slice(p_kw);
    loads.q_kvar.copy_from_slice(q_kvar);
    loads
}

fn solved(network: &Network, p_kw: &[f64], q_kvar: &[f64]) -> Flow {
    let mut solver = Solver::new(network).unwrap();
    solver.solve(&loads(network, p_kw, q_kvar)).unwrap();
    solver.flow()
}

/// The voltage at the end of one line, in closed form: |V|² = ½[b + √(b² − 4 |S|² |Z|²)], b = 1 − 2(RP + XQ).
fn end_of_line(r: f64, x: f64, p: f64, q: f64) -> f64 {
    let b = 1.0 - 2.0 * (r * p + x * q);
    let root = (b * b - 4.0 * (p * p + q * q) * (r * r + x * x)).sqrt();
    (0.5 * (b + root)).sqrt()
}

#[test]
fn one_line_is_as_its_closed_form_says() {
    for (r, x, p_kw, q_kvar) in [
        (1.0, 0.21875, 20.0, 5.0),
        (1.0, 0.21875, -30.0, 0.0),
        (0.05, 0.3, 400.0, -100.0),
        (0.4, 0.1, 500.0, 40.0),
    ] {
        let net = network(2, vec![Branch::line(7, 0, 1, r, x)]);
        let flow = solved(&net, &[0.0, p_kw], &[0.0, q_kvar]);
        let expected = end_of_line(r, x, p_kw / 1e3, q_kvar / 1e3);
        assert!(
            (flow.vm_pu[1] - expected).abs() < 1e-9,
            "{} and {expected}",
            flow.vm_pu[1]
        );
        let square = ((p_kw * p_kw + q_kvar * q_kvar) / 1e6) / (expected * expected);
        assert!((flow.losses_kw - square * r * 1e3).abs() < 1e-6);
        assert!((flow.branches[0].p_to_kw + p_kw).abs() < 1e-6);
        let backwards = network(2, vec![Branch::line(7, 1, 0, r, x)]);
        let other = solved(&backwards, &[0.0, p_kw], &[0.0, q_kvar]);
        assert!((other.vm_pu[1] - expected).abs() < 1e-9);
        assert!((other.branches[0].p_from_kw + p_kw).abs() < 1e-6);
    }
}

#[test]
fn a_tap_divides_the_voltage_and_a_shift_turns_it() {
    let mut branch = Branch::line(1, 0, 1, 0.01, 0.04);
    (branch.ratio, branch.shift_deg) = (1.05, 150.0);
    let flow = solved(&network(2, vec![branch.clone()]), &[0.0, 0.0], &[0.0, 0.0]);
    assert!((flow.vm_pu[1] - 1.0 / 1.05).abs() < 1e-12);
    assert!((flow.va_deg[1] + 150.0).abs() < 1e-9);
    (branch.from_node, branch.to_node) = (1, 0);
    let flow = solved(&network(2, vec![branch]), &[0.0, 0.0], &[0.0, 0.0]);
    assert!((flow.vm_pu[1] - 1.05).abs() < 1e-12);
    assert!((flow.va_deg[1] - 150.0).abs() < 1e-9);
}

#[test]
fn a_transformer_that_stands_idle_takes_what_its_iron_takes() {
    let mut branch = Branch::line(1, 0, 1, 0.03, 0.09);
    (branch.kind, branch.g_pu, branch.b_pu) = (Kind::Trafo, 0.001, -0.002);
    (branch.g_asym_pu, branch.b_asym_pu) = (0.0001, 0.0);
    let flow = solved(&network(2, vec![branch]), &[0.0, 0.0], &[0.0, 0.0]);
    // The far shunt g = 0.00055, b = -0.001 hangs behind 0.03 + 0.09j: a voltage divider.
    let far = Complex::new(0.000_55, -0.001);
    let expected = Complex::ONE / (Complex::ONE + far * Complex::new(0.03, 0.09));
    assert!((flow.vm_pu[1] - expected.abs()).abs() < 1e-12);
    let current = far * expected;
    let losses = 0.0005 + (current * expected.conj()).re + current.norm2() * 0.03;
    assert!(
        (flow.losses_kw - losses * 1e3).abs() < 1e-8,
        "{}",
        flow.losses_kw
    );
}

#[test]
fn loading_is_a_share_of_the_rating() {
    let mut line = Branch::line(1, 1, 2, 0.05, 0.02);
    (line.max_i_ka, line.parallel) = (Some(0.1), Some(2.0));
    let mut trafo = Branch::line(2, 0, 1, 0.01, 0.04);
    trafo.kind = Kind::Trafo;
    (trafo.sn_mva, trafo.vn_hv_kv, trafo.vn_lv_kv) = (Some(0.16), Some(20.0), Some(0.4));
    let mut net = network(3, vec![line, trafo]);
    net.nodes[0].base_kv = 20.0;
    let flow = solved(&net, &[0.0, 0.0, 80.0], &[0.0; 3]);
    let amperes = 80.0 / (3.0_f64.sqrt() * 0.4 * flow.vm_pu[2]);
    let line = flow.branches[0];
    assert!((line.i_to_a - amperes).abs() < 1e-6);
    assert!((line.loading_percent.unwrap() - amperes / 2.0).abs() < 1e-6);
    let trafo = flow.branches[1];
    assert!((trafo.i_from_a * 50.0 - trafo.i_to_a).abs() < 1e-6);
    let share = 100.0 * amperes * 3.0_f64.sqrt() * 0.4 / 160.0;
    assert!((trafo.loading_percent.unwrap() - share).abs() < 1e-6);
    assert_eq!(flow.max_trafo_loading_percent, trafo.loading_percent);
    let mut solver = Solver::new(&net).unwrap();
    solver
        .solve(&loads(&net, &[0.0, 0.0, 80.0], &[0.0; 3]))
        .unwrap();
    let mut percent = [9.0; 2];
    solver.write_loading_percent(&mut percent);
    assert_eq!(
        percent.map(Some),
        [line.loading_percent, trafo.loading_percent]
    );
}

#[test]
fn an_open_branch_carries_nothing() {
    let mut open = Branch::line(9, 2, 0, 0.1, 0.1);
    (open.in_service, open.max_i_ka) = (false, Some(0.2));
    let net = network(
        3,
        vec![
            Branch::line(1, 0, 1, 0.1, 0.1),
            Branch::line(2, 1, 2, 0.1, 0.1),
            open,
        ],
    );
    let flow = solved(&net, &[0.0, 10.0, 10.0], &[0.0; 3]);
    let radial = network(3, net.branches[..2].to_vec());
    let same = solved(&radial, &[0.0, 10.0, 10.0], &[0.0; 3]);
    assert_eq!(flow.vm_pu, same.vm_pu);
    assert_eq!(
        (flow.branches[2].p_from_kw, flow.branches[2].loading_percent),
        (0.0, Some(0.0))
    );
}

#[test]
fn what_was_solved_before_does_not_matter_beyond_the_tolerance() {
    let line = |id| Branch::line(id, id - 1, id, 0.1, 0.05);
    let net = network(9, (1..9).map(line).collect());
    let mut solver = Solver::new(&net).unwrap();
    let heavy = loads(&net, &[20.0; 9], &[5.0; 9]);
    let light = loads(&net, &[1.0; 9], &[0.0; 9]);
    let cold = solver.solve(&light).unwrap();
    let first = solver.flow();
    assert!(
        solver.solve(&light).unwrap() < cold,
        "a warm start takes fewer sweeps"
    );
    solver.solve(&heavy).unwrap();
    solver.solve(&light).unwrap();
    for (a, b) in first.vm_pu.iter().zip(&solver.flow().vm_pu) {
        assert!((a - b).abs() < 1e-10);
    }
    solver.start_flat();
    solver.solve(&light).unwrap();
    assert_eq!(first, solver.flow(), "a flat start forgets everything");
}

/// A radial network with everything that a branch can have, and its loads.
fn any_network() -> impl Strategy<Value = (Network, Vec<f64>, Vec<f64>)> {
    let part = (
        any::<prop::sample::Index>(),
        any::<bool>(),
        (0.001..0.08_f64, -0.01..0.08_f64),
        (0.0..0.002_f64, -0.002..0.002_f64),
        (0.0..0.0005_f64, -0.0005..0.0005_f64),
        (
            0.95..1.05_f64,
            prop::sample::select(vec![0.0, 30.0, 150.0, -60.0]),
        ),
        (-15.0..25.0_f64, -5.0..8.0_f64),
    );
    prop::collection::vec(part, 1..25).prop_map(|parts| {
        let count = u64::try_from(parts.len()).unwrap() + 1;
        let (mut p_kw, mut q_kvar, mut branches) = (vec![0.0], vec![0.0], Vec::new());
        for (id, (above, along, z, shunt, asym, turn, load)) in (1..).zip(parts) {
            let parent = u64::try_from(above.index(usize::try_from(id).unwrap())).unwrap();
            let (from, to) = if along { (parent, id) } else { (id, parent) };
            let mut branch = Branch::line(1000 - id, from, to, z.0, z.1);
            (branch.g_pu, branch.b_pu) = shunt;
            (branch.g_asym_pu, branch.b_asym_pu) = asym;
            (branch.ratio, branch.shift_deg) = turn;
            branches.push(branch);
            p_kw.push(load.0);
            q_kvar.push(load.1);
        }
        let mut net = network(count, branches);
        (net.slack.vm_pu, net.slack.va_deg) = (1.02, 12.5);
        (net, p_kw, q_kvar)
    })
}

/// Currents into both ends of a branch by its admittances, as the format defines them.
fn by_admittance(branch: &Branch, from: Complex, to: Complex) -> (Complex, Complex) {
    let y = Complex::ONE / Complex::new(branch.r_pu, branch.x_pu);
    let turn = Complex::polar(branch.ratio, branch.shift_deg);
    let at_from = Complex::new(branch.g_pu, branch.b_pu).scale(0.5);
    let at_to = Complex::new(
        branch.g_pu + branch.g_asym_pu,
        branch.b_pu + branch.b_asym_pu,
    );
    let at_to = at_to.scale(0.5);
    let into_from = (y + at_from).scale(1.0 / turn.norm2()) * from - y / turn.conj() * to;
    let into_to = (y + at_to) * to - y / turn * from;
    (into_from, into_to)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Kirchhoff's law at every node, by the admittances of the format and not by anything of the sweep.
    #[test]
    fn power_balances_at_every_node((net, p_kw, q_kvar) in any_network()) {
        let flow = solved(&net, &p_kw, &q_kvar);
        let v: Vec<Complex> = flow
            .vm_pu
            .iter()
            .zip(&flow.va_deg)
            .map(|(vm, va)| Complex::polar(*vm, *va))
            .collect();
        let at = |id: u64| usize::try_from(id).unwrap();
        let mut into = vec![Complex::ZERO; v.len()];
        for (branch, told) in net.branches.iter().zip(&flow.branches) {
            let (from, to) = (at(branch.from_node), at(branch.to_node));
            let (i_from, i_to) = by_admittance(branch, v[from], v[to]);
            let (s_from, s_to) = (v[from] * i_from.conj(), v[to] * i_to.conj());
            into[from] += s_from;
            into[to] += s_to;
            for (told, found) in [
                (told.p_from_kw, s_from.re), (told.q_from_kvar, s_from.im),
                (told.p_to_kw, s_to.re), (told.q_to_kvar, s_to.im),
            ] {
                prop_assert!((told - found * 1e3).abs() < 1e-5, "{told} and {found}");
            }
        }
        for node in 1..v.len() {
            prop_assert!((into[node].re * 1e3 + p_kw[node]).abs() < 1e-5);
            prop_assert!((into[node].im * 1e3 + q_kvar[node]).abs() < 1e-5);
        }
        prop_assert!((into[0].re * 1e3 - flow.slack_p_kw).abs() < 1e-5);
        let all_loads: f64 = p_kw.iter().sum();
        prop_assert!((flow.slack_p_kw - all_loads - flow.losses_kw).abs() < 1e-5);
        prop_assert!(flow.losses_kw >= 0.0);
        prop_assert!((v[0].degrees() - 12.5).abs() < 1e-9);
    }

    /// Twice a tiny load makes twice the drop.
    #[test]
    fn tiny_loads_add_up((net, p_kw, q_kvar) in any_network()) {
        let tiny = |by: f64| {
            let of = |list: &[f64]| list.iter().map(|x| x * by).collect::<Vec<_>>();
            solved(&net, &of(&p_kw), &of(&q_kvar)).vm_pu
        };
        let (none, one, two) = (tiny(0.0), tiny(1e-4), tiny(2e-4));
        for node in 0..none.len() {
            let (drop, twice) = (one[node] - none[node], two[node] - none[node]);
            prop_assert!((twice - 2.0 * drop).abs() < 1e-8);
        }
    }

    /// Three phases with balanced loads and no coupling are three times one phase.
    #[test]
    fn balanced_phases_are_each_like_one(
        r in 0.02..0.3_f64, x in 0.0..0.2_f64, p_w in -2000.0..4000.0_f64, q_var in -500.0..800.0_f64,
    ) {
        let mut three = three_phase(r, x, [[0.0; 2]; 3]);
        three.cases[0].loads_kw = vec![p_w / 1e3; 3];
        three.cases[0].loads_kvar = Some(vec![q_var / 1e3; 3]);
        let mut solver = ThreePhaseSolver::new(&three).unwrap();
        solver.solve(&three.loads(0).unwrap()).unwrap();
        let flow = solver.flow();
        let base_va = 1000.0;
        let base_ohm = 230.0 * 230.0 / base_va;
        let expected = end_of_line(r / base_ohm, x / base_ohm, p_w / base_va, q_var / base_va);
        for phase in 0..3 {
            prop_assert!((flow.vm_pu[1][phase] - expected).abs() < 1e-9);
        }
        prop_assert!(flow.max_unbalance_percent < 1e-6);
    }
}

/// One line of 1 m with self impedance r + jx and the mutual impedances given, one load on each phase.
fn three_phase(r: f64, x: f64, mutual: [[f64; 2]; 3]) -> ThreePhase {
    let matrix = |own: f64, part: usize| {
        let [ab, bc, ca] = mutual.map(|z| z[part]);
        vec![vec![own, ab, ca], vec![ab, own, bc], vec![ca, bc, own]]
    };
    let code = LineCode {
        r_ohm_per_m: matrix(r, 0),
        x_ohm_per_m: matrix(x, 1),
        max_i_a: Some(100.0),
    };
    let slack_v_ln = [0.0, -120.0, 120.0].map(|degrees| {
        let v = Complex::polar(230.0, degrees);
        [v.re, v.im]
    });
    ThreePhase {
        name: "made here".to_owned(),
        base_v_ln: 230.0,
        slack_bus: None,
        line_codes: [("code".to_owned(), code)].into(),
        lines: vec![(1, 2, 1.0, "code".to_owned())],
        loads: (1..=3)
            .map(|phase| (format!("load{phase}"), 2, phase))
            .collect(),
        power_factor: None,
        cases: vec![ThreePhaseCase {
            case: Some(Name::Word("only".to_owned())),
            minute: None,
            slack_v_ln,
            loads_kw: vec![0.0; 3],
            loads_kvar: None,
        }],
    }
}

#[test]
fn a_load_on_one_phase_moves_the_others_by_their_coupling() {
    let mut net = three_phase(0.2, 0.1, [[0.05, 0.02], [0.05, 0.02], [0.05, 0.02]]);
    net.cases[0].loads_kw = vec![3.0, 0.0, 0.0];
    net.cases[0].loads_kvar = Some(vec![0.0; 3]);
    let mut solver = ThreePhaseSolver::new(&net).unwrap();
    solver.solve(&net.loads(0).unwrap()).unwrap();
    let flow = solver.flow();
    let v = |phase: usize| Complex::new(flow.v_re[1][phase], flow.v_im[1][phase]);
    let current = (Complex::new(3000.0, 0.0) / v(0)).conj();
    let slack = |degrees| Complex::polar(230.0, degrees);
    for (phase, degrees, z) in [
        (0, 0.0, Complex::new(0.2, 0.1)),
        (1, -120.0, Complex::new(0.05, 0.02)),
        (2, 120.0, Complex::new(0.05, 0.02)),
    ] {
        assert!((v(phase) - (slack(degrees) - z * current)).abs() < 1e-6);
    }
    assert!((flow.losses_kw - (flow.slack_p_kw - 3.0)).abs() < 1e-9);
    assert!((flow.losses_kw - current.norm2() * 0.2 / 1e3).abs() < 1e-9);
    assert!(flow.max_unbalance_percent > 0.1);
    assert!((flow.max_line_loading_percent.unwrap() - current.abs()).abs() < 1e-9);
}

#[test]
fn loads_lag_by_the_power_factor_where_no_reactive_power_is_named() {
    let mut net = three_phase(0.2, 0.1, [[0.0; 2]; 3]);
    net.cases[0].loads_kw = vec![1.0, 2.0, 0.0];
    let q = |net: &ThreePhase| net.loads(0).unwrap().load_va[1].im;
    assert!((q(&net) - 2000.0 * 0.95_f64.acos().tan()).abs() < 1e-9);
    net.power_factor = Some(1.0);
    assert!(q(&net).abs() < 1e-12);
}

#[test]
fn a_neutral_is_reduced_away() {
    // Own impedance 0.4 ohm, 0.1 ohm between any two wires: every entry loses 0.1 · 0.1 / 0.4.
    let z = |own: f64, other: f64| {
        let mut z = [[Complex::new(other, 0.0); 4]; 4];
        for (place, row) in z.iter_mut().enumerate() {
            row[place] = Complex::new(own, 0.0);
        }
        z
    };
    let reduced = kron_reduce(&z(0.4, 0.1));
    assert!((reduced[0][0].re - 0.375).abs() < 1e-12);
    assert!((reduced[0][1].re - 0.075).abs() < 1e-12);
    let rows = |own: f64, other: f64| {
        let row = |at: usize| (0..4).map(|n| if n == at { own } else { other }).collect();
        (0..4).map(row).collect::<Vec<Vec<f64>>>()
    };
    let mut net = three_phase(0.2, 0.1, [[0.0; 2]; 3]);
    net.line_codes.get_mut("code").unwrap().r_ohm_per_m = rows(0.4, 0.1);
    net.line_codes.get_mut("code").unwrap().x_ohm_per_m = rows(0.0, 0.0);
    net.cases[0].loads_kw = vec![2.0, 0.0, 0.0];
    net.power_factor = Some(1.0);
    let mut solver = ThreePhaseSolver::new(&net).unwrap();
    solver.solve(&net.loads(0).unwrap()).unwrap();
    let expected = 230.0 * end_of_line(0.375 / 52.9, 0.0, 2.0, 0.0);
    let found = solver.flow().vm_pu[1][0] * 230.0;
    assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
}

#[test]
fn cases_of_a_file_are_read_with_feed_in_taken_off() {
    let mut net = network(2, vec![Branch::line(1, 0, 1, 0.1, 0.1)]);
    net.cases.push(Case {
        case: Name::Number(5),
        loads_node_p_kw_q_kvar: vec![(1, 3.0, 1.0), (1, 2.0, 0.5)],
        gens_node_p_kw_q_kvar: vec![(1, 7.0, 0.25)],
    });
    let text = serde_json::to_vec(&net).unwrap();
    let read = Network::from_json(&text).unwrap();
    let mut found = Loads::none(&read);
    read.loads(&read.cases[0], &read.places().unwrap(), &mut found)
        .unwrap();
    assert_eq!((found.p_kw[1], found.q_kvar[1]), (-2.0, 1.25));
    assert_eq!(read.cases[0].case.to_string(), "5");
}
