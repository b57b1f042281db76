//! Requests to servers that the operator has named: an identity provider, and where it publishes its keys. They are rare, so each has
//! a connection of its own. Redirects are not followed, and everything that such a server can send is bounded.

pub(crate) mod server_url;
mod tls;

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::form_urlencoded;

use self::server_url::ServerUrl;
use self::tls::Tls;

/// How long a request may take in all.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Who asks. Some providers refuse requests that do not say it.
const AGENT: &str = concat!("gateway/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("it cannot be reached")]
    Unreachable(#[source] io::Error),
    #[error(
        "https needs certificate authorities, and the system has none (install `ca-certificates`)"
    )]
    NoAuthorities,
    #[error("it did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("it does not speak HTTP as expected")]
    Protocol(#[from] hyper::Error),
    #[error("its answer is longer than {} KiB", MAX_ANSWER / 1024)]
    TooLong,
    #[error("the rest of its answer is missing")]
    Truncated,
    #[error("the request cannot be written")]
    Request(#[from] axum::http::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
}

/// What a server has answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Sends requests.
pub(crate) struct HttpClient {
    tls: Tls,
}

impl HttpClient {
    /// Reads the certificate authorities of the system.
    pub(crate) fn new() -> Self {
        Self { tls: Tls::new() }
    }

    /// Returns a document.
    ///
    /// # Errors
    /// The server cannot be reached, or answers with anything but 200.
    pub(crate) async fn get(&self, url: &ServerUrl) -> Result<Bytes, HttpError> {
        let request = head(Method::GET, url).body(Full::default())?;
        let answer = self.send(url, request).await?;
        if answer.status == StatusCode::OK {
            Ok(answer.body)
        } else {
            Err(HttpError::Status(answer.status))
        }
    }

    /// Sends the fields of a form. `authorization`: the value of that header.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(crate) async fn post_form(
        &self,
        url: &ServerUrl,
        fields: &[(&str, &str)],
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, HttpError> {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let mut request =
            head(Method::POST, url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(form))?;
        self.send(url, request).await
    }

    async fn send(
        &self,
        url: &ServerUrl,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, HttpError> {
        let answer = timeout(TIMEOUT, async {
            let stream = TcpStream::connect(url.address()).await;
            let stream = stream.map_err(HttpError::Unreachable)?;
            if url.uses_tls() {
                let stream = self.tls.connect(url, stream).await?;
                exchange(stream, request).await
            } else {
                exchange(stream, request).await
            }
        });
        answer.await.unwrap_or(Err(HttpError::TimedOut))
    }
}

fn head(method: Method, url: &ServerUrl) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(url.path_and_query())
        .header(HOST, url.host_header())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close")
}

/// Sends a request and reads the answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, HttpError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut answer = pin!(async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => HttpError::TooLong,
            Err(_) => HttpError::Truncated,
        })?;
        Ok(Answer {
            status: head.status,
            body: body.to_bytes(),
        })
    });
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = connection => {
            ended?;
            // What the connection has received is read from its buffer.
            answer.await
        }
    }
}

#[cfg(test)]
mod tests;
