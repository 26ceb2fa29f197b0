//! The API as programs meet it: what is described, what is whose, pages of lists, CSV, names of answers, errors.

use serde_json::Value;

use crate::demo::{Answer, Demo, wait_for};
use crate::people::accounts;

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("no JSON: {}", answer.body))
}

/// A token of an account, as a header line.
fn token(data: &std::path::Path, account: &str) -> String {
    let (code, said) = accounts(data, &["token", account, "--new", "test"]);
    assert_eq!(code, 0, "{said}");
    format!("Authorization: Bearer {}\r\n", said.lines().next().unwrap())
}

#[test]
fn a_home_an_operator_and_a_stranger_each_get_what_is_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("300", &data, &[]);
    let (home, operator) = (token(&data, "home-01"), token(&data, "operator"));
    let get = |path: &str, who: &str| demo.send("GET", path, who, b"");

    let me = json(&get("/api/v1/me", &home));
    assert_eq!(
        (&me["account"], &me["participant"]),
        (&"home-01".into(), &"home-01".into())
    );
    assert_eq!(get("/api/v1/me", "").status, 401);
    let delivered = wait_for("a settled interval with a trade", || {
        let trades = json(&get("/api/v1/trades", &home));
        let ids = trades["items"].as_array().unwrap().clone();
        ids.iter()
            .map(|row| row["trade"].as_str().unwrap().to_owned())
            .map(|id| json(&get(&format!("/api/v1/trades/{id}"), &home)))
            .find(|trade| !trade["delivery"].is_null())
    });
    assert!(delivered["why"].as_str().unwrap().len() > 20, "{delivered}");
    let receipt = get(delivered["receipt"].as_str().unwrap(), "");
    assert_eq!(
        receipt.status, 200,
        "whoever has its address can read a receipt"
    );
    assert!(receipt.body.contains("commonwatt-receipt/v1"));
    let proofs = format!("{}/proof", delivered["receipt"].as_str().unwrap());
    let proofs = json(&get(&proofs, ""));
    let proofs = proofs["items"].as_array().unwrap();
    let of_trade = proofs.iter().find(|one| one["entry"] == "trade").unwrap();
    let file = folder.path().join("trade.tlog-proof");
    std::fs::write(&file, of_trade["proof"].as_str().unwrap()).unwrap();
    let checked = std::process::Command::new(crate::demo::program())
        .args(["verify", file.to_str().unwrap(), "--key"])
        .arg(data.join("operator.pub"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");

    // What is one home's is nobody else's.
    let own = [
        "/api/v1/participants/home-01",
        "/api/v1/meters/home-01.meter/readings",
        "/api/v1/orders",
        "/api/v1/deliveries",
        "/api/v1/meters",
        "/api/v1/statements/2026-06",
    ];
    for path in own {
        assert_eq!(get(path, &home).status, 200, "{path}");
        assert_eq!(get(path, "").status, 404, "{path}");
    }
    let others = [
        "/api/v1/participants/home-02",
        "/api/v1/meters/home-02.meter/readings",
        "/api/v1/meters/feeder.meter/readings",
        "/api/v1/feeders",
        "/api/v1/data_quality",
        "/api/v1/incidents",
        "/api/v1/audit",
    ];
    for path in others {
        assert_eq!(get(path, &home).status, 404, "{path}");
        assert_eq!(get(path, "").status, 404, "{path}");
    }
    let anybody = json(&get("/api/v1/trades", ""));
    for row in anybody["items"].as_array().unwrap() {
        assert!(row["trade"].is_null() && row["side"].is_null() && row["receipt"].is_null());
    }
    assert!(!get("/api/v1/trades", "").body.contains("home-"));
    an_operator_opens_an_incident(&demo, &operator);
    wishes_alarms_and_runs(&demo, &data, (&home, &operator));
    own_settings(&demo, (&home, &operator));
    limits_and_what_they_would_mean(&demo, &operator);
    a_researcher_begins_a_run(&demo, &token(&data, "researcher"));
    lists_and_errors(&demo, &home);
}

fn an_operator_opens_an_incident(demo: &Demo, operator: &str) {
    let get = |path: &str| demo.send("GET", path, operator, b"");
    for path in [
        "/api/v1/feeders/feeder.meter/series",
        "/api/v1/data_quality",
    ] {
        let list = json(&get(path));
        assert!(!list["items"].as_array().unwrap().is_empty(), "{path}");
    }
    let series = json(&get("/api/v1/feeders/feeder.meter/series"));
    let row = &series["items"][0];
    assert!(
        row["homes"].as_i64() < Some(5) || row["homes_import_wh"].is_i64(),
        "{row}"
    );
    let one_home = "/api/v1/meters/home-03.meter/readings";
    assert_eq!(get(one_home).status, 404);
    let post = |key: &str, body: &str| {
        let headers =
            format!("{operator}Content-Type: application/json\r\nIdempotency-Key: {key}\r\n");
        demo.send("POST", "/api/v1/incidents", &headers, body.as_bytes())
    };
    let body = r#"{"participant": "home-03", "reason": "voltage complaint", "hours": 2}"#;
    assert_eq!(post("a", &body.replace('2', "99")).status, 422);
    let opened = post("b", body);
    assert_eq!(opened.status, 201, "{}", opened.body);
    let again = post("b", body);
    assert_eq!((again.status, &again.body), (201, &opened.body));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(post("b", &body.replace("voltage", "other")).status, 422);
    let incidents = json(&get("/api/v1/incidents"));
    assert_eq!(incidents["items"].as_array().unwrap().len(), 1, "done once");
    assert_eq!(get(one_home).status, 200);
    assert_eq!(get("/api/v1/meters/home-04.meter/readings").status, 404);
}

fn wishes_alarms_and_runs(demo: &Demo, data: &std::path::Path, (home, operator): (&str, &str)) {
    let get = |path: &str, who: &str| demo.send("GET", path, who, b"");
    let send = |method: &str, path: &str, who: &str, body: &str| {
        let headers = format!("{who}Content-Type: application/json\r\n");
        demo.send(method, path, &headers, body.as_bytes())
    };
    let wishes = "/api/v1/preferences";
    assert_eq!(
        (get(wishes, operator).status, get(wishes, "").status),
        (404, 404)
    );
    let before = json(&get(wishes, home));
    assert_eq!(before["autopilot"], "within-limits", "{before}");
    for bad in [
        r#"{"max_buy": "much", "min_sell": "0.10", "autopilot": "full"}"#,
        r#"{"max_buy": "0.20", "min_sell": "0.10", "autopilot": "wild"}"#,
        r#"{"max_buy": "0.20"}"#,
    ] {
        assert_eq!(send("PUT", wishes, home, bad).status, 422, "{bad}");
    }
    let new = r#"{"max_buy": "0.210000", "min_sell": "0.110000", "autopilot": "suggest"}"#;
    assert_eq!(send("PUT", wishes, home, new).status, 200);
    let after = json(&get(wishes, home));
    assert_eq!(after, serde_json::from_str::<Value>(new).unwrap());
    assert_eq!(send("PUT", wishes, "", new).status, 404);

    let replay = "/api/v1/preferences/replay";
    let what = r#"{"settings": [{"max_buy": "0.280000", "min_sell": "0.080000"},
        {"max_buy": "0", "min_sell": "9"}]}"#;
    let replayed = json(&send("POST", replay, home, what));
    let [open, closed] = replayed["settings"].as_array().unwrap().as_slice() else {
        panic!("two settings: {replayed}");
    };
    let traded =
        |row: &Value| row["bought_wh"].as_i64().unwrap() + row["sold_wh"].as_i64().unwrap();
    assert!(traded(open) > 0 && traded(closed) == 0, "{replayed}");
    assert_eq!(closed["better_than_utility_by"], "0.000000000");
    assert_eq!(
        send("POST", replay, home, r#"{"settings": []}"#).status,
        422
    );
    assert_eq!(send("POST", replay, "", what).status, 404);

    let alarms = json(&get("/api/v1/alarms", operator));
    assert!(
        alarms["items"].is_array() && alarms["good_per_hour"] == 6,
        "{alarms}"
    );
    assert_eq!(get("/api/v1/alarms", home).status, 404);
    let none = r#"{"alarm": "end_of_the_world", "reason": "looking into it"}"#;
    assert_eq!(send("POST", "/api/v1/alarms", operator, none).status, 404);

    let researcher = token(data, "researcher");
    let run = data.join("runs/one");
    std::fs::create_dir_all(&run).unwrap();
    let manifest = r#"{"run_id": "a", "name": "n", "version": "1", "seed": 7, "scenario_sha256": "00",
        "mechanism": "uniform-price", "start": "2026-06-21T00:00:00Z", "days": 1, "zone": "UTC", "homes": 10,
        "intervals": 96, "outcome_sha256": "ff", "files": [{"file": "kpis.csv", "bytes": 3, "rows": 1}]}"#;
    std::fs::write(run.join("manifest.json"), manifest).unwrap();
    std::fs::write(run.join("kpis.csv"), "a,b").unwrap();
    std::fs::write(run.join("secret.txt"), "no").unwrap();
    let runs = json(&get("/api/v1/runs", &researcher));
    assert_eq!(runs["items"][0]["run"], "one", "{runs}");
    let one = json(&get("/api/v1/runs/one", &researcher));
    assert_eq!(
        (&one["seed"], &one["files"][0]["file"]),
        (&7.into(), &"kpis.csv".into())
    );
    let table = |file: &str, who: &str| get(&format!("/api/v1/runs/one/tables/{file}"), who);
    assert_eq!(table("kpis.csv", &researcher).body, "a,b");
    for (file, who) in [
        ("kpis.csv", home),
        ("kpis.csv", ""),
        ("secret.txt", &researcher),
        ("..%2f..%2foperator.key", &researcher),
    ] {
        assert_eq!(table(file, who).status, 404, "{file}");
    }
    assert_eq!(get("/api/v1/runs/..", &researcher).status, 404);
}

/// What an account chooses for itself, and that nobody changes what has changed meanwhile.
fn own_settings(demo: &Demo, (home, operator): (&str, &str)) {
    let me = "/api/v1/me";
    let patch = |who: &str, headers: &str, body: &str| {
        let headers = format!("{who}{headers}Content-Type: application/json\r\n");
        demo.send("PATCH", me, &headers, body.as_bytes())
    };
    let first = demo.send("GET", me, home, b"");
    let tag = format!("If-Match: {}\r\n", first.header("etag").unwrap());
    assert_eq!(json(&first)["compared"], true, "the demo's homes are");
    let page = || demo.send("GET", "/home", home, b"").body;
    assert!(page().contains("<html lang=\"en\""));
    let german = patch(home, &tag, r#"{"language": "de", "compared": false}"#);
    assert_eq!(german.status, 200, "{}", german.body);
    let now = demo.send("GET", me, home, b"");
    assert_eq!(
        (&now.body, now.header("etag")),
        (&german.body, german.header("etag"))
    );
    assert_eq!(
        (&json(&now)["language"], &json(&now)["compared"]),
        (&"de".into(), &false.into())
    );
    assert!(page().contains("<html lang=\"de\""));
    assert_eq!(
        patch(home, &tag, r#"{"language": "fr"}"#).status,
        412,
        "it has changed"
    );
    for (who, body, status) in [
        (home, r#"{"language": "xx"}"#, 422),
        (home, r#"{"roles": ["operator"]}"#, 422),
        (operator, r#"{"compared": true}"#, 422),
        ("", r#"{"language": "de"}"#, 401),
        (home, r#"{"language": null}"#, 200),
    ] {
        let answer = patch(who, "", body);
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    assert!(json(&demo.send("GET", me, home, b""))["language"].is_null());
    let stale = "If-Match: \"abc\"\r\nContent-Type: application/json\r\n";
    let wishes = r#"{"max_buy": "0.21", "min_sell": "0.11", "autopilot": "full"}"#;
    let path = "/api/v1/preferences";
    let answer = demo.send("PUT", path, &format!("{home}{stale}"), wishes.as_bytes());
    assert_eq!(answer.status, 412);
}

fn limits_and_what_they_would_mean(demo: &Demo, operator: &str) {
    let get = |path: &str| demo.send("GET", path, operator, b"");
    for path in ["/api/v1/limits", "/api/v1/activations"] {
        assert!(json(&get(path))["items"].is_array(), "{path}");
        let csv = demo.send("GET", path, &format!("{operator}Accept: text/csv\r\n"), b"");
        assert!(
            csv.body.starts_with("command,gateway,device,set_point"),
            "{}",
            csv.body
        );
    }
    let preview = "/api/v1/limits/preview";
    let none = json(&get(&format!("{preview}?import_w=900000&export_w=900000")));
    assert_eq!(
        (&none["beyond"], &none["energy_wh"]),
        (&0.into(), &0.into())
    );
    let all = json(&get(&format!("{preview}?import_w=0&export_w=0")));
    assert!(all["beyond"].as_u64() > Some(0), "{all}");
    assert_eq!(all["intervals"], none["intervals"]);
    for bad in [
        "",
        "?import_w=-1",
        "?import_w=1&from=noon",
        "?import_w=1&to=2020-01-01T00:00:00Z",
    ] {
        assert_eq!(get(&format!("{preview}{bad}")).status, 400, "{bad}");
    }
}

fn a_researcher_begins_a_run(demo: &Demo, researcher: &str) {
    let begin = |body: &str| {
        let headers = format!("{researcher}Content-Type: application/json\r\n");
        demo.send("POST", "/api/v1/runs", &headers, body.as_bytes())
    };
    assert_eq!(begin(r#"{"scenario": "../../etc"}"#).status, 422);
    let body = r#"{"scenario": "street-10", "days": 1, "seed": 9}"#;
    let begun = begin(body);
    assert_eq!(begun.status, 202, "{}", begun.body);
    let place = begun.header("location").unwrap();
    let run = wait_for("the run", || {
        let answer = demo.send("GET", place, researcher, b"");
        assert!([200, 202].contains(&answer.status), "{}", answer.body);
        (answer.status == 200).then(|| json(&answer))
    });
    assert_eq!(
        (&run["seed"], &run["days"]),
        (&9.into(), &1.into()),
        "{run}"
    );
    assert_eq!(begin(body).status, 200, "it is made once");
}

fn lists_and_errors(demo: &Demo, home: &str) {
    let send = |method: &str, path: &str, headers: &str| {
        demo.send(method, path, &format!("{home}{headers}"), b"")
    };
    // Two pages of one are the page of two.
    let both = json(&send("GET", "/api/v1/intervals?limit=2", ""));
    let first = json(&send("GET", "/api/v1/intervals?limit=1", ""));
    let next = first["next"].as_str().unwrap();
    let to = both["items"][0]["start"].as_str().unwrap();
    let second = json(&send(
        "GET",
        &format!("/api/v1/intervals?limit=1&after={to}"),
        "",
    ));
    assert!(next >= to, "newest first");
    assert_eq!(second["items"][0], both["items"][1]);
    for path in ["/api/v1/orders", "/api/v1/trades", "/api/v1/deliveries"] {
        let all = json(&send("GET", &format!("{path}?limit=1000"), ""));
        let all = all["items"].as_array().unwrap();
        let mut walked: Vec<Value> = Vec::new();
        let mut after = String::new();
        while walked.len() < 3 {
            let page = json(&send("GET", &format!("{path}?limit=1{after}"), ""));
            walked.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        for row in &walked {
            assert!(all.contains(row) || row["start"].as_str() > all[0]["start"].as_str());
        }
        let mut names: Vec<String> = walked.iter().map(ToString::to_string).collect();
        names.dedup();
        assert_eq!(names.len(), walked.len(), "{path}: a row came twice");
        let csv = send("GET", path, "Accept: text/csv\r\n");
        assert!(csv.header("content-type").unwrap().starts_with("text/csv"));
        assert!(
            csv.body.lines().next().unwrap().contains(",start,") || csv.body.starts_with("start,")
        );
    }
    let named = send("GET", "/api/v1/ledger/keys", "");
    let tag = named.header("etag");
    assert!(tag.is_some(), "{}", named.head);
    let old = json(&send(
        "GET",
        "/api/v1/intervals?limit=1&to=2026-06-21T12:00:00Z",
        "",
    ));
    assert!(old["next"].is_string() || old["items"].as_array().unwrap().is_empty());
    let path = "/api/v1/intervals?to=2000-01-01T00:00:00Z";
    let tag = send("GET", path, "").header("etag").unwrap().to_owned();
    let known = send("GET", path, &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    let head = send("HEAD", path, "");
    assert_eq!(
        (head.status, head.header("etag")),
        (200, Some(tag.as_str()))
    );
    let options = send("OPTIONS", path, "");
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("GET,HEAD"))
    );

    for (method, path, headers, status) in [
        ("DELETE", "/api/v1/intervals", "", 405),
        ("GET", "/api/v1/intervals", "Accept: image/png\r\n", 406),
        // Whoever may open none is not told what a body needs.
        ("POST", "/api/v1/incidents", "", 404),
        ("GET", "/api/v1/intervals?limit=0", "", 400),
        ("GET", "/api/v1/intervals?limit=x", "", 400),
        ("GET", "/api/v1/intervals?colour=red", "", 400),
        ("GET", "/api/v1/intervals?from=yesterday", "", 400),
        ("GET", "/api/v1/intervals/2026-06-21T12:00:01Z", "", 404),
        ("GET", "/api/v1/intervals/noon", "", 400),
        ("GET", "/api/v1/trades?after=x", "", 404),
        ("GET", "/api/v1/nothing", "", 404),
    ] {
        let refused = send(method, path, headers);
        assert_eq!(refused.status, status, "{method} {path}: {}", refused.body);
        assert_eq!(
            refused.header("content-type"),
            Some("application/problem+json")
        );
        let body = json(&refused);
        let words = body["detail"].as_str().unwrap().len();
        assert!(
            words > 10 && body["reference"].as_str().unwrap().len() == 16,
            "{body}"
        );
    }
    let described = json(&send("GET", "/api/v1/openapi.json", ""));
    assert!(described["paths"]["/api/v1/trades/{id}"]["get"].is_object());
    let metrics = send("GET", "/metrics", "").body;
    assert!(
        metrics.contains("commonwatt_log_entries{log=\"ledger\"}"),
        "{metrics}"
    );
    assert!(!metrics.contains("home-"), "{metrics}");
}
