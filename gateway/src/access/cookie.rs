//! Cookies, which only this service reads (RFC 6265).

use std::time::Duration;

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

/// The name of a cookie, and how browsers keep it.
#[derive(Clone, Debug)]
pub(super) struct Cookie {
    name: String,
    is_secure: bool,
}

impl Cookie {
    /// `is_secure`: browsers reach this service over https. Then the prefix of the name makes them refuse a cookie of this name that another
    /// host, or a page over http, tries to set.
    pub(super) fn new(name: &str, is_secure: bool) -> Self {
        let prefix = if is_secure { "__Host-" } else { "" };
        Self {
            name: format!("{prefix}{name}"),
            is_secure,
        }
    }

    /// Returns the values of this cookie in a request. A browser sends at most one, unless somebody plays tricks.
    pub(super) fn values<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        let lines = headers.get_all(COOKIE).iter();
        let texts = lines.filter_map(|line| line.to_str().ok());
        let pairs = texts.flat_map(|text| text.split(';'));
        let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
        pairs.filter_map(|(name, value)| (name == self.name).then_some(value))
    }

    /// Returns the value of `Set-Cookie` that keeps this value for so long.
    pub(super) fn keep(&self, value: &str, time: Duration) -> Option<HeaderValue> {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let (name, seconds) = (&self.name, time.as_secs());
        let text =
            format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::try_from(text).ok()
    }

    /// Returns the value of `Set-Cookie` that deletes it.
    pub(super) fn delete(&self) -> Option<HeaderValue> {
        self.keep("", Duration::ZERO)
    }
}
