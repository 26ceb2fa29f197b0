//! Readings signed, stored and delivered per second, beside bare signing in the same run.
//!
//! `cargo bench -p meter-gateway --bench delivery` prints the medians of several rounds. Storing is
//! durable: one sync of the disk for a batch, as many readings as devices report together.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench may fail, and prints ratios"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use domain::acceptance::Acceptance;
use domain::energy::Energy;
use domain::ids::{CommunityId, DeviceId, GatewayId, PointId};
use domain::quality::Quality;
use domain::reading::{ClockStamp, ClockState, MeasurementClass, Obis, Reading, Register};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::{Interval, Timestamp};
use ed25519_dalek::Signer as _;
use meter_gateway::measure::Measured;
use meter_gateway::sign::Signer;
use meter_gateway::spool::{IN_FLIGHT_MAX, NewReading, PointState, Spool};
use runtime::broker::{Access, AccessList, Broker, Limits};
use runtime::mqtt::{MqttEvent, MqttHandle, MqttLink, MqttOptions, QoS};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Readings of one round.
const READINGS: u64 = 2048;
/// Readings stored with one sync.
const BATCH: usize = 64;
const ROUNDS: usize = 5;
const READING_TOPIC: &str = "cw/v1/c/gw/reading";
const RECEIPT_TOPIC: &str = "cw/v1/c/gw/receipt";

fn signer() -> Signer {
    Signer {
        key: SigningKey::from_bytes(&[7; 32]),
        community: CommunityId::new("c").unwrap(),
        device: DeviceId([1; 16]),
        point: PointId::new("home-1").unwrap(),
        profile: [2; 8],
    }
}

fn measured(n: u64) -> Measured {
    let n = i64::try_from(n).unwrap();
    let register = |obis| Register {
        obis,
        start: Energy::from_wh(1_000_000 + n),
        end: Energy::from_wh(1_000_001 + n),
    };
    Measured {
        // Of the last hour, so that none is history.
        interval: Interval::new(1_782_000_000 + n, 1).unwrap(),
        registers: vec![register(Obis::IMPORT), register(Obis::EXPORT)],
        era: 0,
        quality: Quality::MEASURED,
        meter_hash: [3; 8],
        class: MeasurementClass::MeterCounter,
    }
}

fn signed(signer: &Signer, state: &mut PointState, n: u64) -> NewReading {
    let (measured, signed_at) = (measured(n), Timestamp::from_unix_s(1_782_000_900));
    let clock = ClockStamp {
        signed_at,
        state: ClockState::Informative,
        error_ms: 1000,
    };
    let interval = measured.interval;
    let (sequence, signed) = signer.sign(&mut state.chain, measured, clock);
    NewReading {
        sequence,
        interval,
        signed,
    }
}

/// Readings per second of one round.
fn rate(from: Instant) -> f64 {
    READINGS as f64 / from.elapsed().as_secs_f64()
}

fn bare_signing(signer: &Signer) -> f64 {
    let message = [9; 200];
    let from = Instant::now();
    for _ in 0..READINGS {
        std::hint::black_box(signer.key.sign(std::hint::black_box(&message)));
    }
    rate(from)
}

fn signing(signer: &Signer) -> f64 {
    let mut state = PointState::default();
    let from = Instant::now();
    for n in 0..READINGS {
        std::hint::black_box(signed(signer, &mut state, n));
    }
    rate(from)
}

async fn storing(signer: &Signer, batch: usize) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 100_000).await.unwrap();
    let mut state = PointState::default();
    let readings: Vec<_> = (0..READINGS)
        .map(|n| signed(signer, &mut state, n))
        .collect();
    let from = Instant::now();
    for part in readings.chunks(batch) {
        spool.store(&signer.point, &state, part).await.unwrap();
    }
    let rate = rate(from);
    spool.close().await;
    rate
}

/// Signs a word for every batch of readings that has come, as the platform does.
async fn platform(
    handle: MqttHandle,
    mut events: mpsc::Receiver<MqttEvent>,
    gateway_key: PublicKey,
    operator: SigningKey,
) {
    let community = CommunityId::new("c").unwrap();
    let mut in_hand = Vec::new();
    let (mut all_up_to, mut above) = (0, BTreeSet::new());
    while events.recv_many(&mut in_hand, BATCH).await > 0 {
        let mut point = None;
        for event in in_hand.drain(..) {
            let MqttEvent::Message { payload, .. } = event else {
                continue;
            };
            let reading: Signed<Reading> = Signed::from_bytes(payload);
            let reading = reading.verify(gateway_key, &community).unwrap();
            above.insert(reading.message().sequence);
            point = Some(reading.message().point.clone());
        }
        while above.remove(&(all_up_to + 1)) {
            all_up_to += 1;
        }
        let Some(point) = point else { continue };
        let (mut missing, mut next) = (Vec::new(), all_up_to + 1);
        for sequence in &above {
            if next < *sequence {
                missing.push((next, sequence - 1));
            }
            next = sequence + 1;
        }
        let word = Acceptance {
            gateway: GatewayId::new("gw").unwrap(),
            point,
            accepted_up_to: Some(next - 1),
            missing,
            rejected: vec![],
            issued_at: Timestamp::EPOCH,
            ledger: None,
        };
        let word = Signed::sign(&operator, &community, &word);
        let sent = handle.publish(RECEIPT_TOPIC, word.as_bytes(), QoS::AtLeastOnce, false);
        sent.unwrap();
    }
}

fn link(
    port: u16,
    name: &str,
    filter: &str,
    stop: &CancellationToken,
) -> (MqttHandle, mpsc::Receiver<MqttEvent>) {
    let options = MqttOptions {
        host: "127.0.0.1".into(),
        port,
        client_id: name.into(),
        user: name.into(),
        password: name.into(),
        tls: None,
        subscriptions: vec![(filter.into(), QoS::AtLeastOnce)],
        last_will: None,
        keep_alive_s: 30,
        max_packet_bytes: 65_536,
    };
    MqttLink::start(options, stop.clone())
}

async fn connected(events: &mut mpsc::Receiver<MqttEvent>) {
    while events.recv().await != Some(MqttEvent::Connected) {}
}

/// From the measured interval to the platform's word applied to the outbox.
async fn end_to_end(
    signer: &Signer,
    spool: &Spool,
    gateway: &MqttHandle,
    heard: &mut mpsc::Receiver<MqttEvent>,
    operator: PublicKey,
    first: u64,
    state: &mut PointState,
) -> f64 {
    let (from, mut made) = (Instant::now(), first);
    let until = first + READINGS;
    let (mut ticket, mut now_ms) = (0, 0);
    loop {
        if made < until && spool.counts().await.unwrap().0 < i64::try_from(IN_FLIGHT_MAX).unwrap() {
            let last = until.min(made + u64::try_from(BATCH).unwrap());
            let batch: Vec<_> = (made..last).map(|n| signed(signer, state, n)).collect();
            spool.store(&signer.point, state, &batch).await.unwrap();
            made = last;
        }
        now_ms += 1;
        let due = spool.due(now_ms, usize::MAX).await.unwrap();
        for one in &due {
            ticket += 1;
            gateway
                .publish_tracked(READING_TOPIC, one.message.as_slice(), ticket)
                .unwrap();
        }
        spool.sent(&due, now_ms);
        if made == until && spool.counts().await.unwrap().0 == 0 {
            return rate(from);
        }
        let mut words = Vec::new();
        let mut next = heard.recv().await;
        while let Some(event) = next {
            if let MqttEvent::Message { payload, .. } = event {
                let word: Signed<Acceptance> = Signed::from_bytes(payload);
                words.push(word.verify(operator, &signer.community).unwrap());
            }
            next = heard.try_recv().ok();
        }
        if !words.is_empty() {
            spool.apply(&words, Timestamp::EPOCH, now_ms).await.unwrap();
        }
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn delivered(signer: &Signer) -> f64 {
    let users = Arc::new(AccessList::new());
    for name in ["gw", "platform"] {
        let every = vec!["#".to_owned()];
        let access = Access {
            read: every.clone(),
            write: every,
        };
        users.add(name, name.as_bytes(), access).unwrap();
    }
    let broker = Broker::bind(([127, 0, 0, 1], 0).into(), users, Limits::default())
        .await
        .unwrap();
    let (port, stop) = (broker.local_addr().port(), CancellationToken::new());
    tokio::spawn(broker.run(stop.clone()));
    let operator = SigningKey::from_bytes(&[8; 32]);
    let (said, mut events) = link(port, "platform", READING_TOPIC, &stop);
    connected(&mut events).await;
    let gateway_key = PublicKey::of(&signer.key);
    tokio::spawn(platform(said, events, gateway_key, operator.clone()));
    let (gateway, mut heard) = link(port, "gw", RECEIPT_TOPIC, &stop);
    connected(&mut heard).await;
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 100_000).await.unwrap();
    let (mut state, mut rates) = (PointState::default(), Vec::new());
    for round in 0..ROUNDS {
        let first = u64::try_from(round).unwrap() * READINGS;
        let operator = PublicKey::of(&operator);
        rates.push(
            end_to_end(
                signer, &spool, &gateway, &mut heard, operator, first, &mut state,
            )
            .await,
        );
    }
    stop.cancel();
    spool.close().await;
    median(rates)
}

#[tokio::main]
async fn main() {
    let signer = signer();
    let rounds = || 0..ROUNDS;
    let bare = median(rounds().map(|_| bare_signing(&signer)).collect());
    let sign = median(rounds().map(|_| signing(&signer)).collect());
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in rounds() {
        one.push(storing(&signer, 1).await);
        many.push(storing(&signer, BATCH).await);
    }
    let whole = delivered(&signer).await;
    let line = |what: &str, rate: f64| {
        println!(
            "{what:<58} {rate:>9.0} /s   {:>6.3} of bare signing",
            rate / bare
        );
    };
    line("bare Ed25519 signing of 200 bytes", bare);
    line("readings built, chained and signed", sign);
    line("readings stored durably, one at a time", median(one));
    line(
        &format!("readings stored durably, {BATCH} at a time"),
        median(many),
    );
    line(
        "signed, stored, published, verified, receipt applied",
        whole,
    );
}
