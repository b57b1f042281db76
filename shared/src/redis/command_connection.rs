//! A connection for commands and their answers.

use std::sync::Arc;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisFuture, RedisResult, Value};
use tokio::task::AbortHandle;

use crate::tls::ClientStream;

/// A connection for commands. Clones share it, and it is closed with the last of them, even if an answer is still missing.
#[derive(Clone, Debug)]
pub(crate) struct CommandConnection {
    commands: MultiplexedConnection,
    _driver: Arc<Driver>,
}

/// The task that reads and writes the connection.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl CommandConnection {
    /// Logs in on a stream.
    pub(super) async fn open(
        stream: ClientStream,
        info: &redis::RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> RedisResult<Self> {
        let (commands, driver) =
            MultiplexedConnection::new_with_config(info, stream, config).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with its connection, and if it ends early, the next command fails"
        )]
        let driver = tokio::spawn(driver).abort_handle();
        Ok(Self {
            commands,
            _driver: Arc::new(Driver(driver)),
        })
    }
}

impl ConnectionLike for CommandConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.commands.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.commands.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.commands.get_db()
    }
}
