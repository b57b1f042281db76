//! Counts the distinct devices that the clients of this replica watch, and bounds them, in all and per address.
//!
//! Each device costs memory here and a subscription in Redis, however many clients watch it. Names that do not exist cost memory
//! too, and a client may make up any number of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::device::DeviceId;

use crate::client_address::ClientAddress;

/// How many distinct devices may be watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchLimits {
    /// By all clients together.
    pub(crate) devices: usize,
    /// By all clients of one address together.
    pub(crate) per_address: usize,
}

/// Why a device may not be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchRefused {
    /// This replica watches as many devices as it may.
    Full(usize),
    /// The clients of this address watch as many devices as they may.
    AddressFull(usize),
}

/// The watched devices. Clones share them. Bounded by [`WatchLimits`].
#[derive(Clone, Debug)]
pub(crate) struct Watches {
    limits: WatchLimits,
    // A std mutex: held for one insertion or removal, never across an await.
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    /// Watches per device.
    devices: HashMap<DeviceId, usize>,
    /// Watches per device, of the clients of each address.
    addresses: HashMap<ClientAddress, HashMap<DeviceId, usize>>,
}

/// One client's watch of one device. It counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watches: Watches,
    device: DeviceId,
    address: ClientAddress,
}

impl Watches {
    pub(crate) fn new(limits: WatchLimits) -> Self {
        Self {
            limits,
            table: Arc::default(),
        }
    }

    /// Counts one more watch of the device, by a client of this address. A device that is watched already is always allowed.
    pub(crate) fn begin(
        &self,
        device: &DeviceId,
        address: ClientAddress,
    ) -> Result<Watch, WatchRefused> {
        let mut table = self.table();
        let table = &mut *table;
        if !table.devices.contains_key(device) && table.devices.len() >= self.limits.devices {
            return Err(WatchRefused::Full(self.limits.devices));
        }
        let of_address = table.addresses.get(&address);
        let is_full = of_address.is_some_and(|devices| {
            !devices.contains_key(device) && devices.len() >= self.limits.per_address
        });
        if is_full {
            return Err(WatchRefused::AddressFull(self.limits.per_address));
        }
        let of_address = table.addresses.entry(address).or_default();
        *of_address.entry(device.clone()).or_default() += 1;
        *table.devices.entry(device.clone()).or_default() += 1;
        Ok(Watch {
            watches: self.clone(),
            device: device.clone(),
            address,
        })
    }

    /// Returns the number of distinct devices.
    pub(crate) fn devices(&self) -> usize {
        self.table().devices.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = self.watches.table();
        subtract(&mut table.devices, &self.device);
        if let Some(of_address) = table.addresses.get_mut(&self.address) {
            subtract(of_address, &self.device);
            if of_address.is_empty() {
                table.addresses.remove(&self.address);
            }
        }
    }
}

fn subtract(counts: &mut HashMap<DeviceId, usize>, device: &DeviceId) {
    if let Some(count) = counts.get_mut(device) {
        *count -= 1;
        if *count == 0 {
            counts.remove(device);
        }
    }
}

#[cfg(test)]
mod tests;
