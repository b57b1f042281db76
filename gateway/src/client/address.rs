//! The network address of a client, as far as limits per address use it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Number of leading bits of an IPv6 address that count. One household or server usually gets all addresses behind them.
const IPV6_PREFIX: u32 = 64;

/// The address from which a request came, in its extensions. IPv6 addresses of one network count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientAddress(IpAddr);

impl ClientAddress {
    pub(crate) fn new(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let mask = u128::MAX << (u128::BITS - IPV6_PREFIX);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
            address @ IpAddr::V4(_) => address,
        })
    }

    /// The address of a request that did not come over a network.
    pub(crate) fn unknown() -> Self {
        Self(Ipv4Addr::UNSPECIFIED.into())
    }
}

#[cfg(test)]
mod tests;
