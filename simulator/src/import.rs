//! Data of others: files in the formats that researchers have, read to one table of interval energies.
//!
//! One file an adapter. Each says where its rows stand in time (UTC, or local time of a zone with its days of 23 and 25
//! hours), what its numbers are (kWh, kW, cumulative kWh, €/MWh) and which way they count. What comes out is a [`Table`]:
//! whole watt-hours on a grid of intervals, a gap stays a gap, and the same instant twice is refused with both lines.
//! Sums are right to the watt-hour: rounding is a register's, which carries what is left over to the next interval.
//! Charging sessions stay sessions ([`sessions::Session`]). Nothing here opens a file.

pub mod builder;
pub mod decimal;
pub mod rows;
pub mod sessions;
pub mod stamp;
pub mod table;

mod acn;
mod ausgrid;
mod citylearn;
mod lcl;
mod opsd;
mod simbench;
mod smard;
mod wpuq;

use chrono_tz::Tz;

pub use sessions::Session;
pub use table::{Column, Quantity, Table};

/// Largest file in bytes.
pub const FILE_MAX_BYTES: usize = 1024 * 1024 * 1024;

/// Most values of one table.
pub const CELLS_MAX: usize = 20_000_000;

/// A format that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Low Carbon London: half hours of homes, one row each.
    Lcl,
    /// Ausgrid solar home: one row for each home, channel and day.
    Ausgrid,
    /// Open Power System Data, household data: cumulative kWh.
    Opsd,
    /// `WPuQ`: mean power in W, one table a file, exported from HDF5 to CSV.
    Wpuq,
    /// ACN-Data: charging sessions in JSON.
    Acn,
    /// SMARD: generation, consumption and prices of a country.
    Smard,
    /// `SimBench`: loads and plants with relative profiles.
    Simbench,
    /// `CityLearn`: hours of a building.
    Citylearn,
}

/// A file that was read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name, with or without a folder.
    pub name: &'a str,
    /// What is in it.
    pub text: &'a [u8],
}

/// What files do not say of themselves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The zone of local stamps, where it is another than the format's own.
    pub zone: Option<Tz>,
    /// Begin of the first row (`CityLearn`, whose rows have no year), as `2016-08-01T00:00` in the zone or with an offset.
    pub start: Option<String>,
    /// Size of the PV plant (`CityLearn`, which has generation for each kW).
    pub pv_kw: Option<f64>,
    /// Rows that are there twice with the same value are taken once and noted, rather than refused.
    pub drop_repeats: bool,
    /// Only these homes, columns or buildings; all where it is empty.
    pub only: Vec<String>,
}

impl Options {
    fn wants(&self, series: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == series)
    }

    fn zone_or(&self, own: Tz) -> Tz {
        self.zone.unwrap_or(own)
    }
}

/// What was read.
#[derive(Clone, Debug)]
pub enum Imported {
    /// Interval energies (and prices).
    Intervals(Table),
    /// Charging sessions.
    Sessions(Vec<Session>),
}

/// Why a file cannot be read. Nothing of it is used then.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImportError {
    /// Something in a line.
    #[error("{file}, line {line}: {what}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The file as a whole.
    #[error("{file}: {what}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// Something that has to be said beside the files.
    #[error("{0}")]
    Options(String),
}

impl ImportError {
    fn file(file: &str, what: impl Into<String>) -> ImportError {
        ImportError::File {
            file: file.to_owned(),
            what: what.into(),
        }
    }

    fn line(file: &str, line: u64, what: impl Into<String>) -> ImportError {
        ImportError::Line {
            file: file.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl Format {
    /// All of them, in the order of the documentation.
    pub const ALL: [Format; 8] = [
        Format::Lcl,
        Format::Ausgrid,
        Format::Opsd,
        Format::Wpuq,
        Format::Acn,
        Format::Smard,
        Format::Simbench,
        Format::Citylearn,
    ];

    /// What it is called on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Format::Lcl => "lcl",
            Format::Ausgrid => "ausgrid",
            Format::Opsd => "opsd",
            Format::Wpuq => "wpuq",
            Format::Acn => "acn",
            Format::Smard => "smard",
            Format::Simbench => "simbench",
            Format::Citylearn => "citylearn",
        }
    }

    /// What it is, in a sentence.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Format::Lcl => "Low Carbon London: LCLid, DateTime (UTC, end of the half hour), KWH/hh",
            Format::Ausgrid => "Ausgrid solar home: a row a day, 48 half hours in kWh (UTC+10)",
            Format::Opsd => "Open Power System Data households: cumulative kWh by utc_timestamp",
            Format::Wpuq => "WPuQ tables exported to CSV: index, P_TOT in W; a file is a series",
            Format::Acn => "ACN-Data: charging sessions in JSON",
            Format::Smard => "SMARD downloads, German or English: MWh and €/MWh (Europe/Berlin)",
            Format::Simbench => "SimBench CSV: Load, LoadProfile, RES, RESProfile (UTC+1)",
            Format::Citylearn => "CityLearn buildings: hourly kWh, needs --start; --pv-kw for PV",
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Reads files of one format to one table.
///
/// # Errors
/// The first thing that cannot be read, with file and line.
pub fn import(
    format: Format,
    files: &[Source<'_>],
    options: &Options,
) -> Result<Imported, ImportError> {
    if files.is_empty() {
        return Err(ImportError::Options("no file was named".to_owned()));
    }
    for file in files {
        if file.text.len() > FILE_MAX_BYTES {
            let what = format!(
                "has {} bytes, at most {FILE_MAX_BYTES} are read",
                file.text.len()
            );
            return Err(ImportError::file(file.name, what));
        }
    }
    let read: fn(&[Source<'_>], &Options) -> Result<Table, ImportError> = match format {
        Format::Acn => return Ok(Imported::Sessions(acn::read(files)?)),
        Format::Lcl => lcl::read,
        Format::Ausgrid => ausgrid::read,
        Format::Opsd => opsd::read,
        Format::Wpuq => wpuq::read,
        Format::Smard => smard::read,
        Format::Simbench => simbench::read,
        Format::Citylearn => citylearn::read,
    };
    read(files, options).map(Imported::Intervals)
}

/// The name of a file without folder and ending.
fn stem(name: &str) -> &str {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
