//! Tables of a run: columns that say their unit, written row by row as CSV, or as Parquet with the
//! feature `tables`. Values are integers in the unit that the column's name ends with.

use std::collections::HashMap;
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
    /// Text that differs from row to row, or nothing.
    Text,
    /// One of few words, such as the homes' names, or nothing.
    Word,
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

/// One value. A word is its place among the words of its table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Cell<'a> {
    Int(i64),
    Real(f64),
    Text(&'a str),
    Word(u32),
    Time(i64),
    Missing,
}

/// Numbers of which some may be missing.
#[derive(Default)]
pub(super) struct Numbers<T> {
    pub(super) values: Vec<T>,
    /// Which are there; empty where all are.
    pub(super) known: Vec<bool>,
}

impl<T: Default> Numbers<T> {
    fn push(&mut self, value: T) {
        self.values.push(value);
        if !self.known.is_empty() {
            self.known.push(true);
        }
    }

    fn push_missing(&mut self) {
        if self.known.is_empty() {
            self.known.resize(self.values.len(), true);
        }
        self.values.push(T::default());
        self.known.push(false);
    }

    fn get(&self, row: usize) -> Option<&T> {
        let known = self.known.get(row).is_none_or(|known| *known);
        self.values.get(row).filter(|_| known)
    }
}

/// The values of a column of the rows at hand.
pub(super) enum Data {
    Int(Numbers<i64>),
    Real(Numbers<f64>),
    /// All texts in one, and where each ends; an empty one is missing. Rows beyond the last end are missing too.
    Text(String, Vec<usize>),
    /// Places among the table's words.
    Word(Vec<u32>),
    Time(Vec<i64>),
}

impl Data {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Int => Data::Int(Numbers::default()),
            Kind::Real => Data::Real(Numbers::default()),
            Kind::Text => Data::Text(String::new(), Vec::new()),
            Kind::Word => Data::Word(Vec::new()),
            Kind::Time => Data::Time(Vec::new()),
        }
    }

    /// Adds the value of row number `row`. A value of another kind than the column's is refused; a test pushes every
    /// table once.
    fn push(&mut self, row: usize, cell: Cell<'_>) -> bool {
        match (self, cell) {
            (Data::Int(list), Cell::Int(value)) => list.push(value),
            (Data::Real(list), Cell::Real(value)) => list.push(value),
            (Data::Int(list), Cell::Missing) => list.push_missing(),
            (Data::Real(list), Cell::Missing) => list.push_missing(),
            (Data::Text(all, ends), Cell::Text(text)) => {
                ends.resize(row, all.len());
                all.push_str(text);
                ends.push(all.len());
            }
            (Data::Text(..), Cell::Missing) => {}
            (Data::Word(list), Cell::Word(word)) => list.push(word),
            (Data::Time(list), Cell::Time(value)) => list.push(value),
            _ => return false,
        }
        true
    }

    /// The text of a row; nothing where it is missing.
    pub(super) fn text<'d>(all: &'d str, ends: &[usize], row: usize) -> Option<&'d str> {
        let from = row
            .checked_sub(1)
            .map_or(Some(0), |before| ends.get(before).copied())?;
        all.get(from..*ends.get(row)?)
            .filter(|text| !text.is_empty())
    }
}

/// The words of a table, each once. The first is no word at all: what is missing.
pub(super) struct Words {
    places: HashMap<Arc<str>, u32>,
    /// Shared with who writes; grown only where a new word comes.
    list: Arc<Vec<Arc<str>>>,
}

impl Words {
    fn new() -> Self {
        let none: Arc<str> = Arc::from("");
        Words {
            places: HashMap::from([(Arc::clone(&none), 0)]),
            list: Arc::new(vec![none]),
        }
    }

    /// The place of a word, old or new. Beyond 2³² words there is no place left, and the word is missing.
    fn place(&mut self, text: &str) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let Ok(place) = u32::try_from(self.list.len()) else {
            return 0;
        };
        let word: Arc<str> = Arc::from(text);
        Arc::make_mut(&mut self.list).push(Arc::clone(&word));
        self.places.insert(word, place);
        place
    }
}

/// Rows that are written together: their columns, the table's words and how many rows there are.
pub(super) struct Group {
    pub(super) columns: Vec<Data>,
    pub(super) words: Arc<Vec<Arc<str>>>,
    pub(super) rows: usize,
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
    /// Writes rows.
    fn write(&mut self, group: Group) -> Result<(), String>;
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
    columns: Vec<Data>,
    words: Words,
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
    groups: SyncSender<Group>,
    thread: JoinHandle<Result<(), String>>,
}

impl Background {
    fn new(mut sink: Box<dyn Sink>) -> Self {
        let (groups, next) = sync_channel::<Group>(1);
        let thread = std::thread::spawn(move || {
            while let Ok(group) = next.recv() {
                sink.write(group)?;
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
        let sink: Box<dyn Sink> = match kind {
            FileKind::Csv => Box::new(Csv::new(table, file.clone(), run_id)),
            #[cfg(feature = "tables")]
            FileKind::Parquet => Box::new(
                super::parquet::Parquet::new(table, file.clone(), run_id, zone)
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
            columns: table.columns.iter().map(|c| Data::new(c.kind)).collect(),
            words: Words::new(),
            held: 0,
            rows: 0,
            file,
            name,
            sink: Some(Background::new(sink)),
        })
    }

    /// The place of a word among the table's, for [`Cell::Word`].
    pub(super) fn word(&mut self, text: &str) -> u32 {
        self.words.place(text)
    }

    /// Adds a row; `cells` are those of the table's columns. A text in a column of words becomes one of them.
    pub(super) fn push(&mut self, cells: &[Cell<'_>]) -> Result<(), RunError> {
        let mut fits = cells.len() == self.columns.len();
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            let cell = match (&*column, *cell) {
                (Data::Word(_), Cell::Text(text)) => Cell::Word(self.words.place(text)),
                (Data::Word(_), Cell::Missing) => Cell::Word(0),
                (_, cell) => cell,
            };
            fits &= column.push(self.held, cell);
        }
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
        let fresh = self
            .table
            .columns
            .iter()
            .map(|c| Data::new(c.kind))
            .collect();
        let group = Group {
            columns: std::mem::replace(&mut self.columns, fresh),
            words: Arc::clone(&self.words.list),
            rows: self.held,
        };
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
        Kind::Text | Kind::Word => Some(Cell::Text(text)),
        Kind::Time => Some(Cell::Time(text.parse::<Timestamp>().ok()?.unix_s())),
        _ if text.is_empty() => Some(Cell::Missing),
        Kind::Int => text.parse().ok().map(Cell::Int),
        Kind::Real => text.parse().ok().map(Cell::Real),
    }
}

/// Comma-separated text. Texts are ids and words without commas and quotes, except definitions, which are quoted.
struct Csv {
    file: HashedFile,
    run_id: String,
    line: String,
    head: Option<String>,
    time: Option<(i64, String)>,
}

impl Csv {
    fn new(table: &Table, file: HashedFile, run_id: &str) -> Self {
        let names = std::iter::once("run_id").chain(table.columns.iter().map(|c| c.name));
        Csv {
            file,
            run_id: csv_text(run_id).into_owned(),
            line: String::new(),
            head: Some(names.collect::<Vec<_>>().join(",") + "\n"),
            time: None,
        }
    }

    fn cell(&mut self, column: &Data, words: &[Arc<str>], row: usize) {
        match column {
            Data::Int(list) => {
                if let Some(value) = list.get(row) {
                    let _ = write!(self.line, "{value}");
                }
            }
            Data::Real(list) => {
                if let Some(value) = list.get(row) {
                    let _ = write!(self.line, "{value}");
                }
            }
            Data::Text(all, ends) => {
                let text = Data::text(all, ends, row).unwrap_or_default();
                self.line.push_str(&csv_text(text));
            }
            Data::Word(list) => {
                let word = usize::try_from(list[row]).ok().and_then(|at| words.get(at));
                self.line.push_str(&csv_text(word.map_or("", |word| word)));
            }
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
    fn write(&mut self, group: Group) -> Result<(), String> {
        self.line = self.head.take().unwrap_or_default();
        for row in 0..group.rows {
            self.line.push_str(&self.run_id);
            for column in &group.columns {
                self.line.push(',');
                self.cell(column, &group.words, row);
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
                name: "word",
                kind: Kind::Word,
                unit: "",
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
                    Cell::Missing,
                    Cell::Text("a, \"b\""),
                    Cell::Int(-5),
                    Cell::Real(0.25),
                ])
                .unwrap();
            table
                .push(&[
                    Cell::Time(900),
                    Cell::Text("yes"),
                    Cell::Missing,
                    Cell::Missing,
                    Cell::Missing,
                ])
                .unwrap();
            table
                .push(&[
                    Cell::Time(900),
                    Cell::Text("yes"),
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
            "run_id,start,word,home,energy_wh,share\n\
             r1,1970-01-01T00:00:00Z,,\"a, \"\"b\"\"\",-5,0.25\n\
             r1,1970-01-01T00:15:00Z,yes,,,\n\
             r1,1970-01-01T00:15:00Z,yes,c,,\n"
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
        assert_eq!((written.rows, written.bytes), (3, text.len() as u64));
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        assert_eq!(written.sha256, to_hex(&digest));
    }
}
