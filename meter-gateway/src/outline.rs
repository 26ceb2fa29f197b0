//! What a configuration means, in plain sentences that a person can hold against the house, and what is
//! worth a second look although it is no mistake.

use std::path::Path;

use crate::config::{Config, DeviceConfig, Role};
use crate::device::address::Address;
use crate::listen::MqttDevice;
use crate::profile::{Link, Profile, ProfileError, Quantity};

/// Counters that step by more than this are named.
const COARSE_WH: i64 = 50;
/// More topics than this are not listed one by one.
const TOPICS_SHOWN_MAX: usize = 8;

/// What is said about a gateway, or about one of its devices.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Outline {
    /// The device's name; none for the gateway itself.
    pub device: Option<String>,
    /// What it is and does.
    pub says: Vec<String>,
    /// What is worth a second look.
    pub notes: Vec<String>,
}

/// What a configuration means: the gateway first, then its devices as they are listed.
///
/// # Errors
/// A profile cannot be used.
pub fn outline(config: &Config) -> Result<Vec<Outline>, ProfileError> {
    let mut all = vec![gateway(config)];
    for device in &config.devices {
        all.push(of_device(config, device, &config.profile_of(device)?));
    }
    Ok(all)
}

fn gateway(config: &Config) -> Outline {
    let mqtt = &config.mqtt;
    let mut says = vec![
        format!("gateway {} of {}", config.gateway, config.community),
        format!(
            "reads its devices every {} s and signs what they counted every {} s",
            config.poll_interval_s, config.interval_length_s
        ),
        format!("delivers to {}:{} as {}", mqtt.host, mqtt.port(), mqtt.user),
    ];
    if let Some(home) = &config.home_mqtt {
        let user = home.user.as_deref().unwrap_or("nobody");
        says.push(format!(
            "is at home at {}:{} as {user}",
            home.host,
            home.port()
        ));
    }
    let mut notes = Vec::new();
    let home = config.home_mqtt.as_ref();
    if mqtt.password.is_some() || home.is_some_and(|home| home.password.is_some()) {
        notes.push("a password stands in the file; password_file keeps it out of it".into());
    }
    let home_file = home.and_then(|home| home.password_file.as_deref());
    let files = [mqtt.password_file.as_deref(), home_file];
    notes.extend(files.into_iter().flatten().filter_map(unreadable));
    Outline {
        device: None,
        says,
        notes,
    }
}

fn unreadable(path: &Path) -> Option<String> {
    let error = std::fs::read_to_string(path).err()?;
    Some(format!(
        "the gateway will not start where it cannot read {}: {error}",
        path.display()
    ))
}

fn of_device(config: &Config, device: &DeviceConfig, profile: &Profile) -> Outline {
    let mut says = vec![
        format!(
            "{} ({}) {}",
            profile.kind.word(),
            profile.name,
            place(device)
        ),
        counts(profile).to_owned(),
        purpose(device),
    ];
    if device.limits.is_some() {
        says.push("may be controlled within its limits".into());
    }
    let mut notes = Vec::new();
    notes.extend(other_serial_settings(device, profile));
    if device.settle_integrated_power && !profile.counts_energy() {
        notes.push("its power is added up in place of a counter: an estimate".into());
    }
    let is_edge = matches!(device.role, Role::Connection | Role::Feeder);
    if is_edge && !has(profile, Quantity::Export) {
        notes.push("it has no export counter: what goes out is not seen".into());
    }
    if device.role != Role::LiveOnly && !has(profile, Quantity::Power) {
        notes.push("it says no power: that its counters stand still cannot be noticed".into());
    }
    let step_wh = profile.resolution_wh();
    if device.role != Role::LiveOnly && profile.counts_energy() && step_wh > COARSE_WH {
        notes.push(format!("its counters may step by {step_wh} Wh"));
    }
    if let (Link::Mqtt(rules), Some(prefix)) = (&profile.link, &device.prefix) {
        let heard = MqttDevice::new(0, profile, prefix, device.connector);
        let topics = heard.map(|heard| heard.topics()).unwrap_or_default();
        let topics: Vec<String> = topics.into_iter().collect();
        notes.push(match topics.as_slice() {
            [first, .., last] if topics.len() > TOPICS_SHOWN_MAX => {
                let number = topics.len();
                format!("it is heard on {number} topics from {first} to {last}")
            }
            few => format!("it is heard on {}", few.join(", ")),
        });
        if config.home_mqtt.is_none() {
            notes.push(
                "without [home_mqtt] it must speak at the platform's broker, which lets this \
                 gateway read only the device_topics in its site.toml"
                    .into(),
            );
        }
        if i64::from(rules.report_interval_s) > i64::from(config.interval_length_s) {
            notes.push("it reports less often than once in an interval".into());
        }
    }
    Outline {
        device: Some(device.name.clone()),
        says,
        notes,
    }
}

/// Where the serial line is set otherwise than the device as it leaves its maker.
fn other_serial_settings(device: &DeviceConfig, profile: &Profile) -> Option<String> {
    let Ok(Address::Serial(line)) = device.address.as_deref()?.parse() else {
        return None;
    };
    let makers = profile.modbus()?.serial.as_deref()?;
    let set = line.settings();
    (set != makers).then(|| {
        format!("it leaves its maker set to {makers}, and this line is {set}: has it been set so?")
    })
}

fn place(device: &DeviceConfig) -> String {
    let mut place = match (&device.address, &device.prefix) {
        (Some(address), _) => format!("at {address}"),
        (None, Some(prefix)) => format!("that speaks as {prefix}"),
        (None, None) => "nowhere".to_owned(),
    };
    if let Some(charge_point) = &device.charge_point {
        place = format!("that comes over OCPP as {charge_point}");
    }
    if let Some(unit) = device.unit {
        place.push_str(&format!(", unit {unit}"));
    }
    if let Some(connector) = device.connector {
        place.push_str(&format!(", connector {connector}"));
    }
    place
}

fn has(profile: &Profile, quantity: Quantity) -> bool {
    profile
        .points
        .iter()
        .any(|point| point.quantity == quantity)
}

fn counts(profile: &Profile) -> &'static str {
    match (
        has(profile, Quantity::Import),
        has(profile, Quantity::Export),
    ) {
        (true, true) => "counts import and export",
        (true, false) => "counts import",
        (false, true) => "counts export",
        (false, false) => "counts no energy",
    }
}

fn purpose(device: &DeviceConfig) -> String {
    let point = &device.point;
    match device.role {
        Role::Connection => format!("is the connection of {point}: signed and settled"),
        Role::Feeder => format!("is the street's connection to the grid, {point}: signed"),
        Role::Submeter => format!("is a meter behind {point}: signed as evidence, not settled"),
        Role::LiveOnly => format!("is shown live for {point}, and not signed"),
    }
}
