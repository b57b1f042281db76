//! The shutdown of a replica. It stops being ready, announces to every client when its connection will be closed, and closes
//! the connections one after the other, so that the clients do not all reconnect at the same time.

use std::time::Duration;

use shared::lifecycle::Lifecycle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::client::DRAIN_NOTICE;
use crate::client::close_reason::CloseReason;
use crate::clients::Clients;
use crate::monitor::Monitor;
use crate::shutdown_tokens::ShutdownTokens;

/// How long the last clients may take to disconnect, and then how long open requests may take.
pub const FINISH_PERIOD: Duration = Duration::from_secs(2);
/// How often it is checked whether the last clients have disconnected.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// How long the shutdown takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainPlan {
    /// From not being ready to the first close. Load balancers need this time to notice.
    pub(crate) delay: Duration,
    /// From the first close to the last.
    pub(crate) period: Duration,
}

impl DrainPlan {
    /// Returns the longest time until everything has ended, including clients that do not disconnect and the last requests.
    pub(crate) fn longest(self) -> Duration {
        self.delay + self.period + FINISH_PERIOD * 2
    }

    /// Returns when each of `count` clients is closed, counted from the beginning of the drain and spread evenly over the
    /// period.
    fn closings(self, count: u32) -> impl Iterator<Item = Duration> {
        let notice = DRAIN_NOTICE.min(self.period);
        let spread = self.period.saturating_sub(notice);
        (0..count).map(move |number| {
            self.delay + notice + spread.mul_f64(f64::from(number) / f64::from(count))
        })
    }
}

/// Waits for the soft stop and carries out the shutdown. A hard stop closes all connections at once.
pub(crate) async fn drain(
    lifecycle: Lifecycle,
    monitor: Monitor,
    clients: Clients,
    plan: DrainPlan,
    tokens: ShutdownTokens,
) -> anyhow::Result<()> {
    lifecycle.soft().cancelled().await;
    monitor.begin_drain();
    let started = Instant::now();
    // Clients that register after this see that the replica is draining.
    let connected = clients.all();
    let count = u32::try_from(connected.len()).unwrap_or(u32::MAX);
    tracing::info!(count, "closing the connections of all clients");
    for (client, after) in connected.iter().zip(plan.closings(count)) {
        client.announce_drain(after);
    }
    let close = async {
        sleep_until(started + plan.delay).await;
        // New connections are still accepted, as clients that poll need them until they are closed. New sessions are refused. Each
        // client is forgotten once it is closed, so that its place is free for them.
        for (client, after) in connected.into_iter().zip(plan.closings(count)) {
            sleep_until(started + after).await;
            client.close(CloseReason::Draining);
        }
    };
    if lifecycle.hard().run_until_cancelled(close).await.is_none() {
        for client in clients.all() {
            client.close(CloseReason::Draining);
        }
    }
    tokens.accepting.cancel();
    // Polling clients are closed by requests, for which their sessions must exist a little longer.
    let all_left = async {
        while clients.count() > 0 {
            sleep(CHECK_INTERVAL).await;
        }
    };
    if timeout(FINISH_PERIOD, all_left).await.is_err() {
        tracing::warn!(
            count = clients.count(),
            "clients did not disconnect in time"
        );
    }
    tokens.serving.cancel();
    Ok(())
}

#[cfg(test)]
mod tests;
