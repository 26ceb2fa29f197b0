//! The autopilots at work on the books: once for an interval, and never against their homes.

use std::path::Path;

use domain::cancel::Cancel;
use domain::energy::Energy;
use domain::order::Order;
use domain::rejection::Rejection;
use domain::signed::{Signed, SigningKey};
use market_engine::service::orders as standing;
use runtime::args;
use runtime::clock::Clock;
use runtime::db::Db;

use super::*;
use crate::platform::Platform;
use crate::site::{DataDir, Site};

const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);

/// A platform with some homes.
struct Bench {
    core: Core,
    open: Interval,
    _dir: tempfile::TempDir,
}

fn site(homes: u8) -> Site {
    let mut text = "community = \"lane\"\n\
         [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n"
        .to_owned();
    for n in 1..=homes {
        text += &format!(
            "[[participants]]\nid = \"home-{n}\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"1000\"\n\
             [[gateways]]\nid = \"gw-{n}\"\npublic_key = \"{}\"\npassword_sha256 = \"{}\"\npoints = [{{ \
             id = \"home-{n}.meter\", role = \"connection\", participant = \"home-{n}\", rating_w = 10000 }}]\n",
            crate::site::public_key_text(domain::signed::PublicKey::of(&SigningKey::from_bytes(
                &[n; 32]
            ))),
            "0".repeat(64)
        );
    }
    Site::from_toml(&text, Path::new("site.toml")).unwrap()
}

impl Bench {
    async fn new() -> Self {
        Bench::of(1).await
    }

    async fn of(homes: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, _lock) = DataDir::take(dir.path()).unwrap();
        let db = Db::open(&data.database()).await.unwrap();
        let clock = Clock::scaled(START, 1);
        let platform = crate::platform::open(site(homes), &data, db, clock).await;
        let Platform { shared, core, .. } = platform.unwrap();
        let open = next_to_close(&shared, START).unwrap();
        Bench {
            core,
            open,
            _dir: dir,
        }
    }

    /// What the first home's meter counted so many intervals before the one that is open.
    async fn imported(&self, before: i64, wh: i64) {
        self.imported_at("home-1.meter", before, wh).await;
    }

    async fn imported_at(&self, point: &str, before: i64, wh: i64) {
        let mut tx = self.core.shared.db.begin().await.unwrap();
        tx.execute(
            "INSERT INTO settle_readings (point, sequence, digest, flags, start_s, length_s, era, registers, \
             imported_wh, exported_wh, quality, kid, received_ms, bytes) \
             VALUES ($5, $1, $4, '', $2, 900, 0, $4, $3, 0, 0, $4, 0, $4)",
            args![before, self.open.offset(-before).start_s(), wh, [0_u8; 8].as_slice(), point],
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }

    async fn execute(&self, sql: &'static str) {
        let mut tx = self.core.shared.db.begin().await.unwrap();
        tx.execute(sql, args![]).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn autopilots(&mut self) {
        let shortly = gate_closes(&self.core.shared, self.open).plus_s(-60);
        self.core.place_orders(shortly).await.unwrap();
    }

    async fn standing(&self) -> Vec<Order> {
        let placed = standing(&self.core.shared.db, self.open).await.unwrap();
        placed.into_iter().map(|placed| placed.order).collect()
    }

    /// The answer to a message that the home signs and sends from outside.
    async fn say<T: domain::signed::Message>(&self, message: &T) -> OrderAnswer {
        let shared = &self.core.shared;
        let signed = Signed::sign(&shared.key_of_home(0), &shared.site.community, message);
        let message = orders::read(shared, signed.as_bytes().to_vec());
        let mut answers = self.core.take_orders(&[message]).await.unwrap();
        answers.pop().unwrap()
    }

    async fn evidence(&self) -> i64 {
        let sql = "SELECT COUNT(*) FROM market_evidence";
        let (count,): (i64,) = self.core.shared.db.fetch_one(sql, args![]).await.unwrap();
        count
    }
}

#[tokio::test]
async fn an_autopilot_leaves_alone_what_was_taken_back_and_what_it_signed_before_a_restart() {
    let mut bench = Bench::new().await;
    bench.imported(2, 400).await;
    bench.autopilots().await;
    let placed = bench.standing().await;
    assert_eq!(placed.len(), 1);
    assert_eq!(placed[0].energy, Energy::from_wh(400));
    // A restart forgets who was asked, and another reading would have another order signed.
    bench.core.asked = None;
    bench.imported(1, 900).await;
    bench.autopilots().await;
    assert_eq!(bench.standing().await, placed);
    let cancel = Cancel {
        participant: placed[0].participant.clone(),
        sequence: placed[0].sequence,
        interval: bench.open,
    };
    let answer = bench.say(&cancel).await;
    assert_eq!(answer, OrderAnswer::Withdrawn(placed[0].id()));
    bench.core.asked = None;
    bench.autopilots().await;
    assert_eq!(
        (bench.standing().await.len(), bench.evidence().await),
        (0, 0)
    );
}

#[tokio::test]
async fn nobody_takes_an_autopilots_sequence_from_outside() {
    let mut bench = Bench::new().await;
    bench.imported(1, 400).await;
    bench.autopilots().await;
    let mut order = bench.standing().await.remove(0);
    order.interval = bench.open.next();
    order.sequence = AUTOPILOT_SEQUENCES;
    let refused = OrderAnswer::Refused(Rejection::OverLimit);
    assert_eq!(bench.say(&order).await, refused);
    order.sequence = AUTOPILOT_SEQUENCES - 1;
    let accepted = OrderAnswer::Accepted(order.id());
    assert_eq!(bench.say(&order).await, accepted);
}

#[tokio::test]
async fn an_autopilot_whose_order_cannot_be_stored_keeps_no_other_out_and_orders_later() {
    let mut bench = Bench::of(3).await;
    for n in 1..=3 {
        let point = format!("home-{n}.meter");
        bench.imported_at(&point, 1, 100 * n).await;
    }
    let poison = "CREATE TRIGGER poison BEFORE INSERT ON market_order WHEN NEW.participant = 'home-2' \
         BEGIN SELECT RAISE(ABORT, 'poison'); END";
    bench.execute(poison).await;
    let shortly = gate_closes(&bench.core.shared, bench.open).plus_s(-60);
    bench.core.place_orders(shortly).await.unwrap_err();
    let energies = |orders: Vec<Order>| -> Vec<i64> {
        let energies = orders.iter().map(|order| order.energy.wh());
        energies.collect()
    };
    assert_eq!(energies(bench.standing().await), [100, 300]);
    bench.execute("DROP TRIGGER poison").await;
    bench.core.place_orders(shortly).await.unwrap();
    assert_eq!(energies(bench.standing().await), [100, 300, 200]);
    assert_eq!(bench.evidence().await, 0);
}
