//! A TCP proxy in front of a server, to spoil the network and make it good again.
//!
//! What is done to it concerns the connections that stand at that moment and, until [`TcpProxy::heal`], those that come.
//! A connection that was spoiled stays spoiled: the network is back, the connection is not.

mod pump;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use pump::{Connection, Latency, Tape, Trap};

/// The stable address of a server behind it.
#[derive(Debug)]
pub struct TcpProxy {
    port: u16,
    shared: Arc<Shared>,
    // Dropping it ends the proxy with every connection.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    target: AtomicU16,
    latency: Latency,
    tape: Tape,
    trap: Trap,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    mode: Mode,
    live: Vec<(Arc<Connection>, AbortHandle)>,
}

/// What becomes of a connection that comes.
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
            tape: Tape::default(),
            trap: Trap::default(),
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

    /// Where to connect instead of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection; new ones are closed as soon as they come.
    pub fn cut(&self) {
        let mut inner = self.shared.inner();
        inner.mode = Mode::Refused;
        inner.end_all();
    }

    /// Ends every connection once; new ones are forwarded as before.
    pub fn reset(&self) {
        self.shared.inner().end_all();
    }

    /// Every connection stays open and nothing passes any more, either way; new ones are accepted and get nothing.
    ///
    /// What is sent meanwhile is taken and thrown away: to its sender the other side looks alive, as a server that hangs
    /// does, so that only a time limit of its own tells it otherwise.
    pub fn black_hole(&self) {
        let mut inner = self.shared.inner();
        inner.mode = Mode::BlackHole;
        for (connection, _) in &inner.live {
            connection.stop_requests();
            connection.stop_answers();
        }
    }

    /// What is sent to the server still arrives, nothing comes back any more.
    pub fn half_open(&self) {
        let mut inner = self.shared.inner();
        inner.mode = Mode::HalfOpen;
        for (connection, _) in &inner.live {
            connection.stop_answers();
        }
    }

    /// The next request with this text arrives, and nothing comes back any more on its connection.
    pub fn never_answer(&self, text: &str) {
        self.shared.trap.set(text);
    }

    /// What the server sends still arrives, nothing that is sent to it does.
    pub fn mute(&self) {
        let mut inner = self.shared.inner();
        inner.mode = Mode::Mute;
        for (connection, _) in &inner.live {
            connection.stop_requests();
        }
    }

    /// Forwards new connections again. Those that were spoiled stay so until one of their ends closes them.
    pub fn heal(&self) {
        self.shared.inner().mode = Mode::Forwarded;
    }

    /// From now on everything arrives this much later, each way, on every connection; the order is kept.
    pub fn delay(&self, by: Duration) {
        self.shared.latency.set(by);
    }

    /// New connections go to another server; the old ones stay where they are.
    pub fn retarget(&self, target: u16) {
        self.shared.target.store(target, Ordering::Relaxed);
    }

    /// Keeps what the server sends from now on, see [`Self::recorded`].
    pub fn record(&self) {
        self.shared.tape.start();
    }

    /// What was handed on to the clients since [`Self::record`], one piece per connection.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.shared.tape.pieces()
    }

    /// How many connections stand.
    pub fn connections(&self) -> usize {
        let mut inner = self.shared.inner();
        inner.forget_ended();
        inner.live.len()
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while holding it")
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
        // Locked until the connection is listed: what is done to the proxy now concerns it, or finds it gone.
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
    // Forwarding small packets late would make tests slow; a socket that refuses is already closed.
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = pump::requests(
        from_client,
        to_server,
        &connection,
        &shared.latency,
        &shared.trap,
    );
    let answers = pump::answers(
        from_server,
        to_client,
        &connection,
        &shared.latency,
        &shared.tape,
    );
    tokio::join!(requests, answers);
}

#[cfg(test)]
mod tests;
