//! Address and timeouts of the OpenTelemetry collector.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use rustls::pki_types::DnsName;
use url::{Host, Url};

use super::flush::FLUSH_TIMEOUT;
use crate::secret::without_user;

/// The collector that receives spans and metrics over OTLP. The settings are those of the OpenTelemetry specification. All but
/// the first are hidden in `--help`, because few need them.
#[derive(Args, Clone, Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "flags are named after them, and variables by the standard"
)]
pub struct CollectorConfig {
    /// Address of the OpenTelemetry collector (OTLP over gRPC), for `--otel-exporter otlp`
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        default_value = "http://127.0.0.1:4317",
        hide_env_values = true
    )]
    otel_exporter_otlp_endpoint: Endpoint,
    /// Address of a separate collector for spans
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        hide = true,
        hide_env_values = true
    )]
    otel_exporter_otlp_traces_endpoint: Option<Endpoint>,
    /// Address of a separate collector for metrics
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        hide = true,
        hide_env_values = true
    )]
    otel_exporter_otlp_metrics_endpoint: Option<Endpoint>,
    /// How long an export may take, in milliseconds
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TIMEOUT", hide = true, value_parser = milliseconds)]
    otel_exporter_otlp_timeout: Option<Duration>,
    /// How long an export of spans may take, in milliseconds
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", hide = true, value_parser = milliseconds)]
    otel_exporter_otlp_traces_timeout: Option<Duration>,
    /// How long an export of metrics may take, in milliseconds
    #[arg(long, env = "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", hide = true, value_parser = milliseconds)]
    otel_exporter_otlp_metrics_timeout: Option<Duration>,
}

impl CollectorConfig {
    /// Returns the address of the collector for spans.
    pub(crate) fn traces_endpoint(&self) -> &Endpoint {
        let separate = self.otel_exporter_otlp_traces_endpoint.as_ref();
        separate.unwrap_or(&self.otel_exporter_otlp_endpoint)
    }

    /// Returns the address of the collector for metrics.
    pub(crate) fn metrics_endpoint(&self) -> &Endpoint {
        let separate = self.otel_exporter_otlp_metrics_endpoint.as_ref();
        separate.unwrap_or(&self.otel_exporter_otlp_endpoint)
    }

    /// Returns the time limit of an export of spans.
    pub(crate) fn traces_timeout(&self) -> Duration {
        let separate = self.otel_exporter_otlp_traces_timeout;
        separate
            .or(self.otel_exporter_otlp_timeout)
            .unwrap_or(FLUSH_TIMEOUT)
    }

    /// Returns the time limit of an export of metrics.
    pub(crate) fn metrics_timeout(&self) -> Duration {
        let separate = self.otel_exporter_otlp_metrics_timeout;
        separate
            .or(self.otel_exporter_otlp_timeout)
            .unwrap_or(FLUSH_TIMEOUT)
    }
}

/// Parses a whole number of milliseconds, the format of times in the OpenTelemetry specification.
fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.trim().parse() {
        Ok(millis @ 1..=3_600_000_u64) => Ok(Duration::from_millis(millis)),
        _ => Err("expected milliseconds, from 1 to 3600000".into()),
    }
}

/// An `http://` or `https://` URL. Its user and password are not printed. They are not sent either: gRPC has no field for them.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL without user, password and fragment.
    address: String,
    /// The URL for display, with `***` in place of user and password.
    display: String,
}

impl Endpoint {
    /// Returns the URL for the exporter, without user and password.
    pub(super) fn as_str(&self) -> &str {
        &self.address
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// Maximum length of the URL; the gRPC client accepts far longer ones.
        const MAX_BYTES: usize = 2_048;
        let mut url = Url::parse(text).map_err(|err| format!("not a URL: {err}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the scheme must be http:// or https://".to_owned());
        }
        // `Url` accepts names that the client rejects and that no certificate can contain.
        if let Some(Host::Domain(name)) = url.host()
            && DnsName::try_from(name).is_err()
        {
            return Err("the host is not a valid name".to_owned());
        }
        let display = without_user(url.as_str().trim_end_matches('/'));
        let is_user_removed = url.set_username("").and(url.set_password(None)).is_ok();
        url.set_fragment(None);
        let address = url.as_str().trim_end_matches('/').to_owned();
        if !is_user_removed || address.len() > MAX_BYTES {
            return Err("the URL is too long, or has no host".to_owned());
        }
        Ok(Self { address, display })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

#[cfg(test)]
mod tests;
