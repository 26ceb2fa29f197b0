//! Tables of a run: columns that say their unit, written row by row as CSV, or as Parquet with the
//! feature `tables`. Values are integers in the unit that the column's name ends with.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use domain::ids::to_hex;
use domain::time::Timestamp;
use sha2::{Digest, Sha256};

use super::RunError;

/// Rows that are held before they are written.
pub(super) const ROWS_MAX: usize = 65_536;

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A whole number, or nothing.
    Int,
    /// A number with a fraction, or nothing.
    Real,
    /// Text.
    Text,
    /// An instant in UTC.
    Time,
}

/// A column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name, which ends with the unit.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its unit; empty where there is none.
    pub unit: &'static str,
    /// What it means, with the sign where it has one.
    pub description: &'static str,
}

/// A table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its name: the file's, without ending.
    pub name: &'static str,
    /// What a row is.
    pub about: &'static str,
    /// Its columns; a first one, `run_id`, is the same in all tables.
    pub columns: &'static [Column],
}

/// How tables are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// Comma-separated text.
    Csv,
    /// Parquet with zstd.
    Parquet,
}

impl FileKind {
    /// The best kind that this program can write.
    #[must_use]
    pub const fn best() -> Self {
        if cfg!(feature = "tables") {
            FileKind::Parquet
        } else {
            FileKind::Csv
        }
    }

    /// The ending of such files.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            FileKind::Csv => "csv",
            FileKind::Parquet => "parquet",
        }
    }
}

/// One value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Cell<'a> {
    Int(i64),
    Real(f64),
    Text(&'a str),
    Time(i64),
    Missing,
}

/// The values of a column of the rows at hand.
pub(super) enum Data {
    Int(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    /// All texts in one, and where each ends.
    Text(String, Vec<usize>),
    Time(Vec<i64>),
}

impl Data {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Int => Data::Int(Vec::new()),
            Kind::Real => Data::Real(Vec::new()),
            Kind::Text => Data::Text(String::new(), Vec::new()),
            Kind::Time => Data::Time(Vec::new()),
        }
    }

    /// A value of another kind than the column's counts as missing; a test pushes every table once.
    fn push(&mut self, cell: Cell<'_>) -> bool {
        match (self, cell) {
            (Data::Int(list), Cell::Int(value)) => list.push(Some(value)),
            (Data::Real(list), Cell::Real(value)) => list.push(Some(value)),
            (Data::Int(list), Cell::Missing) => list.push(None),
            (Data::Real(list), Cell::Missing) => list.push(None),
            (Data::Text(all, ends), Cell::Text(text)) => {
                all.push_str(text);
                ends.push(all.len());
            }
            (Data::Text(all, ends), Cell::Missing) => ends.push(all.len()),
            (Data::Time(list), Cell::Time(value)) => list.push(value),
            _ => return false,
        }
        true
    }

    /// The text of a row.
    pub(super) fn text<'d>(all: &'d str, ends: &[usize], row: usize) -> &'d str {
        let from = row.checked_sub(1).map_or(0, |before| ends[before]);
        &all[from..ends[row]]
    }
}

/// A file whose bytes are hashed as they are written.
#[derive(Clone)]
pub(super) struct HashedFile {
    inner: Arc<Mutex<(BufWriter<File>, Sha256, u64)>>,
}

impl HashedFile {
    pub(super) fn create(path: &Path) -> Result<Self, RunError> {
        let file = File::create(path).map_err(|e| RunError::file(path, &e))?;
        let inner = (BufWriter::with_capacity(1 << 20, file), Sha256::new(), 0);
        Ok(HashedFile {
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    /// SHA-256 and length of what was written; all of it is on disk then.
    pub(super) fn finish(&self) -> std::io::Result<(String, u64)> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0.flush()?;
        inner.0.get_ref().sync_all()?;
        let digest: [u8; 32] = inner.1.clone().finalize().into();
        Ok((to_hex(&digest), inner.2))
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0.write_all(bytes)?;
        inner.1.update(bytes);
        inner.2 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0.flush()
    }
}

/// What writes rows into a file.
pub(super) trait Sink: Send {
    /// Writes `count` rows.
    fn write(&mut self, columns: &[Data], count: usize) -> Result<(), String>;
    /// Writes what belongs at the end.
    fn finish(&mut self) -> Result<(), String>;
}

/// A file of a finished table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The file's name.
    pub file: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
}

/// A table that is being written.
pub(super) struct TableWriter {
    table: &'static Table,
    run_id: String,
    columns: Vec<Data>,
    held: usize,
    rows: u64,
    file: HashedFile,
    name: String,
    /// None once it has failed.
    sink: Option<Background>,
}

/// What writes a table, on a thread of its own: encoding and compressing takes as long as making the rows does. Rows
/// come in order, one group waits and one is written, so the bytes are the same and memory has a bound.
struct Background {
    groups: SyncSender<(Vec<Data>, usize)>,
    thread: JoinHandle<Result<(), String>>,
}

impl Background {
    fn new(mut sink: Box<dyn Sink>) -> Self {
        let (groups, next) = sync_channel::<(Vec<Data>, usize)>(1);
        let thread = std::thread::spawn(move || {
            while let Ok((columns, count)) = next.recv() {
                sink.write(&columns, count)?;
            }
            sink.finish()
        });
        Background { groups, thread }
    }

    /// What it said when it ended.
    fn join(self) -> Result<(), String> {
        drop(self.groups);
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err("the thread that writes it has panicked".to_owned()))
    }
}

impl TableWriter {
    /// Begins a table in a folder.
    pub(super) fn create(
        folder: &Path,
        table: &'static Table,
        kind: FileKind,
        run_id: &str,
        zone: &str,
    ) -> Result<Self, RunError> {
        let name = format!("{}.{}", table.name, kind.ending());
        let file = HashedFile::create(&folder.join(&name))?;
        let columns = std::iter::once(Kind::Text).chain(table.columns.iter().map(|c| c.kind));
        let sink: Box<dyn Sink> = match kind {
            FileKind::Csv => Box::new(Csv::new(table, file.clone())),
            #[cfg(feature = "tables")]
            FileKind::Parquet => Box::new(
                super::parquet::Parquet::new(table, file.clone(), zone)
                    .map_err(|e| RunError::Write(format!("{name}: {e}")))?,
            ),
            #[cfg(not(feature = "tables"))]
            FileKind::Parquet => {
                return Err(RunError::bad(format!(
                    "{zone}: this program was built without Parquet: build it with `--features tables`, or take CSV"
                )));
            }
        };
        Ok(TableWriter {
            table,
            run_id: run_id.to_owned(),
            columns: columns.map(Data::new).collect(),
            held: 0,
            rows: 0,
            file,
            name,
            sink: Some(Background::new(sink)),
        })
    }

    /// Adds a row; `cells` are those of the table's columns.
    pub(super) fn push(&mut self, cells: &[Cell<'_>]) -> Result<(), RunError> {
        let fits = self.columns[0].push(Cell::Text(&self.run_id))
            && cells.len() == self.table.columns.len()
            && (self.columns[1..].iter_mut().zip(cells)).all(|(column, cell)| column.push(*cell));
        if !fits {
            return Err(RunError::Write(format!(
                "{}: a row that is not of this table",
                self.name
            )));
        }
        self.held += 1;
        if self.held >= ROWS_MAX {
            self.write()?;
        }
        Ok(())
    }

    /// Hands the rows at hand to the writer.
    fn write(&mut self) -> Result<(), RunError> {
        let kinds = std::iter::once(Kind::Text).chain(self.table.columns.iter().map(|c| c.kind));
        let fresh = kinds.map(Data::new).collect();
        let group = (std::mem::replace(&mut self.columns, fresh), self.held);
        self.rows += self.held as u64;
        self.held = 0;
        let sent = self.sink.as_ref().map(|sink| sink.groups.send(group));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => self.join(),
        }
    }

    /// Waits for the writer to end.
    fn join(&mut self) -> Result<(), RunError> {
        let ended = match self.sink.take() {
            Some(sink) => sink.join(),
            None => Err("it has failed before".to_owned()),
        };
        ended.map_err(|e| RunError::Write(format!("{}: {e}", self.name)))
    }

    /// Ends the table.
    pub(super) fn finish(mut self) -> Result<Written, RunError> {
        self.write()?;
        self.join()?;
        let (sha256, bytes) = self
            .file
            .finish()
            .map_err(|e| RunError::Write(format!("{}: {e}", self.name)))?;
        Ok(Written {
            file: self.name,
            sha256,
            bytes,
            rows: self.rows,
        })
    }
}

/// Writes a table's CSV once more, as another kind of file in a folder: what an export kept of it, say.
///
/// # Errors
/// The text is not of this table, or the file cannot be written.
pub fn rewrite(
    csv: &str,
    table: &'static Table,
    kind: FileKind,
    folder: &Path,
    (run_id, zone): (&str, &str),
) -> Result<Written, RunError> {
    let mut writer = TableWriter::create(folder, table, kind, run_id, zone)?;
    let wrong = |what: String| RunError::Write(format!("{}.csv: {what}", table.name));
    for (number, record) in csv::Reader::from_reader(csv.as_bytes())
        .records()
        .enumerate()
    {
        let record = record.map_err(|e| wrong(e.to_string()))?;
        let mut cells = Vec::with_capacity(table.columns.len());
        // The first field is the run's id.
        for (column, text) in table.columns.iter().zip(record.iter().skip(1)) {
            let cell = cell_of(column.kind, text);
            let what = || wrong(format!("row {}: {} is `{text}`", number + 1, column.name));
            cells.push(cell.ok_or_else(what)?);
        }
        writer.push(&cells)?;
    }
    writer.finish()
}

/// A field as what its column holds.
fn cell_of(kind: Kind, text: &str) -> Option<Cell<'_>> {
    match kind {
        Kind::Text => Some(Cell::Text(text)),
        Kind::Time => Some(Cell::Time(text.parse::<Timestamp>().ok()?.unix_s())),
        _ if text.is_empty() => Some(Cell::Missing),
        Kind::Int => text.parse().ok().map(Cell::Int),
        Kind::Real => text.parse().ok().map(Cell::Real),
    }
}

/// Comma-separated text. Texts are ids and words without commas and quotes, except definitions, which are quoted.
struct Csv {
    file: HashedFile,
    line: String,
    head: Option<String>,
    time: Option<(i64, String)>,
}

impl Csv {
    fn new(table: &Table, file: HashedFile) -> Self {
        let names = std::iter::once("run_id").chain(table.columns.iter().map(|c| c.name));
        Csv {
            file,
            line: String::new(),
            head: Some(names.collect::<Vec<_>>().join(",") + "\n"),
            time: None,
        }
    }

    fn cell(&mut self, column: &Data, row: usize) {
        match column {
            Data::Int(list) => {
                if let Some(value) = list[row] {
                    let _ = write!(self.line, "{value}");
                }
            }
            Data::Real(list) => {
                if let Some(value) = list[row] {
                    let _ = write!(self.line, "{value}");
                }
            }
            Data::Text(all, ends) => self.line.push_str(&csv_text(Data::text(all, ends, row))),
            Data::Time(list) => {
                let at = list[row];
                match &self.time {
                    Some((known, text)) if *known == at => self.line.push_str(text),
                    _ => {
                        let text = Timestamp::from_unix_s(at).to_string();
                        self.line.push_str(&text);
                        self.time = Some((at, text));
                    }
                }
            }
        }
    }
}

/// A text as a field.
pub(super) fn csv_text(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}

impl Sink for Csv {
    fn write(&mut self, columns: &[Data], count: usize) -> Result<(), String> {
        self.line = self.head.take().unwrap_or_default();
        for row in 0..count {
            for (place, column) in columns.iter().enumerate() {
                if place > 0 {
                    self.line.push(',');
                }
                self.cell(column, row);
            }
            self.line.push('\n');
        }
        let bytes = std::mem::take(&mut self.line);
        self.file
            .write_all(bytes.as_bytes())
            .map_err(|e| e.to_string())
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table {
        name: "small",
        about: "one of each",
        columns: &[
            Column {
                name: "start",
                kind: Kind::Time,
                unit: "UTC",
                description: "",
            },
            Column {
                name: "home",
                kind: Kind::Text,
                unit: "",
                description: "",
            },
            Column {
                name: "energy_wh",
                kind: Kind::Int,
                unit: "Wh",
                description: "",
            },
            Column {
                name: "share",
                kind: Kind::Real,
                unit: "",
                description: "",
            },
        ],
    };

    #[test]
    fn rows_become_lines_and_the_hash_is_of_the_file() {
        let folder = std::env::temp_dir().join(format!("commonwatt-table-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let filled = || {
            let mut table =
                TableWriter::create(&folder, &TABLE, FileKind::Csv, "r1", "UTC").unwrap();
            table
                .push(&[
                    Cell::Time(0),
                    Cell::Text("a, \"b\""),
                    Cell::Int(-5),
                    Cell::Real(0.25),
                ])
                .unwrap();
            table
                .push(&[
                    Cell::Time(900),
                    Cell::Text("c"),
                    Cell::Missing,
                    Cell::Missing,
                ])
                .unwrap();
            table
        };
        let mut table = filled();
        assert!(
            table.push(&[Cell::Time(900)]).is_err(),
            "a short row was taken"
        );
        drop(table);
        let written = filled().finish().unwrap();
        let text = std::fs::read_to_string(folder.join("small.csv")).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            text,
            "run_id,start,home,energy_wh,share\n\
             r1,1970-01-01T00:00:00Z,\"a, \"\"b\"\"\",-5,0.25\n\
             r1,1970-01-01T00:15:00Z,c,,\n"
        );
        std::fs::create_dir_all(&folder).unwrap();
        let again = rewrite(&text, &TABLE, FileKind::Csv, &folder, ("r1", "UTC")).unwrap();
        assert_eq!(again, written, "read and written again it is the same");
        let strange = text.replace("-5", "five");
        let said = rewrite(&strange, &TABLE, FileKind::Csv, &folder, ("r1", "UTC"));
        assert!(
            said.unwrap_err()
                .to_string()
                .contains("row 1: energy_wh is `five`")
        );
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((written.rows, written.bytes), (2, text.len() as u64));
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        assert_eq!(written.sha256, to_hex(&digest));
    }
}
