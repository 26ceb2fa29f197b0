//! The SunSpec models by number: what their points are called, where they lie and what their units
//! are (`profiles/sunspec-models.toml`). With it any of them can be named and decoded.

use std::sync::LazyLock;

use serde::Deserialize;

use super::{Model, scale_factor};
use crate::device::decode::{self, Encoding, NoValue, WordType};

const TEXT: &str = include_str!("../../profiles/sunspec-models.toml");

static MODELS: LazyLock<Vec<ModelTable>> = LazyLock::new(|| {
    // A test reads it; should it be broken nevertheless, no model is known.
    let file: Result<File, _> = toml::from_str(TEXT);
    file.map(|file| file.model).unwrap_or_default()
});

#[derive(Deserialize)]
struct File {
    model: Vec<ModelTable>,
}

/// The text of the table, which decides what a number means as much as a profile does.
pub(crate) const fn text() -> &'static str {
    TEXT
}

/// Models that lay out their points alike.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// Their numbers.
    pub ids: Vec<u16>,
    /// What they describe.
    pub name: String,
    /// The points.
    pub points: Vec<ModelPoint>,
    /// Points that repeat to the model's end.
    pub group: Option<Group>,
}

/// Points that repeat.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Offset of the first group from the model's ID register.
    pub start: u16,
    /// Length of a group.
    pub words: u16,
    /// The points; their offsets count from the group's begin.
    pub points: Vec<ModelPoint>,
}

/// A point of a model.
#[derive(Debug, Deserialize)]
#[serde(from = "(String, u16, PointType, String, String)")]
pub struct ModelPoint {
    /// Its name in the standard.
    pub name: String,
    /// Its offset from the model's ID register, or from its group's begin.
    pub offset: u16,
    /// Its type.
    pub point_type: PointType,
    /// The point with its scale factor.
    pub scale: Option<String>,
    /// Its unit as the standard writes it.
    pub unit: String,
}

impl From<(String, u16, PointType, String, String)> for ModelPoint {
    fn from(row: (String, u16, PointType, String, String)) -> Self {
        let (name, offset, point_type, scale, unit) = row;
        let scale = Some(scale).filter(|scale| !scale.is_empty());
        ModelPoint {
            name,
            offset,
            point_type,
            scale,
            unit,
        }
    }
}

/// A type of the standard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum PointType {
    /// A number, an enumeration or bits: its type here, and the one raw value for "not available".
    Plain(WordType, Option<u64>),
    /// A counter, which says 0 where it does not accumulate; all ones are taken for that, too.
    Accumulator(WordType),
    /// The exponent of a scale factor.
    ScaleFactor,
}

impl TryFrom<String> for PointType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |word_type, sentinel| Ok(PointType::Plain(word_type, Some(sentinel)));
        match text.as_str() {
            "uint16" | "enum16" | "bitfield16" => plain(WordType::U16, 0xffff),
            "count" => Ok(PointType::Plain(WordType::U16, None)),
            "int16" => plain(WordType::I16, 0x8000),
            "uint32" | "enum32" | "bitfield32" => plain(WordType::U32, 0xffff_ffff),
            "int32" => plain(WordType::I32, 0x8000_0000),
            "uint64" => plain(WordType::U64, u64::MAX),
            "int64" => plain(WordType::I64, 1 << 63),
            "float32" => Ok(PointType::Plain(WordType::F32, None)),
            "acc32" => Ok(PointType::Accumulator(WordType::U32)),
            "acc64" => Ok(PointType::Accumulator(WordType::U64)),
            "sunssf" => Ok(PointType::ScaleFactor),
            text => {
                let length = text.strip_prefix("string(").unwrap_or(text);
                let word_type = format!("text({length}").parse()?;
                Ok(PointType::Plain(word_type, None))
            }
        }
    }
}

impl ModelPoint {
    /// How it lies in its registers.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        let (word_type, sentinels) = match self.point_type {
            PointType::Plain(word_type, sentinel) => (word_type, sentinel.into_iter().collect()),
            PointType::Accumulator(WordType::U32) => (WordType::U32, vec![0, 0xffff_ffff]),
            PointType::Accumulator(word_type) => (word_type, vec![0, u64::MAX]),
            PointType::ScaleFactor => (WordType::I16, vec![0x8000]),
        };
        Encoding {
            word_type,
            sentinels,
            ..Encoding::default()
        }
    }
}

impl ModelTable {
    /// The offset of a point's scale factor.
    #[must_use]
    pub fn scale_offset(&self, point: &ModelPoint) -> Option<u16> {
        let name = point.scale.as_ref()?;
        let scale = self.points.iter().find(|p| p.name == *name)?;
        Some(scale.offset)
    }

    /// A point by name, of the model itself or of its `group`th group (counted from 1): the point and
    /// its offset from the model's ID register.
    #[must_use]
    pub fn find(&self, group: Option<u16>, name: &str) -> Option<(&ModelPoint, u16)> {
        match group {
            None => {
                let point = self.points.iter().find(|p| p.name == name)?;
                Some((point, point.offset))
            }
            Some(number) => {
                let group = self.group.as_ref()?;
                let point = group.points.iter().find(|p| p.name == name)?;
                let begin = number.checked_sub(1)?.checked_mul(group.words)?;
                let offset = group.start.checked_add(begin)?.checked_add(point.offset)?;
                Some((point, offset))
            }
        }
    }

    /// How many groups a model of this announced length has.
    #[must_use]
    pub fn groups(&self, length: u16) -> u16 {
        self.group.as_ref().map_or(0, |group| {
            let words = length.saturating_add(2).saturating_sub(group.start);
            words.checked_div(group.words).unwrap_or(0)
        })
    }
}

/// The table of a model; none where the model is not known.
#[must_use]
pub fn table(id: u16) -> Option<&'static ModelTable> {
    MODELS.iter().find(|model| model.ids.contains(&id))
}

/// All models that are known.
#[must_use]
pub fn tables() -> &'static [ModelTable] {
    &MODELS
}

/// A point of a device's model, for people to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Its group, counted from 1.
    pub group: Option<u16>,
    /// Its name.
    pub name: &'static str,
    /// Its address.
    pub address: u16,
    /// Its raw words.
    pub words: Vec<u16>,
    /// Its value in `unit` with up to six decimals, or why it has none.
    pub value: Result<String, NoValue>,
    /// Its unit as the standard writes it.
    pub unit: &'static str,
}

/// Every known point in a device's model. `words` are its registers from the ID register on; scale
/// factors are applied and not shown.
#[must_use]
pub fn show(model: &Model, words: &[u16]) -> Vec<Shown> {
    let Some(table) = table(model.id) else {
        return Vec::new();
    };
    let own = table.points.iter().map(|p| (None, p));
    let groups = (1..=table.groups(model.length)).flat_map(|number| {
        let points = table.group.iter().flat_map(|group| &group.points);
        points.map(move |p| (Some(number), p))
    });
    own.chain(groups)
        .filter(|(_, point)| point.point_type != PointType::ScaleFactor)
        .filter_map(|(group, point)| show_point(table, model, words, group, point))
        .collect()
}

fn show_point(
    table: &'static ModelTable,
    model: &Model,
    words: &[u16],
    group: Option<u16>,
    point: &'static ModelPoint,
) -> Option<Shown> {
    let (_, offset) = table.find(group, &point.name)?;
    let encoding = point.encoding();
    let start = usize::from(offset);
    let count = usize::from(encoding.word_type.words());
    // A device may announce a shorter model than the standard's.
    let size = usize::from(model.length).saturating_add(2);
    let own = words.get(..size).unwrap_or(words).get(start..start + count);
    let value = |own: &[u16]| {
        if encoding.word_type.is_text() {
            return decode::text(own, &encoding);
        }
        let number = decode::number(own, &encoding)?;
        let exponent = match (table.scale_offset(point), &point.scale) {
            (None, None) => 0,
            (offset, _) => offset
                .and_then(|offset| scale_factor(*words.get(usize::from(offset))?))
                .ok_or(NoValue::NoScale)?,
        };
        number
            .shifted(exponent)
            .decimal()
            .ok_or(NoValue::OutOfRange)
    };
    Some(Shown {
        group,
        name: &point.name,
        address: model.address.checked_add(offset)?,
        words: own.map(<[u16]>::to_vec).unwrap_or_default(),
        value: own.map_or(Err(NoValue::Absent), value),
        unit: &point.unit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_its_models_and_no_point_lies_in_another() {
        let file: File = toml::from_str(TEXT).unwrap();
        let mut ids: Vec<u16> = file.model.iter().flat_map(|m| m.ids.clone()).collect();
        ids.sort_unstable();
        let wanted = [
            1, 101, 102, 103, 111, 112, 113, 120, 121, 122, 123, 124, 160, 201, 202, 203, 204, 211,
            212, 213, 214, 701, 703, 704, 713, 714, 802,
        ];
        assert_eq!(ids, wanted);
        for model in &file.model {
            let group = model.group.as_ref().map(|group| &group.points);
            for points in [Some(&model.points), group].into_iter().flatten() {
                let mut spans: Vec<_> = points
                    .iter()
                    .map(|p| (p.offset, p.offset + p.encoding().word_type.words(), &p.name))
                    .collect();
                spans.sort_unstable();
                for pair in spans.windows(2) {
                    assert!(pair[0].1 <= pair[1].0, "{}: {pair:?}", model.name);
                }
                for point in points {
                    let has_scale = model.scale_offset(point).is_some();
                    assert_eq!(has_scale, point.scale.is_some(), "{}", point.name);
                }
            }
        }
    }

    #[test]
    fn a_repeating_model_is_shown_group_by_group() {
        // Two trackers; the scale factors stand in front; the second one's counter is not accumulated.
        let mut words = vec![160, 48, 0xffff, 0xfffe, 1, 0x8000, 0, 0, 2, 0];
        for (power, counter) in [(120u16, 5u16), (0xffff, 0)] {
            let mut group = vec![0; 20];
            group[1] = 0x5056;
            (group[11], group[13]) = (power, counter);
            words.extend(group);
        }
        let model = Model {
            id: 160,
            address: 40_300,
            length: 48,
        };
        let shown = show(&model, &words);
        let value = |group, name| {
            let mut found = shown.iter().filter(|s| s.group == group && s.name == name);
            let point = found.next().unwrap();
            (point.address, point.value.clone())
        };
        assert_eq!(value(None, "N"), (40_308, Ok("2".into())));
        assert_eq!(value(Some(1), "IDStr"), (40_311, Ok("PV".into())));
        assert_eq!(value(Some(1), "DCW"), (40_321, Ok("1200".into())));
        assert_eq!(value(Some(1), "DCA"), (40_319, Ok("0".into())));
        assert_eq!(value(Some(1), "DCWH"), (40_322, Err(NoValue::NoScale)));
        assert_eq!(value(Some(2), "DCW"), (40_341, Err(NoValue::Sentinel)));
        assert_eq!(value(Some(2), "DCWH"), (40_342, Err(NoValue::Sentinel)));
        let short = Model {
            length: 27,
            ..model
        };
        assert_eq!(
            show(&short, &words)
                .iter()
                .filter(|s| s.group.is_some())
                .count(),
            0
        );
    }
}
