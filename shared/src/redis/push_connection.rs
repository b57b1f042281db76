//! A connection on which Redis pushes published messages. Its owner reads it directly: no task, queue or copy is between the
//! socket and whoever handles a message.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::future::select_ok;
use redis::{Cmd, ConnectionAddr, ErrorKind, RedisError, Value as Answer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::{RedisConfig, USER_TIMEOUT};
use super::connect_error::ConnectError;
use super::server_check::ServerInfo;
use crate::resp::{Malformed, Value, ValueReader};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open, checked connection for subscriptions (RESP3).
pub struct PushConnection {
    stream: Box<dyn Stream>,
    reader: ValueReader,
    /// Commands that the kernel has not taken yet. Bounded by the owner, which must not request without end.
    unsent: BytesMut,
    /// The stream holds bytes that it was given.
    needs_flush: bool,
    has_caught_up: bool,
    has_waited: bool,
    run_id: Arc<str>,
}

impl std::fmt::Debug for PushConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushConnection")
            .field("run_id", &self.run_id)
            .finish_non_exhaustive()
    }
}

impl PushConnection {
    /// Connects, logs in, checks that the server is a master, and subscribes to one channel.
    pub(super) async fn open(config: &RedisConfig, channel: &str) -> Result<Self, ConnectError> {
        let info = config.redis_url.client().get_connection_info();
        let connecting = connect(info.addr());
        let stream = in_time(config.redis_timeout * 2, connecting).await?;
        let mut connection = Self {
            stream,
            reader: ValueReader::default(),
            unsent: BytesMut::new(),
            needs_flush: false,
            has_caught_up: false,
            has_waited: false,
            run_id: Arc::default(),
        };
        let settings = info.redis_settings();
        let mut hello = redis::cmd("HELLO");
        hello.arg(3);
        if let Some(password) = settings.password() {
            let user = settings.username().unwrap_or("default");
            hello.arg("AUTH").arg(user).arg(password);
        }
        let asked = async {
            connection.ask(&hello).await?;
            if settings.db() != 0 {
                connection
                    .ask(redis::cmd("SELECT").arg(settings.db()))
                    .await?;
            }
            let text = connection.ask(&redis::cmd("INFO")).await?;
            let text = redis::from_redis_value::<String>(text).map_err(RedisError::from)?;
            let server = ServerInfo::read(&text);
            server.check_role()?;
            connection
                .ask(redis::cmd("SSUBSCRIBE").arg(channel))
                .await?;
            Ok(server.run_id.into())
        };
        connection.run_id = in_time(config.redis_timeout * 2, asked).await?;
        Ok(connection)
    }

    /// Returns the `run_id` of the server.
    #[must_use]
    pub fn run_id(&self) -> &Arc<str> {
        &self.run_id
    }

    /// Sends a command with the next call of [`Self::receive`].
    pub fn send(&mut self, command: &Cmd) {
        self.unsent.extend_from_slice(&command.get_packed_command());
    }

    /// Sends what waits, and waits until more has arrived. Nothing is lost if it is cancelled.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn receive(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_receive(context)).await
    }

    /// Returns whether everything that Redis had sent was received when it was last looked.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.has_caught_up
    }

    /// Returns whether everything that Redis had sent was received at any time since this was last asked.
    pub fn take_has_waited(&mut self) -> bool {
        std::mem::take(&mut self.has_waited)
    }

    /// Returns the next value among what has arrived; `None` if there is no whole one.
    ///
    /// # Errors
    /// The bytes are not RESP3. Nothing more can be read.
    pub fn next_value(&mut self) -> Result<Option<Value<'_>>, Malformed> {
        self.reader.next_value()
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Redis may be slow to read. Then what it pushes is read all the same.
        while !self.unsent.is_empty() {
            match Pin::new(&mut *self.stream).poll_write(context, &self.unsent) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => {
                    self.unsent.advance(written?);
                    self.needs_flush = true;
                }
                Poll::Pending => break,
            }
        }
        if self.needs_flush {
            match Pin::new(&mut *self.stream).poll_flush(context) {
                Poll::Ready(flushed) => {
                    flushed?;
                    self.needs_flush = false;
                }
                Poll::Pending => {}
            }
        }
        let reading = pin!(self.stream.read_buf(self.reader.room()));
        match reading.poll(context) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(read) => {
                self.has_caught_up = false;
                Poll::Ready(read.map(|_| ()))
            }
            Poll::Pending => {
                self.has_caught_up = true;
                self.has_waited = true;
                Poll::Pending
            }
        }
    }

    /// Sends a command and waits for its answer.
    async fn ask(&mut self, command: &Cmd) -> Result<Answer, RedisError> {
        self.send(command);
        loop {
            match self.reader.next_bytes() {
                Ok(Some(bytes)) => return redis::parse_redis_value(bytes)?.extract_error(),
                Ok(None) => {}
                Err(malformed) => return Err(io_error(io::Error::other(malformed))),
            }
            self.receive().await.map_err(io_error)?;
        }
    }
}

fn io_error(error: io::Error) -> RedisError {
    error.into()
}

async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(ConnectError::Unavailable(
            (ErrorKind::Io, "no answer while connecting").into(),
        ))
    })
}

async fn connect(address: &ConnectionAddr) -> Result<Box<dyn Stream>, ConnectError> {
    match address {
        ConnectionAddr::Tcp(host, port) => {
            let stream = connect_tcp(host, *port).await.map_err(io_error)?;
            Ok(Box::new(stream))
        }
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            ..
        } => {
            let connector = TlsConnector::from(tls_config()?);
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|error| io_error(io::Error::other(error)))?;
            let stream = connect_tcp(host, *port).await.map_err(io_error)?;
            let stream = connector.connect(name, stream).await.map_err(io_error)?;
            Ok(Box::new(stream))
        }
        _ => Err(ConnectError::Unusable(format!(
            "{address} cannot be used: only redis:// and rediss:// can, and rediss:// not without a check of its certificate"
        ))),
    }
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

/// Returns a configuration that trusts the certificate authorities of the system, as the redis crate does.
fn tls_config() -> Result<Arc<ClientConfig>, ConnectError> {
    let mut native = rustls_native_certs::load_native_certs();
    if let Some(error) = native.errors.pop() {
        return Err(io_error(io::Error::other(error)).into());
    }
    let mut roots = RootCertStore::empty();
    for certificate in native.certs {
        let added = roots.add(certificate);
        added.map_err(|error| io_error(io::Error::other(error)))?;
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
