//! Where an audit reads from: a platform or a copy of it in a folder, under the same paths; and the copy that
//! it leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::super::CliError;
use super::super::http::Client;
use super::write;

/// Largest resource that is read: a public book.
const MOST_BYTES: u64 = market_engine::public::BOOK_MAX_BYTES;

/// The folder in a mirror with what was read and is not checked yet. An audit begins without it.
const UNCHECKED: &str = ".unchecked";

/// Whose platform it is.
pub(super) const PLATFORM: &str = "api/v1/platform";

enum From {
    Platform(Client),
    Folder(PathBuf),
}

/// What an audit reads from.
pub(super) struct Source {
    from: From,
    name: String,
    mirror: Option<PathBuf>,
    /// Paths that were read and wait in [`UNCHECKED`]: they enter the mirror only once all holds.
    unchecked: BTreeSet<String>,
    /// Whether something was taken from the mirror as it is.
    used_mirror: bool,
    /// Whether what the mirror has is fetched again; and what of it was another then.
    again: bool,
    damaged: BTreeSet<String>,
    /// Checkpoints that were read: they enter the mirror behind all else.
    checkpoints: BTreeMap<String, Vec<u8>>,
}

impl Source {
    pub(super) fn new(from: &str, mirror: Option<&Path>) -> Result<Self, CliError> {
        let name = from.to_owned();
        let from = match from.contains("://") {
            true => From::Platform(Client::new(from)),
            false if Path::new(from).is_dir() => From::Folder(PathBuf::from(from)),
            false => {
                let why = format!("--log {from}: neither an address (http://…) nor a folder");
                return Err(CliError::BadInput(why));
            }
        };
        if let Some(left) = mirror.map(|mirror| mirror.join(UNCHECKED))
            && left.exists()
        {
            let cannot = || format!("cannot remove {}", left.display());
            std::fs::remove_dir_all(&left).with_context(cannot)?;
        }
        Ok(Source {
            from,
            name,
            mirror: mirror.map(Path::to_owned),
            unchecked: BTreeSet::new(),
            used_mirror: false,
            again: false,
            damaged: BTreeSet::new(),
            checkpoints: BTreeMap::new(),
        })
    }

    /// The bytes at a path; `None` where there is nothing.
    fn fetch(&self, path: &str) -> Result<Option<Vec<u8>>, CliError> {
        match &self.from {
            From::Platform(client) => client.find(&format!("/{path}"), MOST_BYTES),
            From::Folder(folder) => read(&folder.join(path)),
        }
    }

    /// A resource that never changes: from the mirror where that has it, else it is fetched and kept.
    pub(super) fn fixed(&mut self, path: &str) -> Result<Option<Vec<u8>>, CliError> {
        let mut kept = None;
        if let Some(mirror) = &self.mirror {
            if self.unchecked.contains(path) {
                return read(&mirror.join(UNCHECKED).join(path));
            }
            kept = read(&mirror.join(path))?;
            if kept.is_some() && !self.again {
                self.used_mirror = true;
                return Ok(kept);
            }
        }
        let bytes = self.fetch(path)?;
        if let Some(bytes) = &bytes {
            if kept.is_some_and(|kept| kept != *bytes) {
                self.damaged.insert(path.to_owned());
            }
            self.set_aside(path, bytes)?;
        }
        Ok(bytes)
    }

    /// From now on everything is fetched again, what the mirror has too; `false` where nothing came from it.
    pub(super) fn distrust_mirror(&mut self) -> bool {
        self.again = std::mem::take(&mut self.used_mirror);
        if self.again {
            // Who the platform is was asked once.
            self.unchecked.retain(|path| path == PLATFORM);
            self.checkpoints.clear();
        }
        self.again
    }

    /// What of the mirror was another than what was fetched again.
    pub(super) fn damaged(&self) -> Vec<&str> {
        self.damaged.iter().map(String::as_str).collect()
    }

    fn set_aside(&mut self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        if let Some(mirror) = &self.mirror {
            write(&mirror.join(UNCHECKED).join(path), bytes)?;
            self.unchecked.insert(path.to_owned());
        }
        Ok(())
    }

    /// The checkpoint that is served now.
    pub(super) fn checkpoint(&mut self, path: &str) -> Result<String, CliError> {
        let missing = || CliError::BadInput(format!("{}: {path} is not there", self.name));
        let bytes = self.fetch(path)?.ok_or_else(missing)?;
        let text = String::from_utf8(bytes.clone());
        let text = text.map_err(|_| CliError::CheckFailed(format!("{path}: not UTF-8 text")))?;
        self.checkpoints.insert(path.to_owned(), bytes);
        Ok(text)
    }

    /// The checkpoint that an earlier audit has left in the mirror.
    pub(super) fn earlier(&self, path: &str) -> Result<Option<String>, CliError> {
        let Some(mirror) = &self.mirror else {
            return Ok(None);
        };
        let bytes = read(&mirror.join(path))?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// A JSON resource that may change.
    pub(super) fn json(&mut self, path: &str) -> Result<Value, CliError> {
        let bytes = self.fetch(path)?.unwrap_or_default();
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if !value.is_null() {
            self.set_aside(path, &bytes)?;
        }
        Ok(value)
    }

    /// Keeps a file beside the mirror, or where there is none, here.
    pub(super) fn keep(&self, name: &str, text: &str) -> Result<PathBuf, CliError> {
        let folder = self.mirror.clone().unwrap_or_default();
        let file = folder.join(name);
        write(&file, text.as_bytes())?;
        Ok(file)
    }

    /// Takes over what was read, now that all holds, each file whole or not at all.
    pub(super) fn keep_all(&self) -> anyhow::Result<()> {
        let Some(mirror) = &self.mirror else {
            return Ok(());
        };
        let aside = mirror.join(UNCHECKED);
        for path in &self.unchecked {
            move_in(&aside.join(path), &mirror.join(path))?;
        }
        for (path, bytes) in &self.checkpoints {
            write(&aside.join(path), bytes)?;
            move_in(&aside.join(path), &mirror.join(path))?;
        }
        let cannot = || format!("cannot remove {}", aside.display());
        std::fs::remove_dir_all(&aside).with_context(cannot)
    }
}

fn move_in(from: &Path, to: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", to.display());
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(cannot)?;
    }
    std::fs::rename(from, to).with_context(cannot)
}

fn read(file: &Path) -> Result<Option<Vec<u8>>, CliError> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(CliError::BadInput(format!(
            "cannot read {}: {e}",
            file.display()
        ))),
    }
}
