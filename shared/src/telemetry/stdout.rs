//! Writes to standard output on a separate thread, so that the service does not block if its output is not read.

use std::io::{self, Stdout, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::visible_text::escape_other_than;

/// Maximum number of lines that wait to be written (a few megabytes). Further lines are dropped and counted.
const MAX_LINES: usize = 10_000;

/// The end of a line, and the beginning of a colour. `tracing_subscriber` writes no other control characters, and escapes those of values.
const OWN_CONTROLS: [char; 2] = ['\n', '\u{1b}'];

static DROPPED_LINES: OnceLock<ErrorCounter> = OnceLock::new();
static FAILED_LINES: AtomicU64 = AtomicU64::new(0);

/// Starts the thread. Must be called once per process. Dropping the guard flushes and ends it.
pub(super) fn open() -> (NonBlocking, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_LINES)
        .finish(LineWriter(std::io::stdout()));
    // Fails only if this is not the first call.
    DROPPED_LINES.set(writer.error_counter()).ok();
    (writer, guard)
}

/// Returns the number of lines lost so far: dropped because standard output is not read, or failed to be written.
pub(super) fn lost_lines() -> u64 {
    let dropped = DROPPED_LINES.get().map(ErrorCounter::dropped_lines);
    dropped.unwrap_or(0) as u64 + FAILED_LINES.load(Ordering::Relaxed)
}

/// Writes whole lines, and counts failed ones, which `tracing_appender` would ignore. Whatever a line is about, no character in it
/// can harm a terminal, or forge another line.
struct LineWriter(Stdout);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let harmless = escape_other_than(&text, &OWN_CONTROLS);
        if self.0.write_all(harmless.as_bytes()).is_err() {
            FAILED_LINES.fetch_add(1, Ordering::Relaxed);
        }
        // A failed line is not written again. The next one may succeed.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
