//! `commonwatt participant`: a participant's own key, changed by who keeps it. The platform is told by an introduction,
//! signed by the new key and by the one that vouches for it: the key before, or that of a claim code.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::ids::{CommunityId, ParticipantId};
use domain::introduction::{Introduction, KeyRequest};
use domain::key_holder::KeyHolder;
use domain::key_record::KeyRecord;
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use runtime::clock::Clock;
use runtime::{durable, key_file};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::gateway::claim_code;
use super::http::{Client, is_to_wait};
use super::{CliError, Format, print_data};
use crate::platform::{beside, next_of};

/// Most refused keys that are kept beside a participant's key.
const REFUSED_MAX: u32 = 1000;

/// Change the key with which a participant signs orders.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make the next key; the key before vouches for it, and signs nothing any more.
    RotateKey(RotateArgs),
    /// Let a key in with the code that `commonwatt keys claim` printed.
    Enrol(EnrolArgs),
}

/// Whose key, and where.
#[derive(clap::Args)]
struct Own {
    /// The platform's page, as `commonwatt serve` prints it.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The participant, as site.toml calls it.
    #[arg(long)]
    participant: ParticipantId,
    /// The participant's key file; the platform's own copy is `participants/<name>.key` in its data folder.
    #[arg(long)]
    key: PathBuf,
    /// The community; the platform is asked where none is named.
    #[arg(long)]
    community: Option<CommunityId>,
    /// How to print the answer.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt participant rotate-key --participant home-03 --key data/participants/home-03.key\n\n\
    The next key is made beside the file (home-03.key.next), and takes its place once the platform has enrolled it; the \
    key before is kept as home-03.key.before. If the platform cannot be reached, or has let in as many keys of the home \
    as it lets in in a day, the same command goes on later; with --community the next key is made without it. What the key \
    before has signed stays valid, and is verified by it."
)]
struct RotateArgs {
    #[command(flatten)]
    own: Own,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt participant enrol --participant home-03 --key home-03.key --claim -\n\n\
    The key is made where the file has none. It takes the place of the participant's key before, whose file is not needed: \
    the operator makes a code where a key is lost or was stolen. If the platform cannot be reached the same command goes \
    on later, without a code."
)]
struct EnrolArgs {
    #[command(flatten)]
    own: Own,
    /// The code that `commonwatt keys claim` printed; `-` reads it from the standard input.
    #[arg(long)]
    claim: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.command {
        Command::RotateKey(args) => rotate(&args.own),
        Command::Enrol(args) => enrol(args),
    }
}

/// What waits for the platform's answer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    key: String,
    introduction: String,
}

fn rotate(own: &Own) -> Result<(), CliError> {
    if own.waiting()?.is_none() {
        let old = own.read()?;
        let (community, now) = own.about()?;
        // A next key that was left behind has signed nothing, and is as good as a new one.
        let next = key_file::open(&next_of(&own.key)).map_err(|e| anyhow!(e))?;
        own.introduce(&community, &next, &old, now)?;
    }
    own.send()
}

fn enrol(args: &EnrolArgs) -> Result<(), CliError> {
    let own = &args.own;
    if own.waiting()?.is_none() {
        let Some(typed) = args.claim.clone() else {
            let why = "--claim: nothing waits to be sent, so it takes the code that `commonwatt keys claim` printed";
            return Err(CliError::BadInput(why.to_owned()));
        };
        let code = claim_code(typed)?;
        let (community, now) = own.about()?;
        let key = key_file::open(&own.key).map_err(|e| anyhow!(e))?;
        let claim = code.key(&community, &own.holder());
        own.introduce(&community, &key, &claim, now)?;
    }
    own.send()
}

impl Own {
    fn introduction(&self) -> PathBuf {
        beside(&self.key, ".introduction")
    }

    fn holder(&self) -> KeyHolder {
        self.participant.clone().into()
    }

    fn read(&self) -> Result<SigningKey, CliError> {
        let key = key_file::read(&self.key);
        key.map_err(|error| CliError::BadInput(format!("--key: {error}")))
    }

    /// The community and the platform's time; without the platform this computer's.
    fn about(&self) -> Result<(CommunityId, Timestamp), CliError> {
        match &self.community {
            Some(community) => Ok((community.clone(), Clock::system().now())),
            None => Client::new(&self.url).about(),
        }
    }

    /// The next key, if it has this name.
    fn next(&self, key: &str) -> Option<SigningKey> {
        let next = key_file::read(&next_of(&self.key)).ok()?;
        (PublicKey::of(&next).id().to_string() == key).then_some(next)
    }

    fn waiting(&self) -> Result<Option<Waiting>, CliError> {
        let path = self.introduction();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(anyhow!("cannot read {}: {error}", path.display()).into()),
        };
        let waiting = serde_json::from_str(&text);
        let waiting = waiting.with_context(|| format!("{} is damaged: remove it", path.display()));
        Ok(Some(waiting?))
    }

    /// Writes down what is to be sent: the request signed by the new key, and that signed by the one that vouches.
    fn introduce(
        &self,
        community: &CommunityId,
        new: &SigningKey,
        introducer: &SigningKey,
        now: Timestamp,
    ) -> Result<(), CliError> {
        let key = PublicKey::of(new);
        let request = KeyRequest {
            key,
            holder: self.holder(),
            introducer: PublicKey::of(introducer).id(),
            points: Vec::new(),
            made_at: now,
        };
        let introduction = Introduction {
            key,
            request: Signed::sign(new, community, &request),
        };
        let signed = Signed::sign(introducer, community, &introduction);
        let waiting = Waiting {
            key: key.id().to_string(),
            introduction: STANDARD.encode(signed.as_bytes()),
        };
        let path = self.introduction();
        let text = serde_json::to_string(&waiting).unwrap_or_default() + "\n";
        let written = durable::write(&path, &text, 0o600);
        Ok(written.with_context(|| format!("cannot write {}", path.display()))?)
    }

    /// Introduces the key that waits, and puts it in its place once it is enrolled.
    fn send(&self) -> Result<(), CliError> {
        let waiting = self.waiting()?.context("nothing waits to be sent")?;
        let bytes = STANDARD.decode(&waiting.introduction);
        let bytes = bytes.context("the introduction that waits is damaged: remove it")?;
        let answer = Client::new(&self.url).post("/api/v1/keys/introductions", &bytes);
        let answer = answer.map_err(|error| self.unsent(error))?;
        let record = answer["record"].as_str().unwrap_or_default();
        self.is_enrolled(record, &waiting.key)?;
        self.promote(&waiting.key)?;
        let (participant, key) = (&self.participant, &waiting.key);
        print_data(&match self.format {
            Format::Json => format!(
                "{:#}\n",
                json!({ "participant": participant.as_str(), "key": key })
            ),
            Format::Csv => format!("participant,key\n{participant},{key}\n"),
            Format::Table => format!(
                "key {key} of {participant} is enrolled and in {}; the key before signs nothing any more\n",
                self.key.display()
            ),
        })
    }

    /// A refused introduction waits no longer; one that was not heard, or comes too early, does.
    fn unsent(&self, error: CliError) -> CliError {
        if is_to_wait(&error) {
            let waits =
                "the new key waits, and nothing else has changed: run the same command again then";
            return anyhow!("{error}; {waits}").into();
        }
        let CliError::CheckFailed(why) = error else {
            eprintln!(
                "The new key waits: run the same command again when the platform can be reached."
            );
            return error;
        };
        let done = (|| {
            fs::remove_file(self.introduction())?;
            match next_of(&self.key).exists() {
                true => put_next_aside(&self.key),
                false => Ok(()),
            }
        })();
        match done {
            Ok(()) => CliError::CheckFailed(why),
            Err(error) => anyhow!("{why}; and the files could not be put aside: {error}").into(),
        }
    }

    /// Whether the record is one of the key that waits, for this participant.
    fn is_enrolled(&self, record: &str, key: &str) -> Result<(), CliError> {
        let bytes = STANDARD.decode(record).unwrap_or_default();
        let record = Signed::<KeyRecord>::from_bytes(bytes).claimed().ok();
        let fits = record.is_some_and(|record| {
            record.key.id().to_string() == key && KeyHolder::from(&record.holder) == self.holder()
        });
        match fits {
            true => Ok(()),
            false => Err(anyhow!("the platform at {} gives no record of the key", self.url).into()),
        }
    }

    /// Puts a next key in the place of the one before, which is kept beside it.
    fn promote(&self, key: &str) -> Result<(), CliError> {
        let is_next = self.next(key).is_some();
        let done = (|| {
            if is_next {
                // A hard link, so that at no time there is no key here.
                let before = beside(&self.key, ".before");
                if before.exists() {
                    fs::remove_file(&before)?;
                }
                fs::hard_link(&self.key, before)?;
                fs::rename(next_of(&self.key), &self.key)?;
            }
            fs::remove_file(self.introduction())?;
            let folder = self.key.parent().filter(|dir| !dir.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        })();
        let shown = self.key.display();
        Ok(done.with_context(|| {
            format!("the new key is enrolled, and cannot be put in the place of {shown}")
        })?)
    }
}

/// Moves the next key to the first name that no refused key has: nothing that was a key is written over.
fn put_next_aside(key: &Path) -> io::Result<()> {
    let next = next_of(key);
    for number in 1..=REFUSED_MAX {
        let end = match number {
            1 => ".refused".to_owned(),
            _ => format!(".refused-{number}"),
        };
        // A hard link fails where the name is taken, also by who comes at the same time; renaming would not.
        match fs::hard_link(&next, beside(key, &end)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Ok(()) => return fs::remove_file(&next),
            Err(error) => return Err(error),
        }
    }
    let (next, why) = (next.display(), "refused keys lie beside it already");
    Err(io::Error::other(format!(
        "{next} stays: {REFUSED_MAX} {why}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_key_takes_no_other_refused_keys_place() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("home-03.key");
        fs::write(&key, "the key that counts").unwrap();
        for next in ["first", "second", "third"] {
            fs::write(next_of(&key), next).unwrap();
            put_next_aside(&key).unwrap();
            assert!(!next_of(&key).exists());
        }
        let read = |end| fs::read_to_string(beside(&key, end)).unwrap();
        let kept = [".refused", ".refused-2", ".refused-3"].map(read);
        assert_eq!(kept, ["first", "second", "third"]);
        assert_eq!(read(""), "the key that counts");
        assert!(put_next_aside(&key).is_err(), "there is none");
    }
}
