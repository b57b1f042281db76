//! How a process lives and ends: signals, a soft and a hard token, tracked tasks, and an exit that tells how it went.
//!
//! The first signal begins the drain (soft), the second, or the end of the drain period, ends it (hard). A task that
//! ends although nobody asked for it takes the process down: half a service looks alive and is not.

use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// What tasks get between the hard token and being abandoned.
pub const LAST_WAIT: Duration = Duration::from_secs(5);

/// The life of one process (or, in tests, of one service within it). Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hard: CancellationToken,
    soft: CancellationToken,
    tasks: TaskTracker,
    // A std mutex: held for one assignment, never across an await.
    failure: Mutex<Option<anyhow::Error>>,
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
    /// A life that ends when [`Lifecycle::request_stop`] says so or a task fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets SIGTERM and SIGINT end it: the first drains, the second stops at once.
    ///
    /// # Errors
    /// The handlers could not be installed.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let lifecycle = self.clone();
        let listen = async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if lifecycle.soft().is_cancelled() {
                    tracing::warn!(signal = name, "second signal: stopping at once");
                    lifecycle.hard().cancel();
                } else {
                    tracing::info!(signal = name, "stopping: finishing what is in hand");
                    lifecycle.request_stop();
                }
            }
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "listens to the end: nobody may wait for it"
        )]
        tokio::spawn(listen);
        Ok(())
    }

    /// Starts a task that the process cannot do without: if it ends before a stop was asked for, fails or panics, the
    /// process ends with an error.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let lifecycle = self.clone();
        let span = tracing::info_span!("task", task = name);
        let watched = async move {
            let failure = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) if lifecycle.soft().is_cancelled() => return,
                Ok(Ok(())) => anyhow!("task `{name}` ended although nobody asked it to"),
                Ok(Err(err)) => err.context(format!("task `{name}` failed")),
                Err(panic) => anyhow!("task `{name}` panicked: {}", panic_text(panic.as_ref())),
            };
            lifecycle.fail(failure);
        };
        self.inner.tasks.spawn(watched.instrument(span));
    }

    /// Starts a task that may end at any time, such as one per connection. The stop waits for it, and its panic ends
    /// the process with an error.
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

    /// Cancelled when the drain begins: take nothing new, finish what is in hand.
    #[must_use]
    pub fn soft(&self) -> &CancellationToken {
        &self.inner.soft
    }

    /// Cancelled when the drain is over: end now.
    #[must_use]
    pub fn hard(&self) -> &CancellationToken {
        &self.inner.hard
    }

    /// Begins the drain, as a signal would.
    pub fn request_stop(&self) {
        self.inner.soft.cancel();
    }

    /// Ends the process with an error: the first failure is the one that is told.
    pub fn fail(&self, failure: anyhow::Error) {
        let mut first = self
            .inner
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
        drop(first);
        // What a broken process holds in hand is safe with the broker and Redis: no drain.
        self.inner.hard.cancel();
    }

    /// Waits for the stop, then for the tasks: at most `drain`, and a last wait of a few seconds after the hard token.
    ///
    /// # Errors
    /// The first failure of a task, or tasks that did not end.
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
        let ended = timeout(LAST_WAIT, self.inner.tasks.wait()).await;
        let mut failure = self
            .inner
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match (failure.take(), ended) {
            (Some(failure), _) => Err(failure),
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
