//! Every connection over TLS, and certificates that are replaced.

mod refused;

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::tls::ClientStream;
use test_support::certificates::Validity;
use tests::browser::{Browser, Transport};
use tests::eventually::eventually;
use tests::http::{self, Connection};
use tests::report;
use tests::stack::Stack;
use tests::tls::TlsSetup;

const SERIAL: &str = "OTSM-0001";

/// Sends a GET request to the gateway over HTTPS.
async fn get(
    setup: &TlsSetup,
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(u16, Value)> {
    let stream = setup.connect(port).await?;
    let mut connection = Connection::over(stream, port).await?;
    let answer = connection.send("GET", path, headers, b"").await?;
    Ok((answer.status, answer.json()?))
}

/// Returns the certificate that a new connection to the gateway gets.
async fn certificate(setup: &TlsSetup, port: u16) -> Result<Vec<u8>> {
    let ClientStream::Tls(stream) = setup.connect(port).await? else {
        anyhow::bail!("no TLS");
    };
    let chain = stream.get_ref().1.peer_certificates();
    let own = chain
        .and_then(|chain| chain.first())
        .context("no certificate")?;
    Ok(own.to_vec())
}

async fn browser(setup: &TlsSetup, stack: &Stack, transport: Transport) -> Result<Browser> {
    let port = stack.gateways[0].port();
    let browser = Browser::connect_over_tls(port, transport, &setup.authority.file()).await?;
    browser.subscribe(SERIAL).await?;
    Ok(browser)
}

#[tokio::test]
async fn readings_alarms_and_rest_work_when_everything_is_encrypted() -> Result<()> {
    let setup = TlsSetup::make()?;
    let stack = setup.plan().start().await?;
    let port = stack.gateways[0].port();
    let mut browsers = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        browsers.push(browser(&setup, &stack, transport).await?);
    }
    let device = stack.device(SERIAL);
    // An alarm.
    device.send(1_200).await?;
    for browser in &browsers {
        let data = browser.event_after(0, "device:data", SERIAL).await?;
        ensure!(data["data"]["sensor_reading"] == 1_200, "{data}");
        browser.event_after(0, "device:alerts", SERIAL).await?;
    }
    let (status, settings) = get(&setup, port, "/config", &[]).await?;
    ensure!(status == 200, "{settings}");
    let base = settings["api_base_url"].as_str().unwrap_or_default();
    ensure!(base.starts_with("https://"), "{settings}");
    let latest = format!("/devices/{SERIAL}/subtronics/telemetry/latest");
    let (status, body) = get(&setup, port, &latest, &[("origin", "https://evil.example")]).await?;
    ensure!(
        status == 403 && body["error_code"] == "refused_origin",
        "{body}"
    );
    let (status, body) = get(
        &setup,
        port,
        &latest,
        &[("origin", "http://localhost:5173")],
    )
    .await?;
    ensure!(status == 200, "{body}");
    let metric = "http_server_request_duration_seconds_count{";
    let text = stack.gateways[0].get("/metrics").await?;
    let text = String::from_utf8(text.body.to_vec())?;
    let is_https = |line: &str| line.starts_with(metric) && line.contains(r#"url_scheme="https""#);
    ensure!(text.lines().any(is_https), "{text}");
    stack.pass()
}

#[tokio::test]
async fn many_events_arrive_in_order_over_tls() -> Result<()> {
    let setup = TlsSetup::make()?;
    let stack = setup.plan().start().await?;
    let browser = browser(&setup, &stack, Transport::WebSocket).await?;
    let device = stack.device(SERIAL);
    for value in 1..=100 {
        device.send(value).await?;
    }
    browser
        .wait_for("the last reading", |seen| {
            seen.is_of("device:data", SERIAL) && seen.body["data"]["sensor_reading"] == 100
        })
        .await?;
    let seen = browser.events("device:data", SERIAL);
    let positions: Vec<Option<u64>> = seen.iter().map(|body| body["seq"].as_u64()).collect();
    ensure!(positions.is_sorted(), "{positions:?}");
    stack.pass()
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_lost_connection() -> Result<()> {
    let setup = TlsSetup::make()?;
    let stack = setup.plan().start().await?;
    let gateway = &stack.gateways[0];
    let browsers = [
        browser(&setup, &stack, Transport::WebSocket).await?,
        browser(&setup, &stack, Transport::Polling).await?,
    ];
    let first = certificate(&setup, gateway.port()).await?;
    setup
        .authority
        .issue("gateway", &["localhost"], Validity::Valid)?;
    let second = eventually("new connections get the new certificate", async || {
        let now = certificate(&setup, gateway.port()).await?;
        ensure!(now != first, "still the old one");
        Ok(now)
    })
    .await?;
    fs::write(&setup.gateway.key, "broken")?;
    eventually("the broken file is counted", async || {
        let failed = r#"gateway_certificate_reloads_total{outcome="failed"}"#;
        ensure!(gateway.metric(failed).await? >= 1.0, "not yet");
        Ok(())
    })
    .await?;
    ensure!(
        certificate(&setup, gateway.port()).await? == second,
        "it changed"
    );
    // Nor does an expired certificate replace it.
    setup
        .authority
        .issue("gateway", &["localhost"], Validity::Expired)?;
    eventually("the expired certificate is counted", async || {
        let log = gateway.process.output();
        ensure!(
            log.contains("has expired (at 2001-02-03T00:00:00Z)"),
            "{log}"
        );
        Ok(())
    })
    .await?;
    ensure!(
        certificate(&setup, gateway.port()).await? == second,
        "it changed"
    );
    let log = gateway.process.output();
    ensure!(
        log.contains("new connections still get the old one"),
        "{log}"
    );
    ensure!(log.contains("--tls-key-file: "), "{log}");

    stack.device(SERIAL).send(7).await?;
    for browser in &browsers {
        browser.event_after(0, "device:data", SERIAL).await?;
        let lost = browser
            .seen()
            .into_iter()
            .find(|seen| seen.what == "disconnect");
        ensure!(lost.is_none(), "{lost:?}");
    }
    stack.pass()
}

#[tokio::test]
async fn handshakes_beyond_the_rate_of_an_address_are_closed_and_others_go_on() -> Result<()> {
    const BAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
    const TRIED: usize = 60;
    let setup = TlsSetup::make()?;
    for dry_run in [false, true] {
        // A burst of 10. The good client has some handshakes of its own.
        let mut flags = "--handshake-rate-per-address=1".to_owned();
        if dry_run {
            flags += " --limits-dry-run=handshake-rate-per-address";
        }
        let stack = setup.plan().gateway_flags(&flags).start().await?;
        let gateway = &stack.gateways[0];
        let good = browser(&setup, &stack, Transport::WebSocket).await?;
        let mut closed = 0;
        for value in 1..=TRIED {
            match setup.connect_from(BAD, gateway.port()).await {
                Ok(stream) => {
                    let mut connection = Connection::over(stream, gateway.port()).await?;
                    connection
                        .send("GET", "/health", &[], b"")
                        .await?
                        .expect(200)?;
                }
                Err(_) => closed += 1,
            }
            if value % 10 == 0 {
                stack.device(SERIAL).send(value).await?;
                good.wait_for(&format!("reading {value}"), |seen| {
                    seen.is_of("device:data", SERIAL)
                        && seen.body["data"]["sensor_reading"] == value
                })
                .await?;
            }
        }
        ensure!(dry_run == (closed == 0), "{closed} closed");
        let counted = async |action: &str| {
            let limit = "handshake_rate_per_address";
            let series = format!(r#"gateway_limited_total{{action="{action}",limit="{limit}"}}"#);
            gateway.metric(&series).await
        };
        let (refused, tried) = (counted("refused").await?, counted("dry_run").await?);
        ensure!(
            (refused - f64::from(closed)).abs() < 0.5,
            "{refused} {closed}"
        );
        ensure!(dry_run == (tried > 0.5), "{tried}");
        let lost = good
            .seen()
            .into_iter()
            .find(|seen| seen.what == "disconnect");
        ensure!(lost.is_none(), "{lost:?}");
        report::line(&format!(
            "{TRIED} TLS handshakes of one address, one per second allowed, dry run {dry_run}: {closed} closed, {tried} would have been"
        ));
        stack.pass()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_without_tls_gets_nothing_from_the_port_for_https() -> Result<()> {
    let setup = TlsSetup::make()?;
    let stack = setup.plan().start().await?;
    let gateway = &stack.gateways[0];
    let request = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answer = http::send_raw(gateway.port(), request).await?;
    ensure!(!answer.contains("HTTP"), "{answer}");
    // The client may see the end before it is counted.
    eventually("the failed handshake is counted", async || {
        let failed = "gateway_tls_handshakes_failed_total";
        ensure!(gateway.metric(failed).await? >= 1.0, "not yet");
        Ok(())
    })
    .await?;
    let (status, body) = get(&setup, gateway.port(), "/health", &[]).await?;
    ensure!(status == 200, "{body}");
    stack.pass()
}
