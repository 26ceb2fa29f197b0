//! Clearing a file of orders, without a market around it: CSV or JSON in; JSON, CSV or a table out.
//!
//! A file is read whole or refused whole: an error names the line, the column, what was found there
//! and what was expected. At most [`FILE_MAX_BYTES`] and [`crate::book::ORDERS_MAX`] orders.

mod read;
mod wish;
mod write;

pub(crate) use write::money;

use std::collections::HashMap;

use domain::ids::digest_parts;
use domain::money::Price;
use domain::order::Side;

use crate::book::{Book, BookError, Entry};
use crate::clear::{Mechanism, Outcome, clear, clear_with_wishes};
use crate::needed::needed;
use crate::preference::{Heeded, Preferred, Wish};
use wish::RawWish;

/// Largest file in bytes.
pub const FILE_MAX_BYTES: usize = 512 * 1024 * 1024;

/// Longest id or participant in bytes.
pub const TEXT_MAX_BYTES: usize = 128;

/// How a file of orders is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// A header line, then a line for each order.
    Csv,
    /// An array of objects.
    Json,
}

/// The cleared file.
#[derive(Clone, Debug)]
pub struct Output {
    mechanism: Mechanism,
    ids: Vec<String>,
    book: Book,
    outcome: Outcome,
    /// Of each order that got nothing: the limit that would have done.
    needed: Vec<Option<Price>>,
    /// Where orders wish more than a price: what came of it.
    wished: Option<Wished>,
}

/// What came of wishes.
#[derive(Clone, Debug)]
struct Wished {
    preferred: Preferred,
    participants: Vec<String>,
}

impl Output {
    /// The result, with orders by their place in the file.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}

/// Clears the orders of a file; they arrive in the order in which they stand.
///
/// # Errors
/// The file is not what [`FileError`] expects.
pub fn clear_file(text: &[u8], format: Format, mechanism: Mechanism) -> Result<Output, FileError> {
    let rows = read_rows(text, format)?;
    if rows.book.entries().len() > mechanism.orders_max() {
        return Err(FileError::TooManyFor {
            orders: rows.book.entries().len(),
            mechanism: mechanism.name(),
            most: mechanism.orders_max(),
        });
    }
    let Rows {
        ids,
        book,
        wishes,
        participants,
        ..
    } = rows;
    let wished = (!wishes.is_empty()).then(|| {
        let wishes = numbered(wishes, &participants);
        if let Some(why) = Heeded::refusal(mechanism, &wishes) {
            let mechanism = mechanism.name();
            return Err(FileError::WishesFor { mechanism, why });
        }
        Ok(Wished {
            preferred: clear_with_wishes(&book, mechanism, &wishes),
            participants: in_order(participants),
        })
    });
    let wished = wished.transpose()?;
    let outcome = match &wished {
        Some(wished) => wished.preferred.outcome.clone(),
        None => clear(&book, mechanism),
    };
    Ok(Output {
        mechanism,
        needed: needed(&book, mechanism, &outcome),
        ids,
        book,
        outcome,
        wished,
    })
}

fn numbered(wishes: Vec<RawWish>, participants: &HashMap<String, u32>) -> Vec<Wish> {
    let mut feeders = HashMap::new();
    let wishes = wishes.into_iter();
    wishes
        .map(|wish| wish.numbered(participants, &mut feeders))
        .collect()
}

/// Names by their number.
fn in_order(participants: HashMap<String, u32>) -> Vec<String> {
    let mut names: Vec<(u32, String)> = participants.into_iter().map(|(p, n)| (n, p)).collect();
    names.sort_unstable();
    names.into_iter().map(|(_, name)| name).collect()
}

/// Reads the orders of a file without clearing them: their ids and the book. Wishes are checked and passed over.
///
/// # Errors
/// The file is not what [`FileError`] expects.
pub fn read(text: &[u8], format: Format) -> Result<(Vec<String>, Book), FileError> {
    let rows = read_rows(text, format)?;
    Ok((rows.ids, rows.book))
}

fn read_rows(text: &[u8], format: Format) -> Result<Rows, FileError> {
    if text.len() > FILE_MAX_BYTES {
        return Err(FileError::TooLarge(text.len()));
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        let before = text.get(..error.valid_up_to()).unwrap_or_default();
        FileError::NotText {
            line: line_after(before),
        }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(FileError::Empty);
    }
    match format {
        Format::Csv => read::csv(text),
        Format::Json => read::json(text),
    }
}

/// The number of the line that follows these bytes.
fn line_after(before: &[u8]) -> u64 {
    before
        .iter()
        .filter(|b| **b == b'\n')
        .fold(1, |line, _| line + 1)
}

/// One order as it stands in a file.
struct Row {
    line: u64,
    id: String,
    participant: String,
    side: Side,
    energy_wh: i64,
    limit: Price,
    /// Only where the file has a column for wishes.
    wish: Option<RawWish>,
}

/// Collects rows into a book and makes sure that ids differ. There are no wishes, or one for each order.
#[derive(Default)]
struct Rows {
    ids: Vec<String>,
    book: Book,
    wishes: Vec<RawWish>,
    lines: HashMap<String, u64>,
    participants: HashMap<String, u32>,
}

impl Rows {
    fn push(&mut self, row: Row) -> Result<(), FileError> {
        let line = row.line;
        if let Some(first) = self.lines.insert(row.id.clone(), line) {
            return Err(FileError::Duplicate {
                line,
                id: row.id,
                first,
            });
        }
        let full = |_| FileError::Book {
            line,
            source: BookError::Full,
        };
        let next = u32::try_from(self.participants.len()).map_err(full)?;
        let mut key = [0; 16];
        key.copy_from_slice(&digest_parts("file-order", &[row.id.as_bytes()])[..16]);
        let entry = Entry {
            side: row.side,
            energy_wh: row.energy_wh,
            limit: row.limit,
            participant: *self.participants.entry(row.participant).or_insert(next),
            arrival: u32::try_from(self.ids.len()).map_err(full)?,
            key,
        };
        self.book.push(entry).map_err(|source| match source {
            BookError::EnergySum(_) => FileError::EnergySum { line, source },
            _ => FileError::Book { line, source },
        })?;
        self.ids.push(row.id);
        self.wishes.extend(row.wish);
        Ok(())
    }
}

/// Why a file of orders was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FileError {
    /// Larger than [`FILE_MAX_BYTES`].
    #[error("the file has {0} bytes, more than the {FILE_MAX_BYTES} allowed")]
    TooLarge(usize),
    /// Nothing, or blank lines only.
    #[error("the file is empty")]
    Empty,
    /// Bytes that are no text.
    #[error("line {line}: not UTF-8 text")]
    NotText {
        /// Where.
        line: u64,
    },
    /// A header without a needed column, or with one twice.
    #[error(
        "line 1: the header {problem}; expected the columns {} in any order",
        read::columns()
    )]
    Header {
        /// What is wrong with it.
        problem: String,
    },
    /// A line with more or fewer fields than the header.
    #[error(
        "line {line}: found {found} fields, expected {expected} as in the header; likely causes: a decimal comma (write 0.1, not 0,1) or an unclosed quote"
    )]
    Fields {
        /// Where.
        line: u64,
        /// Fields in the line.
        found: usize,
        /// Fields in the header.
        expected: usize,
    },
    /// A value that is not what its column holds.
    #[error("line {line}, column `{column}`: found {found}, expected {expected}")]
    Value {
        /// Where.
        line: u64,
        /// In which column, or member of the object.
        column: &'static str,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// The same id twice.
    #[error(
        "line {line}, column `id`: found `{id}` again, first in line {first}; expected a new id"
    )]
    Duplicate {
        /// Where.
        line: u64,
        /// The id.
        id: String,
        /// Where it stood before.
        first: u64,
    },
    /// Text that is no JSON array of objects.
    #[error(
        "line {line}, character {character}: {problem}; expected an array of orders as objects"
    )]
    Json {
        /// Where.
        line: usize,
        /// Where in the line.
        character: usize,
        /// What the reader says.
        problem: String,
    },
    /// Energies that do not sum within 64 bits.
    #[error("line {line}, column `energy_wh`: {source}")]
    EnergySum {
        /// Where the sum is reached.
        line: u64,
        /// Which side.
        source: BookError,
    },
    /// More orders than a mechanism can clear in a time that anybody waits.
    #[error(
        "{orders} orders are more than the {most} that {mechanism} takes: it is a reference for small books"
    )]
    TooManyFor {
        /// Orders in the file.
        orders: usize,
        /// The mechanism.
        mechanism: &'static str,
        /// Most orders it takes.
        most: usize,
    },
    /// Wishes beyond price, for a mechanism that cannot heed them.
    #[error(
        "the file has wishes ({}) which {mechanism} cannot heed: {why}. Use uniform-price or pay-as-bid, or take them out",
        wish::COLUMNS.join(", ")
    )]
    WishesFor {
        /// The mechanism.
        mechanism: &'static str,
        /// Why it cannot.
        why: &'static str,
    },
    /// An order that does not fit into the book.
    #[error("line {line}: {source}")]
    Book {
        /// Where.
        line: u64,
        /// Why.
        source: BookError,
    },
}
