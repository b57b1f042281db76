//! An OpenTelemetry collector for tests: it receives OTLP over gRPC and keeps everything.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
pub use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A running collector. It ends when this is dropped.
#[derive(Debug)]
pub struct Collector {
    port: u16,
    received: Receiver,
    _tasks: JoinSet<Result<(), tonic::transport::Error>>,
}

#[derive(Clone, Debug, Default)]
struct Receiver {
    // A std mutex: held for one append or copy.
    inner: Arc<Mutex<Received>>,
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    metrics: BTreeSet<String>,
    exporters: BTreeSet<(String, String)>,
}

impl Collector {
    /// Listens on a free port of the loopback interface.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("a port for the collector")?;
        let port = listener.local_addr()?.port();
        let received = Receiver::default();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(received.clone()))
            .add_service(MetricsServiceServer::new(received.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let mut tasks = JoinSet::new();
        tasks.spawn(server);
        Ok(Self {
            port,
            received,
            _tasks: tasks,
        })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Flags of a service that sends everything of this share here.
    #[must_use]
    pub fn flags(&self, share: &str) -> String {
        format!(
            "--otel-exporter=otlp --otel-exporter-otlp-endpoint=http://127.0.0.1:{} --otel-traces-sampler-arg={share}",
            self.port
        )
    }

    /// Returns every span received so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.received.lock().spans.clone()
    }

    /// Returns the names of all metrics received so far.
    #[must_use]
    pub fn metrics(&self) -> BTreeSet<String> {
        self.received.lock().metrics.clone()
    }

    /// Returns `service.name` and `service.instance.id` of every process that exported metrics.
    #[must_use]
    pub fn exporters(&self) -> BTreeSet<(String, String)> {
        self.received.lock().exporters.clone()
    }
}

impl Receiver {
    fn lock(&self) -> std::sync::MutexGuard<'_, Received> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|r| r.scope_spans);
        self.lock()
            .spans
            .extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let resources = request.into_inner().resource_metrics;
        let mut received = self.lock();
        for resource in resources {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let of = |name| text_of(&attributes, name);
            received
                .exporters
                .insert((of("service.name"), of("service.instance.id")));
            let scopes = resource.scope_metrics.into_iter();
            let metrics = scopes.flat_map(|scope| scope.metrics);
            received.metrics.extend(metrics.map(|metric| metric.name));
        }
        drop(received);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// Returns an attribute of a span as text; empty if it is missing.
#[must_use]
pub fn attribute(span: &Span, name: &str) -> String {
    text_of(&span.attributes, name)
}

fn text_of(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|pair| pair.key == name);
    match found.and_then(|pair| pair.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        _ => String::new(),
    }
}
