//! `[grid]`: the wires behind the transformer, and which home is at which node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use domain::ids::PointId;
use market_engine::grid::{FILE_MAX_BYTES, Network, Solver};
use serde::{Deserialize, Serialize};

/// The section as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GridFile {
    /// A radial network of one phase, as `commonwatt powerflow` reads it; beside the site's file where it is relative.
    network: PathBuf,
    /// The node of each connection.
    nodes: BTreeMap<String, u64>,
}

/// The wires, checked.
#[derive(Clone, Debug)]
pub(crate) struct Wires {
    /// The file, as it is written in the section.
    file: PathBuf,
    pub(crate) network: Network,
    /// The place of each connection's node in the network, with the node's id.
    pub(crate) places: BTreeMap<PointId, (usize, u64)>,
}

impl GridFile {
    /// Reads the network and looks that every node is there.
    pub(super) fn check(self, folder: &Path) -> anyhow::Result<Wires> {
        let path = folder.join(&self.network);
        let read = std::fs::read(&path);
        let text = read.with_context(|| format!("grid.network: cannot read {}", path.display()))?;
        if text.len() > FILE_MAX_BYTES {
            bail!("grid.network: {} is too large", path.display());
        }
        let network = Network::from_json(&text);
        let network = network.with_context(|| format!("grid.network: {}", path.display()))?;
        Wires::new(self.network, network, self.nodes)
    }

    pub(super) fn of(wires: &Wires) -> GridFile {
        let node = |(point, (_, id)): (&PointId, &(usize, u64))| (point.to_string(), *id);
        GridFile {
            network: wires.file.clone(),
            nodes: wires.places.iter().map(node).collect(),
        }
    }
}

impl Wires {
    /// A network with connections at its nodes. It has to be radial.
    pub(crate) fn new(
        file: PathBuf,
        network: Network,
        nodes: BTreeMap<String, u64>,
    ) -> anyhow::Result<Wires> {
        Solver::new(&network).context("grid.network")?;
        let known = network.places().context("grid.network")?;
        let mut places = BTreeMap::new();
        for (point, node) in nodes {
            let Some(place) = known.get(&node) else {
                bail!("grid.nodes: {point} is at node {node}, which the network does not have");
            };
            places.insert(PointId::new(point).context("grid.nodes")?, (*place, node));
        }
        Ok(Wires {
            file,
            network,
            places,
        })
    }

    /// Refuses connections that are none of the site's.
    pub(super) fn fits(&self, is_known: impl Fn(&PointId) -> bool) -> anyhow::Result<()> {
        match self.places.keys().find(|point| !is_known(point)) {
            Some(point) => bail!("grid.nodes: {point} is no connection of this site"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = r#"{"sn_mva":1.0,"nodes":[{"id":1,"base_kv":0.4},{"id":2,"base_kv":0.4}],
        "slack":{"node":1,"vm_pu":1.0},"branches":[{"id":1,"kind":"line","from_node":1,"to_node":2,"r_pu":0.1,"x_pu":0.05}],
        "cases":[]}"#;

    #[test]
    fn a_network_is_read_and_what_does_not_fit_is_said() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("n.json"), NETWORK).unwrap();
        let section = |network: &str, node: u64| GridFile {
            network: network.into(),
            nodes: [("home-1.meter".to_owned(), node)].into(),
        };
        let wires = section("n.json", 2).check(folder.path()).unwrap();
        assert_eq!(wires.places.values().next(), Some(&(1, 2)));
        wires.fits(|_| true).unwrap();
        let refused = |section: GridFile, expect: &str| {
            let error = section.check(folder.path()).unwrap_err();
            assert!(crate::cli::chain(&error).contains(expect), "{error:#}");
        };
        refused(
            section("n.json", 3),
            "node 3, which the network does not have",
        );
        refused(section("m.json", 2), "cannot read");
        let stranger = wires.fits(|_| false).unwrap_err();
        assert!(
            stranger
                .to_string()
                .contains("home-1.meter is no connection")
        );
    }
}
