//! One connection of a link: what comes in, and what goes out.

use std::sync::atomic::{AtomicU32, Ordering};

use rumqttc::v5::mqttbytes::v5::{self, Filter, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{MqttEvent, MqttOptions, Publish};

/// What a packet needs beside topic and payload, generously.
const PACKET_OVERHEAD_BYTES: usize = 32;

/// The service does not listen any more.
pub(super) struct NobodyListens;

/// What the two halves of a connection tell each other.
#[derive(Default)]
pub(super) struct Connection {
    connected: Notify,
    /// Largest packet that the broker takes; 0 until it has said so.
    broker_max_bytes: AtomicU32,
}

impl Connection {
    pub(super) fn was_connected(&self) -> bool {
        self.broker_max_bytes.load(Ordering::Relaxed) != 0
    }
}

/// Polls the event loop until the connection ends; returns why.
pub(super) async fn converse(
    event_loop: &mut EventLoop,
    client: &AsyncClient,
    options: &MqttOptions,
    events: &mpsc::Sender<MqttEvent>,
    state: &Connection,
) -> Result<String, NobodyListens> {
    loop {
        let event = match event_loop.poll().await {
            Ok(Event::Incoming(v5::Packet::ConnAck(ack))) => {
                let max_bytes = ack
                    .properties
                    .and_then(|p| p.max_packet_size)
                    .unwrap_or(u32::MAX);
                state
                    .broker_max_bytes
                    .store(max_bytes.max(1), Ordering::Relaxed);
                // The request queue is empty: the pump starts only after this.
                let filters = options
                    .subscriptions
                    .iter()
                    .map(|(f, q)| Filter::new(f, (*q).into()));
                if !options.subscriptions.is_empty()
                    && let Err(error) = client.try_subscribe_many(filters)
                {
                    return Ok(format!("the subscriptions are malformed: {error}"));
                }
                state.connected.notify_one();
                MqttEvent::Connected
            }
            Ok(Event::Incoming(packet)) => match translate(packet, options, events).await? {
                Some(event) => event,
                None => continue,
            },
            // Also after DISCONNECT: closing with unread answers would reset the connection, and the
            // broker could lose what was sent last. It closes as soon as it has read everything.
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => return Ok(error.to_string()),
        };
        events.send(event).await.map_err(|_| NobodyListens)?;
    }
}

async fn translate(
    packet: v5::Packet,
    options: &MqttOptions,
    events: &mpsc::Sender<MqttEvent>,
) -> Result<Option<MqttEvent>, NobodyListens> {
    match packet {
        v5::Packet::Publish(publish) => Ok(Some(MqttEvent::Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            retain: publish.retain,
        })),
        // That nobody subscribed is no refusal: a retained message has its readers later.
        v5::Packet::PubAck(ack)
            if !matches!(
                ack.reason,
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers
            ) =>
        {
            Ok(Some(MqttEvent::PublishRefused {
                reason: format!("{:?}", ack.reason),
            }))
        }
        v5::Packet::SubAck(ack) => {
            for (reason, (filter, _)) in ack.return_codes.iter().zip(&options.subscriptions) {
                if !matches!(reason, SubscribeReasonCode::Success(_)) {
                    let (filter, reason) = (filter.clone(), format!("{reason:?}"));
                    let event = MqttEvent::SubscribeRefused { filter, reason };
                    events.send(event).await.map_err(|_| NobodyListens)?;
                }
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Hands queued messages to the event loop, as fast as that takes them. Runs beside `converse`. At
/// shutdown it sends what is queued and then DISCONNECT, so that the last will is not published.
pub(super) async fn pump(
    queue: &mut mpsc::Receiver<Publish>,
    client: &AsyncClient,
    events: &mpsc::Sender<MqttEvent>,
    state: &Connection,
    shutdown: &CancellationToken,
) -> NobodyListens {
    tokio::select! {
        () = state.connected.notified() => {}
        () = shutdown.cancelled() => return NobodyListens,
    }
    loop {
        let next = tokio::select! {
            biased;
            () = shutdown.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
            next = queue.recv() => next,
        };
        let Some(publish) = next else { break };
        let bytes = publish.topic.len() + publish.payload.len() + PACKET_OVERHEAD_BYTES;
        let max_bytes = state.broker_max_bytes.load(Ordering::Relaxed);
        let refused = if usize::try_from(max_bytes).is_ok_and(|max_bytes| bytes > max_bytes) {
            Some(format!(
                "{bytes} bytes are more than the {max_bytes} that the broker takes"
            ))
        } else {
            let Publish {
                topic,
                payload,
                qos,
                retain,
            } = publish;
            let sent = client.publish(topic, qos.into(), retain, payload).await;
            sent.err().map(|error| error.to_string())
        };
        if let Some(reason) = refused
            && events
                .send(MqttEvent::PublishRefused { reason })
                .await
                .is_err()
        {
            return NobodyListens;
        }
    }
    // Without a handle the link goes on receiving.
    shutdown.cancelled().await;
    let asked = client.disconnect().await;
    if let Err(error) = asked {
        tracing::debug!(%error, "no DISCONNECT");
    }
    std::future::pending().await
}
