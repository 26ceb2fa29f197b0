//! The raw dumps in a profile, decoded: whether a profile does what its author expects of it.

use domain::energy::{Energy, Power};
use domain::time::Timestamp;

use super::telegram::{Language, Reader, Telegram, TelegramRules};
use super::{Block, Identity, Plan, Registers, Values, sunspec};
use crate::profile::{Dump, Expected, Link, Profile};

/// What a device with the dump's registers would be found to say; `None` where the dump's words cannot
/// be read, where it has no SunSpec model of the profile, and for devices that send messages.
#[must_use]
pub fn decode(profile: &Profile, dump: &Dump) -> Option<(Values, Identity)> {
    if let Link::Telegram(language, rules) = profile.link {
        let telegram = telegram_of(language, rules, dump.telegram.as_deref()?)?;
        return Some((telegram.values(profile), telegram.identity(profile)));
    }
    let mut device = Registers::default();
    for run in &dump.registers {
        let words = words_of(&run.words)?;
        let block = Block {
            unit: run.unit_id,
            function: run.function,
            address: run.address,
            count: u16::try_from(words.len()).ok()?,
            optional: false,
        };
        device.add(&block, words);
    }
    let (often, seldom) = match &profile.link {
        Link::Modbus(_) => Plan::fixed(profile),
        Link::Sunspec(_) => {
            let models = sunspec::walk(|address, count| device.get(None, 3, address, count))?;
            Plan::sunspec(profile, &models)?
        }
        _ => return None,
    };
    let first = fetch(&device, &often);
    let second = fetch(&device, &seldom);
    let mut values = first.values(&often);
    values.add_details(second.values(&seldom));
    Some((values, second.identity(&seldom)))
}

/// The telegram in a dump, as it is read from the wire.
fn telegram_of(language: Language, rules: TelegramRules, text: &str) -> Option<Telegram> {
    let bytes = match language {
        Language::P1 => text.replace('\n', "\r\n").into_bytes(),
        Language::Sml => {
            let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            digits.chunks(2).map(byte).collect::<Option<_>>()?
        }
    };
    let mut reader = Reader::new(language, rules);
    let at = Timestamp::from_unix_ms(0);
    let mut heard = bytes.into_iter().filter_map(|byte| reader.push(byte, at));
    heard.next()?.ok()
}

/// What the plan's requests bring. A request that meets no word of the dump is one that the device
/// refuses; words between those of the dump are nonsense that nothing may depend on.
fn fetch(device: &Registers, plan: &Plan) -> Registers {
    const NONSENSE: u16 = 0xdead;
    let mut fetched = Registers::default();
    for block in &plan.blocks {
        let word = |i: u16| {
            let address = block.address.checked_add(i)?;
            let words = device.get(block.unit, block.function, address, 1)?;
            words.first().copied()
        };
        let words: Vec<_> = (0..block.count).map(word).collect();
        if words.iter().any(Option::is_some) {
            let words = words.into_iter().map(|word| word.unwrap_or(NONSENSE));
            fetched.add(block, words.collect());
        }
    }
    fetched
}

/// Values and identification in the form that a dump expects them in.
#[must_use]
pub fn found(values: Values, identity: Identity) -> Expected {
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    Expected {
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
    }
}

/// The first dump of registers that does not decode to what it says, in a sentence. Dumps of a station
/// with several connectors are those of the first.
#[must_use]
pub fn mismatch(profile: &Profile) -> Option<String> {
    if matches!(profile.link, Link::Mqtt(_)) {
        return None;
    }
    let first = profile.clone().at_connector(1);
    let wrong = |dump: &Dump| {
        let Some((values, identity)) = decode(&first, dump) else {
            let note = &dump.note;
            return Some(format!(
                "dump `{note}`: its words cannot be read, or have no such model"
            ));
        };
        let found = found(values, identity);
        (found != dump.expect).then(|| {
            let Dump { note, expect, .. } = dump;
            format!("dump `{note}`: expected {expect:?}, and its words say {found:?}")
        })
    };
    profile.dumps.iter().find_map(wrong)
}

/// The words of a dump: `5375 'Acme'*16 0000*3` is hex, text in a number of words, and repetitions.
#[must_use]
pub fn words_of(text: &str) -> Option<Vec<u16>> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let quoted = rest.strip_prefix('\'').and_then(|r| r.split_once('\''));
        let (content, tail) = match quoted {
            Some(quoted) => quoted,
            None => rest.split_at_checked(4)?,
        };
        let (item, after) = tail.split_once(char::is_whitespace).unwrap_or((tail, ""));
        let count: usize = match item.strip_prefix('*') {
            Some(count) => count.parse().ok().filter(|n| *n <= ADDRESSES)?,
            None if item.is_empty() => 1,
            None => return None,
        };
        if quoted.is_some() {
            let mut bytes = content.as_bytes().to_vec();
            bytes.resize(count * 2, 0);
            out.extend(
                bytes
                    .chunks_exact(2)
                    .map(|b| u16::from_be_bytes([b[0], b[1]])),
            );
        } else {
            let word = u16::from_str_radix(content, 16).ok()?;
            out.extend(std::iter::repeat_n(word, count));
        }
        if out.len() > ADDRESSES {
            return None;
        }
        rest = after.trim();
    }
    Some(out)
}

/// Registers that there can be.
const ADDRESSES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_dump_are_hex_text_and_repetitions() {
        let words = words_of("5375 'Abc'*3\n 0000*2 ffff").unwrap();
        assert_eq!(words, [0x5375, 0x4162, 0x6300, 0, 0, 0, 0xffff]);
        for bad in [
            "537",
            "53756",
            "5375*x",
            "0000*99999999",
            "'abc",
            "xyzt",
            "éé",
        ] {
            assert_eq!(words_of(bad), None, "{bad}");
        }
        assert_eq!(words_of(" \n"), Some(Vec::new()));
    }
}
