//! The queue from the connection to the pipeline.
//!
//! Bound: two receive windows. One connection should have at most one window unacknowledged, and a connection is made only
//! while a window is free; messages of an earlier connection may still fill the other. QoS 0 has no receive window: its
//! messages are dropped and counted before they take the free window. Payloads too large to be processed are cut, so the
//! queue is bounded in bytes, too.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{Event, EventLoop};
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ack::{AckHandle, Acks};
use super::message::MqttMessage;
use super::state::ConnectionEnd;
use super::status::{PendingMessages, StatusReporter};

/// The sending end of the queue.
pub(super) struct MessageQueue {
    pub(super) sender: Sender<MqttMessage>,
    pub(super) receive_maximum: usize,
    pub(super) max_payload_bytes: usize,
    pub(super) acks: Arc<Acks>,
    pub(super) status: StatusReporter,
    /// Address of the broker, for log lines.
    pub(super) broker: String,
    /// How long a message may wait for room: while it waits, the connection is not polled.
    pub(super) max_wait: Duration,
    pub(super) hard: CancellationToken,
}

/// Both ends of a queue of two receive windows.
pub(super) fn channel(receive_maximum: usize) -> (Sender<MqttMessage>, Receiver<MqttMessage>) {
    mpsc::channel(2 * receive_maximum)
}

impl MessageQueue {
    pub(super) fn pending(&self) -> PendingMessages {
        PendingMessages {
            acks: Arc::clone(&self.acks),
            queue: self.sender.downgrade(),
        }
    }

    /// Waits until a receive window is free, which can take as long as Redis is unavailable. Cancel-safe.
    pub(super) async fn window_free(&self) {
        // Only the wait matters: the permits are returned at once.
        let permits = self.sender.reserve_many(self.receive_maximum).await;
        drop(permits);
    }

    /// Puts a message into the queue.
    pub(super) async fn receive(&self, publish: &Publish) -> Result<(), ConnectionEnd> {
        let ack = match publish.qos {
            QoS::AtMostOnce if self.sender.capacity() <= self.receive_maximum => {
                self.drop_unacknowledged();
                return Ok(());
            }
            QoS::AtMostOnce => AckHandle::none(),
            QoS::AtLeastOnce => Acks::receive(&self.acks, publish.pkid),
            QoS::ExactlyOnce => {
                let error = "the broker sends QoS 2, to which we did not subscribe";
                return Err(ConnectionEnd::Lost(error.to_owned()));
            }
        };
        match self.sender.try_send(self.message(publish, ack)) {
            Ok(()) => {
                self.status.count_received();
                Ok(())
            }
            Err(TrySendError::Full(message)) => self.wait_for_room(message).await,
            // The pipeline is gone: the process is ending.
            Err(TrySendError::Closed(_)) => Err(ConnectionEnd::Stopped),
        }
    }

    /// mosquitto 2.0.11 exceeds the receive maximum once it has queued messages for us: then it answers each acknowledgement
    /// with a full window. What is not read here waits in the socket, then at the broker.
    async fn wait_for_room(&self, message: MqttMessage) -> Result<(), ConnectionEnd> {
        let sent = timeout(self.max_wait, self.sender.send(message));
        tokio::select! {
            biased;
            () = self.hard.cancelled() => Err(ConnectionEnd::Stopped),
            sent = sent => match sent {
                Ok(Ok(())) => {
                    self.status.count_received();
                    Ok(())
                }
                // The pipeline is gone: the process is ending.
                Ok(Err(_)) => Err(ConnectionEnd::Stopped),
                // Without polling, the connection would die now. The message is not acknowledged, so the broker sends it
                // again on the next connection.
                Err(_) => Err(ConnectionEnd::Lost(
                    "the broker exceeds the receive maximum, and nothing is committed".to_owned(),
                )),
            },
        }
    }

    /// Queues the messages that a dead connection had received and not delivered yet. A broker that lost the session does
    /// not send them again, so they are committed; one that kept it does, as duplicates. They cannot be acknowledged.
    pub(super) fn rescue(&self, eventloop: &mut EventLoop) {
        for event in eventloop.state.events.drain(..) {
            let Event::Incoming(Packet::Publish(publish)) = event else {
                continue;
            };
            match self
                .sender
                .try_send(self.message(&publish, AckHandle::none()))
            {
                Ok(()) => self.status.count_received(),
                Err(_) if publish.qos == QoS::AtMostOnce => self.drop_unacknowledged(),
                // A window is free for them, so the pipeline is gone.
                Err(_) => return,
            }
        }
    }

    fn drop_unacknowledged(&self) {
        if self.status.count_lost() == 1 {
            tracing::warn!(
                broker = self.broker,
                "messages of QoS 0 arrive faster than they are committed and are dropped; a metric counts them",
            );
        }
    }

    fn message(&self, publish: &Publish, ack: AckHandle) -> MqttMessage {
        MqttMessage::new(publish, self.max_payload_bytes, ack)
    }
}
