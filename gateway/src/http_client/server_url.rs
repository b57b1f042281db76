//! The address of a server that is asked over HTTP.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use url::{Host, Origin, Url};

/// An `https` address, or an `http` address of this machine: what such a server says decides who is admitted, so nobody on the way
/// may change it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ServerUrl(Url);

/// The text is no address that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address that begins with `https://`, without a user and `#`; `http://` is possible for this machine alone (localhost)"
)]
pub(crate) struct ServerUrlError;

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let url = Url::parse(text.trim()).map_err(|_| ServerUrlError)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_safe = match url.scheme() {
            "https" => url.host().is_some(),
            "http" => is_loopback(&url),
            _ => false,
        };
        if has_user || url.fragment().is_some() || !is_safe {
            return Err(ServerUrlError);
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = ServerUrlError;

    fn try_from(text: String) -> Result<Self, ServerUrlError> {
        text.parse()
    }
}

impl ServerUrl {
    pub(crate) fn uses_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    pub(crate) fn scheme(&self) -> &str {
        self.0.scheme()
    }

    pub(crate) fn origin(&self) -> Origin {
        self.0.origin()
    }

    /// Returns whether it has neither path nor query.
    pub(crate) fn is_origin(&self) -> bool {
        self.0.path() == "/" && self.0.query().is_none()
    }

    /// Returns the address with these parameters behind those that it has.
    pub(crate) fn with_query(&self, parameters: &[(&str, &str)]) -> Url {
        let mut url = self.0.clone();
        url.query_pairs_mut().extend_pairs(parameters);
        url
    }

    /// Returns the address that a link on its page leads to.
    pub(crate) fn resolve(&self, link: &str) -> Option<Url> {
        self.0.join(link).ok()
    }

    /// Returns the name or the address of the host, without the brackets of IPv6.
    pub(crate) fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Returns host and port to connect to.
    pub(super) fn address(&self) -> (&str, u16) {
        (self.host(), self.0.port_or_known_default().unwrap_or(443))
    }

    /// Returns the value of the header `Host`.
    pub(super) fn host_header(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Returns what a request line names.
    pub(super) fn path_and_query(&self) -> String {
        match self.0.query() {
            Some(query) => format!("{}?{query}", self.0.path()),
            None => self.0.path().to_owned(),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
