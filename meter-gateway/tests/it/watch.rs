//! The commissioning check on a real line: a meter that is right, and one that is read wrongly.

use std::time::Duration;

use meter_gateway::commission::{Evidence, Finding, Topic, Verdict, judge};
use meter_gateway::config::Config;
use meter_gateway::watch::{Watched, watch};
use tokio_util::sync::CancellationToken;

use crate::device::{Device, Make};
use crate::gateway::{clock, config, device_config};
use crate::platform::Platform;
use domain::signed::PublicKey;
use meter_gateway::open_key;

/// Three minutes of the device's time.
const WATCH: Duration = Duration::from_secs(3);

fn findings(watched: &Watched) -> Vec<Finding> {
    judge(
        &watched.subject,
        Evidence {
            own: &watched.own,
            swapped: &watched.swapped,
            second: &[],
        },
    )
}

#[track_caller]
fn check(watched: &Watched, verdict: Verdict, topic: Topic) {
    let findings = findings(watched);
    let found = findings
        .iter()
        .any(|f| (f.verdict, f.topic) == (verdict, topic));
    assert!(found, "{:?}: {findings:#?}", watched.own);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_meter_agrees_with_itself_and_swapped_words_are_named() {
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let platform = Platform::start(PublicKey::of(&open_key(dir.path()).unwrap())).await;
    let device = Device::start(&clock, Make::Sdm630).await;
    let own = dir.path().join("profiles");
    std::fs::create_dir(&own).unwrap();
    let text = include_str!("../../src/profiles/eastron-sdm630.toml");
    // Without its dumps, which would show the mistake at once.
    let text = text.split("[[dump]]").next().unwrap();
    let text = text
        .replace("name = \"eastron-sdm630\"", "name = \"wrong\"")
        .replace("max_words", "word_order = \"low-first\"\nmax_words");
    std::fs::write(own.join("wrong.toml"), text + DUMP).unwrap();
    let devices = vec![
        device_config("right", "eastron-sdm630", Some(&device.address)),
        device_config("wrong", "wrong", Some(&device.address)),
    ];
    let config = Config {
        profile_dir: Some(own),
        ..config(dir.path(), &platform, devices)
    };
    let watched = watch(&config, WATCH, &clock).await.unwrap();
    check(&watched[0], Verdict::Ok, Topic::CounterSlope);
    check(&watched[0], Verdict::Ok, Topic::WordOrder);
    check(&watched[1], Verdict::Wrong, Topic::WordOrder);
}

/// A dump of a device that says nothing, as every profile needs one.
const DUMP: &str = "[[dump]]\nnote = \"nothing is available\"\nregisters = [\n\
    { function = 4, address = 0x34, words = \"0000 7fc0\" },\n]\nexpect = { }\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_off_is_watched_in_vain_and_a_running_gateway_is_not_disturbed() {
    let (clock, dir) = (clock(), tempfile::tempdir().unwrap());
    let platform = Platform::start(PublicKey::of(&open_key(dir.path()).unwrap())).await;
    let devices = vec![device_config("off", "eastron-sdm630", Some("127.0.0.1:9"))];
    let config = config(dir.path(), &platform, devices);
    let watched = watch(&config, Duration::from_millis(600), &clock)
        .await
        .unwrap();
    assert!(
        watched[0].own.is_empty() && watched[0].errors["connect"] > 0,
        "{watched:?}"
    );
    let shutdown = CancellationToken::new();
    let gateway = meter_gateway::Gateway::start(config.clone(), clock.clone(), shutdown.clone());
    let gateway = gateway.await.unwrap();
    let refused = watch(&config, WATCH, &clock).await.unwrap_err();
    assert!(refused.to_string().contains("stop it first"), "{refused}");
    shutdown.cancel();
    gateway.wait().await.unwrap();
}
