//! What is said on one connection: messages out and their answers in, messages in and ours out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use rumqttc::v5::mqttbytes::v5::{
    DisconnectReasonCode, Filter, Packet, PubAck, PubAckReason, Publish, SubAck, Subscribe,
    SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{QoS as WireQos, valid_filter, valid_topic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connect::{Stream, Welcome, explain};
use super::{Answer, MqttEvent, MqttOptions, Publish as Queued};
use crate::broker::{body, take_frame};

/// Bytes that may wait to be written; beyond it no more messages are taken from the queue.
const OUTPUT_MAX_BYTES: usize = 256 * 1024;
/// The packet id of the only SUBSCRIBE of a connection; messages use the others.
const SUBSCRIBE_ID: u16 = 1;

/// Why a connection ended.
pub(super) enum Ended {
    /// It broke; another one may be made.
    Broken(String),
    /// The service does not listen any more.
    NobodyListens,
}

impl Ended {
    fn broken(reason: impl Into<String>) -> Self {
        Ended::Broken(reason.into())
    }
}

/// An unanswered message.
struct Sent {
    topic: String,
    ticket: Option<u64>,
}

/// One connection's state.
pub(super) struct Talk<'a> {
    options: &'a MqttOptions,
    events: &'a mpsc::Sender<MqttEvent>,
    input: BytesMut,
    out: BytesMut,
    /// Whether written bytes may still wait in a buffer of the stream.
    is_unflushed: bool,
    in_flight: BTreeMap<u16, Sent>,
    last_id: u16,
    window: usize,
    packet_max_bytes: usize,
    keep_alive: Duration,
    last_sent: Instant,
    last_heard: Instant,
    asked: Option<Instant>,
    /// DISCONNECT was said: only the broker's last words are of interest.
    is_leaving: bool,
}

impl<'a> Talk<'a> {
    pub(super) fn new(
        options: &'a MqttOptions,
        events: &'a mpsc::Sender<MqttEvent>,
        welcome: Welcome,
    ) -> Self {
        let now = Instant::now();
        Talk {
            options,
            events,
            input: welcome.input,
            out: BytesMut::new(),
            is_unflushed: false,
            in_flight: BTreeMap::new(),
            last_id: SUBSCRIBE_ID,
            window: usize::from(welcome.window),
            packet_max_bytes: welcome.packet_max_bytes,
            keep_alive: Duration::from_secs(u64::from(welcome.keep_alive_s)),
            last_sent: now,
            last_heard: now,
            asked: None,
            is_leaving: false,
        }
    }

    /// Talks until the connection ends. At shutdown it sends what is queued and then DISCONNECT, so
    /// that the last will is not published, and hears the broker out: closing with unread answers
    /// would reset the connection, and the broker could lose what was sent last.
    pub(super) async fn run(
        &mut self,
        stream: Box<dyn Stream>,
        queue: &mut mpsc::Receiver<Queued>,
        shutdown: &CancellationToken,
    ) -> Ended {
        match self.talk(stream, queue, shutdown).await {
            Ok(()) => Ended::NobodyListens,
            Err(ended) => ended,
        }
    }

    async fn talk(
        &mut self,
        stream: Box<dyn Stream>,
        queue: &mut mpsc::Receiver<Queued>,
        shutdown: &CancellationToken,
    ) -> Result<(), Ended> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        self.subscribe()?;
        let mut has_senders = true;
        loop {
            self.take_packets().await?;
            if shutdown.is_cancelled() && !has_senders && !self.is_leaving {
                self.out.put_slice(&[0xe0, 0]);
                self.is_leaving = true;
            }
            let may_send = has_senders
                && self.in_flight.len() < self.window
                && self.out.len() < OUTPUT_MAX_BYTES;
            let alarm_at = self.alarm_at();
            tokio::select! {
                () = shutdown.cancelled(), if !queue.is_closed() => queue.close(),
                // After the queue has ended without a shutdown, only receiving goes on.
                () = shutdown.cancelled(), if !has_senders && !self.is_leaving => {}
                written = write(&mut writer, &mut self.out, &mut self.is_unflushed),
                    if self.is_unflushed || !self.out.is_empty() =>
                {
                    written.map_err(|error| Ended::broken(explain(self.options, &error)))?;
                    self.last_sent = Instant::now();
                }
                read = reader.read_buf(&mut self.input) => {
                    match read {
                        Ok(0) => return Err(Ended::broken("the broker closed the connection")),
                        Ok(_) => self.last_heard = Instant::now(),
                        Err(error) => {
                            return Err(Ended::broken(explain(self.options, &error)));
                        }
                    }
                }
                next = queue.recv(), if may_send => match next {
                    Some(publish) => self.publish_all(publish, queue).await?,
                    None => has_senders = false,
                },
                () = tokio::time::sleep_until(alarm_at) => self.ask()?,
            }
        }
    }

    /// When silence must be broken, or has lasted too long.
    fn alarm_at(&self) -> Instant {
        match self.asked {
            Some(asked) => asked + self.keep_alive,
            None => self.last_sent.min(self.last_heard) + self.keep_alive / 2,
        }
    }

    /// Sends PINGREQ, or gives up on a broker that has not answered the last one.
    fn ask(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        if self.asked.is_some() {
            let seconds = now.duration_since(self.last_heard).as_secs();
            return Err(Ended::broken(format!(
                "the broker has been silent for {seconds} s"
            )));
        }
        self.asked = Some(now);
        self.out.put_slice(&[0xc0, 0]);
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), Ended> {
        let filters = &self.options.subscriptions;
        if filters.is_empty() {
            return Ok(());
        }
        if let Some((filter, _)) = filters.iter().find(|(filter, _)| !valid_filter(filter)) {
            return Err(Ended::broken(format!("`{filter}` cannot be subscribed to")));
        }
        let filters = filters.iter().map(|(f, qos)| Filter::new(f, (*qos).into()));
        let subscribe = Subscribe {
            pkid: SUBSCRIBE_ID,
            filters: filters.collect(),
            properties: None,
        };
        self.put(&Packet::Subscribe(subscribe))
    }

    fn put(&mut self, packet: &Packet) -> Result<(), Ended> {
        match packet.write(&mut self.out, None) {
            Ok(_) => Ok(()),
            Err(error) => Err(Ended::broken(format!(
                "a packet could not be written: {error}"
            ))),
        }
    }

    /// Puts this message, and those that wait behind it, into the output.
    async fn publish_all(
        &mut self,
        first: Queued,
        queue: &mut mpsc::Receiver<Queued>,
    ) -> Result<(), Ended> {
        let mut next = Some(first);
        while let Some(publish) = next {
            self.publish(publish).await?;
            if self.in_flight.len() >= self.window || self.out.len() >= OUTPUT_MAX_BYTES {
                return Ok(());
            }
            next = queue.try_recv().ok();
        }
        Ok(())
    }

    async fn publish(&mut self, queued: Queued) -> Result<(), Ended> {
        let sent = Sent {
            ticket: queued.ticket,
            topic: queued.topic,
        };
        if !valid_topic(&sent.topic) || sent.topic.is_empty() {
            return self
                .answered(sent, Answer::Refused("topic_name_invalid"))
                .await;
        }
        let qos: WireQos = queued.qos.into();
        let mut publish = Publish::new(sent.topic.clone(), qos, queued.payload, None);
        publish.retain = queued.retain;
        if publish.size() > self.packet_max_bytes {
            return self.answered(sent, Answer::TooLarge).await;
        }
        if qos != WireQos::AtMostOnce {
            publish.pkid = self.free_id();
            self.in_flight.insert(publish.pkid, sent);
        }
        self.put(&Packet::Publish(publish))
    }

    /// The next id that is not in flight; the window is far smaller than their number.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(SUBSCRIBE_ID + 1);
            if !self.in_flight.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Tells the service what became of a message: everything about one with a ticket, only bad news
    /// about another. That nobody subscribed is none: a retained message has its readers later.
    async fn answered(&self, sent: Sent, answer: Answer) -> Result<(), Ended> {
        let event = match (sent.ticket, answer) {
            (Some(ticket), answer) => MqttEvent::Answered { ticket, answer },
            (None, Answer::Taken | Answer::Nobody) => return Ok(()),
            (None, answer) => MqttEvent::PublishRefused {
                reason: format!("{}: {}", sent.topic, answer.name()),
            },
        };
        self.tell(event).await
    }

    async fn tell(&self, event: MqttEvent) -> Result<(), Ended> {
        self.events
            .send(event)
            .await
            .map_err(|_| Ended::NobodyListens)
    }

    async fn take_packets(&mut self) -> Result<(), Ended> {
        let max_bytes = usize::try_from(self.options.max_packet_bytes).unwrap_or(usize::MAX);
        loop {
            let frame = take_frame(&mut self.input, max_bytes);
            let frame = frame.map_err(|error| Ended::broken(error.to_string()))?;
            match frame {
                Some(frame) => self.take(frame).await?,
                None => return Ok(()),
            }
        }
    }

    async fn take(&mut self, mut frame: BytesMut) -> Result<(), Ended> {
        // The codec refuses the short forms of DISCONNECT.
        if frame.first().is_some_and(|byte| byte >> 4 == 14) {
            let code = body(&frame).first().copied().unwrap_or(0);
            let reason = DisconnectReasonCode::try_from(code)
                .map_or_else(|_| format!("{code:#04x}"), |reason| format!("{reason:?}"));
            return Err(Ended::broken(format!(
                "the broker ended the connection: {reason}"
            )));
        }
        match Packet::read(&mut frame, None) {
            Ok(Packet::Publish(publish)) => self.receive(publish).await,
            Ok(Packet::PubAck(ack)) => match self.in_flight.remove(&ack.pkid) {
                Some(sent) => self.answered(sent, answer(ack.reason)).await,
                None => Err(Ended::broken("the broker acknowledged what was never sent")),
            },
            Ok(Packet::SubAck(ack)) => self.subscribed(ack).await,
            Ok(Packet::PingResp(_)) => {
                self.asked = None;
                Ok(())
            }
            Ok(_) => Err(Ended::broken(
                "the broker sent a packet that is not for a client",
            )),
            Err(error) => Err(Ended::broken(format!(
                "the broker sent a malformed packet: {error}"
            ))),
        }
    }

    /// Hands a message to the service, and acknowledges it when that has taken it.
    async fn receive(&mut self, publish: Publish) -> Result<(), Ended> {
        let id = publish.pkid;
        self.tell(MqttEvent::Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            retain: publish.retain,
        })
        .await?;
        match publish.qos {
            WireQos::AtMostOnce => Ok(()),
            WireQos::AtLeastOnce => self.put(&Packet::PubAck(PubAck::new(id, None))),
            WireQos::ExactlyOnce => Err(Ended::broken("the broker sent QoS 2 unasked")),
        }
    }

    async fn subscribed(&mut self, ack: SubAck) -> Result<(), Ended> {
        for (reason, (filter, _)) in ack.return_codes.iter().zip(&self.options.subscriptions) {
            if !matches!(reason, SubscribeReasonCode::Success(_)) {
                let (filter, reason) = (filter.clone(), format!("{reason:?}"));
                self.tell(MqttEvent::SubscribeRefused { filter, reason })
                    .await?;
            }
        }
        Ok(())
    }
}

fn answer(reason: PubAckReason) -> Answer {
    match reason {
        PubAckReason::Success => Answer::Taken,
        PubAckReason::NoMatchingSubscribers => Answer::Nobody,
        PubAckReason::NotAuthorized => Answer::NotAuthorized,
        PubAckReason::QuotaExceeded => Answer::QuotaExceeded,
        PubAckReason::TopicNameInvalid => Answer::Refused("topic_name_invalid"),
        PubAckReason::PayloadFormatInvalid => Answer::Refused("payload_format_invalid"),
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse => Answer::Refused("refused_by_broker"),
    }
}

/// Writes and flushes everything. It may be dropped at any point: what was written has left `out`.
async fn write<W: AsyncWriteExt + Unpin>(
    writer: &mut W,
    out: &mut BytesMut,
    is_unflushed: &mut bool,
) -> std::io::Result<()> {
    *is_unflushed = true;
    writer.write_all_buf(out).await?;
    writer.flush().await?;
    *is_unflushed = false;
    Ok(())
}
