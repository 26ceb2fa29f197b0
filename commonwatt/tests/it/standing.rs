//! A standing order as its participant gives it: by the command line, through kills, until it is taken back.

use std::process::Output;

use serde_json::Value;

use crate::orders::{Serve, said, wait_for};

fn told(output: &Output, expect: &str) {
    let told = said(output);
    assert!(output.status.success() && told.contains(expect), "{told}");
}

fn standing(serve: &Serve) -> Value {
    let output = serve.order(1, &["standing", "--format", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn a_deadline_buys_gate_after_gate_through_a_kill_until_it_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = Serve::start(folder.path(), 2);
    let until = serve.interval_in(3_600).start().to_string();
    let wish = [
        "deadline",
        "--energy-wh",
        "100000",
        "--by",
        &until,
        "--power-max-w",
        "36000",
        "--limit",
        "0.20",
    ];
    told(&serve.order(1, &wish), "accepted: 100000 Wh by");
    let ordered = wait_for("its first order", || {
        let all = standing(&serve);
        let first = &all[0]["orders"][0];
        first["because"].as_str().map(str::to_owned)
    });
    assert!(ordered.starts_with("Buys 100 Wh at 0.2"), "{ordered}");
    serve.kill();
    drop(serve);
    let serve = Serve::start(folder.path(), 2);
    // A neighbour sells in some intervals to come.
    for n in 2..10 {
        let start = serve.interval_in(n * 10).start().to_string();
        let offer = [
            "place",
            "--interval",
            &start,
            "--side",
            "offer",
            "--energy-wh",
            "60",
            "--limit",
            "0.10",
        ];
        let _ = serve.order(2, &offer);
    }
    wait_for("something bought", || {
        let all = standing(&serve);
        let reached = all[0]["reached_wh"].as_i64();
        let orders = all[0]["orders"].as_array()?;
        let bought = |one: &Value| one["filled_wh"].as_i64() == Some(60);
        (reached? > 0 && orders.iter().any(bought)).then_some(())
    });
    let table = said(&serve.order(1, &["standing"]));
    assert!(
        table.contains("deadline") && table.contains("cleared"),
        "{table}"
    );
    told(
        &serve.order(1, &["withdraw", "--sequence", "1"]),
        "withdrawn",
    );
    assert_eq!(standing(&serve)[0]["state"], "withdrawn");
    assert_eq!(standing(&serve)[0]["plan"], serde_json::json!([]));
    let unknown = serve.order(1, &["withdraw", "--sequence", "9"]);
    assert_eq!(unknown.status.code(), Some(1));
}
