//! Readings that are taken in together: what the books know around all of them is read with few statements, and what
//! follows is written with few. Each is judged as if those before it were in the books.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use domain::energy::Energy;
use domain::ids::{GatewayId, KeyId, ParticipantId, PointId};
use domain::key_record::KeyRecord;
use domain::reading::{Obis, Reading};
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Args, Listed, Tx};

use super::answers::climb;
use super::charging::charging_came_late;
use super::error::{bytes, corrupt, stored};
use super::keys::{RevokedFrom, revocations_of};
use super::last_run::note_late;
use super::logs::{appended, frontier};
use super::neighbours::{Around, Chain, Near, look_elsewhere, place};
use super::readings::{COUNTED, counted};
use super::registry::{self, EnrolledKey};
use super::signatures::{Arrived, check_signatures, claimed, public};
use super::{Community, ServiceError, note_interval};
use crate::accept::{Accepted, PointState, RegisteredPoint};
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind, PUBLIC, salt_of};
use crate::log::tree::Frontier;

/// Readings at work in a transaction.
pub(super) struct Batch<'a> {
    pub(super) tx: &'a mut Tx,
    pub(super) community: &'a Community,
    pub(super) now: Timestamp,
    pub(super) keys: BTreeMap<KeyId, EnrolledKey>,
    pub(super) points: Points,
    pub(super) around: Around,
    records: BTreeMap<(KeyId, Timestamp), Arc<KeyRecord>>,
    revocations: BTreeMap<KeyId, Vec<RevokedFrom>>,
    secrets: Secrets,
    pending: Pending,
}

/// What is to be written.
#[derive(Default)]
struct Pending {
    /// Rows without their place in the log, which is known when they are written.
    readings: Vec<(Args, bool)>,
    entries: Vec<Entry>,
    progress: BTreeMap<Chain, (i64, i64)>,
    /// Intervals that were heard of, and the points that are settled whose readings came.
    intervals: BTreeMap<i64, (Interval, BTreeSet<PointId>)>,
    /// Points with readings that came late: the first and the last end of their intervals.
    late: BTreeMap<PointId, (Timestamp, Timestamp)>,
}

/// What becomes of an authentic reading.
pub(super) enum Fate<'a> {
    /// Into the books, with these flags.
    Accepted(&'a [Rejection]),
    /// Kept with the reason.
    Refused(Rejection),
}

impl<'a> Batch<'a> {
    /// Reads all that is known around these readings, and checks the signatures that nobody has checked yet.
    pub(super) async fn of(
        tx: &'a mut Tx,
        community: &'a Community,
        now: Timestamp,
        readings: &mut [Arrived],
    ) -> Result<Batch<'a>, ServiceError> {
        let kids = claimed(readings);
        let keys = registry::keys_of(tx, &kids).await?;
        check_signatures(readings, &public(&keys), &community.id);
        let verified: Vec<&Verified<Reading>> = readings
            .iter()
            .filter_map(|r| r.verified()?.as_ref().ok())
            .filter(|verified| small_sequence(verified.message().sequence).is_some())
            .collect();
        let around = Around::of(tx, &verified).await?;
        let messages = || verified.iter().map(|v| (v.signer(), v.message()));
        let named = messages().map(|(_, reading)| &reading.point).collect();
        let (points, secrets) = points_and_secrets(tx, &named).await?;
        let at = messages().map(|(kid, reading)| (kid, reading.interval.end()));
        let records = registry::records_at(tx, community, &at.collect()).await?;
        let revoked = keys.iter().filter(|(_, key)| key.is_revoked);
        let revocations = revocations_of(tx, &revoked.map(|(kid, _)| *kid).collect()).await?;
        Ok(Batch {
            tx,
            community,
            now,
            keys,
            around,
            records,
            revocations,
            secrets,
            points,
            pending: Pending::default(),
        })
    }

    /// The key's record that counts at the end of an interval.
    pub(super) fn record(&self, kid: KeyId, interval: Interval) -> Option<&KeyRecord> {
        self.records.get(&(kid, interval.end())).map(Arc::as_ref)
    }

    /// Whether a reading under this key is beyond the point from which the key is revoked.
    pub(super) fn is_revoked(&self, kid: KeyId, sequence: i64, interval: Interval) -> bool {
        let words = self.revocations.get(&kid).into_iter().flatten();
        words
            .into_iter()
            .any(|word| word.sequence <= sequence || word.at_ms < interval.end().unix_ms())
    }

    /// What is known of the reading's point, readings of this batch among it.
    pub(super) async fn state(
        &mut self,
        verified: &Verified<Reading>,
    ) -> Result<PointState, ServiceError> {
        let (chain, sequence) = place(verified)?;
        let mut state = self.around.state(&chain, sequence);
        let others = self.around.other_keys(&chain);
        if !others.is_empty() {
            self.write().await?;
            look_elsewhere(self.tx, verified, &others, &mut state).await?;
        }
        Ok(state)
    }

    /// Logs an accepted reading of this point, and keeps it.
    pub(super) async fn accept(
        &mut self,
        point: &RegisteredPoint,
        verified: &Verified<Reading>,
        flags: &[Rejection],
    ) -> Result<(), ServiceError> {
        let (interval, content) = (verified.message().interval, verified.signed().as_bytes());
        let salt = match point.participant.as_ref() {
            Some(participant) => match self.secrets.get(participant) {
                Some(secret) => salt_of(secret, content),
                None => registry::salt(self.tx, Some(participant), content).await?,
            },
            None => PUBLIC,
        };
        let entry = Entry::new(Kind::Reading, interval.start(), salt, content);
        self.insert(verified, Fate::Accepted(flags)).await?;
        // Beside its row and not before: where a gap closes, what was pending has just been written.
        self.pending.entries.push(entry);
        let noted = self.pending.intervals.entry(interval.start_s());
        let (_, points) = noted.or_insert((interval, BTreeSet::new()));
        points.extend(point.is_settled().then(|| point.point.clone()));
        // The next one can be there already.
        let end = interval.end();
        if self.now >= interval.next().end() {
            let late = self.pending.late.entry(point.point.clone());
            let (first, last) = late.or_insert((end, end));
            (*first, *last) = ((*first).min(end), (*last).max(end));
        }
        Ok(())
    }

    /// Keeps an authentic reading.
    pub(super) async fn insert(
        &mut self,
        verified: &Verified<Reading>,
        fate: Fate<'_>,
    ) -> Result<(), ServiceError> {
        let (chain, sequence) = place(verified)?;
        let (refused, flags) = match fate {
            Fate::Accepted(flags) => (None, flags),
            Fate::Refused(reason) => (Some(reason), &[][..]),
        };
        let row = row(verified, sequence, refused, flags, self.now)?;
        self.advance(&chain, sequence).await?;
        self.pending.readings.push((row, refused.is_none()));
        let near = Near {
            digest: verified.digest(),
            refused,
            accepted: refused.is_none().then(|| accepted(verified)),
        };
        self.around.keep(chain, sequence, near);
        Ok(())
    }

    /// Moves on how far the chain is known without a gap, for one that is about to be inserted.
    async fn advance(&mut self, chain: &Chain, sequence: i64) -> Result<(), ServiceError> {
        let progress = match self.around.progress(chain) {
            None => (sequence, sequence),
            Some((first, up_to)) if sequence == up_to + 1 => {
                let closes_a_gap = self.around.is_used(chain, sequence + 1);
                if closes_a_gap {
                    self.write().await?;
                    (first, climb(self.tx, chain, sequence).await?)
                } else {
                    (first, sequence)
                }
            }
            Some((first, up_to)) if sequence + 1 == first => (sequence, up_to),
            Some((first, _)) if sequence < first => (sequence, sequence),
            Some(_) => return Ok(()),
        };
        self.around.moved_on(chain, progress);
        self.pending.progress.insert(chain.clone(), progress);
        Ok(())
    }

    /// Writes what is pending, so that statements see it.
    pub(super) async fn write(&mut self) -> Result<(), ServiceError> {
        let pending = std::mem::take(&mut self.pending);
        let mut frontier = match pending.entries.as_slice() {
            [] => Frontier::default(),
            _ => frontier(self.tx, Log::Readings).await?,
        };
        let mut index = stored(frontier.size())?;
        let mut writes = appended(&mut frontier, Log::Readings, &pending.entries)?;
        let mut rows = Vec::with_capacity(pending.readings.len());
        for (mut row, is_logged) in pending.readings {
            let place = is_logged.then_some(index);
            index += i64::from(is_logged);
            row.push(place.into());
            rows.push(row);
        }
        writes.push((&READINGS, rows));
        let row = |((point, kid), (first, up_to)): (Chain, (i64, i64))| {
            args![point.as_str(), kid.0, first, up_to]
        };
        let rows = pending.progress.into_iter().map(row).collect();
        writes.push((&PROGRESS, rows));
        let (mut counts, mut settled) = (Vec::new(), Vec::new());
        for (interval, points) in pending.intervals.into_values() {
            let noted = note_interval(self.tx, self.community, interval).await?;
            if !points.is_empty() {
                let readings = noted.readings + stored(points.len() as u64)?;
                counts.push(counted(interval, readings));
            }
            if noted.is_settled {
                settled.push((interval, points));
            }
        }
        writes.push((&COUNTED, counts));
        Listed::together(self.tx, writes).await?;
        for (interval, points) in settled {
            note_late(self.tx, interval, points).await?;
        }
        for (point, ends) in pending.late {
            charging_came_late(self.tx, &point, ends).await?;
        }
        Ok(())
    }

    /// A point that this gateway may sign for.
    pub(super) fn point_of(&self, point: &PointId, gateway: &GatewayId) -> Option<RegisteredPoint> {
        let known = self.points.get(point)?;
        (known.gateway == *gateway).then(|| known.clone())
    }
}

static POINTS: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT p.point, p.gateway, p.role, p.participant, p.rating_w, s.secret
         FROM asked CROSS JOIN settle_points p LEFT JOIN settle_secrets s ON s.participant = p.participant
         WHERE p.point = asked.point";
    Listed::over("asked", &["point"], select)
});

type Points = BTreeMap<PointId, RegisteredPoint>;
type Secrets = BTreeMap<ParticipantId, [u8; 32]>;
type PointRow = (String, String, i64, Option<String>, i64, Option<Vec<u8>>);

/// Those of the metering points that are registered, and the secrets of whose they are; made where there is none yet.
async fn points_and_secrets(
    tx: &mut Tx,
    named: &BTreeSet<&PointId>,
) -> Result<(Points, Secrets), ServiceError> {
    let asked = named.iter().map(|point| args![point.as_str()]).collect();
    let rows: Vec<PointRow> = POINTS.fetch(tx, asked).await?;
    let (mut points, mut secrets) = (Points::new(), Secrets::new());
    for (point, gateway, role, participant, rating_w, secret) in rows {
        let point = registry::point_of((point, gateway, role, participant, rating_w))?;
        let secret = secret.filter(|secret| !secret.is_empty());
        if let (Some(owner), Some(secret)) = (&point.participant, secret) {
            secrets.insert(owner.clone(), bytes(&secret, "a participant's secret")?);
        }
        points.insert(point.point.clone(), point);
    }
    let owners = points.values().filter_map(|p| p.participant.as_ref());
    let missing: BTreeSet<&ParticipantId> = owners.filter(|o| !secrets.contains_key(*o)).collect();
    let made = registry::secrets_of(tx, &missing).await?;
    secrets.extend(made);
    Ok((points, secrets))
}

static READINGS: LazyLock<Listed> = LazyLock::new(|| {
    let columns = [
        "point",
        "sequence",
        "digest",
        "reason",
        "flags",
        "start_s",
        "length_s",
        "era",
        "registers",
        "imported_wh",
        "exported_wh",
        "quality",
        "kid",
        "received_ms",
        "bytes",
        "log_index",
    ];
    Listed::insert("settle_readings", &columns, "")
});

static PROGRESS: LazyLock<Listed> = LazyLock::new(|| {
    let columns = ["point", "kid", "first", "up_to"];
    let behind = "ON CONFLICT (point, kid)
         DO UPDATE SET first = excluded.first, up_to = excluded.up_to";
    Listed::insert("settle_progress", &columns, behind)
});

/// A row of all columns but the last, the place in the log.
fn row(
    verified: &Verified<Reading>,
    sequence: i64,
    refused: Option<Rejection>,
    flags: &[Rejection],
    now: Timestamp,
) -> Result<Args, ServiceError> {
    let reading = verified.message();
    let flags: Vec<&str> = flags.iter().map(|flag| flag.name()).collect();
    let mut registers = Vec::new();
    minicbor::encode(&reading.registers, &mut registers)
        .map_err(|_| corrupt("registers cannot be encoded"))?;
    let bytes = match refused {
        Some(Rejection::RateLimited) => &[],
        _ => verified.signed().as_bytes(),
    };
    let counted = |obis| reading.energy(obis).unwrap_or(Energy::ZERO).wh();
    Ok(args![
        reading.point.as_str(),
        sequence,
        verified.digest().0,
        refused.map(|reason| reason.name().to_owned()),
        flags.join(","),
        reading.interval.start_s(),
        reading.interval.length_s(),
        reading.era,
        registers,
        counted(Obis::IMPORT),
        counted(Obis::EXPORT),
        i64::from(reading.quality.bits()),
        verified.signer().0,
        now.unix_ms(),
        bytes,
    ])
}

fn accepted(verified: &Verified<Reading>) -> Accepted {
    let reading = verified.message();
    Accepted {
        sequence: reading.sequence,
        interval: reading.interval,
        registers: reading.registers.clone(),
        era: reading.era,
        digest: verified.digest(),
    }
}

/// The stored form of a sequence that is small enough to be stored with sums of it.
pub(super) fn small_sequence(sequence: u64) -> Option<i64> {
    /// Sequences above this are refused: sums with them must fit where they are stored.
    const SEQUENCE_MAX: u64 = 1 << 62;
    (sequence <= SEQUENCE_MAX)
        .then(|| stored(sequence).ok())
        .flatten()
}
