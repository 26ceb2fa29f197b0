//! A witness of logs (C2SP tlog-witness): signs a checkpoint if its log only grew since the one that it
//! signed before, and keeps what it signed before it answers.
//!
//! It needs no database: of each log it keeps the newest checkpoint that it has signed, and of a log that
//! forked the two checkpoints that prove it. Which tree is the larger one is decided and kept under one lock.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as Named, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use domain::ids::Digest32;
use domain::signed::{PublicKey, SigningKey};
use domain::time::Timestamp;
use runtime::clock::Clock;
use serde::Deserialize;
use settlement::evidence::Evidence;
use settlement::log::checkpoint::Checkpoint;
use settlement::log::cosignature::cosign;
use settlement::log::note::{Algorithm, Note, VerifierKey};
use settlement::log::witness::{AddCheckpoint, REQUEST_MAX_BYTES, Refusal};
use tokio_util::sync::CancellationToken;

/// Most logs of one witness.
const LOGS_MAX: usize = 1000;

/// `witness.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WitnessFile {
    /// Its name, best an address that is its operator's: `witness.example/1`.
    name: String,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The verifier keys of the logs that it signs for.
    logs: Vec<String>,
}

/// A witness.
pub(crate) struct Witness {
    key: SigningKey,
    vkey: VerifierKey,
    logs: Vec<VerifierKey>,
    folder: PathBuf,
    clock: Clock,
    /// Held from looking at what was signed until the new signature is kept.
    signing: Mutex<()>,
}

impl Witness {
    /// A witness by its file, with what it keeps in `folder`.
    pub(crate) fn open(
        file: &WitnessFile,
        key: SigningKey,
        folder: &Path,
        clock: Clock,
    ) -> anyhow::Result<Witness> {
        let vkey = VerifierKey::of_witness(&file.name, PublicKey::of(&key));
        let vkey = vkey.with_context(|| {
            format!("name `{}`: 1 to 255 characters, no space, no +", file.name)
        })?;
        if file.logs.is_empty() || file.logs.len() > LOGS_MAX {
            bail!("logs: 1 to {LOGS_MAX} verifier keys of logs");
        }
        let mut logs = Vec::new();
        for text in &file.logs {
            let log: VerifierKey = text.parse().context("logs")?;
            if log.algorithm() != Algorithm::Log {
                bail!("logs: {log} is the key of a witness");
            }
            logs.push(log);
        }
        for name in ["signed", "evidence"] {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Witness {
            key,
            vkey,
            logs,
            folder: folder.to_owned(),
            clock,
            signing: Mutex::new(()),
        })
    }

    /// The key that readers and logs know it by.
    pub(crate) fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    fn file_of(&self, origin: &str) -> PathBuf {
        let name = Digest32::of(origin.as_bytes());
        self.folder.join("signed").join(format!("{name}.note"))
    }

    /// The newest checkpoint that was signed for a log, with that signature.
    fn signed(&self, origin: &str) -> anyhow::Result<Option<(Note, Checkpoint)>> {
        let file = self.file_of(origin);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", file.display())),
        };
        let note = Note::parse(&text);
        let read = note.and_then(|note| {
            let (named, checkpoint) = Checkpoint::read_body(&note.body)?;
            (named == origin).then_some((note.clone(), checkpoint))
        });
        let damaged = || format!("{} is damaged: restore it, or sign no more", file.display());
        read.with_context(damaged).map(Some)
    }

    /// Signs for a checkpoint, or says why not.
    ///
    /// # Errors
    /// What was signed before could not be read, or what is signed now not be kept.
    pub(crate) fn add(
        &self,
        request: &str,
        now: Timestamp,
    ) -> anyhow::Result<Result<String, Refusal>> {
        let asked = match AddCheckpoint::parse(request) {
            Ok(asked) => asked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (log, next) = match asked.open(&self.logs) {
            Ok(opened) => opened,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let _signing = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.signed(log.name())?;
        if let Err(refusal) = asked.advance(next, before.as_ref().map(|(_, seen)| *seen)) {
            if let (Refusal::Fork(_), Some((seen, _))) = (&refusal, &before) {
                self.keep_fork(log, seen, &asked.note)?;
            }
            return Ok(Err(refusal));
        }
        // Anybody can send what is public once more: it costs no new signature and no write.
        let same = before.filter(|(kept, _)| kept.body == asked.note.body);
        if let Some((kept, _)) = same
            && let Some(line) = kept.signatures.iter().find(|line| line.is_by(&self.vkey))
        {
            return Ok(Ok(line.line()));
        }
        let line = cosign(&asked.note.body, self.vkey.name(), &self.key, now);
        let line = line.context("the clock is before 1970")?;
        // Only what is known to be the log's own is kept: its signature, and this one.
        let own = asked.note.signatures.iter().filter(|s| s.is_by(log));
        let kept = Note {
            body: asked.note.body.clone(),
            signatures: own.take(2).cloned().chain([line.clone()]).collect(),
        };
        let file = self.file_of(log.name());
        runtime::durable::write(&file, kept.to_text(), 0o644)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Ok(line.line()))
    }

    fn keep_fork(&self, log: &VerifierKey, one: &Note, other: &Note) -> anyhow::Result<()> {
        let case = Evidence::operator_fork(log, &one.to_text(), &other.to_text(), &[]).to_text();
        // One case for a log is enough: more would only fill the disk.
        let name = format!("fork-{}.json", Digest32::of(log.name().as_bytes()));
        let file = self.folder.join("evidence").join(name);
        tracing::error!(
            log = log.name(),
            file = %file.display(),
            "FORK: the log has signed two trees of the same size; `commonwatt judge` proves it"
        );
        match file.exists() {
            true => Ok(()),
            false => runtime::durable::write(&file, case, 0o644)
                .with_context(|| format!("cannot write {}", file.display())),
        }
    }
}

/// Answers requests until `stop`.
pub(crate) async fn serve(
    witness: Arc<Witness>,
    listener: tokio::net::TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let server = axum::serve(listener, router(witness));
    Ok(server
        .with_graceful_shutdown(stop.cancelled_owned())
        .await?)
}

fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add))
        .route("/signed/{*origin}", get(signed))
        .layer(DefaultBodyLimit::max(REQUEST_MAX_BYTES))
        .with_state(witness)
}

const TEXT: &str = "text/plain; charset=utf-8";

fn said(status: StatusCode, kind: &'static str, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn add(State(witness): State<Arc<Witness>>, body: Bytes) -> Response {
    let Ok(request) = String::from_utf8(body.to_vec()) else {
        return said(
            StatusCode::BAD_REQUEST,
            TEXT,
            Refusal::Malformed.to_string(),
        );
    };
    // Keeping a signature syncs the disk.
    let answer = tokio::task::spawn_blocking(move || witness.add(&request, witness.clock.now()));
    match answer.await {
        Ok(Ok(Ok(line))) => said(StatusCode::OK, TEXT, line),
        Ok(Ok(Err(refusal))) => {
            let status = StatusCode::from_u16(refusal.status());
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            match refusal {
                Refusal::OtherSize(size) | Refusal::Fork(size) => {
                    said(status, "text/x.tlog.size", format!("{size}\n"))
                }
                other => said(status, TEXT, format!("{other}\n")),
            }
        }
        Ok(Err(error)) => broken(&error),
        Err(error) => broken(&error.into()),
    }
}

fn broken(error: &anyhow::Error) -> Response {
    tracing::error!("nothing was signed: {error:#}");
    let told = "Something went wrong here, and nothing was signed.\n".to_owned();
    said(StatusCode::INTERNAL_SERVER_ERROR, TEXT, told)
}

/// The newest checkpoint that was signed for a log: an addition to the protocol, so that a log that was set
/// back finds out what it had signed.
async fn signed(State(witness): State<Arc<Witness>>, Named(origin): Named<String>) -> Response {
    match witness.signed(&origin) {
        Ok(Some((note, _))) => said(StatusCode::OK, TEXT, note.to_text()),
        Ok(None) => {
            let told = "Nothing was signed for a log of this name.\n".to_owned();
            said(StatusCode::NOT_FOUND, TEXT, told)
        }
        Err(error) => broken(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settlement::evidence::{Verdict, judge};
    use settlement::log::cosignature::cosigned_at;
    use settlement::log::tree::{Frontier, Node, consistency_plan, leaf_hash};
    use std::collections::BTreeMap;

    const NOW: Timestamp = Timestamp::from_unix_s(1_782_000_000);

    struct Log {
        nodes: BTreeMap<Node, Digest32>,
        heads: Vec<Checkpoint>,
    }

    fn log(salt: &str) -> Log {
        let mut frontier = Frontier::default();
        let (mut nodes, mut heads) = (BTreeMap::new(), Vec::new());
        for n in 0..=20 {
            let (size, root) = (frontier.size(), frontier.root());
            heads.push(Checkpoint { size, root });
            nodes.extend(frontier.append(leaf_hash(format!("{salt} {n}").as_bytes())));
        }
        Log { nodes, heads }
    }

    impl Log {
        fn request(&self, old: u64, size: usize) -> String {
            let plan = consistency_plan(old, self.heads[size].size);
            let path = plan.map(|plan| plan.path(|node| self.nodes.get(&node).copied()).unwrap());
            let note = self.heads[size].sign("log", &SigningKey::from_bytes(&[1; 32]));
            let (note, path) = (Note::parse(&note).unwrap(), path.unwrap_or_default());
            AddCheckpoint { old, path, note }.to_text()
        }
    }

    fn witness(folder: &Path) -> Witness {
        let log = VerifierKey::of_log("log", PublicKey::of(&SigningKey::from_bytes(&[1; 32])));
        let text = format!(
            "name = \"w.example\"\nlisten = \"127.0.0.1:0\"\nlogs = [\"{}\"]\n",
            log.unwrap()
        );
        let file: WitnessFile = toml::from_str(&text).unwrap();
        let key = SigningKey::from_bytes(&[2; 32]);
        Witness::open(&file, key, folder, Clock::system()).unwrap()
    }

    #[test]
    fn it_signs_for_what_grows_and_keeps_what_it_signed() {
        let folder = tempfile::tempdir().unwrap();
        let (log, fork) = (log("a"), log("b"));
        let one = witness(folder.path());
        let line = one.add(&log.request(0, 5), NOW).unwrap().unwrap();
        let line = settlement::log::note::NoteSignature::parse(&line).unwrap();
        let body = log.heads[5].body("log");
        assert_eq!(cosigned_at(&body, &line, one.vkey()), Some(NOW));
        // Another process with the same folder goes on from there.
        let two = witness(folder.path());
        let again = two.add(&log.request(0, 9), NOW).unwrap();
        assert_eq!(again, Err(Refusal::OtherSize(5)));
        assert!(two.add(&log.request(5, 9), NOW).unwrap().is_ok());
        let later = two
            .add(&log.request(9, 9), NOW.plus_s(60))
            .unwrap()
            .unwrap();
        let kept = two.signed("log").unwrap().unwrap().0;
        assert!(kept.to_text().ends_with(&later), "the same signature again");
        let back = two.add(&log.request(5, 9), NOW).unwrap();
        assert_eq!(back, Err(Refusal::OtherSize(9)));
        let other = two.add(&fork.request(9, 12), NOW).unwrap();
        assert_eq!(other, Err(Refusal::NotConsistent));
        assert_eq!(two.signed("log").unwrap().unwrap().1, log.heads[9]);
        // Two trees of one size are proof.
        let same = two.add(&fork.request(9, 9), NOW).unwrap();
        assert_eq!(same, Err(Refusal::Fork(9)));
        let kept = std::fs::read_dir(folder.path().join("evidence")).unwrap();
        let kept: Vec<_> = kept.map(|file| file.unwrap().path()).collect();
        let case = std::fs::read_to_string(&kept[0]).unwrap();
        let verdict = judge(&Evidence::read(&case).unwrap()).unwrap();
        assert!(matches!(verdict, Verdict::Proven { .. }), "{verdict:?}");
    }

    /// Many that ask at once never make it sign for a tree that another one it signed later had passed.
    #[test]
    fn requests_at_the_same_time_come_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let (log, witness) = (log("a"), witness(folder.path()));
        let signed: Vec<usize> = std::thread::scope(|scope| {
            let ask = |size: usize| {
                let (log, witness) = (&log, &witness);
                scope.spawn(move || {
                    witness
                        .add(&log.request(0, size), NOW)
                        .unwrap()
                        .map(|_| size)
                })
            };
            let all: Vec<_> = (1..=20).map(ask).collect();
            all.into_iter()
                .filter_map(|one| one.join().unwrap().ok())
                .collect()
        });
        assert_eq!(signed.len(), 1, "{signed:?}");
        let kept = witness.signed("log").unwrap().unwrap().1;
        assert_eq!(kept, log.heads[signed[0]]);
    }

    #[test]
    fn a_witness_without_a_name_or_logs_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (name, logs, part) in [
            ("two words", "\"x\"", "name"),
            ("w", "", "1 to 1000"),
            ("w", "\"x\"", "verifier key"),
        ] {
            let text = format!("name = \"{name}\"\nlisten = \"127.0.0.1:0\"\nlogs = [{logs}]\n");
            let file: WitnessFile = toml::from_str(&text).unwrap();
            let key = SigningKey::from_bytes(&[2; 32]);
            let error = Witness::open(&file, key, folder.path(), Clock::system());
            let told = format!("{:#}", error.err().unwrap());
            assert!(told.contains(part), "{told}");
        }
    }
}
