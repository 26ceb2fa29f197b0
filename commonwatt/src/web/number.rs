//! How numbers are written: with their unit, in the reader's language and the site's zone, and, where they
//! are live or metered, with their age and quality.

use chrono::{DateTime, Datelike, NaiveDate, Timelike};
use chrono_tz::Tz;
use domain::energy::Energy;
use domain::money::{Money, Price};
use domain::quality::Quality;
use domain::time::{Interval, Timestamp};
use maud::{Markup, html};

use super::words::Words;
use crate::view::{Fresh, calendar};

/// A live value that is older than this many intervals is shown as old.
pub(crate) const OLD_AFTER_INTERVALS: i64 = 2;

/// `a / 10^digits`, rounded half away from zero, with the language's decimal sign and a real minus.
fn decimal(words: &Words, value: i128, scale: i128, digits: u32) -> String {
    let unit = 10_i128.pow(digits);
    let rounded = (value.unsigned_abs().cast_signed() * unit + scale / 2) / scale;
    let sign = if value < 0 && rounded > 0 { "−" } else { "" };
    let (whole, part) = (rounded / unit, rounded % unit);
    if digits == 0 {
        return format!("{sign}{whole}");
    }
    let dot = words.language.decimal_sign();
    let width = usize::try_from(digits).unwrap_or(2);
    format!("{sign}{whole}{dot}{part:0width$}")
}

impl Words {
    /// Power in W below one kilowatt, else in kW; without a sign, which is a word's to say.
    pub(crate) fn power(&self, w: i64) -> String {
        let w = i128::from(w).abs();
        if w < 1000 {
            format!("{w}\u{a0}W")
        } else {
            format!("{}\u{a0}kW", decimal(self, w, 1000, 1))
        }
    }

    /// Power in kW, for operators.
    pub(crate) fn kilowatts(&self, w: i64) -> String {
        format!("{}\u{a0}kW", decimal(self, i128::from(w).abs(), 1000, 1))
    }

    /// Energy in kWh with two decimals; the little that would read as nothing then, in Wh.
    pub(crate) fn energy(&self, energy: Energy) -> String {
        if (1..10).contains(&energy.wh().abs()) {
            let wh = decimal(self, i128::from(energy.wh()), 1, 0);
            return format!("{wh}\u{a0}Wh");
        }
        format!("{}\u{a0}kWh", self.kwh(energy))
    }

    /// The number of [`Words::energy`] alone, for a column whose head has the unit.
    pub(crate) fn kwh(&self, energy: Energy) -> String {
        decimal(self, i128::from(energy.wh()), 1000, 2)
    }

    /// A price in ct/kWh with one decimal.
    pub(crate) fn price(&self, price: Price) -> String {
        format!("{}\u{a0}ct/kWh", self.cents(price))
    }

    /// The number of [`Words::price`] alone.
    pub(crate) fn cents(&self, price: Price) -> String {
        decimal(self, i128::from(price.micro_per_kwh()), 10_000, 1)
    }

    /// Money with two decimals and the currency.
    pub(crate) fn money(&self, money: Money) -> String {
        format!("{}\u{a0}{}", self.amount(money), self.currency)
    }

    /// The number of [`Words::money`] alone.
    pub(crate) fn amount(&self, money: Money) -> String {
        decimal(self, i128::from(money.nano()), 1_000_000_000, 2)
    }

    /// The same without its sign.
    pub(crate) fn money_abs(&self, money: Money) -> String {
        let nano = i128::from(money.nano()).abs();
        let amount = decimal(self, nano, 1_000_000_000, 2);
        format!("{amount}\u{a0}{}", self.currency)
    }

    /// A share in percent, of a part in a whole; a dash where there is no whole.
    pub(crate) fn share(&self, part: i64, whole: i64) -> String {
        if whole <= 0 {
            return "–".to_owned();
        }
        let permyriad = i128::from(part) * 1000 / i128::from(whole);
        self.permille(i64::try_from(permyriad).unwrap_or(0))
    }

    /// Thousandths as percent: whole ones from 10 on.
    pub(crate) fn permille(&self, permille: i64) -> String {
        let digits = if permille.abs() < 100 || (900..1000).contains(&permille) {
            1
        } else {
            0
        };
        format!("{}\u{a0}%", decimal(self, i128::from(permille), 10, digits))
    }

    /// A voltage in percent of the rated one, from thousandths.
    pub(crate) fn permille_pu(&self, permille: i64) -> String {
        format!("{}\u{a0}%", decimal(self, i128::from(permille), 10, 1))
    }

    /// Hour and minute on the site's clock, of 24 hours.
    pub(crate) fn clock(&self, at: Timestamp) -> String {
        let at = calendar::local(self.zone, at);
        at.map_or_else(String::new, |at| {
            format!("{:02}:{:02}", at.hour(), at.minute())
        })
    }

    /// `14:15–14:30`; where the clock is put back, with what it is ahead of UTC.
    pub(crate) fn interval(&self, interval: Interval) -> String {
        let (from, to) = (interval.start(), interval.end());
        let again = |at: Option<DateTime<Tz>>| {
            let at = at?;
            let same_wall = self.zone_is_twofold(at);
            same_wall.then(|| at.format(" (%:z)").to_string())
        };
        let offset = again(calendar::local(self.zone, from)).unwrap_or_default();
        format!("{}–{}{offset}", self.clock(from), self.clock(to))
    }

    fn zone_is_twofold(&self, at: DateTime<Tz>) -> bool {
        use chrono::TimeZone;
        let both = self.zone.from_local_datetime(&at.naive_local());
        matches!(both, chrono::LocalResult::Ambiguous(..))
    }

    /// `21 June 2026`, as the language writes it.
    pub(crate) fn date(&self, date: NaiveDate) -> String {
        let (day, year) = (date.day().to_string(), date.year().to_string());
        let month = self.t(MONTHS[usize::try_from(date.month0()).unwrap_or(0).min(11)]);
        self.fill(
            "date.day",
            &[("day", &day), ("month", month), ("year", &year)],
        )
    }

    /// The weekday with the date.
    pub(crate) fn long_date(&self, date: NaiveDate) -> String {
        let index = usize::try_from(date.weekday().num_days_from_monday()).unwrap_or(0);
        let weekday = self.t(WEEKDAYS[index.min(6)]);
        let date = self.date(date);
        self.fill("date.weekday", &[("weekday", weekday), ("date", &date)])
    }

    /// `June 2026`.
    pub(crate) fn month(&self, date: NaiveDate) -> String {
        let month = self.t(MONTHS[usize::try_from(date.month0()).unwrap_or(0).min(11)]);
        self.fill(
            "date.month_year",
            &[("month", month), ("year", &date.year().to_string())],
        )
    }

    /// Date and time of an instant.
    pub(crate) fn moment(&self, at: Timestamp) -> String {
        let date = self.date(calendar::date(self.zone, at));
        format!("{date}, {}", self.clock(at))
    }

    /// An instant of the past: the time alone where it is of today.
    pub(crate) fn since(&self, at: Timestamp, now: Timestamp) -> String {
        let date = |at| calendar::date(self.zone, at);
        if date(at) == date(now) {
            self.clock(at)
        } else {
            self.moment(at)
        }
    }

    /// How long ago something was, roughly: `40 s`, `12 min`, `3 h`, `2 d`.
    pub(crate) fn ago(&self, age_ms: i64) -> String {
        let s = age_ms.max(0) / 1000;
        if s == 0 {
            return self.t("number.just_now").to_owned();
        }
        let (n, unit) = match s {
            0..120 => (s, self.t("number.second")),
            120..7_200 => (s / 60, self.t("number.minute")),
            7_200..172_800 => (s / 3600, self.t("number.hour")),
            _ => (s / 86_400, self.t("number.day")),
        };
        self.fill("number.ago", &[("n", &n.to_string()), ("unit", unit)])
    }

    /// A span of time: `15 min`, `1 h 30 min`.
    pub(crate) fn lasting(&self, minutes: i64) -> String {
        let (h, min) = (minutes / 60, minutes % 60);
        match (h, min) {
            (0, min) => format!("{min}\u{a0}{}", self.t("number.minute")),
            (h, 0) => format!("{h}\u{a0}{}", self.t("number.hour")),
            (h, min) => {
                let (hour, minute) = (self.t("number.hour"), self.t("number.minute"));
                format!("{h}\u{a0}{hour} {min}\u{a0}{minute}")
            }
        }
    }

    /// The mark of a metered value: measured is not said, everything else is.
    pub(crate) fn quality(&self, quality: Quality) -> Markup {
        let word = match quality.word() {
            "measured" => return html! {},
            "missing" => self.t("number.missing"),
            _ => self.t("number.estimated"),
        };
        html! { span.mark { (word) } }
    }

    /// A live value with its age: hatched, with the time at which it was read, once it is old.
    pub(crate) fn live(&self, now: Timestamp, length_s: u32, value: Option<Fresh>) -> Markup {
        let Some(value) = value else {
            return html! { span.old { (self.t("number.no_value")) } };
        };
        let read = self.clock(value.read_at);
        if is_old(now, length_s, value) {
            let seen = self.fill("number.last_seen", &[("time", &read)]);
            return html! { span.old { (seen) } };
        }
        let title = self.fill("number.read_at", &[("time", &read)]);
        html! { span.num title=(title) { (self.power(value.value)) } }
    }
}

/// Whether a live value is too old to be shown as one.
pub(crate) fn is_old(now: Timestamp, length_s: u32, value: Fresh) -> bool {
    now.ms_since(value.read_at) > i64::from(length_s) * 1000 * OLD_AFTER_INTERVALS
}

const MONTHS: [&str; 12] = [
    "date.january",
    "date.february",
    "date.march",
    "date.april",
    "date.may",
    "date.june",
    "date.july",
    "date.august",
    "date.september",
    "date.october",
    "date.november",
    "date.december",
];

const WEEKDAYS: [&str; 7] = [
    "date.monday",
    "date.tuesday",
    "date.wednesday",
    "date.thursday",
    "date.friday",
    "date.saturday",
    "date.sunday",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::words::Language;

    fn words(language: Language) -> Words {
        Words {
            language,
            zone: chrono_tz::Europe::Berlin,
            currency: "€".to_owned(),
        }
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        let (en, de) = (words(Language::English), words(Language::German));
        assert_eq!(en.power(-940), "940\u{a0}W");
        assert_eq!(en.power(2349), "2.3\u{a0}kW");
        assert_eq!(de.energy(Energy::from_wh(2319)), "2,32\u{a0}kWh");
        assert_eq!(en.energy(Energy::from_wh(4)), "4\u{a0}Wh");
        assert_eq!(en.energy(Energy::ZERO), "0.00\u{a0}kWh");
        assert_eq!(
            en.price(Price::from_micro_per_kwh(132_500)),
            "13.3\u{a0}ct/kWh"
        );
        assert_eq!(en.cents(Price::from_micro_per_kwh(-132_400)), "−13.2");
        assert_eq!(de.money(Money::from_nano(1_835_000_000)), "1,84\u{a0}€");
        assert_eq!(en.money(Money::from_nano(-4_000_000)), "0.00\u{a0}€");
        assert_eq!(en.money(Money::from_nano(-1_284_999_999)), "−1.28\u{a0}€");
        assert_eq!(
            en.money(Money::from_nano(i64::MIN)),
            "−9223372036.85\u{a0}€"
        );
        assert_eq!(de.share(7, 1000), "0,7\u{a0}%");
        assert_eq!(en.share(1, 2), "50\u{a0}%");
        assert_eq!(en.share(996, 1000), "99.6\u{a0}%");
        assert_eq!(en.share(1, 0), "–");
    }

    #[test]
    fn times_are_the_site_s_and_an_hour_that_comes_twice_is_told_apart() {
        let en = words(Language::English);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(en.clock(at("2026-06-21T15:00:00Z")), "17:00");
        let interval = |text| Interval::containing(at(text), 900).unwrap();
        let (first, second) = ("2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z");
        assert_eq!(en.interval(interval(first)), "02:00–02:15 (+02:00)");
        assert_eq!(en.interval(interval(second)), "02:00–02:15 (+01:00)");
        assert_eq!(en.interval(interval("2026-06-21T15:00:00Z")), "17:00–17:15");
    }

    #[test]
    fn dates_are_written_as_the_language_writes_them() {
        let date: NaiveDate = "2026-06-21".parse().unwrap();
        let say = |language| words(language).long_date(date);
        assert_eq!(say(Language::English), "Sunday, 21 June 2026");
        assert_eq!(say(Language::German), "Sonntag, 21. Juni 2026");
        assert_eq!(words(Language::German).month(date), "Juni 2026");
        assert_eq!(words(Language::English).lasting(90), "1\u{a0}h 30\u{a0}min");
        assert_eq!(words(Language::German).ago(600_000), "vor 10\u{a0}min");
        assert_eq!(words(Language::German).ago(999), "gerade eben");
    }
}
