//! The logs in the database: appending, proofs, and signing checkpoints.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use domain::ids::Digest32;
use domain::receipt::Place;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Args, Db, Listed, Source, Tx};

use super::error::{bytes, corrupt, number, stored};
use super::{Community, ServiceError};
use crate::log::checkpoint::{Checkpoint, Log};
use crate::log::entry::{Entry, Kind, PUBLIC};
use crate::log::tile::{Row, Tile, write_entries};
use crate::log::tree::{Frontier, Node, Plan, consistency_plan, inclusion_plan, leaf_hash};
use crate::store::LOCK;

static ENTRIES: LazyLock<Listed> =
    LazyLock::new(|| Listed::insert("settle_log_entries", &["log", "idx", "leaf"], ""));
static NODES: LazyLock<Listed> =
    LazyLock::new(|| Listed::insert("settle_log_nodes", &["log", "level", "idx", "hash"], ""));
static LOGS: LazyLock<Listed> = LazyLock::new(|| {
    let behind = "ON CONFLICT (log) DO UPDATE SET size = excluded.size, peaks = excluded.peaks";
    Listed::insert("settle_logs", &["log", "size", "peaks"], behind)
});
static CHECKPOINTS: LazyLock<Listed> = LazyLock::new(|| {
    let columns = ["log", "size", "note", "at_ms", "ledger_index"];
    Listed::insert("settle_checkpoints", &columns, "")
});

/// What is to be written: rows for each list, in this order.
pub(super) type Writes = Vec<(&'static Listed, Vec<Args>)>;

/// Appends entries and returns the position of the first.
pub(super) async fn append(tx: &mut Tx, log: Log, entries: &[Entry]) -> Result<i64, ServiceError> {
    let mut frontier = frontier(tx, log).await?;
    let first = stored(frontier.size())?;
    Listed::together(tx, appended(&mut frontier, log, entries)?).await?;
    Ok(first)
}

/// What appending entries to a log of this state writes, whose state it moves on.
pub(super) fn appended(
    frontier: &mut Frontier,
    log: Log,
    entries: &[Entry],
) -> Result<Writes, ServiceError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let code = i64::from(log.code());
    let (mut leaves, mut nodes) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        leaves.push(args![code, stored(frontier.size())?, entry.leaf()]);
        // The leaf's own hash is not kept: it is one hash away.
        for (node, hash) in frontier.append(entry.leaf_hash()).into_iter().skip(1) {
            let level = i64::from(node.level);
            nodes.push(args![code, level, stored(node.index)?, hash.0]);
        }
    }
    let peaks: Vec<u8> = frontier.peaks().iter().flat_map(|peak| peak.0).collect();
    let log = args![code, stored(frontier.size())?, peaks];
    Ok(vec![
        (&ENTRIES, leaves),
        (&NODES, nodes),
        (&LOGS, vec![log]),
    ])
}

/// The state of a log that the next append goes on from.
pub(super) async fn frontier(source: &mut impl Source, log: Log) -> Result<Frontier, ServiceError> {
    let row: Option<(i64, Vec<u8>)> = source
        .optional(
            "SELECT size, peaks FROM settle_logs WHERE log = $1",
            args![i64::from(log.code())],
        )
        .await?;
    row.map_or_else(|| Ok(Frontier::default()), kept_frontier)
}

fn kept_frontier((size, peaks): (i64, Vec<u8>)) -> Result<Frontier, ServiceError> {
    let peaks: Vec<Digest32> = peaks
        .chunks(32)
        .map(|chunk| bytes(chunk, "a log's peak").map(Digest32))
        .collect::<Result<_, _>>()?;
    Frontier::from_parts(number(size, "a log's size")?, peaks)
        .ok_or_else(|| corrupt("a log's size and peaks do not fit"))
}

/// Signs a checkpoint of each log that grew since its last one; the ledger comes last and takes in the
/// new checkpoints of the other two.
///
/// # Errors
/// The database failed.
pub async fn checkpoint(
    tx: &mut Tx,
    community: &Community,
    now: Timestamp,
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    let mut heads = heads(tx).await?;
    let mut ledger = heads.remove(&Log::Ledger.code()).unwrap_or_default();
    let ledger_size = stored(ledger.frontier.size())?;
    let (mut signed, mut entries) = (Vec::new(), Vec::new());
    for log in [Log::Readings, Log::Market] {
        let head = heads.remove(&log.code()).unwrap_or_default();
        if !head.has_grown() {
            continue;
        }
        let (size, note) = sign(community, log, &head.frontier)?;
        // Its checkpoint is an entry of the ledger's log, which grows by it.
        let index = ledger_size + stored(entries.len() as u64)?;
        let content = note.as_bytes();
        entries.push(Entry::new(
            Kind::Checkpoint,
            Timestamp::EPOCH,
            PUBLIC,
            content,
        ));
        signed.push(args![
            i64::from(log.code()),
            size,
            note,
            now.unix_ms(),
            Some(index)
        ]);
    }
    let mut writes = appended(&mut ledger.frontier, Log::Ledger, &entries)?;
    if ledger.has_grown() {
        let (size, note) = sign(community, Log::Ledger, &ledger.frontier)?;
        let code = i64::from(Log::Ledger.code());
        signed.push(args![code, size, note, now.unix_ms(), Option::<i64>::None]);
    }
    writes.push((&CHECKPOINTS, signed));
    Ok(Listed::together(tx, writes).await?)
}

/// The stored form of a log's size, and the signed note of its checkpoint.
fn sign(
    community: &Community,
    log: Log,
    frontier: &Frontier,
) -> Result<(i64, String), ServiceError> {
    let checkpoint = Checkpoint {
        size: frontier.size(),
        root: frontier.root(),
    };
    let note = checkpoint.sign(&log.origin(&community.id), &community.operator);
    Ok((stored(frontier.size())?, note))
}

/// A log, and of how many entries its newest checkpoint is.
#[derive(Default)]
struct Head {
    frontier: Frontier,
    signed: Option<u64>,
}

impl Head {
    /// Whether its newest checkpoint is not of all its entries, or there is none yet.
    fn has_grown(&self) -> bool {
        self.signed != Some(self.frontier.size())
    }
}

static HEADS: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT asked.log, l.size, l.peaks,
         (SELECT MAX(c.size) FROM settle_checkpoints c WHERE c.log = asked.log)
         FROM asked LEFT JOIN settle_logs l ON l.log = asked.log WHERE asked.log IS NOT NULL";
    Listed::over("asked", &["log"], select)
});

type HeadRow = (i64, Option<i64>, Option<Vec<u8>>, Option<i64>);

/// The heads of all logs, by their codes.
async fn heads(tx: &mut Tx) -> Result<BTreeMap<u8, Head>, ServiceError> {
    let asked = Log::ALL.map(|log| args![i64::from(log.code())]);
    let rows: Vec<HeadRow> = HEADS.fetch(tx, asked.into()).await?;
    let head = |(code, size, peaks, signed): HeadRow| {
        let kept = size.zip(peaks).map(kept_frontier).transpose()?;
        let signed = signed.map(|size| number(size, "a log's size"));
        let head = Head {
            frontier: kept.unwrap_or_default(),
            signed: signed.transpose()?,
        };
        Ok((number(code, "a log's code")?, head))
    };
    rows.into_iter().map(head).collect()
}

/// The bytes of a tile; `None` where the log's newest checkpoint does not reach so far.
///
/// # Errors
/// The database failed.
pub async fn tile(db: &Db, log: Log, tile: Tile) -> Result<Option<Vec<u8>>, ServiceError> {
    let code = i64::from(log.code());
    let newest: Option<(i64,)> = db
        .fetch_optional(
            "SELECT size FROM settle_checkpoints WHERE log = $1 ORDER BY size DESC LIMIT 1",
            args![code],
        )
        .await?;
    let size = newest.map_or(Ok(0), |(size,)| number(size, "a log's size"))?;
    if !tile.is_within(size) {
        return Ok(None);
    }
    let first = stored(tile.first())?;
    let end = first + i64::from(tile.width);
    let row = match tile.row {
        Row::Hashes(row @ 1..) => i64::from(row) * 8,
        // The leaves' hashes are not kept: they are one hash away.
        Row::Entries | Row::Hashes(0) => 0,
    };
    let sql = match row {
        0 => {
            "SELECT leaf FROM settle_log_entries
             WHERE log = $1 AND idx >= $2 AND idx < $3 AND 0 = $4 ORDER BY idx"
        }
        _ => {
            "SELECT hash FROM settle_log_nodes
             WHERE log = $1 AND idx >= $2 AND idx < $3 AND level = $4 ORDER BY idx"
        }
    };
    let rows: Vec<(Vec<u8>,)> = db.fetch_all(sql, args![code, first, end, row]).await?;
    if rows.len() != usize::from(tile.width) {
        return Err(corrupt("a log lacks a part of a tile"));
    }
    let rows = rows.iter().map(|(row,)| row.as_slice());
    Ok(Some(match tile.row {
        Row::Entries => {
            write_entries(rows).ok_or_else(|| corrupt("an entry of a log is too long"))?
        }
        Row::Hashes(0) => rows.flat_map(|leaf| leaf_hash(leaf).0).collect(),
        Row::Hashes(_) => rows.collect::<Vec<_>>().concat(),
    }))
}

/// The newest signed note of a log.
///
/// # Errors
/// The database failed.
pub async fn latest_checkpoint(db: &Db, log: Log) -> Result<Option<String>, ServiceError> {
    let row: Option<(String,)> = db
        .fetch_optional(
            "SELECT note FROM settle_checkpoints WHERE log = $1 ORDER BY size DESC LIMIT 1",
            args![i64::from(log.code())],
        )
        .await?;
    Ok(row.map(|(note,)| note))
}

/// The proof that the log of `size` leaves begins with the log of `old` leaves; `None` where one of
/// them does not exist.
///
/// # Errors
/// The database failed.
pub async fn consistency(
    db: &Db,
    log: Log,
    old: u64,
    size: u64,
) -> Result<Option<Vec<Digest32>>, ServiceError> {
    if size > frontier(&mut &*db, log).await?.size() {
        return Ok(None);
    }
    match consistency_plan(old, size) {
        Some(plan) => Ok(Some(path(db, log, &plan).await?)),
        None => Ok(None),
    }
}

/// The place of an entry in a log of `size` leaves; `None` where the log does not reach so far.
pub(super) async fn place(
    db: &Db,
    log: Log,
    index: i64,
    size: u64,
) -> Result<Option<Place>, ServiceError> {
    let index = number(index, "a log position")?;
    match inclusion_plan(index, size) {
        Some(plan) => Ok(Some(Place {
            index,
            path: path(db, log, &plan).await?,
        })),
        None => Ok(None),
    }
}

pub(super) async fn path(db: &Db, log: Log, plan: &Plan) -> Result<Vec<Digest32>, ServiceError> {
    let mut hashes: BTreeMap<Node, Digest32> = BTreeMap::new();
    for node in plan.nodes() {
        hashes.insert(node, node_hash(db, log, node).await?);
    }
    plan.path(|node| hashes.get(&node).copied())
        .ok_or_else(|| corrupt("a log lacks a node"))
}

async fn node_hash(db: &Db, log: Log, node: Node) -> Result<Digest32, ServiceError> {
    let (code, index) = (i64::from(log.code()), stored(node.index)?);
    if node.level == 0 {
        let (leaf,): (Vec<u8>,) = db
            .fetch_one(
                "SELECT leaf FROM settle_log_entries WHERE log = $1 AND idx = $2",
                args![code, index],
            )
            .await?;
        return Ok(leaf_hash(&leaf));
    }
    let (hash,): (Vec<u8>,) = db
        .fetch_one(
            "SELECT hash FROM settle_log_nodes WHERE log = $1 AND level = $2 AND idx = $3",
            args![code, i64::from(node.level), index],
        )
        .await?;
    Ok(Digest32(bytes(&hash, "a log's node")?))
}
