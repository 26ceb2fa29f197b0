//! The client link against the broker, also across the broker's restart.

use runtime::broker::Limits;
use runtime::mqtt::{Answer, LastWill, MqttEvent, MqttLink, MqttOptions, QoS};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{PATIENCE, TestBroker};

pub(crate) fn options(port: u16, user: &str, filters: &[&str]) -> MqttOptions {
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
        tls: None,
        last_will: None,
        keep_alive_s: 5,
        max_packet_bytes: 1 << 20,
    }
}

pub(crate) async fn next(events: &mut Receiver<MqttEvent>) -> MqttEvent {
    timeout(PATIENCE, events.recv())
        .await
        .expect("no event")
        .expect("the link has ended")
}

/// Skips everything before the next connection.
pub(crate) async fn connected(events: &mut Receiver<MqttEvent>) {
    while next(events).await != MqttEvent::Connected {}
}

pub(crate) fn message(topic: &str, payload: &str) -> MqttEvent {
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
        (
            "cw/gw2/reading",
            vec![0; 10],
            "cw/gw2/reading: not_authorized",
        ),
        ("cw/gw1/reading", vec![0; 300_000], "too_large"),
        ("cw/+/reading", vec![0; 10], "topic_name_invalid"),
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
async fn every_tracked_message_gets_its_own_answer() {
    let broker = TestBroker::start(0, Limits::default()).await;
    let stop = CancellationToken::new();
    let (_, mut readings) = MqttLink::start(
        options(broker.port, "settle", &["cw/+/reading"]),
        stop.clone(),
    );
    connected(&mut readings).await;
    let (gateway, mut events) = MqttLink::start(options(broker.port, "gw1", &[]), stop.clone());
    connected(&mut events).await;
    let messages = [
        ("cw/gw1/state", 10, Answer::Nobody),
        ("cw/gw2/reading", 10, Answer::NotAuthorized),
        ("cw/gw1/reading", 300_000, Answer::TooLarge),
        ("cw/gw1/reading", 10, Answer::Taken),
    ];
    for (ticket, (topic, bytes, _)) in (0..).zip(messages) {
        gateway
            .publish_tracked(topic, vec![0; bytes], ticket)
            .unwrap();
    }
    let mut answers = [None; 4];
    for _ in 0..4 {
        let MqttEvent::Answered { ticket, answer } = next(&mut events).await else {
            panic!()
        };
        answers[usize::try_from(ticket).unwrap()] = Some(answer);
    }
    assert_eq!(answers, messages.map(|(_, _, answer)| Some(answer)));
    stop.cancel();
    broker.stop().await;
}

#[tokio::test]
async fn an_idle_link_stays_and_a_dead_broker_is_noticed() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let (_, mut events) = MqttLink::start(options(port, "gw1", &[]), CancellationToken::new());
    let (mut stream, _) = silent.accept().await.unwrap();
    // A CONNACK of MQTT 5 without properties, and then nothing.
    stream.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
    connected(&mut events).await;
    let broker = TestBroker::start(0, Limits::default()).await;
    let (_, mut idle) = MqttLink::start(options(broker.port, "gw2", &[]), CancellationToken::new());
    connected(&mut idle).await;
    let MqttEvent::Disconnected { reason } = next(&mut events).await else {
        panic!()
    };
    assert!(reason.contains("silent for"), "{reason}");
    assert!(idle.try_recv().is_err(), "kept alive by pings");
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
