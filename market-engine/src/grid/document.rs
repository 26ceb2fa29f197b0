//! A file of either kind: one phase or three.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::GridError;
use super::flow::Flow;
use super::network::{Loads, Network};
use super::solver::Solver;
use super::three_phase::{ThreePhase, ThreePhaseFlow, ThreePhaseSolver};
use super::{CASES_MAX, FILE_MAX_BYTES};

/// A network of a file.
#[derive(Clone, Debug)]
pub enum Document {
    /// One phase stands for all.
    OnePhase(Box<Network>),
    /// Every phase by itself.
    ThreePhase(Box<ThreePhase>),
}

/// A network's cases that were solved, each with its name.
#[derive(Clone, Debug)]
pub enum Solved<'a> {
    /// One phase stands for all.
    OnePhase(&'a Network, Vec<(String, Flow)>),
    /// Every phase by itself.
    ThreePhase(&'a ThreePhase, Vec<(String, ThreePhaseFlow)>),
}

/// Which of the two formats it is.
#[derive(Deserialize)]
struct Shape {
    nodes: Option<IgnoredAny>,
    branches: Option<IgnoredAny>,
    lines: Option<IgnoredAny>,
    line_codes: Option<IgnoredAny>,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// It is too long, not JSON, or not a network.
    pub fn from_json(text: &[u8]) -> Result<Document, GridError> {
        if text.len() > FILE_MAX_BYTES {
            return Err(GridError::TooMany {
                what: "bytes of the file",
                count: text.len(),
                max: FILE_MAX_BYTES,
            });
        }
        let shape: Shape = serde_json::from_slice(text).map_err(|e| GridError::json(&e))?;
        if shape.nodes.is_some() || shape.branches.is_some() {
            return Ok(Document::OnePhase(Box::new(Network::from_json(text)?)));
        }
        if shape.lines.is_some() || shape.line_codes.is_some() {
            return Ok(Document::ThreePhase(Box::new(ThreePhase::from_json(text)?)));
        }
        Err(GridError::NoNetwork)
    }

    /// Names of the load cases, in the order of the file.
    #[must_use]
    pub fn cases(&self) -> Vec<String> {
        match self {
            Document::OnePhase(network) => {
                let cases = network.cases.iter();
                cases.map(|case| case.case.to_string()).collect()
            }
            Document::ThreePhase(network) => {
                let places = 0..network.cases.len().min(CASES_MAX);
                places.map(|place| network.case_name(place)).collect()
            }
        }
    }

    /// Solves every case, or the one of this name. Each begins anew, so that none depends on another.
    ///
    /// # Errors
    /// The network is not radial, there is no such case, or a case cannot be solved.
    pub fn solve(&self, only: Option<&str>) -> Result<Solved<'_>, GridError> {
        let wanted = self.wanted(only)?;
        match self {
            Document::OnePhase(network) => {
                let mut solver = Solver::new(network)?;
                let places = network.places()?;
                let mut loads = Loads::none(network);
                let mut solved = Vec::with_capacity(wanted.len());
                for (place, name) in wanted {
                    network.loads(&network.cases[place], &places, &mut loads)?;
                    solver.start_flat();
                    solver.solve(&loads).map_err(|e| e.in_case(&name))?;
                    solved.push((name, solver.flow()));
                }
                Ok(Solved::OnePhase(network, solved))
            }
            Document::ThreePhase(network) => {
                let mut solver = ThreePhaseSolver::new(network)?;
                let mut solved = Vec::with_capacity(wanted.len());
                for (place, name) in wanted {
                    solver.start_flat();
                    let loads = network.loads(place)?;
                    solver.solve(&loads).map_err(|e| e.in_case(&name))?;
                    solved.push((name, solver.flow()));
                }
                Ok(Solved::ThreePhase(network, solved))
            }
        }
    }

    fn wanted(&self, only: Option<&str>) -> Result<Vec<(usize, String)>, GridError> {
        let cases = self.cases();
        if cases.is_empty() {
            return Err(GridError::NoCases);
        }
        let known = cases.join(", ");
        let all = cases.into_iter().enumerate();
        let Some(name) = only else {
            return Ok(all.collect());
        };
        let wanted: Vec<_> = all.filter(|(_, case)| case == name).collect();
        if wanted.is_empty() {
            let name = name.to_owned();
            return Err(GridError::NoCase { name, known });
        }
        Ok(wanted)
    }
}
