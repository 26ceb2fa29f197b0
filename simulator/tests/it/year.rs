//! A year of a simulated street in the real ledger: every sum is zero, month after month, and twelve statements of each
//! home come to the ledger to the last unit.
//!
//! The simulator says what homes use, make and trade; orders and readings are signed, contracted, settled and corrected
//! by the platform's own services. The whole year takes long in a test's build: without `COMMONWATT_YEAR` it is the
//! weeks around a clock change, long enough for two ends of a month.

use std::collections::BTreeMap;

use domain::money::Money;
use domain::order::{Order, Side};
use domain::posting::{Asset, Chart, Run};
use domain::time::Timestamp;
use runtime::db::Tx;
use settlement::calendar::{LocalMonth, Zone};
use settlement::service::{
    Arrived, Holds, Moment, NewTokenRequest, ReadingOutcome, TokenKind, accept_readings, balances,
    check_books, checkpoint, confirm_tokens, contract, request_tokens, run_interval, statement,
};
use simulator::run::engine::Job;
use simulator::run::folder::{self, Request};
use simulator::run::scenario::Evidence;
use simulator::run::table::FileKind;
use simulator::run::{TableChoice, builtin};

#[path = "../../../settlement/tests/it/world.rs"]
#[expect(dead_code, reason = "the helpers of settlement's own tests")]
mod ledger;

use ledger::{Outcome, START_S, World, interval, sign, who};

/// Quarter hours of a day of UTC.
const DAY: i64 = 96;
const DAY_LONG: usize = 96;
/// One reading in so many comes two days late, and one in so many comes after the final run.
const LATE: u64 = 97;
const VERY_LATE: u64 = 4001;
const TWO_DAYS_S: i64 = 2 * 86_400;

/// What happens in an interval: who buys how much from whom at which price, and what the meters count.
#[derive(Default)]
struct Happened {
    trades: Vec<(String, String, i64, i64)>,
    flows: Vec<(String, i64, i64)>,
}

/// The local months that are lived, and the days in them.
struct Span {
    start: &'static str,
    days: u32,
    months: &'static [&'static str],
}

const YEAR: Span = Span {
    start: "2026-07-01",
    days: 365,
    months: &[
        "2026-07", "2026-08", "2026-09", "2026-10", "2026-11", "2026-12", "2027-01", "2027-02",
        "2027-03", "2027-04", "2027-05", "2027-06",
    ],
};
const WEEKS: Span = Span {
    start: "2026-10-18",
    days: 16,
    months: &["2026-10", "2026-11"],
};

/// What the simulator says of the street, by the interval's start.
fn simulated(span: &Span) -> BTreeMap<i64, Happened> {
    let out = tempfile::tempdir().unwrap();
    let mut scenario = builtin::scenario("street-10").unwrap().unwrap();
    scenario.site.start = span.start.parse().unwrap();
    scenario.site.zone = chrono_tz::Europe::Berlin;
    scenario.site.days = span.days;
    scenario.evidence = Evidence::None;
    let request = Request {
        job: Job {
            scenario,
            seed: 5,
            prices: None,
        },
        tables: Some(TableChoice::Some),
        kind: FileKind::Csv,
        threads: 1,
        out: Some(out.path().to_owned()),
    };
    let done = folder::simulate(&request, &mut |_, _| ()).unwrap();
    let place = done.folder.unwrap();
    let mut happened: BTreeMap<i64, Happened> = BTreeMap::new();
    rows(&place.join("deliveries.csv"), |start_s, column| {
        let flow = (
            column("home"),
            number(&column("import_wh")),
            number(&column("export_wh")),
        );
        happened.entry(start_s).or_default().flows.push(flow);
    });
    rows(&place.join("trades.csv"), |start_s, column| {
        let trade = (
            column("buyer"),
            column("seller"),
            number(&column("energy_wh")),
            number(&column("buyer_price_micro_per_kwh")),
        );
        happened.entry(start_s).or_default().trades.push(trade);
    });
    happened
}

fn long(count: usize) -> i64 {
    i64::try_from(count).unwrap()
}

fn number(text: &str) -> i64 {
    text.parse().unwrap()
}

fn rows(file: &std::path::Path, mut row: impl FnMut(i64, &dyn Fn(&str) -> String)) {
    let mut reader = csv::Reader::from_path(file).unwrap();
    let names = reader.headers().unwrap().clone();
    for record in reader.records() {
        let record = record.unwrap();
        let place = |name: &str| names.iter().position(|n| n == name).unwrap();
        let column = |name: &str| record[place(name)].to_owned();
        let start: Timestamp = column("start").parse().unwrap();
        row(start.unix_s(), &column);
    }
}

/// A reading that has not come yet: when it comes, and what the gateway sends.
type Waiting = BTreeMap<(i64, u64), Vec<u8>>;

struct Street {
    world: World,
    homes: Vec<String>,
    outcomes: BTreeMap<i64, Outcome>,
    waiting: Waiting,
    /// Intervals to be settled again at the very end, since a reading came after their final run.
    corrected: Vec<i64>,
    sent: u64,
    deposits: u64,
}

impl Street {
    async fn new(folder: &std::path::Path, homes: Vec<String>) -> Street {
        let names: Vec<&str> = homes.iter().map(String::as_str).collect();
        let file = folder.join("street.db");
        let mut world = World::at(file.to_str().unwrap(), &names).await;
        world.community.terms.holdback_bp = 500;
        world.community.terms.community_fee_bp = 100;
        Street {
            world,
            homes,
            outcomes: BTreeMap::new(),
            waiting: Waiting::new(),
            corrected: Vec::new(),
            sent: 0,
            deposits: 0,
        }
    }

    /// Orders, holds and the contract of an interval.
    async fn trade(&mut self, tx: &mut Tx, n: i64, happened: &Happened) {
        let (mut orders, mut fills): (Vec<Order>, Vec<(usize, usize, i64)>) = Default::default();
        let at = happened.trades.first().map_or(150_000, |trade| trade.3);
        let text = format!("0.{at:06}");
        for (buyer, seller, wh, _) in &happened.trades {
            fills.push((orders.len(), orders.len() + 1, *wh));
            orders.push(self.world.order(buyer, Side::Bid, n, *wh, &text));
            orders.push(self.world.order(seller, Side::Offer, n, *wh, &text));
        }
        let before = interval(n).start().plus_s(-900);
        let asked: Vec<&Order> = orders.iter().collect();
        let holds = Holds::of(tx, &self.world.community, before, &asked, &[]);
        let mut holds = holds.await.unwrap();
        for order in &asked {
            assert!(holds.hold(order, None).unwrap(), "there is enough to hold");
        }
        holds.write(tx).await.unwrap();
        let outcome = self.world.outcome(n, &orders, &fills, &text);
        let (clearing, trades) = (&outcome.clearing, &outcome.trades);
        let community = &self.world.community;
        let signed = &outcome.orders;
        contract(tx, community, before.plus_s(600), clearing, trades, signed)
            .await
            .unwrap();
        self.outcomes.insert(n, outcome);
    }

    /// What the meters send of an interval, at once or later.
    fn measure(&mut self, n: i64, happened: &Happened) {
        let (mut import, mut export) = (0, 0);
        for (home, imported, exported) in &happened.flows {
            self.send(n, home, *imported, *exported);
            (import, export) = (import + imported, export + exported);
        }
        let net = import - export;
        self.send(n, "feeder", net.max(0), (-net).max(0));
    }

    fn send(&mut self, n: i64, point: &str, import_wh: i64, export_wh: i64) {
        let reading = self.world.read(point, n, import_wh, export_wh);
        let bytes = sign(&self.world.gateway_key, &self.world.community, &reading);
        self.sent += 1;
        let end_s = reading.interval.end().unix_s();
        let late_s = match self.sent {
            sent if sent % VERY_LATE == 0 => {
                self.corrected.push(n);
                11 * 86_400
            }
            sent if sent % LATE == 0 => TWO_DAYS_S,
            _ => 0,
        };
        self.waiting.insert((end_s + late_s, self.sent), bytes);
    }

    /// Takes in all readings that have come by now.
    async fn take(&mut self, tx: &mut Tx, now: Timestamp) {
        let later = self.waiting.split_off(&(now.unix_s() + 1, 0));
        let mut came: Vec<Arrived> = std::mem::replace(&mut self.waiting, later)
            .into_values()
            .map(|bytes| Arrived::new(self.world.gateway.clone(), bytes))
            .collect();
        for some in came.chunks_mut(256) {
            let taken = accept_readings(tx, &self.world.community, now, some).await;
            for outcome in taken.unwrap() {
                assert!(
                    matches!(outcome, ReadingOutcome::Accepted { .. }),
                    "{outcome:?}"
                );
            }
        }
    }

    async fn settle(&self, tx: &mut Tx, n: i64, run: Run) {
        let outcome = &self.outcomes[&n];
        let (clearing, trades) = (&outcome.clearing, &outcome.trades);
        let (community, at) = (&self.world.community, interval(n));
        let now = settlement::run::due_at(run, at);
        run_interval(tx, community, now, at, run, clearing, trades)
            .await
            .unwrap();
    }

    /// Tokens in for everybody, and out for who sells.
    async fn tokens(&mut self, now: Timestamp) {
        let is_first = self.deposits == 0;
        let at = Moment {
            people: now,
            books: now,
        };
        let mut tx = self.world.db.begin().await.unwrap();
        for home in self.homes.clone() {
            for (kind, tokens) in [
                (TokenKind::Payout, "0"),
                (TokenKind::Deposit, "200"),
                (TokenKind::Withdrawal, "7"),
            ] {
                if kind == TokenKind::Payout && !is_first {
                    continue;
                }
                self.deposits += 1;
                let new = NewTokenRequest {
                    kind,
                    participant: who(&home),
                    amount: tokens.parse().unwrap(),
                    reference: format!("payment {}", self.deposits),
                    payout: (kind == TokenKind::Payout).then(|| "account 1".to_owned()),
                };
                match request_tokens(&mut tx, at, "ann", &new).await {
                    Ok(asked) => drop(confirm_tokens(&mut tx, at, "ben", asked.id).await.unwrap()),
                    // Who owes too much takes nothing out.
                    Err(error) => assert_eq!(kind, TokenKind::Withdrawal, "{error}"),
                }
            }
        }
        tx.commit().await.unwrap();
    }

    async fn day(&mut self, first: i64, happened: &[(i64, &Happened)]) {
        let mut tx = self.world.db.begin().await.unwrap();
        for (n, happened) in happened {
            self.trade(&mut tx, *n, happened).await;
            self.measure(*n, happened);
            self.take(&mut tx, interval(*n).end()).await;
            self.settle(&mut tx, *n, Run::Provisional).await;
        }
        let ready = first - 10 * DAY;
        for n in ready..ready + long(happened.len()) {
            if self.outcomes.contains_key(&n) {
                self.settle(&mut tx, n, Run::Final).await;
            }
        }
        let now = interval(first + DAY).end();
        checkpoint(&mut tx, &self.world.community, now)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    /// What is still on its way, and the runs that are left.
    async fn end(&mut self, last: i64) {
        let mut tx = self.world.db.begin().await.unwrap();
        self.take(&mut tx, interval(last + 12 * DAY).end()).await;
        let left: Vec<i64> = self.outcomes.keys().copied().collect();
        for n in left.iter().rev().take(11 * DAY_LONG).rev() {
            self.settle(&mut tx, *n, Run::Final).await;
        }
        for n in self.corrected.clone() {
            self.settle(&mut tx, n, Run::TrueUp).await;
        }
        let now = interval(last + 62 * DAY).end();
        checkpoint(&mut tx, &self.world.community, now)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    /// Every asset sums to zero, and nothing is held or held back once all is settled.
    async fn sums(&self, is_over: bool) {
        let mut sums: BTreeMap<Asset, i128> = BTreeMap::new();
        for line in balances(&self.world.db).await.unwrap() {
            *sums.entry(line.asset).or_default() += i128::from(line.balance);
            let kept = matches!(line.account.chart(), Chart::Held | Chart::Holdback);
            assert!(!(is_over && kept) || line.balance == 0, "{line:?}");
        }
        assert!(sums.values().all(|sum| *sum == 0), "{sums:?}");
        check_books(&self.world.db).await.unwrap();
    }

    /// A statement for each month; each begins with what the one before ended with, and the last with the ledger.
    async fn statements(&self, home: &str, span: &Span, now: Timestamp) {
        let (db, community) = (&self.world.db, &self.world.community.id);
        let zone = "Europe/Berlin".parse::<Zone>().unwrap();
        let mut before: Option<Money> = None;
        let mut intervals = 0;
        for month in span.months {
            let month = LocalMonth::parse(month, zone).unwrap();
            let made = statement(db, community, 900, &who(home), month, now).await;
            let made = made.unwrap().unwrap();
            made.check().unwrap();
            let (opening, closing) = (made.opening.total().unwrap(), made.closing.total().unwrap());
            assert!(before.is_none_or(|before| before == opening), "{home}");
            intervals += i64::from(made.total.intervals - made.total.data.not_settled);
            before = Some(closing);
        }
        let mut there = 0;
        for line in balances(db).await.unwrap() {
            if line.asset == Asset::Token && line.account.owner() == home {
                there += line.balance;
            }
        }
        assert_eq!(before, Some(Money::from_nano(there)), "{home}");
        assert_eq!(intervals, long(self.outcomes.len()), "{home}");
    }
}

#[tokio::test]
async fn a_year_of_a_street_sums_to_zero() {
    let span = match std::env::var_os("COMMONWATT_YEAR") {
        Some(_) => YEAR,
        None if std::env::var_os("COMMONWATT_SLOW").is_some() => WEEKS,
        None => {
            eprintln!("skipped: set COMMONWATT_SLOW=1, or COMMONWATT_YEAR=1 for the whole year");
            return;
        }
    };
    let happened = simulated(&span);
    let changed = if span.days == YEAR.days { 0 } else { 4 };
    let expected = i64::from(span.days) * DAY + changed;
    assert_eq!(long(happened.len()), expected, "with the changes of clocks");
    let first = happened.values().next().unwrap();
    let homes = first.flows.iter().map(|flow| flow.0.clone()).collect();
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.unwrap();
    let mut street = Street::new(folder.path(), homes).await;
    let number = |start_s: i64| (start_s - START_S) / 900;
    let all: Vec<(i64, &Happened)> = happened.iter().map(|(s, h)| (number(*s), h)).collect();
    for (day, some) in all.chunks(DAY_LONG).enumerate() {
        let begins = interval(some[0].0).start();
        if day % 30 == 0 {
            street.tokens(begins).await;
            street.sums(false).await;
            eprintln!("day {day}");
        }
        street.day(some[0].0, some).await;
    }
    let last = all.last().unwrap().0;
    street.end(last).await;
    street.sums(true).await;
    street.world.check().await;
    let now = interval(last + 70 * DAY).end();
    for home in street.homes.clone() {
        street.statements(&home, &span, now).await;
    }
    eprintln!(
        "{} intervals, {} readings, {} corrected after the final run",
        all.len(),
        street.sent,
        street.corrected.len()
    );
}
