//! What a running gateway shows: over its socket, and to Prometheus.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use meter_gateway::config::MetricsConfig;
use meter_gateway::spool::Spool;
use meter_gateway::status::report::Report;
use meter_gateway::status::socket::{AskError, ask};
use meter_gateway::{Gateway, known_key_id};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::device::{Device, Fault, Make};
use crate::gateway::{clock, config, device_config, platform, until};
use crate::platform::Mode;

pub(crate) async fn scrape(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// A port that nobody listens at.
pub(crate) async fn free_port() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    free.local_addr().unwrap()
}

/// The value of a series; none where it is not on the page.
pub(crate) fn series(page: &str, name: &str) -> Option<i64> {
    let mut values = page
        .lines()
        .filter_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    values.next().map(|value| value.parse().unwrap())
}

/// Has another program read the page, where it is there.
fn check_with_python(page: &str) {
    const READER: &str = "\
import sys
try:
    from prometheus_client.parser import text_string_to_metric_families as read
except ImportError:
    print('skipped: no prometheus_client'); sys.exit(0)
names = {f.name: f.type for f in read(sys.stdin.read())}
assert names['commonwatt_gateway_device_errors'] == 'counter', names
assert names['commonwatt_gateway_device_value_age_seconds'] == 'gauge', names
assert len(names) >= 14, names
";
    let python = Command::new("python3")
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        return eprintln!("skipped: there is no python3");
    };
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(page.as_bytes()).unwrap();
    drop(stdin);
    let done = python.wait_with_output().unwrap();
    eprint!("{}", String::from_utf8_lossy(&done.stdout));
    assert!(done.status.success(), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_shows_ages_errors_and_its_outbox_and_what_is_unknown_is_absent() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let device = Device::start(&clock, Make::Sdm630).await;
    let platform = platform(dir.path()).await;
    platform.answer(Mode::Silent);
    let listen = free_port().await;
    let meter = device_config("home-1", "eastron-sdm630", Some(&device.address));
    let absent = device_config("home-2", "eastron-sdm630", Some("127.0.0.1:1"));
    let mut config = config(dir.path(), &platform, vec![meter, absent]);
    config.metrics = Some(MetricsConfig { listen });
    let stop = CancellationToken::new();
    let gateway = Gateway::start(config, clock, stop.clone()).await.unwrap();
    until("an unanswered reading", || gateway.status().waiting > 0).await;
    device.set(Fault::Busy);
    let busy = || gateway.status().devices[0].errors.contains_key("busy");
    until("a busy device", busy).await;

    let socket = dir.path().join("gateway.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let report: Report = ask(dir.path()).await.unwrap();
    let key = known_key_id(dir.path()).unwrap().to_string();
    assert_eq!(report.key_id, Some(key));
    let outbox = report.outbox.unwrap();
    assert!(outbox.waiting > 0 && outbox.refused == 0, "{outbox:?}");
    assert!(outbox.oldest_age_ms.unwrap() < 600_000, "{outbox:?}");
    let running = report.running.unwrap();
    assert!(running.broker.connected && running.broker.since_ms.is_some());
    assert_eq!(running.clock.unwrap().state, "relative");
    assert!(running.devices[0].value_age_ms.is_some());
    assert!(running.devices[0].errors["busy"] > 0);
    assert_eq!(running.devices[1].value_age_ms, None, "it was never there");

    let page = scrape(listen).await;
    let age = |device: &str| {
        let name = format!("commonwatt_gateway_device_value_age_seconds{{device=\"{device}\"}}");
        series(&page, &name)
    };
    assert!(age("home-1").is_some() && age("home-2").is_none(), "{page}");
    let of = |name: &str| series(&page, &format!("commonwatt_gateway_{name}"));
    assert!(of("outbox_readings").unwrap() > 0);
    assert!(of("outbox_oldest_age_seconds").is_some());
    assert!(of(r#"device_errors_total{device="home-1",kind="busy"}"#).unwrap() > 0);
    check_with_python(&page);

    // Its books answer again: nothing waits, so there is no oldest reading, and not one of age 0.
    device.set(Fault::None);
    platform.answer(Mode::Answer);
    let mut page = scrape(listen).await;
    while series(&page, "commonwatt_gateway_outbox_readings") != Some(0) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        page = scrape(listen).await;
    }
    let oldest = series(&page, "commonwatt_gateway_outbox_oldest_age_seconds");
    assert_eq!(oldest, None, "{page}");

    stop.cancel();
    gateway.wait().await.unwrap();
    assert!(!socket.exists());
    let asked = ask(dir.path()).await;
    assert!(matches!(asked, Err(AskError::NotRunning(_))), "{asked:?}");
    let backlog = Spool::look(dir.path()).await.unwrap().unwrap();
    assert_eq!(backlog.refused, 0);
    let nowhere = Spool::look(&dir.path().join("nowhere")).await.unwrap();
    assert_eq!(nowhere, None);
}
