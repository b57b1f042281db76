//! Sets up TLS on connections to servers.

use std::io;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::ClientTls;
use super::fault::TlsFault;
use super::maybe_tls_stream::MaybeTlsStream;

/// A stream to a server.
pub type ClientStream = MaybeTlsStream<TlsStream<TcpStream>>;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The connection was lost: try again.
    #[error("TLS: {0}")]
    Lost(#[source] io::Error),
    /// One side refuses the other.
    #[error("{}", .0.reason())]
    Fault(TlsFault),
    /// The files cannot be used, or the address has no name that a certificate could have.
    #[error("{0}")]
    Unusable(String),
}

impl ClientStream {
    /// Sets up TLS on a connection to this host, a name or an address without brackets. The certificate of the server must be for it.
    ///
    /// # Errors
    /// The files cannot be used, or one of the two sides refuses the other. A server may also refuse a client after this: see
    /// [`super::refusal_after_handshake`].
    pub async fn secure(tcp: TcpStream, host: &str, tls: &ClientTls) -> Result<Self, TlsError> {
        let config = tls.config().map_err(TlsError::Unusable)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            TlsError::Unusable(format!("`{host}` is no name that a certificate can have"))
        })?;
        match TlsConnector::from(config).connect(name, tcp).await {
            Ok(stream) => Ok(Self::Tls(Box::new(stream))),
            Err(error) => Err(match TlsFault::of(&error) {
                Some(fault) => TlsError::Fault(fault),
                None => TlsError::Lost(error),
            }),
        }
    }
}
