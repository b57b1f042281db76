//! The heartbeat of this ingest replica. Once a second, it pings Redis (which also measures the clock difference) and counts
//! the devices. While the subscription at the broker is active, it also reports in Redis that this replica is listening.

use std::time::{Duration, Instant};

use shared::error_chain::error_chain;
use shared::lifecycle::Lifecycle;
use shared::listening::Listening;
use shared::store::{self, Places, PlacesLeft, Store, StoreError};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::mqtt::shutdown::SessionAtExit;
use crate::mqtt::status::BrokerStatus;
use crate::quiet::{Notice, Observation, QuietWatch};

const INTERVAL: Duration = Duration::from_secs(1);

/// The result of the last heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastHeartbeat {
    /// Whether Redis answered, and refused nothing.
    pub(crate) redis_up: bool,
    /// Why Redis cannot be used; `None` while it can, and before the first heartbeat.
    pub(crate) redis_problem: Option<&'static str>,
    /// When Redis last answered; `None` if it never did.
    pub(crate) redis_answered_at: Option<Instant>,
    /// Whether a replica of an earlier release is at work, whose alarm rules are older; `None` before that was read.
    pub(crate) earlier_rules_at_work: Option<bool>,
    /// When at least one replica has been listening. `None` while this replica is not listening, or while Redis cannot be used:
    /// then no message is committed, so silence proves nothing.
    pub(crate) listening: Option<Listening>,
    /// Why Redis, which can be used, stores less than it should: it is full.
    pub(crate) redis_full: Option<&'static str>,
    /// Whether the subscription has brought no message for `--quiet-after`, although devices are known.
    pub(crate) is_quiet: bool,
    /// Which unknown devices are accepted.
    pub(crate) places: PlacesLeft,
    /// Number of places that are taken.
    pub(crate) places_taken: u64,
}

/// How often the places are compared with the device lists while their numbers differ. They do while a device is being stored.
const COMPARE_AGAIN: Duration = Duration::from_secs(10);
/// How often they are compared if nothing shows a difference.
const COMPARE_ANYWAY: Duration = Duration::from_mins(10);
/// How often silent devices are looked for that no deadline would forget.
const REVISIT_SILENT: Duration = Duration::from_mins(10);

/// What is known of the places for devices.
#[derive(Debug, Default)]
struct PlaceWatch {
    taken: u64,
    left: PlacesLeft,
    compared_at: Option<Instant>,
    revisited_at: Option<Instant>,
}

fn is_older_than(time: Option<Instant>, age: Duration) -> bool {
    time.is_none_or(|at| at.elapsed() >= age)
}

/// The outcome of one heartbeat.
enum Report {
    /// Redis can be used.
    Sent {
        /// See [`LastHeartbeat::listening`].
        listening: Option<Listening>,
    },
    /// Redis answers, and has refused work of this process.
    Refused { reason: &'static str },
}

/// The task that sends the heartbeat.
pub(crate) struct Heartbeat {
    pub(crate) store: Store,
    pub(crate) broker: BrokerStatus,
    pub(crate) client_id: String,
    pub(crate) topics: Vec<String>,
    pub(crate) places: Places,
    pub(crate) forget_after: Duration,
    pub(crate) quiet_after: Duration,
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
        let mut last_problem = None;
        let mut heartbeats = 0;
        let mut quiet = QuietWatch::new(self.quiet_after);
        let mut places = PlaceWatch::default();
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
            heartbeats += 1;
            let result = self
                .check_and_report(heartbeats, &mut quiet, &mut places)
                .await;
            let earlier_rules = self.store.earlier_rules_at_work().await;
            let problem = match &result {
                Ok(Report::Sent { .. }) => None,
                Ok(Report::Refused { reason }) => Some(*reason),
                Err(err) => Some(err.reason()),
            };
            self.last.send_modify(|last| {
                if let Ok(at_work) = earlier_rules {
                    if at_work != last.earlier_rules_at_work.unwrap_or(false) {
                        log_gate(at_work);
                    }
                    last.earlier_rules_at_work = Some(at_work);
                }
                last.redis_up = problem.is_none();
                last.redis_problem = problem;
                last.redis_full = self.store.full();
                last.is_quiet = quiet.is_quiet();
                last.places = places.left;
                last.places_taken = places.taken;
                last.listening = match result {
                    Ok(Report::Sent { listening }) => listening,
                    _ => None,
                };
                if problem.is_none() {
                    last.redis_answered_at = Some(Instant::now());
                }
            });
            match problem {
                Some(reason) if last_problem != Some(reason) => {
                    let error = result.err().map(|err| error_chain(&err));
                    tracing::error!(
                        reason,
                        error,
                        "Redis cannot be used: no message is acknowledged until it can"
                    );
                }
                None if last_problem.is_some() => tracing::info!("Redis can be used again"),
                _ => {}
            }
            last_problem = problem;
        }
        self.session_at_exit.send_replace(self.withdraw().await);
        Ok(())
    }

    /// Pings Redis, checks that it accepts writes, counts the devices and, while the subscription is active, reports it.
    /// `number` is that of this heartbeat.
    async fn check_and_report(
        &self,
        number: u64,
        quiet: &mut QuietWatch,
        places: &mut PlaceWatch,
    ) -> Result<Report, StoreError> {
        self.store.ping().await?;
        self.store.check_writes(number).await?;
        // A right may be missing on the keys of some devices only. Their messages are tried again and again.
        if let Some(reason) = self.store.recent_refusal() {
            return Ok(Report::Refused { reason });
        }
        let devices = self.store.count_devices().await?;
        self.watch_places(places, devices).await?;
        self.revisit_silent(places).await?;
        self.watch_for_silence(quiet, devices);
        let mut listening = None;
        if self.broker.is_subscribed() {
            listening = Some(
                self.store
                    .report(
                        &self.client_id,
                        store::Report {
                            topics: &self.topics,
                            is_quiet: quiet.is_quiet(),
                            places: places.left,
                        },
                    )
                    .await?,
            );
        }
        Ok(Report::Sent { listening })
    }

    /// Finds out whether there are places for unknown devices. A key that cannot be used is no error: only unknown devices are affected.
    async fn watch_places(&self, watch: &mut PlaceWatch, devices: u64) -> Result<(), StoreError> {
        let all = self.places.devices + self.places.reserve;
        let left = match self.count_places(watch, devices).await {
            Ok(()) if watch.taken >= all => PlacesLeft::NoneLeft,
            Ok(()) if watch.taken >= self.places.devices => PlacesLeft::ForDanger,
            Ok(()) => PlacesLeft::ForAll,
            Err(err) if err.is_transient() => return Err(err),
            Err(err) => {
                if watch.left != PlacesLeft::Uncounted {
                    let error = error_chain(&err);
                    tracing::error!(
                        error,
                        "the key of the places of devices cannot be used: messages of unknown devices become dead letters"
                    );
                }
                PlacesLeft::Uncounted
            }
        };
        if left != watch.left {
            self.log_places(left, watch.taken, devices).await;
        }
        watch.left = left;
        Ok(())
    }

    /// Logs that other unknown devices are accepted than before.
    async fn log_places(&self, left: PlacesLeft, places_taken: u64, devices: u64) {
        match left {
            PlacesLeft::ForAll => {
                tracing::info!(devices, "there are places for unknown devices again");
            }
            PlacesLeft::ForDanger => {
                let reserve_left = self.places.devices + self.places.reserve - places_taken;
                tracing::error!(
                    devices,
                    places_taken,
                    reserve_left,
                    "--max-devices is reached: messages of unknown devices become dead letters, unless they show a danger: \
                     --alarm-reserve has places"
                );
            }
            PlacesLeft::NoneLeft => {
                // Without a name the line is still worth writing.
                let last = self.store.last_place().await.ok().flatten();
                tracing::error!(
                    devices,
                    places_taken,
                    device.id =
                        last.map(|device| tracing::field::display(device.for_log().into_owned())),
                    "--max-devices and --alarm-reserve are used up: messages of unknown devices become dead letters, also those \
                     that show a danger. The named device took the last place"
                );
            }
            // Logged with its error.
            PlacesLeft::Uncounted => {}
        }
    }

    /// Counts the places that are taken. Compares them with the device lists where the numbers differ, and now and then anyway.
    async fn count_places(&self, watch: &mut PlaceWatch, devices: u64) -> Result<(), StoreError> {
        watch.taken = self.store.count_places().await?;
        let differs = watch.taken != devices && is_older_than(watch.compared_at, COMPARE_AGAIN);
        if differs || is_older_than(watch.compared_at, COMPARE_ANYWAY) {
            self.store.reconcile_places().await?;
            watch.compared_at = Some(Instant::now());
            watch.taken = self.store.count_places().await?;
        }
        Ok(())
    }

    /// Now and then makes the timers look at silent devices.
    async fn revisit_silent(&self, watch: &mut PlaceWatch) -> Result<(), StoreError> {
        if !self.forget_after.is_zero() && is_older_than(watch.revisited_at, REVISIT_SILENT) {
            self.store.revisit_silent(self.forget_after).await?;
            watch.revisited_at = Some(Instant::now());
        }
        Ok(())
    }

    /// Logs when the subscription becomes quiet, and when that ends.
    fn watch_for_silence(&self, quiet: &mut QuietWatch, devices: u64) {
        let notice = quiet.observe(Observation {
            quiet_for: self.broker.quiet_for(),
            unacknowledged: self.broker.unacknowledged(),
            received: self.broker.received(),
            devices,
        });
        let topics = self.topics.join(", ");
        let quiet_after = self.quiet_after;
        match notice {
            Some(Notice::Quiet) => tracing::warn!(
                topics,
                ?quiet_after,
                devices,
                "the subscription is active and brings no message, although detectors are known: check the detectors, and \
                 where they publish"
            ),
            Some(Notice::Ended) => tracing::info!(topics, "messages arrive again"),
            Some(Notice::NothingEver) => tracing::warn!(
                topics,
                ?quiet_after,
                "no message has ever arrived: a granted subscription does not show that anything is published. Compare \
                 --mqtt-topic with the topic of the detectors"
            ),
            None => {}
        }
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
