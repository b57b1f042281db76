//! One attempt to sign in, which the browser keeps while it is at the provider.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use shared::clock::Time;

use super::stays;
use crate::access::sealed::random_text;
use crate::http_client::server_url::ServerUrl;

/// The longest path to which a browser returns, in bytes.
const MAX_RETURN: usize = 1024;

/// One attempt.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// The provider sends it back with the browser, which shows that the browser has begun here.
    state: String,
    /// The provider puts it into the token, which shows that the token is for this attempt.
    nonce: String,
    /// Only who has it can use the code (PKCE, RFC 7636).
    verifier: String,
    back: String,
    ends_ms: i64,
}

/// A path of this service, with its query.
#[derive(Debug)]
pub(super) struct ReturnPath(String);

impl ReturnPath {
    /// Returns `None` for an address that leads elsewhere.
    pub(super) fn parse(text: &str, public_url: &ServerUrl) -> Option<Self> {
        // `//host` and `/\host` lead to another host.
        let is_path = text.starts_with('/')
            && !text[1..].starts_with(['/', '\\'])
            && !text.contains(char::is_control)
            && text.len() <= MAX_RETURN;
        let url = is_path.then(|| stays(text, public_url)).flatten()?;
        let path = &url[url::Position::BeforePath..];
        // Dots may have been resolved to what leads elsewhere.
        (!path[1..].starts_with(['/', '\\'])).then(|| Self(path.to_owned()))
    }
}

impl Attempt {
    pub(super) fn new(back: ReturnPath, ends: Time) -> Self {
        Self {
            state: random_text(),
            nonce: random_text(),
            verifier: random_text(),
            back: back.0,
            ends_ms: ends.as_millis(),
        }
    }

    /// Returns whether the provider answers this attempt, in time. What the browser keeps is sealed, so a guess cannot be tried again
    /// and again faster than requests are answered.
    pub(super) fn is_of(&self, state: Option<&str>, now: Time) -> bool {
        state == Some(&self.state) && now.as_millis() < self.ends_ms
    }

    pub(super) fn is_nonce(&self, nonce: Option<&str>) -> bool {
        nonce == Some(&self.nonce)
    }

    pub(super) fn state(&self) -> &str {
        &self.state
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    pub(super) fn verifier(&self) -> &str {
        &self.verifier
    }

    /// Returns what is sent to the provider first: the hash of the verifier (`S256`).
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier.as_bytes()))
    }

    pub(super) fn back(&self) -> &str {
        &self.back
    }
}

#[cfg(test)]
mod tests;
