//! One client's connection: its packets in, its messages out, its end.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, PubAckReason, SubscribeReasonCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::counters::Counters;
use super::hub::{Delivery, Routed, Stop};
use super::login::{Client, login};
use super::place::Place;
use super::policy::Identity;
use super::topic::{is_filter, split_share};
use super::wire::write::{self, Written};
use super::wire::{self, Filter, Incoming, Message, Version, WireError};
use super::{Peer, Shared};

/// How many packets of one kind are handled before the other direction gets its turn.
const PACKETS_PER_TURN: usize = 64;
/// How long a client that is told to go may take to read the reason.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
/// Input buffer of a connection; it grows to the packet limit where a packet needs it.
const INPUT_BYTES: usize = 4096;

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client closed, or the network did.
    Lost,
    /// The client said DISCONNECT.
    Goodbye { with_will: bool },
    /// The broker ends it.
    Told(DisconnectReasonCode),
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        End::Told(error.reason())
    }
}

type Waiting = Pin<Box<dyn Future<Output = Routed> + Send>>;

struct Connection<S> {
    stream: S,
    shared: Arc<Shared>,
    place: Place,
    client_id: String,
    identity: Identity,
    version: Version,
    stop: Arc<Stop>,
    input: BytesMut,
    out: BytesMut,
    queue: mpsc::Receiver<Delivery>,
    /// Retained messages of new subscriptions, which go before the queue.
    backlog: VecDeque<Delivery>,
    /// Packet ids of messages that the client has not acknowledged.
    in_flight: BTreeSet<u16>,
    last_id: u16,
    window: usize,
    max_packet_bytes: usize,
    /// The published message that waits for room in a subscriber's queue, and those behind it.
    waiting: Option<(u16, Waiting)>,
    pending: VecDeque<(u16, Message)>,
    silence_limit: Option<Duration>,
    last_heard: Instant,
}

/// Serves one connection until it ends.
pub(super) async fn serve<S>(
    mut stream: S,
    peer: Peer,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = BytesMut::with_capacity(INPUT_BYTES);
    let client = tokio::select! {
        client = login(&mut stream, &mut input, &peer, &shared) => client,
        () = shutdown.cancelled() => None,
    };
    if let Some(client) = client {
        Counters::add(&shared.counters.connections, 1);
        tracing::debug!(peer = %peer.address, client = client.id, user = client.identity.user(), "connected");
        Connection::new(stream, input, client, shared)
            .run(shutdown)
            .await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, input: BytesMut, client: Client, shared: Arc<Shared>) -> Self {
        let Client {
            id,
            key,
            connect,
            identity,
            joined,
            silence_limit,
            out,
        } = client;
        let window = usize::from(
            connect
                .receive_maximum
                .min(shared.limits.max_in_flight)
                .max(1),
        );
        Connection {
            stream,
            place: Place {
                shared: Arc::clone(&shared),
                key,
                number: joined.number,
                will: connect.will,
            },
            shared,
            client_id: id,
            identity,
            version: connect.version,
            stop: joined.stop,
            input,
            out,
            queue: joined.queue,
            backlog: VecDeque::new(),
            in_flight: BTreeSet::new(),
            last_id: 0,
            window,
            max_packet_bytes: connect.max_packet_bytes,
            waiting: None,
            pending: VecDeque::new(),
            silence_limit,
            last_heard: Instant::now(),
        }
    }

    async fn run(mut self, shutdown: CancellationToken) {
        let end = tokio::select! {
            end = self.talk() => end,
            () = shutdown.cancelled() => {
                // Nobody is left to read a last will.
                self.place.will = None;
                End::Told(DisconnectReasonCode::ServerShuttingDown)
            }
        };
        tracing::debug!(
            client = self.client_id,
            user = self.identity.user(),
            ?end,
            "connection ends"
        );
        match end {
            End::Lost => {}
            End::Goodbye { with_will } => {
                self.place.will = self.place.will.take().filter(|_| with_will)
            }
            End::Told(reason) => {
                Counters::add(&self.shared.counters.ended_by_broker, 1);
                let user = self.identity.user();
                tracing::info!(client = self.client_id, user, ?reason, "disconnected");
                write::disconnect(self.version, reason, &mut self.out);
                let _ = timeout(GOODBYE_LIMIT, self.stream.write_all_buf(&mut self.out)).await;
            }
        }
        self.count_undelivered();
        let _ = timeout(GOODBYE_LIMIT, self.stream.shutdown()).await;
    }

    /// QoS 1 messages that this subscriber will not get: there are no persistent sessions.
    fn count_undelivered(&mut self) {
        self.queue.close();
        let mut undelivered = self.in_flight.len();
        while let Ok(delivery) = self.queue.try_recv() {
            undelivered += usize::from(delivery.at_least_once);
        }
        Counters::add(&self.shared.counters.undelivered_at_disconnect, undelivered);
    }

    async fn talk(&mut self) -> End {
        loop {
            match self.turn().await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    /// Handles what has arrived, sends what there is, then waits for whatever comes first.
    async fn turn(&mut self) -> Result<(), End> {
        let more = self.take_packets()?;
        self.send_backlog();
        self.flush().await?;
        let may_read = self.may_read() && !more;
        let may_send = self.in_flight.len() < self.window && self.backlog.is_empty();
        let silence_ends = self.silence_limit.map(|limit| self.last_heard + limit);
        tokio::select! {
            reason = self.stop.asked() => Err(End::Told(reason)),
            routed = finished(&mut self.waiting), if self.waiting.is_some() => {
                self.waited(&routed)
            }
            Some(delivery) = self.queue.recv(), if may_send => {
                self.send(delivery);
                for _ in 1..PACKETS_PER_TURN {
                    if self.in_flight.len() >= self.window {
                        break;
                    }
                    let Ok(delivery) = self.queue.try_recv() else { break };
                    self.send(delivery);
                }
                Ok(())
            }
            read = self.stream.read_buf(&mut self.input), if may_read => match read {
                Ok(0) | Err(_) => Err(End::Lost),
                Ok(_) => {
                    self.last_heard = Instant::now();
                    Ok(())
                }
            },
            () = tokio::task::yield_now(), if more => Ok(()),
            () = until(silence_ends), if may_read => {
                Err(End::Told(DisconnectReasonCode::KeepAliveTimeout))
            }
        }
    }

    /// A 3.1.1 client is held back while too many of its messages wait; one of MQTT 5 keeps to the
    /// announced maximum and is always read, because others may wait for its acknowledgements.
    fn may_read(&self) -> bool {
        let room = self.pending.len() < usize::from(self.shared.limits.receive_maximum);
        room || self.version == Version::V5
    }

    /// Handles complete packets; returns whether there may be more of them.
    fn take_packets(&mut self) -> Result<bool, End> {
        for _ in 0..PACKETS_PER_TURN {
            if !self.may_read() {
                return Ok(false);
            }
            let max_bytes = self.shared.limits.max_packet_bytes;
            let Some(frame) = wire::take_frame(&mut self.input, max_bytes)? else {
                return Ok(false);
            };
            let incoming = wire::read(self.version, frame, Instant::now())?;
            self.handle(incoming)?;
        }
        Ok(true)
    }

    fn handle(&mut self, incoming: Incoming) -> Result<(), End> {
        match incoming {
            Incoming::Publish { id, message } => return self.publish(id, message),
            Incoming::PubAck(id) => {
                self.in_flight.remove(&id);
            }
            Incoming::Subscribe {
                id,
                filters,
                numbered,
            } => {
                let reasons = filters
                    .iter()
                    .map(|filter| self.subscribe(filter, numbered));
                let reasons = reasons.collect();
                write::suback(self.version, id, reasons, &mut self.out);
            }
            Incoming::Unsubscribe { id, filters } => {
                let hub = &self.shared.hub;
                let reasons = filters.iter().map(|f| hub.unsubscribe(&self.place.key, f));
                write::unsuback(self.version, id, reasons.collect(), &mut self.out);
            }
            Incoming::Ping => write::ping_response(&mut self.out),
            Incoming::Disconnect { with_will } => return Err(End::Goodbye { with_will }),
        }
        Ok(())
    }

    fn subscribe(&mut self, filter: &Filter, numbered: bool) -> SubscribeReasonCode {
        let shared = Arc::clone(&self.shared);
        let refused = match split_share(&filter.path) {
            _ if numbered => Some(SubscribeReasonCode::SubscriptionIdNotSupported),
            Ok((_, inner)) if !is_filter(inner) || !is_filter(&filter.path) => {
                Some(SubscribeReasonCode::TopicFilterInvalid)
            }
            // Retained messages of earlier subscriptions must have been sent first.
            Ok(_) if self.backlog.len() > shared.limits.max_retained => {
                Some(SubscribeReasonCode::QuotaExceeded)
            }
            Ok((_, inner)) if shared.policy.may_subscribe(&self.identity, inner) => None,
            Ok(_) => Some(SubscribeReasonCode::NotAuthorized),
            Err(()) => Some(SubscribeReasonCode::TopicFilterInvalid),
        };
        if let Some(reason) = refused {
            Counters::add(&shared.counters.refused_subscriptions, 1);
            return reason;
        }
        let (reason, retained) = shared.hub.subscribe(&self.place.key, filter);
        self.backlog.extend(retained);
        reason
    }

    fn publish(&mut self, id: u16, message: Message) -> Result<(), End> {
        Counters::add(&self.shared.counters.received, 1);
        if id == 0 {
            // Nobody waits for an answer; what is refused is counted in `allow` and in the hub.
            if self.allow(&message) {
                let _ = self.shared.hub.route(message, self.place.number);
            }
            return Ok(());
        }
        if self.waiting.is_none() {
            return self.route(id, message);
        }
        if self.version == Version::V5
            && self.pending.len() >= usize::from(self.shared.limits.receive_maximum)
        {
            return Err(End::Told(DisconnectReasonCode::ReceiveMaximumExceeded));
        }
        self.pending.push_back((id, message));
        Ok(())
    }

    fn allow(&self, message: &Message) -> bool {
        let allowed = self
            .shared
            .policy
            .may_publish(&self.identity, &message.topic);
        if !allowed {
            Counters::add(&self.shared.counters.refused_publishes, 1);
        }
        allowed
    }

    fn route(&mut self, id: u16, message: Message) -> Result<(), End> {
        if !self.allow(&message) {
            return self.acknowledge(id, PubAckReason::NotAuthorized);
        }
        match self.shared.hub.route(message, self.place.number) {
            Ok(routed) if routed.is_complete() => self.acknowledge(id, routed.reason()),
            Ok(routed) => {
                let shared = Arc::clone(&self.shared);
                self.waiting = Some((id, Box::pin(async move { shared.hub.wait(routed).await })));
                Ok(())
            }
            Err(reason) => self.acknowledge(id, reason),
        }
    }

    /// The message that waited is with all its subscribers; go on with those behind it.
    fn waited(&mut self, routed: &Routed) -> Result<(), End> {
        if let Some((id, _)) = self.waiting.take() {
            self.acknowledge(id, routed.reason())?;
        }
        while self.waiting.is_none() {
            let Some((id, message)) = self.pending.pop_front() else {
                break;
            };
            self.route(id, message)?;
        }
        Ok(())
    }

    /// MQTT 3.1.1 has no PUBACK that says no, so there a refusal ends the connection: a PUBACK
    /// would be a lie.
    fn acknowledge(&mut self, id: u16, reason: PubAckReason) -> Result<(), End> {
        let took = matches!(
            reason,
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers
        );
        if self.version == Version::V4 && !took {
            return Err(End::Told(DisconnectReasonCode::NotAuthorized));
        }
        write::puback(self.version, id, reason, &mut self.out);
        Ok(())
    }

    fn send_backlog(&mut self) {
        while self.in_flight.len() < self.window {
            let Some(delivery) = self.backlog.pop_front() else {
                break;
            };
            self.send(delivery);
        }
    }

    /// Writes a message to the client. The caller has seen room in the window.
    fn send(&mut self, delivery: Delivery) {
        let id = if delivery.at_least_once {
            self.free_id()
        } else {
            0
        };
        let limits = (Instant::now(), self.max_packet_bytes);
        let head = (id, delivery.retain);
        let counters = &self.shared.counters;
        match write::publish(self.version, &delivery.message, head, limits, &mut self.out) {
            Written::Yes => {
                Counters::add(&counters.sent, 1);
                if id != 0 {
                    self.in_flight.insert(id);
                }
            }
            Written::Expired => Counters::add(&counters.dropped_expired, 1),
            Written::TooLarge => Counters::add(&counters.dropped_too_large, 1),
        }
    }

    /// The next packet id that is not in flight; the window is far smaller than their number.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.contains(&self.last_id) {
                return self.last_id;
            }
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let limit = Duration::from_millis(self.shared.limits.write_within_ms);
        tokio::select! {
            reason = self.stop.asked() => Err(End::Told(reason)),
            written = timeout(limit, self.stream.write_all_buf(&mut self.out)) => match written {
                Ok(Ok(())) => Ok(()),
                _ => Err(End::Lost),
            },
        }
    }
}

async fn finished(waiting: &mut Option<(u16, Waiting)>) -> Routed {
    match waiting {
        Some((_, routing)) => routing.await,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
