//! What is left of a session: its receipt and its OCMF text.

use anyhow::Context;
use domain::ids::PointId;
use domain::reading::ClockState;
use domain::time::Timestamp;
use settlement::charging::ocmf;
use settlement::charging::receipt::{self, Proof};
use settlement::charging::session::State;
use settlement::service as books;

use super::{Running, records};
use crate::platform::Shared;

/// The signed receipt of a session that has ended; none where nothing was metered in it, or it goes on.
pub(crate) async fn receipt(shared: &Shared, one: &Running) -> anyhow::Result<Option<String>> {
    if !matches!(one.session.state(), State::Closed(_)) || one.session.bill().is_none() {
        return Ok(None);
    }
    let Some([first, last]) = one.session.readings() else {
        return Ok(None);
    };
    let proofs = [
        proof(shared, one, first.0).await?,
        proof(shared, one, last.0).await?,
    ];
    let (promise, session) = (&one.promise, &one.session);
    let settled = match promise.buys {
        true => Some(books::station_settled(&shared.db, &promise.host, (first.0, last.0)).await?),
        false => None,
    };
    let credits = books::charging_credits(&shared.db, &promise.quote.session).await?;
    let (charger, refused) = records::of_session(shared, one).await?;
    let parts = receipt::Parts {
        proofs: &proofs,
        settled: settled.as_deref(),
        credits: &credits,
        charger: (&charger, refused.as_deref()),
    };
    let (community, operator) = (&shared.site.community, &shared.community.operator);
    Ok(Some(receipt::write(session, &parts, community, operator)?))
}

/// The signed reading of the interval that ends at `end`, with what shows whose it is and that it is in the log.
async fn proof(shared: &Shared, one: &Running, end: Timestamp) -> anyhow::Result<Proof> {
    let point = PointId::new(&one.promise.quote.station)?;
    let from = end.plus_s(-i64::from(shared.market.rules.interval_length_s));
    let readings = books::charging_readings(&mut &shared.db, &point, (from, end)).await?;
    let found = readings.into_iter().find(|(_, r)| r.interval.end() == end);
    let (signed, reading) =
        found.with_context(|| format!("the reading that ends at {end} is gone"))?;
    // Also a key that was revoked since: the reading was accepted before.
    let kid = signed.claimed_signer()?;
    let known = books::enrolled_key(&shared.db, kid).await?;
    let key = known.context("the key that signed the reading is not in the books")?;
    let log = books::reading_proof(&shared.db, &point, reading.interval.start()).await?;
    Ok(Proof {
        reading: signed,
        key,
        record: books::key_record(&shared.db, kid, end).await?,
        log: log.map(|log| log.to_text()),
    })
}

/// A session that has ended, as OCMF; none where nothing was metered in it.
pub(crate) async fn ocmf(shared: &Shared, one: &Running) -> anyhow::Result<Option<String>> {
    let (State::Closed(_), Some(readings)) = (one.session.state(), one.session.readings()) else {
        return Ok(None);
    };
    let quote = &one.promise.quote;
    let point = PointId::new(&quote.station)?;
    let stored =
        books::charging_readings(&mut &shared.db, &point, (readings[0].0, readings[1].0)).await?;
    let checked = stored
        .iter()
        .all(|(_, r)| r.clock.state == ClockState::Synchronised);
    let session = ocmf::Session {
        station: &quote.station,
        meter: point.as_str(),
        user: &quote.session,
        // Rises from session to session of a station.
        page: u64::try_from(quote.offered_at.unix_s()).unwrap_or(0),
        readings,
        synchronised: checked && !stored.is_empty(),
    };
    Ok(Some(ocmf::write(&session, &shared.charging.signer)?))
}
