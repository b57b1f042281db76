//! The keys that an identity provider publishes at an address (JWKS).

use super::key_set::{self, KeySetError};
use super::keys::Key;
use super::remote_keys::KeySource;
use crate::http_client::server_url::ServerUrl;
use crate::http_client::{HttpClient, HttpError};

/// Where keys are published.
pub(super) struct PublishedKeys {
    client: HttpClient,
    url: ServerUrl,
}

/// Why the published keys cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{url}")]
    Http {
        url: ServerUrl,
        #[source]
        source: HttpError,
    },
    #[error("{url}")]
    KeySet {
        url: ServerUrl,
        #[source]
        source: KeySetError,
    },
}

impl PublishedKeys {
    pub(super) fn new(url: ServerUrl) -> Self {
        Self {
            client: HttpClient::new(),
            url,
        }
    }
}

impl KeySource for PublishedKeys {
    type Error = FetchError;

    async fn fetch(&self) -> Result<Vec<Key>, FetchError> {
        let url = || self.url.clone();
        let document = self.client.get(&self.url).await;
        let document = document.map_err(|source| FetchError::Http { url: url(), source })?;
        key_set::parse(&document).map_err(|source| FetchError::KeySet { url: url(), source })
    }
}
