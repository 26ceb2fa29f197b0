//! A log as static resources (C2SP tlog-tiles): which tiles a tree of some size has, their paths, and
//! what is in them.
//!
//! A full tile never changes; the last of each row is partial and has its width in its path, so that
//! every resource but the checkpoint may be kept for ever.

use domain::ids::Digest32;

use super::tree::Node;

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Levels of the tree between two rows of tiles.
const TILE_HEIGHT: u8 = 8;
/// The highest row that a tree of at most 2^64 leaves has.
const ROW_MAX: u8 = 7;
/// Largest resource in bytes: a bundle of 256 entries of the largest size.
pub const RESOURCE_MAX_BYTES: usize = 256 * (2 + u16::MAX as usize);

/// What a tile is made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Row {
    /// Roots of complete subtrees of `256^n` leaves.
    Hashes(u8),
    /// The leaves themselves.
    Entries,
}

/// A tile: `width` neighbours of a row, from the position `256 * index` on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tile {
    /// Of which row.
    pub row: Row,
    /// Position among the row's tiles.
    pub index: u64,
    /// 1 to 256.
    pub width: u16,
}

/// How many hashes (or entries) of a row a tree of `size` leaves has.
fn length(row: Row, size: u64) -> u64 {
    match row {
        Row::Entries => size,
        Row::Hashes(n) => size
            .checked_shr(u32::from(n) * u32::from(TILE_HEIGHT))
            .unwrap_or(0),
    }
}

impl Tile {
    /// The tile of a row at `index` in a tree of `size` leaves; `None` where the tree does not reach there.
    #[must_use]
    pub fn at(row: Row, index: u64, size: u64) -> Option<Tile> {
        let rest = length(row, size).checked_sub(index.checked_mul(TILE_WIDTH)?)?;
        let width = u16::try_from(rest.min(TILE_WIDTH)).ok()?;
        (width > 0).then_some(Tile { row, index, width })
    }

    /// The tile that holds a subtree's hash, or what it is folded from, in a tree of `size` leaves.
    #[must_use]
    pub fn of_node(node: Node, size: u64) -> Option<Tile> {
        let row = node.level / TILE_HEIGHT;
        let first = node
            .index
            .checked_shl(u32::from(node.level % TILE_HEIGHT))?;
        Tile::at(Row::Hashes(row), first / TILE_WIDTH, size)
    }

    /// Whether it can never grow.
    #[must_use]
    pub fn is_full(self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// The position of the first hash or entry in its row.
    #[must_use]
    pub fn first(self) -> u64 {
        self.index * TILE_WIDTH
    }

    /// Whether a tree of `size` leaves has all of it.
    #[must_use]
    pub fn is_within(self, size: u64) -> bool {
        self.first()
            .checked_add(u64::from(self.width))
            .is_some_and(|end| end <= length(self.row, size))
    }

    /// Its path below the log's address, such as `tile/0/x001/x234/067.p/8`.
    #[must_use]
    pub fn path(self) -> String {
        let mut groups = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups = format!("x{:03}/{groups}", rest % 1000);
            rest /= 1000;
        }
        let row = match self.row {
            Row::Entries => "entries".to_owned(),
            Row::Hashes(n) => n.to_string(),
        };
        let part = match self.is_full() {
            true => String::new(),
            false => format!(".p/{}", self.width),
        };
        format!("tile/{row}/{groups}{part}")
    }

    /// The tile at a path; `None` where no tile can be there.
    #[must_use]
    pub fn parse(path: &str) -> Option<Tile> {
        let (row, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let row = match row {
            "entries" => Row::Entries,
            n => Row::Hashes(n.parse().ok().filter(|n| *n <= ROW_MAX)?),
        };
        let (groups, width) = match rest.split_once(".p/") {
            Some((groups, width)) => (groups, width.parse().ok().filter(|w| (1..256).contains(w))?),
            None => (rest, 256),
        };
        let mut index: u64 = 0;
        for group in groups.split('/') {
            let digits: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
            index = index.checked_mul(1000)?.checked_add(digits)?;
        }
        index.checked_add(1)?.checked_mul(TILE_WIDTH)?;
        let tile = Tile { row, index, width };
        // Writing it again refuses plus signs, leading zeros and groups of another length.
        (tile.path() == path).then_some(tile)
    }

    /// The subtrees whose hashes it holds; none for a bundle of entries.
    pub fn nodes(self) -> impl Iterator<Item = Node> {
        let level = match self.row {
            Row::Hashes(n) => Some(n * TILE_HEIGHT),
            Row::Entries => None,
        };
        let positions = self.first()..self.first() + u64::from(self.width);
        level
            .into_iter()
            .flat_map(move |level| positions.clone().map(move |index| Node { level, index }))
    }
}

/// Every tile of a tree of `size` leaves, bundles of entries first.
pub fn tiles(size: u64) -> impl Iterator<Item = Tile> {
    let rows = std::iter::once(Row::Entries).chain((0..=ROW_MAX).map(Row::Hashes));
    rows.flat_map(move |row| (0..).map_while(move |index| Tile::at(row, index, size)))
}

/// The bytes of a tile of hashes.
#[must_use]
pub fn write_hashes(hashes: &[Digest32]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile; `None` where they are not as many as it is wide.
#[must_use]
pub fn read_hashes(tile: Tile, bytes: &[u8]) -> Option<Vec<Digest32>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    let fits = rest.is_empty() && hashes.len() == usize::from(tile.width);
    fits.then(|| hashes.iter().copied().map(Digest32).collect())
}

/// The bytes of a bundle: each entry behind its length; `None` where one is too long.
pub fn write_entries<'e>(entries: impl IntoIterator<Item = &'e [u8]>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend(u16::try_from(entry.len()).ok()?.to_be_bytes());
        bytes.extend(entry);
    }
    Some(bytes)
}

/// The entries of a bundle; `None` where they are not as many as it is wide, or one is cut off.
#[must_use]
pub fn read_entries(tile: Tile, mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::with_capacity(usize::from(tile.width));
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry.to_vec());
        bytes = rest;
    }
    (bytes.is_empty() && entries.len() == usize::from(tile.width)).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(row: Row, index: u64, width: u16) -> Tile {
        Tile { row, index, width }
    }

    #[test]
    fn paths_are_those_of_the_format() {
        let entries = Row::Entries;
        for (tile, path) in [
            (tile(Row::Hashes(0), 0, 256), "tile/0/000"),
            (tile(Row::Hashes(0), 273, 112), "tile/0/273.p/112"),
            (tile(Row::Hashes(2), 0, 1), "tile/2/000.p/1"),
            (tile(entries, 999, 256), "tile/entries/999"),
            (tile(entries, 1000, 255), "tile/entries/x001/000.p/255"),
            (tile(Row::Hashes(1), 1_234_067, 256), "tile/1/x001/x234/067"),
        ] {
            assert_eq!(tile.path(), path);
            assert_eq!(Tile::parse(path), Some(tile));
        }
        for wrong in [
            "",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001/x002",
            "tile/00/000",
            "tile/8/000",
            "tile/-1/000",
            "tile/0/+01",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/08",
            "tile/0/000.p/",
            "tile/names/000",
            "tile/0/../0/000",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(Tile::parse(wrong), None, "{wrong}");
        }
    }

    /// The tree of 70,000 leaves is the example of the format's own text.
    #[test]
    fn a_tree_has_the_tiles_that_the_format_counts() {
        let of = |size: u64, row: Row| -> Vec<u16> {
            tiles(size)
                .filter(|tile| tile.row == row)
                .map(|tile| tile.width)
                .collect()
        };
        let zero = of(70_000, Row::Hashes(0));
        assert_eq!((zero.len(), zero.last()), (274, Some(&112)));
        assert!(zero[..273].iter().all(|width| *width == 256));
        assert_eq!(of(70_000, Row::Hashes(1)), [256, 17]);
        assert_eq!(of(70_000, Row::Hashes(2)), [1]);
        assert!(of(70_000, Row::Hashes(3)).is_empty());
        assert_eq!(of(70_000, Row::Entries), zero);
        assert_eq!(of(256, Row::Hashes(0)), [256]);
        assert_eq!(of(256, Row::Hashes(1)), [1]);
        assert_eq!(tiles(0).count(), 0);
        for tile in tiles(70_000) {
            assert!(tile.is_within(70_000));
            assert!(tile.is_within(69_999) || !tile.is_full(), "{tile:?}");
        }
        assert_eq!(Tile::at(Row::Entries, u64::MAX, u64::MAX), None);
    }

    #[test]
    fn a_node_is_found_in_its_tile() {
        let node = |level, index| Node { level, index };
        let found = |n| Tile::of_node(n, 70_000);
        assert_eq!(found(node(0, 255)), Tile::parse("tile/0/000"));
        assert_eq!(found(node(0, 256)), Tile::parse("tile/0/001"));
        assert_eq!(found(node(7, 2)), Tile::parse("tile/0/001"));
        assert_eq!(found(node(8, 272)), Tile::parse("tile/1/001.p/17"));
        assert_eq!(found(node(16, 0)), Tile::parse("tile/2/000.p/1"));
        assert_eq!(found(node(8, 600)), None);
        let last = Tile::parse("tile/1/001.p/17").unwrap();
        let nodes: Vec<Node> = last.nodes().collect();
        assert_eq!((nodes[0], nodes[16]), (node(8, 256), node(8, 272)));
        assert_eq!(Tile::parse("tile/entries/000").unwrap().nodes().count(), 0);
    }

    #[test]
    fn bundles_and_tiles_have_one_reading() {
        let two = tile(Row::Entries, 0, 2);
        let bytes = write_entries([b"ab".as_slice(), b""]).unwrap();
        assert_eq!(bytes, [0, 2, b'a', b'b', 0, 0]);
        assert_eq!(
            read_entries(two, &bytes),
            Some(vec![b"ab".to_vec(), Vec::new()])
        );
        assert_eq!(write_entries([vec![0; 65_536].as_slice()]), None);
        for wrong in [&bytes[..4], &bytes[..5], &[0, 2, b'a'], &[0, 0]] {
            assert_eq!(read_entries(two, wrong), None, "{wrong:?}");
        }
        let hashes = [Digest32([1; 32]), Digest32([2; 32])];
        let pair = tile(Row::Hashes(0), 0, 2);
        let bytes = write_hashes(&hashes);
        assert_eq!(read_hashes(pair, &bytes), Some(hashes.to_vec()));
        assert_eq!(read_hashes(pair, &bytes[..63]), None);
        assert_eq!(read_hashes(tile(Row::Hashes(0), 0, 3), &bytes), None);
    }
}
