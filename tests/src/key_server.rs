//! An address at which an identity provider publishes its keys (JWKS). They can be changed while it runs.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct KeyServer {
    port: u16,
    published: Arc<Mutex<Published>>,
    _tasks: JoinSet<Result<()>>,
}

#[derive(Debug, Default)]
struct Published {
    /// `None` while the server answers nothing.
    keys: Option<Vec<Value>>,
    asked: usize,
}

impl KeyServer {
    /// Listens on a free port of the loopback interface, and answers nothing yet.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("a port for the keys")?;
        let port = listener.local_addr()?.port();
        let published = Arc::<Mutex<Published>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&published)));
        Ok(Self {
            port,
            published,
            _tasks: tasks,
        })
    }

    /// Returns the address of the keys.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/keys", self.port)
    }

    /// Publishes these keys instead of those before.
    pub fn publish(&self, keys: &[Value]) {
        self.published().keys = Some(keys.to_vec());
    }

    /// Answers nothing from now on.
    pub fn leave(&self) {
        self.published().keys = None;
    }

    /// Returns how often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.published().asked
    }

    fn published(&self) -> std::sync::MutexGuard<'_, Published> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, published: Arc<Mutex<Published>>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let keys = {
            let mut published = published.lock().unwrap_or_else(PoisonError::into_inner);
            published.asked += 1;
            published.keys.clone()
        };
        // A client that has gone does not end the server.
        answer(stream, keys).await.ok();
    }
}

async fn answer(mut stream: TcpStream, keys: Option<Vec<Value>>) -> Result<()> {
    let mut head = [0; 4096];
    let length = stream.read(&mut head).await?;
    let Some(keys) = keys else {
        return Ok(());
    };
    let is_known = head[..length].starts_with(b"GET /keys HTTP/1.1\r\n");
    let (status, body) = if is_known {
        ("200 OK", json!({"keys": keys}).to_string())
    } else {
        ("404 Not Found", String::new())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    Ok(())
}
