//! The market on a database: acceptance, clearing when due, nothing half-written, nothing twice.

use domain::cancel::Cancel;
use domain::energy::Energy;
use domain::ids::{CommunityId, ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::rejection::Rejection;
use domain::signed::{self, PublicKey, Signed, SigningKey, Verified};
use domain::time::{Interval, Timestamp};
use market_engine::market::closes_at;
use market_engine::service::{
    self, Batch, Cleared, DUE_MAX, MarketError, Message, Outcome, Placing, Rules, Secret, Setup,
    clear_due,
};
use market_engine::store::{EVIDENCE_MAX, MIGRATIONS};
use runtime::args;
use runtime::db::{Db, Tx};

struct Market {
    db: Db,
    rules: Rules,
    _folder: tempfile::TempDir,
}

fn noon() -> Interval {
    Interval::new(1_782_000_000, 900).unwrap()
}

/// Long enough before noon for the gate to be open.
fn morning() -> Timestamp {
    noon().start().plus_s(-3600)
}

fn order(participant: &str, sequence: u64, side: Side, energy_wh: i64, micro: i64) -> Order {
    Order {
        participant: ParticipantId::new(participant).unwrap(),
        point: PointId::new(participant).unwrap(),
        side,
        interval: noon(),
        energy: Energy::from_wh(energy_wh),
        limit: Price::from_micro_per_kwh(micro),
        sequence,
        replaces: None,
        preference: domain::order::Preference::default(),
    }
}

fn verified<T: signed::Message>(message: &T) -> Verified<T> {
    let (key, street) = (
        SigningKey::from_bytes(&[7; 32]),
        CommunityId::new("street").unwrap(),
    );
    Signed::sign(&key, &street, message)
        .verify(PublicKey::of(&key), &street)
        .unwrap()
}

fn setup(rules: Rules) -> Setup {
    let secret = Secret([1; 32]);
    Setup { rules, secret }
}

async fn place(tx: &mut Tx, order: &Order) -> Outcome {
    let setup = setup(Rules::default());
    let order = &verified(order);
    let rating_w = 10_000;
    let messages = vec![Message::Place { order, rating_w }];
    let outcomes = take(tx, &setup, morning(), messages, |_| true).await;
    outcomes[0]
}

/// Takes messages together; each order that may go into the book is asked about its hold.
pub(crate) async fn take(
    tx: &mut Tx,
    setup: &Setup,
    now: Timestamp,
    messages: Vec<Message<'_>>,
    mut is_held: impl FnMut(&Order) -> bool,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut batch = Batch::of(tx, setup, now, messages).await.unwrap();
    while let Some(placing) = batch.decide().unwrap() {
        outcomes.push(match placing {
            Placing::Done(outcome) => outcome,
            Placing::AsksHold { order, .. } => batch.held(is_held(order)).unwrap(),
        });
    }
    batch.write(tx).await.unwrap();
    outcomes
}

impl Market {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("market.db");
        let db = Db::open(path.to_str().unwrap()).await.unwrap();
        db.migrate(MIGRATIONS).await.unwrap();
        Market {
            db,
            rules: Rules::default(),
            _folder: folder,
        }
    }

    async fn place(&self, order: &Order) -> Outcome {
        let mut tx = self.db.begin().await.unwrap();
        let outcome = place(&mut tx, order).await;
        tx.commit().await.unwrap();
        outcome
    }

    async fn clear(&self, now: Timestamp) -> Vec<Cleared> {
        let mut tx = self.db.begin().await.unwrap();
        let cleared = clear_due(&mut tx, &setup(self.rules), now).await.unwrap();
        tx.commit().await.unwrap();
        cleared
    }

    async fn count(&self, sql: &'static str) -> i64 {
        self.db.fetch_one::<(i64,)>(sql, args![]).await.unwrap().0
    }

    async fn with_orders() -> (Self, [Order; 3]) {
        let market = Market::new().await;
        let orders = [
            order("ann", 1, Side::Bid, 1000, 300_000),
            order("bob", 1, Side::Offer, 600, 100_000),
            order("cem", 1, Side::Bid, 500, 90_000),
        ];
        for order in &orders {
            assert_eq!(market.place(order).await, Outcome::Accepted(order.id()));
        }
        (market, orders)
    }
}

/// Of two bids that are both served, the better one names the seller of the dearer offer; another pays for green
/// energy that only its premium can buy.
#[tokio::test]
async fn wishes_decide_who_trades_with_whom_and_a_premium_brings_more() {
    use domain::order::Preference;
    let market = Market::new().await;
    let mut first = order("ann", 1, Side::Bid, 500, 300_000);
    first.preference.partners = vec![ParticipantId::new("dan").unwrap()];
    let second = order("bob", 1, Side::Bid, 500, 290_000);
    let mut low = order("cem", 1, Side::Bid, 200, 150_000);
    low.preference.green_premium = Price::from_micro_per_kwh(250_000);
    let cheap = order("eve", 1, Side::Offer, 500, 100_000);
    let dear = order("dan", 1, Side::Offer, 500, 200_000);
    let mut green = order("fay", 1, Side::Offer, 200, 350_000);
    green.preference = Preference {
        green: true,
        ..Preference::default()
    };
    for one in [&first, &second, &low, &cheap, &dear, &green] {
        assert_eq!(market.place(one).await, Outcome::Accepted(one.id()));
    }
    let all = market.clear(after_gate()).await;
    let cleared = &all[all.len() - 1];
    let met = |bid: &Order, offer: &Order| {
        let mut trades = cleared.trades.iter();
        trades.any(|t| (t.bid, t.offer) == (bid.id(), offer.id()))
    };
    assert_eq!(cleared.clearing.interval, noon());
    assert_eq!(cleared.trades.len(), 3);
    assert!(met(&first, &dear) && met(&second, &cheap) && met(&low, &green));
    let book = service::public_book(&market.db, noon())
        .await
        .unwrap()
        .unwrap();
    assert!(book.contains("\"because\":\"more-green\""), "{book}");
    // 150 for the bid's limit against 350 for the offer's, 200 Wh.
    assert!(book.contains("\"welfare_cost\":\"0.040000000\""), "{book}");
    let again = market_engine::public::rerun(&book).unwrap();
    assert_eq!(again.difference, None);
    assert_eq!(again.volume_wh, 1200);
}

fn after_gate() -> Timestamp {
    closes_at(noon(), &Rules::default())
}

#[tokio::test]
async fn orders_become_trades_that_can_be_read_again() {
    let (market, [ann, bob, cem]) = Market::with_orders().await;
    assert_eq!(service::orders(&market.db, noon()).await.unwrap().len(), 3);
    assert!(
        service::clearing(&market.db, noon())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        market
            .clear(after_gate().plus_ms(-1))
            .await
            .iter()
            .all(|c| c.orders.is_empty())
    );
    let all = market.clear(after_gate()).await;
    let [cleared] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(
        (cleared.clearing.interval, cleared.clearing.volume.wh()),
        (noon(), 600)
    );
    assert_eq!(cleared.clearing.price, Some(ann.limit));
    let [trade] = cleared.trades.as_slice() else {
        panic!("{cleared:?}")
    };
    assert_eq!(
        (trade.bid, trade.offer, trade.energy.wh()),
        (ann.id(), bob.id(), 600)
    );
    let reason = |order: &Order| {
        let found = cleared.orders.iter().find(|o| o.id == order.id()).unwrap();
        (found.filled.wh(), found.reason.as_str())
    };
    assert_eq!(reason(&bob), (600, "filled"));
    assert_eq!(reason(&cem).0, 0);
    assert!(
        reason(&cem)
            .1
            .starts_with("not filled: limit below the price 0.300000")
    );
    assert_eq!(
        service::clearing(&market.db, noon())
            .await
            .unwrap()
            .as_ref(),
        Some(cleared)
    );
    assert_eq!(
        service::trade(&market.db, trade.id).await.unwrap().as_ref(),
        Some(trade)
    );
    let recent = service::recent_clearings(&market.db, 1).await.unwrap();
    assert_eq!(recent, std::slice::from_ref(&cleared.clearing));
    let (from, to) = (noon().start(), noon().end());
    for who in [&trade.buyer, &trade.seller] {
        let own = service::trades_of(&market.db, who, from, to, 9)
            .await
            .unwrap();
        assert_eq!(own, std::slice::from_ref(trade));
    }
    let none = service::trades_of(&market.db, &trade.buyer, to, to.plus_s(900), 9).await;
    assert_eq!(none.unwrap(), []);
    let book = service::cleared_orders(&market.db, from, to).await.unwrap();
    let in_order: Vec<&Order> = cleared.orders.iter().map(|one| &one.order).collect();
    assert_eq!(book.iter().collect::<Vec<_>>(), in_order);
}

#[tokio::test]
async fn an_accepted_order_is_kept_as_it_was_signed() {
    let (market, [ann, ..]) = Market::with_orders().await;
    let signed = service::signed_order(&market.db, ann.id()).await.unwrap();
    assert_eq!(signed.as_deref(), Some(verified(&ann).signed().as_bytes()));
    assert_eq!(
        service::next_sequence(&market.db, &ann.participant, 1 << 40)
            .await
            .unwrap(),
        2
    );
    let nobody = ParticipantId::new("nobody").unwrap();
    assert_eq!(
        service::next_sequence(&market.db, &nobody, 1 << 40)
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_nothing() {
    let (market, [ann, ..]) = Market::with_orders().await;
    market.clear(after_gate().plus_ms(-1)).await;
    let before = market.count("SELECT COUNT(*) FROM market_clearing").await;
    let mut tx = market.db.begin().await.unwrap();
    let lost = clear_due(&mut tx, &setup(market.rules), after_gate())
        .await
        .unwrap();
    place(&mut tx, &order("dan", 1, Side::Bid, 10, 1)).await;
    drop(tx);
    assert_eq!(
        market.count("SELECT COUNT(*) FROM market_clearing").await,
        before
    );
    assert_eq!(market.count("SELECT COUNT(*) FROM market_trade").await, 0);
    assert_eq!(market.count("SELECT COUNT(*) FROM market_order").await, 3);
    assert_eq!(market.clear(after_gate()).await, lost);
    assert_eq!(
        market.place(&ann).await,
        Outcome::Again {
            order: ann.id(),
            stands: true
        }
    );
}

#[tokio::test]
async fn what_was_done_is_not_done_again() {
    let (market, [ann, ..]) = Market::with_orders().await;
    assert_eq!(
        market.place(&ann).await,
        Outcome::Again {
            order: ann.id(),
            stands: true
        }
    );
    market.clear(after_gate()).await;
    assert_eq!(market.clear(after_gate()).await, []);
    assert_eq!(market.count("SELECT COUNT(*) FROM market_trade").await, 1);
    // Also once cleared, the same bytes are known; and a clock set back reopens nothing.
    assert_eq!(
        market.place(&ann).await,
        Outcome::Again {
            order: ann.id(),
            stands: true
        }
    );
    let late = order("dan", 1, Side::Bid, 10, 1);
    assert_eq!(
        market.place(&late).await,
        Outcome::Refused(Rejection::GateClosed)
    );
    market.db.migrate(MIGRATIONS).await.unwrap();
}

#[tokio::test]
async fn a_sequence_used_twice_is_evidence() {
    let (market, [ann, ..]) = Market::with_orders().await;
    for more in 1..EVIDENCE_MAX + 3 {
        let other = Order {
            energy: Energy::from_wh(1000 + more),
            ..ann.clone()
        };
        for _ in 0..2 {
            let refused = Outcome::Refused(Rejection::Equivocation);
            assert_eq!(market.place(&other).await, refused);
        }
    }
    assert_eq!(
        market.count("SELECT COUNT(*) FROM market_evidence").await,
        EVIDENCE_MAX
    );
    let both = "SELECT COUNT(*) FROM market_evidence e JOIN market_order o ON o.signed = e.kept \
         WHERE e.other <> e.kept";
    assert_eq!(market.count(both).await, EVIDENCE_MAX);
    let [kept, ..] = &service::orders(&market.db, noon()).await.unwrap()[..] else {
        panic!()
    };
    assert_eq!(kept.order, ann);
}

#[tokio::test]
async fn an_order_whose_id_another_one_has_is_refused_before_its_hold() {
    let (market, [ann, ..]) = Market::with_orders().await;
    // Two sequences with one id cannot be found in a test, so the first order gets the second one's.
    for (n, who) in [(7, "ann"), (8, "bob")] {
        let second = order(who, n, Side::Bid, 10, 200_000);
        let mut tx = market.db.begin().await.unwrap();
        let sql = "UPDATE market_order SET id = $1 WHERE participant = $2";
        let values = args![second.id().as_bytes(), ann.participant.as_str()];
        assert_eq!(tx.execute(sql, values).await.unwrap(), 1);
        let setup = setup(market.rules);
        let (order, rating_w) = (&verified(&second), 10_000);
        let messages = vec![Message::Place { order, rating_w }];
        let asked = |_: &Order| panic!("it asked for a hold");
        let outcomes = take(&mut tx, &setup, morning(), messages, asked).await;
        assert_eq!(outcomes, [Outcome::Refused(Rejection::Equivocation)]);
        tx.commit().await.unwrap();
    }
    let next = order("ann", 9, Side::Bid, 10, 200_000);
    assert_eq!(market.place(&next).await, Outcome::Accepted(next.id()));
}

#[tokio::test]
async fn a_refused_order_does_not_use_up_its_sequence() {
    let market = Market::new().await;
    let dear = order("ann", 5, Side::Bid, 10, 2_000_000);
    assert_eq!(
        market.place(&dear).await,
        Outcome::Refused(Rejection::OverLimit)
    );
    let fair = order("ann", 5, Side::Bid, 10, 200_000);
    assert_eq!(market.place(&fair).await, Outcome::Accepted(fair.id()));
    let most = u64::from(market.rules.orders_per_participant_max);
    for sequence in 6..5 + most {
        let next = order("ann", sequence, Side::Bid, 10, 200_000);
        assert_eq!(market.place(&next).await, Outcome::Accepted(next.id()));
    }
    let beyond = order("ann", 5 + most, Side::Bid, 10, 200_000);
    assert_eq!(
        market.place(&beyond).await,
        Outcome::Refused(Rejection::OverLimit)
    );
}

#[tokio::test]
async fn empty_intervals_are_cleared_too_from_the_first_start_on() {
    let market = Market::new().await;
    let running = market.clear(morning()).await;
    assert_eq!(
        running.len(),
        1,
        "the interval that runs when the market begins"
    );
    assert_eq!(running[0].clearing.interval.start(), morning());
    assert_eq!(market.clear(morning()).await, []);
    let later = morning().plus_s(900 * 100);
    let first = market.clear(later).await;
    assert_eq!(first.len(), DUE_MAX);
    assert!(
        first
            .iter()
            .all(|c| c.clearing.volume == Energy::ZERO && c.trades.is_empty())
    );
    let second = market.clear(later).await;
    assert_eq!(second.len(), 100 - DUE_MAX);
    let intervals = || first.iter().chain(&second).map(|c| c.clearing.interval);
    assert!(
        intervals()
            .zip(intervals().skip(1))
            .all(|(a, b)| a.next() == b)
    );
    assert_eq!(market.clear(later).await, []);
}

/// Whatever its book is cleared by, a market takes only wishes that it will heed.
#[tokio::test]
async fn a_wish_that_the_mechanism_cannot_heed_is_refused_with_its_order() {
    for (name, heeds) in [
        ("uniform-price", true),
        ("pay-as-bid", true),
        ("continuous", false),
        ("muda", false),
    ] {
        let market = Market::new().await;
        let setup = setup(Rules {
            mechanism: crate::books::mechanism(name),
            ..market.rules
        });
        let plain = order("ann", 1, Side::Bid, 500, 300_000);
        let mut wishing = order("ann", 2, Side::Bid, 500, 300_000);
        wishing.preference.partners = vec![ParticipantId::new("dan").unwrap()];
        let (both, rating_w) = ([&plain, &wishing].map(verified), 10_000);
        let messages = both.iter().map(|order| Message::Place { order, rating_w });
        let mut tx = market.db.begin().await.unwrap();
        let outcomes = take(&mut tx, &setup, morning(), messages.collect(), |_| true).await;
        let expect = match heeds {
            true => Outcome::Accepted(wishing.id()),
            false => Outcome::Refused(Rejection::WishUnheeded),
        };
        assert_eq!(outcomes, [Outcome::Accepted(plain.id()), expect], "{name}");
        // The book is cleared with what was taken.
        let cleared = clear_due(&mut tx, &setup, after_gate()).await.unwrap();
        tx.commit().await.unwrap();
        let own = cleared.iter().find(|c| c.clearing.interval == noon());
        assert_eq!(own.unwrap().clearing.orders, 1 + u32::from(heeds), "{name}");
    }
}

#[tokio::test]
async fn rules_that_do_not_fit_the_database_are_refused() {
    let (market, _) = Market::with_orders().await;
    let mut tx = market.db.begin().await.unwrap();
    let hourly = Rules {
        interval_length_s: 3600,
        ..market.rules
    };
    let error = clear_due(&mut tx, &setup(hourly), after_gate())
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        MarketError::LengthChanged {
            stored_s: 900,
            rules_s: 3600
        }
    ));
    let mechanism = crate::books::mechanism("trade-reduction");
    let two_prices = Rules {
        mechanism,
        ..market.rules
    };
    let error = clear_due(&mut tx, &setup(two_prices), after_gate())
        .await
        .unwrap_err();
    assert!(matches!(error, MarketError::TwoPrices));
}

#[tokio::test]
async fn the_book_s_digest_does_not_depend_on_arrival_where_arrival_does_not_matter() {
    let mut digests = Vec::new();
    for reverse in [false, true] {
        let market = Market::new().await;
        let mut orders = vec![
            order("ann", 1, Side::Bid, 1000, 300_000),
            order("bob", 1, Side::Bid, 1000, 300_000),
            order("cem", 1, Side::Offer, 999, 100_000),
        ];
        if reverse {
            orders.reverse();
        }
        for order in &orders {
            market.place(order).await;
        }
        digests.push(market.clear(after_gate()).await.pop().unwrap());
    }
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test]
async fn postgresql_gives_the_same_result() {
    let Some(server) = runtime::testing::postgres() else {
        return;
    };
    let db = Db::open(&server.url()).await.unwrap();
    db.migrate(MIGRATIONS).await.unwrap();
    let (market, orders) = Market::with_orders().await;
    let expected = market.clear(after_gate()).await.pop().unwrap();
    let mut tx = db.begin().await.unwrap();
    for order in &orders {
        place(&mut tx, order).await;
    }
    let cleared = clear_due(&mut tx, &setup(market.rules), after_gate())
        .await
        .unwrap()
        .pop()
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(cleared, expected);
    let hour = Interval::new(noon().start_s(), 3600).unwrap();
    for db in [&db, &market.db] {
        for (interval, has_book) in [(noon(), true), (noon().next(), false), (hour, false)] {
            let found = service::has_public_book(db, interval).await.unwrap();
            assert_eq!(found, has_book, "{interval}");
            let book = service::public_book(db, interval).await.unwrap();
            assert_eq!(book.is_some(), has_book, "{interval}");
        }
    }
    assert_eq!(
        service::clearing(&db, noon()).await.unwrap(),
        Some(expected)
    );
    db.close().await;
}

/// On a database that was begun before there was a table for it.
async fn a_cancel_may_come_first(db: &Db) {
    let older: Vec<_> = MIGRATIONS
        .iter()
        .filter(|step| step.version != 2003)
        .cloned()
        .collect();
    db.migrate(&older).await.unwrap();
    db.migrate(MIGRATIONS).await.unwrap();
    let late = order("ann", 5, Side::Bid, 10, 200_000);
    let cancel = verified(&Cancel {
        participant: late.participant.clone(),
        sequence: late.sequence,
        interval: late.interval,
    });
    let gone = Outcome::Again {
        order: late.id(),
        stands: false,
    };
    for expected in [Outcome::Withdrawn(late.id()), gone] {
        let mut tx = db.begin().await.unwrap();
        let setup = setup(Rules::default());
        let messages = vec![Message::Cancel(&cancel)];
        let outcomes = take(&mut tx, &setup, morning(), messages, |_| true).await;
        tx.commit().await.unwrap();
        assert_eq!(outcomes, [expected]);
    }
    let next = service::next_sequence(db, &late.participant, 1 << 40).await;
    assert_eq!(next.unwrap(), 6);
    let mut tx = db.begin().await.unwrap();
    assert_eq!(place(&mut tx, &late).await, gone);
    tx.commit().await.unwrap();
    assert!(service::orders(db, noon()).await.unwrap().is_empty());
    let signed = "SELECT signed FROM market_forestalled WHERE sequence = 5";
    let (kept,): (Vec<u8>,) = db.fetch_one(signed, args![]).await.unwrap();
    assert_eq!(kept, cancel.signed().as_bytes());
    for sql in [
        "UPDATE market_forestalled SET sequence = 6",
        "DELETE FROM market_forestalled",
    ] {
        let mut tx = db.begin().await.unwrap();
        let told = tx.execute(sql, args![]).await.unwrap_err();
        let told = format!("{told:?}");
        assert!(told.contains("append-only"), "{told}");
    }
}

#[tokio::test]
async fn a_cancel_may_come_before_its_order_on_both_databases() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("market.db");
    a_cancel_may_come_first(&Db::open(path.to_str().unwrap()).await.unwrap()).await;
    if let Some(server) = runtime::testing::postgres() {
        let db = Db::open(&server.url()).await.unwrap();
        a_cancel_may_come_first(&db).await;
        db.close().await;
    }
}
