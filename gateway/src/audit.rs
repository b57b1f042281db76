//! Writes what people did and what was refused into the audit trail in Redis, beside the requests: none waits for it.

use std::sync::Arc;

use opentelemetry::trace::TraceContextExt as _;
use shared::clock::Clock;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::metrics::Count;
use shared::rate_limit::RateLimit;
use shared::store::{AuditEntry, Store};
use shared::visible_text::{clean, cut};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::access::identity::Identity;
use crate::client::log_limit::limited;
use crate::client_address::ClientAddress;

/// Entries that may wait for Redis.
const WAITING: usize = 1024;
/// The longest text of an entry, in bytes.
const MAX_TEXT: usize = 256;

/// Takes entries. Clones share everything.
#[derive(Clone)]
pub(crate) struct AuditTrail {
    sender: Sender<AuditEntry>,
    /// Refusals can come in any number. What people did is never left out.
    refusals: Arc<RateLimit>,
    clock: Arc<dyn Clock>,
    lost: Count,
}

/// Who did something, and from where.
#[derive(Clone, Copy)]
pub(crate) struct Actor<'a> {
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) address: ClientAddress,
}

impl AuditTrail {
    /// Also returns what writes the entries. `lost`: counts those that could not be written.
    pub(crate) fn new(clock: Arc<dyn Clock>, lost: Count) -> (Self, AuditWriter) {
        let (sender, waiting) = channel(WAITING);
        let trail = Self {
            sender,
            refusals: Arc::new(RateLimit::six_hundred_per_minute()),
            clock,
            lost: lost.clone(),
        };
        (trail, AuditWriter { waiting, lost })
    }

    /// Adds that somebody changed something about a device. `detail`: the alarm.
    pub(crate) fn changed(
        &self,
        action: &'static str,
        actor: Actor<'_>,
        name: &str,
        device: &DeviceId,
        detail: Option<&str>,
    ) {
        self.add(AuditEntry {
            name: Some(shown(name)),
            device_id: Some(shown(device.as_str())),
            detail: detail.map(shown),
            ..entry(action, actor)
        });
    }

    /// Adds that somebody was refused. `asked`: what for; `device`: as the client wrote it.
    pub(crate) fn refused(
        &self,
        actor: Actor<'_>,
        reason: &'static str,
        asked: &str,
        device: Option<&str>,
    ) {
        if let Some(left_out) = self.refusals.allow(self.clock.now()) {
            self.add(AuditEntry {
                reason: Some(reason.to_owned()),
                detail: Some(shown(asked)),
                device_id: device.map(shown),
                left_out,
                ..entry("refused", actor)
            });
        }
    }

    /// Adds that this replica started with these settings.
    pub(crate) fn started(&self, settings: &str) {
        self.add(AuditEntry {
            action: "started".to_owned(),
            detail: Some(shown(settings)),
            ..AuditEntry::default()
        });
    }

    fn add(&self, entry: AuditEntry) {
        if self.sender.try_send(entry).is_err() {
            self.lost.increment();
        }
    }
}

fn entry(action: &str, actor: Actor<'_>) -> AuditEntry {
    let context = tracing::Span::current().context();
    let span = context.span().span_context().clone();
    let identity = actor.identity;
    AuditEntry {
        action: action.to_owned(),
        subject: identity.and_then(Identity::subject).map(shown),
        name: identity.and_then(Identity::shown_name).map(shown),
        address: Some(actor.address.to_string()),
        trace_id: span.is_valid().then(|| span.trace_id().to_string()),
        ..AuditEntry::default()
    }
}

fn shown(text: &str) -> String {
    cut(&clean(text), MAX_TEXT).to_owned()
}

/// Writes the entries that were added.
pub(crate) struct AuditWriter {
    waiting: Receiver<AuditEntry>,
    lost: Count,
}

impl AuditWriter {
    /// Writes until `finish` is cancelled, and then what still waits.
    pub(crate) async fn run(mut self, store: Store, finish: CancellationToken) {
        while let Some(Some(entry)) = finish.run_until_cancelled(self.waiting.recv()).await {
            self.write(&store, &entry).await;
        }
        while let Ok(entry) = self.waiting.try_recv() {
            self.write(&store, &entry).await;
        }
    }

    async fn write(&self, store: &Store, entry: &AuditEntry) {
        if let Err(error) = store.write_audit(entry).await {
            self.lost.increment();
            limited(|held_back| {
                tracing::warn!(
                    held_back,
                    error = error_chain(&error),
                    action = entry.action,
                    subject = entry.subject,
                    "cannot write an entry of the audit trail"
                );
            });
        }
    }
}
