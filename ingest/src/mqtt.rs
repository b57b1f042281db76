//! The link to the broker: connect, subscribe, receive, acknowledge after the commit, connect again.
//!
//! One task owns the connection and awaits nothing else while it stands (except room, and not for long): the client
//! library sends its pings only while it is polled. Each connection has an event loop of its own, so that nothing of a dead one (an acknowledgement, a
//! pending request) can reach the next, where the same packet id names another message.

mod ack;
pub(crate) mod broker_url;
pub(crate) mod config;
pub(crate) mod message;
mod options;
pub(crate) mod probe;
mod ring;
pub(crate) mod shutdown;
pub(crate) mod status;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, DisconnectReasonCode, Filter, Packet, Publish, RetainForwardRule, SubAck,
    SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use shared::backoff::Backoff;
use shared::lifecycle::Lifecycle;
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use ack::{AckHandle, Acks};
use config::MqttConfig;
use message::MqttMessage;
use shutdown::{SessionAtExit, Stop};
use status::{BrokerStatus, ConnectionState, Pending, StatusReporter};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Not every broker says that a session was taken over (mosquitto 2.0.11 just closes the connection), and the library
/// cannot read the short form of saying it. Two clients with one id would cut each other off for ever. So many
/// subscriptions in a row, each closed by the broker within this time and none followed by a failed attempt (a broker
/// that restarts), mean the same. Who was first cut off gives up first.
const CONTESTED: u32 = 5;
const CONTEST: Duration = Duration::from_secs(10);

/// Starts the link. The queue it returns is closed, and drained by the receiver, when the link has ended: soon after the
/// drain begins. A member of a share group first waits for its `session_at_exit`. Of payloads above `max_payload_bytes` only the
/// beginning is kept, so that the queue is bounded in bytes, too.
///
/// # Errors
/// TLS is wanted and no certificate authority of the system can be read.
pub(crate) fn start(
    config: &MqttConfig,
    lifecycle: &Lifecycle,
    session_at_exit: watch::Receiver<SessionAtExit>,
    max_payload_bytes: usize,
) -> anyhow::Result<(Receiver<MqttMessage>, BrokerStatus)> {
    let window = usize::from(config.mqtt_receive_maximum);
    // Two windows. One connection should not have more than one open, and it is made only when a whole one is free (an
    // older connection's may still wait); QoS 0, which has no window, is dropped and counted before it takes that room.
    let (sender, receiver) = mpsc::channel(2 * window);
    let (reporter, status) = BrokerStatus::new();
    let acks = Arc::<Acks>::default();
    let status = status.watch(Pending {
        acks: Arc::clone(&acks),
        queue: sender.downgrade(),
    });
    let link = Link {
        options: options::options(config).context("cannot prepare the link to the broker")?,
        broker: config.mqtt_broker.to_string(),
        filters: config.filters(),
        shares: config.mqtt_share_group.is_some(),
        session_at_exit,
        window,
        max_payload_bytes,
        connect_timeout: config.mqtt_connect_timeout,
        acks,
        sender,
        reporter,
        soft: lifecycle.soft().clone(),
        hard: lifecycle.hard().clone(),
    };
    lifecycle.spawn("mqtt", async move {
        link.run().await;
        Ok(())
    });
    Ok((receiver, status))
}

struct Link {
    options: MqttOptions,
    broker: String,
    filters: Vec<String>,
    /// Whether we are a member of a share group.
    shares: bool,
    session_at_exit: watch::Receiver<SessionAtExit>,
    window: usize,
    max_payload_bytes: usize,
    connect_timeout: Duration,
    acks: Arc<Acks>,
    sender: Sender<MqttMessage>,
    reporter: StatusReporter,
    soft: CancellationToken,
    hard: CancellationToken,
}

/// Why a connection ended.
enum End {
    /// We were asked to stop.
    Stopped,
    /// We were asked to stop and left the share group; the session is empty.
    Left,
    /// Another client took our session: it is theirs now.
    TakenOver,
    /// The broker closed it without a word.
    Closed,
    /// Anything else.
    Lost(String),
}

/// How far one connection has come.
struct Progress {
    client: AsyncClient,
    connected_at: Option<Instant>,
    subscribed_at: Option<Instant>,
    stop: Stop,
    session_at_exit: watch::Receiver<SessionAtExit>,
}

impl Link {
    async fn run(self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut contests = 0;
        loop {
            let room = self.sender.reserve_many(self.window);
            tokio::select! {
                biased;
                () = self.soft.cancelled() => return,
                // The permits go back at once: this only waits for the room. Redis may be away for long.
                permits = room => drop(permits),
            }
            let (end, subscribed_for) = self.connection().await;
            let cut_off = subscribed_for.is_some_and(|time| time < CONTEST);
            contests = if matches!(end, End::Closed) && cut_off {
                contests + 1
            } else {
                0
            };
            match end {
                End::Stopped => {
                    self.reporter.report(ConnectionState::Stopped);
                    return;
                }
                End::Left => {
                    self.remove_session().await;
                    self.reporter.report(ConnectionState::Stopped);
                    return;
                }
                End::TakenOver => return self.stay_away("the broker says so").await,
                End::Closed if contests == CONTESTED => {
                    return self
                        .stay_away("the broker cut us off again and again")
                        .await;
                }
                End::Closed => self.lost("the broker closed the connection"),
                End::Lost(error) => self.lost(&error),
            }
            if subscribed_for.is_some() && contests <= 1 {
                backoff.reset();
            }
            tokio::select! {
                () = self.soft.cancelled() => return,
                () = tokio::time::sleep(backoff.pause()) => {}
            }
        }
    }

    async fn stay_away(&self, reason: &str) {
        tracing::error!(
            broker = self.broker,
            client_id = self.options.client_id(),
            reason,
            "session taken over: another client uses our client id; not taking it back; give every replica its own \
             client id, and restart this one",
        );
        self.reporter.report(ConnectionState::TakenOver);
        self.reporter
            .report_error("session taken over by another client with our client id");
        self.soft.cancelled().await;
    }

    fn lost(&self, error: &str) {
        if self.reporter.report(ConnectionState::Down) {
            tracing::warn!(
                broker = self.broker,
                error,
                "MQTT broker away: trying again"
            );
        } else {
            tracing::debug!(broker = self.broker, error, "MQTT broker still away");
        }
        self.reporter.report_error(error);
    }

    /// One connection from its beginning to its end, and how long it was subscribed, if it was.
    async fn connection(&self) -> (End, Option<Duration>) {
        // Room for an acknowledgement of each message in the window, the subscription and the disconnect. A broker that
        // does not keep to the window can make it full: what found no room is tried again at the next event.
        let (client, mut eventloop) = AsyncClient::new(self.options.clone(), self.window + 8);
        self.acks.connect(client.clone());
        let mut progress = Progress {
            client,
            connected_at: None,
            subscribed_at: None,
            stop: Stop::No,
            session_at_exit: self.session_at_exit.clone(),
        };
        let end = self.poll(&mut eventloop, &mut progress).await;
        self.acks.disconnect();
        if matches!(progress.stop, Stop::Leaving(_)) {
            tracing::warn!(
                broker = self.broker,
                client_id = self.options.client_id(),
                "stopped before our session was empty: its messages wait there for our client id",
            );
        }
        if progress.stop.takes_messages() {
            self.rescue(&mut eventloop);
        }
        (end, progress.subscribed_at.map(|since| since.elapsed()))
    }

    async fn poll(&self, eventloop: &mut EventLoop, progress: &mut Progress) -> End {
        loop {
            // The broker may have set another keep-alive.
            let silence = eventloop.options.keep_alive() * 2;
            let limit = silence.max(self.connect_timeout + Duration::from_secs(1));
            let result = {
                // Polling is not cancel-safe, so one poll goes on across the beginning of the drain; it is dropped
                // only together with its event loop.
                let mut poll = pin!(timeout(limit, eventloop.poll()));
                loop {
                    tokio::select! {
                        biased;
                        () = self.hard.cancelled() => return End::Stopped,
                        () = self.soft.cancelled(), if progress.stop == Stop::No => {
                            if progress.connected_at.is_none() {
                                return End::Stopped;
                            }
                            self.begin_stop(progress);
                        }
                        session_at_exit = shutdown::decided(&mut progress.session_at_exit),
                            if progress.stop == Stop::Undecided =>
                        {
                            self.decide_stop(session_at_exit, progress);
                        }
                        result = &mut poll => break result,
                    }
                }
            };
            let event = match result {
                Ok(Ok(event)) => event,
                Ok(Err(_)) if progress.stop != Stop::No => return End::Stopped,
                Ok(Err(err)) => return end_of(&err),
                Err(_) => return End::Lost(format!("no sign of life for {} s", limit.as_secs())),
            };
            if let Err(end) = self.handle(event, progress).await {
                return end;
            }
            self.acks.release();
            self.go_on_stopping(progress);
            let waited = progress
                .connected_at
                .is_some_and(|since| since.elapsed() > silence);
            if waited && progress.subscribed_at.is_none() {
                return End::Lost("the broker does not answer the subscription".to_owned());
            }
        }
    }

    async fn handle(&self, event: Event, progress: &mut Progress) -> Result<(), End> {
        match event {
            Event::Incoming(Packet::ConnAck(answer)) => self.connected(&answer, progress),
            Event::Incoming(Packet::SubAck(answer)) => {
                self.subscribed(&answer)?;
                progress.subscribed_at = Some(Instant::now());
                Ok(())
            }
            Event::Incoming(Packet::Publish(publish)) if progress.stop.takes_messages() => {
                progress.note_message();
                self.receive(&publish).await
            }
            Event::Incoming(Packet::UnsubAck(answer)) => {
                self.unsubscribed(&answer, progress);
                Ok(())
            }
            Event::Outgoing(rumqttc::Outgoing::Disconnect) => Err(match progress.stop {
                Stop::Disconnecting { left: true } => End::Left,
                _ => End::Stopped,
            }),
            _ => Ok(()),
        }
    }

    fn connected(&self, answer: &ConnAck, progress: &mut Progress) -> Result<(), End> {
        progress.connected_at = Some(Instant::now());
        self.reporter.report(ConnectionState::Connected);
        tracing::info!(
            broker = self.broker,
            client_id = self.options.client_id(),
            session_present = answer.session_present,
            "Connected to MQTT broker",
        );
        // Also when the session is present: it may be of a process that was configured with other topics. Retained
        // messages are sent for new subscriptions only, so a resumed session does not get them again.
        let filter = |path: &String| Filter {
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
            ..Filter::new(path.clone(), QoS::AtLeastOnce)
        };
        let filters = self.filters.iter().map(filter);
        let asked = progress.client.try_subscribe_many(filters);
        asked.map_err(|err| End::Lost(format!("cannot subscribe: {err}")))
    }

    fn subscribed(&self, answer: &SubAck) -> Result<(), End> {
        let topics = self.filters.join(", ");
        for (filter, code) in self.filters.iter().zip(&answer.return_codes) {
            match code {
                SubscribeReasonCode::Success(QoS::AtMostOnce) => {
                    tracing::warn!(filter, "the broker grants QoS 0 only: messages may be lost");
                }
                SubscribeReasonCode::Success(_) => {}
                refused => {
                    return Err(End::Lost(format!(
                        "subscription to `{filter}` refused: {refused:?}"
                    )));
                }
            }
        }
        tracing::info!(broker = self.broker, "Subscribed to: {topics}");
        self.reporter.report(ConnectionState::Subscribed);
        Ok(())
    }

    async fn receive(&self, publish: &Publish) -> Result<(), End> {
        let received = match publish.qos {
            QoS::AtMostOnce => {
                if self.sender.capacity() <= self.window {
                    self.lose_unacknowledged();
                    return Ok(());
                }
                self.sender
                    .try_send(self.message(publish, AckHandle::none()))
            }
            QoS::AtLeastOnce => {
                let ack = Acks::receive(&self.acks, publish.pkid);
                self.sender.try_send(self.message(publish, ack))
            }
            QoS::ExactlyOnce => return Err(End::Lost("the broker sends QoS 2 unasked".to_owned())),
        };
        match received {
            Ok(()) => {
                self.reporter.count_received();
                Ok(())
            }
            Err(TrySendError::Full(message)) => self.wait_for_room(message).await,
            // Nobody takes messages any more: the process is ending.
            Err(TrySendError::Closed(_)) => Err(End::Stopped),
        }
    }

    /// mosquitto 2.0.11 keeps to the receive maximum until it has a queue for us: then each acknowledgement brings a whole
    /// window. What we do not read waits in the socket, then with the broker.
    async fn wait_for_room(&self, message: MqttMessage) -> Result<(), End> {
        let sent = timeout(self.options.keep_alive(), self.sender.send(message));
        tokio::select! {
            biased;
            () = self.hard.cancelled() => Err(End::Stopped),
            sent = sent => match sent {
                Ok(Ok(())) => {
                    self.reporter.count_received();
                    Ok(())
                }
                // Nobody takes messages any more: the process is ending.
                Ok(Err(_)) => Err(End::Stopped),
                // Unpolled, the connection dies now. Not acknowledged, so the broker sends it again on the next.
                Err(_) => Err(End::Lost(
                    "the broker sends more than the receive maximum, and nothing is committed"
                        .to_owned(),
                )),
            },
        }
    }

    fn lose_unacknowledged(&self) {
        if self.reporter.count_lost() == 1 {
            tracing::warn!(
                broker = self.broker,
                "messages of QoS 0 come faster than they are committed and are lost; the metric has their number",
            );
        }
    }

    /// Takes what the dead connection received and had not handed on yet. A lost session does not send it again, a kept
    /// one does (a duplicate), so it is committed, and not acknowledged.
    fn rescue(&self, eventloop: &mut EventLoop) {
        for event in eventloop.state.events.drain(..) {
            let Event::Incoming(Packet::Publish(publish)) = event else {
                continue;
            };
            match self
                .sender
                .try_send(self.message(&publish, AckHandle::none()))
            {
                Ok(()) => self.reporter.count_received(),
                Err(_) if publish.qos == QoS::AtMostOnce => self.lose_unacknowledged(),
                // The window has room for it, else the pipeline is gone.
                Err(_) => return,
            }
        }
    }
}

fn end_of(err: &ConnectionError) -> End {
    match err {
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => End::TakenOver,
        ConnectionError::MqttState(StateError::ConnectionAborted) => End::Closed,
        err => End::Lost(err.to_string()),
    }
}

impl Link {
    fn message(&self, publish: &Publish, ack: AckHandle) -> MqttMessage {
        MqttMessage::new(publish, self.max_payload_bytes, ack)
    }
}

#[cfg(test)]
mod tests;
