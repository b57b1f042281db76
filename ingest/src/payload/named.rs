//! Detectors that a payload names, although it is not certain that it is about them.

use std::borrow::Cow;

use shared::device::DeviceId;
use shared::reading::Repair;
use xxhash_rust::xxh3::xxh3_64;

use super::error::PayloadError;
use super::field::Field;
use super::tolerant::mark;
use super::{Format, Item, ItemContent, RepairKinds, parse_strictly};

/// Adds an item without a value for each detector that a refused item names beside others. There are at most as many as
/// serials fit into the payload.
pub(super) fn with_named<'a>(items: Vec<Item<'a>>, format: &Format) -> Vec<Item<'a>> {
    let is_ambiguous = |item: &Item<'_>| !names(&item.content).is_empty();
    if !items.iter().any(is_ambiguous) {
        return items;
    }
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let fingerprint = xxh3_64(&item.bytes);
        let named = names(&item.content).iter();
        let named: Vec<Item<'a>> = named
            .filter_map(|serial| named_item(serial, fingerprint, format))
            .collect();
        all.push(item);
        all.extend(named);
    }
    all
}

fn names(content: &ItemContent) -> &[DeviceId] {
    match content {
        ItemContent::Refused(
            PayloadError::AmbiguousSerial { serials }
            | PayloadError::SeveralSerials { serials, .. }
            | PayloadError::TooManyObjects { serials, .. }
            | PayloadError::TooLarge { serials, .. },
        ) => serials,
        _ => &[],
    }
}

/// Returns a reading of this detector in which nothing could be read. Its bytes are short, since there may be many of them. They
/// change with those of the payload, whose fingerprint is given.
fn named_item<'a>(serial: &DeviceId, fingerprint: u64, format: &Format) -> Option<Item<'a>> {
    let serial = serde_json::to_string(serial).ok()?;
    let json = format!("{{\"{}\":{serial}}}", Field::Serial.name());
    let Ok(ItemContent::Reading(parsed)) = parse_strictly(json.as_bytes(), format) else {
        return None;
    };
    let bytes = format!("{json}{fingerprint:016x}").into_bytes();
    Some(Item {
        bytes: Cow::Owned(bytes),
        content: mark(
            ItemContent::Named(parsed),
            (Repair::Unreadable, RepairKinds::default()),
        ),
        repairs: RepairKinds::default(),
        repaired: Some(json),
    })
}
