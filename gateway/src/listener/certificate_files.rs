//! The files of the certificate of this service, and of its key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use shared::tls::{FileStamps, read_certificates, read_key};

const CERT_FILE: &str = "--tls-cert-file";
const KEY_FILE: &str = "--tls-key-file";

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
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
    pub(crate) fn read(&self) -> Result<ServerConfig, String> {
        let chain = read_certificates(CERT_FILE, &self.certificate)?;
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
        Ok(config)
    }

    pub(super) fn stamps(&self) -> FileStamps {
        FileStamps::of([self.certificate.as_path(), self.key.as_path()])
    }
}

#[cfg(test)]
mod tests;
