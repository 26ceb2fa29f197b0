//! Keys, points and requests for tokens: their rows are what the ledger log commits to.

use std::collections::{BTreeMap, BTreeSet};

use domain::ids::PointId;
use domain::key_record::{Holder, KeyRecord, PointRecord};
use domain::revocation::Revocation;
use domain::signed::Signed;
use runtime::args;

use super::BooksError;
use super::contents::{Contents, Row, found};
use crate::log::entry::Kind;
use crate::service::error::corrupt;
use crate::service::{registered_points, tokens};

pub(super) async fn check(contents: &mut Contents<'_>) -> Result<(), BooksError> {
    let points = keys(contents).await?;
    check_points(contents, &points).await?;
    revocations(contents).await?;
    for told in tokens::logged(contents.db).await? {
        let (whose, reference) = (&told.participant, &told.reference);
        let what = || format!("what the tables say of the tokens of {whose} under `{reference}`");
        let row = Row {
            index: told.index,
            kind: Kind::Tokens,
            start: told.at,
            content: &told.content,
            whose: Some(whose),
        };
        contents.named(&row, what)?;
    }
    Ok(())
}

/// Points with the gateway and the record that the newest key record gives them.
type Points = BTreeMap<PointId, (String, PointRecord)>;

type KeyRow = (Vec<u8>, i64, i64, Vec<u8>, Option<Vec<u8>>);

async fn keys(contents: &mut Contents<'_>) -> Result<Points, BooksError> {
    let rows: Vec<KeyRow> = contents
        .db
        .fetch_all(
            "SELECT r.kid, r.log_index, r.valid_from_ms, r.signed, k.public FROM settle_key_records r
             LEFT JOIN settle_keys k ON k.kid = r.kid ORDER BY r.log_index",
            args![],
        )
        .await?;
    let mut points = Points::new();
    for (kid, index, valid_from_ms, signed, public) in rows {
        let record = Signed::<KeyRecord>::from_bytes(signed.clone()).stored();
        let record = record.map_err(|_| corrupt("a key record is no signed message"))?;
        let what = || format!("the record of key {}", record.key.id());
        let row = Row {
            index,
            kind: Kind::Key,
            start: record.valid_from,
            content: &signed,
            whose: None,
        };
        contents.named(&row, what)?;
        let own = (record.key.id(), record.valid_from.unix_ms());
        let is_own = own.0.0[..] == kid[..] && own.1 == valid_from_ms;
        if !is_own || public.as_deref() != Some(&record.key.to_bytes()) {
            return found(format!("{} is kept as that of another key or time", what()));
        }
        if let Holder::Gateway {
            gateway,
            points: given,
        } = record.holder
        {
            let given = given.into_iter();
            points.extend(given.map(|p| (p.point.clone(), (gateway.to_string(), p))));
        }
    }
    Ok(points)
}

/// Points are billed to whom the registry names: that is whom the newest signed record names.
async fn check_points(contents: &Contents<'_>, signed: &Points) -> Result<(), BooksError> {
    let points = registered_points(contents.db).await?;
    for point in &points {
        let is_signed = signed.get(&point.point).is_some_and(|(gateway, record)| {
            (gateway.as_str(), record.role, record.rating_w)
                == (point.gateway.as_str(), point.role, point.rating_w)
                && record.participant == point.participant
        });
        if !is_signed {
            return found(format!(
                "point {} is registered otherwise than the newest signed record of its gateway says",
                point.point
            ));
        }
    }
    let known: BTreeSet<&PointId> = points.iter().map(|known| &known.point).collect();
    match signed.keys().find(|point| !known.contains(point)) {
        Some(point) => found(format!("point {point} was signed and is not registered")),
        None => Ok(()),
    }
}

type RevocationRow = (Vec<u8>, i64, i64, i64, Vec<u8>);

async fn revocations(contents: &mut Contents<'_>) -> Result<(), BooksError> {
    let rows: Vec<RevocationRow> = contents
        .db
        .fetch_all(
            "SELECT kid, log_index, from_sequence, from_ms, signed FROM settle_revocations
             ORDER BY log_index",
            args![],
        )
        .await?;
    for (kid, index, from_sequence, from_ms, signed) in rows {
        let word = Signed::<Revocation>::from_bytes(signed.clone()).stored();
        let word = word.map_err(|_| corrupt("a revocation is no signed message"))?;
        let what = || format!("the revocation of key {}", word.key);
        let row = Row {
            index,
            kind: Kind::Revocation,
            start: word.from,
            content: &signed,
            whose: None,
        };
        contents.named(&row, what)?;
        let own = (i64::try_from(word.from_sequence), word.from.unix_ms());
        if own != (Ok(from_sequence), from_ms) || word.key.0[..] != kid[..] {
            return found(format!("{} counts otherwise than it was signed", what()));
        }
    }
    Ok(())
}
