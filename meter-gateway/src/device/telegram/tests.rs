//! Telegrams cut at any byte, with flipped bits and amid garbage: a wrong value never comes out.

use domain::energy::{Energy, Power};

use super::*;
use crate::measure::CounterEnd;
use crate::profile::Dump;

const TEN_KWH: i64 = 10_000;

fn rules(checksum: bool) -> TelegramRules {
    TelegramRules {
        checksum,
        silence_s: 30,
    }
}

/// CRC-16 with the reflected polynomial, bit by bit.
fn crc16(bytes: &[u8], polynomial: u16, start: u16) -> u16 {
    let mut crc = start;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ polynomial
            } else {
                crc >> 1
            };
        }
    }
    crc
}

/// A telegram with so many Wh in each tariff of import.
fn p1(import_wh: i64) -> Vec<u8> {
    let kwh = format!("{:06}.{:03}", import_wh / 1000, import_wh % 1000);
    let body = format!(
        "/ABC5\\example\r\n\r\n1-3:0.2.8(50)\r\n0-0:96.1.1(4530303132333435)\r\n\
         1-0:1.8.1({kwh}*kWh)\r\n1-0:1.8.2({kwh}*kWh)\r\n1-0:2.8.1(000001.000*kWh)\r\n\
         1-0:2.8.2(000002.000*kWh)\r\n1-0:1.7.0(01.193*kW)\r\n1-0:2.7.0(00.000*kW)\r\n!"
    );
    let sum = crc16(body.as_bytes(), 0xa001, 0);
    format!("{body}{sum:04X}\r\n").into_bytes()
}

fn hear(reader: &mut Reader, bytes: &[u8]) -> Vec<Result<Telegram, Broken>> {
    let at = |index: usize| Timestamp::from_unix_ms(i64::try_from(index).unwrap());
    let bytes = bytes.iter().enumerate();
    bytes
        .filter_map(|(index, byte)| reader.push(*byte, at(index)))
        .collect()
}

fn profile(name: &str) -> Profile {
    Profile::built_in(name).unwrap()
}

/// The imports of the telegrams that were taken for whole.
fn imports(profile: &Profile, heard: &[Result<Telegram, Broken>]) -> Vec<Option<i64>> {
    let import = |telegram: &Telegram| telegram.values(profile).import.map(Energy::wh);
    heard.iter().flatten().map(import).collect()
}

fn p1_reader() -> Reader {
    Reader::new(Language::P1, rules(true))
}

#[test]
fn a_counter_has_its_milliwatt_hours_and_its_end() {
    let heard = hear(&mut p1_reader(), &p1(TEN_KWH));
    let values = heard[0].as_ref().unwrap().values(&profile("dsmr-p1"));
    let end = CounterEnd::Wraps {
        span_mwh: 1_000_000_000_000,
        is_signed: false,
    };
    let counter = |mwh| Some(Counter { mwh, end });
    assert_eq!(values.import_counter, counter(20_000_000));
    assert_eq!(values.export_counter, counter(3_000_000));
}

#[test]
fn tariffs_and_directions_are_added_up() {
    let profile = profile("dsmr-p1");
    let heard = hear(&mut p1_reader(), &p1(TEN_KWH));
    let values = heard[0].as_ref().unwrap().values(&profile);
    assert_eq!(values.import, Some(Energy::from_wh(2 * TEN_KWH)));
    assert_eq!(values.export, Some(Energy::from_wh(3000)));
    assert_eq!(values.power, Some(Power::from_w(1193)));
    assert_eq!(
        heard[0].as_ref().unwrap().identity(&profile).serial,
        "E0012345"
    );
    // A tariff that is not there leaves no import, not half of it.
    let text = String::from_utf8(p1(TEN_KWH)).unwrap();
    let (before, after) = text.split_once("1-0:1.8.2").unwrap();
    let body = format!("{before}{}", after.split_once("\r\n").unwrap().1);
    let body = body.split_once('!').unwrap().0;
    let sum = crc16(format!("{body}!").as_bytes(), 0xa001, 0);
    let heard = hear(&mut p1_reader(), format!("{body}!{sum:04x}").as_bytes());
    assert_eq!(imports(&profile, &heard), [None]);
}

#[test]
fn another_reader_of_p1_reads_the_same() {
    let telegram = p1(1_234_567);
    let mut buffer = [0; 2048];
    buffer[..telegram.len()].copy_from_slice(&telegram);
    let readout = dsmr5::Readout { buffer };
    let other = readout.to_telegram().unwrap();
    let milli = |value: f64| format!("{:.0}", value * 1000.0);
    let mut found = 0;
    for object in other.objects().flatten() {
        match object {
            dsmr5::OBIS::MeterReadingTo(_, value) => {
                assert_eq!(milli(f64::from(&value)), "1234567");
                found += 1;
            }
            dsmr5::OBIS::PowerDelivered(value) => assert_eq!(milli(f64::from(&value)), "1193"),
            _ => {}
        }
    }
    assert_eq!(found, 2);
    let heard = hear(&mut p1_reader(), &telegram);
    let import_wh = imports(&profile("dsmr-p1"), &heard);
    assert_eq!(import_wh, [Some(2 * 1_234_567)]);
}

#[test]
fn a_p1_telegram_that_is_cut_off_anywhere_costs_nothing_but_itself() {
    let profile = profile("dsmr-p1");
    let (first, second) = (p1(TEN_KWH), p1(77_000));
    for cut in 0..first.len() {
        let stream = [&first[..cut], &second[..]].concat();
        let heard = hear(&mut p1_reader(), &stream);
        let is_whole = cut >= first.len() - 2;
        let expected = if is_whole {
            vec![Some(2 * TEN_KWH)]
        } else {
            vec![]
        };
        let expected = [expected, vec![Some(154_000)]].concat();
        assert_eq!(imports(&profile, &heard), expected, "cut at {cut}");
        let begun_at = heard.iter().flatten().last().unwrap().begun_at;
        assert_eq!(begun_at.unix_ms(), i64::try_from(cut).unwrap());
        // And the rest of one, as when the gateway starts in the middle.
        let stream = [&first[cut..], &second[..]].concat();
        let last = imports(&profile, &hear(&mut p1_reader(), &stream));
        assert_eq!(last.last(), Some(&Some(154_000)), "from {cut}");
    }
}

#[test]
fn flipped_bits_are_no_values() {
    let meter = profile("dsmr-p1");
    let (first, second) = (p1(TEN_KWH), p1(77_000));
    for index in 0..first.len() - 2 {
        for bit in 0..8 {
            let mut flipped = first.clone();
            flipped[index] ^= 1 << bit;
            let stream = [&flipped[..], &second[..]].concat();
            let heard = hear(&mut p1_reader(), &stream);
            // A letter of the sum in lower case is still the same sum.
            let is_case =
                bit == 5 && index >= first.len() - 6 && first[index].is_ascii_alphabetic();
            let expected = if is_case {
                vec![Some(2 * TEN_KWH)]
            } else {
                vec![]
            };
            let expected = [expected, vec![Some(154_000)]].concat();
            assert_eq!(imports(&meter, &heard), expected, "byte {index} bit {bit}");
        }
    }
    let meter = profile("sml-edl");
    let frame = sml();
    for index in 0..frame.len() {
        for bit in 0..8 {
            let mut flipped = frame.clone();
            flipped[index] ^= 1 << bit;
            let stream = [&flipped[..], &frame[..], &frame[..]].concat();
            let mut reader = Reader::new(Language::Sml, rules(true));
            let imports = imports(&meter, &hear(&mut reader, &stream));
            assert!(
                (1..=2).contains(&imports.len())
                    && imports.iter().all(|import| *import == Some(12_345_679)),
                "byte {index} bit {bit}: {imports:?}"
            );
        }
    }
}

fn bytes_of(dump: &Dump, language: Language) -> Vec<u8> {
    let text = dump.telegram.as_deref().unwrap();
    match language {
        Language::P1 => text.replace('\n', "\r\n").into_bytes(),
        Language::Sml => {
            let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
            digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
        }
    }
}

fn sml() -> Vec<u8> {
    bytes_of(&profile("sml-edl").dumps[0], Language::Sml)
}

#[test]
fn an_sml_frame_that_is_cut_off_anywhere_costs_at_most_the_next() {
    let meter = profile("sml-edl");
    let frame = sml();
    let start = "1b1b1b1b01010101";
    assert!(
        meter.dumps[0]
            .telegram
            .as_deref()
            .unwrap()
            .starts_with(start)
    );
    for cut in 0..frame.len() {
        for stream in [
            [&frame[..cut], &frame[..], &frame[..]].concat(),
            [&frame[cut..], &frame[..], &frame[..]].concat(),
        ] {
            let mut reader = Reader::new(Language::Sml, rules(true));
            let heard = hear(&mut reader, &stream);
            let imports = imports(&meter, &heard);
            assert!(
                !imports.is_empty() && imports.iter().all(|import| *import == Some(12_345_679)),
                "cut at {cut}: {heard:?}"
            );
            let begun_at = heard.iter().flatten().last().unwrap().begun_at.unix_ms();
            let expected = i64::try_from(stream.len() - frame.len()).unwrap();
            assert_eq!(begun_at, expected, "cut at {cut}");
        }
    }
}

#[test]
fn garbage_without_end_is_survived() {
    let mut random = 1_u32;
    let mut garbage = |length: usize| -> Vec<u8> {
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(random >> 24).unwrap()
        };
        (0..length).map(|_| next()).collect()
    };
    for length in [1, 100, 5000, 70_000, 200_000] {
        let noise = garbage(length);
        let mut reader = p1_reader();
        let heard = hear(
            &mut reader,
            &[&noise[..], &p1(TEN_KWH), &p1(TEN_KWH)].concat(),
        );
        let found = imports(&profile("dsmr-p1"), &heard);
        assert_eq!(found.last(), Some(&Some(2 * TEN_KWH)), "{length}");
        assert!(found.iter().all(|import| *import == Some(2 * TEN_KWH)));
        let mut reader = Reader::new(Language::Sml, rules(true));
        let heard = hear(&mut reader, &[&noise[..], &sml(), &sml()].concat());
        let found = imports(&profile("sml-edl"), &heard);
        assert_eq!(found.last(), Some(&Some(12_345_679)), "{length}");
    }
    let endless = [&b"/ABC5x\r\n\r\n"[..], &[b'a'; 2 * TELEGRAM_MAX_BYTES]].concat();
    let heard = hear(&mut p1_reader(), &endless);
    assert_eq!(heard, [Err(Broken::TooLong)]);
}

#[test]
fn a_value_in_another_unit_or_said_in_two_ways_is_no_value() {
    let meter = profile("dsmr-p1-v3");
    let heard = |text: &str| {
        let mut reader = Reader::new(Language::P1, rules(false));
        let text = format!("/ABC5x\r\n\r\n{}!\r\n", text.replace('\n', "\r\n"));
        imports(&meter, &hear(&mut reader, text.as_bytes()))
    };
    let both = "1-0:1.8.1(00001.000*kWh)\n1-0:1.8.2(00002.000*kWh)\n";
    assert_eq!(heard(both), [Some(3000)]);
    assert_eq!(heard(&both.replacen("kWh", "Wh", 1)), [None]);
    assert_eq!(heard(&both.replacen("00001.000", "0000l.000", 1)), [None]);
    assert_eq!(heard(&format!("{both}1-0:1.8.1(00001.001*kWh)\n")), [None]);
    assert_eq!(
        heard(&format!("{both}1-0:1.8.1(00001.000*kWh)\n")),
        [Some(3000)]
    );
}

#[test]
fn obis_codes_are_read() {
    assert_eq!("1-0:1.8.0".parse(), Ok(Obis([1, 0, 1, 8, 0, 255])));
    assert_eq!("1-0:16.7.0*255".parse(), Ok(Obis([1, 0, 16, 7, 0, 255])));
    for wrong in ["1.8.0", "1-0:1.8", "1-0:1.8.0.0", "1-0:1.8.999", ""] {
        assert!(wrong.parse::<Obis>().is_err(), "{wrong}");
    }
}
