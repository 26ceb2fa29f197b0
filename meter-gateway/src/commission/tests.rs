//! One faultless device, and every usual mistake made to it.

use super::*;

const METER: Subject = Subject {
    kind: Kind::Meter,
    rating_w: 17_000,
    resolution_wh: 1,
};

/// Two minutes of a house that takes 2.4 kW and a bit more each time.
fn house() -> Vec<Observation> {
    let mut import_mwh = 1_234_567_000_i64;
    let step = |n: i64| {
        let power_w = 2_400 + n * 7;
        import_mwh += if n == 0 { 0 } else { power_w * 1000 * 5 / 3600 };
        Observation {
            at_ms: n * 5_000,
            import_wh: Some(import_mwh / 1000),
            export_wh: Some(99),
            power_w: Some(power_w),
            phase_w: [Some(1_000), Some(900), Some(power_w - 1_900)],
            phase_mv: [Some(230_000 + n), Some(231_000), Some(229_500)],
            frequency_mhz: Some(50_010),
        }
    };
    (0..=24).map(step).collect()
}

fn change(series: &[Observation], change: impl Fn(&mut Observation)) -> Vec<Observation> {
    let mut series = series.to_vec();
    series.iter_mut().for_each(change);
    series
}

fn own(own: &[Observation]) -> Evidence<'_> {
    Evidence {
        own,
        ..Evidence::default()
    }
}

/// The worst verdict, its topic, and all sentences.
#[track_caller]
fn check(subject: &Subject, evidence: Evidence<'_>, expect: (Verdict, Topic, &str)) {
    let findings = judge(subject, evidence);
    let text: Vec<String> = findings.iter().map(Finding::to_string).collect();
    let text = text.join("\n");
    let (verdict, topic, words) = expect;
    let worst = findings.iter().map(|f| f.verdict).max();
    assert_eq!(worst, Some(verdict), "{text}");
    assert!(
        findings
            .iter()
            .any(|f| f.verdict == verdict && f.topic == topic && f.sentence.contains(words)),
        "{text}"
    );
}

#[test]
fn a_faultless_meter_has_nothing_but_agreement() {
    let house = house();
    let evidence = Evidence {
        second: &house,
        ..own(&house)
    };
    check(
        &METER,
        evidence,
        (Verdict::Ok, Topic::CounterSlope, "counters rose by"),
    );
    assert_eq!(judge(&METER, evidence).len(), 4);
}

#[test]
fn a_wrong_sign_shows_against_the_counters_and_against_a_second_meter() {
    let house = house();
    let turned = change(&house, |o| {
        o.power_w = o.power_w.map(|w| -w);
        o.phase_w = o.phase_w.map(|w| w.map(|w| -w));
    });
    check(
        &METER,
        own(&turned),
        (Verdict::Wrong, Topic::Sign, "sign is turned round"),
    );
    let blind = change(&turned, |o| (o.import_wh, o.export_wh) = (None, None));
    let evidence = Evidence {
        second: &house,
        ..own(&blind)
    };
    check(
        &METER,
        evidence,
        (Verdict::Wrong, Topic::Sign, "at the second meter"),
    );
}

#[test]
fn one_turned_transformer_is_suspected_and_proven_by_a_second_meter() {
    let house = house();
    let turned = change(&house, |o| {
        o.phase_w[0] = o.phase_w[0].map(|w| -w);
        o.power_w = o.power_w.map(|w| w - 2_000);
        (o.import_wh, o.export_wh) = (None, None);
    });
    let doubt = (
        Verdict::Doubt,
        Topic::CtDirection,
        "phase 1 (-1000 W) runs against",
    );
    check(&METER, own(&turned), doubt);
    let evidence = Evidence {
        second: &house,
        ..own(&turned)
    };
    check(
        &METER,
        evidence,
        (Verdict::Wrong, Topic::CtDirection, "when phase 1 is turned"),
    );
}

#[test]
fn phases_that_do_not_add_up_are_mixed_up() {
    let lost = change(&house(), |o| o.phase_w[1] = Some(0));
    check(
        &METER,
        own(&lost),
        (Verdict::Wrong, Topic::CtDirection, "add up to"),
    );
}

#[test]
fn swapped_words_are_named_where_the_other_order_fits() {
    let house = house();
    let swapped = change(&house, |o| o.power_w = Some(629_145_600));
    let evidence = Evidence {
        swapped: &house,
        ..own(&swapped)
    };
    check(
        &METER,
        evidence,
        (
            Verdict::Wrong,
            Topic::WordOrder,
            "opposite order everything fits",
        ),
    );
    check(
        &METER,
        own(&swapped),
        (Verdict::Wrong, Topic::Scale, "beyond the rating"),
    );
    let volts = change(&house, |o| o.phase_mv[2] = Some(2_295_000));
    check(
        &METER,
        own(&volts),
        (Verdict::Wrong, Topic::Scale, "phase 3 has 2295 V"),
    );
}

#[test]
fn floats_with_swapped_words_are_zeros_and_are_named_too() {
    let house = house();
    let zeros = change(&house, |o| {
        (o.import_wh, o.export_wh, o.power_w) = (Some(0), Some(0), Some(0));
        (o.phase_w, o.phase_mv, o.frequency_mhz) = ([Some(0); 3], [Some(0); 3], Some(0));
    });
    let evidence = Evidence {
        swapped: &house,
        ..own(&zeros)
    };
    check(
        &METER,
        evidence,
        (Verdict::Wrong, Topic::WordOrder, "everything is 0"),
    );
}

#[test]
fn factors_between_power_and_counters_are_named_with_their_usual_cause() {
    let house = house();
    let first = house[0].import_wh.unwrap();
    let scaled = |times: i64, by: i64| {
        change(&house, move |o| {
            o.import_wh = o.import_wh.map(|wh| first + (wh - first) * times / by);
        })
    };
    check(
        &METER,
        own(&scaled(10, 1)),
        (Verdict::Wrong, Topic::Scale, "off by ten"),
    );
    check(
        &METER,
        own(&scaled(1000, 1)),
        (Verdict::Wrong, Topic::Unit, "Wh are taken for kWh"),
    );
    check(
        &METER,
        own(&scaled(60, 1)),
        (Verdict::Wrong, Topic::Unit, "watt-minutes"),
    );
    check(
        &METER,
        own(&scaled(3, 1)),
        (Verdict::Wrong, Topic::Scale, "one phase"),
    );
    check(
        &METER,
        own(&scaled(2, 1)),
        (Verdict::Doubt, Topic::CounterSlope, "do not belong"),
    );
    let backwards = change(&house, move |o| {
        o.import_wh = o.import_wh.map(|wh| 2 * first - wh)
    });
    check(
        &METER,
        own(&backwards),
        (Verdict::Wrong, Topic::CounterSlope, "ran backwards"),
    );
    let tenth = change(&house, |o| {
        o.power_w = o.power_w.map(|w| w / 10);
        o.phase_w = [None; 3];
        (o.import_wh, o.export_wh) = (None, None);
    });
    let evidence = Evidence {
        second: &house,
        ..own(&tenth)
    };
    check(
        &METER,
        evidence,
        (Verdict::Wrong, Topic::Scale, "1/10 of the second"),
    );
}

#[test]
fn too_little_says_how_long_it_takes() {
    let coarse = Subject {
        resolution_wh: 100,
        ..METER
    };
    let steps = change(&house(), |o| {
        o.import_wh = o.import_wh.map(|wh| wh / 100 * 100)
    });
    check(
        &coarse,
        own(&steps),
        (Verdict::Undecided, Topic::CounterSlope, "watch for 13 min"),
    );
    check(
        &METER,
        own(&steps[..4]),
        (Verdict::Undecided, Topic::Values, "too few"),
    );
    let idle = change(&house(), |o| {
        (o.import_wh, o.power_w, o.phase_w) = (Some(5), Some(0), [None; 3]);
    });
    check(
        &METER,
        own(&idle),
        (
            Verdict::Undecided,
            Topic::CounterSlope,
            "switch something large on",
        ),
    );
}

#[test]
fn a_device_that_repeats_itself_is_not_fresh() {
    let first = house()[0];
    let still = change(&house(), |o| {
        *o = Observation {
            at_ms: o.at_ms,
            ..first
        }
    });
    check(
        &METER,
        own(&still),
        (Verdict::Doubt, Topic::Values, "exactly the same"),
    );
}

#[test]
fn inverters_give_and_chargers_take() {
    let taking = change(&house(), |o| {
        (o.power_w, o.phase_w) = (o.power_w.map(|w| -w), [None; 3]);
        o.import_wh = None;
        o.export_wh = None;
    });
    for (kind, words) in [
        (Kind::Inverter, "an inverter that takes"),
        (Kind::Charger, "a charger that gives"),
    ] {
        let subject = Subject { kind, ..METER };
        check(&subject, own(&taking), (Verdict::Doubt, Topic::Sign, words));
    }
    // An inverter's own export counter follows the power it gives.
    let giving = change(&house(), |o| {
        (o.export_wh, o.import_wh) = (o.import_wh, None);
        o.phase_w = [None; 3];
    });
    let inverter = Subject {
        kind: Kind::Inverter,
        ..METER
    };
    check(
        &inverter,
        own(&giving),
        (Verdict::Ok, Topic::CounterSlope, "Wh export"),
    );
}

proptest::proptest! {
    #[test]
    fn no_observation_makes_it_panic(
        values in proptest::collection::vec(
            proptest::prelude::any::<(i64, Option<i64>, Option<i64>, Option<i64>, [Option<i64>; 3])>(), 0..40),
    ) {
        let series: Vec<Observation> = values.into_iter().map(|(at_ms, import_wh, export_wh, power_w, phase_w)| {
            Observation { at_ms, import_wh, export_wh, power_w, phase_w, ..Observation::default() }
        }).collect();
        let evidence = Evidence { own: &series, swapped: &series, second: &series };
        let _ = judge(&METER, evidence);
    }
}
