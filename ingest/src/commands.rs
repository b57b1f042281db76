//! Names and descriptions of commands, and how the commands that only read Redis read their arguments.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};
use shared::args::{CommandLine, Usage};
use shared::redis::RedisConfig;

/// Name of the command that plays a file of messages against the alarm rules.
pub const REPLAY: &str = "replay";
/// Description of [`REPLAY`].
pub const REPLAY_ABOUT: &str =
    "Try the alarm rules: play a file of messages, print every alarm change";
/// Name of the command that writes such a file from recorded payloads.
pub const RECORD: &str = "record";
/// Description of [`RECORD`].
pub const RECORD_ABOUT: &str = "Write the recorded payloads (--record-raw) as a file for replay";

/// Reads the arguments of a command that only reads Redis, whose settings are at `redis`. The number of partitions is read there, too.
///
/// # Errors
/// Help was requested, or an argument is missing or wrong.
pub(crate) fn read_args<C>(
    args: Vec<OsString>,
    redis: impl FnOnce(&mut C) -> &mut RedisConfig,
) -> Result<C, Usage>
where
    C: CommandFactory + FromArgMatches,
{
    let unused = ["partitions", "redis_watch"];
    let command = unused.into_iter().fold(C::command(), |command, id| {
        command.mut_arg(id, |arg| arg.hide(true))
    });
    let line = CommandLine::parse(command, args, &[])?;
    let mut config = line.config()?;
    match line.problems(redis(&mut config).read_files()) {
        problems if problems.is_empty() => Ok(config),
        problems => Err(Usage::Problems(problems)),
    }
}
