//! Whether a certificate is valid at a time.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};

use super::fault::iso;
use crate::clock::Time;

/// Returns what is wrong with this certificate at this time, to be read behind its name; `None` if it is valid then, or cannot be read.
///
/// The library reports it only while it verifies a certificate, and looks at the time before the issuer and the name. So the certificate is
/// verified as if it had issued itself, for some name, and whatever else is said does not count.
#[must_use]
pub fn time_problem(certificate: &CertificateDer<'static>, now: Time) -> Option<String> {
    let now = Duration::from_millis(now.as_millis().try_into().ok()?);
    let now = UnixTime::since_unix_epoch(now);
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).ok()?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let outcome = verifier.verify_server_cert(certificate, &[], &name, &[], now);
    let Err(Error::InvalidCertificate(error)) = outcome else {
        return None;
    };
    let at = |time| iso(time).map_or_else(String::new, |time| format!(" (at {time})"));
    match error {
        CertificateError::Expired => Some("has expired".to_owned()),
        CertificateError::ExpiredContext { not_after, .. } => {
            Some(format!("has expired{}", at(not_after)))
        }
        CertificateError::NotValidYet => Some("is not valid yet".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            Some(format!("is not valid yet{}", at(not_before)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
