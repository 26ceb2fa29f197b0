//! Data sets on disk: a folder with `dataset.toml`, which says where the data is from and what its columns are.
//!
//! [`Manifest`] is that file. [`check`] holds the files against it: their hashes, the names of their columns, whole
//! numbers, and stamps that follow each other by the interval. [`generate`] makes data of our own.

pub mod generate;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::import::rows::Rows;
use crate::import::stamp::instant_s;
use crate::import::{Column, Source, Table};

/// The name of the file that describes a data set.
pub const MANIFEST: &str = "dataset.toml";

/// Most folders that are looked at.
const DATASETS_MAX: usize = 1_000;

/// Problems of one data set that are told; more would say nothing new.
const PROBLEMS_MAX: usize = 20;

/// What a data set says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name, which is its folder's.
    pub name: String,
    /// What it is, in a sentence.
    pub title: String,
    /// Where the data comes from.
    pub origin: String,
    /// Under which licence it may be used.
    pub licence: String,
    /// The command that made the files.
    pub generated_by: String,
    /// Length of an interval; none where rows are no intervals (sessions).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<u32>,
    /// The files.
    pub files: Vec<DataFile>,
    /// The columns of the CSV file, in order.
    pub columns: Vec<ColumnMeaning>,
}

/// A file of a data set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Its name in the folder.
    pub path: String,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// What a column means.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnMeaning {
    /// Its name in the file.
    pub name: String,
    /// The unit of its numbers.
    pub unit: String,
    /// What positive numbers mean.
    pub sign: String,
}

/// Why a data set cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A manifest is not what it should be.
    #[error("{}: {what}", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

fn read(path: &Path) -> Result<Vec<u8>, DatasetError> {
    std::fs::read(path).map_err(|error| DatasetError::Unreadable {
        path: path.to_owned(),
        error,
    })
}

/// SHA-256 in hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Manifest {
    /// Reads the manifest of a data set's folder.
    ///
    /// # Errors
    /// It is not there or not what it should be.
    pub fn read(folder: &Path) -> Result<Manifest, DatasetError> {
        let path = folder.join(MANIFEST);
        let text = String::from_utf8_lossy(&read(&path)?).into_owned();
        toml::from_str(&text).map_err(|error| DatasetError::Manifest {
            what: error.to_string().trim_end().to_owned(),
            path,
        })
    }

    /// Size of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The manifest as it is written.
    ///
    /// Written by hand, in the order that people read, since the reader's crate is built without its writer.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (key, value) in [
            ("name", &self.name),
            ("title", &self.title),
            ("origin", &self.origin),
            ("licence", &self.licence),
            ("generated_by", &self.generated_by),
        ] {
            let _ = writeln!(text, "{key} = {}", toml_string(value));
        }
        if let Some(interval_s) = self.interval_s {
            let _ = writeln!(text, "interval_s = {interval_s}");
        }
        for file in &self.files {
            let _ = writeln!(
                text,
                "\n[[files]]\npath = {}\nsha256 = \"{}\"\nbytes = {}",
                toml_string(&file.path),
                file.sha256,
                file.bytes
            );
        }
        for column in &self.columns {
            let _ = writeln!(
                text,
                "\n[[columns]]\nname = {}\nunit = {}\nsign = {}",
                toml_string(&column.name),
                toml_string(&column.unit),
                toml_string(&column.sign)
            );
        }
        text
    }
}

/// A basic string of TOML.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// What a table's columns mean.
#[must_use]
pub fn columns_of(table: &Table) -> Vec<ColumnMeaning> {
    let stamp = ColumnMeaning {
        name: "start_utc".to_owned(),
        unit: "RFC 3339, UTC".to_owned(),
        sign: "start of the half-open interval".to_owned(),
    };
    let meaning = |column: &Column| ColumnMeaning {
        name: column.name(),
        unit: column.quantity.unit().to_owned(),
        sign: column.quantity.sign().to_owned(),
    };
    std::iter::once(stamp)
        .chain(table.columns.iter().map(meaning))
        .collect()
}

/// The folders with a manifest in a folder, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn folders(root: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let unreadable = |error| DatasetError::Unreadable {
        path: root.to_owned(),
        error,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root)
        .map_err(unreadable)?
        .take(DATASETS_MAX)
    {
        let folder = entry.map_err(unreadable)?.path();
        if folder.join(MANIFEST).is_file() {
            found.push(folder);
        }
    }
    found.sort();
    Ok(found)
}

/// Holds a data set's files against its manifest; what is wrong, in sentences. Nothing is wrong where there are none.
///
/// # Errors
/// The manifest cannot be read.
pub fn check(folder: &Path) -> Result<Vec<String>, DatasetError> {
    let manifest = Manifest::read(folder)?;
    let mut problems = Vec::new();
    let own = folder.file_name().and_then(|name| name.to_str());
    if own != Some(manifest.name.as_str()) {
        problems.push(format!(
            "name is {:?}, but the folder is {own:?}",
            manifest.name
        ));
    }
    if manifest.files.is_empty() {
        problems.push("it has no [[files]]".to_owned());
    }
    for file in &manifest.files {
        if file.path.contains(['/', '\\']) || file.path.starts_with("..") {
            problems.push(format!("{}: files lie in the folder itself", file.path));
            continue;
        }
        let bytes = match read(&folder.join(&file.path)) {
            Ok(bytes) => bytes,
            Err(error) => {
                problems.push(error.to_string());
                continue;
            }
        };
        let (found, wanted) = (sha256_hex(&bytes), file.sha256.to_lowercase());
        if found != wanted {
            problems.push(format!(
                "{}: SHA-256 is {found}, and {MANIFEST} says {wanted}: the file was changed",
                file.path
            ));
        }
        if u64::try_from(bytes.len()) != Ok(file.bytes) {
            problems.push(format!(
                "{}: has {} bytes and not {}",
                file.path,
                bytes.len(),
                file.bytes
            ));
        }
        if Path::new(&file.path)
            .extension()
            .is_some_and(|e| e == "csv")
        {
            rows_problems(&manifest, &file.path, &bytes, &mut problems);
        }
    }
    problems.truncate(PROBLEMS_MAX);
    Ok(problems)
}

/// What is wrong with the rows of a CSV file.
fn rows_problems(manifest: &Manifest, name: &str, text: &[u8], problems: &mut Vec<String>) {
    let rows = match Rows::open(Source { name, text }, b',', 0) {
        Ok(rows) => rows,
        Err(error) => return problems.push(error.to_string()),
    };
    let wanted: Vec<&str> = manifest.columns.iter().map(|c| c.name.as_str()).collect();
    let found: Vec<&str> = rows.header().iter().collect();
    if found != wanted {
        problems.push(format!(
            "{name}: its columns are {}, and {MANIFEST} describes {}",
            found.join(", "),
            wanted.join(", ")
        ));
        return;
    }
    let (width, mut last_s) = (found.len(), None);
    let Some(interval_s) = manifest.interval_s.map(i64::from) else {
        problems.extend(
            rows.filter_map(|row| row.err().map(|e| e.to_string()))
                .take(1),
        );
        return;
    };
    for row in rows {
        let row = match row {
            Ok(row) => row,
            Err(error) => return problems.push(error.to_string()),
        };
        let start_s = instant_s(row.cell(0));
        let follows = match (start_s, last_s) {
            (None, _) => false,
            (Some(start_s), None) => start_s % interval_s == 0,
            (Some(start_s), Some(last_s)) => start_s - last_s == interval_s,
        };
        if !follows {
            let what = format!("{:?} does not follow by {interval_s} s", row.cell(0));
            problems.push(row.wrong(what).to_string());
        }
        let whole = |cell: &str| cell.is_empty() || cell.parse::<i64>().is_ok();
        if let Some(column) = (1..width).find(|column| !whole(row.cell(*column))) {
            let what = format!("{:?} is no whole number", row.cell(column));
            problems.push(row.wrong(what).to_string());
        }
        if problems.len() >= PROBLEMS_MAX {
            return;
        }
        last_s = start_s.or(last_s);
    }
}
