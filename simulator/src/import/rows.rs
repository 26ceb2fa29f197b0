//! Rows of CSV with their lines, and columns by name.

use csv::{ReaderBuilder, StringRecord};

use super::{ImportError, Source};

/// The rows of a file.
pub struct Rows<'a> {
    file: &'a str,
    header: StringRecord,
    records: csv::StringRecordsIntoIter<&'a [u8]>,
    skipped: u64,
}

/// A row.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    file: &'a str,
    record: StringRecord,
    /// Its line in the file, from 1.
    pub line: u64,
}

impl<'a> Rows<'a> {
    /// Reads the header, which is `skipped` lines below the top.
    ///
    /// # Errors
    /// There is no header.
    pub fn open(file: Source<'a>, delimiter: u8, skipped: u64) -> Result<Rows<'a>, ImportError> {
        let mut text = file.text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file.text);
        for _ in 0..skipped {
            let end = text.iter().position(|byte| *byte == b'\n');
            text = end.map_or(&[][..], |end| &text[end + 1..]);
        }
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .trim(csv::Trim::All)
            .from_reader(text);
        let header = reader.headers().map_err(|e| bad(file.name, &e, skipped))?;
        let header = header.clone();
        if header.is_empty() || (header.len() == 1 && header[0].is_empty()) {
            return Err(ImportError::file(file.name, "is empty"));
        }
        Ok(Rows {
            file: file.name,
            header,
            records: reader.into_records(),
            skipped,
        })
    }

    /// Names of all columns.
    #[must_use]
    pub const fn header(&self) -> &StringRecord {
        &self.header
    }

    /// The place of a column that may be missing; upper and lower case are the same.
    #[must_use]
    pub fn find(&self, names: &[&str]) -> Option<usize> {
        let is = |column: &str| names.iter().any(|name| name.eq_ignore_ascii_case(column));
        self.header.iter().position(is)
    }

    /// The place of a column that must be there, under one of its names.
    ///
    /// # Errors
    /// It is not there.
    pub fn column(&self, names: &[&str]) -> Result<usize, ImportError> {
        self.find(names).ok_or_else(|| {
            let has: Vec<&str> = self.header.iter().collect();
            let what = format!("has no column {}; it has {}", names[0], has.join(", "));
            ImportError::file(self.file, what)
        })
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<Row<'a>, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = self.file;
        Some(match self.records.next()? {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line) + self.skipped;
                Ok(Row { file, record, line })
            }
            Err(error) => Err(bad(file, &error, self.skipped)),
        })
    }
}

impl Row<'_> {
    /// A cell.
    #[must_use]
    pub fn cell(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or("")
    }

    /// Says that something in this row is wrong.
    #[must_use]
    pub fn wrong(&self, what: impl Into<String>) -> ImportError {
        ImportError::line(self.file, self.line, what)
    }

    /// A number times `factor`, or none where the cell is empty, `Null`, `NaN` or a dash.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&self, column: usize, factor: i64) -> Result<Option<i64>, ImportError> {
        let text = self.cell(column);
        if is_missing(text) {
            return Ok(None);
        }
        let number = super::decimal::times(text, factor);
        number
            .map(Some)
            .ok_or_else(|| self.wrong(format!("{text:?} is no number that can be read")))
    }

    /// A float, or none where the cell is empty.
    ///
    /// # Errors
    /// It is something else.
    pub fn float(&self, column: usize) -> Result<Option<f64>, ImportError> {
        let text = self.cell(column);
        if is_missing(text) {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.wrong(format!("{text:?} is no number"))),
        }
    }
}

/// What files write where there is no value.
#[must_use]
pub fn is_missing(text: &str) -> bool {
    ["", "-", "null", "nan", "na"]
        .iter()
        .any(|missing| text.eq_ignore_ascii_case(missing))
}

fn bad(file: &str, error: &csv::Error, skipped: u64) -> ImportError {
    let line = error.position().map_or(0, csv::Position::line) + skipped;
    let what = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("has {len} cells, and the header {expected_len}"),
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    ImportError::line(file, line, what)
}
