//! DSMR P1: lines of text between `/` and `!`, and since DSMR 4 a CRC-16 behind it.
//!
//! The crate dsmr5 knows the Dutch codes only, gives energies as floats and takes at most 2048 bytes;
//! here it is the test's second opinion.

use crc::{CRC_16_ARC, Crc};
use domain::time::Timestamp;

use super::{Broken, Obis, Said, TELEGRAM_MAX_BYTES, Telegram};
use crate::device::decode::Exact;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_ARC);
/// Digits of the check sum.
const SUM_DIGITS: usize = 4;
/// Where a telegram may begin; more than one `/` is left when a telegram was cut off by the next.
const BEGINNINGS_MAX: usize = 16;

/// Finds telegrams in a stream.
#[derive(Debug)]
pub struct Reader {
    has_checksum: bool,
    buffer: Vec<u8>,
    /// Positions of `/` in the buffer, and when they came.
    beginnings: Vec<(usize, Timestamp)>,
    /// Position of the `!` that ends the telegram.
    end: Option<usize>,
}

impl Reader {
    /// A reader for meters with or without a check sum.
    #[must_use]
    pub fn new(has_checksum: bool) -> Self {
        Reader {
            has_checksum,
            buffer: Vec::new(),
            beginnings: Vec::new(),
            end: None,
        }
    }

    pub(super) fn push(&mut self, byte: u8, at: Timestamp) -> Option<Result<Telegram, Broken>> {
        if byte == b'/' {
            if self.beginnings.len() == BEGINNINGS_MAX {
                self.beginnings.remove(0);
            }
            self.beginnings.push((self.buffer.len(), at));
        } else if self.beginnings.is_empty() {
            // The rest of a telegram whose beginning was not heard.
            return None;
        }
        let is_line_start = self.buffer.last() == Some(&b'\n');
        self.buffer.push(byte);
        if self.end.is_none() && byte == b'!' && is_line_start {
            self.end = Some(self.buffer.len() - 1);
        }
        let sum_digits = if self.has_checksum { SUM_DIGITS } else { 0 };
        if self
            .end
            .is_some_and(|end| self.buffer.len() > end + sum_digits)
        {
            let outcome = self.finish();
            self.forget();
            return Some(outcome);
        }
        if self.buffer.len() >= TELEGRAM_MAX_BYTES {
            self.clear();
            return Some(Err(Broken::TooLong));
        }
        None
    }

    /// Forgets what was looked at; a telegram that has begun where a check sum should be goes on.
    fn forget(&mut self) {
        let end = self.end.unwrap_or_default();
        match self.beginnings.pop() {
            Some((start, at)) if start > end => {
                self.buffer.drain(..start);
                self.beginnings = vec![(0, at)];
                self.end = None;
            }
            _ => self.clear(),
        }
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.beginnings.clear();
        self.end = None;
    }

    /// The telegram that ends here, from the beginning that fits to its check sum.
    fn finish(&self) -> Result<Telegram, Broken> {
        let end = self.end.ok_or(Broken::Nonsense)?;
        let sum = self.buffer.get(end + 1..).unwrap_or_default();
        let sum = std::str::from_utf8(sum).ok().filter(|_| self.has_checksum);
        let sum = sum.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let fits = |start: usize| {
            let body = self.buffer.get(start..=end);
            !self.has_checksum || body.is_some_and(|body| sum == Some(CRC.checksum(body)))
        };
        // Without a check sum only the last beginning can be that of a whole telegram.
        let mut beginnings = self.beginnings.iter().rev();
        let (start, begun_at) = beginnings
            .find(|(start, _)| fits(*start))
            .ok_or(Broken::Checksum)?;
        let body = self.buffer.get(*start..end).unwrap_or_default();
        let text = std::str::from_utf8(body).map_err(|_| Broken::Nonsense)?;
        parse(text, *begun_at).ok_or(Broken::Nonsense)
    }
}

/// `/ISk5…`, an empty line, and a value a line.
fn parse(text: &str, begun_at: Timestamp) -> Option<Telegram> {
    let (header, values) = text.split_once("\r\n\r\n")?;
    let is_header = header.len() >= 5
        && header.get(1..4)?.bytes().all(|b| b.is_ascii_alphanumeric())
        && !header.contains('\n');
    let is_ascii = text
        .bytes()
        .all(|b| b == b'\r' || b == b'\n' || (0x20..0x7f).contains(&b));
    if !is_header || !is_ascii {
        return None;
    }
    let said = values.lines().filter_map(value);
    Some(Telegram::new(begun_at, said))
}

/// `1-0:1.8.1(000123.456*kWh)`; lines of other forms are of no interest.
fn value(line: &str) -> Option<(Obis, Said)> {
    let (code, rest) = line.split_once('(')?;
    let content = rest.strip_suffix(')')?;
    if content.contains(['(', ')']) {
        return None;
    }
    let said = match content.split_once('*') {
        Some((number, unit)) => Said::Number(Exact::from_decimal(number)?, unit.to_owned()),
        None => Said::Text(text_of(content)),
    };
    Some((code.parse().ok()?, said))
}

/// Identifications are ASCII in hex; what is none is left as it is.
fn text_of(content: &str) -> String {
    let digits = content.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    let readable = bytes
        .filter(|bytes| digits.len().is_multiple_of(2) && !bytes.is_empty())
        .filter(|bytes| bytes.iter().all(|b| (0x20..0x7f).contains(b)))
        .and_then(|bytes| String::from_utf8(bytes).ok());
    readable.unwrap_or_else(|| content.to_owned())
}
