//! A charge point's life by its messages: what it says, what it is answered, and what becomes of it.

use domain::ocmf::{Session, Signer, write};
use domain::time::Timestamp;
use serde_json::{Value, json};

use super::meter;
use super::point::{ANSWER_MS, Moment, NotDone, Out, Point, Rules, Transaction};
use super::profile::{FREE, LIMIT, OPEN, profile};
use crate::bus::{Place, Step};
use crate::control::program::{self, Local};
use crate::profile::control::Target;
use crate::profile::{Profile, Quantity};

const NOW_S: i64 = 1_782_000_000;
const DEVICE: usize = 3;

fn at(s: i64) -> Moment {
    let at = Timestamp::from_unix_s(NOW_S + s);
    Moment {
        now: at,
        steady: at,
    }
}

fn time(s: i64) -> String {
    at(s).now.to_string()
}

fn rules() -> Rules {
    Rules {
        open_to_everybody: false,
        id_tags: vec!["HOST".into()],
        heartbeat_s: 300,
        meter_interval_s: 30,
        keys: Vec::new(),
    }
}

/// A charge point that has come and was greeted; its questions are answered.
fn present(rules: Rules, known: Vec<Transaction>) -> Point {
    let mut point = Point::new(rules, &[(1, DEVICE)], known, "b".into());
    point.connected(at(0));
    let boot = r#"[2,"boot","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#;
    let out = point.hear(at(0), boot);
    assert!(sent(&out)[0].contains("Accepted"), "{out:?}");
    answer_all(&mut point, out, 0);
    point
}

fn sent(out: &[Out]) -> Vec<String> {
    let text = |one: &Out| match one {
        Out::Send(text) => Some(text.clone()),
        _ => None,
    };
    out.iter().filter_map(text).collect()
}

/// The calls of ours in `out`, as action and payload, with `Accepted` as the answer to each and to what follows.
fn answer_all(point: &mut Point, out: Vec<Out>, s: i64) -> (Vec<(String, Value)>, Vec<Out>) {
    answer_with(point, out, s, "Accepted")
}

fn answer_with(
    point: &mut Point,
    out: Vec<Out>,
    s: i64,
    status: &str,
) -> (Vec<(String, Value)>, Vec<Out>) {
    let (mut calls, mut others, mut todo) = (Vec::new(), Vec::new(), out);
    while !todo.is_empty() {
        let mut next = Vec::new();
        for one in todo {
            let Out::Send(text) = &one else {
                others.push(one);
                continue;
            };
            let parts: Value = serde_json::from_str(text).unwrap();
            if parts[0] != 2 {
                others.push(one);
                continue;
            }
            calls.push((parts[2].as_str().unwrap().into(), parts[3].clone()));
            let answer = json!([3, parts[1], {"status": status}]).to_string();
            next.extend(point.hear(at(s), &answer));
        }
        todo = next;
    }
    (calls, others)
}

fn call(point: &mut Point, s: i64, id: &str, action: &str, payload: &Value) -> (Value, Vec<Out>) {
    let out = point.hear(at(s), &json!([2, id, action, payload]).to_string());
    let texts = sent(&out);
    let answers = texts
        .iter()
        .map(|t| serde_json::from_str::<Value>(t).unwrap());
    let answer = answers.into_iter().find(|a| a[0] != 2).unwrap();
    assert_eq!(answer[1], id);
    (answer, out)
}

fn write_to(address: u16, words: &[u16]) -> Step {
    Step::Write {
        place: place(address),
        function: 16,
        words: words.to_vec(),
    }
}

fn read_of(address: u16, count: u16) -> Step {
    Step::Read {
        place: place(address),
        count,
    }
}

fn place(address: u16) -> Place {
    Place::Register {
        function: 3,
        address,
        unit: None,
    }
}

fn done(out: &[Out]) -> Vec<Result<Vec<Vec<u16>>, NotDone>> {
    let one = |one: &Out| match one {
        Out::Done(_, done) => Some(done.clone()),
        _ => None,
    };
    out.iter().filter_map(one).collect()
}

/// What reads as 1 while the connector is open.
fn is_open(point: &mut Point) -> bool {
    let out = point.work(at(500), 9, DEVICE, vec![read_of(OPEN, 1)]);
    done(&out)[0] == Ok(vec![vec![1]])
}

fn start(tag: &str, s: i64) -> Value {
    json!({"connectorId": 1, "idTag": tag, "meterStart": 1000, "timestamp": time(s)})
}

#[test]
fn a_charger_that_comes_is_told_what_to_measure_and_one_without_devices_waits() {
    let mut point = Point::new(rules(), &[(1, DEVICE)], Vec::new(), "b".into());
    point.connected(at(0));
    let boot = json!({"chargePointVendor": "V", "chargePointModel": "M", "firmwareVersion": "1"});
    let (answer, out) = call(&mut point, 0, "1", "BootNotification", &boot);
    assert_eq!(
        (&answer[2]["status"], &answer[2]["interval"]),
        (&json!("Accepted"), &json!(300))
    );
    assert_eq!(answer[2]["currentTime"], time(0));
    let (calls, _) = answer_all(&mut point, out, 0);
    let told = |key: &str, value: &str| json!({"key": key, "value": value});
    assert!(calls.contains(&(
        "ChangeConfiguration".into(),
        told("MeterValueSampleInterval", "30")
    )));
    let (calls, _) = {
        let out = point.tick(at(1));
        answer_all(&mut point, out, 1)
    };
    let trigger = json!({"requestedMessage": "MeterValues", "connectorId": 1});
    assert_eq!(calls, [("TriggerMessage".into(), trigger)]);
    assert!(point.tick(at(2)).is_empty(), "it is asked once an interval");

    let mut unknown = Point::new(rules(), &[], Vec::new(), "b".into());
    unknown.connected(at(0));
    let (answer, _) = call(&mut unknown, 0, "1", "BootNotification", &boot);
    assert_eq!(answer[2]["status"], "Pending");
    let (answer, _) = call(&mut unknown, 0, "2", "BootNotification", &json!({}));
    assert_eq!(
        (&answer[0], &answer[2]),
        (&json!(4), &json!("FormationViolation"))
    );
}

#[test]
fn a_transaction_said_twice_is_one_and_is_kept_before_its_number_is_told() {
    let mut point = present(rules(), Vec::new());
    let (answer, out) = call(&mut point, 5, "s1", "StartTransaction", &start("HOST", 5));
    let id = answer[2]["transactionId"].clone();
    assert_eq!(answer[2]["idTagInfo"]["status"], "Accepted");
    let kept = out.iter().position(|o| matches!(o, Out::Keep(_))).unwrap();
    let told = out
        .iter()
        .position(|o| matches!(o, Out::Send(t) if t.contains("transactionId")));
    assert!(kept < told.unwrap(), "{out:?}");
    point.kept(1);
    // The same message again, and the same start in a new message after a new connection.
    let (again, out) = call(&mut point, 6, "s1", "StartTransaction", &start("HOST", 5));
    assert_eq!(again, answer);
    assert!(!out.iter().any(|o| matches!(o, Out::Keep(_))));
    point.connected(at(10));
    let (again, out) = call(&mut point, 11, "s2", "StartTransaction", &start("HOST", 5));
    assert_eq!(again[2], answer[2]);
    assert!(!out.iter().any(|o| matches!(o, Out::Keep(_))));
    // The id of a message is not used for something else.
    let (clash, _) = call(&mut point, 12, "s2", "StartTransaction", &start("HOST", 12));
    assert_eq!((&clash[0], &clash[2]), (&json!(4), &json!("ProtocolError")));

    let stop = json!({"transactionId": id, "meterStop": 4000, "timestamp": time(20), "reason": "EVDisconnected"});
    let (_, out) = call(&mut point, 20, "e1", "StopTransaction", &stop);
    let ended = out.iter().find_map(|o| match o {
        Out::Keep(t) => t.stop.clone(),
        _ => None,
    });
    assert_eq!(ended.unwrap().meter_wh, 4000);
    point.kept(1);
    let (answer, out) = call(&mut point, 21, "e2", "StopTransaction", &stop);
    assert!(answer[0] == 3 && !out.iter().any(|o| matches!(o, Out::Keep(_))));
    // One that nobody knows is taken, or the charger would say it for ever.
    let strange = json!({"transactionId": 77, "meterStop": 0, "timestamp": time(21)});
    let (answer, out) = call(&mut point, 22, "e3", "StopTransaction", &strange);
    assert_eq!(answer[0], 3);
    assert!(out.contains(&Out::Failed(DEVICE, "unknown_transaction")));
}

#[test]
fn what_could_not_be_kept_is_kept_before_it_is_answered_when_it_is_said_again() {
    let mut point = present(rules(), Vec::new());
    let is_kept_first = |out: &[Out]| {
        let kept = out.iter().position(|o| matches!(o, Out::Keep(_)));
        let told = out
            .iter()
            .position(|o| matches!(o, Out::Send(t) if t.starts_with("[3")));
        kept.is_some() && kept < told
    };
    let (_, out) = call(&mut point, 5, "s1", "StartTransaction", &start("HOST", 5));
    assert!(is_kept_first(&out), "{out:?}");
    // The disk was full: the connection ends, and the charger says it again in another.
    point.lost();
    point.connected(at(10));
    let (answer, out) = call(&mut point, 11, "s2", "StartTransaction", &start("HOST", 5));
    assert!(is_kept_first(&out), "{out:?}");
    let id = answer[2]["transactionId"].clone();
    point.kept(id.as_i64().unwrap());

    let stop = json!({"transactionId": id, "meterStop": 4000, "timestamp": time(20)});
    let (_, out) = call(&mut point, 20, "e1", "StopTransaction", &stop);
    assert!(is_kept_first(&out), "{out:?}");
    point.lost();
    point.connected(at(30));
    let (_, out) = call(&mut point, 31, "e2", "StopTransaction", &stop);
    assert!(is_kept_first(&out), "{out:?}");
    point.kept(id.as_i64().unwrap());
    let (_, out) = call(&mut point, 32, "e3", "StopTransaction", &stop);
    assert!(!out.iter().any(|o| matches!(o, Out::Keep(_))), "{out:?}");
}

#[test]
fn after_a_restart_numbers_go_on_and_the_open_transaction_is_known() {
    let mut point = present(rules(), Vec::new());
    let (first, out) = call(&mut point, 5, "s1", "StartTransaction", &start("HOST", 5));
    let kept = out.into_iter().find_map(|o| match o {
        Out::Keep(t) => Some(t),
        _ => None,
    });
    let text = serde_json::to_string(&kept.unwrap()).unwrap();
    let mut point = present(rules(), vec![serde_json::from_str(&text).unwrap()]);
    let (again, _) = call(&mut point, 30, "x", "StartTransaction", &start("HOST", 5));
    assert_eq!(again[2], first[2]);
    let (next, _) = call(&mut point, 31, "y", "StartTransaction", &start("HOST", 31));
    assert_eq!(next[2]["transactionId"], 2);
    let out = point.work(at(32), 1, DEVICE, vec![write_to(LIMIT, &[0, 10_000])]);
    let (calls, _) = answer_all(&mut point, out, 32);
    let profile = &calls[0].1["csChargingProfiles"];
    assert_eq!(
        (
            &profile["transactionId"],
            &profile["chargingProfilePurpose"]
        ),
        (&json!(2), &json!("TxProfile"))
    );
}

#[test]
fn a_session_lets_in_one_transaction_and_ends_it() {
    let mut point = present(rules(), Vec::new());
    let (answer, _) = call(
        &mut point,
        1,
        "a1",
        "Authorize",
        &json!({"idTag": "DRIVER"}),
    );
    assert_eq!(answer[2]["idTagInfo"]["status"], "Invalid");
    let out = point.work(
        at(2),
        1,
        DEVICE,
        vec![write_to(OPEN, &[1]), read_of(OPEN, 1)],
    );
    assert_eq!(done(&out), [Ok(vec![vec![], vec![1]])]);
    let (calls, _) = answer_all(&mut point, out, 2);
    assert_eq!(calls[0].0, "RemoteStartTransaction");
    assert_eq!(calls[0].1["idTag"], "commonwatt");
    let (answer, _) = call(
        &mut point,
        3,
        "a2",
        "Authorize",
        &json!({"idTag": "DRIVER"}),
    );
    assert_eq!(
        answer[2]["idTagInfo"]["status"], "Accepted",
        "whoever stands there"
    );
    // Plugged in only now: the charger is asked again.
    let status = json!({"connectorId": 1, "errorCode": "NoError", "status": "Preparing"});
    let (_, out) = call(&mut point, 40, "st", "StatusNotification", &status);
    let (calls, _) = answer_all(&mut point, out, 40);
    assert!(
        calls
            .iter()
            .any(|(action, _)| action == "RemoteStartTransaction"),
        "{calls:?}"
    );
    let (answer, _) = call(
        &mut point,
        5,
        "s",
        "StartTransaction",
        &start("commonwatt", 45),
    );
    let id = answer[2]["transactionId"].clone();
    assert!(is_open(&mut point));

    // The lease ends: the transaction is ended, and again while it goes on.
    point.work(at(600), 2, DEVICE, vec![write_to(OPEN, &[0])]);
    let out = point.tick(at(601));
    let (calls, _) = answer_with(&mut point, out, 601, "Rejected");
    let ends = json!({"transactionId": id});
    assert!(
        calls.contains(&("RemoteStopTransaction".into(), ends.clone())),
        "{calls:?}"
    );
    let out = point.tick(at(700));
    let (calls, _) = answer_all(&mut point, out, 700);
    assert!(
        calls.contains(&("RemoteStopTransaction".into(), ends)),
        "{calls:?}"
    );
}

#[test]
fn a_session_that_the_driver_ended_lets_nobody_in_any_more() {
    let mut point = present(rules(), Vec::new());
    let stop = |id: &Value| json!({"transactionId": id, "meterStop": 2000, "timestamp": time(710)});
    point.work(at(711), 3, DEVICE, vec![write_to(OPEN, &[1])]);
    let (answer, _) = call(
        &mut point,
        712,
        "s2",
        "StartTransaction",
        &start("DRIVER", 712),
    );
    assert_eq!(answer[2]["idTagInfo"]["status"], "Accepted");
    call(
        &mut point,
        713,
        "e2",
        "StopTransaction",
        &stop(&answer[2]["transactionId"]),
    );
    assert!(!is_open(&mut point));
    point.work(at(714), 4, DEVICE, vec![write_to(OPEN, &[1])]);
    assert!(
        !is_open(&mut point),
        "a lease that is written again is the same lease"
    );
    let (answer, _) = call(
        &mut point,
        715,
        "s3",
        "StartTransaction",
        &start("DRIVER", 715),
    );
    assert_eq!(answer[2]["idTagInfo"]["status"], "Invalid");
}

#[test]
fn a_limit_is_a_profile_that_ends_by_itself_and_is_taken_back() {
    let mut point = present(rules(), Vec::new());
    let out = point.work(
        at(2),
        1,
        DEVICE,
        vec![write_to(LIMIT, &[0, 10_500]), read_of(LIMIT, 2)],
    );
    assert!(done(&out).is_empty(), "the charger has not answered");
    let (calls, out) = answer_all(&mut point, out, 2);
    let profile = &calls[0].1["csChargingProfiles"];
    let schedule = &profile["chargingSchedule"];
    assert_eq!(profile["chargingProfilePurpose"], "TxDefaultProfile");
    assert_eq!(schedule["chargingSchedulePeriod"][0]["limit"], 10.5);
    assert_eq!(
        (&schedule["duration"], &schedule["chargingRateUnit"]),
        (&json!(600), &json!("A"))
    );
    assert_eq!(profile["validTo"], time(602));
    assert_eq!(done(&out), [Ok(vec![vec![], vec![0, 10_500]])]);
    // A pause, refused; then everything is taken back, also where the charger knows of nothing.
    let out = point.work(at(3), 2, DEVICE, vec![write_to(LIMIT, &[0, 0])]);
    let (_, out) = answer_with(&mut point, out, 3, "Rejected");
    assert_eq!(done(&out), [Err(NotDone::Refused)]);
    let out = point.work(
        at(4),
        3,
        DEVICE,
        vec![write_to(FREE, &[0]), read_of(FREE, 1)],
    );
    let (calls, out) = answer_with(&mut point, out, 4, "Unknown");
    assert_eq!(
        calls
            .iter()
            .filter(|(a, _)| a == "ClearChargingProfile")
            .count(),
        2
    );
    assert_eq!(done(&out), [Ok(vec![vec![], vec![0]])]);
    // Nobody there: the job is not done, and says so at once.
    point.lost();
    let out = point.work(at(5), 4, DEVICE, vec![read_of(FREE, 1)]);
    assert_eq!(done(&out), [Err(NotDone::Silent)]);
}

#[test]
fn a_charger_that_does_not_answer_is_hung_up_on() {
    let mut point = present(rules(), Vec::new());
    let mut s = 1;
    let out = point.work(at(s), 1, DEVICE, vec![write_to(LIMIT, &[0, 6000])]);
    assert_eq!(sent(&out).len(), 1);
    let mut failed = Vec::new();
    for _ in 0..3 {
        s += ANSWER_MS / 1000;
        failed = point.tick(at(s));
    }
    assert!(
        failed.iter().any(|o| matches!(o, Out::HangUp(_))),
        "{failed:?}"
    );
    assert!(point.lost().contains(&Out::Failed(DEVICE, "offline")));
}

#[test]
fn meter_values_are_of_this_minute_and_in_their_units() {
    let mut point = present(rules(), Vec::new());
    let values = |s: i64, list: Value| json!({"connectorId": 1, "meterValue": [{"timestamp": time(s), "sampledValue": list}]});
    let list = json!([
        {"value": "12.3456", "unit": "kWh"},
        {"value": "7.2", "measurand": "Power.Active.Import", "unit": "kW"},
        {"value": "10.5", "measurand": "Current.Import", "unit": "A", "phase": "L2"},
        {"value": "231.2", "measurand": "Voltage", "unit": "V", "phase": "L1-N"},
        {"value": "55", "measurand": "SoC", "unit": "Percent", "location": "Outlet"},
        {"value": "1", "measurand": "Energy.Active.Import.Register", "location": "Inlet"},
        {"value": "many", "measurand": "Power.Active.Import"},
        {"value": "3", "measurand": "Power.Active.Import", "unit": "horses"}
    ]);
    let (_, out) = call(
        &mut point,
        100,
        "m",
        "MeterValues",
        &values(98, list.clone()),
    );
    let sample = out.iter().find_map(|o| match o {
        Out::Sample(DEVICE, values, Some(identity)) => Some((values.clone(), identity.clone())),
        _ => None,
    });
    let (sample, identity) = sample.unwrap();
    assert_eq!(identity.maker, "V");
    assert_eq!(sample.import_counter.unwrap().mwh, 12_345_600);
    assert_eq!(sample.power.unwrap().w(), 7_200);
    assert_eq!(sample.details[&Quantity::CurrentL2], 10_500);
    assert_eq!(sample.details[&Quantity::VoltageL1], 231_200);
    assert_eq!(sample.soc_permille, Some(550));
    assert!(out.contains(&Out::Failed(DEVICE, "strange_value")));
    // Kept for an outage, or by a clock that is wrong.
    for s in [10, 300] {
        let (_, out) = call(
            &mut point,
            100,
            &format!("m{s}"),
            "MeterValues",
            &values(s, list.clone()),
        );
        assert!(!out.iter().any(|o| matches!(o, Out::Sample(..))));
        assert!(out.contains(&Out::Failed(DEVICE, "late")));
    }
    let nonsense = json!({"connectorId": 9, "meterValue": "none"});
    assert_eq!(call(&mut point, 100, "n", "MeterValues", &nonsense).0[0], 3);
    let below = values(100, json!([{"value": "-5"}]));
    let (_, out) = call(&mut point, 100, "o", "MeterValues", &below);
    assert!(!out.iter().any(|o| matches!(o, Out::Sample(..))), "{out:?}");
}

#[test]
fn signed_values_are_checked_and_kept_either_way() {
    let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let session = Session {
        station: "c",
        meter: "m",
        user: "u",
        page: 1,
        readings: [(at(0).now, 1_000), (at(60).now, 2_000)],
        synchronised: true,
    };
    let text = write(&session, &signer).unwrap();
    let mut rules = rules();
    rules.keys = vec![signer.public()];
    let mut point = present(rules.clone(), Vec::new());
    let data = |text: &str| {
        json!({"transactionId": 5, "meterStop": 2000, "timestamp": time(61), "transactionData": [
            {"timestamp": time(61), "sampledValue": [{"value": text, "format": "SignedData"}]}]})
    };
    let kept = |point: &mut Point, id: &str, text: &str| {
        let (_, out) = call(point, 61, id, "StopTransaction", &data(text));
        out.into_iter().find_map(|o| match o {
            Out::KeepSigned(Some(DEVICE), Some(5), _, refused) => Some(refused),
            _ => None,
        })
    };
    assert_eq!(kept(&mut point, "1", &text), Some(None));
    let forged = text.replacen("2000", "1500", 1);
    let why = kept(&mut point, "2", &forged).unwrap().unwrap();
    assert!(why.contains("changed"), "{why}");
    assert!(kept(&mut point, "3", "0x1234").unwrap().is_some());
    assert!(
        meter::check_signed(&text, &[])
            .unwrap_err()
            .contains("ocmf_keys")
    );
}

#[test]
fn of_very_many_signed_values_the_first_and_the_last_are_kept() {
    let mut point = present(rules(), Vec::new());
    let data: Vec<Value> = (0..50)
        .map(|n| json!({"timestamp": time(61), "sampledValue": [{"value": format!("text {n}"), "format": "SignedData"}]}))
        .collect();
    let stop = json!({"transactionId": 5, "meterStop": 2000, "timestamp": time(61), "transactionData": data});
    let (_, out) = call(&mut point, 61, "1", "StopTransaction", &stop);
    let kept: Vec<&str> = out
        .iter()
        .filter_map(|o| match o {
            Out::KeepSigned(_, _, text, _) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!((kept.len(), kept[0], kept[31]), (32, "text 0", "text 49"));
    let left_out = Out::Failed(DEVICE, "signed_value_left_out");
    assert_eq!(out.iter().filter(|o| **o == left_out).count(), 18);
}

#[test]
fn nonsense_is_answered_by_its_name_and_does_nothing() {
    let mut point = present(rules(), Vec::new());
    let code = |point: &mut Point, text: &str| {
        let out = point.hear(at(9), text);
        let texts = sent(&out);
        texts
            .first()
            .map(|t| serde_json::from_str::<Value>(t).unwrap()[2].clone())
    };
    assert_eq!(code(&mut point, "hello"), None);
    assert_eq!(
        code(&mut point, r#"[2,"1","Heartbeat"]"#),
        Some(json!("FormationViolation"))
    );
    assert_eq!(
        code(&mut point, r#"[2,"2","MakeCoffee",{}]"#),
        Some(json!("NotImplemented"))
    );
    let long = format!(r#"[2,"3","Authorize",{{"idTag":"{}"}}]"#, "x".repeat(21));
    assert_eq!(
        code(&mut point, &long),
        Some(json!("TypeConstraintViolation"))
    );
    assert_eq!(
        code(&mut point, r#"[3,"never-asked",{"status":"Accepted"}]"#),
        None
    );
    let refused = r#"[2,"4","DataTransfer",{"vendorId":"x","data":"y"}]"#;
    let out = point.hear(at(9), refused);
    assert!(sent(&out)[0].contains("UnknownVendorId"));
}

#[test]
fn the_profile_is_a_device_with_two_set_points_that_read_back() {
    let own = profile();
    assert_eq!(Profile::load("ocpp-1.6", None).unwrap(), own);
    let local = Local {
        max_current_ma: 16_000,
        ..Local::default()
    };
    for (target, value, words) in [
        (Target::ChargerCurrent, 10_000, vec![0, 10_000]),
        (Target::ChargerCurrent, 0, vec![0, 0]),
        (Target::ChargerSession, 1, vec![1]),
    ] {
        let control = own.controls.iter().find(|c| c.target == target).unwrap();
        let set_point = domain::command::SetPoint::ALL
            .into_iter()
            .find(|s| Target::of(*s) == target);
        let wanted = Some((set_point.unwrap(), value));
        let list = control.list_for(value);
        assert!(program::questions(control, list).is_empty());
        let program = program::program(control, list, wanted, &local, &[]).unwrap();
        let written = program.steps.iter().find_map(|step| match step {
            Step::Write { words, .. } => Some(words.clone()),
            Step::Read { .. } => None,
        });
        assert_eq!(written.unwrap(), words);
    }
}
