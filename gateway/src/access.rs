//! Who a client is, and what it may do. It is decided for each connection and each request before anything is read from Redis, so
//! a refusal is the same whether a device exists or not.
//!
//! ```text
//! request ─ credential ─▶ Access::admit ─ keys, claims ─▶ Identity ─ permission ─▶ may it read this device?
//!                                            ▲
//!                              remote_keys ──┘ are fetched from an identity provider
//! ```

pub(crate) mod anonymous;
pub(crate) mod claims;
pub(crate) mod credential;
pub(crate) mod expiry;
pub(crate) mod identity;
mod key_set;
pub(crate) mod keys;
pub(crate) mod permission;
mod published_keys;
pub(crate) mod remote_keys;
pub(crate) mod revocations;

use std::sync::Arc;

use shared::clock::{Clock, Time};

use crate::config::tokens::TokenConfig;
use crate::http_client::server_url::ServerUrl;
use anonymous::Anonymous;
use claims::{ClaimRules, Claims};
use identity::Identity;
use keys::{Key, NotVerified};
use published_keys::PublishedKeys;
use remote_keys::{KeysAway, RemoteKeys};
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
    /// No key is known that has signed its token, and the keys cannot be fetched now; or it is not known yet what is revoked.
    #[error("the token cannot be checked now, try again later")]
    KeysAway,
}

impl NotAdmitted {
    /// Returns the code in logs and metrics, one of [`REFUSAL_CODES`].
    pub(crate) fn code(self) -> &'static str {
        REFUSAL_CODES[self as usize]
    }
}

/// The codes of refusals in metrics: those of [`NotAdmitted`], and [`FORBIDDEN`].
pub(crate) const REFUSAL_CODES: [&str; 7] = [
    "token_required",
    "invalid_token",
    "expired_token",
    "revoked_token",
    "too_many_connections",
    "keys_away",
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
    /// Those that are given as files.
    keys: Vec<Key>,
    /// Those that an identity provider publishes, and where.
    published: Option<(RemoteKeys, ServerUrl)>,
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

    /// Returns the keys that an identity provider publishes, and where, if there are such.
    fn published(&self) -> Option<&(RemoteKeys, ServerUrl)> {
        self.inner.tokens.as_ref()?.published.as_ref()
    }

    /// Returns the keys that an identity provider publishes, if there are such.
    pub(crate) fn remote_keys(&self) -> Option<&RemoteKeys> {
        self.published().map(|(keys, _)| keys)
    }

    /// Fetches the published keys for as long as it runs. `None` if there are none.
    pub(crate) fn follow_keys(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let (keys, url) = self.published()?.clone();
        Some(keys.follow(PublishedKeys::new(url)))
    }

    /// Returns who presents this token. Without one, the client is anonymous. A token that is refused does not make it so: its user
    /// would wonder why less is shown. Where no token can be checked, none counts: clients of the replaced system may send some.
    ///
    /// Only a token whose key is not known waits, until the published keys were fetched again, or for a few seconds.
    pub(crate) async fn admit(&self, token: Option<&str>) -> Result<Arc<Identity>, NotAdmitted> {
        let (Some(token), Some(tokens)) = (token, self.inner.tokens.as_ref()) else {
            return self.admit_without_token();
        };
        let claims = match &tokens.published {
            Some((published, _)) => published.find(|keys| tokens.verify(token, keys)).await?,
            None => tokens.verify(token, &[]),
        };
        self.inner.revocations.wait_until_known().await;
        self.admit_claims(claims.unwrap_or(Err(NotAdmitted::Invalid))?, &tokens.rules)
    }

    /// As [`Self::admit`], and never waits: for a token whose key is not known, the keys are away.
    pub(crate) fn admit_now(&self, token: Option<&str>) -> Result<Arc<Identity>, NotAdmitted> {
        let (Some(token), Some(tokens)) = (token, self.inner.tokens.as_ref()) else {
            return self.admit_without_token();
        };
        let (published, without_key) = match &tokens.published {
            Some((published, _)) => (published.current(), NotAdmitted::KeysAway),
            None => (Arc::default(), NotAdmitted::Invalid),
        };
        let claims = tokens
            .verify(token, &published)
            .unwrap_or(Err(without_key))?;
        self.admit_claims(claims, &tokens.rules)
    }

    /// Waits until the key of a token is known, and what is revoked, or for a few seconds.
    pub(crate) async fn wait_for_key(&self, token: &str) {
        let Some(tokens) = self.inner.tokens.as_ref() else {
            return;
        };
        self.inner.revocations.wait_until_known().await;
        if let Some((published, _)) = &tokens.published {
            let verified = published.find(|keys| tokens.verify(token, keys)).await;
            // Whether it counts is decided later.
            verified.ok();
        }
    }

    fn admit_without_token(&self) -> Result<Arc<Identity>, NotAdmitted> {
        let anonymous = self.inner.anonymous.as_ref();
        anonymous.cloned().ok_or(NotAdmitted::TokenRequired)
    }

    fn admit_claims(
        &self,
        claims: Claims,
        rules: &ClaimRules,
    ) -> Result<Arc<Identity>, NotAdmitted> {
        let identity = claims.into_identity(rules, self.now())?;
        if !self.inner.revocations.are_known() {
            return Err(NotAdmitted::KeysAway);
        }
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
        let published = config.token_jwks_url.clone();
        let published = published.map(|url| (RemoteKeys::new("tokens"), url));
        match (Key::read_files(config), rules) {
            (Ok(keys), Ok(rules)) => Ok(Some(Self {
                keys,
                published,
                rules,
            })),
            (keys, rules) => {
                let problems = [keys.err(), rules.err()];
                Err(problems.into_iter().flatten().flatten().collect())
            }
        }
    }

    /// Returns the claims of a token that one of the keys has signed; `None` if none of them has.
    fn verify(&self, token: &str, published: &[Key]) -> Option<Result<Claims, NotAdmitted>> {
        let keys = self.keys.iter().chain(published);
        match keys::verify(token, keys, &self.rules) {
            Ok(claims) => Some(Ok(claims)),
            Err(NotVerified::Refused) => Some(Err(NotAdmitted::Invalid)),
            Err(NotVerified::NoKey) => None,
        }
    }
}

impl From<KeysAway> for NotAdmitted {
    fn from(_: KeysAway) -> Self {
        Self::KeysAway
    }
}

#[cfg(test)]
mod tests;
