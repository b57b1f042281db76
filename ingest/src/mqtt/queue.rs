//! The queue of received messages, from the MQTT connection to the pipeline.
//!
//! Its capacity is two receive windows. One may be full of messages of an earlier connection. The other must be free before a
//! new connection is opened, and the new connection should have at most one window of unacknowledged messages. The receive
//! maximum does not limit QoS 0: its messages are dropped and counted once only one window is free. Payloads that are too
//! large to be processed are cut, so the queue is bounded in bytes, too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

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
    /// Maximum time that a message waits for room in the queue. The connection is not polled while it waits.
    pub(super) max_wait: Duration,
    pub(super) hard: CancellationToken,
}

/// Creates a queue of two receive windows, and returns its two ends.
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
    pub(super) async fn wait_for_free_window(&self) {
        // Only the wait matters: the permits are returned at once.
        let permits = self.sender.reserve_many(self.receive_maximum).await;
        drop(permits);
    }

    /// Puts a message into the queue.
    pub(super) async fn receive(&self, publish: Publish) -> Result<(), ConnectionEnd> {
        let ack = match publish.qos {
            QoS::AtMostOnce if self.sender.capacity() <= self.receive_maximum => {
                self.drop_unacknowledged();
                return Ok(());
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
                Ok(())
            }
            Err(TrySendError::Full(message)) => self.wait_for_room(message).await,
            // The pipeline has ended, so the process is stopping.
            Err(TrySendError::Closed(_)) => Err(ConnectionEnd::Stopped),
        }
    }

    /// Waits until the queue has room for the message. The queue is full only if the broker exceeds the receive maximum.
    /// mosquitto 2.0.11 does that once it has queued messages for us: it answers each acknowledgement with a full window of
    /// messages. Messages that are not read here wait in the socket, then at the broker.
    async fn wait_for_room(&self, message: MqttMessage) -> Result<(), ConnectionEnd> {
        let send = timeout(self.max_wait, self.sender.send(message));
        tokio::select! {
            biased;
            () = self.hard.cancelled() => Err(ConnectionEnd::Stopped),
            result = send => match result {
                Ok(Ok(())) => {
                    self.status.count_received();
                    Ok(())
                }
                // The pipeline has ended, so the process is stopping.
                Ok(Err(_)) => Err(ConnectionEnd::Stopped),
                // The connection would not survive more time without polling. The message is not acknowledged, so the broker
                // sends it again on the next connection.
                Err(_) => Err(ConnectionEnd::Lost(
                    "the broker exceeds the receive maximum, and nothing is committed".to_owned(),
                )),
            },
        }
    }

    /// Queues the messages that a lost connection had received but not delivered yet. They cannot be acknowledged any longer.
    /// If the broker lost the session, it does not send them again, so they must be committed now. If it kept the session, it
    /// sends them again as duplicates.
    pub(super) fn rescue(&self, eventloop: &mut EventLoop) {
        for publish in eventloop.take_received() {
            let qos = publish.qos;
            match self
                .sender
                .try_send(self.message(publish, AckHandle::none()))
            {
                Ok(()) => self.status.count_received(),
                Err(_) if qos == QoS::AtMostOnce => self.drop_unacknowledged(),
                // One window is free for these messages, so only a pipeline that has ended refuses them.
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
