use axum::body::Body;
use futures_util::stream;

use super::*;

fn chunks(chunks: Vec<Result<&'static str, std::io::Error>>) -> Body {
    Body::from_stream(stream::iter(chunks))
}

#[tokio::test]
async fn a_body_is_read_up_to_its_bound() {
    let read = read(chunks(vec![Ok("ab"), Ok("cd")]), 4).await;
    assert_eq!(read.expect("complete"), "abcd");
    let long = super::read(chunks(vec![Ok("ab"), Ok("cde")]), 4).await;
    assert!(matches!(long, Err(ApiError::TooLarge)), "{long:?}");
    let broken = Err(std::io::ErrorKind::ConnectionReset.into());
    let broken = super::read(chunks(vec![Ok("ab"), broken]), 4).await;
    assert!(
        matches!(broken, Err(ApiError::Unreadable { .. })),
        "{broken:?}"
    );
}

#[tokio::test]
async fn a_body_that_does_not_end_is_given_up() {
    let endless = Body::from_stream(stream::pending::<Result<&str, std::io::Error>>());
    let late = read_within(endless, 4, Duration::from_millis(10)).await;
    assert!(matches!(late, Err(ApiError::SlowBody)), "{late:?}");
}
