//! Which descriptions were given to Home Assistant: its broker keeps them for ever, so those of a
//! device that is gone must be taken back, also when it was removed while the gateway stood still.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use runtime::durable;
use serde::{Deserialize, Serialize};

/// Most topics that are taken back again at every connection; the first ones by name are.
const GONE_MAX: usize = 1000;
/// Name of the file in the data folder.
const FILE: &str = "home-assistant.json";
const FILE_MODE: u32 = 0o600;

/// The topics.
#[derive(Debug)]
pub(super) struct Remembered {
    dir: PathBuf,
    topics: Topics,
}

/// The topics, as they are in the file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Topics {
    shown: BTreeSet<String>,
    gone: BTreeSet<String>,
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Whether anything was ever shown from this data folder.
pub(crate) fn was_used(dir: &Path) -> bool {
    path(dir).exists()
}

impl Remembered {
    /// What was shown from this data folder before.
    pub(super) fn open(dir: &Path) -> Self {
        let topics = read(dir).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(
                    "{}: {error}; values of devices that were removed may stay in Home Assistant",
                    path(dir).display()
                );
            }
            Topics::default()
        });
        Remembered {
            dir: dir.to_owned(),
            topics,
        }
    }

    /// Whether a topic is shown.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.topics.shown.contains(topic)
    }

    /// Notes durably that these are about to be shown, and whatever else was shown is gone.
    pub(super) fn show_only(&mut self, shown: BTreeSet<String>) {
        let before = std::mem::take(&mut self.topics);
        let gone = before.shown.into_iter().chain(before.gone);
        let gone: BTreeSet<String> = gone.filter(|topic| !shown.contains(topic)).collect();
        let gone = gone.into_iter().take(GONE_MAX).collect();
        self.topics = Topics { shown, gone };
        self.write();
    }

    /// Notes durably that these are about to be shown too.
    pub(super) fn show(&mut self, topics: impl Iterator<Item = String>) {
        for topic in topics {
            self.topics.gone.remove(&topic);
            self.topics.shown.insert(topic);
        }
        self.write();
    }

    fn write(&self) {
        let text = serde_json::to_string(&self.topics).map_err(io::Error::from);
        let written = text.and_then(|text| durable::write(&path(&self.dir), &text, FILE_MODE));
        if let Err(error) = written {
            tracing::warn!(
                "cannot write {}: {error}; devices that are removed later may stay in Home Assistant",
                path(&self.dir).display()
            );
        }
    }

    /// The topics to be taken back.
    pub(super) fn gone(&self) -> impl Iterator<Item = &str> {
        self.topics.gone.iter().map(String::as_str)
    }
}

fn read(dir: &Path) -> io::Result<Topics> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path(dir))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_known_after_a_restart_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let set = |topics: &[&str]| topics.iter().map(|t| (*t).to_owned()).collect();
        let start = |topics: &[&str]| {
            let mut remembered = Remembered::open(dir.path());
            remembered.show_only(set(topics));
            remembered
        };
        let gone = |remembered: &Remembered| remembered.gone().collect::<Vec<_>>().join(" ");
        assert!(!was_used(dir.path()));
        assert_eq!(gone(&start(&["a", "b"])), "");
        assert_eq!(gone(&start(&["b"])), "a");
        let mut all = start(&[]);
        assert_eq!(gone(&all), "a b");
        all.show(["a".to_owned()].into_iter());
        assert!(Remembered::open(dir.path()).has("a"));
        assert_eq!(gone(&start(&["a"])), "b");
        assert!(was_used(dir.path()));
    }
}
