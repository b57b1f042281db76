//! The most connections that the clients of one network address may have. Connections of proxies count for nobody: they are shared
//! by many clients.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::admission::Admission;
use crate::admission::caller::Caller;
use crate::admission::connections::CallerPlace;
use crate::admission::limited::Limited;
use crate::client_address::{ClientAddress, TrustedProxies};

/// Counts connections by the address of their peers.
#[derive(Clone, Debug)]
pub(crate) struct AddressLimit {
    pub(crate) admission: Admission,
    pub(crate) proxies: Arc<TrustedProxies>,
}

impl AddressLimit {
    /// Counts a connection of this peer until the place is dropped; `None` if it must be refused.
    pub(super) fn take(&self, peer: IpAddr) -> Option<CallerPlace> {
        if self.proxies.contains(peer) {
            return Some(CallerPlace::uncounted());
        }
        let caller = Caller::Address(ClientAddress::new(peer));
        self.admission.open_connection(caller)
    }

    /// Counts a TLS handshake of this peer.
    ///
    /// # Errors
    /// The connection must be closed.
    pub(super) fn begin_tls(&self, peer: IpAddr) -> Result<(), Limited> {
        if self.proxies.contains(peer) {
            return Ok(());
        }
        let caller = Caller::Address(ClientAddress::new(peer));
        self.admission.begin_tls(caller, Instant::now())
    }
}

#[cfg(test)]
mod tests;
