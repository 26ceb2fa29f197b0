//! A session of ours as OCMF: both readings, signed with the platform's key on secp256r1.

use crate::time::Timestamp;
use serde_json::json;

use super::key::{KeyError, Signer};

/// What a text says of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session<'a> {
    /// The station.
    pub station: &'a str,
    /// The meter's serial number, or its metering point.
    pub meter: &'a str,
    /// Whom it was for; a session's name where nobody is named.
    pub user: &'a str,
    /// The number of the station's session: one more for every text.
    pub page: u64,
    /// First and last reading: when, and the register in Wh.
    pub readings: [(Timestamp, i64); 2],
    /// Whether the clock was checked against a time server.
    pub synchronised: bool,
}

/// Writes and signs a session.
///
/// # Errors
/// No signature could be made.
pub fn write(session: &Session<'_>, signer: &Signer) -> Result<String, KeyError> {
    let clock = if session.synchronised { 'S' } else { 'I' };
    let time = |at: Timestamp| match at.to_chrono() {
        Some(utc) => format!("{} {clock}", utc.format("%Y-%m-%dT%H:%M:%S,%3f+0000")),
        None => format!("{at} U"),
    };
    let reading = |why: &str, (at, register_wh): (Timestamp, i64)| {
        // A whole number of Wh is written as it is; JSON numbers of serde_json keep integers exact.
        json!({"TM": time(at), "TX": why, "RV": register_wh, "RI": "1-0:1.8.0", "RU": "Wh", "RT": "AC",
            "EF": "", "ST": "G"})
    };
    let [first, last] = session.readings;
    let payload = json!({
        "FV": "1.0",
        "GI": "Commonwatt",
        "GS": session.station,
        "GV": env!("CARGO_PKG_VERSION"),
        "PG": format!("T{}", session.page),
        "MS": session.meter,
        "IS": true,
        "IL": "NONE",
        "IF": [],
        "IT": "LOCAL",
        "ID": session.user,
        "RD": [reading("B", first), reading("E", last)],
    });
    let payload = payload.to_string();
    let signature = crate::ids::to_hex(&signer.sign(payload.as_bytes())?);
    let signature = json!({"SA": super::DEFAULT_ALGORITHM, "SE": "hex", "SD": signature});
    Ok(format!("OCMF|{payload}|{signature}"))
}
