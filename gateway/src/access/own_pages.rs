//! Whether a request comes from a page of this service itself. A browser adds cookies to requests of foreign pages, too, so they count
//! only for our own.

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use url::{Origin, Url};

use crate::http_client::server_url::ServerUrl;

/// What the browser itself says about the page that sends a request. No page can set it.
const FETCH_SITE: &str = "sec-fetch-site";

/// The pages of this service.
#[derive(Clone, Debug)]
pub(super) struct OwnPages {
    scheme: String,
    origin: Origin,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A page of this service.
    Own,
    /// Nothing is said about a page. Browsers do so for an address that somebody opens, and for some requests of our own pages.
    Unknown,
    /// A page of somebody else.
    Foreign,
}

impl OwnPages {
    /// `public_url`: where browsers reach this service.
    pub(super) fn new(public_url: &ServerUrl) -> Self {
        Self {
            scheme: public_url.scheme().to_owned(),
            origin: public_url.origin(),
        }
    }

    /// Returns who sends a request. The host that it names must have been checked.
    pub(super) fn sender(&self, headers: &HeaderMap) -> Sender {
        let is_own_site = match text(headers, FETCH_SITE) {
            Some("same-origin") => Some(true),
            // `none`: somebody has typed the address, or followed a bookmark.
            None | Some("none") => None,
            Some(_) => Some(false),
        };
        let mut origins = headers.get_all(ORIGIN).iter();
        let is_own_origin = match (origins.next(), origins.next()) {
            (None, _) => None,
            (Some(origin), None) => Some(self.is_own(origin.to_str().ok(), headers)),
            // No browser sends two.
            (Some(_), Some(_)) => Some(false),
        };
        match (is_own_origin, is_own_site) {
            (Some(false), _) | (_, Some(false)) => Sender::Foreign,
            (Some(true), _) | (_, Some(true)) => Sender::Own,
            (None, None) => Sender::Unknown,
        }
    }

    /// Returns whether this is the origin of the public address, or of the host that the request names, with the scheme of the public
    /// address: a page that somebody on the way has sent over http is none of ours.
    fn is_own(&self, origin: Option<&str>, headers: &HeaderMap) -> bool {
        let Some(origin) = origin.and_then(|origin| Url::parse(origin).ok()) else {
            return false;
        };
        let of_host = text(headers, HOST.as_str());
        let of_host =
            of_host.and_then(|host| Url::parse(&format!("{}://{host}", self.scheme)).ok());
        let origin = origin.origin();
        // An origin that is not of a web page, such as `null`, equals no other.
        origin.is_tuple()
            && (origin == self.origin || of_host.is_some_and(|of_host| of_host.origin() == origin))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .map(|value| value.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests;
