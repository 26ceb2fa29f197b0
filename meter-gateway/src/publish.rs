//! To the platform and back: readings at least once, state with a last will, live values for the
//! eye, and the platform's signed acceptances, the only thing that empties the outbox.

mod flow;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::acceptance::Acceptance;
use domain::ids::{CommunityId, GatewayId, PointId};
use domain::introduction::KeyRefused;
use domain::rejection::Rejection;
use domain::signed::{PublicKey, Signed, Verified};
use runtime::clock::Clock;
use runtime::mqtt::{Answer, LastWill, MqttEvent, MqttHandle, MqttOptions, QoS};
use runtime::tls::ClientTls;
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::{Config, point_records};
use crate::control::service::Incoming;
use crate::enrol::{Enrolment, Heard};
use crate::listen::Listener;
use crate::live::Live;
use crate::ocpp::mail::Postman;
use crate::seen::{Heard as Ledger, Seen};
use crate::spool::{Outgoing, Refused, Spool, SpoolError};
use crate::status::Shared;
pub use flow::Flow;
use flow::advice;

/// How often the outbox is looked at when nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A reading sent so often without an answer is worth a warning.
const UNANSWERED_ATTEMPTS: u32 = 5;
/// Between two words to the platform on how far its ledger log was seen, where its proofs do not start there.
const SAY_SEEN_PAUSE: Duration = Duration::from_secs(1);
/// Events heard before what is due is looked for again.
const HEARD_AT_ONCE_MAX: usize = 64;
const KEEP_ALIVE_S: u16 = 30;
/// Largest packet from the broker: the key record of a gateway with 1,024 points has at most 160 KiB.
const PACKET_MAX_BYTES: u32 = 256 * 1024;

/// The topics of one gateway.
#[derive(Clone, Debug)]
pub struct Topics {
    /// Signed readings.
    pub reading: String,
    /// Whether the gateway is there, retained.
    pub state: String,
    /// Live values.
    pub live: String,
    /// Acceptances, from the platform.
    pub receipt: String,
    /// Commands, from the platform.
    pub cmd: String,
    /// Answers to commands.
    pub ack: String,
    /// A new key, introduced to the platform.
    pub enrol: String,
    /// The platform's answer to that.
    pub credential: String,
    /// What chargers' meters have signed.
    pub charger: String,
    /// The platform's word that it keeps that.
    pub charger_receipt: String,
}

impl Topics {
    /// The topics of `gateway` in `community`.
    #[must_use]
    pub fn new(community: &CommunityId, gateway: &GatewayId) -> Self {
        let topic = |last: &str| format!("cw/v1/{community}/{gateway}/{last}");
        Topics {
            reading: topic("reading"),
            state: topic("state"),
            live: topic("live"),
            receipt: topic("receipt"),
            cmd: topic("cmd"),
            ack: topic("ack"),
            enrol: topic("enrol"),
            credential: topic("credential"),
            charger: topic("charger"),
            charger_receipt: topic("charger-receipt"),
        }
    }
}

/// What the link to the broker needs to know.
#[must_use]
pub fn link_options(
    topics: &Topics,
    (host, port, tls): (String, u16, Option<ClientTls>),
    (user, password): (String, String),
    client_id: String,
    boot_id: &str,
    devices: &Listener,
) -> MqttOptions {
    let words = [
        &topics.receipt,
        &topics.credential,
        &topics.cmd,
        &topics.charger_receipt,
    ];
    let mut subscriptions = words.map(|t| (t.clone(), QoS::AtLeastOnce)).to_vec();
    subscriptions.extend(devices.subscriptions());
    let offline = json!({ "state": "offline", "boot_id": boot_id });
    let last_will = Some(LastWill {
        topic: topics.state.clone(),
        payload: offline.to_string().into_bytes(),
        qos: QoS::AtLeastOnce,
        retain: true,
    });
    MqttOptions {
        host,
        port,
        client_id,
        user,
        password,
        tls,
        subscriptions,
        last_will,
        keep_alive_s: KEEP_ALIVE_S,
        max_packet_bytes: PACKET_MAX_BYTES,
    }
}

/// Whose word is believed.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The community.
    pub community: CommunityId,
    /// This gateway.
    pub gateway: GatewayId,
    /// The operator's key.
    pub operator_key: PublicKey,
    /// This gateway's points.
    pub points: Vec<PointId>,
}

impl Trust {
    /// What a configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Trust {
            community: config.community.clone(),
            gateway: config.gateway.clone(),
            operator_key: config.operator_key,
            points: point_records(config)
                .into_iter()
                .map(|(point, ..)| point)
                .collect(),
        }
    }
}

/// The task between outbox and broker.
#[derive(Debug)]
pub struct Publisher {
    /// The outbox.
    pub spool: Spool,
    /// To the broker.
    pub handle: MqttHandle,
    /// From the broker.
    pub events: mpsc::Receiver<MqttEvent>,
    /// Ends the link.
    pub link: DropGuard,
    /// Where things go.
    pub topics: Topics,
    /// Whose word is believed.
    pub trust: Trust,
    /// What was seen of the operator's ledger log.
    pub seen: Seen,
    /// When the platform was last told how far that is.
    pub said_seen: Option<Instant>,
    /// A new key on its way to the platform.
    pub enrolment: Enrolment,
    /// What chargers' meters have signed, on its way to the platform; none without chargers over OCPP.
    pub postman: Option<Postman>,
    /// Devices that are heard on this broker.
    pub devices: Listener,
    /// Where commands go; none where nobody takes them.
    pub commands: Option<mpsc::Sender<Incoming>>,
    /// Rung when there is something new in the outbox.
    pub wake: Arc<Notify>,
    /// What the status page shows.
    pub status: Shared,
    /// The time.
    pub clock: Clock,
    /// Differs at every start.
    pub boot_id: String,
    /// Whether the broker is there.
    pub connected: Arc<AtomicBool>,
    /// The process's own time, for resending.
    pub started: Instant,
    /// What was warned about once.
    pub warned: Warned,
    /// How much may go out.
    pub flow: Flow,
}

/// Points with a lasting trouble that was already reported. There are no more of them than the
/// gateway has points.
#[derive(Debug, Default)]
pub struct Warned {
    /// Their outbox is older than the platform's books. Its words about them stay disbelieved until
    /// the next start, also once new readings have caught up with the sequences in the books.
    older: BTreeSet<PointId>,
    /// Their readings are not answered.
    unanswered: BTreeSet<String>,
}

impl Warned {
    /// The points that turn out now, and not before, to be without an answer.
    fn unanswered(&mut self, sent: &[Outgoing]) -> Vec<String> {
        let often = |one: &&Outgoing| one.attempts + 1 >= UNANSWERED_ATTEMPTS;
        let points = sent.iter().filter(often).map(|one| one.point.clone());
        points
            .filter(|point| self.unanswered.insert(point.clone()))
            .collect()
    }
}

impl Publisher {
    /// The way for live values beside this task.
    #[must_use]
    pub fn live(&self) -> Live {
        Live::new(
            self.handle.clone(),
            self.topics.live.clone(),
            self.connected.clone(),
        )
    }

    /// Runs until `shutdown`, and says goodbye.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wake = self.wake.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                event = self.events.recv() => match event {
                    Some(event) => self.hear_some(event).await,
                    None => break,
                },
                () = wake.notified() => {}
                _ = look.tick() => {}
            }
            if let Err(error) = self.send_due().await {
                tracing::error!("{error}");
                self.status.count_error("outbox");
            }
        }
        self.say("offline");
        // The link sends what is queued, says goodbye and closes its end.
        drop(self.link);
        while self.events.recv().await.is_some() {}
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn say(&mut self, word: &str) {
        let now = self.clock.now();
        let mut state = json!({ "state": word, "boot_id": self.boot_id, "at_ms": now.unix_ms() });
        if let Some(size) = self.seen.size() {
            state["ledger_size"] = size.into();
        }
        if let Some(cosigned) = self.seen.cosigned(now) {
            state["ledger_head"] = cosigned.into();
        }
        if let Some(fork) = self.seen.fork() {
            state["ledger_fork"] = fork.clone();
        }
        self.seen.is_said();
        if self
            .handle
            .publish(
                &self.topics.state,
                state.to_string(),
                QoS::AtLeastOnce,
                true,
            )
            .is_err()
        {
            tracing::warn!("the state `{word}` could not be published: the link is full or gone");
        }
    }

    async fn send_due(&mut self) -> Result<(), SpoolError> {
        if !self.connected.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.introduce();
        let now_ms = self.now_ms();
        let most = self.flow.most(now_ms);
        if most > 0 {
            let history_max = self.flow.history(now_ms);
            let mut due = self.spool.due(now_ms, history_max).await?;
            due.truncate(most);
            self.send(due, now_ms);
        }
        self.bring_records().await?;
        let (waiting, refused) = self.spool.counts().await?;
        self.status
            .update(|s| (s.waiting, s.refused) = (waiting, refused));
        Ok(())
    }

    /// Brings the platform what chargers' meters have signed. What finds no room is sent again.
    async fn bring_records(&mut self) -> Result<(), SpoolError> {
        let Some(postman) = &mut self.postman else {
            return Ok(());
        };
        for record in postman.due(Instant::now()).await? {
            let topic = &self.topics.charger;
            let sent = self.handle.publish(topic, record, QoS::AtLeastOnce, false);
            if sent.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The platform's word on one of these records.
    async fn record_kept(&mut self, payload: Vec<u8>) {
        let Some(postman) = &mut self.postman else {
            return;
        };
        match postman.hear(payload).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("a receipt for a charger's record was not believed");
                self.status.count_error("charger_receipt");
            }
            Err(error) => {
                tracing::error!("{error}");
                self.status.count_error("outbox");
            }
        }
    }

    fn send(&mut self, mut due: Vec<Outgoing>, now_ms: i64) {
        let mut sent = 0;
        for one in &due {
            let ticket = self.flow.ticket(one);
            let (topic, message) = (&self.topics.reading, one.message.as_slice());
            if self.handle.publish_tracked(topic, message, ticket).is_err() {
                self.flow.withdraw(ticket);
                break;
            }
            self.flow.went(one);
            sent += 1;
        }
        due.truncate(sent);
        self.spool.sent(&due, now_ms);
        for point in self.warned.unanswered(&due) {
            tracing::warn!(
                "readings of {point} are not answered; are this gateway's key and this point in the \
                 platform's site.toml?"
            );
            self.status.count_error("unanswered");
        }
        self.status
            .update(|s| s.readings_sent += u64::try_from(sent).unwrap_or(0));
    }

    /// The broker's word about a reading. Only the platform's signed one empties the outbox.
    fn answered(&mut self, ticket: u64, answer: Answer) {
        let Some(sent) = self.flow.answered(ticket) else {
            return;
        };
        match answer {
            Answer::Taken => return self.flow.opened(self.now_ms()),
            // It is alone in this, and waits longer and longer as any that is not answered.
            Answer::TooLarge => {}
            Answer::Nobody | Answer::NotAuthorized | Answer::QuotaExceeded | Answer::Refused(_) => {
                self.spool.unsent(&sent.point, sent.sequence);
                let now_ms = self.now_ms();
                self.flow.refused(now_ms);
            }
        }
        self.status.count_error(answer.name());
        if self.flow.is_news(answer) {
            let (point, sequence) = (&sent.point, sent.sequence);
            tracing::warn!("reading {sequence} of {point}: {}", advice(answer));
        }
    }

    /// This event and some that wait behind it, so that what is due is looked for once for all, and
    /// acceptances are noted with one sync of the disk.
    async fn hear_some(&mut self, first: MqttEvent) {
        let mut words: Vec<Verified<Acceptance>> = Vec::new();
        let mut next = Some(first);
        for _ in 0..HEARD_AT_ONCE_MAX {
            let Some(event) = next else { break };
            words.extend(self.hear(event).await);
            next = self.events.try_recv().ok();
        }
        if let Some(event) = next {
            words.extend(self.hear(event).await);
        }
        words.retain(|word| self.ledger_holds(word.message()));
        if self.seen.is_news() {
            // The proof in the platform's next acceptance starts there.
            self.say("online");
        }
        if !words.is_empty() && !self.apply(&words).await {
            for word in words.chunks(1) {
                self.apply(word).await;
            }
        }
    }

    /// Takes in an event; an acceptance is returned, where it is to be believed.
    async fn hear(&mut self, event: MqttEvent) -> Option<Verified<Acceptance>> {
        match event {
            MqttEvent::Connected => {
                self.connected.store(true, Ordering::Relaxed);
                self.status.link(None, self.clock.now());
                self.say("online");
                self.enrolment.connected();
                self.spool.forget_sent();
                self.flow.reconnected();
                if let Some(postman) = &mut self.postman {
                    postman.reconnected();
                }
            }
            MqttEvent::Disconnected { reason } => {
                tracing::warn!("no broker: {reason}");
                self.connected.store(false, Ordering::Relaxed);
                self.devices.lost();
                self.status.link(Some(&reason), self.clock.now());
            }
            MqttEvent::Message {
                topic,
                payload,
                retain,
            } => {
                if topic == self.topics.receipt {
                    return self.believe(payload);
                } else if topic == self.topics.cmd {
                    self.pass_on(Incoming { payload, retain });
                } else if topic == self.topics.charger_receipt {
                    self.record_kept(payload).await;
                } else if topic == self.topics.credential {
                    self.admitted(payload);
                } else {
                    self.devices.hear(&topic, &payload, retain).await;
                }
            }
            MqttEvent::Answered { ticket, answer } => self.answered(ticket, answer),
            MqttEvent::PublishRefused { reason } => {
                tracing::warn!("the broker refused a message: {reason}");
                self.status.count_error("publish_refused");
            }
            MqttEvent::SubscribeRefused { filter, reason } => {
                tracing::warn!("the broker refused the subscription to {filter}: {reason}");
                self.status.count_error("subscribe_refused");
            }
        }
        None
    }

    /// Never waits: what finds no room is sent again by who wants it done.
    fn pass_on(&self, command: Incoming) {
        let sent = self.commands.as_ref().map(|to| to.try_send(command));
        if !matches!(sent, Some(Ok(()))) {
            tracing::warn!("a command was dropped: too many at once");
            self.status.count_error("command_dropped");
        }
    }

    /// Introduces a new key, while the platform has not answered.
    fn introduce(&mut self) {
        let Some(message) = self.enrolment.due() else {
            return;
        };
        let topic = &self.topics.enrol;
        if self
            .handle
            .publish(topic, message, QoS::AtLeastOnce, false)
            .is_ok()
        {
            self.enrolment.sent();
        }
    }

    /// Takes the platform's answer to an introduction.
    fn admitted(&mut self, payload: Vec<u8>) {
        let now = self.clock.now();
        match self.enrolment.hear(payload, &self.trust, now) {
            Ok(Heard::Enrolled) => tracing::info!("the platform has enrolled this gateway's key"),
            Ok(Heard::Known) => tracing::debug!("the platform says again that the key is enrolled"),
            Ok(Heard::Refused {
                reason: KeyRefused::RateLimited,
                detail,
            }) => {
                tracing::warn!(
                    "this gateway's next key is introduced again until the platform lets it in: {detail}"
                );
                self.status.count_error(KeyRefused::RateLimited.name());
            }
            Ok(Heard::Refused { reason, detail }) => {
                tracing::error!(%reason, "the platform did not enrol this gateway's key: {detail}");
                self.status.count_error(reason.name());
            }
            Ok(Heard::Nothing) => {
                tracing::warn!("an answer about a key is not the operator's word to this gateway");
                self.status.count_error("credential");
            }
            Err(error) => {
                tracing::error!("{error}");
                self.status.count_error("credential");
            }
        }
    }

    /// What follows from a refusal beyond the one reading.
    fn heed(&self, refused: &Refused) {
        if refused.reason != Rejection::KeyRevoked {
            return;
        }
        self.status.count_error("key_revoked");
        let signer = refused.signer;
        let noted = signer.map(|signer| self.enrolment.note_revoked(signer));
        if let Some(Err(error)) = noted {
            tracing::error!("{error}");
        }
    }

    /// An acceptance, if it is the operator's word to this gateway about one of its points.
    fn believe(&self, payload: Vec<u8>) -> Option<Verified<Acceptance>> {
        let trust = &self.trust;
        let signed: Signed<Acceptance> = Signed::from_bytes(payload);
        let verified = match signed.verify(trust.operator_key, &trust.community) {
            Ok(verified) => verified,
            Err(error) => {
                tracing::warn!("an acceptance was not believed: {error}");
                self.status.count_error("acceptance");
                return None;
            }
        };
        let word = verified.message();
        if word.gateway != trust.gateway || !trust.points.contains(&word.point) {
            let (gateway, point) = (&word.gateway, &word.point);
            tracing::warn!("an acceptance for {gateway} and {point} is not for us");
            self.status.count_error("acceptance");
            return None;
        }
        if self.warned.older.contains(&word.point) {
            self.status.count_error("outbox_older");
            return None;
        }
        Some(verified)
    }

    /// Whether an acceptance shows a ledger log that begins with what was seen of it. Before anything was seen,
    /// there is nothing to hold it against.
    fn ledger_holds(&mut self, word: &Acceptance) -> bool {
        let Some(head) = &word.ledger else {
            if self.seen.size().is_none() {
                return true;
            }
            tracing::warn!("an acceptance without the ledger's checkpoint was not believed");
            self.status.count_error("ledger_missing");
            return false;
        };
        let heard = self.seen.hear(head, word.issued_at);
        if let Some(error) = self.seen.trouble() {
            tracing::error!("what was seen of the ledger could not be written down: {error}");
            self.status.count_error("ledger_file");
        }
        match heard {
            Ledger::Fine => true,
            Ledger::Late => {
                tracing::debug!("an acceptance came late and was left aside");
                self.status.count_error("ledger_late");
                false
            }
            Ledger::Unproven => {
                self.unproven(head.old);
                false
            }
            // The platform answers the next repeat of the reading again.
            Ledger::NotKept => false,
            Ledger::Contradiction(why) => {
                tracing::error!(
                    "THE OPERATOR'S LEDGER CONTRADICTS WHAT THIS GATEWAY HAS SEEN OF IT: {why}; its words are not \
                     believed, and readings stay in the outbox (ledger-fork.json in the data folder)"
                );
                self.status.count_error("ledger_fork");
                false
            }
        }
    }

    /// Says again how far the ledger log was seen: the reading is sent again, and the platform's answer to that
    /// proves from there.
    fn unproven(&mut self, old: u64) {
        self.status.count_error("ledger_unproven");
        let pause = |at: Instant| at.elapsed() < SAY_SEEN_PAUSE;
        if self.said_seen.is_some_and(pause) {
            return;
        }
        let seen = self.seen.size().unwrap_or_default();
        tracing::info!(
            "an acceptance was not believed: its ledger is proven from {old} entries, and {seen} were seen; it is \
             asked for again"
        );
        self.said_seen = Some(Instant::now());
        self.say("online");
    }

    /// Does what acceptances allow, all or nothing; false where one of several may be the reason for
    /// nothing.
    async fn apply(&mut self, words: &[Verified<Acceptance>]) -> bool {
        let (now, now_ms) = (self.clock.now(), self.now_ms());
        match self.spool.apply(words, now, now_ms).await {
            Ok(refused) => {
                for one in &refused {
                    let (point, sequence, reason) = (&one.point, one.sequence, one.reason);
                    tracing::warn!("reading {sequence} of {point} was refused: {reason}");
                    self.heed(one);
                }
                let count = u64::try_from(words.len()).unwrap_or(0);
                self.status.update(|s| s.acceptances += count);
            }
            Err(error) if words.len() > 1 && error.may_spare_others() => return false,
            Err(error @ SpoolError::Older { .. }) => {
                tracing::error!("{error}");
                self.status.count_error("outbox_older");
                let points = words.iter().map(|word| word.message().point.clone());
                self.warned.older.extend(points);
            }
            Err(error) => {
                tracing::error!("{error}");
                self.status.count_error("outbox");
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use domain::signed::SigningKey;
    use domain::time::Timestamp;
    use runtime::args;
    use runtime::mqtt::MqttLink;

    use super::*;

    /// A publisher without a broker over an empty outbox, and where it hears from.
    async fn publisher(
        dir: &std::path::Path,
        key: &SigningKey,
    ) -> (Publisher, mpsc::Sender<MqttEvent>) {
        let clock = Clock::scaled(Timestamp::EPOCH, 1);
        let trust = Trust {
            community: CommunityId::new("c").unwrap(),
            gateway: GatewayId::new("gw").unwrap(),
            operator_key: PublicKey::of(key),
            points: vec![PointId::new("home-1").unwrap()],
        };
        let topics = Topics::new(&trust.community, &trust.gateway);
        let devices = Listener::new(Vec::new(), clock.clone(), mpsc::channel(1).0);
        let (host, user) = (
            ("127.0.0.1".into(), 1, None),
            (String::new(), String::new()),
        );
        let options = link_options(&topics, host, user, "x".into(), "boot", &devices);
        let link = CancellationToken::new();
        let (handle, _) = MqttLink::start(options, link.clone());
        let (sender, events) = mpsc::channel(HEARD_AT_ONCE_MAX);
        let publisher = Publisher {
            spool: Spool::open(dir, 10).await.unwrap(),
            handle,
            events,
            link: link.drop_guard(),
            topics,
            seen: Seen::open(dir, &trust.community, trust.operator_key),
            said_seen: None,
            trust,
            enrolment: Enrolment::open(dir, PublicKey::of(key)).unwrap(),
            postman: None,
            devices,
            commands: None,
            wake: Arc::default(),
            status: Shared::default(),
            clock,
            boot_id: "boot".into(),
            connected: Arc::default(),
            started: Instant::now(),
            warned: Warned::default(),
            flow: Flow::new(1),
        };
        (publisher, sender)
    }

    #[tokio::test]
    async fn an_acceptance_that_shows_another_ledger_is_not_believed() {
        use domain::acceptance::LedgerHead;
        use domain::ids::Digest32;
        use domain::log::checkpoint::{Checkpoint, Log};

        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::from_bytes(&[1; 32]);
        let (mut publisher, _heard) = publisher(dir.path(), &key).await;
        let origin = Log::Ledger.origin(&publisher.trust.community);
        let mut hear = |root: u8, size: u64, ms: i64| {
            let root = (root > 0).then_some(root);
            let ledger = root.map(|root| LedgerHead {
                note: Checkpoint {
                    size,
                    root: Digest32([root; 32]),
                }
                .sign(&origin, &key),
                old: 0,
                path: Vec::new(),
            });
            let word = Acceptance {
                gateway: publisher.trust.gateway.clone(),
                point: publisher.trust.points[0].clone(),
                accepted_up_to: Some(1),
                missing: Vec::new(),
                rejected: Vec::new(),
                issued_at: Timestamp::from_unix_ms(ms),
                ledger,
            };
            publisher.ledger_holds(&word)
        };
        assert!(hear(0, 0, 1), "nothing was seen yet");
        assert!(hear(1, 7, 2));
        assert!(!hear(0, 0, 3), "no checkpoint");
        assert!(!hear(2, 6, 1), "a smaller one that is dated back");
        assert!(hear(1, 7, 2));
        assert!(!hear(2, 7, 3), "another root");
        assert!(!hear(1, 6, 3), "an older state");
        // What cannot be compared is no contradiction; the platform is told where to prove from.
        assert!(!hear(3, 9, 3));
        let errors = publisher.status.get().errors;
        assert_eq!(errors.get("ledger_fork"), Some(&2));
        for once in ["ledger_unproven", "ledger_missing", "ledger_late"] {
            assert_eq!(errors.get(once), Some(&1), "{once}");
        }
    }

    #[tokio::test]
    async fn acceptances_that_a_full_disk_refuses_are_tried_once_and_not_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::from_bytes(&[1; 32]);
        let (mut publisher, events) = publisher(dir.path(), &key).await;
        let mut tx = publisher.spool.db().begin().await.unwrap();
        for sql in [
            "INSERT INTO gateway_point VALUES ('home-1', 9, x'00', '')",
            "INSERT INTO gateway_outbox VALUES ('home-1', 1, 0, x'00')",
            "CREATE TRIGGER full BEFORE DELETE ON gateway_outbox
                BEGIN SELECT RAISE (ABORT, 'database or disk is full'); END",
        ] {
            tx.execute(sql, args![]).await.unwrap();
        }
        tx.commit().await.unwrap();
        let word = |accepted_up_to| {
            let word = Acceptance {
                gateway: publisher.trust.gateway.clone(),
                point: publisher.trust.points[0].clone(),
                accepted_up_to: Some(accepted_up_to),
                missing: Vec::new(),
                rejected: Vec::new(),
                issued_at: Timestamp::EPOCH,
                ledger: None,
            };
            let signed = Signed::sign(&key, &publisher.trust.community, &word);
            MqttEvent::Message {
                topic: publisher.topics.receipt.clone(),
                payload: signed.as_bytes().to_vec(),
                retain: false,
            }
        };
        for up_to in 2..=8 {
            events.try_send(word(up_to)).unwrap();
        }
        let (first, again, too_many) = (word(1), word(1), word(9));
        publisher.hear_some(first).await;
        assert_eq!(publisher.status.get().errors["outbox"], 1);
        let mut tx = publisher.spool.db().begin().await.unwrap();
        tx.execute("DROP TRIGGER full", args![]).await.unwrap();
        tx.commit().await.unwrap();
        // One that is not to be believed holds up no other.
        events.try_send(too_many).unwrap();
        publisher.hear_some(again).await;
        let status = publisher.status.get();
        let errors = (status.errors["outbox"], status.errors["outbox_older"]);
        assert_eq!((status.acceptances, errors), (1, (1, 1)));
    }

    #[test]
    fn a_point_without_an_answer_is_named_once() {
        let sent = |point: &str, attempts| Outgoing {
            point: point.into(),
            sequence: 1,
            message: Vec::new(),
            attempts,
            is_history: false,
        };
        let mut warned = Warned::default();
        let first = [sent("a", 3), sent("b", 4), sent("b", 9), sent("c", 0)];
        assert_eq!(warned.unanswered(&first), ["b"]);
        let second = [sent("a", 4), sent("b", 5), sent("c", 1)];
        assert_eq!(warned.unanswered(&second), ["a"]);
    }
}
