//! The names under which this service may be addressed. Pure.
//!
//! DNS rebinding: a page of `evil.example` lets its own name lead to this service. Then the browser takes both for one
//! origin, and neither CORS nor a firewall stops the page. But the browser sends the name in `Host`. So a name that is not
//! listed is refused. An address always passes, because rebinding needs a name.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// Always allowed: this name leads to the machine of the browser itself, whatever others do.
const LOCALHOST: &str = "localhost";

/// The allowed names. An address (IPv4 or IPv6) is always allowed.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    rules: Vec<HostRule>,
}

/// An entry of `--allowed-hosts` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}` is not an allowed host: expected `host`, without a port, or `*.domain`")]
pub(crate) struct HostError {
    entry: String,
}

/// The host that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamedHost {
    Address,
    /// In lower case.
    Name(String),
}

/// A name, or all direct subdomains of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostRule {
    Exact(String),
    /// Written `*.example.com`. The `*` is exactly one label.
    DirectSubdomainsOf(String),
}

impl Hosts {
    /// Combines `localhost`, the hosts of the allowed origins, and the entries of `--allowed-hosts`.
    pub(crate) fn new(of_origins: impl Iterator<Item = HostRule>, entries: &[HostRule]) -> Self {
        let localhost = HostRule::Exact(LOCALHOST.to_owned());
        let rules = std::iter::once(localhost)
            .chain(of_origins)
            .chain(entries.iter().cloned());
        Self {
            rules: rules.collect(),
        }
    }

    /// Returns whether a request may name this host.
    pub(crate) fn allow(&self, host: &NamedHost) -> bool {
        match host {
            NamedHost::Address => true,
            NamedHost::Name(name) => self.rules.iter().any(|rule| rule.matches(name)),
        }
    }
}

impl NamedHost {
    /// Parses the value of a `Host` header: a name or an address, with or without a port.
    pub(crate) fn parse(authority: &str) -> Option<Self> {
        let url = parse_authority("http", authority)?;
        match url.host()? {
            Host::Domain(name) => Some(Self::Name(name.to_owned())),
            Host::Ipv4(_) | Host::Ipv6(_) => Some(Self::Address),
        }
    }
}

impl HostRule {
    /// Parses the entries of `--allowed-hosts`. Empty ones are skipped.
    pub(crate) fn parse_all(entries: &[String]) -> Result<Vec<Self>, HostError> {
        let entries = entries.iter().map(|entry| entry.trim());
        let entries = entries.filter(|entry| !entry.is_empty());
        entries.map(str::parse).collect()
    }

    /// Returns whether the rule allows this name, which is in lower case.
    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::DirectSubdomainsOf(parent) => {
                let label = name
                    .strip_suffix(parent.as_str())
                    .and_then(|label_and_dot| label_and_dot.strip_suffix('.'));
                label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
        }
    }
}

impl FromStr for HostRule {
    type Err = HostError;

    fn from_str(entry: &str) -> Result<Self, HostError> {
        let invalid = || HostError {
            entry: entry.to_owned(),
        };
        let (is_pattern, text) = match entry.strip_prefix("*.") {
            Some(parent) => (true, parent),
            None => (false, entry),
        };
        // A port would promise a check that is not made: any port passes.
        let has_port = text.contains(':') && !text.ends_with(']');
        match (NamedHost::parse(text), is_pattern) {
            _ if has_port => Err(invalid()),
            (Some(NamedHost::Name(name)), false) => Ok(Self::Exact(name)),
            (Some(NamedHost::Name(name)), true) => Ok(Self::DirectSubdomainsOf(name)),
            // Addresses are always allowed, and listing one does no harm. It has no subdomains.
            (Some(NamedHost::Address), false) => Ok(Self::Exact(text.to_owned())),
            (Some(NamedHost::Address), true) | (None, _) => Err(invalid()),
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::DirectSubdomainsOf(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// Parses a host with an optional port as a URL of this scheme, and accepts nothing else: no user, path or query.
///
/// The URL parser would silently correct spaces and other mistakes. Text that needs correction is not accepted.
pub(crate) fn parse_authority(scheme: &str, authority: &str) -> Option<Url> {
    let in_authority =
        |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if authority.is_empty() || !authority.chars().all(in_authority) {
        return None;
    }
    Url::parse(&format!("{scheme}://{authority}")).ok()
}

#[cfg(test)]
mod tests;
