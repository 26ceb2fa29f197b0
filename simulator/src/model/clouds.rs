//! Clouds where no weather file is given: how much of the clear sky's light comes through, as a first-order
//! autoregressive process that neighbours share, with a part of each home's own.
//!
//! The process is normal; a table turns its value into the share of the clear sky ([`Climate`]). The
//! memories (0.87 after ten minutes, 0.70 after an hour, 0.28 after a day) were measured on ten-minute
//! light at Aachen in June 2021 over Haurwitz' clear sky, sun above 12°; so were the quantiles.

use super::random::{Draws, normal_quantile};

/// Steps of the table of quantiles.
const QUANTILES: usize = 21;
/// Steps of the table by normal value, from −4 to 4.
const TABLE: usize = 129;
const TABLE_END: f64 = 4.0;
/// The last place from which another one follows.
const TABLE_LAST: usize = TABLE - 2;
/// Places for each unit of the normal value.
const TABLE_STEP: f64 = (TABLE as f64 - 1.0) / (2.0 * TABLE_END);
/// Shares of the shared process's variance that are forgotten slowly (weather) and quickly (single clouds).
const WEATHER_SHARE: f64 = 0.45;
const WEATHER_MEMORY_S: f64 = 160_000.0;
const CLOUD_MEMORY_S: f64 = 9_000.0;
/// How long a home's own part is remembered.
const OWN_MEMORY_S: f64 = 900.0;

/// Share of the clear sky's light at the quantiles 0, 5 … 100 %.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Climate(pub [f64; QUANTILES]);

impl Climate {
    /// Aachen in June 2021.
    pub const SUMMER: Climate = Climate([
        0.02, 0.078, 0.114, 0.166, 0.217, 0.290, 0.385, 0.480, 0.581, 0.667, 0.731, 0.783, 0.823,
        0.852, 0.875, 0.901, 0.925, 0.943, 0.959, 0.990, 1.10,
    ]);
    /// Aachen in January 2021.
    pub const WINTER: Climate = Climate([
        0.02, 0.039, 0.066, 0.093, 0.116, 0.147, 0.172, 0.195, 0.229, 0.255, 0.288, 0.331, 0.386,
        0.434, 0.491, 0.551, 0.610, 0.684, 0.770, 0.919, 1.10,
    ]);

    /// Between winter and summer by the day of the year: half way on 1 April and 1 October, in the
    /// northern half of the globe.
    #[must_use]
    pub fn of_day(day_of_year: u32) -> Climate {
        let turn = 2.0 * std::f64::consts::PI * (f64::from(day_of_year) - 91.0) / 365.25;
        let summer = 0.5 + 0.5 * libm::sin(turn);
        let mut mixed = Climate::WINTER;
        for (value, high) in mixed.0.iter_mut().zip(Climate::SUMMER.0) {
            *value += summer * (high - *value);
        }
        mixed
    }
}

/// A climate as a table by normal value: reading it needs no root and no exponential.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Transparency([f64; TABLE]);

impl Transparency {
    /// The table of a climate.
    #[must_use]
    pub fn new(climate: &Climate) -> Transparency {
        let mut points = [(0.0, 0.0); QUANTILES];
        for (index, (point, value)) in points.iter_mut().zip(climate.0).enumerate() {
            let p = (index as f64 / (QUANTILES as f64 - 1.0)).clamp(3.2e-5, 1.0 - 3.2e-5);
            *point = (normal_quantile(p), value);
        }
        let mut table = [0.0; TABLE];
        for (index, place) in table.iter_mut().enumerate() {
            let z = (index as f64 / (TABLE as f64 - 1.0) * 2.0 - 1.0) * TABLE_END;
            *place = points.windows(2).find(|pair| z <= pair[1].0).map_or(
                points[QUANTILES - 1].1,
                |pair| {
                    let part = ((z - pair[0].0) / (pair[1].0 - pair[0].0)).max(0.0);
                    pair[0].1 + part * (pair[1].1 - pair[0].1)
                },
            );
        }
        Transparency(table)
    }

    /// The share of the clear sky's light at a normal value.
    #[inline]
    #[must_use]
    pub fn share(&self, z: f64) -> f64 {
        let place = (z.clamp(-TABLE_END, TABLE_END) + TABLE_END) * TABLE_STEP;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 0 and the table's last step; what is no number becomes 0"
        )]
        let index = (place as usize).min(TABLE_LAST);
        let part = place - index as f64;
        self.0[index] + part * (self.0[index + 1] - self.0[index])
    }
}

/// How much one interval forgets.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Step {
    memory: f64,
    noise: f64,
}

impl Step {
    fn new(length_s: u32, memory_s: f64) -> Step {
        let memory = libm::exp(-f64::from(length_s) / memory_s);
        Step {
            memory,
            noise: libm::sqrt(1.0 - memory * memory),
        }
    }

    #[inline]
    fn next(self, value: f64, normal: f64) -> f64 {
        value * self.memory + normal * self.noise
    }
}

/// The cloud process in intervals of one length.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Clouds {
    weather: Step,
    cloud: Step,
    own: Step,
    own_share: f64,
    shared_share: f64,
}

/// The shared part's state.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SharedSky {
    weather: f64,
    cloud: f64,
}

impl Clouds {
    /// Clouds of which `own` (0 to 1) of the variance is each home's own: 0 for one roof or one hour's
    /// step, some 0.1 for a street in quarter hours.
    #[must_use]
    pub fn new(length_s: u32, own: f64) -> Clouds {
        let own = own.clamp(0.0, 1.0);
        Clouds {
            weather: Step::new(length_s, WEATHER_MEMORY_S),
            cloud: Step::new(length_s, CLOUD_MEMORY_S),
            own: Step::new(length_s, OWN_MEMORY_S),
            own_share: libm::sqrt(own),
            shared_share: libm::sqrt(1.0 - own),
        }
    }

    /// The sky before the first interval.
    #[must_use]
    pub fn begin(draws: &mut Draws) -> SharedSky {
        SharedSky {
            weather: draws.normal(),
            cloud: draws.normal(),
        }
    }

    /// Moves the shared part on by one interval (draws: those that all homes share in it); gives its
    /// normal value.
    pub fn step(&self, sky: &mut SharedSky, draws: &mut Draws) -> f64 {
        sky.weather = self.weather.next(sky.weather, draws.normal());
        sky.cloud = self.cloud.next(sky.cloud, draws.normal());
        libm::sqrt(WEATHER_SHARE) * sky.weather + libm::sqrt(1.0 - WEATHER_SHARE) * sky.cloud
    }

    /// A home's normal value: the shared one mixed with its own part, which moves on by one interval.
    #[inline]
    pub fn at_home(&self, shared: f64, own: &mut f64, draws: &mut Draws) -> f64 {
        if self.own_share > 0.0 {
            *own = self.own.next(*own, f64::from(draws.quick_normal()));
        }
        self.shared_share * shared + self.own_share * *own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::random::Stream;

    #[test]
    fn the_table_gives_the_quantiles_back() {
        let table = Transparency::new(&Climate::SUMMER);
        for (index, value) in Climate::SUMMER.0.iter().enumerate().skip(1).take(19) {
            let share = table.share(normal_quantile(index as f64 / 20.0));
            assert!((share - value).abs() < 0.01, "{share}, not {value}");
        }
        assert!((table.share(-9.0) - 0.02).abs() < 1e-9 && (table.share(9.0) - 1.1).abs() < 1e-9);
    }

    /// Correlation of two series of normal values.
    fn correlation(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        let (mut n, mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0, 0.0);
        for (x, y) in pairs {
            (n, xx, yy, xy) = (n + 1.0, xx + x * x, yy + y * y, xy + x * y);
        }
        assert!(n > 1000.0);
        xy / (xx * yy).sqrt()
    }

    #[test]
    fn memory_and_spread_are_the_measured_ones() {
        let (clouds, stream) = (Clouds::new(600, 0.0), Stream::new(2, "clouds"));
        let mut sky = Clouds::begin(&mut stream.shared(-1));
        let values: Vec<f64> = (0..200_000)
            .map(|i| clouds.step(&mut sky, &mut stream.shared(i)))
            .collect();
        let variance = values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
        assert!((0.85..1.15).contains(&variance), "{variance}");
        for (steps, low, high) in [(1, 0.85, 0.99), (6, 0.62, 0.88), (144, 0.15, 0.40)] {
            let found = correlation(values.iter().zip(&values[steps..]).map(|(a, b)| (*a, *b)));
            assert!((low..high).contains(&found), "{found} after {steps} steps");
        }
    }

    #[test]
    fn neighbours_share_what_is_not_their_own() {
        let (clouds, stream) = (Clouds::new(900, 0.2), Stream::new(2, "clouds"));
        let mut sky = Clouds::begin(&mut stream.shared(-1));
        let (mut one, mut two) = (0.0, 0.0);
        let pairs = (0..50_000).map(|i| {
            let shared = clouds.step(&mut sky, &mut stream.shared(i));
            (
                clouds.at_home(shared, &mut one, &mut stream.at(1, i)),
                clouds.at_home(shared, &mut two, &mut stream.at(2, i)),
            )
        });
        let found = correlation(pairs);
        assert!((0.75..0.85).contains(&found), "{found}");
    }

    #[test]
    fn january_is_greyer_than_june() {
        let middle = |day| Climate::of_day(day).0[10];
        assert!(middle(15) < 0.35 && middle(180) > 0.70 && middle(91) < 0.55);
    }
}
