//! What can go wrong in the services, and the conversions between stored and typed values.

use domain::ids::{IdError, ParticipantId};
use domain::money::MoneyError;
use domain::posting::Run;
use domain::time::TimeError;
use runtime::db::DbError;

use crate::deliver::DeliverError;
use crate::settle::SettleError;
use crate::statement::StatementError;

/// Why a service did nothing.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A delivery could not be made.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    /// An interval could not be settled.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// An amount does not fit.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// A statement could not be made.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The call contradicts what is in the books already, or a rule.
    #[error("{0}")]
    Refused(String),
    /// Same name, other content.
    #[error("{0} is in the books already, with another content")]
    Conflict(String),
    /// A sum that is not what was posted.
    #[error("it does not come to the ledger: {0}")]
    Unequal(String),
    /// An invariant would not hold any more.
    #[error("nothing was posted, since a rule of the books would be broken: {0}")]
    Broken(String),
    /// What is stored cannot be right.
    #[error("the stored data is damaged: {0}; restore a backup before going on")]
    Corrupt(String),
    /// The participant's secret was deleted, so nothing of theirs can be opened.
    #[error("the entries of {0} can no longer be opened: their secret was deleted")]
    Erased(ParticipantId),
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(getrandom::Error),
}

impl From<IdError> for ServiceError {
    fn from(error: IdError) -> Self {
        ServiceError::Corrupt(error.to_string())
    }
}

impl From<TimeError> for ServiceError {
    fn from(error: TimeError) -> Self {
        ServiceError::Corrupt(error.to_string())
    }
}

pub(super) fn corrupt(what: &str) -> ServiceError {
    ServiceError::Corrupt(what.to_owned())
}

/// A stored number as the smaller or unsigned type that was stored.
pub(super) fn number<T: TryFrom<i64>>(value: i64, what: &str) -> Result<T, ServiceError> {
    T::try_from(value).map_err(|_| ServiceError::Corrupt(format!("{what} is {value}")))
}

/// A stored run.
pub(super) fn run_of(code: i64) -> Result<Run, ServiceError> {
    Run::from_code(number(code, "a run")?).ok_or_else(|| corrupt("an unknown run"))
}

/// A position or sequence as it is stored.
pub(super) fn stored(value: u64) -> Result<i64, ServiceError> {
    let refuse = |_| ServiceError::Refused(format!("{value} is too large a number to be stored"));
    i64::try_from(value).map_err(refuse)
}

/// Exactly `N` stored bytes.
pub(super) fn bytes<const N: usize>(value: &[u8], what: &str) -> Result<[u8; N], ServiceError> {
    value
        .try_into()
        .map_err(|_| ServiceError::Corrupt(format!("{what} has a wrong length")))
}

/// A stored encoding.
pub(super) fn decoded<'b, T: minicbor::Decode<'b, ()>>(
    content: &'b [u8],
    what: &str,
) -> Result<T, ServiceError> {
    minicbor::decode(content).map_err(|e| ServiceError::Corrupt(format!("{what}: {e}")))
}
