//! Entries of a log one by one, as `*.tlog-proof` texts: made from a receipt, and verified.

use domain::ids::CommunityId;
use domain::introduction::{Introduction, KeyRequest};
use domain::key_record::KeyRecord;
use domain::order::Order;
use domain::reading::Reading;
use domain::receipt::{KeyEntry, Line, Place, Receipt, Salt};
use domain::revocation::Revocation;
use domain::run_record::RunRecord;
use domain::signed::{Message, Signed};
use domain::time::Timestamp;
use domain::trade::{Clearing, Trade};

use super::{Report, Trusted};
use crate::evidence::Evidence;
use crate::log::checkpoint::{Checkpoint, Log};
use crate::log::entry::{Entry, Kind, PUBLIC};
use crate::log::proof::{FORMAT, LogProof, Opening, extra};
use crate::log::tree::verify_inclusion;

/// Verifies a `*.tlog-proof` text. As the text carries no key, one must be known for its log; without it, the
/// second step fails.
#[must_use]
pub fn verify_proof(text: &str, trusted: &Trusted) -> Report {
    let mut report = Report {
        steps: Vec::new(),
        pinned: false,
    };
    if let Err(failed) = steps(text, trusted, &mut report) {
        report.steps.push((failed.0, Err(failed.1)));
    }
    report
}

fn steps(text: &str, trusted: &Trusted, report: &mut Report) -> Result<(), (&'static str, String)> {
    let mut done = |step: &'static str, detail: String| report.steps.push((step, Ok(detail)));
    let proof = LogProof::parse(text).ok_or(("format", format!("not a {FORMAT} text")))?;
    let (origin, checkpoint) = named(&proof).map_err(|why| ("format", why))?;
    done(
        "format",
        format!("{FORMAT} for entry {} of {origin}", proof.index),
    );
    let key = trusted
        .key_of(origin)
        .map_err(|why| ("operator key", why))?;
    let key = key.ok_or((
        "operator key",
        "none is known for this log: give it with --key, or in a policy".to_owned(),
    ))?;
    done("operator key", "the pinned key".to_owned());
    let opened = Checkpoint::open_cosigned(&proof.note, origin, key);
    let (_, note) = opened.map_err(|e| ("checkpoint", e.to_string()))?;
    done("checkpoint", format!("signed at size {}", checkpoint.size));
    if trusted.policy.wants_witnesses() {
        let told = trusted.policy.check(&note, None);
        done("witnesses", told.map_err(|why| ("witnesses", why))?);
    }
    let entry = proof.entry().ok_or((
        "entry",
        "the extra data are no entry of such a log".to_owned(),
    ));
    let (entry, opening) = entry?;
    let (size, root) = (checkpoint.size, checkpoint.root);
    if !verify_inclusion(entry.leaf_hash(), proof.index, size, &proof.path, root) {
        let why = "it is not in the log under this root".to_owned();
        return Err(("entry", why));
    }
    let what = format!("{} of {}", entry.kind.word(), entry.start);
    done("entry", what);
    let told = match &opening {
        None => Ok("sealed: the proof shows that it is there, not what it says".to_owned()),
        Some(opening) => unsealed(&entry, opening, origin),
    };
    done("content", told.map_err(|why| ("content", why))?);
    report.pinned = true;
    Ok(())
}

fn named(proof: &LogProof) -> Result<(&str, Checkpoint), String> {
    let body = proof
        .note
        .split_once("\n\n")
        .map(|(body, _)| body.len() + 1);
    let body = body.and_then(|end| proof.note.get(..end));
    let read = body.and_then(Checkpoint::read_body);
    read.ok_or_else(|| "its last part is no checkpoint".to_owned())
}

fn unsealed(entry: &Entry, opening: &Opening, origin: &str) -> Result<String, String> {
    let Opening { salt, content } = opening;
    if Entry::new(entry.kind, entry.start, *salt, content) != *entry {
        return Err("salt and content are not what the entry commits to".to_owned());
    }
    let told = match entry.kind {
        Kind::Reading => claimed(content, |r: Reading| {
            format!("reading {} of {} for {}", r.sequence, r.point, r.interval)
        }),
        Kind::Order => claimed(content, |o: Order| {
            let (who, side) = (&o.participant, o.side.word());
            format!("{side} of {who}: {} at {} token/kWh", o.energy, o.limit)
        }),
        Kind::Key => claimed(content, |k: KeyRecord| {
            format!("key {} valid from {}", k.key.id(), k.valid_from)
        }),
        Kind::Revocation => claimed(content, |r: Revocation| {
            format!("key {} of {} revoked", r.key, r.holder)
        }),
        Kind::Trade => minicbor::decode(content).ok().map(|t: Trade| {
            let (price, buyer, seller) = (t.price, t.buyer, t.seller);
            format!("{} at {price} token/kWh from {seller} to {buyer}", t.energy)
        }),
        Kind::Clearing => minicbor::decode(content)
            .ok()
            .map(|c: Clearing| format!("{}, {} cleared", c.mechanism, c.volume)),
        Kind::Line => minicbor::decode(content).ok().map(|l: Line| {
            let (run, who, postings) = (l.run.word(), &l.participant, l.postings.len());
            format!("{run} run for {who}: {postings} postings")
        }),
        Kind::Introduction => introduced(content, origin),
        Kind::Run => minicbor::decode(content).ok().map(|r: RunRecord| {
            let (run, program) = (r.run.word(), &r.program);
            let tariff = r.rules.version.as_deref().unwrap_or("without a name");
            format!(
                "{run} run by {program} with tariff {tariff}, inputs {}",
                r.inputs
            )
        }),
        Kind::Tokens => crate::service::told_of_tokens(content),
        Kind::Evidence => evidence(content),
        Kind::Checkpoint => std::str::from_utf8(content)
            .ok()
            .and_then(|note| note.lines().next())
            .map(|origin| format!("a checkpoint of {origin}")),
    };
    told.ok_or_else(|| format!("it opens to no {}", entry.kind.word()))
}

/// The kind of a case: whether it proves anything is for `commonwatt judge`.
fn evidence(content: &[u8]) -> Option<String> {
    let case = Evidence::read(std::str::from_utf8(content).ok()?).ok()?;
    Some(format!("evidence of {}", case.kind()))
}

/// The new key's own signature holds by what it says; that of the key that vouched is for the audit, which has it.
fn introduced(content: &[u8], origin: &str) -> Option<String> {
    let community = CommunityId::new(origin.split('/').nth(1)?).ok()?;
    let introduction = Signed::<Introduction>::from_bytes(content.to_vec());
    let request = introduction
        .claimed()
        .ok()?
        .verify_request(&community)
        .ok()?;
    let KeyRequest {
        key,
        holder,
        introducer,
        ..
    } = request.message();
    let key = key.id();
    Some(format!(
        "key {key} of {holder}, which has signed for itself, on the word of {introducer}"
    ))
}

fn claimed<T: Message>(content: &[u8], told: impl Fn(T) -> String) -> Option<String> {
    let message = Signed::<T>::from_bytes(content.to_vec()).claimed().ok()?;
    Some(told(message))
}

/// Every entry of a receipt as a proof of its own, each with a file name.
///
/// # Errors
/// The community's name is none, or a key record is none.
pub fn proofs(receipt: &Receipt) -> Result<Vec<(String, LogProof)>, String> {
    CommunityId::new(receipt.community.as_str()).map_err(|e| e.to_string())?;
    let mut made = Vec::new();
    let mut add = |name: String, log: Log, entry: (Kind, Timestamp), part: Part<'_>| {
        let (salt, content, place) = part;
        let opening = Opening {
            salt,
            content: content.to_vec(),
        };
        let entry = Entry::new(entry.0, entry.1, salt, content);
        let note = match log {
            Log::Readings => &receipt.readings_checkpoint.note,
            Log::Market => &receipt.market_checkpoint.note,
            Log::Ledger => &receipt.ledger_checkpoint,
        };
        let proof = LogProof {
            extra: Some(extra(&entry, Some(&opening))),
            index: place.index,
            path: place.path.clone(),
            note: note.clone(),
        };
        made.push((name, proof));
    };
    let start = receipt.trade.content.interval.start();
    let market = Log::Market;
    let (trade, clearing, order) = (&receipt.trade, &receipt.clearing, &receipt.order);
    let content = trade.content.to_cbor();
    let part = (trade.salt, &content[..], &trade.place);
    add("trade".to_owned(), market, (Kind::Trade, start), part);
    let content = clearing.content.to_cbor();
    let part = (PUBLIC, &content[..], &clearing.place);
    add("clearing".to_owned(), market, (Kind::Clearing, start), part);
    let part = (order.salt, &order.signed[..], &order.place);
    add("order".to_owned(), market, (Kind::Order, start), part);
    if let Some(reading) = &receipt.reading {
        let part = (reading.salt, &reading.signed[..], &reading.place);
        let kind = (Kind::Reading, start);
        add("reading".to_owned(), Log::Readings, kind, part);
    }
    for line in &receipt.lines {
        let content = line.content.to_cbor();
        let part = (line.salt, &content[..], &line.place);
        let name = format!("line-{}", line.content.run.word());
        add(name, Log::Ledger, (Kind::Line, start), part);
    }
    for run in &receipt.runs {
        let content = run.content.to_cbor();
        let part = (PUBLIC, &content[..], &run.place);
        let name = format!("run-{}", run.content.run.word());
        add(name, Log::Ledger, (Kind::Run, start), part);
    }
    for (name, key, entry) in keys_of(receipt)? {
        let part = (PUBLIC, &key.signed[..], &key.place);
        add(name, Log::Ledger, entry, part);
    }
    for (name, entry) in [
        ("readings-checkpoint", &receipt.readings_checkpoint),
        ("market-checkpoint", &receipt.market_checkpoint),
    ] {
        let part = (PUBLIC, entry.note.as_bytes(), &entry.place);
        let kind = (Kind::Checkpoint, Timestamp::EPOCH);
        add(name.to_owned(), Log::Ledger, kind, part);
    }
    Ok(made)
}

type Part<'a> = (Salt, &'a [u8], &'a Place);

/// A public message about a key: under which name it is proven, of which kind it is, and its entry's start.
type NamedKey<'a> = (String, &'a KeyEntry, (Kind, Timestamp));

/// A receipt's key records, and what it shows of their changes.
fn keys_of(receipt: &Receipt) -> Result<Vec<NamedKey<'_>>, String> {
    let all = [
        (
            "participant-key",
            Some(&receipt.participant_key),
            &receipt.participant_key_history,
        ),
        (
            "gateway-key",
            receipt.gateway_key.as_ref(),
            &receipt.gateway_key_history,
        ),
    ];
    let mut keys = Vec::new();
    for (name, key, history) in all {
        let Some(key) = key else { continue };
        keys.push(record(name.to_owned(), key)?);
        let Some(history) = history else { continue };
        for (which, change) in [("before", &history.before), ("after", &history.after)] {
            let Some(change) = change else { continue };
            let name = format!("{name}-{which}");
            if let Some(entry) = &change.introduction {
                let name = format!("{name}-introduction");
                keys.push(introduction(name, entry, &receipt.community)?);
            }
            keys.push(record(name, &change.key)?);
        }
        for (number, entry) in (1..).zip(&history.revocations) {
            let name = format!("{name}-revocation-{number}");
            let word = message::<Revocation>(&name, &entry.word)?;
            keys.push((name, &entry.word, (Kind::Revocation, word.from)));
        }
    }
    Ok(keys)
}

fn record(name: String, key: &KeyEntry) -> Result<NamedKey<'_>, String> {
    let record = message::<KeyRecord>(&name, key)?;
    Ok((name, key, (Kind::Key, record.valid_from)))
}

fn introduction<'a>(
    name: String,
    entry: &'a KeyEntry,
    community: &str,
) -> Result<NamedKey<'a>, String> {
    let community = CommunityId::new(community).map_err(|e| e.to_string())?;
    let request = message::<Introduction>(&name, entry)?;
    let request = request.verify_request(&community);
    let request = request.map_err(|e| format!("{name}: {e}"))?;
    let start = request.message().made_at;
    Ok((name, entry, (Kind::Introduction, start)))
}

fn message<T: Message>(name: &str, entry: &KeyEntry) -> Result<T, String> {
    let signed = Signed::<T>::from_bytes(entry.signed.clone());
    signed.claimed().map_err(|e| format!("{name}: {e}"))
}
