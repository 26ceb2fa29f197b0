//! The link of a service to an MQTT 5 broker: it connects, over TLS or plainly, subscribes, and does
//! both again after every break, for as long as the service runs.
//!
//! At-least-once is the caller's outbox, not this link: a message that was queued or in flight when
//! the connection broke may be lost, QoS 1 or not. Keep it until the receiver's receipt is here.
//!
//! The packets are rumqttc's, its client is not: that one takes no stream of ours (for TLS), does not
//! say which message an answer is about, and keeps packet ids across connections that the broker has
//! forgotten, which can hang it for ever. Here a connection starts with nothing and resends nothing.

mod connect;
mod talk;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS as WireQos;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::tls::ClientTls;
use connect::connect;
use talk::{Ended, Talk};

/// Messages that may wait to be sent, also while there is no connection; beyond it
/// [`MqttHandle::publish`] says [`QueueFull`].
pub const PUBLISH_QUEUE: usize = 1024;
/// Events that may wait for the service. At the limit the link stops reading from the broker; when
/// that lasts longer than the keep-alive, the connection breaks and is made again.
pub const EVENT_QUEUE: usize = 1024;
/// Unacknowledged messages in each direction.
const IN_FLIGHT_MAX: u16 = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the last messages and the DISCONNECT may take at the end.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
/// Shorter ones would be noise on the line.
const SHORTEST_KEEP_ALIVE_S: u16 = 5;

/// How sure a delivery is within one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QoS {
    /// Sent once, perhaps lost.
    AtMostOnce,
    /// Acknowledged by the next one on the way, perhaps twice.
    AtLeastOnce,
}

impl From<QoS> for WireQos {
    fn from(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => WireQos::AtMostOnce,
            QoS::AtLeastOnce => WireQos::AtLeastOnce,
        }
    }
}

/// What the broker publishes for this client when its connection breaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastWill {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// How.
    pub qos: QoS,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
}

/// Where and as whom to connect, and what to read.
#[derive(Clone)]
pub struct MqttOptions {
    /// Name or address of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// One connection at a time of a user has this id; a second one ends the first.
    pub client_id: String,
    /// User name; empty where the broker asks for none, or a certificate says it all.
    pub user: String,
    /// Password.
    pub password: String,
    /// Encrypts the connection and verifies the broker; without it everything goes in plain text.
    pub tls: Option<ClientTls>,
    /// Filters to subscribe to on every connection (`$share/group/filter` works).
    pub subscriptions: Vec<(String, QoS)>,
    /// Published by the broker when the connection breaks.
    pub last_will: Option<LastWill>,
    /// Longest silence; at least 5 s.
    pub keep_alive_s: u16,
    /// Largest packet that is accepted from the broker.
    pub max_packet_bytes: u32,
}

/// Without the password, so that it cannot get into a log.
impl fmt::Debug for MqttOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at {}:{} as {}",
            self.client_id, self.host, self.port, self.user
        )
    }
}

/// What a link tells its service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MqttEvent {
    /// A connection stands, and the subscriptions were asked for.
    Connected,
    /// The connection broke or could not be made; another try follows by itself.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// A message of a subscription.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
        /// Whether it was published before the subscription.
        retain: bool,
    },
    /// The broker's answer to a message of [`MqttHandle::publish_tracked`]. A message without one
    /// before the next [`MqttEvent::Disconnected`] may or may not have arrived.
    Answered {
        /// The ticket that was given with the message.
        ticket: u64,
        /// What became of it.
        answer: Answer,
    },
    /// The broker did not take a message without a ticket (not authorised, too large, over a quota).
    PublishRefused {
        /// Its topic and why.
        reason: String,
    },
    /// The broker refused a subscription: nothing will be received from that filter.
    SubscribeRefused {
        /// Which.
        filter: String,
        /// Why.
        reason: String,
    },
}

/// What became of a message, as far as the broker knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is on its way to at least one subscriber.
    Taken,
    /// Nobody subscribes to its topic (0x10): nobody got it.
    Nobody,
    /// This user may not write there (0x87).
    NotAuthorized,
    /// Somebody's limit is reached (0x97).
    QuotaExceeded,
    /// It is larger than what the broker takes; it was not sent.
    TooLarge,
    /// Something else, by the broker's word.
    Refused(&'static str),
}

impl Answer {
    /// A name for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Answer::Taken => "taken",
            Answer::Nobody => "no_subscriber",
            Answer::NotAuthorized => "not_authorized",
            Answer::QuotaExceeded => "quota_exceeded",
            Answer::TooLarge => "too_large",
            Answer::Refused(name) => name,
        }
    }
}

/// [`PUBLISH_QUEUE`] messages are waiting, or the link has ended: try again later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the MQTT link does not take more messages now; keep it in the outbox and try later")]
pub struct QueueFull;

/// Sends through a link. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct MqttHandle {
    queue: mpsc::Sender<Publish>,
}

#[derive(Debug)]
struct Publish {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    ticket: Option<u64>,
}

impl MqttHandle {
    /// Queues a message; never waits. See the module's words on what can be lost.
    ///
    /// # Errors
    /// [`QueueFull`]: nothing was queued.
    pub fn publish(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Vec<u8>>,
        qos: QoS,
        retain: bool,
    ) -> Result<(), QueueFull> {
        let publish = Publish {
            topic: topic.into(),
            payload: payload.into(),
            qos,
            retain,
            ticket: None,
        };
        self.queue.try_send(publish).map_err(|_| QueueFull)
    }

    /// The same for a message of QoS 1 whose answer, an [`MqttEvent::Answered`], names `ticket`.
    ///
    /// # Errors
    /// [`QueueFull`]: nothing was queued.
    pub fn publish_tracked(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Vec<u8>>,
        ticket: u64,
    ) -> Result<(), QueueFull> {
        let publish = Publish {
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            ticket: Some(ticket),
        };
        self.queue.try_send(publish).map_err(|_| QueueFull)
    }
}

/// A link to a broker.
#[derive(Debug)]
pub struct MqttLink {
    options: MqttOptions,
    queue: mpsc::Receiver<Publish>,
    events: mpsc::Sender<MqttEvent>,
}

impl MqttLink {
    /// Starts the link's task. It ends with `shutdown` (after sending what is queued and a
    /// DISCONNECT), or when the receiver is dropped; the receiver then ends too. Any end before
    /// `shutdown` is logged as an error.
    #[must_use]
    pub fn start(
        options: MqttOptions,
        shutdown: CancellationToken,
    ) -> (MqttHandle, mpsc::Receiver<MqttEvent>) {
        let (sender, queue) = mpsc::channel(PUBLISH_QUEUE);
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let client_id = options.client_id.clone();
        let link = MqttLink {
            options,
            queue,
            events,
        };
        let task = tokio::spawn(link.run(shutdown.clone()));
        tokio::spawn(report_end(task, client_id, shutdown));
        (MqttHandle { queue: sender }, receiver)
    }

    async fn run(mut self, shutdown: CancellationToken) {
        let mut failures = 0;
        loop {
            let overtime = async {
                shutdown.cancelled().await;
                tokio::time::sleep(GOODBYE_LIMIT).await;
            };
            let mut was_connected = false;
            let ended = tokio::select! {
                ended = self.converse(&mut was_connected, &shutdown) => ended,
                () = overtime => return,
            };
            if shutdown.is_cancelled() {
                return;
            }
            let Ended::Broken(reason) = ended else { return };
            failures = if was_connected { 0 } else { failures + 1 };
            tracing::info!(client = self.options.client_id, reason, "MQTT link is down");
            let told = self.events.send(MqttEvent::Disconnected { reason }).await;
            if told.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause(&self.options.client_id, failures)) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// One connection from its start to its end.
    async fn converse(&mut self, was_connected: &mut bool, shutdown: &CancellationToken) -> Ended {
        let connected = tokio::select! {
            connected = connect(&self.options) => connected,
            () = shutdown.cancelled() => return Ended::NobodyListens,
        };
        let (stream, welcome) = match connected {
            Ok(connected) => connected,
            Err(reason) => return Ended::Broken(reason),
        };
        *was_connected = true;
        if self.events.send(MqttEvent::Connected).await.is_err() {
            return Ended::NobodyListens;
        }
        let mut talk = Talk::new(&self.options, &self.events, welcome);
        talk.run(stream, &mut self.queue, shutdown).await
    }
}

/// Waits for the end of a link's task, and says so where that is not the end of the service: without
/// it a service would go on without its link, and nobody would know why.
async fn report_end(task: JoinHandle<()>, client: String, shutdown: CancellationToken) {
    match task.await {
        Err(error) => tracing::error!(
            client,
            %error,
            "the MQTT link broke off and does not come back; restart the service"
        ),
        Ok(()) if !shutdown.is_cancelled() => tracing::error!(
            client,
            "the MQTT link ended before the service, because nothing reads its events any more; \
             restart the service"
        ),
        Ok(()) => {}
    }
}

/// Doubles with every failure up to a limit, plus up to a quarter that differs from client to
/// client, so that a street does not come back all at once.
fn pause(client_id: &str, failures: u32) -> Duration {
    let base = FIRST_PAUSE
        .saturating_mul(1 << failures.min(10))
        .min(LONGEST_PAUSE);
    let mut hasher = DefaultHasher::new();
    (client_id, failures).hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 256).unwrap_or(0);
    base + base.saturating_mul(share) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captured_log::CapturedLog;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        assert!(pause("a", 0) >= FIRST_PAUSE && pause("a", 0) < FIRST_PAUSE * 2);
        assert!(pause("a", 3) > pause("a", 1));
        assert!(pause("a", u32::MAX) <= LONGEST_PAUSE + LONGEST_PAUSE / 4);
        assert!((0..20).any(|n| pause(&n.to_string(), 5) != pause("a", 5)));
    }

    /// Of a broker that is not there.
    fn options() -> MqttOptions {
        MqttOptions {
            host: "127.0.0.1".into(),
            port: 1,
            client_id: "a".into(),
            user: "a".into(),
            password: "a".into(),
            tls: None,
            subscriptions: vec![],
            last_will: None,
            keep_alive_s: 5,
            max_packet_bytes: 1000,
        }
    }

    #[tokio::test]
    async fn a_link_that_ends_before_the_service_is_reported() {
        let (log, _guard) = CapturedLog::start();
        let stop = CancellationToken::new();
        let broken = tokio::spawn(async { panic!("out of luck") });
        report_end(broken, "gw1".to_owned(), stop.clone()).await;
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("ERROR") && lines[0].contains("gw1"),
            "{lines:?}"
        );
        assert!(lines[0].contains("out of luck"), "{lines:?}");

        let (_handle, events) = MqttLink::start(options(), stop);
        drop(events);
        for _ in 0..1000 {
            if log.lines().len() > 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains("ended before the service"), "{lines:?}");
    }

    #[tokio::test]
    async fn a_link_that_ends_with_the_service_is_not_reported() {
        let (log, _guard) = CapturedLog::start();
        let stop = CancellationToken::new();
        stop.cancel();
        report_end(tokio::spawn(async {}), "gw1".to_owned(), stop).await;
        assert!(log.lines().is_empty(), "{:?}", log.lines());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_instead_of_waiting() {
        let stop = CancellationToken::new();
        let (handle, mut events) = MqttLink::start(options(), stop.clone());
        for _ in 0..PUBLISH_QUEUE {
            handle.publish("a", "x", QoS::AtMostOnce, false).unwrap();
        }
        assert_eq!(
            handle.publish("a", "x", QoS::AtMostOnce, false),
            Err(QueueFull)
        );
        let first = events.recv().await.unwrap();
        assert!(matches!(first, MqttEvent::Disconnected { .. }), "{first:?}");
        stop.cancel();
        while events.recv().await.is_some() {}
    }
}
