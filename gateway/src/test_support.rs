//! What the tests of several modules need: a Redis server, readings, and the commit that ingest would make.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use shared::apply::{ApplyConfig, Work, apply};
use shared::clock::{SystemClock, Time};
use shared::decide::{Input, Message};
use shared::decimal::Decimal;
use shared::position::Position;
use shared::reading::{Coordinate, LevelSetting, Reading, Side};
use shared::state::{AlarmSettings, DeviceState, Latest, ZeroLevel};
use shared::store::{Bounds, Store};
use tempfile::TempDir;

use crate::config::Config;

/// Longer than anything here takes, even on a slow machine.
pub(crate) const LATE: Duration = Duration::from_mins(1);

const PORT: &str = "6379";
const DAY_MS: i64 = 86_400_000;

/// Waits until this holds.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + LATE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A Redis server for one test. It is stopped, and its data removed, when this is dropped.
pub(crate) struct RedisServer {
    process: Child,
    host: String,
    flags: &'static [&'static str],
    // Dropped after the process was stopped.
    folder: TempDir,
}

impl RedisServer {
    /// A server that loses its data when it is stopped.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--save", ""])
    }

    /// A server that keeps its data when it is restarted.
    pub(crate) fn start_persistent() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    fn start_with(flags: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let host = own_host();
        Self {
            process: start_process(&host, &folder, flags),
            host,
            flags,
            folder,
        }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        format!("{}:{PORT}", self.host)
    }

    pub(crate) fn stop(&mut self) {
        self.process.kill().expect("the server runs");
        self.process.wait().expect("the server ends");
    }

    /// Starts a stopped server again, at the same address.
    pub(crate) fn start_again(&mut self) {
        self.process = start_process(&self.host, &self.folder, self.flags);
    }

    /// Runs a command and returns its answer.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let called = Command::new("redis-cli")
            .args(["-h", &self.host, "-p", PORT])
            .args(arguments)
            .output()
            .expect("redis-cli comes with redis-server");
        assert!(called.status.success(), "{called:?}");
        String::from_utf8_lossy(&called.stdout).trim().to_owned()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Both fail only if the server was stopped already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn start_process(host: &str, folder: &TempDir, flags: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--bind", host, "--port", PORT, "--dir"])
        .arg(folder.path())
        .args(flags)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is missing: run `tests/run`, which installs it")
}

/// An address of the loopback network that no other test uses. A free port could be taken by somebody else meanwhile.
fn own_host() -> String {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    assert!(count < 64, "more servers than addresses");
    // Process ids have at most 22 bits, so the upper six of this byte are free for the count.
    format!("127.{}.{middle}.{low}", (high & 0x03) | (count << 2))
}

/// The settings of a gateway on the Redis at this address, with these further flags.
pub(crate) fn config(redis: &str, flags: &[&str]) -> Config {
    let url = format!("redis://{redis}");
    let fixed = ["gateway", "--allow-anonymous", "--redis-url", &url];
    Config::try_from_args(fixed.iter().chain(flags)).expect("flags")
}

/// The store of this configuration.
pub(crate) fn store(config: &Config) -> Store {
    Store::new(config.redis.clone(), Arc::new(SystemClock::default()))
}

/// A reading with the levels 250, 500 and 1000, without a device time.
pub(crate) fn reading(device: &str, value: i32) -> Reading {
    let level = |level| LevelSetting {
        level: Some(Decimal::from_int(level)),
        ..LevelSetting::default()
    };
    let zero = Decimal::ZERO;
    Reading {
        device: device.parse().expect("a serial"),
        device_name: "Gas Sensor Block1".to_owned(),
        gas_type: "Carbon Monoxide (CO)".to_owned(),
        timestamp: None,
        device_time: None,
        unit: "ppm".to_owned(),
        message_type: "LOG DATA".to_owned(),
        sender: "Device".to_owned(),
        value: Some(Decimal::from_int(value)),
        span_high: Some(Decimal::from_int(2000)),
        span_low: Some(zero),
        levels: [level(250), level(500), level(1000)],
        decimal_point: zero,
        a1_type: "High".to_owned(),
        a1_siren: zero,
        a1_buzzer: zero,
        leds: [zero; 3],
        sensor_fault: zero,
        latitude: Coordinate::Text("19.011545".to_owned()),
        longitude: Coordinate::Text("72.823872".to_owned()),
        doubtful: false,
        unclear: false,
    }
}

/// The state of a device at this position, after this reading was committed at `at`, without alarms. Its silence limit is
/// three minutes.
pub(crate) fn state(reading: Reading, position: Position, at: Time) -> DeviceState {
    let mut state = DeviceState {
        position,
        latest: Some(Latest {
            reading,
            levels: [250, 500, 1000].map(Decimal::from_int),
            sides: [Side::High; 3],
            taken_at: at,
            published_at: at,
            age_ms: Some(0),
            doubtful: false,
            clock_suspect: false,
            in_order: true,
        }),
        ..DeviceState::default()
    };
    state.memory.silence_limit_ms = SILENCE_LIMIT_MS;
    state
}

/// The silence limit of [`state`].
pub(crate) const SILENCE_LIMIT_MS: i64 = 180_000;

/// Commits a reading as ingest would. `fingerprint` must differ from that of the device's other messages.
pub(crate) async fn commit(
    store: &Store,
    reading: Reading,
    raw: &[u8],
    fingerprint: u64,
    offline_after: Duration,
) {
    let config = ApplyConfig {
        accept_new: true,
        settings: AlarmSettings {
            offline_after,
            alarm_deadband: Decimal::from_int(2),
            alarm_off_delay: Duration::ZERO,
            zero_level: ZeroLevel::Value,
        },
        bounds: Bounds {
            history_max: 1000,
            history_age_ms: DAY_MS,
            log_max: 10_000,
            log_age_ms: DAY_MS,
        },
    };
    let work = Work {
        device: reading.device.clone(),
        input: Input::Reading(Message {
            reading,
            fingerprint,
            dup: false,
            retain: false,
            live_raw_message: None,
        }),
        raw: Some(raw),
        trace: None,
    };
    for applied in apply(store, &[work], &config).await {
        applied.expect("committed");
    }
}
