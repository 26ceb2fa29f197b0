//! The figures of the specification's examples in files of our own, and what holds for every bill.

use chrono_tz::Europe::Berlin;
use proptest::prelude::*;

use super::*;
use domain::json::FileError;

const MONDAY: &str = "2026-03-02T08:30:00Z";

/// `(minutes, kWh, "charge" | "park" | "reserve", ampere)`, one period each.
fn record(start: &str, parts: &[(i64, &str, &str, &str)]) -> Record {
    let mut at: Timestamp = start.parse().unwrap();
    let mut periods = String::new();
    for (minutes, kwh, kind, ampere) in parts {
        let hours = nano_hours(*minutes);
        let kind = match *kind {
            "park" => "PARKING_TIME",
            "reserve" => "RESERVATION_TIME",
            _ => "TIME",
        };
        let mut dimensions = format!(r#"{{"type": "{kind}", "volume": {hours}}}"#);
        if *kwh != "0" {
            dimensions += &format!(r#",{{"type": "ENERGY", "volume": {kwh}}}"#);
        }
        if let Some(kw) = ampere.strip_suffix("kW") {
            dimensions += &format!(
                r#",{{"type": "MIN_POWER", "volume": {kw}}},{{"type": "MAX_POWER", "volume": {kw}}}"#
            );
        } else if *ampere != "0" {
            dimensions += &format!(
                r#",{{"type": "MIN_CURRENT", "volume": {ampere}}},{{"type": "MAX_CURRENT", "volume": {ampere}}}"#
            );
        }
        let comma = if periods.is_empty() { "" } else { "," };
        periods +=
            &format!(r#"{comma}{{"start_date_time": "{at}", "dimensions": [{dimensions}]}}"#);
        at = at.plus_s(minutes * 60);
    }
    let text = format!(
        r#"{{"start_date_time": "{start}", "end_date_time": "{at}", "currency": "EUR", "charging_periods": [{periods}]}}"#
    );
    let mut record = Record::from_json(&text).unwrap();
    // A sixtieth of an hour has no decimal form, so the periods' lengths are put in as they are.
    for (period, (minutes, _, kind, _)) in record.periods.iter_mut().zip(parts) {
        let ns = i128::from(*minutes) * 60 * NANO;
        match *kind {
            "park" => period.parking_ns = ns,
            "reserve" => period.reserved_ns = ns,
            _ => period.time_ns = ns,
        }
    }
    record
}

fn nano_hours(minutes: i64) -> String {
    let nano = minutes * 1_000_000_000 / 60;
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}

fn tariff(elements: &str) -> Result<Tariff, FileError> {
    tariff_with("", elements)
}

fn tariff_with(more: &str, elements: &str) -> Result<Tariff, FileError> {
    let text = format!(r#"{{"id": "t", "currency": "EUR", {more} "elements": [{elements}]}}"#);
    Tariff::from_json(&text).map(|mut all| all.remove(0))
}

/// An element: `kind price vat step`, prices apart by `;`, then restrictions.
fn element(prices: &str, restrictions: &str) -> String {
    let component = |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        let vat = match words[2] {
            "-" => String::new(),
            vat => format!(r#""vat": {vat},"#),
        };
        format!(
            r#"{{"type": "{}", "price": {}, {vat} "step_size": {}}}"#,
            words[0], words[1], words[3]
        )
    };
    let components: Vec<String> = prices.split(';').map(component).collect();
    format!(
        r#"{{"price_components": [{}], "restrictions": {{{restrictions}}}}}"#,
        components.join(",")
    )
}

fn elements(list: &[(&str, &str)]) -> String {
    let list: Vec<String> = list.iter().map(|(p, r)| element(p, r)).collect();
    list.join(",")
}

#[track_caller]
fn costs(tariff: &Tariff, record: &Record, before_tax: &str, total: &str) {
    let bill = rate(record, tariff, Berlin).unwrap();
    let told = (show::money(bill.before_tax), show::money(bill.total));
    assert_eq!(
        told,
        (before_tax.to_owned(), total.to_owned()),
        "{}",
        bill.to_table(record, Berlin)
    );
}

#[test]
fn energy_start_fee_least_and_most_price() {
    let energy = ("ENERGY 0.25 10 1", "");
    let twenty = record(MONDAY, &[(120, "20", "charge", "0")]);
    costs(
        &tariff(&elements(&[energy])).unwrap(),
        &twenty,
        "5.00",
        "5.50",
    );
    let fee = elements(&[("FLAT 0.50 20 1", ""), energy]);
    costs(&tariff(&fee).unwrap(), &twenty, "5.50", "6.10");
    let least = r#""min_price": {"excl_vat": 0.50, "incl_vat": 0.55},"#;
    let least = tariff_with(least, &elements(&[energy])).unwrap();
    costs(&least, &twenty, "5.00", "5.50");
    costs(
        &least,
        &record(MONDAY, &[(9, "1.5", "charge", "0")]),
        "0.50",
        "0.55",
    );
    let most = r#""max_price": {"before_taxes": 10.00, "after_taxes": 11.00},"#;
    let most = tariff_with(most, &fee).unwrap();
    costs(
        &most,
        &record(MONDAY, &[(300, "50", "charge", "0")]),
        "10.00",
        "11.00",
    );
    costs(
        &most,
        &record(MONDAY, &[(200, "30", "charge", "0")]),
        "8.00",
        "8.85",
    );
    let all = tariff(&element(
        "FLAT 0.50 20 1;ENERGY 0.25 10 1;PARKING_TIME 2.00 20 900",
        "",
    ))
    .unwrap();
    let stayed = record(
        MONDAY,
        &[(120, "20", "charge", "0"), (40, "0", "park", "0")],
    );
    costs(&all, &stayed, "7.00", "7.90");
}

#[test]
fn times_and_steps() {
    let hour = tariff(&element("TIME 2.00 10 60", "")).unwrap();
    costs(
        &hour,
        &record(MONDAY, &[(150, "12", "charge", "0")]),
        "5.00",
        "5.50",
    );
    let both = tariff(&element("TIME 3.00 10 60;PARKING_TIME 5.00 20 300", "")).unwrap();
    let stayed = record(
        MONDAY,
        &[(150, "12", "charge", "0"), (42, "0", "park", "0")],
    );
    costs(&both, &stayed, "11.25", "12.75");
    let text = tariff(&element("TIME 1.90 5.2 300", "")).unwrap();
    costs(
        &text,
        &record(MONDAY, &[(150, "12", "charge", "0")]),
        "4.75",
        "4.997",
    );
    // 115.2 Wh are 116 Wh, or five times 25, or one time 500.
    for (step, before_tax) in [(1, "0.029"), (25, "0.03125"), (500, "0.125")] {
        let tariff = tariff(&element(&format!("ENERGY 0.25 - {step}"), "")).unwrap();
        let little = record(MONDAY, &[(5, "0.1152", "charge", "0")]);
        costs(&tariff, &little, before_tax, before_tax);
    }
    let hundred = tariff(&element("ENERGY 0.25 10 100", "")).unwrap();
    costs(
        &hundred,
        &record(MONDAY, &[(60, "20.45", "charge", "0")]),
        "5.125",
        "5.6375",
    );
}

#[test]
fn a_step_counts_once_and_by_the_last_price() {
    let list = elements(&[
        ("TIME 1.20 - 1800", r#""end_time": "17:00""#),
        ("TIME 2.40 - 900", r#""start_time": "17:00""#),
        ("PARKING_TIME 1.00 - 900", r#""end_time": "20:00""#),
    ]);
    let tariff = tariff(&list).unwrap();
    // 16:55 to 17:05 charging, two minutes parked: only the parking is rounded up.
    let parts = [
        (5, "1", "charge", "0"),
        (5, "1", "charge", "0"),
        (2, "0", "park", "0"),
    ];
    costs(
        &tariff,
        &record("2026-03-02T15:55:00Z", &parts),
        "0.55",
        "0.55",
    );
    // 16:35 to 17:10: 35 minutes become 45, ten of them at the later price.
    let parts = [(25, "1", "charge", "0"), (10, "1", "charge", "0")];
    costs(
        &tariff,
        &record("2026-03-02T15:35:00Z", &parts),
        "1.30",
        "1.30",
    );
    // 21 minutes, then 7 parked, both in steps of five: 21 and 10.
    let tariff =
        super::tests::tariff(&element("TIME 6.00 - 300;PARKING_TIME 12.00 - 300", "")).unwrap();
    let parts = [(21, "1", "charge", "0"), (7, "0", "park", "0")];
    costs(&tariff, &record(MONDAY, &parts), "4.10", "4.10");
}

#[test]
fn current_weekday_and_time_of_day() {
    let week = r#""day_of_week": ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY"]"#;
    let list = elements(&[
        ("FLAT 2.50 15 1", ""),
        ("TIME 1.00 20 900", r#""max_current": 32"#),
        ("TIME 2.00 20 600", &format!(r#""min_current": 32, {week}"#)),
        (
            "TIME 1.20 20 600",
            r#""min_current": 32, "day_of_week": ["SATURDAY", "SUNDAY"]"#,
        ),
        (
            "PARKING_TIME 5.00 10 300",
            &format!(r#""start_time": "09:00", "end_time": "18:00", {week}"#),
        ),
        (
            "PARKING_TIME 6.00 10 300",
            r#""start_time": "10:00", "end_time": "17:00", "day_of_week": ["SATURDAY"]"#,
        ),
    ]);
    let tariff = tariff(&list).unwrap();
    let monday = record(
        MONDAY,
        &[(165, "8", "charge", "16"), (42, "0", "park", "0")],
    );
    costs(&tariff, &monday, "9.00", "10.30");
    let saturday = [(114, "40", "charge", "43"), (71, "0", "park", "0")];
    costs(
        &tariff,
        &record("2026-03-07T12:30:00Z", &saturday),
        "12.28",
        "13.861",
    );
    // Parked on a Sunday: free.
    costs(
        &tariff,
        &record("2026-03-08T12:30:00Z", &[(60, "0", "park", "0")]),
        "2.50",
        "2.875",
    );
}

#[test]
fn power_duration_and_energy() {
    let list = elements(&[
        ("ENERGY 0.20 20 1", r#""max_power": 16"#),
        ("ENERGY 0.35 20 1", r#""max_power": 32"#),
        ("ENERGY 0.50 20 1", ""),
    ]);
    let parts = [
        (10, "1", "charge", "6kW"),
        (50, "40", "charge", "48kW"),
        (10, "0.5", "charge", "4kW"),
    ];
    costs(
        &tariff(&list).unwrap(),
        &record(MONDAY, &parts),
        "20.30",
        "24.36",
    );
    let list = elements(&[
        ("ENERGY 0.00 20 1", r#""max_duration": 1800"#),
        ("ENERGY 0.25 20 1", ""),
    ]);
    let parts = [(30, "5", "charge", "0"), (10, "1.2", "charge", "0")];
    costs(
        &tariff(&list).unwrap(),
        &record(MONDAY, &parts),
        "0.30",
        "0.36",
    );
    let list = elements(&[
        ("ENERGY 0.00 - 1", r#""max_kwh": 1"#),
        ("ENERGY 0.20 - 1", r#""min_kwh": 1"#),
        ("PARKING_TIME 0.00 - 60", r#""max_duration": 3600"#),
        (
            "PARKING_TIME 2.00 - 60",
            r#""min_duration": 3600, "max_duration": 14400"#,
        ),
        ("PARKING_TIME 3.00 - 60", r#""min_duration": 14400"#),
    ]);
    let parts = [
        (10, "1", "charge", "0"),
        (50, "19", "charge", "0"),
        (180, "0", "park", "0"),
        (45, "0", "park", "0"),
    ];
    costs(
        &tariff(&list).unwrap(),
        &record(MONDAY, &parts),
        "12.05",
        "12.05",
    );
}

#[test]
fn reservations_kept_and_expired() {
    let session = [("FLAT 0.50 20 1", ""), ("ENERGY 0.25 10 1", "")];
    let reserved = r#""reservation": "RESERVATION""#;
    let expires = r#""reservation": "RESERVATION_EXPIRES""#;
    let with = |list: &[(&str, &str)]| {
        let all: Vec<(&str, &str)> = list.iter().chain(&session).copied().collect();
        tariff(&elements(&all)).unwrap()
    };
    let came = |minutes| {
        record(
            MONDAY,
            &[(minutes, "0", "reserve", "0"), (120, "20", "charge", "0")],
        )
    };
    let nobody = |minutes| record(MONDAY, &[(minutes, "0", "reserve", "0")]);
    costs(
        &with(&[("TIME 5.00 20 60", reserved)]),
        &came(15),
        "6.75",
        "7.60",
    );
    let fee = with(&[("FLAT 2.00 20 1;TIME 5.00 20 300", reserved)]);
    costs(&fee, &came(13), "8.75", "10.00");
    let fee = with(&[("FLAT 4.00 20 1", expires), ("TIME 2.00 20 600", reserved)]);
    costs(&fee, &came(22), "6.50", "7.30");
    costs(&fee, &nobody(60), "6.00", "7.20");
    let time = with(&[
        ("TIME 6.00 20 600", expires),
        ("TIME 3.00 20 600", reserved),
    ]);
    costs(&time, &came(22), "7.00", "7.90");
    costs(&time, &nobody(90), "9.00", "10.80");
}

#[test]
fn night_over_midnight_in_local_time_and_the_hour_that_comes_twice() {
    let night = elements(&[
        (
            "ENERGY 0.10 - 1",
            r#""start_time": "22:00", "end_time": "06:00""#,
        ),
        ("ENERGY 0.30 - 1", ""),
    ]);
    let night = tariff(&night).unwrap();
    for (start, price) in [
        ("2026-03-02T20:59:00Z", "0.30"),
        ("2026-03-02T21:00:00Z", "0.10"),
        ("2026-03-03T04:59:00Z", "0.10"),
        ("2026-03-03T05:00:00Z", "0.30"),
        // Summer time: 22:00 is 20:00 UTC. 25 October 2026 has the hour from 2 to 3 twice, in the night both times.
        ("2026-07-02T20:00:00Z", "0.10"),
        ("2026-10-25T00:30:00Z", "0.10"),
        ("2026-10-25T01:30:00Z", "0.10"),
        ("2026-10-25T04:59:00Z", "0.10"),
        ("2026-10-25T05:00:00Z", "0.30"),
    ] {
        costs(
            &night,
            &record(start, &[(1, "1", "charge", "0")]),
            price,
            price,
        );
    }
    let dates = r#""start_date": "2026-03-02", "end_date": "2026-03-03""#;
    let day = tariff(&element("ENERGY 1.00 - 1", dates)).unwrap();
    // The local day begins at 23:00 UTC.
    for (start, price) in [
        ("2026-03-01T22:59:00Z", "0.00"),
        ("2026-03-01T23:00:00Z", "1.00"),
        ("2026-03-02T22:59:00Z", "1.00"),
        ("2026-03-02T23:00:00Z", "0.00"),
    ] {
        costs(
            &day,
            &record(start, &[(1, "1", "charge", "0")]),
            price,
            price,
        );
    }
    let until = tariff(&element(
        "ENERGY 1.00 - 1",
        r#""start_time": "08:00", "end_time": "00:00""#,
    ));
    costs(
        &until.unwrap(),
        &record(MONDAY, &[(1, "1", "charge", "0")]),
        "1.00",
        "1.00",
    );
}

#[test]
fn taxes_included_or_none() {
    let price = element("ENERGY 0.30 20 1", "");
    let twelve = record(MONDAY, &[(60, "12", "charge", "0")]);
    let of = |rule: &str| tariff_with(&format!(r#""tax_included": "{rule}","#), &price).unwrap();
    costs(&of("NO"), &twelve, "3.60", "4.32");
    costs(&of("YES"), &twelve, "3.00", "3.60");
    costs(&of("N/A"), &twelve, "3.60", "3.60");
    let most = tariff_with(r#""max_price": 3,"#, &price).unwrap();
    costs(&most, &twelve, "3.00", "3.60");
}

#[test]
fn what_is_odd_is_said() {
    let list = elements(&[
        (
            "ENERGY 0.10 - 1",
            r#""start_time": "22:00", "end_time": "06:00", "max_power": 20"#,
        ),
        ("ENERGY 0.30 - 1", ""),
    ]);
    let tariff = tariff(&list).unwrap();
    let over = record("2026-03-02T20:50:00Z", &[(20, "3", "charge", "0")]);
    let bill = rate(&over, &tariff, Berlin).unwrap();
    assert_eq!(bill.notes.len(), 2, "{:?}", bill.notes);
    assert!(bill.notes[0].contains("inside period 0"));
    let mut dollars = over.clone();
    dollars.currency = Some("USD".to_owned());
    assert!(matches!(
        rate(&dollars, &tariff, Berlin),
        Err(RateError::Currency { .. })
    ));
    let mut later = tariff.clone();
    later.valid_from = Some(over.end);
    assert!(matches!(
        choose(&[later.clone()], &over),
        Err(RateError::NoTariff { .. })
    ));
    assert_eq!(choose(&[later, tariff.clone()], &over), Ok(&tariff));
    let json = bill.to_json(&over);
    assert_eq!(json["total"], "0.90");
    assert_eq!(json["lines"][0]["unit"], "kWh");
    assert!(bill.to_csv().ends_with("TOTAL,,,,,,,,0.90,0.00,0.90\n"));
}

/// Tariffs without restrictions that change inside a period.
fn plain_tariff() -> impl Strategy<Value = Tariff> {
    let component = (0_u32..2_000, 0_u32..30, 0_u32..2_000);
    (proptest::collection::vec(component, 4), 0_u32..3).prop_map(|(prices, rule)| {
        let components = Dimension::ALL.into_iter().zip(prices);
        let components = components.map(|(dimension, (price, tax, step))| Component {
            dimension,
            price: Money::from_nano(i64::from(price) * 1_234_567),
            tax_ppm: Some(tax * 10_000),
            step,
        });
        Tariff {
            id: "random".to_owned(),
            currency: "EUR".to_owned(),
            tax: [TaxRule::OnTop, TaxRule::Included, TaxRule::None][rule as usize],
            elements: vec![super::super::tariff::Element {
                components: components.collect(),
                restrictions: Default::default(),
            }],
            min_price: None,
            max_price: None,
            valid_from: None,
            valid_until: None,
        }
    })
}

fn plain_record() -> impl Strategy<Value = Record> {
    proptest::collection::vec((1_i64..200, 0_i64..30_000, any::<bool>()), 1..6).prop_map(|parts| {
        let mut at = Timestamp::from_unix_s(1_772_440_200);
        let mut periods = Vec::new();
        for (minutes, wh, parked) in parts {
            let ns = i128::from(minutes) * 60 * NANO;
            let mut period = Period::empty(at);
            if parked {
                period.parking_ns = ns;
            } else {
                period.time_ns = ns;
                period.energy = i128::from(wh) * (NANO / 1_000);
            }
            periods.push(period);
            at = at.plus_s(minutes * 60);
        }
        Record {
            end: at,
            periods,
            currency: None,
            claimed: None,
            tariffs: Vec::new(),
        }
    })
}

proptest! {
    #[test]
    fn splitting_a_period_changes_nothing(tariff in plain_tariff(), record in plain_record(), at in 0_usize..6, share in 1_i64..60) {
        let whole = rate(&record, &tariff, Berlin).unwrap();
        let mut split = record.clone();
        let place = at % split.periods.len();
        let first = split.periods[place];
        let part = |value: i128| value * i128::from(share) / 60;
        let mut second = first;
        let ns = part(first.time_ns + first.parking_ns);
        second.start = first.start.plus_ms(i64::try_from(ns / 1_000_000).unwrap());
        let cut = Period {
            energy: part(first.energy),
            time_ns: part(first.time_ns),
            parking_ns: part(first.parking_ns),
            ..first
        };
        second.energy -= cut.energy;
        second.time_ns -= cut.time_ns;
        second.parking_ns -= cut.parking_ns;
        split.periods[place] = cut;
        split.periods.insert(place + 1, second);
        let again = rate(&split, &tariff, Berlin).unwrap();
        prop_assert_eq!(again.lines, whole.lines);
        prop_assert_eq!(again.total, whole.total);
    }

    #[test]
    fn more_energy_never_costs_less_and_the_total_is_the_sum(
        tariff in plain_tariff(), record in plain_record(), place in 0_usize..6, more in 0_i64..9_000, least in 0_i64..9, most in 9_i64..90,
    ) {
        let mut tariff = tariff;
        let limit = |tokens: i64| Some(super::super::tariff::Limit { before_tax: Money::from_nano(tokens * 1_000_000_000), after_tax: None });
        (tariff.min_price, tariff.max_price) = (limit(least), limit(most));
        let bill = rate(&record, &tariff, Berlin).unwrap();
        let mut hungrier = record.clone();
        let place = place % hungrier.periods.len();
        hungrier.periods[place].energy += i128::from(more) * (NANO / 1_000);
        let larger = rate(&hungrier, &tariff, Berlin).unwrap();
        prop_assert!(larger.before_tax >= bill.before_tax);
        for bill in [&bill, &larger] {
            let before: i64 = bill.lines.iter().map(|l| l.before_tax.nano()).sum();
            let tax: i64 = bill.lines.iter().map(|l| l.tax.nano()).sum();
            prop_assert_eq!((before, tax), (bill.before_tax.nano(), bill.tax.nano()));
            prop_assert_eq!(bill.total.nano(), before + tax);
            prop_assert!(bill.before_tax >= Money::from_nano(least * 1_000_000_000));
            prop_assert!(bill.before_tax <= Money::from_nano(most * 1_000_000_000));
        }
    }
}
