//! Messages that can never be processed.

use super::{Store, StoreError};
use crate::keys;

/// A message that can never be processed.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// Why, as a short constant.
    pub reason: &'a str,
    /// Description of the error, for the manufacturer of the device.
    pub detail: &'a str,
    /// Topic of the message.
    pub topic: &'a str,
    /// The payload, or its beginning; cut at [`Self::MAX_BYTES`].
    pub payload: &'a [u8],
    /// Size of the payload in bytes.
    pub size: usize,
}

impl DeadLetter<'_> {
    /// Maximum number of bytes kept of a payload.
    pub const MAX_BYTES: usize = 16 * 1024;
}

impl Store {
    /// Stores messages that can never be processed. The stream keeps about the newest `max` of them.
    pub async fn dead_letter(
        &self,
        letters: &[DeadLetter<'_>],
        max: u64,
    ) -> Result<(), StoreError> {
        let now = self.connector.now();
        let answers = self
            .run_each(letters.len(), |_, index, pipe| {
                let letter = &letters[index];
                let kept_bytes = letter.payload.len().min(DeadLetter::MAX_BYTES);
                pipe.cmd("XADD").arg(keys::DEAD_LETTERS);
                pipe.arg("MAXLEN").arg("~").arg(max).arg("*");
                pipe.arg("reason").arg(letter.reason);
                pipe.arg("detail").arg(letter.detail);
                pipe.arg("topic").arg(letter.topic);
                pipe.arg("at").arg(now.to_iso());
                pipe.arg("size").arg(letter.size);
                pipe.arg("payload").arg(&letter.payload[..kept_bytes]);
            })
            .await?;
        let failure = answers.into_iter().find_map(Result::err);
        let Some(err) = failure.map(|err| self.answer_error(err)) else {
            return Ok(());
        };
        if matches!(err, StoreError::Refused(_)) {
            // The key is not a stream. It is kept under another name, and the next try creates the stream.
            let aside = format!("{}:aside:{}", keys::DEAD_LETTERS, now.as_millis());
            self.run(|_, pipe| {
                pipe.cmd("RENAME").arg(keys::DEAD_LETTERS).arg(&aside);
            })
            .await?;
            tracing::error!(aside, "the key of the dead letters was not a stream");
        }
        Err(err)
    }
}
