//! Accounts: who looks at a page or asks the API, and what that person may see and do.
//!
//! [`Viewer`] is the way in for handlers: an anonymous visitor, or an account that came with a session's
//! cookie or an API token. What somebody may not see answers 404, as if it were not there. A form's POST is
//! taken as [`Posted`], which has checked that it comes from a page of ours and from this session.
//!
//! Accounts live in tables of their own beside the books, and are written by this module and by
//! `commonwatt accounts`. Sessions, links and tokens are kept as hashes. Their time is the computer's, not the
//! demo's, which runs faster.

mod account;
mod guard;
mod limit;
mod mail;
mod passkey;
mod role;
mod secret;
mod session;
mod sign_in;
pub(crate) mod store;
mod tables;
mod viewer;

use std::num::NonZeroU32;

use domain::ids::{ParticipantId, TradeId};
use domain::signed::SigningKey;
use domain::time::Timestamp;
use runtime::clock::Clock;
use runtime::db::Db;

pub(crate) use guard::{
    Posted, limit_writes, may_ask, may_send, may_write, nothing_here, said_by_our_page, too_often,
};
pub(crate) use limit::{ACCOUNT_WRITES, INTRODUCTIONS, WRITES_PER_MINUTE, Who};
pub(crate) use mail::Mailer;
pub(crate) use role::{Role, Roles};
pub(crate) use sign_in::routes;
pub(crate) use tables::MIGRATIONS;
pub(crate) use viewer::Viewer;

use limit::{Limits, Rate};
use passkey::Passkeys;

/// What the handlers know of accounts.
pub(crate) struct Accounts {
    pub(crate) db: Db,
    /// The computer's clock, whatever the community's time is.
    clock: Clock,
    limits: Limits,
    address_writes: Rate,
    /// What capabilities are made with.
    secret: [u8; 32],
    /// The address that people use, where it is another than the one that is listened on.
    public_url: Option<String>,
    /// Where browsers can use passkeys.
    passkeys: Option<Passkeys>,
}

impl Accounts {
    /// Accounts in the community's database. The operator's key gives the secret of receipts' addresses, so
    /// that they stay the same as long as the books have the same operator.
    pub(crate) fn new(db: Db, operator: &SigningKey, public_url: Option<String>) -> Accounts {
        Accounts {
            db,
            clock: Clock::system(),
            limits: Limits::default(),
            address_writes: limit::address_writes(WRITES_PER_MINUTE),
            secret: domain::ids::digest_parts(
                "commonwatt/capabilities/v1",
                &[&operator.to_bytes()],
            ),
            passkeys: Passkeys::at(public_url.as_deref()),
            public_url,
        }
    }

    /// The same with so many writes of one address in a minute.
    pub(crate) fn with_writes_per_minute(self, most: NonZeroU32) -> Accounts {
        Accounts {
            address_writes: limit::address_writes(most),
            ..self
        }
    }

    /// The time of people.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether browsers come over TLS: cookies are then for TLS only.
    pub(crate) fn is_secure(&self) -> bool {
        self.public_url
            .as_ref()
            .is_some_and(|url| url.starts_with("https://"))
    }

    /// Notes in the list of who did what that somebody has done something. It is done, whatever becomes of the note:
    /// who is told otherwise does it twice.
    pub(crate) async fn note_done(&self, viewer: &Viewer, action: &str, detail: &str) {
        let noted = async {
            let mut tx = self.db.begin().await?;
            store::note(&mut tx, self.now(), viewer.by(), action, detail).await?;
            anyhow::Ok(tx.commit().await?)
        };
        if let Err(error) = noted.await {
            tracing::error!("not noted: {action}, {detail}: {error:#}");
        }
    }

    /// Takes one request out of somebody's allowance, or says how many seconds to wait.
    pub(crate) fn allow(&self, rate: Rate, who: Who) -> Result<(), u32> {
        self.limits.take(rate, who, self.clock.elapsed_ms())
    }

    /// The unguessable name of one side's receipt of a trade: whoever has it may read the receipt.
    pub(crate) fn receipt_name(&self, trade: TradeId, side: &ParticipantId) -> String {
        format!("{trade}-{}", self.receipt_mark(trade, side))
    }

    /// Whether `mark` is what stands behind the trade in the name of this side's receipt.
    pub(crate) fn is_receipt_mark(&self, mark: &str, trade: TradeId, side: &ParticipantId) -> bool {
        secret::same(&self.receipt_mark(trade, side), mark)
    }

    fn receipt_mark(&self, trade: TradeId, side: &ParticipantId) -> String {
        let parts: [&[u8]; 3] = [&self.secret, trade.as_bytes(), side.as_str().as_bytes()];
        secret::short_mark(&domain::ids::digest_parts("commonwatt/receipt/v1", &parts))
    }
}
