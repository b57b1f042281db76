//! The certificate of this service. It is read again when its files change; connections that are open keep the one they began with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use shared::tls::{FileStamps, read_certificates, read_key};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics::TlsMetrics;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
const CERT_FILE: &str = "--tls-cert-file";
const KEY_FILE: &str = "--tls-key-file";

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// The present certificate.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    files: CertificateFiles,
    metrics: Arc<TlsMetrics>,
    // A std mutex: held for one assignment.
    current: Mutex<Arc<ServerConfig>>,
    /// Of the files as they were before they were read at the start.
    first_stamps: FileStamps,
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

    fn stamps(&self) -> FileStamps {
        FileStamps::of([self.certificate.as_path(), self.key.as_path()])
    }
}

impl ServerCertificate {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be used.
    pub(crate) fn open(files: CertificateFiles, metrics: Arc<TlsMetrics>) -> Result<Self, String> {
        let first_stamps = files.stamps();
        let config = files.read()?;
        Ok(Self {
            files,
            metrics,
            current: Mutex::new(Arc::new(config)),
            first_stamps,
        })
    }

    /// Returns what the next connection is set up with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }

    pub(super) fn metrics(&self) -> &TlsMetrics {
        &self.metrics
    }

    /// Looks at the files until `finish`. Files that cannot be used are not: the certificate stays.
    pub(crate) async fn keep_current(
        self: Arc<Self>,
        finish: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut seen = self.first_stamps.clone();
        let looking = async {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                self.look(&mut seen);
            }
        };
        finish.run_until_cancelled(looking).await;
        Ok(())
    }

    fn look(&self, seen: &mut FileStamps) {
        // Before the files are read: what changes meanwhile is read again.
        let stamps = self.files.stamps();
        if stamps == *seen {
            return;
        }
        *seen = stamps;
        match self.files.read() {
            Ok(config) => {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                self.metrics.reloaded.increment();
                tracing::info!(
                    "the files of the certificate have changed: new connections get the new one"
                );
            }
            Err(problem) => {
                self.metrics.reload_failed.increment();
                tracing::error!(
                    problem,
                    "the changed files of the certificate cannot be used: new connections still get the old one"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
