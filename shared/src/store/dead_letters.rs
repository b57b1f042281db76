//! Messages that can never be processed.

use std::borrow::Cow;

use redis::{Pipeline, RedisResult, Value};

use super::memory::{MIN_LETTERS, ReserveLeft, is_out_of_memory};
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
}
