//! The registry as the opened key records make it: which key may sign for what, and which points there were.

use std::collections::{BTreeMap, BTreeSet};

use domain::ids::{CommunityId, KeyId, ParticipantId, PointId};
use domain::introduction::Introduction;
use domain::key_holder::KeyHolder;
use domain::key_record::{Holder, KeyRecord, PointRole};
use domain::openings::{Opened, Openings};
use domain::order::AHEAD_MAX_S;
use domain::reading::Reading;
use domain::revocation::Revocation;
use domain::signed::{Message, PublicKey, Signed, Verified};
use domain::time::Timestamp;

use super::{Fault, Leaves, wrong};
use crate::accept::{RegisteredPoint, WORD_AGE_MAX_MS};
use crate::log::checkpoint::Log;
use crate::log::entry::{Entry, Kind, PUBLIC};

/// A point with the record that named it first.
struct Point {
    registered: RegisteredPoint,
    since: Timestamp,
    index: u64,
}

/// From where on a key counts no longer.
struct Revoked {
    word: Revocation,
    /// Readings at this place of their log or behind it came after the word; none where no run says so.
    from_reading: Option<u64>,
}

/// How the keys of a registry came in, and how many were revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyCount {
    /// All keys.
    pub keys: usize,
    /// Keys that were let in on a claim code.
    pub claimed: usize,
    /// Keys that the key before vouched for: both signatures hold.
    pub rotated: usize,
    /// Words of the operator that a key counts no longer.
    pub revocations: usize,
}

/// All key records of a ledger log.
pub struct Registry {
    community: CommunityId,
    records: Vec<(u64, KeyRecord)>,
    points: BTreeMap<PointId, Point>,
    revoked: Vec<Revoked>,
    /// From when on nothing more was taken under a participant's key.
    ended: BTreeMap<KeyId, Timestamp>,
    count: KeyCount,
}

impl Registry {
    /// Reads the opened key records, introductions and revocations; all of them have to be opened.
    ///
    /// # Errors
    /// One is not the log's, a signature does not hold, or some are not opened.
    pub fn read(
        leaves: &Leaves,
        community: &CommunityId,
        operator: PublicKey,
        openings: &Openings,
    ) -> Result<Self, Fault> {
        let mut registry = Registry {
            community: community.clone(),
            records: Vec::new(),
            points: BTreeMap::new(),
            revoked: Vec::new(),
            ended: BTreeMap::new(),
            count: KeyCount::default(),
        };
        registry.read_records(leaves, operator, &openings.keys)?;
        registry.read_introductions(leaves, &openings.introductions)?;
        registry.read_revocations(leaves, operator, openings)?;
        registry.note_ends();
        let keys: BTreeSet<KeyId> = registry.records.iter().map(|(_, r)| r.key.id()).collect();
        registry.count.keys = keys.len();
        Ok(registry)
    }

    /// How the keys came in.
    #[must_use]
    pub fn count(&self) -> KeyCount {
        self.count
    }

    fn read_records(
        &mut self,
        leaves: &Leaves,
        operator: PublicKey,
        keys: &[Opened],
    ) -> Result<(), Fault> {
        let mut sorted: BTreeMap<u64, &Opened> = BTreeMap::new();
        sorted.extend(keys.iter().map(|opened| (opened.index, opened)));
        for (index, opened) in sorted {
            let signed = Signed::<KeyRecord>::from_bytes(opened.content.clone());
            let record = signed.verify(operator, &self.community);
            let record = record.map_err(|e| wrong(format!("key record {index}: {e}")))?;
            let record = record.message();
            let entry = Entry::new(Kind::Key, record.valid_from, PUBLIC, &opened.content);
            if !leaves.has(Log::Ledger, index, &entry) {
                let why = format!("key record {index} is not the one in the ledger log");
                return Err(wrong(why));
            }
            self.take(index, record);
        }
        all_opened(leaves, Kind::Key, self.records.len())
    }

    /// A new key has signed for itself, and the key that vouched for it, where that is one of the registry, has signed
    /// that; a claim code's key is nobody's afterwards.
    fn read_introductions(&mut self, leaves: &Leaves, opened: &[Opened]) -> Result<(), Fault> {
        for Opened { index, content, .. } in opened {
            let name = |why: &str| wrong(format!("introduction {index}: {why}"));
            let signed = Signed::<Introduction>::from_bytes(content.clone());
            let introduction = signed.claimed().map_err(|e| name(&e.to_string()))?;
            let request = introduction.verify_request(&self.community);
            let request = request.map_err(|e| name(&format!("the new key's request: {e}")))?;
            let request = request.message();
            let entry = Entry::new(Kind::Introduction, request.made_at, PUBLIC, content);
            if !leaves.has(Log::Ledger, *index, &entry) {
                return Err(name("it is not the one in the ledger log"));
            }
            if signed.claimed_signer().ok() != Some(request.introducer) {
                return Err(name("another key has signed it than the one it names"));
            }
            let is_it = |record: &KeyRecord| {
                record.key == request.key && KeyHolder::from(&record.holder) == request.holder
            };
            if !self.records.iter().any(|(at, r)| is_it(r) && at < index) {
                return Err(name("its key is not in the registry"));
            }
            let old = self
                .records
                .iter()
                .find(|(_, r)| r.key.id() == request.introducer);
            match old {
                None => self.count.claimed += 1,
                Some((_, old)) => {
                    if KeyHolder::from(&old.holder) != request.holder {
                        return Err(name("the key that vouches is another holder's"));
                    }
                    let both = signed.verify(old.key, &self.community);
                    both.map_err(|e| name(&format!("the old key's signature: {e}")))?;
                    self.count.rotated += 1;
                }
            }
        }
        all_opened(leaves, Kind::Introduction, opened.len())
    }

    fn read_revocations(
        &mut self,
        leaves: &Leaves,
        operator: PublicKey,
        openings: &Openings,
    ) -> Result<(), Fault> {
        let runs = openings
            .intervals
            .iter()
            .flat_map(|interval| &interval.runs);
        let mut sizes: Vec<(u64, u64)> = runs.map(|r| (r.index, r.record.readings_size)).collect();
        sizes.sort_unstable();
        for Opened { index, content, .. } in &openings.revocations {
            let signed = Signed::<Revocation>::from_bytes(content.clone());
            let word = signed.verify(operator, &self.community);
            let word = word.map_err(|e| wrong(format!("revocation {index}: {e}")))?;
            let word = word.message().clone();
            let entry = Entry::new(Kind::Revocation, word.from, PUBLIC, content);
            if !leaves.has(Log::Ledger, *index, &entry) {
                let why = format!("revocation {index} is not the one in the ledger log");
                return Err(wrong(why));
            }
            let later = sizes.iter().find(|(run, _)| run > index);
            let from_reading = later.map(|(_, size)| *size);
            self.revoked.push(Revoked { word, from_reading });
        }
        self.count.revocations = self.revoked.len();
        all_opened(leaves, Kind::Revocation, self.revoked.len())
    }

    /// When participants' keys ended: as another took their place, or as the operator revoked them. A word of the operator
    /// is taken for a while after it was signed.
    fn note_ends(&mut self) {
        let mut newest: BTreeMap<&ParticipantId, KeyId> = BTreeMap::new();
        for (_, record) in &self.records {
            let Holder::Participant(participant) = &record.holder else {
                continue;
            };
            let kid = record.key.id();
            let before = newest.insert(participant, kid);
            if let Some(before) = before.filter(|before| *before != kid) {
                self.ended.entry(before).or_insert(record.valid_from);
            }
        }
        for Revoked { word, .. } in &self.revoked {
            let at = Timestamp::from_unix_ms(word.issued_at.unix_ms() + WORD_AGE_MAX_MS);
            let ended = self.ended.entry(word.key).or_insert(at);
            *ended = at.min(*ended);
        }
    }

    /// When the key of an order of this interval had ended, if the gate was not open yet then: such an order cannot have
    /// been taken before.
    pub(super) fn ended_before(&self, key: KeyId, start: Timestamp) -> Option<Timestamp> {
        let opened = start.plus_s(-i64::from(AHEAD_MAX_S));
        let ended = self.ended.get(&key).copied();
        ended.filter(|ended| opened > *ended)
    }

    /// Whether a reading at a place of the readings log was taken in although its key had been revoked for it before.
    #[must_use]
    pub(super) fn is_too_late(&self, key: KeyId, reading: &Reading, index: u64) -> bool {
        let covers = |revoked: &&Revoked| {
            let word = &revoked.word;
            let came_later = revoked.from_reading.is_some_and(|from| index >= from);
            word.key == key && word.covers(reading) && came_later
        };
        self.revoked.iter().any(|revoked| covers(&revoked))
    }

    fn take(&mut self, index: u64, record: &KeyRecord) {
        if let Holder::Gateway { gateway, points } = &record.holder {
            for point in points {
                let first = || Point {
                    registered: RegisteredPoint {
                        point: point.point.clone(),
                        gateway: gateway.clone(),
                        role: point.role,
                        participant: point.participant.clone(),
                        rating_w: point.rating_w,
                    },
                    since: record.valid_from,
                    index,
                };
                self.points.entry(point.point.clone()).or_insert_with(first);
            }
        }
        self.records.push((index, record.clone()));
    }

    /// The points that were registered by `until` and entered before a place in the ledger log, ordered by name.
    #[must_use]
    pub fn points(&self, until: Timestamp, before: u64) -> Vec<&RegisteredPoint> {
        let known = |point: &&Point| point.since <= until && point.index < before;
        let points = self.points.values().filter(known);
        points.map(|point| &point.registered).collect()
    }

    /// A message that its own key has signed, which the registry knows, with the key's holder at an instant. A reading may be
    /// older than its key's records, an order may not.
    ///
    /// # Errors
    /// The signature is not that of a registered key.
    pub fn verified<T: Message>(
        &self,
        signed: &[u8],
        at: Timestamp,
    ) -> Result<(Verified<T>, &Holder), Fault> {
        let signed = Signed::<T>::from_bytes(signed.to_vec());
        let kid = signed.claimed_signer().map_err(|e| wrong(e.to_string()))?;
        let record = self.record(kid, at).or_else(|| {
            let newest = || self.of_key(kid).next_back();
            (T::KIND == domain::signed::Kind::Reading).then(newest)?
        });
        let record = record.ok_or_else(|| {
            let known = self.of_key(kid).next().map(|first| first.valid_from);
            wrong(match known {
                Some(from) => format!("key {kid} signed it, and counts only from {from} on"),
                None => format!("key {kid} signed it, and is not in the registry"),
            })
        })?;
        let verified = signed.verify(record.key, &self.community);
        let verified = verified.map_err(|e| wrong(format!("key {kid}: {e}")))?;
        Ok((verified, &record.holder))
    }

    /// The record of a key that counts at an instant.
    fn record(&self, kid: KeyId, at: Timestamp) -> Option<&KeyRecord> {
        let then = self.of_key(kid).filter(|record| record.valid_from <= at);
        then.max_by_key(|record| record.valid_from)
    }

    fn of_key(&self, kid: KeyId) -> impl DoubleEndedIterator<Item = &KeyRecord> {
        let records = self.records.iter().map(|(_, record)| record);
        records.filter(move |record| record.key.id() == kid)
    }
}

fn all_opened(leaves: &Leaves, kind: Kind, opened: usize) -> Result<(), Fault> {
    match leaves.count(Log::Ledger, kind) {
        all if all > opened => Err(Fault::Sealed(format!(
            "{} of {all} {} records are not opened",
            all - opened,
            kind.word()
        ))),
        _ => Ok(()),
    }
}

/// Whether a holder is this participant.
pub(super) fn is_participant(holder: &Holder, participant: &ParticipantId) -> bool {
    matches!(holder, Holder::Participant(held) if held == participant)
}

/// Whether a holder is a gateway that signs for this point, and what the point is for.
pub(super) fn signs_for(holder: &Holder, point: &PointId) -> Option<PointRole> {
    let Holder::Gateway { points, .. } = holder else {
        return None;
    };
    let named = points.iter().find(|named| named.point == *point);
    named.map(|named| named.role)
}
