//! A home's month as the program writes it: the same figures on the page, in the print, as JSON and as CSV; and none
//! at all where the books do not come to it.

use std::path::Path;
use std::process::{Command, Output};

use runtime::args;
use runtime::db::Db;
use serde_json::Value;

use crate::demo::{Demo, program, wait_for};

const HOME: &str = "home-01";

fn statement(data: &Path, month: &str, more: &[&str]) -> Output {
    Command::new(program())
        .args(["statement", "--home", HOME, "--month", month, "--data-dir"])
        .arg(data)
        .args(more)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// Someone adds to a balance behind the books' back.
fn spoil(data: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let db = Db::open(data.join("commonwatt.db").to_str().unwrap())
            .await
            .unwrap();
        let mut tx = db.begin().await.unwrap();
        let sql =
            "UPDATE settle_balances SET credits = credits + 1 WHERE owner = $1 AND chart = 100";
        tx.execute(sql, args![HOME]).await.unwrap();
        tx.commit().await.unwrap();
    });
}

#[test]
fn a_month_is_the_same_on_the_page_in_print_and_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("300", &data, &[]);
    let session = demo.sign_in(HOME);
    let get = |path: &str| demo.send("GET", path, &session, b"");
    let newest = get("/home/statement");
    let page = newest.header("location").unwrap().to_owned();
    let month = page.rsplit('/').next().unwrap().to_owned();
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let settled = wait_for("a settled interval", || {
        let answer = get(&format!("{page}?format=json"));
        let made = json(&answer.body);
        (made["total"]["data"]["measured"].as_u64() > Some(0)).then_some(made)
    });
    assert_eq!(settled["participant"], HOME);
    let print = get(&format!("{page}?format=html"));
    assert_eq!(print.status, 200);
    for part in [
        "<!DOCTYPE html>",
        "@page",
        "table-header-group",
        "With the utility alone",
    ] {
        assert!(print.body.contains(part), "{part}: {}", print.body);
    }
    assert!(
        !print.body.contains("href=") && !print.body.contains("src="),
        "nothing outside of it"
    );
    let stranger = demo.send("GET", &format!("{page}?format=html"), "", b"");
    assert_eq!(stranger.status, 404);
    drop(demo);
    let made = json(&text(&statement(&data, &month, &["--format", "json"])));
    let (total, alone) = (&made["total"]["net"], &made["alone"]["net"]);
    let csv = text(&statement(&data, &month, &["--format", "csv"]));
    let last: Vec<&str> = csv.trim_end().lines().last().unwrap().split(',').collect();
    assert_eq!(
        (last[0], last[22], last[23]),
        ("total", total.as_str().unwrap(), alone.as_str().unwrap())
    );
    let file = folder.path().join("bill.html");
    let german = statement(
        &data,
        &month,
        &[
            "--format",
            "html",
            "--language",
            "de",
            "--out",
            file.to_str().unwrap(),
        ],
    );
    assert!(german.status.success(), "{}", text(&german));
    let german = std::fs::read_to_string(&file).unwrap();
    assert!(
        german.contains("lang=\"de\"") && german.contains("Tag für Tag"),
        "{german}"
    );
    for (more, part) in [
        (["--language", "xx"], "--language"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--home", "nobody"], "nobody of this name"),
    ] {
        let mut args = Command::new(program());
        args.args(["statement", "--month", &month, "--data-dir"])
            .arg(&data);
        if more[0] != "--home" {
            args.args(["--home", HOME]);
        }
        let refused = args.args(more).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
        assert!(text(&refused).contains(part), "{}", text(&refused));
    }
    spoil(&data);
    let refused = statement(&data, &month, &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(
        text(&refused).contains("does not add up"),
        "{}",
        text(&refused)
    );
}
