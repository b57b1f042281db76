//! The OpenTelemetry resource: the attributes that identify this process in exported telemetry.

use std::sync::LazyLock;

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_semantic_conventions::attribute::{SERVICE_INSTANCE_ID, SERVICE_NAME};

/// A random UUID, as the semantic conventions recommend for `service.instance.id`. It keeps the metrics of replicas apart.
static INSTANCE_ID: LazyLock<String> = LazyLock::new(|| {
    let mut bytes = fastrand::u128(..).to_be_bytes();
    // Version 4, variant 1.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
});

/// Returns the OpenTelemetry resource of this service. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` take precedence.
pub(crate) fn resource(service: &'static str) -> Resource {
    let from_environment = Resource::builder().build();
    let is_given = |key: &'static str| match from_environment.get(&Key::new(key)) {
        // The SDK's placeholder for a service without a name.
        Some(value) => !value.as_str().starts_with("unknown_service"),
        None => false,
    };
    let defaults = [
        (SERVICE_NAME, service),
        (SERVICE_INSTANCE_ID, INSTANCE_ID.as_str()),
    ];
    let missing = defaults.into_iter().filter(|(key, _)| !is_given(key));
    let missing = missing.map(|(key, value)| KeyValue::new(key, value));
    Resource::builder().with_attributes(missing).build()
}
