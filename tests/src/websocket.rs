//! A WebSocket client that sends exactly the bytes it is told to, and shows every frame of the server.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use test_support::frames;
pub use test_support::frames::{BINARY, CLOSE, PING, PONG, TEXT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::eventually::LATE;

/// One WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    received: Vec<u8>,
}

/// One frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its first byte.
    pub kind: u8,
    pub payload: Vec<u8>,
}

impl WebSocket {
    /// Asks a port of the loopback interface for a WebSocket.
    ///
    /// # Errors
    /// It is refused: the message has the answer's head.
    pub async fn open(port: u16, path: &str) -> Result<Self> {
        let (websocket, _) = Self::open_with(port, path, "").await?;
        Ok(websocket)
    }

    /// The same with further header lines, each with its end. Returns the answer's head, too.
    ///
    /// # Errors
    /// It is refused: the message has the answer's head.
    pub async fn open_with(port: u16, path: &str, headers: &str) -> Result<(Self, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut websocket = Self {
            stream,
            received: Vec::new(),
        };
        let end = b"\r\n\r\n";
        loop {
            let position = websocket.received.windows(4).position(|bytes| bytes == end);
            if let Some(position) = position {
                let head = String::from_utf8_lossy(&websocket.received[..position]).into_owned();
                ensure!(head.starts_with("HTTP/1.1 101"), "refused: {head}");
                // The answer to the example key of RFC 6455.
                ensure!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
                websocket.received.drain(..position + end.len());
                return Ok((websocket, head));
            }
            ensure!(websocket.read().await?, "the connection has ended");
        }
    }

    /// Sends a text message.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        self.send_frame(TEXT, text.as_bytes()).await
    }

    /// Sends a frame with this first byte.
    pub async fn send_frame(&mut self, first: u8, payload: &[u8]) -> Result<()> {
        self.send_frames(first, payload, 1).await
    }

    /// Sends the same frame so often.
    pub async fn send_frames(&mut self, first: u8, payload: &[u8], count: usize) -> Result<()> {
        let frames = frames::masked(first, payload).repeat(count);
        Ok(self.stream.write_all(&frames).await?)
    }

    /// Returns the next frame; `None` if the connection has ended.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// Returns the next text message.
    pub async fn text(&mut self) -> Result<String> {
        let frame = self.next().await?.context("the connection has ended")?;
        ensure!(frame.kind == TEXT, "{frame:?}");
        Ok(String::from_utf8(frame.payload)?)
    }

    /// Returns the JSON behind this prefix in the next text message.
    pub async fn json(&mut self, prefix: &str) -> Result<Value> {
        let text = self.text().await?;
        let json = text.strip_prefix(prefix);
        let json = json.with_context(|| format!("expected {prefix}, got {text}"))?;
        serde_json::from_str(json).with_context(|| text.clone())
    }

    /// Returns the frames until the connection ends.
    pub async fn until_end(&mut self) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Returns false if the connection has ended.
    async fn read(&mut self) -> Result<bool> {
        let read = timeout(LATE, self.stream.read_buf(&mut self.received)).await;
        match read.context("nothing arrives")? {
            Ok(count) => Ok(count > 0),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => bail!(error),
        }
    }

    fn take_frame(&mut self) -> Result<Option<Frame>> {
        let Some((kind, payload, length)) = frames::read(&self.received)? else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.received.drain(..length);
        Ok(Some(Frame { kind, payload }))
    }
}
