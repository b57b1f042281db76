//! `HAProxy` with the shipped configuration, in front of two gateways.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::browser::{Browser, Transport};
use tests::eventually::eventually;
use tests::http;
use tests::ports::Port;
use tests::repository;
use tests::server_process::ServerProcess;
use tests::stack::{Plan, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

const DEVICE: &str = "OTSM-0001";
const HANDSHAKE: &str = "/socket.io/?EIO=4&transport=polling";

/// `HAProxy` with `deploy/haproxy.cfg` and the addresses of this test's gateways.
struct Proxy {
    process: ServerProcess,
    port: Port,
}

impl Proxy {
    async fn start(stack: &Stack) -> Result<Self> {
        let port = Port::reserve()?;
        let addresses = stack.folder().join("addresses.cfg");
        let text = format!(
            "global\n    setenv LISTEN 127.0.0.1:{}\n    setenv GATEWAY_1 127.0.0.1:{}\n    setenv GATEWAY_2 127.0.0.1:{}\n    setenv GATEWAY_1_OPS {}\n    setenv GATEWAY_2_OPS {}\n",
            port.number(),
            stack.gateways[0].port(),
            stack.gateways[1].port(),
            stack.gateways[0].operator_port(),
            stack.gateways[1].operator_port()
        );
        std::fs::write(&addresses, text).context("cannot write the addresses")?;
        let shipped = repository::root().join("deploy/haproxy.cfg");
        // `-db` keeps HAProxy in the foreground, as one process that can be killed.
        let arguments = [
            "-db".into(),
            "-f".into(),
            addresses.into_os_string(),
            "-f".into(),
            shipped.into_os_string(),
        ];
        let process =
            ServerProcess::start("haproxy", Path::new("haproxy"), arguments, stack.folder())?;
        let mut proxy = Self { process, port };
        let answered = eventually("a gateway behind the proxy", async || {
            let answer = proxy.get("/health").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await;
        answered
            .and_then(|()| proxy.process.check_alive())
            .with_context(|| proxy.process.output())?;
        Ok(proxy)
    }

    fn port(&self) -> u16 {
        self.port.number()
    }

    async fn get(&self, path: &str) -> Result<http::Response> {
        http::send(self.port(), "GET", path, &[], b"").await
    }
}

/// Returns the different values that a browser received, in order.
fn values(browser: &Browser) -> Vec<Value> {
    let mut values = Vec::new();
    for event in browser.events("device:data", DEVICE) {
        let value = event["data"]["sensor_reading"].clone();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

/// Publishes the values `more`, adds them to `all`, and waits until every browser has received all values in order.
async fn every_browser_receives(
    stack: &Stack,
    browsers: &[(&str, Browser)],
    all: &mut Vec<Value>,
    more: std::ops::Range<i32>,
) -> Result<()> {
    let device = stack.device(DEVICE);
    for value in more {
        device.send(value).await?;
        all.push(json!(value));
    }
    for (name, browser) in browsers {
        eventually(
            &format!("{name} has seen {} readings", all.len()),
            async || {
                let seen = values(browser);
                ensure!(seen == *all, "{seen:?}");
                Ok(())
            },
        )
        .await?;
    }
    Ok(())
}

/// Returns how often the browser saw this Socket.IO event or this step of its connection.
fn count(browser: &Browser, what: &str) -> usize {
    browser
        .seen()
        .iter()
        .filter(|seen| seen.what == what || seen.is_event(what))
        .count()
}

/// Connects browsers with every transport. All of them subscribe to the device, whose first reading is 1.
async fn connect_all(stack: &Stack, proxy: &Proxy) -> Result<Vec<(&'static str, Browser)>> {
    stack.device(DEVICE).send(1).await?;
    stack.shows(DEVICE, 1).await?;
    let mut browsers = Vec::new();
    for (name, transport) in [
        ("websocket 1", Transport::WebSocket),
        ("websocket 2", Transport::WebSocket),
        ("polling", Transport::Polling),
        ("upgrade", Transport::Upgrade),
    ] {
        browsers.push((name, Browser::connect(proxy.port(), transport).await?));
    }
    // A page that sends cookies.
    let options =
        json!({"transports": ["polling"], "withCredentials": true, "reconnectionDelay": 50});
    browsers.push((
        "polling with cookies",
        Browser::open(proxy.port(), options).await?,
    ));
    for (_, browser) in &browsers {
        browser.follow(DEVICE).await?;
    }
    Ok(browsers)
}

#[tokio::test]
async fn every_transport_works_through_haproxy_while_gateways_drain() -> Result<()> {
    // The drain delay is longer than the checks take. A second signal ends it early.
    let mut stack = Plan::default()
        .gateways(2)
        .operator_port()
        .gateway_flags("--drain-delay=10m")
        .start()
        .await?;
    let mut proxy = Proxy::start(&stack).await?;
    let mut all = vec![json!(1)];
    let browsers = connect_all(&stack, &proxy).await?;
    every_browser_receives(&stack, &browsers, &mut all, 2..20).await?;
    for (name, browser) in &browsers {
        assert_eq!(
            count(browser, "disconnect"),
            0,
            "{name}: {:?}",
            browser.seen()
        );
    }

    let mut notices = vec![0; browsers.len()];
    for index in 0..2 {
        let disconnects_before: Vec<usize> = browsers
            .iter()
            .map(|(_, browser)| count(browser, "disconnect"))
            .collect();
        let gateway = &mut stack.gateways[index];
        gateway.process.signal(Signal::TERM)?;
        let first = 20 + 20 * i32::try_from(index)?;
        eventually("new connections go to the other gateway", async || {
            for last_octet in 1..=16 {
                let handshake = exchange(proxy.port(), last_octet, "GET", HANDSHAKE, "").await?;
                ensure!(handshake.starts_with("HTTP/1.1 200"), "{handshake}");
            }
            Ok(())
        })
        .await?;
        every_browser_receives(&stack, &browsers, &mut all, first..first + 10).await?;
        // Connected clients stay connected during the drain. Only a polling client without cookies may lose its gateway.
        for ((name, browser), before) in browsers.iter().zip(&disconnects_before) {
            let kept = count(browser, "disconnect") == *before;
            ensure!(kept || *name == "polling", "{name}: {:?}", browser.seen());
        }
        let readiness = stack.gateways[index].get("/readyz").await?;
        assert_eq!(readiness.status, 503, "{readiness:?}");
        // The same signal would only count if a second had passed.
        let gateway = &mut stack.gateways[index];
        gateway.process.signal(Signal::INT)?;
        let status = gateway.process.wait().await?;
        ensure!(status.code() == Some(0), "{status}");
        every_browser_receives(&stack, &browsers, &mut all, first + 10..first + 20).await?;
        let notices_now: Vec<usize> = browsers
            .iter()
            .map(|(_, browser)| count(browser, "server:drain"))
            .collect();
        ensure!(
            notices_now != notices,
            "no browser was connected to gateway {index}: {notices_now:?}"
        );
        notices = notices_now;

        let gateway = &mut stack.gateways[index];
        gateway.process.restart()?;
        gateway.ready().await?;
        eventually("the proxy uses the gateway again", async || {
            ensure!(is_in_rotation(&proxy, &stack, index).await?, "not yet");
            Ok(())
        })
        .await?;
    }
    proxy.process.check_alive()?;
    stack.pass()
}

#[tokio::test]
async fn a_draining_gateway_closes_every_client_and_exits() -> Result<()> {
    // HAProxy needs two seconds to notice a drain. The drain delay must be longer.
    let mut stack = Plan::default()
        .gateways(2)
        .operator_port()
        .gateway_flags("--drain-delay=3s --drain-period=1s")
        .start()
        .await?;
    let mut proxy = Proxy::start(&stack).await?;
    let mut all = vec![json!(1)];
    let browsers = connect_all(&stack, &proxy).await?;
    every_browser_receives(&stack, &browsers, &mut all, 2..5).await?;
    let status = stack.gateways[0].process.terminate().await?;
    ensure!(status.code() == Some(0), "{status}");
    every_browser_receives(&stack, &browsers, &mut all, 5..10).await?;
    let notices: usize = browsers
        .iter()
        .map(|(_, browser)| count(browser, "server:drain"))
        .sum();
    ensure!(
        notices > 0,
        "no browser was connected to the drained gateway"
    );
    for (name, browser) in &browsers {
        let notices = count(browser, "server:drain");
        let ended = count(browser, "disconnect");
        // A polling client without cookies may have lost its gateway before the gateway could close it.
        ensure!(
            notices == ended || *name == "polling",
            "{name}: {notices} notices, {ended} disconnections: {:?}",
            browser.seen()
        );
    }
    proxy.process.check_alive()?;
    stack.pass()
}

/// Returns whether the proxy forwards connections from any loopback address to this gateway. The sign is that the gateway
/// knows a session that was handshake through the proxy.
async fn is_in_rotation(proxy: &Proxy, stack: &Stack, gateway: usize) -> Result<bool> {
    for last_octet in 1..=32 {
        let handshake = exchange(proxy.port(), last_octet, "GET", HANDSHAKE, "").await?;
        let sid = sid(&handshake)?;
        let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
        let answer = http::send(stack.gateways[gateway].port(), "POST", &path, &[], b"40").await?;
        if answer.status == 200 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sends one request from the loopback address that ends in `last_octet`, and returns the complete answer. The body of a
/// POST is `40`, the Socket.IO packet that connects to the namespace.
async fn exchange(
    port: u16,
    last_octet: u8,
    method: &str,
    path: &str,
    cookie: &str,
) -> Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, last_octet), 0).into())?;
    let mut stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
    // A pong: a session accepts any number of them.
    let body = if method == "POST" { "3" } else { "" };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncookie: {cookie}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn sid(answer: &str) -> Result<&str> {
    let rest = answer.split("\"sid\":\"").nth(1);
    rest.and_then(|rest| rest.split('"').next())
        .with_context(|| format!("no session: {answer}"))
}

#[tokio::test]
async fn polling_stays_with_its_gateway_by_cookie_and_by_address() -> Result<()> {
    let stack = Plan::default().gateways(2).operator_port().start().await?;
    let proxy = Proxy::start(&stack).await?;
    let mut reached_other_gateway = 0;
    for last_octet in 1..=16 {
        let handshake = exchange(proxy.port(), last_octet, "GET", HANDSHAKE, "").await?;
        let path = format!(
            "/socket.io/?EIO=4&transport=polling&sid={}",
            sid(&handshake)?
        );
        let cookie = handshake
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = cookie
            .and_then(|cookie| cookie.split(';').next())
            .context("no cookie")?;
        ensure!(
            handshake.contains("HttpOnly")
                && handshake.contains("Secure")
                && handshake.contains("SameSite=None"),
            "{handshake}"
        );
        // Without a cookie the client's address decides: the same address reaches the same gateway.
        let again = exchange(proxy.port(), last_octet, "POST", &path, "").await?;
        ensure!(again.starts_with("HTTP/1.1 200"), "{again}");
        // With the cookie every address reaches that gateway. Without it some addresses reach the other one.
        let other_octet = if last_octet == 16 { 1 } else { last_octet + 1 };
        let with_cookie = exchange(proxy.port(), other_octet, "POST", &path, cookie).await?;
        ensure!(with_cookie.starts_with("HTTP/1.1 200"), "{with_cookie}");
        let without_cookie = exchange(proxy.port(), other_octet, "POST", &path, "").await?;
        reached_other_gateway += usize::from(without_cookie.starts_with("HTTP/1.1 400"));
    }
    ensure!(
        reached_other_gateway > 0,
        "all addresses reach one gateway: the cookie was not needed"
    );
    stack.pass()
}

#[tokio::test]
async fn haproxy_does_not_forward_the_endpoints_for_operators() -> Result<()> {
    let stack = Plan::default().gateways(2).operator_port().start().await?;
    let proxy = Proxy::start(&stack).await?;
    for endpoint in ["metrics", "livez", "readyz"] {
        for path in [
            format!("/{endpoint}"),
            format!("/{endpoint}/"),
            format!("//{endpoint}"),
            format!("///{endpoint}//"),
            format!("/{endpoint}?a=b"),
            format!("/.//{endpoint}"),
            format!("/%2F{endpoint}"),
            format!("/%{:02X}{}", endpoint.as_bytes()[0], &endpoint[1..]),
        ] {
            assert_eq!(proxy.get(&path).await?.status, 404, "{path}");
        }
    }
    for path in ["/health", "/config", "/api/devices", "/openapi.json"] {
        assert_eq!(proxy.get(path).await?.status, 200, "{path}");
    }
    stack.pass()
}
