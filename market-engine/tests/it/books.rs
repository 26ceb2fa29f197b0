//! Books written as text, and results written as text.

use std::fmt::Write;

use domain::money::Price;
use domain::order::Side;
use market_engine::book::{Book, Entry};
use market_engine::clear::{Mechanism, Outcome, Words, clear};

/// A mechanism from `mechanism policy ties k`, `-` for the default.
pub(crate) fn mechanism(text: &str) -> Mechanism {
    let words: Vec<Option<&str>> = text
        .split(' ')
        .map(|w| Some(w).filter(|w| *w != "-"))
        .collect();
    let word = |n: usize| words.get(n).copied().flatten();
    let words = Words {
        mechanism: word(0),
        price_policy: word(1),
        ties: word(2),
        k: word(3),
        seed: (word(2) == Some("lottery")).then_some(11),
    };
    Mechanism::from_words(&words).unwrap()
}

/// All mechanisms with all their policies and ties.
pub(crate) fn all() -> Vec<Mechanism> {
    let mut all = vec![Mechanism::Continuous];
    all.extend([1, 2, 3].map(|seed| Mechanism::Muda { seed }));
    for ties in ["pro-rata", "time", "lottery"] {
        for head in [
            "uniform-price walras-mid",
            "uniform-price marginal",
            "uniform-price pair-k",
            "pay-as-bid bid",
            "pay-as-bid offer",
            "pay-as-bid mid",
            "trade-reduction -",
            "huang -",
            "vcg -",
        ] {
            all.push(mechanism(&format!("{head} {ties}")));
        }
    }
    all
}

/// Orders like `b1 ann 100 30; o1 bob 50 20`: name (b bids, o offers), participant, Wh, micro-tokens.
pub(crate) struct Orders {
    pub(crate) names: Vec<String>,
    pub(crate) book: Book,
}

pub(crate) fn orders(text: &str) -> Orders {
    let (mut names, mut people, mut book) = (Vec::new(), Vec::new(), Book::new(b"noon"));
    for (arrival, line) in text
        .split(';')
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .enumerate()
    {
        let mut words = line.split_whitespace();
        let (name, who) = (words.next().unwrap(), words.next().unwrap());
        let mut number = || words.next().unwrap().parse::<i64>().unwrap();
        if !people.contains(&who) {
            people.push(who);
        }
        let mut key = [0; 16];
        key[..name.len()].copy_from_slice(name.as_bytes());
        book.push(Entry {
            side: if name.starts_with('b') {
                Side::Bid
            } else {
                Side::Offer
            },
            energy_wh: number(),
            limit: Price::from_micro_per_kwh(number()),
            participant: u32::try_from(people.iter().position(|p| *p == who).unwrap()).unwrap(),
            arrival: u32::try_from(arrival).unwrap(),
            key,
        })
        .unwrap();
        names.push(name.to_owned());
    }
    Orders { names, book }
}

/// Price, interval, volume; trades; orders that are not simply filled.
pub(crate) fn result(orders: &Orders, outcome: &Outcome) -> String {
    let micro = |price: Price| price.micro_per_kwh();
    let mut text = outcome
        .price
        .map_or("no price".to_owned(), |p| micro(p).to_string());
    if let (Some((low, high)), Some(_)) = (outcome.price_interval, outcome.price) {
        let _ = write!(text, " of {}..{}", micro(low), micro(high));
    }
    let _ = write!(text, ", {} Wh", outcome.volume_wh);
    if outcome.surplus != 0 {
        let _ = write!(text, ", surplus {}", outcome.surplus);
    }
    let name = |index: u32| &orders.names[usize::try_from(index).unwrap()];
    for t in &outcome.trades {
        let _ = write!(
            text,
            "; {} {} {} @{}",
            name(t.bid),
            name(t.offer),
            t.energy_wh,
            micro(t.buyer_price)
        );
        if t.seller_price != t.buyer_price {
            let _ = write!(text, "/{}", micro(t.seller_price));
        }
    }
    text
}

/// Clears a book and compares the result; `mechanism` as in [`mechanism`].
pub(crate) fn check(words: &str, book: &str, expect: &str) {
    let orders = orders(book);
    let outcome = clear(&orders.book, mechanism(words));
    assert_eq!(result(&orders, &outcome), expect, "{words}: {book}");
}

/// Clears a book and compares the explanation of one order.
pub(crate) fn check_reason(words: &str, book: &str, name: &str, expect: &str) {
    let orders = orders(book);
    let outcome = clear(&orders.book, mechanism(words));
    let place = orders.names.iter().position(|n| n == name).unwrap();
    assert_eq!(
        outcome.orders[place].reason.to_string(),
        expect,
        "{words}: {book}"
    );
}
