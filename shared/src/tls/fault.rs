//! What is wrong when TLS fails, and what an operator can do.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::client::ClientTls;

/// Why one side refuses the other. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The server does not speak TLS.
    PlainServer,
    /// The issuer of the server's certificate is not trusted.
    UnknownIssuer,
    /// The certificate of the server has expired, at this time if it is known.
    Expired(Option<String>),
    /// The certificate of the server is not valid yet.
    NotYetValid,
    /// The certificate of the server is for other names.
    WrongName(Vec<String>),
    /// The certificate of the server has another fault.
    BadCertificate(String),
    /// The server requires a certificate of this client.
    CertificateRequired,
    /// The server does not accept the certificate of this client.
    CertificateRefused(String),
    /// The two sides agree on no version or cipher, or break the protocol.
    NoAgreement(String),
}

impl TlsFault {
    /// Returns the fault behind an error of a connection; `None` if it may be a mere loss of the connection.
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<Error>() {
            return Self::of_tls(error);
        }
        if let Some(error) = error.downcast_ref::<io::Error>()
            && let Some(inner) = error.get_ref()
        {
            let inner: &(dyn StdError + 'static) = inner;
            return Self::of(inner);
        }
        // The redis crate shares its causes.
        if let Some(error) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
            return Self::of(&**error);
        }
        error.source().and_then(Self::of)
    }

    fn of_tls(error: &Error) -> Option<Self> {
        Some(match error {
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::PlainServer,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::AlertReceived(alert) => Self::of_alert(*alert)?,
            error => Self::NoAgreement(error.to_string()),
        })
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(iso(*not_after)),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName => Self::WrongName(Vec::new()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName(presented.iter().map(|name| plain_name(name)).collect())
            }
            other => Self::BadCertificate(other.to_string()),
        }
    }

    fn of_alert(alert: AlertDescription) -> Option<Self> {
        Some(match alert {
            // The server ends, or has a problem of its own.
            AlertDescription::CloseNotify
            | AlertDescription::UserCanceled
            | AlertDescription::InternalError => return None,
            AlertDescription::CertificateRequired => Self::CertificateRequired,
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Self::CertificateRefused(format!("{alert:?}")),
            other => Self::NoAgreement(format!("the server sends the alert {other:?}")),
        })
    }

    /// Returns the fault in words that may be shown to anybody.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::PlainServer => "TLS: the server does not speak it",
            Self::UnknownIssuer => "TLS: the certificate of the server is from an unknown issuer",
            Self::Expired(_) => "TLS: the certificate of the server has expired",
            Self::NotYetValid => "TLS: the certificate of the server is not valid yet",
            Self::WrongName(_) => "TLS: the certificate of the server is for another name",
            Self::BadCertificate(_) => "TLS: the certificate of the server cannot be used",
            Self::CertificateRequired => "TLS: the server requires a client certificate",
            Self::CertificateRefused(_) => "TLS: the server does not accept our client certificate",
            Self::NoAgreement(_) => "TLS: no agreement with the server",
        }
    }

    /// Describes the fault for the operator, with the settings to look at. `host` is that of the address.
    #[must_use]
    pub fn describe(&self, tls: &ClientTls, host: &str) -> String {
        let names = tls.settings();
        let (ca, certificate, key) = (names.ca_file, names.cert_file, names.key_file);
        match self {
            Self::PlainServer => format!(
                "the server does not speak TLS at this port: give its TLS port, or {} in {}",
                names.plain_scheme, names.address
            ),
            Self::UnknownIssuer if tls.has_own_authorities() => format!(
                "the certificate of the server is from an unknown issuer: it is not from an authority in {ca}"
            ),
            Self::UnknownIssuer => format!(
                "the certificate of the server is from an unknown issuer: give the certificate of its authority in {ca}"
            ),
            Self::Expired(at) => {
                let at = at
                    .as_deref()
                    .map_or_else(String::new, |at| format!(" at {at}"));
                format!(
                    "the certificate of the server has expired{at}: renew it, and check the clock of this machine"
                )
            }
            Self::NotYetValid => {
                "the certificate of the server is not valid yet: check the clock of this machine"
                    .to_owned()
            }
            Self::WrongName(presented) => {
                let but = if presented.is_empty() {
                    String::new()
                } else {
                    format!(", but for {}", presented.join(", "))
                };
                format!(
                    "the certificate of the server is not for `{host}`{but}: give a name in {} that the certificate has",
                    names.address
                )
            }
            Self::BadCertificate(why) => {
                format!("the certificate of the server cannot be used: {why}")
            }
            Self::CertificateRequired => {
                format!("the server requires a client certificate: give {certificate} and {key}")
            }
            Self::CertificateRefused(_) if !tls.has_certificate() => {
                format!(
                    "the server refuses us without a client certificate: give {certificate} and {key}"
                )
            }
            Self::CertificateRefused(alert) => {
                format!(
                    "the server does not accept the client certificate in {certificate} ({alert})"
                )
            }
            Self::NoAgreement(why) if !tls.has_certificate() => format!(
                "no agreement on TLS: {why}; if the server requires a client certificate, give {certificate} and {key}"
            ),
            Self::NoAgreement(why) => format!("no agreement on TLS: {why}"),
        }
    }
}

pub(super) fn iso(time: UnixTime) -> Option<String> {
    let seconds = i64::try_from(time.as_secs()).ok()?;
    Some(Timestamp::from_second(seconds).ok()?.to_string())
}

/// Returns the name in `DnsName("name")`.
fn plain_name(presented: &str) -> String {
    let name = presented.strip_prefix("DnsName(\"");
    let name = name.and_then(|rest| rest.strip_suffix("\")"));
    name.unwrap_or(presented).to_owned()
}
