//! The rules of RFC 6455 that a client can break, seen at the connection.

use test_support::eventually::LATE;
use test_support::frames::{FINAL, masked};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::websocket::writer::tests::pair;

/// Longest message of these tests.
const MAX: usize = 1000;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

async fn reader() -> (MessageReader, TcpStream) {
    let (writer, peer) = pair().await;
    (MessageReader::new(Arc::new(writer), &[], MAX), peer)
}

async fn next(reader: &mut MessageReader) -> Result<Received, ReadEnd> {
    tokio::time::timeout(LATE, reader.next()).await.unwrap()
}

fn text(text: &str) -> Received {
    Received::Text(text.to_owned())
}

#[tokio::test]
async fn messages_are_read_however_their_bytes_arrive() {
    let (mut reader, mut peer) = reader().await;
    let mut bytes = masked(FINAL | TEXT, "grün".as_bytes());
    // Fragments, cut inside a character, with a control frame between them.
    bytes.extend(masked(TEXT, b"a\xc3"));
    bytes.extend(masked(FINAL | PONG, b""));
    bytes.extend(masked(FINAL, b"\xbcb"));
    bytes.extend(masked(FINAL | TEXT, b""));
    bytes.extend(masked(FINAL | TEXT, &[b'x'; MAX]));
    bytes.extend(masked(FINAL | BINARY, b"\xff"));
    let writing = async {
        for byte in bytes {
            peer.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        assert_eq!(next(&mut reader).await, Ok(text("grün")));
        assert_eq!(next(&mut reader).await, Ok(Received::Control));
        assert_eq!(next(&mut reader).await, Ok(text("aüb")));
        assert_eq!(next(&mut reader).await, Ok(text("")));
        assert_eq!(next(&mut reader).await, Ok(text(&"x".repeat(MAX))));
        assert_eq!(next(&mut reader).await, Ok(Received::Binary));
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn bytes_that_came_with_the_request_are_read_first() {
    let (writer, mut peer) = pair().await;
    let (first, rest) = (masked(FINAL | TEXT, b"one"), masked(FINAL | TEXT, b"two"));
    let mut received = first;
    received.extend(&rest[..3]);
    let mut reader = MessageReader::new(Arc::new(writer), &received, MAX);
    peer.write_all(&rest[3..]).await.unwrap();
    assert_eq!(next(&mut reader).await, Ok(text("one")));
    assert_eq!(next(&mut reader).await, Ok(text("two")));
}

#[tokio::test]
async fn a_ping_is_answered_with_its_bytes() {
    let (mut reader, mut peer) = reader().await;
    peer.write_all(&masked(FINAL | PING, b"abc")).await.unwrap();
    assert_eq!(next(&mut reader).await, Ok(Received::Control));
    let mut answer = [0; 5];
    let (read, _) = tokio::join!(
        tokio::time::timeout(LATE, peer.read_exact(&mut answer)),
        tokio::time::timeout(std::time::Duration::from_millis(1), reader.next()),
    );
    read.unwrap().unwrap();
    assert_eq!(answer, [FINAL | PONG, 3, b'a', b'b', b'c']);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_with_its_code() {
    let close = |code: u16| [&[FINAL | CLOSE, 2][..], &code.to_be_bytes()].concat();
    let unmasked = vec![FINAL | TEXT, 1, b'x'];
    let too_long = masked(FINAL | TEXT, &[b'x'; MAX + 1]);
    let mut too_long_in_parts = masked(TEXT, &[b'x'; MAX]);
    too_long_in_parts.extend(masked(FINAL, b"x"));
    // Its length alone is refused: nothing is kept for it.
    let huge = [&[FINAL | BINARY, 0xff][..], &[0x7f; 8], &[0; 4]].concat();
    for (name, bytes, end, code) in [
        ("unmasked", unmasked, ReadEnd::Invalid, 1002),
        ("reserved bit", masked(0xc1, b"x"), ReadEnd::Invalid, 1002),
        ("unknown kind", masked(0x83, b"x"), ReadEnd::Invalid, 1002),
        ("no beginning", masked(FINAL, b"x"), ReadEnd::Invalid, 1002),
        ("ping in parts", masked(PING, b""), ReadEnd::Invalid, 1002),
        (
            "long ping",
            masked(FINAL | PING, &[0; 126]),
            ReadEnd::Invalid,
            1002,
        ),
        (
            "bad text",
            masked(FINAL | TEXT, b"\xff"),
            ReadEnd::Invalid,
            1007,
        ),
        ("too long", too_long, ReadEnd::Invalid, 1009),
        (
            "too long in parts",
            too_long_in_parts,
            ReadEnd::Invalid,
            1009,
        ),
        ("huge", huge, ReadEnd::Invalid, 1009),
        (
            "close",
            masked(FINAL | CLOSE, &1001_u16.to_be_bytes()),
            ReadEnd::Closed,
            1001,
        ),
        (
            "close without code",
            masked(FINAL | CLOSE, b""),
            ReadEnd::Closed,
            1000,
        ),
    ] {
        let (mut reader, mut peer) = reader().await;
        peer.write_all(&bytes).await.unwrap();
        assert_eq!(next(&mut reader).await, Err(end), "{name}");
        reader.writer().shut_down();
        let mut answer = Vec::new();
        // What the reader did not take makes the kernel report a reset behind the answer.
        peer.read_to_end(&mut answer).await.ok();
        assert_eq!(answer, close(code), "{name}");
    }
}

#[tokio::test]
async fn the_end_of_the_connection_is_the_end_of_the_messages() {
    let (mut reader, peer) = reader().await;
    drop(peer);
    assert_eq!(next(&mut reader).await, Err(ReadEnd::Closed));
}

/// An empty fragment adds nothing to its message, and no packet is counted before the message is complete.
#[tokio::test]
async fn fragments_without_an_end_are_bounded() {
    let (mut reader, mut peer) = reader().await;
    let fragment = masked(0, b"");
    let enough = (MAX + MAX_OVERHEAD + READ_BYTES) / fragment.len() + 1;
    peer.write_all(&masked(TEXT, b"")).await.unwrap();
    peer.write_all(&fragment.repeat(enough)).await.unwrap();
    assert_eq!(next(&mut reader).await, Err(ReadEnd::Invalid));
    assert!(reader.progress.message_bytes <= MAX + MAX_OVERHEAD + READ_BYTES);
    let mut close = [0; 4];
    let read = tokio::time::timeout(LATE, peer.read_exact(&mut close));
    read.await.unwrap().unwrap();
    assert_eq!(close, [FINAL | CLOSE, 2, 0x03, 0xf0]);
}

/// As long as the peer sends, other tasks must have a turn, too.
#[tokio::test]
async fn a_flood_leaves_turns_to_other_tasks() {
    let (mut reader, mut peer) = reader().await;
    let flood = masked(FINAL | PONG, b"").repeat(1000);
    let mut turns = 0;
    let reading = async {
        for _ in 0..20_000 {
            assert_eq!(next(&mut reader).await, Ok(Received::Control));
        }
    };
    let others = async {
        loop {
            turns += 1;
            tokio::task::yield_now().await;
        }
    };
    let sending = async {
        for _ in 0..20 {
            peer.write_all(&flood).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = reading => {}
        () = others => {}
        () = sending => {}
    }
    assert!(turns > 20, "{turns} turns in 20 000 frames");
}

#[tokio::test]
async fn a_message_that_was_begun_must_be_completed() {
    let (mut reader, mut peer) = reader().await;
    let message = masked(FINAL | TEXT, b"whole");
    assert_eq!(reader.message_due(), None);
    peer.write_all(&message[..3]).await.unwrap();
    let reading = async {
        while reader.message_due().is_none() {
            let soon = std::time::Duration::from_millis(1);
            tokio::time::timeout(soon, reader.next()).await.ok();
        }
    };
    tokio::time::timeout(LATE, reading).await.unwrap();
    peer.write_all(&message[3..]).await.unwrap();
    assert_eq!(next(&mut reader).await, Ok(text("whole")));
    assert_eq!(reader.message_due(), None);
}

#[tokio::test]
async fn the_time_of_a_message_begins_with_its_own_first_byte() {
    let (mut reader, mut peer) = reader().await;
    let message = masked(FINAL | TEXT, b"0123456789");
    let half = message.len() / 2;
    peer.write_all(&message[..half]).await.unwrap();
    wait_until_read(&mut reader).await;
    let mut due = reader.message_due().unwrap();
    // Every part that arrives ends within a message.
    for _ in 0..3 {
        let part = [&message[half..], &message[..half]].concat();
        peer.write_all(&part).await.unwrap();
        assert_eq!(next(&mut reader).await, Ok(text("0123456789")));
        let later = reader.message_due().unwrap();
        assert!(later > due);
        due = later;
    }
    // A control frame between fragments is no message of its own.
    let mut part = message[half..].to_vec();
    part.extend(masked(TEXT, b"a"));
    peer.write_all(&part).await.unwrap();
    assert_eq!(next(&mut reader).await, Ok(text("0123456789")));
    let due = reader.message_due().unwrap();
    peer.write_all(&masked(FINAL | PONG, b"")).await.unwrap();
    assert_eq!(next(&mut reader).await, Ok(Received::Control));
    assert_eq!(reader.message_due(), Some(due));
}

/// Reads what has arrived, which is no whole message.
async fn wait_until_read(reader: &mut MessageReader) {
    while reader.message_due().is_none() {
        let reading = reader.next();
        tokio::pin!(reading);
        assert!(futures_util::poll!(&mut reading).is_pending());
        tokio::task::yield_now().await;
    }
}
