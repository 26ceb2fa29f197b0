//! What a line does next: a rule over times, without wires and without a watch.
//!
//! Around an interval's edge every device is read once, as near to the edge as the line allows: the
//! quickest devices next to it, the slow ones outside, and those that fail at the very end. Between
//! edges the polls are spread. A device that fails is left alone longer and longer, and asked once
//! when that time is over; the others do not wait for it.

use std::collections::VecDeque;

use domain::time::Timestamp;

use super::Schedule;

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Poll this device.
    Poll(usize),
    /// Nothing before this time.
    Wait(Timestamp),
}

/// How a poll went, as far as the plan is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The device has answered.
    Answered,
    /// It was busy: it lives, and is asked again at its next turn.
    Busy,
    /// It has failed.
    Failed,
}

/// The plan of one line.
#[derive(Debug)]
pub struct Agenda {
    schedule: Schedule,
    devices: Vec<Entry>,
    /// The next edge that has no plan yet.
    edge: Timestamp,
    /// Reads around the edge under way: when each may begin, and which device.
    around_edge: VecDeque<(Timestamp, usize)>,
    line_failures: u32,
    closed_until: Timestamp,
}

/// What is known about a device.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where in the poll interval its turn is.
    phase_ms: i64,
    due: Timestamp,
    /// How long a poll of it takes; `None` before the first.
    cost_ms: Option<i64>,
    /// How long its last failure took.
    failure_ms: i64,
    failures: u32,
}

const NEVER: Timestamp = Timestamp::from_unix_ms(i64::MIN);

impl Entry {
    fn is_well(&self) -> bool {
        self.failures == 0
    }

    fn expected_ms(&self) -> i64 {
        if self.is_well() {
            self.cost_ms.unwrap_or(0)
        } else {
            self.failure_ms
        }
    }

    /// Who is asked first: the longest due; a device that fails lets the others go first.
    fn rank(&self, poll_ms: i64) -> Timestamp {
        if self.is_well() {
            self.due
        } else {
            self.due.plus_ms(poll_ms)
        }
    }
}

impl Agenda {
    /// The plan for so many devices, all of which are to be read as soon as possible.
    #[must_use]
    pub fn new(schedule: Schedule, devices: usize, now: Timestamp) -> Self {
        let entry = |index: usize| Entry {
            phase_ms: share(schedule.poll_ms, index, devices),
            due: NEVER,
            cost_ms: None,
            failure_ms: 0,
            failures: 0,
        };
        Agenda {
            schedule,
            devices: (0..devices).map(entry).collect(),
            edge: after(now, schedule.interval_ms, 0),
            around_edge: VecDeque::new(),
            line_failures: 0,
            closed_until: NEVER,
        }
    }

    /// What to do at `now`. A device that is returned counts as under way; say how it went.
    pub fn next(&mut self, now: Timestamp) -> Next {
        if now < self.closed_until {
            return Next::Wait(self.closed_until);
        }
        let opening = self.opening(now);
        if self.around_edge.is_empty() && now >= opening {
            self.plan_edge();
        }
        while let Some(&(start, index)) = self.around_edge.front() {
            if now < start {
                return Next::Wait(start);
            }
            self.around_edge.pop_front();
            let device = &self.devices[index];
            if device.is_well() || now >= device.due {
                return Next::Poll(index);
            }
        }
        self.between_edges(now, opening)
    }

    /// When the reads around the next edge may begin.
    fn opening(&mut self, now: Timestamp) -> Timestamp {
        let interval_ms = self.schedule.interval_ms;
        if now.ms_since(self.edge) >= interval_ms {
            self.edge = after(now, interval_ms, 0);
        }
        let costs = || {
            let well = self.devices.iter().filter(|device| device.is_well());
            well.map(Entry::expected_ms)
        };
        let (sum_ms, longest_ms): (i64, i64) = (costs().sum(), costs().max().unwrap_or(0));
        if sum_ms > interval_ms / 2 {
            // The line cannot gather its reads around edges: it polls round and round.
            return self.edge;
        }
        self.edge.plus_ms(-(sum_ms + longest_ms) / 2)
    }

    /// Plans the reads around the edge: from the quickest on alternately behind and before it.
    fn plan_edge(&mut self) {
        let edge = self.edge;
        self.edge = edge.plus_ms(self.schedule.interval_ms);
        let (mut well, ill): (Vec<usize>, Vec<usize>) =
            (0..self.devices.len()).partition(|index| self.devices[*index].is_well());
        let cost_ms = |index: &usize| self.devices[*index].expected_ms();
        well.sort_by_key(cost_ms);
        if well.iter().map(cost_ms).sum::<i64>() > self.schedule.interval_ms / 2 {
            return;
        }
        let (mut begin, mut end) = (edge, edge);
        let mut plan = VecDeque::with_capacity(self.devices.len());
        for (position, index) in well.into_iter().enumerate() {
            let cost_ms = cost_ms(&index);
            if position % 2 == 0 {
                plan.push_back((end, index));
                end = end.plus_ms(cost_ms);
            } else {
                begin = begin.plus_ms(-cost_ms);
                plan.push_front((begin, index));
            }
        }
        plan.extend(ill.into_iter().map(|index| (end, index)));
        self.around_edge = plan;
    }

    /// The device that has been due longest, if its poll is over before the edge's reads begin.
    fn between_edges(&self, now: Timestamp, opening: Timestamp) -> Next {
        let poll_ms = self.schedule.poll_ms;
        let fits = |device: &Entry| now.plus_ms(device.expected_ms()) <= opening || now >= opening;
        let mut wake = opening.max(now.plus_ms(1));
        let mut best: Option<(Timestamp, usize)> = None;
        for (index, device) in self.devices.iter().enumerate() {
            if device.due > now {
                wake = wake.min(device.due);
            } else if fits(device) {
                let rank = device.rank(poll_ms);
                if best.is_none_or(|(first, _)| rank < first) {
                    best = Some((rank, index));
                }
            }
        }
        best.map_or(Next::Wait(wake), |(_, index)| Next::Poll(index))
    }

    /// Takes in how a poll, or a job, of a device went.
    pub fn done(&mut self, index: usize, begun: Timestamp, now: Timestamp, outcome: Outcome) {
        self.line_failures = 0;
        let poll_ms = self.schedule.poll_ms;
        let device = &mut self.devices[index];
        // The clock may have been set back meanwhile.
        let begun = begun.min(now);
        let took_ms = now.ms_since(begun);
        match outcome {
            Outcome::Answered => {
                device.failures = 0;
                device.cost_ms = Some(match device.cost_ms {
                    None => took_ms,
                    // The first poll of a connection explores the device, and takes longer.
                    Some(cost_ms) if took_ms < cost_ms => (cost_ms + took_ms) / 2,
                    Some(cost_ms) => (7 * cost_ms + took_ms) / 8,
                });
            }
            Outcome::Busy => {}
            Outcome::Failed => {
                device.failures = device.failures.saturating_add(1);
                device.failure_ms = took_ms;
            }
        }
        let wait_ms = self.schedule.wait_ms(device.failures);
        // Polls of a device are at least half an interval apart, besides those at edges.
        let soonest = begun.plus_ms(poll_ms / 2).max(now.plus_ms(wait_ms));
        device.due = after(soonest, poll_ms, device.phase_ms);
    }

    /// The clock was set back by so much, to `now`: what was planned is as far away as before.
    pub fn set_back(&mut self, now: Timestamp, by_ms: i64) {
        for device in &mut self.devices {
            device.due = device.due.plus_ms(-by_ms);
        }
        self.closed_until = self.closed_until.plus_ms(-by_ms);
        self.edge = after(now, self.schedule.interval_ms, 0);
        self.around_edge.clear();
    }

    /// A job has shown that a device lives.
    pub fn lives(&mut self, index: usize) {
        self.line_failures = 0;
        let device = &mut self.devices[index];
        if !device.is_well() {
            device.failures = 0;
            device.due = NEVER;
        }
    }

    /// The line itself is not there: nobody on it is asked for a while. Returns who was due.
    pub fn line_failed(&mut self, now: Timestamp) -> Vec<usize> {
        self.line_failures = self.line_failures.saturating_add(1);
        self.around_edge.clear();
        let wait_ms = self.schedule.wait_ms(self.line_failures);
        self.closed_until = after(now.plus_ms(wait_ms), self.schedule.poll_ms, 0);
        let is_due = |index: &usize| self.devices[*index].due <= now;
        (0..self.devices.len()).filter(is_due).collect()
    }

    /// How often a device has failed in a row.
    #[must_use]
    pub fn failures(&self, index: usize) -> u32 {
        self.devices[index].failures
    }
}

/// The first time after `now` that lies `phase_ms` behind a multiple of `step_ms`.
fn after(now: Timestamp, step_ms: i64, phase_ms: i64) -> Timestamp {
    let ms = now.unix_ms().saturating_sub(phase_ms);
    let before = ms.saturating_sub(ms.rem_euclid(step_ms));
    let next = before.saturating_add(step_ms).saturating_add(phase_ms);
    Timestamp::from_unix_ms(next)
}

/// The `index`th of `count` equal parts of `whole_ms`.
fn share(whole_ms: i64, index: usize, count: usize) -> i64 {
    let part = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    whole_ms.saturating_mul(part(index)) / part(count).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A simulated line: how long each device takes, or how long it is silent.
    #[derive(Clone, Copy)]
    enum Device {
        Well(i64),
        Silent(i64),
    }

    use Device::{Silent, Well};

    /// Runs a line for two intervals of 900 s and returns begin and device of every poll.
    fn run(poll_s: u32, devices: &[Device]) -> Vec<(i64, usize)> {
        let schedule = Schedule::new(poll_s, 900, 1);
        let mut now = Timestamp::from_unix_s(900_000_300);
        let start = now;
        let mut agenda = Agenda::new(schedule, devices.len(), now);
        let mut polls = Vec::new();
        while now.ms_since(start) < 1_800_000 {
            match agenda.next(now) {
                Next::Wait(until) => {
                    assert!(until > now, "it waits for something");
                    now = until;
                }
                Next::Poll(index) => {
                    polls.push((now.unix_ms() - EDGE_MS, index));
                    let begun = now;
                    let (took_ms, outcome) = match devices[index] {
                        Well(ms) => (ms, Outcome::Answered),
                        Silent(ms) => (ms, Outcome::Failed),
                    };
                    now = now.plus_ms(took_ms);
                    agenda.done(index, begun, now, outcome);
                }
            }
        }
        polls
    }

    /// An edge in the middle of the run.
    const EDGE_MS: i64 = 900_001_800_000 - 900_000;

    fn nearest_ms(polls: &[(i64, usize)], devices: &[Device], index: usize) -> i64 {
        let half_ms = match devices[index] {
            Well(ms) | Silent(ms) => ms / 2,
        };
        let own = polls.iter().filter(|(_, polled)| *polled == index);
        own.map(|(begun, _)| (begun + half_ms).abs()).min().unwrap()
    }

    #[test]
    fn one_device_is_polled_at_every_step_and_right_at_the_edge() {
        let polls = run(10, &[Well(40)]);
        assert!(polls.contains(&(0, 0)), "{polls:?}");
        let steps: Vec<i64> = polls.windows(2).map(|p| p[1].0 - p[0].0).collect();
        assert!(steps.iter().all(|step| *step == 10_000), "{steps:?}");
    }

    #[test]
    fn all_are_read_around_the_edge_and_a_slow_one_pushes_nobody_away() {
        let mut devices = vec![Well(100); 20];
        let polls = run(10, &devices);
        for index in 0..20 {
            let nearest = nearest_ms(&polls, &devices, index);
            assert!(nearest <= 1000, "{index}: {nearest}");
        }
        devices.push(Well(4000));
        devices.push(Silent(5000));
        let polls = run(30, &devices);
        for index in 0..20 {
            let nearest = nearest_ms(&polls, &devices, index);
            assert!(nearest <= 1050, "{index}: {nearest}");
        }
        assert!(nearest_ms(&polls, &devices, 20) <= 3100);
    }

    #[test]
    fn a_thousand_devices_are_read_around_the_edge() {
        let devices = vec![Well(5); 1000];
        let polls = run(60, &devices);
        let worst = (0..1000)
            .map(|index| nearest_ms(&polls, &devices, index))
            .max();
        assert!(worst <= Some(2600), "{worst:?}");
    }

    #[test]
    fn polls_between_edges_are_spread() {
        let polls = run(10, &[Well(20); 10]);
        let is_calm = |t: &i64| (20_000..880_000).contains(t);
        let calm: Vec<i64> = polls.iter().map(|p| p.0).filter(is_calm).collect();
        let steps: Vec<i64> = calm.windows(2).map(|t| t[1] - t[0]).collect();
        assert!(steps.len() > 800 && steps.iter().all(|step| *step == 1000));
    }

    #[test]
    fn a_silent_device_is_asked_less_and_less_and_the_others_go_on() {
        let mut devices = vec![Well(50); 5];
        devices.push(Silent(3000));
        let polls = run(10, &devices);
        let times = |index| -> Vec<i64> {
            let own = polls.iter().filter(|p| p.1 == index);
            own.map(|p| p.0).collect()
        };
        for index in 0..5 {
            let gaps = times(index).windows(2).map(|t| t[1] - t[0]).max();
            assert!(gaps <= Some(15_000), "{index}: {gaps:?}");
        }
        let silent: Vec<i64> = times(5).windows(2).map(|t| (t[1] - t[0]) / 1000).collect();
        assert!((8..=14).contains(&silent.len()), "{silent:?}");
        let last = *silent.last().unwrap();
        assert!((300..=325).contains(&last), "{silent:?}");
    }

    #[test]
    fn a_line_with_too_many_devices_serves_them_all_alike() {
        let polls = run(10, &[Well(500); 50]);
        let count = |index| polls.iter().filter(|p| p.1 == index).count();
        let counts: Vec<usize> = (0..50).map(count).collect();
        let (low, high) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*low >= 70 && high - low <= 4, "{counts:?}");
    }

    #[test]
    fn a_line_that_does_not_keep_up_with_an_interval_goes_round_and_round() {
        let polls = run(10, &[Well(10_000); 100]);
        let count = |index| polls.iter().filter(|p| p.1 == index).count();
        let counts: Vec<usize> = (0..100).map(count).collect();
        assert!(counts.iter().all(|c| (1..=3).contains(c)), "{counts:?}");
    }

    #[test]
    fn a_line_that_is_gone_is_tried_again_later_for_all_at_once() {
        let schedule = Schedule::new(10, 900, 1);
        let mut now = Timestamp::from_unix_s(900_000_001);
        let mut agenda = Agenda::new(schedule, 3, now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert!(matches!(agenda.next(now), Next::Poll(_)));
            assert_eq!(agenda.line_failed(now), [0, 1, 2]);
            let Next::Wait(until) = agenda.next(now) else {
                panic!("the line rests");
            };
            waits.push(until.ms_since(now) / 1000);
            now = until;
        }
        assert_eq!(waits, [9, 30, 50, 90, 170, 310, 310, 310]);
        for _ in 0..3 {
            let Next::Poll(index) = agenda.next(now) else {
                panic!("all are due");
            };
            agenda.done(index, now, now.plus_ms(5), Outcome::Answered);
            now = now.plus_ms(5);
        }
        assert!(matches!(agenda.next(now), Next::Wait(_)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait() {
        let schedule = Schedule::new(10, 900, 1);
        let now = Timestamp::from_unix_s(900_000_001);
        let mut agenda = Agenda::new(schedule, 1, now);
        assert_eq!(agenda.next(now), Next::Poll(0));
        agenda.done(0, now, now, Outcome::Answered);
        let Next::Wait(until) = agenda.next(now) else {
            panic!("it was polled just now");
        };
        let back = now.plus_s(-7_200);
        agenda.set_back(back, 7_200_000);
        assert_eq!(agenda.next(back), Next::Wait(until.plus_s(-7_200)));
        assert_eq!(agenda.next(until.plus_s(-7_200)), Next::Poll(0));
    }

    #[test]
    fn a_clock_that_is_set_back_during_a_poll_makes_nobody_wait() {
        let schedule = Schedule::new(10, 900, 1);
        let begun = Timestamp::from_unix_s(900_000_001);
        let mut agenda = Agenda::new(schedule, 1, begun);
        assert_eq!(agenda.next(begun), Next::Poll(0));
        let back = begun.plus_s(-3_600);
        agenda.set_back(back, 3_600_000);
        agenda.done(0, begun, back, Outcome::Answered);
        assert_eq!(agenda.next(back), Next::Wait(back.plus_s(9)));
    }

    #[test]
    fn a_busy_device_is_well_and_a_job_brings_a_silent_one_back() {
        let schedule = Schedule::new(10, 900, 1);
        let now = Timestamp::from_unix_s(900_000_001);
        let mut agenda = Agenda::new(schedule, 1, now);
        for _ in 0..5 {
            agenda.done(0, now, now, Outcome::Busy);
        }
        assert_eq!(agenda.failures(0), 0);
        for _ in 0..5 {
            agenda.done(0, now, now, Outcome::Failed);
        }
        assert!(matches!(agenda.next(now), Next::Wait(until) if until.ms_since(now) > 100_000));
        agenda.lives(0);
        assert_eq!(agenda.next(now), Next::Poll(0));
    }
}
