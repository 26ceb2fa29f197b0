//! Devices at the home's own broker, beside the platform's.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meter_gateway::Gateway;
use meter_gateway::config::{HomeMqttConfig, TlsConfig};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use runtime::broker::{Access, AccessList, Broker, Limits};
use runtime::mqtt::{MqttEvent, MqttHandle, MqttLink, MqttOptions, QoS};
use runtime::tls::{OwnCertificate, ServerFiles, ServerTls};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::gateway::{clock, config, device_config, emptied, platform, until};

/// A broker with one user for everybody in the home.
pub(crate) async fn broker(address: SocketAddr, stop: &CancellationToken) -> SocketAddr {
    let broker = bound(address).await;
    let address = broker.local_addr();
    tokio::spawn(broker.run(stop.clone()));
    address
}

async fn bound(address: SocketAddr) -> Broker {
    let every = vec!["#".to_owned()];
    let access = Access {
        read: every.clone(),
        write: every,
    };
    let list = AccessList::new();
    list.add("home", b"secret", access).unwrap();
    Broker::bind(address, Arc::new(list), Limits::default())
        .await
        .unwrap()
}

/// Files of an authority and of who listens on this computer, and who signs further certificates.
pub(crate) fn certificates(folder: &Path) -> (PathBuf, OwnCertificate, Issuer<'static, KeyPair>) {
    let authority = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_file = folder.join("ca.pem");
    std::fs::write(&ca_file, params.self_signed(&authority).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, authority);
    let own = certificate(folder, &issuer, "127.0.0.1");
    (ca_file, own, issuer)
}

/// Files of a certificate: its name is the common name and the only alternative name.
pub(crate) fn certificate(
    folder: &Path,
    issuer: &Issuer<'static, KeyPair>,
    name: &str,
) -> OwnCertificate {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let own = OwnCertificate {
        cert_file: folder.join(format!("{name}.pem")),
        key_file: folder.join(format!("{name}.key")),
    };
    let signed = params.signed_by(&key, issuer).unwrap();
    std::fs::write(&own.cert_file, signed.pem()).unwrap();
    std::fs::write(&own.key_file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&own.key_file, PermissionsExt::from_mode(0o600)).unwrap();
    own
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_homes_broker_is_spoken_to_encrypted_where_it_is_the_one_that_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (ca_file, own, _) = certificates(dir.path());
    let mut broker = bound(any).await;
    let files = ServerFiles {
        own,
        client_ca_file: None,
    };
    let tls = ServerTls::open(&files).unwrap();
    let secure = broker.bind_tls(any, tls).await.unwrap();
    let plain = broker.local_addr();
    tokio::spawn(broker.run(stop.clone()));
    let platform = platform(dir.path()).await;
    let meter = device_config("home-1", "eastron-sdm630", Some("127.0.0.1:1"));
    let mut config = config(dir.path(), &platform, vec![meter]);
    let (_handle, mut states) = somebody_at(plain, "x", &["commonwatt/gw-1/state"], &stop);
    let mut home = home_mqtt(secure);
    home.tls = Some(TlsConfig::default());
    config.home_mqtt = Some(home.clone());
    // An authority that nobody here believes.
    let first_life = CancellationToken::new();
    let gateway = Gateway::start(config.clone(), clock(), first_life.clone())
        .await
        .unwrap();
    until("refusals", || {
        gateway
            .status()
            .errors
            .get("home_broker")
            .is_some_and(|n| *n > 0)
    })
    .await;
    first_life.cancel();
    gateway.wait().await.unwrap();
    while let Ok(event) = states.try_recv() {
        assert_eq!(event, MqttEvent::Connected, "it spoke to a stranger");
    }
    home.tls = Some(TlsConfig {
        ca_file: Some(ca_file),
        ..TlsConfig::default()
    });
    config.home_mqtt = Some(home);
    let gateway = Gateway::start(config, clock(), stop.clone()).await.unwrap();
    assert_eq!(state(&mut states).await, "online");
    stop.cancel();
    gateway.wait().await.unwrap();
}

pub(crate) fn somebody_at(
    address: SocketAddr,
    client_id: &str,
    subscriptions: &[&str],
    stop: &CancellationToken,
) -> (MqttHandle, mpsc::Receiver<MqttEvent>) {
    let subscriptions = subscriptions.iter();
    let options = MqttOptions {
        host: address.ip().to_string(),
        port: address.port(),
        client_id: client_id.into(),
        user: "home".into(),
        password: "secret".into(),
        subscriptions: subscriptions
            .map(|s| ((*s).into(), QoS::AtLeastOnce))
            .collect(),
        tls: None,
        last_will: None,
        keep_alive_s: 5,
        max_packet_bytes: 65_536,
    };
    MqttLink::start(options, stop.clone())
}

pub(crate) fn home_mqtt(address: SocketAddr) -> HomeMqttConfig {
    HomeMqttConfig {
        host: address.ip().to_string(),
        port: Some(address.port()),
        user: Some("home".into()),
        password: Some("secret".into()),
        ..HomeMqttConfig::default()
    }
}

/// The next word on the gateway's state topic.
async fn state(events: &mut mpsc::Receiver<MqttEvent>) -> String {
    let next = async {
        loop {
            if let MqttEvent::Message { payload, .. } = events.recv().await.unwrap() {
                return String::from_utf8(payload).unwrap();
            }
        }
    };
    timeout(Duration::from_secs(20), next).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_heard_at_the_homes_broker_also_after_it_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let (stop, first_life) = (CancellationToken::new(), CancellationToken::new());
    let address = broker(SocketAddr::from(([127, 0, 0, 1], 0)), &first_life).await;
    let platform = platform(dir.path()).await;
    let mut shelly = device_config("home-1", "shelly-pro-3em", None);
    shelly.prefix = Some("shelly/3em".into());
    let mut config = config(dir.path(), &platform, vec![shelly]);
    config.home_mqtt = Some(home_mqtt(address));
    let gateway = Gateway::start(config, clock(), stop.clone()).await.unwrap();
    let (handle, mut states) = somebody_at(address, "x", &["commonwatt/gw-1/state"], &stop);
    assert_eq!(state(&mut states).await, "online");
    let say = |wh: i64, retain| {
        let text = format!(r#"{{"total_act":{wh},"total_act_ret":0}}"#);
        let topic = "shelly/3em/status/emdata:0";
        let _ = handle.publish(topic, text, QoS::AtMostOnce, retain);
    };
    until("samples", || {
        say(1000, false);
        gateway.status().devices[0].samples > 2
    })
    .await;
    say(999, true);
    first_life.cancel();
    until("the loss is counted", || {
        gateway.status().errors.contains_key("home_broker")
    })
    .await;
    broker(address, &stop).await;
    assert_eq!(state(&mut states).await, "online", "said again");
    let before = gateway.status().devices[0].samples;
    until("samples again", || {
        say(1000, false);
        gateway.status().devices[0].samples > before + 2
    })
    .await;
    emptied(|| gateway.status()).await;
    let watch = gateway.status_handle();
    stop.cancel();
    gateway.wait().await.unwrap();
    assert!(watch.get().connected, "the platform's link never broke");
}
