//! Ordered start and stop of a program's tasks.
//!
//! Tasks are started in order with a name and a time limit, and stopped in reverse order, one after
//! the other: what was started first (the clock, the database writer) is there until the last of
//! those that need it has ended. A task that fails stops all, and its error is what is reported.

use std::error::Error;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a task may fail with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The running tasks of a program. Dropping it stops them all at once, without order.
#[derive(Debug)]
pub struct Tasks {
    running: Vec<Running>,
    failed: mpsc::UnboundedSender<TaskError>,
    failures: mpsc::UnboundedReceiver<TaskError>,
}

#[derive(Debug)]
struct Running {
    name: &'static str,
    stop_limit: Duration,
    stop: CancellationToken,
    handle: JoinHandle<()>,
}

impl Default for Tasks {
    fn default() -> Self {
        Tasks::new()
    }
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        // At most one failure per task is ever sent, so the channel is bounded by the tasks.
        let (failed, failures) = mpsc::unbounded_channel();
        Tasks {
            running: Vec::new(),
            failed,
            failures,
        }
    }

    /// Starts a task. It must end soon after its token is cancelled; `stop_limit` later it is
    /// aborted. A task may end with `Ok` earlier when it has nothing more to do.
    pub fn start<Run, Fut, E>(&mut self, name: &'static str, stop_limit: Duration, run: Run)
    where
        Run: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let stop = CancellationToken::new();
        let work = run(stop.clone());
        let failed = self.failed.clone();
        let handle = tokio::spawn(async move {
            // A task of its own, so that a panic in it is seen here as an error.
            let mut inner = AbortOnDrop(tokio::spawn(async move { work.await.map_err(E::into) }));
            let error = match (&mut inner.0).await {
                Ok(Ok(())) => return,
                Ok(Err(source)) => TaskError::Failed { name, source },
                Err(join) => TaskError::Failed {
                    name,
                    source: join.into(),
                },
            };
            // The receiver is gone only when nobody waits for failures any more.
            let _ = failed.send(error);
        });
        tracing::debug!(task = name, "started");
        self.running.push(Running {
            name,
            stop_limit,
            stop,
            handle,
        });
    }

    /// Runs until `stop` completes or a task fails, then stops all tasks in reverse order.
    ///
    /// # Errors
    /// The first failure: of a task, or of one that did not stop within its limit.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), TaskError> {
        let mut first = tokio::select! {
            () = stop => None,
            failure = self.failures.recv() => failure,
        };
        if let Some(error) = &first {
            tracing::error!(%error, "stopping everything");
        }
        while let Some(mut task) = self.running.pop() {
            task.stop.cancel();
            if tokio::time::timeout(task.stop_limit, &mut task.handle)
                .await
                .is_err()
            {
                task.handle.abort();
                let error = TaskError::TooSlow {
                    name: task.name,
                    limit: task.stop_limit,
                };
                tracing::error!(%error, "aborted");
                first.get_or_insert(error);
            } else {
                tracing::debug!(task = task.name, "stopped");
            }
            while let Ok(error) = self.failures.try_recv() {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in self.running.iter().rev() {
            task.stop.cancel();
            task.handle.abort();
        }
    }
}

/// Aborting the watcher must abort the watched task too.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a program stopped other than as asked.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task ended with an error or a panic.
    #[error("the task `{name}` failed: {source}")]
    Failed {
        /// Its name.
        name: &'static str,
        /// Its error.
        source: BoxError,
    },
    /// A task did not stop in time and was aborted.
    #[error("the task `{name}` did not stop within {limit:?} and was aborted")]
    TooSlow {
        /// Its name.
        name: &'static str,
        /// The limit it was given.
        limit: Duration,
    },
}

/// Completes when the process is asked to stop: Ctrl-C (SIGINT) or SIGTERM.
pub async fn ctrl_c_or_term() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut term) => {
            tokio::select! {
                _ = term.recv() => {}
                result = tokio::signal::ctrl_c() => warn_unless_ok(result),
            }
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be caught; only Ctrl-C stops the program");
            warn_unless_ok(tokio::signal::ctrl_c().await);
        }
    }
}

fn warn_unless_ok(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "Ctrl-C cannot be caught; stopping");
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use super::*;

    type Log = Arc<Mutex<Vec<&'static str>>>;

    fn logging(tasks: &mut Tasks, name: &'static str, log: &Log) {
        let log = Arc::clone(log);
        tasks.start(name, Duration::from_secs(5), |stop| async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            log.lock().unwrap().push(name);
            Ok::<(), Infallible>(())
        });
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_stop_in_reverse_order() {
        let (mut tasks, log) = (Tasks::new(), Log::default());
        for name in ["clock", "store", "api"] {
            logging(&mut tasks, name, &log);
        }
        tasks
            .run_until(tokio::time::sleep(Duration::from_millis(5)))
            .await
            .unwrap();
        assert_eq!(*log.lock().unwrap(), ["api", "store", "clock"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_or_a_panic_stops_all_and_is_reported() {
        for panics in [false, true] {
            let (mut tasks, log) = (Tasks::new(), Log::default());
            logging(&mut tasks, "clock", &log);
            tasks.start("api", Duration::from_secs(5), |_| async move {
                assert!(!panics, "a broken invariant");
                Err("the port is taken")
            });
            let error = tasks.run_until(std::future::pending()).await.unwrap_err();
            let expected = if panics {
                "broken invariant"
            } else {
                "the port is taken"
            };
            let text = error.to_string();
            assert!(text.contains("`api`") && text.contains(expected), "{text}");
            assert_eq!(*log.lock().unwrap(), ["clock"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_aborted_and_named() {
        let (mut tasks, log) = (Tasks::new(), Log::default());
        logging(&mut tasks, "clock", &log);
        tasks.start("stuck", Duration::from_millis(50), |_| {
            std::future::pending::<Result<(), Infallible>>()
        });
        let error = tasks.run_until(std::future::ready(())).await.unwrap_err();
        assert!(matches!(error, TaskError::TooSlow { name: "stuck", .. }));
        assert_eq!(*log.lock().unwrap(), ["clock"]);
    }
}
