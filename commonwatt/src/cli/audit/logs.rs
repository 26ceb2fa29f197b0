//! The three logs: signed, rebuilt from every entry, grown from the last audit, and linked.

use std::collections::{BTreeMap, BTreeSet};

use domain::ids::{CommunityId, Digest32};
use domain::time::Timestamp;
use settlement::evidence::Evidence;
use settlement::log::checkpoint::{Checkpoint, Log};
use settlement::log::entry::{Entry, Kind, PUBLIC};
use settlement::log::note::{Note, VerifierKey};
use settlement::log::reader::{ReadError, Tiled, replay};
use settlement::reexecute::Leaves;

use super::super::CliError;
use super::settled::Count;
use super::source::Source;
use super::{Finding, Trust};

/// What the entries tell without being opened.
#[derive(Default)]
pub(super) struct Logs {
    /// Every entry, by kind and interval.
    pub(super) leaves: Leaves,
    /// The community, as the checkpoints name it.
    pub(super) community: Option<CommunityId>,
    /// What the clearings of an interval commit to: one, where all is well.
    pub(super) clearings: BTreeMap<i64, Vec<Digest32>>,
    /// The records of each interval's runs in the ledger log.
    pub(super) runs: BTreeMap<i64, Vec<LoggedRun>>,
    /// The starts of intervals with settlement lines.
    lines: BTreeSet<i64>,
    /// Lines that no record follows, since there are records: the place of the first, and how many.
    pub(super) lines_without_run: Option<(u64, u64)>,
    /// The lines before the next entry: start of their interval, place of the first, how many.
    open_lines: Option<(i64, u64, u64)>,
    /// What the ledger's checkpoint entries commit to.
    checkpoints: BTreeSet<Digest32>,
}

/// A run's record in the ledger log.
#[derive(Clone, Copy)]
pub(super) struct LoggedRun {
    /// Its place.
    pub(super) index: u64,
    /// How many lines of its interval stand directly before it.
    pub(super) lines: u64,
}

impl Logs {
    /// Whether lines of an interval stand before those of its first record: a program that logged none began it.
    pub(super) fn begun_before_records(&self, start_s: i64) -> bool {
        let Some(first) = self.runs.get(&start_s).and_then(|runs| runs.first()) else {
            return false;
        };
        let start = Timestamp::from_unix_s(start_s);
        self.leaves
            .has_earlier_lines(start, first.index, first.lines)
    }

    /// How many entries of a kind an interval has.
    pub(super) fn count(&self, kind: Kind, start: Timestamp) -> u64 {
        self.leaves.of(log_of(kind), kind, start).len() as u64
    }

    /// The starts of intervals for which there is a settlement line.
    pub(super) fn settled(&self) -> impl Iterator<Item = i64> {
        self.lines.iter().copied()
    }

    /// What was not checked, because it is sealed.
    pub(super) fn sealed(&self, opened: &Count) -> String {
        let all = |kind| self.leaves.count(log_of(kind), kind) as u64;
        let left = |kind, opened: u64| all(kind).saturating_sub(opened);
        let readings = left(Kind::Reading, opened.readings);
        let orders = left(Kind::Order, opened.orders);
        let trades = left(Kind::Trade, opened.trades);
        let lines = left(Kind::Line, opened.lines);
        if readings + orders + trades + lines == 0 {
            return "nothing: every entry was opened".to_owned();
        }
        format!(
            "{readings} readings, {orders} orders, {trades} sides of trades and {lines} settlement lines are \
             sealed. That a book holds a member's order, that the reading is the meter's, and that postings \
             follow from them, each holder checks with a receipt (commonwatt verify), and whoever is handed what \
             opens them with --openings"
        )
    }

    pub(super) fn take(&mut self, log: Log, index: u64, leaf: &[u8]) -> bool {
        let Some(entry) = Entry::from_leaf(leaf) else {
            return false;
        };
        let start_s = entry.start.unix_s();
        self.leaves.take(log, index, &entry);
        if log == Log::Ledger {
            self.take_settled(index, entry.kind, start_s);
        }
        match entry.kind {
            Kind::Clearing => {
                let same = self.clearings.entry(start_s).or_default();
                same.push(entry.commitment);
            }
            Kind::Checkpoint => {
                self.checkpoints.insert(entry.commitment);
            }
            _ => {}
        }
        true
    }

    /// Lines stand directly before the record of their run.
    fn take_settled(&mut self, index: u64, kind: Kind, start_s: i64) {
        let open = self.open_lines.take();
        let same = open.filter(|(of, ..)| *of == start_s);
        match kind {
            Kind::Line => {
                self.lines.insert(start_s);
                let (_, first, count) = same.unwrap_or((start_s, index, 0));
                self.open_lines = Some((start_s, first, count + 1));
                if same.is_none() {
                    self.orphaned(open);
                }
            }
            Kind::Run => {
                let lines = same.map_or(0, |(_, _, count)| count);
                if same.is_none() {
                    self.orphaned(open);
                }
                let runs = self.runs.entry(start_s).or_default();
                runs.push(LoggedRun { index, lines });
            }
            _ => self.orphaned(open),
        }
    }

    fn orphaned(&mut self, lines: Option<(i64, u64, u64)>) {
        // A program that logged no records has left such lines before the first record.
        if let (Some((_, first, count)), false) = (lines, self.runs.is_empty()) {
            let known = self.lines_without_run;
            let (first, before) = known.unwrap_or((first, 0));
            self.lines_without_run = Some((first, before + count));
        }
    }
}

/// The log that a kind's entries are in.
const fn log_of(kind: Kind) -> Log {
    match kind {
        Kind::Reading => Log::Readings,
        Kind::Order | Kind::Trade | Kind::Clearing => Log::Market,
        Kind::Key
        | Kind::Line
        | Kind::Checkpoint
        | Kind::Revocation
        | Kind::Run
        | Kind::Introduction
        | Kind::Tokens
        | Kind::Evidence => Log::Ledger,
    }
}

/// A checkpoint with the text that the operator alone has signed.
struct Head {
    checkpoint: Checkpoint,
    note: Note,
    own: String,
}

fn opened(text: &str, origin: &str, trust: &Trust) -> Result<Head, String> {
    let (checkpoint, note) =
        Checkpoint::open_cosigned(text, origin, trust.key).map_err(|e| e.to_string())?;
    let line = note.signatures.first().map(|own| own.line());
    let own = format!("{}\n{}", note.body, line.unwrap_or_default());
    Ok(Head {
        checkpoint,
        note,
        own,
    })
}

/// Checks all logs; `None` where one does not hold, so that nothing can be built on it.
pub(super) fn check(
    source: &mut Source,
    trust: &Trust,
    findings: &mut Vec<Finding>,
) -> Result<Option<Logs>, CliError> {
    let mut texts = Vec::new();
    // The ledger last: it takes in the checkpoints of the others.
    for log in Log::ALL {
        texts.push((
            log,
            source.checkpoint(&format!("log/{}/checkpoint", log.word()))?,
        ));
    }
    let named = texts.last().and_then(|(_, text)| text.split('/').nth(1));
    let community = named.and_then(|name| CommunityId::new(name).ok());
    let community = community.ok_or_else(|| {
        CliError::CheckFailed("the ledger's checkpoint names no community".to_owned())
    })?;
    let mut logs = Logs::default();
    let (mut heads, mut earlier) = (Vec::new(), Vec::new());
    for (log, text) in &texts {
        let origin = log.origin(&community);
        let (name, path) = (format!("{} log", log.word()), log.word());
        // The policy's key for this log, where it names one, must be the same.
        let known = trust.trusted.key_of(&origin);
        let head = match known.and_then(|_| opened(text, &origin, trust)) {
            Ok(head) => head,
            Err(why) => {
                findings.push((name, Err(why)));
                return Ok(None);
            }
        };
        let policy = &trust.trusted.policy;
        if policy.wants_witnesses() {
            let told = policy.check(&head.note, None);
            findings.push((format!("{path} witnesses"), told));
        }
        let before = source.earlier(&format!("log/{path}/checkpoint"))?;
        let before = before.map(|text| opened(&text, &origin, trust)).transpose();
        let before =
            before.map_err(|e| CliError::BadInput(format!("the mirror's checkpoint: {e}")))?;
        let finding = rebuilt(
            source,
            (*log, &origin),
            (&head, before.as_ref()),
            &mut logs,
            trust,
        )?;
        let failed = finding.is_err();
        findings.push((name, finding));
        if failed {
            return Ok(None);
        }
        heads.push((*log, head));
        earlier.extend(before.map(|before| (*log, before)));
    }
    linked(&logs, &heads, &earlier, findings);
    let open = logs.open_lines.take();
    logs.orphaned(open);
    logs.community = Some(community);
    Ok(Some(logs))
}

fn rebuilt(
    source: &mut Source,
    (log, origin): (Log, &str),
    (head, before): (&Head, Option<&Head>),
    logs: &mut Logs,
    trust: &Trust,
) -> Result<Result<String, String>, CliError> {
    let size = head.checkpoint.size;
    if let Some(before) = before.filter(|before| before.checkpoint.size > size) {
        let was = before.checkpoint.size;
        return Ok(Err(format!(
            "it has {size} entries, and had {was} at the last audit"
        )));
    }
    let mut fault = None;
    let mut get = |path: &str| resource(source, log, path, &mut fault);
    let marks: Vec<u64> = before.iter().map(|before| before.checkpoint.size).collect();
    let mut strange = None;
    let roots = replay(&mut get, size, &marks, |index, leaf| {
        if !logs.take(log, index, leaf) {
            strange.get_or_insert(index);
        }
    });
    if let Some(fault) = fault {
        return Err(fault);
    }
    let roots = match roots {
        Ok(roots) => roots,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if roots.get(&size) != Some(&head.checkpoint.root) {
        return Ok(Err("its entries do not lead to the signed root".to_owned()));
    }
    if let Some(index) = strange {
        return Ok(Err(format!("entry {index} is none of a known kind")));
    }
    let Some(before) = before else {
        return Ok(Ok(format!("{size} entries lead to the signed root")));
    };
    let was = before.checkpoint.size;
    if roots.get(&was) == Some(&before.checkpoint.root) {
        let told = format!(
            "{size} entries lead to the signed root, and begin with the {was} of the last audit"
        );
        return Ok(Ok(told));
    }
    let file = keep_fork(source, (log, origin), (head, before), trust)?;
    Ok(Err(format!(
        "FORK: it does not begin with the {was} entries of the last audit; {file} proves it"
    )))
}

fn resource(
    source: &mut Source,
    log: Log,
    path: &str,
    fault: &mut Option<CliError>,
) -> Result<Vec<u8>, String> {
    match source.fixed(&format!("log/{}/{path}", log.word())) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err("it is not there".to_owned()),
        Err(error) => {
            let told = error.to_string();
            *fault = Some(error);
            Err(told)
        }
    }
}

/// Writes down that the operator has signed two trees of which none is the beginning of the other.
fn keep_fork(
    source: &mut Source,
    (log, origin): (Log, &str),
    (head, before): (&Head, &Head),
    trust: &Trust,
) -> Result<String, CliError> {
    let (old, size) = (before.checkpoint.size, head.checkpoint.size);
    let mut beginning = Vec::new();
    if old < size {
        let mut fault = None;
        let get = |path: &str| resource(source, log, path, &mut fault);
        let mut tiled = Tiled::new(get, size);
        let found: Result<(), ReadError> = (|| {
            if old.is_power_of_two() {
                beginning.push(tiled.subtree(old.ilog2())?);
            }
            beginning.extend(tiled.consistency(old)?);
            Ok(())
        })();
        found.map_err(|e| CliError::CheckFailed(format!("the log has forked, and {e}")))?;
    }
    let key = VerifierKey::of_log(origin, trust.key);
    let key = key.ok_or_else(|| CliError::CheckFailed("the log has forked".to_owned()))?;
    let evidence = Evidence::operator_fork(
        &key,
        &before.note.to_text(),
        &head.note.to_text(),
        &beginning,
    );
    let file = source.keep(&format!("fork-{}.json", log.word()), &evidence.to_text())?;
    Ok(file.display().to_string())
}

/// Whether the ledger has taken in the other logs' checkpoints: those of the last audit by all means, those
/// that are served now as far as the ledger's own checkpoint reaches.
fn linked(
    logs: &Logs,
    heads: &[(Log, Head)],
    earlier: &[(Log, Head)],
    findings: &mut Vec<Finding>,
) {
    let has = |head: &Head| {
        let entry = Entry::new(
            Kind::Checkpoint,
            Timestamp::EPOCH,
            PUBLIC,
            head.own.as_bytes(),
        );
        logs.checkpoints.contains(&entry.commitment)
    };
    let others = |heads: &'_ [(Log, Head)]| -> Vec<(Log, bool)> {
        let others = heads.iter().filter(|(log, _)| *log != Log::Ledger);
        others.map(|(log, head)| (*log, has(head))).collect()
    };
    for (log, found) in others(heads) {
        let was = others(earlier).into_iter().find(|(of, _)| *of == log);
        let finding = match (found, was) {
            (_, Some((_, false))) => {
                Err("its checkpoint of the last audit is still not in the ledger log".to_owned())
            }
            (true, _) => Ok("its checkpoint is in the ledger log".to_owned()),
            (false, _) => Ok(
                "the ledger's checkpoint does not reach so far yet: audit again later".to_owned(),
            ),
        };
        findings.push((format!("{} link", log.word()), finding));
    }
}
