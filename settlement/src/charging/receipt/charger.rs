//! The charger's own word in a receipt: texts that its meter has signed (OCMF), in the envelope of the gateway that they
//! came through, held against the energy that the session charges.

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
    /// Which are shown, by their places: the one that has begin and end, or the first and the last.
    pub places: Vec<usize>,
    /// Why one is not believed, and so not shown.
    pub refused: Option<String>,
}

/// Chooses what a receipt shows of the records of a session's time.
#[must_use]
pub fn choose(records: &[ChargerRecord]) -> Chosen {
    let mut chosen = Chosen::default();
    let mut known: Vec<(usize, Ocmf)> = Vec::new();
    for (place, record) in records.iter().enumerate() {
        match record.check() {
            Ok((ocmf, _)) if !ocmf.readings.is_empty() => known.push((place, ocmf)),
            Ok(_) => {}
            // Without a key nobody can say that it is wrong.
            Err(_) if record.keys.is_empty() => {
                known.extend(Ocmf::from_text(&record.text).ok().map(|ocmf| (place, ocmf)));
            }
            Err(why) => chosen.refused = Some(why),
        }
    }
    let span = |ocmf: &Ocmf| {
        let (first, last) = ocmf.readings.first().zip(ocmf.readings.last())?;
        Some(last.at.ms_since(first.at))
    };
    let whole = known.iter().filter(|(_, ocmf)| ocmf.readings.len() > 1);
    chosen.places = match whole.max_by_key(|(_, ocmf)| span(ocmf)) {
        Some((place, _)) => vec![*place],
        None => {
            let mut ends: Vec<usize> = [known.first(), known.last()]
                .into_iter()
                .flatten()
                .map(|(place, _)| *place)
                .collect();
            ends.dedup();
            ends
        }
    };
    chosen
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
    readings: Vec<Reading>,
    signers: Vec<String>,
    unknown: bool,
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
        self.readings.extend(ocmf.readings);
        Ok(())
    }

    /// What was counted in between, where the readings reach over the whole time.
    fn over(&mut self, (from, to): (Timestamp, Timestamp)) -> Result<Option<i64>, String> {
        self.readings.sort_by_key(|reading| reading.at);
        let Some((first, last)) = self.readings.first().zip(self.readings.last()) else {
            return Ok(None);
        };
        if self.readings.iter().any(|r| r.obis != first.obis) {
            return Err("its readings are of different registers".to_owned());
        }
        let ends = |why: char| "ELRAP".contains(why);
        let reaches = last.at >= to || last.why.is_some_and(ends);
        if first.at > from || !reaches || self.readings.len() < 2 {
            return Ok(None);
        }
        let wh = (last.register - first.register).div_euclid(NANO_PER_WH);
        match i64::try_from(wh) {
            Ok(wh) if wh >= 0 => Ok(Some(wh)),
            _ => Err("its register falls".to_owned()),
        }
    }
}

/// That the charger's own word is its, and that the session charges no more than it says; a sentence.
pub(super) fn check(
    trust: &Trust<'_>,
    claimed: &Claimed,
    station: &str,
    (span, metered): ((Timestamp, Timestamp), Energy),
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
    let agreement = match counted.over(span)? {
        Some(wh) if metered.wh() > wh.saturating_add(AGREES_WITHIN_WH) => {
            return Err(format!(
                "the session charges {} Wh, and the charger's own meter counted {wh} Wh",
                metered.wh()
            ));
        }
        Some(wh) => format!(
            "it counted {wh} Wh and agrees with {} Wh charged",
            metered.wh()
        ),
        None if claimed.records.is_empty() => String::new(),
        None => "it does not reach over the whole session, so no energy can be compared".to_owned(),
    };
    let mut said = Vec::new();
    if counted.unknown {
        said.push("signed by the charger's meter, whose key nobody has entered: its signature cannot be checked".to_owned());
    }
    if !counted.signers.is_empty() {
        said.push(format!(
            "signed by the charger's own {}",
            counted.signers.join(" and ")
        ));
    }
    said.push(agreement);
    if let Some(why) = &claimed.refused {
        said.push(format!(
            "a text of the charger's was not believed and is not shown: {why}"
        ));
    }
    said.retain(|text| !text.is_empty());
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
