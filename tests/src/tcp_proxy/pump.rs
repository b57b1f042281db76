//! Forwards the two directions of one connection.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep_until};

/// Maximum number of pieces that wait in a delayed direction. When it is reached, the proxy stops reading from the sender.
const WAITING: usize = 1024;

/// Which directions of a connection are stopped. A stopped direction never passes again, since bytes are missing in it.
#[derive(Debug, Default)]
pub(super) struct Connection {
    requests_stopped: AtomicBool,
    answers_stopped: AtomicBool,
}

impl Connection {
    pub(super) fn stop_requests(&self) {
        self.requests_stopped.store(true, Ordering::SeqCst);
    }

    pub(super) fn stop_answers(&self) {
        self.answers_stopped.store(true, Ordering::SeqCst);
    }
}

/// How much later everything arrives.
#[derive(Debug, Default)]
pub(super) struct Latency {
    micros: AtomicU64,
}

impl Latency {
    pub(super) fn set(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.micros.store(micros, Ordering::Relaxed);
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

/// The bytes forwarded in one direction, in memory.
#[derive(Debug, Default)]
pub(super) struct Recording {
    // `None` until recording starts. One piece per connection.
    pieces: Mutex<Option<Vec<Vec<u8>>>>,
}

impl Recording {
    pub(super) fn start(&self) {
        self.lock().get_or_insert_default();
    }

    pub(super) fn pieces(&self) -> Vec<Vec<u8>> {
        self.lock().clone().unwrap_or_default()
    }

    /// Appends to the piece of a connection, if recording has started.
    fn piece(&self, own: &mut Option<usize>, bytes: &[u8]) {
        if let Some(pieces) = self.lock().as_mut() {
            let index = *own.get_or_insert_with(|| {
                pieces.push(Vec::new());
                pieces.len() - 1
            });
            pieces[index].extend_from_slice(bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Vec<u8>>>> {
        self.pieces
            .lock()
            .expect("no thread panics while holding the lock")
    }
}

/// The text of a request that must never be answered.
#[derive(Debug, Default)]
pub(super) struct UnansweredText {
    // `None` unless it is set.
    text: Mutex<Option<Vec<u8>>>,
}

impl UnansweredText {
    pub(super) fn set(&self, text: &str) {
        *self.lock() = Some(text.as_bytes().to_vec());
    }

    /// Returns whether the text has now passed, for the first time since it was set. `last` holds bytes that may be its
    /// beginning.
    fn has_passed(&self, last: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let mut text = self.lock();
        let Some(wanted) = text.as_ref() else {
            last.clear();
            return false;
        };
        last.extend_from_slice(bytes);
        let is_there = last.windows(wanted.len()).any(|part| part == wanted);
        // The last bytes may be the beginning of the text.
        let overlap = last.len().min(wanted.len() - 1);
        last.drain(..last.len() - overlap);
        if is_there {
            *text = None;
        }
        is_there
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.text
            .lock()
            .expect("no thread panics while holding the lock")
    }
}

/// Forwards from the client to the server.
pub(super) async fn requests(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    connection: &Connection,
    latency: &Latency,
    unanswered: &UnansweredText,
    recording: &Recording,
) {
    let stopped = &connection.requests_stopped;
    let (late, waiting) = mpsc::channel(WAITING);
    let mut last = Vec::new();
    let mut piece = None;
    // Before the request is forwarded, so that its answer cannot pass first.
    let inspect = |bytes: &[u8]| {
        if unanswered.has_passed(&mut last, bytes) {
            connection.stop_answers();
        }
    };
    tokio::join!(
        read(from, late, stopped, latency, inspect),
        write(to, waiting, stopped, |bytes| recording
            .piece(&mut piece, bytes))
    );
}

/// Forwards from the server to the client.
pub(super) async fn answers(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    connection: &Connection,
    latency: &Latency,
    recording: &Recording,
) {
    let stopped = &connection.answers_stopped;
    let (late, waiting) = mpsc::channel(WAITING);
    let mut piece = None;
    tokio::join!(
        read(from, late, stopped, latency, |_| {}),
        write(to, waiting, stopped, |bytes| recording
            .piece(&mut piece, bytes))
    );
}

async fn read(
    mut from: OwnedReadHalf,
    late: Sender<(Instant, Vec<u8>)>,
    stopped: &AtomicBool,
    latency: &Latency,
    mut inspect: impl FnMut(&[u8]),
) {
    let mut buffer = vec![0; 64 << 10];
    let mut last = Instant::now();
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        if stopped.load(Ordering::SeqCst) {
            continue;
        }
        inspect(&buffer[..length]);
        // Never before bytes that were read earlier, even if their delay was longer.
        last = last.max(Instant::now() + latency.now());
        if late.send((last, buffer[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn write(
    mut to: OwnedWriteHalf,
    mut waiting: Receiver<(Instant, Vec<u8>)>,
    stopped: &AtomicBool,
    mut passed: impl FnMut(&[u8]),
) {
    while let Some((due, bytes)) = waiting.recv().await {
        if due > Instant::now() {
            sleep_until(due).await;
        }
        if stopped.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&bytes).await.is_err() {
            // The reader has disconnected. The other direction ends by itself.
            return;
        }
        passed(&bytes);
    }
    if stopped.load(Ordering::SeqCst) {
        // If nothing passes, the end of the connection does not pass either.
        to.forget();
    } else {
        // It may be closed already.
        to.shutdown().await.ok();
    }
}
