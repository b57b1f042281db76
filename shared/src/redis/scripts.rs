//! The Lua scripts, loaded on every new connection.

use redis::aio::ConnectionLike;

/// The SHA-1 digests of the loaded scripts, for `EVALSHA`.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    pub(crate) load: String,
    pub(crate) snapshot: String,
    pub(crate) commit: String,
    /// What nearly every message is.
    pub(crate) commit_usual: String,
    /// `commit.lua` for a Redis whose memory is full.
    pub(crate) commit_when_full: String,
    pub(crate) letter_when_full: String,
    pub(crate) postpone: String,
    pub(crate) thin: String,
    pub(crate) thinned: String,
    pub(crate) rollup: String,
    pub(crate) retire: String,
    pub(crate) epoch: String,
    pub(crate) heartbeat: String,
    pub(crate) canary: String,
    pub(crate) rights: String,
    pub(crate) log_piece: String,
    pub(crate) admit: String,
    pub(crate) count_places: String,
    pub(crate) release: String,
    pub(crate) revisit: String,
    pub(crate) profile: String,
}

/// The text of a script. With `state`, it starts with the functions of `state.lua`.
macro_rules! script {
    ($flags:literal, $name:literal) => {
        concat!(
            "#!lua",
            $flags,
            "\n",
            include_str!(concat!("../store/", $name))
        )
    };
    ($flags:literal, state, $name:literal) => {
        concat!(
            "#!lua",
            $flags,
            "\n",
            include_str!("../store/state.lua"),
            include_str!(concat!("../store/", $name))
        )
    };
}

const LOAD: &str = script!(" flags=no-writes", state, "load.lua");
const SNAPSHOT: &str = script!(" flags=no-writes", state, "snapshot.lua");
const LOG_PIECE: &str = script!(" flags=no-writes", "log_piece.lua");
// A script with the flag `allow-oom` runs although the memory of Redis is full. `store/memory.rs` says why each of them may.
const COMMIT: &str = script!("", state, "commit.lua");
const COMMIT_USUAL: &str = script!("", "commit_usual.lua");
const COMMIT_WHEN_FULL: &str = script!(" flags=allow-oom", state, "commit.lua");
const LETTER_WHEN_FULL: &str = script!(" flags=allow-oom", "letter_when_full.lua");
const POSTPONE: &str = script!(" flags=allow-oom", "postpone.lua");
const THIN: &str = script!(" flags=allow-oom", "thin.lua");
const THINNED: &str = script!(" flags=allow-oom", "thinned.lua");
const ROLLUP: &str = script!("", "rollup.lua");
const RETIRE: &str = script!(" flags=allow-oom", state, "retire.lua");
const EPOCH: &str = script!(" flags=allow-oom", "epoch.lua");
const HEARTBEAT: &str = script!(" flags=allow-oom", "heartbeat.lua");
const CANARY: &str = script!(" flags=allow-oom", "canary.lua");
const ADMIT: &str = script!(" flags=allow-oom", "admit.lua");
const COUNT_PLACES: &str = script!(" flags=allow-oom", "count_places.lua");
const RELEASE: &str = script!(" flags=allow-oom", "release.lua");
const REVISIT: &str = script!(" flags=allow-oom", "revisit.lua");
const PROFILE: &str = script!("", "profile.lua");
pub(super) const RECORD_PARTITIONS: &str = script!(" flags=allow-oom", "record_partitions.lua");
pub(super) const RIGHTS: &str = script!(" flags=allow-oom", "rights.lua");

/// Loads all scripts into the server's cache.
pub(crate) async fn load_scripts(
    redis: &mut (impl ConnectionLike + Send),
) -> redis::RedisResult<Scripts> {
    let mut scripts = Scripts::default();
    let texts = [
        (LOAD, &mut scripts.load),
        (SNAPSHOT, &mut scripts.snapshot),
        (COMMIT, &mut scripts.commit),
        (COMMIT_USUAL, &mut scripts.commit_usual),
        (COMMIT_WHEN_FULL, &mut scripts.commit_when_full),
        (LETTER_WHEN_FULL, &mut scripts.letter_when_full),
        (POSTPONE, &mut scripts.postpone),
        (THIN, &mut scripts.thin),
        (THINNED, &mut scripts.thinned),
        (ROLLUP, &mut scripts.rollup),
        (RETIRE, &mut scripts.retire),
        (EPOCH, &mut scripts.epoch),
        (HEARTBEAT, &mut scripts.heartbeat),
        (CANARY, &mut scripts.canary),
        (RIGHTS, &mut scripts.rights),
        (LOG_PIECE, &mut scripts.log_piece),
        (ADMIT, &mut scripts.admit),
        (COUNT_PLACES, &mut scripts.count_places),
        (RELEASE, &mut scripts.release),
        (REVISIT, &mut scripts.revisit),
        (PROFILE, &mut scripts.profile),
    ];
    let mut pipe = redis::pipe();
    for (text, _) in &texts {
        pipe.cmd("SCRIPT").arg("LOAD").arg(*text);
    }
    let digests: Vec<String> = pipe.query_async(redis).await?;
    for ((_, field), digest) in texts.into_iter().zip(digests) {
        *field = digest;
    }
    Ok(scripts)
}
