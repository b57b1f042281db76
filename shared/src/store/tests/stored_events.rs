//! How events are stored, and read again.

use std::collections::HashMap;

use super::*;
use crate::keys::MAX_EVENTS;

/// The stored entries of the device: the number of each, and whether it is whole.
async fn entries(redis: &mut MultiplexedConnection, stream: &str) -> Vec<(u64, bool)> {
    let entries: Vec<(String, HashMap<String, Vec<u8>>)> = redis::cmd("XRANGE")
        .arg(&[stream, "-", "+"])
        .query_async(redis)
        .await
        .expect("entries");
    let entries = entries.into_iter();
    entries
        .map(|(id, fields)| {
            let (seq, _) = id.split_once('-').expect("two numbers");
            assert_ne!(fields.contains_key("event"), fields.contains_key("diff"));
            (seq.parse().expect("a number"), fields.contains_key("event"))
        })
        .collect()
}

fn envelope(applied: &Applied) -> Vec<u8> {
    let event = applied.decision.event.as_ref().expect("an event");
    event.envelope.clone().into_bytes()
}

/// Reads the events from each seq on, and compares them with what was published.
async fn check(store: &Store, published: &[Vec<u8>]) {
    let last = published.len();
    for since in [last, last - 1, last - 20, last + 1 - MAX_EVENTS] {
        let snapshot = store.snapshot(&device(), Some(since as u64)).await;
        let events = snapshot.expect("an answer").events;
        let seqs: Vec<u64> = events.iter().map(|event| event.position.seq).collect();
        let expected: Vec<u64> = (since as u64..=last as u64).collect();
        assert_eq!(seqs, expected, "since {since}");
        for (event, published) in events.iter().zip(&published[since - 1..]) {
            assert_eq!(event.bytes, *published);
        }
    }
}

#[tokio::test]
async fn most_events_are_stored_short_and_read_as_they_were_published() {
    let server = RedisServer::start().await;
    // Replicas in turn.
    let replicas = [server.store(), server.store(), server.store()];
    let mut redis = server.connect().await;
    let stream = replicas[0].keys(&device()).events(&device());
    let mut published = Vec::new();
    for second in 0..200 {
        // Some readings change an alarm.
        let value = if second % 50 == 49 {
            "300".to_owned()
        } else {
            (second % 10).to_string()
        };
        let turn = usize::try_from(second).expect("it fits") % replicas.len();
        let applied = commit_reading(&replicas[turn], DEVICE, &value, second).await;
        published.push(envelope(&applied));
    }
    check(&replicas[0], &published).await;
    let stored = entries(&mut redis, &stream).await;
    let whole = stored.iter().filter(|(_, is_whole)| *is_whole).count();
    assert!(whole * 3 <= stored.len(), "{whole} of {}", stored.len());
}

#[tokio::test]
async fn the_events_of_a_device_take_little_memory() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    for second in 0..200 {
        commit_reading(&store, DEVICE, &(second % 100).to_string(), second).await;
    }
    let stream = store.keys(&device()).events(&device());
    let length = stream_length(&mut redis, &stream).await;
    assert!(length >= MAX_EVENTS as u64, "{length}");
    let bytes: u64 = redis::cmd("MEMORY")
        .arg(&["USAGE", &stream, "SAMPLES", "0"])
        .query_async(&mut redis)
        .await
        .expect("the bytes");
    assert!(bytes < 32 * 1024, "{length} events take {bytes} bytes");
}

#[tokio::test]
async fn a_run_is_stored_short_too() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let stream = store.keys(&device()).events(&device());
    let readings = (0..40).map(|second| reading_of(DEVICE, &second.to_string(), second));
    let work: Vec<Work<'_>> = readings.map(|reading| message_work(&reading)).collect();
    let results = apply(&store, &work, &apply_config()).await.into_iter();
    let published: Vec<Vec<u8>> = results
        .map(|result| envelope(&result.expect("committed")))
        .collect();
    let stored = entries(&mut redis, &stream).await;
    let whole = stored.iter().filter(|(_, is_whole)| *is_whole).count();
    assert_eq!((stored.len(), whole), (40, 3));
    let snapshot = store.snapshot(&device(), Some(1)).await;
    let events = snapshot.expect("an answer").events.into_iter();
    assert_eq!(
        events.map(|event| event.bytes).collect::<Vec<_>>(),
        published
    );
}

/// The whole event that a process remembers was deleted with the device.
#[tokio::test]
async fn a_device_that_comes_back_begins_with_a_whole_event() {
    let server = RedisServer::start().await;
    let (store, other) = (server.store(), server.store());
    let mut redis = server.connect().await;
    let stream = store.keys(&device()).events(&device());
    for second in 0..5 {
        commit_reading(&store, DEVICE, "1", second).await;
    }
    crate::apply::retire(&other, &device(), "Asha")
        .await
        .expect("an answer");
    commit_reading(&other, DEVICE, "2", 10).await;
    commit_reading(&store, DEVICE, "3", 11).await;
    let stored = entries(&mut redis, &stream).await;
    assert_eq!(stored, [(7, true), (8, true)]);
}

#[tokio::test]
async fn events_whose_whole_one_is_missing_are_left_out() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let stream = store.keys(&device()).events(&device());
    for second in 0..3 {
        commit_reading(&store, DEVICE, "1", second).await;
    }
    let _: () = redis::cmd("XDEL")
        .arg(&[&stream, "1-0"])
        .query_async(&mut redis)
        .await
        .expect("deleted");
    let snapshot = store.snapshot(&device(), Some(1)).await;
    let snapshot = snapshot.expect("an answer");
    assert!(snapshot.events.is_empty(), "{:?}", snapshot.events);
    assert_eq!(snapshot.state.expect("a state").position.seq, 3);
}
