//! Counters made from power, for devices that have none: the area under straight lines between two
//! samples, exact in halves of a watt-millisecond. Import and export are kept apart, each from the
//! part of the power that goes its way.

use domain::quality::Quality;
use serde::{Deserialize, Serialize};

use super::edge::Mark;
use super::{CounterSample, Limits, Measured, PLAUSIBLE_PERMILLE, Span, State};

/// Halves of a watt-millisecond in a milliwatt-hour.
const HALVES_PER_MWH: i64 = 7200;

/// What has been integrated so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Integral {
    /// Power at the last good sample in watts, import positive.
    import_w: i64,
    import_halves: i64,
    export_halves: i64,
}

impl Integral {
    fn mark(&self, at_ms: i64) -> Mark {
        Mark {
            at_ms,
            import_mwh: Some(self.import_halves / HALVES_PER_MWH),
            export_mwh: Some(self.export_halves / HALVES_PER_MWH),
        }
    }

    fn add(&mut self, import_w: i64, time_ms: i64) {
        let area = |from_w: i64, to_w: i64| {
            let both_w = from_w.max(0).saturating_add(to_w.max(0));
            both_w.saturating_mul(time_ms)
        };
        let (from_w, to_w) = (self.import_w, import_w);
        let export = area(from_w.saturating_neg(), to_w.saturating_neg());
        self.import_halves = self.import_halves.saturating_add(area(from_w, to_w));
        self.export_halves = self.export_halves.saturating_add(export);
        self.import_w = import_w;
    }
}

impl State {
    /// Takes in a sample of power. What happened in a gap is not known: intervals that it touches
    /// are missing, and an era ends in it.
    pub(super) fn integrate(
        &mut self,
        sample: &CounterSample,
        limits: &Limits,
        done: &mut Vec<Measured>,
    ) {
        let Some(import_w) = sample.import_w else {
            return;
        };
        let at_ms = sample.read_at.unix_ms();
        let most_w = i128::from(limits.rating_w) * PLAUSIBLE_PERMILLE / 1000;
        if i128::from(import_w.unsigned_abs()) > most_w {
            self.odd_ms = Some((self.odd_ms.map_or(at_ms, |odd| odd.0), at_ms + 1));
            return;
        }
        self.meter = sample.meter.or(self.meter);
        let wall_ms = self.last.map(|last| at_ms.saturating_sub(last.at_ms));
        if wall_ms.is_some_and(|ms| ms <= 0 && ms >= -limits.length_ms()) {
            if self.clock_stepped && self.waited_ms <= limits.max_gap_ms {
                // The clock stands still until it has caught up; the energy does not.
                self.integral.add(import_w, self.waited_ms);
                self.waited_ms = 0;
            }
            return;
        }
        let time_ms = match wall_ms {
            // Wrong by the step; the other clock is not.
            Some(_) if self.clock_stepped && sample.waited_ms.is_some() => Some(self.waited_ms),
            other => other,
        };
        let is_gap = |ms: i64| !(0..=limits.max_gap_ms).contains(&ms);
        match self.last.zip(time_ms) {
            Some((last, ms)) if !is_gap(ms) && at_ms > last.at_ms => {
                self.integral.add(import_w, ms);
                let mut spans: Vec<Span> = self.take_odd().into_iter().collect();
                if self.clock_stepped {
                    spans.push(Span::new(Quality::CLOCK_STEP, last.at_ms, at_ms + 1));
                }
                self.advance(last, self.integral.mark(at_ms), &spans, limits, done);
            }
            gap => {
                if gap.is_some() {
                    self.era = self.era.saturating_add(1);
                }
                self.integral.import_w = import_w;
                (self.edge, self.open_marks, self.odd_ms) = (None, 0, None);
                self.begin(self.integral.mark(at_ms), limits);
            }
        }
        (self.waited_ms, self.clock_stepped) = (0, false);
    }
}
