//! Standing orders at work on the books: once for each interval, by what came of the interval before.

use std::path::Path;

use domain::energy::Energy;
use domain::order::{Order, Side};
use domain::signed::{PublicKey, SigningKey};
use domain::standing_order::{Battery, Deadline, StandingCancel};
use market_engine::standing::Why;
use runtime::args;
use runtime::clock::Clock;
use runtime::db::Db;

use super::*;
use crate::platform::{Platform, core};
use crate::site::{DataDir, Site, public_key_text};

const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);

struct Bench {
    platform: Platform,
    asked: Asked,
    /// The interval whose gate closes first.
    open: Interval,
    _dir: tempfile::TempDir,
}

fn site() -> Site {
    let mut text = "community = \"lane\"\n\
         [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n"
        .to_owned();
    for n in 1..=2_u8 {
        let key = public_key_text(PublicKey::of(&SigningKey::from_bytes(&[n; 32])));
        text += &format!(
            "[[participants]]\nid = \"home-{n}\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"1000\"\n\
             [[gateways]]\nid = \"gw-{n}\"\npublic_key = \"{key}\"\npassword_sha256 = \"{}\"\npoints = [\
             {{ id = \"home-{n}.meter\", role = \"connection\", participant = \"home-{n}\", rating_w = 10000 }}, \
             {{ id = \"home-{n}.charger\", role = \"submeter\", participant = \"home-{n}\", rating_w = 10000 }}]\n",
            "0".repeat(64)
        );
    }
    Site::from_toml(&text, Path::new("site.toml")).unwrap()
}

fn milli(price: i64) -> Price {
    Price::from_micro_per_kwh(price * 1_000)
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, _lock) = DataDir::take(dir.path()).unwrap();
        let db = Db::open(&data.database()).await.unwrap();
        let clock = Clock::scaled(START, 1);
        let platform = crate::platform::open(site(), &data, db, clock)
            .await
            .unwrap();
        let open = next_to_close(&platform.shared, START).unwrap();
        Bench {
            platform,
            asked: Asked::default(),
            open,
            _dir: dir,
        }
    }

    fn shared(&self) -> &Shared {
        &self.platform.shared
    }

    /// Shortly before the gate of an interval closes.
    fn before(&self, n: i64) -> Timestamp {
        gate_closes(self.shared(), self.open.offset(n)).plus_s(-60)
    }

    /// The answer to a message that a home signs and sends from outside.
    async fn say<T: Message>(&self, now: Timestamp, home: usize, message: &T) -> OrderAnswer {
        let shared = self.shared();
        let key = &shared.key_of_home(home - 1);
        let signed = Signed::sign(key, &shared.site.community, message);
        let message = orders::read(shared, signed.as_bytes().to_vec());
        let mut tx = shared.db.begin().await.unwrap();
        let answer = orders::take_one(&mut tx, shared, now, &message)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        answer
    }

    /// Lets standing orders order for an interval, as often as the beat comes.
    async fn order(&mut self, n: i64) {
        for _ in 0..2 {
            let now = self.before(n);
            beat(&self.platform.shared, &mut self.asked, now)
                .await
                .unwrap();
        }
    }

    /// Home 2 offers so much, and the gate closes.
    async fn clear(&self, n: i64, wh: i64) {
        let interval = self.open.offset(n);
        let offer = Order {
            participant: ParticipantId::new("home-2").unwrap(),
            point: PointId::new("home-2.meter").unwrap(),
            side: Side::Offer,
            interval,
            energy: Energy::from_wh(wh),
            limit: milli(100),
            sequence: u64::try_from(n).unwrap() + 1,
            replaces: None,
            preference: domain::order::Preference::default(),
        };
        let answer = self.say(self.before(n), 2, &offer).await;
        assert_eq!(answer, OrderAnswer::Accepted(offer.id()));
        let now = gate_closes(self.shared(), interval);
        core::clear(self.shared(), now).await.unwrap();
    }

    /// What home 1 has in the book of an interval: energy and limit in thousandths.
    async fn book(&self, n: i64) -> Vec<(i64, i64)> {
        let interval = self.open.offset(n);
        let orders = market_engine::service::orders(&self.shared().db, interval).await;
        let own = orders.unwrap().into_iter().map(|placed| placed.order);
        own.filter(|o| o.participant.as_str() == "home-1")
            .map(|o| (o.energy.wh(), o.limit.micro_per_kwh() / 1_000))
            .collect()
    }

    async fn held(&self) -> i64 {
        let sql = "SELECT COUNT(*) FROM settle_holds WHERE is_open = 1";
        let (count,): (i64,) = self.shared().db.fetch_one(sql, args![]).await.unwrap();
        count
    }

    async fn shown(&self, now: Timestamp) -> Vec<Shown> {
        let home = ParticipantId::new("home-1").unwrap();
        of(self.shared(), &home, now).await.unwrap()
    }

    /// What a meter took in an interval.
    async fn counted(&self, point: &str, interval: Interval, wh: i64) {
        let mut tx = self.shared().db.begin().await.unwrap();
        tx.execute(
            "INSERT INTO settle_readings (point, sequence, digest, flags, start_s, length_s, era, registers, \
             imported_wh, exported_wh, quality, kid, received_ms, bytes) \
             VALUES ($1, $2, $4, '', $2, 900, 0, $4, $3, 0, 0, $4, 0, $4)",
            args![point, interval.start_s(), wh, [0_u8; 8].as_slice()],
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }

    /// What the autopilot of home 1 would order for the interval that is open after so many.
    async fn proposed(&self, n: i64) -> i64 {
        let shared = self.shared();
        let home = &shared.site.participants[0];
        let interval = self.open.offset(n);
        let proposal =
            crate::platform::snapshot::proposal(shared, home, interval, self.before(n)).await;
        proposal.unwrap().map_or(0, |one| one.order.energy.wh())
    }

    /// So much energy by the start of the interval after so many: at most 4 kW, 1 kWh an interval.
    fn car(&self, sequence: u64, wh: i64, intervals: i64) -> StandingOrder {
        StandingOrder {
            participant: ParticipantId::new("home-1").unwrap(),
            point: PointId::new("home-1.meter").unwrap(),
            sequence,
            replaces: None,
            wish: Standing::Deadline(Deadline {
                energy: Energy::from_wh(wh),
                by: self.open.offset(intervals).start(),
                power_max_w: 4_000,
                limit: milli(180),
                must: false,
            }),
            begins_with: Energy::ZERO,
            capacity: None,
            counted_at: None,
        }
    }
}

#[tokio::test]
async fn a_deadline_orders_once_for_each_gate_and_goes_on_from_what_it_got() {
    let mut bench = Bench::new().await;
    let car = bench.car(1, 3_000, 4);
    let accepted = OrderAnswer::Accepted(car.id());
    assert_eq!(bench.say(START, 1, &car).await, accepted);
    let again = OrderAnswer::Again {
        order: car.id(),
        stands: true,
    };
    assert_eq!(bench.say(START, 1, &car).await, again);
    bench.order(0).await;
    assert_eq!(bench.book(0).await, [(1_000, 180)]);
    // A restart forgets who was asked.
    bench.asked = Asked::default();
    bench.order(0).await;
    assert_eq!(bench.book(0).await, [(1_000, 180)]);
    bench.clear(0, 400).await;
    // 2600 Wh are missing, and the two intervals after this one bring 2000.
    bench.order(1).await;
    assert_eq!(bench.book(1).await, [(600, 180), (400, 180)]);
    bench.clear(1, 1_000).await;
    let shown = bench.shown(bench.before(2)).await;
    assert_eq!(shown[0].progress.energy, Energy::from_wh(1_400));
    let whys: Vec<Why> = shown[0].parts.iter().map(|p| p.ordered.why).collect();
    assert_eq!(whys, [Why::Cheap, Why::LastChance, Why::Cheap]);
    assert!(shown[0].parts[1].sentence.contains("400 of 3000 Wh"));
    let ahead: i64 = shown[0].plan.iter().map(|p| p.energy.wh()).sum();
    assert_eq!(ahead, 1_600);
}

#[tokio::test]
async fn a_standing_order_is_changed_and_taken_back_with_what_it_has_in_the_book() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.held().await, 0);
    bench.say(START, 1, &bench.car(1, 3_000, 8)).await;
    bench.order(0).await;
    bench.clear(0, 1_000).await;
    bench.order(1).await;
    assert_eq!(bench.book(1).await, [(1_000, 180)]);
    let now = bench.before(1);
    // Only 1.2 kWh in all, of which 1 kWh is bought.
    let less = StandingOrder {
        replaces: Some(1),
        ..bench.car(2, 1_200, 8)
    };
    let accepted = OrderAnswer::Accepted(less.id());
    assert_eq!(bench.say(now, 1, &less).await, accepted);
    assert_eq!(bench.book(1).await, []);
    bench.order(1).await;
    assert_eq!(bench.book(1).await, [(200, 180)]);
    let twice = StandingOrder {
        replaces: Some(1),
        ..bench.car(3, 1_200, 8)
    };
    let unknown = OrderAnswer::Refused(Rejection::UnknownOrder);
    assert_eq!(bench.say(now, 1, &twice).await, unknown);
    let cancel = StandingCancel {
        participant: less.participant.clone(),
        sequence: 2,
    };
    let held = bench.held().await;
    let withdrawn = OrderAnswer::Withdrawn(less.id());
    assert_eq!(bench.say(now, 1, &cancel).await, withdrawn);
    assert_eq!(bench.book(1).await, []);
    assert_eq!(
        bench.held().await,
        held - 1,
        "nothing is held for it any more"
    );
    bench.asked = Asked::default();
    bench.order(1).await;
    assert_eq!(bench.book(1).await, []);
    let again = OrderAnswer::Again {
        order: less.id(),
        stands: false,
    };
    assert_eq!(bench.say(now, 1, &cancel).await, again);
    let shown = bench.shown(now).await;
    assert_eq!(shown.len(), 2);
    assert!(shown.iter().all(|one| one.plan.is_empty()));
}

#[tokio::test]
async fn what_the_meter_counts_counts_and_what_is_not_one_s_own_is_refused() {
    let mut bench = Bench::new().await;
    let metered = StandingOrder {
        counted_at: Some(PointId::new("home-1.charger").unwrap()),
        ..bench.car(1, 3_000, 20)
    };
    let foreign = StandingOrder {
        counted_at: Some(PointId::new("home-2.charger").unwrap()),
        ..bench.car(2, 3_000, 20)
    };
    let wrong = OrderAnswer::Refused(Rejection::WrongNetwork);
    assert_eq!(bench.say(START, 1, &foreign).await, wrong);
    let high = bench.car(super::super::core::AUTOPILOT_SEQUENCES, 3_000, 20);
    let over = OrderAnswer::Refused(Rejection::OverLimit);
    assert_eq!(bench.say(START, 1, &high).await, over);
    let other = bench.car(1, 2_000, 20);
    bench.say(START, 1, &metered).await;
    let equivocation = OrderAnswer::Refused(Rejection::Equivocation);
    assert_eq!(bench.say(START, 1, &other).await, equivocation);
    // The car took 2.4 kWh, whatever was bought for it.
    let first = Interval::containing(START, 900).unwrap();
    bench.counted("home-1.charger", first, 2_400).await;
    bench.order(4).await;
    assert_eq!(bench.book(4).await, [(600, 180)]);
}

#[tokio::test]
async fn a_battery_buys_where_yesterday_was_cheap_to_sell_where_it_was_dear() {
    let mut bench = Bench::new().await;
    let mut tx = bench.shared().db.begin().await.unwrap();
    for (n, micro) in [(0, 100_000_i64), (1, 120_000), (2, 250_000)] {
        tx.execute(
            "INSERT INTO market_clearing (interval_start_s, interval_length_s, mechanism, price_policy, details, \
             price_micro, volume_wh, orders, trades, book, cleared_at_ms) \
             VALUES ($1, 900, 'uniform-price', 'walras-mid', '', $2, 0, 0, 0, $3, 0)",
            args![bench.open.offset(n - 96).start_s(), micro, [0_u8; 32].as_slice()],
        )
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    let battery = StandingOrder {
        wish: Standing::Battery(Battery {
            least: Energy::ZERO,
            most: Energy::from_wh(900),
            charge_max_w: 4_000,
            discharge_max_w: 4_000,
            loss_basis_points: 1_000,
            margin: Price::ZERO,
            until: bench.open.offset(96).start(),
        }),
        ..bench.car(1, 1, 4)
    };
    let accepted = OrderAnswer::Accepted(battery.id());
    assert_eq!(bench.say(START, 1, &battery).await, accepted);
    bench.order(0).await;
    // 1000 Wh come to 900 with the losses. They may cost what they will bring less the network's fee.
    let book = bench.book(0).await;
    assert_eq!((book.len(), book[0].0), (1, 1_000));
    assert!((100..=250).contains(&book[0].1), "{book:?}");
    bench.clear(0, 1_000).await;
    let shown = bench.shown(bench.before(1)).await;
    assert_eq!(shown[0].progress.energy, Energy::from_wh(900));
    let next = shown[0].plan[0];
    let dear = bench.open.offset(2);
    assert_eq!(
        (next.interval, next.side, next.energy.wh()),
        (dear, Side::Offer, 900)
    );
    // Another order in its place says what is in it by now: what was bought before is not counted again.
    let begins_with = Energy::from_wh(850);
    let other = StandingOrder {
        sequence: 2,
        replaces: Some(1),
        begins_with,
        ..battery
    };
    let now = bench.open.end();
    let accepted = OrderAnswer::Accepted(other.id());
    assert_eq!(bench.say(now, 1, &other).await, accepted);
    let shown = bench.shown(now).await;
    assert_eq!(shown[0].progress.energy, begins_with);
}

#[tokio::test]
async fn what_a_deadline_has_bought_for_a_car_is_no_habit_of_its_home() {
    let mut bench = Bench::new().await;
    bench.say(START, 1, &bench.car(1, 1_000, 4)).await;
    bench.order(0).await;
    bench.clear(0, 1_000).await;
    bench.counted("home-1.meter", bench.open, 1_300).await;
    assert_eq!(
        bench.proposed(2).await,
        300,
        "without a meter of its own what was bought"
    );

    let mut bench = Bench::new().await;
    let metered = StandingOrder {
        counted_at: Some(PointId::new("home-1.charger").unwrap()),
        ..bench.car(1, 1_000, 4)
    };
    bench.say(START, 1, &metered).await;
    bench.order(0).await;
    bench.clear(0, 1_000).await;
    bench.counted("home-1.meter", bench.open, 1_300).await;
    bench.counted("home-1.charger", bench.open, 900).await;
    assert_eq!(bench.proposed(2).await, 400);

    let mut bench = Bench::new().await;
    bench.say(START, 1, &bench.car(1, 1_000, 4)).await;
    bench.order(0).await;
    bench.clear(0, 1_000).await;
    bench.counted("home-1.meter", bench.open, 300).await;
    assert_eq!(
        bench.proposed(2).await,
        0,
        "the car was away: the home gives nothing for that"
    );
}
