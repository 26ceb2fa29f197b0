//! Gateways as witnesses of their own operator: what they say in their retained `state` of the ledger log.
//!
//! A gateway shows the newest checkpoint that it has seen, with the operator's signature and its own. Where these
//! books lead to it, its signature is kept and shown under the checkpoint; where they do not, the market
//! stands still, as with any witness. A proof of a fork that a gateway holds is taken over once it is judged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use domain::ids::{Digest32, GatewayId, KeyId};
use domain::log::cosignature::{cosigned_at, cosigning_gateway, gateway_witness};
use domain::time::Timestamp;
use serde_json::Value;
use settlement::evidence::Evidence;
use settlement::log::checkpoint::{Checkpoint, Log, is_signed};
use settlement::log::note::{Note, NoteSignature, VerifierKey};
use settlement::service::{self, GatewayCosignature};
use tokio::sync::mpsc;

use super::{Shared, Told, compare, is_log, keep_fork, log_key, open};
use crate::platform::door::{Door, Knock};

/// Most words of a gateway on the log that are looked at in a minute: it says one for each new head.
const WORDS_PER_MINUTE_MAX: u32 = 60;
/// Most words that wait; a gateway whose word finds no room is heard with its next.
const WAITING_MAX: usize = 1024;
/// Most words that are looked at together.
const TOGETHER_MAX: usize = 256;
/// A signature from so far ahead is of a gateway whose clock is wrong.
const AHEAD_MAX_S: i64 = 300;

/// What a gateway has said last, and how often it may say something.
#[derive(Default)]
pub(in crate::platform) struct Heard {
    last: Mutex<BTreeMap<GatewayId, Digest32>>,
    door: Mutex<Door>,
}

/// A gateway's word on the ledger log.
pub(crate) struct Word {
    gateway: GatewayId,
    head: Option<String>,
    fork: Option<String>,
}

/// Where such words wait.
pub(crate) fn queue() -> (mpsc::Sender<Word>, mpsc::Receiver<Word>) {
    mpsc::channel(WAITING_MAX)
}

/// Takes what a known gateway's state says of the log, if it says something new.
pub(crate) fn note_word(
    shared: &Shared,
    words: &mpsc::Sender<Word>,
    gateway: &GatewayId,
    state: &Value,
) {
    let head = state["ledger_head"].as_str().map(str::to_owned);
    let fork = state.get("ledger_fork").map(Value::to_string);
    let (Some(said), heard) = (head.as_ref().or(fork.as_ref()), &shared.watch.heard) else {
        return;
    };
    // The same head signed anew is nothing new.
    let body = said.split("\n\n").next().unwrap_or_default();
    let digest = Digest32::of(format!("{body}{fork:?}").as_bytes());
    if open(&heard.last).get(gateway) == Some(&digest) {
        return;
    }
    let now = shared.clock.now();
    if open(&heard.door).knock(now, gateway, WORDS_PER_MINUTE_MAX) != Knock::In {
        return;
    }
    let word = Word {
        gateway: gateway.clone(),
        head,
        fork,
    };
    if words.try_send(word).is_ok() {
        open(&heard.last).insert(gateway.clone(), digest);
    }
}

/// Looks at gateways' words, as many together as wait.
pub(crate) async fn hear(
    shared: &Arc<Shared>,
    mut words: mpsc::Receiver<Word>,
) -> anyhow::Result<()> {
    let mut together = Vec::new();
    while words.recv_many(&mut together, TOGETHER_MAX).await > 0 {
        let mut signed = Vec::new();
        for word in together.drain(..) {
            match look(shared, &word).await {
                Ok(kept) => signed.extend(kept),
                Err(error) => {
                    let gateway = &word.gateway;
                    tracing::warn!(%gateway, "its word on the ledger log does not count: {error:#}");
                    open(&shared.watch.heard.last).remove(gateway);
                }
            }
        }
        if let Err(error) = keep(shared, signed).await {
            tracing::warn!("what gateways signed could not be kept: {error:#}");
        }
    }
    Ok(())
}

async fn keep(shared: &Shared, signed: Vec<(GatewayCosignature, String)>) -> anyhow::Result<()> {
    if signed.is_empty() {
        return Ok(());
    }
    let (signed, names): (Vec<_>, Vec<_>) = signed.into_iter().unzip();
    let mut tx = shared.db.begin().await?;
    service::keep_gateway_cosignatures(&mut tx, shared.clock.now(), &signed).await?;
    tx.commit().await?;
    let mut told = open(&shared.watch.told);
    for (one, name) in signed.iter().zip(names) {
        let (size, trouble) = (one.size, None);
        told.insert((name, Log::Ledger), Told { size, trouble });
    }
    Ok(())
}

/// A signature to keep, with the name of its key, where the word has one that holds.
async fn look(
    shared: &Shared,
    word: &Word,
) -> anyhow::Result<Option<(GatewayCosignature, String)>> {
    if let Some(fork) = &word.fork {
        look_at_fork(shared, &word.gateway, fork).await?;
    }
    let Some(head) = &word.head else {
        return Ok(None);
    };
    let note = Note::parse(head).context("its head is no signed note")?;
    let signer = Signer::of(shared, &word.gateway, &note).await?;
    let at = signer.at;
    let log = log_key(shared, Log::Ledger).context("the community has no name for its logs")?;
    let body = Checkpoint::read_body(&note.body);
    let (_, checkpoint) = body.context("its head is no checkpoint")?;
    anyhow::ensure!(
        is_signed(&note, &log),
        "its head is not signed by this operator"
    );
    let books = service::checkpoint_at(&shared.db, Log::Ledger, checkpoint.size).await?;
    let same = |own: String| Note::parse(&own).is_some_and(|own| own.body == note.body);
    if !books.is_some_and(same) {
        let who = format!("gateway {}", word.gateway);
        let ours = service::gateway_cosigned(&shared.db, signer.kid, None).await?;
        let of = (who.as_str(), &signer.key);
        compare(shared, Log::Ledger, of, &note, ours.as_deref()).await?;
        return Ok(None);
    }
    let ahead = at.unix_s() - shared.clock.now().unix_s();
    anyhow::ensure!(
        ahead <= AHEAD_MAX_S,
        "it signs with the time {at}: its clock is wrong"
    );
    let name = signer.key.name().to_owned();
    let signed = GatewayCosignature {
        size: checkpoint.size,
        gateway: word.gateway.clone(),
        kid: signer.kid,
        line: signer.line,
    };
    Ok(Some((signed, name)))
}

/// A gateway's own signature under a note, which holds under a key that is enrolled and not revoked.
struct Signer {
    kid: KeyId,
    key: VerifierKey,
    line: NoteSignature,
    at: Timestamp,
}

impl Signer {
    async fn of(shared: &Shared, gateway: &GatewayId, note: &Note) -> anyhow::Result<Signer> {
        let community = &shared.community.id;
        let lines = note.signatures.iter();
        let mut named =
            lines.filter_map(|line| Some((line, cosigning_gateway(community, &line.name)?)));
        let (line, kid) = named.next().context("no gateway has signed it")?;
        let held = service::gateway_public_key(&shared.db, kid).await?;
        let held = held.filter(|(holder, _)| holder == gateway);
        let (_, public) =
            held.with_context(|| format!("key {kid} is not enrolled for it, or revoked"))?;
        let key = gateway_witness(community, public).context("its key has no name")?;
        let at = cosigned_at(&note.body, line, &key);
        let at = at.context("its signature does not hold")?;
        Ok(Signer {
            kid,
            key,
            line: line.clone(),
            at,
        })
    }
}

/// A gateway says that it was shown two logs. What it can prove by itself is taken over; else its checkpoints are
/// held against these books.
async fn look_at_fork(shared: &Shared, gateway: &GatewayId, text: &str) -> anyhow::Result<()> {
    let evidence = Evidence::read(text)?;
    let Evidence::OperatorFork {
        log, first, second, ..
    } = &evidence
    else {
        anyhow::bail!("what it holds against the operator is no fork");
    };
    anyhow::ensure!(
        is_log(shared, Log::Ledger, log),
        "its fork is of another log"
    );
    let who = format!("gateway {gateway}");
    if let Some(what) = keep_fork(shared, &evidence).await? {
        shared.watch.raise(format!(
            "{who} holds the proof that this operator {what} (`commonwatt evidence` writes it out)"
        ));
    }
    let key = log_key(shared, Log::Ledger).context("the community has no name for its logs")?;
    for text in [first, second] {
        let note = Note::parse(text).context("a checkpoint of its fork is no signed note")?;
        compare(shared, Log::Ledger, (&who, &key), &note, None).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
