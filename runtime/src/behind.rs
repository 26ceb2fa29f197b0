//! Long calculations on threads of their own, as many as there are cores. Where there is too little of the processor, what stores
//! and settles gets three times their share of it (on Linux), so that a flood of things to be checked holds it up little.

use std::num::NonZero;
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::oneshot;

/// How far they stand back, as of `nice`: a usual thread has three times their share of a core.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// The threads; they end with it.
pub struct Behind {
    pool: ThreadPool,
    threads: usize,
}

impl Behind {
    /// Starts them.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start() -> Result<Self, ThreadPoolBuildError> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("behind-{n}"))
            .start_handler(|_| stand_back())
            // What panicked has been told of; whoever waits for it learns that nothing will come.
            .panic_handler(drop)
            .build()?;
        Ok(Behind { pool, threads })
    }

    /// How many calculations go on at once.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Begins a calculation when those before it have begun. Its result comes over the channel, which is closed where it
    /// panicked.
    pub fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, result) = oneshot::channel();
        self.pool.spawn_fifo(move || {
            // Whoever asked may have gone.
            let _ = done.send(work());
        });
        result
    }
}

/// On Linux a thread stands back by itself; elsewhere the whole process would.
fn stand_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!("a thread stays where it is in the queue for the processor: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_result_comes_and_a_panic_ends_nothing_else() {
        let behind = Behind::start().unwrap();
        let lost = behind.begin(|| assert!(std::hint::black_box(false), "on purpose"));
        assert!(lost.await.is_err());
        let results: Vec<_> = (0..100).map(|n| behind.begin(move || n * 2)).collect();
        for (n, result) in (0..).zip(results) {
            assert_eq!(result.await, Ok(n * 2));
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn they_stand_back_and_nobody_else_does() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let (_, fields) = stat.rsplit_once(')').unwrap();
            fields.split(' ').nth(17).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        let behind = Behind::start().unwrap();
        assert_eq!(behind.begin(nice).await, Ok((before + NICE).min(19)));
        assert_eq!(nice(), before);
    }
}
