//! One connection to the broker, from CONNECT to its end.
//!
//! Each connection has its own event loop. Nothing of a dead connection (an acknowledgement, a queued
//! request) can reach the next one, where the same packet id identifies another message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ack::Acks;
use super::connection_end::ConnectionEnd;
use super::message::MqttMessage;
use super::protocol::{
    Client, ClientOptions, EventLoop, Grant, Packet, QoS, Request, Subscription,
};
use super::queue::MessageQueue;
use super::shutdown::{self, SessionAtExit};
use super::state::{ConnectionEvent, ConnectionState, StopRequest};
use super::status::StatusReporter;

/// Settings and handles that all connections of this process share.
pub(super) struct ConnectionContext {
    pub(super) options: ClientOptions,
    /// Address of the broker, for log lines.
    pub(super) broker: String,
    pub(super) filters: Vec<String>,
    pub(super) in_share_group: bool,
    /// Time limit for removing the session of a member that leaves its share group.
    pub(super) connect_timeout: Duration,
    /// Pause before a new try after another client took our session.
    pub(super) takeover_retry: Duration,
    pub(super) queue: MessageQueue,
    pub(super) acks: Arc<Acks>,
    pub(super) status: StatusReporter,
    pub(super) session_at_exit: watch::Receiver<SessionAtExit>,
    pub(super) soft: CancellationToken,
    pub(super) hard: CancellationToken,
}

struct BrokerConnection<'a> {
    context: &'a ConnectionContext,
    client: Client,
    session_at_exit: watch::Receiver<SessionAtExit>,
    connected_at: Option<Instant>,
    subscribed_at: Option<Instant>,
    /// When the last message was received, or found room in the queue.
    last_message_at: Option<Instant>,
    /// A message for which the queue has no room. Nothing is read while it waits.
    waiting: Option<MqttMessage>,
    /// Another client had taken our session, and the log does not say yet that the session is ours again.
    is_contested: bool,
}

/// A session counts as ours again once its subscription has lasted this long.
pub(super) const SHORT_CONNECTION: Duration = Duration::from_secs(10);

/// A connection that has ended.
pub(super) struct EndedConnection {
    pub(super) end: ConnectionEnd,
    /// How long it was connected, if it was.
    pub(super) connected_for: Option<Duration>,
    pub(super) was_subscribed: bool,
}

/// Runs one connection. `is_contested`: another client had taken our session.
pub(super) async fn run(context: &ConnectionContext, is_contested: bool) -> EndedConnection {
    // Room for an acknowledgement of each message in the receive window, SUBSCRIBE and DISCONNECT. A broker that exceeds the
    // receive maximum can fill it; requests that do not fit are sent after a later event.
    let capacity = context.queue.receive_maximum + 8;
    let (client, mut eventloop) = context.options.connect(capacity);
    context.acks.connect(client.clone());
    let mut connection = BrokerConnection {
        context,
        client,
        session_at_exit: context.session_at_exit.clone(),
        connected_at: None,
        subscribed_at: None,
        last_message_at: None,
        waiting: None,
        is_contested,
    };
    let end = connection.run(&mut eventloop).await;
    context.acks.disconnect();
    let state = connection.state();
    if state.is_leaving() {
        tracing::warn!(
            broker = context.broker,
            client_id = context.options.client_id(),
            "stopped before the session was empty: the broker keeps its messages for our client id",
        );
    }
    if state.accepts_messages() {
        context
            .queue
            .rescue(connection.waiting.take(), &mut eventloop);
    }
    EndedConnection {
        end,
        connected_for: connection.connected_at.map(|since| since.elapsed()),
        was_subscribed: connection.subscribed_at.is_some(),
    }
}

impl BrokerConnection<'_> {
    fn state(&self) -> ConnectionState {
        self.context.status.state()
    }

    async fn run(&mut self, eventloop: &mut EventLoop) -> ConnectionEnd {
        loop {
            eventloop.set_reading(self.waiting.is_none());
            let handled = match self.next_event(eventloop).await {
                Ok(event) => self.handle(event),
                Err(end) => Err(end),
            };
            if let Err(end) = handled {
                return end;
            }
            self.context.acks.send_ready();
            self.send_due_request();
            if self.is_subscription_overdue(2 * eventloop.keep_alive()) {
                let error = "the broker does not answer the subscription";
                return ConnectionEnd::Lost(error.to_owned());
            }
        }
    }

    /// The answer to our subscription comes behind the messages that a kept session has for us, so the time in which they arrive
    /// does not count.
    fn is_subscription_overdue(&self, limit: Duration) -> bool {
        let since = self.connected_at.max(self.last_message_at);
        self.subscribed_at.is_none()
            && self.waiting.is_none()
            && since.is_some_and(|since| since.elapsed() > limit)
    }

    async fn next_event(&mut self, eventloop: &mut EventLoop) -> Result<Packet, ConnectionEnd> {
        let context = self.context;
        // The CONNECT of a poll that is dropped would be lost. So the same poll continues when a stop begins.
        let mut poll = std::pin::pin!(eventloop.poll());
        loop {
            let ours_again_at = self.ours_again_at();
            tokio::select! {
                biased;
                () = context.hard.cancelled() => return Err(ConnectionEnd::Stopped),
                () = context.soft.cancelled(), if !self.state().is_stopping() => {
                    self.begin_stop();
                    if self.state() == ConnectionState::Stopped {
                        return Err(ConnectionEnd::Stopped);
                    }
                }
                session = shutdown::decided(&mut self.session_at_exit),
                    if self.state() == ConnectionState::AwaitingDecision =>
                {
                    self.decide_session(session);
                }
                () = until_ours_again(ours_again_at) => self.log_ours_again(),
                room = context.queue.room(), if self.waiting.is_some() => {
                    let (Some(room), Some(message)) = (room, self.waiting.take()) else {
                        // The pipeline has ended, so the process is stopping.
                        return Err(ConnectionEnd::Stopped);
                    };
                    room.fill(message);
                    // Only from now on more is read.
                    self.last_message_at = Some(Instant::now());
                    return Ok(Packet::Other);
                }
                polled = &mut poll => return match polled {
                    Err(_) if self.state().is_stopping() => Err(ConnectionEnd::Stopped),
                    polled => polled,
                },
            }
        }
    }

    /// Returns when a contested session will count as ours again.
    fn ours_again_at(&self) -> Option<Instant> {
        let subscribed_at = self.subscribed_at.filter(|_| self.is_contested)?;
        Some(subscribed_at + SHORT_CONNECTION)
    }

    fn log_ours_again(&mut self) {
        self.is_contested = false;
        tracing::info!(
            broker = self.context.broker,
            client_id = self.context.options.client_id(),
            "the session is ours again: no other client takes it over any longer"
        );
    }

    fn handle(&mut self, packet: Packet) -> Result<(), ConnectionEnd> {
        match packet {
            Packet::ConnAck {
                session_present, ..
            } => self.connected(session_present),
            Packet::SubAck(grants) => self.subscribed(&grants),
            Packet::Publish(publish) if self.state().accepts_messages() => {
                self.context.status.apply(ConnectionEvent::Message);
                self.last_message_at = Some(Instant::now());
                self.waiting = self.context.queue.receive(publish)?;
                Ok(())
            }
            Packet::UnsubAck { refusal } => {
                self.unsubscribed(refusal.as_deref());
                Ok(())
            }
            Packet::DisconnectSent => {
                self.context.status.apply(ConnectionEvent::Disconnected);
                Err(ConnectionEnd::Stopped)
            }
            Packet::Publish(_) | Packet::Other => Ok(()),
        }
    }

    fn connected(&mut self, session_present: bool) -> Result<(), ConnectionEnd> {
        self.connected_at = Some(Instant::now());
        self.context.status.apply(ConnectionEvent::ConnAck);
        tracing::info!(
            broker = self.context.broker,
            client_id = self.context.options.client_id(),
            session_present,
            "Connected to MQTT broker",
        );
        // Even if the session is present: a process that was configured with other topics may have made it. The broker sends
        // retained messages for new subscriptions only, so a resumed session does not get them again.
        let subscription = |filter: &String| Subscription {
            filter: filter.clone(),
            qos: QoS::AtLeastOnce,
            retained: true,
        };
        let subscriptions = self.context.filters.iter().map(subscription).collect();
        let queued = self.client.send(Request::Subscribe(subscriptions));
        queued.map_err(|err| ConnectionEnd::Lost(format!("cannot subscribe: {err}")))
    }

    fn subscribed(&mut self, grants: &[Grant]) -> Result<(), ConnectionEnd> {
        let filters = &self.context.filters;
        for (filter, grant) in filters.iter().zip(grants) {
            match grant {
                Grant::Granted(QoS::AtMostOnce) => {
                    tracing::warn!(filter, "the broker grants only QoS 0: messages may be lost");
                }
                Grant::Granted(_) => {}
                Grant::Refused(reason) => {
                    return Err(ConnectionEnd::Lost(format!(
                        "subscription to `{filter}` refused: {reason}"
                    )));
                }
            }
        }
        let topics = filters.join(", ");
        tracing::info!(broker = self.context.broker, "Subscribed to: {topics}");
        self.context.status.apply(ConnectionEvent::SubAck);
        self.subscribed_at = Some(Instant::now());
        Ok(())
    }

    fn begin_stop(&self) {
        let in_share_group = self.context.in_share_group;
        self.context
            .status
            .apply(ConnectionEvent::StopRequested { in_share_group });
        self.send_due_request();
    }

    fn decide_session(&self, session: SessionAtExit) {
        if session == SessionAtExit::Remove {
            tracing::info!(
                broker = self.context.broker,
                "other members listen: leaving the share group"
            );
        }
        let filters = self.context.filters.len();
        self.context
            .status
            .apply(ConnectionEvent::Decided { session, filters });
        self.send_due_request();
    }

    /// Sends the next request of a stop, if it is due. If the request channel is full, the request is sent after a later event:
    /// the acknowledgements in the channel cause such events.
    fn send_due_request(&self) {
        let all_acknowledged = self.context.acks.is_empty();
        let suback_received = self.subscribed_at.is_some();
        let state = self.state();
        let Some(request) = state.due_request(all_acknowledged, suback_received) else {
            return;
        };
        let filters = &self.context.filters;
        let unsubscribe = |filter: Option<&String>| {
            filter.is_some_and(|filter| {
                let request = Request::Unsubscribe(filter.clone());
                self.client.send(request).is_ok()
            })
        };
        let queued = match request {
            StopRequest::Unsubscribe { filter } => unsubscribe(filters.get(filter)),
            StopRequest::UnsubscribeAgain => unsubscribe(filters.last()),
            StopRequest::Disconnect => self.client.send(Request::Disconnect).is_ok(),
        };
        if queued {
            self.context.status.apply(ConnectionEvent::RequestQueued);
        }
    }

    fn unsubscribed(&self, refusal: Option<&str>) {
        let accepted = refusal.is_none();
        if let Some(reason) = refusal {
            tracing::warn!(
                broker = self.context.broker,
                reason,
                "the broker refuses to end the subscription: the session stays in the share group and keeps receiving its \
                 share of the messages",
            );
        }
        self.context
            .status
            .apply(ConnectionEvent::UnsubAck { accepted });
    }
}

/// Waits until this time; without a time, for ever. Cancel-safe.
async fn until_ours_again(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
