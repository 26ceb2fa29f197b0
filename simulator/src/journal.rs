//! The record of what devices were told: one line for each write, on disk before the device answers.
//! Scenario, seed and record together say what every register is, so a restarted street reads it first.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Most writes in a record; after that, devices refuse to be told anything more.
pub const WRITES_MAX: usize = 1_000_000;

/// What of a home is told something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asset {
    /// The charger, by its register's address.
    Charger,
    /// The battery, by the offset in SunSpec model 124.
    Battery,
    /// The inverter, by the offset in SunSpec model 123.
    Inverter,
}

/// A write that a device has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// From which second of unix time on it counts: a boundary of the world's steps.
    pub at_s: i64,
    /// Position of the home in the scenario.
    pub home: usize,
    /// Which device.
    pub asset: Asset,
    /// Which register.
    pub register: u16,
    /// What was written.
    pub word: u16,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("the record of what devices were told, {}, cannot be used: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A line is not a write.
    #[error(
        "line {line} of {} is damaged: {source}; delete the file to start a street without its record",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// [`WRITES_MAX`] is reached.
    #[error("the record of what devices were told is full")]
    Full,
}

/// A record, open for more.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    writes: usize,
}

impl Journal {
    /// Opens the record, makes it where there is none, and gives what it holds. Half a line at its end
    /// is the write of a process that was killed before its device could answer: it never happened.
    ///
    /// # Errors
    /// The file cannot be used, or a line in it is damaged.
    pub fn open(path: &Path) -> Result<(Journal, Vec<Told>), JournalError> {
        let failed = |source| JournalError::File {
            path: path.to_owned(),
            source,
        };
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            // A usize is at most 64 bits wide.
            let length = u64::try_from(whole).unwrap_or(u64::MAX);
            file.set_len(length).map_err(failed)?;
        }
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let lines = text[..whole].lines().enumerate();
        let told = lines.map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| JournalError::Damaged {
                path: path.to_owned(),
                line: index + 1,
                source,
            })
        });
        let told = told.collect::<Result<Vec<Told>, _>>()?;
        let journal = Journal {
            path: path.to_owned(),
            file,
            writes: told.len(),
        };
        Ok((journal, told))
    }

    /// Adds writes; they are on disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written, or is full; then the writes must not happen.
    pub fn add(&mut self, told: &[Told]) -> Result<(), JournalError> {
        if self.writes + told.len() > WRITES_MAX {
            return Err(JournalError::Full);
        }
        let mut lines = String::new();
        for one in told {
            // Numbers and words only: nothing in it that JSON cannot say.
            lines += &serde_json::to_string(one).unwrap_or_default();
            lines.push('\n');
        }
        let written = self.file.write_all(lines.as_bytes());
        let written = written.and_then(|()| self.file.sync_data());
        written.map_err(|source| JournalError::File {
            path: self.path.clone(),
            source,
        })?;
        self.writes += told.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(at_s: i64) -> Told {
        Told {
            at_s,
            home: 2,
            asset: Asset::Charger,
            register: 5004,
            word: 10_000,
        }
    }

    #[test]
    fn a_record_is_read_back_without_the_half_line_of_a_killed_process() {
        let dir = std::env::temp_dir().join(format!("journal-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("told.jsonl");
        let (mut journal, known) = Journal::open(&path).unwrap();
        assert!(known.is_empty());
        journal.add(&[told(5), told(10)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"at_s\":15,\"ho"].concat()).unwrap();
        let (mut journal, known) = Journal::open(&path).unwrap();
        assert_eq!(known, [told(5), told(10)]);
        journal.add(&[told(15)]).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1.len(), 3);
        std::fs::write(&path, "nonsense\n").unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
