//! Stake: the second token, which vouches for its owner and pays for nothing. It is given out, bonded, asked back, and
//! free again after a time; taking it away is for the rules of evidence, whose accounts are there.

use domain::ids::{ParticipantId, PostingId};
use domain::money::Money;
use domain::posting::{Account, Asset, Chart, Posting, Purpose};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Tx;

use super::ServiceError;
use super::error::bytes;
use super::money::{REFERENCE_MAX_BYTES, balance_of, post, token_posting};
use crate::store::LOCK;

/// Most stakes that one call of [`release_unbonded`] frees; the rest follows in the next.
pub const RELEASED_MAX: i64 = 1000;

/// Gives a participant stake out of the reserve. The same reference again has no effect.
///
/// # Errors
/// An amount that is not above zero, too long a reference or one that was used for something else, or the database
/// failed.
pub async fn issue_stake(
    tx: &mut Tx,
    now: Timestamp,
    to: &ParticipantId,
    amount: Money,
    reference: &str,
) -> Result<(), ServiceError> {
    let accounts = (
        Account::common(Chart::Reserve),
        Account::of(Chart::Available, to),
    );
    move_stake(
        tx,
        now,
        Purpose::StakeIssue,
        accounts,
        amount,
        (to, reference),
    )
    .await
}

/// Lets a participant's free stake vouch for it. The same reference again has no effect.
///
/// # Errors
/// As [`issue_stake`], and where the participant has less.
pub async fn bond_stake(
    tx: &mut Tx,
    now: Timestamp,
    of: &ParticipantId,
    amount: Money,
    reference: &str,
) -> Result<(), ServiceError> {
    let accounts = (
        Account::of(Chart::Available, of),
        Account::of(Chart::Bonded, of),
    );
    move_stake(tx, now, Purpose::Bond, accounts, amount, (of, reference)).await
}

/// Asks bonded stake back: it vouches until `free_at`, and is free then. The same reference again has no effect.
///
/// # Errors
/// As [`bond_stake`].
pub async fn unbond_stake(
    tx: &mut Tx,
    now: Timestamp,
    of: &ParticipantId,
    amount: Money,
    reference: &str,
    free_at: Timestamp,
) -> Result<(), ServiceError> {
    let accounts = (
        Account::of(Chart::Bonded, of),
        Account::of(Chart::Unbonding, of),
    );
    let id = stake_posting(Purpose::Unbond, accounts.clone(), amount, (of, reference)).id;
    move_stake(tx, now, Purpose::Unbond, accounts, amount, (of, reference)).await?;
    tx.execute(
        "INSERT INTO settle_unbonding (id, participant, amount, free_ms, is_open)
         VALUES ($1, $2, $3, $4, 1) ON CONFLICT (id) DO NOTHING",
        args![id.0, of.as_str(), amount.nano(), free_at.unix_ms()],
    )
    .await?;
    Ok(())
}

/// Frees the stake whose time has come, and says for how many that was.
///
/// # Errors
/// The database failed.
pub async fn release_unbonded(tx: &mut Tx, now: Timestamp) -> Result<u64, ServiceError> {
    tx.exclusive(LOCK).await?;
    let due: Vec<(Vec<u8>, String, i64)> = tx
        .fetch_all(
            "SELECT id, participant, amount FROM settle_unbonding
             WHERE is_open = 1 AND free_ms <= $1 ORDER BY free_ms, id LIMIT $2",
            args![now.unix_ms(), RELEASED_MAX],
        )
        .await?;
    let count = due.len() as u64;
    for (id, participant, amount) in due {
        let of = ParticipantId::new(participant)?;
        let accounts = (
            Account::of(Chart::Unbonding, &of),
            Account::of(Chart::Available, &of),
        );
        let id = PostingId(bytes(&id, "a posting's id")?);
        let reference = id.to_string();
        let amount = Money::from_nano(amount);
        move_stake(
            tx,
            now,
            Purpose::Unbonded,
            accounts,
            amount,
            (&of, &reference),
        )
        .await?;
        let sql = "UPDATE settle_unbonding SET is_open = 0 WHERE id = $1";
        tx.execute(sql, args![id.0]).await?;
    }
    Ok(count)
}

fn stake_posting(
    purpose: Purpose,
    accounts: (Account, Account),
    amount: Money,
    (of, reference): (&ParticipantId, &str),
) -> Posting {
    let parts: [&[u8]; 2] = [of.as_str().as_bytes(), reference.as_bytes()];
    // Without a time of its own: the same word must have the same id whenever it is repeated.
    let posting = token_posting(Timestamp::EPOCH, purpose, accounts, amount.nano(), &parts);
    Posting {
        asset: Asset::Stake,
        ..posting
    }
}

async fn move_stake(
    tx: &mut Tx,
    now: Timestamp,
    purpose: Purpose,
    accounts: (Account, Account),
    amount: Money,
    (of, reference): (&ParticipantId, &str),
) -> Result<(), ServiceError> {
    if amount <= Money::ZERO || reference.is_empty() || reference.len() > REFERENCE_MAX_BYTES {
        return Err(ServiceError::Refused(format!(
            "stake moves by amounts above zero, under a reference of 1 to {REFERENCE_MAX_BYTES} bytes"
        )));
    }
    tx.exclusive(LOCK).await?;
    let posting = stake_posting(purpose, accounts, amount, (of, reference));
    let known: Option<(i64,)> = tx
        .fetch_optional(
            "SELECT amount FROM settle_postings WHERE id = $1",
            args![posting.id.0],
        )
        .await?;
    let from = posting.debit.chart();
    if known.is_none() && from.never_below_zero() {
        let there = balance_of(tx, Asset::Stake, from, of).await?;
        if there < amount.nano() {
            return Err(ServiceError::Refused(format!(
                "{of} has {} stake there, less than {amount}",
                Money::from_nano(there)
            )));
        }
    }
    post(tx, now, &[posting]).await
}
