//! The fast simulator: a scenario and a seed become a run – homes, their market, their settlement – in
//! virtual time, by the auction and the rules of the live platform, and a folder with what came out.
//!
//! In flow order, for each window of intervals: [`calendar`] (which intervals, by the street's clock) →
//! `devices` (what flows, on several threads) → [`market`] (forecast, order, clearing by
//! `market-engine`) → `meters` (what readings say of it) → `settling` (by `settlement`) → checks and
//! sums ([`engine`]). `detail` writes it down row by row; where the run signs, in the platform's own types, with its
//! deliveries, settlement, postings and log, and where it only writes postings it does so for some intervals. Both must
//! agree to the nano-token.
//!
//! Then [`kpis`], [`folder`], [`summary`], [`report`] and [`plot`] say what it came to; [`sweep`] and
//! [`compare`] put runs beside each other.

pub mod behaviour;
pub mod builtin;
pub mod calendar;
mod cars;
pub mod compare;
mod counter;
mod detail;
mod devices;
pub mod engine;
mod evidence;
pub mod folder;
pub mod grid;
pub mod homes;
pub mod household;
pub mod kpis;
pub mod market;
mod meters;
pub mod network;
pub mod optimum;
#[cfg(feature = "tables")]
mod parquet;
pub mod plot;
pub mod report;
pub mod scenario;
mod settling;
mod sky;
pub mod sources;
pub mod stats;
pub mod summary;
pub mod sweep;
pub mod table;
pub mod tables;
pub mod tariffs;
pub mod weather_file;

use std::path::Path;

use domain::time::Interval;

pub use detail::TableChoice;

/// Longest text that a run reads: a scenario, an experiment, prices, weather, a network.
pub const TEXT_MAX_BYTES: u64 = 128 * 1024 * 1024;

/// Why there is no run, by who can mend it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A scenario, an experiment or an option that makes no sense.
    #[error("{0}")]
    Bad(String),
    /// A file that cannot be read or written.
    #[error("{0}")]
    Write(String),
    /// An amount that does not fit: prices or energies are too large.
    #[error("{0}: an amount does not fit 64 bits: use smaller prices or energies")]
    Overflow(Interval),
    /// A limit price was violated: an error of this program.
    #[error("{0}: a limit price was violated")]
    Limit(Interval),
    /// Something does not sum to zero: an error of this program.
    #[error("{0}: energy or tokens do not sum to zero")]
    Sum(Interval),
    /// The fast sums and the platform's own settlement differ: an error of this program.
    #[error("{interval}: {what}")]
    Differ {
        /// When.
        interval: Interval,
        /// What differs.
        what: String,
    },
}

impl RunError {
    fn bad(text: String) -> Self {
        RunError::Bad(text)
    }

    fn overflow(interval: Interval) -> Self {
        RunError::Overflow(interval)
    }

    /// Reads a text that may not be longer than [`TEXT_MAX_BYTES`].
    fn read(path: &Path) -> Result<String, Self> {
        use std::io::Read;
        let file = std::fs::File::open(path).map_err(|e| Self::file(path, &e))?;
        let mut text = String::new();
        file.take(TEXT_MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(|e| Self::file(path, &e))?;
        if text.len() as u64 > TEXT_MAX_BYTES {
            return Err(Self::bad(format!(
                "{}: more than {TEXT_MAX_BYTES} bytes",
                path.display()
            )));
        }
        Ok(text)
    }

    fn file(path: &Path, error: &std::io::Error) -> Self {
        RunError::Write(format!("{}: {error}", path.display()))
    }
}
