//! The header that a proxy sends in front of a connection, with the address of its client: the PROXY protocol of `HAProxy`, versions 1 and 2.
//!
//! Only the header is read, not a byte behind it. So whatever follows, be it HTTP or TLS, is read by others as if there were no proxy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use shared::metrics::{Count, Meters};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::address_limit::AddressLimit;
use super::connection::AbortableStream;
use crate::client::log_limit::limited;
use crate::config::Config;

/// How a header of version 2 begins.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// How a header of version 1 begins.
const PREFIX: &[u8] = b"PROXY ";
/// Longest header of version 1, in bytes.
pub(super) const MAX_LINE: usize = 107;
/// The most bytes of a header of version 2 behind its first 16: two addresses, and what else a proxy sends. `HAProxy` and load
/// balancers of clouds send some 200.
pub(super) const MAX_REST: usize = 4096;

/// Whose headers are read. Every connection must begin with one.
#[derive(Clone, Debug)]
pub(crate) struct ProxyProtocol {
    limit: AddressLimit,
    /// Connections that were refused.
    refused: Count,
}

/// The client of a connection; `None` if the proxy has opened it for itself, to check this service.
pub(super) type Client = Option<IpAddr>;

impl ProxyProtocol {
    /// Returns `None` if the settings do not ask for it. `limit` knows the trusted proxies, and counts their clients.
    pub(crate) fn of(config: &Config, limit: AddressLimit, meters: &Meters) -> Option<Arc<Self>> {
        let refused = meters.count(
            "gateway.proxy.refused",
            "Connections closed because `--proxy-protocol` is given, and their peer is none of \
             `--trusted-proxies`, or began with something else than a PROXY header.",
        );
        if !config.proxy_protocol {
            return None;
        }
        Some(Arc::new(Self { limit, refused }))
    }

    /// Reads the header of a connection, and sets the address of the client in its handle.
    ///
    /// # Errors
    /// The peer is no trusted proxy, what it sends is no header, or the client has too many connections. The connection must be
    /// closed.
    pub(super) async fn begin(&self, stream: &mut AbortableStream) -> anyhow::Result<()> {
        let peer = stream.handle().peer();
        let client = self.read(peer, stream).await.inspect_err(|_| {
            self.refused.increment();
            limited(|suppressed| {
                tracing::warn!(
                    %peer,
                    held_back = suppressed,
                    "refused a connection without a PROXY header of a trusted proxy"
                );
            });
        })?;
        if let Some(client) = client {
            stream.handle().set_client(client);
            let place = self.limit.take(client);
            stream.count_for(place.context("the client has too many connections")?);
        }
        Ok(())
    }

    async fn read(&self, peer: IpAddr, stream: &mut AbortableStream) -> anyhow::Result<Client> {
        ensure!(
            self.limit.proxies.contains(peer),
            "the peer is no trusted proxy"
        );
        read_header(stream).await.context("no PROXY header")
    }
}

/// Reads a header of either version.
pub(super) async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Client> {
    // The shortest header has 15 bytes.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    let client = if start == SIGNATURE {
        read_binary(stream).await?
    } else if start.starts_with(PREFIX) {
        let line = read_line(stream, &start).await?;
        client_in_line(&line)
    } else {
        None
    };
    client.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Reads the rest of a header of version 2; `None` if it is not one.
async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Client>> {
    let [kind, family] = [stream.read_u8().await?, stream.read_u8().await?];
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_REST {
        return Ok(None);
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    Ok(client_in_binary(kind, family, &rest))
}

/// Reads the rest of a line of which this is the start, without what follows it.
async fn read_line(stream: &mut (impl AsyncRead + Unpin), start: &[u8]) -> io::Result<Vec<u8>> {
    let mut line = start.to_vec();
    while line.len() < MAX_LINE && !line.ends_with(b"\n") {
        line.push(stream.read_u8().await?);
    }
    Ok(line)
}

/// Reads the line `PROXY TCP4 <client> <server> <port> <port>`; `None` if it is another one.
fn client_in_line(line: &[u8]) -> Option<Client> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = line.split(' ').skip(1);
    let kind = words.next()?;
    if kind == "UNKNOWN" {
        return Some(None);
    }
    let [client, server] = [words.next()?.parse().ok()?, words.next()?.parse().ok()?];
    for _port in 0..2 {
        words.next()?.parse::<u16>().ok()?;
    }
    let is_read = words.next().is_none()
        && match (client, server) {
            (IpAddr::V4(_), IpAddr::V4(_)) => kind == "TCP4",
            (IpAddr::V6(_), IpAddr::V6(_)) => kind == "TCP6",
            _ => false,
        };
    is_read.then_some(Some(client))
}

/// Reads what follows the signature of version 2; `None` if it is no such header.
fn client_in_binary(kind: u8, family: u8, rest: &[u8]) -> Option<Client> {
    match kind {
        // The proxy checks this service.
        0x20 => return Some(None),
        0x21 => {}
        _ => return None,
    }
    match family {
        // The proxy does not know.
        0x00 => Some(None),
        // Client, server, and their ports. What follows is of no interest.
        0x11 if rest.len() >= 12 => {
            let client: [u8; 4] = *rest.first_chunk()?;
            Some(Some(Ipv4Addr::from(client).into()))
        }
        0x21 if rest.len() >= 36 => {
            let client: [u8; 16] = *rest.first_chunk()?;
            Some(Some(Ipv6Addr::from(client).into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
