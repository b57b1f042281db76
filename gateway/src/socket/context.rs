//! The handles and limits that the tasks of all connections share.

use std::sync::Arc;
use std::time::Duration;

use shared::lifecycle::Lifecycle;
use tokio_util::sync::CancellationToken;

use crate::access::credential::Credential;
use crate::access::expiry::TokenExpiry;
use crate::access::identity::Identity;
use crate::access::{Access, NotAdmitted};
use crate::admission::Admission;
use crate::admission::caller::Caller;
use crate::admission::connections::CallerPlace;
use crate::admission::signature_checks::Payer;
use crate::audit::{Actor, AuditTrail};
use crate::client::Admitted;
use crate::client_address::ClientAddress;
use crate::clients::Clients;
use crate::config::{Config, SPARE_COMMANDS};
use crate::feeds::Feeds;
use crate::metrics::SocketMetrics;
use crate::monitor::Monitor;
use crate::packet_budget::PacketRate;
use crate::relay::Relay;
use crate::watches::Watches;

/// The handles and limits that the tasks of all connections share.
pub(crate) struct ConnectionContext {
    pub(crate) access: Access,
    pub(crate) audit: AuditTrail,
    pub(crate) token_expiry: TokenExpiry,
    pub(crate) clients: Clients,
    pub(crate) relay: Relay,
    pub(crate) feeds: Feeds,
    pub(crate) monitor: Monitor,
    pub(crate) watches: Watches,
    /// Decides who may open a session, and what happens to a client that exceeds a limit.
    pub(crate) admission: Admission,
    pub(crate) metrics: Arc<SocketMetrics>,
    pub(crate) lifecycle: Lifecycle,
    /// Cancelled when every client should have disconnected.
    pub(crate) serving: CancellationToken,
    pub(crate) limits: ConnectionLimits,
    /// Compression is agreed on with clients that offer it.
    pub(crate) compress: bool,
}

/// The limits of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Maximum number of devices that one client may subscribe to.
    pub(super) max_subscriptions: usize,
    /// How many packets a client may send.
    pub(super) packet_rate: PacketRate,
    /// Longest message of a client, in bytes.
    pub(super) max_event_bytes: usize,
    /// How long a client may take to join the namespace, and to finish an upgrade.
    pub(super) connect_timeout: Duration,
    pub(super) ping_interval: Duration,
    /// How long after a ping something must arrive.
    pub(super) ping_timeout: Duration,
}

impl ConnectionLimits {
    /// Returns how many commands of one client may wait.
    pub(super) fn max_commands(&self) -> usize {
        self.max_subscriptions + SPARE_COMMANDS
    }

    pub(crate) fn new(config: &Config) -> Self {
        Self {
            max_subscriptions: config.subscriptions_per_client,
            packet_rate: PacketRate::new(config.packet_rate, config.subscriptions_per_client),
            max_event_bytes: config.max_event_bytes,
            connect_timeout: config.connect_timeout,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
        }
    }
}

impl ConnectionContext {
    /// Returns who shows this, with its place among the clients of its subject. Clients that are not admitted are counted, and are
    /// in the audit trail.
    pub(super) async fn admit(
        &self,
        credential: &Credential,
        address: ClientAddress,
    ) -> Result<Admitted, NotAdmitted> {
        let payer = self.payer(address);
        self.placed(self.access.admit(credential, Some(payer)).await, address)
    }

    /// As [`Self::admit`], and never waits.
    pub(super) fn admit_now(
        &self,
        credential: &Credential,
        address: ClientAddress,
    ) -> Result<Admitted, NotAdmitted> {
        let payer = self.payer(address);
        self.placed(self.access.admit_now(credential, Some(payer)), address)
    }

    /// Returns who pays for the check of a token that somebody at this address shows.
    pub(super) fn payer(&self, address: ClientAddress) -> Payer<'_> {
        self.admission.payer(Caller::Address(address))
    }

    fn placed(
        &self,
        admitted: Result<Arc<Identity>, NotAdmitted>,
        address: ClientAddress,
    ) -> Result<Admitted, NotAdmitted> {
        let admitted = admitted.and_then(|identity| {
            let place = match identity.subject() {
                Some(subject) => self.admission.join(subject),
                None => Some(CallerPlace::uncounted()),
            };
            let place = place.ok_or(NotAdmitted::TooManyConnections)?;
            Ok(Admitted { identity, place })
        });
        admitted.inspect_err(|error| {
            self.metrics.not_admitted.increment(error.code());
            let actor = Actor {
                identity: None,
                address,
            };
            self.audit.refused(actor, error.code(), "connect", None);
        })
    }

    /// Starts a task of one connection. It ends at the latest when the replica has finished its drain.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let serving = self.serving.clone();
        // On the heap, as each function that a future passes through keeps room for it.
        let task = Box::pin(task);
        self.lifecycle.spawn_short(name, async move {
            serving.run_until_cancelled(task).await;
        });
    }
}
