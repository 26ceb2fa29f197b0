//! What a power flow found.

use serde::Serialize;

/// The state of a network under one set of loads, in the order of its nodes and branches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flow {
    /// Voltage of every node.
    pub vm_pu: Vec<f64>,
    /// Angle of every node, above -180 and up to 180 degrees.
    pub va_deg: Vec<f64>,
    /// Flow through every branch.
    pub branches: Vec<BranchFlow>,
    /// What the slack feeds in.
    pub slack_p_kw: f64,
    /// What the slack feeds in.
    pub slack_q_kvar: f64,
    /// What all branches take.
    pub losses_kw: f64,
    /// The lowest voltage.
    pub vm_min: f64,
    /// The highest voltage.
    pub vm_max: f64,
    /// The loading of the line that is loaded most; none where no line has a rating.
    pub max_line_loading_percent: Option<f64>,
    /// The same of transformers.
    pub max_trafo_loading_percent: Option<f64>,
    /// Sweeps that were needed.
    pub sweeps: u32,
}

/// What flows through a branch; power is positive where it flows into the branch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BranchFlow {
    /// The branch.
    pub id: u64,
    /// Active power into its from side.
    pub p_from_kw: f64,
    /// Reactive power into its from side.
    pub q_from_kvar: f64,
    /// Active power into its to side.
    pub p_to_kw: f64,
    /// Reactive power into its to side.
    pub q_to_kvar: f64,
    /// Current at its from side.
    pub i_from_a: f64,
    /// Current at its to side.
    pub i_to_a: f64,
    /// Share of its rating; none where it has no rating.
    pub loading_percent: Option<f64>,
}

impl BranchFlow {
    /// Nothing flows: a switch is open.
    #[must_use]
    pub const fn none(id: u64) -> BranchFlow {
        BranchFlow {
            id,
            p_from_kw: 0.0,
            q_from_kvar: 0.0,
            p_to_kw: 0.0,
            q_to_kvar: 0.0,
            i_from_a: 0.0,
            i_to_a: 0.0,
            loading_percent: None,
        }
    }

    /// What the branch takes.
    #[must_use]
    pub fn losses_kw(&self) -> f64 {
        self.p_from_kw + self.p_to_kw
    }
}
