use std::fs;

use tempfile::TempDir;
use test_support::certificates::{Authority, CertificateFiles, Validity};

use super::*;

const SETTINGS: TlsSettings = TlsSettings {
    ca_file: "--ca",
    cert_file: "--cert",
    key_file: "--key",
    address: "--url",
    tls_scheme: "s://",
    plain_scheme: "p://",
};

struct Files {
    folder: TempDir,
    authority: Authority,
    client: CertificateFiles,
}

impl Files {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::make(folder.path(), "authority").unwrap();
        let client = authority
            .issue("client", &["client"], Validity::Valid)
            .unwrap();
        Self {
            folder,
            authority,
            client,
        }
    }

    fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn all(&self) -> TlsFiles {
        TlsFiles {
            authorities: Some(self.authority.file()),
            certificate: Some(self.client.certificate.clone()),
            key: Some(self.client.key.clone()),
        }
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_flag_and_its_fault() {
    let files = Files::make();
    let missing = files.folder.path().join("missing");
    let empty = files.write("empty", "");
    let pem = fs::read_to_string(&files.client.certificate).unwrap();
    let cut = files.write("cut", &pem[..pem.len() / 2]);
    let garbled = files.write("garbled", &pem.replacen("MII", "!!!", 1));
    // Taken apart, as no file of the repository may look like a key.
    let [begin, end] =
        ["BEGIN", "END"].map(|word| format!("-----{word} ENCRYPTED PRIVATE KEY-----"));
    let encrypted = files.write("encrypted", &format!("{begin}\nAAAA\n{end}\n"));
    let other = files
        .authority
        .issue("other", &["other"], Validity::Valid)
        .unwrap();
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut all = files.all();
        change(&mut all);
        all
    };
    for (given, flag, fault) in [
        (
            with(&|all| all.authorities = Some(missing.clone())),
            "--ca",
            "cannot read `",
        ),
        (
            with(&|all| all.authorities = Some(empty.clone())),
            "--ca",
            "has no certificate",
        ),
        (
            with(&|all| all.authorities = Some(cut.clone())),
            "--ca",
            "is cut off",
        ),
        (
            with(&|all| all.authorities = Some(garbled.clone())),
            "--ca",
            "is not base64",
        ),
        (
            with(&|all| all.certificate = Some(missing.clone())),
            "--cert",
            "cannot read `",
        ),
        (
            with(&|all| all.certificate = Some(files.client.key.clone())),
            "--cert",
            "has no certificate",
        ),
        (
            with(&|all| all.key = Some(missing.clone())),
            "--key",
            "cannot read `",
        ),
        (
            with(&|all| all.key = Some(empty.clone())),
            "--key",
            "has no private key",
        ),
        (
            with(&|all| all.key = Some(encrypted.clone())),
            "--key",
            "is encrypted",
        ),
        (
            with(&|all| all.key = Some(other.key.clone())),
            "--key",
            "cannot be used with the certificate",
        ),
        (
            with(&|all| all.key = None),
            "--cert",
            "both are needed, or neither",
        ),
        (
            with(&|all| all.certificate = None),
            "--cert",
            "both are needed, or neither",
        ),
    ] {
        let problems = given.problems(&SETTINGS, true);
        let [problem] = &problems[..] else {
            panic!("{fault}: {problems:?}")
        };
        assert!(problem.starts_with(flag), "{fault}: {problem}");
        assert!(problem.contains(fault), "{fault}: {problem}");
    }
    assert_eq!(files.all().problems(&SETTINGS, true), [""; 0]);
    assert_eq!(TlsFiles::default().problems(&SETTINGS, true), [""; 0]);
}

#[test]
fn files_without_tls_are_a_mistake() {
    let files = Files::make();
    let problems = files.all().problems(&SETTINGS, false);
    assert_eq!(problems, ["--ca: needs s:// in --url"]);
    assert_eq!(TlsFiles::default().problems(&SETTINGS, false), [""; 0]);
}

#[test]
fn changed_files_are_read_again_and_broken_ones_are_not_used() {
    let files = Files::make();
    let tls = ClientTls::new(files.all(), &SETTINGS);
    let first = tls.config().unwrap();
    assert!(Arc::ptr_eq(&first, &tls.config().unwrap()));
    fs::write(&files.client.key, "broken").unwrap();
    assert!(Arc::ptr_eq(&first, &tls.config().unwrap()));
    files
        .authority
        .issue("client", &["client"], Validity::Valid)
        .unwrap();
    let second = tls.config().unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    fs::remove_file(files.authority.file()).unwrap();
    assert!(Arc::ptr_eq(&second, &tls.config().unwrap()));
    let never = ClientTls::new(files.all(), &SETTINGS);
    assert!(never.config().unwrap_err().starts_with("--ca: cannot read"));
}
