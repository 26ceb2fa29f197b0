//! What the fuzz targets do with bytes.

use domain::cancel::Cancel;
use domain::money::Price;
use domain::order::{Order, Side};
use domain::signed::{Message, Signed};
use domain::standing_order::{StandingCancel, StandingOrder};
use market_engine::book::{Book, Entry};
use market_engine::clear::{Mechanism, PairPrice, PricePolicy, Ties, clear};
use market_engine::file::{Format, clear_file};
use market_engine::public::rerun;

/// Bytes of one order in [`book`].
const ORDER_BYTES: usize = 18;
/// Most orders of a book made of bytes.
const ORDERS: usize = 40;

/// Any bytes are a file that clears or is refused with a sentence, and what cleared can be written.
pub(crate) fn orders(bytes: &[u8]) {
    for format in [Format::Csv, Format::Json] {
        match clear_file(bytes, format, Mechanism::default()) {
            Ok(output) => {
                assert!(output.to_json().is_ok() && output.to_csv().is_ok());
                assert!(output.to_table().starts_with("mechanism"));
            }
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }
    }
}

/// Any bytes are a message or none, whoever sends them; what is one says the same when it is written again.
pub(crate) fn messages(bytes: &[u8]) {
    says_the_same::<Order>(bytes);
    says_the_same::<Cancel>(bytes);
    says_the_same::<StandingOrder>(bytes);
    says_the_same::<StandingCancel>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        match rerun(text) {
            Ok(again) => assert!(again.volume_wh >= 0),
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }
    }
}

fn says_the_same<T: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let signed = Signed::<T>::from_bytes(bytes.to_vec());
    let _ = (signed.claimed_kind(), signed.claimed_signer());
    assert!(signed.claimed().is_err() || bytes.len() <= T::KIND.max_bytes());
    if let Ok(message) = T::from_cbor(bytes) {
        let written = message.to_cbor();
        assert_eq!(T::from_cbor(&written).ok(), Some(message));
    }
}

/// Any bytes are a book that every mechanism clears: each asserts its promises itself.
pub(crate) fn book(bytes: &[u8]) {
    let mut book = Book::new(b"noon");
    for (place, bytes) in (0_u32..).zip(bytes.chunks_exact(ORDER_BYTES).take(ORDERS)) {
        let number = |from: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[from..from + 8]);
            i64::from_le_bytes(eight)
        };
        // Small numbers meet more often; the first byte says how many bits are kept.
        let shift = u32::from(bytes[0] >> 2);
        let mut key = [0; 16];
        key[..4].copy_from_slice(&place.to_be_bytes());
        let entry = Entry {
            side: if bytes[0] & 1 == 0 {
                Side::Bid
            } else {
                Side::Offer
            },
            energy_wh: number(2) >> shift,
            limit: Price::from_micro_per_kwh(number(10) >> shift),
            participant: u32::from(bytes[1] % 6),
            arrival: place,
            key,
        };
        // What does not fit is refused, and the book stays as it was.
        let before = book.entries().len();
        let pushed = book.push(entry).is_ok();
        assert_eq!(book.entries().len(), before + usize::from(pushed));
    }
    for mechanism in mechanisms() {
        let outcome = clear(&book, mechanism);
        assert_eq!(outcome, clear(&book, mechanism));
        for order in &outcome.orders {
            assert!(!order.reason.to_string().is_empty());
        }
    }
}

fn mechanisms() -> Vec<Mechanism> {
    let mut all = vec![Mechanism::Continuous, Mechanism::Muda { seed: 1 }];
    for ties in [Ties::ProRata, Ties::Time, Ties::Lottery { seed: 1 }] {
        let policy = PricePolicy::Marginal;
        let price = PairPrice::Mid;
        all.extend([
            Mechanism::UniformPrice { policy, ties },
            Mechanism::PayAsBid { price, ties },
            Mechanism::TradeReduction { ties },
            Mechanism::Huang { ties },
            Mechanism::Vcg { ties },
        ]);
    }
    all
}
