//! `[[stations]]` of `site.toml`: what each charging station asks, whose it is, what it costs its owners.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono_tz::Tz;
use domain::ids::{ParticipantId, PointId};
use domain::key_record::{PointRecord, PointRole};
use domain::money::Money;
use serde::{Deserialize, Serialize};
use settlement::charging::FileError;
use settlement::charging::split::{OWNERS_MAX, Owner, WHOLE_BASIS_POINTS};
use settlement::charging::station::{self, EnergyPrice, StationError};
use settlement::charging::tariff::Tariff;
use settlement::service::COMMUNITY_OWNER;
use toml::Spanned;

/// The built-in tariff: what a station asks whose entry names no file. 4 cents on a kWh, 30 cents once, a unit an hour
/// of parking after the grace time, all before 19 % tax.
pub(crate) const EXAMPLE_TARIFF: &str = include_str!("station-tariff.json");

/// An entry as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StationFile {
    /// The station's meter: a connection of its own (then it buys its energy itself), or a submeter behind its host's.
    point: String,
    /// On whose ground it stands.
    host: String,
    /// An OCPI tariff, relative to where `site.toml` lies; without one the built-in example holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tariff_file: Option<String>,
    /// passed-on (the energy's cost comes on top of the tariff's price of a kWh) or included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    energy: Option<String>,
    /// Where it is less than the point's rating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    power_max_w: Option<u32>,
    /// The feeder that it hangs on, by its meter's point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    feeder: Option<String>,
    /// Free parking after the car is full.
    #[serde(default = "default_grace_s")]
    parking_grace_s: u32,
    /// What its owners reckon with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maintenance_per_year: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capital_per_year: Option<String>,
    /// Who gets what of it in basis points: participants, and `community`.
    shares: BTreeMap<String, u32>,
}

fn default_grace_s() -> u32 {
    3_600
}

/// A station, checked.
#[derive(Clone, Debug)]
pub(crate) struct Station {
    /// What it asks; its name is that of its meter's point.
    pub(crate) asks: station::Station,
    /// On whose ground it stands.
    pub(crate) host: ParticipantId,
    /// The participant that it is in the market, where its meter is a connection of its own.
    pub(crate) buyer: Option<ParticipantId>,
    pub(crate) owners: Vec<Owner>,
    /// The feeder's point that it hangs on.
    pub(crate) feeder: Option<PointId>,
    /// Money that its owners reckon with, for a year.
    pub(crate) maintenance_per_year: Money,
    pub(crate) capital_per_year: Money,
    file: StationFile,
}

impl Station {
    /// A station with the built-in tariff and no figures.
    pub(crate) fn example(
        point: &PointRecord,
        host: &ParticipantId,
        feeder: &PointId,
        shares: &[(&str, u32)],
        zone: Tz,
    ) -> anyhow::Result<Station> {
        let owner = |(name, points): &(&str, u32)| ((*name).to_owned(), *points);
        let file = StationFile {
            point: point.point.to_string(),
            host: host.to_string(),
            tariff_file: None,
            energy: None,
            power_max_w: None,
            feeder: Some(feeder.to_string()),
            parking_grace_s: default_grace_s(),
            maintenance_per_year: Some("60.00".to_owned()),
            capital_per_year: Some("180.00".to_owned()),
            shares: shares.iter().map(owner).collect(),
        };
        Ok(file.check(Path::new(""), zone, Some(point))?)
    }
}

/// Why an entry cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("there is no point of this name among the gateways' points")]
    NoPoint,
    #[error("its point is a feeder's; it has to be a connection of its own or a submeter")]
    FeederPoint,
    #[error("its submeter is behind {0}, and `host` says {1}")]
    OtherHost(String, String),
    #[error("it is there twice")]
    Twice,
    #[error("{key} = \"{found}\": {expected}")]
    Value {
        key: &'static str,
        found: String,
        expected: String,
    },
    #[error("host {0} is not one of the participants")]
    UnknownHost(String),
    #[error(
        "its point belongs to {0}, who is a household: a station's connection needs a participant of its own"
    )]
    Household(String),
    #[error("shares: {0} is neither a participant nor `{COMMUNITY_OWNER}`")]
    UnknownOwner(String),
    #[error("shares: they are {0} basis points together and must be {WHOLE_BASIS_POINTS}")]
    Shares(i64),
    #[error("shares: 1 to {OWNERS_MAX} owners, not {0}")]
    Owners(usize),
    #[error("feeder {0} is no point of role feeder")]
    NoFeeder(String),
    #[error("power_max_w is {found}, and its point carries {rating} W at most")]
    Power { found: u32, rating: u32 },
    #[error("tariff_file {} cannot be read: {why}", file.display())]
    File { file: PathBuf, why: String },
    #[error("{}, line {line}: {error}", file.display())]
    Tariff {
        file: PathBuf,
        line: usize,
        error: FileError,
    },
    #[error("{}, line {line}: {error}", file.display())]
    Asks {
        file: PathBuf,
        line: usize,
        error: StationError,
    },
}

/// An entry that cannot be used, and where it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, station {point}: {fault}")]
pub(crate) struct Refused {
    pub(crate) line: usize,
    pub(crate) point: String,
    pub(crate) fault: Fault,
}

/// What the entries are held against.
pub(super) struct Against<'a> {
    pub(super) points: Vec<&'a PointRecord>,
    pub(super) participants: BTreeSet<&'a ParticipantId>,
    pub(super) folder: &'a Path,
    pub(super) zone: Tz,
    /// The text of `site.toml`.
    pub(super) text: &'a str,
}

/// All entries, checked.
pub(super) fn check(
    entries: Vec<Spanned<StationFile>>,
    against: &Against<'_>,
) -> Result<Vec<Station>, Refused> {
    let mut seen = BTreeSet::new();
    let mut stations = Vec::with_capacity(entries.len());
    for entry in entries {
        let start = entry.span().start;
        let file = entry.into_inner();
        let point = file.point.clone();
        let checked = if seen.insert(point.clone()) {
            against.check(file)
        } else {
            Err(Fault::Twice)
        };
        stations.push(checked.map_err(|fault| Refused {
            line: line_at(against.text, start),
            point,
            fault,
        })?);
    }
    Ok(stations)
}

/// The entries as they are written.
pub(super) fn files(stations: &[Station]) -> Vec<Spanned<StationFile>> {
    let file = |s: &Station| Spanned::new(0..0, s.file.clone());
    stations.iter().map(file).collect()
}

/// The line, counted from 1, of a place in a text.
fn line_at(text: &str, place: usize) -> usize {
    let before = text.get(..place).unwrap_or(text);
    before.matches('\n').count() + 1
}

impl Against<'_> {
    fn check(&self, file: StationFile) -> Result<Station, Fault> {
        let point = self.points.iter().find(|p| p.point.as_str() == file.point);
        let feeder = file.feeder.clone();
        let station = file.check(self.folder, self.zone, point.copied())?;
        if !self.participants.contains(&station.host) {
            return Err(Fault::UnknownHost(station.host.to_string()));
        }
        if let Some(home) = station
            .buyer
            .as_ref()
            .filter(|b| self.participants.contains(b))
        {
            return Err(Fault::Household(home.to_string()));
        }
        let known = |name: &str| {
            let mut participants = self.participants.iter();
            name == COMMUNITY_OWNER || participants.any(|p| p.as_str() == name)
        };
        if let Some(unknown) = station.owners.iter().find(|o| !known(&o.name)) {
            return Err(Fault::UnknownOwner(unknown.name.clone()));
        }
        if let Some(feeder) = feeder {
            let is_it =
                |p: &&&PointRecord| p.role == PointRole::Feeder && p.point.as_str() == feeder;
            if !self.points.iter().any(|p| is_it(&p)) {
                return Err(Fault::NoFeeder(feeder));
            }
        }
        Ok(station)
    }
}

impl StationFile {
    fn check(self, folder: &Path, zone: Tz, point: Option<&PointRecord>) -> Result<Station, Fault> {
        let point = point.ok_or(Fault::NoPoint)?;
        let host = value("host", &self.host, ParticipantId::new(&self.host))?;
        let buyer = match (point.role, &point.participant) {
            (PointRole::Feeder, _) => return Err(Fault::FeederPoint),
            (PointRole::Connection, owner) => owner.clone(),
            (PointRole::Submeter, Some(owner)) if *owner == host => None,
            (PointRole::Submeter, owner) => {
                let owner = owner.as_ref().map_or("nobody", ParticipantId::as_str);
                return Err(Fault::OtherHost(owner.to_owned(), self.host));
            }
        };
        let power_max_w = self.power_max_w.unwrap_or(point.rating_w);
        if power_max_w > point.rating_w {
            return Err(Fault::Power {
                found: power_max_w,
                rating: point.rating_w,
            });
        }
        let energy = match &self.energy {
            None => EnergyPrice::default(),
            Some(word) => EnergyPrice::from_word(word).ok_or_else(|| Fault::Value {
                key: "energy",
                found: word.clone(),
                expected: "expected passed-on or included".to_owned(),
            })?,
        };
        let site = station::Site {
            id: self.point.clone(),
            power_max_w,
            energy,
            parking_grace_s: self.parking_grace_s,
            zone,
        };
        let feeder = self.feeder.as_ref();
        Ok(Station {
            asks: self.asks(folder, site)?,
            host,
            buyer,
            owners: self.owners()?,
            feeder: feeder
                .map(|name| value("feeder", name, PointId::new(name)))
                .transpose()?,
            maintenance_per_year: figure(
                "maintenance_per_year",
                self.maintenance_per_year.as_ref(),
            )?,
            capital_per_year: figure("capital_per_year", self.capital_per_year.as_ref())?,
            file: self,
        })
    }

    fn asks(&self, folder: &Path, site: station::Site) -> Result<station::Station, Fault> {
        let (file, text) = match &self.tariff_file {
            None => (
                PathBuf::from("the built-in tariff"),
                EXAMPLE_TARIFF.to_owned(),
            ),
            Some(name) => {
                let file = folder.join(name);
                match std::fs::read_to_string(&file) {
                    Ok(text) => (file, text),
                    Err(error) => {
                        let why = error.to_string();
                        return Err(Fault::File { file, why });
                    }
                }
            }
        };
        let at = |path: &str| FileError::line_of(&text, path).unwrap_or(1);
        let tariffs = Tariff::from_json(&text).map_err(|error| Fault::Tariff {
            file: file.clone(),
            line: at(&error.path),
            error,
        })?;
        let Some(tariff) = tariffs.first() else {
            let why = "it holds no tariff".to_owned();
            return Err(Fault::File { file, why });
        };
        station::Station::new(site, tariff).map_err(|error| Fault::Asks {
            line: error
                .element()
                .map_or(1, |n| at(&format!("$.elements[{n}]"))),
            file: file.clone(),
            error,
        })
    }

    fn owners(&self) -> Result<Vec<Owner>, Fault> {
        let whole: i64 = self.shares.values().map(|s| i64::from(*s)).sum();
        if self.shares.is_empty() || self.shares.len() > OWNERS_MAX {
            return Err(Fault::Owners(self.shares.len()));
        }
        if whole != WHOLE_BASIS_POINTS {
            return Err(Fault::Shares(whole));
        }
        let owner = |(name, basis_points): (&String, &u32)| Owner {
            name: name.clone(),
            basis_points: *basis_points,
        };
        Ok(self.shares.iter().map(owner).collect())
    }
}

fn value<T, E: ToString>(key: &'static str, found: &str, read: Result<T, E>) -> Result<T, Fault> {
    read.map_err(|error| Fault::Value {
        key,
        found: found.to_owned(),
        expected: error.to_string(),
    })
}

/// Money that is not below zero; zero where nothing is said.
fn figure(key: &'static str, text: Option<&String>) -> Result<Money, Fault> {
    let Some(text) = text else {
        return Ok(Money::ZERO);
    };
    let amount: Money = value(key, text, text.parse())?;
    if amount < Money::ZERO {
        return Err(Fault::Value {
            key,
            found: text.clone(),
            expected: "expected an amount that is not below zero".to_owned(),
        });
    }
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use super::super::Site;
    use super::*;

    const SITE: &str = "community = \"lane\"\n[tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
        [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n\
        [[participants]]\nid = \"home-1\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"10\"\n\
        [[gateways]]\nid = \"gw-1\"\npassword_sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n\
        points = [{ id = \"home-1.meter\", role = \"connection\", participant = \"home-1\", rating_w = 10000 },\n\
        { id = \"street.meter\", role = \"feeder\", rating_w = 90000 },\n\
        { id = \"station-1.charger\", role = \"connection\", participant = \"station-1\", rating_w = 22000 }]\n";
    const ENTRY: &str = "[[stations]]\npoint = \"station-1.charger\"\nhost = \"home-1\"\nfeeder = \"street.meter\"\n\
        tariff_file = \"t.json\"\nmaintenance_per_year = \"60.00\"\nshares = { home-1 = 9500, community = 500 }\n";

    fn read(folder: &Path, entry: &str) -> Result<Site, String> {
        let file = folder.join("site.toml");
        Site::from_toml(&format!("{SITE}{entry}"), &file).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn a_station_is_read_with_its_tariff_and_written_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.json"), EXAMPLE_TARIFF).unwrap();
        let site = read(folder.path(), ENTRY).unwrap();
        let station = &site.stations[0];
        assert_eq!(station.asks.start_fee.nano(), 300_000_000);
        assert_eq!(station.asks.power_max_w, 22_000);
        assert_eq!(station.buyer.as_ref().unwrap().as_str(), "station-1");
        assert_eq!(station.maintenance_per_year.nano(), 60_000_000_000);
        assert_eq!(station.capital_per_year, Money::ZERO);
        let text = site.to_toml().unwrap();
        let again = Site::from_toml(&text, &folder.path().join("site.toml")).unwrap();
        assert_eq!(again.to_toml().unwrap(), text);
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.json");
        let told = |from: &str, to: &str| {
            let entry = ENTRY.replacen(from, to, 1);
            assert_ne!(entry, ENTRY, "{from}");
            read(folder.path(), &entry).unwrap_err()
        };
        std::fs::write(&file, EXAMPLE_TARIFF).unwrap();
        for (from, to, expect) in [
            (
                "station-1.",
                "station-2.",
                "line 21, station station-2.charger: there is no point",
            ),
            ("station-1.charger", "street.meter", "feeder's"),
            ("\"home-1\"", "\"home-2\"", "host home-2 is not one"),
            (
                "station-1.charger",
                "home-1.meter",
                "home-1, who is a household",
            ),
            ("9500", "9400", "9900 basis points"),
            ("community", "communty", "communty is neither"),
            ("street.meter", "home-1.meter", "feeder home-1.meter"),
            ("60.00", "-1", "maintenance_per_year = \"-1\""),
            ("shares", "power_max_w = 30000\nshares", "22000 W at most"),
            (
                "shares",
                "energy = \"free\"\nshares",
                "passed-on or included",
            ),
            ("t.json", "u.json", "cannot be read"),
        ] {
            let said = told(from, to);
            assert!(
                said.contains(expect) && said.contains("site.toml"),
                "{said}"
            );
        }
        let twice = read(folder.path(), &format!("{ENTRY}{ENTRY}")).unwrap_err();
        assert!(
            twice.contains("line 28") && twice.contains("twice"),
            "{twice}"
        );
        std::fs::write(
            &file,
            EXAMPLE_TARIFF.replace("\"price\": 0.3", "\"price\": \"x\""),
        )
        .unwrap();
        let said = read(folder.path(), ENTRY).unwrap_err();
        assert!(
            said.contains("t.json, line 9: $.elements[0].price_components[1].price"),
            "{said}"
        );
        std::fs::write(
            &file,
            EXAMPLE_TARIFF.replace("\"step_size\": 1", "\"step_size\": 60"),
        )
        .unwrap();
        let said = read(folder.path(), ENTRY).unwrap_err();
        assert!(
            said.contains("t.json, line 6: elements[0]: step_size 60"),
            "{said}"
        );
    }
}
