//! Setup that the tests of several modules share: a configuration, readings, and the commit that ingest would make.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::apply::{ApplyConfig, Cause, Work, apply};
use shared::clock::{SystemClock, Time};
use shared::decide::Message;
use shared::decimal::Decimal;
use shared::forward::UnknownFields;
use shared::metrics::{Count, Meters};
use shared::position::Position;
use shared::reading::{PayloadFacts, Reading, Side};
use shared::settings::{AlarmSettings, SerialPatterns};
use shared::state::{DeviceState, Latest};
use shared::store::{Bounds, ServiceRole, Store};
use test_support::sample;
use test_support::server::OwnRedis;

use crate::access::Access;
use crate::access::credential::Credential;
use crate::access::identity::Identity;
use crate::admission::Admission;
use crate::admission::connections::CallerPlace;
use crate::admission::enforcement::Enforcement;
use crate::admission::limit_metrics::LimitMetrics;
use crate::audit::AuditTrail;
use crate::client::Admitted;
use crate::config::Config;

const DAY_MS: i64 = 86_400_000;

/// Starts a Redis that keeps its data when it is restarted.
pub(crate) async fn start_redis() -> OwnRedis {
    OwnRedis::start(&["--appendfsync", "always"]).await
}

/// Runs a command and returns its answer.
pub(crate) fn redis_cli(redis: &OwnRedis, arguments: &[&str]) -> String {
    let called = Command::new("redis-cli")
        .args(["-p", &redis.server.port().to_string()])
        .args(arguments)
        .output()
        .expect("redis-cli comes with redis-server");
    assert!(called.status.success(), "{called:?}");
    String::from_utf8_lossy(&called.stdout).trim().to_owned()
}

/// Builds the settings of a gateway on the Redis at this address, with these further flags.
pub(crate) fn config(redis: &str, flags: &[&str]) -> Config {
    let url = format!("redis://{redis}");
    let mut all = vec!["gateway", "--redis-url", &url];
    let is_anonymity = |flag: &&str| flag.starts_with("--allow-anonymous");
    if !flags.iter().any(is_anonymity) {
        all.push("--allow-anonymous");
    }
    all.extend(flags);
    Config::try_from_args(all).expect("flags")
}

/// Builds what a client has that needs no token.
pub(crate) fn anyone() -> Admitted {
    let config = config("127.0.0.1:1", &[]);
    let identity = access(&config).admit_now(&Credential::None, None);
    admitted(identity.expect("clients without a token are allowed"))
}

/// Builds what a client with this identity has.
pub(crate) fn admitted(identity: Arc<Identity>) -> Admitted {
    Admitted {
        identity,
        place: CallerPlace::uncounted(),
    }
}

/// Builds what decides who is admitted with these settings.
pub(crate) fn access(config: &Config) -> Access {
    let access = config
        .access(Arc::new(SystemClock::default()))
        .expect("keys");
    access.revocations().set(Vec::new());
    access
}

/// Builds an audit trail that nobody writes.
pub(crate) fn audit(store: &Store) -> AuditTrail {
    AuditTrail::new(store.clock(), Count::default()).0
}

/// Refuses what exceeds limits, except those of these settings.
pub(crate) fn enforcement(tried_out: &[&str]) -> Enforcement {
    let tried_out: Vec<String> = tried_out.iter().map(|text| (*text).to_owned()).collect();
    Enforcement::new(&tried_out, limit_metrics())
}

/// Builds the limits of this configuration.
pub(crate) fn admission(config: &Config) -> Admission {
    Admission::new(config, &limit_metrics(), Instant::now())
}

fn limit_metrics() -> Arc<LimitMetrics> {
    let meters = Meters::local("gateway").expect("meters");
    Arc::new(LimitMetrics::new(&meters))
}

/// Opens the store of this configuration.
pub(crate) fn store(config: &Config) -> Store {
    Store::new(
        config.redis.clone(),
        ServiceRole::Gateway,
        Arc::new(SystemClock::default()),
    )
}

/// Builds a reading with the levels 250, 500 and 1000, without a device time.
pub(crate) fn reading(device: &str, value: i32) -> Reading {
    Reading {
        device: device.parse().expect("a serial"),
        timestamp: None,
        value: Some(Decimal::from_int(value)),
        ..sample::reading()
    }
}

/// Builds the state of a device at this position, after this reading was committed at `at`, without alarms. Its silence
/// limit is three minutes.
pub(crate) fn state(reading: Reading, position: Position, at: Time) -> DeviceState {
    let mut state = DeviceState {
        position,
        latest: Some(Latest {
            reading: reading.into(),
            levels: [250, 500, 1000].map(Decimal::from_int),
            sides: [Side::High; 3],
            used: [true; 3],
            taken_at: at,
            published_at: at,
            age_ms: Some(0),
            doubtful: false,
            clock_suspect: false,
            in_order: true,
            held_back: false,
            unknown: UnknownFields::default(),
        }),
        ..DeviceState::default()
    };
    state.memory.silence_limit_ms = SILENCE_LIMIT_MS;
    state
}

/// The silence limit of [`state`].
pub(crate) const SILENCE_LIMIT_MS: i64 = 180_000;

/// Builds settings of the alarm rules with this silence limit.
pub(crate) fn alarm_settings(offline_after: Duration) -> AlarmSettings {
    AlarmSettings {
        offline_after,
        ..AlarmSettings::default()
    }
}

/// Commits a reading as ingest would. `fingerprint` must differ from that of the device's other messages.
pub(crate) async fn commit(
    store: &Store,
    reading: Reading,
    raw: &[u8],
    fingerprint: u64,
    offline_after: Duration,
) {
    commit_all(store, vec![reading], raw, fingerprint, offline_after).await;
}

/// Commits readings of different devices together.
pub(crate) async fn commit_all(
    store: &Store,
    readings: Vec<Reading>,
    raw: &[u8],
    fingerprint: u64,
    offline_after: Duration,
) {
    let config = ApplyConfig {
        admit: SerialPatterns::new("*"),
        places: None,
        settings: alarm_settings(offline_after),
        bounds: Bounds {
            history_max: 1000,
            history_age_ms: DAY_MS,
            log_max: 10_000,
            log_age_ms: DAY_MS,
        },
    };
    let works = readings.into_iter().map(|reading| Work {
        device: reading.device.clone(),
        cause: Cause::Message {
            message: Message {
                reading: reading.into(),
                fingerprint,
                dup: false,
                retain: false,
                live_raw_message: None,
                facts: PayloadFacts::default(),
            },
            raw,
        },
        trace: None,
    });
    let works: Vec<_> = works.collect();
    for applied in apply(store, &works, &config).await {
        applied.expect("committed");
    }
}
