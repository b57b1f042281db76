use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

use super::*;

const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[track_caller]
fn check(text: &str, expected: bool) {
    assert_eq!(text.parse::<Trace>().is_ok(), expected, "{text}");
}

#[test]
fn a_traceparent_is_read_as_w3c_says_and_written_as_it_was() {
    let trace: Trace = HEADER.parse().unwrap();
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
    let unsampled: Trace = HEADER.replace("-01", "-00").parse().unwrap();
    assert!(!unsampled.is_sampled() && unsampled.sampled().is_sampled());
}

#[test]
fn a_device_cannot_force_sampling_unless_it_is_trusted() {
    let origin = Origin::read(HEADER, Some("vendor=1")).unwrap();
    let untrusting = Traces {
        ratio: Some(0.0),
        trusts_origins: false,
    };
    let begun = untrusting.begin(Some(&origin)).unwrap();
    assert!(!begun.is_sampled());
    assert_ne!(begun.id, origin.trace.id);
    let trusting = Traces {
        trusts_origins: true,
        ..untrusting
    };
    let begun = trusting.begin(Some(&origin)).unwrap();
    assert!(begun.is_sampled());
    assert_eq!(begun.id, origin.trace.id);
    assert_ne!(begun.span, origin.trace.span);
    let off = Traces {
        ratio: None,
        trusts_origins: true,
    };
    assert_eq!(off.begin(Some(&origin)), None);
}

#[test]
fn the_share_is_what_it_says() {
    let traces = |ratio| Traces {
        ratio: Some(ratio),
        trusts_origins: false,
    };
    let count = |ratio| {
        let traces = traces(ratio);
        let begun = (0..10_000).filter_map(|_| traces.begin(None));
        begun.filter(|trace| trace.is_sampled()).count()
    };
    assert_eq!((count(0.0), count(1.0)), (0, 10_000));
    let tenth = count(0.1);
    assert!((800..1_200).contains(&tenth), "{tenth}");
}

#[test]
fn a_span_has_the_ids_that_were_given_out_before() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Root(0.0))))
        .with_id_generator(Ids::default())
        .with_simple_exporter(exporter.clone())
        .build();
    opentelemetry::global::set_tracer_provider(provider);
    let origin = Origin::read(HEADER, None).unwrap();
    for trusts_origins in [false, true] {
        let traces = Traces {
            ratio: Some(0.0),
            trusts_origins,
        };
        let trace = traces.begin(Some(&origin)).unwrap().sampled();
        traces.tell(Done {
            trace,
            origin: Some(&origin),
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
        assert_eq!(span.links.len(), usize::from(!trusts_origins));
        let parent = if trusts_origins {
            origin.trace.span
        } else {
            SpanId::INVALID
        };
        assert_eq!(span.parent_span_id, parent);
    }
}
