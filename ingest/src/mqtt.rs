//! The connection to the broker: connect, subscribe, receive, acknowledge after the commit, and connect again.
//!
//! One task owns the connection. While connected it waits for nothing but the next packet, and for a limited time for
//! room in the queue, since the client library sends its pings only while it is polled. [`state`] shows the states and
//! transitions.

mod ack;
mod ack_order;
pub(crate) mod broker_url;
pub(crate) mod config;
mod connection;
pub(crate) mod message;
mod options;
pub(crate) mod probe;
mod queue;
pub(crate) mod shutdown;
pub(crate) mod state;
pub(crate) mod status;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shared::backoff::Backoff;
use shared::lifecycle::Lifecycle;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use self::ack::Acks;
use self::config::MqttConfig;
use self::connection::ConnectionContext;
use self::message::MqttMessage;
use self::queue::MessageQueue;
use self::shutdown::SessionAtExit;
use self::state::{ConnectionEnd, ConnectionEvent, ConnectionState};
use self::status::BrokerStatus;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// This many subscriptions in a row, each closed by the broker within [`SHORT_SUBSCRIPTION`], mean that another client
/// uses our client id. A failed connection attempt between them (a broker that restarts) starts the count again.
///
/// Not every broker reports a takeover: mosquitto 2.0.11 just closes the connection, and the library cannot parse the short
/// form of the report. Without this limit, two clients with one client id would disconnect each other for ever. The one that
/// was disconnected first gives up first.
const MAX_SHORT_SUBSCRIPTIONS: u32 = 5;
const SHORT_SUBSCRIPTION: Duration = Duration::from_secs(10);

/// Starts the task that keeps the connection. Returns the queue of received messages, and the status of the connection.
///
/// The queue is closed when the task ends, soon after a stop was requested; what is in it can still be received. A member
/// of a share group waits for `session_at_exit` before it ends. Of payloads above `max_payload_bytes` only the beginning
/// is kept.
///
/// # Errors
/// TLS is configured and the system has no readable certificate authority.
pub(crate) fn start(
    config: &MqttConfig,
    lifecycle: &Lifecycle,
    session_at_exit: watch::Receiver<SessionAtExit>,
    max_payload_bytes: usize,
) -> anyhow::Result<(Receiver<MqttMessage>, BrokerStatus)> {
    let options =
        options::options(config).context("cannot prepare the connection to the broker")?;
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
        max_wait: options.keep_alive(),
        hard: lifecycle.hard().clone(),
    };
    let status = status.with_pending(queue.pending());
    let context = ConnectionContext {
        options,
        broker,
        filters: config.filters(),
        in_share_group: config.mqtt_share_group.is_some(),
        connect_timeout: config.mqtt_connect_timeout,
        queue,
        acks,
        status: reporter,
        session_at_exit,
        soft: lifecycle.soft().clone(),
        hard: lifecycle.hard().clone(),
    };
    lifecycle.spawn("mqtt", async move {
        keep_connected(&context).await;
        remove_empty_session(&context).await;
        context.status.apply(ConnectionEvent::Stopped);
        Ok(())
    });
    Ok((messages, status))
}

/// Connects again and again, until a stop is requested or another client has our session.
async fn keep_connected(context: &ConnectionContext) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut short_subscriptions = 0;
    loop {
        tokio::select! {
            biased;
            () = context.soft.cancelled() => return,
            () = context.queue.window_free() => {}
        }
        let (end, subscribed_for) = connection::run(context).await;
        let was_short = subscribed_for.is_some_and(|time| time < SHORT_SUBSCRIPTION);
        short_subscriptions = if matches!(end, ConnectionEnd::Closed) && was_short {
            short_subscriptions + 1
        } else {
            0
        };
        match end {
            ConnectionEnd::Stopped => return,
            ConnectionEnd::TakenOver => return stay_away(context, "the broker reports it").await,
            ConnectionEnd::Closed if short_subscriptions == MAX_SHORT_SUBSCRIPTIONS => {
                return stay_away(context, "the broker closed several connections in a row").await;
            }
            ConnectionEnd::Closed => lost(context, "the broker closed the connection"),
            ConnectionEnd::Lost(error) => lost(context, &error),
        }
        if subscribed_for.is_some() && short_subscriptions <= 1 {
            backoff.reset();
        }
        tokio::select! {
            () = context.soft.cancelled() => return,
            () = tokio::time::sleep(backoff.pause()) => {}
        }
    }
}

fn lost(context: &ConnectionContext, error: &str) {
    let broker = &context.broker;
    if context.status.apply(ConnectionEvent::Lost) {
        tracing::warn!(broker, error, "MQTT broker unavailable: trying again");
    } else {
        tracing::debug!(broker, error, "MQTT broker still unavailable");
    }
    context.status.set_error(error);
}

async fn stay_away(context: &ConnectionContext, reason: &str) {
    tracing::error!(
        broker = context.broker,
        client_id = context.options.client_id(),
        reason,
        "session taken over: another client uses our client id, and this process does not connect again; give every replica \
         its own client id, then restart this one",
    );
    context.status.apply(ConnectionEvent::TakenOver);
    context
        .status
        .set_error("session taken over by another client with our client id");
    context.soft.cancelled().await;
}

/// Removes our session, if we left the share group and the session is empty.
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
