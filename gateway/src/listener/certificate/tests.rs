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
    let mut seen = certificate.first_stamps.clone();
    let first = current(&certificate);
    certificate.look(&mut seen);
    assert!(Arc::ptr_eq(&first, &current(&certificate)));

    let key = fs::read(&issued.key).unwrap();
    fs::write(&issued.key, "broken").unwrap();
    certificate.look(&mut seen);
    assert!(Arc::ptr_eq(&first, &current(&certificate)));
    // Once per change, not once per look.
    certificate.look(&mut seen);
    let text = metrics.to_text();
    assert!(
        text.contains(r#"gateway_certificate_reloads_total{outcome="failed"} 1"#),
        "{text}"
    );
    fs::write(&issued.key, key).unwrap();
    issue();
    certificate.look(&mut seen);
    assert!(!Arc::ptr_eq(&first, &current(&certificate)));
    let text = metrics.to_text();
    assert!(
        text.contains(r#"gateway_certificate_reloads_total{outcome="done"} 1"#),
        "{text}"
    );
}
