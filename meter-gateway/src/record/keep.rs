//! Samples to stored readings: measured and signed one by one, stored together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use domain::reading::ClockStamp;
use runtime::db::DbError;

use super::{Recorder, Watched};
use crate::poll::{Sample, Watch};
use crate::spool::{NewReading, NewState, PointState, SpoolError};

/// What samples have changed, by device, and is not stored yet.
pub(super) type News = BTreeMap<usize, Change>;

/// What the samples of a device have changed.
pub(super) struct Change {
    before: PointState,
    after: PointState,
    readings: Vec<NewReading>,
    watch: Option<Watch>,
}

impl Change {
    fn of(before: PointState, watch: Option<Watch>) -> Self {
        Change {
            after: before.clone(),
            before,
            readings: Vec::new(),
            watch,
        }
    }

    /// Whether there is something that must not be forgotten.
    fn is_to_be_stored(&self) -> bool {
        let (before, after) = (&self.before.measure, &self.after.measure);
        !self.readings.is_empty() || after.progress() != before.progress()
    }
}

impl Recorder {
    /// Measures and signs. Nothing of it counts before it is kept.
    pub(super) async fn measure(
        &mut self,
        (index, sample, watch): (usize, &Sample, Watch),
        clock: ClockStamp,
        news: &mut News,
    ) -> Result<(), SpoolError> {
        let device = &mut self.devices[index];
        let Some(signer) = &device.signer else {
            return Ok(());
        };
        let change = match news.entry(index) {
            Entry::Occupied(change) => change.into_mut(),
            Entry::Vacant(place) => {
                let before = match device.state.take() {
                    Some(state) => state,
                    None => self.spool.load(&signer.point).await?,
                };
                device.watched.stored.get_or_insert(watch);
                place.insert(Change::of(before, device.watched.last))
            }
        };
        let counters = device.counters(sample, change.watch, watch);
        change.watch = Some(watch);
        let is_lacking = change.after.measure.misses_a_register_in(&counters);
        if is_lacking {
            self.status.update(|s| {
                let errors = &mut s.devices[index].errors;
                *errors.entry("register_missing").or_default() += 1;
            });
        }
        if is_lacking && !device.is_lacking {
            let name = &device.config.name;
            tracing::warn!("{name}: a register is missing that was measured before");
        }
        device.is_lacking = is_lacking;
        for one in change.after.measure.push(&counters, &device.limits) {
            let interval = one.interval;
            let (sequence, signed) = signer.sign(&mut change.after.chain, one, clock);
            change.readings.push(NewReading {
                sequence,
                interval,
                signed,
            });
        }
        Ok(())
    }

    /// Stores what is new. What cannot be stored has not happened: the state stays, and the next
    /// sample is measured from there.
    pub(super) async fn keep(&mut self, news: News) {
        let (changed, same): (News, News) = news
            .into_iter()
            .partition(|(_, change)| change.is_to_be_stored());
        for (index, change) in same {
            let device = &mut self.devices[index];
            (device.state, device.watched.last) = (Some(change.after), change.watch);
        }
        if changed.is_empty() {
            return;
        }
        let outcome = self.store(&changed).await;
        match outcome {
            Err(error) if changed.len() > 1 && error.may_spare_others() => {
                for (index, change) in changed {
                    let one = News::from([(index, change)]);
                    let outcome = self.store(&one).await;
                    self.settle(one, outcome);
                }
            }
            outcome => self.settle(changed, outcome),
        }
        self.wake.notify_one();
    }

    async fn store(&self, changed: &News) -> Result<(), SpoolError> {
        let mut states: Vec<NewState<'_>> = Vec::with_capacity(changed.len());
        for (index, change) in changed {
            // Only who signs is measured.
            if let Some(signer) = &self.devices[*index].signer {
                states.push((&signer.point, &change.after, &change.readings));
            }
        }
        self.spool.store_all(&states).await
    }

    /// Draws the conclusions from how storing went.
    fn settle(&mut self, changed: News, outcome: Result<(), SpoolError>) {
        if let Err(error) = &outcome {
            self.status.count_error("outbox");
            let mut devices = changed
                .keys()
                .map(|index| &self.devices[*index].config.name);
            let (first, others) = (devices.next().cloned().unwrap_or_default(), devices.count());
            tracing::error!(others, "{first}: {error}");
        }
        for (index, change) in changed {
            let device = &mut self.devices[index];
            match &outcome {
                Ok(()) => {
                    let signed = u64::try_from(change.readings.len()).unwrap_or(0);
                    self.status.update(|s| s.readings_signed += signed);
                    device.state = Some(change.after);
                    device.watched = Watched {
                        last: change.watch,
                        stored: change.watch,
                    };
                }
                // Whether it was stored is not certain: the state, which is taken out, is read again.
                Err(SpoolError::Db(DbError::Commit(_))) => {
                    device.watched.last = device.watched.stored;
                }
                Err(_) => device.state = Some(change.before),
            }
        }
    }
}
