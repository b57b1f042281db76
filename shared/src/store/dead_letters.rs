//! Messages that can never be processed: how they are stored, and read again.

use std::borrow::Cow;

use redis::{Pipeline, RedisResult, Value};

use super::memory::{MIN_LETTERS, ReserveLeft, is_out_of_memory};
use super::reply::{Entry, entries};
use super::{Store, StoreError};
use crate::clock::Time;
use crate::keys;
use crate::visible_text::{cut, escape};

/// A message that can never be processed.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// Why, as a short constant.
    pub reason: &'a str,
    /// Description of the error, for the manufacturer of the device; stored as [`Self::text`].
    pub detail: &'a str,
    /// Topic of the message; stored as [`Self::text`].
    pub topic: &'a str,
    /// The payload, or its beginning; cut at [`Self::MAX_BYTES`].
    pub payload: &'a [u8],
    /// Size of the payload in bytes.
    pub size: usize,
}

impl DeadLetter<'_> {
    /// Maximum number of bytes kept of a payload.
    pub const MAX_BYTES: usize = 16 * 1024;
    /// Maximum number of bytes kept of a topic, and of a detail.
    pub const MAX_TEXT_BYTES: usize = 1024;
    /// Maximum number of bytes that a dead letter takes in Redis: payload, topic, detail, and 512 for the other fields and the entry
    /// itself.
    pub const MAX_STORED_BYTES: usize = Self::MAX_BYTES + 2 * Self::MAX_TEXT_BYTES + 512;

    /// Returns a text as dead letters and logs have it: hidden characters are escaped, and it is cut at
    /// [`Self::MAX_TEXT_BYTES`].
    #[must_use]
    pub fn text(text: &str) -> Cow<'_, str> {
        // Cut first: the text may be longer than what is kept of it.
        match escape(cut(text, Self::MAX_TEXT_BYTES)) {
            Cow::Borrowed(text) => Cow::Borrowed(text),
            Cow::Owned(text) => Cow::Owned(cut(&text, Self::MAX_TEXT_BYTES).to_owned()),
        }
    }
}

/// A dead letter as it is stored. What cannot be read of it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredLetter {
    /// Id of its entry.
    pub id: String,
    /// When it was stored.
    pub at: Time,
    /// Why, as a short constant; of a newer release perhaps another one.
    pub reason: String,
    /// As [`DeadLetter::detail`].
    pub detail: String,
    /// As [`DeadLetter::topic`].
    pub topic: String,
    /// Size of the payload in bytes.
    pub size: usize,
    /// The payload, or its beginning.
    pub payload: Vec<u8>,
}

impl StoredLetter {
    fn from_entry(mut entry: Entry) -> Self {
        // What is in Redis need not have been stored by this release.
        let text = |field| DeadLetter::text(entry.text(field).unwrap_or_default()).into_owned();
        let at = entry.text("at").and_then(Time::from_iso);
        let letter = Self {
            at: at.or_else(|| entry.written()).unwrap_or_default(),
            reason: text("reason"),
            detail: text("detail"),
            topic: text("topic"),
            size: entry
                .text("size")
                .and_then(|size| size.parse().ok())
                .unwrap_or_default(),
            ..Self::default()
        };
        let payload = entry.fields.remove("payload").unwrap_or_default();
        Self {
            id: entry.id,
            payload,
            ..letter
        }
    }
}

/// Some dead letters, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterPage {
    /// The letters.
    pub letters: Vec<StoredLetter>,
    /// Whether there are older ones.
    pub has_more: bool,
}

/// Adds the fields of a letter in the stream.
fn fields(letter: &DeadLetter<'_>, now: Time, pipe: &mut Pipeline) {
    let kept_bytes = letter.payload.len().min(DeadLetter::MAX_BYTES);
    pipe.arg("reason").arg(letter.reason);
    pipe.arg("detail").arg(&*DeadLetter::text(letter.detail));
    pipe.arg("topic").arg(&*DeadLetter::text(letter.topic));
    pipe.arg("at").arg(now.to_iso());
    pipe.arg("size").arg(letter.size);
    pipe.arg("payload").arg(&letter.payload[..kept_bytes]);
}

impl Store {
    /// Stores messages that can never be processed. The stream keeps the newest `max` of them, each of at most
    /// [`DeadLetter::MAX_STORED_BYTES`].
    pub async fn dead_letter(
        &self,
        letters: &[DeadLetter<'_>],
        max: u64,
    ) -> Result<(), StoreError> {
        let now = self.connector.now();
        let mut answers = self
            .run_each(letters.len(), |_, index, pipe| {
                pipe.cmd("XADD").arg(keys::DEAD_LETTERS);
                pipe.arg("MAXLEN").arg(max).arg("*");
                fields(&letters[index], now, pipe);
            })
            .await?;
        let is_full = |answer: &RedisResult<Value>| answer.as_ref().is_err_and(is_out_of_memory);
        if answers.iter().any(is_full) {
            self.memory.refused();
            let reserve = self.reserve_left().await?;
            if reserve != ReserveLeft::Nothing {
                let min_letters = match reserve {
                    ReserveLeft::ForAll => max.min(MIN_LETTERS),
                    // Refusing one would hold up the messages behind it.
                    _ => 1,
                };
                let refused = answers.iter().zip(letters);
                let refused = refused.filter(|(answer, _)| is_full(answer));
                let refused: Vec<_> = refused.map(|(_, letter)| letter).collect();
                answers.retain(|answer| !is_full(answer));
                let new_answers = self.run_each(refused.len(), |scripts, index, pipe| {
                    pipe.cmd("EVALSHA").arg(&scripts.letter_when_full);
                    pipe.arg(1).arg(keys::DEAD_LETTERS).arg(min_letters);
                    fields(refused[index], now, pipe);
                });
                answers.extend(new_answers.await?);
            }
        }
        let failure = answers.into_iter().find_map(Result::err);
        let Some(err) = failure.map(|err| self.answer_error(err)) else {
            return Ok(());
        };
        if matches!(err, StoreError::Refused(_)) {
            // The key is not a stream. It is kept under another name, and the next try creates the stream.
            let aside = keys::dead_letters_aside(now.as_millis());
            self.run(|_, pipe| {
                pipe.cmd("RENAME").arg(keys::DEAD_LETTERS).arg(&aside);
            })
            .await?;
            tracing::error!(aside, "the key of the dead letters was not a stream");
        }
        Err(err)
    }

    /// Reads at most `limit` letters, newest first, each of at most [`DeadLetter::MAX_STORED_BYTES`]. `before`: the id of the last one of
    /// another page.
    pub async fn dead_letters(
        &self,
        before: Option<&str>,
        limit: usize,
    ) -> Result<LetterPage, StoreError> {
        let start = before.map_or_else(|| "+".to_owned(), |before| format!("({before}"));
        let answer = self.run(|_, pipe| {
            pipe.cmd("XREVRANGE").arg(keys::DEAD_LETTERS);
            // One more, to learn whether there is another page.
            pipe.arg(&start).arg("-").arg("COUNT").arg(limit + 1);
        });
        let answer = match answer.await {
            Ok(answer) => answer,
            // The key is not a stream. The next dead letter renames it.
            Err(StoreError::Refused(_)) => return Ok(LetterPage::default()),
            Err(err) => return Err(err),
        };
        let mut found = entries(answer).map_err(StoreError::Unavailable)?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        Ok(LetterPage {
            letters: found.into_iter().map(StoredLetter::from_entry).collect(),
            has_more,
        })
    }
}
