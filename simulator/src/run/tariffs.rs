//! The utility's prices of each interval: flat, by hour of the street's clock, or from a file.

use domain::money::Price;
use domain::receipt::Prices;
use domain::time::Timestamp;
use settlement::tariff::Tariff;

use super::RunError;
use super::calendar::Moment;
use super::scenario::{TariffScenario, Window};

/// Most lines of a file of prices.
pub const PRICE_LINES_MAX: usize = 2_000_000;

/// The prices around the market, interval by interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tariffs {
    scenario: TariffScenario,
    /// From when on which retail and feed-in price holds, in order.
    steps: Vec<(i64, Price, Price)>,
    /// The name of that file.
    file: String,
}

impl Tariffs {
    /// The tariff of a scenario; `file` is the name and the text of its file of prices, where it has one.
    ///
    /// # Errors
    /// A line of the file that is not `start,retail,feed_in`, or not later than the one before.
    pub fn new(scenario: &TariffScenario, file: Option<(&str, &str)>) -> Result<Self, RunError> {
        let mut tariffs = Tariffs {
            scenario: scenario.clone(),
            steps: Vec::new(),
            file: file.map_or_else(String::new, |(name, _)| name.to_owned()),
        };
        let Some((name, text)) = file else {
            return Ok(tariffs);
        };
        for (place, line) in text.lines().enumerate() {
            if place == 0 && line.starts_with("start") || line.trim().is_empty() {
                continue;
            }
            let wrong = |what: String| RunError::bad(format!("{name}: line {}: {what}", place + 1));
            if tariffs.steps.len() >= PRICE_LINES_MAX {
                return Err(wrong(format!("more than {PRICE_LINES_MAX} prices")));
            }
            let step = step(line).map_err(wrong)?;
            if tariffs.steps.last().is_some_and(|last| last.0 >= step.0) {
                return Err(wrong("not later than the line before".to_owned()));
            }
            tariffs.steps.push(step);
        }
        if tariffs.steps.len() < 2 {
            return Err(RunError::bad(format!(
                "{name}: a file of prices has at least two lines, which say how long a price holds"
            )));
        }
        Ok(tariffs)
    }

    /// Makes sure that a file of prices, where there is one, has a price for all of a run. A line holds for the
    /// file's step: the least time between two of its lines.
    ///
    /// # Errors
    /// The file begins too late, ends too early, or leaves lines out; says when.
    pub fn cover(&self, start_s: i64, end_s: i64) -> Result<(), RunError> {
        let pairs = self.steps.windows(2);
        let Some(step_s) = pairs.map(|pair| pair[1].0 - pair[0].0).min() else {
            return Ok(());
        };
        let first = self.steps.partition_point(|step| step.0 <= start_s);
        let mut known_s = (first.checked_sub(1)).map_or(start_s, |i| self.steps[i].0 + step_s);
        if first > 0 {
            for step in &self.steps[first..] {
                if step.0 > known_s || known_s >= end_s {
                    break;
                }
                known_s = step.0 + step_s;
            }
            known_s = known_s.max(start_s);
        }
        if known_s >= end_s {
            return Ok(());
        }
        let shown = |unix_s: i64| Timestamp::from_unix_s(unix_s).to_string();
        let ends_s = self.steps.last().map_or(0, |last| last.0 + step_s);
        Err(RunError::bad(format!(
            "{}: it has no price from {} on, and the run is from {} to {}: the file's step is {step_s} s, and it \
             goes from {} to {}",
            self.file,
            shown(known_s),
            shown(start_s),
            shown(end_s),
            shown(self.steps.first().map_or(0, |step| step.0)),
            shown(ends_s)
        )))
    }

    /// The tariff of an interval. Prices may be below zero, as they are on some afternoons.
    #[must_use]
    pub fn at(&self, moment: &Moment) -> Tariff {
        let plain = &self.scenario;
        let (mut retail, mut feed_in) = (plain.retail, plain.feed_in);
        for window in plain
            .windows
            .iter()
            .filter(|w| covers(w, moment.day_minute))
        {
            (retail, feed_in) = (window.retail, window.feed_in);
        }
        let start_s = moment.interval.start_s();
        let known = self.steps.partition_point(|step| step.0 <= start_s);
        if let Some((_, file_retail, file_feed_in)) = known.checked_sub(1).map(|i| self.steps[i]) {
            (retail, feed_in) = (file_retail, file_feed_in);
        }
        Tariff {
            retail,
            feed_in,
            network_fee: plain.network_fee,
        }
    }
}

/// Whether neighbours can trade at these prices: where the utility takes money for feeding in, or takes
/// less than it gives, what is fed in and drawn goes to the utility alone.
#[must_use]
pub fn open(tariff: &Tariff) -> bool {
    tariff.feed_in >= Price::ZERO && tariff.feed_in <= room(tariff)
}

/// Retail less network fee: the most that a buyer should pay a neighbour. May be below zero.
#[must_use]
fn room(tariff: &Tariff) -> Price {
    tariff.room()
}

/// The prices of an interval's settlement.
#[must_use]
pub fn prices(tariff: &Tariff, clearing: Option<Price>) -> Prices {
    tariff.prices(clearing)
}

fn covers(window: &Window, day_minute: u16) -> bool {
    let hour = day_minute / 60;
    let (from, to) = (window.from_hour, window.to_hour);
    if from < to {
        (from..to).contains(&hour)
    } else {
        hour >= from || hour < to
    }
}

fn step(line: &str) -> Result<(i64, Price, Price), String> {
    let mut fields = line.split(',').map(str::trim);
    let (Some(start), Some(retail), Some(feed_in), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("expected start,retail,feed_in".to_owned());
    };
    let start: Timestamp = start.parse().map_err(|e| format!("start: {e}"))?;
    let price = |key: &str, text: &str| text.parse::<Price>().map_err(|e| format!("{key}: {e}"));
    Ok((
        start.unix_s(),
        price("retail", retail)?,
        price("feed_in", feed_in)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::time::Interval;

    fn moment(start_s: i64, day_minute: u16) -> Moment {
        Moment {
            interval: Interval::new(start_s, 900).unwrap(),
            local_minute: 0,
            day_minute,
            day: 0,
        }
    }

    #[test]
    fn windows_and_files_set_prices_and_the_later_one_counts() {
        let price = |text: &str| text.parse::<Price>().unwrap();
        let mut scenario = TariffScenario::default();
        scenario.windows.push(Window {
            from_hour: 22,
            to_hour: 6,
            retail: price("0.20"),
            feed_in: price("0.05"),
        });
        let tariffs = Tariffs::new(&scenario, None).unwrap();
        let retail = |day_minute| tariffs.at(&moment(0, day_minute)).retail;
        assert_eq!((retail(0), retail(1330)), (price("0.20"), price("0.20")));
        assert_eq!(retail(360), price("0.32"));
        let file =
            "start,retail,feed_in\n1970-01-01T01:00:00Z,0.10,-0.02\n1970-01-01T02:00:00Z,2.5,2.3\n";
        let tariffs = Tariffs::new(&scenario, Some(("p.csv", file))).unwrap();
        let feed_in = |start_s| tariffs.at(&moment(start_s, 0)).feed_in;
        assert_eq!(
            (feed_in(2700), feed_in(3600)),
            (price("0.05"), price("-0.02"))
        );
        assert_eq!(feed_in(9000), price("2.3"));
        assert!(!open(&tariffs.at(&moment(3600, 0))) && open(&tariffs.at(&moment(0, 0))));
    }

    #[test]
    fn a_file_covers_the_whole_run() {
        let hours = |hours: &[u32]| {
            let lines = hours
                .iter()
                .map(|h| format!("1970-01-01T{h:02}:00:00Z,0.3,0.1\n"));
            let text: String = lines.collect();
            Tariffs::new(&TariffScenario::default(), Some(("p.csv", &text))).unwrap()
        };
        let whole = hours(&[1, 2, 3]);
        whole.cover(3600, 4 * 3600).unwrap();
        whole.cover(2 * 3600 + 900, 3 * 3600).unwrap();
        for (tariffs, from, to, when) in [
            (&whole, 0, 7200, "no price from 1970-01-01T00:00:00"),
            (&whole, 3600, 5 * 3600, "no price from 1970-01-01T04:00:00"),
            (&whole, 90_000, 93_600, "no price from 1970-01-02T01:00:00"),
            (
                &hours(&[1, 2, 4]),
                3600,
                18_000,
                "no price from 1970-01-01T03:00:00",
            ),
        ] {
            let error = tariffs.cover(from, to).unwrap_err().to_string();
            assert!(error.contains("p.csv") && error.contains(when), "{error}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, expect) in [
            ("start,retail,feed_in\nx,1,1\n", "p.csv: line 2: start"),
            (
                "1970-01-01T00:00:00Z,1\n",
                "line 1: expected start,retail,feed_in",
            ),
            ("1970-01-01T00:00:00Z,1,y\n", "line 1: feed_in"),
            (
                "1970-01-01T00:00:00Z,1,1\n1970-01-01T00:00:00Z,1,1\n",
                "line 2: not later",
            ),
            ("1970-01-01T00:00:00Z,1,1\n", "at least two lines"),
        ] {
            let error = Tariffs::new(&TariffScenario::default(), Some(("p.csv", text)));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }
}
