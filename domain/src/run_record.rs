//! What a settlement run was made from: the ledger log commits to it under the public salt, so that the log alone
//! says which inputs, which tariff and which program a run had.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::ids::Digest32;
use crate::money::Price;
use crate::posting::Run;
use crate::receipt::{as_interval, as_text, as_word};
use crate::signed::encode;
use crate::terms::{Step, Terms};
use crate::time::Interval;

/// The prices and terms of an interval: those that stood when it was first heard of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct RunRules {
    /// At which the utility sells, network fee included.
    #[n(1)]
    #[serde(with = "as_text")]
    pub retail: Price,
    /// At which the utility buys.
    #[n(2)]
    #[serde(with = "as_text")]
    pub feed_in: Price,
    /// What the network earns on energy that stays in the community.
    #[n(3)]
    #[serde(with = "as_text")]
    pub network_fee: Price,
    /// What differs from plain pooling.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// The tariff's version, where it has versions.
    #[n(5)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A tiered tariff's steps; none where it has none.
    #[n(6)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// From when on steps count what the utility supplied, in unix seconds: the start of the local month.
    #[n(7)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month_from_s: Option<i64>,
}

/// What a run was made from, and what it came to. The two digests are blinded: whoever is handed the blind can
/// compute them again, and nobody else can try out what a small street may have used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct RunRecord {
    /// When.
    #[n(1)]
    #[serde(with = "as_interval")]
    pub interval: Interval,
    /// Which run.
    #[n(2)]
    #[serde(with = "as_word")]
    pub run: Run,
    /// The program that made it, with its version.
    #[n(3)]
    pub program: String,
    /// What it was settled by.
    #[n(4)]
    pub rules: RunRules,
    /// Entries of the readings log at that moment: the readings among them are those that the run could use.
    #[n(5)]
    pub readings_size: u64,
    /// How many entries before this one are its lines, ordered by participant.
    #[n(6)]
    pub lines: u32,
    /// How many postings it made.
    #[n(7)]
    pub postings: u32,
    /// Blinded SHA-256 over all of its inputs.
    #[n(8)]
    #[serde(with = "as_text")]
    pub inputs: Digest32,
    /// Blinded SHA-256 over all of its postings, also those that are in nobody's line.
    #[n(9)]
    #[serde(with = "as_text")]
    pub outcome: Digest32,
}

impl RunRecord {
    /// The deterministic CBOR of a record: what the ledger log commits to.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        encode(self)
    }
}
