//! Random tariffs and records, priced here and by `ocpi-tariffs`, a program that others wrote.
//!
//! Runs where that program is on PATH (`cargo install ocpi-tariffs-cli`) and says so where it is not.
//! `COMMONWATT_OCPI_CASES` is how many (200).

use std::path::Path;
use std::process::Command;

use chrono_tz::Europe::Berlin;
use domain::money::Money;
use domain::time::Timestamp;
use settlement::charging::rate::rate;
use settlement::charging::record::Record;
use settlement::charging::tariff::Tariff;

/// SplitMix64: the same cases every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// A number of `decimals` decimals as text.
fn decimal(value: u64, decimals: usize) -> String {
    let unit = 10_u64.pow(u32::try_from(decimals).unwrap());
    format!("{}.{:0decimals$}", value / unit, value % unit)
}

fn restrictions(r: &mut Random) -> String {
    let mut parts = Vec::new();
    if r.one_in(3) {
        let start = r.below(24 * 60);
        // An end at midnight is the end of the day here and no time at all there.
        let end = (start + 1 + r.below(24 * 60 - 2)) % (24 * 60);
        let end = if end == 0 { 1 } else { end };
        if start != end {
            let clock = |m: u64| format!("{:02}:{:02}", m / 60, m % 60);
            parts.push(format!(r#""start_time": "{}""#, clock(start)));
            parts.push(format!(r#""end_time": "{}""#, clock(end)));
        }
    }
    if r.one_in(6) {
        parts.push(format!(r#""start_date": "2026-03-{:02}""#, 1 + r.below(28)));
    }
    if r.one_in(6) {
        parts.push(format!(r#""end_date": "2026-03-{:02}""#, 1 + r.below(28)));
    }
    for (name, end, decimals) in [
        ("min_kwh", 20_000, 3),
        ("max_kwh", 40_000, 3),
        ("min_power", 200, 1),
        ("max_power", 400, 1),
        ("min_current", 40, 0),
        ("max_current", 60, 0),
        ("min_duration", 20_000, 0),
        ("max_duration", 40_000, 0),
    ] {
        if r.one_in(6) {
            let value = 1 + r.below(end);
            let text = if decimals == 0 {
                value.to_string()
            } else {
                decimal(value, decimals)
            };
            parts.push(format!(r#""{name}": {text}"#));
        }
    }
    if r.one_in(4) {
        let all = [
            "MONDAY",
            "TUESDAY",
            "WEDNESDAY",
            "THURSDAY",
            "FRIDAY",
            "SATURDAY",
            "SUNDAY",
        ];
        let days: Vec<String> = all
            .iter()
            .filter(|_| r.one_in(2))
            .map(|d| format!("\"{d}\""))
            .collect();
        if !days.is_empty() {
            parts.push(format!(r#""day_of_week": [{}]"#, days.join(",")));
        }
    }
    parts.join(",")
}

fn tariff(r: &mut Random) -> String {
    // Limits are compared in other ways where taxes differ, so a tariff with limits has one tax.
    let limited = r.one_in(3);
    let mut elements = Vec::new();
    for _ in 0..1 + r.below(5) {
        let mut components = Vec::new();
        for kind in ["ENERGY", "TIME", "PARKING_TIME", "FLAT"] {
            if !components.is_empty() && !r.one_in(2) {
                continue;
            }
            let price = decimal(r.below(30_000), 4);
            let vat = match r.below(3) {
                _ if limited => r#""vat": 20.0,"#.to_owned(),
                0 => String::new(),
                _ => format!(r#""vat": {},"#, decimal(r.below(250), 1)),
            };
            let step = r.pick(&[0, 1, 1, 60, 100, 300, 900, 1000, 1800]);
            components.push(format!(
                r#"{{"type": "{kind}", "price": {price}, {vat} "step_size": {step}}}"#
            ));
        }
        let restrictions = if r.one_in(3) {
            String::new()
        } else {
            restrictions(r)
        };
        let restrictions = match restrictions.as_str() {
            "" => String::new(),
            some => format!(r#", "restrictions": {{{some}}}"#),
        };
        elements.push(format!(
            r#"{{"price_components": [{}]{restrictions}}}"#,
            components.join(",")
        ));
    }
    let mut more = String::new();
    if limited {
        for (name, from, span) in [("min_price", 0, 500), ("max_price", 600, 3_000)] {
            let cents = from + r.below(span);
            let (before, after) = (decimal(cents * 10, 3), decimal(cents * 12, 3));
            more += &format!(r#""{name}": {{"excl_vat": {before}, "incl_vat": {after}}},"#);
        }
    }
    format!(
        r#"{{"country_code": "DE", "party_id": "ALL", "id": "1", "currency": "EUR", {more} "elements": [{}],
        "last_updated": "2026-01-01T00:00:00Z"}}"#,
        elements.join(",")
    )
}

fn record(r: &mut Random) -> String {
    let start =
        Timestamp::from_unix_s(1_772_323_200 + 60 * i64::try_from(r.below(31 * 1_440)).unwrap());
    let (mut at, mut periods) = (start, Vec::new());
    for _ in 0..1 + r.below(8) {
        let hundredths = 1 + r.below(200);
        let hours = decimal(hundredths, 2);
        let mut dimensions = Vec::new();
        if r.one_in(3) {
            dimensions.push(format!(r#"{{"type": "PARKING_TIME", "volume": {hours}}}"#));
        } else {
            dimensions.push(format!(r#"{{"type": "TIME", "volume": {hours}}}"#));
            dimensions.push(format!(
                r#"{{"type": "ENERGY", "volume": {}}}"#,
                decimal(1 + r.below(20_000), 3)
            ));
            for (name, end) in [("POWER", 30), ("CURRENT", 48)] {
                let (least, more) = (r.below(end), r.below(9));
                dimensions.push(format!(r#"{{"type": "MIN_{name}", "volume": {least}}}"#));
                dimensions.push(format!(
                    r#"{{"type": "MAX_{name}", "volume": {}}}"#,
                    least + more
                ));
            }
        }
        periods.push(format!(
            r#"{{"start_date_time": "{at}", "dimensions": [{}]}}"#,
            dimensions.join(",")
        ));
        at = at.plus_s(36 * i64::try_from(hundredths).unwrap());
    }
    format!(
        r#"{{"country_code": "DE", "party_id": "ALL", "id": "1", "start_date_time": "{start}", "end_date_time": "{at}",
        "currency": "EUR", "tariffs": [], "cdr_location": {{"country": "DEU"}}, "charging_periods": [{}],
        "total_cost": {{"excl_vat": 0}}, "total_energy": 0, "total_time": 0, "last_updated": "2026-01-01T00:00:00Z"}}"#,
        periods.join(",")
    )
}

/// What the other program says, before taxes and with them, in ten-thousandths.
fn other(folder: &Path) -> Option<(i64, i64)> {
    let file = |name: &str| folder.join(name).display().to_string();
    let (cdr, tariff) = (file("cdr.json"), file("tariff.json"));
    let run = Command::new("ocpi-tariffs")
        .args([
            "price",
            "-c",
            &cdr,
            "-t",
            &tariff,
            "-z",
            "Europe/Berlin",
            "-o",
            "v221",
        ])
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&run.stdout).into_owned();
    let cell = |name: &str| {
        let line = told.lines().find(|l| l.contains(name))?;
        let text = line.split('|').nth(2)?.trim().replace(['€', ' '], "");
        match text.as_str() {
            "-" => Some(0),
            amount => amount.parse::<Money>().ok().map(|m| m.nano() / 100_000),
        }
    };
    let pair = cell("Total Cost (Excl.)").zip(cell("Total Cost (Incl.)"));
    assert!(
        pair.is_some(),
        "no total: {told}\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
    pair
}

#[test]
fn agrees_with_another_program_on_random_tariffs_and_records() {
    if Command::new("ocpi-tariffs")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: ocpi-tariffs is not on PATH");
        return;
    }
    let cases = std::env::var("COMMONWATT_OCPI_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(8);
    let mut charged = 0;
    for case in 0..cases.unwrap_or(200) {
        let (tariff, record) = (tariff(&mut random), record(&mut random));
        std::fs::write(folder.path().join("tariff.json"), &tariff).unwrap();
        std::fs::write(folder.path().join("cdr.json"), &record).unwrap();
        let (before_tax, total) = other(folder.path()).unwrap();
        let priced = Tariff::from_json(&tariff).unwrap().remove(0);
        let session = Record::from_json(&record).unwrap();
        let bill = rate(&session, &priced, Berlin).unwrap();
        if bill.lines.iter().all(|l| l.component.is_none()) {
            // Nothing had a price: `min_price` is due all the same here, as OCPI says, and nothing is there.
            assert_eq!((before_tax, total), (0, 0), "case {case}");
            continue;
        }
        charged += usize::from(total > 0);
        for (ours, theirs) in [(bill.before_tax, before_tax), (bill.total, total)] {
            let apart = (ours.nano() - theirs * 100_000).abs();
            // The other one shows four decimals.
            assert!(
                apart <= 100_000,
                "case {case}: {ours} here, {theirs} ten-thousandths there\n{tariff}\n{record}\n{}",
                bill.to_table(&session, Berlin)
            );
        }
    }
    assert!(
        charged > cases.unwrap_or(200) / 2,
        "too few cases cost anything: {charged}"
    );
}
