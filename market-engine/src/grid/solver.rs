//! Backward–forward sweep for one phase: made once for a network, used for any number of loads.
//!
//! In a radial network every ideal transformer can be taken out beforehand: all below it is referred to its other
//! side. Voltages are divided by the ratios (and turned back by the shifts) on the way from the slack,
//! impedances by the ratios' squares; powers stay what they are. What is left to sweep is a tree of series impedances with a
//! shunt and a load at each node. Ratios and shifts come back in when results are read, so a shift of 150
//! degrees costs nothing and cannot make a sweep diverge.

use super::complex::Complex;
use super::error::{GridError, finite};
use super::flow::{BranchFlow, Flow};
use super::network::{Branch, Kind, Loads, Network, known};
use super::tree::{Edge, Labels, Step, order};
use super::{SWEEPS_MAX, TOLERANCE_PU};

/// A network in the order of its sweep; every list has one entry for each node.
#[derive(Clone, Debug)]
pub struct Solver {
    network: Network,
    steps: Vec<Step>,
    /// Place in the sweep, by place in the network.
    places: Vec<usize>,
    parent: Vec<usize>,
    z_re: Vec<f64>,
    z_im: Vec<f64>,
    y_re: Vec<f64>,
    y_im: Vec<f64>,
    /// What a referred voltage is multiplied by to be the node's own.
    own: Vec<Complex>,
    /// The own voltage's magnitude by the referred one's.
    own_abs: Vec<f64>,
    p: Vec<f64>,
    q: Vec<f64>,
    u_re: Vec<f64>,
    u_im: Vec<f64>,
    /// Current through the branch that feeds the node.
    j_re: Vec<f64>,
    j_im: Vec<f64>,
    slack: Complex,
    tolerance_pu: f64,
    sweeps: u32,
}

struct Named<'a>(&'a Network);

impl Labels for Named<'_> {
    fn node(&self, place: usize) -> String {
        format!("node {}", self.0.nodes[place].id)
    }

    fn edge(&self, place: usize) -> String {
        self.0.branches[place].label()
    }
}

impl Solver {
    /// Checks the network and puts it in order.
    ///
    /// # Errors
    /// A number is none, a node is not there, or the network is not radial.
    pub fn new(network: &Network) -> Result<Solver, GridError> {
        network.check()?;
        let places = network.places()?;
        let mut edges = Vec::with_capacity(network.branches.len());
        for branch in &network.branches {
            edges.push(Edge {
                from: known(&places, &branch.label(), branch.from_node)?,
                to: known(&places, &branch.label(), branch.to_node)?,
                closed: branch.in_service,
            });
        }
        let root = known(&places, "slack", network.slack.node)?;
        let steps = order(network.nodes.len(), root, &edges, &Named(network))?;
        let mut solver = Solver::empty(network, steps);
        solver.refer();
        solver.start_flat();
        Ok(solver)
    }

    fn empty(network: &Network, steps: Vec<Step>) -> Solver {
        let count = steps.len();
        let zeros = || vec![0.0; count];
        let mut places = vec![0; count];
        for (place, step) in steps.iter().enumerate() {
            places[step.node] = place;
        }
        Solver {
            parent: steps.iter().map(|step| step.parent).collect(),
            places,
            steps,
            z_re: zeros(),
            z_im: zeros(),
            y_re: zeros(),
            y_im: zeros(),
            own: vec![Complex::ONE; count],
            own_abs: vec![1.0; count],
            p: zeros(),
            q: zeros(),
            u_re: zeros(),
            u_im: zeros(),
            j_re: zeros(),
            j_im: zeros(),
            slack: Complex::polar(network.slack.vm_pu, 0.0),
            tolerance_pu: TOLERANCE_PU,
            sweeps: 0,
            network: network.clone(),
        }
    }

    /// Takes the ideal transformers out.
    fn refer(&mut self) {
        for place in 1..self.steps.len() {
            let Step {
                parent,
                edge,
                along,
                ..
            } = self.steps[place];
            let Some(branch) = edge.map(|edge| &self.network.branches[edge]) else {
                continue;
            };
            let [at_from, at_to] = shunts(branch);
            let turn = Complex::polar(branch.ratio, branch.shift_deg);
            // Magnitudes go by the ratios alone: no sine or cosine of the platform is in what is swept.
            let (above, above_abs) = (self.own[parent], self.own_abs[parent]);
            let (own, own_abs) = if along {
                (above / turn, above_abs / branch.ratio)
            } else {
                (above * turn, above_abs * branch.ratio)
            };
            let inner_abs = if along { own_abs } else { above_abs };
            let square = inner_abs * inner_abs;
            self.own[place] = own;
            self.own_abs[place] = own_abs;
            self.z_re[place] = branch.r_pu / square;
            self.z_im[place] = branch.x_pu / square;
            let (near, far) = if along {
                (at_from, at_to)
            } else {
                (at_to, at_from)
            };
            for (node, shunt) in [(parent, near), (place, far)] {
                self.y_re[node] += shunt.re * square;
                self.y_im[node] += shunt.im * square;
            }
        }
    }

    /// The network that is solved.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// Another tolerance than [`TOLERANCE_PU`], for those who would rather be quick.
    #[must_use]
    pub const fn with_tolerance_pu(mut self, tolerance_pu: f64) -> Solver {
        self.tolerance_pu = tolerance_pu;
        self
    }

    /// Forgets what was found: the next power flow begins with the slack's voltage everywhere, and so does not depend on what
    /// was solved before.
    pub fn start_flat(&mut self) {
        self.u_re.fill(self.slack.re);
        self.u_im.fill(self.slack.im);
    }

    /// Finds the voltages under these loads, beginning with those found last. Allocates nothing where it succeeds.
    ///
    /// # Errors
    /// A load is no number, or the network cannot carry the loads; then the next one begins anew.
    pub fn solve(&mut self, loads: &Loads) -> Result<u32, GridError> {
        self.take(loads)?;
        let square = self.tolerance_pu * self.tolerance_pu;
        for sweep in 1..=SWEEPS_MAX {
            self.currents();
            self.backward();
            let change = self.forward();
            let carried = self.j_re[0].is_finite() && self.j_im[0].is_finite();
            if carried && change <= square {
                self.sweeps = sweep;
                return Ok(sweep);
            }
            if !carried {
                return Err(self.diverged(sweep));
            }
        }
        Err(self.diverged(SWEEPS_MAX))
    }

    /// Loads into the order of the sweep, in p.u.
    fn take(&mut self, loads: &Loads) -> Result<(), GridError> {
        for (key, list) in [("p_kw", &loads.p_kw), ("q_kvar", &loads.q_kvar)] {
            if list.len() != self.steps.len() {
                return Err(GridError::Length {
                    at: "the loads".to_owned(),
                    key,
                    found: list.len(),
                    expected: self.steps.len(),
                });
            }
        }
        let unit = 1.0 / (self.network.sn_mva * 1e3);
        let mut sum = 0.0;
        for (place, step) in self.steps.iter().enumerate() {
            let (p, q) = (loads.p_kw[step.node] * unit, loads.q_kvar[step.node] * unit);
            self.p[place] = p;
            self.q[place] = q;
            sum += (p + q) * 0.0;
        }
        if sum.is_nan() {
            for (node, (p, q)) in loads.p_kw.iter().zip(&loads.q_kvar).enumerate() {
                let at = || format!("load of {}", Named(&self.network).node(node));
                finite(&at(), "p_kw", *p)?;
                finite(&at(), "q_kvar", *q)?;
            }
        }
        Ok(())
    }

    /// Each node's own current: its load at the present voltage, and its shunt.
    fn currents(&mut self) {
        let count = self.steps.len();
        let (p, q) = (&self.p[..count], &self.q[..count]);
        let (y_re, y_im) = (&self.y_re[..count], &self.y_im[..count]);
        let (u_re, u_im) = (&self.u_re[..count], &self.u_im[..count]);
        let (j_re, j_im) = (&mut self.j_re[..count], &mut self.j_im[..count]);
        for n in 0..count {
            let inverse = 1.0 / (u_re[n] * u_re[n] + u_im[n] * u_im[n]);
            // conj(S / U) + y U, both as something times U
            let (a, b) = (p[n] * inverse + y_re[n], y_im[n] - q[n] * inverse);
            j_re[n] = a * u_re[n] - b * u_im[n];
            j_im[n] = a * u_im[n] + b * u_re[n];
        }
    }

    /// Adds the currents up towards the slack.
    fn backward(&mut self) {
        for n in (1..self.steps.len()).rev() {
            let parent = self.parent[n];
            self.j_re[parent] += self.j_re[n];
            self.j_im[parent] += self.j_im[n];
        }
    }

    /// Takes the voltage drops off from the slack on; the largest change, squared.
    fn forward(&mut self) -> f64 {
        let mut largest = 0.0_f64;
        self.u_re[0] = self.slack.re;
        self.u_im[0] = self.slack.im;
        for n in 1..self.steps.len() {
            let parent = self.parent[n];
            let (j_re, j_im) = (self.j_re[n], self.j_im[n]);
            let (z_re, z_im) = (self.z_re[n], self.z_im[n]);
            let re = self.u_re[parent] - (z_re * j_re - z_im * j_im);
            let im = self.u_im[parent] - (z_re * j_im + z_im * j_re);
            let (d_re, d_im) = (re - self.u_re[n], im - self.u_im[n]);
            largest = largest.max(d_re * d_re + d_im * d_im);
            self.u_re[n] = re;
            self.u_im[n] = im;
        }
        largest
    }

    fn diverged(&mut self, sweeps: u32) -> GridError {
        let size = |place: &usize| {
            let vm = self.vm_at(*place);
            if vm.is_nan() { 0.0 } else { vm }
        };
        let lowest = (0..self.steps.len())
            .min_by(|a, b| size(a).total_cmp(&size(b)))
            .unwrap_or(0);
        let error = GridError::Diverged {
            case: String::new(),
            sweeps,
            node: Named(&self.network).node(self.steps[lowest].node),
            vm_pu: size(&lowest),
        };
        self.start_flat();
        error
    }

    fn u(&self, place: usize) -> Complex {
        Complex::new(self.u_re[place], self.u_im[place])
    }

    fn vm_at(&self, place: usize) -> f64 {
        let (re, im) = (self.u_re[place], self.u_im[place]);
        (re * re + im * im).sqrt() * self.own_abs[place]
    }

    /// Sweeps of the last power flow.
    #[must_use]
    pub const fn sweeps(&self) -> u32 {
        self.sweeps
    }

    /// The voltage that was found at a node, by its place in the network.
    #[must_use]
    pub fn vm_pu(&self, node: usize) -> f64 {
        self.vm_at(self.places[node])
    }

    /// All voltages, in the order of the network's nodes, into a list of that length.
    pub fn write_vm_pu(&self, into: &mut [f64]) {
        for (vm, place) in into.iter_mut().zip(&self.places) {
            *vm = self.vm_at(*place);
        }
    }

    /// Loading of every branch in percent of its rating, in the order of the network's branches, into a list of that
    /// length; 0 where a branch has no rating or is open. Allocates nothing.
    pub fn write_loading_percent(&self, into: &mut [f64]) {
        into.fill(0.0);
        for place in 1..self.steps.len() {
            if let Some(edge) = self.steps[place].edge
                && let Some(loading) = into.get_mut(edge)
            {
                *loading = self.branch_flow(place, edge).loading_percent.unwrap_or(0.0);
            }
        }
    }

    /// What all branches take: what flows into the network less what the loads take out.
    #[must_use]
    pub fn losses_kw(&self) -> f64 {
        let slack = self.slack_power();
        let loads: f64 = self.p.iter().sum();
        (slack.re - loads) * self.network.sn_mva * 1e3
    }

    /// What the slack feeds into the network and its own load, in p.u.
    fn slack_power(&self) -> Complex {
        let current = Complex::new(self.j_re[0], self.j_im[0]);
        self.u(0) * current.conj()
    }

    /// Everything about the last power flow.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let turned = Complex::polar(1.0, self.network.slack.va_deg);
        let own = |place: &usize| self.u(*place) * self.own[*place] * turned;
        let voltages: Vec<Complex> = self.places.iter().map(own).collect();
        let mut branches: Vec<BranchFlow> = self.network.branches.iter().map(open).collect();
        for place in 1..self.steps.len() {
            if let Some(edge) = self.steps[place].edge {
                branches[edge] = self.branch_flow(place, edge);
            }
        }
        let kilo = self.network.sn_mva * 1e3;
        let slack = self.slack_power();
        let most = |kind: Kind| {
            let of_kind = self.network.branches.iter().zip(&branches);
            of_kind
                .filter(|(branch, _)| branch.kind == kind)
                .filter_map(|(_, flow)| flow.loading_percent)
                .reduce(f64::max)
        };
        let vm_pu: Vec<f64> = voltages.iter().map(|v| v.abs()).collect();
        Flow {
            vm_min: vm_pu.iter().copied().fold(f64::INFINITY, f64::min),
            vm_max: vm_pu.iter().copied().fold(0.0, f64::max),
            vm_pu,
            va_deg: voltages.iter().map(|v| v.degrees()).collect(),
            slack_p_kw: slack.re * kilo,
            slack_q_kvar: slack.im * kilo,
            losses_kw: branches.iter().map(BranchFlow::losses_kw).sum(),
            max_line_loading_percent: most(Kind::Line),
            max_trafo_loading_percent: most(Kind::Trafo),
            branches,
            sweeps: self.sweeps,
        }
    }

    /// The flow through the branch that feeds a node.
    fn branch_flow(&self, place: usize, edge: usize) -> BranchFlow {
        let branch = &self.network.branches[edge];
        let Step { parent, along, .. } = self.steps[place];
        let (above, below) = (self.u(parent), self.u(place));
        let through = Complex::new(self.j_re[place], self.j_im[place]);
        let [at_from, at_to] = shunts(branch);
        let inner = if along {
            self.own_abs[place]
        } else {
            self.own_abs[parent]
        };
        let (near, far) = if along {
            (at_from, at_to)
        } else {
            (at_to, at_from)
        };
        let square = inner * inner;
        let into_near = above * (through + near.scale(square) * above).conj();
        let into_far = below * (far.scale(square) * below - through).conj();
        let (from, to, from_place, to_place) = if along {
            (into_near, into_far, parent, place)
        } else {
            (into_far, into_near, place, parent)
        };
        let kilo = self.network.sn_mva * 1e3;
        let i_from_a = self.amperes(from, from_place);
        let i_to_a = self.amperes(to, to_place);
        BranchFlow {
            id: branch.id,
            p_from_kw: from.re * kilo,
            q_from_kvar: from.im * kilo,
            p_to_kw: to.re * kilo,
            q_to_kvar: to.im * kilo,
            i_from_a,
            i_to_a,
            loading_percent: self.loading(branch, i_from_a, i_to_a, from_place, to_place),
        }
    }

    /// The current of a power at a node.
    fn amperes(&self, power: Complex, place: usize) -> f64 {
        let base_kv = self.network.nodes[self.steps[place].node].base_kv;
        let base_a = self.network.sn_mva * 1e3 / (3.0_f64.sqrt() * base_kv);
        power.norm2().sqrt() / self.vm_at(place) * base_a
    }

    fn loading(
        &self,
        branch: &Branch,
        i_from_a: f64,
        i_to_a: f64,
        from: usize,
        to: usize,
    ) -> Option<f64> {
        let side_by_side = branch.parallel.unwrap_or(1.0);
        match branch.kind {
            Kind::Line => {
                let most_a = branch.max_i_ka? * 1e3 * side_by_side;
                Some(100.0 * i_from_a.max(i_to_a) / most_a)
            }
            Kind::Trafo => {
                let base_kv = |place: usize| self.network.nodes[self.steps[place].node].base_kv;
                let (high_kv, low_kv) = (branch.vn_hv_kv?, branch.vn_lv_kv?);
                let (from_kv, to_kv) = if base_kv(from) >= base_kv(to) {
                    (high_kv, low_kv)
                } else {
                    (low_kv, high_kv)
                };
                let most_kva = branch.sn_mva? * 1e3 * side_by_side;
                let through_kva = (i_from_a * from_kv).max(i_to_a * to_kv) * 3.0_f64.sqrt();
                Some(100.0 * through_kva / most_kva)
            }
            Kind::Other => None,
        }
    }
}

/// An open branch carries nothing; its rating is used by 0 %, where it has one.
fn open(branch: &Branch) -> BranchFlow {
    let rated = branch.max_i_ka.or(branch.sn_mva);
    BranchFlow {
        loading_percent: rated.map(|_| 0.0),
        ..BranchFlow::none(branch.id)
    }
}

/// The shunts at the from and the to side.
fn shunts(branch: &Branch) -> [Complex; 2] {
    [
        Complex::new(branch.g_pu, branch.b_pu).scale(0.5),
        Complex::new(
            branch.g_pu + branch.g_asym_pu,
            branch.b_pu + branch.b_asym_pu,
        )
        .scale(0.5),
    ]
}
