//! A sample: what was read from a device, and when. Freshness is a type: a value is never without
//! the time at which it was read, and an old value is asked for in vain. How old it is says a watch
//! that nobody sets: a clock that was set back, and stands still, makes nothing fresh.

use std::collections::BTreeMap;

use domain::energy::{Energy, Power};
use domain::quality::Quality;
use domain::time::Timestamp;
use runtime::clock::Clock;

use crate::device::{Identity, Values};
use crate::measure::JITTER_MS;
use crate::profile::Quantity;

/// How far the time stamps of what is heard lie back at most.
const HEARD_LATE_MAX_MS: i64 = JITTER_MS;

/// One look at the watch beside the clock, which nobody sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watch {
    /// Time since the clock was made.
    pub elapsed_ms: i64,
    /// How often the clock was set.
    pub steps: u64,
}

impl Watch {
    /// When what is heard now was read: `read_at` by the clock.
    pub(crate) fn of(read_at: Timestamp, clock: &Clock) -> Self {
        let late_ms = clock.now().ms_since(read_at);
        Watch {
            elapsed_ms: clock.elapsed_ms() - late_ms.clamp(0, HEARD_LATE_MAX_MS),
            steps: clock.steps(),
        }
    }
}

/// What one poll, or one message, brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// When it was read: the middle between question and answer.
    pub read_at: Timestamp,
    /// What it says.
    pub values: Values,
    /// Which meter it was, where the device says so.
    pub identity: Option<Identity>,
}

/// A value, the time at which it was read, and how far it can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fresh<T> {
    value: T,
    read_at: Timestamp,
    /// The same by the watch.
    read_ms: i64,
    is_doubted: bool,
}

impl<T> Fresh<T> {
    /// A value read at `read_at`, which is `read_ms` by the watch.
    pub const fn new(value: T, read_at: Timestamp, read_ms: i64) -> Self {
        Fresh {
            value,
            read_at,
            read_ms,
            is_doubted: false,
        }
    }

    /// The value, if it is at most `max_age_ms` old at `now_ms` and not doubted.
    pub fn within(&self, now_ms: i64, max_age_ms: i64) -> Option<&T> {
        (self.quality(now_ms, max_age_ms) == Quality::MEASURED).then_some(&self.value)
    }

    /// How old it is at `now_ms` of the watch.
    pub fn age_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.read_ms).max(0)
    }

    /// Measured while it is fresh, stale from then on.
    pub fn quality(&self, now_ms: i64, max_age_ms: i64) -> Quality {
        if self.is_doubted {
            Quality::OUT_OF_RANGE
        } else if self.age_ms(now_ms) > max_age_ms {
            Quality::STALE
        } else {
            Quality::MEASURED
        }
    }

    /// The same value, not to be shown: what was measured speaks against it.
    #[must_use]
    pub fn doubted(self) -> Self {
        Fresh {
            is_doubted: true,
            ..self
        }
    }

    /// The same value in another form.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Fresh<U> {
        Fresh {
            value: form(self.value),
            read_at: self.read_at,
            read_ms: self.read_ms,
            is_doubted: self.is_doubted,
        }
    }

    /// When it was read, by the watch.
    pub const fn read_ms(&self) -> i64 {
        self.read_ms
    }

    /// When it was read.
    pub const fn read_at(&self) -> Timestamp {
        self.read_at
    }
}

/// The last value of each quantity of a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LastSeen {
    /// Import counter.
    pub import: Option<Fresh<Energy>>,
    /// Export counter.
    pub export: Option<Fresh<Energy>>,
    /// Power.
    pub power: Option<Fresh<Power>>,
    /// State of charge.
    pub soc_permille: Option<Fresh<u16>>,
    /// State of operation.
    pub state: Option<Fresh<String>>,
    /// Everything else that is a number.
    pub details: BTreeMap<Quantity, Fresh<i64>>,
}

impl LastSeen {
    /// Takes in what a sample says that was read at `read_ms` of the watch; what it does not say keeps
    /// its old time.
    pub fn update(&mut self, sample: &Sample, read_ms: i64) {
        type At = (Timestamp, i64);
        fn take<T: Clone>(last: &mut Option<Fresh<T>>, value: Option<&T>, at: At) {
            if let Some(value) = value {
                *last = Some(Fresh::new(value.clone(), at.0, at.1));
            }
        }
        let (values, at) = (&sample.values, (sample.read_at, read_ms));
        take(&mut self.import, values.import.as_ref(), at);
        take(&mut self.export, values.export.as_ref(), at);
        take(&mut self.power, values.power.as_ref(), at);
        take(&mut self.soc_permille, values.soc_permille.as_ref(), at);
        take(&mut self.state, values.state.as_ref(), at);
        for (quantity, value) in &values.details {
            self.details
                .insert(*quantity, Fresh::new(*value, at.0, at.1));
        }
    }

    /// The counters do not fit what was measured before, or stand still while they should not.
    pub fn doubt_counters(&mut self) {
        self.import = self.import.map(Fresh::doubted);
        self.export = self.export.map(Fresh::doubted);
    }

    /// A number by its quantity, in the unit that this is kept in.
    #[must_use]
    pub fn number(&self, quantity: Quantity) -> Option<Fresh<i64>> {
        match quantity {
            Quantity::Import => self.import.map(|seen| seen.map(Energy::wh)),
            Quantity::Export => self.export.map(|seen| seen.map(Energy::wh)),
            Quantity::Power => self.power.map(|seen| seen.map(Power::w)),
            Quantity::Soc => self.soc_permille.map(|seen| seen.map(i64::from)),
            _ => self.details.get(&quantity).copied(),
        }
    }

    /// When anything was read last.
    #[must_use]
    pub fn read_at(&self) -> Option<Timestamp> {
        let times = [
            self.import.as_ref().map(Fresh::read_at),
            self.export.as_ref().map(Fresh::read_at),
            self.power.as_ref().map(Fresh::read_at),
            self.soc_permille.as_ref().map(Fresh::read_at),
            self.state.as_ref().map(Fresh::read_at),
        ];
        let details = self.details.values().map(Fresh::read_at);
        times.into_iter().flatten().chain(details).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_value_is_no_value_and_a_missing_one_keeps_its_time() {
        let at = Timestamp::from_unix_s;
        let mut last = LastSeen::default();
        let values = |power, import| Values {
            power,
            import,
            ..Values::default()
        };
        let sample = |read_at, values| Sample {
            read_at,
            values,
            identity: None,
        };
        let both = values(Some(Power::from_w(5)), Some(Energy::from_wh(9)));
        last.update(&sample(at(100), both), 1_000);
        // The clock stands still in the meantime; the watch does not.
        last.update(
            &sample(at(100), values(Some(Power::from_w(6)), None)),
            11_000,
        );
        let now = 16_000;
        assert_eq!(
            last.power.unwrap().within(now, 10_000),
            Some(&Power::from_w(6))
        );
        assert_eq!(last.import.unwrap().within(now, 10_000), None);
        assert_eq!(last.read_at(), Some(at(100)));
        let import = last.import.unwrap();
        assert_eq!((import.age_ms(now), import.age_ms(500)), (15_000, 0));
        assert_eq!(import.quality(now, 10_000), Quality::STALE);
        assert_eq!(import.within(now, 20_000), Some(&Energy::from_wh(9)));
        last.doubt_counters();
        let import = last.import.unwrap().map(Energy::wh);
        assert_eq!(import.within(now, 20_000), None);
        assert_eq!(import.quality(now, 20_000), Quality::OUT_OF_RANGE);
    }
}
