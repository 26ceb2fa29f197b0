//! Which checkpoint of a log is shown to everybody: one that many witnesses have signed, so that a reader who wants
//! several of them finds their signatures together, and never a smaller one than was chosen before.

use runtime::args;
use runtime::db::Tx;

use super::ServiceError;
use super::witnesses::COSIGNED_AGE_MAX_MS;
use crate::log::checkpoint::Log;

/// So long a newer checkpoint has to find as many gateways as the one that is shown; then fewer will do.
const GATHERING_MS: i64 = 60_000;
/// Most signed checkpoints that are looked at, the newest.
const LOOKED_AT_MAX: i64 = 256;

/// A checkpoint, and how many have signed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Signed {
    size: i64,
    at_ms: i64,
    witnesses: i64,
    gateways: i64,
}

/// The checkpoint to show next, of those that are larger than the shown one; none where that one stays. Witnesses of
/// the site count before gateways.
fn next(shown: Option<Signed>, larger: &[Signed], newest_ms: i64) -> Option<i64> {
    let wanted = match shown.map(|shown| (newest_ms.saturating_sub(shown.at_ms), shown)) {
        Some((age, shown)) if age <= GATHERING_MS => (shown.witnesses, shown.gateways),
        Some((age, shown)) if age <= COSIGNED_AGE_MAX_MS => (shown.witnesses, 0),
        Some(_) | None => (0, 0),
    };
    let count = |one: &Signed| (one.witnesses, one.gateways);
    let enough = larger.iter().filter(|one| count(one) >= wanted);
    let best = enough.max_by_key(|one| (count(one), one.size))?;
    Some(best.size)
}

/// Chooses anew after somebody has signed.
pub(super) async fn advance(tx: &mut Tx, log: Log) -> Result<(), ServiceError> {
    type Row = (i64, i64, i64, i64);
    let code = i64::from(log.code());
    // Gateways sign for the ledger log, which has the code 3.
    let rows: Vec<Row> = tx
        .fetch_all(
            "SELECT p.size, p.at_ms,
             (SELECT COUNT(*) FROM settle_cosignatures c WHERE c.log = $1 AND c.size = p.size),
             (SELECT COUNT(*) FROM settle_gateway_cosignatures g WHERE p.log = 3 AND g.size = p.size)
             FROM settle_checkpoints p WHERE p.log = $1
             AND (EXISTS (SELECT 1 FROM settle_cosignatures c WHERE c.log = $1 AND c.size = p.size)
             OR EXISTS (SELECT 1 FROM settle_gateway_cosignatures g WHERE p.log = 3 AND g.size = p.size))
             AND p.size >= (SELECT COALESCE(MAX(size), 0) FROM settle_shown_checkpoints WHERE log = $1)
             ORDER BY p.size DESC LIMIT $2",
            args![code, LOOKED_AT_MAX],
        )
        .await?;
    let known: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT size FROM settle_shown_checkpoints WHERE log = $1",
            args![code],
        )
        .await?;
    let newest: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT at_ms FROM settle_checkpoints WHERE log = $1 ORDER BY size DESC LIMIT 1",
            args![code],
        )
        .await?;
    let signed = rows
        .into_iter()
        .map(|(size, at_ms, witnesses, gateways)| Signed {
            size,
            at_ms,
            witnesses,
            gateways,
        });
    let is_shown = |one: &Signed| known == Some((one.size,));
    let (shown, larger): (Vec<Signed>, Vec<Signed>) = signed.partition(is_shown);
    let newest_ms = newest.map_or(0, |(at_ms,)| at_ms);
    if let Some(size) = next(shown.first().copied(), &larger, newest_ms) {
        tx.execute(
            "INSERT INTO settle_shown_checkpoints (log, size) VALUES ($1, $2)
             ON CONFLICT (log) DO UPDATE SET size = excluded.size",
            args![code, size],
        )
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(size: i64, witnesses: i64, gateways: i64) -> Signed {
        let at_ms = size * 1000;
        Signed {
            size,
            at_ms,
            witnesses,
            gateways,
        }
    }

    #[test]
    fn a_checkpoint_is_shown_when_as_many_have_signed_it_as_the_one_before() {
        let shown = Some(at(10, 1, 5));
        for (larger, newest_s, expected) in [
            (vec![], 11, None),
            // Fewer gateways: they may still come.
            (vec![at(11, 1, 4)], 12, None),
            (vec![at(11, 1, 5)], 12, Some(11)),
            (vec![at(11, 1, 6), at(12, 1, 5)], 12, Some(11)),
            (vec![at(11, 1, 5), at(12, 1, 5)], 12, Some(12)),
            // A witness of the site counts before any number of gateways.
            (vec![at(11, 2, 0), at(12, 1, 99)], 12, Some(11)),
            (vec![at(11, 0, 99)], 12, None),
            // They had their time.
            (vec![at(11, 1, 3), at(12, 1, 2)], 71, Some(11)),
            (vec![at(11, 0, 99)], 71, None),
            // The one that is shown is old: any is better.
            (vec![at(800, 0, 1)], 911, Some(800)),
        ] {
            let told = next(shown, &larger, newest_s * 1000);
            assert_eq!(told, expected, "{larger:?} at {newest_s} s");
        }
        assert_eq!(next(None, &[at(3, 0, 1), at(4, 0, 1)], 4000), Some(4));
    }
}
