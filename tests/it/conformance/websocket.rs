//! Frames of a running gateway.

use anyhow::{Context, Result, bail, ensure};
use tests::eventually::LATE;
use tests::http::Connection;
use tests::websocket::{BINARY, CLOSE, Frame, PING, PONG, TEXT, WebSocket};
use tokio::time::timeout;

use super::{WEBSOCKET, expect_end, join, open_polling, paths_of, start};

/// A text message that goes on in the next frame, a frame that goes on, and the last frame.
const BEGIN: u8 = 0x01;
const GO_ON: u8 = 0x00;
const END: u8 = 0x80;

#[tokio::test]
async fn a_message_may_come_in_fragments_with_control_frames_between() -> Result<()> {
    let (stack, port) = start("").await?;
    let mut socket = join(port).await?;
    socket.send_frame(BEGIN, b"421[\"subscribe").await?;
    socket.send_frame(PING, b"now").await?;
    socket.send_frame(GO_ON, b":device\",\"OTSM-").await?;
    socket.send_frame(PONG, b"").await?;
    socket.send_frame(END, b"1\"]").await?;
    let pong = Frame {
        kind: PONG,
        payload: b"now".to_vec(),
    };
    assert_eq!(socket.next().await?, Some(pong));
    socket.json("431").await?;
    stack.pass()
}

#[tokio::test]
async fn a_closing_handshake_is_answered_and_the_connection_ends() -> Result<()> {
    let (stack, port) = start("").await?;
    for (payload, answer) in [
        (&[0x03, 0xe8, b'b', b'y', b'e'][..], 1000),
        (&[0x03, 0xe9], 1001),
        (&[0x0b, 0xb8], 3000),
        (&[], 1000),
    ] {
        let mut socket = join(port).await?;
        socket.send_frame(CLOSE, payload).await?;
        let frames = socket.until_end().await?;
        let expected = Frame {
            kind: CLOSE,
            payload: u16::to_be_bytes(answer).to_vec(),
        };
        assert_eq!(frames, [expected]);
    }
    stack.pass()
}

#[tokio::test]
async fn a_client_that_breaks_the_rules_gets_the_code() -> Result<()> {
    let (stack, port) = start("--max-event-bytes=1024").await?;
    let invalid_text = b"42[\"\xff\"]";
    for (first, payload, code) in [
        (TEXT, &invalid_text[..], 1007_u16),
        (GO_ON, b"x", 1002),
        (TEXT | 0x40, b"3", 1002),
        (0x83, b"3", 1002),
        (CLOSE, &[0x03], 1002),
    ] {
        let mut socket = join(port).await?;
        socket.send_frame(first, payload).await?;
        let frames = socket.until_end().await?;
        let close = frames.last().filter(|frame| frame.kind == CLOSE);
        let told = close.map(|frame| frame.payload[..2].to_vec());
        ensure!(
            told == Some(code.to_be_bytes().to_vec()),
            "{first:x}: {frames:?}"
        );
    }
    stack.pass()
}

/// Fails unless the gateway ends the connection of a client that sends such frames without an end.
async fn expect_end_of_flood(mut socket: WebSocket, first: u8, payload: &[u8]) -> Result<()> {
    for _ in 0..10_000 {
        let sending = timeout(LATE, socket.send_frames(first, payload, 1_000));
        if sending.await.context("nothing is read")?.is_err() {
            return Ok(());
        }
    }
    bail!("ten million frames were taken");
}

#[tokio::test]
async fn frames_that_are_no_packets_are_bounded() -> Result<()> {
    let (stack, port) = start("").await?;
    let mut joined = join(port).await?;
    joined.send_frame(BEGIN, b"").await?;
    expect_end_of_flood(joined, GO_ON, b"").await?;
    let mut unjoined = WebSocket::open(port, WEBSOCKET).await?;
    unjoined.send_frame(BEGIN, b"").await?;
    expect_end_of_flood(unjoined, GO_ON, b"").await?;
    expect_end_of_flood(join(port).await?, PONG, b"").await?;
    for (first, payload) in [(PONG, &b""[..]), (BINARY, b"x"), (TEXT, b"2probe")] {
        let mut connection = Connection::open(port).await?;
        let (_, upgrade) = paths_of(&open_polling(&mut connection).await?);
        let socket = WebSocket::open(port, &upgrade).await?;
        expect_end_of_flood(socket, first, payload).await?;
    }
    stack.pass()
}

#[tokio::test]
async fn a_message_of_many_fragments_is_bounded() -> Result<()> {
    let (stack, port) = start("--max-event-bytes=1024").await?;
    let mut socket = join(port).await?;
    socket.send_frame(BEGIN, b"42[\"").await?;
    // The gateway may have closed the connection already.
    for _ in 0..20 {
        if socket.send_frame(GO_ON, &[b'x'; 100]).await.is_err() {
            break;
        }
    }
    expect_end(socket).await?;
    stack.pass()
}
