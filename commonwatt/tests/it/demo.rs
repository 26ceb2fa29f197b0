//! The demo as a person runs it: start, trade, stop, go on; and what survives a killed process.
//!
//! `COMMONWATT_BIN` names another build of the program to test, the released one say.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything the street does.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn program() -> PathBuf {
    std::env::var_os("COMMONWATT_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_commonwatt")),
        PathBuf::from,
    )
}

/// What the demo answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Name and value of the cookie that it sets.
    pub(crate) fn cookie(&self) -> Option<&str> {
        self.header("set-cookie")?.split(';').next()
    }
}

/// A running demo; killed when the test ends.
pub(crate) struct Demo {
    child: Child,
    pub(crate) address: String,
    /// The ready sign-in links, by the account's name.
    links: BTreeMap<String, String>,
}

impl Demo {
    fn start(data_dir: &Path, extra: &[&str]) -> Demo {
        Demo::start_at("300", data_dir, extra)
    }

    pub(crate) fn start_at(speed: &str, data_dir: &Path, extra: &[&str]) -> Demo {
        let mut child = Command::new(program())
            .args(["demo", "--port", "0", "--speed", speed, "--quiet"])
            .arg("--data-dir")
            .arg(data_dir)
            .args(extra)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut links = BTreeMap::new();
        let page = lines.by_ref().map(Result::unwrap).find(|line| {
            if let Some(link) = line.strip_prefix("sign in") {
                let (who, url) = link.trim().split_once(' ').unwrap();
                let path = url.split("/sign-in/").nth(1).unwrap();
                links.insert(who.to_owned(), format!("/sign-in/{path}"));
            }
            line.starts_with("page")
        });
        let page = page.expect("the demo ended before it named its page");
        let address = page
            .split("http://")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned();
        // Whatever else it prints must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Demo {
            child,
            address,
            links,
        }
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, &[])
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> (u16, String) {
        self.ask("POST", path, body)
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let answer = self.send(method, path, "", body);
        (answer.status, answer.body)
    }

    /// Sends a request with further header lines, each with its line end.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body).unwrap()
    }

    /// The same; nothing where the connection was cut before the answer could be read.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Option<Answer> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = match headers.contains("Host: ") {
            true => String::new(),
            false => format!("Host: {}\r\n", self.address),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some(Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            body: unchunked(head, body),
            head: head.to_owned(),
        })
    }

    /// The path of an account's ready sign-in link.
    pub(crate) fn link(&self, who: &str) -> &str {
        &self.links[who]
    }

    /// Signs in with the ready link of an account, and gives the header line of its session.
    pub(crate) fn sign_in(&self, who: &str) -> String {
        let answer = self.send("POST", self.link(who), "", b"");
        assert_eq!(answer.status, 303, "{who}: {}", answer.body);
        format!("Cookie: {}\r\n", answer.cookie().unwrap())
    }

    /// Waits until a home's trades have a receipt that can be had, and downloads it.
    fn receipt(&self, session: &str) -> String {
        wait_for("a receipt among the home's trades", || {
            self.receipts(session).into_iter().next()
        })
    }

    /// The receipts that a home can have of the trades on its page.
    pub(crate) fn receipts(&self, session: &str) -> Vec<String> {
        let page = self.send("GET", "/trades", session, b"").body;
        page.split("href=\"")
            .map(|part| part.split('"').next().unwrap().to_owned())
            .filter(|link| link.starts_with("/receipts/"))
            .map(|link| self.send("GET", &link, session, b""))
            .filter(|receipt| receipt.status == 200)
            .map(|receipt| receipt.body)
            .collect()
    }

    fn log_size(&self, log: &str) -> u64 {
        let (status, note) = self.get(&format!("/api/v1/checkpoints/{log}"));
        if status == 200 {
            note.lines().nth(1).unwrap().parse().unwrap()
        } else {
            0
        }
    }

    fn signal(&mut self, signal: &str) -> ExitStatus {
        let killed = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Already gone where the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unchunked(head: &str, body: &str) -> String {
    if !head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        return body.to_owned();
    }
    let (mut rest, mut out) = (body, String::new());
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        out.push_str(&tail[..size]);
        rest = &tail[size + 2..];
    }
    out
}

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn run(args: &[&str]) -> Output {
    Command::new(program()).args(args).output().unwrap()
}

fn verify(folder: &Path, text: &str, extra: &[&str]) -> Output {
    let file = folder.join("checked.json");
    std::fs::write(&file, text).unwrap();
    let mut args = vec!["verify", file.to_str().unwrap()];
    args.extend(extra);
    run(&args)
}

#[test]
fn the_street_trades_stops_goes_on_and_its_receipts_are_genuine() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut demo = Demo::start(&data, &[]);
    let session = demo.sign_in("home-01");
    let receipt = demo.receipt(&session);
    let pinned = data.join("operator.pub");
    let checked = verify(
        folder.path(),
        &receipt,
        &["--key", pinned.to_str().unwrap()],
    );
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );

    let forged = receipt.replacen("\"energy_wh\": ", "\"energy_wh\": 1", 1);
    assert_ne!(forged, receipt);
    let checked = verify(folder.path(), &forged, &[]);
    assert_eq!(checked.status.code(), Some(1), "a forged receipt passed");
    assert!(
        String::from_utf8_lossy(&checked.stderr).contains("step `"),
        "it does not say which step"
    );

    let (status, health) = demo.get("/health");
    assert_eq!((status, health.contains("ok")), (200, true), "{health}");
    let (status, nothing) = demo.get("/no-such-page");
    assert_eq!(status, 404);
    assert!(
        nothing.contains("detail"),
        "an error must say something: {nothing}"
    );

    let before: Vec<u64> = ["readings", "market", "ledger"]
        .map(|log| demo.log_size(log))
        .to_vec();
    assert!(
        demo.signal("-INT").success(),
        "Ctrl-C must end it with exit code 0"
    );
    changed_books_are_refused(&data);
    let demo = Demo::start(&data, &[]);
    let after: Vec<u64> = ["readings", "market", "ledger"]
        .map(|log| demo.log_size(log))
        .to_vec();
    assert!(
        after.iter().zip(&before).all(|(a, b)| a >= b),
        "{before:?} then {after:?}"
    );
    wait_for("more readings after the restart", || {
        (demo.log_size("readings") > after[0] + 30).then_some(())
    });
    let checked = verify(
        folder.path(),
        // The session is in the database: it outlives the program.
        &demo.receipt(&session),
        &["--key", pinned.to_str().unwrap()],
    );
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
}

/// Changes a reading in the books, which no sum shows: nothing starts on them, and the row is named. Then it is set back.
fn changed_books_are_refused(data: &Path) {
    let folder = data.to_str().unwrap();
    let check = || run(&["check-books", "--data-dir", folder]);
    let sound = check();
    assert!(
        sound.status.success(),
        "{}",
        String::from_utf8_lossy(&sound.stderr)
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let file = data.join("commonwatt.db");
    let change = |sql: &'static str| {
        runtime.block_on(async {
            let db = runtime::db::Db::open(file.to_str().unwrap()).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            tx.execute(
                "DROP TRIGGER IF EXISTS settle_readings_no_update",
                runtime::args![],
            )
            .await
            .unwrap();
            assert!(tx.execute(sql, runtime::args![]).await.unwrap() > 0);
            tx.commit().await.unwrap();
            db.close().await;
        });
    };
    change(
        "UPDATE settle_readings SET exported_wh = exported_wh + 1000 WHERE point = 'home-01.meter'",
    );
    let found = check();
    let refused = run(&["demo", "--port", "0", "--data-dir", folder]);
    for (out, code) in [(found, 1), (refused, 3)] {
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert!(
            said.contains("the reading of home-01.meter in the interval"),
            "{said}"
        );
    }
    change(
        "UPDATE settle_readings SET exported_wh = exported_wh - 1000 WHERE point = 'home-01.meter'",
    );
}

/// Random from the process id and the time, printed so that a failure can be repeated.
fn random_pauses(count: usize) -> Vec<Duration> {
    use std::hash::{BuildHasher, RandomState};
    let pauses: Vec<_> = (0..count)
        .map(|n| Duration::from_millis(RandomState::new().hash_one(n) % 6_000 + 300))
        .collect();
    println!("killing after {pauses:?}");
    pauses
}

#[test]
fn ten_kills_at_random_moments_lose_nothing_and_post_nothing_twice() {
    if std::env::var_os("COMMONWATT_SLOW").is_none() {
        println!("skipped: set COMMONWATT_SLOW=1 to kill the demo ten times");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for pause in random_pauses(10) {
        let mut demo = Demo::start(&data, &[]);
        std::thread::sleep(pause);
        demo.signal("-KILL");
    }
    let mut demo = Demo::start(&data, &[]);
    let known = demo.log_size("readings");
    wait_for("the street to go on", || {
        (demo.log_size("readings") > known + 60).then_some(())
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // What is older than an hour comes at a limited rate, behind the newest.
    wait_for("what the kills held up", || {
        let whole = runtime.block_on(has_no_gap(&data.join("commonwatt.db")));
        whole.then_some(())
    });
    assert!(demo.signal("-INT").success());
    runtime.block_on(books_are_whole(&data.join("commonwatt.db")));
}

/// Whether every point's sequences are all there so far.
async fn has_no_gap(file: &Path) -> bool {
    let db = runtime::db::Db::open(file.to_str().unwrap()).await.unwrap();
    let (gaps,): (i64,) = db
        .fetch_one(
            "SELECT COUNT(*) FROM (SELECT point FROM settle_readings GROUP BY point
             HAVING COUNT(*) <> MAX(sequence) - MIN(sequence) + 1) AS torn",
            runtime::args![],
        )
        .await
        .unwrap();
    db.close().await;
    gaps == 0
}

async fn books_are_whole(file: &Path) {
    let db = runtime::db::Db::open(file.to_str().unwrap()).await.unwrap();
    let operator = runtime::key_file::open(&file.with_file_name("operator.key")).unwrap();
    settlement::service::check_books_whole(&db, &operator)
        .await
        .unwrap();
    let readings: Vec<(String, i64)> = db
        .fetch_all(
            "SELECT point, sequence FROM settle_readings ORDER BY point, sequence",
            runtime::args![],
        )
        .await
        .unwrap();
    let mut by_point: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (point, sequence) in readings {
        by_point.entry(point).or_default().push(sequence);
    }
    assert_eq!(
        by_point.len(),
        21,
        "ten homes, eight inverters, two chargers, one feeder"
    );
    for (point, sequences) in by_point {
        let whole = sequences.windows(2).all(|pair| pair[1] == pair[0] + 1);
        assert!(whole, "{point} has a gap or a double: {sequences:?}");
    }
    let rejected: Vec<(String,)> = db
        .fetch_all("SELECT reason FROM settle_refused", runtime::args![])
        .await
        .unwrap();
    assert!(
        rejected.is_empty(),
        "honest gateways were refused: {rejected:?}"
    );
}

#[test]
fn a_port_in_use_is_said_with_exit_code_3_before_anything_is_written() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let out = run(&[
        "demo",
        "--port",
        &port,
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    assert_eq!(out.status.code(), Some(3));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.contains(&port) && said.contains("in use") && said.contains("--port"),
        "{said}"
    );
    assert!(!data.exists(), "something was written");
}

#[test]
fn a_data_folder_that_cannot_be_written_is_said_with_exit_code_3() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "not a folder").unwrap();
    let out = run(&["demo", "--port", "0", "--data-dir", file.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(3));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.contains("a-file") && said.contains("--data-dir"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a folder");
}

#[test]
fn two_demos_in_one_data_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Demo::start(folder.path(), &[]);
    let out = run(&[
        "demo",
        "--port",
        "0",
        "--data-dir",
        folder.path().to_str().unwrap(),
    ]);
    assert_eq!(out.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&out.stderr).contains("in use by another"));
}

#[test]
fn a_receipt_that_is_no_receipt_fails_at_its_format() {
    let folder = tempfile::tempdir().unwrap();
    for text in ["", "{}", "[1,2", "{\"format\": \"commonwatt-receipt/v1\"}"] {
        let out = verify(folder.path(), text, &[]);
        assert_eq!(out.status.code(), Some(1), "{text}");
        assert!(
            String::from_utf8_lossy(&out.stderr).contains("step `format`"),
            "{text}"
        );
    }
    let missing = run(&["verify", "there-is-no-such-file.json"]);
    assert_eq!(missing.status.code(), Some(2));
}
