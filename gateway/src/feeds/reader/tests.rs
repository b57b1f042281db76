//! The reader on a Redis of its own. Readings are committed as ingest would.

use std::collections::BTreeSet;
use std::sync::Arc;

use shared::apply::retire;
use shared::reading::Reading;
use test_support::eventually::holds as eventually;
use test_support::server::OwnRedis;

use super::*;
use crate::feeds::filter::AlarmFilter;
use crate::test_setup::{self, start_redis};

const SILENCE: Duration = Duration::from_mins(3);

struct World {
    _redis: OwnRedis,
    store: Store,
    feeds: Feeds,
    finish: CancellationToken,
    messages: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        self.finish.cancel();
    }
}

impl World {
    async fn start() -> Self {
        let redis = start_redis().await;
        let store = test_setup::store(&test_setup::config(&redis.address(), &[]));
        eventually("Redis answers", async || store.ping().await.is_ok()).await;
        let finish = CancellationToken::new();
        let lifecycle = shared::lifecycle::Lifecycle::new();
        Self {
            feeds: Feeds::start(&store, false, &lifecycle, &finish),
            _redis: redis,
            store,
            finish,
            messages: 0,
        }
    }

    /// Commits a reading of a device, a minute after its last one by its own clock.
    async fn reading(&mut self, device: &str, value: i32) {
        self.messages += 1;
        let at = Time::from_millis(1_769_600_000_000) + Duration::from_mins(self.messages);
        let reading = Reading {
            timestamp: Some(at.to_iso()),
            device_time: Some(at),
            ..test_setup::reading(device, value)
        };
        let raw = format!(r#"{{"n":{}}}"#, self.messages);
        let number = self.messages;
        test_setup::commit(&self.store, reading, raw.as_bytes(), number, SILENCE).await;
    }

    async fn until_alarms_are_read(&self) {
        eventually("the alarms are read", async || {
            self.feeds.tables().has_alarms
        })
        .await;
    }

    /// The devices with open alarms.
    fn alarming(&self) -> BTreeSet<String> {
        let all = AlarmFilter::default();
        let mut found = BTreeSet::new();
        let page = self.feeds.tables().alarms.page(None, &all, |_| true);
        for text in &page.alarms {
            let json: serde_json::Value = serde_json::from_str(text.get()).expect("an alarm");
            let device = json["deviceId"].as_str().expect("a serial");
            found.insert(device.to_owned());
        }
        found
    }

    /// The text of the row of the only device; `None` without one.
    fn row(&self) -> Option<String> {
        let tables = self.feeds.tables();
        let mut cursor = tables.fleet.cursor();
        let until = tables.fleet.version();
        let chunk = tables
            .fleet
            .next(&mut cursor, until, |_, row| Some(Arc::clone(&row.text)));
        chunk.rows.first().map(|text| text.get().to_owned())
    }
}

/// However short an alarm is, it is told once, and its end once and behind it.
#[tokio::test]
async fn each_transition_is_sent_once() {
    const DEVICES: usize = 20;
    let mut world = World::start().await;
    let _wants = world.feeds.want_alarms();
    world.until_alarms_are_read().await;
    let mut cursor = world.feeds.tables().alarms.cursor();
    for number in 0..DEVICES {
        let device = format!("D{number}");
        world.reading(&device, 300).await;
        world.reading(&device, 20).await;
    }
    let all = AlarmFilter::default();
    let (mut open, mut ended) = (BTreeSet::new(), BTreeSet::new());
    eventually("every alarm has ended", async || {
        loop {
            let chunk = world
                .feeds
                .tables()
                .alarms
                .next(&mut cursor, &all, |_| true);
            let chunk = chunk.expect("nothing was missed");
            if chunk.is_empty() {
                return ended.len() == DEVICES;
            }
            for text in &chunk.changed {
                let json: serde_json::Value = serde_json::from_str(text.get()).expect("an alarm");
                let id = json["id"].as_str().expect("an id").to_owned();
                assert_eq!(json["change"], "raised", "{json}");
                assert!(open.insert(id), "{json} twice");
            }
            for end in serde_json::to_value(&chunk.ended)
                .expect("JSON")
                .as_array()
                .expect("ends")
            {
                let id = end["id"].as_str().expect("an id").to_owned();
                assert_eq!(end["change"], "cleared", "{end}");
                assert!(open.contains(&id) && ended.insert(id), "{end}");
            }
        }
    })
    .await;
    assert_eq!(open.len(), DEVICES);
    assert_eq!(world.alarming(), BTreeSet::new());
}

/// What is kept of a client that has left may be old: the next one waits until it is not.
#[tokio::test]
async fn a_client_that_comes_later_gets_what_happened_while_nobody_looked() {
    let mut world = World::start().await;
    let wants = world.feeds.want_alarms();
    world.reading("A", 300).await;
    world.until_alarms_are_read().await;
    eventually("the alarm is known", async || {
        world.alarming().contains("A")
    })
    .await;
    drop(wants);
    world.reading("B", 300).await;
    world.reading("A", 20).await;
    let _wants = world.feeds.want_alarms();
    assert!(!world.feeds.tables().has_alarms);
    world.until_alarms_are_read().await;
    assert_eq!(world.alarming(), BTreeSet::from(["B".to_owned()]));
}

#[tokio::test]
async fn rows_follow_readings_and_retirement() {
    let mut world = World::start().await;
    let _wants = world.feeds.want_rows(Duration::from_millis(250));
    for value in [120, 600] {
        world.reading("A", value).await;
        let expected = format!(r#""sensor_reading":{value},"#);
        eventually("the row has the value", async || {
            world.row().is_some_and(|row| row.contains(&expected))
        })
        .await;
    }
    let device = "A".parse().expect("a serial");
    let retired = retire(&world.store, &device, "somebody").await;
    retired.expect("Redis answers");
    eventually("the row is gone", async || world.row().is_none()).await;
}
