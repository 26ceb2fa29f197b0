//! The charger's own word in a receipt: texts that its meter has signed (OCMF), in the envelope of the gateway that they
//! came through, held against the energy that the session charges.

use std::collections::{BTreeMap, BTreeSet};

use domain::charger_record::ChargerRecord;
use domain::energy::Energy;
use domain::ids::CommunityId;
use domain::json::{FileError, Node, needed};
use domain::ocmf::{Ocmf, Reading};
use domain::signed::{PublicKey, Signed};
use domain::time::Timestamp;

use super::proof::{Trust, base64};
use super::{bytes, public_key, quoted};

/// A session may charge so much more than the charger's meter counted: both are read in whole Wh, and not at the same moment.
pub const AGREES_WITHIN_WH: i64 = 100;
/// A charger's clock may differ so far from the gateway's.
const CLOCKS_WITHIN_S: i64 = 120;
/// Most of the charger's transactions of one session that are shown, the first ones: then nothing reaches its end, and
/// no energy is compared.
const TRANSACTIONS_MAX: usize = 16;
/// A nano-kWh is so little of a Wh.
const NANO_PER_WH: i128 = 1_000_000;

/// A charger's record with the key that signed its envelope.
#[derive(Clone, Debug)]
pub struct ChargerProof {
    /// The record as it came.
    pub record: Signed<ChargerRecord>,
    /// The gateway's key.
    pub key: PublicKey,
    /// The operator's signed record of that key.
    pub key_record: Option<Vec<u8>>,
}

/// What a receipt shows of a charger's records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chosen {
    /// Which are shown, by their places: of each transaction of the session the text that has begin and end, or the
    /// first and the last.
    pub places: Vec<usize>,
    /// Why one is not believed, and so not shown.
    pub refused: Option<String>,
}

/// From when to when.
type Span = (Timestamp, Timestamp);
/// Which texts count together: those of a transaction; where its number is not known, those with the same begin.
type Run = (Option<i64>, Option<Timestamp>);

fn run_of(record: &ChargerRecord, ocmf: &Ocmf) -> Run {
    match (record.transaction, ocmf.readings.as_slice()) {
        (None, [begin, _, ..]) => (None, Some(begin.at)),
        (number, _) => (number, None),
    }
}

/// A text that may be shown.
struct Known<'a> {
    place: usize,
    record: &'a ChargerRecord,
    ocmf: Ocmf,
}

impl Known<'_> {
    /// The same text may have come without keys or transaction as well: how much this one says.
    fn worth(&self) -> (bool, bool) {
        let record = self.record;
        (!record.keys.is_empty(), record.transaction.is_some())
    }

    fn length_ms(&self) -> i64 {
        let ends = self.ocmf.readings.first().zip(self.ocmf.readings.last());
        ends.map_or(0, |(first, last)| last.at.ms_since(first.at))
    }
}

/// A text with readings; without a key nobody can say that it is wrong.
fn readable(record: &ChargerRecord) -> Result<Option<Ocmf>, String> {
    let ocmf = match record.keys.is_empty() {
        true => Ocmf::from_text(&record.text).ok(),
        false => Some(record.check()?.0),
    };
    Ok(ocmf.filter(|ocmf| !ocmf.readings.is_empty()))
}

/// Whether what was going on at one time belongs to a session: the car before may end a little in it, by another clock.
fn is_of((first, last): Span, (from, to): Span) -> bool {
    let common_ms = last.min(to).ms_since(first.max(from));
    let slack_ms = (CLOCKS_WITHIN_S * 1_000).min(to.ms_since(from) / 2);
    common_ms > slack_ms || (first >= from && last <= to)
}

/// Chooses what a receipt shows of a charger's records: what its meter signed in the transactions of the session.
#[must_use]
pub fn choose(records: &[ChargerRecord], session: Span) -> Chosen {
    let mut known: BTreeMap<&str, Known<'_>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (place, record) in records.iter().enumerate() {
        match readable(record) {
            Ok(Some(ocmf)) => {
                let one = Known {
                    place,
                    record,
                    ocmf,
                };
                let before = known.get(record.text.as_str());
                if before.is_none_or(|before| before.worth() < one.worth()) {
                    known.insert(&record.text, one);
                }
            }
            Ok(None) => {}
            Err(why) => wrong.push((record, why)),
        }
    }
    let texts: BTreeSet<&str> = known.keys().copied().collect();
    let runs = runs_of(known.into_values(), session);
    let numbers = runs.iter().flat_map(|run| run.first()?.record.transaction);
    let numbers: BTreeSet<i64> = numbers.collect();
    let is_own = |record: &ChargerRecord| {
        let is_same = record.transaction.is_some_and(|n| numbers.contains(&n));
        !texts.contains(record.text.as_str()) && (is_same || is_of(record.span(), session))
    };
    let refused = wrong.into_iter().rfind(|(record, _)| is_own(record));
    Chosen {
        places: runs.iter().flat_map(|run| shown(run)).collect(),
        refused: refused.map(|(_, why)| why),
    }
}

/// The runs of a session, in the order of their time; each in the order of its texts'.
fn runs_of<'a>(known: impl Iterator<Item = Known<'a>>, session: Span) -> Vec<Vec<Known<'a>>> {
    let mut runs: BTreeMap<Run, Vec<Known<'_>>> = BTreeMap::new();
    for one in known {
        let run = run_of(one.record, &one.ocmf);
        runs.entry(run).or_default().push(one);
    }
    let mut own = Vec::new();
    for mut run in runs.into_values() {
        run.sort_by_key(|one| (one.record.span(), one.place));
        let spans = || run.iter().map(|one| one.record.span());
        let first = spans().map(|(first, _)| first).min();
        let last = spans().map(|(_, last)| last).max();
        let span = first.zip(last).filter(|span| is_of(*span, session));
        own.extend(span.map(|span| (span, run)));
    }
    own.sort_by_key(|(span, _)| *span);
    own.truncate(TRANSACTIONS_MAX);
    own.into_iter().map(|(_, run)| run).collect()
}

/// The text of a run with begin and end, or its first and its last.
fn shown(run: &[Known<'_>]) -> Vec<usize> {
    let whole = run.iter().filter(|one| one.ocmf.readings.len() > 1);
    if let Some(whole) = whole.max_by_key(|one| one.length_ms()) {
        return vec![whole.place];
    }
    let mut ends: Vec<usize> = [run.first(), run.last()]
        .into_iter()
        .flatten()
        .map(|one| one.place)
        .collect();
    ends.dedup();
    ends
}

/// The member that shows the charger's own word.
pub(super) fn written(proofs: &[ChargerProof], refused: Option<&str>) -> String {
    let one = |proof: &ChargerProof| {
        let record = proof.key_record.as_ref();
        let record = record.map_or(String::new(), |record| {
            format!(",\"record\":{}", base64(record))
        });
        format!(
            "{{\"message\":{},\"key\":{}{record}}}",
            base64(proof.record.as_bytes()),
            base64(&proof.key.to_bytes())
        )
    };
    let list: Vec<String> = proofs.iter().map(one).collect();
    let refused = refused.map_or(String::new(), |why| format!(",\"refused\":{}", quoted(why)));
    format!("{{\"records\":[{}]{refused}}}", list.join(","))
}

/// What a receipt claims of it.
pub(super) struct Claimed {
    records: Vec<(Vec<u8>, PublicKey, Option<Vec<u8>>)>,
    refused: Option<String>,
}

pub(super) fn read(node: &Node<'_>) -> Result<Claimed, FileError> {
    let members = node.members()?;
    let mut records = Vec::new();
    for node in needed(node, &members, "records")?.list()? {
        let fields = node.members()?;
        records.push((
            bytes(needed(&node, &fields, "message")?)?,
            public_key(needed(&node, &fields, "key")?)?,
            fields.get("record").map(bytes).transpose()?,
        ));
    }
    let refused = members.get("refused").map(Node::text).transpose()?;
    Ok(Claimed { records, refused })
}

/// What the charger's meter counted, as far as its readings say.
#[derive(Default)]
struct Counted {
    /// Readings that can be compared, of the meters and by what they count together.
    runs: BTreeMap<(Option<String>, Run), Vec<Reading>>,
    signers: Vec<String>,
    unknown: bool,
}

/// A session as its signed readings have it.
pub(super) struct Metered {
    pub(super) span: Span,
    /// When the interval began at whose end the last reading was made: a car may go in it.
    pub(super) last_begins: Timestamp,
    pub(super) energy: Energy,
}

/// What is counted from begin to end of a run.
struct Stretch {
    meter: Option<String>,
    first: Reading,
    last: Reading,
}

impl Stretch {
    /// None where it cannot be said: there are not two readings of one register, or it falls.
    fn of(meter: Option<String>, mut readings: Vec<Reading>) -> Option<Stretch> {
        readings.sort_by_key(|reading| reading.at);
        let first = readings.first()?.clone();
        let mut same = readings.into_iter().filter(|r| r.obis == first.obis);
        let last = same.next_back().filter(|last| last.at > first.at)?;
        (last.register >= first.register).then_some(Stretch { meter, first, last })
    }

    fn energy(&self) -> i128 {
        self.last.register.saturating_sub(self.first.register)
    }

    /// What was counted between this and the next, by the register where it goes on; nothing between two transactions of
    /// a register that begins anew.
    fn until(&self, next: &Stretch) -> Option<i128> {
        if next.first.at < self.last.at {
            return None;
        }
        let goes_on = self.meter == next.meter && self.last.obis == next.first.obis;
        match next.first.register.checked_sub(self.last.register)? {
            more if goes_on && more >= 0 => Some(more),
            _ => self.has_ended().then_some(0),
        }
    }

    fn has_ended(&self) -> bool {
        self.last.why.is_some_and(|why| "ELRAP".contains(why))
    }
}

/// Whether a reading is one of imported energy that its meter calls good, at a time that can be told.
fn can_be_compared(reading: &Reading) -> bool {
    let is_good = reading.status == 'G' && reading.errors.is_empty();
    is_good && "IS".contains(reading.clock) && reading.obis.as_deref().is_none_or(is_import)
}

/// `1-0:1.8.0` and as OCMF writes it, `01-00:B2.08.00*FF`: all that was taken, by a counter or in the transaction.
fn is_import(obis: &str) -> bool {
    let code = obis.rsplit(':').next().unwrap_or(obis);
    let mut groups = code.split('*').next().unwrap_or(code).split('.');
    let mut group = || groups.next().map(|text| text.trim_start_matches('0'));
    let is_taken = matches!(group(), Some("1" | "B0" | "B1" | "B2" | "B3"));
    is_taken && group() == Some("8") && matches!(group(), None | Some(""))
}

impl Counted {
    fn take(&mut self, record: &ChargerRecord) -> Result<(), String> {
        let ocmf = match record.keys.is_empty() {
            true => {
                self.unknown = true;
                Ocmf::from_text(&record.text).map_err(|e| e.to_string())?
            }
            false => {
                let (ocmf, key) = record.check()?;
                let meter = ocmf.meter.as_deref().unwrap_or("without a serial number");
                let signer = format!("meter {meter}, key {}", key.to_hex());
                if !self.signers.contains(&signer) {
                    self.signers.push(signer);
                }
                ocmf
            }
        };
        let run = (ocmf.meter.clone(), run_of(record, &ocmf));
        let readings = ocmf.readings.into_iter().filter(can_be_compared);
        self.runs.entry(run).or_default().extend(readings);
        Ok(())
    }

    /// What was counted where the readings reach over the whole session, in Wh, and whether it was a longer time.
    fn over(self, metered: &Metered) -> Option<(i64, bool)> {
        let runs = self.runs.into_iter();
        let stretches = runs.map(|((meter, _), readings)| Stretch::of(meter, readings));
        let mut stretches = stretches.collect::<Option<Vec<_>>>()?;
        stretches.sort_by_key(|stretch| stretch.first.at);
        let (first, last) = (stretches.first()?, stretches.last()?);
        let (from, to) = metered.span;
        let (begin, end) = (first.first.at, last.last.at);
        let is_begin = first.first.why == Some('B') && begin <= from.plus_s(CLOCKS_WITHIN_S);
        let is_end =
            last.has_ended() && end > from && end >= metered.last_begins.plus_s(-CLOCKS_WITHIN_S);
        if !(begin <= from || is_begin) || !(end >= to || is_end) {
            return None;
        }
        let between = stretches.windows(2).map(|pair| pair[0].until(&pair[1]));
        let between: i128 = between.sum::<Option<i128>>()?;
        let counted: i128 = stretches.iter().map(Stretch::energy).sum::<i128>() + between;
        let is_longer = begin < from.plus_s(-CLOCKS_WITHIN_S) || end > to.plus_s(CLOCKS_WITHIN_S);
        let wh = i64::try_from(counted.div_euclid(NANO_PER_WH)).ok()?;
        Some((wh, is_longer))
    }
}

/// What is to be said of the energy; that the session charges more than was counted is an error.
fn compared(counted: Option<(i64, bool)>, charged: i64) -> Result<String, String> {
    let Some((wh, is_longer)) = counted else {
        let why = "it does not count over just the whole session, so no energy can be compared";
        return Ok(why.to_owned());
    };
    let most = wh.saturating_add(AGREES_WITHIN_WH);
    if charged > most {
        return Err(format!(
            "the session charges {charged} Wh, and the charger's own meter counted {wh} Wh"
        ));
    }
    let is_more = wh > charged.saturating_add(AGREES_WITHIN_WH) || (is_longer && wh >= charged);
    Ok(match is_more {
        true => format!(
            "it counted at least what is charged: {wh} Wh, not only in the session's time, and {charged} Wh are charged"
        ),
        false => format!("it counted {wh} Wh and agrees with {charged} Wh charged"),
    })
}

/// That the charger's own word is its, and that the session charges no more than it says; a sentence.
pub(super) fn check(
    trust: &Trust<'_>,
    claimed: &Claimed,
    station: &str,
    metered: &Metered,
) -> Result<String, String> {
    let mut counted = Counted::default();
    for (message, key, key_record) in &claimed.records {
        let record = envelope(message, *key, trust.community)?;
        if record.point.as_str() != station {
            let point = &record.point;
            return Err(format!("it is of {point}, the session was at {station}"));
        }
        if let Some(key_record) = key_record {
            trust.key(key_record, *key, (&record.point, record.heard_at))?;
        }
        counted.take(&record)?;
    }
    let mut said = Vec::new();
    if claimed.records.iter().any(|(.., record)| record.is_none()) {
        said.push("the operator's record of its gateway's key is not shown: whose key that is cannot be checked".to_owned());
    }
    if counted.unknown {
        said.push("signed by the charger's meter, whose key nobody has entered: its signature cannot be checked".to_owned());
    }
    if !counted.signers.is_empty() {
        said.push(format!(
            "signed by the charger's own {}",
            counted.signers.join(" and ")
        ));
    }
    if !claimed.records.is_empty() {
        said.push(compared(counted.over(metered), metered.energy.wh())?);
    }
    if let Some(why) = &claimed.refused {
        said.push(format!(
            "a text of the charger's was not believed and is not shown: {why}"
        ));
    }
    Ok(said.join("; "))
}

fn envelope(
    message: &[u8],
    key: PublicKey,
    community: &CommunityId,
) -> Result<ChargerRecord, String> {
    let signed = Signed::<ChargerRecord>::from_bytes(message.to_vec());
    let verified = signed.verify(key, community);
    let verified = verified.map_err(|e| format!("the gateway's envelope: {e}"))?;
    Ok(verified.message().clone())
}
