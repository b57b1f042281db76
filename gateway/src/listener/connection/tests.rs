use std::sync::Arc;

use futures_util::FutureExt;
use test_support::eventually::LATE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

pub(in crate::listener) async fn pair() -> (AbortableStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let permits = Arc::new(Semaphore::new(1));
    let permit = permits.acquire_owned().await.unwrap();
    let permit = ConnectionPermit {
        permit,
        kind: PermitKind::Regular,
        of_address: CallerPlace::uncounted(),
    };
    (AbortableStream::new(stream, LOCAL, permit), peer)
}

#[tokio::test]
async fn aborting_a_connection_ends_a_waiting_read() {
    let (mut stream, _peer) = pair().await;
    let handle = Arc::clone(stream.handle());
    let read = tokio::join!(
        tokio::time::timeout(LATE, async { stream.read(&mut [0; 8]).await }),
        async { handle.abort() },
    );
    assert_eq!(read.0.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn aborting_a_connection_fails_a_write_that_waits_for_a_stalled_reader() {
    let (mut stream, _peer) = pair().await;
    let handle = Arc::clone(stream.handle());
    let bytes = vec![0; 64 * 1024];
    // Nobody reads, so in the end the peer's window is closed and a write has to wait.
    let error = loop {
        let mut write = std::pin::pin!(stream.write_all(&bytes));
        if let Some(written) = write.as_mut().now_or_never() {
            written.unwrap();
            continue;
        }
        handle.abort();
        let written = tokio::time::timeout(LATE, write).await;
        break written.unwrap().unwrap_err();
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_the_connection() {
    let (mut stream, _peer) = pair().await;
    let handle = Arc::clone(stream.handle());
    let bytes = vec![0; 64 * 1024];
    handle.begin_answer(AnswerPace {
        time: Duration::from_millis(50),
        rate: 1,
    });
    let written = tokio::time::timeout(LATE, async {
        loop {
            if let Err(error) = stream.write_all(&bytes).await {
                break error;
            }
        }
    })
    .await;
    assert_eq!(written.unwrap().kind(), io::ErrorKind::TimedOut);
    assert!(handle.is_aborted());
}
