//! The report of a test run: times and counts that tests measured. `tests/run` prints it after the last test.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use crate::repository;

/// Reports how long something took, next to the limit it has on an idle machine.
///
/// A time above the limit does not fail the test: it may only show that the machine was busy.
pub fn duration(what: &str, took: Duration, limit: Duration) {
    let verdict = if took > limit { ", EXCEEDED" } else { "" };
    line(&format!(
        "{what} after {} ms (limit {} ms{verdict})",
        took.as_millis(),
        limit.as_millis()
    ));
}

/// Appends one line to `target/fault-report.txt`. If that fails, the test still passes.
pub fn line(text: &str) {
    let folder = repository::target();
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("fault-report.txt"));
    if let Ok(mut file) = file {
        // A single write, so that lines of parallel tests do not mix.
        file.write_all(format!("{text}\n").as_bytes()).ok();
    }
}
