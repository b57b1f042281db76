//! Fingerprints of the payloads that this process committed most recently. Pure.
//!
//! After a lost connection the broker sends every unacknowledged message again. This process may have committed those
//! messages already, and there can be a full receive window of them, or more: mosquitto 2.0.11 exceeds the window once it has
//! queued messages. The fingerprints stored with a device cover only its last 64 payloads. The fingerprints here cover every
//! message that can be unacknowledged: one for each message, however many objects it has.
//!
//! A device has a share of the room. So a device that sends very much does not make the messages of the others forgotten.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use shared::device::DeviceId;
use xxhash_rust::xxh3::xxh3_64;

/// How many receive windows of fingerprints one device has: twice the number of messages that can be received and not acknowledged at
/// one time.
const WINDOWS_PER_DEVICE: usize = 4;
/// How many times as many all devices have together.
const SHARES: usize = 4;

/// Fingerprints of the payloads committed most recently.
#[derive(Debug)]
pub(crate) struct CommittedFingerprints {
    known: HashSet<u64>,
    /// All of them with a number for their device, oldest first.
    order: BTreeMap<u64, (u64, u64)>,
    /// The places of each device's fingerprints in `order`, oldest first.
    places: HashMap<u64, VecDeque<u64>>,
    next_place: u64,
    max_per_device: usize,
}

impl CommittedFingerprints {
    /// Creates an empty set for this receive window.
    pub(crate) fn new(receive_maximum: usize) -> Self {
        Self {
            known: HashSet::new(),
            order: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
            max_per_device: WINDOWS_PER_DEVICE * receive_maximum,
        }
    }

    pub(crate) fn contains(&self, fingerprint: u64) -> bool {
        self.known.contains(&fingerprint)
    }

    /// Adds the fingerprint of a committed payload. If there are too many, removes the oldest one of this device, or the oldest of
    /// all. `None`: it names no device.
    pub(crate) fn insert(&mut self, device: Option<&DeviceId>, fingerprint: u64) {
        if !self.known.insert(fingerprint) {
            return;
        }
        let device = device.map_or(0, |device| xxh3_64(device.as_str().as_bytes()));
        let place = self.next_place;
        self.next_place += 1;
        self.order.insert(place, (device, fingerprint));
        let of_device = self.places.entry(device).or_default();
        of_device.push_back(place);
        if of_device.len() > self.max_per_device {
            self.remove_oldest_of(device);
        } else if self.order.len() > SHARES * self.max_per_device
            && let Some((oldest, _)) = self.order.first_key_value().map(|(_, entry)| *entry)
        {
            self.remove_oldest_of(oldest);
        }
    }

    fn remove_oldest_of(&mut self, device: u64) {
        let Some(of_device) = self.places.get_mut(&device) else {
            return;
        };
        let place = of_device.pop_front();
        if of_device.is_empty() {
            self.places.remove(&device);
        }
        if let Some((_, fingerprint)) = place.and_then(|place| self.order.remove(&place)) {
            self.known.remove(&fingerprint);
        }
    }
}

#[cfg(test)]
mod tests;
