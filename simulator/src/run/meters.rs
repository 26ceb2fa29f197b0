//! What meters say of what flowed, and what goes wrong with them: readings that are lost, late, changed on
//! their way or never made, and clocks that are wrong. Without faults a reading is what flowed.

use domain::quality::Quality;
use settlement::deliver::Substitute;

use super::RunError;
use super::calendar::Moment;
use super::counter::Counter;
use super::scenario::{Faults, RunHome};

/// A week of intervals stands in for what is missing.
const WEEK_S: i64 = 7 * 86_400;
const DAY_S: i64 = 86_400;

/// What became of a reading.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum State {
    /// It came in time.
    #[default]
    Measured,
    /// It came after the provisional run.
    Late,
    /// It never came.
    Lost,
    /// It was changed on its way, and refused.
    Tampered,
    /// The meter stands still.
    Dead,
}

impl State {
    /// All, in the order of their numbers.
    pub(super) const ALL: [State; 5] = [
        State::Measured,
        State::Late,
        State::Lost,
        State::Tampered,
        State::Dead,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            State::Measured => "measured",
            State::Late => "late",
            State::Lost => "lost",
            State::Tampered => "tampered",
            State::Dead => "dead",
        }
    }

    /// Whether it was there at the provisional run.
    pub(super) const fn in_time(self) -> bool {
        matches!(self, State::Measured)
    }

    /// Whether it ever counted.
    pub(super) const fn counts(self) -> bool {
        matches!(self, State::Measured | State::Late)
    }
}

/// The registers of a meter: what has flowed since it was built.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Registers {
    pub(super) import_wh: i64,
    pub(super) export_wh: i64,
}

/// A reading of one home and interval.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Metered {
    pub(super) state: State,
    pub(super) from: Registers,
    pub(super) to: Registers,
    /// What stands in for it where it is missing.
    pub(super) substitute: Option<(i64, i64)>,
}

impl Metered {
    pub(super) fn import_wh(&self) -> i64 {
        self.to.import_wh - self.from.import_wh
    }

    pub(super) fn export_wh(&self) -> i64 {
        self.to.export_wh - self.from.export_wh
    }

    /// What is settled in the end: the reading where one counted, else the substitute, else what was
    /// traded (`sold_wh` below zero: bought). The rule is that of `settlement::deliver`.
    pub(super) fn settled(&self, counts: bool, sold_wh: i64) -> (i64, i64, Quality) {
        if counts {
            return (self.import_wh(), self.export_wh(), Quality::MEASURED);
        }
        let (import_wh, export_wh) = self
            .substitute
            .unwrap_or(((-sold_wh).max(0), sold_wh.max(0)));
        (import_wh, export_wh, Quality::SUBSTITUTED)
    }

    /// The substitute as settlement takes it.
    pub(super) fn stand_in(&self) -> Option<Substitute> {
        let wh = domain::energy::Energy::from_wh;
        self.substitute.map(|(import_wh, export_wh)| Substitute {
            imported: wh(import_wh),
            exported: wh(export_wh),
        })
    }
}

struct Meter {
    faults: Counter,
    /// What has truly flowed.
    true_now: Registers,
    shown: Registers,
    dead: Vec<(u32, u32)>,
    fast_s_per_day: i64,
    /// Readings of the last week, by place in the week; only where something can be missing.
    week: Vec<Option<(i64, i64)>>,
}

/// All meters of a run.
pub(super) struct Meters {
    faults: Faults,
    meters: Vec<Meter>,
    /// The readings of the interval at hand.
    pub(super) now: Vec<Metered>,
}

impl Meters {
    /// The meters of the homes.
    pub(super) fn new(faults: &Faults, homes: &[RunHome], seed: u64) -> Result<Self, RunError> {
        let named = faults.dead_meters.iter().map(|d| &d.home);
        for name in named.chain(faults.clock_drifts.iter().map(|d| &d.home)) {
            if !homes.iter().any(|home| home.id.as_str() == name) {
                return Err(RunError::bad(format!("faults: no home is called {name}")));
            }
        }
        let meter = |home: &RunHome| {
            let own = |name: &String| name == home.id.as_str();
            let dead = faults.dead_meters.iter().filter(|d| own(&d.home));
            let drift = faults.clock_drifts.iter().find(|d| own(&d.home));
            Meter {
                faults: Counter::new(seed, "fault", home.id.as_str()),
                true_now: Registers::default(),
                shown: Registers::default(),
                dead: dead
                    .map(|d| (d.from_day, d.from_day.saturating_add(d.days)))
                    .collect(),
                fast_s_per_day: drift.map_or(0, |d| i64::from(d.seconds_per_day)),
                week: Vec::new(),
            }
        };
        Ok(Meters {
            faults: faults.clone(),
            meters: homes.iter().map(meter).collect(),
            now: vec![Metered::default(); homes.len()],
        })
    }

    /// Counts an interval: `net_wh` is what each home drew (above zero) or fed in.
    pub(super) fn count(&mut self, moment: &Moment, net_wh: &[i64], run_start_s: i64) {
        for ((meter, now), net) in self.meters.iter_mut().zip(&mut self.now).zip(net_wh) {
            *now = meter.count(&self.faults, moment, *net, run_start_s);
        }
    }
}

impl Meter {
    fn count(
        &mut self,
        faults: &Faults,
        moment: &Moment,
        net_wh: i64,
        run_start_s: i64,
    ) -> Metered {
        let (start_s, length_s) = (
            moment.interval.start_s(),
            i64::from(moment.interval.length_s()),
        );
        let before = self.true_now;
        self.true_now.import_wh += net_wh.max(0);
        self.true_now.export_wh += (-net_wh).max(0);
        // A clock that is fast by so much ends the interval early: the rest of it is counted in the next.
        let fast_s = (self.fast_s_per_day * (start_s - run_start_s) / DAY_S).clamp(0, length_s);
        let early = |from: i64, to: i64| to - (to - from) * fast_s / length_s;
        let to = Registers {
            import_wh: early(before.import_wh, self.true_now.import_wh),
            export_wh: early(before.export_wh, self.true_now.export_wh),
        };
        let metered = Metered {
            state: self.state(faults, moment, start_s),
            from: self.shown,
            to,
            substitute: None,
        };
        self.shown = to;
        self.remember(faults, metered, start_s, length_s)
    }

    fn state(&self, faults: &Faults, moment: &Moment, start_s: i64) -> State {
        if self
            .dead
            .iter()
            .any(|(from, to)| (*from..*to).contains(&moment.day))
        {
            return State::Dead;
        }
        let draw = self.faults.at(start_s.unsigned_abs()) >> 32;
        // The shares of a thousand lie side by side on one draw.
        let share = (draw * 1000) >> 32;
        let [lost, late, tampered] = [
            faults.lost_permille,
            faults.late_permille,
            faults.tampered_permille,
        ]
        .map(u64::from);
        match share {
            share if share < lost => State::Lost,
            share if share < lost + late => State::Late,
            share if share < lost + late + tampered => State::Tampered,
            _ => State::Measured,
        }
    }

    /// Keeps a reading for the week to come, and finds what stands in for a missing one: the same
    /// interval a week before, else a day before, where those were measured.
    fn remember(
        &mut self,
        faults: &Faults,
        mut now: Metered,
        start_s: i64,
        length_s: i64,
    ) -> Metered {
        if faults.is_none() {
            return now;
        }
        let places = usize::try_from(WEEK_S / length_s).unwrap_or(1);
        let place =
            |at_s: i64| usize::try_from(at_s.rem_euclid(WEEK_S) / length_s).unwrap_or(0) % places;
        if self.week.is_empty() {
            self.week = vec![None; places];
        }
        let week_before = self.week[place(start_s)];
        now.substitute = week_before.or(self.week[place(start_s - DAY_S)]);
        let counted = now.state.counts();
        self.week[place(start_s)] = counted.then(|| (now.import_wh(), now.export_wh()));
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::scenario::{ClockDrift, DeadMeter};
    use domain::ids::ParticipantId;
    use domain::time::Interval;

    fn meters(faults: &Faults) -> Meters {
        let home = RunHome::drawn(ParticipantId::new("home-01").unwrap(), 3000, None);
        Meters::new(faults, &[home], 7).unwrap()
    }

    fn run(faults: &Faults, intervals: i64) -> Vec<Metered> {
        let mut meters = meters(faults);
        let moment = |i: i64| Moment {
            interval: Interval::new(i * 900, 900).unwrap(),
            local_minute: i * 15,
            day_minute: 0,
            day: u32::try_from(i / 96).unwrap(),
        };
        let count = |i| {
            meters.count(&moment(i), &[100 + i % 7], 0);
            meters.now[0]
        };
        (0..intervals).map(count).collect()
    }

    #[test]
    fn without_faults_readings_are_what_flowed_and_registers_join() {
        let all = run(&Faults::default(), 300);
        assert!(
            (0_i64..)
                .zip(&all)
                .all(|(i, m)| m.import_wh() == 100 + i % 7 && m.state.in_time())
        );
        assert!(all.windows(2).all(|w| w[0].to == w[1].from));
    }

    #[test]
    fn shares_of_faults_are_what_was_asked_for_and_substitutes_are_a_week_or_a_day_old() {
        let faults = Faults {
            lost_permille: 50,
            late_permille: 100,
            tampered_permille: 20,
            ..Faults::default()
        };
        let all = run(&faults, 20_000);
        let count = |state| all.iter().filter(|m| m.state == state).count();
        assert!((850..1150).contains(&count(State::Lost)));
        assert!((1800..2200).contains(&count(State::Late)));
        assert!((320..480).contains(&count(State::Tampered)));
        for (place, metered) in all.iter().enumerate().skip(672) {
            let before = [place - 672, place - 96].map(|i| &all[i]);
            let expect = before.into_iter().find(|m| m.state.counts());
            assert_eq!(
                metered.substitute,
                expect.map(|m| (m.import_wh(), m.export_wh()))
            );
        }
        assert_eq!(
            all[0].settled(false, -250).0,
            250,
            "without history, what was traded"
        );
    }

    #[test]
    fn dead_meters_are_silent_and_fast_clocks_shift_energy_and_lose_none() {
        let faults = Faults {
            dead_meters: vec![DeadMeter {
                home: "home-01".to_owned(),
                from_day: 1,
                days: 1,
            }],
            clock_drifts: vec![ClockDrift {
                home: "home-01".to_owned(),
                seconds_per_day: 90,
            }],
            ..Faults::default()
        };
        let all = run(&faults, 96 * 4);
        assert!(all[96..192].iter().all(|m| m.state == State::Dead));
        assert!(all[192].state == State::Measured && all[95].state == State::Measured);
        let counted: i64 = all.iter().map(Metered::import_wh).sum();
        let flowed: i64 = (0..96 * 4).map(|i| 100 + i % 7).sum();
        let last = 100 + (96 * 4 - 1) % 7;
        // After four days the clock is 359 s fast: that part of the last interval is not counted yet.
        assert_eq!(flowed - counted, last * 359 / 900);
        let unknown = Faults {
            dead_meters: vec![DeadMeter {
                home: "x".to_owned(),
                from_day: 1,
                days: 1,
            }],
            ..Faults::default()
        };
        let home = RunHome::drawn(ParticipantId::new("home-01").unwrap(), 3000, None);
        assert!(
            Meters::new(&unknown, &[home], 7).is_err_and(|e| e.to_string().contains("called x"))
        );
    }
}
