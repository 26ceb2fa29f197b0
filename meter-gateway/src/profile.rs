//! Device profiles: what a kind of device calls its values, where they lie and what their signs mean.
//! A profile is data (`profiles/*.toml`), checked completely when it is loaded, and carries raw dumps
//! with expected values that a test decodes.

mod schema;

use domain::ids::digest_parts;

use crate::device::decode::{Exact, WordOrder, WordType};
use crate::toml_file::TomlError;

/// Most registers that one Modbus request may read.
pub const WORDS_PER_READ_MAX: u16 = 125;
/// Most points in a profile.
pub const POINTS_MAX: usize = 64;

/// The profiles that come with the gateway: name and text.
pub const BUILT_IN: [(&str, &str); 6] = [
    (
        "eastron-sdm630",
        include_str!("profiles/eastron-sdm630.toml"),
    ),
    ("keba-p30", include_str!("profiles/keba-p30.toml")),
    (
        "shelly-pro-3em",
        include_str!("profiles/shelly-pro-3em.toml"),
    ),
    (
        "sunspec-battery-802",
        include_str!("profiles/sunspec-battery-802.toml"),
    ),
    (
        "sunspec-inverter",
        include_str!("profiles/sunspec-inverter.toml"),
    ),
    ("sunspec-meter", include_str!("profiles/sunspec-meter.toml")),
];

/// Why a profile could not be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file is wrong.
    #[error("{0}")]
    File(#[from] TomlError),
    /// No profile has this name.
    #[error("there is no device profile `{name}`; known are: {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// All names there are.
        known: String,
    },
}

/// What a device is; it fixes what positive power means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A meter at a connection or line: import is positive.
    Meter,
    /// A solar inverter: generation is positive.
    Inverter,
    /// A battery: discharge is positive.
    Battery,
    /// A charging station: charging is positive.
    Charger,
}

impl Kind {
    /// The word in live messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Meter => "meter",
            Kind::Inverter => "inverter",
            Kind::Battery => "battery",
            Kind::Charger => "charger",
        }
    }
}

/// What a point tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Counter of imported energy, seen from the metering point.
    Import,
    /// Counter of exported energy, seen from the metering point.
    Export,
    /// Active power.
    Power,
    /// State of charge.
    Soc,
    /// State of operation.
    State,
    /// Maker of the device.
    Maker,
    /// Model of the device.
    Model,
    /// Serial number.
    Serial,
    /// Firmware version.
    Firmware,
}

impl Quantity {
    /// Whether the point identifies the device instead of measuring something.
    #[must_use]
    pub const fn is_identity(self) -> bool {
        matches!(
            self,
            Quantity::Maker | Quantity::Model | Quantity::Serial | Quantity::Firmware
        )
    }
}

/// Where a point's value is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A register at a fixed address.
    Register {
        /// Function code: 3 holding, 4 input.
        function: u8,
        /// Address on the wire, counted from 0.
        address: u16,
    },
    /// A register relative to a SunSpec model's ID register.
    Sunspec {
        /// The model, or none for the profile's own models.
        model: Option<u16>,
        /// Offset of the value.
        offset: u16,
        /// Offset of its scale factor.
        scale_offset: Option<u16>,
    },
    /// A key of a JSON object on an MQTT topic.
    Json {
        /// Topic behind the device's prefix.
        topic: String,
        /// Key in the object.
        key: String,
    },
}

/// One value of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// What it tells.
    pub quantity: Quantity,
    /// Where it is.
    pub source: Source,
    /// How it lies in its registers.
    pub word_type: WordType,
    /// Its word order.
    pub word_order: WordOrder,
    /// Raw value × this = Wh, W or permille in our sign.
    pub scale: Exact,
    /// Raw values that mean "not available".
    pub sentinels: Vec<u64>,
    /// Whether some devices do not have it: exception 2 is then no error.
    pub optional: bool,
    /// Names of states by number.
    pub states: Vec<(i64, String)>,
}

/// How a Modbus device wants to be spoken to.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModbusRules {
    /// Most registers per read.
    pub max_words: u16,
    /// Whether each value needs a request of its own.
    #[serde(default)]
    pub one_value_per_read: bool,
    /// Most registers between two values that may be read along without being asked for.
    #[serde(default)]
    pub max_hole_words: u16,
    /// Pause between two requests in wall milliseconds.
    pub gap_ms: u64,
    /// How long to wait for an answer in wall milliseconds.
    pub timeout_ms: u64,
    /// SunSpec models that hold the values, any of them; empty for plain Modbus.
    #[serde(default)]
    pub models: Vec<u16>,
}

/// How an MQTT device reports.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttRules {
    /// Topic behind the prefix that says whether the device is there.
    pub presence_topic: String,
    /// Payload on it when the device is there.
    pub presence_up: String,
    /// Longest time between two reports of its counters in seconds.
    pub report_interval_s: u32,
}

/// How a device is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    /// Modbus TCP with fixed addresses.
    Modbus(ModbusRules),
    /// Modbus TCP with SunSpec models.
    Sunspec(ModbusRules),
    /// JSON over MQTT.
    Mqtt(MqttRules),
}

/// A checked profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What the device is.
    pub kind: Kind,
    /// How it is reached.
    pub link: Link,
    /// Its values.
    pub points: Vec<Point>,
    /// First 8 bytes of a digest over the profile's text: which rules made a number.
    pub digest: [u8; 8],
    /// Raw examples with what they must decode to.
    pub dumps: Vec<Dump>,
}

/// Raw data of a device and the values in it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    /// Where it comes from.
    pub note: String,
    /// Register contents.
    #[serde(default)]
    pub registers: Vec<DumpRegisters>,
    /// MQTT messages as topic (behind the prefix) and payload.
    #[serde(default)]
    pub messages: Vec<(String, String)>,
    /// The values.
    pub expect: Expected,
}

/// A run of registers in a dump.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpRegisters {
    /// Function code they are read with.
    pub function: u8,
    /// Address of the first.
    pub address: u16,
    /// Words in hex, separated by white space; `0000*3` is three of them, `'text'*n` ASCII in n words.
    pub words: String,
}

/// What a dump must decode to; what is not named must have no value.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Import counter.
    pub import_wh: Option<i64>,
    /// Export counter.
    pub export_wh: Option<i64>,
    /// Power.
    pub power_w: Option<i64>,
    /// State of charge.
    pub soc_permille: Option<u16>,
    /// State.
    pub state: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
}

impl Profile {
    /// A built-in profile by its name.
    ///
    /// # Errors
    /// No built-in profile has this name.
    pub fn built_in(name: &str) -> Result<Self, ProfileError> {
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Profile::from_toml(text, &format!("{name}.toml")),
            None => Err(ProfileError::Unknown {
                name: name.to_owned(),
                known: BUILT_IN.map(|(known, _)| known).join(", "),
            }),
        }
    }

    /// Reads and checks a profile.
    ///
    /// # Errors
    /// Says file, line and key of the first mistake.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, ProfileError> {
        let digest = digest_parts("profile", &[text.as_bytes()]);
        let mut profile = schema::read(text, file)?;
        profile.digest.copy_from_slice(&digest[..8]);
        Ok(profile)
    }

    /// Whether the device has a counter of energy, so that readings can be made of it.
    #[must_use]
    pub fn counts_energy(&self) -> bool {
        self.points
            .iter()
            .any(|p| matches!(p.quantity, Quantity::Import | Quantity::Export))
    }

    /// The coarsest step of its counters in Wh, as far as the profile can know it.
    #[must_use]
    pub fn resolution_wh(&self) -> i64 {
        // A float of 200 MWh steps by 16 Wh; a SunSpec scale factor is hardly ever above 2.
        const FLOAT_STEP_WH: i64 = 16;
        const SUNSPEC_STEP_WH: i64 = 100;
        let counters = self
            .points
            .iter()
            .filter(|p| matches!(p.quantity, Quantity::Import | Quantity::Export));
        let step = |p: &Point| match (&p.source, p.word_type) {
            (Source::Sunspec { .. }, _) => SUNSPEC_STEP_WH,
            (_, WordType::F32) => FLOAT_STEP_WH,
            _ => p.scale.rounded().unwrap_or(1).abs().max(1),
        };
        counters.map(step).max().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(change: impl Fn(&str) -> String) -> String {
        let (_, text) = BUILT_IN[0];
        Profile::from_toml(&change(text), "x.toml")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn all_built_in_profiles_load_and_differ() {
        let mut digests = Vec::new();
        for (name, _) in BUILT_IN {
            let profile = Profile::built_in(name).unwrap();
            assert_eq!(profile.name, name);
            assert!(!profile.dumps.is_empty(), "{name} has no dump");
            digests.push(profile.digest);
        }
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), BUILT_IN.len());
        let unknown = Profile::built_in("sdm").unwrap_err().to_string();
        assert!(
            unknown.contains("`sdm`") && unknown.contains("keba-p30"),
            "{unknown}"
        );
    }

    #[test]
    fn mistakes_are_named_with_line_and_key() {
        let cases: [(&str, &str, &str); 6] = [
            (
                "max_words = 80",
                "max_words = 800",
                "key `max_words`: 1 to 125",
            ),
            (
                "max_words = 80",
                "max_word = 80",
                "key `max_word`: unknown field",
            ),
            (
                "unit = \"kWh\"",
                "unit = \"V\"",
                "key `unit`: `V` is no unit of import",
            ),
            ("type = \"f32\"", "type = \"f23\"", "unknown variant"),
            (
                "function = 4",
                "function = 5",
                "key `function`: 3 (holding) or 4 (input)",
            ),
            (
                "positive = \"import\"",
                "positive = \"charge\"",
                "key `positive`: `charge`",
            ),
        ];
        for (from, to, expected) in cases {
            let error = error_of(|text| text.replacen(from, to, 1));
            assert!(
                error.starts_with("x.toml, line ") && error.contains(expected),
                "{error}"
            );
        }
    }
}
