//! What Home Assistant is told about a value: the keys of its MQTT sensor, and no others.

use domain::ids::{GatewayId, digest_parts, to_hex};
use serde_json::{Value, json};

use crate::device::Identity;
use crate::profile::{Dimension, Kind, Quantity};

/// A device, for its descriptions.
#[derive(Debug)]
pub(super) struct About {
    /// Unique in the home.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) profile: String,
    pub(super) expire_s: i64,
}

/// One value of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sensor {
    pub(super) quantity: Quantity,
}

/// How Home Assistant shows a kind of number.
struct Looks {
    device_class: Option<&'static str>,
    state_class: Option<&'static str>,
    unit: Option<&'static str>,
    /// What our unit is divided by to give theirs.
    divisor: i64,
    /// What our unit is called at the end of a key.
    suffix: &'static str,
}

const fn looks(
    device_class: &'static str,
    unit: &'static str,
    divisor: i64,
    suffix: &'static str,
) -> Looks {
    Looks {
        device_class: Some(device_class),
        state_class: Some("measurement"),
        unit: Some(unit),
        divisor,
        suffix,
    }
}

impl Sensor {
    /// How a quantity is shown; what identifies the device or its driver is not.
    pub(super) fn of(quantity: Quantity) -> Option<Self> {
        let is_shown = quantity == Quantity::State || quantity.dimension() != Dimension::Text;
        is_shown.then_some(Sensor { quantity })
    }

    /// Whether a device of its kind has it, so that it is worth showing before it has a value.
    pub(super) fn is_main(self) -> bool {
        matches!(
            self.quantity,
            Quantity::Import | Quantity::Export | Quantity::Power | Quantity::Soc | Quantity::State
        )
    }

    /// Whether it only rises, but for resets.
    pub(super) fn is_counter(self) -> bool {
        self.looks().state_class == Some("total_increasing")
    }

    /// How many of its units make a watt-hour.
    pub(super) fn per_wh(self) -> i64 {
        self.looks().divisor
    }

    fn looks(self) -> Looks {
        let bare = |state_class, suffix| Looks {
            device_class: None,
            state_class,
            unit: None,
            divisor: 1,
            suffix,
        };
        let counter = |looks| Looks {
            state_class: Some("total_increasing"),
            ..looks
        };
        match (self.quantity.dimension(), self.quantity) {
            (Dimension::Counter, _) => counter(looks("energy", "Wh", 1, "_wh")),
            (Dimension::Energy, Quantity::Capacity) => looks("energy_storage", "Wh", 1000, "_mwh"),
            (Dimension::Energy, _) => counter(looks("energy", "Wh", 1000, "_mwh")),
            (Dimension::WholePower, _) => looks("power", "W", 1, "_w"),
            (Dimension::Power, _) => looks("power", "W", 1000, "_mw"),
            (Dimension::Apparent, _) => looks("apparent_power", "VA", 1000, "_mva"),
            (Dimension::Reactive, _) => looks("reactive_power", "var", 1000, "_mvar"),
            (Dimension::Voltage, _) => looks("voltage", "V", 1000, "_mv"),
            (Dimension::Current, _) => looks("current", "A", 1000, "_ma"),
            (Dimension::Frequency, _) => looks("frequency", "Hz", 1000, "_mhz"),
            (Dimension::Temperature, _) => looks("temperature", "°C", 1000, "_millicelsius"),
            (Dimension::Time, _) => looks("duration", "s", 1000, "_ms"),
            (Dimension::Permille, _) => looks("battery", "%", 10, "_permille"),
            (Dimension::Ratio, Quantity::Health) => Looks {
                device_class: None,
                ..looks("", "%", 10, "_permille")
            },
            (Dimension::Ratio, _) => Looks {
                unit: None,
                ..looks("power_factor", "", 1000, "_permille")
            },
            (Dimension::Code, _) => bare(Some("measurement"), ""),
            (Dimension::Text, _) => bare(None, ""),
        }
    }

    /// Its key in the live message.
    pub(super) fn key(self) -> String {
        self.quantity.word().replace('-', "_") + self.looks().suffix
    }

    fn name(self) -> String {
        match self.quantity {
            Quantity::Import => return "Energy imported".to_owned(),
            Quantity::Export => return "Energy exported".to_owned(),
            Quantity::Soc => return "State of charge".to_owned(),
            _ => {}
        }
        let spaced = self.quantity.word().replace('-', " ");
        let mut letters = spaced.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        let name: String = first.into_iter().chain(letters).collect();
        name.replace(" l1", " L1")
            .replace(" l2", " L2")
            .replace(" l3", " L3")
    }

    /// The description.
    pub(super) fn config(
        self,
        about: &About,
        (live_topic, state_topic): (&str, &str),
        identity: Option<&Identity>,
    ) -> Value {
        let (looks, key) = (self.looks(), self.key());
        let template = match looks.divisor {
            1 => format!("{{{{ value_json.{key} }}}}"),
            divisor => format!(
                "{{{{ value_json.{key} / {divisor} if value_json.{key} is not none else none }}}}"
            ),
        };
        let mut config = json!({
            "name": self.name(),
            "unique_id": format!("{}_{key}", about.id),
            "state_topic": live_topic,
            "value_template": template,
            "availability_topic": state_topic,
            "expire_after": about.expire_s,
            "device": device(about, identity),
            "origin": { "name": "commonwatt", "sw_version": env!("CARGO_PKG_VERSION") },
        });
        let optional = [
            ("device_class", looks.device_class),
            ("state_class", looks.state_class),
            ("unit_of_measurement", looks.unit),
            ("entity_category", self.category()),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                config[key] = json!(value);
            }
        }
        config
    }

    /// What says how the device is set up rather than what it does stands apart.
    fn category(self) -> Option<&'static str> {
        let is_setting = matches!(
            self.quantity,
            Quantity::MaxCurrent
                | Quantity::CableCurrent
                | Quantity::FailsafeCurrent
                | Quantity::FailsafeTime
                | Quantity::Health
                | Quantity::Capacity
                | Quantity::MaxChargePower
                | Quantity::MaxDischargePower
        );
        (is_setting || self.quantity.dimension() == Dimension::Code).then_some("diagnostic")
    }
}

impl About {
    pub(super) fn new(
        gateway: &GatewayId,
        (name, profile): (&str, &str),
        kind: Kind,
        expire_s: i64,
    ) -> Self {
        About {
            id: format!("commonwatt_{}_{}", slug(gateway.as_str()), slug(name)),
            name: name.to_owned(),
            kind,
            profile: profile.to_owned(),
            expire_s,
        }
    }

    /// Where a value of the device is described.
    pub(super) fn config_topic(&self, prefix: &str, sensor: Sensor) -> String {
        format!("{prefix}/sensor/{}/{}/config", self.id, sensor.key())
    }
}

fn device(about: &About, identity: Option<&Identity>) -> Value {
    let mut device = json!({
        "identifiers": [about.id],
        "name": about.name,
        "model": format!("{} ({})", about.profile, about.kind.word()),
    });
    let Some(identity) = identity else {
        return device;
    };
    let known = [
        ("manufacturer", &identity.maker),
        ("model", &identity.model),
        ("serial_number", &identity.serial),
        ("sw_version", &identity.firmware),
    ];
    for (key, text) in known {
        if !text.is_empty() {
            device[key] = json!(text);
        }
    }
    device
}

/// A name as a part of topics and ids: letters, digits, `-` and `_`. Where that changes it, a digest
/// keeps two names apart.
pub(super) fn slug(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.chars().all(is_plain) {
        return name.to_owned();
    }
    let plain: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    let digest = digest_parts("slug", &[name.as_bytes()]);
    format!("{plain}_{}", to_hex(&digest[..4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of an MQTT sensor and of its device and origin, as Home Assistant documents them.
    const SENSOR_KEYS: [&str; 13] = [
        "availability_topic",
        "device",
        "device_class",
        "entity_category",
        "expire_after",
        "name",
        "origin",
        "state_class",
        "state_topic",
        "suggested_display_precision",
        "unique_id",
        "unit_of_measurement",
        "value_template",
    ];
    const DEVICE_KEYS: [&str; 6] = [
        "identifiers",
        "manufacturer",
        "model",
        "name",
        "serial_number",
        "sw_version",
    ];
    /// Device classes with the units that Home Assistant takes for them.
    const CLASSES: [(&str, &[&str]); 12] = [
        ("apparent_power", &["VA"]),
        ("battery", &["%"]),
        ("current", &["A", "mA"]),
        ("duration", &["d", "h", "min", "s", "ms"]),
        ("energy", &["Wh", "kWh", "MWh"]),
        ("energy_storage", &["Wh", "kWh", "MWh"]),
        ("frequency", &["Hz", "kHz"]),
        ("power", &["W", "kW"]),
        ("power_factor", &["", "%"]),
        ("reactive_power", &["var", "kvar"]),
        ("temperature", &["°C"]),
        ("voltage", &["V", "mV"]),
    ];

    fn about() -> About {
        let gateway = GatewayId::new("gw-1").unwrap();
        About::new(&gateway, ("Zähler 1", "eastron-sdm630"), Kind::Meter, 60)
    }

    #[test]
    fn every_quantity_is_described_with_documented_keys_and_units() {
        let mut ids = std::collections::BTreeSet::new();
        for sensor in Quantity::ALL.iter().filter_map(|q| Sensor::of(*q)) {
            let config = sensor.config(&about(), ("live", "state"), None);
            for key in config.as_object().unwrap().keys() {
                assert!(SENSOR_KEYS.contains(&key.as_str()), "{key}");
            }
            for key in config["device"].as_object().unwrap().keys() {
                assert!(DEVICE_KEYS.contains(&key.as_str()), "{key}");
            }
            if let Some(class) = config["device_class"].as_str() {
                let known = CLASSES.iter().find(|(name, _)| *name == class);
                let unit = config["unit_of_measurement"].as_str().unwrap_or("");
                assert!(known.unwrap().1.contains(&unit), "{class} in `{unit}`");
            }
            assert!(ids.insert(config["unique_id"].to_string()), "{config}");
        }
        assert!(ids.len() > 30);
    }

    #[test]
    fn a_counter_and_a_device_look_as_they_should() {
        let import = Sensor::of(Quantity::Import).unwrap();
        let identity = Identity {
            maker: "Eastron".into(),
            serial: "17".into(),
            ..Identity::default()
        };
        let config = import.config(&about(), ("live", "state"), Some(&identity));
        assert_eq!(config["state_class"], "total_increasing");
        assert_eq!(config["value_template"], "{{ value_json.import_wh }}");
        assert_eq!(config["device"]["serial_number"], "17");
        assert_eq!(config["device"]["model"], "eastron-sdm630 (meter)");
        let topic = about().config_topic("homeassistant", import);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
        assert!(topic.chars().all(plain), "{topic}");
        assert!(topic.starts_with("homeassistant/sensor/commonwatt_gw-1_Z_hler_1_"));
        assert_ne!(slug("a b"), slug("a_b"));
        let tags = [Quantity::Tag, Quantity::Vehicle, Quantity::Serial];
        assert!(
            tags.into_iter().all(|q| Sensor::of(q).is_none()),
            "personal"
        );
    }
}
