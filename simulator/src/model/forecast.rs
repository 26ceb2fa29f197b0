//! What a home expects, and how wrong that gets with distance: the true course times a first-order
//! autoregressive error that starts at nothing, so that its standard deviation at horizon h is
//! σ(h) = σ∞·√(1 − ρ^(2h)); or the same time on an earlier day.

use super::random::Draws;

/// Horizons of one forecast: a week of quarter hours.
pub const HORIZON_MAX: usize = 672;

/// How wrong forecasts are.
#[derive(Clone, Copy, PartialEq, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastError {
    /// Standard deviation far ahead: a share of the value where errors multiply, in the value's unit
    /// where they add.
    pub sigma_far: f64,
    /// Correlation of the errors of two neighbouring horizons, from 0 to below 1.
    pub rho: f64,
}

impl ForecastError {
    /// Forecasts that are right.
    pub const PERFECT: ForecastError = ForecastError {
        sigma_far: 0.0,
        rho: 0.0,
    };
    /// The load of one home: 40 % of its mean far ahead.
    pub const LOAD: ForecastError = ForecastError {
        sigma_far: 0.4,
        rho: 0.9,
    };
    /// A roof's share of a clear sky: 30 % far ahead.
    pub const PV: ForecastError = ForecastError {
        sigma_far: 0.3,
        rho: 0.97,
    };

    /// Standard deviation `horizon` intervals ahead (1 is the next one).
    #[must_use]
    pub fn sigma(self, horizon: u32) -> f64 {
        let far = libm::pow(self.rho, 2.0 * f64::from(horizon));
        self.sigma_far * libm::sqrt((1.0 - far).max(0.0))
    }

    /// Errors of one forecast, horizon after horizon.
    pub fn errors(self, mut draws: Draws) -> impl Iterator<Item = f64> {
        let noise = self.sigma_far * libm::sqrt((1.0 - self.rho * self.rho).max(0.0));
        let mut error = 0.0;
        std::iter::from_fn(move || {
            error = error * self.rho + noise * draws.normal();
            Some(error)
        })
    }

    /// Replaces the true course by its forecast: each value times 1 + error, never below zero.
    pub fn multiply(self, course: &mut [f64], draws: Draws) {
        if self.sigma_far > 0.0 {
            for (value, error) in course.iter_mut().zip(self.errors(draws)) {
                *value *= (1.0 + error).max(0.0);
            }
        }
    }

    /// Replaces the true course by its forecast: each value plus an error.
    pub fn add(self, course: &mut [f64], draws: Draws) {
        if self.sigma_far > 0.0 {
            for (value, error) in course.iter_mut().zip(self.errors(draws)) {
                *value += error;
            }
        }
    }
}

/// The same interval one period (a day, a week) earlier; `None` where the past does not reach back
/// that far. `horizon` counts from 1, the interval after the last one of `past`.
#[must_use]
pub fn persistence(past: &[f64], horizon: usize, period: usize) -> Option<f64> {
    if horizon == 0 || period == 0 {
        return None;
    }
    let back = period * horizon.div_ceil(period) - horizon;
    past.len().checked_sub(back + 1).map(|index| past[index])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::random::Stream;

    #[test]
    fn errors_grow_with_the_horizon_as_the_formula_says() {
        let (error, stream) = (ForecastError::LOAD, Stream::new(4, "forecast"));
        let mut squares = [0.0; 96];
        let forecasts = 4000;
        for issue in 0..forecasts {
            for (sum, e) in squares.iter_mut().zip(error.errors(stream.at(1, issue))) {
                *sum += e * e;
            }
        }
        for horizon in [1, 2, 8, 32, 96] {
            let found = (squares[horizon as usize - 1] / forecasts as f64).sqrt();
            let sigma = error.sigma(horizon);
            assert!(
                (found / sigma - 1.0).abs() < 0.05,
                "{found}, not {sigma}, at {horizon}"
            );
        }
        assert!(error.sigma(1) < 0.5 * error.sigma(96));
    }

    #[test]
    fn a_perfect_forecast_is_the_course() {
        let mut course = [1.0, 0.0, 3.5];
        ForecastError::PERFECT.multiply(&mut course, Stream::new(1, "f").at(0, 0));
        ForecastError::PERFECT.add(&mut course, Stream::new(1, "f").at(0, 0));
        assert!(
            course
                .iter()
                .zip([1.0, 0.0, 3.5])
                .all(|(a, b)| (a - b).abs() < 1e-15)
        );
    }

    #[test]
    fn a_forecast_is_never_below_zero_and_zero_stays_zero() {
        let wild = ForecastError {
            sigma_far: 3.0,
            rho: 0.5,
        };
        let mut course = [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        wild.multiply(&mut course, Stream::new(1, "f").at(0, 0));
        assert!(course.iter().all(|v| *v >= 0.0) && course[0].abs() < 1e-15);
    }

    #[test]
    fn persistence_is_yesterday() {
        let past: Vec<f64> = (0..10).map(f64::from).collect();
        assert_eq!(persistence(&past, 1, 4), Some(6.0));
        assert_eq!(persistence(&past, 4, 4), Some(9.0));
        assert_eq!(persistence(&past, 5, 4), Some(6.0));
        assert_eq!(persistence(&past, 1, 11), None);
        assert_eq!(persistence(&past, 0, 4), None);
    }
}
