//! The bodies of the fuzz targets on random bytes, without nightly and without cargo-fuzz.

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
    fn any_bytes_are_a_book_that_clears(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        bodies::book(&bytes);
    }
}
