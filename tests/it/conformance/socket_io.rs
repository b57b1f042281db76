//! The namespace, events and their acknowledgements, over a WebSocket.

use anyhow::{Result, ensure};
use tests::websocket::{BINARY, WebSocket};

use super::{WEBSOCKET, expect_end, join, start};

/// Subscribes with this acknowledgement id and waits for the reply, which shows that the connection works.
async fn expect_alive(socket: &mut WebSocket, id: u32) -> Result<()> {
    let event = format!(r#"42{id}["subscribe:device","OTSM-{id}"]"#);
    socket.send(&event).await?;
    let reply = socket.json(&format!("43{id}")).await?;
    ensure!(reply[0]["ok"].is_boolean() && reply[1].is_null(), "{reply}");
    Ok(())
}

#[tokio::test]
async fn a_client_joins_the_namespace_with_and_without_a_payload() -> Result<()> {
    let (stack, port) = start("").await?;
    for connect in [
        "40",
        "40/,",
        r#"40{"token":"123"}"#,
        r#"40/,{"token":"123"}"#,
    ] {
        let mut socket = WebSocket::open(port, WEBSOCKET).await?;
        socket.json("0").await?;
        socket.send(connect).await?;
        let connected = socket.json("40").await?;
        let fields: Vec<_> = connected.as_object().into_iter().flatten().collect();
        ensure!(
            fields.len() == 1 && connected["sid"].is_string(),
            "{connected}"
        );
        expect_alive(&mut socket, 1).await?;
    }
    stack.pass()
}

#[tokio::test]
async fn other_namespaces_are_refused_and_the_connection_stays() -> Result<()> {
    let (stack, port) = start("").await?;
    let mut socket = WebSocket::open(port, WEBSOCKET).await?;
    socket.json("0").await?;
    socket.send("40/random").await?;
    let refused = r#"44/random,{"message":"Invalid namespace"}"#;
    assert_eq!(socket.text().await?, refused);
    socket.send("40").await?;
    socket.json("40").await?;
    socket.send(r#"40/random,{"token":"123"}"#).await?;
    assert_eq!(socket.text().await?, refused);
    socket.send("41/random").await?;
    expect_alive(&mut socket, 2).await?;
    stack.pass()
}

#[tokio::test]
async fn the_connection_ends_without_a_valid_connect_packet() -> Result<()> {
    let (stack, port) = start("").await?;
    for packet in [
        "4abc",
        r#"42["subscribe:device","OTSM-1"]"#,
        r#"431["answer"]"#,
        "45",
    ] {
        let mut socket = WebSocket::open(port, WEBSOCKET).await?;
        socket.json("0").await?;
        socket.send(packet).await?;
        expect_end(socket).await?;
    }
    // A client that leaves by itself is not counted.
    drop(WebSocket::open(port, WEBSOCKET).await?);
    let refused = r#"gateway_handshakes_refused_total{reason="invalid"}"#;
    let count = stack.gateways[0].metric(refused).await?;
    ensure!((3.5..4.5).contains(&count), "{count}");
    let (other, port) = start("--connect-timeout=1s").await?;
    expect_end(WebSocket::open(port, WEBSOCKET).await?).await?;
    let count = other.gateways[0].metric(refused).await?;
    ensure!((0.5..1.5).contains(&count), "{count}");
    stack.pass()?;
    other.pass()
}

/// The server of Node.js keeps the connection, which then has no purpose, as there is one namespace.
#[tokio::test]
async fn a_client_that_leaves_the_namespace_is_disconnected() -> Result<()> {
    let (stack, port) = start("").await?;
    let mut socket = join(port).await?;
    socket.send("41").await?;
    expect_end(socket).await?;
    stack.pass()
}

#[tokio::test]
async fn a_second_connect_packet_ends_the_connection() -> Result<()> {
    let (stack, port) = start("").await?;
    let mut socket = join(port).await?;
    socket.send("40").await?;
    expect_end(socket).await?;
    stack.pass()
}

#[tokio::test]
async fn events_are_answered_under_the_id_that_the_client_chose() -> Result<()> {
    let (stack, port) = start("").await?;
    let mut socket = join(port).await?;
    for id in [0, 1, 456] {
        expect_alive(&mut socket, id).await?;
    }
    // With the name of the namespace, and an event that nobody knows.
    socket.send(r#"42/,7["subscribe:device","OTSM-7"]"#).await?;
    socket.json("437").await?;
    socket.send(r#"42["message",1,"2",{"3":[true]}]"#).await?;
    socket.send(r#"428["message",1]"#).await?;
    expect_alive(&mut socket, 9).await?;
    stack.pass()
}

#[tokio::test]
async fn an_event_with_attachments_is_refused_and_the_connection_stays() -> Result<()> {
    let (stack, port) = start("").await?;
    let mut socket = join(port).await?;
    let place = r#"{"_placeholder":true,"num":0}"#;
    let event = format!(r#"452-12["subscribe:device",{place},{place}]"#);
    socket.send(&event).await?;
    let reply = socket.json("4312").await?;
    ensure!(reply[0]["error"]["code"] == "invalid", "{reply}");
    socket.send_frame(BINARY, &[1, 2, 3]).await?;
    socket.send_frame(BINARY, &[4, 5, 6]).await?;
    expect_alive(&mut socket, 13).await?;
    // One attachment more than were announced.
    socket.send_frame(BINARY, &[7]).await?;
    expect_end(socket).await?;
    stack.pass()
}

#[tokio::test]
async fn what_is_no_event_ends_the_connection() -> Result<()> {
    let (stack, port) = start("").await?;
    for packet in [
        "42",
        "42{}",
        "42[]",
        "42[1]",
        r#"42["subscribe:device""#,
        r#"42/random,["subscribe:device","OTSM-1"]"#,
        r#"4299999999999999999999["subscribe:device","OTSM-1"]"#,
        "44",
        "47",
    ] {
        let mut socket = join(port).await?;
        socket.send(packet).await?;
        expect_end(socket).await?;
    }
    stack.pass()
}

#[tokio::test]
async fn pings_come_while_commands_wait_for_redis() -> Result<()> {
    let (stack, port) = start("--ping-interval=1s").await?;
    let mut socket = join(port).await?;
    stack.redis_proxy.cut();
    for id in 0..3 {
        let event = format!(r#"42{id}["subscribe:device","OTSM-{id}"]"#);
        socket.send(&event).await?;
    }
    let mut pings = 0;
    while pings < 3 {
        let text = socket.text().await?;
        ensure!(!text.starts_with("43"), "answered without Redis: {text}");
        if text == "2" {
            pings += 1;
            socket.send("3").await?;
        }
    }
    stack.redis_proxy.heal();
    let mut answers = 0;
    while answers < 3 {
        answers += usize::from(socket.text().await?.starts_with("43"));
    }
    stack.pass()
}
