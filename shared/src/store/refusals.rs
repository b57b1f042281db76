//! Whether Redis, which answers, also does what is asked: the rights of our user, and the refusals of the last seconds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{FromRedisValue, RedisError};

use super::{MemoryUse, Store, StoreError};
use crate::redis::RightsCheck;

/// A refusal counts for this long. Refused work is tried again more often.
const REFUSAL_LIFE: Duration = Duration::from_secs(3);

/// The last command that the server refused.
#[derive(Debug, Default)]
pub(super) struct LastRefusal {
    // A std mutex: held for one assignment, never across an await.
    last: Mutex<Option<(Instant, &'static str)>>,
}

impl LastRefusal {
    pub(super) fn note(&self, reason: &'static str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), reason));
    }

    fn recent(&self) -> Option<&'static str> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(at, _)| at.elapsed() < REFUSAL_LIFE)
            .map(|(_, reason)| reason)
    }
}

impl Store {
    /// Checks that Redis accepts writes, that the reserve of its memory is not used up, and that our user may run every command of
    /// this service, on the keys of one partition. Writes nothing.
    ///
    /// `number` chooses the partition: its remainder by the number of partitions.
    pub async fn check_writes(&self, number: u64) -> Result<(), StoreError> {
        let memory = self.check_rights(number).await?;
        self.check_reserve(memory)
    }

    /// As [`Self::check_writes`], but also succeeds while the reserve is used up. Returns the memory of Redis.
    pub async fn check_rights(&self, number: u64) -> Result<MemoryUse, StoreError> {
        let partition = u16::try_from(number % u64::from(self.partitions())).unwrap_or_default();
        let check = RightsCheck::new(self.connector.role(), partition);
        let answers = self.run_each(2, |scripts, index, pipe| {
            if index == 0 {
                pipe.cmd("EVALSHA").arg(&scripts.rights);
                check.arguments(pipe);
            } else {
                pipe.cmd("INFO").arg("memory");
            }
        });
        let mut answers = answers.await?.into_iter();
        let mut next = || {
            let answer = answers.next().unwrap_or(Ok(redis::Value::Nil));
            answer.map_err(|err| self.answer_error(err))
        };
        let denied = Vec::<usize>::from_redis_value(next()?).map_err(RedisError::from);
        if let Some(missing) = check.missing(&denied.map_err(StoreError::Unavailable)?) {
            return Err(StoreError::MissingRight(missing));
        }
        self.memory_measured(next()?)
    }

    /// Returns why the server refused a request of this process in the last seconds; `None` if it refused none.
    #[must_use]
    pub fn recent_refusal(&self) -> Option<&'static str> {
        self.last_refusal.recent()
    }
}
