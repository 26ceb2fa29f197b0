//! The interval engine against glitches, outages, resets and chance.

use super::*;

const START_S: i64 = 1_782_000_000;
const LIMITS: Limits = Limits {
    interval_length_s: 900,
    max_gap_ms: 30_000,
    rating_w: 20_000,
    resolution_wh: 1,
    class: MeasurementClass::MeterCounter,
};

/// A sample at `s` seconds after the start.
fn at(s: i64, import: Option<i64>, export: Option<i64>) -> CounterSample {
    CounterSample {
        read_at: Timestamp::from_unix_s(START_S + s),
        import: import.map(shows),
        export: export.map(shows),
        import_w: None,
        meter: None,
        waited_ms: None,
        clock_stepped: false,
    }
}

fn shows(wh: i64) -> Counter {
    Counter::open(wh.saturating_mul(1000))
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
fn another_meter_begins_an_era_and_new_firmware_does_not() {
    let mark = |body, hash| {
        Some(MeterMark {
            body: [body; 8],
            hash: [hash; 8],
        })
    };
    let with = |meter| move |s: CounterSample| CounterSample { meter, ..s };
    let old = steady(0, 910).map(with(mark(1, 1)));
    let updated = steady(910, 1000).map(with(mark(1, 2)));
    let other = (1000..2711)
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
fn a_counter_that_stood_through_an_outage_while_power_flowed_is_bridged_once_it_moves() {
    // 3600 W is a watt-hour a second. After two glitches the counter stands; nobody asks from 1050 s to 5000 s.
    let glitches = [990, 1000].map(|s| at(s, Some(0), None));
    let stands = [1020, 1030, 1040, 1050, 5000, 5010, 5020].map(|s| at(s, Some(2020), None));
    let samples = steady(0, 990).chain(glitches).chain(stands);
    let samples = samples.chain(steady(5030, 6400)).map(|s| CounterSample {
        import_w: Some(3600),
        ..s
    });
    let (state, done) = run(samples);
    assert_eq!(state.era, 0, "no energy is left out");
    let ends: Vec<i64> = done.iter().map(|m| m.registers[0].end.wh()).collect();
    assert_eq!((ends[0], ends[5], ends[6]), (1900, 6400, 7300), "{ends:?}");
    assert!(done[2].quality.has(Quality::GAP));
}

#[test]
fn a_first_counter_that_stood_through_an_outage_while_power_flowed_is_believed_once_it_moves() {
    let stands = [0, 10, 20, 30, 2000, 2010].map(|s| at(s, Some(1000), None));
    let samples = stands.into_iter().chain(steady(2020, 2720));
    let (state, done) = run(samples.map(|s| CounterSample {
        import_w: Some(3600),
        ..s
    }));
    assert_eq!(state.era, 0, "no energy is left out");
    assert_eq!(done.last().unwrap().registers[0].end.wh(), 3700);
    assert!(done[0].quality.has(Quality::GAP));
}

#[test]
fn another_meter_is_believed_although_the_one_before_stood_while_power_flowed() {
    let of = |meter: u8| {
        move |s: CounterSample| CounterSample {
            import_w: Some(3600),
            meter: Some(MeterMark {
                body: [meter; 8],
                hash: [meter; 8],
            }),
            ..s
        }
    };
    // The first one shows something lower in the end and stands there: for too short a time to be believed.
    let stands = [1000, 1020, 1040, 1060].map(|s| at(s, Some(500), None));
    let samples = steady(0, 1000).chain(stands).map(of(1));
    let (state, _) = run(samples.chain(steady(1070, 1200).map(of(2))));
    assert_eq!((state.era, state.aside.len()), (1, 0));
}

#[test]
fn a_counter_that_stands_while_power_flows_is_frozen_also_where_another_meter_answers_now_and_then()
{
    let of = |meter: u8, import_w: i64| {
        move |s: CounterSample| CounterSample {
            import_w: Some(import_w),
            meter: Some(MeterMark {
                body: [meter; 8],
                hash: [meter; 8],
            }),
            ..s
        }
    };
    let own = steady(0, 100).map(of(1, 3600));
    let both = (0..6).flat_map(|n| {
        let (own_s, other_s) = (100 + 20 * n, 110 + 20 * n);
        let other = at(other_s, Some(77_000), None);
        [of(1, 3600)(at(own_s, Some(1090), None)), of(2, 0)(other)]
    });
    let (state, _) = run(own.chain(both));
    assert!(state.frozen_since_ms.is_some());
}

#[test]
fn a_counter_that_stands_still_without_power_is_fresh() {
    let idle = (0..1811).step_by(10).map(|s| at(s, Some(500), None));
    let exporting = idle.map(|s| CounterSample {
        import_w: Some(-3000),
        ..s
    });
    let (_, done) = run(exporting);
    assert_eq!(registers(&done), [(0, 500, 500, 0), (900, 500, 500, 0)]);
}

#[test]
fn a_register_that_appears_later_joins_without_disturbing_the_other() {
    let late = (0..2711)
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
    for sample in steady(1400, 2111) {
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

/// `steady` with a counter that shows tenths of a watt-hour and wraps at `span_mwh`.
fn wrapping(from: i64, to: i64, span_mwh: i64, is_signed: bool) -> Vec<CounterSample> {
    let end = CounterEnd::Wraps {
        span_mwh,
        is_signed,
    };
    let half = if is_signed { span_mwh / 2 } else { 0 };
    let shown = |s: i64| (span_mwh - half - 500_000 + s * 1000 + half).rem_euclid(span_mwh) - half;
    let sample = |s: i64| CounterSample {
        import: Some(Counter { mwh: shown(s), end }),
        ..at(s, None, None)
    };
    (from..to).step_by(10).map(sample).collect()
}

#[test]
fn a_counter_that_rolls_over_goes_on_in_its_era() {
    // 2^32 × 0.1 Wh, 2^16 × 0.1 kWh, 100000 kWh.
    for span_mwh in [429_496_729_600, 6_553_600_000, 100_000_000_000] {
        let (state, done) = run(wrapping(0, 2711, span_mwh, false));
        let first = (span_mwh - 500_000 + 500).div_euclid(1000);
        assert_eq!(
            registers(&done),
            [
                (0, first, first + 900, 0),
                (900, first + 900, first + 1800, 0),
                (1800, first + 1800, first + 2700, 0)
            ]
        );
        let rolled: Vec<bool> = done
            .iter()
            .map(|m| m.quality.has(Quality::ROLL_OVER))
            .collect();
        assert_eq!((rolled, state.era), (vec![true, false, false], 0));
    }
}

#[test]
fn a_signed_counter_rolls_over_to_zero_or_below_it() {
    let below = wrapping(0, 1811, 65_536_000, true);
    assert!(below.iter().any(|s| s.import.unwrap().mwh < 0));
    let (_, done) = run(below);
    assert_eq!(
        registers(&done),
        [(0, 32_268, 33_168, 0), (900, 33_168, 34_068, 0)]
    );
    let to_zero = wrapping(0, 1811, 32_768_000, false).into_iter();
    let signed = to_zero.map(|s| CounterSample {
        import: s.import.map(|c| Counter {
            end: CounterEnd::Wraps {
                span_mwh: 65_536_000,
                is_signed: true,
            },
            ..c
        }),
        ..s
    });
    let (_, done) = run(signed);
    assert_eq!(
        registers(&done),
        [(0, 32_268, 33_168, 0), (900, 33_168, 34_068, 0)]
    );
}

#[test]
fn a_roll_over_is_found_after_an_outage_and_again_and_again() {
    let span_mwh = 3_000_600;
    let all = wrapping(0, 400, span_mwh, false)
        .into_iter()
        .chain(wrapping(2000, 11_711, span_mwh, false));
    let (state, done) = run(all);
    assert_eq!(state.era, 0);
    let rows = registers(&done);
    assert!(rows.windows(2).all(|w| w[0].2 == w[1].1));
    assert_eq!(rows.last().unwrap().2 - rows[0].1, 11_700);
    let rolled = done.iter().filter(|m| m.quality.has(Quality::ROLL_OVER));
    assert!(rolled.count() >= 4);
}

#[test]
fn a_glitch_near_zero_before_the_end_of_the_range_is_no_roll_over() {
    let span_mwh = 429_496_729_600;
    let mut samples = wrapping(0, 1811, span_mwh, false);
    for (index, sample) in samples.iter_mut().enumerate().skip(20).take(4) {
        let mwh = i64::try_from(index).unwrap() * 1000;
        sample.import = sample.import.map(|c| Counter { mwh, ..c });
    }
    let (state, done) = run(samples);
    let rows = registers(&done);
    assert_eq!((state.era, rows[1].2 - rows[0].1), (0, 1800));
    assert!(done[0].quality.has(Quality::OUT_OF_RANGE));
}

#[test]
fn a_small_spike_is_no_energy_when_the_next_samples_speak_against_it() {
    for late in [false, true] {
        let spike_at = if late { 900 } else { 600 };
        let samples = steady(0, 1811).map(|s| match s.read_at.unix_ms() / 1000 - START_S {
            t if t == spike_at => at(t, Some(1000 + t + 90), None),
            _ => s,
        });
        let (state, done) = run(samples);
        assert_eq!(
            registers(&done),
            [(0, 1000, 1900, 0), (900, 1900, 2800, 0)],
            "spike at {spike_at} s"
        );
        assert_eq!(state.era, 0);
    }
}

#[test]
fn a_first_sample_after_an_outage_is_not_believed_alone() {
    let spike = at(5000, Some(1000 + 5000 + 8000), None);
    let (state, done) = run(steady(0, 1000).chain([spike]).chain(steady(5010, 6400)));
    let rows = registers(&done);
    assert_eq!((state.era, rows.last().unwrap().2), (0, 1000 + 6300));
    assert!(
        rows.iter().all(|r| (890..=910).contains(&(r.2 - r.1))),
        "{rows:?}"
    );
}

/// A session counter: what it shows at each 10 s.
fn sessions(shown_wh: impl IntoIterator<Item = i64>) -> Vec<CounterSample> {
    let sample = |(index, wh): (usize, i64)| CounterSample {
        import: Some(Counter {
            mwh: wh * 1000,
            end: CounterEnd::Session,
        }),
        ..at(i64::try_from(index).unwrap() * 10, None, None)
    };
    shown_wh.into_iter().enumerate().map(sample).collect()
}

#[test]
fn sessions_add_up_and_a_zero_in_between_is_a_glitch() {
    let first = (0..100).map(|i| i * 10);
    let glitch = [0, 0];
    let rest = (102..110).map(|i| i * 10);
    let idle = std::iter::repeat_n(1090, 10);
    let none = std::iter::repeat_n(0, 20);
    let second = (1..60).map(|i| i * 20);
    let all = first
        .chain(glitch)
        .chain(rest)
        .chain(idle)
        .chain(none)
        .chain(second);
    let (state, done) = run(sessions(all));
    let rows = registers(&done);
    assert_eq!(state.era, 0);
    assert_eq!(rows, [(0, 0, 900, 0), (900, 900, 1090 + 820, 0)]);
    assert!(
        done[1]
            .quality
            .has(Quality::RESET.with(Quality::OUT_OF_RANGE))
    );
}

#[test]
fn a_session_that_comes_back_after_a_long_zero_is_not_counted_twice() {
    for before in [80, 4000] {
        let first = (0..70).map(|_| before);
        let zeros = std::iter::repeat_n(0, 9);
        let back = (0..120).map(|i| before + i * 10);
        let (state, done) = run(sessions(first.chain(zeros).chain(back)));
        assert_eq!(state.era, 0);
        let rows = registers(&done);
        assert_eq!((rows[0].1, rows[1].2), (before, before + 1010), "{before}");
    }
}

#[test]
fn a_lifetime_value_in_a_session_counter_is_no_energy() {
    let first = (0..100).map(|i| i * 10);
    let lifetime = std::iter::repeat_n(7_000_000, 3);
    let rest = (103..200).map(|i| i * 10);
    let (state, done) = run(sessions(first.chain(lifetime).chain(rest)));
    assert_eq!(state.era, 0);
    assert_eq!(registers(&done), [(0, 0, 900, 0), (900, 900, 1800, 0)]);
}

const NO_COUNTER: Limits = Limits {
    class: MeasurementClass::IntegratedPower,
    ..LIMITS
};

/// Samples of power every 10 s, as a function of the time.
fn powered(times: impl Iterator<Item = i64>, import_w: impl Fn(i64) -> i64) -> Vec<CounterSample> {
    let sample = |s| CounterSample {
        import_w: Some(import_w(s)),
        ..at(s, None, None)
    };
    times.map(sample).collect()
}

fn integrate(samples: &[CounterSample]) -> (State, Vec<Measured>) {
    let (mut state, mut done) = (State::default(), Vec::new());
    for sample in samples {
        let text = serde_json::to_string(&state).unwrap();
        state = serde_json::from_str(&text).unwrap();
        done.extend(state.push(sample, &NO_COUNTER));
    }
    (state, done)
}

#[test]
fn power_is_integrated_exactly_and_marked() {
    // 1 W is a 360th of a watt-hour in 10 s; nothing is lost between samples or intervals.
    let (_, done) = integrate(&powered((0..7210).step_by(10), |_| 1));
    let ends: Vec<i64> = done.iter().map(|m| m.registers[0].end.wh()).collect();
    assert_eq!(
        ends,
        [0, 1, 1, 1, 1, 2, 2, 2],
        "quarters of a watt-hour, rounded"
    );
    assert!(done.iter().all(|m| {
        m.quality == Quality::ESTIMATED && m.class == MeasurementClass::IntegratedPower
    }));
    let (_, ramp) = integrate(&powered((0..1810).step_by(10), |s| s * 10 - 9000));
    let wh = |m: &Measured| {
        let of = |r: &Register| r.end.wh() - r.start.wh();
        (of(&m.registers[0]), of(&m.registers[1]))
    };
    assert_eq!(
        ramp.iter().map(wh).collect::<Vec<_>>(),
        [(0, 1125), (1125, 0)]
    );
}

#[test]
fn power_in_a_gap_is_missing_and_not_guessed() {
    let times = (0..2000).step_by(10).chain((2040..5500).step_by(10));
    let (state, done) = integrate(&powered(times, |_| 3600));
    let rows: Vec<_> = registers(&done);
    assert_eq!(
        rows,
        [
            (0, 0, 900, 0),
            (900, 900, 1800, 0),
            (2700, 2650, 3550, 1),
            (3600, 3550, 4450, 1),
            (4500, 4450, 5350, 1)
        ]
    );
    assert_eq!(state.era, 1);
}

#[test]
fn power_beyond_the_rating_is_left_out() {
    let odd = |s| if s == 500 { 4_000_000 } else { 3600 };
    let (_, done) = integrate(&powered((0..910).step_by(10), odd));
    assert_eq!(registers(&done), [(0, 0, 900, 0)]);
    assert!(done[0].quality.has(Quality::OUT_OF_RANGE));
}

#[test]
fn energy_is_kept_when_the_clock_is_set_and_the_interval_says_so() {
    // `true_s` runs on; the stamp jumps at 1000 s.
    let stepped = |by_s: i64, class: MeasurementClass| {
        let limits = Limits { class, ..LIMITS };
        let (mut state, mut done) = (State::default(), Vec::new());
        for true_s in (0i64..9000).step_by(10) {
            let clock_s = if true_s >= 1000 {
                true_s + by_s
            } else {
                true_s
            };
            // The clock stands still until it has caught up.
            let shown_s = if true_s >= 1000 {
                clock_s.max(990)
            } else {
                clock_s
            };
            let sample = CounterSample {
                import_w: Some(3600),
                waited_ms: Some(10_000),
                clock_stepped: true_s == 1000,
                ..at(shown_s, Some(1000 + true_s), None)
            };
            done.extend(state.push(&sample, &limits));
        }
        let flagged: Vec<i64> = done
            .iter()
            .filter(|m| m.quality.has(Quality::CLOCK_STEP))
            .map(|m| m.interval.start_s() - START_S)
            .collect();
        (state.era, registers(&done), flagged)
    };
    for class in [
        MeasurementClass::MeterCounter,
        MeasurementClass::IntegratedPower,
    ] {
        for by_s in [2, 600, 3600, -2, -300, -3600] {
            let (era, rows, flagged) = stepped(by_s, class);
            assert_eq!(era, 0, "{class:?} {by_s}");
            assert!(
                rows.windows(2)
                    .all(|w| w[0].2 == w[1].1 && w[0].0 + 900 == w[1].0)
            );
            let (first, last) = (rows[0], rows[rows.len() - 1]);
            let counted = last.2 - first.1;
            let truth = last.0 + 900 - by_s;
            assert!(
                (counted - truth).abs() <= 10,
                "{class:?} {by_s}: {counted} of {truth}"
            );
            assert!(flagged.contains(&900), "{class:?} {by_s}: {flagged:?}");
            assert!(!flagged.contains(&0));
        }
    }
}

#[test]
fn state_of_an_older_gateway_is_understood() {
    let old = r#"{"era":2,"last":{"at_ms":1782000990000,"import_wh":1990,"export_wh":null},
        "moved_at_ms":1782000990000,"least_power_w":0,"frozen_since_ms":null,
        "edge":{"mark":{"at_ms":1782000900000,"import_wh":1900,"export_wh":null},"exact":true},
        "open_marks":0,"aside":[],"held":null,"meter":null}"#;
    let mut state: State = serde_json::from_str(old).unwrap();
    let mut done = Vec::new();
    for sample in steady(1000, 1811) {
        done.extend(state.push(&sample, &LIMITS));
    }
    assert_eq!(registers(&done), [(900, 1900, 2800, 2)]);
}
