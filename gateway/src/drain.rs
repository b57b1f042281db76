//! The stop of a replica: it is not ready at once, tells every client when it will be closed, and closes them one by
//! one, so that those who come back do not all do so at once.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use shared::lifecycle::Lifecycle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::monitor::Monitor;
use crate::socket::{Clients, LetGo};

/// What the last clients get to be gone, and then what open requests get.
pub const FINISH_PERIOD: Duration = Duration::from_secs(2);
/// What a client has between being told and being closed at least: the message must be on its way before.
pub(crate) const NOTICE: Duration = Duration::from_millis(100);

const EVENT: &str = "server:drain";

/// How long the stop takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// From not being ready to the first close: load balancers notice late.
    pub(crate) delay: Duration,
    /// From the first close to the last.
    pub(crate) period: Duration,
}

impl Plan {
    /// Everything, the last requests and clients that do not go included.
    pub(crate) fn longest(self) -> Duration {
        self.delay + self.period + FINISH_PERIOD * 2
    }

    /// When each of so many clients is closed, counted from the beginning: evenly over the period.
    fn closings(self, count: u32) -> impl Iterator<Item = Duration> {
        let notice = NOTICE.min(self.period);
        let spread = self.period.saturating_sub(notice);
        (0..count).map(move |number| {
            self.delay + notice + spread.mul_f64(f64::from(number) / f64::from(count))
        })
    }
}

/// The tokens that end parts of the service in turn.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// Nothing is accepted any more.
    pub(crate) accepting: CancellationToken,
    /// The last client is gone.
    pub(crate) everything: CancellationToken,
}

/// Payload of `server:drain`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Notice {
    reconnect_in_ms: u64,
}

/// Tells a client that it will be closed after this time.
fn tell(client: &crate::socket::Client, after: Duration) {
    let notice = Notice {
        reconnect_in_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
    };
    let payload: Arc<RawValue> = serde_json::value::to_raw_value(&notice)
        .expect("structs of numbers always serialise")
        .into();
    client.send(EVENT, &payload);
}

/// Closes a client whose session was opened just before the drain, which may not know of it; else never ends.
pub(crate) async fn turn_away(client: &crate::socket::Client, is_draining: bool) {
    if !is_draining {
        std::future::pending::<()>().await;
    }
    tell(client, NOTICE);
    sleep(NOTICE).await;
    client.let_go(LetGo::Draining);
}

/// Waits for the stop and carries it out; a hard stop skips what is left of it.
pub(crate) async fn drain(
    lifecycle: Lifecycle,
    monitor: Monitor,
    clients: Clients,
    plan: Plan,
    ends: Ends,
) -> anyhow::Result<()> {
    lifecycle.soft().cancelled().await;
    monitor.begin_drain();
    let begun = Instant::now();
    // Whoever registers from here on sees that we drain.
    let present = clients.all();
    let count = u32::try_from(present.len()).unwrap_or(u32::MAX);
    tracing::info!(count, "closing clients");
    for (client, after) in present.iter().zip(plan.closings(count)) {
        tell(client, after);
    }
    let close = async {
        sleep_until(begun + plan.delay).await;
        // Clients that poll may need new connections until their turn has come; new sessions are refused.
        for (client, after) in present.iter().zip(plan.closings(count)) {
            sleep_until(begun + after).await;
            client.let_go(LetGo::Draining);
        }
    };
    lifecycle.hard().run_until_cancelled(close).await;
    ends.accepting.cancel();
    // Polling clients are closed by requests, which need the sessions for a moment longer.
    let left = async {
        while clients.count() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(FINISH_PERIOD, left).await.is_err() {
        tracing::warn!(count = clients.count(), "clients did not go");
    }
    ends.everything.cancel();
    Ok(())
}

#[cfg(test)]
mod tests;
