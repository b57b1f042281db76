//! REST as the front ends use it: errors, trailing slashes, CORS and queries.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::eventually::eventually;
use tests::http;
use tests::stack::{Plan, Stack};

const SERIAL: &str = "OTSM-0001";
const LATEST: &str = "/devices/OTSM-0001/subtronics/telemetry/latest";

async fn with_a_device() -> Result<Stack> {
    let stack = Plan::default()
        .gateway_flags("--allowed-origins=https://dashboard.example,https://*.preview.example")
        .start()
        .await?;
    stack.device(SERIAL).send(350).await?;
    stack.shows(SERIAL, 350).await?;
    Ok(stack)
}

#[tokio::test]
async fn errors_carry_the_same_text_twice_and_the_right_status() -> Result<()> {
    let stack = with_a_device().await?;
    let unknown = "Device not found";
    for (method, path, body, status, text) in [
        (
            "GET",
            "/devices/OTSM-9999/subtronics/telemetry/latest",
            "",
            404,
            unknown,
        ),
        (
            "GET",
            "/devices/OTSM-9999/subtronics/alerts",
            "",
            404,
            unknown,
        ),
        ("GET", "/api/devices/OTSM-9999", "", 404, unknown),
        ("GET", "/api/devices/OTSM-9999/history", "", 404, unknown),
        (
            "POST",
            "/devices/OTSM-0001/subtronics/alerts/alarm1_none/acknowledge",
            "{}",
            404,
            "Alert not found",
        ),
        (
            "POST",
            "/devices/OTSM-9999/subtronics/alerts/alarm1_none/acknowledge",
            "{}",
            404,
            "Alert not found",
        ),
        ("GET", "/alarm-logs?start_date=yesterday", "", 400, ""),
        ("GET", "/alarm-logs?limit=many", "", 400, ""),
        (
            "GET",
            "/devices/OTSM-0001/alarm-logs?end_date=2026-13-45",
            "",
            400,
            "",
        ),
        ("GET", "/alarm-logs/statistics?start_date=x", "", 400, ""),
        ("GET", "/nowhere", "", 404, ""),
        // Defect 21 of the replaced system: an endpoint for tests injected alarms.
        ("POST", "/test/subtronics/OTSM-0001", "", 404, ""),
        ("POST", "/test/subtronics/OTSM-0001", "{}", 404, ""),
        // Defect 23: a command was lost behind a 200.
        (
            "POST",
            "/subtronic/devices/OTSM-0001/commands",
            "{}",
            404,
            "",
        ),
        ("GET", "/subtronic/devices/OTSM-0001/data", "", 404, ""),
        ("GET", "/api/alarms/triggers/7/", "", 404, ""),
        ("POST", "/api/alarms/", "{}", 404, ""),
        ("POST", "/api/devices", "{}", 404, ""),
    ] {
        let headers = [("content-type", "application/json")];
        let port = stack.gateways[0].port();
        let answer = http::send(port, method, path, &headers, body.as_bytes()).await?;
        assert!(
            answer
                .header("content-type")
                .starts_with("application/json"),
            "{method} {path}: {answer:?}"
        );
        let body = answer
            .expect(status)
            .with_context(|| format!("{method} {path}"))?;
        assert!(body["error"].is_string(), "{method} {path}: {body}");
        assert_eq!(body["error"], body["error_message"], "{method} {path}");
        if !text.is_empty() {
            assert_eq!(body["error"], text, "{method} {path}");
        }
    }
    // These requests have stored nothing.
    let list = stack.get("/api/devices").await?.expect(200)?;
    assert_eq!(list["count"], 1, "{list}");
    stack.pass()
}

#[tokio::test]
async fn an_unreadable_acknowledgement_is_refused() -> Result<()> {
    let stack = with_a_device().await?;
    let id = stack.alerts(SERIAL).await?[0]["id"]
        .as_str()
        .context("an id")?
        .to_owned();
    for body in [
        "{",
        "[]",
        "{\"acknowledged_by\":7}",
        "{\"seen\":{\"epoch\":1}}",
    ] {
        let answer = stack.acknowledge(SERIAL, &id, body).await?.expect(400)?;
        assert!(answer["error_message"].is_string(), "{body}: {answer}");
    }
    let huge = json!({"acknowledged_by": "x".repeat(200_000)}).to_string();
    stack.acknowledge(SERIAL, &id, &huge).await?.expect(413)?;
    assert_eq!(stack.alerts(SERIAL).await?[0]["state"], "unacknowledged");
    stack.pass()
}

#[tokio::test]
async fn a_trailing_slash_matches_every_route() -> Result<()> {
    let stack = with_a_device().await?;
    for path in [
        LATEST,
        "/devices/OTSM-0001/subtronics/alerts",
        "/devices/OTSM-0001/alarm-logs",
        "/alarm-logs",
        "/alarm-logs/statistics",
        "/api/devices",
        "/api/devices/OTSM-0001",
        "/api/devices/OTSM-0001/history",
        "/health",
        "/livez",
        "/readyz",
        "/config",
        "/openapi.json",
    ] {
        let plain = stack.get(path).await?;
        let slashed = stack.get(&format!("{path}/")).await?;
        assert_eq!(plain.status, 200, "{path}: {plain:?}");
        assert_eq!(slashed.status, 200, "{path}/: {slashed:?}");
    }
    let id = stack.alerts(SERIAL).await?[0]["id"]
        .as_str()
        .context("an id")?
        .to_owned();
    let path = format!("/devices/{SERIAL}/subtronics/alerts/{id}/acknowledge/");
    let port = stack.gateways[0].port();
    http::send(port, "POST", &path, &[], b"")
        .await?
        .expect(200)?;
    assert_eq!(stack.alerts(SERIAL).await?[0]["acknowledged_by"], "unknown");
    stack.pass()
}

#[tokio::test]
async fn an_allowed_origin_is_echoed_with_credentials() -> Result<()> {
    let stack = with_a_device().await?;
    let port = stack.gateways[0].port();
    for origin in [
        "http://localhost:5173",
        "https://dashboard.example",
        "https://branch-7.preview.example",
    ] {
        for path in [LATEST, "/socket.io/?EIO=4&transport=polling", "/nowhere"] {
            let answer = http::send(port, "GET", path, &[("origin", origin)], b"").await?;
            assert_eq!(
                answer.header("access-control-allow-origin"),
                origin,
                "{path}"
            );
            assert_eq!(
                answer.header("access-control-allow-credentials"),
                "true",
                "{path}"
            );
            assert!(
                answer.header("vary").to_lowercase().contains("origin"),
                "{path}"
            );
        }
        let asked = [
            ("origin", origin),
            ("access-control-request-method", "GET"),
            (
                "access-control-request-headers",
                "content-type,x-request-id",
            ),
        ];
        for path in [LATEST, "/nowhere", "/socket.io/?EIO=4&transport=polling"] {
            let answer = http::send(port, "OPTIONS", path, &asked, b"").await?;
            assert!(matches!(answer.status, 200 | 204), "{path}: {answer:?}");
            assert_eq!(
                answer.header("access-control-allow-origin"),
                origin,
                "{path}"
            );
            let headers = answer.header("access-control-allow-headers").to_lowercase();
            assert!(headers.contains("x-request-id"), "{path}: {answer:?}");
            assert!(
                !answer.header("access-control-max-age").is_empty(),
                "{path}"
            );
        }
    }
    stack.pass()
}

#[tokio::test]
async fn without_an_origin_no_cors_header_is_sent() -> Result<()> {
    let stack = with_a_device().await?;
    let port = stack.gateways[0].port();
    let answer = stack.get(LATEST).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let asked = [("access-control-request-method", "GET")];
    let answer = http::send(port, "OPTIONS", LATEST, &asked, b"").await?;
    assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), "");
    stack.pass()
}

#[tokio::test]
async fn the_list_of_devices_has_what_every_page_reads() -> Result<()> {
    let stack = with_a_device().await?;
    let list = stack.get("/api/devices").await?.expect(200)?;
    assert_eq!(list["success"], true);
    assert_eq!(list["count"], 1);
    let item = &list["devices"][0];
    for key in ["id", "device_id", "deviceId", "sensorId"] {
        assert_eq!(item[key], SERIAL, "{key}: {item}");
    }
    assert_eq!(item["name"], "Gas Sensor Block1");
    assert_eq!(item["type"], "subtronics_gas_monitor");
    assert_eq!(item["status"], "warning");
    assert_eq!(item["alarm_status"], "ALARM");
    assert_eq!(item["location"], "19.011545, 72.823872");
    assert_eq!(item["icon"], "bi bi-cloud-fog");
    assert_eq!(item["metrics"], json!([]));
    assert!(
        item["lastSeen"].is_string() && item["last_update"].is_string(),
        "{item}"
    );
    assert_eq!(item["data"]["sensor_reading"], 350);
    assert!(item["data"].get("raw_message").is_none(), "{item}");
    let one = stack.get("/api/devices/OTSM-0001").await?.expect(200)?;
    assert_eq!(one["success"], true);
    assert_eq!(one["status"], item["status"]);
    stack.pass()
}

#[tokio::test]
async fn the_alarm_log_has_a_row_per_raise_and_escalation() -> Result<()> {
    let stack = with_a_device().await?;
    let device = stack.device(SERIAL);
    for value in [1100, 600, 5] {
        device.send(value).await?;
        stack.shows(SERIAL, value).await?;
    }
    stack.device("OTSM-0002").send(600).await?;
    stack.shows("OTSM-0002", 600).await?;

    let logs = stack.get("/alarm-logs?limit=1000").await?.expect(200)?;
    let rows = logs["logs"].as_array().context("rows")?;
    assert_eq!(logs["total_count"], rows.len());
    let listed: Vec<(&Value, &Value)> = rows
        .iter()
        .map(|row| (&row["device_id"], &row["alarm_type"]))
        .collect();
    assert_eq!(
        listed,
        [
            (&json!("OTSM-0002"), &json!("alarm_level_2")),
            (&json!(SERIAL), &json!("alarm_level_3")),
            (&json!(SERIAL), &json!("alarm_level_1")),
        ],
        "newest first: {logs}"
    );
    for row in rows {
        assert_eq!(row["id"], row["_id"], "{row}");
        assert_eq!(row["device_id"], row["serial_number"], "{row}");
        assert_eq!(row["acknowledged"], false, "{row}");
        assert_eq!(row["acknowledged_at"], Value::Null, "{row}");
        assert_eq!(row["acknowledged_by"], Value::Null, "{row}");
    }
    assert_eq!(rows[1]["alarm_id"], rows[2]["alarm_id"]);
    assert_ne!(rows[1]["id"], rows[2]["id"]);

    let own = stack
        .get("/devices/OTSM-0001/alarm-logs?severity=critical")
        .await?
        .expect(200)?;
    assert_eq!(own["device_id"], SERIAL);
    assert_eq!(own["total_count"], 1, "{own}");
    for (query, count) in [
        ("limit=1", 1),
        ("limit=0", 1),
        ("limit=30/", 3),
        ("alarm_type=alarm_level_2", 1),
        ("device_id=OTSM-0002", 1),
        ("device_id=OTSM-9999", 0),
        ("start_date=2020-01-01&end_date=2020-02-01", 0),
        ("start_date=2020-01-01&unknown=key", 3),
    ] {
        let logs = stack
            .get(&format!("/alarm-logs?{query}"))
            .await?
            .expect(200)?;
        assert_eq!(logs["total_count"], count, "{query}: {logs}");
    }
    let empty = stack
        .get("/devices/OTSM-9999/alarm-logs")
        .await?
        .expect(200)?;
    assert_eq!(empty["total_count"], 0);

    let statistics = stack.get("/alarm-logs/statistics").await?.expect(200)?;
    assert_eq!(statistics["total_alarms"], 3, "{statistics}");
    assert_eq!(statistics["by_severity"]["critical"], 1, "{statistics}");
    assert_eq!(statistics["by_device"][SERIAL], 2, "{statistics}");
    assert_eq!(statistics["unacknowledged_count"], 3, "{statistics}");
    stack.pass()
}

#[tokio::test]
async fn history_is_bounded_by_time_and_count() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    for value in 1..=20 {
        device.send(value).await?;
    }
    stack.shows(SERIAL, 20).await?;
    let path = "/api/devices/OTSM-0001/history";
    let all = stack.get(path).await?.expect(200)?;
    assert_eq!(all["count"], 20, "{all}");
    let few = stack.get(&format!("{path}?limit=5")).await?.expect(200)?;
    assert_eq!(few["count"], 5, "{few}");
    let newest = few["samples"].as_array().context("samples")?;
    let every = all["samples"].as_array().context("samples")?;
    assert_eq!(newest[..], every[15..], "the newest ones, oldest first");
    let none = stack
        .get(&format!("{path}?since=2090-01-01"))
        .await?
        .expect(200)?;
    assert_eq!(none["count"], 0, "{none}");
    let none = stack
        .get(&format!("{path}?until=2020-01-01"))
        .await?
        .expect(200)?;
    assert_eq!(none["count"], 0, "{none}");
    stack
        .get(&format!("{path}?since=soon"))
        .await?
        .expect(400)?;
    stack.pass()
}

#[tokio::test]
async fn health_config_and_openapi_are_correct() -> Result<()> {
    let stack = with_a_device().await?;
    let health = eventually("a healthy answer", async || {
        let health = stack.get("/health").await?.expect(200)?;
        ensure!(health["status"] == "healthy", "{health}");
        Ok(health)
    })
    .await?;
    assert_eq!(health["mqtt_connected"], true, "{health}");
    assert_eq!(health["mongodb_connected"], true, "{health}");
    assert_eq!(health["devices_count"], 1, "{health}");
    assert_eq!(health["subtronics_devices"], 1, "{health}");
    assert_eq!(health["pending_commands"], 0, "{health}");
    assert!(health["allowed_origins"].is_array(), "{health}");

    let config = stack.get("/config").await?.expect(200)?;
    assert_eq!(config["mqtt_broker"], "", "{config}");
    assert_eq!(
        config["mqtt_topics"]["SUBTRONICS"], "SubTronics/data",
        "{config}"
    );

    let document = stack.get("/openapi.json").await?.expect(200)?;
    let paths = document["paths"].as_object().context("paths")?;
    for path in [
        "/api/devices",
        "/alarm-logs",
        "/devices/{deviceId}/subtronics/telemetry/latest",
    ] {
        assert!(paths.contains_key(path), "{path} is not described");
    }
    stack.pass()
}
