//! The origins whose web pages may use this service. Each is an exact origin or a pattern such as `https://*.example.com`,
//! where `*` matches exactly one host label. Pages of the allowed hosts may use it too. Pure.
//!
//! Apps that show pages of their own have origins with other schemes, such as `capacitor://localhost`. They are compared as text.

use std::fmt;
use std::str::FromStr;

use url::Host;

use crate::hosts::{HostRule, parse_authority};

/// Origins for local development, unless `--no-default-origins` is given. No page served from the internet can have one of them, but a
/// program on the machine of somebody who is signed in can.
pub(crate) const BUILT_IN: [&str; 6] = [
    "http://localhost:3000",
    "http://localhost:3001",
    "http://localhost:5173",
    "http://localhost:5174",
    "http://127.0.0.1:5173",
    "http://127.0.0.1:5174",
];

/// What a browser sends as `Origin` of a page without one: a sandboxed frame, a local file, some redirects. Any site can make such a
/// frame, so this is like allowing every page.
const NULL: &str = "null";

/// Schemes whose name no page has in its origin. Listing one is a mistake.
const NO_PAGES: [&str; 6] = ["ws", "wss", "ftp", "data", "javascript", "blob"];

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
    "`{entry}` is not an allowed origin: expected `https://host`, `http://host:port`, \
     `https://*.domain`, the origin of an app such as `capacitor://localhost`, or `null`"
)]
pub(crate) struct OriginError {
    entry: String,
}

impl Origins {
    /// Combines the built-in origins, if `with_built_in`, and the configured `entries`. Entries that are empty or only spaces are
    /// skipped. `hosts` are the entries of `--allowed-hosts`.
    pub(crate) fn from_config(
        entries: &[String],
        with_built_in: bool,
        hosts: Vec<HostRule>,
    ) -> Result<Self, OriginError> {
        let configured = entries
            .iter()
            .map(|entry| entry.trim())
            .filter(|entry| !entry.is_empty());
        let built_in = BUILT_IN.into_iter().filter(|_| with_built_in);
        let rules = built_in
            .chain(configured)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { rules, hosts })
    }

    /// Returns the host of each rule about web pages.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = HostRule> {
        self.rules.iter().filter_map(|rule| match rule {
            OriginRule::Exact(origin) => Some(HostRule::Exact(origin.host.clone())),
            OriginRule::DirectSubdomainsOf(parent) => {
                Some(HostRule::DirectSubdomainsOf(parent.host.clone()))
            }
            // No request names the host in the origin of an app.
            OriginRule::App(_) | OriginRule::Null => None,
        })
    }

    /// Returns whether a page with this `Origin` may use the service. `host` is the request's `Host` header, which was checked
    /// ([`crate::hosts::Hosts`]): pages that this host itself served are allowed.
    pub(crate) fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        let Some(origin) = Origin::parse(origin) else {
            return self.allows_other(origin);
        };
        let own_origin =
            host.and_then(|host| Origin::parse(&format!("{}://{host}", origin.scheme)));
        own_origin.as_ref() == Some(&origin)
            || self.rules.iter().any(|rule| rule.matches(&origin))
            || self.hosts.iter().any(|host| host.matches(&origin.host))
    }

    /// Returns whether an origin that is none of a web page is listed.
    fn allows_other(&self, origin: &str) -> bool {
        let app = AppOrigin::parse(origin);
        self.rules.iter().any(|rule| match rule {
            OriginRule::App(listed) => Some(listed) == app.as_ref(),
            OriginRule::Null => origin == NULL,
            OriginRule::Exact(_) | OriginRule::DirectSubdomainsOf(_) => false,
        })
    }

    /// Returns whether pages without an origin may use the service.
    pub(crate) fn allows_null(&self) -> bool {
        self.allows_other(NULL)
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
    App(AppOrigin),
    Null,
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
            Self::App(_) | Self::Null => false,
        }
    }
}

impl FromStr for OriginRule {
    type Err = OriginError;

    fn from_str(entry: &str) -> Result<Self, Self::Err> {
        let invalid = || OriginError {
            entry: entry.to_owned(),
        };
        if entry == NULL {
            return Ok(Self::Null);
        }
        // An address pasted from a browser ends with a slash.
        let text = match entry.strip_suffix('/') {
            // `file://` has no host, and its slashes belong to it.
            Some(text) if !text.ends_with(":/") => text,
            _ => entry,
        };
        let Some((scheme, rest)) = text.split_once("://*.") else {
            let exact = Origin::parse(text).map(Self::Exact);
            let app = || AppOrigin::parse(text).map(Self::App);
            return exact.or_else(app).ok_or_else(invalid);
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
            Self::App(AppOrigin(text)) => return f.write_str(text),
            Self::Null => return f.write_str(NULL),
        };
        write!(f, "{}://{wildcard}{}", origin.scheme, origin.host)?;
        match (origin.scheme.as_str(), origin.port) {
            ("http", 80) | ("https", 443) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

/// A parsed origin of a web page in one normal form: lower case, and with the port even if it is the default.
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

/// The origin of pages that an app brings with it, such as `capacitor://localhost` or `app://dashboard`, in lower case. Its scheme is
/// neither `http` nor `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AppOrigin(String);

impl AppOrigin {
    /// Accepts only scheme, host and port. The host may be a single dot, and that of `file://` is empty.
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let is_web = matches!(scheme, "http" | "https");
        if !is_scheme || is_web || NO_PAGES.contains(&scheme) {
            return None;
        }
        let (host, port) = authority.split_once(':').unwrap_or((authority, "0"));
        let is_host = host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
        let is_empty = host.is_empty() && (scheme != "file" || authority != host);
        (is_host && !is_empty && is_port(port)).then_some(Self(text))
    }
}

fn is_port(text: &str) -> bool {
    let has_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    has_digits && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests;
