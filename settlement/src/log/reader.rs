//! Reading a log that is served as tiles: its root and its proofs, from hashes alone or rebuilt from
//! every entry.

use std::collections::BTreeMap;

use domain::ids::Digest32;

use super::tile::{Row, TILE_WIDTH, Tile, read_entries, read_hashes};
use super::tree::{Frontier, Node, Plan, consistency_plan, inclusion_plan, leaf_hash, root_plan};

/// Where the resources of a log come from.
pub trait Source {
    /// The bytes of the resource at this path below the log's address.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn get(&mut self, path: &str) -> Result<Vec<u8>, String>;
}

impl<F: FnMut(&str) -> Result<Vec<u8>, String>> Source for F {
    fn get(&mut self, path: &str) -> Result<Vec<u8>, String> {
        self(path)
    }
}

/// Why a log could not be read, or does not hold.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// A resource cannot be had.
    #[error("{path}: {why}")]
    Missing {
        /// Which one.
        path: String,
        /// Why not.
        why: String,
    },
    /// A resource is not what its path says.
    #[error("{0}: not a tile of this width")]
    Malformed(String),
    /// A tile of hashes does not follow from the entries.
    #[error("{0}: its hashes are not those of the entries")]
    OtherHashes(String),
    /// The tree does not reach that far.
    #[error("a log of {size} entries has no {what}")]
    Beyond {
        /// Its size.
        size: u64,
        /// What was asked for.
        what: String,
    },
}

/// A tree of known size, whose hashes are fetched as they are needed. What it gives is only as good as the
/// root that it is compared with.
pub struct Tiled<S> {
    source: S,
    size: u64,
    kept: BTreeMap<Tile, Vec<Digest32>>,
}

impl<S: Source> Tiled<S> {
    /// A tree of `size` leaves.
    pub fn new(source: S, size: u64) -> Self {
        Tiled {
            source,
            size,
            kept: BTreeMap::new(),
        }
    }

    fn beyond(&self, what: String) -> ReadError {
        let size = self.size;
        ReadError::Beyond { size, what }
    }

    fn node(&mut self, node: Node) -> Result<Digest32, ReadError> {
        let end = (node.index + 1).checked_shl(u32::from(node.level));
        if end.is_none_or(|end| end > self.size) {
            return Err(self.beyond(format!("subtree {node:?}")));
        }
        let tile = Tile::of_node(node, self.size);
        let tile = tile.ok_or_else(|| self.beyond(format!("subtree {node:?}")))?;
        if !self.kept.contains_key(&tile) {
            let bytes = get(&mut self.source, tile)?;
            let hashes = read_hashes(tile, &bytes);
            let hashes = hashes.ok_or_else(|| ReadError::Malformed(tile.path()))?;
            self.kept.insert(tile, hashes);
        }
        let steps = node.level % 8;
        // Below 256 for a node that is in this tile.
        let first = usize::try_from((node.index << steps) - tile.first()).unwrap_or(usize::MAX);
        let row = self.kept.get(&tile).map_or(&[][..], Vec::as_slice);
        let part = first
            .checked_add(1 << steps)
            .and_then(|end| row.get(first..end));
        let part = part.ok_or_else(|| ReadError::Malformed(tile.path()))?;
        let mut folded = Frontier::default();
        part.iter().for_each(|hash| drop(folded.append(*hash)));
        Ok(folded.root())
    }

    fn fold(&mut self, plan: &Plan) -> Result<Vec<Digest32>, ReadError> {
        let mut hashes = BTreeMap::new();
        for node in plan.nodes() {
            hashes.insert(node, self.node(node)?);
        }
        plan.path(|node| hashes.get(&node).copied())
            .ok_or_else(|| self.beyond("such proof".to_owned()))
    }

    /// The root that the tiles lead to.
    ///
    /// # Errors
    /// A tile is missing or malformed.
    pub fn root(&mut self) -> Result<Digest32, ReadError> {
        let folded = self.fold(&root_plan(self.size))?;
        Ok(folded
            .first()
            .copied()
            .unwrap_or_else(super::tree::empty_root))
    }

    /// The root of the complete subtree of `2^level` leaves with which the tree begins.
    ///
    /// # Errors
    /// A tile is missing or malformed, or the tree is smaller.
    pub fn subtree(&mut self, level: u32) -> Result<Digest32, ReadError> {
        let level = u8::try_from(level).unwrap_or(u8::MAX);
        self.node(Node { level, index: 0 })
    }

    /// The hashes that lead from a leaf to the root.
    ///
    /// # Errors
    /// A tile is missing or malformed, or there is no such leaf.
    pub fn inclusion(&mut self, index: u64) -> Result<Vec<Digest32>, ReadError> {
        let plan = inclusion_plan(index, self.size);
        let plan = plan.ok_or_else(|| self.beyond(format!("entry {index}")))?;
        self.fold(&plan)
    }

    /// The proof that this tree begins with the tree of `old` leaves.
    ///
    /// # Errors
    /// A tile is missing or malformed, or there is no such tree.
    pub fn consistency(&mut self, old: u64) -> Result<Vec<Digest32>, ReadError> {
        let plan = consistency_plan(old, self.size);
        let plan = plan.ok_or_else(|| self.beyond(format!("beginning of {old} entries")))?;
        self.fold(&plan)
    }
}

fn get(source: &mut impl Source, tile: Tile) -> Result<Vec<u8>, ReadError> {
    let path = tile.path();
    source
        .get(&path)
        .map_err(|why| ReadError::Missing { path, why })
}

/// Reads every entry of a log in order, hands each to `each` with its position, checks that all tiles of
/// hashes follow from them, and returns the root after each of the sizes in `marks` and after the last.
///
/// # Errors
/// A resource is missing, malformed, or does not follow from the entries.
pub fn replay(
    source: &mut impl Source,
    size: u64,
    marks: &[u64],
    mut each: impl FnMut(u64, &[u8]),
) -> Result<BTreeMap<u64, Digest32>, ReadError> {
    let mut frontier = Frontier::default();
    let mut roots = BTreeMap::new();
    let mut rows: Vec<Vec<Digest32>> = Vec::new();
    let mark = |frontier: &Frontier, roots: &mut BTreeMap<u64, Digest32>| {
        let now = frontier.size();
        if now == size || marks.contains(&now) {
            roots.insert(now, frontier.root());
        }
    };
    mark(&frontier, &mut roots);
    for index in 0..size.div_ceil(TILE_WIDTH) {
        let Some(tile) = Tile::at(Row::Entries, index, size) else {
            break;
        };
        let bytes = get(source, tile)?;
        let entries = read_entries(tile, &bytes);
        for entry in entries.ok_or_else(|| ReadError::Malformed(tile.path()))? {
            each(frontier.size(), &entry);
            for (node, hash) in frontier.append(leaf_hash(&entry)) {
                if node.level % 8 == 0 {
                    let row = usize::from(node.level / 8);
                    rows.resize_with(rows.len().max(row + 1), Vec::new);
                    rows[row].push(hash);
                    if rows[row].len() == 256 {
                        compare(
                            source,
                            node.level / 8,
                            node.index / TILE_WIDTH,
                            size,
                            &rows[row],
                        )?;
                        rows[row].clear();
                    }
                }
            }
            mark(&frontier, &mut roots);
        }
    }
    for (row, rest) in (0_u8..).zip(&rows) {
        if !rest.is_empty() {
            let shift = u32::from(row) * 8;
            compare(source, row, (size >> shift) / TILE_WIDTH, size, rest)?;
        }
    }
    Ok(roots)
}

fn compare(
    source: &mut impl Source,
    row: u8,
    index: u64,
    size: u64,
    hashes: &[Digest32],
) -> Result<(), ReadError> {
    let Some(tile) = Tile::at(Row::Hashes(row), index, size) else {
        return Ok(());
    };
    let served = read_hashes(tile, &get(source, tile)?);
    match served.ok_or_else(|| ReadError::Malformed(tile.path()))? == hashes {
        true => Ok(()),
        false => Err(ReadError::OtherHashes(tile.path())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tile::{tiles, write_entries, write_hashes};
    use super::super::tree::{verify_consistency, verify_inclusion};
    use super::*;
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use sha2::Sha256;

    fn leaf(n: u64) -> Vec<u8> {
        format!("leaf {n}").into_bytes()
    }

    /// Every resource of a log of `size` leaves, made by folding each tile from the leaves themselves.
    fn served(size: u64) -> BTreeMap<String, Vec<u8>> {
        let leaves: Vec<Digest32> = (0..size).map(|n| leaf_hash(&leaf(n))).collect();
        let at = |n: u64| usize::try_from(n).unwrap();
        let subtree = |node: Node| {
            let width = 1_u64 << node.level;
            let mut part = Frontier::default();
            for hash in &leaves[at(node.index * width)..at((node.index + 1) * width)] {
                part.append(*hash);
            }
            part.root()
        };
        let content = |tile: Tile| match tile.row {
            Row::Hashes(_) => write_hashes(&tile.nodes().map(subtree).collect::<Vec<_>>()),
            Row::Entries => {
                let entries: Vec<Vec<u8>> = (tile.first()..tile.first() + u64::from(tile.width))
                    .map(leaf)
                    .collect();
                write_entries(entries.iter().map(Vec::as_slice)).unwrap()
            }
        };
        tiles(size)
            .map(|tile| (tile.path(), content(tile)))
            .collect()
    }

    fn from(served: &BTreeMap<String, Vec<u8>>) -> impl FnMut(&str) -> Result<Vec<u8>, String> {
        |path| served.get(path).cloned().ok_or("not served".to_owned())
    }

    #[test]
    fn tiles_lead_to_the_roots_and_proofs_of_another_implementation() {
        for size in [1, 2, 255, 256, 257, 700, 65_536 + 300] {
            let served = served(size);
            let mut oracle = MemoryBackedTree::<Sha256, Vec<u8>>::new();
            (0..size).for_each(|n| oracle.push(leaf(n)));
            let mut tiled = Tiled::new(from(&served), size);
            let root = tiled.root().unwrap();
            assert_eq!(oracle.root().as_bytes().as_slice(), root.0, "{size}");
            assert_eq!(tiled.subtree(0), Ok(leaf_hash(&leaf(0))));
            if size.is_power_of_two() {
                assert_eq!(tiled.subtree(size.ilog2()), Ok(root));
            }
            assert!(tiled.subtree(size.ilog2() + 1).is_err());
            for index in [0, size / 3, size / 2, size - 1] {
                let path = tiled.inclusion(index).unwrap();
                let bytes: Vec<u8> = path.iter().flat_map(|d| d.0).collect();
                let theirs = oracle.prove_inclusion(usize::try_from(index).unwrap());
                assert_eq!(theirs.as_bytes(), bytes, "{index} of {size}");
                assert!(verify_inclusion(
                    leaf_hash(&leaf(index)),
                    index,
                    size,
                    &path,
                    root
                ));
            }
            let roots = replay(&mut from(&served), size, &[size / 3], |_, _| {}).unwrap();
            assert_eq!(roots[&size], root);
            if let old @ 1.. = size / 3 {
                let path = tiled.consistency(old).unwrap();
                assert!(verify_consistency(old, roots[&old], size, root, &path));
            }
            assert!(matches!(
                tiled.inclusion(size),
                Err(ReadError::Beyond { .. })
            ));
        }
        let none = replay(&mut from(&BTreeMap::new()), 0, &[], |_, _| {}).unwrap();
        assert_eq!(none[&0], super::super::tree::empty_root());
    }

    #[test]
    fn a_log_that_was_tampered_with_is_found_out() {
        let good = served(700);
        let check =
            |served: &BTreeMap<String, Vec<u8>>| replay(&mut from(served), 700, &[], |_, _| {});
        let root = check(&good).unwrap()[&700];
        for path in good.keys() {
            let mut bad = good.clone();
            bad.remove(path);
            assert!(
                matches!(check(&bad), Err(ReadError::Missing { .. })),
                "{path}"
            );
            let mut bad = good.clone();
            bad.get_mut(path).unwrap().pop();
            assert!(
                matches!(check(&bad), Err(ReadError::Malformed(_))),
                "{path}"
            );
            let mut bad = good.clone();
            *bad.get_mut(path).unwrap().last_mut().unwrap() ^= 1;
            assert!(
                matches!(check(&bad), Err(ReadError::OtherHashes(_))),
                "{path}"
            );
        }
        // All of it made anew for another entry holds in itself, and has another root.
        let mut other = Vec::new();
        let roots = replay(&mut from(&good), 700, &[], |at, entry| {
            other.push((at, entry.to_vec()))
        });
        assert_eq!(roots.unwrap()[&700], root);
        assert_eq!((other.len(), &other[699]), (700, &(699, leaf(699))));
    }
}
