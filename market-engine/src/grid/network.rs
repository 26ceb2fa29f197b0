//! A network for one phase: nodes, branches (pi models with an ideal transformer), a slack, load cases.
//!
//! All in p.u. on `sn_mva` and the nodes' `base_kv`. A branch has the series admittance y = 1/(r + jx), the shunt
//! (g + jb)/2 at its from side and ((g + `g_asym`) + j(b + `b_asym`))/2 at its to side, and an ideal transformer
//! `ratio`∠`shift_deg` at its from side. Loads are constant power, positive = consumption.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::{GridError, finite, positive};
use super::{CASES_MAX, ELEMENTS_MAX};

/// A network with its load cases, as it stands in a file. Keys of a file that neither stand here nor say where
/// the network comes from are refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Network {
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// The power that is 1 p.u.
    pub sn_mva: f64,
    /// The nodes; results are in this order.
    pub nodes: Vec<Node>,
    /// Where the network is fed.
    pub slack: Slack,
    /// Lines and transformers; results are in this order.
    pub branches: Vec<Branch>,
    /// Load cases.
    #[serde(default)]
    pub cases: Vec<Case>,
}

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Its id, its own in the network.
    pub id: u64,
    /// The voltage between lines that is 1 p.u.
    pub base_kv: f64,
}

/// The node that is held at a voltage, whatever it takes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Slack {
    /// The node's id.
    pub node: u64,
    /// Its voltage.
    pub vm_pu: f64,
    /// Its angle.
    #[serde(default)]
    pub va_deg: f64,
}

/// What a branch is; loading is reckoned differently for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A line or cable: rated by `max_i_ka`.
    Line,
    /// A transformer: rated by `sn_mva`.
    #[serde(alias = "transformer")]
    Trafo,
    /// Anything else: has no rating.
    Other,
}

/// A line or a transformer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Branch {
    /// Its id, its own in the network.
    pub id: u64,
    /// What people call it.
    #[serde(default)]
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The node's id at the side with the ideal transformer.
    pub from_node: u64,
    /// The node's id at the other side.
    pub to_node: u64,
    /// Series resistance.
    pub r_pu: f64,
    /// Series reactance.
    pub x_pu: f64,
    /// Shunt conductance of both sides together.
    #[serde(default)]
    pub g_pu: f64,
    /// Shunt susceptance of both sides together.
    #[serde(default)]
    pub b_pu: f64,
    /// What the to side's shunt conductance has more than the from side's, times two.
    #[serde(default)]
    pub g_asym_pu: f64,
    /// What the to side's shunt susceptance has more than the from side's, times two.
    #[serde(default)]
    pub b_asym_pu: f64,
    /// Turns ratio of the ideal transformer, in p.u.
    #[serde(default = "one")]
    pub ratio: f64,
    /// Angle of the ideal transformer.
    #[serde(default)]
    pub shift_deg: f64,
    /// False where a switch is open: the branch carries nothing.
    #[serde(default = "yes")]
    pub in_service: bool,
    /// Rating of a line, one of `parallel` cables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_i_ka: Option<f64>,
    /// How many there are side by side; impedances are those of all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<f64>,
    /// Rating of a transformer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sn_mva: Option<f64>,
    /// Rated voltage of the high side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vn_hv_kv: Option<f64>,
    /// Rated voltage of the low side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vn_lv_kv: Option<f64>,
}

/// Node, active power in kW and reactive power in kvar.
pub type NodePower = (u64, f64, f64);

/// Loads at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// What the case is called.
    pub case: Name,
    /// Consumption; a node may stand here several times.
    #[serde(default)]
    pub loads_node_p_kw_q_kvar: Vec<NodePower>,
    /// Feed-in, taken off the consumption.
    #[serde(default)]
    pub gens_node_p_kw_q_kvar: Vec<NodePower>,
}

/// A name that may be written as a number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Name {
    /// A word.
    Word(String),
    /// A number.
    Number(i64),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Word(word) => f.write_str(word),
            Name::Number(number) => write!(f, "{number}"),
        }
    }
}

const fn one() -> f64 {
    1.0
}

const fn yes() -> bool {
    true
}

impl Branch {
    /// How errors and tables call it.
    #[must_use]
    pub fn label(&self) -> String {
        match self.name.as_str() {
            "" => format!("branch {}", self.id),
            name => format!("branch {} ({name})", self.id),
        }
    }

    /// A line without shunts.
    #[must_use]
    pub fn line(id: u64, from_node: u64, to_node: u64, r_pu: f64, x_pu: f64) -> Branch {
        Branch {
            id,
            name: String::new(),
            kind: Kind::Line,
            from_node,
            to_node,
            r_pu,
            x_pu,
            g_pu: 0.0,
            b_pu: 0.0,
            g_asym_pu: 0.0,
            b_asym_pu: 0.0,
            ratio: 1.0,
            shift_deg: 0.0,
            in_service: true,
            max_i_ka: None,
            parallel: None,
            sn_mva: None,
            vn_hv_kv: None,
            vn_lv_kv: None,
        }
    }

    fn check(&self) -> Result<(), GridError> {
        let at = self.label();
        for (key, value) in [
            ("r_pu", self.r_pu),
            ("x_pu", self.x_pu),
            ("g_pu", self.g_pu),
            ("b_pu", self.b_pu),
            ("g_asym_pu", self.g_asym_pu),
            ("b_asym_pu", self.b_asym_pu),
            ("shift_deg", self.shift_deg),
        ] {
            finite(&at, key, value)?;
        }
        positive(&at, "ratio", self.ratio)?;
        for (key, value) in [
            ("max_i_ka", self.max_i_ka),
            ("parallel", self.parallel),
            ("sn_mva", self.sn_mva),
            ("vn_hv_kv", self.vn_hv_kv),
            ("vn_lv_kv", self.vn_lv_kv),
        ] {
            value.map_or(Ok(1.0), |value| positive(&at, key, value))?;
        }
        if self.r_pu == 0.0 && self.x_pu == 0.0 {
            return Err(GridError::NoImpedance { branch: at });
        }
        Ok(())
    }
}

impl Network {
    /// Reads a network and checks it.
    ///
    /// # Errors
    /// It is not JSON, or not a network.
    pub fn from_json(text: &[u8]) -> Result<Network, GridError> {
        let network: Network = serde_json::from_slice(text).map_err(|e| GridError::json(&e))?;
        super::keys::one_phase(text)?;
        network.check()?;
        Ok(network)
    }

    /// The place of every node in [`Network::nodes`], by its id.
    ///
    /// # Errors
    /// An id is there twice.
    pub fn places(&self) -> Result<BTreeMap<u64, usize>, GridError> {
        let mut places = BTreeMap::new();
        for (place, node) in self.nodes.iter().enumerate() {
            if places.insert(node.id, place).is_some() {
                return Err(twice("node", node.id));
            }
        }
        Ok(places)
    }

    /// Checks everything but the network's shape, which [`super::tree`] does.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), GridError> {
        for (what, count, max) in [
            ("nodes", self.nodes.len(), ELEMENTS_MAX),
            ("branches", self.branches.len(), ELEMENTS_MAX),
            ("cases", self.cases.len(), CASES_MAX),
        ] {
            if count > max {
                return Err(GridError::TooMany { what, count, max });
            }
        }
        positive("the network", "sn_mva", self.sn_mva)?;
        let places = self.places()?;
        for node in &self.nodes {
            positive(&format!("node {}", node.id), "base_kv", node.base_kv)?;
        }
        positive("slack", "vm_pu", self.slack.vm_pu)?;
        finite("slack", "va_deg", self.slack.va_deg)?;
        known(&places, "slack", self.slack.node)?;
        let mut ids = BTreeMap::new();
        for branch in &self.branches {
            if ids.insert(branch.id, ()).is_some() {
                return Err(twice("branch", branch.id));
            }
            branch.check()?;
            let at = branch.label();
            known(&places, &at, branch.from_node)?;
            known(&places, &at, branch.to_node)?;
        }
        let mut loads = Loads::none(self);
        let mut cases = self.cases.iter();
        cases.try_for_each(|case| self.loads(case, &places, &mut loads))
    }

    /// A case's loads less its feed-in, in node order, into `loads`.
    ///
    /// # Errors
    /// A node is not there, or a number is none.
    pub fn loads(
        &self,
        case: &Case,
        places: &BTreeMap<u64, usize>,
        loads: &mut Loads,
    ) -> Result<(), GridError> {
        let at = format!("case {}", case.case);
        let lists = [
            ("loads_node_p_kw_q_kvar", &case.loads_node_p_kw_q_kvar, 1.0),
            ("gens_node_p_kw_q_kvar", &case.gens_node_p_kw_q_kvar, -1.0),
        ];
        loads.p_kw.fill(0.0);
        loads.q_kvar.fill(0.0);
        for (key, list, sign) in lists {
            if list.len() > ELEMENTS_MAX {
                let (what, count, max) = ("loads of one case", list.len(), ELEMENTS_MAX);
                return Err(GridError::TooMany { what, count, max });
            }
            for (node, p_kw, q_kvar) in list {
                let place = known(places, &format!("{at}, {key}"), *node)?;
                loads.p_kw[place] += sign * finite(&at, key, *p_kw)?;
                loads.q_kvar[place] += sign * finite(&at, key, *q_kvar)?;
            }
        }
        Ok(())
    }
}

/// Net consumption of every node, in the order of [`Network::nodes`].
#[derive(Clone, Debug, PartialEq)]
pub struct Loads {
    /// Active power.
    pub p_kw: Vec<f64>,
    /// Reactive power.
    pub q_kvar: Vec<f64>,
}

impl Loads {
    /// No load anywhere.
    #[must_use]
    pub fn none(network: &Network) -> Loads {
        Loads {
            p_kw: vec![0.0; network.nodes.len()],
            q_kvar: vec![0.0; network.nodes.len()],
        }
    }
}

fn twice(what: &'static str, id: u64) -> GridError {
    GridError::Twice {
        what,
        id: id.to_string(),
    }
}

pub(crate) fn known(places: &BTreeMap<u64, usize>, at: &str, id: u64) -> Result<usize, GridError> {
    places.get(&id).copied().ok_or_else(|| GridError::Unknown {
        at: at.to_owned(),
        what: "node",
        id: id.to_string(),
    })
}
