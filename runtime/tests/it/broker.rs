//! The broker with clients of MQTT 5 and 3.1.1.

use std::time::Duration;

use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{self, LastWill, PubAckReason, SubscribeReasonCode};
use runtime::broker::{Access, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{PATIENCE, TestBroker, V4, V5};

const GRANTED: SubscribeReasonCode = SubscribeReasonCode::Success(QoS::AtLeastOnce);

#[tokio::test]
async fn qos_1_goes_both_ways_between_the_protocols() {
    let broker = TestBroker::start(0, Limits::default()).await;
    let mut five = V5::connect(&broker, "five", "all").await;
    let mut four = V4::connect(&broker, "four", "all").await;
    assert_eq!(five.subscribe("to/five").await, GRANTED);
    four.client
        .subscribe("to/+", rumqttc::QoS::ExactlyOnce)
        .await
        .unwrap();
    let Ok(v4::Packet::SubAck(ack)) = four.next().await else {
        panic!()
    };
    let granted = v4::SubscribeReasonCode::Success(rumqttc::QoS::AtLeastOnce);
    assert_eq!(ack.return_codes, [granted]);
    for n in 0..300 {
        let payload = n.to_string();
        four.client
            .publish("to/five", rumqttc::QoS::AtLeastOnce, false, payload)
            .await
            .unwrap();
    }
    for n in 0..300 {
        assert_eq!(
            five.message().await,
            ("to/five".into(), n.to_string(), false)
        );
    }
    let (mut messages, mut acks) = (0, 0);
    while messages < 300 || acks < 300 {
        match four.next().await.unwrap() {
            v4::Packet::Publish(p) => {
                assert_eq!(
                    (p.qos, p.topic.as_str()),
                    (rumqttc::QoS::AtLeastOnce, "to/five")
                );
                messages += 1;
            }
            v4::Packet::PubAck(_) => acks += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        five.publish("to/four", "x", false).await,
        PubAckReason::Success
    );
    assert_eq!(
        five.publish("to/x/nobody", "x", false).await,
        PubAckReason::NoMatchingSubscribers
    );
    assert_eq!(broker.counters.get("undelivered_at_disconnect"), 0);
    broker.stop().await;
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_its_reason() {
    let broker = TestBroker::start(0, Limits::default()).await;
    let mut gw1 = V5::connect(&broker, "gw1", "gw1").await;
    assert_eq!(gw1.subscribe("cw/gw1/cmd").await, GRANTED);
    for filter in ["cw/gw2/cmd", "cw/+/cmd", "#", "$share/g/cw/gw2/cmd"] {
        assert_eq!(
            gw1.subscribe(filter).await,
            SubscribeReasonCode::NotAuthorized,
            "{filter}"
        );
    }
    assert_eq!(
        gw1.subscribe("$share/g").await,
        SubscribeReasonCode::TopicFilterInvalid
    );
    let foreign = gw1.publish("cw/gw2/reading", "x", false).await;
    assert_eq!(foreign, PubAckReason::NotAuthorized);
    // 3.1.1 has no PUBACK that says no: the connection ends.
    let mut old = V4::connect(&broker, "gw2", "gw2").await;
    let publish = old
        .client
        .publish("cw/gw1/reading", rumqttc::QoS::AtLeastOnce, false, "x");
    publish.await.unwrap();
    assert!(old.next().await.is_err());
    assert_eq!(broker.counters.get("refused_publishes"), 2);
    // A user can be added and removed while the broker runs.
    let access = Access {
        read: vec![],
        write: vec!["cw/%u/#".into()],
    };
    broker.users.add("gw3", b"gw3", access).unwrap();
    let mut gw3 = V5::connect(&broker, "gw3", "gw3").await;
    let mut settle = V5::connect(&broker, "settle", "settle").await;
    assert_eq!(settle.subscribe("cw/+/reading").await, GRANTED);
    assert_eq!(
        gw3.publish("cw/gw3/reading", "x", false).await,
        PubAckReason::Success
    );
    broker.users.remove("gw3");
    assert_eq!(
        gw3.publish("cw/gw3/reading", "x", false).await,
        PubAckReason::NotAuthorized
    );
    broker.stop().await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_guessing_is_slowed_down() {
    let limits = Limits {
        failed_logins_per_minute: 2,
        failed_logins_per_address: 4,
        ..Limits::default()
    };
    let broker = TestBroker::start(0, limits).await;
    let mut wrong = V5::options(&broker, "x", "gw1");
    wrong.set_credentials("gw1", "wrong");
    let end = V5::with(wrong.clone()).end().await;
    assert!(end.contains("BadUserNamePassword"), "{end}");
    let mut old = V4::options(&broker, "x", "gw1");
    old.set_credentials("gw1", "wrong");
    let end = V4::with(old).next().await.unwrap_err();
    assert!(end.contains("BadUserNamePassword"), "{end}");
    let end = V5::with(rumqttc::v5::MqttOptions::new("x", "127.0.0.1", broker.port))
        .end()
        .await;
    assert!(end.contains("BadUserNamePassword"), "{end}");
    let end = V5::with(V5::options(&broker, "x", "gw1")).end().await;
    assert!(end.contains("ConnectionRateExceeded"), "{end}");
    assert_eq!(broker.counters.get("refused_connections"), 4);
    // Others at the same address come in, until too many names were tried from it.
    V5::connect(&broker, "y", "gw2").await;
    let mut other = V5::options(&broker, "x", "nobody");
    other.set_credentials("nobody", "wrong");
    let end = V5::with(other).end().await;
    assert!(end.contains("BadUserNamePassword"), "{end}");
    let end = V5::with(V5::options(&broker, "z", "gw2")).end().await;
    assert!(end.contains("ConnectionRateExceeded"), "{end}");
    broker.stop().await;
}

#[tokio::test]
async fn retained_messages_come_first_and_an_empty_one_deletes() {
    let limits = Limits {
        max_retained: 2,
        ..Limits::default()
    };
    let broker = TestBroker::start(0, limits).await;
    let mut writer = V5::connect(&broker, "writer", "all").await;
    writer.publish("state/a", "old", true).await;
    writer.publish("state/a", "a", true).await;
    writer.publish("state/b", "b", true).await;
    assert_eq!(
        writer.publish("state/c", "c", true).await,
        PubAckReason::QuotaExceeded
    );
    writer.publish("state/b", "", true).await;
    let mut reader = V5::connect(&broker, "reader", "all").await;
    assert_eq!(reader.subscribe("state/+").await, GRANTED);
    assert_eq!(reader.message().await, ("state/a".into(), "a".into(), true));
    writer.publish("state/c", "c", true).await;
    assert_eq!(
        reader.message().await,
        ("state/c".into(), "c".into(), false)
    );
    assert_eq!(broker.counters.get("retained_refused"), 1);
    broker.stop().await;
}

#[tokio::test]
async fn a_last_will_is_published_unless_the_client_said_goodbye() {
    let broker = TestBroker::start(0, Limits::default()).await;
    let mut reader = V5::connect(&broker, "settle", "settle").await;
    reader.subscribe("cw/+/state").await;
    let with_will = |topic: &str| {
        let mut options = V5::options(&broker, "gw1", "gw1");
        options.set_last_will(LastWill::new(
            topic,
            "offline",
            QoS::AtLeastOnce,
            true,
            None,
        ));
        options
    };
    let mut lost = V5::with(with_will("cw/gw1/state"));
    lost.next().await.unwrap();
    lost.break_off();
    let (topic, payload, _) = reader.message().await;
    assert_eq!(
        (topic.as_str(), payload.as_str()),
        ("cw/gw1/state", "offline")
    );
    let mut polite = V5::with(with_will("cw/gw1/state"));
    polite.next().await.unwrap();
    polite.publish("cw/gw1/state", "leaving", true).await;
    polite.client.disconnect().await.unwrap();
    polite.end().await;
    assert_eq!(reader.message().await.1, "leaving");
    let refused = V5::with(with_will("cw/gw2/state")).end().await;
    assert!(refused.contains("NotAuthorized"), "{refused}");
    let quiet = timeout(Duration::from_millis(200), reader.message()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    broker.stop().await;
}

#[tokio::test]
async fn a_shared_subscription_gives_each_message_to_one_member_in_turn() {
    let broker = TestBroker::start(0, Limits::default()).await;
    let mut members = Vec::new();
    for id in ["one", "two"] {
        let mut member = V5::connect(&broker, id, "all").await;
        assert_eq!(
            member.subscribe("$share/ingest/cw/+/reading").await,
            GRANTED
        );
        members.push(member);
    }
    let mut plain = V5::connect(&broker, "plain", "all").await;
    plain.subscribe("cw/#").await;
    let mut gateway = V5::connect(&broker, "gw1", "gw1").await;
    for n in 0..10 {
        gateway
            .publish("cw/gw1/reading", &n.to_string(), false)
            .await;
    }
    let mut seen = Vec::new();
    for member in &mut members {
        for _ in 0..5 {
            seen.push(member.message().await.1);
        }
    }
    seen.sort();
    assert_eq!(seen, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    for n in 0..10 {
        assert_eq!(plain.message().await.1, n.to_string());
    }
    broker.stop().await;
}

#[tokio::test]
async fn the_same_client_id_takes_over_from_the_same_user_and_from_nobody_else() {
    let broker = TestBroker::start(0, Limits::default()).await;
    let mut options = V5::options(&broker, "gw1", "gw1");
    options.set_last_will(LastWill::new(
        "cw/gw1/state",
        "offline",
        QoS::AtLeastOnce,
        true,
        None,
    ));
    let mut first = V5::with(options);
    first.next().await.unwrap();
    // Another user with that id neither ends the connection nor keeps its next one out.
    let mut other = V5::connect(&broker, "gw1", "gw2").await;
    assert_eq!(other.subscribe("cw/gw2/cmd").await, GRANTED);
    assert_eq!(first.subscribe("cw/gw1/cmd").await, GRANTED);
    assert_eq!(broker.counters.get("takeovers"), 0);
    let mut second = V5::connect(&broker, "gw1", "gw1").await;
    second.publish("cw/gw1/state", "online", true).await;
    let end = first.end().await;
    assert!(end.contains("SessionTakenOver"), "{end}");
    let mut all = V5::connect(&broker, "all", "all").await;
    all.publish("cw/gw2/cmd", "still here", false).await;
    assert_eq!(other.message().await.1, "still here");
    // The old connection's last will came before, not after, what the new one says.
    let mut reader = V5::connect(&broker, "settle", "settle").await;
    reader.subscribe("cw/gw1/state").await;
    assert_eq!(
        reader.message().await,
        ("cw/gw1/state".into(), "online".into(), true)
    );
    broker.stop().await;
}

/// A subscriber as bytes, so that it can refuse to acknowledge.
async fn raw(broker: &TestBroker, packets: &[&[u8]]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port))
        .await
        .unwrap();
    for packet in packets {
        stream.write_all(packet).await.unwrap();
    }
    stream
}

const CONNECT_V4: &[u8] = b"\x10\x17\0\x04MQTT\x04\xc2\0\0\0\x01z\0\x03all\0\x03all";
const SUBSCRIBE_A: &[u8] = b"\x82\x06\0\x01\0\x01a\x01";

#[tokio::test]
async fn a_stuck_subscriber_is_disconnected_and_nobody_else_loses_a_message() {
    let limits = Limits {
        queue_messages: 4,
        max_in_flight: 2,
        stuck_after_ms: 300,
        ..Limits::default()
    };
    let broker = TestBroker::start(0, limits).await;
    let mut stuck = raw(&broker, &[CONNECT_V4, SUBSCRIBE_A]).await;
    let mut answers = [0; 9];
    stuck.read_exact(&mut answers).await.unwrap();
    assert_eq!(answers, *b"\x20\x02\0\0\x90\x03\0\x01\x01");
    let mut good = V5::connect(&broker, "good", "all").await;
    good.subscribe("a").await;
    let mut writer = V5::connect(&broker, "writer", "all").await;
    for n in 0..20 {
        assert_eq!(
            writer.publish("a", &n.to_string(), false).await,
            PubAckReason::Success
        );
    }
    for n in 0..20 {
        assert_eq!(good.message().await.1, n.to_string());
    }
    let mut rest = Vec::new();
    timeout(PATIENCE, stuck.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(broker.counters.get("stuck_subscribers"), 1);
    assert_eq!(broker.counters.get("undelivered_at_disconnect"), 6);
    broker.stop().await;
}

#[tokio::test]
async fn nonsense_is_answered_or_closed_and_the_broker_lives_on() {
    let limits = Limits {
        connect_within_ms: 300,
        max_packet_bytes: 1000,
        ..Limits::default()
    };
    let broker = TestBroker::start(0, limits).await;
    let too_large = [CONNECT_V4, b"\x30\xff\x7f"].concat();
    let qos_2 = [CONNECT_V4, b"\x34\x06\0\x01a\0\x01x"].concat();
    let twice = [CONNECT_V4, CONNECT_V4].concat();
    let v5 = b"\x10\x18\0\x04MQTT\x05\xc2\0\0\0\0\x01y\0\x03all\0\x03all";
    let alias = [&v5[..], b"\x30\x07\0\x01a\x03\x23\0\x01"].concat();
    for (sent, expected) in [
        (&b""[..], &b""[..]),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\x10\x0c\0\x06MQIsdp\x03\x02\0\0\0\0", b"\x20\x02\0\x01"),
        (
            b"\x10\x0d\0\x04MQTT\x06\x02\0\0\0\0\0\0",
            b"\x20\x03\0\x84\0",
        ),
        (b"\xc0\0", b""),
        (&too_large, b"\x20\x02\0\0"),
        (&qos_2, b"\x20\x02\0\0"),
        (&twice, b"\x20\x02\0\0"),
        (&alias, b"\xe0\x02\x94\0"),
    ] {
        let mut stream = raw(&broker, &[sent]).await;
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.ends_with(expected), "{sent:?}: {answer:?}");
    }
    let mut alive = V5::connect(&broker, "alive", "all").await;
    assert_eq!(alive.subscribe("a").await, GRANTED);
    // No packet within one and a half keep-alives ends a connection.
    let silent: &[u8] = b"\x10\x18\0\x04MQTT\x05\xc2\0\x01\0\0\x01s\0\x03all\0\x03all";
    let mut stream = raw(&broker, &[silent]).await;
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.ends_with(b"\xe0\x02\x8d\0"), "{answer:?}");
    broker.stop().await;
}

#[tokio::test]
async fn limits_of_connections_and_subscriptions_hold() {
    let limits = Limits {
        max_connections: 1,
        max_subscriptions: 2,
        ..Limits::default()
    };
    let broker = TestBroker::start(0, limits).await;
    let mut one = V5::connect(&broker, "one", "all").await;
    assert_eq!(one.subscribe("a").await, GRANTED);
    assert_eq!(one.subscribe("b").await, GRANTED);
    assert_eq!(one.subscribe("b").await, GRANTED);
    assert_eq!(one.subscribe("c").await, SubscribeReasonCode::QuotaExceeded);
    one.client.unsubscribe("a").await.unwrap();
    assert!(matches!(one.next().await, Ok(v5::Packet::UnsubAck(_))));
    assert_eq!(one.subscribe("c").await, GRANTED);
    assert_eq!(
        one.publish("a", "x", false).await,
        PubAckReason::NoMatchingSubscribers
    );
    V5::with(V5::options(&broker, "two", "all")).end().await;
    broker.stop().await;
    let end = one.end().await;
    assert!(end.contains("ServerShuttingDown"), "{end}");
}
