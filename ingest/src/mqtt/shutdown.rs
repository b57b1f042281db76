//! The end of a link. What is in hand is acknowledged first; then the session is kept, or, in a share group in which
//! others go on, emptied and given up: what it would keep nobody else gets.

use rumqttc::v5::mqttbytes::v5::{Packet, UnsubAck, UnsubAckReason};
use rumqttc::v5::{AsyncClient, ConnectionError, Event};
use shared::error_chain::error_chain;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Link, Progress};

/// What becomes of the session of a member of a share group when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionAtExit {
    /// Not decided yet. If whoever decides is gone, the session is kept.
    Undecided,
    /// Nobody else listens: the session keeps the messages.
    Keep,
    /// Others listen: the broker gives them the messages.
    Remove,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nobody asked for one.
    No,
    /// Whether the group is left is not known yet.
    Undecided,
    /// Ends once everything in hand is acknowledged.
    Keeping,
    /// Ends once the session is empty.
    Leaving(Leaving),
    /// Goodbye is said.
    Disconnecting { left: bool },
}

impl Stop {
    /// Whether messages are still taken. Those that are not stay with the broker, unacknowledged, for the next of our
    /// sessions; a session that is given up has no next one.
    pub(super) const fn takes_messages(self) -> bool {
        matches!(self, Self::No | Self::Undecided | Self::Leaving(_))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leaving {
    /// How many of the filters the broker was asked to drop.
    unsubscribed: usize,
    /// The answer to the last request is not there yet.
    waiting: bool,
    /// Nothing was in hand at the last request after all the others, and nothing came since.
    quiet: bool,
}

/// Waits for the decision. Cancel-safe.
pub(super) async fn decided(session_at_exit: &mut watch::Receiver<SessionAtExit>) -> SessionAtExit {
    let decided =
        session_at_exit.wait_for(|session_at_exit| *session_at_exit != SessionAtExit::Undecided);
    decided
        .await
        .map_or(SessionAtExit::Keep, |session_at_exit| *session_at_exit)
}

impl Link {
    /// The drain begins.
    pub(super) fn begin_stop(&self, progress: &mut Progress) {
        progress.stop = if self.shares {
            Stop::Undecided
        } else {
            Stop::Keeping
        };
        self.go_on_stopping(progress);
    }

    pub(super) fn decide_stop(&self, session_at_exit: SessionAtExit, progress: &mut Progress) {
        progress.stop = if session_at_exit == SessionAtExit::Remove {
            tracing::info!(
                broker = self.broker,
                "other members listen: leaving the share group"
            );
            Stop::Leaving(Leaving::default())
        } else {
            Stop::Keeping
        };
        self.go_on_stopping(progress);
    }

    /// Takes the next step of a stop, if its time has come.
    pub(super) fn go_on_stopping(&self, progress: &mut Progress) {
        match progress.stop {
            Stop::Keeping if self.acks.is_idle() => Self::disconnect(progress, false),
            // Requests go out one after the other: the library gives all of them the same packet id.
            Stop::Leaving(leaving) if !leaving.waiting && progress.subscribed_at.is_some() => {
                self.go_on_leaving(leaving, progress);
            }
            _ => {}
        }
    }

    /// The session may hold far more than one window. Once nothing is in hand, the broker is asked something whose
    /// answer comes behind whatever our acknowledgements made it send: it has nothing more if only the answer comes.
    fn go_on_leaving(&self, mut leaving: Leaving, progress: &mut Progress) {
        let filter = if let Some(filter) = self.filters.get(leaving.unsubscribed) {
            leaving.unsubscribed += 1;
            filter
        } else if !self.acks.is_idle() {
            return;
        } else if leaving.quiet {
            return Self::disconnect(progress, true);
        } else if let Some(filter) = self.filters.last() {
            leaving.quiet = true;
            filter
        } else {
            return;
        };
        // Behind the acknowledgements in the same queue. Should it be full, the events of these bring us here again.
        if progress.client.try_unsubscribe(filter).is_ok() {
            leaving.waiting = true;
            progress.stop = Stop::Leaving(leaving);
        }
    }

    pub(super) fn unsubscribed(&self, answer: &UnsubAck, progress: &mut Progress) {
        let Stop::Leaving(leaving) = &mut progress.stop else {
            return;
        };
        leaving.waiting = false;
        let is_gone = |reason: &UnsubAckReason| {
            matches!(
                reason,
                UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted
            )
        };
        if !answer.reasons.iter().all(is_gone) {
            tracing::warn!(
                broker = self.broker,
                reasons = ?answer.reasons,
                "the broker does not let us leave the share group: the session stays and keeps its share of the messages",
            );
            progress.stop = Stop::Keeping;
        }
    }

    fn disconnect(progress: &mut Progress, left: bool) {
        // As above; if the connection is gone, so be it.
        if progress.client.try_disconnect().is_ok() {
            progress.stop = Stop::Disconnecting { left };
        }
    }

    /// Removes our session, which is empty and subscribed to nothing: if that fails, it harmlessly waits for its expiry.
    pub(super) async fn remove_session(&self) {
        if self.options.session_expiry_interval() == Some(0) {
            return;
        }
        let removed = tokio::select! {
            biased;
            () = self.hard.cancelled() => return,
            removed = timeout(self.connect_timeout, self.replace_session()) => removed,
        };
        match removed {
            Ok(Ok(())) => tracing::info!(broker = self.broker, "left the share group"),
            Ok(Err(err)) => {
                let error = error_chain(&err);
                tracing::warn!(
                    broker = self.broker,
                    error,
                    "left the share group; our empty session waits for its expiry"
                );
            }
            Err(_) => tracing::warn!(
                broker = self.broker,
                "left the share group; our empty session waits for its expiry"
            ),
        }
    }

    /// The library's DISCONNECT cannot carry an expiry: a session without one takes the place of ours.
    async fn replace_session(&self) -> Result<(), ConnectionError> {
        let mut options = self.options.clone();
        options
            .set_clean_start(true)
            .set_session_expiry_interval(Some(0));
        // Room for the disconnect, the only request.
        let (client, mut eventloop) = AsyncClient::new(options, 1);
        loop {
            match eventloop.poll().await? {
                Event::Incoming(Packet::ConnAck(_)) if client.try_disconnect().is_err() => {
                    return Err(ConnectionError::RequestsDone);
                }
                Event::Outgoing(rumqttc::Outgoing::Disconnect) => return Ok(()),
                _ => {}
            }
        }
    }
}

impl Progress {
    /// A message came: if we are leaving, the session was not empty.
    pub(super) const fn note_message(&mut self) {
        if let Stop::Leaving(leaving) = &mut self.stop {
            leaving.quiet = false;
        }
    }
}
