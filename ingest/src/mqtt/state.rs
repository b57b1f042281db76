//! The state of the connection to the broker: one state machine for connecting, receiving and stopping. Pure.
//!
//! ```text
//!              CONNACK               SUBACK               another client has our session
//!  Connecting ─────────▶ Subscribing ───────▶ Subscribed ────────────────────────────────▶ TakenOver
//!      │                  │     ▲  ▲              │                                          │   │
//!      │ lost        lost │     │  └──────────────┼─────────── CONNACK of a new try ─────────┘   │ new try lost
//!      │                  │     │ CONNACK         │ lost                                         │
//!      └──────────────────┴─▶ Down ◀──────────────┴──────────────────────────────────────────────┘
//!
//!  A fast client can have our session in Subscribing already.
//!
//!  A stop is requested
//!    in Connecting, Down or TakenOver ───────────────────────────▶ Stopped
//!    in Subscribing or Subscribed, not in a share group ─────────▶ Finishing
//!    in Subscribing or Subscribed, in a share group ─────────────▶ AwaitingDecision
//!
//!  AwaitingDecision ──keep the session──▶ Finishing ──all acknowledged──▶ Disconnecting ──▶ Stopped
//!         │                                   ▲
//!         │ remove the session                │
//!         ▼         UNSUBACK: refused         │
//!   Unsubscribing ────────────────────────────┤
//!         │ UNSUBACK of the last filter       │
//!         ▼                                   │
//!     Emptying ◀─────────────────────────┐    │
//!         │ all acknowledged:            │    │
//!         │ UNSUBSCRIBE again            │    │
//!         ▼      UNSUBACK, but a message │    │
//!    Confirming ─────────────────────────┘    │
//!         │  └──UNSUBACK: refused─────────────┘
//!         │ UNSUBACK, and no message
//!         ▼
//!       Empty ──▶ Disconnecting ──▶ RemovingSession ──▶ Stopped
//! ```
//!
//! A message changes Empty back to Emptying. The end of the drain period changes every state to Stopped.
//!
//! Why UNSUBSCRIBE again: the session may hold far more messages than one receive window. The answer to this UNSUBSCRIBE
//! comes after all messages that the broker sent in reply to our acknowledgements. If no message comes before the answer,
//! the session is empty.

use super::shutdown::SessionAtExit;

/// State of the connection to the broker. The module's documentation shows the transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    /// Before the first connection.
    Connecting,
    /// Connected; the subscription is not confirmed yet.
    Subscribing,
    /// Receives messages.
    Subscribed,
    /// Connection lost; connecting is retried.
    Down,
    /// Another client has our session; connecting is retried once per `--mqtt-takeover-retry`.
    TakenOver,
    /// Stopping, and still receiving. Whether the session is kept is not decided yet.
    AwaitingDecision,
    /// Stopping, and receiving nothing more. The session is kept.
    Finishing,
    /// Leaving the share group: one subscription after the other is ended.
    Unsubscribing {
        /// Index of the filter.
        filter: usize,
        /// Number of filters.
        count: usize,
        /// Whether the UNSUBSCRIBE was sent.
        sent: bool,
    },
    /// Left the share group; the session may still hold messages.
    Emptying,
    /// Waits for the answer to the UNSUBSCRIBE that shows whether the session is empty.
    Confirming {
        /// Whether no message came since it was sent.
        quiet: bool,
    },
    /// The session is empty.
    Empty,
    /// DISCONNECT is queued.
    Disconnecting(SessionAtExit),
    /// Disconnected; the empty session is being removed.
    RemovingSession,
    /// Stopped for good.
    Stopped,
}

/// An event that can change the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEvent {
    ConnAck,
    SubAck,
    Message,
    UnsubAck {
        accepted: bool,
    },
    Lost,
    TakenOver,
    StopRequested {
        in_share_group: bool,
    },
    /// It is decided whether a member of a share group keeps or removes its session. `filters` is its number of topic filters.
    Decided {
        session: SessionAtExit,
        filters: usize,
    },
    /// The request of [`ConnectionState::due_request`] is queued.
    RequestQueued,
    /// DISCONNECT was sent.
    Disconnected,
    /// Nothing more will happen.
    Stopped,
}

/// A request that must be sent to the broker to continue a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopRequest {
    /// UNSUBSCRIBE from the filter with this index.
    Unsubscribe {
        filter: usize,
    },
    /// UNSUBSCRIBE from any filter, only to get the answer.
    UnsubscribeAgain,
    Disconnect,
}

impl ConnectionState {
    /// Returns the state after an event. An event that has no meaning in a state leaves it unchanged.
    pub(super) fn after(self, event: ConnectionEvent) -> Self {
        use ConnectionEvent as Event;
        match (self, event) {
            (_, Event::Stopped) => Self::Stopped,
            (Self::Connecting | Self::Down | Self::TakenOver, Event::ConnAck) => Self::Subscribing,
            (Self::Subscribing, Event::SubAck) => Self::Subscribed,
            (_, Event::Lost) => Self::Down,
            (_, Event::TakenOver) => Self::TakenOver,

            (Self::Connecting | Self::Down | Self::TakenOver, Event::StopRequested { .. }) => {
                Self::Stopped
            }
            (Self::Subscribing | Self::Subscribed, Event::StopRequested { in_share_group }) => {
                if in_share_group {
                    Self::AwaitingDecision
                } else {
                    Self::Finishing
                }
            }
            (Self::AwaitingDecision, Event::Decided { session, filters }) => match session {
                SessionAtExit::Remove => Self::unsubscribing(0, filters),
                SessionAtExit::Keep | SessionAtExit::Undecided => Self::Finishing,
            },
            (Self::Finishing, Event::RequestQueued) => Self::Disconnecting(SessionAtExit::Keep),

            (
                Self::Unsubscribing { .. } | Self::Confirming { .. },
                Event::UnsubAck { accepted: false },
            ) => Self::Finishing,
            (Self::Unsubscribing { filter, count, .. }, Event::RequestQueued) => {
                Self::Unsubscribing {
                    filter,
                    count,
                    sent: true,
                }
            }
            (Self::Unsubscribing { filter, count, .. }, Event::UnsubAck { .. }) => {
                Self::unsubscribing(filter + 1, count)
            }
            (Self::Emptying, Event::RequestQueued) => Self::Confirming { quiet: true },
            (Self::Confirming { .. }, Event::Message) => Self::Confirming { quiet: false },
            (Self::Confirming { quiet: true }, Event::UnsubAck { .. }) => Self::Empty,
            (Self::Confirming { quiet: false }, Event::UnsubAck { .. })
            | (Self::Empty, Event::Message) => Self::Emptying,
            (Self::Empty, Event::RequestQueued) => Self::Disconnecting(SessionAtExit::Remove),
            (Self::Disconnecting(SessionAtExit::Remove), Event::Disconnected) => {
                Self::RemovingSession
            }
            (state, _) => state,
        }
    }

    fn unsubscribing(filter: usize, count: usize) -> Self {
        if filter < count {
            Self::Unsubscribing {
                filter,
                count,
                sent: false,
            }
        } else {
            Self::Emptying
        }
    }

    /// Returns the request that must be sent now to continue a stop.
    pub(super) fn due_request(
        self,
        all_acknowledged: bool,
        suback_received: bool,
    ) -> Option<StopRequest> {
        match self {
            Self::Finishing if all_acknowledged => Some(StopRequest::Disconnect),
            // Requests with an answer are sent one after the other, because an answer is not matched with its request by packet id.
            Self::Unsubscribing {
                filter,
                sent: false,
                ..
            } if suback_received => Some(StopRequest::Unsubscribe { filter }),
            Self::Emptying if all_acknowledged => Some(StopRequest::UnsubscribeAgain),
            Self::Empty => Some(StopRequest::Disconnect),
            _ => None,
        }
    }

    /// Whether messages are accepted. Other messages stay unacknowledged in the session, and the broker sends them again on
    /// our next connection. A session that will be removed has no next connection, so all of its messages are accepted.
    pub(super) fn accepts_messages(self) -> bool {
        !matches!(
            self,
            Self::Finishing | Self::Disconnecting(_) | Self::RemovingSession | Self::Stopped
        )
    }

    /// Whether the subscription is active. A stop does not end it at once; the stop itself is reported elsewhere.
    pub(crate) fn is_subscribed(self) -> bool {
        match self {
            Self::Connecting
            | Self::Subscribing
            | Self::Down
            | Self::TakenOver
            | Self::RemovingSession
            | Self::Stopped => false,
            Self::Subscribed
            | Self::AwaitingDecision
            | Self::Finishing
            | Self::Unsubscribing { .. }
            | Self::Emptying
            | Self::Confirming { .. }
            | Self::Empty
            | Self::Disconnecting(_) => true,
        }
    }

    /// Whether a stop was requested.
    pub(super) fn is_stopping(self) -> bool {
        !matches!(
            self,
            Self::Connecting | Self::Subscribing | Self::Subscribed | Self::Down | Self::TakenOver
        )
    }

    /// Whether the share group is being left, and DISCONNECT is not queued yet.
    pub(super) fn is_leaving(self) -> bool {
        matches!(
            self,
            Self::Unsubscribing { .. } | Self::Emptying | Self::Confirming { .. } | Self::Empty
        )
    }
}

#[cfg(test)]
mod tests;
