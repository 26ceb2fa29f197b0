//! Where homes stood on the steps of a tiered tariff: from the runs so far where all of the month is opened, else as the
//! lines say, held against what is opened.

use std::collections::BTreeMap;

use domain::energy::Energy;
use domain::ids::{Digest32, ParticipantId};
use domain::run_record::RunRecord;
use domain::time::Timestamp;

use super::{Fault, Leaves, wrong};
use crate::log::checkpoint::Log;
use crate::log::entry::Kind;

/// No month is longer than this, the day of the clock's change with it.
const MONTH_MAX_S: i64 = 32 * 86_400;

/// What the utility had supplied in the month before an interval.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Stood {
    /// To each home; who is not in it had nothing.
    pub(super) used: BTreeMap<ParticipantId, Energy>,
    /// Intervals of the month that were settled before and are not opened: where there are any, the homes' places are
    /// those of their lines.
    pub(super) closed: usize,
}

/// What the runs so far supplied, and where homes stood by their lines.
#[derive(Default)]
pub(super) struct Steps {
    supplied: BTreeMap<i64, BTreeMap<ParticipantId, Energy>>,
    /// By the lines of an interval's runs so far.
    said: BTreeMap<i64, BTreeMap<ParticipantId, Energy>>,
    /// How much closed intervals supplied by a home's last line that counted these runs of theirs: by the month's start,
    /// the home, and the runs.
    closed: BTreeMap<(i64, ParticipantId, Digest32), i64>,
}

impl Steps {
    /// Notes what an interval's last run supplied.
    pub(super) fn keep(&mut self, start_s: i64, supplied: BTreeMap<ParticipantId, Energy>) {
        self.supplied.insert(start_s, supplied);
    }

    /// An interval could not be settled again.
    pub(super) fn forget(&mut self, start_s: i64) {
        self.supplied.remove(&start_s);
    }

    /// Where homes stood before a run, whose lines say it of some. Runs come in the log's order.
    pub(super) fn stood<'a>(
        &mut self,
        leaves: &Leaves,
        (record, index): (&RunRecord, u64),
        lines: impl Iterator<Item = (&'a ParticipantId, Energy)>,
    ) -> Result<Stood, Fault> {
        let rules = &record.rules;
        let Some(from) = rules.month_from_s.filter(|_| !rules.steps.is_empty()) else {
            return Ok(Stood::default());
        };
        let (start, length) = (
            record.interval.start_s(),
            i64::from(record.interval.length_s()),
        );
        if from > start || start.saturating_sub(from) > MONTH_MAX_S {
            return Err(wrong("its month does not begin in the month before it"));
        }
        let mut stood = Stood::default();
        let mut counted = Vec::new();
        let mut at = start.saturating_sub(length);
        while at >= from {
            let runs = leaves.of(Log::Ledger, Kind::Run, Timestamp::from_unix_s(at));
            let before = runs.iter().filter(|(run, _)| *run < index).count();
            match self.supplied.get(&at) {
                Some(supplied) => add(&mut stood.used, supplied)?,
                None if before == 0 => {}
                None => {
                    stood.closed += 1;
                    counted.extend([at.to_be_bytes(), (before as u64).to_be_bytes()].concat());
                }
            }
            at -= length;
        }
        if stood.closed > 0 {
            let counted = Digest32::of(&counted);
            stood.used = self.believed((from, start), counted, &stood.used, lines)?;
        }
        Ok(stood)
    }

    /// As the lines say, if that can be: no home stands below what opened intervals supplied to it, and what the closed
    /// ones supplied stays the same as long as no run of theirs was added.
    fn believed<'a>(
        &mut self,
        (from, start): (i64, i64),
        counted: Digest32,
        opened: &BTreeMap<ParticipantId, Energy>,
        lines: impl Iterator<Item = (&'a ParticipantId, Energy)>,
    ) -> Result<BTreeMap<ParticipantId, Energy>, Fault> {
        // Who has no line is taken to stand where the run before had it.
        let said = self.said.entry(start).or_default();
        for (who, stands) in lines {
            let known = opened.get(who).copied().unwrap_or(Energy::ZERO);
            let closed = stands.wh().saturating_sub(known.wh());
            if closed < 0 {
                return Err(wrong(format!(
                    "{who}: it stands at {stands} on the tariff's steps, and the opened intervals of the month alone \
                     supplied {known}"
                )));
            }
            let last = self.closed.insert((from, who.clone(), counted), closed);
            if let Some(before) = last.filter(|before| *before != closed) {
                return Err(wrong(format!(
                    "{who}: by its place on the tariff's steps, the intervals that are not opened supplied {closed} Wh, \
                     and {before} Wh by an earlier run, since which none of them was settled"
                )));
            }
            said.insert(who.clone(), stands);
        }
        Ok(said.clone())
    }
}

fn add(
    sums: &mut BTreeMap<ParticipantId, Energy>,
    supplied: &BTreeMap<ParticipantId, Energy>,
) -> Result<(), Fault> {
    for (who, wh) in supplied {
        let sum = sums.entry(who.clone()).or_insert(Energy::ZERO);
        let more = sum.checked_add(*wh);
        *sum = more.ok_or_else(|| wrong("a sum does not fit"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use domain::money::Price;
    use domain::posting::Run;
    use domain::run_record::RunRules;
    use domain::terms::Step;
    use domain::time::Interval;

    use super::*;
    use crate::log::entry::{Entry, PUBLIC};

    fn home() -> ParticipantId {
        ParticipantId::new("home").unwrap()
    }

    fn record(n: i64) -> RunRecord {
        let price = Price::from_micro_per_kwh;
        RunRecord {
            interval: Interval::new(900 * n, 900).unwrap(),
            run: Run::Provisional,
            program: "test".to_owned(),
            rules: RunRules {
                retail: price(3),
                feed_in: price(1),
                network_fee: price(1),
                terms: None,
                version: None,
                steps: vec![Step {
                    from_wh: Energy::ZERO,
                    retail: price(3),
                }],
                month_from_s: Some(0),
            },
            readings_size: 0,
            lines: 1,
            postings: 0,
            inputs: Digest32([0; 32]),
            outcome: Digest32([0; 32]),
        }
    }

    /// The log's runs: each of one interval, by its number.
    fn leaves(runs: &[i64]) -> Leaves {
        let mut leaves = Leaves::default();
        for (index, n) in (0..).zip(runs) {
            let start = Timestamp::from_unix_s(900 * n);
            let entry = Entry::new(Kind::Run, start, PUBLIC, &[]);
            leaves.take(Log::Ledger, index, &entry);
        }
        leaves
    }

    /// Settles some runs of a log again; those of closed intervals are left out. Each with where its line has the home.
    fn settled(log: &[i64], opened: &[(u64, i64, i64)]) -> Result<Vec<Stood>, Fault> {
        let (leaves, mut steps) = (leaves(log), Steps::default());
        let mut all = Vec::new();
        for (index, stands, supplied) in opened {
            let n = log[usize::try_from(*index).unwrap()];
            let home = home();
            let lines = std::iter::once((&home, Energy::from_wh(*stands)));
            all.push(steps.stood(&leaves, (&record(n), *index), lines)?);
            let supplied = BTreeMap::from([(home.clone(), Energy::from_wh(*supplied))]);
            steps.keep(900 * n, supplied);
        }
        Ok(all)
    }

    fn wrong_words(log: &[i64], opened: &[(u64, i64, i64)]) -> String {
        match settled(log, opened) {
            Err(Fault::Wrong(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_month_that_is_opened_whole_is_computed() {
        let all = settled(&[0, 1, 2], &[(0, 9, 100), (1, 9, 50), (2, 9, 0)]).unwrap();
        let used: Vec<_> = all.iter().map(|s| s.used.get(&home()).copied()).collect();
        let wh = Energy::from_wh;
        assert_eq!(used, [None, Some(wh(100)), Some(wh(150))]);
        assert!(all.iter().all(|stood| stood.closed == 0));
        // An interval that was settled only later did not count yet.
        let all = settled(&[1, 0, 1], &[(0, 0, 100), (1, 0, 30), (2, 30, 100)]).unwrap();
        assert!(all.iter().all(|stood| stood.closed == 0), "{all:?}");
        assert_eq!(all[2].used[&home()], wh(30));
    }

    #[test]
    fn a_place_that_is_believed_is_held_against_what_is_opened() {
        // Interval 0 is closed; 1 to 3 are opened.
        let log = [0, 1, 2, 3];
        let all = settled(&log, &[(1, 70, 100), (2, 170, 50), (3, 220, 0)]).unwrap();
        assert!(all.iter().all(|stood| stood.closed == 1));
        let below = wrong_words(&log, &[(1, 70, 100), (2, 99, 50)]);
        assert!(below.contains("stands at 99 Wh"), "{below}");
        let moved = wrong_words(&log, &[(1, 70, 100), (2, 171, 50)]);
        assert!(moved.contains("71 Wh, and 70 Wh"), "{moved}");
        // A run of the closed interval in between may have moved it.
        assert!(settled(&[0, 1, 0, 2], &[(1, 70, 100), (3, 171, 50)]).is_ok());
    }

    #[test]
    fn a_place_is_held_against_the_last_run_that_counted_the_same_intervals() {
        // Intervals 0 and 2 are closed; 1 counts the one, 3 counts both, and both are settled twice.
        let log = [0, 1, 2, 3, 1, 3];
        let first = [(1, 70, 100), (3, 190, 50)];
        let then = |one, three| [&first[..], &[(4, one, 110), (5, three, 50)]].concat();
        assert!(settled(&log, &then(70, 200)).is_ok());
        let one = wrong_words(&log, &then(71, 200));
        assert!(one.contains("71 Wh, and 70 Wh"), "{one}");
        let three = wrong_words(&log, &then(70, 201));
        assert!(three.contains("91 Wh, and 90 Wh"), "{three}");
    }
}
