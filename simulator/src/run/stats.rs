//! Means with their 95 % confidence, and differences of pairs, for figures over seeds.

/// Student's t for 95 % two-sided, by degrees of freedom from 1.
const T95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];
/// The same of the normal law, and the first term by which t is larger: (z³ + z) / 4.
const Z95: f64 = 1.959_964;
const Z95_TERM: f64 = 2.372_3;

/// A mean and half the width of its 95 % confidence interval.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct Mean {
    /// How many values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// The interval is mean ± this; none for one value.
    pub ci95: Option<f64>,
}

impl Mean {
    /// Of some values; none of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let real = count as f64;
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / real;
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        let ci95 = (count > 1).then(|| {
            let deviation = (squares / (real - 1.0)).sqrt();
            t95(count - 1) * deviation / real.sqrt()
        });
        Some(Mean { count, mean, ci95 })
    }

    /// Whether zero lies outside the interval.
    #[must_use]
    pub fn differs_from_zero(&self) -> bool {
        self.ci95.is_some_and(|half| self.mean.abs() > half)
    }
}

fn t95(freedom: usize) -> f64 {
    match T95.get(freedom.saturating_sub(1)) {
        Some(t) if freedom > 0 => *t,
        _ => Z95 + Z95_TERM / freedom as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_has_the_width_of_students_law() {
        // Mean 5, standard deviation 2.138 09, t(7) = 2.365.
        let mean = Mean::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert!((mean.mean - 5.0).abs() < 1e-12);
        assert!((mean.ci95.unwrap() - 2.365 * 2.138_09 / 8.0_f64.sqrt()).abs() < 1e-4);
        assert!(mean.differs_from_zero());
        assert_eq!(Mean::of(&[3.0]).unwrap().ci95, None);
        assert_eq!(Mean::of(&[]), None);
        // Between the table and the law of large numbers: t(60) = 2.000.
        assert!((t95(60) - 2.000).abs() < 1e-3 && (t95(1000) - 1.962).abs() < 1e-3);
    }
}
