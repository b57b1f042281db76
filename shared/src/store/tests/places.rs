//! The limit of devices, with several writers.

use super::*;
use crate::apply::retire;
use crate::decide::Outcome;
use crate::keys;

fn limited(devices: u64, reserve: u64) -> ApplyConfig {
    ApplyConfig {
        places: Some(Places { devices, reserve }),
        ..apply_config()
    }
}

async fn send(
    store: &Store,
    config: &ApplyConfig,
    device: &str,
    value: &str,
) -> Result<(), StoreError> {
    let work = [message_work(&reading_of(device, value, 0))];
    let mut results = apply(store, &work, config).await;
    results.pop().expect("one result").map(drop)
}

async fn number_of_devices(store: &Store) -> u64 {
    store.count_devices().await.expect("an answer")
}

async fn number_of_places(store: &Store) -> u64 {
    store.count_places().await.expect("an answer")
}

#[tokio::test]
async fn the_limit_is_exact_with_several_writers() {
    let server = RedisServer::start().await;
    let config = limited(25, 0);
    let names: Vec<String> = (0..60).map(|number| format!("NEW-{number}")).collect();
    let writer = async |writer: usize| {
        let store = server.store();
        let mut stored = 0;
        // Each writer begins at another device, and sends several in one round trip.
        let mut names = names.clone();
        names.rotate_left(writer * 11);
        for chunk in names.chunks(7) {
            let work: Vec<Work<'_>> = chunk
                .iter()
                .map(|name| message_work(&reading_of(name, "10", 0)))
                .collect();
            for result in apply(&store, &work, &config).await {
                match result {
                    Ok(_) => stored += 1,
                    Err(StoreError::TooManyDevices { .. }) => {}
                    Err(err) => panic!("{err}"),
                }
            }
        }
        stored
    };
    let writers = (0..5).map(writer);
    let stored: Vec<usize> = futures_util::future::join_all(writers).await;
    assert!(stored.iter().all(|stored| *stored == 25), "{stored:?}");
    let store = server.store();
    assert_eq!(number_of_devices(&store).await, 25);
    assert_eq!(number_of_places(&store).await, 25);
}

#[tokio::test]
async fn a_new_device_in_danger_gets_a_place_in_the_reserve_and_that_is_limited_too() {
    let server = RedisServer::start().await;
    let store = server.store();
    let config = limited(1, 2);
    send(&store, &config, "A", "10").await.expect("stored");
    let refused = send(&store, &config, "B", "10").await;
    assert!(
        matches!(
            refused,
            Err(StoreError::TooManyDevices { in_danger: false })
        ),
        "{refused:?}"
    );
    send(&store, &config, "B", "2000")
        .await
        .expect("stored: gas");
    send(&store, &config, "B", "10")
        .await
        .expect("it is known now");
    send(&store, &config, "C", "300")
        .await
        .expect("stored: gas");
    let refused = send(&store, &config, "D", "300").await;
    assert!(
        matches!(refused, Err(StoreError::TooManyDevices { in_danger: true })),
        "{refused:?}"
    );
    assert_eq!(number_of_devices(&store).await, 3);
}

#[tokio::test]
async fn a_retired_device_frees_its_place() {
    let server = RedisServer::start().await;
    let store = server.store();
    let config = limited(1, 0);
    send(&store, &config, "A", "10").await.expect("stored");
    assert!(send(&store, &config, "B", "10").await.is_err());
    retire(&store, &"A".parse().expect("a serial"), "Ann")
        .await
        .expect("retired");
    assert_eq!(number_of_places(&store).await, 0);
    send(&store, &config, "B", "10").await.expect("stored");
    assert!(send(&store, &config, "A", "10").await.is_err());
}

#[tokio::test]
async fn devices_that_have_no_place_get_one_before_any_new_device_does() {
    let server = RedisServer::start().await;
    let store = server.store();
    // As an earlier release does.
    for name in ["A", "B"] {
        commit_reading(&store, name, "10", 0).await;
    }
    assert_eq!(number_of_places(&store).await, 0);
    let config = limited(2, 0);
    assert!(send(&store, &config, "C", "10").await.is_err());
    assert_eq!(number_of_places(&store).await, 2);
    let known = message_work(&reading_of("A", "20", 5));
    let results = apply(&store, &[known], &config).await;
    assert!(results[0].is_ok(), "{results:?}");
}

#[tokio::test]
async fn a_place_whose_device_was_never_stored_is_kept_for_a_while_and_then_freed() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let places = Places {
        devices: 1,
        reserve: 0,
    };
    let applicant = |name: &str| Applicant {
        device: name.parse().expect("a serial"),
        in_danger: false,
    };
    // The process dies before the commit.
    let admitted = store.admit(&[applicant("A")], places).await;
    assert_eq!(admitted.expect("an answer"), [true]);
    store.reconcile_places().await.expect("compared");
    let admitted = store.admit(&[applicant("B"), applicant("A")], places).await;
    assert_eq!(
        admitted.expect("an answer"),
        [false, true],
        "A has it still"
    );
    let long_ago = store.clock().now() - RESERVED_FOR - Duration::from_secs(1);
    let _: () = redis
        .zadd(keys::ADMITTED, "A", long_ago.as_millis())
        .await
        .expect("written");
    store.reconcile_places().await.expect("compared");
    let admitted = store.admit(&[applicant("B")], places).await;
    assert_eq!(admitted.expect("an answer"), [true]);
}

#[tokio::test]
async fn a_place_that_is_used_again_is_not_freed_by_the_retirement_before() {
    let server = RedisServer::start().await;
    let store = server.store();
    let config = limited(1, 0);
    send(&store, &config, "A", "10").await.expect("stored");
    let device: DeviceId = "A".parse().expect("a serial");
    let before = store.clock().now() - Duration::from_mins(1);
    store.release(&[(device, before)]).await.expect("an answer");
    assert_eq!(number_of_places(&store).await, 1);
}

#[tokio::test]
async fn a_serial_that_is_not_admitted_takes_no_place_and_a_known_one_is_never_affected() {
    let server = RedisServer::start().await;
    let store = server.store();
    let config = ApplyConfig {
        admit: SerialPatterns::new("OTSM-*,O2-7"),
        ..limited(10, 10)
    };
    commit_reading(&store, "OTHER", "10", 0).await;
    send(&store, &config, "OTSM-1", "10").await.expect("stored");
    send(&store, &config, "O2-7", "10").await.expect("stored");
    let refused = send(&store, &config, "O2-8", "2000").await;
    assert!(
        matches!(refused, Err(StoreError::NotAdmitted { in_danger: true })),
        "{refused:?}"
    );
    let known = message_work(&reading_of("OTHER", "20", 5));
    let results = apply(&store, &[known], &config).await;
    assert!(results[0].is_ok(), "{results:?}");
    assert_eq!(number_of_places(&store).await, 3);
}

#[tokio::test]
async fn a_places_key_of_the_wrong_type_affects_unknown_devices_alone() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let config = limited(10, 0);
    send(&store, &config, "KNOWN", "10").await.expect("stored");
    let _: () = redis.del(keys::ADMITTED).await.expect("deleted");
    let _: () = redis.set(keys::ADMITTED, "x").await.expect("written");
    let work = [
        message_work(&reading_of("NEW", "10", 5)),
        message_work(&reading_of("KNOWN", "300", 5)),
    ];
    let results = apply(&store, &work, &config).await;
    let refused = results[0].as_ref().expect_err("no place");
    assert!(!refused.is_transient(), "{refused:?}");
    assert!(refused.to_string().contains(keys::ADMITTED), "{refused}");
    assert!(results[1].is_ok(), "{results:?}");
    for failed in [
        store.count_places().await.map(drop),
        store.reconcile_places().await,
    ] {
        assert!(
            matches!(failed, Err(StoreError::PlacesUnusable { .. })),
            "{failed:?}"
        );
    }
    let device: DeviceId = "KNOWN".parse().expect("a serial");
    retire(&store, &device, "Ann").await.expect("retired");

    let _: () = redis.del(keys::ADMITTED).await.expect("deleted");
    store.reconcile_places().await.expect("compared");
    send(&store, &config, "NEW", "10").await.expect("stored");
}

#[tokio::test]
async fn a_damaged_list_of_places_is_mended() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let config = limited(2, 0);
    send(&store, &config, "A", "10").await.expect("stored");
    // A name that is no text, in the places and in the list of devices, and a mark that is no string.
    let _: () = redis
        .zadd(keys::ADMITTED, b"\xff\xfe", 5)
        .await
        .expect("written");
    let device: DeviceId = "A".parse().expect("a serial");
    let own = store.keys(&device);
    for list in [own.seen(), own.deadlines()] {
        let _: () = redis.zadd(list, b"\xff\xfe", 5).await.expect("written");
    }
    let _: () = redis.del(keys::ADMITTED_COUNTED).await.expect("deleted");
    let _: () = redis
        .lpush(keys::ADMITTED_COUNTED, "x")
        .await
        .expect("written");
    send(&store, &config, "B", "10").await.expect("stored");
    assert_eq!(number_of_places(&store).await, 2);
    let devices = store.devices().await.expect("an answer");
    assert_eq!(devices.len(), 2);
    let later = store.clock().now() + Duration::from_hours(1);
    let due = store.due(later, 10).await.expect("an answer");
    assert!(due.iter().any(|(due, _)| *due == device), "{due:?}");
}

#[tokio::test]
async fn silent_devices_without_a_deadline_are_looked_at_again() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    for name in ["OLD", "YOUNG"] {
        commit_reading(&store, name, "10", 0).await;
        let device: DeviceId = name.parse().expect("a serial");
        let _: () = redis
            .zrem(store.keys(&device).deadlines(), name)
            .await
            .expect("removed");
    }
    let old: DeviceId = "OLD".parse().expect("a serial");
    let day = Duration::from_hours(24);
    let long_ago = store.clock().now() - day - day;
    let _: () = redis
        .zadd(store.keys(&old).seen(), "OLD", long_ago.as_millis())
        .await
        .expect("written");
    store.revisit_silent(day).await.expect("an answer");
    let due = store.due(store.clock().now() + Duration::from_mins(1), 10);
    let due: Vec<DeviceId> = due
        .await
        .expect("read")
        .into_iter()
        .map(|(device, _)| device)
        .collect();
    assert_eq!(due, [old]);
}

#[tokio::test]
async fn a_device_that_is_forgotten_leaves_nothing_and_frees_its_place() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut config = limited(1, 0);
    send(&store, &config, "A", "10").await.expect("stored");
    let device: DeviceId = "A".parse().expect("a serial");
    config.settings.offline_after = Duration::from_millis(1);
    config.settings.forget_after = Duration::from_millis(1);
    let look = || Work {
        device: device.clone(),
        cause: Cause::Deadline {
            listening: Listening::default(),
        },
        trace: None,
    };
    let outcome = async || {
        // The device has been silent for longer than a millisecond.
        eventually_later(&store).await;
        let mut results = apply(&store, &[look()], &config).await;
        let applied = results.pop().expect("one result").expect("applied");
        applied.decision.outcome
    };
    assert_eq!(outcome().await, Outcome::Deadline);
    assert_eq!(
        outcome().await,
        Outcome::Deadline,
        "nobody has acknowledged"
    );
    let alarms = store
        .alarms(&device, 10)
        .await
        .expect("read")
        .expect("a device");
    let silence = acknowledge(&store, &device, acknowledging(&alarms[0].id, "Ann", None)).await;
    assert_eq!(silence.expect("an answer").answer, Acknowledged::Covered);
    assert_eq!(outcome().await, Outcome::Retired);
    assert_eq!(number_of_devices(&store).await, 0);
    assert_eq!(number_of_places(&store).await, 0);
    let log = log_of(&store, device.partition(8)).await;
    assert_eq!(
        readable_entry(&log[0]).by.as_deref(),
        Some("--forget-after")
    );
    assert_eq!(
        outcome().await,
        Outcome::Deadline,
        "another replica was slower"
    );
    assert_eq!(number_of_devices(&store).await, 0);
}

/// Waits until the clock of the store has moved by more than a millisecond.
async fn eventually_later(store: &Store) {
    let start = store.clock().now();
    while store.clock().now().millis_since(start) < 2 {
        tokio::task::yield_now().await;
    }
}
