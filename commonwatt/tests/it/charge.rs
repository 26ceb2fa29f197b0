//! A car at a charger of the demo's street: offers, a session, its end, its receipt, and what is refused.

use serde_json::Value;

use crate::demo::{Demo, program, wait_for};
use crate::people::accounts;

fn json(demo: &Demo, path: &str) -> Value {
    let (status, body) = demo.get(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Takes an offer; the status and the answer.
fn take(demo: &Demo, offer: &str) -> (u16, Value) {
    let kind = "Content-Type: application/json\r\n";
    let body = format!(r#"{{"offer": "{offer}"}}"#);
    let answer = demo.send("POST", "/api/v1/sessions", kind, body.as_bytes());
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

fn nano(text: &Value) -> i64 {
    let money: domain::money::Money = text.as_str().unwrap().parse().unwrap();
    money.nano()
}

#[test]
fn a_car_is_charged_below_its_ceiling_and_the_receipt_proves_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("300", &data, &[]);
    let charger = wait_for("a car that charges", || {
        let list = json(&demo, "/api/v1/chargers");
        let mut items = list["items"].as_array().unwrap().iter();
        items.find(|c| c["power_w"].as_i64() > Some(1_000)).cloned()
    });
    let id = charger["id"].as_str().unwrap();
    let told = json(
        &demo,
        &format!("/api/v1/chargers/{id}/offers?energy_wh=20000"),
    );
    assert!(told["prices"].as_array().unwrap().len() >= 48);
    let offers = told["offers"].as_array().unwrap();
    let choices: Vec<&str> = offers
        .iter()
        .map(|o| o["choice"].as_str().unwrap())
        .collect();
    assert_eq!(choices, ["now", "cheapest", "most_local"]);
    assert!(
        offers
            .iter()
            .all(|o| nano(&o["expected"]) <= nano(&o["ceiling"]))
    );
    assert!(nano(&offers[1]["expected"]) <= nano(&offers[0]["expected"]));

    let offer = |n: usize| offers[n]["offer"].as_str().unwrap();
    let (status, session) = take(&demo, offer(0));
    assert_eq!(status, 201, "{session}");
    assert_eq!(session["held"], offers[0]["ceiling"]);
    assert_eq!(take(&demo, offer(0)).0, 409, "an offer is taken once");
    assert_eq!(take(&demo, offer(1)).0, 409, "the charger is taken");
    let (page, text) = demo.get(&format!("/charge/{id}"));
    assert!(page == 200 && text.contains("Another car"), "{text}");

    let path = format!("/api/v1/sessions/{}", session["id"].as_str().unwrap());
    changed(&demo, &path, &session);
    wait_for("energy in the car", || {
        (json(&demo, &path)["energy_wh"].as_i64() > Some(0)).then_some(())
    });
    let ended = demo.send("DELETE", &path, "", b"");
    let ended: Value = serde_json::from_str(&ended.body).unwrap();
    assert_eq!(
        (&ended["state"], &ended["held"]),
        (&"closed".into(), &"0.00".into()),
        "{ended}"
    );
    assert!(nano(&ended["total"]) > 0 && nano(&ended["total"]) <= nano(&ended["ceiling"]));
    let again = demo.send("DELETE", &path, "", b"");
    assert_eq!(again.status, 200, "stopping twice is stopping once");
    let page = format!("/sessions/{}", session["id"].as_str().unwrap());
    assert!(demo.get(&page).1.contains("Stopped."));
    assert_eq!(demo.get("/sessions/0123456789abcdef").0, 404);
    checked(&demo, &data, &page);
    as_people_read_it(&demo, id, session["id"].as_str().unwrap());

    // The host sees what the station brought; others see nothing of it.
    let host = charger["host"].as_str().unwrap();
    let month = format!("/api/v1/chargers/{id}/income?month=2026-06");
    assert_eq!(demo.get(&month).0, 404);
    let other = demo.sign_in("home-01");
    assert_eq!(demo.send("GET", &month, &other, b"").status, 404);
    let add = ["add", "host", "--role", "home", "--participant", host];
    assert_eq!(accounts(&data, &add).0, 0);
    let (_, said) = accounts(&data, &["token", "host", "--new", "reader", "--read-only"]);
    let token = said.lines().next().unwrap();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let income = demo.send("GET", &month, &bearer, b"");
    let income: Value = serde_json::from_str(&income.body).unwrap();
    assert_eq!(income["sessions"], 1, "{income}");
    let parts = [
        &income["tax"],
        &income["energy_cost"],
        &income["owners"][host],
        &income["owners"]["community"],
    ];
    let sum: i64 = parts.into_iter().map(nano).sum();
    assert_eq!(sum, nano(&ended["total"]), "{income}");
}

/// The pages of charger, session and receipt: in the reader's language and the site's time, for anybody who has the
/// address.
fn as_people_read_it(demo: &Demo, charger: &str, session: &str) {
    let german = "Accept-Language: de\r\n";
    let page = |path: &str, headers: &str| {
        let answer = demo.send("GET", path, headers, b"");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    };
    let told = page(&format!("/charge/{charger}?kwh=7,5"), german);
    for word in ["alles inklusive", "Am günstigsten", "7,50\u{a0}kWh", "€"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let wrong = demo.send("GET", &format!("/charge/{charger}?kwh=many"), "", b"");
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("“many” is no energy"), "{}", wrong.body);
    let told = page(&format!("/sessions/{session}"), german);
    for word in ["Beendet.", "Beleg öffnen", "Eingesteckt", "Obergrenze"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let told = page(&format!("/receipts/{session}"), german);
    for word in [
        "echt ✓",
        "Der Betreiber hat genau diesen Text signiert",
        "Zähler",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let file = demo.get(&format!("/receipts/{session}.json"));
    assert_eq!(file.0, 200);
    assert_eq!(
        file.1,
        demo.get(&format!("/sessions/{session}/receipt.json")).1
    );
    assert_eq!(demo.get("/receipts/0123456789abcdef").0, 404);
    // A driver's own page lists what was begun there, and nobody else's.
    let driver = demo.sign_in("driver");
    let told = page("/driver", &driver);
    assert!(
        told.contains("Nothing charged") && !told.contains(session),
        "{told}"
    );
    assert_eq!(
        demo.send("GET", "/driver", &demo.sign_in("operator"), b"")
            .status,
        404
    );
    let offer = page(&format!("/charge/{charger}"), &driver);
    let offer = offer.split("name=\"offer\" value=\"").nth(1).unwrap();
    let body = format!("offer={}", offer.split('"').next().unwrap());
    let form = format!("{driver}Content-Type: application/x-www-form-urlencoded\r\n");
    let begun = demo.send(
        "POST",
        &format!("/charge/{charger}"),
        &form,
        body.as_bytes(),
    );
    assert_eq!(begun.status, 303, "{}", begun.body);
    let path = begun.header("location").unwrap().to_owned();
    assert!(page("/driver", &driver).contains(&path));
    let again = demo.send(
        "POST",
        &format!("/charge/{charger}"),
        &form,
        body.as_bytes(),
    );
    assert_eq!(again.status, 400);
    assert!(
        again.body.contains("does not stand any more"),
        "{}",
        again.body
    );
    let foreign = format!("{form}Sec-Fetch-Site: cross-site\r\n");
    let stop = format!("{path}/stop");
    assert_eq!(demo.send("POST", &stop, &foreign, b"").status, 403);
    assert_eq!(demo.send("POST", &stop, &form, b"").status, 303);
}

/// The driver wants more, and agrees to what it may cost.
fn changed(demo: &Demo, path: &str, session: &Value) {
    let kind = "Content-Type: application/json\r\n";
    let patch = |body: &str| {
        let answer = demo.send("PATCH", path, kind, body.as_bytes());
        (
            answer.status,
            serde_json::from_str::<Value>(&answer.body).unwrap(),
        )
    };
    assert_eq!(patch(r#"{"energy_wh": 0}"#).0, 400);
    assert_eq!(patch(r#"{"by": "2026-01-01T00:00:00Z"}"#).0, 422);
    // What does not fit until the time that was told needs another one.
    assert_eq!(patch(r#"{"energy_wh": 60000}"#).0, 422);
    let by = json(demo, path)["ready_by"].as_str().unwrap().to_owned();
    let first: domain::time::Timestamp = by.parse().unwrap();
    let by = first.plus_s(3 * 3_600);
    let (status, told) = patch(&format!(r#"{{"energy_wh": 30000, "by": "{by}"}}"#));
    assert_eq!(status, 409, "{told}");
    let detail = told["detail"].as_str().unwrap();
    let (_, agreed) = detail.split_once("send `ceiling` \"").unwrap();
    let (agreed, _) = agreed.split_once('"').unwrap();
    let before = json(demo, path);
    assert_eq!(
        (&before["held"], &before["wanted_wh"]),
        (&session["ceiling"], &20_000.into())
    );
    // A cent more, since time goes on between the two.
    let more = agreed.parse::<domain::money::Money>().unwrap().nano() + 1_000_000_000;
    let more = domain::money::Money::from_nano(more);
    let (status, now) = patch(&format!(
        r#"{{"energy_wh": 30000, "by": "{by}", "ceiling": "{more}"}}"#
    ));
    assert_eq!(status, 200, "{now}");
    assert_eq!(
        (&now["held"], &now["wanted_wh"]),
        (&now["ceiling"], &30_000.into())
    );
    assert!(nano(&now["ceiling"]) > nano(&session["ceiling"]));
    // Less is wanted: the ceiling stays.
    let (status, less) = patch(&format!(r#"{{"energy_wh": 10000, "by": "{first}"}}"#));
    assert_eq!((status, &less["ceiling"]), (200, &now["ceiling"]), "{less}");
}

/// The receipt and the OCMF text, as they are and changed.
fn checked(demo: &Demo, data: &std::path::Path, page: &str) {
    let verify = |name: &str, text: &str, key: &str| {
        let file = data.join(name);
        std::fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new(program());
        let out = command.arg("verify").arg(&file).args(["--key", key]);
        let out = out.output().unwrap();
        let told = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        (out.status.code(), told)
    };
    let operator = data.join("operator.pub").display().to_string();
    let receipt = demo.get(&format!("{page}/receipt.json")).1;
    let (code, told) = verify("charged.json", &receipt, &operator);
    assert_eq!(code, Some(0), "{told}");
    // Once a checkpoint reaches them: both readings in the log, by a key that the operator let sign for the station.
    let receipt = wait_for("a checkpoint over the session's readings", || {
        let receipt = demo.get(&format!("{page}/receipt.json")).1;
        (receipt.matches("\"log\":").count() == 2).then_some(receipt)
    });
    let (code, told) = verify("charged.json", &receipt, &operator);
    assert_eq!(code, Some(0), "{told}");
    for step in ["which the operator let sign", "readings log"] {
        assert!(told.contains(step), "{step}: {told}");
    }
    let forged = receipt.replacen("\"ended\":\"stopped\"", "\"ended\":\"expired\"", 1);
    let (code, told) = verify("forged.json", &forged, &operator);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("changed after the operator signed"), "{told}");
    let text = demo.get(&format!("{page}/session.ocmf")).1;
    let key = json(demo, "/api/v1/chargers");
    let (code, told) = verify("session.ocmf", &text, key["ocmf_key"].as_str().unwrap());
    assert_eq!(code, Some(0), "{told}");
}
