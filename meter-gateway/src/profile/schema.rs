//! The text form of a profile, and the checks that turn it into a [`Profile`] for each of its parts.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;

use super::control::{RawControl, check_controls};
use super::mqtt::{self, JsonPath, MessagePlace, MqttRules, Topic};
use super::{
    Dimension, Dump, Kind, Link, ModbusRules, POINTS_MAX, Point, Profile, Quantity, SignBits,
    Source, SunspecPlace, WORDS_PER_READ_MAX,
};
use crate::device::decode::{Encoding, Exact, WordOrder, WordType};
use crate::device::sunspec::table;
use crate::device::telegram::{Language, TelegramRules};
use crate::toml_file::{TomlError, parse, wrong_at, wrong_value};

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LinkKind {
    Modbus,
    Mqtt,
    P1,
    Sml,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    name: String,
    #[serde(default)]
    also: Vec<String>,
    kind: Option<Kind>,
    link: LinkKind,
    modbus: Option<ModbusRules>,
    mqtt: Option<MqttRules>,
    telegram: Option<TelegramRules>,
    #[serde(default)]
    missing: BTreeMap<WordType, Vec<Word>>,
    #[serde(default)]
    point: Vec<Spanned<RawPoint>>,
    #[serde(default)]
    part: Vec<Spanned<RawPart>>,
    dump: Vec<Dump>,
    #[serde(default)]
    control: Vec<RawControl>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPart {
    name: Option<String>,
    kind: Kind,
    #[serde(default)]
    models: Vec<u16>,
    unit_id: Option<u8>,
    #[serde(default)]
    point: Vec<Spanned<RawPoint>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPoint {
    quantity: Quantity,
    unit_id: Option<u8>,
    function: Option<u8>,
    address: Option<u16>,
    scale_address: Option<u16>,
    negative: Option<SignBits>,
    #[serde(default)]
    station: bool,
    model: Option<u16>,
    group: Option<u16>,
    sunspec: Option<Names>,
    offset: Option<u16>,
    scale_offset: Option<u16>,
    topic: Option<Topic>,
    json: Option<JsonPath>,
    step: Option<String>,
    obis: Option<String>,
    #[serde(rename = "type")]
    word_type: Option<WordType>,
    word_order: Option<WordOrder>,
    #[serde(default)]
    swap_bytes: bool,
    bits: Option<Word>,
    #[serde(default)]
    scale: Option<String>,
    unit: Option<String>,
    positive: Option<String>,
    missing: Option<Vec<Word>>,
    min: Option<String>,
    max: Option<String>,
    wraps_at: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    seldom: bool,
    #[serde(default)]
    states: BTreeMap<String, String>,
}

/// A raw value: a number, or hex text where it has 64 bits, for which TOML has no numbers.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "RawWord")]
struct Word(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum RawWord {
    Number(u64),
    Text(String),
}

impl TryFrom<RawWord> for Word {
    type Error = String;

    fn try_from(raw: RawWord) -> Result<Self, String> {
        match raw {
            RawWord::Number(number) => Ok(Word(number)),
            RawWord::Text(text) => text
                .strip_prefix("0x")
                .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                .map(Word)
                .ok_or_else(|| format!("`{text}` is not like \"0xFFFFFFFFFFFFFFFF\"")),
        }
    }
}

/// One name, or several of which a device has one.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

/// Where a mistake is reported.
struct Place<'a> {
    text: &'a str,
    file: &'a str,
    span: Option<std::ops::Range<usize>>,
}

impl Place<'_> {
    fn wrong<T>(&self, key: &str, message: impl Into<String>) -> Result<T, TomlError> {
        Err(match &self.span {
            Some(span) => wrong_at(self.text, self.file, span.clone(), key, message),
            None => wrong_value(self.text, self.file, ("", 0), key, message),
        })
    }

    fn inside<T>(&self, value: &Spanned<T>) -> Self {
        Place {
            span: Some(value.span()),
            ..*self
        }
    }
}

/// Reads and checks; the digests are left zero.
pub(super) fn read(text: &str, file: &str) -> Result<Vec<Profile>, TomlError> {
    let mut raw: RawProfile = parse(text, file)?;
    let place = Place {
        text,
        file,
        span: None,
    };
    let parts = std::mem::take(&mut raw.part);
    let parts: Vec<(Place<'_>, RawPart)> = match (raw.kind, parts.is_empty()) {
        (Some(kind), true) => {
            let part = RawPart {
                name: None,
                kind,
                models: Vec::new(),
                unit_id: None,
                point: Vec::new(),
            };
            vec![(place.inside_file(), part)]
        }
        (None, false) => parts
            .into_iter()
            .map(|part| (place.inside(&part), part.into_inner()))
            .collect(),
        _ => return place.wrong("kind", "either the file has a kind, or it has [[part]]s"),
    };
    let mut names = BTreeSet::new();
    let mut profiles = Vec::new();
    for (place, part) in parts {
        if !names.insert(part.name.clone()) {
            return place.wrong("name", "another part has this name already");
        }
        profiles.push(check_part(&raw, part, &place)?);
    }
    for control in &raw.control {
        if !names.contains(&control.part) {
            let name = control.part.as_deref().unwrap_or("(none)");
            return place.wrong("part", format!("[[control]] of a part that is not: {name}"));
        }
    }
    for dump in &raw.dump {
        if !names.contains(&dump.part) {
            let name = dump.part.as_deref().unwrap_or("(none)");
            return place.wrong("part", format!("[[dump]] of a part that is not: {name}"));
        }
    }
    Ok(profiles)
}

impl<'a> Place<'a> {
    fn inside_file(&self) -> Place<'a> {
        Place {
            text: self.text,
            file: self.file,
            span: None,
        }
    }
}

fn check_part(raw: &RawProfile, part: RawPart, place: &Place<'_>) -> Result<Profile, TomlError> {
    let link = link_of(raw, &part, place)?;
    let all: Vec<&Spanned<RawPoint>> = raw.point.iter().chain(&part.point).collect();
    if all.is_empty() || all.len() > POINTS_MAX {
        return place.wrong("point", format!("1 to {POINTS_MAX} points are allowed"));
    }
    let mut points: Vec<Point> = Vec::new();
    for spanned in all {
        let place = place.inside(spanned);
        let point = check_point(spanned.get_ref(), raw, part.kind, &link, &place)?;
        if let Some(other) = points.iter().find(|p| p.quantity == point.quantity) {
            check_sum(other, &point, &place)?;
        }
        points.push(point);
    }
    if let Err((key, rule)) = mqtt::check_together(&points) {
        return place.wrong(key, rule);
    }
    let is_own = |dump: &&Dump| dump.part == part.name;
    let (part_name, whole) = (part.name.as_deref(), (place.text, place.file));
    let controls = check_controls(&raw.control, part.kind, part_name, whole)?;
    Ok(Profile {
        name: match &part.name {
            Some(name) => format!("{}/{name}", raw.name),
            None => raw.name.clone(),
        },
        also: raw.also.clone(),
        kind: part.kind,
        link,
        points,
        digest: [0; 8],
        dumps: raw.dump.iter().filter(is_own).cloned().collect(),
        controls,
    })
}

/// Whether two points of a quantity can be added up.
fn check_sum(one: &Point, other: &Point, place: &Place<'_>) -> Result<(), TomlError> {
    let is_sum = matches!(
        one.quantity.dimension(),
        Dimension::Counter
            | Dimension::Energy
            | Dimension::WholePower
            | Dimension::Power
            | Dimension::Apparent
            | Dimension::Reactive
            | Dimension::Current
    );
    let word = one.quantity.word();
    if !is_sum {
        return place.wrong("quantity", format!("there is a second {word} already"));
    }
    if one.quantity.is_counter() && (one.optional || other.optional) {
        let rule = "a counter that is added up must not lose a part: none may be optional";
        return place.wrong("optional", rule);
    }
    Ok(())
}

fn link_of(raw: &RawProfile, part: &RawPart, place: &Place<'_>) -> Result<Link, TomlError> {
    if let Some(telegram) = telegram_of(raw, part, place)? {
        return Ok(telegram);
    }
    match (raw.link, &raw.modbus, &raw.mqtt) {
        (LinkKind::Modbus, Some(rules), None) => {
            let mut rules = rules.clone();
            rules.unit_id = part.unit_id.or(rules.unit_id);
            if !part.models.is_empty() {
                rules.models.clone_from(&part.models);
            }
            check_rules(&rules, &place.inside_file())?;
            Ok(if rules.models.is_empty() {
                Link::Modbus(rules)
            } else {
                Link::Sunspec(rules)
            })
        }
        (LinkKind::Mqtt, None, Some(rules)) if part.models.is_empty() => match rules.check() {
            Ok(()) => Ok(Link::Mqtt(rules.clone())),
            Err((key, rule)) => place.inside_file().wrong(key, rule),
        },
        _ => place
            .inside_file()
            .wrong("link", "modbus wants [modbus], mqtt wants [mqtt]"),
    }
}

/// The link of a meter that sends telegrams by itself.
fn telegram_of(
    raw: &RawProfile,
    part: &RawPart,
    place: &Place<'_>,
) -> Result<Option<Link>, TomlError> {
    let language = match raw.link {
        LinkKind::P1 => Some(Language::P1),
        LinkKind::Sml => Some(Language::Sml),
        _ => None,
    };
    let is_plain = raw.modbus.is_none() && raw.mqtt.is_none() && part.models.is_empty();
    match (language, raw.telegram) {
        (None, None) => Ok(None),
        (Some(language), Some(rules)) if is_plain => {
            let file = place.inside_file();
            if !(1..=3600).contains(&rules.silence_s) {
                return file.wrong("silence_s", "1 to 3600 seconds");
            }
            if language == Language::Sml && !rules.checksum {
                return file.wrong("checksum", "SML always has a check sum");
            }
            Ok(Some(Link::Telegram(language, rules)))
        }
        _ => place
            .inside_file()
            .wrong("link", "p1 and sml want [telegram], other links have none"),
    }
}

fn check_rules(rules: &ModbusRules, place: &Place<'_>) -> Result<(), TomlError> {
    if rules.max_words == 0 || rules.max_words > WORDS_PER_READ_MAX {
        return place.wrong("max_words", "1 to 125 registers can be read at once");
    }
    if !(1..=60_000).contains(&rules.timeout_ms) {
        return place.wrong("timeout_ms", "1 to 60000 milliseconds");
    }
    if rules.gap_ms > 10_000 || rules.connect_delay_ms > 60_000 {
        return place.wrong("gap_ms", "at most 10 s between requests, 60 s at the start");
    }
    if rules.keep_alive_s == Some(0) {
        return place.wrong("keep_alive_s", "at least 1 second");
    }
    if rules.transports.is_empty() {
        return place.wrong("transports", "tcp, rtu, rtu-over-tcp, at least one of them");
    }
    if rules.serial.as_deref().is_some_and(|s| !is_serial(s)) {
        return place.wrong("serial", "baud and format, like \"9600 8N1\"");
    }
    if rules.function.is_some_and(|f| !(1..=4).contains(&f)) {
        return place.wrong("function", FUNCTIONS);
    }
    Ok(())
}

const FUNCTIONS: &str = "1 (coil), 2 (discrete input), 3 (holding) or 4 (input register)";

fn is_serial(text: &str) -> bool {
    let Some((baud, format)) = text.split_once(' ') else {
        return false;
    };
    let known = |parity: &u8| b"NEO".contains(parity);
    let is_format =
        matches!(format.as_bytes(), [b'7' | b'8', parity, b'1' | b'2'] if known(parity));
    is_format
        && baud
            .parse::<u32>()
            .is_ok_and(|baud| (300..=1_000_000).contains(&baud))
}

fn check_point(
    raw: &RawPoint,
    file: &RawProfile,
    kind: Kind,
    link: &Link,
    place: &Place<'_>,
) -> Result<Point, TomlError> {
    let is_main = matches!(
        raw.quantity.dimension(),
        Dimension::Counter | Dimension::WholePower | Dimension::Permille
    );
    if raw.seldom && (is_main || raw.quantity == Quantity::State) {
        return place.wrong(
            "seldom",
            "counters, power, charge and state are always read",
        );
    }
    let (scale, factor) = scale_of(raw, kind, place)?;
    let source = source_of(raw, link, place)?;
    let encoding = encoding_of(raw, file, link, &source, place)?;
    check_span(raw, link, &encoding, place)?;
    let bound = |key: &str, text: &Option<String>| -> Result<Option<i64>, TomlError> {
        let Some(text) = text else {
            return Ok(None);
        };
        let bound = Exact::from_decimal(text).and_then(|b| b.times(factor)?.rounded());
        match bound {
            Some(bound) => Ok(Some(bound)),
            None => place.wrong(key, format!("`{text}` is not a decimal like \"0.1\"")),
        }
    };
    let wraps_at = bound("wraps_at", &raw.wraps_at)?;
    if wraps_at.is_some_and(|wh| wh <= 0 || !raw.quantity.is_counter()) {
        return place.wrong(
            "wraps_at",
            "where an import or export counter begins anew, like \"100000\"",
        );
    }
    Ok(Point {
        quantity: raw.quantity,
        source,
        encoding,
        scale,
        min: bound("min", &raw.min)?,
        max: bound("max", &raw.max)?,
        wraps_at,
        optional: raw.optional,
        seldom: raw.seldom,
        states: raw
            .states
            .iter()
            .map(|(said, name)| (said.clone(), name.clone()))
            .collect(),
    })
}

fn encoding_of(
    raw: &RawPoint,
    file: &RawProfile,
    link: &Link,
    source: &Source,
    place: &Place<'_>,
) -> Result<Encoding, TomlError> {
    let is_given = matches!(
        source,
        Source::Register { .. }
            | Source::Sunspec {
                place: SunspecPlace::Offset { .. },
                ..
            }
    );
    let Some(word_type) = raw.word_type else {
        if is_given {
            return place.wrong("type", "a register needs a type");
        }
        return Ok(Encoding::default());
    };
    if !is_given {
        return place.wrong(
            "type",
            "values in messages and named SunSpec points have no type",
        );
    }
    let dimension = raw.quantity.dimension();
    if word_type.is_text() && dimension != Dimension::Text {
        return place.wrong("type", "this quantity is a number, not text");
    }
    let is_bit = matches!(source, Source::Register { function, .. } if *function <= 2);
    if is_bit != (word_type == WordType::Bit) {
        return place.wrong(
            "type",
            "coils and discrete inputs are a bit, nothing else is",
        );
    }
    let own_or_default = raw
        .missing
        .as_ref()
        .or_else(|| file.missing.get(&word_type));
    let sentinels = own_or_default.map(|words| words.iter().map(|word| word.0).collect());
    let default_order = match link {
        Link::Modbus(rules) | Link::Sunspec(rules) => rules.word_order,
        Link::Mqtt(_) | Link::Telegram(..) | Link::Ocpp => WordOrder::default(),
    };
    if raw.bits.is_some_and(|bits| bits.0 == 0) {
        return place.wrong("bits", "at least one bit");
    }
    Ok(Encoding {
        word_type,
        word_order: raw.word_order.unwrap_or(default_order),
        swap_bytes: raw.swap_bytes,
        bits: raw.bits.map(|bits| bits.0),
        sentinels: sentinels.unwrap_or_default(),
    })
}

/// A value with its scale factor and sign must fit into one request.
fn check_span(
    raw: &RawPoint,
    link: &Link,
    encoding: &Encoding,
    place: &Place<'_>,
) -> Result<(), TomlError> {
    let (Link::Modbus(rules) | Link::Sunspec(rules)) = link else {
        return Ok(());
    };
    let Some(begin) = raw.address.or(raw.offset) else {
        return Ok(());
    };
    let aside = [
        raw.scale_address,
        raw.scale_offset,
        raw.negative.map(|n| n.address),
    ];
    let aside = || aside.iter().flatten();
    let first = aside().fold(begin, |first, other| first.min(*other));
    let end = begin.saturating_add(encoding.word_type.words());
    let end = aside().fold(end, |end, other| end.max(other.saturating_add(1)));
    if end - first > rules.max_words {
        let rule = "the value (with its scale factor or sign) is wider than one read";
        return place.wrong("type", rule);
    }
    Ok(())
}

fn source_of(raw: &RawPoint, link: &Link, place: &Place<'_>) -> Result<Source, TomlError> {
    let is_register = raw.address.is_some();
    let is_model = raw.sunspec.is_some() || raw.offset.is_some();
    let is_json = raw.topic.is_some() || raw.json.is_some() || raw.step.is_some();
    if let Link::Telegram(..) = link {
        let is_plain = !is_register && !is_model && !is_json;
        return match &raw.obis {
            Some(code) if is_plain => match code.parse() {
                Ok(code) => Ok(Source::Obis {
                    code,
                    unit: raw.unit.clone().unwrap_or_default(),
                }),
                Err(error) => place.wrong("obis", error),
            },
            _ => place.wrong("obis", "p1 and sml want obis, and nothing of other links"),
        };
    }
    if raw.obis.is_some() {
        return place.wrong("obis", "only p1 and sml have obis codes");
    }
    match (link, is_register, is_model, is_json) {
        (Link::Modbus(rules) | Link::Sunspec(rules), true, false, false) => {
            register_of(raw, rules, place)
        }
        (Link::Sunspec(_), false, true, false) => sunspec_of(raw, place),
        (Link::Mqtt(_), false, false, true) => {
            let step = raw.step.as_deref();
            match MessagePlace::new(raw.topic.as_ref(), raw.json.as_ref(), step) {
                Ok(place) => Ok(Source::Message(place)),
                Err((key, rule)) => place.wrong(key, rule),
            }
        }
        (Link::Modbus(_), ..) => place.wrong("address", "modbus wants an address"),
        (Link::Sunspec(_), ..) => place.wrong(
            "sunspec",
            "a part with models wants sunspec, an offset or an address, one of them",
        ),
        (Link::Mqtt(_) | Link::Telegram(..) | Link::Ocpp, ..) => {
            place.wrong("topic", "mqtt wants a topic, and no register")
        }
    }
}

fn register_of(
    raw: &RawPoint,
    rules: &ModbusRules,
    place: &Place<'_>,
) -> Result<Source, TomlError> {
    if raw.model.is_some() || raw.group.is_some() || raw.scale_offset.is_some() {
        return place.wrong(
            "address",
            "a fixed address has no model, group or scale_offset",
        );
    }
    let Some(function) = raw.function.or(rules.function) else {
        return place.wrong("function", "missing here and in [modbus]");
    };
    if !(1..=4).contains(&function) {
        return place.wrong("function", FUNCTIONS);
    }
    Ok(Source::Register {
        unit: raw.unit_id,
        function,
        address: raw.address.unwrap_or_default(),
        scale_address: raw.scale_address,
        negative: raw.negative,
        station: raw.station,
    })
}

fn sunspec_of(raw: &RawPoint, place: &Place<'_>) -> Result<Source, TomlError> {
    let is_plain = raw.function.is_none() && raw.unit_id.is_none() && raw.negative.is_none();
    if !is_plain || raw.scale_address.is_some() {
        let rule = "a point in a model has no function, unit_id, negative or scale_address";
        return place.wrong("quantity", rule);
    }
    let names = match (&raw.sunspec, raw.offset) {
        (Some(_), Some(_)) => return place.wrong("offset", "either sunspec or offset"),
        (Some(Names::One(name)), None) => vec![name.clone()],
        (Some(Names::Several(names)), None) => names.clone(),
        (None, offset) => {
            return Ok(Source::Sunspec {
                model: raw.model,
                group: None,
                place: SunspecPlace::Offset {
                    offset: offset.unwrap_or_default(),
                    scale_offset: raw.scale_offset,
                },
            });
        }
    };
    for name in &names {
        let is_known = table::tables()
            .iter()
            .any(|table| table.find(raw.group, name).is_some());
        if !is_known || raw.group == Some(0) {
            return place.wrong("sunspec", format!("no model that is known has `{name}`"));
        }
    }
    Ok(Source::Sunspec {
        model: raw.model,
        group: raw.group,
        place: SunspecPlace::Names(names),
    })
}

/// Folds unit, scale and sign into one factor; the second is that of the unit alone.
fn scale_of(raw: &RawPoint, kind: Kind, place: &Place<'_>) -> Result<(Exact, Exact), TomlError> {
    let unit = raw.unit.as_deref().unwrap_or("");
    let word = raw.quantity.word();
    if unit == "Wmin" && raw.quantity.is_counter() {
        return place.wrong("unit", mqtt::NO_COUNTER);
    }
    let Some(factor) = raw.quantity.dimension().factor(unit) else {
        return place.wrong("unit", format!("`{unit}` is no unit of {word}"));
    };
    let text = raw.scale.as_deref().unwrap_or("1");
    let Some(scale) = Exact::from_decimal(text) else {
        return place.wrong("scale", format!("`{text}` is not a decimal like \"0.1\""));
    };
    let sign = match (raw.positive.as_deref(), kind) {
        (None, _) if !raw.quantity.needs_direction() => 1,
        (Some(_), _) if !raw.quantity.may_have_direction() => {
            return place.wrong("positive", format!("{word} has no direction"));
        }
        (Some("import"), Kind::Meter)
        | (Some("generation"), Kind::Inverter)
        | (Some("discharge"), Kind::Battery)
        | (Some("charge"), Kind::Charger) => 1,
        (Some("export"), Kind::Meter)
        | (Some("consumption"), Kind::Inverter)
        | (Some("charge"), Kind::Battery)
        | (Some("discharge"), Kind::Charger) => -1,
        (other, _) => {
            let word = other.unwrap_or("nothing");
            let rule = "meter: import, export; inverter: generation, consumption; \
                        battery: discharge, charge; charger: charge, discharge";
            return place.wrong(
                "positive",
                format!("`{word}` does not say the sign ({rule})"),
            );
        }
    };
    match scale
        .times(factor)
        .and_then(|s| s.times(Exact::whole(sign)))
    {
        Some(scale) => Ok((scale, factor)),
        None => place.wrong("scale", "the scale is too large"),
    }
}
