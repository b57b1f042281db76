//! What is worth showing of a process that ran in a failing test.

use std::collections::HashMap;

use serde_json::Value;

/// Lines shown at most.
const LINES: usize = 40;
/// Lines shown of one kind: thousands of clients that disconnect must not hide the reason.
const ALIKE: usize = 3;

/// The last lines of an output, of each kind of line only the last few. A line in brackets counts what was left out.
pub(crate) fn excerpt(output: &str) -> Vec<String> {
    let lines: Vec<&str> = output.lines().collect();
    let mut counts = HashMap::<String, usize>::new();
    let mut shown = Vec::new();
    for line in lines.iter().rev() {
        let count = counts.entry(kind(line)).or_default();
        *count += 1;
        if *count <= ALIKE && shown.len() < LINES {
            shown.push((*line).to_owned());
        }
    }
    let left_out = lines.len() - shown.len();
    if left_out > 0 {
        shown.push(format!("({left_out} lines left out)"));
    }
    shown.reverse();
    shown
}

/// What lines that differ in numbers only, or that log the same message, have in common.
fn kind(line: &str) -> String {
    if let Ok(record) = serde_json::from_str::<Value>(line)
        && let Some(message) = record["message"].as_str()
    {
        return format!("{} {message}", record["level"]);
    }
    line.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests;
