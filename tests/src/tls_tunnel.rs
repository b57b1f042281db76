//! A port of this machine that leads to a server over TLS, for a client library that speaks no TLS.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use shared::tls::{ClientStream, ClientTls, TlsFiles, TlsSettings};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A server that speaks TLS, and the settings with which it is reached.
#[derive(Clone, Debug)]
pub struct TlsServer {
    /// Its host name, which its certificate must have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// File with the authorities that are trusted, instead of those of the system.
    pub authorities: Option<PathBuf>,
}

/// A port of the loopback interface. Each connection to it becomes one to the server.
#[derive(Debug)]
pub struct TlsTunnel {
    listener: TcpListener,
    server: TlsServer,
    tls: Arc<ClientTls>,
}

impl TlsTunnel {
    /// Opens the port. `settings` are the names of the flags, for errors.
    ///
    /// # Errors
    /// The port cannot be opened, or the file of authorities cannot be used.
    pub async fn open(server: TlsServer, settings: &'static TlsSettings) -> Result<Self> {
        let files = TlsFiles {
            authorities: server.authorities.clone(),
            ..TlsFiles::default()
        };
        let problems = files.problems(settings, true);
        ensure!(problems.is_empty(), "{}", problems.join("; "));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        Ok(Self {
            listener: listener.context("opening a port")?,
            server,
            tls: Arc::new(ClientTls::new(files, settings)),
        })
    }

    /// Returns its port.
    ///
    /// # Errors
    /// The operating system cannot name the port.
    pub fn port(&self) -> Result<u16> {
        Ok(self.listener.local_addr().context("its port")?.port())
    }

    /// Forwards connections until it is dropped. Why one could not be made is written to standard error.
    ///
    /// # Errors
    /// No more connections are accepted.
    pub async fn run(self) -> Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let (client, _) = self.listener.accept().await.context("accepting")?;
            let (server, tls) = (self.server.clone(), Arc::clone(&self.tls));
            connections.spawn(async move {
                if let Err(err) = forward(client, &server, &tls).await {
                    // Nothing else can be done if the terminal is gone.
                    writeln!(io::stderr(), "{}:{}: {err:#}", server.host, server.port).ok();
                }
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn forward(mut client: TcpStream, server: &TlsServer, tls: &ClientTls) -> Result<()> {
    client.set_nodelay(true).context("setting TCP_NODELAY")?;
    let tcp = TcpStream::connect((server.host.as_str(), server.port)).await;
    let tcp = tcp.context("no connection")?;
    tcp.set_nodelay(true).context("setting TCP_NODELAY")?;
    let mut secured = ClientStream::secure(tcp, &server.host, tls).await?;
    // The client sees how it ends.
    copy_bidirectional(&mut client, &mut secured).await.ok();
    Ok(())
}
