//! Where a token is in a request, or in the packet with which a client joins the namespace.

use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Uri};
use serde::Deserialize;
use serde_json::Value;

use super::identity::Identity;
use super::keys::MAX_TOKEN;

/// The scheme of the header `Authorization` (RFC 6750, section 2.1). Others are for a proxy in front.
const SCHEME: &str = "bearer";
/// Stands for a token that cannot be one of ours, which is not the same as no token.
const UNREADABLE: &str = "";
/// The field of the payload.
const FIELD: &str = "token";
/// The query parameter, if it is allowed.
const PARAMETER: &str = "token";

/// With what a client shows who it is.
#[derive(Clone, Debug, Default)]
pub(crate) enum Credential {
    /// With nothing.
    #[default]
    None,
    Token(Box<str>),
    /// With the cookie of somebody who has signed in. It was opened, and may have expired.
    WebSession(Arc<Identity>),
}

impl Credential {
    /// Returns the other one if this is nothing.
    pub(crate) fn or(self, other: Self) -> Self {
        match self {
            Self::None => other,
            own => own,
        }
    }
}

impl From<Option<Box<str>>> for Credential {
    fn from(token: Option<Box<str>>) -> Self {
        token.map_or(Self::None, Self::Token)
    }
}

/// Returns the token in the head of a request. `is_query_read`: the query counts, too; it stands in the logs of many proxies.
pub(super) fn of_head(headers: &HeaderMap, uri: &Uri, is_query_read: bool) -> Option<Box<str>> {
    let token = of_headers(headers).or_else(|| is_query_read.then(|| of_query(uri)).flatten())?;
    // It is kept until the client joins.
    Some(if token.len() > MAX_TOKEN {
        UNREADABLE.into()
    } else {
        token
    })
}

fn of_headers(headers: &HeaderMap) -> Option<Box<str>> {
    let value = headers.get(AUTHORIZATION)?;
    // A value that is no text cannot be a token. It is none of ours, which is not the same as no token.
    let Ok(text) = value.to_str() else {
        return Some(UNREADABLE.into());
    };
    let (scheme, token) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| token.trim().into())
}

fn of_query(uri: &Uri) -> Option<Box<str>> {
    let mut pairs = url::form_urlencoded::parse(uri.query()?.as_bytes());
    pairs.find_map(|(name, value)| (name == PARAMETER).then(|| value.as_ref().into()))
}

/// What a client sends when it joins the namespace (`auth` of the official client). Other fields are the client's own.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct JoinPayload(Value);

impl JoinPayload {
    /// Reads the text behind the packet `40`. Without a text, or with one that is not an object, there is no token.
    pub(crate) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// Returns the token. An empty one is none: applications send it before anybody has signed in. What is no text is a token that cannot
    /// be one of ours.
    pub(crate) fn credential(self) -> Credential {
        let Value::Object(mut fields) = self.0 else {
            return Credential::None;
        };
        match fields.remove(FIELD) {
            None | Some(Value::Null) => Credential::None,
            Some(Value::String(text)) if text.is_empty() => Credential::None,
            Some(Value::String(text)) => Credential::Token(text.into_boxed_str()),
            Some(_) => Credential::Token(UNREADABLE.into()),
        }
    }
}
