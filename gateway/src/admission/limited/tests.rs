use super::*;

#[test]
fn whoever_waits_for_whole_seconds_has_waited_long_enough() {
    for (millis, seconds) in [
        (0, "1"),
        (1, "1"),
        (1_000, "1"),
        (1_001, "2"),
        (90_500, "91"),
    ] {
        let limited = Limited::new(Limit::RequestRate, Duration::from_millis(millis));
        assert_eq!(limited.retry_after(), seconds, "{millis}");
    }
}

#[test]
fn only_the_limit_of_all_is_not_the_fault_of_the_client() {
    for limit in Limit::ALL {
        let limited = Limited::new(limit, Duration::ZERO);
        let expected = if limit == Limit::HandshakeRate {
            503
        } else {
            429
        };
        assert_eq!(limited.status(), expected, "{limit:?}");
        let is_of_address = limited.to_string().contains("network address");
        assert!(!is_of_address || expected == 429, "{limited}");
    }
}
