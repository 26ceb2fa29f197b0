//! A gateway's key from the claim code to its end, with the program as people run it: a platform, a gateway
//! and a meter on Modbus TCP; and that no secret is anywhere but in its own file.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use domain::ids::{Digest32, to_hex};
use serde_json::Value;

use crate::demo::program;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(90);
pub(crate) const INTERVAL_S: u32 = 10;
pub(crate) const PASSWORD: &str = "0123456789abcdef";

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

/// An SDM630 whose import grows by 6 kW, until the test ends.
pub(crate) fn meter() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let start = Instant::now();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve_meter(stream.unwrap(), start));
        }
    });
    address
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the meter's own imprecision"
)]
fn serve_meter(mut stream: TcpStream, start: Instant) {
    let mut request = [0; 12];
    while stream.read_exact(&mut request).is_ok() {
        let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
        let (first, count) = (word(8), word(10));
        let hours = start.elapsed().as_secs_f64() / 3600.0;
        let bytes = (first..first + count).flat_map(|address| {
            let value = match address & !1 {
                0x34 => 6000.0,
                0x48 => 100.0 + 6.0 * hours,
                0x4a => 7.0,
                _ => f64::NAN,
            };
            let bytes = (value as f32).to_be_bytes();
            let half = usize::from(address & 1) * 2;
            [bytes[half], bytes[half + 1]]
        });
        let bytes: Vec<u8> = bytes.collect();
        let length = u16::try_from(bytes.len() + 3).unwrap().to_be_bytes();
        let head = [0, 0, length[0], length[1], request[6], request[7]];
        let mut answer = [&request[..2], &head].concat();
        answer.push(u8::try_from(bytes.len()).unwrap());
        answer.extend(bytes);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// A running program that logs into a file; stopped in order when the test ends.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(log: PathBuf, args: &[&str], input: Option<&str>) -> Running {
        let file = File::create(&log).unwrap();
        let mut child = Command::new(program())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.unwrap_or("").as_bytes()).unwrap();
        Running { child, log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// What stands behind a word at the start of a line.
    pub(crate) fn said(&self, word: &str) -> String {
        wait_for(word, || {
            let log = self.log();
            let line = log.lines().find(|line| line.starts_with(word))?;
            Some(line[word.len()..].trim().to_owned())
        })
    }

    pub(crate) fn logs(&self, what: &str) {
        wait_for(&format!("`{what}` in {}", self.log.display()), || {
            self.log().contains(what).then_some(())
        });
    }

    /// Ends it at once, as a power cut does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn stop(&mut self) {
        let asked = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(asked.unwrap().success());
        let ended = self.child.wait().unwrap();
        assert!(ended.success(), "{}", self.log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Lane {
    folder: tempfile::TempDir,
    url: String,
    starts: u32,
    codes: Vec<String>,
    seeds: Vec<[u8; 32]>,
}

impl Lane {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn new() -> Lane {
        Lane {
            folder: tempfile::tempdir().unwrap(),
            url: String::new(),
            starts: 0,
            codes: Vec::new(),
            seeds: Vec::new(),
        }
    }

    /// A platform at fixed addresses, and the configuration of its gateway.
    pub(crate) fn begin() -> (Lane, Running) {
        let mut lane = Lane::new();
        lane.write_site("127.0.0.1:0", "127.0.0.1:0");
        let platform = lane.serve();
        let broker = platform.said("broker").replace("mqtt://", "");
        lane.write_site(&broker, &lane.url.replace("http://", ""));
        lane.write_gateway(&broker, &meter());
        (lane, platform)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write_site(&self, mqtt: &str, web: &str) {
        let password = to_hex(&Digest32::of(PASSWORD.as_bytes()).0);
        let gateway = format!("password_sha256 = \"{password}\"\n");
        self.write_site_with(&format!("listen = \"{mqtt}\"\n"), web, &gateway);
    }

    /// With these keys below `[mqtt]` and in the gateway's table.
    pub(crate) fn write_site_with(&self, mqtt: &str, web: &str, gateway: &str) {
        let site = format!(
            "community = \"lane\"\ninterval_length_s = {INTERVAL_S}\ngate_closure_s = 5\n\
             [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
             [mqtt]\n{mqtt}[web]\nlisten = \"{web}\"\n\
             [[participants]]\nid = \"home-1\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"10\"\n\
             [[gateways]]\nid = \"gw-1\"\n{gateway}\
             points = [{{ id = \"home-1.meter\", role = \"connection\", participant = \"home-1\", \
             rating_w = 10000 }}]\n"
        );
        fs::write(self.path("site.toml"), site).unwrap();
    }

    pub(crate) fn write_gateway(&self, broker: &str, meter: &str) {
        let (host, port) = broker.rsplit_once(':').unwrap();
        let operator = fs::read_to_string(self.path("platform/operator.pub")).unwrap();
        let gateway = format!(
            "community = \"lane\"\ngateway = \"gw-1\"\ndata_dir = \"gateway\"\n\
             interval_length_s = {INTERVAL_S}\npoll_interval_s = 1\noperator_key = \"{}\"\n\
             [mqtt]\nhost = \"{host}\"\nport = {port}\nuser = \"gw-1\"\npassword = \"{PASSWORD}\"\n\
             [[devices]]\nname = \"meter\"\nprofile = \"eastron-sdm630\"\npoint = \"home-1.meter\"\n\
             role = \"connection\"\nrating_w = 10000\naddress = \"{meter}\"\nunit = 1\n",
            operator.trim()
        );
        fs::write(self.path("gateway.toml"), gateway).unwrap();
    }

    fn start(&mut self, args: &[&str], input: Option<&str>) -> Running {
        self.starts += 1;
        let log = self.path(&format!("log-{}", self.starts));
        Running::start(log, args, input)
    }

    pub(crate) fn serve(&mut self) -> Running {
        let (site, data) = (self.text("site.toml"), self.text("platform"));
        let running = self.start(&["serve", "--config", &site, "--data-dir", &data], None);
        let page = running.said("page");
        let page = page.split_whitespace().next().unwrap();
        self.url = page.trim_end_matches('/').to_owned();
        running
    }

    pub(crate) fn gateway(&mut self, code: Option<&str>) -> Running {
        let config = self.text("gateway.toml");
        let mut args = vec!["gateway", "--config", &config];
        if code.is_some() {
            args.extend(["--claim", "-"]);
        }
        self.start(&args, code)
    }

    fn keys(&self, args: &[&str]) -> Output {
        let data = self.text("platform");
        Command::new(program())
            .arg("keys")
            .args(args)
            .args(["--url", &self.url, "--data-dir", &data])
            .output()
            .unwrap()
    }

    pub(crate) fn claim(&mut self) -> String {
        let made = self.keys(&["claim", "--gateway", "gw-1", "--format", "json"]);
        assert!(made.status.success(), "{made:?}");
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        let code = made["code"].as_str().unwrap().to_owned();
        self.codes.push(code.clone());
        code
    }

    /// Number of readings in the gateway's outbox.
    fn waiting(&self) -> u64 {
        let config = self.text("gateway.toml");
        let shown = Command::new(program())
            .args(["gateway", "status", "--config", &config, "--format", "json"])
            .output()
            .unwrap();
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        shown["outbox"]["waiting"].as_u64().unwrap()
    }

    /// State and newest accepted sequence of each of the gateway's keys.
    fn states(&self) -> Vec<(String, u64)> {
        let listed = self.keys(&["list", "--format", "json"]);
        assert!(listed.status.success(), "{listed:?}");
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        let keys = listed["gateways"][0]["keys"].as_array().unwrap();
        let state = |key: &Value| {
            let newest = key["newest_sequence"].as_u64().unwrap_or(0);
            (key["state"].as_str().unwrap().to_owned(), newest)
        };
        keys.iter().map(state).collect()
    }

    /// Waits until the newest key has these predecessors and readings beyond `above` in the books.
    pub(crate) fn accepted(&self, before: &[&str], above: u64) -> u64 {
        wait_for("readings in the books", || {
            let states = self.states();
            let (last, older) = states.split_last()?;
            let older: Vec<&str> = older.iter().map(|(state, _)| state.as_str()).collect();
            (older == before && last.0 == "valid" && last.1 > above).then_some(last.1)
        })
    }

    fn remember_key(&mut self, name: &str) {
        let key = runtime::key_file::read(&self.path(name)).unwrap();
        self.seeds.push(key.to_bytes());
    }

    /// Looks for every secret in every file of the folder but key files and passwords.
    fn secrets_are_nowhere(&self) {
        let mut wanted: Vec<Vec<u8>> = Vec::new();
        for seed in &self.seeds {
            wanted.push(seed.to_vec());
            wanted.push(to_hex(seed).into_bytes());
            wanted.push(to_hex(seed).to_uppercase().into_bytes());
            // Base64 of the same bytes looks different behind one or two other bytes.
            for shift in 0..3 {
                let padded = [&vec![0; shift][..], seed].concat();
                for text in [
                    STANDARD_NO_PAD.encode(&padded),
                    URL_SAFE_NO_PAD.encode(&padded),
                ] {
                    wanted.push(text.as_bytes()[4..40].to_vec());
                }
            }
        }
        for code in &self.codes {
            wanted.push(code.clone().into_bytes());
            wanted.push(code.replace('-', "").into_bytes());
        }
        let mut files = Vec::new();
        all_files(self.folder.path(), &mut files);
        let (keys, others): (Vec<_>, Vec<_>) = files
            .into_iter()
            .partition(|file| file.extension().is_some_and(|e| e == "key"));
        assert!(keys.len() >= 3, "{keys:?}");
        assert!(
            others.len() > 10,
            "logs, configuration and databases are there"
        );
        for file in others {
            let bytes = fs::read(&file).unwrap();
            for secret in &wanted {
                let found = bytes.windows(secret.len()).any(|part| part == secret);
                assert!(!found, "a secret is in {}", file.display());
            }
        }
    }
}

fn all_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_files(&path, into);
        } else if path.is_file() {
            into.push(path);
        }
    }
}

#[test]
fn a_key_is_claimed_rotated_and_revoked_and_never_shown() {
    let (mut lane, mut platform) = Lane::begin();
    assert!(lane.states().is_empty());

    // A code that is none is refused at once, one of another gateway by the platform, by name.
    let mistyped = lane.gateway(Some("AAAA-BBBB-CCCC-DDDD-EEEE-FFFF\n"));
    mistyped.logs("the claim code is mistyped");
    let code = lane.claim();
    let foreign = domain::claim::ClaimCode::from_random([9; 16]).reveal();
    let mut gateway = lane.gateway(Some(&format!("{foreign}\n")));
    gateway.logs("claim_unknown");
    gateway.stop();
    let mut gateway = lane.gateway(Some(&format!("{}\n", code.to_lowercase())));
    gateway.logs("the platform has enrolled this gateway's key");
    let first = lane.accepted(&[], 1);
    lane.remember_key("gateway/gateway.key");

    // Rotation needs the gateway stopped, and loses no interval.
    let config = lane.text("gateway.toml");
    let rotate = ["gateway", "rotate-key", "--config", &config];
    let refused = Command::new(program()).args(rotate).output().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    gateway.stop();
    let rotated = Command::new(program()).args(rotate).output().unwrap();
    assert!(rotated.status.success(), "{rotated:?}");
    let mut gateway = lane.gateway(None);
    let second = lane.accepted(&["replaced"], first + 1);
    lane.remember_key("gateway/gateway.key");
    assert!(!lane.path("gateway/gateway-next.key").exists());
    assert!(!lane.path("gateway/introduction.json").exists());

    // A platform that starts again knows the newest key.
    platform.stop();
    let mut platform = lane.serve();
    let third = lane.accepted(&["replaced"], second + 1);

    // A revoked key's readings are refused by name, and nothing more comes under it.
    let revoked = lane.keys(&["revoke", "--gateway", "gw-1", "--reason", "a test"]);
    assert!(revoked.status.success(), "{revoked:?}");
    gateway.logs("was refused: key_revoked");
    let states = lane.states();
    assert_eq!(
        (&*states[0].0, &*states[1].0),
        ("revoked", "revoked"),
        "the one before too"
    );
    assert!(states[1].1 >= third);
    let nothing = lane.keys(&["revoke", "--gateway", "gw-1", "--reason", "once more"]);
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
    // What it still signs is refused only when the next key is in: that one is not revoked by it.
    platform.stop();
    wait_for("a reading in the outbox", || {
        (lane.waiting() > 0).then_some(())
    });
    gateway.stop();
    let platform = lane.serve();

    // A new code lets in a new key.
    let code = lane.claim();
    let gateway = lane.gateway(Some(&format!("{code}\n")));
    gateway.logs("was refused: key_revoked");
    lane.accepted(&["revoked", "revoked"], 1);
    assert!(!lane.path("gateway/gateway.revoked").exists());
    assert_eq!(
        lane.states()[1],
        states[1],
        "nothing more was taken from it"
    );
    lane.remember_key("gateway/gateway.key");
    assert_ne!(lane.seeds[1], lane.seeds[2]);
    drop((gateway, platform));
    lane.remember_key("platform/operator.key");
    lane.secrets_are_nowhere();
}
