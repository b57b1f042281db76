//! The places of devices: all of them together are limited, exactly, however many processes write.
//!
//! A device gets its place before its first commit, in one sorted set that one script checks and changes. It keeps the place if its
//! process dies in between, and gets the same one from another process. [`Store::reconcile_places`] compares the places with the
//! device lists: a device of an earlier release or after a loss of data gets a place whatever the limit, and a place whose device was
//! never stored is freed after [`RESERVED_FOR`].
//!
//! If the key of the places has the wrong type, that is an error of the unknown devices alone ([`StoreError::PlacesUnusable`]).

use std::collections::HashSet;
use std::time::Duration;

use redis::{FromRedisValue, Value};

use super::reply::scored_names;
use super::{Store, StoreError};
use crate::clock::{Time, millis};
use crate::device::DeviceId;
use crate::keys;

/// How long a place is kept for a device that is not stored. Longer than any commit takes.
pub const RESERVED_FOR: Duration = Duration::from_mins(10);
/// Number of devices in one call: Lua can handle some thousand arguments.
const CHUNK: usize = 1_000;

/// How many devices there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Places for all devices.
    pub devices: u64,
    /// Further places, for devices whose first message shows a danger.
    pub reserve: u64,
}

/// An unknown device that needs a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// The device.
    pub device: DeviceId,
    /// Its message shows a danger.
    pub in_danger: bool,
}

impl Store {
    /// Gives places to unknown devices. Returns for each of them, in order, whether it has one.
    pub async fn admit(
        &self,
        applicants: &[Applicant],
        places: Places,
    ) -> Result<Vec<bool>, StoreError> {
        let mut admitted = Vec::with_capacity(applicants.len());
        for chunk in applicants.chunks(CHUNK) {
            let mut answer = self.ask_for_places(chunk, places).await?;
            if !matches!(answer, Value::Array(_)) {
                self.reconcile_places().await?;
                answer = self.ask_for_places(chunk, places).await?;
            }
            let answers = Vec::<u8>::from_redis_value(answer).map_err(unreadable)?;
            admitted.extend(answers.into_iter().map(|answer| answer == 1));
        }
        Ok(admitted)
    }

    async fn ask_for_places(
        &self,
        applicants: &[Applicant],
        places: Places,
    ) -> Result<Value, StoreError> {
        let answer = self.run(|scripts, pipe| {
            pipe.cmd("EVALSHA").arg(&scripts.admit).arg(2);
            pipe.arg(keys::ADMITTED).arg(keys::ADMITTED_COUNTED);
            pipe.arg(places.devices).arg(places.reserve);
            for applicant in applicants {
                pipe.arg(applicant.device.as_str());
                pipe.arg(if applicant.in_danger { "1" } else { "" });
            }
        });
        answer.await.map_err(places_unusable)
    }

    /// Frees the places of devices that were retired at these times. A place that is used again is kept.
    pub(crate) async fn release(&self, retired: &[(DeviceId, Time)]) -> Result<(), StoreError> {
        for chunk in retired.chunks(CHUNK) {
            let answer = self.run(|scripts, pipe| {
                pipe.cmd("EVALSHA").arg(&scripts.release).arg(1);
                pipe.arg(keys::ADMITTED);
                for (device, at) in chunk {
                    pipe.arg(device.as_str()).arg(at.as_millis());
                }
            });
            answer.await.map_err(places_unusable)?;
        }
        Ok(())
    }

    /// Returns the number of places that are taken.
    pub async fn count_places(&self) -> Result<u64, StoreError> {
        let answer = self.run(|_, pipe| {
            pipe.cmd("ZCARD").arg(keys::ADMITTED);
        });
        let count = u64::from_redis_value(answer.await.map_err(places_unusable)?);
        count.map_err(unreadable)
    }

    /// Returns the device whose place was asked for last; `None` if there is none, or its name is not a serial.
    pub async fn last_place(&self) -> Result<Option<DeviceId>, StoreError> {
        let answer = self.run(|_, pipe| {
            pipe.cmd("ZRANGE").arg(keys::ADMITTED).arg(-1).arg(-1);
        });
        let names = Vec::<String>::from_redis_value(answer.await.map_err(places_unusable)?);
        let name = names.map_err(unreadable)?.pop();
        Ok(name.and_then(|name| name.parse().ok()))
    }

    /// Compares the places with the device lists, and corrects the places.
    pub async fn reconcile_places(&self) -> Result<(), StoreError> {
        // The places are read before the lists: a device that is in no list then was not stored when its place was read.
        let places = self.places().await?;
        let listed = self.devices().await?;
        let now = self.connector.now();
        let stored: HashSet<&str> = listed.iter().map(|(device, _)| device.as_str()).collect();
        // A name that is no text belongs to no device. Its place is freed like any other that is not used.
        let known: HashSet<&[u8]> = places.iter().map(|(name, _)| name.as_slice()).collect();
        let missing: Vec<&str> = stored
            .iter()
            .copied()
            .filter(|name| !known.contains(name.as_bytes()))
            .collect();
        for chunk in missing.chunks(CHUNK) {
            self.give_places(chunk, now, false).await?;
        }
        let oldest = now - RESERVED_FOR;
        let is_stored = |name: &[u8]| {
            let name = std::str::from_utf8(name);
            name.is_ok_and(|name| stored.contains(name))
        };
        let unused = places
            .iter()
            .filter(|(name, reserved)| *reserved < oldest && !is_stored(name));
        let unused: Vec<&[u8]> = unused.map(|(name, _)| name.as_slice()).collect();
        for chunk in unused.chunks(CHUNK) {
            let answer = self.run(|scripts, pipe| {
                pipe.cmd("EVALSHA").arg(&scripts.release).arg(1);
                pipe.arg(keys::ADMITTED);
                for name in chunk {
                    pipe.arg(*name).arg(oldest.as_millis());
                }
            });
            answer.await.map_err(places_unusable)?;
        }
        self.give_places(&[], now, true).await
    }

    async fn give_places(
        &self,
        devices: &[&str],
        now: Time,
        is_complete: bool,
    ) -> Result<(), StoreError> {
        let answer = self.run(|scripts, pipe| {
            pipe.cmd("EVALSHA").arg(&scripts.count_places).arg(2);
            pipe.arg(keys::ADMITTED).arg(keys::ADMITTED_COUNTED);
            pipe.arg(now.as_millis()).arg(u8::from(is_complete));
            pipe.arg(devices);
        });
        answer.await.map_err(places_unusable).map(drop)
    }

    async fn places(&self) -> Result<Vec<(Vec<u8>, Time)>, StoreError> {
        let answer = self.run(|_, pipe| {
            pipe.cmd("ZRANGE").arg(keys::ADMITTED);
            pipe.arg(0).arg(-1).arg("WITHSCORES");
        });
        let places = scored_names(answer.await.map_err(places_unusable)?);
        places.map_err(unreadable)
    }

    /// Makes the timers look at devices that have been silent for this long and have no deadline. Needed where the time after which
    /// they are forgotten was set after they had fallen silent.
    pub async fn revisit_silent(&self, silent_for: Duration) -> Result<(), StoreError> {
        const PER_PARTITION: usize = 100;
        let until = self.connector.now().as_millis() - millis(silent_for);
        let partitions = usize::from(self.partitions());
        let answers = self
            .run_each(partitions, |scripts, index, pipe| {
                let number = u16::try_from(index).unwrap_or(u16::MAX);
                let keys = keys::PartitionKeys::new(number);
                pipe.cmd("EVALSHA").arg(&scripts.revisit).arg(2);
                pipe.arg(keys.seen()).arg(keys.deadlines());
                pipe.arg(until).arg(PER_PARTITION);
            })
            .await?;
        let failures = answers.into_iter().filter_map(Result::err);
        let mut failures = failures.map(|err| self.answer_error(err));
        failures.find(StoreError::is_transient).map_or(Ok(()), Err)
    }
}

/// The key belongs to no device. If it has the wrong type, only unknown devices are affected: the others have their place.
fn places_unusable(err: StoreError) -> StoreError {
    match err {
        StoreError::Refused(reason) => unreadable(reason),
        err => err,
    }
}

fn unreadable(err: impl std::fmt::Display) -> StoreError {
    StoreError::PlacesUnusable {
        reason: format!("{}: {err}", keys::ADMITTED),
        in_danger: false,
    }
}
