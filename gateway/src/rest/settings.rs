//! `/config`: addresses and topics, with the keys of the replaced system.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::response::Response;
use serde::Serialize;

use super::context::RestContext;
use super::reply;
use crate::error::ApiError;
use crate::listener::connection::ConnectionHandle;

#[derive(Serialize)]
struct ConfigReply {
    api_base_url: String,
    /// Always empty: only detectors need the address of the broker.
    mqtt_broker: &'static str,
    mqtt_topics: Topics,
    frontend_urls: Vec<String>,
    endpoints: Endpoints,
}

/// `data` and `command` are always empty: the topics of cathodic protection are not subscribed.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Topics {
    data: &'static str,
    command: &'static str,
    subtronics: String,
}

#[derive(Serialize)]
struct Endpoints {
    health: String,
    subtronics_telemetry: String,
    subtronics_alerts: String,
    /// Always empty: the test endpoint was removed.
    test_publish: &'static str,
}

/// `GET /config`
pub(crate) async fn show(
    State(context): State<RestContext>,
    connection: Option<Extension<Arc<ConnectionHandle>>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let reader = &context.reader;
    let ingest = reader.with_timeout(reader.store.ingest_status()).await;
    let ingest = ingest.map_err(ApiError::unavailable)?;
    let scheme = connection.map_or("http", |Extension(connection)| connection.scheme());
    let base = base_url(scheme, &headers);
    Ok(reply::ok(&ConfigReply {
        mqtt_broker: "",
        mqtt_topics: Topics {
            data: "",
            command: "",
            subtronics: ingest.topics.join(","),
        },
        frontend_urls: context.origin_texts(),
        endpoints: Endpoints {
            health: format!("{base}/health"),
            subtronics_telemetry: format!(
                "{base}/devices/{{deviceId}}/subtronics/telemetry/latest"
            ),
            subtronics_alerts: format!("{base}/devices/{{deviceId}}/subtronics/alerts"),
            test_publish: "",
        },
        api_base_url: base,
    }))
}

/// Returns the address at which the client reached the gateway, taken from the request.
fn base_url(own_scheme: &str, headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = text("x-forwarded-proto").and_then(|list| list.split(',').next());
    let scheme = match forwarded.map(str::trim) {
        Some("https") => "https",
        _ => own_scheme,
    };
    let host = text(HOST.as_str()).unwrap_or_default();
    format!("{scheme}://{host}")
}
