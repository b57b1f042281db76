//! What clients without a token may do.

use std::fmt;

/// What clients without a token may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// Nothing.
    #[default]
    None,
    /// See every reading and alarm.
    Read,
    /// Also acknowledge alarms.
    All,
}

impl Anonymous {
    /// Parses the value of `--allow-anonymous`. It was a switch once, so its variable may have the words of one.
    ///
    /// # Errors
    /// Another word.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "none" | "false" | "f" | "no" | "n" | "off" | "0" => Ok(Self::None),
            "read" => Ok(Self::Read),
            "all" | "true" | "t" | "yes" | "y" | "on" | "1" => Ok(Self::All),
            _ => Err("expected none, read or all".to_owned()),
        }
    }
}

impl fmt::Display for Anonymous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Read => "read",
            Self::All => "all",
        })
    }
}
