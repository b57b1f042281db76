use shared::clock::SystemClock;
use test_support::certificates::{Authority, Validity};

use super::*;

#[test]
fn both_files_are_needed_and_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::make(folder.path(), "authority").unwrap();
    let issue = |name| {
        authority
            .issue(name, &["localhost"], Validity::Valid)
            .unwrap()
    };
    let (one, other) = (issue("one"), issue("other"));
    for (certificate, key) in [(Some(&one.certificate), None), (None, Some(&one.key))] {
        let refused = CertificateFiles::from_settings(
            certificate.map(PathBuf::as_path),
            key.map(PathBuf::as_path),
        );
        assert!(refused.unwrap_err().contains("both are needed"));
    }
    assert!(
        CertificateFiles::from_settings(None, None)
            .unwrap()
            .is_none()
    );
    let mixed = CertificateFiles::from_settings(Some(&one.certificate), Some(&other.key));
    let problem = mixed
        .unwrap()
        .unwrap()
        .read(SystemClock::local())
        .unwrap_err();
    assert!(problem.starts_with("--tls-key-file: "), "{problem}");
    assert!(
        problem.contains("cannot be used with the certificate"),
        "{problem}"
    );
}
