//! Every dump in every profile, and what a plan asks for.

use proptest::prelude::*;

use super::decode::WordType;
use super::*;
use crate::measure::{Counter, CounterEnd};
use crate::profile::{BUILT_IN, Dump, Link, Profile, Quantity, Source};

const SDM630: &str = include_str!("../profiles/eastron-sdm630.toml");

/// All parts of all profiles; of a station with several connectors, the first.
fn all() -> Vec<Profile> {
    let parts = |(name, text): &(&str, &str)| {
        Profile::all_from_toml(text, &format!("{name}.toml")).unwrap_or_else(|e| panic!("{e}"))
    };
    let first = |profile: Profile| profile.at_connector(1);
    BUILT_IN.iter().flat_map(parts).map(first).collect()
}

fn decode_dump(profile: &Profile, dump: &Dump) -> (Values, Identity) {
    if matches!(profile.link, Link::Mqtt(_)) {
        let sample = crate::listen::tests::decode_messages(profile, &dump.messages);
        return (sample.values, sample.identity.unwrap_or_default());
    }
    dump::decode(profile, dump).unwrap()
}

#[test]
fn every_dump_in_every_profile_decodes_to_its_expected_values() {
    for profile in all() {
        assert!(!profile.dumps.is_empty(), "{} has no dump", profile.name);
        for dump in &profile.dumps {
            let (values, identity) = decode_dump(&profile, dump);
            let found = dump::found(values, identity);
            assert_eq!(found, dump.expect, "{}: {}", profile.name, dump.note);
        }
    }
}

#[test]
fn every_point_has_a_value_in_some_dump() {
    for profile in all() {
        for point in &profile.points {
            let quantity = point.quantity;
            let has = |dump: &Dump| {
                let (values, identity) = decode_dump(&profile, dump);
                match quantity {
                    Quantity::Import => values.import.is_some(),
                    Quantity::Export => values.export.is_some(),
                    Quantity::Power => values.power.is_some(),
                    Quantity::Soc => values.soc_permille.is_some(),
                    Quantity::State => values.state.is_some(),
                    Quantity::Maker => !identity.maker.is_empty(),
                    Quantity::Model => !identity.model.is_empty(),
                    Quantity::Serial => !identity.serial.is_empty(),
                    Quantity::Firmware => !identity.firmware.is_empty(),
                    _ => {
                        values.details.contains_key(&quantity)
                            || values.texts.contains_key(&quantity)
                    }
                }
            };
            let name = &profile.name;
            assert!(
                profile.dumps.iter().any(has),
                "{name}: no dump has {}",
                quantity.word()
            );
        }
    }
}

#[test]
fn no_two_points_of_a_part_lie_on_each_other() {
    for profile in all() {
        let mut spans: Vec<_> = profile
            .points
            .iter()
            .filter(|p| p.encoding.bits.is_none())
            .filter_map(|p| match p.source {
                Source::Register {
                    unit,
                    function,
                    address,
                    ..
                } => Some((
                    unit,
                    function,
                    address,
                    address + p.encoding.word_type.words(),
                )),
                _ => None,
            })
            .collect();
        spans.sort_unstable();
        for pair in spans.windows(2) {
            // A phase's power may be a part of the whole's, too.
            let (a, b) = (pair[0], pair[1]);
            let apart = (a.0, a.1) != (b.0, b.1) || a.3 <= b.2 || (a.2, a.3) == (b.2, b.3);
            assert!(apart, "{}: {pair:?}", profile.name);
        }
    }
}

#[test]
fn no_request_is_longer_than_the_device_allows() {
    for profile in all() {
        let Some(rules) = profile.modbus() else {
            continue;
        };
        let (values, identification) = Plan::fixed(&profile);
        for block in values.blocks.iter().chain(&identification.blocks) {
            assert!(
                block.count <= rules.max_words,
                "{}: {block:?}",
                profile.name
            );
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
    assert_eq!(blocks("eastron-sdm630"), [(0, 76)]);
    let one_by_one = [1000, 1008, 1010, 1012, 1020, 1036, 1502, 1500];
    assert_eq!(blocks("keba-p30"), one_by_one.map(|address| (address, 2)));
    let narrow = SDM630.replacen("max_words = 80", "max_words = 3", 1);
    let (plan, _) = Plan::fixed(&Profile::from_toml(&narrow, "x").unwrap());
    let counts: Vec<u16> = plan.blocks.iter().map(|b| b.count).collect();
    assert_eq!(counts, [2; 25], "a float is two words and stays whole");
}

#[test]
fn an_optional_point_is_asked_for_alone() {
    let text = SDM630.replacen("address = 0x004A,", "address = 0x004A, optional = true,", 1);
    let (plan, _) = Plan::fixed(&Profile::from_toml(&text, "x").unwrap());
    let kinds: Vec<_> = plan
        .blocks
        .iter()
        .map(|b| (b.address, b.optional))
        .collect();
    assert_eq!(kinds, [(0, false), (0x4a, true)]);
}

/// Words that a device might answer with: often zero, all ones, or something near.
fn word() -> impl Strategy<Value = u16> {
    prop_oneof![
        any::<u16>(),
        Just(0),
        Just(0xffff),
        Just(0x8000),
        Just(0x7fff),
        Just(0x7fc0)
    ]
}

/// A device of one part whose registers hold any words: what its plan would fetch from it.
fn answers(plan: &Plan, words: &[u16]) -> Registers {
    let mut fetched = Registers::default();
    let mut source = words.iter().copied().cycle();
    for block in &plan.blocks {
        let words = source.by_ref().take(usize::from(block.count)).collect();
        fetched.add(block, words);
    }
    fetched
}

/// The plans of a profile; a SunSpec device has every model that is known, with two groups.
fn plans(profile: &Profile) -> (Plan, Plan) {
    if matches!(profile.link, Link::Modbus(_)) {
        return Plan::fixed(profile);
    }
    let mut models = Vec::new();
    let mut address = 2;
    for table in sunspec::table::tables() {
        for id in &table.ids {
            let model = sunspec::Model {
                id: *id,
                address,
                length: 160,
            };
            address += 162;
            models.push(model);
        }
    }
    Plan::sunspec(profile, &models).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_content_of_registers_makes_a_value_of_a_sentinel(words in prop::collection::vec(word(), 1..300)) {
        for profile in all() {
            let (often, seldom) = plans(&profile);
            for plan in [&often, &seldom] {
                let device = answers(plan, &words);
                let values = device.values(plan);
                let _ = device.identity(plan);
                prop_assert!(values.import.is_none_or(|e| e.wh() >= 0));
                prop_assert!(values.soc_permille.is_none_or(|p| p <= 1000));
                for explained in device.explain(plan) {
                    let Some(read) = explained.read else {
                        prop_assert!(explained.outcome.is_err());
                        continue;
                    };
                    let encoding = &read.encoding;
                    if encoding.word_type.is_text() {
                        continue;
                    }
                    let raw = decode::raw(&explained.words, encoding);
                    let is_float = matches!(encoding.word_type, WordType::F32 | WordType::F64);
                    let is_nan = is_float && decode::number(&explained.words, encoding).is_err();
                    if encoding.sentinels.contains(&raw) || is_nan {
                        prop_assert!(explained.outcome.is_err(), "{}: {explained:?}", profile.name);
                    }
                    if read.scale_address.is_some() && explained.scale_word == Some(0x8000) {
                        prop_assert!(explained.outcome.is_err(), "{}: {explained:?}", profile.name);
                    }
                }
            }
        }
    }

    #[test]
    fn no_content_of_registers_breaks_the_walk(
        words in prop::collection::vec(word(), 1..2000),
        base in prop::sample::select(sunspec::BASES.to_vec()),
    ) {
        let mut words = words;
        words.splice(0..0, sunspec::MARKER);
        let get = |address: u16, count: u16| {
            let start = usize::from(address.checked_sub(base)?);
            words.get(start..start + usize::from(count))
        };
        for model in sunspec::walk(get).unwrap_or_default() {
            let own = get(model.address, 2).unwrap();
            prop_assert_eq!(own, [model.id, model.length]);
            let start = usize::from(model.address - base);
            let _ = sunspec::table::show(&model, &words[start..]);
        }
    }
}

#[test]
fn a_value_is_explained_with_its_words() {
    let profile = Profile::built_in("eastron-sdm630").unwrap();
    let (plan, _) = Plan::fixed(&profile);
    let mut words = vec![0; 76];
    words[0x34..0x36].copy_from_slice(&[0xc452, 0xa000]);
    words[0x48] = 0x7fc0;
    let mut device = Registers::default();
    device.add(&plan.blocks[0], words);
    let explained = device.explain(&plan);
    let of = |quantity| explained.iter().find(|e| e.quantity() == quantity).unwrap();
    let power = of(Quantity::Power);
    assert_eq!(
        (power.place().as_str(), &power.words[..]),
        ("4:52", &[0xc452, 0xa000][..])
    );
    assert_eq!(power.outcome, Ok(Decoded::Number(-842)));
    assert_eq!(
        of(Quantity::Import).outcome,
        Err(decode::NoValue::NotANumber)
    );
}

#[test]
fn a_counter_is_read_to_the_mwh_and_knows_where_it_begins_anew() {
    let profile = |counter: &str| {
        let text = format!(
            r#"
name = "test"
kind = "meter"
link = "modbus"
dump = []
[modbus]
max_words = 10
gap_ms = 1
timeout_ms = 500
[[point]]
quantity = "import"
function = 3
address = 0
{counter}
"#
        );
        Profile::from_toml(&text, "test.toml")
    };
    let counter = |text: &str, words: Vec<u16>| {
        let profile = profile(text).unwrap();
        let (plan, _) = Plan::fixed(&profile);
        let mut found = Registers::default();
        found.add(&plan.blocks[0], words);
        found.values(&plan).import_counter
    };
    let wraps = |mwh, span_mwh, is_signed| {
        let end = CounterEnd::Wraps {
            span_mwh,
            is_signed,
        };
        Some(Counter { mwh, end })
    };
    let tenths = "type = \"u32\"\nscale = \"0.1\"\nunit = \"Wh\"";
    assert_eq!(
        counter(tenths, vec![0xffff, 0xffff]),
        wraps(429_496_729_500, 429_496_729_600, false)
    );
    let words = "type = \"u16\"\nunit = \"kWh\"";
    assert_eq!(
        counter(words, vec![7]),
        wraps(7_000_000, 65_536_000_000, false)
    );
    let signed = "type = \"i16\"\nunit = \"Wh\"";
    assert_eq!(
        counter(signed, vec![0x8000]),
        wraps(-32_768_000, 65_536_000, true)
    );
    let decimal = "type = \"f32\"\nunit = \"kWh\"\nwraps_at = \"100000\"";
    assert_eq!(
        counter(decimal, vec![0x47c3, 0x4ff3]),
        wraps(99_999_898_438, 100_000_000_000, false)
    );
    let float = "type = \"f32\"\nunit = \"kWh\"";
    assert_eq!(counter(float, vec![0x7fc0, 0]), None, "NaN");
    assert_eq!(
        counter(float, vec![0x3f80, 0]),
        Some(Counter::open(1_000_000))
    );
    let power = "type = \"u16\"\nunit = \"Wh\"\nwraps_at = \"0\"";
    let error = profile(power).unwrap_err().to_string();
    assert!(error.contains("key `wraps_at`"), "{error}");
}
