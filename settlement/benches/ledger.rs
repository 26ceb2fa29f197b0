//! The ledger's speed beside its limits, measured in the same run: durable postings beside a bare insert of the same
//! rows, signed readings beside their signature checks, a whole interval, one corrected meter, receipts, leaves.
//!
//! `cargo bench -p settlement --bench ledger [-- PARTICIPANTS]`. Wall time, medians where there are rounds; the disk counts.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench may fail, and prints ratios"
)]

use std::time::Instant;

use domain::energy::Energy;
use domain::ids::{
    CommunityId, DeviceId, Digest32, GatewayId, OrderId, ParticipantId, PointId, PostingId,
    timed_id,
};
use domain::key_record::{Holder, KeyRecord, PointRecord, PointRole};
use domain::log::tree::{Frontier, leaf_hash};
use domain::money::{Money, Price};
use domain::order::{Order, Side};
use domain::posting::{Account, Asset, Chart, Posting, Purpose, Run};
use domain::quality::Quality;
use domain::reading::{ClockStamp, ClockState, MeasurementClass, Obis, Reading, Register};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::terms::Terms;
use domain::time::{Interval, Timestamp};
use domain::trade::{Clearing, Trade};
use runtime::args;
use runtime::db::{Args, Db};
use settlement::deliver::LossBand;
use settlement::service::{
    Arrived, Community, ReadingOutcome, accept_reading, accept_readings, check_signatures,
    checkpoint, claimed_keys, contract, deposit, enrol, hold, post, receipt, run_interval,
};
use settlement::store::MIGRATIONS;
use settlement::tariff::Tariff;

const PARTICIPANTS: usize = 10_000;
const POSTINGS: usize = 40_000;
const BATCH: usize = 1_000;
/// Rows of a bare statement; more of them gain nothing. A divisor of the batch.
const BARE_ROWS: usize = 50;
const ROUNDS: usize = 5;
const READING_ROUNDS: i64 = 3;
const READINGS_BATCH: usize = 256;
const POINTS_PER_GATEWAY: usize = 50;
const LEAVES: u64 = 1_000_000;
const START_S: i64 = 1_782_000_000;

fn price(micro: i64) -> Price {
    Price::from_micro_per_kwh(micro)
}

fn interval() -> Interval {
    Interval::new(START_S, 900).unwrap()
}

fn home(number: usize) -> ParticipantId {
    ParticipantId::new(format!("home-{number:05}")).unwrap()
}

fn key(word: &str, number: usize) -> SigningKey {
    SigningKey::from_bytes(&Digest32::of(format!("{word} {number}").as_bytes()).0)
}

fn community() -> Community {
    Community {
        id: CommunityId::new("street").unwrap(),
        operator: key("operator", 0),
        interval_length_s: 900,
        tariff: Tariff::new(price(320_000), price(80_000), price(70_000))
            .unwrap()
            .into(),
        terms: Terms::default(),
        loss_band: LossBand::default(),
        zone_fee_max: None,
    }
}

fn per_second(count: usize, from: Instant) -> f64 {
    count as f64 / from.elapsed().as_secs_f64()
}

async fn open(folder: &std::path::Path, name: &str) -> Db {
    let db = Db::open(folder.join(name).to_str().unwrap()).await.unwrap();
    db.migrate(MIGRATIONS).await.unwrap();
    db
}

fn some_postings() -> Vec<Posting> {
    let posting = |n: usize| {
        let at = interval().start().plus_ms(i64::try_from(n).unwrap());
        Posting {
            id: PostingId(timed_id(at, 1, "bench", &[&n.to_be_bytes()])),
            asset: Asset::Token,
            debit: Account::common(Chart::Bridge),
            credit: Account::of(Chart::Available, &home(n % 2_000)),
            amount: 1_000 + i64::try_from(n).unwrap(),
            purpose: Purpose::Trade,
            interval: Some(interval()),
            run: Some(Run::Provisional),
            reference: None,
        }
    };
    (0..POSTINGS).map(posting).collect()
}

const COLUMNS: &str =
    "id, asset, debit_chart, debit_owner, credit_chart, credit_owner, amount, purpose,
    start_s, length_s, run, at_ms";

/// A bare insert of so many rows: no checks, no balances.
fn bare_insert(rows: usize) -> &'static str {
    let row = format!("({})", ["?"; 12].join(", "));
    let values = vec![row; rows].join(", ");
    format!("INSERT INTO settle_postings ({COLUMNS}) VALUES {values}").leak()
}

fn bare_row(p: &Posting) -> Args {
    args![
        p.id.0,
        1_i64,
        600_i64,
        p.debit.owner(),
        100_i64,
        p.credit.owner(),
        p.amount,
        4_i64,
        START_S,
        900_i64,
        0_i64,
        0_i64
    ]
}

/// Durable postings a second: with content check, balances and guards.
async fn posted(db: Db, all: &[Posting]) -> f64 {
    let from = Instant::now();
    for batch in all.chunks(BATCH) {
        let mut tx = db.begin().await.unwrap();
        post(&mut tx, interval().end(), batch).await.unwrap();
        tx.commit().await.unwrap();
    }
    per_second(all.len(), from)
}

/// The bare rows in batches as large, so many in one statement.
async fn bare(db: Db, all: &[Posting], rows: usize) -> f64 {
    let sql = bare_insert(rows);
    let from = Instant::now();
    for batch in all.chunks(BATCH) {
        let mut tx = db.begin().await.unwrap();
        for some in batch.chunks(rows) {
            let values = some.iter().flat_map(bare_row).collect();
            tx.execute(sql, values).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
    per_second(all.len(), from)
}

/// Each round measures all of them, so that what else the machine does meets all.
async fn postings(folder: &std::path::Path) {
    let all = some_postings();
    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 0..ROUNDS {
        let [own, one, many] = ["posted", "one", "many"].map(|name| format!("{name}-{round}.db"));
        rates[0].push(posted(open(folder, &own).await, &all).await);
        rates[1].push(bare(open(folder, &one).await, &all, 1).await);
        rates[2].push(bare(open(folder, &many).await, &all, BARE_ROWS).await);
    }
    let [posted, one, many] = rates.map(median);
    println!("postings, durable, {BATCH} a commit     {posted:>10.0} /s");
    for (bare, rows) in [(one, 1), (many, BARE_ROWS)] {
        println!(
            "bare insert, {rows:>2} rows a statement      {bare:>10.0} /s    ratio {:.2}",
            posted / bare
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `verify_strict` and nothing else, of messages of the readings' length under as many keys.
fn bare_signatures(readings: &[(GatewayId, Vec<u8>)]) -> f64 {
    use ed25519_dalek::Signer;
    let keys: Vec<SigningKey> = (0..readings.len().div_ceil(POINTS_PER_GATEWAY))
        .map(|gateway| key("gateway", gateway))
        .collect();
    let sign =
        |(n, (_, bytes)): (usize, &(GatewayId, Vec<u8>))| keys[n / POINTS_PER_GATEWAY].sign(bytes);
    let signatures: Vec<_> = readings.iter().enumerate().map(sign).collect();
    let public: Vec<_> = keys.iter().map(SigningKey::verifying_key).collect();
    let from = Instant::now();
    for (n, ((_, bytes), signature)) in readings.iter().zip(&signatures).enumerate() {
        let key = public[n / POINTS_PER_GATEWAY];
        std::hint::black_box(key.verify_strict(bytes, signature)).unwrap();
    }
    per_second(readings.len(), from)
}

struct Street {
    db: Db,
    community: Community,
    homes: usize,
}

impl Street {
    /// Keys, points and tokens of all homes.
    async fn enrolled(folder: &std::path::Path, homes: usize) -> Street {
        let (db, community) = (open(folder, "street.db").await, community());
        let now = Timestamp::from_unix_s(START_S - 7200);
        let mut tx = db.begin().await.unwrap();
        for number in 0..homes {
            let record = KeyRecord {
                key: PublicKey::of(&key("home", number)),
                holder: Holder::Participant(home(number)),
                valid_from: now,
            };
            enrol(&mut tx, &community, now, record).await.unwrap();
        }
        for gateway in 0..homes.div_ceil(POINTS_PER_GATEWAY) {
            let own = gateway * POINTS_PER_GATEWAY..homes.min((gateway + 1) * POINTS_PER_GATEWAY);
            let point = |number: usize| PointRecord {
                point: PointId::new(home(number).as_str()).unwrap(),
                role: PointRole::Connection,
                participant: Some(home(number)),
                rating_w: 40_000,
            };
            let record = KeyRecord {
                key: PublicKey::of(&key("gateway", gateway)),
                holder: Holder::Gateway {
                    gateway: GatewayId::new(format!("gateway-{gateway}")).unwrap(),
                    points: own.map(point).collect(),
                },
                valid_from: now,
            };
            enrol(&mut tx, &community, now, record).await.unwrap();
        }
        for buyer in (0..homes).step_by(2) {
            let tokens = Money::from_nano(10_000_000_000);
            deposit(&mut tx, now, &home(buyer), tokens, "bench")
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        Street {
            db,
            community,
            homes,
        }
    }

    /// Home n, if even, buys from home n + 1.
    async fn ordered(&self) -> Vec<(Order, OrderId, Vec<u8>)> {
        let order = |number: usize| Order {
            participant: home(number),
            point: PointId::new(home(number).as_str()).unwrap(),
            side: if number.is_multiple_of(2) {
                Side::Bid
            } else {
                Side::Offer
            },
            interval: interval(),
            energy: Energy::from_wh(500),
            limit: price(150_000),
            sequence: 1,
            replaces: None,
            preference: domain::order::Preference::default(),
        };
        let mut orders = Vec::with_capacity(self.homes);
        let mut tx = self.db.begin().await.unwrap();
        let now = interval().start().plus_s(-600);
        for number in 0..self.homes {
            let order = order(number);
            assert!(hold(&mut tx, &self.community, now, &order).await.unwrap());
            let signed = Signed::sign(&key("home", number), &self.community.id, &order);
            orders.push((order.clone(), order.id(), signed.as_bytes().to_vec()));
        }
        tx.commit().await.unwrap();
        orders
    }

    fn outcome(&self, orders: &[(Order, OrderId, Vec<u8>)]) -> (Clearing, Vec<Trade>) {
        let book = Digest32::of(b"book");
        let trade = |pair: &[(Order, OrderId, Vec<u8>)]| Trade {
            id: Trade::id_of(interval(), &book, pair[0].1, pair[1].1),
            interval: interval(),
            bid: pair[0].1,
            offer: pair[1].1,
            buyer: pair[0].0.participant.clone(),
            seller: pair[1].0.participant.clone(),
            energy: Energy::from_wh(500),
            price: price(150_000),
            network_fee: None,
        };
        let trades: Vec<Trade> = orders.chunks_exact(2).map(trade).collect();
        let clearing = Clearing {
            interval: interval(),
            mechanism: "uniform-price".to_owned(),
            price_policy: "walras-mid".to_owned(),
            price: Some(price(150_000)),
            price_low: None,
            price_high: None,
            volume: Energy::from_wh(500 * i64::try_from(trades.len()).unwrap()),
            orders: u32::try_from(orders.len()).unwrap(),
            trades: u32::try_from(trades.len()).unwrap(),
            book,
            public_book: None,
        };
        (clearing, trades)
    }

    /// The n-th reading of a home, and its signed bytes' digest for the next.
    fn reading(&self, number: usize, n: i64, previous: Digest32) -> (GatewayId, Vec<u8>) {
        let gateway = number / POINTS_PER_GATEWAY;
        let id = GatewayId::new(format!("gateway-{gateway}")).unwrap();
        let name = home(number);
        let wh = i64::try_from(400 + number % 200).unwrap();
        let (import, export) = if number.is_multiple_of(2) {
            (wh, 0)
        } else {
            (0, wh)
        };
        let register = |obis, passed| Register {
            obis,
            start: Energy::from_wh(1000 + n * passed),
            end: Energy::from_wh(1000 + (n + 1) * passed),
        };
        let interval = Interval::new(START_S + 900 * n, 900).unwrap();
        let reading = Reading {
            device: DeviceId::derive(&self.community.id, &id, name.as_str()),
            point: PointId::new(name.as_str()).unwrap(),
            sequence: u64::try_from(n + 1).unwrap(),
            interval,
            registers: vec![
                register(Obis::IMPORT, import),
                register(Obis::EXPORT, export),
            ],
            era: 0,
            quality: Quality::MEASURED,
            clock: ClockStamp {
                signed_at: interval.end(),
                state: ClockState::Synchronised,
                error_ms: 20,
            },
            meter_hash: [3; 8],
            class: MeasurementClass::MeterCounter,
            previous,
            profile: [4; 8],
        };
        let signed = Signed::sign(&key("gateway", gateway), &self.community.id, &reading);
        (id, signed.as_bytes().to_vec())
    }

    /// All homes' readings of each interval.
    fn readings(&self) -> Vec<Vec<(GatewayId, Vec<u8>)>> {
        let mut previous = vec![Digest32([0; 32]); self.homes];
        let of_interval = |n| {
            let reading = |(number, previous): (usize, &mut Digest32)| {
                let reading = self.reading(number, n, *previous);
                *previous = Digest32::of(&reading.1);
                reading
            };
            previous.iter_mut().enumerate().map(reading).collect()
        };
        (0..READING_ROUNDS).map(of_interval).collect()
    }

    /// Takes readings in batches as the platform does: signatures are checked while those before are stored.
    async fn take(&self, readings: &[(GatewayId, Vec<u8>)], now: Timestamp) -> f64 {
        let from = Instant::now();
        let (send, mut checked) = tokio::sync::mpsc::channel(2);
        let (db, community) = (self.db.clone(), self.community.id.clone());
        let arrived =
            |(gateway, bytes): &(GatewayId, Vec<u8>)| Arrived::new(gateway.clone(), bytes.clone());
        let batches: Vec<Vec<Arrived>> = readings
            .chunks(READINGS_BATCH)
            .map(|batch| batch.iter().map(arrived).collect())
            .collect();
        tokio::spawn(async move {
            for mut batch in batches {
                let keys = claimed_keys(&db, &batch).await.unwrap();
                let community = community.clone();
                let check = move || {
                    check_signatures(&mut batch, &keys, &community);
                    batch
                };
                let batch = tokio::task::spawn_blocking(check).await.unwrap();
                send.send(batch).await.unwrap();
            }
        });
        while let Some(mut batch) = checked.recv().await {
            let mut tx = self.db.begin().await.unwrap();
            let outcomes = accept_readings(&mut tx, &self.community, now, &mut batch);
            for outcome in outcomes.await.unwrap() {
                let clean =
                    matches!(&outcome, ReadingOutcome::Accepted { flags, .. } if flags.is_empty());
                assert!(clean, "{outcome:?}");
            }
            checkpoint(&mut tx, &self.community, now).await.unwrap();
            tx.commit().await.unwrap();
        }
        per_second(readings.len(), from)
    }

    /// Readings a second, beside the bare signature checks and beside reading the messages as well.
    async fn ingest(&self, readings: &[Vec<(GatewayId, Vec<u8>)>], late: usize) {
        let mut rates: [Vec<f64>; 3] = Default::default();
        for (n, readings) in (0..).zip(readings) {
            let now = Timestamp::from_unix_s(START_S + 900 * (n + 1) + 5);
            rates[0].push(self.take(&readings[..late], now).await);
            rates[1].push(bare_signatures(readings));
            rates[2].push(self.verified(readings));
        }
        let [taken, bare, verified] = rates.map(median);
        println!("readings taken, {READINGS_BATCH} a commit         {taken:>10.0} /s");
        for (what, rate) in [
            ("bare verify_strict", bare),
            ("messages verified ", verified),
        ] {
            let ratio = taken / rate;
            println!("{what}, one thread        {rate:>10.0} /s    ratio {ratio:.2}");
        }
    }

    fn verified(&self, readings: &[(GatewayId, Vec<u8>)]) -> f64 {
        let keys: Vec<PublicKey> = (0..readings.len().div_ceil(POINTS_PER_GATEWAY))
            .map(|gateway| PublicKey::of(&key("gateway", gateway)))
            .collect();
        let from = Instant::now();
        for (number, (_, bytes)) in readings.iter().enumerate() {
            let key = keys[number / POINTS_PER_GATEWAY];
            let signed = Signed::<Reading>::from_bytes(bytes.clone());
            std::hint::black_box(signed.verify(key, &self.community.id).unwrap());
        }
        per_second(readings.len(), from)
    }

    async fn run(&self, run: Run, clearing: &Clearing, trades: &[Trade]) -> u64 {
        let now = settlement::run::due_at(run, interval());
        let mut tx = self.db.begin().await.unwrap();
        let community = &self.community;
        let summary = run_interval(&mut tx, community, now, interval(), run, clearing, trades);
        let postings = summary.await.unwrap().postings;
        checkpoint(&mut tx, community, now).await.unwrap();
        tx.commit().await.unwrap();
        postings
    }
}

async fn a_street(folder: &std::path::Path, homes: usize) {
    let street = Street::enrolled(folder, homes).await;
    let orders = street.ordered().await;
    let (clearing, trades) = street.outcome(&orders);
    let readings = street.readings();
    let late = homes - 1;
    street.ingest(&readings, late).await;
    let late = readings[0][late].clone();
    let from = Instant::now();
    let mut tx = street.db.begin().await.unwrap();
    let now = interval().start().plus_s(-300);
    contract(&mut tx, &street.community, now, &clearing, &trades, &orders)
        .await
        .unwrap();
    checkpoint(&mut tx, &street.community, now).await.unwrap();
    tx.commit().await.unwrap();
    let contracted = from.elapsed().as_secs_f64();
    let from = Instant::now();
    let postings = street.run(Run::Provisional, &clearing, &trades).await;
    let settled = from.elapsed().as_secs_f64();
    let all = contracted + settled;
    println!(
        "interval of {homes} homes, {postings} postings: contracted {contracted:.2} s, settled {settled:.2} s, in all {all:.2} s"
    );
    let mut tx = street.db.begin().await.unwrap();
    let (gateway, bytes) = late;
    let at = interval().end().plus_s(600);
    accept_reading(&mut tx, &street.community, at, &gateway, bytes)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let from = Instant::now();
    let changed = street.run(Run::Initial, &clearing, &trades).await;
    let again = from.elapsed().as_secs_f64();
    let share = 100.0 * again / settled;
    println!("one late meter: {changed} postings, {again:.3} s, {share:.1} % of the run's time");
    let (db, community) = (&street.db, &street.community);
    let mine = receipt(db, community, trades[0].id, &home(0))
        .await
        .unwrap()
        .unwrap();
    let text = settlement::prove::to_text(&mine).unwrap();
    let mut times: Vec<f64> = (0..101)
        .map(|_| {
            let from = Instant::now();
            assert!(settlement::prove::verify(&text, None).holds());
            from.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "a receipt verified                    {:>10.3} ms",
        times[50]
    );
}

fn leaves() {
    let from = Instant::now();
    let mut frontier = Frontier::default();
    for n in 0..LEAVES {
        let mut leaf = [0; 42];
        leaf[..8].copy_from_slice(&n.to_be_bytes());
        std::hint::black_box(frontier.append(leaf_hash(&leaf)));
    }
    let root = frontier.root();
    let signature =
        ed25519_dalek::Signer::sign(&ed25519_dalek::SigningKey::from_bytes(&[1; 32]), &root.0);
    std::hint::black_box(signature);
    println!(
        "{LEAVES} leaves to a signed root, in memory {:>6.2} s",
        from.elapsed().as_secs_f64()
    );
}

fn main() {
    let asked = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let homes = asked.unwrap_or(PARTICIPANTS);
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        postings(folder.path()).await;
        a_street(folder.path(), homes).await;
    });
    leaves();
}
