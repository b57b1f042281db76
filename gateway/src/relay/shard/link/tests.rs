use futures_util::FutureExt;
use shared::keys::CANARY_CHANNEL;
use shared::resp::Value;
use test_support::eventually::LATE;
use test_support::server::OwnRedis;

use super::*;
use crate::test_setup::{self, start_redis};

/// Of the tests that are about a Redis that does not answer.
const SILENT_AFTER: Duration = Duration::from_millis(400);

async fn store(redis: &OwnRedis) -> Store {
    let store = test_setup::store(&test_setup::config(&redis.address(), &[]));
    test_support::eventually::holds("Redis answers", async || store.ping().await.is_ok()).await;
    store
}

impl OpenLink {
    /// Makes it a connection on which more has always arrived, for as long as a shard may lag.
    pub(in crate::relay::shard) fn fall_behind(&mut self) {
        self.connection.take_has_waited();
        let now = Instant::now();
        self.behind_since = now.checked_sub(MAX_LAG);
    }

    /// Returns whether the canary has arrived since this was last asked.
    pub(in crate::relay::shard) fn take_has_canary_arrived(&mut self) -> bool {
        std::mem::take(&mut self.has_canary_arrived)
    }
}

/// Opens a connection that is subscribed to this channel, and waits for answers however busy the machine is.
async fn open(store: &Store, channel: &str) -> OpenLink {
    open_for(store, channel, LATE).await
}

/// Opens a connection that is given up when an answer takes so long.
async fn open_for(store: &Store, channel: &str, timeout: Duration) -> OpenLink {
    let connection = store.push_connection(channel).await.expect("subscribes");
    OpenLink::new(connection, timeout, 0, None)
}

/// Handles what arrives and what is due, until the connection is lost or `until` ends.
async fn run(open: &mut OpenLink, until: impl Future<Output = ()>) -> Result<(), LostReason> {
    tokio::pin!(until);
    loop {
        let event = tokio::select! {
            event = open.ready() => event,
            () = &mut until => return Ok(()),
        };
        match event {
            LinkEvent::Arrived => loop {
                let is_canary = match open.connection.next_value().expect("RESP3") {
                    Some(Value::Message { channel, .. }) => channel == CANARY_CHANNEL.as_bytes(),
                    Some(Value::Answer) => {
                        open.awaited.answer().expect("it was asked");
                        false
                    }
                    Some(_) => false,
                    None => break,
                };
                if is_canary {
                    open.record_canary();
                }
            },
            LinkEvent::Check => open.check(Instant::now())?,
            LinkEvent::Lost(reason) => return Err(reason),
            LinkEvent::Opened(_) => {}
        }
        open.has_values = false;
    }
}

/// Lets the canary's count grow to this, and handles what arrives for a while.
async fn grow_canary(
    store: &Store,
    open: &mut OpenLink,
    canary: u64,
) -> Result<RedisObservation, LostReason> {
    store.increment_canary().await.expect("published");
    run(open, tokio::time::sleep(Duration::from_millis(200))).await?;
    Ok(RedisObservation {
        canary,
        ..RedisObservation::default()
    })
}

#[tokio::test]
async fn a_connection_that_does_not_receive_the_canary_is_deaf_although_it_answers() {
    let redis = start_redis().await;
    let store = store(&redis).await;
    let began = Instant::now();
    let mut deaf = open(&store, "another channel").await;
    let grown = async {
        for canary in 1.. {
            let observed = grow_canary(&store, &mut deaf, canary).await?;
            deaf.observe(&observed, Instant::now())?;
        }
        Ok(())
    };
    let lost = tokio::time::timeout(LATE, grown).await;
    let lost = lost.expect("it is found to be deaf");
    assert!(matches!(lost, Err(LostReason::Deaf)), "{lost:?}");
    assert!(began.elapsed() >= Duration::from_secs(3));
}

#[tokio::test]
async fn a_connection_that_receives_the_canary_is_kept() {
    let redis = start_redis().await;
    let store = store(&redis).await;
    let mut open = open(&store, CANARY_CHANNEL).await;
    let began = Instant::now();
    // For longer than a deaf one is kept.
    for canary in 1.. {
        let mut observed = grow_canary(&store, &mut open, canary).await;
        while observed.is_ok() && !open.has_canary_arrived {
            // It is under way. If it never arrives, the runner ends the test.
            let more = run(&mut open, tokio::time::sleep(Duration::from_millis(10))).await;
            observed = more.and(observed);
        }
        let kept = observed.and_then(|observed| open.observe(&observed, Instant::now()));
        assert!(kept.is_ok(), "{kept:?}");
        if began.elapsed() > Duration::from_secs(4) {
            return;
        }
    }
}

#[tokio::test]
async fn a_connection_to_a_server_that_does_not_answer_is_given_up() {
    let mut redis = start_redis().await;
    let store = store(&redis).await;
    let mut open = open_for(&store, CANARY_CHANNEL, SILENT_AFTER).await;
    redis.server.process.pause().expect("it stops");
    let lost = run(&mut open, tokio::time::sleep(LATE)).await;
    redis.server.process.resume().expect("it continues");
    assert!(matches!(lost, Err(LostReason::Silent)), "{lost:?}");
}

#[tokio::test]
async fn a_server_that_ends_closes_the_connection() {
    let mut redis = start_redis().await;
    let store = store(&redis).await;
    let mut open = open(&store, CANARY_CHANNEL).await;
    let ended = redis.server.process.terminate().await;
    ended.expect("redis ends");
    let lost = run(&mut open, tokio::time::sleep(LATE)).await;
    assert!(matches!(lost, Err(LostReason::Closed(_))), "{lost:?}");
}

#[tokio::test]
async fn only_a_change_to_another_server_is_a_loss() {
    let redis = start_redis().await;
    let store = store(&redis).await;
    let connection = store.push_connection(CANARY_CHANNEL).await;
    let connection = connection.expect("subscribes");
    let at = |run_id: &str| RedisObservation {
        run_id: Some(run_id.into()),
        ..RedisObservation::default()
    };
    let own = connection.run_id().to_string();
    // What was observed before may be the server before this one.
    let mut open = OpenLink::new(connection, LATE, 0, at("before").run_id);
    let now = Instant::now();
    for run_id in ["before", &own] {
        assert!(open.observe(&at(run_id), now).is_ok());
    }
    assert!(open.observe(&RedisObservation::default(), now).is_ok());
    let lost = open.observe(&at("other"), now);
    assert!(matches!(lost, Err(LostReason::Elsewhere)), "{lost:?}");
}

#[tokio::test]
async fn a_connection_is_not_silent_while_what_has_arrived_is_handled() {
    let redis = start_redis().await;
    let store = store(&redis).await;
    let mut open = open_for(&store, CANARY_CHANNEL, SILENT_AFTER).await;
    let asked = Instant::now() + PING_INTERVAL;
    open.check(asked).expect("asked");
    let late = asked + SILENT_AFTER;
    open.has_values = true;
    for _ in 0..3 {
        open.check(late).expect("busy");
    }
    open.has_values = false;
    open.check(late).expect("only suspect");
    assert!(matches!(open.check(late), Err(LostReason::Silent)));
}

#[tokio::test]
async fn what_waits_is_skipped_if_there_was_more_for_three_seconds() {
    let redis = start_redis().await;
    let store = store(&redis).await;
    let mut open = open(&store, CANARY_CHANNEL).await;
    open.connection.take_has_waited();
    let began = Instant::now();
    let after = |ms: u64| began + Duration::from_millis(ms);
    assert!(!open.must_skip(began));
    assert!(!open.must_skip(after(2_999)));
    assert!(open.must_skip(after(3_000)));
    assert!(open.must_skip(after(60_000)));
    // Once everything was received, the time begins anew.
    assert!(open.connection.receive().now_or_never().is_none());
    assert!(!open.must_skip(after(60_001)));
    assert!(!open.must_skip(after(60_002)));
    assert!(!open.must_skip(after(63_001)));
    assert!(open.must_skip(after(63_002)));
}

/// Redis writes this message at once, and the connection reads it in three parts.
#[tokio::test]
async fn a_connection_waits_only_when_everything_was_received() {
    const LENGTH: usize = 40 * 1024;
    let redis = start_redis().await;
    let store = store(&redis).await;
    let mut connection = open(&store, CANARY_CHANNEL).await.connection;
    test_setup::redis_cli(&redis, &["SPUBLISH", CANARY_CHANNEL, &"1".repeat(LENGTH)]);
    let first = tokio::time::timeout(LATE, connection.receive()).await;
    first.expect("it arrives").expect("it is open");
    connection.take_has_waited();
    while connection.next_value().expect("RESP3").is_none() {
        assert!(!connection.has_caught_up());
        assert!(connection.receive().now_or_never().is_some());
    }
    assert!(!connection.take_has_waited());
    assert!(connection.receive().now_or_never().is_none());
    assert!(connection.take_has_waited() && connection.has_caught_up());
    assert!(!connection.take_has_waited());
}
