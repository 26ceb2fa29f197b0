//! A small street with real keys on a temporary database.

use std::collections::BTreeMap;

use domain::energy::Energy;
use domain::ids::{CommunityId, DeviceId, Digest32, GatewayId, OrderId, ParticipantId, PointId};
use domain::key_record::{Holder, KeyRecord, PointRecord, PointRole};
use domain::money::{Money, Price};
use domain::order::{Order, Side};
use domain::posting::{Asset, Chart, Run};
use domain::quality::Quality;
use domain::reading::{ClockStamp, ClockState, MeasurementClass, Obis, Reading, Register};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::terms::Terms;
use domain::time::{Interval, Timestamp};
use domain::trade::{Clearing, Trade};
use runtime::db::Db;
use runtime::testing::TempPostgres;
use settlement::deliver::LossBand;
use settlement::service::{
    Community, Holds, ReadingOutcome, RunSummary, accept_reading, balances, check_books_whole,
    contract, enrol, opening_deposit, run_interval,
};
use settlement::store::MIGRATIONS;
use settlement::tariff::{Tariff, Tariffs};

pub(crate) const START_S: i64 = 1_782_000_000;

/// What the last reading of a point left behind.
#[derive(Clone)]
struct Meter {
    import_wh: i64,
    export_wh: i64,
    sequence: u64,
    previous: Digest32,
}

pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) community: Community,
    pub(crate) gateway: GatewayId,
    pub(crate) gateway_key: SigningKey,
    meters: BTreeMap<String, Meter>,
    order_sequence: u64,
    _folder: Option<tempfile::TempDir>,
    _server: Option<TempPostgres>,
}

/// So many random cases, or many more in the long form of the tests.
pub(crate) fn cases(short: u32) -> u32 {
    match std::env::var_os("COMMONWATT_SLOW") {
        Some(_) => 20 * short,
        None => short,
    }
}

pub(crate) fn price(text: &str) -> Price {
    text.parse().unwrap()
}

pub(crate) fn who(name: &str) -> ParticipantId {
    ParticipantId::new(name).unwrap()
}

pub(crate) fn interval(n: i64) -> Interval {
    Interval::new(START_S + 900 * n, 900).unwrap()
}

pub(crate) fn order_key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&Digest32::of(name.as_bytes()).0)
}

/// What an auction decided, with the orders that it decided on.
#[derive(Clone)]
pub(crate) struct Outcome {
    pub(crate) clearing: Clearing,
    pub(crate) trades: Vec<Trade>,
    pub(crate) orders: Vec<(Order, OrderId, Vec<u8>)>,
}

impl World {
    pub(crate) async fn on_sqlite(homes: &[&str]) -> World {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(folder.path().join("books.db").to_str().unwrap())
            .await
            .unwrap();
        World::with(db, homes, Some(folder), None).await
    }

    /// The same at a place that another process may have worked on before.
    pub(crate) async fn at(path: &str, homes: &[&str]) -> World {
        World::with(Db::open(path).await.unwrap(), homes, None, None).await
    }

    /// The same with other rules than plain pooling at a flat tariff.
    pub(crate) async fn under(homes: &[&str], tariff: Tariffs, terms: Terms) -> World {
        let mut world = World::on_sqlite(homes).await;
        world.community.tariff = tariff;
        world.community.terms = terms;
        world
    }

    pub(crate) async fn on_postgres(homes: &[&str]) -> Option<World> {
        let server = runtime::testing::postgres()?;
        let db = Db::open(&server.url()).await.unwrap();
        Some(World::with(db, homes, None, Some(server)).await)
    }

    async fn with(
        db: Db,
        homes: &[&str],
        folder: Option<tempfile::TempDir>,
        server: Option<TempPostgres>,
    ) -> World {
        db.migrate(MIGRATIONS).await.unwrap();
        let tariff = Tariff::new(price("0.32"), price("0.08"), price("0.07")).unwrap();
        let community = Community {
            zone_fee_max: None,
            id: CommunityId::new("street").unwrap(),
            operator: SigningKey::from_bytes(&[1; 32]),
            interval_length_s: 900,
            tariff: tariff.into(),
            terms: Terms::default(),
            loss_band: LossBand::default(),
        };
        let mut world = World {
            db,
            community,
            gateway: GatewayId::new("gateway-1").unwrap(),
            gateway_key: SigningKey::from_bytes(&[2; 32]),
            meters: BTreeMap::new(),
            order_sequence: 0,
            _folder: folder,
            _server: server,
        };
        world.enrol_all(homes).await;
        world
    }

    async fn enrol_all(&mut self, homes: &[&str]) {
        let now = Timestamp::from_unix_s(START_S - 3600);
        let points = self.points(homes);
        let mut tx = self.db.begin().await.unwrap();
        for name in homes {
            let key = PublicKey::of(&order_key(name));
            let holder = Holder::Participant(who(name));
            let record = KeyRecord {
                key,
                holder,
                valid_from: now,
            };
            enrol(&mut tx, &self.community, now, record).await.unwrap();
        }
        let holder = Holder::Gateway {
            gateway: self.gateway.clone(),
            points,
        };
        let key = PublicKey::of(&self.gateway_key);
        enrol(
            &mut tx,
            &self.community,
            now,
            KeyRecord {
                key,
                holder,
                valid_from: now,
            },
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }

    /// The records of the feeder and these homes.
    pub(crate) fn points(&self, homes: &[&str]) -> Vec<PointRecord> {
        let homes = homes
            .iter()
            .map(|h| record(h, PointRole::Connection, Some(who(h))));
        std::iter::once(record("feeder", PointRole::Feeder, None))
            .chain(homes)
            .collect()
    }

    /// The gateway lost what it knew of a point.
    pub(crate) fn forget_meter(&mut self, point: &str) {
        self.meters.remove(point);
    }

    pub(crate) async fn deposit(&self, name: &str, amount: &str) {
        let amount: Money = amount.parse().unwrap();
        let mut tx = self.db.begin().await.unwrap();
        let now = Timestamp::from_unix_s(START_S - 1800);
        opening_deposit(&mut tx, now, &who(name), amount)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    pub(crate) fn order(&mut self, name: &str, side: Side, n: i64, wh: i64, limit: &str) -> Order {
        self.order_sequence += 1;
        Order {
            participant: who(name),
            point: PointId::new(name).unwrap(),
            side,
            interval: interval(n),
            energy: Energy::from_wh(wh),
            limit: price(limit),
            sequence: self.order_sequence,
            replaces: None,
            preference: domain::order::Preference::default(),
        }
    }

    pub(crate) async fn hold(&self, order: &Order) -> bool {
        let mut tx = self.db.begin().await.unwrap();
        let now = Timestamp::from_unix_s(START_S - 1000);
        let holds = Holds::of(&mut tx, &self.community, now, &[order], &[]).await;
        let mut holds = holds.unwrap();
        let held = holds.hold(order, None).unwrap();
        holds.write(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        held
    }

    pub(crate) fn signed(&self, order: &Order) -> (Order, OrderId, Vec<u8>) {
        let key = order_key(order.participant.as_str());
        let signed = Signed::sign(&key, &self.community.id, order);
        (order.clone(), order.id(), signed.as_bytes().to_vec())
    }

    /// The outcome of an auction at one price with these fills: bid, offer, energy.
    pub(crate) fn outcome(
        &self,
        n: i64,
        orders: &[Order],
        fills: &[(usize, usize, i64)],
        at: &str,
    ) -> Outcome {
        let trade = |(bid, offer, wh): &(usize, usize, i64)| {
            let (bid, offer) = (&orders[*bid], &orders[*offer]);
            Trade {
                id: Trade::id_of(interval(n), &Digest32::of(b"book"), bid.id(), offer.id()),
                interval: interval(n),
                bid: bid.id(),
                offer: offer.id(),
                buyer: bid.participant.clone(),
                seller: offer.participant.clone(),
                energy: Energy::from_wh(*wh),
                price: price(at),
                network_fee: None,
            }
        };
        let trades: Vec<Trade> = fills.iter().map(trade).collect();
        let clearing = Clearing {
            interval: interval(n),
            mechanism: "uniform-price".to_owned(),
            price_policy: "walras-mid".to_owned(),
            price: (!trades.is_empty()).then(|| price(at)),
            price_low: None,
            price_high: None,
            volume: Energy::from_wh(fills.iter().map(|(_, _, wh)| wh).sum()),
            orders: u32::try_from(orders.len()).unwrap(),
            trades: u32::try_from(trades.len()).unwrap(),
            book: Digest32::of(b"book"),
            public_book: None,
        };
        Outcome {
            clearing,
            trades,
            orders: orders.iter().map(|o| self.signed(o)).collect(),
        }
    }

    pub(crate) async fn contract(&self, outcome: &Outcome) {
        let mut tx = self.db.begin().await.unwrap();
        let now = outcome.clearing.interval.start().plus_s(-300);
        let Outcome {
            clearing,
            trades,
            orders,
        } = outcome;
        contract(&mut tx, &self.community, now, clearing, trades, orders)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    /// The point's next reading, signed, and the meter moved on: the interval's import and export.
    pub(crate) fn read(&mut self, point: &str, n: i64, import_wh: i64, export_wh: i64) -> Reading {
        let meter = self.meters.entry(point.to_owned()).or_insert(Meter {
            import_wh: 1000,
            export_wh: 2000,
            sequence: 1,
            previous: Digest32([0; 32]),
        });
        let register = |obis, start, passed| Register {
            obis,
            start: Energy::from_wh(start),
            end: Energy::from_wh(start + passed),
        };
        let reading = Reading {
            device: DeviceId::derive(&self.community.id, &self.gateway, point),
            point: PointId::new(point).unwrap(),
            sequence: meter.sequence,
            interval: interval(n),
            registers: vec![
                register(Obis::IMPORT, meter.import_wh, import_wh),
                register(Obis::EXPORT, meter.export_wh, export_wh),
            ],
            era: 0,
            quality: Quality::MEASURED,
            clock: ClockStamp {
                signed_at: interval(n).end(),
                state: ClockState::Synchronised,
                error_ms: 20,
            },
            meter_hash: [3; 8],
            class: MeasurementClass::MeterCounter,
            previous: meter.previous,
            profile: [4; 8],
        };
        *meter = Meter {
            import_wh: meter.import_wh + import_wh,
            export_wh: meter.export_wh + export_wh,
            sequence: meter.sequence + 1,
            previous: Digest32::of(&sign(&self.gateway_key, &self.community, &reading)),
        };
        reading
    }

    pub(crate) async fn accept(&self, reading: &Reading) -> ReadingOutcome {
        let bytes = sign(&self.gateway_key, &self.community, reading);
        self.accept_bytes(bytes, reading.interval.end().plus_s(5))
            .await
    }

    pub(crate) async fn accept_bytes(&self, bytes: Vec<u8>, now: Timestamp) -> ReadingOutcome {
        let mut tx = self.db.begin().await.unwrap();
        let outcome = accept_reading(&mut tx, &self.community, now, &self.gateway, bytes)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        outcome
    }

    pub(crate) async fn meter(&mut self, point: &str, n: i64, import_wh: i64, export_wh: i64) {
        let reading = self.read(point, n, import_wh, export_wh);
        let outcome = self.accept(&reading).await;
        assert!(
            matches!(outcome, ReadingOutcome::Accepted { .. }),
            "{outcome:?}"
        );
    }

    pub(crate) async fn run(&self, outcome: &Outcome, run: Run) -> RunSummary {
        let mut tx = self.db.begin().await.unwrap();
        let Outcome {
            clearing, trades, ..
        } = outcome;
        let now = settlement::run::due_at(run, clearing.interval);
        let interval = clearing.interval;
        let summary = run_interval(
            &mut tx,
            &self.community,
            now,
            interval,
            run,
            clearing,
            trades,
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        summary
    }

    pub(crate) async fn checkpoint(&self, now: Timestamp) {
        let mut tx = self.db.begin().await.unwrap();
        settlement::service::checkpoint(&mut tx, &self.community, now)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    /// The books hold, whole.
    pub(crate) async fn check(&self) {
        check_books_whole(&self.db, &self.community.operator)
            .await
            .unwrap();
    }

    /// The balance of an account in nano-tokens (or watt-hours).
    pub(crate) async fn balance(&self, asset: Asset, chart: Chart, owner: &str) -> i64 {
        let all = balances(&self.db).await.unwrap();
        all.into_iter()
            .find(|b| b.asset == asset && b.account.chart() == chart && b.account.owner() == owner)
            .map_or(0, |b| b.balance)
    }
}

pub(crate) fn sign(key: &SigningKey, community: &Community, reading: &Reading) -> Vec<u8> {
    Signed::sign(key, &community.id, reading)
        .as_bytes()
        .to_vec()
}

fn record(point: &str, role: PointRole, participant: Option<ParticipantId>) -> PointRecord {
    PointRecord {
        point: PointId::new(point).unwrap(),
        role,
        participant,
        rating_w: 40_000,
    }
}
