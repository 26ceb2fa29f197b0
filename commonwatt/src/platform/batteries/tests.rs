//! A battery that is told what it has traded: once an interval, and not where somebody else has the say.

use std::path::Path;

use domain::energy::Energy;
use domain::ids::{GatewayId, PointId};
use domain::money::Price;
use domain::order::{Order, Preference, Side};
use domain::signed::{Message, PublicKey, Signed, SigningKey};
use domain::standing_order::{Battery, Standing, StandingCancel, StandingOrder};
use runtime::clock::Clock;
use runtime::db::Db;

use super::*;
use crate::platform::core::{clear, gate_closes, next_to_close};
use crate::platform::orders::{self, OrderAnswer};
use crate::platform::{Platform, standing};
use crate::site::{DataDir, Site, public_key_text};

const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);

struct Bench {
    platform: Platform,
    told: Told,
    /// The interval whose gate closes first.
    open: Interval,
    _dir: tempfile::TempDir,
}

fn site(battery: &str) -> anyhow::Result<Site> {
    let mut text = "community = \"lane\"\n\
         [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n"
        .to_owned();
    for n in 1..=2_u8 {
        let key = public_key_text(PublicKey::of(&SigningKey::from_bytes(&[n; 32])));
        let battery = if n == 1 { battery } else { "" };
        text += &format!(
            "[[participants]]\nid = \"home-{n}\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"1000\"\n{battery}\n\
             [[gateways]]\nid = \"gw-{n}\"\npublic_key = \"{key}\"\npassword_sha256 = \"{}\"\npoints = [\
             {{ id = \"home-{n}.meter\", role = \"connection\", participant = \"home-{n}\", rating_w = 10000 }}]\n",
            "0".repeat(64)
        );
    }
    Site::from_toml(&text, Path::new("site.toml"))
}

const NAMED: &str = "battery = { gateway = \"gw-1\", device = \"cellar\" }";

impl Bench {
    /// A battery of 2 kWh that has to be empty after an interval, and a neighbour who takes half of what it offers.
    async fn with(battery: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let (data, _lock) = DataDir::take(dir.path()).unwrap();
        let db = Db::open(&data.database()).await.unwrap();
        let clock = Clock::scaled(START, 1);
        let platform = crate::platform::open(site(battery).unwrap(), &data, db, clock).await;
        let platform = platform.unwrap();
        let open = next_to_close(&platform.shared, START).unwrap();
        let bench = Bench {
            platform,
            told: Told::default(),
            open,
            _dir: dir,
        };
        let order = StandingOrder {
            participant: ParticipantId::new("home-1").unwrap(),
            point: PointId::new("home-1.meter").unwrap(),
            sequence: 1,
            replaces: None,
            wish: Standing::Battery(Battery {
                least: Energy::ZERO,
                most: Energy::from_wh(2_000),
                charge_max_w: 3_000,
                discharge_max_w: 3_000,
                loss_basis_points: 1_000,
                margin: Price::ZERO,
                until: open.end(),
            }),
            begins_with: Energy::from_wh(2_000),
            capacity: None,
            counted_at: None,
        };
        bench.say(-120, 1, &order).await;
        let bid = Order {
            participant: ParticipantId::new("home-2").unwrap(),
            point: PointId::new("home-2.meter").unwrap(),
            side: Side::Bid,
            interval: open,
            energy: Energy::from_wh(375),
            limit: Price::from_micro_per_kwh(250_000),
            sequence: 1,
            replaces: None,
            preference: Preference::default(),
        };
        bench.say(-120, 2, &bid).await;
        let gate = gate_closes(bench.shared(), open);
        let mut asked = standing::Asked::default();
        standing::beat(bench.shared(), &mut asked, gate.plus_s(-60))
            .await
            .unwrap();
        clear(bench.shared(), gate).await.unwrap();
        bench
    }

    fn shared(&self) -> &Shared {
        &self.platform.shared
    }

    /// What a home says, so many seconds after the gate closes.
    async fn say<T: Message>(&self, s: i64, home: usize, message: &T) {
        let shared = self.shared();
        let key = &shared.key_of_home(home - 1);
        let signed = Signed::sign(key, &shared.site.community, message);
        let message = orders::read(shared, signed.as_bytes().to_vec());
        let now = gate_closes(shared, self.open).plus_s(s);
        let mut tx = shared.db.begin().await.unwrap();
        let answer = orders::take_one(&mut tx, shared, now, &message)
            .await
            .unwrap();
        assert!(
            matches!(answer, OrderAnswer::Accepted(_) | OrderAnswer::Withdrawn(_)),
            "{answer:?}"
        );
        tx.commit().await.unwrap();
    }

    /// Two beats, so many seconds after the interval's start.
    async fn beats(&mut self, s: i64) {
        for _ in 0..2 {
            let now = self.open.start().plus_s(s);
            beat(&self.platform.shared, &mut self.told, now)
                .await
                .unwrap();
        }
    }

    /// So many seconds after the interval's start home 1 draws so much, and its battery gives so much.
    fn live(&self, s: i64, drawn_w: i64, given_w: i64) {
        let at_ms = self.open.start().plus_s(s).unix_ms();
        for (device, kind, power_w) in [("meter", "meter", drawn_w), ("cellar", "battery", given_w)]
        {
            let text = serde_json::json!({
                "device": device, "kind": kind, "power_w": power_w, "read_at_ms": at_ms,
            });
            let gateway = GatewayId::new("gw-1").unwrap();
            self.shared()
                .live
                .take(gateway, text.to_string().as_bytes());
        }
    }

    /// What devices were told since this was asked last.
    fn told(&mut self) -> Vec<(String, Act)> {
        let mut told = Vec::new();
        while let Ok(forward) = self.platform.forwards.try_recv() {
            let signed = Signed::<domain::command::Command>::from_bytes(forward.bytes);
            let command = signed.stored().unwrap();
            assert_eq!(command.gateway.as_str(), "gw-1");
            told.push((command.device, command.act));
        }
        told
    }

    /// The battery has to have this power until the end of the interval.
    fn power(&self, value: i64) -> (String, Act) {
        let act = Act::Set {
            set_point: SetPoint::BatteryPowerW,
            value,
            expires_at: self.open.end(),
        };
        ("cellar".to_owned(), act)
    }
}

#[tokio::test]
async fn a_battery_is_told_once_what_it_has_sold_also_by_an_order_that_was_taken_back() {
    let mut bench = Bench::with(NAMED).await;
    bench.beats(-10).await;
    assert_eq!(bench.told(), [], "its interval has not begun");
    bench.beats(0).await;
    // 375 Wh in a quarter of an hour, though it could have given 750.
    assert_eq!(bench.told(), [bench.power(1_500)]);
    // A restart forgets who was told.
    bench.told = Told::default();
    bench.beats(60).await;
    assert_eq!(bench.told(), []);

    let mut late = Bench::with(NAMED).await;
    late.say(
        30,
        1,
        &StandingCancel {
            participant: ParticipantId::new("home-1").unwrap(),
            sequence: 1,
        },
    )
    .await;
    late.beats(225).await;
    assert_eq!(late.told(), [late.power(1_500)], "its trade stands");
}

#[tokio::test]
async fn a_battery_covers_its_homes_need_as_well_so_that_the_meter_comes_to_what_was_traded() {
    let mut bench = Bench::with(NAMED).await;
    bench.live(0, 300, 200);
    bench.beats(0).await;
    assert_eq!(bench.told(), [bench.power(2_000)]);
    // The meter gives what was sold; a little more or less is nothing new.
    bench.live(301, -1_440, 2_000);
    bench.beats(301).await;
    assert_eq!(bench.told(), []);
    bench.live(601, -500, 2_000);
    bench.beats(601).await;
    assert_eq!(bench.told(), [bench.power(3_000)], "no more than it may");
    // What the battery has brought to the meter, the autopilot does not take for the home's own.
    let home = ParticipantId::new("home-1").unwrap();
    let traded = async |from| {
        let all = market::battery_trades_of(&bench.shared().db, &home, from).await;
        let all = all.unwrap().into_iter();
        all.map(|one| (one.interval, one.sold_wh()))
            .collect::<Vec<_>>()
    };
    assert_eq!(traded(bench.open.start()).await, [(bench.open, 375)]);
    assert_eq!(traded(bench.open.end()).await, []);
}

#[tokio::test]
async fn the_operators_set_point_and_a_home_that_names_no_battery_come_first() {
    let mut bench = Bench::with("").await;
    bench.beats(0).await;
    assert_eq!(bench.told(), []);

    let mut bench = Bench::with(NAMED).await;
    let act = Act::Set {
        set_point: SetPoint::BatteryPowerW,
        value: 0,
        expires_at: bench.open.end(),
    };
    let place = (GatewayId::new("gw-1").unwrap(), "cellar".to_owned());
    let before = bench.open.start().plus_s(-20);
    control::tell(bench.shared(), Origin::Operator, place, before, act)
        .await
        .unwrap();
    bench.told();
    bench.beats(0).await;
    assert_eq!(bench.told(), [], "the grid wants it still");
}

#[test]
fn a_battery_is_behind_a_gateway_of_its_home() {
    let again = Site::from_toml(
        &site(NAMED).unwrap().to_toml().unwrap(),
        Path::new("site.toml"),
    );
    assert_eq!(
        again.unwrap().participants[0].battery,
        site(NAMED).unwrap().participants[0].battery
    );
    for (wrong, why) in [
        ("gw-2", "no gateway with a point of home-1"),
        ("gw-9", "no gateway"),
    ] {
        let error = site(&NAMED.replace("gw-1", wrong)).unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }
}
