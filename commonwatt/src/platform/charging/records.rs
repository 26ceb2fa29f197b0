//! What chargers' own meters have signed: taken from their gateways, kept, answered with the operator's word, and found
//! again for a session's receipt.

use anyhow::{Context, bail};
use domain::charger_record::{ChargerReceipt, ChargerRecord};
use domain::ids::{GatewayId, PointId};
use domain::signed::Signed;
use settlement::charging::receipt::{ChargerProof, choose};
use settlement::service::{self as books, Kept};

use super::Running;
use crate::platform::Shared;

/// Keeps a record that a gateway has brought; the answer to it. What is not the gateway's word has none, and what finds no
/// room today neither: the gateway keeps it and brings it again.
pub(crate) async fn hear(
    shared: &Shared,
    gateway: &GatewayId,
    payload: Vec<u8>,
) -> anyhow::Result<Vec<u8>> {
    let signed = Signed::<ChargerRecord>::from_bytes(payload);
    let kid = signed.claimed_signer()?;
    let held = books::gateway_public_key(&shared.db, kid).await?;
    let (holder, key) = held.with_context(|| format!("key {kid} is not enrolled, or revoked"))?;
    let verified = signed.verify(key, &shared.site.community)?;
    let record = verified.message();
    if holder != *gateway || record.gateway != *gateway {
        bail!("it is not a record of {gateway}");
    }
    let mut own = shared.site.gateways.iter().filter(|g| g.id == *gateway);
    let is_own = own.any(|g| g.points.iter().any(|p| p.point == record.point));
    let now = shared.clock.now();
    let refused = match is_own {
        false => Some("this gateway has no such point"),
        true => {
            let mut tx = shared.db.begin().await?;
            let kept = books::keep_charger_record(&mut tx, now, &verified).await?;
            tx.commit().await?;
            if kept == Kept::TooMany {
                bail!("{} has brought too many today", record.point);
            }
            None
        }
    };
    if let Some(why) = refused {
        tracing::warn!(%gateway, point = %record.point, "a charger's record is not kept: {why}");
    } else if let Err(why) = record.check() {
        tracing::warn!(point = %record.point, "what a charger's meter has signed is kept and not believed: {why}");
    }
    let answer = ChargerReceipt {
        gateway: gateway.clone(),
        record: verified.digest(),
        at: now,
        refused: refused.map(str::to_owned),
    };
    let operator = &shared.community.operator;
    let signed = Signed::sign(operator, &shared.site.community, &answer);
    Ok(signed.as_bytes().to_vec())
}

/// What a session's receipt shows of its charger's own word, and why something of it is not believed.
pub(super) async fn of_session(
    shared: &Shared,
    one: &Running,
) -> anyhow::Result<(Vec<ChargerProof>, Option<String>)> {
    let Some([(first, _), (last, _)]) = one.session.readings() else {
        return Ok((Vec::new(), None));
    };
    let point = PointId::new(&one.promise.quote.station)?;
    // A car is plugged in before the interval's end at which its session begins to count.
    let before = first.plus_s(-i64::from(shared.market.rules.interval_length_s));
    let found = books::charger_records(&shared.db, &point, (before, last)).await?;
    let mut records = Vec::with_capacity(found.len());
    for signed in found {
        let record = signed.stored()?;
        records.push((signed, record));
    }
    let (signed, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
    let chosen = choose(&records, (first, last));
    let mut proofs = Vec::with_capacity(chosen.places.len());
    for place in chosen.places {
        let kid = signed[place].claimed_signer()?;
        let known = books::enrolled_key(&shared.db, kid).await?;
        proofs.push(ChargerProof {
            record: signed[place].clone(),
            key: known.context("the key that signed a charger's record is not in the books")?,
            key_record: books::key_record(&shared.db, kid, records[place].heard_at).await?,
        });
    }
    Ok((proofs, chosen.refused))
}

/// The texts of a session's receipt as the charger gave them, one a line, for the transparency software that drivers have.
pub(crate) async fn texts(shared: &Shared, one: &Running) -> anyhow::Result<Option<String>> {
    let (proofs, _) = of_session(shared, one).await?;
    let mut texts = String::new();
    for proof in &proofs {
        texts += proof.record.stored()?.text.trim_end();
        texts.push('\n');
    }
    Ok((!texts.is_empty()).then_some(texts))
}
