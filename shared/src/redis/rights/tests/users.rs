//! The users in `deploy/redis-users.acl` may do exactly what the services do.

use std::collections::{BTreeMap, BTreeSet};

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

    async fn set_user(&mut self, user: &str, rights: &Rights) {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(user).arg(rights.rules());
        command.exec_async(&mut self.admin).await.expect(user);
    }

    /// Whether this user has all rights of this service.
    async fn has_all(&self, user: &str, role: ServiceRole) -> bool {
        // Redis disconnects a user that loses a channel.
        let mut connection = connect(&self.url(user)).await;
        let mut pipe = redis::pipe();
        for partition in [0, LAST] {
            pipe.cmd("EVAL").arg(RIGHTS);
            RightsCheck::new(role, partition).arguments(&mut pipe);
        }
        let denied: Vec<Vec<usize>> = pipe.query_async(&mut connection).await.unwrap();
        denied.iter().all(Vec::is_empty)
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

/// The rights of a user in the file. Those of group 0 are together, and each selector is a group of its own.
#[derive(Clone, Debug)]
struct Rights(Vec<(usize, String)>);

impl Rights {
    fn of(user: &str) -> Self {
        let file = include_str!("../../../../../deploy/redis-users.acl");
        let line = file.lines().find_map(|line| {
            line.strip_prefix("user ")?
                .strip_prefix(user)?
                .strip_prefix(' ')
        });
        let (mut words, mut selectors, mut is_inside) = (Vec::new(), 0, false);
        for word in line.expect(user).split(' ') {
            if word.starts_with('(') {
                (selectors, is_inside) = (selectors + 1, true);
            }
            let group = if is_inside { selectors } else { 0 };
            is_inside &= !word.ends_with(')');
            words.push((group, word.trim_matches(['(', ')']).to_owned()));
        }
        Self(words)
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, word)| word.as_str())
    }

    /// Returns these rights with another one in this place, or with none.
    fn changed(&self, place: usize, word: Option<String>) -> Self {
        let mut changed = self.clone();
        match word {
            Some(word) => changed.0[place].1 = word,
            None => drop(changed.0.remove(place)),
        }
        changed
    }

    /// Returns the arguments of `ACL SETUSER`.
    fn rules(&self) -> Vec<String> {
        let mut rules = Vec::new();
        let mut selectors = BTreeMap::<usize, Vec<&str>>::new();
        for (group, word) in &self.0 {
            match group {
                0 => rules.push(word.clone()),
                group => selectors.entry(*group).or_default().push(word),
            }
            if word == "on" {
                rules.push(format!(">{PASSWORD}"));
            }
        }
        let selectors = selectors.into_values();
        rules.extend(selectors.map(|words| format!("({})", words.join(" "))));
        rules
    }
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

#[test]
fn the_users_have_exactly_the_commands_that_are_used() {
    for (user, role) in USERS {
        let rights = Rights::of(user);
        let given = rights.words().filter_map(|word| word.strip_prefix('+'));
        let given: BTreeSet<String> = given.map(str::to_uppercase).collect();
        assert_eq!(given, used_commands(role), "{user}");
        // Nothing is given as a whole category.
        assert!(rights.words().all(|word| !word.starts_with("+@")));
    }
}

#[tokio::test]
async fn each_right_of_a_user_is_needed_and_together_they_are_enough() {
    let mut redis = RedisWithUsers::start().await;
    for (user, role) in USERS {
        assert!(redis.has_all(user, role).await, "{user}");
        let rights = Rights::of(user);
        for (place, word) in rights.words().enumerate() {
            // Without them the check itself cannot run, or nothing is missing.
            let is_unchecked = ["+eval", "+config|get"].contains(&word);
            if is_unchecked || !word.starts_with(['+', '~', '&', '%']) {
                continue;
            }
            redis.set_user(user, &rights.changed(place, None)).await;
            let enough = redis.has_all(user, role).await;
            assert!(!enough, "{user} does not need {word} (word {place})");
            if word.starts_with('~') {
                let only_read = rights.changed(place, Some(format!("%R{word}")));
                redis.set_user(user, &only_read).await;
                let enough = redis.has_all(user, role).await;
                assert!(!enough, "{user} only reads {word} (word {place})");
            }
        }
        redis.set_user(user, &rights).await;
        assert!(redis.has_all(user, role).await, "{user}");
    }
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
        // What people did, and what is revoked.
        ("gateway", &["DEL", "st:{fleet}:audit"]),
        ("gateway", &["UNLINK", "st:{fleet}:audit:refused"]),
        ("gateway", &["SET", "st:{fleet}:audit:sessions", ""]),
        ("gateway", &["XTRIM", "st:{fleet}:audit", "MAXLEN", "0"]),
        ("gateway", &["RENAME", "st:{fleet}:audit", "st:{fleet}:x"]),
        ("gateway", &["DEL", "st:{fleet}:revoked"]),
        ("gateway", &["SET", "st:{fleet}:revoked", ""]),
        ("gateway", &["DEL", "st:{fleet}:revoked:changes"]),
        ("gateway", &["DEL", "st:{p00}:log"]),
        ("gateway", &["UNLINK", "st:{p00}:seen"]),
        ("ingest", &["DEL", "st:{p00}:log"]),
        ("ingest", &["UNLINK", "st:{p00}:seen"]),
        ("ingest", &["RENAME", "st:{p00}:history:a", "st:{p00}:log"]),
        ("ingest", &["DEL", "st:dead-letters"]),
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
