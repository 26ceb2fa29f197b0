//! Builds a statement from a participant's history: settlement lines by interval, and other postings.

use std::collections::{BTreeMap, BTreeSet};

use domain::energy::Energy;
use domain::ids::{CommunityId, ParticipantId};
use domain::money::{Money, MoneyError};
use domain::posting::{Asset, Chart, Posting, Purpose, Run};
use domain::quality::Quality;
use domain::receipt::Line;
use domain::time::Timestamp;

use super::{
    Alone, Balances, Day, FORMAT, Other, RunSum, Statement, StatementError, Sums, with_utility,
};
use crate::calendar::{LocalDay, LocalMonth};

/// A posting that no settlement run made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The posting.
    pub posting: Posting,
    /// When it was booked.
    pub booked_at: Timestamp,
}

impl Entry {
    /// The instant that the posting is about: its id begins with it; where it does not, when it was booked.
    fn value_at(&self) -> Timestamp {
        let mut ms = [0; 8];
        ms[2..].copy_from_slice(&self.posting.id.0[..6]);
        match i64::from_be_bytes(ms) {
            0 => self.booked_at,
            ms => Timestamp::from_unix_ms(ms),
        }
    }
}

/// Takes in a participant's whole history.
#[derive(Debug)]
pub struct Builder {
    participant: ParticipantId,
    community: CommunityId,
    month: LocalMonth,
    days: Vec<LocalDay>,
    from: Timestamp,
    to: Timestamp,
    opening: Balances,
    closing: Balances,
    now: Balances,
    sums: Vec<Sums>,
    alone: Vec<Alone>,
    runs: BTreeMap<Run, RunSum>,
    other: BTreeMap<&'static str, (u32, Money)>,
    tariffs: BTreeSet<String>,
    /// Import of the month so far: with the utility alone a tiered tariff counts all of it.
    imported: Energy,
}

fn add(sum: &mut Money, amount: Money) -> Result<(), MoneyError> {
    *sum = sum.checked_add(amount).ok_or(MoneyError::Overflow)?;
    Ok(())
}

fn more(sum: &mut Energy, energy: Energy) -> Result<(), MoneyError> {
    *sum = sum.checked_add(energy).ok_or(MoneyError::Overflow)?;
    Ok(())
}

fn less(a: Money, b: Money) -> Result<Money, MoneyError> {
    a.checked_sub(b).ok_or(MoneyError::Overflow)
}

impl Balances {
    fn of(&mut self, chart: Chart) -> &mut Money {
        match chart {
            Chart::Available => &mut self.available,
            Chart::Held => &mut self.held,
            Chart::Holdback => &mut self.holdback,
            Chart::Statement => &mut self.statement,
            _ => &mut self.elsewhere,
        }
    }

    /// Adds what stands on an account of the participant.
    ///
    /// # Errors
    /// The sum does not fit.
    pub fn add(&mut self, chart: Chart, amount: Money) -> Result<(), MoneyError> {
        add(self.of(chart), amount)
    }
}

impl Builder {
    /// An empty month.
    ///
    /// # Errors
    /// The month is outside of the years that calendars know.
    pub fn new(
        community: &CommunityId,
        participant: &ParticipantId,
        month: LocalMonth,
        length_s: u32,
    ) -> Result<Self, StatementError> {
        let days = month.days()?;
        let (from, to) = month.bounds()?;
        let sums = |day: &LocalDay| Sums {
            intervals: u32::try_from(day.intervals(length_s)).unwrap_or(0),
            ..Sums::default()
        };
        Ok(Builder {
            participant: participant.clone(),
            community: community.clone(),
            month,
            from,
            to,
            opening: Balances::default(),
            closing: Balances::default(),
            now: Balances::default(),
            sums: days.iter().map(sums).collect(),
            alone: vec![Alone::default(); days.len()],
            days,
            runs: BTreeMap::new(),
            other: BTreeMap::new(),
            tariffs: BTreeSet::new(),
            imported: Energy::ZERO,
        })
    }

    /// Takes in what a posting moved on the participant's accounts, and returns what it has of it, by account.
    fn book(
        &mut self,
        posting: &Posting,
        value_at: Timestamp,
    ) -> Result<Vec<(Chart, Money)>, MoneyError> {
        let mut moved = Vec::with_capacity(2);
        if posting.asset != Asset::Token {
            return Ok(moved);
        }
        let amount = Money::from_nano(posting.amount);
        let sides = [
            (&posting.debit, less(Money::ZERO, amount)?),
            (&posting.credit, amount),
        ];
        for (account, received) in sides {
            if account.owner() != self.participant.as_str() {
                continue;
            }
            let chart = account.chart();
            self.now.add(chart, received)?;
            if value_at < self.to {
                self.closing.add(chart, received)?;
            }
            if value_at < self.from {
                self.opening.add(chart, received)?;
            }
            moved.push((chart, received));
        }
        Ok(moved)
    }

    /// Takes in a posting that no settlement run made.
    ///
    /// # Errors
    /// A sum that does not fit.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), StatementError> {
        let at = entry.value_at();
        let moved = self.book(&entry.posting, at)?;
        if self.from <= at && at < self.to {
            self.other(entry.posting.purpose, &moved)?;
        }
        Ok(())
    }

    fn other(&mut self, purpose: Purpose, moved: &[(Chart, Money)]) -> Result<(), MoneyError> {
        let mut net = Money::ZERO;
        for (_, received) in moved {
            add(&mut net, *received)?;
        }
        // From one pocket to the other is no news.
        if net != Money::ZERO {
            let (count, sum) = self.other.entry(purpose.word()).or_default();
            *count += 1;
            add(sum, net)?;
        }
        Ok(())
    }

    /// Takes in all lines of an interval, in the order of its runs. Intervals come in the order of time.
    ///
    /// # Errors
    /// A sum that does not fit.
    pub fn interval(&mut self, lines: &[Line]) -> Result<(), StatementError> {
        let Some(last) = lines.last() else {
            return Ok(());
        };
        let start = last.interval.start();
        let day = self.days.partition_point(|day| day.to <= start);
        let inside = self.from <= start && start < self.to;
        let mut alone_before = Money::ZERO;
        for line in lines {
            let mut of_run = Money::ZERO;
            for posting in &line.postings {
                let moved = self.book(posting, start)?;
                if !inside {
                    continue;
                }
                if self.sums[day].money(posting.purpose, &moved)? {
                    for (_, received) in &moved {
                        add(&mut of_run, *received)?;
                    }
                } else {
                    self.other(posting.purpose, &moved)?;
                }
            }
            if inside {
                let (paid, received) = with_utility(line, self.imported)?;
                let alone = less(received, paid)?;
                let run = self.runs.entry(line.run).or_insert(RunSum::of(line.run));
                run.intervals += 1;
                add(&mut run.net, of_run)?;
                add(&mut run.alone, less(alone, alone_before)?)?;
                alone_before = alone;
            }
        }
        if inside {
            self.tariffs.extend(last.tariff.clone());
            self.sums[day].energy(last)?;
            self.sums[day].data(lines);
            self.alone_with(day, last)?;
        }
        Ok(())
    }

    fn alone_with(&mut self, day: usize, line: &Line) -> Result<(), MoneyError> {
        let (paid, received) = with_utility(line, self.imported)?;
        more(&mut self.imported, line.delivery.imported)?;
        let alone = &mut self.alone[day];
        add(&mut alone.paid, paid)?;
        add(&mut alone.received, received)
    }

    /// The statement, if the history comes to what the books have.
    ///
    /// # Errors
    /// It does not; or a number does not fit.
    pub fn finish(self, books: &Balances, made_at: Timestamp) -> Result<Statement, StatementError> {
        self.adds_up_to(books)?;
        let mut total = Sums::default();
        let mut alone = Alone::default();
        let mut days = Vec::with_capacity(self.days.len());
        for ((day, mut sums), mut own) in self.days.iter().zip(self.sums).zip(self.alone) {
            let data = &mut sums.data;
            let settled = data.measured + data.estimated + data.missing;
            data.not_settled = sums.intervals.saturating_sub(settled);
            own.close(sums.net)?;
            total.unite(&sums)?;
            add(&mut alone.paid, own.paid)?;
            add(&mut alone.received, own.received)?;
            days.push(Day {
                date: day.date.to_string(),
                sums,
                alone: own,
            });
        }
        alone.close(total.net)?;
        let other = |(purpose, (postings, net)): (&'static str, (u32, Money))| Other {
            purpose,
            postings,
            net,
        };
        let statement = Statement {
            format: FORMAT,
            community: self.community.to_string(),
            participant: self.participant,
            month: self.month.to_string(),
            time_zone: self.month.zone().to_string(),
            from: self.from,
            to: self.to,
            made_at,
            opening: self.opening,
            closing: self.closing,
            total,
            alone,
            days,
            runs: self.runs.into_values().collect(),
            other: self.other.into_iter().map(other).collect(),
            tariffs: self.tariffs.into_iter().collect(),
        };
        statement.check()?;
        Ok(statement)
    }

    fn adds_up_to(&self, books: &Balances) -> Result<(), StatementError> {
        let pairs = [
            ("available", books.available, self.now.available),
            ("held", books.held, self.now.held),
            ("holdback", books.holdback, self.now.holdback),
            ("statement", books.statement, self.now.statement),
            ("elsewhere", books.elsewhere, self.now.elsewhere),
        ];
        match pairs
            .into_iter()
            .find(|(_, expected, found)| expected != found)
        {
            Some((account, expected, found)) => Err(StatementError::DoesNotAddUp {
                participant: self.participant.clone(),
                account,
                expected,
                found,
            }),
            None => Ok(()),
        }
    }
}

impl RunSum {
    const fn of(run: Run) -> Self {
        RunSum {
            run: run.word(),
            intervals: 0,
            net: Money::ZERO,
            alone: Money::ZERO,
        }
    }
}

impl Alone {
    fn close(&mut self, net: Money) -> Result<(), MoneyError> {
        self.net = less(self.received, self.paid)?;
        self.better_by = less(net, self.net)?;
        Ok(())
    }
}

impl Sums {
    /// Books what a posting moved; `false` where its purpose is none of an interval's.
    fn money(&mut self, purpose: Purpose, moved: &[(Chart, Money)]) -> Result<bool, MoneyError> {
        for (chart, received) in moved {
            let sum = match (purpose, chart) {
                (Purpose::Trade, Chart::Available) => &mut self.sales,
                (Purpose::Trade, _) => &mut self.purchases,
                (Purpose::NetworkFee, _) => &mut self.network_fee,
                (Purpose::CommunityFee, _) => &mut self.community_fee,
                (Purpose::PoolDeviation, _) => &mut self.pool,
                (Purpose::Spread, _) => &mut self.spread,
                (Purpose::UtilityDeviation, _) => &mut self.utility,
                _ => return Ok(false),
            };
            add(sum, *received)?;
            add(&mut self.net, *received)?;
        }
        Ok(true)
    }

    fn energy(&mut self, line: &Line) -> Result<(), MoneyError> {
        let delivery = &line.delivery;
        more(&mut self.imported, delivery.imported)?;
        more(&mut self.exported, delivery.exported)?;
        more(&mut self.bought, delivery.bought)?;
        more(&mut self.sold, delivery.sold)?;
        for (energy, plus, minus) in [
            (line.pooled_wh, &mut self.pool_given, &mut self.pool_taken),
            (
                line.utility_wh,
                &mut self.utility_taken,
                &mut self.utility_supplied,
            ),
        ] {
            if energy < Energy::ZERO {
                let taken = Energy::ZERO.checked_sub(energy);
                more(minus, taken.ok_or(MoneyError::Overflow)?)?;
            } else {
                more(plus, energy)?;
            }
        }
        Ok(())
    }

    fn data(&mut self, lines: &[Line]) {
        let Some(last) = lines.last() else { return };
        let quality = last.delivery.quality;
        let data = &mut self.data;
        let count = if last.delivery.reading.is_none() {
            &mut data.missing
        } else if quality.has(Quality::ESTIMATED) || quality.has(Quality::GAP) {
            &mut data.estimated
        } else {
            &mut data.measured
        };
        *count += 1;
        let values = |line: &Line| (line.delivery.imported, line.delivery.exported);
        if lines.iter().any(|line| values(line) != values(last)) {
            data.corrected += 1;
        }
    }

    fn unite(&mut self, day: &Sums) -> Result<(), MoneyError> {
        self.intervals += day.intervals;
        let (all, data) = (&mut self.data, &day.data);
        all.measured += data.measured;
        all.estimated += data.estimated;
        all.missing += data.missing;
        all.not_settled += data.not_settled;
        all.corrected += data.corrected;
        for (sum, energy) in [
            (&mut self.imported, day.imported),
            (&mut self.exported, day.exported),
            (&mut self.bought, day.bought),
            (&mut self.sold, day.sold),
            (&mut self.pool_given, day.pool_given),
            (&mut self.pool_taken, day.pool_taken),
            (&mut self.utility_supplied, day.utility_supplied),
            (&mut self.utility_taken, day.utility_taken),
        ] {
            more(sum, energy)?;
        }
        for (sum, money) in [
            (&mut self.purchases, day.purchases),
            (&mut self.sales, day.sales),
            (&mut self.network_fee, day.network_fee),
            (&mut self.community_fee, day.community_fee),
            (&mut self.pool, day.pool),
            (&mut self.spread, day.spread),
            (&mut self.utility, day.utility),
            (&mut self.net, day.net),
        ] {
            add(sum, money)?;
        }
        Ok(())
    }
}
