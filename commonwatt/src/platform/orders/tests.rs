//! Messages that are taken together have the answers and leave the tables of messages taken one by one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use domain::cancel::Cancel;
use domain::energy::Energy;
use domain::money::Price;
use domain::order::Side;
use domain::signed::{Message, PublicKey, SigningKey};
use domain::standing_order::{Deadline, Standing};
use domain::time::{Interval, Timestamp};
use proptest::prelude::*;
use runtime::args;
use runtime::clock::Clock;
use runtime::db::{Db, Tx};

use super::*;
use crate::platform::Platform;
use crate::site::{DataDir, Site, public_key_text};

const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);
/// The last one's gateway has not enrolled.
const HOMES: [(&str, &str); 4] = [
    ("ann", "0.1"),
    ("bob", "0.4"),
    ("cem", "1000"),
    ("dan", "1000"),
];

/// Limits that a few messages reach.
fn site() -> Site {
    site_of("orders_max = 3\nchanges_max = 6\nmessages_per_minute_max = 9\n")
}

fn site_of(market: &str) -> Site {
    let mut text = "community = \"lane\"\n\
         [tariff]\nretail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n\
         [market]\nshare_free_wh = 900\nshare_cap_percent = 60\n\
         [mqtt]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n"
        .replace("[market]\n", &format!("[market]\n{market}"));
    for (n, (home, deposit)) in (1_u8..).zip(HOMES) {
        let key = public_key_text(PublicKey::of(&SigningKey::from_bytes(&[n; 32])));
        let key = match home {
            "dan" => String::new(),
            _ => format!("public_key = \"{key}\"\n"),
        };
        text += &format!(
            "[[participants]]\nid = \"{home}\"\nmax_buy = \"0.25\"\nmin_sell = \"0.09\"\ndeposit = \"{deposit}\"\n\
             [[gateways]]\nid = \"gw-{n}\"\n{key}password_sha256 = \"{}\"\n\
             points = [{{ id = \"{home}.meter\", role = \"connection\", participant = \"{home}\", rating_w = 4000 }}]\n",
            "0".repeat(64)
        );
    }
    Site::from_toml(&text, Path::new("site.toml")).unwrap()
}

/// What is sent; who sends it and for which interval are numbers.
#[derive(Clone, Debug)]
enum Sent {
    Order {
        home: usize,
        interval: i64,
        is_bid: bool,
        wh: i64,
        micro: i64,
        sequence: u64,
        replaces: Option<u64>,
    },
    Cancel(usize, i64, u64),
    /// An order for an hour, which no interval of this market is.
    Hour(usize, u64),
    HourCancel(usize, u64),
    /// So many messages back once more.
    Again(usize),
    /// So many messages back once more, after its key has ended.
    Ended(usize),
    /// A cancel of the order that was sent so many messages back.
    Back(usize),
    Stranger(usize),
    Garbage(u8),
    Standing(usize, u64),
}

fn sent() -> impl Strategy<Value = Sent> {
    let order = (
        prop_oneof![4 => Just(0), 4 => 1_usize..3, 1 => Just(3)],
        0_i64..2,
        any::<bool>(),
        prop_oneof![2 => Just(300), 1 => 1_i64..1100],
        prop_oneof![2 => Just(200_000), 1 => 0_i64..400_000],
        1_u64..8,
        proptest::option::weighted(0.3, 1_u64..8),
    );
    let order = order.prop_map(|(home, interval, is_bid, wh, micro, sequence, replaces)| {
        let replaces = replaces.filter(|other| *other != sequence);
        Sent::Order {
            home,
            interval,
            is_bid,
            wh,
            micro,
            sequence,
            replaces,
        }
    });
    let home = 0_usize..3;
    prop_oneof![
        12 => order,
        4 => (home.clone(), 0_i64..2, 1_u64..8).prop_map(|(home, n, sequence)| Sent::Cancel(home, n, sequence)),
        1 => (home.clone(), 1_u64..8).prop_map(|(home, sequence)| Sent::Hour(home, sequence)),
        1 => (home.clone(), 1_u64..8).prop_map(|(home, sequence)| Sent::HourCancel(home, sequence)),
        3 => (1_usize..9).prop_map(Sent::Again),
        3 => (1_usize..9).prop_map(Sent::Ended),
        5 => (1_usize..5).prop_map(Sent::Back),
        1 => home.clone().prop_map(Sent::Stranger),
        1 => any::<u8>().prop_map(Sent::Garbage),
        1 => (home, 1_u64..4).prop_map(|(home, sequence)| Sent::Standing(home, sequence)),
    ]
}

fn id(home: usize) -> ParticipantId {
    ParticipantId::new(HOMES[home].0).unwrap()
}

fn point(home: usize) -> PointId {
    PointId::new(format!("{}.meter", HOMES[home].0)).unwrap()
}

struct Bench {
    platform: Platform,
    first: Interval,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn on(url: Option<&str>) -> Bench {
        Bench::with(url, site()).await
    }

    async fn with(url: Option<&str>, site: Site) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let (data, _lock) = DataDir::take(dir.path()).unwrap();
        let file = data.database();
        let db = Db::open(url.unwrap_or(&file)).await.unwrap();
        let clock = Clock::scaled(START, 1);
        let platform = crate::platform::open(site, &data, db, clock).await;
        Bench {
            platform: platform.unwrap(),
            first: Interval::containing(START.plus_s(3600), 900).unwrap(),
            _dir: dir,
        }
    }

    fn signed<T: Message>(&self, home: usize, message: &T) -> Vec<u8> {
        let shared = &self.platform.shared;
        let key = &shared.key_of_home(home);
        let signed = Signed::sign(key, &shared.site.community, message);
        signed.as_bytes().to_vec()
    }

    fn hour(&self) -> Interval {
        Interval::new(self.first.start_s(), 3600).unwrap()
    }

    /// A bid for an hour.
    fn bid(&self, home: usize, sequence: u64) -> Order {
        Order {
            participant: id(home),
            point: point(home),
            side: Side::Bid,
            interval: self.hour(),
            energy: Energy::from_wh(10),
            limit: Price::from_micro_per_kwh(200_000),
            sequence,
            replaces: None,
            preference: domain::order::Preference::default(),
        }
    }

    fn cancel(&self, home: usize, sequence: u64, interval: Interval) -> Vec<u8> {
        let participant = id(home);
        let cancel = Cancel {
            participant,
            sequence,
            interval,
        };
        self.signed(home, &cancel)
    }

    fn standing(&self, home: usize, sequence: u64) -> Vec<u8> {
        let order = StandingOrder {
            participant: id(home),
            point: point(home),
            sequence,
            replaces: sequence.checked_sub(1).filter(|one| *one > 0),
            wish: Standing::Deadline(Deadline {
                energy: Energy::from_wh(900),
                by: self.first.offset(9).start(),
                power_max_w: 4_000,
                limit: Price::from_micro_per_kwh(180_000),
                must: false,
            }),
            begins_with: Energy::ZERO,
            counted_at: None,
            capacity: None,
        };
        self.signed(home, &order)
    }

    fn bytes(&self, all: &[Sent], at: usize) -> Vec<u8> {
        match all[at] {
            Sent::Order {
                home,
                interval,
                is_bid,
                wh,
                micro,
                sequence,
                replaces,
            } => {
                let order = Order {
                    side: if is_bid { Side::Bid } else { Side::Offer },
                    interval: self.first.offset(interval),
                    energy: Energy::from_wh(wh),
                    limit: Price::from_micro_per_kwh(micro),
                    replaces,
                    ..self.bid(home, sequence)
                };
                self.signed(home, &order)
            }
            Sent::Cancel(home, n, sequence) => self.cancel(home, sequence, self.first.offset(n)),
            Sent::Hour(home, sequence) => self.signed(home, &self.bid(home, sequence)),
            Sent::HourCancel(home, sequence) => self.cancel(home, sequence, self.hour()),
            Sent::Again(back) | Sent::Ended(back) if back <= at => self.bytes(all, at - back),
            Sent::Back(back) if back <= at => match all[at - back] {
                Sent::Order {
                    home,
                    interval,
                    sequence,
                    ..
                } => self.cancel(home, sequence, self.first.offset(interval)),
                _ => vec![1],
            },
            Sent::Again(_) | Sent::Ended(_) | Sent::Back(_) => vec![0],
            Sent::Stranger(home) => self.signed((home + 1) % 3, &self.bid(home, 1)),
            Sent::Garbage(byte) => vec![byte; 40],
            Sent::Standing(home, sequence) => self.standing(home, sequence),
        }
    }

    /// A message as it is read when it comes.
    fn read(&self, all: &[Sent], at: usize) -> OrderMessage {
        let message = read(&self.platform.shared, self.bytes(all, at));
        match all[at] {
            Sent::Ended(_) => message.ended(),
            _ => message,
        }
    }

    /// Takes messages in groups, each at its time, together or one by one, and gives the answers and what the tables
    /// hold then; nothing is committed.
    async fn take(
        &self,
        groups: &[(Timestamp, Vec<OrderMessage>)],
        together: bool,
    ) -> (Vec<OrderAnswer>, Vec<String>) {
        let shared = &*self.platform.shared;
        let mut tx = shared.db.begin().await.unwrap();
        let mut answers = Vec::new();
        for (now, messages) in groups {
            let size = if together { messages.len() } else { 1 };
            for some in messages.chunks(size.max(1)) {
                answers.extend(take(&mut tx, shared, *now, some).await.unwrap());
            }
        }
        let left = left(&mut tx).await;
        (answers, left)
    }

    /// The answers, which have to be the same one by one.
    async fn together(&self, all: &[Sent], sizes: &[(usize, i64)]) -> Vec<OrderAnswer> {
        let mut groups = Vec::new();
        let (mut now, mut at) = (START, 0);
        for (size, after_s) in sizes.iter().cycle() {
            let up_to = all.len().min(at + size);
            now = now.plus_s(*after_s);
            groups.push((now, (at..up_to).map(|at| self.read(all, at)).collect()));
            at = up_to;
            if at == all.len() {
                break;
            }
        }
        let one_by_one = self.take(&groups, false).await;
        let together = self.take(&groups, true).await;
        assert_eq!(one_by_one.0, together.0, "{all:?}");
        for (one, two) in one_by_one.1.iter().zip(&together.1) {
            assert_eq!(one, two, "{all:?}");
        }
        assert_eq!(one_by_one.1.len(), together.1.len());
        together.0
    }
}

const TABLES: [&str; 15] = [
    "market_order",
    "market_withdrawn",
    "market_forestalled",
    "market_evidence",
    "market_totals",
    "market_sender",
    "market_refused",
    "market_refused_count",
    "market_standing",
    "market_standing_withdrawn",
    "market_progress",
    "settle_holds",
    "settle_postings",
    "settle_balances",
    "settle_intervals",
];

/// Every row of these tables, as text.
async fn left(tx: &mut Tx) -> Vec<String> {
    let mut left = Vec::new();
    for table in TABLES {
        let (columns, quoted) = match tx.is_sqlite() {
            true => ("SELECT name FROM pragma_table_info($1)", "quote"),
            false => (
                "SELECT CAST(column_name AS TEXT) FROM information_schema.columns WHERE table_name = $1 \
                 ORDER BY ordinal_position",
                "quote_nullable",
            ),
        };
        let columns: Vec<(String,)> = tx.fetch_all(columns, args![table]).await.unwrap();
        assert!(!columns.is_empty(), "{table}");
        let columns: Vec<String> = columns
            .iter()
            .map(|(column,)| format!("{quoted}({column})"))
            .collect();
        let row = columns.join(" || ' ' || ");
        let sql = format!("SELECT '{table} ' || {row} FROM {table} ORDER BY 1");
        let rows: Vec<(String,)> = tx.fetch_all(sql.leak(), args![]).await.unwrap();
        left.extend(rows.into_iter().map(|(row,)| row));
    }
    left
}

fn all_and_sizes() -> impl Strategy<Value = (Vec<Sent>, Vec<(usize, i64)>)> {
    let size = (1_usize..40, prop_oneof![0_i64..30, 0_i64..1800]);
    (
        proptest::collection::vec(sent(), 1..80),
        proptest::collection::vec(size, 1..8),
    )
}

/// Takes many random messages together and one by one, and gives the words for what came of them.
fn for_many(cases: u32, url: Option<&str>) -> BTreeSet<&'static str> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(Bench::on(url));
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let told = RefCell::new(BTreeSet::new());
    let done = runner.run(&all_and_sizes(), |(all, sizes)| {
        let answers = runtime.block_on(bench.together(&all, &sizes));
        told.borrow_mut().extend(answers.iter().map(word));
        Ok(())
    });
    done.unwrap();
    runtime.block_on(bench.platform.shared.db.close());
    told.into_inner()
}

fn word(answer: &OrderAnswer) -> &'static str {
    match answer {
        OrderAnswer::Accepted(_) => "accepted",
        OrderAnswer::Withdrawn(_) => "withdrawn",
        OrderAnswer::Again { stands: true, .. } => "again",
        OrderAnswer::Again { stands: false, .. } => "again, but gone",
        OrderAnswer::Refused(reason) => reason.name(),
        OrderAnswer::Unavailable => "unavailable",
    }
}

#[test]
fn taken_together_is_taken_one_by_one() {
    let told = for_many(160, None);
    let expected = [
        "accepted",
        "again",
        "again, but gone",
        "equivocation",
        "gate_closed",
        "implausible",
        "insufficient_funds",
        "interval_unaligned",
        "key_revoked",
        "not_deterministic",
        "over_limit",
        "rate_limited",
        "unknown_order",
        "withdrawn",
        "wrong_network",
    ];
    assert_eq!(told, BTreeSet::from(expected));
}

#[test]
fn taken_together_is_taken_one_by_one_on_postgresql() {
    if let Some(server) = runtime::testing::postgres() {
        for_many(12, Some(&server.url()));
    }
}

#[test]
fn a_batch_in_pieces_is_taken_one_by_one() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let site = site_of("changes_max = 4096\nmessages_per_minute_max = 1000\n");
    let bench = runtime.block_on(Bench::with(None, site));
    let order = |n: i64, home: usize, replaces: Option<u64>| Sent::Order {
        home,
        interval: n,
        is_bid: n % 2 == 0,
        wh: 300,
        micro: 200_000,
        sequence: n.unsigned_abs() + replaces.map_or(1, |_| 1000),
        replaces,
    };
    // Of three homes and thirty intervals: a piece reads those of sixteen.
    let mut all: Vec<Sent> = Vec::new();
    for n in 0..30 {
        all.extend((0..3).map(|home| order(n, home, None)));
    }
    for n in 0..30_i64 {
        let sequence = n.unsigned_abs() + 1;
        all.push(order(n, 1, Some(sequence)));
        all.push(Sent::Cancel(2, n, sequence));
        all.push(Sent::Again(3));
    }
    let answers = runtime.block_on(bench.together(&all, &[(all.len(), 0)]));
    let told: BTreeSet<&str> = answers.iter().map(word).collect();
    let expected = [
        "accepted",
        "again",
        "again, but gone",
        "insufficient_funds",
        "withdrawn",
    ];
    assert!(told.is_superset(&BTreeSet::from(expected)), "{told:?}");
    runtime.block_on(bench.platform.shared.db.close());
}

#[test]
fn messages_that_could_read_too_many_orders_are_taken_in_pieces() {
    let (key, street) = (SigningKey::from_bytes(&[9; 32]), site().community);
    let first = Interval::containing(START, 900).unwrap();
    let message = |home: usize, interval: i64, sequence: u64| {
        let order = Order {
            participant: id(home),
            point: point(home),
            side: Side::Offer,
            interval: first.offset(interval),
            energy: Energy::from_wh(100),
            limit: Price::from_micro_per_kwh(100_000),
            sequence,
            replaces: None,
            preference: domain::order::Preference::default(),
        };
        let signed = Signed::sign(&key, &street, &order);
        let order = signed.verify(PublicKey::of(&key), &street).unwrap();
        OrderMessage::Place {
            order,
            rating_w: 4000,
        }
    };
    let messages = [
        message(0, 0, 1),
        message(0, 0, 2),
        message(1, 0, 1),
        message(0, 1, 3),
        message(0, 0, 4),
    ];
    for (changes_max, pieces) in [(256, 5), (1 << 15, 3), (1 << 16, 2), (u32::MAX, 2)] {
        assert_eq!(
            take::read_at_once(&messages, changes_max),
            pieces,
            "{changes_max}"
        );
    }
    assert_eq!(take::read_at_once(&[], 6), 0);
}
