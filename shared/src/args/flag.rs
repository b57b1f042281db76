//! Flags in the texts of clap, in arguments and in sentences.

use std::ffi::OsStr;

use clap::{Arg, Command};

/// Returns the flag of an argument in clap's notation: `--redis-url` for `--redis-url <URL>`.
pub(super) fn flag_of(arg: &str) -> &str {
    arg.split_whitespace().next().unwrap_or(arg)
}

/// Returns the setting with this flag.
pub(super) fn argument_of<'a>(command: &'a Command, flag: &str) -> Option<&'a Arg> {
    let long = flag.strip_prefix("--")?;
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long))
}

pub(super) fn is_flag(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"--")
}

/// Whether the text contains exactly this flag, not a longer one that begins with it.
pub(super) fn mentions(text: &str, flag: &str) -> bool {
    text.match_indices(flag).any(|(at, _)| {
        let following = &text[at + flag.len()..];
        !following.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
    })
}
