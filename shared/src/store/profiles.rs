//! Reads and writes what operators say about devices: a field of the device's hash, so it goes when the device is retired. No decision
//! depends on it.

use redis::{FromRedisValue as _, Value};

use super::codec::{PROFILE, decode_profile, json};
use super::reply::{items, text};
use super::{Store, StoreError};
use crate::device::DeviceId;
use crate::profile::Profile;

/// A profile as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredProfile {
    /// The profile; empty if there is none, or if it cannot be read.
    pub profile: Profile,
    text: String,
}

/// The outcome of [`Store::set_profile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileSet {
    /// It is stored.
    Done(StoredProfile),
    /// Another one was stored meanwhile.
    Changed,
    /// The device is not stored.
    UnknownDevice,
}

impl StoredProfile {
    fn read(stored: Option<String>) -> Self {
        let text = stored.unwrap_or_default();
        Self {
            profile: decode_profile(&text),
            text,
        }
    }

    fn of(profile: Profile) -> Self {
        let is_empty = profile == Profile::default();
        let text = String::from_utf8(json(&profile)).unwrap_or_default();
        Self {
            text: if is_empty { String::new() } else { text },
            profile,
        }
    }

    /// Returns the text that is stored, to compare two.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Store {
    /// Returns the profile of a device; `None` for an unknown device.
    pub async fn profile(&self, device: &DeviceId) -> Result<Option<StoredProfile>, StoreError> {
        let answer = self.run(|_, pipe| {
            pipe.cmd("HMGET").arg(self.keys(device).device(device));
            pipe.arg("latest").arg(PROFILE);
        });
        let mut values = items(answer.await?)
            .map_err(StoreError::Unavailable)?
            .into_iter();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let is_stored = next() != Value::Nil;
        let stored = text(next()).map_err(StoreError::Unavailable)?;
        Ok(is_stored.then(|| StoredProfile::read(stored)))
    }

    /// Returns the profiles of these devices, in the same order. One that cannot be read is empty.
    pub async fn profiles(&self, devices: &[DeviceId]) -> Result<Vec<Profile>, StoreError> {
        let answers = self
            .run_each(devices.len(), |_, index, pipe| {
                let device = &devices[index];
                pipe.cmd("HGET").arg(self.keys(device).device(device));
                pipe.arg(PROFILE);
            })
            .await?;
        let answers = answers.into_iter();
        answers
            .map(
                |answer| match answer.map_err(|err| self.answer_error(err)) {
                    Ok(stored) => {
                        let stored = text(stored).map_err(StoreError::Unavailable)?;
                        Ok(StoredProfile::read(stored).profile)
                    }
                    Err(StoreError::Refused(_)) => Ok(Profile::default()),
                    Err(err) => Err(err),
                },
            )
            .collect()
    }

    /// Replaces the profile of a device, if `before` is still stored.
    pub async fn set_profile(
        &self,
        device: &DeviceId,
        before: &StoredProfile,
        profile: Profile,
    ) -> Result<ProfileSet, StoreError> {
        let new = StoredProfile::of(profile);
        let answer = self
            .run(|scripts, pipe| {
                let keys = self.keys(device);
                pipe.cmd("EVALSHA").arg(&scripts.profile).arg(4);
                pipe.arg(keys.device(device)).arg(keys.partition());
                pipe.arg(keys.seen()).arg(keys.listings());
                pipe.arg(device.as_str());
                pipe.arg(&before.text).arg(&new.text);
            })
            .await?;
        let answer = String::from_redis_value(answer);
        let answer = answer.map_err(|err| StoreError::Unavailable(err.into()))?;
        Ok(match answer.as_str() {
            "ok" => ProfileSet::Done(new),
            "changed" => ProfileSet::Changed,
            _ => ProfileSet::UnknownDevice,
        })
    }
}
