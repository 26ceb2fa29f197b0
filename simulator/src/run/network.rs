//! The wires of a scenario (`[network]`): a street that is drawn from a few numbers, or a network's own file.
//!
//! A drawn street has a transformer and feeders of equal cables; homes are spread over the feeders in the order of their ids, one
//! node each. With `file` the network is read (the format of `commonwatt powerflow`), and its text becomes part of the
//! scenario, so that the run's folder and id hold all that was run.

use std::collections::BTreeMap;

use market_engine::grid::network::{Branch, Kind, Network, Node, Slack};
use serde::{Deserialize, Serialize};

use super::RunError;
use super::scenario::RunHome;

/// Most feeders of a drawn street.
const FEEDERS_MAX: u32 = 1_000;
/// Longest text of a network's file.
const JSON_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Impedance that is 1 p.u. at 0.4 kV and 1 MVA, in ohm.
const BASE_OHM: f64 = 0.16;
/// A cable of four times 150 mm² aluminium: ohm for each km, and rating.
const CABLE_R: f64 = 0.2067;
const CABLE_X: f64 = 0.0804;
const CABLE_MAX_KA: f64 = 0.27;
/// A distribution transformer: short-circuit voltage, its resistive part, and iron losses, of its rating.
const TRAFO_Z: f64 = 0.04;
const TRAFO_R: f64 = 0.013;
const TRAFO_IRON: f64 = 0.0024;

/// The wires between the homes and the transformer.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkScenario {
    /// Rating of the transformer of a drawn street.
    pub transformer_kva: u32,
    /// Feeders of a drawn street.
    pub feeders: u32,
    /// Cable between two homes of a feeder.
    pub cable_m: u32,
    /// Voltage at the transformer's high side.
    pub slack_vm_pu: f64,
    /// Power factor of homes that draw; what homes feed in is active power only.
    pub power_factor: f64,
    /// The voltages between which all is well.
    pub band_pu: [f64; 2],
    /// A network's file beside the scenario, in place of a drawn street.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The text of that file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// With a file: the node of each home. Homes that are not named are spread over the nodes that have loads in the
    /// file's cases (over all but the slack where it has no cases).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, u64>,
}

impl Default for NetworkScenario {
    fn default() -> Self {
        NetworkScenario {
            transformer_kva: 250,
            feeders: 2,
            cable_m: 30,
            slack_vm_pu: 1.0,
            power_factor: 0.95,
            band_pu: [0.9, 1.1],
            file: None,
            json: None,
            nodes: BTreeMap::new(),
        }
    }
}

impl NetworkScenario {
    /// Takes the file's text in, which `read` fetches by its name.
    ///
    /// # Errors
    /// What `read` says.
    pub fn take_file<E>(&mut self, read: impl FnOnce(&str) -> Result<String, E>) -> Result<(), E> {
        if let (Some(file), None) = (&self.file, &self.json) {
            self.json = Some(read(file)?);
        }
        Ok(())
    }

    /// What is wrong with a key, and what it may be.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let [low, high] = self.band_pu;
        let json = self.json.as_ref().map_or(0, String::len);
        for (holds, key, what) in [
            (
                (1..=100_000).contains(&self.transformer_kva),
                "transformer_kva",
                "1 to 100000",
            ),
            (
                (1..=FEEDERS_MAX).contains(&self.feeders),
                "feeders",
                "1 to 1000",
            ),
            (
                (1..=10_000).contains(&self.cable_m),
                "cable_m",
                "1 to 10000",
            ),
            (
                (0.5..=1.5).contains(&self.slack_vm_pu),
                "slack_vm_pu",
                "0.5 to 1.5",
            ),
            (
                (0.1..=1.0).contains(&self.power_factor),
                "power_factor",
                "0.1 to 1",
            ),
            (
                0.0 < low && low < high && high < 3.0,
                "band_pu",
                "[low, high], like [0.9, 1.1]",
            ),
            (json <= JSON_MAX_BYTES, "json", "at most 8 MiB"),
            (
                self.nodes.is_empty() || self.file.is_some() || self.json.is_some(),
                "nodes",
                "needs a file: a drawn street has a node for each home",
            ),
        ] {
            if !holds {
                return Err((key, what));
            }
        }
        Ok(())
    }

    /// The network, and the place of each home's node in it.
    ///
    /// # Errors
    /// The file is no network, or names homes or nodes that are not there.
    pub(super) fn build(&self, homes: &[RunHome]) -> Result<(Network, Vec<usize>), RunError> {
        match &self.json {
            Some(json) => self.read(json, homes),
            None if self.file.is_some() => Err(RunError::bad(
                "network.file was not read: this is an error of the program".to_owned(),
            )),
            None => Ok(self.draw(homes.len())),
        }
    }

    fn read(&self, json: &str, homes: &[RunHome]) -> Result<(Network, Vec<usize>), RunError> {
        let file = self.file.as_deref().unwrap_or("network.json");
        let bad = |what: String| RunError::bad(format!("{file}: {what}"));
        let mut network = Network::from_json(json.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let places = network.places().map_err(|e| bad(e.to_string()))?;
        let place = |node: u64| {
            let place = places.get(&node).copied();
            place.ok_or_else(|| bad(format!("there is no node {node}")))
        };
        let mut free: Vec<u64> = network
            .cases
            .iter()
            .flat_map(|case| case.loads_node_p_kw_q_kvar.iter().map(|load| load.0))
            .collect();
        if free.is_empty() {
            free = network.nodes.iter().map(|node| node.id).collect();
        }
        free.retain(|node| *node != network.slack.node);
        free.sort_unstable();
        free.dedup();
        let known = |id: &String| homes.iter().any(|home| home.id.as_str() == id);
        if let Some(id) = self.nodes.keys().find(|id| !known(id)) {
            return Err(RunError::bad(format!(
                "network.nodes: there is no home {id}"
            )));
        }
        let mut spread = free.iter().cycle();
        let mut at = Vec::with_capacity(homes.len());
        for home in homes {
            let node = match self.nodes.get(home.id.as_str()) {
                Some(node) => *node,
                None => *spread
                    .next()
                    .ok_or_else(|| bad("has no node but the slack".to_owned()))?,
            };
            at.push(place(node)?);
        }
        // Loads are the homes', not those of the file.
        network.cases.clear();
        Ok((network, at))
    }

    fn draw(&self, homes: usize) -> (Network, Vec<usize>) {
        let count = u64::try_from(homes).unwrap_or(u64::MAX);
        let mva = f64::from(self.transformer_kva) / 1e3;
        let km = f64::from(self.cable_m) / 1e3;
        let reactive = (TRAFO_Z * TRAFO_Z - TRAFO_R * TRAFO_R).sqrt();
        let mut trafo = Branch::line(0, 0, 1, TRAFO_R / mva, reactive / mva);
        trafo.kind = Kind::Trafo;
        trafo.name = "transformer".to_owned();
        trafo.g_pu = TRAFO_IRON * mva;
        (trafo.sn_mva, trafo.vn_hv_kv, trafo.vn_lv_kv) = (Some(mva), Some(20.0), Some(0.4));
        let mut branches = vec![trafo];
        let feeders = u64::from(self.feeders);
        for home in 0..count {
            // The first home of a feeder hangs on the busbar, each other one on the one before it.
            let above = if home < feeders {
                1
            } else {
                home + 2 - feeders
            };
            let (r, x) = (km * CABLE_R / BASE_OHM, km * CABLE_X / BASE_OHM);
            let mut cable = Branch::line(home + 1, above, home + 2, r, x);
            cable.name = format!("feeder {} cable {}", home % feeders + 1, home / feeders + 1);
            cable.max_i_ka = Some(CABLE_MAX_KA);
            branches.push(cable);
        }
        let base_kv = |id| if id == 0 { 20.0 } else { 0.4 };
        let node = |id| Node {
            id,
            base_kv: base_kv(id),
        };
        let network = Network {
            name: "drawn street".to_owned(),
            sn_mva: 1.0,
            nodes: (0..count + 2).map(node).collect(),
            slack: Slack {
                node: 0,
                vm_pu: self.slack_vm_pu,
                va_deg: 0.0,
            },
            branches,
            cases: Vec::new(),
        };
        (network, (2..homes + 2).collect())
    }
}
