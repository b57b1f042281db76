//! Writes what people did and what was refused into the audit trail in Redis, beside the requests: none waits for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TraceContextExt as _;
use shared::clock::Clock;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::metrics::Count;
use shared::rate_limit::RateLimit;
use shared::store::{AuditEntry, AuditPart, Store};
use shared::visible_text::{clean, cut};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::access::identity::Identity;
use crate::client::log_limit::limited;
use crate::client_address::ClientAddress;

/// Entries of each part that may wait for Redis.
const WAITING: usize = 1024;
/// Pause before the next try to write what somebody did.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest text of an entry, in bytes.
const MAX_TEXT: usize = 256;

/// Takes entries. Clones share everything.
#[derive(Clone)]
pub(crate) struct AuditTrail {
    done: Sender<AuditEntry>,
    refused: Sender<AuditEntry>,
    sessions: Sender<AuditEntry>,
    /// Refusals can come in any number.
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

/// What somebody changed about a device.
#[derive(Clone, Copy)]
pub(crate) struct Done<'a> {
    pub(crate) action: &'static str,
    /// The name that others are shown.
    pub(crate) name: &'a str,
    pub(crate) device: &'a DeviceId,
    /// The alarm, or the new profile.
    pub(crate) detail: Option<&'a str>,
    /// What was written beside an acknowledgement.
    pub(crate) note: Option<&'a str>,
}

impl AuditTrail {
    /// Also returns what writes the entries. `lost`: counts those that could not be written.
    pub(crate) fn new(clock: Arc<dyn Clock>, lost: Count) -> (Self, AuditWriter) {
        let (done, waiting_done) = channel(WAITING);
        let (refused, waiting_refused) = channel(WAITING);
        let (sessions, waiting_sessions) = channel(WAITING);
        let trail = Self {
            done,
            refused,
            sessions,
            refusals: Arc::new(RateLimit::six_hundred_per_minute()),
            clock,
            lost: lost.clone(),
        };
        let writer = AuditWriter {
            done: waiting_done,
            refused: waiting_refused,
            sessions: waiting_sessions,
            lost,
        };
        (trail, writer)
    }

    /// Adds that somebody changed something about a device.
    pub(crate) fn done(&self, actor: Actor<'_>, done: Done<'_>) {
        self.add(
            &self.done,
            AuditEntry {
                name: Some(shown(done.name)),
                device_id: Some(shown(done.device.as_str())),
                detail: done.detail.map(shown),
                // It is fit for a screen, and its length is bounded, where it is read.
                note: done.note.map(str::to_owned),
                ..entry(done.action, actor)
            },
        );
    }

    /// Adds that somebody was refused. `asked`: what for, made into text only if it is added; `device`: as the client wrote it.
    pub(crate) fn refused(
        &self,
        actor: Actor<'_>,
        reason: &'static str,
        asked: impl fmt::Display,
        device: Option<&str>,
    ) {
        if let Some(left_out) = self.refusals.allow(self.clock.now()) {
            self.add(
                &self.refused,
                AuditEntry {
                    reason: Some(reason.to_owned()),
                    detail: Some(shown(&asked.to_string())),
                    device_id: device.map(shown),
                    left_out,
                    ..entry("refused", actor)
                },
            );
        }
    }

    /// Adds that somebody signed in or out. `session`: its id, if it has one.
    pub(crate) fn session(&self, action: &'static str, actor: Actor<'_>, session: Option<&str>) {
        self.add(
            &self.sessions,
            AuditEntry {
                detail: session.map(shown),
                ..entry(action, actor)
            },
        );
    }

    /// Adds that this replica started with these settings.
    pub(crate) fn started(&self, settings: &str) {
        self.add(
            &self.done,
            AuditEntry {
                id: new_id(),
                action: "started".to_owned(),
                detail: Some(shown(settings)),
                ..AuditEntry::default()
            },
        );
    }

    fn add(&self, part: &Sender<AuditEntry>, entry: AuditEntry) {
        if part.try_send(entry).is_err() {
            self.lost.increment();
        }
    }
}

fn entry(action: &str, actor: Actor<'_>) -> AuditEntry {
    let context = tracing::Span::current().context();
    let span = context.span().span_context().clone();
    let identity = actor.identity;
    AuditEntry {
        id: new_id(),
        action: action.to_owned(),
        subject: identity.and_then(Identity::subject).map(shown),
        name: identity.and_then(Identity::shown_name).map(shown),
        address: Some(actor.address.to_string()),
        trace_id: span.is_valid().then(|| span.trace_id().to_string()),
        ..AuditEntry::default()
    }
}

fn new_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn shown(text: &str) -> String {
    cut(&clean(text), MAX_TEXT).to_owned()
}

/// Writes the entries that were added.
pub(crate) struct AuditWriter {
    done: Receiver<AuditEntry>,
    refused: Receiver<AuditEntry>,
    sessions: Receiver<AuditEntry>,
    lost: Count,
}

impl AuditWriter {
    /// Writes until `finish` is cancelled, and then what still waits.
    pub(crate) async fn run(self, store: Store, finish: CancellationToken) {
        let Self {
            done,
            mut refused,
            sessions,
            lost,
        } = self;
        let writing_done = write_all(&store, AuditPart::Done, done, &lost, &finish);
        let writing_sessions = write_all(&store, AuditPart::Sessions, sessions, &lost, &finish);
        let writing_refused = async {
            while let Some(Some(entry)) = finish.run_until_cancelled(refused.recv()).await {
                if !write(&store, AuditPart::Refused, &entry, Try::First).await {
                    lost.increment();
                }
            }
            write_rest(&store, AuditPart::Refused, &mut refused, &lost).await;
        };
        tokio::join!(writing_done, writing_sessions, writing_refused);
    }
}

/// Writes each entry as soon as Redis can, until `finish` is cancelled, and then what still waits.
async fn write_all(
    store: &Store,
    part: AuditPart,
    mut waiting: Receiver<AuditEntry>,
    lost: &Count,
    finish: &CancellationToken,
) {
    while let Some(Some(entry)) = finish.run_until_cancelled(waiting.recv()).await {
        let mut written = write(store, part, &entry, Try::First).await;
        while !written {
            let pause = finish.run_until_cancelled(sleep(RETRY_PAUSE));
            if pause.await.is_none() {
                lost.increment();
                break;
            }
            written = write(store, part, &entry, Try::Again).await;
        }
    }
    write_rest(store, part, &mut waiting, lost).await;
}

/// Writes what waits, each entry with one try.
async fn write_rest(
    store: &Store,
    part: AuditPart,
    waiting: &mut Receiver<AuditEntry>,
    lost: &Count,
) {
    while let Ok(entry) = waiting.try_recv() {
        if !write(store, part, &entry, Try::First).await {
            lost.increment();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Try {
    First,
    /// The one before has failed, perhaps after it was written.
    Again,
}

/// Returns whether it was written.
async fn write(store: &Store, part: AuditPart, entry: &AuditEntry, tried: Try) -> bool {
    let written = match tried {
        Try::First => store.write_audit(part, entry).await,
        Try::Again => store.write_audit_again(part, entry).await,
    };
    if let Err(error) = &written {
        limited(|held_back| {
            tracing::warn!(
                held_back,
                error = error_chain(error),
                action = entry.action,
                subject = entry.subject,
                "cannot write an entry of the audit trail"
            );
        });
    }
    written.is_ok()
}
