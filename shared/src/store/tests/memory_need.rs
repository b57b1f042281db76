//! The constants of the memory arithmetic, compared with a real Redis.

use std::collections::HashMap;

use super::*;
use crate::alarm::Acknowledgement;
use crate::memory_need::{
    ALARM_BYTES, CHANGE_BYTES, DEVICE_BYTES, EVENT_BYTES, LETTER_BYTES, LOG_BYTES,
};

async fn usage(redis: &mut MultiplexedConnection, key: &str) -> u64 {
    let mut command = redis::cmd("MEMORY");
    command.arg("USAGE").arg(key).arg("SAMPLES").arg(0);
    command.query_async(redis).await.expect("the bytes")
}

/// The constant is enough, and not more than eight times what is needed.
fn check(what: &str, measured: u64, constant: u64) {
    assert!(
        measured <= constant,
        "{what}: {measured} bytes, more than {constant}"
    );
    assert!(
        measured * 8 >= constant,
        "{what}: {measured} bytes, far less than {constant}"
    );
}

#[tokio::test]
async fn a_device_at_all_its_bounds_takes_no_more_than_the_arithmetic_says() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let config = ApplyConfig {
        settings: AlarmSettings {
            // Every raise is an alarm of its own, so that there are many changes.
            chatter_calm: Duration::ZERO,
            returned_levels: [false; 3],
            // Entries that wait for the log are measured elsewhere.
            log_burst: 0,
            ..apply_config().settings
        },
        ..apply_config()
    };
    for second in 0..400 {
        let value = if second % 2 == 0 { "1200.125" } else { "20.5" };
        let reading = reading_of(DEVICE, value, second);
        let applied = apply(&store, &[message_work(&reading)], &config)
            .await
            .pop();
        applied.expect("one result").expect("committed");
    }
    let keys = store.keys(&device());
    let (events, changes) = (keys.events(&device()), keys.changes(&device()));
    let (max_events, max_changes) = (
        crate::keys::MAX_STORED_EVENTS as u64,
        crate::keys::MAX_CHANGES as u64,
    );
    assert_eq!(stream_length(&mut redis, &events).await, max_events);
    assert_eq!(stream_length(&mut redis, &changes).await, max_changes);
    check(
        "event",
        usage(&mut redis, &events).await / max_events,
        EVENT_BYTES,
    );
    check(
        "change",
        usage(&mut redis, &changes).await / max_changes,
        CHANGE_BYTES,
    );
    let lines = stream_length(&mut redis, &keys.log()).await;
    check(
        "line of the log",
        usage(&mut redis, &keys.log()).await / lines,
        LOG_BYTES,
    );

    let calm = usage(&mut redis, &keys.device(&device())).await;
    check("device", calm, DEVICE_BYTES);
    commit_reading(&store, DEVICE, "1200", 500).await;
    let stored = store.load_one(&device()).await.expect("an answer");
    let state = Arc::clone(&stored.device().expect("a state").state);
    // The longest character has four bytes.
    let note = "🔥".repeat(Acknowledgement::MAX_NOTE);
    let request = Acknowledging {
        note: Some(&note),
        ..acknowledging(&state.alarms[0].id, "Asha Raman", None)
    };
    let answer = acknowledge(&store, &device(), request).await;
    assert_eq!(answer.expect("an answer").answer, Acknowledged::Covered);
    let alarm = usage(&mut redis, &keys.device(&device())).await;
    assert!(
        alarm <= calm + ALARM_BYTES,
        "{alarm} bytes with an alarm, {calm} without"
    );
    let last: Vec<(String, HashMap<String, String>)> = redis::cmd("XREVRANGE")
        .arg(keys.log())
        .arg(&["+", "-", "COUNT", "1"])
        .query_async(&mut redis)
        .await
        .expect("the newest line");
    let bytes: usize = last[0].1.values().map(String::len).sum();
    assert!(last[0].1.values().any(|text| text.contains(&note)));
    let most = LOG_BYTES + 4 * Acknowledgement::MAX_NOTE as u64;
    assert!(bytes as u64 <= most, "{bytes} bytes with a note");

    let payload = vec![b'x'; DeadLetter::MAX_BYTES];
    let detail = "a".repeat(300);
    let letter = DeadLetter {
        reason: "unreadable",
        detail: &detail,
        topic: "SubTronics/data",
        payload: &payload,
        size: payload.len(),
    };
    let letters = vec![letter; 100];
    store.dead_letter(&letters, 1_000).await.expect("stored");
    let bytes = usage(&mut redis, crate::keys::DEAD_LETTERS).await / 100;
    check(
        "dead letter",
        bytes,
        DeadLetter::MAX_BYTES as u64 + LETTER_BYTES,
    );
}
