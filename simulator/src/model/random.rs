//! Random numbers that are looked up by (seed, stream, home, interval), never drawn in turn: neither
//! threads, nor the order of homes, nor which other homes and devices exist change any of them.
//!
//! The generator is Philox 2×64 with ten rounds (Salmon et al., "Parallel random numbers: as easy as
//! 1, 2, 3", SC11): a keyed bijection of a 128-bit counter. Key: seed and stream. Counter: interval,
//! home, and the number of the block within that home and interval.

use domain::ids::digest_parts;

/// Philox 2×64: the multiplier, and what the key grows by each round.
const MULTIPLIER: u64 = 0xD2B7_4407_B1CE_6E93;
const WEYL: u64 = 0x9E37_79B9_7F4A_7C15;
const ROUNDS: u32 = 10;

/// The 128 bits at one place of the counter.
#[inline]
#[must_use]
pub const fn philox(mut key: u64, counter: [u64; 2]) -> [u64; 2] {
    let [mut left, mut right] = counter;
    let mut round = 0;
    while round < ROUNDS {
        let product = left as u128 * MULTIPLIER as u128;
        let (high, low) = halves(product);
        left = high ^ key ^ right;
        right = low;
        key = key.wrapping_add(WEYL);
        round += 1;
    }
    [left, right]
}

/// The upper and the lower 64 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "taking the lower 64 bits is what is wanted"
)]
const fn halves(product: u128) -> (u64, u64) {
    ((product >> 64) as u64, product as u64)
}

/// One named family of random numbers, for all homes and intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream {
    key: u64,
}

impl Stream {
    /// The stream called `name` (`load`, `clouds`, `ev`) under `seed`.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        let digest = digest_parts(
            "simulator model stream",
            &[&seed.to_be_bytes(), name.as_bytes()],
        );
        let mut key = 0_u64;
        for byte in &digest[..8] {
            key = key << 8 | u64::from(*byte);
        }
        Stream { key }
    }

    /// The numbers of one home in one interval (or of one home and day, session, device).
    #[inline]
    #[must_use]
    pub const fn at(self, home: u32, interval: i64) -> Draws {
        Draws {
            key: self.key,
            interval: interval.cast_unsigned(),
            place: (home as u64) << 32,
            block: [0; 2],
            taken: 2,
        }
    }

    /// The first 128 bits of each of many homes in one interval, for [`Stream::with`]: none waits for another's, so
    /// many take little more time than a few.
    pub fn blocks(self, homes: &[u32], interval: i64, blocks: &mut Vec<[u64; 2]>) {
        let interval = interval.cast_unsigned();
        let block = |home: &u32| philox(self.key, [interval, u64::from(*home) << 32]);
        blocks.clear();
        blocks.extend(homes.iter().map(block));
    }

    /// The same numbers as [`Stream::at`], where the first 128 bits are known.
    #[inline]
    #[must_use]
    pub const fn with(self, home: u32, interval: i64, block: [u64; 2]) -> Draws {
        Draws {
            key: self.key,
            interval: interval.cast_unsigned(),
            place: ((home as u64) << 32) + 1,
            block,
            taken: 0,
        }
    }

    /// The numbers that all homes share in one interval.
    #[inline]
    #[must_use]
    pub const fn shared(self, interval: i64) -> Draws {
        self.at(SHARED, interval)
    }
}

/// The number of no home: `Stream::shared` draws under it.
pub const SHARED: u32 = u32::MAX;

/// The numbers of one home and interval, one after the other. Up to 2³³ of 64 bits.
#[derive(Clone, Debug)]
pub struct Draws {
    key: u64,
    interval: u64,
    /// The home in the upper half, the number of the next block in the lower.
    place: u64,
    /// The block at hand, and how many of its two numbers are taken.
    block: [u64; 2],
    taken: u8,
}

impl Draws {
    /// The next 64 bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        if self.taken == 2 {
            self.block = philox(self.key, [self.interval, self.place]);
            self.place += 1;
            self.taken = 0;
        }
        self.taken += 1;
        self.block[usize::from(self.taken == 2)]
    }

    /// The next number in [0, 1), of 53 bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// The next number in (0, 1): never an end, so that its logarithm exists.
    #[inline]
    pub fn inner_unit(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) * (1.0 / 4_503_599_627_370_496.0)
    }

    /// The next number in [`low`, `high`).
    #[inline]
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// The next whole number below `bound`; 0 where `bound` is 0.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        halves(u128::from(self.bits()) * u128::from(bound)).0
    }

    /// The next standard normal number.
    #[inline]
    pub fn normal(&mut self) -> f64 {
        normal_quantile(self.inner_unit())
    }

    /// The next nearly normal number, quickly: the sum of four even ones, brought to mean 0 and variance 1. It
    /// never goes beyond ±3.47.
    #[inline]
    pub fn quick_normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48);
        // Four even numbers of 0 to 65535 sum to 131070 on average, with a deviation of 65536/√3.
        (sum as f32 - 131_070.0) * (1.732_050_8 / 65_536.0)
    }

    /// The next exponential number with mean 1.
    #[inline]
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.inner_unit())
    }

    /// The next log-normal number with this median and this standard deviation of its logarithm.
    #[inline]
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * libm::exp(sigma * self.normal())
    }

    /// The index of the next draw from `weights`; 0 where they sum to nothing.
    #[inline]
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        // Rounding can leave a rest behind the last weight.
        weights
            .iter()
            .rposition(|weight| *weight > 0.0)
            .unwrap_or(0)
    }
}

/// The standard normal number below which a share `p` of all lies, to about seven digits: algorithm
/// AS 241, PPND7 (Wichura, Applied Statistics 37, 1988). `p` in (0, 1).
#[inline]
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        let above =
            ((59.109_374_720 * r + 159.291_132_02) * r + 50.434_271_938) * r + 3.387_132_717_9;
        let below = ((67.187_563_600 * r + 78.757_757_664) * r + 17.895_169_469) * r + 1.0;
        return q * above / below;
    }
    let r = libm::sqrt(-libm::log(if q < 0.0 { p } else { 1.0 - p }));
    let size = if r <= 5.0 {
        let r = r - 1.6;
        (((0.170_238_211_03 * r + 1.306_728_481_6) * r + 2.756_815_390_0) * r + 1.423_437_277_7)
            / ((0.120_211_329_75 * r + 0.737_001_642_50) * r + 1.0)
    } else {
        let r = r - 5.0;
        (((0.017_337_203_997 * r + 0.428_682_943_37) * r + 3.081_226_386_0) * r + 6.657_905_115_0)
            / ((0.012_258_202_635 * r + 0.241_978_942_25) * r + 1.0)
    };
    if q < 0.0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the Random123 library for philox2x64 with ten rounds.
    #[test]
    fn philox_gives_the_known_answers() {
        let cases = [
            ([0, 0], 0, [0xca00_a045_9843_d731, 0x66c2_4222_c9a8_45b5]),
            (
                [u64::MAX, u64::MAX],
                u64::MAX,
                [0x65b0_21d6_0cd8_310f, 0x4d02_f322_2f86_df20],
            ),
            (
                [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
                0xa409_3822_299f_31d0,
                [0x0a5e_742c_2997_341c, 0xb0f8_83d3_8000_de5d],
            ),
        ];
        for (counter, key, answer) in cases {
            assert_eq!(philox(key, counter), answer, "{counter:x?} under {key:x}");
        }
    }

    #[test]
    fn a_number_depends_on_seed_stream_home_and_interval_only() {
        let value = |seed, name, home, interval| Stream::new(seed, name).at(home, interval).bits();
        let first = value(7, "load", 3, -5);
        let mut earlier = Stream::new(7, "load").at(9, 9);
        let _drawn_before = (earlier.bits(), earlier.normal());
        assert_eq!(value(7, "load", 3, -5), first);
        let others = [
            value(8, "load", 3, -5),
            value(7, "ev", 3, -5),
            value(7, "load", 4, -5),
            value(7, "load", 3, -4),
            Stream::new(7, "load").shared(-5).bits(),
        ];
        assert!(others.iter().all(|other| *other != first));
    }

    #[test]
    fn many_homes_at_once_are_the_same_as_one_by_one() {
        let (stream, homes) = (Stream::new(3, "many"), [0, 7, u32::MAX - 1]);
        let mut blocks = Vec::new();
        stream.blocks(&homes, -4, &mut blocks);
        for (home, block) in homes.into_iter().zip(blocks) {
            let (mut one, mut other) = (stream.at(home, -4), stream.with(home, -4, block));
            for _ in 0..5 {
                assert_eq!(one.bits(), other.bits());
            }
        }
    }

    #[test]
    fn the_quantile_is_that_of_the_normal_law() {
        for (p, z) in [
            (0.5, 0.0),
            (0.975, 1.959_963_985),
            (0.841_344_746, 1.0),
            (1e-6, -4.753_424_309),
            (1e-13, -7.348_796_103),
        ] {
            let found = normal_quantile(p);
            assert!((found - z).abs() < 2e-6, "{found} instead of {z} at {p}");
        }
    }

    /// Mean and variance of many draws, from other homes and intervals each time.
    fn moments(draw: impl Fn(&mut Draws) -> f64) -> (f64, f64) {
        let stream = Stream::new(11, "moments");
        let (mut sum, mut squares) = (0.0, 0.0);
        for home in 0..200 {
            for interval in 0..200 {
                let value = draw(&mut stream.at(home, interval));
                sum += value;
                squares += value * value;
            }
        }
        let mean = sum / 40_000.0;
        (mean, squares / 40_000.0 - mean * mean)
    }

    #[test]
    fn draws_have_the_moments_of_their_laws() {
        let near = |(mean, variance): (f64, f64), m: f64, v: f64| {
            // Five standard errors of the mean, and a tenth of the variance.
            let error = 5.0 * (v / 40_000.0).sqrt();
            assert!((mean - m).abs() < error, "mean {mean}, not {m}");
            assert!(
                (variance - v).abs() < 0.1 * v,
                "variance {variance}, not {v}"
            );
        };
        near(moments(Draws::unit), 0.5, 1.0 / 12.0);
        near(moments(|d| d.between(2.0, 4.0)), 3.0, 4.0 / 12.0);
        near(moments(Draws::normal), 0.0, 1.0);
        near(moments(|d| f64::from(d.quick_normal())), 0.0, 1.0);
        near(moments(Draws::exponential), 1.0, 1.0);
        near(moments(|d| d.below(6) as f64), 2.5, 35.0 / 12.0);
        near(
            moments(|d| d.weighted(&[0.0, 1.0, 3.0]) as f64),
            1.75,
            0.1875,
        );
        let sigma: f64 = 0.4;
        let mean = (sigma * sigma / 2.0).exp();
        let variance = ((sigma * sigma).exp() - 1.0) * mean * mean;
        near(moments(|d| d.log_normal(1.0, sigma)), mean, variance);
    }

    #[test]
    fn neighbours_do_not_resemble_each_other() {
        let stream = Stream::new(1, "neighbours");
        let (mut homes, mut intervals) = (0.0, 0.0);
        for index in 0..20_000_u32 {
            let here = stream.at(index, 7).normal();
            homes += here * stream.at(index + 1, 7).normal();
            let now = stream.at(7, i64::from(index)).normal();
            intervals += now * stream.at(7, i64::from(index) + 1).normal();
        }
        for sum in [homes, intervals] {
            assert!(
                (sum / 20_000.0_f64).abs() < 0.035,
                "correlation {}",
                sum / 20_000.0
            );
        }
    }
}
