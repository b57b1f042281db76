use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

use super::*;

const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[track_caller]
fn check(text: &str, expected: bool) {
    assert_eq!(text.parse::<TraceContext>().is_ok(), expected, "{text}");
}

#[test]
fn a_traceparent_is_parsed_by_the_rules_of_w3c_and_printed_unchanged() {
    let trace: TraceContext = HEADER.parse().unwrap();
    assert_eq!(trace.to_string(), HEADER);
    assert!(trace.is_sampled());
    check(&HEADER.replace("00-0", "cc-0"), true);
    check(&format!("{}-more", HEADER.replace("00-0", "cc-0")), true);
    check(&format!("{HEADER}-more"), false);
    check(&HEADER.replace("00-0", "ff-0"), false);
    check(&HEADER.to_uppercase(), false);
    check(
        &HEADER.replace("b7ad6b7169203331", "0000000000000000"),
        false,
    );
    check(
        &HEADER.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
        false,
    );
    check("", false);
    check("00-Ω", false);
    let unsampled: TraceContext = HEADER.replace("-01", "-00").parse().unwrap();
    assert!(!unsampled.is_sampled() && unsampled.sampled().is_sampled());
}

#[test]
fn a_device_cannot_force_sampling_unless_it_is_trusted() {
    let remote = RemoteContext::read(HEADER, Some("vendor=1")).unwrap();
    let untrusting = SpanRecorder {
        ratio: Some(0.0),
        trusts_remote: false,
    };
    let begun = untrusting.begin(Some(&remote)).unwrap();
    assert!(!begun.is_sampled());
    assert_ne!(begun.id, remote.trace.id);
    let trusting = SpanRecorder {
        trusts_remote: true,
        ..untrusting
    };
    let begun = trusting.begin(Some(&remote)).unwrap();
    assert!(begun.is_sampled());
    assert_eq!(begun.id, remote.trace.id);
    assert_ne!(begun.span, remote.trace.span);
    let off = SpanRecorder {
        ratio: None,
        trusts_remote: true,
    };
    assert_eq!(off.begin(Some(&remote)), None);
}

#[test]
fn the_configured_share_of_traces_is_sampled() {
    let recorder = |ratio| SpanRecorder {
        ratio: Some(ratio),
        trusts_remote: false,
    };
    let count = |ratio| {
        let recorder = recorder(ratio);
        let begun = (0..10_000).filter_map(|_| recorder.begin(None));
        begun.filter(|trace| trace.is_sampled()).count()
    };
    assert_eq!((count(0.0), count(1.0)), (0, 10_000));
    let tenth = count(0.1);
    assert!((800..1_200).contains(&tenth), "{tenth}");
}

#[test]
fn a_recorded_span_has_the_ids_chosen_when_it_began() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(RootSampler(0.0))))
        .with_id_generator(PresetIds::default())
        .with_simple_exporter(exporter.clone())
        .build();
    opentelemetry::global::set_tracer_provider(provider);
    let remote = RemoteContext::read(HEADER, None).unwrap();
    for trusts_remote in [false, true] {
        let recorder = SpanRecorder {
            ratio: Some(0.0),
            trusts_remote,
        };
        let trace = recorder.begin(Some(&remote)).unwrap().sampled();
        recorder.record(CompletedSpan {
            trace,
            remote: Some(&remote),
            links: &[],
            name: "process".into(),
            kind: SpanKind::Consumer,
            took: Duration::from_secs(1),
            attributes: Vec::new(),
            error: None,
        });
        let span = exporter.get_finished_spans().unwrap().pop().unwrap();
        assert_eq!(span.span_context.trace_id(), trace.id);
        assert_eq!(span.span_context.span_id(), trace.span);
        assert_eq!(span.links.len(), usize::from(!trusts_remote));
        let parent = if trusts_remote {
            remote.trace.span
        } else {
            SpanId::INVALID
        };
        assert_eq!(span.parent_span_id, parent);
    }
}
