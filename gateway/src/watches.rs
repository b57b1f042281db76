//! Counts the distinct devices that the clients of this replica watch, and bounds them, in all and per address.
//!
//! Each device costs memory here and a subscription in Redis, however many clients watch it. Names that are not listed in Redis
//! cost memory, too, and a client may make up any number of them. So they have small bounds of their own:
//!
//! ```text
//! subscribed ── not looked up ──▶ listed: counts as a device
//!                            └──▶ not listed: counts as a name, or is refused ── first event ──▶ listed
//! ```
//!
//! A device that was not looked up yet counts as a listed one. While only such devices are in the way of another one, it waits
//! for their look-ups, so nobody is refused because of names that are about to be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use shared::device::DeviceId;
use tokio::sync::Notify;

use crate::admission::caller::Caller;
use crate::admission::enforcement::Enforcement;
use crate::admission::limit::Limit;
use crate::client_address::ClientAddress;
use crate::config::Config;

/// The part of the names that are not listed which the clients of one address may use: one in so many.
const UNLISTED_SHARE: usize = 4;

/// How many distinct devices may be watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchLimits {
    /// Listed ones, by all clients together.
    pub(crate) devices: usize,
    /// Listed ones, by all clients of one address together.
    pub(crate) per_address: usize,
    /// Names that are not listed, by all clients together.
    pub(crate) unlisted: usize,
    /// Names that are not listed, by all clients of one address together.
    pub(crate) unlisted_per_address: usize,
}

impl WatchLimits {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            devices: config.max_watched,
            per_address: config.watched_per_address,
            unlisted: config.max_unlisted,
            unlisted_per_address: config.max_unlisted.div_ceil(UNLISTED_SHARE),
        }
    }
}

/// Why a device may not be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchRefused {
    /// This replica watches as many devices as it may.
    Full(usize),
    /// The clients of this address watch as many devices as they may.
    AddressFull(usize),
    /// The device is not listed, and this replica watches as many such names as it may.
    UnlistedFull(usize),
    /// The device is not listed, and the clients of this address watch as many such names as they may.
    AddressUnlistedFull(usize),
}

impl WatchRefused {
    const fn limit(self) -> Limit {
        match self {
            Self::Full(_) => Limit::MaxWatched,
            Self::AddressFull(_) => Limit::WatchedPerAddress,
            Self::UnlistedFull(_) | Self::AddressUnlistedFull(_) => Limit::MaxUnlisted,
        }
    }
}

/// The watched devices. Clones share them. Bounded by [`WatchLimits`].
#[derive(Clone, Debug)]
pub(crate) struct Watches {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: WatchLimits,
    enforcement: Enforcement,
    // A std mutex: held for one change, never across an await.
    table: Mutex<Table>,
    /// Notified when there may be room for another device.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    devices: HashMap<DeviceId, Watched>,
    all: Counts,
    /// Only addresses that watch a device.
    addresses: HashMap<ClientAddress, Counts>,
}

/// What is known of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// Not looked up yet.
    Unknown,
    Listed,
    Unlisted,
}

/// Numbers of distinct devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    unknown: usize,
    listed: usize,
    unlisted: usize,
}

#[derive(Debug)]
struct Watched {
    listing: Listing,
    /// By the address of the clients. Never empty.
    places: HashMap<ClientAddress, Place>,
}

/// The watches of one device by the clients of one address.
#[derive(Debug, Default)]
struct Place {
    watches: usize,
    /// Set when the place is taken away. The watches stay, and count for nothing.
    refused: Arc<OnceLock<WatchRefused>>,
}

/// One client's watch of one device. It counts until this is dropped, or the device turns out not to be listed and is refused.
#[derive(Debug)]
pub(crate) struct Watch {
    watches: Watches,
    device: DeviceId,
    address: ClientAddress,
    refused: Arc<OnceLock<WatchRefused>>,
}

/// There is no room for another device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NoRoom {
    refused: WatchRefused,
    /// Devices that were not looked up yet take some of it.
    may_change: bool,
}

impl Watches {
    pub(crate) fn new(limits: WatchLimits, enforcement: Enforcement) -> Self {
        Self {
            shared: Arc::new(Shared {
                limits,
                enforcement,
                table: Mutex::default(),
                changed: Notify::new(),
            }),
        }
    }

    /// Counts one more watch of the device, by a client of this address. A device that is watched already is always allowed.
    ///
    /// # Errors
    /// There is no room, and look-ups that are under way cannot change that.
    pub(crate) async fn begin(
        &self,
        device: &DeviceId,
        address: ClientAddress,
    ) -> Result<Watch, WatchRefused> {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            match self.try_begin(device, address) {
                Ok(watch) => return Ok(watch),
                Err(no_room) if no_room.may_change => changed.await,
                Err(no_room) => return self.exceed(device, address, no_room.refused),
            }
        }
    }

    /// Refuses a watch. One that is admitted nevertheless counts for nothing, as if it were refused.
    fn exceed(
        &self,
        device: &DeviceId,
        address: ClientAddress,
        refused: WatchRefused,
    ) -> Result<Watch, WatchRefused> {
        if self.shared.refuses(refused, address) {
            return Err(refused);
        }
        Ok(Watch {
            watches: self.clone(),
            device: device.clone(),
            address,
            refused: Arc::default(),
        })
    }

    fn try_begin(&self, device: &DeviceId, address: ClientAddress) -> Result<Watch, NoRoom> {
        let mut table = self.table();
        let table = &mut *table;
        self.check_room(table, device, address)?;
        let is_new = !table.devices.contains_key(device);
        let watched = table.devices.entry(device.clone());
        let watched = watched.or_insert_with(|| Watched {
            listing: Listing::Unknown,
            places: HashMap::new(),
        });
        if is_new {
            *table.all.of(watched.listing) += 1;
        }
        let place = watched.places.entry(address).or_default();
        if place.watches == 0 {
            let counts = table.addresses.entry(address).or_default();
            *counts.of(watched.listing) += 1;
        }
        place.watches += 1;
        Ok(Watch {
            watches: self.clone(),
            device: device.clone(),
            address,
            refused: Arc::clone(&place.refused),
        })
    }

    fn check_room(
        &self,
        table: &Table,
        device: &DeviceId,
        address: ClientAddress,
    ) -> Result<(), NoRoom> {
        let limits = self.shared.limits;
        let watched = table.devices.get(device);
        if watched.is_some_and(|watched| watched.places.contains_key(&address)) {
            return Ok(());
        }
        let of_address = table.addresses.get(&address).copied().unwrap_or_default();
        let is_unlisted = watched.is_some_and(|watched| watched.listing == Listing::Unlisted);
        let (no_room, refused, unknown) = if is_unlisted {
            (
                of_address.unlisted >= limits.unlisted_per_address,
                WatchRefused::AddressUnlistedFull(limits.unlisted_per_address),
                0,
            )
        } else if watched.is_none() && table.all.devices() >= limits.devices {
            (true, WatchRefused::Full(limits.devices), table.all.unknown)
        } else {
            (
                of_address.devices() >= limits.per_address,
                WatchRefused::AddressFull(limits.per_address),
                of_address.unknown,
            )
        };
        if no_room {
            let may_change = unknown > 0;
            return Err(NoRoom {
                refused,
                may_change,
            });
        }
        Ok(())
    }

    /// Records that the device is listed. One that was not listed before may now exceed the bounds of devices: it is real.
    pub(crate) fn record_listed(&self, device: &DeviceId) {
        self.record(device, Listing::Listed);
    }

    /// Records that the device is not listed. Watches beyond the bounds of such names count no more: see [`Watch::refused`].
    pub(crate) fn record_unlisted(&self, device: &DeviceId) {
        self.record(device, Listing::Unlisted);
    }

    fn record(&self, device: &DeviceId, listing: Listing) {
        let mut table = self.table();
        let table = &mut *table;
        let Some(watched) = table.devices.get_mut(device) else {
            return;
        };
        let before = std::mem::replace(&mut watched.listing, listing);
        if before == listing {
            return;
        }
        *table.all.of(before) -= 1;
        *table.all.of(listing) += 1;
        for address in watched.places.keys() {
            let counts = table.addresses.entry(*address).or_default();
            *counts.of(before) -= 1;
            *counts.of(listing) += 1;
        }
        if listing == Listing::Unlisted {
            self.shared
                .refuse_places(watched, &table.all, &mut table.addresses);
            if watched.places.is_empty() {
                table.devices.remove(device);
                table.all.unlisted -= 1;
            }
        }
        self.shared.changed.notify_waiters();
    }

    /// Returns the number of distinct devices.
    pub(crate) fn devices(&self) -> usize {
        self.table().devices.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.shared.table.lock();
        table.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn refuses(&self, refused: WatchRefused, address: ClientAddress) -> bool {
        let caller = Caller::Address(address);
        self.enforcement.refuses(refused.limit(), Some(caller))
    }

    /// Takes away the places of a device that is not listed, as far as there are too many. They are counted already.
    fn refuse_places(
        &self,
        watched: &mut Watched,
        all: &Counts,
        addresses: &mut HashMap<ClientAddress, Counts>,
    ) {
        let limits = self.limits;
        let is_full = all.unlisted > limits.unlisted;
        watched.places.retain(|address, place| {
            let counts = addresses.entry(*address).or_default();
            let refused = if is_full {
                WatchRefused::UnlistedFull(limits.unlisted)
            } else if counts.unlisted > limits.unlisted_per_address {
                WatchRefused::AddressUnlistedFull(limits.unlisted_per_address)
            } else {
                return true;
            };
            counts.unlisted -= 1;
            if counts.is_empty() {
                addresses.remove(address);
            }
            if self.refuses(refused, *address) {
                // Set only here, and never twice: the place is gone.
                place.refused.set(refused).ok();
            }
            false
        });
    }
}

impl Counts {
    fn of(&mut self, listing: Listing) -> &mut usize {
        match listing {
            Listing::Unknown => &mut self.unknown,
            Listing::Listed => &mut self.listed,
            Listing::Unlisted => &mut self.unlisted,
        }
    }

    /// Returns the number of devices that are listed, or may be.
    fn devices(self) -> usize {
        self.unknown + self.listed
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl Watch {
    /// Returns why the watch counts no more, if the device turned out not to be listed and there are too many such names.
    pub(crate) fn refused(&self) -> Option<WatchRefused> {
        self.refused.get().copied()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = self.watches.table();
        let table = &mut *table;
        if self.refused().is_some() {
            return;
        }
        let Some(watched) = table.devices.get_mut(&self.device) else {
            return;
        };
        let place = watched.places.get_mut(&self.address);
        // A watch beyond a limit that is only tried out has none, and another one may have begun since.
        let own = place.filter(|place| Arc::ptr_eq(&place.refused, &self.refused));
        let Some(place) = own else {
            return;
        };
        place.watches -= 1;
        if place.watches > 0 {
            return;
        }
        let listing = watched.listing;
        watched.places.remove(&self.address);
        if let Some(counts) = table.addresses.get_mut(&self.address) {
            *counts.of(listing) -= 1;
            if counts.is_empty() {
                table.addresses.remove(&self.address);
            }
        }
        if watched.places.is_empty() {
            table.devices.remove(&self.device);
            *table.all.of(listing) -= 1;
        }
        self.watches.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
