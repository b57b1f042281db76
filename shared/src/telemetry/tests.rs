use opentelemetry_sdk::trace::Sampler;

use super::*;

fn in_span_of(sampler: Sampler) -> Option<TraceContext> {
    let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("commit").in_scope(current_trace)
    })
}

#[test]
fn the_trace_context_is_that_of_the_current_span() {
    let header = in_span_of(Sampler::AlwaysOn).unwrap().to_string();
    let lengths: Vec<usize> = header.split('-').map(str::len).collect();
    assert_eq!(lengths, [2, 32, 16, 2]);
    assert!(header.starts_with("00-") && header.ends_with("-01"));
    let unsampled = in_span_of(Sampler::AlwaysOff).unwrap();
    assert!(unsampled.to_string().ends_with("-00") && !unsampled.is_sampled());
    assert_eq!(current_trace(), None);
}
