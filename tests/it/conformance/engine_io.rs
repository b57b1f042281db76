//! Sessions, heartbeats and upgrades.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::eventually::eventually;
use tests::http::{self, Connection};
use tests::websocket::WebSocket;

use super::{POLLING, WEBSOCKET, expect_end, expect_refused, open_polling, paths_of, start};

fn keys(open: &Value) -> Vec<&str> {
    let fields = open.as_object().into_iter().flatten();
    fields.map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn both_transports_open_a_session() -> Result<()> {
    let (stack, port) = start("--ping-interval=7s --max-event-bytes=2000").await?;
    let mut connection = Connection::open(port).await?;
    let polling = open_polling(&mut connection).await?;
    let websocket = WebSocket::open(port, WEBSOCKET).await?.json("0").await?;
    for (open, upgrades) in [(polling, json!(["websocket"])), (websocket, json!([]))] {
        let expected = [
            "maxPayload",
            "pingInterval",
            "pingTimeout",
            "sid",
            "upgrades",
        ];
        let mut keys = keys(&open);
        keys.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!(open["upgrades"], upgrades);
        assert_eq!(open["pingInterval"], 7_000);
        assert_eq!(open["pingTimeout"], 600_000);
        assert_eq!(open["maxPayload"], 2_000);
        assert!(open["sid"].is_string(), "{open}");
    }
    stack.pass()
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_with_the_code_of_the_protocol() -> Result<()> {
    let (stack, port) = start("").await?;
    for (method, query, code) in [
        ("GET", "transport=polling", 5),
        ("GET", "EIO=abc&transport=polling", 5),
        ("GET", "EIO=3&transport=polling", 5),
        ("GET", "EIO=4", 0),
        ("GET", "EIO=4&transport=abc", 0),
        ("POST", "EIO=4&transport=polling", 2),
        ("PUT", "EIO=4&transport=polling", 2),
        ("PUT", "EIO=4&transport=polling&sid=abc", 3),
        // A request for a WebSocket without its headers.
        ("GET", "EIO=4&transport=websocket", 3),
    ] {
        let path = format!("/socket.io/?{query}");
        let answer = http::send(port, method, &path, &[], b"").await?;
        let body = answer.expect(400)?;
        ensure!(body["code"] == code, "{method} {query}: {body}");
        ensure!(body["message"].is_string(), "{body}");
    }
    for (query, code) in [
        ("transport=websocket", 5),
        ("EIO=abc&transport=websocket", 5),
        ("EIO=3&transport=websocket", 5),
        ("EIO=4", 0),
        ("EIO=4&transport=abc", 0),
        ("EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAA", 1),
    ] {
        expect_refused(port, &format!("/socket.io/?{query}"), code).await?;
    }
    stack.pass()
}

#[tokio::test]
async fn pings_come_in_regular_intervals_also_before_the_client_joins() -> Result<()> {
    let (stack, port) = start("--ping-interval=1s").await?;
    let mut socket = WebSocket::open(port, WEBSOCKET).await?;
    socket.json("0").await?;
    let mut connection = Connection::open(port).await?;
    let (session, _) = paths_of(&open_polling(&mut connection).await?);
    for _ in 0..3 {
        assert_eq!(socket.text().await?, "2");
        socket.send("3").await?;
        let poll = connection.send("GET", &session, &[], b"").await?;
        assert_eq!((poll.status, &poll.body[..]), (200, &b"2"[..]));
        let pong = connection.send("POST", &session, &[], b"3").await?;
        assert_eq!((pong.status, &pong.body[..]), (200, &b"ok"[..]));
    }
    stack.pass()
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed() -> Result<()> {
    let (stack, port) = start("--ping-interval=1s --ping-timeout=1s").await?;
    let socket = WebSocket::open(port, WEBSOCKET).await?;
    let mut connection = Connection::open(port).await?;
    let (session, _) = paths_of(&open_polling(&mut connection).await?);
    expect_end(socket).await?;
    eventually("the session has ended", async || {
        let poll = connection.send("GET", &session, &[], b"").await?;
        ensure!(poll.status == 400, "{poll:?}");
        Ok(())
    })
    .await?;
    stack.pass()
}

#[tokio::test]
async fn a_client_can_close_its_session() -> Result<()> {
    let (stack, port) = start("").await?;
    let mut socket = WebSocket::open(port, WEBSOCKET).await?;
    socket.json("0").await?;
    socket.send("1").await?;
    expect_end(socket).await?;

    let mut connection = Connection::open(port).await?;
    let (session, _) = paths_of(&open_polling(&mut connection).await?);
    // The first ping.
    connection.send("GET", &session, &[], b"").await?;
    let poll = connection.send("GET", &session, &[], b"");
    let close = http::send(port, "POST", &session, &[], b"1");
    let (poll, closed) = tokio::join!(poll, close);
    ensure!(closed?.status == 200);
    // If the poll comes second, its session is not known any more.
    let poll = poll?;
    ensure!(
        poll.status == 400 || &poll.body[..] == b"6" || &poll.body[..] == b"1",
        "{poll:?}"
    );
    let after = connection.send("GET", &session, &[], b"").await?;
    ensure!(after.expect(400)?["code"] == 1, "{after:?}");
    stack.pass()
}

#[tokio::test]
async fn what_is_no_packet_ends_the_session() -> Result<()> {
    let (stack, port) = start("").await?;
    for text in ["abc", "", "9", "4", "ü"] {
        let mut socket = WebSocket::open(port, WEBSOCKET).await?;
        socket.json("0").await?;
        socket.send(text).await?;
        expect_end(socket).await?;
    }
    let mut connection = Connection::open(port).await?;
    let (session, _) = paths_of(&open_polling(&mut connection).await?);
    let answer = connection.send("POST", &session, &[], b"abc").await?;
    ensure!(answer.status == 400, "{answer:?}");
    let after = connection.send("GET", &session, &[], b"").await?;
    ensure!(after.status == 400, "{after:?}");
    stack.pass()
}

#[tokio::test]
async fn after_an_upgrade_the_session_has_the_websocket_only() -> Result<()> {
    let (stack, port) = start("").await?;
    for joins_before in [true, false] {
        let mut connection = Connection::open(port).await?;
        let (session, upgrade) = paths_of(&open_polling(&mut connection).await?);
        if joins_before {
            connection.send("POST", &session, &[], b"40").await?;
        }
        let mut socket = WebSocket::open(port, &upgrade).await?;
        socket.send("2probe").await?;
        assert_eq!(socket.text().await?, "3probe");
        // So that the client can stop polling. Before, it gets what waits.
        let mut joined = false;
        loop {
            let poll = connection.send("GET", &session, &[], b"").await?;
            ensure!(poll.status == 200, "{poll:?}");
            if &poll.body[..] == b"6" {
                break;
            }
            joined |= poll.body.windows(3).any(|bytes| bytes == b"40{");
        }
        socket.send("5").await?;
        assert_eq!(joined, joins_before);
        // The schedule of the pings begins anew, so one comes at once.
        assert_eq!(socket.text().await?, "2");
        if !joins_before {
            socket.send("40").await?;
            socket.json("40").await?;
        }
        socket.send(r#"427["subscribe:device","OTSM-1"]"#).await?;
        socket.json("437").await?;
        let poll = connection.send("GET", &session, &[], b"").await?;
        ensure!(poll.expect(400)?["code"] == 1, "{poll:?}");
        expect_refused(port, &upgrade, 1).await?;
    }
    stack.pass()
}

#[tokio::test]
async fn an_upgrade_that_goes_wrong_leaves_the_session_as_it_was() -> Result<()> {
    let (stack, port) = start("").await?;
    let mut connection = Connection::open(port).await?;
    let (session, upgrade) = paths_of(&open_polling(&mut connection).await?);
    let mut socket = WebSocket::open(port, &upgrade).await?;
    socket.send("4nonsense").await?;
    expect_end(socket).await?;
    let answer = connection.send("POST", &session, &[], b"40").await?;
    assert_eq!(answer.status, 200);
    eventually("the session is joined", async || {
        let poll = connection.send("GET", &session, &[], b"").await?;
        let joined = poll.body.windows(3).any(|bytes| bytes == b"40{");
        ensure!(joined, "{poll:?}");
        Ok(())
    })
    .await?;
    // The next one works.
    let mut socket = WebSocket::open(port, &upgrade).await?;
    socket.send("2probe").await?;
    assert_eq!(socket.text().await?, "3probe");
    stack.pass()
}

#[tokio::test]
async fn a_session_needs_no_slash_and_no_order_of_its_query() -> Result<()> {
    let (stack, port) = start("").await?;
    for path in [
        "/socket.io?EIO=4&transport=polling",
        "/socket.io/?transport=polling&EIO=4&t=P1x2",
        POLLING,
    ] {
        let answer = http::send(port, "GET", path, &[], b"").await?;
        assert_eq!(answer.status, 200, "{path}");
    }
    stack.pass()
}
