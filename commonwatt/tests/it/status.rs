//! `commonwatt gateway status` where no gateway runs.

use std::path::Path;
use std::process::{Command, Output};

use crate::demo::program;

const CONFIG: &str = r#"
community = "elm-street"
gateway = "gw-1"
data_dir = "state"
operator_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
mqtt = { host = "127.0.0.1", user = "gw-1" }

[[devices]]
name = "meter"
profile = "eastron-sdm630"
point = "home-1"
role = "connection"
rating_w = 17000
address = "127.0.0.1:1502"
"#;

fn status(config: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(["gateway", "status", "--config"]).arg(config);
    command.args(more).output().unwrap()
}

#[test]
fn a_gateway_that_does_not_run_is_said_to_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("gateway.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let told = status(&config, &[]);
    let (said, warned) = (
        String::from_utf8(told.stdout).unwrap(),
        String::from_utf8(told.stderr).unwrap(),
    );
    assert_eq!(told.status.code(), Some(3), "{warned}");
    assert!(said.contains("running   no\n"), "{said}");
    assert!(said.contains("key       none yet\n"), "{said}");
    assert!(
        warned.contains("start it with `commonwatt gateway --config"),
        "{warned}"
    );
    assert!(
        !dir.path().join("state").exists(),
        "asking makes no key and no outbox"
    );

    let told = status(&config, &["--format", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        (told.status.code(), &value["gateway"]),
        (Some(3), &"gw-1".into())
    );
    assert!(
        value["running"].is_null() && value["outbox"].is_null(),
        "{value}"
    );

    std::fs::write(&config, CONFIG.replace("rating_w", "ratingw")).unwrap();
    assert_eq!(status(&config, &[]).status.code(), Some(2));
}
