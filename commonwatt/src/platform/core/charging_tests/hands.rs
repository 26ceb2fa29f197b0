//! A station that changes hands, and one that leaves `site.toml`: its old months stay what they were.

use settlement::calendar::{LocalMonth, Zone};
use settlement::charging::profit::Report;

use super::*;
use crate::view::stations;

/// The month of the sessions as it is told later.
async fn told(bench: &Bench) -> Report {
    let (db, site) = (&bench.shared().db, &bench.shared().site);
    let known = stations::known(db, site).await.unwrap();
    let known = known.into_iter().find(|one| one.id == STATION).unwrap();
    let month = LocalMonth::containing(START, Zone::from(site.time_zone)).unwrap();
    let later = month.bounds().unwrap().1.plus_s(86_400);
    let report = stations::report(db, &known, month, known.own_figures(), later);
    report.await.unwrap().unwrap()
}

#[tokio::test]
async fn the_months_of_a_station_that_changed_hands_or_has_left_stay_what_they_were() {
    let mut bench = Bench::new().await;
    bench.begins(promise()).await;
    for n in 0..=2 {
        for point in ["ann.meter", "bob.meter"] {
            bench.reads(point, n, 0).await;
        }
        bench.reads(STATION, n, 2_750 * i64::from(n > 0)).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    let end = interval(2).end();
    charging::stop(bench.shared(), SESSION, end.plus_s(20))
        .await
        .unwrap()
        .unwrap();
    // What flows without a session is the host's.
    for n in 3..=4 {
        bench.reads(STATION, n, 1_000).await;
        bench.beats(interval(n).end().plus_s(10)).await;
    }
    bench.beats(interval(4).end().plus_s(310)).await;
    let before = told(&bench).await;
    assert_eq!((before.host.as_str(), before.sums.sessions), ("ann", 1));
    let outside = before.sums.outside.total().unwrap().nano();
    assert!(outside >= 500_000_000, "{outside}");

    let bobs = site_with(&format!(
        "[[stations]]\npoint = \"{STATION}\"\nhost = \"bob\"\nshares = {{ bob = 10000 }}\n"
    ));
    let now = interval(5).start();
    let mut bench = bench.restarts_as(bobs, now).await;
    assert_eq!(told(&bench).await, before, "it was ann's then");
    // From now on it is bob's.
    bench.reads(STATION, 5, 1_000).await;
    bench.beats(interval(5).end().plus_s(310)).await;
    let both = told(&bench).await;
    let bob = both.sums.shares["bob"].nano();
    assert!(bob <= -250_000_000, "{bob}");
    assert_eq!(both.sums.shares["ann"], before.sums.shares["ann"]);
    assert_eq!(both.host, "ann, bob");

    let bench = bench.restarts_as(site_with(""), interval(6).start()).await;
    assert_eq!(told(&bench).await.sums, both.sums, "it has left site.toml");
    assert_eq!(told(&bench).await.owners, promise().owners);
    let (db, operator) = (&bench.shared().db, &bench.shared().community.operator);
    books::check_books_whole(db, operator).await.unwrap();
}
