use test_support::certificates::{Authority, Validity};

use super::*;
use crate::tls::read_certificates;

#[test]
fn a_certificate_is_valid_between_two_times() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::make(folder.path(), "authority").unwrap();
    let certificate = |validity| {
        let issued = authority.issue("server", &["gas.test"], validity).unwrap();
        let mut chain = read_certificates("--tls-cert-file", &issued.certificate).unwrap();
        chain.remove(0)
    };
    let at = |text: &str| Time::from_iso(text).unwrap();
    for (validity, now, expected) in [
        (Validity::Valid, "2026-11-27T00:00:00Z", None),
        (
            Validity::Expired,
            "2026-11-27T00:00:00Z",
            Some("has expired (at 2001-02-03T00:00:00Z)"),
        ),
        (Validity::Expired, "2001-02-02T00:00:00Z", None),
        (
            Validity::NotYet,
            "2026-11-27T00:00:00Z",
            Some("is not valid yet (at 2900-01-01T00:00:00Z)"),
        ),
        (Validity::NotYet, "2950-01-01T00:00:00Z", None),
    ] {
        let problem = time_problem(&certificate(validity), at(now));
        assert_eq!(problem.as_deref(), expected, "{validity:?} {now}");
    }
}
