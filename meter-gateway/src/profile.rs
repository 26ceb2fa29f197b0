//! Device profiles: what a kind of device calls its values, where they lie and what their signs mean.
//! A profile is data (`profiles/*.toml`, or a file of the operator's own), checked completely when it is
//! loaded, and carries raw dumps with expected values that a test decodes.
//!
//! One file may describe several parts of a device, such as the meter, the inverter and the battery
//! behind one hybrid inverter. What is loaded is always one part, as if it were a device of its own.

pub mod control;
pub mod mqtt;
mod quantity;
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domain::ids::digest_parts;

use crate::device::decode::{Encoding, Exact, WordOrder, WordType};
use crate::device::dump;
use crate::device::sunspec::table;
use crate::device::telegram::{Language, Obis, TelegramRules};
use crate::ocpp;
use crate::toml_file::TomlError;

pub use mqtt::{MessagePlace, MqttRules};
pub use quantity::{Dimension, Quantity};

/// Most registers that one Modbus request may read.
pub const WORDS_PER_READ_MAX: u16 = 125;
/// Most points in a profile.
pub const POINTS_MAX: usize = 128;
/// Longest profile file, in bytes.
pub const FILE_MAX_BYTES: u64 = 256 * 1024;

/// Name and text of profiles, by the names of their files.
macro_rules! files {
    ($($name:literal,)*) => {
        &[$(($name, include_str!(concat!("profiles/", $name, ".toml"))),)*]
    };
}

/// The profiles that come with the gateway: name and text.
pub const BUILT_IN: &[(&str, &str)] = files![
    "abb-terra-ac",
    "alfen-eve",
    "carlo-gavazzi-em111",
    "carlo-gavazzi-em24-rs485",
    "carlo-gavazzi-em340",
    "chint-dtsu666",
    "dsmr-p1",
    "dsmr-p1-v3",
    "eastron-sdm120",
    "eastron-sdm630",
    "fronius-gen24",
    "go-e-charger",
    "go-e-charger-mqtt",
    "goodwe-et-hybrid",
    "heidelberg-energy-control",
    "huawei-sun2000-hybrid",
    "janitza-b23",
    "keba-p30",
    "keba-p40-before-1.2.1",
    "mennekes-amtron-compact",
    "openevse",
    "phoenix-contact-charx",
    "phoenix-contact-em-eth",
    "phoenix-contact-ev-eth",
    "schneider-iem3000",
    "shelly-3em-gen1",
    "shelly-em-gen1",
    "shelly-pm-gen2",
    "shelly-pm1-gen2",
    "shelly-pro-3em",
    "shelly-pro-3em-monophase",
    "shelly-pro-3em-rpc",
    "sma-tripower-se-hybrid",
    "sml-edl",
    "solaredge-hybrid",
    "sungrow-sh-hybrid",
    "sunspec-battery-802",
    "sunspec-der",
    "sunspec-inverter",
    "sunspec-meter",
    "tasmota-energy",
    "tasmota-sml",
    "victron-ev-charging-station",
    "victron-gx",
    "zigbee2mqtt-meter",
];

/// Why a profile could not be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file is wrong.
    #[error("{0}")]
    File(#[from] TomlError),
    /// A file of the operator's own cannot be read.
    #[error("cannot read the profile {}: {message}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        message: String,
    },
    /// A file of the operator's own does not do what its dumps expect.
    #[error("{}: {message}", path.display())]
    Dump {
        /// The file.
        path: PathBuf,
        /// Which dump, and how it differs.
        message: String,
    },
    /// The device has several parts, and none of this name.
    #[error("`{name}` is none of the parts of this profile; there are: {parts}")]
    Part {
        /// What was asked for.
        name: String,
        /// The parts as they are written in `gateway.toml`.
        parts: String,
    },
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

/// Where a point's value is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A register, a coil or a discrete input at a fixed address.
    Register {
        /// The unit, where it is not the device's own.
        unit: Option<u8>,
        /// Function code: 1 coil, 2 discrete input, 3 holding register, 4 input register.
        function: u8,
        /// Address on the wire, counted from 0.
        address: u16,
        /// Address of the power of ten it is to be multiplied with.
        scale_address: Option<u16>,
        /// The bits that say that it is negative.
        negative: Option<SignBits>,
        /// Whether it belongs to the station and not to one of its connectors.
        station: bool,
    },
    /// A register in a SunSpec model.
    Sunspec {
        /// The model, or none for the profile's own models.
        model: Option<u16>,
        /// The group of a repeating model, counted from 1.
        group: Option<u16>,
        /// Where it is in there.
        place: SunspecPlace,
    },
    /// A place in messages over MQTT.
    Message(MessagePlace),
    /// A value of a meter's telegrams.
    Obis {
        /// Its code.
        code: Obis,
        /// The unit that must stand behind it; empty for text.
        unit: String,
    },
    /// A meter value that says itself what it is.
    Sampled,
}

/// Bits in another register that turn the sign of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignBits {
    /// Address of that register; it is read together with the value.
    pub address: u16,
    /// With any of them set, the value is negative.
    pub bits: u16,
}

/// Where a value is in a SunSpec model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SunspecPlace {
    /// At the first of these points that the model has; type and scale factor are the standard's.
    Names(Vec<String>),
    /// At an offset from the model's ID register, for models that the standard does not know.
    Offset {
        /// Offset of the value.
        offset: u16,
        /// Offset of its scale factor.
        scale_offset: Option<u16>,
    },
}

/// What a device's readings are made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnergySource {
    /// Its counters.
    Counters,
    /// The energy of its charging sessions, one after the other.
    Sessions,
    /// Its power, integrated: an estimate.
    Power,
}

/// One value of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// What it tells.
    pub quantity: Quantity,
    /// Where it is.
    pub source: Source,
    /// How it lies in its registers; the standard's where it is a named point of SunSpec.
    pub encoding: Encoding,
    /// Raw value × this = the unit that the quantity is kept in, in our sign.
    pub scale: Exact,
    /// Least value that can be true, in that unit and sign.
    pub min: Option<i64>,
    /// Largest value that can be true.
    pub max: Option<i64>,
    /// Wh at which a counter begins anew at zero, where its registers do not say it.
    pub wraps_at: Option<i64>,
    /// Whether some devices do not have it: exception 2 is then no error, and a sum goes without it.
    pub optional: bool,
    /// Whether it changes so slowly that it is asked for as seldom as the identification.
    pub seldom: bool,
    /// Names of states by what the device says.
    pub states: Vec<(String, String)>,
}

/// A framing in which a Modbus device can be spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Modbus TCP.
    Tcp,
    /// RTU on a serial line.
    Rtu,
    /// RTU frames over a TCP connection.
    RtuOverTcp,
}

/// How a Modbus device wants to be spoken to.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModbusRules {
    /// The framings it knows.
    #[serde(default = "default_transports")]
    pub transports: Vec<Transport>,
    /// Its serial line as it leaves the maker, like `9600 8N1`.
    #[serde(default)]
    pub serial: Option<String>,
    /// Its unit where the gateway's configuration names none.
    #[serde(default)]
    pub unit_id: Option<u8>,
    /// Function code of points that name none.
    #[serde(default)]
    pub function: Option<u8>,
    /// Word order of points that name none.
    #[serde(default)]
    pub word_order: WordOrder,
    /// Most registers per read.
    pub max_words: u16,
    /// Whether each value needs a request of its own.
    #[serde(default)]
    pub one_value_per_read: bool,
    /// Most registers between two values that may be read along without being asked for.
    #[serde(default)]
    pub max_hole_words: u16,
    /// Pause between connecting and the first request in wall milliseconds.
    #[serde(default)]
    pub connect_delay_ms: u64,
    /// Pause between two requests in wall milliseconds.
    pub gap_ms: u64,
    /// How long to wait for an answer in wall milliseconds.
    pub timeout_ms: u64,
    /// Longest pause between two polls in wall seconds, after which the device gives up on us.
    #[serde(default)]
    pub keep_alive_s: Option<u32>,
    /// How far one connector's registers lie behind those of the one before.
    #[serde(default)]
    pub offset_per_connector: Option<u16>,
    /// SunSpec models that hold the values, any of them; empty for plain Modbus.
    #[serde(default)]
    pub models: Vec<u16>,
}

impl ModbusRules {
    /// Rules for looking around on a line without a profile.
    #[must_use]
    pub fn plain(gap_ms: u64, timeout_ms: u64) -> Self {
        ModbusRules {
            transports: default_transports(),
            serial: None,
            unit_id: None,
            function: None,
            word_order: WordOrder::default(),
            max_words: WORDS_PER_READ_MAX,
            one_value_per_read: false,
            max_hole_words: 0,
            connect_delay_ms: 0,
            gap_ms,
            timeout_ms,
            keep_alive_s: None,
            offset_per_connector: None,
            models: Vec::new(),
        }
    }
}

fn default_transports() -> Vec<Transport> {
    vec![Transport::Tcp]
}

/// How a device is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    /// Modbus with fixed addresses.
    Modbus(ModbusRules),
    /// Modbus with SunSpec models, and fixed addresses beside them.
    Sunspec(ModbusRules),
    /// Messages over MQTT.
    Mqtt(MqttRules),
    /// Telegrams that a meter sends by itself.
    Telegram(Language, TelegramRules),
    /// A charger that comes over OCPP.
    Ocpp,
}

/// A checked profile of one part of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Its name; `file/part` where the file has named parts.
    pub name: String,
    /// Other devices of the file that speak alike.
    pub also: Vec<String>,
    /// What the device is.
    pub kind: Kind,
    /// How it is reached.
    pub link: Link,
    /// Its values.
    pub points: Vec<Point>,
    /// First 8 bytes of a digest over the profile's text and part: which rules made a number.
    pub digest: [u8; 8],
    /// Raw examples with what they must decode to.
    pub dumps: Vec<Dump>,
    /// The set-points that it takes.
    pub controls: Vec<control::Control>,
}

/// Raw data of a device and the values in it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    /// Where it comes from.
    pub note: String,
    /// The part it is of, where the file has several.
    #[serde(default)]
    pub part: Option<String>,
    /// Register contents.
    #[serde(default)]
    pub registers: Vec<DumpRegisters>,
    /// MQTT messages as topic (behind the prefix) and payload.
    #[serde(default)]
    pub messages: Vec<(String, String)>,
    /// A meter's telegram: text for P1 (each line ends with CR LF on the wire), hex for SML.
    #[serde(default)]
    pub telegram: Option<String>,
    /// The values.
    pub expect: Expected,
}

/// A run of registers in a dump.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpRegisters {
    /// The unit, where it is not the device's own.
    #[serde(default)]
    pub unit_id: Option<u8>,
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
    /// Maker.
    pub maker: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Firmware.
    pub firmware: Option<String>,
    /// Other numbers, in the units that they are kept in.
    #[serde(default)]
    pub details: BTreeMap<Quantity, i64>,
    /// Other texts.
    #[serde(default)]
    pub texts: BTreeMap<Quantity, String>,
}

/// The name of a file and of a part in what `gateway.toml` calls a profile.
fn file_and_part(name: &str) -> (&str, Option<&str>) {
    match name.split_once('/') {
        Some((file, part)) => (file, Some(part)),
        None => (name, None),
    }
}

impl Profile {
    /// A built-in profile by its name, by the name of a device that speaks alike, or by `file/part`.
    ///
    /// # Errors
    /// No built-in profile has this name, or it has other parts.
    pub fn built_in(name: &str) -> Result<Self, ProfileError> {
        let (file, part) = file_and_part(name);
        if let Some((known, text)) = BUILT_IN.iter().find(|(known, _)| *known == file) {
            let parts = Profile::all_from_toml(text, &format!("{known}.toml"))?;
            return Profile::pick(parts, name, part);
        }
        for (known, text) in BUILT_IN {
            let parts = Profile::all_from_toml(text, &format!("{known}.toml"))?;
            let also = parts.first().map(|p| p.also.as_slice()).unwrap_or_default();
            if also.iter().any(|other| other == file) {
                return Profile::pick(parts, name, part);
            }
        }
        Err(ProfileError::Unknown {
            name: name.to_owned(),
            known: BUILT_IN
                .iter()
                .map(|(known, _)| *known)
                .chain([ocpp::profile::NAME])
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// A profile from `folder`, where a file `name.toml` lies there, and a built-in one otherwise: so a
    /// new device needs a new file and no new program. The dumps in such a file are decoded here; those
    /// of the built-in ones are in the tests.
    ///
    /// # Errors
    /// The file is wrong, a dump in it does not decode to what it says, or nothing has this name.
    pub fn load(name: &str, folder: Option<&Path>) -> Result<Self, ProfileError> {
        if name == ocpp::profile::NAME {
            return Ok(ocpp::profile::profile());
        }
        let (file, part) = file_and_part(name);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let path = folder
            .filter(|_| file.chars().all(is_plain))
            .map(|folder| folder.join(format!("{file}.toml")))
            .filter(|path| path.exists());
        let Some(path) = path else {
            return Profile::built_in(name);
        };
        let failed = |message: String| ProfileError::Read {
            path: path.clone(),
            message,
        };
        let size = std::fs::metadata(&path).map_err(|e| failed(e.to_string()))?;
        if size.len() > FILE_MAX_BYTES {
            return Err(failed(format!("more than {FILE_MAX_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| failed(e.to_string()))?;
        let parts = Profile::all_from_toml(&text, &path.display().to_string())?;
        let profile = Profile::pick(parts, name, part)?;
        match dump::mismatch(&profile) {
            None => Ok(profile),
            Some(message) => Err(ProfileError::Dump { path, message }),
        }
    }

    /// Reads and checks a profile of one part.
    ///
    /// # Errors
    /// Says file, line and key of the first mistake, or which parts there are.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, ProfileError> {
        Profile::pick(Profile::all_from_toml(text, file)?, file, None)
    }

    /// Reads and checks all parts of a profile.
    ///
    /// # Errors
    /// Says file, line and key of the first mistake.
    pub fn all_from_toml(text: &str, file: &str) -> Result<Vec<Self>, ProfileError> {
        let mut parts = schema::read(text, file)?;
        for profile in &mut parts {
            let (_, part) = file_and_part(&profile.name);
            // The names of SunSpec points mean what the table says.
            let table = matches!(profile.link, Link::Sunspec(_)).then(table::text);
            let ruling = [Some(text), part, table];
            let ruling: Vec<&[u8]> = ruling.iter().flatten().map(|t| t.as_bytes()).collect();
            profile
                .digest
                .copy_from_slice(&digest_parts("profile", &ruling)[..8]);
        }
        Ok(parts)
    }

    /// The part that is meant by `name`.
    fn pick(parts: Vec<Self>, name: &str, part: Option<&str>) -> Result<Self, ProfileError> {
        let names: Vec<String> = parts.iter().map(|p| p.name.clone()).collect();
        let meant = |profile: &Profile| file_and_part(&profile.name).1 == part;
        parts
            .into_iter()
            .find(meant)
            .ok_or_else(|| ProfileError::Part {
                name: name.to_owned(),
                parts: names.join(", "),
            })
    }

    /// The profile of one connector of a station, counted from 1: its registers lie further behind.
    #[must_use]
    pub fn at_connector(mut self, connector: u16) -> Self {
        let (Link::Modbus(rules) | Link::Sunspec(rules)) = &self.link else {
            return self;
        };
        let offset = rules.offset_per_connector.unwrap_or(0);
        let shift = offset.saturating_mul(connector);
        for point in &mut self.points {
            if let Source::Register {
                address,
                station: false,
                ..
            } = &mut point.source
            {
                *address = address.saturating_add(shift);
            }
        }
        self.controls.retain_mut(|control| control.shift(shift));
        self
    }

    /// The same with the words of every number in the opposite order; none where no number has two
    /// words, or where a standard fixes their order.
    #[must_use]
    pub fn with_words_swapped(&self) -> Option<Self> {
        let mut swapped = self.clone();
        let has_order = |point: &Point| {
            !point.encoding.word_type.is_text() && point.encoding.word_type.words() > 1
        };
        let is_fixed = !matches!(self.link, Link::Modbus(_));
        if is_fixed || !self.points.iter().any(has_order) {
            return None;
        }
        for point in swapped.points.iter_mut().filter(|p| has_order(p)) {
            point.encoding.word_order = point.encoding.word_order.opposite();
        }
        Some(swapped)
    }

    /// How it wants to be spoken to over Modbus; none for other links.
    #[must_use]
    pub fn modbus(&self) -> Option<&ModbusRules> {
        match &self.link {
            Link::Modbus(rules) | Link::Sunspec(rules) => Some(rules),
            Link::Mqtt(_) | Link::Telegram(..) | Link::Ocpp => None,
        }
    }

    /// Whether it is for any of several channels of a device that reports over MQTT.
    #[must_use]
    pub fn has_channels(&self) -> bool {
        let has = |p: &Point| matches!(&p.source, Source::Message(place) if place.has_channel());
        self.points.iter().any(has)
    }

    /// Whether the device has a counter of energy, so that readings can be made of it.
    #[must_use]
    pub fn counts_energy(&self) -> bool {
        self.points.iter().any(|p| p.quantity.is_counter())
    }

    /// What readings of the device are made from; none where it tells nothing of energy.
    #[must_use]
    pub fn energy_source(&self) -> Option<EnergySource> {
        let tells = |quantity| self.points.iter().any(|p| p.quantity == quantity);
        if self.counts_energy() {
            Some(EnergySource::Counters)
        } else if tells(Quantity::SessionEnergy) {
            Some(EnergySource::Sessions)
        } else {
            tells(Quantity::Power).then_some(EnergySource::Power)
        }
    }

    /// The coarsest step of its counters in Wh, as far as the profile can know it.
    #[must_use]
    pub fn resolution_wh(&self) -> i64 {
        // A float of 200 MWh steps by 16 Wh; a SunSpec scale factor is hardly ever above 2.
        const FLOAT_STEP_WH: i64 = 16;
        const SUNSPEC_STEP_WH: i64 = 100;
        let counters = self.points.iter().filter(|p| p.quantity.is_counter());
        let step = |p: &Point| match (&p.source, p.encoding.word_type) {
            (Source::Sunspec { .. }, _) => SUNSPEC_STEP_WH,
            (Source::Message(place), _) => {
                let step = p.scale.times(place.step).and_then(Exact::rounded);
                step.unwrap_or(1).abs().max(1)
            }
            (_, WordType::F32) => FLOAT_STEP_WH,
            _ => p.scale.rounded().unwrap_or(1).abs().max(1),
        };
        counters.map(step).max().unwrap_or(1)
    }
}

#[cfg(test)]
impl Point {
    /// A plain point for tests.
    pub(crate) fn new(quantity: Quantity) -> Self {
        Point {
            quantity,
            source: Source::Register {
                unit: None,
                function: 3,
                address: 0,
                scale_address: None,
                negative: None,
                station: false,
            },
            encoding: Encoding::default(),
            scale: Exact::whole(1),
            min: None,
            max: None,
            wraps_at: None,
            optional: false,
            seldom: false,
            states: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDM630: &str = include_str!("profiles/eastron-sdm630.toml");

    fn error_of(change: impl Fn(&str) -> String) -> String {
        Profile::from_toml(&change(SDM630), "x.toml")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn all_built_in_profiles_load_and_differ() {
        let mut digests = Vec::new();
        let mut names = Vec::new();
        for (file, text) in BUILT_IN {
            for profile in Profile::all_from_toml(text, file).unwrap() {
                assert_eq!(file_and_part(&profile.name).0, *file);
                assert_eq!(Profile::built_in(&profile.name).as_ref(), Ok(&profile));
                digests.push(profile.digest);
                names.extend(profile.also.iter().map(|also| {
                    let part = file_and_part(&profile.name).1;
                    part.map_or(also.clone(), |part| format!("{also}/{part}"))
                }));
                names.push(profile.name);
            }
        }
        for name in &names {
            let found = Profile::built_in(name);
            assert!(found.is_ok(), "{name}: {found:?}");
        }
        let (all, different) = (names.len(), digests.len());
        names.sort_unstable();
        names.dedup();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!((names.len(), digests.len()), (all, different));
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
            ("type = \"f32\"", "type = \"f23\"", "`f23` is no type"),
            ("function = 4", "function = 5", "key `function`: 1 (coil)"),
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

    /// Two parts with a shared point; everything that the language can say about a register.
    const PARTS: &str = r#"
name = "two-in-one"
also = ["twin"]
link = "modbus"
point = [{ quantity = "serial", address = 5, type = "text(4)", station = true }]

[modbus]
transports = ["tcp", "rtu", "rtu-over-tcp"]
serial = "9600 8N1"
function = 3
word_order = "low-first"
max_words = 20
gap_ms = 0
timeout_ms = 1000
connect_delay_ms = 1000
keep_alive_s = 30
offset_per_connector = 1000

[missing]
u64 = ["0xFFFFFFFFFFFFFFFF"]

[[part]]
name = "meter"
kind = "meter"
point = [
    { quantity = "power", address = 100, type = "u16", unit = "W", positive = "import" },
    { quantity = "power", address = 101, type = "u16", unit = "W", positive = "export" },
    { quantity = "voltage-l1", unit_id = 7, function = 4, address = 9, type = "f64", word_order = "high-first", swap_bytes = true, unit = "V", min = "0", max = "500" },
    { quantity = "import", address = 110, type = "u64", unit = "Wh" },
]

[[part]]
name = "battery"
kind = "battery"
unit_id = 9
point = [
    { quantity = "power", address = 102, scale_address = 104, negative = { address = 103, bits = 2 }, type = "u16", unit = "W", positive = "discharge" },
    { quantity = "state", function = 1, address = 4, type = "bit", states = { 0 = "off", 1 = "on" } },
]

[[dump]]
note = "computed"
part = "meter"
expect = {}
[[dump]]
note = "computed"
part = "battery"
expect = {}
"#;

    #[test]
    fn a_file_has_parts_and_a_folder_has_files() {
        let parts = Profile::all_from_toml(PARTS, "x.toml").unwrap();
        let names: Vec<_> = parts.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["two-in-one/meter", "two-in-one/battery"]);
        assert_ne!(parts[0].digest, parts[1].digest);
        assert_eq!(parts[1].modbus().unwrap().unit_id, Some(9));
        let addresses = |profile: &Profile| -> Vec<u16> {
            let address = |p: &Point| match p.source {
                Source::Register { address, .. } => address,
                _ => 0,
            };
            profile.points.iter().map(address).collect()
        };
        let second = parts[1].clone().at_connector(2);
        assert_eq!(addresses(&second), [5, 2102, 2004]);

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("two-in-one.toml");
        std::fs::write(&file, PARTS).unwrap();
        let load = |name| Profile::load(name, Some(folder.path()));
        assert_eq!(load("two-in-one/meter").unwrap(), parts[0]);
        assert_eq!(load("keba-p30").unwrap().name, "keba-p30");
        let error = load("two-in-one").unwrap_err().to_string();
        assert!(
            error.contains("two-in-one/meter, two-in-one/battery"),
            "{error}"
        );
        assert!(load("../two-in-one/meter").is_err());
        std::fs::write(
            &file,
            PARTS.replace("expect = {}", "expect = { power_w = 3 }"),
        )
        .unwrap();
        let error = load("two-in-one/meter").unwrap_err().to_string();
        assert!(error.contains("dump `computed`: expected"), "{error}");
    }

    #[test]
    fn the_example_in_the_folder_is_a_profile_that_passes_its_dump() {
        let readme = include_str!("profiles/README.md");
        let (_, rest) = readme.split_once("```toml\n").unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        let parts = Profile::all_from_toml(text, "README.md").unwrap();
        assert_eq!(parts[0].name, "my-meter/meter");
        assert_eq!(dump::mismatch(&parts[0]), None);
    }

    #[test]
    fn mistakes_in_parts_are_named_with_line_and_key() {
        let cases = [
            (
                "unit_id = 7, function = 4",
                "function = 5",
                "line 28, key `function`: 1",
            ),
            (
                "type = \"f64\"",
                "type = \"text(8)\"",
                "line 28, key `type`: this",
            ),
            (
                "type = \"bit\"",
                "type = \"u16\"",
                "line 38, key `type`: coils",
            ),
            (
                "address = 103, bits",
                "address = 133, bits",
                "line 37, key `type`: the value",
            ),
            (
                "quantity = \"state\"",
                "quantity = \"power\"",
                "line 38, key `unit`: `` is no unit of power",
            ),
            (
                "serial = \"9600 8N1\"",
                "serial = \"9600\"",
                "line 9, key `serial`",
            ),
            (
                "name = \"battery\"",
                "name = \"meter\"",
                "line 33, key `name`: another",
            ),
            (
                "max = \"500\"",
                "max = \"much\"",
                "line 28, key `max`: `much`",
            ),
            (
                "max = \"500\"",
                "maxx = \"500\"",
                "line 28, key `maxx`: unknown field",
            ),
        ];
        for (from, to, expected) in cases {
            let text = PARTS.replacen(from, to, 1);
            let error = Profile::all_from_toml(&text, "x.toml").unwrap_err();
            let error = error.to_string();
            assert!(
                error.starts_with(&format!("x.toml, {expected}")),
                "{to}: {error}"
            );
        }
    }
}
