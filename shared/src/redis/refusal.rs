//! What an error answer of Redis is about: the server and its user, or the keys of one device.

use redis::RedisError;

/// Why a server that answers refuses to work for us. The text is shown to operators and clients, so it names no key and no
/// user.
pub(crate) const NO_PERMISSION: &str = "NOPERM: the Redis user lacks a right";

/// The reason while the server does not know our user, or has another password for it.
pub(super) const WRONG_PASSWORD: &str = "WRONGPASS: Redis does not accept the user or password";

/// The reason while the server wants a password and none is given.
pub(super) const NO_AUTHENTICATION: &str = "NOAUTH: Redis wants a user and password";

/// The reason while commits may not even use the reserve beyond `maxmemory`.
pub const NO_MEMORY: &str = "OOM: Redis has no memory left";

/// Returns why the server refuses a command; `None` if the error concerns the keys of the command alone, or is no answer of
/// the server.
pub(crate) fn refusal(err: &RedisError) -> Option<&'static str> {
    let code = err.code()?;
    Some(match code {
        // The type or the contents of a key.
        "WRONGTYPE" => return None,
        "ERR" => return refusal_of_general_error(err.detail().unwrap_or_default()),
        "NOPERM" => NO_PERMISSION,
        "WRONGPASS" => WRONG_PASSWORD,
        "NOAUTH" => NO_AUTHENTICATION,
        "MISCONF" => "MISCONF: Redis cannot save its data",
        "NOREPLICAS" => "NOREPLICAS: Redis has too few replicas",
        "READONLY" => "READONLY: the server is a replica",
        "OOM" => NO_MEMORY,
        "LOADING" => "LOADING: Redis is loading its data",
        "BUSY" => "BUSY: Redis is running a script",
        "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN" => {
            "the address does not lead to a usable master"
        }
        _ => "Redis refuses commands",
    })
}

/// Redis 7.0 has no code of its own for a right that is missing inside a script.
fn refusal_of_general_error(detail: &str) -> Option<&'static str> {
    let detail = detail.to_ascii_lowercase();
    if detail.starts_with("the user executing the script can't")
        || detail.contains("acl failure in script")
    {
        return Some(NO_PERMISSION);
    }
    let is_missing_command = detail.contains("unknown command")
        || detail.contains("unknown redis command")
        || detail.contains("invalid command passed");
    is_missing_command.then_some("Redis lacks a command")
}

#[cfg(test)]
mod tests;
