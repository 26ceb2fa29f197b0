//! Whole receipts, genuine and false, from a committed file: what programs in other languages are held against. Most of
//! the false ones are a cheating operator's, whose signatures and logs all hold.
//!
//! `COMMONWATT_WRITE_RECEIPTS=1` with this test writes the file anew.

use domain::energy::Energy;
use domain::ids::{Digest32, PointId, TradeId};
use domain::key_record::{Holder, KeyRecord, PointRole};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::posting::Run;
use domain::quality::Quality;
use domain::reading::Reading;
use domain::receipt::{Line, Receipt};
use domain::signed::PublicKey;
use domain::terms::{DeviationPolicy, Position, Step, Terms};
use domain::trade::Trade;
use serde_json::{Value, json};
use settlement::legs::{Legs, Part};
use settlement::prove::{to_text, verify};
use settlement::service::receipt;
use settlement::tariff::Tariffs;

use crate::forge::{forged, signed_again};
use crate::key_changes::{changed, receipt_of, revoked};
use crate::receipts::{contracted, settled};
use crate::terms::{flat, traded, versions};
use crate::vectors::told_by_python;
use crate::world::{World, interval, order_key, price, who};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/receipts.json");

/// A receipt's name and text, and the step at which it must fail; none where it is genuine.
type Vector = (String, Option<&'static str>, String);

async fn of(world: &World, trade: TradeId, home: &str) -> Receipt {
    let made = receipt(&world.db, &world.community, trade, &who(home)).await;
    made.unwrap().unwrap()
}

/// Both homes' receipts under these terms, after all runs; a third home is heard of late.
async fn under(terms: Terms, tariff: Tariffs, n: i64) -> [Receipt; 2] {
    let mut world = World::under(&["home-a", "home-b", "home-c"], tariff, terms).await;
    let outcome = traded(&mut world, n).await;
    world.run(&outcome, Run::Provisional).await;
    world.meter("home-c", n, 0, 400).await;
    world.run(&outcome, Run::Initial).await;
    world.run(&outcome, Run::Final).await;
    world.checkpoint(interval(n).end().plus_s(864_000)).await;
    let trade = outcome.trades[0].id;
    [
        of(&world, trade, "home-a").await,
        of(&world, trade, "home-b").await,
    ]
}

/// The receipt of a home whose own meter is heard of late: estimated first, then corrected by its reading.
async fn late() -> Receipt {
    let (mut world, outcome) = contracted().await;
    world.meter("home-b", 0, 0, 930).await;
    world.run(&outcome, Run::Provisional).await;
    world.meter("home-a", 0, 1200, 0).await;
    world.run(&outcome, Run::Initial).await;
    world.checkpoint(interval(1).start()).await;
    of(&world, outcome.trades[0].id, "home-a").await
}

async fn genuine() -> Vec<(String, Receipt)> {
    let mut all = vec![
        ("a buyer's".to_owned(), settled(true).await.1),
        ("without a reading".to_owned(), settled(false).await.1),
        ("corrected by a late reading".to_owned(), late().await),
        ("with a key that was revoked".to_owned(), revoked().await),
    ];
    let (keys, trades) = changed().await;
    for (name, trade) in ["before its keys changed", "after its keys changed"]
        .iter()
        .zip(trades)
    {
        all.push(((*name).to_owned(), receipt_of(&keys.0, trade).await));
    }
    let rich = Terms {
        spread: price("0.01"),
        community_fee_bp: 200,
        holdback_bp: 1000,
        ..Terms::default()
    };
    let single = Terms {
        policy: DeviationPolicy::SinglePrice,
        ..Terms::default()
    };
    let two = Terms {
        policy: DeviationPolicy::TwoPrice,
        ..Terms::default()
    };
    for (name, terms, tariff, n) in [
        ("with spread, fee and holdback", rich, flat(), 0),
        ("at a single price", single, flat(), 0),
        ("at two prices", two, flat(), 0),
        ("on a tiered tariff", Terms::default(), versions(), 1),
    ] {
        let [buyer, seller] = under(terms, tariff, n).await;
        all.push((format!("{name}, the buyer's"), buyer));
        all.push((format!("{name}, the seller's"), seller));
    }
    all
}

type Change = fn(&World, &mut Receipt);
/// What is changed, in words, where the verifier must stop, and how it is changed.
type Forgery = (&'static str, Option<&'static str>, Change);

/// The same change of the trade wherever it stands.
fn trades(r: &mut Receipt, change: impl Fn(&mut Trade)) {
    let id = r.trade.content.id;
    change(&mut r.trade.content);
    for entry in &mut r.lines {
        for trade in entry.content.trades.iter_mut().filter(|t| t.id == id) {
            change(trade);
        }
    }
}

fn lines(r: &mut Receipt, change: impl Fn(&mut Line)) {
    r.lines
        .iter_mut()
        .for_each(|entry| change(&mut entry.content));
}

/// Posts what the lines now come to.
fn posted_again(r: &mut Receipt) {
    let mut posted = Legs::default();
    for entry in &mut r.lines {
        let line = &mut entry.content;
        let target = Part::of(line).legs().unwrap();
        let rest = target.minus(&posted).unwrap();
        line.postings = rest.postings(line.interval, line.run);
        posted = target;
    }
}

fn ordered(world: &World, r: &mut Receipt, change: impl Fn(&mut Order)) {
    signed_again(&mut r.order.signed, &order_key("home-a"), world, change);
}

/// Another reading in the place of the last line's, which is told to name it.
fn metered(world: &World, r: &mut Receipt, change: impl Fn(&mut Reading)) {
    let entry = r.reading.as_mut().unwrap();
    signed_again(&mut entry.signed, &world.gateway_key, world, change);
    let named = Digest32::of(&entry.signed);
    r.lines.last_mut().unwrap().content.delivery.reading = Some(named);
}

fn recorded(world: &World, r: &mut Receipt, change: impl Fn(&mut KeyRecord)) {
    let key = r.gateway_key.as_mut().unwrap();
    signed_again(&mut key.signed, &world.community.operator, world, change);
}

/// A higher price without any reason in the market.
fn dearer(r: &mut Receipt) {
    trades(r, |t| t.price = price("0.18"));
    posted_again(r);
}

const MARKET: [Forgery; 17] = [
    ("nothing", None, |_, _| {}),
    ("a green premium that was offered", None, |w, r| {
        ordered(w, r, |o| o.preference.green_premium = price("0.01"));
        trades(r, |t| t.price = price("0.155"));
        posted_again(r);
    }),
    ("a network fee of its own", None, |_, r| {
        trades(r, |t| t.network_fee = Some(price("0.03")));
        posted_again(r);
    }),
    ("a trade without energy", Some("trade"), |_, r| {
        trades(r, |t| t.energy = Energy::ZERO);
    }),
    ("a trade of another book", Some("trade"), |_, r| {
        r.clearing.content.book = Digest32([7; 32]);
    }),
    ("a network that pays", Some("trade"), |_, r| {
        trades(r, |t| t.network_fee = Some(price("-0.03")));
        posted_again(r);
    }),
    ("a trade with oneself", Some("trade"), |_, r| {
        trades(r, |t| t.seller = t.buyer.clone());
    }),
    ("a trade of others", Some("trade"), |_, r| {
        trades(r, |t| t.buyer = who("home-c"));
    }),
    ("a price beside the clearing's", Some("clearing"), |_, r| {
        dearer(r)
    }),
    ("a clearing of less", Some("clearing"), |_, r| {
        r.clearing.content.volume = Energy::from_wh(899);
    }),
    ("a clearing without trades", Some("clearing"), |_, r| {
        r.clearing.content.trades = 0;
    }),
    ("another interval's clearing", Some("clearing"), |_, r| {
        r.clearing.content.interval = interval(5);
    }),
    ("a limit that was lower", Some("order signature"), |w, r| {
        ordered(w, r, |o| o.limit = price("0.149999"));
    }),
    ("an order of less", Some("order signature"), |w, r| {
        ordered(w, r, |o| o.energy = Energy::from_wh(899));
    }),
    ("another order", Some("order signature"), |w, r| {
        ordered(w, r, |o| o.sequence += 40);
    }),
    ("an offer for a bid", Some("order signature"), |w, r| {
        ordered(w, r, |o| o.side = Side::Offer);
    }),
    (
        "an order that its key did not sign",
        Some("order signature"),
        |w, r| {
            signed_again::<Order>(&mut r.order.signed, &order_key("home-b"), w, |_| {});
        },
    ),
];

const LINES: [Forgery; 18] = [
    (
        "an order for another meter",
        Some("settlement lines"),
        |w, r| {
            ordered(w, r, |o| o.point = PointId::new("home-b").unwrap());
        },
    ),
    (
        "an order that is overfilled",
        Some("settlement lines"),
        |_, r| {
            let mut other = r.trade.content.clone();
            other.offer.0 = [9; 16];
            other.id = Trade::id_of(
                other.interval,
                &r.clearing.content.book,
                other.bid,
                other.offer,
            );
            lines(r, |l| l.trades.push(other.clone()));
            lines(r, |l| l.delivery.bought = Energy::from_wh(1800));
            lines(r, |l| {
                l.utility_wh = Energy::from_wh(l.utility_wh.wh() + 900)
            });
            posted_again(r);
        },
    ),
    (
        "a pool price that nothing asks for",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| l.prices.pool = price("0.2"));
            posted_again(r);
        },
    ),
    (
        "energy that was not counted",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| {
                l.utility_wh = Energy::from_wh(l.utility_wh.wh() - 100)
            });
            posted_again(r);
        },
    ),
    (
        "energy that was not traded",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| l.delivery.bought = Energy::from_wh(800));
            lines(r, |l| {
                l.utility_wh = Energy::from_wh(l.utility_wh.wh() - 100)
            });
            posted_again(r);
        },
    ),
    (
        "pool and utility against each other",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| l.pooled_wh = Energy::from_wh(l.pooled_wh.wh() + 100));
            lines(r, |l| {
                l.utility_wh = Energy::from_wh(l.utility_wh.wh() - 100)
            });
            posted_again(r);
        },
    ),
    (
        "a trade that is not settled",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| l.trades.clear());
            lines(r, |l| l.delivery.bought = Energy::ZERO);
            lines(r, |l| {
                l.utility_wh = Energy::from_wh(l.utility_wh.wh() - 900)
            });
            posted_again(r);
        },
    ),
    (
        "a trade that is settled twice",
        Some("settlement lines"),
        |_, r| {
            let trade = r.trade.content.clone();
            lines(r, |l| l.trades.push(trade.clone()));
        },
    ),
    (
        "the lines of somebody else",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| l.participant = who("home-b"));
        },
    ),
    (
        "the lines of another interval",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| l.interval = interval(3));
            r.runs
                .iter_mut()
                .for_each(|run| run.content.interval = interval(3));
        },
    ),
    (
        "an estimate that is not marked",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| {
                l.delivery.reading = None;
                l.delivery.quality = Quality::MEASURED;
            });
        },
    ),
    (
        "plain terms that are written down",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| l.prices.terms = Some(Terms::default()));
        },
    ),
    (
        "a fee of more than all",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| {
                l.prices.terms = Some(Terms {
                    community_fee_bp: 10_001,
                    ..Terms::default()
                });
            });
            posted_again(r);
        },
    ),
    ("two prices and a pool", Some("settlement lines"), |_, r| {
        lines(r, |l| {
            l.prices.terms = Some(Terms {
                policy: DeviationPolicy::TwoPrice,
                ..Terms::default()
            });
        });
        posted_again(r);
    }),
    (
        "a position that nobody has with a pool",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| {
                l.prices.terms = Some(Terms {
                    position: Position::Long,
                    ..Terms::default()
                });
            });
            posted_again(r);
        },
    ),
    (
        "steps that do not rise",
        Some("settlement lines"),
        |_, r| {
            let step = |from, retail| Step {
                from_wh: Energy::from_wh(from),
                retail,
            };
            lines(r, |l| {
                let retail = l.prices.retail;
                let steps = vec![step(0, retail), step(0, retail)];
                l.tiers = Some(domain::terms::Tiers {
                    used_wh: Energy::ZERO,
                    steps,
                });
            });
        },
    ),
    (
        "a first step at another price",
        Some("settlement lines"),
        |_, r| {
            let steps = vec![Step {
                from_wh: Energy::ZERO,
                retail: price("0.9"),
            }];
            lines(r, |l| {
                l.tiers = Some(domain::terms::Tiers {
                    used_wh: Energy::ZERO,
                    steps: steps.clone(),
                });
            });
        },
    ),
    ("no line", Some("settlement lines"), |_, r| {
        r.lines.clear();
        r.runs.clear();
    }),
];

const RUNS: [Forgery; 11] = [
    ("no record of the run", None, |_, r| r.runs.clear()),
    ("two records of the run", Some("runs' inputs"), |_, r| {
        let run = r.runs[0].clone();
        r.runs.push(run);
    }),
    ("a record of another run", Some("runs' inputs"), |_, r| {
        r.runs[0].content.run = Run::TrueUp;
    }),
    (
        "a record of another interval",
        Some("runs' inputs"),
        |_, r| {
            r.runs[0].content.interval = interval(4);
        },
    ),
    ("a record without lines", Some("runs' inputs"), |_, r| {
        r.runs[0].content.lines = 0
    }),
    (
        "a record of another tariff",
        Some("runs' inputs"),
        |_, r| {
            r.runs[0].content.rules.version = Some("other".to_owned());
        },
    ),
    ("a record of other prices", Some("runs' inputs"), |_, r| {
        r.runs[0].content.rules.retail = price("0.3");
    }),
    ("a record of other terms", Some("runs' inputs"), |_, r| {
        r.runs[0].content.rules.terms = Some(Terms {
            holdback_bp: 1,
            ..Terms::default()
        });
    }),
    ("a record of steps", Some("runs' inputs"), |_, r| {
        let step = Step {
            from_wh: Energy::ZERO,
            retail: price("0.32"),
        };
        r.runs[0].content.rules.steps = vec![step];
    }),
    (
        "a reading that came after the run",
        Some("runs' inputs"),
        |_, r| {
            r.runs[0].content.readings_size = 1;
        },
    ),
    (
        "prices below zero for the network",
        Some("settlement lines"),
        |_, r| {
            lines(r, |l| l.prices.network_fee = Price::from_micro_per_kwh(-1));
            r.runs[0].content.rules.network_fee = Price::from_micro_per_kwh(-1);
            posted_again(r);
        },
    ),
];

const METER: [Forgery; 10] = [
    ("a reading of less", Some("meter signature"), |w, r| {
        metered(w, r, |m| {
            m.registers[0].end = Energy::from_wh(m.registers[0].end.wh() - 1)
        });
    }),
    (
        "a reading of another quality",
        Some("meter signature"),
        |w, r| {
            metered(w, r, |m| m.quality = m.quality.with(Quality::STALE));
        },
    ),
    (
        "a reading of another interval",
        Some("meter signature"),
        |w, r| {
            metered(w, r, |m| m.interval = interval(6));
        },
    ),
    (
        "a reading of another point",
        Some("meter signature"),
        |w, r| {
            metered(w, r, |m| m.point = PointId::new("home-b").unwrap());
        },
    ),
    (
        "a reading that the line does not name",
        Some("meter signature"),
        |w, r| {
            metered(w, r, |m| m.sequence += 1);
            lines(r, |l| l.delivery.reading = Some(Digest32([5; 32])));
        },
    ),
    (
        "a reading that its key did not sign",
        Some("meter signature"),
        |w, r| {
            signed_again::<Reading>(
                &mut r.reading.as_mut().unwrap().signed,
                &order_key("x"),
                w,
                |_| {},
            );
        },
    ),
    (
        "a gateway's key of later",
        Some("meter signature"),
        |w, r| {
            recorded(w, r, |k| k.valid_from = interval(2).start());
        },
    ),
    (
        "a gateway of other homes",
        Some("meter signature"),
        |w, r| {
            recorded(w, r, |k| {
                if let Holder::Gateway { points, .. } = &mut k.holder {
                    points.retain(|p| p.point.as_str() != "home-a");
                }
            });
        },
    ),
    (
        "a gateway of another meter behind the home's",
        Some("meter signature"),
        |w, r| {
            recorded(w, r, |k| {
                if let Holder::Gateway { points, .. } = &mut k.holder {
                    points.iter_mut().for_each(|p| p.role = PointRole::Submeter);
                }
            });
        },
    ),
    ("a participant's key of later", Some("keys"), |w, r| {
        let (key, from) = (&mut r.participant_key.signed, interval(1).start());
        signed_again::<KeyRecord>(key, &w.community.operator, w, |k| k.valid_from = from);
    }),
];

const MONEY: [Forgery; 9] = [
    ("a nano-token too much", Some("postings"), |_, r| {
        r.lines[0].content.postings[0].amount += 1;
    }),
    ("a posting too few", Some("postings"), |_, r| {
        r.lines[0].content.postings.pop();
    }),
    ("a posting twice", Some("postings"), |_, r| {
        let again = r.lines[0].content.postings[0].clone();
        r.lines[0].content.postings.push(again);
    }),
    ("money to somebody else", Some("postings"), |_, r| {
        r.lines[0].content.postings[0].credit = "300/-".parse().unwrap();
    }),
    ("a posting for another purpose", Some("postings"), |_, r| {
        r.lines[0].content.postings[0].purpose = domain::posting::Purpose::Spread;
    }),
    ("a posting of another run", Some("postings"), |_, r| {
        r.lines[0].content.postings[0].run = None;
    }),
    ("a posting for no trade", Some("postings"), |_, r| {
        r.lines[0]
            .content
            .postings
            .iter_mut()
            .for_each(|p| p.reference = None);
    }),
    ("postings in another order", Some("postings"), |_, r| {
        r.lines[0].content.postings.reverse();
    }),
    (
        "a posting under another number",
        Some("postings"),
        |_, r| {
            r.lines[0].content.postings[0].id.0[15] ^= 1;
        },
    ),
];

/// Of a receipt with several runs: what is true of each line, but not of all together.
const CORRECTED: [Forgery; 6] = [
    ("corrected: nothing", None, |_, _| {}),
    (
        "corrected: all is posted twice",
        Some("postings"),
        |_, r| {
            let part = &r.lines[1].content;
            let all = Part::of(part).legs().unwrap();
            r.lines[1].content.postings = all.postings(part.interval, part.run);
        },
    ),
    (
        "corrected: runs in another order",
        Some("settlement lines"),
        |_, r| {
            r.lines.reverse();
            r.runs.reverse();
        },
    ),
    (
        "corrected: another reading before",
        Some("meter signature"),
        |_, r| {
            let delivery = &mut r.lines[0].content.delivery;
            delivery.reading = Some(Digest32([4; 32]));
        },
    ),
    (
        "corrected: a tariff of later",
        Some("settlement lines"),
        |_, r| {
            r.lines[1].content.prices.retail = price("0.4");
            r.runs[1].content.rules.retail = price("0.4");
            posted_again(r);
        },
    ),
    (
        "corrected: another trade of later",
        Some("settlement lines"),
        |_, r| {
            let (line, book) = (&mut r.lines[0].content, &r.clearing.content.book);
            let mut other = line.trades[0].clone();
            other.bid.0 = [8; 16];
            other.id = Trade::id_of(other.interval, book, other.bid, other.offer);
            other.energy = Energy::from_wh(10);
            line.trades.push(other);
            line.delivery.bought = Energy::from_wh(910);
            line.utility_wh = Energy::from_wh(line.utility_wh.wh() + 10);
            posted_again(r);
        },
    ),
];

/// Texts that are no receipt, though their values are those of one.
fn written_wrong(good: &str) -> Vec<Vector> {
    let wrong = [
        ("nothing", String::new()),
        (
            "another format",
            good.replacen("receipt/v1", "receipt/v2", 1),
        ),
        (
            "a number with a needless zero",
            good.replacen("\"orders\":2", "\"orders\":02", 1),
        ),
        (
            "a number with decimals",
            good.replacen("\"orders\":2", "\"orders\":2.0", 1),
        ),
        (
            "a price with fewer zeros",
            good.replacen("0.150000", "0.15", 1),
        ),
        (
            "a member too many",
            good.replacen("\"side\"", "\"more\":1,\"side\"", 1),
        ),
        (
            "a member twice",
            good.replacen("\"side\":\"bid\"", "\"side\":\"bid\",\"side\":\"bid\"", 1),
        ),
        (
            "none where there should be nothing",
            good.replacen("\"lines\":[", "\"gateway_key_history\":null,\"lines\":[", 1),
        ),
        (
            "a text in another spelling",
            good.replacen("home-a", "home\\u002da", 1),
        ),
        (
            "a time in another zone",
            good.replacen("Z/900s", "+00:00/900s", 1),
        ),
        ("something behind the end", format!("{good}x")),
        (
            "a digest in capitals",
            good.replacen("\"book\":\"", "\"book\":\"A", 1),
        ),
        (
            "a list that ends in a comma",
            good.replacen("],\"runs\"", ",],\"runs\"", 1),
        ),
    ];
    wrong
        .into_iter()
        .map(|(name, text)| {
            assert_ne!(text, good, "{name}");
            (name.to_owned(), Some("format"), text)
        })
        .collect()
}

async fn written() -> (Vec<Vector>, World) {
    let compact = |receipt: &Receipt| serde_json::to_string(receipt).unwrap();
    let mut vectors: Vec<Vector> = Vec::new();
    for (name, receipt) in genuine().await {
        // One is laid out for people, as it is downloaded.
        let text = match vectors.is_empty() {
            true => to_text(&receipt).unwrap(),
            false => compact(&receipt),
        };
        vectors.push((name, None, text));
    }
    let (world, good) = settled(true).await;
    let late = late().await;
    let groups: [(&Receipt, &[Forgery]); 6] = [
        (&good, &MARKET),
        (&good, &LINES),
        (&good, &RUNS),
        (&good, &METER),
        (&good, &MONEY),
        (&late, &CORRECTED),
    ];
    for (receipt, forgeries) in groups {
        for (name, fails, change) in forgeries {
            let made = forged(&world, receipt, |r| change(&world, r));
            vectors.push((format!("forged: {name}"), *fails, compact(&made)));
        }
    }
    vectors.extend(written_wrong(&compact(&good)));
    (vectors, world)
}

fn file(vectors: &[Vector], world: &World) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let one = |(name, fails, text): &Vector| json!({ "name": name, "valid": fails.is_none(), "fails": fails, "text": text });
    let operator = PublicKey::of(&world.community.operator).to_bytes();
    json!({
        "community": "street",
        "operator_key": STANDARD.encode(operator),
        "receipts": vectors.iter().map(one).collect::<Vec<_>>(),
    })
}

fn committed() -> Value {
    serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap()
}

fn judged(vectors: &Value) {
    for one in vectors["receipts"].as_array().unwrap() {
        let report = verify(one["text"].as_str().unwrap(), None);
        let fails = report.first_failure();
        let expected = one["fails"].as_str();
        assert_eq!(
            fails.map(|(step, _)| step),
            expected,
            "{}: {fails:?}",
            one["name"]
        );
    }
}

#[tokio::test]
async fn every_receipt_is_judged_as_the_committed_file_says() {
    let (vectors, world) = written().await;
    let fresh = file(&vectors, &world);
    judged(&fresh);
    if std::env::var_os("COMMONWATT_WRITE_RECEIPTS").is_some() {
        std::fs::write(FILE, format!("{fresh:#}\n")).unwrap();
    }
    judged(&committed());
    let names = |vectors: &Value| -> Vec<String> {
        let all = vectors["receipts"].as_array().unwrap();
        all.iter().map(|one| one["name"].to_string()).collect()
    };
    assert_eq!(names(&committed()), names(&fresh));
}

/// The other language: `FORMAT.md` of settlement and domain are all that `verify_receipt.py` knows.
#[tokio::test]
async fn an_independent_program_judges_every_receipt_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("fresh.json");
    let (vectors, world) = written().await;
    std::fs::write(&fresh, file(&vectors, &world).to_string()).unwrap();
    let files = [FILE, fresh.to_str().unwrap()];
    for told in told_by_python("verify_receipt.py", &files)
        .into_iter()
        .flatten()
    {
        assert!(told.contains(" receipts, 0 not as expected"), "{told}");
    }
}
