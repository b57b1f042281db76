//! The files of the certificate of this service, and of its key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use shared::clock::Time;
use shared::tls::{FileStamps, read_certificates, read_key, time_problem};

const CERT_FILE: &str = "--tls-cert-file";
const KEY_FILE: &str = "--tls-key-file";

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// What the files have.
#[derive(Debug)]
pub(crate) struct ReadCertificate {
    pub(super) config: ServerConfig,
    /// Why clients refuse it at this time.
    pub(crate) time_problem: Option<String>,
}

impl CertificateFiles {
    /// Takes both files or none.
    ///
    /// # Errors
    /// Only one is given.
    pub(crate) fn from_settings(
        certificate: Option<&Path>,
        key: Option<&Path>,
    ) -> Result<Option<Self>, String> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Self {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            })),
            (None, None) => Ok(None),
            _ => Err(format!(
                "{CERT_FILE} and {KEY_FILE}: both are needed, or neither"
            )),
        }
    }

    /// Reads both.
    ///
    /// # Errors
    /// One cannot be read, or they do not belong together.
    pub(crate) fn read(&self, now: Time) -> Result<ReadCertificate, String> {
        let chain = read_certificates(CERT_FILE, &self.certificate)?;
        // Of the others, some are served although they have expired, for old clients.
        let problem = chain.first().and_then(|own| time_problem(own, now));
        let shown = self.certificate.display();
        let time_problem =
            problem.map(|problem| format!("{CERT_FILE}: the certificate in `{shown}` {problem}"));
        let key = read_key(KEY_FILE, &self.key)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|err| format!("cannot set up TLS: {err}"))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|err| {
                let (key, certificate) = (self.key.display(), self.certificate.display());
                format!(
                    "{KEY_FILE}: `{key}` cannot be used with the certificate in `{certificate}`: {err}"
                )
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(ReadCertificate {
            config,
            time_problem,
        })
    }

    pub(super) fn stamps(&self) -> FileStamps {
        FileStamps::of([self.certificate.as_path(), self.key.as_path()])
    }
}

#[cfg(test)]
mod tests;
