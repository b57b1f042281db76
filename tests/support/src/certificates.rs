//! An authority and the certificates that it issues, as files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Valid,
    Expired,
    NotYet,
}

impl Authority {
    /// Makes an authority whose files are in this folder: `NAME.pem`, and those of the certificates that it issues.
    pub fn make(folder: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        fs::write(folder.join(format!("{name}.pem")), certificate.pem())
            .context("writing the authority")?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            folder: folder.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Returns the file with its certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// Issues a certificate for these names and addresses, which a server or a client may use. Writes `NAME.crt` and `NAME.key`, or
    /// replaces both.
    pub fn issue(
        &self,
        name: &str,
        subjects: &[&str],
        validity: Validity,
    ) -> Result<CertificateFiles> {
        let subjects: Vec<String> = subjects.iter().map(|&subject| subject.to_owned()).collect();
        let mut params = CertificateParams::new(subjects)?;
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = match validity {
            Validity::Valid => (date_time_ymd(2000, 1, 1), date_time_ymd(3000, 1, 1)),
            Validity::Expired => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 2, 3)),
            Validity::NotYet => (date_time_ymd(2900, 1, 1), date_time_ymd(3000, 1, 1)),
        };
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let files = CertificateFiles {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        // Whoever looks in between finds a certificate and a key that do not belong together.
        replace(&files.certificate, &certificate.pem())?;
        replace(&files.key, &key.serialize_pem())?;
        Ok(files)
    }
}

/// Writes a file so that a reader sees the old contents or the new ones.
fn replace(path: &Path, contents: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, contents).with_context(|| format!("writing `{}`", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("replacing `{}`", path.display()))
}
