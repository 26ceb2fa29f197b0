//! The file that keeps virtual time across a crash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::time::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Clock;

/// How far ahead the lease reaches, in milliseconds of wall time: also the largest jump forward
/// after a crash (times the speed).
pub const LEASE_WALL_MS: i64 = 2_000;
/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(500);

/// The durable side of a virtual clock: a small text file with one time in RFC 3339.
#[derive(Debug)]
pub struct ClockFile {
    path: PathBuf,
    clock: Clock,
}

impl ClockFile {
    /// Resumes the virtual time of `path`, or starts at `first_start` where there is no such file.
    /// The first lease is written before this returns, so the clock runs at once; without
    /// [`ClockFile::keep`] it stands still after [`LEASE_WALL_MS`].
    ///
    /// # Errors
    /// The file holds no time, or it or its folder cannot be read or written.
    pub fn open(
        path: impl AsRef<Path>,
        first_start: Timestamp,
        speed: u32,
    ) -> Result<(Clock, ClockFile), ClockError> {
        let path = path.as_ref().to_owned();
        let start = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| ClockError::NoTime {
                path: path.clone(),
                text: text.clone(),
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => first_start,
            Err(source) => return Err(ClockError::Read { path, source }),
        };
        let lease = start.plus_ms(lease_ms(speed));
        write_durably(&path, lease)?;
        let clock = Clock::leased(start, speed, lease);
        Ok((clock.clone(), ClockFile { path, clock }))
    }

    /// Renews the lease until `shutdown`, then stops the clock and writes the exact time, at which
    /// the next start resumes. Stop this task last: afterwards the clock stands still.
    ///
    /// # Errors
    /// The exact time could not be written at the end. A renewal that fails is logged and tried
    /// again; meanwhile the clock stands still at its lease.
    pub async fn keep(self, shutdown: CancellationToken) -> Result<(), ClockError> {
        while tokio::time::timeout(RENEW_EVERY, shutdown.cancelled())
            .await
            .is_err()
        {
            let lease = self.clock.raw().plus_ms(lease_ms(self.clock.speed()));
            match self.write(lease).await {
                Ok(()) => self.clock.extend_lease(lease),
                Err(error) => tracing::error!(%error, "the clock stands still until this works"),
            }
        }
        self.write(self.clock.freeze()).await
    }

    async fn write(&self, time: Timestamp) -> Result<(), ClockError> {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write_durably(&path, time)).await;
        written.unwrap_or_else(|e| {
            Err(ClockError::Write {
                path: self.path.clone(),
                source: io::Error::other(e),
            })
        })
    }
}

fn lease_ms(speed: u32) -> i64 {
    LEASE_WALL_MS.saturating_mul(i64::from(speed.max(1)))
}

fn write_durably(path: &Path, time: Timestamp) -> Result<(), ClockError> {
    crate::durable::write(path, format!("{time}\n"), 0o666).map_err(|source| ClockError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Why virtual time cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The file holds something else.
    #[error(
        "the clock file {path} holds `{text}` instead of a time like 2026-06-21T10:15:00Z; write \
         the time to resume at into it, not earlier than any time in the database"
    )]
    NoTime {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
    /// It cannot be read.
    #[error("cannot read the clock file {path}: {source}; check its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(
        "cannot write the clock file {path}: {source}; check its folder's permissions and space"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_s(1_782_000_000);

    #[tokio::test]
    async fn after_a_crash_time_is_never_earlier_than_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let mut latest = START;
        for _ in 0..3 {
            let (clock, file) = ClockFile::open(&path, START, 1000).unwrap();
            assert!(clock.now() >= latest, "{} is before {latest}", clock.now());
            let keeper = tokio::spawn(file.keep(CancellationToken::new()));
            clock.sleep_ms(700_000).await;
            latest = clock.now();
            keeper.abort();
            let _ = keeper.await;
        }
        assert!(latest > START.plus_s(2_000));
    }

    #[tokio::test]
    async fn an_orderly_end_resumes_at_the_exact_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let (clock, file) = ClockFile::open(&path, START, 100).unwrap();
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(file.keep(stop.clone()));
        clock.sleep_ms(1_000).await;
        stop.cancel();
        keeper.await.unwrap().unwrap();
        let last = clock.now();
        let on_disk: Timestamp = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        assert_eq!(on_disk, last);
        let (resumed, _file) = ClockFile::open(&path, START, 100).unwrap();
        assert!(resumed.now() >= last && resumed.now().ms_since(last) < lease_ms(100));
    }

    #[test]
    fn a_file_without_a_time_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        fs::write(&path, "noon").unwrap();
        let refused = ClockFile::open(&path, START, 1).unwrap_err().to_string();
        assert!(
            refused.contains("noon") && refused.contains("clock"),
            "{refused}"
        );
        let missing = folder.path().join("none").join("clock");
        assert!(matches!(
            ClockFile::open(&missing, START, 1),
            Err(ClockError::Write { .. })
        ));
    }
}
