use clap::Parser;
use proptest::prelude::*;

use super::*;
use crate::telemetry::config::TelemetryConfig;
use crate::telemetry::otlp::{metric_exporter, span_exporter};

#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

fn settings(flags: &[&str]) -> Result<TelemetryConfig, clap::Error> {
    let line = ["test"].iter().chain(flags);
    Settings::try_parse_from(line).map(|settings| settings.telemetry)
}

#[test]
fn the_user_part_is_neither_printed_nor_sent() {
    let endpoint: Endpoint = "https://u:hunter2@collector:4317/a?b#c".parse().unwrap();
    assert_eq!(endpoint.as_str(), "https://collector:4317/a?b");
    assert_eq!(endpoint.to_string(), "https://***@collector:4317/a?b#c");
    assert_eq!(format!("{endpoint:?}"), endpoint.to_string());
    let endpoint: Endpoint = "http://collector:4317".parse().unwrap();
    assert_eq!(endpoint.as_str(), "http://collector:4317");
    assert_eq!(endpoint.to_string(), "http://collector:4317");
}

#[test]
fn an_invalid_endpoint_is_refused_and_its_text_is_not_repeated() {
    let long = format!("http://u:hunter2@collector/{}", "a".repeat(3_000));
    for bad in [
        "foo bar",
        "",
        "collector:4317",
        "unix:///hunter2",
        "http://",
        "http://u:hunter2@:4317",
        "http://u:hunter2@a b",
        "grpc://u:hunter2@collector",
        &long,
    ] {
        let refused = bad.parse::<Endpoint>().unwrap_err();
        assert!(!refused.contains("hunter2"), "{bad}: {refused}");
    }
}

#[test]
fn a_setting_of_one_signal_overrides_the_setting_of_both() {
    let plain = settings(&[]).unwrap().collector;
    assert_eq!(plain.traces_endpoint().as_str(), "http://127.0.0.1:4317");
    assert_eq!(plain.metrics_endpoint(), plain.traces_endpoint());
    assert_eq!(plain.traces_timeout(), FLUSH_TIMEOUT);
    assert_eq!(plain.metrics_timeout(), FLUSH_TIMEOUT);
    let given = settings(&[
        "--otel-exporter-otlp-endpoint=http://both:1",
        "--otel-exporter-otlp-metrics-endpoint=http://metrics:2",
        "--otel-exporter-otlp-timeout=1500",
        "--otel-exporter-otlp-traces-timeout=20",
    ]);
    let given = given.unwrap().collector;
    assert_eq!(given.traces_endpoint().as_str(), "http://both:1");
    assert_eq!(given.metrics_endpoint().as_str(), "http://metrics:2");
    assert_eq!(given.traces_timeout(), Duration::from_millis(20));
    assert_eq!(given.metrics_timeout(), Duration::from_millis(1_500));
    for bad in ["0", "3s", "-1", "1e3"] {
        let flag = format!("--otel-exporter-otlp-timeout={bad}");
        assert!(settings(&[&flag]).is_err(), "{bad}");
    }
}

fn urls() -> impl Strategy<Value = String> {
    let parts = ("https?|HTTP", "[!-~]{0,8}", "[a-z0-9.%\\[\\]:*_-]{1,12}");
    let rest = "[ -~é]{0,20}";
    (parts, any::<bool>(), rest).prop_map(|((scheme, user, host), has_user, rest)| {
        let at = if has_user { "@" } else { "" };
        let user = if has_user { user } else { String::new() };
        format!("{scheme}://{user}{at}{host}{rest}")
    })
}

fn exporters_can_be_built(url: &str) -> Result<bool, clap::Error> {
    let flag = format!("--otel-exporter-otlp-endpoint={url}");
    let config = settings(&[&flag])?;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    let _inside = runtime.enter();
    Ok(span_exporter(&config.collector).is_ok() && metric_exporter(&config.collector).is_ok())
}

#[test]
fn usual_endpoints_are_accepted() {
    for url in [
        "http://127.0.0.1:4317",
        "http://[::1]:4317",
        "http://otel_collector.monitoring.svc:4317/",
        "https://collector.example",
        "https://10.0.0.1:4317",
        "https://[fd00::1]:4317",
    ] {
        assert!(exporters_can_be_built(url).unwrap(), "{url}");
    }
}

proptest! {
    #[test]
    fn exporters_can_be_built_for_every_accepted_endpoint(url in urls()) {
        prop_assert!(exporters_can_be_built(&url).unwrap_or(true), "{url}");
    }
}
