//! The stream of a connection while it speaks HTTP: plain, or over TLS.

use shared::tls::MaybeTlsStream;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::shared_stream::SharedStream;

pub(super) type HttpStream = MaybeTlsStream<TlsStream<TcpStream>>;

/// Returns the stream for a WebSocket.
pub(super) fn into_shared(stream: HttpStream) -> SharedStream {
    match stream {
        HttpStream::Plain(tcp) => SharedStream::Plain(tcp),
        HttpStream::Tls(stream) => {
            let (tcp, tls) = stream.into_inner();
            SharedStream::tls(tcp, tls)
        }
    }
}
