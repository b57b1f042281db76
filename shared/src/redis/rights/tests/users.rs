//! The users in `deploy/redis-users.acl` may do exactly what the services do.

use std::collections::BTreeSet;

use clap::Parser;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use test_support::eventually::LATE;
use test_support::server::{self, OwnRedis, PASSWORD};

use super::super::*;
use crate::args;
use crate::redis::{RedisConfig, inspect};

/// Rights that the services use if they have them: the check of the settings of Redis.
const OPTIONAL: [&str; 1] = ["CONFIG|GET"];

/// The last partition that there may be.
const LAST: u16 = 1023;

const USERS: [(&str, ServiceRole); 2] = [
    ("ingest", ServiceRole::Ingest),
    ("gateway", ServiceRole::Gateway),
];

#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    redis: RedisConfig,
}

/// A Redis with the shipped users.
struct RedisWithUsers {
    redis: OwnRedis,
    admin: MultiplexedConnection,
}

impl RedisWithUsers {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let users = server::redis_users(folder.path()).unwrap();
        let redis = OwnRedis::start(&["--aclfile", users.to_str().unwrap()]).await;
        let admin = connect(&redis.url()).await;
        Self { redis, admin }
    }

    fn url(&self, user: &str) -> String {
        format!("redis://{user}:{PASSWORD}@{}", self.redis.address())
    }

    async fn set_user(&mut self, user: &str, rule: &str) {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(user).arg(rule);
        command.exec_async(&mut self.admin).await.expect(rule);
    }

    /// Returns what Redis says about a command of this user: `OK`, or why it may not run it.
    async fn dry_run(&mut self, user: &str, words: &[&str]) -> String {
        let mut command = redis::cmd("ACL");
        command.arg("DRYRUN").arg(user).arg(words);
        command.query_async(&mut self.admin).await.unwrap()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "connects as a user, without the checks of the services"
)]
async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    // By default the library waits half a second for an answer, and a busy machine may need more.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(LATE))
        .set_response_timeout(Some(LATE));
    let connected = client.get_multiplexed_async_connection_with_config(&config);
    connected.await.unwrap()
}

/// Returns the words of a user in the file, behind its name.
fn rules(user: &str) -> Vec<&'static str> {
    let file = include_str!("../../../../../deploy/redis-users.acl");
    let line = file.lines().find_map(|line| {
        line.strip_prefix("user ")?
            .strip_prefix(user)?
            .strip_prefix(' ')
    });
    line.expect(user).split(' ').collect()
}

/// Returns the names of the commands that a service runs, in the form of rules.
fn used_commands(role: ServiceRole) -> BTreeSet<String> {
    let commands = RightsCheck::new(role, LAST).commands.into_iter();
    let used = commands.map(|words| {
        let has_parts = ["CONFIG", "MEMORY", "SCRIPT"].contains(&words[0].as_str());
        if has_parts {
            words[..2].join("|")
        } else {
            words[0].clone()
        }
    });
    used.chain(OPTIONAL.map(str::to_owned)).collect()
}

/// Whether the user of this connection may do everything in the first and in the last partition.
async fn has_all(connection: &mut MultiplexedConnection, role: ServiceRole) -> bool {
    let mut pipe = redis::pipe();
    for partition in [0, LAST] {
        pipe.cmd("EVAL").arg(RIGHTS);
        RightsCheck::new(role, partition).arguments(&mut pipe);
    }
    let denied: Vec<Vec<usize>> = pipe.query_async(connection).await.unwrap();
    denied.iter().all(Vec::is_empty)
}

#[test]
fn the_users_have_exactly_the_commands_that_are_used() {
    for (user, role) in USERS {
        let given = rules(user).into_iter();
        let given = given.filter_map(|rule| rule.strip_prefix('+'));
        let given: BTreeSet<String> = given.map(str::to_uppercase).collect();
        assert_eq!(given, used_commands(role), "{user}");
        // Nothing is given as a whole category.
        assert!(rules(user).iter().all(|rule| !rule.starts_with("+@")));
    }
}

#[tokio::test]
async fn each_right_of_a_user_is_needed_and_together_they_are_enough() {
    let mut redis = RedisWithUsers::start().await;
    for (user, role) in USERS {
        let mut connection = connect(&redis.url(user)).await;
        assert!(has_all(&mut connection, role).await, "{user}");
        for rule in rules(user) {
            // Without them the check itself cannot run, or nothing is missing.
            let is_unchecked = ["+eval", "+config|get"].contains(&rule);
            let takes_away = match rule.split_at(1) {
                ("+", command) if !is_unchecked => format!("-{command}"),
                ("~" | "&" | "%", _) => without(user, rule),
                _ => continue,
            };
            for rule in takes_away.split(' ') {
                redis.set_user(user, rule).await;
            }
            // Redis disconnects a user that loses a channel.
            let mut connection = connect(&redis.url(user)).await;
            assert!(
                !has_all(&mut connection, role).await,
                "{user} does not need {rule}"
            );
            redis.set_user(user, rule).await;
            if rule.starts_with('~') {
                // The right to read its keys is not enough.
                for rule in without(user, rule).split(' ') {
                    redis.set_user(user, rule).await;
                }
                redis.set_user(user, &format!("%R{rule}")).await;
                let enough = has_all(&mut connection, role).await;
                assert!(!enough, "{user} only reads {rule}");
                redis.set_user(user, rule).await;
            }
        }
        let mut connection = connect(&redis.url(user)).await;
        assert!(has_all(&mut connection, role).await, "{user}");
    }
}

/// Returns rules that give this user all of its keys or channels except these.
fn without(user: &str, pattern: &str) -> String {
    let is_channel = pattern.starts_with('&');
    let same_kind = |rule: &&str| {
        rule.starts_with(['~', '%', '&']) && rule.starts_with('&') == is_channel && *rule != pattern
    };
    let reset = if is_channel {
        "resetchannels"
    } else {
        "resetkeys"
    };
    let others: Vec<&str> = rules(user).into_iter().filter(same_kind).collect();
    [&[reset], others.as_slice()].concat().join(" ")
}

#[tokio::test]
async fn the_users_may_do_nothing_else() {
    let mut redis = RedisWithUsers::start().await;
    for (user, _) in USERS {
        for words in [
            &["FLUSHALL"][..],
            &["FLUSHDB"],
            &["KEYS", "*"],
            &["SCAN", "0"],
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "REWRITE"],
            &["ACL", "LIST"],
            &["ACL", "SETUSER", "ingest", "+@all"],
            &["DEBUG", "SLEEP", "1"],
            &["SHUTDOWN"],
            &["SAVE"],
            &["BGREWRITEAOF"],
            &["REPLICAOF", "10.0.0.1", "6379"],
            &["CLIENT", "KILL", "TYPE", "normal"],
            &["CLIENT", "PAUSE", "1000"],
            &["MONITOR"],
            &["SLOWLOG", "GET"],
            &["FUNCTION", "LIST"],
            &["SCRIPT", "FLUSH"],
            &["SCRIPT", "KILL"],
            &["MIGRATE", "10.0.0.1", "6379", "st:partitions", "0", "1"],
            &["RESTORE", "st:partitions", "0", ""],
            &["DUMP", "st:partitions"],
            &["PUBLISH", "st:{canary}:live", ""],
            &["SUBSCRIBE", "x"],
            &["SPUBLISH", "other", ""],
            &["GET", "other"],
            &["SET", "other", ""],
            &["GET", "st:other"],
            &["GET", "st:{other}:x"],
            &["EVALSHA", "", "1", "other"],
        ] {
            let answer = redis.dry_run(user, words).await;
            assert_ne!(answer, "OK", "{user}: {words:?}");
        }
    }
    for (user, words) in [
        ("ingest", &["SSUBSCRIBE", "st:{p00}:live:x"][..]),
        ("ingest", &["GET", "st:{fleet}:sample"]),
        ("ingest", &["ZADD", "st:{fleet}:watchers", "0", "x"]),
        ("gateway", &["XADD", "st:dead-letters", "*", "a", "b"]),
        ("gateway", &["XRANGE", "st:{raw}:payloads", "-", "+"]),
        ("gateway", &["HSET", "st:{ingest}:listening", "until", "1"]),
        ("gateway", &["ZADD", "st:{ingest}:members", "0", "x"]),
        ("gateway", &["SET", "st:{admitted}:counted", "1"]),
        ("gateway", &["RENAME", "st:{p00}:log", "st:{p00}:log2"]),
    ] {
        let answer = redis.dry_run(user, words).await;
        assert_ne!(answer, "OK", "{user}: {words:?}");
    }
}

#[tokio::test]
async fn the_shipped_users_have_no_password_and_pass_the_check_of_the_services() {
    let file = include_str!("../../../../../deploy/redis-users.acl");
    assert!(!file.contains('>') && !file.contains('#') && !file.contains("nopass"));
    let redis = RedisWithUsers::start().await;
    for (user, role) in USERS {
        let url = redis.url(user);
        let settings: Settings =
            args::parse(["test", "--redis-timeout=1m", "--redis-url", &url]).unwrap();
        inspect(settings.redis, role).await.unwrap();
    }
}
