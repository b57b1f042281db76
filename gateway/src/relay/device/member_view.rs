//! The view that the members of a device have of it: the last reading, and whether it is marked as stale. Pure.
//!
//! | from | to | when | members are sent |
//! |---|---|---|---|
//! | `Current` | `Stale` | the stored state is stale | the reading with `stale: true`, unless an offline alarm was published |
//! | `Current` | `StaleByClock` | the silence limit passed and Redis cannot be read | the reading with `stale: true` |
//! | `StaleByClock` | `Stale` | the stored state is stale | nothing more |
//! | `Stale` | `Current` | the stored state is fresh | nothing: the event that made it fresh is on its way |
//! | `StaleByClock` | `Current` | the stored state is fresh after all | the reading with `snapshot: true` |
//! | `Stale`, `StaleByClock` | `Current` | the device sent a recent reading, or members caught up | those events |
//! | any | `Stale` | the device sent a reading that is too old, as `offline` | that event |

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use shared::alarm::Kind;
use shared::clock::Time;
use shared::event::PayloadKind;
use shared::state::Latest;
use shared::store::Snapshot;

use crate::replay::{self, PublishedEvent};

/// Whether members see the device as stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shown {
    /// As it was published.
    #[default]
    Current,
    /// As stale, because the stored state is.
    Stale,
    /// As stale, because the silence limit passed while Redis could not be read. The stored state may prove this wrong.
    StaleByClock,
}

/// The view that the members of a device have of it.
#[derive(Debug, Default)]
pub(super) struct MemberView {
    shown: Shown,
    /// How long the device may be silent; `None` if not known yet.
    silence_limit: Option<Duration>,
    /// The time until which the last reading may be shown as current; `None` if not known yet.
    fresh_until: Option<Time>,
    /// Payload of the last `device:data`.
    data: Option<Arc<RawValue>>,
}

/// The result of comparing the view with the stored state.
#[derive(Debug)]
pub(super) enum Correction {
    /// Nothing.
    None,
    /// Send this `device:data` to every member.
    Send(Arc<RawValue>),
    /// Compare again after the next load: the stored state is newer than the members' view, so an event is on its way.
    CompareAgain,
}

impl MemberView {
    /// Returns whether members have seen any reading of the device.
    pub(super) fn has_data(&self) -> bool {
        self.data.is_some()
    }

    /// Returns whether the reading is shown as current for longer than it may be.
    pub(super) fn is_overdue(&self, now: Time) -> bool {
        self.shown == Shown::Current && self.fresh_until.is_some_and(|until| now > until)
    }

    /// Marks an overdue reading as stale without reading Redis. Returns the `device:data` for the members.
    pub(super) fn go_stale_by_clock(&mut self, now: Time) -> Option<Arc<RawValue>> {
        if !self.is_overdue(now) {
            return None;
        }
        let stale = replay::stale_copy(self.data.as_deref()?)?;
        self.shown = Shown::StaleByClock;
        Some(stale)
    }

    /// Records that members were sent this event. Returns whether its freshness limit must be read from Redis.
    ///
    /// Only a message proves the device alive: the event of an acknowledgement or a deadline does not, even if it contains a
    /// reading.
    pub(super) fn record_event(&mut self, event: &PublishedEvent) -> bool {
        if let Some(data) = &event.data {
            self.data = Some(Arc::clone(data));
        }
        if !event.alive {
            return false;
        }
        let since = event.at.min(event.measured_at);
        self.fresh_until = self.silence_limit.map(|limit| since + limit);
        // The reading of a backlog may be too old already. It was published as `offline` then.
        let is_too_old = self.fresh_until.is_some_and(|until| event.at > until);
        if !is_too_old {
            self.shown = Shown::Current;
        } else if event.data.is_some() {
            self.shown = Shown::Stale;
        }
        self.fresh_until.is_none()
    }

    /// Records that members were sent the missed events, so they see the reading as it was published.
    pub(super) fn record_catch_up(&mut self) {
        self.shown = Shown::Current;
    }

    /// Records that the device is no longer stored. Returns the `device:data` for the members, unless they see it as stale
    /// already. How long its successor stays fresh is not known yet.
    pub(super) fn record_removal(&mut self) -> Option<Arc<RawValue>> {
        let before = std::mem::take(self);
        if before.shown != Shown::Current {
            return None;
        }
        replay::stale_copy(before.data.as_deref()?)
    }

    /// Compares the view of the members with the stored state. `is_in_step`: members have every event up to that state.
    pub(super) fn compare(
        &mut self,
        snapshot: &Snapshot,
        now: Time,
        is_in_step: bool,
    ) -> Correction {
        self.learn(snapshot, is_in_step);
        let Some(data) = replay::stale_data(snapshot, now) else {
            let was_wrong = std::mem::take(&mut self.shown) == Shown::StaleByClock;
            if was_wrong && is_in_step {
                // A snapshot, since members already have this position.
                let data = replay::current_data(snapshot, PayloadKind::Snapshot);
                return data.map_or(Correction::None, Correction::Send);
            }
            return Correction::None;
        };
        if self.shown != Shown::Current {
            self.shown = Shown::Stale;
            return Correction::None;
        }
        if !is_in_step {
            return Correction::CompareAgain;
        }
        self.shown = Shown::Stale;
        let state = snapshot.state.as_ref();
        let was_published = state.is_some_and(|state| state.alarm(Kind::DeviceOffline).is_some());
        if was_published {
            Correction::None
        } else {
            Correction::Send(data)
        }
    }

    /// Takes over the silence limit from the stored state, and the last reading if members have it.
    fn learn(&mut self, snapshot: &Snapshot, is_in_step: bool) {
        let Some(state) = &snapshot.state else {
            return;
        };
        let limit = u64::try_from(state.memory.silence_limit_ms).unwrap_or(0);
        let limit = Duration::from_millis(limit);
        self.silence_limit = Some(limit);
        if is_in_step {
            self.data = replay::current_data(snapshot, PayloadKind::Live);
        }
        let measured_at = state.latest.as_ref().map(Latest::measured_at);
        let since = |last: Time| measured_at.map_or(last, |measured_at| measured_at.min(last));
        self.fresh_until = snapshot.last_message.map(|last| since(last) + limit);
    }
}

#[cfg(test)]
mod tests;
