//! Shortens the output of a process, for the report of a failing test.

use std::collections::HashMap;

use serde_json::Value;

/// Maximum number of lines shown.
const MAX_LINES: usize = 40;
/// Maximum number of lines shown of one kind: thousands of disconnecting clients must not hide the cause of the failure.
const MAX_LINES_PER_KIND: usize = 3;

/// Returns the last lines of the output, and of each kind only the last few. If lines are left out, the first line has their
/// number.
pub(crate) fn excerpt(output: &str) -> Vec<String> {
    let lines: Vec<&str> = output.lines().collect();
    let mut counts = HashMap::<String, usize>::new();
    let mut shown = Vec::new();
    for line in lines.iter().rev() {
        let count = counts.entry(kind(line)).or_default();
        *count += 1;
        if *count <= MAX_LINES_PER_KIND && shown.len() < MAX_LINES {
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

/// Returns the kind of a line: level and message of a log record, otherwise the text without its digits.
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
