//! Other terms than plain pooling, in the books: posted, corrected, proven, and told on statements.

use domain::ids::PostingId;
use domain::money::Money;
use domain::order::Side;
use domain::posting::{Asset, Chart, Posting, Purpose, Run};
use domain::terms::{DeviationPolicy, Terms};
use domain::time::Timestamp;
use settlement::calendar::LocalMonth;
use settlement::deliver::LossCheck;
use settlement::prove;
use settlement::service::{
    BooksError, ServiceError, check_books, post, receipt, recent_lines, statement,
};
use settlement::tariff::Tariffs;

use crate::world::{Outcome, START_S, World, interval, who};

const HOMES: [&str; 3] = ["home-a", "home-b", "home-c"];

pub(crate) fn flat() -> Tariffs {
    let text = "retail = \"0.32\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.07\"\n";
    Tariffs::from_toml(text, &mut |name| Err(name.to_owned())).unwrap()
}

/// Retail is higher in the second interval, and paid in two steps in the third.
pub(crate) fn versions() -> Tariffs {
    let at = |n: i64| Timestamp::from_unix_s(START_S + 900 * n).to_string();
    let text = format!(
        "time_zone = \"Europe/Berlin\"\n\
         [[version]]\nname = \"one\"\nvalid_from = \"{}\"\nretail = \"0.32\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.07\"\n\
         [[version]]\nname = \"two\"\nvalid_from = \"{}\"\nkind = \"tiered\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.07\"\n\
         [[version.step]]\nfrom_kwh = 0\nretail = \"0.30\"\n[[version.step]]\nfrom_kwh = 1\nretail = \"0.50\"\n",
        at(0),
        at(1)
    );
    Tariffs::from_toml(&text, &mut |name| Err(name.to_owned())).unwrap()
}

/// Home a buys 1000 Wh from home b at 0.132, and the meters of all but home c are in.
pub(crate) async fn traded(world: &mut World, n: i64) -> Outcome {
    world.deposit("home-a", "10").await;
    let bid = world.order("home-a", Side::Bid, n, 1200, "0.2");
    let offer = world.order("home-b", Side::Offer, n, 1000, "0.1");
    assert!(world.hold(&bid).await && world.hold(&offer).await);
    let outcome = world.outcome(n, &[bid, offer], &[(0, 1, 1000)], "0.132");
    world.contract(&outcome).await;
    world.meter("home-a", n, 1200, 0).await;
    world.meter("home-b", n, 0, 1150).await;
    outcome
}

/// Both homes' receipts hold, and break where a value of the terms is changed.
async fn receipts_hold(world: &World, outcome: &Outcome, told: &[(&str, &str)]) {
    for name in ["home-a", "home-b"] {
        let receipt = receipt(
            &world.db,
            &world.community,
            outcome.trades[0].id,
            &who(name),
        )
        .await
        .unwrap()
        .unwrap();
        let text = prove::to_text(&receipt).unwrap();
        let report = prove::verify(&text, None);
        assert!(report.holds(), "{name}: {report:?}");
        for (good, bad) in told {
            assert!(text.contains(good), "{good} is not in {text}");
            let report = prove::verify(&text.replace(good, bad), None);
            assert!(!report.holds(), "{name}: {bad} was taken for {good}");
        }
    }
}

async fn token(world: &World, chart: Chart, name: &str) -> i64 {
    world.balance(Asset::Token, chart, name).await
}

async fn whole_life(terms: Terms, told: &[(&str, &str)]) -> World {
    let mut world = World::under(&HOMES, flat(), terms).await;
    let outcome = traded(&mut world, 0).await;
    let summary = world.run(&outcome, Run::Provisional).await;
    assert_eq!(
        (summary.loss, summary.tariff),
        (LossCheck::NotMetered, None)
    );
    // Home c is heard of a day later, and turns the community's position.
    world.meter("home-c", 0, 0, 400).await;
    world.meter("feeder", 0, 0, 350).await;
    let summary = world.run(&outcome, Run::Initial).await;
    assert_eq!(summary.loss, LossCheck::Within);
    world.checkpoint(interval(0).end().plus_s(86_400)).await;
    receipts_hold(&world, &outcome, told).await;
    // Terms that are changed now are none of this interval's.
    world.community.terms = Terms::default();
    let inputs = summary.inputs.unwrap();
    let again = world.run(&outcome, Run::Initial).await;
    assert_eq!((again.again, again.inputs), (true, Some(inputs)));
    let last = world.run(&outcome, Run::Final).await;
    assert_ne!(last.inputs, Some(inputs), "the run is one of the inputs");
    world.checkpoint(interval(0).end().plus_s(864_000)).await;
    receipts_hold(&world, &outcome, told).await;
    world.check().await;
    let month = LocalMonth::parse("2026-06", "UTC".parse().unwrap()).unwrap();
    for name in HOMES {
        let made = interval(9).end();
        let made = statement(&world.db, &world.community.id, 900, &who(name), month, made).await;
        made.unwrap().unwrap().check().unwrap();
    }
    world
}

#[tokio::test]
async fn each_policy_is_posted_corrected_and_proven() {
    let two = Terms {
        policy: DeviationPolicy::TwoPrice,
        ..Terms::default()
    };
    let world = whole_life(two, &[("\"two-price\"", "\"pooled\"")]).await;
    assert_eq!(
        token(&world, Chart::Statement, "home-a").await,
        -200 * 320_000
    );
    assert_eq!(
        token(&world, Chart::Statement, "home-c").await,
        400 * 80_000
    );
    let single = Terms {
        policy: DeviationPolicy::SinglePrice,
        ..Terms::default()
    };
    let world = whole_life(single, &[("\"long\"", "\"short\"")]).await;
    // Energy was over, so both directions are at the feed-in price; what neighbours gave also paid the network.
    assert_eq!(
        token(&world, Chart::Statement, "home-a").await,
        -200 * (80_000 + 70_000)
    );
    assert_eq!(
        token(&world, Chart::Statement, "home-b").await,
        150 * 80_000
    );
    let spread = Terms {
        spread: "0.01".parse().unwrap(),
        ..Terms::default()
    };
    let told = [("\"spread\": \"0.010000\"", "\"spread\": \"0.020000\"")];
    let world = whole_life(spread, &told).await;
    assert_eq!(token(&world, Chart::Community, "-").await, 2 * 200 * 10_000);
    assert_eq!(
        token(&world, Chart::Statement, "home-a").await,
        -200 * (132_000 + 10_000 + 70_000)
    );
}

#[tokio::test]
async fn the_fee_goes_to_the_community_and_the_holdback_comes_back() {
    let terms = Terms {
        community_fee_bp: 200,
        holdback_bp: 1000,
        ..Terms::default()
    };
    let mut world = World::under(&HOMES, flat(), terms).await;
    let outcome = traded(&mut world, 0).await;
    world.run(&outcome, Run::Provisional).await;
    let income = 132_000_000;
    let (fee, kept) = (income / 50, (income - income / 50) / 10);
    assert_eq!(token(&world, Chart::Community, "-").await, fee);
    assert_eq!(token(&world, Chart::Holdback, "home-b").await, kept);
    assert_eq!(
        token(&world, Chart::Available, "home-b").await,
        income - fee - kept
    );
    world.run(&outcome, Run::Initial).await;
    assert_eq!(token(&world, Chart::Holdback, "home-b").await, kept);
    world.run(&outcome, Run::Final).await;
    world.check().await;
    assert_eq!(token(&world, Chart::Holdback, "home-b").await, 0);
    assert_eq!(
        token(&world, Chart::Available, "home-b").await,
        income - fee
    );
    kept_too_long(&world).await;
    let world = whole_life(terms, &[("\"holdback_bp\": 1000", "\"holdback_bp\": 0")]).await;
    assert_eq!(
        token(&world, Chart::Available, "home-b").await,
        income - fee
    );
    let month = LocalMonth::parse("2026-06", "UTC".parse().unwrap()).unwrap();
    let (seller, at) = (who("home-b"), interval(9).end());
    let made = statement(&world.db, &world.community.id, 900, &seller, month, at).await;
    let made = made.unwrap().unwrap();
    assert_eq!(made.total.community_fee, Money::from_nano(-fee));
    assert_eq!(made.closing.holdback, Money::ZERO);
}

/// Books in which income is still held back after the final run are not opened.
async fn kept_too_long(world: &World) {
    let interval = interval(0);
    let account = |text: &str| text.parse().unwrap();
    let posting = Posting {
        id: PostingId([9; 16]),
        asset: Asset::Token,
        debit: account("100/home-b"),
        credit: account("110/home-b"),
        amount: 1,
        purpose: Purpose::Holdback,
        interval: Some(interval),
        run: Some(Run::Final),
        reference: None,
    };
    let mut tx = world.db.begin().await.unwrap();
    let now = interval.end();
    post(&mut tx, now, &[posting.clone(), posting.clone()])
        .await
        .unwrap();
    let other = Posting {
        amount: 2,
        ..posting
    };
    let error = post(&mut tx, now, &[other]).await.unwrap_err();
    assert!(
        matches!(error, ServiceError::Conflict(_)),
        "same id, other content: {error}"
    );
    tx.commit().await.unwrap();
    assert_eq!(token(world, Chart::Holdback, "home-b").await, 1);
    let error = check_books(&world.db).await.unwrap_err();
    assert!(matches!(error, BooksError::Holdback { .. }), "{error}");
}

#[tokio::test]
async fn the_tariff_is_looked_up_by_the_interval_and_steps_count_the_month() {
    let mut world = World::under(&HOMES, versions(), Terms::default()).await;
    let first = traded(&mut world, 0).await;
    let summary = world.run(&first, Run::Provisional).await;
    assert_eq!(summary.tariff.as_deref(), Some("one"));
    // 1600 Wh from the utility, and 50 in the first interval: it had no steps, and counts all the same.
    let alone = |world: &World, n| world.outcome(n, &[], &[], "0.1");
    let second = alone(&world, 1);
    world.contract(&second).await;
    for (name, import_wh) in [("home-a", 1600), ("home-b", 0), ("home-c", 100)] {
        world.meter(name, 1, import_wh, 0).await;
    }
    let before = token(&world, Chart::Statement, "home-a").await;
    let summary = world.run(&second, Run::Provisional).await;
    assert_eq!(summary.tariff.as_deref(), Some("two"));
    let paid = before - token(&world, Chart::Statement, "home-a").await;
    assert_eq!(paid, 950 * 300_000 + 650 * 500_000);
    let third = traded(&mut world, 2).await;
    world.run(&third, Run::Provisional).await;
    let lines = recent_lines(&world.db, interval(2)).await.unwrap();
    assert_eq!(lines[0].tiers.as_ref().unwrap().used_wh.wh(), 1650);
    world.checkpoint(interval(3).end()).await;
    let told = [
        ("\"tariff\": \"two\"", "\"tariff\": \"one\""),
        ("\"retail\": \"0.500000\"", "\"retail\": \"0.400000\""),
    ];
    receipts_hold(&world, &third, &told).await;
    world.check().await;
}
