//! What the wires carry in a run: a power flow in each interval, after all devices have done what they do.
//!
//! Loads are the homes' mean power of the interval. Each power flow begins at the slack's voltage, so a row depends on its own
//! interval only. An interval whose loads the network cannot carry has no voltages and is counted.

use market_engine::grid::Solver;
use market_engine::grid::network::{Kind, Loads, Network};

use super::RunError;
use super::calendar::Moment;
use super::kpis::List;
use super::network::NetworkScenario;
use super::scenario::RunHome;
use super::table::{Cell, TableWriter, Written};
use crate::number::{bounded, float};

/// Voltages are kept to so many parts of 1 p.u., loadings to so many parts of a percent.
const VOLTAGE_PARTS: f64 = 1e6;
const LOADING_PARTS: f64 = 1e3;
/// More is not lost in an interval.
const LOSS_MAX_WH: i64 = 1_000_000_000_000;

/// The network in one interval; no values where it cannot carry the loads.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GridRow {
    /// Start of the interval.
    pub start_s: i64,
    /// What was found.
    pub state: Option<GridState>,
}

/// What a power flow found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GridState {
    /// Lowest and highest voltage of a node with homes.
    pub vm_min_pu: f64,
    /// See `vm_min_pu`.
    pub vm_max_pu: f64,
    /// The busiest line and transformer.
    pub line_percent: f64,
    /// See `line_percent`.
    pub trafo_percent: f64,
    /// What the wires took.
    pub loss_wh: i64,
    /// Homes below and above the band.
    pub homes_low: u32,
    /// See `homes_low`.
    pub homes_high: u32,
}

/// A node over the run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NodeSums {
    /// The node.
    pub node: u64,
    /// Homes at it.
    pub homes: u32,
    /// Lowest and highest voltage; none where no interval was solved.
    pub range_pu: Option<[f64; 2]>,
    /// Intervals below and above the band.
    pub low: u32,
    /// See `low`.
    pub high: u32,
}

/// A branch over the run.
#[derive(Clone, PartialEq, Debug)]
pub struct BranchSums {
    /// The branch.
    pub branch: u64,
    /// What people call it.
    pub name: String,
    /// Highest loading.
    pub max_percent: f64,
    /// Intervals above 100 %.
    pub over: u32,
}

/// The network over a run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct GridOutcome {
    /// One row for each interval.
    pub rows: Vec<GridRow>,
    /// Nodes, in the network's order.
    pub nodes: Vec<NodeSums>,
    /// Branches, in the network's order.
    pub branches: Vec<BranchSums>,
    /// Homes in the network, and length of an interval.
    pub homes: u32,
    /// See `homes`.
    pub interval_s: u32,
}

/// The network of a run.
pub(super) struct Grid {
    solver: Solver,
    /// Place of each home's node.
    at: Vec<usize>,
    /// Reactive power for each watt that is drawn.
    tangent: f64,
    band_pu: [f64; 2],
    loads: Loads,
    vm_pu: Vec<f64>,
    percent: Vec<f64>,
    out: GridOutcome,
}

impl Grid {
    pub(super) fn new(
        scenario: &NetworkScenario,
        homes: &[RunHome],
        interval_s: u32,
    ) -> Result<Grid, RunError> {
        let (network, at) = scenario.build(homes)?;
        let bad = |e: market_engine::grid::GridError| RunError::bad(format!("network: {e}"));
        let solver = Solver::new(&network).map_err(bad)?;
        let factor = scenario.power_factor;
        Ok(Grid {
            loads: Loads::none(&network),
            vm_pu: vec![0.0; network.nodes.len()],
            percent: vec![0.0; network.branches.len()],
            out: GridOutcome {
                rows: Vec::new(),
                nodes: nodes(&network, &at),
                branches: network
                    .branches
                    .iter()
                    .map(|branch| BranchSums {
                        branch: branch.id,
                        name: branch.name.clone(),
                        max_percent: 0.0,
                        over: 0,
                    })
                    .collect(),
                homes: u32::try_from(homes.len()).unwrap_or(u32::MAX),
                interval_s,
            },
            tangent: (1.0 - factor * factor).sqrt() / factor,
            band_pu: scenario.band_pu,
            solver,
            at,
        })
    }

    /// One interval: what homes draw (above zero) or feed in.
    pub(super) fn interval(&mut self, moment: &Moment, net_wh: &[i64]) -> Result<(), RunError> {
        let per_kw = per_kw(self.out.interval_s);
        self.loads.p_kw.fill(0.0);
        self.loads.q_kvar.fill(0.0);
        for (place, wh) in self.at.iter().zip(net_wh) {
            let p_kw = float(*wh) * per_kw;
            self.loads.p_kw[*place] += p_kw;
            self.loads.q_kvar[*place] += p_kw.max(0.0) * self.tangent;
        }
        self.solver.start_flat();
        let state = match self.solver.solve(&self.loads) {
            Ok(_) => Some(self.state()),
            Err(market_engine::grid::GridError::Diverged { .. }) => None,
            Err(error) => return Err(RunError::bad(format!("network: {error}"))),
        };
        let start_s = moment.interval.start_s();
        self.out.rows.push(GridRow { start_s, state });
        Ok(())
    }

    fn state(&mut self) -> GridState {
        let [low_pu, high_pu] = self.band_pu;
        let per_kw = per_kw(self.out.interval_s);
        self.solver.write_vm_pu(&mut self.vm_pu);
        self.solver.write_loading_percent(&mut self.percent);
        let mut state = GridState {
            vm_min_pu: f64::INFINITY,
            vm_max_pu: 0.0,
            line_percent: 0.0,
            trafo_percent: 0.0,
            loss_wh: bounded(self.solver.losses_kw() / per_kw, LOSS_MAX_WH),
            homes_low: 0,
            homes_high: 0,
        };
        for (node, vm) in self.out.nodes.iter_mut().zip(&self.vm_pu) {
            let vm = parts(*vm, VOLTAGE_PARTS);
            let [least, most] = node.range_pu.unwrap_or([vm, vm]);
            node.range_pu = Some([least.min(vm), most.max(vm)]);
            let (low, high) = (vm < low_pu, vm > high_pu);
            node.low += u32::from(low);
            node.high += u32::from(high);
            if node.homes > 0 {
                state.vm_min_pu = state.vm_min_pu.min(vm);
                state.vm_max_pu = state.vm_max_pu.max(vm);
                state.homes_low += if low { node.homes } else { 0 };
                state.homes_high += if high { node.homes } else { 0 };
            }
        }
        let kinds = self
            .solver
            .network()
            .branches
            .iter()
            .map(|branch| branch.kind);
        for ((sums, percent), kind) in self.out.branches.iter_mut().zip(&self.percent).zip(kinds) {
            let percent = parts(*percent, LOADING_PARTS);
            sums.max_percent = sums.max_percent.max(percent);
            sums.over += u32::from(percent > 100.0);
            match kind {
                Kind::Line => state.line_percent = state.line_percent.max(percent),
                Kind::Trafo => state.trafo_percent = state.trafo_percent.max(percent),
                Kind::Other => {}
            }
        }
        state
    }

    pub(super) fn finish(self) -> GridOutcome {
        self.out
    }
}

fn nodes(network: &Network, at: &[usize]) -> Vec<NodeSums> {
    let node = |node: &market_engine::grid::network::Node| NodeSums {
        node: node.id,
        homes: 0,
        range_pu: None,
        low: 0,
        high: 0,
    };
    let mut nodes: Vec<NodeSums> = network.nodes.iter().map(node).collect();
    for place in at {
        nodes[*place].homes += 1;
    }
    nodes
}

/// The kW that 1 Wh in an interval is.
fn per_kw(interval_s: u32) -> f64 {
    3600.0 / (1000.0 * f64::from(interval_s))
}

/// A value in whole parts: far more digits than matter, and few enough to be the same everywhere.
fn parts(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

impl GridOutcome {
    fn states(&self) -> impl Iterator<Item = &GridState> {
        self.rows.iter().filter_map(|row| row.state.as_ref())
    }

    /// Everything that was found, for the hash of a run.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let of = |s: &GridState| {
            [
                s.vm_min_pu,
                s.vm_max_pu,
                s.line_percent,
                s.trafo_percent,
                float(s.loss_wh),
            ]
        };
        let row = |row: &GridRow| row.state.as_ref().map_or([f64::INFINITY; 5], of);
        let values = self.rows.iter().flat_map(row);
        values.flat_map(f64::to_be_bytes).collect()
    }

    /// The figures of the wires.
    pub(super) fn kpis(&self, list: &mut List) {
        self.voltages(list);
        self.loadings(list);
    }

    fn hours(&self) -> f64 {
        f64::from(self.interval_s) / 3600.0
    }

    /// A figure, where any interval was solved.
    fn some(&self, value: f64) -> Option<f64> {
        self.states().next().map(|_| value)
    }

    fn most(&self, of: fn(&GridState) -> f64) -> Option<f64> {
        self.some(self.states().map(of).fold(0.0, f64::max))
    }

    fn voltages(&self, list: &mut List) {
        let least = self
            .states()
            .map(|s| s.vm_min_pu)
            .fold(f64::INFINITY, f64::min);
        list.one(
            "voltage_min",
            "p.u.",
            self.some(least),
            "lowest voltage at a home, of interval means",
        );
        list.one(
            "voltage_max",
            "p.u.",
            self.most(|s| s.vm_max_pu),
            "highest voltage at a home",
        );
        let outside = |of: fn(&GridState) -> u32| {
            let homes: u64 = self.states().map(|s| u64::from(of(s))).sum();
            self.some(float(i64::try_from(homes).unwrap_or(i64::MAX)) * self.hours())
        };
        list.one(
            "voltage_low",
            "home-h",
            outside(|s| s.homes_low),
            "homes times hours below the band (network.band_pu)",
        );
        list.one(
            "voltage_high",
            "home-h",
            outside(|s| s.homes_high),
            "homes times hours above the band",
        );
    }

    fn loadings(&self, list: &mut List) {
        list.one(
            "line_loading_max",
            "%",
            self.most(|s| s.line_percent),
            "largest current of a line over its rating",
        );
        list.one(
            "transformer_loading_max",
            "%",
            self.most(|s| s.trafo_percent),
            "largest loading of a transformer",
        );
        let over = self
            .states()
            .filter(|s| s.line_percent > 100.0 || s.trafo_percent > 100.0);
        let over = float(i64::try_from(over.count()).unwrap_or(i64::MAX));
        list.one(
            "overload_hours",
            "h",
            self.some(over * self.hours()),
            "hours in which a line or transformer is above its rating",
        );
        let loss = float(self.states().map(|s| s.loss_wh).sum());
        list.one(
            "network_losses",
            "kWh",
            self.some(loss / 1000.0),
            "what lines and transformers take, by power flow; `losses` is what is settled",
        );
        let unsolved = self.rows.iter().filter(|row| row.state.is_none());
        let unsolved = float(i64::try_from(unsolved.count()).unwrap_or(i64::MAX));
        list.one(
            "network_unsolved",
            "h",
            unsolved * self.hours(),
            "hours with more load than the network can carry: there are no voltages then",
        );
    }

    /// The rows of the table `grid`.
    pub(super) fn write_rows(&self, mut table: TableWriter) -> Result<Written, RunError> {
        for row in &self.rows {
            let real = |of: fn(&GridState) -> f64| {
                row.state
                    .as_ref()
                    .map_or(Cell::Missing, |s| Cell::Real(of(s)))
            };
            let count = |of: fn(&GridState) -> u32| {
                let cell = |s| Cell::Int(i64::from(of(s)));
                row.state.as_ref().map_or(Cell::Missing, cell)
            };
            table.push(&[
                Cell::Time(row.start_s),
                real(|s| s.vm_min_pu),
                real(|s| s.vm_max_pu),
                real(|s| s.line_percent),
                real(|s| s.trafo_percent),
                row.state.map_or(Cell::Missing, |s| Cell::Int(s.loss_wh)),
                count(|s| s.homes_low),
                count(|s| s.homes_high),
            ])?;
        }
        table.finish()
    }

    /// The rows of the table `grid_nodes`.
    pub(super) fn write_nodes(&self, mut table: TableWriter) -> Result<Written, RunError> {
        for node in &self.nodes {
            let end = |end: usize| {
                node.range_pu
                    .map_or(Cell::Missing, |range| Cell::Real(range[end]))
            };
            table.push(&[
                Cell::Int(i64::try_from(node.node).unwrap_or(i64::MAX)),
                Cell::Int(i64::from(node.homes)),
                end(0),
                end(1),
                Cell::Int(i64::from(node.low)),
                Cell::Int(i64::from(node.high)),
            ])?;
        }
        table.finish()
    }

    /// The rows of the table `grid_branches`.
    pub(super) fn write_branches(&self, mut table: TableWriter) -> Result<Written, RunError> {
        for branch in &self.branches {
            table.push(&[
                Cell::Int(i64::try_from(branch.branch).unwrap_or(i64::MAX)),
                Cell::Text(&branch.name),
                Cell::Real(branch.max_percent),
                Cell::Int(i64::from(branch.over)),
            ])?;
        }
        table.finish()
    }
}
