//! Reading orders from CSV and JSON, with errors that say where and what.

use std::str::FromStr;

use domain::money::{MoneyError, Price};
use domain::order::Side;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wish::{self, RawWish};
use super::{FileError, Row, Rows, TEXT_MAX_BYTES, line_after};

const COLUMNS: [&str; 5] = ["id", "participant", "side", "energy_wh", "limit_price"];
const TEXT: &str = "text of 1 to 128 bytes without control characters";
const SIDE: &str = "bid or offer";
const ENERGY: &str = "a whole number of watt-hours above zero";
const LIMIT: &str = "a price in token/kWh with at most 6 decimals, like 0.132";

const LIMIT_RANGE: &str =
    "a price between -9223372036854.775808 and 9223372036854.775807 token/kWh";

/// Longest part of a wrong value that a message repeats, in characters.
const FOUND_MAX_CHARS: usize = 60;

/// The columns, for messages.
pub(super) fn columns() -> String {
    COLUMNS.join(",")
}

/// A value where it stands.
pub(super) struct Field<'a> {
    line: u64,
    column: &'static str,
    pub(super) text: &'a str,
}

impl Field<'_> {
    pub(super) fn wrong(&self, expected: &'static str) -> FileError {
        let (line, column) = (self.line, self.column);
        FileError::Value {
            line,
            column,
            found: quoted(self.text),
            expected,
        }
    }

    fn text(&self) -> Result<String, FileError> {
        let fits = (1..=TEXT_MAX_BYTES).contains(&self.text.len());
        let plain = !self.text.chars().any(char::is_control);
        if fits && plain {
            Ok(self.text.to_owned())
        } else {
            Err(self.wrong(TEXT))
        }
    }

    fn side(&self) -> Result<Side, FileError> {
        match self.text {
            "bid" => Ok(Side::Bid),
            "offer" => Ok(Side::Offer),
            _ => Err(self.wrong(SIDE)),
        }
    }

    fn energy(&self) -> Result<i64, FileError> {
        let digits = self.text.bytes().all(|b| b.is_ascii_digit());
        let energy = i64::from_str(self.text).ok().filter(|wh| digits && *wh > 0);
        energy.ok_or_else(|| self.wrong(ENERGY))
    }

    fn limit(&self) -> Result<Price, FileError> {
        let digits = self.text.strip_prefix('-').unwrap_or(self.text);
        let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        self.text.parse().map_err(|error| match error {
            MoneyError::Overflow => self.wrong(LIMIT_RANGE),
            _ if whole => self.wrong(LIMIT_RANGE),
            _ => self.wrong(LIMIT),
        })
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() {
        return "nothing".to_owned();
    }
    let start = text.chars().take(FOUND_MAX_CHARS);
    shown(text, start.flat_map(char::escape_debug).collect())
}

/// Like [`quoted`] for JSON as it stands in the file, where texts are escaped already.
fn quoted_json(raw: &str) -> String {
    if !raw.starts_with('"') {
        return quoted(raw);
    }
    shown(raw, raw.chars().take(FOUND_MAX_CHARS).collect())
}

fn shown(text: &str, shown: String) -> String {
    if text.chars().count() > FOUND_MAX_CHARS {
        format!("`{shown}…`")
    } else {
        format!("`{shown}`")
    }
}

/// A row from its five values and their lines, in the order of [`COLUMNS`], and its wish where the file
/// has any of [`wish::COLUMNS`].
fn row(values: [(u64, &str); 5], wished: Option<[(u64, &str); 4]>) -> Result<Row, FileError> {
    let field = |place: usize| {
        let (line, text) = values[place];
        Field {
            line,
            column: COLUMNS[place],
            text,
        }
    };
    let side = field(2).side()?;
    let wish = |values: [(u64, &str); 4]| {
        let mut columns = wish::COLUMNS.into_iter();
        let fields = values.map(|(line, text)| Field {
            line,
            column: columns.next().unwrap_or_default(),
            text,
        });
        RawWish::read(&fields, side)
    };
    Ok(Row {
        line: values[0].0,
        id: field(0).text()?,
        participant: field(1).text()?,
        side,
        energy_wh: field(3).energy()?,
        limit: field(4).limit()?,
        wish: wished.map(wish).transpose()?,
    })
}

/// Orders from CSV.
pub(super) fn csv(text: &str) -> Result<Rows, FileError> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let not_text = |error: csv::Error| FileError::NotText {
        line: error.position().map_or(1, csv::Position::line),
    };
    let header = reader.headers().map_err(not_text)?.clone();
    let places = places(&header)?;
    let wished = wish_places(&header)?;
    let mut rows = Rows::default();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(not_text)? {
        let line = record
            .position()
            .map_or(1, |position| line_of(text, position));
        let (found, expected) = (record.len(), header.len());
        if found != expected {
            return Err(FileError::Fields {
                line,
                found,
                expected,
            });
        }
        let value = |place: usize| (line, record.get(place).unwrap_or_default());
        let wish = wished.map(|at| at.map(|place| place.map_or((line, ""), value)));
        rows.push(row(places.map(value), wish)?)?;
    }
    Ok(rows)
}

/// The line of a record: its position is the end of the record before, blank lines follow.
fn line_of(text: &str, position: &csv::Position) -> u64 {
    let from = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let rest = text.as_bytes().get(from..).unwrap_or_default();
    let blank = rest.iter().position(|b| !b"\r\n".contains(b)).unwrap_or(0);
    position.line() + line_after(&rest[..blank]) - 1
}

/// Where the header has each of [`COLUMNS`]; other columns are passed over.
fn places(header: &csv::StringRecord) -> Result<[usize; 5], FileError> {
    let mut places = [0; 5];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        let mut found = header
            .iter()
            .enumerate()
            .filter(|(_, name)| *name == column);
        let problem = match (found.next(), found.next()) {
            (Some((at, _)), None) => {
                *place = at;
                continue;
            }
            (Some(_), Some(_)) => format!("has the column `{column}` twice"),
            (None, _) => format!("has no column `{column}`{}", other_separator(header)),
        };
        return Err(FileError::Header { problem });
    }
    Ok(places)
}

/// Where the header has each of [`wish::COLUMNS`]; `None` where it has none of them.
fn wish_places(header: &csv::StringRecord) -> Result<Option<[Option<usize>; 4]>, FileError> {
    let place = |column: &str| header.iter().position(|name| name == column);
    let places = wish::COLUMNS.map(place);
    for (at, column) in places.iter().zip(wish::COLUMNS) {
        let again = |at: usize| header.iter().skip(at + 1).any(|name| name == column);
        if at.is_some_and(again) {
            let problem = format!("has the column `{column}` twice");
            return Err(FileError::Header { problem });
        }
    }
    Ok(places.iter().any(Option::is_some).then_some(places))
}

/// Names the separator of a header that has another one than the comma.
fn other_separator(header: &csv::StringRecord) -> &'static str {
    let has = |separator| header.iter().any(|name| name.contains(separator));
    match (has(';'), has('\t')) {
        (true, _) => ": it is separated by semicolons, not commas",
        (false, true) => ": it is separated by tabs, not commas",
        (false, false) => "",
    }
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    participant: Option<&'a RawValue>,
    #[serde(borrow)]
    side: Option<&'a RawValue>,
    #[serde(borrow)]
    energy_wh: Option<&'a RawValue>,
    #[serde(borrow)]
    limit_price: Option<&'a RawValue>,
    #[serde(borrow)]
    partners: Option<&'a RawValue>,
    #[serde(borrow)]
    feeder: Option<&'a RawValue>,
    #[serde(borrow)]
    green: Option<&'a RawValue>,
    #[serde(borrow)]
    green_premium: Option<&'a RawValue>,
}

/// What the reader says, without the place, which our own message names.
fn problem(error: &serde_json::Error) -> String {
    let all = error.to_string();
    all.rsplit_once(" at line ")
        .map_or(all.as_str(), |(problem, _)| problem)
        .to_owned()
}

/// Orders from JSON. Numbers are read from their digits, so that no decimal passes through a float.
pub(super) fn json(text: &str) -> Result<Rows, FileError> {
    let not_json = |error: serde_json::Error| FileError::Json {
        line: error.line(),
        character: error.column(),
        problem: problem(&error),
    };
    let raws: Vec<&RawValue> = serde_json::from_str(text).map_err(not_json)?;
    let mut rows = Rows::default();
    let mut wishes = false;
    let (mut line, mut seen) = (1, 0);
    for raw in raws {
        // Raw values are slices of the text, so their addresses tell where they stand.
        let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
        line += line_after(&text.as_bytes()[seen..start]) - 1;
        seen = start;
        let order = object(raw.get(), line);
        let order = order.map_err(|error| in_its_line(error, line, &text[..start]))?;
        wishes |= order.1;
        rows.push(order.0)?;
    }
    if !wishes {
        rows.wishes.clear();
    }
    Ok(rows)
}

/// Moves a character counted from the start of an object to where it is in the object's first line.
fn in_its_line(error: FileError, first_line: u64, before: &str) -> FileError {
    match error {
        FileError::Json {
            line,
            character,
            problem,
        } if u64::try_from(line) == Ok(first_line) => {
            let character = character + before.len() - before.rfind('\n').map_or(0, |at| at + 1);
            FileError::Json {
                line,
                character,
                problem,
            }
        }
        other => other,
    }
}

/// One order, and whether it has any of [`wish::COLUMNS`].
fn object(text: &str, start: u64) -> Result<(Row, bool), FileError> {
    let not_object = |problem: String, line: usize, character| {
        let line = usize::try_from(start).unwrap_or(usize::MAX) + line.saturating_sub(1);
        FileError::Json {
            line,
            character,
            problem,
        }
    };
    if !text.starts_with('{') {
        return Err(not_object(format!("found {}", quoted_json(text)), 1, 1));
    }
    let object: Object<'_> =
        serde_json::from_str(text).map_err(|e| not_object(problem(&e), e.line(), e.column()))?;
    let wished = [
        object.partners,
        object.feeder,
        object.green,
        object.green_premium,
    ];
    let raws = [
        object.id,
        object.participant,
        object.side,
        object.energy_wh,
        object.limit_price,
    ];
    let line_of = |raw: Option<&RawValue>, before: u64| {
        raw.map_or(before, |raw| {
            let before = raw.get().as_ptr().addr() - text.as_ptr().addr();
            start + line_after(&text.as_bytes()[..before]) - 1
        })
    };
    let (mut values, mut line) = (Vec::with_capacity(9), start);
    for (raw, column) in raws.into_iter().zip(COLUMNS) {
        line = line_of(raw, line);
        values.push((line, plain(raw, line, column)?));
    }
    for (raw, column) in wished.into_iter().zip(wish::COLUMNS) {
        let line = line_of(raw, start);
        values.push((line, plain_wish(raw, line, column)?));
    }
    let mut values = values.iter().map(|(line, value)| (*line, value.as_str()));
    let row_values = [(); 5].map(|()| values.next().unwrap_or_default());
    let wish_values = [(); 4].map(|()| values.next().unwrap_or_default());
    let wishes = wished.iter().any(Option::is_some);
    Ok((row(row_values, Some(wish_values))?, wishes))
}

/// A wish's value as it would stand in CSV; absent and null are no wish.
fn plain_wish(
    raw: Option<&RawValue>,
    line: u64,
    column: &'static str,
) -> Result<String, FileError> {
    let Some(raw) = raw.map(RawValue::get).filter(|raw| *raw != "null") else {
        return Ok(String::new());
    };
    let is_text = raw.starts_with('"');
    let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let text = || {
        serde_json::from_str::<String>(raw)
            .ok()
            .filter(|t| !t.is_empty())
    };
    let (expected, value) = match column {
        "partners" => {
            let list: Option<Vec<String>> = serde_json::from_str(raw).ok();
            let whole = |list: &Vec<String>| !list.iter().any(|p| p.is_empty() || p.contains(';'));
            (
                wish::PARTNERS,
                list.filter(whole).map(|list| list.join(";")),
            )
        }
        "feeder" => (wish::FEEDER, text()),
        "green" => (
            wish::GREEN,
            ["true", "false"].contains(&raw).then(|| raw.to_owned()),
        ),
        _ if is_text => (wish::PREMIUM, text()),
        _ => (wish::PREMIUM, is_number.then(|| raw.to_owned())),
    };
    let found = quoted_json(raw);
    value.ok_or(FileError::Value {
        line,
        column,
        found,
        expected,
    })
}

/// A member's value without its quotes. A price may be text or a number, all else has one form.
fn plain(raw: Option<&RawValue>, line: u64, column: &'static str) -> Result<String, FileError> {
    let raw = raw.map_or("", RawValue::get);
    let is_text = raw.starts_with('"');
    let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let (expected, fits) = match column {
        "side" => (SIDE, is_text),
        "energy_wh" => (ENERGY, is_number),
        "limit_price" => (LIMIT, is_text || is_number),
        _ => (TEXT, is_text),
    };
    let value = match (fits, is_text) {
        (true, true) => serde_json::from_str(raw).ok(),
        (true, false) => Some(raw.to_owned()),
        (false, _) => None,
    };
    let found = quoted_json(raw);
    value.ok_or(FileError::Value {
        line,
        column,
        found,
        expected,
    })
}
