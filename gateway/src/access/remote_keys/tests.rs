//! When keys are fetched, on a virtual clock.

use std::sync::Mutex;

use jsonwebtoken::{Algorithm, DecodingKey};

use super::*;

/// A server whose keys can be changed.
#[derive(Default)]
struct Server {
    /// Names of its keys; `None` while it is away.
    published: Mutex<Option<Vec<&'static str>>>,
    asked: Mutex<Vec<Instant>>,
    /// How long it takes to answer.
    delay: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("away")]
struct Away;

impl Server {
    fn with(names: &[&'static str]) -> Self {
        let server = Self::default();
        server.publish(names);
        server
    }

    fn publish(&self, names: &[&'static str]) {
        *self.published.lock().unwrap() = Some(names.to_vec());
    }

    fn leave(&self) {
        *self.published.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl KeySource for &Server {
    type Error = Away;

    async fn fetch(&self) -> Result<Vec<Key>, Away> {
        self.asked.lock().unwrap().push(Instant::now());
        let published = self.published.lock().unwrap().clone();
        sleep(self.delay).await;
        let names = published.ok_or(Away)?;
        Ok(names.into_iter().map(key).collect())
    }
}

fn key(name: &str) -> Key {
    Key {
        algorithm: Algorithm::HS256,
        id: Some(name.into()),
        verifier: DecodingKey::from_secret(b""),
    }
}

/// Looks for a key as an admission does.
async fn find(keys: &RemoteKeys, name: &str) -> Result<bool, KeysAway> {
    let found = keys.find(|keys| {
        let mut keys = keys.iter();
        keys.find(|key| key.id.as_deref() == Some(name)).map(drop)
    });
    Ok(found.await?.is_some())
}

/// Runs a test while the keys of this server are followed.
async fn following(server: &Server, test: impl AsyncFnOnce(&RemoteKeys)) {
    let keys = RemoteKeys::new("tests");
    let fetching = keys.clone().follow(server);
    tokio::select! {
        // The first fetch is under way before anybody asks.
        biased;
        () = fetching => unreachable!("it runs for ever"),
        () = test(&keys) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_key_counts_at_once_and_one_that_was_withdrawn_not_any_more() {
    let server = Server::with(&["a"]);
    following(&server, async |keys| {
        assert_eq!(find(keys, "a").await, Ok(true));
        server.publish(&["b"]);
        assert_eq!(find(keys, "b").await, Ok(true));
        assert_eq!(server.asked(), 2);
        sleep(MIN_ASKED).await;
        assert_eq!(find(keys, "a").await, Ok(false));
        assert_eq!((keys.count(), keys.fetches()), (1, (3, 0)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_cost_one_fetch_in_ten_seconds() {
    let server = Server::with(&["a"]);
    following(&server, async |keys| {
        assert_eq!(find(keys, "a").await, Ok(true));
        let began = Instant::now();
        while began.elapsed() < Duration::from_mins(1) {
            let many = (0..100).map(|_| find(keys, "unknown"));
            let found = futures_util::future::join_all(many).await;
            assert!(!found.contains(&Ok(true)));
        }
        // The first one, and one at the beginning of each period.
        let asked = server.asked();
        assert!((6..=8).contains(&asked), "{asked}");
        let asked = server.asked.lock().unwrap().clone();
        let closest = asked.windows(2).skip(1).map(|two| two[1] - two[0]).min();
        assert!(closest >= Some(MIN_ASKED), "{closest:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn too_early_for_a_fetch_nobody_gets_the_answer_that_there_is_no_such_key() {
    let server = Server::with(&["a"]);
    following(&server, async |keys| {
        assert_eq!(find(keys, "b").await, Ok(false));
        server.publish(&["b"]);
        let began = Instant::now();
        assert_eq!(find(keys, "b").await, Err(KeysAway));
        // Timers have whole milliseconds.
        let took = began.elapsed().as_secs();
        assert_eq!(took, MAX_WAIT.as_secs());
        sleep(MIN_ASKED.saturating_sub(MAX_WAIT)).await;
        assert_eq!(find(keys, "b").await, Ok(true));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_under_way_does_not_refuse() {
    let server = Server {
        delay: Duration::from_secs(1),
        ..Server::with(&["a"])
    };
    following(&server, async |keys| {
        // It asks while the first fetch is under way, whose answer is from before.
        sleep(Duration::from_millis(500)).await;
        server.publish(&["b"]);
        assert_eq!(find(keys, "b").await, Ok(true));
        assert_eq!(server.asked(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn keys_stay_while_the_server_is_away() {
    let server = Server::with(&["a"]);
    following(&server, async |keys| {
        assert_eq!(find(keys, "a").await, Ok(true));
        server.leave();
        assert_eq!(find(keys, "b").await, Err(KeysAway));
        sleep(INTERVAL * 2).await;
        assert_eq!(find(keys, "a").await, Ok(true));
        let (fetched, failed) = keys.fetches();
        assert_eq!(fetched, 1);
        assert!(failed > 100, "{failed}");
        server.publish(&["b"]);
        sleep(RETRY).await;
        assert_eq!(find(keys, "b").await, Ok(true));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn before_the_first_answer_it_is_not_known_whether_a_key_exists() {
    let server = Server::default();
    following(&server, async |keys| {
        assert_eq!(find(keys, "a").await, Err(KeysAway));
        server.publish(&["a"]);
        sleep(RETRY).await;
        assert_eq!(find(keys, "a").await, Ok(true));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_regularly() {
    let server = Server::with(&["a"]);
    following(&server, async |_| sleep(INTERVAL * 4).await).await;
    assert!((4..=5).contains(&server.asked()), "{}", server.asked());
}
