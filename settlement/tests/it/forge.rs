//! Receipts of an operator who cheats: something is changed, and everything is logged and signed anew, so that only
//! the rules of the market and of settlement can tell.

use std::collections::BTreeMap;

use domain::ids::Digest32;
use domain::key_record::KeyRecord;
use domain::order::Order;
use domain::reading::Reading;
use domain::receipt::{Place, Receipt, Salt};
use domain::signed::{Message, Signed, SigningKey};
use domain::time::Timestamp;
use settlement::log::checkpoint::{Checkpoint, Log};
use settlement::log::entry::{Entry, Kind, PUBLIC};
use settlement::log::proof::{LogProof, Opening, extra};
use settlement::log::tree::{Frontier, Node, inclusion_plan};

use crate::world::World;

/// A log of its own, small enough to be held whole.
#[derive(Default)]
struct Forged {
    tree: Frontier,
    nodes: BTreeMap<Node, Digest32>,
}

impl Forged {
    fn append(&mut self, kind: Kind, start: Timestamp, salt: Salt, content: &[u8]) -> u64 {
        let leaf = Entry::new(kind, start, salt, content).leaf_hash();
        self.nodes.extend(self.tree.append(leaf));
        self.tree.size() - 1
    }

    fn place(&self, index: u64) -> Place {
        let plan = inclusion_plan(index, self.tree.size()).unwrap();
        let path = plan.path(|node| self.nodes.get(&node).copied()).unwrap();
        Place { index, path }
    }

    fn note(&self, log: Log, world: &World) -> String {
        let checkpoint = Checkpoint {
            size: self.tree.size(),
            root: self.tree.root(),
        };
        let origin = log.origin(&world.community.id);
        checkpoint.sign(&origin, &world.community.operator)
    }
}

fn claimed<T: Message>(signed: &[u8]) -> T {
    let signed = Signed::<T>::from_bytes(signed.to_vec());
    signed.claimed().unwrap()
}

/// Signs a message again after a change.
pub(crate) fn signed_again<T: Message>(
    signed: &mut Vec<u8>,
    key: &SigningKey,
    world: &World,
    change: impl Fn(&mut T),
) {
    let mut message = claimed::<T>(signed);
    change(&mut message);
    let again = Signed::sign(key, &world.community.id, &message);
    *signed = again.as_bytes().to_vec();
}

/// The receipt as a cheat would make it, without the histories of keys.
pub(crate) fn forged(world: &World, receipt: &Receipt, change: impl Fn(&mut Receipt)) -> Receipt {
    let mut receipt = receipt.clone();
    (receipt.participant_key_history, receipt.gateway_key_history) = (None, None);
    change(&mut receipt);
    let r = &mut receipt;
    let (mut market, mut readings, mut ledger) =
        (Forged::default(), Forged::default(), Forged::default());
    let start = r.trade.content.interval.start();
    let trade = market.append(Kind::Trade, start, r.trade.salt, &r.trade.content.to_cbor());
    let (content, cleared) = (&r.clearing.content, r.clearing.content.interval.start());
    let clearing = market.append(Kind::Clearing, cleared, PUBLIC, &content.to_cbor());
    let ordered = claimed::<Order>(&r.order.signed).interval.start();
    let order = market.append(Kind::Order, ordered, r.order.salt, &r.order.signed);
    r.trade.place = market.place(trade);
    r.clearing.place = market.place(clearing);
    r.order.place = market.place(order);
    readings.append(Kind::Reading, start, PUBLIC, b"another's");
    if let Some(entry) = &mut r.reading {
        let start = claimed::<Reading>(&entry.signed).interval.start();
        let at = readings.append(Kind::Reading, start, entry.salt, &entry.signed);
        entry.place = readings.place(at);
    }
    r.market_checkpoint.note = market.note(Log::Market, world);
    r.readings_checkpoint.note = readings.note(Log::Readings, world);
    in_ledger(r, &mut ledger);
    r.ledger_checkpoint = ledger.note(Log::Ledger, world);
    receipt
}

/// Enters all that belongs into the ledger log, each run behind its line.
fn in_ledger(r: &mut Receipt, ledger: &mut Forged) {
    let mut at = Vec::new();
    for key in [Some(&r.participant_key), r.gateway_key.as_ref()]
        .into_iter()
        .flatten()
    {
        let from = claimed::<KeyRecord>(&key.signed).valid_from;
        at.push(ledger.append(Kind::Key, from, PUBLIC, &key.signed));
    }
    for entry in [&r.readings_checkpoint, &r.market_checkpoint] {
        let note = entry.note.as_bytes();
        at.push(ledger.append(Kind::Checkpoint, Timestamp::EPOCH, PUBLIC, note));
    }
    let without = r.lines.len().saturating_sub(r.runs.len());
    for (place, entry) in r.lines.iter().enumerate() {
        let (line, start) = (&entry.content, entry.content.interval.start());
        at.push(ledger.append(Kind::Line, start, entry.salt, &line.to_cbor()));
        let run = place
            .checked_sub(without)
            .and_then(|place| r.runs.get(place));
        if let Some(run) = run {
            let (run, start) = (&run.content, run.content.interval.start());
            at.push(ledger.append(Kind::Run, start, PUBLIC, &run.to_cbor()));
        }
    }
    let mut at = at.into_iter();
    let mut next = || ledger.place(at.next().unwrap_or_default());
    r.participant_key.place = next();
    if let Some(key) = &mut r.gateway_key {
        key.place = next();
    }
    r.readings_checkpoint.place = next();
    r.market_checkpoint.place = next();
    let mut runs = r.runs.iter_mut();
    for (place, line) in r.lines.iter_mut().enumerate() {
        line.place = next();
        if place >= without
            && let Some(run) = runs.next()
        {
            run.place = next();
        }
    }
}

/// The proof of a single entry of a ledger log, opened.
pub(crate) fn proof_of(world: &World, kind: Kind, start: Timestamp, content: &[u8]) -> LogProof {
    let mut ledger = Forged::default();
    ledger.append(Kind::Line, start, PUBLIC, b"another's");
    let salt = Salt([5; 16]);
    let index = ledger.append(kind, start, salt, content);
    let place = ledger.place(index);
    let content = content.to_vec();
    let opening = Opening { salt, content };
    let entry = Entry::new(kind, start, salt, &opening.content);
    LogProof {
        extra: Some(extra(&entry, Some(&opening))),
        index,
        path: place.path,
        note: ledger.note(Log::Ledger, world),
    }
}
