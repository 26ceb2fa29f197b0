//! The ledger's speed beside its limits, measured in the same run: a run's durable postings beside a bare insert of the
//! same rows in one commit as well (no balances, no checks, the same table, log and fsync), signed readings beside the
//! bare check of as many signatures on one thread and on all, a whole interval, one corrected meter, receipts, leaves.
//!
//! `cargo bench -p settlement --bench ledger [-- PARTICIPANTS]`; with `-- month` how long it takes to check a month's
//! books, with `-- readings` the readings alone. Wall time, medians where there are rounds; the disk counts.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench may fail, and prints ratios"
)]

use std::collections::BTreeSet;
use std::num::NonZero;
use std::pin::pin;
use std::time::Instant;

use domain::delivery::Delivery;
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
use futures_util::{StreamExt, stream};
use runtime::args;
use runtime::behind::Behind;
use runtime::db::{Args, Db};
use settlement::deliver::LossBand;
use settlement::service::{
    Arrived, Community, Holds, KnownKeys, ReadingOutcome, accept_reading, accept_readings,
    check_books, check_books_at_start, check_books_whole, check_signatures, checkpoint, contract,
    enrol, opening_deposit, post, receipt, run_interval,
};
use settlement::settle::{Inputs, Options, settle};
use settlement::store::MIGRATIONS;
use settlement::tariff::Tariff;

/// The one that the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTICIPANTS: usize = 10_000;
/// Rows of a bare statement; more of them gain nothing.
const BARE_ROWS: usize = 50;
const ROUNDS: usize = 5;
const READING_ROUNDS: i64 = 5;
/// Readings whose signatures are checked together, and most that are stored together: those of the platform.
const READINGS_CHECKED: usize = 128;
const READINGS_STORED_MAX: usize = 1024;
const POINTS_PER_GATEWAY: usize = 50;
const MONTH_HOMES: usize = 100;
const MONTH_INTERVALS: i64 = 31 * 96;
const LEAVES: u64 = 1_000_000;
/// What each even home buys from the next, in watt-hours.
const TRADED_WH: i64 = 500;
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

/// What a home's meter counts in an interval: import and export in watt-hours.
fn metered(number: usize) -> (i64, i64) {
    let wh = i64::try_from(400 + number % 200).unwrap();
    match number.is_multiple_of(2) {
        true => (wh, 0),
        false => (0, wh),
    }
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

fn delivery(number: usize, interval: Interval) -> Delivery {
    let (imported, exported) = metered(number);
    let traded = |is_mine: bool| Energy::from_wh(if is_mine { TRADED_WH } else { 0 });
    Delivery {
        interval,
        participant: home(number),
        point: PointId::new(home(number).as_str()).unwrap(),
        imported: Energy::from_wh(imported),
        exported: Energy::from_wh(exported),
        bought: traded(number.is_multiple_of(2)),
        sold: traded(!number.is_multiple_of(2)),
        quality: Quality::MEASURED,
        reading: None,
    }
}

/// What the provisional run of an interval posts: each even home buys from the next, and draws more or less than that.
fn settled_postings(interval: Interval, homes: usize) -> Vec<Posting> {
    let order = |n: usize| OrderId(timed_id(interval.start(), 1, "bench", &[&n.to_be_bytes()]));
    let trade = |buyer: usize| Trade {
        id: Trade::id_of(interval, &Digest32([0; 32]), order(buyer), order(buyer + 1)),
        interval,
        bid: order(buyer),
        offer: order(buyer + 1),
        buyer: home(buyer),
        seller: home(buyer + 1),
        energy: Energy::from_wh(TRADED_WH),
        price: price(150_000),
        network_fee: None,
    };
    let trades: Vec<Trade> = (0..homes).step_by(2).map(trade).collect();
    let deliveries: Vec<_> = (0..homes).map(|n| delivery(n, interval)).collect();
    let tariff = Tariff::new(price(320_000), price(80_000), price(70_000)).unwrap();
    let inputs = Inputs {
        interval,
        tariff: &tariff,
        clearing_price: Some(price(150_000)),
        trades: &trades,
        deliveries: &deliveries,
        feeder: None,
        options: Options::default(),
    };
    let settlement = settle(&inputs).unwrap();
    settlement.legs.postings(interval, Run::Provisional)
}

/// What the buyers' orders hold, for two intervals.
fn holds(homes: usize) -> Vec<Posting> {
    let hold = |n: usize| Posting {
        id: PostingId(timed_id(Timestamp::EPOCH, 1, "bench", &[&n.to_be_bytes()])),
        asset: Asset::Token,
        debit: Account::common(Chart::Bridge),
        credit: Account::of(Chart::Held, &home(n)),
        amount: 1_000_000_000,
        purpose: Purpose::Deposit,
        interval: None,
        run: None,
        reference: None,
    };
    (0..homes).step_by(2).map(hold).collect()
}

const COLUMNS: &str =
    "id, asset, debit_chart, debit_owner, credit_chart, credit_owner, amount, purpose,
    start_s, length_s, run, reference, at_ms";

/// A bare insert of so many rows: no checks, no balances.
fn bare_insert(rows: usize) -> &'static str {
    let row = format!("({})", ["?"; 13].join(", "));
    let values = vec![row; rows].join(", ");
    format!("INSERT INTO settle_postings ({COLUMNS}) VALUES {values}").leak()
}

fn bare_row(p: &Posting) -> Args {
    let code = |account: &Account| i64::from(account.chart().code());
    args![
        p.id.0,
        i64::from(p.asset.code()),
        code(&p.debit),
        p.debit.owner(),
        code(&p.credit),
        p.credit.owner(),
        p.amount,
        i64::from(p.purpose.code()),
        START_S,
        900_i64,
        0_i64,
        p.reference.map(|r| r.0.to_vec()),
        0_i64
    ]
}

/// Books in which the accounts stand that an interval moves, as after the interval before.
async fn books(folder: &std::path::Path, name: &str, before: &[Posting], homes: usize) -> Db {
    let db = open(folder, name).await;
    let mut tx = db.begin().await.unwrap();
    let now = interval().start();
    post(&mut tx, now, &holds(homes)).await.unwrap();
    post(&mut tx, now, before).await.unwrap();
    tx.commit().await.unwrap();
    db
}

/// Durable postings a second: with content check, balances and guards.
async fn posted(db: Db, all: &[Posting]) -> f64 {
    let from = Instant::now();
    let mut tx = db.begin().await.unwrap();
    post(&mut tx, interval().end(), all).await.unwrap();
    tx.commit().await.unwrap();
    per_second(all.len(), from)
}

/// The bare rows in one commit as well, so many in one statement.
async fn bare(db: Db, all: &[Posting], rows: usize) -> f64 {
    let (sql, single) = (bare_insert(rows), bare_insert(1));
    let from = Instant::now();
    let mut tx = db.begin().await.unwrap();
    let whole = all.len() - all.len() % rows;
    for some in all[..whole].chunks(rows) {
        let values = some.iter().flat_map(bare_row).collect();
        tx.execute(sql, values).await.unwrap();
    }
    for one in &all[whole..] {
        tx.execute(single, bare_row(one)).await.unwrap();
    }
    tx.commit().await.unwrap();
    per_second(all.len(), from)
}

/// A run's postings in one commit, as the platform books them. Each round measures all of them, so that what else the
/// machine does meets all.
async fn postings(folder: &std::path::Path, homes: usize) {
    let before = settled_postings(Interval::new(START_S - 900, 900).unwrap(), homes);
    let all = settled_postings(interval(), homes);
    let accounts: BTreeSet<_> = all
        .iter()
        .flat_map(|p| [&p.debit, &p.credit].map(|account| (p.asset.code(), account)))
        .collect();
    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 0..ROUNDS {
        let [own, one, many] = ["posted", "one", "many"].map(|name| format!("{name}-{round}.db"));
        rates[0].push(posted(books(folder, &own, &before, homes).await, &all).await);
        rates[1].push(bare(books(folder, &one, &before, homes).await, &all, 1).await);
        rates[2].push(bare(books(folder, &many, &before, homes).await, &all, BARE_ROWS).await);
    }
    let [posted, one, many] = rates.map(median);
    let (count, accounts) = (all.len(), accounts.len());
    println!("a run's {count} postings on {accounts} accounts {posted:>10.0} /s");
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

/// `verify_strict` and nothing else, of messages of the readings' length under as many keys, on so many threads.
fn bare_signatures(readings: &[(GatewayId, Vec<u8>)], threads: usize) -> f64 {
    use ed25519_dalek::Signer;
    let mut signed = Vec::with_capacity(readings.len());
    for (n, (_, bytes)) in readings.iter().enumerate() {
        let key = key("gateway", n / POINTS_PER_GATEWAY);
        signed.push((key.verifying_key(), bytes, key.sign(bytes)));
    }
    let from = Instant::now();
    std::thread::scope(|scope| {
        for some in signed.chunks(signed.len().div_ceil(threads)) {
            scope.spawn(move || {
                for (key, bytes, signature) in some {
                    std::hint::black_box(key.verify_strict(bytes, signature)).unwrap();
                }
            });
        }
    });
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
            opening_deposit(&mut tx, now, &home(buyer), tokens)
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
            energy: Energy::from_wh(TRADED_WH),
            limit: price(150_000),
            sequence: 1,
            replaces: None,
            preference: domain::order::Preference::default(),
        };
        let mut orders = Vec::with_capacity(self.homes);
        let mut tx = self.db.begin().await.unwrap();
        let now = interval().start().plus_s(-600);
        let placed: Vec<Order> = (0..self.homes).map(order).collect();
        let asked: Vec<&Order> = placed.iter().collect();
        let mut holds = Holds::of(&mut tx, &self.community, now, &asked, &[])
            .await
            .unwrap();
        for (number, order) in placed.iter().enumerate() {
            assert!(holds.hold(order, None).unwrap());
            let signed = Signed::sign(&key("home", number), &self.community.id, order);
            orders.push((order.clone(), order.id(), signed.as_bytes().to_vec()));
        }
        holds.write(&mut tx).await.unwrap();
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
            energy: Energy::from_wh(TRADED_WH),
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
            volume: Energy::from_wh(TRADED_WH * i64::try_from(trades.len()).unwrap()),
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
        let (import, export) = metered(number);
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

    /// Takes the readings of one interval after another in batches, as the platform does that has more to take: messages are
    /// read and their signatures checked while those before are stored. How many a second were stored of each interval.
    async fn take(&self, intervals: &[Vec<(GatewayId, Vec<u8>)>], late: usize) -> Vec<f64> {
        let (send, mut checked) =
            tokio::sync::mpsc::channel(READINGS_STORED_MAX / READINGS_CHECKED);
        let behind = Behind::start().unwrap();
        let threads = behind.threads();
        let at = (self.db.clone(), self.community.id.clone(), behind);
        let batches: Vec<_> = (0..)
            .zip(intervals)
            .flat_map(|(n, readings)| {
                let batches = readings[..late].chunks(READINGS_CHECKED);
                batches.map(move |batch| (n, batch.to_vec()))
            })
            .collect();
        let mut from = Instant::now();
        tokio::spawn(async move {
            let begun = stream::unfold(
                (batches.into_iter(), KnownKeys::default(), at),
                |(mut batches, mut known, at)| async move {
                    let (db, community, behind): &(Db, CommunityId, Behind) = &at;
                    let (n, batch) = batches.next()?;
                    let arrived = |(gateway, bytes)| Arrived::new(gateway, bytes);
                    let mut batch: Vec<Arrived> = batch.into_iter().map(arrived).collect();
                    let keys = known.of(db, &batch).await.unwrap();
                    let community = community.clone();
                    let check = behind.begin(move || {
                        check_signatures(&mut batch, &keys, &community);
                        batch
                    });
                    let check = async move { (n, check.await.unwrap()) };
                    Some((check, (batches, known, at)))
                },
            );
            let mut checked = pin!(begun.buffered(threads));
            while let Some(batch) = checked.next().await {
                send.send(batch).await.unwrap();
            }
        });
        let (mut rates, mut stored, mut next) = (Vec::new(), 0, checked.recv().await);
        while let Some((n, mut batch)) = next.take() {
            // With those of the same interval that wait too.
            while batch.len() < READINGS_STORED_MAX && next.is_none() {
                match checked.try_recv() {
                    Ok((same, more)) if same == n => batch.extend(more),
                    Ok(other) => next = Some(other),
                    Err(_) => break,
                }
            }
            self.store(n, &mut batch).await;
            stored += batch.len();
            if stored == late {
                rates.push(per_second(stored, from));
                (from, stored) = (Instant::now(), 0);
            }
            if next.is_none() {
                next = checked.recv().await;
            }
        }
        rates
    }

    async fn store(&self, n: i64, batch: &mut [Arrived]) {
        let now = Timestamp::from_unix_s(START_S + 900 * (n + 1) + 5);
        let mut tx = self.db.begin().await.unwrap();
        let outcomes = accept_readings(&mut tx, &self.community, now, batch);
        for outcome in outcomes.await.unwrap() {
            let clean =
                matches!(&outcome, ReadingOutcome::Accepted { flags, .. } if flags.is_empty());
            assert!(clean, "{outcome:?}");
        }
        checkpoint(&mut tx, &self.community, now).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Readings a second, beside the bare signature checks (on one thread, and on as many as there are cores) and
    /// beside reading the messages as well.
    async fn ingest(&self, readings: &[Vec<(GatewayId, Vec<u8>)>], late: usize) {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut rates: [Vec<f64>; 4] = Default::default();
        rates[0] = self.take(readings, late).await;
        for readings in readings {
            rates[1].push(bare_signatures(readings, 1));
            rates[2].push(bare_signatures(readings, cores));
            rates[3].push(self.verified(readings));
        }
        let [taken, bare, all, verified] = rates.map(median);
        println!("readings taken, {READINGS_STORED_MAX} a commit at most {taken:>10.0} /s");
        for (what, threads, rate) in [
            ("bare verify_strict", 1, bare),
            ("bare verify_strict", cores, all),
            ("messages verified ", 1, verified),
        ] {
            let ratio = taken / rate;
            println!("{what}, {threads:>2} threads        {rate:>10.0} /s    ratio {ratio:.2}");
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

    async fn check(&self, what: &str) {
        let from = Instant::now();
        check_books(&self.db).await.unwrap();
        let sums = from.elapsed().as_secs_f64();
        let operator = &self.community.operator;
        check_books_at_start(&self.db, operator).await.unwrap();
        let from = Instant::now();
        check_books_at_start(&self.db, operator).await.unwrap();
        let start = from.elapsed().as_secs_f64();
        let from = Instant::now();
        check_books_whole(&self.db, operator).await.unwrap();
        let whole = from.elapsed().as_secs_f64();
        println!(
            "{what} checked: sums and roots {sums:.2} s, at a later start {start:.2} s, whole {whole:.2} s"
        );
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
    street.check("its books").await;
}

/// A month of a hundred homes without trades, for the time that a check of its books takes.
async fn a_month(folder: &std::path::Path) {
    let street = Street::enrolled(folder, MONTH_HOMES).await;
    let mut previous = [Digest32([0; 32]); MONTH_HOMES];
    for n in 0..MONTH_INTERVALS {
        let at = Interval::new(START_S + 900 * n, 900).unwrap();
        let reading = |(number, previous): (usize, &mut Digest32)| {
            let (gateway, bytes) = street.reading(number, n, *previous);
            *previous = Digest32::of(&bytes);
            Arrived::new(gateway, bytes)
        };
        let mut arrived: Vec<Arrived> = previous.iter_mut().enumerate().map(reading).collect();
        let clearing = Clearing {
            interval: at,
            price: None,
            ..street.outcome(&[]).0
        };
        let (community, now) = (&street.community, at.end().plus_s(300));
        let mut tx = street.db.begin().await.unwrap();
        contract(&mut tx, community, at.start(), &clearing, &[], &[])
            .await
            .unwrap();
        accept_readings(&mut tx, community, now, &mut arrived)
            .await
            .unwrap();
        let run = Run::Provisional;
        run_interval(&mut tx, community, now, at, run, &clearing, &[])
            .await
            .unwrap();
        checkpoint(&mut tx, community, now).await.unwrap();
        tx.commit().await.unwrap();
    }
    street.check("a month of a hundred homes, its books").await;
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

fn asked_for(part: &str) -> bool {
    std::env::args().any(|word| word == part)
}

fn main() {
    let asked = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let homes = asked.unwrap_or(PARTICIPANTS);
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if asked_for("readings") {
        return runtime.block_on(async {
            let street = Street::enrolled(folder.path(), homes).await;
            let readings = street.readings();
            street.ingest(&readings, homes).await;
        });
    }
    if asked_for("month") {
        return runtime.block_on(a_month(folder.path()));
    }
    runtime.block_on(async {
        postings(folder.path(), homes).await;
        a_street(folder.path(), homes).await;
    });
    leaves();
}
