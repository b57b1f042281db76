use test_support::eventually::LATE;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::*;
use crate::admission::connections::CallerPlace;
use crate::shared_stream::tests::tls_pair;

async fn places() -> ConnectionPlaces {
    let permits = std::sync::Arc::new(Semaphore::new(1));
    let permit = permits.acquire_owned().await.unwrap();
    ConnectionPlaces::new(permit, CallerPlace::uncounted())
}

/// The two ends of a connection.
pub(crate) async fn pair() -> (FrameWriter, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let stream = SharedStream::Plain(stream);
    (FrameWriter::new(stream, places().await, false), peer)
}

/// Sends until the kernel takes no more. Returns what was accepted.
fn fill(writer: &FrameWriter, frames: &Bytes, is_alarm: bool) -> Vec<u8> {
    let mut accepted = Vec::new();
    loop {
        match writer.send(frames, is_alarm) {
            Written::Whole => accepted.extend_from_slice(frames),
            Written::Begun => {
                accepted.extend_from_slice(frames);
                return accepted;
            }
            // The kernel was full exactly at the end of a frame.
            Written::Full => return accepted,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_accepted_arrives_whole_and_in_order() {
    let (writer, peer) = pair().await;
    check_order(&writer, peer).await;
}

#[tokio::test]
async fn over_tls_what_is_accepted_arrives_whole_and_in_order() {
    let (stream, peer) = tls_pair().await;
    check_order(&FrameWriter::new(stream, places().await, false), peer).await;
}

async fn check_order(writer: &FrameWriter, mut peer: impl AsyncRead + Unpin) {
    let frames: Bytes = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut expected = fill(writer, &frames, false);
    // Behind the rest, nothing but small frames is accepted.
    if writer.has_unsent() {
        assert_eq!(writer.send(&frames, false), Written::Full);
    }
    writer.send_behind(frame::PING);
    expected.extend_from_slice(&frame::PING);
    let mut received = vec![0; expected.len()];
    let sending = async {
        while writer.flush() {
            writer.writable().await;
        }
    };
    let (read, ()) = tokio::time::timeout(LATE, async {
        tokio::join!(peer.read_exact(&mut received), sending)
    })
    .await
    .unwrap();
    read.unwrap();
    assert!(received == expected);
    assert_eq!(writer.send(&frame::PING, false), Written::Whole);
}

#[tokio::test]
async fn the_wait_of_an_alarm_counts_from_the_moment_it_was_begun() {
    for (is_alarm, is_secure) in [(true, false), (false, false), (true, true), (false, true)] {
        let (_plain, _secure);
        let writer = if is_secure {
            let (stream, peer) = tls_pair().await;
            _secure = peer;
            FrameWriter::new(stream, places().await, false)
        } else {
            let (writer, peer) = pair().await;
            _plain = peer;
            writer
        };
        let frames = Bytes::from(vec![0; 100_003]);
        // Until one is begun: the kernel may be full exactly at the end of a frame.
        while !writer.has_unsent() {
            fill(&writer, &frames, is_alarm);
            writer.writable().await;
        }
        assert_eq!(writer.alarm_waits().is_some(), is_alarm);
    }
}

#[tokio::test]
async fn what_came_from_polling_has_a_deadline_like_an_alarm() {
    let (writer, _peer) = pair().await;
    assert_eq!(writer.alarm_waits(), None);
    let packet = Bytes::from(vec![0; 100_003]);
    while !writer.has_unsent() {
        writer.send_moved(packet.clone());
    }
    let waits = writer.alarm_waits().unwrap();
    writer.send_moved(packet);
    assert!(writer.alarm_waits().unwrap() >= waits);
}

#[tokio::test]
async fn nothing_follows_a_close_frame() {
    let (writer, mut peer) = pair().await;
    writer.send_close(1000);
    assert_eq!(writer.send(&frame::PING, false), Written::Closed);
    writer.send_behind(frame::PING);
    writer.shut_down();
    let mut received = Vec::new();
    tokio::time::timeout(LATE, peer.read_to_end(&mut received))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(received, *frame::close(1000));
}

#[tokio::test]
async fn shutting_down_wakes_a_reader() {
    let (writer, _peer) = pair().await;
    let read = tokio::join!(
        tokio::time::timeout(LATE, async {
            loop {
                writer.stream().readable().await.unwrap();
                match writer.stream().try_read(&mut [0]) {
                    // The stream may be reported as readable although it is not.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => break read,
                }
            }
        }),
        async { writer.shut_down() },
    );
    assert_eq!(read.0.unwrap().unwrap(), 0);
    assert_eq!(writer.send(&frame::PING, true), Written::Closed);
}

/// Reads what the peer has received by now, and nothing later.
async fn received(writer: &FrameWriter, peer: &mut TcpStream) -> Vec<u8> {
    let end = frame::text("end");
    writer.send_behind(end.clone());
    let mut all = Vec::new();
    while !all.ends_with(&end) {
        let read = tokio::time::timeout(LATE, peer.read_buf(&mut all));
        assert_ne!(read.await.unwrap().unwrap(), 0);
    }
    all.truncate(all.len() - end.len());
    all
}

const WINDOW: Duration = Duration::from_millis(10);

fn reading(number: usize) -> Bytes {
    frame::text(&number.to_string())
}

#[tokio::test]
async fn telemetry_is_held_until_the_end_of_the_window_unless_something_else_is_sent() {
    let (writer, mut peer) = pair().await;
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let send = |number, millis| writer.send_telemetry(&reading(number), at(millis), WINDOW);
    assert_eq!(send(1, 0), Written::Whole);
    assert_eq!(send(2, 4), Written::Held);
    assert_eq!(send(3, 9), Written::HeldBehind);
    assert!(!writer.has_unsent());
    let mut first = vec![0; reading(1).len()];
    peer.read_exact(&mut first).await.unwrap();
    assert_eq!(first, reading(1));
    let mut none = [0];
    let early = peer.try_read(&mut none).map_err(|error| error.kind());
    assert_eq!(early, Err(io::ErrorKind::WouldBlock));

    writer.release(at(10));
    assert!(!writer.has_unsent());
    assert_eq!(send(4, 15), Written::Held);
    assert_eq!(writer.send(&frame::text("alarm"), true), Written::Whole);
    assert_eq!(send(5, 25), Written::Whole);
    let expected = [
        reading(2),
        reading(3),
        reading(4),
        frame::text("alarm"),
        reading(5),
    ];
    assert_eq!(received(&writer, &mut peer).await, expected.concat());
}

#[tokio::test]
async fn without_a_window_nothing_is_held() {
    let (writer, _peer) = pair().await;
    let now = Instant::now();
    for number in 0..10 {
        let sent = writer.send_telemetry(&reading(number), now, Duration::ZERO);
        assert_eq!(sent, Written::Whole);
    }
}

#[tokio::test]
async fn what_is_held_is_bounded_in_bytes_and_in_number() {
    for (length, most) in [(1, HELD_BUFFERS), (5000, 3)] {
        let (writer, mut peer) = pair().await;
        let now = Instant::now();
        let frames: Vec<Bytes> = (0..=most + 1).map(|_| vec![b'x'; length].into()).collect();
        let sent: Vec<Written> = frames
            .iter()
            .map(|frame| writer.send_telemetry(frame, now, WINDOW))
            .collect();
        let held = sent
            .iter()
            .filter(|sent| **sent == Written::HeldBehind)
            .count();
        assert_eq!(
            (sent[1], held, sent[most + 1]),
            (Written::Held, most - 1, Written::Whole)
        );
        assert_eq!(received(&writer, &mut peer).await, frames.concat());
    }
}

#[tokio::test]
async fn what_was_held_while_the_kernel_is_full_arrives_in_order() {
    let (writer, mut peer) = pair().await;
    let large = Bytes::from(vec![b'x'; HELD_BYTES - 1]);
    let mut expected = Vec::new();
    // Held and released again and again, until the kernel takes no more.
    let now = Instant::now();
    for number in 0_usize.. {
        let frames = if number % 2 == 0 {
            &large
        } else {
            &reading(number)
        };
        match writer.send_telemetry(frames, now, WINDOW) {
            Written::Full => break,
            Written::Closed => panic!("the connection is open"),
            _ => expected.extend_from_slice(frames),
        }
        writer.release(now);
        if writer.has_unsent() {
            break;
        }
    }
    assert_eq!(writer.send(&large, true), Written::Full);
    let mut received = vec![0; expected.len()];
    let sending = async {
        while writer.flush() {
            writer.writable().await;
        }
    };
    tokio::time::timeout(LATE, async {
        tokio::join!(peer.read_exact(&mut received), sending)
    })
    .await
    .unwrap()
    .0
    .unwrap();
    assert!(received == expected);
}
