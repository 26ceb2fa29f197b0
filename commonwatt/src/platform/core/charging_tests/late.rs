//! A reading that comes when its session is long paid: what was too much comes back by itself, and nothing else moves.

use super::*;

/// Until when a quarter of an hour of charging was counted of which nobody knew that the car was full.
const FULL_FROM: i64 = 2;

/// A session that also pays for its time, with tax, in which the reading of interval 2 has not come.
async fn paid_without_a_reading(bench: &mut Bench) -> Vec<u8> {
    let mut timed = promise();
    timed.quote.time_per_hour = Money::from_nano(1_000_000_000);
    timed.quote.tax_ppm = 190_000;
    bench.begins(timed).await;
    let mut missing = Vec::new();
    for n in 0..=3 {
        bench.reads("ann.meter", n, 0).await;
        let wh = if n == 1 { 2_750 } else { 0 };
        match n == FULL_FROM {
            true => missing = bench.signs(STATION, n, wh),
            false => bench.reads(STATION, n, wh).await,
        }
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    let end = interval(3).end();
    let stopped = charging::stop(bench.shared(), SESSION, end.plus_s(20)).await;
    let stopped = stopped.unwrap().unwrap().session;
    assert!(matches!(stopped.state(), State::Closed(_)), "{stopped:?}");
    // Energy, and three quarters of an hour, with tax.
    let before_tax = 2_750 * 340_000 + 750_000_000;
    assert_eq!(
        stopped.bill().unwrap().total.nano(),
        before_tax + before_tax * 19 / 100
    );
    bench.beats(end.plus_s(310)).await;
    missing
}

/// What is with the driver's card, the tax and each owner, and in all accounts of the session.
async fn purses(bench: &Bench) -> [i64; 4] {
    [
        bench.balance(Chart::Bridge, "-").await,
        bench.balance(Chart::Tax, "-").await,
        bench.balance(Chart::Statement, "ann").await,
        bench.balance(Chart::Community, "-").await,
    ]
}

async fn credits(bench: &Bench) -> Vec<settlement::charging::split::Credit> {
    books::charging_credits(&bench.shared().db, SESSION)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_reading_that_comes_late_gives_back_by_itself_what_was_too_much_once() {
    let mut bench = Bench::new().await;
    let missing = paid_without_a_reading(&mut bench).await;
    let before = purses(&bench).await;
    assert!(credits(&bench).await.is_empty());
    let later = interval(3).end().plus_s(400);
    let accepted = bench.arrives(missing.clone(), later).await;
    assert!(
        matches!(accepted, ReadingOutcome::Accepted { .. }),
        "{accepted:?}"
    );
    // The platform stops before it has looked.
    let bench = bench.restarts(later.plus_s(1)).await;
    assert!(credits(&bench).await.is_empty());
    charging::beat(bench.shared(), later.plus_s(2))
        .await
        .unwrap();
    let given = credits(&bench).await;
    assert_eq!(given.len(), 1);
    // The car was full a quarter of an hour earlier than was counted; the grace time is free.
    let (net, tax) = (250_000_000, 47_500_000);
    assert_eq!(
        (given[0].refund().nano(), given[0].tax_nano),
        (net + tax, tax)
    );
    let after = purses(&bench).await;
    let moved: Vec<i64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    assert_eq!(moved, [net + tax, -tax, -net * 95 / 100, -net * 5 / 100]);
    let (db, operator) = (&bench.shared().db, &bench.shared().community.operator);
    books::check_books_whole(db, operator).await.unwrap();
    let month = bench.month().await.unwrap();
    assert_eq!((month.credits, month.refunded.nano()), (1, net + tax));

    // The same again, and once more after another start: nothing.
    let again = bench.arrives(missing, later.plus_s(3)).await;
    assert!(matches!(again, ReadingOutcome::Again { .. }), "{again:?}");
    charging::beat(bench.shared(), later.plus_s(4))
        .await
        .unwrap();
    let bench = bench.restarts(later.plus_s(5)).await;
    charging::beat(bench.shared(), later.plus_s(6))
        .await
        .unwrap();
    assert_eq!(credits(&bench).await, given);
    assert_eq!(purses(&bench).await, after);
}

#[tokio::test]
async fn a_reading_that_comes_late_and_changes_nothing_books_nothing() {
    let mut bench = Bench::new().await;
    bench.begins(promise()).await;
    let mut missing = Vec::new();
    for n in 0..=3 {
        match n == 2 {
            true => missing = bench.signs(STATION, n, 2_750),
            false => bench.reads(STATION, n, 2_750 * i64::from(n > 0)).await,
        }
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    // It comes while the car still charges, after a later one.
    let now = interval(3).end().plus_s(30);
    bench.arrives(missing, now).await;
    let db = bench.shared().db.clone();
    assert_eq!(books::charging_late(&db, "").await.unwrap(), [SESSION]);
    bench.beats(now).await;
    assert_eq!(
        books::charging_late(&db, "").await.unwrap(),
        [SESSION],
        "it has not ended"
    );
    charging::stop(bench.shared(), SESSION, now)
        .await
        .unwrap()
        .unwrap();
    bench.beats(now.plus_s(1)).await;
    assert!(books::charging_late(&db, "").await.unwrap().is_empty());
    assert!(credits(&bench).await.is_empty());
    books::check_books(&db).await.unwrap();
}

#[tokio::test]
async fn a_session_that_ended_at_its_ceiling_is_not_given_back_whole() {
    let mut bench = Bench::new().await;
    let mut dear = promise();
    dear.quote.time_per_hour = Money::from_nano(1_000_000_000);
    dear.quote.ceiling = Money::from_nano(1_600_000_000);
    bench.begins(dear).await;
    bench.reads(STATION, 0, 0).await;
    bench.reads(STATION, 1, 2_750).await;
    bench.beats(interval(1).end().plus_s(10)).await;
    let missing = bench.signs(STATION, 2, 0);
    bench.reads(STATION, 3, 0).await;
    bench.beats(interval(3).end().plus_s(10)).await;
    let ended = charging::find(bench.shared(), SESSION)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        ended.session.bill().unwrap().total,
        ended.promise.quote.ceiling
    );
    let now = interval(3).end().plus_s(400);
    bench.arrives(missing, now).await;
    bench.beats(now).await;
    let stands = credits(&bench)
        .await
        .last()
        .map(|credit| credit.new_total_nano);
    assert_eq!(stands, Some(2_750 * 340_000 + 500_000_000));
}
