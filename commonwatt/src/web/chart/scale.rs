//! From values to the plot's coordinates.

/// The plot's own coordinates: a day of quarter-hours is a hundred each.
pub(crate) const WIDTH: i64 = 9_600;
pub(crate) const HEIGHT: i64 = 2_400;

/// Maps a range of values onto a range of coordinates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    from: i64,
    to: i64,
    start: i64,
    end: i64,
}

impl Scale {
    /// Along the plot, from the left.
    pub(crate) fn across(from: i64, to: i64) -> Scale {
        Scale {
            from,
            to,
            start: 0,
            end: WIDTH,
        }
    }

    /// Up the plot, from the bottom.
    pub(crate) fn up(from: i64, to: i64) -> Scale {
        Scale {
            from,
            to,
            start: HEIGHT,
            end: 0,
        }
    }

    /// Where a value lies; beyond the range, at its end.
    pub(crate) fn at(self, value: i64) -> i64 {
        let span = i128::from(self.to) - i128::from(self.from);
        if span <= 0 {
            return self.start;
        }
        let along = (i128::from(value) - i128::from(self.from)).clamp(0, span);
        let moved = along * i128::from(self.end - self.start) / span;
        self.start + i64::try_from(moved).unwrap_or(0)
    }
}

/// A step of 1, 2 or 5 times a power of ten, and how many of them reach `most`: three to five.
pub(crate) fn nice(most: i64, unit: i64) -> (i64, i64) {
    let most = most.max(1);
    let mut power = unit.max(1);
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            let count = most.saturating_add(step - 1) / step;
            if count <= 5 {
                return (step, count.max(2));
            }
        }
        power = power.saturating_mul(10);
        if power > i64::MAX / 20 {
            return (i64::MAX / 5, 5);
        }
    }
}

/// The step of a scale that goes as far up as down, and how many steps each way reach `most`.
pub(crate) fn mirrored(most: i64, unit: i64) -> (i64, i64) {
    let (step, count) = nice(most, unit);
    if count > 3 {
        (step.saturating_mul(2), (count + 1) / 2)
    } else {
        (step, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_keeps_to_its_range_and_survives_none() {
        let x = Scale::across(0, 100);
        assert_eq!(
            [x.at(-1), x.at(0), x.at(50), x.at(100), x.at(900)],
            [0, 0, 4800, 9600, 9600]
        );
        let y = Scale::up(-10, 10);
        assert_eq!([y.at(-10), y.at(0), y.at(10)], [2400, 1200, 0]);
        assert_eq!(Scale::up(5, 5).at(5), 2400);
        assert_eq!(Scale::across(i64::MIN, i64::MAX).at(0), 4800);
    }

    #[test]
    fn steps_are_round_and_reach_the_most() {
        assert_eq!(nice(341_000, 10_000), (100_000, 4));
        assert_eq!(nice(7, 1), (2, 4));
        assert_eq!(nice(0, 1), (1, 2));
        for most in [1, 9, 10, 11, 49, 51, 999, 12_345, i64::MAX] {
            let (step, count) = nice(most, 1);
            assert!((2..=5).contains(&count), "{most}");
            assert!(
                i128::from(step) * i128::from(count) >= i128::from(most) - 4,
                "{most}"
            );
        }
    }
}
