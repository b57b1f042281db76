//! Clients that do not read large answers, and clients that do not finish their requests.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use tests::eventually::eventually;
use tests::http;
use tests::stack::{Plan, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Enough that one list is larger than everything the kernels of both sides hold for a connection.
const DEVICES: usize = 1_200;
/// An address of this machine from which no other request of a test comes.
const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

pub(crate) async fn with_devices(flags: &str) -> Result<Stack> {
    let stack = Plan::default().gateway_flags(flags).start().await?;
    for number in 0..DEVICES {
        stack.device(&format!("OTSM-{number:04}")).send(10).await?;
    }
    eventually("every device is listed", async || {
        let health = stack.get("/health").await?.expect(200)?;
        ensure!(health["devices_count"] == DEVICES, "{health}");
        Ok(())
    })
    .await?;
    Ok(stack)
}

/// Asks for the list of devices and reads nothing of the answer.
pub(crate) async fn ask_and_stop_reading(port: u16) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
    let request = "GET /api/devices HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    // Its first byte shows that the answer holds its bytes.
    stream.read_exact(&mut [0]).await?;
    Ok(stream)
}

#[tokio::test]
async fn clients_that_do_not_read_hold_a_bounded_number_of_bytes() -> Result<()> {
    let stack = with_devices("--answer-bytes=3145728 --answer-time=5m").await?;
    let port = stack.gateways[0].port();
    let whole = stack.get("/api/devices").await?;
    let list = whole.expect(200)?;
    ensure!(list["count"] == DEVICES, "{}", list["count"]);
    let start = format!(r#"{{"success":true,"count":{DEVICES},"devices":[{{"id":"OTSM-0000","#);
    ensure!(whole.body.starts_with(start.as_bytes()) && whole.body.ends_with(b"}]}"));
    let one = whole.body.len();
    ensure!(one > 800_000, "too short for this test: {one}");

    let mut stalled = Vec::new();
    let refused = loop {
        ensure!(
            stalled.len() <= 3_145_728 / one,
            "more is held than allowed"
        );
        stalled.push(ask_and_stop_reading(port).await?);
        let answer = stack.get("/api/devices").await?;
        if answer.status != 200 {
            break answer;
        }
    };
    let body = refused.expect(503)?;
    ensure!(
        body["error_code"] == "busy" && body["error"] == body["error_message"],
        "{body}"
    );
    ensure!(refused.header("retry-after") == "2", "{refused:?}");
    // The clients that do not read leave room for those of other addresses.
    let other = http::send_from(OTHER_ADDRESS, port, "/api/devices").await?;
    ensure!(other.expect(200)?["count"] == DEVICES, "another address");
    // Whatever is small is answered.
    stack.get("/api/devices?limit=5").await?.expect(200)?;
    stack.get("/api/devices/OTSM-0001").await?.expect(200)?;
    let path = "/devices/OTSM-0001/subtronics/alerts/alarm1_none/acknowledge";
    http::send(port, "POST", path, &[], b"{}")
        .await?
        .expect(404)?;
    drop(stalled);
    eventually("the list is served again", async || {
        stack.get("/api/devices").await?.expect(200)
    })
    .await?;
    stack.pass()
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_disconnected() -> Result<()> {
    let stack = with_devices("--answer-time=1s").await?;
    let whole = stack.get("/api/devices").await?.body.len();
    let mut stalled = ask_and_stop_reading(stack.gateways[0].port()).await?;
    let gateway = &stack.gateways[0];
    eventually("the connection was closed", async || {
        // Unread bytes of a closed connection stay readable, so its end is looked for at the gateway.
        let held = gateway.metric("gateway_answers_unread_total").await?;
        ensure!(held >= 1.0, "{held}");
        Ok(())
    })
    .await?;
    let mut rest = Vec::new();
    // The end may be a reset.
    stalled.read_to_end(&mut rest).await.ok();
    ensure!(rest.len() < whole, "it got everything: {}", rest.len());
    stack.pass()
}

#[tokio::test]
async fn a_request_whose_body_does_not_end_is_given_up() -> Result<()> {
    let stack = Stack::start().await?;
    let port = stack.gateways[0].port();
    let handshake = stack.get("/socket.io/?EIO=4&transport=polling").await?;
    let text = String::from_utf8(handshake.body.to_vec())?;
    let sid = text
        .split("\"sid\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let sid = sid.context("no session")?;
    let poll = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let acknowledge = "/devices/OTSM-0001/subtronics/alerts/a1/acknowledge";
    let requests = [poll.as_str(), acknowledge].map(|path| {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n4");
        async move { http::send_raw(port, &head).await }
    });
    for answer in futures_util::future::join_all(requests).await {
        let answer = answer?;
        ensure!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    stack.pass()
}
