//! SML, the Smart Message Language of German meters: frames with a CRC-16 around messages with one
//! each, taken apart by the crate sml-rs.

use domain::time::Timestamp;
use sml_rs::parser::common::{ListEntry, Value};
use sml_rs::parser::complete::{File, MessageBody, parse};
use sml_rs::transport::{DecodeErr, Decoder};
use sml_rs::util::ArrayBuf;

use super::{Broken, Obis, Said, TELEGRAM_MAX_BYTES, Telegram};
use crate::device::decode::Exact;

/// What a frame begins with.
const START: [u8; 8] = [0x1b, 0x1b, 0x1b, 0x1b, 1, 1, 1, 1];

/// After so many bytes without a frame the search begins anew: the decoder counts them in 16 bits.
const GARBAGE_MAX_BYTES: usize = 4096;

/// Finds telegrams in a stream.
pub struct Reader {
    decoder: Decoder<ArrayBuf<TELEGRAM_MAX_BYTES>>,
    /// The last bytes, and when each came.
    last: [(u8, Option<Timestamp>); START.len()],
    begun_at: Option<Timestamp>,
    garbage: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Reader {
            decoder: Decoder::new(),
            last: [(0, None); START.len()],
            begun_at: None,
            garbage: 0,
        }
    }
}

impl Reader {
    pub(super) fn push(&mut self, byte: u8, at: Timestamp) -> Option<Result<Telegram, Broken>> {
        self.last.rotate_left(1);
        if let Some(newest) = self.last.last_mut() {
            *newest = (byte, Some(at));
        }
        if self.last.map(|(byte, _)| byte) == START {
            self.begun_at = self.last.first().and_then(|(_, at)| *at);
            self.garbage = 0;
        }
        self.garbage += 1;
        if self.begun_at.is_none() && self.garbage > GARBAGE_MAX_BYTES && byte != START[0] {
            self.decoder.reset();
            self.garbage = 0;
        }
        let outcome = self.decoder.push_byte(byte);
        if matches!(&outcome, Err(error) if !matches!(error, DecodeErr::DiscardedBytes(_))) {
            // A broken frame is over: what follows is garbage until the next one begins.
            self.begun_at = None;
        }
        let frame = match outcome {
            Ok(None) => return None,
            Ok(Some(frame)) => frame,
            // What comes before the first frame, or between two.
            Err(DecodeErr::DiscardedBytes(_)) => return None,
            Err(DecodeErr::OutOfMemory) => return Some(Err(Broken::TooLong)),
            Err(DecodeErr::InvalidEsc(_)) => return Some(Err(Broken::Nonsense)),
            Err(DecodeErr::InvalidMessage { .. }) => return Some(Err(Broken::Checksum)),
        };
        let begun_at = self.begun_at.take()?;
        Some(match parse(frame) {
            Ok(file) => Ok(Telegram::new(begun_at, said(&file))),
            Err(_) => Err(Broken::Nonsense),
        })
    }
}

fn said(file: &File<'_>) -> Vec<(Obis, Said)> {
    let lists = file
        .messages
        .iter()
        .filter_map(|message| match &message.message_body {
            MessageBody::GetListResponse(list) => Some(&list.val_list),
            _ => None,
        });
    lists.flatten().filter_map(value).collect()
}

fn value(entry: &ListEntry<'_>) -> Option<(Obis, Said)> {
    let code = Obis(entry.obj_name.try_into().ok()?);
    let number = match entry.value {
        Value::I8(number) => i64::from(number),
        Value::I16(number) => i64::from(number),
        Value::I32(number) => i64::from(number),
        Value::I64(number) => number,
        Value::U8(number) => i64::from(number),
        Value::U16(number) => i64::from(number),
        Value::U32(number) => i64::from(number),
        Value::U64(number) => i64::try_from(number).ok()?,
        Value::Bytes(bytes) => {
            let hex = bytes.iter().map(|byte| format!("{byte:02X}"));
            return Some((code, Said::Text(hex.collect())));
        }
        Value::Bool(_) | Value::List(_) => return None,
    };
    let number = Exact::whole(number).shifted(i32::from(entry.scaler.unwrap_or(0)));
    Some((code, Said::Number(number, unit(entry.unit?)?.to_owned())))
}

/// The unit of a DLMS code.
fn unit(code: u8) -> Option<&'static str> {
    Some(match code {
        27 => "W",
        30 => "Wh",
        33 => "A",
        35 => "V",
        44 => "Hz",
        _ => return None,
    })
}
