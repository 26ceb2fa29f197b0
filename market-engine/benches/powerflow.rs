//! Power flow: 35,136 quarter hours of a year in a network of 129 nodes, all voltages and losses, on one core.
//!
//! `cargo bench -p market-engine --bench powerflow` makes a low-voltage network and a year of loads by a formula, solves
//! it once from a flat start and once with each quarter hour beginning at the voltages of the one before, and prints both
//! beside one reading of the same loads and one writing of the same results. Times are processor time of the thread.
//! The tolerance is looser than the library's own; the largest error against a solution at the library's tolerance is printed.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench may fail, and prints ratios"
)]

#[allow(dead_code, reason = "the other benches use the rest")]
mod support;

use market_engine::grid::Solver;
use market_engine::grid::network::{Branch, Kind, Loads, Network, Node, Slack};
use support::{Random, median_ns};

/// Nodes, the slack among them.
const NODES: usize = 129;
/// Quarter hours of a leap year.
const STEPS: usize = 35_136;
/// Change of the last sweep that is good enough for 1e-6 p.u.
const TOLERANCE_PU: f64 = 3e-7;
/// Rounds of which the median is printed.
const ROUNDS: usize = 5;

/// A number from 0 to 1.
fn share(random: &mut Random) -> f64 {
    random.below(1 << 30) as f64 / f64::from(1_u32 << 30)
}

/// A transformer of 400 kVA and eight feeders of 15 or 16 nodes with cables of 20 to 60 m.
fn network(random: &mut Random) -> Network {
    let mut branches = vec![Branch {
        kind: Kind::Trafo,
        g_pu: 0.001,
        b_pu: -0.002,
        shift_deg: 150.0,
        sn_mva: Some(0.4),
        vn_hv_kv: Some(20.0),
        vn_lv_kv: Some(0.4),
        ..Branch::line(0, 0, 1, 0.03, 0.1)
    }];
    for node in 2..u64::try_from(NODES).unwrap() {
        let parent = if node < 10 { 1 } else { node - 8 };
        let km = 0.02 + 0.04 * share(random);
        let mut line = Branch::line(node, parent, node, km * 0.2067 / 0.16, km * 0.08 / 0.16);
        line.b_pu = km * 4e-5;
        line.max_i_ka = Some(0.27);
        branches.push(line);
    }
    let base_kv = |id| if id == 0 { 20.0 } else { 0.4 };
    let node = |id| Node {
        id,
        base_kv: base_kv(id),
    };
    Network {
        name: "bench".to_owned(),
        sn_mva: 1.0,
        nodes: (0..u64::try_from(NODES).unwrap()).map(node).collect(),
        slack: Slack {
            node: 0,
            vm_pu: 1.02,
            va_deg: 0.0,
        },
        branches,
        cases: Vec::new(),
    }
}

/// A year of homes with a daily swing, noise of their own, and sun at noon.
fn year(random: &mut Random) -> Vec<Loads> {
    let size: Vec<f64> = (0..NODES).map(|_| 0.5 + share(random)).collect();
    let sun: Vec<f64> = (0..NODES)
        .map(|_| if random.below(3) == 0 { 5.0 } else { 0.0 })
        .collect();
    let step = |k: usize| {
        let hour = (k % 96) as f64 / 4.0;
        let swing = 0.6 + 0.5 * ((hour - 19.0) / 24.0 * std::f64::consts::TAU).cos();
        let noon = ((hour - 12.0) / 12.0 * std::f64::consts::PI).cos().max(0.0);
        let season = 0.6 - 0.4 * (k as f64 / STEPS as f64 * std::f64::consts::TAU).cos();
        let mut p_kw = vec![0.0; NODES];
        for node in 2..NODES {
            let own = 0.5 + share(random);
            p_kw[node] = 2.0 * (size[node] * swing * own - sun[node] * noon * season);
        }
        let q_kvar = p_kw.iter().map(|p| 0.1 * p.abs()).collect();
        Loads { p_kw, q_kvar }
    };
    (0..STEPS).map(step).collect()
}

/// Solves the year into `voltages` and `losses`; the mean number of sweeps.
fn solve(
    solver: &mut Solver,
    year: &[Loads],
    warm: bool,
    voltages: &mut [f64],
    losses: &mut [f64],
) -> f64 {
    let mut sweeps = 0_u64;
    solver.start_flat();
    let rows = voltages.chunks_exact_mut(NODES).zip(losses);
    for (loads, (row, loss)) in year.iter().zip(rows) {
        if !warm {
            solver.start_flat();
        }
        sweeps += u64::from(solver.solve(loads).unwrap());
        solver.write_vm_pu(row);
        *loss = solver.losses_kw();
    }
    sweeps as f64 / year.len() as f64
}

fn main() {
    let mut random = Random(42);
    let network = network(&mut random);
    let year = year(&mut random);
    let mut exact = vec![0.0; NODES * STEPS];
    let mut voltages = vec![0.0; NODES * STEPS];
    let mut losses = vec![0.0; STEPS];
    let tight = Solver::new(&network).unwrap();
    solve(&mut tight.clone(), &year, false, &mut exact, &mut losses);
    let bytes = (STEPS * NODES * 3 + STEPS) * size_of::<f64>();
    let memory = median_ns(
        ROUNDS,
        || (),
        |()| {
            let read = |sum: f64, l: &Loads| {
                let parts = l.p_kw.iter().zip(&l.q_kvar);
                parts.fold(sum, |sum, (p, q)| sum + p + q)
            };
            let sum = year.iter().fold(0.0, read);
            voltages.fill(sum);
            losses.fill(sum);
        },
    );
    println!(
        "{NODES} nodes, {STEPS} power flows, {} MB of loads and results",
        bytes / 1_000_000
    );
    println!("one pass over the same bytes: {:.0} ms", memory / 1e6);
    for warm in [false, true] {
        let mut solver = tight.clone().with_tolerance_pu(TOLERANCE_PU);
        let mut sweeps = 0.0;
        let took = median_ns(
            ROUNDS,
            || (),
            |()| {
                sweeps = solve(&mut solver, &year, warm, &mut voltages, &mut losses);
            },
        );
        let off = exact
            .iter()
            .zip(&voltages)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        let (low, high) = voltages
            .iter()
            .fold((2.0_f64, 0.0_f64), |(l, h), v| (l.min(*v), h.max(*v)));
        println!(
            "{}: {:.0} ms, {:.2} us a power flow, {:.0} a second, {sweeps:.1} sweeps each, \
             {:.1} times the pass, largest error {off:.1e} p.u., voltages {low:.3} to {high:.3}",
            if warm { "warm start" } else { "flat start" },
            took / 1e6,
            took / 1e3 / STEPS as f64,
            STEPS as f64 / took * 1e9,
            took / memory,
        );
        assert!(off < 1e-6, "not within 1e-6 p.u.");
    }
}
