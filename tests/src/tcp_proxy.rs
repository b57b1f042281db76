//! A TCP proxy in front of a server, to break the network and heal it again.
//!
//! A fault affects the connections that are open at that moment and, until [`TcpProxy::heal`], every new one. Healing the
//! network does not heal a broken connection.

mod pump;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use pump::{Connection, Latency, Recording, UnansweredText};

/// A proxy with a fixed port. It ends with every connection when this is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    target: AtomicU16,
    latency: Latency,
    requests: Recording,
    answers: Recording,
    unanswered: UnansweredText,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    mode: Mode,
    live: Vec<(Arc<Connection>, AbortHandle)>,
}

/// How new connections are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Forwarded,
    Refused,
    HalfOpen,
    Mute,
    BlackHole,
}

impl TcpProxy {
    /// Listens on a free port and forwards to `target` on the loopback interface.
    pub async fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("binding a proxy")?;
        let port = listener
            .local_addr()
            .context("the address of a proxy")?
            .port();
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            latency: Latency::default(),
            requests: Recording::default(),
            answers: Recording::default(),
            unanswered: UnansweredText::default(),
            inner: Mutex::new(Inner {
                mode: Mode::Forwarded,
                live: Vec::new(),
            }),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            port,
            shared,
            _tasks: tasks,
        })
    }

    /// Returns the port to use instead of that of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection, and every new one at once.
    pub fn cut(&self) {
        let mut inner = self.shared.inner();
        inner.mode = Mode::Refused;
        inner.end_all();
    }

    /// Closes every connection once. New ones are forwarded as before.
    pub fn reset(&self) {
        self.shared.inner().end_all();
    }

    /// Keeps every connection open and passes nothing in either direction. New connections are accepted and get nothing.
    ///
    /// Received bytes are read and dropped. The other side looks like a server that hangs: the sender can notice it
    /// only by a time limit of its own.
    pub fn black_hole(&self) {
        let mut inner = self.shared.inner();
        inner.mode = Mode::BlackHole;
        for (connection, _) in &inner.live {
            connection.stop_requests();
            connection.stop_answers();
        }
    }

    /// Forwards requests to the server, but no answers.
    pub fn half_open(&self) {
        let mut inner = self.shared.inner();
        inner.mode = Mode::HalfOpen;
        for (connection, _) in &inner.live {
            connection.stop_answers();
        }
    }

    /// Forwards the next request with this text, and then no more answers on its connection.
    pub fn never_answer(&self, text: &str) {
        self.shared.unanswered.set(text);
    }

    /// Forwards answers of the server, but no requests.
    pub fn mute(&self) {
        let mut inner = self.shared.inner();
        inner.mode = Mode::Mute;
        for (connection, _) in &inner.live {
            connection.stop_requests();
        }
    }

    /// Forwards new connections again. Broken ones stay broken until one of their ends closes them.
    pub fn heal(&self) {
        self.shared.inner().mode = Mode::Forwarded;
    }

    /// Delays everything from now on by this time, in each direction and on every connection. The order stays the same.
    pub fn delay(&self, by: Duration) {
        self.shared.latency.set(by);
    }

    /// Forwards new connections to another server. Open ones stay where they are.
    pub fn retarget(&self, target: u16) {
        self.shared.target.store(target, Ordering::Relaxed);
    }

    /// Records the bytes of both directions from now on, see [`Self::recorded`] and [`Self::recorded_from_clients`].
    pub fn record(&self) {
        self.shared.requests.start();
        self.shared.answers.start();
    }

    /// Returns the bytes forwarded to the clients since [`Self::record`], one piece per connection.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.shared.answers.pieces()
    }

    /// Returns the bytes forwarded to the server since [`Self::record`], one piece per connection.
    pub fn recorded_from_clients(&self) -> Vec<Vec<u8>> {
        self.shared.requests.pieces()
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        let mut inner = self.shared.inner();
        inner.forget_ended();
        inner.live.len()
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no thread panics while holding the lock")
    }
}

impl Inner {
    fn end_all(&mut self) {
        for (_, task) in self.live.drain(..) {
            task.abort();
        }
    }

    fn forget_ended(&mut self) {
        self.live.retain(|(_, task)| !task.is_finished());
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        // Locked until the connection is listed: so a fault that begins now affects it.
        let mut inner = shared.inner();
        inner.forget_ended();
        let connection = Arc::new(Connection::default());
        match inner.mode {
            Mode::Refused => continue,
            Mode::Forwarded => {}
            Mode::HalfOpen => connection.stop_answers(),
            Mode::Mute => connection.stop_requests(),
            Mode::BlackHole => {
                connection.stop_requests();
                connection.stop_answers();
            }
        }
        let task = connections.spawn(forward(
            client,
            Arc::clone(&connection),
            Arc::clone(&shared),
        ));
        inner.live.push((connection, task));
    }
}

async fn forward(client: TcpStream, connection: Arc<Connection>, shared: Arc<Shared>) {
    let target = shared.target.load(Ordering::Relaxed);
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        return;
    };
    // Without this, small packets would be delayed. It fails only if the socket is closed already.
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = pump::requests(
        from_client,
        to_server,
        &connection,
        &shared.latency,
        &shared.unanswered,
        &shared.requests,
    );
    let answers = pump::answers(
        from_server,
        to_client,
        &connection,
        &shared.latency,
        &shared.answers,
    );
    tokio::join!(requests, answers);
}

#[cfg(test)]
mod tests;
