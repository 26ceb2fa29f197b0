//! OCMF, the Open Charge Metering Format: signed meter readings of a charging session as one line of text.
//!
//! `OCMF|{payload}|{signature}`: what is signed is the payload's text as it stands, white space and all. Files of
//! stations are checked here ([`Ocmf::check`]), and a session of ours is written as one ([`write()`]), so that
//! the transparency software that drivers have can check it. Signatures are ECDSA on secp256r1 or secp384r1 with
//! SHA-256; the others that OCMF knows are named and refused.

mod key;
mod write;

use crate::time::Timestamp;

pub use self::key::{KeyError, PublicKey, Signer};
pub use self::write::{Session, write};
use crate::json::{FileError, Node, needed};

/// Nano-kWh in a kWh.
const NANO: i128 = 1_000_000_000;
/// Longest text that is read.
pub const TEXT_MAX_BYTES: usize = 1 << 20;
/// What is signed with where the signature does not say it.
const DEFAULT_ALGORITHM: &str = "ECDSA-secp256r1-SHA256";

/// A meter's reading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// When.
    pub at: Timestamp,
    /// How good the clock was: `U` unknown, `I` informative, `S` synchronised, `R` relative.
    pub clock: char,
    /// Why it was taken: `B` at the begin, `E`, `L`, `R`, `A` or `P` at the end, others between.
    pub why: Option<char>,
    /// The register, in nano-kWh.
    pub register: i128,
    /// Which register (OBIS).
    pub obis: Option<String>,
    /// What the meter says of itself: `G` is good.
    pub status: char,
    /// Error flags: `E` the energy, `t` the time is not to be billed.
    pub errors: String,
}

/// A signed text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ocmf {
    payload: String,
    signature: Vec<u8>,
    algorithm: String,
    /// `T` for a session's count of texts, `F` for the others, and the number.
    pub pagination: (char, u64),
    /// The meter's serial number.
    pub meter: Option<String>,
    /// Whom the session was for.
    pub user: Option<String>,
    /// The readings, in order.
    pub readings: Vec<Reading>,
}

/// The steps of a check with what each found, in order; it ends at the first that fails.
pub type Steps = Vec<(&'static str, Result<String, String>)>;

impl Ocmf {
    /// Reads a text.
    ///
    /// # Errors
    /// It is none, with the JSON path of what is wrong.
    pub fn from_text(text: &str) -> Result<Ocmf, FileError> {
        let outside = |message: &str| FileError {
            path: "OCMF".to_owned(),
            message: message.to_owned(),
        };
        if text.len() > TEXT_MAX_BYTES {
            return Err(outside("the text is too long to be one"));
        }
        let text = text.trim_end_matches(['\n', '\r']);
        let rest = text.strip_prefix("OCMF|");
        let rest = rest.ok_or_else(|| outside("the text does not begin with `OCMF|`"))?;
        // A bar can be inside the payload's texts; the signature has none.
        let (payload, signature) = rest
            .rsplit_once('|')
            .ok_or_else(|| outside("there is no `|` between payload and signature"))?;
        let node = Node::root(payload)?;
        let members = node.members()?;
        let text_of = |name: &str| members.get(name).map(Node::text).transpose();
        let page = needed(&node, &members, "PG")?;
        let (algorithm, signature) = read_signature(signature)?;
        Ok(Ocmf {
            pagination: read_pagination(page)?,
            meter: text_of("MS")?,
            user: text_of("ID")?,
            readings: read_readings(needed(&node, &members, "RD")?)?,
            payload: payload.to_owned(),
            signature,
            algorithm,
        })
    }

    /// The signed text.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Energy between the first and the last reading, in nano-kWh.
    #[must_use]
    pub fn energy(&self) -> Option<i128> {
        let (first, last) = self.readings.first().zip(self.readings.last())?;
        last.register.checked_sub(first.register)
    }

    /// Checks signature and readings.
    #[must_use]
    pub fn check(&self, key: &PublicKey) -> Steps {
        let mut steps = Steps::new();
        let names = ["signature", "both readings", "meter", "registers"];
        for (place, name) in names.into_iter().enumerate() {
            let found = match place {
                0 => self.check_signature(key),
                1 => self.check_ends(),
                2 => self.check_meter(),
                _ => self.check_registers(),
            };
            let failed = found.is_err();
            steps.push((name, found));
            if failed {
                break;
            }
        }
        steps
    }

    /// Checks the signature alone: a charger may sign a single reading.
    ///
    /// # Errors
    /// Why it is not one of this key.
    pub fn check_signature(&self, key: &PublicKey) -> Result<String, String> {
        if self.algorithm != key.algorithm() {
            return Err(format!(
                "signed with {}, and the key is one for {}",
                self.algorithm,
                key.algorithm()
            ));
        }
        if key.verify(self.payload.as_bytes(), &self.signature) {
            Ok(format!(
                "{}, page {}{}",
                self.algorithm, self.pagination.0, self.pagination.1
            ))
        } else {
            Err("the text was changed, or signed with another key".to_owned())
        }
    }

    fn check_ends(&self) -> Result<String, String> {
        let (first, last) = (self.readings.first(), self.readings.last());
        match (first, last) {
            (Some(first), Some(last)) if self.readings.len() >= 2 => {
                let ends = last.why.is_some_and(|why| "ELRAP".contains(why));
                if first.why != Some('B') {
                    Err("the first reading is not one of the begin".to_owned())
                } else if !ends {
                    Err("the last reading is not one of the end".to_owned())
                } else {
                    Ok(format!("{} to {}", first.at, last.at))
                }
            }
            _ => Err("a session needs a reading of the begin and one of the end".to_owned()),
        }
    }

    fn check_meter(&self) -> Result<String, String> {
        for (place, reading) in self.readings.iter().enumerate() {
            if reading.status != 'G' {
                return Err(format!(
                    "reading {place}: the meter's status is {}, not G",
                    reading.status
                ));
            }
            if !reading.errors.is_empty() {
                return Err(format!(
                    "reading {place}: the meter flags `{}`",
                    reading.errors
                ));
            }
        }
        Ok(self
            .meter
            .clone()
            .unwrap_or_else(|| "without a serial number".to_owned()))
    }

    fn check_registers(&self) -> Result<String, String> {
        for (place, pair) in self.readings.windows(2).enumerate() {
            let [before, after] = pair else { continue };
            if after.obis != before.obis {
                return Err(format!(
                    "reading {}: another register than the one before",
                    place + 1
                ));
            }
            if after.register < before.register {
                return Err(format!("reading {}: less than the one before", place + 1));
            }
            if after.at < before.at {
                return Err(format!(
                    "reading {}: earlier than the one before",
                    place + 1
                ));
            }
        }
        let wh = self.energy().unwrap_or(0) / (NANO / 1_000);
        Ok(format!("{wh} Wh"))
    }
}

fn read_signature(text: &str) -> Result<(String, Vec<u8>), FileError> {
    let node = Node::root(text).map_err(|e| FileError {
        path: "signature".to_owned(),
        message: e.message,
    })?;
    let members = node.members()?;
    let said = |name: &str, default: &str| {
        let said = members.get(name).map(Node::text).transpose()?;
        Ok::<String, FileError>(said.unwrap_or_else(|| default.to_owned()))
    };
    let data = needed(&node, &members, "SD")?;
    let bytes = match said("SE", "hex")?.as_str() {
        "hex" => key::from_hex(&data.text()?),
        "base64" => key::from_base64(&data.text()?),
        other => return Err(node.wrong(format!("`{other}` is not hex or base64"))),
    };
    let bytes =
        bytes.ok_or_else(|| data.wrong("the signature is not in the encoding that it says"))?;
    Ok((said("SA", DEFAULT_ALGORITHM)?, bytes))
}

fn read_pagination(node: &Node<'_>) -> Result<(char, u64), FileError> {
    let text = node.text()?;
    let parsed = || {
        let letter = text.chars().next().filter(|c| "TF".contains(*c))?;
        Some((letter, text.get(1..)?.parse().ok()?))
    };
    parsed().ok_or_else(|| node.wrong(format!("`{text}` is not a page like T17")))
}

/// What a reading does not say is as in the one before it.
fn read_readings(list: &Node<'_>) -> Result<Vec<Reading>, FileError> {
    let mut readings: Vec<Reading> = Vec::new();
    let mut unit: Option<i128> = None;
    for node in list.list()? {
        let members = node.members()?;
        let before = readings.last();
        let text = |name: &str| members.get(name).map(Node::text).transpose();
        let (at, clock) = match (members.get("TM"), before) {
            (Some(time), _) => read_time(time)?,
            (None, Some(before)) => (before.at, before.clock),
            (None, None) => return Err(node.wrong("`TM` is missing in the first reading")),
        };
        if let Some(said) = members.get("RU") {
            unit = Some(match said.text()?.as_str() {
                "kWh" => 1,
                "Wh" => 1_000,
                other => return Err(said.wrong(format!("`{other}` is not kWh or Wh"))),
            });
        }
        let per = unit.ok_or_else(|| node.wrong("`RU` is missing in the first reading"))?;
        let status = text("ST")?.and_then(|s| s.chars().next());
        let errors = text("EF")?.or_else(|| before.map(|b| b.errors.clone()));
        readings.push(Reading {
            at,
            clock,
            why: text("TX")?.and_then(|t| t.chars().next()),
            register: needed(&node, &members, "RV")?.positive(9)? / per,
            obis: text("RI")?.or_else(|| before.and_then(|b| b.obis.clone())),
            // A meter that says nothing of itself is not known to be good.
            status: status.or(before.map(|b| b.status)).unwrap_or('N'),
            errors: errors.unwrap_or_default(),
        });
    }
    Ok(readings)
}

/// `2026-06-21T10:15:00,000+0200 S`
fn read_time(node: &Node<'_>) -> Result<(Timestamp, char), FileError> {
    let text = node.text()?;
    let parsed = || {
        let (time, state) = text.split_once(' ')?;
        let time = time.replacen(',', ".", 1);
        let time = chrono::DateTime::parse_from_str(&time, "%Y-%m-%dT%H:%M:%S%.f%z").ok()?;
        let state = state.chars().next().filter(|c| "UISR".contains(*c))?;
        Some((Timestamp::from_unix_ms(time.timestamp_millis()), state))
    };
    parsed().ok_or_else(|| {
        node.wrong(format!(
            "`{text}` is not a time like 2026-06-21T10:15:00,000+0200 S"
        ))
    })
}

#[cfg(test)]
mod tests;
