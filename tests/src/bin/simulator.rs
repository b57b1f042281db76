//! Realistic detectors for a demonstration: many devices on one MQTT connection, each with its own story.
//!
//! The stories are pure functions (`tests::scenario`). This file keeps the time, publishes at QoS 1, counts the
//! acknowledgements, and prints the counts once per second. On Ctrl-C it stops publishing and waits for the
//! acknowledgements.

use std::io::{IsTerminal, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions, Request};
use rumqttc::{NetworkOptions, Outgoing};
use shared::args::{Usage, duration, utc_offset};
use shared::clock::SystemClock;
use shared::secret::Secret;
use shared::tls::TlsSettings;
use tests::scenario::{Detector, PayloadFormat, Scenario, Setting};
use tests::tls_tunnel::{TlsServer, TlsTunnel};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

/// Maximum number of messages that wait for the connection. If the queue is full, the detectors wait.
const QUEUE_MESSAGES: usize = 1000;

/// Maximum number of messages sent without an acknowledgement. The broker may ask for fewer when it accepts the connection.
const WINDOW_MESSAGES: u16 = 1000;

const TLS_SETTINGS: TlsSettings = TlsSettings {
    ca_file: "--mqtt-ca-file",
    cert_file: "",
    key_file: "",
    address: "--mqtt-broker",
    tls_scheme: "mqtts://",
    plain_scheme: "mqtt://",
};

/// Publishes the readings of simulated gas detectors.
#[derive(Debug, Parser)]
#[command(name = "simulator")]
struct Config {
    /// Broker to publish to: `mqtt://host:port`, or `mqtts://host:port` for TLS
    #[arg(long, env = "MQTT_BROKER", value_parser = broker)]
    mqtt_broker: Broker,

    /// File with the authorities that are trusted with `mqtts://` [default: those of the system]
    #[arg(long, env = "MQTT_CA_FILE")]
    mqtt_ca_file: Option<PathBuf>,

    /// Topic to publish on
    #[arg(long, env = "MQTT_TOPIC_SUBTRONICS", default_value = "SubTronics/data")]
    mqtt_topic: String,

    /// User of the broker
    #[arg(long, env = "MQTT_USERNAME", requires = "its_password")]
    mqtt_username: Option<String>,

    /// Password of the user
    #[arg(
        long,
        env = "MQTT_PASSWORD",
        hide_env_values = true,
        requires = "mqtt_username",
        group = "its_password"
    )]
    mqtt_password: Option<Secret<String>>,

    /// File with the password, instead
    #[arg(
        long,
        env = "MQTT_PASSWORD_FILE",
        requires = "mqtt_username",
        group = "its_password"
    )]
    mqtt_password_file: Option<PathBuf>,

    /// Number of detectors
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    devices: u32,

    /// Time between two messages of one detector, such as 5s
    #[arg(long, default_value = "1s", value_parser = positive_duration)]
    interval: Duration,

    /// Messages per second of one detector, instead of an interval
    #[arg(long, conflicts_with = "interval", value_parser = rate)]
    rate: Option<f64>,

    /// Stories to simulate, separated by commas; the detectors take turns [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,

    /// Payload formats, separated by commas; the detectors take turns [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    format: Vec<PayloadFormat>,

    /// How long one story takes before it repeats
    #[arg(long, default_value = "60s", value_parser = positive_duration)]
    cycle: Duration,

    /// How long a silent detector is silent; longer than the silence limit of ingest to be noticed
    #[arg(long, default_value = "200s", value_parser = duration)]
    silence: Duration,

    /// Stop after this time [default: never]
    #[arg(long, value_parser = positive_duration)]
    duration: Option<Duration>,

    /// How long to wait for acknowledgements at the end
    #[arg(long, default_value = "5s", value_parser = duration)]
    drain: Duration,

    /// Prefix of the serials; a number follows
    #[arg(long, default_value = "OTSM-")]
    serial_prefix: String,

    /// Zone of device times that name none
    #[arg(long, default_value = "+05:30", value_parser = utc_offset, allow_hyphen_values = true)]
    device_utc_offset: i32,

    /// Seed of the noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Debug)]
struct Broker {
    host: String,
    port: u16,
    uses_tls: bool,
}

fn broker(text: &str) -> Result<Broker, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let (uses_tls, default_port) = match scheme {
        "mqtt" => (false, 1883),
        "mqtts" => (true, 8883),
        _ => return Err("expected an address such as mqtt://localhost:1883".to_owned()),
    };
    let address = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (
            host,
            port.parse()
                .map_err(|_| "the port is not a number up to 65535")?,
        ),
        _ => (address, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains(['/', '@']) {
        return Err(
            "expected nothing but a host and a port; users have their own flags".to_owned(),
        );
    }
    Ok(Broker {
        host: host.to_owned(),
        port,
        uses_tls,
    })
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| {
        let is_positive = !time.is_zero();
        is_positive
            .then_some(time)
            .ok_or_else(|| "expected more than nothing".to_owned())
    })
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text
        .parse()
        .map_err(|_| "expected a number such as 0.5 or 20")?;
    let is_possible = (0.000_1..=100_000.0).contains(&rate);
    is_possible
        .then_some(rate)
        .ok_or_else(|| "expected 0.0001 to 100000".to_owned())
}

/// What happened so far. Every queued message ends as acknowledged, refused or lost.
#[derive(Debug, Default)]
struct Counters {
    /// Handed to the MQTT client, which may have no connection.
    queued: AtomicU64,
    /// Sent on a connection.
    published: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    /// Dropped when the connection broke: a detector does not keep old readings either.
    lost: AtomicU64,
    is_connected: AtomicBool,
    last_error: Mutex<Option<String>>,
}

impl Counters {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    fn waiting(&self) -> u64 {
        let [queued, acknowledged, refused, lost] =
            [&self.queued, &self.acknowledged, &self.refused, &self.lost]
                .map(|counter| counter.load(Ordering::Relaxed));
        queued.saturating_sub(acknowledged + refused + lost)
    }

    fn set_error(&self, error: Option<String>) {
        self.is_connected.store(error.is_none(), Ordering::Relaxed);
        *self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = error;
    }

    fn line(&self, rate: f64, devices: usize) -> String {
        let [published, acknowledged, refused, lost] = [
            &self.published,
            &self.acknowledged,
            &self.refused,
            &self.lost,
        ]
        .map(|counter| counter.load(Ordering::Relaxed));
        let failed = if refused + lost > 0 {
            format!(", {refused} refused, {lost} lost")
        } else {
            String::new()
        };
        let connection = if self.is_connected.load(Ordering::Relaxed) {
            String::new()
        } else {
            let error = self
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            format!(
                ", no connection: {}",
                error.as_deref().unwrap_or("connecting")
            )
        };
        format!(
            "{devices} detectors: {published} published, {acknowledged} acknowledged{failed}, \
             {rate:.1}/s{connection}"
        )
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let config: Config = match shared::args::parse(std::env::args_os()) {
        Ok(config) => config,
        Err(usage @ Usage::Help(_)) => {
            show(&usage.to_string());
            return Ok(ExitCode::SUCCESS);
        }
        Err(usage) => {
            // Nothing else can be done if the terminal is gone.
            writeln!(std::io::stderr(), "{usage}").ok();
            return Ok(ExitCode::from(usage.exit_code()));
        }
    };
    let interval = config
        .rate
        .map_or(config.interval, |rate| Duration::from_secs_f64(1.0 / rate));
    let detectors = detectors(&config);
    let count = detectors.len();
    let counters = Arc::new(Counters::default());
    let mut tasks = JoinSet::new();
    let address = open_tunnel(&config, &mut tasks).await?;
    let (client, events) = AsyncClient::new(options(&config, &address)?, QUEUE_MESSAGES);
    tasks.spawn(drive(events, Arc::clone(&counters)));
    tasks.spawn(show_progress(Arc::clone(&counters), count));

    let was_stopped = tokio::select! {
        published = publish(&client, &config.mqtt_topic, &detectors, interval, &counters) => {
            published?;
            false
        }
        stopped = stop(config.duration) => stopped?,
        ended = tasks.join_next() => bail!("a task of the simulator ended: {ended:?}"),
    };

    let is_complete = tokio::time::timeout(config.drain, drained(&counters))
        .await
        .is_ok();
    tasks.shutdown().await;
    let waiting = counters.waiting();
    show(&format!(
        "{}, {waiting} without an answer\n",
        counters.line(0.0, count)
    ));
    // Ctrl-C in a terminal stops a broker in the same terminal too.
    Ok(if is_complete || was_stopped {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn detectors(config: &Config) -> Vec<Detector> {
    let setting = Setting {
        started: SystemClock::local(),
        cycle: config.cycle,
        silence: config.silence,
        utc_offset_seconds: config.device_utc_offset,
        seed: config.seed,
    };
    let scenarios = if config.scenario.is_empty() {
        Scenario::ALL.as_slice()
    } else {
        &config.scenario
    };
    let formats = if config.format.is_empty() {
        PayloadFormat::ALL.as_slice()
    } else {
        &config.format
    };
    Detector::fleet(
        config.devices,
        &config.serial_prefix,
        scenarios,
        formats,
        setting,
    )
}

/// Returns where the MQTT client connects to. For a broker with TLS, that is a port of this machine which leads to it.
async fn open_tunnel(config: &Config, tasks: &mut JoinSet<()>) -> Result<(String, u16)> {
    let Broker {
        host,
        port,
        uses_tls,
    } = config.mqtt_broker.clone();
    if !uses_tls {
        return Ok((host, port));
    }
    let server = TlsServer {
        host,
        port,
        authorities: config.mqtt_ca_file.clone(),
    };
    let tunnel = TlsTunnel::open(server, &TLS_SETTINGS).await?;
    let address = (Ipv4Addr::LOCALHOST.to_string(), tunnel.port()?);
    tasks.spawn(async {
        // The caller stops when one of its tasks ends.
        if let Err(err) = tunnel.run().await {
            writeln!(std::io::stderr(), "{err:#}").ok();
        }
    });
    Ok(address)
}

fn options(config: &Config, (host, port): &(String, u16)) -> Result<MqttOptions> {
    let id = format!("simulator-{:08x}", fastrand::u32(..));
    let mut options = MqttOptions::new(id, host.as_str(), *port);
    options.set_keep_alive(Duration::from_secs(30));
    options.set_clean_start(true);
    options.set_outgoing_inflight_upper_limit(WINDOW_MESSAGES);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    let password = match &config.mqtt_password_file {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text =
                text.with_context(|| format!("--mqtt-password-file `{}`", path.display()))?;
            Some(Secret::new(text.trim_end().to_owned()))
        }
        None => config.mqtt_password.clone(),
    };
    if let (Some(username), Some(password)) = (&config.mqtt_username, &password) {
        options.set_credentials(username, password.expose());
    }
    Ok(options)
}

/// Publishes at an even pace, one detector after the other, until it is dropped.
async fn publish(
    client: &AsyncClient,
    topic: &str,
    detectors: &[Detector],
    interval: Duration,
    counters: &Counters,
) -> Result<()> {
    let pace = interval.as_secs_f64() / f64::from(u32::try_from(detectors.len())?);
    let mut round_start = Instant::now();
    for tick in 0_u64.. {
        for (position, detector) in (0_u32..).zip(detectors) {
            let due = round_start + Duration::from_secs_f64(pace * f64::from(position));
            tokio::time::sleep_until(due).await;
            let Some(payload) = detector.payload(tick, SystemClock::local()) else {
                continue;
            };
            client
                .publish(topic, QoS::AtLeastOnce, false, payload)
                .await
                .context("the MQTT client is gone")?;
            Counters::add(&counters.queued, 1);
        }
        // Rounds that were missed without a broker are not repeated.
        let next = round_start + interval;
        let is_late = next + interval < Instant::now();
        round_start = if is_late { Instant::now() } else { next };
    }
    Ok(())
}

/// Keeps the connection and counts the answers; runs until it is dropped.
async fn drive(mut events: EventLoop, counters: Arc<Counters>) {
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);
    let mut pause = Duration::from_millis(100);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                counters.set_error(None);
                pause = Duration::from_millis(100);
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                let is_taken = matches!(
                    ack.reason,
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                );
                let counter = if is_taken {
                    &counters.acknowledged
                } else {
                    &counters.refused
                };
                Counters::add(counter, 1);
            }
            Ok(Event::Outgoing(Outgoing::Publish(_))) => Counters::add(&counters.published, 1),
            Ok(_) => {}
            Err(err) => {
                // Without a session, rumqttc drops these messages without counting them.
                events.clean();
                let given_up = events.pending.drain(..);
                let lost = given_up
                    .filter(|request| matches!(request, Request::Publish(_)))
                    .count();
                Counters::add(&counters.lost, u64::try_from(lost).unwrap_or(u64::MAX));
                counters.set_error(Some(err.to_string()));
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Prints one line per second, on a terminal always the same line; runs until it is dropped.
async fn show_progress(counters: Arc<Counters>, devices: usize) {
    let end = if std::io::stdout().is_terminal() {
        // Clears the rest of the line, in case the last one was longer.
        "\x1b[K\r"
    } else {
        "\n"
    };
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    seconds.tick().await;
    let mut before = (Instant::now(), 0);
    loop {
        seconds.tick().await;
        let now = (Instant::now(), counters.published.load(Ordering::Relaxed));
        let published = u32::try_from(now.1 - before.1).unwrap_or(u32::MAX);
        let rate = f64::from(published) / (now.0 - before.0).as_secs_f64().max(0.001);
        before = now;
        show(&format!("{}{end}", counters.line(rate, devices)));
    }
}

fn show(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    // If the output is closed, the detectors continue.
    written.ok();
}

/// Waits for the end. Returns whether a signal asked for it, not the clock.
async fn stop(duration: Option<Duration>) -> Result<bool> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let time_is_over = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => Ok(true),
        _ = interrupt.recv() => Ok(true),
        () = time_is_over => Ok(false),
    }
}

/// Waits until every message is acknowledged, refused or lost.
async fn drained(counters: &Counters) {
    while counters.waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
