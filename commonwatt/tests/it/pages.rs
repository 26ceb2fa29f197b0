//! Pages as people use them without a script: forms sent as a browser sends them, and a German reader who finds no
//! English.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::demo::{Answer, Demo, wait_for};
use crate::people::accounts;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// Somebody who is signed in, with a browser's cookie.
struct Person<'a> {
    demo: &'a Demo,
    cookie: String,
}

impl<'a> Person<'a> {
    fn of(demo: &'a Demo, who: &str) -> Self {
        Person {
            demo,
            cookie: demo.sign_in(who),
        }
    }

    fn page(&self, path: &str) -> String {
        let answer = self.demo.send("GET", path, &self.cookie, b"");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// Sends a form of a page, with what the page's form carries.
    fn send(&self, page: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.page(page);
        let csrf = csrf.split("name=\"csrf\" value=\"").nth(1).unwrap();
        let csrf = csrf.split('"').next().unwrap();
        let mut body = format!("csrf={csrf}");
        for (name, value) in fields {
            body.push_str(&format!("&{name}={}", escaped(value)));
        }
        let headers = format!("{}{FORM}", self.cookie);
        self.demo.send("POST", path, &headers, body.as_bytes())
    }
}

fn escaped(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Text between two marks.
fn between<'t>(text: &'t str, from: &str, to: &str) -> Option<&'t str> {
    text.split(from).nth(1)?.split(to).next()
}

#[test]
fn a_home_places_a_wish_on_its_page_and_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("60", &data, &[]);
    let home = Person::of(&demo, "home-01");
    let page = home.page("/home/orders");
    let by = between(
        &page,
        "name=\"by\" type=\"datetime-local\" required value=\"",
        "\"",
    );
    let by = by.expect("the form proposes a time").to_owned();
    let wish = [
        ("kwh", "3,5"),
        ("by", by.as_str()),
        ("power_kw", "2"),
        ("limit", "25"),
        ("must", "1"),
        ("counted_at", ""),
    ];
    for (n, bad, said) in [
        (0, "much", "much"),
        (1, "tomorrow", "tomorrow"),
        (1, "2020-01-01T07:00", "no gate"),
        (1, "2099-01-01T07:00", "31 days"),
        (2, "100000", "connection"),
        (3, "-", "no price"),
    ] {
        let mut wrong = wish;
        wrong[n].1 = bad;
        let answer = home.send("/home/orders", "/home/orders", &wrong);
        assert_eq!(answer.status, 422, "{bad}");
        let alert = between(&answer.body, "role=\"alert\">", "<").unwrap();
        assert!(alert.contains(said), "{bad}: {alert}");
        assert!(alert.contains("Nothing was ordered"), "{alert}");
    }
    let placed = home.send("/home/orders", "/home/orders", &wish);
    assert_eq!(placed.status, 303, "{}", placed.body);
    let page = home.page("/home/orders");
    assert!(page.contains("3.50\u{a0}kWh by") && page.contains("25.0\u{a0}ct/kWh"));
    let own = || -> Value {
        let answer = demo.send("GET", "/api/v1/standing-orders", &home.cookie, b"");
        let list: Value = serde_json::from_str(&answer.body).unwrap();
        list["items"].clone()
    };
    let stood = own();
    assert_eq!(stood.as_array().unwrap().len(), 1);
    let one = &stood[0];
    assert_eq!(
        (
            &one["state"],
            &one["energy_wh"],
            &one["must"],
            &one["limit_price"]
        ),
        (
            &"standing".into(),
            &3_500.into(),
            &true.into(),
            &"0.250000".into()
        )
    );
    let sequence = one["sequence"].as_u64().unwrap();
    assert!(
        sequence >= 1 << 40,
        "it takes no number of the home's own: {sequence}"
    );
    // It orders by itself, and the page says why.
    wait_for("an order of the wish", || {
        home.page("/home/orders")
            .contains("a standing wish")
            .then_some(())
    });
    let withdraw = format!("/home/orders/{sequence}/withdraw");
    assert_eq!(
        home.send("/home/orders", "/home/orders/7/withdraw", &[])
            .status,
        422
    );
    let strange = demo.send(
        "POST",
        &withdraw,
        &format!("{}{FORM}", home.cookie),
        b"csrf=AAAA",
    );
    assert_eq!(strange.status, 403, "a form of another page");
    assert_eq!(home.send("/home/orders", &withdraw, &[]).status, 303);
    assert_eq!(own()[0]["state"], "withdrawn");
    assert!(!home.page("/home/orders").contains(&withdraw));
}

#[test]
fn a_home_names_neighbours_and_its_autopilot_s_orders_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("300", &data, &[]);
    let home = Person::of(&demo, "home-01");
    let choose = |partners: &str, premium: &str| {
        let fields = [
            ("stop", "0"),
            ("autopilot", "within-limits"),
            ("partners", partners),
            ("green_premium", premium),
            ("green", "1"),
        ];
        home.send("/home/preferences", "/home/preferences", &fields)
    };
    for (partners, premium, said) in [
        ("home-99", "", "home-99"),
        ("home-01", "", "home-01"),
        ("home-03", "x", "x"),
        ("home-03", "-1", "-1"),
    ] {
        let answer = choose(partners, premium);
        assert_eq!(answer.status, 422, "{partners} {premium}");
        let alert = between(&answer.body, "role=\"alert\">", "<").unwrap();
        assert!(
            alert.contains(said) && alert.contains("Nothing was changed"),
            "{alert}"
        );
    }
    assert_eq!(choose("home-07, home-03, home-07", "1,5").status, 303);
    let page = home.page("/home/preferences");
    assert!(page.contains("value=\"home-07, home-03\"") && page.contains("value=\"1.5\""));
    wait_for("an order that names the neighbours", || {
        let page = home.page("/home/orders");
        page.contains("first with home-07, home-03").then_some(())
    });
}

#[test]
fn two_operators_move_tokens_on_a_page_and_the_home_is_told_of_a_changed_payout() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("60", &data, &[]);
    let (code, said) = accounts(&data, &["add", "bookkeeper", "--role", "operator"]);
    assert_eq!(code, 0, "{said}");
    let (_, said) = accounts(&data, &["link", "bookkeeper"]);
    let path = said.lines().next().unwrap().split("8080").nth(1).unwrap();
    let entered = demo.send("POST", path, "", b"");
    let (home, one) = (Person::of(&demo, "home-01"), Person::of(&demo, "operator"));
    let other = Person {
        demo: &demo,
        cookie: format!("Cookie: {}\r\n", entered.cookie().unwrap()),
    };
    assert_eq!(
        demo.send("GET", "/grid/tokens", &home.cookie, b"").status,
        404
    );
    assert_eq!(
        demo.send("GET", "/home/tokens", &one.cookie, b"").status,
        404
    );
    let ask = |kind, amount, reference, payout| {
        let fields = [
            ("kind", kind),
            ("participant", "home-01"),
            ("amount", amount),
            ("reference", reference),
            ("payout", payout),
        ];
        one.send("/grid/tokens", "/grid/tokens", &fields)
    };
    assert_eq!(ask("deposit", "many", "in-0", "").status, 422);
    let refused = ask("withdrawal", "1", "out-0", "");
    assert_eq!(refused.status, 422);
    assert!(
        refused.body.contains("The books refuse this"),
        "{}",
        refused.body
    );
    assert_eq!(ask("deposit", "25,50", "in-1", "").status, 303);
    let confirm_path = |page: &str| {
        let path = page.split("action=\"").find_map(|part| {
            let path = part.split('"').next()?;
            path.ends_with("/confirm").then(|| path.to_owned())
        });
        path.unwrap_or_default()
    };
    let page = one.page("/grid/tokens");
    assert!(page.contains("somebody else has to confirm") && confirm_path(&page).is_empty());
    let before = home.page("/home/tokens");
    assert!(
        before.contains("Deposit of 25.50"),
        "the home sees what waits"
    );
    let path = confirm_path(&other.page("/grid/tokens"));
    assert_eq!(
        one.send("/grid/tokens", &path, &[]).status,
        422,
        "its own request"
    );
    assert_eq!(
        home.send("/home/tokens", &path, &[]).status,
        404,
        "a home confirms nothing"
    );
    assert_eq!(other.send("/grid/tokens", &path, &[]).status, 303);
    assert!(
        home.page("/home/tokens")
            .contains("confirmed by bookkeeper")
    );
    // The first account counts at once; another one is told to the home, which takes it back.
    assert_eq!(ask("payout", "", "to-1", "DE02 1").status, 303);
    let path = confirm_path(&other.page("/grid/tokens"));
    assert_eq!(other.send("/grid/tokens", &path, &[]).status, 303);
    assert!(!home.page("/home").contains("role=\"alert\""));
    assert_eq!(ask("payout", "", "to-2", "GB00 2").status, 303);
    let told = home.page("/home");
    assert!(
        told.contains("role=\"alert\"") && told.contains("GB00 2"),
        "{told}"
    );
    let page = home.page("/home/tokens");
    let cancel = between(&page, "action=\"/home/tokens/", "\"").unwrap();
    let cancel = format!("/home/tokens/{cancel}");
    assert_eq!(home.send("/home/tokens", &cancel, &[]).status, 303);
    assert!(!home.page("/home").contains("role=\"alert\""));
    assert!(home.page("/home/tokens").contains("taken back by home-01"));
}

/// The words that a catalogue uses, in small letters.
fn words_of(language: &str) -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/words");
    let text = std::fs::read_to_string(file.join(format!("{language}.toml"))).unwrap();
    let tables: toml::Table = toml::from_str(&text).unwrap();
    let texts = tables.values().filter_map(|table| table.as_table());
    let texts = texts.flat_map(|table| table.values().filter_map(|text| text.as_str()));
    texts.flat_map(words_in).collect()
}

/// Words of at least three letters; what has digits, points or dashes inside is a name or a number.
fn words_in(text: &str) -> Vec<String> {
    let plain = text.split(|c: char| c.is_whitespace() || matches!(c, '/' | '\u{a0}'));
    let trimmed = plain.map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    let words = trimmed.filter(|word| word.chars().all(char::is_alphabetic));
    words
        .filter(|word| word.chars().count() >= 3)
        .map(str::to_lowercase)
        .collect()
}

/// What a reader of a page reads and hears: its text and its labels, without what is marked as another language,
/// as a name or as code.
fn read_text(page: &str) -> String {
    const VOID: [&str; 6] = ["meta", "link", "input", "br", "img", "!doctype"];
    let mut said = String::new();
    // The open elements, and whether what is in them is read.
    let mut open: Vec<(String, bool)> = Vec::new();
    for part in page.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or((part, ""));
        if let Some(name) = tag.strip_prefix('/') {
            while open.pop().is_some_and(|(known, _)| known != name) {}
        } else {
            let name = tag
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_lowercase();
            let inside = open.last().is_none_or(|(_, read)| *read);
            let foreign =
                (tag.contains(" lang=\"") && name != "html" && !tag.contains("lang=\"de\""))
                    || tag.contains("translate=\"no\"");
            let read = inside
                && !foreign
                && !matches!(name.as_str(), "script" | "style" | "code" | "title");
            for label in [" aria-label=\"", " alt=\"", " title=\"", " placeholder=\""] {
                if let Some(label) = between(tag, label, "\"").filter(|_| read) {
                    said.push_str(label);
                    said.push(' ');
                }
            }
            if !VOID.contains(&name.as_str()) {
                open.push((name, read));
            }
        }
        if open.last().is_some_and(|(_, read)| *read) {
            said.push_str(text);
            said.push(' ');
        }
    }
    said.replace("&amp;", "&")
        .replace("&lt;", " ")
        .replace("&gt;", " ")
}

#[test]
fn a_german_reader_finds_no_english() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("300", &data, &[]);
    let english = words_of("en");
    let only_english: BTreeSet<String> = english.difference(&words_of("de")).cloned().collect();
    assert!(only_english.contains("neighbours") && only_english.len() > 500);
    let home = Person::of(&demo, "home-01");
    let trade = wait_for("a trade of the home", || {
        let page = home.page("/home/trades");
        between(&page, "href=\"/home/trades/", "\"").map(|id| format!("/home/trades/{id}"))
    });
    let receipt = wait_for("a receipt of the home", || {
        let page = home.page("/home/trades");
        let file = between(&page, "href=\"/receipts/", ".json\"")?;
        Some(format!("/receipts/{file}"))
    });
    let simulated = std::process::Command::new(crate::demo::program())
        .args([
            "simulate",
            "street-10",
            "--days",
            "1",
            "--evidence",
            "none",
            "--out",
        ])
        .arg(data.join("runs"))
        .output()
        .unwrap();
    assert!(simulated.status.success());
    let run = std::fs::read_dir(data.join("runs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let run = format!("/lab/{}", run.file_name().to_string_lossy());
    let chargers = demo.get("/api/v1/chargers").1;
    let chargers: Value = serde_json::from_str(&chargers).unwrap();
    let charger = format!("/charge/{}", chargers["items"][0]["id"].as_str().unwrap());
    let all: [(&str, Vec<&str>); 5] = [
        (
            "",
            vec!["/", "/log", "/verify", "/sign-in", "/charge", &charger],
        ),
        (
            "home-01",
            vec![
                "/home",
                "/home/energy",
                "/home/energy?period=month",
                "/home/market",
                "/home/orders",
                "/home/trades",
                &trade,
                "/home/preferences",
                "/home/statement",
                "/home/letter",
                "/home/devices",
                "/home/tokens",
                "/account",
                &receipt,
            ],
        ),
        (
            "operator",
            vec![
                "/grid",
                "/stations",
                "/grid/feeders/feeder.meter",
                "/grid/limits",
                "/grid/activations",
                "/grid/alarms",
                "/grid/data",
                "/grid/log",
                "/grid/tokens",
            ],
        ),
        ("driver", vec!["/driver"]),
        (
            "researcher",
            vec!["/lab", "/lab/compare", "/lab/dictionary", &run],
        ),
    ];
    let mut found = Vec::new();
    for (who, paths) in &all {
        let cookie = match *who {
            "" => "Cookie: language=de\r\n".to_owned(),
            "home-01" => home.cookie.replace("\r\n", "; language=de\r\n"),
            who => demo.sign_in(who).replace("\r\n", "; language=de\r\n"),
        };
        for path in paths {
            let page = follow(&demo, path, &cookie);
            assert!(page.contains("<html lang=\"de\">"), "{path}: {page}");
            let said = words_in(&read_text(&page));
            assert!(said.len() > 20, "{path} says nothing: {said:?}");
            let strange: BTreeSet<&String> =
                said.iter().filter(|w| only_english.contains(*w)).collect();
            if !strange.is_empty() {
                found.push(format!("{path}: {strange:?}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A page, where it leads to another one, that one.
fn follow(demo: &Demo, path: &str, cookie: &str) -> String {
    let mut path = path.to_owned();
    for _ in 0..3 {
        let answer = demo.send("GET", &path, cookie, b"");
        match answer.header("location") {
            Some(to) => path = to.to_owned(),
            None => {
                assert_eq!(answer.status, 200, "{path}");
                return answer.body;
            }
        }
    }
    panic!("{path} leads nowhere");
}

#[test]
fn what_is_read_leaves_out_names_code_and_other_languages() {
    let page = "<!DOCTYPE html><html lang=\"de\"><head><title>a title</title><meta x></head><body>\
                <p>eins <code>two</code> drei<br>vier</p><span translate=\"no\">five <b>six</b></span>\
                <button lang=\"en\">English</button><svg role=\"img\" aria-label=\"sieben acht\"></svg> home-01.meter</body></html>";
    let said = words_in(&read_text(page));
    assert_eq!(said, ["eins", "drei", "vier", "sieben", "acht"]);
}
