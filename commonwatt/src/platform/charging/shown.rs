//! What is left of a session: its receipt, its OCMF text, and what a station has brought in a month.

use std::collections::BTreeMap;

use anyhow::Context;
use domain::ids::PointId;
use domain::money::Money;
use domain::reading::ClockState;
use domain::time::Timestamp;
use settlement::charging::ocmf;
use settlement::charging::rate::What;
use settlement::charging::receipt::{self, Proof};
use settlement::charging::session::State;
use settlement::charging::split::{PassThrough, split};
use settlement::charging::tariff::Dimension;
use settlement::service as books;

use super::{Running, energy_cost, replayed};
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
    let parts = receipt::Parts {
        proofs: &proofs,
        settled: settled.as_deref(),
        credits: &credits,
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

/// What a station brought.
#[derive(Default)]
pub(crate) struct Income {
    pub(crate) sessions: u32,
    pub(crate) energy_wh: i64,
    /// Before tax, by what it was for.
    pub(crate) start_fees: Money,
    pub(crate) energy: Money,
    pub(crate) time: Money,
    pub(crate) parking: Money,
    /// What a ceiling took off, below zero, and what a bill below zero was lifted by.
    pub(crate) limits: Money,
    pub(crate) tax: Money,
    /// What the energy cost the host.
    pub(crate) energy_cost: Money,
    /// What is left to each owner.
    pub(crate) owners: BTreeMap<String, Money>,
}

/// What a station's sessions of `[from, to)` brought and to whom it went.
pub(crate) async fn income(
    shared: &Shared,
    station: &str,
    (from, to): (Timestamp, Timestamp),
) -> anyhow::Result<Income> {
    let mut sum = Income::default();
    let mut after = None;
    loop {
        let page =
            books::charging_sessions(&shared.db, station, (from, to), after.as_ref()).await?;
        let Some(last) = page.last() else {
            return Ok(sum);
        };
        let quote = &last.promise.quote;
        after = Some((quote.offered_at, quote.session.clone()));
        for stored in page {
            sum.count(shared, &replayed(stored)?).await?;
        }
    }
}

impl Income {
    /// Adds a session, where it has ended and was paid.
    async fn count(&mut self, shared: &Shared, one: &Running) -> anyhow::Result<()> {
        let paid =
            matches!(one.session.state(), State::Closed(_)) && one.session.debt() == Money::ZERO;
        let Some(bill) = one.session.bill().filter(|_| paid) else {
            return Ok(());
        };
        self.sessions += 1;
        self.energy_wh += one.session.energy().wh();
        for line in &bill.lines {
            let part = match line.what {
                What::Charge(Dimension::Flat) => &mut self.start_fees,
                What::Charge(Dimension::Energy) => &mut self.energy,
                What::Charge(Dimension::ParkingTime) => &mut self.parking,
                What::Charge(Dimension::Time) | What::Reservation(_) => &mut self.time,
                What::MinPrice | What::MaxPrice => &mut self.limits,
            };
            add(part, line.before_tax)?;
        }
        let cost = energy_cost(shared, one).await?;
        add(&mut self.tax, bill.tax)?;
        add(&mut self.energy_cost, cost)?;
        let (promise, tax) = (&one.promise, bill.tax);
        let energy = if promise.buys { Money::ZERO } else { cost };
        let pass_through = PassThrough { energy, tax };
        let mut parts = split(
            bill.total,
            pass_through,
            &promise.owners,
            &promise.quote.session,
        )?
        .owners;
        if promise.buys {
            // Line by line, as it was carried: so the shares agree with the books to the last unit.
            for line in
                books::charging_lines(&shared.db, &promise.host, &promise.quote.session).await?
            {
                parts.extend(books::carried(
                    &line,
                    books::net_of(&line)?,
                    &promise.owners,
                )?);
            }
        }
        for (name, part) in parts {
            add(self.owners.entry(name).or_default(), part)?;
        }
        Ok(())
    }
}

fn add(sum: &mut Money, part: Money) -> anyhow::Result<()> {
    *sum = sum
        .checked_add(part)
        .context("a station's income does not fit")?;
    Ok(())
}
