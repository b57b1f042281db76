//! The identity provider: its addresses and keys, which it publishes, and its tokens.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::HeaderValue;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::error_chain::error_chain;
use shared::secret::Secret;
use url::{Url, form_urlencoded};

use super::attempt::Attempt;
use crate::access::claims::ClaimRules;
use crate::access::key_set::{self, KeySetError};
use crate::access::keys::{self, Key, NotVerifiedReason};
use crate::access::remote_keys::{KeySource, KeysAway, RemoteKeys};
use crate::client::log_limit::limited;
use crate::http_client::server_url::{ServerUrl, ServerUrlError};
use crate::http_client::{HttpClient, HttpError};

/// Where a provider describes itself, below its issuer (OpenID Connect Discovery 1.0, section 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// What is asked for: who somebody is, and the name.
const SCOPE: &str = "openid profile";

/// How the provider knows this service.
pub(super) struct Client {
    pub(super) id: String,
    /// `None` for a public client.
    pub(super) secret: Option<Secret<String>>,
    /// Where it sends browsers back.
    pub(super) redirect_url: String,
}

/// The provider.
pub(super) struct Provider {
    source: Source,
    client: Client,
    keys: RemoteKeys,
}

/// Where addresses and keys come from. Clones share what was found.
#[derive(Clone)]
struct Source {
    http: Arc<HttpClient>,
    issuer: String,
    url: ServerUrl,
    found: Arc<RwLock<Option<Arc<Metadata>>>>,
}

/// What a provider says about itself. Other fields do not count.
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: ServerUrl,
    token_endpoint: ServerUrl,
    jwks_uri: ServerUrl,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

/// The provider cannot be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProviderAway;

/// Why there is no ID token.
#[derive(Clone, Copy, Debug)]
pub(super) enum TokenError {
    Away,
    Refused,
    Untrusted,
}

/// Why addresses and keys cannot be fetched.
#[derive(Debug, thiserror::Error)]
enum DiscoveryError {
    #[error("{url}")]
    Http {
        url: ServerUrl,
        #[source]
        source: HttpError,
    },
    #[error("{url} does not describe a provider")]
    Unreadable {
        url: ServerUrl,
        #[source]
        source: serde_json::Error,
    },
    #[error("{url} describes the issuer `{found}`, not the one of --oidc-issuer")]
    OtherIssuer { url: ServerUrl, found: String },
    #[error("{url}")]
    KeySet {
        url: ServerUrl,
        #[source]
        source: KeySetError,
    },
}

impl Provider {
    /// # Errors
    /// The issuer is no address that can be used.
    pub(super) fn new(issuer: &str, client: Client) -> Result<Self, ServerUrlError> {
        let url = format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/'));
        Ok(Self {
            source: Source {
                http: Arc::new(HttpClient::new()),
                issuer: issuer.to_owned(),
                url: url.parse()?,
                found: Arc::default(),
            },
            client,
            keys: RemoteKeys::new("people who sign in"),
        })
    }

    pub(super) fn keys(&self) -> &RemoteKeys {
        &self.keys
    }

    /// Fetches addresses and keys for as long as it runs.
    pub(super) fn follow(&self) -> impl Future<Output = ()> + Send + use<> {
        self.keys.clone().follow(self.source.clone())
    }

    /// Fetches addresses and keys once, and returns the number of keys.
    pub(super) async fn check(&self) -> anyhow::Result<usize> {
        Ok(self.source.fetch().await?.len())
    }

    /// Returns the name of the provider, which is also its address.
    pub(super) fn issuer(&self) -> &str {
        &self.source.issuer
    }

    /// Returns what the provider says about itself. Waits for a few seconds if that was not fetched yet.
    async fn metadata(&self) -> Result<Arc<Metadata>, ProviderAway> {
        let found = self.keys.find(|_| self.source.found()).await;
        found.ok().flatten().ok_or(ProviderAway)
    }

    /// Returns where the browser signs in.
    pub(super) async fn authorization_url(&self, attempt: &Attempt) -> Result<Url, ProviderAway> {
        let metadata = self.metadata().await?;
        Ok(metadata.authorization_endpoint.with_query(&[
            ("response_type", "code"),
            ("client_id", &self.client.id),
            ("redirect_uri", &self.client.redirect_url),
            ("scope", SCOPE),
            ("state", attempt.state()),
            ("nonce", attempt.nonce()),
            ("code_challenge", &attempt.challenge()),
            ("code_challenge_method", "S256"),
        ]))
    }

    /// Returns the ID token for a code.
    pub(super) async fn exchange(
        &self,
        code: &str,
        attempt: &Attempt,
    ) -> Result<String, TokenError> {
        let metadata = self.metadata().await.map_err(|_| TokenError::Away)?;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.client.redirect_url),
            ("client_id", &self.client.id),
            ("code_verifier", attempt.verifier()),
        ];
        let mut authorization = None;
        if let Some(secret) = &self.client.secret {
            if metadata.takes_secret_in_form() {
                fields.push(("client_secret", secret.expose()));
            } else {
                authorization = basic(&self.client.id, secret.expose());
            }
        }
        let answer = self
            .source
            .http
            .post_form(&metadata.token_endpoint, &fields, authorization)
            .await;
        let answer = answer.map_err(|error| {
            limited(|suppressed| {
                tracing::warn!(
                    error = error_chain(&error),
                    held_back = suppressed,
                    "the identity provider does not exchange a code"
                );
            });
            TokenError::Away
        })?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                limited(|suppressed| {
                    tracing::warn!(
                        held_back = suppressed,
                        "the identity provider does not accept --oidc-client-id with --oidc-client-secret-file"
                    );
                });
                return Err(TokenError::Refused);
            }
            status if status.is_server_error() => return Err(TokenError::Away),
            _ => return Err(TokenError::Refused),
        }
        let tokens: Tokens =
            serde_json::from_slice(&answer.body).map_err(|_| TokenError::Untrusted)?;
        Ok(tokens.id_token)
    }

    /// Returns the claims of an ID token that the provider has signed.
    pub(super) async fn verify<C: DeserializeOwned + Send>(
        &self,
        token: &str,
        rules: &ClaimRules,
    ) -> Result<C, TokenError> {
        let check = |published: &[Key]| {
            let verified = keys::verify(token, published.iter(), rules);
            match verified.map_err(|error| error.reason) {
                Ok(claims) => Some(Ok(claims)),
                Err(NotVerifiedReason::Refused) => Some(Err(TokenError::Untrusted)),
                Err(NotVerifiedReason::NoKey) => None,
            }
        };
        let verified = self.keys.find(check).await;
        let verified = verified.map_err(|KeysAway| TokenError::Away)?;
        verified.unwrap_or(Err(TokenError::Untrusted))
    }
}

impl Source {
    fn found(&self) -> Option<Arc<Metadata>> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found.clone()
    }
}

impl KeySource for Source {
    type Error = DiscoveryError;

    async fn fetch(&self) -> Result<Vec<Key>, DiscoveryError> {
        let url = || self.url.clone();
        let document = self.http.get(&self.url).await;
        let document = document.map_err(|source| DiscoveryError::Http { url: url(), source })?;
        let metadata: Metadata = serde_json::from_slice(&document)
            .map_err(|source| DiscoveryError::Unreadable { url: url(), source })?;
        if metadata.issuer != self.issuer {
            let found = metadata.issuer;
            return Err(DiscoveryError::OtherIssuer { url: url(), found });
        }
        let keys_url = metadata.jwks_uri.clone();
        *self.found.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(metadata));
        let keys = self.http.get(&keys_url).await;
        let keys = keys.map_err(|source| DiscoveryError::Http {
            url: keys_url.clone(),
            source,
        })?;
        key_set::parse(&keys).map_err(|source| DiscoveryError::KeySet {
            url: keys_url,
            source,
        })
    }
}

impl Metadata {
    /// Returns whether a client shows its secret in the form. The default is the header.
    fn takes_secret_in_form(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_ref();
        methods.is_some_and(|methods| {
            let has = |name: &str| methods.iter().any(|method| method == name);
            has("client_secret_post") && !has("client_secret_basic")
        })
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.issuer)
    }
}

/// Returns the header with which a client shows its secret (RFC 6749, section 2.3.1).
fn basic(id: &str, secret: &str) -> Option<HeaderValue> {
    let encode =
        |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let pair = STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests;
