use futures_util::FutureExt;
use test_support::eventually::LATE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn pair() -> (Killable, TcpStream) {
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let places = Arc::new(Semaphore::new(1));
    let place = places.acquire_owned().await.unwrap();
    (Killable::new(stream, Place::taken(place)), peer)
}

#[tokio::test]
async fn killed_connection_ends_a_waiting_read() {
    let (mut stream, _peer) = pair().await;
    let link = Arc::clone(&stream.link);
    let read = tokio::join!(
        tokio::time::timeout(LATE, async { stream.read(&mut [0; 8]).await }),
        async { link.kill() },
    );
    assert_eq!(read.0.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn killed_connection_fails_a_write_that_a_stalled_reader_holds_up() {
    let (mut stream, _peer) = pair().await;
    let link = Arc::clone(&stream.link);
    let bytes = vec![0; 64 * 1024];
    // Nobody reads: in the end the peer's window is closed, and a write has to wait.
    let error = loop {
        let mut write = std::pin::pin!(stream.write_all(&bytes));
        if let Some(written) = write.as_mut().now_or_never() {
            written.unwrap();
            continue;
        }
        link.kill();
        let written = tokio::time::timeout(LATE, write).await;
        break written.unwrap().unwrap_err();
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn silence_ends_with_what_the_peer_sends() {
    let (mut stream, mut peer) = pair().await;
    let link = Arc::clone(&stream.link);
    tokio::time::timeout(LATE, async {
        while link.silence() < Duration::from_millis(20) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    let sent = Instant::now();
    peer.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    // However late this is looked at: the silence began after the peer sent something.
    let silence = link.silence();
    // The last read is known to the millisecond.
    assert!(silence <= sent.elapsed() + Duration::from_millis(1));
}
