//! Accounts as people and strangers meet them: links, sessions, forms from elsewhere, other people's data.

use std::process::Command;

use crate::demo::{Demo, program, wait_for};

/// Somebody's trade ids, as the page of their trades links them.
fn receipts(page: &str) -> Vec<String> {
    let links = page.split("href=\"").skip(1);
    let links = links.map(|part| part.split('"').next().unwrap().to_owned());
    links
        .filter(|link| link.starts_with("/receipts/"))
        .collect()
}

#[test]
fn a_person_signs_in_once_by_a_link_and_sees_the_own_home_only() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("300", &data, &[]);
    let link = demo.link("home-01");

    // Whatever previews links uses none up.
    for _ in 0..3 {
        let page = demo.send("GET", link, "", b"");
        assert_eq!(page.status, 200);
        assert!(page.body.contains("home-01") && page.cookie().is_none());
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert_eq!(demo.send("HEAD", link, "", b"").status, 200);
    }
    for foreign in [
        "Origin: https://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        assert_eq!(demo.send("POST", link, foreign, b"").status, 403);
    }
    let entered = demo.send("POST", link, "", b"");
    assert_eq!(entered.status, 303);
    let set = entered.header("set-cookie").unwrap();
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Lax"),
        "{set}"
    );
    let session = format!("Cookie: {}\r\n", entered.cookie().unwrap());
    assert_eq!(
        demo.send("POST", link, "", b"").status,
        404,
        "a replayed link"
    );
    assert_eq!(demo.send("GET", link, "", b"").status, 404);

    others_and_strangers(&demo, &session);
    let out = demo.send("GET", "/account", &session, b"").body;
    let csrf = out.split("name=\"csrf\" value=\"").nth(1).unwrap();
    let csrf = csrf.split('"').next().unwrap();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let leave = |headers: &str, body: &str| {
        let headers = format!("{session}{form}{headers}");
        demo.send("POST", "/sign-out", &headers, body.as_bytes())
            .status
    };
    assert_eq!(leave("", ""), 403, "no token");
    assert_eq!(leave("", "csrf=AAAA"), 403, "a wrong token");
    let right = format!("csrf={csrf}");
    assert_eq!(leave("Origin: https://evil.example\r\n", &right), 403);
    assert_eq!(leave("", &right), 303);
    assert_eq!(leave("", &right), 404, "the session is over");
    assert_eq!(demo.send("GET", "/trades", &session, b"").status, 404);

    let huge = vec![b'a'; 4_000_000];
    let home = demo.sign_in("operator");
    let answer = demo.try_send("POST", "/sign-out", &format!("{home}{form}"), &huge);
    assert!(answer.is_none_or(|answer| answer.status == 413));
    assert_eq!(demo.get("/health").0, 200);
}

fn others_and_strangers(demo: &Demo, session: &str) {
    let own = wait_for("a trade of the home", || {
        let page = demo.send("GET", "/trades", session, b"").body;
        let found = receipts(&page);
        found
            .into_iter()
            .find(|link| demo.send("GET", link, session, b"").status == 200)
    });
    assert!(own.ends_with("/home-01.json"), "{own}");
    let forged = "Cookie: commonwatt=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n";
    let driver = demo.sign_in("driver");
    for who in ["", forged, "Cookie: commonwatt=\r\n", &driver] {
        assert_eq!(demo.send("GET", &own, who, b"").status, 404, "{who}");
        assert_eq!(demo.send("GET", "/trades", who, b"").status, 404, "{who}");
    }
    // A trade has two sides, and the other one's receipt is the other one's.
    let trade = own.trim_end_matches("/home-01.json");
    for other in 2..=10 {
        let theirs = format!("{trade}/home-{other:02}.json");
        assert_eq!(demo.send("GET", &theirs, session, b"").status, 404);
    }
    let guessed = format!("{trade}-AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(demo.send("GET", &guessed, session, b"").status, 404);
    let token = "Authorization: Bearer cw_AAAA\r\n";
    assert_eq!(demo.send("GET", "/trades", token, b"").status, 401);
}

/// Runs `commonwatt accounts` on a data folder.
pub(crate) fn accounts(data: &std::path::Path, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(program());
    command
        .arg("accounts")
        .args(args)
        .arg("--data-dir")
        .arg(data);
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap(), said)
}

#[test]
fn the_operator_makes_accounts_links_and_tokens_while_the_platform_runs() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (code, said) = accounts(&data, &["list"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--data-dir") && !data.exists(), "{said}");

    let demo = Demo::start_at("60", &data, &[]);
    for (wrong, word) in [
        (["add", "bob", "--role", "king"], "king"),
        (["add", "bob", "--role", "home"], "participant"),
        (["add", "Bob Smith", "--role", "driver"], "name"),
    ] {
        let (code, said) = accounts(&data, &wrong);
        assert_eq!((code, said.contains(word)), (2, true), "{said}");
    }
    let home_2 = ["add", "ann", "--role", "home", "--participant", "home-02"];
    assert_eq!(accounts(&data, &home_2).0, 0);
    let (_, said) = accounts(&data, &["link", "ann"]);
    let path = said.lines().next().unwrap().split("8080").nth(1).unwrap();
    assert_eq!(demo.send("POST", path, "", b"").status, 303);

    let (_, said) = accounts(&data, &["token", "ann", "--new", "reader", "--read-only"]);
    let token = said.lines().next().unwrap();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(demo.send("GET", "/trades", &bearer, b"").status, 200);
    let (_, list) = accounts(&data, &["token", "ann", "--format", "json"]);
    assert!(list.contains("reader") && !list.contains(token), "{list}");
    let id = list
        .split("\"id\": \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert_eq!(accounts(&data, &["token", "ann", "--revoke", id]).0, 0);
    assert_eq!(demo.send("GET", "/trades", &bearer, b"").status, 401);

    assert_eq!(accounts(&data, &["revoke", "ann"]).0, 0);
    assert_eq!(accounts(&data, &["revoke", "ann"]).0, 2);
    let (_, deeds) = accounts(&data, &["audit", "--format", "csv"]);
    let actions: Vec<&str> = deeds
        .lines()
        .filter_map(|line| line.split(',').nth(3))
        .collect();
    assert_eq!(
        actions[..7],
        [
            "action",
            "account revoked",
            "token revoked",
            "token made",
            "signed in",
            "link made",
            "account added"
        ]
    );
}
