//! Tokens in and out, as people ask for and confirm them: a step in the books and the line in the list of who did what
//! are one transaction.

use domain::ids::to_hex;
use domain::time::Timestamp;
use runtime::db::Tx;
use settlement::service::{
    Moment, NewTokenRequest, ServiceError, TokenRequest, cancel_tokens, confirm_tokens,
    request_tokens,
};

use super::Shared;
use crate::auth::store::{self, By};

/// Why a step was not taken.
pub(crate) enum NotTaken {
    /// The books refuse it, in a sentence: the asker's business.
    Refused(String),
    /// The books are known to be set back: no tokens move until that is mended.
    StandsStill(String),
    /// Something of ours failed.
    Failed(anyhow::Error),
}

impl From<ServiceError> for NotTaken {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(why) => NotTaken::Refused(why),
            error => NotTaken::Failed(error.into()),
        }
    }
}

impl From<anyhow::Error> for NotTaken {
    fn from(error: anyhow::Error) -> Self {
        NotTaken::Failed(error)
    }
}

impl From<runtime::db::DbError> for NotTaken {
    fn from(error: runtime::db::DbError) -> Self {
        NotTaken::Failed(error.into())
    }
}

/// Who takes a step, and when by people's clock.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) by: By<'a>,
    pub(crate) at: Timestamp,
}

impl Said<'_> {
    fn moment(&self, shared: &Shared) -> Moment {
        Moment {
            people: self.at,
            books: shared.clock.now(),
        }
    }

    async fn noted(
        &self,
        mut tx: Tx,
        action: &str,
        request: TokenRequest,
    ) -> Result<TokenRequest, NotTaken> {
        let detail = told(&request);
        store::note(&mut tx, self.at, self.by, action, &detail).await?;
        tx.commit().await?;
        let account = self.by.account;
        match request.counts_from {
            Some(from) => tracing::warn!(account, "{action}: {detail}: counts from {from} on"),
            None => tracing::info!(account, "{action}: {detail}"),
        }
        Ok(request)
    }
}

/// What the list of who did what says; where money goes is told to operators and the home only.
fn told(request: &TokenRequest) -> String {
    let asked = &request.asked;
    let kind = asked.kind.word();
    format!(
        "{kind} of {} for {}, reference {}, request {}",
        asked.amount,
        asked.participant,
        asked.reference,
        to_hex(&request.id)
    )
}

/// Tokens move only while the books are not known to be set back.
fn may_move(shared: &Shared) -> Result<(), NotTaken> {
    match shared.watch.alarm() {
        Some(why) => Err(NotTaken::StandsStill(why)),
        None => Ok(()),
    }
}

/// Asks for a deposit, a withdrawal, or another payout.
pub(crate) async fn ask(
    shared: &Shared,
    said: Said<'_>,
    new: &NewTokenRequest,
) -> Result<TokenRequest, NotTaken> {
    may_move(shared)?;
    let mut tx = shared.db.begin().await?;
    let request = request_tokens(&mut tx, said.moment(shared), said.by.account, new).await?;
    said.noted(tx, "tokens asked for", request).await
}

/// Confirms another operator's request.
pub(crate) async fn confirm(
    shared: &Shared,
    said: Said<'_>,
    id: [u8; 16],
) -> Result<TokenRequest, NotTaken> {
    may_move(shared)?;
    let mut tx = shared.db.begin().await?;
    let request = confirm_tokens(&mut tx, said.moment(shared), said.by.account, id).await?;
    said.noted(tx, "tokens confirmed", request).await
}

/// Takes back a request that waits, or a payout that does not count yet.
pub(crate) async fn cancel(
    shared: &Shared,
    said: Said<'_>,
    id: [u8; 16],
) -> Result<TokenRequest, NotTaken> {
    let mut tx = shared.db.begin().await?;
    let request = cancel_tokens(&mut tx, said.moment(shared), said.by.account, id).await?;
    said.noted(tx, "tokens cancelled", request).await
}
