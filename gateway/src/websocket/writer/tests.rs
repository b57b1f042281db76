use test_support::eventually::LATE;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;

/// The two ends of a connection.
pub(in crate::websocket) async fn pair() -> (FrameWriter, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let permits = std::sync::Arc::new(Semaphore::new(1));
    let permit = permits.acquire_owned().await.unwrap();
    (FrameWriter::new(stream, permit), peer)
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
            Written::Closed => panic!("the connection is open"),
        }
    }
}

#[tokio::test]
async fn what_is_accepted_arrives_whole_and_in_order() {
    let (writer, mut peer) = pair().await;
    let frames: Bytes = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut expected = fill(&writer, &frames, false);
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
    for is_alarm in [true, false] {
        let (writer, _peer) = pair().await;
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
async fn nothing_follows_a_close_frame() {
    let (writer, mut peer) = pair().await;
    writer.send_close(1000);
    assert_eq!(writer.send(&frame::PING, false), Written::Closed);
    assert!(!writer.send_behind(frame::PING));
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
