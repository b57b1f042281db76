//! `/config`: where things are, with the original's keys.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::response::Response;
use serde::Serialize;

use crate::error::ApiError;
use crate::rest::{Rest, reply};

#[derive(Serialize)]
struct Settings {
    api_base_url: String,
    /// Never told: it is nobody's business but that of the detectors.
    mqtt_broker: &'static str,
    mqtt_topics: Topics,
    frontend_urls: Vec<String>,
    endpoints: Endpoints,
}

/// The two topics of cathodic protection are not subscribed (contract D22).
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
    /// There is none (contract D9).
    test_publish: &'static str,
}

/// `GET /config`
pub(crate) async fn show(
    State(rest): State<Rest>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let ingest = rest.reads.within(rest.reads.store.ingest_status()).await;
    let ingest = ingest.map_err(ApiError::away)?;
    let base = base_url(&headers);
    Ok(reply::ok(&Settings {
        mqtt_broker: "",
        mqtt_topics: Topics {
            data: "",
            command: "",
            subtronics: ingest.topics.join(","),
        },
        frontend_urls: rest.origin_texts(),
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

/// The address under which the client reached us, which only its request tells.
fn base_url(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = text("x-forwarded-proto").and_then(|list| list.split(',').next());
    let scheme = match forwarded.map(str::trim) {
        Some("https") => "https",
        _ => "http",
    };
    let host = text(HOST.as_str()).unwrap_or_default();
    format!("{scheme}://{host}")
}
