//! Tokens that are revoked before they expire, and subjects whose tokens all are. Each entry ends by itself.

use std::fmt;

use redis::Value;

use super::reply::{bytes, scored_names};
use super::{Store, StoreError};
use crate::clock::Time;
use crate::keys;

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// The token with this id (claim `jti`).
    Token(String),
    /// Every token of this subject (claim `sub`).
    Subject(String),
}

/// An entry, and when it ends.
pub type RevokedUntil = (Revoked, Time);

const TOKEN: &str = "token:";
const SUBJECT: &str = "subject:";

/// As it is spelled in Redis.
impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => write!(f, "{TOKEN}{id}"),
            Self::Subject(subject) => write!(f, "{SUBJECT}{subject}"),
        }
    }
}

impl Revoked {
    /// Returns `None` for a name of another kind, which a newer release may have written.
    fn parse(name: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(name).ok()?;
        let token = text.strip_prefix(TOKEN).map(str::to_owned);
        let subject = || text.strip_prefix(SUBJECT).map(str::to_owned);
        token
            .map(Self::Token)
            .or_else(|| subject().map(Self::Subject))
    }
}

impl Store {
    /// Returns a number that differs after each change of what is revoked.
    pub async fn revoked_changes(&self) -> Result<u64, StoreError> {
        let answer = self.run(|_, pipe| {
            pipe.cmd("GET").arg(keys::REVOKED_CHANGES);
        });
        let changes = bytes(answer.await?).map_err(StoreError::Unavailable)?;
        let changes = changes.and_then(|digits| String::from_utf8(digits).ok()?.parse().ok());
        Ok(changes.unwrap_or_default())
    }

    /// Returns everything that is revoked, also what has ended and was not removed yet.
    pub async fn revoked(&self) -> Result<Vec<RevokedUntil>, StoreError> {
        let answer = self.run(|_, pipe| {
            pipe.cmd("ZRANGE").arg(keys::REVOKED).arg(0).arg(-1);
            pipe.arg("WITHSCORES");
        });
        let names = scored_names(answer.await?).map_err(StoreError::Unavailable)?;
        let names = names.into_iter();
        Ok(names
            .filter_map(|(name, until)| Some((Revoked::parse(&name)?, until)))
            .collect())
    }

    /// Revokes a token or a subject until this time. Removes what has ended.
    pub async fn revoke(&self, what: &Revoked, until: Time) -> Result<(), StoreError> {
        let now = self.connector.now();
        // Whoever sees the new count reads the change.
        let answers = self.run_each(3, |_, index, pipe| {
            match index {
                0 => {
                    let ended = pipe.cmd("ZREMRANGEBYSCORE").arg(keys::REVOKED);
                    ended.arg("-inf").arg(now.as_millis())
                }
                1 => {
                    let added = pipe.cmd("ZADD").arg(keys::REVOKED);
                    added.arg(until.as_millis()).arg(what.to_string())
                }
                _ => pipe.cmd("INCR").arg(keys::REVOKED_CHANGES),
            };
        });
        for answer in answers.await? {
            answer.map_err(|err| self.answer_error(err))?;
        }
        Ok(())
    }

    /// Ends a revocation. Returns whether there was one.
    pub async fn lift_revocation(&self, what: &Revoked) -> Result<bool, StoreError> {
        let answers = self.run_each(2, |_, index, pipe| {
            match index {
                0 => pipe.cmd("ZREM").arg(keys::REVOKED).arg(what.to_string()),
                _ => pipe.cmd("INCR").arg(keys::REVOKED_CHANGES),
            };
        });
        let mut was_there = false;
        for (index, answer) in answers.await?.into_iter().enumerate() {
            let answer = answer.map_err(|err| self.answer_error(err))?;
            was_there |= index == 0 && answer == Value::Int(1);
        }
        Ok(was_there)
    }
}
