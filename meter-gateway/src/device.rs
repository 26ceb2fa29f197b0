//! Reading devices: which requests a profile needs, and what the answers mean. The wires themselves
//! are in the modules below.

pub mod decode;
pub mod modbus;
pub mod mqtt;
pub mod sunspec;

use domain::energy::{Energy, Power};
use domain::ids::digest_parts;

use crate::profile::{Link, ModbusRules, Point, Profile, Quantity, Source, WORDS_PER_READ_MAX};
use decode::{Exact, WordType};

/// What a device said at one time. What it did not say is `None`, never 0.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Values {
    /// Counter of imported energy.
    pub import: Option<Energy>,
    /// Counter of exported energy.
    pub export: Option<Energy>,
    /// Power; the device's kind says what positive means.
    pub power: Option<Power>,
    /// State of charge.
    pub soc_permille: Option<u16>,
    /// State of operation.
    pub state: Option<String>,
}

impl Values {
    /// Takes in one raw value. A counter below zero and a charge above 100 % are no values.
    pub(crate) fn set(&mut self, point: &Point, raw: Exact) {
        let value = raw.times(point.scale).and_then(Exact::rounded);
        let energy = value.filter(|wh| *wh >= 0).map(Energy::from_wh);
        match point.quantity {
            Quantity::Import => self.import = energy,
            Quantity::Export => self.export = energy,
            Quantity::Power => self.power = value.map(Power::from_w),
            Quantity::Soc => {
                let permille = value.and_then(|v| u16::try_from(v).ok());
                self.soc_permille = permille.filter(|p| *p <= 1000);
            }
            Quantity::State => {
                self.state = value.map(|code| {
                    let named = point.states.iter().find(|(known, _)| *known == code);
                    named.map_or_else(|| format!("state {code}"), |(_, name)| name.clone())
                });
            }
            Quantity::Maker | Quantity::Model | Quantity::Serial | Quantity::Firmware => {}
        }
    }
}

/// What identifies a device; empty text where it does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// Maker.
    pub maker: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware version.
    pub firmware: String,
}

impl Identity {
    /// Digest over maker, model, serial and firmware, as it is signed.
    #[must_use]
    pub fn hash(&self) -> [u8; 8] {
        short_digest(&[&self.maker, &self.model, &self.serial, &self.firmware])
    }

    /// Digest over maker, model and serial: another one is another meter.
    #[must_use]
    pub fn body(&self) -> [u8; 8] {
        short_digest(&[&self.maker, &self.model, &self.serial])
    }

    fn set(&mut self, quantity: Quantity, text: String) {
        match quantity {
            Quantity::Maker => self.maker = text,
            Quantity::Model => self.model = text,
            Quantity::Serial => self.serial = text,
            Quantity::Firmware => self.firmware = text,
            _ => {}
        }
    }
}

fn short_digest(parts: &[&String]) -> [u8; 8] {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    let mut short = [0; 8];
    short.copy_from_slice(&digest_parts("meter", &parts)[..8]);
    short
}

/// One value to be read: a point of the profile at its address on this device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    point: Point,
    function: u8,
    address: u16,
    scale_address: Option<u16>,
}

impl Read {
    fn first(&self) -> u16 {
        self.scale_address
            .map_or(self.address, |scale| scale.min(self.address))
    }

    /// The address behind the last word; `None` beyond the address space.
    fn end(&self) -> Option<u16> {
        let value_end = self.address.checked_add(self.point.word_type.words())?;
        match self.scale_address {
            Some(scale) => Some(scale.checked_add(1)?.max(value_end)),
            None => Some(value_end),
        }
    }
}

/// One request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Function code.
    pub function: u8,
    /// First address.
    pub address: u16,
    /// Number of words.
    pub count: u16,
    /// Whether exception 2 means that the device does not have it.
    pub optional: bool,
}

/// The values to read and the few requests that bring them. A value, and a SunSpec value with its
/// scale factor, never lies across two requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The values.
    pub reads: Vec<Read>,
    /// The requests.
    pub blocks: Vec<Block>,
}

impl Plan {
    fn new(mut reads: Vec<Read>, rules: &ModbusRules, max_hole_words: u16) -> Self {
        reads.sort_by_key(|read| (read.function, read.point.optional, read.first()));
        let mut blocks: Vec<Block> = Vec::new();
        for read in &reads {
            let (first, Some(end)) = (read.first(), read.end()) else {
                continue;
            };
            let alone = rules.one_value_per_read || read.point.optional;
            // Reads are sorted, so a block of the same function begins at or before `first`.
            let grown = blocks.last().filter(|block| {
                let same = !alone && block.function == read.function && !block.optional;
                let block_end = block.address.saturating_add(block.count);
                same && first.saturating_sub(block_end) <= max_hole_words
                    && end.saturating_sub(block.address) <= rules.max_words
            });
            if let Some(count) = grown.map(|b| b.count.max(end.saturating_sub(b.address))) {
                if let Some(block) = blocks.last_mut() {
                    block.count = count;
                }
            } else {
                let optional = read.point.optional;
                let (function, count) = (read.function, end - first);
                blocks.push(Block {
                    function,
                    address: first,
                    count,
                    optional,
                });
            }
        }
        Plan { reads, blocks }
    }

    /// The plans of a profile with fixed addresses: for the values, and for the identification.
    #[must_use]
    pub fn fixed(profile: &Profile) -> (Plan, Plan) {
        let Link::Modbus(rules) = &profile.link else {
            return Default::default();
        };
        let reads = |identity: bool| -> Vec<Read> {
            let wanted = profile
                .points
                .iter()
                .filter(|p| p.quantity.is_identity() == identity);
            let read = |p: &Point| match p.source {
                Source::Register { function, address } => Some(Read {
                    point: p.clone(),
                    function,
                    address,
                    scale_address: None,
                }),
                _ => None,
            };
            wanted.filter_map(read).collect()
        };
        let plan = |identity| Plan::new(reads(identity), rules, rules.max_hole_words);
        (plan(false), plan(true))
    }

    /// The plans of a SunSpec profile on a device with these models; `None` where the device has
    /// none of the profile's models.
    #[must_use]
    pub fn sunspec(profile: &Profile, models: &[sunspec::Model]) -> Option<(Plan, Plan)> {
        let Link::Sunspec(rules) = &profile.link else {
            return None;
        };
        let main = models
            .iter()
            .position(|model| rules.models.contains(&model.id))?;
        let reads = |identity: bool| -> Vec<Read> {
            let wanted = profile
                .points
                .iter()
                .filter(|p| p.quantity.is_identity() == identity);
            wanted
                .filter_map(|p| sunspec::locate(p, models, main))
                .collect()
        };
        // Inside a model every register may be read, so holes do not matter.
        let plan = |identity| Plan::new(reads(identity), rules, WORDS_PER_READ_MAX);
        Some((plan(false), plan(true)))
    }
}

/// Register contents as they were read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registers {
    runs: Vec<(u8, u16, Vec<u16>)>,
}

impl Registers {
    /// Adds what one request brought.
    pub fn add(&mut self, function: u8, address: u16, words: Vec<u16>) {
        self.runs.push((function, address, words));
    }

    /// `count` words from `address`, if they lie in one run.
    #[must_use]
    pub fn get(&self, function: u8, address: u16, count: u16) -> Option<&[u16]> {
        self.runs
            .iter()
            .filter(|(f, ..)| *f == function)
            .find_map(|(_, start, words)| {
                let offset = usize::from(address.checked_sub(*start)?);
                words.get(offset..offset + usize::from(count))
            })
    }

    fn number(&self, read: &Read) -> Option<Exact> {
        let point = &read.point;
        let words = self.get(read.function, read.address, point.word_type.words())?;
        let value = decode::number(words, point.word_type, point.word_order, &point.sentinels)?;
        match read.scale_address {
            None => Some(value),
            Some(address) => {
                let word = self.get(read.function, address, 1)?;
                Some(value.shifted(sunspec::scale_factor(*word.first()?)?))
            }
        }
    }

    /// The values that `plan` finds in here.
    #[must_use]
    pub fn values(&self, plan: &Plan) -> Values {
        let mut values = Values::default();
        for read in &plan.reads {
            if let Some(number) = self.number(read) {
                values.set(&read.point, number);
            }
        }
        values
    }

    /// The identification that `plan` finds in here.
    #[must_use]
    pub fn identity(&self, plan: &Plan) -> Identity {
        let mut identity = Identity::default();
        for read in &plan.reads {
            let word_type = read.point.word_type;
            let text = match word_type {
                WordType::Text8 | WordType::Text16 => self
                    .get(read.function, read.address, word_type.words())
                    .map(decode::text),
                _ => self
                    .number(read)
                    .and_then(Exact::rounded)
                    .map(|n| n.to_string()),
            };
            identity.set(read.point.quantity, text.unwrap_or_default());
        }
        identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{BUILT_IN, Dump, Expected};

    /// `5375 'Acme'*16 0000*3`: hex words, text in a number of words, and repetitions.
    fn words_of(text: &str) -> Vec<u16> {
        let mut out = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let quoted = rest.strip_prefix('\'').and_then(|r| r.split_once('\''));
            let (content, tail) = quoted.unwrap_or(("", &rest[4..]));
            let (item, after) = tail.split_once(char::is_whitespace).unwrap_or((tail, ""));
            let count: usize = item.strip_prefix('*').map_or(1, |n| n.parse().unwrap());
            if quoted.is_some() {
                let mut bytes = content.as_bytes().to_vec();
                bytes.resize(count * 2, 0);
                out.extend(bytes.chunks(2).map(|b| u16::from_be_bytes([b[0], b[1]])));
            } else {
                let word = u16::from_str_radix(&rest[..4], 16).unwrap();
                out.extend(std::iter::repeat_n(word, count));
            }
            rest = after.trim();
        }
        out
    }

    fn decode_dump(profile: &Profile, dump: &Dump) -> (Values, Identity) {
        let mut device = Registers::default();
        for run in &dump.registers {
            device.add(run.function, run.address, words_of(&run.words));
        }
        let mut values = Values::default();
        for (topic, payload) in &dump.messages {
            mqtt::decode(profile, topic, payload.as_bytes(), &mut values).unwrap();
        }
        let plans = match &profile.link {
            Link::Modbus(_) => Plan::fixed(profile),
            Link::Sunspec(_) => {
                let models = sunspec::walk(|address, count| device.get(3, address, count));
                Plan::sunspec(profile, &models.unwrap()).unwrap()
            }
            Link::Mqtt(_) => return (values, Identity::default()),
        };
        let fetch = |plan: &Plan| {
            let mut fetched = Registers::default();
            for block in &plan.blocks {
                let words = (0..block.count).map(|i| {
                    let word = device.get(block.function, block.address + i, 1);
                    word.map_or(0xdead, |w| w[0])
                });
                fetched.add(block.function, block.address, words.collect());
            }
            fetched
        };
        (
            fetch(&plans.0).values(&plans.0),
            fetch(&plans.1).identity(&plans.1),
        )
    }

    #[test]
    fn every_dump_in_every_profile_decodes_to_its_expected_values() {
        for (name, _) in BUILT_IN {
            let profile = Profile::built_in(name).unwrap();
            for dump in &profile.dumps {
                let (values, identity) = decode_dump(&profile, dump);
                let found = Expected {
                    import_wh: values.import.map(Energy::wh),
                    export_wh: values.export.map(Energy::wh),
                    power_w: values.power.map(Power::w),
                    soc_permille: values.soc_permille,
                    state: values.state,
                    serial: Some(identity.serial).filter(|s| !s.is_empty()),
                };
                assert_eq!(found, dump.expect, "{name}: {}", dump.note);
            }
        }
    }

    #[test]
    fn requests_are_few_and_never_tear_a_value() {
        let blocks = |name: &str| {
            let profile = Profile::built_in(name).unwrap();
            let (values, _) = Plan::fixed(&profile);
            values
                .blocks
                .iter()
                .map(|b| (b.address, b.count))
                .collect::<Vec<_>>()
        };
        assert_eq!(blocks("eastron-sdm630"), [(0x34, 24)]);
        assert_eq!(blocks("keba-p30"), [(1000, 2), (1020, 2), (1036, 2)]);
        let narrow = BUILT_IN[0].1.replacen("max_words = 80", "max_words = 3", 1);
        let (plan, _) = Plan::fixed(&Profile::from_toml(&narrow, "x").unwrap());
        let counts: Vec<u16> = plan.blocks.iter().map(|b| b.count).collect();
        assert_eq!(counts, [2, 2, 2], "a float is two words and stays whole");
    }

    #[test]
    fn an_optional_point_is_asked_for_alone() {
        let address = "address = 0x004A\n";
        let text = BUILT_IN[0]
            .1
            .replacen(address, "address = 0x004A\noptional = true\n", 1);
        let (plan, _) = Plan::fixed(&Profile::from_toml(&text, "x").unwrap());
        let kinds: Vec<_> = plan
            .blocks
            .iter()
            .map(|b| (b.address, b.optional))
            .collect();
        assert_eq!(kinds, [(0x34, false), (0x4a, true)]);
    }

    #[test]
    fn a_firmware_update_is_no_other_meter() {
        let old = Identity {
            serial: "1".into(),
            firmware: "a".into(),
            ..Identity::default()
        };
        let new = Identity {
            firmware: "b".into(),
            ..old.clone()
        };
        assert!(old.body() == new.body() && old.hash() != new.hash());
    }
}
