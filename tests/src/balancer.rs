//! A simple load balancer in front of several gateways: connections go in turn to the targets whose `/readyz` answers 200.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::http;

/// How often the readiness of a target is checked.
const INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of connections that wait to be accepted: all clients of a crowd connect at once.
const BACKLOG: u32 = 4096;

/// The address of several gateways.
#[derive(Debug)]
pub struct Balancer {
    port: u16,
    // Dropping it ends the balancer with every connection.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Target {
    port: u16,
    is_ready: AtomicBool,
}

impl Balancer {
    /// Listens on a free port and forwards to these on the loopback interface.
    pub fn start(ports: impl IntoIterator<Item = u16>) -> Result<Self> {
        let socket = TcpSocket::new_v4().context("a socket")?;
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .context("binding a balancer")?;
        let listener = socket.listen(BACKLOG).context("listening")?;
        let address = listener.local_addr().context("the balancer's address")?;
        let targets: Arc<[Target]> = ports
            .into_iter()
            .map(|port| Target {
                port,
                is_ready: AtomicBool::new(true),
            })
            .collect();
        let mut tasks = JoinSet::new();
        for index in 0..targets.len() {
            tasks.spawn(watch(Arc::clone(&targets), index));
        }
        tasks.spawn(accept(listener, targets));
        Ok(Self {
            port: address.port(),
            _tasks: tasks,
        })
    }

    /// Returns the port to use instead of that of a gateway.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn watch(targets: Arc<[Target]>, index: usize) {
    let target = &targets[index];
    loop {
        let answer = http::send(target.port, "GET", "/readyz", &[], b"").await;
        let is_ready = answer.is_ok_and(|answer| answer.status == 200);
        target.is_ready.store(is_ready, Ordering::Relaxed);
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn accept(listener: TcpListener, targets: Arc<[Target]>) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(forward(client, Arc::clone(&targets), Arc::clone(&next)));
    }
}

/// Closes the connection of the client if no target accepts one.
async fn forward(mut client: TcpStream, targets: Arc<[Target]>, next: Arc<AtomicUsize>) {
    for _ in 0..targets.len() {
        let target = &targets[next.fetch_add(1, Ordering::Relaxed) % targets.len()];
        if !target.is_ready.load(Ordering::Relaxed) {
            continue;
        }
        let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target.port)).await else {
            continue;
        };
        // Without this, small packets would be delayed. It fails only if the socket is closed already.
        client.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        copy_bidirectional(&mut client, &mut server).await.ok();
        return;
    }
}
