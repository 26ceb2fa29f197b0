//! What the gateways say about this moment: unsigned, for display only, never for money.

use std::collections::HashMap;
use std::sync::Mutex;

use domain::ids::GatewayId;
use domain::time::Timestamp;
use serde::Deserialize;

use crate::view::Fresh;

/// Most devices remembered; a further one is left out.
const DEVICES_MAX: usize = 10_000;

/// What a device is, as its gateway's profile says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeviceKind {
    /// A meter: import above zero.
    Meter,
    /// A solar inverter: generation above zero.
    Inverter,
    /// A battery: discharge above zero.
    Battery,
    /// A charger: what the car takes, above zero.
    Charger,
}

/// One device's message on the `live` topic. Fields we do not show are not read.
#[derive(Clone, Debug, Deserialize)]
struct Message {
    device: String,
    kind: DeviceKind,
    power_w: Option<i64>,
    soc_permille: Option<i64>,
    /// Of all phases, the least and the most.
    voltage_low_mv: Option<i64>,
    voltage_high_mv: Option<i64>,
    #[serde(default)]
    set_points: Vec<String>,
    read_at_ms: i64,
}

/// The last live values of one device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    pub(crate) kind: DeviceKind,
    pub(crate) power_w: Option<Fresh>,
    pub(crate) soc_permille: Option<i64>,
    /// The least and the most between a phase and neutral.
    voltage: Option<(i64, i64)>,
    /// When the gateway read them.
    pub(crate) read_at: Timestamp,
    /// Whether it is a charger that lets drivers in by the platform's word.
    pub(crate) lets_in: bool,
}

/// The last live values of every device.
#[derive(Default)]
pub(crate) struct Live {
    devices: Mutex<HashMap<GatewayId, HashMap<String, Device>>>,
}

impl Live {
    /// Takes a message in; nonsense is left out.
    pub(crate) fn take(&self, gateway: GatewayId, payload: &[u8]) {
        let Ok(message) = serde_json::from_slice::<Message>(payload) else {
            return;
        };
        let read_at = Timestamp::from_unix_ms(message.read_at_ms);
        let device = Device {
            kind: message.kind,
            power_w: message.power_w.map(|value| Fresh { value, read_at }),
            soc_permille: message.soc_permille,
            voltage: message.voltage_low_mv.zip(message.voltage_high_mv),
            read_at,
            lets_in: message.set_points.iter().any(|s| s == "charger-session"),
        };
        let mut gateways = self
            .devices
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let known: usize = gateways.values().map(HashMap::len).sum();
        let devices = gateways.entry(gateway).or_default();
        if known < DEVICES_MAX || devices.contains_key(&message.device) {
            devices.insert(message.device, device);
        }
    }

    /// Of the meters' voltages since then, the one that is furthest from 230 V.
    pub(crate) fn voltage_mv(&self, since: Timestamp) -> Option<i64> {
        let gateways = self
            .devices
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let devices = gateways.values().flat_map(HashMap::values);
        let meters = devices.filter(|d| d.kind == DeviceKind::Meter && d.read_at >= since);
        let ends = meters
            .filter_map(|d| d.voltage)
            .flat_map(|(low, high)| [low, high]);
        ends.max_by_key(|mv| mv.abs_diff(230_000))
    }

    /// The chargers behind a gateway, by name.
    pub(crate) fn chargers(&self, gateway: &GatewayId) -> Vec<(String, Device)> {
        let gateways = self
            .devices
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let devices = gateways.get(gateway).into_iter().flatten();
        let chargers = devices.filter(|(_, device)| device.kind == DeviceKind::Charger);
        let mut named: Vec<_> = chargers.map(|(name, d)| (name.clone(), *d)).collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        named
    }

    /// When each device behind a gateway was read last, by its name.
    pub(crate) fn heard(&self, gateway: &GatewayId) -> Vec<(String, Timestamp)> {
        let gateways = self
            .devices
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let devices = gateways.get(gateway).into_iter().flatten();
        let heard = devices.filter_map(|(name, d)| Some((name.clone(), d.power_w?.read_at)));
        heard.collect()
    }

    /// Whether a device is a charger that lets drivers in by the platform's word, as its gateway says.
    pub(crate) fn lets_in(&self, gateway: &GatewayId, device: &str) -> bool {
        let mut chargers = self.chargers(gateway).into_iter();
        chargers.any(|(name, charger)| name == device && charger.lets_in)
    }

    /// The device of a name behind a gateway.
    pub(crate) fn device(&self, gateway: &GatewayId, name: &str) -> Option<Device> {
        let gateways = self
            .devices
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        gateways.get(gateway)?.get(name).copied()
    }

    /// The devices behind a gateway.
    pub(crate) fn of(&self, gateway: &GatewayId) -> Vec<Device> {
        let gateways = self
            .devices
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        gateways
            .get(gateway)
            .map(|devices| devices.values().copied().collect())
            .unwrap_or_default()
    }
}
