//! Every setting of this service. The doc comments are the text of `ingest --help`.

mod lists;
mod memory_need;

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, CommandFactory, Parser};
use serde_json::{Map, Value};
use shared::args::{self, SettingDisplay, Usage};
use shared::check_config::{self, ConnectionCheck, ServiceConfig, StartReport};
use shared::decimal::Decimal;
use shared::keys::MAX_LOG;
use shared::memory_need::StoredBounds;
use shared::redis::{RedisConfig, ServiceRole};
use shared::rollup::{Levels, LevelsError};
use shared::secret::Secret;
use shared::settings::{AlarmSettings, MessageTypes, SerialPatterns, ZeroLevel};
use shared::store::{DeadLetter, Places};
use shared::telemetry::config::TelemetryConfig;

use crate::commands;
use crate::export_log;
use crate::mqtt::config::MqttConfig;
use crate::mqtt::probe::check_broker;
use crate::payload::{DecimalPoint, Format, NormalWords};

/// Receives readings from an MQTT broker, decides alarms, and commits both to Redis.
///
/// Every flag can also be given as the environment variable listed with it. A flag takes precedence over the variable, and an empty
/// variable is ignored. Times need a unit: 500ms, 90s, 3m, 24h, 35d.
#[derive(Clone, Debug, Parser)]
#[command(name = "ingest", version)]
pub struct Config {
    #[command(flatten)]
    pub mqtt: MqttConfig,

    #[command(flatten)]
    pub redis: RedisConfig,

    /// Silence after which a detector is reported offline
    #[arg(long, env, value_name = "TIME", default_value = "3m", value_parser = args::duration)]
    pub offline_after: Duration,

    /// Time without any message after which a warning is logged and /readyz says `degraded`, if detectors are known. 0s:
    /// never
    #[arg(long, env, value_name = "TIME", default_value = "10m", value_parser = args::duration)]
    pub quiet_after: Duration,

    /// Deadband: how far a value must return past an alarm level before the alarm clears. In percent of the span that the
    /// detector sends, or of the level if it sends no span. A hysteresis that the detector sends takes precedence
    #[arg(long, env, value_name = "PERCENT", default_value = "2", value_parser = args::percent)]
    pub alarm_deadband: Decimal,

    /// Off-delay: how long a value must stay back past the deadband before the alarm clears
    #[arg(long, env, value_name = "TIME", default_value = "0s", value_parser = args::duration)]
    pub alarm_off_delay: Duration,

    /// What an alarm level of 0 means: a level like any other (`value`), or that the level is not used (`unused`)
    #[arg(long, env, default_value = "value", value_parser = zero_level())]
    pub zero_level: ZeroLevel,

    /// Levels whose alarm stays open as `returned`, after the value is back, until it is acknowledged. A comma-separated list of
    /// A1, A2 and A3, or `none`
    #[arg(long, env, value_name = "LEVELS", default_value = "A2,A3", value_parser = returned_levels)]
    pub returned_levels: [bool; 3],

    /// How long an alarm that was raised three times in a short while must be calm until it ends. With 0s each raise is an alarm of its
    /// own, however often it comes
    #[arg(long, env, value_name = "TIME", default_value = "10m", value_parser = args::duration)]
    pub chatter_calm: Duration,

    /// How many messages per second a detector may send. Bursts have an allowance of 10 s of that rate: twice the rate is too much
    /// after 10 s. Every value is judged, but history and telemetry keep only so many, and the last one. 0: no limit
    #[arg(long, env, value_name = "NUMBER", default_value = "10")]
    pub device_rate: u32,

    /// How many entries of the alarm log a detector may write at once, beside one per hour. What exceeds it is counted. 0: no limit, so
    /// that a detector that flaps can push the entries of others out of the log
    #[arg(long, env, value_name = "NUMBER", default_value = "200")]
    pub log_burst: u32,

    /// Serials of the detectors whose A1 is a Low level if they send no `A1Type`, such as oxygen detectors. A comma-separated list,
    /// in which `*` stands for any text
    #[arg(long, env, value_name = "PATTERNS", default_value = "")]
    pub low_devices: String,

    /// Message types of maintenance: such a reading may raise alarms, and lowers none. A comma-separated list
    #[arg(
        long,
        env,
        value_name = "TYPES",
        default_value = "CALIBRATION,TEST,BUMP TEST"
    )]
    pub maintenance_message_types: String,

    /// Message types that are only a sign of life if they have no reading. A comma-separated list
    #[arg(long, env, value_name = "TYPES", default_value = "HEARTBEAT")]
    pub alive_message_types: String,

    /// Words that mean "not set" in a fault flag, a LED, `Alarm Status` and the flags of a level, in any case. In all but the flags of a
    /// level, any other word means "set". A comma-separated list
    #[arg(
        long,
        env,
        value_name = "WORDS",
        default_value = "0,OFF,FALSE,NO,NONE,OK,NORMAL,NO ALARM"
    )]
    pub normal_words: String,

    /// A reading older than this, by the device's usual clock offset, is ordered by its arrival
    #[arg(long, env, value_name = "TIME", default_value = "7d", value_parser = args::duration)]
    pub backlog_max: Duration,

    /// By how much a device time may be ahead of the newest possible one. A time further ahead counts as the newest possible
    #[arg(long, env, value_name = "TIME", default_value = "5s", value_parser = args::duration)]
    pub clock_tolerance: Duration,

    /// UTC offset of device times without a time zone
    #[arg(
        long, env, value_name = "OFFSET", default_value = "+05:30",
        value_parser = args::utc_offset, allow_hyphen_values = true
    )]
    pub device_utc_offset: i32,

    /// Units of the numeric codes that detectors send, as a comma-separated list
    #[arg(long, env, value_name = "CODE=UNIT", default_value = "1=ppm", value_parser = args::unit_codes)]
    pub unit_codes: args::UnitCodes,

    /// What the payload key `Decimal Point` means
    #[arg(long, env, default_value = "ignore")]
    pub decimal_point: DecimalPoint,

    /// Longest payload that is parsed; a longer one becomes a dead letter
    #[arg(long, env, value_name = "BYTES", default_value = "65536", value_parser = at_least(256))]
    pub max_payload_bytes: u32,

    /// Also send `raw_message` with every live reading. Without this flag only the latest telemetry in REST has it
    #[arg(long, env, value_parser = BoolishValueParser::new())]
    pub live_raw_message: bool,

    /// Maximum number of detectors. Messages of unknown detectors beyond it become dead letters, except for --alarm-reserve
    #[arg(long, env, value_name = "NUMBER", default_value = "20000", value_parser = at_least(1))]
    pub max_devices: u32,

    /// Places beyond --max-devices, for unknown detectors whose message shows a danger: gas, a value outside the measuring range, a
    /// sensor fault, an unreadable value, or an LED that is lit
    #[arg(long, env, value_name = "NUMBER", default_value = "500")]
    pub alarm_reserve: u32,

    /// Serials of the detectors that are accepted. A comma-separated list, in which `*` stands for any text. Messages of other unknown
    /// detectors become dead letters. A detector that is stored is always accepted
    #[arg(long, env, value_name = "PATTERNS", default_value = "*")]
    pub admit: String,

    /// Retire a detector of which nothing at all has been heard for this long, if somebody has acknowledged its `device_offline` and no
    /// other alarm of it is open. Only time counts in which an ingest replica had its subscription. 0s: never
    #[arg(long, env, value_name = "TIME", default_value = "0s", value_parser = args::duration)]
    pub forget_after: Duration,

    /// How long a detector's samples are kept for charts
    #[arg(long, env, value_name = "TIME", default_value = "24h", value_parser = args::duration)]
    pub history_age: Duration,

    /// Maximum number of samples kept for each detector
    #[arg(long, env, value_name = "NUMBER", default_value = "20000", value_parser = at_least(1))]
    pub history_max: u32,

    /// Bytes that the history of all detectors may take in Redis, such as 300mb. Near it the longest histories lose their oldest samples,
    /// and then every second one. Default: half of `maxmemory`, or 1gb if Redis has none
    #[arg(long, env, value_name = "BYTES", value_parser = args::bytes)]
    pub history_bytes: Option<u64>,

    /// Rollups of the history, from which charts of weeks and months are made. A comma-separated list of WIDTH:AGE: the width of the
    /// buckets, and how long they are kept. A width divides a day, and each is a multiple of the one before it. `none`: no rollups
    #[arg(long, env, value_name = "WIDTH:AGE", default_value = "1m:7d,15m:90d", value_parser = rollup_levels)]
    pub rollups: Levels,

    /// How long the alarm log is kept
    #[arg(long, env, value_name = "TIME", default_value = "35d", value_parser = args::duration)]
    pub log_age: Duration,

    /// Maximum number of rows of the alarm log kept for each partition, up to 200000
    #[arg(long, env, value_name = "NUMBER", default_value = "20000", value_parser = log_rows())]
    pub log_max: u32,

    /// Maximum number of dead letters kept
    #[arg(long, env, value_name = "NUMBER", default_value = "10000", value_parser = at_least(1))]
    pub dead_letters_max: u32,

    /// Keep this many of the last received payloads in Redis, as they arrived, for `ingest record`. 0 keeps none, up to 100000
    #[arg(long, env, value_name = "COUNT", default_value = "0", value_parser = recorded_payloads())]
    pub record_raw: u32,

    /// Maximum number of detectors whose messages are decided and committed in one round trip to Redis
    #[arg(long, env, value_name = "NUMBER", default_value = "200", value_parser = at_least(1))]
    pub batch_max: u32,

    /// Port of /livez, /readyz and /metrics
    #[arg(long, env, value_name = "PORT", default_value = "3003")]
    pub http_port: u16,

    /// Address to listen on
    #[arg(long, env, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub listen_address: IpAddr,

    /// Time limit at shutdown for committing and acknowledging the messages already received
    #[arg(long, env, value_name = "TIME", default_value = "10s", value_parser = args::duration)]
    pub drain_period: Duration,

    #[command(flatten)]
    pub telemetry: TelemetryConfig,

    /// Accepted but ignored: cathodic-protection devices are not supported
    #[arg(long, env, value_name = "TOPIC")]
    pub mqtt_topic_subtronic_data: Option<String>,

    /// Accepted but ignored, like --mqtt-topic-subtronic-data
    #[arg(long, env, value_name = "TOPIC")]
    pub mqtt_topic_subtronic_command: Option<String>,

    /// A setting of the previous system. Ignored, with a warning
    #[arg(long, env, hide = true, hide_env_values = true)]
    pub mongodb_uri: Option<Secret<String>>,

    /// The settings of the rules and the parser that were given, as the settings line of a replay file.
    #[arg(skip)]
    pub given_rules: Map<String, Value>,

    /// What the log says about the given settings at the start.
    #[arg(skip)]
    pub start_report: StartReport,
}

/// Settings that do not concern the rules and the parser, beside those of the connections.
const NOT_RULES: [&str; 16] = [
    "live_raw_message",
    "history_age",
    "history_max",
    "history_bytes",
    "rollups",
    "log_age",
    "log_max",
    "dead_letters_max",
    "record_raw",
    "batch_max",
    "http_port",
    "listen_address",
    "drain_period",
    "mqtt_topic_subtronic_data",
    "mqtt_topic_subtronic_command",
    "mongodb_uri",
];

impl Config {
    /// Parses and checks the arguments (the first is the program's name) and the environment.
    pub fn try_from_args<I>(args: I) -> Result<Self, Usage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        Self::from_args(args)
    }

    /// Returns all settings that are out of range or contradict each other, one sentence each.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.mqtt.validate();
        if self.offline_after < Duration::from_secs(1) {
            problems.push("--offline-after: must be at least 1s".to_owned());
        }
        if !self.forget_after.is_zero() && self.forget_after <= self.offline_after {
            problems.push("--forget-after: must be more than --offline-after, or 0s".to_owned());
        }
        if SerialPatterns::new(&self.admit).is_empty() {
            problems.push("--admit: at least one pattern is needed; `*` admits all".to_owned());
        }
        for (flag, time) in [
            ("--history-age", self.history_age),
            ("--log-age", self.log_age),
        ] {
            if time.is_zero() {
                problems.push(format!("{flag}: must be more than 0"));
            }
        }
        // The packet also has a header, the topic and properties.
        if self.mqtt.mqtt_max_packet_size < self.max_payload_bytes.saturating_add(1024) {
            problems.push(
                "--mqtt-max-packet-size: must be at least 1024 above --max-payload-bytes"
                    .to_owned(),
            );
        }
        problems
    }

    /// Returns the settings of the alarm rules.
    pub fn settings(&self) -> AlarmSettings {
        AlarmSettings {
            offline_after: self.offline_after,
            forget_after: self.forget_after,
            backlog_max: self.backlog_max,
            clock_tolerance: self.clock_tolerance,
            returned_levels: self.returned_levels,
            chatter_calm: self.chatter_calm,
            device_rate: self.device_rate,
            log_burst: self.log_burst,
            low_devices: SerialPatterns::new(&self.low_devices),
            maintenance_message_types: MessageTypes::new(&self.maintenance_message_types),
            alive_message_types: MessageTypes::new(&self.alive_message_types),
            earlier_release_at_work: false,
            alarm_deadband: self.alarm_deadband,
            alarm_off_delay: self.alarm_off_delay,
            zero_level: self.zero_level,
        }
    }

    /// Returns the bounds of what is stored in Redis.
    fn stored_bounds(&self) -> StoredBounds {
        StoredBounds {
            devices: u64::from(self.max_devices) + u64::from(self.alarm_reserve),
            payload_bytes: self.max_payload_bytes.into(),
            live_raw_message: self.live_raw_message,
            history_max: self.history_max.into(),
            history_bytes: self.history_bytes,
            rollups: self.rollups.len() as u64,
            rollup_buckets: self.rollups.buckets(),
            log_max: self.log_max.into(),
            partitions: self.redis.partitions.into(),
            dead_letters: self.dead_letters_max.into(),
            dead_letter_payload_bytes: DeadLetter::MAX_BYTES as u64,
            recorded: self.record_raw.into(),
        }
    }

    /// Returns how many devices there may be.
    pub fn places(&self) -> Places {
        Places {
            devices: u64::from(self.max_devices),
            reserve: u64::from(self.alarm_reserve),
        }
    }

    /// Returns the settings of the payload parser.
    pub fn format(&self) -> Format {
        Format {
            utc_offset_seconds: self.device_utc_offset,
            unit_codes: self.unit_codes.clone(),
            decimal_point: self.decimal_point,
            normal_words: NormalWords::new(&self.normal_words),
            max_payload_bytes: usize::try_from(self.max_payload_bytes).unwrap_or(usize::MAX),
        }
    }
}

impl Config {
    /// Says what it means if the history of all devices may take less than what is always kept of each.
    fn history_warning(&self) -> Option<String> {
        let bytes = self.history_bytes?;
        let devices = u64::from(self.max_devices) + u64::from(self.alarm_reserve);
        let kept = shared::memory_need::history_kept_anyway(devices);
        (bytes < kept).then(|| {
            format!(
                "--history-bytes is {bytes} bytes: with {devices} detectors (--max-devices and --alarm-reserve) the newest 200 samples \
                 of each take more, up to {kept} bytes. These are kept all the same, and nothing older is"
            )
        })
    }
}

impl Config {
    /// Says what it means if samples go before a block of the finest rollup can be made of them.
    fn rollup_warning(&self) -> Option<String> {
        let block_ms = self.rollups.finest()?.width.block_millis();
        let needed = Duration::from_millis(block_ms.unsigned_abs() * 2);
        (self.history_age < needed).then(|| {
            let needed = needed.as_secs();
            format!(
                "--history-age is less than {needed}s, twice the time of a block of the first of --rollups: what is older may be missing in \
                 the rollups"
            )
        })
    }
}

impl ServiceConfig for Config {
    const PLACEHOLDERS: &'static [(&'static str, &'static str)] =
        &[("mqtt-broker", "mqtt://placeholder")];
    const COMMANDS: &'static [(&'static str, &'static str)] = &[
        (export_log::NAME, export_log::ABOUT),
        (commands::REPLAY, commands::REPLAY_ABOUT),
        (commands::RECORD, commands::RECORD_ABOUT),
    ];

    fn complete(&mut self, matches: &ArgMatches) -> Vec<String> {
        self.given_rules = given_rules(matches);
        let mut problems = self.redis.read_files();
        problems.extend(self.mqtt.read_files());
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
        let database = self.mongodb_uri.as_ref();
        let database = database.map(|_| "MONGODB_URI is ignored: Redis holds the alarm log");
        let fixed = database.into_iter().chain(self.mqtt.warning());
        let fixed = fixed.map(str::to_owned);
        fixed
            .chain(lists::warnings(self))
            .chain(self.history_warning())
            .chain(self.rollup_warning())
            .collect()
    }

    fn consequences(&self) -> Vec<String> {
        let own = memory_need::needs(self);
        let own = shared::memory_need::lines("ingest", &own);
        let stored = shared::memory_need::report(&self.stored_bounds(), 0);
        own.into_iter().chain(stored).collect()
    }

    fn setting_displays(&self) -> Vec<SettingDisplay> {
        let mut all = self.mqtt.setting_displays();
        all.extend(self.redis.url_display());
        all
    }
}

/// Checks every connection of this service.
pub async fn connect(config: &Config) -> Vec<ConnectionCheck> {
    let bounds = config.stored_bounds();
    let mut checks = vec![
        check_broker(&config.mqtt).await,
        check_config::check_redis(&config.redis, ServiceRole::Ingest, Some(&bounds)).await,
    ];
    checks.extend(check_config::check_collectors(&config.telemetry).await);
    checks
}

/// Returns the settings of the rules and the parser that were given as a flag or a variable, in the words that were given.
fn given_rules(matches: &ArgMatches) -> Map<String, Value> {
    let mut given = Map::new();
    for id in rule_settings() {
        let source = matches.value_source(&id);
        if source.is_none_or(|source| source == ValueSource::DefaultValue) {
            continue;
        }
        let words = matches.get_raw(&id).into_iter().flatten();
        let words: Vec<String> = words
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        given.insert(id, Value::String(words.join(",")));
    }
    given
}

/// Returns the names of the settings of the rules and the parser, in the order of `ingest --help`.
pub(crate) fn rule_settings() -> Vec<String> {
    let of_connections = [
        MqttConfig::augment_args(Command::default()),
        RedisConfig::augment_args(Command::default()),
        TelemetryConfig::augment_args(Command::default()),
    ];
    let is_rule = |arg: &&Arg| {
        let id = arg.get_id();
        let mut connections = of_connections.iter().flat_map(Command::get_arguments);
        !NOT_RULES.contains(&id.as_str()) && connections.all(|other| other.get_id() != id)
    };
    let command = Config::command();
    let rules = command.get_arguments().filter(is_rule);
    rules.map(|arg| arg.get_id().to_string()).collect()
}

fn recorded_payloads() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=100_000)
}

fn at_least(minimum: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(minimum..)
}

fn log_rows() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::try_from(MAX_LOG).unwrap_or(i64::MAX))
}

fn rollup_levels(text: &str) -> Result<Levels, LevelsError> {
    text.parse()
}

fn returned_levels(text: &str) -> Result<[bool; 3], String> {
    let mut levels = [false; 3];
    if text.trim().eq_ignore_ascii_case("none") {
        return Ok(levels);
    }
    for word in text.split(',') {
        let index = ["A1", "A2", "A3"]
            .iter()
            .position(|level| level.eq_ignore_ascii_case(word.trim()))
            .ok_or("expected a list of A1, A2 and A3, or none")?;
        levels[index] = true;
    }
    Ok(levels)
}

fn zero_level() -> impl TypedValueParser<Value = ZeroLevel> {
    PossibleValuesParser::new(["value", "unused"]).map(|word| match word.as_str() {
        "unused" => ZeroLevel::Unused,
        _ => ZeroLevel::Value,
    })
}

#[cfg(test)]
mod tests;
