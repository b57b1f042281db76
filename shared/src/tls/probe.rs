//! Finds out why a server closed a connection without a word: asks once more, on a connection of its own. The caller limits the time.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::ClientTls;
use super::client_stream::{ClientStream, TlsError};
use super::fault::TlsFault;

/// The first byte of a server that speaks TLS: a handshake, or an alert.
const TLS_RECORDS: [u8; 2] = [0x16, 0x15];

/// Returns whether the server on this connection answers the first message of TLS with one of TLS. Nothing that is secret is sent.
pub async fn speaks_tls(mut tcp: TcpStream) -> bool {
    let Some(hello) = client_hello() else {
        return false;
    };
    let asked = async {
        tcp.write_all(&hello).await?;
        tcp.read_u8().await
    };
    asked.await.is_ok_and(|first| TLS_RECORDS.contains(&first))
}

/// Returns why the server refuses this client after a handshake that succeeded; `None` if it does not. With TLS 1.3 a server looks at the
/// certificate of the client only then, and its refusal may be lost if the client has sent something.
pub async fn refusal_after_handshake(
    tcp: TcpStream,
    host: &str,
    tls: &ClientTls,
) -> Option<TlsFault> {
    match ClientStream::secure(tcp, host, tls).await {
        Ok(mut stream) => TlsFault::of(&stream.read_u8().await.err()?),
        Err(TlsError::Fault(fault)) => Some(fault),
        Err(_) => None,
    }
}

/// Returns the first message of a client that trusts nobody and does not know the name of the server.
fn client_hello() -> Option<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let unspecified = std::net::IpAddr::from([0, 0, 0, 0]);
    let name = ServerName::IpAddress(unspecified.into());
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).ok()?;
    Some(hello)
}
