//! What happened in a session, as an OCPI charging record (CDR) says it: periods with energy and times.

use chrono_tz::Tz;
use domain::money::Money;
use domain::time::Timestamp;

use super::tariff::{Reservation, Tariff};
use super::{HOUR_S, NANO, decimal};
use domain::json::{FileError, Node, needed};

/// A session's record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// When it ended.
    pub end: Timestamp,
    /// The stretches of it, in order; each ends where the next begins, the last with the session.
    pub periods: Vec<Period>,
    /// The currency it was charged in, where it says so.
    pub currency: Option<String>,
    /// What whoever wrote it says it cost: before taxes, and with them.
    pub claimed: Option<(Money, Option<Money>)>,
    /// The tariffs that it carries.
    pub tariffs: Vec<Tariff>,
}

/// A stretch of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Period {
    /// When it began.
    pub start: Timestamp,
    /// Energy into the car, in nano-kWh.
    pub energy: i128,
    /// Time in which the car charged, in nanoseconds.
    pub time_ns: i128,
    /// Time in which it was connected and asked for no power, in nanoseconds.
    pub parking_ns: i128,
    /// Time for which the charger was reserved, in nanoseconds.
    pub reserved_ns: i128,
    /// Least and most current, in nano-ampere.
    pub current: Option<(i128, i128)>,
    /// Least and most power, in nano-kW.
    pub power: Option<(i128, i128)>,
}

impl Period {
    /// A stretch in which nothing has happened yet.
    #[must_use]
    pub const fn empty(start: Timestamp) -> Self {
        Period {
            start,
            energy: 0,
            time_ns: 0,
            parking_ns: 0,
            reserved_ns: 0,
            current: None,
            power: None,
        }
    }
}

impl Record {
    /// Reads a charging record.
    ///
    /// # Errors
    /// What is wrong, with its JSON path.
    pub fn from_json(text: &str) -> Result<Record, FileError> {
        Record::read(&Node::root(text)?)
    }

    pub(in crate::charging) fn read(node: &Node<'_>) -> Result<Record, FileError> {
        let members = node.members()?;
        let start = needed(node, &members, "start_date_time")?.instant()?;
        let end_node = needed(node, &members, "end_date_time")?;
        let end = end_node.instant()?;
        let list = needed(node, &members, "charging_periods")?;
        let periods = read_periods(list, start)?;
        if periods.last().is_some_and(|last| last.start > end) || end < start {
            return Err(end_node.wrong("the session ends before it, or its last period, begins"));
        }
        let tariffs = members.get("tariffs").map(Tariff::read_all).transpose()?;
        Ok(Record {
            end,
            periods,
            currency: members.get("currency").map(Node::text).transpose()?,
            claimed: members.get("total_cost").map(claimed).transpose()?,
            tariffs: tariffs.unwrap_or_default(),
        })
    }

    /// The record as OCPI's JSON, with what is not told left out. Times are hours of nine decimals, floored.
    #[must_use]
    pub fn to_ocpi(&self) -> String {
        let periods: Vec<String> = self.periods.iter().map(written).collect();
        let currency = self
            .currency
            .as_ref()
            .map(|c| format!("\"currency\":\"{c}\","));
        format!(
            "{{\"start_date_time\":\"{}\",\"end_date_time\":\"{}\",{}\"charging_periods\":[{}]}}",
            self.start(),
            self.end,
            currency.unwrap_or_default(),
            periods.join(",")
        )
    }

    /// When the session began.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        self.periods.first().map_or(self.end, |p| p.start)
    }

    /// Whether a charger was reserved and nobody came.
    #[must_use]
    pub fn expired(&self) -> bool {
        let reserved = self.periods.iter().any(|p| p.reserved_ns > 0);
        reserved
            && self
                .periods
                .iter()
                .all(|p| p.energy == 0 && p.time_ns == 0 && p.parking_ns == 0)
    }

    /// What a period is of a reservation, if it is part of one.
    #[must_use]
    pub fn reservation(&self, period: &Period) -> Option<Reservation> {
        match (period.reserved_ns > 0, self.expired()) {
            (false, _) => None,
            (true, false) => Some(Reservation::Reserved),
            (true, true) => Some(Reservation::Expired),
        }
    }
}

fn read_periods(list: &Node<'_>, start: Timestamp) -> Result<Vec<Period>, FileError> {
    let mut periods: Vec<Period> = Vec::new();
    for node in list.list()? {
        let period = period(&node)?;
        let earliest = periods.last().map_or(start, |p| p.start);
        if period.start < earliest {
            return Err(node.wrong(format!(
                "this period begins at {}, before {earliest}: periods are in order, within the session",
                period.start
            )));
        }
        periods.push(period);
    }
    if periods.is_empty() {
        return Err(list.wrong("a charging record needs at least one period"));
    }
    Ok(periods)
}

fn period(node: &Node<'_>) -> Result<Period, FileError> {
    let members = node.members()?;
    let mut period = Period::empty(needed(node, &members, "start_date_time")?.instant()?);
    let widen = |range: Option<(i128, i128)>, value: i128| {
        range.map_or(Some((value, value)), |(least, most)| {
            Some((least.min(value), most.max(value)))
        })
    };
    for dimension in needed(node, &members, "dimensions")?.list()? {
        let fields = dimension.members()?;
        let kind = needed(&dimension, &fields, "type")?.text()?;
        let value = needed(&dimension, &fields, "volume")?;
        // An hour of nine decimals is a whole number of nanoseconds once it is 3600 seconds.
        let hours = || Ok::<i128, FileError>(value.positive(9)?.saturating_mul(HOUR_S));
        match kind.as_str() {
            "ENERGY" => period.energy += value.positive(9)?,
            "TIME" => period.time_ns += hours()?,
            "PARKING_TIME" => period.parking_ns += hours()?,
            "RESERVATION_TIME" => period.reserved_ns += hours()?,
            "CURRENT" | "MIN_CURRENT" | "MAX_CURRENT" => {
                period.current = widen(period.current, value.positive(9)?);
            }
            "POWER" | "MIN_POWER" | "MAX_POWER" => {
                period.power = widen(period.power, value.positive(9)?);
            }
            // Shown to the driver or measured for its own sake; no tariff asks for it.
            "ENERGY_EXPORT" | "ENERGY_IMPORT" | "STATE_OF_CHARGE" => {}
            other => {
                return Err(dimension.wrong(format!("OCPI has no dimension `{other}`")));
            }
        }
    }
    Ok(period)
}

fn written(period: &Period) -> String {
    let hours = |ns: i128| decimal(ns / HOUR_S, 0);
    let dimensions = [
        ("ENERGY", period.energy, decimal(period.energy, 0)),
        ("TIME", period.time_ns, hours(period.time_ns)),
        ("PARKING_TIME", period.parking_ns, hours(period.parking_ns)),
        (
            "RESERVATION_TIME",
            period.reserved_ns,
            hours(period.reserved_ns),
        ),
    ];
    let mut told: Vec<String> = Vec::new();
    for (kind, volume, text) in dimensions {
        if volume > 0 {
            told.push(format!("{{\"type\":\"{kind}\",\"volume\":{text}}}"));
        }
    }
    for (kind, range) in [("CURRENT", period.current), ("POWER", period.power)] {
        if let Some((least, most)) = range {
            let (least, most) = (decimal(least, 0), decimal(most, 0));
            told.push(format!("{{\"type\":\"MIN_{kind}\",\"volume\":{least}}}"));
            told.push(format!("{{\"type\":\"MAX_{kind}\",\"volume\":{most}}}"));
        }
    }
    let start = period.start;
    format!(
        "{{\"start_date_time\":\"{start}\",\"dimensions\":[{}]}}",
        told.join(",")
    )
}

fn claimed(node: &Node<'_>) -> Result<(Money, Option<Money>), FileError> {
    let money = super::tariff::read_money;
    let members = node.members()?;
    let before = members
        .get("excl_vat")
        .or_else(|| members.get("before_taxes"));
    let before =
        before.ok_or_else(|| node.wrong("neither `excl_vat` nor `before_taxes` is there"))?;
    Ok((
        money(before)?,
        members.get("incl_vat").map(money).transpose()?,
    ))
}

/// The zone of a name of the IANA database.
///
/// # Errors
/// There is no such zone.
pub fn zone(name: &str) -> Result<Tz, String> {
    name.parse()
        .map_err(|_| format!("`{name}` is not a time zone like Europe/Berlin"))
}

/// Nanoseconds from `from` to `to`.
pub(super) fn ns_between(from: Timestamp, to: Timestamp) -> i128 {
    i128::from(to.ms_since(from)) * (NANO / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"start_date_time": "2026-03-02T08:30:00Z", "end_date_time": "2026-03-02T09:30:00Z",
        "currency": "EUR", "charging_periods": [{"start_date_time": "2026-03-02T08:30:00Z", "dimensions": [
        {"type": "ENERGY", "volume": 12.5}, {"type": "TIME", "volume": 0.0834}, {"type": "MIN_CURRENT",
        "volume": 10}, {"type": "MAX_CURRENT", "volume": 16}]}], "total_cost": {"excl_vat": 1.5}}"#;

    #[test]
    fn a_record_is_read_exactly() {
        let record = Record::from_json(GOOD).unwrap();
        let period = record.periods[0];
        assert_eq!(period.energy, 12_500_000_000);
        assert_eq!(period.time_ns, 300_240_000_000);
        assert_eq!(period.current, Some((10 * NANO, 16 * NANO)));
        assert_eq!(record.claimed.unwrap().0.nano(), 1_500_000_000);
        assert!(!record.expired());
        let again = Record::from_json(&record.to_ocpi()).unwrap();
        assert_eq!((again.periods, again.end), (record.periods, record.end));
    }

    #[test]
    fn a_wrong_record_is_refused_with_its_path() {
        for (from, to, path) in [
            ("T09:30", "T07:30", "$.end_date_time"),
            ("12.5", "-1", "$.charging_periods[0].dimensions[0].volume"),
            (
                "\"ENERGY\"",
                "\"ENERGIE\"",
                "$.charging_periods[0].dimensions[0]",
            ),
            (
                "T08:30:00Z\", \"dim",
                "T08:29:00Z\", \"dim",
                "$.charging_periods[0]",
            ),
            ("charging_periods", "periods", "$"),
            ("excl_vat", "gross", "$.total_cost"),
        ] {
            let error = Record::from_json(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.path, path, "{from} → {to}: {error}");
        }
        assert!(zone("Mars/Olympus").is_err() && zone("Europe/Berlin").is_ok());
    }
}
