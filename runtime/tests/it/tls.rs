//! TLS between our link, our broker, and Mosquitto with its clients, where they are installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use runtime::broker::Limits;
use runtime::mqtt::{Answer, MqttEvent, MqttLink, MqttOptions, QoS};
use runtime::tls::{ClientFiles, ClientTls, OwnCertificate, ServerFiles, ServerTls, TlsError};
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{PATIENCE, TestBroker};
use crate::link::{connected, message, next, options};

/// An authority that writes certificates into a folder.
struct Authority {
    folder: PathBuf,
    ca_file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

fn named(name: Option<&str>, alternatives: &[&str]) -> CertificateParams {
    let alternatives: Vec<String> = alternatives.iter().map(|a| (*a).to_owned()).collect();
    let mut params = CertificateParams::new(alternatives).unwrap();
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = named(Some(name), &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_file = folder.join(format!("{name}.pem"));
        fs::write(&ca_file, params.self_signed(&key).unwrap().pem()).unwrap();
        Authority {
            folder: folder.to_owned(),
            ca_file,
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, file: &str, params: &CertificateParams) -> OwnCertificate {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let own = OwnCertificate {
            cert_file: self.folder.join(format!("{file}.pem")),
            key_file: self.folder.join(format!("{file}.key")),
        };
        fs::write(&own.cert_file, certificate.pem()).unwrap();
        write_private(&own.key_file, &key.serialize_pem());
        own
    }

    fn broker(&self) -> OwnCertificate {
        self.issue("broker", &named(None, &["localhost", "127.0.0.1"]))
    }

    fn client(&self, own: Option<OwnCertificate>) -> ClientFiles {
        ClientFiles {
            ca_file: Some(self.ca_file.clone()),
            own,
            server_name: None,
        }
    }
}

async fn broker(own: OwnCertificate, client_ca: Option<&Authority>) -> TestBroker {
    let files = ServerFiles {
        own,
        client_ca_file: client_ca.map(|ca| ca.ca_file.clone()),
    };
    let tls = ServerTls::open(&files).unwrap();
    TestBroker::start_with(0, Limits::default(), Some(tls)).await
}

fn secure(port: u16, user: &str, filters: &[&str], files: &ClientFiles) -> MqttOptions {
    let mut options = options(port, user, filters);
    options.tls = Some(ClientTls::open(files, "127.0.0.1").unwrap());
    options
}

/// As who its certificate says, without user and password.
fn by_certificate(port: u16, id: &str, filters: &[&str], files: &ClientFiles) -> MqttOptions {
    let mut options = secure(port, id, filters, files);
    (options.user, options.password) = (String::new(), String::new());
    options
}

/// Why a link does not get a connection.
async fn refusal(options: MqttOptions) -> String {
    let stop = CancellationToken::new();
    let (_, mut events) = MqttLink::start(options, stop.clone());
    loop {
        if let MqttEvent::Disconnected { reason } = next(&mut events).await {
            stop.cancel();
            return reason;
        }
    }
}

#[tokio::test]
async fn a_link_and_the_broker_talk_over_tls_with_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let broker = broker(ca.broker(), None).await;
    let (port, files, stop) = (broker.tls_port, ca.client(None), CancellationToken::new());
    let (_, mut readings) = MqttLink::start(
        secure(port, "settle", &["cw/+/reading"], &files),
        stop.clone(),
    );
    connected(&mut readings).await;
    let (gateway, mut events) = MqttLink::start(secure(port, "gw1", &[], &files), stop.clone());
    connected(&mut events).await;
    let long = "x".repeat(100_000);
    for text in ["1", long.as_str(), "3"] {
        gateway
            .publish("cw/gw1/reading", text, QoS::AtLeastOnce, false)
            .unwrap();
        assert_eq!(next(&mut readings).await, message("cw/gw1/reading", text));
    }
    let mut wrong = secure(port, "gw1", &[], &files);
    wrong.password = "wrong".into();
    let reason = refusal(wrong).await;
    assert!(
        reason.contains("BadUserNamePassword") && reason.contains("check user"),
        "{reason}"
    );
    stop.cancel();
    broker.stop().await;
}

#[tokio::test]
async fn a_client_certificate_is_the_user_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, clients) = (
        Authority::new(dir.path(), "ca"),
        Authority::new(dir.path(), "clients"),
    );
    let broker = broker(ca.broker(), Some(&clients)).await;
    let (port, stop) = (broker.tls_port, CancellationToken::new());
    let with = |own| ca.client(Some(own));
    let settle = with(clients.issue("settle", &named(None, &["settle"])));
    let (_, mut readings) = MqttLink::start(
        by_certificate(port, "s", &["cw/+/reading"], &settle),
        stop.clone(),
    );
    connected(&mut readings).await;
    let gw1 = with(clients.issue("gw1", &named(Some("gw1"), &["some.name"])));
    let (gateway, mut events) = MqttLink::start(
        by_certificate(port, "g", &["cw/gw2/cmd"], &gw1),
        stop.clone(),
    );
    connected(&mut events).await;
    let refused = next(&mut events).await;
    assert!(
        matches!(refused, MqttEvent::SubscribeRefused { .. }),
        "{refused:?}"
    );
    gateway.publish_tracked("cw/gw1/reading", "1", 1).unwrap();
    assert_eq!(next(&mut readings).await, message("cw/gw1/reading", "1"));
    gateway.publish_tracked("cw/gw2/reading", "2", 2).unwrap();
    for (ticket, answer) in [(1, Answer::Taken), (2, Answer::NotAuthorized)] {
        assert_eq!(
            next(&mut events).await,
            MqttEvent::Answered { ticket, answer }
        );
    }
    stop.cancel();

    // Another name than that of the certificate, also with that user's password.
    let reason = refusal(secure(port, "gw2", &[], &gw1)).await;
    assert!(reason.contains("BadUserNamePassword"), "{reason}");
    let unknown = with(clients.issue("gw9", &named(Some("gw9"), &[])));
    let reason = refusal(by_certificate(port, "g", &[], &unknown)).await;
    assert!(reason.contains("BadUserNamePassword"), "{reason}");
    let two_names = with(clients.issue("two", &named(None, &["gw1", "gw2"])));
    let reason = refusal(by_certificate(port, "g", &[], &two_names)).await;
    assert!(reason.contains("closed"), "{reason}");
    let reason = refusal(secure(port, "gw1", &[], &ca.client(None))).await;
    assert!(reason.contains("wants a certificate of ours"), "{reason}");
    let foreign = with(ca.issue("foreign", &named(Some("gw1"), &[])));
    let reason = refusal(by_certificate(port, "g", &[], &foreign)).await;
    assert!(
        reason.contains("does not know the authority of our certificate"),
        "{reason}"
    );
    let mut old = named(Some("gw1"), &[]);
    old.not_after = date_time_ymd(2020, 1, 1);
    let expired = with(clients.issue("expired", &old));
    let reason = refusal(by_certificate(port, "g", &[], &expired)).await;
    assert!(
        reason.contains("our certificate (client_cert_file) has expired"),
        "{reason}"
    );
    assert!(broker.counters.get("refused_tls") >= 4);
    broker.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_not_the_right_one_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, other) = (
        Authority::new(dir.path(), "ca"),
        Authority::new(dir.path(), "other"),
    );
    let real = broker(ca.broker(), None).await;
    let reason = refusal(secure(real.tls_port, "gw1", &[], &other.client(None))).await;
    assert!(
        reason.contains("not in") && reason.contains("other.pem"),
        "{reason}"
    );
    let mut named_else = ca.client(None);
    named_else.server_name = Some("mqtt.example".into());
    let reason = refusal(secure(real.tls_port, "gw1", &[], &named_else)).await;
    assert!(reason.contains("not for mqtt.example"), "{reason}");
    assert!(reason.contains("localhost"), "{reason}");
    // TLS to the plain port, and plain MQTT to the TLS port.
    let reason = refusal(secure(real.port, "gw1", &[], &ca.client(None))).await;
    assert!(reason.contains("TLS"), "{reason}");
    refusal(options(real.tls_port, "gw1", &[])).await;
    real.stop().await;

    let mut old = named(None, &["127.0.0.1"]);
    old.not_after = date_time_ymd(2020, 1, 1);
    let expired = broker(ca.issue("old", &old), None).await;
    let reason = refusal(secure(expired.tls_port, "gw1", &[], &ca.client(None))).await;
    assert!(reason.contains("has expired"), "{reason}");
    expired.stop().await;
    let mut young = named(None, &["127.0.0.1"]);
    (young.not_before, young.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1));
    let early = broker(ca.issue("young", &young), None).await;
    let reason = refusal(secure(early.tls_port, "gw1", &[], &ca.client(None))).await;
    assert!(reason.contains("not valid yet"), "{reason}");
    early.stop().await;
    let nameless = broker(ca.issue("nameless", &named(Some("127.0.0.1"), &[])), None).await;
    let reason = refusal(secure(nameless.tls_port, "gw1", &[], &ca.client(None))).await;
    assert!(reason.contains("subjectAltName"), "{reason}");
    nameless.stop().await;
}

#[test]
fn files_that_do_not_fit_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let (one, two) = (ca.broker(), ca.issue("two", &named(Some("two"), &[])));
    let server = |own: &OwnCertificate| {
        let files = ServerFiles {
            own: own.clone(),
            client_ca_file: None,
        };
        ServerTls::open(&files).map(|_| ()).unwrap_err()
    };
    let pair = |cert: &Path, key: &Path| OwnCertificate {
        cert_file: cert.to_owned(),
        key_file: key.to_owned(),
    };
    let mixed = server(&pair(&one.cert_file, &two.key_file));
    assert!(matches!(mixed, TlsError::Pair { .. }), "{mixed}");
    let no_key = server(&pair(&one.cert_file, &one.cert_file));
    assert!(matches!(no_key, TlsError::Readable { .. }), "{no_key}");
    fs::set_permissions(&one.cert_file, fs::Permissions::from_mode(0o600)).unwrap();
    let no_key = server(&pair(&one.cert_file, &one.cert_file));
    assert!(
        no_key.to_string().contains("holds no private key"),
        "{no_key}"
    );
    let swapped = server(&pair(&one.key_file, &one.key_file));
    assert!(
        swapped.to_string().contains("holds no certificate"),
        "{swapped}"
    );
    fs::set_permissions(&one.key_file, fs::Permissions::from_mode(0o640)).unwrap();
    let readable = server(&one);
    assert!(readable.to_string().contains("mode 640"), "{readable}");
    let missing = server(&pair(Path::new("/none.pem"), &two.key_file));
    assert!(
        missing.to_string().contains("cannot read /none.pem"),
        "{missing}"
    );

    let damaged = dir.path().join("damaged.pem");
    let text = "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n";
    fs::write(&damaged, text).unwrap();
    let files = ClientFiles {
        ca_file: Some(damaged),
        ..ClientFiles::default()
    };
    let error = ClientTls::open(&files, "a").map(|_| ()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("damaged.pem holds no certificate"),
        "{error}"
    );
    let error = ClientTls::open(&ca.client(None), "a b").map(|_| ());
    assert!(matches!(error, Err(TlsError::Name(_))), "{error:?}");
}

fn is_missing(program: &str) -> bool {
    let found = std::process::Command::new(program).arg("--help").output();
    if found.is_err() {
        eprintln!("skipped: {program} is not installed");
    }
    found.is_err()
}

#[tokio::test]
async fn mosquitto_clients_talk_to_the_broker_over_tls() {
    if is_missing("mosquitto_pub") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let broker = broker(ca.broker(), Some(&ca)).await;
    let port = broker.tls_port.to_string();
    let (all, stranger) = (
        ca.issue("all", &named(Some("all"), &[])),
        Authority::new(dir.path(), "other").issue("stranger", &named(Some("all"), &[])),
    );
    let arguments = |own: &OwnCertificate| {
        let text = |path: &Path| path.display().to_string();
        [
            "-h",
            "localhost",
            "-p",
            &port,
            "-V",
            "5",
            "-t",
            "a/b",
            "-q",
            "1",
            "--cafile",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([text(&ca.ca_file), "--cert".into(), text(&own.cert_file)])
        .chain(["--key".into(), text(&own.key_file)])
        .collect::<Vec<_>>()
    };
    let mut reader = Command::new("mosquitto_sub");
    reader
        .args(arguments(&all))
        .args(["-C", "1"])
        .stdout(Stdio::piped());
    let reader = reader.kill_on_drop(true).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let publish = |own: &OwnCertificate| {
        let mut writer = Command::new("mosquitto_pub");
        writer
            .args(arguments(own))
            .args(["-m", "hello"])
            .stderr(Stdio::null());
        async move {
            timeout(PATIENCE, writer.status())
                .await
                .unwrap()
                .unwrap()
                .success()
        }
    };
    assert!(
        !publish(&stranger).await,
        "a certificate of another authority"
    );
    assert!(publish(&all).await);
    let read = timeout(PATIENCE, reader.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(String::from_utf8(read.stdout).unwrap().trim(), "hello");
    broker.stop().await;
}

#[tokio::test]
async fn a_link_talks_to_mosquitto_over_tls_by_certificate() {
    if is_missing("mosquitto") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path(), "ca");
    let own = ca.broker();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let acl = dir.path().join("acl");
    fs::write(&acl, "pattern readwrite cw/%u/#\n").unwrap();
    let config = dir.path().join("mosquitto.conf");
    let text = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous false\nrequire_certificate true\n\
         use_identity_as_username true\ncafile {}\ncertfile {}\nkeyfile {}\nacl_file {}\n",
        ca.ca_file.display(),
        own.cert_file.display(),
        own.key_file.display(),
        acl.display()
    );
    fs::write(&config, text).unwrap();
    let mut mosquitto = Command::new("mosquitto");
    mosquitto.arg("-c").arg(&config).stderr(Stdio::null());
    let _mosquitto = mosquitto.kill_on_drop(true).spawn().unwrap();

    let files = ca.client(Some(ca.issue("gw1", &named(Some("gw1"), &[]))));
    let stop = CancellationToken::new();
    let filters = &["cw/gw1/reading"];
    let (gateway, mut events) =
        MqttLink::start(by_certificate(port, "g", filters, &files), stop.clone());
    connected(&mut events).await;
    let messages = [
        ("cw/gw1/state", Answer::Nobody),
        ("cw/gw2/reading", Answer::NotAuthorized),
        ("cw/gw1/reading", Answer::Taken),
    ];
    for (ticket, (topic, _)) in (0..).zip(messages) {
        gateway.publish_tracked(topic, "1", ticket).unwrap();
    }
    let (mut answers, mut heard) = ([None; 3], 0);
    while answers.contains(&None) || heard == 0 {
        match next(&mut events).await {
            MqttEvent::Answered { ticket, answer } => {
                answers[usize::try_from(ticket).unwrap()] = Some(answer);
            }
            event => {
                assert_eq!(event, message("cw/gw1/reading", "1"));
                heard += 1;
            }
        }
    }
    assert_eq!(answers, messages.map(|(_, answer)| Some(answer)));
    stop.cancel();
    while events.recv().await.is_some() {}
    let reason = refusal(secure(port, "gw1", &[], &ca.client(None))).await;
    assert!(reason.contains("certificate"), "{reason}");
}
