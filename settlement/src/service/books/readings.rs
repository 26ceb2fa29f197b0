//! Readings: what their rows say is what their gateways signed, and the signed bytes are what the log commits to.

use domain::energy::Energy;
use domain::ids::Digest32;
use domain::reading::{Obis, Reading};
use domain::signed::{Signed, encode};
use domain::time::Timestamp;
use runtime::args;

use super::BooksError;
use super::contents::{Contents, Part, Row, found};
use crate::log::entry::Kind;

type ReadingRow = (
    String,
    i64,
    Vec<u8>,
    i64,
    i64,
    i64,
    Vec<u8>,
    i64,
    i64,
    i64,
    Vec<u8>,
    Vec<u8>,
    Option<i64>,
    Option<String>,
);

pub(super) async fn check(contents: &mut Contents<'_>, part: &mut Part) -> Result<(), BooksError> {
    for start_s in part.starts(Kind::Reading) {
        let rows: Vec<ReadingRow> = contents
            .db
            .fetch_all(
                "SELECT r.point, r.sequence, r.digest, r.start_s, r.length_s, r.era, r.registers, r.imported_wh,
                 r.exported_wh, r.quality, r.kid, r.bytes, r.log_index, p.participant FROM settle_readings r
                 LEFT JOIN settle_points p ON p.point = r.point
                 WHERE r.start_s = $1 AND r.reason IS NULL ORDER BY r.point",
                args![start_s],
            )
            .await?;
        for row in rows {
            one(contents, part, &row)?;
        }
    }
    Ok(())
}

fn one(contents: &mut Contents<'_>, part: &mut Part, row: &ReadingRow) -> Result<(), BooksError> {
    let (point, start_s, bytes) = (&row.0, row.3, &row.11);
    let what =
        || format!("the reading of {point} in the interval that starts at unix second {start_s}");
    let Some(index) = row.12 else {
        return found(format!("{} is accepted and in no log", what()));
    };
    if index >= 0 && !part.has(index) {
        return Ok(());
    }
    let entry = Row {
        index,
        kind: Kind::Reading,
        start: Timestamp::from_unix_s(start_s),
        content: bytes,
        whose: row.13.as_deref(),
    };
    contents.take(part, &entry, what)?;
    let signed = Signed::<Reading>::from_bytes(bytes.clone());
    if signed
        .stored()
        .is_ok_and(|reading| is_as_signed(row, &reading))
        && signed.claimed_signer().is_ok_and(|kid| kid.0[..] == row.10)
    {
        return Ok(());
    }
    found(format!(
        "{} has {} Wh in and {} Wh out in its row, or something else there, that its gateway did not sign",
        what(),
        row.7,
        row.8
    ))
}

/// Whether the columns are those of the signed reading.
fn is_as_signed(row: &ReadingRow, reading: &Reading) -> bool {
    let counted = |obis| reading.energy(obis).unwrap_or(Energy::ZERO).wh();
    let signed = (
        reading.point.as_str(),
        i64::try_from(reading.sequence).ok(),
        reading.interval.start_s(),
        i64::from(reading.interval.length_s()),
        i64::from(reading.era),
        counted(Obis::IMPORT),
        counted(Obis::EXPORT),
        i64::from(reading.quality.bits()),
    );
    let (point, sequence, digest, start_s, length_s, era, registers, ..) = row;
    let stored = (
        point.as_str(),
        Some(*sequence),
        *start_s,
        *length_s,
        *era,
        row.7,
        row.8,
        row.9,
    );
    signed == stored
        && digest[..] == Digest32::of(&row.11).0
        && *registers == encode(&reading.registers)
}
