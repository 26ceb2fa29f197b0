//! `commonwatt check` as a person runs it.

use std::process::{Command, Output};

use crate::demo::program;

const GATEWAY: &str = r#"community = "elm-street"
gateway = "gw-1"
data_dir = "state"
operator_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

[mqtt]
host = "127.0.0.1"
user = "gw-1"
password = "secret"

[[devices]]
name = "meter"
profile = "eastron-sdm630"
point = "home-1"
role = "connection"
rating_w = 17000
address = "192.0.2.20:502"
unit = 1

[[devices]]
name = "plug"
profile = "tasmota-energy"
point = "home-1.plug"
role = "submeter"
rating_w = 3000
prefix = "cellar"
"#;

fn check(text: &str, extra: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
    Command::new(program())
        .current_dir(folder.path())
        .args(["check", "gateway.toml"])
        .args(extra)
        .output()
        .unwrap()
}

#[test]
fn a_right_configuration_is_told_in_sentences() {
    let out = check(GATEWAY, &[]);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    for sentence in [
        "gateway.toml: gateway gw-1 of elm-street; ",
        "meter: meter (eastron-sdm630) at 192.0.2.20:502, unit 1; counts import and export; is the \
         connection of home-1: signed and settled\n",
        "plug: meter (tasmota-energy) that speaks as cellar; ",
        "  note: it is heard on tele/cellar/LWT, tele/cellar/SENSOR\n",
        "  note: without [home_mqtt] it must speak at the platform's broker",
        "  note: a password stands in the file",
        "gateway.toml has no mistakes\n",
    ] {
        assert!(said.contains(sentence), "{sentence}\n{said}");
    }
    assert!(!said.contains("secret"), "{said}");
    let out = check(GATEWAY, &["--format", "json"]);
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(found[2]["device"], "plug");
}

#[test]
fn all_mistakes_are_listed_at_once() {
    let text = GATEWAY
        .replace("unit = 1", "prefix = \"x\"")
        .replace("tasmota-energy", "tasmota");
    let out = check(&text, &[]);
    assert_eq!(out.status.code(), Some(2));
    assert!(out.stdout.is_empty());
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.contains("gateway.toml, line 17, key `address`"),
        "{said}"
    );
    assert!(
        said.contains("gateway.toml, line 22, key `profile`"),
        "{said}"
    );
    let out = check("community = 7", &[]);
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(check(GATEWAY, &["--format", "csv"]).status.code(), Some(2));
}
