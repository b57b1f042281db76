//! Signing in with an identity provider (OpenID Connect 1.0: authorization code with PKCE).
//!
//! ```text
//! browser                       gateway                               provider
//!   ├── /auth/login ──────────────▶│ state, nonce, verifier: sealed cookie
//!   │◀── to the provider ──────────┤
//!   ├── signs in ──────────────────┼───────────────────────────────────▶│
//!   │◀── back, with a code ────────┼────────────────────────────────────┤
//!   ├── /auth/callback ───────────▶│ checks the state                    │
//!   │                              ├── code, verifier ──────────────────▶│
//!   │                              │◀── ID token ────────────────────────┤
//!   │◀── session: sealed cookie ───┤ checks signature, nonce, claims
//! ```
//!
//! Nothing is kept here between the two requests, so each may be answered by another replica.

mod attempt;
mod provider;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use shared::check_config::ConnectionCheck;
use shared::clock::Time;
use shared::secret::Secret;
use shared::visible_text::clean;
use tokio::sync::Semaphore;
use url::Url;

use super::claims::{ClaimRules, Claims};
use super::cookie::Cookie;
use super::identity::Identity;
use super::remote_keys::RemoteKeys;
use super::sealed::{Seal, SealSecret};
use super::web_session::WebSessions;
use crate::config::sign_in::SignInConfig;
use crate::http_client::server_url::ServerUrl;
use attempt::{Attempt, ReturnPath};
use provider::{Client, Provider, ProviderAway, TokenError};

/// How long somebody may take to sign in at the provider.
const ATTEMPT_TIME: Duration = Duration::from_mins(10);
/// Codes that are exchanged at the same time. Anybody can send one.
const MAX_EXCHANGES: usize = 16;
/// The path to which the provider sends browsers back.
const CALLBACK: &str = "auth/callback";
/// The longest word of a provider that is repeated, in characters.
const MAX_REASON: usize = 64;

/// Why somebody is not signed in. The text is sent to the browser.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum SignInError {
    #[error("return: expected a path of this service, such as `/`")]
    ForeignReturn,
    #[error("The sign-in was begun elsewhere, or took too long: begin again at /auth/login")]
    NotBegun,
    #[error("The identity provider has not signed you in: {0}")]
    Refused(String),
    #[error("The identity provider does not accept the code: begin again at /auth/login")]
    Code,
    #[error("The answer of the identity provider cannot be trusted")]
    Untrusted,
    #[error("Your permissions do not fit into a cookie")]
    TooManyClaims,
    #[error("Your access was revoked")]
    Revoked,
    #[error("The identity provider cannot be reached, try again later")]
    ProviderAway,
    #[error("Too many people are signing in, try again later")]
    Busy,
}

/// Signs people in. Clones share it.
#[derive(Clone)]
pub(crate) struct SignIn {
    inner: Arc<Inner>,
}

struct Inner {
    provider: Provider,
    rules: ClaimRules,
    sessions: Arc<WebSessions>,
    attempts: Seal,
    cookie: Cookie,
    public_url: ServerUrl,
    exchanges: Semaphore,
}

impl SignInError {
    /// Returns the reason for the audit trail; `None` if it says nothing about whoever signs in.
    pub(crate) const fn for_audit(&self) -> Option<&'static str> {
        match self {
            Self::ForeignReturn => Some("sign_in_foreign_return"),
            Self::NotBegun => Some("sign_in_not_begun"),
            Self::Refused(_) => Some("sign_in_refused"),
            Self::Code => Some("sign_in_code"),
            Self::Untrusted => Some("sign_in_untrusted"),
            Self::TooManyClaims => Some("sign_in_too_many_claims"),
            Self::Revoked => Some("sign_in_revoked"),
            Self::ProviderAway | Self::Busy => None,
        }
    }
}

/// Where a browser goes next, and the cookies that it keeps or deletes.
pub(crate) struct Step {
    pub(crate) location: HeaderValue,
    pub(crate) cookies: Vec<HeaderValue>,
}

/// What the provider says when it sends the browser back.
#[derive(Debug)]
pub(crate) struct Callback {
    pub(crate) state: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) error: Option<String>,
    /// The issuer (RFC 9207).
    pub(crate) iss: Option<String>,
}

/// The claims of an ID token.
#[derive(Debug, Deserialize)]
struct IdClaims {
    nonce: Option<String>,
    /// For whom the token was issued, if it is for several.
    azp: Option<String>,
    #[serde(flatten)]
    claims: Claims,
}

impl SignIn {
    /// Reads the secrets. `None` if nobody can sign in. Nothing is asked of the provider before [`Self::follow_keys`] runs.
    ///
    /// # Errors
    /// A setting is missing or wrong, or a file cannot be used. One sentence per problem.
    pub(super) fn new(
        config: &SignInConfig,
        leeway: Duration,
    ) -> Result<Option<Self>, Vec<String>> {
        let mut problems = config.problems();
        let (Some(issuer), Some(id), Some(public_url), Some(session_key)) = (
            &config.oidc_issuer,
            &config.oidc_client_id,
            &config.public_url,
            &config.session_key_file,
        ) else {
            return if problems.is_empty() {
                Ok(None)
            } else {
                Err(problems)
            };
        };
        let mut keep = |flag: &str, problem: String| problems.push(format!("{flag}: {problem}"));
        let secret = SealSecret::read(session_key).map_err(|problem| {
            let shown = session_key.display();
            keep(
                "--session-key-file",
                format!("cannot use `{shown}`: {problem}"),
            );
        });
        let client_secret = config.oidc_client_secret_file.as_deref().map(read_secret);
        let client_secret = client_secret.transpose();
        let client_secret =
            client_secret.map_err(|problem| keep("--oidc-client-secret-file", problem));
        let redirect = public_url.resolve(CALLBACK);
        let provider = client_secret.map(|secret| {
            let client = Client {
                id: id.clone(),
                secret,
                redirect_url: redirect.map_or_else(String::new, String::from),
            };
            Provider::new(issuer, client)
        });
        let provider = match provider {
            Ok(Ok(provider)) => Some(provider),
            Ok(Err(error)) => {
                keep("--oidc-issuer", error.to_string());
                None
            }
            Err(()) => None,
        };
        let (true, Some(provider), Ok(secret)) = (problems.is_empty(), provider, secret) else {
            return Err(problems);
        };
        let inner = Inner {
            provider,
            rules: ClaimRules {
                issuer: issuer.clone(),
                audience: id.clone(),
                leeway,
            },
            sessions: Arc::new(WebSessions::new(&secret, public_url, config.session_time)),
            attempts: secret.seal_for("sign-in 1"),
            cookie: Cookie::new("gateway-sign-in", public_url.uses_tls()),
            public_url: public_url.clone(),
            exchanges: Semaphore::new(MAX_EXCHANGES),
        };
        Ok(Some(Self {
            inner: Arc::new(inner),
        }))
    }

    /// Returns the sessions of those who have signed in.
    pub(crate) fn sessions(&self) -> &Arc<WebSessions> {
        &self.inner.sessions
    }

    /// Returns the keys of the provider.
    pub(crate) fn keys(&self) -> &RemoteKeys {
        self.inner.provider.keys()
    }

    /// Fetches the addresses and keys of the provider for as long as it runs.
    pub(crate) fn follow_keys(&self) -> impl Future<Output = ()> + Send + use<> {
        self.inner.provider.follow()
    }

    /// Checks whether the provider answers.
    pub(super) async fn check(&self) -> ConnectionCheck {
        let provider = &self.inner.provider;
        ConnectionCheck {
            target: format!("identity provider {}", provider.issuer()),
            outcome: provider.check().await.map(|keys| format!("{keys} keys")),
        }
    }

    /// Begins: the browser goes to the provider. `back`: where it goes in the end.
    pub(crate) async fn begin(&self, back: Option<&str>, now: Time) -> Result<Step, SignInError> {
        let inner = &self.inner;
        let back = ReturnPath::parse(back.unwrap_or("/"), &inner.public_url);
        let back = back.ok_or(SignInError::ForeignReturn)?;
        let attempt = Attempt::new(back, now + ATTEMPT_TIME);
        let location = inner.provider.authorization_url(&attempt).await?;
        let sealed = inner.attempts.seal(&attempt).ok();
        let cookie = sealed.and_then(|sealed| inner.cookie.keep(&sealed, ATTEMPT_TIME));
        Ok(Step {
            location: location_value(location.as_str())?,
            cookies: vec![cookie.ok_or(SignInError::ForeignReturn)?],
        })
    }

    /// Ends: the browser has come back from the provider. Returns who has signed in, and where the browser goes.
    pub(crate) async fn finish(
        &self,
        callback: Callback,
        headers: &HeaderMap,
        now: Time,
    ) -> Result<(Identity, Step), SignInError> {
        let inner = &self.inner;
        let attempt = self.attempt(&callback, headers, now)?;
        // Another provider could lead the browser here with its own code.
        let is_other = callback.iss.is_some_and(|iss| iss != inner.rules.issuer);
        if is_other {
            return Err(SignInError::Untrusted);
        }
        if let Some(error) = callback.error {
            let reason: String = clean(&error).chars().take(MAX_REASON).collect();
            return Err(SignInError::Refused(reason));
        }
        let code = callback.code.ok_or(SignInError::Untrusted)?;
        let token = {
            let _place = inner
                .exchanges
                .try_acquire()
                .map_err(|_| SignInError::Busy)?;
            inner.provider.exchange(&code, &attempt).await?
        };
        let claims: IdClaims = inner.provider.verify(&token, &inner.rules).await?;
        let is_ours = claims.azp.is_none_or(|azp| azp == inner.rules.audience);
        if !is_ours || !attempt.is_nonce(claims.nonce.as_deref()) {
            return Err(SignInError::Untrusted);
        }
        let identity = claims.claims.into_identity(&inner.rules, now);
        let identity = identity.map_err(|_| SignInError::Untrusted)?;
        let session = inner.sessions.begin(&identity, now);
        let (identity, session) = session.map_err(|_| SignInError::TooManyClaims)?;
        let delete = inner.cookie.delete();
        let step = Step {
            location: location_value(attempt.back())?,
            cookies: std::iter::once(session).chain(delete).collect(),
        };
        Ok((identity, step))
    }
}

impl SignIn {
    /// Returns the attempt that the provider answers, if this browser has begun it.
    fn attempt(
        &self,
        callback: &Callback,
        headers: &HeaderMap,
        now: Time,
    ) -> Result<Attempt, SignInError> {
        let inner = &self.inner;
        let mut sealed = inner.cookie.values(headers);
        let attempt: Option<Attempt> = sealed.find_map(|sealed| inner.attempts.open(sealed));
        let attempt = attempt.filter(|attempt| attempt.is_of(callback.state.as_deref(), now));
        attempt.ok_or(SignInError::NotBegun)
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignIn")
    }
}

impl From<ProviderAway> for SignInError {
    fn from(_: ProviderAway) -> Self {
        Self::ProviderAway
    }
}

impl From<TokenError> for SignInError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Away => Self::ProviderAway,
            TokenError::Refused => Self::Code,
            TokenError::Untrusted => Self::Untrusted,
        }
    }
}

/// Returns a value of the header `Location`. Both kinds of addresses are made by a parser of URLs, so they fit.
fn location_value(location: &str) -> Result<HeaderValue, SignInError> {
    HeaderValue::from_str(location).map_err(|_| SignInError::ForeignReturn)
}

fn read_secret(path: &Path) -> Result<Secret<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let text = text.and_then(|text| match text.trim_end() {
        "" => Err("it is empty".to_owned()),
        secret => Ok(Secret::new(secret.to_owned())),
    });
    text.map_err(|problem| format!("cannot use `{}`: {problem}", path.display()))
}

/// Returns whether a browser that goes to this path stays at this service.
fn stays(path: &str, public_url: &ServerUrl) -> Option<Url> {
    let url = public_url.resolve(path)?;
    (url.origin() == public_url.origin()).then_some(url)
}
