//! Which web pages may use this service: those of exact origins, and of patterns such as `https://*.example.com`, where `*`
//! stands for exactly one host label. Pure.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// Origins of local development, which are always allowed: no page on the internet can have them.
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
    /// The built-in origins and these entries of the configuration. Blank entries are skipped.
    pub(crate) fn from_config(entries: &[String]) -> Result<Self, OriginError> {
        let configured = entries
            .iter()
            .map(|entry| entry.trim())
            .filter(|entry| !entry.is_empty());
        let rules = BUILT_IN
            .into_iter()
            .chain(configured)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// Whether a page of this `Origin` may use the service. `host` is the request's `Host`: pages of our own host may.
    pub(crate) fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        let Some(origin) = Origin::parse(origin) else {
            return false;
        };
        let own = host.and_then(|host| Origin::parse(&format!("{}://{host}", origin.scheme)));
        own.as_ref() == Some(&origin) || self.rules.iter().any(|rule| rule.matches(&origin))
    }

    /// Every rule as text, the built-in ones first.
    pub(crate) fn to_texts(&self) -> Vec<String> {
        self.rules.iter().map(ToString::to_string).collect()
    }
}

#[derive(Clone, Debug)]
enum OriginRule {
    Exact(Origin),
    /// Any origin whose host is exactly one label before the host of this one.
    OneLabelBefore(Origin),
}

impl OriginRule {
    fn matches(&self, origin: &Origin) -> bool {
        match self {
            Self::Exact(exact) => exact == origin,
            Self::OneLabelBefore(parent) => {
                let label = origin
                    .host
                    .strip_suffix(parent.host.as_str())
                    .and_then(|front| front.strip_suffix('.'));
                origin.scheme == parent.scheme
                    && origin.port == parent.port
                    && label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
        }
    }
}

impl FromStr for OriginRule {
    type Err = OriginError;

    fn from_str(entry: &str) -> Result<Self, Self::Err> {
        let refused = || OriginError {
            entry: entry.to_owned(),
        };
        // An address pasted from a browser ends with a slash.
        let text = entry.strip_suffix('/').unwrap_or(entry);
        let Some((scheme, rest)) = text.split_once("://*.") else {
            return Origin::parse(text).map(Self::Exact).ok_or_else(refused);
        };
        let parent = Origin::parse(&format!("{scheme}://{rest}")).ok_or_else(refused)?;
        if parent.is_name {
            Ok(Self::OneLabelBefore(parent))
        } else {
            Err(refused())
        }
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (origin, stars) = match self {
            Self::Exact(origin) => (origin, ""),
            Self::OneLabelBefore(parent) => (parent, "*."),
        };
        write!(f, "{}://{stars}{}", origin.scheme, origin.host)?;
        match (origin.scheme.as_str(), origin.port) {
            ("http", 80) | ("https", 443) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

/// A parsed origin: in lower case, always with its port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
    /// The host is a name, not an address.
    is_name: bool,
}

impl Origin {
    /// Accepts only scheme, host and port. A URL with more (user, path, query) is not an origin.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let in_authority =
            |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        // The URL parser corrects blanks and other mistakes. A text that needs correction is not an origin.
        let is_plain =
            scheme.chars().all(|c| c.is_ascii_alphabetic()) && authority.chars().all(in_authority);
        if authority.is_empty() || !is_plain {
            return None;
        }
        let url = Url::parse(text).ok()?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        Some(Self {
            scheme: url.scheme().to_owned(),
            host: url.host_str()?.to_owned(),
            port: url.port_or_known_default()?,
            is_name: matches!(url.host(), Some(Host::Domain(_))),
        })
    }
}

#[cfg(test)]
mod tests;
