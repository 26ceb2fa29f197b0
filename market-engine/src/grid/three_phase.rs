//! Three phases and a neutral: lines of Kron-reduced 3×3 impedances, loads on single phases.
//!
//! Volts, amperes and ohms. The neutral is earthed at every bus, which is what Kron's reduction assumes; line
//! codes of 4×4 (three phases, then the neutral) are reduced when they are read. Loads are constant power. The network
//! is fed by three phase-to-neutral voltages, which each case names. `sweep` solves it.

mod kron;
mod sweep;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::complex::Complex;
use super::error::{GridError, finite, positive};
use super::network::Name;
use super::{CASES_MAX, ELEMENTS_MAX};

pub use kron::{Impedance, kron_reduce};
pub use sweep::{LineFlow, ThreePhaseFlow, ThreePhaseSolver};

/// The power factor of loads whose file names none: the reference format's own.
pub const POWER_FACTOR: f64 = 0.95;

/// A three-phase network with its load cases, as it stands in a file. Keys of a file that neither stand here
/// nor say where the network comes from are refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ThreePhase {
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// The phase-to-neutral voltage that is 1 p.u.
    pub base_v_ln: f64,
    /// The bus that feeds the network; where none is named, the one bus at which no line ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_bus: Option<u64>,
    /// Impedances, by name.
    pub line_codes: BTreeMap<String, LineCode>,
    /// From bus, to bus, length in m, name of the line code.
    pub lines: Vec<(u64, u64, f64, String)>,
    /// Name, bus, phase (1 to 3).
    #[serde(default)]
    pub loads: Vec<(String, u64, u8)>,
    /// Power factor of loads for which a case has no `loads_kvar` (they lag); 0.95 where it is not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_factor: Option<f64>,
    /// Load cases.
    #[serde(default)]
    pub cases: Vec<ThreePhaseCase>,
}

/// Impedances of a line for each metre: 3×3, or 4×4 with the neutral last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LineCode {
    /// Resistances.
    pub r_ohm_per_m: Vec<Vec<f64>>,
    /// Reactances.
    pub x_ohm_per_m: Vec<Vec<f64>>,
    /// Rated current of a phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_i_a: Option<f64>,
}

/// Loads at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ThreePhaseCase {
    /// What the case is called; where it has no name, its minute or its place in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<Name>,
    /// The minute of the day it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minute: Option<i64>,
    /// Real and imaginary part of the slack's three voltages, in V to neutral.
    pub slack_v_ln: [[f64; 2]; 3],
    /// Active power of every load.
    pub loads_kw: Vec<f64>,
    /// Reactive power of every load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loads_kvar: Option<Vec<f64>>,
}

/// What feeds a three-phase network and what it feeds.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreePhaseLoads {
    /// Voltages of the slack to neutral.
    pub slack_v: [Complex; 3],
    /// Power of every load in VA, in the order of [`ThreePhase::loads`].
    pub load_va: Vec<Complex>,
}

impl ThreePhase {
    /// Reads a network and checks it.
    ///
    /// # Errors
    /// It is not JSON, or not a network.
    pub fn from_json(text: &[u8]) -> Result<ThreePhase, GridError> {
        let network: ThreePhase = serde_json::from_slice(text).map_err(|e| GridError::json(&e))?;
        super::keys::three_phase(text)?;
        network.check()?;
        Ok(network)
    }

    /// All buses, in rising order; results are in this order.
    #[must_use]
    pub fn buses(&self) -> Vec<u64> {
        let ends = self.lines.iter().flat_map(|line| [line.0, line.1]);
        let mut buses: Vec<u64> = ends.chain(self.slack_bus).collect();
        buses.sort_unstable();
        buses.dedup();
        buses
    }

    /// The bus that feeds the network.
    ///
    /// # Errors
    /// None is named, and not exactly one bus has no line that ends at it.
    pub fn slack(&self) -> Result<u64, GridError> {
        if let Some(bus) = self.slack_bus {
            return Ok(bus);
        }
        let mut ends: Vec<u64> = self.lines.iter().map(|line| line.1).collect();
        ends.sort_unstable();
        let buses = self.buses();
        let no_end = |bus: &&u64| ends.binary_search(bus).is_err();
        let mut sources = buses.iter().filter(no_end);
        match (sources.next(), sources.next()) {
            (Some(bus), None) => Ok(*bus),
            (Some(one), Some(other)) => Err(GridError::NoSlack {
                found: format!("no line ends at bus {one}, and none at bus {other}"),
            }),
            (None, _) => Err(GridError::NoSlack {
                found: "at every bus a line ends".to_owned(),
            }),
        }
    }

    /// What a case is called.
    #[must_use]
    pub fn case_name(&self, place: usize) -> String {
        let case = self.cases.get(place);
        let named = case.and_then(|case| case.case.as_ref().map(ToString::to_string));
        let minute = case.and_then(|case| case.minute.map(|minute| minute.to_string()));
        named.or(minute).unwrap_or_else(|| (place + 1).to_string())
    }

    /// Slack voltages and loads of a case.
    ///
    /// # Errors
    /// A list has not one entry for each load, or a number is none.
    pub fn loads(&self, place: usize) -> Result<ThreePhaseLoads, GridError> {
        let case = self.cases.get(place).ok_or(GridError::NoCases)?;
        let at = format!("case {}", self.case_name(place));
        same_length(&at, "loads_kw", case.loads_kw.len(), self.loads.len())?;
        let mut load_va = Vec::with_capacity(self.loads.len());
        for p_kw in &case.loads_kw {
            load_va.push(Complex::new(finite(&at, "loads_kw", *p_kw)? * 1e3, 0.0));
        }
        if let Some(list) = &case.loads_kvar {
            same_length(&at, "loads_kvar", list.len(), self.loads.len())?;
            for (load, q_kvar) in load_va.iter_mut().zip(list) {
                load.im = finite(&at, "loads_kvar", *q_kvar)? * 1e3;
            }
        } else {
            let factor = self.power_factor.unwrap_or(POWER_FACTOR);
            let tangent = (1.0 - factor * factor).sqrt() / factor;
            load_va
                .iter_mut()
                .for_each(|load| load.im = load.re * tangent);
        }
        let mut slack_v = [Complex::ZERO; 3];
        for (phase, [re, im]) in slack_v.iter_mut().zip(case.slack_v_ln) {
            *phase = Complex::new(
                finite(&at, "slack_v_ln", re)?,
                finite(&at, "slack_v_ln", im)?,
            );
            positive(&at, "slack_v_ln", phase.abs())?;
        }
        Ok(ThreePhaseLoads { slack_v, load_va })
    }

    /// Checks everything but the network's shape.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), GridError> {
        for (what, count, max) in [
            ("lines", self.lines.len(), ELEMENTS_MAX),
            ("loads", self.loads.len(), ELEMENTS_MAX),
            ("cases", self.cases.len(), CASES_MAX),
        ] {
            if count > max {
                return Err(GridError::TooMany { what, count, max });
            }
        }
        positive("the network", "base_v_ln", self.base_v_ln)?;
        let factor = self.power_factor.unwrap_or(POWER_FACTOR);
        if !(factor > 0.0 && factor <= 1.0) {
            return Err(GridError::Value {
                at: "the network".to_owned(),
                key: "power_factor",
                value: factor,
                expected: "above 0 and at most 1",
            });
        }
        for (name, code) in &self.line_codes {
            code.impedance(name)?;
        }
        for (place, (_, _, length_m, code)) in self.lines.iter().enumerate() {
            let at = self.line_label(place);
            positive(&at, "length_m", *length_m)?;
            if !self.line_codes.contains_key(code) {
                return Err(unknown(&at, "line code", code.clone()));
            }
        }
        let buses = self.buses();
        let mut names = BTreeMap::new();
        for (name, bus, phase) in &self.loads {
            let at = format!("load {name}");
            if names.insert(name, ()).is_some() {
                let (what, id) = ("load", name.clone());
                return Err(GridError::Twice { what, id });
            }
            if buses.binary_search(bus).is_err() {
                return Err(unknown(&at, "bus", bus.to_string()));
            }
            if !(1..=3).contains(phase) {
                return Err(GridError::Value {
                    at,
                    key: "phase",
                    value: f64::from(*phase),
                    expected: "1, 2 or 3",
                });
            }
        }
        (0..self.cases.len()).try_for_each(|place| self.loads(place).map(drop))
    }

    /// How errors and tables call a line.
    #[must_use]
    pub fn line_label(&self, place: usize) -> String {
        match self.lines.get(place) {
            Some((from, to, ..)) => format!("line {from}-{to}"),
            None => format!("line {place}"),
        }
    }
}

fn unknown(at: &str, what: &'static str, id: String) -> GridError {
    let at = at.to_owned();
    GridError::Unknown { at, what, id }
}

fn same_length(
    at: &str,
    key: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), GridError> {
    if found == expected {
        return Ok(());
    }
    Err(GridError::Length {
        at: at.to_owned(),
        key,
        found,
        expected,
    })
}
