//! The page that checks receipts in the reader's own browser: saved to a folder and opened from there, without a server,
//! it says of every committed receipt and proof what they are, and of altered ones what `commonwatt verify` says.
//!
//! Runs where `chromium` and `chromedriver` are there.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::signed::PublicKey;
use serde_json::{Value, json};
use settlement::prove::{Trusted, verify, verify_proof};

use crate::browser::Browser;
use crate::demo::{Demo, wait_for};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../settlement/tests/vectors");
/// How many receipts are altered at random, and how many are checked in one go.
const ALTERED: usize = 300;
const AT_ONCE: usize = 60;

fn vectors(name: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(VECTORS).join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn operator(vectors: &Value) -> (String, PublicKey) {
    let text = vectors["operator_key"].as_str().unwrap().to_owned();
    let bytes: [u8; 32] = STANDARD.decode(&text).unwrap().try_into().unwrap();
    (text, PublicKey::from_bytes(&bytes).unwrap())
}

/// The page and what it loads as a browser saves them.
fn saved(demo: &Demo, folder: &Path) -> PathBuf {
    let mut page = demo.get("/verify").1;
    for (path, name) in [
        ("/static/verify.js", "verify.js"),
        ("/static/style.css", "style.css"),
    ] {
        std::fs::write(folder.join(name), demo.get(path).1).unwrap();
        assert!(page.contains(path), "{path}");
        page = page.replace(path, name);
    }
    let file = folder.join("verify.html");
    std::fs::write(&file, page).unwrap();
    file
}

/// The step at which the page stops for each text; none where all hold.
fn judged(browser: &Browser, key: &str, texts: &[String]) -> Vec<Option<String>> {
    let mut all = Vec::new();
    for some in texts.chunks(AT_ONCE) {
        let (texts, key) = (json!(some), json!(key));
        let script = format!(
            "const key = unbase64({key}); const told = [];
             return (async () => {{
               for (const text of {texts}) told.push((await checkFile(utf8(text), key)).find((step) => !step.holds)?.name ?? null);
               return told;
             }})();"
        );
        let told = browser.run(&script);
        let told = told.as_array().unwrap().iter();
        all.extend(told.map(|step| step.as_str().map(str::to_owned)));
    }
    all
}

/// Numbers that look random and are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }
}

/// A text with one value changed to another of its sort; the dice choose which.
fn altered(text: &str, dice: &mut Dice) -> String {
    let mut bytes = text.as_bytes().to_vec();
    loop {
        let at = dice.below(bytes.len());
        let other = match bytes[at] {
            b'0'..=b'9' => b'0' + u8::try_from(dice.below(10)).unwrap(),
            b'a'..=b'f' => b'a' + u8::try_from(dice.below(6)).unwrap(),
            b'g'..=b'z' | b'A'..=b'Z' | b'+' | b'/' => b"gmtzGMTZ+/"[dice.below(10)],
            _ if dice.below(20) == 0 => b" \"\\,:0"[dice.below(6)],
            same => same,
        };
        if other != bytes[at] {
            bytes[at] = other;
            return String::from_utf8(bytes).unwrap();
        }
    }
}

/// Whole numbers, words and members that are another's.
fn swapped(text: &str, dice: &mut Dice) -> String {
    let pairs = [
        ("\"index\":", "\"index\":1"),
        ("_wh\":", "_wh\":-"),
        ("\"run\":\"provisional\"", "\"run\":\"initial\""),
        ("\"asset\":\"token\"", "\"asset\":\"stake\""),
        ("measured", "measured+stale"),
        ("0.320000", "0.330000"),
        ("\"readings_size\":", "\"readings_size\":9"),
        ("],\"note\"", ",\"00\"],\"note\""),
        ("null", "\"\""),
        (",\"place\"", ",\"place\":1,\"place\""),
    ];
    let (good, bad) = pairs[dice.below(pairs.len())];
    let places: Vec<usize> = text.match_indices(good).map(|(at, _)| at).collect();
    match places.len() {
        0 => altered(text, dice),
        many => {
            let at = places[dice.below(many)];
            format!("{}{bad}{}", &text[..at], &text[at + good.len()..])
        }
    }
}

fn receipts_agree(browser: &Browser) {
    let vectors = vectors("receipts.json");
    let (key, operator) = operator(&vectors);
    let all = vectors["receipts"].as_array().unwrap();
    let texts: Vec<String> = all
        .iter()
        .map(|one| one["text"].as_str().unwrap().to_owned())
        .collect();
    for (told, one) in judged(browser, &key, &texts).iter().zip(all) {
        assert_eq!(told.as_deref(), one["fails"].as_str(), "{}", one["name"]);
    }
    let good: Vec<String> = all
        .iter()
        .filter(|one| one["valid"] == true)
        .map(|one| {
            let value: domain::receipt::Receipt =
                serde_json::from_str(one["text"].as_str().unwrap()).unwrap();
            serde_json::to_string(&value).unwrap()
        })
        .collect();
    let mut dice = Dice(0x5eed_0001);
    let texts: Vec<String> = (0..ALTERED)
        .map(|n| match n % 2 {
            0 => altered(&good[n % good.len()], &mut dice),
            _ => swapped(&good[n % good.len()], &mut dice),
        })
        .collect();
    for (told, text) in judged(browser, &key, &texts).iter().zip(&texts) {
        let report = verify(text, Some(operator));
        let expected = report.first_failure();
        assert_eq!(
            told.as_deref(),
            expected.map(|(step, _)| step),
            "{expected:?}: {text}"
        );
    }
}

fn proofs_agree(browser: &Browser) {
    let vectors = vectors("proofs.json");
    let (key, operator) = operator(&vectors);
    let trusted = Trusted {
        operator: Some(operator),
        ..Trusted::default()
    };
    let all = vectors["proofs"].as_array().unwrap();
    let texts: Vec<String> = all
        .iter()
        .map(|one| one["text"].as_str().unwrap().to_owned())
        .collect();
    for (told, one) in judged(browser, &key, &texts).iter().zip(all) {
        let report = verify_proof(one["text"].as_str().unwrap(), &trusted);
        assert_eq!(told.is_none(), report.holds(), "{}: {told:?}", one["name"]);
    }
}

/// Drops a file on the open page, and gives the verdict that it shows.
pub(crate) fn dropped(browser: &Browser, name: &str, text: &str) -> String {
    browser.run("document.getElementById('verdict').className = 'verdict'");
    let script = format!(
        "const files = new DataTransfer(); files.items.add(new File([{}], {}));
         document.dispatchEvent(new DragEvent('drop', {{ dataTransfer: files, cancelable: true }}));",
        json!(text),
        json!(name)
    );
    browser.run(&script);
    verdict(browser)
}

/// The verdict, once it is there.
pub(crate) fn verdict(browser: &Browser) -> String {
    wait_for("a verdict", || {
        let script = "const verdict = document.getElementById('verdict');
             return verdict?.matches('.good, .bad') ? verdict.innerText : null";
        browser.run(script).as_str().map(str::to_owned)
    })
}

#[test]
fn a_saved_page_judges_receipts_as_the_program_does() {
    let Some(browser) = Browser::start() else {
        println!("skipped: there is no chromedriver with chromium here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start_at("300", &folder.path().join("data"), &[]);
    let page = saved(&demo, folder.path());
    drop(demo);
    browser.open(&format!("file://{}", page.display()));
    receipts_agree(&browser);
    proofs_agree(&browser);
    let vectors = vectors("receipts.json");
    let (key, _) = operator(&vectors);
    let good = vectors["receipts"][0]["text"].as_str().unwrap();
    // The page knows another operator's key: that of the platform that it was saved from.
    let told = dropped(&browser, "receipt.json", good);
    assert!(told.contains("fails at the step “operator key”"), "{told}");
    let set = |value: &str| {
        browser.run(&format!(
            "document.getElementById('known').value = {}",
            json!(value)
        ));
    };
    set(&key);
    let told = dropped(&browser, "receipt.json", good);
    assert!(
        told.contains("Genuine: every step holds") && told.contains("Nothing was sent"),
        "{told}"
    );
    let told = dropped(
        &browser,
        "receipt.json",
        &good.replacen("0.150000", "0.140000", 1),
    );
    assert!(told.contains("fails at the step “trade”"), "{told}");
    set("");
    let told = dropped(&browser, "receipt.json", good);
    assert!(told.contains("Genuine if the key in it"), "{told}");
}
