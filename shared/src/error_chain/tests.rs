use super::*;

#[test]
fn an_error_is_formatted_with_its_causes_on_one_line() {
    let cause = std::io::Error::other("a reply that is none\r\nHTTP/1.1 400");
    let err = crate::redis::ConnectError::Unavailable(cause.into());
    assert_eq!(
        error_chain(&err),
        "redis is unavailable: a reply that is none  HTTP/1.1 400"
    );
}
