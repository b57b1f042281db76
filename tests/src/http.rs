//! An HTTP client that sends requests exactly as given: it normalises, follows and retries nothing.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::eventually::LATE;

/// The answer of a server.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Response {
    /// Returns the body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {self:?}"))
    }

    /// Returns the body as JSON. Fails if the answer has another status.
    pub fn expect(&self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "expected {status}: {self:?}");
        self.json()
    }

    /// Returns a header as text; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// Sends one request over a connection of its own to a port of the loopback interface.
pub async fn send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let exchange = exchange(port, method, path, headers, body);
    tokio::time::timeout(LATE, exchange)
        .await
        .with_context(|| format!("no answer within {LATE:?}: {method} {path}"))?
        .with_context(|| format!("{method} {path}"))
}

/// Sends a GET request from this address of the loopback interface, over a connection of its own.
pub async fn send_from(address: Ipv4Addr, port: u16, path: &str) -> Result<Response> {
    let exchange = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
        let mut connection = Connection::over(stream, port).await?;
        connection.send("GET", path, &[], b"").await
    };
    tokio::time::timeout(LATE, exchange)
        .await
        .with_context(|| format!("no answer within {LATE:?}: GET {path}"))?
        .with_context(|| format!("GET {path} from {address}"))
}

async fn exchange(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let mut connection = Connection::open(port).await?;
    connection.send(method, path, headers, body).await
}

/// Sends these bytes over a connection of its own and returns everything that the server sends until it closes the
/// connection. For requests that a correct client never sends.
pub async fn send_raw(port: u16, request: &str) -> Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(LATE, exchange)
        .await
        .with_context(|| format!("the connection is still open after {LATE:?}: {request}"))?
}

/// A connection that stays open until it is dropped.
#[derive(Debug)]
pub struct Connection {
    port: u16,
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<hyper::Result<()>>,
}

impl Connection {
    /// Connects to a port of the loopback interface.
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        Self::over(stream, port).await
    }

    /// Speaks HTTP over a stream that is connected to this port.
    pub async fn over<S>(stream: S, port: u16) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self {
            port,
            sender,
            _driver: driver,
        })
    }

    /// Sends one request and waits for the complete answer.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("127.0.0.1:{}", self.port));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body)))?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }
}
