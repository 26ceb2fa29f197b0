//! The device models: nanoseconds for each home and interval, beside one pass over the bytes of the same homes'
//! habits and states in the same run.
//!
//! `cargo bench -p simulator --bench models` prints medians of several rounds, in the processor time of the
//! thread: 10,000 homes, one summer day of quarter hours from 6 h UTC on, on one core.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench may fail, and prints ratios"
)]

use std::hint::black_box;
use std::mem::size_of;

use domain::money::Price;
use rustix::time::{ClockId, clock_gettime};
use simulator::model::Carry;
use simulator::model::battery::{Battery, BatterySpec, BatteryState};
use simulator::model::clear_sky::{Light, erbs, haurwitz_w_per_m2};
use simulator::model::clouds::{Climate, Clouds, Transparency};
use simulator::model::load::{Day, Household, LoadNow, LoadState};
use simulator::model::plane::{ALBEDO, Plane};
use simulator::model::pv::{Cooling, Inverter, Plant, energy_wh};
use simulator::model::random::Stream;
use simulator::model::sun::{Place, Sun};
use simulator::strategy::planner::{Expected, Ladder, Planner};
use simulator::strategy::{Kind, Mind, Own, OwnBattery, Public};

const HOMES: u32 = 10_000;
const INTERVALS: i64 = 48;
const ROUNDS: usize = 5;
const LENGTH_S: u32 = 900;
/// 2024-06-21T06:00:00Z.
const START_S: i64 = 1_718_949_600;
const BERLIN: Place = Place {
    latitude_deg: 52.52,
    longitude_deg: 13.405,
    altitude_m: 34.0,
};

/// Processor time of this thread in nanoseconds.
fn thread_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// The median of several rounds, for each of `count` pieces of work.
fn median_ns(count: f64, mut round: impl FnMut() -> i64) -> f64 {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let from = thread_ns();
        black_box(round());
        times.push(thread_ns() - from);
    }
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2] / count
}

/// One home with everything.
struct Home {
    household: Household,
    load: LoadState,
    plane: Plane,
    plant: Plant,
    roof: Carry,
    cloud: f64,
    battery: BatteryState,
    mind: Mind,
}

/// What all homes share.
struct Street {
    homes: Vec<Home>,
    battery: Battery,
    loads: Stream,
    clouds: Stream,
    orders: Stream,
}

/// What all homes share in one interval.
struct Now {
    index: i64,
    load: LoadNow,
    sun: Sun,
    clear: f64,
    light: Light,
    cooling: Cooling,
}

impl Street {
    fn new() -> Street {
        let (loads, orders) = (Stream::new(1, "load"), Stream::new(1, "orders"));
        let battery = Battery::new(&BatterySpec::simple(10_000, 5_000), LENGTH_S).unwrap();
        let homes = (0..HOMES).map(|home| {
            let mut draws = Stream::new(1, "roof").at(home, 0);
            let (household, load) = Household::new(loads, home, draws.between(2000.0, 6000.0));
            let dc_w = draws.between(4000.0, 10_000.0);
            Home {
                household,
                load,
                plane: Plane::new(
                    draws.between(15.0, 45.0),
                    draws.between(90.0, 270.0),
                    ALBEDO,
                ),
                plant: Plant::new(dc_w, Inverter::new(dc_w * 0.9, 0.96)),
                roof: Carry::default(),
                cloud: 0.0,
                battery: battery.filled(0.5),
                mind: Mind::new(Kind::ZeroIntelligence, &mut orders.at(home, -1)),
            }
        });
        Street {
            homes: homes.collect(),
            battery,
            loads,
            clouds: Stream::new(1, "clouds"),
            orders,
        }
    }
}

fn moments() -> Vec<Now> {
    let at = |index: i64| {
        let unix_s = START_S + index * i64::from(LENGTH_S);
        let sun = Sun::at(unix_s + i64::from(LENGTH_S) / 2, BERLIN).unwrap();
        let clear = haurwitz_w_per_m2(sun);
        let second = u32::try_from((unix_s + 7200).rem_euclid(86_400)).unwrap();
        Now {
            index,
            load: LoadNow::new(index, second, Day::Work, 0.9, LENGTH_S),
            sun,
            clear,
            light: erbs(clear * 0.8, sun),
            cooling: Cooling::new(22.0, 3.0),
        }
    };
    (0..INTERVALS).map(at).collect()
}

fn load(street: &mut Street, now: &Now) -> i64 {
    let loads = street.loads;
    let step =
        |home: &mut Home| i64::from(home.household.step_wh(&mut home.load, &now.load, loads));
    street.homes.iter_mut().map(step).sum()
}

fn roof_wh(home: &mut Home, light: Light, now: &Now) -> i64 {
    let on_plane = home.plane.isotropic(now.sun).light_w_per_m2(light);
    let ac_w = home.plant.ac_w(on_plane, now.cooling);
    i64::from(energy_wh(&mut home.roof, ac_w, LENGTH_S))
}

fn order_wh(
    home: &mut Home,
    battery: &Battery,
    net_wh: i64,
    public: &Public<'_>,
    draws: Stream,
    place: (u32, i64),
) -> i64 {
    let own = Own {
        expected_wh: net_wh,
        expected_ahead_wh: &[],
        battery: Some(OwnBattery {
            room_wh: battery.room_wh(&home.battery),
            ready_wh: battery.ready_wh(&home.battery),
            ..OwnBattery::default()
        }),
    };
    let decision = home
        .mind
        .decide(public, &own, &mut draws.at(place.0, place.1));
    decision
        .wish
        .map_or(0, |wish| wish.energy_wh ^ wish.limit.micro_per_kwh())
}

fn main() {
    let moments = moments();
    let mut street = Street::new();
    let count = f64::from(HOMES) * INTERVALS as f64;
    let report =
        |what: &str, ns: f64| println!("{what:<44} {ns:>9.2} ns  {:>8.2} M/s", 1000.0 / ns);
    println!("for each home and interval ({HOMES} homes, {INTERVALS} intervals, one thread):");

    let bytes = size_of::<Home>();
    let mut memory = vec![1_u64; bytes / 8 * usize::try_from(HOMES).unwrap()];
    let pass = median_ns(count, || {
        for round in 0..INTERVALS {
            memory
                .iter_mut()
                .for_each(|word| *word = word.wrapping_add(round.cast_unsigned()));
        }
        memory[0].cast_signed()
    });
    report(&format!("one pass over {bytes} bytes a home"), pass);

    let ns = median_ns(count, || {
        moments.iter().map(|now| load(&mut street, now)).sum()
    });
    report("load", ns);
    let ns = median_ns(count, || {
        let roof = |now: &Now, homes: &mut Vec<Home>| {
            homes
                .iter_mut()
                .map(|home| roof_wh(home, now.light, now))
                .sum::<i64>()
        };
        moments.iter().map(|now| roof(now, &mut street.homes)).sum()
    });
    report("PV under one sky", ns);
    report(
        "PV, each home with clouds of its own",
        own_clouds(&mut street, &moments, count),
    );
    let battery = street.battery;
    let ns = median_ns(count, || {
        let follow = |home: &mut Home, index: i64| {
            battery
                .follow(&mut home.battery, (index * 37 % 41 - 20) * 30)
                .charged_wh
        };
        (0..INTERVALS)
            .map(|index| {
                street
                    .homes
                    .iter_mut()
                    .map(|home| follow(home, index))
                    .sum::<i64>()
            })
            .sum()
    });
    report("battery", ns);
    let public = Public {
        utility_pays: Price::from_micro_per_kwh(80_000),
        utility_takes: Price::from_micro_per_kwh(300_000),
        gate_permille: 1000,
        tariff_ahead: &[],
    };
    let orders = street.orders;
    let ns = median_ns(count, || {
        let order = |(home, place): (&mut Home, u32), index| {
            order_wh(home, &battery, 250, &public, orders, (place, index))
        };
        (0..INTERVALS)
            .map(|index| {
                street
                    .homes
                    .iter_mut()
                    .zip(0..)
                    .map(|home| order(home, index))
                    .sum::<i64>()
            })
            .sum()
    });
    report("ZI-C order", ns);
    let ns = median_ns(count, || {
        moments
            .iter()
            .map(|now| everything(&mut street, now, &public))
            .sum()
    });
    report("load, PV, battery and ZI-C order", ns);
    println!("  that is {:.1} passes over the same bytes", ns / pass);
    once(&report);
}

/// PV with a cloud process of each home's own, and its light split by Erbs.
fn own_clouds(street: &mut Street, moments: &[Now], count: f64) -> f64 {
    let (clouds, table) = (
        Clouds::new(LENGTH_S, 0.1),
        Transparency::new(&Climate::SUMMER),
    );
    let mut sky = Clouds::begin(&mut street.clouds.shared(-1));
    let stream = street.clouds;
    median_ns(count, || {
        let mut sum = 0;
        for now in moments {
            let shared = clouds.step(&mut sky, &mut stream.shared(now.index));
            for (home, place) in street.homes.iter_mut().zip(0..) {
                let z = clouds.at_home(shared, &mut home.cloud, &mut stream.at(place, now.index));
                let light = erbs(now.clear * table.share(z), now.sun);
                sum += roof_wh(home, light, now);
            }
        }
        sum
    })
}

/// One interval of the whole street.
fn everything(street: &mut Street, now: &Now, public: &Public<'_>) -> i64 {
    let (battery, loads, orders) = (street.battery, street.loads, street.orders);
    let mut sum = 0;
    for (home, place) in street.homes.iter_mut().zip(0..) {
        let used_wh = i64::from(home.household.step_wh(&mut home.load, &now.load, loads));
        let net_wh = used_wh - roof_wh(home, now.light, now);
        sum ^= order_wh(home, &battery, net_wh, public, orders, (place, now.index));
        sum ^= battery.follow(&mut home.battery, net_wh).charged_wh;
    }
    sum
}

/// What is done once an interval, or once a plan.
fn once(report: &impl Fn(&str, f64)) {
    println!("once for all homes, or for each plan:");
    let ns = median_ns(1000.0, || {
        let sun = |index: i64| {
            Sun::at(START_S + index * 900, BERLIN)
                .unwrap()
                .up
                .to_bits()
                .cast_signed()
        };
        (0..1000).map(sun).fold(0, |a, b| a ^ b)
    });
    report("sun of an interval", ns);
    let ladder = Ladder {
        levels: 33,
        level_wh: 312,
        up: 3,
        down: 4,
        charge_permille: 950,
        discharge_permille: 950,
    };
    let ahead: Vec<Expected> = (0..96)
        .map(|index| Expected {
            net_wh: (index * 37 % 41 - 20) * 50,
            draw_micro: 200_000 + index % 24 * 5_000,
            feed_micro: 80_000,
        })
        .collect();
    let mut planner = Planner::default();
    let ns = median_ns(200.0, || {
        (0..200)
            .map(|level| planner.plan(&ladder, level % 33, &ahead, 40_000_000).first)
            .sum()
    });
    report("battery's plan, 96 intervals, 33 levels", ns);
}
