//! Samples that do not go on from the one before: kept until it is clear what they were.

use domain::quality::Quality;

use super::edge::{Lifts, Mark, fits, is_within_outage, place};
use super::{CONFIRM_SAMPLES, Counter, CounterEnd, CounterSample, Limits, Measured, Span, State};

/// How samples that were put aside go on from a good one.
struct Bridge {
    /// What is added to the counters from there on.
    lifts: Lifts,
    /// The marks it leaves.
    spans: Vec<Span>,
    /// Whether they speak against the sample that waits to be confirmed.
    without_pending: bool,
}

impl State {
    /// Keeps a sample that does not fit, together with those before it that it fits, and looks
    /// whether it is clear now what they are.
    pub(super) fn put_aside(
        &mut self,
        sample: &CounterSample,
        is_other_meter: bool,
        limits: &Limits,
        done: &mut Vec<Measured>,
    ) {
        let mut mark = Mark::of(sample);
        let meter = sample.meter.filter(|_| is_other_meter).map(|m| m.body);
        if self.aside_meter != meter {
            self.aside_meter = meter;
            self.aside.clear();
            // What one meter's counters did not count says nothing of another's.
            self.aside_claimed_wms = 0;
        }
        match self.aside.last() {
            Some(before) if mark.at_ms <= before.at_ms => return,
            // A counter that stands although energy is claimed confirms nothing.
            Some(_) if Self::should_have_moved(self.aside_claimed_wms, limits) => return,
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
        // A sample that only lacks a register was not out of range.
        if self.newest().is_some_and(|newest| !mark.lacks(&newest)) {
            let (from_ms, _) = self.odd_ms.unwrap_or((mark.at_ms, 0));
            self.odd_ms = Some((from_ms, mark.at_ms + 1));
        }
        if self.aside.len() >= CONFIRM_SAMPLES {
            self.aside.remove(0);
        }
        self.aside.push(mark);
        self.look_aside(sample, is_other_meter, limits, done);
    }

    fn look_aside(
        &mut self,
        sample: &CounterSample,
        is_other_meter: bool,
        limits: &Limits,
        done: &mut Vec<Measured>,
    ) {
        if !is_other_meter && self.is_pending_odd(sample, limits) {
            let spans = self.drop_pending();
            let lifts = self.lifts;
            self.aside.drain(..self.aside.len() - 2);
            self.take_chain(lifts, spans, limits, done);
            return;
        }
        let whole = self.aside.first().zip(self.aside.last());
        let Some((first, newest)) = whole.map(|(first, newest)| (*first, *newest)) else {
            return;
        };
        if self.aside.len() < CONFIRM_SAMPLES {
            return;
        }
        let bridges = |mark: &Mark| self.bridge(&as_sample(*mark, sample), limits);
        let bridge = self.aside.iter().map(bridges).enumerate();
        let mut bridge = bridge.filter_map(|(index, bridge)| Some((index, bridge?)));
        match bridge.next().filter(|_| !is_other_meter) {
            Some((0, bridge)) => {
                let mut spans = bridge.spans;
                if bridge.without_pending {
                    spans.extend(self.drop_pending());
                }
                self.take_chain(bridge.lifts, spans, limits, done);
                return;
            }
            // It will go on from there when what is before it has been forgotten.
            Some(_) => return,
            None => {}
        }
        // A counter that says nothing but 0 after it has counted is more likely broken than new. And
        // without a register that has counted, its energy would read as none: better no reading.
        let is_believable = self
            .last
            .is_none_or(|last| newest.is_above_zero() && !newest.lacks(&last));
        if (is_other_meter || is_believable) && !first.is_below_zero() {
            self.end_era(first.at_ms, limits, done);
            self.release(newest.at_ms, limits, done);
            self.meter = sample.meter.or(self.meter);
            if is_other_meter {
                self.claimed = self.other_claimed;
            }
            self.take_chain(Lifts::default(), Vec::new(), limits, done);
        }
    }

    /// Whether the last two samples, which agree and go on from the last good one, speak against the
    /// one that still waits to be confirmed.
    fn is_pending_odd(&self, sample: &CounterSample, limits: &Limits) -> bool {
        let Some((last, index)) = self.last.zip(self.aside.len().checked_sub(2)) else {
            return false;
        };
        let shown = self.aside.get(index).map(|mark| as_sample(*mark, sample));
        let goes_on = shown.and_then(|shown| self.next_after(&last, &self.lifts, &shown, limits));
        self.pending.is_some() && goes_on.is_some()
    }

    /// Drops the sample that waits to be confirmed; what it leaves are marks.
    fn drop_pending(&mut self) -> Vec<Span> {
        let Some(dropped) = self.pending.take() else {
            return Vec::new();
        };
        let at_ms = dropped.mark.at_ms;
        let mut spans = dropped.spans;
        spans.push(Span::new(Quality::OUT_OF_RANGE, at_ms, at_ms + 1));
        spans
    }

    /// How a sample goes on from the newest that followed, or from the last good one.
    fn bridge(&self, shown: &CounterSample, limits: &Limits) -> Option<Bridge> {
        let newest = self.newest()?;
        let from_newest = self.bridge_from(&newest, &self.newest_lifts(), shown, limits);
        let from_last = || {
            let last = self.last.filter(|_| self.pending.is_some())?;
            let bridge = self.bridge_from(&last, &self.lifts, shown, limits)?;
            Some(Bridge {
                without_pending: true,
                ..bridge
            })
        };
        from_newest.or_else(from_last)
    }

    /// How a sample goes on from `base`, after a gap or a standstill, or because a counter began anew.
    fn bridge_from(
        &self,
        base: &Mark,
        before: &Lifts,
        shown: &CounterSample,
        limits: &Limits,
    ) -> Option<Bridge> {
        let first = Mark::of(shown);
        let wall_ms = first.at_ms.checked_sub(base.at_ms)?;
        if wall_ms <= 0 || first.lacks(base) || !is_within_outage(base, &first, limits) {
            return None;
        }
        let still_ms = base.at_ms.saturating_sub(self.moved_at_ms).max(0);
        let usual_ms = wall_ms.saturating_add(still_ms.min(limits.max_gap_ms));
        let usual_mwh = limits.plausible_mwh(usual_ms);
        let mut spans = Vec::new();
        let mut lifts = place(before, base, shown, usual_mwh, limits);
        if lifts.is_none() && wall_ms < limits.length_ms() {
            // Longer than the time stamps say: the counter stood still, or the clock did.
            let edge = self.edge.map_or(*base, |edge| edge.mark);
            let still_ms = still_ms.min(base.at_ms.saturating_sub(edge.at_ms).max(0));
            let chain_ms = self.aside.last().map_or(0, |m| m.at_ms - first.at_ms);
            let waited_ms = self.waited_ms.saturating_sub(chain_ms);
            let time_ms = wall_ms.saturating_add(still_ms).max(waited_ms);
            // What the open interval would hold must be plausible too.
            let most_mwh = limits.plausible_mwh(limits.length_ms()) - base.risen_mwh(&edge);
            let most_mwh = most_mwh.min(limits.plausible_mwh(time_ms));
            lifts = place(before, base, shown, most_mwh, limits);
            spans.push(Span::new(Quality::STALE, base.at_ms, first.at_ms));
        }
        let lifts = lifts?;
        if let Some(mark) = lifts.mark_after(before, shown) {
            spans.push(Span::new(mark, base.at_ms, first.at_ms));
        }
        Some(Bridge {
            lifts,
            spans,
            without_pending: false,
        })
    }

    /// The samples put aside are good.
    fn take_chain(
        &mut self,
        mut lifts: Lifts,
        mut spans: Vec<Span>,
        limits: &Limits,
        done: &mut Vec<Measured>,
    ) {
        let chain = std::mem::take(&mut self.aside);
        let odd_ms = self.odd_ms.take();
        let first_ms = chain.first().map_or(0, |first| first.at_ms);
        if let Some((from_ms, until_ms)) = odd_ms.filter(|(from_ms, _)| *from_ms < first_ms) {
            let until_ms = until_ms.min(first_ms);
            spans.push(Span::new(Quality::OUT_OF_RANGE, from_ms, until_ms));
        }
        for raw in chain {
            let base = self.newest();
            let mark = raw.lifted(&lifts);
            let mark = base.map_or(mark, |base| mark.without_rounding(&base, limits));
            self.accept(mark, lifts, std::mem::take(&mut spans), limits, done);
            lifts = self.newest_lifts();
        }
    }

    /// The time in which samples were put aside that turned out to be wrong.
    pub(super) fn take_odd(&mut self) -> Option<Span> {
        self.aside.clear();
        let (from_ms, until_ms) = self.odd_ms.take()?;
        Some(Span::new(Quality::OUT_OF_RANGE, from_ms, until_ms))
    }
}

/// A mark as the sample it came from; its counters end where those of `like` do.
fn as_sample(mark: Mark, like: &CounterSample) -> CounterSample {
    let counter = |mwh: Option<i64>, like: Option<Counter>| {
        let end = like.map_or(CounterEnd::Open, |like| like.end);
        mwh.map(|mwh| Counter { mwh, end })
    };
    CounterSample {
        read_at: domain::time::Timestamp::from_unix_ms(mark.at_ms),
        import: counter(mark.import_mwh, like.import),
        export: counter(mark.export_mwh, like.export),
        ..*like
    }
}
