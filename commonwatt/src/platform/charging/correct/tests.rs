//! Sessions that are rated once more: as if all their readings had come in time, and no otherwise.

use super::*;
use domain::energy::Energy;
use domain::money::Price;

const FIRST: i64 = 1_782_000_000;

fn interval(n: i64) -> Interval {
    Interval::new(FIRST, 900).unwrap().offset(n)
}

/// Energy at 0.30, time at 1.00 an hour, a quarter of an hour of free parking, then 2.00 an hour.
fn terms() -> Terms {
    Terms::new(Quote {
        session: "s".to_owned(),
        station: "c".to_owned(),
        currency: "EUR".to_owned(),
        prices: vec![(interval(0), Price::from_micro_per_kwh(300_000))],
        start_fee: Money::ZERO,
        time_per_hour: Money::from_nano(1_000_000_000),
        parking_per_hour: Money::from_nano(2_000_000_000),
        parking_grace_s: 900,
        tax_ppm: 0,
        energy: Energy::from_wh(9_000),
        power_max_w: 11_000,
        ceiling: Money::from_nano(19_000_000_000),
        offered_at: interval(0).start(),
        valid_until: interval(0).end(),
        ready_by: interval(12).end(),
    })
    .unwrap()
}

fn reading(register_wh: i64, full: bool) -> Event {
    Event::Reading { register_wh, full }
}

/// A session from its start to its payment, with what happened between, each with its second after the start.
fn events(between: &[(i64, Event)]) -> Vec<(Timestamp, Event)> {
    let start = interval(0).start();
    let ends = between.iter().map(|(s, _)| *s).max().unwrap();
    let first = [
        Event::Accepted,
        Event::HoldPlaced,
        Event::Started { register_wh: 0 },
    ];
    let between = between.iter().map(|(s, event)| (start.plus_s(*s), *event));
    let last = [Event::Stop, Event::Captured];
    (first.map(|event| (start, event)).into_iter())
        .chain(between)
        .chain(last.map(|event| (start.plus_s(ends), event)))
        .collect()
}

fn billed(events: &[(Timestamp, Event)]) -> Money {
    let mut session = Session::new(terms());
    for (at, event) in events {
        session.apply(*at, *event);
    }
    session.bill().unwrap().total
}

/// Registers at the ends of the intervals from number 0 on.
fn registers(ends_wh: &[i64]) -> Vec<(Interval, i64)> {
    let ends = (0..).zip(ends_wh);
    ends.map(|(n, wh)| (interval(n), *wh)).collect()
}

#[test]
fn nothing_new_in_the_books_changes_no_bill() {
    let plain = events(&[(900, reading(1_000, false)), (1800, reading(2_000, false))]);
    // A plan holds the car back in the second quarter; its beats come some seconds after, and after them the readings.
    let planned = events(&[
        (903, Event::PlanPause),
        (900, reading(1_000, false)),
        (1801, Event::PlanResume),
        (1800, reading(1_000, false)),
        (2700, reading(3_000, false)),
        (3604, Event::GridPause),
        (3600, reading(4_000, false)),
        (4507, Event::GridResume),
        (4500, reading(4_000, false)),
        (5400, reading(4_000, true)),
        (6300, reading(4_000, true)),
    ]);
    let ends = [1_000, 1_000, 3_000, 4_000, 4_000, 4_000, 4_000];
    for (events, ends) in [(plain, &[1_000, 2_000][..]), (planned, &ends)] {
        let paid = billed(&events);
        assert!(paid > Money::ZERO);
        let known = registers(ends);
        assert_eq!(rerated(terms(), &events, &known).unwrap(), paid);
        assert_eq!(
            rerated(terms(), &events, &[]).unwrap(),
            paid,
            "not even without the books"
        );
    }
}

#[test]
fn a_late_reading_is_taken_as_if_it_had_come_in_time() {
    let whole = [
        (900, reading(2_750, false)),
        (1800, reading(5_500, false)),
        (2700, reading(5_500, true)),
        (3600, reading(5_500, true)),
    ];
    let in_time = billed(&events(&whole));
    // Without the second one the third looks as if the car had charged until then.
    let third = (2700, reading(5_500, false));
    let without = events(&[whole[0], third, whole[3]]);
    assert!(billed(&without) > in_time);
    let known = registers(&[2_750, 5_500, 5_500, 5_500]);
    assert_eq!(rerated(terms(), &without, &known).unwrap(), in_time);
    // One that lies on the way and changes no time changes nothing.
    let without = events(&whole[1..]);
    assert_eq!(
        rerated(terms(), &without, &known).unwrap(),
        billed(&without)
    );
}

#[test]
fn a_late_reading_of_a_time_in_which_the_plan_let_the_car_wait_makes_it_no_full_one() {
    let between = [
        (900, reading(1_000, false)),
        (902, Event::PlanPause),
        (1803, Event::PlanResume),
        (2700, reading(3_000, false)),
    ];
    let without = events(&between);
    let known = registers(&[1_000, 1_000, 3_000]);
    let after = rerated(terms(), &without, &known).unwrap();
    assert!(after <= billed(&without));
    let mut whole = between.to_vec();
    whole.insert(2, (1800, reading(1_000, false)));
    assert_eq!(after, billed(&events(&whole)));
}
