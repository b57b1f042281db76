//! The certificate of this service. It is read again when its files change; connections that are open keep the one they began with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use shared::tls::FileStamps;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::certificate_files::CertificateFiles;
use crate::metrics::TlsMetrics;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

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
