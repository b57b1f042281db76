//! Receives readings from an MQTT broker, decides alarms, and commits both to Redis.
//!
//! ```text
//! broker ──▶ mqtt ──bounded queue──▶ pipeline ──▶ shared::apply ──▶ Redis
//!             ▲                        │ payload::read                ▲
//!             └──── ack after commit ──┘                    timers ───┘
//! ```
//!
//! Read in this order: [`config`] (the operator's settings), `mqtt` (the connection to the broker and the acknowledgements),
//! [`payload`] (bytes to readings), `pipeline` (a run of messages of each device per round trip, for many devices at
//! once), `timers` (silence and off-delays), `trimming` (the bounds of the history), `rollups` (its buckets),
//! `heartbeat` (reports in Redis that this replica listens). The alarm rules are in
//! the crate `shared`, because the gateway applies the same rules to acknowledgements. `replay` is all of it in memory, on a
//! virtual clock.

pub mod commands;
pub mod config;
mod dead_letter_reason;
pub mod export_log;
mod gauges;
mod health;
mod heartbeat;
mod log_lines;
mod metrics;
mod mqtt;
mod pace;
pub mod payload;
mod pipeline;
mod quiet;
pub mod record;
mod refused_dangers;
pub mod replay;
mod rollups;
mod spans;
mod timers;
mod trimming;

#[cfg(any(test, fuzzing))]
pub mod fuzz_targets;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use shared::apply::ApplyConfig;
use shared::check_config::ServiceConfig;
use shared::clock::{SystemClock, millis};
use shared::lifecycle::Lifecycle;
use shared::metrics::{Meters, TEXT_FORMAT};
use shared::redis_watch::{CanaryRole, RedisObservation, RedisWatch};
use shared::settings::SerialPatterns;
use shared::store::{Bounds, ServiceRole, Store};
use shared::telemetry;
use shared::trace::SpanRecorder;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::gauges::Gauges;
use crate::health::DependencyStatus;
use crate::heartbeat::{Heartbeat, LastHeartbeat};
use crate::log_lines::LogLines;
use crate::metrics::Metrics;
use crate::mqtt::shutdown::SessionAtExit;
use crate::pipeline::{Pipeline, Recorder};
use crate::rollups::{RollupTotals, Rollups};
use crate::spans::Spans;
use crate::timers::Timers;
use crate::trimming::{HistoryTotals, Trimming};

/// Runs the service until a signal, or until one of its tasks fails.
///
/// # Errors
/// The HTTP port cannot be opened, Redis is not usable (version, eviction policy, partitions), or a task failed or ended
/// early.
pub async fn run(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    for warning in config.all_warnings() {
        tracing::warn!("{warning}");
    }
    let address = SocketAddr::new(config.listen_address, config.http_port);
    let listener = health::bind(address)?;
    let store = open_store(&config).await?;
    let meters = Meters::new("ingest", &config.telemetry)?;
    telemetry::register_metrics(&meters);
    let address = listener.local_addr()?;
    let gauges = start_tasks(&config, &lifecycle, store, Metrics::new(&meters))?;
    serve_http(listener, &gauges, &meters, &lifecycle);
    let mut broker = gauges.broker.clone();
    gauges.register(&meters);
    let stopped = lifecycle.soft();
    // A broker that refuses us stops the process. One that is away may come.
    if stopped
        .run_until_cancelled(broker.first_try())
        .await
        .is_some()
    {
        tracing::info!(
            %address,
            settings = %config.start_report.changed_settings,
            "ingest running"
        );
    }

    let outcome = lifecycle.wait(config.drain_period).await;
    meters.flush().await;
    outcome
}

/// Checks at the start that Redis can be used. A server that does not answer may answer later, so only an unusable one is an
/// error.
async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let store = Store::new(
        config.redis.clone(),
        ServiceRole::Ingest,
        Arc::new(SystemClock::default()),
    );
    match store.ping().await {
        Err(err) if err.needs_operator() => Err(err.into()),
        _ => Ok(store),
    }
}

/// Starts every task but the HTTP server, and returns the sources of the metrics about them.
fn start_tasks(
    config: &Config,
    lifecycle: &Lifecycle,
    store: Store,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Gauges> {
    let format = config.format();
    let apply_config = apply_config(config);
    let spans = spans(config);
    let log_lines = Arc::new(LogLines::default());

    let (session_at_exit, decision) = watch::channel(SessionAtExit::Undecided);
    let max_payload_bytes = format.max_payload_bytes;
    let (messages, broker) = mqtt::start(&config.mqtt, lifecycle, decision, max_payload_bytes)?;

    let (last, heartbeats) = watch::channel(LastHeartbeat::default());
    let heartbeat = Heartbeat {
        store: store.clone(),
        broker: broker.clone(),
        client_id: config.mqtt.client_id().to_owned(),
        topics: config.mqtt.mqtt_topic.clone(),
        places: config.places(),
        forget_after: config.forget_after,
        quiet_after: config.quiet_after,
        last,
        session_at_exit,
    };
    lifecycle.spawn("heartbeat", heartbeat.run(lifecycle.clone()));

    let redis_watch = RedisWatch {
        store: store.clone(),
        canary: CanaryRole::Always,
        bounds: Some(apply_config.bounds),
        observation: watch::Sender::new(RedisObservation::default()),
    };
    lifecycle.spawn("redis watch", redis_watch.run(lifecycle.soft().clone()));

    let history = Arc::new(HistoryTotals::default());
    let trimming = Trimming {
        store: store.clone(),
        bounds: apply_config.bounds,
        history_bytes: config.history_bytes,
        totals: Arc::clone(&history),
    };
    lifecycle.spawn("trimming", trimming.run(lifecycle.clone()));

    let rollup_totals = Arc::new(RollupTotals::default());
    let rollups = Rollups {
        store: store.clone(),
        levels: config.rollups.clone(),
        totals: Arc::clone(&rollup_totals),
    };
    lifecycle.spawn("rollups", rollups.run(lifecycle.clone()));

    let timers = Timers {
        store: store.clone(),
        apply_config: apply_config.clone(),
        heartbeat: heartbeats.clone(),
        metrics: Arc::clone(&metrics),
        spans: spans.clone(),
        log_lines: Arc::clone(&log_lines),
    };
    lifecycle.spawn("timers", timers.run(lifecycle.clone()));

    let pipeline = Pipeline {
        store: store.clone(),
        apply_config,
        heartbeat: heartbeats.clone(),
        format,
        metrics,
        receive_maximum: usize::from(config.mqtt.mqtt_receive_maximum),
        batch_max: usize::try_from(config.batch_max).unwrap_or(usize::MAX),
        dead_letters_max: u64::from(config.dead_letters_max),
        recorder: recorder(config),
        live_raw_message: config.live_raw_message,
        spans,
        log_lines,
    };
    lifecycle.spawn("pipeline", pipeline.run(messages, lifecycle.clone()));

    Ok(Gauges {
        broker,
        store,
        heartbeat: heartbeats,
        places: config.places(),
        history,
        levels: config.rollups.clone(),
        rollups: rollup_totals,
    })
}

/// Serves `/livez`, `/readyz` and `/metrics`.
fn serve_http(listener: TcpListener, gauges: &Gauges, meters: &Meters, lifecycle: &Lifecycle) {
    let heartbeat = gauges.heartbeat.clone();
    let redis = move || redis_status(*heartbeat.borrow());
    let heartbeat = gauges.heartbeat.clone();
    let warning = move || warning(&heartbeat.borrow());
    let read = meters.reader();
    let metrics = async move || ([(CONTENT_TYPE, TEXT_FORMAT)], read());
    let router = health::router(gauges.broker.clone(), redis, warning, lifecycle);
    let router = router.merge(Router::new().route("/metrics", get(metrics)));
    health::serve(listener, router, lifecycle);
}

fn apply_config(config: &Config) -> ApplyConfig {
    ApplyConfig {
        settings: config.settings(),
        bounds: Bounds {
            history_max: u64::from(config.history_max),
            history_age_ms: millis(config.history_age),
            log_max: u64::from(config.log_max),
            log_age_ms: millis(config.log_age),
        },
        admit: SerialPatterns::new(&config.admit),
        places: Some(config.places()),
    }
}

fn recorder(config: &Config) -> Option<Recorder> {
    (config.record_raw > 0).then(|| Recorder {
        max: u64::from(config.record_raw),
        settings: serde_json::Value::Object(config.given_rules.clone()).to_string(),
    })
}

fn spans(config: &Config) -> Spans {
    Spans {
        recorder: SpanRecorder::new(&config.telemetry, config.mqtt.mqtt_trust_traces),
        template: config.mqtt.mqtt_topic.join(",").into(),
        client_id: config.mqtt.client_id().into(),
    }
}

/// Returns what an operator must know although everything works.
fn warning(last: &LastHeartbeat) -> health::Warning {
    health::Warning {
        places: last.places,
        is_quiet: last.is_quiet,
    }
}

fn redis_status(last: LastHeartbeat) -> DependencyStatus {
    let age = if last.redis_up {
        Some(Duration::ZERO)
    } else {
        last.redis_answered_at.map(|answered| answered.elapsed())
    };
    DependencyStatus::new(last.redis_up, age).with_reason(last.redis_problem.or(last.redis_full))
}
