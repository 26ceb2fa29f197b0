//! Looking for evidence in what came in: each case is kept as a file and entered in the ledger log, once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::{CommunityId, Digest32};
use domain::order::Order;
use domain::signed::Signed;
use domain::time::Timestamp;
use runtime::db::Db;
use settlement::evidence::{Evidence, Verdict, judge};
use settlement::service::{self, Found, FoundIn};
use tokio_util::sync::CancellationToken;

use super::Shared;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(10);
/// What came so long before the last look is looked at again: it may have waited for its proof.
const AGAIN_MS: i64 = 2 * 3_600_000;

/// Looks for evidence until `stop`. A look that fails is made again, and holds up nothing.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut looked = Looked::default();
    loop {
        match look(&shared, &mut looked).await {
            Ok((0, _) | (_, 0)) => {}
            Ok((_, new)) => tracing::warn!(
                new,
                "evidence against signers was found: `commonwatt evidence` writes it out"
            ),
            Err(error) => tracing::warn!("evidence is looked for again: {error:#}"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// How far was looked.
pub(super) struct Looked {
    /// Readings that came before.
    since: Timestamp,
    /// Pairs of orders, of those that the market lists.
    orders: BTreeSet<Digest32>,
}

impl Default for Looked {
    fn default() -> Self {
        Looked {
            since: Timestamp::EPOCH,
            orders: BTreeSet::new(),
        }
    }
}

/// Keeps what is new; gives how many things were looked at, and how many cases that gave.
pub(super) async fn look(shared: &Shared, looked: &mut Looked) -> anyhow::Result<(usize, usize)> {
    let Shared { db, community, .. } = shared;
    let now = shared.clock.now();
    let (mut all, is_all) = service::found_in_readings(db, community, now, looked.since).await?;
    let (pairs, newer) = orders(db, &community.id, &looked.orders).await?;
    for found in newer {
        if !service::is_looked_at(db, &found.source).await? {
            all.push(found);
        }
    }
    looked.orders = pairs;
    if all.is_empty() {
        // While there is more than one look takes in, the rest may be as old.
        if is_all {
            looked.since = now.plus_ms(-AGAIN_MS);
        }
        return Ok((0, 0));
    }
    let mut tx = db.begin().await?;
    let new = service::keep_found(&mut tx, now, &all).await?;
    tx.commit().await?;
    Ok((all.len(), new))
}

/// Pairs of orders under one number, by their digests, and the cases of those that are not in `known` and prove something.
pub(crate) async fn orders(
    db: &Db,
    community: &CommunityId,
    known: &BTreeSet<Digest32>,
) -> anyhow::Result<(BTreeSet<Digest32>, Vec<Found>)> {
    let (mut pairs, mut all) = (BTreeSet::new(), Vec::new());
    for (first, second) in market_engine::service::equivocations(db).await? {
        let pair = Digest32::of(&[first.as_slice(), &second].concat());
        pairs.insert(pair);
        if known.contains(&pair) {
            continue;
        }
        let signed = Signed::<Order>::from_bytes(first.clone());
        let Ok(kid) = signed.claimed_signer() else {
            continue;
        };
        let Some(key) = service::enrolled_key(db, kid).await? else {
            continue;
        };
        let evidence = Evidence::equivocation(community, key, &first, &second);
        // A number may come again under a key that took another's place: that is no proof against either.
        if !matches!(judge(&evidence), Ok(Verdict::Proven { .. })) {
            continue;
        }
        let order = signed.stored()?;
        all.push(Found {
            source: FoundIn {
                kind: "order",
                kid,
                whose: order.participant.to_string(),
                sequence: i64::try_from(order.sequence)?,
            },
            owner: Some(order.participant),
            evidence: Some(evidence),
        });
    }
    Ok((pairs, all))
}

#[cfg(test)]
mod tests;
