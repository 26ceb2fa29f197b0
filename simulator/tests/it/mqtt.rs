//! The Shelly meter, as a subscriber of the broker sees it.

use std::collections::BTreeMap;

use runtime::mqtt::{MqttEvent, MqttLink, MqttOptions, QoS};
use serde_json::Value;
use simulator::street::{DeviceKind, Endpoint};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{ANSWER_LIMIT, Running, standing_street, start};

const ONLINE: &str = "shelly/home-05/online";
const POWER: &str = "shelly/home-05/status/em:0";
const ENERGY: &str = "shelly/home-05/status/emdata:0";

struct Reader {
    events: mpsc::Receiver<MqttEvent>,
}

impl Reader {
    fn subscribe(run: &Running) -> Reader {
        let options = MqttOptions {
            host: run.broker.host.clone(),
            port: run.broker.port,
            client_id: "reader".to_owned(),
            user: "reader".to_owned(),
            password: "secret".to_owned(),
            subscriptions: vec![("shelly/#".to_owned(), QoS::AtLeastOnce)],
            tls: None,
            last_will: None,
            keep_alive_s: 10,
            max_packet_bytes: 65_536,
        };
        let (_, events) = MqttLink::start(options, CancellationToken::new());
        Reader { events }
    }

    /// The next message: topic and JSON.
    async fn next(&mut self) -> (String, Value) {
        loop {
            let event = tokio::time::timeout(ANSWER_LIMIT, self.events.recv()).await;
            if let Some(MqttEvent::Message { topic, payload, .. }) = event.expect("no message") {
                return (topic, serde_json::from_slice(&payload).unwrap());
            }
        }
    }

    /// Reads until `topic` says `value`.
    async fn wait_for(&mut self, topic: &str, value: &Value) {
        let seen = async { while self.next().await != (topic.to_owned(), value.clone()) {} };
        tokio::time::timeout(ANSWER_LIMIT, seen)
            .await
            .expect("the message never came");
    }
}

#[tokio::test]
async fn the_meter_is_listed_announces_itself_and_says_goodbye() {
    let run = standing_street().await;
    let shellies: Vec<_> = run
        .street
        .devices
        .iter()
        .filter(|d| d.kind == DeviceKind::ShellyPro3em)
        .collect();
    assert_eq!(shellies.len(), 1);
    assert_eq!(
        shellies[0].address,
        Endpoint::Mqtt {
            prefix: "shelly/home-05".to_owned()
        }
    );
    let mut reader = Reader::subscribe(&run);
    reader.wait_for(ONLINE, &Value::Bool(true)).await;
    run.shutdown.cancel();
    reader.wait_for(ONLINE, &Value::Bool(false)).await;
}

#[tokio::test]
async fn messages_show_the_world() {
    // Ten minutes a second: energy comes with nearly every look.
    let run = start(0, 600).await;
    let first_wh = run.world.lock().unwrap().home(4).meter.import_wh();
    let mut reader = Reader::subscribe(&run);
    let mut latest = BTreeMap::new();
    let mut energies = Vec::new();
    while energies.len() < 3 {
        let (topic, payload) = reader.next().await;
        if topic == ENERGY {
            energies.push((
                payload["total_act"].clone(),
                payload["total_act_ret"].clone(),
            ));
        }
        latest.insert(topic, payload);
    }
    let meter = run.world.lock().unwrap().home(4).meter;
    let wh = |value: &Value| value.as_f64().unwrap();
    for pair in energies.windows(2) {
        assert!(wh(&pair[0].0) <= wh(&pair[1].0) && wh(&pair[0].1) <= wh(&pair[1].1));
    }
    let (import, export) = &energies[2];
    assert!(wh(import) >= first_wh as f64 && wh(import) <= meter.import_wh() as f64);
    assert!(wh(export) <= meter.export_wh() as f64);
    let moved = wh(import) + wh(export) - wh(&energies[0].0) - wh(&energies[0].1);
    assert!(
        moved > 0.0,
        "minutes passed between the first and the third message"
    );
    let phases = ["a_act_power", "b_act_power", "c_act_power"].map(|key| wh(&latest[POWER][key]));
    let total = wh(&latest[POWER]["total_act_power"]);
    assert!((phases.iter().sum::<f64>() - total).abs() < 1e-6);
}
