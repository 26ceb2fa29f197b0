//! Asking the witnesses of the site to sign each log's newest checkpoint, and hearing from them that the
//! books contradict what they have signed before.
//!
//! A witness that does not answer stops nothing. One that shows a checkpoint with this operator's own
//! signature which these books do not lead to stops the market: either the books were set back to an older
//! state, or somebody was shown another log. Readings are taken in all the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use domain::acceptance::LedgerHead;
use domain::ids::{Digest32, GatewayId};
use domain::signed::PublicKey;
use domain::time::Timestamp;
use runtime::db::Tx;
use settlement::evidence::{Evidence, Verdict, judge};
use settlement::log::checkpoint::{Checkpoint, Log, is_signed};
use settlement::log::cosignature::cosigned_at;
use settlement::log::note::{NOTE_MAX_BYTES, Note, NoteSignature, VerifierKey};
use settlement::log::tree::consistency_plan;
use settlement::log::witness::AddCheckpoint;
use settlement::service::{self, ServiceError, SetBack};
use tokio_util::sync::CancellationToken;

pub(crate) mod gateways;

use super::Shared;
use crate::https;
use crate::site::Witness;

/// Between two rounds of asking.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest wait for a witness.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two cries while the market stands still.
const CRY_PAUSE: Duration = Duration::from_secs(60);

/// Longest wait for a gateway's word on a head that it was shown, before a newer one is shown.
const HEAD_PAUSE: Duration = Duration::from_secs(10);

/// So long all gateways are shown the same head, so that many of them sign for one.
const COMMON_PAUSE: Duration = Duration::from_secs(5);

/// Most cases of a fork that are kept of one log: more would only fill the disk.
const FORKS_KEPT_MAX: usize = 16;

/// What is known of the witnesses, and whether the market has to stand still.
#[derive(Default)]
pub(crate) struct Watch {
    told: Mutex<BTreeMap<(String, Log), Told>>,
    /// What each gateway has seen of the ledger log; gateways of the site only.
    gateways: Mutex<BTreeMap<GatewayId, Shown>>,
    /// The size of the head that gateways are shown at the moment.
    common: Mutex<Option<(Instant, u64)>>,
    /// What gateways sign, and how much of that is looked at.
    pub(super) heard: gateways::Heard,
    alarm: Mutex<Option<String>>,
    cried: Mutex<Option<Instant>>,
}

/// What a gateway has seen of the ledger log.
#[derive(Default)]
struct Shown {
    /// How far, by its own word only.
    size: Option<u64>,
    /// What it was shown since then.
    head: Option<(Instant, LedgerHead)>,
}

/// How it stands with a witness and a log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Told {
    /// The newest size that it has signed.
    pub(crate) size: u64,
    /// Why it has not signed the newest one.
    pub(crate) trouble: Option<String>,
}

fn open<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Why the market stands still, if it does.
    pub(crate) fn alarm(&self) -> Option<String> {
        open(&self.alarm).clone()
    }

    /// Stops the market.
    fn raise(&self, why: String) {
        open(&self.alarm).get_or_insert(why);
    }

    /// Whether the market stands still, with a loud word in the log now and then.
    pub(crate) fn stands_still(&self) -> bool {
        let Some(why) = self.alarm() else {
            return false;
        };
        let mut cried = open(&self.cried);
        if cried.is_none_or(|at| at.elapsed() >= CRY_PAUSE) {
            tracing::error!("THE MARKET STANDS STILL: {why}");
            *cried = Some(Instant::now());
        }
        true
    }

    /// How far a gateway has seen the ledger log.
    pub(crate) fn seen(&self, gateway: &GatewayId) -> Option<u64> {
        open(&self.gateways).get(gateway)?.size
    }

    /// A gateway says that it has seen so many entries of the ledger log.
    pub(crate) fn has_seen(&self, gateway: &GatewayId, size: u64) {
        let size = Some(size);
        open(&self.gateways).insert(gateway.clone(), Shown { size, head: None });
    }

    /// The head that a gateway was shown just now and has not answered: the next acceptance shows the same one
    /// again. A newer one, proven from the same size, it could not hold against the one on its way.
    pub(crate) fn on_its_way(&self, gateway: &GatewayId) -> Option<LedgerHead> {
        let gateways = open(&self.gateways);
        let (at, head) = gateways.get(gateway)?.head.as_ref()?;
        (at.elapsed() < HEAD_PAUSE).then(|| head.clone())
    }

    /// A gateway is shown a head.
    pub(crate) fn shows(&self, gateway: &GatewayId, head: Option<&LedgerHead>) {
        let head = head.map(|head| (Instant::now(), head.clone()));
        open(&self.gateways)
            .entry(gateway.clone())
            .or_default()
            .head = head;
    }

    /// The size of the head that gateways are shown at the moment; none where it is time for a newer one.
    pub(super) fn common(&self) -> Option<u64> {
        let common = *open(&self.common);
        common.and_then(|(at, size)| (at.elapsed() < COMMON_PAUSE).then_some(size))
    }

    /// Gateways are shown a head of this size from now on, for a while.
    pub(super) fn show_all(&self, size: u64) {
        let mut common = open(&self.common);
        let old = common.is_none_or(|(at, _)| at.elapsed() >= COMMON_PAUSE);
        if old {
            *common = Some((Instant::now(), size));
        }
    }

    /// How it stands with a witness and a log.
    pub(crate) fn told(&self, witness: &str, log: Log) -> Told {
        let told = open(&self.told);
        told.get(&(witness.to_owned(), log))
            .cloned()
            .unwrap_or_default()
    }
}

/// The key that a log of this community is signed with.
pub(crate) fn log_key(shared: &Shared, log: Log) -> Option<VerifierKey> {
    let operator = PublicKey::of(&shared.community.operator);
    VerifierKey::of_log(&log.origin(&shared.community.id), operator)
}

/// Stops the market where the books hold a proof that this operator's log has forked, or a checkpoint that they
/// still do not reach.
pub(super) async fn remember(shared: &Shared) -> anyhow::Result<()> {
    for shown in service::set_back(&shared.db).await? {
        let seen = Note::parse(&shown.note)
            .and_then(|note| Checkpoint::read_body(&note.body).map(|(_, seen)| seen));
        let seen = seen.context("what showed that the books were set back is no checkpoint")?;
        if service::root_at(&shared.db, shown.log, seen.size).await? == Some(seen.root) {
            continue;
        }
        let size = newest(shared, shown.log)
            .await?
            .map_or(0, |(_, newest)| newest.size);
        let who = match shown.witness.contains(' ') {
            true => shown.witness,
            // As older programs have kept it.
            false => format!("witness {}", shown.witness),
        };
        let why = older(&who, shown.log, seen.size, size);
        shared.watch.raise(format!("since {}: {why}", shown.at));
    }
    for case in service::public_cases(&shared.db).await? {
        let Ok(evidence) = Evidence::read(&case.text) else {
            continue;
        };
        let proven = matches!(judge(&evidence), Ok(Verdict::Proven { .. }));
        let ours = |log: &str| Log::ALL.iter().any(|l| is_log(shared, *l, log));
        if proven && matches!(&evidence, Evidence::OperatorFork { log, .. } if ours(log)) {
            shared.watch.raise(format!(
                "since {} the books hold the proof that this operator has signed two contradicting logs \
                 (`commonwatt evidence` writes it out): go on with the books that the witnesses know",
                case.at
            ));
        }
    }
    Ok(())
}

fn is_log(shared: &Shared, log: Log, text: &str) -> bool {
    log_key(shared, log).is_some_and(|key| key.to_string() == text)
}

/// Asks every witness about every log until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) -> anyhow::Result<()> {
    while !shared.site.witnesses.is_empty() {
        for witness in &shared.site.witnesses {
            for log in Log::ALL {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = ask(&shared, witness, log) => {}
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    Ok(())
}

async fn ask(shared: &Shared, witness: &Witness, log: Log) {
    let (name, word) = (witness.key.name().to_owned(), log.word());
    let before = shared.watch.told(&name, log).trouble;
    let now = match ask_once(shared, witness, log).await {
        Ok(size) => Told {
            size,
            trouble: None,
        },
        Err(error) => Told {
            trouble: Some(format!("{error:#}")),
            ..shared.watch.told(&name, log)
        },
    };
    match (&before, &now.trouble) {
        (None, Some(why)) => tracing::warn!(witness = name, log = word, "does not sign: {why}"),
        (Some(_), None) => tracing::info!(witness = name, log = word, "signs again"),
        _ => {}
    }
    open(&shared.watch.told).insert((name, log), now);
}

/// Has the newest checkpoint signed; returns its size.
async fn ask_once(shared: &Shared, witness: &Witness, log: Log) -> anyhow::Result<u64> {
    let (db, name) = (&shared.db, witness.key.name());
    let Some((note, newest)) = newest(shared, log).await? else {
        return Ok(0);
    };
    let mut old = service::cosigned_size(db, log, name).await?.unwrap_or(0);
    if old == newest.size && newest.size > 0 {
        return Ok(old);
    }
    // The second time from where the witness says it stands.
    for _ in 0..2 {
        let path = match old {
            0 => Vec::new(),
            old => service::consistency(db, log, old, newest.size)
                .await?
                .unwrap_or_default(),
        };
        let note_to_sign = note.clone();
        let asked = AddCheckpoint {
            old,
            path,
            note: note_to_sign,
        };
        let url = format!("{}/add-checkpoint", witness.url);
        let (status, answer) = heard(witness.ca_file.clone(), move |agent| {
            agent.post(&url).send(asked.to_text())
        })
        .await?;
        match status {
            200 => {
                let line = signed_line(&answer, &note, &witness.key)?;
                let mut tx = db.begin().await?;
                let now = shared.clock.now();
                service::keep_cosignature(&mut tx, now, log, newest.size, &line).await?;
                tx.commit().await?;
                return Ok(newest.size);
            }
            409 => {
                let theirs: u64 = answer.trim().parse().context("409 without a size")?;
                if theirs == old || theirs > newest.size {
                    contradiction(shared, witness, log).await?;
                    return Err(anyhow!(
                        "it was asked for {} entries and says that it has signed for {theirs}",
                        newest.size
                    ));
                }
                old = theirs;
            }
            422 => {
                contradiction(shared, witness, log).await?;
                return Err(anyhow!("it does not see that the log only grew"));
            }
            status => return Err(anyhow!("it answers {status}: {}", answer.trim())),
        }
    }
    Err(anyhow!("it was asked by somebody else at the same time"))
}

/// The newest checkpoint of these books.
async fn newest(shared: &Shared, log: Log) -> anyhow::Result<Option<(Note, Checkpoint)>> {
    let Some(note) = service::latest_checkpoint(&shared.db, log).await? else {
        return Ok(None);
    };
    let note = Note::parse(&note).context("a stored checkpoint is no note")?;
    let (_, newest) =
        Checkpoint::read_body(&note.body).context("a stored note is no checkpoint")?;
    Ok(Some((note, newest)))
}

fn signed_line(answer: &str, note: &Note, key: &VerifierKey) -> anyhow::Result<NoteSignature> {
    let lines = answer
        .split_inclusive('\n')
        .filter_map(NoteSignature::parse);
    let mut own = lines.filter(|line| cosigned_at(&note.body, line, key).is_some());
    own.next()
        .context("its answer has no signature that holds for its key")
}

/// Looks at what a witness has signed that these books do not agree with.
async fn contradiction(shared: &Shared, witness: &Witness, log: Log) -> anyhow::Result<()> {
    let key = log_key(shared, log).context("the community has no name for its logs")?;
    let url = format!("{}/signed/{}", witness.url, key.name());
    let (status, text) =
        heard(witness.ca_file.clone(), move |agent| agent.get(&url).call()).await?;
    let Some(theirs) = Note::parse(&text).filter(|_| status == 200) else {
        return Ok(());
    };
    let ours = service::cosigned_checkpoint(&shared.db, log, witness.key.name()).await?;
    let who = format!("witness {}", witness.key.name());
    compare(shared, log, (&who, &witness.key), &theirs, ours.as_deref()).await?;
    Ok(())
}

/// Holds a checkpoint that a witness has signed against these books; true where they lead to it, or it is not this
/// operator's. Only what this operator has signed itself counts: no witness can stop a market with anything else.
/// `ours` is what the same witness has signed of these books.
async fn compare(
    shared: &Shared,
    log: Log,
    (who, witness): (&str, &VerifierKey),
    theirs: &Note,
    ours: Option<&str>,
) -> anyhow::Result<bool> {
    let key = log_key(shared, log).context("the community has no name for its logs")?;
    let seen = match is_signed(theirs, &key) {
        true => Checkpoint::read_body(&theirs.body),
        false => None,
    };
    // Read after the witness's answer: while it was waited for, the log has grown, and others may have asked.
    let (Some((_, seen)), Some((note, newest))) = (seen, newest(shared, log).await?) else {
        return Ok(true);
    };
    if seen.size > newest.size {
        shared.watch.raise(older(who, log, seen.size, newest.size));
        // A start must not forget it: the first checkpoint after it would make a fork of it.
        let shown = SetBack {
            log,
            witness: who.to_owned(),
            note: theirs.to_text(),
            at: shared.clock.now(),
        };
        let mut tx = shared.db.begin().await?;
        service::keep_set_back(&mut tx, &shown).await?;
        tx.commit().await?;
        return Ok(false);
    }
    if service::root_at(&shared.db, log, seen.size).await? == Some(seen.root) {
        return Ok(true);
    }
    let from = beginning(shared, log, seen.size, newest.size).await?;
    let evidence = Evidence::operator_fork(&key, &theirs.to_text(), &note.to_text(), &from);
    if let Some(what) = keep_fork(shared, &evidence).await? {
        let word = log.word();
        shared.watch.raise(format!(
            "{who} holds a {word} log that these books contradict; this operator {what}"
        ));
    }
    if let Some(ours) = ours.and_then(Note::parse) {
        signed_both(shared, log, witness, (theirs, seen), &ours).await?;
    }
    Ok(false)
}

/// Keeps the proof that a witness has signed two logs, where it has: one that these books contradict, and
/// one of these books that is as long.
async fn signed_both(
    shared: &Shared,
    log: Log,
    witness: &VerifierKey,
    (theirs, seen): (&Note, Checkpoint),
    ours: &Note,
) -> anyhow::Result<()> {
    let Some((_, known)) = Checkpoint::read_body(&ours.body) else {
        return Ok(());
    };
    if known.size < seen.size {
        return Ok(());
    }
    let from = beginning(shared, log, seen.size, known.size).await?;
    let evidence = Evidence::witness_fork(witness, &theirs.to_text(), &ours.to_text(), &from);
    if let Some(what) = keep_fork(shared, &evidence).await? {
        tracing::error!(witness = witness.name(), "A WITNESS HAS FORKED: it {what}");
    }
    Ok(())
}

/// Keeps a proven fork, unless there is a case of it or there are many already; says what was done where it is proven.
async fn keep_fork(shared: &Shared, evidence: &Evidence) -> anyhow::Result<Option<String>> {
    let Ok(Verdict::Proven { what, .. }) = judge(evidence) else {
        return Ok(None);
    };
    if !is_kept(shared, evidence).await? {
        let mut tx = shared.db.begin().await?;
        service::keep_case(&mut tx, shared.clock.now(), evidence).await?;
        tx.commit().await?;
    }
    Ok(Some(what))
}

fn older(who: &str, log: Log, theirs: u64, ours: u64) -> String {
    let word = log.word();
    format!(
        "{who} has signed this operator's {word} log with {theirs} entries, and these books have {ours}: \
         they are older than what was shown; go on with the newer ones"
    )
}

/// Whether the books hold a case of the checkpoint that a fork shows first: one is enough, whatever else these books
/// have signed. Or as many cases against the same key as are kept.
async fn is_kept(shared: &Shared, evidence: &Evidence) -> anyhow::Result<bool> {
    let shown = |evidence: &Evidence| match evidence {
        Evidence::OperatorFork {
            log: key, first, ..
        }
        | Evidence::WitnessFork {
            witness: key,
            first,
            ..
        } => Some((key.clone(), Note::parse(first).map(|note| note.body))),
        _ => None,
    };
    let Some((key, body)) = shown(evidence) else {
        return Ok(false);
    };
    let cases = service::public_cases(&shared.db).await?;
    let cases = cases.iter().filter_map(|case| {
        let kept = Evidence::read(&case.text).ok()?;
        shown(&kept).filter(|(of, _)| *of == key)
    });
    let bodies: Vec<Option<String>> = cases.map(|(_, body)| body).collect();
    Ok(bodies.len() >= FORKS_KEPT_MAX || bodies.contains(&body))
}

/// Signs what the logs hold now, except while the alarm is up: a head more would only make a fork last. What is
/// taken in meanwhile is in the logs, and the first checkpoint afterwards covers it.
pub(super) async fn sign_heads(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
) -> Result<(), ServiceError> {
    match shared.watch.alarm() {
        Some(_) => Ok(()),
        None => service::checkpoint(tx, &shared.community, now).await,
    }
}

/// The hashes by which the tree of `size` entries begins with `old`, with the first one never left away.
async fn beginning(
    shared: &Shared,
    log: Log,
    old: u64,
    size: u64,
) -> anyhow::Result<Vec<Digest32>> {
    let Some(plan) = consistency_plan(old, size).filter(|_| old < size) else {
        return Ok(Vec::new());
    };
    let mut path = service::folded(&shared.db, log, &plan).await?;
    if old.is_power_of_two()
        && let Some(start) = service::root_at(&shared.db, log, old).await?
    {
        path.insert(0, start);
    }
    Ok(path)
}

type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

/// Status and text of an answer, off the threads that everything else runs on.
async fn heard(
    ca_file: Option<PathBuf>,
    call: impl FnOnce(ureq::Agent) -> Answer + Send + 'static,
) -> anyhow::Result<(u16, String)> {
    let asked = tokio::task::spawn_blocking(move || {
        let mut answer = call(https::agent(PATIENCE, ca_file.as_deref())?)?;
        let most = u64::try_from(NOTE_MAX_BYTES).unwrap_or(u64::MAX);
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(most);
        Ok((status, body.read_to_string()?))
    });
    asked.await.context("asking broke off")?
}

#[cfg(test)]
pub(super) mod tests;
