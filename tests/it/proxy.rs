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

/// `HAProxy` with the shipped file, and the addresses of this test's gateways.
struct Proxy {
    process: ServerProcess,
    port: Port,
}

impl Proxy {
    async fn start(stack: &Stack) -> Result<Self> {
        let port = Port::reserve()?;
        let addresses = stack.folder().join("addresses.cfg");
        let text = format!(
            "global\n    setenv LISTEN 127.0.0.1:{}\n    setenv GATEWAY_1 127.0.0.1:{}\n    setenv GATEWAY_2 127.0.0.1:{}\n",
            port.number(),
            stack.gateways[0].port(),
            stack.gateways[1].port()
        );
        std::fs::write(&addresses, text).context("writing the addresses")?;
        let shipped = repository::root().join("deploy/haproxy.cfg");
        // `-db` keeps it in one process, so that it can be killed.
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
        let leads = eventually("a gateway behind the proxy", async || {
            let answer = proxy.get("/health").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await;
        leads
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

/// The values of the readings that a browser received, each only once.
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

/// Publishes these values and waits until every browser has all of them, in order.
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

fn count(browser: &Browser, what: &str) -> usize {
    browser
        .seen()
        .iter()
        .filter(|seen| seen.what == what || seen.is_event(what))
        .count()
}

/// Connects one browser of each kind. They follow the device, whose first reading is 1.
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
    // As a page that sends cookies.
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
async fn every_transport_works_through_haproxy_while_replicas_drain() -> Result<()> {
    // Longer than the checks take meanwhile. A second signal ends it.
    let mut stack = Plan::default()
        .gateways(2)
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
    for drained in 0..2 {
        let ended: Vec<usize> = browsers
            .iter()
            .map(|(_, browser)| count(browser, "disconnect"))
            .collect();
        let gateway = &mut stack.gateways[drained];
        gateway.process.signal(Signal::TERM)?;
        let first = 20 + 20 * i32::try_from(drained)?;
        eventually("new connections go to the other gateway", async || {
            for last in 1..=16 {
                let opened = exchange(proxy.port(), last, "GET", HANDSHAKE, "").await?;
                ensure!(opened.starts_with("HTTP/1.1 200"), "{opened}");
            }
            Ok(())
        })
        .await?;
        every_browser_receives(&stack, &browsers, &mut all, first..first + 10).await?;
        // Connected clients stay connected meanwhile, also by polling. Without cookies a polling client may lose its replica.
        for ((name, browser), before) in browsers.iter().zip(&ended) {
            let kept = count(browser, "disconnect") == *before;
            ensure!(kept || *name == "polling", "{name}: {:?}", browser.seen());
        }
        let still = stack.gateways[drained].get("/readyz").await?;
        assert_eq!(still.status, 503, "{still:?}");
        let status = stack.gateways[drained].process.terminate().await?;
        ensure!(status.code() == Some(0), "{status}");
        every_browser_receives(&stack, &browsers, &mut all, first + 10..first + 20).await?;
        let now: Vec<usize> = browsers
            .iter()
            .map(|(_, browser)| count(browser, "server:drain"))
            .collect();
        ensure!(
            now != notices,
            "nobody was connected to gateway {drained}: {now:?}"
        );
        notices = now;

        let gateway = &mut stack.gateways[drained];
        gateway.process.restart()?;
        gateway.ready().await?;
        eventually("the proxy uses the gateway again", async || {
            ensure!(is_in_rotation(&proxy, &stack, drained).await?, "not yet");
            Ok(())
        })
        .await?;
    }
    proxy.process.check_alive()?;
    stack.pass()
}

#[tokio::test]
async fn a_drained_replica_has_closed_every_client_and_ends() -> Result<()> {
    // HAProxy takes two seconds to notice.
    let mut stack = Plan::default()
        .gateways(2)
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
    ensure!(notices > 0, "nobody was connected to the one that drained");
    for (name, browser) in &browsers {
        let notices = count(browser, "server:drain");
        let ended = count(browser, "disconnect");
        // Without cookies a polling client may have lost its replica before it was closed.
        ensure!(
            notices == ended || *name == "polling",
            "{name}: {notices} notices, {ended} disconnections: {:?}",
            browser.seen()
        );
    }
    proxy.process.check_alive()?;
    stack.pass()
}

/// Whether the proxy forwards any address of the loopback network to this gateway: then the gateway knows its session.
async fn is_in_rotation(proxy: &Proxy, stack: &Stack, gateway: usize) -> Result<bool> {
    for last in 1..=32 {
        let opened = exchange(proxy.port(), last, "GET", HANDSHAKE, "").await?;
        let sid = sid(&opened)?;
        let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
        let answer = http::send(stack.gateways[gateway].port(), "POST", &path, &[], b"40").await?;
        if answer.status == 200 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sends one request from an address of the loopback network and returns the complete answer. A POST contains the packet
/// that opens the namespace.
async fn exchange(port: u16, last: u8, method: &str, path: &str, cookie: &str) -> Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
    let mut stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
    let body = if method == "POST" { "40" } else { "" };
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
async fn polling_stays_with_its_replica_by_cookie_and_by_address() -> Result<()> {
    let stack = Plan::default().gateways(2).start().await?;
    let proxy = Proxy::start(&stack).await?;
    let mut elsewhere = 0;
    for last in 1..=16 {
        let opened = exchange(proxy.port(), last, "GET", HANDSHAKE, "").await?;
        let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", sid(&opened)?);
        let cookie = opened
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = cookie
            .and_then(|cookie| cookie.split(';').next())
            .context("no cookie")?;
        ensure!(
            opened.contains("HttpOnly")
                && opened.contains("Secure")
                && opened.contains("SameSite=None"),
            "{opened}"
        );
        // Without a cookie the address decides: the same address leads to the same replica.
        let again = exchange(proxy.port(), last, "POST", &path, "").await?;
        ensure!(again.starts_with("HTTP/1.1 200"), "{again}");
        // With the cookie every address leads to that replica. Without it some addresses lead to the other one.
        let other = if last == 16 { 1 } else { last + 1 };
        let moved = exchange(proxy.port(), other, "POST", &path, cookie).await?;
        ensure!(moved.starts_with("HTTP/1.1 200"), "{moved}");
        let lost = exchange(proxy.port(), other, "POST", &path, "").await?;
        elsewhere += usize::from(lost.starts_with("HTTP/1.1 400"));
    }
    ensure!(
        elsewhere > 0,
        "all addresses lead to one replica: the cookie was not needed"
    );
    stack.pass()
}

#[tokio::test]
async fn haproxy_does_not_serve_the_endpoints_of_operators() -> Result<()> {
    let stack = Plan::default().gateways(2).start().await?;
    let proxy = Proxy::start(&stack).await?;
    for inner in ["metrics", "livez", "readyz"] {
        for path in [
            format!("/{inner}"),
            format!("/{inner}/"),
            format!("//{inner}"),
            format!("///{inner}//"),
            format!("/{inner}?a=b"),
            format!("/.//{inner}"),
            format!("/%2F{inner}"),
            format!("/%{:02X}{}", inner.as_bytes()[0], &inner[1..]),
        ] {
            assert_eq!(proxy.get(&path).await?.status, 404, "{path}");
        }
    }
    for path in ["/health", "/config", "/api/devices", "/openapi.json"] {
        assert_eq!(proxy.get(path).await?.status, 200, "{path}");
    }
    stack.pass()
}
