//! Traces of messages and deadlines. They are too frequent to build a span for each.
//!
//! Each trace gets random ids when it begins, and its trace id decides at once whether it is sampled. Alarm changes, errors and
//! slow messages are always recorded. They are known only at the end, so the span is built then. It gets the ids that its event
//! and its alarm log lines already carry.

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

use crate::telemetry::config::{Exporter, TelemetryConfig};

/// A message that takes longer than this is always recorded.
pub const SLOW: Duration = Duration::from_secs(1);

/// Maximum number of links of one span.
pub const MAX_LINKS: usize = 128;

/// Ids of a trace and of one of its spans. Its text form is the W3C `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    id: TraceId,
    span: SpanId,
    sampled: bool,
}

impl TraceContext {
    /// Returns the same ids, marked as sampled.
    #[must_use]
    pub fn sampled(self) -> Self {
        Self {
            sampled: true,
            ..self
        }
    }

    /// Returns the id of the trace.
    #[must_use]
    pub fn trace_id(self) -> TraceId {
        self.id
    }

    /// Returns the id of the span.
    #[must_use]
    pub(crate) fn span_id(self) -> SpanId {
        self.span
    }

    /// Whether the span is recorded and exported.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.sampled
    }

    /// Takes the ids from an OpenTelemetry span context; `None` if it belongs to no span.
    pub(crate) fn from_span_context(span: &SpanContext) -> Option<Self> {
        span.is_valid().then(|| Self {
            id: span.trace_id(),
            span: span.span_id(),
            sampled: span.is_sampled(),
        })
    }

    fn span_context(self, state: TraceState) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        SpanContext::new(self.id, self.span, flags, true, state)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{}-{flags:02x}", self.id, self.span)
    }
}

/// The text is not a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct TraceparentError;

impl FromStr for TraceContext {
    type Err = TraceparentError;

    /// Parses a `traceparent` of any version but `ff`, if its first four parts have the format of version `00` (W3C Trace
    /// Context, section 4.3).
    fn from_str(text: &str) -> Result<Self, TraceparentError> {
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let part = parts.next().filter(|part| part.len() == length);
            part.filter(|part| part.bytes().all(is_hex))
                .ok_or(TraceparentError)
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let trace = TraceId::from_hex(trace).map_err(|_| TraceparentError)?;
        let span = SpanId::from_hex(span).map_err(|_| TraceparentError)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| TraceparentError)?;
        let has_more = parts.next().is_some();
        if version == "ff"
            || (version == "00" && has_more)
            || trace == TraceId::INVALID
            || span == SpanId::INVALID
        {
            return Err(TraceparentError);
        }
        Ok(Self {
            id: trace,
            span,
            sampled: flags & 1 == 1,
        })
    }
}

/// The trace context received with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteContext {
    trace: TraceContext,
    state: TraceState,
}

impl RemoteContext {
    /// Parses the two W3C fields. A `tracestate` that cannot be parsed is ignored, as W3C Trace Context requires.
    #[must_use]
    pub fn read(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        /// Maximum length of a `tracestate`. W3C Trace Context asks to propagate at least this many characters.
        const MAX_STATE: usize = 512;
        let state = tracestate.filter(|state| state.len() <= MAX_STATE);
        let state = state.and_then(|state| TraceState::from_str(state).ok());
        Some(Self {
            trace: traceparent.parse().ok()?,
            state: state.unwrap_or_default(),
        })
    }

    fn span_context(&self) -> SpanContext {
        self.trace.span_context(self.state.clone())
    }
}

/// Begins traces and records the spans of those that are sampled.
#[derive(Clone, Debug)]
pub struct SpanRecorder {
    /// Share of the traces begun here that are sampled; `None`: no traces are begun.
    ratio: Option<f64>,
    /// Whether the trace received with a message is continued with its sampling decision. Otherwise it is only linked.
    trusts_remote: bool,
}

impl SpanRecorder {
    /// Creates a recorder. If `trusts_remote`, the trace received with a message is continued with its sampling decision.
    /// Otherwise it is only linked.
    #[must_use]
    pub fn new(config: &TelemetryConfig, trusts_remote: bool) -> Self {
        let is_enabled = config.otel_exporter != Exporter::None;
        Self {
            ratio: is_enabled.then_some(config.otel_traces_sampler_arg),
            trusts_remote,
        }
    }

    /// Creates a recorder that begins no traces. It records spans of traces that were begun elsewhere.
    #[must_use]
    pub fn disabled() -> Self {
        Self {
            ratio: None,
            trusts_remote: false,
        }
    }

    /// Begins a span now, in a new trace or in a trusted remote one. Returns `None` if no traces are begun.
    #[must_use]
    pub fn begin(&self, remote: Option<&RemoteContext>) -> Option<TraceContext> {
        let ratio = self.ratio?;
        let span = SpanId::from(fastrand::u64(1..));
        if let (Some(remote), true) = (remote, self.trusts_remote) {
            return Some(TraceContext {
                span,
                ..remote.trace
            });
        }
        let id = TraceId::from(fastrand::u128(1..));
        let sampled = is_in_sample(ratio, id);
        Some(TraceContext { id, span, sampled })
    }

    /// Records a completed span, if it is sampled.
    pub fn record(&self, completed: CompletedSpan<'_>) {
        if !completed.trace.sampled {
            return;
        }
        let remote = completed.remote.map(RemoteContext::span_context);
        let (parent, linked) = if self.trusts_remote {
            (remote, None)
        } else {
            (None, remote)
        };
        let parent = parent.unwrap_or_else(|| {
            // Without a parent, the SDK takes the ids from [`PresetIds`].
            SpanContext::empty_context()
        });
        let links = linked.into_iter().chain(completed.links.iter().map(|link| {
            let state = TraceState::default();
            link.span_context(state)
        }));
        let links = links.take(MAX_LINKS).map(Link::with_context);
        let builder = SpanBuilder::from_name(completed.name)
            .with_kind(completed.kind)
            .with_start_time(opentelemetry::time::now() - completed.took)
            .with_attributes(completed.attributes)
            .with_links(links.collect());
        // A remote trace that is not sampled must not suppress a span that is always recorded.
        let parent = as_sampled(&parent);
        let mut span = with_preset_ids(completed.trace, || {
            let context = Context::new().with_remote_span_context(parent);
            opentelemetry::global::tracer("subtronics").build_with_context(builder, &context)
        });
        if let Some(error) = completed.error {
            span.set_status(Status::error(error));
        }
        span.end();
    }
}

fn as_sampled(parent: &SpanContext) -> SpanContext {
    SpanContext::new(
        parent.trace_id(),
        parent.span_id(),
        TraceFlags::SAMPLED,
        true,
        parent.trace_state().clone(),
    )
}

/// A span that has ended.
#[derive(Debug)]
pub struct CompletedSpan<'a> {
    /// Ids of the trace and the span.
    pub trace: TraceContext,
    /// The trace context received with the message.
    pub remote: Option<&'a RemoteContext>,
    /// Other spans to link. At most [`MAX_LINKS`] links are recorded.
    pub links: &'a [TraceContext],
    /// Name with few possible values: a template, never a device or a topic.
    pub name: Cow<'static, str>,
    /// Kind of the span in the semantic conventions.
    pub kind: SpanKind,
    /// Duration of the span, which ends now.
    pub took: Duration,
    /// Attributes, named by the semantic conventions.
    pub attributes: Vec<KeyValue>,
    /// Reason of the failure, if the work failed.
    pub error: Option<String>,
}

/// Whether a trace is in a sample with this ratio. The trace id decides, as in the SDK's
/// [`Sampler::TraceIdRatioBased`].
#[expect(
    clippy::cast_precision_loss,
    reason = "a ratio needs no more precision"
)]
fn is_in_sample(ratio: f64, trace: TraceId) -> bool {
    let bytes = trace.to_bytes();
    let low = bytes[8..]
        .iter()
        .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let fraction = (low >> 1) as f64 / (u64::MAX >> 1) as f64;
    fraction < ratio || ratio >= 1.0
}

/// Samples a share of the traces that begin in this process, and every span of [`SpanRecorder::record`].
#[derive(Clone, Debug)]
pub(crate) struct RootSampler(pub(crate) f64);

impl ShouldSample for RootSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if PRESET.get().is_some() {
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
    /// Ids of the span that [`SpanRecorder::record`] is building.
    static PRESET: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// Generates random ids, except for spans of [`SpanRecorder::record`], which already have ids.
#[derive(Debug, Default)]
pub(crate) struct PresetIds(RandomIdGenerator);

impl IdGenerator for PresetIds {
    fn new_trace_id(&self) -> TraceId {
        match PRESET.get() {
            Some(preset) => preset.id,
            None => self.0.new_trace_id(),
        }
    }

    fn new_span_id(&self) -> SpanId {
        match PRESET.get() {
            Some(preset) => preset.span,
            None => self.0.new_span_id(),
        }
    }
}

fn with_preset_ids<T>(trace: TraceContext, build: impl FnOnce() -> T) -> T {
    PRESET.set(Some(trace));
    let result = build();
    PRESET.set(None);
    result
}

#[cfg(test)]
mod tests;
