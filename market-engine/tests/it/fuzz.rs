//! The bodies of the fuzz targets on random bytes, without nightly and without cargo-fuzz.

use domain::energy::Energy;
use domain::ids::{ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, Preference, Side};
use domain::signed::Message;
use domain::standing_order::{Battery, Deadline, Standing, StandingOrder};
use domain::time::{Interval, Timestamp};
use proptest::prelude::*;

#[path = "../../fuzz/bodies.rs"]
mod bodies;

/// Files that are nearly right: pieces of orders in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "id,participant,side,energy_wh,limit_price\n",
        "b1,ann,bid,100,0.30\n",
        "o1,bob,offer,50,0.10\n",
        "o2,ann,offer,9223372036854775807,-0.1\n",
        "[{\"id\":\"b1\",\"participant\":\"ann\",\"side\":\"bid\",\"energy_wh\":100,\"limit_price\":\"0.30\"}",
        ",{\"id\":\"o1\",\"participant\":\"bob\",\"side\":\"offer\",\"energy_wh\":50,\"limit_price\":0.1}",
        "]",
        ",",
        "\"",
        "\n",
        "\u{feff}",
        "{",
        "ü",
        "-",
        "1e9",
    ]);
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// A message as it should be: an order with every wish, a deadline, or a battery.
fn right(which: usize) -> Vec<u8> {
    let participant = ParticipantId::new("home-1").unwrap();
    let point = PointId::new("home-1.meter").unwrap();
    let price = Price::from_micro_per_kwh(180_000);
    let until = Timestamp::from_unix_s(1_782_111_600);
    let wish = match which {
        0 => {
            let order = Order {
                participant,
                point,
                side: Side::Bid,
                interval: Interval::new(1_782_036_900, 900).unwrap(),
                energy: Energy::from_wh(830),
                limit: price,
                sequence: 42,
                replaces: Some(41),
                preference: Preference {
                    partners: vec![ParticipantId::new("home-2").unwrap()],
                    same_feeder: true,
                    green: false,
                    green_premium: price,
                },
            };
            return order.to_cbor();
        }
        1 => Standing::Deadline(Deadline {
            energy: Energy::from_wh(20_000),
            by: until,
            power_max_w: 11_000,
            limit: price,
            must: true,
        }),
        _ => Standing::Battery(Battery {
            least: Energy::from_wh(1_000),
            most: Energy::from_wh(9_500),
            charge_max_w: 5_000,
            discharge_max_w: 5_000,
            loss_basis_points: 900,
            margin: price,
            until,
        }),
    };
    let standing = StandingOrder {
        participant,
        point,
        sequence: 5,
        replaces: None,
        wish,
        begins_with: Energy::ZERO,
        capacity: None,
        counted_at: None,
    };
    standing.to_cbor()
}

proptest! {
    #[test]
    fn any_bytes_are_orders_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        bodies::orders(&bytes);
    }

    #[test]
    fn any_pieces_are_orders_or_are_refused(text in pieces()) {
        bodies::orders(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        bodies::messages(&bytes);
    }

    /// Messages that were right before some of their bytes were changed.
    #[test]
    fn any_damaged_message_is_one_or_none(
        which in 0_usize..3, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = right(which);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bodies::messages(&bytes);
    }

    #[test]
    fn any_bytes_are_a_book_that_clears(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        bodies::book(&bytes);
    }
}
