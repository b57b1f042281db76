//! The memory that this service needs in the worst case. Pure.

use shared::memory_need::{ALARM_BYTES, FOLDED_GROUP_BYTES, MAX_ALARMS, MAX_FOLDED_GROUPS, Need};

use super::Config;

/// What a running process takes before it has received anything. Measured: 41 MB with a few messages per second; the allocator keeps
/// memory for each thread.
const EMPTY_BYTES: u64 = 48 << 20;
/// The last committed state of a device without open alarms, and its newest event that is stored whole. Measured with 10 000 devices:
/// 3.7 KB for the state. Of an event with more than 4 KiB nothing is kept.
const STATE_BYTES: u64 = 10 << 10;
/// What a received message takes beside its payload.
const MESSAGE_BYTES: u64 = 4 << 10;
/// A fingerprint in the set of committed messages, with its places in the order of all and of its device.
const FINGERPRINT_BYTES: u64 = 256;

pub(super) fn needs(config: &Config) -> Vec<Need> {
    let window = u64::from(config.mqtt.mqtt_receive_maximum);
    let devices = u64::from(config.max_devices) + u64::from(config.alarm_reserve);
    let payload = u64::from(config.max_payload_bytes);
    vec![
        Need::fixed("the process", "measured without messages", EMPTY_BYTES),
        // Two windows in the queue. Two batches have a third one, as it was received and as it is parsed.
        Need::product(
            "received messages",
            "message",
            [(4, "windows"), (window, "messages")],
            payload.saturating_add(MESSAGE_BYTES),
        ),
        Need::fixed(
            "the packet that is being received",
            "--mqtt-max-packet-size",
            config.mqtt.mqtt_max_packet_size.into(),
        ),
        Need::product(
            "fingerprints of committed messages",
            "fingerprint",
            [(16, "windows"), (window, "messages")],
            FINGERPRINT_BYTES,
        ),
        Need::product(
            "last committed states",
            "state",
            [(devices, "devices"), (1, "state")],
            STATE_BYTES,
        ),
        Need::product(
            "open alarms in these states",
            "alarm",
            [(devices, "devices"), (MAX_ALARMS, "alarms")],
            ALARM_BYTES,
        ),
        Need::product(
            "entries that wait for the alarm log in these states",
            "group",
            [(devices, "devices"), (MAX_FOLDED_GROUPS, "groups")],
            FOLDED_GROUP_BYTES,
        ),
    ]
}
