//! A home's key from its rotation to its end, with the program as people run it: the street goes on, receipts of orders
//! before and after hold, and an audit agrees.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::time::Timestamp;
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
    let told = (0..1000).find_map(|_| {
        let answer = post("/api/v1/keys/introductions");
        (answer.status == 429).then_some(answer)
    });
    let told = told.expect("a thousand introductions were listened to");
    assert!(
        told.body.contains("Too many requests: wait "),
        "{}",
        told.body
    );
    assert!(told.header("retry-after").is_some(), "{:?}", told.body);
    let order = demo.send("POST", "/api/v1/orders", "", b"no order");
    assert_ne!(order.status, 429, "orders have an allowance of their own");
    for words in ["claims", "revocations"] {
        let word = post(&format!("/api/v1/keys/{words}"));
        assert_eq!(
            word.status, 422,
            "the operator is heard all the same: {}",
            word.body
        );
    }
}

/// A home of a running street, and who keeps its key.
struct Keeper {
    demo: Demo,
    url: String,
    data: PathBuf,
    folder: tempfile::TempDir,
}

impl Keeper {
    fn start() -> Keeper {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let demo = Demo::start_at("300", &data, &[]);
        let url = format!("http://{}", demo.address);
        Keeper {
            demo,
            url,
            data,
            folder,
        }
    }

    /// The key's file, with so much more behind its name.
    fn file(&self, end: &str) -> PathBuf {
        self.data.join(format!("participants/{HOME}.key{end}"))
    }

    /// Runs a command of the home's own, with this key.
    fn own(&self, words: &[&str], key: &Path) -> Output {
        let home = [
            "--url",
            &self.url,
            "--participant",
            HOME,
            "--key",
            text(key),
        ];
        run(&[words, &home].concat())
    }

    /// Runs one of the operator's.
    fn keys(&self, words: &[&str]) -> Output {
        let more = ["--url", &self.url, "--data-dir", text(&self.data)];
        run(&[&["keys"], words, &more].concat())
    }

    fn keys_as_json(&self, words: &[&str]) -> Value {
        let told = self.keys(&[words, &["--format", "json"]].concat());
        serde_json::from_slice(&told.stdout).unwrap()
    }

    /// Its orders, which the platform does not show to a key that counts no longer.
    fn orders_are_refused(&self, key: &Path) {
        let refused = self.own(&["order", "list"], key);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        let why = said(&refused);
        assert!(why.contains("counts no longer"), "{why}");
    }

    fn rotates(&self) {
        let (session, pinned) = (self.demo.sign_in(HOME), self.data.join("operator.pub"));
        receipt(&self.demo, &session, |_| true);
        let file = self.file("");
        let old = std::fs::read(&file).unwrap();
        let rotated = fine(&self.own(&["participant", "rotate-key"], &file));
        assert!(rotated.contains("is enrolled and in"), "{rotated}");
        assert_eq!(std::fs::read(self.file(".before")).unwrap(), old);
        assert!(!self.file(".next").exists() && !self.file(".introduction").exists());
        self.orders_are_refused(&self.file(".before"));
        fine(&self.own(&["order", "list"], &file));
        for place in ["after", "before"] {
            let shows = |receipt: &Value| {
                receipt["participant_key_history"][place]["introduction"].is_object()
            };
            let receipt = receipt(&self.demo, &session, shows);
            let told = key_changes(self.folder.path(), &pinned, &receipt);
            assert!(told.contains("and both have signed for that"), "{told}");
        }
    }

    /// The file is lost: the operator makes a code, and whoever keeps the key lets another in.
    fn loses_its_file(&self) {
        let file = self.file("");
        std::fs::remove_file(&file).unwrap();
        let made = self.keys_as_json(&["claim", "--participant", HOME]);
        let code = made["code"].as_str().unwrap();
        let enrol = ["participant", "enrol", "--claim", code];
        let again = fine(&self.own(&enrol, &file));
        assert!(again.contains("is enrolled and in"), "{again}");
        fine(&self.own(&["order", "list"], &file));
        let used = self.own(&enrol, &self.folder.path().join("another.key"));
        assert_eq!(used.status.code(), Some(1), "{}", said(&used));
        assert!(said(&used).contains("claim_used"), "{}", said(&used));
    }

    fn is_revoked(&self) {
        let revoke = ["revoke", "--participant", HOME, "--reason", "a test"];
        fine(&self.keys(&revoke));
        self.orders_are_refused(&self.file(""));
        let listed = self.keys_as_json(&["list"]);
        let mut homes = listed["participants"].as_array().unwrap().iter();
        let home = homes.find(|home| home["participant"] == HOME).unwrap();
        let keys = home["keys"].as_array().unwrap().iter();
        let states: Vec<&str> = keys.map(|key| key["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["revoked"; 3]);
    }

    /// The street ends; an audit has seen its keys change.
    fn ends_in_an_audit(self) {
        let size = || {
            let note = self.demo.get("/log/ledger/checkpoint").1;
            note.lines().nth(1)?.parse::<u64>().ok()
        };
        // The checkpoint that anybody is given may be from before the words.
        let before = size().unwrap();
        wait_for("a longer log", || size().filter(|now| *now > before));
        let mirror = self.folder.path().join("mirror");
        let pinned = self.data.join("operator.pub");
        let audit = |words: &[&str]| run(&[&["audit", "--key", text(&pinned)], words].concat());
        fine(&audit(&["--log", &self.url, "--mirror", text(&mirror)]));
        drop(self.demo);
        let openings = ["--log", text(&mirror), "--openings", text(&self.data)];
        let told = fine(&audit(&openings));
        assert!(
            told.contains("1 rotated with both keys' signatures"),
            "{told}"
        );
        assert!(told.contains("3 revocations"), "{told}");
    }

    /// A rotation that comes too early waits, and the key before goes on.
    fn rotates_no_more(&self) {
        let file = self.file("");
        let old = std::fs::read(&file).unwrap();
        let early = self.own(&["participant", "rotate-key"], &file);
        let told = said(&early);
        assert_eq!(early.status.code(), Some(3), "{told}");
        assert!(told.contains("change it after 20"), "{told}");
        assert!(told.contains("run the same command again then"), "{told}");
        assert_eq!(std::fs::read(&file).unwrap(), old);
        assert!(self.file(".next").exists() && self.file(".introduction").exists());
        assert!(!self.file(".refused").exists());
        fine(&self.own(&["order", "list"], &file));
        let waiting = std::fs::read_to_string(self.file(".introduction")).unwrap();
        let waiting: Value = serde_json::from_str(&waiting).unwrap();
        let bytes = STANDARD.decode(waiting["introduction"].as_str().unwrap());
        let introductions = "/api/v1/keys/introductions";
        let answer = self.demo.send("POST", introductions, "", &bytes.unwrap());
        assert_eq!(answer.status, 429, "{}", answer.body);
        let wait_s: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        // A day of the street, less what has passed.
        assert!((1..=24 * 3600 / 300).contains(&wait_s), "{wait_s}");
    }

    /// The next key that waits has taken the key's place.
    fn next_is_in(&self, next: &[u8], told: &str) {
        assert!(told.contains("is enrolled and in"), "{told}");
        assert_eq!(std::fs::read(self.file("")).unwrap(), next);
        assert!(!self.file(".next").exists() && !self.file(".introduction").exists());
        fine(&self.own(&["order", "list"], &self.file("")));
    }

    /// The street stops, and its next start is a day later.
    fn sleeps_a_day(self) -> Keeper {
        let Keeper {
            demo, data, folder, ..
        } = self;
        drop(demo);
        let clock = data.join("clock");
        let stopped = std::fs::read_to_string(&clock).unwrap();
        let stopped: Timestamp = stopped.trim().parse().unwrap();
        let day_s = 24 * 3600;
        std::fs::write(&clock, format!("{}\n", stopped.plus_s(day_s))).unwrap();
        let demo = Demo::start_at("300", &data, &[]);
        Keeper {
            url: format!("http://{}", demo.address),
            demo,
            data,
            folder,
        }
    }
}

#[test]
fn a_key_that_was_changed_too_often_is_changed_later() {
    let keeper = Keeper::start();
    let rotate = ["participant", "rotate-key"];
    for _ in 0..8 {
        fine(&keeper.own(&rotate, &keeper.file("")));
    }
    keeper.rotates_no_more();
    let next = std::fs::read(keeper.file(".next")).unwrap();
    let keeper = keeper.sleeps_a_day();
    let told = fine(&keeper.own(&rotate, &keeper.file("")));
    keeper.next_is_in(&next, &told);
}

#[test]
fn a_home_rotates_its_key_and_the_street_goes_on() {
    let keeper = Keeper::start();
    keeper.rotates();
    keeper.loses_its_file();
    keeper.is_revoked();
    keeper.ends_in_an_audit();
}
