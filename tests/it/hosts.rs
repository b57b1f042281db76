//! Requests with a foreign `Host`, as DNS rebinding makes them, and requests that two servers could read differently.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::http;
use tests::stack::Plan;

const FLAGS: &str =
    "--allowed-hosts=gas.example,*.internal.example --allowed-origins=https://dashboard.example";
const POLL: &str = "/socket.io/?EIO=4&transport=polling";

fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n")
}

/// Splits an answer into its head, in lower case, and its body as JSON.
fn parts(answer: &str) -> (String, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let body = serde_json::from_str(body).unwrap_or_default();
    (head.to_lowercase(), body)
}

#[tokio::test]
async fn a_page_that_rebinds_its_name_reaches_nothing() -> Result<()> {
    let stack = Plan::default().gateway_flags(FLAGS).start().await?;
    let port = stack.gateways[0].port();
    let upgrade = "upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let websocket = "/socket.io/?EIO=4&transport=websocket";
    for (path, more) in [
        ("/api/devices", ""),
        ("/health", ""),
        ("/metrics", ""),
        (POLL, ""),
        (websocket, upgrade),
    ] {
        for host in ["evil.example", "evil-gas.example", "gas.example.evil.test"] {
            // The browser takes both for the same origin, so no preflight protects us.
            let headers = format!("host: {host}:{port}\r\norigin: http://{host}:{port}\r\n{more}");
            let answer = http::send_raw(port, &request(path, &headers)).await?;
            let (head, body) = parts(&answer);
            ensure!(head.starts_with("http/1.1 403"), "{host} {path}: {answer}");
            ensure!(!head.contains("access-control"), "{host} {path}: {answer}");
            ensure!(body["error_code"] == "refused_host", "{answer}");
            ensure!(body["error"] == body["error_message"], "{answer}");
        }
    }
    for host in [
        "localhost",
        "127.0.0.1",
        "10.9.8.7",
        "[::1]",
        "gas.example",
        "GAS.example",
        "gw-1.internal.example",
        "dashboard.example",
    ] {
        for port_text in ["", &format!(":{port}")] {
            let headers = format!("host: {host}{port_text}\r\n");
            let answer = http::send_raw(port, &request("/api/devices", &headers)).await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
        }
    }
    // A page that an allowed host serves may use the service, wherever the page's port is.
    for (host, origin, allowed) in [
        ("127.0.0.1", "https://gas.example", true),
        ("gas.example", "http://gas.example", true),
        ("127.0.0.1", "http://gw-2.internal.example:8080", true),
        ("127.0.0.1", "http://evil.example", false),
        ("localhost", "http://10.9.8.7", false),
        ("10.9.8.7", "http://10.9.8.7", true),
    ] {
        for path in ["/api/devices", POLL] {
            let headers = format!("host: {host}\r\norigin: {origin}\r\n");
            let answer = http::send_raw(port, &request(path, &headers)).await?;
            let status = if allowed {
                "HTTP/1.1 200"
            } else {
                "HTTP/1.1 403"
            };
            ensure!(answer.starts_with(status), "{origin} at {host}: {answer}");
        }
    }
    stack.pass()
}

#[tokio::test]
async fn an_ambiguous_request_is_refused_and_its_connection_closed() -> Result<()> {
    let stack = Plan::default().gateway_flags(FLAGS).start().await?;
    let port = stack.gateways[0].port();
    let second = "GET /api/devices HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for head in [
        "GET /api/devices HTTP/1.1\r\n",
        "GET /api/devices HTTP/1.1\r\nhost: \r\n",
        "GET /api/devices HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n",
        "GET /api/devices HTTP/1.1\r\nhost: localhost\r\nhost: gas.example\r\n",
        "GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: gas.example\r\n",
        "GET /api/devices HTTP/1.1\r\nhost: localhost/@evil.example\r\n",
        "GET http://evil.example/api/devices HTTP/1.1\r\nhost: localhost\r\n",
        "POST /api/devices HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\
         transfer-encoding: chunked\r\n",
        "POST /api/devices HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\
         content-length: 5\r\n",
        "POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: localhost\r\n\
         content-length: 5\r\ntransfer-encoding: chunked\r\n",
    ] {
        // What follows must never be read as a request of its own.
        let answer = http::send_raw(port, &format!("{head}\r\n0\r\n\r\n{second}")).await?;
        ensure!(answer.starts_with("HTTP/1.1 400"), "{head}: {answer}");
        ensure!(answer.matches("HTTP/1.1").count() == 1, "{head}: {answer}");
        let (_, body) = parts(&answer);
        ensure!(body["error_code"] == "unreadable", "{head}: {answer}");
        ensure!(body["error"] == body["error_message"], "{head}: {answer}");
    }
    // A load balancer that checks with HTTP/1.0 sends no `Host`. No browser does that.
    for (path, status) in [
        ("/readyz", "200"),
        ("/livez", "200"),
        ("/api/devices", "400"),
    ] {
        let answer = http::send_raw(port, &format!("GET {path} HTTP/1.0\r\n\r\n")).await?;
        let start = format!("HTTP/1.0 {status}");
        ensure!(answer.starts_with(&start), "{path}: {answer}");
    }
    stack.pass()
}
