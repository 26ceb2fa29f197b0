//! The broker with Mosquitto's own clients, where they are installed.

use std::process::Stdio;
use std::time::Duration;

use runtime::broker::Limits;
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::{PATIENCE, TestBroker};

#[tokio::test]
async fn mosquitto_clients_talk_to_the_broker() {
    if std::process::Command::new("mosquitto_pub")
        .arg("--help")
        .output()
        .is_err()
    {
        eprintln!("skipped: mosquitto_pub is not installed");
        return;
    }
    let broker = TestBroker::start(0, Limits::default()).await;
    let port = broker.port.to_string();
    for version in ["311", "5"] {
        let common = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            version,
            "-u",
            "all",
            "-P",
            "all",
        ];
        let mut reader = Command::new("mosquitto_sub");
        reader
            .args(common)
            .args(["-t", "a/#", "-q", "1", "-C", "1"])
            .stdout(Stdio::piped());
        let reader = reader.kill_on_drop(true).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut writer = Command::new("mosquitto_pub");
        let wrote = writer
            .args(common)
            .args(["-t", "a/b", "-q", "1", "-m", version])
            .status();
        assert!(timeout(PATIENCE, wrote).await.unwrap().unwrap().success());
        let read = timeout(PATIENCE, reader.wait_with_output())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(String::from_utf8(read.stdout).unwrap().trim(), version);
    }
    broker.stop().await;
}
