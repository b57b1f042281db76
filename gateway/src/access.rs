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
mod cookie;
pub(crate) mod credential;
pub(crate) mod expiry;
pub(crate) mod explanation;
pub(crate) mod identity;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod key_set;
pub(crate) mod keys;
mod own_pages;
pub(crate) mod permission;
mod published_keys;
pub(crate) mod remote_keys;
pub(crate) mod revocations;
mod sealed;
mod signature;
pub(crate) mod sign_in;
pub(crate) mod web_session;

use std::sync::Arc;
use std::time::Instant;

use axum::http::{HeaderMap, Uri};
use jsonwebtoken::Header;
use serde_json::Value;
use shared::check_config::ConnectionCheck;
use shared::clock::{Clock, Time};

use crate::admission::limited::Limited;
use crate::admission::signature_checks::{Payer, SignatureCheck};
use crate::config::sign_in::SignInConfig;
use crate::config::tokens::TokenConfig;
use crate::http_client::server_url::ServerUrl;
use anonymous::Anonymous;
use claims::{ClaimRules, Claims};
use credential::Credential;
use identity::Identity;
use keys::{Key, NotVerifiedReason};
use published_keys::PublishedKeys;
use remote_keys::{KeySource as _, KeysAway, RemoteKeys};
use revocations::Revocations;
use sign_in::SignIn;

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
    /// Too many signatures of its caller's tokens were wrong: it is not checked.
    #[error("{0}")]
    Limited(Limited),
    /// No key is known that has signed its token, and the keys cannot be fetched now; or it is not known yet what is revoked.
    #[error("the token cannot be checked now, try again later")]
    KeysAway,
}

impl NotAdmitted {
    /// Returns the code in logs and metrics, one of [`REFUSAL_CODES`].
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::TokenRequired => "token_required",
            Self::Invalid => "invalid_token",
            Self::Expired => "expired_token",
            Self::Revoked => "revoked_token",
            Self::TooManyConnections => "too_many_connections",
            Self::Limited(_) => LIMITED,
            Self::KeysAway => "keys_away",
        }
    }
}

/// The codes of refusals in metrics.
pub(crate) const REFUSAL_CODES: [&str; 9] = [
    NotAdmitted::TokenRequired.code(),
    NotAdmitted::Invalid.code(),
    NotAdmitted::Expired.code(),
    NotAdmitted::Revoked.code(),
    NotAdmitted::TooManyConnections.code(),
    LIMITED,
    NotAdmitted::KeysAway.code(),
    FORBIDDEN,
    CSRF,
];

/// Code of a refusal: a limit of tokens is exceeded.
const LIMITED: &str = "limited";

/// Code of a refusal: who was admitted may not do what it asks for.
pub(crate) const FORBIDDEN: &str = "forbidden";

/// Code of a refusal: a page of somebody else may have sent the request.
pub(crate) const CSRF: &str = "csrf";

/// Decides who is admitted. Clones share it.
#[derive(Clone)]
pub(crate) struct Access {
    inner: Arc<AccessInner>,
}

struct AccessInner {
    anonymous: Option<Arc<Identity>>,
    /// `None` if no token can be checked.
    tokens: Option<Tokens>,
    /// `None` if nobody can sign in.
    sign_in: Option<SignIn>,
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
    /// Reads keys and secrets. `sign_in`: `None` if nobody signs in.
    ///
    /// # Errors
    /// A file cannot be read, or a setting is missing beside it. One sentence per problem.
    pub(crate) fn new(
        config: &TokenConfig,
        sign_in: Option<&SignInConfig>,
        anonymous: Anonymous,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Vec<String>> {
        let (tokens, sign_in) = read(config, sign_in)?;
        let anonymous = match anonymous {
            Anonymous::None => None,
            allowed => Some(Arc::new(Identity::anonymous(allowed))),
        };
        let inner = AccessInner {
            anonymous,
            tokens,
            sign_in,
            revocations: Revocations::default(),
            is_query_read: config.token_in_query,
            clock,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Returns what is wrong with these settings, one sentence per problem.
    pub(crate) fn problems(config: &TokenConfig, sign_in: &SignInConfig) -> Vec<String> {
        read(config, Some(sign_in)).err().unwrap_or_default()
    }

    /// Returns whether clients can show who they are: with tokens, or because people sign in.
    pub(crate) fn has_credentials(&self) -> bool {
        self.inner.tokens.is_some() || self.inner.sign_in.is_some()
    }

    /// Returns whether anybody can be admitted: without a token, with a session, or with a key that is known. Published keys are known
    /// once they were fetched.
    pub(crate) fn can_admit(&self) -> bool {
        let inner = &self.inner;
        let has_key = |tokens: &Tokens| {
            let published = tokens.published.as_ref();
            !tokens.keys.is_empty() || published.is_some_and(|(keys, _)| keys.count() > 0)
        };
        inner.anonymous.is_some()
            || inner.sign_in.is_some()
            || inner.tokens.as_ref().is_some_and(has_key)
    }

    /// Returns what signs people in; `None` if nobody can sign in.
    pub(crate) fn sign_in(&self) -> Option<&SignIn> {
        self.inner.sign_in.as_ref()
    }

    /// Returns with what a request shows who sends it. The host that it names must have been checked.
    pub(crate) fn credential(&self, headers: &HeaderMap, uri: &Uri) -> Credential {
        let token = credential::of_head(headers, uri, self.inner.is_query_read);
        let session = || self.sign_in()?.sessions().of_head(headers);
        match token {
            Some(token) => Credential::Token(token),
            None => session().map_or(Credential::None, Credential::WebSession),
        }
    }

    /// Returns whether a request that changes something was meant by its sender. A browser adds the cookie of a session to requests of
    /// foreign pages, too.
    pub(crate) fn is_meant(&self, identity: &Identity, headers: &HeaderMap) -> bool {
        match (identity.web_session(), self.sign_in()) {
            (Some(session), Some(sign_in)) => sign_in.sessions().is_of_own_page(headers, session),
            _ => true,
        }
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

    /// Checks whether those who publish keys answer.
    pub(crate) async fn check_connections(&self) -> Vec<ConnectionCheck> {
        let mut checks = Vec::new();
        if let Some((_, url)) = self.published() {
            let keys = PublishedKeys::new(url.clone()).fetch().await;
            checks.push(ConnectionCheck {
                target: format!("keys of tokens {url}"),
                outcome: keys
                    .map(|keys| format!("{} keys", keys.len()))
                    .map_err(Into::into),
            });
        }
        if let Some(sign_in) = self.sign_in() {
            checks.push(sign_in.check().await);
        }
        checks
    }

    /// Returns who shows this. Without anything, the client is anonymous. A token that is refused does not make it so: its user
    /// would wonder why less is shown. Where no token can be checked, none counts: clients of the replaced system may send some.
    ///
    /// Only a token whose key is not known waits, until the published keys were fetched again, and after a start whatever can be
    /// revoked, until it is known what is revoked. Neither waits for longer than a few seconds.
    ///
    /// `payer`: pays for the check of a token; `None` if it is for nobody.
    pub(crate) async fn admit(
        &self,
        credential: &Credential,
        payer: Option<Payer<'_>>,
    ) -> Result<Arc<Identity>, NotAdmitted> {
        let Some((token, tokens)) = self.checked_token(credential) else {
            if matches!(credential, Credential::WebSession(_)) {
                self.inner.revocations.wait_until_known().await;
            }
            return self.admit_without_token(credential);
        };
        let check = begin_check(payer, token)?;
        let check = check.as_ref();
        let claims = match &tokens.published {
            Some((published, _)) => {
                published
                    .find(|keys| tokens.verify(token, keys, check))
                    .await?
            }
            None => tokens.verify(token, &[], check),
        };
        self.inner.revocations.wait_until_known().await;
        let claims = claims.unwrap_or(Err(NotAdmitted::Invalid))?;
        self.admit_identity(Arc::new(claims.into_identity(&tokens.rules, self.now())?))
    }

    /// As [`Self::admit`], and never waits: for a token whose key is not known, the keys are away.
    pub(crate) fn admit_now(
        &self,
        credential: &Credential,
        payer: Option<Payer<'_>>,
    ) -> Result<Arc<Identity>, NotAdmitted> {
        let Some((token, tokens)) = self.checked_token(credential) else {
            return self.admit_without_token(credential);
        };
        let (published, without_key) = match &tokens.published {
            Some((published, _)) => (published.current(), NotAdmitted::KeysAway),
            None => (Arc::default(), NotAdmitted::Invalid),
        };
        let check = begin_check(payer, token)?;
        let claims = tokens.verify(token, &published, check.as_ref());
        let claims = claims.unwrap_or(Err(without_key))?;
        self.admit_identity(Arc::new(claims.into_identity(&tokens.rules, self.now())?))
    }

    /// Waits until it is known whether a token or a session counts, or for a few seconds.
    pub(crate) async fn wait_for_key(&self, credential: &Credential, payer: Payer<'_>) {
        let checked = self.checked_token(credential);
        if checked.is_none() && !matches!(credential, Credential::WebSession(_)) {
            return;
        }
        self.inner.revocations.wait_until_known().await;
        if let Some((token, tokens)) = checked
            && let Some((published, _)) = &tokens.published
            && let Some(check) = payer.begin_first(token, Instant::now())
        {
            let verified = published.find(|keys| tokens.verify(token, keys, Some(&check)));
            // Whether it counts is decided later.
            verified.await.ok();
        }
    }

    /// Returns why this token is refused, one sentence per reason. Nothing but the operator may see it.
    pub(crate) fn explain(&self, token: &str, header: &Header, claims: &Value) -> Vec<String> {
        let Some(tokens) = &self.inner.tokens else {
            return Vec::new();
        };
        let published = tokens.published.as_ref();
        let published = published.map_or_else(Arc::default, |(keys, _)| keys.current());
        let keys: Vec<Key> = tokens.keys.iter().chain(&*published).cloned().collect();
        let mut problems = explanation::key_problems(token, header, &keys, &tokens.rules);
        problems.extend(explanation::claim_problems(
            claims,
            &tokens.rules,
            self.now(),
        ));
        problems
    }

    /// Returns the token, and with what it is checked.
    fn checked_token<'a>(&'a self, credential: &'a Credential) -> Option<(&'a str, &'a Tokens)> {
        match credential {
            Credential::Token(token) => Some((token, self.inner.tokens.as_ref()?)),
            Credential::None | Credential::WebSession(_) => None,
        }
    }

    fn admit_without_token(&self, credential: &Credential) -> Result<Arc<Identity>, NotAdmitted> {
        if let Credential::WebSession(identity) = credential {
            let has_ended = identity
                .expires()
                .is_none_or(|expires| expires <= self.now());
            if has_ended {
                return Err(NotAdmitted::Expired);
            }
            return self.admit_identity(Arc::clone(identity));
        }
        let anonymous = self.inner.anonymous.as_ref();
        anonymous.cloned().ok_or(NotAdmitted::TokenRequired)
    }

    /// Checks whether a token or a session that would count is revoked.
    fn admit_identity(&self, identity: Arc<Identity>) -> Result<Arc<Identity>, NotAdmitted> {
        if !self.inner.revocations.are_known() {
            return Err(NotAdmitted::KeysAway);
        }
        if self.is_revoked(&identity) {
            return Err(NotAdmitted::Revoked);
        }
        Ok(identity)
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

/// Reads the keys of tokens, and what signs people in.
fn read(
    config: &TokenConfig,
    sign_in: Option<&SignInConfig>,
) -> Result<(Option<Tokens>, Option<SignIn>), Vec<String>> {
    let tokens = Tokens::read(config);
    let sign_in = sign_in.map(|sign_in| SignIn::new(sign_in, config.token_leeway));
    match (tokens, sign_in.transpose()) {
        (Ok(tokens), Ok(sign_in)) => Ok((tokens, sign_in.flatten())),
        (tokens, sign_in) => {
            let problems = [tokens.err(), sign_in.err()];
            Err(problems.into_iter().flatten().flatten().collect())
        }
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
    fn verify(
        &self,
        token: &str,
        published: &[Key],
        check: Option<&SignatureCheck<'_>>,
    ) -> Option<Result<Claims, NotAdmitted>> {
        let keys = self.keys.iter().chain(published);
        let verified = keys::verify(token, keys, &self.rules);
        if let Some(check) = check {
            match &verified {
                Ok(_) => check.was_good(),
                Err(error) => check.was_in_vain(error.wrong_signatures, Instant::now()),
            }
        }
        match verified.map_err(|error| error.reason) {
            Ok(claims) => Some(Ok(claims)),
            Err(NotVerifiedReason::Refused) => Some(Err(NotAdmitted::Invalid)),
            Err(NotVerifiedReason::NoKey) => None,
        }
    }
}

/// Begins to check a token, for whoever pays for it.
fn begin_check<'a>(
    payer: Option<Payer<'a>>,
    token: &str,
) -> Result<Option<SignatureCheck<'a>>, NotAdmitted> {
    let check = payer.map(|payer| payer.begin(token, Instant::now()));
    check.transpose().map_err(NotAdmitted::Limited)
}

impl From<KeysAway> for NotAdmitted {
    fn from(_: KeysAway) -> Self {
        Self::KeysAway
    }
}

#[cfg(test)]
mod tests;
