//! Live values for the eye: unsigned, at most once, and never older than they look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::ids::PointId;
use domain::quality::Quality;
use domain::time::Timestamp;
use runtime::mqtt::{MqttHandle, QoS};
use serde_json::json;

use crate::poll::{Fresh, LastSeen};
use crate::profile::control::Target;
use crate::profile::{Kind, Quantity};

/// Publishes live values. Without a connection they are dropped: nobody wants to see them later.
#[derive(Clone, Debug)]
pub struct Live {
    handle: MqttHandle,
    topic: String,
    connected: Arc<AtomicBool>,
}

/// What a live message says about a device besides its values.
#[derive(Clone, Copy, Debug)]
pub struct LiveDevice<'a> {
    /// The device's name.
    pub name: &'a str,
    /// What it is, which says what positive power means.
    pub kind: Kind,
    /// Its point.
    pub point: &'a PointId,
    /// Its role's word.
    pub role: &'a str,
    /// What it may be told.
    pub set_points: &'a [Target],
    /// Values older than this are not shown.
    pub max_age_ms: i64,
}

impl Live {
    /// Live values on `topic`, as long as `connected` says so.
    #[must_use]
    pub fn new(handle: MqttHandle, topic: String, connected: Arc<AtomicBool>) -> Self {
        Live {
            handle,
            topic,
            connected,
        }
    }

    /// Publishes what is fresh at `now_ms` of the watch; what is not is null.
    pub fn publish(&self, device: LiveDevice<'_>, last: &LastSeen, now_ms: i64) {
        if self.connected.load(Ordering::Relaxed) {
            let payload = live_payload(device, last, now_ms);
            // A full queue drops live values first; the next ones are on their way.
            let _ = self
                .handle
                .publish(self.topic.clone(), payload, QoS::AtMostOnce, false);
        }
    }
}

fn live_payload(device: LiveDevice<'_>, last: &LastSeen, now_ms: i64) -> String {
    fn fresh<T>(value: &Option<Fresh<T>>, now_ms: i64, max_age_ms: i64) -> Option<&T> {
        value
            .as_ref()
            .and_then(|value| value.within(now_ms, max_age_ms))
    }
    let age = device.max_age_ms;
    let set_points = device.set_points.iter().map(|target| target.word());
    let set_points: Vec<&str> = set_points.collect();
    let power = fresh(&last.power, now_ms, age).map(|p| p.w());
    let import = fresh(&last.import, now_ms, age).map(|e| e.wh());
    let export = fresh(&last.export, now_ms, age).map(|e| e.wh());
    let soc_permille = fresh(&last.soc_permille, now_ms, age);
    let state = fresh(&last.state, now_ms, age);
    let phases = [
        Quantity::Voltage,
        Quantity::VoltageL1,
        Quantity::VoltageL2,
        Quantity::VoltageL3,
    ];
    let volts = phases.iter().filter_map(|phase| {
        let seen = last.details.get(phase)?;
        seen.within(now_ms, age).copied()
    });
    let any = power.or(import).or(export).is_some() || soc_permille.is_some() || state.is_some();
    let quality = if any {
        Quality::MEASURED
    } else {
        Quality::default()
    };
    json!({
        "device": device.name,
        "kind": device.kind.word(),
        "point": device.point.as_str(),
        "role": device.role,
        "power_w": power,
        "import_wh": import,
        "export_wh": export,
        "soc_permille": soc_permille,
        "voltage_low_mv": volts.clone().min(),
        "voltage_high_mv": volts.max(),
        "state": state,
        "set_points": set_points,
        "read_at_ms": last.read_at().map(Timestamp::unix_ms),
        "quality": quality.word(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use domain::energy::{Energy, Power};

    #[test]
    fn what_is_missing_or_old_is_null_and_never_zero() {
        let point = PointId::new("home-1").unwrap();
        let device = LiveDevice {
            name: "meter",
            kind: Kind::Meter,
            point: &point,
            role: "connection",
            set_points: &[Target::ChargerSession],
            max_age_ms: 30_000,
        };
        let at = Timestamp::from_unix_s;
        let last = LastSeen {
            power: Some(Fresh::new(Power::from_w(-250), at(100), 100_000)),
            import: Some(Fresh::new(Energy::from_wh(7), at(10), 10_000)),
            details: BTreeMap::from([
                (Quantity::VoltageL1, Fresh::new(228_100, at(100), 100_000)),
                (Quantity::VoltageL2, Fresh::new(231_400, at(100), 100_000)),
                (Quantity::VoltageL3, Fresh::new(251_000, at(10), 10_000)),
            ]),
            ..LastSeen::default()
        };
        let text = live_payload(device, &last, 110_000);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["power_w"], -250);
        assert_eq!(
            (&value["voltage_low_mv"], &value["voltage_high_mv"]),
            (&json!(228_100), &json!(231_400)),
            "the third phase is old"
        );
        assert_eq!(value["set_points"], json!(["charger-session"]));
        assert!(value["import_wh"].is_null() && value["soc_permille"].is_null());
        assert_eq!(
            (&value["read_at_ms"], &value["quality"]),
            (&json!(100_000), &json!("measured"))
        );
        let late = live_payload(device, &last, 200_000);
        assert!(late.contains(r#""power_w":null"#) && late.contains(r#""quality":"missing""#));
    }
}
