//! Profiles write what their examples say, nothing outside the limits is ever written, and every lease
//! comes to its end.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use domain::command::{Act, Command, End, Limit, Outcome, Refusal, Revert, SetPoint};
use domain::ids::{CommunityId, Digest32, GatewayId};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use proptest::prelude::*;
use runtime::clock::Clock;
use runtime::db::Db;
use runtime::mqtt::{MqttLink, MqttOptions};
use tokio_util::sync::CancellationToken;

use super::lease::{Action, Engine, Input, Key, Lease, List, Now, TRIES_MAX, Traits, Work};
use super::limits::{LimitsConfig, Rules, decide};
use super::program::{Local, Program, Verdict, program, questions};
use super::service::{Answers, Controlled, Controller, Incoming, Parties};
use super::store::{Change, Known, Store};
use crate::Config;
use crate::bus::{Desk, Place, Step};
use crate::profile::control::{Control, Example, Target};
use crate::profile::{BUILT_IN, Profile};
use crate::status::Shared;

const LOCAL: Local = Local {
    max_charge_w: 5_000,
    max_discharge_w: 5_000,
    max_current_ma: 16_000,
    revert_current_ma: 16_000,
    fail_safe_current_ma: 6_000,
    rating_w: 10_000,
};

fn controls() -> Vec<(&'static str, Control)> {
    static ALL: OnceLock<Vec<(&str, Control)>> = OnceLock::new();
    ALL.get_or_init(load_controls).clone()
}

fn load_controls() -> Vec<(&'static str, Control)> {
    let all = BUILT_IN.iter().flat_map(|(name, text)| {
        let parts = Profile::all_from_toml(text, name).unwrap();
        let controls = parts.into_iter().flat_map(|part| part.controls);
        controls.map(move |control| (*name, control))
    });
    all.collect()
}

/// `0001 0000*3`: hex words and repetitions.
fn words_of(text: &str) -> Vec<u16> {
    let of = |item: &str| {
        let (word, count) = item.split_once('*').unwrap_or((item, "1"));
        let word = u16::from_str_radix(word, 16).unwrap();
        std::iter::repeat_n(word, count.parse().unwrap())
    };
    text.split_whitespace().flat_map(of).collect()
}

fn line_of(step: &Step) -> String {
    let Step::Write {
        place,
        function,
        words,
    } = step
    else {
        panic!("a program reads: {step:?}");
    };
    let place = match place {
        Place::Register { address, unit, .. } => {
            let unit = unit.map_or(String::new(), |unit| format!("{unit}:"));
            format!("{unit}{address:x}")
        }
        Place::Sunspec { model, offset } => format!("{model}+{offset:x}"),
    };
    let words: Vec<_> = words.iter().map(|word| format!("{word:04x}")).collect();
    format!("{function} {place} {}", words.join(" "))
}

fn default_set_point(target: Target) -> SetPoint {
    match target {
        Target::BatteryPower => SetPoint::BatteryPowerW,
        Target::ChargerCurrent => SetPoint::ChargerCurrentMa,
        Target::GenerationLimit => SetPoint::GenerationLimitPermille,
        Target::ChargerSession => SetPoint::ChargerSession,
    }
}

fn writes_of(control: &Control, example: &Example) -> Vec<String> {
    let named = |word: &String| SetPoint::from_word(word).expect("a set-point's word");
    let set_point = example.of.as_ref().map(named);
    let set_point = set_point.unwrap_or(default_set_point(control.target));
    let beat = control.heartbeat.map(|(write, _)| write);
    let (list, wanted) = match example.list.as_str() {
        "set" => {
            let list = control.list_for(example.value);
            (list, Some((set_point, example.value)))
        }
        "revert" => (&control.revert[..], None),
        "fail-safe" => (&control.fail_safe[..], None),
        "heartbeat" => (beat.as_slice(), None),
        other => panic!("no list {other}"),
    };
    let asked = questions(control, list);
    assert_eq!(asked.len(), example.registers.len(), "reads: {asked:?}");
    let answers: Vec<Vec<u16>> = example
        .registers
        .iter()
        .map(|run| words_of(&run.words))
        .collect();
    let made = program(control, list, wanted, &LOCAL, &answers).unwrap();
    made.steps.iter().map(line_of).collect()
}

#[test]
fn every_control_writes_what_its_examples_say() {
    let controls = controls();
    assert!(controls.len() >= 25, "{} controls", controls.len());
    for (name, control) in controls {
        for example in &control.examples {
            assert_eq!(writes_of(&control, example), example.writes, "{name}");
        }
    }
}

#[test]
fn a_value_that_reads_back_is_told_and_another_one_is_not_believed() {
    let keba = Profile::built_in("keba-p30").unwrap().controls.remove(0);
    let wanted = Some((SetPoint::ChargerCurrentMa, 16_000));
    let made = program(&keba, &keba.write, wanted, &LOCAL, &[]).unwrap();
    let judge = |ma: u16| made.judge(&[vec![0, ma]]);
    let verdict = |holds, value| Verdict {
        holds,
        value: Some(value),
        clamped_by: None,
    };
    let unclear = Verdict {
        holds: false,
        value: None,
        clamped_by: None,
    };
    assert_eq!(judge(16_000), verdict(true, 16_000));
    assert_eq!(judge(13_000), verdict(true, 13_000), "a thin cable");
    assert_eq!(judge(20_000), verdict(false, 20_000));
    assert_eq!(made.judge(&[vec![16_000]]), unclear);
    assert_eq!(made.judge(&[]), unclear);
    let wanted = Some((SetPoint::ChargerCurrentMa, 0));
    let paused = program(&keba, &keba.pause, wanted, &LOCAL, &[]).unwrap();
    assert_eq!(paused.judge(&[vec![0, 0]]), verdict(true, 0));
    assert!(!paused.judge(&[vec![0, 6_000]]).holds);
}

#[test]
fn a_scale_factor_that_moves_between_write_and_read_back_is_no_matter() {
    let battery = Profile::built_in("sunspec-battery-802")
        .unwrap()
        .controls
        .remove(0);
    let rate = |value: u16, between: usize, scale: u16| {
        let mut words = vec![value];
        words.resize(between + 1, 0);
        words.push(scale);
        words
    };
    let before = [rate(0, 12, 0xfffe), rate(0, 11, 0xfffe), rate(5_000, 15, 0)];
    let wanted = Some((SetPoint::BatteryPowerW, 2_000));
    let made = program(&battery, &battery.write, wanted, &LOCAL, &before).unwrap();
    let opposite = (-40_i16).cast_unsigned();
    let after = [rate(40, 12, 0), rate(opposite, 11, 0), vec![120], vec![3]];
    let verdict = made.judge(&after);
    assert_eq!((verdict.holds, verdict.value), (true, Some(2_000)));
    let lost = [after[0].clone(), after[1].clone(), vec![0], vec![3]];
    assert!(!made.judge(&lost).holds, "its own time-out is gone");
    let unknown = [rate(0, 12, 0x8000), before[1].clone(), before[2].clone()];
    assert!(program(&battery, &battery.write, wanted, &LOCAL, &unknown).is_err());
}

#[test]
fn what_is_more_than_a_device_can_do_is_lowered_to_its_own_full_scale() {
    use SetPoint::{BatteryPowerW, GenerationLimitPermille, GenerationLimitW};
    let local = Local {
        max_charge_w: 22_000,
        max_discharge_w: 22_000,
        rating_w: 22_000,
        ..LOCAL
    };
    let of = |name: &str| Profile::built_in(name).unwrap().controls.remove(0);
    let (battery, inverter) = (of("sunspec-battery-802"), of("sunspec-inverter"));
    // The words before, then 5 kW as the full scale.
    let storage: &[&str] = &["0000*13 fffe", "0000*12 fffe", "1388 0000*16"];
    let limit: &[&str] = &["0000*18 fffe", "1388 0000*20"];
    let by_device = Some(Limit::Device);
    let cases = [
        (&battery, storage, BatteryPowerW, 22_000, 5_000, by_device),
        (&battery, storage, BatteryPowerW, -22_000, -5_000, by_device),
        (&battery, storage, BatteryPowerW, 5_000, 5_000, None),
        (&inverter, limit, GenerationLimitW, 22_000, 5_000, by_device),
        (
            &inverter,
            limit,
            GenerationLimitPermille,
            1_000,
            1_000,
            None,
        ),
    ];
    for (control, before, set_point, asked, given, clamped_by) in cases {
        let before: Vec<_> = before.iter().map(|words| words_of(words)).collect();
        let wanted = Some((set_point, asked));
        let made = program(control, &control.write, wanted, &local, &before).unwrap();
        let after = echoed(&made, &before, &questions(control, &control.write));
        let shown = Verdict {
            holds: true,
            value: Some(given),
            clamped_by,
        };
        assert_eq!(made.judge(&after), shown, "{set_point} {asked}");
    }
}

fn limits() -> LimitsConfig {
    LimitsConfig {
        set_points: vec![
            Target::BatteryPower,
            Target::ChargerCurrent,
            Target::GenerationLimit,
        ],
        max_charge_w: Some(3_000),
        max_discharge_w: Some(2_000),
        max_current_a: Some(16),
        min_current_a: Some(8),
        revert_current_a: None,
        fail_safe_current_a: None,
        max_lease_s: None,
        without_fail_safe: false,
    }
}

fn rules() -> Rules {
    limits().rules(10_000)
}

#[test]
fn who_lets_a_device_be_without_a_fail_safe_must_say_so() {
    let check = |profile: &str, set_point: &str, more: &str| {
        let text = format!(
            r#"
community = "elm-street"
gateway = "gw-1"
data_dir = "state"
operator_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
mqtt = {{ host = "127.0.0.1", user = "gw-1", password = "secret" }}

[[devices]]
name = "it"
profile = "{profile}"
point = "home-1"
role = "live_only"
rating_w = 5000
address = "127.0.0.1:1503"
unit = 1
limits = {{ set_points = ["{set_point}"], max_charge_w = 5000, max_discharge_w = 5000, max_current_a = 16{more} }}
"#
        );
        let read = Config::from_toml(&text, "gateway.toml");
        read.map_err(|error| error.to_string())
    };
    let keeping = [
        ("sungrow-sh-hybrid/battery", "battery-power"),
        ("victron-ev-charging-station", "charger-current"),
        ("huawei-sun2000-hybrid/inverter", "generation-limit"),
    ];
    for (profile, set_point) in keeping {
        let error = check(profile, set_point, "").unwrap_err();
        let is_helpful = error.contains("line 8, key `set_points`")
            && error.contains("write without_fail_safe = true beside set_points");
        assert!(is_helpful, "{error}");
        check(profile, set_point, ", without_fail_safe = true").unwrap();
    }
    let forgetting = [
        ("keba-p30", "charger-current"),
        ("alfen-eve", "charger-current"),
        ("mennekes-amtron-compact", "charger-current"),
        ("sunspec-battery-802", "battery-power"),
    ];
    for (profile, set_point) in forgetting {
        check(profile, set_point, "").unwrap();
    }
}

#[test]
fn a_device_with_several_controls_of_a_target_ends_by_itself_only_with_all_of_them() {
    let mut profile = Profile::built_in("sunspec-battery-802").unwrap();
    let limits = LimitsConfig {
        set_points: vec![Target::BatteryPower],
        ..limits()
    };
    limits.check(&profile, 10_000).unwrap();
    let [first, last] = &mut profile.controls[..] else {
        panic!("models 124 and 704");
    };
    (first.settle_ms, last.settle_ms) = (1_000, 2_000);
    (last.validity_s, last.fail_safe) = (None, Vec::new());
    let (key, rule) = limits.check(&profile, 10_000).unwrap_err();
    assert!(
        key == "set_points" && rule.contains("without_fail_safe"),
        "{rule}"
    );
    let device = Controlled::new("battery".into(), None, profile.controls.clone());
    let targets: Vec<_> = device.targets().collect();
    let traits = Traits::of(&profile.controls[0], true);
    assert_eq!(targets, [(Target::BatteryPower, traits)]);
}

#[test]
fn limits_change_a_value_towards_less_and_say_so() {
    let of = |name: &str| Profile::built_in(name).unwrap().controls.remove(0);
    let (battery, keba) = (of("sunspec-battery-802"), of("keba-p30"));
    let inverter = of("sunspec-inverter");
    use SetPoint::{BatteryPowerW, ChargerCurrentMa, GenerationLimitPermille, GenerationLimitW};
    let cases = [
        (&battery, BatteryPowerW, 2_000, Ok((2_000, None))),
        (
            &battery,
            BatteryPowerW,
            9_000,
            Ok((2_000, Some(Limit::MaxDischarge))),
        ),
        (
            &battery,
            BatteryPowerW,
            -9_000,
            Ok((-3_000, Some(Limit::MaxCharge))),
        ),
        (&battery, BatteryPowerW, 0, Ok((0, None))),
        (
            &keba,
            ChargerCurrentMa,
            32_000,
            Ok((16_000, Some(Limit::MaxCurrent))),
        ),
        (
            &keba,
            ChargerCurrentMa,
            7_999,
            Ok((0, Some(Limit::MinCurrent))),
        ),
        (&keba, ChargerCurrentMa, 6, Ok((0, Some(Limit::MinCurrent)))),
        (&keba, ChargerCurrentMa, 0, Ok((0, None))),
        (&keba, ChargerCurrentMa, -6_000, Err(Refusal::OutOfRange)),
        (
            &inverter,
            GenerationLimitW,
            12_000,
            Ok((10_000, Some(Limit::Rating))),
        ),
        (
            &inverter,
            GenerationLimitPermille,
            1_001,
            Ok((1_000, Some(Limit::Device))),
        ),
        (&inverter, GenerationLimitW, -1, Err(Refusal::OutOfRange)),
    ];
    for (control, set_point, asked, expected) in cases {
        let decided = decide(&rules(), control, set_point, asked);
        assert_eq!(decided, expected, "{set_point} {asked}");
    }
    let mut no_discharge = rules();
    no_discharge.local.max_discharge_w = 0;
    let decided = decide(&no_discharge, &battery, BatteryPowerW, 500);
    assert_eq!(
        decided,
        Err(Refusal::OutOfRange),
        "holding is not discharging"
    );
}

/// What a program's checks read where the device took its words literally.
fn echoed(made: &Program, before: &[Vec<u16>], asked: &[Step]) -> Vec<Vec<u16>> {
    let answer = |check: &Step| {
        let Step::Read { place, count } = check else {
            panic!()
        };
        let same = |step: &&Step| match step {
            Step::Write { place: to, .. } => to == place,
            Step::Read { .. } => false,
        };
        match made.steps.iter().find(same) {
            Some(Step::Write { words, .. }) if words.len() == usize::from(*count) => words.clone(),
            // Wider where it is read: a u16 in a u32, or a value with its scale factor behind it.
            Some(Step::Write { words, .. }) => {
                let at = asked.iter().position(|q| q == check).unwrap();
                let mut answer = before[at].clone();
                answer[..words.len()].copy_from_slice(words);
                answer
            }
            _ => match made.steps.first() {
                Some(Step::Write { words, .. }) => vec![0, words[0]],
                _ => panic!(),
            },
        }
    };
    made.checks().iter().map(answer).collect()
}

/// The set-point that a device shows which took its words literally.
fn echo(
    control: &Control,
    set_point: SetPoint,
    value: i64,
    local: &Local,
    before: &[Vec<u16>],
) -> Option<i64> {
    let list = control.list_for(value);
    let made = program(control, list, Some((set_point, value)), local, before).ok()?;
    let answers = echoed(&made, before, &questions(control, list));
    let verdict = made.judge(&answers);
    assert!(verdict.holds, "{list:?}: {answers:x?}");
    verdict.value
}

proptest! {
    #[test]
    fn what_is_decided_is_inside_the_limits(
        asked in prop_oneof![-100_000_i64..100_000, any::<i64>()],
        charge in 0_u32..8_000, discharge in 0_u32..8_000,
        most in 6_u32..=32, least in 6_u32..=32,
    ) {
        let config = LimitsConfig {
            set_points: vec![Target::BatteryPower],
            max_charge_w: Some(charge),
            max_discharge_w: Some(discharge),
            max_current_a: Some(most),
            min_current_a: Some(least.min(most)),
            revert_current_a: None,
            fail_safe_current_a: None,
            max_lease_s: None,
            without_fail_safe: false,
        };
        let rules = config.rules(10_000);
        let (charge, discharge) = (i64::from(charge), i64::from(discharge));
        for (_, control) in controls() {
            for set_point in SetPoint::ALL.into_iter().filter(|s| control.takes(*s)) {
                let Ok((value, by)) = decide(&rules, &control, set_point, asked) else { continue };
                prop_assert_eq!(value != asked, by.is_some());
                prop_assert!(value.unsigned_abs() <= asked.unsigned_abs(), "more than asked");
                match set_point {
                    SetPoint::BatteryPowerW => prop_assert!((-charge..=discharge).contains(&value)),
                    SetPoint::ChargerCurrentMa => {
                        let (least, most) = (rules.min_current_ma, rules.local.max_current_ma);
                        prop_assert!(value == 0 || (least..=most).contains(&value));
                    }
                    SetPoint::GenerationLimitW => prop_assert!((0..=10_000).contains(&value)),
                    SetPoint::GenerationLimitPermille => prop_assert!((0..=1_000).contains(&value)),
                    SetPoint::ChargerSession => prop_assert!((0..=1).contains(&value)),
                }
            }
        }
    }

    #[test]
    fn no_number_is_too_large_to_be_looked_at(
        value in prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()], word: u16,
    ) {
        let limitless = Local {
            max_charge_w: i64::MAX,
            max_discharge_w: i64::MAX,
            max_current_ma: i64::MAX,
            ..LOCAL
        };
        for (_, control) in controls() {
            let set_point = default_set_point(control.target);
            let list = control.list_for(value);
            let words = |step: &Step| match step {
                Step::Read { count, .. } => vec![word; usize::from(*count)],
                Step::Write { .. } => panic!(),
            };
            let answers: Vec<_> = questions(&control, list).iter().map(words).collect();
            let wanted = Some((set_point, value));
            if let Ok(made) = program(&control, list, wanted, &limitless, &answers) {
                let answers: Vec<_> = made.checks().iter().map(words).collect();
                let _ = made.judge(&answers);
            }
        }
    }

    #[test]
    fn registers_never_ask_for_more_than_the_value(
        value in -5_000_i64..=5_000, full in 100_u16..=60_000, scale in -2_i16..=1,
    ) {
        let scale = scale.cast_unsigned();
        for (name, control) in controls().into_iter().filter(|(n, _)| n.starts_with("sunspec")) {
            let set_point = default_set_point(control.target);
            let value = if control.target == Target::BatteryPower { value } else { value.abs() / 5 };
            let answers: Vec<Vec<u16>> = questions(&control, control.list_for(value))
                .iter()
                .enumerate()
                .map(|(index, step)| {
                    let Step::Read { count, place } = step else { panic!() };
                    let mut words = vec![0; usize::from(*count)];
                    let is_full = index > 0 && matches!(place, Place::Sunspec { offset: 2, .. });
                    (words[0], *words.last_mut().unwrap()) = if is_full { (full, 0) } else { (0, scale) };
                    words
                })
                .collect();
            if let Some(shown) = echo(&control, set_point, value, &LOCAL, &answers) {
                let is_less = shown.signum() * value.signum() >= 0 && shown.abs() <= value.abs();
                prop_assert!(is_less, "{name}: {value} became {shown}");
            }
        }
        for (_, control) in controls() {
            let set_point = default_set_point(control.target);
            let local = Local { max_charge_w: 100, max_discharge_w: 100, max_current_ma: 6_000, ..LOCAL };
            let outside = match control.target {
                Target::BatteryPower => 100 + value.abs().max(1),
                Target::ChargerCurrent => 6_001 + value.abs(),
                Target::GenerationLimit => -1 - value.abs(),
                Target::ChargerSession => 2 + value.abs(),
            };
            let list = control.list_for(outside);
            let answers: Vec<Vec<u16>> = questions(&control, list)
                .iter()
                .map(|step| match step {
                    Step::Read { count, .. } => vec![1; usize::from(*count)],
                    Step::Write { .. } => panic!(),
                })
                .collect();
            let made = program(&control, list, Some((set_point, outside)), &local, &answers);
            prop_assert!(made.is_err(), "{outside} of {set_point} became {made:?}");
        }
    }
}

const KEY: Key = (0, Target::ChargerCurrent);
const TRAITS: Traits = Traits {
    validity_ms: Some(60_000),
    heartbeat_ms: None,
    settle_ms: 1_000,
    has_fail_safe: true,
    fail_safe_required: true,
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_782_036_000_000 + ms)
}

const fn confirmed(value: i64) -> Outcome {
    Outcome::Confirmed {
        value,
        clamped_by: None,
    }
}

fn lease(number: u8, value: i64, ends_ms: i64) -> Lease {
    Lease {
        command: Digest32([number; 32]),
        set_point: SetPoint::ChargerCurrentMa,
        value,
        expires_at_ms: at(ends_ms).unix_ms(),
        released: false,
        local: Some(LOCAL),
    }
}

/// A device that does what it is told, after a while, when it is there and well.
#[derive(Default)]
struct Fake {
    value: Option<i64>,
    safe: bool,
    is_there: bool,
    refuses: bool,
    forgets: bool,
    /// Reverts that it takes and does not carry out.
    misses: u32,
    /// Where it stands after its own fail-safe.
    fell_back: bool,
    last_write_ms: i64,
    writes: Vec<(i64, List)>,
    beats: u32,
}

impl Fake {
    fn work(&mut self, now_ms: i64, work: Work, value: i64) -> Result<Option<Verdict>, ()> {
        if !self.is_there || (self.refuses && !matches!(work, Work::Check(_))) {
            return Err(());
        }
        let verdict = |holds, value| {
            let clamped_by = None;
            Ok(Some(Verdict {
                holds,
                value,
                clamped_by,
            }))
        };
        match work {
            Work::Heartbeat => {
                self.beats += 1;
                Ok(None)
            }
            Work::Write(list) => {
                self.writes.push((now_ms, list));
                match list {
                    List::FailSafe => self.safe = true,
                    List::Value => {
                        self.value = Some(value);
                        (self.fell_back, self.last_write_ms) = (false, now_ms);
                    }
                    List::Revert if self.misses > 0 => self.misses -= 1,
                    List::Revert => (self.value, self.safe) = (None, false),
                }
                if self.forgets {
                    self.value = None;
                }
                Ok(None)
            }
            Work::Check(List::FailSafe) => verdict(self.safe, None),
            Work::Check(List::Value) => verdict(self.value == Some(value), self.value),
            Work::Check(List::Revert) => verdict(self.value.is_none(), None),
        }
    }
}

/// Engine and device together, in steps of a tick.
struct Bench {
    engine: Engine,
    device: Fake,
    now_ms: i64,
    /// What is under way, and when it will be done.
    pending: Vec<(i64, Action)>,
    acks: Vec<(u8, Outcome)>,
    values: Vec<i64>,
    is_forgotten: bool,
    delay_ms: i64,
    /// How much the clock shows less than it should.
    set_back_ms: i64,
}

const TICK_MS: i64 = 500;

impl Bench {
    fn new(traits: Traits) -> Self {
        Bench {
            engine: Engine::new([(KEY, traits)]),
            device: Fake {
                is_there: true,
                ..Fake::default()
            },
            now_ms: 0,
            pending: Vec::new(),
            acks: Vec::new(),
            values: Vec::new(),
            is_forgotten: false,
            delay_ms: 100,
            set_back_ms: 0,
        }
    }

    fn now(&self) -> Now {
        Now {
            clock: at(self.now_ms - self.set_back_ms),
            watch: Timestamp::from_unix_ms(self.now_ms),
        }
    }

    fn apply(&mut self, input: Input) {
        for action in self.engine.apply(self.now(), input) {
            match action {
                Action::Ack { command, outcome } => self.acks.push((command.0[0], outcome)),
                Action::Forget(_) => self.is_forgotten = true,
                Action::Do { wanted, work, .. } => {
                    if work == Work::Write(List::Value) {
                        self.values.push(wanted.1);
                    }
                    assert!(
                        self.pending.is_empty(),
                        "two works at once for one set-point"
                    );
                    self.pending.push((self.now_ms + self.delay_ms, action));
                }
            }
        }
    }

    fn run(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            let (done, waiting): (Vec<_>, Vec<_>) = self
                .pending
                .drain(..)
                .partition(|(at_ms, _)| *at_ms <= self.now_ms);
            self.pending = waiting;
            for (_, action) in done {
                let Action::Do {
                    key,
                    work,
                    wanted,
                    token,
                } = action
                else {
                    panic!()
                };
                let result = self.device.work(self.now_ms, work, wanted.1);
                self.apply(Input::Done { key, token, result });
            }
            self.apply(Input::Tick);
            self.now_ms += TICK_MS;
        }
    }

    fn lease(&mut self, lease: Lease) {
        self.is_forgotten = false;
        self.apply(Input::Lease(KEY, lease));
    }
}

#[test]
fn a_lease_sets_the_fail_safe_then_the_value_and_gives_it_back() {
    let mut bench = Bench::new(TRAITS);
    bench.apply(Input::Connected(0));
    bench.lease(lease(1, 10_000, 100_000));
    bench.run(5_000);
    assert_eq!(bench.acks, [(1, confirmed(10_000))]);
    let lists: Vec<_> = bench.device.writes.iter().map(|(_, list)| *list).collect();
    assert_eq!(lists, [List::FailSafe, List::Value]);
    bench.run(90_000);
    let values: Vec<_> = bench
        .device
        .writes
        .iter()
        .filter(|(_, l)| *l == List::Value)
        .collect();
    let gaps = values.windows(2).map(|w| w[1].0 - w[0].0);
    assert!(
        gaps.max().unwrap() < 30_000,
        "before half of its validity: {values:?}"
    );
    assert_eq!(
        bench.acks.len(),
        1,
        "what stays true is said once: {:?}",
        bench.acks
    );
    bench.run(10_000);
    let ended = Outcome::Ended {
        why: End::Expired,
        revert: Revert::Confirmed,
    };
    assert_eq!(bench.acks[1..], [(1, ended)]);
    assert!(bench.is_forgotten && bench.device.value.is_none());
    let (revert_ms, list) = bench.device.writes.last().unwrap();
    assert_eq!(*list, List::Revert);
    assert!(
        (100_000..=100_000 + 2 * TICK_MS).contains(revert_ms),
        "{revert_ms}"
    );
}

#[test]
fn a_clock_that_is_set_back_makes_no_lease_longer() {
    let mut bench = Bench::new(TRAITS);
    bench.apply(Input::Connected(0));
    bench.lease(lease(1, 10_000, 60_000));
    bench.run(30_000);
    bench.set_back_ms = 3_600_000;
    bench.run(29_000);
    assert_eq!(bench.acks, [(1, confirmed(10_000))], "it goes on");
    bench.run(5_000);
    let ended = Outcome::Ended {
        why: End::Expired,
        revert: Revert::Confirmed,
    };
    assert_eq!(bench.acks[1..], [(1, ended)]);
    // A clock that was behind and is set right ends it when the command said.
    let mut bench = Bench::new(TRAITS);
    bench.apply(Input::Connected(0));
    bench.set_back_ms = 40_000;
    bench.lease(lease(1, 10_000, 60_000));
    bench.set_back_ms = 0;
    bench.run(65_000);
    assert_eq!(bench.acks[1..], [(1, ended)]);
}

#[tokio::test]
async fn the_time_that_is_noted_with_a_lease_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.db").display().to_string();
    let store = Store::open(Db::open(&file).await.unwrap()).await.unwrap();
    assert_eq!(store.last_seen().await.unwrap(), None);
    let held = lease(1, 10_000, 60_000);
    let change = Change::Lease("charger", Target::ChargerCurrent, &held);
    store.take(1, held.command, change).await.unwrap();
    for (noted_ms, last_ms) in [(5_000, 5_000), (1_000, 5_000), (6_000, 6_000)] {
        store.saw(at(noted_ms)).await.unwrap();
        assert_eq!(store.last_seen().await.unwrap(), Some(at(last_ms)));
    }
    let kept = ("charger".to_owned(), Target::ChargerCurrent, held);
    assert_eq!(store.leases().await.unwrap(), [kept]);
    // A lease that begins has not been seen by a clock that was ahead before.
    let next = lease(2, 10_000, 60_000);
    let change = Change::Lease("charger", Target::ChargerCurrent, &next);
    store.take(2, next.command, change).await.unwrap();
    store.saw(at(2_000)).await.unwrap();
    assert_eq!(store.last_seen().await.unwrap(), Some(at(2_000)));
}

/// A gateway's controller of one charger, and what it keeps.
struct Office {
    controller: Controller,
    store: Store,
    operator: SigningKey,
    parties: Parties,
    status: Shared,
    now: Timestamp,
    _dir: tempfile::TempDir,
}

impl Office {
    /// With limits or without, and with a lease that is kept already.
    async fn open(rules: Option<Rules>, kept: Option<&Lease>) -> Office {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gateway.db").display().to_string();
        let store = Store::open(Db::open(&file).await.unwrap()).await.unwrap();
        if let Some(lease) = kept {
            let change = Change::Lease("charger", Target::ChargerCurrent, lease);
            store.take(1, lease.command, change).await.unwrap();
        }
        let options = MqttOptions {
            host: "127.0.0.1".into(),
            port: 1,
            client_id: "x".into(),
            user: String::new(),
            password: String::new(),
            subscriptions: Vec::new(),
            tls: None,
            last_will: None,
            keep_alive_s: 5,
            max_packet_bytes: 1000,
        };
        let (handle, _) = MqttLink::start(options, CancellationToken::new());
        let topic = "ack".to_owned();
        let operator = SigningKey::from_bytes(&[7; 32]);
        let parties = Parties {
            community: CommunityId::new("elm-street").unwrap(),
            gateway: GatewayId::new("gw-1").unwrap(),
            operator_key: PublicKey::of(&operator),
            key: SigningKey::from_bytes(&[8; 32]),
        };
        let controls = Profile::built_in("keba-p30").unwrap().controls;
        let charger = Controlled::new("charger".into(), rules, controls);
        let (clock, status) = (Clock::scaled(at(0), 1), Shared::default());
        let ends = (Desk::default(), Answers { handle, topic }, status.clone());
        let devices = BTreeMap::from([(0, charger)]);
        let opening = Controller::open(clock, parties.clone(), devices, store.clone(), ends);
        Office {
            controller: opening.await.unwrap(),
            store,
            operator,
            parties,
            status,
            now: at(0),
            _dir: dir,
        }
    }

    /// Brings a command that was signed so much later than now, with that time as its sequence.
    async fn bring(&mut self, later_ms: i64, act: Act) {
        let issued_at = self.now.plus_ms(later_ms);
        let command = Command {
            gateway: self.parties.gateway.clone(),
            device: "charger".into(),
            sequence: u64::try_from(issued_at.unix_ms()).unwrap(),
            issued_at,
            act,
        };
        let signed = Signed::sign(&self.operator, &self.parties.community, &command);
        let payload = signed.as_bytes().to_vec();
        let retain = false;
        self.controller.take(Incoming { payload, retain }).await;
    }

    fn refused(&self) -> u64 {
        let errors = self.status.get().errors;
        errors.get("command_refused").copied().unwrap_or(0)
    }

    async fn leases(&self) -> Vec<Lease> {
        let kept = self.store.leases().await.unwrap();
        kept.into_iter().map(|(_, _, lease)| lease).collect()
    }
}

#[tokio::test]
async fn a_release_from_the_future_is_done_and_shuts_nothing_out() {
    const DAY_MS: i64 = 86_400_000;
    let set_point = SetPoint::ChargerCurrentMa;
    let release = Act::Release { set_point };
    let set = |value| Act::Set {
        set_point,
        value,
        expires_at: at(600_000),
    };
    let mut office = Office::open(Some(rules()), None).await;
    office.bring(DAY_MS, release).await;
    assert_eq!(office.refused(), 1, "there is no lease");
    office.bring(0, set(10_000)).await;
    assert_eq!(office.leases().await[0].value, 10_000, "nothing is claimed");
    office.bring(DAY_MS + 1, release).await;
    assert_eq!(office.refused(), 1);
    // It was not written yet: nothing has to be given back.
    assert_eq!(office.leases().await, [], "it is over");
    office.bring(1_000, set(12_000)).await;
    assert_eq!(office.leases().await[0].value, 12_000);
    office.bring(2_000, release).await;
    assert_eq!(office.refused(), 1);
    let (other, sequence) = (Digest32([9; 32]), at(2_000).unix_ms().unsigned_abs());
    let known = office.store.known(sequence, other).await.unwrap();
    assert_eq!(known, Known::Replayed, "one of today claims its sequence");
}

#[tokio::test]
async fn a_lease_of_an_older_program_without_limits_writes_nothing() {
    let lent = lease(1, 10_000, 600_000);
    let mut old = serde_json::to_value(&lent).unwrap();
    old.as_object_mut().unwrap().remove("local");
    let old: Lease = serde_json::from_value(old).unwrap();
    assert_eq!(old.local, None, "0 A is no limit that anybody has set");
    let office = Office::open(None, Some(&old)).await;
    assert_eq!(office.leases().await, [], "told and forgotten");
    // What it began under, or what holds today, is enough to give it back.
    let office = Office::open(None, Some(&lent)).await;
    assert_eq!(office.leases().await, [lent]);
    let office = Office::open(Some(rules()), Some(&old)).await;
    assert_eq!(office.leases().await, [old]);
}

#[test]
fn a_release_and_a_new_command_end_a_lease_at_once() {
    let mut bench = Bench::new(TRAITS);
    bench.apply(Input::Connected(0));
    bench.lease(lease(1, 10_000, 900_000));
    bench.run(5_000);
    bench.lease(lease(2, 0, 900_000));
    bench.run(5_000);
    let replaced = Outcome::Ended {
        why: End::Replaced,
        revert: Revert::NotNeeded,
    };
    assert_eq!(bench.acks[1..], [(1, replaced), (2, confirmed(0))]);
    bench.apply(Input::Release(KEY));
    bench.run(5_000);
    let released = Outcome::Ended {
        why: End::Released,
        revert: Revert::Confirmed,
    };
    assert_eq!(bench.acks[3..], [(2, released)]);
    assert!(bench.is_forgotten);
}

#[test]
fn a_renewal_writes_nothing_that_holds_already() {
    let traits = Traits {
        validity_ms: None,
        has_fail_safe: false,
        ..TRAITS
    };
    let mut bench = Bench::new(traits);
    bench.apply(Input::Connected(0));
    bench.lease(lease(1, 10_000, 100_000));
    bench.run(50_000);
    bench.lease(lease(2, 10_000, 300_000));
    bench.run(240_000);
    assert_eq!(
        bench.values,
        [10_000],
        "a register that keeps its value is written once"
    );
    assert!(bench.acks.contains(&(2, confirmed(10_000))));
    // The line broke for a moment: the device still has the value, and is only asked.
    bench.apply(Input::Lost(0));
    bench.apply(Input::Connected(0));
    bench.run(5_000);
    assert_eq!(bench.values, [10_000]);
    bench.device.value = None;
    bench.apply(Input::Lost(0));
    bench.apply(Input::Connected(0));
    bench.run(5_000);
    assert_eq!(
        bench.values,
        [10_000, 10_000],
        "what it has lost is written again"
    );
}

#[test]
fn a_device_that_does_not_take_a_value_is_reported_after_a_few_tries() {
    let mut bench = Bench::new(TRAITS);
    bench.apply(Input::Connected(0));
    bench.device.forgets = true;
    bench.device.safe = true;
    bench.lease(lease(1, 10_000, 30_000));
    bench.run(20_000);
    assert_eq!(bench.acks, [(1, Outcome::NotConfirmed { value: None })]);
    assert_eq!(bench.values.len(), TRIES_MAX as usize);
    bench.run(20_000);
    let ended = Outcome::Ended {
        why: End::Expired,
        revert: Revert::Confirmed,
    };
    assert_eq!(bench.acks[1..], [(1, ended)], "also then it is given back");
}

#[test]
fn without_a_verified_fail_safe_nothing_is_set() {
    let mut bench = Bench::new(TRAITS);
    bench.apply(Input::Connected(0));
    bench.device.refuses = true;
    bench.lease(lease(1, 10_000, 60_000));
    bench.run(30_000);
    assert!(bench.values.is_empty(), "{:?}", bench.values);
    assert_eq!(bench.acks, [(1, Outcome::NotConfirmed { value: None })]);
    let mut bench = Bench::new(Traits {
        fail_safe_required: false,
        ..TRAITS
    });
    bench.apply(Input::Connected(0));
    bench.device.refuses = true;
    bench.lease(lease(1, 10_000, 60_000));
    bench.run(15_000);
    assert!(!bench.values.is_empty(), "the owner has allowed it");
}

#[test]
fn a_lost_device_is_reverted_when_it_is_back_however_long_that_takes() {
    let mut bench = Bench::new(TRAITS);
    bench.apply(Input::Connected(0));
    bench.lease(lease(1, 10_000, 60_000));
    bench.run(10_000);
    bench.device.is_there = false;
    bench.apply(Input::Lost(0));
    bench.run(600_000);
    let pending = Outcome::Ended {
        why: End::Expired,
        revert: Revert::Pending,
    };
    assert_eq!(bench.acks[1..], [(1, pending)]);
    assert!(!bench.is_forgotten);
    bench.device.is_there = true;
    bench.apply(Input::Connected(0));
    bench.run(5_000);
    let ended = Outcome::Ended {
        why: End::Expired,
        revert: Revert::Confirmed,
    };
    assert_eq!(bench.acks[2..], [(1, ended)]);
    assert!(bench.is_forgotten && bench.device.value.is_none());
}

#[test]
fn a_revert_is_given_up_only_after_three_read_backs_that_miss() {
    let mut bench = Bench::new(TRAITS);
    bench.apply(Input::Connected(0));
    bench.lease(lease(1, 10_000, 10_000));
    bench.run(9_000);
    bench.device.refuses = true;
    bench.run(6_000);
    let ended = |revert| {
        let why = End::Expired;
        (1, Outcome::Ended { why, revert })
    };
    assert_eq!(bench.acks[1..], [ended(Revert::Pending)]);
    // It takes the writes again, and shows the old value for two of them.
    bench.device.refuses = false;
    bench.device.misses = 2;
    bench.run(60_000);
    assert_eq!(bench.acks[2..], [ended(Revert::Confirmed)]);
    assert!(bench.is_forgotten && bench.device.value.is_none());
    let mut bench = Bench::new(TRAITS);
    bench.apply(Input::Connected(0));
    bench.lease(lease(1, 10_000, 10_000));
    bench.run(9_000);
    bench.device.misses = TRIES_MAX;
    bench.run(60_000);
    assert_eq!(bench.acks[1..], [ended(Revert::Unconfirmed)]);
    assert!(bench.is_forgotten);
}

#[test]
fn a_restart_goes_on_with_what_holds_and_reverts_what_is_over() {
    let mut bench = Bench::new(TRAITS);
    bench.device.value = Some(10_000);
    let now = bench.now();
    let held = lease(1, 10_000, 50_000);
    bench.engine.restore(now, KEY, held, None);
    bench.apply(Input::Connected(0));
    bench.run(5_000);
    assert_eq!(bench.acks, [(1, confirmed(10_000))]);
    for (ends_ms, released, over, why) in [
        (-5_000, false, None, End::Expired),
        (50_000, true, None, End::Released),
        (50_000, true, Some(End::NotAllowed), End::Released),
        (50_000, false, Some(End::NotAllowed), End::NotAllowed),
    ] {
        let mut bench = Bench::new(TRAITS);
        bench.device.value = Some(10_000);
        let lease = Lease {
            released,
            ..lease(1, 10_000, ends_ms)
        };
        bench.engine.restore(bench.now(), KEY, lease, over);
        bench.apply(Input::Connected(0));
        bench.run(5_000);
        let ended = Outcome::Ended {
            why,
            revert: Revert::Confirmed,
        };
        assert_eq!(bench.acks, [(1, ended)]);
        assert!(bench.values.is_empty() && bench.device.value.is_none());
    }
}

#[test]
fn a_heartbeat_is_written_while_a_lease_lasts_and_no_longer() {
    let mut bench = Bench::new(Traits {
        heartbeat_ms: Some(5_000),
        ..TRAITS
    });
    bench.apply(Input::Connected(0));
    bench.run(20_000);
    assert_eq!(bench.device.beats, 0);
    bench.lease(lease(1, 10_000, bench.now_ms + 60_000));
    bench.run(60_000);
    assert!(
        (9..=13).contains(&bench.device.beats),
        "{}",
        bench.device.beats
    );
    bench.run(5_000);
    let beats = bench.device.beats;
    bench.run(60_000);
    assert_eq!(bench.device.beats, beats);
}

/// What can happen to a gateway with one charger.
#[derive(Clone, Debug)]
enum Event {
    Lease(i64, i64),
    Release,
    Lost,
    Back,
    Refuse(bool),
    Forget(bool),
    Restart,
    Wait(i64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (6_000_i64..16_000, 1_000_i64..120_000).prop_map(|(v, ms)| Event::Lease(v, ms)),
        Just(Event::Release),
        Just(Event::Lost),
        Just(Event::Back),
        any::<bool>().prop_map(Event::Refuse),
        any::<bool>().prop_map(Event::Forget),
        Just(Event::Restart),
        (500_i64..90_000).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_happens_every_lease_ends_and_nothing_else_is_written(
        events in events(), has_fail_safe: bool, keeps: bool, delay_ms in 0_i64..2_000,
    ) {
        let validity_ms = (!keeps).then_some(60_000);
        let traits = Traits { has_fail_safe, validity_ms, ..TRAITS };
        let mut bench = Bench::new(traits);
        bench.delay_ms = delay_ms;
        bench.apply(Input::Connected(0));
        let (mut number, mut allowed) = (0_u8, BTreeMap::new());
        // What the gateway's database holds.
        let mut kept: Option<Lease> = None;
        for event in events {
            match event {
                Event::Lease(value, ms) => {
                    number += 1;
                    let new = lease(number, value, bench.now_ms + ms);
                    allowed.insert(number, value);
                    kept = Some(new.clone());
                    bench.lease(new);
                }
                Event::Release if bench.engine.lease(KEY).is_some() => {
                    kept = kept.map(|l| Lease { released: true, ..l });
                    bench.apply(Input::Release(KEY));
                }
                Event::Release => {}
                Event::Lost => {
                    bench.device.is_there = false;
                    bench.apply(Input::Lost(0));
                }
                Event::Back => {
                    bench.device.is_there = true;
                    bench.apply(Input::Connected(0));
                }
                Event::Refuse(refuses) => bench.device.refuses = refuses,
                Event::Forget(forgets) => bench.device.forgets = forgets,
                Event::Restart => {
                    bench.engine = Engine::new([(KEY, traits)]);
                    bench.pending.clear();
                    if let Some(lease) = kept.clone().filter(|_| !bench.is_forgotten) {
                        bench.engine.restore(bench.now(), KEY, lease, None);
                    }
                    if bench.device.is_there {
                        bench.apply(Input::Connected(0));
                    }
                }
                Event::Wait(ms) => bench.run(ms),
            }
            if bench.is_forgotten {
                kept = None;
            }
        }
        // All is well again: whatever was lent is given back in time.
        (bench.device.refuses, bench.device.forgets) = (false, false);
        bench.device.is_there = true;
        bench.apply(Input::Connected(0));
        bench.run(400_000);
        prop_assert_eq!(bench.engine.open(), 0, "{:?}", bench.acks);
        prop_assert_eq!(bench.device.value, None);
        prop_assert!(bench.values.iter().all(|v| allowed.values().any(|a| a == v)));
        let ended = |n: u8| bench.acks.iter().any(|(of, o)| *of == n && matches!(o, Outcome::Ended { .. }));
        prop_assert!((1..=number).all(ended), "{:?}", bench.acks);
    }

    #[test]
    fn a_reachable_device_gets_its_value_back_in_time(
        length_ms in 1_000_i64..200_000, delay_ms in 0_i64..5_000, has_fail_safe: bool,
    ) {
        let mut bench = Bench::new(Traits { has_fail_safe, ..TRAITS });
        bench.delay_ms = delay_ms;
        bench.apply(Input::Connected(0));
        bench.lease(lease(1, 10_000, length_ms));
        bench.run(length_ms + 60_000);
        let revert = bench.device.writes.iter().find(|(_, list)| *list == List::Revert);
        let values = bench.device.writes.iter().filter(|(_, list)| *list == List::Value);
        // One work under way, the tick that sees the end, and the revert itself.
        let latest_ms = length_ms + 2 * delay_ms + 4 * TICK_MS;
        match revert {
            Some((at_ms, _)) => {
                prop_assert!(*at_ms <= latest_ms, "{at_ms} instead of {latest_ms}");
                for (value_ms, _) in values {
                    prop_assert!(value_ms <= at_ms, "a value was written after the revert");
                }
            }
            None => prop_assert_eq!(values.count(), 0, "a value without a revert"),
        }
    }
}
