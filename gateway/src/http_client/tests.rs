//! Answers of servers that do what they should not.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::server_url::ServerUrlError;
use super::*;

/// Answers one request with these bytes and closes the connection.
async fn ask(answer: &[u8]) -> Result<Bytes, HttpError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let url: ServerUrl = format!("http://{address}/keys?of=us")
        .parse()
        .expect("a URL");
    let serving = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).await.expect("a request");
        let head = String::from_utf8_lossy(&head[..length]).into_owned();
        assert!(head.starts_with("GET /keys?of=us HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
        // A client that has read enough closes the connection.
        stream.write_all(answer).await.ok();
    };
    let client = HttpClient::new();
    let (answer, ()) = tokio::join!(client.get(&url), serving);
    answer
}

#[tokio::test]
async fn an_answer_is_read_with_and_without_its_length() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ] {
        let body = ask(answer.as_bytes()).await.expect("an answer");
        assert_eq!(body, "{}", "{answer}");
    }
}

#[tokio::test]
async fn other_answers_are_errors() {
    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let error = ask(redirect.as_bytes()).await.expect_err("no redirect");
    assert!(
        matches!(error, HttpError::Status(StatusCode::FOUND)),
        "{error}"
    );
    let cut = ask(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}").await;
    assert!(
        matches!(cut, Err(HttpError::Truncated | HttpError::Protocol(_))),
        "{cut:?}"
    );
    let other = ask(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    assert!(matches!(other, Err(HttpError::Protocol(_))), "{other:?}");
    let mut long = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    long.extend(vec![b'x'; MAX_ANSWER]);
    assert_eq!(
        ask(&long).await.expect("just short enough").len(),
        MAX_ANSWER
    );
    long.push(b'x');
    let long = ask(&long).await;
    assert!(matches!(long, Err(HttpError::TooLong)), "{long:?}");
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error() {
    let url: ServerUrl = "http://127.0.0.1:1/".parse().expect("a URL");
    let answer = HttpClient::new().get(&url).await;
    assert!(
        matches!(answer, Err(HttpError::Unreachable(_))),
        "{answer:?}"
    );
}

#[test]
fn only_addresses_that_nobody_can_change_on_the_way_are_taken() {
    for good in [
        "https://login.example.com/keys",
        "https://login.example.com:8443/keys?tenant=1",
        "https://[2001:db8::1]/keys",
        "http://localhost:8080/keys",
        "http://127.0.0.1/keys",
        "http://[::1]:8080/keys",
    ] {
        let url: ServerUrl = good.parse().expect(good);
        assert_eq!(url.to_string(), good);
    }
    for bad in [
        "",
        "login.example.com/keys",
        "http://login.example.com/keys",
        "http://localhost.example.com/keys",
        "http://10.0.0.1/keys",
        "https://user@login.example.com/keys",
        "https://login.example.com/#keys",
        "file:///etc/passwd",
    ] {
        assert_eq!(bad.parse::<ServerUrl>(), Err(ServerUrlError), "{bad}");
    }
}
