//! A home's key from its rotation to its end, with the program as people run it: the street goes on, receipts of orders
//! before and after hold, and an audit agrees.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::demo::{Demo, program, wait_for};
use crate::orders::said;

const HOME: &str = "home-01";

fn run(args: &[&str]) -> Output {
    Command::new(program()).args(args).output().unwrap()
}

fn fine(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A receipt of the home for which `fits` holds.
fn receipt(demo: &Demo, session: &str, fits: impl Fn(&Value) -> bool) -> String {
    wait_for("such a receipt", || {
        let all = demo.receipts(session);
        all.into_iter()
            .find(|receipt| serde_json::from_str(receipt).is_ok_and(|value| fits(&value)))
    })
}

/// What the verifier says of a receipt's keys.
fn key_changes(folder: &Path, pinned: &Path, receipt: &str) -> String {
    let file = folder.join("receipt.json");
    std::fs::write(&file, receipt).unwrap();
    let told = fine(&run(&["verify", text(&file), "--key", text(pinned)]));
    let line = told.lines().find(|line| line.contains("key changes"));
    line.unwrap_or_default().to_owned()
}

#[test]
fn whoever_floods_the_door_of_keys_is_told_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start_at("1", &folder.path().join("data"), &[]);
    let post = |path: &str| demo.send("POST", path, "", b"no introduction");
    let first = post("/api/v1/keys/introductions");
    assert_eq!(first.status, 422, "{}", first.body);
    assert!(
        first.body.contains("this is no introduction of a key"),
        "{}",
        first.body
    );
    let mut words = ["introductions", "claims", "revocations"].iter().cycle();
    let told = (0..1000).find_map(|_| {
        let answer = post(&format!("/api/v1/keys/{}", words.next()?));
        (answer.status == 429).then_some(answer)
    });
    let told = told.expect("a thousand words about keys were listened to");
    assert!(
        told.body.contains("Too many requests: wait "),
        "{}",
        told.body
    );
    assert!(told.header("retry-after").is_some(), "{:?}", told.body);
    let order = demo.send("POST", "/api/v1/orders", "", b"no order");
    assert_ne!(order.status, 429, "orders have an allowance of their own");
}

#[test]
fn a_home_rotates_its_key_and_the_street_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("300", &data, &[]);
    let url = format!("http://{}", demo.address);
    let (session, pinned) = (demo.sign_in(HOME), data.join("operator.pub"));
    let file = data.join(format!("participants/{HOME}.key"));
    let beside = |end: &str| data.join(format!("participants/{HOME}.key{end}"));
    let own = |words: &[&str], key: &Path| {
        let home = ["--url", &url, "--participant", HOME, "--key", text(key)];
        run(&[words, &home].concat())
    };
    receipt(&demo, &session, |_| true);
    let old = std::fs::read(&file).unwrap();
    let rotated = fine(&own(&["participant", "rotate-key"], &file));
    assert!(rotated.contains("is enrolled and in"), "{rotated}");
    assert_eq!(std::fs::read(beside(".before")).unwrap(), old);
    assert!(!beside(".next").exists() && !beside(".introduction").exists());
    let refused = own(&["order", "list"], &beside(".before"));
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains("counts no longer"),
        "{}",
        said(&refused)
    );
    fine(&own(&["order", "list"], &file));
    let shows = |place: &'static str| {
        move |receipt: &Value| receipt["participant_key_history"][place]["introduction"].is_object()
    };
    for place in ["after", "before"] {
        let receipt = receipt(&demo, &session, shows(place));
        let told = key_changes(folder.path(), &pinned, &receipt);
        assert!(told.contains("and both have signed for that"), "{told}");
    }

    // The file is lost: the operator makes a code, and whoever keeps the key lets another in.
    std::fs::remove_file(&file).unwrap();
    let keys = |words: &[&str]| {
        let more = ["--url", &url, "--data-dir", text(&data), "--format", "json"];
        run(&[&["keys"], words, &more].concat())
    };
    let made = keys(&["claim", "--participant", HOME]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let enrol = [
        "participant",
        "enrol",
        "--claim",
        made["code"].as_str().unwrap(),
    ];
    let again = fine(&own(&enrol, &file));
    assert!(again.contains("is enrolled and in"), "{again}");
    fine(&own(&["order", "list"], &file));
    let used = own(&enrol, &folder.path().join("another.key"));
    assert_eq!(used.status.code(), Some(1), "{}", said(&used));
    assert!(said(&used).contains("claim_used"), "{}", said(&used));

    let (url, data_dir) = (url.as_str(), text(&data));
    let revoke = [
        "keys",
        "revoke",
        "--participant",
        HOME,
        "--reason",
        "a test",
    ];
    fine(&run(&[
        &revoke[..],
        &["--url", url, "--data-dir", data_dir],
    ]
    .concat()));
    let refused = own(&["order", "list"], &file);
    assert!(
        said(&refused).contains("counts no longer"),
        "{}",
        said(&refused)
    );
    let listed: Value = serde_json::from_slice(&keys(&["list"]).stdout).unwrap();
    let mut homes = listed["participants"].as_array().unwrap().iter();
    let home = homes.find(|home| home["participant"] == HOME).unwrap();
    let keys = home["keys"].as_array().unwrap().iter();
    let states: Vec<&str> = keys.map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["revoked"; 3]);

    let size = || {
        let note = demo.get("/log/ledger/checkpoint").1;
        note.lines().nth(1)?.parse::<u64>().ok()
    };
    // The checkpoint that anybody is given may be from before the words.
    let before = size().unwrap();
    wait_for("a longer log", || size().filter(|now| *now > before));
    let mirror = folder.path().join("mirror");
    let audit = ["audit", "--key", text(&pinned)];
    fine(&run(&[
        &audit[..],
        &["--log", url, "--mirror", text(&mirror)],
    ]
    .concat()));
    drop(demo);
    let openings = ["--log", text(&mirror), "--openings", data_dir];
    let told = fine(&run(&[&audit[..], &openings].concat()));
    assert!(
        told.contains("1 rotated with both keys' signatures"),
        "{told}"
    );
    assert!(told.contains("3 revocations"), "{told}");
}
