//! Notices a subscription that brings nothing. A broker grants the subscription to any topic, also to one on which nobody
//! publishes. Pure.

use std::time::Duration;

/// What is known about the subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    /// How long the subscription has brought no message; `None` while it is not active.
    pub(crate) quiet_for: Option<Duration>,
    /// Number of messages received and not acknowledged. While there are any, the broker may wait for us.
    pub(crate) unacknowledged: usize,
    /// Number of messages that this process has received.
    pub(crate) received: u64,
    /// Number of known devices.
    pub(crate) devices: u64,
}

/// Something to be logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Known devices have become silent, all of them.
    Quiet,
    /// Messages arrive again.
    Ended,
    /// A new installation has never received a message.
    NothingEver,
}

/// Remembers what was logged.
#[derive(Debug)]
pub(crate) struct QuietWatch {
    /// Silence after which a subscription is quiet; zero means never.
    after: Duration,
    is_quiet: bool,
    nothing_ever_reported: bool,
}

impl QuietWatch {
    pub(crate) fn new(after: Duration) -> Self {
        Self {
            after,
            is_quiet: false,
            nothing_ever_reported: false,
        }
    }

    /// Whether the subscription is quiet although devices are known.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Evaluates an observation.
    pub(crate) fn observe(&mut self, observed: Observation) -> Option<Notice> {
        let Some(quiet_for) = observed.quiet_for else {
            // That there is no subscription is reported elsewhere.
            self.is_quiet = false;
            return None;
        };
        let lasts =
            !self.after.is_zero() && quiet_for >= self.after && observed.unacknowledged == 0;
        let was_quiet = self.is_quiet;
        self.is_quiet = lasts && observed.devices > 0;
        match (was_quiet, self.is_quiet) {
            (false, true) => Some(Notice::Quiet),
            (true, false) => Some(Notice::Ended),
            _ if lasts && observed.devices == 0 && observed.received == 0 => {
                let is_new = !std::mem::replace(&mut self.nothing_ever_reported, true);
                is_new.then_some(Notice::NothingEver)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
