//! The running gateway answers whoever may open the socket in its data folder: it writes its report
//! as JSON and hangs up. There is nothing to ask for, so nothing is read.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Observer;
use super::report::Report;

/// Name of the socket in the data folder.
const SOCKET_FILE: &str = "gateway.sock";
/// Only the gateway's own user may ask.
const SOCKET_MODE: u32 = 0o600;
/// How long one answer may take. Askers are answered one after the other.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long the asker waits.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Largest report that is read, in bytes.
const REPORT_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How long listening rests after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no gateway runs with the data directory {}", .0.display())]
    NotRunning(PathBuf),
    /// Somebody might listen, but cannot be asked.
    #[error("the gateway cannot be asked over {}: {source}", path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The socket of a gateway, removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Where it cannot be removed, the next start replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Socket {
    /// Listens in `dir`, whose lock the caller holds: a socket that is there is a dead gateway's.
    ///
    /// # Errors
    /// The folder cannot be written to, or its path is longer than sockets allow (about 100 bytes).
    pub fn listen(dir: &Path) -> io::Result<Self> {
        let (listener, path) = listen_for_owner(dir, SOCKET_FILE)?;
        Ok(Socket { listener, path })
    }

    /// Answers until `shutdown`.
    pub async fn serve(self, observer: Observer, shutdown: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let answered = timeout(ANSWER_LIMIT, answer(stream, &observer)).await;
                    if !matches!(answered, Ok(Ok(()))) {
                        tracing::debug!("somebody asked for the status and did not wait for it");
                    }
                }
                Err(error) => {
                    tracing::warn!("the status was asked for in vain: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A socket called `name` in `dir` that only the gateway's own user may open; one that is there is replaced.
pub(crate) fn listen_for_owner(dir: &Path, name: &str) -> io::Result<(UnixListener, PathBuf)> {
    let (path, fresh) = (dir.join(name), dir.join(format!("{name}.new")));
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // It gets its name only when it has its mode.
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(SOCKET_MODE))?;
    std::fs::rename(&fresh, &path)?;
    Ok((listener, path))
}

async fn answer(mut stream: UnixStream, observer: &Observer) -> io::Result<()> {
    let report = serde_json::to_vec(&observer.report().await)?;
    stream.write_all(&report).await?;
    stream.shutdown().await
}

/// Asks the gateway that runs with the data folder `dir`.
///
/// # Errors
/// None runs, or it cannot be asked.
pub async fn ask(dir: &Path) -> Result<Report, AskError> {
    let path = dir.join(SOCKET_FILE);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning(dir.to_owned())
        }
        _ => AskError::Failed {
            path: path.clone(),
            source,
        },
    };
    let asking = async {
        let stream = UnixStream::connect(&path).await.map_err(failed)?;
        let mut text = Vec::new();
        let mut limited = stream.take(REPORT_MAX_BYTES);
        limited.read_to_end(&mut text).await.map_err(failed)?;
        serde_json::from_slice(&text).map_err(|error| failed(error.into()))
    };
    let late = || Err(failed(io::ErrorKind::TimedOut.into()));
    timeout(ASK_LIMIT, asking).await.unwrap_or_else(|_| late())
}
