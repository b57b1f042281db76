//! TLS to the servers that are asked.

use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::HttpError;
use super::server_url::ServerUrl;

/// Trusts the certificate authorities of the system.
pub(super) struct Tls {
    /// `None` if the system has none.
    connector: Option<TlsConnector>,
}

impl Tls {
    pub(super) fn new() -> Self {
        let native = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(native.certs);
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().ok();
        let connector = builder.map(|builder| {
            let config = builder.with_root_certificates(roots);
            TlsConnector::from(Arc::new(config.with_no_client_auth()))
        });
        Self {
            connector: connector.filter(|_| added > 0),
        }
    }

    pub(super) async fn connect(
        &self,
        url: &ServerUrl,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, HttpError> {
        let connector = self.connector.as_ref().ok_or(HttpError::NoAuthorities)?;
        let name = ServerName::try_from(url.host().to_owned());
        let name = name.map_err(|error| HttpError::Unreachable(io::Error::other(error)))?;
        let connecting = connector.connect(name, stream).await;
        connecting.map_err(HttpError::Unreachable)
    }
}
