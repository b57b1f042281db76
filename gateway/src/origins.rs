//! Which web pages may talk to us: exact origins and patterns of one host label (contract D19).

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// Origins of local development, always allowed: nothing published on the internet can have them.
pub const BUILT_IN: [&str; 6] = [
    "http://localhost:3000",
    "http://localhost:3001",
    "http://localhost:5173",
    "http://localhost:5174",
    "http://127.0.0.1:5173",
    "http://127.0.0.1:5174",
];

/// The origins that are allowed, for REST and Socket.IO alike.
#[derive(Clone, Debug)]
pub struct Origins {
    rules: Vec<Rule>,
}

/// An entry of `--allowed-origins` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` is not an allowed origin: expected `https://host`, `http://host:port` \
     or `https://*.domain`"
)]
pub struct OriginError {
    entry: String,
}

impl Origins {
    /// The built-in origins and those of the configuration; blank entries are skipped.
    pub fn from_config(entries: &[String]) -> Result<Self, OriginError> {
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

    /// Whether a page of this `Origin` may talk to us; `host` is the request's `Host`, whose own pages may.
    #[must_use]
    pub fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        let Some(origin) = Origin::parse(origin) else {
            return false;
        };
        let own = host.and_then(|host| Origin::parse(&format!("{}://{host}", origin.scheme)));
        own.as_ref() == Some(&origin) || self.rules.iter().any(|rule| rule.matches(&origin))
    }

    /// Every rule as text, the built-in ones first.
    #[must_use]
    pub fn to_texts(&self) -> Vec<String> {
        self.rules.iter().map(ToString::to_string).collect()
    }
}

#[derive(Clone, Debug)]
enum Rule {
    Exact(Origin),
    /// Exactly one label in front of the host of this origin.
    OneLabelOf(Origin),
}

impl Rule {
    fn matches(&self, origin: &Origin) -> bool {
        match self {
            Self::Exact(exact) => exact == origin,
            Self::OneLabelOf(parent) => {
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

impl FromStr for Rule {
    type Err = OriginError;

    fn from_str(entry: &str) -> Result<Self, Self::Err> {
        let refused = || OriginError {
            entry: entry.to_owned(),
        };
        // People paste addresses from a browser, with a slash at the end.
        let text = entry.strip_suffix('/').unwrap_or(entry);
        let Some((scheme, rest)) = text.split_once("://*.") else {
            return Origin::parse(text).map(Self::Exact).ok_or_else(refused);
        };
        let parent = Origin::parse(&format!("{scheme}://{rest}")).ok_or_else(refused)?;
        if parent.is_name {
            Ok(Self::OneLabelOf(parent))
        } else {
            Err(refused())
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (origin, stars) = match self {
            Self::Exact(origin) => (origin, ""),
            Self::OneLabelOf(parent) => (parent, "*."),
        };
        write!(f, "{}://{stars}{}", origin.scheme, origin.host)?;
        match (origin.scheme.as_str(), origin.port) {
            ("http", 80) | ("https", 443) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

/// An origin in its parsed form: lower case, its port spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
    is_name: bool,
}

impl Origin {
    /// Only scheme, host and port: whatever else a URL may have (user, path, query) is no origin.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        // The URL parser forgives blanks and more; what it would repair is no origin.
        let is_plain =
            scheme.chars().all(|c| c.is_ascii_alphabetic()) && authority.chars().all(plain);
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
