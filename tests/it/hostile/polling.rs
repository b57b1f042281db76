//! Long polling sessions: each counts as a connection, and holds and costs a bounded amount.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::eventually::eventually;
use tests::http::{self, Connection, Response};
use tests::stack::{Plan, Stack};

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";
/// A session id that no server has given out.
const UNKNOWN: &str = "AAAAAAAAAAAAAAAA";
/// Separates the packets of one body.
const SEPARATOR: char = '\u{1e}';

fn path_of(sid: &str) -> String {
    format!("{OPEN}&sid={sid}")
}

/// Returns the session that the answer of a handshake opens.
fn sid_in(answer: &Response) -> Result<String> {
    let open = answer.body.strip_prefix(b"0").context("no open packet")?;
    let open: Value = serde_json::from_slice(open)?;
    let sid = open["sid"].as_str().context("no session")?;
    Ok(sid.to_owned())
}

/// Opens a session. Fails if it is refused.
async fn open(connection: &mut Connection) -> Result<String> {
    let answer = connection.send("GET", OPEN, &[], b"").await?;
    ensure!(answer.status == 200, "{answer:?}");
    sid_in(&answer)
}

/// Sends packets to a session.
async fn post(connection: &mut Connection, sid: &str, body: &str) -> Result<Response> {
    let body = body.as_bytes();
    connection.send("POST", &path_of(sid), &[], body).await
}

/// Joins the namespace and waits for the answer, as a client does before it sends events.
async fn join(connection: &mut Connection, sid: &str) -> Result<()> {
    let answer = post(connection, sid, "40").await?;
    ensure!(answer.status == 200, "{answer:?}");
    loop {
        let polled = connection.send("GET", &path_of(sid), &[], b"").await?;
        ensure!(polled.status == 200, "{polled:?}");
        if polled.body.windows(3).any(|bytes| bytes == b"40{") {
            return Ok(());
        }
    }
}

/// Fails unless the server does not know the session.
fn expect_unknown(answer: &Response) -> Result<()> {
    let body = answer.expect(400)?;
    ensure!(body["message"] == "Session ID unknown", "{body}");
    Ok(())
}

/// Opens sessions over two connections until one is refused.
async fn open_all(stack: &Stack) -> Result<(Vec<Connection>, Vec<String>)> {
    let port = stack.gateways[0].port();
    let mut connections = vec![Connection::open(port).await?, Connection::open(port).await?];
    let mut sessions = Vec::new();
    loop {
        let number = sessions.len();
        ensure!(number <= 2 * PLACES, "more sessions than connections");
        let answer = connections[number % 2].send("GET", OPEN, &[], b"").await?;
        if answer.status == 200 {
            sessions.push(sid_in(&answer)?);
            continue;
        }
        let refusal = answer.expect(503)?;
        ensure!(refusal["code"].is_u64(), "{refusal}");
        ensure!(refusal["message"].is_string(), "{refusal}");
        return Ok((connections, sessions));
    }
}

/// Connections and sessions together. The sessions are opened over two connections.
const PLACES: usize = 12;

fn number_of(sessions: &[String]) -> Result<f64> {
    Ok(f64::from(u32::try_from(sessions.len())?))
}

#[tokio::test]
async fn sessions_count_as_connections_until_they_end() -> Result<()> {
    let flags = format!("--max-connections={PLACES} --connect-timeout=10m --ping-timeout=10m");
    let stack = Plan::default().gateway_flags(&flags).start().await?;
    let gateway = &stack.gateways[0];
    let (mut connections, sessions) = open_all(&stack).await?;
    ensure!(sessions.len() <= PLACES - 2, "{} sessions", sessions.len());
    let refused = gateway
        .metric(r#"gateway_handshakes_refused_total{reason="full"}"#)
        .await?;
    ensure!(refused >= 1.0, "{refused}");
    let open_sessions = gateway.metric("gateway_polling_sessions").await?;
    ensure!(
        (open_sessions - number_of(&sessions)?).abs() < 0.5,
        "{open_sessions}"
    );

    // Those that have a place are served.
    for sid in &sessions {
        let answer = post(&mut connections[0], sid, "40").await?;
        ensure!(answer.status == 200, "{answer:?}");
    }

    // One that leaves makes room.
    post(&mut connections[0], &sessions[0], "1").await?;
    eventually("a session can be opened", async || {
        let answer = connections[0].send("GET", OPEN, &[], b"").await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await?;
    let held = gateway.metric("gateway_polling_sessions").await?;
    ensure!(held <= 10.0, "{held}");
    stack.pass()
}

#[tokio::test]
async fn a_session_that_is_left_alone_gives_its_place_back() -> Result<()> {
    for (joins, flags) in [
        (false, "--connect-timeout=1s --ping-timeout=10m"),
        // The client never answers a ping.
        (true, "--connect-timeout=10m --ping-timeout=10s"),
    ] {
        let flags = format!("--max-connections={PLACES} {flags}");
        let stack = Plan::default().gateway_flags(&flags).start().await?;
        let (mut connections, sessions) = open_all(&stack).await?;
        if joins {
            for sid in &sessions {
                post(&mut connections[0], sid, "40").await?;
            }
        }
        eventually("every session has ended", async || {
            let held = stack.gateways[0].metric("gateway_polling_sessions").await?;
            ensure!(held < 0.5, "{held} sessions hold a place");
            Ok(())
        })
        .await?;
        open(&mut connections[0]).await?;
        stack.pass()?;
    }
    Ok(())
}

#[tokio::test]
async fn an_upgrade_gives_the_place_of_the_session_back() -> Result<()> {
    // The connections of the client's polls and of its WebSocket, and its session.
    let stack = Plan::default().start().await?;
    let gateway = &stack.gateways[0];
    let browser = stack.browser().await?;
    eventually("only the WebSocket counts", async || {
        let sessions = gateway.metric("gateway_polling_sessions").await?;
        let clients = gateway
            .metric(r#"gateway_connections{transport="websocket"}"#)
            .await?;
        ensure!(
            sessions < 1.0 && clients >= 1.0,
            "{sessions} sessions, {clients} clients"
        );
        Ok(())
    })
    .await?;
    drop(browser);
    stack.pass()
}

#[tokio::test]
async fn unknown_sessions_are_refused_whatever_they_ask_for() -> Result<()> {
    let stack = Stack::start().await?;
    let gateway = &stack.gateways[0];
    let mut connection = Connection::open(gateway.port()).await?;
    let upgrade = format!("/socket.io/?EIO=4&transport=websocket&sid={UNKNOWN}");
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = http::send(gateway.port(), "GET", &upgrade, &headers, b"").await?;
    expect_unknown(&answer)?;
    expect_unknown(&connection.send("GET", &upgrade, &[], b"").await?)?;
    expect_unknown(&connection.send("GET", &path_of(UNKNOWN), &[], b"").await?)?;
    expect_unknown(&post(&mut connection, UNKNOWN, "3").await?)?;
    let refused = gateway
        .metric(r#"gateway_polling_refused_total{reason="unknown"}"#)
        .await?;
    ensure!(refused >= 4.0, "{refused}");
    stack.pass()
}

#[tokio::test]
async fn a_repeated_connect_ends_the_session() -> Result<()> {
    let stack = Stack::start().await?;
    let gateway = &stack.gateways[0];
    let mut connection = Connection::open(gateway.port()).await?;
    let repeated = format!("40{SEPARATOR}").repeat(1_000);
    for body in ["40", repeated.trim_end_matches(SEPARATOR)] {
        let sid = open(&mut connection).await?;
        if body == "40" {
            // Before it has joined there is no client that could be disconnected.
            join(&mut connection, &sid).await?;
        }
        let answer = post(&mut connection, &sid, body).await?;
        ensure!(answer.expect(400)?["code"] == 3, "{answer:?}");
        expect_unknown(&post(&mut connection, &sid, "3").await?)?;
    }
    let refused = gateway
        .metric(r#"gateway_polling_refused_total{reason="connects"}"#)
        .await?;
    ensure!((refused - 2.0).abs() < 0.5, "{refused}");
    let ended = r#"gateway_disconnections_total{reason="repeated_connect"}"#;
    eventually("the client is gone", async || {
        let ended = gateway.metric(ended).await?;
        ensure!((ended - 1.0).abs() < 0.5, "{ended}");
        Ok(())
    })
    .await?;
    stack.pass()
}

#[tokio::test]
async fn a_session_that_sends_too_many_packets_is_closed() -> Result<()> {
    let flags = "--packet-rate=10 --subscriptions-per-client=50 --ping-timeout=10m";
    let stack = Plan::default().gateway_flags(flags).start().await?;
    let gateway = &stack.gateways[0];
    let mut connection = Connection::open(gateway.port()).await?;
    let sid = open(&mut connection).await?;
    join(&mut connection, &sid).await?;
    // Twice as many subscriptions as a client may have are no reason.
    let packets: Vec<String> = (0..100)
        .map(|number| format!(r#"42["subscribe:device","OTSM-{:04}"]"#, number % 50))
        .collect();
    for packets in packets.chunks(50) {
        let body = packets.join(&SEPARATOR.to_string());
        let answer = post(&mut connection, &sid, &body).await?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    // More than a burst may have: 10 seconds' worth and twice the subscriptions.
    let body = vec!["3"; 1_000].join(&SEPARATOR.to_string());
    let answer = post(&mut connection, &sid, &body).await?;
    ensure!(answer.expect(400)?["code"] == 3, "{answer:?}");
    expect_unknown(&post(&mut connection, &sid, "3").await?)?;
    let refused = gateway
        .metric(r#"gateway_polling_refused_total{reason="packets"}"#)
        .await?;
    ensure!((refused - 1.0).abs() < 0.5, "{refused}");
    stack.pass()
}

#[tokio::test]
async fn a_second_poll_at_the_same_time_ends_the_session() -> Result<()> {
    let stack = Plan::default()
        .gateway_flags("--ping-timeout=10m --connect-timeout=10m")
        .start()
        .await?;
    let port = stack.gateways[0].port();
    let mut connection = Connection::open(port).await?;
    let sid = open(&mut connection).await?;
    let path = path_of(&sid);
    // The first poll takes what waits: a ping, which is sent at once.
    let ping = connection.send("GET", &path, &[], b"").await?;
    ensure!(&*ping.body == b"2", "{ping:?}");
    let polls = (0..8).map(|_| http::send(port, "GET", &path, &[], b""));
    for answer in futures_util::future::join_all(polls).await {
        let answer = answer?;
        ensure!(matches!(answer.status, 200 | 400), "{answer:?}");
    }
    expect_unknown(&connection.send("GET", &path, &[], b"").await?)?;
    stack.pass()
}

#[tokio::test]
async fn what_waits_for_a_session_that_never_polls_is_bounded() -> Result<()> {
    let flags = "--client-buffer=16 --outbox-packets=64 --ping-timeout=10m --alarm-deadline=10m";
    let stack = Plan::default().gateway_flags(flags).start().await?;
    let gateway = &stack.gateways[0];
    let mut connection = Connection::open(gateway.port()).await?;
    let sid = open(&mut connection).await?;
    join(&mut connection, &sid).await?;
    // Each has an answer, which waits for a poll.
    let packets: Vec<String> = (0..200)
        .map(|number| format!(r#"42{number}["unsubscribe:device","OTSM-0001"]"#))
        .collect();
    let body = packets.join(&SEPARATOR.to_string());
    let answer = post(&mut connection, &sid, &body).await?;
    ensure!(answer.status == 200, "{answer:?}");
    let ended = r#"gateway_disconnections_total{reason="outbox_packets"}"#;
    eventually("the client is disconnected", async || {
        let ended = gateway.metric(ended).await?;
        ensure!(ended >= 1.0, "{ended}");
        expect_unknown(&post(&mut connection, &sid, "3").await?)
    })
    .await?;
    stack.pass()
}
