//! `gateway.toml`: which devices there are, what they count for, and where readings go.

mod home;
mod mqtt;

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::ids::{CommunityId, GatewayId, PointId};
use domain::key_record::PointRole;
use domain::signed::PublicKey;
use serde::{Deserialize, Serialize};

use crate::control::limits::LimitsConfig;
use crate::device::address::Address;
use crate::device::telegram::{Language, TelegramRules};
use crate::ocpp::OcppConfig;
use crate::profile::{EnergySource, Link, Profile, ProfileError, Transport};
use crate::time_source;
use crate::toml_file::{TomlError, parse, wrong_value};
pub use home::HomeMqttConfig;
pub use mqtt::{HALF_A_CERTIFICATE, MqttConfig, TlsConfig, is_this_computer, usual_port};

/// Most devices behind one gateway.
pub const DEVICES_MAX: usize = 1024;
/// Longest MQTT prefix of a device, in bytes.
const PREFIX_MAX_BYTES: usize = 200;

/// Everything a gateway is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The community it belongs to.
    #[serde(with = "as_text")]
    pub community: CommunityId,
    /// Its own name.
    #[serde(with = "as_text")]
    pub gateway: GatewayId,
    /// Where key and outbox are kept; relative to the file.
    pub data_dir: PathBuf,
    /// Folder with device profiles of the operator's own; relative to the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_dir: Option<PathBuf>,
    /// Length of an interval.
    #[serde(default = "default_interval_length_s")]
    pub interval_length_s: u32,
    /// Time between two polls of a device.
    #[serde(default = "default_poll_interval_s")]
    pub poll_interval_s: u32,
    /// Largest error of this computer's clock that is to be expected.
    #[serde(default = "default_clock_error_ms")]
    pub clock_error_ms: u32,
    /// The operator's public key, in base64: only acceptances signed with it are believed.
    #[serde(with = "as_base64")]
    pub operator_key: PublicKey,
    /// Whether it signs for the operator's ledger log as a witness. What it has seen of the log is watched either way.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub cosign_ledger: bool,
    /// The broker.
    pub mqtt: MqttConfig,
    /// The home's own broker, where the home's devices speak and Home Assistant listens. Without it
    /// the devices are heard on the platform's broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_mqtt: Option<HomeMqttConfig>,
    /// Shows the devices to Home Assistant at the home's broker; not where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_assistant: Option<HomeAssistantConfig>,
    /// A page for Prometheus; none where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsConfig>,
    /// What this computer's clock is checked against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockConfig>,
    /// Where chargers come in that speak OCPP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocpp: Option<OcppConfig>,
    /// The devices.
    pub devices: Vec<DeviceConfig>,
}

/// What the clock is checked against. It is only looked at, and never set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockConfig {
    /// An NTP server, as `host` or `host:port`.
    pub ntp_server: String,
}

/// How devices are shown to Home Assistant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeAssistantConfig {
    /// The topic that its MQTT integration discovers under.
    #[serde(default = "default_discovery_prefix")]
    pub discovery_prefix: String,
}

/// A page for Prometheus at `/metrics`. It is not protected: listen on loopback, or behind a proxy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address and port, like `127.0.0.1:9464`.
    pub listen: SocketAddr,
}

/// What readings of a device are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A participant's connection: settled.
    Connection,
    /// The street's connection to the grid.
    Feeder,
    /// A meter behind a connection: evidence, not settled.
    Submeter,
    /// No readings, only live values.
    LiveOnly,
}

impl Role {
    /// The role that is enrolled; none for a device without readings.
    #[must_use]
    pub const fn point_role(self) -> Option<PointRole> {
        match self {
            Role::Connection => Some(PointRole::Connection),
            Role::Feeder => Some(PointRole::Feeder),
            Role::Submeter => Some(PointRole::Submeter),
            Role::LiveOnly => None,
        }
    }

    /// The word in the configuration and on the live topic.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Role::Connection => "connection",
            Role::Feeder => "feeder",
            Role::Submeter => "submeter",
            Role::LiveOnly => "live_only",
        }
    }
}

/// One device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// Its name, once in this gateway.
    pub name: String,
    /// Its profile.
    pub profile: String,
    /// The metering point it belongs to.
    #[serde(with = "as_text")]
    pub point: PointId,
    /// What its readings are for.
    pub role: Role,
    /// Largest power through it in watts: what is above is implausible.
    pub rating_w: u32,
    /// Where a Modbus device or a meter's port is, as [`Address`] says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its Modbus unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<u8>,
    /// Which connector of a station with several, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connector: Option<u16>,
    /// The charge point that the connector belongs to, one of `[[ocpp.charge_points]]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge_point: Option<String>,
    /// Topic prefix of an MQTT device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// That a device without a counter is settled by its integrated power, which is an estimate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settle_integrated_power: bool,
    /// What may be done to it at all; without limits it is not controlled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsConfig>,
}

/// A metering point as it must be enrolled: point, role, rating in watts.
pub type PointEntry = (PointId, PointRole, u32);

/// The points that this gateway will sign readings for.
#[must_use]
pub fn point_records(config: &Config) -> Vec<PointEntry> {
    let entry = |d: &DeviceConfig| Some((d.point.clone(), d.role.point_role()?, d.rating_w));
    config.devices.iter().filter_map(entry).collect()
}

impl Config {
    /// Reads and checks a configuration. Paths in it become relative to where the file lies.
    ///
    /// # Errors
    /// Says file, line and key of the first mistake.
    pub fn from_toml(text: &str, file_name: &str) -> Result<Self, TomlError> {
        let mut config = Config::unchecked(text, file_name)?;
        config.check(text, file_name)?;
        let folder = Path::new(file_name).parent().unwrap_or(Path::new(""));
        config.data_dir = folder.join(&config.data_dir);
        config.mqtt.resolve(folder);
        if let Some(home) = &mut config.home_mqtt {
            home.resolve(folder);
        }
        if let Some(ocpp) = &mut config.ocpp {
            ocpp.resolve(folder);
        }
        Ok(config)
    }

    /// All mistakes in a configuration, as far as one does not hide another: what is no configuration
    /// at all has one, and each device is looked at up to its first.
    #[must_use]
    pub fn mistakes_in(text: &str, file_name: &str) -> Vec<TomlError> {
        match Config::unchecked(text, file_name) {
            Ok(config) => config.mistakes(text, file_name),
            Err(error) => vec![error],
        }
    }

    fn unchecked(text: &str, file_name: &str) -> Result<Self, TomlError> {
        let mut config: Config = parse(text, file_name)?;
        let folder = Path::new(file_name).parent().unwrap_or(Path::new(""));
        if let Some(path) = &mut config.profile_dir {
            *path = folder.join(&*path);
        }
        Ok(config)
    }

    /// The configuration as a file.
    ///
    /// # Errors
    /// A path in it is not UTF-8.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Checks what the types cannot say, for a configuration that a program has made.
    ///
    /// # Errors
    /// Names the key, and the line that it has in [`Config::to_toml`].
    pub fn validate(&self) -> Result<(), TomlError> {
        let text = self.to_toml().unwrap_or_default();
        self.check(&text, "the gateway's configuration")
    }

    /// The profile of a device, for its connector.
    ///
    /// # Errors
    /// There is none of this name, or its file is wrong.
    pub fn profile_of(&self, device: &DeviceConfig) -> Result<Profile, ProfileError> {
        let profile = Profile::load(&device.profile, self.profile_dir.as_deref())?;
        Ok(match device.connector {
            Some(connector) => profile.at_connector(connector),
            None => profile,
        })
    }

    fn check(&self, text: &str, file: &str) -> Result<(), TomlError> {
        self.mistakes(text, file)
            .into_iter()
            .next()
            .map_or(Ok(()), Err)
    }

    fn mistakes(&self, text: &str, file: &str) -> Vec<TomlError> {
        let mut all: Vec<TomlError> = self.check_gateway(text, file).err().into_iter().collect();
        let ocpp = self.ocpp.iter();
        all.extend(ocpp.flat_map(|ocpp| ocpp.mistakes(text, file)));
        let mut seen = Seen::default();
        for (index, device) in self.devices.iter().enumerate() {
            if let Err((key, message)) = seen.check_device(self, device) {
                all.push(wrong_value(text, file, ("devices", index), key, message));
            }
        }
        all
    }

    fn check_gateway(&self, text: &str, file: &str) -> Result<(), TomlError> {
        let wrong = |key: &str, message: &str| Err(wrong_value(text, file, ("", 0), key, message));
        if self.interval_length_s == 0 || 3600 % self.interval_length_s != 0 {
            return wrong(
                "interval_length_s",
                "the length of an interval divides 3600 s",
            );
        }
        if self
            .clock
            .as_ref()
            .is_some_and(|c| !time_source::is_server(&c.ntp_server))
        {
            return wrong("ntp_server", "a host, or host:port, of an NTP server");
        }
        if !(1..=self.interval_length_s).contains(&self.poll_interval_s) {
            return wrong(
                "poll_interval_s",
                "between 1 s and the length of an interval",
            );
        }
        if let Err((key, message)) = self.mqtt.check() {
            return wrong(key, message);
        }
        if let Some(Err((key, message))) = self.home_mqtt.as_ref().map(HomeMqttConfig::check) {
            return wrong(key, message);
        }
        if let Some((key, message)) = self.wrong_home_assistant() {
            return wrong(key, message);
        }
        if self.devices.is_empty() || self.devices.len() > DEVICES_MAX {
            return wrong("devices", "a gateway has 1 to 1024 [[devices]]");
        }
        Ok(())
    }

    fn wrong_home_assistant(&self) -> Option<(&'static str, &'static str)> {
        let prefix = &self.home_assistant.as_ref()?.discovery_prefix;
        if self.home_mqtt.is_none() {
            let message =
                "Home Assistant listens at the home's broker: add [home_mqtt] with its host";
            return Some(("[home_assistant]", message));
        }
        let is_plain = !prefix.contains(['+', '#']) && !prefix.ends_with('/');
        let is_wrong = prefix.is_empty() || prefix.len() > PREFIX_MAX_BYTES || !is_plain;
        let message = "a topic without + and # and without / at its end";
        is_wrong.then_some(("discovery_prefix", message))
    }
}

/// What the devices in front have taken already.
#[derive(Default)]
struct Seen<'a> {
    names: BTreeSet<&'a str>,
    points: BTreeSet<&'a PointId>,
    places: BTreeMap<String, (Address, Option<(Language, TelegramRules)>)>,
    connectors: BTreeSet<(String, u16)>,
    profiles: Profiles,
}

/// The profiles of a configuration's devices, each loaded once.
#[derive(Default)]
pub(crate) struct Profiles(BTreeMap<(String, Option<u16>), Arc<Profile>>);

impl Profiles {
    pub(crate) fn of(
        &mut self,
        config: &Config,
        device: &DeviceConfig,
    ) -> Result<Arc<Profile>, ProfileError> {
        let key = (device.profile.clone(), device.connector);
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        let profile = Arc::new(config.profile_of(device)?);
        self.0.insert(key, profile.clone());
        Ok(profile)
    }
}

impl<'a> Seen<'a> {
    fn check_device(
        &mut self,
        config: &Config,
        device: &'a DeviceConfig,
    ) -> Result<(), (&'static str, String)> {
        let refuse = |key, message: &str| Err((key, message.to_owned()));
        let profile = self
            .profiles
            .of(config, device)
            .map_err(|error| ("profile", error.to_string()))?;
        let has_connectors = profile
            .modbus()
            .is_some_and(|rules| rules.offset_per_connector.is_some());
        let is_right = match device.connector {
            Some(number) => {
                let is_charger = profile.link == Link::Ocpp;
                number > 0 && (has_connectors || is_charger || profile.has_channels())
            }
            None => !has_connectors,
        };
        if !is_right {
            return refuse(
                "connector",
                "a station with several connectors wants one, counted from 1; others have none",
            );
        }
        if device.name.is_empty() || device.name.len() > 64 {
            return refuse("name", "a device's name has 1 to 64 bytes");
        }
        if !self.names.insert(&device.name) {
            return refuse("name", "another device has this name already");
        }
        let signs = device.role != Role::LiveOnly;
        check_counter(device, &profile)?;
        check_keep_alive(config.poll_interval_s, &profile)?;
        if signs && !self.points.insert(&device.point) {
            return refuse(
                "point",
                "another device counts for this point already (or is it live_only?)",
            );
        }
        if device.rating_w == 0 {
            return refuse("rating_w", "the largest power in watts, more than 0");
        }
        if let Some(limits) = &device.limits {
            limits.check(&profile, device.rating_w)?;
        }
        if profile.link == Link::Ocpp || device.charge_point.is_some() {
            return self.check_charge_point(config, device, &profile);
        }
        match (&profile.link, &device.address, &device.prefix) {
            (Link::Mqtt(_), None, Some(prefix)) if device.unit.is_none() => {
                let plain = !prefix.contains(['+', '#']) && !prefix.ends_with('/');
                if prefix.is_empty() || prefix.len() > PREFIX_MAX_BYTES || !plain {
                    return refuse("prefix", "a topic without + and # and without / at its end");
                }
                Ok(())
            }
            (Link::Mqtt(_), ..) => refuse("prefix", "an MQTT device has a prefix, and no address"),
            (link, Some(text), None) => {
                let address = text.parse::<Address>();
                let address = address.map_err(|error| ("address", error.to_string()))?;
                check_framing(&address, &profile)?;
                self.check_address(address, link)
            }
            _ => refuse("address", "a Modbus device has an address, and no prefix"),
        }
    }

    /// A charger that comes by itself has a name there, and each of its connectors is one device.
    fn check_charge_point(
        &mut self,
        config: &Config,
        device: &DeviceConfig,
        profile: &Profile,
    ) -> Result<(), (&'static str, String)> {
        let refuse = |message: &str| Err(("charge_point", message.to_owned()));
        let has_no_other = device.address.is_none() && device.prefix.is_none();
        let (Some(id), true, true) = (
            &device.charge_point,
            has_no_other && device.unit.is_none(),
            profile.link == Link::Ocpp,
        ) else {
            return refuse("a charger of the profile ocpp-1.6 has a charge_point, and no address");
        };
        let ocpp = config.ocpp.iter();
        if !ocpp.flat_map(|o| &o.charge_points).any(|p| p.id == *id) {
            return refuse("none of the [[ocpp.charge_points]] has this id");
        }
        if !self
            .connectors
            .insert((id.clone(), device.connector.unwrap_or(1)))
        {
            return refuse("another device is this connector of the charge point already");
        }
        Ok(())
    }

    /// What is at one place speaks in one way.
    fn check_address(
        &mut self,
        address: Address,
        link: &Link,
    ) -> Result<(), (&'static str, String)> {
        let telegrams = match link {
            Link::Telegram(language, rules) => Some((*language, *rules)),
            _ => None,
        };
        if telegrams.is_some() && matches!(address, Address::RtuOverTcp(_)) {
            let rule = "a meter's telegrams come from tcp://host:port or a serial port";
            return Err(("address", rule.to_owned()));
        }
        match self.places.entry(address.place()) {
            Entry::Vacant(new) => _ = new.insert((address, telegrams)),
            Entry::Occupied(known) if *known.get() == (address, telegrams) => {}
            Entry::Occupied(known) => {
                let (other, _) = known.get();
                let rule = format!(
                    "another device has `{other}` with another link or other settings: \
                     what is there speaks in one way only"
                );
                return Err(("address", rule));
            }
        }
        Ok(())
    }
}

/// A device is reached in a framing that it, or a converter in front of it, can speak: what has a
/// serial port can be behind any converter, what has none is reached by Modbus TCP only.
fn check_framing(address: &Address, profile: &Profile) -> Result<(), (&'static str, String)> {
    let Some(rules) = profile.modbus() else {
        return Ok(());
    };
    let knows = |transport| rules.transports.contains(&transport);
    let (is_known, framing) = match address {
        Address::Tcp(_) => (true, ""),
        Address::RtuOverTcp(_) => (
            knows(Transport::Rtu) || knows(Transport::RtuOverTcp),
            "RTU frames",
        ),
        Address::Serial(_) => (knows(Transport::Rtu), "a serial port"),
    };
    let rule = || {
        format!(
            "this device does not know {framing}: write its address as host and port of Modbus TCP"
        )
    };
    is_known.then_some(()).ok_or_else(|| ("address", rule()))
}

/// Some devices end a connection on which nothing is asked.
fn check_keep_alive(poll_interval_s: u32, profile: &Profile) -> Result<(), (&'static str, String)> {
    let limit = profile.modbus().and_then(|rules| rules.keep_alive_s);
    match limit.filter(|limit| poll_interval_s > *limit) {
        None => Ok(()),
        Some(limit) => Err((
            "profile",
            format!("this device ends a silent connection: poll_interval_s is at most {limit}"),
        )),
    }
}

/// Where there is no counter, power is integrated; what is settled so is the operator's choice.
fn check_counter(device: &DeviceConfig, profile: &Profile) -> Result<(), (&'static str, String)> {
    let refuse = |key, message: &str| Err((key, message.to_owned()));
    match (profile.energy_source(), device.role) {
        (Some(EnergySource::Counters | EnergySource::Sessions), _) => {
            if device.settle_integrated_power {
                return refuse(
                    "settle_integrated_power",
                    "this device has a counter of energy: leave this key out",
                );
            }
            Ok(())
        }
        (_, Role::LiveOnly) => Ok(()),
        (None, _) => refuse(
            "role",
            "this device has no counter of energy and no power: its role is live_only",
        ),
        (_, Role::Connection | Role::Feeder) if !device.settle_integrated_power => refuse(
            "role",
            "this device has no counter of energy, so its readings are estimates integrated from \
             power: its role is submeter or live_only, or say settle_integrated_power = true",
        ),
        (Some(EnergySource::Power), _) => Ok(()),
    }
}

fn default_interval_length_s() -> u32 {
    domain::time::DEFAULT_INTERVAL_S
}

fn default_poll_interval_s() -> u32 {
    10
}

fn default_clock_error_ms() -> u32 {
    1000
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
fn is_yes(wanted: &bool) -> bool {
    *wanted
}

fn default_discovery_prefix() -> String {
    "homeassistant".to_owned()
}

/// Values that are text in the file.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(d: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// A public key as base64.
mod as_base64 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use domain::signed::PublicKey;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(key: &PublicKey, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(key.to_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<PublicKey, D::Error> {
        let wrong = || de::Error::custom("not the 32 bytes of a public key in base64");
        let bytes = STANDARD
            .decode(String::deserialize(d)?)
            .map_err(|_| wrong())?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| wrong())?;
        PublicKey::from_bytes(&bytes).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
community = "elm-street"
gateway = "gw-1"
data_dir = "state"
poll_interval_s = 5
operator_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

[mqtt]
host = "127.0.0.1"
user = "gw-1"
password = "secret"

[[devices]]
name = "meter"
profile = "eastron-sdm630"
point = "home-1"
role = "connection"
rating_w = 17000
address = "127.0.0.1:1502"
unit = 1

[[devices]]
name = "battery"
profile = "sunspec-battery-802"
point = "home-1"
role = "live_only"
rating_w = 5000
address = "127.0.0.1:1503"
"#;

    #[test]
    fn it_reads_what_it_writes() {
        let config = Config::from_toml(TEXT, "/etc/gateway/gateway.toml").unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/gateway/state"));
        assert_eq!((config.interval_length_s, config.mqtt.port()), (900, 1883));
        let again = Config::from_toml(&config.to_toml().unwrap(), "gateway.toml").unwrap();
        assert_eq!(again, config);
        let points = point_records(&config);
        assert_eq!(
            points,
            [(
                config.devices[0].point.clone(),
                PointRole::Connection,
                17_000
            )]
        );
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn mistakes_are_named_with_line_and_key() {
        let cases = [
            (
                "poll_interval_s = 5",
                "poll_intervall_s = 5",
                "line 5, key `poll_intervall_s`: unknown",
            ),
            (
                "poll_interval_s = 5",
                "poll_interval_s = 901",
                "line 5, key `poll_interval_s`: between",
            ),
            (
                "\"home-1\"",
                "\"Home 1\"",
                "line 16, key `point`: `Home 1` is not an id",
            ),
            (
                "\"live_only\"",
                "\"connection\"",
                "line 26, key `role`: this device has no counter",
            ),
            (
                "rating_w = 17000",
                "rating_w = 17000\nsettle_integrated_power = true",
                "line 19, key `settle_integrated_power`: this device has a counter",
            ),
            (
                "\"battery\"",
                "\"meter\"",
                "line 23, key `name`: another device",
            ),
            (
                "127.0.0.1:1503",
                "127.0.0.1",
                "line 28, key `address`: `127.0.0.1` is no address: host and port",
            ),
            (
                "sunspec-battery-802",
                "sunspec-battery",
                "key `profile`: there is no device profile",
            ),
            ("11qYAYKx", "AAAA", "line 6, key `operator_key`: not"),
            (
                "unit = 1",
                "prefix = \"x\"",
                "key `address`: a Modbus device",
            ),
        ];
        for (from, to, expected) in cases {
            let text = TEXT.replacen(from, to, 1);
            let error = Config::from_toml(&text, "g.toml").unwrap_err().to_string();
            assert!(
                error.starts_with("g.toml, ") && error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn all_mistakes_are_listed() {
        let text = TEXT
            .replace("poll_interval_s = 5", "poll_interval_s = 0")
            .replace("rating_w = 17000", "rating_w = 0")
            .replace("127.0.0.1:1503", "127.0.0.1");
        let found = Config::mistakes_in(&text, "g.toml");
        let keys: Vec<_> = found.iter().map(|m| (m.line, m.key.as_str())).collect();
        assert_eq!(
            keys,
            [(5, "poll_interval_s"), (18, "rating_w"), (28, "address")]
        );
        assert_eq!(Config::from_toml(&text, "g.toml").unwrap_err(), found[0]);
        assert_eq!(Config::mistakes_in("community = 1", "g.toml").len(), 1);
        assert_eq!(Config::mistakes_in(TEXT, "g.toml"), []);
    }

    #[test]
    fn a_device_without_a_counter_is_settled_only_where_the_operator_says_so() {
        let own_point = TEXT.replacen(
            "sunspec-battery-802\"\npoint = \"home-1\"",
            "sunspec-battery-802\"\npoint = \"home-1.battery\"",
            1,
        );
        let submeter = own_point.replacen("live_only", "submeter", 1);
        assert!(Config::from_toml(&submeter, "g.toml").is_ok());
        let settled = own_point.replacen(
            "\"live_only\"",
            "\"connection\"\nsettle_integrated_power = true",
            1,
        );
        let config = Config::from_toml(&settled, "g.toml").unwrap();
        let again = Config::from_toml(&config.to_toml().unwrap(), "g.toml").unwrap();
        assert!(again.devices[1].settle_integrated_power);
    }

    #[test]
    fn home_assistant_needs_the_homes_broker_and_a_plain_prefix() {
        let assistant = "[home_assistant]\n";
        let text = format!("{TEXT}\n{assistant}");
        let error = Config::from_toml(&text, "g.toml").unwrap_err().to_string();
        assert!(
            error.contains("line 30") && error.contains("add [home_mqtt]"),
            "{error}"
        );
        let home = "[home_mqtt]\nhost = \"10.0.0.2\"\n";
        let text = format!("{TEXT}\n{home}{assistant}");
        let config = Config::from_toml(&text, "g.toml").unwrap();
        let prefix = config.home_assistant.unwrap().discovery_prefix;
        assert_eq!(prefix, "homeassistant");
        let text = format!("{text}discovery_prefix = \"home/#\"\n");
        let error = Config::from_toml(&text, "g.toml").unwrap_err().to_string();
        assert!(error.contains("line 33, key `discovery_prefix`"), "{error}");
    }

    #[test]
    fn one_place_is_spoken_to_in_one_way() {
        for (first, second) in [
            ("10.0.0.1:502", "rtu+tcp://10.0.0.1:502"),
            ("serial:/dev/x?baud=9600", "serial:/dev/x?baud=19200"),
        ] {
            let text = TEXT
                .replace("127.0.0.1:1502", first)
                .replace("127.0.0.1:1503", second);
            let error = Config::from_toml(&text, "g.toml").unwrap_err().to_string();
            assert!(error.contains("line 28, key `address`: another"), "{error}");
            let text = text.replace(second, first);
            assert!(Config::from_toml(&text, "g.toml").is_ok());
        }
    }

    #[test]
    fn a_device_without_a_serial_port_is_not_looked_for_on_one() {
        let with = |profile: &str, address: &str| {
            let text = TEXT.replace("eastron-sdm630", profile);
            let text = text.replace("127.0.0.1:1502", address);
            Config::from_toml(&text, "g.toml").map_err(|error| error.to_string())
        };
        for address in ["10.0.0.1:502", "rtu+tcp://10.0.0.1:502", "serial:/dev/x"] {
            assert!(with("eastron-sdm630", address).is_ok(), "{address}");
        }
        let only_tcp = "fronius-gen24/meter";
        assert!(with(only_tcp, "10.0.0.1:502").is_ok());
        let error = with(only_tcp, "serial:/dev/x").unwrap_err();
        assert!(
            error.contains("line 19, key `address`: this device does not know a serial port"),
            "{error}"
        );
        let error = with(only_tcp, "rtu+tcp://10.0.0.1:502").unwrap_err();
        assert!(error.contains("does not know RTU frames"), "{error}");
    }

    #[test]
    fn a_thousand_devices_are_checked_at_once() {
        let head = TEXT.split("[[devices]]").next().unwrap();
        let device = |n: u32| {
            format!(
                "[[devices]]\nname = \"d{n}\"\nprofile = \"eastron-sdm630\"\npoint = \"p{n}\"\n\
                 role = \"submeter\"\nrating_w = 1\naddress = \"10.0.0.1:502\"\nunit = 1\n"
            )
        };
        let text: String = (0..1000).map(device).collect();
        let config = Config::from_toml(&format!("{head}{text}"), "g.toml").unwrap();
        assert_eq!(config.devices.len(), 1000);
        let again = format!("{head}{text}{}", device(7));
        let error = Config::from_toml(&again, "g.toml").unwrap_err().to_string();
        assert!(error.contains("key `name`: another device"), "{error}");
    }

    #[test]
    fn one_point_has_one_signing_device() {
        let text = TEXT
            .replace("sunspec-battery-802", "sunspec-meter")
            .replace("live_only", "feeder");
        let error = Config::from_toml(&text, "g.toml").unwrap_err().to_string();
        assert!(
            error.contains("key `point`: another device counts"),
            "{error}"
        );
    }

    #[test]
    fn stations_need_a_connector_and_silent_connections_are_not_kept() {
        let with = |from: &str, to: &str| {
            let text = TEXT.replace("profile = \"sunspec-battery-802\"", from);
            let text = text.replace("poll_interval_s = 5", to);
            Config::from_toml(&text, "g.toml").map_err(|e| e.to_string())
        };
        let often = "poll_interval_s = 5";
        let no = with("profile = \"phoenix-contact-charx\"", often).unwrap_err();
        assert!(no.contains("key `connector`: a station"), "{no}");
        let second = "profile = \"phoenix-contact-charx\"\nconnector = 2";
        let config = with(second, often).unwrap();
        let shifted = config.profile_of(&config.devices[1]).unwrap();
        let plain = Profile::built_in("phoenix-contact-charx").unwrap();
        assert_ne!(shifted.points, plain.points);
        assert!(with("profile = \"abb-terra-ac\"", often).is_ok());
        let seldom = with("profile = \"abb-terra-ac\"", "poll_interval_s = 60").unwrap_err();
        assert!(seldom.contains("poll_interval_s is at most 30"), "{seldom}");
    }
}
