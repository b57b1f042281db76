//! The usual clock offset of a device: how it is learnt, and when it is learnt anew.
//!
//! An offset is arrival time minus device time, so it contains the delay of the message. The smallest one has the least delay.

use crate::clock::{Time, millis};
use crate::forward::UnknownFields;

use super::OrderSettings;
use super::state::{OffsetMinimum, OrderState, UnusualRun};

/// Maximum number of minima. Together they cover 24 h.
pub const MAX_OFFSET_MINIMA: usize = 8;
/// The time that one minimum covers.
const MINIMUM_SPAN_MS: i64 = 3 * 60 * 60 * 1_000;
/// Readings that must keep pace with their arrivals to show that the clock was set.
const RELEARN_READINGS: u32 = 3;
/// Minimum time over which these readings must arrive.
const RELEARN_SPAN_MS: i64 = 30_000;
/// Minimum time between the arrivals of two of them. A backlog that is sent in bursts keeps pace for two bursts by chance, and
/// then goes on.
const RELEARN_STEP_MS: i64 = 10_000;
/// By how much the offset of such a reading may differ from that of the first. The delay of a message varies by about a second.
/// A tenth of the time between the arrivals is allowed if that is more: a backlog is sent much faster than it was recorded, so
/// its offsets shrink faster.
const PACE_SLACK_MS: i64 = 1_500;

/// An offset compared with the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deviation {
    /// Within the tolerance, or there is no usual offset yet.
    Usual,
    /// The device time is newer than possible.
    Ahead,
    /// The reading was delayed, or the clock is behind.
    Behind,
}

impl OrderState {
    /// Returns the usual offset: the smallest one of the last 24 h in which the device was heard.
    pub(super) fn usual_ms(&self) -> Option<i64> {
        let minima = self.offset_minima.iter();
        minima.map(|minimum| minimum.offset_ms).min()
    }

    /// Returns by how much the offset is above the usual one. Without a usual one, the offset itself counts as usual.
    pub(super) fn age_ms(&self, offset_ms: i64) -> i64 {
        let usual_ms = self.usual_ms().unwrap_or(offset_ms);
        offset_ms.saturating_sub(usual_ms)
    }

    pub(super) fn deviation(&self, offset_ms: i64, settings: &OrderSettings) -> Deviation {
        let tolerance_ms = millis(settings.clock_tolerance);
        match self.age_ms(offset_ms) {
            age_ms if age_ms < tolerance_ms.saturating_neg() => Deviation::Ahead,
            age_ms if age_ms > tolerance_ms => Deviation::Behind,
            _ => Deviation::Usual,
        }
    }

    /// Takes over what the previous release learnt.
    pub(super) fn adopt_offsets(&mut self) {
        if let Some(smallest) = self.offsets_ms.iter().min()
            && self.offset_minima.is_empty()
        {
            self.offset_minima.push_back(OffsetMinimum {
                since: self.latest_arrival,
                offset_ms: *smallest,
            });
        }
        self.offsets_ms.clear();
    }

    /// Learns an offset. A minimum is left only when a reading arrives after its time, so silence never empties the minima.
    pub(super) fn learn(&mut self, offset_ms: i64, at: Time) {
        self.unusual = None;
        match self.offset_minima.back_mut() {
            Some(last) if at.millis_since(last.since) < MINIMUM_SPAN_MS => {
                last.offset_ms = last.offset_ms.min(offset_ms);
            }
            _ => {
                if self.offset_minima.len() >= MAX_OFFSET_MINIMA {
                    self.offset_minima.pop_front();
                }
                self.offset_minima.push_back(OffsetMinimum {
                    since: at,
                    offset_ms,
                });
            }
        }
    }

    /// Forgets all that was learnt, and learns this offset.
    pub(super) fn learn_anew(&mut self, offset_ms: i64, at: Time) {
        self.offset_minima.clear();
        self.learn(offset_ms, at);
    }

    /// Counts a reading whose offset is not usual. Returns whether the readings in a row now show that the clock was set. If so,
    /// the usual offset has been learnt anew from them.
    ///
    /// A reading that is newer than the pace of the first one allows begins a new run, as each reading of a backlog does. One that
    /// is older was only delayed, as most readings of a device that sends in bursts.
    pub(super) fn learn_unusual(&mut self, is_ahead: bool, offset_ms: i64, at: Time) -> bool {
        let mut run = self
            .unusual
            .take()
            .filter(|run| run.ahead == is_ahead && !run.is_outrun_by(offset_ms, at))
            .unwrap_or_else(|| UnusualRun::new(is_ahead, offset_ms, at));
        let keeps_pace = offset_ms <= run.first_ms.saturating_add(run.slack_ms(at));
        if keeps_pace && at.millis_since(run.last_arrival) >= RELEARN_STEP_MS {
            run.count = run.count.saturating_add(1);
            run.last_arrival = at;
        }
        run.min_ms = run.min_ms.min(offset_ms);
        let passed_ms = at.millis_since(run.first_arrival);
        let was_set = keeps_pace && run.count >= RELEARN_READINGS && passed_ms >= RELEARN_SPAN_MS;
        if was_set {
            self.learn_anew(run.min_ms, at);
        } else {
            self.unusual = Some(run);
        }
        was_set
    }
}

impl UnusualRun {
    fn new(ahead: bool, offset_ms: i64, at: Time) -> Self {
        Self {
            ahead,
            first_arrival: at,
            first_ms: offset_ms,
            min_ms: offset_ms,
            count: 1,
            last_arrival: at,
            unknown: UnknownFields::default(),
        }
    }

    fn slack_ms(&self, at: Time) -> i64 {
        PACE_SLACK_MS.max(at.millis_since(self.first_arrival) / 10)
    }

    fn is_outrun_by(&self, offset_ms: i64, at: Time) -> bool {
        offset_ms < self.first_ms.saturating_sub(self.slack_ms(at))
    }
}
