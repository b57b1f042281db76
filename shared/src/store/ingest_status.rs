//! Writes and reads the reports of the ingest replicas that receive messages.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue, RedisError, Value};

use super::reply::{text, time_of_score};
use super::{Store, StoreError};
use crate::clock::Time;
use crate::keys;
use crate::listening::Listening;

/// Whether any ingest replica receives messages, according to the reports in Redis.
#[derive(Clone, Debug, Default)]
pub struct IngestStatus {
    /// Age of the newest report; `None` if there is none. Only replicas with an active subscription report.
    pub age: Option<Duration>,
    /// The topic filters in the newest report.
    pub topics: Vec<String>,
    /// Whether the subscriptions of all replicas that report bring no message, although devices are known.
    pub is_quiet: bool,
    /// Whether a replica reports that it accepts no unknown device.
    pub no_places: bool,
}

/// Version of the alarm rules of this release. It grows when a release writes alarms that the one before would not handle well.
/// Releases before 0.2 have none.
const RULES_VERSION: u32 = 1;

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
    /// Reports that this replica has an active subscription, whether it brings no message, and whether there is no place for an
    /// unknown device. Returns when at least one replica has had a subscription.
    pub async fn report(
        &self,
        client_id: &str,
        topics: &[String],
        is_quiet: bool,
        no_places: bool,
    ) -> Result<Listening, StoreError> {
        let answer = self
            .run(|scripts, pipe| {
                pipe.cmd("EVALSHA").arg(&scripts.heartbeat).arg(5);
                pipe.arg(keys::INGEST_MEMBERS)
                    .arg(keys::INGEST_LISTENING)
                    .arg(keys::INGEST_QUIET)
                    .arg(keys::INGEST_RULES)
                    .arg(keys::INGEST_NO_PLACES);
                pipe.arg(client_id)
                    .arg(MAX_REPORT_AGE.as_millis().to_string());
                pipe.arg(topics.join("\n"))
                    .arg(if is_quiet { "1" } else { "" })
                    .arg(RULES_VERSION)
                    .arg(if no_places { "1" } else { "" });
            })
            .await?;
        let answer = <(i64, u64)>::from_redis_value(answer).map_err(RedisError::from);
        let (since, before) = answer.map_err(StoreError::Unavailable)?;
        Ok(Listening {
            since: Time::from_millis(since),
            before: Duration::from_millis(before),
        })
    }

    /// Whether an ingest replica with earlier alarm rules is at work.
    pub async fn earlier_rules_at_work(&self) -> Result<bool, StoreError> {
        let oldest = self.connector.now() - MAX_REPORT_AGE;
        let answers = self
            .run_each(2, |_, index, pipe| {
                if index == 0 {
                    pipe.cmd("ZRANGEBYSCORE").arg(keys::INGEST_MEMBERS);
                    pipe.arg(oldest.as_millis()).arg("+inf").arg("WITHSCORES");
                } else {
                    pipe.cmd("HGETALL").arg(keys::INGEST_RULES);
                }
            })
            .await?;
        let mut answers = answers.into_iter();
        let mut next = || {
            let answer = answers.next().unwrap_or(Ok(Value::Nil));
            answer.map_err(|err| self.answer_error(err))
        };
        let unreadable = |err: redis::ParsingError| StoreError::Unavailable(err.into());
        let members = Vec::<(String, f64)>::from_redis_value(next()?).map_err(unreadable)?;
        let rules = HashMap::<String, String>::from_redis_value(next()?).map_err(unreadable)?;
        let has_earlier_rules = |(member, score): &(String, f64)| {
            let report = rules.get(member).map(String::as_str);
            !has_present_rules(report, time_of_score(*score))
        };
        Ok(members.iter().any(has_earlier_rules))
    }

    /// Removes the report of a replica that stops.
    pub async fn withdraw(&self, client_id: &str) -> Result<(), StoreError> {
        let answers = self.run_each(4, |_, index, pipe| {
            match index {
                0 => pipe.cmd("ZREM").arg(keys::INGEST_MEMBERS),
                1 => pipe.cmd("ZREM").arg(keys::INGEST_QUIET),
                2 => pipe.cmd("ZREM").arg(keys::INGEST_NO_PLACES),
                _ => pipe.cmd("HDEL").arg(keys::INGEST_RULES),
            };
            pipe.arg(client_id);
        });
        let failure = answers.await?.into_iter().find_map(Result::err);
        failure.map_or(Ok(()), |err| Err(self.answer_error(err)))
    }

    /// Reads the newest report.
    pub async fn ingest_status(&self) -> Result<IngestStatus, StoreError> {
        let max_age_ms = i64::try_from(MAX_REPORT_AGE.as_millis()).unwrap_or(i64::MAX);
        let recent = self.connector.now().as_millis() - max_age_ms;
        let answers = self
            .run_each(5, |_, index, pipe| match index {
                0 => {
                    pipe.cmd("ZREVRANGE").arg(keys::INGEST_MEMBERS);
                    pipe.arg(0).arg(0).arg("WITHSCORES");
                }
                1 => {
                    pipe.cmd("HGET").arg(keys::INGEST_LISTENING).arg("topics");
                }
                _ => {
                    pipe.cmd("ZCOUNT").arg(match index {
                        2 => keys::INGEST_MEMBERS,
                        3 => keys::INGEST_QUIET,
                        _ => keys::INGEST_NO_PLACES,
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
        let (members, quiet, no_places) = (count()?, count()?, count()?);
        let now = self.connector.now();
        let age = newest.first().map(|(_, score)| {
            let age_ms = now.millis_since(time_of_score(*score)).max(0);
            Duration::from_millis(age_ms.unsigned_abs())
        });
        Ok(IngestStatus {
            age,
            topics: topics.lines().map(str::to_owned).collect(),
            is_quiet: members > 0 && quiet >= members,
            no_places: no_places > 0,
        })
    }
}

/// Whether a replica whose last report was at `reported_at` has the alarm rules of this release, or later ones. `rules` is what it
/// wrote about them. A report without them is by a release that has none, even if a later one had the same client id before.
fn has_present_rules(rules: Option<&str>, reported_at: Time) -> bool {
    let parts = rules.and_then(|rules| rules.split_once(' '));
    let Some((version, at)) = parts else {
        return false;
    };
    let version: Option<u32> = version.parse().ok();
    version >= Some(RULES_VERSION) && at.parse() == Ok(reported_at.as_millis())
}

#[cfg(test)]
mod tests;
