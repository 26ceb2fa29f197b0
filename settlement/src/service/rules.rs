//! What an interval is settled by: the tariff and the terms that stood when it was first heard of, so that a
//! later run uses the rules of that day.

use std::collections::BTreeMap;

use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::Price;
use domain::posting::Run;
use domain::run_record::RunRules;
use domain::signed::encode;
use domain::terms::{Step, Terms};
use domain::time::{Interval, Timestamp};
use minicbor::{Decode, Encode};
use runtime::args;
use runtime::db::{Source, Tx};

use super::ServiceError;
use super::error::{corrupt, decoded, run_of};
use crate::settle::Settlement;
use crate::tariff::{Effective, Tariff, Tariffs};

/// What the three prices of an interval's row do not say; nothing is stored where it is all plain.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
struct Stored {
    #[n(1)]
    terms: Option<Terms>,
    #[n(2)]
    version: Option<String>,
    #[n(3)]
    steps: Vec<Step>,
    #[n(4)]
    month_from_s: Option<i64>,
}

/// What an interval is settled by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rules {
    pub(super) tariff: Tariff,
    pub(super) terms: Terms,
    pub(super) version: Option<String>,
    pub(super) steps: Vec<Step>,
    pub(super) month_from: Option<Timestamp>,
}

impl Rules {
    /// As a run's record has them.
    pub(super) fn written(self) -> RunRules {
        RunRules {
            retail: self.tariff.retail,
            feed_in: self.tariff.feed_in,
            network_fee: self.tariff.network_fee,
            terms: self.terms.written(),
            version: self.version,
            steps: self.steps,
            month_from_s: self.month_from.map(Timestamp::unix_s),
        }
    }
}

/// The form in which an interval keeps its rules beside its three prices.
pub(super) fn to_store(effective: &Effective, terms: Terms) -> Option<Vec<u8>> {
    let stored = Stored {
        terms: terms.written(),
        version: effective.version.clone(),
        steps: effective.steps.clone(),
        month_from_s: effective.month_from.map(Timestamp::unix_s),
    };
    (stored != Stored::default()).then(|| encode(&stored))
}

type RulesRow = (i64, i64, i64, Option<i64>, Option<Vec<u8>>);

/// The rules of a noted interval, and the last run it had.
pub(super) async fn of_interval(
    source: &mut impl Source,
    interval: Interval,
) -> Result<(Rules, Option<Run>), ServiceError> {
    let row: Option<RulesRow> = source
        .optional(
            "SELECT retail, feed_in, network_fee, done, terms FROM settle_intervals
             WHERE start_s = $1",
            args![interval.start_s()],
        )
        .await?;
    let row = row.ok_or_else(|| corrupt("an interval is not noted"))?;
    let (retail, feed_in, network_fee, done, terms) = row;
    let stored: Stored = match terms {
        Some(terms) => decoded(&terms, "an interval's terms")?,
        None => Stored::default(),
    };
    let price = Price::from_micro_per_kwh;
    let rules = Rules {
        tariff: Tariff {
            retail: price(retail),
            feed_in: price(feed_in),
            network_fee: price(network_fee),
        },
        terms: stored.terms.unwrap_or_default(),
        version: stored.version,
        steps: stored.steps,
        month_from: stored.month_from_s.map(Timestamp::from_unix_s),
    };
    Ok((rules, done.map(run_of).transpose()?))
}

/// What the utility supplied to each participant in the month before the interval, as the runs so far
/// have it. Only steps ask for it.
pub(super) async fn used(
    tx: &mut Tx,
    rules: &Rules,
    interval: Interval,
) -> Result<BTreeMap<ParticipantId, Energy>, ServiceError> {
    let Some(from) = rules.month_from.filter(|_| !rules.steps.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    let rows: Vec<(String, i64)> = tx
        .fetch_all(
            "SELECT participant, CAST(SUM(supplied_wh) AS BIGINT) FROM settle_supplied
             WHERE start_s >= $1 AND start_s < $2 GROUP BY participant",
            args![from.unix_s(), interval.start_s()],
        )
        .await?;
    let used = |(participant, wh): (String, i64)| {
        Ok((ParticipantId::new(participant)?, Energy::from_wh(wh)))
    };
    rows.into_iter().map(used).collect()
}

/// Keeps what the utility supplied in an interval, for the steps of those after it: also where the steps begin with
/// a later version within the month.
pub(super) async fn keep_supplied(
    tx: &mut Tx,
    tariffs: &Tariffs,
    rules: &Rules,
    settlement: &Settlement,
) -> Result<(), ServiceError> {
    if rules.steps.is_empty() && !tariffs.has_steps() {
        return Ok(());
    }
    for share in &settlement.shares {
        let supplied = share.utility.min(Energy::ZERO).wh().saturating_neg();
        tx.execute(
            "INSERT INTO settle_supplied (start_s, participant, supplied_wh) VALUES ($1, $2, $3)
             ON CONFLICT (start_s, participant) DO UPDATE SET supplied_wh = excluded.supplied_wh",
            args![
                settlement.interval.start_s(),
                share.delivery.participant.as_str(),
                supplied
            ],
        )
        .await?;
    }
    Ok(())
}
