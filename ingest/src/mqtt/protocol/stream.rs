//! The byte stream to the broker, over TCP or TLS, and why the two sides refuse each other.

use std::time::Duration;

use shared::tls::{
    ClientStream, ClientTls, TlsError, TlsFault, refusal_after_handshake, speaks_tls,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ClientOptions, ConnectionEnd};

/// How long a question may take that finds out why a connection failed.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// A CONNECT of MQTT 3.1.1 without a session, an id and a user.
const ANONYMOUS_CONNECT: [u8; 14] = [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0b10, 0, 10, 0, 0];
/// The first byte of the answer to it, whatever it says.
const CONNACK: u8 = 0x20;

/// Connects to the first address of the host that answers.
pub(super) async fn connect(options: &ClientOptions) -> Result<ClientStream, ConnectionEnd> {
    let tcp = connect_tcp(options).await?;
    let Some(tls) = &options.tls else {
        return Ok(ClientStream::Plain(tcp));
    };
    let host = options.plain_host();
    let error = match ClientStream::secure(tcp, host, tls).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    Err(match error {
        TlsError::Fault(fault) => refused(&fault, tls, host),
        TlsError::Unusable(problem) => ConnectionEnd::Refused(problem),
        // A broker without TLS closes the connection.
        TlsError::Lost(_) if probe(options, speaks_plainly).await == Some(true) => {
            refused(&TlsFault::PlainServer, tls, host)
        }
        TlsError::Lost(error) => ConnectionEnd::Lost(format!("TLS: {error}")),
    })
}

/// Finds out whether a connection ended before the answer to CONNECT because one side refuses the other. May open another connection.
pub(super) async fn explain(options: &ClientOptions, end: ConnectionEnd) -> ConnectionEnd {
    let is_unexplained = matches!(
        end,
        ConnectionEnd::Closed | ConnectionEnd::Failed(_) | ConnectionEnd::Unreadable(_)
    );
    if !is_unexplained {
        return end;
    }
    let Some(tls) = &options.tls else {
        if probe(options, speaks_tls).await == Some(true) {
            return ConnectionEnd::Refused(
                "the broker speaks TLS at this port: give mqtts:// in --mqtt-broker, or its port without TLS"
                    .to_owned(),
            );
        }
        return end;
    };
    let host = options.plain_host();
    let known = match &end {
        ConnectionEnd::Failed(error) => TlsFault::of(error),
        _ => None,
    };
    let fault = match known {
        Some(fault) => Some(fault),
        None => probe(options, async |tcp| {
            refusal_after_handshake(tcp, host, tls).await
        })
        .await
        .flatten(),
    };
    fault.map_or(end, |fault| refused(&fault, tls, host))
}

fn refused(fault: &TlsFault, tls: &ClientTls, host: &str) -> ConnectionEnd {
    ConnectionEnd::Refused(fault.describe(tls, host))
}

/// Asks on a connection of its own; `None` without an answer.
async fn probe<T>(options: &ClientOptions, ask: impl AsyncFnOnce(TcpStream) -> T) -> Option<T> {
    let asked = async { Some(ask(connect_tcp(options).await.ok()?).await) };
    timeout(PROBE_LIMIT, asked).await.ok().flatten()
}

/// Returns whether the broker answers a CONNECT without TLS.
async fn speaks_plainly(mut tcp: TcpStream) -> bool {
    let asked = async {
        tcp.write_all(&ANONYMOUS_CONNECT).await?;
        tcp.read_u8().await
    };
    asked.await.is_ok_and(|first| first == CONNACK)
}

async fn connect_tcp(options: &ClientOptions) -> Result<TcpStream, ConnectionEnd> {
    let connecting = async {
        let tcp = TcpStream::connect((options.plain_host(), options.port)).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    };
    connecting.await.map_err(ConnectionEnd::Failed)
}
