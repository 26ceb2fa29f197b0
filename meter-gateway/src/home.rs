//! The link to the home's own broker: the home's devices are heard there, and what the gateway shows
//! to the home (Home Assistant, say) is published there. Nothing signed goes this way.

use domain::ids::{CommunityId, GatewayId};
use runtime::mqtt::{LastWill, MqttEvent, MqttHandle, MqttLink, MqttOptions, QoS};
use runtime::tls::ClientTls;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::HomeMqttConfig;
use crate::listen::Listener;
use crate::status::Shared;

const KEEP_ALIVE_S: u16 = 30;
/// Largest packet from the broker; larger ones do not reach the gateway.
const PACKET_MAX_BYTES: u32 = 64 * 1024;

/// What others need to publish at home.
#[derive(Clone, Debug)]
pub struct HomeLink {
    /// To the broker.
    pub handle: MqttHandle,
    /// Retained topic that says `online` or `offline`: whether the gateway is there.
    pub state_topic: String,
    /// How often the connection was made; 0 while there is none. What is published once (retained
    /// descriptions, say) is published again when it changes.
    pub connections: watch::Receiver<u64>,
}

/// The task at the home's broker.
#[derive(Debug)]
pub struct Home {
    handle: MqttHandle,
    events: mpsc::Receiver<MqttEvent>,
    link: DropGuard,
    state_topic: String,
    devices: Listener,
    connections: watch::Sender<u64>,
    status: Shared,
}

impl Home {
    /// Starts the link; what is heard waits until [`Home::run`].
    #[must_use]
    pub fn start(
        broker: &HomeMqttConfig,
        (password, tls): (String, Option<ClientTls>),
        (community, gateway): (&CommunityId, &GatewayId),
        devices: Listener,
        status: &Shared,
    ) -> (Home, HomeLink) {
        let state_topic = format!("commonwatt/{gateway}/state");
        let options = MqttOptions {
            host: broker.host.clone(),
            port: broker.port(),
            // Not the id of the link to the platform, which may be at the same broker.
            client_id: format!("cw-{community}-{gateway}-home"),
            user: broker.user.clone().unwrap_or_default(),
            password,
            subscriptions: devices.subscriptions(),
            tls,
            last_will: Some(LastWill {
                topic: state_topic.clone(),
                payload: b"offline".to_vec(),
                qos: QoS::AtLeastOnce,
                retain: true,
            }),
            keep_alive_s: KEEP_ALIVE_S,
            max_packet_bytes: PACKET_MAX_BYTES,
        };
        let link = CancellationToken::new();
        let (handle, events) = MqttLink::start(options, link.clone());
        let (connections, connected) = watch::channel(0);
        let shared = HomeLink {
            handle: handle.clone(),
            state_topic: state_topic.clone(),
            connections: connected,
        };
        let home = Home {
            handle,
            events,
            link: link.drop_guard(),
            state_topic,
            devices,
            connections,
            status: status.clone(),
        };
        (home, shared)
    }

    /// Runs until `shutdown`, and says goodbye.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut made = 0;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                event = self.events.recv() => match event {
                    Some(event) => self.hear(event, &mut made).await,
                    None => break,
                },
            }
        }
        self.say("offline");
        // The link sends what is queued, says goodbye and closes its end.
        drop(self.link);
        while self.events.recv().await.is_some() {}
    }

    async fn hear(&mut self, event: MqttEvent, made: &mut u64) {
        match event {
            MqttEvent::Connected => {
                *made += 1;
                self.say("online");
                self.connections.send_replace(*made);
            }
            MqttEvent::Disconnected { reason } => {
                tracing::warn!("no broker at home: {reason}");
                self.status.count_error("home_broker");
                self.connections.send_replace(0);
                self.devices.lost();
            }
            MqttEvent::Message {
                topic,
                payload,
                retain,
            } => self.devices.hear(&topic, &payload, retain).await,
            // Nothing goes there that waits for an answer.
            MqttEvent::Answered { .. } => {}
            MqttEvent::PublishRefused { reason } => {
                tracing::warn!("the home's broker refused a message: {reason}");
                self.status.count_error("home_publish_refused");
            }
            MqttEvent::SubscribeRefused { filter, reason } => {
                tracing::warn!("the home's broker refused the subscription to {filter}: {reason}");
                self.status.count_error("home_subscribe_refused");
            }
        }
    }

    fn say(&self, word: &str) {
        let said = self
            .handle
            .publish(&self.state_topic, word, QoS::AtLeastOnce, true);
        if said.is_err() {
            tracing::warn!("the state `{word}` could not be published at home: the link is full");
        }
    }
}
