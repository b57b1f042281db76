//! The history in Redis: what a sample takes, and that samples of earlier releases stay readable.

use super::*;
use crate::sample::Sample;

/// Bytes that a sample of a full stream may take, with its share of everything around it.
const MAX_BYTES: u64 = 40;

/// Adds samples five seconds apart, as a detector would cause them.
async fn fill(redis: &mut MultiplexedConnection, key: &str, samples: i64) {
    let first = 1_795_703_997_308_i64;
    for chunk in (0..samples).collect::<Vec<_>>().chunks(1_000) {
        let mut pipe = redis::pipe();
        for number in chunk {
            let at = first + number * 5_000 + number % 7;
            let sample = Sample {
                timestamp: Time::from_millis(at - 3),
                reading_timestamp: Some("2026-01-28 11:37:12".to_owned()),
                value: format!("{}.{}", 100 + number % 400, number % 10)
                    .parse()
                    .ok(),
                unit: "ppm".to_owned(),
                in_alarm: number % 2 == 0,
                quality: crate::reading::Quality::Good,
                late: false,
            };
            pipe.cmd("XADD").arg(key).arg(format!("{at}-0"));
            pipe.arg("s").arg(sample.encode()).ignore();
        }
        pipe.exec_async(redis).await.expect("added");
    }
}

pub(super) async fn memory_usage(redis: &mut MultiplexedConnection, key: &str) -> u64 {
    let mut command = redis::cmd("MEMORY");
    command.arg("USAGE").arg(key).arg("SAMPLES").arg(0);
    command.query_async(redis).await.expect("the bytes")
}

#[tokio::test]
async fn a_sample_takes_at_most_40_bytes() {
    const SAMPLES: u16 = 20_000;
    let server = RedisServer::start().await;
    let mut redis = server.connect().await;
    fill(&mut redis, "st:{p00}:history:x", SAMPLES.into()).await;
    let bytes = memory_usage(&mut redis, "st:{p00}:history:x").await;
    let each = bytes / u64::from(SAMPLES);
    assert!(each <= MAX_BYTES, "{each} bytes, {bytes} in all");
}

#[tokio::test]
async fn samples_of_an_earlier_release_stay_readable_and_unreadable_ones_are_left_out() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let key = store.keys(&device()).history(&device());
    let json = r#"{"timestamp":"2026-11-26T14:39:57.308Z","reading_timestamp":null,"sensor_reading":300,"unit":"ppm","alarm_status":"ALARM","data_quality":"good"}"#;
    for sample in [json.as_bytes(), b"{", &[1, 2, 3], &[9, 1, 1, 1], b""] {
        let mut add = redis::cmd("XADD");
        add.arg(&key).arg("*").arg("s").arg(sample);
        add.exec_async(&mut redis).await.expect("added");
    }
    commit_reading(&store, DEVICE, "0.125", 0).await;
    let samples = store
        .history(&device(), None, None, 10)
        .await
        .expect("an answer");
    assert_eq!(samples.len(), 2);
    assert_eq!(samples[0].get(), json);
    let newest: serde_json::Value = serde_json::from_str(samples[1].get()).expect("JSON");
    assert_eq!(newest["sensor_reading"].to_string(), "0.125");
    assert_eq!(newest["alarm_status"], "NORMAL");
    assert_eq!(newest["data_quality"], "good");
}

#[tokio::test]
async fn pieces_have_every_sample_once_and_in_order() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let key = store.keys(&device()).history(&device());
    fill(&mut redis, &key, 2_500).await;
    let first = 1_795_703_997_308_i64;
    let at = |number: i64| Time::from_millis(first + number * 5_000 + number % 7);
    for (bounds, expected) in [
        ((at(0), at(2_499)), 2_500),
        ((at(0), at(999)), 1_000),
        ((at(1), at(1_001)), 1_001),
        ((at(2_500), at(9_999)), 0),
    ] {
        let mut samples = Vec::new();
        let mut place = None;
        loop {
            let piece = store.history_piece(&device(), bounds, place.as_ref()).await;
            let piece = piece.expect("a piece");
            assert!(piece.samples.len() <= HISTORY_PIECE);
            samples.extend(piece.samples);
            place = piece.next;
            if place.is_none() {
                break;
            }
        }
        assert_eq!(samples.len(), expected);
        let times = samples.iter().map(|sample| sample.at);
        assert!(times.is_sorted_by(|a, b| a < b));
    }
}

/// Ids of the samples of the device.
async fn sample_ids(store: &Store, redis: &mut MultiplexedConnection) -> Vec<String> {
    let mut read = redis::cmd("XRANGE");
    read.arg(store.keys(&device()).history(&device()))
        .arg("-")
        .arg("+");
    let answer: Value = read.query_async(redis).await.expect("an answer");
    let entries = reply::entries(answer).expect("entries");
    entries.into_iter().map(|entry| entry.id).collect()
}

#[tokio::test]
async fn a_silent_device_is_trimmed_by_age_and_count_while_redis_is_full() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let key = store.keys(&device()).history(&device());
    fill(&mut redis, &key, 1_000).await;
    store.ping().await.expect("connected");
    server.config_set("maxmemory", "256kb").await;

    let trim = async |oldest, max| {
        let oldest = Time::from_millis(oldest);
        let bounds = HistoryBounds { oldest, max };
        let devices = [device(), "OTSM-0999".parse().expect("a serial")];
        let uses = store
            .trim_histories(&devices, bounds)
            .await
            .expect("trimmed");
        assert_eq!(uses[1], HistoryUse::default(), "a device without a history");
        assert!(uses[0].samples == 0 || uses[0].bytes > 0, "{uses:?}");
        uses[0].samples
    };
    assert_eq!(trim(0, 1_000).await, 1_000);
    let left = trim(0, 500).await;
    assert!((500..500 + NODE).contains(&left), "{left}");
    let first = 1_795_703_997_308_i64;
    let left = trim(first + 800 * 5_000, 500).await;
    assert!((200..200 + NODE).contains(&left), "{left}");
    assert_eq!(
        trim(i64::MAX, 500).await,
        0,
        "it is silent, and all of it is old"
    );
}

#[tokio::test]
async fn only_so_many_of_the_oldest_are_dropped_and_none_that_is_new() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let key = store.keys(&device()).history(&device());
    fill(&mut redis, &key, 1_000).await;
    let first = 1_795_703_997_308_i64;
    let all = Time::from_millis(i64::MAX);
    let dropped = store
        .drop_oldest(&[(device(), 350)], all)
        .await
        .expect("dropped");
    assert_eq!(dropped, [300], "whole nodes");
    let new = Time::from_millis(first + 450 * 5_000);
    let dropped = store
        .drop_oldest(&[(device(), 500)], new)
        .await
        .expect("dropped");
    assert_eq!(dropped, [100]);
}

#[tokio::test]
async fn every_second_sample_is_removed_while_redis_is_full_and_memory_becomes_free() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let key = store.keys(&device()).history(&device());
    fill(&mut redis, &key, 5_001).await;
    let bytes = memory_usage(&mut redis, &key).await;
    let before = sample_ids(&store, &mut redis).await;
    store.ping().await.expect("connected");
    server.config_set("maxmemory", "256kb").await;

    assert_eq!(store.thin_history(&device()).await.expect("thinned"), 2_500);
    let after = sample_ids(&store, &mut redis).await;
    let expected: Vec<_> = before.iter().step_by(2).cloned().collect();
    assert_eq!(after, expected);
    let left = memory_usage(&mut redis, &key).await;
    assert!(left < bytes * 6 / 10, "{left} of {bytes}");
    let mut ttl = redis::cmd("TTL");
    let ttl: i64 = ttl
        .arg(&key)
        .query_async(&mut redis)
        .await
        .expect("an answer");
    assert_eq!(ttl, -1, "it stays");
    // Thinned again, while nothing else happens.
    assert_eq!(store.thin_history(&device()).await.expect("thinned"), 1_250);
    server.config_set("maxmemory", "0").await;
    commit_reading(&store, DEVICE, "20", 0).await;
    let now = sample_ids(&store, &mut redis).await;
    assert!(now.last() > after.last(), "the next sample follows");
    let unknown = "OTSM-0999".parse().expect("a serial");
    assert_eq!(store.thin_history(&unknown).await.expect("nothing"), 0);
    let keys: Vec<String> = redis.keys("st:{p*}:thinned:*").await.expect("an answer");
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn events_are_trimmed_and_alarm_changes_are_not() {
    let server = RedisServer::start().await;
    let store = server.store();
    for second in 0..30 {
        let value = if second % 2 == 0 { "300" } else { "20" };
        commit_reading(&store, DEVICE, value, second).await;
    }
    let before = store.snapshot(&device(), Some(0)).await.expect("an answer");
    server.config_set("maxmemory", "256kb").await;
    let removed = store.trim_events(&[device()], 8).await.expect("trimmed");
    let after = store.snapshot(&device(), Some(0)).await.expect("an answer");
    assert_eq!(
        before.events.len() - after.events.len(),
        usize::try_from(removed).expect("it fits")
    );
    assert!(
        (8..16).contains(&after.events.len()),
        "{}",
        after.events.len()
    );
    assert_eq!(after.changes.len(), before.changes.len());
    let last = |snapshot: &Snapshot| snapshot.events.last().map(|event| event.position);
    assert_eq!(last(&after), last(&before));
    // The next event follows.
    commit_reading(&store, DEVICE, "300", 100).await;
}

#[tokio::test]
async fn a_copy_that_lost_its_beginning_does_not_replace_the_history() {
    let server = RedisServer::start().await;
    let mut redis = server.connect().await;
    let (history, copy) = ("st:{p00}:history:x", "st:{p00}:thinned:x:1");
    fill(&mut redis, history, 1_000).await;
    let ids: Vec<(String, Value)> = redis::cmd("XRANGE")
        .arg(history)
        .arg("-")
        .arg("+")
        .query_async(&mut redis)
        .await
        .expect("samples");
    let (last, _) = &ids[999];
    // The process was paused after the first piece, whose copy expired meanwhile: only that of the second piece is there.
    fill(&mut redis, copy, 250).await;
    let call = async |redis: &mut MultiplexedConnection, expected: u64| -> u64 {
        let mut command = redis::cmd("EVAL");
        command.arg(include_str!("../thinned.lua")).arg(2);
        command.arg(history).arg(copy).arg(last).arg(expected);
        command.query_async(redis).await.expect("an answer")
    };
    assert_eq!(call(&mut redis, 500).await, 0);
    let mut length = redis::cmd("XLEN");
    let length: u64 = length
        .arg(history)
        .query_async(&mut redis)
        .await
        .expect("a length");
    assert_eq!(length, 1_000);
}

/// Nothing may be written by half because of a setting.
#[tokio::test]
async fn an_age_may_be_longer_than_the_time_since_1970() {
    let server = RedisServer::start().await;
    let store = server.store();
    let hundred_years = 100 * 365 * 86_400_000;
    let mut config = apply_config();
    config.bounds.history_age_ms = hundred_years;
    config.bounds.log_age_ms = hundred_years;
    // Usual commits that trim, and some that change an alarm.
    for second in 0..40 {
        let value = if second % 10 == 9 { "300" } else { "20" };
        let work = [message_work(&reading_of(DEVICE, value, second))];
        let applied = apply(&store, &work, &config).await;
        assert!(applied[0].is_ok(), "{second}: {applied:?}");
    }
    let samples = store.history(&device(), None, None, 100).await;
    assert_eq!(samples.expect("an answer").len(), 40);
}
