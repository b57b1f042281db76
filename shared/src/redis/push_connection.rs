//! A connection on which Redis pushes published messages. Its owner reads it directly: no task, queue or copy is between the
//! socket and whoever handles a message.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use redis::{Cmd, RedisError, Value as Answer};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::connect_error::ConnectError;
use super::dialer::{Dialer, in_time};
use super::server_check::ServerInfo;
use crate::resp::{Malformed, Value, ValueReader};
use crate::tls::ClientStream;

/// An open, checked connection for subscriptions (RESP3).
pub struct PushConnection {
    stream: ClientStream,
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
    /// `limit`: how long the answer to the login may take, and all further ones.
    pub(super) async fn open(
        dialer: &Dialer,
        limit: Duration,
        channel: &str,
    ) -> Result<Self, ConnectError> {
        let login = dialer.login()?;
        let stream = dialer.stream().await?;
        let mut connection = Self {
            stream,
            reader: ValueReader::default(),
            unsent: BytesMut::new(),
            needs_flush: false,
            has_caught_up: false,
            has_waited: false,
            run_id: Arc::default(),
        };
        let mut hello = redis::cmd("HELLO");
        hello.arg(3);
        if let Some(password) = login.password() {
            let user = login.username().unwrap_or("default");
            hello.arg("AUTH").arg(user).arg(password);
        }
        if let Err(error) = in_time(limit, connection.ask(&hello)).await {
            return Err(dialer.explain(error).await);
        }
        let asked = async {
            if login.db() != 0 {
                connection.ask(redis::cmd("SELECT").arg(login.db())).await?;
            }
            let text = connection.ask(&redis::cmd("INFO")).await?;
            let text = redis::from_redis_value::<String>(text).map_err(RedisError::from)?;
            connection
                .ask(redis::cmd("SSUBSCRIBE").arg(channel))
                .await?;
            Ok(ServerInfo::read(&text))
        };
        let server = in_time(limit, asked).await?;
        server.check_role()?;
        connection.run_id = server.run_id.into();
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
            match Pin::new(&mut self.stream).poll_write(context, &self.unsent) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => {
                    self.unsent.advance(written?);
                    self.needs_flush = true;
                }
                Poll::Pending => break,
            }
        }
        if self.needs_flush {
            match Pin::new(&mut self.stream).poll_flush(context) {
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
