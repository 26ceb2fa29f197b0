//! Random numbers of the market's side of a run, looked up by seed, stream, home and interval: neither
//! threads nor which other homes exist change one of them.

use domain::ids::digest_parts;

/// One named family of numbers of one home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counter {
    key: u64,
}

impl Counter {
    /// The family `stream` of `home` under `seed`.
    pub(crate) fn new(seed: u64, stream: &str, home: &str) -> Self {
        let parts: [&[u8]; 3] = [&seed.to_be_bytes(), stream.as_bytes(), home.as_bytes()];
        let digest = digest_parts("simulator counter", &parts);
        let mut key = [0; 8];
        key.copy_from_slice(&digest[..8]);
        Counter {
            key: u64::from_be_bytes(key),
        }
    }

    /// The number of an index: every bit depends on every bit of seed, name and index (splitmix64).
    pub(crate) fn at(self, index: u64) -> u64 {
        let mut mixed = self
            .key
            .wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A whole number from `low` to `high`, both included, from the upper 32 bits of an index's number.
    pub(crate) fn whole(self, index: u64, low: i64, high: i64) -> i64 {
        scale(self.at(index) >> 32, low, high)
    }
}

/// 32 random bits as a whole number from `low` to `high`, for spans below 2^31.
pub(crate) fn scale(bits: u64, low: i64, high: i64) -> i64 {
    let span = high.abs_diff(low) + 1;
    low.saturating_add_unsigned((bits * span) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_seed_stream_home_and_index() {
        let at = |seed, stream, home, index| Counter::new(seed, stream, home).at(index);
        let first = at(7, "order", "home-01", 3);
        assert_eq!(first, at(7, "order", "home-01", 3));
        for other in [
            at(8, "order", "home-01", 3),
            at(7, "fault", "home-01", 3),
            at(7, "order", "home-02", 3),
            at(7, "order", "home-01", 4),
        ] {
            assert_ne!(other, first);
        }
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let counter = Counter::new(1, "even", "home");
        let mut seen = [0_u32; 10];
        for index in 0..100_000 {
            let digit = usize::try_from(counter.whole(index, 0, 9)).unwrap();
            seen[digit] += 1;
        }
        assert!(seen.iter().all(|n| (9_500..10_500).contains(n)), "{seen:?}");
    }
}
