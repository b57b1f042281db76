use std::fs;

use shared::metrics::Meters;
use test_support::certificates::{Authority, Validity};

use super::*;
use crate::metrics::Metrics;

fn current(certificate: &ServerCertificate) -> Arc<ServerConfig> {
    Arc::clone(certificate.acceptor().config())
}

#[tokio::test]
async fn changed_files_are_read_again_and_broken_ones_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::make(folder.path(), "authority").unwrap();
    let issue = || {
        authority
            .issue("server", &["localhost"], Validity::Valid)
            .unwrap()
    };
    let issued = issue();
    let meters = Meters::local("test").unwrap();
    let metrics = Metrics::new(&meters);
    let files =
        CertificateFiles::from_settings(Some(&issued.certificate), Some(&issued.key)).unwrap();
    let certificate = ServerCertificate::open(files.unwrap(), Arc::clone(&metrics.tls)).unwrap();
    let mut seen = certificate.first_look.clone();
    let first = current(&certificate);
    certificate.look(&mut seen, SystemClock::local());
    assert!(Arc::ptr_eq(&first, &current(&certificate)));

    let key = fs::read(&issued.key).unwrap();
    fs::write(&issued.key, "broken").unwrap();
    certificate.look(&mut seen, SystemClock::local());
    assert!(Arc::ptr_eq(&first, &current(&certificate)));
    // Once per change, not once per look.
    certificate.look(&mut seen, SystemClock::local());
    let text = metrics.to_text();
    assert!(
        text.contains(r#"gateway_certificate_reloads_total{outcome="failed"} 1"#),
        "{text}"
    );
    fs::write(&issued.key, key).unwrap();
    issue();
    certificate.look(&mut seen, SystemClock::local());
    assert!(!Arc::ptr_eq(&first, &current(&certificate)));
    let text = metrics.to_text();
    assert!(
        text.contains(r#"gateway_certificate_reloads_total{outcome="done"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_now_replaces_none() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::make(folder.path(), "authority").unwrap();
    let issue = |validity| authority.issue("server", &["localhost"], validity).unwrap();
    let issued = issue(Validity::Valid);
    let meters = Meters::local("test").unwrap();
    let metrics = Metrics::new(&meters);
    let files =
        CertificateFiles::from_settings(Some(&issued.certificate), Some(&issued.key)).unwrap();
    let certificate = ServerCertificate::open(files.unwrap(), Arc::clone(&metrics.tls)).unwrap();
    let mut seen = certificate.first_look.clone();
    let first = current(&certificate);
    let [now, later] =
        ["2026-11-27T00:00:00Z", "2950-01-01T00:00:00Z"].map(|text| Time::from_iso(text).unwrap());
    let failed = |count: usize| {
        let line = format!(r#"gateway_certificate_reloads_total{{outcome="failed"}} {count}"#);
        let text = metrics.to_text();
        assert!(text.contains(&line), "{text}");
    };
    for (validity, count) in [(Validity::Expired, 1), (Validity::NotYet, 2)] {
        issue(validity);
        // It is looked at again and again, and told once.
        for _ in 0..3 {
            certificate.look(&mut seen, now);
            assert!(Arc::ptr_eq(&first, &current(&certificate)), "{validity:?}");
            failed(count);
        }
    }
    // Its time has come, or the clock was wrong.
    certificate.look(&mut seen, later);
    let second = current(&certificate);
    assert!(!Arc::ptr_eq(&first, &second));
    certificate.look(&mut seen, later);
    assert!(Arc::ptr_eq(&second, &current(&certificate)));
    failed(2);
}
