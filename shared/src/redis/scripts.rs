//! The Lua scripts, loaded on every new connection.

use redis::aio::MultiplexedConnection;

/// The SHA-1 digests of the loaded scripts, for `EVALSHA`.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    pub(crate) load: String,
    pub(crate) snapshot: String,
    pub(crate) commit: String,
    pub(crate) retire: String,
    pub(crate) epoch: String,
    pub(crate) heartbeat: String,
    pub(crate) canary: String,
    pub(crate) rights: String,
    pub(crate) admit: String,
    pub(crate) release: String,
    pub(crate) revisit: String,
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
const COMMIT: &str = script!("", state, "commit.lua");
const RETIRE: &str = script!("", state, "retire.lua");
const EPOCH: &str = script!("", "epoch.lua");
const HEARTBEAT: &str = script!("", "heartbeat.lua");
const CANARY: &str = script!("", "canary.lua");
const ADMIT: &str = script!("", "admit.lua");
const RELEASE: &str = script!("", "release.lua");
const REVISIT: &str = script!("", "revisit.lua");
pub(super) const RIGHTS: &str = script!("", "rights.lua");

/// Loads all scripts into the server's cache.
pub(crate) async fn load_scripts(redis: &mut MultiplexedConnection) -> redis::RedisResult<Scripts> {
    let mut pipe = redis::pipe();
    for text in [
        LOAD, SNAPSHOT, COMMIT, RETIRE, EPOCH, HEARTBEAT, CANARY, RIGHTS, ADMIT, RELEASE, REVISIT,
    ] {
        pipe.cmd("SCRIPT").arg("LOAD").arg(text);
    }
    let (load, snapshot, commit, retire, epoch, heartbeat, canary, rights, admit, release, revisit) =
        pipe.query_async(redis).await?;
    Ok(Scripts {
        load,
        snapshot,
        commit,
        retire,
        epoch,
        heartbeat,
        canary,
        rights,
        admit,
        release,
        revisit,
    })
}
