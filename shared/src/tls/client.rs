//! Whom a client trusts, and with which certificate it shows who it is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use super::file_stamp::FileStamps;
use super::pem::{read_certificates, read_key};

/// The names of the settings of one kind of connection, for errors.
#[derive(Debug)]
pub struct TlsSettings {
    /// The flag of the file of authorities.
    pub ca_file: &'static str,
    /// The flag of the file with the certificate of this client.
    pub cert_file: &'static str,
    /// The flag of the file with its key.
    pub key_file: &'static str,
    /// The flag of the address.
    pub address: &'static str,
    /// How the address begins with TLS.
    pub tls_scheme: &'static str,
    /// How it begins without.
    pub plain_scheme: &'static str,
}

/// The files for TLS to one server. Each may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that are trusted, instead of those of the system.
    pub authorities: Option<PathBuf>,
    /// The certificate of this client, and those that lead from it to an authority.
    pub certificate: Option<PathBuf>,
    /// The key of the certificate.
    pub key: Option<PathBuf>,
}

/// TLS to one server. Files that were changed are read again for the next connection.
#[derive(Debug)]
pub struct ClientTls {
    files: TlsFiles,
    settings: &'static TlsSettings,
    // A std mutex: held while files are read, never across an await.
    loaded: Mutex<Option<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    stamps: FileStamps,
    config: Arc<ClientConfig>,
}

impl TlsFiles {
    /// Returns all problems of these files, one sentence each.
    #[must_use]
    pub fn problems(&self, settings: &TlsSettings, uses_tls: bool) -> Vec<String> {
        let TlsSettings {
            ca_file,
            cert_file,
            key_file,
            ..
        } = settings;
        let given = [
            (*ca_file, &self.authorities),
            (*cert_file, &self.certificate),
            (*key_file, &self.key),
        ];
        if !uses_tls && let Some((flag, _)) = given.iter().find(|(_, path)| path.is_some()) {
            let (address, scheme) = (settings.address, settings.tls_scheme);
            return vec![format!("{flag}: needs {scheme} in {address}")];
        }
        if self.certificate.is_some() != self.key.is_some() {
            return vec![format!(
                "{cert_file} and {key_file}: both are needed, or neither"
            )];
        }
        self.own_config(settings).err().into_iter().collect()
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.authorities, &self.certificate, &self.key];
        all.into_iter().filter_map(Option::as_deref)
    }

    /// Reads the given files. Without a file of authorities, nobody is trusted.
    fn own_config(&self, settings: &TlsSettings) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.authorities {
            for certificate in read_certificates(settings.ca_file, path)? {
                roots.add(certificate).map_err(|err| {
                    format!(
                        "{}: `{}` has a certificate that is none of an authority, or cannot be read: {err}",
                        settings.ca_file,
                        path.display()
                    )
                })?;
            }
        }
        self.config_trusting(roots, settings)
    }

    fn config_trusting(
        &self,
        roots: RootCertStore,
        settings: &TlsSettings,
    ) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|err| format!("cannot set up TLS: {err}"))?
            .with_root_certificates(roots);
        let (Some(certificate), Some(key_path)) = (&self.certificate, &self.key) else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = read_certificates(settings.cert_file, certificate)?;
        let key = read_key(settings.key_file, key_path)?;
        builder.with_client_auth_cert(chain, key).map_err(|err| {
            format!(
                "{}: `{}` cannot be used with the certificate in `{}`: {err}",
                settings.key_file,
                key_path.display(),
                certificate.display()
            )
        })
    }
}

impl ClientTls {
    /// Nothing is read before the first connection.
    #[must_use]
    pub fn new(files: TlsFiles, settings: &'static TlsSettings) -> Self {
        Self {
            files,
            settings,
            loaded: Mutex::default(),
        }
    }

    /// Returns the names of the settings.
    #[must_use]
    pub fn settings(&self) -> &'static TlsSettings {
        self.settings
    }

    /// Returns whether a file of authorities is given.
    #[must_use]
    pub fn has_own_authorities(&self) -> bool {
        self.files.authorities.is_some()
    }

    /// Returns whether a certificate of this client is given.
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        self.files.certificate.is_some()
    }

    /// Returns the configuration for the next connection. Files that cannot be used any more are not: the last ones that could are.
    ///
    /// # Errors
    /// The files cannot be used and never could, or the system has no authorities.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files are read: what changes meanwhile is read again.
        let stamps = FileStamps::of(self.files.paths());
        if let Some(loaded) = &*loaded
            && loaded.stamps == stamps
        {
            return Ok(Arc::clone(&loaded.config));
        }
        match (self.load(), &mut *loaded) {
            (Ok(config), loaded) => {
                let config = Arc::new(config);
                *loaded = Some(Loaded {
                    stamps,
                    config: Arc::clone(&config),
                });
                Ok(config)
            }
            (Err(problem), Some(loaded)) => {
                tracing::error!(
                    problem,
                    "a new file for TLS cannot be used: keeping the old one"
                );
                // Until it is changed again.
                loaded.stamps = stamps;
                Ok(Arc::clone(&loaded.config))
            }
            (Err(problem), None) => Err(problem),
        }
    }

    fn load(&self) -> Result<ClientConfig, String> {
        if self.files.authorities.is_some() {
            return self.files.own_config(self.settings);
        }
        let roots = system_authorities(self.settings)?;
        self.files.config_trusting(roots, self.settings)
    }
}

/// Returns the authorities of the system, or of the file in the variable `SSL_CERT_FILE`.
fn system_authorities(settings: &TlsSettings) -> Result<RootCertStore, String> {
    let native = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added > 0 {
        return Ok(roots);
    }
    let cause = native.errors.first();
    let cause = cause.map_or_else(String::new, |err| format!(" ({err})"));
    Err(format!(
        "{} needs certificate authorities, and the system has none{cause}: install `ca-certificates`, or give {} or the \
         variable SSL_CERT_FILE",
        settings.tls_scheme, settings.ca_file
    ))
}

#[cfg(test)]
mod tests;
