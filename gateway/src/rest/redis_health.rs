//! What Redis says to those who ask for the health.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::store::IngestStatus;
use tokio::sync::Mutex;

use crate::store_reader::StoreReader;

/// How long an answer counts.
const KEPT: Duration = Duration::from_secs(1);

/// What Redis answered last. Anybody may ask for the health as often as it likes, also without a token, so those who ask within a
/// second share one answer. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct RedisHealth {
    // An async mutex: held while Redis is asked, so that others wait for the same answer.
    last: Arc<Mutex<Option<(Instant, RedisAnswer)>>>,
}

/// An answer, or the lack of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct RedisAnswer {
    /// It answered both questions.
    pub(super) answers: bool,
    /// An ingest reports an active subscription.
    pub(super) is_listening: bool,
    /// Number of devices, if it answered that.
    pub(super) devices: Option<u64>,
}

impl RedisHealth {
    pub(super) async fn current(&self, reader: &StoreReader) -> RedisAnswer {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = *last
            && at.elapsed() < KEPT
        {
            return answer;
        }
        let answer = RedisAnswer::read(reader).await;
        *last = Some((Instant::now(), answer));
        answer
    }
}

impl RedisAnswer {
    async fn read(reader: &StoreReader) -> Self {
        // Both reads run concurrently, so an unresponsive Redis costs only one timeout: hosting platforms give up early.
        let (devices, ingest) = tokio::join!(
            reader.with_timeout(reader.store.count_devices()),
            reader.with_timeout(reader.store.ingest_status()),
        );
        Self {
            answers: devices.is_ok() && ingest.is_ok(),
            is_listening: ingest.as_ref().is_ok_and(IngestStatus::is_listening),
            devices: devices.ok(),
        }
    }
}
