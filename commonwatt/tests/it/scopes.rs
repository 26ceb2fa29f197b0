//! Who may read what: a table of every address that the API describes, held against the running platform.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::demo::Demo;
use crate::people::accounts;

/// Everybody who asks: nobody, a home, a driver, an operator, a researcher, an admin.
const EVERYBODY: &str = "nhdora";

/// Address, and who of [`EVERYBODY`] finds something there.
const TABLE: [(&str, &str); 54] = [
    ("/health", EVERYBODY),
    ("/metrics", EVERYBODY),
    ("/api/v1/activations", "o"),
    ("/api/v1/alarms", "o"),
    ("/api/v1/audit", "a"),
    ("/api/v1/chargers", EVERYBODY),
    ("/api/v1/chargers/nowhere/offers", ""),
    ("/api/v1/commands/00", EVERYBODY),
    ("/api/v1/data_quality", "o"),
    ("/api/v1/deliveries", "h"),
    ("/api/v1/evidence", EVERYBODY),
    ("/api/v1/feeders", "o"),
    ("/api/v1/feeders/feeder.meter/series", "o"),
    ("/api/v1/incidents", "o"),
    ("/api/v1/intervals", EVERYBODY),
    ("/api/v1/intervals/2026-06-21T10:15:00Z", EVERYBODY),
    ("/api/v1/keys", EVERYBODY),
    ("/api/v1/keys/participants", EVERYBODY),
    ("/api/v1/ledger/checkpoint", EVERYBODY),
    ("/api/v1/ledger/keys", EVERYBODY),
    ("/api/v1/ledger/proof?log=ledger&old=1&size=1", EVERYBODY),
    ("/api/v1/limits", "o"),
    ("/api/v1/limits/preview?import_w=1000", "o"),
    ("/api/v1/markets", EVERYBODY),
    ("/api/v1/markets/2026-06-21T10:15:00Z/book", EVERYBODY),
    ("/api/v1/markets/2026-06-21T10:15:00Z/clearing", EVERYBODY),
    ("/api/v1/me", EVERYBODY),
    ("/api/v1/meters", "ho"),
    ("/api/v1/meters/home-01.meter/readings", "h"),
    ("/api/v1/meters/home-02.meter/readings", ""),
    ("/api/v1/orders", "h"),
    ("/api/v1/orders/00", ""),
    ("/api/v1/participants/home-01", "h"),
    ("/api/v1/participants/home-02", ""),
    ("/api/v1/platform", EVERYBODY),
    ("/api/v1/preferences", "h"),
    ("/api/v1/receipts/0-AAAA", ""),
    ("/api/v1/receipts/0-AAAA/proof", ""),
    ("/api/v1/runs", "r"),
    ("/api/v1/runs/no-run", ""),
    ("/api/v1/runs/no-run/tables/kpis.csv", ""),
    ("/api/v1/markets/2026-06-21T10:15:00Z/runs/final", EVERYBODY),
    ("/api/v1/sessions", "ho"),
    ("/api/v1/sessions/0", ""),
    ("/api/v1/sessions/0/credits", EVERYBODY),
    ("/api/v1/standing-orders", "h"),
    // Home 1 has no part of a station.
    ("/api/v1/stations", "oa"),
    ("/api/v1/stations/home-03.charger/months/2026-06", "oa"),
    ("/api/v1/statements/2026-06", "h"),
    ("/api/v1/tokens/requests", "ho"),
    ("/api/v1/trades", EVERYBODY),
    ("/api/v1/trades/0", ""),
    ("/api/v1/witnesses", EVERYBODY),
    // Ends only when the platform does: looked at by another test.
    ("/api/v1/events", EVERYBODY),
];

/// Whether an address is one of those that the description has with places to fill.
fn fits(described: &str, address: &str) -> bool {
    let address = address.split('?').next().unwrap();
    let (words, own) = (described.split('/'), address.split('/'));
    words.clone().count() == own.clone().count()
        && words
            .zip(own)
            .all(|(word, own)| word.starts_with('{') || word == own)
}

#[test]
fn what_a_person_may_not_see_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("60", &data, &[]);
    let (code, said) = accounts(&data, &["add", "boss", "--role", "admin"]);
    assert_eq!(code, 0, "{said}");
    let token = |account: &str| {
        let (code, said) = accounts(&data, &["token", account, "--new", "test"]);
        assert_eq!(code, 0, "{said}");
        format!("Authorization: Bearer {}\r\n", said.lines().next().unwrap())
    };
    let people: BTreeMap<char, String> = [
        ('n', String::new()),
        ('h', token("home-01")),
        ('d', token("driver")),
        ('o', token("operator")),
        ('r', token("researcher")),
        ('a', token("boss")),
    ]
    .into();

    let api: Value = serde_json::from_str(&demo.get("/api/v1/openapi.json").1).unwrap();
    for (path, item) in api["paths"].as_object().unwrap() {
        let in_table = TABLE.iter().any(|(address, _)| fits(path, address));
        assert!(
            item["get"].is_null() || in_table,
            "{path} is not in the table"
        );
    }
    let mut wrong = Vec::new();
    for (address, who) in TABLE
        .iter()
        .filter(|(address, _)| !address.ends_with("/events"))
    {
        for (person, headers) in &people {
            let status = demo.send("GET", address, headers, b"").status;
            let fits = match status {
                404 => !who.contains(*person) || is_not_yet(address),
                // A wrong name is the same for everybody; who nobody is signed in as, `me` says in words.
                200 | 400 | 401 | 503 => who.contains(*person),
                _ => false,
            };
            if !fits {
                wrong.push(format!("{address} for {person}: {status}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Whoever may not write there is not told what a body needs.
    for (method, address, who) in [
        ("POST", "/api/v1/alarms", 'o'),
        ("POST", "/api/v1/incidents", 'o'),
        ("PUT", "/api/v1/preferences", 'h'),
        ("POST", "/api/v1/preferences/replay", 'h'),
        ("POST", "/api/v1/runs", 'r'),
    ] {
        for (person, headers) in &people {
            let headers = format!("{headers}Content-Type: application/json\r\n");
            let status = demo.send(method, address, &headers, b"{}").status;
            let expected = if *person == who { 422 } else { 404 };
            assert_eq!(status, expected, "{method} {address} for {person}");
        }
    }
}

/// Public, but there only once an interval has been cleared, a command sent or a session billed.
fn is_not_yet(address: &str) -> bool {
    ["/markets/", "/intervals/", "/commands/", "/credits"]
        .iter()
        .any(|part| address.contains(part))
}
