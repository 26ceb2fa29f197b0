//! The order in which a radial network is swept: every node after the node that feeds it.

use super::error::GridError;

/// An edge of the network, as the tree sees it.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    /// Place of the node at the from side.
    pub from: usize,
    /// Place of the node at the to side.
    pub to: usize,
    /// False where a switch is open.
    pub closed: bool,
}

/// A node in the order of the sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Place of the node in the network.
    pub node: usize,
    /// Place in the order of the node that feeds it; its own for the slack.
    pub parent: usize,
    /// The edge that feeds it; none for the slack.
    pub edge: Option<usize>,
    /// True when the feeding node is the edge's from side.
    pub along: bool,
}

/// What tells people which node and which branch is meant.
pub trait Labels {
    /// The node at a place.
    fn node(&self, place: usize) -> String;
    /// The edge at a place.
    fn edge(&self, place: usize) -> String;
}

/// Depth first from the slack, so that most nodes follow the one that feeds them.
///
/// # Errors
/// There is a loop, or a node without a way to the slack.
pub fn order(
    nodes: usize,
    slack: usize,
    edges: &[Edge],
    labels: &dyn Labels,
) -> Result<Vec<Step>, GridError> {
    let near = neighbours(nodes, edges);
    let mut reached: Vec<Option<usize>> = vec![None; nodes];
    let mut steps = Vec::with_capacity(nodes);
    let mut waiting = vec![(slack, 0, None)];
    while let Some((node, parent, edge)) = waiting.pop() {
        if reached[node].is_some() {
            return Err(GridError::Loop {
                branch: edge.map_or_else(String::new, |edge| labels.edge(edge)),
                node: labels.node(node),
            });
        }
        let at = steps.len();
        reached[node] = Some(at);
        steps.push(Step {
            node,
            parent,
            edge,
            along: edge.is_some_and(|edge| edges[edge].to == node),
        });
        for &next in near[node].iter().rev().filter(|next| Some(**next) != edge) {
            let Edge { from, to, .. } = edges[next];
            waiting.push((if from == node { to } else { from }, at, Some(next)));
        }
    }
    match reached.iter().position(Option::is_none) {
        None => Ok(steps),
        Some(_) => Err(island(&reached, edges, labels)),
    }
}

/// The closed edges at every node.
fn neighbours(nodes: usize, edges: &[Edge]) -> Vec<Vec<usize>> {
    let mut near = vec![Vec::new(); nodes];
    for (place, edge) in edges.iter().enumerate().filter(|(_, edge)| edge.closed) {
        near[edge.from].push(place);
        if edge.to != edge.from {
            near[edge.to].push(place);
        }
    }
    near
}

/// Names an open edge between what is fed and what is not, if there is one.
fn island(reached: &[Option<usize>], edges: &[Edge], labels: &dyn Labels) -> GridError {
    let parts = |edge: &Edge| (reached[edge.from].is_some(), reached[edge.to].is_some());
    let opened = edges
        .iter()
        .position(|edge| !edge.closed && parts(edge).0 != parts(edge).1);
    let dark = match opened {
        Some(edge) if reached[edges[edge].from].is_none() => edges[edge].from,
        Some(edge) => edges[edge].to,
        None => reached.iter().position(Option::is_none).unwrap_or(0),
    };
    GridError::Island {
        node: labels.node(dark),
        open_branch: opened.map(|edge| labels.edge(edge)),
    }
}
