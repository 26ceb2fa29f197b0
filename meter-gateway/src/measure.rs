//! Samples of one metering point to intervals: pure, in integers, and without a way for a glitch to
//! become energy.
//!
//! Between two good samples a register is taken to run linearly; its value at an interval's edge is
//! the end of one interval and the start of the next, so the intervals add up to the register's
//! difference over any outage. A sample that does not fit (a step back, a jump beyond the rating) is
//! put aside, and so is one that lacks a register; if [`CONFIRM_SAMPLES`] in a row fit each other, the
//! counter was reset or exchanged, or the register is gone: a new era begins, and what passed unseen in between is left out; so it is when the clock is set
//! back by more than an interval. A device whose counters stand
//! still while it claims power is not fresh, and its samples do not count.

mod edge;
#[cfg(test)]
mod tests;

use domain::energy::Energy;
use domain::quality::Quality;
use domain::reading::Register;
use domain::time::{Interval, Timestamp};
use serde::{Deserialize, Serialize};

use edge::{Edge, Mark, fits, measured};

/// Samples in a row that must fit each other before a new era begins (and before the first one does).
pub const CONFIRM_SAMPLES: usize = 5;
/// A step between two samples above rating × time × this is implausible.
pub const PLAUSIBLE_PERMILLE: i128 = 1250;
/// How far the time stamps of two samples may be wrong together.
pub const JITTER_MS: i64 = 5000;
/// Most intervals that one outage may span; after a longer one a new era begins.
pub const OUTAGE_INTERVALS_MAX: i64 = 3000;
/// Energy in Wh that must be missing on a standing counter before it counts as frozen.
const FROZEN_WH: i64 = 50;
/// Power in W below which nothing is concluded from a standing counter.
const FROZEN_W: i64 = 50;
const MS_PER_HOUR: i128 = 3_600_000;

/// What is known about a metering point beforehand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Length of an interval.
    pub interval_length_s: u32,
    /// Samples further apart than this leave a gap.
    pub max_gap_ms: i64,
    /// Largest power through the point.
    pub rating_w: u32,
    /// Coarsest step of the counters.
    pub resolution_wh: i64,
}

impl Limits {
    /// The largest energy that `ms` can bring.
    fn plausible_wh(&self, ms: i64) -> i128 {
        let time_ms = i128::from(ms.saturating_add(JITTER_MS));
        let wh = i128::from(self.rating_w) * time_ms * PLAUSIBLE_PERMILLE / (MS_PER_HOUR * 1000);
        wh + 2 * i128::from(self.resolution_wh)
    }

    fn length_ms(&self) -> i64 {
        i64::from(self.interval_length_s) * 1000
    }
}

/// The counters of a point at one time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterSample {
    /// When they were read.
    pub read_at: Timestamp,
    /// Import counter.
    pub import: Option<Energy>,
    /// Export counter.
    pub export: Option<Energy>,
    /// Power in watts, import positive.
    pub import_w: Option<i64>,
    /// Digest that changes when another meter answers, and the one that is signed; none where it
    /// was not asked for.
    pub meter: Option<MeterMark>,
}

/// Two digests over what a meter says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MeterMark {
    /// Over maker, model and serial number.
    pub body: [u8; 8],
    /// The same with the firmware.
    pub hash: [u8; 8],
}

/// What was measured in one interval: a reading without sequence, chain and signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measured {
    /// When.
    pub interval: Interval,
    /// Registers at both ends.
    pub registers: Vec<Register>,
    /// The counter's era.
    pub era: u32,
    /// How it came to be.
    pub quality: Quality,
    /// Which meter it was.
    pub meter_hash: [u8; 8],
}

/// A finished interval whose end has not come yet, as plain numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Held {
    start: Edge,
    end: Mark,
    era: u32,
    quality: u16,
    meter_hash: [u8; 8],
}

/// A span of time that leaves a mark on the intervals it touches.
#[derive(Clone, Copy)]
struct Span {
    quality: Quality,
    from_ms: i64,
    until_ms: i64,
}

/// Everything that must be remembered of a point between two samples; kept with its readings.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    era: u32,
    /// The last good sample.
    last: Option<Mark>,
    /// When a register moved last.
    moved_at_ms: i64,
    /// Least power claimed towards a counter since then.
    least_power_w: i64,
    /// Since when the counters are frozen.
    frozen_since_ms: Option<i64>,
    /// The last edge: the start of the open interval.
    edge: Option<Edge>,
    /// Marks on the open interval.
    open_marks: u16,
    /// Samples that fit each other but not `last`.
    aside: Vec<Mark>,
    held: Option<Held>,
    meter: Option<MeterMark>,
}

impl State {
    /// What changes when there is something that must not be forgotten.
    #[must_use]
    pub fn progress(&self) -> (u32, Option<i64>, bool) {
        (
            self.era,
            self.edge.map(|edge| edge.mark.at_ms),
            self.held.is_some(),
        )
    }

    /// Whether a sample with counters lacks a register that the point is measured with.
    #[must_use]
    pub fn misses_a_register_in(&self, sample: &CounterSample) -> bool {
        let mark = Mark::of(sample);
        !mark.is_empty() && self.last.is_some_and(|last| mark.lacks(&last))
    }

    /// Takes in a sample and returns the intervals that it completes, oldest first.
    pub fn push(&mut self, sample: &CounterSample, limits: &Limits) -> Vec<Measured> {
        let mark = Mark::of(sample);
        let mut done = Vec::new();
        let back_ms = self
            .last
            .map_or(i64::MIN, |last| last.at_ms.saturating_sub(mark.at_ms));
        let is_late = (0..=limits.length_ms()).contains(&back_ms);
        if is_late || mark.is_empty() {
            return done;
        }
        self.release(mark.at_ms, limits, &mut done);
        let other_meter = self
            .meter
            .zip(sample.meter)
            .is_some_and(|(a, b)| a.body != b.body);
        if other_meter {
            self.begin_era(vec![mark], limits, &mut done);
        } else if let Some(last) = self.last {
            self.follow(last, mark, sample.import_w, limits, &mut done);
        } else {
            self.put_aside(mark, limits, &mut done);
        }
        self.meter = sample.meter.or(self.meter);
        done
    }

    fn follow(
        &mut self,
        last: Mark,
        mark: Mark,
        import_w: Option<i64>,
        limits: &Limits,
        done: &mut Vec<Measured>,
    ) {
        // A register is gone for now or for good, or the clock was ahead and has been set right.
        if mark.lacks(&last) || mark.at_ms <= last.at_ms {
            self.put_aside(mark, limits, done);
            return;
        }
        // A meter that refreshes its counters slowly jumps after standing still for a while.
        let since_ms = self
            .moved_at_ms
            .clamp(last.at_ms - limits.max_gap_ms, last.at_ms);
        let read = mark;
        let mark = read.without_rounding(&last, limits);
        if !fits(&last, &mark, mark.at_ms - since_ms, limits) {
            self.put_aside(read, limits, done);
            return;
        }
        if self.is_frozen(&last, &mark, import_w, limits) {
            self.frozen_since_ms.get_or_insert(last.at_ms);
            return;
        }
        let mut spans = Vec::new();
        let mut span = |quality, from_ms, until_ms| {
            spans.push(Span {
                quality,
                from_ms,
                until_ms,
            })
        };
        if mark.at_ms - last.at_ms > limits.max_gap_ms {
            span(Quality::GAP, last.at_ms, mark.at_ms);
        }
        if let Some(since_ms) = self.frozen_since_ms.take() {
            span(Quality::STALE, since_ms, mark.at_ms);
        }
        // A sample that only lacks a register was not out of range.
        let mut odd = self.aside.iter().filter(|mark| !mark.lacks(&last));
        if let Some(first) = odd.next() {
            let newest = odd.next_back().unwrap_or(first);
            span(Quality::OUT_OF_RANGE, first.at_ms, newest.at_ms + 1);
        }
        self.aside.clear();
        self.advance(last, mark, &spans, limits, done);
    }

    /// Whether the counters stand still although the device has claimed power for so long that they
    /// should have moved. Power that no counter of the device counts proves nothing.
    fn is_frozen(
        &mut self,
        last: &Mark,
        mark: &Mark,
        import_w: Option<i64>,
        limits: &Limits,
    ) -> bool {
        let counted_w = match import_w {
            Some(w) if w > 0 && mark.import_wh.is_some() => w,
            Some(w) if w < 0 && mark.export_wh.is_some() => w.saturating_neg(),
            _ => 0,
        };
        let moved = mark.import_wh != last.import_wh || mark.export_wh != last.export_wh;
        if moved {
            self.moved_at_ms = mark.at_ms;
            self.least_power_w = counted_w;
            return false;
        }
        self.least_power_w = self.least_power_w.min(counted_w);
        let still_ms = i128::from(mark.at_ms - self.moved_at_ms);
        let missing_wh = i128::from(self.least_power_w) * still_ms / MS_PER_HOUR;
        let floor_w = FROZEN_W.max(i64::from(limits.rating_w) / 100);
        let floor_wh = FROZEN_WH.max(limits.resolution_wh.saturating_mul(3));
        self.least_power_w >= floor_w && missing_wh > i128::from(floor_wh)
    }

    /// Keeps a sample that does not fit, together with those before it that it fits.
    fn put_aside(&mut self, mut mark: Mark, limits: &Limits, done: &mut Vec<Measured>) {
        match self.aside.last() {
            Some(before) if mark.at_ms <= before.at_ms => return,
            Some(before) => {
                let time_ms = mark.at_ms - before.at_ms;
                let level = mark.without_rounding(before, limits);
                let is_alike = !mark.lacks(before) && !before.lacks(&mark);
                if is_alike && fits(before, &level, time_ms, limits) {
                    mark = level;
                } else {
                    self.aside.clear();
                }
            }
            None => {}
        }
        if self.aside.len() >= CONFIRM_SAMPLES {
            self.aside.pop();
        }
        self.aside.push(mark);
        // A counter that says nothing but 0 after it has counted is more likely broken than new. And
        // without a register that has counted, its energy would read as none: better no reading.
        let believable = self
            .last
            .is_none_or(|last| mark.is_above_zero() && !mark.lacks(&last));
        if self.aside.len() >= CONFIRM_SAMPLES && believable {
            let chain = std::mem::take(&mut self.aside);
            self.begin_era(chain, limits, done);
        }
    }

    /// Ends the era with its last known registers and begins the next with those of `chain`.
    fn begin_era(&mut self, chain: Vec<Mark>, limits: &Limits, done: &mut Vec<Measured>) {
        if let Some(last) = self.last.take() {
            let goes_on = chain.first().is_some_and(|first| first.at_ms > last.at_ms);
            let open = self
                .edge
                .take()
                .filter(|e| goes_on && last.at_ms > e.mark.at_ms);
            if let Some(start) = open {
                let marks = self.open_marks | Quality::RESET.with(Quality::GAP).bits();
                let (era, meter_hash) = (self.era, self.meter.unwrap_or_default().hash);
                self.held = Some(Held {
                    start,
                    end: last,
                    era,
                    quality: marks,
                    meter_hash,
                });
            }
            self.era = self.era.saturating_add(1);
        }
        (self.edge, self.open_marks, self.frozen_since_ms) = (None, 0, None);
        self.aside.clear();
        if let Some(newest) = chain.last() {
            self.release(newest.at_ms, limits, done);
        }
        let mut marks = chain.into_iter();
        let Some(mut before) = marks.next() else {
            return;
        };
        (self.last, self.moved_at_ms, self.least_power_w) = (Some(before), before.at_ms, 0);
        if before.at_ms.rem_euclid(limits.length_ms()) == 0 {
            self.edge = Some(Edge {
                mark: before,
                exact: true,
            });
        }
        for mark in marks {
            let gap = Span {
                quality: Quality::GAP,
                from_ms: before.at_ms,
                until_ms: mark.at_ms,
            };
            let is_gap = mark.at_ms - before.at_ms > limits.max_gap_ms;
            let spans = if is_gap { vec![gap] } else { Vec::new() };
            self.advance(before, mark, &spans, limits, done);
            before = mark;
        }
    }

    /// Hands out the last interval of an era once its end has passed.
    fn release(&mut self, now_ms: i64, limits: &Limits, done: &mut Vec<Measured>) {
        let length_ms = limits.length_ms();
        if let Some(held) = self
            .held
            .filter(|h| h.start.mark.at_ms + length_ms <= now_ms)
        {
            self.held = None;
            let end = Edge {
                mark: held.end,
                exact: true,
            };
            let quality = Quality::from_bits(held.quality).unwrap_or_default();
            done.extend(measured(
                &held.start,
                &end,
                held.era,
                quality,
                held.meter_hash,
                limits,
            ));
        }
    }

    /// Moves from one good sample to the next, over as many edges as lie between.
    fn advance(
        &mut self,
        from: Mark,
        to: Mark,
        spans: &[Span],
        limits: &Limits,
        done: &mut Vec<Measured>,
    ) {
        let length_ms = limits.length_ms();
        let touching = |start_ms: i64, marks: u16| {
            let hit = spans
                .iter()
                .filter(|s| s.from_ms < start_ms + length_ms && s.until_ms > start_ms);
            hit.fold(marks, |marks, span| marks | span.quality.bits())
        };
        let mut start_ms = from.at_ms - from.at_ms.rem_euclid(length_ms);
        while start_ms + length_ms <= to.at_ms {
            let end = Edge::between(&from, &to, start_ms + length_ms);
            let marks = touching(start_ms, self.open_marks);
            let quality = Quality::from_bits(marks).unwrap_or_default();
            let hash = self.meter.unwrap_or_default().hash;
            // After a change of the interval's length the old edge starts none of the new intervals.
            if let Some(start) = self.edge.filter(|edge| edge.mark.at_ms == start_ms) {
                done.extend(measured(&start, &end, self.era, quality, hash, limits));
            }
            (self.edge, self.open_marks) = (Some(end), 0);
            start_ms += length_ms;
        }
        self.open_marks = touching(start_ms, self.open_marks);
        self.last = Some(to);
    }
}
