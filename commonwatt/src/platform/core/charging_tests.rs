//! A session at a station that buys by itself, on the whole platform: ordered, cleared, metered, settled, carried, paid.

use std::path::Path;

use domain::command::Act;
use domain::energy::Energy;
use domain::ids::{DeviceId, Digest32, ParticipantId};
use domain::money::{Money, Price};
use domain::posting::{Asset, Chart};
use domain::quality::Quality;
use domain::reading::{ClockStamp, ClockState, MeasurementClass, Obis, Reading, Register};
use domain::signed::{PublicKey, Signed, SigningKey};
use runtime::clock::Clock;
use runtime::db::Db;
use settlement::charging::profit::Month;
use settlement::charging::promise::{Payer, Promise};
use settlement::charging::session::{Event, State};
use settlement::charging::split::Owner;
use settlement::charging::terms::Quote;
use settlement::service::{self as books, COMMUNITY_OWNER};

mod alone;
mod hands;
mod late;
mod records;
mod worker;

use super::*;
use crate::platform::{Platform, charging};
use crate::site::{DataDir, Site, public_key_text};

const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);
const STATION: &str = "station-1.charger";
const SESSION: &str = "0123456789abcdef0123456789abcdef";

fn gateway_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn site() -> Site {
    site_with(&format!(
        "[[stations]]\npoint = \"{STATION}\"\nhost = \"ann\"\nshares = {{ ann = 9500, community = 500 }}\n"
    ))
}

/// A lane with these stations.
fn site_with(stations: &str) -> Site {
    Site::from_toml(&text_with(stations), Path::new("site.toml")).unwrap()
}

fn text_with(stations: &str) -> String {
    let station = match stations {
        "" => String::new(),
        _ => format!(
            "{{ id = \"{STATION}\", role = \"connection\", participant = \"station-1\", rating_w = 22000 }},"
        ),
    };
    format!(
        "community = \"lane\"\n\
        [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
        [charging]\nsimulated_cards = true\n\
        [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n\
        [[participants]]\nid = \"ann\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"1000\"\n\
        [[participants]]\nid = \"bob\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"1000\"\n\
        [[gateways]]\nid = \"gw-1\"\npublic_key = \"{}\"\npassword_sha256 = \"{}\"\n\
        points = [{{ id = \"ann.meter\", role = \"connection\", participant = \"ann\", rating_w = 10000 }},\n\
        {station}\n\
        {{ id = \"bob.meter\", role = \"connection\", participant = \"bob\", rating_w = 10000 }}]\n{stations}",
        public_key_text(PublicKey::of(&gateway_key())),
        "0".repeat(64)
    )
}

fn interval(n: i64) -> Interval {
    Interval::containing(START, 900).unwrap().offset(n)
}

/// 11 kWh in intervals 1 to 4, at 0.34 before tax.
fn promise() -> Promise {
    let owner = |name: &str, basis_points| Owner {
        name: name.to_owned(),
        basis_points,
    };
    Promise {
        quote: Quote {
            session: SESSION.to_owned(),
            station: STATION.to_owned(),
            currency: "EUR".to_owned(),
            prices: (0..40)
                .map(|n| (interval(n), Price::from_micro_per_kwh(340_000)))
                .collect(),
            start_fee: Money::ZERO,
            time_per_hour: Money::ZERO,
            parking_per_hour: Money::ZERO,
            parking_grace_s: 3_600,
            tax_ppm: 0,
            energy: Energy::from_wh(11_000),
            power_max_w: 11_000,
            ceiling: Money::from_nano(5_000_000_000),
            offered_at: START.plus_s(100),
            valid_until: START.plus_s(400),
            ready_by: interval(4).end(),
        },
        plan: (1..=4)
            .map(|n| (interval(n), Energy::from_wh(2_750)))
            .collect(),
        payer: Payer::Card,
        host: ParticipantId::new("station-1").unwrap(),
        buys: true,
        owners: vec![owner("ann", 9_500), owner(COMMUNITY_OWNER, 500)],
    }
}

struct Bench {
    core: Core,
    /// Sequence, digest and register of each point's last reading.
    meters: std::collections::BTreeMap<String, (u64, Digest32, i64)>,
    forwards: mpsc::Receiver<crate::platform::control::Forward>,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        Bench::at(site(), dir, std::collections::BTreeMap::new(), START).await
    }

    async fn at(
        site: Site,
        dir: tempfile::TempDir,
        meters: std::collections::BTreeMap<String, (u64, Digest32, i64)>,
        now: Timestamp,
    ) -> Bench {
        let (data, _lock) = DataDir::take(dir.path()).unwrap();
        let db = Db::open(&data.database()).await.unwrap();
        let clock = Clock::scaled(now, 1);
        let platform = crate::platform::open(site, &data, db, clock).await;
        let Platform { core, forwards, .. } = platform.unwrap();
        Bench {
            core,
            meters,
            forwards,
            dir,
        }
    }

    /// The platform stops and starts again.
    async fn restarts(self, now: Timestamp) -> Bench {
        self.restarts_as(site(), now).await
    }

    /// The same with another `site.toml`.
    async fn restarts_as(self, site: Site, now: Timestamp) -> Bench {
        let Bench {
            core, meters, dir, ..
        } = self;
        drop(core);
        Bench::at(site, dir, meters, now).await
    }

    /// A session begins.
    async fn begins(&self, promise: Promise) {
        let begun = charging::open(self.shared(), promise, START.plus_s(100)).await;
        assert_eq!(begun.unwrap().unwrap().session.state(), State::Authorised);
    }

    /// The station says that it lets drivers in by the platform's word.
    fn lets_in(&self) {
        let live = r#"{"device": "charger", "kind": "charger", "power_w": 0, "read_at_ms": 0,
            "set_points": ["charger-session"]}"#;
        let gateway = GatewayId::new("gw-1").unwrap();
        self.shared().live.take(gateway, live.as_bytes());
    }

    /// What stations were told since this was asked last: the set-point's word, the value and the end.
    fn told(&mut self) -> Vec<(&'static str, Option<i64>, Option<Timestamp>)> {
        let mut told = Vec::new();
        while let Ok(forward) = self.forwards.try_recv() {
            let signed = Signed::<domain::command::Command>::from_bytes(forward.bytes);
            let act = signed.stored().unwrap().act;
            let (value, end) = match act {
                Act::Set {
                    value, expires_at, ..
                } => (Some(value), Some(expires_at)),
                Act::Release { .. } => (None, None),
            };
            told.push((act.set_point().word(), value, end));
        }
        told
    }

    fn shared(&self) -> &Shared {
        &self.core.shared
    }

    /// A point's meter counts so much in interval `n`, and the reading arrives.
    async fn reads(&mut self, point: &str, n: i64, wh: i64) {
        let bytes = self.signs(point, n, wh);
        let accepted = self.arrives(bytes, interval(n).end().plus_s(5)).await;
        assert!(
            matches!(accepted, ReadingOutcome::Accepted { .. }),
            "{accepted:?}"
        );
    }

    /// A point's meter counts so much in interval `n`.
    fn signs(&mut self, point: &str, n: i64, wh: i64) -> Vec<u8> {
        let community = self.shared().site.community.clone();
        let gateway = GatewayId::new("gw-1").unwrap();
        let before = self.meters.get(point).copied();
        let (sequence, previous, start_wh) = before.unwrap_or((1, Digest32([0; 32]), 1_000));
        let reading = Reading {
            device: DeviceId::derive(&community, &gateway, point),
            point: PointId::new(point).unwrap(),
            sequence,
            interval: interval(n),
            registers: vec![Register {
                obis: Obis::IMPORT,
                start: Energy::from_wh(start_wh),
                end: Energy::from_wh(start_wh + wh),
            }],
            era: 0,
            quality: Quality::MEASURED,
            clock: ClockStamp {
                signed_at: interval(n).end(),
                state: ClockState::Synchronised,
                error_ms: 20,
            },
            meter_hash: [3; 8],
            class: MeasurementClass::MeterCounter,
            previous,
            profile: [4; 8],
        };
        let bytes = Signed::sign(&gateway_key(), &community, &reading)
            .as_bytes()
            .to_vec();
        let kept = (sequence + 1, Digest32::of(&bytes), start_wh + wh);
        self.meters.insert(point.to_owned(), kept);
        bytes
    }

    /// A reading arrives.
    async fn arrives(&self, bytes: Vec<u8>, now: Timestamp) -> ReadingOutcome {
        let (shared, gateway) = (self.shared(), GatewayId::new("gw-1").unwrap());
        let mut tx = shared.db.begin().await.unwrap();
        let accepted = books::accept_reading(&mut tx, &shared.community, now, &gateway, bytes);
        let accepted = accepted.await.unwrap();
        tx.commit().await.unwrap();
        accepted
    }

    async fn beats(&self, now: Timestamp) {
        charging::beat(self.shared(), now).await.unwrap();
        clear(self.shared(), now).await.unwrap();
        self.core.settle(now).await.unwrap();
    }

    /// What was booked for the station at all.
    async fn month(&self) -> Result<Month, books::ServiceError> {
        let [station, host] = ["station-1", "ann"].map(|name| ParticipantId::new(name).unwrap());
        let ever = (Timestamp::EPOCH, interval(1_000).end());
        let db = &self.shared().db;
        books::station_month(db, STATION, Some((Some(&station), &host)), ever).await
    }

    /// Of an account, in nano-tokens.
    async fn balance(&self, chart: Chart, owner: &str) -> i64 {
        let all = books::balances(&self.shared().db).await.unwrap();
        let mut all = all.into_iter().filter(|b| b.asset == Asset::Token);
        let found = all.find(|b| b.account.chart() == chart && b.account.owner() == owner);
        found.map_or(0, |b| b.balance)
    }
}

#[tokio::test]
async fn a_sessions_energy_is_ordered_settled_and_carried_to_its_owners() {
    let mut bench = Bench::new().await;
    let begun = charging::open(bench.shared(), promise(), START.plus_s(100))
        .await
        .unwrap();
    assert_eq!(begun.unwrap().session.state(), State::Authorised);
    for point in ["ann.meter", STATION] {
        bench.reads(point, 0, 0).await;
    }
    // It begins with the interval's end; the next gate that can be met is that of interval 2.
    bench.beats(interval(0).end().plus_s(65)).await;
    let placed = market_engine::service::orders(&bench.shared().db, interval(2))
        .await
        .unwrap();
    assert_eq!(placed.len(), 1);
    let order = &placed[0].order;
    assert_eq!(
        (order.participant.as_str(), order.energy.wh()),
        ("station-1", 2_750)
    );
    assert_eq!(order.limit.to_string(), "0.270000");
    // Limit and fee for 2.75 kWh, out of the driver's five.
    assert_eq!(bench.balance(Chart::Held, "station-1").await, 825_000_000);
    bench.beats(interval(0).end().plus_s(70)).await;
    let again = market_engine::service::orders(&bench.shared().db, interval(2))
        .await
        .unwrap();
    assert_eq!(again.len(), 1, "once for an interval");

    for n in 1..=2 {
        bench.beats(interval(n).start().plus_s(601)).await;
        bench.reads("ann.meter", n, 0).await;
        bench.reads(STATION, n, 2_750).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    let end = interval(2).end();
    let stopped = charging::stop(bench.shared(), SESSION, end.plus_s(20))
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(stopped.session.state(), State::Closed(_)));
    let paid = stopped.session.bill().unwrap().total.nano();
    assert_eq!(paid, 5_500 * 340_000);
    // What was ordered for a car that has gone runs out; then the station has nothing left.
    for seconds in [310, 910, 1_500] {
        bench.beats(end.plus_s(seconds)).await;
    }
    for chart in [Chart::Available, Chart::Held, Chart::Statement] {
        assert_eq!(bench.balance(chart, "station-1").await, 0, "{chart:?}");
    }
    let card = format!("card-{SESSION}");
    assert_eq!(bench.balance(Chart::Held, &card).await, 0);
    let db = &bench.shared().db;
    let month = bench.month().await.unwrap();
    let cost = month.cost.total().unwrap();
    // Nobody sold: all of it came from the utility.
    assert_eq!(cost.nano(), 5_500 * 300_000);
    let owned =
        bench.balance(Chart::Statement, "ann").await + bench.balance(Chart::Community, "-").await;
    assert_eq!(owned, paid - cost.nano());
    // The month has it as the ledger has it: each share, and the whole.
    assert_eq!((month.sessions, month.energy.wh()), (1, 5_500));
    assert_eq!(month.revenue().unwrap().nano(), paid);
    let community = month.shares[COMMUNITY_OWNER].nano();
    assert_eq!(bench.balance(Chart::Community, "-").await, community);
    assert_eq!(month.shared().unwrap().nano(), owned);
    books::check_books(db).await.unwrap();
    what_the_ledger_does_not_have_is_not_shown(&bench).await;
}

/// A session that says it was paid, of which the ledger knows nothing.
async fn what_the_ledger_does_not_have_is_not_shown(bench: &Bench) {
    let db = &bench.shared().db;
    let wrong = "INSERT INTO settle_charging_costs (session, energy, network_fee)
         SELECT 'other', energy, network_fee FROM settle_charging_costs";
    let mut tx = db.begin().await.unwrap();
    tx.execute(wrong, runtime::args![]).await.unwrap();
    let mut other = promise();
    "other".clone_into(&mut other.quote.session);
    books::charging_open(&mut tx, &other).await.unwrap();
    let stored = books::charging_session(db, SESSION).await.unwrap().unwrap();
    for (seq, (at, event)) in (0..).zip(stored.events) {
        books::charging_event(&mut tx, "other", seq, at, event)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    let told = bench.month().await.unwrap_err().to_string();
    assert!(
        told.contains("session other") && told.contains("the ledger does not have that"),
        "{told}"
    );
}

#[tokio::test]
async fn a_payment_that_is_refused_at_the_end_leaves_a_debt_and_no_money_held() {
    let mut bench = Bench::new().await;
    let mut refusing = promise();
    refusing.payer = Payer::RefusingCard;
    let begun = charging::open(bench.shared(), refusing, START.plus_s(100)).await;
    assert_eq!(begun.unwrap().unwrap().session.state(), State::Authorised);
    let card = format!("card-{SESSION}");
    assert_eq!(bench.balance(Chart::Held, &card).await, 5_000_000_000);
    for n in 0..=2 {
        let wh = if n == 0 { 0 } else { 2_750 };
        bench.reads("ann.meter", n, 0).await;
        bench.reads(STATION, n, wh).await;
        bench.beats(interval(n).end().plus_s(65)).await;
    }
    let end = interval(2).end();
    let stopped = charging::stop(bench.shared(), SESSION, end.plus_s(80)).await;
    let stopped = stopped.unwrap().unwrap().session;
    assert!(matches!(stopped.state(), State::Closed(_)), "{stopped:?}");
    assert_eq!(stopped.debt().nano(), 5_500 * 340_000);
    for seconds in [310, 910, 1_500] {
        bench.beats(end.plus_s(seconds)).await;
    }
    // Whatever was held or advanced is back; what the energy cost is the owners' loss.
    assert_eq!(bench.balance(Chart::Held, &card).await, 0);
    assert_eq!(bench.balance(Chart::Tax, "-").await, 0);
    for chart in [Chart::Available, Chart::Held, Chart::Statement] {
        assert_eq!(bench.balance(chart, "station-1").await, 0, "{chart:?}");
    }
    let month = bench.month().await.unwrap();
    assert_eq!((month.sessions, month.revenue().unwrap()), (0, Money::ZERO));
    assert_eq!((month.unpaid, month.owed), (1, stopped.debt()));
    assert_eq!(month.shared().unwrap().nano(), -5_500 * 300_000);
    let again = charging::find(bench.shared(), SESSION).await.unwrap();
    assert_eq!(
        again.unwrap().session.debt(),
        stopped.debt(),
        "and stays so"
    );
    let (db, operator) = (&bench.shared().db, &bench.shared().community.operator);
    books::check_books_whole(db, operator).await.unwrap();
}

#[tokio::test]
async fn energy_outside_sessions_is_the_hosts() {
    let mut bench = Bench::new().await;
    for n in 0..2 {
        bench.reads("ann.meter", n, 0).await;
        bench.reads(STATION, n, 1_000).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    bench.beats(interval(1).end().plus_s(310)).await;
    assert_eq!(bench.balance(Chart::Statement, "station-1").await, 0);
    assert!(bench.balance(Chart::Statement, "ann").await <= -300_000_000);
    assert_eq!(bench.balance(Chart::Community, "-").await, 0);
    let month = bench.month().await.unwrap();
    assert_eq!(month.sessions, 0);
    let outside = month.outside.total().unwrap().nano();
    assert!(outside >= 300_000_000, "{outside}");
    assert_eq!(month.shares["ann"].nano(), -outside);
}

const ENTRY: &str = "charger-session";
const CURRENT: &str = "charger-current-ma";

#[tokio::test]
async fn a_station_that_lets_a_driver_in_is_known_after_a_restart_and_told_again_before_its_lease_ends()
 {
    let mut bench = Bench::new().await;
    bench.lets_in();
    bench.begins(promise()).await;
    bench.beats(START.plus_s(110)).await;
    let mut opened = bench.told();
    opened.retain(|told| told.0 == ENTRY);
    assert_eq!((opened.len(), opened[0].1), (1, Some(1)));
    let mut bench = bench.restarts(START.plus_s(115)).await;
    bench.lets_in();
    bench.beats(START.plus_s(120)).await;
    assert_eq!(bench.told(), [], "it was opened before");
    for n in 0..=50 {
        bench.reads(STATION, n, 200).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    let told = bench.told();
    let again: Vec<_> = told.iter().filter(|told| told.0 == ENTRY).collect();
    assert_eq!((again.len(), again[0].1), (1, Some(1)), "{told:?}");
    assert!(again[0].2 > opened[0].2.map(|end| end.plus_s(11 * 3600)));
}

#[tokio::test]
async fn a_station_that_could_not_be_told_that_its_session_is_over_is_told_later() {
    let mut bench = Bench::new().await;
    bench.lets_in();
    bench.begins(promise()).await;
    bench.beats(START.plus_s(110)).await;
    // Nothing leaves the platform any more.
    bench.forwards.close();
    let stopped = charging::stop(bench.shared(), SESSION, START.plus_s(120)).await;
    assert!(matches!(
        stopped.unwrap().unwrap().session.state(),
        State::Closed(_)
    ));
    let mut bench = bench.restarts(START.plus_s(125)).await;
    let told = bench.told();
    assert!(
        told.contains(&(ENTRY, None, None)),
        "at the start: {told:?}"
    );
    bench.beats(START.plus_s(130)).await;
    assert_eq!(bench.told(), [], "once");
}

#[tokio::test]
async fn a_station_without_an_entry_is_told_that_its_session_is_over_until_it_says_so() {
    let mut bench = Bench::new().await;
    bench.begins(promise()).await;
    for n in 0..=1 {
        bench.reads(STATION, n, 2_750 * n).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    let end = interval(1).end().plus_s(20);
    let stopped = charging::stop(bench.shared(), SESSION, end).await;
    assert!(stopped.unwrap().is_some());
    let (nothing, until) = ([(CURRENT, Some(0), Some(end.plus_s(900)))], end.plus_s(900));
    assert_eq!(bench.told(), nothing);
    bench.beats(end.plus_s(30)).await;
    assert_eq!(bench.told(), [], "it has some time");
    bench.beats(end.plus_s(60)).await;
    assert_eq!(bench.told(), nothing, "it has said nothing: once more");
    // A start forgets nothing of it.
    let mut bench = bench.restarts(end.plus_s(100)).await;
    bench.beats(end.plus_s(110)).await;
    assert_eq!(bench.told(), []);
    bench.beats(end.plus_s(121)).await;
    let Ok(forward) = bench.forwards.try_recv() else {
        panic!("it is told again after a restart");
    };
    let gateway = GatewayId::new("gw-1").unwrap();
    let ack = domain::command::Ack {
        gateway: gateway.clone(),
        command: Digest32::of(&forward.bytes),
        at: end.plus_s(122),
        outcome: domain::command::Outcome::Confirmed {
            value: 0,
            clamped_by: None,
        },
    };
    let payload = Signed::sign(&gateway_key(), &bench.shared().site.community, &ack);
    let payload = payload.as_bytes().to_vec();
    crate::platform::control::hear(bench.shared(), &gateway, payload)
        .await
        .unwrap();
    for now in [end.plus_s(300), until.plus_s(1)] {
        bench.beats(now).await;
        assert_eq!(bench.told(), [], "it has confirmed it");
    }
}

#[tokio::test]
async fn a_pause_by_the_plan_is_the_plans_after_a_restart_too() {
    let mut bench = Bench::new().await;
    let mut promise = promise();
    promise.plan = vec![
        (interval(1), Energy::from_wh(2_750)),
        (interval(6), Energy::from_wh(2_750)),
    ];
    bench.begins(promise).await;
    for n in 0..=2 {
        bench.reads(STATION, n, 2_000 * i64::from(n == 1)).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    let told = bench.told();
    assert!(
        told.iter()
            .all(|told| told.0 == CURRENT && told.1 == Some(0))
    );
    assert!(!told.is_empty(), "the car waits for interval 6");
    let now = interval(2).end().plus_s(20);
    let mut bench = bench.restarts(now).await;
    bench.beats(now).await;
    assert_eq!(bench.told(), [], "it waits already");
    let stored = books::charging_session(&bench.shared().db, SESSION).await;
    let events: Vec<_> = stored.unwrap().unwrap().events;
    let of_the_grid = |(_, event): &(_, _)| matches!(event, Event::GridPause);
    assert!(!events.iter().any(of_the_grid), "{events:?}");
    // The plan says go: what the program before has told is taken back.
    for n in 3..=5 {
        bench.reads(STATION, n, 0).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    assert_eq!(bench.told().last(), Some(&(CURRENT, None, None)));
}

#[tokio::test]
async fn a_station_gives_nothing_once_the_ceiling_or_the_wish_is_reached() {
    let mut bench = Bench::new().await;
    let mut dear = promise();
    dear.quote.ceiling = Money::from_nano(900_000_000);
    bench.begins(dear).await;
    for n in 0..=1 {
        bench.reads(STATION, n, 2_750 * n).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    assert!(
        charging::find(bench.shared(), SESSION)
            .await
            .unwrap()
            .is_some_and(|one| { matches!(one.session.state(), State::Closed(_)) })
    );
    let until = interval(1).end().plus_s(910);
    assert_eq!(bench.told(), [(CURRENT, Some(0), Some(until))]);

    let mut bench = Bench::new().await;
    let mut little = promise();
    little.quote.energy = Energy::from_wh(2_500);
    little.plan = vec![(interval(1), Energy::from_wh(2_500))];
    bench.begins(little).await;
    for n in 0..=1 {
        bench.reads(STATION, n, 2_750 * n).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    let until = interval(2).end().plus_s(180);
    assert_eq!(bench.told(), [(CURRENT, Some(0), Some(until))]);
    bench.reads(STATION, 2, 0).await;
    bench.beats(interval(2).end().plus_s(10)).await;
    let until = interval(3).end().plus_s(180);
    assert_eq!(
        bench.told(),
        [(CURRENT, Some(0), Some(until))],
        "as long as it stays"
    );
}
