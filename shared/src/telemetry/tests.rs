use super::*;

fn in_span_of(sampler: Sampler) -> Option<Trace> {
    let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || tracing::info_span!("commit").in_scope(here))
}

#[test]
fn the_place_in_a_trace_is_that_of_the_span() {
    let header = in_span_of(Sampler::AlwaysOn).unwrap().to_string();
    let lengths: Vec<usize> = header.split('-').map(str::len).collect();
    assert_eq!(lengths, [2, 32, 16, 2]);
    assert!(header.starts_with("00-") && header.ends_with("-01"));
    let unsampled = in_span_of(Sampler::AlwaysOff).unwrap();
    assert!(unsampled.to_string().ends_with("-00") && !unsampled.is_sampled());
    assert_eq!(here(), None);
}

#[test]
fn log_levels_and_ratios_are_checked() {
    for good in [
        "info",
        "WARN",
        "off",
        "warn,ingest=debug",
        "ingest::mqtt=trace",
    ] {
        assert!(log_level(good).is_ok(), "{good}");
    }
    for bad in ["info,ingest=loud", "warning", "info,verbose", ""] {
        assert!(log_level(bad).is_err(), "{bad}");
    }
    assert_eq!(ratio("0.25"), Ok(0.25));
    for bad in ["", "2", "-0.1", "NaN"] {
        assert!(ratio(bad).is_err(), "{bad}");
    }
}
