//! Who a client is, and what it may do. It is decided for each connection and each request before anything is read from Redis, so
//! a refusal is the same whether a device exists or not.
//!
//! ```text
//! request ─ credential ─▶ Access::admit ─ keys, claims ─▶ Identity ─ permission ─▶ may it read this device?
//! ```

pub(crate) mod anonymous;
mod claims;
pub(crate) mod credential;
pub(crate) mod expiry;
pub(crate) mod identity;
mod keys;
pub(crate) mod permission;
pub(crate) mod revocations;

use std::sync::Arc;

use shared::clock::{Clock, Time};

use crate::config::tokens::TokenConfig;
use anonymous::Anonymous;
use claims::ClaimRules;
use identity::Identity;
use keys::Keys;
use revocations::Revocations;

/// Why a client is not admitted. The text is sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    /// It has no token, and anonymous clients are not served.
    #[error("token required")]
    TokenRequired,
    /// Its token is none of ours, or cannot be read.
    #[error("invalid token")]
    Invalid,
    /// Its token has expired.
    #[error("expired token")]
    Expired,
    /// Its token, or every token of its subject, is revoked.
    #[error("revoked token")]
    Revoked,
    /// As many connections as allowed have tokens of its subject.
    #[error("too many connections")]
    TooManyConnections,
}

impl NotAdmitted {
    /// Returns the code in logs and metrics, one of [`REFUSAL_CODES`].
    pub(crate) fn code(self) -> &'static str {
        REFUSAL_CODES[self as usize]
    }
}

/// The codes of refusals in metrics: those of [`NotAdmitted`], and [`FORBIDDEN`].
pub(crate) const REFUSAL_CODES: [&str; 6] = [
    "token_required",
    "invalid_token",
    "expired_token",
    "revoked_token",
    "too_many_connections",
    FORBIDDEN,
];
/// Code of a refusal: who was admitted may not do what it asks for.
pub(crate) const FORBIDDEN: &str = "forbidden";

/// Decides who is admitted. Clones share it.
#[derive(Clone)]
pub(crate) struct Access {
    inner: Arc<AccessInner>,
}

struct AccessInner {
    anonymous: Option<Arc<Identity>>,
    /// `None` if no token can be checked.
    tokens: Option<Tokens>,
    revocations: Revocations,
    is_query_read: bool,
    clock: Arc<dyn Clock>,
}

struct Tokens {
    keys: Keys,
    rules: ClaimRules,
}

impl Access {
    /// Reads the keys.
    ///
    /// # Errors
    /// A key cannot be read, or a setting is missing beside it. One sentence per problem.
    pub(crate) fn new(
        config: &TokenConfig,
        anonymous: Anonymous,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Vec<String>> {
        let tokens = Tokens::read(config)?;
        let anonymous = match anonymous {
            Anonymous::None => None,
            allowed => Some(Arc::new(Identity::anonymous(allowed))),
        };
        let inner = AccessInner {
            anonymous,
            tokens,
            revocations: Revocations::default(),
            is_query_read: config.token_in_query,
            clock,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Returns what is wrong with these settings, one sentence per problem.
    pub(crate) fn problems(config: &TokenConfig) -> Vec<String> {
        Tokens::read(config).err().unwrap_or_default()
    }

    /// Returns whether tokens can be checked.
    pub(crate) fn has_tokens(&self) -> bool {
        self.inner.tokens.is_some()
    }

    /// Returns whether a token in the query of a request counts.
    pub(crate) fn is_query_read(&self) -> bool {
        self.inner.is_query_read
    }

    /// Returns who presents this token. Without one, the client is anonymous. A token that is refused does not make it so: its user
    /// would wonder why less is shown. Where no token can be checked, none counts: clients of the replaced system may send some.
    pub(crate) fn admit(&self, token: Option<&str>) -> Result<Arc<Identity>, NotAdmitted> {
        let (Some(token), Some(tokens)) = (token, self.inner.tokens.as_ref()) else {
            let anonymous = self.inner.anonymous.as_ref();
            return anonymous.cloned().ok_or(NotAdmitted::TokenRequired);
        };
        let identity = tokens.check(token, self.now())?;
        if self.is_revoked(&identity) {
            return Err(NotAdmitted::Revoked);
        }
        Ok(Arc::new(identity))
    }

    /// Returns whether the token of this identity was revoked meanwhile.
    pub(crate) fn is_revoked(&self, identity: &Identity) -> bool {
        let token = identity.token.as_ref();
        token.is_some_and(|token| self.inner.revocations.contain(token, self.now()))
    }

    /// Returns what is revoked.
    pub(crate) fn revocations(&self) -> &Revocations {
        &self.inner.revocations
    }

    /// Returns the time by which tokens expire.
    pub(crate) fn now(&self) -> Time {
        self.inner.clock.now()
    }
}

impl Tokens {
    fn read(config: &TokenConfig) -> Result<Option<Self>, Vec<String>> {
        if !config.has_keys() {
            let unused = config.given_without_keys();
            let problem = |flag| format!("{flag}: has no effect without a key for tokens");
            let problems: Vec<String> = unused.into_iter().map(problem).collect();
            return if problems.is_empty() {
                Ok(None)
            } else {
                Err(problems)
            };
        }
        let rules = ClaimRules::new(config);
        match (Keys::read(config), rules) {
            (Ok(keys), Ok(rules)) => Ok(Some(Self { keys, rules })),
            (keys, rules) => {
                let problems = [keys.err(), rules.err()];
                Err(problems.into_iter().flatten().flatten().collect())
            }
        }
    }

    fn check(&self, token: &str, now: Time) -> Result<Identity, NotAdmitted> {
        let claims = self.keys.verify(token, &self.rules)?;
        claims.into_identity(&self.rules, now)
    }
}

#[cfg(test)]
mod tests;
