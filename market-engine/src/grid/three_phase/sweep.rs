//! Backward–forward sweep for three phases: made once for a network, used for any number of loads.

use serde::Serialize;

use super::{Impedance, ThreePhase, ThreePhaseLoads, unknown};
use crate::grid::complex::Complex;
use crate::grid::error::{GridError, finite};
use crate::grid::tree::{Edge, Labels, Step, order};
use crate::grid::{SWEEPS_MAX, TOLERANCE_PU};

/// A three-phase network in the order of its sweep.
#[derive(Clone, Debug)]
pub struct ThreePhaseSolver {
    network: ThreePhase,
    buses: Vec<u64>,
    steps: Vec<Step>,
    /// Impedance of the line that feeds the bus, in ohm.
    z: Vec<Impedance>,
    /// Place in the sweep and phase of every load.
    loads: Vec<(usize, usize)>,
    load_va: Vec<Complex>,
    v: Vec<[Complex; 3]>,
    j: Vec<[Complex; 3]>,
    sweeps: u32,
    started: bool,
}

/// The state of a three-phase network under one set of loads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThreePhaseFlow {
    /// The buses, in rising order.
    pub buses: Vec<u64>,
    /// Real parts of the phase-to-neutral voltages in V.
    pub v_re: Vec<[f64; 3]>,
    /// Imaginary parts.
    pub v_im: Vec<[f64; 3]>,
    /// Magnitudes in p.u. of the network's base.
    pub vm_pu: Vec<[f64; 3]>,
    /// Angles in degrees.
    pub va_deg: Vec<[f64; 3]>,
    /// Flow through every line, in the order of the file.
    pub branches: Vec<LineFlow>,
    /// What the slack feeds in.
    pub slack_p_kw: f64,
    /// What the slack feeds in.
    pub slack_q_kvar: f64,
    /// What all lines take.
    pub losses_kw: f64,
    /// The lowest voltage of any phase.
    pub vm_min: f64,
    /// The highest voltage of any phase.
    pub vm_max: f64,
    /// The largest negative-sequence voltage of any bus, in percent of its positive-sequence voltage.
    pub max_unbalance_percent: f64,
    /// The loading of the line that is loaded most; none where no line has a rating.
    pub max_line_loading_percent: Option<f64>,
    /// Sweeps that were needed.
    pub sweeps: u32,
}

/// What flows through a line, by phase; power is positive where it flows into the line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LineFlow {
    /// Bus at the from side.
    pub from_bus: u64,
    /// Bus at the to side.
    pub to_bus: u64,
    /// Active power into the from side.
    pub p_from_kw: [f64; 3],
    /// Reactive power into the from side.
    pub q_from_kvar: [f64; 3],
    /// Active power into the to side.
    pub p_to_kw: [f64; 3],
    /// Reactive power into the to side.
    pub q_to_kvar: [f64; 3],
    /// Currents.
    pub i_a: [f64; 3],
    /// The largest current's share of the rating; none where there is none.
    pub loading_percent: Option<f64>,
}

struct Named<'a>(&'a ThreePhase, &'a [u64]);

impl Labels for Named<'_> {
    fn node(&self, place: usize) -> String {
        format!("bus {}", self.1[place])
    }

    fn edge(&self, place: usize) -> String {
        self.0.line_label(place)
    }
}

impl ThreePhaseSolver {
    /// Checks the network and puts it in order.
    ///
    /// # Errors
    /// A number is none, a bus or line code is not there, or the network is not radial.
    pub fn new(network: &ThreePhase) -> Result<ThreePhaseSolver, GridError> {
        network.check()?;
        let buses = network.buses();
        let place = |at: &str, bus: u64| {
            let found = buses.binary_search(&bus);
            found.map_err(|_| unknown(at, "bus", bus.to_string()))
        };
        let root = place("slack", network.slack()?)?;
        let mut edges = Vec::with_capacity(network.lines.len());
        for (from, to, ..) in &network.lines {
            edges.push(Edge {
                from: place("line", *from)?,
                to: place("line", *to)?,
                closed: true,
            });
        }
        let steps = order(buses.len(), root, &edges, &Named(network, &buses))?;
        let mut in_sweep = vec![0; buses.len()];
        let mut z = vec![[[Complex::ZERO; 3]; 3]; buses.len()];
        for (at, step) in steps.iter().enumerate() {
            in_sweep[step.node] = at;
            if let Some(edge) = step.edge {
                z[at] = line_ohm(network, edge)?;
            }
        }
        let mut loads = Vec::with_capacity(network.loads.len());
        for (name, bus, phase) in &network.loads {
            let at = in_sweep[place(name, *bus)?];
            loads.push((at, usize::from(*phase) - 1));
        }
        Ok(ThreePhaseSolver {
            load_va: vec![Complex::ZERO; loads.len()],
            v: vec![[Complex::ZERO; 3]; buses.len()],
            j: vec![[Complex::ZERO; 3]; buses.len()],
            network: network.clone(),
            buses,
            steps,
            z,
            loads,
            sweeps: 0,
            started: false,
        })
    }

    /// The network that is solved.
    #[must_use]
    pub const fn network(&self) -> &ThreePhase {
        &self.network
    }

    /// Forgets what was found: the next power flow begins with the slack's voltages everywhere.
    pub const fn start_flat(&mut self) {
        self.started = false;
    }

    /// Finds the voltages under these loads, beginning with those found last. Allocates nothing where it succeeds.
    ///
    /// # Errors
    /// A load is no number, or the network cannot carry the loads; then the next one begins anew.
    pub fn solve(&mut self, loads: &ThreePhaseLoads) -> Result<u32, GridError> {
        super::same_length(
            "the loads",
            "load_va",
            loads.load_va.len(),
            self.loads.len(),
        )?;
        for (own, load) in self.load_va.iter_mut().zip(&loads.load_va) {
            *own = Complex::new(
                finite("the loads", "load_va", load.re)?,
                finite("the loads", "load_va", load.im)?,
            );
        }
        if !self.started {
            self.v.fill(loads.slack_v);
            self.started = true;
        }
        let least = TOLERANCE_PU * self.network.base_v_ln;
        for sweep in 1..=SWEEPS_MAX {
            self.backward();
            let change = self.forward(&loads.slack_v);
            if !self.j[0].iter().all(|current| current.is_finite()) {
                return Err(self.diverged(sweep));
            }
            if change <= least * least {
                self.sweeps = sweep;
                return Ok(sweep);
            }
        }
        Err(self.diverged(SWEEPS_MAX))
    }

    fn backward(&mut self) {
        self.j.fill([Complex::ZERO; 3]);
        for ((at, phase), load) in self.loads.iter().zip(&self.load_va) {
            self.j[*at][*phase] += (*load / self.v[*at][*phase]).conj();
        }
        for at in (1..self.steps.len()).rev() {
            let through = self.j[at];
            let above = &mut self.j[self.steps[at].parent];
            for phase in 0..3 {
                above[phase] += through[phase];
            }
        }
    }

    /// The largest change of a voltage, squared.
    fn forward(&mut self, slack_v: &[Complex; 3]) -> f64 {
        let mut largest = 0.0_f64;
        self.v[0] = *slack_v;
        for at in 1..self.steps.len() {
            let (above, through, z) = (self.v[self.steps[at].parent], self.j[at], &self.z[at]);
            for phase in 0..3 {
                let row = &z[phase];
                let drop = row[0] * through[0] + row[1] * through[1] + row[2] * through[2];
                let now = above[phase] - drop;
                largest = largest.max((now - self.v[at][phase]).norm2());
                self.v[at][phase] = now;
            }
        }
        largest
    }

    fn diverged(&mut self, sweeps: u32) -> GridError {
        let size = |at: &usize| {
            let least = |least: f64, v: &Complex| least.min(v.abs());
            let vm = self.v[*at].iter().fold(f64::INFINITY, least) / self.network.base_v_ln;
            if vm.is_finite() { vm } else { 0.0 }
        };
        let lowest = (0..self.steps.len())
            .min_by(|a, b| size(a).total_cmp(&size(b)))
            .unwrap_or(0);
        let error = GridError::Diverged {
            case: String::new(),
            sweeps,
            node: format!("bus {}", self.buses[self.steps[lowest].node]),
            vm_pu: size(&lowest),
        };
        self.started = false;
        error
    }

    /// Everything about the last power flow.
    #[must_use]
    pub fn flow(&self) -> ThreePhaseFlow {
        let mut v = vec![[Complex::ZERO; 3]; self.buses.len()];
        for (at, step) in self.steps.iter().enumerate() {
            v[step.node] = self.v[at];
        }
        let mut branches: Vec<(usize, LineFlow)> = (1..self.steps.len())
            .filter_map(|at| Some((self.steps[at].edge?, self.line_flow(at)?)))
            .collect();
        branches.sort_by_key(|(edge, _)| *edge);
        let branches: Vec<LineFlow> = branches.into_iter().map(|(_, flow)| flow).collect();
        let powers = |v: &[Complex; 3], j: &[Complex; 3]| {
            let of_phase = |(v, j): (&Complex, &Complex)| *v * j.conj();
            let sum = v.iter().zip(j).map(of_phase);
            sum.fold(Complex::ZERO, |sum, power| sum + power)
        };
        let slack = powers(&self.v[0], &self.j[0]);
        let base_v = self.network.base_v_ln;
        let vm_pu: Vec<[f64; 3]> = v.iter().map(|v| v.map(|v| v.abs() / base_v)).collect();
        let all = || vm_pu.iter().flatten().copied();
        let losses = |flow: &LineFlow| flow.p_from_kw.iter().chain(&flow.p_to_kw).sum::<f64>();
        ThreePhaseFlow {
            buses: self.buses.clone(),
            v_re: v.iter().map(|v| v.map(|v| v.re)).collect(),
            v_im: v.iter().map(|v| v.map(|v| v.im)).collect(),
            va_deg: v.iter().map(|v| v.map(Complex::degrees)).collect(),
            slack_p_kw: slack.re / 1e3,
            slack_q_kvar: slack.im / 1e3,
            losses_kw: branches.iter().map(losses).sum(),
            vm_min: all().fold(f64::INFINITY, f64::min),
            vm_max: all().fold(0.0, f64::max),
            max_unbalance_percent: v.iter().map(unbalance_percent).fold(0.0, f64::max),
            max_line_loading_percent: branches
                .iter()
                .filter_map(|flow| flow.loading_percent)
                .reduce(f64::max),
            vm_pu,
            branches,
            sweeps: self.sweeps,
        }
    }

    /// The flow through the line that feeds a bus.
    fn line_flow(&self, at: usize) -> Option<LineFlow> {
        let step = self.steps[at];
        let (from_bus, to_bus, _, code) = self.network.lines.get(step.edge?)?;
        let (above, below, through) = (self.v[step.parent], self.v[at], self.j[at]);
        let (mut near, mut far, mut i_a) = ([Complex::ZERO; 3], [Complex::ZERO; 3], [0.0; 3]);
        for phase in 0..3 {
            near[phase] = (above[phase] * through[phase].conj()).scale(1e-3);
            far[phase] = -(below[phase] * through[phase].conj()).scale(1e-3);
            i_a[phase] = through[phase].abs();
        }
        let (from, to) = if step.along { (near, far) } else { (far, near) };
        let most_a = self.network.line_codes.get(code)?.max_i_a;
        let largest = i_a.iter().copied().fold(0.0, f64::max);
        Some(LineFlow {
            from_bus: *from_bus,
            to_bus: *to_bus,
            p_from_kw: from.map(|s| s.re),
            q_from_kvar: from.map(|s| s.im),
            p_to_kw: to.map(|s| s.re),
            q_to_kvar: to.map(|s| s.im),
            i_a,
            loading_percent: most_a.map(|most_a| 100.0 * largest / most_a),
        })
    }
}

/// The impedance of a whole line.
fn line_ohm(network: &ThreePhase, edge: usize) -> Result<Impedance, GridError> {
    let (_, _, length_m, name) = &network.lines[edge];
    let at = network.line_label(edge);
    let code = network.line_codes.get(name);
    let code = code.ok_or_else(|| unknown(&at, "line code", name.clone()))?;
    let per_m = code.impedance(name)?;
    Ok(per_m.map(|row| row.map(|z| z.scale(*length_m))))
}

/// Negative-sequence voltage in percent of the positive-sequence voltage. Which of the two turns which way is told
/// by their size, so that it does not matter whether phases are numbered clockwise.
fn unbalance_percent(v: &[Complex; 3]) -> f64 {
    let (a, aa) = (Complex::polar(1.0, 120.0), Complex::polar(1.0, -120.0));
    let one = (v[0] + a * v[1] + aa * v[2]).abs();
    let other = (v[0] + aa * v[1] + a * v[2]).abs();
    100.0 * one.min(other) / one.max(other)
}
