//! From an MQTT packet to one atomic commit in Redis.
//!
//! ```text
//! broker ──▶ mqtt ──bounded queue──▶ pipeline ──▶ shared::apply ──▶ Redis
//!             ▲                        │ payload::parse               ▲
//!             └──── ack after commit ──┘                    timers ───┘
//! ```
//!
//! Read in this order: [`config`] (what an operator can set), [`mqtt`] (the link to the broker and the acknowledgements),
//! [`payload`] (bytes to a reading), `pipeline` (one message of a device at a time, many devices per round trip),
//! `timers` (silence and off-delays), [`health`]. What is decided stands in the crate `shared`, since the gateway decides
//! about acknowledgements by the same rules.

pub mod config;
pub mod export_log;
pub mod health;
mod lines;
pub mod metrics;
pub mod mqtt;
pub mod payload;
mod pipeline;
mod spans;
mod timers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use shared::apply::ApplyConfig;
use shared::check_config::ServiceConfig;
use shared::clock::SystemClock;
use shared::lifecycle::Lifecycle;
use shared::metrics::{Meters, TEXT_FORMAT};
use shared::redis_watch::{CanaryRole, RedisObservation, RedisWatch};
use shared::store::{Bounds, Store, StoreError};
use shared::telemetry;
use shared::trace::SpanRecorder;
use tokio::sync::watch;

use crate::config::Config;
use crate::health::DependencyStatus;
use crate::lines::Lines;
use crate::metrics::{Links, Metrics};
use crate::mqtt::Farewell;
use crate::pipeline::Pipeline;
use crate::spans::Spans;
use crate::timers::{Beat, Reporter};

/// Runs the service until a signal, or until one of its tasks fails.
///
/// # Errors
/// The HTTP port cannot be opened, Redis must not be used (version, eviction, partitions), or a task ended that should not have.
pub async fn run(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let address = SocketAddr::new(config.listen_address, config.http_port);
    let listener = health::bind(address)?;
    let store = Store::new(config.redis.clone(), Arc::new(SystemClock::default()));
    // A server that is away may come back; one that must not be used never will by waiting.
    if let Err(err @ StoreError::Unusable(_)) = store.ping().await {
        return Err(err.into());
    }
    let meters = Meters::new("ingest", &config.telemetry)?;
    telemetry::register_metrics(&meters);
    let metrics = Metrics::new(&meters);
    let rules = rules(&config);
    let format = config.format();
    tracing::info!(
        broker = %config.mqtt.mqtt_broker,
        redis = %config.redis.redis_url,
        topics = ?config.mqtt.filters(),
        client_id = config.mqtt.client_id(),
        %address,
        offline_after = ?config.offline_after,
        alarm_off_delay = ?config.alarm_off_delay,
        alarm_deadband = %config.alarm_deadband,
        "ingest starts"
    );

    let (farewell, farewells) = watch::channel(Farewell::Undecided);
    let (incoming, link) = mqtt::start(
        &config.mqtt,
        &lifecycle,
        farewells,
        format.max_payload_bytes,
    )?;
    let (beat, beats) = watch::channel(Beat::default());
    let room_left = Arc::new(AtomicBool::new(true));
    let links = Links {
        broker: link.clone(),
        store: store.clone(),
        beats: beats.clone(),
        room_left: Arc::clone(&room_left),
    };
    let reporter = Reporter {
        store: store.clone(),
        link: link.clone(),
        client_id: config.mqtt.client_id().to_owned(),
        topics: config.mqtt.mqtt_topic.clone(),
        max_devices: u64::from(config.max_devices),
        room_left: Arc::clone(&room_left),
        beat,
        farewell,
    };
    lifecycle.spawn("report", reporter.run(lifecycle.clone()));
    let redis_watch = RedisWatch {
        store: store.clone(),
        canary: CanaryRole::Always,
        bounds: Some(rules.bounds),
        observation: watch::Sender::new(RedisObservation::default()),
    };
    lifecycle.spawn("guard", redis_watch.run(lifecycle.soft().clone()));
    let spans = Spans {
        traces: SpanRecorder::new(&config.telemetry, config.mqtt.mqtt_trust_traces),
        template: config.mqtt.mqtt_topic.join(",").into(),
        client_id: config.mqtt.client_id().into(),
    };
    let told = Arc::new(Lines::default());
    let timers = timers::run(
        store.clone(),
        rules.clone(),
        beats.clone(),
        Arc::clone(&metrics),
        spans.clone(),
        Arc::clone(&told),
        lifecycle.clone(),
    );
    lifecycle.spawn("timers", timers);
    let pipeline = Pipeline {
        store,
        rules,
        format,
        metrics: Arc::clone(&metrics),
        room_left,
        window: usize::from(config.mqtt.mqtt_receive_maximum),
        batch_max: usize::try_from(config.batch_max).unwrap_or(usize::MAX),
        dead_letters_max: u64::from(config.dead_letters_max),
        live_raw_message: config.live_raw_message,
        spans,
        lines: told,
    };
    lifecycle.spawn("pipeline", pipeline.run(incoming, lifecycle.clone()));

    links.register(&meters);
    let redis = move || redis_status(*beats.borrow());
    let read = meters.reader();
    let told = async move || ([(CONTENT_TYPE, TEXT_FORMAT)], read());
    let router = health::router(link, redis, &lifecycle);
    let router = router.merge(Router::new().route("/metrics", get(told)));
    health::serve(listener, router, &lifecycle);
    let ended = lifecycle.wait(config.drain_period).await;
    meters.flush().await;
    ended
}

fn rules(config: &Config) -> ApplyConfig {
    let millis = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    ApplyConfig {
        settings: config.settings(),
        bounds: Bounds {
            history_max: u64::from(config.history_max),
            history_age_ms: millis(config.history_age),
            log_max: u64::from(config.log_max),
            log_age_ms: millis(config.log_age),
        },
        accept_new: true,
    }
}

fn redis_status(beat: Beat) -> DependencyStatus {
    let age = beat
        .redis_answered
        .map(|answered: Instant| answered.elapsed());
    DependencyStatus::new(
        beat.redis,
        if beat.redis {
            Some(Duration::ZERO)
        } else {
            age
        },
    )
}
