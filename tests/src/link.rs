//! A TCP proxy in front of a server, to take the network away and give it back.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The stable address of a server behind it.
#[derive(Debug)]
pub struct Link {
    port: u16,
    up: watch::Sender<bool>,
    // Dropping it ends the proxy with every connection.
    _tasks: JoinSet<()>,
}

impl Link {
    /// Listens on a free port and forwards to `target` on the loopback interface.
    pub async fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("binding a link")?;
        let port = listener
            .local_addr()
            .context("the address of a link")?
            .port();
        let (up, state) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, state));
        Ok(Self {
            port,
            up,
            _tasks: tasks,
        })
    }

    /// Where to connect instead of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection; new ones are closed as soon as they come.
    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Forwards new connections again.
    pub fn heal(&self) {
        self.up.send_replace(true);
    }
}

async fn accept(listener: TcpListener, target: u16, state: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        if *state.borrow() {
            connections.spawn(forward(client, target, state.clone()));
        }
    }
}

async fn forward(mut client: TcpStream, target: u16, mut state: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        return;
    };
    // Forwarding small packets late would make tests slow; a socket that refuses is already closed.
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = state.wait_for(|up| !up) => {}
    }
}
