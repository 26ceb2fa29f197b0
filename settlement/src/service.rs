//! The rules at work on a database: each function takes part in the caller's transaction.
//!
//! Nothing here asks a clock; the caller passes `now`. Every writing function first takes the lock of
//! these tables, and may be called again with the same arguments without effect.

mod acceptance;
mod answers;
mod batch;
mod books;
mod cases;
mod charger_records;
mod charging;
mod contract;
mod error;
mod found;
mod gateway_witnesses;
mod history;
mod hold_batch;
mod holds;
mod interval;
mod introduce;
mod key_history;
mod keys;
mod last_run;
mod logs;
mod money;
mod month;
mod neighbours;
mod openings;
mod overview;
mod pages;
mod participant_keys;
mod proof;
mod readings;
mod receipts;
mod registry;
mod rules;
mod shown;
mod signatures;
mod stake;
mod statement;
mod station;
mod tokens;
mod witnesses;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use domain::ids::CommunityId;
use domain::money::Price;
use domain::signed::SigningKey;
use domain::terms::Terms;
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Listed, Tx};

pub use acceptance::{REFUSAL_HEARD_MS, acceptance, acceptance_with_ledger};
pub use books::{
    BooksError, Portions, check_books, check_books_at_start, check_books_in_portions,
    check_books_whole,
};
pub use cases::{
    Case, SetBack, cases, enrolled_key, keep_case, keep_set_back, public_cases,
    reading_cases_count, set_back,
};
pub use charger_records::{
    CHARGER_RECORDS_PER_DAY_MAX, Kept, charger_records, keep_charger_record,
};
pub use charging::{
    COMMUNITY_OWNER, SESSIONS_MAX, StoredSession, charging_alone, charging_event, charging_hold,
    charging_late, charging_list, charging_newest, charging_open, charging_rates_anew,
    charging_readings, charging_session, charging_settle, charging_unfinished,
};
pub use contract::contract;
pub use error::ServiceError;
pub use found::{
    Found, FoundIn, found_in_readings, is_looked_at, keep_found, reading_cases, refusal_cases,
};
pub use gateway_witnesses::{
    GatewayCosignature, GatewayWitness, gateway_cosigned, gateway_witnesses,
    keep_gateway_cosignatures,
};
pub use history::{
    HISTORY_MAX, MeteredInterval, ParticipantMoney, Whose, connections, day_money, history,
    newest_settled, recent_lines, runs_between,
};
pub use hold_batch::Holds;
pub use holds::{RELEASED_HOLDS_MAX, has_uncleared_holds, release_uncleared};
pub use interval::{POSTPONE_S, RUNS_PER_CALL, RunSummary, postpone, run_interval, runs_due};
pub use introduce::{CLAIM_ATTEMPTS_MAX, Refusal, introduce, key_asked};
pub use keys::{
    CLAIM_LIFE_MAX_MS, GatewayKey, OpenClaim, Revoked, RevokedKey, WORD_AGE_MAX_MS, claim_said,
    gateway_key, gateway_keys, open_claim, open_claims, revocation_said, revoke,
};
pub use logs::{checkpoint, consistency, latest_checkpoint, tile};
pub use money::{AccountBalance, REFERENCE_MAX_BYTES, balances, opening_deposit, post};
pub use month::station_month;
pub use openings::{OPENED_MAX, openings};
pub use overview::{
    IntervalTotals, LINES_MAX, POINTS_MAX, PointState, TOTALS_MAX, balances_sum_to_zero,
    interval_totals, lines_of, point_states, unproven_since,
};
pub use pages::{
    IntervalData, PAGE_MAX, balances_of, checkpoint_time, data_page, lines_at, lines_page,
    readings_page,
};
pub use participant_keys::{ParticipantKey, participant_keys};
pub use proof::{clearing_record, receipt, run_proof};
pub use readings::{REFUSED_KEPT, REJECTED_KEPT, ReadingOutcome, accept_reading, accept_readings};
pub use receipts::{
    CORRECTIONS_MAX, charging_change, charging_changed, charging_credit, charging_credits,
    key_record, reading_proof, station_settled,
};
pub use registry::{
    EnrolOutcome, enrol, forget, gateway_of_key, gateway_public_key, is_known, registered_points,
};
pub use signatures::{Arrived, KnownKeys, arrived_by_key, check_signatures, claimed_gateways};
pub use stake::{RELEASED_MAX, bond_stake, issue_stake, release_unbonded, unbond_stake};
pub use statement::{settled_import, statement};
pub use station::{
    Carried, Carrier, charging_advance, charging_advanced, charging_to_advance, net_of,
    station_carry, station_line, station_parties, station_sweep, stations_carried,
};
pub(crate) use tokens::told_of_tokens;
pub use tokens::{
    Moment, NewTokenRequest, PAYOUT_DELAY_S, REQUEST_LIFE_S, TOKEN_LIST_MAX, TokenKind,
    TokenRequest, TokenState, cancel_tokens, confirm_tokens, expire_tokens, request_tokens,
    token_request, token_requests, tokens_due,
};
pub use witnesses::{
    checkpoint_at, cosigned_checkpoint, cosigned_size, folded, keep_cosignature, ledger_head,
    log_proof, published_checkpoint, root_at,
};

use crate::deliver::LossBand;
use crate::tariff::Tariffs;

/// A community as its platform knows it.
#[derive(Clone, Debug)]
pub struct Community {
    /// Its name.
    pub id: CommunityId,
    /// The operator's key: signs key records, acceptances and checkpoints.
    pub operator: SigningKey,
    /// Length of its intervals in seconds.
    pub interval_length_s: u32,
    /// The prices around its market; an interval keeps the ones that stood when it was first heard of.
    pub tariff: Tariffs,
    /// How deviations are priced, what the community takes and holds back; an interval keeps them too.
    pub terms: Terms,
    /// What may be lost between the meters before somebody should look.
    pub loss_band: LossBand,
    /// The largest fee of its zones, where the network's fee depends on them; an interval keeps it too.
    pub zone_fee_max: Option<Price>,
}

/// What the list of intervals says of one.
#[derive(Clone, Copy, Default)]
struct Noted {
    is_settled: bool,
    /// Readings of settled points that were counted.
    readings: i64,
}

/// Makes sure that the interval is in the list of those to settle, with its tariff, and returns what the list said of it.
async fn note_interval(
    tx: &mut Tx,
    community: &Community,
    interval: Interval,
) -> Result<Noted, ServiceError> {
    let known: Option<(Option<i64>, i64)> = tx
        .fetch_optional(
            "SELECT done, readings FROM settle_intervals WHERE start_s = $1",
            args![interval.start_s()],
        )
        .await?;
    if let Some((done, readings)) = known {
        let is_settled = done.is_some();
        return Ok(Noted {
            is_settled,
            readings,
        });
    }
    insert_interval(tx, community, interval).await?;
    Ok(Noted::default())
}

/// Puts an interval into the list that is not there yet.
async fn insert_interval(
    tx: &mut Tx,
    community: &Community,
    interval: Interval,
) -> Result<(), ServiceError> {
    let due = crate::run::next(interval, None, false).map_or(i64::MAX, |(_, at)| at.unix_s());
    let effective = community.tariff.at(interval);
    let tariff = &effective.tariff;
    tx.execute(
        "INSERT INTO settle_intervals (start_s, length_s, retail, feed_in, network_fee, readings,
         due_s, zone_fee_max, terms) VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8)",
        args![
            interval.start_s(),
            interval.length_s(),
            tariff.retail.micro_per_kwh(),
            tariff.feed_in.micro_per_kwh(),
            tariff.network_fee.micro_per_kwh(),
            due,
            community.zone_fee_max.map(Price::micro_per_kwh),
            rules::to_store(&effective, community.terms)
        ],
    )
    .await?;
    Ok(())
}

/// The network fee that a noted interval keeps.
async fn network_fee(tx: &mut Tx, interval: Interval) -> Result<Price, ServiceError> {
    let (fee,): (i64,) = tx
        .fetch_one(
            "SELECT network_fee FROM settle_intervals WHERE start_s = $1",
            args![interval.start_s()],
        )
        .await?;
    Ok(Price::from_micro_per_kwh(fee))
}

/// The largest network fee that a trade may have, by the plain one and the largest of the zones, if there are any: what
/// bids hold tokens for.
fn largest_fee(fee: i64, zones: Option<i64>) -> Price {
    Price::from_micro_per_kwh(zones.map_or(fee, |zones| zones.max(fee)))
}

static FEES: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT i.start_s, i.network_fee, i.zone_fee_max
         FROM asked CROSS JOIN settle_intervals i WHERE i.start_s = asked.start_s";
    Listed::over("asked", &["start_s"], select)
});

/// The largest network fees of those of these intervals that are noted, by their starts.
async fn largest_fees(
    tx: &mut Tx,
    starts: &BTreeSet<i64>,
) -> Result<BTreeMap<i64, Price>, ServiceError> {
    let asked = starts.iter().map(|start_s| args![*start_s]).collect();
    let rows: Vec<(i64, i64, Option<i64>)> = FEES.fetch(tx, asked).await?;
    let most = |(start_s, fee, zones)| (start_s, largest_fee(fee, zones));
    Ok(rows.into_iter().map(most).collect())
}

/// The largest network fee that the bids of each interval to be contracted hold tokens for, by its start.
///
/// # Errors
/// The database failed.
pub async fn promised_fees(tx: &mut Tx) -> Result<BTreeMap<i64, Price>, ServiceError> {
    let rows: Vec<(i64, i64, Option<i64>)> = tx
        .fetch_all(
            "SELECT start_s, network_fee, zone_fee_max FROM settle_intervals
             WHERE start_s > (SELECT COALESCE(MAX(start_s), -1) FROM settle_clearings)",
            args![],
        )
        .await?;
    let most = |(start_s, fee, zones)| (start_s, largest_fee(fee, zones));
    Ok(rows.into_iter().map(most).collect())
}

/// Bounds of all timed ids whose instant is in `[from, to)`.
fn id_range(from: Timestamp, to: Timestamp) -> ([u8; 16], [u8; 16]) {
    let bound = |at: Timestamp| {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&at.unix_ms().to_be_bytes()[2..]);
        id
    };
    (bound(from), bound(to))
}
