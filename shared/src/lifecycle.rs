//! Start and end of a process: signals, a soft and a hard cancellation token, and tracked tasks.
//!
//! The first signal begins the drain (soft token). A second signal, or the end of the drain period, ends it (hard token). A signal
//! that is repeated within [`SAME_SIGNAL`] counts once. A
//! task that ends without being asked to ends the process with an error: a service that lost a task looks alive and is not.

use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// How long tasks may take to end after the hard token. Then they are abandoned.
pub const LAST_WAIT: Duration = Duration::from_secs(5);

/// Platforms and shells often send the same signal twice, to the process and to its group. It counts as one within this time.
pub const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// The lifecycle of one process or, in tests, of one service within it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hard: CancellationToken,
    soft: CancellationToken,
    tasks: TaskTracker,
    // A std mutex: it is held for one assignment and never across an await.
    failure: Mutex<Option<Failure>>,
}

/// Why the process ends.
#[derive(Debug)]
enum Failure {
    /// A task ended without a reason of its own: often because another one failed, which may be noted later.
    Ended(anyhow::Error),
    Failed(anyhow::Error),
}

impl Default for Inner {
    fn default() -> Self {
        let hard = CancellationToken::new();
        let soft = hard.child_token();
        Self {
            hard,
            soft,
            tasks: TaskTracker::new(),
            failure: Mutex::default(),
        }
    }
}

impl Lifecycle {
    /// Creates a lifecycle that ends with [`Lifecycle::request_stop`] or when a task fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Handles SIGTERM and SIGINT: the first signal begins the drain, a second one stops at once. The same signal within
    /// [`SAME_SIGNAL`] is no second one.
    ///
    /// # Errors
    /// The handlers could not be installed.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let lifecycle = self.clone();
        let listen = async move {
            let mut first = None;
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                lifecycle.receive_signal(name, &mut first);
            }
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "it waits for signals until the process ends, so the stop must not wait for it"
        )]
        tokio::spawn(listen);
        Ok(())
    }

    /// Does what a signal asks for. `first` is the one that began the drain, and when it came.
    fn receive_signal(&self, name: &'static str, first: &mut Option<(&'static str, Instant)>) {
        let is_repeated = |(same, at): (&str, Instant)| same == name && at.elapsed() < SAME_SIGNAL;
        if first.is_some_and(is_repeated) {
            tracing::info!(signal = name, "the same signal again: it counts once");
        } else if self.soft().is_cancelled() {
            tracing::warn!(signal = name, "second signal: stopping at once");
            self.hard().cancel();
        } else {
            tracing::info!(signal = name, "stopping: finishing the work that was begun");
            *first = Some((name, Instant::now()));
            self.request_stop();
        }
    }

    /// Starts a task that the process needs. If the task ends before a stop was requested, fails or panics, the process ends
    /// with an error.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let lifecycle = self.clone();
        let span = tracing::info_span!("task", task = name);
        let watched = async move {
            let failure = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) if lifecycle.soft().is_cancelled() => return,
                Ok(Ok(())) => {
                    let ended = anyhow!("task `{name}` ended without being asked to");
                    return lifecycle.note(Failure::Ended(ended));
                }
                Ok(Err(err)) => err.context(format!("task `{name}` failed")),
                Err(panic) => anyhow!("task `{name}` panicked: {}", panic_text(panic.as_ref())),
            };
            lifecycle.fail(failure);
        };
        self.inner.tasks.spawn(watched.instrument(span));
    }

    /// Starts a task that may end at any time, such as one per connection. The stop waits for it. If it panics, the process
    /// ends with an error.
    pub fn spawn_short<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let lifecycle = self.clone();
        let watched = async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                let text = panic_text(panic.as_ref());
                lifecycle.fail(anyhow!("task `{name}` panicked: {text}"));
            }
        };
        self.inner.tasks.spawn(watched);
    }

    /// Returns the token that is cancelled when the drain begins. Tasks then accept no new work, and finish their current work.
    #[must_use]
    pub fn soft(&self) -> &CancellationToken {
        &self.inner.soft
    }

    /// Returns the token that is cancelled when the drain is over. Tasks then end at once.
    #[must_use]
    pub fn hard(&self) -> &CancellationToken {
        &self.inner.hard
    }

    /// Begins the drain, as a signal would.
    pub fn request_stop(&self) {
        self.inner.soft.cancel();
    }

    /// Ends the process with an error. [`Lifecycle::wait`] returns the first failure.
    pub fn fail(&self, failure: anyhow::Error) {
        self.note(Failure::Failed(failure));
    }

    fn note(&self, failure: Failure) {
        let mut first = self
            .inner
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match (&*first, &failure) {
            (None, _) | (Some(Failure::Ended(_)), Failure::Failed(_)) => *first = Some(failure),
            _ => {}
        }
        drop(first);
        // No drain: unfinished work is still in the broker and in Redis.
        self.inner.hard.cancel();
    }

    /// Waits for the stop, then for the tasks: at most `drain`, and at most [`LAST_WAIT`] after the hard token.
    ///
    /// # Errors
    /// The first failure of a task, or how many tasks did not end.
    pub async fn wait(self, drain: Duration) -> anyhow::Result<()> {
        self.inner.soft.cancelled().await;
        self.inner.tasks.close();
        tokio::select! {
            () = self.inner.tasks.wait() => {}
            () = self.inner.hard.cancelled() => {}
            () = tokio::time::sleep(drain) => {
                let tasks = self.inner.tasks.len();
                tracing::warn!(tasks, "drain period over: stopping at once");
            }
        }
        self.inner.hard.cancel();
        let all_ended = timeout(LAST_WAIT, self.inner.tasks.wait()).await;
        let mut failure = self
            .inner
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match (failure.take(), all_ended) {
            (Some(Failure::Failed(failure) | Failure::Ended(failure)), _) => Err(failure),
            (None, Ok(())) => Ok(()),
            (None, Err(_)) => Err(anyhow!(
                "{} tasks did not end and were abandoned",
                self.inner.tasks.len()
            )),
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
