//! The one writer of readings and orders, which it takes in batches; once a beat it does what time demands.
//!
//! A failing database stops nothing else: what was not committed was not answered, so gateways send it
//! again, and the next beat tries again what was due.

mod autopilots;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use domain::ids::{GatewayId, ParticipantId, PointId};
use domain::posting::Run;
use domain::time::{Interval, Timestamp};
use runtime::clock::Clock;
use runtime::db::{DbError, Tx};
use settlement::deliver::LossCheck;
use settlement::service::{
    Arrived, Moment, ReadingOutcome, accept_readings, expire_tokens, release_unbonded, tokens_due,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use super::keys::{KeyAnswer, KeyWord};
use super::keys::{introduce, say};
use super::orders::{self, AnswerTo, OrderAnswer, OrderMessage, answer_body};
use super::standing::{self, STANDING_SEQUENCES};
use super::{Shared, batteries, snapshot, witnesses};
use crate::view;

/// Most commands that are looked at together, and most orders committed together.
const BATCH_MAX: usize = 256;
/// Most readings committed together: where they wait because the disk is slow, they share its syncs.
const READINGS_STORED_MAX: usize = 1024;
/// The beat, in model time, and its bounds in wall time.
const BEAT_MODEL_MS: i64 = 5_000;
const BEAT_WALL_MIN: Duration = Duration::from_millis(50);
const BEAT_WALL_MAX: Duration = Duration::from_millis(1_000);
/// Shortest time between two pictures of the street.
const SHOW_PAUSE: Duration = Duration::from_millis(400);
/// How long before gate closure autopilots, standing orders and charging sessions place their orders.
pub(super) const AUTOPILOT_LEAD_S: i64 = 540;
/// The autopilots' sequences start here, so that they never meet a participant's own.
pub(crate) const AUTOPILOT_SEQUENCES: u64 = 1 << 40;
/// The sequences of orders that an account asks for by JSON start here, among those that say what a home wants for
/// itself: below the standing orders', above the autopilots'.
pub(crate) const ACCOUNT_SEQUENCES: u64 = AUTOPILOT_SEQUENCES + (1 << 39);
/// As many of them a second, so that they rise with the clock.
const ACCOUNT_SEQUENCES_PER_S: u64 = 128;
/// Pause between two looks at key files that do not fit.
const KEYS_PAUSE: Duration = Duration::from_secs(5);
/// Pause after the database refused to work.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What the core is asked to do.
pub(crate) enum Command {
    /// Take in signed readings that came from gateways' topics.
    Readings {
        readings: Vec<Arrived>,
        /// Their room in the queue, free again when they are stored.
        room: Option<OwnedSemaphorePermit>,
    },
    /// Take in readings that somebody waits for, and say of which points there is something to be told.
    Deliver {
        readings: Vec<Arrived>,
        answer: oneshot::Sender<BTreeSet<Told>>,
        /// Their place among deliveries, free again when they are stored.
        room: OwnedSemaphorePermit,
    },
    /// Take in an order or a cancel and say what came of it.
    Order {
        message: Box<OrderMessage>,
        answer: AnswerTo,
    },
    /// Take in a key that a gateway introduces on its topic.
    Introduce { gateway: GatewayId, bytes: Vec<u8> },
    /// Take a word about keys and say what came of it.
    Keys {
        word: KeyWord,
        answer: oneshot::Sender<KeyAnswer>,
    },
}

/// Whether it is of no use to try another transaction now.
fn begins_nothing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(DbError::Begin { .. }))
}

/// What a gateway has to be told.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Told {
    /// What is accepted of this point's readings.
    Accepted(GatewayId, PointId),
    /// The answer to a key that it introduced.
    Key(GatewayId, Vec<u8>),
    /// What came of an order or a cancel that it brought.
    Order(GatewayId, String),
}

/// The writer task.
pub(crate) struct Core {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Command>,
    show: watch::Sender<Arc<view::Street>>,
    tell: Option<mpsc::Sender<Told>>,
    /// What the last picture was made of.
    known: snapshot::Known,
    /// When the pages last got a new picture.
    shown: Option<Instant>,
    /// The interval for which every autopilot has been asked.
    asked: Option<Interval>,
    /// The same for standing orders.
    standing: standing::Asked,
    /// Which batteries were told what they have traded.
    batteries: batteries::Told,
    /// When the key files that do not fit were last looked at.
    keys_looked: Option<Instant>,
}

impl Core {
    pub(super) fn new(
        shared: Arc<Shared>,
        inbox: mpsc::Receiver<Command>,
        show: watch::Sender<Arc<view::Street>>,
        known: snapshot::Known,
    ) -> Self {
        Core {
            shared,
            inbox,
            show,
            known,
            tell: None,
            shown: None,
            asked: None,
            standing: standing::Asked::default(),
            batteries: batteries::Told::default(),
            keys_looked: None,
        }
    }

    /// Where to say that a point's acceptance has changed.
    pub(crate) fn tell(&mut self, tell: mpsc::Sender<Told>) {
        self.tell = Some(tell);
    }

    /// Works until `shutdown`, and finishes what it has begun.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let beat = self
            .shared
            .clock
            .wall(BEAT_MODEL_MS)
            .clamp(BEAT_WALL_MIN, BEAT_WALL_MAX);
        let mut beats = tokio::time::interval(beat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                _ = beats.tick() => {
                    let pause = if self.beat().await { beat } else { RETRY_PAUSE };
                    // Counted from the beat's end, so that a long one leaves room for what came in.
                    beats.reset_after(pause);
                }
                count = self.inbox.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.take(std::mem::take(&mut batch)).await;
                }
            }
        }
    }

    async fn take(&mut self, batch: Vec<Command>) {
        let (mut readings, mut orders) = (Vec::new(), Vec::new());
        let mut rooms = Vec::new();
        for command in batch {
            match command {
                Command::Readings {
                    readings: some,
                    room,
                } => {
                    readings.extend(some);
                    rooms.extend(room);
                }
                Command::Deliver {
                    mut readings,
                    answer,
                    room,
                } => {
                    self.deliver(&mut readings, answer).await;
                    drop(room);
                }
                Command::Order { message, answer } => orders.push((*message, answer)),
                Command::Introduce { gateway, bytes } => {
                    match introduce(&self.shared, gateway, bytes).await {
                        Ok(told) => self.tell_all(BTreeSet::from([told])),
                        Err(error) => {
                            tracing::error!(
                                "a key could not be enrolled, it will be introduced again: {error:#}"
                            );
                        }
                    }
                }
                Command::Keys { word, answer } => {
                    let outcome = say(&self.shared, word).await.unwrap_or_else(|error| {
                        tracing::error!("a word about keys could not be stored: {error:#}");
                        KeyAnswer::Unavailable
                    });
                    let _ = answer.send(outcome);
                }
            }
        }
        // Only here nothing comes between: a key may have ended since the message's signature was looked at.
        let ring = self.shared.keys();
        let orders = orders.into_iter();
        let orders = orders
            .map(|(message, answer): (OrderMessage, _)| (message.unless_ended(&ring), answer));
        let (messages, answers): (Vec<_>, Vec<_>) = orders.unzip();
        let outcomes = self.answers(&messages).await;
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            match answer {
                // Whoever asked may have gone; the order stands all the same.
                AnswerTo::Caller(answer) => drop(answer.send(outcome)),
                AnswerTo::Gateway(gateway, message) => {
                    let answer = answer_body(&outcome, message).to_string();
                    self.tell_all(BTreeSet::from([Told::Order(gateway, answer)]));
                }
            }
        }
        for some in readings.chunks_mut(READINGS_STORED_MAX) {
            if self.take_and_tell(some).await.is_none() {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Takes readings in for somebody who waits; where none can be stored, nothing is answered.
    async fn deliver(&self, readings: &mut [Arrived], answer: oneshot::Sender<BTreeSet<Told>>) {
        if let Some(told) = self.take_and_tell(readings).await {
            drop(answer.send(told));
        }
    }

    /// Takes readings in together; where they cannot be stored, each half by itself, so that one that cannot be stored holds up
    /// no other. Once the database begins no transaction, the rest is not tried. Gives whom it has told; none where no
    /// reading could be stored.
    async fn take_and_tell(&self, readings: &mut [Arrived]) -> Option<BTreeSet<Told>> {
        let mut stored: Option<BTreeSet<Told>> = None;
        let mut waiting = vec![readings];
        while let Some(some) = waiting.pop() {
            match self.take_readings(some).await {
                Ok(told) => {
                    stored.get_or_insert_default().extend(told.iter().cloned());
                    self.tell_all(told);
                }
                Err(error) if begins_nothing(&error) => {
                    tracing::error!(
                        "readings could not be stored, they will be sent again: {error:#}"
                    );
                    break;
                }
                Err(error) if some.len() > 1 => {
                    tracing::error!("readings could not be stored together: {error:#}");
                    let (first, second) = some.split_at_mut(some.len() / 2);
                    waiting.extend([second, first]);
                }
                Err(error) => {
                    let gateway = some.first().map(Arrived::gateway);
                    tracing::error!(
                        ?gateway,
                        "a reading could not be stored, it will be sent again: {error:#}"
                    );
                }
            }
        }
        stored
    }

    /// Never waits: where the queue is full, the gateway asks again by sending again.
    fn tell_all(&self, told: BTreeSet<Told>) {
        if let Some(tell) = &self.tell {
            for point in told {
                let _ = tell.try_send(point);
            }
        }
    }

    async fn take_readings(&self, readings: &mut [Arrived]) -> anyhow::Result<BTreeSet<Told>> {
        let mut told = BTreeSet::new();
        if readings.is_empty() {
            return Ok(told);
        }
        let Shared {
            db,
            community,
            clock,
            ..
        } = &*self.shared;
        let mut tx = db.begin().await?;
        let outcomes = accept_readings(&mut tx, community, clock.now(), readings).await?;
        for (reading, outcome) in readings.iter().zip(outcomes) {
            let gateway = reading.gateway();
            match outcome {
                ReadingOutcome::Accepted { point, .. } | ReadingOutcome::Again { point, .. } => {
                    told.insert(Told::Accepted(gateway.clone(), point));
                }
                ReadingOutcome::Rejected {
                    point,
                    sequence,
                    reason,
                } => {
                    let shown = point.as_ref().map_or("unknown point", PointId::as_str);
                    tracing::warn!(%gateway, point = shown, ?sequence, %reason, "reading refused");
                    told.extend(point.map(|point| Told::Accepted(gateway.clone(), point)));
                }
            }
        }
        witnesses::sign_heads(&mut tx, &self.shared, clock.now()).await?;
        tx.commit().await?;
        Ok(told)
    }

    /// Takes orders and cancels together, or else one by one, and gives the answer to each.
    async fn answers(&self, messages: &[OrderMessage]) -> Vec<OrderAnswer> {
        match self.take_orders(messages).await {
            Ok(answers) => answers,
            Err(error) if messages.len() == 1 => {
                tracing::error!("an order could not be stored: {error:#}");
                vec![OrderAnswer::Unavailable]
            }
            Err(error) => {
                tracing::error!("orders could not be stored together: {error:#}");
                self.take_one_by_one(messages).await
            }
        }
    }

    /// Takes orders and cancels in one commit, and gives the answer to each.
    async fn take_orders(&self, messages: &[OrderMessage]) -> anyhow::Result<Vec<OrderAnswer>> {
        let shared = &*self.shared;
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = shared.db.begin().await?;
        let answers = orders::take(&mut tx, shared, shared.clock.now(), messages).await?;
        tx.commit().await?;
        Ok(answers)
    }

    /// [`Core::take_orders`] with a commit for each, so that one that cannot be stored keeps no other out. Once
    /// the database begins no transaction, the rest is not tried.
    async fn take_one_by_one(&self, messages: &[OrderMessage]) -> Vec<OrderAnswer> {
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            match self.take_orders(std::slice::from_ref(message)).await {
                Ok(answer) => answers.extend(answer),
                Err(error) => {
                    tracing::error!("an order could not be stored: {error:#}");
                    answers.push(OrderAnswer::Unavailable);
                    if begins_nothing(&error) {
                        break;
                    }
                }
            }
        }
        answers.resize(messages.len(), OrderAnswer::Unavailable);
        answers
    }

    /// Looks again for key files that somebody may have put right, and for what could not be read before.
    async fn look_for_keys(&mut self) {
        let recently = self.keys_looked.is_some_and(|at| at.elapsed() < KEYS_PAUSE);
        let old = self.shared.keys_are_old.load(Ordering::Relaxed);
        if !old && (recently || self.shared.keys().unfit() == 0) {
            return;
        }
        self.keys_looked = Some(Instant::now());
        if let Err(error) = self.shared.renew_keys().await {
            tracing::error!("the keys could not be read again: {error:#}");
        }
    }

    /// What time demands: orders, clearing, settlement, and a new picture for the pages. What fails
    /// is tried again at the next beat, and keeps nothing else from being done. `false` where
    /// something failed.
    async fn beat(&mut self) -> bool {
        let now = self.shared.clock.now();
        self.look_for_keys().await;
        if self.shared.watch.stands_still() {
            return self.picture().await.is_ok();
        }
        // Standing orders go by what was traded up to now; they come before the autopilot, whose orders are for the rest.
        let done = [
            ("clearing", clear(&self.shared, now).await),
            (
                "batteries",
                batteries::beat(&self.shared, &mut self.batteries, now).await,
            ),
            (
                "standing orders",
                standing::beat(&self.shared, &mut self.standing, now).await,
            ),
            ("orders", self.place_orders(now).await),
            // Before settlement, which asks whose session an interval was.
            ("charging", super::charging::beat(&self.shared, now).await),
            ("settlement", self.settle(now).await),
            ("requests", end_requests(&self.shared, now).await),
            ("holds", release_holds(&self.shared, now).await),
            ("the pages' picture", self.picture().await),
        ];
        let failed = done
            .into_iter()
            .filter_map(|(what, result)| Some((what, result.err()?)));
        failed.fold(true, |_, (what, error)| {
            tracing::error!("{what} failed, trying again: {error:#}");
            false
        })
    }

    async fn picture(&mut self) -> anyhow::Result<()> {
        if self.shown.is_none_or(|shown| shown.elapsed() >= SHOW_PAUSE) {
            let street = snapshot::gather(&self.shared, &mut self.known).await?;
            self.show.send_replace(Arc::new(street));
            self.shown = Some(Instant::now());
        }
        Ok(())
    }

    /// Settles what is due; an interval that cannot be settled holds up no other.
    async fn settle(&self, now: Timestamp) -> anyhow::Result<()> {
        for (interval, run) in settlement::service::runs_due(&self.shared.db, now).await? {
            if let Err(error) = self.settle_one(now, interval, run).await {
                tracing::error!(%interval, run = run.word(), "not settled, later again: {error:#}");
                let mut tx = self.shared.db.begin().await?;
                settlement::service::postpone(&mut tx, interval, run, now).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }

    async fn settle_one(&self, now: Timestamp, interval: Interval, run: Run) -> anyhow::Result<()> {
        let Shared { db, community, .. } = &*self.shared;
        let cleared = market_engine::service::clearing(db, interval).await?;
        let cleared = cleared.context("the interval was not cleared")?;
        let mut tx = db.begin().await?;
        let (clearing, trades) = (&cleared.clearing, &cleared.trades);
        let summary = settlement::service::run_interval(
            &mut tx, community, now, interval, run, clearing, trades,
        )
        .await?;
        if !summary.again {
            super::charging::carry(&mut tx, &self.shared, now, (interval, run)).await?;
        }
        witnesses::sign_heads(&mut tx, &self.shared, now).await?;
        tx.commit().await?;
        let inputs = summary.inputs.map(|digest| digest.to_string());
        let tariff = summary.tariff.as_deref().unwrap_or("flat");
        tracing::info!(
            %interval, run = run.word(), postings = summary.postings, tariff, inputs, "settled"
        );
        if matches!(summary.loss, LossCheck::Gain | LossCheck::TooMuch) {
            let (loss, lost) = (summary.loss.word(), summary.balance.lost);
            tracing::warn!(%interval, %lost, loss, "the feeder's meter does not agree with the homes' meters");
        }
        Ok(())
    }
}

/// A number that no order of this participant had, for one that the platform signs because an account asks for it. It is
/// never given twice, not even where its order was refused: two messages under one number would be evidence.
pub(crate) async fn account_sequence(
    shared: &Shared,
    participant: &ParticipantId,
    now: Timestamp,
) -> anyhow::Result<u64> {
    let seconds = u64::try_from(now.unix_s()).unwrap_or(0);
    let by_clock = ACCOUNT_SEQUENCES + seconds.saturating_mul(ACCOUNT_SEQUENCES_PER_S);
    let (db, below) = (&shared.db, STANDING_SEQUENCES);
    let stored = market_engine::service::next_sequence(db, participant, below).await?;
    let least = by_clock.max(stored);
    let given = &shared.account_sequence;
    let before = given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        Some(least.max(last.saturating_add(1)))
    });
    let before = before.unwrap_or_else(|last| last);
    Ok(least.max(before.saturating_add(1)))
}

/// Ends requests for tokens that nobody confirmed in time, and frees stake whose time has come.
async fn end_requests(shared: &Shared, now: Timestamp) -> anyhow::Result<()> {
    let at = Moment {
        people: Clock::system().now(),
        books: now,
    };
    if !tokens_due(&shared.db, at).await? {
        return Ok(());
    }
    let mut tx = shared.db.begin().await?;
    for request in expire_tokens(&mut tx, at).await? {
        let (kind, asked) = (request.asked.kind.word(), &request.asked);
        let (participant, reference) = (&asked.participant, &asked.reference);
        tracing::warn!(%participant, reference, kind, "nobody confirmed this request for tokens in time");
    }
    witnesses::sign_heads(&mut tx, shared, now).await?;
    tx.commit().await?;
    let mut tx = shared.db.begin().await?;
    release_unbonded(&mut tx, now).await?;
    Ok(tx.commit().await?)
}

/// Gives back what is held for intervals that ended and were passed over. There are none as long as every interval is
/// cleared; each clearing releases its own.
async fn release_holds(shared: &Shared, now: Timestamp) -> anyhow::Result<()> {
    if !settlement::service::has_uncleared_holds(&shared.db, now).await? {
        return Ok(());
    }
    let mut tx = shared.db.begin().await?;
    let released = settlement::service::release_uncleared(&mut tx, now).await?;
    tx.commit().await?;
    tracing::warn!(
        released,
        "holds of intervals that were never cleared are given back"
    );
    Ok(())
}

/// Clears what is due, and puts what it means for holds and logs into the same transaction.
pub(super) async fn clear(shared: &Shared, now: Timestamp) -> anyhow::Result<()> {
    if shared.watch.stands_still() {
        return Ok(());
    }
    let mut tx = shared.db.begin().await?;
    let mut fees = shared.site.zone_fees();
    if let Some(fees) = &mut fees {
        fees.promised = settlement::service::promised_fees(&mut tx).await?;
    }
    let (market, fees) = (&shared.market, fees.as_ref());
    let cleared = market_engine::service::clear_due_with_fees(&mut tx, market, fees, now).await?;
    if cleared.is_empty() {
        // Committed all the same: the very first call notes where the market begins.
        return Ok(tx.commit().await?);
    }
    for one in &cleared {
        contract(&mut tx, shared, now, one).await?;
        let (volume, trades) = (one.clearing.volume, one.clearing.trades);
        tracing::info!(interval = %one.clearing.interval, %volume, trades, "cleared");
    }
    witnesses::sign_heads(&mut tx, shared, now).await?;
    Ok(tx.commit().await?)
}

async fn contract(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
    cleared: &market_engine::service::Cleared,
) -> anyhow::Result<()> {
    let mut orders = Vec::with_capacity(cleared.orders.len());
    for one in &cleared.orders {
        let signed = market_engine::service::signed_order(&shared.db, one.id).await?;
        let signed =
            signed.with_context(|| format!("order {} is cleared but not stored", one.id))?;
        orders.push((one.order.clone(), one.id, signed));
    }
    let (clearing, trades) = (&cleared.clearing, &cleared.trades);
    settlement::service::contract(tx, &shared.community, now, clearing, trades, &orders).await?;
    Ok(())
}

/// When an interval's gate closes.
pub(super) fn gate_closes(shared: &Shared, interval: Interval) -> Timestamp {
    interval
        .start()
        .plus_s(-i64::from(shared.market.rules.gate_closure_s))
}

/// The interval whose gate closes next.
pub(crate) fn next_to_close(shared: &Shared, now: Timestamp) -> anyhow::Result<Interval> {
    let mut interval = Interval::containing(now, shared.market.rules.interval_length_s)?.next();
    while gate_closes(shared, interval) <= now {
        interval = interval.next();
    }
    Ok(interval)
}

#[cfg(test)]
mod autopilot_tests;
#[cfg(test)]
mod charging_tests;
#[cfg(test)]
mod tests;
