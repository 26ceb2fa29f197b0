//! Keeps a counter's glitches from Home Assistant, which would count each as energy. A value passes
//! where the counter can have come to it from the last one that passed; anything else has to prove
//! itself first, and is null until then.

/// So many values in a row must follow from each other before a step is believed.
const CONFIRM: u32 = 3;
/// How far two time stamps may be wrong together.
const JITTER_MS: i64 = 5000;
/// Tolerance of the rating.
const RATING_PERMILLE: i128 = 1250;
/// Steps of the counter that are always believed, in watt-hours: coarse counters count in them.
const STEP_WH: i128 = 200;
/// Watt-milliseconds in a watt-hour.
const WMS_PER_WH: i128 = 3_600_000;

/// Watches one counter.
#[derive(Debug)]
pub(super) struct Guard {
    rating_w: u32,
    per_wh: i64,
    passed: Option<Seen>,
    doubted: Option<Doubted>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    count: i64,
    /// By the watch.
    at_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Doubted {
    first: i64,
    last: Seen,
    times: u32,
}

impl Guard {
    /// Watches a counter of a device with this rating, `per_wh` of whose units are a watt-hour.
    pub(super) const fn new(rating_w: u32, per_wh: i64) -> Self {
        Guard {
            rating_w,
            per_wh,
            passed: None,
            doubted: None,
        }
    }

    /// The count, if it is to be shown.
    pub(super) fn pass(&mut self, count: i64, at_ms: i64) -> Option<i64> {
        let now = Seen { count, at_ms };
        if self.passed.is_some_and(|before| self.follows(before, now)) {
            self.passed = Some(now);
            self.doubted = None;
            return Some(count);
        }
        let doubted = match self.doubted {
            // The same reading shown again proves nothing.
            Some(doubted) if doubted.last.at_ms == at_ms => doubted,
            Some(doubted) if self.follows(doubted.last, now) => Doubted {
                first: doubted.first,
                last: now,
                times: doubted.times + 1,
            },
            _ => Doubted {
                first: count,
                last: now,
                times: 1,
            },
        };
        // A zero, and a step from what was shown, must begin to count: a stuck register never does.
        let must_count = self.passed.is_some() || count == 0;
        if doubted.times < CONFIRM || (must_count && count == doubted.first) {
            self.doubted = Some(doubted);
            return None;
        }
        self.passed = Some(now);
        self.doubted = None;
        Some(count)
    }

    fn follows(&self, before: Seen, now: Seen) -> bool {
        let rise = i128::from(now.count) - i128::from(before.count);
        let time_ms = i128::from(now.at_ms.saturating_sub(before.at_ms)) + i128::from(JITTER_MS);
        let most_wh = i128::from(self.rating_w) * time_ms * RATING_PERMILLE / (WMS_PER_WH * 1000);
        (0..=(most_wh + STEP_WH) * i128::from(self.per_wh)).contains(&rise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of counts read every 10 s.
    fn passed(guard: &mut Guard, from_s: i64, counts: &[i64]) -> Vec<Option<i64>> {
        let at = (from_s..).step_by(10).map(|s| s * 1000);
        let seen = counts.iter().zip(at);
        seen.map(|(count, at)| guard.pass(*count, at)).collect()
    }

    #[test]
    fn glitches_are_null_and_real_resets_pass_once_they_count() {
        let mut guard = Guard::new(10_000, 1);
        let begins = passed(&mut guard, 0, &[1_000_000, 1_000_000, 1_000_010, 1_000_020]);
        assert_eq!(begins, [None, None, Some(1_000_010), Some(1_000_020)]);
        let zeros = passed(&mut guard, 40, &[0; 100]);
        assert!(
            zeros.iter().all(Option::is_none),
            "a stuck zero never passes"
        );
        let again = passed(
            &mut guard,
            1040,
            &[1_000_030, 9_999_999_999, 1_000_040, 1_000_030],
        );
        assert_eq!(again, [Some(1_000_030), None, Some(1_000_040), None]);
        let reset = passed(&mut guard, 1080, &[5, 5, 6, 30, 50]);
        assert_eq!(reset, [None, None, Some(6), Some(30), Some(50)]);
        assert_eq!(guard.pass(50, 1_120_000), Some(50), "shown twice");
    }

    #[test]
    fn a_zero_at_the_start_is_not_believed_before_it_counts() {
        let mut guard = Guard::new(10_000, 1000);
        let at_first = passed(&mut guard, 0, &[0, 0, 0, 0, 900, 1000]);
        assert_eq!(at_first, [None, None, None, None, Some(900), Some(1000)]);
        let mut alone = Guard::new(10_000, 1);
        let t = 7_000;
        assert!(
            (0..9).all(|_| alone.pass(70, t).is_none()),
            "one reading is no proof"
        );
    }
}
