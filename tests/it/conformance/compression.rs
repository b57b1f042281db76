//! Compressed messages (RFC 7692) of a running gateway with `--compress`.

use anyhow::{Context, Result, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value, json};
use tests::browser::{Browser, BrowserEvent, Transport};
use tests::websocket::{CLOSE, Frame, TEXT, WebSocket};

use super::{WEBSOCKET, join, start};

/// The bit of the first byte that marks a message as compressed.
const COMPRESSED: u8 = 0x40;
/// What browsers offer.
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const DEVICE: &str = "OTSM-0114";

/// Opens a WebSocket with compression whose client has joined the namespace.
async fn join_compressed(port: u16) -> Result<WebSocket> {
    let (mut socket, head) = WebSocket::open_with(port, WEBSOCKET, OFFER).await?;
    let accepted = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
    ensure!(head.contains(accepted.trim()), "{head}");
    socket.json("0").await?;
    socket.send("40").await?;
    socket.json("40").await?;
    Ok(socket)
}

fn compress(message: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(message.len() + 100);
    Compress::new(Compression::best(), false).compress_vec(
        message,
        &mut bytes,
        FlushCompress::Sync,
    )?;
    let length = bytes.len() - TAIL.len();
    bytes.truncate(length);
    Ok(bytes)
}

/// Returns the text of a message, compressed or not.
fn text_of(frame: &Frame) -> Result<String> {
    if frame.kind == TEXT {
        return Ok(String::from_utf8(frame.payload.clone())?);
    }
    ensure!(frame.kind == TEXT | COMPRESSED, "{frame:?}");
    let mut text = Vec::with_capacity(100_000);
    let bytes = [&frame.payload[..], &TAIL].concat();
    Decompress::new(false).decompress_vec(&bytes, &mut text, FlushDecompress::Sync)?;
    Ok(String::from_utf8(text)?)
}

/// Returns the next reading of a client, and the frame it came in.
async fn next_reading(socket: &mut WebSocket) -> Result<(Value, Frame)> {
    loop {
        let frame = socket.next().await?.context("the connection has ended")?;
        let text = text_of(&frame)?;
        if let Some(event) = text.strip_prefix("42") {
            let event: Value = serde_json::from_str(event)?;
            if event[0] == "device:data" {
                return Ok((event[1].clone(), frame));
            }
        }
    }
}

/// Subscribes and waits for the first reading.
async fn subscribe(socket: &mut WebSocket) -> Result<()> {
    let event = format!(r#"42["subscribe:device","{DEVICE}"]"#);
    socket.send(&event).await?;
    next_reading(socket).await.map(drop)
}

/// Fails unless the client is told this code.
async fn expect_code(mut socket: WebSocket, code: u16) -> Result<()> {
    let frames = socket.until_end().await?;
    let close = frames.last().filter(|frame| frame.kind == CLOSE);
    let told = close.map(|frame| frame.payload[..2].to_vec());
    ensure!(told == Some(code.to_be_bytes().to_vec()), "{frames:?}");
    Ok(())
}

#[tokio::test]
async fn a_reading_is_the_same_with_fewer_bytes() -> Result<()> {
    let (stack, port) = start("--compress").await?;
    let device = stack.device(DEVICE);
    device.send(20).await?;
    stack.shows(DEVICE, 20).await?;
    let mut plain = join(port).await?;
    let mut compressed = join_compressed(port).await?;
    subscribe(&mut plain).await?;
    subscribe(&mut compressed).await?;
    device.send(21).await?;
    let (reading, whole) = next_reading(&mut plain).await?;
    let (same, shorter) = next_reading(&mut compressed).await?;
    assert_eq!(reading, same);
    assert_eq!(whole.kind, TEXT);
    assert_eq!(shorter.kind, TEXT | COMPRESSED);
    let (before, after) = (whole.payload.len(), shorter.payload.len());
    ensure!(after * 10 < before * 7, "{before} and {after} bytes");
    stack.pass()
}

#[tokio::test]
async fn clients_may_send_compressed_messages() -> Result<()> {
    let (stack, port) = start("--compress").await?;
    let mut socket = join_compressed(port).await?;
    let event = compress(br#"421["subscribe:device","OTSM-1"]"#)?;
    // In one frame, and in two with a control frame between them.
    socket.send_frame(TEXT | COMPRESSED, &event).await?;
    socket.json("431").await?;
    let event = compress(br#"422["unsubscribe:device","OTSM-1"]"#)?;
    let (first, rest) = event.split_at(3);
    socket.send_frame(0x01 | COMPRESSED, first).await?;
    socket.send_frame(0x8a, b"").await?;
    socket.send_frame(0x80, rest).await?;
    socket.json("432").await?;
    // A whole message without compression is allowed, too.
    socket.send(r#"423["unsubscribe:device","OTSM-1"]"#).await?;
    socket.json("433").await?;
    stack.pass()
}

#[tokio::test]
async fn what_was_not_agreed_on_and_what_gets_too_long_is_refused() -> Result<()> {
    let (stack, port) = start("--compress --max-event-bytes=1024").await?;
    let fits = compress(&[b' '; 1024])?;
    let mut socket = join(port).await?;
    socket.send_frame(TEXT | COMPRESSED, &fits).await?;
    expect_code(socket, 1002).await?;
    let bomb = compress(&vec![b' '; 100_000])?;
    ensure!(bomb.len() < 1024, "{} bytes", bomb.len());
    let mut socket = join_compressed(port).await?;
    socket.send_frame(TEXT | COMPRESSED, &bomb).await?;
    expect_code(socket, 1009).await?;
    let mut socket = join_compressed(port).await?;
    socket.send_frame(TEXT | COMPRESSED, &[0xff; 20]).await?;
    expect_code(socket, 1007).await?;
    // The window of what we send has its full size.
    let small = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n";
    let (_, head) = WebSocket::open_with(port, WEBSOCKET, small).await?;
    ensure!(!head.contains("permessage-deflate"), "{head}");
    stack.pass()
}

#[tokio::test]
async fn without_the_flag_no_offer_is_accepted() -> Result<()> {
    let (stack, port) = start("").await?;
    let (_, head) = WebSocket::open_with(port, WEBSOCKET, OFFER).await?;
    ensure!(!head.contains("permessage-deflate"), "{head}");
    stack.pass()
}

#[tokio::test]
async fn the_official_client_may_compress_over_every_websocket() -> Result<()> {
    let (stack, port) = start("--compress").await?;
    for (transport, value) in [(Transport::WebSocket, 20), (Transport::Upgrade, 30)] {
        let options = json!({
            "transports": transport.names(),
            // Everything that the client sends is compressed.
            "perMessageDeflate": {"threshold": 0},
        });
        let browser = Browser::open(port, options).await?;
        let extensions = |seen: &BrowserEvent| {
            seen.what == "extensions" && seen.name.starts_with("permessage-deflate")
        };
        browser.wait_for("the extensions", extensions).await?;
        if transport == Transport::Upgrade {
            browser
                .wait_for("the upgrade", |seen| seen.what == "upgrade")
                .await?;
        }
        browser.subscribe(DEVICE).await?;
        for value in [value, value + 1] {
            stack.device(DEVICE).send(value).await?;
            let is_value = |seen: &BrowserEvent| {
                seen.is_of("device:data", DEVICE) && seen.body["data"]["sensor_reading"] == value
            };
            browser.wait_for("the reading", is_value).await?;
        }
    }
    stack.pass()
}
