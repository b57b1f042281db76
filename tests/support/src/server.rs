//! Redis and Mosquitto with the configurations of `deploy/`, for one test alone.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::ports::Port;
use crate::server_process::ServerProcess;

/// A server and the port it listens on.
#[derive(Debug)]
pub struct Server {
    pub process: ServerProcess,
    port: Port,
}

impl Server {
    /// Wraps a process that listens on this port.
    pub fn new(process: ServerProcess, port: Port) -> Self {
        Self { process, port }
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Waits until something accepts connections on its port. Fails with its output if nothing does.
    pub async fn listens(&self) -> Result<()> {
        let what = format!("{} listens", self.process.name());
        let listens = eventually(&what, async || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()))?;
            Ok(())
        });
        listens.await.with_context(|| self.process.output())
    }
}

/// Starts Redis with `deploy/redis.conf` and these settings, as on its command line. Its data is in the folder.
pub fn redis(folder: &Path, more: &[String]) -> Result<Server> {
    let port = Port::reserve()?;
    let mut flags: Vec<OsString> = vec![
        deployed("redis.conf").into(),
        "--port".into(),
        port.number().to_string().into(),
        "--bind".into(),
        Ipv4Addr::LOCALHOST.to_string().into(),
        "--dir".into(),
        folder.into(),
    ];
    flags.extend(more.iter().map(Into::into));
    let process = ServerProcess::start("redis", Path::new("redis-server"), flags, folder)?;
    Ok(Server::new(process, port))
}

/// The password of the users in the file of [`redis_users`].
pub const PASSWORD: &str = "anything";

/// Writes the users of `deploy/redis-users.acl` into this folder, each with [`PASSWORD`]. Returns the path of the file for `--aclfile`.
pub fn redis_users(folder: &Path) -> Result<PathBuf> {
    let shipped = deployed("redis-users.acl");
    let users =
        fs::read_to_string(&shipped).with_context(|| format!("reading `{}`", shipped.display()))?;
    let own = folder.join("redis-users.acl");
    let users = users.replace(" reset on ", &format!(" reset on >{PASSWORD} "));
    fs::write(&own, users).context("writing the users of Redis")?;
    Ok(own)
}

/// Makes a Redis that is started in this folder load these commands: an append-only file in the protocol of Redis.
pub fn prepare_redis(folder: &Path, commands: &Path) -> Result<()> {
    let files = folder.join("appendonlydir");
    fs::create_dir_all(&files).context("creating the folder of the append-only file")?;
    fs::copy(commands, files.join(AOF_BASE))
        .with_context(|| format!("copying `{}`", commands.display()))?;
    let manifest = format!("file {AOF_BASE} seq 1 type b\n");
    fs::write(files.join("appendonly.aof.manifest"), manifest).context("writing the manifest")
}

/// Name that Redis gives to the first base file of its append-only files.
pub const AOF_BASE: &str = "appendonly.aof.1.base.aof";

/// Starts Mosquitto with `deploy/mosquitto.conf` and these lines. Everybody may connect, unless they say otherwise. Its data is in the
/// folder.
pub fn mosquitto(folder: &Path, more: &[String]) -> Result<Server> {
    let port = Port::reserve()?;
    let shipped = deployed("mosquitto.conf");
    let shipped =
        fs::read_to_string(&shipped).with_context(|| format!("reading `{}`", shipped.display()))?;
    let own = folder.join("mosquitto.conf");
    let text = format!(
        "{shipped}\nallow_anonymous true\n{}\nlistener {} 127.0.0.1\npersistence_location {}/\nuser root\n",
        more.join("\n"),
        port.number(),
        folder.display()
    );
    fs::write(&own, text).context("writing the broker's configuration")?;
    let flags: [OsString; 2] = ["-c".into(), own.into()];
    let process = ServerProcess::start("mosquitto", Path::new("mosquitto"), flags, folder)?;
    Ok(Server::new(process, port))
}

/// Returns the path of a file of `deploy/`.
fn deployed(name: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.ancestors().nth(2).unwrap_or(own);
    root.join("deploy").join(name)
}

/// A Redis in a temporary folder, for a unit test. Both are removed when this is dropped.
#[derive(Debug)]
pub struct OwnRedis {
    // Dropped before its folder.
    pub server: Server,
    folder: TempDir,
}

impl OwnRedis {
    /// Starts it with these settings and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub async fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let more: Vec<String> = more.iter().map(|&flag| flag.to_owned()).collect();
        let server = redis(folder.path(), &more).expect("redis-server starts");
        server.listens().await.expect("redis-server listens");
        Self { server, folder }
    }

    /// Returns `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.server.port())
    }

    /// Returns the URL for `--redis-url`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Returns the folder of its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A Mosquitto in a temporary folder, for a unit test. Both are removed when this is dropped.
#[derive(Debug)]
pub struct OwnMosquitto {
    // Dropped before its folder.
    pub server: Server,
    folder: TempDir,
}

impl OwnMosquitto {
    /// Starts it with these lines of configuration and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub async fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let more: Vec<String> = more.iter().map(|&line| line.to_owned()).collect();
        let server = mosquitto(folder.path(), &more).expect("mosquitto starts");
        server.listens().await.expect("mosquitto listens");
        Self { server, folder }
    }

    /// Returns the folder of its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the URL for `--mqtt-broker`.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.server.port())
    }
}
