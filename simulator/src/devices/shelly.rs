//! Shelly Pro 3EM: publishes its state as JSON over MQTT, power often, energy once a minute. What it
//! could not publish it forgets, like the real one: the registers go on counting.

use std::time::Duration;

use domain::time::Timestamp;
use runtime::mqtt::{LastWill, MqttEvent, MqttHandle, MqttLink, MqttOptions, QoS};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::electric::{self, FREQUENCY_CHZ};
use super::server::LiveWorld;
use crate::home::MeterState;
use crate::number::float;
use crate::street::BrokerAccess;
use crate::world::STEP_S;

/// Shortest time on the wall between two messages of a kind, however fast the street's clock runs.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Seconds on the street's clock between two energy messages.
const ENERGY_PERIOD_S: i64 = 60;
const KEEP_ALIVE_S: u16 = 60;
/// The meter reads nothing, so small is enough.
const PACKET_MAX_BYTES: u32 = 16 * 1024;

/// One Shelly meter on its way to the broker.
pub(crate) struct Shelly {
    /// Index of its home in the world.
    pub(crate) home: usize,
    /// What its topics begin with.
    pub(crate) prefix: String,
    /// The world it measures.
    pub(crate) live: LiveWorld,
}

impl Shelly {
    /// Connects to the broker, again and again where it must, and publishes until `shutdown`.
    pub(crate) fn start(self, broker: &BrokerAccess, shutdown: CancellationToken) {
        let options = MqttOptions {
            host: broker.host.clone(),
            port: broker.port,
            client_id: self.prefix.replace('/', "-"),
            user: broker.user.clone(),
            password: broker.password.clone(),
            subscriptions: Vec::new(),
            tls: None,
            last_will: Some(LastWill {
                topic: self.topic("online"),
                payload: b"false".to_vec(),
                qos: QoS::AtLeastOnce,
                retain: true,
            }),
            keep_alive_s: KEEP_ALIVE_S,
            max_packet_bytes: PACKET_MAX_BYTES,
        };
        // A token of its own, so that the link lives until the goodbye is queued.
        let link_stop = CancellationToken::new();
        let (link, events) = MqttLink::start(options, link_stop.clone());
        tokio::spawn(async move {
            shutdown
                .run_until_cancelled(self.publish_changes(&link, events))
                .await;
            self.send(&link, "online", "false".to_owned(), QoS::AtLeastOnce, true);
            link_stop.cancel();
        });
    }

    fn topic(&self, leaf: &str) -> String {
        format!("{}/{leaf}", self.prefix)
    }

    fn send(&self, link: &MqttHandle, leaf: &str, payload: String, qos: QoS, retain: bool) {
        if let Err(error) = link.publish(self.topic(leaf), payload, qos, retain) {
            tracing::debug!(meter = self.prefix, leaf, %error, "a message of a meter is dropped");
        }
    }

    async fn publish_changes(&self, link: &MqttHandle, mut events: mpsc::Receiver<MqttEvent>) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connected = false;
        let (mut power_at, mut energy_at) = (None, None);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(MqttEvent::Connected) => {
                        self.send(link, "online", "true".to_owned(), QoS::AtLeastOnce, true);
                        (connected, power_at, energy_at) = (true, None, None);
                    }
                    Some(MqttEvent::Disconnected { .. }) => connected = false,
                    Some(MqttEvent::PublishRefused { reason }) => {
                        tracing::warn!(meter = self.prefix, reason, "the broker refused a message");
                    }
                    Some(_) => {}
                    None => return,
                },
                _ = look.tick(), if connected => {
                    let seen = self.live.look(|world| (world.now(), world.home(self.home).meter));
                    let Some((now, meter)) = seen else { return };
                    if is_due(&mut power_at, now, STEP_S) {
                        let payload = power_payload(&meter).to_string();
                        self.send(link, "status/em:0", payload, QoS::AtMostOnce, false);
                    }
                    if is_due(&mut energy_at, now, ENERGY_PERIOD_S) {
                        let payload = energy_payload(&meter).to_string();
                        self.send(link, "status/emdata:0", payload, QoS::AtLeastOnce, false);
                    }
                }
            }
        }
    }
}

/// Whether `now` lies in another period than the last message, which is then `now`'s.
fn is_due(last: &mut Option<i64>, now: Timestamp, period_s: i64) -> bool {
    let period = now.unix_s().div_euclid(period_s);
    last.replace(period) != Some(period)
}

/// Power: the payload of `<prefix>/status/em:0`.
fn power_payload(meter: &MeterState) -> Value {
    let mut payload = json!({
        "id": 0,
        "n_current": null,
        "total_act_power": float(meter.power_w),
        "total_aprt_power": float(meter.power_w.abs()),
        "user_calibrated_phase": [],
    });
    let mut total_ma = 0;
    for (name, phase) in ["a", "b", "c"]
        .into_iter()
        .zip(electric::phases(meter.power_w))
    {
        total_ma += phase.current_ma;
        payload[format!("{name}_act_power")] = json!(float(phase.power_w));
        payload[format!("{name}_aprt_power")] = json!(float(phase.power_w.abs()));
        payload[format!("{name}_voltage")] = json!(float(phase.voltage_dv) / 10.0);
        payload[format!("{name}_current")] = json!(float(phase.current_ma) / 1000.0);
        payload[format!("{name}_pf")] = json!(1.0);
        payload[format!("{name}_freq")] = json!(f64::from(FREQUENCY_CHZ) / 100.0);
    }
    payload["total_current"] = json!(float(total_ma) / 1000.0);
    payload
}

/// Energy in watt-hours: the payload of `<prefix>/status/emdata:0`.
///
/// The device adds up its phases without netting them; the simulated phases always have the same
/// direction, so here that is the same.
fn energy_payload(meter: &MeterState) -> Value {
    let mut payload = json!({
        "id": 0,
        "total_act": float(meter.import_wh()),
        "total_act_ret": float(meter.export_wh()),
    });
    let import = electric::split(meter.import_wh());
    let export = electric::split(meter.export_wh());
    for (phase, name) in ["a", "b", "c"].into_iter().enumerate() {
        payload[format!("{name}_total_act_energy")] = json!(float(import[phase]));
        payload[format!("{name}_total_act_ret_energy")] = json!(float(export[phase]));
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_once_a_period() {
        let mut last = None;
        let due =
            [59, 60, 61, 119, 120, 300].map(|s| is_due(&mut last, Timestamp::from_unix_s(s), 60));
        assert_eq!(due, [true, true, false, false, true, true]);
    }

    #[test]
    fn payloads_have_the_device_s_field_names() {
        let meter = MeterState {
            power_w: -301,
            import_ws: 3_000_001 * 3600,
            export_ws: 5 * 3600 + 7,
        };
        let power = power_payload(&meter);
        assert_eq!(power["total_act_power"], json!(-301.0));
        assert_eq!(power["a_act_power"], json!(-100.0));
        assert_eq!(power["c_act_power"], json!(-101.0));
        assert_eq!(
            (&power["b_voltage"], &power["b_freq"]),
            (&json!(230.1), &json!(50.0))
        );
        assert_eq!(power["total_current"], json!(1.306));
        let energy = energy_payload(&meter);
        assert_eq!(energy["total_act"], json!(3_000_001.0));
        assert_eq!(energy["total_act_ret"], json!(5.0));
        assert_eq!(energy["a_total_act_energy"], json!(1_000_001.0));
        assert_eq!(energy["c_total_act_ret_energy"], json!(1.0));
    }
}
