//! What all homes of a run share, interval by interval: the sun, the light of the sky, air and wind, and the
//! rhythm of the day.

use super::RunError;
use super::calendar::{Calendar, Moment};
use super::household::{LoadSource, PROFILES};
use super::scenario::{ClearSky, RunScenario, RunSite};
use super::weather_file::WeatherScenario;
use crate::model::bdew::{Profile, ProfileYear, german_holidays};
use crate::model::clear_sky::{Light, erbs, haurwitz_w_per_m2, ineichen};
use crate::model::clouds::{Climate, Clouds, SharedSky, Transparency};
use crate::model::load::{Day, LoadNow};
use crate::model::plane::SkyModel;
use crate::model::pv::Cooling;
use crate::model::random::Stream;
use crate::model::sun::{Place, Sun};
use crate::weather::Weather;

/// Wind where no file says otherwise.
const WIND_MS: f64 = 2.0;
/// What of the clouds' variance is each roof's own.
const OWN_CLOUDS: f64 = 0.1;

/// What all homes share in one interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) moment: Moment,
    pub(super) number: i64,
    pub(super) load: LoadNow,
    /// Energy of the standard profiles [`PROFILES`], in kWh for 1000 kWh a year; nothing where no home has one.
    pub(super) profiles_kwh: [f64; PROFILES.len()],
    pub(super) sun: Sun,
    pub(super) light: Light,
    /// The clouds' normal value, and the share of the clear sky's light that it stands for; no light, no share.
    pub(super) clouds: Option<(f64, f64)>,
    pub(super) sky: SkyModel,
    pub(super) air_c: f64,
    pub(super) cooling: Cooling,
}

/// Intervals that are worked through together, and what the utility takes from then on.
pub(super) struct Window {
    pub(super) steps: Vec<Now>,
    /// Retail prices of the window's intervals and of those after it, in micro-token per kWh.
    pub(super) retail_micro: Vec<i64>,
    pub(super) transparency: Transparency,
    pub(super) clouds: Clouds,
}

/// Where clouds come from.
enum Cover {
    /// A mean cover that a scenario names.
    Plain(Box<Weather>),
    /// The season's, fitted to measured skies.
    Season(SharedSky),
    /// A file's; it has air and wind too.
    File(Box<WeatherScenario>),
}

/// The sky and the rhythm of a run.
pub(super) struct Sky {
    place: Place,
    cover: Cover,
    clouds: Clouds,
    stream: Stream,
    length_s: u32,
    clear: ClearSky,
    /// Linke turbidity of the twelve months.
    turbidity: [f64; 12],
    model: SkyModel,
    profiles: Profiles,
}

impl Sky {
    pub(super) fn new(scenario: &RunScenario, seed: u64) -> Self {
        let site: &RunSite = &scenario.site;
        let stream = Stream::new(seed, "clouds");
        Sky {
            place: Place {
                latitude_deg: site.latitude,
                longitude_deg: site.longitude,
                altitude_m: site.altitude_m,
            },
            cover: match (&scenario.weather, site.cloudiness) {
                (Some(weather), _) => Cover::File(Box::new(weather.clone())),
                (None, Some(cloudiness)) => Cover::Plain(Box::new(Weather::new(seed, cloudiness))),
                (None, None) => Cover::Season(Clouds::begin(&mut stream.shared(-1))),
            },
            clouds: Clouds::new(site.interval_s, OWN_CLOUDS),
            stream,
            length_s: site.interval_s,
            clear: site.clear_sky,
            turbidity: site.turbidity(),
            model: site.sky,
            profiles: Profiles::new(scenario),
        }
    }

    /// What holds in some intervals of one day.
    pub(super) fn window(
        &mut self,
        calendar: &Calendar,
        moments: &[Moment],
        retail_micro: Vec<i64>,
    ) -> Result<Window, RunError> {
        let day = moments.first().map_or(1, |m| calendar.day_of_year(m.day));
        let transparency = Transparency::new(&Climate::of_day(day));
        let steps = moments
            .iter()
            .map(|m| self.now(calendar, &transparency, *m));
        Ok(Window {
            steps: steps.collect::<Result<_, _>>()?,
            retail_micro,
            transparency,
            clouds: self.clouds,
        })
    }

    fn now(
        &mut self,
        calendar: &Calendar,
        transparency: &Transparency,
        moment: Moment,
    ) -> Result<Now, RunError> {
        let interval = moment.interval;
        // The sun of an interval is that of its middle.
        let middle_s = interval.start_s() + i64::from(interval.length_s()) / 2;
        let sun = Sun::at(middle_s, self.place)
            .ok_or_else(|| RunError::bad(format!("{interval}: the sun's place is not known")))?;
        let day = calendar.day_of_year(moment.day);
        let number = interval.start_s() / i64::from(self.length_s);
        let second = u32::from(moment.day_minute) * 60;
        let made_c = air_c(day, second);
        let (mut sun, mut sky) = (sun, self.model);
        let date = calendar.date(moment.day);
        let turbidity = self.turbidity[chrono::Datelike::month0(&date) as usize % 12];
        let (clear, place) = (self.clear, self.place);
        let made = |share: f64| made(clear, sun, place, turbidity, share);
        let (light, clouds, air_c, wind_ms) = match &mut self.cover {
            Cover::Plain(weather) => (made(weather.sky(middle_s).clearness), None, made_c, WIND_MS),
            Cover::Season(shared) => {
                let z = self.clouds.step(shared, &mut self.stream.shared(number));
                let share = transparency.share(z);
                (made(share), Some((z, share)), made_c, WIND_MS)
            }
            Cover::File(weather) => {
                sun = sun.unrefracted();
                sky = weather.sky;
                let (row, light) = weather.of(interval, self.place, sun)?;
                (light, None, row.air_c, row.wind_ms)
            }
        };
        let weekend = matches!(
            chrono::Datelike::weekday(&date),
            chrono::Weekday::Sat | chrono::Weekday::Sun
        );
        let kind = if weekend { Day::Free } else { Day::Work };
        let lit = light.global > 0.0;
        Ok(Now {
            moment,
            number,
            load: LoadNow::new(number, second, kind, season(day), self.length_s),
            profiles_kwh: self.profiles.at(date, second, self.length_s),
            sun,
            light,
            clouds: clouds.filter(|_| lit),
            sky,
            air_c,
            cooling: Cooling::new(air_c, wind_ms),
        })
    }
}

/// The light of a made sky of which `share` comes through. A sky of Ineichen that is clear has its own beam and
/// diffuse light; all others are split by Erbs.
fn made(clear: ClearSky, sun: Sun, place: Place, turbidity: f64, share: f64) -> Light {
    match clear {
        ClearSky::Haurwitz => erbs(haurwitz_w_per_m2(sun) * share, sun),
        ClearSky::Ineichen => {
            let light = ineichen(sun, place, turbidity);
            if share >= 1.0 {
                light
            } else {
                erbs(light.global * share, sun)
            }
        }
    }
}

/// The standard profiles that homes of a run follow, year by year.
struct Profiles {
    wanted: [bool; PROFILES.len()],
    years: Vec<(usize, ProfileYear)>,
}

impl Profiles {
    fn new(scenario: &RunScenario) -> Self {
        let homes = scenario.homes.iter().flat_map(|home| &home.load);
        let groups = scenario.groups.iter().flat_map(|group| &group.load);
        let parts: Vec<LoadSource> = homes.chain(groups).map(|part| part.source).collect();
        Profiles {
            wanted: PROFILES.map(|profile| parts.contains(&profile)),
            years: Vec::new(),
        }
    }

    /// Energies of an interval that begins `second` after local midnight.
    fn at(&mut self, date: chrono::NaiveDate, second: u32, length_s: u32) -> [f64; PROFILES.len()] {
        let mut found = [0.0; PROFILES.len()];
        for (place, sum) in found.iter_mut().enumerate() {
            if !self.wanted[place] {
                continue;
            }
            let year = self.year(place, chrono::Datelike::year(&date));
            // Quarter hours that the interval touches, each by the part that it has of it.
            for quarter in second / 900..=(second + length_s - 1) / 900 {
                let from = (quarter * 900).max(second);
                let to = (quarter * 900 + 900).min(second + length_s);
                let part = f64::from(to.saturating_sub(from)) / 900.0;
                *sum += year.kwh(date, usize::try_from(quarter).unwrap_or(0)) * part;
            }
        }
        found
    }

    fn year(&mut self, place: usize, year: i32) -> &ProfileYear {
        let known = |(of, made): &(usize, ProfileYear)| *of == place && made.year() == year;
        let at = self.years.iter().position(known).unwrap_or_else(|| {
            let profile = match PROFILES[place] {
                LoadSource::H25 => Profile::H25,
                _ => Profile::H0,
            };
            let made = ProfileYear::new(profile, year, german_holidays(year));
            self.years.push((place, made));
            self.years.len() - 1
        });
        &self.years[at].1
    }
}

/// The year's rhythm of household use around 1: the polynomial of the German standard profile H0.
fn season(day_of_year: u32) -> f64 {
    crate::model::bdew::dynamic_factor(f64::from(day_of_year))
}

/// A plain year: warmest in late July, warmest of the day in mid-afternoon.
fn air_c(day_of_year: u32, second_of_day: u32) -> f64 {
    let year = std::f64::consts::TAU * (f64::from(day_of_year) - 205.0) / 365.25;
    let day = std::f64::consts::TAU * (f64::from(second_of_day) / 3600.0 - 15.0) / 24.0;
    9.5 + 9.0 * libm::cos(year) + 4.0 * libm::cos(day)
}
