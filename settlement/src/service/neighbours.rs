//! What the books know around readings: whether a sequence is used, and which readings each lies between. It is read for
//! many readings at once, and kept as those that were taken meanwhile change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use domain::ids::{Digest32, KeyId, PointId};
use domain::reading::{Reading, Register};
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::time::Interval;
use runtime::args;
use runtime::db::{Listed, Tx};

use super::error::{bytes, corrupt, decoded, number, stored};
use super::{ServiceError, registry};
use crate::accept::{Accepted, PointState};

/// Whose readings: a key counts those of a point by itself.
pub(super) type Chain = (PointId, KeyId);

/// The chain and the stored sequence of a reading.
pub(super) fn place(verified: &Verified<Reading>) -> Result<(Chain, i64), ServiceError> {
    let reading = verified.message();
    let chain = (reading.point.clone(), verified.signer());
    Ok((chain, stored(reading.sequence)?))
}

/// A reading in the books.
#[derive(Clone, Debug)]
pub(super) struct Near {
    pub(super) digest: Digest32,
    pub(super) refused: Option<Rejection>,
    /// Only of one that was accepted.
    pub(super) accepted: Option<Accepted>,
}

/// What the books know around the readings of a batch.
#[derive(Default)]
pub(super) struct Around {
    readings: BTreeMap<Chain, BTreeMap<i64, Near>>,
    /// How far each key's readings of a point are known without a gap: first and last.
    progress: BTreeMap<PointId, BTreeMap<KeyId, (i64, i64)>>,
    handovers: BTreeMap<Chain, (u64, Digest32)>,
    answers: BTreeSet<(PointId, i64)>,
}

/// The newest reading of each chain: most that come are behind it, and nothing else is near them.
static NEWEST: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT asked.n, r.sequence, r.start_s, r.length_s, r.registers, r.era, r.digest, r.reason
         FROM asked CROSS JOIN settle_readings r WHERE r.point = asked.point AND r.kid = asked.kid AND r.sequence =
         (SELECT MAX(n.sequence) FROM settle_readings n WHERE n.point = asked.point AND n.kid = asked.kid)";
    Listed::over("asked", &["n", "point", "kid"], select)
});

/// What is near readings that are not behind their chain's newest, or where that was refused: the reading itself, the
/// accepted ones beside it, and the next of any kind.
static NEAR: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT asked.n, r.sequence, r.start_s, r.length_s, r.registers, r.era, r.digest, r.reason
         FROM asked CROSS JOIN settle_readings r WHERE r.point = asked.point AND r.kid = asked.kid AND r.sequence IN (
         asked.sequence,
         (SELECT b.sequence FROM settle_readings b WHERE b.point = asked.point AND b.kid = asked.kid
          AND b.sequence < asked.sequence AND b.reason IS NULL ORDER BY b.sequence DESC LIMIT 1),
         (SELECT a.sequence FROM settle_readings a WHERE a.point = asked.point AND a.kid = asked.kid
          AND a.sequence > asked.sequence AND a.reason IS NULL ORDER BY a.sequence LIMIT 1),
         asked.sequence + 1)";
    Listed::over("asked", &["n", "point", "kid", "sequence"], select)
});

/// How far the chains of a point are known, and whether it has anything [`RARE`].
static PROGRESS: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT asked.n, p.kid, p.first, p.up_to, CAST(CASE
         WHEN EXISTS (SELECT 1 FROM settle_handovers h WHERE h.point = asked.point)
         OR EXISTS (SELECT 1 FROM settle_answers a WHERE a.point = asked.point) THEN 1 ELSE 0 END AS BIGINT)
         FROM asked LEFT JOIN settle_progress p ON p.point = asked.point WHERE asked.point IS NOT NULL";
    Listed::over("asked", &["n", "point"], select)
});

/// What few readings have: a handover to their key, an answer that is kept.
static RARE: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT asked.point, asked.kid, h.first_sequence, h.previous, a.sequence
         FROM asked LEFT JOIN settle_handovers h ON h.point = asked.point AND h.kid = asked.kid
         LEFT JOIN settle_answers a ON a.point = asked.point AND a.sequence = asked.sequence
         WHERE h.point IS NOT NULL OR a.point IS NOT NULL";
    Listed::over("asked", &["point", "kid", "sequence"], select)
});

/// A row's place in the list, and a reading.
type NearRow = (i64, i64, i64, i64, Vec<u8>, i64, Vec<u8>, Option<String>);
type ProgressRow = (i64, Option<Vec<u8>>, Option<i64>, Option<i64>, i64);
type RareRow = (String, Vec<u8>, Option<i64>, Option<Vec<u8>>, Option<i64>);

impl Around {
    /// Reads what is known around these readings.
    pub(super) async fn of(
        tx: &mut Tx,
        readings: &[&Verified<Reading>],
    ) -> Result<Self, ServiceError> {
        let mut around = Around::default();
        let mut places = BTreeSet::new();
        for verified in readings {
            places.insert(place(verified)?);
        }
        around.read_near(tx, &places).await?;
        let rare = around.read_progress(tx, &places).await?;
        let places = places.iter().filter(|((point, _), _)| rare.contains(point));
        let asked =
            |((point, kid), sequence): &(Chain, i64)| args![point.as_str(), kid.0, *sequence];
        let rows: Vec<RareRow> = RARE.fetch(tx, places.map(asked).collect()).await?;
        for (point, kid, first, previous, answered) in rows {
            let chain = chain_of(point, &kid)?;
            if let Some(sequence) = answered {
                around.answers.insert((chain.0.clone(), sequence));
            }
            if let (Some(first), Some(previous)) = (first, previous) {
                let handover = (number(first, "a sequence")?, registry::digest(&previous)?);
                around.handovers.insert(chain, handover);
            }
        }
        Ok(around)
    }

    /// Reads what is near these places in their own chains.
    async fn read_near(
        &mut self,
        tx: &mut Tx,
        places: &BTreeSet<(Chain, i64)>,
    ) -> Result<(), ServiceError> {
        let mut chains: Vec<(&Chain, i64)> = Vec::with_capacity(places.len());
        for (chain, sequence) in places {
            // They are in order, so a chain's first is its lowest.
            if chains.last().is_none_or(|(last, _)| *last != chain) {
                chains.push((chain, *sequence));
            }
        }
        let asked = |(n, ((point, kid), _)): (i64, &(&Chain, i64))| args![n, point.as_str(), kid.0];
        let asked = (0..).zip(&chains).map(asked).collect();
        let mut tangled = BTreeSet::new();
        for row in NEWEST.fetch(tx, asked).await? {
            let (n, sequence, near) = near_of(row)?;
            let (chain, lowest) = asked_for(&chains, n)?;
            if near.accepted.is_some() && sequence < *lowest {
                self.keep((*chain).clone(), sequence, near);
            } else {
                tangled.insert(*chain);
            }
        }
        let places: Vec<_> = places.iter().filter(|(c, _)| tangled.contains(c)).collect();
        let asked = |(n, ((point, kid), sequence)): (i64, &&(Chain, i64))| {
            args![n, point.as_str(), kid.0, *sequence]
        };
        let asked = (0..).zip(&places).map(asked).collect();
        for row in NEAR.fetch(tx, asked).await? {
            let (n, sequence, near) = near_of(row)?;
            let (chain, _) = asked_for(&places, n)?;
            self.keep(chain.clone(), sequence, near);
        }
        Ok(())
    }

    /// Reads how far the chains of these places' points are known, and returns the points that have anything [`RARE`].
    async fn read_progress(
        &mut self,
        tx: &mut Tx,
        places: &BTreeSet<(Chain, i64)>,
    ) -> Result<BTreeSet<PointId>, ServiceError> {
        let mut points: Vec<&PointId> = places.iter().map(|((point, _), _)| point).collect();
        points.dedup();
        let asked = |(n, point): (i64, &&PointId)| args![n, point.as_str()];
        let asked = (0..).zip(&points).map(asked).collect();
        let rows: Vec<ProgressRow> = PROGRESS.fetch(tx, asked).await?;
        let mut rare = BTreeSet::new();
        for (n, kid, first, up_to, has_rare) in rows {
            let point = *asked_for(&points, n)?;
            if let (Some(kid), Some(first), Some(up_to)) = (kid, first, up_to) {
                let kid = KeyId(bytes(&kid, "a key's name")?);
                self.moved_on(&(point.clone(), kid), (first, up_to));
            }
            if has_rare == 1 {
                rare.insert(point.clone());
            }
        }
        Ok(rare)
    }

    /// Takes in a reading that is in the books now.
    pub(super) fn keep(&mut self, chain: Chain, sequence: i64, near: Near) {
        self.readings
            .entry(chain)
            .or_default()
            .insert(sequence, near);
    }

    /// Whether this sequence was ever used, as far as it was asked for.
    pub(super) fn is_used(&self, chain: &Chain, sequence: i64) -> bool {
        self.readings
            .get(chain)
            .is_some_and(|near| near.contains_key(&sequence))
    }

    /// How far the chain is known without a gap.
    pub(super) fn progress(&self, (point, kid): &Chain) -> Option<(i64, i64)> {
        self.progress.get(point)?.get(kid).copied()
    }

    /// Notes how far the chain is known now.
    pub(super) fn moved_on(&mut self, (point, kid): &Chain, progress: (i64, i64)) {
        let keys = self.progress.entry(point.clone()).or_default();
        keys.insert(*kid, progress);
    }

    /// The other keys that readings of the point are in the books under, accepted or not.
    pub(super) fn other_keys(&self, (point, kid): &Chain) -> Vec<KeyId> {
        let keys = self.progress.get(point).into_iter().flatten();
        keys.map(|(other, _)| *other)
            .filter(|other| other != kid)
            .collect()
    }

    /// Whether an answer to this sequence of a point is kept.
    pub(super) fn is_answered(&self, point: &PointId, sequence: i64) -> bool {
        self.answers.contains(&(point.clone(), sequence))
    }

    /// Notes that an answer is kept.
    pub(super) fn answered(&mut self, point: &PointId, sequence: i64) {
        self.answers.insert((point.clone(), sequence));
    }

    /// What is known around a reading, as far as its own chain goes.
    pub(super) fn state(&self, chain: &Chain, sequence: i64) -> PointState {
        let none = BTreeMap::new();
        let near = self.readings.get(chain).unwrap_or(&none);
        let accepted = |(_, near): (&i64, &Near)| near.accepted.clone();
        let before = near.range(..sequence).rev().find_map(accepted);
        PointState {
            same: near.get(&sequence).map(|near| (near.digest, near.refused)),
            after: near.range(sequence + 1..).find_map(accepted),
            covered: false,
            handover: match before {
                Some(_) => None,
                None => self.handovers.get(chain).copied(),
            },
            elsewhere: false,
            before,
        }
    }
}

fn chain_of(point: String, kid: &[u8]) -> Result<Chain, ServiceError> {
    Ok((PointId::new(point)?, KeyId(bytes(kid, "a key's name")?)))
}

/// What a row's place in the list says that it is about.
fn asked_for<T>(asked: &[T], n: i64) -> Result<&T, ServiceError> {
    let found = usize::try_from(n).ok().and_then(|n| asked.get(n));
    found.ok_or_else(|| corrupt("an answer to what was not asked"))
}

fn near_of(row: NearRow) -> Result<(i64, i64, Near), ServiceError> {
    let (n, sequence, start_s, length_s, registers, era, digest, reason) = row;
    let refused = reason.map(|name| {
        Rejection::from_name(&name).ok_or_else(|| corrupt("a rejection has no known name"))
    });
    let refused = refused.transpose()?;
    let near = Near {
        digest: registry::digest(&digest)?,
        accepted: match refused {
            Some(_) => None,
            None => Some(accepted((
                sequence, start_s, length_s, registers, era, digest,
            ))?),
        },
        refused,
    };
    Ok((n, sequence, near))
}

/// Adds what readings under other keys say about this one. The first reading under a new key goes on where an older
/// key ended, if it names that reading's digest; a gateway that lost its disk cannot, and begins anew.
pub(super) async fn look_elsewhere(
    tx: &mut Tx,
    verified: &Verified<Reading>,
    others: &[KeyId],
    state: &mut PointState,
) -> Result<(), ServiceError> {
    let interval = verified.message().interval;
    let point = verified.message().point.as_str();
    for other in others {
        // A key's sequences and intervals rise together, so no earlier one reaches further.
        let last: Option<(i64,)> = tx
            .fetch_optional(
                "SELECT start_s + length_s FROM settle_readings WHERE point = $1 AND kid = $2
                 AND reason IS NULL AND start_s < $3 ORDER BY sequence DESC LIMIT 1",
                args![point, other.0, interval.end().unix_s()],
            )
            .await?;
        state.covered |= last.is_some_and(|(end_s,)| end_s > interval.start_s());
    }
    if state.before.is_none() {
        state.before = chained_to(tx, verified).await?.map(accepted).transpose()?;
        match state.before {
            Some(_) => state.handover = None,
            None => state.elsewhere = has_other_keys(tx, verified).await?,
        }
    }
    Ok(())
}

async fn chained_to(
    tx: &mut Tx,
    verified: &Verified<Reading>,
) -> Result<Option<AcceptedRow>, ServiceError> {
    let reading = verified.message();
    let row = tx.fetch_optional(
        "SELECT sequence, start_s, length_s, registers, era, digest FROM settle_readings
         WHERE point = $1 AND kid <> $2 AND sequence = $3 AND digest = $4 AND reason IS NULL LIMIT 1",
        args![
            reading.point.as_str(),
            verified.signer().0,
            stored(reading.sequence)? - 1,
            reading.previous.0
        ],
    );
    Ok(row.await?)
}

/// The first sequence that is not this key's any more, where it has handed the point over.
pub(super) async fn handed_over_at(
    tx: &mut Tx,
    point: &PointId,
    kid: KeyId,
) -> Result<Option<i64>, ServiceError> {
    let row: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT MIN(first_sequence) FROM settle_handovers WHERE point = $1 AND old_kid = $2
             HAVING COUNT(*) > 0",
            args![point.as_str(), kid.0],
        )
        .await?;
    Ok(row.map(|(first,)| first))
}

/// Whether readings of the point are in the books under another key.
async fn has_other_keys(tx: &mut Tx, verified: &Verified<Reading>) -> Result<bool, ServiceError> {
    let row: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT sequence FROM settle_readings
             WHERE point = $1 AND kid <> $2 AND reason IS NULL LIMIT 1",
            args![verified.message().point.as_str(), verified.signer().0],
        )
        .await?;
    Ok(row.is_some())
}

type AcceptedRow = (i64, i64, i64, Vec<u8>, i64, Vec<u8>);

fn accepted(row: AcceptedRow) -> Result<Accepted, ServiceError> {
    let (sequence, start_s, length_s, registers, era, digest) = row;
    Ok(Accepted {
        sequence: number(sequence, "a sequence")?,
        interval: Interval::new(start_s, number(length_s, "an interval's length")?)?,
        registers: decoded::<Vec<Register>>(&registers, "registers")?,
        era: number(era, "an era")?,
        digest: registry::digest(&digest)?,
    })
}
