//! A connection to a server: TCP, or TLS over TCP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::ClientTls;
use super::fault::TlsFault;

/// A connected stream.
#[derive(Debug)]
pub enum ClientStream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

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

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
