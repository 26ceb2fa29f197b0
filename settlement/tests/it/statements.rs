//! Monthly statements from the books: by hand, and held against sums over all postings.

use domain::money::Money;
use domain::order::Side;
use domain::posting::{Chart, Run};
use domain::time::Timestamp;
use proptest::prelude::*;
use runtime::args;
use settlement::calendar::LocalMonth;
use settlement::service::{ServiceError, statement};
use settlement::statement::{Balances, Statement, StatementError};

use crate::world::{Outcome, START_S, World, interval, who};

/// Number of the interval with which July 2026 begins in Berlin: 2026-06-30T22:00:00Z.
const JULY: i64 = (9 * 86_400 + 22 * 3600) / 900;

fn month(text: &str) -> LocalMonth {
    LocalMonth::parse(text, "Europe/Berlin".parse().unwrap()).unwrap()
}

async fn of(world: &World, name: &str, text: &str) -> Statement {
    let made = Timestamp::from_unix_s(START_S + 90 * 86_400);
    let (db, community) = (&world.db, &world.community);
    statement(
        db,
        &community.id,
        community.interval_length_s,
        &who(name),
        month(text),
        made,
    )
    .await
    .unwrap()
    .unwrap()
}

fn tokens(text: &str) -> Money {
    text.parse().unwrap()
}

/// Two homes trade in the interval `n`: a buys 1000 Wh from b at 0.132.
async fn trade(world: &mut World, n: i64) -> Outcome {
    let bid = world.order("home-a", Side::Bid, n, 1200, "0.2");
    let offer = world.order("home-b", Side::Offer, n, 1000, "0.1");
    assert!(world.hold(&bid).await && world.hold(&offer).await);
    let outcome = world.outcome(n, &[bid, offer], &[(0, 1, 1000)], "0.132");
    world.contract(&outcome).await;
    outcome
}

async fn a_month_by_hand(mut world: World) {
    world.deposit("home-a", "10").await;
    let first = trade(&mut world, JULY - 1).await;
    world.meter("home-b", JULY - 1, 0, 1150).await;
    world.meter("home-b", JULY, 0, 1000).await;
    // Home a was not heard of: what it had traded stands in, and the true value comes a day later.
    world.run(&first, Run::Provisional).await;
    let second = trade(&mut world, JULY).await;
    world.meter("home-a", JULY - 1, 1200, 0).await;
    world.meter("home-a", JULY, 1000, 0).await;
    world.run(&second, Run::Provisional).await;
    world.run(&first, Run::Initial).await;
    let (june, july) = (
        of(&world, "home-a", "2026-06").await,
        of(&world, "home-a", "2026-07").await,
    );
    let total = &june.total;
    assert_eq!((june.days.len(), total.intervals), (30, 30 * 96));
    assert_eq!((total.imported.wh(), total.bought.wh()), (1200, 1000));
    assert_eq!(
        (total.pool_taken.wh(), total.utility_supplied.wh()),
        (150, 50)
    );
    assert_eq!(total.purchases, tokens("-0.132"));
    assert_eq!(
        total.network_fee,
        tokens("-0.0805"),
        "1150 Wh from neighbours at 0.07"
    );
    assert_eq!(total.pool, tokens("-0.0198"));
    assert_eq!(total.utility, tokens("-0.016"));
    assert_eq!(
        total.average_purchase_price().unwrap().to_string(),
        "0.132000"
    );
    assert_eq!(june.alone.paid, tokens("0.384"), "1200 Wh at 0.32");
    assert_eq!(june.alone.better_by, tokens("0.1357"));
    let data = &total.data;
    assert_eq!((data.measured, data.corrected, data.missing), (1, 1, 0));
    assert_eq!(data.not_settled, 30 * 96 - 1);
    let runs: Vec<(&str, Money)> = june.runs.iter().map(|r| (r.run, r.net)).collect();
    assert_eq!(
        runs,
        [
            ("provisional", tokens("-0.202")),
            ("initial", tokens("-0.0463"))
        ]
    );
    assert_eq!(june.other[0].purpose, "deposit");
    assert_eq!(june.opening, Balances::default());
    assert_eq!(june.closing.available, tokens("9.798"));
    assert_eq!(june.closing.statement, tokens("-0.0463"));
    assert_eq!(july.opening, june.closing);
    assert_eq!(july.closing.available, tokens("9.596"));
    assert_eq!(july.days[0].sums.bought.wh(), 1000);
    let csv = june.to_csv();
    assert_eq!(csv.lines().count(), 32);
    assert!(
        csv.lines()
            .last()
            .unwrap()
            .starts_with("total,2880,1,0,0,2879,1,1200,0,1000,"),
        "{csv}"
    );
    assert!(june.to_table().contains("better in the community by"));
    let json = serde_json::to_value(&june).unwrap();
    assert_eq!(json["total"]["imported_wh"], 1200);
    assert_eq!(json["alone"]["paid"], "0.384000000");
}

#[tokio::test]
async fn a_month_by_hand_on_sqlite() {
    a_month_by_hand(World::on_sqlite(&["home-a", "home-b"]).await).await;
}

#[tokio::test]
async fn a_month_by_hand_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a", "home-b"]).await {
        a_month_by_hand(world).await;
    }
}

#[tokio::test]
async fn who_is_not_enrolled_has_none_and_a_changed_balance_is_found() {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    world.deposit("home-a", "10").await;
    let outcome = trade(&mut world, JULY).await;
    world.run(&outcome, Run::Provisional).await;
    let made = Timestamp::from_unix_s(START_S);
    let ask = |name: &'static str| {
        let (db, community) = (world.db.clone(), world.community.clone());
        async move { statement(&db, &community.id, 900, &who(name), month("2026-07"), made).await }
    };
    assert_eq!(ask("home-x").await.unwrap(), None);
    let sql =
        "UPDATE settle_balances SET credits = credits + 1 WHERE owner = 'home-a' AND chart = 100";
    let mut tx = world.db.begin().await.unwrap();
    tx.execute(sql, args![]).await.unwrap();
    tx.commit().await.unwrap();
    let error = ask("home-a").await.unwrap_err();
    let ServiceError::Statement(StatementError::DoesNotAddUp { account, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(account, "available");
}

const HOMES: [&str; 4] = ["home-a", "home-b", "home-c", "home-d"];

type Step = (Vec<(i64, i64)>, usize, usize, i64, usize);

/// Around the turn of the month: trades, meters that come late, and all runs.
async fn random_history(steps: &[Step]) {
    let mut world = World::on_sqlite(&HOMES).await;
    for home in HOMES {
        world.deposit(home, "3").await;
    }
    let mut outcomes = Vec::new();
    for (n, (flows, buyer, seller, wh, late)) in (JULY - 3..).zip(steps) {
        let mut orders = Vec::new();
        let mut fills = Vec::new();
        if buyer != seller {
            let bid = world.order(HOMES[*buyer], Side::Bid, n, wh + 5, "0.2");
            let offer = world.order(HOMES[*seller], Side::Offer, n, *wh, "0.1");
            if world.hold(&bid).await {
                orders.extend([bid, offer]);
                fills.push((0, 1, *wh));
            }
        }
        let outcome = world.outcome(n, &orders, &fills, "0.15");
        world.contract(&outcome).await;
        let mut readings = Vec::new();
        for (home, (import_wh, export_wh)) in HOMES.iter().zip(flows) {
            readings.push(world.read(home, n, *import_wh, *export_wh));
        }
        let late = readings.remove(*late);
        for reading in &readings {
            world.accept(reading).await;
        }
        world.run(&outcome, Run::Provisional).await;
        world.accept(&late).await;
        outcomes.push(outcome);
    }
    for (index, outcome) in outcomes.iter().enumerate() {
        for run in [Run::Initial, Run::Final, Run::TrueUp] {
            // Some intervals have had fewer runs than others.
            if index % 4 >= usize::from(run.code()) {
                world.run(outcome, run).await;
            }
        }
    }
    world.check().await;
    for home in HOMES {
        adds_up(&world, home).await;
    }
}

/// June's and July's statements against sums over all postings, by value date.
async fn adds_up(world: &World, home: &str) {
    let (june, july) = (
        of(world, home, "2026-06").await,
        of(world, home, "2026-07").await,
    );
    assert_eq!(june.opening, Balances::default());
    assert_eq!(june.closing, july.opening);
    let turn = interval(JULY).start_s();
    let sql = "SELECT CAST(COALESCE(SUM(CASE WHEN credit_owner = $1 THEN amount ELSE 0 END)
        - SUM(CASE WHEN debit_owner = $1 THEN amount ELSE 0 END), 0) AS BIGINT) FROM settle_postings
        WHERE asset = 1 AND ((start_s IS NOT NULL AND start_s < $2) OR purpose = 1)";
    let (net,): (i64,) = world.db.fetch_one(sql, args![home, turn]).await.unwrap();
    assert_eq!(
        june.closing.total().unwrap(),
        Money::from_nano(net),
        "{home}"
    );
    let mut now = 0;
    for chart in [
        Chart::Available,
        Chart::Held,
        Chart::Holdback,
        Chart::Statement,
    ] {
        now += world
            .balance(domain::posting::Asset::Token, chart, home)
            .await;
    }
    assert_eq!(
        july.closing.total().unwrap(),
        Money::from_nano(now),
        "{home}"
    );
    for statement in [june, july] {
        statement.check().unwrap();
        let mut wrong = statement.clone();
        wrong.days[0].sums.net = Money::from_nano(wrong.days[0].sums.net.nano() + 1);
        assert_eq!(wrong.check(), Err(StatementError::Parts("days")));
        let mut wrong = statement;
        wrong.closing.held = Money::from_nano(wrong.closing.held.nano() + 1);
        assert_eq!(wrong.check(), Err(StatementError::Parts("balances")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]
    #[test]
    fn statements_of_random_histories_add_up_to_the_ledger(
        steps in proptest::collection::vec(
            (proptest::collection::vec((0_i64..3000, 0_i64..3000), 4), 0_usize..4, 0_usize..4, 1_i64..900, 0_usize..4),
            6,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(random_history(&steps));
    }
}
