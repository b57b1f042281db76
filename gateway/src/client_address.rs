//! The address of the client behind a request. Limits per address use it.
//!
//! A proxy hides the clients behind its own address and puts theirs into a header. Anybody can send such a header, so it counts
//! only on connections of a proxy in `--trusted-proxies`. A proxy may also send the peer of a whole connection in front of it
//! (`listener::proxy_protocol`).

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::header::FORWARDED;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that limits are counted by, in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientAddress(IpAddr);

impl ClientAddress {
    /// An IPv6 client usually has a whole /64 network, so all addresses of one count as one.
    pub(crate) fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                Self(Ipv6Addr::from(network).into())
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }

    /// The address of a request that did not come over a network.
    pub(crate) const fn unknown() -> Self {
        Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Without a connection, as in unit tests, all requests have one address.
impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let known = parts.extensions.get::<Self>().copied();
        Ok(known.unwrap_or_else(Self::unknown))
    }
}

/// The proxies whose headers are believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies {
    networks: Vec<Network>,
    header: ForwardedHeader,
}

/// The header into which a proxy puts the address of its client. It passes the other one on, as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ForwardedHeader {
    /// Either of the two. If both are there, they must say the same.
    #[default]
    Any,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

/// An entry of `--trusted-proxies` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` is not a network: expected an address, or one with a length such as `10.0.0.0/8`"
)]
pub(crate) struct NetworkError {
    entry: String,
}

/// The addresses that begin with the same bits. IPv4 addresses are compared in their IPv6 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    bits: u128,
    length: u32,
}

impl TrustedProxies {
    /// Parses the entries. Empty ones are skipped.
    pub(crate) fn parse(entries: &[String], header: ForwardedHeader) -> Result<Self, NetworkError> {
        let entries = entries.iter().map(|entry| entry.trim());
        let entries = entries.filter(|entry| !entry.is_empty());
        let networks = entries.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { networks, header })
    }

    /// Returns the client of a request on a connection from `peer`.
    ///
    /// Each proxy appends the address from which it received the request. So the list is read from its end, and the first
    /// address that is not a trusted proxy is the client: what stands before it may be invented.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        if !self.contains(peer) {
            return ClientAddress::new(peer);
        }
        let x_forwarded_for = || addresses(headers, &X_FORWARDED_FOR, |entry| Some(entry));
        let forwarded = || addresses(headers, &FORWARDED, forwarded_for);
        let chain = match self.header {
            ForwardedHeader::XForwardedFor => x_forwarded_for(),
            ForwardedHeader::Forwarded => forwarded(),
            ForwardedHeader::Any => match (x_forwarded_for(), forwarded()) {
                (chain, None) | (None, chain) => chain,
                // A proxy writes one of them, and the client may have invented the other.
                (one, other) => one.filter(|one| other.as_ref() == Some(one)),
            },
        };
        let mut client = peer;
        for address in chain.unwrap_or_default().into_iter().rev() {
            let Some(address) = address else { break };
            client = address;
            if !self.contains(address) {
                break;
            }
        }
        ClientAddress::new(client)
    }

    /// Returns whether this address is a trusted proxy.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|network| network.contains(address))
    }
}

/// Parses all values of a list header. `None` if the header is missing. An entry that is no address is `None` too.
fn addresses(
    headers: &HeaderMap,
    name: &HeaderName,
    address_in: fn(&str) -> Option<&str>,
) -> Option<Vec<Option<IpAddr>>> {
    let mut found = None;
    for value in headers.get_all(name) {
        let list: &mut Vec<_> = found.get_or_insert_default();
        let text = value.to_str().unwrap_or_default();
        list.extend(
            text.split(',')
                .map(|entry| parse_address(address_in(entry.trim())?)),
        );
    }
    found
}

/// Returns the address in an element of `Forwarded`, such as `for="[2001:db8::1]:4711";proto=https`.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for")
            .then(|| value.trim_matches('"'))
    })
}

/// Parses an address with or without a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']')?.0.parse().ok();
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    text.split_once(':')?.0.parse().ok()
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        let differing = self.bits ^ bits(address);
        differing.checked_shr(128 - self.length).unwrap_or(0) == 0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(entry: &str) -> Result<Self, NetworkError> {
        let parse = || {
            let (address, length) = match entry.split_once('/') {
                Some((address, length)) => (address, Some(length)),
                None => (entry, None),
            };
            let address: IpAddr = address.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let length = match length {
                Some(length) => length.parse().ok().filter(|length| *length <= longest)?,
                None => longest,
            };
            Some(Self {
                bits: bits(address),
                length: length + 128 - longest,
            })
        };
        parse().ok_or_else(|| NetworkError {
            entry: entry.to_owned(),
        })
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests;
