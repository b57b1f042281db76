//! What ingest replicas report, and since when any of them has been listening.

use super::*;

fn report_of(topics: &[String]) -> Report<'_> {
    Report {
        topics,
        ..Report::default()
    }
}

#[tokio::test]
async fn the_replica_that_accepts_least_says_what_is_accepted() {
    let server = RedisServer::start().await;
    let store = server.store();
    let left = async || store.ingest_status().await.expect("read").places;
    assert_eq!(left().await, PlacesLeft::ForAll);
    for (replica, places, expected) in [
        ("a", PlacesLeft::ForDanger, PlacesLeft::ForDanger),
        ("b", PlacesLeft::ForAll, PlacesLeft::ForDanger),
        ("b", PlacesLeft::Uncounted, PlacesLeft::Uncounted),
        ("b", PlacesLeft::NoneLeft, PlacesLeft::NoneLeft),
    ] {
        let report = Report {
            places,
            ..Report::default()
        };
        store.report(replica, report).await.expect("reported");
        assert_eq!(left().await, expected, "{replica} {places:?}");
    }
    store.withdraw("b").await.expect("withdrawn");
    assert_eq!(left().await, PlacesLeft::ForDanger);
}

#[tokio::test]
async fn ingest_reports_share_the_time_since_when_any_ingest_has_been_listening() {
    let server = RedisServer::start().await;
    let store = server.store();
    let status = async || store.ingest_status().await.expect("an answer");
    assert!(!status().await.is_listening());
    let topics = ["SubTronics/data".to_owned()];
    let since = store
        .report("a", report_of(&topics))
        .await
        .expect("reported");
    assert_eq!(
        store
            .report("b", report_of(&topics))
            .await
            .expect("reported"),
        since
    );
    let present = status().await;
    assert!(present.is_listening());
    assert_eq!(present.topics, topics);
    store.withdraw("a").await.expect("withdrawn");
    store.withdraw("b").await.expect("withdrawn");
    assert!(!status().await.is_listening());
}

#[tokio::test]
async fn the_time_in_which_any_ingest_has_been_listening_is_counted_without_its_interruptions() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let report = async |replica| {
        let reported = store.report(replica, Report::default()).await;
        reported.expect("reported")
    };
    let first = report("a").await;
    assert_eq!(first.before, Duration::ZERO);
    // The last replica stops, which withdraws its report, after an hour.
    let hour_ms = 3_600_000;
    let since_ms = first.since.as_millis() - 10 * hour_ms;
    let key = crate::keys::INGEST_LISTENING;
    let fields = [("since", since_ms), ("until", since_ms + hour_ms)];
    let _: () = redis.hset_multiple(key, &fields).await.expect("written");
    store.withdraw("a").await.expect("withdrawn");
    let second = report("b").await;
    assert_eq!(second.before, Duration::from_hours(1));
    assert!(second.since >= first.since);
    assert_eq!(report("a").await, second, "no interruption");
    // A replica of an earlier release has begun after the last report of this one.
    let fields = [("since", since_ms + hour_ms), ("until", since_ms)];
    let _: () = redis.hset_multiple(key, &fields).await.expect("written");
    store.withdraw("a").await.expect("withdrawn");
    store.withdraw("b").await.expect("withdrawn");
    assert_eq!(report("b").await.before, Duration::from_hours(1));
}

#[tokio::test]
async fn ingest_is_quiet_when_every_replica_that_reports_is() {
    let server = RedisServer::start().await;
    let store = server.store();
    let topics = ["t".to_owned()];
    let is_quiet = async || store.ingest_status().await.expect("read").is_quiet;
    assert!(!is_quiet().await);
    for (replica, reports_quiet, expected) in [
        ("a", true, true),
        ("b", false, false),
        ("b", true, true),
        ("a", false, false),
    ] {
        let report = Report {
            is_quiet: reports_quiet,
            ..report_of(&topics)
        };
        store.report(replica, report).await.expect("reported");
        assert_eq!(is_quiet().await, expected, "{replica} {reports_quiet}");
    }
    store.withdraw("a").await.expect("withdrawn");
    assert!(is_quiet().await);
    store.withdraw("b").await.expect("withdrawn");
    assert!(!is_quiet().await);
}

#[tokio::test]
async fn a_replica_that_reports_often_does_not_expire_one_that_reports_seldom() {
    let server = RedisServer::start().await;
    let store = server.store();
    let report = WatchReport {
        websocket: 5,
        ..WatchReport::default()
    };
    let (seldom, often) = (Duration::from_mins(1), Duration::from_millis(1));
    let reported = store.report_watchers("seldom", &report, seldom).await;
    reported.expect("written");
    let before = store.clock().now();
    // `often` reports until long after its first report has expired.
    while store.clock().now().millis_since(before) < 20 {
        let reported = store.report_watchers("often", &report, often).await;
        reported.expect("written");
    }
    let reports = store.watchers().await.expect("an answer");
    assert_eq!(reports["seldom"].websocket, 5);
    assert!(reports["seldom"].at <= before);
}
