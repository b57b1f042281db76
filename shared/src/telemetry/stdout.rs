//! Standard output, written by a separate thread, so that a reader that stops reading does not stop the service.

use std::io::{self, Stdout, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that may wait to be written, a few megabytes. More are dropped and counted.
const MAX_LINES: usize = 10_000;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Opens the writer. Must be called once per process; dropping the guard stops it.
pub(super) fn open() -> (NonBlocking, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_LINES)
        .finish(Output(std::io::stdout()));
    // Fails only if telemetry was set up before.
    DROPPED.set(writer.error_counter()).ok();
    (writer, guard)
}

/// Lines lost so far because nobody reads standard output, or because it cannot be written.
pub(super) fn lost_lines() -> u64 {
    let dropped = DROPPED.get().map(ErrorCounter::dropped_lines);
    dropped.unwrap_or(0) as u64 + FAILED.load(Ordering::Relaxed)
}

/// Writes each line with one call and counts failures, which the writer's thread would ignore.
struct Output(Stdout);

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.0.write_all(line);
        if written.is_err() {
            FAILED.fetch_add(1, Ordering::Relaxed);
        }
        // A line that failed is given up. The next one may succeed.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
