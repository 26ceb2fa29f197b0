//! The operator's word on which of a point's readings are in the books.

use domain::acceptance::{Acceptance, LIST_MAX, LedgerHead};
use domain::ids::{GatewayId, PointId};
use domain::rejection::Rejection;
use domain::signed::Signed;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Source;

use super::error::{bytes, corrupt, number, stored};
use super::{Community, ServiceError, registry};

/// A gateway repeats what was not answered every few minutes: what it has not asked again for so long, it
/// has heard of.
pub const REFUSAL_HEARD_MS: i64 = 3_600_000;
/// Most readings under replaced keys that one acceptance confirms; the rest follows when these have left.
const OLDER_MAX: i64 = 4096;

/// The operator's signed word on which readings of a point are in the books, of those under the gateway's
/// newest key.
///
/// Sequences count from one. Where more ranges are missing than one acceptance can list, it speaks up to
/// the first it cannot list. Of the rejected sequences it names those asked last, and does not speak past
/// one that it cannot name and that the gateway may not have heard of. Readings under a replaced key
/// are confirmed when they are sent again after the new key was enrolled, below the new key's first
/// sequence.
///
/// # Errors
/// The database failed, or the point is not behind this gateway.
pub async fn acceptance<S: Source>(
    source: &mut S,
    community: &Community,
    now: Timestamp,
    gateway: &GatewayId,
    point: &PointId,
) -> Result<Signed<Acceptance>, ServiceError> {
    acceptance_with_ledger(source, community, now, (gateway, point), None).await
}

/// [`acceptance`], with the ledger log's newest checkpoint in it.
///
/// # Errors
/// As [`acceptance`].
pub async fn acceptance_with_ledger<S: Source>(
    source: &mut S,
    community: &Community,
    now: Timestamp,
    (gateway, point): (&GatewayId, &PointId),
    ledger: Option<LedgerHead>,
) -> Result<Signed<Acceptance>, ServiceError> {
    let registered = registry::point(source, point).await?;
    if registered.is_none_or(|p| p.gateway != *gateway) {
        return Err(ServiceError::Refused(format!(
            "point {point} is not behind {gateway}"
        )));
    }
    let asked = Asked::of(source, gateway, point).await?;
    let (mut accepted_up_to, mut missing) = asked.heard(source).await?;
    let (rejected, unnamed) = asked.rejected(source, now).await?;
    if let Some(unnamed) = unnamed {
        let most = unnamed.saturating_sub(1);
        accepted_up_to = accepted_up_to.map(|up_to| up_to.min(most));
        missing.retain(|(first, _)| *first <= most);
        if let Some((_, last)) = missing.last_mut() {
            *last = (*last).min(most);
        }
    }
    let message = Acceptance {
        gateway: gateway.clone(),
        point: point.clone(),
        accepted_up_to,
        missing,
        rejected,
        issued_at: now,
        ledger,
    };
    Ok(Signed::sign(&community.operator, &community.id, &message))
}

/// What an acceptance speaks about.
struct Asked<'a> {
    point: &'a PointId,
    /// The gateway's newest key, and since when it is known.
    kid: [u8; 8],
    enrolled_ms: i64,
    /// The key's readings that are known without a gap, first and last.
    progress: Option<(i64, i64)>,
}

type Heard = (Option<u64>, Vec<(u64, u64)>);
type Rejected = (Vec<(u64, Rejection)>, Option<u64>);

impl<'a> Asked<'a> {
    async fn of(
        source: &mut impl Source,
        gateway: &GatewayId,
        point: &'a PointId,
    ) -> Result<Self, ServiceError> {
        let key: Option<(Vec<u8>, i64)> = source
            .optional(
                "SELECT kid, enrolled_ms FROM settle_keys WHERE gateway = $1 AND replaced_ms IS NULL",
                args![gateway.as_str()],
            )
            .await?;
        let (kid, enrolled_ms) = key.ok_or_else(|| corrupt("a gateway without a key"))?;
        let kid = bytes(&kid, "a key's name")?;
        let progress = source
            .optional(
                "SELECT first, up_to FROM settle_progress WHERE point = $1 AND kid = $2",
                args![point.as_str(), kid],
            )
            .await?;
        Ok(Asked {
            point,
            kid,
            enrolled_ms,
            progress,
        })
    }

    /// Below which sequence answers to older keys count.
    fn first(&self) -> i64 {
        self.progress.map_or(i64::MAX, |(first, _)| first)
    }

    /// Up to which sequence everything was decided, and the ranges below that never came.
    async fn heard(&self, source: &mut impl Source) -> Result<Heard, ServiceError> {
        let mut decided = self.older(source).await?;
        decided.extend(self.progress.map(|(first, _)| first));
        let mut missing = Vec::new();
        let mut before = 0;
        for sequence in &decided {
            if *sequence > before + 1 {
                missing.push((before + 1, *sequence));
            }
            before = *sequence;
        }
        let mut last = decided.last().copied();
        if let Some((_, up_to)) = self.progress {
            missing.extend(self.gaps(source, up_to).await?);
            last = Some(self.last(source, up_to).await?);
        }
        let mut accepted_up_to = last.map(|s| number(s, "a sequence")).transpose()?;
        let mut missing = missing
            .into_iter()
            .map(|(first, next)| Ok((number(first, "a sequence")?, number(next - 1, "one")?)))
            .collect::<Result<Vec<(u64, u64)>, ServiceError>>()?;
        if let Some((first, _)) = missing.get(LIST_MAX) {
            accepted_up_to = Some(first - 1);
            missing.truncate(LIST_MAX);
        }
        Ok((accepted_up_to, missing))
    }

    async fn older(&self, source: &mut impl Source) -> Result<Vec<i64>, ServiceError> {
        let rows: Vec<(i64,)> = source
            .all(
                "SELECT sequence FROM settle_answers WHERE point = $1 AND kid <> $2 AND asked_ms >= $3
                 AND sequence < $4 ORDER BY sequence LIMIT $5",
                args![
                    self.point.as_str(),
                    self.kid,
                    self.enrolled_ms,
                    self.first(),
                    OLDER_MAX
                ],
            )
            .await?;
        Ok(rows.into_iter().map(|(sequence,)| sequence).collect())
    }

    /// The first missing of each gap above `up_to`, and the next that is known.
    async fn gaps(
        &self,
        source: &mut impl Source,
        up_to: i64,
    ) -> Result<Vec<(i64, i64)>, ServiceError> {
        let rows = source.all(
            "SELECT before + 1, sequence FROM (SELECT sequence, LAG(sequence, 1, $3)
             OVER (ORDER BY sequence) AS before FROM settle_readings
             WHERE point = $1 AND kid = $2 AND sequence > $3) AS numbered
             WHERE sequence > before + 1 ORDER BY sequence LIMIT $4",
            args![
                self.point.as_str(),
                self.kid,
                up_to,
                stored(LIST_MAX as u64)? + 1
            ],
        );
        Ok(rows.await?)
    }

    async fn last(&self, source: &mut impl Source, up_to: i64) -> Result<i64, ServiceError> {
        let row: Option<(i64,)> = source
            .optional(
                "SELECT sequence FROM settle_readings WHERE point = $1 AND kid = $2 AND sequence > $3
                 ORDER BY sequence DESC LIMIT 1",
                args![self.point.as_str(), self.kid, up_to],
            )
            .await?;
        Ok(row.map_or(up_to, |(sequence,)| sequence))
    }

    /// The refusals asked for last, as many as fit, and the first of those that do not.
    async fn rejected(
        &self,
        source: &mut impl Source,
        now: Timestamp,
    ) -> Result<Rejected, ServiceError> {
        let (point, kid, first) = (self.point.as_str(), self.kid, self.first());
        let most = stored(LIST_MAX as u64)?;
        let refused: Vec<(i64, String)> = source
            .all(
                "SELECT sequence, reason FROM settle_answers WHERE point = $1 AND reason IS NOT NULL
                 AND (kid = $2 OR (asked_ms >= $3 AND sequence < $4))
                 ORDER BY asked_ms DESC, sequence LIMIT $5",
                args![point, kid, self.enrolled_ms, first, most],
            )
            .await?;
        let heard_ms = now.unix_ms() - REFUSAL_HEARD_MS;
        let unnamed: Option<(Option<i64>,)> = source
            .optional(
                "SELECT MIN(sequence) FROM (SELECT sequence FROM settle_answers
                 WHERE point = $1 AND reason IS NOT NULL AND asked_ms >= $5
                 AND (kid = $2 OR (asked_ms >= $3 AND sequence < $4))
                 ORDER BY asked_ms DESC, sequence LIMIT $6 OFFSET $7) AS unnamed",
                args![
                    point,
                    kid,
                    self.enrolled_ms,
                    first,
                    heard_ms,
                    i64::MAX,
                    most
                ],
            )
            .await?;
        let unnamed = unnamed.and_then(|(sequence,)| sequence);
        let unnamed = unnamed.map(|s| number(s, "a sequence")).transpose()?;
        let rejection = |(sequence, name): (i64, String)| {
            let reason = Rejection::from_name(&name);
            let reason = reason.ok_or_else(|| corrupt("an unknown rejection"))?;
            Ok((number(sequence, "a sequence")?, reason))
        };
        let mut named = refused
            .into_iter()
            .map(rejection)
            .collect::<Result<Vec<_>, ServiceError>>()?;
        named.sort_unstable();
        Ok((named, unnamed))
    }
}
