//! Writes and reads the reports of the ingest replicas that receive messages.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue, RedisError, Value};

use super::memory::Fullness;
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
    /// Which unknown devices are accepted: the least that a replica which listens reports.
    pub places: PlacesLeft,
    /// How full Redis is: the most that a replica which listens reports. A replica whose reserve is used up does not listen.
    pub fullness: Fullness,
}

/// Which unknown devices an ingest replica accepts; each accepts less than the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlacesLeft {
    /// All of them.
    #[default]
    ForAll,
    /// `--max-devices` is reached: those whose first message shows a danger, since `--alarm-reserve` has places.
    ForDanger,
    /// None: `--alarm-reserve` is used up, too.
    NoneLeft,
    /// None: the places cannot be counted.
    Uncounted,
}

impl PlacesLeft {
    const ALL: [Self; 4] = [
        Self::ForAll,
        Self::ForDanger,
        Self::NoneLeft,
        Self::Uncounted,
    ];

    /// Whether a device that shows no danger is accepted.
    #[must_use]
    pub fn accepts_all(self) -> bool {
        self == Self::ForAll
    }

    fn word(self) -> &'static str {
        match self {
            Self::ForAll => "all",
            Self::ForDanger => "danger",
            Self::NoneLeft => "none",
            Self::Uncounted => "uncounted",
        }
    }
}

/// What a replica reports beside that it listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report<'a> {
    /// The topic filters of its subscription.
    pub topics: &'a [String],
    /// The subscription brings no message, although devices are known.
    pub is_quiet: bool,
    /// Which unknown devices it accepts.
    pub places: PlacesLeft,
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
    /// Reports that this replica has an active subscription, and how full it finds Redis. Returns when at least one replica has had
    /// a subscription.
    pub async fn report(
        &self,
        client_id: &str,
        report: Report<'_>,
    ) -> Result<Listening, StoreError> {
        let answer = self
            .run(|scripts, pipe| {
                pipe.cmd("EVALSHA").arg(&scripts.heartbeat).arg(5);
                pipe.arg(keys::INGEST_MEMBERS)
                    .arg(keys::INGEST_LISTENING)
                    .arg(keys::INGEST_QUIET)
                    .arg(keys::INGEST_RULES)
                    .arg(keys::INGEST_LIMITS);
                pipe.arg(client_id)
                    .arg(MAX_REPORT_AGE.as_millis().to_string());
                pipe.arg(report.topics.join("\n"))
                    .arg(if report.is_quiet { "1" } else { "" })
                    .arg(RULES_VERSION)
                    .arg(report.places.word())
                    .arg(self.fullness().word());
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
                2 => pipe.cmd("HDEL").arg(keys::INGEST_LIMITS),
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
                2 => {
                    pipe.cmd("HGETALL").arg(keys::INGEST_LIMITS);
                }
                _ => {
                    pipe.cmd("ZCOUNT").arg(match index {
                        3 => keys::INGEST_MEMBERS,
                        _ => keys::INGEST_QUIET,
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
        let limits = HashMap::<String, String>::from_redis_value(next()?);
        let limits = limits.map_err(|err| StoreError::Unavailable(err.into()))?;
        let limits = limits
            .values()
            .filter_map(|report| recent_limits(report, recent));
        let (places, fullness) = limits.fold(Default::default(), |(places, fullness), report| {
            (report.0.max(places), report.1.max(fullness))
        });
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
            places,
            fullness,
        })
    }
}

/// Reads what a replica reports of its limits; `None` if the report is from before `oldest_ms`, or cannot be read.
fn recent_limits(report: &str, oldest_ms: i64) -> Option<(PlacesLeft, Fullness)> {
    let mut words = report.split(' ');
    let at: i64 = words.next()?.parse().ok()?;
    let (places, memory) = (words.next()?, words.next()?);
    let known = PlacesLeft::ALL.into_iter();
    let places = known.into_iter().find(|known| known.word() == places)?;
    let fullness = Fullness::reported(memory)?;
    (at >= oldest_ms).then_some((places, fullness))
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
