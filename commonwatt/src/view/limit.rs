//! What a limit at a feeder would mean for what is forecast there: before anybody acts.

use domain::time::Interval;

/// Net import that is forecast for an interval, least, middle and most, in watts.
pub(crate) type Band = (i64, i64, i64);

/// A limit: as much may be imported, as much exported; none where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit {
    pub(crate) import_w: Option<i64>,
    pub(crate) export_w: Option<i64>,
}

impl Limit {
    /// How much a net import is beyond the limit.
    fn beyond_w(self, net_w: i64) -> i64 {
        let over = self.import_w.map_or(0, |most| net_w.saturating_sub(most));
        let under = self
            .export_w
            .map_or(0, |most| net_w.saturating_neg().saturating_sub(most));
        over.max(under).max(0)
    }
}

/// What the limit would mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Preview {
    /// Intervals that were looked at.
    pub(crate) intervals: usize,
    /// Those of them that are forecast beyond the limit.
    pub(crate) beyond: usize,
    /// Energy that would have to move or be left out: least, middle, most.
    pub(crate) wh: (i64, i64, i64),
    /// The most that is forecast in either direction, with its sign.
    pub(crate) peak_w: i64,
}

/// Holds what is forecast against a limit.
pub(crate) fn preview(forecast: &[(Interval, Band)], limit: Limit) -> Preview {
    let mut seen = Preview::default();
    for (interval, (low, mid, high)) in forecast {
        let wh = |w: i64| limit.beyond_w(w) * i64::from(interval.length_s()) / 3_600;
        // A limit on exports is broken most where the least is imported.
        let (a, b, c) = (wh(*low), wh(*mid), wh(*high));
        seen.intervals += 1;
        seen.beyond += usize::from(b > 0);
        seen.wh.0 += a.min(b).min(c);
        seen.wh.1 += b;
        seen.wh.2 += a.max(b).max(c);
        if mid.abs() > seen.peak_w.abs() {
            seen.peak_w = *mid;
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_beyond_a_limit_is_counted_in_its_direction_with_its_band() {
        let at = |n: i64| Interval::new(n * 900, 900).unwrap();
        let forecast = [
            (at(0), (8_000, 10_000, 16_000)),
            (at(1), (-9_000, -6_000, 2_000)),
            (at(2), (0, 0, 0)),
        ];
        let limit = |import_w, export_w| Limit { import_w, export_w };
        let import = preview(&forecast, limit(Some(8_000), None));
        assert_eq!((import.intervals, import.beyond), (3, 1));
        assert_eq!(import.wh, (0, 500, 2_000));
        assert_eq!(import.peak_w, 10_000);
        let export = preview(&forecast, limit(None, Some(5_000)));
        assert_eq!((export.beyond, export.wh), (1, (0, 250, 1_000)));
        assert_eq!(preview(&forecast, limit(None, None)).beyond, 0);
    }
}
