//! A later run that goes on from the one before books what one that reads everything books.

use domain::order::Side;
use domain::posting::Run;
use domain::reading::Reading;
use domain::terms::{DeviationPolicy, Terms};
use proptest::prelude::*;
use runtime::args;
use runtime::db::Db;
use settlement::service::check_books;
use settlement::tariff::Tariff;

use crate::world::{World, cases, interval, price, sign};

const HOMES: [&str; 10] = ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9"];
/// A day before interval 0, whose readings stand in for missing ones.
const DAY_BEFORE: i64 = -96;

/// One home's meter: import and export now and a day before, and before which run each reading comes (4: never).
type Home = ((i64, i64), (i64, i64), (usize, usize));

#[derive(Clone, Debug)]
struct History {
    homes: Vec<Home>,
    feeder: usize,
    wh: i64,
    terms: Terms,
}

/// Everything that a run leaves behind and that no random secret is in.
#[derive(PartialEq, Eq, Debug)]
struct Booked {
    postings: Vec<(Vec<u8>, i64, String, String)>,
    balances: Vec<(i64, i64, String, i64, i64)>,
    runs: Vec<(i64, i64, i64, i64, Vec<u8>, String)>,
    lines: Vec<(i64, String, i64, Vec<u8>, i64)>,
}

async fn booked(db: &Db) -> Booked {
    check_books(db).await.unwrap();
    let postings = "SELECT id, amount, debit_owner, credit_owner FROM settle_postings ORDER BY id";
    let balances = "SELECT asset, chart, owner, credits, debits FROM settle_balances
        ORDER BY asset, chart, owner";
    let runs = "SELECT start_s, run, postings, substituted, inputs, loss_check FROM settle_runs
        ORDER BY start_s, run";
    let lines = "SELECT start_s, participant, run, content, log_index FROM settle_lines
        ORDER BY start_s, participant, run";
    Booked {
        postings: db.fetch_all(postings, args![]).await.unwrap(),
        balances: db.fetch_all(balances, args![]).await.unwrap(),
        runs: db.fetch_all(runs, args![]).await.unwrap(),
        lines: db.fetch_all(lines, args![]).await.unwrap(),
    }
}

/// Lives a history, and says how often a run went on from the one before.
async fn live(history: &History, forgetting: bool) -> (Booked, usize) {
    let tariff = Tariff::new(price("0.32"), price("0.08"), price("0.07")).unwrap();
    let mut world = World::under(&HOMES, tariff.into(), history.terms).await;
    world.deposit("h0", "10").await;
    let bid = world.order("h0", Side::Bid, 0, history.wh, "0.2");
    let offer = world.order("h1", Side::Offer, 0, history.wh, "0.1");
    assert!(world.hold(&bid).await);
    let outcome = world.outcome(0, &[bid, offer], &[(0, 1, history.wh)], "0.15");
    world.contract(&outcome).await;
    let mut arriving: Vec<(usize, Reading)> = Vec::new();
    for (home, (now, before, (when_now, when_before))) in HOMES.iter().zip(&history.homes) {
        arriving.push((
            *when_before,
            world.read(home, DAY_BEFORE, before.0, before.1),
        ));
        arriving.push((*when_now, world.read(home, 0, now.0, now.1)));
    }
    arriving.push((history.feeder, world.read("feeder", 0, 4000, 0)));
    let mut resumed = 0;
    for (place, run) in Run::ALL.into_iter().enumerate() {
        for (_, reading) in arriving.iter().filter(|(when, _)| *when == place) {
            let bytes = sign(&world.gateway_key, &world.community, reading);
            world.accept_bytes(bytes, interval(2).end()).await;
        }
        let kept = "SELECT start_s FROM settle_last_run";
        let kept: Vec<(i64,)> = world.db.fetch_all(kept, args![]).await.unwrap();
        resumed += kept.len();
        if forgetting {
            let mut tx = world.db.begin().await.unwrap();
            let forget = "DELETE FROM settle_last_run";
            tx.execute(forget, args![]).await.unwrap();
            tx.commit().await.unwrap();
        }
        world.run(&outcome, run).await;
    }
    let rest = "SELECT start_s FROM settle_last_run UNION ALL SELECT start_s FROM settle_late";
    let rest: Vec<(i64,)> = world.db.fetch_all(rest, args![]).await.unwrap();
    assert_eq!(rest, [], "nothing is kept after the last run");
    (booked(&world.db).await, resumed)
}

fn history() -> impl Strategy<Value = History> {
    let wh = || (0_i64..3000, 0_i64..3000);
    // Most meters speak in time.
    let when = || prop_oneof![12 => Just(0_usize), 1 => 1_usize..5];
    let home = (wh(), wh(), (when(), when()));
    let terms = (0_u8..3, 0_u32..500, prop_oneof![Just(0_u32), 1_u32..4000]);
    let homes = proptest::collection::vec(home, HOMES.len());
    let all = (homes, when(), 1_i64..3000, terms);
    all.prop_map(|(homes, feeder, wh, terms)| History {
        homes,
        feeder,
        wh,
        terms: Terms {
            policy: DeviationPolicy::from_code(terms.0).unwrap(),
            community_fee_bp: terms.1,
            holdback_bp: terms.2,
            ..Terms::default()
        },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(5)))]
    #[test]
    fn going_on_from_the_run_before_books_what_reading_everything_books(history in history()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (one, other) = runtime.block_on(async {
            (live(&history, false).await, live(&history, true).await)
        });
        prop_assert_eq!(one.1, 3, "each run but the first has one before it");
        prop_assert_eq!(one.0, other.0);
    }
}
