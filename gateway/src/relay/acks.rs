//! The replies to `subscribe:device` and `unsubscribe:device`.

use serde::Serialize;
use serde_json::value::RawValue;
use shared::device::DeviceId;
use shared::position::Epoch;

use crate::json;
use crate::replay::{CatchUp, Outcome};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Subscribed<'a> {
    ok: bool,
    device_id: &'a DeviceId,
    epoch: Epoch,
    seq: u64,
    recovered: bool,
    /// Present, and `false`, only if alarm changes may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    alarms_recovered: Option<bool>,
}

/// Renders the reply to a subscription with this outcome.
pub(super) fn subscribed(device: &DeviceId, answer: &CatchUp) -> Box<RawValue> {
    let are_alarms_incomplete = answer.outcome == Outcome::AlarmsIncomplete;
    json::to_raw(&Subscribed {
        ok: true,
        device_id: device,
        epoch: answer.position.epoch,
        seq: answer.position.seq,
        recovered: answer.is_recovered(),
        alarms_recovered: are_alarms_incomplete.then_some(false),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Unsubscribed<'a> {
    ok: bool,
    device_id: &'a DeviceId,
}

/// Renders the reply to the end of a subscription.
pub(super) fn unsubscribed(device: &DeviceId) -> Box<RawValue> {
    json::to_raw(&Unsubscribed {
        ok: true,
        device_id: device,
    })
}
