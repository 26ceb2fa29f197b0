//! What this program makes of a few small runs, as a hash. Two programs of one version that differ in how they
//! simulate differ in it, however they were built; what changes no result (a page, a comment) does not change it.
//!
//! It is part of a run's id. A revision of the sources would change with every comment, and an archive without its
//! history has none; this is the same wherever and whenever the program is built.

use std::sync::OnceLock;

use domain::ids::{digest_parts, to_hex};

use super::engine::{self, Job};
use super::folder::outcome_sha256;
use super::homes::homes;
use super::scenario::{RunScenario, Strategy};
use super::tables;

/// A street with every device, fault and wire, for a day of hours.
const STREET: &str = r#"
name = "behaviour"
evidence = "none"
site = { latitude = 51.0, longitude = 10.0, start = "2026-03-29", days = 1, interval_s = 3600 }
faults = { lost_permille = 20, late_permille = 20, tampered_permille = 10 }
network = { transformer_kva = 100 }
[[homes]]
id = "heat"
yearly_load_kwh = 3000
heat_pump = { electric_w = 2500.0 }
ev = { battery_wh = 50000, max_power_w = 11000, visits = "home", policy = "deadline" }
[[homes]]
id = "roof"
yearly_load_kwh = 4000
export_limit_w = 3000
load = [{ source = "h25", share = 0.3 }, { source = "h0", share = 0.3 }, { source = "generator", share = 0.4 }]
pv = { peak_w = 5000, inverter_w = 6000, tilt_deg = 30.0, azimuth_deg = 150.0, planes = [{ peak_w = 2000, tilt_deg = 20.0, azimuth_deg = 260.0 }] }
[[groups]]
prefix = "home"
homes = 4
yearly_load_kwh = [2000, 5000]
pv_percent = 75
battery_percent = 75
ev_percent = 50
ev_policy = "tariff"
"#;

/// The mechanisms that a run can name.
pub const MECHANISMS: [&str; 11] = [
    "uniform-price",
    "pay-as-bid",
    "trade-reduction",
    "continuous",
    "huang",
    "muda",
    "vcg",
    "mid-market-rate",
    "supply-demand-ratio",
    "bill-sharing",
    "none",
];

/// Other skies and forecasts, each as keys of `[site]` and of `[forecast]`.
const SKIES: [(&str, &str); 3] = [
    (
        "cloudiness = 0.3\nsky = \"hay-davies\"",
        "kind = \"perfect\"",
    ),
    ("clear_sky = \"ineichen\"", "kind = \"growing\""),
    ("altitude_m = 500.0", "kind = \"persistence\""),
];

/// The hash, in hex; computed once in a process.
pub fn behaviour() -> &'static str {
    static FOUND: OnceLock<String> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut parts = vec![tables::dictionary()];
        for mechanism in MECHANISMS {
            parts.push(result(|scenario| {
                mechanism.clone_into(&mut scenario.market.mechanism)
            }));
        }
        for strategy in Strategy::ALL {
            parts.push(result(|scenario| scenario.market.strategy = strategy));
        }
        for (site, forecast) in SKIES {
            let site = site.replace('\n', ", ");
            let text = STREET.replacen("interval_s", &format!("{site}, interval_s"), 1)
                + &format!("[forecast]\n{forecast}\n");
            parts.push(outcome(RunScenario::parse("behaviour", &text)));
        }
        let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        to_hex(&digest_parts("commonwatt behaviour", &parts)[..8])
    })
}

fn result(change: impl FnOnce(&mut RunScenario)) -> String {
    let scenario = RunScenario::parse("behaviour", STREET);
    outcome(scenario.map(|mut scenario| {
        change(&mut scenario);
        scenario
    }))
}

/// The hash of what a scenario comes to, or why it comes to nothing: that is behaviour too.
fn outcome(scenario: Result<RunScenario, super::RunError>) -> String {
    let ran = scenario.and_then(|scenario| {
        let job = Job {
            scenario,
            seed: 1,
            prices: None,
        };
        let homes = homes(&job.scenario)?;
        engine::run(&job, homes, 1, None, &mut |_, _| ())
    });
    match ran {
        Ok(outcome) => outcome_sha256(&outcome),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_small_run_comes_to_something_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for strategy in Strategy::ALL {
            let found = result(|scenario| scenario.market.strategy = strategy);
            assert_eq!(found.len(), 64, "{strategy:?}: {found}");
            seen.insert(found);
        }
        for mechanism in MECHANISMS {
            let found = result(|scenario| mechanism.clone_into(&mut scenario.market.mechanism));
            assert_eq!(found.len(), 64, "{mechanism}: {found}");
            seen.insert(found);
        }
        assert!(seen.len() >= 18, "{}", seen.len());
        assert_eq!(behaviour().len(), 16);
    }
}
