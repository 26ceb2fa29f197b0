//! Tokens in and out as two operators meet them on the command line, and as the household sees them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::demo::{Demo, program};
use crate::people::accounts;

/// A new API token of an account.
fn token(data: &Path, account: &str) -> String {
    let (code, said) = accounts(data, &["token", account, "--new", "test"]);
    assert_eq!(code, 0, "{said}");
    said.lines().next().unwrap().to_owned()
}

/// `commonwatt tokens` with an account's API token: exit code, and what it says.
fn tokens(demo: &Demo, token: &str, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(program());
    command.arg("tokens").args(args);
    command.args([
        "--url",
        &format!("http://{}", demo.address),
        "--format",
        "json",
    ]);
    let out = command.env("COMMONWATT_TOKEN", token).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap(), said)
}

/// The one request that a command speaks of.
fn request((code, said): (i32, String)) -> Value {
    assert_eq!(code, 0, "{said}");
    let all: Value = serde_json::from_str(&said).unwrap();
    all[0].clone()
}

#[test]
fn one_operator_asks_another_confirms_and_the_household_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("60", &data, &[]);
    let (code, said) = accounts(&data, &["add", "bookkeeper", "--role", "operator"]);
    assert_eq!(code, 0, "{said}");
    let (one, other, home) = (
        token(&data, "operator"),
        token(&data, "bookkeeper"),
        token(&data, "home-01"),
    );
    let of_home = ["--participant", "home-01"];
    let ask =
        |what: &str, rest: &[&str]| tokens(&demo, &one, &[&[what], &of_home[..], rest].concat());
    let confirm = |who: &str, id: &str| tokens(&demo, who, &["confirm", id]);
    let id = |request: &Value| request["id"].as_str().unwrap().to_owned();

    let (code, said) = ask("withdraw", &["--amount", "1", "--reference", "out-1"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("paid to"), "{said}");
    let deposit = request(ask(
        "deposit",
        &["--amount", "7.25", "--reference", "bank-1"],
    ));
    assert_eq!(deposit["state"], "open");
    let (code, said) = confirm(&one, &id(&deposit));
    assert!(code == 1 && said.contains("another operator"), "{said}");
    assert_eq!(confirm(&home, &id(&deposit)).0, 1, "no household confirms");
    assert_eq!(
        request(confirm(&other, &id(&deposit)))["state"],
        "confirmed"
    );

    let payout = request(ask(
        "payout",
        &["--to", "DE02 1203", "--reference", "form-1"],
    ));
    assert_eq!(request(confirm(&other, &id(&payout)))["state"], "confirmed");
    let (code, said) = ask("withdraw", &["--amount", "100000", "--reference", "out-2"]);
    assert!(code == 1 && said.contains("can spend"), "{said}");
    let out = request(ask(
        "withdraw",
        &["--amount", "1.5", "--reference", "out-3"],
    ));
    assert_eq!(
        (&out["payout"], &out["state"]),
        (&"DE02 1203".into(), &"open".into())
    );
    let back = request(tokens(&demo, &one, &["cancel", &id(&out)]));
    assert_eq!(back["state"], "cancelled");
    let out = request(ask("withdraw", &["--amount", "2", "--reference", "out-4"]));
    assert_eq!(request(confirm(&other, &id(&out)))["state"], "confirmed");

    // The household sees its own requests, a stranger none, and the operators' deeds are written down.
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let seen = demo.send("GET", "/api/v1/tokens/requests", &bearer(&home), b"");
    let seen: Value = serde_json::from_str(&seen.body).unwrap();
    let states: Vec<&str> = seen["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["state"].as_str().unwrap())
        .collect();
    assert_eq!(states.len(), 4, "{seen}");
    let nobody = demo.send("GET", "/api/v1/tokens/requests", "", b"");
    assert_eq!(nobody.status, 404);
    let (code, deeds) = accounts(&data, &["audit"]);
    assert_eq!(code, 0, "{deeds}");
    for deed in [
        "tokens asked for",
        "tokens confirmed",
        "tokens cancelled",
        "bookkeeper",
    ] {
        assert!(deeds.contains(deed), "{deed}: {deeds}");
    }
}

#[test]
fn without_an_operators_token_it_says_what_is_missing() {
    let mut command = Command::new(program());
    command
        .args(["tokens", "list"])
        .env_remove("COMMONWATT_TOKEN");
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("COMMONWATT_TOKEN"), "{said}");
}
