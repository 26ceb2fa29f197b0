//! Samples of one metering point to intervals: pure, in integers, and without a way for a glitch to
//! become energy.
//!
//! Between two good samples a register is taken to run linearly; its value at an interval's edge is
//! the end of one interval and the start of the next, so the intervals add up to the register's
//! difference over any outage. Registers are kept in mWh, and only what is signed is rounded.
//!
//! A sample is good when the next one has confirmed it. What does not fit (a step back, a jump beyond
//! the rating, a register that is missing) is put aside. [`CONFIRM_SAMPLES`] in a row that fit each
//! other decide what it was:
//!
//! | they | so |
//! |---|---|
//! | go on from the last good sample, after a gap or a standstill | it is bridged and marked |
//! | go on from it once the counter's range, or the session before, is added | the register is lifted by that and goes on rising in its era, marked `ROLL_OVER` or `RESET` |
//! | do neither, or are another meter's | a new era begins, and what passed unseen in between is left out |
//!
//! A device whose counters stand still while it claims power is not fresh, and its samples do not
//! count. Where there is no counter, `integral` makes one from power.

mod aside;
mod counter;
mod edge;
mod integral;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod truth;

use domain::quality::Quality;
use domain::reading::{MeasurementClass, Register};
use domain::time::{Interval, Timestamp};
use serde::{Deserialize, Serialize};

pub use counter::{Counter, CounterEnd};
use edge::{About, Edge, Lifts, Mark, fits, measured};
use integral::Integral;

/// Samples in a row that must fit each other before a gap is bridged, a counter is lifted, or an era
/// begins.
pub const CONFIRM_SAMPLES: usize = 5;
/// A step between two samples above rating × time × this is implausible.
pub const PLAUSIBLE_PERMILLE: i128 = 1250;
/// How far the time stamps of two samples may be wrong together.
pub const JITTER_MS: i64 = 5000;
/// Most intervals that one outage may span; after a longer one a new era begins.
pub const OUTAGE_INTERVALS_MAX: i64 = 3000;
/// Energy in mWh that must be missing on a standing counter before it counts as frozen.
const FROZEN_MWH: i64 = 50_000;
/// Power in W below which nothing is concluded from a standing counter.
const FROZEN_W: i64 = 50;
/// Watt-milliseconds in a milliwatt-hour.
const WMS_PER_MWH: i128 = 3600;

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
    /// Whether the registers are counters, or power is integrated.
    pub class: MeasurementClass,
}

impl Limits {
    /// The largest energy that `ms` can bring.
    fn plausible_mwh(&self, ms: i64) -> i128 {
        let time_ms = i128::from(ms.saturating_add(JITTER_MS));
        let mwh = i128::from(self.rating_w) * time_ms * PLAUSIBLE_PERMILLE / (WMS_PER_MWH * 1000);
        mwh + 2 * i128::from(self.resolution_mwh())
    }

    fn resolution_mwh(&self) -> i64 {
        self.resolution_wh.saturating_mul(1000)
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
    pub import: Option<Counter>,
    /// Export counter.
    pub export: Option<Counter>,
    /// Power in watts, import positive.
    pub import_w: Option<i64>,
    /// Digest that changes when another meter answers, and the one that is signed; none where it
    /// was not asked for.
    pub meter: Option<MeterMark>,
    /// Time since the sample before, by a clock that nobody sets; none for the first one.
    pub waited_ms: Option<i64>,
    /// Whether the clock that stamps the samples was set since then.
    pub clock_stepped: bool,
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
    /// Whether the registers are the meter's or were made from power.
    pub class: MeasurementClass,
}

/// The power that two neighbouring samples both claim.
#[derive(Clone, Copy)]
struct Claim {
    surely_w: i64,
    from_ms: i64,
    until_ms: i64,
}

impl Claim {
    /// The energy that is claimed since `ms`, in watt-milliseconds.
    fn wms_since(self, ms: i64) -> i64 {
        let time_ms = self.until_ms.saturating_sub(self.from_ms.max(ms)).max(0);
        self.surely_w.saturating_mul(time_ms)
    }
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Span {
    quality: u16,
    from_ms: i64,
    until_ms: i64,
}

impl Span {
    fn new(quality: Quality, from_ms: i64, until_ms: i64) -> Self {
        Span {
            quality: quality.bits(),
            from_ms,
            until_ms,
        }
    }
}

/// A sample that follows the last good one and waits for the next to confirm it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Pending {
    mark: Mark,
    lifts: Lifts,
    spans: Vec<Span>,
}

/// Everything that must be remembered of a point between two samples; kept with its readings.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    era: u32,
    /// The last good sample, lifted.
    last: Option<Mark>,
    #[serde(default)]
    pending: Option<Pending>,
    /// What belongs to `last`.
    #[serde(default)]
    lifts: Lifts,
    /// When a register moved last.
    moved_at_ms: i64,
    /// When power was claimed towards a counter last, and how many watts.
    #[serde(default)]
    claimed: (i64, i64),
    /// The same of another meter's newest sample.
    #[serde(default)]
    other_claimed: (i64, i64),
    /// Energy claimed since a register moved last, in watt-milliseconds.
    #[serde(default)]
    claimed_wms: i64,
    /// Since when the counters are frozen.
    frozen_since_ms: Option<i64>,
    /// The last edge: the start of the open interval.
    edge: Option<Edge>,
    /// Marks on the open interval.
    open_marks: u16,
    /// Samples that fit each other but not what came before, as the device showed them.
    aside: Vec<Mark>,
    /// Energy claimed since the counters of the newest one moved last, in watt-milliseconds.
    #[serde(default)]
    aside_claimed_wms: i64,
    /// The other meter that they are of.
    #[serde(default)]
    aside_meter: Option<[u8; 8]>,
    /// From when until when samples were put aside since the newest that followed.
    #[serde(default)]
    odd_ms: Option<(i64, i64)>,
    held: Option<Held>,
    meter: Option<MeterMark>,
    /// Time since the newest sample that followed, by a clock that nobody sets.
    #[serde(default)]
    waited_ms: i64,
    /// Whether the clock was set since then.
    #[serde(default)]
    clock_stepped: bool,
    #[serde(default)]
    integral: Integral,
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

    /// Whether the newest sample's counters do not go on from what was measured before, or are frozen.
    #[must_use]
    pub fn doubts_counters(&self) -> bool {
        self.last.is_some() && (self.frozen_since_ms.is_some() || !self.aside.is_empty())
    }

    /// Takes in a sample and returns the intervals that it completes, oldest first.
    pub fn push(&mut self, sample: &CounterSample, limits: &Limits) -> Vec<Measured> {
        let mut done = Vec::new();
        let waited_ms = sample.waited_ms.unwrap_or(0).max(0);
        self.waited_ms = self.waited_ms.saturating_add(waited_ms);
        self.clock_stepped |= sample.clock_stepped;
        if limits.class == MeasurementClass::IntegratedPower {
            self.integrate(sample, limits, &mut done);
            return done;
        }
        let at_ms = sample.read_at.unix_ms();
        let back_ms = self
            .newest()
            .map_or(i64::MIN, |newest| newest.at_ms.saturating_sub(at_ms));
        let is_late = (0..=limits.length_ms()).contains(&back_ms);
        if is_late || Mark::of(sample).is_empty() {
            return done;
        }
        self.release(at_ms, limits, &mut done);
        let is_other_meter = self
            .meter
            .zip(sample.meter)
            .is_some_and(|(a, b)| a.body != b.body);
        let claim = self.take_claim(sample, is_other_meter, limits);
        if is_other_meter || !self.follow((sample, claim), limits, &mut done) {
            self.put_aside(sample, is_other_meter, limits, &mut done);
        }
        if !is_other_meter {
            self.meter = sample.meter.or(self.meter);
        }
        done
    }

    /// The newest sample that follows what was before.
    fn newest(&self) -> Option<Mark> {
        self.pending.as_ref().map(|p| p.mark).or(self.last)
    }

    /// What belongs to [`State::newest`].
    fn newest_lifts(&self) -> Lifts {
        self.pending.as_ref().map_or(self.lifts, |p| p.lifts)
    }

    /// Takes in a sample that goes on from the one before without anything unusual, or where the
    /// counters are frozen; false for any other.
    fn follow(
        &mut self,
        (sample, claim): (&CounterSample, Claim),
        limits: &Limits,
        done: &mut Vec<Measured>,
    ) -> bool {
        let Some(base) = self.newest() else {
            return false;
        };
        let lifts = self.newest_lifts();
        if self.is_frozen(&base, &lifts, (sample, claim), limits) {
            self.frozen_since_ms.get_or_insert(base.at_ms);
            return true;
        }
        let Some(mark) = self.next_after(&base, &lifts, sample, limits) else {
            return false;
        };
        let odd = self.take_odd();
        self.accept(mark, lifts, odd.into_iter().collect(), limits, done);
        true
    }

    /// The sample as it follows `base`, if it does so at once.
    fn next_after(
        &self,
        base: &Mark,
        lifts: &Lifts,
        sample: &CounterSample,
        limits: &Limits,
    ) -> Option<Mark> {
        let shown = Mark::of(sample);
        let waited_ms = shown.at_ms.checked_sub(base.at_ms)?;
        let mark = shown.lifted(lifts).without_rounding(base, limits);
        let is_gap = waited_ms > limits.max_gap_ms;
        if waited_ms <= 0 || is_gap || shown.lacks(base) || lifts.may_resume(base, sample) {
            return None;
        }
        // A meter that refreshes its counters slowly jumps after standing still for a while.
        let since_ms = self
            .moved_at_ms
            .clamp(base.at_ms.saturating_sub(limits.max_gap_ms), base.at_ms);
        fits(base, &mark, mark.at_ms - since_ms, limits).then_some(mark)
    }

    /// What a sample claims, and how much was claimed since the counters that were put aside moved last: also of
    /// another meter, and where nothing is good yet. Power that no counter of the device counts claims nothing.
    fn take_claim(
        &mut self,
        sample: &CounterSample,
        is_other_meter: bool,
        limits: &Limits,
    ) -> Claim {
        let shown = Mark::of(sample);
        let counted_w = match sample.import_w {
            Some(w) if w > 0 && shown.import_mwh.is_some() => w,
            Some(w) if w < 0 && shown.export_mwh.is_some() => w.saturating_neg(),
            _ => 0,
        };
        let newest = match is_other_meter {
            true => &mut self.other_claimed,
            false => &mut self.claimed,
        };
        let before = std::mem::replace(newest, (shown.at_ms, counted_w));
        // The lesser of two neighbours: a glitch of the power alone claims nothing.
        let surely_w = before.1.min(counted_w).min(i64::from(limits.rating_w));
        let is_claim = surely_w >= FROZEN_W.max(i64::from(limits.rating_w) / 100);
        let claim = Claim {
            surely_w: if is_claim { surely_w } else { 0 },
            from_ms: before.0,
            until_ms: shown.at_ms,
        };
        self.aside_claimed_wms = match self.aside.last() {
            Some(aside) if !shown.has_moved_since(aside) => self
                .aside_claimed_wms
                .saturating_add(claim.wms_since(aside.at_ms)),
            _ => 0,
        };
        claim
    }

    /// Whether the counters stand still although the device has claimed so much energy that they should
    /// have moved.
    fn is_frozen(
        &mut self,
        base: &Mark,
        lifts: &Lifts,
        (sample, claim): (&CounterSample, Claim),
        limits: &Limits,
    ) -> bool {
        let mark = Mark::of(sample)
            .lifted(lifts)
            .without_rounding(base, limits);
        if mark.has_moved_since(base) {
            self.claimed_wms = 0;
            return false;
        }
        let wms = claim.wms_since(base.at_ms);
        self.claimed_wms = self.claimed_wms.saturating_add(wms);
        Self::should_have_moved(self.claimed_wms, limits)
    }

    /// Whether so much energy moves a counter.
    fn should_have_moved(claimed_wms: i64, limits: &Limits) -> bool {
        let floor_mwh = FROZEN_MWH.max(limits.resolution_mwh().saturating_mul(3));
        i128::from(claimed_wms) / WMS_PER_MWH > i128::from(floor_mwh)
    }

    /// Takes in a sample that follows; the one before it is thereby confirmed.
    fn accept(
        &mut self,
        mark: Mark,
        lifts: Lifts,
        mut spans: Vec<Span>,
        limits: &Limits,
        done: &mut Vec<Measured>,
    ) {
        self.confirm(limits, done);
        if let Some(last) = self.last {
            if mark.at_ms - last.at_ms > limits.max_gap_ms {
                spans.push(Span::new(Quality::GAP, last.at_ms, mark.at_ms));
            }
            if let Some(since_ms) = self.frozen_since_ms.take() {
                spans.push(Span::new(Quality::STALE, since_ms, mark.at_ms));
            }
            if self.clock_stepped {
                spans.push(Span::new(Quality::CLOCK_STEP, last.at_ms, mark.at_ms + 1));
            }
            if mark.has_moved_since(&last) {
                self.moved_at_ms = mark.at_ms;
            }
        }
        (self.waited_ms, self.clock_stepped) = (0, false);
        let lifts = lifts.counted_to(&mark);
        self.pending = Some(Pending { mark, lifts, spans });
    }

    /// The pending sample is good.
    fn confirm(&mut self, limits: &Limits, done: &mut Vec<Measured>) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        self.lifts = pending.lifts;
        match self.last {
            Some(last) => self.advance(last, pending.mark, &pending.spans, limits, done),
            None => self.begin(pending.mark, limits),
        }
    }

    /// The first good sample of an era.
    fn begin(&mut self, first: Mark, limits: &Limits) {
        (self.last, self.moved_at_ms, self.claimed_wms) = (Some(first), first.at_ms, 0);
        if first.at_ms.rem_euclid(limits.length_ms()) == 0 {
            self.edge = Some(Edge {
                mark: first,
                exact: true,
            });
        }
    }

    /// Ends the era with its last known registers.
    fn end_era(&mut self, next_at_ms: i64, limits: &Limits, done: &mut Vec<Measured>) {
        self.confirm(limits, done);
        if let Some(last) = self.last.take() {
            let goes_on = next_at_ms > last.at_ms;
            let open = self
                .edge
                .take()
                .filter(|e| goes_on && last.at_ms > e.mark.at_ms);
            if let Some(start) = open {
                let clock = self.clock_stepped.then_some(Quality::CLOCK_STEP);
                let lost = Quality::RESET.with(Quality::GAP);
                let marks = self.open_marks | lost.with(clock.unwrap_or_default()).bits();
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
        (self.waited_ms, self.clock_stepped) = (0, false);
        self.lifts = Lifts::default();
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
            let about = About {
                era: held.era,
                quality: Quality::from_bits(held.quality).unwrap_or_default(),
                meter_hash: held.meter_hash,
            };
            done.extend(measured(&held.start, &end, about, limits));
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
            hit.fold(marks, |marks, span| marks | span.quality)
        };
        let mut start_ms = from.at_ms - from.at_ms.rem_euclid(length_ms);
        while start_ms + length_ms <= to.at_ms {
            let end = Edge::between(&from, &to, start_ms + length_ms);
            let marks = touching(start_ms, self.open_marks);
            let about = About {
                era: self.era,
                quality: Quality::from_bits(marks).unwrap_or_default(),
                meter_hash: self.meter.unwrap_or_default().hash,
            };
            // After a change of the interval's length the old edge starts none of the new intervals.
            if let Some(start) = self.edge.filter(|edge| edge.mark.at_ms == start_ms) {
                done.extend(measured(&start, &end, about, limits));
            }
            (self.edge, self.open_marks) = (Some(end), 0);
            start_ms += length_ms;
        }
        self.open_marks = touching(start_ms, self.open_marks);
        self.last = Some(to);
    }
}
