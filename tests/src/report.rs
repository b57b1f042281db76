//! Figures of a run: measured by a test, printed by `tests/run` at its end.

use std::fs::OpenOptions;
use std::io::Write;

use crate::repository;

/// Appends one line to `target/fault-report.txt`. A figure that cannot be kept fails no test.
pub fn line(text: &str) {
    let folder = repository::target();
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("fault-report.txt"));
    if let Ok(mut file) = opened {
        // One write: lines of tests side by side do not mix.
        file.write_all(format!("{text}\n").as_bytes()).ok();
    }
}
