//! Registers at samples and at interval edges, and what may follow what.

use domain::energy::Energy;
use domain::quality::Quality;
use domain::reading::{MeasurementClass, Obis, Register};
use domain::time::Interval;
use serde::{Deserialize, Serialize};

use super::counter::{Counter, CounterEnd, Lift, Placed};
use super::{CounterSample, Limits, Measured, OUTAGE_INTERVALS_MAX};

const MWH_PER_WH: i64 = 1000;

/// Register contents at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "StoredMark")]
pub(super) struct Mark {
    pub(super) at_ms: i64,
    pub(super) import_mwh: Option<i64>,
    pub(super) export_mwh: Option<i64>,
}

/// A mark as it lies in the outbox: gateways before 0.2 kept whole watt-hours.
#[derive(Deserialize)]
struct StoredMark {
    at_ms: i64,
    import_mwh: Option<i64>,
    export_mwh: Option<i64>,
    import_wh: Option<i64>,
    export_wh: Option<i64>,
}

impl From<StoredMark> for Mark {
    fn from(stored: StoredMark) -> Self {
        let mwh = |wh: i64| wh.saturating_mul(MWH_PER_WH);
        Mark {
            at_ms: stored.at_ms,
            import_mwh: stored.import_mwh.or(stored.import_wh.map(mwh)),
            export_mwh: stored.export_mwh.or(stored.export_wh.map(mwh)),
        }
    }
}

/// Register contents at an interval's edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Edge {
    pub(super) mark: Mark,
    pub(super) exact: bool,
}

/// What is added to the counters of a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lifts {
    pub(super) import: Lift,
    pub(super) export: Lift,
}

impl Mark {
    /// What the device shows.
    pub(super) fn of(sample: &CounterSample) -> Self {
        Mark {
            at_ms: sample.read_at.unix_ms(),
            import_mwh: sample.import.map(|counter| counter.mwh),
            export_mwh: sample.export.map(|counter| counter.mwh),
        }
    }

    /// What the device shows, with what its counters have counted before they began anew.
    pub(super) fn lifted(&self, lifts: &Lifts) -> Self {
        let add = |mwh: i64, lift: Lift| mwh.saturating_add(lift.mwh);
        Mark {
            at_ms: self.at_ms,
            import_mwh: self.import_mwh.map(|mwh| add(mwh, lifts.import)),
            export_mwh: self.export_mwh.map(|mwh| add(mwh, lifts.export)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.import_mwh.is_none() && self.export_mwh.is_none()
    }

    /// Whether a register is missing here that `other` has.
    pub(super) fn lacks(&self, other: &Mark) -> bool {
        (other.import_mwh.is_some() && self.import_mwh.is_none())
            || (other.export_mwh.is_some() && self.export_mwh.is_none())
    }

    pub(super) fn has_moved_since(&self, before: &Mark) -> bool {
        self.import_mwh != before.import_mwh || self.export_mwh != before.export_mwh
    }

    /// The same without steps back from `before` that are no larger than the counter's own steps: a
    /// device that rounds more coarsely than a moment ago has not counted backwards.
    pub(super) fn without_rounding(self, before: &Mark, limits: &Limits) -> Self {
        let step = limits.resolution_mwh();
        let level = |now: Option<i64>, before: Option<i64>| match now.zip(before) {
            Some((now, before)) if now < before && before.saturating_sub(now) <= step => {
                Some(before)
            }
            _ => now,
        };
        Mark {
            at_ms: self.at_ms,
            import_mwh: level(self.import_mwh, before.import_mwh),
            export_mwh: level(self.export_mwh, before.export_mwh),
        }
    }

    /// How far the register that has risen most has done so since `before`.
    pub(super) fn risen_mwh(&self, before: &Mark) -> i128 {
        let risen = |now: Option<i64>, before: Option<i64>| {
            now.zip(before)
                .map_or(0, |(now, before)| i128::from(now) - i128::from(before))
        };
        let import = risen(self.import_mwh, before.import_mwh);
        import.max(risen(self.export_mwh, before.export_mwh))
    }

    pub(super) fn is_above_zero(&self) -> bool {
        self.import_mwh.unwrap_or(0) > 0 || self.export_mwh.unwrap_or(0) > 0
    }

    /// Whether a register shows less than nothing, which only a signed counter's upper half does.
    pub(super) fn is_below_zero(&self) -> bool {
        self.import_mwh.unwrap_or(0) < 0 || self.export_mwh.unwrap_or(0) < 0
    }
}

impl Edge {
    /// The registers at `at_ms`, which lies after `from` and not after `to`.
    pub(super) fn between(from: &Mark, to: &Mark, at_ms: i64) -> Self {
        let part = i128::from(at_ms - from.at_ms);
        let whole = i128::from(to.at_ms - from.at_ms).max(1);
        let value = |start: Option<i64>, end: Option<i64>| {
            let (start, end) = start.zip(end)?;
            let risen = (i128::from(end) - i128::from(start)) * part / whole;
            start.checked_add(i64::try_from(risen).ok()?)
        };
        let mark = Mark {
            at_ms,
            import_mwh: value(from.import_mwh, to.import_mwh),
            export_mwh: value(from.export_mwh, to.export_mwh),
        };
        Edge {
            mark,
            exact: at_ms == to.at_ms,
        }
    }
}

/// Whether `to` can follow `from` when `time_ms` were at its disposal.
pub(super) fn fits(from: &Mark, to: &Mark, time_ms: i64, limits: &Limits) -> bool {
    let risen = |from: Option<i64>, to: Option<i64>| match from.zip(to) {
        Some((from, to)) => i128::from(to) - i128::from(from),
        None => 0,
    };
    let range = 0..=limits.plausible_mwh(time_ms);
    is_within_outage(from, to, limits)
        && range.contains(&risen(from.import_mwh, to.import_mwh))
        && range.contains(&risen(from.export_mwh, to.export_mwh))
}

/// Whether there are not too many intervals between two samples to make a reading of each.
pub(super) fn is_within_outage(from: &Mark, to: &Mark, limits: &Limits) -> bool {
    (to.at_ms - from.at_ms) / limits.length_ms() <= OUTAGE_INTERVALS_MAX
}

/// The first lifts with which what a device shows lies above `base` by no more than `most_mwh`.
pub(super) fn place(
    lifts: &Lifts,
    base: &Mark,
    shown: &CounterSample,
    most_mwh: i128,
    limits: &Limits,
) -> Option<Lifts> {
    let least = -i128::from(limits.resolution_mwh());
    let fitting = |places: Vec<Placed>| {
        let mut fitting = places
            .into_iter()
            .filter(|p| (least..=most_mwh).contains(&p.rise_mwh));
        fitting.next().map(|placed| placed.lift)
    };
    let import = match base.import_mwh.zip(shown.import) {
        Some((base, counter)) => fitting(lifts.import.places(base, counter))?,
        None => lifts.import,
    };
    let export = match base.export_mwh.zip(shown.export) {
        Some((base, counter)) => fitting(lifts.export.places(base, counter))?,
        None => lifts.export,
    };
    Some(Lifts { import, export })
}

/// What an interval's reading says besides its registers.
#[derive(Clone, Copy)]
pub(super) struct About {
    pub(super) era: u32,
    pub(super) quality: Quality,
    pub(super) meter_hash: [u8; 8],
}

pub(super) fn measured(
    start: &Edge,
    end: &Edge,
    about: About,
    limits: &Limits,
) -> Option<Measured> {
    // Rounded is the register and not the energy, so nothing is lost from one interval to the next.
    let whole = |mwh: i64| (mwh.saturating_add(MWH_PER_WH / 2)).div_euclid(MWH_PER_WH);
    let register = |obis, start: Option<i64>, end: Option<i64>| {
        let (start, end) = start.zip(end)?;
        Some(Register {
            obis,
            start: Energy::from_wh(whole(start)),
            end: Energy::from_wh(whole(end)),
        })
    };
    let import = register(Obis::IMPORT, start.mark.import_mwh, end.mark.import_mwh);
    let export = register(Obis::EXPORT, start.mark.export_mwh, end.mark.export_mwh);
    let registers: Vec<Register> = import.into_iter().chain(export).collect();
    let start_s = start.mark.at_ms.div_euclid(1000);
    let interval = Interval::new(start_s, limits.interval_length_s).ok()?;
    let edges = if start.exact && end.exact {
        Quality::default()
    } else {
        Quality::INTERPOLATED_EDGE
    };
    let source = match limits.class {
        MeasurementClass::MeterCounter => Quality::MEASURED,
        MeasurementClass::IntegratedPower => Quality::ESTIMATED,
    };
    let quality = source.with(about.quality).with(edges);
    (!registers.is_empty()).then_some(Measured {
        interval,
        registers,
        era: about.era,
        quality,
        meter_hash: about.meter_hash,
        class: limits.class,
    })
}

impl Lifts {
    /// Whether a session that was taken to have ended may be back.
    pub(super) fn may_resume(&self, base: &Mark, shown: &CounterSample) -> bool {
        let may = |lift: Lift, base: Option<i64>, shown| {
            base.zip(shown)
                .is_some_and(|(base, shown)| lift.may_resume(base, shown))
        };
        may(self.import, base.import_mwh, shown.import)
            || may(self.export, base.export_mwh, shown.export)
    }

    /// The lifts once the counters stand at `mark`.
    pub(super) fn counted_to(self, mark: &Mark) -> Self {
        let to = |lift: Lift, mwh: Option<i64>| mwh.map_or(lift, |mwh| lift.counted_to(mwh));
        Lifts {
            import: to(self.import, mark.import_mwh),
            export: to(self.export, mark.export_mwh),
        }
    }

    /// What the change from `before` to these lifts says about the interval.
    pub(super) fn mark_after(&self, before: &Lifts, shown: &CounterSample) -> Option<Quality> {
        let raised = |now: Lift, before: Lift, shown: Option<Counter>| {
            let end = shown.filter(|_| now.mwh > before.mwh)?.end;
            Some(match end {
                CounterEnd::Session => Quality::RESET,
                _ => Quality::ROLL_OVER,
            })
        };
        let import = raised(self.import, before.import, shown.import);
        let export = raised(self.export, before.export, shown.export);
        match (import, export) {
            (Some(import), Some(export)) => Some(import.with(export)),
            (one, other) => one.or(other),
        }
    }
}
