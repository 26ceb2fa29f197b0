//! Whether a verified reading enters the books: the order of the checks, and a name for each refusal.
//!
//! What is signed by the right key is still doubted: it must fit its point's registered facts and the
//! readings of the point before and after it.

use domain::ids::{Digest32, GatewayId, ParticipantId, PointId};
use domain::key_record::PointRole;
use domain::reading::{ClockState, Obis, Reading, Register};
use domain::rejection::Rejection;
use domain::signed::Verified;
use domain::time::{Interval, Timestamp};

/// A gateway's clock may be this far ahead of ours.
pub const CLOCK_TOLERANCE_MS: i64 = 10_000;
/// The operator's word about keys is taken for so long after it was signed: one that is found later is no order.
pub const WORD_AGE_MAX_MS: i64 = 3_600_000;
/// After the true-up run nothing changes any more, so a reading that comes later is refused.
pub const READING_LATEST_S: i64 = 60 * 86_400;
/// A reading may be this many per cent of what the point's rating allows: more than the gateway lets pass
/// (125 % and a counter step), so that what an honest gateway signs is not refused.
pub const RATING_TOLERANCE_PERCENT: i64 = 130;

/// A metering point as it is registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisteredPoint {
    /// The point.
    pub point: PointId,
    /// The gateway that signs for it.
    pub gateway: GatewayId,
    /// What it is for.
    pub role: PointRole,
    /// Whose it is; none for the feeder.
    pub participant: Option<ParticipantId>,
    /// Largest power in watts.
    pub rating_w: u32,
}

impl RegisteredPoint {
    /// Whether its energy is settled; a submeter's is part of its connection's.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.role != PointRole::Submeter
    }
}

/// What is kept of an accepted reading to judge its neighbours by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Its sequence.
    pub sequence: u64,
    /// Its interval.
    pub interval: Interval,
    /// Its registers.
    pub registers: Vec<Register>,
    /// Its era.
    pub era: u32,
    /// SHA-256 of its signed bytes.
    pub digest: Digest32,
}

/// What is known of a point around a new reading: sequences count for each signing key by itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PointState {
    /// The message that used this sequence before, and why it was refused if it was.
    pub same: Option<(Digest32, Option<Rejection>)>,
    /// The accepted reading with the highest sequence below; for the first one of a key, the one of
    /// another key that it is chained to.
    pub before: Option<Accepted>,
    /// The accepted reading with the lowest sequence above.
    pub after: Option<Accepted>,
    /// Whether an accepted reading under another key covers some of its interval.
    pub covered: bool,
    /// For the first reading of a key whose chain is not linked to another's in the books: where the key
    /// before it has handed the point over, as sequence and digest of the reading before.
    pub handover: Option<(u64, Digest32)>,
    /// Likewise, whether there are readings under another key.
    pub elsewhere: bool,
}

/// What follows from the checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Into the books, with these flags (`chain_break`, `clock_unsynced`).
    Accept(Vec<Rejection>),
    /// The same bytes were accepted before.
    Again,
    /// Not into the books.
    Reject(Rejection),
}

/// Checks a verified reading of `gateway` against its point and the point's neighbouring readings.
#[must_use]
pub fn check(
    verified: &Verified<Reading>,
    gateway: &GatewayId,
    point: &RegisteredPoint,
    state: &PointState,
    interval_length_s: u32,
    now: Timestamp,
) -> Verdict {
    let reading = verified.message();
    if point.gateway != *gateway || point.point != reading.point {
        return Verdict::Reject(Rejection::WrongNetwork);
    }
    match state.same {
        Some((digest, refused)) if digest == verified.digest() => {
            return refused.map_or(Verdict::Again, Verdict::Reject);
        }
        Some(_) => return Verdict::Reject(Rejection::Equivocation),
        None => {}
    }
    let checks = time(reading, interval_length_s, now)
        .and_then(|()| order(reading, state))
        .and_then(|()| registers(reading, state))
        .and_then(|()| plausible(reading, point));
    match checks {
        Ok(()) => Verdict::Accept(flags(reading, state)),
        Err(reason) => Verdict::Reject(reason),
    }
}

fn time(reading: &Reading, interval_length_s: u32, now: Timestamp) -> Result<(), Rejection> {
    if reading.interval.length_s() != interval_length_s {
        return Err(Rejection::IntervalUnaligned);
    }
    if reading.interval.end() > now.plus_ms(CLOCK_TOLERANCE_MS) {
        return Err(Rejection::Future);
    }
    if reading.interval.end().plus_s(READING_LATEST_S) < now {
        return Err(Rejection::TooLate);
    }
    Ok(())
}

/// Sequences and intervals of a point ascend together, so no two readings cover the same time.
fn order(reading: &Reading, state: &PointState) -> Result<(), Rejection> {
    let behind = state
        .before
        .as_ref()
        .is_none_or(|b| b.interval.end() <= reading.interval.start());
    let ahead = state
        .after
        .as_ref()
        .is_none_or(|a| reading.interval.end() <= a.interval.start());
    if behind && ahead && !state.covered {
        Ok(())
    } else {
        Err(Rejection::IntervalOverlap)
    }
}

fn registers(reading: &Reading, state: &PointState) -> Result<(), Rejection> {
    let this = Accepted {
        sequence: reading.sequence,
        interval: reading.interval,
        registers: reading.registers.clone(),
        era: reading.era,
        digest: Digest32([0; 32]),
    };
    let rises = this
        .registers
        .iter()
        .all(|r| r.start <= r.end && r.start.wh() >= 0);
    let follows_before = state
        .before
        .as_ref()
        .is_none_or(|before| follows(before, &this));
    let follows_after = state
        .after
        .as_ref()
        .is_none_or(|after| follows(&this, after));
    if rises && follows_before && follows_after {
        Ok(())
    } else {
        Err(Rejection::ValueRegression)
    }
}

/// Whether `later` can be the same meter as `earlier`, some time on. In a new era anything can be.
fn follows(earlier: &Accepted, later: &Accepted) -> bool {
    if later.era != earlier.era {
        return later.era > earlier.era;
    }
    // Energy may pass between readings that do not touch, but never between ones that do.
    let touching = earlier.sequence.checked_add(1) == Some(later.sequence)
        && earlier.interval.end() == later.interval.start();
    // A register may join later, when it has begun to count; one that was there must go on.
    earlier.registers.iter().all(|e| {
        let same = later.registers.iter().find(|l| l.obis == e.obis);
        same.is_some_and(|l| {
            if touching {
                l.start == e.end
            } else {
                l.start >= e.end
            }
        })
    })
}

/// Most energy in Wh that a register of a point with this rating may count in so many seconds.
#[must_use]
pub fn largest_wh(rating_w: u32, length_s: u32) -> i64 {
    let watt_seconds = i64::from(rating_w) * i64::from(length_s);
    watt_seconds * RATING_TOLERANCE_PERCENT / (100 * 3600) + 1
}

fn plausible(reading: &Reading, point: &RegisteredPoint) -> Result<(), Rejection> {
    let settled = point.is_settled();
    let counts = |obis| reading.registers.iter().any(|r| r.obis == obis);
    if settled && !counts(Obis::IMPORT) && !counts(Obis::EXPORT) {
        return Err(Rejection::Implausible);
    }
    let most_wh = largest_wh(point.rating_w, reading.interval.length_s());
    let within = [Obis::IMPORT, Obis::EXPORT]
        .into_iter()
        .filter_map(|obis| reading.energy(obis))
        .all(|energy| energy.wh() <= most_wh);
    if within {
        Ok(())
    } else {
        Err(Rejection::Implausible)
    }
}

fn flags(reading: &Reading, state: &PointState) -> Vec<Rejection> {
    let mut flags = Vec::new();
    let unbroken = match &state.before {
        Some(before) => {
            before.sequence.checked_add(1) == Some(reading.sequence)
                && before.digest == reading.previous
        }
        None => match state.handover {
            Some(handover) => handover == (reading.sequence, reading.previous),
            // Who begins anew where others have been has lost what came between.
            None => reading.previous == Digest32([0; 32]) && !state.elsewhere,
        },
    };
    if !unbroken {
        flags.push(Rejection::ChainBreak);
    }
    if reading.clock.state != ClockState::Synchronised {
        flags.push(Rejection::ClockUnsynced);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::energy::Energy;
    use domain::ids::{CommunityId, DeviceId};
    use domain::quality::Quality;
    use domain::reading::{ClockStamp, MeasurementClass};
    use domain::signed::{PublicKey, Signed, SigningKey};

    fn verified(reading: &Reading) -> Verified<Reading> {
        let key = SigningKey::from_bytes(&[7; 32]);
        let community = CommunityId::new("street").unwrap();
        Signed::sign(&key, &community, reading)
            .verify(PublicKey::of(&key), &community)
            .unwrap()
    }

    fn reading(sequence: u64, start_wh: i64, end_wh: i64) -> Reading {
        let interval = Interval::new(900 * i64::try_from(sequence).unwrap(), 900).unwrap();
        let register = |obis, start, end| Register {
            obis,
            start: Energy::from_wh(start),
            end: Energy::from_wh(end),
        };
        Reading {
            device: DeviceId([1; 16]),
            point: PointId::new("p").unwrap(),
            sequence,
            interval,
            registers: vec![
                register(Obis::IMPORT, start_wh, end_wh),
                register(Obis::EXPORT, 5, 5),
            ],
            era: 0,
            quality: Quality::MEASURED,
            clock: ClockStamp {
                signed_at: interval.end(),
                state: ClockState::Synchronised,
                error_ms: 5,
            },
            meter_hash: [0; 8],
            class: MeasurementClass::MeterCounter,
            previous: Digest32([0; 32]),
            profile: [0; 8],
        }
    }

    fn accepted(reading: &Reading) -> Accepted {
        Accepted {
            sequence: reading.sequence,
            interval: reading.interval,
            registers: reading.registers.clone(),
            era: reading.era,
            digest: verified(reading).digest(),
        }
    }

    fn judge(reading: &Reading, state: &PointState, now_s: i64) -> Verdict {
        let gateway = GatewayId::new("g").unwrap();
        let point = RegisteredPoint {
            point: PointId::new("p").unwrap(),
            gateway: gateway.clone(),
            role: PointRole::Connection,
            participant: None,
            rating_w: 10_000,
        };
        check(
            &verified(reading),
            &gateway,
            &point,
            state,
            900,
            Timestamp::from_unix_s(now_s),
        )
    }

    #[test]
    fn the_same_sequence_is_again_or_equivocation() {
        let good = reading(5, 200, 300);
        let same = Some((verified(&good).digest(), None));
        let used = PointState {
            same,
            ..Default::default()
        };
        assert_eq!(judge(&good, &used, 9000), Verdict::Again);
        let other = judge(&reading(5, 200, 301), &used, 9000);
        assert_eq!(other, Verdict::Reject(Rejection::Equivocation));
        let refused = Some((verified(&good).digest(), Some(Rejection::Future)));
        let used = PointState {
            same: refused,
            ..Default::default()
        };
        assert_eq!(
            judge(&good, &used, 9000),
            Verdict::Reject(Rejection::Future)
        );
    }

    #[test]
    fn each_refusal_has_its_name() {
        let first = reading(4, 100, 200);
        let state = PointState {
            before: Some(accepted(&first)),
            ..Default::default()
        };
        let chained = |mut r: Reading| {
            r.previous = verified(&first).digest();
            r
        };
        let good = chained(reading(5, 200, 300));
        let late = 900 * 6;
        assert_eq!(judge(&good, &state, late), Verdict::Accept(vec![]));
        let unchained = reading(5, 200, 300);
        assert_eq!(
            judge(&unchained, &state, late),
            Verdict::Accept(vec![Rejection::ChainBreak])
        );
        let refuse = |r: &Reading, state: &PointState, now, expect| {
            assert_eq!(judge(r, state, now), Verdict::Reject(expect), "{expect}");
        };
        refuse(
            &chained(reading(5, 199, 300)),
            &state,
            late,
            Rejection::ValueRegression,
        );
        refuse(
            &chained(reading(5, 201, 300)),
            &state,
            late,
            Rejection::ValueRegression,
        );
        refuse(
            &chained(reading(5, 200, 199)),
            &state,
            late,
            Rejection::ValueRegression,
        );
        refuse(
            &chained(reading(5, 200, 3452)),
            &state,
            late,
            Rejection::Implausible,
        );
        refuse(&good, &state, late - 11, Rejection::Future);
        refuse(
            &good,
            &state,
            late + READING_LATEST_S + 1,
            Rejection::TooLate,
        );
        let mut overlap = good.clone();
        overlap.interval = first.interval;
        refuse(&overlap, &state, late, Rejection::IntervalOverlap);
        let covered = PointState {
            covered: true,
            ..Default::default()
        };
        refuse(&good, &covered, late, Rejection::IntervalOverlap);
        let mut hour = good.clone();
        hour.interval = Interval::new(7200, 3600).unwrap();
        refuse(&hour, &state, 99_999, Rejection::IntervalUnaligned);
    }

    #[test]
    fn a_late_reading_must_fit_the_one_after_it() {
        let state = PointState {
            before: Some(accepted(&reading(4, 100, 200))),
            after: Some(accepted(&reading(6, 300, 400))),
            ..Default::default()
        };
        assert!(matches!(
            judge(&reading(5, 200, 300), &state, 9000),
            Verdict::Accept(_)
        ));
        let short = judge(&reading(5, 200, 299), &state, 9000);
        assert_eq!(short, Verdict::Reject(Rejection::ValueRegression));
    }

    #[test]
    fn a_register_may_join_but_not_vanish() {
        let both = reading(5, 200, 300);
        let mut import_only = reading(4, 100, 200);
        import_only.registers.retain(|r| r.obis == Obis::IMPORT);
        let mut joined = both.clone();
        joined.registers.push(Register {
            obis: Obis::EXPORT,
            start: Energy::from_wh(0),
            end: Energy::from_wh(7),
        });
        joined.registers.sort_by_key(|r| r.obis);
        joined.registers.dedup_by_key(|r| r.obis);
        let before = |r: &Reading| PointState {
            before: Some(accepted(r)),
            ..Default::default()
        };
        let verdict = judge(&joined, &before(&import_only), 9000);
        assert!(matches!(verdict, Verdict::Accept(_)), "{verdict:?}");
        let mut vanished = reading(6, 300, 400);
        vanished.registers.retain(|r| r.obis == Obis::IMPORT);
        assert_eq!(
            judge(&vanished, &before(&joined), 9000),
            Verdict::Reject(Rejection::ValueRegression)
        );
    }

    #[test]
    fn registers_start_anew_in_a_new_era_only() {
        let state = PointState {
            before: Some(accepted(&reading(4, 100, 200))),
            ..Default::default()
        };
        let mut next = reading(5, 0, 10);
        assert_eq!(
            judge(&next, &state, 9000),
            Verdict::Reject(Rejection::ValueRegression)
        );
        next.era = 1;
        next.clock.state = ClockState::Unknown;
        let flags = vec![Rejection::ChainBreak, Rejection::ClockUnsynced];
        assert_eq!(judge(&next, &state, 9000), Verdict::Accept(flags));
    }
}
