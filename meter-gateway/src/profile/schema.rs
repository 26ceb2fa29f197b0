//! The text form of a profile, and the checks that turn it into a [`Profile`].

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Dump, Kind, Link, ModbusRules, MqttRules, POINTS_MAX, Point, Profile, Quantity, Source,
    WORDS_PER_READ_MAX,
};
use crate::device::decode::{Exact, WordOrder, WordType};
use crate::toml_file::{TomlError, parse, wrong_value};

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LinkKind {
    ModbusTcp,
    SunspecTcp,
    MqttJson,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    name: String,
    kind: Kind,
    link: LinkKind,
    modbus: Option<ModbusRules>,
    mqtt: Option<MqttRules>,
    point: Vec<RawPoint>,
    dump: Vec<Dump>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPoint {
    quantity: Quantity,
    function: Option<u8>,
    address: Option<u16>,
    model: Option<u16>,
    offset: Option<u16>,
    scale_offset: Option<u16>,
    topic: Option<String>,
    json: Option<String>,
    #[serde(rename = "type")]
    word_type: Option<WordType>,
    #[serde(default)]
    word_order: WordOrder,
    #[serde(default)]
    scale: Option<String>,
    unit: Option<String>,
    positive: Option<String>,
    #[serde(default)]
    missing: Vec<u64>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    states: BTreeMap<String, String>,
}

/// Where a mistake is reported.
struct Place<'a> {
    text: &'a str,
    file: &'a str,
    table: (&'a str, usize),
}

impl Place<'_> {
    fn wrong<T>(&self, key: &str, message: impl Into<String>) -> Result<T, TomlError> {
        Err(wrong_value(self.text, self.file, self.table, key, message))
    }
}

/// Reads and checks; the digest is left zero.
pub(super) fn read(text: &str, file: &str) -> Result<Profile, TomlError> {
    let raw: RawProfile = parse(text, file)?;
    let place = Place {
        text,
        file,
        table: ("", 0),
    };
    let link = match (raw.link, raw.modbus, raw.mqtt) {
        (LinkKind::ModbusTcp, Some(rules), None) if rules.models.is_empty() => Link::Modbus(rules),
        (LinkKind::SunspecTcp, Some(rules), None) if !rules.models.is_empty() => {
            Link::Sunspec(rules)
        }
        (LinkKind::MqttJson, None, Some(rules)) => Link::Mqtt(rules),
        _ => {
            let rule = "modbus-tcp wants [modbus], sunspec-tcp wants [modbus] with models, \
                        mqtt-json wants [mqtt]";
            return place.wrong("link", rule);
        }
    };
    if let Link::Modbus(rules) | Link::Sunspec(rules) = &link {
        if rules.max_words == 0 || rules.max_words > WORDS_PER_READ_MAX {
            return place.wrong("max_words", "1 to 125 registers can be read at once");
        }
        if !(1..=60_000).contains(&rules.timeout_ms) {
            return place.wrong("timeout_ms", "1 to 60000 milliseconds");
        }
    }
    if raw.point.is_empty() || raw.point.len() > POINTS_MAX {
        return place.wrong("[[point]]", "a profile has 1 to 64 points");
    }
    let mut points = Vec::new();
    for (index, point) in raw.point.into_iter().enumerate() {
        let place = Place {
            text,
            file,
            table: ("point", index),
        };
        points.push(check_point(point, raw.kind, &link, &place)?);
    }
    Ok(Profile {
        name: raw.name,
        kind: raw.kind,
        link,
        points,
        digest: [0; 8],
        dumps: raw.dump,
    })
}

fn check_point(
    raw: RawPoint,
    kind: Kind,
    link: &Link,
    place: &Place<'_>,
) -> Result<Point, TomlError> {
    let scale = scale_of(&raw, kind, place)?;
    let mut states = Vec::new();
    for (code, name) in &raw.states {
        match code.parse() {
            Ok(code) => states.push((code, name.clone())),
            Err(_) => return place.wrong("states", format!("`{code}` is not a whole number")),
        }
    }
    let source = source_of(&raw, link, place)?;
    let is_text = matches!(raw.word_type, Some(WordType::Text8 | WordType::Text16));
    if is_text && !raw.quantity.is_identity() {
        return place.wrong("type", "only points that identify the device can be text");
    }
    let is_json = matches!(link, Link::Mqtt(_));
    if is_json != raw.word_type.is_none() {
        return place.wrong("type", "registers need a type, JSON values have none");
    }
    // A JSON value has no registers; its type is never looked at.
    let word_type = raw.word_type.unwrap_or(WordType::U16);
    if let Link::Modbus(rules) | Link::Sunspec(rules) = link {
        let last = raw.scale_offset.unwrap_or(0).max(raw.offset.unwrap_or(0));
        let first = raw
            .scale_offset
            .unwrap_or(u16::MAX)
            .min(raw.offset.unwrap_or(0));
        let span = last.saturating_sub(first).saturating_add(word_type.words());
        if span > rules.max_words {
            return place.wrong(
                "type",
                "the value (with its scale factor) is wider than one read",
            );
        }
    }
    Ok(Point {
        quantity: raw.quantity,
        source,
        word_type,
        word_order: raw.word_order,
        scale,
        sentinels: raw.missing,
        optional: raw.optional,
        states,
    })
}

fn source_of(raw: &RawPoint, link: &Link, place: &Place<'_>) -> Result<Source, TomlError> {
    let register = raw.function.is_some() || raw.address.is_some();
    let model = raw.model.is_some() || raw.offset.is_some() || raw.scale_offset.is_some();
    let json = raw.topic.is_some() || raw.json.is_some();
    match (
        link,
        raw.function,
        raw.address,
        raw.offset,
        &raw.topic,
        &raw.json,
    ) {
        (Link::Modbus(_), Some(function), Some(address), None, None, None) if !model => {
            if function != 3 && function != 4 {
                return place.wrong("function", "3 (holding) or 4 (input)");
            }
            Ok(Source::Register { function, address })
        }
        (Link::Sunspec(_), None, None, Some(offset), None, None) => Ok(Source::Sunspec {
            model: raw.model,
            offset,
            scale_offset: raw.scale_offset,
        }),
        (Link::Mqtt(_), None, None, None, Some(topic), Some(key)) if !register && !model => {
            Ok(Source::Json {
                topic: topic.clone(),
                key: key.clone(),
            })
        }
        (Link::Modbus(_), ..) => place.wrong("address", "modbus-tcp wants function and address"),
        (Link::Sunspec(_), ..) if json || register => place.wrong(
            "offset",
            "sunspec-tcp wants offset, and nothing of other links",
        ),
        (Link::Sunspec(_), ..) => place.wrong("offset", "sunspec-tcp wants offset"),
        (Link::Mqtt(_), ..) => place.wrong("topic", "mqtt-json wants topic and json"),
    }
}

/// Folds unit, scale and sign into one factor.
fn scale_of(raw: &RawPoint, kind: Kind, place: &Place<'_>) -> Result<Exact, TomlError> {
    let unit = raw.unit.as_deref().unwrap_or("");
    let exponent = match (raw.quantity, unit) {
        (Quantity::Import | Quantity::Export, "Wh") | (Quantity::Power, "W") => 0,
        (Quantity::Import | Quantity::Export, "kWh") | (Quantity::Power, "kW") => 3,
        (Quantity::Soc, "%") => 1,
        (quantity, "") if quantity.is_identity() || quantity == Quantity::State => 0,
        (quantity, unit) => {
            let name = format!("{quantity:?}").to_lowercase();
            return place.wrong("unit", format!("`{unit}` is no unit of {name}"));
        }
    };
    let text = raw.scale.as_deref().unwrap_or("1");
    let Some(scale) = Exact::from_decimal(text) else {
        return place.wrong("scale", format!("`{text}` is not a decimal like \"0.1\""));
    };
    let sign = match (raw.quantity, kind, raw.positive.as_deref()) {
        (Quantity::Power, Kind::Meter, Some("import"))
        | (Quantity::Power, Kind::Inverter, Some("generation"))
        | (Quantity::Power, Kind::Battery, Some("discharge"))
        | (Quantity::Power, Kind::Charger, Some("charge")) => 1,
        (Quantity::Power, Kind::Meter, Some("export"))
        | (Quantity::Power, Kind::Inverter, Some("consumption"))
        | (Quantity::Power, Kind::Battery, Some("charge"))
        | (Quantity::Power, Kind::Charger, Some("discharge")) => -1,
        (Quantity::Power, _, other) => {
            let word = other.unwrap_or("nothing");
            let rule = "meter: import, export; inverter: generation, consumption; \
                        battery: discharge, charge; charger: charge, discharge";
            return place.wrong(
                "positive",
                format!("`{word}` does not say the sign ({rule})"),
            );
        }
        (_, _, None) => 1,
        (_, _, Some(_)) => return place.wrong("positive", "only power has a sign"),
    };
    match scale.times(Exact::whole(sign)) {
        Some(scale) => Ok(scale.shifted(exponent)),
        None => place.wrong("scale", "the scale is too large"),
    }
}
