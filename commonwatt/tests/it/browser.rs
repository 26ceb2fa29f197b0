//! The pages in a real browser: each kind of person signs in and walks the main path, on a phone and on a
//! desk, in the light and in the dark. Screenshots are kept in `target/screens` to be looked at.
//!
//! Chromium is driven over WebDriver, which is JSON over HTTP. Runs with `COMMONWATT_SLOW` where `chromium`
//! and `chromedriver` are there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

use crate::browser_verify::{dropped, verdict};
use crate::demo::{Demo, wait_for};

/// What a page may weigh with its style and script, in bytes; one that brings the whole checker of
/// receipts, and a receipt, more.
const WEIGHT_MAX: u64 = 60_000;
const CHECKER_WEIGHT_MAX: u64 = 150_000;
/// A driver that says nothing for so long has got stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// What the page says of itself: heading order, names, contrast, width.
const CHECK: &str = include_str!("browser_check.js");

/// A driver with one browser; both end with the test.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// `None` where there is no browser here; one that is here and does not start is a failure.
    pub(crate) fn start() -> Option<Browser> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let port = line.split("successfully on port ").nth(1)?;
            port.trim_end_matches('.').parse().ok()
        });
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Browser {
            driver,
            port: port.expect("chromedriver ended without a port"),
            session: String::new(),
        };
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--lang=en",
            "--hide-scrollbars",
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = browser.ask("POST", "/session", &capabilities);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    /// Asks the driver; what it answers with, or a panic with what it complains of.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let value = self.try_ask(method, path, body).unwrap();
        assert!(value["error"].is_null(), "{path}: {value}");
        value
    }

    /// Asks the driver; what it answers with, which may be a complaint.
    fn try_ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        // The driver keeps the connection open whatever it is asked: the length says where the answer ends.
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        let mut answer: Value = serde_json::from_slice(&answer)?;
        Ok(answer["value"].take())
    }

    /// Asks the driver for something of this browser.
    pub(crate) fn of_session(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}{path}", self.session), body)
    }

    pub(crate) fn open(&self, url: &str) {
        self.of_session("POST", "/url", &json!({ "url": url }));
    }

    /// Runs a script in the page, and waits for the promise that it may give.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.of_session(
            "POST",
            "/execute/sync",
            &json!({ "script": script, "args": [] }),
        )
    }

    fn devtools(&self, command: &str, params: &Value) -> Value {
        let body = json!({ "cmd": command, "params": params });
        self.of_session("POST", "/goog/cdp/execute", &body)
    }

    /// A window of this width, in the light or in the dark.
    fn shape(&self, width: u32, dark: bool) {
        let shape =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", &shape);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &media);
    }

    /// The whole page as a picture.
    fn picture(&self, file: &Path) {
        let params = json!({ "captureBeyondViewport": true });
        let picture = self.devtools("Page.captureScreenshot", &params);
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap());
        std::fs::write(file, bytes.unwrap()).unwrap();
    }

    /// Clicks the first element of a selector and waits for the next page.
    pub(crate) fn follow(&self, selector: &str) {
        let before = self.run("return performance.timeOrigin");
        let script = format!("document.querySelector({selector:?}).click()");
        self.run(&script);
        wait_for(selector, || {
            let now = self
                .run("return document.readyState === 'complete' ? performance.timeOrigin : null");
            (!now.is_null() && now != before).then_some(())
        });
    }

    /// What the console complained of since the last time.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.of_session("POST", "/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().unwrap().iter();
        let bad = entries.filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG");
        bad.map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without it the browser outlives its driver.
        let _ = self.try_ask("DELETE", &format!("/session/{}", self.session), &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn screens() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .join("screens");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Looks at the page that is open, at both widths, and gives what is wrong with it.
fn look(browser: &Browser, name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (width, dark) in [(360, false), (360, true), (1280, false), (1280, true)] {
        browser.shape(width, dark);
        let found = browser.run(CHECK);
        let problems = found["problems"].as_array().unwrap().iter();
        let scheme = if dark { "dark" } else { "light" };
        let place = format!("{name} {width} {scheme}");
        wrong.extend(problems.map(|problem| format!("{place}: {}", problem.as_str().unwrap())));
        let weight = found["weight"].as_u64().unwrap();
        let most = match name.starts_with("verify") {
            true => CHECKER_WEIGHT_MAX,
            false => WEIGHT_MAX,
        };
        if weight > most {
            wrong.push(format!("{place}: weighs {weight} bytes"));
        }
        browser.picture(&screens().join(format!("{name}-{width}-{scheme}.png")));
    }
    wrong.extend(
        browser
            .complaints()
            .into_iter()
            .map(|text| format!("{name}: console: {text}")),
    );
    wrong
}

struct Walk<'a> {
    browser: &'a Browser,
    demo: &'a Demo,
    wrong: Vec<String>,
}

impl Walk<'_> {
    fn sign_in(&self, who: &str) {
        self.browser.of_session("DELETE", "/cookie", &json!({}));
        self.open(self.demo.link(who));
        self.browser.follow("form button.primary");
    }

    fn open(&self, path: &str) {
        self.browser
            .open(&format!("http://{}{path}", self.demo.address));
    }

    /// Opens a page and looks at it.
    fn visit(&mut self, name: &str, path: &str) {
        self.open(path);
        self.look(name);
    }

    fn look(&mut self, name: &str) {
        self.wrong.extend(look(self.browser, name));
    }

    /// Keeps the open page as it is printed, and says what is wrong where it takes more than one sheet.
    fn print(&mut self, name: &str) {
        let paper = json!({ "paperWidth": 8.27, "paperHeight": 11.69, "printBackground": false });
        let printed = self.browser.devtools("Page.printToPDF", &paper);
        let printed = base64::engine::general_purpose::STANDARD
            .decode(printed["data"].as_str().unwrap())
            .unwrap();
        std::fs::write(screens().join(format!("{name}.pdf")), printed).unwrap();
        let media = json!({ "media": "print" });
        self.browser.devtools("Emulation.setEmulatedMedia", &media);
        let shape =
            json!({ "width": 794, "height": 1123, "deviceScaleFactor": 1, "mobile": false });
        self.browser
            .devtools("Emulation.setDeviceMetricsOverride", &shape);
        self.browser
            .picture(&screens().join(format!("{name}-print.png")));
        let wide = self.browser.run(
            "return document.documentElement.scrollWidth > document.documentElement.clientWidth",
        );
        if wide == true {
            self.wrong.push(format!("{name}: wider than the paper"));
        }
        self.browser
            .devtools("Emulation.setEmulatedMedia", &json!({ "media": "" }));
    }

    fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?})?.innerText ?? ''");
        self.browser.run(&script).as_str().unwrap().to_owned()
    }
}

fn a_household(walk: &mut Walk<'_>) {
    walk.sign_in("home-01");
    // Money of today comes with the first settled interval, a reason with the first trade.
    wait_for("a settled trade of the home", || {
        walk.open("/home/trades");
        walk.text("main").contains("kWh").then_some(())
    });
    walk.visit("home", "/home");
    assert!(
        walk.text("h1").contains('€'),
        "the first line is money: {}",
        walk.text("h1")
    );
    let first = walk.text("#now");
    wait_for("newer numbers without a reload", || {
        (walk.text("#now") != first).then_some(())
    });
    walk.browser.follow("a.row");
    walk.look("trade");
    assert!(
        walk.text(".sub").contains("price"),
        "it says why: {}",
        walk.text(".sub")
    );
    assert!(
        walk.text("main").contains("my order"),
        "the own order is marked"
    );
    its_receipt(walk);
    for (name, path) in [
        ("trades", "/home/trades"),
        ("energy", "/home/energy"),
        ("energy-month", "/home/energy?period=month"),
        ("market", "/home/market"),
        ("statement", "/home/statement"),
        ("devices", "/home/devices"),
        ("account", "/account"),
        ("orders", "/home/orders"),
        ("tokens", "/home/tokens"),
        // The last one stays open.
        ("preferences", "/home/preferences"),
    ] {
        walk.visit(name, path);
    }
    walk.browser.run("document.getElementById('stop-3').click(); document.getElementById('level-suggest').click()");
    walk.browser.follow("form.preferences button.primary");
    let kept = walk.browser.run(
        "return [...document.querySelectorAll('form.preferences input:checked')].map((i) => i.id).join(' ')",
    );
    assert_eq!(
        kept.as_str(),
        Some("stop-3 level-suggest"),
        "the choice is kept"
    );
    in_german(walk);
}

/// The text of the receipt that the open page was asked to check.
fn its_text(walk: &Walk<'_>) -> String {
    let script = "return fetch(new URLSearchParams(location.search).get('receipt')).then((file) => file.text())";
    walk.browser.run(script).as_str().unwrap().to_owned()
}

/// A household checks its receipt in its own browser, and one that somebody has altered.
fn its_receipt(walk: &mut Walk<'_>) {
    let page = wait_for("a receipt among the home's trades", || {
        walk.open("/home/trades");
        let script =
            "return document.querySelector(\"a[href^='/receipts/']\")?.getAttribute('href')";
        let file = walk.browser.run(script);
        file.as_str()?.strip_suffix(".json").map(str::to_owned)
    });
    walk.open(&page);
    walk.browser.follow("a[href^='/verify?receipt=']");
    let told = verdict(walk.browser);
    assert!(told.contains("Genuine: every step holds"), "{told}");
    walk.look("verify-genuine");
    let text = its_text(walk);
    let at = text.rfind("\"amount\": \"0.").unwrap() + 20;
    let other = if &text[at..=at] == "7" { "3" } else { "7" };
    let altered = format!("{}{other}{}", &text[..at], &text[at + 1..]);
    let told = dropped(walk.browser, "receipt.json", &altered);
    assert!(
        told.contains("fails at the step “settlement lines”"),
        "{told}"
    );
    walk.look("verify-altered");
}

fn in_german(walk: &mut Walk<'_>) {
    walk.open("/language?to=de&back=/home");
    walk.look("home-de");
    assert_eq!(
        walk.browser.run("return document.documentElement.lang"),
        "de"
    );
    assert!(
        walk.text("h1").contains(',') && walk.text("h1").starts_with("Heute"),
        "{}",
        walk.text("h1")
    );
    walk.visit("statement-de", "/home/statement");
    walk.open("/language?to=en&back=/home");
}

fn an_operator(walk: &mut Walk<'_>) {
    walk.sign_in("operator");
    for (name, path) in [
        ("grid", "/grid"),
        ("feeder", "/grid/feeders/feeder.meter"),
        ("alarms", "/grid/alarms"),
        ("data", "/grid/data"),
        ("grid-log", "/grid/log"),
        ("limits", "/grid/limits"),
        ("activations", "/grid/activations"),
        ("grid-tokens", "/grid/tokens"),
    ] {
        walk.visit(name, path);
    }
    walk.open("/home");
    assert!(
        walk.text("h1").contains("nothing"),
        "an operator has no home: {}",
        walk.text("h1")
    );
    walk.browser.complaints();
}

/// A free charger at which a car takes power.
fn charging(walk: &Walk<'_>) -> String {
    let takes = |c: &&Value| c["free"] == true && c["power_w"].as_i64() > Some(1_000);
    wait_for("a charger at which a car charges", || {
        let list = walk.demo.get("/api/v1/chargers").1;
        let list: Value = serde_json::from_str(&list).unwrap();
        let found = list["items"].as_array().unwrap().iter().find(takes);
        found.map(|c| c["id"].as_str().unwrap().to_owned())
    })
}

/// Takes an offer and follows it, without a reload, until the meter has counted something, or until it is over: the
/// demo's cars come and go as they like. Whether it goes on.
fn begin(walk: &mut Walk<'_>) -> bool {
    let charger = charging(walk);
    walk.open(&format!("/charge/{charger}?kwh=20"));
    walk.browser.follow(".offer button.primary");
    walk.look("session-begun");
    wait_for("the meter's first energy, or the end", || {
        let first = walk.text("h1").replace('\u{a0}', " ");
        let counts = first.starts_with("Charging") && !first.contains(" 0.00 kWh");
        let over = walk.text("#acts form button").is_empty();
        (counts || over).then_some(!over)
    })
}

/// From the address on a charger to a receipt, and the own page with it. The street's cars charge for an hour or two
/// after they came home, and not again before the next day: at a speed at which that is long enough for a slow machine.
fn a_driver(walk: &mut Walk<'_>) {
    walk.sign_in("driver");
    walk.visit("driver-empty", "/driver");
    walk.visit("chargers", "/charge");
    let charger = charging(walk);
    walk.visit("charge", &format!("/charge/{charger}"));
    assert!(
        walk.text("h1").contains("ct/kWh"),
        "the first line is the price: {}",
        walk.text("h1")
    );
    walk.visit("charge-wrong", &format!("/charge/{charger}?kwh=many"));
    assert!(walk.text(".wrong").contains("many"));
    walk.wrong
        .retain(|text| !text.starts_with("charge-wrong: console"));
    let goes_on = begin(walk);
    walk.look("session");
    if goes_on && !walk.text("#acts form button").is_empty() {
        walk.browser.follow("#acts form button");
        assert!(walk.text("h1").contains("Stopped"), "{}", walk.text("h1"));
    }
    wait_for("the session's receipt", || {
        (!walk.text("#acts a.button").is_empty()).then_some(())
    });
    walk.look("session-ended");
    walk.browser.follow("#acts a.button");
    walk.look("receipt");
    walk.print("receipt");
    assert!(walk.text("h1").contains("genuine"), "{}", walk.text("h1"));
    walk.browser.follow("a[href^='/verify?receipt=']");
    let told = verdict(walk.browser);
    assert!(told.contains("Genuine: every step holds"), "{told}");
    walk.look("verify-charging");
    let altered = its_text(walk).replacen("\"paid\":\"", "\"paid\":\"1", 1);
    let told = dropped(walk.browser, "receipt.json", &altered);
    assert!(told.contains("fails at the step “operator”"), "{told}");
    walk.visit("driver", "/driver");
    assert!(walk.text("main").contains("Receipt"));
    walk.open("/language?to=de&back=/driver");
    walk.look("driver-de");
    walk.visit("charge-de", &format!("/charge/{charger}"));
    walk.open("/language?to=en&back=/");
}

fn a_researcher(walk: &mut Walk<'_>) {
    walk.sign_in("researcher");
    walk.visit("lab", "/lab");
    walk.visit("lab-compare", "/lab/compare");
}

#[test]
fn every_kind_of_person_finds_the_answer_in_a_browser() {
    if std::env::var_os("COMMONWATT_SLOW").is_none() {
        println!("skipped: set COMMONWATT_SLOW=1 to walk through the pages in a browser");
        return;
    }
    let Some(browser) = Browser::start() else {
        println!("skipped: there is no chromedriver with chromium here");
        return;
    };
    let mut wrong = walk(&browser, "60", a_driver);
    wrong.extend(walk(&browser, "300", the_others));
    println!("pictures in {}", screens().display());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Walks through a demo that begins in the afternoon, when the cars come home, and goes on at `speed`.
fn walk(browser: &Browser, speed: &str, go: fn(&mut Walk<'_>)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start_at(speed, &folder.path().join("data"), &[]);
    let mut walk = Walk {
        browser,
        demo: &demo,
        wrong: Vec::new(),
    };
    go(&mut walk);
    // A page that stays open would complain of the demo's end.
    browser.open("about:blank");
    walk.wrong
}

fn a_visitor(walk: &mut Walk<'_>) {
    walk.visit("street", "/");
    walk.visit("log", "/log");
    walk.visit("verify", "/verify");
    walk.visit("sign-in", "/sign-in");
    walk.open("/account");
    assert!(walk.text("h1").contains("passkey"), "no account yet");
    walk.open("/home");
    walk.look("missing");
    // A page that is not there is an error for the console, and rightly so.
    walk.wrong
        .retain(|text| !text.starts_with("missing: console"));
}

/// Everybody for whom the street's time may go by as fast as it can.
fn the_others(walk: &mut Walk<'_>) {
    a_visitor(walk);
    a_household(walk);
    an_operator(walk);
    a_researcher(walk);
}
