//! The platform's end of MQTT: readings, orders, chargers' records and live values in, signed acceptances and answers out; and who may use
//! which topic of the embedded broker.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, bail};
use domain::ids::{Digest32, GatewayId, PointId};
use domain::key_record::PointRole;
use domain::rejection::Rejection;
use domain::signed::MESSAGE_MAX_BYTES;
use futures_util::{TryStreamExt, stream};
use runtime::behind::Behind;
use runtime::broker::{Access, AccessList};
use runtime::mqtt::{MqttEvent, MqttHandle, MqttLink, MqttOptions, QoS};
use settlement::service::{Arrived, KnownKeys, check_signatures};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::charging;
use super::control::{self, Forward};
use super::core::{Command, Told};
use super::door::{Door, Knock};
use super::keys;
use super::orders::{AnswerTo, OrderAnswer, answer_body, read as read_order};
use super::witnesses::gateways;
use crate::site::Site;

/// The platform's user at its broker.
pub(crate) const BROKER_USER: &str = "platform";

/// Largest packet from the broker. More than our own broker takes from a client, so that a reading that is
/// too large arrives and is refused by name.
const PACKET_MAX_BYTES: u32 = 512 * 1024;

/// Most readings whose signatures are checked together.
const CHECKED_TOGETHER_MAX: usize = 128;
/// Most readings that are being checked or stored, or wait for the core: twice what it stores together.
const READINGS_WAITING_MAX: usize = 2048;

/// Most chargers' records that a gateway may bring in a minute. It sends what was not answered again.
const RECORDS_PER_MINUTE_MAX: u32 = 60;
/// Most introductions of keys that a gateway may bring in a minute. It brings one three times while nobody answers, and once more
/// whenever it has found the broker again.
const INTRODUCTIONS_PER_MINUTE_MAX: u32 = 12;
/// Most chargers' records that wait to be kept.
const RECORDS_WAITING_MAX: usize = 256;

/// Most answers waiting to be told.
const TELL_MAX: usize = 2 * READINGS_WAITING_MAX;

/// Lets in who may read and write which topics: gateways their own, the platform all.
pub(crate) fn admit(
    list: &AccessList,
    site: &Site,
    platform_password: &[u8],
) -> anyhow::Result<()> {
    let base = format!("cw/v1/{}", site.community);
    let all = |names: &[&str]| {
        names
            .iter()
            .map(|n| format!("{base}/+/{n}"))
            .collect::<Vec<_>>()
    };
    let access = Access {
        read: all(&[
            "reading", "state", "ack", "live", "enrol", "order", "charger",
        ]),
        write: all(&[
            "cmd",
            "receipt",
            "credential",
            "order-answer",
            "charger-receipt",
        ]),
    };
    list.add(BROKER_USER, platform_password, access)?;
    for gateway in &site.gateways {
        let own = |names: &[&str]| {
            names
                .iter()
                .map(|n| format!("{base}/{}/{n}", gateway.id))
                .collect::<Vec<_>>()
        };
        let mut read = own(&[
            "cmd",
            "receipt",
            "credential",
            "order-answer",
            "charger-receipt",
        ]);
        read.extend(gateway.device_topics.iter().cloned());
        let write = own(&[
            "reading", "state", "ack", "live", "enrol", "order", "charger",
        ]);
        let (user, access) = (gateway.id.as_str(), Access { read, write });
        match gateway.password_sha256 {
            Some(hash) => list.add_hashed(user, hash, access),
            None => list.add_certified(user, access),
        }
        .with_context(|| format!("gateway {}", gateway.id))?;
    }
    Ok(())
}

/// How the platform reaches its own broker.
pub(crate) fn options(site: &Site, broker: SocketAddr, password: &str) -> MqttOptions {
    let base = format!("cw/v1/{}", site.community);
    MqttOptions {
        subscriptions: vec![
            (format!("{base}/+/reading"), QoS::AtLeastOnce),
            (format!("{base}/+/ack"), QoS::AtLeastOnce),
            (format!("{base}/+/enrol"), QoS::AtLeastOnce),
            (format!("{base}/+/order"), QoS::AtLeastOnce),
            (format!("{base}/+/charger"), QoS::AtLeastOnce),
            (format!("{base}/+/live"), QoS::AtMostOnce),
            (format!("{base}/+/state"), QoS::AtLeastOnce),
        ],
        host: broker.ip().to_string(),
        port: broker.port(),
        client_id: BROKER_USER.to_owned(),
        user: BROKER_USER.to_owned(),
        password: password.to_owned(),
        tls: None,
        last_will: None,
        keep_alive_s: 30,
        max_packet_bytes: PACKET_MAX_BYTES,
    }
}

/// Moves messages between the broker and the core until `shutdown`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    options: MqttOptions,
    commands: mpsc::Sender<Command>,
    told: (mpsc::Receiver<Told>, mpsc::Receiver<Forward>),
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (readings, arrived) = mpsc::channel(CHECKED_TOGETHER_MAX);
    let (records, waiting) = mpsc::channel(RECORDS_WAITING_MAX);
    let (words, said) = gateways::queue();
    let doors = Doors {
        commands: commands.clone(),
        readings,
        records,
        words,
    };
    let (link, events) = MqttLink::start(options, shutdown.clone());
    tokio::select! {
        done = check(Arc::clone(&shared), arrived, commands) => done,
        done = answer_records(&shared, &link, waiting) => done,
        done = gateways::hear(&shared, said) => done,
        done = move_messages(&shared, (&link, events), doors, told, shutdown) => done,
    }
}

/// Where what comes from the broker goes.
pub(super) struct Doors {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) readings: mpsc::Sender<Arrived>,
    pub(super) records: mpsc::Sender<(GatewayId, Vec<u8>)>,
    pub(super) words: mpsc::Sender<gateways::Word>,
}

/// Checks the signatures of readings, on up to as many threads as there are cores, behind the core that stores those before
/// them, and hands them on in their order. A reading whose key is enrolled meanwhile is looked at again there.
async fn check(
    shared: Arc<Shared>,
    arrived: mpsc::Receiver<Arrived>,
    commands: mpsc::Sender<Command>,
) -> anyhow::Result<()> {
    let room = Arc::new(Semaphore::new(READINGS_WAITING_MAX));
    let behind = Arc::new(Behind::start().context("threads that check signatures")?);
    let threads = behind.threads();
    let begin = |(mut arrived, mut known): (mpsc::Receiver<Arrived>, KnownKeys)| {
        let (shared, room, behind) = (Arc::clone(&shared), Arc::clone(&room), Arc::clone(&behind));
        async move {
            let mut readings = Vec::new();
            if arrived.recv_many(&mut readings, CHECKED_TOGETHER_MAX).await == 0 {
                return Ok(None);
            }
            let count = u32::try_from(readings.len())?;
            let room = room.acquire_many_owned(count).await?;
            let check = begin_check(&shared, &behind, &mut known, readings).await;
            let check = async { Ok((check.await.context("checking signatures")?, room)) };
            anyhow::Ok(Some((check, (arrived, known))))
        }
    };
    let begun = stream::try_unfold((arrived, KnownKeys::default()), begin);
    let mut checked = pin!(begun.try_buffered(threads));
    while let Some((readings, room)) = checked.try_next().await? {
        let room = Some(room);
        if commands
            .send(Command::Readings { readings, room })
            .await
            .is_err()
        {
            break;
        }
    }
    Ok(())
}

/// Begins to check signatures.
async fn begin_check(
    shared: &Shared,
    behind: &Behind,
    known: &mut KnownKeys,
    mut readings: Vec<Arrived>,
) -> oneshot::Receiver<Vec<Arrived>> {
    let keys = known.of(&shared.db, &readings).await;
    let keys = keys.unwrap_or_else(|error| {
        tracing::warn!("signatures are checked later, the keys could not be read: {error:#}");
        Arc::default()
    });
    let community = shared.community.id.clone();
    behind.begin(move || {
        check_signatures(&mut readings, &keys, &community);
        readings
    })
}

async fn move_messages(
    shared: &Arc<Shared>,
    (link, mut events): (&MqttHandle, mpsc::Receiver<MqttEvent>),
    doors: Doors,
    (mut told, mut forwards): (mpsc::Receiver<Told>, mpsc::Receiver<Forward>),
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (mut door, mut records_door) = (Door::default(), Door::default());
    let mut keys_door = Door::default();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            what = told.recv() => match what {
                Some(what) => {
                    if let Err(error) = tell(shared, link, what).await {
                        tracing::warn!("an answer could not be told, it will be asked for again: {error:#}");
                    }
                }
                None => return Ok(()),
            },
            Some(forward) = forwards.recv() => pass_on(shared, link, forward),
            event = events.recv() => match event {
                Some(event) => {
                    let event = at_the_door(shared, link, &mut door, event);
                    let event = event.filter(|event| record_may_in(shared, &mut records_door, event));
                    let Some(event) = event else { continue };
                    match key_may_in(shared, &mut keys_door, &event) {
                        Ok(()) => take(shared, &doors, event).await,
                        // Where the link is full it is not told, and comes again.
                        Err(Some(refused)) => drop(tell(shared, link, refused).await),
                        Err(None) => {}
                    }
                }
                None => bail!("the link to the broker has ended by itself"),
            },
        }
    }
}

/// A queue for what gateways are [`Told`].
pub(crate) fn told_queue() -> (mpsc::Sender<Told>, mpsc::Receiver<Told>) {
    mpsc::channel(TELL_MAX)
}

/// Lets an event in, but no more orders of a gateway than its households may send in a minute together; the first
/// that is too many is answered, the others are dropped unread.
fn at_the_door(
    shared: &Shared,
    link: &MqttHandle,
    door: &mut Door,
    event: MqttEvent,
) -> Option<MqttEvent> {
    let MqttEvent::Message { topic, payload, .. } = &event else {
        return Some(event);
    };
    let Some((gateway, "order")) = split_topic(shared, topic) else {
        return Some(event);
    };
    let mut gateways = shared.site.gateways.iter();
    let points = gateways.find(|g| g.id == gateway)?.points.iter();
    let households = points.filter(|p| p.role == PointRole::Connection).count();
    let households = u32::try_from(households.max(1)).unwrap_or(u32::MAX);
    let each = shared.market.rules.messages_per_minute_max;
    match door.knock(
        shared.clock.now(),
        &gateway,
        each.saturating_mul(households),
    ) {
        Knock::In => Some(event),
        Knock::Dropped => None,
        Knock::TooMany => {
            let refused = OrderAnswer::Refused(Rejection::RateLimited);
            let answer = answer_body(&refused, Digest32::of(payload)).to_string();
            let topic = format!("cw/v1/{}/{gateway}/order-answer", shared.site.community);
            tracing::warn!(%gateway, "brings more orders than its households may send: the rest of this minute is dropped");
            // Where the link is full it is not told, and sends again.
            let _ = link.publish(topic, answer.into_bytes(), QoS::AtLeastOnce, false);
            None
        }
    }
}

/// Whether a charger's record is looked at: a gateway that brings too many in a minute keeps no other waiting, and
/// brings again what was not answered.
pub(super) fn record_may_in(shared: &Shared, door: &mut Door, event: &MqttEvent) -> bool {
    let MqttEvent::Message { topic, .. } = event else {
        return true;
    };
    let Some((gateway, "charger")) = split_topic(shared, topic) else {
        return true;
    };
    if !shared.site.gateways.iter().any(|g| g.id == gateway) {
        return false;
    }
    let knock = door.knock(shared.clock.now(), &gateway, RECORDS_PER_MINUTE_MAX);
    if knock == Knock::TooMany {
        tracing::warn!(%gateway, "brings too many chargers' records: the rest of this minute is dropped, and comes again");
    }
    knock == Knock::In
}

/// Whether a key that a gateway introduces is looked for in the books. What shows by itself that it is refused is
/// answered here, with what is to be told; more than so many in a minute are dropped, as what was not answered comes again.
pub(super) fn key_may_in(
    shared: &Shared,
    door: &mut Door,
    event: &MqttEvent,
) -> Result<(), Option<Told>> {
    let MqttEvent::Message {
        topic,
        payload,
        retain: false,
    } = event
    else {
        return Ok(());
    };
    let Some((gateway, "enrol")) = split_topic(shared, topic) else {
        return Ok(());
    };
    if !shared.site.gateways.iter().any(|g| g.id == gateway) {
        if let Some(unsaid) = door.stranger(shared.clock.now()) {
            tracing::warn!(%gateway, unsaid, "introduces a key, and site.toml has no such gateway: nobody answers it, and no other \
                is named in this minute");
        }
        return Err(None);
    }
    match door.knock(shared.clock.now(), &gateway, INTRODUCTIONS_PER_MINUTE_MAX) {
        Knock::In => {
            keys::refused_unasked(shared, &gateway, payload).map_or(Ok(()), |told| Err(Some(told)))
        }
        Knock::Dropped => Err(None),
        Knock::TooMany => {
            tracing::warn!(%gateway, "introduces too many keys: the rest of this minute is dropped");
            Err(None)
        }
    }
}

pub(super) async fn take(shared: &Shared, doors: &Doors, event: MqttEvent) {
    let Doors {
        commands, readings, ..
    } = doors;
    match event {
        MqttEvent::Message {
            topic,
            payload,
            retain,
        } => {
            let Some((gateway, kind)) = split_topic(shared, &topic) else {
                return;
            };
            match kind {
                // A retained reading would look fresh when it is not: readings are never retained.
                "reading" if !retain => {
                    // Of what is too long the rest is not kept while it waits.
                    let mut payload = payload;
                    payload.truncate(MESSAGE_MAX_BYTES + 1);
                    payload.shrink_to_fit();
                    // The queue is bounded: a flood waits here, and then at the broker.
                    let _ = readings.send(Arrived::new(gateway, payload)).await;
                }
                "enrol" if !retain => {
                    let bytes = payload;
                    let _ = commands.send(Command::Introduce { gateway, bytes }).await;
                }
                // A retained order would be placed again at every start: it is nobody's present wish.
                "order" if !retain => {
                    let message = Box::new(read_order(shared, payload.clone()));
                    let answer = AnswerTo::Gateway(gateway, Digest32::of(&payload));
                    let _ = commands.send(Command::Order { message, answer }).await;
                }
                "state" => note_seen(shared, &doors.words, &gateway, &payload),
                "live" if !retain => shared.live.take(gateway, &payload),
                "charger" if !retain => {
                    // What finds no room is brought again.
                    let _ = doors.records.try_send((gateway, payload));
                }
                "ack" if !retain => {
                    if let Err(error) = control::hear(shared, &gateway, payload).await {
                        tracing::warn!(%gateway, "an answer to a command was dropped: {error:#}");
                    }
                }
                _ => {}
            }
        }
        MqttEvent::Disconnected { reason } => {
            tracing::warn!(%reason, "the broker is not reachable")
        }
        MqttEvent::PublishRefused { reason } => {
            tracing::warn!(%reason, "the broker refused a message")
        }
        MqttEvent::SubscribeRefused { filter, reason } => {
            tracing::error!(%filter, %reason, "the broker refuses a subscription: nothing comes from there");
        }
        MqttEvent::Connected | MqttEvent::Answered { .. } => {}
    }
}

/// Keeps chargers' records, one after the other, while other messages are moved.
async fn answer_records(
    shared: &Shared,
    link: &MqttHandle,
    mut waiting: mpsc::Receiver<(GatewayId, Vec<u8>)>,
) -> anyhow::Result<()> {
    while let Some((gateway, payload)) = waiting.recv().await {
        if let Err(error) = answer_record(shared, link, &gateway, payload).await {
            tracing::warn!(%gateway, "a charger's record was not answered, it comes again: {error:#}");
        }
    }
    Ok(())
}

/// Keeps what a charger's meter has signed, and says so.
async fn answer_record(
    shared: &Shared,
    link: &MqttHandle,
    gateway: &GatewayId,
    payload: Vec<u8>,
) -> anyhow::Result<()> {
    let answer = charging::records::hear(shared, gateway, payload).await?;
    let topic = format!("cw/v1/{}/{gateway}/charger-receipt", shared.site.community);
    link.publish(topic, answer, QoS::AtLeastOnce, false)?;
    Ok(())
}

/// How far a gateway has seen the ledger log, by its own unsigned word: the proof in its next acceptance starts
/// there, and is worth nothing where the word is wrong. What it has signed of the log is looked at apart.
fn note_seen(
    shared: &Shared,
    words: &mpsc::Sender<gateways::Word>,
    gateway: &GatewayId,
    payload: &[u8],
) {
    let state: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
    if !shared.site.gateways.iter().any(|g| g.id == *gateway) {
        return;
    }
    if let Some(size) = state["ledger_size"].as_u64() {
        shared.watch.has_seen(gateway, size);
    }
    gateways::note_word(shared, words, gateway, &state);
}

/// `cw/v1/<community>/<gateway>/<kind>` as gateway and kind.
fn split_topic<'t>(shared: &Shared, topic: &'t str) -> Option<(GatewayId, &'t str)> {
    let rest = topic
        .strip_prefix("cw/v1/")?
        .strip_prefix(shared.site.community.as_str())?;
    let (gateway, kind) = rest.strip_prefix('/')?.split_once('/')?;
    Some((GatewayId::new(gateway).ok()?, kind))
}

/// A command that finds no room is lost, and its operator sees that nobody answers.
fn pass_on(shared: &Shared, link: &MqttHandle, forward: Forward) {
    let Forward { gateway, bytes } = forward;
    let topic = format!("cw/v1/{}/{gateway}/cmd", shared.site.community);
    if link.publish(topic, bytes, QoS::AtLeastOnce, false).is_err() {
        tracing::warn!(%gateway, "a command could not be sent: the link to the broker is full");
    }
}

/// The operator's signed word on which readings of a point are in the books.
pub(crate) async fn accepted(
    shared: &Shared,
    gateway: &GatewayId,
    point: &PointId,
) -> anyhow::Result<Vec<u8>> {
    let Shared { db, community, .. } = shared;
    let now = shared.clock.now();
    let head = match shared.watch.on_its_way(gateway) {
        Some(head) => Some(head),
        None => {
            let seen = shared.watch.seen(gateway);
            let common = shared.watch.common();
            let head = settlement::service::ledger_head(db, seen, common).await?;
            if let Some((size, _)) = &head {
                shared.watch.show_all(*size);
            }
            let head = head.map(|(_, head)| head);
            shared.watch.shows(gateway, head.as_ref());
            head
        }
    };
    let of = (gateway, point);
    let signed =
        settlement::service::acceptance_with_ledger(&mut &*db, community, now, of, head).await?;
    Ok(signed.as_bytes().to_vec())
}

async fn tell(shared: &Shared, link: &MqttHandle, what: Told) -> anyhow::Result<()> {
    let (gateway, topic, bytes) = match what {
        Told::Accepted(gateway, point) => {
            let bytes = accepted(shared, &gateway, &point).await?;
            (gateway, "receipt", bytes)
        }
        Told::Key(gateway, bytes) => (gateway, "credential", bytes),
        Told::Order(gateway, answer) => (gateway, "order-answer", answer.into_bytes()),
    };
    let topic = format!("cw/v1/{}/{gateway}/{topic}", shared.site.community);
    link.publish(topic, bytes, QoS::AtLeastOnce, false)?;
    Ok(())
}
