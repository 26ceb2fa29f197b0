//! The operator's word on which of a point's readings are in the books.

use domain::acceptance::{Acceptance, LIST_MAX};
use domain::ids::{GatewayId, PointId};
use domain::rejection::Rejection;
use domain::signed::Signed;
use domain::time::Timestamp;
use runtime::args;

use super::error::{corrupt, number, stored};
use super::{Community, ServiceError, registry};
use crate::store::Source;

/// The operator's signed word on which readings of a point are in the books.
///
/// Sequences count from one. Where more ranges are missing than one acceptance can list, it speaks up to
/// the first it cannot list; of the rejected sequences it names the newest.
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
    let registered = registry::point(source, point).await?;
    if registered.is_none_or(|p| p.gateway != *gateway) {
        return Err(ServiceError::Refused(format!(
            "point {point} is not behind {gateway}"
        )));
    }
    let (accepted_up_to, missing) = heard(source, point).await?;
    let rejected = rejected(source, point).await?;
    let message = Acceptance {
        gateway: gateway.clone(),
        point: point.clone(),
        accepted_up_to,
        missing,
        rejected,
        issued_at: now,
    };
    Ok(Signed::sign(&community.operator, &community.id, &message))
}

type Heard = (Option<u64>, Vec<(u64, u64)>);

/// Up to which sequence everything was decided, and the ranges below that never came.
async fn heard(source: &mut impl Source, point: &PointId) -> Result<Heard, ServiceError> {
    let last: Option<(i64,)> = source
        .optional(
            "SELECT sequence FROM settle_readings WHERE point = $1 ORDER BY sequence DESC LIMIT 1",
            args![point.as_str()],
        )
        .await?;
    let gaps: Vec<(i64, i64)> = source
        .all(
            "SELECT before, sequence FROM (SELECT sequence, LAG(sequence, 1, CAST(0 AS BIGINT))
             OVER (ORDER BY sequence) AS before FROM settle_readings WHERE point = $1) AS numbered
             WHERE sequence > before + 1 ORDER BY sequence LIMIT $2",
            args![point.as_str(), stored(LIST_MAX as u64)? + 1],
        )
        .await?;
    let mut missing = gaps
        .into_iter()
        .map(|(before, next)| Ok((number(before + 1, "a sequence")?, number(next - 1, "one")?)))
        .collect::<Result<Vec<(u64, u64)>, ServiceError>>()?;
    let mut accepted_up_to = last.map(|(s,)| number(s, "a sequence")).transpose()?;
    if missing.len() > LIST_MAX {
        accepted_up_to = missing.pop().map(|(first, _)| first - 1);
    }
    Ok((accepted_up_to, missing))
}

async fn rejected(
    source: &mut impl Source,
    point: &PointId,
) -> Result<Vec<(u64, Rejection)>, ServiceError> {
    let refused: Vec<(i64, String)> = source
        .all(
            "SELECT sequence, reason FROM settle_readings WHERE point = $1 AND reason IS NOT NULL
             ORDER BY sequence DESC LIMIT $2",
            args![point.as_str(), stored(LIST_MAX as u64)?],
        )
        .await?;
    let rejection = |(sequence, name): (i64, String)| {
        let reason = Rejection::from_name(&name).ok_or_else(|| corrupt("an unknown rejection"))?;
        Ok((number(sequence, "a sequence")?, reason))
    };
    refused.into_iter().rev().map(rejection).collect()
}
