//! Passkeys in a real browser with an authenticator of its driver: added, used, copied, replayed, removed.

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::demo::{Demo, wait_for};

/// Asks for a signature as the page does, sends it twice, and gives both answers' status.
const TWICE: &str = r#"return (async () => {
    const send = (path, body) => fetch(path, { method: "POST", body, headers: { "content-type": "application/json" } });
    const options = await (await send("/sign-in/passkey/begin", "")).json();
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
    const signed = JSON.stringify(await navigator.credentials.get({ publicKey }));
    const one = await send("/sign-in/passkey", signed), two = await send("/sign-in/passkey", signed);
    return [one.status, two.status];
})()"#;

struct Person<'a> {
    browser: &'a Browser,
    /// The page by the name for which browsers take passkeys.
    page: String,
    authenticator: String,
}

impl Person<'_> {
    fn open(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.page));
    }

    fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?})?.innerText ?? ''");
        self.browser.run(&script).as_str().unwrap().to_owned()
    }

    fn path(&self) -> String {
        let path = self.browser.run("return location.pathname");
        path.as_str().unwrap().to_owned()
    }

    fn of_authenticator(&self, method: &str, path: &str, body: &Value) -> Value {
        let path = format!("/webauthn/authenticator/{}{path}", self.authenticator);
        self.browser.of_session(method, &path, body)
    }

    fn sign_out(&self) {
        self.open("/account");
        self.browser.follow("main form[action='/sign-out'] button");
    }

    /// Tries to sign in with the passkey; where the browser is then, or what the page says.
    fn enter(&self) -> String {
        self.open("/sign-in");
        self.browser
            .run("document.querySelector('form[data-passkey] button').click()");
        wait_for("an answer to a passkey", || {
            let (path, said) = (self.path(), self.text("#passkey-said"));
            [path, said]
                .into_iter()
                .find(|text| !text.is_empty() && text != "/sign-in")
        })
    }
}

fn added(person: &Person<'_>, link: &str) {
    person.open(link);
    person.browser.follow("form button.primary");
    assert_eq!(person.path(), "/home");
    person.open("/account");
    person
        .browser
        .run("document.getElementById('passkey-name').value = 'phone <b>'");
    let click = "document.querySelector('form[data-passkey] button').click()";
    person.browser.run(click);
    wait_for("the new passkey", || {
        let said = person.text("#passkey-said");
        assert_eq!(said, "", "no passkey was added");
        person.text(".passkeys").contains("phone <b>").then_some(())
    });
    assert!(person.text(".passkeys").contains("not used yet"));
    person.browser.run(click);
    wait_for("a word on a passkey that is there", || {
        person
            .text("#passkey-said")
            .contains("already")
            .then_some(())
    });
}

/// A copy of the key with an older counter signs nobody in.
fn copied(person: &Person<'_>) {
    let known = person.of_authenticator("GET", "/credentials", &json!({}));
    let mut copy = known[0].clone();
    let id = copy["credentialId"].as_str().unwrap().to_owned();
    assert!(copy["signCount"].as_u64().unwrap() >= 2, "{copy}");
    let counted = copy["signCount"].take();
    let put = |count: Value| {
        person.of_authenticator("DELETE", &format!("/credentials/{id}"), &json!({}));
        let mut copy = copy.clone();
        copy["signCount"] = count;
        person.of_authenticator("POST", "/credential", &copy);
    };
    put(json!(0));
    assert!(person.enter().contains("not accepted"));
    put(counted);
    assert_eq!(person.enter(), "/home", "the true one still does");
    person.sign_out();
}

#[test]
fn a_passkey_signs_in_and_neither_a_copy_nor_a_replay_does() {
    let Some(browser) = Browser::start() else {
        println!("skipped: there is no chromedriver with chromium here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start_at("60", &folder.path().join("data"), &[]);
    let kind = json!({ "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
        "hasUserVerification": true, "isUserVerified": true });
    let authenticator = browser.of_session("POST", "/webauthn/authenticator", &kind);
    let port = demo.address.split(':').nth(1).unwrap();
    let person = Person {
        browser: &browser,
        page: format!("http://localhost:{port}"),
        authenticator: authenticator.as_str().unwrap().to_owned(),
    };
    browser.open(&format!("http://{}/sign-in", demo.address));
    assert!(
        person.text("main").contains(&format!("localhost:{port}")),
        "{}",
        person.text("main")
    );

    added(&person, demo.link("home-01"));
    person.sign_out();
    person.open("/home");
    assert!(person.text("h1").contains("nothing"), "signed out");
    assert_eq!(person.enter(), "/home");
    person.open("/account");
    assert!(person.text(".passkeys").contains("last used"));
    person.sign_out();
    copied(&person);
    person.open("/sign-in");
    assert_eq!(
        browser.run(TWICE),
        json!([200, 400]),
        "an answer is good once"
    );

    person.open("/account");
    person.browser.follow(".passkeys button");
    assert_eq!(person.text(".passkeys"), "");
    person.sign_out();
    assert!(person.enter().contains("not accepted"), "it was removed");
}

#[test]
fn only_a_session_s_own_page_adds_a_passkey() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start_at("60", &folder.path().join("data"), &[]);
    let session = demo.sign_in("home-01");
    let ask = |path: &str, headers: &str| demo.send("POST", path, headers, b"{}").status;
    for path in ["/account/passkeys/begin", "/account/passkeys"] {
        assert_eq!(ask(path, ""), 404, "nobody is signed in");
        assert_eq!(ask(path, &session), 403, "no token of the session");
    }
    let port = demo.address.split(':').nth(1).unwrap();
    let named = format!("{session}Host: localhost:{port}\r\n");
    let page = demo.send("GET", "/account", &named, b"");
    let policy = page.header("content-security-policy").unwrap();
    let nonce = policy.split("'nonce-").nth(1).unwrap();
    let nonce = nonce.split('\'').next().unwrap();
    assert!(nonce.len() >= 32 && !policy.contains("unsafe"), "{policy}");
    let scripts = page.body.matches("<script").count();
    let ours = format!("nonce=\"{nonce}\"");
    assert_eq!(page.body.matches(&ours).count(), scripts, "{}", page.body);
    let csrf = page.body.split("data-csrf=\"").nth(1).unwrap();
    let csrf = csrf.split('"').next().unwrap();
    let own = format!("{session}X-CSRF-Token: {csrf}\r\n");
    let options = demo.send("POST", "/account/passkeys/begin", &own, b"");
    assert_eq!(options.status, 200, "{}", options.body);
    assert!(options.body.contains("\"userVerification\":\"required\""));
    let elsewhere = format!("{own}Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(ask("/account/passkeys/begin", &elsewhere), 403);
    for body in [
        "",
        "{}",
        "{\"credential\":{}}",
        "{\"credential\":1,\"name\":2}",
    ] {
        let answer = demo.send("POST", "/account/passkeys", &own, body.as_bytes());
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
    }
    assert_eq!(ask("/sign-in/passkey", ""), 400, "no challenge");
    assert_eq!(
        ask("/sign-in/passkey", "Origin: https://evil.example\r\n"),
        403
    );
}
