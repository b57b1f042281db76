use std::time::Duration;

use axum::body::to_bytes;

use super::*;

#[track_caller]
fn answer(error: ApiError) -> (u16, String) {
    let response = error.into_response();
    let status = response.status().as_u16();
    let body = futures_util::FutureExt::now_or_never(to_bytes(response.into_body(), 10_000))
        .expect("the body is ready at once")
        .expect("the body can be read");
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

#[test]
fn the_body_has_the_text_under_both_keys() {
    assert_eq!(
        answer(ApiError::UnknownDevice),
        (
            404,
            r#"{"error":"Device not found","error_message":"Device not found","error_code":"unknown_device"}"#
                .to_owned()
        )
    );
}

#[test]
fn causes_are_not_sent() {
    let source = ReadError::TimedOut(Duration::from_millis(7));
    let (status, body) = answer(ApiError::unavailable_with("Failed to fetch statistics")(
        source,
    ));
    assert_eq!(status, 503);
    assert!(
        body.contains(r#""error":"Failed to fetch statistics""#),
        "{body}"
    );
    assert!(!body.contains('7'), "{body}");
}

#[test]
fn refusals_for_lack_of_capacity_say_when_to_ask_again() {
    for error in [ApiError::Busy, ApiError::Full, ApiError::TooSlow] {
        let code = error.code();
        let response = error.into_response();
        assert!(response.headers().contains_key(RETRY_AFTER), "{code}");
    }
}

#[test]
fn every_error_has_its_status() {
    let unreadable = ApiError::Unreadable {
        problem: "`limit` is not a number".to_owned(),
    };
    assert_eq!(answer(unreadable).0, 400);
    assert_eq!(answer(ApiError::UnknownAlert).0, 404);
    assert_eq!(answer(ApiError::UnknownRoute).0, 404);
    assert_eq!(answer(ApiError::WrongMethod).0, 405);
    assert_eq!(answer(ApiError::RefusedOrigin).0, 403);
    assert_eq!(answer(ApiError::TooLarge).0, 413);
    assert_eq!(answer(ApiError::TooSlow).0, 503);
    assert_eq!(answer(ApiError::Bug).0, 500);
}
