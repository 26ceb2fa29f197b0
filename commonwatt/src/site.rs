//! What an operator writes down about a community: tariff, participants, gateways, addresses.
//!
//! `serve` reads it from `site.toml`; the demo writes one for its street.

mod grid;
mod mail;
mod market;
pub(crate) mod mqtt;
pub(crate) mod settlement;
mod stations;
mod witnesses;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use ::settlement::tariff::Tariff;
use anyhow::{Context, bail};
use chrono_tz::Tz;
use domain::command::DEVICE_NAME_MAX_BYTES;
use domain::fees::FeeMatrix;
use domain::ids::{CommunityId, GatewayId, ParticipantId, PointId};
use domain::key_record::{PointRecord, PointRole};
use domain::money::{Money, Price};
use domain::signed::PublicKey;
use domain::time::Interval;
use market_engine::bid::Level;
use market_engine::fees::ZoneFees;
use market_engine::service::Rules;
use serde::{Deserialize, Serialize};

use crate::auth::WRITES_PER_MINUTE;
use crate::platform::BROKER_USER;
use grid::GridFile;
pub(crate) use grid::Wires;
use mail::MailFile;
pub(crate) use mail::{Mail, MailTls};
pub(crate) use market::MarketFile;
pub(crate) use mqtt::Mqtt;
pub(crate) use settlement::SettlementRules;
use settlement::{SettlementFile, TariffFile};
pub(crate) use stations::Station;
use stations::StationFile;
pub(crate) use witnesses::Witness;
use witnesses::WitnessFile;

/// Most participants and most gateways of one site.
const MEMBERS_MAX: usize = 10_000;
/// Longest name of a token on the pages.
const CURRENCY_MAX_CHARS: usize = 8;
/// Longest time between gate closure and the interval: half a day, as gates open a day ahead.
const GATE_CLOSURE_MAX_S: u32 = 43_200;

/// A community, as its operator describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteFile {
    community: String,
    #[serde(default = "default_interval_s")]
    interval_length_s: u32,
    #[serde(default = "default_gate_closure_s")]
    gate_closure_s: u32,
    tariff: TariffFile,
    #[serde(default, skip_serializing_if = "SettlementFile::is_empty")]
    settlement: SettlementFile,
    #[serde(default, skip_serializing_if = "MarketFile::is_empty")]
    market: MarketFile,
    #[serde(default, skip_serializing_if = "ChargingFile::is_empty")]
    charging: ChargingFile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grid: Option<GridFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network_fees: Option<FeesFile>,
    mqtt: Mqtt,
    web: WebFile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mail: Option<MailFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    witnesses: Vec<WitnessFile>,
    #[serde(default)]
    participants: Vec<ParticipantFile>,
    #[serde(default)]
    gateways: Vec<GatewayFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stations: Vec<toml::Spanned<StationFile>>,
}

/// `[charging]`: how people pay at the chargers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChargingFile {
    /// Whether somebody without an account pays by a card that is only simulated: tokens are issued that nobody
    /// has paid for. For demonstrations.
    #[serde(default)]
    pub(crate) simulated_cards: bool,
}

impl ChargingFile {
    fn is_empty(&self) -> bool {
        *self == ChargingFile::default()
    }
}

fn default_interval_s() -> u32 {
    domain::time::DEFAULT_INTERVAL_S
}

fn default_autopilot() -> String {
    Level::default().word().to_owned()
}

fn default_gate_closure_s() -> u32 {
    300
}

fn default_time_zone() -> String {
    Tz::UTC.name().to_owned()
}

const fn default_writes_per_minute_max() -> NonZeroU32 {
    WRITES_PER_MINUTE
}

fn default_currency() -> String {
    "€".to_owned()
}

/// Network fees that depend on the zones of seller and buyer; the tariff's one fee stays for the rest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeesFile {
    zones: Vec<String>,
    /// For each zone that energy comes from, the fee to every zone in token/kWh.
    per_kwh: Vec<Vec<String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebFile {
    listen: SocketAddr,
    /// The address that people use, `https://street.example`, where a proxy on this computer adds TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_url: Option<String>,
    /// The zone of the times on its pages, an IANA name.
    #[serde(default = "default_time_zone")]
    time_zone: String,
    /// What a token is called on its pages.
    #[serde(default = "default_currency")]
    currency: String,
    /// Most writes from one address in a minute, a tenth of them at once; the next ones are answered with 429.
    #[serde(default = "default_writes_per_minute_max")]
    writes_per_minute_max: NonZeroU32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParticipantFile {
    id: String,
    max_buy: String,
    min_sell: String,
    deposit: String,
    /// The key with which it begins to sign for itself; where none is named, the platform keeps a key and signs for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// suggest, within-limits or full.
    #[serde(default = "default_autopilot")]
    autopilot: String,
    /// Whether others may be shown an average that this home is in, and it one of them; its accounts can say otherwise.
    #[serde(default)]
    compare: bool,
    /// The battery that does what its standing orders have traded; without it none is told anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    battery: Option<BatteryFile>,
}

/// `battery = { gateway = "gw-1", device = "battery" }`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatteryFile {
    gateway: String,
    /// Its name in that gateway's configuration.
    device: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GatewayFile {
    id: String,
    /// Ed25519 public key in base64, as `commonwatt gateway` prints it at its first start. Without one, the
    /// gateway enrols its key with a claim code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// SHA-256 of the MQTT password in hex; none where a certificate says who the gateway is.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_sha256: Option<String>,
    /// Device topics this gateway may read besides its own, `shellypro3em-home-10/#` say.
    #[serde(default)]
    device_topics: Vec<String>,
    points: Vec<PointFile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PointFile {
    id: String,
    role: RoleFile,
    participant: Option<String>,
    rating_w: u32,
    /// Where it lies, for fees that depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleFile {
    Connection,
    Feeder,
    Submeter,
}

/// A community, checked.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) community: CommunityId,
    pub(crate) interval_length_s: u32,
    pub(crate) gate_closure_s: u32,
    /// The tariff where no version, time or month says something else.
    pub(crate) tariff: Tariff,
    pub(crate) settlement: SettlementRules,
    pub(crate) market: MarketFile,
    pub(crate) charging: ChargingFile,
    /// Network fees by zone, and the zone of each point that names one.
    pub(crate) fees: Option<FeeMatrix>,
    pub(crate) zones: BTreeMap<PointId, String>,
    /// The wires behind the transformer, where they are described.
    pub(crate) wires: Option<Wires>,
    pub(crate) mqtt: Mqtt,
    pub(crate) web_listen: SocketAddr,
    /// The address that people use, where it is not the one that is listened on.
    pub(crate) public_url: Option<String>,
    /// Most writes from one address in a minute.
    pub(crate) writes_per_minute_max: NonZeroU32,
    /// Who carries links to sign in to people's mailboxes.
    pub(crate) mail: Option<Mail>,
    /// Who is asked to sign the logs.
    pub(crate) witnesses: Vec<Witness>,
    /// The zone of times and days on its pages.
    pub(crate) time_zone: Tz,
    /// What a token is called there.
    pub(crate) currency: String,
    pub(crate) participants: Vec<Participant>,
    pub(crate) gateways: Vec<Gateway>,
    /// Where cars charge.
    pub(crate) stations: Vec<Station>,
}

/// A participant whose autopilot the platform runs.
#[derive(Clone, Debug)]
pub(crate) struct Participant {
    pub(crate) id: ParticipantId,
    pub(crate) max_buy: Price,
    pub(crate) min_sell: Price,
    pub(crate) deposit: Money,
    /// The key with which it begins to sign for itself; the platform keeps none for it then.
    pub(crate) key: Option<PublicKey>,
    /// How far its autopilot may go.
    pub(crate) autopilot: Level,
    /// Whether it is compared with others, until one of its accounts says something else.
    pub(crate) compare: bool,
    /// The battery that does what its standing orders have traded.
    pub(crate) battery: Option<BatteryPlace>,
}

/// Where a battery is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BatteryPlace {
    pub(crate) gateway: GatewayId,
    /// Its name there.
    pub(crate) device: String,
}

/// A gateway that may deliver readings.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) id: GatewayId,
    /// The key it begins with, unless it enrols one with a claim code.
    pub(crate) key: Option<PublicKey>,
    pub(crate) password_sha256: Option<[u8; 32]>,
    pub(crate) device_topics: Vec<String>,
    pub(crate) points: Vec<PointRecord>,
}

impl Site {
    /// The point through which a participant is connected, with its rating in watts.
    pub(crate) fn connection_of(&self, participant: &ParticipantId) -> Option<&PointRecord> {
        self.points().find(|p| {
            p.role == PointRole::Connection && p.participant.as_ref() == Some(participant)
        })
    }

    /// The station at this point.
    pub(crate) fn station(&self, point: &str) -> Option<&Station> {
        self.stations.iter().find(|s| s.asks.id == point)
    }

    /// Every point of every gateway.
    pub(crate) fn points(&self) -> impl Iterator<Item = &PointRecord> {
        self.gateways.iter().flat_map(|g| g.points.iter())
    }

    /// What no single value can show: names that are taken twice, and who belongs to whom.
    fn fits_together(&self) -> anyhow::Result<()> {
        if let Some(wires) = &self.wires {
            let is_connection = |point: &PointId| {
                let mut points = self.points();
                points.any(|p| p.role == PointRole::Connection && p.point == *point)
            };
            wires.fits(is_connection)?;
        }
        if self.mail.is_some() && self.public_url.is_none() && !self.web_listen.ip().is_loopback() {
            bail!("mail: links need web.public_url, the address at which people reach the pages");
        }
        Interval::new(0, self.interval_length_s).context("interval_length_s")?;
        if self.gate_closure_s > GATE_CLOSURE_MAX_S {
            bail!(
                "gate_closure_s is {}, at most {GATE_CLOSURE_MAX_S} fit",
                self.gate_closure_s
            );
        }
        unique(
            "participant",
            self.participants.iter().map(|p| p.id.as_str()),
        )?;
        unique("gateway", self.gateways.iter().map(|g| g.id.as_str()))?;
        unique("point", self.points().map(|p| p.point.as_str()))?;
        let gateways = self.gateways.iter().filter_map(|g| g.key);
        let participants = self.participants.iter().filter_map(|p| p.key);
        let keys: Vec<_> = gateways.chain(participants).map(public_key_text).collect();
        unique("public_key", keys.iter().map(String::as_str))?;
        let connections = self.points().filter(|p| p.role == PointRole::Connection);
        let owners = connections.filter_map(|p| p.participant.as_ref());
        unique(
            "the connection of participant",
            owners.map(ParticipantId::as_str),
        )?;
        self.is_reachable_safely()?;
        self.zones_fit()?;
        self.wishes_fit()?;
        for participant in &self.participants {
            if self.connection_of(&participant.id).is_none() {
                bail!(
                    "participant {} has no gateway point of role connection",
                    participant.id
                );
            }
            self.battery_fits(participant)?;
            if participant.deposit < Money::ZERO {
                bail!(
                    "participant {}: a deposit is not below zero",
                    participant.id
                );
            }
        }
        Ok(())
    }

    /// A home's battery is behind a gateway of its own.
    fn battery_fits(&self, participant: &Participant) -> anyhow::Result<()> {
        let Some(BatteryPlace { gateway, device }) = &participant.battery else {
            return Ok(());
        };
        let id = &participant.id;
        if device.is_empty() || device.len() > DEVICE_NAME_MAX_BYTES {
            bail!(
                "participant {id}: the name of its battery's device has 1 to {DEVICE_NAME_MAX_BYTES} bytes"
            );
        }
        let mut own = self.gateways.iter().filter(|g| g.id == *gateway);
        let is_own = |g: &Gateway| {
            let mut points = g.points.iter();
            points.any(|p| p.participant.as_ref() == Some(id))
        };
        if !own.any(is_own) {
            bail!(
                "participant {id}: its battery is behind {gateway}, which is no gateway with a point of {id}"
            );
        }
        Ok(())
    }

    /// What a home wishes lies within what the community has agreed on: its autopilot could never order
    /// otherwise.
    fn wishes_fit(&self) -> anyhow::Result<()> {
        let rules = self.market.rules(Rules::default())?;
        let (floor, cap) = (rules.price_floor, rules.price_cap);
        let by_wish = self.participants.iter();
        for home in by_wish.filter(|home| home.autopilot != Level::Full) {
            let (id, buy, sell) = (&home.id, home.max_buy, home.min_sell);
            if buy < floor {
                bail!(
                    "participant {id}: max_buy {buy} is below market.price_floor {floor}, it could never buy"
                );
            }
            if sell > cap {
                bail!(
                    "participant {id}: min_sell {sell} is above market.price_cap {cap}, it could never sell"
                );
            }
        }
        Ok(())
    }

    /// Fees by zone: every connection has one of the zones, and neighbours still have a price that is
    /// good for both across the dearest of them.
    fn zones_fit(&self) -> anyhow::Result<()> {
        let Some(fees) = &self.fees else {
            if let Some((point, _)) = self.zones.first_key_value() {
                bail!("point {point} has a zone, but there is no [network_fees] that names it");
            }
            return Ok(());
        };
        if let Some((point, zone)) = self.zones.iter().find(|(_, z)| fees.zone(z).is_none()) {
            bail!("point {point}: its zone {zone} is not one of those in [network_fees]");
        }
        let connections = self.points().filter(|p| p.role == PointRole::Connection);
        let lost = |p: &&PointRecord| !self.zones.contains_key(&p.point);
        if let Some(point) = connections.into_iter().find(lost) {
            bail!(
                "point {}: with [network_fees] every connection needs its zone",
                point.point
            );
        }
        Tariff::new(self.tariff.retail, self.tariff.feed_in, fees.largest())
            .context("[network_fees]: the largest fee")?;
        Ok(())
    }

    /// The prices that hold for an interval.
    pub(crate) fn tariff_at(&self, interval: Interval) -> Tariff {
        self.settlement.tariffs.at(interval).tariff
    }

    /// The tariff of an interval, and the largest network fee that a trade can have in it.
    pub(crate) fn tariff_and_fee_at(&self, interval: Interval) -> (Tariff, Price) {
        let tariff = self.tariff_at(interval);
        (tariff, self.largest_fee(tariff.network_fee))
    }

    /// The largest network fee that a trade can have where the tariff's is `fee`.
    pub(crate) fn largest_fee(&self, fee: Price) -> Price {
        let zones = self.fees.as_ref().map(FeeMatrix::largest);
        zones.map_or(fee, |zones| zones.max(fee))
    }

    /// Fees by zone as the market takes them.
    pub(crate) fn zone_fees(&self) -> Option<ZoneFees> {
        let matrix = self.fees.clone()?;
        let zone = |participant: &ParticipantId| {
            let point = self.connection_of(participant)?;
            let zone = matrix.zone(self.zones.get(&point.point)?)?;
            Some((participant.clone(), zone))
        };
        let stations = self.stations.iter().filter_map(|s| s.buyer.as_ref());
        let homes = self.participants.iter().map(|p| &p.id);
        let zone_of = homes.chain(stations).filter_map(zone).collect();
        Some(ZoneFees {
            matrix,
            zone_of,
            promised: BTreeMap::new(),
        })
    }

    /// How gateways come in: not as the platform, not unprotected, and each with something to prove
    /// who it is.
    fn is_reachable_safely(&self) -> anyhow::Result<()> {
        self.mqtt.check()?;
        for gateway in &self.gateways {
            if gateway.id.as_str() == BROKER_USER {
                bail!("a gateway cannot be called {BROKER_USER}: that is the platform's own name");
            }
            let has_password = gateway.password_sha256.is_some();
            match &self.mqtt {
                Mqtt::Own(own) if !has_password && !own.asks_for_certificates() => bail!(
                    "gateway {} has no password_sha256, and there is no client_ca_file in [mqtt.tls] for \
                     certificates instead",
                    gateway.id
                ),
                Mqtt::Other(_) if has_password || !gateway.device_topics.is_empty() => bail!(
                    "gateway {} has a password_sha256 or device_topics, and who may do what at [mqtt.broker] \
                     is written down there: leave them out here",
                    gateway.id
                ),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads and checks a `site.toml`. Paths in it become relative to where it lies.
    pub(crate) fn from_toml(text: &str, file: &Path) -> anyhow::Result<Site> {
        let raw: SiteFile = toml::from_str(text)
            .with_context(|| format!("{} is not a valid site", file.display()))?;
        let mut site = raw
            .check(file.parent().unwrap_or(Path::new("")), text)
            .with_context(|| format!("{} is not a valid site", file.display()))?;
        site.mqtt.resolve(file.parent().unwrap_or(Path::new("")));
        Ok(site)
    }

    /// The `site.toml` that describes this site.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(&SiteFile::of(self))?)
    }
}

/// A public address is scheme and host, and nothing behind them.
fn checked_url(url: &str) -> anyhow::Result<String> {
    let url = url.strip_suffix('/').unwrap_or(url);
    let host = url.strip_prefix("https://").or(url.strip_prefix("http://"));
    let fits = |host: &&str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
        !host.is_empty() && host.chars().all(plain)
    };
    if host.filter(fits).is_none() {
        bail!(
            "web.public_url `{url}`: expected scheme and host as browsers show them, https://street.example"
        );
    }
    Ok(url.to_owned())
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            bail!("{what} {name} is there twice");
        }
    }
    Ok(())
}

impl SiteFile {
    fn check(self, folder: &Path, text: &str) -> anyhow::Result<Site> {
        if self.participants.len() > MEMBERS_MAX || self.gateways.len() > MEMBERS_MAX {
            bail!("a site has at most {MEMBERS_MAX} participants and as many gateways");
        }
        let settlement = SettlementRules::check(self.tariff, self.settlement, folder)?;
        let (time_zone, currency) = (self.web.time_zone()?, self.web.currency()?);
        let zones = self.gateways.iter().flat_map(|g| &g.points);
        let zones = zones.filter_map(|p| Some((p.id.clone(), p.zone.clone()?)));
        let zones = zones
            .map(|(point, zone)| Ok((PointId::new(point)?, zone)))
            .collect::<anyhow::Result<_>>()?;
        let mut site = Site {
            fees: self.network_fees.map(FeesFile::check).transpose()?,
            wires: self.grid.map(|grid| grid.check(folder)).transpose()?,
            zones,
            community: CommunityId::new(self.community).context("community")?,
            interval_length_s: self.interval_length_s,
            gate_closure_s: self.gate_closure_s,
            tariff: settlement.base,
            settlement,
            market: self.market,
            charging: self.charging,
            mqtt: self.mqtt,
            web_listen: self.web.listen,
            public_url: self
                .web
                .public_url
                .map(|url| checked_url(&url))
                .transpose()?,
            writes_per_minute_max: self.web.writes_per_minute_max,
            mail: self.mail.map(|mail| mail.check(folder)).transpose()?,
            witnesses: witnesses::checked(self.witnesses)?,
            time_zone,
            currency,
            participants: self
                .participants
                .into_iter()
                .map(ParticipantFile::check)
                .collect::<anyhow::Result<_>>()?,
            gateways: self
                .gateways
                .into_iter()
                .map(GatewayFile::check)
                .collect::<anyhow::Result<_>>()?,
            stations: Vec::new(),
        };
        site.fits_together()?;
        site.stations = stations::check(
            self.stations,
            &stations::Against {
                points: site.points().collect(),
                participants: site.participants.iter().map(|p| &p.id).collect(),
                folder,
                zone: site.time_zone,
                text,
            },
        )?;
        Ok(site)
    }

    fn of(site: &Site) -> SiteFile {
        let (tariff, settlement) = site.settlement.sections();
        SiteFile {
            community: site.community.to_string(),
            interval_length_s: site.interval_length_s,
            gate_closure_s: site.gate_closure_s,
            tariff,
            settlement,
            market: site.market.clone(),
            charging: site.charging,
            grid: site.wires.as_ref().map(GridFile::of),
            network_fees: site.fees.as_ref().map(FeesFile::of),
            mqtt: site.mqtt.clone(),
            web: WebFile {
                listen: site.web_listen,
                public_url: site.public_url.clone(),
                time_zone: site.time_zone.name().to_owned(),
                currency: site.currency.clone(),
                writes_per_minute_max: site.writes_per_minute_max,
            },
            mail: site.mail.as_ref().map(MailFile::of),
            witnesses: site.witnesses.iter().map(WitnessFile::of).collect(),
            participants: site.participants.iter().map(ParticipantFile::of).collect(),
            gateways: site
                .gateways
                .iter()
                .map(|g| GatewayFile::of(g, &site.zones))
                .collect(),
            stations: stations::files(&site.stations),
        }
    }
}

impl WebFile {
    fn time_zone(&self) -> anyhow::Result<Tz> {
        let zone = &self.time_zone;
        zone.parse().map_err(|_| {
            anyhow::anyhow!("web.time_zone `{zone}`: expected an IANA name like Europe/Berlin")
        })
    }

    fn currency(&self) -> anyhow::Result<String> {
        let length = self.currency.chars().count();
        if length == 0 || length > CURRENCY_MAX_CHARS {
            bail!(
                "web.currency: expected a sign or short name of 1 to {CURRENCY_MAX_CHARS} characters"
            );
        }
        Ok(self.currency.clone())
    }
}

impl FeesFile {
    fn check(self) -> anyhow::Result<FeeMatrix> {
        let fee = |text: String| -> anyhow::Result<Price> {
            text.parse()
                .with_context(|| format!("[network_fees] per_kwh, fee `{text}`"))
        };
        let row = |row: Vec<String>| row.into_iter().map(fee).collect::<anyhow::Result<Vec<_>>>();
        let rows: Vec<Vec<Price>> = self
            .per_kwh
            .into_iter()
            .map(row)
            .collect::<Result<_, _>>()?;
        FeeMatrix::new(self.zones, &rows).context("[network_fees]")
    }

    fn of(fees: &FeeMatrix) -> FeesFile {
        let row = |row: &[Price]| row.iter().map(ToString::to_string).collect();
        FeesFile {
            zones: fees.zones().to_vec(),
            per_kwh: fees.rows().map(row).collect(),
        }
    }
}

impl BatteryFile {
    fn check(self) -> anyhow::Result<BatteryPlace> {
        Ok(BatteryPlace {
            gateway: GatewayId::new(self.gateway).context("participants.battery, gateway")?,
            device: self.device,
        })
    }

    fn of(place: &BatteryPlace) -> BatteryFile {
        BatteryFile {
            gateway: place.gateway.to_string(),
            device: place.device.clone(),
        }
    }
}

impl ParticipantFile {
    fn check(self) -> anyhow::Result<Participant> {
        let id = ParticipantId::new(self.id).context("participants.id")?;
        let place = |key: &str| format!("participant {id}, {key}");
        Ok(Participant {
            max_buy: self.max_buy.parse().with_context(|| place("max_buy"))?,
            min_sell: self.min_sell.parse().with_context(|| place("min_sell"))?,
            deposit: self.deposit.parse().with_context(|| place("deposit"))?,
            key: self
                .public_key
                .map(|text| parse_public_key(&text))
                .transpose()
                .with_context(|| place("public_key"))?,
            autopilot: Level::from_word(&self.autopilot).with_context(|| {
                let found = &self.autopilot;
                format!(
                    "{} `{found}`: expected suggest, within-limits or full",
                    place("autopilot")
                )
            })?,
            compare: self.compare,
            battery: self.battery.map(BatteryFile::check).transpose()?,
            id,
        })
    }

    fn of(participant: &Participant) -> ParticipantFile {
        ParticipantFile {
            id: participant.id.to_string(),
            max_buy: participant.max_buy.to_string(),
            min_sell: participant.min_sell.to_string(),
            deposit: participant.deposit.to_string(),
            public_key: participant.key.map(public_key_text),
            autopilot: participant.autopilot.word().to_owned(),
            compare: participant.compare,
            battery: participant.battery.as_ref().map(BatteryFile::of),
        }
    }
}

impl GatewayFile {
    fn check(self) -> anyhow::Result<Gateway> {
        let id = GatewayId::new(self.id).context("gateways.id")?;
        let place = |key: &str| format!("gateway {id}, {key}");
        let points = self
            .points
            .into_iter()
            .map(PointFile::check)
            .collect::<anyhow::Result<_>>();
        Ok(Gateway {
            key: self
                .public_key
                .map(|text| parse_public_key(&text))
                .transpose()
                .with_context(|| place("public_key"))?,
            password_sha256: self
                .password_sha256
                .map(|hex| domain::ids::from_hex(&hex).with_context(|| place("password_sha256")))
                .transpose()?,
            device_topics: self.device_topics,
            points: points.with_context(|| place("points"))?,
            id,
        })
    }

    fn of(gateway: &Gateway, zones: &BTreeMap<PointId, String>) -> GatewayFile {
        GatewayFile {
            id: gateway.id.to_string(),
            public_key: gateway.key.map(public_key_text),
            password_sha256: gateway
                .password_sha256
                .map(|hash| domain::ids::to_hex(&hash)),
            device_topics: gateway.device_topics.clone(),
            points: gateway
                .points
                .iter()
                .map(|p| PointFile::of(p, zones.get(&p.point)))
                .collect(),
        }
    }
}

impl PointFile {
    fn check(self) -> anyhow::Result<PointRecord> {
        let participant = self.participant.map(ParticipantId::new).transpose()?;
        let role = match self.role {
            RoleFile::Connection => PointRole::Connection,
            RoleFile::Feeder => PointRole::Feeder,
            RoleFile::Submeter => PointRole::Submeter,
        };
        if role == PointRole::Connection && participant.is_none() {
            bail!("point {} of role connection needs a participant", self.id);
        }
        if self.rating_w == 0 {
            bail!(
                "point {}: rating_w is 0, so no reading could be plausible",
                self.id
            );
        }
        Ok(PointRecord {
            point: PointId::new(self.id)?,
            role,
            participant,
            rating_w: self.rating_w,
        })
    }

    fn of(point: &PointRecord, zone: Option<&String>) -> PointFile {
        PointFile {
            id: point.point.to_string(),
            role: match point.role {
                PointRole::Connection => RoleFile::Connection,
                PointRole::Feeder => RoleFile::Feeder,
                PointRole::Submeter => RoleFile::Submeter,
            },
            participant: point.participant.as_ref().map(ToString::to_string),
            rating_w: point.rating_w,
            zone: zone.cloned(),
        }
    }
}

/// A public key as people copy it: 32 bytes in base64.
pub(crate) fn public_key_text(key: PublicKey) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(key.to_bytes())
}

/// A public key from base64.
pub(crate) fn parse_public_key(text: &str) -> anyhow::Result<PublicKey> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .context("expected an Ed25519 public key: 32 bytes in base64")?;
    Ok(PublicKey::from_bytes(&bytes)?)
}

/// Writes a file whole or not at all, readable by its owner only, and durably.
pub(crate) fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    runtime::durable::write(file, text, 0o600).with_context(|| {
        format!(
            "cannot write {}: choose another folder with --data-dir",
            file.display()
        )
    })
}

/// Where a running community keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// Makes the folder where it is missing and takes it for this process alone.
    ///
    /// The lock ends with the process, however it ends.
    pub(crate) fn take(path: &Path) -> anyhow::Result<(DataDir, std::fs::File)> {
        let shown = path.display();
        std::fs::create_dir_all(path).with_context(|| {
            format!("cannot make the data folder {shown}: choose another with --data-dir")
        })?;
        let lock = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .with_context(|| {
                format!("cannot write in the data folder {shown}: choose another with --data-dir")
            })?;
        if lock.try_lock().is_err() {
            bail!(
                "the data folder {shown} is in use by another commonwatt: stop it, or choose another with --data-dir"
            );
        }
        Ok((DataDir(path.to_owned()), lock))
    }

    /// The file that says which street a demo's folder holds.
    pub(crate) fn street_file(&self) -> PathBuf {
        self.join("street.json")
    }

    /// Whether the folder belongs to a demo.
    pub(crate) fn holds_a_demo(&self) -> bool {
        self.street_file().exists()
    }

    /// Where the books are when nothing else is said.
    pub(crate) fn database(&self) -> String {
        self.join("commonwatt.db").display().to_string()
    }

    /// A path inside.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::signed::SigningKey;

    fn text() -> String {
        let key = |seed| public_key_text(PublicKey::of(&SigningKey::from_bytes(&[seed; 32])));
        let password = "0".repeat(64);
        let gateway = |n: u8| {
            format!(
                "[[gateways]]\nid = \"gw-{n}\"\npublic_key = \"{}\"\npassword_sha256 = \"{password}\"\n\
                 points = [{{ id = \"home-{n}.meter\", role = \"connection\", participant = \"home-{n}\", \
                 rating_w = 10000 }}]\n",
                key(n)
            )
        };
        let participant = |n: u8| {
            format!(
                "[[participants]]\nid = \"home-{n}\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\n\
                 deposit = \"10\"\n"
            )
        };
        format!(
            "community = \"lane\"\n[tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
             [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n{}{}{}{}",
            participant(1),
            participant(2),
            gateway(1),
            gateway(2)
        )
    }

    #[test]
    fn a_site_survives_being_written_and_read() {
        let site = Site::from_toml(&text(), Path::new("site.toml")).unwrap();
        let again = Site::from_toml(&site.to_toml().unwrap(), Path::new("site.toml")).unwrap();
        assert_eq!(site.to_toml().unwrap(), again.to_toml().unwrap());
        assert_eq!((again.participants.len(), again.gateways.len()), (2, 2));
    }

    #[test]
    fn fees_by_zone_need_a_zone_of_every_connection() {
        let fees = "[network_fees]\nzones = [\"north\", \"south\"]\n\
                    per_kwh = [[\"0.01\", \"0.04\"], [\"0.03\", \"0.01\"]]\n[mqtt]";
        let zoned = text().replace("[mqtt]", fees).replacen(
            "rating_w = 10000",
            "rating_w = 10000, zone = \"north\"",
            1,
        );
        let refused = |text: &str, expect: &str| {
            let error = Site::from_toml(text, Path::new("site.toml")).unwrap_err();
            assert!(crate::cli::chain(&error).contains(expect), "{error:#}");
        };
        refused(&zoned, "point home-2.meter: with [network_fees] every");
        let zoned = zoned.replacen(
            "rating_w = 10000 }",
            "rating_w = 10000, zone = \"south\" }",
            1,
        );
        let site = Site::from_toml(&zoned, Path::new("site.toml")).unwrap();
        assert_eq!(
            site.largest_fee(site.tariff.network_fee).to_string(),
            "0.040000"
        );
        let (north, south) = (&site.participants[0].id, &site.participants[1].id);
        let market = site.zone_fees().unwrap();
        assert_eq!(market.fee(0, south, north).unwrap().to_string(), "0.030000");
        let again = Site::from_toml(&site.to_toml().unwrap(), Path::new("site.toml")).unwrap();
        assert_eq!((again.fees, again.zones), (site.fees, site.zones));
        refused(
            &zoned.replace("\"0.04\"", "\"0.23\""),
            "[network_fees]: the largest fee",
        );
        refused(
            &zoned.replace("zone = \"south\"", "zone = \"west\""),
            "its zone west",
        );
        refused(&zoned.replace("\"0.04\"", "\"-0.04\""), "below zero");
        refused(
            &text().replacen("rating_w = 10000", "rating_w = 10000, zone = \"north\"", 1),
            "no [network_fees]",
        );
    }

    #[test]
    fn gateways_with_certificates_need_no_password() {
        let tls = "[mqtt.tls]\ncert_file = \"b.pem\"\nkey_file = \"/k/b.key\"\nclient_ca_file = \"c.pem\"\n";
        let text = text()
            .replace(
                "listen = \"127.0.0.1:0\"\n[web]",
                &format!("listen = \"0.0.0.0:0\"\n{tls}[web]"),
            )
            .replace(&format!("password_sha256 = \"{}\"\n", "0".repeat(64)), "");
        let site = Site::from_toml(&text, Path::new("/etc/cw/site.toml")).unwrap();
        let Mqtt::Own(own) = &site.mqtt else {
            panic!("not its own broker");
        };
        let files = own.tls().unwrap();
        assert_eq!(files.own.cert_file, Path::new("/etc/cw/b.pem"));
        assert_eq!(files.own.key_file, Path::new("/k/b.key"));
        let again = Site::from_toml(&site.to_toml().unwrap(), Path::new("site.toml")).unwrap();
        assert_eq!(again.mqtt, site.mqtt);
    }

    #[test]
    fn a_gateway_may_wait_for_a_claim() {
        let keyless: String = text()
            .lines()
            .filter(|line| !line.starts_with("public_key"))
            .map(|line| format!("{line}\n"))
            .collect();
        let site = Site::from_toml(&keyless, Path::new("site.toml")).unwrap();
        assert!(site.gateways.iter().all(|gateway| gateway.key.is_none()));
        assert!(!site.to_toml().unwrap().contains("public_key"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_its_name() {
        let check = |from: &str, to: &str, expect: &str| {
            let changed = text().replacen(from, to, 1);
            assert_ne!(changed, text(), "{from} is not there");
            let error = Site::from_toml(&changed, Path::new("site.toml")).unwrap_err();
            let told = crate::cli::chain(&error);
            assert!(
                told.contains(expect) && told.contains("site.toml"),
                "{told}"
            );
        };
        check(
            "id = \"home-2\"\nmax",
            "id = \"home-1\"\nmax",
            "participant home-1 is there twice",
        );
        check(
            "id = \"gw-2\"",
            "id = \"gw-1\"",
            "gateway gw-1 is there twice",
        );
        check("id = \"gw-2\"", "id = \"platform\"", "platform");
        check(
            "public_key = \"",
            "public_key = \"x",
            "gateway gw-1, public_key",
        );
        check(
            "home-2.meter",
            "home-1.meter",
            "point home-1.meter is there twice",
        );
        check(
            "participant = \"home-2\"",
            "participant = \"home-1\"",
            "home-1 is there twice",
        );
        check("rating_w = 10000", "rating_w = 0", "rating_w is 0");
        check("deposit = \"10\"", "deposit = \"-10\"", "home-1: a deposit");
        check("deposit = \"10\"", "deposit = \"ten\"", "home-1, deposit");
        check(
            "deposit = \"10\"",
            "deposit = \"10\"\nautopilot = \"all\"",
            "home-1, autopilot `all`",
        );
        check("retail = \"0.30\"", "retail = \"0.1\"", "network_fee");
        let market = |rule: &str| format!("[market]\n{rule}\n[mqtt]");
        check(
            "[mqtt]",
            &market("price_floor = \"0.26\""),
            "home-1: max_buy 0.250000 is below market.price_floor 0.260000",
        );
        check(
            "[mqtt]",
            &market("price_cap = \"0.08\""),
            "home-1: min_sell 0.090000 is above market.price_cap 0.080000",
        );
        check("community", "comunity", "comunity");
        check(
            "[tariff]",
            "gate_closure_s = 4000000000\n[tariff]",
            "gate_closure_s",
        );
        check("[tariff]", "interval_length_s = 700\n[tariff]", "700");
        let afar = "[mqtt]\nlisten = \"0.0.0.0:0\"";
        check("[mqtt]\nlisten = \"127.0.0.1:0\"", afar, "plain text");
        let broker =
            "[mqtt.broker]\nhost = \"127.0.0.1\"\nuser = \"platform\"\npassword_file = \"pw\"";
        check(
            "[mqtt]\nlisten = \"127.0.0.1:0\"",
            broker,
            "gateway gw-1 has a password_sha256",
        );
        let password = format!("password_sha256 = \"{}\"\n", "0".repeat(64));
        check(&password, "", "gateway gw-1 has no password_sha256");
    }

    #[test]
    fn a_public_url_is_scheme_and_host() {
        let with = |url: &str| {
            let text = text().replacen("[web]\n", &format!("[web]\npublic_url = \"{url}\"\n"), 1);
            Site::from_toml(&text, Path::new("site.toml"))
        };
        let site = with("https://street.example/").unwrap();
        assert_eq!(site.public_url.as_deref(), Some("https://street.example"));
        assert!(site.to_toml().unwrap().contains("https://street.example"));
        for bad in [
            "",
            "street.example",
            "ftp://street.example",
            "https://a/b",
            "https://",
            "https://A",
        ] {
            let said = format!("{:#}", with(bad).unwrap_err());
            assert!(said.contains("public_url"), "{bad}: {said}");
        }
    }
}
