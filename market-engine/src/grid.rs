//! What the wires allow: power flow in radial networks, by backward–forward sweep.
//!
//! [`network`] is what a network is, in the reference format of JSON; [`tree`] puts its nodes in an order in
//! which parents come first, or says why it cannot; [`solver`] sweeps; [`flow`] is what comes out.
//! [`three_phase`] is the same for three phases with Kron-reduced lines and loads on single phases;
//! [`document`] reads either kind of file, and [`mod@write`] prints results. Pure: no clock, no I/O. These are the
//! only floats of the market: physics, never energy, price or money that is booked.

pub mod complex;
pub mod document;
pub mod error;
pub mod flow;
mod keys;
pub mod network;
pub mod solver;
pub mod three_phase;
pub mod tree;
pub mod write;

pub use complex::Complex;
pub use error::GridError;
pub use flow::{BranchFlow, Flow};
pub use network::Network;
pub use solver::Solver;

/// The change of every voltage in the last sweep, in p.u., below which a power flow is solved. The error that is
/// left is of the same size, far below the 1e-6 p.u. that results are compared by.
pub const TOLERANCE_PU: f64 = 1e-11;

/// Sweeps before a power flow counts as not to be solved. Networks with ordinary loads need 5 to 15; close to the
/// largest load that a network can carry it is some hundred.
pub const SWEEPS_MAX: u32 = 2_000;

/// Most nodes, branches and loads of one network.
pub const ELEMENTS_MAX: usize = 200_000;

/// Most load cases of one file.
pub const CASES_MAX: usize = 100_000;

/// Largest file in bytes.
pub const FILE_MAX_BYTES: usize = 256 * 1024 * 1024;
