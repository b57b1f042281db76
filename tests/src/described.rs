//! What the gateway sends over Socket.IO is what `gateway/src/openapi.json` describes, in every test.

use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::schemas::{Schemas, Seen};

static SCHEMAS: LazyLock<Schemas> =
    LazyLock::new(|| Schemas::of(include_str!("../../gateway/src/openapi.json")));

/// The schema of the events by name, and that of the answers to what a client sends.
const EVENTS: &str = "SocketEvents";
const ANSWERS: &str = "SocketAnswers";

/// Returns every property that events and answers may have, as `Schema.property`.
pub fn everything_described() -> Seen {
    let mut all = SCHEMAS.properties_of(EVENTS);
    all.extend(SCHEMAS.properties_of(ANSWERS));
    all
}

/// Compares an event with its schema.
///
/// # Errors
/// It is not described so.
pub fn check_event(name: &str, body: &Value) -> Result<Seen, String> {
    SCHEMAS.check_property(EVENTS, name, body)
}

/// Compares the answer to what a client has sent with its schema.
///
/// # Errors
/// It is not described so.
pub fn check_answer(command: &str, body: &Value) -> Result<Seen, String> {
    SCHEMAS.check_property(ANSWERS, command, body)
}

/// What one client was sent, compared with the schemas.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    properties: Mutex<Seen>,
    first_difference: Mutex<Option<String>>,
    is_other_release: AtomicBool,
}

impl Comparison {
    /// Takes a result of [`check_event`] or [`check_answer`].
    pub(crate) fn take(&self, compared: Result<Seen, String>) {
        match compared {
            Ok(seen) => lock(&self.properties).extend(seen),
            Err(difference) => {
                lock(&self.first_difference).get_or_insert(difference);
            }
        }
    }

    /// Differences do not count: what is sent was written by an earlier release.
    pub(crate) fn allow_differences(&self) {
        self.is_other_release.store(true, Ordering::Relaxed);
    }

    /// Returns the properties that were seen.
    pub(crate) fn seen(&self) -> Seen {
        lock(&self.properties).clone()
    }

    /// # Errors
    /// Something that was sent is not described.
    pub(crate) fn check(&self) -> Result<()> {
        let difference = lock(&self.first_difference).clone();
        match difference {
            Some(difference) if !self.is_other_release.load(Ordering::Relaxed) => {
                bail!("not as gateway/src/openapi.json describes it: {difference}")
            }
            _ => Ok(()),
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().expect("no thread panics while holding the lock")
}
