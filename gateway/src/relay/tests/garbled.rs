//! A connection for published events on which something other than RESP3 arrives.

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

/// Forwards connections to Redis. Into those that subscribe it inserts bytes that Redis has not sent.
struct Garbler {
    address: String,
    inserted: watch::Sender<&'static [u8]>,
    lifecycle: Lifecycle,
}

impl Garbler {
    async fn start(redis: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (inserted, insertions) = watch::channel(&b""[..]);
        let lifecycle = Lifecycle::new();
        let tasks = lifecycle.clone();
        lifecycle.spawn_short("garbler", async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&redis).await.expect("redis");
                let forwarding = forward(client, server, insertions.clone());
                tasks.spawn_short("garbled", forwarding);
            }
        });
        Self {
            address,
            inserted,
            lifecycle,
        }
    }
}

impl Drop for Garbler {
    fn drop(&mut self) {
        self.lifecycle.hard().cancel();
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    mut insertions: watch::Receiver<&'static [u8]>,
) {
    let mut subscribes = false;
    // Large enough for everything that Redis sends at once: nothing is inserted into it.
    let (mut request, mut answer) = (vec![0; 4096], vec![0; 1024 * 1024]);
    insertions.mark_unchanged();
    loop {
        let forwarded = tokio::select! {
            read = client.read(&mut request) => match read {
                Ok(length @ 1..) => {
                    let request = &request[..length];
                    subscribes |= request.windows(10).any(|word| word == b"SSUBSCRIBE");
                    server.write_all(request).await
                }
                _ => return,
            },
            read = server.read(&mut answer) => match read {
                Ok(length @ 1..) => client.write_all(&answer[..length]).await,
                _ => return,
            },
            Ok(()) = insertions.changed(), if subscribes => {
                let inserted = *insertions.borrow_and_update();
                client.write_all(inserted).await
            }
        };
        if forwarded.is_err() {
            return;
        }
    }
}

/// Starts a gateway behind a garbler, and a client that has the first reading of its device.
async fn start_with_a_subscriber() -> (Garbler, World, Client) {
    let redis = start_redis().await;
    let garbler = Garbler::start(redis.address()).await;
    let address = garbler.address.clone();
    let mut world = World::start_at(redis, &address, &[]).await;
    let mut client = Client::connect(world.gateway).await;
    client.subscribe().await;
    world.reading(1).await;
    client.expect(DEVICE_DATA, 1).await;
    (garbler, world, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_ends_the_connection_and_leaves_no_gap() {
    let (garbler, mut world, mut client) = start_with_a_subscriber().await;
    let inserted: [&[u8]; 6] = [
        // No value begins like this.
        b"\x16\x03\x01",
        // Longer than any value.
        b"$99999999999\r\n",
        // Only the beginning of a message. What Redis sends next does not continue it.
        b">3\r\n$8\r\nsmessage\r\n$4\r\nst:x\r\n$1\r\n",
        // A message of another type.
        b">3\r\n$8\r\nsmessage\r\n*zwei\r\n",
        // The answer to no request.
        b"+PONG\r\n",
        // Redis ended a subscription.
        b">3\r\n$12\r\nsunsubscribe\r\n$4\r\nst:x\r\n:0\r\n",
    ];
    let lost = "gateway_subscriber_lost_total";
    let mut seq = 1;
    for bytes in inserted {
        let before = world.metric(lost).await;
        garbler.inserted.send_replace(bytes);
        for _ in 0..3 {
            seq += 1;
            world.reading(10).await;
        }
        for seq in seq - 2..=seq {
            let data = client.expect(DEVICE_DATA, seq).await;
            assert_eq!(data.get("snapshot"), None, "{data}");
        }
        let shards = super::shard_count() as u64;
        eventually("every connection was lost, and is open again", async || {
            world.metric(lost).await == before + shards
                && world.metric("gateway_subscriber_up").await == 1
        })
        .await;
    }
}
