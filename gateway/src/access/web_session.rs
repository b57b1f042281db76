//! The sessions of people who have signed in. A session is a sealed cookie, so every replica knows it, and none keeps it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use shared::clock::Time;

use super::cookie::Cookie;
use super::identity::{Identity, TokenFacts};
use super::own_pages::{OwnPages, Sender};
use super::permission::{DevicePattern, Permission, Verb};
use super::sealed::{Seal, SealSecret, TooLong, random_bytes};
use crate::http_client::server_url::ServerUrl;

/// Header with a text that only pages of this service can know.
const CSRF_HEADER: &str = "x-csrf-token";

/// Makes and reads sessions.
pub(crate) struct WebSessions {
    seal: Seal,
    csrf_key: hmac::Key,
    cookie: Cookie,
    own_pages: OwnPages,
    time: Duration,
}

/// What the cookie has.
#[derive(Debug, Serialize, Deserialize)]
struct WebSession {
    id: Box<str>,
    subject: Box<str>,
    name: Option<Box<str>>,
    verbs: Vec<Verb>,
    devices: Vec<Box<str>>,
    expires_ms: i64,
}

impl WebSessions {
    /// `time`: how long a session lasts.
    pub(super) fn new(secret: &SealSecret, public_url: &ServerUrl, time: Duration) -> Self {
        Self {
            seal: secret.seal_for("web session 1"),
            csrf_key: secret.signer_for("csrf token 1"),
            cookie: Cookie::new("gateway-session", public_url.uses_tls()),
            own_pages: OwnPages::new(public_url),
            time,
        }
    }

    /// Begins a session of somebody who has just signed in. Returns who has it, and the value of `Set-Cookie`.
    ///
    /// # Errors
    /// The claims are too long for a cookie.
    pub(super) fn begin(
        &self,
        identity: &Identity,
        now: Time,
    ) -> Result<(Identity, HeaderValue), TooLong> {
        let permission = identity.permission();
        let expires = now + self.time;
        let session = WebSession {
            id: URL_SAFE_NO_PAD.encode(random_bytes::<16>()).into(),
            subject: identity.subject().unwrap_or_default().into(),
            name: identity.name().map(Into::into),
            verbs: permission.verbs().to_vec(),
            devices: permission.devices().map(Into::into).collect(),
            expires_ms: expires.as_millis(),
        };
        let sealed = self.seal.seal(&session)?;
        let cookie = self.cookie.keep(&sealed, self.time).ok_or(TooLong)?;
        let facts = TokenFacts {
            id: Some(session.id),
            subject: session.subject,
            name: session.name,
            expires,
        };
        Ok((Identity::of_web_session(facts, permission.clone()), cookie))
    }

    /// Returns the value of `Set-Cookie` that ends the session of a browser.
    pub(crate) fn end(&self) -> Option<HeaderValue> {
        self.cookie.delete()
    }

    /// Returns who has signed in, if the request is one of a browser with a session, and of no foreign page. Whether the session has
    /// ended is not checked.
    pub(super) fn of_head(&self, headers: &HeaderMap) -> Option<Arc<Identity>> {
        let mut sealed = self.cookie.values(headers);
        let session: WebSession = sealed.find_map(|sealed| self.seal.open(sealed))?;
        if self.own_pages.sender(headers) == Sender::Foreign {
            return None;
        }
        let devices = session.devices.iter();
        let devices: Option<Vec<DevicePattern>> =
            devices.map(|text| DevicePattern::parse(text)).collect();
        let facts = TokenFacts {
            id: Some(session.id),
            subject: session.subject,
            name: session.name,
            expires: Time::from_millis(session.expires_ms),
        };
        let permission = Permission::new(session.verbs, devices?);
        Some(Arc::new(Identity::of_web_session(facts, permission)))
    }

    /// Returns what a page must send with everything that changes something. `None` for whoever has no session.
    pub(crate) fn csrf_token(&self, identity: &Identity) -> Option<String> {
        let id = identity.web_session()?;
        let tag = hmac::sign(&self.csrf_key, id.as_bytes());
        Some(URL_SAFE_NO_PAD.encode(tag))
    }

    /// Returns whether a request of this session that changes something was sent by a page of this service.
    pub(super) fn is_of_own_page(&self, headers: &HeaderMap, session: &str) -> bool {
        let sent = headers.get(CSRF_HEADER);
        let sent = sent.and_then(|sent| URL_SAFE_NO_PAD.decode(sent.as_bytes()).ok());
        // The comparison takes the same time wherever they differ.
        let is_ours = sent
            .is_some_and(|sent| hmac::verify(&self.csrf_key, session.as_bytes(), &sent).is_ok());
        is_ours && self.own_pages.sender(headers) == Sender::Own
    }
}

#[cfg(test)]
mod tests;
