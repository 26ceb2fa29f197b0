//! From a scenario to a community: participants with their wishes, gateways with keys and devices.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context;
use domain::ids::{CommunityId, Digest32, GatewayId, ParticipantId, PointId};
use domain::key_record::{PointRecord, PointRole};
use domain::money::{Money, Price};
use domain::signed::PublicKey;
use market_engine::bid::Level;
use market_engine::grid::Network;
use meter_gateway::config::Config;
use runtime::broker::{Access, AccessList};
use settlement::service::COMMUNITY_OWNER;
use settlement::tariff::Tariff;
use simulator::scenario::{HomeScenario, Scenario};
use simulator::street::{DeviceEndpoint, DeviceKind, Endpoint, MQTT_ROOT};

use crate::auth::WRITES_PER_MINUTE;
use crate::site::{
    BatteryPlace, ChargingFile, DataDir, Gateway, MarketFile, Mqtt, Participant, SettlementRules,
    Site, Station, Wires, write_private,
};

/// The user that the street's own MQTT meters have at the broker.
pub(super) const METERS_USER: &str = "meters";
/// What stands for a home's id at the transformer.
const FEEDER: &str = "feeder";
/// Tokens every home starts with.
const DEPOSIT: Money = Money::from_nano(100 * domain::money::NANO_PER_TOKEN);
/// How often a gateway reads its devices, in model seconds.
const POLL_INTERVAL_S: u32 = 20;
/// What a home's connection and the feeder may carry.
const HOME_RATING_W: u32 = 22_000;
const FEEDER_RATING_W: u32 = 160_000;
/// The street's wires, with cables and a transformer of usual sizes.
pub(super) const NETWORK: &str = include_str!("network.json");
/// The first house's node in `network.json`; the others follow.
const FIRST_HOUSE_NODE: u64 = 11;

/// The utility of the demo: a flat tariff.
const RETAIL: Price = Price::from_micro_per_kwh(310_000);
const FEED_IN: Price = Price::from_micro_per_kwh(80_000);
const NETWORK_FEE: Price = Price::from_micro_per_kwh(30_000);

/// Who takes part, with what the data folder keeps of them.
pub(super) struct Members {
    pub(super) gateways: Vec<GatewayMember>,
    pub(super) meters_password: String,
}

/// A gateway of the street.
pub(super) struct GatewayMember {
    pub(super) id: GatewayId,
    /// The home it stands in; none for the one at the transformer.
    pub(super) home: Option<ParticipantId>,
    key: PublicKey,
    password: String,
    points: Vec<PointRecord>,
    device_topics: Vec<String>,
}

impl GatewayMember {
    /// The home's id, or `feeder`: the first half of its points' names.
    fn place(&self) -> &str {
        self.home.as_ref().map_or(FEEDER, ParticipantId::as_str)
    }
}

/// Makes or opens every gateway's folder, key and password.
pub(super) fn members(scenario: &Scenario, data: &DataDir) -> anyhow::Result<Members> {
    let mut gateways = Vec::new();
    for home in scenario.homes.iter().map(Some).chain([None]) {
        gateways.push(member(home, data)?);
    }
    Ok(Members {
        gateways,
        meters_password: random_password()?,
    })
}

fn member(home: Option<&HomeScenario>, data: &DataDir) -> anyhow::Result<GatewayMember> {
    let owner = home.map(|h| h.id.clone());
    let place = owner
        .as_ref()
        .map_or(FEEDER, ParticipantId::as_str)
        .to_owned();
    let id = GatewayId::new(format!("gw-{place}"))?;
    let folder = data.join("gateways").join(id.as_str());
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let key = meter_gateway::open_key(&folder)?;
    let point = |name: &str, role, rating_w| -> anyhow::Result<PointRecord> {
        let point = PointId::new(format!("{place}.{name}"))?;
        Ok(PointRecord {
            point,
            role,
            participant: owner.clone(),
            rating_w,
        })
    };
    let mut points = vec![match home {
        Some(_) => point("meter", PointRole::Connection, HOME_RATING_W)?,
        None => point("meter", PointRole::Feeder, FEEDER_RATING_W)?,
    }];
    if home.is_some_and(|h| h.pv.is_some()) {
        points.push(point("inverter", PointRole::Submeter, HOME_RATING_W)?);
    }
    if let Some(ev) = home.and_then(|h| h.ev.as_ref()) {
        points.push(match ev.own_connection {
            false => point("charger", PointRole::Submeter, HOME_RATING_W)?,
            // A participant of its own, which buys its energy itself.
            true => PointRecord {
                point: PointId::new(format!("station-{place}.charger"))?,
                role: PointRole::Connection,
                participant: Some(ParticipantId::new(format!("station-{place}"))?),
                rating_w: HOME_RATING_W,
            },
        });
    }
    let device_topics = home
        .filter(|h| h.meter == simulator::scenario::MeterKind::ShellyPro3em)
        .map(|h| format!("{MQTT_ROOT}/{}/#", h.id))
        .into_iter()
        .collect();
    let password = kept_password(&folder.join("mqtt.password"))?;
    Ok(GatewayMember {
        id,
        home: owner,
        key: PublicKey::of(&key),
        password,
        points,
        device_topics,
    })
}

/// The community's description, as an operator would have written it.
pub(super) fn site(
    scenario: &Scenario,
    members: &Members,
    mqtt_listen: SocketAddr,
    web_listen: SocketAddr,
) -> anyhow::Result<Site> {
    let participants = scenario
        .homes
        .iter()
        .enumerate()
        .map(|(n, home)| wishes(n, home, members))
        .collect();
    let tariff = Tariff::new(RETAIL, FEED_IN, NETWORK_FEE)?;
    let time_zone = chrono_tz::Europe::Berlin;
    Ok(Site {
        community: CommunityId::new(scenario.name.clone())?,
        interval_length_s: domain::time::DEFAULT_INTERVAL_S,
        gate_closure_s: 300,
        tariff,
        settlement: SettlementRules::flat(tariff),
        market: MarketFile::default(),
        charging: ChargingFile {
            simulated_cards: true,
        },
        fees: None,
        zones: BTreeMap::new(),
        wires: Some(wires(members)?),
        mqtt: Mqtt::own(mqtt_listen),
        web_listen,
        public_url: None,
        writes_per_minute_max: WRITES_PER_MINUTE,
        mail: None,
        witnesses: Vec::new(),
        time_zone,
        currency: "€".to_owned(),
        participants,
        gateways: members
            .gateways
            .iter()
            .map(|g| Gateway {
                id: g.id.clone(),
                key: Some(g.key),
                password_sha256: Some(Digest32::of(g.password.as_bytes()).0),
                device_topics: g.device_topics.clone(),
                points: g.points.clone(),
            })
            .collect(),
        stations: stations(members, time_zone)?,
    })
}

/// The demo's street as wires: a transformer and one cable from house to house, 30 m each.
fn wires(members: &Members) -> anyhow::Result<Wires> {
    let network = Network::from_json(NETWORK.as_bytes()).context("the demo's network")?;
    // A station of its own hangs where its home does.
    let homes = members.gateways.iter().filter(|g| g.home.is_some());
    let nodes = (FIRST_HOUSE_NODE..).zip(homes).flat_map(|(node, gateway)| {
        let connections = gateway
            .points
            .iter()
            .filter(|p| p.role == PointRole::Connection);
        connections.map(move |point| (point.point.to_string(), node))
    });
    Wires::new("network.json".into(), network, nodes.collect())
}

/// The street's chargers, each with the built-in tariff; the community has a share.
fn stations(members: &Members, zone: chrono_tz::Tz) -> anyhow::Result<Vec<Station>> {
    let feeder = PointId::new(format!("{FEEDER}.meter"))?;
    let mut stations = Vec::new();
    for gateway in &members.gateways {
        let Some(home) = &gateway.home else { continue };
        let is_charger = |p: &&PointRecord| p.point.as_str().ends_with(".charger");
        for point in gateway.points.iter().filter(is_charger) {
            let shares = [(home.as_str(), 9_500), (COMMUNITY_OWNER, 500)];
            stations.push(Station::example(point, home, &feeder, &shares, zone)?);
        }
    }
    Ok(stations)
}

/// Homes differ in what local energy is worth to them: some pay a little more for it, some want more. A battery does
/// what a standing order trades with it, once its home gives one.
fn wishes(number: usize, home: &HomeScenario, members: &Members) -> Participant {
    let mut gateways = members.gateways.iter();
    let gateway = gateways.find(|g| g.home.as_ref() == Some(&home.id) && home.battery.is_some());
    let step = i64::try_from(number % 5).unwrap_or(0);
    Participant {
        id: home.id.clone(),
        max_buy: Price::from_micro_per_kwh(280_000 - 17_000 * step),
        min_sell: Price::from_micro_per_kwh(80_000 + 11_000 * ((step * 3) % 5)),
        deposit: DEPOSIT,
        key: None,
        autopilot: Level::WithinLimits,
        compare: true,
        battery: gateway.map(|gateway| BatteryPlace {
            gateway: gateway.id.clone(),
            device: "battery".to_owned(),
        }),
    }
}

/// Lets the street's MQTT meters publish, and nothing else.
pub(super) fn admit_meters(policy: &AccessList, members: &Members) -> anyhow::Result<()> {
    let access = Access {
        read: Vec::new(),
        write: vec![format!("{MQTT_ROOT}/#")],
    };
    Ok(policy.add(METERS_USER, members.meters_password.as_bytes(), access)?)
}

/// Writes a gateway's `gateway.toml` for where its devices are now, and reads it as the gateway would.
pub(super) fn gateway_config(
    gateway: &GatewayMember,
    devices: &[&DeviceEndpoint],
    site: &Site,
    broker: SocketAddr,
    data: &DataDir,
) -> anyhow::Result<Config> {
    let folder = data.join("gateways").join(gateway.id.as_str());
    let operator_key = std::fs::read_to_string(data.join("operator.pub"))?;
    let mut file = toml::Table::new();
    let text = |value: &str| toml::Value::String(value.to_owned());
    file.insert("community".into(), text(site.community.as_str()));
    file.insert("gateway".into(), text(gateway.id.as_str()));
    file.insert("data_dir".into(), text("."));
    file.insert(
        "interval_length_s".into(),
        toml::Value::Integer(site.interval_length_s.into()),
    );
    file.insert(
        "poll_interval_s".into(),
        toml::Value::Integer(POLL_INTERVAL_S.into()),
    );
    file.insert("operator_key".into(), text(operator_key.trim()));
    let mut mqtt = toml::Table::new();
    mqtt.insert("host".into(), text(&broker.ip().to_string()));
    mqtt.insert("port".into(), toml::Value::Integer(broker.port().into()));
    mqtt.insert("user".into(), text(gateway.id.as_str()));
    mqtt.insert("password_file".into(), text("mqtt.password"));
    file.insert("mqtt".into(), toml::Value::Table(mqtt));
    let listed = devices
        .iter()
        .map(|d| toml::Value::Table(device_table(gateway, d)))
        .collect();
    file.insert("devices".into(), toml::Value::Array(listed));
    let path = folder.join("gateway.toml");
    let toml_text = toml::to_string(&file)?;
    std::fs::write(&path, &toml_text)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Config::from_toml(&toml_text, &path.display().to_string())?)
}

fn device_table(gateway: &GatewayMember, device: &DeviceEndpoint) -> toml::Table {
    let mut table = toml::Table::new();
    let text = |value: &str| toml::Value::String(value.to_owned());
    table.insert("name".into(), text(device.name));
    table.insert("profile".into(), text(profile_of(device.kind)));
    let named = |p: &&PointRecord| {
        let name = p.point.as_str().rsplit_once('.');
        name.is_some_and(|(_, name)| name == device.name)
    };
    let record = gateway.points.iter().find(named);
    let point = record.map_or_else(
        || format!("{}.{}", gateway.place(), device.name),
        |record| record.point.to_string(),
    );
    let role = match record.map(|r| r.role) {
        Some(PointRole::Connection) => "connection",
        Some(PointRole::Feeder) => "feeder",
        Some(PointRole::Submeter) => "submeter",
        None => "live_only",
    };
    table.insert("role".into(), text(role));
    let rating_w = record.map_or(HOME_RATING_W, |r| r.rating_w);
    table.insert("point".into(), text(&point));
    table.insert("rating_w".into(), toml::Value::Integer(rating_w.into()));
    match &device.address {
        Endpoint::Modbus { addr, unit } => {
            table.insert("address".into(), text(&addr.to_string()));
            table.insert("unit".into(), toml::Value::Integer((*unit).into()));
        }
        Endpoint::Mqtt { prefix } => {
            table.insert("prefix".into(), text(prefix));
        }
    }
    if let Some(limits) = limits_table(device.kind, rating_w) {
        table.insert("limits".into(), toml::Value::Table(limits));
    }
    table
}

/// What may be done to a device of the demo; meters are only read.
fn limits_table(kind: DeviceKind, rating_w: u32) -> Option<toml::Table> {
    let (target, numbers): (_, &[(&str, u32)]) = match kind {
        DeviceKind::SunSpecBattery => (
            "battery-power",
            &[("max_charge_w", rating_w), ("max_discharge_w", rating_w)],
        ),
        DeviceKind::Keba => ("charger-current", &[("max_current_a", 16)]),
        DeviceKind::SunSpecInverter => ("generation-limit", &[]),
        DeviceKind::SunSpecMeter | DeviceKind::Sdm630 | DeviceKind::ShellyPro3em => return None,
    };
    let mut table = toml::Table::new();
    let target = toml::Value::String(target.to_owned());
    table.insert("set_points".into(), toml::Value::Array(vec![target]));
    for (name, number) in numbers {
        let number = toml::Value::Integer((*number).into());
        table.insert((*name).to_owned(), number);
    }
    Some(table)
}

fn profile_of(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::SunSpecInverter => "sunspec-inverter",
        DeviceKind::SunSpecMeter => "sunspec-meter",
        DeviceKind::Sdm630 => "eastron-sdm630",
        DeviceKind::SunSpecBattery => "sunspec-battery-802",
        DeviceKind::Keba => "keba-p30",
        DeviceKind::ShellyPro3em => "shelly-pro-3em",
    }
}

/// A password nobody has to remember.
pub(crate) fn random_password() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))?;
    Ok(domain::ids::to_hex(&bytes))
}

fn kept_password(file: &std::path::Path) -> anyhow::Result<String> {
    if file.exists() {
        return std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()));
    }
    let password = random_password()?;
    write_private(file, &password)?;
    Ok(password)
}
