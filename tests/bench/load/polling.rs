//! Long polling, with which the official client begins by default: requests over one connection of HTTP/1.1.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::packets::{self, Packet};

/// A session of Engine.IO.
pub(crate) struct Polling {
    tcp: TcpStream,
    port: u16,
    session: String,
}

impl Polling {
    pub(crate) async fn open(port: u16) -> Result<Self> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        tcp.set_nodelay(true)?;
        let mut polling = Self {
            tcp,
            port,
            session: String::new(),
        };
        let text = polling.poll().await?;
        let Packet::Open(open) = packets::read(&text)? else {
            anyhow::bail!("unexpected: {text}");
        };
        let open: serde_json::Value = serde_json::from_str(open)?;
        let id = open["sid"].as_str().context("no session id")?;
        id.clone_into(&mut polling.session);
        Ok(polling)
    }

    /// Its id.
    pub(crate) fn session(&self) -> String {
        self.session.clone()
    }

    /// Waits for packets from the server.
    pub(crate) async fn poll(&mut self) -> Result<String> {
        self.request("GET", "").await
    }

    /// Waits until the namespace is joined. Pings may come before.
    pub(crate) async fn joined(&mut self) -> Result<()> {
        loop {
            let text = self.poll().await?;
            for packet in text.split(packets::SEPARATOR) {
                match packets::read(packet)? {
                    Packet::Connected => return Ok(()),
                    Packet::Ping => self.send(packets::PONG).await?,
                    other => anyhow::bail!("unexpected: {other:?}"),
                }
            }
        }
    }

    /// Sends a packet.
    pub(crate) async fn send(&mut self, packet: &str) -> Result<()> {
        let answer = self.request("POST", packet).await?;
        ensure!(answer == "ok", "unexpected: {answer}");
        Ok(())
    }

    async fn request(&mut self, method: &str, body: &str) -> Result<String> {
        let session = if self.session.is_empty() {
            String::new()
        } else {
            format!("&sid={}", self.session)
        };
        let request = format!(
            "{method} /socket.io/?EIO=4&transport=polling{session} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        self.tcp.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        loop {
            let read = self.tcp.read_buf(&mut bytes).await?;
            ensure!(read > 0, "the server ended the connection");
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            ensure!(
                head.starts_with("HTTP/1.1 200"),
                "the server answers: {head}"
            );
            let headers = head.lines().filter_map(|line| line.split_once(": "));
            let length = headers
                .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .find_map(|(_, value)| value.parse().ok());
            let length: usize = length.with_context(|| format!("no length in {head}"))?;
            if body.len() >= length {
                return Ok(body.to_owned());
            }
        }
    }
}
