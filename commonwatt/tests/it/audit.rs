//! A street's logs, audited by the program as people run it; and the page that checks a receipt.

use std::path::Path;
use std::process::{Command, Output};

use crate::demo::{Demo, program};
use crate::keys::wait_for;

fn audit(log: &str, key: &Path, more: &[&str]) -> Output {
    Command::new(program())
        .args(["audit", "--log", log, "--key"])
        .arg(key)
        .args(more)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// The files of the mirror that are public books with orders in them.
fn books(mirror: &Path) -> Vec<std::path::PathBuf> {
    let markets = std::fs::read_dir(mirror.join("api/v1/markets")).unwrap();
    let books = markets.map(|folder| folder.unwrap().path().join("book"));
    let has_orders = |book: &std::path::PathBuf| {
        std::fs::read_to_string(book).is_ok_and(|text| text.contains("\"limit_price\""))
    };
    books.filter(has_orders).collect()
}

#[test]
fn a_street_is_audited_mirrored_and_audited_again() {
    let folder = tempfile::tempdir().unwrap();
    let (data, mirror) = (folder.path().join("data"), folder.path().join("mirror"));
    let demo = Demo::start_at("300", &data, &[]);
    let url = format!("http://{}", demo.address);
    let key = data.join("operator.pub");
    let keep = ["--mirror", mirror.to_str().unwrap()];
    let size = || {
        let (_, note) = demo.get("/log/ledger/checkpoint");
        note.lines().nth(1)?.parse::<u64>().ok()
    };
    wait_for("a market with trades", || {
        let (_, markets) = demo.get("/api/v1/markets");
        let markets: serde_json::Value = serde_json::from_str(&markets).ok()?;
        let markets = markets["items"].as_array()?;
        markets
            .iter()
            .any(|m| m["trades"].as_u64() > Some(0))
            .then_some(())
    });
    let first = audit(&url, &key, &keep);
    assert!(first.status.success(), "{}", told(&first));
    assert!(
        told(&first).contains("cleared again, the same"),
        "{}",
        told(&first)
    );
    let before = size().unwrap();
    wait_for("a longer log", || size().filter(|now| *now > before));
    let second = audit(&url, &key, &keep);
    assert!(second.status.success(), "{}", told(&second));
    assert!(
        told(&second).contains("of the last audit"),
        "{}",
        told(&second)
    );
    // A file of the mirror that was damaged since is fetched again, and the audit holds.
    let damaged = books(&mirror).pop().unwrap();
    let whole = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, b"damaged").unwrap();
    let mended = audit(&url, &key, &keep);
    let words = told(&mended);
    assert!(
        mended.status.success() && words.contains("were fetched again"),
        "{words}"
    );
    assert_eq!(std::fs::read(&damaged).unwrap(), whole);
    drop(demo);
    settled_again(&data, &mirror, &key);
    // The mirror alone is enough, also without the platform.
    let from = mirror.to_str().unwrap();
    let offline = audit(from, &key, &[]);
    assert!(offline.status.success(), "{}", told(&offline));
    let book = books(&mirror).pop().unwrap();
    let good = std::fs::read_to_string(&book).unwrap();
    std::fs::write(&book, good.replacen("\"filled_wh\":", "\"filled_wh\": ", 1)).unwrap();
    let changed = audit(from, &key, &[]);
    assert_eq!(changed.status.code(), Some(1), "{}", told(&changed));
    assert!(
        told(&changed).contains("not the one that the clearing"),
        "{}",
        told(&changed)
    );
    std::fs::write(&book, good).unwrap();
    std::fs::remove_dir_all(mirror.join("log/market/tile/entries")).unwrap();
    let lost = audit(from, &key, &["--format", "json"]);
    assert_eq!(lost.status.code(), Some(1), "{}", told(&lost));
    let value: serde_json::Value = serde_json::from_slice(&lost.stdout).unwrap();
    assert_eq!(value["holds"], false);
    assert!(told(&lost).contains("is not there"), "{}", told(&lost));
    let nowhere = audit(folder.path().join("nowhere").to_str().unwrap(), &key, &[]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", told(&nowhere));
}

/// With what opens the log's entries, every run is settled again; and whatever is changed is found.
fn settled_again(data: &Path, mirror: &Path, key: &Path) {
    let from = mirror.to_str().unwrap();
    let with = |openings: &Path, more: &[&str]| {
        let mut args = vec!["--openings", openings.to_str().unwrap()];
        args.extend(more);
        audit(from, key, &args)
    };
    let whole = with(data, &[]);
    let words = told(&whole);
    assert!(whole.status.success(), "{words}");
    assert!(
        words.contains("settled again")
            && !words.contains(" 0 runs of")
            && words.contains("hide the signed orders")
            && !words.contains(" 0 hide"),
        "{words}"
    );
    let day = mirror.with_file_name("day.json");
    let exported = Command::new(program())
        .args([
            "audit",
            "export",
            "--from",
            "2020-01-01T00:00:00Z",
            "--to",
            "2040-01-01T00:00:00Z",
        ])
        .arg("--data-dir")
        .arg(data)
        .arg("--out")
        .arg(&day)
        .output()
        .unwrap();
    assert!(exported.status.success(), "{}", told(&exported));
    let good = std::fs::read_to_string(&day).unwrap();
    let openings: serde_json::Value = serde_json::from_str(&good).unwrap();
    let settled = |interval: &&serde_json::Value| {
        let some = |key: &str| interval[key].as_array().is_some_and(|all| !all.is_empty());
        some("runs") && some("readings")
    };
    let intervals = openings["intervals"].as_array().unwrap();
    let at = intervals.iter().position(|i| settled(&i)).unwrap();
    let prices = mirror.with_file_name("tariff.toml");
    let terms = &intervals[at]["runs"][0]["record"]["rules"];
    let text = |retail: &str| {
        let price = |name: &str| terms[name].as_str().unwrap().to_owned();
        let (feed_in, fee) = (price("feed_in"), price("network_fee"));
        format!("retail = \"{retail}\"\nfeed_in = \"{feed_in}\"\nnetwork_fee = \"{fee}\"\n")
    };
    let retail = terms["retail"].as_str().unwrap().to_owned();
    std::fs::write(&prices, text(&retail)).unwrap();
    let tariff = ["--tariff", prices.to_str().unwrap()];
    let held = with(&day, &tariff);
    assert!(held.status.success(), "{}", told(&held));
    std::fs::write(&prices, text("0.99")).unwrap();
    let other = with(&day, &tariff);
    let words = told(&other);
    assert!(
        other.status.code() == Some(1) && words.contains("the tariff in force has 0.99"),
        "{words}"
    );
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut openings = openings.clone();
        change(&mut openings["intervals"][at]);
        std::fs::write(&day, openings.to_string()).unwrap();
        let output = with(&day, &[]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        told(&output)
    };
    let run = changed(&|interval| {
        interval["runs"].as_array_mut().unwrap().clear();
    });
    assert!(run.contains("0 were handed over"), "{run}");
    let reading = changed(&|interval| {
        interval["readings"][0]["content"] = "AAAA".into();
    });
    assert!(
        reading.contains("is not the reading that was handed over"),
        "{reading}"
    );
    let blind = changed(&|interval| {
        interval["runs"][0]["blind"] = "00".repeat(32).into();
    });
    assert!(blind.contains("its inputs are not those"), "{blind}");
    std::fs::write(&day, "{}").unwrap();
    let none = with(&day, &[]);
    assert_eq!(none.status.code(), Some(2), "{}", told(&none));
}

#[test]
fn a_page_checks_what_is_dropped_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start_at("60", folder.path(), &[]);
    let (status, page) = demo.get("/verify");
    assert_eq!(status, 200);
    assert!(
        page.contains("multipart/form-data") && page.contains("commonwatt verify"),
        "{page}"
    );
    let proof = wait_for("an entry", || {
        let (status, proof) = demo.get("/log/market/proof?index=0");
        (status == 200).then_some(proof)
    });
    let drop = |text: &str| {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\"\r\n\r\n\r\n\
             --b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n{text}\r\n--b--\r\n"
        );
        let kind = "Content-Type: multipart/form-data; boundary=b\r\n";
        demo.send("POST", "/verify", kind, body.as_bytes())
    };
    let good = drop(&proof);
    assert!(
        good.status == 200 && good.body.contains("Genuine"),
        "{}",
        good.body
    );
    let bad = drop(&proof.replace("index 0", "index 1"));
    assert!(bad.body.contains("Not genuine"), "{}", bad.body);
    assert_eq!(drop("").status, 400);
}
