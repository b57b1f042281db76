//! The connection to the broker: connect, subscribe, receive, acknowledge after the commit, and reconnect.
//!
//! One task owns the connection. While the queue is full it reads nothing, but still acknowledges and sends pings. [`state`] shows
//! the states and transitions. `protocol` hides which version of MQTT is spoken.

mod ack;
mod ack_order;
pub(crate) mod broker_url;
pub(crate) mod config;
mod connection;
mod connection_end;
pub(crate) mod message;
pub(crate) mod probe;
mod protocol;
mod queue;
pub(crate) mod shared_ack;
pub(crate) mod shutdown;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod version;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use shared::backoff::Backoff;
use shared::lifecycle::Lifecycle;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use self::ack::Acks;
use self::config::MqttConfig;
use self::connection::{ConnectionContext, EndedConnection, SHORT_CONNECTION};
use self::connection_end::ConnectionEnd;
use self::message::MqttMessage;
use self::protocol::ClientOptions;
use self::queue::MessageQueue;
use self::shutdown::SessionAtExit;
use self::state::{ConnectionEvent, ConnectionState};
use self::status::BrokerStatus;

const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(200);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(10);

/// If the broker closes this many connections in a row, each within [`SHORT_CONNECTION`], another client uses our client id. A
/// fast one may take the session even before our subscription is confirmed. A failed connection attempt in between, as when the
/// broker restarts, resets the count.
///
/// Not every broker reports a takeover: mosquitto 2.0.11 only closes the connection. Without this limit, two clients with the same client id would disconnect each other
/// forever. With it, one of the two pauses.
const MAX_SHORT_CONNECTIONS: u32 = 5;

/// Starts the task that owns the connection. Returns the queue of received messages, and the status of the connection.
///
/// The task ends soon after a stop is requested. It then closes the queue, but queued messages can still be received. In a
/// share group, the task waits for `session_at_exit` before it ends. It fails if its first try shows that the broker and this client refuse
/// each other. A payload longer than `max_payload_bytes` is
/// cut to the part that a dead letter keeps.
///
/// # Errors
/// TLS is configured, and a file for it cannot be used, or the system has no readable certificate authority.
pub(crate) fn start(
    config: &MqttConfig,
    lifecycle: &Lifecycle,
    session_at_exit: watch::Receiver<SessionAtExit>,
    max_payload_bytes: usize,
) -> anyhow::Result<(Receiver<MqttMessage>, BrokerStatus)> {
    let options =
        ClientOptions::new(config).context("cannot prepare the connection to the broker")?;
    let receive_maximum = usize::from(config.mqtt_receive_maximum);
    let broker = config.mqtt_broker.to_string();
    let acks = Arc::<Acks>::default();
    let (reporter, status) = BrokerStatus::new();
    let (sender, messages) = queue::channel(receive_maximum);
    let queue = MessageQueue {
        sender,
        receive_maximum,
        max_payload_bytes,
        acks: Arc::clone(&acks),
        status: reporter.clone(),
        broker: broker.clone(),
    };
    let status = status.with_pending(queue.pending());
    let context = ConnectionContext {
        options,
        broker,
        filters: config.filters(),
        in_share_group: config.mqtt_share_group.is_some(),
        connect_timeout: config.mqtt_connect_timeout,
        takeover_retry: config.mqtt_takeover_retry,
        queue,
        acks,
        status: reporter,
        session_at_exit,
        soft: lifecycle.soft().clone(),
        hard: lifecycle.hard().clone(),
    };
    lifecycle.spawn("mqtt", async move {
        keep_connected(&context).await?;
        remove_empty_session(&context).await;
        context.status.apply(ConnectionEvent::Stopped);
        Ok(())
    });
    Ok((messages, status))
}

/// Keeps the connection up until a stop is requested. While another client has our session, tries again only once per
/// `--mqtt-takeover-retry`: two clients would otherwise disconnect each other for ever.
///
/// # Errors
/// At the first try the broker or this client refuses the other: an operator must act. Later that is tried again, as somebody may change
/// a password or a certificate at both ends.
async fn keep_connected(context: &ConnectionContext) -> anyhow::Result<()> {
    let mut backoff = Backoff::new(MIN_RECONNECT_DELAY, MAX_RECONNECT_DELAY);
    let mut short_connections = 0;
    // From a takeover until a subscription has lasted.
    let mut is_contested = false;
    let mut is_first = true;
    loop {
        tokio::select! {
            biased;
            () = context.soft.cancelled() => return Ok(()),
            () = context.queue.wait_for_free_window() => {}
        }
        let EndedConnection {
            end,
            connected_for,
            was_subscribed,
        } = connection::run(context, is_contested).await;
        let was_short = connected_for.is_none_or(|time| time < SHORT_CONNECTION);
        is_contested &= was_short;
        short_connections = if matches!(end, ConnectionEnd::Closed) && was_short {
            short_connections + 1
        } else {
            0
        };
        let is_taken_over = match &end {
            ConnectionEnd::Stopped => return Ok(()),
            ConnectionEnd::TakenOver => true,
            ConnectionEnd::Closed if short_connections == MAX_SHORT_CONNECTIONS => true,
            ConnectionEnd::Closed => is_contested && was_short,
            ConnectionEnd::Refused(reason) if is_first => bail!("{}: {reason}", context.broker),
            ConnectionEnd::Refused(_)
            | ConnectionEnd::Failed(_)
            | ConnectionEnd::Lost(_)
            | ConnectionEnd::Unreadable(_) => false,
        };
        let pause = if is_taken_over {
            report_taken_over(context, &end, is_contested);
            is_contested = true;
            short_connections = 0;
            context.takeover_retry
        } else {
            report_lost(context, &end);
            if was_subscribed && short_connections <= 1 {
                backoff.reset();
            }
            backoff.pause()
        };
        is_first = false;
        tokio::select! {
            () = context.soft.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn report_lost(context: &ConnectionContext, end: &ConnectionEnd) {
    let broker = &context.broker;
    let error = end.to_string();
    let was_up = context.status.apply(ConnectionEvent::Lost);
    let is_new = context.status.set_error(&error);
    let is_refused = matches!(end, ConnectionEnd::Refused(_));
    if is_refused && (was_up || is_new) {
        tracing::error!(
            broker,
            error,
            "the MQTT broker and this service refuse each other: trying again"
        );
    } else if was_up {
        tracing::warn!(broker, error, "MQTT broker unavailable: trying again");
    } else {
        tracing::debug!(broker, error, "MQTT broker still unavailable");
    }
}

/// Reports that another client took over our session: loudly the first time, until the session was ours again.
fn report_taken_over(context: &ConnectionContext, end: &ConnectionEnd, is_known: bool) {
    let broker = &context.broker;
    let reason = match end {
        ConnectionEnd::Closed => {
            "the broker closed several connections in a row; if no other client has our id, it may refuse the subscription"
        }
        _ => "the broker reports a takeover",
    };
    if is_known {
        tracing::debug!(broker, "session taken over once more");
    } else {
        tracing::error!(
            broker,
            client_id = context.options.client_id(),
            retry = ?context.takeover_retry,
            reason,
            "session taken over: another client uses our client id. This process tries again after each pause of `retry`. \
             Give every replica a client id of its own",
        );
    }
    context.status.apply(ConnectionEvent::TakenOver);
    context
        .status
        .set_error("session taken over by another client with our client id");
}

/// Removes our session from the broker, if we left the share group and the session is empty.
async fn remove_empty_session(context: &ConnectionContext) {
    if context.status.state() != ConnectionState::RemovingSession {
        return;
    }
    let (options, broker) = (&context.options, &context.broker);
    let removed = shutdown::remove_session(options, broker, context.connect_timeout);
    tokio::select! {
        biased;
        () = context.hard.cancelled() => {}
        () = removed => {}
    }
}

#[cfg(test)]
mod tests;
