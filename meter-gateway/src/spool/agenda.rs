//! What of the outbox is to be sent, and when. That is knowledge of the running process: none of it is
//! written to disk, so that sending costs no flash memory and goes on when the disk is full.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{IN_FLIGHT_MAX, RECENT_S, REPEATS_MAX, RESEND_GRACE_MS, RETRY_MAX_MS, RETRY_MIN_MS};

/// A reading in the outbox: in the order of time, then by point and sequence.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) start_s: i64,
    pub(super) point: Arc<str>,
    pub(super) sequence: i64,
}

/// What was tried with a reading.
#[derive(Clone, Copy, Debug)]
struct Try {
    attempts: u32,
    sent_ms: i64,
    due_ms: i64,
}

/// Every reading of the outbox, and what was tried with those that were sent.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    waiting: BTreeSet<Place>,
    starts: BTreeMap<(Arc<str>, i64), i64>,
    tried: BTreeMap<Place, Try>,
    /// Whether a failed write makes it doubtful that this is what the database holds.
    pub(super) is_doubtful: bool,
}

impl Agenda {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn add(&mut self, point: &str, sequence: i64, start_s: i64) {
        let point: Arc<str> = point.into();
        self.starts.insert((Arc::clone(&point), sequence), start_s);
        self.waiting.insert(Place {
            start_s,
            point,
            sequence,
        });
    }

    /// Takes what the database holds; what was tried with readings that are still there stays known.
    pub(super) fn replace(&mut self, rows: Vec<(String, i64, i64)>) {
        (self.waiting, self.starts) = (BTreeSet::new(), BTreeMap::new());
        for (point, sequence, start_s) in rows {
            self.add(&point, sequence, start_s);
        }
        let waiting = &self.waiting;
        self.tried.retain(|place, _| waiting.contains(place));
        self.is_doubtful = false;
    }

    fn of(&self, point: &str, first: i64, last: i64) -> Vec<Place> {
        if first > last {
            return Vec::new();
        }
        let point: Arc<str> = point.into();
        let range = (Arc::clone(&point), first)..=(point, last);
        let found = self.starts.range(range);
        found
            .map(|((point, sequence), start_s)| Place {
                start_s: *start_s,
                point: Arc::clone(point),
                sequence: *sequence,
            })
            .collect()
    }

    pub(super) fn remove(&mut self, point: &str, first: i64, last: i64) {
        for place in self.of(point, first, last) {
            self.waiting.remove(&place);
            self.tried.remove(&place);
            self.starts.remove(&(place.point, place.sequence));
        }
    }

    /// The platform misses these: they are due, unless they were sent just now.
    pub(super) fn missing(&mut self, point: &str, first: i64, last: i64, now_ms: i64) {
        for place in self.of(point, first, last) {
            if let Some(tried) = self.tried.get_mut(&place)
                && tried.sent_ms <= now_ms - RESEND_GRACE_MS
            {
                tried.due_ms = now_ms;
            }
        }
    }

    /// Notes that this was sent; the wait for an answer doubles with every attempt.
    pub(super) fn sent(&mut self, point: &str, sequence: i64, now_ms: i64) {
        for place in self.of(point, sequence, sequence) {
            let attempts = self.attempts(&place);
            let wait_ms = (RETRY_MIN_MS << attempts.min(16)).min(RETRY_MAX_MS);
            let tried = Try {
                attempts: attempts.saturating_add(1),
                sent_ms: now_ms,
                due_ms: now_ms.saturating_add(wait_ms),
            };
            self.tried.insert(place, tried);
        }
    }

    /// Forgets an attempt that reached nobody.
    pub(super) fn unsent(&mut self, point: &str, sequence: i64) {
        for place in self.of(point, sequence, sequence) {
            self.tried.remove(&place);
        }
    }

    pub(super) fn forget_sent(&mut self) {
        self.tried.clear();
    }

    fn attempts(&self, place: &Place) -> u32 {
        self.tried.get(place).map_or(0, |tried| tried.attempts)
    }

    /// What is to be sent now, with the attempts before: the last hour, newest in front, then at most
    /// `history_max` older ones, oldest in front.
    pub(super) fn due(&self, now_ms: i64, history_max: usize) -> Vec<(Place, u32)> {
        let is_under_way = |t: &&Try| t.due_ms > now_ms && t.attempts <= 1;
        let under_way = self.tried.values().filter(is_under_way).count();
        let free = IN_FLIGHT_MAX.saturating_sub(under_way);
        let Some(newest) = self.waiting.last() else {
            return Vec::new();
        };
        let bound_s = newest.start_s.saturating_sub(RECENT_S);
        let is_due = |place: &&Place| {
            let tried = self.tried.get(*place);
            tried.is_none_or(|tried| tried.due_ms <= now_ms)
        };
        let is_repeat = |place: &Place| self.attempts(place) > 1;
        let recent = || {
            let newest_first = self.waiting.iter().rev();
            newest_first
                .take_while(|place| place.start_s >= bound_s)
                .filter(is_due)
        };
        let history = || {
            let oldest_first = self.waiting.iter();
            oldest_first
                .take_while(|place| place.start_s < bound_s)
                .filter(is_due)
        };
        let first_recent = recent().filter(|place| !is_repeat(place));
        let more_recent = recent().filter(|place| is_repeat(place)).take(REPEATS_MAX);
        let first_history = history().filter(|place| !is_repeat(place));
        let more_history = history().filter(|place| is_repeat(place)).take(REPEATS_MAX);
        let history = first_history.chain(more_history).take(history_max);
        let mut repeats = 0;
        first_recent
            .chain(more_recent)
            .chain(history)
            .filter(|place| {
                repeats += usize::from(is_repeat(place));
                !is_repeat(place) || repeats <= REPEATS_MAX
            })
            .take(free)
            .map(|place| (place.clone(), self.attempts(place)))
            .collect()
    }

    /// Whether a reading is history at this moment.
    pub(super) fn is_history(&self, place: &Place) -> bool {
        let newest_s = self
            .waiting
            .last()
            .map_or(i64::MIN, |newest| newest.start_s);
        place.start_s < newest_s.saturating_sub(RECENT_S)
    }
}
