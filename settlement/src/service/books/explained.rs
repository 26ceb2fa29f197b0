//! What moves tokens outside of the runs is held against what was asked for: every deposit and withdrawal against its
//! request, every held token against the order, the trade or the charging session that it is held for.

use std::collections::BTreeMap;

use domain::money::{MoneyError, Price};
use domain::posting::{Account, Asset, Chart, Posting};
use domain::trade::Trade;
use runtime::args;
use runtime::db::Db;

use super::BooksError;
use crate::service::charging::{charging_unfinished, session_holds};
use crate::service::error::decoded;
use crate::service::money::{posted, token_moves};
use crate::service::{ServiceError, balances, tokens};

/// Every deposit and every step of a withdrawal is in the books as it was asked for, and nothing else is.
pub(super) async fn check_tokens(db: &Db) -> Result<(), BooksError> {
    let explained = tokens::explained(db).await?;
    let mut explained: BTreeMap<_, _> = explained.into_iter().map(|p| (p.id, p)).collect();
    for posting in token_moves(db).await? {
        if explained.remove(&posting.id).as_ref() != Some(&posting) {
            return Err(BooksError::Found(format!(
                "{} is in the books, and no request and no opening deposit says so",
                said(&posting)
            )));
        }
    }
    match explained.into_values().next() {
        Some(posting) => Err(BooksError::Found(format!(
            "{} was asked for and confirmed, and is not in the books",
            said(&posting)
        ))),
        None => Ok(()),
    }
}

fn said(p: &Posting) -> String {
    format!(
        "the {} of {} nano-tokens from {} to {} (posting {})",
        p.purpose.word(),
        p.amount,
        p.debit,
        p.credit,
        p.id
    )
}

/// What is held by account, in nano-tokens.
type Held = BTreeMap<String, i128>;

/// What stands on a participant's account 105 is what is held for its open orders, for its trades that no run has
/// settled, and for its charging sessions that have not ended.
pub(super) async fn check_held(db: &Db) -> Result<(), BooksError> {
    let mut held = Held::new();
    for_orders(db, &mut held).await?;
    for_trades(db, &mut held).await?;
    if !for_sessions(db, &mut held).await? {
        return Ok(());
    }
    for line in balances(db).await? {
        if line.asset != Asset::Token || line.account.chart() != Chart::Held {
            continue;
        }
        let kept = held.remove(line.account.owner()).unwrap_or(0);
        differs(line.account.owner(), i128::from(line.balance), kept)?;
    }
    held.into_iter()
        .try_for_each(|(owner, kept)| differs(&owner, 0, kept))
}

fn differs(owner: &str, balance: i128, held: i128) -> Result<(), BooksError> {
    if balance == held {
        return Ok(());
    }
    Err(BooksError::Found(format!(
        "on account 105/{owner} stand {balance} nano-tokens, but its open orders, unsettled trades and charging \
         sessions hold {held}"
    )))
}

async fn for_orders(db: &Db, held: &mut Held) -> Result<(), BooksError> {
    let rows: Vec<(String, i64)> = db
        .fetch_all(
            "SELECT participant, CAST(SUM(amount) AS BIGINT) FROM settle_holds WHERE is_open = 1
             GROUP BY participant",
            args![],
        )
        .await?;
    for (participant, amount) in rows {
        *held.entry(participant).or_default() += i128::from(amount);
    }
    Ok(())
}

async fn for_trades(db: &Db, held: &mut Held) -> Result<(), BooksError> {
    let rows: Vec<(Vec<u8>, i64)> = db
        .fetch_all(
            "SELECT t.content, i.network_fee FROM settle_intervals i
             JOIN settle_trades t ON t.start_s = i.start_s WHERE i.done IS NULL",
            args![],
        )
        .await?;
    for (content, fee) in rows {
        let trade: Trade = decoded(&content, "a trade")?;
        let amount = needed(&trade, Price::from_micro_per_kwh(fee)).map_err(ServiceError::Money)?;
        *held.entry(trade.buyer.to_string()).or_default() += i128::from(amount);
    }
    Ok(())
}

fn needed(trade: &Trade, fee: Price) -> Result<i64, MoneyError> {
    let fee = trade.network_fee.unwrap_or(fee);
    let price = trade.price.checked_add(fee).ok_or(MoneyError::Overflow)?;
    Ok(price.amount(trade.energy)?.nano())
}

/// Whether every session could be read: one that cannot is said where sessions are worked on, and holds up no other; but
/// nobody knows whose account it holds something on.
async fn for_sessions(db: &Db, held: &mut Held) -> Result<bool, BooksError> {
    let mut after = String::new();
    loop {
        let page = charging_unfinished(db, &after).await?;
        let Some((last, _)) = page.last() else {
            return Ok(true);
        };
        after.clone_from(last);
        for (_, session) in page {
            let Ok(session) = session else {
                return Ok(false);
            };
            let (account, moves) = session_holds(db, &session.promise).await?;
            let sum = held.entry(account.owner().to_owned()).or_default();
            for id in moves {
                if let Some(posting) = posted(&mut &*db, id).await? {
                    *sum += of_account(&posting, &account);
                }
            }
        }
    }
}

/// What a posting brings to an account, or takes from it.
fn of_account(posting: &Posting, account: &Account) -> i128 {
    let amount = i128::from(posting.amount);
    i128::from(posting.credit == *account) * amount - i128::from(posting.debit == *account) * amount
}
