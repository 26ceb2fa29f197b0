//! A broker for a test, and small clients of both protocols that a test can read line by line.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use runtime::broker::{Access, AccessList, Broker, Counters, Limits};
use runtime::tls::ServerTls;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running broker with the users `gw1`, `gw2`, `settle` and `all`, each with its name as password.
pub(crate) struct TestBroker {
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    pub(crate) counters: Arc<Counters>,
    pub(crate) users: Arc<AccessList>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl TestBroker {
    pub(crate) async fn start(port: u16, limits: Limits) -> Self {
        TestBroker::start_with(port, limits, None).await
    }

    /// The same with a TLS listener too, whose port is `tls_port`.
    pub(crate) async fn start_with(port: u16, limits: Limits, tls: Option<ServerTls>) -> Self {
        let users = Arc::new(AccessList::new());
        let lists = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let gateway = Access {
            read: lists(&["cw/%u/cmd", "cw/%u/receipt"]),
            write: lists(&["cw/%u/reading", "cw/%u/state"]),
        };
        users.add("gw1", b"gw1", gateway.clone()).unwrap();
        users.add("gw2", b"gw2", gateway).unwrap();
        let settle = Access {
            read: lists(&["cw/+/reading", "cw/+/state"]),
            write: lists(&["cw/+/receipt"]),
        };
        users.add("settle", b"settle", settle).unwrap();
        users
            .add(
                "all",
                b"all",
                Access {
                    read: lists(&["#"]),
                    write: lists(&["#"]),
                },
            )
            .unwrap();
        let mut broker = Broker::bind(([127, 0, 0, 1], port).into(), users.clone(), limits)
            .await
            .unwrap();
        let tls_port = match tls {
            Some(tls) => broker.bind_tls(([127, 0, 0, 1], 0).into(), tls).await,
            None => Ok(([127, 0, 0, 1], 0).into()),
        };
        let tls_port = tls_port.unwrap().port();
        let (port, counters) = (broker.local_addr().port(), broker.counters());
        let stop = CancellationToken::new();
        let task = tokio::spawn(broker.run(stop.clone()));
        TestBroker {
            port,
            tls_port,
            counters,
            users,
            stop,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("the broker did not stop")
            .unwrap();
    }
}

/// An MQTT 5 client; what arrives can be read packet by packet, and the end as an error text.
pub(crate) struct V5 {
    pub(crate) client: rumqttc::v5::AsyncClient,
    incoming: mpsc::UnboundedReceiver<Result<v5::Packet, String>>,
    task: JoinHandle<()>,
}

impl V5 {
    pub(crate) fn options(broker: &TestBroker, id: &str, user: &str) -> rumqttc::v5::MqttOptions {
        let mut options = rumqttc::v5::MqttOptions::new(id, "127.0.0.1", broker.port);
        options
            .set_credentials(user, user)
            .set_outgoing_inflight_upper_limit(50);
        options.set_max_packet_size(Some(1 << 20));
        options
    }

    pub(crate) fn with(options: rumqttc::v5::MqttOptions) -> Self {
        let (client, mut event_loop) = rumqttc::v5::AsyncClient::new(options, 4096);
        let (sender, incoming) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                let event = event_loop.poll().await;
                let ended = event.is_err();
                let packet = match event {
                    Ok(rumqttc::v5::Event::Incoming(packet)) => Ok(packet),
                    Ok(rumqttc::v5::Event::Outgoing(_)) => continue,
                    Err(error) => Err(error.to_string()),
                };
                if sender.send(packet).is_err() || ended {
                    return;
                }
            }
        });
        V5 {
            client,
            incoming,
            task,
        }
    }

    /// Connects and waits for the CONNACK.
    pub(crate) async fn connect(broker: &TestBroker, id: &str, user: &str) -> Self {
        let mut client = V5::with(V5::options(broker, id, user));
        let ack = client.next().await;
        assert!(matches!(ack, Ok(v5::Packet::ConnAck(_))), "{ack:?}");
        client
    }

    pub(crate) async fn next(&mut self) -> Result<v5::Packet, String> {
        timeout(PATIENCE, self.incoming.recv())
            .await
            .expect("nothing arrived")
            .expect("ended")
    }

    pub(crate) async fn subscribe(&mut self, filter: &str) -> v5::SubscribeReasonCode {
        self.client
            .subscribe(filter, rumqttc::v5::mqttbytes::QoS::AtLeastOnce)
            .await
            .unwrap();
        match self.next().await {
            Ok(v5::Packet::SubAck(ack)) => ack.return_codes[0],
            other => panic!("no SUBACK: {other:?}"),
        }
    }

    /// Publishes with QoS 1 and returns the answer.
    pub(crate) async fn publish(
        &mut self,
        topic: &str,
        payload: &str,
        retain: bool,
    ) -> v5::PubAckReason {
        let (qos, payload) = (rumqttc::v5::mqttbytes::QoS::AtLeastOnce, payload.to_owned());
        self.client
            .publish(topic, qos, retain, payload)
            .await
            .unwrap();
        loop {
            match self.next().await {
                Ok(v5::Packet::PubAck(ack)) => return ack.reason,
                Ok(v5::Packet::PingResp(_)) => {}
                other => panic!("no PUBACK: {other:?}"),
            }
        }
    }

    /// The next message as topic, payload and retain flag.
    pub(crate) async fn message(&mut self) -> (String, String, bool) {
        match self.next().await {
            Ok(v5::Packet::Publish(p)) => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                (text(&p.topic), text(&p.payload), p.retain)
            }
            other => panic!("no message: {other:?}"),
        }
    }

    /// Why the connection ended; skips whatever came before.
    pub(crate) async fn end(&mut self) -> String {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }

    /// Breaks the connection without a DISCONNECT.
    pub(crate) fn break_off(self) {
        self.task.abort();
    }
}

/// The same for MQTT 3.1.1.
pub(crate) struct V4 {
    pub(crate) client: rumqttc::AsyncClient,
    incoming: mpsc::UnboundedReceiver<Result<v4::Packet, String>>,
}

impl V4 {
    pub(crate) fn with(options: rumqttc::MqttOptions) -> Self {
        let (client, mut event_loop) = rumqttc::AsyncClient::new(options, 4096);
        let (sender, incoming) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let event = event_loop.poll().await;
                let ended = event.is_err();
                let packet = match event {
                    Ok(rumqttc::Event::Incoming(packet)) => Ok(packet),
                    Ok(rumqttc::Event::Outgoing(_)) => continue,
                    Err(error) => Err(error.to_string()),
                };
                if sender.send(packet).is_err() || ended {
                    return;
                }
            }
        });
        V4 { client, incoming }
    }

    pub(crate) fn options(broker: &TestBroker, id: &str, user: &str) -> rumqttc::MqttOptions {
        let mut options = rumqttc::MqttOptions::new(id, "127.0.0.1", broker.port);
        options.set_credentials(user, user);
        options
    }

    pub(crate) async fn connect(broker: &TestBroker, id: &str, user: &str) -> Self {
        let mut client = V4::with(V4::options(broker, id, user));
        let ack = client.next().await;
        assert!(matches!(ack, Ok(v4::Packet::ConnAck(_))), "{ack:?}");
        client
    }

    pub(crate) async fn next(&mut self) -> Result<v4::Packet, String> {
        timeout(PATIENCE, self.incoming.recv())
            .await
            .expect("nothing arrived")
            .expect("ended")
    }
}
