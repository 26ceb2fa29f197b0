//! What devices say over MQTT, and what they must not be taken to say.

use super::*;
use crate::measure::{Counter, CounterEnd};
use crate::profile::mqtt::Topic;
use domain::energy::{Energy, Power};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_000_000_000 + ms)
}

fn moment(ms: i64) -> Moment {
    Moment {
        now: at(ms),
        steady: at(ms),
        watch_ms: ms,
    }
}

fn device(profile: &str, prefix: &str) -> MqttDevice {
    MqttDevice::new(3, &Profile::built_in(profile).unwrap(), prefix, None).unwrap()
}

/// What a message brings: import and export counter, power, and when.
type Brought = Result<(Option<i64>, Option<i64>, Option<i64>, i64), &'static str>;

fn said(device: &mut MqttDevice, topic: &str, payload: &str, ms: i64) -> Vec<Brought> {
    let outcomes = device
        .hear(topic, payload.as_bytes(), false, moment(ms))
        .into_iter();
    let brief = |sample: Sample| {
        let values = sample.values;
        let (import, export) = (values.import.map(Energy::wh), values.export.map(Energy::wh));
        (
            import,
            export,
            values.power.map(Power::w),
            sample.read_at.ms_since(at(0)),
        )
    };
    outcomes.map(|outcome| outcome.map(brief)).collect()
}

#[test]
fn a_retained_report_is_not_fresh_but_retained_absence_counts() {
    let mut device = device("shelly-pro-3em", "shelly");
    let power = br#"{"total_act_power": 12.0}"#;
    let mut hear = |topic, payload, retain| device.hear(topic, payload, retain, moment(0));
    let report = hear("shelly/status/em:0", power, false);
    let sample = report[0].clone().unwrap();
    assert_eq!(
        (sample.values.power, sample.read_at),
        (Some(Power::from_w(12)), at(0))
    );
    assert_eq!(hear("shelly/status/em:0", power, true), []);
    assert_eq!(hear("shelly2/status/em:0", power, false), []);
    assert_eq!(hear("shelly/status/em:0", b"", false), []);
    assert_eq!(hear("shelly/online", b"true", true), []);
    assert_eq!(hear("shelly/online", b"", false), []);
    assert_eq!(hear("shelly/online", b"false", true), [Err("offline")]);
    assert_eq!(
        hear("shelly/status/em:0", b"{\"total_act", false),
        [Err("payload")]
    );
    assert_eq!(device.topics().len(), 3);
}

/// The six counters of a Shelly 3EM of the first generation.
const COUNTERS: [(&str, &str); 6] = [
    ("s/emeter/0/total", "100.4"),
    ("s/emeter/1/total", "200.4"),
    ("s/emeter/2/total", "300.4"),
    ("s/emeter/0/total_returned", "1.0"),
    ("s/emeter/1/total_returned", "2.0"),
    ("s/emeter/2/total_returned", "3.0"),
];

#[test]
fn a_sample_of_many_messages_is_whole_or_none() {
    let mut shelly = device("shelly-3em-gen1", "s");
    let (last, first) = COUNTERS.split_last().unwrap();
    for (n, (topic, payload)) in (0..).zip(first) {
        assert_eq!(said(&mut shelly, topic, payload, 100 * n), []);
    }
    // Rounded once, not per phase; as old as its oldest part.
    assert_eq!(
        said(&mut shelly, last.0, last.1, 500),
        [Ok((Some(601), Some(6), None, 0))]
    );
    // What was used is used: one message more does not make another sample of old parts.
    assert_eq!(said(&mut shelly, last.0, last.1, 600), []);
    // The next report in another order, with the repetition in the middle.
    for (n, (topic, payload)) in (0..).zip(COUNTERS.iter().rev().take(5)) {
        assert_eq!(said(&mut shelly, topic, payload, 1000 + n), []);
        assert_eq!(said(&mut shelly, topic, payload, 1000 + n), []);
    }
    let whole = said(&mut shelly, COUNTERS[0].0, "101.4", 1005);
    assert_eq!(whole, [Ok((Some(602), Some(6), None, 1000))]);
}

#[test]
fn a_counter_has_its_milliwatt_hours_and_its_end() {
    let mut profile = Profile::built_in("shelly-3em-gen1").unwrap();
    let import = |point: &&mut Point| point.quantity == Quantity::Import;
    for point in profile.points.iter_mut().filter(import) {
        point.wraps_at = Some(1_000_000);
    }
    let mut shelly = MqttDevice::new(3, &profile, "s", None).unwrap();
    let hear =
        |(topic, payload): (&str, &str)| shelly.hear(topic, payload.as_bytes(), false, moment(0));
    let whole = COUNTERS.into_iter().flat_map(hear).next().unwrap().unwrap();
    let import = whole.values.import_counter.unwrap();
    let end = CounterEnd::Wraps {
        span_mwh: 1_000_000_000,
        is_signed: false,
    };
    assert_eq!((import.mwh, import.end), (601_200, end));
    assert_eq!(whole.values.export_counter, Some(Counter::open(6000)));
}

#[test]
fn parts_that_do_not_come_in_time_are_given_up() {
    let mut shelly = device("shelly-3em-gen1", "s");
    for (topic, payload) in &COUNTERS[..5] {
        assert_eq!(said(&mut shelly, topic, payload, 0), []);
    }
    let (topic, payload) = COUNTERS[5];
    assert_eq!(
        said(&mut shelly, topic, payload, GATHER_MAX_MS + 1),
        [Err("incomplete")]
    );
    // One of them says that it has no value.
    let mut again = device("shelly-3em-gen1", "s");
    for (topic, payload) in COUNTERS {
        let payload = if topic.ends_with("1/total") {
            "nan"
        } else {
            payload
        };
        assert_eq!(said(&mut again, topic, payload, 0), []);
    }
}

#[test]
fn a_clock_that_stands_still_makes_nothing_wait_shorter_and_nothing_old_fresh() {
    let still = |passed_ms| Moment {
        now: at(300_000),
        steady: at(300_000 + passed_ms),
        watch_ms: 300_000 + passed_ms,
    };
    let mut shelly = device("shelly-3em-gen1", "s");
    let mut hear = |(topic, payload): (&str, &str), passed_ms| {
        shelly.hear(topic, payload.as_bytes(), false, still(passed_ms))
    };
    for part in &COUNTERS[..5] {
        assert_eq!(hear(*part, 0), []);
    }
    let late = hear(COUNTERS[5], GATHER_MAX_MS + 1);
    assert_eq!(late, [Err("incomplete")]);
    // The sixth waits for the others now.
    for part in &COUNTERS[..4] {
        assert_eq!(hear(*part, GATHER_MAX_MS + 2), []);
    }
    let whole = hear(COUNTERS[4], GATHER_MAX_MS + 3)[0].clone().unwrap();
    assert_eq!(whole.read_at, at(300_000));
    let mut plug = device("zigbee2mqtt-meter", "z/plug");
    let seen = format!(r#"{{"energy":1.5,"last_seen":{}}}"#, at(299_000).unix_ms());
    let replayed = plug.hear("z/plug", seen.as_bytes(), false, still(300_000));
    assert_eq!(replayed, [Err("old")]);
}

#[test]
fn a_break_or_an_absence_separates_what_came_before_from_what_comes_after() {
    for is_break in [true, false] {
        let mut shelly = device("shelly-3em-gen1", "s");
        for (topic, payload) in &COUNTERS[..5] {
            let _ = said(&mut shelly, topic, payload, 0);
        }
        if is_break {
            shelly.gather.forget();
        } else {
            assert_eq!(said(&mut shelly, "s/online", "false", 1), [Err("offline")]);
        }
        assert_eq!(said(&mut shelly, COUNTERS[5].0, COUNTERS[5].1, 2), []);
    }
}

#[test]
fn every_value_has_the_time_of_its_own_message() {
    let mut evse = device("openevse", "openevse-ab12");
    let power = said(&mut evse, "openevse-ab12/power", "3600", 0);
    assert_eq!(power, [Ok((None, None, Some(3600), 0))]);
    let energy = said(&mut evse, "openevse-ab12/total_energy", "12.5", 700);
    assert_eq!(energy, [Ok((Some(12_500), None, None, 700))]);
    assert_eq!(said(&mut evse, "openevse-ab12/total_energy", "-1", 800), []);
    assert_eq!(
        said(&mut evse, "openevse-ab12/total_energy", "false", 900),
        []
    );
}

#[test]
fn presence_is_a_word_or_json_and_only_that_of_the_device_itself() {
    let mut evse = device("openevse", "openevse-ab12");
    let announce = |device: &mut MqttDevice, state: &str, name: &str| {
        let text = format!(r#"{{"state":"{state}","name":"{name}"}}"#);
        said(device, "openevse/announce/ab12", &text, 0)
    };
    assert_eq!(announce(&mut evse, "connected", "openevse-ab12"), []);
    assert_eq!(announce(&mut evse, "disconnected", "openevse-cd34"), []);
    assert_eq!(
        announce(&mut evse, "disconnected", "openevse-ab12"),
        [Err("offline")]
    );
    let mut plug = device("zigbee2mqtt-meter", "zigbee2mqtt/plug");
    let topic = "zigbee2mqtt/plug/availability";
    for (word, outcome) in [
        (r#"{"state":"online"}"#, vec![]),
        ("online", vec![]),
        (r#"{"state":"offline"}"#, vec![Err("offline")]),
        ("offline", vec![Err("offline")]),
    ] {
        assert_eq!(said(&mut plug, topic, word, 0), outcome, "{word}");
    }
    let mut tasmota = device("tasmota-energy", "plug");
    assert_eq!(said(&mut tasmota, "tele/plug/LWT", "Online", 0), []);
    assert_eq!(
        said(&mut tasmota, "tele/plug/LWT", "Offline", 0),
        [Err("offline")]
    );
}

#[test]
fn what_was_kept_somewhere_and_comes_again_is_not_fresh() {
    let mut plug = device("zigbee2mqtt-meter", "z/plug");
    let seen = |ms: i64| {
        let stamp = at(ms).unix_ms();
        format!(r#"{{"energy":1.5,"last_seen":{stamp}}}"#)
    };
    let mut say = |text: &str, ms| said(&mut plug, "z/plug", text, ms);
    assert_eq!(say(&seen(0), 300_000), [Err("old")], "replayed at a start");
    let fresh = say(&seen(299_000), 300_000);
    assert_eq!(fresh, [Ok((Some(1500), None, None, 300_000))]);
    assert_eq!(say(&seen(299_000), 300_500), [Err("repeated")]);
    assert_eq!(
        say(r#"{"energy":1.5}"#, 300_600).len(),
        1,
        "no stamp, no opinion"
    );
    let ahead = plug.hear("z/plug", seen(310_000).as_bytes(), false, moment(301_000));
    let values = ahead[0].clone().unwrap().values;
    assert_eq!(values.details[&Quantity::ClockOffset], 9000);
}

#[test]
fn channels_of_one_device_are_told_apart() {
    let profile = Profile::built_in("shelly-pro-3em-monophase").unwrap();
    let mut second = MqttDevice::new(0, &profile, "s", Some(2)).unwrap();
    let text = r#"{"id":1,"total_act_energy":17.2,"total_act_ret_energy":0}"#;
    assert_eq!(said(&mut second, "s/status/em1data:0", text, 0), []);
    let own = said(&mut second, "s/status/em1data:1", text, 0);
    assert_eq!(own, [Ok((Some(17), Some(0), None, 0))]);
}

/// What a device said in messages that came at once; for the dumps in profiles.
pub(crate) fn decode_messages(profile: &Profile, messages: &[(String, String)]) -> Sample {
    let now = Moment {
        now: Timestamp::EPOCH,
        steady: Timestamp::EPOCH,
        watch_ms: 0,
    };
    let mut device = MqttDevice::new(0, profile, "prefix", None).unwrap();
    let mut whole = Sample {
        read_at: now.now,
        values: Default::default(),
        identity: None,
    };
    for (topic, payload) in messages {
        let topic = Topic::try_from(topic.clone()).unwrap().filled("prefix", 0);
        for sample in device
            .hear(&topic, payload.as_bytes(), false, now)
            .into_iter()
            .flatten()
        {
            let (said, all) = (sample.values, &mut whole.values);
            all.import = said.import.or(all.import);
            all.export = said.export.or(all.export);
            all.power = said.power.or(all.power);
            all.soc_permille = said.soc_permille.or(all.soc_permille);
            all.state = said.state.or(all.state.take());
            all.details.extend(said.details);
            all.texts.extend(said.texts);
            whole.identity = sample.identity.or(whole.identity);
        }
    }
    whole
}
