//! What a device's counter shows, and what has to be added to it so that it goes on rising beyond
//! its largest value.

use serde::{Deserialize, Serialize};

/// A counter as a device shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counter {
    /// What it shows in mWh. Below zero only where a signed counter has gone beyond its largest
    /// value.
    pub mwh: i64,
    /// What comes after its largest value.
    pub end: CounterEnd,
}

/// What comes after a counter's largest value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CounterEnd {
    /// It is never reached, or nothing is known about it.
    #[default]
    Open,
    /// It has so many mWh in all and begins anew; a signed one at zero or below.
    Wraps {
        /// Size of its range.
        span_mwh: i64,
        /// Whether half of the range lies below zero.
        is_signed: bool,
    },
    /// It counts one session and begins anew with each.
    Session,
}

impl Counter {
    /// A counter that is never full.
    #[must_use]
    pub const fn open(mwh: i64) -> Self {
        Counter {
            mwh,
            end: CounterEnd::Open,
        }
    }

    /// Two counters added up; where they end is known if they end alike.
    pub(crate) fn plus(self, other: Counter) -> Option<Counter> {
        let mwh = self.mwh.checked_add(other.mwh)?;
        let end = match self.end == other.end {
            true => self.end,
            false => CounterEnd::Open,
        };
        Some(Counter { mwh, end })
    }
}

/// What has been added so far to what a counter shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lift {
    pub(super) mwh: i64,
    /// The lift of the session before, until the new one has counted something.
    before_mwh: Option<i64>,
}

/// A shown value in its place above the last good one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Placed {
    pub(super) lift: Lift,
    /// How far it lies above the last good one.
    pub(super) rise_mwh: i128,
}

impl Lift {
    /// Whether `shown` may be the session that was taken to have ended: its counter was zero for a
    /// while and is back.
    pub(super) fn may_resume(&self, base_mwh: i64, shown: Counter) -> bool {
        self.before_mwh.is_some_and(|before| {
            let old_session = self.mwh.saturating_sub(before);
            shown.end == CounterEnd::Session
                && base_mwh == self.mwh
                && old_session > 0
                && shown.mwh >= old_session
        })
    }

    /// The places that `shown` can have above `base_mwh`, likeliest first.
    pub(super) fn places(&self, base_mwh: i64, shown: Counter) -> Vec<Placed> {
        let at = |lift: Lift| Placed {
            lift,
            rise_mwh: i128::from(lift.mwh) + i128::from(shown.mwh) - i128::from(base_mwh),
        };
        let raised = |by: i64| {
            let mwh = self.mwh.saturating_add(by);
            at(Lift {
                mwh,
                before_mwh: None,
            })
        };
        let as_it_is = at(*self);
        match shown.end {
            CounterEnd::Open => vec![as_it_is],
            CounterEnd::Wraps {
                span_mwh,
                is_signed: false,
            } => vec![as_it_is, raised(span_mwh)],
            CounterEnd::Wraps { span_mwh, .. } => {
                vec![as_it_is, raised(span_mwh / 2), raised(span_mwh)]
            }
            CounterEnd::Session => {
                let resumed = self.before_mwh.filter(|_| self.may_resume(base_mwh, shown));
                let resumed = resumed.map(|mwh| {
                    at(Lift {
                        mwh,
                        before_mwh: None,
                    })
                });
                let anew = at(Lift {
                    mwh: base_mwh,
                    before_mwh: Some(self.mwh),
                });
                let fell = as_it_is.rise_mwh < 0;
                let anew = fell.then_some(anew);
                resumed.into_iter().chain([as_it_is]).chain(anew).collect()
            }
        }
    }

    /// The lift once the counter stands at `mwh`, lift included.
    pub(super) fn counted_to(self, mwh: i64) -> Lift {
        let before_mwh = self.before_mwh.filter(|_| mwh == self.mwh);
        Lift { before_mwh, ..self }
    }
}
