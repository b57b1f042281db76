//! The PROXY protocol: `HAProxy` forwards TCP and tells the address of each client in front of its connection.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::browser::{Browser, Transport};
use tests::eventually::eventually;
use tests::http;
use tests::ports::Port;
use tests::report;
use tests::server_process::ServerProcess;
use tests::stack::{Plan, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::{BAD, DEVICE, POLLING, is_refused};

/// `HAProxy` with a port for each version of the protocol.
struct Forwarder {
    process: ServerProcess,
    ports: [Port; 2],
}

impl Forwarder {
    async fn start(stack: &Stack) -> Result<Self> {
        let ports = [Port::reserve()?, Port::reserve()?];
        let gateway = stack.gateways[0].port();
        let mut sections = vec![
            "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n".to_owned(),
        ];
        for (port, option) in ports.iter().zip(["send-proxy", "send-proxy-v2"]) {
            let port = port.number();
            sections.push(format!(
                "listen {option}\n    bind 127.0.0.1:{port}\n    server gateway 127.0.0.1:{gateway} {option}\n"
            ));
        }
        let file = stack.folder().join("forwarder.cfg");
        std::fs::write(&file, sections.concat()).context("cannot write the configuration")?;
        let arguments = ["-db".into(), "-f".into(), file.into_os_string()];
        let process =
            ServerProcess::start("haproxy", Path::new("haproxy"), arguments, stack.folder())?;
        let mut forwarder = Self { process, ports };
        for port in forwarder.ports() {
            let answered = eventually("the gateway behind the proxy", async || {
                let answer = http::send(port, "GET", "/health", &[], b"").await?;
                ensure!(answer.status == 200, "{answer:?}");
                Ok(())
            })
            .await;
            answered
                .and_then(|()| forwarder.process.check_alive())
                .with_context(|| forwarder.process.output())?;
        }
        Ok(forwarder)
    }

    fn ports(&self) -> [u16; 2] {
        [&self.ports[0], &self.ports[1]].map(Port::number)
    }
}

#[tokio::test]
async fn limits_count_the_clients_of_a_proxy_that_forwards_tcp() -> Result<()> {
    const MAX: usize = 3;
    let flags = format!(
        "--proxy-protocol --trusted-proxies=127.0.0.1 --max-connections-per-address={MAX} --connect-timeout=10m --ping-timeout=10m"
    );
    let plan = Plan::default().operator_port().gateway_flags(&flags);
    let stack = plan.start().await?;
    let mut forwarder = Forwarder::start(&stack).await?;
    stack.device(DEVICE).send(0).await?;
    let mut refused = 0;
    for (index, port) in forwarder.ports().into_iter().enumerate() {
        // A client with one connection, over any transport.
        let transport = [Transport::WebSocket, Transport::Upgrade][index];
        let good = Browser::connect(port, transport).await?;
        good.follow(DEVICE).await?;
        let bad = Ipv4Addr::from(u32::from(BAD) + u32::try_from(index)?);
        for attempt in 0..10 {
            let answer = http::send_from(bad, port, POLLING).await?;
            if attempt < MAX {
                ensure!(answer.status == 200, "{answer:?}");
            } else {
                is_refused(&answer, 429)?;
                refused += 1;
            }
            let value = 100 * (index + 1) + attempt;
            stack.device(DEVICE).send(value).await?;
            good.wait_for(&format!("reading {value}"), |seen| {
                seen.is_of("device:data", DEVICE)
                    && seen.body["data"]["sensor_reading"] == json!(value)
            })
            .await?;
        }
        good.disconnect().await?;
    }
    forwarder.process.check_alive()?;
    report::line(&format!(
        "limits: with both versions of the PROXY protocol {refused} of 20 handshakes of two bad addresses were refused, and no reading \
         of a good one was missed"
    ));
    stack.pass()
}

/// Sends these bytes from this address. Returns what is received until the end of the connection.
async fn exchange(from: Ipv4Addr, port: u16, bytes: &[u8]) -> Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
    // The connection may be closed before everything is sent.
    stream.write_all(bytes).await.ok();
    let mut received = Vec::new();
    match stream.read_to_end(&mut received).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => return Err(error.into()),
    }
    Ok(String::from_utf8_lossy(&received).into_owned())
}

#[tokio::test]
async fn a_connection_without_the_header_of_a_trusted_proxy_is_closed() -> Result<()> {
    const REQUEST: &str = "GET /config HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let flags = "--proxy-protocol --trusted-proxies=127.0.0.1";
    let plan = Plan::default().operator_port().gateway_flags(flags);
    let stack = plan.start().await?;
    let port = stack.gateways[0].port();
    let header = "PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\r\n";
    for (from, bytes) in [
        (Ipv4Addr::LOCALHOST, REQUEST.to_owned()),
        (Ipv4Addr::LOCALHOST, format!("PROXY nothing\r\n{REQUEST}")),
        (BAD, REQUEST.to_owned()),
        (BAD, format!("{header}{REQUEST}")),
    ] {
        let answer = exchange(from, port, bytes.as_bytes()).await?;
        ensure!(answer.is_empty(), "{from} {bytes}: {answer}");
    }
    // The counter grows before the connection is closed.
    let refused = stack.gateways[0]
        .metric("gateway_proxy_refused_total")
        .await?;
    ensure!((refused - 4.0).abs() < 0.5, "{refused}");
    // A second header is no part of HTTP.
    let twice = format!("{header}{header}{REQUEST}");
    let answer = exchange(Ipv4Addr::LOCALHOST, port, twice.as_bytes()).await?;
    ensure!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let own = format!("PROXY UNKNOWN\r\n{REQUEST}");
    for bytes in [format!("{header}{REQUEST}"), own] {
        let answer = exchange(Ipv4Addr::LOCALHOST, port, bytes.as_bytes()).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    stack.pass()
}
