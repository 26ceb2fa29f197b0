//! `[devices.limits]`: what a gateway may do to a device at all. They lie with the device's owner, in a
//! file at home, and no command gets past them.

use domain::command::{LEASE_MAX_S, Limit, Refusal, SetPoint};
use serde::{Deserialize, Serialize};

use super::program::Local;
use crate::profile::Profile;
use crate::profile::control::{CURRENT_MIN_MA, Control, Target};

/// Largest current that a charger can be allowed, in amperes.
const CURRENT_MAX_A: u32 = 80;

/// The hard limits of one device. A device without them is not controlled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// What may be controlled.
    pub set_points: Vec<Target>,
    /// Largest charging power of a battery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_charge_w: Option<u32>,
    /// Largest discharging power of a battery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_discharge_w: Option<u32>,
    /// Largest current of a charger, per phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_current_a: Option<u32>,
    /// Least current of a charger; less pauses it. Never below 6 A.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_current_a: Option<u32>,
    /// Current that a charger gets back at the end of a lease; `max_current_a` where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revert_current_a: Option<u32>,
    /// Current that a charger falls back to when nobody talks to it; `min_current_a` where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_safe_current_a: Option<u32>,
    /// Longest lease in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lease_s: Option<u32>,
    /// Control it also where it has no fail-safe, or where that cannot be set and read back: it may then
    /// keep a set-point for as long as no gateway runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_fail_safe: bool,
}

/// The limits of a device as the rules use them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// What may be controlled.
    pub targets: Vec<Target>,
    /// The numbers.
    pub local: Local,
    /// Least current of a charger.
    pub min_current_ma: i64,
    /// Longest lease.
    pub max_lease_s: i64,
    /// Whether a fail-safe that cannot be verified stands in the way.
    pub fail_safe_required: bool,
}

fn milli(amperes: Option<u32>, otherwise: u32) -> i64 {
    i64::from(amperes.unwrap_or(otherwise)) * 1000
}

impl LimitsConfig {
    /// Checks the limits of a device; the error is the key and what would be right.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self, profile: &Profile, rating_w: u32) -> Result<(), (&'static str, String)> {
        let refuse = |key, message: &str| Err((key, message.to_owned()));
        if self.set_points.is_empty() {
            return refuse(
                "set_points",
                "name what may be controlled, or leave [devices.limits] out",
            );
        }
        for target in &self.set_points {
            let (name, word) = (&profile.name, target.word());
            let controls = || profile.controls.iter().filter(|c| c.target == *target);
            if controls().next().is_none() {
                let rule = format!("the profile {name} cannot control {word}");
                return Err(("set_points", rule));
            }
            // Which of them the device has is known only when it answers.
            // A driver who was let in harms nobody when the gateway fails: the car is full at some time.
            let may_stay = self.without_fail_safe || *target == Target::ChargerSession;
            if !controls().all(Control::ends_by_itself) && !may_stay {
                let rule = format!(
                    "{name} keeps its {word} for ever when nobody talks to it. If it may, write \
                     without_fail_safe = true beside set_points: then a gateway that fails leaves the last \
                     set-point in the device until it runs again"
                );
                return Err(("set_points", rule));
            }
        }
        let is_allowed = |target| self.set_points.contains(&target);
        if is_allowed(Target::BatteryPower) {
            let (Some(charge), Some(discharge)) = (self.max_charge_w, self.max_discharge_w) else {
                return refuse(
                    "set_points",
                    "battery-power needs max_charge_w and max_discharge_w",
                );
            };
            if charge.max(discharge) > rating_w {
                return refuse(
                    "max_charge_w",
                    "max_charge_w and max_discharge_w are at most rating_w",
                );
            }
        }
        if is_allowed(Target::ChargerCurrent) {
            let Some(most) = self.max_current_a else {
                return refuse("set_points", "charger-current needs max_current_a");
            };
            if !(6..=CURRENT_MAX_A).contains(&most) {
                return refuse("max_current_a", "6 to 80 amperes per phase");
            }
            let others = [
                ("min_current_a", self.min_current_a),
                ("revert_current_a", self.revert_current_a),
                ("fail_safe_current_a", self.fail_safe_current_a),
            ];
            for (key, value) in others {
                let may_be_zero = key == "fail_safe_current_a";
                let is_fine = |a: u32| (6..=most).contains(&a) || (may_be_zero && a == 0);
                if value.is_some_and(|a| !is_fine(a)) {
                    return refuse(key, "6 A (the least that charging knows) to max_current_a");
                }
            }
        }
        if self
            .max_lease_s
            .is_some_and(|s| i64::from(s) > LEASE_MAX_S || s == 0)
        {
            return refuse("max_lease_s", "1 s to 86400 s (a day)");
        }
        Ok(())
    }

    /// The limits as rules.
    #[must_use]
    pub fn rules(&self, rating_w: u32) -> Rules {
        let most_a = self.max_current_a.unwrap_or(0);
        let min_current_ma = milli(self.min_current_a, 6).max(CURRENT_MIN_MA);
        let fail_safe_a = self.fail_safe_current_a.or(self.min_current_a);
        Rules {
            targets: self.set_points.clone(),
            local: Local {
                max_charge_w: i64::from(self.max_charge_w.unwrap_or(0)),
                max_discharge_w: i64::from(self.max_discharge_w.unwrap_or(0)),
                max_current_ma: milli(self.max_current_a, 0),
                revert_current_ma: milli(self.revert_current_a, most_a),
                fail_safe_current_ma: milli(fail_safe_a, 6),
                rating_w: i64::from(rating_w),
            },
            min_current_ma,
            max_lease_s: self.max_lease_s.map_or(LEASE_MAX_S, i64::from),
            fail_safe_required: !self.without_fail_safe,
        }
    }
}

/// The value that a device gets for the one that was asked for, and the limit that has changed it.
///
/// # Errors
/// Nothing near it is allowed, or the device cannot be told it.
pub fn decide(
    rules: &Rules,
    control: &Control,
    set_point: SetPoint,
    asked: i64,
) -> Result<(i64, Option<Limit>), Refusal> {
    let local = &rules.local;
    let mut bound = Bound {
        value: asked,
        by: None,
    };
    match set_point {
        SetPoint::BatteryPowerW => {
            bound.at_least(-local.max_charge_w, Limit::MaxCharge);
            bound.at_most(local.max_discharge_w, Limit::MaxDischarge);
            bound.at_least(control.min, Limit::Device);
            bound.at_most(control.max, Limit::Device);
        }
        SetPoint::ChargerCurrentMa => {
            bound.at_most(local.max_current_ma, Limit::MaxCurrent);
            bound.at_most(control.max, Limit::Device);
            bound.pause_below(rules.min_current_ma, Limit::MinCurrent);
            bound.pause_below(control.min, Limit::Device);
        }
        SetPoint::GenerationLimitW => bound.at_most(local.rating_w, Limit::Rating),
        SetPoint::GenerationLimitPermille | SetPoint::ChargerSession => {
            bound.at_most(control.max, Limit::Device);
        }
    }
    let is_negative = asked < 0 && set_point != SetPoint::BatteryPowerW;
    let is_lost = asked != 0 && bound.value == 0 && set_point == SetPoint::BatteryPowerW;
    if is_negative || is_lost || (bound.value == 0 && !control.takes_zero()) {
        return Err(Refusal::OutOfRange);
    }
    Ok((bound.value, bound.by))
}

/// A value on its way through the limits.
struct Bound {
    value: i64,
    by: Option<Limit>,
}

impl Bound {
    fn set(&mut self, value: i64, by: Limit) {
        self.value = value;
        self.by = Some(by);
    }

    fn at_most(&mut self, most: i64, by: Limit) {
        if self.value > most {
            self.set(most, by);
        }
    }

    fn at_least(&mut self, least: i64, by: Limit) {
        if self.value < least {
            self.set(least, by);
        }
    }

    /// Less than the least current is no charging: raised it would be more than was asked for.
    fn pause_below(&mut self, least: i64, by: Limit) {
        if self.value > 0 && self.value < least {
            self.set(0, by);
        }
    }
}
