//! What an operator hands to an auditor: the salts and contents behind a log's sealed entries of chosen intervals.
//!
//! Nothing in it is believed: every content is held against the entry that the log has at its place.

use serde::{Deserialize, Serialize};

use crate::ids::Digest32;
use crate::receipt::{Salt, as_base64, as_interval, as_text};
use crate::run_record::RunRecord;
use crate::time::Interval;

/// The format's name.
pub const FORMAT: &str = "commonwatt-openings/v1";

/// The opened entries of some intervals, and the key records that their signatures need.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Openings {
    /// [`FORMAT`].
    pub format: String,
    /// The community.
    pub community: String,
    /// All key records of the ledger log, in its order.
    pub keys: Vec<Opened>,
    /// All introductions of keys, in its order.
    pub introductions: Vec<Opened>,
    /// All revocations of keys, in its order.
    pub revocations: Vec<Opened>,
    /// The intervals, in the order of time.
    pub intervals: Vec<OpenedInterval>,
}

/// An entry of a log with what it commits to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// Its place in its log.
    pub index: u64,
    /// Opens the commitment.
    #[serde(with = "as_text")]
    pub salt: Salt,
    /// The content: signed bytes, or deterministic CBOR.
    #[serde(with = "as_base64")]
    pub content: Vec<u8>,
}

/// An interval's sealed entries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedInterval {
    /// When.
    #[serde(with = "as_interval")]
    pub interval: Interval,
    /// Signed orders of the market log.
    pub orders: Vec<Opened>,
    /// Trades of the market log, each once for either party.
    pub trades: Vec<Opened>,
    /// Signed readings of the readings log.
    pub readings: Vec<Opened>,
    /// Where a home had no reading: those of the same interval a week and a day before.
    pub earlier: Vec<Opened>,
    /// The interval's runs.
    pub runs: Vec<OpenedRun>,
}

/// A run with its lines.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedRun {
    /// Its place in the ledger log.
    pub index: u64,
    /// Its record.
    pub record: RunRecord,
    /// What blinds the record's digests.
    #[serde(with = "as_text")]
    pub blind: Digest32,
    /// Its lines in the ledger log, in its order.
    pub lines: Vec<Opened>,
}
