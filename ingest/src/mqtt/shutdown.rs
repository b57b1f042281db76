//! Keeps or removes the MQTT session when the process stops.
//!
//! Normally the broker keeps it, with all messages that are not acknowledged. In a share group in which other members
//! listen, it is emptied and removed: no other member would get the messages that it keeps.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::connection_end::ConnectionEnd;
use super::protocol::{ClientOptions, Packet, Request};

/// Whether a member of a share group keeps or removes its session when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionAtExit {
    /// Not decided yet. If the sender is dropped before it decides, the session is kept.
    Undecided,
    /// No other member listens: the session keeps the messages.
    Keep,
    /// Other members listen: the broker sends them the messages.
    Remove,
}

/// Waits for the decision. Cancel-safe.
pub(super) async fn decided(decision: &mut watch::Receiver<SessionAtExit>) -> SessionAtExit {
    let decided = decision.wait_for(|session| *session != SessionAtExit::Undecided);
    decided
        .await
        .map_or(SessionAtExit::Keep, |session| *session)
}

/// Removes our session, which is empty and has no subscription. If that fails, the session does no harm until it expires.
pub(super) async fn remove_session(options: &ClientOptions, broker: &str, time_limit: Duration) {
    let Some(options) = options.without_session() else {
        return;
    };
    match timeout(time_limit, replace_session(&options)).await {
        Ok(Ok(())) => tracing::info!(broker, "left the share group"),
        Ok(Err(end)) => {
            tracing::warn!(
                broker,
                error = %end,
                "left the share group; the empty session stays at the broker until it expires"
            );
        }
        Err(_) => tracing::warn!(
            broker,
            "left the share group; the empty session stays at the broker until it expires"
        ),
    }
}

/// Replaces our session by one that ends with its connection.
async fn replace_session(options: &ClientOptions) -> Result<(), ConnectionEnd> {
    // DISCONNECT is the only request.
    let (client, mut eventloop) = options.connect(1);
    loop {
        match eventloop.poll().await? {
            Packet::ConnAck { .. } => {
                let queued = client.send(Request::Disconnect);
                queued.map_err(|err| ConnectionEnd::Lost(err.to_string()))?;
            }
            Packet::DisconnectSent => return Ok(()),
            _ => {}
        }
    }
}
