//! Every dump in every profile, and what a plan asks for.

use domain::energy::{Energy, Power};

use super::*;
use crate::profile::{BUILT_IN, Dump, Expected, Link, Profile, Quantity, Source};

/// All parts of all profiles.
fn all() -> Vec<Profile> {
    let parts = |(name, text): (&str, &str)| {
        Profile::all_from_toml(text, &format!("{name}.toml")).unwrap_or_else(|e| panic!("{e}"))
    };
    BUILT_IN.into_iter().flat_map(parts).collect()
}

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
        let words = words_of(&run.words);
        let block = Block {
            unit: run.unit_id,
            function: run.function,
            address: run.address,
            count: u16::try_from(words.len()).unwrap(),
            optional: false,
        };
        device.add(&block, words);
    }
    let plans = match &profile.link {
        Link::Modbus(_) => Plan::fixed(profile),
        Link::Sunspec(_) => {
            let models = sunspec::walk(|address, count| device.get(None, 3, address, count));
            Plan::sunspec(profile, &models.unwrap()).unwrap()
        }
        Link::Mqtt(_) => {
            let sample = crate::listen::tests::decode_messages(profile, &dump.messages);
            return (sample.values, sample.identity.unwrap_or_default());
        }
    };
    // A block without any word in the dump is one that this device does not have.
    let fetch = |plan: &Plan| {
        let mut fetched = Registers::default();
        for block in &plan.blocks {
            let word = |i| device.get(block.unit, block.function, block.address + i, 1);
            let words: Vec<_> = (0..block.count).map(word).collect();
            if words.iter().any(Option::is_some) {
                let words = words.into_iter().map(|w| w.map_or(0xdead, |w| w[0]));
                fetched.add(block, words.collect());
            }
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
    for profile in all() {
        assert!(!profile.dumps.is_empty(), "{} has no dump", profile.name);
        for dump in &profile.dumps {
            let (values, identity) = decode_dump(&profile, dump);
            let said = |text: String| Some(text).filter(|text| !text.is_empty());
            let found = Expected {
                import_wh: values.import.map(Energy::wh),
                export_wh: values.export.map(Energy::wh),
                power_w: values.power.map(Power::w),
                soc_permille: values.soc_permille,
                state: values.state,
                maker: said(identity.maker),
                model: said(identity.model),
                serial: said(identity.serial),
                firmware: said(identity.firmware),
                details: values.details,
                texts: values.texts,
            };
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
            let apart = (pair[0].0, pair[0].1) != (pair[1].0, pair[1].1) || pair[0].3 <= pair[1].2;
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
