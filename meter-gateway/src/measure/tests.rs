//! The interval engine against glitches, outages, resets and chance.

use super::*;
use proptest::prelude::*;

const START_S: i64 = 1_782_000_000;
const LIMITS: Limits = Limits {
    interval_length_s: 900,
    max_gap_ms: 30_000,
    rating_w: 20_000,
    resolution_wh: 1,
};

/// A sample at `s` seconds after the start.
fn at(s: i64, import: Option<i64>, export: Option<i64>) -> CounterSample {
    CounterSample {
        read_at: Timestamp::from_unix_s(START_S + s),
        import: import.map(Energy::from_wh),
        export: export.map(Energy::from_wh),
        import_w: None,
        meter: None,
    }
}

fn run(samples: impl IntoIterator<Item = CounterSample>) -> (State, Vec<Measured>) {
    let mut state = State::default();
    let mut done = Vec::new();
    for sample in samples {
        let text = serde_json::to_string(&state).unwrap();
        state = serde_json::from_str(&text).unwrap();
        done.extend(state.push(&sample, &LIMITS));
    }
    (state, done)
}

/// Every 10 s from `from` to before `to`, at 3600 W: 10 Wh a sample; counter 1000 at 0 s.
fn steady(from: i64, to: i64) -> impl Iterator<Item = CounterSample> {
    (from..to).step_by(10).map(|s| at(s, Some(1000 + s), None))
}

fn registers(done: &[Measured]) -> Vec<(i64, i64, i64, u32)> {
    let row = |m: &Measured| {
        let r = m.registers[0];
        (
            m.interval.start_s() - START_S,
            r.start.wh(),
            r.end.wh(),
            m.era,
        )
    };
    done.iter().map(row).collect()
}

#[test]
fn edges_on_a_sample_are_exact_and_others_are_interpolated() {
    let (_, exact) = run(steady(0, 1811));
    assert_eq!(
        registers(&exact),
        [(0, 1000, 1900, 0), (900, 1900, 2800, 0)]
    );
    assert!(exact.iter().all(|m| m.quality == Quality::MEASURED));
    let (_, between) = run(steady(3, 1820));
    assert_eq!(
        registers(&between),
        [(900, 1900, 2800, 0)],
        "the first interval was not seen whole"
    );
    assert_eq!(
        between[0].quality,
        Quality::MEASURED.with(Quality::INTERPOLATED_EDGE)
    );
}

#[test]
fn an_outage_is_bridged_and_marked_and_nothing_is_lost() {
    let (_, done) = run(steady(0, 1000).chain(steady(3100, 3700)));
    let rows = registers(&done);
    assert_eq!(rows[0].1, 1000);
    assert_eq!(rows.last().unwrap().2, 1000 + 3600);
    assert!(rows.windows(2).all(|w| w[0].2 == w[1].1));
    let gaps: Vec<bool> = done.iter().map(|m| m.quality.has(Quality::GAP)).collect();
    assert_eq!(gaps, [false, true, true, true]);
}

#[test]
fn a_glitch_is_no_energy_and_no_new_base() {
    for (bad_import, marked) in [
        (Some(0), true),
        (Some(1), true),
        (Some(53_700_000), true),
        (Some(i64::MAX), true),
        (None, false),
    ] {
        let glitches = (0..3).map(|i| at(951 + i, bad_import, None));
        let (state, done) = run(steady(0, 951).chain(glitches).chain(steady(960, 1811)));
        assert_eq!(
            registers(&done),
            [(0, 1000, 1900, 0), (900, 1900, 2800, 0)],
            "{bad_import:?}"
        );
        assert_eq!(done[1].quality.has(Quality::OUT_OF_RANGE), marked);
        assert_eq!(state.era, 0);
    }
}

#[test]
fn zeros_for_hours_are_no_reset_either() {
    let zeros = (960..9000).step_by(10).map(|s| at(s, Some(0), None));
    let (state, done) = run(steady(0, 951).chain(zeros).chain(steady(9000, 9911)));
    let rows = registers(&done);
    assert!(rows.windows(2).all(|w| w[0].2 == w[1].1));
    assert_eq!((state.era, rows.last().unwrap().2), (0, 1000 + 9900));
}

#[test]
fn a_lower_value_that_stays_is_a_reset_and_nothing_is_invented() {
    let reset = (1000..2800).step_by(10).map(|s| at(s, Some(s - 995), None));
    let (state, done) = run(steady(0, 1000).chain(reset));
    assert_eq!(state.era, 1);
    assert_eq!(
        registers(&done),
        [
            (0, 1000, 1900, 0),
            (900, 1900, 1990, 0),
            (1800, 805, 1705, 1)
        ]
    );
    assert!(done[1].quality.has(Quality::RESET.with(Quality::GAP)));
    assert!(!done[2].quality.has(Quality::RESET));
}

#[test]
fn the_interval_of_a_reset_is_handed_out_only_after_its_end() {
    let before = steady(0, 1000).chain((1000..1100).step_by(10).map(|s| at(s, Some(s), None)));
    let (mut state, done) = run(before);
    assert_eq!((state.era, done.len()), (1, 1));
    assert!(state.push(&at(1799, Some(1799), None), &LIMITS).is_empty());
    assert_eq!(state.push(&at(1801, Some(1801), None), &LIMITS).len(), 1);
}

#[test]
fn another_meter_begins_an_era_at_once_and_new_firmware_does_not() {
    let mark = |body, hash| {
        Some(MeterMark {
            body: [body; 8],
            hash: [hash; 8],
        })
    };
    let with = |meter| move |s: CounterSample| CounterSample { meter, ..s };
    let old = steady(0, 910).map(with(mark(1, 1)));
    let updated = steady(910, 1000).map(with(mark(1, 2)));
    let other = (1000..2710)
        .step_by(10)
        .map(|s| at(s, Some(1995 + s), None))
        .map(with(mark(2, 3)));
    let (state, done) = run(old.chain(updated).chain(other));
    assert_eq!(state.era, 1);
    assert_eq!(
        registers(&done),
        [
            (0, 1000, 1900, 0),
            (900, 1900, 1990, 0),
            (1800, 3795, 4695, 1)
        ]
    );
    assert_eq!(
        done.iter().map(|m| m.meter_hash[0]).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

#[test]
fn a_frozen_meter_is_not_fresh_and_its_energy_is_spread_when_it_wakes() {
    let powered = |s: CounterSample| CounterSample {
        import_w: Some(3600),
        ..s
    };
    let frozen = (1000..2600).step_by(10).map(|s| at(s, Some(1990), None));
    let all = steady(0, 1000)
        .chain(frozen)
        .chain(steady(2600, 2800))
        .map(powered);
    let (state, done) = run(all);
    let energies: Vec<i64> = registers(&done).iter().map(|r| r.2 - r.1).collect();
    assert_eq!((state.era, energies.iter().sum::<i64>()), (0, 2700));
    assert!(
        energies.iter().all(|wh| (850..=950).contains(wh)),
        "{energies:?}"
    );
    let stale: Vec<bool> = done.iter().map(|m| m.quality.has(Quality::STALE)).collect();
    assert_eq!(stale, [false, true, true]);
}

#[test]
fn a_counter_that_stands_still_without_power_is_fresh() {
    let idle = (0..1810).step_by(10).map(|s| at(s, Some(500), None));
    let exporting = idle.map(|s| CounterSample {
        import_w: Some(-3000),
        ..s
    });
    let (_, done) = run(exporting);
    assert_eq!(registers(&done), [(0, 500, 500, 0), (900, 500, 500, 0)]);
}

#[test]
fn a_register_that_appears_later_joins_without_disturbing_the_other() {
    let late = (0..2710)
        .step_by(10)
        .map(|s| at(s, Some(1000 + s), (s > 1000).then_some(s - 1000)));
    let (_, done) = run(late);
    let counts: Vec<usize> = done.iter().map(|m| m.registers.len()).collect();
    assert_eq!(counts, [1, 1, 2]);
}

#[test]
fn a_clock_that_was_years_ahead_does_not_stop_the_measuring() {
    const YEARS_S: i64 = 90_000_000;
    let wrong = steady(0, 1000).map(|s| CounterSample {
        read_at: s.read_at.plus_s(YEARS_S),
        ..s
    });
    let (state, done) = run(wrong.chain(steady(1000, 2810)));
    assert_eq!(state.era, 1);
    assert_eq!(registers(&done[1..]), [(1800, 2800, 3700, 1)]);
    let (state, done) = run(steady(0, 1000)
        .chain([at(700, Some(1700), None)])
        .chain(steady(1000, 1811)));
    assert_eq!(
        (state.era, done.len()),
        (0, 2),
        "a sample that is a little late is left out"
    );
}

#[test]
fn another_interval_length_begins_at_its_own_edges() {
    let (mut state, mut done) = run(steady(0, 1400));
    let short = Limits {
        interval_length_s: 300,
        ..LIMITS
    };
    for sample in steady(1400, 2110) {
        done.extend(state.push(&sample, &short));
    }
    assert_eq!(
        registers(&done),
        [
            (0, 1000, 1900, 0),
            (1500, 2500, 2800, 0),
            (1800, 2800, 3100, 0)
        ]
    );
}

#[test]
fn a_step_back_within_the_counters_resolution_is_no_reset() {
    let coarse = Limits {
        resolution_wh: 100,
        ..LIMITS
    };
    let (mut state, mut done) = run(steady(0, 951));
    for s in (960..1811).step_by(10) {
        let rounded = (1000 + s) / 100 * 100;
        done.extend(state.push(&at(s, Some(rounded), None), &coarse));
    }
    assert_eq!(state.era, 0);
    assert_eq!(registers(&done), [(0, 1000, 1900, 0), (900, 1900, 2800, 0)]);
    assert!(done.iter().all(|m| !m.quality.has(Quality::OUT_OF_RANGE)));
}

#[test]
fn without_a_register_that_has_counted_there_is_no_reading() {
    let both = |s| at(s, Some(1000 + s), Some(7 + s));
    let export = |s| at(s, None, Some(7 + s));
    let before = (0..1000).step_by(10).map(both);
    let (state, _) = run(before.clone());
    assert!(state.misses_a_register_in(&export(1000)));
    assert!(!state.misses_a_register_in(&both(1000)));
    assert!(!state.misses_a_register_in(&at(1000, None, None)));
    let short = (1000..1040).step_by(10).map(export);
    let back = (1040..1811).step_by(10).map(both);
    let (state, done) = run(before.clone().chain(short).chain(back));
    assert_eq!((state.era, done.len()), (0, 2));
    assert_eq!(done[1].registers.len(), 2);
    assert!(!done[1].quality.has(Quality::OUT_OF_RANGE));
    let gone = (1000..2800).step_by(10).map(export);
    let (state, done) = run(before.clone().chain(gone.clone()));
    assert_eq!((state.era, done.len()), (0, 1));
    let back = (2800..3700).step_by(10).map(both);
    let (state, done) = run(before.chain(gone).chain(back));
    assert_eq!(state.era, 0);
    let import = |m: &Measured| m.registers[0].end.wh() - m.registers[0].start.wh();
    assert_eq!(done.iter().map(import).collect::<Vec<_>>(), [900; 4]);
}

#[test]
fn an_outage_within_the_confirming_samples_is_a_gap() {
    let times = [0, 10, 20, 30, 2000]
        .into_iter()
        .chain((2010..2711).step_by(10));
    let (_, done) = run(times.map(|s| at(s, Some(1000 + s), None)));
    let gaps: Vec<bool> = done.iter().map(|m| m.quality.has(Quality::GAP)).collect();
    assert_eq!(gaps, [true, true, true]);
    let (_, done) = run(steady(0, 911));
    assert!(!done[0].quality.has(Quality::GAP));
}

#[test]
fn a_first_sample_that_is_wrong_is_not_believed() {
    let (state, done) = run([at(0, Some(0), None)].into_iter().chain(steady(10, 1811)));
    assert_eq!(registers(&done), [(900, 1900, 2800, 0)]);
    assert_eq!(state.era, 0);
}

/// What happens at one poll.
#[derive(Clone, Debug)]
enum Poll {
    Good,
    Nothing,
    Zero,
    Back(i64),
    Jump(i64),
}

fn polls() -> impl Strategy<Value = Vec<(i64, i64, Poll)>> {
    let poll = prop_oneof![
        12 => Just(Poll::Good),
        1 => Just(Poll::Nothing),
        1 => Just(Poll::Zero),
        1 => (1_000_000i64..5_000_000).prop_map(Poll::Back),
        1 => (1_000_000i64..1_000_000_000).prop_map(Poll::Jump),
    ];
    let time = prop_oneof![8 => 1_000i64..30_000, 1 => 30_000i64..8_000_000];
    prop::collection::vec((time, 0i64..20_000, poll), CONFIRM_SAMPLES..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn energy_is_conserved_over_any_outage_and_any_glitch(polls in polls()) {
        let mut true_mwh: i64 = 40_000_000_000; // milliwatt-hours, never shown rounded
        let mut now_ms = START_S * 1000;
        let (mut samples, mut shown, mut bad_in_a_row) = (Vec::new(), Vec::new(), 0);
        for (index, (wait_ms, power_w, poll)) in polls.into_iter().enumerate() {
            now_ms += wait_ms;
            true_mwh += power_w * wait_ms / 3600;
            let good = true_mwh / 1000;
            let poll = if index < CONFIRM_SAMPLES || bad_in_a_row > 2 { Poll::Good } else { poll };
            bad_in_a_row = if matches!(poll, Poll::Good) { 0 } else { bad_in_a_row + 1 };
            let value = match poll {
                Poll::Good => Some(good),
                Poll::Nothing => None,
                Poll::Zero => Some(0),
                Poll::Back(wh) => Some(good - wh),
                Poll::Jump(wh) => Some(good + wh),
            };
            if matches!(poll, Poll::Good) {
                shown.push((now_ms, good));
            }
            let mut sample = at(0, value, None);
            sample.read_at = Timestamp::from_unix_ms(now_ms);
            samples.push(sample);
        }
        let (state, done) = run(samples);
        prop_assert_eq!(state.era, 0);
        for pair in done.windows(2) {
            prop_assert_eq!(pair[0].interval.next(), pair[1].interval);
            prop_assert_eq!(pair[0].registers[0].end, pair[1].registers[0].start);
        }
        for m in &done {
            let (r, end_ms) = (m.registers[0], m.interval.end().unix_ms());
            prop_assert!(r.end >= r.start, "never negative");
            let most = i64::from(LIMITS.rating_w) * 900 / 3600 + 10;
            prop_assert!(r.end.wh() - r.start.wh() <= most * 5 / 4, "never a spike");
            // The edge lies between the true registers of the good samples around it.
            let before = shown.iter().rev().find(|(t, _)| *t <= end_ms).unwrap().1;
            let after = shown.iter().find(|(t, _)| *t >= end_ms).unwrap().1;
            prop_assert!((before..=after).contains(&r.end.wh()));
        }
        let (first, last) = (shown[0].0 + 899_999, shown.last().unwrap().0);
        let whole = last.div_euclid(900_000) - first.div_euclid(900_000);
        prop_assert_eq!(i64::try_from(done.len()).unwrap(), whole.max(0));
    }
}
