//! The client link against the broker, also across the broker's restart.

use runtime::broker::Limits;
use runtime::mqtt::{LastWill, MqttEvent, MqttLink, MqttOptions, QoS};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{PATIENCE, TestBroker};

fn options(port: u16, user: &str, filters: &[&str]) -> MqttOptions {
    MqttOptions {
        host: "127.0.0.1".into(),
        port,
        client_id: user.into(),
        user: user.into(),
        password: user.into(),
        subscriptions: filters
            .iter()
            .map(|f| ((*f).to_owned(), QoS::AtLeastOnce))
            .collect(),
        last_will: None,
        keep_alive_s: 5,
        max_packet_bytes: 1 << 20,
    }
}

async fn next(events: &mut Receiver<MqttEvent>) -> MqttEvent {
    timeout(PATIENCE, events.recv())
        .await
        .expect("no event")
        .expect("the link has ended")
}

/// Skips everything before the next connection.
async fn connected(events: &mut Receiver<MqttEvent>) {
    while next(events).await != MqttEvent::Connected {}
}

fn message(topic: &str, payload: &str) -> MqttEvent {
    MqttEvent::Message {
        topic: topic.into(),
        payload: payload.into(),
        retain: false,
    }
}

#[tokio::test]
async fn a_link_comes_back_after_the_broker_restarts_and_subscribes_again() {
    let broker = TestBroker::start(0, Limits::default()).await;
    let (port, stop) = (broker.port, CancellationToken::new());
    let (_, mut readings) =
        MqttLink::start(options(port, "settle", &["cw/+/reading"]), stop.clone());
    connected(&mut readings).await;
    let (gateway, mut events) = MqttLink::start(options(port, "gw1", &[]), stop.clone());
    connected(&mut events).await;
    gateway
        .publish("cw/gw1/reading", "1", QoS::AtLeastOnce, false)
        .unwrap();
    assert_eq!(next(&mut readings).await, message("cw/gw1/reading", "1"));
    broker.stop().await;
    let MqttEvent::Disconnected { reason } = next(&mut readings).await else {
        panic!()
    };
    assert!(reason.contains("ServerShuttingDown"), "{reason}");
    let broker = TestBroker::start(port, Limits::default()).await;
    connected(&mut readings).await;
    connected(&mut events).await;
    gateway
        .publish("cw/gw1/reading", "2", QoS::AtLeastOnce, false)
        .unwrap();
    assert_eq!(next(&mut readings).await, message("cw/gw1/reading", "2"));
    stop.cancel();
    while readings.recv().await.is_some() {}
    broker.stop().await;
}

#[tokio::test]
async fn refusals_are_events() {
    let broker = TestBroker::start(0, Limits::default()).await;
    let filters = &["cw/gw1/cmd", "cw/gw2/cmd"];
    let stop = CancellationToken::new();
    let (gateway, mut events) = MqttLink::start(options(broker.port, "gw1", filters), stop.clone());
    connected(&mut events).await;
    let event = next(&mut events).await;
    let MqttEvent::SubscribeRefused { filter, reason } = event else {
        panic!("{event:?}")
    };
    assert_eq!(
        (filter.as_str(), reason.as_str()),
        ("cw/gw2/cmd", "NotAuthorized")
    );
    for (topic, payload, said) in [
        ("cw/gw2/reading", vec![0; 10], "NotAuthorized"),
        ("cw/gw1/reading", vec![0; 300_000], "more than"),
        ("cw/+/reading", vec![0; 10], ""),
    ] {
        gateway
            .publish(topic, payload, QoS::AtLeastOnce, false)
            .unwrap();
        let event = next(&mut events).await;
        let MqttEvent::PublishRefused { reason } = event else {
            panic!("{event:?}")
        };
        assert!(reason.contains(said), "{reason}");
    }
    stop.cancel();
    let mut wrong = options(broker.port, "gw1", &[]);
    wrong.password = "wrong".into();
    let (_, mut events) = MqttLink::start(wrong, CancellationToken::new());
    let MqttEvent::Disconnected { reason } = next(&mut events).await else {
        panic!()
    };
    assert!(reason.contains("BadUserNamePassword"), "{reason}");
    broker.stop().await;
}

#[tokio::test]
async fn an_orderly_end_sends_what_is_queued_and_no_last_will() {
    let broker = TestBroker::start(0, Limits::default()).await;
    let (_, mut states) = MqttLink::start(
        options(broker.port, "settle", &["cw/+/state"]),
        CancellationToken::new(),
    );
    connected(&mut states).await;
    let mut with_will = options(broker.port, "gw1", &[]);
    let will = LastWill {
        topic: "cw/gw1/state".into(),
        payload: "offline".into(),
        qos: QoS::AtLeastOnce,
        retain: true,
    };
    with_will.last_will = Some(will);
    let stop = CancellationToken::new();
    let (gateway, mut events) = MqttLink::start(with_will, stop.clone());
    connected(&mut events).await;
    for n in 0..200 {
        gateway
            .publish("cw/gw1/state", n.to_string(), QoS::AtLeastOnce, false)
            .unwrap();
    }
    stop.cancel();
    for n in 0..200 {
        assert_eq!(
            next(&mut states).await,
            message("cw/gw1/state", &n.to_string())
        );
    }
    let quiet = timeout(std::time::Duration::from_millis(200), states.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    broker.stop().await;
}
