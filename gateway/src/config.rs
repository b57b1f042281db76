//! Every setting of this service. The doc comments are the texts of `gateway --help`.

mod memory_need;
pub(crate) mod sign_in;
pub(crate) mod tokens;
mod value_parsers;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Parser};
use shared::args::{self, SettingDisplay, Usage};
use shared::check_config::{self, ConnectionCheck, ServiceConfig, StartReport};
use shared::clock::{Clock, SystemClock};
use shared::redis::{RedisConfig, ServiceRole};
use shared::telemetry::config::TelemetryConfig;

use self::sign_in::SignInConfig;
use self::tokens::TokenConfig;
use self::value_parsers::{count, limits, trimmed};
use crate::access::Access;
use crate::access::anonymous::Anonymous;
use crate::client::outbox;
use crate::client_address::{ForwardedHeader, NetworkError, TrustedProxies};
use crate::hosts::HostRule;
use crate::listener::certificate_files::CertificateFiles;
use crate::origins::{OriginError, Origins};
use crate::rest::dashboard::files::DashboardFiles;
use crate::rest::site_plans::files::SitePlans;
use crate::token_command;

/// Places in the queue of commands of a client beyond its subscriptions.
pub(crate) const SPARE_COMMANDS: usize = 64;

/// Serves readings and alarms from Redis over Socket.IO and REST.
///
/// Every flag can also be given as the environment variable named with it. A flag takes precedence over the variable. An empty
/// variable is ignored. Times need a unit: 500ms, 90s, 3m, 24h.
#[derive(Clone, Debug, Parser)]
#[command(name = "gateway", version)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct Config {
    #[command(flatten)]
    pub redis: RedisConfig,

    /// Port of Socket.IO and REST; if `HTTP_PORT` is not set, the variable PORT is used
    #[arg(long, env, value_name = "PORT", default_value = "3002")]
    pub http_port: u16,

    /// Port of its own for probes, `/metrics` and retiring, which no client can keep busy; keep it closed to the outside.
    /// Without it the probes are on the main port, and nobody can retire
    #[arg(long, env, value_name = "PORT")]
    pub ops_port: Option<u16>,

    /// Set by hosting platforms.
    #[arg(long, env, hide = true)]
    pub port: Option<u16>,

    /// Address to listen on
    #[arg(long, env, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub listen_address: IpAddr,

    /// File with the certificate (PEM) of this service, and those that lead from it to an authority: the main port serves HTTPS with it,
    /// and nothing else. Read again when it changes; connections that are open go on. The port for operators stays without TLS
    #[arg(long, env, value_name = "PATH")]
    pub tls_cert_file: Option<PathBuf>,

    /// File with the key (PEM, not encrypted) of `--tls-cert-file`
    #[arg(long, env, value_name = "PATH")]
    pub tls_key_file: Option<PathBuf>,

    /// Origins whose pages may use this service, in addition to those of local development: `https://gas.example.com`,
    /// `https://*.example.com` (one label), the origin of an app such as `capacitor://localhost`, or `null`; a comma list, or several
    /// flags
    #[arg(long, env, value_name = "ORIGIN", value_delimiter = ',', value_parser = trimmed())]
    pub allowed_origins: Vec<String>,

    /// Do not allow the origins of local development, such as `http://localhost:5173`
    #[arg(long, env, value_parser = BoolishValueParser::new())]
    pub no_default_origins: bool,

    /// Names under which this service is addressed, such as `gas.example.com` or `*.example.com`; a comma list, or several
    /// flags. Requests with another `Host` are refused, except `localhost`, the hosts of the allowed origins, and addresses.
    /// Pages of these hosts may use this service
    #[arg(long, env, value_name = "HOST", value_delimiter = ',', value_parser = trimmed())]
    pub allowed_hosts: Vec<String>,

    /// What clients without a token may do: `none`, `read` (see every detector) or `all` (also acknowledge alarms). Without a value:
    /// all
    #[arg(long, env, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_value = "none",
        default_missing_value = "all", hide_default_value = false, value_parser = Anonymous::parse)]
    pub allow_anonymous: Anonymous,

    #[command(flatten)]
    pub tokens: TokenConfig,

    #[command(flatten)]
    pub sign_in: SignInConfig,

    /// Folder of the built dashboard (`gateway/dashboard`), which is then served at `/` and below `/ui`. Read once, at the start; at most
    /// 16 MiB. Without it there are no pages
    #[arg(long, env, value_name = "PATH")]
    pub dashboard_dir: Option<PathBuf>,

    /// Folder with `plans.json` and the images that it names: plans of sites, on which the dashboard shows detectors. Read once, at the
    /// start; at most 50 images (svg, png, jpg, webp) of 5 MiB, 32 MiB in all
    #[arg(long, env, value_name = "PATH")]
    pub site_plans: Option<PathBuf>,

    /// Send every reading of every detector to every client as `subtronics:data`, for debugging. New detectors are looked
    /// for once a second; readings of a new detector before that may be missing or late
    #[arg(long, env, value_parser = BoolishValueParser::new())]
    pub broadcast_all: bool,

    /// Send every client where the detectors are that it may read, as the map of the original front end expects it:
    /// `activeDevicesLocations` and `deviceLocationUpdate`
    #[arg(long, env, value_parser = BoolishValueParser::new())]
    pub location_events: bool,

    /// The most alerts of one detector in a REST answer; open ones have priority
    #[arg(long, env, value_name = "NUMBER", default_value = "100", value_parser = count(1))]
    pub alerts_bound: usize,

    /// The most bytes of large REST answers (over 16 KiB) that may wait for clients at the same time, and half of them for the
    /// clients of one network address; further ones are answered 503 with `Retry-After`. Should hold the list of all
    /// detectors twice, some 1 KiB each
    #[arg(long, env, value_name = "BYTES", default_value = "67108864", value_parser = count(1_048_576))]
    pub answer_bytes: usize,

    /// How long a client may take to read a large REST answer before it is disconnected; those that need more get a second
    /// per 256 KiB
    #[arg(long, env, value_name = "TIME", default_value = "30s", value_parser = args::duration)]
    pub answer_time: Duration,

    /// The fewest bytes per second, on average over every 10s, that a client must take of a large REST answer; a client that takes
    /// fewer is disconnected
    #[arg(long, env, value_name = "BYTES", default_value = "4096", value_parser = count(0))]
    pub answer_rate: usize,

    /// Proxies whose `X-Forwarded-For` or `Forwarded` has the address of the client, for limits per address: addresses or
    /// networks such as 10.0.0.0/8; a comma list, or several flags
    #[arg(long, env, value_name = "NETWORK", value_delimiter = ',', value_parser = trimmed())]
    pub trusted_proxies: Vec<String>,

    /// Which header the proxies write. A client can send the other one. `any`: either, and if both are there they must say the same
    #[arg(long, env, value_name = "HEADER", value_enum, default_value = "any")]
    pub forwarded_header: ForwardedHeader,

    /// Every connection to the main port begins with a header of the PROXY protocol (version 1 or 2), whose address then is that of
    /// the peer. Connections without it, and those of peers that `--trusted-proxies` does not list, are closed
    #[arg(long, env, value_parser = BoolishValueParser::new())]
    pub proxy_protocol: bool,

    /// Longest message that a client may send
    #[arg(long, env, value_name = "BYTES", default_value = "16384", value_parser = count(1024))]
    pub max_event_bytes: usize,

    /// Time between two pings to a client
    #[arg(long, env, value_name = "TIME", default_value = "25s", value_parser = args::duration)]
    pub ping_interval: Duration,

    /// How long a client may take to answer a ping before it is disconnected
    #[arg(long, env, value_name = "TIME", default_value = "20s", value_parser = args::duration)]
    pub ping_timeout: Duration,

    /// How long a client may take from connecting to joining the namespace
    #[arg(long, env, value_name = "TIME", default_value = "10s", value_parser = args::duration)]
    pub connect_timeout: Duration,

    /// How long readings may be held for a client that got another one just before, so that they leave together. Alarms are never
    /// held; 0s sends every reading by itself
    #[arg(long, env, value_name = "TIME", default_value = "10ms", value_parser = args::duration)]
    pub coalesce: Duration,

    /// Compress what is sent to a client that asks for it: over a WebSocket with `permessage-deflate`, and REST answers with gzip.
    /// A published event is compressed once for all of them
    #[arg(long, env, value_parser = BoolishValueParser::new())]
    pub compress: bool,

    /// Packets per client in the queue of the Socket.IO library; an alarm may have to wait for that many readings
    #[arg(long, env, value_name = "NUMBER", default_value = "128", value_parser = count(16))]
    pub client_buffer: usize,

    /// The most packets that may wait for one client, in addition to that queue: every alarm, and the latest reading per
    /// detector. A client with more is disconnected; it reconnects and recovers by its position
    #[arg(long, env, value_name = "NUMBER", default_value = "4096", value_parser = count(16))]
    pub outbox_packets: usize,

    /// The most bytes that may wait for one client; a client with more is disconnected
    #[arg(long, env, value_name = "BYTES", default_value = "4194304", value_parser = count(outbox::MIN_BYTES as u64))]
    pub outbox_bytes: usize,

    /// The longest time that an alarm may wait for a client before the client is disconnected; readings have no such limit,
    /// as newer ones replace them
    #[arg(long, env, value_name = "TIME", default_value = "20s", value_parser = args::duration)]
    pub alarm_deadline: Duration,

    /// The most detectors one client may subscribe to
    #[arg(long, env, value_name = "NUMBER", default_value = "1000", value_parser = count(1))]
    pub subscriptions_per_client: usize,

    /// The most packets per second that a client may send, on average; a burst may have ten seconds' worth
    /// and twice `--subscriptions-per-client`. A client that sends more is disconnected
    #[arg(long, env, value_name = "NUMBER", default_value = "100", value_parser = count(1))]
    pub packet_rate: usize,

    /// The most distinct detectors that all clients of this replica may watch together. Each needs up to 4 KiB of memory here,
    /// and a subscription in Redis. Not less than `--max-devices` of ingest
    #[arg(long, env, value_name = "NUMBER", default_value = "40000", value_parser = count(1))]
    pub max_watched: usize,

    /// The most distinct detectors that all clients of one network address (IPv6: one /64 network) may watch together. Behind a
    /// proxy all clients may have one address: not less than `--max-devices` of ingest there
    #[arg(long, env, value_name = "NUMBER", default_value = "20000", value_parser = count(1))]
    pub watched_per_address: usize,

    /// The most distinct names that all clients of this replica may watch together although no detector has sent under them yet,
    /// in addition to `--max-watched`; a quarter of them for the clients of one network address. Further ones are refused once
    /// Redis has been asked
    #[arg(long, env, value_name = "NUMBER", default_value = "4000", value_parser = count(1))]
    pub max_unlisted: usize,

    /// How long the subscription of a detector in Redis is kept after its last watcher left
    #[arg(long, env, value_name = "TIME", default_value = "30s", value_parser = args::duration)]
    pub linger: Duration,

    /// The most subscriptions in Redis that are kept although nobody watches the detector any more; beyond it the oldest ones
    /// end at once
    #[arg(long, env, value_name = "NUMBER", default_value = "10000", value_parser = count(0))]
    pub linger_max: usize,

    /// How long sent bytes may stay unacknowledged by the network before the connection is closed
    #[arg(long, env, value_name = "TIME", default_value = "20s", value_parser = args::duration)]
    pub tcp_user_timeout: Duration,

    /// The most connections at the same time, long polling sessions included; further requests are answered 503, except probes and `/metrics`
    #[arg(long, env, value_name = "NUMBER", default_value = "20000", value_parser = count(1))]
    pub max_connections: usize,

    /// The most Socket.IO connections, over any transport, that all clients of one network address (IPv6: one /64 network) may have
    /// at the same time; further ones are answered 429. 0 is no limit
    #[arg(long, env, value_name = "NUMBER", default_value = "5000", value_parser = count(0))]
    pub max_connections_per_address: usize,

    /// The most Socket.IO connections that all clients with tokens of one subject may have at the same time. 0 is no limit
    #[arg(long, env, value_name = "NUMBER", default_value = "500", value_parser = count(0))]
    pub max_connections_per_subject: usize,

    /// The most TCP connections that one network address may have at the same time, unless it is a trusted proxy. Further ones get one
    /// answer, 503 except for probes, or are closed. A browser may have six. 0 is no limit
    #[arg(long, env, value_name = "NUMBER", default_value = "10000", value_parser = count(0))]
    pub max_tcp_connections_per_address: usize,

    /// The most Socket.IO connections per second that all clients together may open, on average; a burst may have ten seconds' worth.
    /// Further ones are answered 503, first those of addresses that opened most lately. 0 is no limit
    #[arg(long, env, value_name = "NUMBER", default_value = "2000", value_parser = count(0))]
    pub handshake_rate: usize,

    /// The same for all clients of one network address; further ones are answered 429
    #[arg(long, env, value_name = "NUMBER", default_value = "200", value_parser = count(0))]
    pub handshake_rate_per_address: usize,

    /// What all clients of one network address, and all with tokens of one subject, may ask of REST per second, on average; a burst may have ten seconds' worth. Most
    /// requests count as 1, those that read much as up to 20. Further ones are answered 429; the last tenth is for acknowledgements.
    /// 0 is no limit
    #[arg(long, env, value_name = "NUMBER", default_value = "1000", value_parser = count(0))]
    pub request_rate: usize,

    /// The most signatures of tokens that may turn out wrong per second for all clients of one network address, on average; a burst may
    /// have ten seconds' worth. Beyond it, tokens that were not good lately are refused without a check, with 429 or `connect_error`.
    /// 0 is no limit
    #[arg(long, env, value_name = "NUMBER", default_value = "200", value_parser = count(0))]
    pub wrong_signature_rate: usize,

    /// Limits that only count what exceeds them (`gateway_limited_total`) and refuse nobody, to find the right value: the names of
    /// their flags without `--`, or `all`; a comma list, or several flags
    #[arg(long, env, value_name = "LIMIT", value_delimiter = ',', value_parser = limits())]
    pub limits_dry_run: Vec<String>,

    /// How long a shutdown waits between being not ready and closing the first client, for load balancers to notice
    #[arg(long, env, value_name = "TIME", default_value = "0s", value_parser = args::duration)]
    pub drain_delay: Duration,

    /// Time over which a shutdown closes the clients; each client is informed in advance when that will be
    #[arg(long, env, value_name = "TIME", default_value = "10s", value_parser = args::duration)]
    pub drain_period: Duration,

    /// How long Redis may be silent before clients are informed that the data path is degraded; at most 4s
    #[arg(long, env, value_name = "TIME", default_value = "2s", value_parser = args::duration)]
    pub redis_away_after: Duration,

    /// Name of this replica in `/api/analytics/connections`, where a random part is appended; letters, digits, `.`, `_`
    /// and `-`
    #[arg(long, env, value_name = "NAME", default_value = "gateway", value_parser = trimmed())]
    pub replica_name: String,

    /// How often this replica writes to Redis how many clients watch what, and reads the state of all detectors and replicas
    /// for `/metrics`; at least 1s
    #[arg(long, env, value_name = "TIME", default_value = "10s", value_parser = args::duration)]
    pub report_interval: Duration,

    #[command(flatten)]
    pub telemetry: TelemetryConfig,

    /// What the log says about the given settings at the start.
    #[arg(skip)]
    pub start_report: StartReport,
}

impl Config {
    /// Reads and checks the arguments (the first is the program's name) and the environment.
    pub fn try_from_args<I>(args: I) -> Result<Self, Usage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        Self::from_args(args)
    }

    fn origins(&self) -> Result<Origins, OriginError> {
        Origins::from_config(&self.allowed_origins, !self.no_default_origins, Vec::new())
    }

    /// Reads the keys of tokens, and what signs people in.
    ///
    /// # Errors
    /// As [`Access::new`].
    pub(crate) fn access(&self, clock: Arc<dyn Clock>) -> Result<Access, Vec<String>> {
        let sign_in = Some(&self.sign_in);
        Access::new(&self.tokens, sign_in, self.allow_anonymous, clock)
    }

    /// Returns the proxies whose headers are believed.
    pub(crate) fn proxies(&self) -> Result<TrustedProxies, NetworkError> {
        TrustedProxies::parse(&self.trusted_proxies, self.forwarded_header)
    }

    /// Returns the files of the certificate of the main port, if it has one.
    pub(crate) fn certificate_files(&self) -> Result<Option<CertificateFiles>, String> {
        let (certificate, key) = (&self.tls_cert_file, &self.tls_key_file);
        CertificateFiles::from_settings(certificate.as_deref(), key.as_deref())
    }

    /// Reads the files of the dashboard, if there is one.
    pub(crate) fn dashboard_files(&self) -> Result<Option<DashboardFiles>, String> {
        self.dashboard_dir
            .as_deref()
            .map(DashboardFiles::read)
            .transpose()
    }

    /// Reads the plans of sites. There are none without a folder.
    pub(crate) fn site_plans(&self) -> Result<SitePlans, String> {
        let plans = self.site_plans.as_deref().map(SitePlans::read);
        plans.unwrap_or_else(|| Ok(SitePlans::default()))
    }

    /// Returns all problems of the settings, one sentence each.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let has_credentials = self.tokens.has_keys() || self.sign_in.is_on();
        if self.allow_anonymous == Anonymous::None && !has_credentials {
            problems.push(
                "no authentication is configured: pass --token-key-files, --token-secret-file or --token-jwks-url to serve clients with tokens, --oidc-issuer \
                 to let people sign in, or \
                 --allow-anonymous to serve every client"
                    .to_owned(),
            );
        }
        problems.extend(Access::problems(&self.tokens, &self.sign_in));
        if let Err(err) = self.origins() {
            problems.push(format!("--allowed-origins: {err}"));
        }
        if let Err(err) = HostRule::parse_all(&self.allowed_hosts) {
            problems.push(format!("--allowed-hosts: {err}"));
        }
        if let Err(err) = self.proxies() {
            problems.push(format!("--trusted-proxies: {err}"));
        }
        match self.certificate_files() {
            Ok(files) => {
                let read = files.map(|files| files.read(SystemClock::local()));
                problems.extend(read.and_then(Result::err));
            }
            Err(problem) => problems.push(problem),
        }
        problems.extend(self.dashboard_files().err());
        problems.extend(self.site_plans().err());
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            problems.push("--proxy-protocol: list the proxies in --trusted-proxies".to_owned());
        }
        if self.ops_port == Some(self.http_port) {
            problems.push("--ops-port: must differ from --http-port".to_owned());
        }
        let second = Duration::from_secs(1);
        for (flag, time) in [
            ("--ping-interval", self.ping_interval),
            ("--ping-timeout", self.ping_timeout),
            ("--connect-timeout", self.connect_timeout),
            ("--alarm-deadline", self.alarm_deadline),
            ("--answer-time", self.answer_time),
            ("--tcp-user-timeout", self.tcp_user_timeout),
            ("--redis-away-after", self.redis_away_after),
            ("--report-interval", self.report_interval),
        ] {
            if time < second {
                problems.push(format!("{flag}: must be at least 1s"));
            }
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let name = &self.replica_name;
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
            problems.push(
                "--replica-name: expected up to 64 letters, digits, `.`, `_` and `-`".to_owned(),
            );
        }
        // Clients are to be informed within 5 s, and detecting the silence takes up to 1 s.
        if self.redis_away_after > Duration::from_secs(4) {
            problems.push("--redis-away-after: must be at most 4s".to_owned());
        }
        if self.coalesce > second {
            problems.push("--coalesce: must be at most 1s".to_owned());
        }
        problems
    }
}

impl ServiceConfig for Config {
    const PLACEHOLDERS: &'static [(&'static str, &'static str)] = &[];
    const COMMANDS: &'static [(&'static str, &'static str)] =
        &[(token_command::NAME, token_command::ABOUT)];

    fn complete(&mut self, matches: &ArgMatches) -> Vec<String> {
        let unset = matches.value_source("http_port") == Some(ValueSource::DefaultValue);
        if let (Some(port), true) = (self.port, unset) {
            self.http_port = port;
        }
        let mut problems = self.redis.read_files();
        problems.extend(self.validate());
        problems
    }

    fn start_report(&self) -> &StartReport {
        &self.start_report
    }

    fn set_start_report(&mut self, report: StartReport) {
        self.start_report = report;
    }

    fn warnings(&self) -> Vec<String> {
        let (all, of_one) = (self.max_watched, self.watched_per_address);
        let one_takes_all = (all <= of_one).then(|| {
            format!(
                "--max-watched ({all}) is not above --watched-per-address ({of_one}): clients of one address can keep \
                 all others from watching detectors"
            )
        });
        let allows_null = self.origins().is_ok_and(|origins| origins.allows_null());
        let null = allows_null.then(|| {
            "--allowed-origins has `null`, which any website can take as its origin: its pages may use this service as the user"
                .to_owned()
        });
        let anonymous = (self.allow_anonymous == Anonymous::All).then(|| {
            "--allow-anonymous=all: whoever reaches this port sees every detector and may acknowledge every alarm".to_owned()
        });
        let unreachable = self.proxy_protocol && self.ops_port.is_none();
        let unreachable = unreachable.then(|| {
            "--proxy-protocol without --ops-port: probes must come through a proxy, all other connections are closed"
                .to_owned()
        });
        let forwarded =
            self.forwarded_header != ForwardedHeader::Any && self.trusted_proxies.is_empty();
        let forwarded = forwarded.then(|| {
            "--forwarded-header without --trusted-proxies: no header is believed from anybody"
                .to_owned()
        });
        // Its problems were reported before.
        let files = self.certificate_files().ok().flatten();
        let certificate = files.and_then(|files| files.read(SystemClock::local()).ok());
        let certificate = certificate.and_then(|certificate| certificate.time_problem);
        let certificate = certificate.map(|problem| format!("{problem}: clients refuse it"));
        let warnings = [
            one_takes_all,
            null,
            anonymous,
            unreachable,
            forwarded,
            certificate,
        ];
        warnings.into_iter().flatten().collect()
    }

    fn consequences(&self) -> Vec<String> {
        shared::memory_need::lines("gateway", &memory_need::needs(self))
    }

    fn setting_displays(&self) -> Vec<SettingDisplay> {
        let from_port = self.port == Some(self.http_port);
        let own = [
            SettingDisplay {
                flag: "http-port",
                value: self.http_port.to_string(),
                source: from_port.then_some("--port"),
            },
            SettingDisplay {
                flag: "allow-anonymous",
                value: self.allow_anonymous.to_string(),
                source: None,
            },
        ];
        self.redis.url_display().into_iter().chain(own).collect()
    }
}

/// Checks every connection of this service.
pub async fn connect(config: &Config) -> Vec<ConnectionCheck> {
    let mut checks =
        vec![check_config::check_redis(&config.redis, ServiceRole::Gateway, None).await];
    let access = config.access(Arc::new(SystemClock::default()));
    // Its problems were reported before.
    if let Ok(access) = access {
        checks.extend(access.check_connections().await);
    }
    checks.extend(check_config::check_collectors(&config.telemetry).await);
    checks
}

#[cfg(test)]
mod tests;
