//! The settings of the connection to the broker. The doc comments are part of `ingest --help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{
    BoolishValueParser, PossibleValuesParser, StringValueParser, TypedValueParser,
};
use shared::args::{self, SettingDisplay};
use shared::secret::Secret;
use shared::tls::{TlsFiles, TlsSettings};

use super::broker_url::BrokerUrl;
use super::version::MqttVersion;

/// The names of the settings for TLS to the broker.
pub(super) const TLS_SETTINGS: TlsSettings = TlsSettings {
    ca_file: "--mqtt-ca-file",
    cert_file: "--mqtt-cert-file",
    key_file: "--mqtt-key-file",
    address: "--mqtt-broker",
    tls_scheme: "mqtts://",
    plain_scheme: "mqtt://",
};

/// The connection to the broker.
#[derive(Args, Clone, Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "the names of flags and variables are those of the fields"
)]
pub struct MqttConfig {
    /// The broker: `mqtt://HOST[:1883]`, or `mqtts://HOST[:8883]` for TLS
    #[arg(long, env, value_name = "URL", hide_env_values = true)]
    pub mqtt_broker: BrokerUrl,

    /// User name at the broker
    #[arg(long, env, value_name = "NAME", hide_env_values = true)]
    pub mqtt_username: Option<Secret<String>>,

    /// File whose first line is the user name
    #[arg(long, env, value_name = "PATH")]
    pub mqtt_username_file: Option<PathBuf>,

    /// Password at the broker. Prefer the variable or the file: other users of the machine can see flags
    #[arg(long, env, value_name = "PASSWORD", hide_env_values = true)]
    pub mqtt_password: Option<Secret<String>>,

    /// File whose first line is the password
    #[arg(long, env, value_name = "PATH")]
    pub mqtt_password_file: Option<PathBuf>,

    /// File with the certificates (PEM) of the authorities that may issue the certificate of the broker, for `mqtts://`. Default: those of
    /// the system, or of the file in the variable `SSL_CERT_FILE`
    #[arg(long, env, value_name = "PATH")]
    pub mqtt_ca_file: Option<PathBuf>,

    /// File with the certificate (PEM) that this client shows to the broker, and those that lead from it to an authority. Read again
    /// for the next connection when it has changed, as are the other files for TLS
    #[arg(long, env, value_name = "PATH")]
    pub mqtt_cert_file: Option<PathBuf>,

    /// File with the key (PEM, not encrypted) of `--mqtt-cert-file`
    #[arg(long, env, value_name = "PATH")]
    pub mqtt_key_file: Option<PathBuf>,

    /// Topics on which detectors publish. Can be given several times or as a comma-separated list; wildcards are allowed
    #[arg(
        long, env = "MQTT_TOPIC_SUBTRONICS", value_name = "FILTER", value_delimiter = ',',
        default_value = "SubTronics/data", value_parser = trimmed()
    )]
    pub mqtt_topic: Vec<String>,

    /// Client id at the broker, under which the broker keeps this replica's session. It must stay the same over restarts
    /// and differ between replicas. The default, for a single replica, is `subtronics-ingest`
    #[arg(long, env, value_name = "ID")]
    pub mqtt_client_id: Option<String>,

    /// Pause before a new try after another client with our client id took over our session. Until then this replica is
    /// not ready
    #[arg(long, env, value_name = "TIME", default_value = "1m", value_parser = args::duration)]
    pub mqtt_takeover_retry: Duration,

    /// Version of MQTT: `5`, or `3.1.1` for a broker without MQTT 5. With 3.1.1 there are no share groups and no traces
    /// of senders, the broker decides how long it keeps the session (--mqtt-session-expiry 0s still means none), how many
    /// messages it sends ahead and how large they may be (--mqtt-receive-maximum and --mqtt-max-packet-size are not
    /// sent), it cannot report a takeover, and it sends retained messages again after every reconnect
    #[arg(long, env, value_name = "VERSION", default_value = "5", value_parser = version())]
    pub mqtt_version: MqttVersion,

    /// Divide the messages among the replicas of this MQTT share group: each message goes to one of them. Needs
    /// --mqtt-client-id. Without a group every replica receives every message, which gives redundancy but no scale
    #[arg(long, env, value_name = "NAME")]
    pub mqtt_share_group: Option<String>,

    /// Number of unacknowledged messages after which the broker waits for an acknowledgement (MQTT receive maximum)
    #[arg(
        long, env, value_name = "NUMBER", default_value = "1000",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub mqtt_receive_maximum: u16,

    /// Largest packet that the broker may send; it drops larger ones. Set it well above --max-payload-bytes, so that
    /// oversize payloads still reach the dead letters
    #[arg(
        long, env, value_name = "BYTES", default_value = "2097152",
        value_parser = clap::value_parser!(u32).range(1024..)
    )]
    pub mqtt_max_packet_size: u32,

    /// Continue the traces that messages name in their user properties `traceparent` and `tracestate`, and sample what
    /// they sample. Without this flag each message begins a trace of its own, which is linked to the named one
    #[arg(long, env, value_parser = BoolishValueParser::new())]
    pub mqtt_trust_traces: bool,

    /// How long the broker keeps the session, and the messages for it, while this replica is disconnected
    #[arg(long, env, value_name = "TIME", default_value = "1h", value_parser = args::duration)]
    pub mqtt_session_expiry: Duration,

    /// Interval of pings to the broker, at least 5s. The connection is replaced if no packet arrives for twice this time
    #[arg(long, env, value_name = "TIME", default_value = "10s", value_parser = args::duration)]
    pub mqtt_keep_alive: Duration,

    /// Time limit for connecting, from the name lookup to the broker's answer
    #[arg(long, env, value_name = "TIME", default_value = "10s", value_parser = args::duration)]
    pub mqtt_connect_timeout: Duration,
}

impl MqttConfig {
    /// Returns the MQTT client id.
    pub fn client_id(&self) -> &str {
        self.mqtt_client_id
            .as_deref()
            .unwrap_or("subtronics-ingest")
    }

    /// Returns the topic filters to subscribe to; those of a share group begin with `$share/`.
    pub fn filters(&self) -> Vec<String> {
        let filter = |topic: &String| match &self.mqtt_share_group {
            Some(group) => format!("$share/{group}/{topic}"),
            None => topic.clone(),
        };
        self.mqtt_topic.iter().map(filter).collect()
    }

    /// Returns what is lost with MQTT 3.1.1, if that is spoken.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        let is_old = self.mqtt_version == MqttVersion::V311;
        is_old.then_some(
            "MQTT 3.1.1: no share groups, no traces of senders, no reports of takeovers; the broker decides how long it keeps \
             the session and how many and how large messages it sends, and repeats retained messages after every reconnect",
        )
    }

    /// Replaces the secrets that are given as files by the contents of the files, checks the files for TLS, and returns all problems.
    pub(crate) fn read_files(&mut self) -> Vec<String> {
        let secrets = [
            (
                "--mqtt-username",
                &mut self.mqtt_username,
                &self.mqtt_username_file,
            ),
            (
                "--mqtt-password",
                &mut self.mqtt_password,
                &self.mqtt_password_file,
            ),
        ];
        let mut problems = Vec::new();
        for (flag, secret, file) in secrets {
            match args::secret_or_file(flag, secret.take(), file.as_deref()) {
                Ok(resolved) => *secret = resolved,
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(
            self.tls_files()
                .problems(&TLS_SETTINGS, self.mqtt_broker.tls),
        );
        problems
    }

    pub(super) fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            authorities: self.mqtt_ca_file.clone(),
            certificate: self.mqtt_cert_file.clone(),
            key: self.mqtt_key_file.clone(),
        }
    }

    /// Returns all problems of these settings, one sentence each.
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.mqtt_topic.is_empty() {
            problems.push("--mqtt-topic: at least one topic is needed".to_owned());
        }
        for topic in &self.mqtt_topic {
            if let Some(problem) = filter_problem(topic) {
                problems.push(format!("--mqtt-topic: `{topic}` {problem}"));
            }
        }
        if let Some(group) = &self.mqtt_share_group {
            if group.is_empty() || group.contains(['/', '+', '#', '\0']) {
                problems.push("--mqtt-share-group: must not be empty nor contain / + #".to_owned());
            }
            if self.mqtt_client_id.is_none() {
                problems.push(
                    "--mqtt-share-group: needs --mqtt-client-id, stable and different in every replica"
                        .to_owned(),
                );
            }
        }
        if self.mqtt_version == MqttVersion::V311 && self.mqtt_share_group.is_some() {
            problems.push(
                "--mqtt-version: 3.1.1 has no share groups: leave out --mqtt-share-group"
                    .to_owned(),
            );
        }
        if self.mqtt_takeover_retry < Duration::from_secs(1) {
            problems.push("--mqtt-takeover-retry: must be at least 1s".to_owned());
        }
        if self.client_id().is_empty() || self.client_id().len() > 65_535 {
            problems.push("--mqtt-client-id: must have 1 to 65535 bytes".to_owned());
        }
        if self.mqtt_password.is_some() && self.mqtt_username.is_none() {
            problems.push("--mqtt-password: needs --mqtt-username".to_owned());
        }
        // MQTT sends whole seconds: 16 bits for the keep-alive, 32 bits for the session expiry.
        if !(5..=65_535).contains(&self.mqtt_keep_alive.as_secs()) {
            problems.push("--mqtt-keep-alive: must be from 5s to 65535s".to_owned());
        }
        if u32::try_from(self.mqtt_session_expiry.as_secs()).is_err() {
            problems.push("--mqtt-session-expiry: must be at most 4294967295s".to_owned());
        }
        if self.mqtt_connect_timeout < Duration::from_secs(1) {
            problems.push("--mqtt-connect-timeout: must be at least 1s".to_owned());
        }
        problems
    }

    /// Returns the settings whose value did not come from the flag or variable of the same name, for `check-config`.
    pub(crate) fn setting_displays(&self) -> Vec<SettingDisplay> {
        let display = |flag, value: String, source| SettingDisplay {
            flag,
            value,
            source,
        };
        let mut all = vec![
            display("mqtt-broker", self.mqtt_broker.to_string(), None),
            display("mqtt-client-id", self.client_id().to_owned(), None),
        ];
        for (flag, secret, file, source) in [
            (
                "mqtt-username",
                &self.mqtt_username,
                &self.mqtt_username_file,
                "--mqtt-username-file",
            ),
            (
                "mqtt-password",
                &self.mqtt_password,
                &self.mqtt_password_file,
                "--mqtt-password-file",
            ),
        ] {
            if let (Some(secret), Some(_)) = (secret, file) {
                all.push(display(flag, secret.to_string(), Some(source)));
            }
        }
        all
    }
}

/// Returns the problem of a topic filter, if it has one. The text is worded to follow the name of the filter.
fn filter_problem(filter: &str) -> Option<&'static str> {
    if filter.is_empty() {
        return Some("is empty");
    }
    if filter.len() > 65_000 || filter.contains('\0') {
        return Some("is too long or contains a NUL");
    }
    if filter.starts_with("$share/") {
        return Some("names a share group: use --mqtt-share-group");
    }
    let levels = filter.split('/').count();
    for (index, level) in filter.split('/').enumerate() {
        if level.len() > 1 && level.contains(['+', '#']) {
            return Some("has a wildcard beside other characters of a level");
        }
        if level == "#" && index + 1 != levels {
            return Some("has a # before its end");
        }
    }
    None
}

fn version() -> impl TypedValueParser<Value = MqttVersion> {
    PossibleValuesParser::new(["5", "3.1.1"]).map(|word| match word.as_str() {
        "3.1.1" => MqttVersion::V311,
        _ => MqttVersion::V5,
    })
}

fn trimmed() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().map(|text| text.trim().to_owned())
}
