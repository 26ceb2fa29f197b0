//! Why there is no power flow.

/// What is wrong with a network or its loads. Nothing of the network is solved then.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GridError {
    /// The file is not the JSON that was expected.
    #[error("line {line}, column {column}: {what}")]
    Json {
        /// Line in the file, from 1.
        line: usize,
        /// Column in the line, from 1.
        column: usize,
        /// What was found and expected.
        what: String,
    },
    /// A key that the format does not have.
    #[error("{at}: unknown key `{key}`: is it misspelt? Remarks go into `comment`")]
    Key {
        /// Where it stands.
        at: String,
        /// The key.
        key: String,
    },
    /// A case that says nothing of loads.
    #[error(
        "{at}: no loads: name them as `loads_node_p_kw_q_kvar`; where there are none, write `\"loads_node_p_kw_q_kvar\": []`"
    )]
    NoLoads {
        /// The case.
        at: String,
    },
    /// Neither of the two formats.
    #[error(
        "this is no network: it has neither `nodes` and `branches` (one phase) nor `lines` and `line_codes` (three phases)"
    )]
    NoNetwork,
    /// Longer than what is read.
    #[error("{what}: {count}, and at most {max} are read")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Two elements with one name.
    #[error("{what} {id} is there twice")]
    Twice {
        /// The kind of element.
        what: &'static str,
        /// Its id or name.
        id: String,
    },
    /// Something names an element that is not there.
    #[error("{at}: {what} {id} is not in the network")]
    Unknown {
        /// Who names it.
        at: String,
        /// The kind of element.
        what: &'static str,
        /// Its id or name.
        id: String,
    },
    /// A number that cannot be.
    #[error("{at}: {key} is {value}, but must be {expected}")]
    Value {
        /// Whose number it is.
        at: String,
        /// Its key.
        key: &'static str,
        /// What was found.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
    /// A list of another length than what it goes with.
    #[error("{at}: {key} has {found} entries, but must have {expected}")]
    Length {
        /// Whose list it is.
        at: String,
        /// Its key.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The right length.
        expected: usize,
    },
    /// A branch that joins two nodes without any impedance.
    #[error(
        "{branch} has no impedance, so its two nodes are one: give them one id, and leave the branch out"
    )]
    NoImpedance {
        /// The branch.
        branch: String,
    },
    /// The network is meshed.
    #[error(
        "{branch} closes a loop: {node} is reached without it as well. The sweep is for radial networks: open a switch in the loop (`\"in_service\": false`)"
    )]
    Loop {
        /// The branch that closes the loop.
        branch: String,
        /// The node that has two ways to the slack.
        node: String,
    },
    /// A part of the network has no source.
    #[error("{node} has no way to the slack{}", opened(.open_branch.as_deref()))]
    Island {
        /// A node of the part.
        node: String,
        /// An open branch that would join it.
        open_branch: Option<String>,
    },
    /// It is not said where the network is fed.
    #[error("it is not clear which bus feeds the network ({found}): name it as `slack_bus`")]
    NoSlack {
        /// What was found.
        found: String,
    },
    /// The sweep found no voltages.
    #[error(
        "case {case}: no voltages were found in {sweeps} sweeps; {node} was the lowest, at {vm_pu:.3} p.u. The loads are more than this network can carry"
    )]
    Diverged {
        /// The load case; empty where there is none.
        case: String,
        /// Sweeps that were made.
        sweeps: u32,
        /// The node with the lowest voltage at the end.
        node: String,
        /// That voltage.
        vm_pu: f64,
    },
    /// No load case of that name.
    #[error("there is no case {name}; there are: {known}")]
    NoCase {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Nothing to solve.
    #[error("the network has no `cases`, so there is nothing to solve")]
    NoCases,
}

fn opened(branch: Option<&str>) -> String {
    match branch {
        Some(branch) => format!(": {branch} is open"),
        None => ", and no branch leads to it".to_owned(),
    }
}

impl GridError {
    /// From the reader of JSON.
    #[must_use]
    pub fn json(error: &serde_json::Error) -> GridError {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
        GridError::Json {
            line: error.line(),
            column: error.column(),
            what,
        }
    }

    /// The same, with the case named that was solved.
    #[must_use]
    pub fn in_case(self, name: &str) -> GridError {
        match self {
            GridError::Diverged {
                sweeps,
                node,
                vm_pu,
                ..
            } => GridError::Diverged {
                case: name.to_owned(),
                sweeps,
                node,
                vm_pu,
            },
            other => other,
        }
    }
}

/// The number, where it is one that can be reckoned with.
pub(crate) fn finite(at: &str, key: &'static str, value: f64) -> Result<f64, GridError> {
    checked(at, key, value, "a finite number", f64::is_finite)
}

/// The number, where it is above zero.
pub(crate) fn positive(at: &str, key: &'static str, value: f64) -> Result<f64, GridError> {
    let fits = |v: f64| v.is_finite() && v > 0.0;
    checked(at, key, value, "a finite number above 0", fits)
}

fn checked(
    at: &str,
    key: &'static str,
    value: f64,
    expected: &'static str,
    fits: impl Fn(f64) -> bool,
) -> Result<f64, GridError> {
    if fits(value) {
        return Ok(value);
    }
    Err(GridError::Value {
        at: at.to_owned(),
        key,
        value,
        expected,
    })
}
