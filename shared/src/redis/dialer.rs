//! Opens the streams to Redis, over TCP or TLS, and says why if the two sides refuse each other.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::select_ok;
use redis::{AsyncConnectionConfig, ConnectionAddr, ErrorKind, RedisConnectionInfo, RedisError};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::command_connection::CommandConnection;
use super::config::{RedisConfig, RedisUrl, TLS_SETTINGS, USER_TIMEOUT};
use super::connect_error::ConnectError;
use crate::tls::{
    ClientStream, ClientTls, TlsError, TlsFault, refusal_after_handshake, speaks_tls,
};

/// The way to the configured server.
#[derive(Debug)]
pub(super) struct Dialer {
    url: Option<RedisUrl>,
    /// `None` without TLS.
    tls: Option<ClientTls>,
    timeout: Duration,
}

impl Dialer {
    pub(super) fn new(config: &RedisConfig) -> Self {
        let url = config.redis_url.clone();
        let uses_tls = url.as_ref().is_some_and(RedisUrl::uses_tls);
        Self {
            tls: uses_tls.then(|| ClientTls::new(config.tls_files(), &TLS_SETTINGS)),
            url,
            timeout: config.redis_timeout,
        }
    }

    /// Returns how to log in.
    pub(super) fn login(&self) -> Result<&RedisConnectionInfo, ConnectError> {
        Ok(self.url()?.client().get_connection_info().redis_settings())
    }

    /// Opens a connection for commands, and logs in.
    pub(super) async fn commands(&self) -> Result<CommandConnection, ConnectError> {
        // The time limit of the opening is our own.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(Some(self.timeout))
            .set_pipeline_buffer_size(1024);
        let stream = self.stream().await?;
        let opening = CommandConnection::open(stream, self.login()?, config);
        match in_time(self.timeout, opening).await {
            Ok(connection) => Ok(connection),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Opens a stream.
    pub(super) async fn stream(&self) -> Result<ClientStream, ConnectError> {
        let (host, _) = self.address()?;
        let opening = async {
            let tcp = self.tcp().await?;
            match &self.tls {
                None => Ok(ClientStream::Plain(tcp)),
                Some(tls) => ClientStream::secure(tcp, host, tls)
                    .await
                    .map_err(|error| tls_error(error, tls, host)),
            }
        };
        match (timeout(self.timeout * 2, opening).await, &self.tls) {
            (Ok(opened), _) => opened,
            // It may wait for the end of a line, which the first message of TLS does not have.
            (Err(_), Some(tls)) if self.probe(speaks_plainly).await == Some(true) => {
                Err(rejected(&TlsFault::PlainServer, tls, host))
            }
            (Err(_), _) => Err(no_answer().into()),
        }
    }

    /// Returns why a stream failed before the first answer on it. May open another connection to find out.
    pub(super) async fn explain(&self, error: RedisError) -> ConnectError {
        let Ok((host, _)) = self.address() else {
            return error.into();
        };
        // Not an answer that is late, which has no cause.
        let is_dropped = error.is_connection_dropped() && error.source().is_some();
        let Some(tls) = &self.tls else {
            // What a TLS server sends, if anything, is no answer.
            let may_be_tls = is_dropped || error.kind() == ErrorKind::Parse;
            if may_be_tls && self.probe(speaks_tls).await == Some(true) {
                return ConnectError::Rejected {
                    reason: "TLS: the server speaks it, this service does not",
                    advice: "the server speaks TLS at this port: give rediss:// in --redis-url or \
                             --redis-url-file, or its port without TLS"
                        .to_owned(),
                };
            }
            return error.into();
        };
        let fault = match TlsFault::of(&error) {
            Some(fault) => Some(fault),
            None if is_dropped => self
                .probe(async |tcp| refusal_after_handshake(tcp, host, tls).await)
                .await
                .flatten(),
            None => None,
        };
        fault.map_or_else(|| error.into(), |fault| rejected(&fault, tls, host))
    }

    /// Asks on a connection of its own; `None` without an answer.
    async fn probe<T>(&self, ask: impl AsyncFnOnce(TcpStream) -> T) -> Option<T> {
        let asked = async { Some(ask(self.tcp().await.ok()?).await) };
        timeout(self.timeout, asked).await.ok().flatten()
    }

    async fn tcp(&self) -> Result<TcpStream, ConnectError> {
        let (host, port) = self.address()?;
        let tcp = connect_tcp(host, port).await;
        tcp.map_err(|error| ConnectError::Unavailable(error.into()))
    }

    fn url(&self) -> Result<&RedisUrl, ConnectError> {
        let missing = || ConnectError::Unusable("no address is given".to_owned());
        self.url.as_ref().ok_or_else(missing)
    }

    fn address(&self) -> Result<(&str, u16), ConnectError> {
        match self.url()?.client().get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Ok((host, *port))
            }
            other => Err(ConnectError::Unusable(format!("{other} is no TCP address"))),
        }
    }
}

fn tls_error(error: TlsError, tls: &ClientTls, host: &str) -> ConnectError {
    match error {
        TlsError::Fault(fault) => rejected(&fault, tls, host),
        TlsError::Unusable(problem) => ConnectError::Unusable(problem),
        TlsError::Lost(error) => ConnectError::Unavailable(error.into()),
    }
}

fn rejected(fault: &TlsFault, tls: &ClientTls, host: &str) -> ConnectError {
    ConnectError::Rejected {
        reason: fault.reason(),
        advice: fault.describe(tls, host),
    }
}

/// Returns whether the server answers a command without TLS. It need not be logged in to.
async fn speaks_plainly(mut tcp: TcpStream) -> bool {
    let asked = async {
        tcp.write_all(b"PING\r\n").await?;
        tcp.read_u8().await
    };
    asked.await.is_ok_and(|first| matches!(first, b'+' | b'-'))
}

/// Limits the time of a request.
pub(super) async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    let outcome = timeout(limit, work).await;
    outcome.unwrap_or_else(|_| Err(no_answer()))
}

fn no_answer() -> RedisError {
    (ErrorKind::Io, "no answer while connecting").into()
}

/// Connects to the address of this host that answers first.
async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::other("the name of the host has no address"));
    }
    let attempts = addresses.into_iter().map(TcpStream::connect).map(Box::pin);
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream)
}

#[cfg(test)]
mod tests;
