//! A server that answers and refuses: missing rights, failed snapshots, too few replicas, a replica, no memory. Nothing may be
//! written by half, and no device may be blamed.

use super::*;

const USER: &str = "service";

impl RedisServer {
    /// Replaces the rights of the user of [`RedisServer::limited_store`].
    async fn set_rights(&self, rules: &str) {
        let mut redis = self.connect().await;
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(USER);
        for rule in "on >pass clearselectors resetkeys resetchannels +@all ~st:* &st:*".split(' ') {
            command.arg(rule);
        }
        // A selector is one rule, with blanks.
        let (simple, selectors) = rules.split_once('(').unwrap_or((rules, ""));
        for rule in simple.split_whitespace() {
            command.arg(rule);
        }
        for selector in selectors.split('(').filter(|text| !text.is_empty()) {
            command.arg(format!("({}", selector.trim()));
        }
        command.exec_async(&mut redis).await.expect("the rules");
    }

    /// A store that connects as the limited user.
    fn limited_store(&self, role: ServiceRole) -> Store {
        let url = format!("redis://{USER}:pass@{}", self.redis.address());
        Store::new(
            RedisConfig::at(&url),
            role,
            Arc::new(SystemClock::default()),
        )
    }

    pub(super) async fn config_set(&self, name: &str, value: &str) {
        let mut redis = self.connect().await;
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg(name).arg(value);
        command.exec_async(&mut redis).await.expect("the setting");
    }

    /// A digest of all keys and their contents.
    async fn digest(&self) -> String {
        let mut redis = self.connect().await;
        let mut command = redis::cmd("DEBUG");
        let digest = command.arg("DIGEST").query_async(&mut redis).await;
        digest.expect("the digest")
    }

    /// Starts a server that computes digests.
    async fn with_digests() -> Self {
        let redis = OwnRedis::start(&["--enable-debug-command", "local"]).await;
        Self { redis }
    }
}

/// The digest of an empty server.
const EMPTY: &str = "0000000000000000000000000000000000000000";

/// Commits one reading with this value; returns the error, if there is one.
async fn commit(store: &Store, value: &str) -> Result<Applied, StoreError> {
    let second = i64::from(value != "20");
    apply_reading(store, &reading_of(DEVICE, value, second)).await
}

#[tokio::test]
async fn a_right_that_is_missing_at_the_connect_is_named_and_nothing_is_written() {
    let server = RedisServer::with_digests().await;
    for (rules, role, named) in [
        ("-zadd", ServiceRole::Ingest, "ZADD"),
        ("-xadd", ServiceRole::Ingest, "XADD"),
        ("-spublish", ServiceRole::Gateway, "SPUBLISH"),
        ("-ssubscribe", ServiceRole::Gateway, "SSUBSCRIBE"),
        ("-info", ServiceRole::Ingest, "'info'"),
        ("-evalsha", ServiceRole::Ingest, "EVALSHA"),
        ("-eval", ServiceRole::Ingest, "'eval'"),
        ("resetchannels", ServiceRole::Ingest, "SPUBLISH"),
        (
            "resetchannels &st:{canary}:live",
            ServiceRole::Ingest,
            "SPUBLISH st:{p00}:live",
        ),
        (
            "resetkeys %R~st:* ~st:{ingest}:* ~st:dead-letters",
            ServiceRole::Ingest,
            "SET st:partitions",
        ),
        (
            "resetkeys ~st:partitions ~st:{canary}:* ~st:{ingest}:* ~st:{admitted}:* ~st:{raw}:* ~st:dead-letters* ~st:{p0?}:[^l]*",
            ServiceRole::Ingest,
            "st:{p00}:log",
        ),
    ] {
        server.set_rights(rules).await;
        let err = server.limited_store(role).ping().await.expect_err(rules);
        assert!(
            matches!(err, StoreError::MissingRight(_)),
            "{rules}: {err:?}"
        );
        assert!(err.to_string().contains(named), "{rules}: {err}");
        assert!(err.is_transient() && err.needs_operator() && !err.is_in_doubt());
        assert_eq!(server.digest().await, EMPTY, "{rules}");
    }
    // Each service needs its own rights only.
    server.set_rights("-ssubscribe -ping").await;
    server
        .limited_store(ServiceRole::Ingest)
        .ping()
        .await
        .unwrap();
    server.set_rights("-zrangebyscore").await;
    server
        .limited_store(ServiceRole::Gateway)
        .ping()
        .await
        .unwrap();
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let readme = include_str!("../../../../deploy/README.md");
    let rules = readme
        .lines()
        .find_map(|line| line.strip_prefix("ACL SETUSER subtronics on >PASSWORD "))
        .expect("the rules");
    let server = RedisServer::with_digests().await;
    server
        .set_rights(&format!("resetkeys resetchannels -@all {rules}"))
        .await;
    for role in [ServiceRole::Ingest, ServiceRole::Gateway] {
        let store = server.limited_store(role);
        store.ping().await.unwrap();
        store.check_writes(0).await.unwrap();
        commit(&store, "20").await.unwrap();
    }
}

#[tokio::test]
async fn a_right_that_only_a_new_device_needs_stops_its_first_commit() {
    for rules in [
        "-zadd (+zadd ~st:{p0?}:seen) (+zadd ~st:{p0?}:deadlines)",
        "-hset (+hset ~st:{p0?}:device*)",
    ] {
        let server = RedisServer::with_digests().await;
        server.set_rights("").await;
        let store = server.limited_store(ServiceRole::Ingest);
        store.ping().await.unwrap();
        let before = server.digest().await;
        server.set_rights(rules).await;
        let err = commit(&store, "20").await.expect_err(rules);
        assert!(
            err.reason().starts_with("NOPERM"),
            "{rules}: {}",
            err.reason()
        );
        assert_eq!(server.digest().await, before, "{rules}");
        server.set_rights("").await;
        commit(&store, "20").await.unwrap();
    }
}

#[tokio::test]
async fn a_right_that_is_lost_while_running_stops_commits_before_their_first_write() {
    let server = RedisServer::with_digests().await;
    server.set_rights("").await;
    let store = server.limited_store(ServiceRole::Ingest);
    commit(&store, "20").await.unwrap();
    for rules in [
        "-zadd",
        "-xadd",
        "-hset",
        "-xtrim",
        "-spublish",
        "-zscore",
        "-hmget",
        "-type",
        "-evalsha",
        "resetchannels &st:{canary}:live",
        // The right to one command on some of its keys only.
        "-zadd (+zadd ~st:{p0?}:seen) (+zadd ~st:{p0?}:changed)",
        "-zadd (+zadd ~st:{p0?}:deadlines) (+zadd ~st:{p0?}:changed)",
        "-hset (+hset ~st:{p0?}:partition)",
        "-xadd (+xadd ~st:{p0?}:[^e]*)",
        "-xadd (+xadd ~st:{p0?}:[^c]*)",
        "-xadd (+xadd ~st:{p0?}:[^h]*)",
        "-xadd (+xadd ~st:{p0?}:[^l]*)",
        "-xtrim (+xtrim ~st:{p0?}:log)",
        "-xtrim (+xtrim ~st:{p0?}:history*)",
        "resetkeys ~st:{p0?}:[^l]*",
        "resetkeys %R~st:*",
    ] {
        let before = server.digest().await;
        server.set_rights(rules).await;
        let err = commit(&store, "300").await.expect_err(rules);
        assert!(err.is_transient(), "{rules}: {err:?}");
        assert!(!err.is_in_doubt(), "{rules}: {err:?}");
        assert!(
            err.reason().starts_with("NOPERM"),
            "{rules}: {}",
            err.reason()
        );
        assert!(store.recent_refusal().is_some(), "{rules}");
        assert_eq!(server.digest().await, before, "{rules}");
        // The check of each heartbeat finds it too.
        assert!(store.check_writes(5).await.is_err(), "{rules}");
    }
    server.set_rights("").await;
    let applied = commit(&store, "300").await.unwrap();
    assert_eq!(applied.decision.changes.len(), 1);
    store.check_writes(5).await.unwrap();
    let logged = store.alarms(&device(), 10).await.unwrap().unwrap();
    assert_eq!(logged.len(), 1);
    let log = store.keys(&device()).log();
    assert_eq!(stream_length(&mut server.connect().await, &log).await, 1);
    let snapshot = store.snapshot(&device(), Some(0)).await.unwrap();
    assert_eq!(snapshot.changes.len(), 1);
}

#[tokio::test]
async fn a_retirement_without_a_right_writes_nothing() {
    let server = RedisServer::with_digests().await;
    server.set_rights("").await;
    let store = server.limited_store(ServiceRole::Gateway);
    commit(&store, "300").await.unwrap();
    for rules in ["-unlink", "-zrem", "-spublish", "-xadd"] {
        let before = server.digest().await;
        server.set_rights(rules).await;
        let err = crate::apply::retire(&store, &device(), "User").await;
        assert!(err.expect_err(rules).is_transient(), "{rules}");
        assert_eq!(server.digest().await, before, "{rules}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_writes_is_not_the_fault_of_a_device() {
    let server = RedisServer::with_digests().await;
    let store = server.store_with_reserve(0);
    commit(&store, "20").await.unwrap();
    for (setting, refusing, healthy, code) in [
        ("min-replicas-to-write", "1", "0", "NOREPLICAS"),
        ("maxmemory", "1", "0", "OOM"),
    ] {
        let before = server.digest().await;
        server.config_set(setting, refusing).await;
        for err in [
            commit(&store, "300").await.map(drop).expect_err(code),
            store.check_writes(0).await.expect_err(code),
            store.dead_letter(&[letter()], 10).await.expect_err(code),
        ] {
            assert!(err.is_transient() && !err.is_in_doubt(), "{err:?}");
            assert!(err.reason().starts_with(code), "{}", err.reason());
        }
        server.config_set(setting, healthy).await;
        assert_eq!(server.digest().await, before, "{code}");
    }
}

fn letter() -> DeadLetter<'static> {
    DeadLetter {
        reason: "test",
        detail: "",
        topic: "t",
        payload: b"",
        size: 0,
    }
}

#[tokio::test]
async fn a_dead_letter_without_a_right_leaves_its_stream_alone() {
    let server = RedisServer::with_digests().await;
    server.set_rights("").await;
    let store = server.limited_store(ServiceRole::Ingest);
    store.dead_letter(&[letter()], 10).await.unwrap();
    let before = server.digest().await;
    server.set_rights("-xadd").await;
    let err = store.dead_letter(&[letter()], 10).await.unwrap_err();
    assert!(err.is_transient(), "{err:?}");
    assert_eq!(server.digest().await, before);
}
