use super::*;

#[test]
fn an_error_is_formatted_with_its_causes_on_one_line() {
    let cause = std::io::Error::other("a reply that is none\r\nHTTP/1.1 400");
    let away = crate::redis::ConnectError::Away(cause.into());
    assert_eq!(
        error_chain(&away),
        "redis is away: a reply that is none  HTTP/1.1 400"
    );
}
