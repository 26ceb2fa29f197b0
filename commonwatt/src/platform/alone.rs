//! What today's settled energy would have come to with the utility alone: by the settlement lines and the rule that
//! statements go by, so that page and statement say the same whatever the tariff.

use std::collections::BTreeMap;

use anyhow::Context;
use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::Price;
use domain::receipt::Line;
use domain::time::{Interval, Timestamp};
use settlement::calendar::{LocalMonth, Zone};
use settlement::service::{recent_lines, runs_between};
use settlement::statement::with_utility;

use super::Shared;
use crate::view;

/// What each participant imported.
type Imports = BTreeMap<ParticipantId, Energy>;

/// What everybody imported on the days of the month before today: the steps of a tiered tariff count it. A day is read
/// once, and again when a run has corrected it; with other tariffs none is.
#[derive(Default)]
pub(super) struct MonthBefore {
    /// By the day's start: how many runs it had, and what it came to.
    days: BTreeMap<Timestamp, (i64, Imports)>,
}

impl MonthBefore {
    /// Everybody's energy of a later part of a day that began at `day_from`, of which `[day_from, from)` is known
    /// already; its money is left at zero but for the comparison with the utility.
    pub(super) async fn energy_between(
        &mut self,
        shared: &Shared,
        known: &BTreeMap<ParticipantId, view::Day>,
        (day_from, from): (Timestamp, Timestamp),
        to: Timestamp,
    ) -> anyhow::Result<BTreeMap<ParticipantId, view::Day>> {
        let mut all: BTreeMap<ParticipantId, view::Day> = BTreeMap::new();
        let mut before = None;
        for interval in intervals(shared, from, to)? {
            for line in recent_lines(&shared.db, interval).await? {
                let day = all.entry(line.participant.clone()).or_default();
                let mut imported = Energy::ZERO;
                if line.tiers.is_some() {
                    let before = match &before {
                        Some(before) => before,
                        None => before.insert(self.imported(shared, day_from).await?),
                    };
                    let today = known.get(&line.participant).map(|day| day.imported);
                    let mut parts = [before.get(&line.participant).copied(), today]
                        .into_iter()
                        .flatten();
                    imported = parts
                        .try_fold(day.imported, |sum, part: Energy| sum.checked_add(part))
                        .context("the month's energy overflows")?;
                }
                let more = of_line(&line, imported)?;
                *day = day.plus(&more).context("the day's energy overflows")?;
            }
        }
        Ok(all)
    }

    /// What everybody imported in the local month before the day that begins at `today`.
    async fn imported(&mut self, shared: &Shared, today: Timestamp) -> anyhow::Result<Imports> {
        let month = LocalMonth::containing(today, Zone::from(shared.site.time_zone))?;
        let (month_from, _) = month.bounds()?;
        self.days
            .retain(|from, _| month_from <= *from && *from < today);
        let mut sum = Imports::new();
        for day in month.days()?.into_iter().filter(|day| day.from < today) {
            let runs = runs_between(&shared.db, day.from, day.to).await?;
            let fresh = self.days.get(&day.from).is_some_and(|(n, _)| *n == runs);
            if !fresh {
                let imports = imports_between(shared, day.from, day.to).await?;
                self.days.insert(day.from, (runs, imports));
            }
            for (home, energy) in self.days.get(&day.from).iter().flat_map(|(_, all)| all) {
                more(&mut sum, home, *energy)?;
            }
        }
        Ok(sum)
    }
}

/// The intervals that start in `[from, to)`.
fn intervals(
    shared: &Shared,
    from: Timestamp,
    to: Timestamp,
) -> anyhow::Result<impl Iterator<Item = Interval> + use<>> {
    let first = Interval::containing(from, shared.market.rules.interval_length_s)?;
    let first = match first.start() < from {
        true => first.next(),
        false => first,
    };
    let all = std::iter::successors(Some(first), |interval| Some(interval.next()));
    Ok(all.take_while(move |interval| interval.start() < to))
}

async fn imports_between(
    shared: &Shared,
    from: Timestamp,
    to: Timestamp,
) -> anyhow::Result<Imports> {
    let mut imports = Imports::new();
    for interval in intervals(shared, from, to)? {
        for line in recent_lines(&shared.db, interval).await? {
            more(&mut imports, &line.participant, line.delivery.imported)?;
        }
    }
    Ok(imports)
}

fn more(sums: &mut Imports, home: &ParticipantId, energy: Energy) -> anyhow::Result<()> {
    let sum = sums.entry(home.clone()).or_insert(Energy::ZERO);
    *sum = sum
        .checked_add(energy)
        .context("the month's energy overflows")?;
    Ok(())
}

fn of_line(line: &Line, imported_before: Energy) -> anyhow::Result<view::Day> {
    let (paid, received) = with_utility(line, imported_before)?;
    let prices: Option<(Price, Price)> = match line.tiers {
        Some(_) => None,
        None => Some((line.prices.retail, line.prices.feed_in)),
    };
    Ok(view::Day {
        utility_alone: received.checked_sub(paid).context("money overflows")?,
        prices,
        intervals: 1,
        imported: line.delivery.imported,
        exported: line.delivery.exported,
        ..view::Day::default()
    })
}
