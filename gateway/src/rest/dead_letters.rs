//! The messages that could never be processed, for whoever looks for a misconfigured detector.

use std::borrow::Cow;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use shared::clock::Time;
use shared::event::iso;
use shared::store::{DeadLetter, StoredLetter, is_entry_id};
use shared::visible_text::{cut, escape};

use super::context::RestContext;
use super::query::Query;
use super::reply;
use crate::client_address::ClientAddress;
use crate::error::ApiError;

/// The value of a missing `limit`, and the largest.
const LIMITS: (usize, usize) = (50, 200);
/// Letters that are read in one round trip. Together they have at most a megabyte.
const PIECE: usize = 50;
/// Letters of any reason that are read for one answer. One that has not enough of the reason then says where to go on.
const MAX_READ: usize = 1_000;

#[derive(Serialize)]
struct DeadLetters {
    success: bool,
    count: usize,
    entries: Vec<Letter>,
    /// `before` of the request for older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct Letter {
    id: String,
    #[serde(serialize_with = "iso")]
    at: Time,
    reason: String,
    detail: String,
    topic: String,
    size: usize,
    #[serde(flatten)]
    payload: Payload,
    /// There is more of the payload than this.
    cut: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
enum Payload {
    /// Hidden characters are escaped.
    #[serde(rename = "payload")]
    Text(String),
    #[serde(rename = "payload_base64")]
    Bytes(String),
}

/// `GET /api/dead-letters`: the newest ones, newest first.
pub(crate) async fn list(
    State(context): State<RestContext>,
    client: ClientAddress,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let before = query.text("before");
    if before.is_some_and(|before| !is_entry_id(before)) {
        return Err(ApiError::Unreadable {
            problem: "`before` is not the `next` of an answer".to_owned(),
        });
    }
    let reason = query.text("reason");
    let limit = query.limit_within(LIMITS.0, LIMITS.1)?;
    let _turn = context.large_reads.wait(client).await?;
    let (entries, next) = find(&context, before, reason, limit).await?;
    Ok(reply::ok(&DeadLetters {
        success: true,
        count: entries.len(),
        entries,
        next,
    }))
}

/// Reads letters until there are enough. Returns also the place behind the last one that was read, unless there are no older ones.
async fn find(
    context: &RestContext,
    before: Option<&str>,
    reason: Option<&str>,
    limit: usize,
) -> Result<(Vec<Letter>, Option<String>), ApiError> {
    let reader = &context.reader;
    let mut found = Vec::new();
    let mut place = before.map(str::to_owned);
    let mut read = 0;
    loop {
        // Without a reason every letter counts.
        let piece = if reason.is_some() {
            PIECE
        } else {
            PIECE.min(limit - found.len())
        };
        let page = reader.store.dead_letters(place.as_deref(), piece);
        let page = reader.with_timeout(page).await;
        let page = page.map_err(ApiError::unavailable)?;
        read += page.letters.len();
        let mut letters = page.letters.into_iter();
        while found.len() < limit
            && let Some(letter) = letters.next()
        {
            place = Some(letter.id.clone());
            if reason.is_none_or(|reason| letter.reason == reason) {
                found.push(render(letter));
            }
        }
        let has_more = page.has_more || letters.len() > 0;
        if !has_more {
            return Ok((found, None));
        }
        if found.len() == limit || read >= MAX_READ {
            return Ok((found, place));
        }
    }
}

fn render(letter: StoredLetter) -> Letter {
    let (payload, is_cut) = payload_of(&letter.payload, letter.size);
    Letter {
        id: letter.id,
        at: letter.at,
        reason: letter.reason,
        detail: letter.detail,
        topic: letter.topic,
        size: letter.size,
        payload,
        cut: is_cut,
    }
}

/// Returns what is shown of a payload of this size, and whether there is more of it. `kept`: the payload, or its beginning.
fn payload_of(kept: &[u8], size: usize) -> (Payload, bool) {
    let is_beginning = kept.len() < size;
    let text = match std::str::from_utf8(kept) {
        Ok(text) => text,
        // The last character was cut in half.
        Err(error) if is_beginning && error.error_len().is_none() => {
            std::str::from_utf8(&kept[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return (Payload::Bytes(STANDARD.encode(kept)), is_beginning),
    };
    match escape(text) {
        Cow::Borrowed(text) => (Payload::Text(text.to_owned()), is_beginning),
        // Escaped, a text may be six times as long.
        Cow::Owned(escaped) => {
            let shown = cut(&escaped, DeadLetter::MAX_BYTES);
            let is_cut = is_beginning || shown.len() < escaped.len();
            (Payload::Text(shown.to_owned()), is_cut)
        }
    }
}

#[cfg(test)]
mod tests;
