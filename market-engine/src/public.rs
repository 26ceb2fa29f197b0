//! The book of a cleared interval as everybody may see it, and clearing it again.
//!
//! It is one line of JSON: how the interval was cleared, every order under a name that is another in every
//! interval, what became of it, and the trades. Its SHA-256 is in the clearing that the market log holds.
//! [`rerun`] clears the orders in it anew and writes the book again, which gives the same bytes or tells
//! where they differ.

pub mod opened;

use domain::ids::to_hex;
use domain::money::Price;
use domain::order::Side;
use domain::time::{Interval, Timestamp};
use serde::{Deserialize, Serialize};

use crate::book::{Book, BookError, Entry, slot};
use crate::clear::{Mechanism, Words};
use crate::preference::{Because, PARTNERS_MAX, Preferred, Wish, cleared};

/// The first member of a public book.
pub const FORMAT: &str = "commonwatt-book/v1";

/// Largest public book that is read, in bytes.
pub const BOOK_MAX_BYTES: u64 = 1 << 30;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicBook {
    format: String,
    interval_start: String,
    interval_length_s: u32,
    mechanism: String,
    details: String,
    price: Option<String>,
    price_low: Option<String>,
    price_high: Option<String>,
    volume_wh: i64,
    /// What the orders' wishes came to, where they have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wishes: Option<PublicWishes>,
    orders: Vec<PublicOrder>,
    trades: Vec<PublicTrade>,
}

/// What wishes came to, in token and token/kWh.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicWishes {
    green_premium: String,
    premiums_paid: String,
    welfare_cost: String,
}

/// An order. Where arrival matters, the orders stand in that order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicOrder {
    order: String,
    participant: String,
    side: String,
    energy_wh: i64,
    limit_price: String,
    /// Named participants that have an order in this book, most wanted first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partners: Vec<String>,
    /// The number of the feeder: of offers, and of bids that wish energy of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    feeder: Option<u32>,
    /// A bid that wishes energy of its own feeder; books of older programs show it by the feeder alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    same_feeder: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    green: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    green_premium: Option<String>,
    filled_wh: i64,
    reason: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicTrade {
    bid: String,
    offer: String,
    energy_wh: i64,
    price: String,
    /// Which wish brought the two together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    because: Option<String>,
}

/// What names an interval in ties.
pub(crate) fn salt(interval: Interval) -> Vec<u8> {
    let mut salt = interval.start_s().to_be_bytes().to_vec();
    salt.extend(interval.length_s().to_be_bytes());
    salt
}

/// The public book of a clearing. `people` has a participant's name for each order.
pub(crate) fn write(
    interval: Interval,
    mechanism: Mechanism,
    book: &Book,
    people: &[[u8; 16]],
    (wishes, preferred): (Option<&[Wish]>, &Preferred),
) -> String {
    let outcome = &preferred.outcome;
    let (low, high) = outcome.price_interval.unzip();
    let text = |price: Option<Price>| price.map(|price| price.to_string());
    let name = |index: u32| to_hex(&book.entries()[slot(index)].key);
    let rows = book.entries().iter().zip(people).zip(&outcome.orders);
    let mut names = std::collections::HashMap::new();
    for (entry, person) in book.entries().iter().zip(people) {
        names.insert(entry.participant, to_hex(person));
    }
    let none = Wish::default();
    let wish = |n: usize| wishes.and_then(|all| all.get(n)).unwrap_or(&none);
    let order =
        |(n, ((entry, participant), fill)): (usize, ((&Entry, &[u8; 16]), &crate::clear::Fill))| {
            let wish = wish(n);
            let partners = wish.partners.iter().filter_map(|p| names.get(p).cloned());
            let premium = Some(wish.green_premium).filter(|p| *p != Price::ZERO);
            PublicOrder {
                order: to_hex(&entry.key),
                participant: to_hex(participant),
                side: entry.side.word().to_owned(),
                energy_wh: entry.energy_wh,
                limit_price: entry.limit.to_string(),
                partners: partners.collect(),
                feeder: wish.feeder,
                same_feeder: wish.same_feeder,
                green: wish.green,
                green_premium: text(premium),
                filled_wh: fill.filled_wh,
                reason: fill.reason.to_string(),
            }
        };
    let trades = outcome.trades.iter().zip(&preferred.because);
    let trades = trades.map(|(trade, because)| PublicTrade {
        bid: name(trade.bid),
        offer: name(trade.offer),
        energy_wh: trade.energy_wh,
        price: trade.buyer_price.to_string(),
        because: Some(because.word().to_owned()).filter(|_| *because != Because::Merit),
    });
    let wished = wishes.map(|_| PublicWishes {
        green_premium: preferred.green_premium.to_string(),
        premiums_paid: crate::file::money(preferred.cost.premiums),
        welfare_cost: crate::file::money(preferred.cost.welfare),
    });
    to_text(&PublicBook {
        format: FORMAT.to_owned(),
        interval_start: interval.start().to_string(),
        interval_length_s: interval.length_s(),
        mechanism: mechanism.name().to_owned(),
        details: mechanism.details(),
        price: text(outcome.price),
        price_low: text(low),
        price_high: text(high),
        volume_wh: outcome.volume_wh,
        wishes: wished,
        orders: rows.enumerate().map(order).collect(),
        trades: trades.collect(),
    })
}

fn to_text(book: &PublicBook) -> String {
    // Strings and integers only: nothing in it can fail to be written.
    serde_json::to_string(book).unwrap_or_default() + "\n"
}

/// What clearing a public book again has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rerun {
    /// The interval of the book.
    pub interval: Interval,
    /// The mechanism that the book names.
    pub mechanism: String,
    /// Orders in it.
    pub orders: usize,
    /// The one price of its trades, where there is one.
    pub price: Option<Price>,
    /// Energy that its orders trade.
    pub volume_wh: i64,
    /// The first thing that is not as the book says; `None` where it is the same byte for byte.
    pub difference: Option<String>,
}

/// A public book as it can be cleared.
#[derive(Debug)]
pub struct Published {
    /// Its interval.
    pub interval: Interval,
    /// How it was cleared.
    pub mechanism: Mechanism,
    /// Its orders.
    pub book: Book,
    people: Vec<[u8; 16]>,
    said: PublicBook,
}

impl Published {
    /// Reads a public book.
    ///
    /// # Errors
    /// The text is none.
    pub fn read(text: &str) -> Result<Published, PublicBookError> {
        let said: PublicBook = serde_json::from_str(text)?;
        if said.format != FORMAT {
            return Err(PublicBookError::Format(said.format));
        }
        let start: Timestamp = said
            .interval_start
            .parse()
            .map_err(|_| wrong("interval_start"))?;
        let interval = Interval::new(start.unix_s(), said.interval_length_s)
            .map_err(|_| wrong("interval_length_s"))?;
        let mechanism = mechanism_of(&said.mechanism, &said.details)?;
        let (book, people) = read_orders(&said, interval)?;
        if book.entries().len() > mechanism.orders_max() {
            return Err(BookError::Full.into());
        }
        Ok(Published {
            interval,
            mechanism,
            book,
            people,
            said,
        })
    }
}

/// Clears the orders of a public book again and compares.
///
/// # Errors
/// The text is no public book.
pub fn rerun(text: &str) -> Result<Rerun, PublicBookError> {
    let Published {
        interval,
        mechanism,
        book,
        people,
        said,
    } = Published::read(text)?;
    let has_wishes = said.wishes.is_some();
    let wishes = has_wishes.then(|| read_wishes(&said, &book, &people));
    let wishes = wishes.transpose()?;
    let preferred = cleared(&book, mechanism, wishes.as_deref());
    let wished = (wishes.as_deref(), &preferred);
    let written = write(interval, mechanism, &book, &people, wished);
    let outcome = &preferred.outcome;
    let difference = (written != text).then(|| {
        let found: Option<PublicBook> = serde_json::from_str(&written).ok();
        let found = found.and_then(|found| first_difference(&said, &found));
        found.unwrap_or_else(|| "the text: the same content is written in another way".to_owned())
    });
    Ok(Rerun {
        interval,
        mechanism: said.mechanism,
        orders: book.entries().len(),
        price: outcome.price,
        volume_wh: outcome.volume_wh,
        difference,
    })
}

fn read_orders(
    said: &PublicBook,
    interval: Interval,
) -> Result<(Book, Vec<[u8; 16]>), PublicBookError> {
    let mut book = Book::new(&salt(interval));
    let mut participants = std::collections::HashMap::new();
    let mut names = std::collections::HashSet::new();
    let mut people = Vec::with_capacity(said.orders.len());
    for (arrival, order) in (0_u32..).zip(&said.orders) {
        let next = u32::try_from(participants.len()).map_err(|_| BookError::Full)?;
        let person = name_of(&order.participant, "participant")?;
        let key = name_of(&order.order, "order")?;
        if !names.insert(key) {
            return Err(wrong("order"));
        }
        let side = [Side::Bid, Side::Offer]
            .into_iter()
            .find(|side| side.word() == order.side);
        book.push(Entry {
            side: side.ok_or_else(|| wrong("side"))?,
            energy_wh: order.energy_wh,
            limit: order
                .limit_price
                .parse()
                .map_err(|_| wrong("limit_price"))?,
            participant: *participants.entry(person).or_insert(next),
            arrival,
            key,
        })?;
        people.push(person);
    }
    Ok((book, people))
}

/// The wishes of the orders, by the numbers that their participants have in the book.
fn read_wishes(
    said: &PublicBook,
    book: &Book,
    people: &[[u8; 16]],
) -> Result<Vec<Wish>, PublicBookError> {
    let mut numbers = std::collections::HashMap::new();
    for (entry, person) in book.entries().iter().zip(people) {
        numbers.insert(*person, entry.participant);
    }
    let partner = |name: &String| {
        let number = numbers.get(&name_of(name, "partners")?);
        number.copied().ok_or_else(|| wrong("partners"))
    };
    let wish = |order: &PublicOrder| {
        let premium = match &order.green_premium {
            Some(text) => text.parse().map_err(|_| wrong("green_premium"))?,
            None => Price::ZERO,
        };
        if premium < Price::ZERO || order.partners.len() > PARTNERS_MAX {
            return Err(wrong("a wish"));
        }
        Ok(Wish {
            partners: order
                .partners
                .iter()
                .map(partner)
                .collect::<Result<_, _>>()?,
            feeder: order.feeder,
            same_feeder: order.same_feeder,
            green: order.green,
            green_premium: premium,
        })
    };
    said.orders.iter().map(wish).collect()
}

fn name_of(text: &str, member: &'static str) -> Result<[u8; 16], PublicBookError> {
    domain::ids::from_hex::<16>(text).map_err(|_| wrong(member))
}

const fn wrong(member: &'static str) -> PublicBookError {
    PublicBookError::Member(member)
}

/// The mechanism that wrote itself as this name and these details.
fn mechanism_of(name: &str, details: &str) -> Result<Mechanism, PublicBookError> {
    let mut words = Words {
        mechanism: Some(name),
        ..Words::default()
    };
    let mut parts = details.split(' ');
    let policy = parts.next();
    if matches!(name, "uniform-price" | "pay-as-bid") {
        words.price_policy = policy;
    }
    for part in parts {
        match part.split_once('=') {
            Some(("k", k)) => words.k = Some(k),
            Some(("ties", _)) if matches!(name, "continuous" | "muda") => {}
            Some(("ties", ties)) => words.ties = Some(ties),
            Some(("seed", seed)) => {
                words.seed = Some(seed.parse().map_err(|_| wrong("details"))?);
            }
            _ => return Err(wrong("details")),
        }
    }
    let mechanism = Mechanism::from_words(&words).map_err(|_| wrong("mechanism"))?;
    // Nothing that was left away or read in another way goes unseen.
    match mechanism.name() == name && mechanism.details() == details {
        true => Ok(mechanism),
        false => Err(wrong("details")),
    }
}

/// What differs first, in the order in which a reader would look.
fn first_difference(said: &PublicBook, found: &PublicBook) -> Option<String> {
    let differs = |what: &str, said: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
        let (said, found) = (format!("{said:?}"), format!("{found:?}"));
        (said != found)
            .then(|| format!("{what}: the book says {said}, clearing again gives {found}"))
    };
    let rows = |(said, found): (&PublicOrder, &PublicOrder)| {
        let order = format!("order {}", said.order);
        differs(
            &format!("{order}, filled_wh"),
            &said.filled_wh,
            &found.filled_wh,
        )
        .or_else(|| differs(&format!("{order}, reason"), &said.reason, &found.reason))
        .or_else(|| differs(&order, said, found))
    };
    differs("price", &said.price, &found.price)
        .or_else(|| differs("volume_wh", &said.volume_wh, &found.volume_wh))
        .or_else(|| differs("wishes", &said.wishes, &found.wishes))
        .or_else(|| differs("price_low", &said.price_low, &found.price_low))
        .or_else(|| differs("price_high", &said.price_high, &found.price_high))
        .or_else(|| said.orders.iter().zip(&found.orders).find_map(rows))
        .or_else(|| differs("number of trades", &said.trades.len(), &found.trades.len()))
        .or_else(|| {
            let mut trades = said.trades.iter().zip(&found.trades).zip(1..);
            trades.find_map(|((a, b), n)| differs(&format!("trade {n}"), a, b))
        })
}

/// Why a text is no public book.
#[derive(Debug, thiserror::Error)]
pub enum PublicBookError {
    /// Not the JSON of one.
    #[error("not a public book: {0}")]
    Json(#[from] serde_json::Error),
    /// Another format.
    #[error("format: found `{0}`, expected `{FORMAT}`")]
    Format(String),
    /// A member that holds something else than it should.
    #[error("member `{0}` of the public book is not what it should be, or is there twice")]
    Member(&'static str),
    /// Orders that make no book.
    #[error(transparent)]
    Book(#[from] BookError),
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clear::{PairPrice, PricePolicy, Ties};

    fn noon() -> Interval {
        Interval::new(1_782_000_000, 900).unwrap()
    }

    pub(crate) fn published(mechanism: Mechanism) -> String {
        let mut book = Book::new(&salt(noon()));
        let rows = [
            (Side::Bid, 1000, 300_000, 0),
            (Side::Bid, 700, 250_000, 1),
            (Side::Bid, 700, 250_000, 2),
            (Side::Offer, 900, 100_000, 3),
            (Side::Offer, 800, 120_000, 0),
            (Side::Offer, 500, 400_000, 4),
        ];
        let mut people = Vec::new();
        for (n, (side, energy_wh, micro, participant)) in (0_u8..).zip(rows) {
            let entry = Entry {
                side,
                energy_wh,
                limit: Price::from_micro_per_kwh(micro),
                participant,
                arrival: u32::from(n),
                key: [n; 16],
            };
            book.push(entry).unwrap();
            people.push([u8::try_from(participant).unwrap() + 100; 16]);
        }
        let preferred = cleared(&book, mechanism, None);
        write(noon(), mechanism, &book, &people, (None, &preferred))
    }

    /// Two bids and two offers: the first bid wishes the dearer seller, the second pays for green energy.
    #[test]
    fn a_book_with_wishes_is_cleared_again_with_them() {
        let mut book = Book::new(&salt(noon()));
        let mut wishes = vec![Wish::default(); 4];
        let rows = [
            (Side::Bid, 1000, 300_000),
            (Side::Bid, 700, 250_000),
            (Side::Offer, 900, 100_000),
            (Side::Offer, 1500, 120_000),
        ];
        let mut people = Vec::new();
        for (n, (side, energy_wh, micro)) in (0_u8..).zip(rows) {
            let entry = Entry {
                side,
                energy_wh,
                limit: Price::from_micro_per_kwh(micro),
                participant: u32::from(n),
                arrival: u32::from(n),
                key: [n; 16],
            };
            book.push(entry).unwrap();
            people.push([n + 100; 16]);
        }
        wishes[0].partners = vec![3];
        wishes[1].green_premium = Price::from_micro_per_kwh(20_000);
        (wishes[2].green, wishes[2].feeder) = (true, Some(1));
        let mechanism = Mechanism::default();
        let preferred = cleared(&book, mechanism, Some(&wishes));
        let text = write(
            noon(),
            mechanism,
            &book,
            &people,
            (Some(&wishes), &preferred),
        );
        for part in [
            "\"partners\":[\"67676767676767676767676767676767\"]",
            "\"green_premium\":\"0.020000\"",
            "\"because\":\"partner\"",
            "\"because\":\"green\"",
            "\"welfare_cost\":\"0.000000000\"",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(rerun(&text).unwrap().difference, None);
        let without = text.replacen("\"green\":true,", "", 1);
        assert!(rerun(&without).unwrap().difference.is_some());
    }

    fn every_mechanism() -> Vec<Mechanism> {
        let all_ties = [Ties::ProRata, Ties::Time, Ties::Lottery { seed: 7 }];
        let k_millionths = 250_000;
        let policies = [
            PricePolicy::WalrasMid,
            PricePolicy::Marginal,
            PricePolicy::PairK { k_millionths },
        ];
        let mut all = vec![Mechanism::Continuous, Mechanism::Muda { seed: 3 }];
        for ties in all_ties {
            all.extend(policies.map(|policy| Mechanism::UniformPrice { policy, ties }));
            all.extend(
                [PairPrice::Bid, PairPrice::Mid].map(|price| Mechanism::PayAsBid { price, ties }),
            );
            all.extend([
                Mechanism::TradeReduction { ties },
                Mechanism::Huang { ties },
                Mechanism::Vcg { ties },
            ]);
        }
        all
    }

    #[test]
    fn clearing_a_public_book_again_gives_the_same_bytes_for_every_mechanism() {
        for mechanism in every_mechanism() {
            let again = rerun(&published(mechanism)).unwrap();
            let expected = (noon(), 6, None);
            assert_eq!(
                (again.interval, again.orders, again.difference),
                expected,
                "{mechanism:?}"
            );
        }
    }

    #[test]
    fn a_changed_book_is_told_by_what_differs_first() {
        let book = published(Mechanism::default());
        let check = |from: &str, to: &str, expect: &str| {
            let changed = book.replacen(from, to, 1);
            assert_ne!(changed, book, "{from}");
            let told = match rerun(&changed) {
                Ok(rerun) => rerun.difference.unwrap(),
                Err(error) => error.to_string(),
            };
            assert!(told.starts_with(expect), "{told}");
        };
        check(
            "\"price\":\"0.25",
            "\"price\":\"0.26",
            "price: the book says Some(\"0.26",
        );
        check("\"energy_wh\":800", "\"energy_wh\":200", "volume_wh: ");
        check("\"filled_wh\":900", "\"filled_wh\":899", "order 00000000");
        check(
            "\"filled\"",
            "\"lucky\"",
            "order 03030303030303030303030303030303, reason: ",
        );
        check("{\"format\"", "{ \"format\"", "the text: ");
        check("-book/v1", "-book/v2", "format: found `commonwatt-book/v2`");
        check("ties=pro-rata", "ties=none", "member `mechanism`");
        check("\"side\":\"bid\"", "\"side\":\"ask\"", "member `side`");
        let twice = "\"order\":\"01010101010101010101010101010101\"";
        check(twice, &twice.replace("01", "00"), "member `order`");
    }
}
