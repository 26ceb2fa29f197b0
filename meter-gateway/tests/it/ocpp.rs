//! Chargers over OCPP, by real sockets: one of our own that runs always, and one that others wrote (the Python package
//! `ocpp`), where Python has it (`COMMONWATT_PYTHON` names the interpreter).

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::charger_record::ChargerRecord;
use domain::ids::{Digest32, to_hex};
use domain::signed::Message as _;
use futures_util::{SinkExt, StreamExt};
use meter_gateway::bus::{Place, Step};
use meter_gateway::config::{MetricsConfig, Role};
use meter_gateway::ocpp::config::{ChargePointConfig, OcppTls, OpenTo};
use meter_gateway::ocpp::{OcppConfig, mail, profile, store};
use meter_gateway::{Config, Gateway};
use runtime::tls::{ClientFiles, ClientTls, OwnCertificate};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

use crate::gateway::{config, device_config, platform};
use crate::home::{certificate, certificates};
use crate::platform::{GATEWAY, Mode, Platform};
use crate::status::{free_port, scrape, series};

const PASSWORD: &str = "a-password-of-20-signs";
const PATIENCE: Duration = Duration::from_secs(120);

/// A minute of the charger's life lasts some seconds, so that what is a few seconds late is still of this minute.
fn clock() -> runtime::clock::Clock {
    runtime::clock::Clock::scaled(domain::time::Timestamp::from_unix_s(1_782_000_000), 5)
}

fn with_charger(dir: &std::path::Path, platform: &Platform, keys: Vec<String>) -> Config {
    let mut device = device_config("charger", profile::NAME, None);
    device.role = Role::Submeter;
    device.charge_point = Some("CP-1".into());
    let mut config = config(dir, platform, vec![device]);
    let charge_point = ChargePointConfig {
        id: "CP-1".into(),
        password_sha256: Some(to_hex(&Digest32::of(PASSWORD.as_bytes()).0)),
        open_to: OpenTo::Sessions,
        id_tags: vec!["HOST".into()],
        ocmf_keys: keys,
    };
    config.ocpp = Some(OcppConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        allow_plaintext: false,
        heartbeat_s: 300,
        meter_interval_s: 30,
        tls: None,
        charge_points: vec![charge_point],
    });
    config
}

/// A charger of our own.
struct Charger<S = TcpStream> {
    socket: WebSocketStream<S>,
    calls: u32,
    told: Vec<(String, Value)>,
}

impl Charger {
    async fn come(address: SocketAddr, name: &str, password: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.unwrap();
        Charger::come_by(stream, name, Some(password)).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Charger<S> {
    async fn come_by(stream: S, name: &str, password: Option<&str>) -> Result<Self, Error> {
        let url = format!("ws://127.0.0.1/ocpp/{name}");
        let mut request = url.into_client_request().unwrap();
        let headers = request.headers_mut();
        if let Some(password) = password {
            let basic = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
            headers.insert("Authorization", HeaderValue::from_str(&basic).unwrap());
        }
        headers.insert(
            "Sec-WebSocket-Protocol",
            HeaderValue::from_static("ocpp1.6"),
        );
        let (socket, response) = client_async(request, stream).await?;
        assert_eq!(response.headers()["sec-websocket-protocol"], "ocpp1.6");
        Ok(Charger {
            socket,
            calls: 0,
            told: Vec::new(),
        })
    }

    /// Calls, and answers what it is asked meanwhile with `Accepted`.
    async fn call(&mut self, action: &str, payload: Value) -> Value {
        self.calls += 1;
        let id = format!("c{}", self.calls);
        let text = json!([2, id, action, payload]).to_string();
        self.socket.send(Message::text(text)).await.unwrap();
        loop {
            let parts = self.next().await;
            if parts[1] == id.as_str() {
                assert_eq!(parts[0], 3, "{parts}");
                return parts[2].clone();
            }
        }
    }

    async fn next(&mut self) -> Value {
        let message = timeout(PATIENCE, self.socket.next()).await.unwrap();
        let text = message.unwrap().unwrap().into_text().unwrap();
        if text.is_empty() {
            return Value::Null;
        }
        let parts: Value = serde_json::from_str(&text).unwrap();
        if parts[0] == 2 {
            let told = (parts[2].as_str().unwrap().to_owned(), parts[3].clone());
            self.told.push(told);
            let answer = json!([3, parts[1], {"status": "Accepted"}]).to_string();
            self.socket.send(Message::text(answer)).await.unwrap();
        }
        parts
    }

    /// Waits until it is asked for this.
    async fn told(&mut self, action: &str) -> Value {
        loop {
            if let Some(found) = self.told.iter().position(|(a, _)| a == action) {
                return self.told.remove(found).1;
            }
            self.next().await;
        }
    }

    async fn counts(&mut self, wh: i64) {
        let now = self.call("Heartbeat", json!({})).await["currentTime"].clone();
        let values = json!([{"value": wh.to_string(), "unit": "Wh"}]);
        let row = json!({"timestamp": now, "sampledValue": values});
        self.call(
            "MeterValues",
            json!({"connectorId": 1, "meterValue": [row]}),
        )
        .await;
    }
}

fn register(address: u16) -> Place {
    Place::Register {
        function: 3,
        address,
        unit: None,
    }
}

fn write_to(address: u16, words: &[u16]) -> Vec<Step> {
    vec![Step::Write {
        place: register(address),
        function: 16,
        words: words.to_vec(),
    }]
}

#[tokio::test]
async fn a_charger_comes_counts_and_is_let_in_and_limited() {
    let dir = tempfile::tempdir().unwrap();
    let platform = platform(dir.path()).await;
    let stop = CancellationToken::new();
    let config = with_charger(dir.path(), &platform, Vec::new());
    let gateway = Gateway::start(config, clock(), stop.clone()).await.unwrap();
    let address = gateway.chargers().unwrap().address().unwrap();
    for (name, password) in [("CP-1", "wrong"), ("CP-2", PASSWORD)] {
        let refused = Charger::come(address, name, password).await;
        let refused = refused.err().map(|error| error.to_string());
        assert!(refused.is_some_and(|e| e.contains("401")), "{name}");
    }
    let mut charger = Charger::come(address, "CP-1", PASSWORD).await.unwrap();
    let boot = json!({"chargePointVendor": "V", "chargePointModel": "M"});
    assert_eq!(
        charger.call("BootNotification", boot).await["status"],
        "Accepted"
    );
    charger.told("ChangeConfiguration").await;
    let mut wh = 1_000;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while platform.count("charger") < 2 {
        assert!(tokio::time::Instant::now() < deadline, "no readings came");
        charger.counts(wh).await;
        wh += 2;
        sleep(Duration::from_millis(200)).await;
    }
    let desk = gateway.desk();
    let opened = tokio::spawn(async move { desk.run(0, write_to(profile::OPEN, &[1])).await });
    assert_eq!(
        charger.told("RemoteStartTransaction").await["idTag"],
        "commonwatt"
    );
    assert!(opened.await.unwrap().is_ok());
    let desk = gateway.desk();
    let limited =
        tokio::spawn(async move { desk.run(0, write_to(profile::LIMIT, &[0, 8_000])).await });
    let told = charger.told("SetChargingProfile").await;
    let limit = &told["csChargingProfiles"]["chargingSchedule"]["chargingSchedulePeriod"][0];
    assert_eq!(limit["limit"], 8.0);
    assert!(limited.await.unwrap().is_ok());
    let readings = platform.checked("charger");
    let counted: i64 = readings
        .iter()
        .filter_map(|r| r.energy(domain::reading::Obis::IMPORT))
        .map(|e| e.wh())
        .sum();
    assert!(
        counted > 0 && counted <= wh - 1_000,
        "{counted} of {}",
        wh - 1_000
    );
    // Whoever comes again takes the place of the connection before.
    let mut again = Charger::come(address, "CP-1", PASSWORD).await.unwrap();
    again.counts(wh).await;
    stop.cancel();
    gateway.wait().await.unwrap();
}

#[tokio::test]
async fn a_signed_value_that_cannot_be_kept_is_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let platform = platform(dir.path()).await;
    let stop = CancellationToken::new();
    let config = with_charger(dir.path(), &platform, Vec::new());
    let gateway = Gateway::start(config, clock(), stop.clone()).await.unwrap();
    let address = gateway.chargers().unwrap().address().unwrap();
    let spool = meter_gateway::spool::Spool::open(dir.path(), 10)
        .await
        .unwrap();
    let db = spool.db();
    let rename = async |sql: &'static str| {
        let mut tx = db.begin().await.unwrap();
        tx.execute(sql, runtime::args![]).await.unwrap();
        tx.commit().await.unwrap();
    };
    let value = json!({"value": "OCMF|{}|{}", "format": "SignedData"});
    let signed = json!({"connectorId": 1, "transactionId": 5, "meterValue": [
        {"timestamp": clock().now().to_string(), "sampledValue": [value]}]});
    rename("ALTER TABLE gateway_charger_record RENAME TO gone").await;
    let mut charger = Charger::come(address, "CP-1", PASSWORD).await.unwrap();
    let text = json!([2, "s1", "MeterValues", signed]).to_string();
    charger.socket.send(Message::text(text)).await.unwrap();
    while let Some(Ok(heard)) = timeout(PATIENCE, charger.socket.next()).await.unwrap() {
        let text = heard.into_text().unwrap_or_default();
        assert!(!text.contains("\"s1\""), "it was answered: {text}");
    }
    rename("ALTER TABLE gone RENAME TO gateway_charger_record").await;
    let mut again = Charger::come(address, "CP-1", PASSWORD).await.unwrap();
    again.call("MeterValues", signed).await;
    stop.cancel();
    gateway.wait().await.unwrap();
}

/// As many records wait as may: an old one goes for a new one, the charger is answered, and whoever watches is told.
#[tokio::test]
async fn a_signed_value_that_is_lost_unsent_is_counted_where_prometheus_looks() {
    const FILL: &str = "INSERT INTO gateway_charger_record (id, heard_ms, payload)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
        SELECT CAST(printf('%032d', i) AS BLOB), i, $2 FROM n";
    let dir = tempfile::tempdir().unwrap();
    let platform = platform(dir.path()).await;
    platform.answer(Mode::Deaf);
    let stop = CancellationToken::new();
    let mut config = with_charger(dir.path(), &platform, Vec::new());
    let listen = free_port().await;
    config.metrics = Some(MetricsConfig { listen });
    let gateway = Gateway::start(config, clock(), stop.clone()).await.unwrap();
    let spool = meter_gateway::spool::Spool::open(dir.path(), 10)
        .await
        .unwrap();
    let waiting = ChargerRecord {
        gateway: domain::ids::GatewayId::new(GATEWAY).unwrap(),
        point: domain::ids::PointId::new("charger").unwrap(),
        heard_at: clock().now(),
        transaction: None,
        text: "OCMF|{}|{}".into(),
        keys: Vec::new(),
    };
    let mut tx = spool.db().begin().await.unwrap();
    let fill = runtime::args![mail::WAITING_MAX, waiting.to_cbor()];
    tx.execute(FILL, fill).await.unwrap();
    tx.commit().await.unwrap();

    let name = "commonwatt_gateway_device_errors_total\
        {device=\"charger\",kind=\"charger_record_lost\"}";
    assert_eq!(series(&scrape(listen).await, name), None);
    let address = gateway.chargers().unwrap().address().unwrap();
    let mut charger = Charger::come(address, "CP-1", PASSWORD).await.unwrap();
    for lost in 1..=2 {
        let value = json!({"value": format!("OCMF|{{{lost}}}|{{}}"), "format": "SignedData"});
        let row = json!({"timestamp": clock().now().to_string(), "sampledValue": [value]});
        let signed = json!({"connectorId": 1, "transactionId": lost, "meterValue": [row]});
        charger.call("MeterValues", signed).await;
        let counted = async {
            while series(&scrape(listen).await, name) != Some(lost) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(timeout(PATIENCE, counted).await.is_ok(), "lost {lost}");
    }
    let (oldest_ms, count): (i64, i64) = spool
        .db()
        .fetch_one(
            "SELECT MIN(heard_ms), COUNT(*) FROM gateway_charger_record",
            runtime::args![],
        )
        .await
        .unwrap();
    assert_eq!((oldest_ms, count), (3, mail::WAITING_MAX));
    stop.cancel();
    gateway.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_keep_no_charger_out() {
    let dir = tempfile::tempdir().unwrap();
    let platform = platform(dir.path()).await;
    let stop = CancellationToken::new();
    let config = with_charger(dir.path(), &platform, Vec::new());
    let gateway = Gateway::start(config, clock(), stop.clone()).await.unwrap();
    let address = gateway.chargers().unwrap().address().unwrap();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Half as long as a handshake may take.
    let comes = timeout(
        Duration::from_secs(5),
        Charger::come(address, "CP-1", PASSWORD),
    );
    let mut charger = comes.await.expect("it had to wait").unwrap();
    let answer = charger.call("Heartbeat", json!({})).await;
    assert!(answer["currentTime"].is_string(), "{answer}");
    stop.cancel();
    gateway.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charger_comes_in_with_its_own_certificate_and_no_other_charger_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let platform = platform(dir.path()).await;
    let (ca_file, own, issuer) = certificates(dir.path());
    let named = |name: &str| certificate(dir.path(), &issuer, name);
    let (first, second) = (named("CP-1"), named("CP-2"));
    let mut config = with_charger(dir.path(), &platform, Vec::new());
    let ocpp = config.ocpp.as_mut().unwrap();
    ocpp.tls = Some(OcppTls {
        cert_file: own.cert_file,
        key_file: own.key_file,
        client_ca_file: Some(ca_file.clone()),
    });
    ocpp.charge_points[0].password_sha256 = None;
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config, clock(), stop.clone()).await.unwrap();
    let address = gateway.chargers().unwrap().address().unwrap();
    let comes = async |own: Option<OwnCertificate>| {
        let files = ClientFiles {
            ca_file: Some(ca_file.clone()),
            own,
            server_name: None,
        };
        let tls = ClientTls::open(&files, "127.0.0.1").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = tls.connect(stream).await.map_err(|why| (0, why))?;
        let come = Charger::come_by(stream, "CP-1", None).await;
        come.map_err(|error| match error {
            Error::Http(answer) => (answer.status().as_u16(), "refused".to_owned()),
            other => (0, other.to_string()),
        })
    };
    let mut charger = comes(Some(first)).await.unwrap();
    let answer = charger.call("Heartbeat", json!({})).await;
    assert!(answer["currentTime"].is_string(), "{answer}");
    let other = comes(Some(second)).await.err().unwrap();
    assert_eq!(other.0, 401, "{}", other.1);
    // Without a certificate nothing is said over the connection.
    assert_eq!(comes(None).await.err().unwrap().0, 0);
    stop.cancel();
    gateway.wait().await.unwrap();
}

/// The Python charger, ended with the test.
struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charger_that_others_wrote_lives_its_life() {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/ocpp_charger.py");
    let python = std::env::var("COMMONWATT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = "import ocpp.v16, websockets, cryptography";
    let has_it = Command::new(&python).args(["-c", import]).output();
    if !has_it.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {python} has no ocpp with websockets and cryptography");
        return;
    }
    let mut child = Command::new(&python)
        .arg(SCRIPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut orders = child.stdin.take().unwrap();
    let _python = Python(child);
    let mut line = move || said.next().unwrap().unwrap();
    let key = line();

    let dir = tempfile::tempdir().unwrap();
    let platform = platform(dir.path()).await;
    let stop = CancellationToken::new();
    let config = with_charger(dir.path(), &platform, vec![key.clone()]);
    let gateway = Gateway::start(config, clock(), stop.clone()).await.unwrap();
    let address = gateway.chargers().unwrap().address().unwrap();
    writeln!(orders, "ws://{address}/ocpp/CP-1 {PASSWORD}").unwrap();
    let (mut line, host) = tokio::task::spawn_blocking(move || {
        let said = line();
        (line, said)
    })
    .await
    .unwrap();
    assert_eq!(host, "host");
    let desk = gateway.desk();
    desk.run(0, write_to(profile::OPEN, &[1])).await.unwrap();
    let (line, told) = tokio::task::spawn_blocking(move || {
        let said = line();
        (line, said)
    })
    .await
    .unwrap();
    assert_eq!(told, "charging");
    desk.run(0, write_to(profile::LIMIT, &[0, 10_500]))
        .await
        .unwrap();
    desk.run(0, write_to(profile::FREE, &[0])).await.unwrap();
    desk.run(0, write_to(profile::OPEN, &[0])).await.unwrap();
    let told = gateway
        .chargers()
        .unwrap()
        .ask("CP-1", "GetConfiguration", json!({}))
        .await
        .unwrap();
    assert_eq!(told["configurationKey"][0]["key"], "NumberOfConnectors");
    let told = tokio::task::spawn_blocking(line).await.unwrap();
    assert_eq!(told, "replayed");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while platform.count("charger") < 1 {
        assert!(tokio::time::Instant::now() < deadline, "no readings came");
        sleep(Duration::from_millis(50)).await;
    }
    // What its meter has signed goes to the platform until that has signed that it is there, and the same again is the same.
    let records = || platform.books.lock().unwrap().records.clone();
    while records().len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", records());
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_millis(500)).await;
    stop.cancel();
    gateway.wait().await.unwrap();
    let records = records();
    assert_eq!(records.len(), 2);
    let bytes = |n: usize| records[n].signed().as_bytes();
    assert_eq!(bytes(0), bytes(1));
    let record = records[0].message();
    assert_eq!(
        (record.point.as_str(), record.transaction),
        ("charger", Some(1))
    );
    let (ocmf, by) = record.check().unwrap();
    assert_eq!((ocmf.energy(), by.to_hex()), (Some(2_000_000), key));

    let spool = meter_gateway::spool::Spool::open(dir.path(), 10)
        .await
        .unwrap();
    let mail = mail::Mail::open(spool.db()).await.unwrap();
    assert_eq!(
        mail.oldest(&mail::START).await.unwrap(),
        [],
        "nothing waits any more"
    );
    let store = store::Store::open(spool.db()).await.unwrap();
    let known = store.transactions("CP-1").await.unwrap();
    let brief: Vec<_> = known
        .iter()
        .map(|t| (t.id, t.tag.as_str(), t.stop.as_ref().unwrap().meter_wh))
        .collect();
    assert_eq!(brief, [(1, "HOST", 1002), (2, "commonwatt", 1010)]);
    let signed = store.signed("CP-1").await.unwrap();
    assert_eq!(signed.len(), 1);
    assert_eq!(
        (signed[0].transaction, &signed[0].refused),
        (Some(1), &None)
    );
}
