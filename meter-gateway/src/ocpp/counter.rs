//! The socket in the data folder where the gateway's owner asks a charger something: a line of JSON in, one out.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::reception::Reception;
use crate::status::socket::listen_for_owner;

/// Name of the socket in the data folder.
const SOCKET_FILE: &str = "ocpp.sock";
/// How long a question may take: some wait before it, each as long as a charger may take.
const ASK_LIMIT: Duration = Duration::from_secs(120);
/// Longest question and answer, in bytes.
const LINE_MAX_BYTES: u64 = 512 * 1024;
/// How long listening rests after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What may be asked: all that neither charges anybody nor touches a limit, which leases do.
pub const ACTIONS: [&str; 7] = [
    "GetConfiguration",
    "ChangeConfiguration",
    "TriggerMessage",
    "UnlockConnector",
    "ChangeAvailability",
    "Reset",
    "ClearCache",
];

/// A question.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Which charger.
    pub charge_point: String,
    /// One of [`ACTIONS`].
    pub action: String,
    /// Its payload.
    pub payload: Value,
}

/// The socket, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Counter {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Counter {
    fn drop(&mut self) {
        // Where it cannot be removed, the next start replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Counter {
    /// Listens in `dir`, whose lock the caller holds.
    pub(crate) fn listen(dir: &Path) -> io::Result<Self> {
        let (listener, path) = listen_for_owner(dir, SOCKET_FILE)?;
        Ok(Counter { listener, path })
    }

    /// Answers one question after the other until `shutdown`.
    pub(crate) async fn serve(self, reception: Reception, shutdown: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let answered = timeout(ASK_LIMIT, answer(stream, &reception));
            tokio::select! {
                _ = answered => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

async fn answer(mut stream: UnixStream, reception: &Reception) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut limited = BufReader::new(read.take(LINE_MAX_BYTES));
    limited.read_line(&mut line).await?;
    let answer: Result<Value, String> = match serde_json::from_str::<Asked>(&line) {
        Err(error) => Err(format!("this is no question: {error}")),
        Ok(asked) => match ACTIONS.into_iter().find(|action| *action == asked.action) {
            None => Err(format!("{} is not asked here", asked.action)),
            Some(action) => {
                let told = reception.ask(&asked.charge_point, action, asked.payload);
                told.await
            }
        },
    };
    let text = serde_json::to_string(&answer)? + "\n";
    write.write_all(text.as_bytes()).await?;
    write.shutdown().await
}

/// Asks a charger of the gateway that runs with the data folder `dir`.
///
/// # Errors
/// No gateway runs there, or why the charger has not done it.
pub async fn ask(dir: &Path, asked: &Asked) -> Result<Value, String> {
    let failed = |error: io::Error| {
        let dir = dir.display();
        format!("no gateway with [ocpp] that runs with {dir} answers: {error}")
    };
    let asking = async {
        let mut stream = UnixStream::connect(dir.join(SOCKET_FILE)).await?;
        let line = serde_json::to_string(asked)? + "\n";
        stream.write_all(line.as_bytes()).await?;
        let mut text = String::new();
        stream
            .take(LINE_MAX_BYTES)
            .read_to_string(&mut text)
            .await?;
        Ok(text)
    };
    let late = || Err(io::ErrorKind::TimedOut.into());
    let text: io::Result<String> = timeout(ASK_LIMIT, asking).await.unwrap_or_else(|_| late());
    let text = text.map_err(failed)?;
    let answer: Result<Value, String> =
        serde_json::from_str(&text).map_err(|error| failed(error.into()))?;
    answer
}
