//! Orders that a home says in JSON, and readings that come over HTTP: both go where signed messages go.

use domain::acceptance::Acceptance;
use domain::energy::Energy;
use domain::ids::{CommunityId, DeviceId, Digest32, GatewayId, PointId};
use domain::quality::Quality;
use domain::reading::{ClockStamp, ClockState, MeasurementClass, Obis, Reading, Register};
use domain::signed::{PublicKey, Signed, SigningKey, split_sequence};
use domain::time::{Interval, Timestamp};
use serde_json::{Value, json};

use crate::orders::{Serve, agent, wait_for};
use crate::people::accounts;

/// A home that asks with its token.
struct Home<'s> {
    serve: &'s Serve,
    token: String,
}

impl<'s> Home<'s> {
    fn new(serve: &'s Serve, n: u32, more: &[&str]) -> Self {
        let (name, home) = (format!("person-{n}"), format!("home-{n}"));
        let add = ["add", &name, "--role", "home", "--participant", &home];
        let (code, said) = accounts(&serve.data, &add);
        assert_eq!(code, 0, "{said}");
        let words = [&["token", &name, "--new", "test"], more].concat();
        let (code, said) = accounts(&serve.data, &words);
        assert_eq!(code, 0, "{said}");
        let token = said.lines().next().unwrap().to_owned();
        Home { serve, token }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value, Option<String>) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.serve.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut answer = agent().run(request.body(body).unwrap()).unwrap();
        let place = answer.headers().get("location");
        let place = place.map(|place| place.to_str().unwrap().to_owned());
        let text = answer.body_mut().read_to_string().unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        (answer.status().as_u16(), json, place)
    }

    fn order(&self, body: &Value) -> (u16, Value, Option<String>) {
        self.ask("POST", "/api/v1/orders", Some(body))
    }

    fn state(&self, place: &str) -> String {
        let (status, order, _) = self.ask("GET", place, None);
        assert_eq!(status, 200, "{order}");
        order["state"].as_str().unwrap().to_owned()
    }
}

fn bid(start: Timestamp, energy_wh: i64) -> Value {
    json!({ "side": "bid", "start": start.to_string(), "energy_wh": energy_wh, "limit_price": "0.20" })
}

#[test]
fn a_home_orders_in_json_changes_takes_back_and_trades() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(folder.path(), 2);
    let (ann, bob) = (Home::new(&serve, 1, &[]), Home::new(&serve, 2, &[]));
    let start = serve.interval_in(40).start();
    let (status, said, place) = ann.order(&bid(start, 500));
    assert_eq!((status, &said["in_book"]), (201, &true.into()), "{said}");
    let first = place.unwrap();
    assert_eq!(ann.state(&first), "standing");
    // It is there for nobody else, and another's token does not take it out.
    assert_eq!(bob.ask("GET", &first, None).0, 404);
    assert_eq!(bob.ask("DELETE", &first, None).0, 404);

    let mut more = bid(start, 600);
    more["replaces"] = said["order"].clone();
    assert_eq!(bob.order(&more).0, 404, "another's order");
    let (status, said, second) = ann.order(&more);
    assert_eq!(status, 201, "{said}");
    assert_eq!(ann.state(&first), "withdrawn");

    let (_, _, third) = ann.order(&bid(start, 100));
    let third = third.unwrap();
    let (status, said, _) = ann.ask("DELETE", &third, None);
    assert_eq!((status, &said["outcome"]), (200, &"withdrawn".into()));
    let (status, said, _) = ann.ask("DELETE", &third, None);
    assert_eq!((status, &said["outcome"]), (200, &"again".into()));

    refused(&serve, &ann, start);
    at_the_same_time(&ann, start);

    let offer = json!({ "side": "offer", "start": start.to_string(), "energy_wh": 900, "limit_price": "0.10",
        "preference": { "partners": ["home-1"], "green": true } });
    assert_eq!(bob.order(&offer).0, 201);
    let second = second.unwrap();
    let cleared = wait_for("the clearing", || {
        let (_, order, _) = ann.ask("GET", &second, None);
        (order["state"] == "cleared").then_some(order)
    });
    assert_eq!(cleared["filled_wh"], 600, "{cleared}");
    let (status, late, _) = ann.ask("DELETE", &second, None);
    assert_eq!((status, &late["reason"]), (422, &"gate_closed".into()));
    let evidence: Value = serde_json::from_str(&serve.get("/api/v1/evidence")).unwrap();
    assert_eq!(evidence["orders_signed_twice"], 0, "{evidence}");
}

/// What makes no sense, and who may not.
fn refused(serve: &Serve, ann: &Home<'_>, start: Timestamp) {
    let with = |key: &str, value: Value| {
        let mut body = bid(start, 10);
        body[key] = value;
        body
    };
    for (wrong, named) in [
        (with("side", "both".into()), "side"),
        (with("start", "noon".into()), "start"),
        (with("start", start.plus_s(1).to_string().into()), "start"),
        (with("energy_wh", 0.into()), "energy_wh"),
        (with("energy_wh", 90_000.into()), "metering point"),
        (with("limit_price", "much".into()), "limit_price"),
        (with("colour", "green".into()), "colour"),
        (with("preference", json!({ "green": true })), "preference"),
        (
            with("preference", json!({ "partners": ["home-1"] })),
            "partners",
        ),
        (
            with("preference", json!({ "green_premium": "-1" })),
            "premium",
        ),
    ] {
        let (status, said, _) = ann.order(&wrong);
        let detail = said["detail"].as_str().unwrap();
        assert!(status == 422 && detail.contains(named), "{wrong}: {said}");
    }
    let nobody = Home {
        serve,
        token: "cw_x".to_owned(),
    };
    assert_eq!(nobody.order(&bid(start, 10)).0, 401);
    let (code, said) = accounts(
        &serve.data,
        &["token", "person-1", "--new", "reads", "--read-only"],
    );
    assert_eq!(code, 0, "{said}");
    let token = said.lines().next().unwrap().to_owned();
    let reader = Home { serve, token };
    assert_eq!(reader.order(&bid(start, 10)).0, 403);
}

/// No two orders ever have one number, which would be evidence against the home.
fn at_the_same_time(ann: &Home<'_>, start: Timestamp) {
    let places: Vec<_> = std::thread::scope(|scope| {
        let order = |n: i64| move || ann.order(&bid(start, n)).2.unwrap();
        let all: Vec<_> = (1..=8).map(|n| scope.spawn(order(n))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for place in &places {
        assert_eq!(ann.ask("DELETE", place, None).0, 200, "{place}");
    }
}

fn reading(sequence: u64, interval: Interval, previous: Digest32) -> Reading {
    let (community, gateway) = (community(), GatewayId::new("gw-1").unwrap());
    let before = 1_000 + 5 * i64::try_from(sequence).unwrap();
    Reading {
        device: DeviceId::derive(&community, &gateway, "home-1.meter"),
        point: PointId::new("home-1.meter").unwrap(),
        sequence,
        interval,
        registers: vec![Register {
            obis: Obis::IMPORT,
            start: Energy::from_wh(before),
            end: Energy::from_wh(before + 5),
        }],
        era: 0,
        quality: Quality::MEASURED,
        clock: ClockStamp {
            signed_at: interval.end(),
            state: ClockState::Synchronised,
            error_ms: 20,
        },
        meter_hash: [3; 8],
        class: MeasurementClass::MeterCounter,
        previous,
        profile: [4; 8],
    }
}

fn community() -> CommunityId {
    CommunityId::new("lane").unwrap()
}

/// The key of the first gateway of `orders::site`.
fn gateway_key() -> SigningKey {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&1_u32.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

#[test]
fn readings_come_over_http_and_are_answered_by_the_operators_word() {
    let folder = tempfile::tempdir().unwrap();
    let serve = Serve::start(folder.path(), 1);
    let ann = Home::new(&serve, 1, &[]);
    let first = serve.interval_in(0);
    let sign = |key: &SigningKey, reading: &Reading| {
        let signed = Signed::sign(key, &community(), reading);
        signed.as_bytes().to_vec()
    };
    let one = sign(&gateway_key(), &reading(1, first, Digest32([0; 32])));
    let two = sign(
        &gateway_key(),
        &reading(2, first.next(), Digest32::of(&one)),
    );
    let post = |body: &[u8]| {
        let request = agent().post(format!("{}/api/v1/readings", serve.url));
        let mut answer = request
            .header("content-type", "application/cbor-seq")
            .send(body)
            .unwrap();
        let bytes = answer.body_mut().read_to_vec().unwrap();
        (answer.status().as_u16(), bytes)
    };
    let over = first.next().end().plus_s(1);
    wait_for("two intervals to be over", || {
        (serve.interval_in(0).start() > over).then_some(())
    });
    let operator = runtime::key_file::read(&serve.data.join("operator.key")).unwrap();
    let both = [one.clone(), two.clone()].concat();
    // The same again has no effect and the same answer.
    for _ in 0..2 {
        let (status, bytes) = post(&both);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
        let words = split_sequence(&bytes, 9).unwrap();
        assert_eq!(words.len(), 1, "one point");
        let word = Signed::<Acceptance>::from_bytes(words[0].to_vec());
        let word = word.verify(PublicKey::of(&operator), &community()).unwrap();
        let word = word.message();
        assert_eq!((word.accepted_up_to, &word.missing), (Some(2), &vec![]));
        assert!(word.rejected.is_empty(), "{word:?}");
    }
    let (_, list, _) = ann.ask("GET", "/api/v1/meters/home-1.meter/readings", None);
    let counted: Vec<_> = list["items"].as_array().unwrap().iter().collect();
    assert_eq!(counted.len(), 2, "{list}");
    assert_eq!(counted[0]["import_wh"], 5, "{list}");

    let stranger = sign(
        &SigningKey::from_bytes(&[9; 32]),
        &reading(3, first, Digest32::of(&two)),
    );
    let mut changed = two.clone();
    *changed.last_mut().unwrap() ^= 1;
    for (body, status, reason) in [
        (stranger, 422, "unknown_key"),
        (changed, 422, "bad_signature"),
        (b"no message".to_vec(), 400, ""),
        (Vec::new(), 400, ""),
        (both.repeat(200), 400, ""),
    ] {
        let (answered, bytes) = post(&body);
        let said = String::from_utf8_lossy(&bytes);
        assert!(
            answered == status && said.contains(reason),
            "{answered}: {said}"
        );
    }
}
