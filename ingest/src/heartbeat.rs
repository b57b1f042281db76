//! The heartbeat of this ingest replica. Once a second, it pings Redis (which also measures the clock difference) and counts
//! the devices. While the subscription at the broker is active, it also reports in Redis that this replica is listening.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shared::clock::Time;
use shared::error_chain::error_chain;
use shared::lifecycle::Lifecycle;
use shared::store::{Store, StoreError};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::mqtt::shutdown::SessionAtExit;
use crate::mqtt::status::BrokerStatus;

const INTERVAL: Duration = Duration::from_secs(1);

/// The result of the last heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastHeartbeat {
    /// Whether Redis answered.
    pub(crate) redis_up: bool,
    /// When Redis last answered; `None` if it never did.
    pub(crate) redis_answered_at: Option<Instant>,
    /// Whether a replica of an earlier release is at work, whose alarm rules are older.
    pub(crate) earlier_rules_at_work: bool,
    /// Start of the time without interruption in which at least one replica has been listening. `None` while this replica is
    /// not listening, or while Redis does not answer.
    pub(crate) listening_since: Option<Time>,
}

/// The task that sends the heartbeat.
pub(crate) struct Heartbeat {
    pub(crate) store: Store,
    pub(crate) broker: BrokerStatus,
    pub(crate) client_id: String,
    pub(crate) topics: Vec<String>,
    pub(crate) max_devices: u64,
    /// Set here: whether messages of unknown devices are accepted.
    pub(crate) accept_new_devices: Arc<AtomicBool>,
    pub(crate) last: watch::Sender<LastHeartbeat>,
    /// Receives the decision at shutdown: whether the MQTT session is kept or removed.
    pub(crate) session_at_exit: watch::Sender<SessionAtExit>,
}

fn log_gate(earlier_rules_at_work: bool) {
    if earlier_rules_at_work {
        tracing::info!(
            "an ingest replica of an earlier release is at work: alarms that it does not know are held back, and devices with \
             such a danger are shown in ALARM"
        );
    } else {
        tracing::info!("no ingest replica of an earlier release is at work any more");
    }
}

impl Heartbeat {
    pub(crate) async fn run(self, lifecycle: Lifecycle) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_up = true;
        let mut broker = self.broker.clone();
        loop {
            tokio::select! {
                // A stop also changes the state of the broker's connection. It must not cause one more report.
                biased;
                () = lifecycle.soft().cancelled() => break,
                _ = tick.tick() => {}
                // A new subscription is reported at once.
                () = broker.changed() => {}
            }
            let result = self.check_and_report().await;
            let earlier_rules = self.store.earlier_rules_at_work().await;
            self.last.send_modify(|last| {
                if let Ok(at_work) = earlier_rules {
                    if at_work != last.earlier_rules_at_work {
                        log_gate(at_work);
                    }
                    last.earlier_rules_at_work = at_work;
                }
                last.redis_up = result.is_ok();
                last.listening_since = result.as_ref().ok().copied().flatten();
                if result.is_ok() {
                    last.redis_answered_at = Some(Instant::now());
                }
            });
            match &result {
                Err(err) if was_up => {
                    let error = error_chain(err);
                    tracing::error!(
                        error,
                        "Redis unavailable: no message is acknowledged until it answers"
                    );
                }
                Ok(_) if !was_up => tracing::info!("Redis answers again"),
                _ => {}
            }
            was_up = result.is_ok();
        }
        self.session_at_exit.send_replace(self.withdraw().await);
        Ok(())
    }

    /// Pings Redis, counts the devices and, while the subscription is active, reports it. Returns the new
    /// [`LastHeartbeat::listening_since`].
    async fn check_and_report(&self) -> Result<Option<Time>, StoreError> {
        self.store.ping().await?;
        let devices = self.store.count_devices().await?;
        let accept_new = devices < self.max_devices;
        if self.accept_new_devices.swap(accept_new, Ordering::Relaxed) && !accept_new {
            tracing::error!(
                devices,
                "--max-devices is reached: messages of unknown devices become dead letters"
            );
        }
        if !self.broker.is_subscribed() {
            return Ok(None);
        }
        self.store
            .report(&self.client_id, &self.topics)
            .await
            .map(Some)
    }

    /// Withdraws the report of this replica, then looks for reports of other replicas. If all replicas stop at once, the
    /// last one finds none and keeps its session.
    async fn withdraw(&self) -> SessionAtExit {
        // A report that cannot be withdrawn expires after three seconds.
        if self.store.withdraw(&self.client_id).await.is_err() {
            return SessionAtExit::Keep;
        }
        match self.store.ingest_status().await {
            Ok(others) if others.is_listening() => SessionAtExit::Remove,
            _ => SessionAtExit::Keep,
        }
    }
}
