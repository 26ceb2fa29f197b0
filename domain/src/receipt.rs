//! The receipt a household keeps: one trade with everything needed to check it without the platform.
//!
//! Readable numbers and evidence stand side by side; the verifier encodes the numbers again and
//! compares them with what was signed and logged, so a number that was changed afterwards shows.

use std::fmt::Display;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::delivery::Delivery;
use crate::energy::Energy;
use crate::ids::{Digest32, OrderId, ParticipantId, PointId, PostingId, TradeId};
use crate::money::{Money, Price};
use crate::order::Side;
use crate::posting::{Account, Asset, Posting, Purpose, Run};
use crate::quality::Quality;
use crate::run_record::RunRecord;
use crate::signed::encode;
use crate::terms::{Terms, Tiers};
use crate::time::{Interval, Timestamp};
use crate::trade::{Clearing, Trade};

/// The format's name; a verifier refuses any other.
pub const FORMAT: &str = "commonwatt-receipt/v1";

/// The prices an interval is settled at, and the terms where they are not the plain ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Prices {
    /// At which deviations net inside the community.
    #[n(1)]
    #[serde(with = "as_text")]
    pub pool: Price,
    /// At which the utility sells, network fee included.
    #[n(2)]
    #[serde(with = "as_text")]
    pub retail: Price,
    /// At which the utility buys.
    #[n(3)]
    #[serde(with = "as_text")]
    pub feed_in: Price,
    /// What the network earns on energy that stays in the community.
    #[n(4)]
    #[serde(with = "as_text")]
    pub network_fee: Price,
    /// What differs from plain pooling; a line without is as the first version of receipts had it.
    #[n(5)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
}

/// What one run settled for one participant: the ledger log commits to its encoding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Line {
    /// When.
    #[n(1)]
    #[serde(with = "as_interval")]
    pub interval: Interval,
    /// Who.
    #[n(2)]
    #[serde(with = "as_text")]
    pub participant: ParticipantId,
    /// In which run.
    #[n(3)]
    #[serde(with = "as_word")]
    pub run: Run,
    /// What was traded beside what flowed.
    #[n(4)]
    #[serde(with = "DeliveryJson")]
    pub delivery: Delivery,
    /// The participant's trades of the interval.
    #[n(5)]
    #[serde(with = "trades")]
    pub trades: Vec<Trade>,
    /// The part of the deviation that neighbours cancelled: above zero given, below zero taken.
    #[n(6)]
    #[serde(with = "as_wh")]
    pub pooled_wh: Energy,
    /// The part of the deviation that the utility took (above zero) or supplied (below zero).
    #[n(7)]
    #[serde(with = "as_wh")]
    pub utility_wh: Energy,
    /// The prices used.
    #[n(8)]
    pub prices: Prices,
    /// What this run posted for this participant: for a later run, only the difference.
    #[n(9)]
    #[serde(with = "postings")]
    pub postings: Vec<Posting>,
    /// The tariff's version, where it has versions.
    #[n(10)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tariff: Option<String>,
    /// With a tiered tariff: its steps, and where on them the participant stands.
    #[n(11)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiers: Option<Tiers>,
}

impl Line {
    /// The deterministic CBOR of a line.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        encode(self)
    }
}

/// Where an entry stands in its log, and the hashes that lead from it to the log's root.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Position in the log, from zero.
    pub index: u64,
    /// Sibling hashes from the leaf to the root.
    #[serde(with = "digests")]
    pub path: Vec<Digest32>,
}

/// The salt that opens a commitment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Salt(pub [u8; 16]);

impl Display for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::ids::to_hex(&self.0))
    }
}

impl FromStr for Salt {
    type Err = crate::ids::IdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::ids::from_hex(text).map(Salt)
    }
}

/// A signed message of a participant in a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedEntry {
    /// The signed bytes.
    #[serde(with = "as_base64")]
    pub signed: Vec<u8>,
    /// Opens the commitment.
    #[serde(with = "as_text")]
    pub salt: Salt,
    /// Where it stands.
    pub place: Place,
}

/// A key record, or another public message about a key, in the ledger log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The signed bytes.
    #[serde(with = "as_base64")]
    pub signed: Vec<u8>,
    /// Where it stands.
    pub place: Place,
}

/// How a key stands among the keys of its holder, as far as that is in the ledger log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyHistory {
    /// Whose place it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<KeyChange>,
    /// Who took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<KeyChange>,
    /// The operator's words that it counts no longer, in the order of the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<RevocationEntry>,
}

/// A key that took the place of another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// The other key's record.
    pub key: KeyEntry,
    /// By what the newer of the two was let in: its own request, signed by the key that vouched for it. None where
    /// the operator alone has changed the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introduction: Option<KeyEntry>,
}

/// The operator's word that a key counts no longer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationEntry {
    /// The word and its place.
    pub word: KeyEntry,
    /// That the reading was in its log before; only where the word covers the reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading_before: Option<ReadingBefore>,
}

/// A reading in the readings log at an earlier checkpoint, which the ledger log holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingBefore {
    /// The readings log's checkpoint.
    pub checkpoint: CheckpointEntry,
    /// Where the reading stands under it.
    pub place: Place,
}

/// The trade in the market log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TradeEntry {
    /// The trade.
    #[serde(with = "TradeJson")]
    pub content: Trade,
    /// Opens the commitment.
    #[serde(with = "as_text")]
    pub salt: Salt,
    /// Where it stands.
    pub place: Place,
}

/// The clearing in the market log; it is public, so there is no salt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClearingEntry {
    /// The clearing.
    #[serde(with = "ClearingJson")]
    pub content: Clearing,
    /// Where it stands.
    pub place: Place,
}

/// A settlement line in the ledger log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineEntry {
    /// The line.
    pub content: Line,
    /// Opens the commitment.
    #[serde(with = "as_text")]
    pub salt: Salt,
    /// Where it stands.
    pub place: Place,
}

/// A run's record in the ledger log; it is public, so there is no salt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunEntry {
    /// The record.
    pub content: RunRecord,
    /// Where it stands, directly behind the lines of its run.
    pub place: Place,
}

/// A checkpoint of the readings or market log, which is itself an entry of the ledger log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointEntry {
    /// The signed note.
    pub note: String,
    /// Where it stands in the ledger log.
    pub place: Place,
}

/// The receipt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// [`FORMAT`].
    pub format: String,
    /// The community.
    pub community: String,
    /// The operator's public key, as 32 bytes in hex.
    #[serde(with = "as_text")]
    pub operator_key: Digest32,
    /// Whose receipt it is.
    #[serde(with = "as_text")]
    pub participant: ParticipantId,
    /// On which side of the trade the participant stood.
    #[serde(with = "as_word")]
    pub side: Side,
    /// What was traded.
    pub trade: TradeEntry,
    /// The clearing that made the trade.
    pub clearing: ClearingEntry,
    /// The participant's signed order.
    pub order: SignedEntry,
    /// The signed reading of the interval; none where the value is a substitute.
    pub reading: Option<SignedEntry>,
    /// The participant's key.
    pub participant_key: KeyEntry,
    /// The gateway's key; there exactly when the reading is.
    pub gateway_key: Option<KeyEntry>,
    /// How the participant's key changed; none where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_key_history: Option<KeyHistory>,
    /// How the gateway's key changed or was revoked; none where it was neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_key_history: Option<KeyHistory>,
    /// What each run settled that changed something, in the order of the runs.
    pub lines: Vec<LineEntry>,
    /// What each of these runs was made from; none of runs of a program that did not log it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunEntry>,
    /// The readings log's checkpoint.
    pub readings_checkpoint: CheckpointEntry,
    /// The market log's checkpoint.
    pub market_checkpoint: CheckpointEntry,
    /// The ledger log's checkpoint: a signed note.
    pub ledger_checkpoint: String,
}

/// The format of [`RunProof`].
pub const RUN_FORMAT: &str = "commonwatt-run/v1";

/// What a run was made from, with the proof that a community's ledger log holds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunProof {
    /// [`RUN_FORMAT`].
    pub format: String,
    /// The community.
    pub community: String,
    /// The operator's public key, as 32 bytes in hex.
    #[serde(with = "as_text")]
    pub operator_key: Digest32,
    /// The record and where it stands.
    pub run: RunEntry,
    /// The ledger log's checkpoint: a signed note.
    pub ledger_checkpoint: String,
}

/// The format of [`ClearingRecord`].
pub const CLEARING_FORMAT: &str = "commonwatt-clearing/v1";

/// A clearing with the proof that a community's market log holds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClearingRecord {
    /// [`CLEARING_FORMAT`].
    pub format: String,
    /// The community.
    pub community: String,
    /// The operator's public key, as 32 bytes in hex.
    #[serde(with = "as_text")]
    pub operator_key: Digest32,
    /// The clearing and where it stands.
    pub clearing: ClearingEntry,
    /// The market log's checkpoint: a signed note.
    pub market_checkpoint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Trade", rename = "Trade", deny_unknown_fields)]
struct TradeJson {
    #[serde(with = "as_text")]
    id: TradeId,
    #[serde(with = "as_interval")]
    interval: Interval,
    #[serde(with = "as_text")]
    bid: OrderId,
    #[serde(with = "as_text")]
    offer: OrderId,
    #[serde(with = "as_text")]
    buyer: ParticipantId,
    #[serde(with = "as_text")]
    seller: ParticipantId,
    #[serde(with = "as_wh", rename = "energy_wh")]
    energy: Energy,
    #[serde(with = "as_text")]
    price: Price,
    #[serde(with = "maybe_text", default, skip_serializing_if = "Option::is_none")]
    network_fee: Option<Price>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Clearing", rename = "Clearing", deny_unknown_fields)]
struct ClearingJson {
    #[serde(with = "as_interval")]
    interval: Interval,
    mechanism: String,
    price_policy: String,
    #[serde(with = "maybe_text")]
    price: Option<Price>,
    #[serde(with = "maybe_text")]
    price_low: Option<Price>,
    #[serde(with = "maybe_text")]
    price_high: Option<Price>,
    #[serde(with = "as_wh", rename = "volume_wh")]
    volume: Energy,
    orders: u32,
    trades: u32,
    #[serde(with = "as_text")]
    book: Digest32,
    #[serde(with = "maybe_text", default, skip_serializing_if = "Option::is_none")]
    public_book: Option<Digest32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Delivery", rename = "Delivery", deny_unknown_fields)]
struct DeliveryJson {
    #[serde(with = "as_interval")]
    interval: Interval,
    #[serde(with = "as_text")]
    participant: ParticipantId,
    #[serde(with = "as_text")]
    point: PointId,
    #[serde(with = "as_wh", rename = "imported_wh")]
    imported: Energy,
    #[serde(with = "as_wh", rename = "exported_wh")]
    exported: Energy,
    #[serde(with = "as_wh", rename = "bought_wh")]
    bought: Energy,
    #[serde(with = "as_wh", rename = "sold_wh")]
    sold: Energy,
    #[serde(with = "as_word")]
    quality: Quality,
    #[serde(with = "maybe_text")]
    reading: Option<Digest32>,
}

/// A posting with its amount as a person reads it: tokens with nine decimals, or whole watt-hours.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostingJson {
    #[serde(with = "as_text")]
    id: PostingId,
    #[serde(with = "as_word")]
    asset: Asset,
    #[serde(with = "as_text")]
    debit: Account,
    #[serde(with = "as_text")]
    credit: Account,
    amount: String,
    #[serde(with = "as_word")]
    purpose: Purpose,
    #[serde(with = "maybe_interval")]
    interval: Option<Interval>,
    #[serde(with = "maybe_word")]
    run: Option<Run>,
    #[serde(with = "maybe_text")]
    reference: Option<TradeId>,
}

impl From<&Posting> for PostingJson {
    fn from(p: &Posting) -> Self {
        PostingJson {
            id: p.id,
            asset: p.asset,
            debit: p.debit.clone(),
            credit: p.credit.clone(),
            amount: match p.asset {
                Asset::Token | Asset::Stake => Money::from_nano(p.amount).to_string(),
                Asset::WattHour => p.amount.to_string(),
            },
            purpose: p.purpose,
            interval: p.interval,
            run: p.run,
            reference: p.reference,
        }
    }
}

impl TryFrom<PostingJson> for Posting {
    type Error = String;

    fn try_from(json: PostingJson) -> Result<Self, String> {
        let amount = match json.asset {
            Asset::Token | Asset::Stake => json.amount.parse::<Money>().map(Money::nano).ok(),
            Asset::WattHour => json.amount.parse::<i64>().ok(),
        };
        let amount =
            amount.ok_or_else(|| format!("`{}` is no amount of this asset", json.amount))?;
        Ok(Posting {
            id: json.id,
            asset: json.asset,
            debit: json.debit,
            credit: json.credit,
            amount,
            purpose: json.purpose,
            interval: json.interval,
            run: json.run,
            reference: json.reference,
        })
    }
}

/// A value that stands in JSON as one of a few words.
pub(crate) trait Word: Sized {
    fn to_word(&self) -> String;
    fn of_word(word: &str) -> Option<Self>;
}

impl Word for Side {
    fn to_word(&self) -> String {
        self.word().to_owned()
    }
    fn of_word(word: &str) -> Option<Self> {
        [Side::Bid, Side::Offer]
            .into_iter()
            .find(|s| s.word() == word)
    }
}

impl Word for Run {
    fn to_word(&self) -> String {
        self.word().to_owned()
    }
    fn of_word(word: &str) -> Option<Self> {
        Run::ALL.into_iter().find(|r| r.word() == word)
    }
}

impl Word for Purpose {
    fn to_word(&self) -> String {
        self.word().to_owned()
    }
    fn of_word(word: &str) -> Option<Self> {
        (0..=u8::MAX)
            .filter_map(Purpose::from_code)
            .find(|p| p.word() == word)
    }
}

impl Word for Asset {
    fn to_word(&self) -> String {
        match self {
            Asset::Token => "token".to_owned(),
            Asset::WattHour => "wh".to_owned(),
            Asset::Stake => "stake".to_owned(),
        }
    }
    fn of_word(word: &str) -> Option<Self> {
        [Asset::Token, Asset::WattHour, Asset::Stake]
            .into_iter()
            .find(|a| a.to_word() == word)
    }
}

impl Word for Quality {
    fn to_word(&self) -> String {
        self.to_string()
    }
    fn of_word(word: &str) -> Option<Self> {
        let mark = |name: &str| {
            let marks = (0..16).filter_map(|bit| Quality::from_bits(1 << bit));
            marks.into_iter().find(|m| m.to_string() == name)
        };
        word.split('+')
            .try_fold(Quality::default(), |set, name| Some(set.with(mark(name)?)))
    }
}

pub(crate) mod as_word {
    use super::*;

    pub(crate) fn serialize<T: Word, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&value.to_word())
    }

    pub(crate) fn deserialize<'d, T: Word, D: Deserializer<'d>>(d: D) -> Result<T, D::Error> {
        let word = String::deserialize(d)?;
        T::of_word(&word).ok_or_else(|| D::Error::custom(format!("unknown word `{word}`")))
    }
}

mod maybe_word {
    use super::*;

    pub(super) fn serialize<T: Word, S: Serializer>(
        value: &Option<T>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Word::to_word).serialize(s)
    }

    pub(super) fn deserialize<'d, T: Word, D: Deserializer<'d>>(
        d: D,
    ) -> Result<Option<T>, D::Error> {
        let unknown = |word: String| D::Error::custom(format!("unknown word `{word}`"));
        Option::<String>::deserialize(d)?
            .map(|word| T::of_word(&word).ok_or_else(|| unknown(word)))
            .transpose()
    }
}

pub(crate) mod as_text {
    use super::*;

    pub(crate) fn serialize<T: Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub(crate) fn deserialize<'d, T, D: Deserializer<'d>>(d: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
    {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

pub(crate) mod maybe_text {
    use super::*;

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(T::to_string).serialize(s)
    }

    pub(crate) fn deserialize<'d, T, D: Deserializer<'d>>(d: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
    {
        let text = Option::<String>::deserialize(d)?;
        text.map(|t| t.parse().map_err(D::Error::custom))
            .transpose()
    }
}

pub(crate) mod as_wh {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Energy, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i64(value.wh())
    }

    pub(crate) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Energy, D::Error> {
        i64::deserialize(d).map(Energy::from_wh)
    }
}

fn interval_of(text: &str) -> Option<Interval> {
    let (start, length) = text.split_once('/')?;
    let start: Timestamp = start.parse().ok()?;
    Interval::new(start.unix_s(), length.strip_suffix('s')?.parse().ok()?).ok()
}

pub(crate) mod as_interval {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Interval, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub(crate) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Interval, D::Error> {
        let text = String::deserialize(d)?;
        interval_of(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no interval")))
    }
}

mod maybe_interval {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Interval>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|i| i.to_string()).serialize(s)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Option<Interval>, D::Error> {
        let none = |text: &str| D::Error::custom(format!("`{text}` is no interval"));
        let text = Option::<String>::deserialize(d)?;
        text.map(|t| interval_of(&t).ok_or_else(|| none(&t)))
            .transpose()
    }
}

pub(crate) mod as_base64 {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};

    pub(crate) fn serialize<S: Serializer>(value: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(value))
    }

    pub(crate) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Vec<u8>, D::Error> {
        STANDARD
            .decode(String::deserialize(d)?)
            .map_err(D::Error::custom)
    }
}

pub(crate) mod digests {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &[Digest32], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(value.iter().map(Digest32::to_string))
    }

    pub(crate) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Vec<Digest32>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        texts
            .iter()
            .map(|t| t.parse().map_err(D::Error::custom))
            .collect()
    }
}

pub(crate) mod trades {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Item(#[serde(with = "TradeJson")] Trade);

    pub(crate) fn serialize<S: Serializer>(value: &[Trade], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(value.iter().cloned().map(Item))
    }

    pub(crate) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Vec<Trade>, D::Error> {
        Ok(Vec::<Item>::deserialize(d)?
            .into_iter()
            .map(|item| item.0)
            .collect())
    }
}

mod postings {
    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &[Posting], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(value.iter().map(PostingJson::from))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Vec<Posting>, D::Error> {
        let items = Vec::<PostingJson>::deserialize(d)?;
        items
            .into_iter()
            .map(|p| Posting::try_from(p).map_err(D::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        let interval = Interval::new(1_782_000_000, 900).unwrap();
        let home = ParticipantId::new("home-1").unwrap();
        let posting = |asset, amount| Posting {
            id: PostingId([7; 16]),
            asset,
            debit: "200/-".parse().unwrap(),
            credit: "130/home-1".parse().unwrap(),
            amount,
            purpose: Purpose::PoolDeviation,
            interval: Some(interval),
            run: Some(Run::TrueUp),
            reference: None,
        };
        Line {
            interval,
            participant: home.clone(),
            run: Run::TrueUp,
            delivery: Delivery {
                interval,
                participant: home,
                point: PointId::new("point-1").unwrap(),
                imported: Energy::from_wh(1),
                exported: Energy::from_wh(20),
                bought: Energy::ZERO,
                sold: Energy::ZERO,
                quality: Quality::MEASURED.with(Quality::GAP),
                reading: Some(Digest32([9; 32])),
            },
            trades: Vec::new(),
            pooled_wh: Energy::from_wh(19),
            utility_wh: Energy::ZERO,
            prices: Prices {
                pool: "0.132".parse().unwrap(),
                retail: "0.32".parse().unwrap(),
                feed_in: "0.08".parse().unwrap(),
                network_fee: "0.07".parse().unwrap(),
                terms: None,
            },
            postings: vec![
                posting(Asset::Token, 2_508_000),
                posting(Asset::WattHour, 19),
            ],
            tariff: None,
            tiers: None,
        }
    }

    #[test]
    fn a_line_reads_like_a_receipt_and_round_trips_in_both_forms() {
        let json = serde_json::to_string(&line()).unwrap();
        for part in [
            r#""interval":"2026-06-21T00:00:00Z/900s""#,
            r#""run":"true_up""#,
            r#""quality":"measured+gap""#,
            r#""exported_wh":20"#,
            r#""pool":"0.132000""#,
            r#""asset":"token","debit":"200/-","credit":"130/home-1","amount":"0.002508000""#,
            r#""asset":"wh","debit":"200/-","credit":"130/home-1","amount":"19""#,
        ] {
            assert!(json.contains(part), "{part} is not in {json}");
        }
        assert_eq!(serde_json::from_str::<Line>(&json).unwrap(), line());
        assert_eq!(minicbor::decode::<Line>(&line().to_cbor()).unwrap(), line());
    }

    #[test]
    fn terms_and_steps_are_told_only_where_there_are_any() {
        let plain = line();
        let mut rich = plain.clone();
        rich.prices.terms = Some(Terms {
            community_fee_bp: 150,
            ..Terms::default()
        });
        rich.tariff = Some("2026".to_owned());
        rich.tiers = Some(Tiers {
            used_wh: Energy::from_wh(7),
            steps: Vec::new(),
        });
        let json = serde_json::to_string(&rich).unwrap();
        let terms = r#""terms":{"policy":"pooled","spread":"0.000000","community_fee_bp":150,"#;
        assert!(json.contains(terms), "{json}");
        assert_eq!(serde_json::from_str::<Line>(&json).unwrap(), rich);
        assert_eq!(minicbor::decode::<Line>(&rich.to_cbor()).unwrap(), rich);
        let json = serde_json::to_string(&plain).unwrap();
        assert!(
            ["terms", "tariff", "tiers"]
                .iter()
                .all(|key| !json.contains(key))
        );
        assert!(plain.to_cbor().len() < rich.to_cbor().len());
    }

    #[test]
    fn what_is_not_a_line_is_refused() {
        let json = serde_json::to_string(&line()).unwrap();
        for (good, bad) in [
            (r#""run":"true_up""#, r#""run":"later""#),
            (r#""run":"true_up""#, r#""run":"true_up","more":1"#),
            (r#""run":"true_up""#, r#""run":"true_up","run":"true_up""#),
            ("measured+gap", "measured+hope"),
            ("0.132000", "cheap"),
            ("130/home-1", "131/home-1"),
            (r#""exported_wh":20"#, r#""exported_wh":20.5"#),
        ] {
            let changed = json.replacen(good, bad, 1);
            assert_ne!(changed, json, "{good}");
            assert!(serde_json::from_str::<Line>(&changed).is_err(), "{bad}");
        }
    }
}
