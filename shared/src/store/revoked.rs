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

/// Identifies one state of what is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedChange {
    /// Another one means that Redis has lost what was revoked before.
    pub generation: u64,
    change: u64,
}

impl RevokedChange {
    /// A text that is none of ours is a generation of its own.
    fn parse(text: &[u8]) -> Self {
        let parts = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.split_once('-'));
        let number = |text| u64::from_str_radix(text, 16).ok();
        let parts = parts.and_then(|(one, two)| Some((number(one)?, number(two)?)));
        let (generation, change) = parts.unwrap_or_default();
        Self { generation, change }
    }
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
    /// Returns what differs after each change of what is revoked; `None` if Redis has lost its data, or nothing was revoked yet.
    pub async fn revoked_changes(&self) -> Result<Option<RevokedChange>, StoreError> {
        let answer = self.run(|_, pipe| {
            pipe.cmd("GET").arg(keys::REVOKED_CHANGES);
        });
        let text = bytes(answer.await?).map_err(StoreError::Unavailable)?;
        Ok(text.map(|text| RevokedChange::parse(&text)))
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

    /// Revokes a token or a subject until this time, unless it is revoked for longer already. Removes what has ended.
    pub async fn revoke(&self, what: &Revoked, until: Time) -> Result<(), StoreError> {
        let now = self.connector.now();
        let change = self.new_change().await?;
        // Last: whoever sees it reads the change.
        let answers = self.run_each(3, |_, index, pipe| {
            match index {
                0 => {
                    let ended = pipe.cmd("ZREMRANGEBYSCORE").arg(keys::REVOKED);
                    ended.arg("-inf").arg(now.as_millis())
                }
                1 => {
                    // A later end only: an earlier revocation must not become shorter.
                    let added = pipe.cmd("ZADD").arg(keys::REVOKED).arg("GT");
                    added.arg(until.as_millis()).arg(what.to_string())
                }
                _ => pipe.cmd("SET").arg(keys::REVOKED_CHANGES).arg(&change),
            };
        });
        for answer in answers.await? {
            answer.map_err(|err| self.answer_error(err))?;
        }
        Ok(())
    }

    /// Ends a revocation. Returns whether there was one.
    pub async fn lift_revocation(&self, what: &Revoked) -> Result<bool, StoreError> {
        let change = self.new_change().await?;
        let answers = self.run_each(2, |_, index, pipe| {
            match index {
                0 => pipe.cmd("ZREM").arg(keys::REVOKED).arg(what.to_string()),
                _ => pipe.cmd("SET").arg(keys::REVOKED_CHANGES).arg(&change),
            };
        });
        let mut was_there = false;
        for (index, answer) in answers.await?.into_iter().enumerate() {
            let answer = answer.map_err(|err| self.answer_error(err))?;
            was_there |= index == 0 && answer == Value::Int(1);
        }
        Ok(was_there)
    }

    /// Returns the next text of [`keys::REVOKED_CHANGES`]: the generation, and something new. Not a counter: one that begins again in an
    /// empty Redis may reach a number that a gateway has seen before.
    async fn new_change(&self) -> Result<String, StoreError> {
        let current = self.revoked_changes().await?;
        let generation = current.map_or_else(|| fastrand::u64(..), |change| change.generation);
        Ok(format!("{generation:016x}-{:016x}", fastrand::u64(..)))
    }
}
