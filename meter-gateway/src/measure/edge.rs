//! Registers at samples and at interval edges, and what may follow what.

use domain::energy::Energy;
use domain::quality::Quality;
use domain::reading::{Obis, Register};
use domain::time::Interval;
use serde::{Deserialize, Serialize};

use super::{CounterSample, Limits, Measured, OUTAGE_INTERVALS_MAX};

/// Register contents at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) at_ms: i64,
    pub(super) import_wh: Option<i64>,
    pub(super) export_wh: Option<i64>,
}

/// Register contents at an interval's edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Edge {
    pub(super) mark: Mark,
    pub(super) exact: bool,
}

impl Mark {
    pub(super) fn of(sample: &CounterSample) -> Self {
        Mark {
            at_ms: sample.read_at.unix_ms(),
            import_wh: sample.import.map(Energy::wh),
            export_wh: sample.export.map(Energy::wh),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.import_wh.is_none() && self.export_wh.is_none()
    }

    /// Whether a register is missing here that `other` has.
    pub(super) fn lacks(&self, other: &Mark) -> bool {
        (other.import_wh.is_some() && self.import_wh.is_none())
            || (other.export_wh.is_some() && self.export_wh.is_none())
    }

    /// The same without steps back from `before` that are no larger than the counter's own steps: a
    /// device that rounds more coarsely than a moment ago has not counted backwards.
    pub(super) fn without_rounding(self, before: &Mark, limits: &Limits) -> Self {
        let level = |now: Option<i64>, before: Option<i64>| match now.zip(before) {
            Some((now, before))
                if now < before && before.saturating_sub(now) <= limits.resolution_wh =>
            {
                Some(before)
            }
            _ => now,
        };
        Mark {
            at_ms: self.at_ms,
            import_wh: level(self.import_wh, before.import_wh),
            export_wh: level(self.export_wh, before.export_wh),
        }
    }

    pub(super) fn is_above_zero(&self) -> bool {
        self.import_wh.unwrap_or(0) > 0 || self.export_wh.unwrap_or(0) > 0
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
            import_wh: value(from.import_wh, to.import_wh),
            export_wh: value(from.export_wh, to.export_wh),
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
    let range = 0..=limits.plausible_wh(time_ms);
    (to.at_ms - from.at_ms) / limits.length_ms() <= OUTAGE_INTERVALS_MAX
        && range.contains(&risen(from.import_wh, to.import_wh))
        && range.contains(&risen(from.export_wh, to.export_wh))
}

pub(super) fn measured(
    start: &Edge,
    end: &Edge,
    era: u32,
    quality: Quality,
    meter_hash: [u8; 8],
    limits: &Limits,
) -> Option<Measured> {
    let register = |obis, start: Option<i64>, end: Option<i64>| {
        let (start, end) = start.zip(end)?;
        Some(Register {
            obis,
            start: Energy::from_wh(start),
            end: Energy::from_wh(end),
        })
    };
    let import = register(Obis::IMPORT, start.mark.import_wh, end.mark.import_wh);
    let export = register(Obis::EXPORT, start.mark.export_wh, end.mark.export_wh);
    let registers: Vec<Register> = import.into_iter().chain(export).collect();
    let start_s = start.mark.at_ms.div_euclid(1000);
    let interval = Interval::new(start_s, limits.interval_length_s).ok()?;
    let edges = if start.exact && end.exact {
        Quality::default()
    } else {
        Quality::INTERPOLATED_EDGE
    };
    let quality = Quality::MEASURED.with(quality).with(edges);
    (!registers.is_empty()).then_some(Measured {
        interval,
        registers,
        era,
        quality,
        meter_hash,
    })
}
