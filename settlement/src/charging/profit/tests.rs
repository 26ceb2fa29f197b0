//! The figures of a station's month: parts are the whole, twelve months are the year, and the break-even breaks even.

use proptest::prelude::*;

use super::super::rate::Line;
use super::super::split::{Owner, PassThrough, split};
use super::super::tariff::{Component, Dimension};
use super::*;
use domain::time::Timestamp;

fn nano(nano: i64) -> Money {
    Money::from_nano(nano)
}

fn owners() -> Vec<Owner> {
    [("ann", 6_001), ("ben", 3_332), ("community", 667)]
        .map(|(name, basis_points)| Owner {
            name: name.to_owned(),
            basis_points,
        })
        .to_vec()
}

/// A bill of energy, time, parking and a fee, and what a ceiling took off.
fn bill(parts: [i64; 4], limit: i64, tax: i64) -> Bill {
    let line = |what, amount, tax| Line {
        what,
        from: Timestamp::EPOCH,
        to: Timestamp::EPOCH,
        used: 1,
        billed: 1,
        component: None::<Component>,
        before_tax: nano(amount),
        tax: nano(tax),
    };
    let dimensions = [
        Dimension::Energy,
        Dimension::Time,
        Dimension::ParkingTime,
        Dimension::Flat,
    ];
    let mut lines: Vec<Line> = dimensions
        .into_iter()
        .zip(parts)
        .map(|(dimension, amount)| line(What::Charge(dimension), amount, 0))
        .collect();
    lines[0].tax = nano(tax);
    lines.push(line(What::MaxPrice, limit, 0));
    let before_tax = parts.iter().sum::<i64>() + limit;
    Bill {
        tariff: String::new(),
        currency: "EUR".to_owned(),
        lines,
        before_tax: nano(before_tax),
        tax: nano(tax),
        total: nano(before_tax + tax),
        energy: 0,
        time_ns: 0,
        parking_ns: 0,
        notes: Vec::new(),
    }
}

fn sold(month: &mut Month, bill: &Bill, cost: Cost, salt: &str) {
    let pass_through = PassThrough {
        energy: cost.energy,
        network_fee: cost.network_fee,
        tax: bill.tax,
    };
    let parts = split(bill.total, pass_through, &owners(), salt).unwrap();
    month
        .sale(bill, Energy::from_wh(10_000), cost, &parts)
        .unwrap();
}

/// 10 kWh for 4.00 before tax, of which 2.50 and 0.30 are passed through.
fn example() -> Month {
    let mut month = Month::default();
    let bill = bill([3_400_000_000, 0, 300_000_000, 300_000_000], 0, 760_000_000);
    let cost = Cost {
        energy: nano(2_500_000_000),
        network_fee: nano(300_000_000),
    };
    sold(&mut month, &bill, cost, "s");
    month
}

#[test]
fn what_a_station_needs_is_what_covers_its_costs() {
    let month = example();
    month.check().unwrap();
    let figures = Figures {
        maintenance_per_year: nano(12_000_000_000),
        capital_per_year: nano(24_000_000_000),
    };
    let profit = Profit::of(&month, &figures, 6).unwrap();
    // 4.00 - 2.50 - 0.30 - 1.00 - 2.00
    assert_eq!(profit.result, nano(-1_800_000_000));
    // 0.12 are left of a kWh, so 3.00 need 25 of them.
    assert_eq!(profit.break_even, BreakEven::At(Energy::from_wh(25_000)));
    assert_eq!(profit.break_even_price, Some("0.58".parse().unwrap()));
    assert_eq!(profit.price, Some("0.4".parse().unwrap()));
    assert!(profit.warns(true) && !profit.warns(false));

    let free = Profit::of(&month, &Figures::default(), 6).unwrap();
    assert_eq!(free.break_even, BreakEven::At(Energy::ZERO));
    assert!(!free.warns(true));

    let mut dear = Month::default();
    let cost = Cost {
        energy: nano(5_000_000_000),
        network_fee: Money::ZERO,
    };
    let sale = bill([3_400_000_000, 0, 0, 0], 0, 0);
    sold(&mut dear, &sale, cost, "s");
    let profit = Profit::of(&dear, &figures, 6).unwrap();
    assert_eq!(profit.break_even, BreakEven::Never);
    assert!(profit.warns(false), "that is no matter of waiting");

    let nothing = Profit::of(&Month::default(), &figures, 6).unwrap();
    assert_eq!(
        (nothing.break_even, nothing.price, nothing.break_even_price),
        (BreakEven::Unknown, None, None)
    );
    assert!(nothing.warns(true));
}

#[test]
fn a_report_says_it_plainly() {
    let sums = example();
    let figures = Figures {
        maintenance_per_year: nano(12_000_000_000),
        capital_per_year: nano(24_000_000_000),
    };
    let profit = Profit::of(&sums, &figures, 6).unwrap();
    let mut report = Report {
        station: "s-1".to_owned(),
        host: "ann".to_owned(),
        buys: true,
        currency: "EUR".to_owned(),
        month: "2026-06".to_owned(),
        span: (Timestamp::EPOCH, Timestamp::EPOCH),
        is_over: true,
        owners: owners(),
        sums,
        figures,
        profit,
    };
    let told = report.sentence();
    assert_eq!(
        told,
        "A loss of 1.80 EUR in 2026-06. Its costs are covered from 25.000 kWh a month on; 10.000 kWh were charged."
    );
    report.is_over = false;
    assert!(report.sentence().starts_with("So far 2026-06 lacks"));
    let rows = report.rows();
    let of = |group: &str| -> i64 {
        let rows = rows.iter().filter(|row| row.group == group);
        rows.map(|row| row.amount.nano()).sum()
    };
    let paid = report.sums.revenue().unwrap().nano();
    assert_eq!(of("income") + of("paid"), paid);
    assert_eq!(of("passed_through") + of("share"), paid);
    assert_eq!(of("profit"), 2 * report.profit.result.nano());
    assert_eq!(report.to_csv().lines().count(), rows.len() + 1);
    assert!(report.to_table().contains("network fee"));
    assert_eq!(report.unpaid_sentence(), None);
    report.sums.unpaid(nano(1_250_000_000)).unwrap();
    report.sums.unpaid(nano(500_000_000)).unwrap();
    let unpaid = "2 sessions were not paid: 1.75 EUR are owed.";
    assert_eq!(report.unpaid_sentence().as_deref(), Some(unpaid));
    assert!(report.to_table().contains(unpaid));
    assert_eq!(report.to_json()["unpaid"]["sessions"], 2);
    // What is owed is no income.
    assert_eq!(report.sums.revenue().unwrap().nano(), paid);
    let told = report.to_json();
    assert_eq!(told["profit"]["result"], "-1.80");
    assert_eq!(told["shares"].as_array().unwrap().len(), 3);
}

proptest! {
    #[test]
    fn twelve_months_are_the_year(year in 0_i64..i64::MAX) {
        let months: Vec<i64> = (1..=12).map(|n| of_month(nano(year), n).nano()).collect();
        prop_assert_eq!(months.iter().map(|m| i128::from(*m)).sum::<i128>(), i128::from(year));
        let spread = months.iter().max().unwrap() - months.iter().min().unwrap();
        prop_assert!(spread <= 1);
    }

    #[test]
    fn the_parts_are_the_whole(
        sales in prop::collection::vec((prop::array::uniform4(0_i64..9_000_000_000), 0_i64..9_000_000_000, 0_i64..2_000_000_000, 0_i64..9_000_000_000), 0..9),
        back in 0_i64..1_000_000_000,
        run in (-3_000_000_000_i64..9_000_000_000, -500_000_000_i64..500_000_000),
        year in (0_i64..900_000_000_000, 0_i64..900_000_000_000),
    ) {
        let mut month = Month::default();
        for (number, (parts, off, tax, energy)) in sales.iter().enumerate() {
            let off = (*off).min(parts.iter().sum::<i64>());
            let cost = Cost { energy: nano(*energy), network_fee: nano(energy / 10) };
            sold(&mut month, &bill(*parts, -off, *tax), cost, &number.to_string());
        }
        let at = Timestamp::EPOCH;
        if let Some(credit) = Credit::new(at, "x", (nano(1_000_000_000), nano(150_000_000)), nano(back)).unwrap() {
            let parts = credit.split(&owners(), "c").unwrap();
            month.credit(&credit, &parts).unwrap();
        }
        let cost = Cost { energy: nano(run.0), network_fee: nano(run.1) };
        let net = Money::from_nano(-(run.0 + run.1));
        for in_session in [true, false] {
            let parts = split(net, PassThrough::default(), &owners(), "r").unwrap().owners;
            month.carried(in_session, cost, &parts).unwrap();
        }
        month.check().unwrap();

        let figures = Figures { maintenance_per_year: nano(year.0), capital_per_year: nano(year.1) };
        let profit = Profit::of(&month, &figures, 3).unwrap();
        // What the owners have, less what they pay themselves, is what is left.
        let fixed = profit.maintenance.nano() + profit.capital.nano();
        prop_assert_eq!(profit.result.nano(), month.shared().unwrap().nano() - fixed);
        if let BreakEven::At(energy) = profit.break_even && energy.is_positive() {
            // So much brings the costs, and a Wh less does not.
            let fixed = fixed + month.outside.total().unwrap().nano();
            let left = i128::from(profit.result.nano() + fixed);
            let (wh, sold) = (i128::from(energy.wh()), i128::from(month.energy.wh()));
            prop_assert!(left * wh >= i128::from(fixed) * sold);
            prop_assert!(left * (wh - 1) < i128::from(fixed) * sold);
        }
        let mut wrong = month.clone();
        wrong.tax = nano(wrong.tax.nano() + 1);
        wrong.refunded_tax = nano(wrong.refunded_tax.nano() + 2);
        prop_assert!(wrong.check().is_err());
    }
}
