//! Traces of what happens far too often to build a span for each: messages and deadlines.
//!
//! Each gets ids, sixteen bytes of chance, and its share of the sampling is decided by them at once. Whether it is told all
//! the same, because it changed an alarm, failed or was slow, is known when it is done: only then a span is built, with the
//! ids that its event and its lines in the alarm log already carry.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt,
    TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, SamplingResult, ShouldSample,
};

use crate::telemetry::{Exporter, TelemetryConfig};

/// What takes longer than this is always told.
pub const SLOW: Duration = Duration::from_secs(1);

/// Links one span may have.
pub const MAX_LINKS: usize = 128;

/// Position in a trace; its text is W3C's `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    id: TraceId,
    span: SpanId,
    sampled: bool,
}

impl Trace {
    /// The same, to be told.
    #[must_use]
    pub fn sampled(self) -> Self {
        Self {
            sampled: true,
            ..self
        }
    }

    /// The id of the whole trace.
    #[must_use]
    pub fn id(self) -> TraceId {
        self.id
    }

    /// The id of the span.
    #[must_use]
    pub(crate) fn span(self) -> SpanId {
        self.span
    }

    /// Whether it is to be told.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.sampled
    }

    /// Where a span stands; `None` for none.
    pub(crate) fn of(span: &SpanContext) -> Option<Self> {
        span.is_valid().then(|| Self {
            id: span.trace_id(),
            span: span.span_id(),
            sampled: span.is_sampled(),
        })
    }

    fn context(self, state: TraceState) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        SpanContext::new(self.id, self.span, flags, true, state)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{}-{flags:02x}", self.id, self.span)
    }
}

/// It is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent")]
pub struct NoTrace;

impl FromStr for Trace {
    type Err = NoTrace;

    /// Reads what a device or another service wrote: any version but `ff`, whose four first parts are as in `00`.
    fn from_str(text: &str) -> Result<Self, NoTrace> {
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let part = parts.next().filter(|part| part.len() == length);
            part.filter(|part| part.bytes().all(is_hex)).ok_or(NoTrace)
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let trace = TraceId::from_hex(trace).map_err(|_| NoTrace)?;
        let span = SpanId::from_hex(span).map_err(|_| NoTrace)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NoTrace)?;
        let has_more = parts.next().is_some();
        if version == "ff"
            || (version == "00" && has_more)
            || trace == TraceId::INVALID
            || span == SpanId::INVALID
        {
            return Err(NoTrace);
        }
        Ok(Self {
            id: trace,
            span,
            sampled: flags & 1 == 1,
        })
    }
}

/// What came with a message: where it was sent from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    trace: Trace,
    state: TraceState,
}

impl Origin {
    /// Reads W3C's two fields; a `tracestate` that cannot be read is left out, as W3C says.
    #[must_use]
    pub fn read(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        /// What W3C wants to be passed on at least; longer is nobody's need.
        const MAX_STATE: usize = 512;
        let state = tracestate.filter(|state| state.len() <= MAX_STATE);
        let state = state.and_then(|state| TraceState::from_str(state).ok());
        Some(Self {
            trace: traceparent.parse().ok()?,
            state: state.unwrap_or_default(),
        })
    }

    fn context(&self) -> SpanContext {
        self.trace.context(self.state.clone())
    }
}

/// Begins traces.
#[derive(Clone, Debug)]
pub struct Traces {
    /// Share that is sampled; `None`: no trace is wanted at all.
    ratio: Option<f64>,
    trusts_origins: bool,
}

impl Traces {
    /// As configured. `trusts_origins`: a message's origin is continued and its sampling obeyed, else it is linked.
    #[must_use]
    pub fn new(config: &TelemetryConfig, trusts_origins: bool) -> Self {
        let is_wanted = config.otel_exporter != Exporter::None;
        Self {
            ratio: is_wanted.then_some(config.otel_traces_sampler_arg),
            trusts_origins,
        }
    }

    /// Begins none; tells what was begun elsewhere.
    #[must_use]
    pub fn none() -> Self {
        Self {
            ratio: None,
            trusts_origins: false,
        }
    }

    /// Where something that begins now stands; `None` where no trace is wanted.
    #[must_use]
    pub fn begin(&self, origin: Option<&Origin>) -> Option<Trace> {
        let ratio = self.ratio?;
        let span = SpanId::from(fastrand::u64(1..));
        if let (Some(origin), true) = (origin, self.trusts_origins) {
            let Origin { trace, .. } = origin;
            return Some(Trace { span, ..*trace });
        }
        let id = TraceId::from(fastrand::u128(1..));
        let sampled = takes(ratio, id);
        Some(Trace { id, span, sampled })
    }

    /// Tells something that is done, if it is sampled.
    pub fn tell(&self, done: Done<'_>) {
        if !done.trace.sampled {
            return;
        }
        let origin = done.origin.map(Origin::context);
        let (parent, linked) = if self.trusts_origins {
            (origin, None)
        } else {
            (None, origin)
        };
        let parent = parent.unwrap_or_else(|| {
            // Of a span without a parent the library makes the trace id: the generator gives it ours.
            SpanContext::empty_context()
        });
        let links = linked.into_iter().chain(done.links.iter().map(|link| {
            let state = TraceState::default();
            link.context(state)
        }));
        let links = links.take(MAX_LINKS).map(Link::with_context);
        let builder = SpanBuilder::from_name(done.name)
            .with_kind(done.kind)
            .with_start_time(opentelemetry::time::now() - done.took)
            .with_attributes(done.attributes)
            .with_links(links.collect());
        // A trusted origin that did not sample does not forbid what must be told.
        let parent = parent_to_obey(&parent);
        let mut span = with_ids(done.trace, || {
            let context = Context::new().with_remote_span_context(parent);
            opentelemetry::global::tracer("subtronics").build_with_context(builder, &context)
        });
        if let Some(error) = done.error {
            span.set_status(Status::error(error));
        }
        span.end();
    }
}

fn parent_to_obey(parent: &SpanContext) -> SpanContext {
    SpanContext::new(
        parent.trace_id(),
        parent.span_id(),
        TraceFlags::SAMPLED,
        true,
        parent.trace_state().clone(),
    )
}

/// Something that is done.
#[derive(Debug)]
pub struct Done<'a> {
    /// Where it stands.
    pub trace: Trace,
    /// Where it came from.
    pub origin: Option<&'a Origin>,
    /// What else belongs to it, at most [`MAX_LINKS`].
    pub links: &'a [Trace],
    /// A template, never a device or a topic.
    pub name: Cow<'static, str>,
    /// Its role.
    pub kind: SpanKind,
    /// From its beginning to now.
    pub took: Duration,
    /// By the names of the semantic conventions.
    pub attributes: Vec<KeyValue>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Whether this share of all traces has it: by the trace id, as the library's own sampler.
#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more precision"
)]
fn takes(ratio: f64, trace: TraceId) -> bool {
    let bytes = trace.to_bytes();
    let low = bytes[8..]
        .iter()
        .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let place = (low >> 1) as f64 / (u64::MAX >> 1) as f64;
    place < ratio || ratio >= 1.0
}

/// Samples a share of what begins here, and everything that [`Traces::tell`] tells.
#[derive(Clone, Debug)]
pub(crate) struct Root(pub(crate) f64);

impl ShouldSample for Root {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if NEXT.get().is_some() {
            return SamplingResult {
                decision: SamplingDecision::RecordAndSample,
                attributes: Vec::new(),
                trace_state: TraceState::default(),
            };
        }
        Sampler::TraceIdRatioBased(self.0)
            .should_sample(parent, trace, name, kind, attributes, links)
    }
}

thread_local! {
    static NEXT: Cell<Option<Trace>> = const { Cell::new(None) };
}

/// Makes ids, and those of [`Traces::tell`] as they were given out before.
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        match NEXT.get() {
            Some(next) => next.id,
            None => self.0.new_trace_id(),
        }
    }

    fn new_span_id(&self) -> SpanId {
        match NEXT.get() {
            Some(next) => next.span,
            None => self.0.new_span_id(),
        }
    }
}

fn with_ids<T>(trace: Trace, build: impl FnOnce() -> T) -> T {
    NEXT.set(Some(trace));
    let result = build();
    NEXT.set(None);
    result
}

#[cfg(test)]
mod tests;
