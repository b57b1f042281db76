use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::*;

/// The error of an answer `-CODE detail`.
fn answer(text: &str) -> RedisError {
    let value = redis::parse_redis_value(format!("-{text}\r\n").as_bytes());
    value
        .and_then(redis::Value::extract_error)
        .expect_err("an error")
}

#[test]
fn a_refusal_of_the_server_is_distinguished_from_a_fault_of_a_key() {
    for (text, expected) in [
        (
            "NOPERM this user has no permissions to run the 'zadd' command",
            Some("NOPERM"),
        ),
        (
            "ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:2.",
            Some("NOPERM"),
        ),
        (
            "ERR The user executing the script can't publish to the channel mentioned",
            Some("NOPERM"),
        ),
        (
            "MISCONF Redis is configured to save RDB snapshots, but",
            Some("MISCONF"),
        ),
        (
            "NOREPLICAS Not enough good replicas to write.",
            Some("NOREPLICAS"),
        ),
        (
            "READONLY You can't write against a read only replica.",
            Some("READONLY"),
        ),
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            Some("OOM"),
        ),
        (
            "LOADING Redis is loading the dataset in memory",
            Some("LOADING"),
        ),
        ("NOAUTH Authentication required.", Some("NOAUTH")),
        (
            "ERR unknown command 'ZADD', with args beginning with:",
            Some("Redis lacks"),
        ),
        ("SOMETHING new", Some("Redis refuses")),
        (
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            None,
        ),
        ("ERR hash value is not an integer", None),
        (
            "ERR The ID specified in XADD is equal or smaller than the target stream top item",
            None,
        ),
    ] {
        let found = refusal(&answer(text));
        let is_expected = match (found, expected) {
            (Some(found), Some(expected)) => found.starts_with(expected),
            (found, expected) => found == expected,
        };
        assert!(is_expected, "{text}: {found:?}");
    }
}

#[test]
fn an_error_without_an_answer_is_no_refusal() {
    let lost = RedisError::from((ErrorKind::Io, "connection lost"));
    assert_eq!(refusal(&lost), None);
    let kind = RedisError::from((ErrorKind::UnexpectedReturnType, "odd"));
    assert_eq!(refusal(&kind), None);
    let loading = RedisError::from((ErrorKind::Server(ServerErrorKind::BusyLoading), "loading"));
    assert!(refusal(&loading).is_some());
}
