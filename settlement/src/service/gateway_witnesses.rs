//! What gateways have signed of the ledger log: each is a witness of its own operator.
//!
//! There may be many of them, and each signs what it is shown after every interval. So only what somebody may
//! still want is kept: the newest of each key, the last hour's, and for each of a key's records the first one that
//! covers it, which shows that the gateway knew of the record.

use domain::ids::{CommunityId, GatewayId, KeyId};
use domain::log::cosignature::gateway_witness;
use domain::log::note::{NoteSignature, VerifierKey};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Tx};

use super::ServiceError;
use super::cases::key_of;
use super::error::{corrupt, number, stored};
use super::shown;
use crate::log::checkpoint::Log;
use crate::store::LOCK;

/// What was signed within so long is kept whole.
const KEPT_MS: i64 = 3_600_000;
/// Most gateways that are listed.
const LISTED_MAX: i64 = 10_000;

/// A gateway's signature under a checkpoint of the ledger log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayCosignature {
    /// Entries of the checkpoint.
    pub size: u64,
    /// Whose it is.
    pub gateway: GatewayId,
    /// With which key.
    pub kid: KeyId,
    /// The line.
    pub line: NoteSignature,
}

/// Keeps gateways' signatures for checkpoints of these books, each once, and drops old ones that nobody needs.
///
/// # Errors
/// The database failed.
pub async fn keep_gateway_cosignatures(
    tx: &mut Tx,
    now: Timestamp,
    signed: &[GatewayCosignature],
) -> Result<(), ServiceError> {
    tx.exclusive(LOCK).await?;
    let ledger = i64::from(Log::Ledger.code());
    for one in signed {
        let (size, line) = (stored(one.size)?, one.line.line());
        tx.execute(
            "INSERT INTO settle_gateway_cosignatures (size, kid, gateway, line, at_ms)
             SELECT size, $3, $4, $5, $6 FROM settle_checkpoints WHERE log = $1 AND size = $2
             ON CONFLICT (size, kid) DO NOTHING",
            args![
                ledger,
                size,
                one.kid.0,
                one.gateway.as_str(),
                line,
                now.unix_ms()
            ],
        )
        .await?;
        tx.execute(
            "DELETE FROM settle_gateway_cosignatures WHERE kid = $1 AND size < $2 AND at_ms < $3
             AND size NOT IN (SELECT MIN(c.size) FROM settle_key_records r
             JOIN settle_gateway_cosignatures c ON c.kid = r.kid AND c.size > r.log_index
             WHERE r.kid = $1 GROUP BY r.log_index)",
            args![one.kid.0, size, now.unix_ms() - KEPT_MS],
        )
        .await?;
    }
    shown::advance(tx, Log::Ledger).await
}

/// A gateway as a witness: its verifier key, and the newest checkpoint that it has signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayWitness {
    /// The gateway.
    pub gateway: GatewayId,
    /// As a policy names it.
    pub key: VerifierKey,
    /// Entries of the newest checkpoint with its signature.
    pub size: u64,
}

/// The gateways that have signed, by their newest keys, ordered by gateway.
///
/// # Errors
/// The database failed, or is damaged.
pub async fn gateway_witnesses(
    db: &Db,
    community: &CommunityId,
) -> Result<Vec<GatewayWitness>, ServiceError> {
    let rows: Vec<(String, Vec<u8>, i64)> = db
        .fetch_all(
            "SELECT k.gateway, k.public, c.size FROM settle_keys k
             JOIN (SELECT kid, MAX(size) AS size FROM settle_gateway_cosignatures GROUP BY kid) c
             ON c.kid = k.kid WHERE k.gateway IS NOT NULL AND k.replaced_ms IS NULL
             ORDER BY k.gateway LIMIT $1",
            args![LISTED_MAX],
        )
        .await?;
    let witness = |(gateway, public, size): (String, Vec<u8>, i64)| {
        Ok(GatewayWitness {
            gateway: GatewayId::new(gateway)?,
            key: gateway_witness(community, key_of(&public)?)
                .ok_or_else(|| corrupt("a gateway without a name for its key"))?,
            size: number(size, "a checkpoint's size")?,
        })
    };
    rows.into_iter().map(witness).collect()
}

/// A checkpoint of the ledger log in these books under which a key's signature stands: the newest of at most `size`
/// entries, or the newest of all; as a note with that signature below the operator's.
///
/// # Errors
/// The database failed, or is damaged.
pub async fn gateway_cosigned(
    db: &Db,
    kid: KeyId,
    size: Option<u64>,
) -> Result<Option<String>, ServiceError> {
    let most = size.map_or(Ok(i64::MAX), stored)?;
    let row: Option<(String, String)> = db
        .fetch_optional(
            "SELECT p.note, c.line FROM settle_gateway_cosignatures c
             JOIN settle_checkpoints p ON p.log = $1 AND p.size = c.size
             WHERE c.kid = $2 AND c.size <= $3 ORDER BY c.size DESC LIMIT 1",
            args![i64::from(Log::Ledger.code()), kid.0, most],
        )
        .await?;
    Ok(row.map(|(note, line)| note + &line))
}

/// The smallest checkpoint with an entry of the ledger log that a key's signature stands under, its size first; as a note
/// with that signature below the operator's.
pub(super) async fn gateway_covering(
    db: &Db,
    kid: KeyId,
    index: i64,
) -> Result<Option<(u64, String)>, ServiceError> {
    let row: Option<(i64, String, String)> = db
        .fetch_optional(
            "SELECT c.size, p.note, c.line FROM settle_gateway_cosignatures c
             JOIN settle_checkpoints p ON p.log = $1 AND p.size = c.size
             WHERE c.kid = $2 AND c.size > $3 ORDER BY c.size LIMIT 1",
            args![i64::from(Log::Ledger.code()), kid.0, index],
        )
        .await?;
    let covering = |(size, note, line): (i64, String, String)| {
        Ok((number(size, "a checkpoint's size")?, note + &line))
    };
    row.map(covering).transpose()
}
