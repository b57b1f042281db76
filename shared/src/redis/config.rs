//! The settings for Redis.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo, ProtocolVersion};

use crate::args::SettingDisplay;
use crate::tls::{TlsFiles, TlsSettings};

/// The names of the settings for TLS to Redis.
pub(super) const TLS_SETTINGS: TlsSettings = TlsSettings {
    ca_file: "--redis-ca-file",
    cert_file: "--redis-cert-file",
    key_file: "--redis-key-file",
    address: "--redis-url",
    tls_scheme: "rediss://",
    plain_scheme: "redis://",
};

/// The shortest time that may be set. Over a network, Redis does not answer reliably in less, and the service would only reconnect.
const MIN_TIME: Duration = Duration::from_millis(100);

/// A connection ends if the kernel of the server has not acknowledged bytes for so long.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(20);

fn at_least_min_time(text: &str) -> Result<Duration, String> {
    let time = crate::args::duration(text)?;
    if time < MIN_TIME {
        return Err("must be at least 100ms".to_owned());
    }
    Ok(time)
}

fn zero_or_at_least_min_time(text: &str) -> Result<Duration, String> {
    match crate::args::duration(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => at_least_min_time(text),
    }
}

/// How to reach Redis.
#[derive(Clone, Debug, clap::Args)]
pub struct RedisConfig {
    /// Redis server, e.g. `redis://127.0.0.1:6379` or `rediss://user:password@host:6379/0` for TLS. Needed, unless it is in a file.
    #[arg(long, env = "REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<RedisUrl>,

    /// File with the URL of the Redis server, so that its password is neither a flag nor a variable
    #[arg(long, env = "REDIS_URL_FILE", value_name = "PATH")]
    pub redis_url_file: Option<PathBuf>,

    /// File with the certificates (PEM) of the authorities that may issue the certificate of Redis, for `rediss://`. Default: those of the
    /// system, or of the file in the variable `SSL_CERT_FILE`
    #[arg(long, env = "REDIS_CA_FILE", value_name = "PATH")]
    pub redis_ca_file: Option<PathBuf>,

    /// File with the certificate (PEM) that this client shows to Redis, and those that lead from it to an authority. Read again for the
    /// next connection when it has changed, as are the other files for TLS
    #[arg(long, env = "REDIS_CERT_FILE", value_name = "PATH")]
    pub redis_cert_file: Option<PathBuf>,

    /// File with the key (PEM, not encrypted) of `--redis-cert-file`
    #[arg(long, env = "REDIS_KEY_FILE", value_name = "PATH")]
    pub redis_key_file: Option<PathBuf>,

    /// How long Redis may take to answer before the connection is given up; at least 100ms
    #[arg(long, env = "REDIS_TIMEOUT", value_name = "DURATION", default_value = "2s", value_parser = at_least_min_time)]
    pub redis_timeout: Duration,

    /// How often to check, by a new connection and a canary message, that the open connections are to the server that is
    /// at this address now, and that published messages arrive; at least 100ms, or 0s for never
    #[arg(long, env = "REDIS_WATCH", value_name = "DURATION", default_value = "1s", value_parser = zero_or_at_least_min_time)]
    pub redis_watch: Duration,

    /// By how much commits and dead letters may exceed `maxmemory` of Redis, such as 32mb; the second half is for alarms. 0 for not at
    /// all. Default: a twentieth of `maxmemory`, at least 16mb
    #[arg(long, env = "MEMORY_RESERVE", value_name = "BYTES", value_parser = crate::args::bytes)]
    pub memory_reserve: Option<u64>,

    /// Number of partitions. Recorded in Redis at the first start; from then on another number is refused.
    #[arg(long, env = "PARTITIONS", value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub partitions: u16,
}

impl RedisConfig {
    /// Reads the URL from its file if it is given so, and checks the files for TLS. Returns all problems, one sentence each.
    pub fn read_files(&mut self) -> Vec<String> {
        if let Some(path) = &self.redis_url_file {
            if self.redis_url.is_some() {
                return vec![
                    "--redis-url and --redis-url-file are both given: choose one".to_owned(),
                ];
            }
            match read_url(path) {
                Ok(url) => self.redis_url = Some(url),
                Err(problem) => return vec![format!("--redis-url-file: {problem}")],
            }
        }
        let Some(url) = &self.redis_url else {
            return vec![
                "--redis-url (variable REDIS_URL) or --redis-url-file (variable REDIS_URL_FILE) is required"
                    .to_owned(),
            ];
        };
        self.tls_files().problems(&TLS_SETTINGS, url.uses_tls())
    }

    /// A server with 8 partitions, which is reached without files. Its answer is waited for, however busy the machine is.
    #[cfg(test)]
    pub(crate) fn at(url: &str) -> Self {
        Self {
            redis_url: Some(url.parse().expect("a URL")),
            redis_url_file: None,
            redis_ca_file: None,
            redis_cert_file: None,
            redis_key_file: None,
            redis_timeout: test_support::eventually::LATE,
            redis_watch: Duration::from_secs(1),
            memory_reserve: None,
            partitions: 8,
        }
    }

    /// Returns the address without its user part.
    #[must_use]
    pub fn shown_url(&self) -> &str {
        self.redis_url.as_ref().map_or("", |url| &url.shown)
    }

    /// Returns how the address is listed.
    #[must_use]
    pub fn url_display(&self) -> Option<SettingDisplay> {
        let from_file = self.redis_url_file.is_some();
        self.redis_url.as_ref().map(|url| SettingDisplay {
            flag: "redis-url",
            value: url.to_string(),
            source: from_file.then_some("--redis-url-file"),
        })
    }

    pub(super) fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            authorities: self.redis_ca_file.clone(),
            certificate: self.redis_cert_file.clone(),
            key: self.redis_key_file.clone(),
        }
    }
}

fn read_url(path: &Path) -> Result<RedisUrl, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|err| format!("cannot read `{shown}`: {err}"))?;
    if text.trim().is_empty() {
        return Err(format!("`{shown}` is empty"));
    }
    text.parse().map_err(|err| format!("`{shown}`: {err}"))
}

/// A `redis://` or `rediss://` URL. Its user part is never printed.
#[derive(Clone)]
pub struct RedisUrl {
    client: Client,
    shown: String,
}

impl RedisUrl {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn uses_tls(&self) -> bool {
        self.shown.starts_with("rediss:")
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    #[expect(
        clippy::disallowed_methods,
        reason = "the only place that creates clients"
    )]
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        // A URL parser leaves them out in silence, and a password would be another one.
        if text.contains(['\r', '\n', '\t']) {
            return Err("has a line break or tab inside".to_owned());
        }
        let url = url::Url::parse(text).map_err(|err| format!("not a URL: {err}"))?;
        if !matches!(url.scheme(), "redis" | "rediss") {
            return Err("the scheme must be redis:// or rediss://".to_owned());
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the URL has no host".to_owned());
        }
        if url.scheme() == "rediss" && url.fragment().is_some() {
            return Err("a certificate is always checked: leave out what is behind `#`".to_owned());
        }
        let info = text.into_connection_info().map_err(|err| err.to_string())?;
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3)
            // The user need not have the right to `CLIENT SETINFO`, and Redis would log each refusal.
            .set_skip_set_lib_name();
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_user_timeout(USER_TIMEOUT);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let client = Client::open(info).map_err(|err| err.to_string())?;
        let port = url.port().unwrap_or(6379);
        let database = client.get_connection_info().redis_settings().db();
        let database = Some(database).filter(|number| *number != 0);
        let shown = format!(
            "{}://{}:{port}{}",
            url.scheme(),
            url.host_str().unwrap_or_default(),
            database.map_or_else(String::new, |number| format!("/{number}"))
        );
        Ok(Self { client, shown })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests;
