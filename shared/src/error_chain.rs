//! Formats an error and its causes as one line of text.

use std::error::Error;

use crate::visible_text::clean;

/// Formats an error with its causes on one line, separated by colons. A cause that the text already ends with is left out.
///
/// Log errors with this function: the JSON log format writes an error value without its causes.
#[must_use]
pub fn error_chain(err: &(dyn Error + 'static)) -> String {
    let mut text = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    // Text that a server sent may contain line breaks and other control characters.
    clean(&text).into_owned()
}

#[cfg(test)]
mod tests;
