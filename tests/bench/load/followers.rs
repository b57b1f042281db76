//! Clients that follow the rows of all devices.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;

use super::client::Stream;
use super::crowd::{Transport, Wish};
use super::packets::{self, Packet};
use super::websocket::{self, Frame};

const PAUSE: Duration = Duration::from_millis(5);

/// What all of them received so far.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// Clients that have the whole list.
    ready: AtomicUsize,
    pub(crate) rows: AtomicU64,
    /// Bytes of events.
    pub(crate) bytes: AtomicU64,
}

/// Connected clients. They end with this.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    pub(crate) followed: Arc<Followed>,
    clients: JoinSet<Result<()>>,
    count: usize,
}

impl Followers {
    /// Connects clients until there are so many, and waits until each has the whole list.
    pub(crate) async fn grow_to(&mut self, port: u16, count: usize) -> Result<()> {
        while self.count < count {
            let followed = Arc::clone(&self.followed);
            self.clients.spawn(follow(port, followed));
            self.count += 1;
        }
        while self.followed.ready.load(Ordering::Relaxed) < count {
            self.check()?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Fails if a client has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.clients.try_join_next() {
            Some(ended) => ended?.context("a client that follows all devices"),
            None => Ok(()),
        }
    }
}

async fn follow(port: u16, followed: Arc<Followed>) -> Result<()> {
    let wish = Wish {
        port,
        transport: Transport::WebSocket,
        devices: Vec::new(),
        is_stalled: false,
    };
    let mut stream = Stream::open(&wish).await?;
    stream.send(packets::SUBSCRIBE_FLEET).await?;
    loop {
        stream.read().await?;
        let mut used = 0;
        let mut pings = 0;
        while let Some((frame, bytes)) = websocket::read(&stream.received[used..])? {
            match frame {
                Frame::Text(text) => match packets::read(text)? {
                    Packet::Event(event) => {
                        if event.starts_with("[\"fleet:changed\"") {
                            let rows = event.matches("{\"deviceId\":").count();
                            let rows = u64::try_from(rows)?;
                            followed.rows.fetch_add(rows, Ordering::Relaxed);
                        }
                        let bytes = u64::try_from(bytes)?;
                        followed.bytes.fetch_add(bytes, Ordering::Relaxed);
                    }
                    Packet::Answer(_, answer) => {
                        ensure!(answer.contains("\"ok\":true"), "refused: {answer}");
                        followed.ready.fetch_add(1, Ordering::Relaxed);
                    }
                    Packet::Ping => pings += 1,
                    other => bail!("unexpected: {other:?}"),
                },
                // Ours sends pings of Engine.IO only.
                other => bail!("unexpected: {other:?}"),
            }
            used += bytes;
        }
        stream.received.drain(..used);
        for _ in 0..pings {
            stream.send(packets::PONG).await?;
        }
    }
}
