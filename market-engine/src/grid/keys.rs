//! The keys of a network's file: one that is not known is refused, because a misspelt key would give a plausible answer.
//!
//! Beside the keys that are used, those are let through that say where a network comes from: what the reference files
//! of other programs have, and everything below `comment`.

use serde_json::Value;

use super::error::GridError;

/// Of both formats, at the top.
const ABOUT: &[&str] = &[
    "name",
    "source",
    "license",
    "licence",
    "note",
    "comment",
    "generator",
    "f_hz",
    "self_check",
];
const NETWORK: &[&str] = &["sn_mva", "nodes", "slack", "branches", "cases"];
const NODE: &[&str] = &["id", "base_kv", "name", "comment", "pandapower_buses"];
const SLACK: &[&str] = &["node", "vm_pu", "va_deg", "comment"];
const BRANCH: &[&str] = &[
    "id",
    "name",
    "kind",
    "from_node",
    "to_node",
    "r_pu",
    "x_pu",
    "g_pu",
    "b_pu",
    "g_asym_pu",
    "b_asym_pu",
    "ratio",
    "shift_deg",
    "in_service",
    "max_i_ka",
    "parallel",
    "sn_mva",
    "vn_hv_kv",
    "vn_lv_kv",
    "comment",
];
/// What a branch was reckoned from.
const BRANCH_ORIGIN: &[&str] = &[
    "c_nf_per_km",
    "element",
    "i0_percent",
    "length_km",
    "pfe_kw",
    "r_ohm_per_km",
    "shift_degree",
    "tap_neutral",
    "tap_pos",
    "tap_side",
    "tap_step_percent",
    "vk_percent",
    "vkr_percent",
    "x_ohm_per_km",
];
/// Either of a case has to be there: a case without loads says so with an empty list.
const LOADS: &[&str] = &["loads_node_p_kw_q_kvar", "gens_node_p_kw_q_kvar"];
const CASE: &[&str] = &["case", "comment", "result"];
const THREE_PHASE: &[&str] = &[
    "base_v_ln",
    "slack_bus",
    "line_codes",
    "lines",
    "lines_fields",
    "loads",
    "power_factor",
    "cases",
];
const LINE_CODE: &[&str] = &["r_ohm_per_m", "x_ohm_per_m", "max_i_a", "comment"];
const THREE_PHASE_CASE: &[&str] = &[
    "case",
    "minute",
    "slack_v_ln",
    "loads_kw",
    "loads_kvar",
    "comment",
    "result",
    "bfs_self_check_max_err_pu",
];

/// Keys of an object that are in none of the lists.
fn only(at: &str, value: &Value, known: &[&[&str]]) -> Result<(), GridError> {
    let keys = value.as_object().into_iter().flatten().map(|(key, _)| key);
    for key in keys {
        if !known.iter().any(|list| list.contains(&key.as_str())) {
            return Err(GridError::Key {
                at: at.to_owned(),
                key: key.clone(),
            });
        }
    }
    Ok(())
}

/// What an element of a list is called: by its id or name where it has one, else by its place.
fn called(what: &str, key: &str, place: usize, value: &Value) -> String {
    match value.get(key) {
        Some(Value::String(name)) => format!("{what} {name}"),
        Some(Value::Number(number)) => format!("{what} {number}"),
        _ => format!("{what} {} of the list", place + 1),
    }
}

fn each<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    let list = value.get(key).and_then(Value::as_array);
    list.into_iter().flatten().enumerate()
}

fn parse(text: &[u8]) -> Result<Value, GridError> {
    serde_json::from_slice(text).map_err(|e| GridError::json(&e))
}

/// The keys of a network for one phase.
pub(super) fn one_phase(text: &[u8]) -> Result<(), GridError> {
    let value = parse(text)?;
    only("the network", &value, &[ABOUT, NETWORK])?;
    if let Some(slack) = value.get("slack") {
        only("slack", slack, &[SLACK])?;
    }
    for (place, node) in each(&value, "nodes") {
        only(&called("node", "id", place, node), node, &[NODE])?;
    }
    for (place, branch) in each(&value, "branches") {
        let at = called("branch", "id", place, branch);
        only(&at, branch, &[BRANCH, BRANCH_ORIGIN])?;
    }
    for (place, case) in each(&value, "cases") {
        let at = called("case", "case", place, case);
        only(&at, case, &[CASE, LOADS])?;
        if !LOADS.iter().any(|key| case.get(key).is_some()) {
            return Err(GridError::NoLoads { at });
        }
    }
    Ok(())
}

/// The keys of a network for three phases. Its cases cannot be without loads: `loads_kw` has to be there.
pub(super) fn three_phase(text: &[u8]) -> Result<(), GridError> {
    let value = parse(text)?;
    only("the network", &value, &[ABOUT, THREE_PHASE])?;
    let codes = value.get("line_codes").and_then(Value::as_object);
    for (name, code) in codes.into_iter().flatten() {
        only(&format!("line code {name}"), code, &[LINE_CODE])?;
    }
    for (place, case) in each(&value, "cases") {
        let at = called("case", "case", place, case);
        only(&at, case, &[THREE_PHASE_CASE])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::grid::document::Document;

    const GOOD: &str = r#"{"sn_mva":1,"note":"of a street","nodes":[{"id":0,"base_kv":0.4},{"id":1,"base_kv":0.4}],
        "slack":{"node":0,"vm_pu":1},
        "branches":[{"id":7,"kind":"line","from_node":0,"to_node":1,"r_pu":0.05,"x_pu":0.02,"length_km":0.1}],
        "cases":[{"case":"a","loads_node_p_kw_q_kvar":[[1,10,2]]}]}"#;

    #[test]
    fn a_misspelt_key_is_named_with_its_place() {
        Document::from_json(GOOD.as_bytes()).unwrap();
        for (from, to, expect) in [
            (
                "p_kw_q_kvar",
                "p_kw_qkvar",
                "case a: unknown key `loads_node_p_kw_qkvar`",
            ),
            (
                "r_pu",
                "in_servce\":false,\"r_pu",
                "branch 7: unknown key `in_servce`",
            ),
            ("vm_pu", "va_dgr\":1,\"vm_pu", "slack: unknown key `va_dgr`"),
            ("note", "notes", "the network: unknown key `notes`"),
            (
                "base_kv",
                "base_kv\":1,\"basekv",
                "node 0: unknown key `basekv`",
            ),
            (
                ",\"loads_node_p_kw_q_kvar\":[[1,10,2]]",
                "",
                "case a: no loads",
            ),
            ("\"line\"", "\"Line\"", "unknown variant `Line`"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from}");
            let error = Document::from_json(text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expect), "{error}");
        }
        let empty = GOOD.replace("[[1,10,2]]", "[]");
        Document::from_json(empty.as_bytes()).unwrap();
    }
}
