//! Charging sessions.

use std::io::{self, Write};

use super::stamp::shown;
use super::table::quoted;

/// A car that was plugged in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Its id in the source.
    pub id: String,
    /// The charging point.
    pub station: String,
    /// Plugged in, in seconds of UTC.
    pub connected_s: i64,
    /// Unplugged.
    pub disconnected_s: i64,
    /// When charging ended, where it is known.
    pub done_s: Option<i64>,
    /// Energy that was delivered.
    pub energy_wh: i64,
    /// Energy that the driver asked for.
    pub requested_wh: Option<i64>,
    /// When the driver wanted to leave.
    pub requested_departure_s: Option<i64>,
}

/// The first line of a file of sessions.
const HEADER: &str = "session,station,connected_utc,disconnected_utc,done_charging_utc,energy_wh,requested_wh,requested_departure_utc";

/// Writes a header and a line for each session; what is not known is empty.
///
/// # Errors
/// The writer's.
pub fn write_csv(sessions: &[Session], into: &mut dyn Write) -> io::Result<()> {
    let time = |time: Option<i64>| time.map_or_else(String::new, shown);
    writeln!(into, "{HEADER}")?;
    for s in sessions {
        let requested = s.requested_wh.map_or_else(String::new, |wh| wh.to_string());
        writeln!(
            into,
            "{},{},{},{},{},{},{requested},{}",
            quoted(&s.id),
            quoted(&s.station),
            shown(s.connected_s),
            shown(s.disconnected_s),
            time(s.done_s),
            s.energy_wh,
            time(s.requested_departure_s),
        )?;
    }
    Ok(())
}
