//! Reads certificates and keys from PEM files. An error names the flag, the file, and what is wrong with it.

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Reads all certificates of a file, in their order. `flag` names the setting that gave the path.
///
/// # Errors
/// The file cannot be read, is not PEM, or has no certificate.
pub fn read_certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(flag, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates =
        certificates.map_err(|err| format!("{flag}: `{}` {}", path.display(), reason(&err)))?;
    if certificates.is_empty() {
        return Err(format!(
            "{flag}: `{}` has no certificate: expected PEM, with a line of `BEGIN CERTIFICATE`",
            path.display()
        ));
    }
    Ok(certificates)
}

/// Reads the first private key of a file: PKCS#8, PKCS#1 or SEC1, not encrypted. `flag` names the setting that gave the path.
///
/// # Errors
/// The file cannot be read, is not PEM, has no key, or its key is encrypted.
pub fn read_key(flag: &str, path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(flag, path)?;
    let shown = path.display();
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|err| match err {
        PemError::NoItemsFound if is_encrypted(&bytes) => {
            format!("{flag}: the key in `{shown}` is encrypted: store it without a passphrase")
        }
        PemError::NoItemsFound => format!(
            "{flag}: `{shown}` has no private key: expected PEM, with a line of `BEGIN PRIVATE KEY`"
        ),
        err => format!("{flag}: `{shown}` {}", reason(&err)),
    })
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|err| format!("{flag}: cannot read `{}`: {err}", path.display()))
}

fn reason(err: &PemError) -> String {
    match err {
        PemError::MissingSectionEnd { .. } => "is cut off: a part has no END line".to_owned(),
        PemError::IllegalSectionStart { .. } => "has a BEGIN line that cannot be read".to_owned(),
        PemError::Base64Decode(_) => "has a part that is not base64".to_owned(),
        err => format!("cannot be read: {err}"),
    }
}

fn is_encrypted(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains("ENCRYPTED")
}
