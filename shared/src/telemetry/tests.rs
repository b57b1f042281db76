use super::*;

fn in_span_of(sampler: Sampler) -> Option<String> {
    let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("commit").in_scope(|| present().map(|trace| trace.to_string()))
    })
}

#[test]
fn traceparent_is_the_w3c_header_of_a_sampled_span_only() {
    let header = in_span_of(Sampler::AlwaysOn).unwrap();
    let lengths: Vec<usize> = header.split('-').map(str::len).collect();
    assert_eq!(lengths, [2, 32, 16, 2]);
    assert!(header.starts_with("00-") && header.ends_with("-01"));
    assert_eq!(in_span_of(Sampler::AlwaysOff), None);
    assert_eq!(present(), None);
}

#[test]
fn log_levels_and_ratios_are_checked() {
    for good in ["info", "warn,ingest=debug"] {
        assert!(log_level(good).is_ok(), "{good}");
    }
    assert!(log_level("info,ingest=loud").is_err());
    assert_eq!(ratio("0.25"), Ok(0.25));
    for bad in ["", "2", "-0.1", "NaN"] {
        assert!(ratio(bad).is_err(), "{bad}");
    }
}
