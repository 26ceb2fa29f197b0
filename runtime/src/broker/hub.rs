//! Who is connected and subscribed, what is retained, and which queue a message goes into.
//!
//! Everything here is synchronous under one lock; waiting for a full queue happens outside of it.

mod group;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{
    DisconnectReasonCode, PubAckReason, RetainForwardRule, SubscribeReasonCode, UnsubAckReason,
};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use self::group::{Group, Groups, Member};
use super::Limits;
use super::counters::Counters;
use super::policy::Identity;
use super::topic::{covers, split_share};
use super::wire::{Filter, Message, granted};

/// A message in a client's queue.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub message: Arc<Message>,
    pub at_least_once: bool,
    pub retain: bool,
}

/// Asks a connection to end, and says why.
#[derive(Debug, Default)]
pub(super) struct Stop {
    token: CancellationToken,
    reason: OnceLock<DisconnectReasonCode>,
}

impl Stop {
    pub(super) fn now(&self, reason: DisconnectReasonCode) {
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    pub(super) async fn asked(&self) -> DisconnectReasonCode {
        self.token.cancelled().await;
        *self
            .reason
            .get()
            .unwrap_or(&DisconnectReasonCode::UnspecifiedError)
    }
}

/// Whose session it is. Every user has client ids of its own, so that nobody can take, or keep out,
/// another user's connection by using its client id.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct SessionKey(String);

impl SessionKey {
    /// `client_id` holds no NUL, so no two pairs have the same key.
    pub(super) fn new(identity: &Identity, client_id: &str) -> Self {
        SessionKey(format!("{}\0{client_id}", identity.user()))
    }
}

#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    max_retained: usize,
    max_retained_bytes: usize,
    max_subscriptions: usize,
    stuck_after: Duration,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<SessionKey, Session>,
    groups: Groups,
    retained: BTreeMap<String, Arc<Message>>,
    retained_bytes: usize,
    last_number: u64,
}

#[derive(Debug)]
struct Session {
    number: u64,
    queue: mpsc::Sender<Delivery>,
    stop: Arc<Stop>,
    gone: CancellationToken,
    subscriptions: Vec<Subscription>,
}

#[derive(Debug)]
struct Subscription {
    path: String,
    at_least_once: bool,
    no_local: bool,
    keep_retain_flag: bool,
    /// A shared subscription, which is delivered by [`Group`].
    shared: bool,
}

/// A client's place in the hub.
#[derive(Debug)]
pub(super) struct Joined {
    pub number: u64,
    pub queue: mpsc::Receiver<Delivery>,
    pub stop: Arc<Stop>,
}

/// Where a message went.
#[derive(Debug, Default)]
pub(super) struct Routed {
    matched: usize,
    queued: usize,
    blocked: Vec<Blocked>,
}

#[derive(Debug)]
struct Blocked {
    queue: mpsc::Sender<Delivery>,
    delivery: Delivery,
    stop: Arc<Stop>,
}

impl Routed {
    pub(super) fn is_complete(&self) -> bool {
        self.blocked.is_empty()
    }

    /// What the publisher is told.
    pub(super) fn reason(&self) -> PubAckReason {
        match (self.matched, self.queued) {
            (0, _) => PubAckReason::NoMatchingSubscribers,
            (_, 0) => PubAckReason::QuotaExceeded,
            _ => PubAckReason::Success,
        }
    }
}

impl Hub {
    pub(super) fn new(limits: &Limits, counters: Arc<Counters>) -> Self {
        Hub {
            state: Mutex::default(),
            max_retained: limits.max_retained,
            max_retained_bytes: limits.max_retained_bytes,
            max_subscriptions: limits.max_subscriptions,
            stuck_after: Duration::from_millis(limits.stuck_after_ms),
            counters,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `Err`: an old connection has the same key. It was told to end; wait for the token and try
    /// again.
    pub(super) fn join(
        &self,
        key: &SessionKey,
        queue_messages: usize,
    ) -> Result<Joined, CancellationToken> {
        let mut state = self.state();
        if let Some(old) = state.sessions.get(key) {
            old.stop.now(DisconnectReasonCode::SessionTakenOver);
            return Err(old.gone.clone());
        }
        state.last_number += 1;
        let (number, stop) = (state.last_number, Arc::new(Stop::default()));
        let (sender, queue) = mpsc::channel(queue_messages.max(1));
        let session = Session {
            number,
            queue: sender,
            stop: Arc::clone(&stop),
            gone: CancellationToken::new(),
            subscriptions: Vec::new(),
        };
        state.sessions.insert(key.clone(), session);
        Ok(Joined {
            number,
            queue,
            stop,
        })
    }

    /// Ends a client's subscriptions. Its key stays taken until [`Hub::release`], so that a new
    /// connection of the same key cannot be overtaken by the old one's last will.
    pub(super) fn leave(&self, key: &SessionKey, number: u64) {
        let mut state = self.state();
        if let Some(session) = state.sessions.get_mut(key) {
            session.subscriptions.clear();
        }
        state.groups.leave(number, None);
    }

    pub(super) fn release(&self, key: &SessionKey) {
        if let Some(session) = self.state().sessions.remove(key) {
            session.gone.cancel();
        }
    }

    /// Adds one subscription; also returns the retained messages that it brings.
    pub(super) fn subscribe(
        &self,
        key: &SessionKey,
        filter: &Filter,
    ) -> (SubscribeReasonCode, Vec<Delivery>) {
        let Ok((group, inner)) = split_share(&filter.path) else {
            return (SubscribeReasonCode::TopicFilterInvalid, Vec::new());
        };
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(key) else {
            return (SubscribeReasonCode::Unspecified, Vec::new());
        };
        let subscription = Subscription {
            path: filter.path.clone(),
            at_least_once: filter.at_least_once,
            no_local: filter.no_local,
            keep_retain_flag: filter.keep_retain_flag,
            shared: group.is_some(),
        };
        let known = session
            .subscriptions
            .iter()
            .position(|s| s.path == filter.path);
        match known {
            Some(index) => session.subscriptions[index] = subscription,
            None if session.subscriptions.len() >= self.max_subscriptions => {
                return (SubscribeReasonCode::QuotaExceeded, Vec::new());
            }
            None => session.subscriptions.push(subscription),
        }
        let reason = granted(filter.at_least_once);
        if group.is_some() {
            let member = Member {
                number: session.number,
                at_least_once: filter.at_least_once,
                queue: session.queue.clone(),
                stop: Arc::clone(&session.stop),
            };
            state
                .groups
                .join(&filter.path, filter.path.len() - inner.len(), member);
            return (reason, Vec::new());
        }
        let wanted = match filter.retained {
            RetainForwardRule::OnEverySubscribe => true,
            RetainForwardRule::OnNewSubscribe => known.is_none(),
            RetainForwardRule::Never => false,
        };
        let matching = state
            .retained
            .values()
            .filter(|m| wanted && covers(inner, &m.topic));
        let deliveries = matching.map(|message| Delivery {
            message: Arc::clone(message),
            at_least_once: message.at_least_once && filter.at_least_once,
            retain: true,
        });
        (reason, deliveries.collect())
    }

    pub(super) fn unsubscribe(&self, key: &SessionKey, path: &str) -> UnsubAckReason {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(key) else {
            return UnsubAckReason::UnspecifiedError;
        };
        let before = session.subscriptions.len();
        session.subscriptions.retain(|s| s.path != path);
        let (after, number) = (session.subscriptions.len(), session.number);
        state.groups.leave(number, Some(path));
        if before == after {
            UnsubAckReason::NoSubscriptionExisted
        } else {
            UnsubAckReason::Success
        }
    }

    /// Retains the message if it asks for that, and queues it to everyone who subscribed.
    ///
    /// `Err` when the limit of retained messages is reached; then it goes to nobody.
    pub(super) fn route(&self, message: Message, from: u64) -> Result<Routed, PubAckReason> {
        let message = Arc::new(message);
        let mut state = self.state();
        if message.retain {
            self.retain(&mut state, &message)?;
        }
        let mut routed = Routed::default();
        for session in state.sessions.values() {
            if let Some(delivery) = session.wants(&message, from) {
                self.offer(&session.queue, &session.stop, delivery, &mut routed);
            }
        }
        for group in &mut state.groups.0 {
            if covers(&group.path[group.filter_at..], &message.topic) {
                self.offer_to_group(group, &message, &mut routed);
            }
        }
        Ok(routed)
    }

    fn retain(&self, state: &mut State, message: &Arc<Message>) -> Result<(), PubAckReason> {
        let old_bytes = state
            .retained
            .get(&message.topic)
            .map(|old| old.payload.len());
        let bytes = state.retained_bytes - old_bytes.unwrap_or(0) + message.payload.len();
        if message.payload.is_empty() {
            state.retained.remove(&message.topic);
        } else {
            let one_more = old_bytes.is_none() && state.retained.len() >= self.max_retained;
            if one_more || bytes > self.max_retained_bytes {
                Counters::add(&self.counters.retained_refused, 1);
                return Err(PubAckReason::QuotaExceeded);
            }
            state
                .retained
                .insert(message.topic.clone(), Arc::clone(message));
        }
        state.retained_bytes = bytes;
        Ok(())
    }

    /// Puts a message into a queue. Where it is full, QoS 0 is dropped, QoS 1 has to wait.
    fn offer(
        &self,
        queue: &mpsc::Sender<Delivery>,
        stop: &Arc<Stop>,
        delivery: Delivery,
        routed: &mut Routed,
    ) {
        routed.matched += 1;
        match queue.try_send(delivery) {
            Ok(()) => routed.queued += 1,
            Err(TrySendError::Full(delivery)) if delivery.at_least_once => {
                let (queue, stop) = (queue.clone(), Arc::clone(stop));
                routed.blocked.push(Blocked {
                    queue,
                    delivery,
                    stop,
                });
            }
            Err(TrySendError::Full(_)) => Counters::add(&self.counters.dropped_qos0, 1),
            // It is just leaving.
            Err(TrySendError::Closed(_)) => routed.matched -= 1,
        }
    }

    fn offer_to_group(&self, group: &mut Group, message: &Arc<Message>, routed: &mut Routed) {
        let count = group.members.len();
        let turns = (0..count).map(|n| (group.next + n) % count);
        // Whoever has room goes first; where nobody has, the one whose turn it is.
        let with_room = turns.clone().find(|n| {
            let queue = &group.members[*n].queue;
            queue.capacity() > 0 && !queue.is_closed()
        });
        let Some(chosen) = with_room.or_else(|| turns.into_iter().next()) else {
            return;
        };
        group.next = (chosen + 1) % count;
        let member = &group.members[chosen];
        let at_least_once = message.at_least_once && member.at_least_once;
        let delivery = Delivery {
            message: Arc::clone(message),
            at_least_once,
            retain: false,
        };
        self.offer(&member.queue, &member.stop, delivery, routed);
    }

    /// Waits for room in full queues. A subscriber that makes none in time is disconnected and
    /// counted, so that what the publisher is told stays true for those that remain.
    pub(super) async fn wait(&self, mut routed: Routed) -> Routed {
        let deadline = tokio::time::Instant::now() + self.stuck_after;
        for blocked in std::mem::take(&mut routed.blocked) {
            let sending = blocked.queue.send(blocked.delivery);
            match tokio::time::timeout_at(deadline, sending).await {
                Ok(Ok(())) => routed.queued += 1,
                Ok(Err(_)) => routed.matched -= 1,
                Err(_) => {
                    Counters::add(&self.counters.stuck_subscribers, 1);
                    blocked.stop.now(DisconnectReasonCode::QuotaExceeded);
                }
            }
        }
        routed
    }
}

impl Session {
    /// One delivery with the highest QoS of all subscriptions that match, or none.
    fn wants(&self, message: &Arc<Message>, from: u64) -> Option<Delivery> {
        let matching = self.subscriptions.iter().filter(|s| {
            let own_echo = s.no_local && from == self.number;
            !s.shared && !own_echo && covers(&s.path, &message.topic)
        });
        matching.fold(None, |found: Option<Delivery>, s| {
            let before = found.map_or((false, false), |d| (d.at_least_once, d.retain));
            Some(Delivery {
                message: Arc::clone(message),
                at_least_once: before.0 || (s.at_least_once && message.at_least_once),
                retain: before.1 || (s.keep_retain_flag && message.retain),
            })
        })
    }
}
