//! The last received payloads as they arrived, for `ingest record`. Off unless an ingest runs with `--record-raw`.
//!
//! Bounded by their number; `--max-payload-bytes` bounds a payload, and its topic is stored as in a dead letter.

use redis::Value;

use std::sync::Arc;

use super::reply::{Entry, entries};
use super::{DeadLetter, Store, StoreError};
use crate::clock::Time;
use crate::keys;
use crate::redis::{CommandConnection, RedisConfig, RedisConnector, ServiceRole};

/// Maximum number of payloads read at once: about 6 MB with the largest payloads that are accepted by default.
const PAGE: usize = 100;

/// A payload as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPayload {
    /// Server time of its arrival.
    pub arrived: Time,
    /// Topic of the message.
    pub topic: String,
    /// The payload, or its beginning.
    pub payload: Vec<u8>,
    /// Size of the payload in bytes.
    pub size: usize,
    /// MQTT's RETAIN flag.
    pub retain: bool,
    /// MQTT's DUP flag.
    pub dup: bool,
}

impl Store {
    /// Records payloads in the order of their arrival, and the settings under which they were received, as JSON. The newest
    /// `max` payloads are kept.
    pub async fn record_raw(
        &self,
        payloads: &[RawPayload],
        max: u64,
        settings: &str,
    ) -> Result<(), StoreError> {
        let answers = self
            .run_each(payloads.len() + 1, |_, index, pipe| {
                let Some(payload) = payloads.get(index) else {
                    pipe.cmd("SET").arg(keys::RAW_SETTINGS).arg(settings);
                    return;
                };
                pipe.cmd("XADD").arg(keys::RAW_PAYLOADS);
                pipe.arg("MAXLEN").arg(max).arg("*");
                pipe.arg("at").arg(payload.arrived.as_millis());
                pipe.arg("topic").arg(&*DeadLetter::text(&payload.topic));
                pipe.arg("payload").arg(&payload.payload);
                pipe.arg("size").arg(payload.size);
                pipe.arg("retain").arg(u8::from(payload.retain));
                pipe.arg("dup").arg(u8::from(payload.dup));
            })
            .await?;
        let failure = answers.into_iter().find_map(Result::err);
        failure.map_or(Ok(()), |err| Err(self.answer_error(err)))
    }
}

/// Reads the payloads that were recorded before it was opened, oldest first.
#[derive(Debug)]
pub struct RawPayloadReader {
    redis: CommandConnection,
    /// The settings under which the last payload was received, as JSON.
    settings: Option<String>,
    /// Where the next page begins.
    from: String,
    /// Id of the newest entry; `None` if there is none, or all are read.
    until: Option<String>,
}

impl RawPayloadReader {
    /// Connects. Nothing is written.
    ///
    /// # Errors
    /// Redis is unavailable, or the key of the payloads is not a stream.
    pub async fn open(config: RedisConfig) -> Result<Self, StoreError> {
        let connector = RedisConnector::new(config, ServiceRole::Ingest, Arc::default());
        let mut redis = connector.reader().await?;
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(keys::RAW_SETTINGS);
        pipe.cmd("XREVRANGE").arg(keys::RAW_PAYLOADS);
        pipe.arg("+").arg("-").arg("COUNT").arg(1);
        let (settings, newest): (Option<String>, Value) = pipe
            .query_async(&mut redis)
            .await
            .map_err(StoreError::Unavailable)?;
        let mut newest = entries(newest).map_err(StoreError::Unavailable)?;
        Ok(Self {
            redis,
            settings,
            from: "-".to_owned(),
            until: newest.pop().map(|entry| entry.id),
        })
    }

    /// Returns the settings of the ingest that recorded last, as JSON.
    #[must_use]
    pub fn settings(&self) -> Option<&str> {
        self.settings.as_deref()
    }

    /// Returns the next payloads; none at the end.
    ///
    /// # Errors
    /// Redis is unavailable.
    pub async fn next_page(&mut self) -> Result<Vec<RawPayload>, StoreError> {
        let Some(until) = &self.until else {
            return Ok(Vec::new());
        };
        let page = redis::cmd("XRANGE")
            .arg(keys::RAW_PAYLOADS)
            .arg(&self.from)
            .arg(until)
            .arg("COUNT")
            .arg(PAGE)
            .query_async::<Value>(&mut self.redis)
            .await
            .map_err(StoreError::Unavailable)?;
        let page = entries(page).map_err(StoreError::Unavailable)?;
        match page.last() {
            Some(last) if page.len() == PAGE => self.from = format!("({}", last.id),
            _ => self.until = None,
        }
        Ok(page.iter().map(read).collect())
    }
}

fn read(entry: &Entry) -> RawPayload {
    let number = |field: &str| entry.text(field).and_then(|text| text.parse().ok());
    let payload = entry.fields.get("payload").cloned().unwrap_or_default();
    let size: Option<i64> = number("size");
    RawPayload {
        arrived: Time::from_millis(number("at").unwrap_or_default()),
        topic: entry.text("topic").unwrap_or_default().to_owned(),
        size: size
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(payload.len()),
        payload,
        retain: number("retain") == Some(1),
        dup: number("dup") == Some(1),
    }
}
