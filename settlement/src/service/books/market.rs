//! The market's part of the books: clearings, trades and orders are what the market log commits to.

use domain::order::Order;
use domain::signed::Signed;
use domain::time::Timestamp;
use domain::trade::{Clearing, Trade};
use runtime::args;

use super::BooksError;
use super::contents::{Contents, Part, Row, found};
use crate::log::entry::Kind;
use crate::service::error::{corrupt, decoded};
use crate::service::id_range;

pub(super) async fn check(contents: &mut Contents<'_>, part: &mut Part) -> Result<(), BooksError> {
    for start_s in part.starts(Kind::Order) {
        orders(contents, part, start_s).await?;
    }
    for start_s in part.starts(Kind::Clearing) {
        clearing(contents, part, start_s).await?;
    }
    for start_s in part.starts(Kind::Trade) {
        trades(contents, part, start_s).await?;
    }
    Ok(())
}

async fn orders(
    contents: &mut Contents<'_>,
    part: &mut Part,
    start_s: i64,
) -> Result<(), BooksError> {
    let start = Timestamp::from_unix_s(start_s);
    let (from, to) = id_range(start, start.plus_ms(1));
    let rows: Vec<(Vec<u8>, Vec<u8>, i64)> = contents
        .db
        .fetch_all(
            "SELECT order_id, signed, log_index FROM settle_orders
             WHERE order_id >= $1 AND order_id < $2 ORDER BY order_id",
            args![from, to],
        )
        .await?;
    for (id, signed, index) in rows {
        let order = Signed::<Order>::from_bytes(signed.clone()).stored();
        let order = order.map_err(|_| corrupt("an order is no signed message"))?;
        let what = || {
            format!(
                "the order {} of {} for the interval that starts at unix second {start_s}",
                order.id(),
                order.participant
            )
        };
        let row = Row {
            index,
            kind: Kind::Order,
            start,
            content: &signed,
            whose: Some(order.participant.as_str()),
        };
        contents.take(part, &row, what)?;
        if order.id().0[..] != id[..] {
            return found(format!("{} stands under another name", what()));
        }
    }
    Ok(())
}

async fn clearing(
    contents: &mut Contents<'_>,
    part: &mut Part,
    start_s: i64,
) -> Result<(), BooksError> {
    let rows: Vec<(Vec<u8>, i64)> = contents
        .db
        .fetch_all(
            "SELECT content, log_index FROM settle_clearings WHERE start_s = $1",
            args![start_s],
        )
        .await?;
    for (content, index) in rows {
        let what = || format!("the clearing of the interval that starts at unix second {start_s}");
        let row = Row {
            index,
            kind: Kind::Clearing,
            start: Timestamp::from_unix_s(start_s),
            content: &content,
            whose: None,
        };
        contents.take(part, &row, what)?;
        let clearing: Clearing = decoded(&content, "a clearing")?;
        if clearing.interval.start_s() != start_s {
            return found(format!("{} is that of another interval", what()));
        }
    }
    Ok(())
}

async fn trades(
    contents: &mut Contents<'_>,
    part: &mut Part,
    start_s: i64,
) -> Result<(), BooksError> {
    let rows: Vec<(Vec<u8>, Vec<u8>, i64, i64)> = contents
        .db
        .fetch_all(
            "SELECT trade_id, content, buyer_index, seller_index FROM settle_trades
             WHERE start_s = $1 ORDER BY trade_id",
            args![start_s],
        )
        .await?;
    for (id, content, buyer, seller) in rows {
        let trade: Trade = decoded(&content, "a trade")?;
        let what = || {
            format!(
                "the trade {} of the interval that starts at unix second {start_s}",
                trade.id
            )
        };
        for (index, party) in [(buyer, &trade.buyer), (seller, &trade.seller)] {
            let row = Row {
                index,
                kind: Kind::Trade,
                start: Timestamp::from_unix_s(start_s),
                content: &content,
                whose: Some(party.as_str()),
            };
            contents.take(part, &row, what)?;
        }
        if trade.id.0[..] != id[..] || trade.interval.start_s() != start_s {
            return found(format!("{} stands under another name", what()));
        }
    }
    Ok(())
}
