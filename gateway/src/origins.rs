//! The origins whose web pages may use this service. Each is an exact origin or a pattern such as `https://*.example.com`,
//! where `*` matches exactly one host label. Pages of the allowed hosts may use it too. Pure.

use std::fmt;
use std::str::FromStr;

use url::Host;

use crate::hosts::{HostRule, parse_authority};

/// Origins for local development. They are always allowed, since no page served from the internet can have one of them.
pub(crate) const BUILT_IN: [&str; 6] = [
    "http://localhost:3000",
    "http://localhost:3001",
    "http://localhost:5173",
    "http://localhost:5174",
    "http://127.0.0.1:5173",
    "http://127.0.0.1:5174",
];

/// The allowed origins, for REST and Socket.IO alike.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    rules: Vec<OriginRule>,
    /// The entries of `--allowed-hosts`. Their pages are allowed with any port.
    hosts: Vec<HostRule>,
}

/// An entry of `--allowed-origins` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` is not an allowed origin: expected `https://host`, `http://host:port` \
     or `https://*.domain`"
)]
pub(crate) struct OriginError {
    entry: String,
}

impl Origins {
    /// Combines the built-in origins and the configured `entries`. Entries that are empty or only spaces are skipped.
    /// `hosts` are the entries of `--allowed-hosts`.
    pub(crate) fn from_config(
        entries: &[String],
        hosts: Vec<HostRule>,
    ) -> Result<Self, OriginError> {
        let configured = entries
            .iter()
            .map(|entry| entry.trim())
            .filter(|entry| !entry.is_empty());
        let rules = BUILT_IN
            .into_iter()
            .chain(configured)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { rules, hosts })
    }

    /// Returns the host of each rule.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = HostRule> {
        self.rules.iter().map(|rule| match rule {
            OriginRule::Exact(origin) => HostRule::Exact(origin.host.clone()),
            OriginRule::DirectSubdomainsOf(parent) => {
                HostRule::DirectSubdomainsOf(parent.host.clone())
            }
        })
    }

    /// Returns whether a page with this `Origin` may use the service. `host` is the request's `Host` header, which was checked
    /// ([`crate::hosts::Hosts`]): pages that this host itself served are allowed.
    pub(crate) fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        let Some(origin) = Origin::parse(origin) else {
            return false;
        };
        let own_origin =
            host.and_then(|host| Origin::parse(&format!("{}://{host}", origin.scheme)));
        own_origin.as_ref() == Some(&origin)
            || self.rules.iter().any(|rule| rule.matches(&origin))
            || self.hosts.iter().any(|host| host.matches(&origin.host))
    }

    /// Returns every rule as text, the built-in ones first.
    pub(crate) fn to_texts(&self) -> Vec<String> {
        self.rules.iter().map(ToString::to_string).collect()
    }
}

#[derive(Clone, Debug)]
enum OriginRule {
    Exact(Origin),
    /// All direct subdomains of this origin's host, with its scheme and port. Written `https://*.example.com`.
    DirectSubdomainsOf(Origin),
}

impl OriginRule {
    fn matches(&self, origin: &Origin) -> bool {
        match self {
            Self::Exact(exact) => exact == origin,
            Self::DirectSubdomainsOf(parent) => {
                let hosts = HostRule::DirectSubdomainsOf(parent.host.clone());
                origin.scheme == parent.scheme
                    && origin.port == parent.port
                    && hosts.matches(&origin.host)
            }
        }
    }
}

impl FromStr for OriginRule {
    type Err = OriginError;

    fn from_str(entry: &str) -> Result<Self, Self::Err> {
        let invalid = || OriginError {
            entry: entry.to_owned(),
        };
        // An address pasted from a browser ends with a slash.
        let text = entry.strip_suffix('/').unwrap_or(entry);
        let Some((scheme, rest)) = text.split_once("://*.") else {
            return Origin::parse(text).map(Self::Exact).ok_or_else(invalid);
        };
        let parent = Origin::parse(&format!("{scheme}://{rest}")).ok_or_else(invalid)?;
        if parent.is_domain {
            Ok(Self::DirectSubdomainsOf(parent))
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (origin, wildcard) = match self {
            Self::Exact(origin) => (origin, ""),
            Self::DirectSubdomainsOf(parent) => (parent, "*."),
        };
        write!(f, "{}://{wildcard}{}", origin.scheme, origin.host)?;
        match (origin.scheme.as_str(), origin.port) {
            ("http", 80) | ("https", 443) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

/// A parsed origin in one normal form: lower case, and with the port even if it is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
    /// The host is a domain name, not an IP address.
    is_domain: bool,
}

impl Origin {
    /// Accepts only scheme, host and port. A URL with user, path or query is not an origin.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        if !scheme.chars().all(|c| c.is_ascii_alphabetic()) {
            return None;
        }
        let url = parse_authority(scheme, authority)?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        Some(Self {
            scheme: url.scheme().to_owned(),
            host: url.host_str()?.to_owned(),
            port: url.port_or_known_default()?,
            is_domain: matches!(url.host(), Some(Host::Domain(_))),
        })
    }
}

#[cfg(test)]
mod tests;
