//! Random numbers that are looked up, not drawn in turn: a number depends only on the seed, the name
//! of its stream and its index. The order of calls, and which other homes exist, change nothing.

use domain::ids::digest_parts;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One named family of random numbers.
#[derive(Clone)]
pub(crate) struct Stream {
    key: [u8; 32],
}

impl Stream {
    /// The stream called `name` (for example `home-03/load`) under `seed`.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        Stream {
            key: digest_parts("simulator stream", &[&seed.to_be_bytes(), name.as_bytes()]),
        }
    }

    /// The numbers of one index (a day, a cloud knot); read as many as are needed.
    pub(crate) fn at(&self, index: i64) -> Draws {
        let mut rng = ChaCha8Rng::from_seed(self.key);
        rng.set_stream(u64::from_be_bytes(index.to_be_bytes()));
        Draws { rng }
    }
}

/// The numbers of one index, one after the other.
pub(crate) struct Draws {
    rng: ChaCha8Rng,
}

impl Draws {
    /// The next number in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        f64::from(self.rng.next_u32()) / 4_294_967_296.0
    }

    /// The next number in [`low`, `high`).
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// The next whole number from `low` to `high`, both included.
    pub(crate) fn whole(&mut self, low: i64, high: i64) -> i64 {
        debug_assert!(low <= high, "no whole number lies between {low} and {high}");
        let span = i128::from(high) - i128::from(low) + 1;
        let offset = (i128::from(self.rng.next_u32()) * span) >> 32;
        i64::try_from(i128::from(low) + offset).unwrap_or(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_depends_only_on_seed_name_and_index() {
        let value = |seed, name, index| Stream::new(seed, name).at(index).unit();
        let first = value(7, "home-01/load", 3);
        let stream = Stream::new(7, "home-01/load");
        let _other = stream.at(99).unit();
        assert!((stream.at(3).unit() - first).abs() < f64::EPSILON);
        for other in [
            value(8, "home-01/load", 3),
            value(7, "home-02/load", 3),
            value(7, "x", 3),
        ] {
            assert!((other - first).abs() > 1e-9);
        }
    }

    #[test]
    fn numbers_fill_their_range() {
        let mut draws = Stream::new(1, "range").at(-5);
        let values: Vec<i64> = (0..2000).map(|_| draws.whole(-2, 2)).collect();
        assert!((-2..=2).all(|v| values.contains(&v)));
        assert!(values.iter().all(|v| (-2..=2).contains(v)));
        assert!((0..2000).all(|_| (3.0..4.0).contains(&draws.between(3.0, 4.0))));
    }
}
