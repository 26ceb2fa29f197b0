//! Where a household's load comes from: the generator, a standard profile, a file, or some of each.

use serde::{Deserialize, Serialize};

use super::RunError;
use super::scenario::RunHome;
use super::sky::Now;
use super::sources::{Library, MICRO, Series, SeriesSource};
use crate::model::load::{Household, LoadState};
use crate::model::random::Stream;
use crate::number::{bounded, float};

/// A part of a household's load.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoadPart {
    /// Where it comes from.
    pub source: LoadSource,
    /// What it is multiplied by: of `yearly_load_kwh` for the generator and the profiles, of the file's energies.
    #[serde(default = "whole")]
    pub share: f64,
    /// The series, where it comes from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesSource>,
    /// Whether the generator fills intervals for which the file has no value, at `yearly_load_kwh`; a run whose file has
    /// gaps is refused otherwise.
    #[serde(default)]
    pub fill_gaps: bool,
}

fn whole() -> f64 {
    1.0
}

/// Where a part of a load comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadSource {
    /// The model of `simulator::model::load`: every home is another.
    Generator,
    /// The standard profile H0 with the factor of the day: all homes move together.
    H0,
    /// The standard profile H25.
    H25,
    /// A file.
    File,
}

/// Profiles that [`Now`] has the value of: the place of each.
pub(super) const PROFILES: [LoadSource; 2] = [LoadSource::H0, LoadSource::H25];

impl LoadPart {
    /// What is wrong with a key, and what it may be.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if !(0.0..=1000.0).contains(&self.share) {
            return Err(("share", "0 to 1000"));
        }
        match (&self.series, self.source) {
            (Some(series), LoadSource::File) => series.check(),
            (None, LoadSource::File) => Err(("source", "`file` needs series = { file = \"…\" }")),
            (Some(_), _) => Err(("series", "only where source is `file`")),
            (None, _) if self.fill_gaps => Err(("fill_gaps", "only where source is `file`")),
            (None, _) => Ok(()),
        }
    }
}

/// A part that is running.
enum Part {
    /// µWh of the home for each kWh of the profile's 1000.
    Profile { place: usize, share: f64 },
    /// A share of the generator's whole watt-hours.
    Generator { share_ppm: i64 },
    File {
        series: Series,
        share_ppm: i64,
        fill_gaps: bool,
    },
}

/// A household whose load is not the generator's alone.
pub(super) struct Mix {
    parts: Vec<Part>,
    yearly_kwh: f64,
    /// µWh that are not a watt-hour yet.
    carry: i64,
}

impl Mix {
    /// The mix of a home; none where its load is the generator's.
    pub(super) fn new(
        home: &RunHome,
        library: &mut Library<'_>,
    ) -> Result<Option<Box<Self>>, RunError> {
        if home.load.is_empty() {
            return Ok(None);
        }
        let mut parts = Vec::with_capacity(home.load.len());
        for part in &home.load {
            let share_ppm = bounded(part.share * 1e6, 1_000_000_000);
            parts.push(match (part.source, &part.series) {
                (LoadSource::File, Some(series)) => Part::File {
                    series: library.series(series, "consumption", part.fill_gaps)?,
                    share_ppm,
                    fill_gaps: part.fill_gaps,
                },
                (source, _) => match PROFILES.iter().position(|known| *known == source) {
                    Some(place) => Part::Profile {
                        place,
                        share: part.share,
                    },
                    None => Part::Generator { share_ppm },
                },
            });
        }
        Ok(Some(Box::new(Mix {
            parts,
            yearly_kwh: float(home.yearly_load_kwh),
            carry: 0,
        })))
    }

    /// The whole watt-hours of an interval.
    pub(super) fn step_wh(
        &mut self,
        household: &Household,
        state: &mut LoadState,
        now: &Now,
        stream: Stream,
    ) -> i32 {
        // The generator goes on where it is not asked for, so that a gap does not change what comes after it.
        let made_wh = i64::from(household.step_wh(state, &now.load, stream));
        let start_s = now.moment.interval.start_s();
        let share = |micro: i64, ppm: i64| {
            i64::try_from(i128::from(micro) * i128::from(ppm) / 1_000_000).unwrap_or(0)
        };
        let mut micro = self.carry;
        for part in &self.parts {
            micro += match part {
                Part::Profile { place, share } => {
                    let wh = now.profiles_kwh[*place] * self.yearly_kwh * share;
                    bounded(wh * float(MICRO), i64::MAX >> 16)
                }
                Part::Generator { share_ppm } => share(made_wh * MICRO, *share_ppm),
                Part::File {
                    series,
                    share_ppm,
                    fill_gaps,
                } => match series.micro_wh(start_s) {
                    Some(found) => share(found, *share_ppm),
                    None if *fill_gaps => share(made_wh * MICRO, *share_ppm),
                    None => 0,
                },
            };
        }
        let whole_wh = micro.div_euclid(MICRO);
        self.carry = micro.rem_euclid(MICRO);
        i32::try_from(whole_wh).unwrap_or(i32::MAX)
    }
}
