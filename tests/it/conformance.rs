//! The protocols of the clients, seen at the connection: Engine.IO (protocol 4), Socket.IO (protocol 5) and WebSocket (RFC 6455).
//!
//! The cases follow the public test suites of engine.io-protocol and socket.io-protocol. The rules of RFC 6455 have more cases
//! at `gateway/src/websocket/reader`. Where this server differs from the one of Node.js, the test says so.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::eventually::eventually;
use tests::http::{self, Connection};
use tests::stack::{Plan, Stack};
use tests::websocket::WebSocket;

mod compression;
mod engine_io;
mod socket_io;
mod websocket;

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Starts a gateway with these flags. If they set no timeout, its clients may take as long as they like.
async fn start(flags: &str) -> Result<(Stack, u16)> {
    let mut flags = flags.to_owned();
    for timeout in ["--connect-timeout", "--ping-timeout"] {
        if !flags.contains(timeout) {
            flags = format!("{timeout}=10m {flags}");
        }
    }
    let stack = Plan::default().gateway_flags(flags.trim()).start().await?;
    let port = stack.gateways[0].port();
    // Otherwise clients get `system:status` first.
    eventually("the data path works", async || {
        let ready = stack.gateways[0].get("/readyz").await?;
        ensure!(ready.json()?["status"] == "ok", "{ready:?}");
        Ok(())
    })
    .await?;
    Ok((stack, port))
}

/// Opens a session over polling and returns its first packet.
async fn open_polling(connection: &mut Connection) -> Result<Value> {
    let answer = connection.send("GET", POLLING, &[], b"").await?;
    ensure!(answer.status == 200, "{answer:?}");
    let Some(open) = answer.body.strip_prefix(b"0") else {
        anyhow::bail!("{answer:?}");
    };
    Ok(serde_json::from_slice(open)?)
}

/// Returns the paths of a session for polls and for an upgrade.
fn paths_of(open: &Value) -> (String, String) {
    let sid = open["sid"].as_str().unwrap_or_default();
    (
        format!("{POLLING}&sid={sid}"),
        format!("{WEBSOCKET}&sid={sid}"),
    )
}

/// Returns a WebSocket whose client has joined the namespace.
async fn join(port: u16) -> Result<WebSocket> {
    let mut socket = WebSocket::open(port, WEBSOCKET).await?;
    socket.json("0").await?;
    socket.send("40").await?;
    socket.json("40").await?;
    Ok(socket)
}

/// Fails unless this server closes the WebSocket.
async fn expect_end(mut socket: WebSocket) -> Result<()> {
    socket.until_end().await.map(drop)
}

/// Fails unless a request for a WebSocket is refused with this status and code.
async fn expect_refused(port: u16, path: &str, code: u64) -> Result<()> {
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = http::send(port, "GET", path, &headers, b"").await?;
    let body = answer.expect(400)?;
    ensure!(body["code"] == code, "{path}: {body}");
    Ok(())
}
