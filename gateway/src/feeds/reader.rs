//! The task that reads what clients want of all devices.
//!
//! Each look asks every partition which devices have a new number or were heard of, and how many are listed. Only those are read. Beside that, one
//! partition after the other is read as a whole, so that whatever no look can find is found: a round takes 64 to 80
//! seconds with 64 partitions.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use shared::clock::Time;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::profile::Profile;
use shared::store::{Look, LookAt, Store, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Feeds;
use super::partition::{DeviceToRead, PartitionView, ReadAlarms, ToRead, Whole};
use super::tables::Wanted;

/// How often it is looked for changes.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often at least it is asked which devices were heard of, so that what a new client is sent is not old. Clients that want rows less often
/// are sent them less often all the same.
const MAX_HEAR_INTERVAL: Duration = Duration::from_secs(5);
/// How often one partition is read as a whole.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Number of devices that are read in one round trip. More could exceed the timeout or delay other reads.
const PIECE: usize = 500;

/// How long something is kept that no client wants any more. It is not read meanwhile, and a page that is loaded again needs only what has
/// changed.
const KEPT_FOR: Duration = Duration::from_secs(30);

pub(super) struct Reader {
    feeds: Feeds,
    store: Store,
    partitions: Vec<PartitionView>,
    /// When rows were last wanted; `None` if none are kept.
    rows: Option<Instant>,
    /// The same for alarms.
    alarms: Option<Instant>,
    /// When it was asked last which devices were heard of.
    heard: Option<Instant>,
    swept: Instant,
    /// The partition that is read next as a whole.
    next_sweep: usize,
    is_failing: bool,
}

/// What is read after one look.
#[derive(Default)]
struct Pass {
    devices: Vec<DeviceToRead>,
    /// Something may have happened to alarms that is not known.
    is_anew: bool,
}

impl Reader {
    pub(super) fn new(feeds: Feeds, store: Store) -> Self {
        let partitions = (0..store.partitions()).map(PartitionView::new).collect();
        Self {
            feeds,
            store,
            partitions,
            rows: None,
            alarms: None,
            heard: None,
            swept: Instant::now(),
            next_sweep: 0,
            is_failing: false,
        }
    }

    /// Reads what clients want until `finish`.
    pub(super) async fn run(mut self, finish: CancellationToken) -> anyhow::Result<()> {
        let wanted = self.feeds.inner.wanted.subscribe();
        finish.run_until_cancelled(self.keep_reading(wanted)).await;
        Ok(())
    }

    async fn keep_reading(&mut self, mut wanted: watch::Receiver<Wanted>) {
        loop {
            let now = *wanted.borrow_and_update();
            self.adapt(now);
            if now.is_nothing() {
                let is_kept = self.rows.is_some() || self.alarms.is_some();
                tokio::select! {
                    changed = wanted.changed() => if changed.is_err() { return },
                    () = sleep(KEPT_FOR), if is_kept => {}
                }
                continue;
            }
            let versions = self.versions();
            let result = self.pass(now).await;
            self.feeds.tables().fleet.expire(self.now());
            if self.versions() != versions {
                self.feeds.inner.changed.send_replace(());
            }
            self.note(result);
            // Whatever clients ask for, there is a pause between two looks.
            sleep(INTERVAL).await;
        }
    }

    fn now(&self) -> Time {
        self.feeds.inner.clock.now()
    }

    /// Everything that clients wait for.
    fn versions(&self) -> (u64, u64, bool, bool) {
        let tables = self.feeds.tables();
        let (fleet, alarms) = (tables.fleet.version(), tables.alarms.version());
        (fleet, alarms, tables.has_rows, tables.has_alarms)
    }

    /// Prepares for what is wanted now. What is not kept must be read as a whole.
    fn adapt(&mut self, wanted: Wanted) {
        let now = Instant::now();
        let is_over = |last: Instant| now.duration_since(last) >= KEPT_FOR;
        let are_rows_new = wanted.rows.is_some() && self.rows.is_none();
        let are_alarms_new = wanted.alarms && self.alarms.is_none();
        if wanted.rows.is_some() && !self.feeds.tables().has_rows {
            // The first of these clients: what is kept may be old.
            self.heard = None;
        }
        if wanted.rows.is_some() {
            self.rows = Some(now);
        } else if self.rows.is_some_and(is_over) {
            self.rows = None;
            self.feeds.tables().forget_rows();
        }
        if wanted.alarms {
            self.alarms = Some(now);
        } else if self.alarms.is_some_and(is_over) {
            self.alarms = None;
            self.feeds.tables().forget_alarms();
        }
        let begins_anew =
            are_alarms_new || self.alarms.is_none() && (are_rows_new || self.rows.is_none());
        for partition in &mut self.partitions {
            if begins_anew {
                partition.begin_anew();
            } else if are_rows_new {
                // Alarms are read already, and nothing of them was missed.
                partition.read_again();
            }
        }
    }

    /// Notes whether a pass has succeeded. After a failure everything is read again.
    fn note(&mut self, result: Result<(), StoreError>) {
        let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
        if let Err(error) = result {
            let mut tables = self.feeds.tables();
            // A new client waits for what is there after the outage.
            (tables.has_rows, tables.has_alarms) = (false, false);
            drop(tables);
            for partition in &mut self.partitions {
                partition.read_again();
            }
            if !was_failing {
                // An outage is logged by the task that watches Redis.
                let error = error_chain(&error);
                tracing::debug!(error, "cannot read all devices, trying again");
            }
        }
    }

    /// Looks once, and reads what has changed.
    async fn pass(&mut self, wanted: Wanted) -> Result<(), StoreError> {
        let now = self.now();
        let hears = wanted.rows.is_some_and(|interval| {
            self.heard.is_none_or(|heard| {
                heard.elapsed() + INTERVAL / 2 >= interval.min(MAX_HEAR_INTERVAL)
            })
        });
        if hears {
            self.heard = Some(Instant::now());
        }
        let at: Vec<LookAt> = self
            .partitions
            .iter()
            .map(|view| view.look(hears))
            .collect();
        let looks = self.store.look(&at).await?;
        let mut to_read: Vec<ToRead> = Vec::with_capacity(looks.len());
        for (partition, look) in self.partitions.iter_mut().zip(&looks) {
            to_read.push(partition.looked(look, now));
        }
        self.sweep(&mut to_read);
        self.read_lists(&mut to_read, now).await?;
        let mut pass = Pass::default();
        for (partition, to_read) in self.partitions.iter().zip(to_read) {
            pass.add(partition, to_read);
        }
        self.read(pass).await?;
        self.complete(&looks, wanted);
        Ok(())
    }

    /// Lets one partition after the other be read as a whole.
    fn sweep(&mut self, to_read: &mut [ToRead]) {
        if self.swept.elapsed() < SWEEP_INTERVAL {
            return;
        }
        self.swept = Instant::now();
        self.next_sweep = (self.next_sweep + 1) % self.partitions.len().max(1);
        let number = self.next_sweep;
        if self.partitions[number].is_known() {
            to_read[number].list = true;
            to_read[number].whole.get_or_insert(Whole::Continued);
        }
    }

    /// Reads the device lists that are needed. New devices are added to those that are read.
    async fn read_lists(&mut self, to_read: &mut [ToRead], now: Time) -> Result<(), StoreError> {
        let needed = |(partition, to_read): (&PartitionView, &ToRead)| {
            to_read.list.then_some(partition.number())
        };
        let numbers: Vec<u16> = self
            .partitions
            .iter()
            .zip(&*to_read)
            .filter_map(needed)
            .collect();
        let lists = self.store.device_lists(&numbers).await?;
        for (number, list) in numbers.into_iter().zip(lists) {
            let index = usize::from(number);
            let Some(list) = list else {
                continue;
            };
            let changes = self.partitions[index].listed(list, now);
            let mut tables = self.feeds.tables();
            for device in &changes.gone {
                tables.fleet.remove(device);
                tables.alarms.remove(device, now);
            }
            for device in &changes.doubted {
                tables.fleet.doubt(device);
            }
            drop(tables);
            if to_read[index].whole.is_none() {
                to_read[index].numbered.extend(changes.new);
            }
        }
        Ok(())
    }

    /// Reads these devices piece by piece.
    async fn read(&mut self, mut pass: Pass) -> Result<(), StoreError> {
        if self.rows.is_none() {
            self.leave_out_quiet(&mut pass.devices).await?;
        }
        let differing = self.read_pieces(&pass.devices).await?;
        // Their alarms changed without a number: an ingest of an earlier release gives none, and none is given to a new epoch.
        let again: Vec<DeviceToRead> = differing
            .iter()
            .map(|device| self.view(device).with_changes(device))
            .collect();
        self.read_pieces(&again).await?;
        if pass.is_anew && self.alarms.is_some() {
            self.feeds.tables().alarms.doubt();
        }
        Ok(())
    }

    fn view(&self, device: &DeviceId) -> &PartitionView {
        let number = usize::from(device.partition(self.store.partitions()));
        &self.partitions[number]
    }

    /// Reads these devices into the tables. Returns those of which only the row was asked for, and whose alarms are others than those known.
    async fn read_pieces(&mut self, devices: &[DeviceToRead]) -> Result<Vec<DeviceId>, StoreError> {
        let (has_rows, has_alarms) = (self.rows.is_some(), self.alarms.is_some());
        let mut differing = Vec::new();
        for piece in devices.chunks(PIECE) {
            let asked: Vec<_> = piece
                .iter()
                .map(|to_read| {
                    let since = match to_read.alarms {
                        ReadAlarms::ChangesAfter(seq) if has_alarms => Some(seq),
                        _ => None,
                    };
                    (to_read.device.clone(), since)
                })
                .collect();
            let found = self.store.shown_devices(&asked).await?;
            let now = self.now();
            let partitions = self.store.partitions();
            let mut tables = self.feeds.tables();
            for (to_read, (shown, changes)) in piece.iter().zip(&found) {
                let DeviceToRead { device, alarms } = to_read;
                let number = usize::from(device.partition(partitions));
                let partition = &mut self.partitions[number];
                let last = partition.last_message(device);
                if has_rows {
                    tables.update_row(device, shown.as_ref(), last, now);
                }
                if has_alarms && *alarms == ReadAlarms::No {
                    if tables.has_other_alarms(device, shown.as_ref()) {
                        differing.push(device.clone());
                    }
                } else if has_alarms {
                    let until = tables.update_alarms(device, shown.as_ref(), changes, now);
                    if let Some(until) = until {
                        partition.read_until(device, until);
                    }
                }
            }
        }
        Ok(differing)
    }

    /// Leaves out devices without alarms, which are most, when only alarms are wanted.
    async fn leave_out_quiet(&mut self, devices: &mut Vec<DeviceToRead>) -> Result<(), StoreError> {
        let is_first = |to_read: &DeviceToRead| to_read.alarms == ReadAlarms::Open;
        let (first, mut rest): (Vec<_>, Vec<_>) =
            std::mem::take(devices).into_iter().partition(is_first);
        let partitions = self.store.partitions();
        for piece in first.chunks(PIECE) {
            let names: Vec<_> = piece.iter().map(|to_read| to_read.device.clone()).collect();
            let glances = self.store.glance_at_alarms(&names).await?;
            let now = self.now();
            let mut tables = self.feeds.tables();
            for (to_read, glance) in piece.iter().zip(glances) {
                match glance.position {
                    Some(position) if !glance.may_have_alarms => {
                        let none = Profile::default();
                        let device = &to_read.device;
                        tables.alarms.set(device, position, &[], &none, now);
                        let number = usize::from(to_read.device.partition(partitions));
                        self.partitions[number].read_until(&to_read.device, position);
                    }
                    _ => rest.push(to_read.clone()),
                }
            }
        }
        *devices = rest;
        Ok(())
    }

    /// Records that everything was read after these looks.
    fn complete(&mut self, looks: &[Look], wanted: Wanted) {
        for (partition, look) in self.partitions.iter_mut().zip(looks) {
            if let Some(mark) = look.mark {
                partition.complete(mark);
            }
        }
        let mut parts = self.partitions.iter().zip(looks);
        if parts.all(|(partition, look)| partition.is_known() || look.is_refused) {
            let mut tables = self.feeds.tables();
            tables.has_rows |= wanted.rows.is_some();
            tables.has_alarms |= wanted.alarms;
        }
    }
}

impl Pass {
    fn add(&mut self, partition: &PartitionView, to_read: ToRead) {
        if let Some(whole) = to_read.whole {
            self.is_anew |= whole == Whole::Anew;
            self.devices.extend(partition.all(whole));
            return;
        }
        let numbered: HashSet<DeviceId> = to_read.numbered.into_iter().collect();
        let heard = to_read
            .heard
            .into_iter()
            .filter(|device| partition.has(device) && !numbered.contains(device));
        self.devices.extend(heard.map(|device| DeviceToRead {
            device,
            alarms: ReadAlarms::No,
        }));
        let numbered = numbered.iter().filter(|device| partition.has(device));
        let numbered = numbered.map(|device| partition.with_changes(device));
        self.devices.extend(numbered);
    }
}

#[cfg(test)]
mod tests;
