use test_support::eventually::holds as eventually;

use super::*;
use crate::test_setup;

#[tokio::test]
async fn a_device_added_again_during_a_look_is_new_at_the_next_one() {
    let redis = test_setup::start_redis().await;
    let store = test_setup::store(&test_setup::config(&redis.address(), &[]));
    eventually("Redis answers", async || store.ping().await.is_ok()).await;
    let devices = UnlistedDevices::new(&store);
    let device: DeviceId = "OTSM-0114".parse().unwrap();
    devices.add(&device);
    // The look waits for Redis when the other future runs.
    let (found, ()) = tokio::join!(devices.look(&store), async {
        assert!(devices.remove(&device));
        devices.add(&device);
    });
    assert_eq!(found.unwrap(), []);
    let is_new = || {
        let waiting = devices.waiting();
        let mut partitions = waiting.values();
        partitions.any(|partition| partition.new.contains(&device))
    };
    assert!(is_new());
    assert_eq!(devices.look(&store).await.unwrap(), []);
    assert!(!is_new());
}

#[tokio::test]
async fn after_a_look_that_failed_new_devices_are_still_new() {
    let store = test_setup::store(&test_setup::config("127.0.0.1:1", &[]));
    let devices = UnlistedDevices::new(&store);
    let [kept, removed] = ["A", "B"].map(|name| name.parse::<DeviceId>().unwrap());
    devices.add(&kept);
    devices.add(&removed);
    let (found, _) = tokio::join!(devices.look(&store), async { devices.remove(&removed) });
    assert!(found.is_err());
    let waiting = devices.waiting();
    let new: Vec<&DeviceId> = waiting
        .values()
        .flat_map(|partition| &partition.new)
        .collect();
    assert_eq!(new, [&kept]);
}
