//! A tariff's file: the flat form of three prices, or versions with their kinds.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveTime, Timelike};
use domain::money::Price;
use domain::terms::are_steps;
use domain::time::Timestamp;
use serde::Deserialize;
use toml::Spanned;

use super::schedule::{
    DayType, Dynamic, Kind, PERIODS_MAX, PRICES_MAX, Period, Tariffs, VERSIONS_MAX, Version, step,
};
use super::{Tariff, TariffError, line_of};
use crate::calendar::Zone;

/// A whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    time_zone: Option<Spanned<String>>,
    #[serde(rename = "version")]
    versions: Vec<Spanned<RawVersion>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVersion {
    name: String,
    valid_from: Spanned<String>,
    #[serde(default)]
    kind: RawKind,
    retail: Option<Spanned<String>>,
    feed_in: Spanned<String>,
    network_fee: Spanned<String>,
    #[serde(default, rename = "period")]
    periods: Vec<RawPeriod>,
    #[serde(default)]
    holidays: Vec<Spanned<String>>,
    prices: Option<Spanned<String>>,
    price_length_s: Option<u32>,
    markup: Option<Spanned<String>>,
    feed_in_discount: Option<Spanned<String>>,
    #[serde(default, rename = "step")]
    steps: Vec<RawStep>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawKind {
    #[default]
    Flat,
    TimeOfUse,
    Dynamic,
    Tiered,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeriod {
    #[serde(default)]
    days: Vec<Spanned<String>>,
    from: Spanned<String>,
    to: Spanned<String>,
    retail: Spanned<String>,
    feed_in: Option<Spanned<String>>,
    network_fee: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    from_kwh: i64,
    retail: Spanned<String>,
}

impl Tariffs {
    /// Reads a tariff: `retail`, `feed_in` and `network_fee` for all time, or `[[version]]` tables. `load` gives
    /// the text of a file that the tariff names.
    ///
    /// # Errors
    /// Says the line, and the key where one is at fault.
    pub fn from_toml(
        text: &str,
        load: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Self, TariffError> {
        let has_versions = |text: &str| {
            let table = text.parse::<toml::Table>().ok();
            table.is_some_and(|table| table.contains_key("version"))
        };
        if !has_versions(text) {
            return Tariff::from_toml(text).map(Tariffs::from);
        }
        let file: File = toml::from_str(text).map_err(|error| TariffError::Text {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        let reader = Reader { text };
        let zone = match &file.time_zone {
            Some(zone) => reader.parse("time_zone", zone, |z| z.parse::<Zone>())?,
            None => Zone::UTC,
        };
        let mut versions = Vec::with_capacity(file.versions.len());
        if file.versions.is_empty() || file.versions.len() > VERSIONS_MAX {
            let line = file.versions.first().map_or(1, |v| reader.line(v));
            let message = format!("a tariff has 1 to {VERSIONS_MAX} versions");
            return Err(TariffError::Text { line, message });
        }
        for raw in &file.versions {
            versions.push(reader.version(raw, load)?);
        }
        versions.sort_by_key(|version| version.valid_from);
        let same = versions
            .windows(2)
            .find(|two| two[0].valid_from == two[1].valid_from);
        if let Some(two) = same {
            let line = file.versions.first().map_or(1, |v| reader.line(v));
            let from = two[0].valid_from;
            let message = format!("two versions hold from {from} on");
            return Err(TariffError::Text { line, message });
        }
        Ok(Tariffs { zone, versions })
    }
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn line<T>(&self, at: &Spanned<T>) -> usize {
        line_of(self.text, at.span().start)
    }

    fn wrong<T>(&self, key: &'static str, at: &Spanned<T>, message: String) -> TariffError {
        let line = self.line(at);
        TariffError::Value { line, key, message }
    }

    fn parse<T, E: std::fmt::Display>(
        &self,
        key: &'static str,
        value: &Spanned<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, TariffError> {
        parse(value.get_ref()).map_err(|error| self.wrong(key, value, error.to_string()))
    }

    fn price(&self, key: &'static str, value: &Spanned<String>) -> Result<Price, TariffError> {
        self.parse(key, value, str::parse::<Price>)
    }

    fn version(
        &self,
        raw: &Spanned<RawVersion>,
        load: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Version, TariffError> {
        let this = raw.get_ref();
        self.fits(raw)?;
        let valid_from = self.parse("valid_from", &this.valid_from, |t| t.parse::<Timestamp>())?;
        let steps = self.steps(raw)?;
        let retail = match (&this.retail, steps.first()) {
            (Some(retail), None) => self.price("retail", retail)?,
            (None, Some(first)) => first.retail,
            (None, None) => {
                let message = "it is missing: what a kWh from the utility costs".to_owned();
                return Err(self.wrong("retail", raw, message));
            }
            (Some(retail), Some(_)) => {
                let message = "a tiered tariff has its retail prices in its steps".to_owned();
                return Err(self.wrong("retail", retail, message));
            }
        };
        let feed_in = self.price("feed_in", &this.feed_in)?;
        let network_fee = self.price("network_fee", &this.network_fee)?;
        let base = Tariff::new(retail, feed_in, network_fee)
            .map_err(|error| self.wrong("version", raw, error.to_string()))?;
        let kind = match this.kind {
            RawKind::Flat => Kind::Flat,
            RawKind::TimeOfUse => self.time_of_use(raw, base)?,
            RawKind::Dynamic => Kind::Dynamic(self.dynamic(raw, load)?),
            RawKind::Tiered => Kind::Tiered(steps),
        };
        Ok(Version {
            name: Some(this.name.clone()),
            valid_from,
            base,
            kind,
        })
    }

    /// The keys of a version are those of its kind.
    fn fits(&self, raw: &Spanned<RawVersion>) -> Result<(), TariffError> {
        let this = raw.get_ref();
        let kinds = [
            (RawKind::TimeOfUse, "period", !this.periods.is_empty()),
            (RawKind::Dynamic, "prices", this.prices.is_some()),
            (RawKind::Tiered, "step", !this.steps.is_empty()),
        ];
        for (kind, key, there) in kinds {
            if there && this.kind != kind {
                let message = "it does not belong to this kind of tariff".to_owned();
                return Err(self.wrong(key, raw, message));
            }
            if !there && this.kind == kind {
                let message = "it is missing: this kind of tariff needs it".to_owned();
                return Err(self.wrong(key, raw, message));
            }
        }
        if this.name.is_empty() || this.name.len() > domain::ids::ID_MAX_BYTES {
            let most = domain::ids::ID_MAX_BYTES;
            return Err(self.wrong("name", raw, format!("it has 1 to {most} bytes")));
        }
        let not = |key, there: bool, kind| {
            if there && this.kind != kind {
                let message = "it does not belong to this kind of tariff".to_owned();
                return Err(self.wrong(key, raw, message));
            }
            Ok(())
        };
        not("holidays", !this.holidays.is_empty(), RawKind::TimeOfUse)?;
        not("markup", this.markup.is_some(), RawKind::Dynamic)?;
        not(
            "price_length_s",
            this.price_length_s.is_some(),
            RawKind::Dynamic,
        )?;
        not(
            "feed_in_discount",
            this.feed_in_discount.is_some(),
            RawKind::Dynamic,
        )
    }

    fn steps(&self, raw: &Spanned<RawVersion>) -> Result<Vec<domain::terms::Step>, TariffError> {
        let mut steps = Vec::with_capacity(raw.get_ref().steps.len());
        for one in &raw.get_ref().steps {
            let retail = self.price("retail", &one.retail)?;
            let step = step(one.from_kwh, retail);
            let too_large = || self.wrong("from_kwh", &one.retail, "it is too large".to_owned());
            steps.push(step.ok_or_else(too_large)?);
        }
        if !steps.is_empty() && !are_steps(&steps) {
            let message = "the steps begin at from_kwh = 0 and rise, and there are at most 16";
            return Err(self.wrong("step", raw, message.to_owned()));
        }
        if let Some(step) = steps.iter().find(|step| step.retail < Price::ZERO) {
            let message = format!("a step's price is {}, which is below zero", step.retail);
            return Err(self.wrong("step", raw, message));
        }
        Ok(steps)
    }

    fn time_of_use(&self, raw: &Spanned<RawVersion>, base: Tariff) -> Result<Kind, TariffError> {
        let this = raw.get_ref();
        if this.periods.len() > PERIODS_MAX {
            let message = format!("there are at most {PERIODS_MAX}");
            return Err(self.wrong("period", raw, message));
        }
        let mut holidays = Vec::with_capacity(this.holidays.len());
        for day in &this.holidays {
            let date = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d");
            holidays.push(self.parse("holidays", day, date)?);
        }
        let mut periods = Vec::with_capacity(this.periods.len());
        for period in &this.periods {
            periods.push(self.period(period, base)?);
        }
        Ok(Kind::TimeOfUse { periods, holidays })
    }

    fn period(&self, raw: &RawPeriod, base: Tariff) -> Result<Period, TariffError> {
        let mut days = Vec::with_capacity(raw.days.len());
        for day in &raw.days {
            let known = "expected mon to sun, workday, weekend or holiday";
            let word = |text: &str| DayType::from_word(text).ok_or(known);
            days.push(self.parse("days", day, word)?);
        }
        let minute = |key, text: &Spanned<String>| self.parse(key, text, minute);
        let own = |key, price: &Option<Spanned<String>>, or: Price| match price {
            Some(price) => self.price(key, price),
            None => Ok(or),
        };
        let retail = self.price("retail", &raw.retail)?;
        let feed_in = own("feed_in", &raw.feed_in, base.feed_in)?;
        let network_fee = own("network_fee", &raw.network_fee, base.network_fee)?;
        let prices = Tariff::new(retail, feed_in, network_fee)
            .map_err(|error| self.wrong("period", &raw.retail, error.to_string()))?;
        Ok(Period {
            days,
            from: minute("from", &raw.from)?,
            to: minute("to", &raw.to)?,
            prices,
        })
    }

    fn dynamic(
        &self,
        raw: &Spanned<RawVersion>,
        load: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Dynamic, TariffError> {
        let this = raw.get_ref();
        let missing = |key| {
            self.wrong(
                key,
                raw,
                "it is missing: a dynamic tariff needs it".to_owned(),
            )
        };
        let file = this.prices.as_ref().ok_or_else(|| missing("prices"))?;
        let markup = this.markup.as_ref().ok_or_else(|| missing("markup"))?;
        let discount = this.feed_in_discount.as_ref();
        let length_s = this.price_length_s.unwrap_or(3600);
        if length_s == 0 || 3600 % length_s != 0 {
            let message = format!("{length_s} does not divide the hour (3600)");
            return Err(self.wrong("price_length_s", raw, message));
        }
        let text = load(file.get_ref()).map_err(|error| self.wrong("prices", file, error))?;
        let prices = series(&text, length_s)
            .map_err(|error| self.wrong("prices", file, format!("{}: {error}", file.get_ref())))?;
        Ok(Dynamic {
            prices,
            length_s,
            markup: self.price("markup", markup)?,
            feed_in_discount: discount
                .map(|price| self.price("feed_in_discount", price))
                .transpose()?,
        })
    }
}

/// Minutes since midnight of `07:30`; `24:00` is the end of the day.
fn minute(text: &str) -> Result<u32, String> {
    if text == "24:00" {
        return Ok(24 * 60);
    }
    let wrong = || format!("`{text}` is no time of day like 07:30");
    let time = NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| wrong())?;
    Ok(time.hour() * 60 + time.minute())
}

/// The prices of a file: a header `start,price`, then an instant and a price in tokens per kWh in each line.
fn series(text: &str, length_s: u32) -> Result<BTreeMap<i64, Price>, String> {
    let mut lines = text.lines().enumerate();
    let header = lines.next().map(|(_, line)| line.trim());
    if header != Some("start,price") {
        return Err("line 1: expected the header `start,price`".to_owned());
    }
    let mut prices = BTreeMap::new();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let at = |error: String| format!("line {}: {error}", index + 1);
        let (start, price) = line
            .split_once(',')
            .ok_or_else(|| at("expected two columns".to_owned()))?;
        let start: Timestamp = start.trim().parse().map_err(|e| at(format!("{e}")))?;
        let price: Price = price.trim().parse().map_err(|e| at(format!("{e}")))?;
        if start.unix_ms().rem_euclid(i64::from(length_s) * 1000) != 0 {
            return Err(at(format!("{start} is no multiple of {length_s} s")));
        }
        if prices.insert(start.unix_s(), price).is_some() {
            return Err(at(format!("{start} is there twice")));
        }
        if prices.len() > PRICES_MAX {
            return Err(at(format!("more than {PRICES_MAX} prices")));
        }
    }
    Ok(prices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::time::Interval;

    const TEXT: &str = r#"
time_zone = "Europe/Berlin"

[[version]]
name = "2026"
valid_from = "2025-12-31T23:00:00Z"
kind = "time-of-use"
retail = "0.30"
feed_in = "0.08"
network_fee = "0.07"
holidays = ["2026-12-25"]
[[version.period]]
days = ["workday"]
from = "17:00"
to = "20:00"
retail = "0.42"
[[version.period]]
days = ["sun", "holiday"]
from = "22:00"
to = "06:00"
retail = "0.21"
feed_in = "0.06"

[[version]]
name = "2027"
valid_from = "2026-12-31T23:00:00Z"
kind = "dynamic"
retail = "0.35"
feed_in = "0.05"
network_fee = "0.07"
prices = "spot.csv"
markup = "0.18"
feed_in_discount = "0.01"

[[version]]
name = "2028"
valid_from = "2027-12-31T23:00:00Z"
kind = "tiered"
feed_in = "0.05"
network_fee = "0.07"
[[version.step]]
from_kwh = 0
retail = "0.25"
[[version.step]]
from_kwh = 200
retail = "0.35"
"#;

    const SPOT: &str = "start,price\n2027-01-01T11:00:00Z,0.091\n2027-01-01T12:00:00Z,-0.02\n";

    fn read(text: &str) -> Result<Tariffs, TariffError> {
        Tariffs::from_toml(text, &mut |name| match name {
            "spot.csv" => Ok(SPOT.to_owned()),
            other => Err(format!("cannot read {other}")),
        })
    }

    fn at(start: &str) -> super::super::Effective {
        let start: Timestamp = start.parse().unwrap();
        let interval = Interval::new(start.unix_s(), 900).unwrap();
        read(TEXT).unwrap().at(interval)
    }

    #[test]
    fn the_interval_finds_its_version_and_its_time_of_use() {
        for (start, retail, feed_in, why) in [
            (
                "2026-06-22T15:00:00Z",
                "0.420000",
                "0.080000",
                "Monday 17:00",
            ),
            (
                "2026-06-22T17:45:00Z",
                "0.420000",
                "0.080000",
                "Monday 19:45",
            ),
            (
                "2026-06-22T18:00:00Z",
                "0.300000",
                "0.080000",
                "Monday 20:00",
            ),
            (
                "2026-06-21T15:00:00Z",
                "0.300000",
                "0.080000",
                "Sunday 17:00",
            ),
            (
                "2026-06-21T20:00:00Z",
                "0.210000",
                "0.060000",
                "Sunday 22:00",
            ),
            (
                "2026-06-20T23:00:00Z",
                "0.210000",
                "0.060000",
                "Sunday 01:00",
            ),
            (
                "2026-12-25T16:00:00Z",
                "0.300000",
                "0.080000",
                "a holiday, Friday 17:00",
            ),
            (
                "2026-12-25T22:00:00Z",
                "0.210000",
                "0.060000",
                "a holiday, 23:00",
            ),
        ] {
            let found = at(start);
            assert_eq!(found.tariff.retail.to_string(), retail, "{why}");
            assert_eq!(found.tariff.feed_in.to_string(), feed_in, "{why}");
            assert_eq!(found.version.as_deref(), Some("2026"));
        }
        let early = Interval::new(0, 900).unwrap();
        let found = read(TEXT).unwrap().at(early);
        assert_eq!(found.version.as_deref(), Some("2026/before"));
    }

    #[test]
    fn a_dynamic_tariff_follows_the_market_and_says_when_it_cannot() {
        let noon = at("2027-01-01T11:45:00Z");
        assert_eq!(noon.tariff.retail.to_string(), "0.271000");
        assert_eq!(noon.tariff.feed_in.to_string(), "0.081000");
        assert_eq!(noon.version.as_deref(), Some("2027"));
        assert_eq!(
            at("2027-01-01T12:00:00Z").tariff.feed_in.to_string(),
            "-0.030000"
        );
        let unknown = at("2027-01-01T13:00:00Z");
        assert_eq!(unknown.tariff.retail.to_string(), "0.350000");
        assert_eq!(unknown.version.as_deref(), Some("2027/fallback"));
    }

    #[test]
    fn a_tiered_tariff_counts_the_local_month() {
        let found = at("2028-02-29T12:00:00Z");
        assert_eq!(found.steps.len(), 2);
        assert_eq!(found.steps[1].from_wh.wh(), 200_000);
        assert_eq!(found.tariff.retail, found.steps[0].retail);
        assert_eq!(
            found.month_from.unwrap().to_string(),
            "2028-01-31T23:00:00Z"
        );
    }

    #[test]
    fn the_flat_form_holds_for_all_time_and_mistakes_have_a_line() {
        let flat = read("retail = \"0.32\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.07\"\n").unwrap();
        let interval = Interval::new(0, 900).unwrap();
        assert_eq!(flat.at(interval).version, None);
        for (good, bad, expect) in [
            (
                "Europe/Berlin",
                "Europe/Bielefeld",
                "line 2, key `time_zone`",
            ),
            ("\"17:00\"", "\"25:00\"", "key `from`"),
            ("\"workday\"", "\"workdays\"", "line 13, key `days`"),
            ("spot.csv", "spot.txt", "cannot read spot.txt"),
            ("from_kwh = 0", "from_kwh = 5", "key `step`"),
            ("kind = \"tiered\"", "kind = \"flat\"", "does not belong"),
            ("kind = \"tiered\"", "kind = \"cheap\"", "line 38"),
            ("retail = \"0.42\"", "retail = \"0.10\"", "no local price"),
            (
                "2026-12-31T23:00:00Z",
                "2025-12-31T23:00:00Z",
                "two versions",
            ),
            (
                "valid_from = \"2025",
                "valid_from = \"MMXXV",
                "line 6, key `valid_from`",
            ),
            ("markup = \"0.18\"\n", "", "key `markup`"),
        ] {
            let text = TEXT.replacen(good, bad, 1);
            assert_ne!(text, TEXT, "{good}");
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(expect), "{bad}: {error}");
        }
        assert!(
            read("version = []\n")
                .unwrap_err()
                .to_string()
                .contains("1 to 256")
        );
        for (text, expect) in [
            ("from,price\n", "line 1"),
            (
                "start,price\n2027-01-01T11:00:00Z\n",
                "line 2: expected two columns",
            ),
            ("start,price\n2027-01-01T11:10:00Z,0.1\n", "no multiple"),
            ("start,price\n2027-01-01T11:00:00Z,x\n", "line 2"),
            (
                "start,price\n2027-01-01T11:00:00Z,1\n2027-01-01T11:00:00Z,1\n",
                "twice",
            ),
        ] {
            assert!(series(text, 3600).unwrap_err().contains(expect), "{text}");
        }
    }
}
