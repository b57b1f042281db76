//! Hands a connection over to a WebSocket, once the answer to its request is sent.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::connection::ConnectionPlaces;
use crate::shared_stream::SharedStream;

/// A connection that does not speak HTTP any more.
#[derive(Debug)]
pub(crate) struct TakenConnection {
    pub(crate) stream: SharedStream,
    /// What was received behind the request.
    pub(crate) received: Vec<u8>,
    /// What counts the connection.
    pub(crate) places: ConnectionPlaces,
}

type Begin = Box<dyn FnOnce(TakenConnection) + Send>;

/// What begins when the answer `101 Switching Protocols` is sent, in the extensions of that answer. It is dropped if the answer
/// cannot be sent. Clones share it, as extensions must be cloneable.
#[derive(Clone)]
pub(crate) struct TakeOver {
    // A std mutex: held to take it out.
    begin: Arc<Mutex<Option<Begin>>>,
}

impl TakeOver {
    /// `begin` must start a task and return.
    pub(crate) fn new(begin: impl FnOnce(TakenConnection) + Send + 'static) -> Self {
        Self {
            begin: Arc::new(Mutex::new(Some(Box::new(begin)))),
        }
    }

    /// Hands the connection over.
    pub(super) fn begin(self, connection: TakenConnection) {
        let begin = self
            .begin
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(begin) = begin {
            begin(connection);
        }
    }
}

impl fmt::Debug for TakeOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeOver").finish_non_exhaustive()
    }
}
