//! What a charging receipt can prove beyond its bill: that the readings' key is a gateway's of the station, that the
//! readings are in the log, and how much of the energy came from neighbours.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::energy::Energy;
use domain::ids::{CommunityId, PointId};
use domain::key_record::{Holder, KeyRecord};
use domain::receipt::Line;
use domain::signed::{PublicKey, Signed};
use domain::time::{Interval, Timestamp};

use super::quoted;
use crate::log::checkpoint::{Checkpoint, Log};
use crate::log::entry::{Entry, Kind};
use crate::log::policy::Policy;
use crate::log::proof::LogProof;
use crate::log::tree::verify_inclusion;
use domain::json::{FileError, Node, needed};

/// An interval's energy at a station that buys by itself: the newest line of its settlement, and its place in the log.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The line.
    pub line: Line,
    /// The proof that the ledger log holds it, opened.
    pub proof: LogProof,
}

/// Where an interval's energy came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// When.
    pub interval: Interval,
    /// What the station took.
    pub energy: Energy,
    /// What the utility supplied of it; the rest came from neighbours.
    pub grid: Energy,
}

impl Origin {
    /// What a settlement line says: what was bought or pooled among neighbours is local.
    #[must_use]
    pub fn of(line: &Line) -> Origin {
        let supplied = line.utility_wh.wh().min(0).saturating_neg();
        let energy = line.delivery.imported;
        Origin {
            interval: line.interval,
            energy,
            grid: Energy::from_wh(supplied.min(energy.wh().max(0))),
        }
    }

    /// What came from neighbours.
    #[must_use]
    pub fn local(&self) -> Energy {
        Energy::from_wh(self.energy.wh().saturating_sub(self.grid.wh()))
    }
}

/// The member that tells origins, of a session that took so much.
pub(super) fn written(settled: &[Settled], metered: Energy) -> String {
    let one = |settled: &Settled| {
        let origin = Origin::of(&settled.line);
        format!(
            "{{\"start\":\"{}\",\"length_s\":{},\"energy_wh\":{},\"local_wh\":{},\"grid_wh\":{},\"proof\":{}}}",
            origin.interval.start(),
            origin.interval.length_s(),
            origin.energy.wh(),
            origin.local().wh(),
            origin.grid.wh(),
            quoted(&settled.proof.to_text())
        )
    };
    let told: i64 = settled
        .iter()
        .map(|s| Origin::of(&s.line).energy.wh())
        .sum();
    let list: Vec<String> = settled.iter().map(one).collect();
    format!(
        "{{\"intervals\":[{}],\"not_settled_wh\":{}}}",
        list.join(","),
        metered.wh().saturating_sub(told)
    )
}

/// What a receipt claims of an interval.
pub(super) struct Claimed {
    origin: Origin,
    local_wh: i64,
    proof: String,
}

/// What a receipt claims of all intervals.
pub(super) struct Origins {
    intervals: Vec<Claimed>,
    not_settled_wh: i64,
}

pub(super) fn read(node: &Node<'_>) -> Result<Origins, FileError> {
    let members = node.members()?;
    let whole = |node: &Node<'_>| {
        i64::try_from(node.scaled(0)?).map_err(|_| node.wrong("this is too large"))
    };
    let mut intervals = Vec::new();
    for node in needed(node, &members, "intervals")?.list()? {
        let members = node.members()?;
        let wh = |name: &str| whole(needed(&node, &members, name)?);
        let start = needed(&node, &members, "start")?.instant()?;
        let length_s = needed(&node, &members, "length_s")?.whole()?;
        let interval = Interval::new(start.unix_s(), length_s);
        intervals.push(Claimed {
            origin: Origin {
                interval: interval.map_err(|e| node.wrong(e.to_string()))?,
                energy: Energy::from_wh(wh("energy_wh")?),
                grid: Energy::from_wh(wh("grid_wh")?),
            },
            local_wh: wh("local_wh")?,
            proof: needed(&node, &members, "proof")?.text()?,
        });
    }
    Ok(Origins {
        intervals,
        not_settled_wh: whole(needed(node, &members, "not_settled_wh")?)?,
    })
}

/// Whom a receipt's proofs are checked with.
pub(super) struct Trust<'a> {
    pub(super) community: &'a CommunityId,
    pub(super) operator: PublicKey,
    pub(super) policy: &'a Policy,
}

impl Trust<'_> {
    /// That the operator's log holds what a proof opens; what that is.
    fn opened(&self, log: Log, text: &str) -> Result<(Entry, Vec<u8>), String> {
        let proof = LogProof::parse(text).ok_or("a proof is no tlog-proof text")?;
        let origin = log.origin(self.community);
        let opened = Checkpoint::open_cosigned(&proof.note, &origin, self.operator);
        let (checkpoint, note) = opened.map_err(|e| format!("the {} log: {e}", log.word()))?;
        if self.policy.wants_witnesses() {
            self.policy.check(&note, None)?;
        }
        let (entry, opening) = proof
            .entry()
            .ok_or("a proof's data are no entry of a log")?;
        let (size, root) = (checkpoint.size, checkpoint.root);
        if !verify_inclusion(entry.leaf_hash(), proof.index, size, &proof.path, root) {
            return Err(format!(
                "an entry is not in the {} log under its root",
                log.word()
            ));
        }
        let opening = opening.ok_or("a proof does not open its entry")?;
        if Entry::new(entry.kind, entry.start, opening.salt, &opening.content) != entry {
            return Err("salt and content are not what an entry commits to".to_owned());
        }
        Ok((entry, opening.content))
    }

    /// That a signed reading is in the readings log.
    pub(super) fn reading(&self, text: &str, reading: &[u8]) -> Result<(), String> {
        let (entry, content) = self.opened(Log::Readings, text)?;
        if entry.kind != Kind::Reading || content != reading {
            return Err("the log's entry is another reading than the receipt's".to_owned());
        }
        Ok(())
    }

    /// That the operator's record lets the key sign for the station; the gateway that holds it.
    pub(super) fn key(
        &self,
        record: &[u8],
        key: PublicKey,
        (point, at): (&PointId, Timestamp),
    ) -> Result<String, String> {
        let signed = Signed::<KeyRecord>::from_bytes(record.to_vec());
        let verified = signed.verify(self.operator, self.community);
        let verified = verified.map_err(|e| format!("the key record: {e}"))?;
        let record = verified.message();
        if record.key != key {
            return Err("the key record is of another key than the one that signed".to_owned());
        }
        if record.valid_from > at {
            return Err(format!(
                "the key is valid only from {} on",
                record.valid_from
            ));
        }
        match &record.holder {
            Holder::Gateway { gateway, points } if points.iter().any(|p| p.point == *point) => {
                Ok(gateway.to_string())
            }
            Holder::Gateway { gateway, .. } => Err(format!("{gateway} does not sign for {point}")),
            Holder::Participant(_) => Err("the key is no gateway's".to_owned()),
        }
    }

    /// That the origins are what the logged settlement lines of the station say; a sentence.
    pub(super) fn origins(
        &self,
        origins: &Origins,
        station: &str,
        (from, to): (Timestamp, Timestamp),
        metered_wh: i64,
    ) -> Result<String, String> {
        let (mut told_wh, mut local_wh, mut before) = (0_i64, 0_i64, from);
        for claimed in &origins.intervals {
            let interval = claimed.origin.interval;
            let (entry, content) = self.opened(Log::Ledger, &claimed.proof)?;
            let line: Line = minicbor::decode(&content)
                .ok()
                .filter(|_| entry.kind == Kind::Line)
                .ok_or("a proof opens to no settlement line")?;
            if line.delivery.point.as_str() != station || line.interval != interval {
                return Err(format!(
                    "the line for {interval} is of another meter or time"
                ));
            }
            if interval.start() < before || interval.end() > to {
                return Err(format!(
                    "{interval} is not of this session, or is there twice"
                ));
            }
            before = interval.end();
            let origin = Origin::of(&line);
            if origin != claimed.origin || origin.local().wh() != claimed.local_wh {
                return Err(format!(
                    "the origin told for {interval} is not what was settled"
                ));
            }
            told_wh = told_wh.saturating_add(origin.energy.wh());
            local_wh = local_wh.saturating_add(origin.local().wh());
        }
        if told_wh.checked_add(origins.not_settled_wh) != Some(metered_wh) {
            return Err("the origins do not come to what the meter counted".to_owned());
        }
        let rest = match origins.not_settled_wh {
            0 => String::new(),
            rest if rest > 0 => format!("; {rest} Wh are not settled by a reading yet"),
            // Receipts from before lines without a reading were left out.
            more => format!(
                "; these are {} Wh more than the meter counted, for some were settled by estimates",
                more.unsigned_abs()
            ),
        };
        Ok(format!(
            "{local_wh} of {told_wh} Wh from neighbours, by the settlement lines in the ledger log{rest}"
        ))
    }
}

/// Base64 of bytes, in quotes.
pub(super) fn base64(bytes: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(bytes))
}
