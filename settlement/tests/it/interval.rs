//! Whole intervals: from a deposit to a settled, corrected and provable trade.

use domain::money::Price;
use domain::order::Side;
use domain::posting::{Asset, Chart, Run};
use proptest::prelude::*;
use settlement::service::{
    Holds, balances_sum_to_zero, day_money, interval_totals, lines_of, point_states, receipt,
    recent_lines, runs_due, unproven_since,
};

use crate::world::{Outcome, World, interval, price, who};

/// Home a buys 1000 Wh from home b at 0.132.
async fn traded(world: &mut World) -> Outcome {
    world.deposit("home-a", "10").await;
    let bid = world.order("home-a", Side::Bid, 0, 1200, "0.2");
    let offer = world.order("home-b", Side::Offer, 0, 1000, "0.1");
    assert!(world.hold(&bid).await && world.hold(&offer).await);
    let outcome = world.outcome(0, &[bid, offer], &[(0, 1, 1000)], "0.132");
    world.contract(&outcome).await;
    outcome
}

/// Each home's receipt of the first trade holds, and has so many lines.
async fn receipts_hold(world: &World, outcome: &Outcome, lines: usize) {
    for name in ["home-a", "home-b"] {
        let (db, trade) = (&world.db, outcome.trades[0].id);
        let receipt = receipt(db, &world.community, trade, &who(name))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(receipt.lines.len(), lines);
        let text = settlement::prove::to_text(&receipt).unwrap();
        let report = settlement::prove::verify(&text, None);
        assert!(report.holds(), "{name}: {report:?}");
    }
}

async fn token(world: &World, chart: Chart, name: &str) -> i64 {
    world.balance(Asset::Token, chart, name).await
}

async fn whole_interval(mut world: World) {
    let outcome = traded(&mut world).await;
    let held = token(&world, Chart::Held, "home-a").await;
    assert_eq!(
        held,
        1000 * (132_000 + 70_000),
        "the hold shrinks to the trade"
    );
    world.meter("home-a", 0, 1200, 0).await;
    world.meter("home-b", 0, 0, 1150).await;
    assert!(
        runs_due(&world.db, interval(0).end())
            .await
            .unwrap()
            .is_empty()
    );
    world.meter("feeder", 0, 60, 0).await;
    let due = runs_due(&world.db, interval(0).end()).await.unwrap();
    assert_eq!(
        due,
        [(interval(0), Run::Provisional)],
        "all meters are in: no waiting"
    );
    let summary = world.run(&outcome, Run::Provisional).await;
    assert_eq!(
        (summary.again, summary.lines, summary.substituted),
        (false, 2, 0)
    );
    assert_eq!(
        (summary.balance.lost.wh(), summary.balance.feeder_metered),
        (10, true)
    );
    paid_by_hand(&world).await;
    world.checkpoint(interval(0).end().plus_s(60)).await;
    receipts_hold(&world, &outcome, 1).await;
    a_day_in_money(&world).await;
    world.check().await;
}

/// What the two homes have after the interval, worked out by hand.
async fn paid_by_hand(world: &World) {
    assert_eq!(token(world, Chart::Held, "home-a").await, 0);
    assert_eq!(token(world, Chart::Available, "home-b").await, 132_000_000);
    let statement = token(world, Chart::Statement, "home-a").await;
    assert_eq!(statement, -(150 * (132_000 + 70_000) + 50 * 320_000));
    assert_eq!(
        token(world, Chart::Statement, "home-b").await,
        150 * 132_000
    );
    assert_eq!(
        world.balance(Asset::WattHour, Chart::Meter, "home-a").await,
        1200
    );
    world.check().await;
}

async fn a_day_in_money(world: &World) {
    let money = day_money(&world.db, interval(0).start(), interval(1).start())
        .await
        .unwrap();
    let a = &money[0];
    assert_eq!(
        (a.participant.as_str(), a.bought.to_string().as_str()),
        ("home-a", "0.132000000")
    );
    let paid = a.bought.nano() + a.fees.nano() - a.pool.nano() - a.utility.nano();
    assert_eq!((a.sold.nano(), a.net.nano()), (0, -paid));
    what_pages_show(world).await;
}

/// The same interval as an operator and as its home sees it.
async fn what_pages_show(world: &World) {
    let (db, from, to) = (&world.db, interval(0).start(), interval(1).start());
    let lines = lines_of(db, &who("home-a"), from, to).await.unwrap();
    let recent = recent_lines(db, interval(0)).await.unwrap();
    let own: Vec<_> = recent
        .into_iter()
        .filter(|l| l.participant == who("home-a"))
        .collect();
    assert_eq!(lines, own);
    let totals = interval_totals(db, from, to).await.unwrap();
    assert_eq!(
        (totals.len(), totals[0].start, totals[0].feeder_metered),
        (1, from, true)
    );
    assert_eq!((totals[0].imported.wh(), totals[0].exported.wh()), (60, 0));
    let all = point_states(db, None, from, to).await.unwrap();
    assert!(
        all.iter().all(|p| p.accepted == 1 && p.refused == 0),
        "{all:?}"
    );
    let own = point_states(db, Some(&who("home-a")), from, to)
        .await
        .unwrap();
    let names: Vec<_> = own
        .iter()
        .map(|p| (p.point.as_str(), p.newest.map(|n| n.0)))
        .collect();
    assert_eq!(names, [("home-a", Some(from))]);
    let later = point_states(db, Some(&who("home-a")), to, to.plus_s(900))
        .await
        .unwrap();
    assert_eq!(
        (later[0].accepted, later[0].newest),
        (0, None),
        "missing, not nought"
    );
    assert!(balances_sum_to_zero(db).await.unwrap());
    assert!(unproven_since(db, from).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_whole_interval_on_sqlite() {
    whole_interval(World::on_sqlite(&["home-a", "home-b"]).await).await;
}

#[tokio::test]
async fn a_whole_interval_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a", "home-b"]).await {
        whole_interval(world).await;
    }
}

#[tokio::test]
async fn a_missing_meter_is_substituted_and_corrected_by_the_next_run() {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    let outcome = traded(&mut world).await;
    world.meter("home-b", 0, 0, 1150).await;
    let due = runs_due(&world.db, interval(0).end().plus_s(299))
        .await
        .unwrap();
    assert!(due.is_empty(), "a missing meter is waited for");
    let due = runs_due(&world.db, interval(0).end().plus_s(300))
        .await
        .unwrap();
    assert_eq!(due, [(interval(0), Run::Provisional)], "but not for long");
    let first = world.run(&outcome, Run::Provisional).await;
    assert_eq!(
        (first.substituted, first.balance.feeder_metered),
        (1, false)
    );
    assert_eq!(token(&world, Chart::Statement, "home-a").await, 0);
    world.check().await;

    world.meter("home-a", 0, 1200, 0).await;
    let second = world.run(&outcome, Run::Initial).await;
    assert_eq!((second.substituted, second.lines), (0, 2));
    let statement = token(&world, Chart::Statement, "home-a").await;
    assert_eq!(
        statement,
        -(150 * (132_000 + 70_000) + 50 * 320_000),
        "as if it had been in time"
    );
    assert_eq!(token(&world, Chart::Available, "home-b").await, 132_000_000);
    let lines = recent_lines(&world.db, interval(0)).await.unwrap();
    assert!(lines.iter().all(|line| line.run == Run::Initial));
    let trades_again = lines[0].postings.iter().any(|p| p.reference.is_some());
    assert!(
        !trades_again,
        "the trade did not change, so it is not posted again"
    );
    world.check().await;

    let third = world.run(&outcome, Run::Final).await;
    assert_eq!((third.postings, third.lines, third.again), (0, 0, false));
    let due = runs_due(&world.db, interval(0).end().plus_s(60 * 86_400))
        .await
        .unwrap();
    assert_eq!(
        due,
        [(interval(0), Run::TrueUp)],
        "a run without a difference is recorded too"
    );

    world.checkpoint(interval(1).end()).await;
    receipts_hold(&world, &outcome, 2).await;
}

#[tokio::test]
async fn a_substitute_is_the_same_interval_of_the_day_before() {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    world.meter("home-a", 0, 777, 0).await;
    let outcome = world.outcome(96, &[], &[], "0.1");
    world.contract(&outcome).await;
    world.meter("home-b", 96, 0, 300).await;
    world.run(&outcome, Run::Provisional).await;
    let lines = recent_lines(&world.db, interval(96)).await.unwrap();
    assert_eq!(lines[0].delivery.imported.wh(), 777);
    assert_eq!(lines[0].delivery.quality.word(), "estimated");
    assert_eq!(
        (lines[0].pooled_wh.wh(), lines[0].utility_wh.wh()),
        (-300, -477)
    );
    assert_eq!(
        lines[0].prices.pool.to_string(),
        "0.165000",
        "nothing traded: the middle"
    );
}

#[tokio::test]
async fn the_same_calls_again_have_no_effect_and_a_dropped_transaction_leaves_nothing() {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    let outcome = traded(&mut world).await;
    world.meter("home-a", 0, 1200, 0).await;
    let before = settlement::service::balances(&world.db).await.unwrap();
    {
        let mut tx = world.db.begin().await.unwrap();
        let (clearing, trades) = (&outcome.clearing, &outcome.trades);
        let now = interval(0).end().plus_s(300);
        let (run, at) = (Run::Provisional, interval(0));
        let summary = settlement::service::run_interval(
            &mut tx,
            &world.community,
            now,
            at,
            run,
            clearing,
            trades,
        );
        assert!(summary.await.unwrap().postings > 0);
    }
    assert_eq!(
        settlement::service::balances(&world.db).await.unwrap(),
        before
    );
    let first = world.run(&outcome, Run::Provisional).await;
    assert!(!first.again, "the dropped run left nothing");
    let after = settlement::service::balances(&world.db).await.unwrap();
    assert_ne!(after, before);

    world.deposit("home-a", "10").await;
    world.hold(&outcome.orders[0].0).await;
    world.contract(&outcome).await;
    let again = world.run(&outcome, Run::Provisional).await;
    assert!(again.again);
    assert_eq!(
        (again.postings, again.balance),
        (first.postings, first.balance)
    );
    assert_eq!(
        settlement::service::balances(&world.db).await.unwrap(),
        after
    );
    world.check().await;
}

#[tokio::test]
async fn an_empty_wallet_stops_buying_and_a_withdrawn_bid_frees_its_hold() {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    world.deposit("home-a", "0.5").await;
    let (too_large, fits) = (
        world.order("home-a", Side::Bid, 0, 2000, "0.2"),
        world.order("home-a", Side::Bid, 0, 1500, "0.2"),
    );
    assert!(!world.hold(&too_large).await);
    assert!(world.hold(&fits).await);
    assert_eq!(token(&world, Chart::Available, "home-a").await, 95_000_000);
    let mut tx = world.db.begin().await.unwrap();
    for _ in 0..2 {
        let now = interval(-1).start();
        let holds = Holds::of(&mut tx, &world.community, now, &[], &[fits.id()]).await;
        let mut holds = holds.unwrap();
        holds.release(fits.id()).unwrap();
        holds.write(&mut tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(token(&world, Chart::Available, "home-a").await, 500_000_000);
    world.check().await;
}

#[tokio::test]
async fn an_interval_keeps_the_network_fee_of_its_first_bid() {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    world.deposit("home-a", "10").await;
    let bid = world.order("home-a", Side::Bid, 0, 1000, "0.2");
    let offer = world.order("home-b", Side::Offer, 0, 1000, "0.1");
    assert!(world.hold(&bid).await);
    let (low, high) = ("0.07".parse().unwrap(), "0.09".parse().unwrap());
    let mut tariff = world.community.tariff.base();
    assert_eq!(tariff.network_fee, low);
    tariff.network_fee = high;
    world.community.tariff = tariff.into();
    let late = world.order("home-a", Side::Bid, 0, 1000, "0.2");
    assert!(world.hold(&late).await);
    let held = token(&world, Chart::Held, "home-a").await;
    assert_eq!(held, 2 * 1000 * (200_000 + 70_000));
    let orders = [bid, late, offer];
    let outcome = world.outcome(0, &orders, &[(0, 2, 500), (1, 2, 500)], "0.2");
    world.contract(&outcome).await;
    world.check().await;
}

#[tokio::test]
async fn fees_by_zone_are_charged_once_and_sum_to_the_network_account() {
    let mut world = World::on_sqlite(&["home-a", "home-b", "home-c"]).await;
    world.community.zone_fee_max = Some("0.09".parse().unwrap());
    world.deposit("home-a", "10").await;
    world.deposit("home-b", "10").await;
    let near = world.order("home-a", Side::Bid, 0, 600, "0.2");
    let far = world.order("home-b", Side::Bid, 0, 500, "0.2");
    let offer = world.order("home-c", Side::Offer, 0, 900, "0.1");
    assert!(world.hold(&near).await && world.hold(&far).await);
    // Each bid holds its limit and the largest fee.
    let held = token(&world, Chart::Held, "home-b").await;
    assert_eq!(held, 500 * (200_000 + 90_000));
    let mut tx = world.db.begin().await.unwrap();
    let promised = settlement::service::promised_fees(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let start_s = interval(0).start_s();
    assert_eq!(promised.get(&start_s), Some(&"0.09".parse().unwrap()));
    let orders = [near, far, offer];
    let mut outcome = world.outcome(0, &orders, &[(0, 2, 600), (1, 2, 300)], "0.15");
    outcome.trades[0].network_fee = Some("0.01".parse().unwrap());
    outcome.trades[1].network_fee = Some("0.09".parse().unwrap());
    world.contract(&outcome).await;
    let held = token(&world, Chart::Held, "home-b").await;
    assert_eq!(held, 300 * (150_000 + 90_000));
    for (home, import, export) in [("home-a", 600, 0), ("home-b", 300, 0), ("home-c", 0, 900)] {
        world.meter(home, 0, import, export).await;
    }
    world.run(&outcome, Run::Provisional).await;
    let network = token(&world, Chart::Network, "-").await;
    assert_eq!(network, 600 * 10_000 + 300 * 90_000);
    // The seller has the price, and no fee; nothing is held any more.
    assert_eq!(
        token(&world, Chart::Available, "home-c").await,
        900 * 150_000
    );
    assert_eq!(token(&world, Chart::Held, "home-a").await, 0);
    assert_eq!(token(&world, Chart::Held, "home-b").await, 0);
    world.check().await;
    world.checkpoint(interval(2).start()).await;
    let (far, buyer) = (outcome.trades[1].id, who("home-b"));
    let kept = receipt(&world.db, &world.community, far, &buyer);
    let mut kept = kept.await.unwrap().unwrap();
    let holds = |receipt: &domain::receipt::Receipt| {
        let text = settlement::prove::to_text(receipt).unwrap();
        settlement::prove::verify(&text, None).holds()
    };
    assert!(holds(&kept));
    kept.trade.content.network_fee = Some("0.01".parse().unwrap());
    assert!(!holds(&kept), "a receipt with another fee was taken");
}

#[tokio::test]
async fn a_premium_for_green_energy_is_held_paid_and_proven_and_nobody_else_pays_it() {
    let mut world = World::on_sqlite(&["home-a", "home-b", "home-c"]).await;
    world.deposit("home-a", "10").await;
    let mut bid = world.order("home-a", Side::Bid, 0, 1000, "0.2");
    bid.preference.green_premium = price("0.02");
    let mut green = world.order("home-b", Side::Offer, 0, 600, "0.1");
    green.preference.green = true;
    let grey = world.order("home-c", Side::Offer, 0, 600, "0.1");
    assert!(world.hold(&bid).await);
    let fee = 70_000;
    let held = token(&world, Chart::Held, "home-a").await;
    assert_eq!(held, 1000 * (220_000 + fee));
    let orders = [bid, green, grey];
    let mut outcome = world.outcome(0, &orders, &[(0, 1, 600), (0, 2, 400)], "0.2");
    outcome.trades[0].price = price("0.22");
    let refused = async |outcome: &Outcome| {
        let mut tx = world.db.begin().await.unwrap();
        let (now, community) = (interval(-1).start(), &world.community);
        let (clearing, trades) = (&outcome.clearing, &outcome.trades);
        settlement::service::contract(&mut tx, community, now, clearing, trades, &outcome.orders)
            .await
            .is_err()
    };
    let mut dear = outcome.clone();
    dear.trades[0].price = price("0.220001");
    assert!(refused(&dear).await, "above limit and premium");
    let mut grey_too = outcome.clone();
    grey_too.trades[1].price = price("0.21");
    assert!(
        refused(&grey_too).await,
        "a premium for energy that is not green"
    );
    world.contract(&outcome).await;
    for (home, import, export) in [("home-a", 1000, 0), ("home-b", 0, 600), ("home-c", 0, 400)] {
        world.meter(home, 0, import, export).await;
    }
    world.run(&outcome, Run::Provisional).await;
    let sold = token(&world, Chart::Available, "home-b").await;
    assert_eq!(sold, 600 * 220_000);
    let sold = token(&world, Chart::Available, "home-c").await;
    assert_eq!(sold, 400 * 200_000);
    assert_eq!(token(&world, Chart::Held, "home-a").await, 0);
    world.check().await;
    world.checkpoint(interval(2).start()).await;
    let holds = async |n: usize, home: &str, change: fn(&mut domain::receipt::Receipt)| {
        let trade = outcome.trades[n].id;
        let kept = receipt(&world.db, &world.community, trade, &who(home)).await;
        let mut kept = kept.unwrap().unwrap();
        change(&mut kept);
        let text = settlement::prove::to_text(&kept).unwrap();
        settlement::prove::verify(&text, None).holds()
    };
    for (n, home) in [(0, "home-a"), (0, "home-b"), (1, "home-a"), (1, "home-c")] {
        assert!(holds(n, home, |_| ()).await, "{n} {home}");
    }
    let cheaper: fn(&mut domain::receipt::Receipt) =
        |kept| kept.trade.content.price = Price::from_micro_per_kwh(200_000);
    assert!(!holds(0, "home-b", cheaper).await);
}

#[tokio::test]
async fn a_run_is_due_only_when_contracted_and_a_failing_one_goes_to_the_back() {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    for n in 0..3 {
        world.meter("home-a", n, 10, 0).await;
    }
    let now = interval(9).start();
    assert_eq!(runs_due(&world.db, now).await.unwrap(), []);
    for n in 1..3 {
        let outcome = world.outcome(n, &[], &[], "0.1");
        world.contract(&outcome).await;
    }
    let run = Run::Provisional;
    let both = [(interval(1), run), (interval(2), run)];
    assert_eq!(runs_due(&world.db, now).await.unwrap(), both);
    let mut tx = world.db.begin().await.unwrap();
    settlement::service::postpone(&mut tx, interval(1), run, now)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(runs_due(&world.db, now).await.unwrap(), both[1..]);
    let later = runs_due(&world.db, now.plus_s(300)).await.unwrap();
    assert_eq!(later, [both[1], both[0]]);
}

#[tokio::test]
async fn a_trade_that_its_orders_did_not_ask_for_is_not_contracted() {
    let mut world = World::on_sqlite(&["home-a", "home-b", "home-c"]).await;
    world.deposit("home-a", "10").await;
    let bid = world.order("home-a", Side::Bid, 0, 1000, "0.2");
    let offer = world.order("home-b", Side::Offer, 0, 600, "0.1");
    let other = world.order("home-c", Side::Offer, 0, 600, "0.1");
    world.hold(&bid).await;
    let orders = [bid, offer, other];
    let refused = async |fills: &[(usize, usize, i64)], at: &str, buyer: &str| {
        let mut outcome = world.outcome(0, &orders, fills, at);
        outcome.trades[0].buyer = who(buyer);
        let mut tx = world.db.begin().await.unwrap();
        let (now, community) = (interval(-1).start(), &world.community);
        let (clearing, trades) = (&outcome.clearing, &outcome.trades);
        settlement::service::contract(&mut tx, community, now, clearing, trades, &outcome.orders)
            .await
            .is_err()
    };
    assert!(!refused(&[(0, 1, 600), (0, 2, 400)], "0.15", "home-a").await);
    assert!(
        refused(&[(0, 1, 600), (0, 2, 401)], "0.15", "home-a").await,
        "overfilled"
    );
    assert!(
        refused(&[(0, 1, 601)], "0.15", "home-a").await,
        "overfilled"
    );
    assert!(
        refused(&[(0, 1, 600)], "0.201", "home-a").await,
        "above the bid"
    );
    assert!(
        refused(&[(0, 1, 600)], "0.099", "home-a").await,
        "below the offer"
    );
    assert!(
        refused(&[(0, 1, 600)], "0.15", "home-c").await,
        "another buyer"
    );
    assert!(
        refused(&[(1, 0, 600)], "0.15", "home-b").await,
        "sides exchanged"
    );
}

#[tokio::test]
async fn the_services_can_be_spawned() {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    let outcome = traded(&mut world).await;
    let (db, community, gateway) = (
        world.db.clone(),
        world.community.clone(),
        world.gateway.clone(),
    );
    let reading = world.read("home-a", 0, 10, 0);
    let bytes = crate::world::sign(&world.gateway_key, &community, &reading);
    let spawned = tokio::spawn(async move {
        use settlement::service as s;
        let now = interval(0).end().plus_s(300);
        let mut tx = db.begin().await.unwrap();
        s::accept_reading(&mut tx, &community, now, &gateway, bytes)
            .await
            .unwrap();
        s::acceptance(&mut tx, &community, now, &gateway, &reading.point)
            .await
            .unwrap();
        let (clearing, trades, run) = (&outcome.clearing, &outcome.trades, Run::Provisional);
        s::contract(&mut tx, &community, now, clearing, trades, &outcome.orders)
            .await
            .unwrap();
        let at = interval(0);
        s::run_interval(&mut tx, &community, now, at, run, clearing, trades)
            .await
            .unwrap();
        s::checkpoint(&mut tx, &community, now).await.unwrap();
        tx.commit().await.unwrap();
        s::check_books(&db).await.unwrap();
        s::receipt(&db, &community, trades[0].id, &who("home-a"))
            .await
            .unwrap()
    });
    assert!(spawned.await.unwrap().is_some());
}

const PARTIES: usize = 20;

fn names() -> Vec<String> {
    (0..PARTIES).map(|n| format!("home-{n:02}")).collect()
}

type Flows = Vec<(i64, i64)>;
type Fills = Vec<(usize, usize, i64)>;

async fn random_interval(flows: &Flows, fills: &Fills, missing: usize, feeder: i64) {
    let names = names();
    let homes: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::on_sqlite(&homes).await;
    let mut orders = Vec::new();
    let mut pairs = Vec::new();
    for (buyer, seller, wh) in fills.iter().filter(|(b, s, _)| b != s) {
        let bid = world.order(homes[*buyer], Side::Bid, 0, wh + 7, "0.21");
        let offer = world.order(homes[*seller], Side::Offer, 0, *wh, "0.1");
        if !world.hold(&bid).await {
            world.deposit(homes[*buyer], "1").await;
            if !world.hold(&bid).await {
                continue;
            }
        }
        pairs.push((orders.len(), orders.len() + 1, *wh));
        orders.extend([bid, offer]);
    }
    let outcome = world.outcome(0, &orders, &pairs, "0.15");
    world.contract(&outcome).await;
    for (index, (import_wh, export_wh)) in flows.iter().enumerate() {
        if index != missing {
            world.meter(homes[index], 0, *import_wh, *export_wh).await;
        }
    }
    world.run(&outcome, Run::Provisional).await;
    world.check().await;
    world
        .meter(homes[missing], 0, flows[missing].0, flows[missing].1)
        .await;
    world.meter("feeder", 0, feeder, 0).await;
    world.run(&outcome, Run::Initial).await;
    world.check().await;
    for asset in [Asset::Token, Asset::WattHour] {
        let all = settlement::service::balances(&world.db).await.unwrap();
        let of_asset = all.iter().filter(|b| b.asset == asset);
        assert_eq!(of_asset.map(|b| i128::from(b.balance)).sum::<i128>(), 0);
        assert_eq!(world.balance(asset, Chart::Pool, "-").await, 0);
        let below = |b: &&settlement::service::AccountBalance| {
            b.account.chart().never_below_zero() && b.balance < 0
        };
        assert_eq!(all.iter().find(below), None);
    }
    let held: i64 = {
        let all = settlement::service::balances(&world.db).await.unwrap();
        all.iter()
            .filter(|b| b.account.chart() == Chart::Held)
            .map(|b| b.balance)
            .sum()
    };
    assert_eq!(held, 0, "every hold was paid out or given back");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn random_intervals_keep_the_books(
        flows in proptest::collection::vec((0_i64..3000, 0_i64..3000), PARTIES),
        fills in proptest::collection::vec((0..PARTIES, 0..PARTIES, 1_i64..900), 0..15),
        missing in 0..PARTIES,
        feeder in 0_i64..9000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(random_interval(&flows, &fills, missing, feeder));
    }
}
