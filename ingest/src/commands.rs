//! Names and descriptions of the commands that need nothing but their own module and the settings.

/// Name of the command that plays a file of messages against the alarm rules.
pub const REPLAY: &str = "replay";
/// Description of [`REPLAY`].
pub const REPLAY_ABOUT: &str =
    "Try the alarm rules: play a file of messages, print every alarm change";
/// Name of the command that writes such a file from recorded payloads.
pub const RECORD: &str = "record";
/// Description of [`RECORD`].
pub const RECORD_ABOUT: &str = "Write the recorded payloads (--record-raw) as a file for replay";
