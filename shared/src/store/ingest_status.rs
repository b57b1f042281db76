//! Writes and reads the reports of the ingest replicas that receive messages.

use std::time::Duration;

use redis::{FromRedisValue, RedisError, Value};

use super::reply::{text, time_of_score};
use super::{Store, StoreError};
use crate::clock::Time;
use crate::keys;

/// Whether any ingest replica receives messages, according to the reports in Redis.
#[derive(Clone, Debug, Default)]
pub struct IngestStatus {
    /// Age of the newest report; `None` if there is none. Only replicas with an active subscription report.
    pub age: Option<Duration>,
    /// The topic filters in the newest report.
    pub topics: Vec<String>,
    /// Whether the subscriptions of all replicas that report bring no message, although devices are known.
    pub is_quiet: bool,
}

/// If the newest report is older than this, no ingest replica receives messages.
pub const MAX_REPORT_AGE: Duration = Duration::from_secs(3);

impl IngestStatus {
    /// Whether the newest report is recent enough.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.age.is_some_and(|age| age <= MAX_REPORT_AGE)
    }
}

impl Store {
    /// Reports that this replica has an active subscription, and whether it brings no message. Returns the start of the time
    /// without interruption in which at least one replica has had a subscription.
    pub async fn report(
        &self,
        client_id: &str,
        topics: &[String],
        is_quiet: bool,
    ) -> Result<Time, StoreError> {
        let answer = self
            .run(|scripts, pipe| {
                pipe.cmd("EVALSHA").arg(&scripts.heartbeat).arg(3);
                pipe.arg(keys::INGEST_MEMBERS)
                    .arg(keys::INGEST_LISTENING)
                    .arg(keys::INGEST_QUIET);
                pipe.arg(client_id)
                    .arg(MAX_REPORT_AGE.as_millis().to_string());
                pipe.arg(topics.join("\n"))
                    .arg(if is_quiet { "1" } else { "" });
            })
            .await?;
        let since = i64::from_redis_value(answer).map_err(RedisError::from);
        Ok(Time::from_millis(since.map_err(StoreError::Unavailable)?))
    }

    /// Removes the report of a replica that stops.
    pub async fn withdraw(&self, client_id: &str) -> Result<(), StoreError> {
        let answers = self.run_each(2, |_, index, pipe| {
            let key = [keys::INGEST_MEMBERS, keys::INGEST_QUIET][index];
            pipe.cmd("ZREM").arg(key).arg(client_id);
        });
        let failure = answers.await?.into_iter().find_map(Result::err);
        failure.map_or(Ok(()), |err| Err(self.answer_error(err)))
    }

    /// Reads the newest report.
    pub async fn ingest_status(&self) -> Result<IngestStatus, StoreError> {
        let max_age_ms = i64::try_from(MAX_REPORT_AGE.as_millis()).unwrap_or(i64::MAX);
        let recent = self.connector.now().as_millis() - max_age_ms;
        let answers = self
            .run_each(4, |_, index, pipe| match index {
                0 => {
                    pipe.cmd("ZREVRANGE").arg(keys::INGEST_MEMBERS);
                    pipe.arg(0).arg(0).arg("WITHSCORES");
                }
                1 => {
                    pipe.cmd("HGET").arg(keys::INGEST_LISTENING).arg("topics");
                }
                _ => {
                    let is_first = index == 2;
                    pipe.cmd("ZCOUNT").arg(if is_first {
                        keys::INGEST_MEMBERS
                    } else {
                        keys::INGEST_QUIET
                    });
                    pipe.arg(recent).arg("+inf");
                }
            })
            .await?;
        let mut answers = answers.into_iter();
        let mut next = || {
            let answer = answers.next().unwrap_or(Ok(Value::Nil));
            answer.map_err(|err| self.answer_error(err))
        };
        let newest = Vec::<(String, f64)>::from_redis_value(next()?);
        let newest = newest.map_err(|err| StoreError::Unavailable(err.into()))?;
        let topics = text(next()?)
            .map_err(StoreError::Unavailable)?
            .unwrap_or_default();
        let mut count = || {
            let count = u64::from_redis_value(next()?).map_err(RedisError::from);
            count.map_err(StoreError::Unavailable)
        };
        let (members, quiet) = (count()?, count()?);
        let now = self.connector.now();
        let age = newest.first().map(|(_, score)| {
            let age_ms = now.millis_since(time_of_score(*score)).max(0);
            Duration::from_millis(age_ms.unsigned_abs())
        });
        Ok(IngestStatus {
            age,
            topics: topics.lines().map(str::to_owned).collect(),
            is_quiet: members > 0 && quiet >= members,
        })
    }
}
