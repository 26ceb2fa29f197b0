//! A participant's month: what flowed, what it cost, what was corrected, and that all of it adds up.
//!
//! A posting belongs to the interval it is about, whenever it was made, and a deposit to the instant at
//! which it was booked. So a month's closing balance is the next one's opening balance, and a correction
//! changes the month that it corrects, where it is shown by run. [`Builder`] takes a participant's whole
//! history in order and refuses to make a statement that does not come to the balances in the books.

mod builder;
mod write;

use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::{Money, MoneyError, Price};
use domain::receipt::Line;
use domain::terms::Tiers;
use domain::time::Timestamp;
use serde::{Serialize, Serializer};

use crate::calendar::CalendarError;

pub use builder::{Builder, Entry};

/// The format's name.
pub const FORMAT: &str = "commonwatt-statement/v1";

/// A month of one participant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Statement {
    /// [`FORMAT`].
    pub format: &'static str,
    /// The community.
    pub community: String,
    /// Whose it is.
    #[serde(serialize_with = "text")]
    pub participant: ParticipantId,
    /// The local month, like `2026-11`.
    pub month: String,
    /// The time zone of the month and its days.
    pub time_zone: String,
    /// Its first instant.
    #[serde(serialize_with = "text")]
    pub from: Timestamp,
    /// The first instant after it.
    #[serde(serialize_with = "text")]
    pub to: Timestamp,
    /// When the statement was made: what was posted later is not in it.
    #[serde(serialize_with = "text")]
    pub made_at: Timestamp,
    /// What the participant had when the month began.
    pub opening: Balances,
    /// What it has when the month ends.
    pub closing: Balances,
    /// The whole month.
    pub total: Sums,
    /// What the same meter values would have cost with the utility alone.
    pub alone: Alone,
    /// Its days, each with 92, 96 or 100 quarter-hours.
    pub days: Vec<Day>,
    /// What each run posted of the month's intervals: corrections are all but the first.
    pub runs: Vec<RunSum>,
    /// Deposits and all else that belongs to no interval's settlement.
    pub other: Vec<Other>,
    /// The versions of the tariff that the month was settled by; none where it has no versions.
    pub tariffs: Vec<String>,
}

/// What a participant has on its accounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Balances {
    /// Spendable tokens.
    #[serde(serialize_with = "text")]
    pub available: Money,
    /// Tokens held for bids.
    #[serde(serialize_with = "text")]
    pub held: Money,
    /// Income that is kept until the final run.
    #[serde(serialize_with = "text")]
    pub holdback: Money,
    /// What is owed (below zero) or due (above) for deviations.
    #[serde(serialize_with = "text")]
    pub statement: Money,
    /// All other accounts of the participant together.
    #[serde(serialize_with = "text")]
    pub elsewhere: Money,
}

impl Balances {
    /// All of it.
    ///
    /// # Errors
    /// The sum does not fit.
    pub fn total(&self) -> Result<Money, MoneyError> {
        let parts = [self.held, self.holdback, self.statement, self.elsewhere];
        let mut sum = self.available;
        for part in parts {
            sum = sum.checked_add(part).ok_or(MoneyError::Overflow)?;
        }
        Ok(sum)
    }
}

/// Energy and money of some intervals. Money above zero was received, below zero paid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Sums {
    /// How many intervals there are.
    pub intervals: u32,
    /// How far the meter values can be trusted.
    pub data: Completeness,
    /// Metered import.
    #[serde(rename = "imported_wh", serialize_with = "wh")]
    pub imported: Energy,
    /// Metered export.
    #[serde(rename = "exported_wh", serialize_with = "wh")]
    pub exported: Energy,
    /// Bought from neighbours in the auction.
    #[serde(rename = "bought_wh", serialize_with = "wh")]
    pub bought: Energy,
    /// Sold to neighbours in the auction.
    #[serde(rename = "sold_wh", serialize_with = "wh")]
    pub sold: Energy,
    /// Surplus beyond the trades that neighbours took.
    #[serde(rename = "pool_given_wh", serialize_with = "wh")]
    pub pool_given: Energy,
    /// Shortage beyond the trades that neighbours covered.
    #[serde(rename = "pool_taken_wh", serialize_with = "wh")]
    pub pool_taken: Energy,
    /// Supplied by the utility.
    #[serde(rename = "utility_supplied_wh", serialize_with = "wh")]
    pub utility_supplied: Energy,
    /// Taken by the utility.
    #[serde(rename = "utility_taken_wh", serialize_with = "wh")]
    pub utility_taken: Energy,
    /// Paid to neighbours for trades.
    #[serde(serialize_with = "text")]
    pub purchases: Money,
    /// Received from neighbours for trades.
    #[serde(serialize_with = "text")]
    pub sales: Money,
    /// Paid to the network for local energy; the utility's price has its own in it.
    #[serde(serialize_with = "text")]
    pub network_fee: Money,
    /// Paid to the community on sales.
    #[serde(serialize_with = "text")]
    pub community_fee: Money,
    /// Deviations that neighbours cancelled.
    #[serde(serialize_with = "text")]
    pub pool: Money,
    /// Paid to the community on those.
    #[serde(serialize_with = "text")]
    pub spread: Money,
    /// From and to the utility.
    #[serde(serialize_with = "text")]
    pub utility: Money,
    /// All of this money.
    #[serde(serialize_with = "text")]
    pub net: Money,
}

impl Sums {
    /// The average price paid to neighbours, floored to the tick; `None` where nothing was bought.
    #[must_use]
    pub fn average_purchase_price(&self) -> Option<Price> {
        average(self.purchases, self.bought)
    }

    /// The average price received from neighbours, floored to the tick; `None` where nothing was sold.
    #[must_use]
    pub fn average_sale_price(&self) -> Option<Price> {
        average(self.sales, self.sold)
    }
}

fn average(money: Money, energy: Energy) -> Option<Price> {
    let nano = money.nano().checked_abs()?;
    // For display only: a price is nano-tokens per watt-hour.
    nano.checked_div(energy.wh()).map(Price::from_micro_per_kwh)
}

/// How far meter values can be trusted: every interval is in one of the first four counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Completeness {
    /// From the meter's own counter.
    pub measured: u32,
    /// From a reading that says that it was estimated.
    pub estimated: u32,
    /// No reading: a substitute stands in.
    pub missing: u32,
    /// Not settled for this participant: still to come, or before it took part.
    pub not_settled: u32,
    /// Of those, how many had their values changed by a later run.
    pub corrected: u32,
}

/// With the utility alone: no neighbours, no fees of the community.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Alone {
    /// Import at retail (at a tiered tariff's steps).
    #[serde(serialize_with = "text")]
    pub paid: Money,
    /// Export at the feed-in price.
    #[serde(serialize_with = "text")]
    pub received: Money,
    /// Received less paid.
    #[serde(serialize_with = "text")]
    pub net: Money,
    /// How much better the month was in the community; below zero, how much worse.
    #[serde(serialize_with = "text")]
    pub better_by: Money,
}

/// What an interval's metered energy comes to with the utility alone, by the prices that the interval was settled at:
/// paid for import, received for export. A tiered tariff counts all import of the local month, of which
/// `imported_before` came before this interval. Statements and pages both add this up; there is no second rule.
///
/// # Errors
/// An amount that does not fit 64 bits.
pub fn with_utility(line: &Line, imported_before: Energy) -> Result<(Money, Money), MoneyError> {
    let (delivery, prices) = (&line.delivery, &line.prices);
    let paid = match &line.tiers {
        Some(tiers) => Tiers {
            used_wh: imported_before,
            steps: tiers.steps.clone(),
        }
        .cost(delivery.imported)?,
        None => prices.retail.amount(delivery.imported)?,
    };
    Ok((paid, prices.feed_in.amount(delivery.exported)?))
}

/// A day of the month.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Day {
    /// The local date.
    pub date: String,
    /// What it comes to.
    pub sums: Sums,
    /// The same with the utility alone.
    pub alone: Alone,
}

/// What a run posted of the month's intervals.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RunSum {
    /// Its word: provisional, initial, final, true_up.
    pub run: &'static str,
    /// Intervals in which it posted something for this participant.
    pub intervals: u32,
    /// What it came to: for later runs, the difference to the run before.
    #[serde(serialize_with = "text")]
    pub net: Money,
    /// The same with the utility alone: what its meter values come to there, or differ by from the run before.
    #[serde(serialize_with = "text")]
    pub alone: Money,
}

/// Money that belongs to no interval's settlement, in sums by purpose: deposits, withdrawals.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Other {
    /// Why.
    pub purpose: &'static str,
    /// How many postings.
    pub postings: u32,
    /// What they come to: above zero received.
    #[serde(serialize_with = "text")]
    pub net: Money,
}

/// Why there is no statement.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StatementError {
    /// The history does not come to the balance that the books have.
    #[error(
        "the statement of {participant} does not add up: account {account} should be at {expected}, its \
         postings come to {found}"
    )]
    DoesNotAddUp {
        /// Whose.
        participant: ParticipantId,
        /// Which account.
        account: &'static str,
        /// What the books have.
        expected: Money,
        /// What the history comes to.
        found: Money,
    },
    /// Parts that do not come to their whole.
    #[error("the statement's {0} do not add up to its total")]
    Parts(&'static str),
    /// A number that does not fit.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// A month outside of all calendars.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
}

impl Statement {
    /// Checks that the parts add up to the whole, to the last nano-token: days and runs to the month's
    /// total, and the opening balance with everything that moved to the closing balance.
    ///
    /// # Errors
    /// Says what does not add up.
    pub fn check(&self) -> Result<(), StatementError> {
        let sum = |parts: &mut dyn Iterator<Item = Money>| -> i128 {
            parts.map(|money| i128::from(money.nano())).sum()
        };
        let net = i128::from(self.total.net.nano());
        let total = &self.total;
        let items = [
            total.purchases,
            total.sales,
            total.network_fee,
            total.community_fee,
            total.pool,
            total.spread,
            total.utility,
        ];
        if sum(&mut items.into_iter()) != net {
            return Err(StatementError::Parts("items"));
        }
        if sum(&mut self.days.iter().map(|day| day.sums.net)) != net {
            return Err(StatementError::Parts("days"));
        }
        if sum(&mut self.runs.iter().map(|run| run.net)) != net {
            return Err(StatementError::Parts("runs"));
        }
        let alone = i128::from(self.alone.net.nano());
        if sum(&mut self.runs.iter().map(|run| run.alone)) != alone
            || sum(&mut self.days.iter().map(|day| day.alone.net)) != alone
        {
            return Err(StatementError::Parts("sums with the utility alone"));
        }
        let data = &total.data;
        let counted = data.measured + data.estimated + data.missing + data.not_settled;
        if counted != total.intervals {
            return Err(StatementError::Parts("intervals"));
        }
        let other = sum(&mut self.other.iter().map(|other| other.net));
        let opening = i128::from(self.opening.total()?.nano());
        let closing = i128::from(self.closing.total()?.nano());
        if opening + net + other != closing {
            return Err(StatementError::Parts("balances"));
        }
        Ok(())
    }
}

fn text<T: std::fmt::Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn wh<S: Serializer>(value: &Energy, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_i64(value.wh())
}
