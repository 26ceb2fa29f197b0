//! The street as a whole: all homes on one 5-second grid, and the feeder that carries their sum and
//! its losses. The same scenario, seed, instant and record of what devices were told always give the
//! same registers, to the watt-second.

use std::collections::VecDeque;

use domain::time::Timestamp;

use crate::home::{Home, HomeState, Light, MeterState};
use crate::journal::Told;
use crate::number::POWER_MAX_W;
use crate::pv::Sun;
use crate::random::Stream;
use crate::scenario::{FeederScenario, Scenario, Site};
use crate::setpoint::Settings;
use crate::weather::Weather;

/// Length of a step in seconds; steps are aligned to unix time.
pub const STEP_S: i64 = 5;
/// Steps in a minute.
pub(crate) const MINUTE_STEPS: i64 = 60 / STEP_S;

/// The line between the homes and the grid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeederState {
    /// The meter at the transformer; import = from the grid into the street.
    pub meter: MeterState,
    /// What the line loses now.
    pub loss_w: i64,
    /// What the line has lost since the simulation started.
    pub loss_ws: i64,
}

/// A street and its present state.
pub struct World {
    site: Site,
    losses: FeederScenario,
    homes: Vec<Home>,
    feeder: FeederState,
    weather: Weather,
    /// Everything before this second is in the registers.
    done_s: i64,
    minute: Option<i64>,
    minute_end: Option<(i64, Light)>,
    /// What devices will have been told, from a record.
    told: VecDeque<Told>,
}

impl World {
    /// The street at its start, with `seed` deciding over weather, people and old register values.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64) -> World {
        let mut initial = Stream::new(seed, "feeder/initial").at(0);
        let meter = MeterState {
            power_w: 0,
            import_ws: initial.whole(30_000_000, 60_000_000) * 3600,
            export_ws: initial.whole(10_000_000, 40_000_000) * 3600,
        };
        let start_s = scenario.site.start.unix_s();
        World {
            homes: scenario
                .homes
                .iter()
                .map(|home| Home::new(seed, home))
                .collect(),
            feeder: FeederState {
                meter,
                loss_w: 0,
                loss_ws: 0,
            },
            weather: Weather::new(seed, scenario.site.cloudiness),
            site: scenario.site.clone(),
            losses: scenario.feeder.clone(),
            done_s: start_s - start_s.rem_euclid(STEP_S),
            minute: None,
            minute_end: None,
            told: VecDeque::new(),
        }
    }

    /// Runs the street up to the last step boundary not after `now`. An instant in the past changes
    /// nothing; asking twice changes nothing.
    pub fn advance_to(&mut self, now: Timestamp) {
        self.take_told();
        while self.done_s.saturating_add(STEP_S) <= now.unix_s() {
            self.step();
            self.take_told();
        }
    }

    /// What devices were told before, in the order of time: it comes into force when its time comes.
    pub fn replay(&mut self, told: Vec<Told>) {
        self.told = told.into();
    }

    fn take_told(&mut self) {
        while let Some(told) = self.told.pop_front_if(|told| told.at_s <= self.done_s) {
            if let Some(home) = self.homes.get_mut(told.home) {
                // Only what a device has taken is in a record.
                let _ = home.state.settings.tell(&told);
            }
        }
    }

    /// Puts what the devices of a home were told into force, from the next step on.
    pub(crate) fn set(&mut self, home: usize, settings: Settings) {
        self.homes[home].state.settings = settings;
    }

    /// The instant up to which the registers count.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix_s(self.done_s)
    }

    /// The homes, in the order of the scenario.
    pub fn homes(&self) -> impl ExactSizeIterator<Item = &HomeState> {
        self.homes.iter().map(|home| &home.state)
    }

    /// The home at `index` of the scenario.
    ///
    /// # Panics
    /// There are not so many homes.
    #[must_use]
    pub fn home(&self, index: usize) -> &HomeState {
        &self.homes[index].state
    }

    /// The line between the homes and the grid.
    #[must_use]
    pub const fn feeder(&self) -> FeederState {
        self.feeder
    }

    fn step(&mut self) {
        let local_s = self.done_s + self.site.utc_offset_minutes * 60;
        let minute = self.done_s.div_euclid(60);
        if self.minute != Some(minute) {
            self.turn_minute(minute);
        }
        let step_of_minute = self.done_s.rem_euclid(60) / STEP_S;
        let mut net_w = 0;
        for home in &mut self.homes {
            net_w += home.step(self.done_s, local_s, step_of_minute);
        }
        assert!(
            net_w.abs() < POWER_MAX_W,
            "a street of {net_w} W is no street"
        );
        let feeder = &mut self.feeder;
        feeder.loss_w =
            net_w.abs() * self.losses.losses_per_mille / 1000 + self.losses.standing_loss_w;
        feeder.loss_ws += feeder.loss_w * STEP_S;
        feeder.meter.count(net_w + feeder.loss_w);
        self.done_s += STEP_S;
    }

    fn turn_minute(&mut self, minute: i64) {
        self.minute = Some(minute);
        let from = match self.minute_end {
            Some((known, light)) if known == minute => light,
            _ => self.light(minute),
        };
        let to = self.light(minute + 1);
        self.minute_end = Some((minute + 1, to));
        for home in &mut self.homes {
            home.turn_minute(minute + self.site.utc_offset_minutes, from, to);
        }
    }

    fn light(&mut self, minute: i64) -> Light {
        let unix_s = minute * 60;
        let sun = Sun::at(unix_s, self.site.latitude, self.site.longitude);
        Light {
            sun,
            sky: self.weather.sky(unix_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::HomeScenario;

    /// The demo's street from the morning on.
    fn street() -> Scenario {
        let mut street = Scenario::street_10().unwrap();
        street.site.start = "2026-06-21T07:00:00Z".parse().unwrap();
        // One of the chargers is connected by itself.
        let mut cars = street.homes.iter_mut().filter_map(|home| home.ev.as_mut());
        cars.next().unwrap().own_connection = true;
        street
    }

    fn states(world: &World) -> (Vec<HomeState>, FeederState) {
        (world.homes().cloned().collect(), world.feeder())
    }

    /// Fails unless every register's growth since `before` is explained by the others, exactly.
    fn check_balance(
        before: &(Vec<HomeState>, FeederState),
        after: &(Vec<HomeState>, FeederState),
    ) {
        let mut street_ws = 0;
        for (b, a) in before.0.iter().zip(&after.0) {
            let meter = |s: &HomeState| s.meter.import_ws - s.meter.export_ws;
            let pv = |s: &HomeState| s.pv.as_ref().map_or(0, |p| p.energy_ws);
            let car = |s: &HomeState| s.charger.as_ref().map_or(0, |c| c.energy_ws);
            let ev = |s: &HomeState| if s.charger_apart { 0 } else { car(s) };
            let beside = |s: &HomeState| car(s) - ev(s);
            let into = |s: &HomeState| s.battery.as_ref().map_or(0, |b| b.in_ws - b.out_ws);
            let assets = |s: &HomeState| s.load_ws + ev(s) + into(s) - pv(s);
            assert_eq!(meter(a) - meter(b), assets(a) - assets(b), "{}", a.id);
            street_ws += meter(a) - meter(b) + beside(a) - beside(b);
        }
        let feeder = |f: &FeederState| f.meter.import_ws - f.meter.export_ws - f.loss_ws;
        assert_eq!(feeder(&after.1) - feeder(&before.1), street_ws);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn energy_balances_to_the_watt_second(seed: u64, hours in 1_i64..30) {
            let scenario = street();
            let mut world = World::new(&scenario, seed);
            let before = states(&world);
            world.advance_to(scenario.site.start.plus_s(hours * 3600));
            check_balance(&before, &states(&world));
        }

        #[test]
        fn many_small_steps_end_where_one_leap_does(
            seed: u64,
            pauses_ms in prop::collection::vec(-60_000_i64..900_000, 1..60),
        ) {
            let scenario = street();
            let mut slow = World::new(&scenario, seed);
            let (mut now, mut latest) = (scenario.site.start, scenario.site.start);
            for pause_ms in pauses_ms {
                now = now.plus_ms(pause_ms);
                latest = latest.max(now);
                slow.advance_to(now);
                slow.advance_to(now);
            }
            let mut fast = World::new(&scenario, seed);
            fast.advance_to(latest);
            prop_assert_eq!(slow.now(), fast.now());
            prop_assert_eq!(states(&slow), states(&fast));
        }
    }

    #[test]
    fn other_seeds_give_other_streets() {
        let end = |seed| {
            let mut world = World::new(&street(), seed);
            world.advance_to(street().site.start.plus_s(7200));
            states(&world)
        };
        assert_eq!(end(1), end(1));
        assert_ne!(end(1), end(2));
    }

    #[test]
    fn a_home_does_not_depend_on_its_neighbours() {
        let whole = street();
        let keep = |id: &HomeScenario| ["home-09", "home-04"].contains(&id.id.as_str());
        let mut part = Scenario {
            homes: whole.homes.iter().filter(|h| keep(h)).cloned().collect(),
            ..whole.clone()
        };
        part.homes.reverse();
        let end = whole.site.start.plus_s(20 * 3600);
        let (mut world_w, mut world_p) = (World::new(&whole, 42), World::new(&part, 42));
        world_w.advance_to(end);
        world_p.advance_to(end);
        assert_eq!(world_w.home(8), world_p.home(0));
        assert_eq!(world_w.home(3), world_p.home(1));
    }

    #[test]
    fn nights_are_dark_and_batteries_stay_in_their_limits() {
        let scenario = street();
        let mut world = World::new(&scenario, 7);
        for quarter in 1..=192 {
            world.advance_to(scenario.site.start.plus_s(quarter * 900));
            let local_hour = (9 + quarter / 4) % 24;
            for home in world.homes() {
                let pv_w = home.pv.as_ref().map_or(0, |pv| pv.power_w);
                let rating_w = home.pv.as_ref().map_or(0, |pv| pv.rating_w);
                assert!((0..=rating_w).contains(&pv_w));
                assert!(
                    pv_w == 0 || (5..22).contains(&local_hour),
                    "{pv_w} W at {local_hour} h"
                );
                if let Some(battery) = &home.battery {
                    assert!((0..=1000).contains(&battery.soc_per_mille()));
                    assert!(battery.power_w.abs() <= battery.power_max_w);
                }
            }
        }
    }

    #[test]
    fn neighbours_can_trade_in_most_intervals() {
        let scenario = street();
        let mut tradable = 0;
        for seed in [1, 2, 3] {
            let mut world = World::new(&scenario, seed);
            for quarter in 1..=96 {
                let before: Vec<MeterState> = world.homes().map(|h| h.meter).collect();
                world.advance_to(scenario.site.start.plus_s(quarter * 900));
                let mut surplus_wh = 0;
                let mut deficit_wh = 0;
                for (b, home) in before.iter().zip(world.homes()) {
                    let net_wh = (home.meter.import_wh() - b.import_wh())
                        - (home.meter.export_wh() - b.export_wh());
                    surplus_wh += (-net_wh).max(0);
                    deficit_wh += net_wh.max(0);
                }
                tradable += i32::from(surplus_wh >= 50 && deficit_wh >= 50);
            }
        }
        assert!(
            tradable > 3 * 96 * 8 / 10,
            "only {tradable} of 288 intervals"
        );
    }
}
