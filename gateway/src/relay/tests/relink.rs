//! Clients that come and go while the subscription in Redis of their device is not confirmed.

use super::subscriptions::LimitedWorld;
use super::*;

async fn commit(limited: &LimitedWorld, value: i32, number: u64, silence: Duration) {
    let reading = test_setup::reading(DEVICE, value);
    test_setup::commit(&limited.world.store, reading, b"{}", number, silence).await;
}

async fn unconfirmed_devices_become(limited: &LimitedWorld, count: u64) {
    eventually("the number of unconfirmed devices is right", async || {
        limited.world.metric("gateway_devices_unconfirmed").await == count
    })
    .await;
}

/// Waits until the client is sent the snapshot at this position, and later that the device went silent. By then the replica must
/// not count the device as unconfirmed any more.
async fn is_served_again(limited: &LimitedWorld, client: &mut Client, seq: u64) {
    let snapshot = client.expect(DEVICE_DATA, seq).await;
    client.expect("ack", seq).await;
    if snapshot["data"]["data_quality"] == "offline" {
        // This machine is so slow that the device was silent for too long before. It was shown as such.
        return;
    }
    let data = client.expect(DEVICE_DATA, seq).await;
    assert_eq!(data["stale"], true, "{data}");
    assert_eq!(limited.world.metric("gateway_devices_unconfirmed").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_client_may_subscribe_again_before_its_device_is_confirmed() {
    let limited = LimitedWorld::start().await;
    commit(&limited, 1, 1, Duration::from_mins(3)).await;
    let mut client = Client::connect(limited.world.gateway).await;
    client.subscribe().await;
    limited.allow_only(&[]);
    unconfirmed_devices_become(&limited, 1).await;
    client.send_subscription().await;
    // No client has an old view any more: this one waits for its answer.
    unconfirmed_devices_become(&limited, 0).await;
    // This event is missed.
    commit(&limited, 2, 2, Duration::from_secs(5)).await;
    limited.allow_all();
    is_served_again(&limited, &mut client, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_client_may_reconnect_before_its_device_is_confirmed() {
    let limited = LimitedWorld::start().await;
    commit(&limited, 1, 1, Duration::from_secs(12)).await;
    let mut before = Client::connect(limited.world.gateway).await;
    before.subscribe().await;
    limited.allow_only(&[]);
    unconfirmed_devices_become(&limited, 1).await;
    let mut after = Client::connect(limited.world.gateway).await;
    after.send_subscription().await;
    before.post("41").await;
    unconfirmed_devices_become(&limited, 0).await;
    limited.allow_all();
    is_served_again(&limited, &mut after, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_of_a_client_that_is_gone_is_given_up() {
    let mut limited = LimitedWorld::start().await;
    limited.world.reading(1).await;
    let mut client = Client::connect(limited.world.gateway).await;
    limited.allow_only(&[]);
    client.send_subscription().await;
    client
        .post(&format!(r#"422["unsubscribe:device","{DEVICE}"]"#))
        .await;
    // The answer to the end of the subscription. The subscription itself cannot be answered now.
    assert_eq!(client.event().await.1["ok"], true);
    assert_eq!(limited.world.metric("gateway_devices_watched").await, 1);
    client.post("41").await;
    for name in ["gateway_devices_watched", "gateway_channels"] {
        eventually("the device is forgotten", async || {
            limited.world.metric(name).await == 0
        })
        .await;
    }
}
