//! A posting: an amount moved from one account to another. It sums to zero by its very form.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::ids::PostingId;
use crate::time::Interval;

/// What is counted. Each asset is a ledger of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Asset {
    /// Money, in nano-tokens.
    Token,
    /// Energy, in watt-hours.
    WattHour,
    /// The stake token, in its nano-units: collateral and votes, never what energy is paid with.
    Stake,
}

impl Asset {
    /// All there are.
    pub const ALL: [Asset; 3] = [Asset::Token, Asset::WattHour, Asset::Stake];

    /// The number that is stored and logged.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Asset::Token => 1,
            Asset::WattHour => 2,
            Asset::Stake => 3,
        }
    }

    /// The asset of a number; `None` for an unknown one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Asset::ALL.into_iter().find(|asset| asset.code() == code)
    }
}

/// A closed list travels as the number of its member.
macro_rules! as_code {
    ($($name:ident)*) => {$(
        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.u8(self.code())?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                $name::from_code(d.u8()?).ok_or_else(|| {
                    minicbor::decode::Error::message(concat!("unknown ", stringify!($name)))
                })
            }
        }
    )*};
}

pub(crate) use as_code;

as_code! { Asset Purpose Run }

/// The chart of accounts. The number is the account's place in it; the name says whose and what.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Chart {
    /// A participant's spendable tokens; never below zero.
    Available,
    /// A participant's tokens that are held for accepted bids; never below zero.
    Held,
    /// What of a seller's income is kept until the final run; never below zero.
    Holdback,
    /// What a participant owes to or has from the utility and the pool; paid by statement.
    Statement,
    /// Where deviations net inside the community; zero after every interval.
    Pool,
    /// The utility, which sells what is short and buys what is over.
    Utility,
    /// The network operator, which earns the network fee.
    Network,
    /// Taxes that were collected, to be passed on.
    Tax,
    /// What the community takes: its fee on trades, and the spread on pooled deviations.
    Community,
    /// What the community puts aside for its own purposes; never below zero.
    Treasury,
    /// What divisions leave over, to be looked at where it grows; never below zero.
    Rounding,
    /// Stake that vouches for its owner (asset stake); never below zero.
    Bonded,
    /// Stake on its way back to its owner, which vouches until it is there (asset stake); never below zero.
    Unbonding,
    /// Stake that was taken away (asset stake); never below zero.
    Slashed,
    /// Stake for those who bring evidence (asset stake); never below zero.
    Bounty,
    /// Where stake comes from; its debit is all stake there is (asset stake).
    Reserve,
    /// Stake that is shared out at the end of an epoch; zero after it (asset stake); never below zero.
    Rewards,
    /// Tokens issued against deposits; its debit is the sum of all tokens in circulation.
    Bridge,
    /// A participant's tokens whose withdrawal was asked for and not confirmed yet; never below zero.
    Withdrawing,
    /// Amounts that are disputed; never below zero.
    Suspense,
    /// Energy through a participant's meter (asset Wh).
    Meter,
    /// Energy through the feeder's meter (asset Wh).
    Grid,
    /// Energy lost between the meters (asset Wh).
    Loss,
}

impl Chart {
    const ALL: [Chart; 23] = [
        Chart::Available,
        Chart::Held,
        Chart::Holdback,
        Chart::Statement,
        Chart::Pool,
        Chart::Utility,
        Chart::Network,
        Chart::Tax,
        Chart::Community,
        Chart::Treasury,
        Chart::Rounding,
        Chart::Bonded,
        Chart::Unbonding,
        Chart::Slashed,
        Chart::Bounty,
        Chart::Reserve,
        Chart::Rewards,
        Chart::Bridge,
        Chart::Withdrawing,
        Chart::Suspense,
        Chart::Meter,
        Chart::Grid,
        Chart::Loss,
    ];

    /// The number in the chart.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Chart::Available => 100,
            Chart::Held => 105,
            Chart::Holdback => 110,
            Chart::Statement => 130,
            Chart::Pool => 200,
            Chart::Utility => 210,
            Chart::Network => 220,
            Chart::Tax => 230,
            Chart::Community => 300,
            Chart::Treasury => 310,
            Chart::Rounding => 320,
            Chart::Bonded => 400,
            Chart::Unbonding => 410,
            Chart::Slashed => 420,
            Chart::Bounty => 430,
            Chart::Reserve => 500,
            Chart::Rewards => 510,
            Chart::Bridge => 600,
            Chart::Withdrawing => 610,
            Chart::Suspense => 700,
            Chart::Meter => 800,
            Chart::Grid => 810,
            Chart::Loss => 820,
        }
    }

    /// The account of a number; `None` for an unknown one.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Chart::ALL.into_iter().find(|chart| chart.code() == code)
    }

    /// Whether a balance below zero is refused, in code and in the database.
    #[must_use]
    pub const fn never_below_zero(self) -> bool {
        match self {
            Chart::Available
            | Chart::Held
            | Chart::Holdback
            | Chart::Treasury
            | Chart::Rounding
            | Chart::Bonded
            | Chart::Unbonding
            | Chart::Slashed
            | Chart::Bounty
            | Chart::Rewards
            | Chart::Withdrawing
            | Chart::Suspense => true,
            Chart::Statement
            | Chart::Pool
            | Chart::Utility
            | Chart::Network
            | Chart::Tax
            | Chart::Community
            | Chart::Reserve
            | Chart::Bridge
            | Chart::Meter
            | Chart::Grid
            | Chart::Loss => false,
        }
    }

    /// Whether an account at this place counts the asset; a posting of another is refused, in code and in the
    /// database. Stake that vouches for nothing lies beside its owner's spendable tokens.
    #[must_use]
    pub const fn counts(self, asset: Asset) -> bool {
        let code = self.code();
        match asset {
            Asset::Token => code < 400 || (code >= 600 && code < 800),
            Asset::WattHour => code == Chart::Pool.code() || code >= 800,
            Asset::Stake => code == Chart::Available.code() || (code >= 400 && code < 600),
        }
    }
}

/// Longest owner of an account in bytes.
const OWNER_MAX_BYTES: usize = crate::ids::ID_MAX_BYTES;

/// An account: its place in the chart and whose it is. The community's own have the owner `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Account {
    chart: Chart,
    owner: String,
}

impl Account {
    /// A participant's account.
    #[must_use]
    pub fn of(chart: Chart, participant: &crate::ids::ParticipantId) -> Self {
        Account {
            chart,
            owner: participant.as_str().to_owned(),
        }
    }

    /// An account of the community as a whole.
    #[must_use]
    pub fn common(chart: Chart) -> Self {
        Account {
            chart,
            owner: "-".to_owned(),
        }
    }

    /// Its place in the chart.
    #[must_use]
    pub const fn chart(&self) -> Chart {
        self.chart
    }

    /// Whose it is; `-` for the community.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }
}

impl fmt::Display for Account {
    /// `100/home-03`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.chart.code(), self.owner)
    }
}

impl FromStr for Account {
    type Err = UnknownAccount;

    fn from_str(text: &str) -> Result<Self, UnknownAccount> {
        let wrong = || UnknownAccount(text.chars().take(OWNER_MAX_BYTES).collect());
        let (code, owner) = text.split_once('/').ok_or_else(wrong)?;
        let chart = code
            .parse()
            .ok()
            .and_then(Chart::from_code)
            .ok_or_else(wrong)?;
        if owner != "-" && crate::ids::ParticipantId::new(owner).is_err() {
            return Err(wrong());
        }
        let account = Account {
            chart,
            owner: owner.to_owned(),
        };
        if account.to_string() == text {
            Ok(account)
        } else {
            Err(wrong())
        }
    }
}

/// Text that names no account of the chart.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` is no account: expected a number of the chart, a slash and an owner, like 100/home-03"
)]
pub struct UnknownAccount(String);

impl<C> Encode<C> for Account {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.to_string())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Account {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(minicbor::decode::Error::message)
    }
}

/// Why something was posted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// Tokens bought or given at the start.
    Deposit,
    /// Tokens held for an accepted bid.
    Hold,
    /// A hold, or a part of it, given back.
    Release,
    /// A trade paid from its hold.
    Trade,
    /// The network fee of local energy.
    NetworkFee,
    /// A deviation that another participant's deviation cancelled.
    PoolDeviation,
    /// A deviation that the utility supplied or took.
    UtilityDeviation,
    /// Energy through a meter (asset Wh).
    MeteredEnergy,
    /// Energy between the meters (asset Wh).
    LostEnergy,
    /// What a pooled deviation pays around the local price.
    Spread,
    /// The community's fee on a seller's income.
    CommunityFee,
    /// Income kept until the final run.
    Holdback,
    /// A charging session that was paid.
    Charging,
    /// A withdrawal that was asked for: its tokens wait for the confirmation.
    WithdrawalHold,
    /// A withdrawal that was confirmed: its tokens are paid out and exist no more.
    Withdrawal,
    /// A withdrawal that was cancelled or not confirmed in time: its tokens are back.
    WithdrawalRelease,
    /// Stake that was given to somebody.
    StakeIssue,
    /// Stake that begins to vouch for its owner.
    Bond,
    /// Stake that is asked back.
    Unbond,
    /// Stake that is back with its owner.
    Unbonded,
}

impl Purpose {
    const ALL: [Purpose; 20] = [
        Purpose::Deposit,
        Purpose::Hold,
        Purpose::Release,
        Purpose::Trade,
        Purpose::NetworkFee,
        Purpose::PoolDeviation,
        Purpose::UtilityDeviation,
        Purpose::MeteredEnergy,
        Purpose::LostEnergy,
        Purpose::Spread,
        Purpose::CommunityFee,
        Purpose::Holdback,
        Purpose::Charging,
        Purpose::WithdrawalHold,
        Purpose::Withdrawal,
        Purpose::WithdrawalRelease,
        Purpose::StakeIssue,
        Purpose::Bond,
        Purpose::Unbond,
        Purpose::Unbonded,
    ];

    /// The number that is stored and logged.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Purpose::Deposit => 1,
            Purpose::Hold => 2,
            Purpose::Release => 3,
            Purpose::Trade => 4,
            Purpose::NetworkFee => 5,
            Purpose::PoolDeviation => 6,
            Purpose::UtilityDeviation => 7,
            Purpose::MeteredEnergy => 8,
            Purpose::LostEnergy => 9,
            Purpose::Spread => 10,
            Purpose::CommunityFee => 11,
            Purpose::Holdback => 12,
            Purpose::Charging => 13,
            Purpose::WithdrawalHold => 14,
            Purpose::Withdrawal => 15,
            Purpose::WithdrawalRelease => 16,
            Purpose::StakeIssue => 17,
            Purpose::Bond => 18,
            Purpose::Unbond => 19,
            Purpose::Unbonded => 20,
        }
    }

    /// The purpose of a number; `None` for an unknown one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Purpose::ALL.into_iter().find(|p| p.code() == code)
    }

    /// The word on receipts and statements.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Purpose::Deposit => "deposit",
            Purpose::Hold => "hold",
            Purpose::Release => "release",
            Purpose::Trade => "trade",
            Purpose::NetworkFee => "network_fee",
            Purpose::PoolDeviation => "pool_deviation",
            Purpose::UtilityDeviation => "utility_deviation",
            Purpose::MeteredEnergy => "metered_energy",
            Purpose::LostEnergy => "lost_energy",
            Purpose::Spread => "spread",
            Purpose::CommunityFee => "community_fee",
            Purpose::Holdback => "holdback",
            Purpose::Charging => "charging",
            Purpose::WithdrawalHold => "withdrawal_hold",
            Purpose::Withdrawal => "withdrawal",
            Purpose::WithdrawalRelease => "withdrawal_release",
            Purpose::StakeIssue => "stake_issue",
            Purpose::Bond => "bond",
            Purpose::Unbond => "unbond",
            Purpose::Unbonded => "unbonded",
        }
    }
}

/// When in an interval's life it is settled. A later run posts only what differs from the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Run {
    /// Five minutes after the interval, with substitutes for what is missing.
    Provisional,
    /// A day later.
    Initial,
    /// Ten days later.
    Final,
    /// Sixty days later, or after a dispute.
    TrueUp,
}

impl Run {
    /// All runs in order.
    pub const ALL: [Run; 4] = [Run::Provisional, Run::Initial, Run::Final, Run::TrueUp];

    /// The number that is stored and logged: 0 to 3.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Run::Provisional => 0,
            Run::Initial => 1,
            Run::Final => 2,
            Run::TrueUp => 3,
        }
    }

    /// The run of a number; `None` for an unknown one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Run::ALL.into_iter().find(|run| run.code() == code)
    }

    /// The word on receipts and statements.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Run::Provisional => "provisional",
            Run::Initial => "initial",
            Run::Final => "final",
            Run::TrueUp => "true_up",
        }
    }
}

/// `amount` of `asset` moved from `debit` to `credit`.
///
/// A participant's balance is credits minus debits, so what a participant receives is credited.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Posting {
    /// The posting's name; a second posting of the same name has no effect.
    #[n(1)]
    pub id: PostingId,
    /// What is moved.
    #[n(2)]
    pub asset: Asset,
    /// From where.
    #[n(3)]
    pub debit: Account,
    /// To where.
    #[n(4)]
    pub credit: Account,
    /// How much, in the asset's smallest unit; above zero.
    #[n(5)]
    pub amount: i64,
    /// Why.
    #[n(6)]
    pub purpose: Purpose,
    /// For which interval, where there is one.
    #[n(7)]
    pub interval: Option<Interval>,
    /// In which run, where it is a run's posting.
    #[n(8)]
    pub run: Option<Run>,
    /// The trade or order it belongs to, where there is one.
    #[n(9)]
    pub reference: Option<crate::ids::TradeId>,
}
