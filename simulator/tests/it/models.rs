//! The device models beside reference data of other tools, where it is present beside the project: PV against
//! pvlib, load profiles against demandlib, generated homes and charging sessions against metered ones.

use std::path::PathBuf;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use simulator::model::bdew::{DayType, Profile, ProfileYear, german_holidays};
use simulator::model::clear_sky::{Light, closure, erbs, haurwitz_w_per_m2, ineichen};
use simulator::model::plane::{ALBEDO, Plane, PlaneNow};
use simulator::model::pv::{Cooling, Inverter, LOSSES, Plant};
use simulator::model::sun::{Place, Sun};
use simulator::model::weather::Weather;

/// A file of the reference data, or a sentence that it is not there.
fn reference(name: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data")
        .join(name);
    let text = std::fs::read_to_string(&path);
    if text.is_err() {
        println!("skipped: {name} is not beside the project");
    }
    text.ok()
}

/// Rows of a CSV file as numbers by column name; cells that are no numbers are NaN.
struct Table<'a> {
    names: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Table<'a> {
    fn new(text: &'a str) -> Table<'a> {
        let mut lines = text.lines();
        Table {
            names: lines.next().unwrap().split(',').collect(),
            rows: lines.map(|line| line.split(',').collect()).collect(),
        }
    }

    fn text(&self, row: &[&'a str], name: &str) -> &'a str {
        row[self.names.iter().position(|n| *n == name).unwrap()]
    }

    fn number(&self, row: &[&'a str], name: &str) -> f64 {
        self.text(row, name).parse().unwrap_or(f64::NAN)
    }
}

fn unix_s(text: &str) -> i64 {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%MZ").unwrap();
    time.and_utc().timestamp()
}

/// Greatest differences seen, by name, and what is allowed.
#[derive(Default)]
struct Worst(Vec<(&'static str, f64, String)>);

impl Worst {
    fn see(&mut self, name: &'static str, difference: f64, at: &str) {
        match self.0.iter_mut().find(|entry| entry.0 == name) {
            Some(entry) if difference <= entry.1 => {}
            Some(entry) => *entry = (name, difference, at.to_owned()),
            None => self.0.push((name, difference, at.to_owned())),
        }
    }

    fn within(&self, limits: &[(&str, f64)]) {
        for (name, difference, at) in &self.0 {
            println!("{name}: {difference:.5} at {at}");
            let limit = limits.iter().find(|limit| limit.0 == *name).unwrap().1;
            assert!(
                *difference <= limit,
                "{name} is off by {difference} at {at}, more than {limit}"
            );
        }
        assert_eq!(self.0.len(), limits.len());
    }
}

fn place(site: &str) -> (Place, f64) {
    let (latitude_deg, longitude_deg, altitude_m, turbidity) = match site {
        "berlin" => (52.52, 13.405, 34.0, 2.5),
        "sydney" => (-33.8688, 151.2093, 39.0, 3.2),
        other => panic!("unknown site {other}"),
    };
    let place = Place {
        latitude_deg,
        longitude_deg,
        altitude_m,
    };
    (place, turbidity)
}

fn five_kw() -> Plant {
    let plant = Plant::new(5000.0, Inverter::new(4000.0, 0.96));
    assert!((plant.losses - LOSSES).abs() < 1e-12);
    plant
}

#[test]
fn clear_sky_and_pv_are_those_of_pvlib() {
    let Some(text) = reference("reference/dev_clearsky_pvwatts.csv") else {
        return;
    };
    let table = Table::new(&text);
    let mut worst = Worst::default();
    for row in &table.rows {
        let (place, turbidity) = place(table.text(row, "site"));
        let at = format!("{} {}", table.text(row, "site"), table.text(row, "utc"));
        let sun = Sun::at(unix_s(table.text(row, "utc")), place).unwrap();
        let known = |name: &str| table.number(row, name);
        worst.see("zenith", (sun.true_zenith_deg - known("zenith")).abs(), &at);
        worst.see(
            "apparent zenith",
            (sun.zenith_deg - known("apparent_zenith")).abs(),
            &at,
        );
        let turn = (sun.azimuth_deg - known("azimuth") + 540.0).rem_euclid(360.0) - 180.0;
        worst.see(
            "azimuth",
            (turn * sun.true_zenith_deg.to_radians().sin()).abs(),
            &at,
        );
        let outside = sun.outside_w_per_m2 / known("dni_extra_spencer") - 1.0;
        worst.see("outside", outside.abs(), &at);
        // Relative to a full sun of 1000 W/m².
        let off = |found: f64, name: &str| (found - known(name)).abs() / 1000.0;
        worst.see("haurwitz", off(haurwitz_w_per_m2(sun), "ghi_haurwitz"), &at);
        let light = ineichen(sun, place, turbidity);
        worst.see("ineichen global", off(light.global, "ghi_ineichen"), &at);
        worst.see("ineichen beam", off(light.beam, "dni_ineichen"), &at);
        worst.see("ineichen diffuse", off(light.diffuse, "dhi_ineichen"), &at);
        let to_equator = if place.latitude_deg > 0.0 { 180.0 } else { 0.0 };
        for (name, pac, tilt, azimuth) in [
            ("poa_s30", "pac_w_s30", 30.0, to_equator),
            ("poa_e15", "pac_w_e15", 15.0, 90.0),
            ("poa_w15", "pac_w_w15", 15.0, 270.0),
        ] {
            let plane = Plane::new(tilt, azimuth, ALBEDO)
                .isotropic(sun)
                .light_w_per_m2(light);
            worst.see("plane", off(plane, name), &at);
            let ac_w = five_kw().ac_w(plane, Cooling::new(15.0, 2.0));
            worst.see("ac", (ac_w - known(pac)).abs() / 5000.0, &at);
        }
    }
    worst.within(&[
        ("zenith", 0.01),
        ("apparent zenith", 0.01),
        ("azimuth", 0.01),
        ("outside", 1e-6),
        ("haurwitz", 0.005),
        ("ineichen global", 0.005),
        ("ineichen beam", 0.005),
        ("ineichen diffuse", 0.005),
        ("plane", 0.005),
        ("ac", 0.005),
    ]);
}

#[test]
fn measured_light_becomes_the_power_that_pvlib_finds() {
    let Some(text) = reference("reference/dev_aachen_2021_jan_jun_transposition.csv") else {
        return;
    };
    let Some(weather) = reference("weather_dwd_aachen_2021_10min.csv") else {
        return;
    };
    let weather = Weather::read(&weather, "aachen", 0, None).unwrap();
    let table = Table::new(&text);
    let mut worst = Worst::default();
    let (mut ours, mut theirs) = (0.0, 0.0);
    for row in &table.rows {
        let at = table.text(row, "utc");
        let known = |name: &str| table.number(row, name);
        let sun = Sun::standing(
            known("zenith_mid"),
            known("azimuth_mid"),
            simulator::model::sun::outside_w_per_m2(
                NaiveDate::parse_from_str(&at[..10], "%Y-%m-%d")
                    .unwrap()
                    .ordinal(),
            ),
        )
        .unrefracted();
        let air = weather.row(unix_s(at)).unwrap();
        let light = closure(known("ghi"), known("dhi"), sun);
        let off = |found: f64, name: &str| (found - known(name)).abs() / 1000.0;
        worst.see("beam by closure", off(light.beam, "dni_closure"), at);
        let split = erbs(known("ghi"), sun);
        worst.see("diffuse by erbs", off(split.diffuse, "dhi_erbs"), at);
        let plane = Plane::new(35.0, 180.0, ALBEDO);
        let cooling = Cooling::new(air.air_c, air.wind_ms);
        for (now, poa, pac) in [
            (plane.isotropic(sun), "poa_isotropic", "pac_w_isotropic"),
            (
                plane.hay_davies(sun, light.beam),
                "poa_haydavies",
                "pac_w_haydavies",
            ),
        ] {
            let (on_plane, ac_w) = power(now, light, cooling);
            worst.see("plane", off(on_plane, poa), at);
            worst.see("ac", (ac_w - known(pac)).abs() / 5000.0, at);
            ours += ac_w;
            theirs += known(pac);
        }
    }
    println!("yield: {:.5}", ours / theirs);
    assert!((ours / theirs - 1.0).abs() < 0.001);
    worst.within(&[
        ("beam by closure", 0.005),
        ("diffuse by erbs", 0.005),
        ("plane", 0.005),
        ("ac", 0.005),
    ]);
}

fn power(now: PlaneNow, light: Light, cooling: Cooling) -> (f64, f64) {
    let on_plane = now.light_w_per_m2(light);
    (on_plane, five_kw().ac_w(on_plane, cooling))
}

#[test]
fn load_profiles_are_those_of_demandlib() {
    let Some(text) = reference("reference/dev_bdew_slp_2024_15min_kwh_per_1000kwh.csv") else {
        return;
    };
    let table = Table::new(&text);
    let mut worst = Worst::default();
    for (name, profile) in [
        ("h0", Profile::H0Static),
        ("h0_dyn", Profile::H0),
        ("h25", Profile::H25),
    ] {
        let year = ProfileYear::new(profile, 2024, german_holidays(2024));
        for row in &table.rows {
            let at = table.text(row, "local_standard_time");
            let time = NaiveDateTime::parse_from_str(at, "%Y-%m-%d %H:%M:%S").unwrap();
            // demandlib takes 24 and 31 December as working days, the profiles' rules as Saturdays.
            if DayType::of(time.date(), &[]) == DayType::Saturday
                && time.weekday().num_days_from_monday() < 5
            {
                continue;
            }
            let quarter = usize::try_from(time.hour() * 4 + time.minute() / 15).unwrap();
            let ratio = year.kwh(time.date(), quarter) / table.number(row, name);
            worst.see(name, (ratio - 1.0).abs(), at);
        }
    }
    // demandlib's own factor for H0 has another first coefficient and counts fractions of days from 0.
    worst.within(&[("h0", 1e-3), ("h0_dyn", 7e-3), ("h25", 1e-3)]);
}
