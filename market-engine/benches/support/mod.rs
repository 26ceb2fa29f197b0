//! What the benches share: a generator that gives the same numbers everywhere, and the thread's clock.

use rustix::time::{ClockId, clock_gettime};

/// Splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number of a range, both ends included.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.below(high.abs_diff(low) + 1)).unwrap()
    }
}

/// Processor time of this thread in nanoseconds: other programs on the machine do not count.
fn thread_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// The median of several rounds; what `before` does and what is dropped does not count.
pub(crate) fn median_ns<B, R>(
    rounds: usize,
    mut before: impl FnMut() -> B,
    mut round: impl FnMut(B) -> R,
) -> f64 {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let input = before();
        let from = thread_ns();
        let result = std::hint::black_box(round(input));
        times.push(thread_ns() - from);
        drop(result);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
