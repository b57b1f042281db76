//! Clients that poll rarely.

use super::*;

/// A client that has received the first reading, and then does not poll.
async fn start(flags: &[&str]) -> (World, Client) {
    let mut world = World::start_on(start_redis().await, flags).await;
    world.reading(1).await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    (world, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_for_which_much_waits_is_pinged_and_stays() {
    let (mut world, mut client) = start(&["--client-buffer=16", "--ping-interval=1s"]).await;
    for number in 2..=40 {
        world.reading(number).await;
    }
    eventually("the queue of the library is full", async || {
        world.metric("gateway_packets_conflated_total").await > 0
    })
    .await;
    // The time of two pings.
    tokio::time::sleep(Duration::from_secs(2)).await;
    loop {
        let (name, data) = client.event().await;
        assert_eq!(name, DEVICE_DATA);
        if data["seq"] == 40 {
            break;
        }
    }
    assert_eq!(world.metric("gateway_disconnections_total").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_poll_takes_everything_in_the_queue() {
    const COUNT: usize = 80;
    // However long a busy machine takes, the client is not given up meanwhile.
    let (mut world, client) = start(&["--ping-interval=10m"]).await;
    // On a busy machine there may be a `system:status`, too: its lane is that of alarms.
    let readings = async |world: &World| {
        let lane = r#"lane="telemetry""#;
        world.metric_of("gateway_packets_total", lane).await
    };
    let before = readings(&world).await;
    for _ in 0..COUNT {
        world.reading(2).await;
    }
    eventually("everything is in the queue", async || {
        readings(&world).await == before + COUNT as u64
    })
    .await;
    let query = format!("&sid={}", client.sid);
    let answer = http(client.gateway, "GET", &query, "").await;
    let received = answer
        .split('\u{1e}')
        .filter(|packet| packet.starts_with("42[\"device:data\""));
    assert_eq!(received.count(), COUNT);
    // As much as a slow link needs: more than a client may send at once.
    assert!(answer.len() > 48 * 1024, "{} bytes", answer.len());
}
