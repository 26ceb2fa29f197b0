//! Voltages and loadings of the wires behind the transformer, from what the homes' meters show at this moment.

use std::collections::BTreeMap;

use domain::time::Timestamp;
use market_engine::grid::network::{Kind, Loads};
use market_engine::grid::{GridError, Solver};

use super::Street;
use super::peers::PEERS_MIN;
use crate::site::{Site, Wires};

/// The wires at one moment.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// From the lowest voltage up: the node, its voltage in thousandths of the rated one.
    pub(crate) nodes: Vec<(u64, i64)>,
    /// The most loaded transformer and the most loaded line among those with enough homes behind them that none can
    /// be told: what it is, its name or id, its load in thousandths of its rating.
    pub(crate) branches: Vec<(Kind, String, i64)>,
    /// What the wires take, in watts.
    pub(crate) losses_w: i64,
    /// The oldest of the values that went in.
    pub(crate) oldest: Timestamp,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Without {
    /// The site describes no wires.
    Wires,
    /// So many of so many connections have no fresh value: a missing one is not taken for nothing.
    Values { missing: usize, all: usize },
    /// The loads are more than the wires can carry, or the network cannot be solved.
    Solution(GridError),
}

/// Solves the wires under what the homes draw now; `max_age_ms` is how old a value may be.
pub(crate) fn state(site: &Site, street: &Street, max_age_ms: i64) -> Result<State, Without> {
    let wires = site.wires.as_ref().ok_or(Without::Wires)?;
    let (loads, oldest) = loads(site, wires, street, max_age_ms)?;
    let mut solver = Solver::new(&wires.network).map_err(Without::Solution)?;
    solver.solve(&loads).map_err(Without::Solution)?;
    let flow = solver.flow();
    let network = &wires.network;
    let mut nodes: Vec<(u64, i64)> = network
        .nodes
        .iter()
        .zip(&flow.vm_pu)
        .map(|(node, pu)| (node.id, whole(pu * 1_000.0)))
        .collect();
    nodes.sort_by_key(|(_, permille)| *permille);
    let behind = behind(wires);
    let loaded = network.branches.iter().zip(&flow.branches).zip(behind);
    let mut branches: Vec<(Kind, String, i64)> = loaded
        .filter(|(_, homes)| *homes >= PEERS_MIN)
        .filter_map(|((branch, flow), _)| {
            let percent = flow.loading_percent?;
            let name = match branch.name.as_str() {
                "" => branch.id.to_string(),
                name => name.to_owned(),
            };
            Some((branch.kind, name, whole(percent * 10.0)))
        })
        .collect();
    branches.sort_by_key(|(kind, _, permille)| (*kind == Kind::Line, -permille));
    branches.dedup_by_key(|(kind, ..)| *kind == Kind::Line);
    Ok(State {
        nodes,
        branches,
        losses_w: whole(flow.losses_kw * 1_000.0),
        oldest,
    })
}

/// How many connections are behind each branch, seen from the slack.
fn behind(wires: &Wires) -> Vec<usize> {
    let network = &wires.network;
    // The way from each node to the slack, found outwards from there.
    let mut towards: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
    let mut open = vec![network.slack.node];
    while let Some(node) = open.pop() {
        for (n, branch) in network.branches.iter().enumerate() {
            let other = match (branch.from_node == node, branch.to_node == node) {
                (true, _) => branch.to_node,
                (_, true) => branch.from_node,
                _ => continue,
            };
            let is_new = other != network.slack.node && !towards.contains_key(&other);
            if branch.in_service && is_new {
                towards.insert(other, (n, node));
                open.push(other);
            }
        }
    }
    let mut counts = vec![0; network.branches.len()];
    for (_, node) in wires.places.values() {
        let mut at = *node;
        while let Some((branch, next)) = towards.get(&at) {
            if let Some(count) = counts.get_mut(*branch) {
                *count += 1;
            }
            at = *next;
        }
    }
    counts
}

/// Every connection's net import at its node, and the oldest of these values.
fn loads(
    site: &Site,
    wires: &Wires,
    street: &Street,
    max_age_ms: i64,
) -> Result<(Loads, Timestamp), Without> {
    let mut loads = Loads::none(&wires.network);
    let (mut missing, mut oldest) = (0, street.now);
    for (point, (place, _)) in &wires.places {
        let owner = site.points().find(|p| p.point == *point);
        let owner = owner.and_then(|p| p.participant.as_ref());
        let home = street.homes.iter().find(|home| Some(&home.id) == owner);
        let value = home.and_then(|home| home.net_w);
        let fresh = value.filter(|value| street.now.ms_since(value.read_at) <= max_age_ms);
        let (Some(value), Some(load)) = (fresh, loads.p_kw.get_mut(*place)) else {
            missing += 1;
            continue;
        };
        oldest = oldest.min(value.read_at);
        *load += kilowatts(value.value);
    }
    let all = wires.places.len();
    match missing {
        0 => Ok((loads, oldest)),
        _ => Err(Without::Values { missing, all }),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a home's watts are far below the 53 bits of a float"
)]
fn kilowatts(w: i64) -> f64 {
    w as f64 / 1_000.0
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "beyond an i64 it saturates, and no wire gets there"
)]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use market_engine::grid::Network;

    #[test]
    fn homes_behind_a_branch_are_counted_from_the_slack() {
        let network = r#"{"sn_mva":0.1,"nodes":[{"id":1,"base_kv":0.4},{"id":2,"base_kv":0.4},{"id":3,"base_kv":0.4},{"id":4,"base_kv":0.4}],
            "slack":{"node":1,"vm_pu":1.0},"branches":[
            {"id":7,"kind":"line","from_node":3,"to_node":2,"r_pu":0.1,"x_pu":0.1},
            {"id":8,"kind":"line","from_node":1,"to_node":2,"r_pu":0.1,"x_pu":0.1},
            {"id":9,"kind":"line","from_node":2,"to_node":4,"r_pu":0.1,"x_pu":0.1}],"cases":[]}"#;
        let network = Network::from_json(network.as_bytes()).unwrap();
        let nodes = [
            ("a.meter", 2),
            ("b.meter", 3),
            ("c.meter", 4),
            ("d.meter", 4),
        ];
        let nodes = nodes.map(|(point, node)| (point.to_owned(), node));
        let wires = Wires::new("n.json".into(), network, nodes.into()).unwrap();
        assert_eq!(behind(&wires), [1, 4, 2]);
    }
}
