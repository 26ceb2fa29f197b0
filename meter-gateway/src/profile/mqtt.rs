//! How a profile says where the values of an MQTT device are: its topics, and the way into a payload.

use serde::Deserialize;

use super::{Point, Source};
use crate::device::decode::Exact;

/// Longest topic in a profile, in bytes.
const TOPIC_MAX_BYTES: usize = 200;
/// Most steps on the way into a payload.
const STEPS_MAX: usize = 8;

/// A topic of a device: behind its prefix, or anywhere where it has `{prefix}` or a `+` in it. `{channel}`
/// stands for the connector that `gateway.toml` names, counted from 0 as devices do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Topic(String);

impl Topic {
    /// The topic of the device with this prefix, as it is subscribed to.
    #[must_use]
    pub fn filled(&self, prefix: &str, channel: u16) -> String {
        let whole = if self.0.contains("{prefix}") || self.has_wildcard() {
            self.0.replace("{prefix}", prefix)
        } else {
            format!("{prefix}/{}", self.0)
        };
        whole.replace("{channel}", &channel.to_string())
    }

    /// Whether it stands for several topics.
    fn has_wildcard(&self) -> bool {
        self.0.contains('+')
    }
}

impl TryFrom<String> for Topic {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = text.replace("{prefix}", "").replace("{channel}", "");
        let is_well_formed = !plain.contains(['{', '}', '#', '\0'])
            && text.split('/').all(|level| !level.is_empty())
            && text
                .split('/')
                .all(|level| level == "+" || !level.contains('+'));
        if is_well_formed && text.len() <= TOPIC_MAX_BYTES {
            Ok(Topic(text))
        } else {
            Err(format!(
                "`{text}` is no topic: levels between slashes, with {{prefix}} and {{channel}} \
                 where they are to be filled in, and no #"
            ))
        }
    }
}

/// Whether a topic is meant by a filter in which `+` stands for any one level.
#[must_use]
pub fn is_meant(filter: &str, topic: &str) -> bool {
    let (mut wanted, mut given) = (filter.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(level), Some(said)) if level == "+" || level == said => {}
            _ => return false,
        }
    }
}

/// One step into a JSON payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// To the value of a key.
    Key(String),
    /// To an element of a list, counted from 0.
    Item(usize),
}

/// The way to a value in a JSON payload: `ENERGY.Power[0]`; `$` is the payload itself. `[*]` at the end
/// means a number, or a list of numbers that are added up.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct JsonPath {
    /// The steps, from outside.
    pub steps: Vec<Step>,
    /// Whether the numbers of a list are added up.
    pub adds: bool,
}

impl JsonPath {
    /// The same with `{channel}` filled in.
    #[must_use]
    pub fn filled(&self, channel: u16) -> Self {
        let fill = |step: &Step| match step {
            Step::Key(key) => Step::Key(key.replace("{channel}", &channel.to_string())),
            Step::Item(item) => Step::Item(*item),
        };
        JsonPath {
            steps: self.steps.iter().map(fill).collect(),
            adds: self.adds,
        }
    }
}

impl TryFrom<String> for JsonPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no way into a payload: keys like `ENERGY.Power`, elements like `[0]`, \
                 `[*]` at the end, or `$` for all of it; at most {STEPS_MAX} steps"
            )
        };
        let (way, adds) = match text.strip_suffix("[*]") {
            Some(way) => (way, true),
            None => (text.as_str(), false),
        };
        let mut steps = Vec::new();
        let way = if way == "$" || way.is_empty() && adds {
            ""
        } else {
            way
        };
        if way.is_empty() && text != "$" && !adds {
            return Err(wrong());
        }
        for part in way.split('.').filter(|_| !way.is_empty()) {
            let (key, items) = part
                .split_once('[')
                .map_or((part, ""), |(key, _)| (key, &part[key.len()..]));
            if !key.is_empty() {
                steps.push(Step::Key(key.to_owned()));
            } else if !steps.is_empty() || items.is_empty() {
                return Err(wrong());
            }
            for item in items.split_inclusive(']') {
                let index = item.strip_prefix('[').and_then(|i| i.strip_suffix(']'));
                let index = index.and_then(|i| i.parse().ok()).ok_or_else(wrong)?;
                steps.push(Step::Item(index));
            }
        }
        if steps.len() > STEPS_MAX {
            return Err(wrong());
        }
        Ok(JsonPath { steps, adds })
    }
}

/// Where in which message a value is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessagePlace {
    /// The topic.
    pub topic: Topic,
    /// The way into the payload; none where the payload is the value as plain text.
    pub json: Option<JsonPath>,
    /// The finest step of the value as it is sent, in its own unit.
    pub step: Exact,
}

impl MessagePlace {
    /// Whether it differs from one channel of the device to the next.
    #[must_use]
    pub fn has_channel(&self) -> bool {
        let in_key = |step: &Step| matches!(step, Step::Key(key) if key.contains("{channel}"));
        let in_json = |path: &JsonPath| path.steps.iter().any(in_key);
        self.topic.0.contains("{channel}") || self.json.as_ref().is_some_and(in_json)
    }

    /// Checks what a point of a profile says.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    pub(super) fn new(
        topic: Option<&Topic>,
        json: Option<&JsonPath>,
        step: Option<&str>,
    ) -> Result<Self, (&'static str, String)> {
        let Some(topic) = topic.filter(|topic| !topic.has_wildcard()) else {
            return Err(("topic", "an MQTT point wants one topic, without +".into()));
        };
        let text = step.unwrap_or("1");
        let step = Exact::from_decimal(text).filter(|step| step.is_positive());
        let Some(step) = step else {
            return Err(("step", format!("`{text}` is not a decimal like \"0.01\"")));
        };
        Ok(MessagePlace {
            topic: topic.clone(),
            json: json.cloned(),
            step,
        })
    }
}

/// Why watt-minutes are refused.
pub(super) const NO_COUNTER: &str = "watt-minutes are counted since the last report or start of the \
    device: that is no counter; choose one that goes on for ever";

/// Checks points that make a sample together.
///
/// # Errors
/// The key that is wrong, and why.
pub(super) fn check_together(points: &[Point]) -> Result<(), (&'static str, String)> {
    let counters = || points.iter().filter(|point| point.quantity.is_counter());
    let topic = |point: &Point| match &point.source {
        Source::Message(place) => Some(place.topic.clone()),
        _ => None,
    };
    let sure: Vec<_> = counters().filter(|p| !p.optional).map(topic).collect();
    let is_lost = |p: &Point| p.optional && topic(p).is_some() && !sure.contains(&topic(p));
    if counters().any(is_lost) {
        let rule = "an optional counter comes in the message of one that is not, else nobody knows \
                    whether to wait for it";
        return Err(("optional", rule.into()));
    }
    Ok(())
}

/// How an MQTT device reports.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttRules {
    /// Longest time between two reports of its counters in seconds.
    pub report_interval_s: u32,
    /// How it says whether it is there.
    pub presence: Option<Presence>,
    /// How it says what its own clock shows.
    pub stamp: Option<Stamp>,
}

impl MqttRules {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.report_interval_s == 0 {
            return Err(("report_interval_s", "at least 1 second".into()));
        }
        match &self.presence {
            Some(presence) if presence.topic.has_wildcard() == presence.about.is_empty() => {
                let rule = "a topic with + needs `about`, and no other does";
                Err(("about", rule.into()))
            }
            _ => Ok(()),
        }
    }
}

/// How a device says whether it is there; its last will says that it is not.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// Where. With `+` for a level, others speak there too.
    pub topic: Topic,
    /// What it says when it is there. Anything else means that it is not.
    pub up: String,
    /// Where in a JSON payload; a payload that is no JSON object is the word itself.
    pub json: Option<JsonPath>,
    /// Where in the payload the prefix may be of the device that is meant.
    #[serde(default)]
    pub about: Vec<JsonPath>,
}

/// How a device says what its own clock shows. It is never believed: only the difference is kept. A
/// report that comes again with the same stamp is no new one.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Where in the payload: seconds or milliseconds since 1970, or RFC 3339.
    pub json: JsonPath,
    /// What a number counts.
    #[serde(default)]
    pub unit: StampUnit,
    /// Where the clock is that of the home's own computer: a report with an older stamp was kept
    /// somewhere and is not fresh.
    pub max_age_s: Option<u32>,
}

/// What a time stamp counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub enum StampUnit {
    /// Seconds since 1970.
    #[default]
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds since 1970.
    #[serde(rename = "ms")]
    Milliseconds,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Result<Topic, String> {
        Topic::try_from(text.to_owned())
    }

    fn path(text: &str) -> Result<JsonPath, String> {
        JsonPath::try_from(text.to_owned())
    }

    #[test]
    fn topics_lie_behind_the_prefix_or_around_it() {
        let filled = |text| topic(text).unwrap().filled("a/b", 2);
        assert_eq!(filled("status/em:0"), "a/b/status/em:0");
        assert_eq!(filled("tele/{prefix}/SENSOR"), "tele/a/b/SENSOR");
        assert_eq!(filled("{prefix}"), "a/b");
        assert_eq!(filled("openevse/announce/+"), "openevse/announce/+");
        assert_eq!(filled("status/em1:{channel}"), "a/b/status/em1:2");
        for bad in ["", "/a", "a/", "a//b", "a/#", "a+/b", "{name}/a", "a/{"] {
            assert!(topic(bad).is_err(), "{bad}");
        }
        assert!(topic(&"x".repeat(TOPIC_MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn a_plus_is_one_level() {
        assert!(is_meant("x/+", "x/y") && is_meant("x/y", "x/y"));
        assert!(!is_meant("x/+", "x/y/z") && !is_meant("x/+", "x") && !is_meant("x", "x/y"));
    }

    #[test]
    fn ways_have_keys_elements_and_a_sum_at_the_end() {
        let (key, item) = (|k: &str| Step::Key(k.into()), Step::Item);
        let steps = |text| path(text).unwrap().steps;
        assert_eq!(
            steps("ENERGY.Power[0]"),
            [key("ENERGY"), key("Power"), item(0)]
        );
        assert_eq!(
            steps("params.em:0.a"),
            [key("params"), key("em:0"), key("a")]
        );
        assert_eq!(steps("[11]"), [item(11)]);
        assert_eq!(steps("a[1][2].b"), [key("a"), item(1), item(2), key("b")]);
        assert_eq!(steps("$"), []);
        let sum = path("ENERGY.Power[*]").unwrap();
        assert!(sum.adds && sum.steps.len() == 2 && !path("a").unwrap().adds);
        assert!(path("[*]").unwrap().adds);
        for bad in [
            "", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[1", "a[*].b", "a[1]b", "a.[1]",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
        assert!(path(&["a"; STEPS_MAX + 1].join(".")).is_err());
        let filled = path("switch:{channel}.apower").unwrap().filled(3);
        assert_eq!(filled.steps[0], key("switch:3"));
    }

    #[test]
    fn mistakes_are_named_with_line_and_key() {
        let good = "name = \"x\"\nkind = \"meter\"\nlink = \"mqtt\"\ndump = []\n\n[mqtt]\n\
            report_interval_s = 60\npresence = { topic = \"online\", up = \"true\" }\n\n\
            [[point]]\nquantity = \"import\"\ntopic = \"a\"\nstep = \"0.1\"\nunit = \"Wh\"\n\n\
            [[point]]\nquantity = \"export\"\ntopic = \"b\"\njson = \"c[0]\"\nunit = \"Wh\"\n";
        let read = |text: &str| crate::profile::Profile::from_toml(text, "x.toml");
        assert_eq!(read(good).unwrap().points.len(), 2);
        let cases = [
            (
                "unit = \"Wh\"",
                "unit = \"Wmin\"",
                "line 14, key `unit`: watt-minutes",
            ),
            (
                "\"a\"",
                "\"a/#\"",
                "line 12, key `topic`: `a/#` is no topic",
            ),
            (
                "\"a\"",
                "\"+/a\"",
                "line 12, key `topic`: an MQTT point wants one topic",
            ),
            (
                "\"0.1\"",
                "\"0\"",
                "line 13, key `step`: `0` is not a decimal",
            ),
            (
                "\"c[0]\"",
                "\"c[x]\"",
                "line 19, key `json`: `c[x]` is no way",
            ),
            (
                "\"b\"",
                "\"b\"\noptional = true",
                "key `optional`: an optional counter",
            ),
            ("= 60", "= 0", "line 7, key `report_interval_s`: at least"),
            ("\"online\"", "\"all/+\"", "key `about`: a topic with +"),
            (
                "topic = \"a\"",
                "address = 1",
                "key `topic`: mqtt wants a topic",
            ),
        ];
        for (from, to, expected) in cases {
            let error = read(&good.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
