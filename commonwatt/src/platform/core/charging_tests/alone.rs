//! The comparison with the utility is the same on the page of a home and on its statement: on a tariff's steps, and after
//! the tariff has changed.

use settlement::calendar::{LocalMonth, Zone};
use settlement::statement::Statement;

use super::*;
use crate::platform::snapshot::{Known, gather};
use crate::view;

const PLAIN: &str = "[tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n";
const DAY: i64 = 96;

/// The month's first kilowatt-hour costs 0.30, each further one 0.50.
const STEPS: &str = "time_zone = \"UTC\"\n[[version]]\nname = \"steps\"\nvalid_from = \"2026-06-01T00:00:00Z\"\n\
    kind = \"tiered\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
    [[version.step]]\nfrom_kwh = 0\nretail = \"0.30\"\n[[version.step]]\nfrom_kwh = 1\nretail = \"0.50\"\n";

/// A lane with the tariff of a file in this folder.
fn tiered(folder: &Path) -> Site {
    std::fs::write(folder.join("steps.toml"), STEPS).unwrap();
    with(folder, "[tariff]\nfile = \"steps.toml\"\n")
}

fn with(folder: &Path, tariff: &str) -> Site {
    let text = text_with("");
    assert!(text.contains(PLAIN), "{text}");
    Site::from_toml(&text.replace(PLAIN, tariff), &folder.join("site.toml")).unwrap()
}

/// Interval `n` is cleared, Ann's meter counts so much in it, and it is settled.
async fn settled(bench: &mut Bench, n: i64, wh: i64) {
    bench.beats(interval(n).start().plus_s(10)).await;
    bench.reads("ann.meter", n, wh).await;
    bench.beats(interval(n).end().plus_s(310)).await;
}

async fn page(bench: &Bench, known: &mut Known) -> view::Day {
    let street = gather(bench.shared(), known).await.unwrap();
    let ann = street.homes.iter().find(|home| home.id.as_str() == "ann");
    ann.unwrap().day
}

async fn statement(bench: &Bench) -> Statement {
    let shared = bench.shared();
    let month = LocalMonth::containing(START, Zone::from(shared.site.time_zone)).unwrap();
    let (ann, now) = (ParticipantId::new("ann").unwrap(), interval(2 * DAY).end());
    let (db, community) = (&shared.db, &shared.site.community);
    let made = books::statement(db, community, 900, &ann, month, now).await;
    made.unwrap().unwrap()
}

/// What both say of the second day, which must be the same.
async fn on_both(bench: &Bench, known: &mut Known) -> Money {
    let day = page(bench, known).await;
    let made = statement(bench).await;
    let told = made.days.iter().find(|day| day.date == "2026-06-22");
    let told = told.unwrap();
    assert_eq!(
        (told.alone.net, told.sums.imported),
        (day.utility_alone, day.imported)
    );
    let runs: i64 = made.runs.iter().map(|run| run.alone.nano()).sum();
    assert_eq!(runs, made.alone.net.nano());
    // The month's first kilowatt-hour was used before: all of the day is on the upper step.
    assert_eq!(day.utility_alone.nano(), day.imported.wh() * -500_000);
    assert!(day.imported.wh() >= 700, "{:?}", day.imported);
    day.utility_alone
}

#[tokio::test]
async fn page_and_statement_compare_with_the_utility_by_one_rule() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tiered = || tiered(files.path());
    let meters = std::collections::BTreeMap::new();
    let mut bench = Bench::at(tiered(), dir, meters, START).await;
    // The market begins; then 1.2 kWh on the first day.
    bench.beats(interval(0).start().plus_s(10)).await;
    settled(&mut bench, 2, 1_200).await;
    let at = |n: i64| interval(n).end().plus_s(320);
    let mut bench = bench.restarts_as(tiered(), at(DAY)).await;
    let mut known = Known::default();
    settled(&mut bench, DAY, 700).await;
    let first = on_both(&bench, &mut known).await;
    let mut bench = bench.restarts_as(tiered(), at(DAY + 1)).await;
    settled(&mut bench, DAY + 1, 400).await;
    // As a later part of the day, and read anew.
    let second = on_both(&bench, &mut known).await;
    assert!(second < first);
    assert_eq!(on_both(&bench, &mut Known::default()).await, second);
    let dear = PLAIN.replace("0.30", "0.99");
    let bench = bench
        .restarts_as(with(files.path(), &dear), at(DAY + 1))
        .await;
    assert_eq!(on_both(&bench, &mut Known::default()).await, second);
}
