//! A public book held against the signed orders behind it: the market's own holds whatever its names, and a book
//! that hides other orders does not.

use std::collections::BTreeMap;

use domain::energy::Energy;
use domain::ids::{CommunityId, OrderId, ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, Preference, Side};
use domain::signed::{PublicKey, Signed, SigningKey, Verified};
use domain::time::Interval;
use domain::trade::Trade;
use market_engine::clear::{Mechanism, Words};
use market_engine::market::{Command, Event, Market, Rules, Secret};
use market_engine::public::opened::hides;
use proptest::prelude::*;

fn noon() -> Interval {
    Interval::new(1_782_000_000, 900).unwrap()
}

fn participant(n: u8) -> ParticipantId {
    ParticipantId::new(format!("home-{n}")).unwrap()
}

prop_compose! {
    /// Few limits and energies, so that equal orders are there.
    fn an_order()(
        who in 0_u8..5, is_bid: bool, energy in 1_i64..4, limit in 1_i64..6, wishes: bool,
        partners in proptest::collection::vec(0_u8..5, 0..3), green: bool, premium in 0_i64..3,
        local: bool,
    ) -> Order {
        let side = if is_bid { Side::Bid } else { Side::Offer };
        let mut partners: Vec<_> = partners.into_iter().filter(|n| *n != who).collect();
        partners.dedup();
        let preference = Preference {
            partners: partners.into_iter().map(participant).collect(),
            same_feeder: local && is_bid,
            green: green && !is_bid,
            green_premium: Price::from_micro_per_kwh(if is_bid { premium * 10_000 } else { 0 }),
        };
        Order {
            participant: participant(who),
            point: PointId::new(participant(who).as_str()).unwrap(),
            side,
            interval: noon(),
            energy: Energy::from_wh(energy * 100),
            limit: Price::from_micro_per_kwh(limit * 50_000),
            sequence: 0,
            replaces: None,
            preference: if wishes { preference } else { Preference::default() },
        }
    }
}

fn verified(order: &Order) -> Verified<Order> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let street = CommunityId::new("street").unwrap();
    let signed = Signed::sign(&key, &street, order);
    signed.verify(PublicKey::of(&key), &street).unwrap()
}

type Change<'a> = &'a dyn Fn(&mut BTreeMap<OrderId, Order>, &mut Vec<Trade>);
type Opened = (String, BTreeMap<OrderId, Order>, Vec<Trade>);

/// The public book of some orders, the orders that are in it, and their trades.
fn cleared(orders: Vec<Order>, secret: u8) -> Opened {
    cleared_by("uniform-price", orders, secret)
}

fn cleared_by(mechanism: &str, orders: Vec<Order>, secret: u8) -> Opened {
    let words = Words {
        mechanism: Some(mechanism),
        ..Words::default()
    };
    let rules = Rules {
        mechanism: Mechanism::from_words(&words).unwrap(),
        ..Rules::default()
    };
    let mut market = Market::new(rules, Secret([secret; 32]), noon());
    // Home 4 lies nobody knows where.
    market.restore_feeders((0..4).map(|n| (participant(n), u32::from(n % 2))).collect());
    let now = noon().start().plus_s(-1800);
    let mut accepted = BTreeMap::new();
    for (sequence, order) in (1..).zip(orders) {
        let order = Order { sequence, ..order };
        let place = Command::Place {
            order: &verified(&order),
            rating_w: 40_000,
        };
        let mut events = market.apply(now, place).unwrap();
        if matches!(events.last(), Some(Event::HoldAsked { .. })) {
            events = market.apply(now, Command::Held(true)).unwrap();
        }
        if matches!(events.last(), Some(Event::Accepted { .. })) {
            accepted.insert(order.id(), order);
        }
    }
    let events = market.apply(noon().start(), Command::Clear).unwrap();
    let [.., Event::Cleared(cleared), Event::Published { book, .. }] = events.as_slice() else {
        panic!("{events:?}");
    };
    (book.clone(), accepted, cleared.trades.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_markets_own_book_hides_its_orders(
        orders in proptest::collection::vec(an_order(), 0..14), secret: u8,
        mechanism in prop::sample::select(vec!["uniform-price", "pay-as-bid", "continuous"]),
    ) {
        let (book, orders, trades) = cleared_by(mechanism, orders, secret);
        prop_assert_eq!(hides(&book, &orders, &trades), Ok(()));
    }

    #[test]
    fn a_book_of_other_orders_is_found(
        orders in proptest::collection::vec(an_order(), 2..14), which: prop::sample::Index, change in 0..5,
    ) {
        let (book, mut orders, trades) = cleared(orders, 1);
        prop_assume!(!orders.is_empty());
        let id = *orders.keys().nth(which.index(orders.len())).unwrap();
        let order = orders.get_mut(&id).unwrap();
        match change {
            0 => order.energy = Energy::from_wh(order.energy.wh() + 1),
            1 => order.limit = Price::from_micro_per_kwh(order.limit.micro_per_kwh() + 1),
            2 => order.side = order.side.opposite(),
            3 => order.preference.same_feeder = !order.preference.same_feeder,
            _ => drop(orders.remove(&id)),
        }
        prop_assert!(hides(&book, &orders, &trades).is_err());
    }
}

fn order(who: u8, side: Side, energy_wh: i64, micro: i64) -> Order {
    Order {
        participant: participant(who),
        point: PointId::new(participant(who).as_str()).unwrap(),
        side,
        interval: noon(),
        energy: Energy::from_wh(energy_wh),
        limit: Price::from_micro_per_kwh(micro),
        sequence: 0,
        replaces: None,
        preference: Preference::default(),
    }
}

#[test]
fn what_differs_is_said() {
    let market = vec![
        order(1, Side::Bid, 400, 300_000),
        order(1, Side::Bid, 100, 200_000),
        order(2, Side::Bid, 250, 250_000),
        order(3, Side::Offer, 500, 100_000),
    ];
    let (book, orders, trades) = cleared(market, 3);
    assert_eq!(hides(&book, &orders, &trades), Ok(()));
    let told = |change: Change<'_>| {
        let (mut orders, mut trades) = (orders.clone(), trades.clone());
        change(&mut orders, &mut trades);
        hides(&book, &orders, &trades).unwrap_err()
    };
    let of_100 = |orders: &mut BTreeMap<OrderId, Order>| {
        let found = orders.iter().find(|(_, order)| order.energy.wh() == 100);
        *found.unwrap().0
    };
    let energy = told(&|orders, _| {
        let id = of_100(orders);
        orders.get_mut(&id).unwrap().energy = Energy::from_wh(99);
    });
    assert_eq!(
        energy,
        "the public book and the signed orders differ: only the book has a bid of 100 Wh at 0.200000, filled 0 Wh"
    );
    let whose = told(&|orders, _| {
        let id = of_100(orders);
        orders.get_mut(&id).unwrap().participant = participant(2);
    });
    assert!(
        whose.contains("gives an order to another participant"),
        "{whose}"
    );
    let price = told(&|_, trades| trades[0].price = Price::from_micro_per_kwh(1));
    assert!(price.contains("the trades in the log differ"), "{price}");
    let wishes = told(&|orders, _| {
        let id = of_100(orders);
        orders.get_mut(&id).unwrap().preference.same_feeder = true;
    });
    assert!(
        wishes.contains("shows no wishes, the signed orders have some"),
        "{wishes}"
    );
}

/// One's own feeder is shown, and one that is not known as well: neither can be left out or made up.
#[test]
fn a_wish_for_the_own_feeder_is_compared() {
    let local = |who| {
        let mut order = order(who, Side::Bid, 200 + i64::from(who), 300_000);
        order.preference.same_feeder = true;
        order
    };
    let market = vec![
        local(1),
        local(4),
        order(2, Side::Bid, 250, 250_000),
        order(1, Side::Offer, 90, 90_000),
        order(3, Side::Offer, 500, 100_000),
    ];
    let (book, orders, trades) = cleared(market, 3);
    assert_eq!(hides(&book, &orders, &trades), Ok(()));
    assert_eq!(book.matches("\"same_feeder\":true").count(), 2, "{book}");
    let wish = "\"feeder\":1,\"same_feeder\":true,";
    let told = |from: &str, to: &str| {
        assert!(book.contains(from), "{from} in {book}");
        hides(&book.replacen(from, to, 1), &orders, &trades).unwrap_err()
    };
    let unwished = told(wish, "");
    assert!(
        unwished.contains("only the book has a bid of 201 Wh at 0.300000, filled"),
        "{unwished}"
    );
    let unknown = told(
        "\"same_feeder\":true,\"filled_wh\":204",
        "\"filled_wh\":204",
    );
    assert!(unknown.contains("of 204 Wh"), "{unknown}");
    let elsewhere = told(wish, "\"feeder\":0,\"same_feeder\":true,");
    assert!(elsewhere.contains("on two feeders"), "{elsewhere}");
    let nobody = book
        .replace(",\"same_feeder\":true", "")
        .replacen(wish, "", 1);
    assert!(hides(&nobody, &orders, &trades).is_err());
}
