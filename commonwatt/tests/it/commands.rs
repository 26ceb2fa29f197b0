//! The operator's way to a device: `commonwatt control` and `POST /api/v1/commands`, at a running demo.

use std::path::Path;
use std::process::{Command, Output};

use domain::command::{self, Act, SetPoint};
use domain::ids::{CommunityId, Digest32, GatewayId};
use domain::signed::{Signed, SigningKey};
use domain::time::Timestamp;
use serde_json::Value;

use crate::demo::{Demo, program, wait_for};

/// A gateway of the demo with a device of this profile.
fn gateway_with(dir: &Path, profile: &str) -> Option<String> {
    let folders = std::fs::read_dir(dir.join("gateways")).ok()?;
    let mut names: Vec<_> = folders.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let has = |name: &std::ffi::OsString| {
        let file = dir.join("gateways").join(name).join("gateway.toml");
        std::fs::read_to_string(file).is_ok_and(|text| text.contains(profile))
    };
    let name = names.into_iter().find(has)?;
    Some(name.to_str().unwrap().to_owned())
}

/// An answer's outcome, value and reason.
type Told = (String, Option<i64>, String);

struct Bench {
    demo: Demo,
    dir: tempfile::TempDir,
}

impl Bench {
    fn control(&self, args: &[&str]) -> Output {
        Command::new(program())
            .arg("control")
            .args(args)
            .args(["--format", "json", "--url"])
            .arg(format!("http://{}", self.demo.address))
            .arg("--data-dir")
            .arg(self.dir.path())
            .output()
            .unwrap()
    }

    /// Exit code and answers of a `commonwatt control`.
    fn told(&self, args: &[&str]) -> (Option<i32>, Vec<Told>) {
        let done = self.control(args);
        let shown: Value = serde_json::from_slice(&done.stdout)
            .unwrap_or_else(|error| panic!("{error}: {done:?}"));
        (done.status.code(), outcomes(&shown))
    }

    /// Waits until a gateway is at the broker and has heard each of its devices since.
    fn is_up(&self, gateway: &str) {
        let config = self.dir.path().join("gateways").join(gateway);
        let config = config.join("gateway.toml");
        wait_for(gateway, || {
            let shown = Command::new(program())
                .args(["gateway", "status", "--format", "json", "--config"])
                .arg(&config)
                .output()
                .unwrap();
            let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
            let running = &shown["running"];
            let devices = running["devices"].as_array()?;
            let is_heard = |device: &Value| device["samples"].as_u64() > Some(3);
            let is_up = running["broker"]["connected"] == true && devices.iter().all(is_heard);
            is_up.then_some(())
        });
    }

    /// A command to a battery, as it is posted.
    fn signed(&self, key: &SigningKey, gateway: &str, sequence: i64) -> Vec<u8> {
        let (_, about) = self.demo.get("/api/v1/platform");
        let about: Value = serde_json::from_str(&about).unwrap();
        let community = CommunityId::new(about["community"].as_str().unwrap()).unwrap();
        let now: Timestamp = about["now"].as_str().unwrap().parse().unwrap();
        let command = command::Command {
            gateway: GatewayId::new(gateway).unwrap(),
            device: "battery".into(),
            sequence: u64::try_from(now.unix_ms() + sequence).unwrap(),
            issued_at: now,
            act: Act::Set {
                set_point: SetPoint::BatteryPowerW,
                value: -1_000,
                expires_at: now.plus_s(3_600),
            },
        };
        Signed::sign(key, &community, &command).as_bytes().to_vec()
    }
}

fn outcomes(shown: &Value) -> Vec<Told> {
    let answers = shown["answers"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |answer: &Value| {
        let (outcome, reason) = (text(&answer["outcome"]), text(&answer["reason"]));
        (outcome, answer["value"].as_i64(), reason)
    };
    answers.map(one).collect()
}

#[test]
fn an_operator_sets_and_releases_devices_of_a_running_street() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start_at("20", dir.path(), &[]);
    let bench = Bench { demo, dir };
    let find = |profile| wait_for(profile, || gateway_with(bench.dir.path(), profile));
    let (battery, charger) = (find("sunspec-battery-802"), find("keba-p30"));
    bench.is_up(&battery);
    bench.is_up(&charger);
    let said = |outcome: &str, value, reason: &str| (outcome.to_owned(), value, reason.to_owned());

    let at_battery = ["--gateway", &battery, "--device", "battery"];
    let discharge = ["--battery-power-w", "22000", "--for", "1h"];
    let (code, answers) = bench.told(&[&at_battery[..], &discharge].concat());
    let full = said("confirmed", Some(4_000), "device_range");
    assert_eq!(
        (code, answers),
        (Some(0), vec![said("accepted", Some(22_000), ""), full]),
        "what is more than the battery can do"
    );
    let (code, answers) = bench.told(&[&at_battery[..], &["--release", "battery-power"]].concat());
    assert_eq!(code, Some(0), "{answers:?}");
    assert_eq!(answers[0], said("accepted", None, ""));

    let at_charger = ["--gateway", &charger, "--device", "charger"];
    let (code, answers) = bench.told(&[&at_charger[..], &["--current-a", "20"]].concat());
    let lowered = said("accepted", Some(16_000), "max_current_a");
    assert_eq!((code, &answers[0]), (Some(0), &lowered));
    // What a charger shows is also bound by its cable and by what it is built for.
    let (outcome, shown_ma, _) = &answers[1];
    let is_inside = (6_000..=16_000).contains(&shown_ma.unwrap());
    assert!(outcome == "confirmed" && is_inside, "{answers:?}");
    let nobody = [
        "--gateway",
        &charger,
        "--device",
        "boiler",
        "--current-a",
        "10",
    ];
    let (code, answers) = bench.told(&nobody);
    let refused = said("refused", None, "unknown_device");
    assert_eq!((code, answers), (Some(1), vec![refused]));
    let nowhere = bench.control(&["--gateway", "gw-99", "--device", "x", "--current-a", "10"]);
    let why = String::from_utf8_lossy(&nowhere.stderr);
    assert_eq!(nowhere.status.code(), Some(1), "{why}");
    assert!(why.contains("there is no gateway gw-99"), "{why}");

    let operator = runtime::key_file::read(&bench.dir.path().join("operator.key")).unwrap();
    let forged = bench.signed(&SigningKey::from_bytes(&[8; 32]), &battery, 1);
    let (status, problem) = bench.demo.post("/api/v1/commands", &forged);
    assert_eq!(status, 403, "{problem}");
    assert_eq!(bench.demo.post("/api/v1/commands", b"nonsense").0, 403);
    let good = bench.signed(&operator, &battery, 2);
    let (status, text) = bench.demo.post("/api/v1/commands", &good);
    let expected = [
        said("accepted", Some(-1_000), ""),
        said("confirmed", Some(-1_000), ""),
    ];
    assert_eq!(status, 200, "{text}");
    assert_eq!(outcomes(&serde_json::from_str(&text).unwrap()), expected);
    let digest = Digest32::of(&good);
    let (status, text) = bench.demo.get(&format!("/api/v1/commands/{digest}"));
    assert_eq!(status, 200, "{text}");
    assert_eq!(outcomes(&serde_json::from_str(&text).unwrap()), expected);
    let unknown = Digest32::of(&forged);
    let unknown = bench.demo.get(&format!("/api/v1/commands/{unknown}"));
    assert_eq!(
        unknown.0, 404,
        "a command that was not taken has no answers"
    );
    // The same bytes again are answered and do nothing.
    let (status, text) = bench.demo.post("/api/v1/commands", &good);
    assert_eq!(status, 200, "{text}");
    // What holds is given back.
    let (code, _) = bench.told(&[&at_battery[..], &["--release", "battery-power"]].concat());
    assert_eq!(code, Some(0));
    let ended = wait_for("the end of the lease", || {
        let (_, text) = bench.demo.get(&format!("/api/v1/commands/{digest}"));
        let answers = outcomes(&serde_json::from_str(&text).unwrap());
        answers.into_iter().find(|(outcome, ..)| outcome == "ended")
    });
    assert_eq!(ended, said("ended", None, "released"));
}
