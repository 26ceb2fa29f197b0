//! Whole receipts, genuine and false, from a committed file: what programs in other languages are held against. Most of
//! the false ones are a cheating operator's, whose signatures and logs all hold.
//!
//! `COMMONWATT_WRITE_RECEIPTS=1` with this test writes the file anew.

use domain::energy::Energy;
use domain::ids::{Digest32, PointId, TradeId};
use domain::key_record::{Holder, KeyRecord, PointRecord, PointRole};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::posting::{Posting, Purpose, Run};
use domain::quality::Quality;
use domain::reading::Reading;
use domain::receipt::{Line, Receipt};
use domain::run_record::RunRecord;
use domain::signed::PublicKey;
use domain::terms::{DeviationPolicy, Position, Step, Terms, Tiers};
use domain::trade::{Clearing, Trade};
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

/// How a receipt is altered before the cheating operator signs and logs everything anew.
enum Altered {
    /// The trade, wherever it stands.
    Trade(fn(&mut Trade)),
    /// The same, and what the lines come to then is posted.
    TradePosted(fn(&mut Trade)),
    /// What is said of the clearing.
    Clearing(fn(&mut Clearing)),
    /// The order, signed by its home.
    Order(fn(&mut Order)),
    /// Every line.
    Lines(fn(&mut Line)),
    /// The same, and what the lines come to then is posted.
    LinesPosted(fn(&mut Line)),
    /// The first run's record.
    Run(fn(&mut RunRecord)),
    /// The reading, signed by its gateway and named by the last line.
    Reading(fn(&mut Reading)),
    /// The record of the gateway's key, signed by the operator.
    Gateway(fn(&mut KeyRecord)),
    /// The first line's postings.
    Postings(fn(&mut Vec<Posting>)),
    /// Something of its own.
    Otherwise(fn(&World, &mut Receipt)),
}

/// Its name, the step at which the verifier must stop (none where it must not), and what is altered.
type Forgery = (&'static str, Option<&'static str>, Altered);

/// A table of forgeries: under each step the names, and what is altered.
macro_rules! forgeries {
    ($table:ident: $($step:expr => { $($name:literal => $altered:expr;)* })*) => {
        const $table: &[Forgery] = &[$($(($name, $step, $altered),)*)*];
    };
}

impl Altered {
    fn make(&self, world: &World, r: &mut Receipt) {
        match self {
            Altered::Trade(change) => trades(r, change),
            Altered::TradePosted(change) => {
                trades(r, change);
                posted_again(r);
            }
            Altered::Clearing(change) => change(&mut r.clearing.content),
            Altered::Order(change) => {
                signed_again(&mut r.order.signed, &order_key("home-a"), world, change);
            }
            Altered::Lines(change) => lines(r, change),
            Altered::LinesPosted(change) => {
                lines(r, change);
                posted_again(r);
            }
            Altered::Run(change) => change(&mut r.runs[0].content),
            Altered::Reading(change) => {
                let entry = r.reading.as_mut().unwrap();
                signed_again(&mut entry.signed, &world.gateway_key, world, change);
                let named = Digest32::of(&entry.signed);
                r.lines.last_mut().unwrap().content.delivery.reading = Some(named);
            }
            Altered::Gateway(change) => {
                let key = r.gateway_key.as_mut().unwrap();
                signed_again(&mut key.signed, &world.community.operator, world, change);
            }
            Altered::Postings(change) => change(&mut r.lines[0].content.postings),
            Altered::Otherwise(change) => change(world, r),
        }
    }
}

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

/// So much more from the utility, or less.
fn from_utility(line: &mut Line, more_wh: i64) {
    line.utility_wh = Energy::from_wh(line.utility_wh.wh() + more_wh);
}

/// The points of a gateway's key.
fn points(record: &mut KeyRecord) -> &mut Vec<PointRecord> {
    match &mut record.holder {
        Holder::Gateway { points, .. } => points,
        Holder::Participant(_) => panic!("no gateway's key"),
    }
}

/// Another trade of the same bid, or of another one, of the same book.
fn another(r: &Receipt, change: impl Fn(&mut Trade)) -> Trade {
    let mut other = r.trade.content.clone();
    change(&mut other);
    let book = &r.clearing.content.book;
    other.id = Trade::id_of(other.interval, book, other.bid, other.offer);
    other
}

fn step(from_wh: i64, retail: Price) -> Step {
    Step {
        from_wh: Energy::from_wh(from_wh),
        retail,
    }
}

fn on_steps(line: &mut Line, steps: Vec<Step>) {
    line.tiers = Some(Tiers {
        used_wh: Energy::ZERO,
        steps,
    });
}

/// A premium for green energy, and a price that only it explains.
fn premium(world: &World, r: &mut Receipt) {
    Ordered(|o| o.preference.green_premium = price("0.01")).make(world, r);
    TradePosted(|t| t.price = price("0.155")).make(world, r);
}

fn overfilled(_: &World, r: &mut Receipt) {
    let other = another(r, |t| t.offer.0 = [9; 16]);
    lines(r, |l| {
        l.trades.push(other.clone());
        l.delivery.bought = Energy::from_wh(1800);
        from_utility(l, 900);
    });
    posted_again(r);
}

use Altered::{
    Clearing as Cleared, Gateway, Lines, LinesPosted, Order as Ordered, Otherwise, Postings,
    Reading as Metered, Run as Recorded, Trade as Traded, TradePosted,
};

forgeries! { MARKET:
    None => {
        "nothing" => Otherwise(|_, _| {});
        "a green premium that was offered" => Otherwise(premium);
        "a network fee of its own" => TradePosted(|t| t.network_fee = Some(price("0.03")));
    }
    Some("trade") => {
        "a trade without energy" => Traded(|t| t.energy = Energy::ZERO);
        "a trade of another book" => Cleared(|c| c.book = Digest32([7; 32]));
        "a network that pays" => TradePosted(|t| t.network_fee = Some(price("-0.03")));
        "a trade with oneself" => Traded(|t| t.seller = t.buyer.clone());
        "a trade of others" => Traded(|t| t.buyer = who("home-c"));
    }
    Some("clearing") => {
        "a price beside the clearing's" => TradePosted(|t| t.price = price("0.18"));
        "a clearing of less" => Cleared(|c| c.volume = Energy::from_wh(899));
        "a clearing without trades" => Cleared(|c| c.trades = 0);
        "another interval's clearing" => Cleared(|c| c.interval = interval(5));
    }
    Some("order signature") => {
        "a limit that was lower" => Ordered(|o| o.limit = price("0.149999"));
        "an order of less" => Ordered(|o| o.energy = Energy::from_wh(899));
        "another order" => Ordered(|o| o.sequence += 40);
        "an offer for a bid" => Ordered(|o| o.side = Side::Offer);
        "an order that its key did not sign" => Otherwise(|w, r| {
            signed_again::<Order>(&mut r.order.signed, &order_key("home-b"), w, |_| {});
        });
    }
}

forgeries! { LINES:
    Some("settlement lines") => {
        "an order for another meter" => Ordered(|o| o.point = PointId::new("home-b").unwrap());
        "an order that is overfilled" => Otherwise(overfilled);
        "a pool price that nothing asks for" => LinesPosted(|l| l.prices.pool = price("0.2"));
        "energy that was not counted" => LinesPosted(|l| from_utility(l, -100));
        "energy that was not traded" => LinesPosted(|l| {
            l.delivery.bought = Energy::from_wh(800);
            from_utility(l, -100);
        });
        "pool and utility against each other" => LinesPosted(|l| {
            l.pooled_wh = Energy::from_wh(l.pooled_wh.wh() + 100);
            from_utility(l, -100);
        });
        "a trade that is not settled" => LinesPosted(|l| {
            l.trades.clear();
            l.delivery.bought = Energy::ZERO;
            from_utility(l, -900);
        });
        "a trade that is settled twice" => Lines(|l| l.trades.push(l.trades[0].clone()));
        "the lines of somebody else" => Lines(|l| l.participant = who("home-b"));
        "the lines of another interval" => Otherwise(|_, r| {
            lines(r, |l| l.interval = interval(3));
            r.runs.iter_mut().for_each(|run| run.content.interval = interval(3));
        });
        "an estimate that is not marked" => Lines(|l| {
            l.delivery.reading = None;
            l.delivery.quality = Quality::MEASURED;
        });
        "plain terms that are written down" => Lines(|l| l.prices.terms = Some(Terms::default()));
        "a fee of more than all" => LinesPosted(|l| {
            l.prices.terms = Some(Terms { community_fee_bp: 10_001, ..Terms::default() });
        });
        "two prices and a pool" => LinesPosted(|l| {
            l.prices.terms = Some(Terms { policy: DeviationPolicy::TwoPrice, ..Terms::default() });
        });
        "a position that nobody has with a pool" => LinesPosted(|l| {
            l.prices.terms = Some(Terms { position: Position::Long, ..Terms::default() });
        });
        "steps that do not rise" => Lines(|l| on_steps(l, vec![step(0, l.prices.retail); 2]));
        "a first step at another price" => Lines(|l| on_steps(l, vec![step(0, price("0.9"))]));
        "no line" => Otherwise(|_, r| {
            r.lines.clear();
            r.runs.clear();
        });
    }
}

forgeries! { RUNS:
    None => {
        "no record of the run" => Otherwise(|_, r| r.runs.clear());
    }
    Some("runs' inputs") => {
        "two records of the run" => Otherwise(|_, r| r.runs.push(r.runs[0].clone()));
        "a record of another run" => Recorded(|run| run.run = Run::TrueUp);
        "a record of another interval" => Recorded(|run| run.interval = interval(4));
        "a record without lines" => Recorded(|run| run.lines = 0);
        "a record of another tariff" => Recorded(|run| run.rules.version = Some("other".to_owned()));
        "a record of other prices" => Recorded(|run| run.rules.retail = price("0.3"));
        "a record of other terms" => Recorded(|run| {
            run.rules.terms = Some(Terms { holdback_bp: 1, ..Terms::default() });
        });
        "a record of steps" => Recorded(|run| run.rules.steps = vec![step(0, price("0.32"))]);
        "a reading that came after the run" => Recorded(|run| run.readings_size = 1);
    }
    Some("settlement lines") => {
        "prices below zero for the network" => Otherwise(|_, r| {
            let fee = Price::from_micro_per_kwh(-1);
            lines(r, |l| l.prices.network_fee = fee);
            r.runs[0].content.rules.network_fee = fee;
            posted_again(r);
        });
    }
}

forgeries! { METER:
    Some("meter signature") => {
        "a reading of less" => Metered(|m| {
            m.registers[0].end = Energy::from_wh(m.registers[0].end.wh() - 1);
        });
        "a reading of another quality" => Metered(|m| m.quality = m.quality.with(Quality::STALE));
        "a reading of another interval" => Metered(|m| m.interval = interval(6));
        "a reading of another point" => Metered(|m| m.point = PointId::new("home-b").unwrap());
        "a reading that the line does not name" => Otherwise(|w, r| {
            Metered(|m| m.sequence += 1).make(w, r);
            lines(r, |l| l.delivery.reading = Some(Digest32([5; 32])));
        });
        "a reading that its key did not sign" => Otherwise(|w, r| {
            let signed = &mut r.reading.as_mut().unwrap().signed;
            signed_again::<Reading>(signed, &order_key("x"), w, |_| {});
        });
        "a gateway's key of later" => Gateway(|k| k.valid_from = interval(2).start());
        "a gateway of other homes" => Gateway(|k| points(k).retain(|p| p.point.as_str() != "home-a"));
        "a gateway of another meter behind the home's" => Gateway(|k| {
            points(k).iter_mut().for_each(|p| p.role = PointRole::Submeter);
        });
    }
    Some("keys") => {
        "a participant's key of later" => Otherwise(|w, r| {
            let (key, from) = (&mut r.participant_key.signed, interval(1).start());
            signed_again::<KeyRecord>(key, &w.community.operator, w, |k| k.valid_from = from);
        });
    }
}

forgeries! { MONEY:
    Some("postings") => {
        "a nano-token too much" => Postings(|p| p[0].amount += 1);
        "a posting too few" => Postings(|p| p.truncate(p.len() - 1));
        "a posting twice" => Postings(|p| p.push(p[0].clone()));
        "money to somebody else" => Postings(|p| p[0].credit = "300/-".parse().unwrap());
        "a posting for another purpose" => Postings(|p| p[0].purpose = Purpose::Spread);
        "a posting of another run" => Postings(|p| p[0].run = None);
        "a posting for no trade" => Postings(|p| p.iter_mut().for_each(|p| p.reference = None));
        "postings in another order" => Postings(|p| p.reverse());
        "a posting under another number" => Postings(|p| p[0].id.0[15] ^= 1);
    }
}

// Of a receipt with several runs: what is true of each line, but not of all together.
forgeries! { CORRECTED:
    None => {
        "corrected: nothing" => Otherwise(|_, _| {});
    }
    Some("postings") => {
        "corrected: all is posted twice" => Otherwise(|_, r| {
            let part = &r.lines[1].content;
            let all = Part::of(part).legs().unwrap();
            r.lines[1].content.postings = all.postings(part.interval, part.run);
        });
    }
    Some("settlement lines") => {
        "corrected: runs in another order" => Otherwise(|_, r| {
            r.lines.reverse();
            r.runs.reverse();
        });
    }
    Some("meter signature") => {
        "corrected: another reading before" => Otherwise(|_, r| {
            r.lines[0].content.delivery.reading = Some(Digest32([4; 32]));
        });
    }
    Some("settlement lines") => {
        "corrected: a tariff of later" => Otherwise(|_, r| {
            r.lines[1].content.prices.retail = price("0.4");
            r.runs[1].content.rules.retail = price("0.4");
            posted_again(r);
        });
        "corrected: another trade of later" => Otherwise(|_, r| {
            let other = another(r, |t| {
                t.bid.0 = [8; 16];
                t.energy = Energy::from_wh(10);
            });
            let line = &mut r.lines[0].content;
            line.trades.push(other);
            line.delivery.bought = Energy::from_wh(910);
            from_utility(line, 10);
            posted_again(r);
        });
    }
}

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
    let tables = [
        (&good, [MARKET, LINES, RUNS, METER, MONEY].as_slice()),
        (&late, &[CORRECTED]),
    ];
    for (receipt, tables) in tables {
        for (name, fails, altered) in tables.iter().copied().flatten() {
            let made = forged(&world, receipt, |r| altered.make(&world, r));
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
