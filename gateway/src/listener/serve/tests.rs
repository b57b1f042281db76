//! What a peer sees of one connection, and when a WebSocket takes it over.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::to_bytes;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::response::IntoResponse as _;
use test_support::eventually::LATE;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::super::connection::tests::pair;
use super::*;

const WEBSOCKET: &str =
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const PLAIN: &str = "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n";

/// The answers of a small service: it echoes a body, and accepts or refuses a WebSocket.
async fn answer(request: Request<Body>, taken: mpsc::Sender<TakenConnection>) -> Response<Body> {
    if request.headers().get(UPGRADE).is_none() {
        let body = to_bytes(request.into_body(), 1000).await.unwrap();
        return [b"echo ".as_slice(), &body].concat().into_response();
    }
    if request.uri().path() == "/refused" {
        return (StatusCode::FORBIDDEN, "no").into_response();
    }
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(UPGRADE, "websocket".parse().unwrap());
    headers.insert(CONNECTION, "Upgrade".parse().unwrap());
    let take_over = TakeOver::new(move |connection| taken.try_send(connection).unwrap());
    response.extensions_mut().insert(take_over);
    response
}

/// Serves a connection while `client` uses it. Returns what that returns, and how many requests were answered.
async fn with_peer<T>(
    client: impl AsyncFnOnce(TcpStream, mpsc::Receiver<TakenConnection>) -> T,
) -> (T, usize) {
    let (stream, peer) = pair().await;
    let (sender, receiver) = mpsc::channel(1);
    let requests = AtomicUsize::new(0);
    let serving = serve(
        stream,
        Preamble::default(),
        CancellationToken::new(),
        |uri| uri.path() != "/plain",
        |request| {
            requests.fetch_add(1, Ordering::Relaxed);
            answer(request, sender.clone())
        },
    );
    let used = tokio::join!(serving, timeout(LATE, client(peer, receiver)));
    (used.1.expect("in time"), requests.into_inner())
}

/// Reads until the peer has received this text.
async fn read_until(peer: &mut TcpStream, end: &str) -> String {
    let mut received = Vec::new();
    while !received.ends_with(end.as_bytes()) {
        let read = peer.read_buf(&mut received).await.unwrap();
        let text = String::from_utf8_lossy(&received);
        assert_ne!(read, 0, "the end came instead of {end:?}: {text}");
    }
    String::from_utf8(received).unwrap()
}

/// Sends one byte after the other.
async fn trickle(peer: &mut TcpStream, text: &str) {
    for byte in text.bytes() {
        peer.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_websocket_takes_the_connection_with_what_came_behind_its_request() {
    let (received, requests) = with_peer(async |mut peer, mut taken| {
        let bytes = format!("{WEBSOCKET}behind");
        peer.write_all(bytes.as_bytes()).await.unwrap();
        let head = read_until(&mut peer, "\r\n\r\n").await;
        assert_eq!(
            head,
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n"
        );
        let taken = taken.recv().await.unwrap();
        assert_eq!(taken.stream.try_write(b"hello").unwrap(), 5);
        read_until(&mut peer, "hello").await;
        taken.received
    })
    .await;
    assert_eq!((received.as_slice(), requests), (b"behind".as_slice(), 1));
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_read() {
    with_peer(async |mut peer, mut taken| {
        trickle(&mut peer, WEBSOCKET).await;
        read_until(&mut peer, "\r\n\r\n").await;
        assert_eq!(taken.recv().await.unwrap().received, b"");
    })
    .await;
    with_peer(async |mut peer, _| {
        trickle(&mut peer, PLAIN).await;
        read_until(&mut peer, "echo ").await;
    })
    .await;
}

#[tokio::test]
async fn a_later_request_may_ask_for_a_websocket() {
    let ((), requests) = with_peer(async |mut peer, mut taken| {
        let body = "POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
        for (request, end) in [(PLAIN, "echo "), (body, "echo body")] {
            peer.write_all(request.as_bytes()).await.unwrap();
            read_until(&mut peer, end).await;
        }
        let bytes = format!("{WEBSOCKET}behind");
        peer.write_all(bytes.as_bytes()).await.unwrap();
        let head = read_until(&mut peer, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let mut taken = taken.recv().await.unwrap();
        while taken.received.len() < "behind".len() {
            taken.stream.readable().await.unwrap();
            let mut buffer = [0; 10];
            // The stream may be reported as readable although it is not.
            if let Ok(read) = taken.stream.try_read(&mut buffer) {
                taken.received.extend_from_slice(&buffer[..read]);
            }
        }
        assert_eq!(taken.received, b"behind");
        assert_eq!(taken.stream.try_write(b"hello").unwrap(), 5);
        read_until(&mut peer, "hello").await;
    })
    .await;
    assert_eq!(requests, 3);
}

#[tokio::test]
async fn a_refused_websocket_is_answered_once_and_the_connection_goes_on() {
    let ((), requests) = with_peer(async |mut peer, mut taken| {
        let refused = WEBSOCKET.replace("/ws", "/refused");
        let bytes = format!("{refused}{PLAIN}");
        peer.write_all(bytes.as_bytes()).await.unwrap();
        let received = read_until(&mut peer, "echo ").await;
        assert!(received.starts_with("HTTP/1.1 403 "), "{received}");
        assert!(received.contains("\r\ndate: "), "{received}");
        assert!(received.contains("\r\n\r\nnoHTTP/1.1 200 "), "{received}");
        peer.shutdown().await.unwrap();
        assert!(taken.try_recv().is_err());
    })
    .await;
    assert_eq!(requests, 2);
}

#[tokio::test]
async fn a_head_that_cannot_be_used_is_answered_as_hyper_does() {
    let long = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(MAX_BUFFER));
    for (bytes, status) in [
        ("nonsense\r\n\r\n", "HTTP/1.1 400 "),
        ("\x16\x03\x01\x02", "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\nno colon\r\n", "HTTP/1.1 400 "),
        (&long, "HTTP/1.1 431 "),
    ] {
        let ((), requests) = with_peer(async |mut peer, _| {
            peer.write_all(bytes.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // What was not read makes the kernel report a reset behind the answer.
            peer.read_to_end(&mut answer).await.ok();
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with(status), "{bytes:.20}: {answer}");
        })
        .await;
        assert_eq!(requests, 0);
    }
}

#[tokio::test]
async fn the_end_before_a_request_ends_the_connection() {
    for bytes in ["", "GET / HT"] {
        let ((), requests) = with_peer(async |mut peer, _| {
            peer.write_all(bytes.as_bytes()).await.unwrap();
            peer.shutdown().await.unwrap();
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"");
        })
        .await;
        assert_eq!(requests, 0);
    }
}

#[tokio::test]
async fn aborting_the_connection_ends_a_request_that_is_half_sent() {
    let (stream, mut peer) = pair().await;
    let handle = Arc::clone(stream.handle());
    let serving = serve(
        stream,
        Preamble::default(),
        CancellationToken::new(),
        |_| true,
        async |_| Response::new(Body::empty()),
    );
    let using = async {
        peer.write_all(b"GET / HT").await.unwrap();
        handle.abort();
        peer.read_to_end(&mut Vec::new()).await.ok();
    };
    timeout(LATE, async { tokio::join!(serving, using) })
        .await
        .unwrap();
    assert!(!handle.has_request());
}
