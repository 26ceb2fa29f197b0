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
    take_by(demo, offer, &format!("Idempotency-Key: {offer}\r\n"))
}

fn take_by(demo: &Demo, offer: &str, key: &str) -> (u16, Value) {
    let kind = format!("Content-Type: application/json\r\n{key}");
    let body = format!(r#"{{"offer": "{offer}"}}"#);
    let answer = demo.send("POST", "/api/v1/sessions", &kind, body.as_bytes());
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
        let charges = |c: &&Value| c["free"] == true && c["power_w"].as_i64() > Some(1_000);
        items.find(charges).cloned()
    });
    let id = charger["id"].as_str().unwrap();
    let kind = "Content-Type: application/json\r\n";
    let path = format!("/api/v1/chargers/{id}/offers");
    let told = demo.send("POST", &path, kind, br#"{"energy_wh": 20000}"#);
    assert_eq!(told.status, 200, "{}", told.body);
    let told: Value = serde_json::from_str(&told.body).unwrap();
    let asked = json(&demo, &format!("{path}?energy_wh=20000"));
    assert_eq!(asked["offers"].as_array().unwrap().len(), 3, "{asked}");
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
    // A driver without an account whose first answer was lost sends it again with its key, and gets the same session.
    assert_eq!(take(&demo, offer(0)), (201, session.clone()));
    assert_eq!(session["held"], offers[0]["ceiling"]);
    assert_eq!(
        take_by(&demo, offer(0), "").0,
        409,
        "an offer is taken once"
    );
    let other = "Idempotency-Key: car-1\r\n";
    assert_eq!(take_by(&demo, "another", other).0, 409);
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

    shares(&demo, &data, &charger, nano(&ended["total"]));
}

/// The host and the operator see what the station brought, each share and whether it is worth its costs; others see
/// nothing of it.
fn shares(demo: &Demo, data: &std::path::Path, charger: &Value, paid: i64) {
    let [id, host] = ["id", "host"].map(|key| charger[key].as_str().unwrap());
    let path = format!("/api/v1/stations/{id}/months/2026-06");
    let page = format!("/stations/{id}/2026-06");
    let other = demo.sign_in("home-01");
    for path in [&path, &page] {
        assert_eq!(demo.get(path).0, 404);
        assert_eq!(demo.send("GET", path, &other, b"").status, 404);
    }
    let add = ["add", "host", "--role", "home", "--participant", host];
    assert_eq!(accounts(data, &add).0, 0);
    let (_, said) = accounts(data, &["token", "host", "--new", "reader", "--read-only"]);
    let token = said.lines().next().unwrap();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let list = demo.send("GET", "/api/v1/stations", &bearer, b"").body;
    assert!(list.contains(id) && list.contains(&path), "{list}");
    let told = demo.send("GET", &path, &bearer, b"");
    let told: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(told["sessions"], 1, "{told}");
    assert_eq!(nano(&told["revenue"]), paid, "{told}");
    let shares = told["shares"].as_array().unwrap();
    let (passed, outside) = (&told["passed_through"], &told["outside_of_sessions"]);
    let parts = [
        &passed["tax"],
        &passed["energy"],
        &passed["network_fee"],
        &outside["energy"],
        &outside["network_fee"],
    ];
    let parts = parts.into_iter().chain(shares.iter().map(|s| &s["amount"]));
    assert_eq!(parts.map(nano).sum::<i64>(), paid, "{told}");
    assert_eq!(told["profit"]["maintenance"], "5.00", "{told}");
    let tried = format!("{path}?maintenance_per_year=0&capital_per_year=1.20");
    let tried = demo.send("GET", &tried, &bearer, b"");
    let tried: Value = serde_json::from_str(&tried.body).unwrap();
    assert_eq!(tried["profit"]["capital"], "0.10", "{tried}");
    let wrong = format!("{path}?capital_per_year=-1");
    assert_eq!(demo.send("GET", &wrong, &bearer, b"").status, 400);

    let csv = format!("{bearer}Accept: text/csv\r\n");
    let csv = demo.send("GET", &path, &csv, b"").body;
    assert!(
        csv.starts_with("station,month,group,item,amount,currency\n"),
        "{csv}"
    );
    assert!(csv.contains(",share,community,"), "{csv}");
    let home = demo.send("GET", "/home", &bearer, b"").body;
    assert!(home.contains("href=\"/stations\""), "{home}");
    let list = demo.send("GET", "/stations", &bearer, b"").body;
    assert!(
        list.contains(&page) && list.contains("Your share"),
        "{list}"
    );
    let (_, said) = accounts(
        data,
        &["token", "operator", "--new", "reader", "--read-only"],
    );
    let operator = format!("Authorization: Bearer {}\r\n", said.lines().next().unwrap());
    let german = format!("{operator}Accept-Language: de\r\n");
    let told = demo.send("GET", &page, &german, b"").body;
    for word in [
        "Wohin es ging",
        "die Gemeinschaft",
        "Lohnt sie sich?",
        "bisher",
    ] {
        assert!(
            told.to_lowercase().contains(&word.to_lowercase()),
            "{word}: {told}"
        );
    }
    let list = demo.send("GET", "/stations", &operator, b"").body;
    assert!(
        list.contains(&page) && list.contains("The community’s share"),
        "{list}"
    );
    assert!(
        demo.send("GET", "/grid", &operator, b"")
            .body
            .contains("href=\"/stations\"")
    );
    assert_eq!(demo.get("/stations").0, 404);

    let mut command = std::process::Command::new(program());
    let command = command.args(["stations", id, "--month", "2026-06", "--format", "json"]);
    let out = command.arg("--data-dir").arg(data).output().unwrap();
    let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    assert_eq!(out.status.code(), Some(0), "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(nano(&said[0]["revenue"]), paid, "{said}");
}

/// The street's public station has a connection of its own: what its car takes is ordered, traded and settled at the
/// demo's pace, and its owners have what is left.
#[test]
fn a_public_station_buys_its_cars_energy_from_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("300", &data, &["--no-drivers"]);
    let id = "station-home-09.charger";
    wait_for("a car at the public station", || {
        let list = json(&demo, "/api/v1/chargers");
        let mut items = list["items"].as_array().unwrap().iter();
        let own = items.find(|c| c["id"] == id).unwrap();
        assert_eq!(own["buys_itself"], true, "{own}");
        (own["power_w"].as_i64() > Some(1_000)).then_some(())
    });
    let told = json(
        &demo,
        &format!("/api/v1/chargers/{id}/offers?energy_wh=11000"),
    );
    let (status, session) = take(&demo, told["offers"][0]["offer"].as_str().unwrap());
    assert_eq!(status, 201, "{session}");
    let name = session["id"].as_str().unwrap();
    // What the receipt tells of neighbours is what the settlement lines say, which the ledger log proves.
    let path = format!("/api/v1/sessions/{name}");
    wait_for("an hour of charging", || {
        (json(&demo, &path)["energy_wh"].as_i64() > Some(6_000)).then_some(())
    });
    let ended = demo.send("DELETE", &path, "", b"").body;
    let ended: Value = serde_json::from_str(&ended).unwrap();
    let receipt = wait_for("settled energy from neighbours under a checkpoint", || {
        let receipt = demo.get(&format!("/sessions/{name}/receipt.json")).1;
        let told: Value = serde_json::from_str(&receipt).ok()?;
        let told = told.to_string();
        (told.contains("local_wh") && receipt.matches("\"log\":").count() == 2).then_some(receipt)
    });
    let file = data.join("public.json");
    std::fs::write(&file, receipt).unwrap();
    let mut command = std::process::Command::new(program());
    let command = command.arg("verify").arg(&file).arg("--key");
    let out = command.arg(data.join("operator.pub")).output().unwrap();
    let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    assert_eq!(out.status.code(), Some(0), "{said}");
    let (before, _) = said.split_once(" Wh from neighbours, by").expect(&said);
    let local_wh = before.split_whitespace().rev().nth(2).unwrap();
    assert!(local_wh.parse::<i64>().unwrap() > 0, "{said}");
    assert!(bought_wh(&data.join("commonwatt.db"), "station-home-09") > 0);

    let token = demo.sign_in("operator");
    let month = format!("/api/v1/stations/{id}/months/2026-06");
    let told = demo.send("GET", &month, &token, b"");
    let told: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(told["revenue"], ended["total"], "{told}");
    let passed = &told["passed_through"];
    assert!(
        nano(&passed["energy"]) > 0 && nano(&passed["network_fee"]) > 0,
        "{told}"
    );
}

/// What a participant bought in the auction at all.
#[tokio::main(flavor = "current_thread")]
async fn bought_wh(file: &std::path::Path, buyer: &str) -> i64 {
    let db = runtime::db::Db::open(file.to_str().unwrap()).await.unwrap();
    let buyer = domain::ids::ParticipantId::new(buyer).unwrap();
    let ever = domain::time::Timestamp::from_unix_s(4_000_000_000);
    let start = domain::time::Timestamp::EPOCH;
    let trades = market_engine::service::trades_of(&db, &buyer, start, ever, 100).await;
    let trades = trades.unwrap();
    db.close().await;
    trades
        .iter()
        .filter(|t| t.buyer == buyer)
        .map(|t| t.energy.wh())
        .sum()
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
