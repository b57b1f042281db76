//! The queue of received messages, from the MQTT connection to the pipeline.
//!
//! Its capacity is two receive windows. One may be full of messages of an earlier connection. The other must be free before a
//! new connection is opened, and the new connection should have at most one window of unacknowledged messages. The receive
//! maximum does not limit QoS 0: its messages are dropped and counted once only one window is free. Payloads that are too
//! large to be processed are cut, so the queue is bounded in bytes, too.

use std::sync::Arc;

use tokio::sync::mpsc::{self, Permit, Receiver, Sender, error::TrySendError};

use super::ack::{AckHandle, Acks};
use super::connection_end::ConnectionEnd;
use super::message::MqttMessage;
use super::protocol::{EventLoop, Publish, QoS};
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
}

/// Creates a queue of two receive windows, and returns its two ends.
pub(super) fn channel(receive_maximum: usize) -> (Sender<MqttMessage>, Receiver<MqttMessage>) {
    mpsc::channel(2 * receive_maximum)
}

/// Room for one message in the queue.
pub(super) struct Room<'a> {
    permit: Permit<'a, MqttMessage>,
    status: &'a StatusReporter,
}

impl Room<'_> {
    pub(super) fn fill(self, message: MqttMessage) {
        self.permit.send(message);
        self.status.count_received();
    }
}

impl MessageQueue {
    pub(super) fn pending(&self) -> PendingMessages {
        PendingMessages {
            acks: Arc::clone(&self.acks),
            queue: self.sender.downgrade(),
        }
    }

    /// Waits until a receive window is free, which can take as long as Redis is unavailable. Cancel-safe.
    pub(super) async fn wait_for_free_window(&self) {
        // Only the wait matters: the permits are returned at once.
        let permits = self.sender.reserve_many(self.receive_maximum).await;
        drop(permits);
    }

    /// Puts a message into the queue. Returns it if the queue is full, which it is only if the broker exceeds the receive
    /// maximum. mosquitto 2.0.11 does that once it has queued messages for us: it answers each acknowledgement with a full window
    /// of messages.
    pub(super) fn receive(&self, publish: Publish) -> Result<Option<MqttMessage>, ConnectionEnd> {
        let ack = match publish.qos {
            QoS::AtMostOnce if self.sender.capacity() <= self.receive_maximum => {
                self.drop_unacknowledged();
                return Ok(None);
            }
            QoS::AtMostOnce => AckHandle::none(),
            QoS::AtLeastOnce => Acks::receive(&self.acks, publish.packet_id),
            QoS::ExactlyOnce => {
                let error = "the broker sends QoS 2, to which we did not subscribe";
                return Err(ConnectionEnd::Lost(error.to_owned()));
            }
        };
        match self.sender.try_send(self.message(publish, ack)) {
            Ok(()) => {
                self.status.count_received();
                Ok(None)
            }
            Err(TrySendError::Full(message)) => Ok(Some(message)),
            // The pipeline has ended, so the process is stopping.
            Err(TrySendError::Closed(_)) => Err(ConnectionEnd::Stopped),
        }
    }

    /// Waits until the queue has room for one message. `None`: the pipeline has ended. Cancel-safe.
    pub(super) async fn room(&self) -> Option<Room<'_>> {
        let permit = self.sender.reserve().await.ok()?;
        Some(Room {
            permit,
            status: &self.status,
        })
    }

    /// Queues the messages that a lost connection had received but not delivered yet. They cannot be acknowledged any longer.
    /// If the broker lost the session, it does not send them again, so they must be committed now. If it kept the session, it
    /// sends them again as duplicates.
    /// `waiting` found no room before.
    pub(super) fn rescue(&self, waiting: Option<MqttMessage>, eventloop: &mut EventLoop) {
        let waiting = waiting.map(|message| (QoS::AtLeastOnce, message));
        let received = eventloop.take_received().into_iter();
        let received =
            received.map(|publish| (publish.qos, self.message(publish, AckHandle::none())));
        for (qos, message) in waiting.into_iter().chain(received) {
            match self.sender.try_send(message) {
                Ok(()) => self.status.count_received(),
                Err(_) if qos == QoS::AtMostOnce => self.drop_unacknowledged(),
                // The pipeline has ended, or the broker has exceeded the receive maximum. One that keeps the session sends them
                // again.
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

    fn message(&self, publish: Publish, ack: AckHandle) -> MqttMessage {
        MqttMessage::new(publish, self.max_payload_bytes, ack)
    }
}
