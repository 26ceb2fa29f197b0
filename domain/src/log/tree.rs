//! The Merkle tree of RFC 6962 over SHA-256: append, root, inclusion and consistency proofs.
//!
//! Only complete subtrees are stored, by level and index; the ragged right edge is folded from them.

use crate::ids::Digest32;
use sha2::{Digest, Sha256};

/// Longest proof: a tree of 2^64 leaves has 64 levels.
pub const PATH_MAX: usize = 64;

/// The hash of a tree without leaves.
#[must_use]
pub fn empty_root() -> Digest32 {
    Digest32::of(&[])
}

/// The hash of a leaf with these bytes.
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> Digest32 {
    Digest32(
        Sha256::new()
            .chain_update([0])
            .chain_update(bytes)
            .finalize()
            .into(),
    )
}

/// The hash of a subtree from those of its two halves.
#[must_use]
pub fn node_hash(left: Digest32, right: Digest32) -> Digest32 {
    let hash = Sha256::new()
        .chain_update([1])
        .chain_update(left.0)
        .chain_update(right.0);
    Digest32(hash.finalize().into())
}

/// The place of a complete subtree: it covers the leaves `index << level .. (index + 1) << level`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Node {
    /// Zero for a leaf.
    pub level: u8,
    /// Position among the subtrees of the level.
    pub index: u64,
}

/// The roots of the complete subtrees that a tree consists of, largest first: all it takes to append.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest32>,
}

impl Frontier {
    /// A frontier from its stored parts; `None` where the number of peaks does not fit the size.
    #[must_use]
    pub fn from_parts(size: u64, peaks: Vec<Digest32>) -> Option<Self> {
        (u64::from(size.count_ones()) == peaks.len() as u64).then_some(Frontier { size, peaks })
    }

    /// Leaves in the tree.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The peaks, largest subtree first.
    #[must_use]
    pub fn peaks(&self) -> &[Digest32] {
        &self.peaks
    }

    /// Appends a leaf and returns every subtree that is complete now: the leaf, then upwards.
    pub fn append(&mut self, leaf: Digest32) -> Vec<(Node, Digest32)> {
        let mut node = Node {
            level: 0,
            index: self.size,
        };
        let mut hash = leaf;
        let mut complete = vec![(node, hash)];
        while node.index % 2 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(left, hash);
            node = Node {
                level: node.level + 1,
                index: node.index / 2,
            };
            complete.push((node, hash));
        }
        self.peaks.push(hash);
        self.size += 1;
        complete
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Digest32 {
        fold(&self.peaks).unwrap_or_else(empty_root)
    }
}

fn fold(parts: &[Digest32]) -> Option<Digest32> {
    let (last, front) = parts.split_last()?;
    Some(
        front
            .iter()
            .rev()
            .fold(*last, |right, left| node_hash(*left, right)),
    )
}

/// The complete subtrees that `[from, to)` consists of, left to right. `from` is a multiple of the
/// largest power of two below the range's length, as all ranges of a proof are.
fn complete_subtrees(mut from: u64, to: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    while from < to {
        let level = (to - from).ilog2();
        let level = if from == 0 {
            level
        } else {
            level.min(from.trailing_zeros())
        };
        // A level is below 64.
        nodes.push(Node {
            level: u8::try_from(level).unwrap_or(u8::MAX),
            index: from >> level,
        });
        from += 1 << level;
    }
    nodes
}

/// A proof before its hashes are looked up: for each element, the subtrees to fold into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    elements: Vec<Vec<Node>>,
}

impl Plan {
    fn of(ranges: &[(u64, u64)]) -> Self {
        let elements = ranges
            .iter()
            .map(|(from, to)| complete_subtrees(*from, *to))
            .collect();
        Plan { elements }
    }

    /// All subtrees whose hashes are needed.
    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        self.elements.iter().flatten().copied()
    }

    /// The proof; `None` where `hash_of` lacks a subtree.
    pub fn path(&self, hash_of: impl Fn(Node) -> Option<Digest32>) -> Option<Vec<Digest32>> {
        let element = |nodes: &Vec<Node>| {
            let hashes: Option<Vec<Digest32>> = nodes.iter().map(|node| hash_of(*node)).collect();
            fold(&hashes?)
        };
        self.elements.iter().map(element).collect()
    }
}

fn split_point(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// How to fold the root of a tree of `size` leaves out of its complete subtrees: one element, or none where
/// the tree is empty.
#[must_use]
pub fn root_plan(size: u64) -> Plan {
    match size {
        0 => Plan::of(&[]),
        _ => Plan::of(&[(0, size)]),
    }
}

/// How to prove that the leaf at `index` is in the tree of `size` leaves; `None` if it is not.
#[must_use]
pub fn inclusion_plan(index: u64, size: u64) -> Option<Plan> {
    if index >= size {
        return None;
    }
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    while to - from > 1 {
        let middle = from + split_point(to - from);
        if index < middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
        }
    }
    ranges.reverse();
    Some(Plan::of(&ranges))
}

/// How to prove that the tree of `size` leaves begins with the tree of `old` leaves; `None` where
/// `old` is zero or above `size`.
#[must_use]
pub fn consistency_plan(old: u64, size: u64) -> Option<Plan> {
    if old == 0 || old > size {
        return None;
    }
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    let mut whole = true;
    while to != old {
        let middle = from + split_point(to - from);
        if old <= middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
            whole = false;
        }
    }
    if !whole {
        ranges.push((from, to));
    }
    ranges.reverse();
    Some(Plan::of(&ranges))
}

/// Whether `path` leads from the leaf at `index` to the root of a tree of `size` leaves.
#[must_use]
pub fn verify_inclusion(
    leaf: Digest32,
    index: u64,
    size: u64,
    path: &[Digest32],
    root: Digest32,
) -> bool {
    if index >= size || path.len() > PATH_MAX {
        return false;
    }
    let (mut position, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if position % 2 == 1 || position == last {
            hash = node_hash(*sibling, hash);
            // The last subtree of a level without a partner moves up unchanged.
            while position % 2 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(hash, *sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `path` shows that the tree `(size, root)` begins with the tree `(old, old_root)`.
#[must_use]
pub fn verify_consistency(
    old: u64,
    old_root: Digest32,
    size: u64,
    root: Digest32,
    path: &[Digest32],
) -> bool {
    if old == 0 || old > size || path.len() > PATH_MAX + 1 {
        return false;
    }
    if old == size {
        return path.is_empty() && old_root == root;
    }
    let roots = match old.is_power_of_two() {
        true => fold_consistency(old, size, old_root, path),
        false => consistency_roots(old, size, path),
    };
    roots == Some((old_root, root))
}

/// The roots to which a proof leads that a tree of `size` leaves has a beginning of `old`: first that of the
/// beginning, then that of the whole. Here the hash from which it starts always comes first, also where `old`
/// is a power of two and a proof of consistency leaves it away.
///
/// Whatever the first root is, a tree with the second one begins like that.
#[must_use]
pub fn consistency_roots(old: u64, size: u64, path: &[Digest32]) -> Option<(Digest32, Digest32)> {
    if old == 0 || old >= size || path.len() > PATH_MAX + 1 {
        return None;
    }
    let (start, rest) = path.split_first()?;
    fold_consistency(old, size, *start, rest)
}

fn fold_consistency(
    old: u64,
    size: u64,
    start: Digest32,
    path: &[Digest32],
) -> Option<(Digest32, Digest32)> {
    let (mut position, mut last) = (old - 1, size - 1);
    while position % 2 == 1 {
        position >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut hash) = (start, start);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if position % 2 == 1 || position == last {
            old_hash = node_hash(*sibling, old_hash);
            hash = node_hash(*sibling, hash);
            while position % 2 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(hash, *sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    (last == 0).then_some((old_hash, hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use std::collections::BTreeMap;

    struct Tree {
        frontier: Frontier,
        nodes: BTreeMap<Node, Digest32>,
        roots: Vec<Digest32>,
        oracle: MemoryBackedTree<Sha256, Vec<u8>>,
    }

    fn leaf(n: u64) -> Vec<u8> {
        format!("leaf {n}").into_bytes()
    }

    fn tree(size: u64) -> Tree {
        let mut tree = Tree {
            frontier: Frontier::default(),
            nodes: BTreeMap::new(),
            roots: vec![empty_root()],
            oracle: MemoryBackedTree::new(),
        };
        for n in 0..size {
            tree.nodes.extend(tree.frontier.append(leaf_hash(&leaf(n))));
            tree.roots.push(tree.frontier.root());
            tree.oracle.push(leaf(n));
            assert_eq!(
                tree.oracle.root().as_bytes().as_slice(),
                tree.frontier.root().0
            );
        }
        tree
    }

    #[test]
    fn roots_and_proofs_agree_with_another_implementation() {
        for size in 1..40_u64 {
            let tree = tree(size);
            let root = tree.frontier.root();
            for index in 0..size {
                let plan = inclusion_plan(index, size).unwrap();
                let path = plan.path(|n| tree.nodes.get(&n).copied()).unwrap();
                let bytes: Vec<u8> = path.iter().flat_map(|d| d.0).collect();
                let theirs = tree.oracle.prove_inclusion(usize::try_from(index).unwrap());
                assert_eq!(theirs.as_bytes(), bytes, "{index} of {size}");
                let hash = leaf_hash(&leaf(index));
                for other in 0..size + 3 {
                    let holds = verify_inclusion(hash, other, size, &path, root);
                    assert_eq!(holds, other == index, "{index} as {other} of {size}");
                }
                assert!(
                    !verify_inclusion(hash, index, size, &path[1.min(path.len())..], root)
                        || size == 1
                );
            }
            assert!(inclusion_plan(size, size).is_none());
        }
    }

    #[test]
    fn consistency_agrees_with_another_implementation() {
        let tree = tree(40);
        for size in 1..=40_u64 {
            let at = |n: u64| tree.roots[usize::try_from(n).unwrap()];
            let mut oracle = MemoryBackedTree::<Sha256, Vec<u8>>::new();
            (0..size).for_each(|n| oracle.push(leaf(n)));
            for old in 1..=size {
                let plan = consistency_plan(old, size).unwrap();
                let path = plan.path(|n| tree.nodes.get(&n).copied()).unwrap();
                if old < size {
                    let added = usize::try_from(size - old).unwrap();
                    let bytes: Vec<u8> = path.iter().flat_map(|d| d.0).collect();
                    assert_eq!(
                        oracle.prove_consistency(added).as_bytes(),
                        bytes,
                        "{old} {size}"
                    );
                }
                assert!(
                    verify_consistency(old, at(old), size, at(size), &path),
                    "{old} {size}"
                );
                let start = old.is_power_of_two().then(|| at(old));
                let from: Vec<Digest32> = start.into_iter().chain(path.clone()).collect();
                let roots = consistency_roots(old, size, &from);
                assert_eq!(roots, (old < size).then(|| (at(old), at(size))));
                assert!(!verify_consistency(old, at(old - 1), size, at(size), &path));
                assert!(!verify_consistency(old, at(old), size, at(old - 1), &path));
            }
        }
    }
}
