//! How much memory Redis needs in the worst case: the bounds of everything stored, multiplied. Pure.
//!
//! The constants are compared with a real Redis by a test of the store. They hold for the texts that detectors send; a detector that
//! makes every text as long as it may be takes up to twice as much.

use crate::alarm_log::share::MAX_FOLDED;
use crate::keys::{MAX_AUDIT, MAX_CHANGES, MAX_REVOKED, MAX_STORED_EVENTS, TRIM_EVERY};

/// State of a device without its payload and its alarms: fields, entries in the indexes of the partition.
pub const DEVICE_BYTES: u64 = 6 * 1024;
/// An open alarm in the state of a device, acknowledged with the longest note.
pub const ALARM_BYTES: u64 = 2560;
/// Alarms that one device can have at the same time: one of each of 12 kinds, and some of a newer release.
pub const MAX_ALARMS: u64 = 16;
/// Folded entries of the alarm log, of one group of alarms, in the state of a device that has written its share.
/// Measured as JSON: see the tests.
pub const FOLDED_GROUP_BYTES: u64 = 3 * 1024;
/// Such groups that one device can have at the same time.
pub const MAX_FOLDED_GROUPS: u64 = MAX_FOLDED as u64;
/// A published event that is stored whole.
pub const EVENT_BYTES: u64 = 3 * 1024;
/// A published event with alarm changes, in the changes stream. Those of an alarm with a note, which only a person writes, take up to 1120
/// bytes more.
pub const CHANGE_BYTES: u64 = 3 * 1024;
/// A line of the alarm log. One with a note, which only a person writes, takes up to 1120 bytes more.
pub const LOG_BYTES: u64 = 1024;
/// A sample of the history.
pub const SAMPLE_BYTES: u64 = 40;
/// A bucket of a rollup.
pub const BUCKET_BYTES: u64 = 12;
/// What a dead letter or a recorded payload takes beside its payload. Redis rounds up large ones.
pub const LETTER_BYTES: u64 = 5 * 1024;

/// An entry of the audit trail.
pub const AUDIT_BYTES: u64 = 1024;
/// A revoked token or subject, of up to 128 characters.
pub const REVOKED_BYTES: u64 = 256;

/// The bounds that are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBounds {
    /// `--max-devices`.
    pub devices: u64,
    /// `--max-payload-bytes`: the last payload is stored with each device.
    pub payload_bytes: u64,
    /// Whether events have the payload, too.
    pub live_raw_message: bool,
    /// `--history-max`.
    pub history_max: u64,
    /// `--history-bytes`; `None` for its default.
    pub history_bytes: Option<u64>,
    /// Levels of `--rollups`.
    pub rollups: u64,
    /// Buckets of these that a device may have.
    pub rollup_buckets: u64,
    /// `--log-max`.
    pub log_max: u64,
    /// `--partitions`.
    pub partitions: u64,
    /// `--dead-letters-max`.
    pub dead_letters: u64,
    /// Bytes that are kept of the payload of a dead letter.
    pub dead_letter_payload_bytes: u64,
    /// `--record-raw`.
    pub recorded: u64,
}

/// Bytes of one kind of data, and how they come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What is stored.
    pub what: &'static str,
    /// The multiplication, for people.
    pub arithmetic: String,
    /// Bytes in the worst case.
    pub bytes: u64,
}

impl Need {
    /// Returns what so many things of `each` bytes need. Each factor has its name.
    #[must_use]
    pub fn product(what: &'static str, unit: &str, factors: [(u64, &str); 2], each: u64) -> Self {
        let [(count, counted), (times, repeated)] = factors;
        let arithmetic = format!(
            "{count} {counted} x {times} {repeated} x {} per {unit}",
            shown(each)
        );
        Self {
            what,
            arithmetic,
            bytes: count.saturating_mul(times).saturating_mul(each),
        }
    }

    /// Returns what is bounded by a setting or a constant alone.
    #[must_use]
    pub fn fixed(what: &'static str, bound: &str, bytes: u64) -> Self {
        Self {
            what,
            arithmetic: bound.to_owned(),
            bytes,
        }
    }
}

/// Returns the limit of all histories together: the one that is set, else half of `maxmemory`, or 1 GiB where there is none.
#[must_use]
pub fn history_limit(configured: Option<u64>, maxmemory: u64) -> u64 {
    /// Where nothing is set.
    const DEFAULT: u64 = 1 << 30;
    let share = if maxmemory == 0 {
        DEFAULT
    } else {
        maxmemory / 2
    };
    configured.unwrap_or(share)
}

/// Returns the bytes that the history of so many devices may take however little is allowed: two nodes of samples each.
#[must_use]
pub fn history_kept_anyway(devices: u64) -> u64 {
    devices.saturating_mul(2 * NODE_SAMPLES * SAMPLE_BYTES)
}

/// Returns the bytes that so many rollups of each device may take however little is allowed: two nodes of a stream each.
fn rollups_kept_anyway(devices: u64, rollups: u64) -> u64 {
    devices
        .saturating_mul(rollups)
        .saturating_mul(2 * NODE_BYTES)
}

/// Returns what Redis needs in the worst case, kind by kind. `maxmemory` is 0 if it is unknown or there is none.
#[must_use]
pub fn needs(bounds: &StoredBounds, maxmemory: u64) -> Vec<Need> {
    let payload = if bounds.live_raw_message {
        bounds.payload_bytes
    } else {
        0
    };
    let product = Need::product;
    let devices = (bounds.devices, "devices");
    vec![
        product(
            "state",
            "device",
            [devices, (1, "state")],
            DEVICE_BYTES.saturating_add(bounds.payload_bytes),
        ),
        product(
            "open alarms",
            "alarm",
            [devices, (MAX_ALARMS, "alarms")],
            ALARM_BYTES,
        ),
        product(
            "entries that wait for the alarm log",
            "group",
            [devices, (MAX_FOLDED_GROUPS, "groups")],
            FOLDED_GROUP_BYTES,
        ),
        product(
            "events",
            "event",
            [devices, (MAX_STORED_EVENTS as u64 + TRIM_EVERY, "events")],
            EVENT_BYTES.saturating_add(payload),
        ),
        product(
            "alarm changes",
            "change",
            [devices, (MAX_CHANGES as u64, "changes")],
            CHANGE_BYTES,
        ),
        history_need(bounds, maxmemory),
        product(
            "alarm log",
            "line",
            [(bounds.partitions, "partitions"), (bounds.log_max, "lines")],
            LOG_BYTES,
        ),
        product(
            "dead letters",
            "letter",
            [(bounds.dead_letters, "letters"), (1, "stream")],
            LETTER_BYTES.saturating_add(bounds.dead_letter_payload_bytes),
        ),
        product(
            "recorded payloads",
            "payload",
            [(bounds.recorded, "payloads"), (1, "stream")],
            LETTER_BYTES.saturating_add(bounds.payload_bytes),
        ),
        product(
            "audit trail",
            "entry",
            [(MAX_AUDIT, "entries"), (3, "streams")],
            AUDIT_BYTES,
        ),
        product(
            "revoked tokens and subjects",
            "entry",
            [(MAX_REVOKED, "entries"), (1, "set")],
            REVOKED_BYTES,
        ),
    ]
}

/// Bytes of one node of a stream.
const NODE_BYTES: u64 = 4 << 10;

/// Returns what the samples and the rollups of all devices need.
fn history_need(bounds: &StoredBounds, maxmemory: u64) -> Need {
    let limit = history_limit(bounds.history_bytes, maxmemory);
    let all_samples = bounds
        .devices
        .saturating_mul(bounds.history_max)
        .saturating_mul(SAMPLE_BYTES);
    let all_buckets = bounds
        .devices
        .saturating_mul(bounds.rollup_buckets)
        .saturating_mul(BUCKET_BYTES);
    let kept_anyway = history_kept_anyway(bounds.devices)
        .saturating_add(rollups_kept_anyway(bounds.devices, bounds.rollups));
    Need {
        what: "history and rollups",
        arithmetic: match bounds.history_bytes {
            Some(_) => format!(
                "--history-bytes {}, or 200 samples and two nodes of each rollup of each device if that is more",
                shown(limit)
            ),
            None if maxmemory == 0 => format!(
                "{} without a maxmemory of Redis, else half of that (--connect asks it), or 200 samples and two nodes \
                 of each rollup of each device if that is more",
                shown(limit)
            ),
            None => format!(
                "{}, half of maxmemory, or 200 samples and two nodes of each rollup of each device if that is more",
                shown(limit)
            ),
        },
        bytes: all_samples
            .saturating_add(all_buckets)
            .min(limit.max(kept_anyway)),
    }
}

/// Samples in one node of a stream. Every device keeps one node, and the one that is being filled.
const NODE_SAMPLES: u64 = 100;

/// Returns the arithmetic for an operator, one line per kind, and the sum.
#[must_use]
pub fn report(bounds: &StoredBounds, maxmemory: u64) -> Vec<String> {
    lines("Redis", &needs(bounds, maxmemory))
}

/// Returns the arithmetic of a process for an operator, one line per kind, and the sum.
#[must_use]
pub fn lines(process: &str, needs: &[Need]) -> Vec<String> {
    let line = |need: &Need| {
        format!(
            "memory of {process}: {} for {} = {}",
            shown(need.bytes),
            need.what,
            need.arithmetic
        )
    };
    let mut lines: Vec<String> = needs.iter().map(line).collect();
    lines.push(format!(
        "memory of {process}: {} in the worst case",
        shown(total(needs))
    ));
    lines
}

/// Returns the sum.
#[must_use]
pub fn total(needs: &[Need]) -> u64 {
    needs
        .iter()
        .fold(0, |sum, need| sum.saturating_add(need.bytes))
}

/// Returns the warning about a `maxmemory`.
#[must_use]
pub fn compare(bounds: &StoredBounds, maxmemory: u64) -> String {
    let worst = total(&needs(bounds, maxmemory));
    if maxmemory == 0 {
        return format!(
            "warning: maxmemory is not set, so nothing keeps Redis from taking all memory of its machine; the worst case is {}",
            shown(worst)
        );
    }
    if worst > maxmemory {
        return format!(
            "warning: maxmemory is {}, the worst case is {}; a full Redis stores alarms and no history",
            shown(maxmemory),
            shown(worst)
        );
    }
    format!(
        "maxmemory is {}, enough for the worst case of {}",
        shown(maxmemory),
        shown(worst)
    )
}

/// Bytes for people, rounded up.
fn shown(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    let unit = UNITS.iter().find(|(size, _)| bytes >= 10 * size);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(size, name)| format!("{} {name}", bytes.div_ceil(*size)),
    )
}

#[cfg(test)]
mod tests;
