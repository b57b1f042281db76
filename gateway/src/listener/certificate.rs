//! The certificate of this service. It is read again when its files change; connections that are open keep the one they began with.
//!
//! A new one must be valid at the time: whoever replaces a certificate by an expired one, or by one for next month, would shut out every
//! client. At a start there is no better one, so it is served, and the start says so.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use shared::clock::{SystemClock, Time};
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
    first_look: Look,
}

/// What was seen when the files were looked at last.
#[derive(Clone, Debug)]
struct Look {
    /// Of the files before they were read.
    stamps: FileStamps,
    /// They cannot be used at this time, so they are read again although they have not changed.
    waits: bool,
}

impl ServerCertificate {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be used.
    pub(crate) fn open(files: CertificateFiles, metrics: Arc<TlsMetrics>) -> Result<Self, String> {
        let first_stamps = files.stamps();
        // A wrong time is among the warnings of the start.
        let read = files.read(SystemClock::local())?;
        Ok(Self {
            files,
            metrics,
            current: Mutex::new(Arc::new(read.config)),
            first_look: Look {
                stamps: first_stamps,
                waits: false,
            },
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
        let mut seen = self.first_look.clone();
        let looking = async {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                self.look(&mut seen, SystemClock::local());
            }
        };
        finish.run_until_cancelled(looking).await;
        Ok(())
    }

    fn look(&self, seen: &mut Look, now: Time) {
        // Before the files are read: what changes meanwhile is read again.
        let stamps = self.files.stamps();
        let have_changed = stamps != seen.stamps;
        if !have_changed && !seen.waits {
            return;
        }
        let read = self.files.read(now);
        let is_too_early_or_late = read.as_ref().is_ok_and(|read| read.time_problem.is_some());
        *seen = Look {
            stamps,
            waits: is_too_early_or_late,
        };
        let usable = read.and_then(|read| match read.time_problem {
            None => Ok(read.config),
            Some(problem) => Err(problem),
        });
        match usable {
            Ok(config) => {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                self.metrics.reloaded.increment();
                tracing::info!(
                    "the files of the certificate have changed: new connections get the new one"
                );
            }
            // Once per change.
            Err(_) if !have_changed => {}
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
